//! Running a recorded decision again.

use crate::decision::Verdict;
use crate::engine::Engine;
use crate::facts::Facts;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// The same effect, at the same stage, by the same policies.
    Same,
    /// Something else: what is decided now.
    Different(Verdict),
}

/// Decides `facts` again and compares with what was `recorded`.
///
/// `engine` is to be built from what the decision was made by: see [`Engine::digest`]. The words of
/// the reason are not compared: they may be put better by a later version, and those that were said
/// are in the record.
pub fn replay(facts: &Facts, engine: &Engine, recorded: &Verdict) -> Replay {
    let now = engine.decide(facts).verdict();
    let same = now.effect == recorded.effect
        && now.stage == recorded.stage
        && now.policies == recorded.policies
        && now.observed == recorded.observed;
    if same {
        Replay::Same
    } else {
        Replay::Different(now)
    }
}
