//! Identifiers and names. Each is a newtype that only parses: whoever holds one holds a valid one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;
use crate::limits;
use crate::rng::{self, Rng, RngError};

/// Why a text is not the name it was meant to be.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum IdError {
    /// Nothing there.
    #[error("{what} is empty")]
    Empty {
        /// What was being read.
        what: &'static str,
    },
    /// Too long.
    #[error("{what} is {length} bytes long; at most {max} are allowed")]
    TooLong {
        /// What was being read.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The most allowed.
        max: usize,
    },
    /// A character that may not be there.
    #[error("{what} may not hold {found:?} (byte {at}); {rule}")]
    Character {
        /// What was being read.
        what: &'static str,
        /// The character.
        found: char,
        /// Its byte offset.
        at: usize,
        /// What is allowed.
        rule: &'static str,
    },
    /// Of the wrong form.
    #[error("{what} is not of the form {form}")]
    Form {
        /// What was being read.
        what: &'static str,
        /// The form it should have.
        form: &'static str,
    },
}

fn check(
    what: &'static str,
    text: &str,
    max: usize,
    rule: &'static str,
    first: fn(char) -> bool,
    rest: fn(char) -> bool,
) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { what });
    }
    if text.len() > max {
        return Err(IdError::TooLong {
            what,
            length: text.len(),
            max,
        });
    }
    for (at, found) in text.char_indices() {
        let allowed = if at == 0 { first(found) } else { rest(found) };
        if !allowed {
            return Err(IdError::Character {
                what,
                found,
                at,
                rule,
            });
        }
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $rule:literal, $first:expr, $rest:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                check($what, text, $max, $rule, $first, $rest)?;
                Ok(Self(text.into()))
            }
        }

        text_form!($name);
    };
}

macro_rules! text_form {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

const fn lower(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

const fn slug(c: char) -> bool {
    lower(c) || matches!(c, '-' | '_' | '.')
}

const fn user(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '+')
}

/// Whether a character would let a name show as another or break a line: controls, separators, bidi
/// and zero-width marks.
pub fn invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

name!(
    /// A registered kind of agent, such as `triage`.
    AgentId, "an agent id", 64,
    "lower-case letters, digits, `-`, `_` and `.` are allowed, the first a letter or digit",
    lower, slug
);
name!(
    /// A sponsor, as administrators and policies name them: `maya` or `maya@example.com`.
    SponsorId, "a sponsor id", 128,
    "letters, digits, `-`, `_`, `.`, `@` and `+` are allowed, the first a letter or digit",
    |c| c.is_ascii_alphanumeric(), user
);
name!(
    /// An administrator: `uid:1000` for a local user, or a named credential.
    AdminId, "an administrator's name", 128,
    "letters, digits, `-`, `_`, `.`, `@`, `+` and `:` are allowed, the first a letter or digit",
    |c| c.is_ascii_alphanumeric(), |c| user(c) || c == ':'
);
name!(
    /// A policy enforcement point: a service or gateway that may ask what would be decided.
    PepName, "a policy enforcement point's name", 64,
    "lower-case letters, digits, `-`, `_` and `.` are allowed, the first a letter or digit",
    lower, slug
);
name!(
    /// An upstream's name in the configuration, such as `files`.
    UpstreamName, "an upstream's name", 64,
    "lower-case letters, digits, `-` and `_` are allowed, the first a letter or digit",
    lower, |c| lower(c) || matches!(c, '-' | '_')
);
name!(
    /// A tool's name, as its server gives it.
    ToolName, "a tool's name", limits::TOOL_NAME_BYTES_MAX,
    "control, bidirectional and invisible characters are not allowed",
    |c| !invisible(c), |c| !invisible(c)
);
name!(
    /// A secret in the local vault, such as `github-token`.
    SecretName, "a secret's name", 64,
    "lower-case letters, digits, `-`, `_` and `.` are allowed, the first a letter or digit",
    lower, slug
);
name!(
    /// One of the credentials that an upstream has in the configuration.
    CredentialName, "a credential's name", 64,
    "lower-case letters, digits, `-`, `_` and `.` are allowed, the first a letter or digit",
    lower, slug
);
name!(
    /// The realm that all names of a node belong to, such as `acme.example`.
    TrustDomain, "a trust domain", 253,
    "lower-case letters, digits, `-` and `.` are allowed, the first a letter or digit",
    lower, |c| lower(c) || matches!(c, '-' | '.')
);
name!(
    /// A random stand-in for something erasable: the entry names the handle, the name is sealed.
    Handle, "a handle", 64,
    "lower-case letters, digits, `-` and `_` are allowed, the first a letter",
    |c| c.is_ascii_lowercase(), |c| lower(c) || matches!(c, '-' | '_')
);

impl Handle {
    /// A fresh handle: `prefix`, a hyphen and 26 random base-32 characters (130 bits).
    pub fn random(prefix: &str, rng: &dyn Rng) -> Result<Self, RngError> {
        Ok(Self(
            format!("{prefix}-{}", base32(&rng::bytes::<16>(rng)?)).into(),
        ))
    }
}

/// Why an agent acts: an id path such as `triage/refunds`. A longer path is narrower.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PurposePath(Arc<str>);

impl PurposePath {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this purpose is `other` or narrower.
    pub fn is_at_or_below(&self, other: &Self) -> bool {
        self.0
            .strip_prefix(other.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The first segment.
    pub fn root(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }
}

impl FromStr for PurposePath {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        const WHAT: &str = "a purpose";
        const RULE: &str = "segments of lower-case letters, digits, `-`, `_` and `.` joined by `/`";
        check(WHAT, text, 256, RULE, lower, |c| slug(c) || c == '/')?;
        if text.split('/').count() > limits::PURPOSE_DEPTH_MAX {
            return Err(IdError::Form {
                what: WHAT,
                form: "at most 8 segments",
            });
        }
        for segment in text.split('/') {
            check(WHAT, segment, 64, RULE, lower, slug)?;
        }
        Ok(Self(text.into()))
    }
}

text_form!(PurposePath);

/// One running agent: `i-` and 26 base-32 characters, random.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A fresh id of 128 random bits.
    pub fn random(rng: &dyn Rng) -> Result<Self, RngError> {
        Ok(Self(
            format!("i-{}", base32(&rng::bytes::<16>(rng)?)).into(),
        ))
    }
}

impl FromStr for InstanceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        const BAD: IdError = IdError::Form {
            what: "an instance id",
            form: "`i-` and 26 base-32 characters",
        };
        let rest = text.strip_prefix("i-").ok_or(BAD)?;
        if rest.len() != 26 || !rest.bytes().all(|b| BASE32.contains(&b)) {
            return Err(BAD);
        }
        Ok(Self(text.into()))
    }
}

text_form!(InstanceId);

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Lower-case RFC 4648 base 32 without padding.
pub fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut bits, mut count) = (0_u32, 0_u32);
    let mut push = |index: u32| {
        if let Some(letter) = BASE32.get((index & 31) as usize) {
            out.push(char::from(*letter));
        }
    };
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            push(bits >> count);
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        push(bits << (5 - count));
    }
    out
}

/// One of the two logs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogName {
    /// Who exists and what holds.
    Control,
    /// What was decided and what came of it.
    Calls,
}

impl LogName {
    /// Both logs.
    pub const ALL: [Self; 2] = [Self::Control, Self::Calls];

    /// `control` or `calls`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Calls => "calls",
        }
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text {
            "control" => Ok(Self::Control),
            "calls" => Ok(Self::Calls),
            _ => Err(IdError::Form {
                what: "a log's name",
                form: "`control` or `calls`",
            }),
        }
    }
}

/// Where an entry stands, and what it is: `{log, index, leaf_hash}`; `calls/17` on a command line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordRef {
    /// The log.
    pub log: LogName,
    /// The entry's index in it, from zero.
    pub index: u64,
    /// The RFC 6962 leaf hash of the entry's bytes.
    pub leaf_hash: Digest,
}

impl fmt::Display for RecordRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.log, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good<T: FromStr<Err = IdError> + fmt::Display>(texts: &[&str]) {
        for text in texts {
            match text.parse::<T>() {
                Ok(id) => assert_eq!(id.to_string(), *text),
                Err(error) => panic!("{text}: {error}"),
            }
        }
    }

    fn bad<T: FromStr<Err = IdError>>(texts: &[&str]) {
        for text in texts {
            assert!(text.parse::<T>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn names_parse_or_say_why() {
        good::<AgentId>(&["triage", "a", "my-agent_2.0"]);
        bad::<AgentId>(&["", "Triage", "-x", "a/b", "a b", &"a".repeat(65), "é"]);
        good::<SponsorId>(&["maya", "Maya.Li@example.com", "m+x@y"]);
        bad::<SponsorId>(&["", "@x", "maya li", "a\"b", "a\nb"]);
        good::<UpstreamName>(&["files", "my-db", "a_b"]);
        bad::<UpstreamName>(&["", "a.b", "a/b", "a:b", "A"]);
        good::<ToolName>(&["read-file", "get_weather", "a.b/c", "ünïcode", "with space"]);
        bad::<ToolName>(&[
            "",
            "a\u{202e}b",
            "a\nb",
            "tag\u{e0041}",
            "zero\u{200b}",
            &"x".repeat(257),
        ]);
        good::<PurposePath>(&["triage", "triage/refunds", "a/b/c/d/e/f/g/h"]);
        bad::<PurposePath>(&["", "/a", "a/", "a//b", "A", "a/b/c/d/e/f/g/h/i", "a/../b"]);
        bad::<InstanceId>(&["", "i-", "i-short", "x-aaaaaaaaaaaaaaaaaaaaaaaaaa"]);
        good::<InstanceId>(&["i-abcdefghijklmnopqrstuvwxyz"]);
    }

    #[test]
    fn an_error_names_the_place() {
        let error = "tri age".parse::<AgentId>().unwrap_err().to_string();
        assert_eq!(
            error,
            "an agent id may not hold ' ' (byte 3); lower-case letters, digits, `-`, `_` and `.` \
             are allowed, the first a letter or digit"
        );
    }

    #[test]
    fn a_purpose_is_below_itself_and_its_parents_only() {
        let path = |text: &str| text.parse::<PurposePath>().unwrap();
        assert!(path("triage/refunds").is_at_or_below(&path("triage")));
        assert!(path("triage").is_at_or_below(&path("triage")));
        assert!(!path("triage").is_at_or_below(&path("triage/refunds")));
        assert!(!path("triages").is_at_or_below(&path("triage")));
        assert_eq!(path("triage/refunds").root(), "triage");
    }

    #[test]
    fn base32_is_rfc_4648() {
        for (plain, coded) in [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(base32(plain.as_bytes()), coded);
        }
    }
}
