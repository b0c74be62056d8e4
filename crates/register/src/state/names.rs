//! What policies call sponsors and groups by.
//!
//! Policies say names, and a directory may change who has one. What a set means by a name is
//! settled by the order of the entries: whoever had it when the set was activated, or was the first
//! to be added with it since. So of each sponsor and group that was renamed or removed it is kept
//! what they were called then, by where that lies sealed: for the set in force, and for the one
//! before, by which calls are still decided while the next takes its place.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use vocab::id::{Handle, SponsorId};

use super::State;
use crate::nouns::{Beside, Group, Identity, Known, Sponsor};
use crate::text::GroupProfile;

/// What a sponsor or group was called, up to an entry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Was {
    /// The index of the entry that ended it.
    pub(crate) until: u64,
    pub(crate) beside: Beside,
    pub(crate) name: Known<String>,
}

impl fmt::Debug for Was {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Was({}, [personal])", self.until)
    }
}

/// A sponsor or group that was changed, or removed, since the activation before the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Past {
    /// The index of the entry that added them.
    pub(crate) record: u64,
    /// The handle of the key that seals what they are called.
    pub(crate) key: Handle,
    /// At most one for each of the two activations.
    pub(crate) was: Vec<Was>,
}

impl Past {
    /// The name at the activation of the entry `since`, or the first one after it. `None`: as now.
    fn then(&self, since: u64) -> Option<&Known<String>> {
        let was = self.was.iter().find(|was| was.until > since);
        was.map(|was| &was.name)
    }
}

/// Who was called otherwise, by handle.
pub(crate) type Pasts = BTreeMap<Handle, Past>;

/// What a policy set means somebody or something by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyName<'a> {
    /// By this, if by any name.
    pub means: Option<&'a str>,
    /// They have these, or had them first since, and the set means somebody else by them or nobody
    /// can tell. Whoever decides does not know better either, so what is denied by any reading is
    /// denied.
    pub perhaps: Vec<&'a str>,
}

/// A sponsor or a group who is not called what they were when the set in force was activated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// Who.
    pub handle: Handle,
    /// What they were called; none if that is erased.
    pub then: Option<String>,
    /// What they are called; none if they are gone, or that is erased.
    pub now: Option<String>,
}

/// Somebody or something that has a name.
struct Bearer<'a> {
    handle: &'a Handle,
    record: u64,
    now: Option<&'a str>,
}

impl State {
    pub(crate) fn sponsor_key(&self, handle: &Handle) -> Option<Handle> {
        self.sponsor(handle).map(|sponsor| sponsor.key.clone())
    }

    pub(crate) fn group_key(&self, handle: &Handle) -> Option<Handle> {
        self.group(handle).map(|group| group.key.clone())
    }

    /// The sponsor whose name a key seals.
    pub(crate) fn sponsor_of_key(&self, key: &Handle) -> Option<&Arc<Sponsor>> {
        self.sponsors.values().find(|sponsor| sponsor.key == *key)
    }

    /// What a set that the entry `since` activated means a sponsor by. `says` tells whether it says
    /// a name.
    pub fn sponsor_in_policy<'a>(
        &'a self,
        sponsor: &'a Sponsor,
        since: u64,
        says: impl Fn(&str) -> bool,
    ) -> PolicyName<'a> {
        let bearer = Bearer {
            handle: &sponsor.handle,
            record: sponsor.record,
            now: sponsor.id().map(SponsorId::as_str),
        };
        self.in_policy(&self.sponsor_pasts, &bearer, since, says)
    }

    /// The same, of a group.
    pub fn group_in_policy<'a>(
        &'a self,
        group: &'a Group,
        since: u64,
        says: impl Fn(&str) -> bool,
    ) -> PolicyName<'a> {
        let bearer = Bearer {
            handle: &group.handle,
            record: group.record,
            now: group.name(),
        };
        self.in_policy(&self.group_pasts, &bearer, since, says)
    }

    /// Whom a set that the entry `since` activated means by the id of a sponsor; none if nobody can
    /// tell.
    pub(crate) fn sponsor_meant(&self, name: &str, since: u64) -> Option<Handle> {
        let now = name.parse().ok();
        let now = now.and_then(|id| self.sponsor_by_id(&id));
        let then = self.sponsor_pasts.keys();
        let then = then.filter_map(|handle| self.sponsors.get(handle));
        let mut meant = now.into_iter().chain(then).filter(|sponsor| {
            let read = self.sponsor_in_policy(sponsor, since, |said| said == name);
            read.means == Some(name)
        });
        meant.next().map(|sponsor| sponsor.handle.clone())
    }

    /// The same, by the name of a group.
    pub(crate) fn group_meant(&self, name: &str, since: u64) -> Option<Handle> {
        let mut meant = self.groups.values().filter(|group| {
            let read = self.group_in_policy(group, since, |said| said == name);
            read.means == Some(name)
        });
        meant.next().map(|group| group.handle.clone())
    }

    fn in_policy<'a>(
        &self,
        pasts: &'a Pasts,
        bearer: &Bearer<'a>,
        since: u64,
        says: impl Fn(&str) -> bool,
    ) -> PolicyName<'a> {
        let past = pasts.get(bearer.handle).and_then(|past| past.then(since));
        let then = match past {
            Some(then) => named(then),
            None => bearer.now,
        };
        let says = |name: &&str| says(name);
        let (said, now) = (then.filter(says), bearer.now.filter(says));
        let theirs = said.filter(|name| self.owns(pasts, bearer, name, since));
        let means = match (theirs, now) {
            (Some(name), _) => Some(name),
            (None, Some(_)) => None,
            (None, None) => bearer.now,
        };
        let mut perhaps: Vec<&str> = Vec::new();
        for name in [said, now].into_iter().flatten() {
            if Some(name) != means && !perhaps.contains(&name) {
                perhaps.push(name);
            }
        }
        PolicyName { means, perhaps }
    }

    /// Whether the set means the bearer by the name that they had then.
    fn owns(&self, pasts: &Pasts, bearer: &Bearer<'_>, name: &str, since: u64) -> bool {
        // At the activation no two had the same.
        if bearer.record < since {
            return true;
        }
        // Somebody whose name is erased may have been who the set means.
        let lost = self.names_lost_after(since);
        let before = |past: &Past| {
            past.record < bearer.record && past.then(since).and_then(named) == Some(name)
        };
        !lost && !pasts.values().any(before)
    }

    /// The sponsors who are not called what they were when the set in force was activated.
    pub fn renamed_sponsors(&self) -> Vec<Renamed> {
        let now = |handle: &Handle| self.sponsor(handle)?.id().map(SponsorId::as_str);
        self.renamed(&self.sponsor_pasts, now)
    }

    /// The groups that are not called what they were, or are gone.
    pub fn renamed_groups(&self) -> Vec<Renamed> {
        let now = |handle: &Handle| self.group(handle)?.name();
        self.renamed(&self.group_pasts, now)
    }

    fn renamed<'a>(
        &'a self,
        pasts: &'a Pasts,
        now: impl Fn(&Handle) -> Option<&'a str>,
    ) -> Vec<Renamed> {
        let Some(since) = self.policy().map(|policy| policy.record) else {
            return Vec::new();
        };
        let one = |(handle, past): (&Handle, &'a Past)| {
            let (then, now) = (named(past.then(since)?), now(handle));
            (then != now).then(|| Renamed {
                handle: handle.clone(),
                then: then.map(str::to_owned),
                now: now.map(str::to_owned),
            })
        };
        pasts.iter().filter_map(one).collect()
    }

    /// Whether activating the set in force again would mean other people by its names.
    pub(crate) fn names_changed(&self) -> bool {
        let since = self.policy().map(|policy| policy.record);
        let lost = since.is_some_and(|since| self.names_lost_after(since));
        lost || !self.renamed_sponsors().is_empty() || !self.renamed_groups().is_empty()
    }

    /// Keeps what a sponsor was called until this entry, if that was so at the activation.
    pub(super) fn keep_sponsor_name(&mut self, sponsor: &Sponsor) {
        let was = Was {
            until: self.size,
            beside: sponsor.beside,
            name: id_of(&sponsor.identity),
        };
        let since = self.policy().map(|policy| policy.record);
        let past = (sponsor.record, &sponsor.key);
        keep(&mut self.sponsor_pasts, &sponsor.handle, past, was, since);
    }

    /// The same, of a group.
    pub(super) fn keep_group_name(&mut self, group: &Group) {
        let was = Was {
            until: self.size,
            beside: group.beside,
            name: name_of(&group.profile),
        };
        let since = self.policy().map(|policy| policy.record);
        let past = (group.record, &group.key);
        keep(&mut self.group_pasts, &group.handle, past, was, since);
    }

    /// Lets go of what only mattered to sets before the one that is in force until this entry.
    pub(super) fn settle_names(&mut self) {
        let since = self.policy().map(|policy| policy.record);
        for pasts in [&mut self.sponsor_pasts, &mut self.group_pasts] {
            pasts.retain(|_, past| {
                past.was
                    .retain(|was| since.is_some_and(|since| was.until > since));
                !past.was.is_empty()
            });
        }
    }

    /// Takes note of names that cannot be read though nothing on record says that they are gone, as
    /// with a keyring put back from an older backup. Since when they are is not known, so whoever was
    /// added at any time may have the name of one of them.
    pub(crate) fn lose_unread_names(&mut self) {
        let sponsors = self.sponsors.values();
        let sponsors = sponsors.map(|it| (&it.key, it.identity.unknown()));
        let groups = self.groups.values();
        let groups = groups.map(|it| (&it.key, it.profile.unknown()));
        let pasts = self.sponsor_pasts.values().chain(self.group_pasts.values());
        let pasts = pasts.flat_map(|past| past.was.iter().map(|was| (&past.key, &was.name)));
        let pasts = pasts.map(|(key, name)| (key, name.unknown()));
        let mut all = sponsors.chain(groups).chain(pasts);
        if all.any(|(key, unknown)| unknown.is_some() && !self.erased.contains(key)) {
            self.names_unread = Some(self.size);
        }
    }

    /// Whether a name was lost after an entry, by an entry or without one.
    fn names_lost_after(&self, since: u64) -> bool {
        let lost = [self.name_lost, self.names_unread];
        lost.into_iter().flatten().any(|lost| lost > since)
    }

    /// Takes note that names under a key are gone.
    pub(super) fn lose_names(&mut self, key: &Handle) {
        let mut lost = self.sponsor_of_key(key).is_some()
            || self.groups.values().any(|group| group.key == *key);
        for pasts in [&mut self.sponsor_pasts, &mut self.group_pasts] {
            for past in pasts.values_mut().filter(|past| past.key == *key) {
                lost = true;
                for was in &mut past.was {
                    was.name = Known::Erased;
                }
            }
        }
        if lost {
            self.name_lost = Some(self.size);
        }
    }
}

fn keep(
    pasts: &mut Pasts,
    handle: &Handle,
    (record, key): (u64, &Handle),
    was: Was,
    since: Option<u64>,
) {
    // Without a set in force nothing is meant by any name.
    let Some(since) = since else {
        return;
    };
    let past = pasts.entry(handle.clone()).or_insert_with(|| Past {
        record,
        key: key.clone(),
        was: Vec::new(),
    });
    if past.then(since).is_none() {
        past.was.push(was);
    }
}

fn named(name: &Known<String>) -> Option<&str> {
    match name {
        Known::Named(name) => Some(name),
        Known::Erased | Known::Sealed => None,
    }
}

pub(super) fn id_of(identity: &Identity) -> Known<String> {
    match identity {
        Known::Named(person) => Known::Named(person.id.as_str().to_owned()),
        Known::Erased => Known::Erased,
        Known::Sealed => Known::Sealed,
    }
}

pub(super) fn name_of(profile: &Known<GroupProfile>) -> Known<String> {
    match profile {
        Known::Named(profile) => Known::Named(profile.display_name.as_str().to_owned()),
        Known::Erased => Known::Erased,
        Known::Sealed => Known::Sealed,
    }
}
