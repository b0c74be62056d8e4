//! Authority: what an instance may do, as RFC 9396 `authorization_details` of type `mcp_tool`.
//!
//! ```json
//! [{"type": "mcp_tool", "locations": ["files"], "identifier": "read_*",
//!   "arguments": {"path": {"prefix": "/data/"}, "options.limit": {"max": 100}}}]
//! ```
//!
//! | member | is |
//! |---|---|
//! | `type` | `mcp_tool` |
//! | `locations` | upstreams: by name here and in entries, by URI in tokens and answers; a request may use either |
//! | `identifier` | a tool's exact name, or a pattern in which `*` stands for any run of characters |
//! | `arguments` | what is asked of arguments, by path (names joined by dots); optional |
//! | `arguments_sha256` | SHA-256 of the exact text of all arguments, in hex; optional |
//!
//! An authority permits a call of a tool if one of its details does. It permits no other method.
//!
//! It can only shrink along a delegation: [`Authority::is_within`] says yes only where it can be
//! *shown* that whatever the inner one permits the outer one permits too. It compares detail by
//! detail, so two outer details that only together cover an inner one are not seen to.

mod constraint;
mod decimal;

pub use constraint::{
    ArgumentPath, ArgumentPathError, CallArguments, Constraint, ConstraintError, Scalar, is_plain,
};
pub use decimal::Decimal;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::digest::Digest;
use crate::glob;
use crate::id::{ToolName, UpstreamName};
use crate::limits::{
    AUTHORITY_BYTES_MAX, AUTHORITY_DETAILS_MAX, DETAIL_ARGUMENTS_MAX, DETAIL_LOCATIONS_MAX,
};

/// The type of details that are known here.
pub const MCP_TOOL: &str = "mcp_tool";

/// One thing that an authority permits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Detail {
    locations: BTreeSet<UpstreamName>,
    identifier: ToolName,
    arguments: BTreeMap<ArgumentPath, Constraint>,
    arguments_sha256: Option<Digest>,
}

impl Detail {
    /// Calls of a tool, or of the tools of a pattern, with whatever arguments.
    pub fn tool(upstream: UpstreamName, identifier: ToolName) -> Self {
        Self {
            locations: [upstream].into(),
            identifier,
            arguments: BTreeMap::new(),
            arguments_sha256: None,
        }
    }

    /// The upstreams.
    pub const fn locations(&self) -> &BTreeSet<UpstreamName> {
        &self.locations
    }

    /// The tool, or a pattern of tools.
    pub const fn identifier(&self) -> &ToolName {
        &self.identifier
    }

    /// The digest that the arguments must have, if it is for one call.
    pub const fn arguments_sha256(&self) -> Option<Digest> {
        self.arguments_sha256
    }

    /// Whether it is about one tool of one upstream and no other.
    pub fn is_exact(&self) -> bool {
        self.locations.len() == 1 && glob::is_exact(self.identifier.as_str())
    }

    /// Whether it permits calling a tool with some arguments.
    pub fn covers(&self, upstream: &UpstreamName, tool: &ToolName) -> bool {
        self.locations.contains(upstream) && glob::matches(self.identifier.as_str(), tool.as_str())
    }

    /// Whether these arguments are as they should be.
    fn takes(&self, args: &CallArguments<'_>) -> bool {
        self.unmet(args).is_none()
    }

    /// The first thing that is not as it should be.
    fn unmet(&self, args: &CallArguments<'_>) -> Option<Unmet<'_>> {
        if self
            .arguments_sha256
            .is_some_and(|digest| digest != args.digest())
        {
            return Some(Unmet::Bytes);
        }
        let mut arguments = self.arguments.iter();
        let wrong = arguments.find(|(path, constraint)| !constraint.holds(&args.at(path)));
        wrong.map(|(path, _)| Unmet::Argument(path))
    }

    /// What of this detail is not shown to be within `outer`, if anything.
    fn beyond(&self, outer: &Self) -> Option<Part> {
        if !self.locations.is_subset(&outer.locations) {
            return Some(Part::Locations);
        }
        if !glob::matches(outer.identifier.as_str(), self.identifier.as_str()) {
            return Some(Part::Identifier);
        }
        if outer.arguments_sha256.is_some() && self.arguments_sha256 != outer.arguments_sha256 {
            return Some(Part::Digest);
        }
        let path = outer.arguments.iter().find(|(path, constraint)| {
            !self
                .arguments
                .get(path)
                .is_some_and(|own| own.is_within(constraint))
        });
        path.map(|(path, _)| Part::Argument(path.clone()))
    }
}

/// What of a call's arguments is not as a detail asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet<'a> {
    /// Their bytes: they are not those of `arguments_sha256`.
    Bytes,
    /// One of them is not as it is asked to be, or not there.
    Argument(&'a ArgumentPath),
}

/// A part of a detail. The later, the nearer it came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Locations,
    Identifier,
    Digest,
    Argument(ArgumentPath),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locations => f.write_str("locations"),
            Self::Identifier => f.write_str("identifier"),
            Self::Digest => f.write_str("arguments_sha256"),
            Self::Argument(path) => write!(f, "arguments.{path}"),
        }
    }
}

/// What an instance may do: what one of these permits. Of none, nothing.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Authority(Vec<Detail>);

/// The part of an authority that cannot be shown to be within another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{part}` cannot be shown to be within {outer}: what is handed on is that or less, and as \
     narrow in each argument"
)]
pub struct NotWithin {
    /// Such as `authorization_details[0].arguments.path`.
    pub part: String,
    /// What it should be within.
    pub outer: &'static str,
}

impl Authority {
    /// An authority that permits what one of these permits.
    pub fn of(details: impl IntoIterator<Item = Detail>) -> Self {
        Self(details.into_iter().collect())
    }

    /// Its details.
    pub fn details(&self) -> &[Detail] {
        &self.0
    }

    /// Reads `authorization_details`. `locate` says which upstream a location means.
    //= https://www.rfc-editor.org/rfc/rfc9396#section-12
    //# The AS MUST properly sanitize and handle the data passed in the authorization_details in
    //# order to prevent injection attacks.
    pub fn parse(
        text: &str,
        locate: impl Fn(&str) -> Option<UpstreamName>,
    ) -> Result<Self, AuthorityError> {
        if text.len() > AUTHORITY_BYTES_MAX {
            return Err(AuthorityError::Long(text.len()));
        }
        let details: Vec<Wire<String>> =
            serde_json::from_str(text).map_err(|error| AuthorityError::Syntax(words(&error)))?;
        check_count(details.len())?;
        details
            .into_iter()
            .map(|wire| {
                let locations: Result<_, _> = wire
                    .locations
                    .iter()
                    .map(|location| locate(location).ok_or(AuthorityError::Location))
                    .collect();
                Wire {
                    locations: locations?,
                    kind: wire.kind,
                    identifier: wire.identifier,
                    arguments: wire.arguments,
                    arguments_sha256: wire.arguments_sha256,
                }
                .check()
            })
            .collect::<Result<_, _>>()
            .map(Self)?
            .short()
    }

    /// Numbers may be written shorter than entries have them.
    fn short(self) -> Result<Self, AuthorityError> {
        match self.to_json(ToString::to_string).get().len() {
            0..=AUTHORITY_BYTES_MAX => Ok(self),
            long => Err(AuthorityError::Long(long)),
        }
    }

    /// Writes it as `authorization_details`, locations as `name` has them.
    pub fn to_json(&self, name: impl Fn(&UpstreamName) -> String) -> Box<RawValue> {
        let details: Vec<Wire<String>> = self
            .0
            .iter()
            .map(|it| Wire {
                kind: MCP_TOOL.into(),
                locations: it.locations.iter().map(&name).collect(),
                identifier: it.identifier.clone(),
                arguments: Arguments(it.arguments.clone()),
                arguments_sha256: it.arguments_sha256,
            })
            .collect();
        serde_json::value::to_raw_value(&details).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }

    /// Whether it permits calling a tool with some arguments.
    pub fn covers(&self, upstream: &UpstreamName, tool: &ToolName) -> bool {
        self.0.iter().any(|detail| detail.covers(upstream, tool))
    }

    /// Whether it permits calling anything at all of an upstream.
    pub fn reaches(&self, upstream: &UpstreamName) -> bool {
        self.0
            .iter()
            .any(|detail| detail.locations.contains(upstream))
    }

    /// Which of its details permits a call, the first.
    pub fn permits(
        &self,
        upstream: &UpstreamName,
        tool: &ToolName,
        args: &CallArguments<'_>,
    ) -> Option<usize> {
        self.0
            .iter()
            .position(|detail| detail.covers(upstream, tool) && detail.takes(args))
    }

    /// What of a call's arguments the one detail that covers its tool does not take; none where several
    /// do, or it takes them all.
    pub fn unmet(
        &self,
        upstream: &UpstreamName,
        tool: &ToolName,
        args: &CallArguments<'_>,
    ) -> Option<Unmet<'_>> {
        let mut covering = self.0.iter().filter(|it| it.covers(upstream, tool));
        match (covering.next(), covering.next()) {
            (Some(detail), None) => detail.unmet(args),
            (Some(_), Some(_)) | (None, _) => None,
        }
    }

    /// Whether it can be shown that whatever this permits, `outer` permits too. If not, what could
    /// not be shown; `named` is what people call `outer`.
    pub fn is_within(&self, outer: &Self, named: &'static str) -> Result<(), NotWithin> {
        for (at, detail) in self.0.iter().enumerate() {
            let beyond: Option<Vec<Part>> =
                outer.0.iter().map(|outer| detail.beyond(outer)).collect();
            // None: one of them has nothing of it beyond.
            if let Some(beyond) = beyond {
                let part = beyond.into_iter().max().unwrap_or(Part::Locations);
                return Err(NotWithin {
                    part: format!("authorization_details[{at}].{part}"),
                    outer: named,
                });
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// Why a text is not an authority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Too long.
    #[error("`authorization_details` has {0} bytes; at most {AUTHORITY_BYTES_MAX} are read")]
    Long(usize),
    /// Not of the form.
    #[error("`authorization_details` cannot be read: {0}")]
    Syntax(String),
    /// No detail, or too many.
    #[error("`authorization_details` has 1 to {AUTHORITY_DETAILS_MAX} details")]
    Count,
    /// Of another type.
    #[error("the only type of `authorization_details` that is known here is `{MCP_TOOL}`")]
    Type,
    /// None, too many, or one that is no upstream.
    #[error(
        "`locations` has 1 to {DETAIL_LOCATIONS_MAX} of this node's upstreams, by URI or by name"
    )]
    Location,
    /// Too many arguments.
    #[error("`arguments` has at most {DETAIL_ARGUMENTS_MAX} arguments")]
    Arguments,
    /// Arguments of more than one tool.
    #[error("`arguments_sha256` is about one tool: `locations` has one, `identifier` no `*`")]
    Inexact,
}

/// The parser's words without the place, which is ours to know.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text.get(..at).unwrap_or_default().to_owned(),
        None => text,
    }
}

/// A detail as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<L> {
    //= https://www.rfc-editor.org/rfc/rfc9396#section-2
    //# This field is REQUIRED.
    #[serde(rename = "type")]
    kind: Box<str>,
    locations: Vec<L>,
    identifier: ToolName,
    #[serde(default, skip_serializing_if = "Arguments::is_empty")]
    arguments: Arguments,
    #[serde(
        default,
        deserialize_with = "constraint::there",
        skip_serializing_if = "Option::is_none"
    )]
    arguments_sha256: Option<Digest>,
}

impl Wire<UpstreamName> {
    fn check(self) -> Result<Detail, AuthorityError> {
        if &*self.kind != MCP_TOOL {
            return Err(AuthorityError::Type);
        }
        if !(1..=DETAIL_LOCATIONS_MAX).contains(&self.locations.len()) {
            return Err(AuthorityError::Location);
        }
        if self.arguments.0.len() > DETAIL_ARGUMENTS_MAX {
            return Err(AuthorityError::Arguments);
        }
        let detail = Detail {
            locations: self.locations.into_iter().collect(),
            identifier: self.identifier,
            arguments: self.arguments.0,
            arguments_sha256: self.arguments_sha256,
        };
        if detail.arguments_sha256.is_some() && !detail.is_exact() {
            return Err(AuthorityError::Inexact);
        }
        Ok(detail)
    }
}

impl Serialize for Detail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Wire {
            kind: MCP_TOOL.into(),
            locations: self.locations.iter().cloned().collect(),
            identifier: self.identifier.clone(),
            arguments: Arguments(self.arguments.clone()),
            arguments_sha256: self.arguments_sha256,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Detail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::<UpstreamName>::deserialize(deserializer)?;
        wire.check().map_err(D::Error::custom)
    }
}

fn check_count(details: usize) -> Result<(), AuthorityError> {
    if (1..=AUTHORITY_DETAILS_MAX).contains(&details) {
        Ok(())
    } else {
        Err(AuthorityError::Count)
    }
}

impl Serialize for Authority {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Authority {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let details = Vec::<Detail>::deserialize(deserializer)?;
        // Nobody asks for nothing, but facts have it where nobody knows what there was.
        if !details.is_empty() {
            check_count(details.len()).map_err(D::Error::custom)?;
        }
        Ok(Self(details))
    }
}

/// Constraints by path, no path twice.
#[derive(Default)]
struct Arguments(BTreeMap<ArgumentPath, Constraint>);

impl Arguments {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;

        impl<'de> Visitor<'de> for Unique {
            type Value = Arguments;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of constraints by argument")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Arguments, A::Error> {
                let mut arguments = BTreeMap::new();
                while let Some((path, constraint)) = map.next_entry()? {
                    if arguments.insert(path, constraint).is_some() {
                        return Err(A::Error::custom("an argument is there twice"));
                    }
                }
                Ok(Arguments(arguments))
            }
        }

        deserializer.deserialize_map(Unique)
    }
}

#[cfg(test)]
mod tests;
