//! What inspection can find, and how surely: the words for it that policies, records and rules share.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What kind of thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// What gives access: keys, tokens, passwords.
    Secret,
    /// What is about a person: numbers of cards, accounts and identities, addresses.
    Personal,
    /// Text that a person does not see and a model reads.
    Hidden,
    /// Words that try to instruct whoever reads them.
    Injection,
    /// Readable text behind an encoding.
    Encoded,
    /// What was not looked into, and why.
    Uninspectable,
}

impl Class {
    /// Every class; where one thing is several, the first that it is counts.
    pub const ALL: [Self; 6] = [
        Self::Secret,
        Self::Personal,
        Self::Injection,
        Self::Hidden,
        Self::Uninspectable,
        Self::Encoded,
    ];

    /// Its name, as in a rule file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Personal => "personal",
            Self::Hidden => "hidden",
            Self::Injection => "injection",
            Self::Encoded => "encoded",
            Self::Uninspectable => "uninspectable",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no class of findings, or no confidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no word for what inspection finds")]
pub struct FindingError(pub String);

impl FromStr for Class {
    type Err = FindingError;

    fn from_str(text: &str) -> Result<Self, FindingError> {
        let mut all = Self::ALL.into_iter();
        all.find(|class| class.as_str() == text)
            .ok_or_else(|| FindingError(text.to_owned()))
    }
}

/// How surely it is what the rule looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// Often something else.
    Low,
    /// Sometimes something else.
    Medium,
    /// Hardly anything else looks like it.
    High,
}

impl Confidence {
    /// Each of them, the least first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// Its name, as in a rule file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl FromStr for Confidence {
    type Err = FindingError;

    fn from_str(text: &str) -> Result<Self, FindingError> {
        let mut all = Self::ALL.into_iter();
        all.find(|confidence| confidence.as_str() == text)
            .ok_or_else(|| FindingError(text.to_owned()))
    }
}
