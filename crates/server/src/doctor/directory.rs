//! What the directory says, how it gets in, and what follows.

use directory::scim::people;
use register::State;

use super::Finding;
use crate::node::Shared;
use crate::output::count;

/// The table of reactions that is in force, and the directory's own part.
pub(super) fn findings(shared: &Shared) -> Vec<Finding> {
    let table: Vec<String> = shared
        .config
        .reactions
        .all()
        .into_iter()
        .map(|(cause, reaction)| format!("{cause}: {}", reaction.as_str()))
        .collect();
    let mut found = vec![Finding::ok("reactions", table.join(", "))];
    let (tokens, linked) = shared.plane.control().view(|state| {
        let tokens = state.directory_tokens().count();
        (tokens, spoken_for(state))
    });
    found.push(match tokens {
        0 => Finding::ok(
            "directory",
            "no directory provisions sponsors here; administrators add them, and stop them",
        ),
        1 => Finding::ok(
            "directory",
            format!(
                "a directory provisions sponsors: it speaks for {}",
                count(linked, "sponsor", "sponsors")
            ),
        ),
        several => Finding::warn(
            "directory",
            format!("{several} tokens of the directory are good at once"),
            "when the new one is in use, take the others away: `tipstaff scim list`, then \
             `tipstaff scim token --revoke ID`",
        ),
    });
    for receiver in shared.signals.values() {
        let (name, heard) = (receiver.name(), receiver.heard());
        let told = format!("`{name}`: {} taken, {} refused", heard.taken, heard.refused);
        found.push(match heard.last {
            Some(last) => {
                let last = vocab::Time::from_secs(last);
                Finding::ok("signals", format!("{told}, the last at {last}"))
            }
            None => Finding::warn(
                "signals",
                format!("{told} since the start"),
                "ask the transmitter for a verification event, which shows that the stream works",
            ),
        });
    }
    found
}

fn spoken_for(state: &State) -> usize {
    let linked = |sponsor: &&std::sync::Arc<register::Sponsor>| {
        let person = sponsor.person();
        sponsor.provisioned && person.is_some_and(|person| !people::is_deleted(person))
    };
    state.sponsors().iter().filter(|it| linked(it)).count()
}
