//! Who has to approve a call: what `@approval` says, and whether those who did are enough.
//!
//! `@approval("maya, group:finance")` is met by Maya or by anybody in the group of that name;
//! `@approval("2 of group:finance")` by two different people of it. Nobody approves what is done in
//! their own name: a person for whom the caller acts, or who answers for an agent of its chain,
//! counts only where `sponsor` is among those named.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vocab::SponsorId;

/// Most people that one policy may ask for.
const PEOPLE_MAX: usize = 16;
/// Most names in one `@approval`.
const NAMES_MAX: usize = 64;
/// Longest name of a group, in bytes.
const GROUP_BYTES_MAX: usize = 256;

/// What one `@approval` asks for: so many people of those that it names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Approvers {
    people: usize,
    of: Vec<Approver>,
}

/// Somebody who may approve.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Approver {
    /// Who answers for the caller: the only way for them to approve.
    Sponsor,
    /// A person by their ID.
    Person(SponsorId),
    /// Anybody in the group of that name.
    Group(String),
}

/// A person who approved, as a decision sees them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovedBy {
    /// Their ID; none if erased since.
    pub id: Option<SponsorId>,
    /// Their groups.
    pub groups: Vec<String>,
    /// Whether the caller acts for them, or they answer for an agent of its chain.
    pub is_sponsor: bool,
}

/// What has to be approved before a call may be made: each of these, in any one of its ways.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Needs(Vec<BTreeSet<Approvers>>);

/// Why a text says nothing about who may approve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApproversError {
    /// Nobody is named.
    #[error("nobody is named who could approve")]
    Nobody,
    /// More names than anybody reads.
    #[error("at most {NAMES_MAX} names are taken")]
    TooMany,
    /// Not the ID of a person.
    #[error("`{0}` is not the ID of a person; a group is written `group:NAME`")]
    Person(String),
    /// Not the name of a group.
    #[error("the name of a group is 1 to {GROUP_BYTES_MAX} bytes of text without a comma")]
    Group,
    /// The number before `of`.
    #[error("`{0} of` asks for no number of people from 1 to {PEOPLE_MAX}")]
    Count(String),
    /// More people than are named.
    #[error("{people} people are asked for and {named} named")]
    TooFew {
        /// So many.
        people: usize,
        /// Of so many.
        named: usize,
    },
}

impl FromStr for Approvers {
    type Err = ApproversError;

    fn from_str(text: &str) -> Result<Self, ApproversError> {
        let is_number = |text: &str| text.bytes().all(|it| it.is_ascii_digit());
        let (count, names) = match text.trim().split_once(" of ") {
            Some((count, names)) if is_number(count) => (Some(count), names),
            _ => (None, text),
        };
        let people = match count {
            None => 1,
            Some(count) => count
                .parse()
                .ok()
                .filter(|people| (1..=PEOPLE_MAX).contains(people))
                .ok_or_else(|| ApproversError::Count(count.to_owned()))?,
        };
        let mut of = Vec::new();
        for name in names.split(',').map(str::trim) {
            let approver = approver(name)?;
            if !of.contains(&approver) {
                of.push(approver);
            }
            if of.len() > NAMES_MAX {
                return Err(ApproversError::TooMany);
            }
        }
        // Of a group nobody knows here how many are in it.
        let named = of.len();
        let known = of.iter().all(|it| matches!(it, Approver::Person(_)));
        if known && people > named {
            return Err(ApproversError::TooFew { people, named });
        }
        Ok(Self { people, of })
    }
}

fn approver(name: &str) -> Result<Approver, ApproversError> {
    match name.strip_prefix("group:") {
        _ if name.is_empty() => Err(ApproversError::Nobody),
        Some(group) => {
            let group = group.trim();
            let is_name = (1..=GROUP_BYTES_MAX).contains(&group.len())
                && !group.chars().any(char::is_control);
            is_name
                .then(|| Approver::Group(group.to_owned()))
                .ok_or(ApproversError::Group)
        }
        None if name == "sponsor" => Ok(Approver::Sponsor),
        None => name
            .parse()
            .map(Approver::Person)
            .map_err(|_| ApproversError::Person(name.to_owned())),
    }
}

impl fmt::Display for Approver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sponsor => f.write_str("sponsor"),
            Self::Person(id) => write!(f, "{id}"),
            Self::Group(name) => write!(f, "group:{name}"),
        }
    }
}

impl fmt::Display for Approvers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.people > 1 {
            write!(f, "{} of ", self.people)?;
        }
        for (index, approver) in self.of.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{approver}")?;
        }
        Ok(())
    }
}

impl From<Approvers> for String {
    fn from(approvers: Approvers) -> Self {
        approvers.to_string()
    }
}

impl TryFrom<String> for Approvers {
    type Error = ApproversError;

    fn try_from(text: String) -> Result<Self, ApproversError> {
        text.parse()
    }
}

impl Approvers {
    /// Those who are named.
    pub fn named(&self) -> &[Approver] {
        &self.of
    }

    /// How many different people it takes.
    pub const fn people(&self) -> usize {
        self.people
    }

    /// Whether `person` is one of those who may approve.
    pub fn include(&self, person: &ApprovedBy) -> bool {
        let by_own_name = self.of.contains(&Approver::Sponsor);
        if person.is_sponsor {
            return by_own_name;
        }
        self.of.iter().any(|approver| match approver {
            Approver::Sponsor => false,
            Approver::Person(id) => person.id.as_ref() == Some(id),
            Approver::Group(name) => person.groups.contains(name),
        })
    }

    /// Whether those who approved, each of them another person, are enough.
    fn are_met(&self, by: &[ApprovedBy]) -> bool {
        by.iter().filter(|person| self.include(person)).count() >= self.people
    }
}

impl Needs {
    /// What has to be met: each of `all`, in any one of its ways.
    pub(crate) fn new(all: impl IntoIterator<Item = BTreeSet<Approvers>>) -> Self {
        let mut needs: Vec<_> = all.into_iter().collect();
        needs.sort_unstable();
        needs.dedup();
        Self(needs)
    }

    /// All of both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self::new(self.0.into_iter().chain(other.0))
    }

    /// Whether `by`, each of them another person, are enough. What nobody can meet is not met.
    pub fn are_met(&self, by: &[ApprovedBy]) -> bool {
        !self.0.is_empty()
            && self
                .0
                .iter()
                .all(|ways| ways.iter().any(|way| way.are_met(by)))
    }

    /// Whether the word of `person` counts for any of it.
    pub fn include(&self, person: &ApprovedBy) -> bool {
        self.ways().any(|way| way.include(person))
    }

    /// What has to be met: each, in any one of its ways.
    pub fn all(&self) -> impl Iterator<Item = &BTreeSet<Approvers>> {
        self.0.iter()
    }

    /// Every way that is named.
    pub fn ways(&self) -> impl Iterator<Item = &Approvers> {
        self.0.iter().flatten()
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, ways) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "; and " })?;
            for (index, way) in ways.iter().enumerate() {
                let or = if index == 0 { "" } else { ", or " };
                write!(f, "{or}{way}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
