//! Lines of an agent's allow list: the most it may ever do, whatever the policies permit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vocab::authority::{Authority, Detail};
use vocab::glob;
use vocab::id::{IdError, ToolName, UpstreamName};

/// `UPSTREAM/TOOL`, where `*` in the tool part stands for any run of characters, or
/// `UPSTREAM:METHOD`, to the letter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Allow {
    /// Calls of tools.
    Tool {
        /// The upstream.
        upstream: UpstreamName,
        /// The tool's name, or a pattern of names.
        tool: ToolName,
    },
    /// Requests of another method.
    Method {
        /// The upstream.
        upstream: UpstreamName,
        /// The MCP method, such as `resources/read`.
        method: Box<str>,
    },
}

/// Why a text is not a line of an allow list.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AllowError {
    /// Neither of the two forms.
    #[error("an allow line is `UPSTREAM/TOOL` (with `*` for any characters) or `UPSTREAM:METHOD`")]
    Form,
    /// One of its names is not one.
    #[error(transparent)]
    Name(#[from] IdError),
    /// The method is not one.
    #[error("an MCP method has letters, digits, `/`, `_`, `-` and `.`, at most 128")]
    Method,
}

impl Allow {
    /// Whether this line allows calling a tool.
    pub fn tool(&self, upstream: &UpstreamName, tool: &ToolName) -> bool {
        match self {
            Self::Tool {
                upstream: allowed,
                tool: pattern,
            } => allowed == upstream && glob::matches(pattern.as_str(), tool.as_str()),
            Self::Method { .. } => false,
        }
    }

    /// Whether this line allows a method.
    pub fn method(&self, upstream: &UpstreamName, method: &str) -> bool {
        match self {
            Self::Tool { .. } => false,
            Self::Method {
                upstream: allowed,
                method: name,
            } => allowed == upstream && **name == *method,
        }
    }
}

/// The most that an agent with these lines may call: what a part of it is compared with.
pub fn bound(lines: &[Allow]) -> Authority {
    Authority::of(lines.iter().filter_map(|line| match line {
        Allow::Tool { upstream, tool } => Some(Detail::tool(upstream.clone(), tool.clone())),
        Allow::Method { .. } => None,
    }))
}

impl FromStr for Allow {
    type Err = AllowError;

    fn from_str(text: &str) -> Result<Self, AllowError> {
        // An upstream's name has neither of the two marks, so the first one decides the form.
        let at = text.find(['/', ':']).ok_or(AllowError::Form)?;
        let (upstream, rest) = text.split_at_checked(at).ok_or(AllowError::Form)?;
        let upstream = upstream.parse()?;
        if let Some(tool) = rest.strip_prefix('/') {
            return Ok(Self::Tool {
                upstream,
                tool: tool.parse()?,
            });
        }
        let method = rest.strip_prefix(':').ok_or(AllowError::Form)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.');
        if method.is_empty() || method.len() > 128 || !method.chars().all(fits) {
            return Err(AllowError::Method);
        }
        Ok(Self::Method {
            upstream,
            method: method.into(),
        })
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool { upstream, tool } => write!(f, "{upstream}/{tool}"),
            Self::Method { upstream, method } => write!(f, "{upstream}:{method}"),
        }
    }
}

impl fmt::Debug for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Allow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Allow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, asked: &str, expected: bool) {
        let line: Allow = line.parse().unwrap();
        assert_eq!(line.to_string().parse(), Ok(line.clone()));
        let found = match asked.parse().unwrap() {
            Allow::Tool { upstream, tool } => line.tool(&upstream, &tool),
            Allow::Method { upstream, method } => line.method(&upstream, &method),
        };
        assert_eq!(found, expected, "{line} {asked}");
    }

    #[test]
    fn lines_allow_what_they_say() {
        check("files/read", "files/read", true);
        check("files/read", "files/read_all", false);
        check("files/read", "other/read", false);
        check("files/read", "files:read", false);
        check("files/*", "files/anything-at_all", true);
        check("files/read*", "files/read", true);
        check("files/*read", "files/do-not-write", false);
        check("files/*a*b", "files/xaxbxb", true);
        check("files/*a*b", "files/xbxa", false);
        check("files/a*a", "files/a", false);
        check("files/a:b", "files/a:b", true);
        check("files:resources/read", "files:resources/read", true);
        check("files:resources/read", "files:resources/readx", false);
        check("files:resources/read", "files/resources/read", false);
    }

    #[test]
    fn lines_bound_what_is_handed_on() {
        let lines = ["files/read_*", "files:resources/read", "mail/send"];
        let lines: Vec<Allow> = lines.iter().map(|line| line.parse().unwrap()).collect();
        let bound = bound(&lines);
        for (asked, expected) in [
            ("files/read_all", true),
            ("files/read_*", true),
            ("files/*", false),
            ("mail/send", true),
            ("mail/read_all", false),
        ] {
            let Ok(Allow::Tool { upstream, tool }) = asked.parse() else {
                panic!("{asked}");
            };
            let asked = Authority::of([Detail::tool(upstream, tool)]);
            assert_eq!(asked.is_within(&bound, "").is_ok(), expected, "{asked:?}");
        }
    }

    #[test]
    fn other_texts_are_no_lines() {
        for text in [
            "",
            "files",
            "/read",
            "files/",
            "files:",
            "files:*",
            "Files/read",
            "files:a b",
        ] {
            assert!(text.parse::<Allow>().is_err(), "{text:?}");
        }
    }
}
