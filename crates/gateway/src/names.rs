//! The sponsors and groups that policies name, and who that is by now.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use policy::Said;
use register::{PolicyName, Renamed, State};
use vocab::{Handle, SponsorId};

use crate::plane::{Plane, Snapshot};

/// What is wrong with a name that the policies in force say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameFault {
    /// Nobody has it, or had it when the policies came into force.
    Unknown,
    /// Who is meant is called otherwise now, or is gone; they are meant yet.
    Renamed,
    /// Somebody got it who is not who is meant, as far as can be told. No permit is theirs by it, and
    /// every forbid is.
    Taken,
}

impl NameFault {
    /// Every fault.
    pub const ALL: [Self; 3] = [Self::Unknown, Self::Renamed, Self::Taken];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Renamed => "renamed",
            Self::Taken => "taken",
        }
    }
}

/// A name that the policies in force say, and something is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultyName {
    /// `sponsor` or `group`.
    pub what: &'static str,
    /// What is wrong.
    pub fault: NameFault,
    /// Whom it is about, if anybody.
    pub handle: Option<Handle>,
    /// The name.
    pub name: String,
    /// What they are called now, if they are there.
    pub now: Option<String>,
    /// The policies that say it.
    pub policies: Vec<String>,
}

/// What was found when the register had this size, and this was in force.
#[derive(Debug)]
pub(crate) struct Found {
    size: u64,
    snapshot: Arc<Snapshot>,
    names: Arc<[FaultyName]>,
}

/// Somebody who may be meant by a name.
struct Candidate<'a> {
    handle: &'a Handle,
    now: Option<&'a str>,
    read: PolicyName<'a>,
}

impl Plane {
    /// The policies in force that hold calls until people approve them, by id.
    pub fn holding_policies(&self) -> Vec<String> {
        let snapshot = self.active.load_full();
        snapshot.engine.holding().map(str::to_owned).collect()
    }

    /// What is wrong with the sponsors and groups that the policies in force name. Found anew only
    /// when the register or the policies changed: it holds the register up.
    pub fn faulty_names(&self) -> Arc<[FaultyName]> {
        // Others who ask wait for it, and do not go through the register too.
        let mut found = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.active.load_full();
        let size = self.control.view(State::size);
        if let Some(found) = found.as_ref()
            && found.size == size
            && Arc::ptr_eq(&found.snapshot, &snapshot)
        {
            return Arc::clone(&found.names);
        }
        let (size, names) = self
            .control
            .view(|state| (state.size(), faulty(state, &snapshot)));
        *found = Some(Found {
            size,
            snapshot,
            names: Arc::clone(&names),
        });
        names
    }
}

fn faulty(state: &State, snapshot: &Snapshot) -> Arc<[FaultyName]> {
    let Some(since) = snapshot.since else {
        return Arc::default();
    };
    let mut faulty = sponsors(state, snapshot, since);
    faulty.extend(groups(state, snapshot, since));
    faulty.sort_unstable();
    faulty.into()
}

fn sponsors(state: &State, snapshot: &Snapshot, since: u64) -> Vec<FaultyName> {
    let engine = &snapshot.engine;
    let said = engine.sponsors_said();
    if said.is_empty() {
        return Vec::new();
    }
    let renamed = state.renamed_sponsors();
    said.into_iter()
        .flat_map(|(name, said)| {
            let id = name.parse::<SponsorId>().ok();
            let bearer = id.and_then(|id| state.sponsor_by_id(&id));
            let were = called(&renamed, name).filter_map(|it| state.sponsor(&it.handle));
            let all: BTreeMap<_, _> = bearer
                .into_iter()
                .chain(were)
                .map(|it| (&it.handle, it))
                .collect();
            let candidates = all.into_values().map(|it| Candidate {
                handle: &it.handle,
                now: it.id().map(SponsorId::as_str),
                read: state.sponsor_in_policy(it, since, |other| {
                    other == name || engine.says_sponsor(other)
                }),
            });
            faults(("sponsor", name), &said, candidates, &renamed)
        })
        .collect()
}

fn groups(state: &State, snapshot: &Snapshot, since: u64) -> Vec<FaultyName> {
    let engine = &snapshot.engine;
    let said = engine.groups_said();
    if said.is_empty() {
        return Vec::new();
    }
    let renamed = state.renamed_groups();
    said.into_iter()
        .flat_map(|(name, said)| {
            let bearer = state.groups().find(|it| it.name() == Some(name));
            let were = called(&renamed, name).filter_map(|it| state.group(&it.handle));
            let all: BTreeMap<_, _> = bearer
                .into_iter()
                .chain(were)
                .map(|it| (&it.handle, it))
                .collect();
            let candidates = all.into_values().map(|it| Candidate {
                handle: &it.handle,
                now: it.name(),
                read: state
                    .group_in_policy(it, since, |other| other == name || engine.says_group(other)),
            });
            faults(("group", name), &said, candidates, &renamed)
        })
        .collect()
}

/// Those who were called so.
fn called<'a>(renamed: &'a [Renamed], name: &'a str) -> impl Iterator<Item = &'a Renamed> {
    renamed
        .iter()
        .filter(move |it| it.then.as_deref() == Some(name))
}

fn faults<'a>(
    (what, name): (&'static str, &str),
    said: &Said<'_>,
    candidates: impl Iterator<Item = Candidate<'a>>,
    renamed: &[Renamed],
) -> Vec<FaultyName> {
    let fault = |fault, handle: Option<&Handle>, now: Option<&str>| FaultyName {
        what,
        fault,
        handle: handle.cloned(),
        name: name.to_owned(),
        now: now.map(str::to_owned),
        policies: said.policies.iter().map(|&id| id.to_owned()).collect(),
    };
    let (mut faulty, mut meant, mut seen) = (Vec::new(), false, Vec::new());
    for it in candidates {
        seen.push(it.handle.clone());
        if it.read.means == Some(name) {
            meant = true;
            if it.now != Some(name) {
                faulty.push(fault(NameFault::Renamed, Some(it.handle), it.now));
            }
        } else if it.read.perhaps.contains(&name) {
            meant = true;
            faulty.push(fault(NameFault::Taken, Some(it.handle), it.now));
        }
    }
    // Groups can be gone.
    for it in called(renamed, name).filter(|it| !seen.contains(&it.handle)) {
        meant = true;
        faulty.push(fault(NameFault::Renamed, Some(&it.handle), None));
    }
    if !meant && said.for_certain {
        faulty.push(fault(NameFault::Unknown, None, None));
    }
    faulty
}
