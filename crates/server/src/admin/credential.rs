//! Named administrator credentials: an Ed25519 key in signed-note form, whose public half is in the
//! register, and requests that are signed with it.
//!
//! A request's signature is a signed note in a header. Its text binds the request to this node
//! (the control log's origin), to its method, target and body, to a moment, and to a nonce:
//!
//! ```text
//! tipstaff-admin/v1
//! acme.example/control/mfrggzdfmztwq2lk
//! POST /v1/agents/triage/suspend
//! e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
//! 2026-11-21T09:51:02.000123Z
//! k3v2…
//!
//! — ops 5f3a…
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ledger::note::{Note, NoteError, Signer};
use register::AdminKey;
use vocab::rng::RngError;
use vocab::{AdminId, Digest, Rng, Time};

use crate::keys;

/// The header that carries the signed note, in base 64.
pub const HEADER: http::HeaderName = http::HeaderName::from_static("tipstaff-admin");

const FORM: &str = "tipstaff-admin/v1";
/// How far a request's time and ours may lie apart. Both sides share a machine.
const WINDOW: Duration = Duration::from_secs(30);
/// Nonces remembered at once; each for as long as its request could be sent again.
const NONCES_MAX: usize = 10_000;

/// What a signature is about.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The node: its control log's origin.
    pub audience: &'a str,
    /// The HTTP method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// The body.
    pub body: &'a [u8],
}

impl Request<'_> {
    /// The text that is signed, up to its time.
    fn head(&self) -> String {
        let Self {
            audience,
            method,
            target,
            body,
        } = self;
        format!(
            "{FORM}\n{audience}\n{method} {target}\n{}\n",
            Digest::of(body)
        )
    }
}

/// Why a request was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RngError),
    /// The text cannot be signed.
    #[error("the request cannot be signed: {0}")]
    Note(#[from] NoteError),
}

/// The header's value for a request.
pub fn sign(
    request: &Request<'_>,
    signer: &Signer,
    now: Time,
    rng: &dyn Rng,
) -> Result<String, SignError> {
    let text = format!("{}{now}\n{}\n", request.head(), keys::random_label(rng)?);
    Ok(BASE64.encode(Note::sign(&text, signer)?.to_string()))
}

/// Why a signed request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Not a signed note, or not of this form.
    #[error("the request's signature cannot be read")]
    Form,
    /// No such credential, or not its signature.
    #[error(
        "the request is not signed by an administrator's key that this node knows; `tipstaff admin \
         list` has those there are, and who was removed is none of them"
    )]
    Signature,
    /// Signed for something else.
    #[error("the signature is for another request or another node")]
    Other,
    /// Too old, or from the future, or from before this start.
    #[error("the signature is not from now; check the clock and try again")]
    Time,
    /// Seen before.
    #[error("the signature was used before")]
    Replayed,
    /// Too many requests.
    #[error("too many signed requests at once")]
    Busy,
}

/// Checks signed requests, each once.
#[derive(Debug)]
pub struct Gate {
    audience: String,
    /// Signatures from before this are refused: which were used is not known any more.
    started: Time,
    used: Mutex<HashMap<String, Time>>,
}

impl Gate {
    /// A gate that remembers nothing yet.
    pub fn new(audience: &str, started: Time) -> Self {
        Self {
            audience: audience.to_owned(),
            started,
            used: Mutex::default(),
        }
    }

    /// Who signed the request, and with which key. `known` gives the key that an administrator has.
    pub fn check(
        &self,
        header: &str,
        (method, target, body): (&str, &str, &[u8]),
        now: Time,
        known: impl FnOnce(&AdminId) -> Option<AdminKey>,
    ) -> Result<AdminKey, Untrusted> {
        let note = BASE64
            .decode(header)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let note = Note::parse(&note.ok_or(Untrusted::Form)?).map_err(|_| Untrusted::Form)?;
        let name = note.signatures().first().ok_or(Untrusted::Form)?.name();
        let name: AdminId = name.parse().map_err(|_| Untrusted::Form)?;
        let key = known(&name).ok_or(Untrusted::Signature)?;
        note.verify(key.verifier())
            .map_err(|_| Untrusted::Signature)?;
        let request = Request {
            audience: &self.audience,
            method,
            target,
            body,
        };
        let rest = note
            .text()
            .strip_prefix(&request.head())
            .ok_or(Untrusted::Other)?;
        let (time, nonce) = rest.split_once('\n').ok_or(Untrusted::Form)?;
        let time: Time = time.parse().map_err(|_| Untrusted::Form)?;
        if time <= self.started || time > now.plus(WINDOW) || now > time.plus(WINDOW) {
            return Err(Untrusted::Time);
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= NONCES_MAX {
            used.retain(|_, at| now <= at.plus(WINDOW));
        }
        if used.len() >= NONCES_MAX {
            return Err(Untrusted::Busy);
        }
        match used.insert(format!("{name} {nonce}"), time) {
            None => Ok(key),
            Some(_) => Err(Untrusted::Replayed),
        }
    }
}

#[cfg(test)]
mod tests;
