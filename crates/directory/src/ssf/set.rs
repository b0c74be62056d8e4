//! Security event tokens (RFC 8417) as SSF, CAEP and RISC profile them: what they say, of whom.
//!
//! A SET is believed only after its signature was checked; this module reads what was signed.

use register::Risk;
use serde_json::{Map, Value};

use crate::json::{self, member};
use crate::reactions::Cause;

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";
/// Longest `jti`, in bytes.
const JTI_BYTES_MAX: usize = 256;
/// Events in one SET. The interoperability profile has one.
const EVENTS_MAX: usize = 8;
/// Names that a subject of the format `aliases` may have.
const ALIASES_MAX: usize = 16;

/// Why a SET is not taken, in the words of RFC 8935 §2.4.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// Not a SET, or without what every SET has.
    #[error("the SET cannot be read: {0}")]
    Request(&'static str),
    /// Not signed by a key of the transmitter's.
    #[error("the SET is not signed by a key of its issuer")]
    Key,
    /// By somebody else.
    #[error("the SET's `iss` is not the one that this stream is of")]
    Issuer,
    /// For somebody else.
    #[error("the SET's `aud` is not this receiver")]
    Audience,
    /// The state of a verification is another.
    #[error("the verification's `state` is not the one that was asked for")]
    State,
    /// It could not be put on record; it is to be sent again.
    #[error("the event could not be put on record; send it again")]
    Unavailable,
}

impl SetError {
    /// The `err` of the answer.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Request(_) => "invalid_request",
            Self::Key => "invalid_key",
            Self::Issuer => "invalid_issuer",
            Self::Audience => "invalid_audience",
            Self::State => "invalid_state",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What a SET says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its id: it is done once.
    pub jti: String,
    /// When it was made, in seconds.
    pub issued_at: u64,
    /// What happened.
    pub events: Vec<Event>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it is called in records: the last part of its URI; empty for one that is not known.
    pub word: &'static str,
    /// What it means here.
    pub meaning: Meaning,
    /// When it happened, in seconds: as the event says, or its SET; never after that was made.
    pub happened_at: u64,
    /// Of whom: any of these names, if they name one person.
    pub subjects: Vec<Subject>,
}

/// What an event means here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// Something follows of it.
    Cause(Cause),
    /// The account may be used again.
    Enabled,
    /// The account is at a risk.
    Risk(Risk),
    /// The stream works, as was asked with this state.
    Verification(Option<String>),
    /// The stream is paused or disabled, so nothing will be heard.
    Stopped,
    /// Nothing follows.
    Nothing,
}

/// A name of somebody (RFC 9493).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// What an issuer calls them.
    IssSub {
        /// The issuer.
        iss: String,
        /// Their name there.
        sub: String,
    },
    /// What both sides call them.
    Opaque(String),
    /// Their address, which may be another's tomorrow.
    Email(String),
}

impl Set {
    /// Reads the claims of a SET whose signature was checked.
    pub fn read(claims: &[u8], issuer: &str, audience: &str) -> Result<Self, SetError> {
        let bad = SetError::Request;
        let claims = json::object(claims).map_err(|_| bad("its claims are not JSON"))?;
        if text(&claims, "iss") != Some(issuer) {
            return Err(SetError::Issuer);
        }
        let for_us = match claims.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(all)) => all.iter().any(|one| one == audience),
            _ => false,
        };
        if !for_us {
            return Err(SetError::Audience);
        }
        // What would make it look like a token that lets somebody in (SSF 1.0 §4.1.6, §4.1.7).
        if claims.contains_key("exp") || claims.contains_key("sub") {
            return Err(bad("it has `exp` or `sub`, which a SET has not"));
        }
        let jti = text(&claims, "jti").filter(|it| !it.is_empty() && it.len() <= JTI_BYTES_MAX);
        let jti = jti.ok_or(bad("it has no `jti`, or a very long one"))?;
        let issued_at = claims.get("iat").and_then(Value::as_u64);
        let issued_at = issued_at.ok_or(bad("it has no `iat`"))?;
        let told_at = seconds(claims.get("toe"));
        let events = claims.get("events").and_then(Value::as_object);
        let events = events.ok_or(bad("it has no `events`"))?;
        if events.is_empty() || events.len() > EVENTS_MAX {
            return Err(bad("it has no event, or very many"));
        }
        let whom = claims.get("sub_id").map(subjects).transpose()?;
        let events = events.iter().map(|(uri, payload)| {
            let payload = payload.as_object();
            let payload = payload.ok_or(bad("an event's payload is not an object"))?;
            // Drafts had the subject in the event.
            let subjects = match (&whom, payload.get("subject")) {
                (Some(whom), _) => whom.clone(),
                (None, Some(subject)) => subjects(subject)?,
                (None, None) => Vec::new(),
            };
            let (word, meaning) = meaning(uri, payload);
            let is_about_somebody = match &meaning {
                Meaning::Cause(_) | Meaning::Enabled | Meaning::Risk(_) => true,
                Meaning::Verification(_) | Meaning::Stopped | Meaning::Nothing => false,
            };
            if is_about_somebody && whom.is_none() && !payload.contains_key("subject") {
                return Err(bad("it is about somebody, and has no subject"));
            }
            // CAEP 1.0 §2, RFC 8417 §2.2: a SET that is made anew of what happened before has
            // another `iat`.
            let happened_at = seconds(payload.get("event_timestamp")).or(told_at);
            Ok(Event {
                happened_at: happened_at.map_or(issued_at, |at| at.min(issued_at)),
                word,
                meaning,
                subjects,
            })
        });
        Ok(Self {
            jti: jti.to_owned(),
            issued_at,
            events: events.collect::<Result<_, SetError>>()?,
        })
    }
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

/// A `NumericDate`, without its fraction; none if it is not one.
fn seconds(value: Option<&Value>) -> Option<u64> {
    let value = value?;
    value.as_u64().or_else(|| {
        let date = value.as_number()?.to_string();
        date.split_once('.')?.0.parse().ok()
    })
}

/// The names in a subject. Formats that we do not know name nobody.
fn subjects(subject: &Value) -> Result<Vec<Subject>, SetError> {
    let bad = SetError::Request;
    let members = subject.as_object();
    let members = members.ok_or(bad("its subject is not an object"))?;
    let of = |name| text(members, name).map(str::to_owned);
    // RISC had another name for the format, and other spellings of those that there were.
    let format = text(members, "format").or_else(|| text(members, "subject_type"));
    let found = match format {
        Some("iss_sub" | "iss-sub" | "id_token_claims" | "id-token-claims") => of("iss")
            .zip(of("sub"))
            .map(|(iss, sub)| Subject::IssSub { iss, sub }),
        Some("opaque") => of("id").map(Subject::Opaque),
        Some("email") => of("email").map(Subject::Email),
        Some("aliases") => {
            let all = members.get("identifiers").and_then(Value::as_array);
            let all = all.ok_or(bad("its subject has no `identifiers`"))?;
            if all.len() > ALIASES_MAX {
                return Err(bad("its subject has very many `identifiers`"));
            }
            let mut names = Vec::new();
            for one in all {
                // RFC 9493 §3.2.8: no aliases within aliases.
                if one.get("format").and_then(Value::as_str) != Some("aliases") {
                    names.extend(subjects(one)?);
                }
            }
            return Ok(names);
        }
        // A complex subject: a user in a session, on a device, of a tenant. The user is meant.
        Some("complex") | None => {
            let parts = [
                "user",
                "device",
                "session",
                "application",
                "tenant",
                "org_unit",
                "group",
            ];
            if !parts.iter().any(|part| members.contains_key(*part)) {
                return Err(bad("its subject has no format that is read"));
            }
            return match members.get("user") {
                Some(user @ Value::Object(inner)) if !inner.contains_key("user") => subjects(user),
                Some(_) | None => Ok(Vec::new()),
            };
        }
        Some(_) => return Ok(Vec::new()),
    };
    let found = found.ok_or(bad("its subject lacks a member of its format"))?;
    Ok(vec![found])
}

/// What an event means, by its URI.
fn meaning(uri: &str, payload: &Map<String, Value>) -> (&'static str, Meaning) {
    let says = |name: &str| member(payload, name).and_then(Value::as_str).unwrap_or("");
    let is = |name: &str, value: &str| says(name).eq_ignore_ascii_case(value);
    if let Some(event) = uri.strip_prefix(CAEP) {
        return match event {
            "session-revoked" => cause("session-revoked", Cause::SessionRevoked),
            "token-claims-change" => cause("token-claims-change", Cause::ClaimsChanged),
            // A new credential takes nothing away from those who have the old ones.
            "credential-change" if is("change_type", "create") => {
                ("credential-change", Meaning::Nothing)
            }
            "credential-change" => cause("credential-change", Cause::CredentialChanged),
            "assurance-level-change" if is("change_direction", "increase") => {
                ("assurance-level-change", Meaning::Nothing)
            }
            "assurance-level-change" => cause("assurance-level-change", Cause::AssuranceLowered),
            "device-compliance-change" if is("current_status", "compliant") => {
                ("device-compliance-change", Meaning::Nothing)
            }
            "device-compliance-change" => {
                cause("device-compliance-change", Cause::DeviceNotCompliant)
            }
            "risk-level-change" => {
                let risk = if is("current_level", "low") {
                    Risk::Low
                } else if is("current_level", "medium") {
                    Risk::Medium
                } else {
                    // What cannot be read is taken for the worst.
                    Risk::High
                };
                ("risk-level-change", Meaning::Risk(risk))
            }
            _ => ("", Meaning::Nothing),
        };
    }
    if let Some(event) = uri.strip_prefix(RISC) {
        return match event {
            "account-disabled" => cause("account-disabled", Cause::Leaves),
            "account-purged" => cause("account-purged", Cause::Leaves),
            "account-enabled" => ("account-enabled", Meaning::Enabled),
            "account-credential-change-required" => cause(
                "account-credential-change-required",
                Cause::CredentialChanged,
            ),
            "credential-compromise" => cause("credential-compromise", Cause::CredentialCompromised),
            "identifier-changed" => cause("identifier-changed", Cause::IdentifierChanged),
            "identifier-recycled" => cause("identifier-recycled", Cause::IdentifierChanged),
            // Deprecated, and sent all the same.
            "sessions-revoked" => cause("sessions-revoked", Cause::SessionRevoked),
            _ => ("", Meaning::Nothing),
        };
    }
    match uri.strip_prefix(SSF) {
        Some("verification") => {
            let state = payload.get("state").and_then(Value::as_str);
            (
                "verification",
                Meaning::Verification(state.map(str::to_owned)),
            )
        }
        Some("stream-updated") if !is("status", "enabled") => ("stream-updated", Meaning::Stopped),
        Some("stream-updated") => ("stream-updated", Meaning::Nothing),
        Some(_) | None => ("", Meaning::Nothing),
    }
}

const fn cause(word: &'static str, cause: Cause) -> (&'static str, Meaning) {
    (word, Meaning::Cause(cause))
}

#[cfg(test)]
mod tests;
