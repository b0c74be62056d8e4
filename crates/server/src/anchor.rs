//! Anchors: checkpoints pushed out of reach of whoever could replace the data folder.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ledger::note::{Note, Verifier};
use ledger::{Checkpoint, proof, witness};
use serde::Serialize;
use store::anchor::PathAnchor;
use tokio_util::sync::CancellationToken;
use vocab::{LogName, Time};

use crate::config::{Anchor, Config};
use crate::node::Shared;
use crate::{keys, outbound};

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
        config: &Config,
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
                let verifier = verifier(config, name)?;
                let held = Checkpoint::open(&held, &verifier).map_err(|error| {
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

/// The public key of a log of ours, from its secret one.
pub fn verifier(config: &Config, name: LogName) -> Result<Verifier, String> {
    let path = keys::log_key(&config.keys, name);
    let text = keys::read_secret(&path).map_err(|error| error.to_string())?;
    let signer: ledger::note::Signer = text
        .expose()
        .parse()
        .map_err(|_| format!("`{}` is not a key", path.display()))?;
    Ok(signer.verifier().clone())
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
    for (index, anchor) in shared.anchors.anchors.iter().enumerate() {
        let mut failure = None;
        // One log after the other: that a witness does not know one is no reason to leave out
        // the other.
        for (nth, name) in LogName::ALL.into_iter().enumerate() {
            let known = shared
                .anchors
                .with(index, |state| state.sizes.get(nth).copied());
            let known = known.flatten().flatten();
            let pushed = tokio::time::timeout(PUSH_TIMEOUT, push(shared, anchor, name, known));
            match pushed
                .await
                .unwrap_or_else(|_| Err("it took too long".to_owned()))
            {
                Ok(size) if size == known => {}
                Ok(size) => {
                    let now = shared.clock.now();
                    shared.anchors.with(index, |state| {
                        state.pushed_at = Some(now);
                        if let Some(slot) = state.sizes.get_mut(nth) {
                            *slot = size;
                        }
                    });
                }
                Err(error) => failure = Some(format!("{name}: {error}")),
            }
        }
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

/// Pushes the checkpoint of a log, unless the anchor has it. Says what size the anchor has then.
async fn push(
    shared: &Arc<Shared>,
    anchor: &Anchor,
    name: LogName,
    known: Option<u64>,
) -> Result<Option<u64>, String> {
    let log = Arc::clone(shared.log(name));
    let read = tokio::task::spawn_blocking(move || ledger::Log::reader(&*log).checkpoint());
    let text = read.await.map_err(|error| error.to_string())?;
    let Some(text) = text.map_err(|error| error.to_string())? else {
        return Ok(known);
    };
    let verifier = verifier(&shared.config, name)?;
    let checkpoint = Checkpoint::open(&text, &verifier).map_err(|error| error.to_string())?;
    if known == Some(checkpoint.size) {
        return Ok(known);
    }
    match anchor {
        Anchor::Path(folder) => {
            let folder = folder.clone();
            let write =
                tokio::task::spawn_blocking(move || PathAnchor::new(folder).push(name, &text));
            let written = write.await.map_err(|error| error.to_string())?;
            written.map_err(|error| error.to_string())?;
        }
        Anchor::Http(url) => {
            let (status, answer) = post(url, text).await?;
            if !status.is_success() {
                return Err(answered(status, &answer));
            }
        }
        Anchor::Witness { url, vkey } => {
            let seen = (checkpoint.size, &verifier);
            cosign(shared, name, (url, vkey), known, &text, seen).await?;
        }
    }
    Ok(Some(checkpoint.size))
}

fn answered(status: http::StatusCode, answer: &str) -> String {
    let answer = answer.chars().take(200).collect::<String>();
    format!("it answered {status}: {answer}")
}

/// Has a witness cosign a checkpoint, and keeps it with that cosignature beside the log.
async fn cosign(
    shared: &Arc<Shared>,
    name: LogName,
    (url, vkey): (&str, &str),
    last: Option<u64>,
    text: &str,
    (size, verifier): (u64, &Verifier),
) -> Result<(), String> {
    let key: Verifier = vkey
        .parse()
        .map_err(|error| format!("the witness's verifier key: {error}"))?;
    let endpoint = format!("{}/add-checkpoint", url.trim_end_matches('/'));
    let mut old = last.unwrap_or(0);
    // Twice at most: the first answer may be the size that the witness has really seen.
    for _ in 0..2 {
        let (log, verifier, text_sent) = (
            Arc::clone(shared.log(name)),
            verifier.clone(),
            text.to_owned(),
        );
        let made = tokio::task::spawn_blocking(move || {
            witness::request(ledger::Log::reader(&*log), &verifier, old, &text_sent)
        });
        let body = made.await.map_err(|error| error.to_string())?;
        let body = body.map_err(|error| error.to_string())?;
        let (status, answer) = post(&endpoint, body).await?;
        match status.as_u16() {
            200 => {
                let mut note = Note::parse(text).map_err(|error| error.to_string())?;
                let (cosignature, _) = witness::answer(&note, &key, &answer)
                    .map_err(|error| format!("its cosignature does not verify: {error}"))?;
                note.push(cosignature);
                return keep(shared, name, note.to_string()).await;
            }
            409 => {
                old = witness::conflict(&answer)
                    .ok_or_else(|| "it answered 409 without a size".to_owned())?;
                if old > size {
                    return Err(format!(
                        "it has seen {old} entries of `{name}`, more than the {size} there are"
                    ));
                }
            }
            404 => return Err("it does not know this log's origin".to_owned()),
            _ => return Err(answered(status, &answer)),
        }
    }
    Err("it kept saying that the size is stale".to_owned())
}

/// Keeps a cosigned checkpoint as `<log>.cosigned`; a crash leaves the old or the new one whole.
async fn keep(shared: &Arc<Shared>, name: LogName, note: String) -> Result<(), String> {
    let path = shared.config.data.join(format!("{name}.cosigned"));
    let write = tokio::task::spawn_blocking(move || {
        let beside = path.with_extension("cosigned.tmp");
        std::fs::write(&beside, note)?;
        std::fs::rename(&beside, &path)
    });
    write
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
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
