//! Named administrator credentials: an Ed25519 key in signed-note form, whose public half lies in
//! `keys/admins/NAME`, and requests that are signed with it.
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
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ledger::note::{Note, NoteError, Signer, Verifier};
use vocab::rng::RngError;
use vocab::{AdminId, Digest, Rng, Time};

use crate::keys::{self, KeyError};

/// The header that carries the signed note, in base 64.
pub const HEADER: http::HeaderName = http::HeaderName::from_static("tipstaff-admin");

const FORM: &str = "tipstaff-admin/v1";
/// How far a request's time and ours may lie apart. Both sides share a machine.
const WINDOW: Duration = Duration::from_secs(30);
/// Nonces remembered at once; each for as long as its request could be sent again.
const NONCES_MAX: usize = 10_000;

/// Where the public halves lie.
pub fn folder(keys: &Path) -> PathBuf {
    keys.join("admins")
}

/// Why a credential was not made or removed.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A name that a file or a key cannot have, or that looks like a local user.
    #[error("`{0}` cannot be a credential's name; `:` and `+` are not allowed in it")]
    Name(AdminId),
    /// The name is taken.
    #[error(
        "there is an administrator `{0}` already; remove it first with `tipstaff admin remove`"
    )]
    Exists(AdminId),
    /// There is none of that name.
    #[error("there is no administrator `{0}`; `tipstaff admin list` shows those there are")]
    Unknown(AdminId),
    /// A key file could not be written or read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No key could be made.
    #[error(transparent)]
    Generate(#[from] ledger::note::GenerateError),
    /// The folder could not be read or changed.
    #[error("`{path}`: {cause}")]
    Folder {
        /// The path.
        path: String,
        /// What the system said.
        cause: io::Error,
    },
}

fn folder_error(path: &Path) -> impl FnOnce(io::Error) -> CredentialError {
    let path = path.display().to_string();
    move |cause| CredentialError::Folder { path, cause }
}

/// Makes a credential: the secret half goes to `key_out`, the public half into the keys folder.
pub fn add(
    keys: &Path,
    name: &AdminId,
    key_out: &Path,
    rng: &dyn Rng,
) -> Result<String, CredentialError> {
    if name.as_str().contains([':', '+']) {
        return Err(CredentialError::Name(name.clone()));
    }
    let folder = folder(keys);
    let public = folder.join(name.as_str());
    if public.exists() {
        return Err(CredentialError::Exists(name.clone()));
    }
    let signer = Signer::generate(name.as_str(), rng)?;
    keys::make_folder(&folder)?;
    keys::write_secret(key_out, signer.to_text().expose())?;
    let vkey = signer.verifier().to_string();
    // Last: a secret half without a public one opens nothing.
    if let Err(error) = keys::write_secret(&public, &vkey) {
        let _gone = fs::remove_file(key_out);
        return Err(error.into());
    }
    Ok(vkey)
}

/// The names of the credentials, sorted.
pub fn list(keys: &Path) -> Result<Vec<AdminId>, CredentialError> {
    let folder = folder(keys);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(folder_error(&folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(folder_error(&folder))?.file_name();
        names.extend(name.to_str().and_then(|name| name.parse().ok()));
    }
    names.sort();
    Ok(names)
}

/// Removes a credential; it opens nothing from the next request on.
pub fn remove(keys: &Path, name: &AdminId) -> Result<(), CredentialError> {
    let path = folder(keys).join(name.as_str());
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(CredentialError::Unknown(name.clone()))
        }
        done => done.map_err(folder_error(&path)),
    }
}

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
    #[error("the request is not signed by an administrator's key that this node knows")]
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
    folder: PathBuf,
    audience: String,
    /// Signatures from before this are refused: which were used is not known any more.
    started: Time,
    used: Mutex<HashMap<String, Time>>,
}

impl Gate {
    /// A gate that remembers nothing yet.
    pub fn new(keys: &Path, audience: &str, started: Time) -> Self {
        Self {
            folder: folder(keys),
            audience: audience.to_owned(),
            started,
            used: Mutex::default(),
        }
    }

    /// Who signed the request.
    pub fn check(
        &self,
        header: &str,
        method: &str,
        target: &str,
        body: &[u8],
        now: Time,
    ) -> Result<AdminId, Untrusted> {
        let note = BASE64
            .decode(header)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let note = Note::parse(&note.ok_or(Untrusted::Form)?).map_err(|_| Untrusted::Form)?;
        let name = note.signatures().first().ok_or(Untrusted::Form)?.name();
        let name: AdminId = name.parse().map_err(|_| Untrusted::Form)?;
        let key = fs::read_to_string(self.folder.join(name.as_str()));
        let key = key
            .ok()
            .and_then(|text| text.trim_end().parse::<Verifier>().ok());
        let key = key
            .filter(|key| key.name() == name.as_str())
            .ok_or(Untrusted::Signature)?;
        note.verify(&key).map_err(|_| Untrusted::Signature)?;
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
            None => Ok(name),
            Some(_) => Err(Untrusted::Replayed),
        }
    }
}

#[cfg(test)]
mod tests;
