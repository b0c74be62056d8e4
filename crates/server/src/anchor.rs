//! Anchors: checkpoints pushed out of reach of whoever could replace the data folder.

pub(crate) mod cosigned;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ledger::keys::follow;
use ledger::note::{Note, Signature, Verifier};
use ledger::{Checkpoint, proof, witness};
use serde::Serialize;
use store::anchor::PathAnchor;
use tokio_util::sync::CancellationToken;
use vocab::{LogName, Time};

use crate::config::Anchor;
use crate::node::Shared;
use crate::outbound;

/// How often checkpoints are pushed.
const PUSH_EVERY: Duration = Duration::from_secs(5);
/// How long one push may take.
const PUSH_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The configured anchors and how they are doing.
#[derive(Debug)]
pub struct Anchors {
    anchors: Vec<Anchor>,
    states: Mutex<Vec<AnchorState>>,
}

/// How one anchor is doing.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AnchorState {
    /// Where it is.
    pub place: String,
    /// The size of each log that it has, `control` and `calls`.
    pub sizes: [Option<u64>; 2],
    /// When something was last pushed.
    pub pushed_at: Option<Time>,
    /// What failed last, if the last push did.
    pub failure: Option<String>,
}

impl Anchors {
    /// Anchors that were not used yet.
    pub fn new(anchors: &[Anchor]) -> Self {
        let states = anchors
            .iter()
            .map(|anchor| AnchorState {
                place: place(anchor),
                ..AnchorState::default()
            })
            .collect();
        Self {
            anchors: anchors.to_vec(),
            states: Mutex::new(states),
        }
    }

    /// How they are doing.
    pub fn states(&self) -> Vec<AnchorState> {
        self.states
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn with<T>(&self, index: usize, change: impl FnOnce(&mut AnchorState) -> T) -> Option<T> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.get_mut(index).map(change)
    }

    /// Compares the logs with what path anchors hold: a log that is shorter than, or other than,
    /// what was anchored was rolled back.
    pub fn compare(
        &self,
        control: &store::FilesLog,
        calls: &store::FilesLog,
    ) -> Result<(), String> {
        for anchor in &self.anchors {
            let Anchor::Path(folder) = anchor else {
                continue;
            };
            let anchor = PathAnchor::new(folder);
            for (name, log) in [(LogName::Control, control), (LogName::Calls, calls)] {
                let place = folder.display();
                let held = anchor
                    .last(name)
                    .map_err(|error| format!("{place}: {error}"))?;
                let Some(held) = held else { continue };
                let held = held_by(&held, name, control, calls).map_err(|error| {
                    format!("the anchor {place} holds a checkpoint of `{name}` that is not ours: {error}")
                })?;
                let reader = ledger::Log::reader(log);
                let size = reader.size();
                if held.size > size {
                    return Err(format!(
                        "the anchor {place} has seen {} entries of `{name}`, and here are {size}; \
                         the data folder was rolled back",
                        held.size
                    ));
                }
                let root = proof::root(reader, held.size).map_err(|error| error.to_string())?;
                if root != held.root {
                    return Err(format!(
                        "the first {} entries of `{name}` are not those that the anchor {place} has \
                         seen; the data folder was replaced",
                        held.size
                    ));
                }
            }
        }
        Ok(())
    }
}

fn place(anchor: &Anchor) -> String {
    match anchor {
        Anchor::Path(path) => path.display().to_string(),
        Anchor::Http(url) => url.clone(),
        Anchor::Witness { url, .. } => format!("witness {url}"),
    }
}

/// Reads what an anchor holds of a log: a checkpoint by any key that the log ever had.
fn held_by(
    text: &str,
    name: LogName,
    control: &store::FilesLog,
    calls: &store::FilesLog,
) -> Result<Checkpoint, String> {
    let note = Note::parse(text).map_err(|error| error.to_string())?;
    let log = match name {
        LogName::Control => control,
        LogName::Calls => calls,
    };
    let own = log.verifiers();
    if let Ok(checkpoint) = Checkpoint::of_note_by(&note, &own) {
        return Ok(checkpoint);
    }
    let (control_keys, calls_keys) = (control.verifiers(), calls.verifiers());
    let present = |keys: &[Verifier]| keys.first().cloned().ok_or("the log has no key");
    let (control_key, calls_key) = (present(&control_keys)?, present(&calls_keys)?);
    let way = follow(ledger::Log::reader(control), &control_key, Some(&calls_key));
    let way = way.map_err(|error| error.to_string())?;
    let keys = way.of(name).ok_or("the log has no key")?;
    keys.open_kept(&note).map_err(|error| error.to_string())
}

/// Pushes new checkpoints to every anchor, until stopped.
pub async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    if shared.anchors.anchors.is_empty() {
        return;
    }
    loop {
        push_all(&shared).await;
        if stop
            .run_until_cancelled(tokio::time::sleep(PUSH_EVERY))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Pushes to every anchor the checkpoints that it does not have.
pub async fn push_all(shared: &Arc<Shared>) {
    let mut failures = vec![None; shared.anchors.anchors.len()];
    // One log after the other: that a witness does not know one is no reason to leave out the
    // other.
    for (nth, name) in LogName::ALL.into_iter().enumerate() {
        for (failure, error) in failures.iter_mut().zip(push_log(shared, nth, name).await) {
            if let Some(error) = error {
                *failure = Some(format!("{name}: {error}"));
            }
        }
    }
    for (index, failure) in failures.into_iter().enumerate() {
        shared.anchors.with(index, |state| {
            if let Some(error) = &failure
                && state.failure != failure
            {
                let place = &state.place;
                tracing::warn!("Checkpoints could not be anchored at {place}: {error}");
            }
            state.failure = failure;
        });
    }
}

/// The last checkpoint of a log.
struct Signed {
    log: LogName,
    text: String,
    size: u64,
    verifier: Verifier,
}

impl Signed {
    async fn last(shared: &Arc<Shared>, log: LogName) -> Result<Option<Self>, String> {
        let files = Arc::clone(shared.log(log));
        let read = tokio::task::spawn_blocking(move || ledger::Log::reader(&*files).checkpoint());
        let text = read.await.map_err(|error| error.to_string())?;
        let Some(text) = text.map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        // One of two while keys change; and the change may be under way.
        let mut keys = shared.log(log).verifiers().into_iter();
        let signed = keys.find_map(|key| Some((Checkpoint::open(&text, &key).ok()?, key)));
        let (checkpoint, verifier) = signed.ok_or("its checkpoint is by another key")?;
        Ok(Some(Self {
            log,
            text,
            size: checkpoint.size,
            verifier,
        }))
    }
}

/// What an anchor did with a checkpoint.
enum Pushed {
    /// It has it already.
    Had,
    Taken,
    Cosigned(Signature),
}

/// Pushes the checkpoint of a log, the same one to every anchor, and keeps what witnesses say to
/// it. Gives what failed at each anchor.
async fn push_log(shared: &Arc<Shared>, nth: usize, name: LogName) -> Vec<Option<String>> {
    let anchors = &shared.anchors.anchors;
    let signed = match Signed::last(shared, name).await {
        Ok(Some(signed)) => signed,
        Ok(None) => return vec![None; anchors.len()],
        Err(error) => return vec![Some(error); anchors.len()],
    };
    // At once: one that hangs does not keep the others waiting.
    let pushes = anchors.iter().enumerate().map(async |(index, anchor)| {
        let known = shared.anchors.with(index, |it| it.sizes.get(nth).copied());
        let known = known.flatten().flatten();
        if known == Some(signed.size) {
            return Ok(Pushed::Had);
        }
        let pushed = tokio::time::timeout(PUSH_TIMEOUT, push(shared, anchor, &signed, known));
        let late = |_| Err("it took too long".to_owned());
        pushed.await.unwrap_or_else(late)
    });
    let pushed = futures_util::future::join_all(pushes).await;
    let cosignatures = pushed.iter().filter_map(|pushed| match pushed {
        Ok(Pushed::Cosigned(cosignature)) => Some(cosignature.clone()),
        Ok(Pushed::Had | Pushed::Taken) | Err(_) => None,
    });
    let kept = keep(shared, &signed, cosignatures.collect()).await;
    let results = pushed.into_iter().enumerate();
    let failed = results.map(|(index, pushed)| match (pushed, &kept) {
        (Ok(Pushed::Had), _) => None,
        (Err(error), _) => Some(error),
        // It is asked for again.
        (Ok(Pushed::Cosigned(_)), Err(error)) => {
            Some(format!("its cosignature cannot be kept: {error}"))
        }
        (Ok(Pushed::Taken | Pushed::Cosigned(_)), _) => {
            let now = shared.clock.now();
            shared.anchors.with(index, |state| {
                state.pushed_at = Some(now);
                if let Some(slot) = state.sizes.get_mut(nth) {
                    *slot = Some(signed.size);
                }
            });
            None
        }
    });
    failed.collect()
}

/// Pushes a checkpoint to an anchor that has it not, and had `known` entries before.
async fn push(
    shared: &Arc<Shared>,
    anchor: &Anchor,
    signed: &Signed,
    known: Option<u64>,
) -> Result<Pushed, String> {
    match anchor {
        Anchor::Path(folder) => {
            let (folder, name, text) = (folder.clone(), signed.log, signed.text.clone());
            let write =
                tokio::task::spawn_blocking(move || PathAnchor::new(folder).push(name, &text));
            let written = write.await.map_err(|error| error.to_string())?;
            written.map_err(|error| error.to_string())?;
        }
        Anchor::Http(url) => {
            let (status, answer) = post(url, signed.text.clone()).await?;
            if !status.is_success() {
                return Err(answered(status, &answer));
            }
        }
        Anchor::Witness { url, key } => {
            let cosignature = cosign(shared, (url, key), known, signed).await?;
            return Ok(Pushed::Cosigned(cosignature));
        }
    }
    Ok(Pushed::Taken)
}

fn answered(status: http::StatusCode, answer: &str) -> String {
    let answer = answer.chars().take(200).collect::<String>();
    format!("it answered {status}: {answer}")
}

/// Has a witness cosign a checkpoint.
async fn cosign(
    shared: &Arc<Shared>,
    (url, key): (&str, &Verifier),
    last: Option<u64>,
    signed: &Signed,
) -> Result<Signature, String> {
    let endpoint = format!("{}/add-checkpoint", url.trim_end_matches('/'));
    let mut old = last.unwrap_or(0);
    // Twice at most: the first answer may be the size that the witness has really seen.
    for _ in 0..2 {
        let (log, verifier, text) = (
            Arc::clone(shared.log(signed.log)),
            signed.verifier.clone(),
            signed.text.clone(),
        );
        let made = tokio::task::spawn_blocking(move || {
            witness::request(ledger::Log::reader(&*log), &verifier, old, &text)
        });
        let body = made.await.map_err(|error| error.to_string())?;
        let body = body.map_err(|error| error.to_string())?;
        let (status, answer) = post(&endpoint, body).await?;
        match status.as_u16() {
            200 => {
                let note = Note::parse(&signed.text).map_err(|error| error.to_string())?;
                let (cosignature, _) = witness::answer(&note, key, &answer)
                    .map_err(|error| format!("its cosignature does not verify: {error}"))?;
                return Ok(cosignature);
            }
            409 => {
                old = witness::conflict(&answer)
                    .ok_or_else(|| "it answered 409 without a size".to_owned())?;
                if old > signed.size {
                    return Err(format!(
                        "it has seen {old} entries of `{}`, more than the {} there are",
                        signed.log, signed.size
                    ));
                }
            }
            404 => return Err("it does not know this log's origin".to_owned()),
            _ => return Err(answered(status, &answer)),
        }
    }
    Err("it kept saying that the size is stale".to_owned())
}

async fn keep(
    shared: &Arc<Shared>,
    signed: &Signed,
    cosignatures: Vec<Signature>,
) -> Result<(), String> {
    if cosignatures.is_empty() {
        return Ok(());
    }
    let note = Note::parse(&signed.text).map_err(|error| error.to_string())?;
    let (data, log) = (shared.config.data.clone(), signed.log);
    let quorum = shared.config.ledger.quorum.clone();
    let write = tokio::task::spawn_blocking(move || {
        cosigned::keep(&data, log, &note, cosignatures, quorum.as_ref())
    });
    let written = write.await.map_err(|error| error.to_string())?;
    written.map_err(|error| error.to_string())
}

async fn post(url: &str, body: String) -> Result<(http::StatusCode, String), String> {
    let request = http::Request::post(url)
        .header("content-type", "text/plain; charset=utf-8")
        .body(body.into())
        .map_err(|error| error.to_string())?;
    let answer = outbound::send(request, ANSWER_BYTES_MAX).await?;
    Ok((
        answer.status(),
        String::from_utf8_lossy(answer.body()).into_owned(),
    ))
}
