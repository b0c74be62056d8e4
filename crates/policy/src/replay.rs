//! Running a recorded decision again.

use crate::decision::{Decision, Effect, Stage, Verdict};
use crate::engine::Engine;
use crate::facts::Facts;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// The same effect, at the same stage, by the same policies, with the same masks, to the same
    /// upstream.
    Same,
    /// Something else: what is decided now.
    Different(Verdict),
    /// A denial that rests on arguments, which were not kept. Nothing speaks against it.
    Bounded,
}

/// Decides `facts` again and compares with what was `recorded`.
///
/// `engine` is to be built from what the decision was made by: see [`Engine::digest`]. The words of
/// the reason are not compared: they may be put better by a later version, and those that were said
/// are in the record.
pub fn replay(facts: &Facts, engine: &Engine, recorded: &Verdict) -> Replay {
    compare(engine.decide(facts).verdict(), recorded)
}

/// [`replay`] of a denial whose arguments were not kept. What is refused whatever the arguments are
/// is decided again; the rest is bounded.
pub fn replay_without_arguments(facts: &Facts, engine: &Engine, recorded: &Verdict) -> Replay {
    if let Err(denial) = engine.before_arguments(facts, false) {
        return compare(Decision::Denial(denial).verdict(), recorded);
    }
    let rests_on_arguments = match recorded.stage {
        None
        | Some(
            Stage::Standing
            | Stage::Limit
            | Stage::ToolsNotRead
            | Stage::UnknownTool
            | Stage::Quarantined,
        ) => false,
        // What is handed on may be a part of the arguments.
        Some(Stage::Authority) => facts.instance.handed_on().next().is_some(),
        // A policy that cannot be evaluated shows only once the arguments are found good.
        Some(
            Stage::PolicyUnavailable
            | Stage::Schema
            | Stage::Canonical
            | Stage::Policy
            | Stage::Error
            | Stage::Approval,
        ) => true,
    };
    // Where it goes is decided on the arguments, and so is what is refused there.
    let rests_on_arguments = rests_on_arguments || recorded.routed_to.is_some();
    if recorded.effect != Effect::Allow && rests_on_arguments {
        return Replay::Bounded;
    }
    Replay::Different(engine.decide(facts).verdict())
}

fn compare(now: Verdict, recorded: &Verdict) -> Replay {
    let same = now.effect == recorded.effect
        && now.stage == recorded.stage
        && now.policies == recorded.policies
        && now.observed == recorded.observed
        && now.masks == recorded.masks
        && now.routed_to == recorded.routed_to;
    if same {
        Replay::Same
    } else {
        Replay::Different(now)
    }
}
