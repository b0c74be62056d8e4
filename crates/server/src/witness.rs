//! `tipstaff witness`: cosigns the checkpoints of other people's logs, by C2SP tlog-witness.
//!
//! | route | is |
//! |---|---|
//! | `POST /add-checkpoint` | a log submits a checkpoint with the proof that it only grew, and gets a cosignature |
//! | `GET /{SHA-256 of the origin}/checkpoint` | the checkpoint cosigned last, for monitors |
//! | `GET /vkey` | the witness's public key, which is to be trusted from elsewhere |
//!
//! What it says is worth as much as what it remembers, so it answers only when that is durable,
//! judges one submission of a log at a time, and does not start on a memory that is damaged. It
//! has nothing to do with a node, and must not run on the machine, or in the hands, of whoever
//! runs the logs that it follows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as Segment, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use ledger::CheckpointError;
use ledger::cosignature::Cosigner;
use ledger::note::{self, Algorithm, Verifier};
use ledger::witness::submission::{Refused, SUBMISSION_BYTES_MAX, Seen, Submission};
use store::{CLOCK_BEHIND_MAX, Faults, SeenError, SeenFolder};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use vocab::{Clock, Digest, Rng};

use crate::keys::{self, KeyError};
use crate::listen;

/// Most logs that are followed.
const LOGS_MAX: usize = 1024;
/// Submissions that are judged at once; others wait for their turn.
const JUDGED_MAX: usize = 16;
/// How long the body of a submission may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// What the body of a conflict is.
const SIZE_TYPE: &str = "text/x.tlog.size";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// Why a witness does not start.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// Its key cannot be made or read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It has no key yet, and no name for one.
    #[error(
        "`{0}` has no key yet: `--name` says what its key is to be called, a URL without scheme \
         such as `witness.acme.example/w1`"
    )]
    NoName(String),
    /// It cannot be called so.
    #[error(
        "`{0}` cannot be the name of a key: it is a URL without scheme, such as \
         `witness.acme.example/w1`"
    )]
    Scheme(String),
    /// Not a name that a key can have.
    #[error("`{name}` cannot be the name of a key: {cause}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        cause: note::KeyError,
    },
    /// Its key is called otherwise.
    #[error(
        "the key in `{folder}` is called `{found}`, not `{given}`; a witness keeps its name: make \
         another one in a folder of its own"
    )]
    OtherName {
        /// The folder.
        folder: String,
        /// What it is called.
        found: String,
        /// What was given.
        given: String,
    },
    /// Its key is gone, and what it cosigned is there.
    #[error(
        "`{0}` remembers what was cosigned, and its key is missing; bring the key back, or make \
         another witness in a folder of its own"
    )]
    KeyGone(String),
    /// What is to be followed cannot be read.
    #[error("`{path}` does not hold public keys of logs: {cause}")]
    Logs {
        /// The file.
        path: String,
        /// Why.
        cause: String,
    },
    /// Too much is to be followed.
    #[error("at most {LOGS_MAX} logs are followed by one witness")]
    TooManyLogs,
    /// What it remembers cannot be believed.
    #[error(
        "{0}; a witness that has forgotten must not sign: make another one in a folder of its own"
    )]
    Memory(#[from] SeenError),
    /// What it remembers of a log is damaged, or was cosigned by another key.
    #[error(
        "what was cosigned last of `{origin}` is damaged, or by another key: {cause}; a witness \
         that has forgotten must not sign: make another one in a folder of its own"
    )]
    Damaged {
        /// The log.
        origin: String,
        /// What is wrong.
        cause: String,
    },
}

/// What a witness is made of.
#[derive(Debug)]
pub struct Setup {
    /// Its own folder: its key, and what it has seen.
    pub folder: PathBuf,
    /// What its key is to be called, or is called.
    pub name: Option<String>,
    /// Files with the public keys of the logs that it follows, one a line.
    pub logs: Vec<PathBuf>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The switch that makes its storage fail.
    pub faults: Faults,
}

/// A witness.
#[derive(Debug)]
pub struct Witness {
    folder: SeenFolder,
    cosigner: Cosigner,
    clock: Arc<dyn Clock>,
    /// By origin.
    logs: BTreeMap<String, Followed>,
    /// Origins by their SHA-256.
    hashes: BTreeMap<String, String>,
    judged: Semaphore,
}

/// A log that is followed.
#[derive(Debug)]
struct Followed {
    keys: Vec<Verifier>,
    /// Held from when a submission is judged until what came of it is durable.
    last: Mutex<Option<Kept>>,
}

/// What was cosigned last.
#[derive(Debug)]
struct Kept {
    seen: Seen,
    note: String,
}

impl Witness {
    /// Opens a witness's folder, and makes its key if it is the first time.
    pub fn open(setup: Setup, rng: &dyn Rng) -> Result<Self, WitnessError> {
        let keys = followed(&setup.logs)?;
        // The key is made after the list of what was cosigned, so it is never there without it.
        let has_begun = key_file(&setup.folder).exists();
        let folder = SeenFolder::open(&setup.folder, has_begun, setup.faults)?;
        let cosigner = cosigner(&folder, setup.name.as_deref(), rng)?;
        let mut logs = BTreeMap::new();
        let mut hashes = BTreeMap::new();
        // What is followed no more is looked at, too: damage to one is damage to all.
        for origin in folder.origins() {
            kept(&folder, &origin, &cosigner)?;
        }
        for (origin, keys) in keys {
            let last = Mutex::new(kept(&folder, &origin, &cosigner)?);
            hashes.insert(Digest::of(origin.as_bytes()).to_string(), origin.clone());
            logs.insert(origin, Followed { keys, last });
        }
        Ok(Self {
            folder,
            cosigner,
            clock: setup.clock,
            logs,
            hashes,
            judged: Semaphore::new(JUDGED_MAX),
        })
    }

    /// Its public key.
    pub const fn verifier(&self) -> &Verifier {
        self.cosigner.verifier()
    }

    /// The logs that it follows, by origin.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.logs.keys().map(String::as_str)
    }

    /// Judges the body of `add-checkpoint`. Blocks on the disk.
    pub fn add(&self, body: &[u8]) -> Answer {
        match self.judge(body) {
            Ok(cosignature) => Answer::Cosigned(cosignature),
            Err(Stopped::Refused(refused)) => Answer::Refused(refused),
            Err(Stopped::Failed(cause)) => Answer::Failed(cause),
        }
    }

    fn judge(&self, body: &[u8]) -> Result<String, Stopped> {
        let submission = Submission::parse(body)?;
        let log = self
            .logs
            .get(submission.origin())
            .ok_or(Refused::UnknownLog)?;
        let signed = submission.signed(&log.keys)?;
        let origin = signed.origin().to_owned();
        let checkpoint = signed.note().to_string();
        let mut last = lock(&log.last);
        let seen = last.as_ref().map(|kept| &kept.seen);
        let consistent = signed
            .continuing(seen)
            .inspect_err(|refused| self.told(&origin, &checkpoint, refused))?;
        let now = self.clock.now();
        let before = seen.map_or(now, |seen| seen.at);
        if now.plus(CLOCK_BEHIND_MAX) < before {
            return Err(Stopped::Failed(format!(
                "the clock says {now}, and something was cosigned at {before}"
            )));
        }
        let cosigned = consistent.cosign(&self.cosigner, now.max(before));
        // INVARIANT: the lock is held and the note durable before anybody sees the cosignature. A
        // crash after this leaves a checkpoint that its log may submit again.
        self.folder.put(&origin, &cosigned.note).map_err(|error| {
            Stopped::Failed(format!("what was cosigned cannot be kept: {error}"))
        })?;
        *last = Some(Kept {
            seen: cosigned.seen,
            note: cosigned.note,
        });
        Ok(cosigned.answer)
    }

    /// Says what a log did that signed its submission and was refused all the same.
    fn told(&self, origin: &str, checkpoint: &str, refused: &Refused) {
        if !matches!(refused, Refused::Fork { .. }) {
            tracing::debug!(log.origin = %origin, error = %refused, "A checkpoint was not cosigned");
            return;
        }
        tracing::error!(
            log.origin = %origin, error = %refused,
            "The log `{origin}` signed two histories; what it submitted is kept in `forks`"
        );
        if let Err(error) = self.folder.put_fork(origin, checkpoint) {
            tracing::error!(error = %error, "The contradicting checkpoint cannot be kept");
        }
    }

    /// What was cosigned last of the log whose origin has this SHA-256.
    fn last(&self, hash: &str) -> Option<String> {
        let log = self.logs.get(self.hashes.get(hash)?)?;
        lock(&log.last).as_ref().map(|kept| kept.note.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why there is no cosignature.
enum Stopped {
    Refused(Refused),
    Failed(String),
}

impl From<Refused> for Stopped {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// What came of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The line that is answered.
    Cosigned(String),
    /// It is not to be cosigned.
    Refused(Refused),
    /// The witness cannot cosign now; why is for its own log.
    Failed(String),
}

/// What a file of a log says, as far as this witness wrote it.
fn kept(
    folder: &SeenFolder,
    origin: &str,
    cosigner: &Cosigner,
) -> Result<Option<Kept>, WitnessError> {
    let damaged = |cause: String| WitnessError::Damaged {
        origin: origin.to_owned(),
        cause,
    };
    let Some(note) = folder.last(origin)? else {
        return Ok(None);
    };
    let seen = Seen::read(&note, cosigner.verifier())
        .map_err(|error: CheckpointError| damaged(error.to_string()))?;
    if seen.checkpoint.origin != origin {
        return Err(damaged(format!("it is of `{}`", seen.checkpoint.origin)));
    }
    Ok(Some(Kept { seen, note }))
}

/// Where a witness's key lies.
fn key_file(folder: &Path) -> PathBuf {
    folder.join("witness.skey")
}

fn cosigner(
    folder: &SeenFolder,
    name: Option<&str>,
    rng: &dyn Rng,
) -> Result<Cosigner, WitnessError> {
    let shown = || folder.path().display().to_string();
    let path = key_file(folder.path());
    if path.exists() {
        let text = keys::read_named_secret(&path)?;
        let cosigner: Cosigner = text.expose().parse().map_err(|_| KeyError::Form {
            path: path.display().to_string(),
            what: "the private key of a witness",
        })?;
        let found = cosigner.verifier().name();
        if let Some(given) = name.filter(|given| *given != found) {
            return Err(WitnessError::OtherName {
                folder: shown(),
                found: found.to_owned(),
                given: given.to_owned(),
            });
        }
        return Ok(cosigner);
    }
    if !folder.is_empty()? {
        return Err(WitnessError::KeyGone(shown()));
    }
    let name = name.ok_or_else(|| WitnessError::NoName(shown()))?;
    if name.contains("://") {
        return Err(WitnessError::Scheme(name.to_owned()));
    }
    let cosigner = Cosigner::generate(name, rng).map_err(|error| match error {
        note::GenerateError::Name(cause) => WitnessError::Name {
            name: name.to_owned(),
            cause,
        },
        note::GenerateError::Random(error) => KeyError::Random(error).into(),
    })?;
    keys::write_secret_whole(&path, cosigner.to_text().expose())?;
    Ok(cosigner)
}

/// Reads which logs are followed: public keys, one a line; several of one name are of one log.
fn followed(files: &[PathBuf]) -> Result<BTreeMap<String, Vec<Verifier>>, WitnessError> {
    let mut logs: BTreeMap<String, Vec<Verifier>> = BTreeMap::new();
    for path in files {
        let bad = |cause: String| WitnessError::Logs {
            path: path.display().to_string(),
            cause,
        };
        let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
        let lines = text.lines().map(str::trim);
        let mut found = false;
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let key: Verifier = line
                .parse()
                .map_err(|error| bad(format!("`{line}`: {error}")))?;
            if key.algorithm() != Algorithm::Ed25519 {
                return Err(bad(format!(
                    "`{line}` is the key of a witness, not of a log"
                )));
            }
            let keys = logs.entry(key.name().to_owned()).or_default();
            if !keys.contains(&key) {
                keys.push(key);
            }
            found = true;
        }
        if !found {
            return Err(bad("there is none in it".to_owned()));
        }
    }
    if logs.len() > LOGS_MAX {
        return Err(WitnessError::TooManyLogs);
    }
    Ok(logs)
}

/// Serves a witness until stopped.
pub async fn serve(witness: Arc<Witness>, listener: TcpListener, stop: CancellationToken) {
    listen::serve(listener, router(witness), stop).await;
}

fn router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{hash}/checkpoint", get(checkpoint))
        .route("/vkey", get(vkey))
        .with_state(witness)
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, body: Body) -> Response {
    let body = match read(body).await {
        Ok(body) => body,
        Err(status) => {
            return answer(
                status,
                TEXT_TYPE,
                "the body is too long, too slow or cut short\n",
            );
        }
    };
    // Carried out to its end even if whoever asked goes away.
    let judged = tokio::spawn(async move {
        let Ok(_place) = witness.judged.acquire().await else {
            return Answer::Failed("the witness stops".to_owned());
        };
        let judge = Arc::clone(&witness);
        tokio::task::spawn_blocking(move || judge.add(&body))
            .await
            .unwrap_or_else(|error| Answer::Failed(error.to_string()))
    });
    match judged.await {
        Ok(Answer::Cosigned(line)) => answer(StatusCode::OK, TEXT_TYPE, line),
        Ok(Answer::Refused(Refused::Conflict { seen })) => {
            answer(StatusCode::CONFLICT, SIZE_TYPE, format!("{seen}\n"))
        }
        Ok(Answer::Refused(refused)) => {
            let status = StatusCode::from_u16(refused.status());
            let status = status.unwrap_or(StatusCode::BAD_REQUEST);
            answer(status, TEXT_TYPE, format!("{refused}\n"))
        }
        Ok(Answer::Failed(cause)) => {
            tracing::error!("Nothing can be cosigned: {cause}");
            unavailable()
        }
        Err(_) => unavailable(),
    }
}

async fn checkpoint(
    State(witness): State<Arc<Witness>>,
    Segment(hash): Segment<String>,
) -> Response {
    match tokio::task::spawn_blocking(move || witness.last(&hash)).await {
        Ok(Some(note)) => answer(StatusCode::OK, TEXT_TYPE, note),
        Ok(None) => answer(StatusCode::NOT_FOUND, TEXT_TYPE, "nothing was cosigned\n"),
        Err(_) => unavailable(),
    }
}

async fn vkey(State(witness): State<Arc<Witness>>) -> Response {
    let key = witness.verifier().to_string();
    answer(StatusCode::OK, TEXT_TYPE, format!("{key}\n"))
}

async fn read(body: Body) -> Result<Bytes, StatusCode> {
    let read = Limited::new(body, SUBMISSION_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

fn unavailable() -> Response {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    answer(status, TEXT_TYPE, "the witness cannot cosign now\n")
}

fn answer(status: StatusCode, media_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
