//! A header of an upstream's, with references where its secrets go.
//!
//! A value is either one reference (`vault:github`) or text with references in braces
//! (`Bearer {vault:github}`). Text without any reference is refused: it could only be a secret that
//! was written down, or `plain:`.

use std::path::Path;

use http::{HeaderName, HeaderValue};
use vocab::Secret;
use zeroize::Zeroizing;

use crate::leases::Fetched;
use crate::source::{ReferenceError, Source, SourceError};
use crate::vault::Vault;

/// Headers that the transport or the gateway writes, so that nobody else can.
const OURS: [&str; 15] = [
    "accept",
    "baggage",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "last-event-id",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Why a header cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It is no header's name.
    #[error("`{0}` is no header's name")]
    Name(String),
    /// It is written by the gateway.
    #[error("`{0}` is written by the gateway itself")]
    Ours(String),
    /// A brace without its counterpart.
    #[error("a reference in a header stands in braces, as in `Bearer {{vault:NAME}}`")]
    Brace,
    /// What stands in the value, or in braces, is no reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

/// A header with its references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderTemplate {
    name: HeaderName,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Source(Source),
}

impl HeaderTemplate {
    /// Reads a header; paths are relative to `base`.
    pub fn parse(name: &str, value: &str, base: &Path) -> Result<Self, HeaderError> {
        let header: HeaderName = name
            .parse()
            .map_err(|_| HeaderError::Name(name.to_owned()))?;
        let is_ours = OURS.contains(&header.as_str());
        if is_ours || header.as_str().starts_with("mcp-") || header.as_str().starts_with("proxy-") {
            return Err(HeaderError::Ours(header.to_string()));
        }
        let mut parts = Vec::new();
        if !value.contains(['{', '}']) {
            parts.push(Part::Source(Source::parse(value, base)?));
            return Ok(Self {
                name: header,
                parts,
            });
        }
        let mut rest = value;
        while let Some((text, after)) = rest.split_once('{') {
            let (reference, after) = after.split_once('}').ok_or(HeaderError::Brace)?;
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
            parts.push(Part::Source(Source::parse(reference, base)?));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let has_brace = |part: &Part| matches!(part, Part::Text(text) if text.contains(['{', '}']));
        if parts.iter().any(has_brace) {
            return Err(HeaderError::Brace);
        }
        Ok(Self {
            name: header,
            parts,
        })
    }

    /// Its name.
    pub const fn name(&self) -> &HeaderName {
        &self.name
    }

    /// What it refers to.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Source(source) => Some(source),
        })
    }

    /// The value of this moment; the secrets that it was made of are given to `seen`. None: it is
    /// none that a header can have. May block on the disk.
    pub(crate) fn read(
        &self,
        vault: &Vault,
        fetched: &Fetched,
        mut seen: impl FnMut(Secret<String>),
    ) -> Result<Option<HeaderValue>, SourceError> {
        let mut text = Zeroizing::new(String::new());
        for part in &self.parts {
            match part {
                Part::Text(it) => text.push_str(it),
                Part::Source(source) => {
                    let secret = fetched.read(source, vault)?;
                    text.push_str(secret.expose());
                    if source.is_secret() {
                        seen(secret);
                    }
                }
            }
        }
        if let Some(password) = basic_password(&text) {
            seen(password);
        }
        let value = HeaderValue::from_str(&text).ok();
        Ok(value.map(|mut value| {
            value.set_sensitive(true);
            value
        }))
    }
}

/// The password in the value of an `Authorization: Basic` header.
fn basic_password(value: &str) -> Option<Secret<String>> {
    use base64::Engine as _;
    let encoded = value.strip_prefix("Basic ")?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded);
    let decoded = Zeroizing::new(decoded.ok()?);
    let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some(Secret::new(password.to_owned()))
}

#[cfg(test)]
mod tests;
