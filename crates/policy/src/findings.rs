//! What inspection saw, as policies see it, and what they ask to have masked.
//!
//! Policies see texts: `secret` for a class, `secret/RULE` for one rule of it, and `secret:medium`
//! for what is that sure at least. `@mask` names findings in the same words.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vocab::finding::{Class, Confidence};
use vocab::suggest;

/// Most names in one `@mask`.
const NAMES_MAX: usize = 64;
/// The rule of a finding in a case that names none.
pub(crate) const ANY_RULE: &str = "example";
/// The word in `@mask` for masks that are the same for the same value.
const STABLE: &str = "stable";

/// What one rule found in what passes, and how often. Never the value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// What kind of thing.
    pub class: Class,
    /// By which rule.
    pub rule: String,
    /// How surely.
    pub confidence: Confidence,
    /// How often.
    pub count: u64,
}

/// Which way that passes in which something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// What is asked for, with its arguments.
    #[default]
    Request,
    /// What comes back.
    Response,
}

impl Direction {
    /// The word for it in policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }

    /// Whether it is the one that is meant where nothing is said.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde asks with a reference"
    )]
    pub(crate) const fn is_request(&self) -> bool {
        matches!(self, Self::Request)
    }
}

/// What policies see of findings.
pub(crate) fn texts<'a>(findings: impl Iterator<Item = &'a Found>) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    for found in findings {
        let class = found.class.as_str();
        texts.insert(class.to_owned());
        texts.insert(format!("{class}/{}", found.rule));
        let less = Confidence::ALL
            .iter()
            .filter(|less| **less <= found.confidence);
        texts.extend(less.map(|less| format!("{class}:{}", less.as_str())));
    }
    texts
}

/// Some of what can be found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Which {
    /// All of a class.
    Class(Class),
    /// What one rule finds.
    Rule(Class, String),
    /// What is that sure at least.
    AtLeast(Class, Confidence),
}

/// Why a text names no findings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// Nothing is named.
    #[error("nothing is named that is to be masked")]
    Nothing,
    /// More names than anybody reads.
    #[error("at most {NAMES_MAX} names are taken")]
    TooMany,
    /// No such class.
    #[error("`{name}` is no class of findings{}", near(name))]
    Class {
        /// What stands there.
        name: String,
    },
    /// No such confidence.
    #[error("`{0}` is no confidence: `low`, `medium` or `high`")]
    Confidence(String),
    /// No name of a rule.
    #[error("`{0}` is no rule's id: up to 64 letters, digits, `-`, `_` and `.`")]
    Rule(String),
    /// What cannot be masked since it was not looked into.
    #[error("what was not looked into cannot be masked: forbid `uninspectable` instead")]
    Uninspectable,
}

fn near(name: &str) -> String {
    let known = Class::ALL.map(Class::as_str);
    match suggest::nearest(name, known) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!("; there are {}", known.join(", ")),
    }
}

impl FromStr for Which {
    type Err = MaskError;

    fn from_str(text: &str) -> Result<Self, MaskError> {
        let class = |name: &str| {
            let name = name.to_owned();
            name.parse().map_err(|_| MaskError::Class { name })
        };
        if let Some((of, rule)) = text.split_once('/') {
            let is_id = (1..=64).contains(&rule.len())
                && rule
                    .bytes()
                    .all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it));
            return if is_id {
                Ok(Self::Rule(class(of)?, rule.to_owned()))
            } else {
                Err(MaskError::Rule(rule.to_owned()))
            };
        }
        match text.split_once(':') {
            Some((of, sure)) => {
                let confidence = sure.parse();
                let confidence = confidence.map_err(|_| MaskError::Confidence(sure.to_owned()))?;
                Ok(Self::AtLeast(class(of)?, confidence))
            }
            None => Ok(Self::Class(class(text)?)),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => write!(f, "{class}"),
            Self::Rule(class, rule) => write!(f, "{class}/{rule}"),
            Self::AtLeast(class, confidence) => write!(f, "{class}:{}", confidence.as_str()),
        }
    }
}

impl Which {
    /// The least that is meant by it.
    pub(crate) fn example(&self) -> Found {
        let (rule, confidence) = match self {
            Self::Class(_) => (ANY_RULE, Confidence::Low),
            Self::Rule(_, rule) => (rule.as_str(), Confidence::Low),
            Self::AtLeast(_, confidence) => (ANY_RULE, *confidence),
        };
        Found {
            class: self.class(),
            rule: rule.to_owned(),
            confidence,
            count: 1,
        }
    }

    /// What only one rule finds.
    pub(crate) const fn is_rule(&self) -> bool {
        matches!(self, Self::Rule(_, _))
    }

    const fn class(&self) -> Class {
        match self {
            Self::Class(class) | Self::Rule(class, _) | Self::AtLeast(class, _) => *class,
        }
    }
}

/// What is to be masked before it passes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Masks {
    of: BTreeSet<Which>,
    stable: bool,
}

impl Masks {
    /// What they are for, as it was written.
    pub(crate) fn named(&self) -> impl Iterator<Item = &Which> {
        self.of.iter()
    }
}

impl FromStr for Masks {
    type Err = MaskError;

    /// Reads `secret, personal/card, injection:high, stable`.
    fn from_str(text: &str) -> Result<Self, MaskError> {
        Self::read(text.split(','))
    }
}

impl TryFrom<Vec<String>> for Masks {
    type Error = MaskError;

    fn try_from(names: Vec<String>) -> Result<Self, MaskError> {
        Self::read(names.iter().map(String::as_str))
    }
}

impl From<Masks> for Vec<String> {
    fn from(masks: Masks) -> Self {
        let stable = masks.stable.then(|| STABLE.to_owned());
        let of = masks.of.iter().map(ToString::to_string);
        of.chain(stable).collect()
    }
}

impl Masks {
    fn read<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, MaskError> {
        let mut masks = Self::default();
        for name in names.map(str::trim) {
            if name == STABLE {
                masks.stable = true;
                continue;
            }
            if name.is_empty() {
                return Err(MaskError::Nothing);
            }
            let which: Which = name.parse()?;
            if which.class() == Class::Uninspectable && !is_taken_out(&which) {
                return Err(MaskError::Uninspectable);
            }
            masks.of.insert(which);
            if masks.of.len() > NAMES_MAX {
                return Err(MaskError::TooMany);
            }
        }
        if masks.of.is_empty() {
            return Err(MaskError::Nothing);
        }
        Ok(masks)
    }

    /// Whether there is nothing to mask.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Whether equal values are to have equal masks.
    pub const fn are_stable(&self) -> bool {
        self.stable
    }

    /// Whether what a rule found is to be masked.
    pub fn cover(&self, class: Class, rule: &str, confidence: Confidence) -> bool {
        self.of.iter().any(|which| match which {
            Which::Class(of) => *of == class,
            Which::Rule(of, named) => *of == class && named == rule,
            Which::AtLeast(of, least) => *of == class && confidence >= *least,
        })
    }

    pub(crate) fn hides(&self, found: &Found) -> bool {
        self.cover(found.class, &found.rule, found.confidence)
    }

    /// These, and others.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.of.extend(other.of.iter().cloned());
        self.stable |= other.stable;
        self
    }
}

impl Found {
    /// Whether it says that what passes was not looked into as a whole: nobody knows where else a
    /// mask belongs.
    pub(crate) fn is_unseen(&self) -> bool {
        matches!(
            &*self.rule,
            "uninspectable-budget" | "uninspectable-size" | "uninspectable-depth"
        )
    }
}

/// Of what was not looked into, blobs and what is compressed stand in a place of their own and can be
/// taken out of it.
fn is_taken_out(which: &Which) -> bool {
    matches!(which, Which::Rule(_, rule)
        if rule == "uninspectable-blob" || rule == "uninspectable-compressed")
}

#[cfg(test)]
mod tests;
