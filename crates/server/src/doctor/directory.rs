//! What the directory says, how it gets in, and what follows.

use directory::scim::people;
use register::State;

use super::Finding;
use crate::asking::Directory;
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
    found.extend(shared.directory.as_deref().map(|it| asked(shared, it)));
    for receiver in shared.signals.values() {
        let (name, heard) = (receiver.name(), receiver.heard());
        let told = format!("`{name}`: {} taken, {} refused", heard.taken, heard.refused);
        if heard.about_nobody > 0 {
            found.push(Finding::warn(
                "signals",
                format!(
                    "`{name}`: {} about nobody who is known here, so nothing followed",
                    count(heard.about_nobody, "event was", "events were")
                ),
                "see what the transmitter calls people (`subjects`, `subject_issuer`), and that \
                 their sponsors have that external id: `tipstaff sponsor link`",
            ));
        }
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

/// How asking the directory goes, and whom its silence stopped.
fn asked(shared: &Shared, directory: &Directory) -> Finding {
    let (url, heard) = (directory.url(), directory.heard());
    let held = shared.plane.control().view(|state| {
        let silenced = |by: &Option<register::Signal>| {
            by.as_ref()
                .is_some_and(|by| by.source.as_str() == "poll" && by.event.as_str() == "stale")
        };
        let held = state.sponsors().into_iter();
        let held = held.filter(|sponsor| sponsor.holds.iter().any(silenced));
        held.map(|sponsor| format!("`{}`", state.sponsor_name(&sponsor.handle)))
            .collect::<Vec<_>>()
    });
    let why = heard.why.as_deref().unwrap_or("it was not asked yet");
    let since = heard.well_at.map_or_else(
        || "since the start".to_owned(),
        |at| format!("the last answer was at {at}"),
    );
    let advice = "see to the directory, and to `url` and `token` in [directory]; \
                  `stale = \"ignore\"` there stops nobody for its silence";
    if !held.is_empty() {
        let told = format!(
            "{url} does not answer ({since}): {why}; SUSPENDED for its silence: {}",
            held.join(", ")
        );
        return Finding::fail("directory", told, advice);
    }
    match (heard.silent, heard.well_at) {
        (0, Some(at)) => Finding::ok("directory", format!("{url} is asked; it answered at {at}")),
        (0, None) => Finding::ok("directory", format!("{url} is asked; no answer yet")),
        (silent, _) => {
            let told = format!(
                "{url} does not answer about {} ({since}): {why}",
                count(silent, "sponsor", "sponsors")
            );
            let then = directory.fresh().map_or_else(
                || "nobody is stopped for that".to_owned(),
                |fresh| format!("who is not heard of for {} s is suspended", fresh.as_secs()),
            );
            Finding::warn("directory", told, format!("{then}; {advice}"))
        }
    }
}

fn spoken_for(state: &State) -> usize {
    let linked = |sponsor: &&std::sync::Arc<register::Sponsor>| {
        let person = sponsor.person();
        sponsor.provisioned && person.is_some_and(|person| !people::is_deleted(person))
    };
    state.sponsors().iter().filter(|it| linked(it)).count()
}
