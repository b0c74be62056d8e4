//! The keys of a log's life.
//!
//! A log keeps its origin, which is the name of all its keys, and may change the key. The control
//! log says of both logs how that went:
//!
//! 1. *announced*: another key is to sign. For the control log's own key this entry lies under a
//!    checkpoint by the key before it, which is what hands over. For the key of `calls` the control
//!    log's word is enough, whoever has the old one.
//! 2. *activated*: from here on checkpoints are by the new key, and by the old one beside it, so
//!    that whoever knows either goes on. The entry of the control log's key has the checkpoint with
//!    it that hands over, since the log keeps only its last one.
//! 3. *retired*: the old key signs no more, and what it signs from here on is refused.
//!
//! [`follow`] goes from a key that is trusted to those that may sign now. Nothing that the entries
//! say is believed without the checkpoint that hands over. What it cannot show: whoever has an old
//! key can write another history that begins before the key was retired, and only a checkpoint of
//! the true one that somebody kept (an anchor, a witness, a newer key) contradicts it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vocab::id::LogName;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::entry::{Entry, Kind};
use crate::log::{LogReader, ReadError};
use crate::note::{Algorithm, KeyError, Note, NoteError, Verifier};
use crate::tlog_proof::{MakeError, TlogProof, TlogProofError};
use crate::verify::Known;

/// A log's public key in an entry: the text form of a [`Verifier`] of type
/// [`Algorithm::Ed25519`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogKey(Verifier);

impl LogKey {
    /// The key.
    pub const fn verifier(&self) -> &Verifier {
        &self.0
    }
}

impl TryFrom<Verifier> for LogKey {
    type Error = KeyError;

    fn try_from(verifier: Verifier) -> Result<Self, KeyError> {
        match verifier.algorithm() {
            Algorithm::Ed25519 => Ok(Self(verifier)),
            found @ Algorithm::CosignatureV1 => Err(KeyError::Algorithm {
                found: found.byte(),
            }),
        }
    }
}

impl Serialize for LogKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for LogKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        let key = text.parse::<Verifier>().and_then(Self::try_from);
        key.map_err(serde::de::Error::custom)
    }
}

/// Another key is to sign a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogKeyAnnounced {
    /// Which of the two logs.
    pub log: LogName,
    /// The key that signs it until then.
    pub by: LogKey,
    /// The key that is to sign.
    pub key: LogKey,
}

/// An announced key began to sign a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogKeyActivated {
    /// Which of the two logs.
    pub log: LogName,
    /// The key.
    pub key: LogKey,
    /// Of the control log's key: a checkpoint over the announcement, by the key before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

/// A key signs a log no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogKeyRetired {
    /// Which of the two logs.
    pub log: LogName,
    /// The key.
    pub key: LogKey,
    /// Whether somebody else may have it.
    pub compromised: bool,
}

/// What the control log says of a log's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// It is to sign.
    Announced(LogKeyAnnounced),
    /// It began to sign.
    Activated(LogKeyActivated),
    /// It signs no more.
    Retired(LogKeyRetired),
}

impl KeyEvent {
    const fn log(&self) -> LogName {
        match self {
            Self::Announced(body) => body.log,
            Self::Activated(body) => body.log,
            Self::Retired(body) => body.log,
        }
    }

    /// What an entry says of a key; none if it says something else.
    fn of(entry: &Entry<'_>) -> Result<Option<Self>, serde_json::Error> {
        let body = entry.body.get();
        Ok(Some(match entry.kind {
            Kind::LogKeyAnnounced => Self::Announced(serde_json::from_str(body)?),
            Kind::LogKeyActivated => Self::Activated(serde_json::from_str(body)?),
            Kind::LogKeyRetired => Self::Retired(serde_json::from_str(body)?),
            _ => return Ok(None),
        }))
    }
}

/// What the control log says of keys, each with the index of its entry. Nothing vouches for it yet.
pub fn events(control: &dyn LogReader) -> Result<Vec<(u64, KeyEvent)>, ReadError> {
    let mut events = Vec::new();
    for index in 0..control.size() {
        let bytes = control.entry(index)?;
        // Few entries are about keys; the others are not parsed.
        let needle = b"\"log-key-";
        if !bytes.windows(needle.len()).any(|part| part == needle) {
            continue;
        }
        let damaged = |cause: String| ReadError::Damaged {
            what: format!("entry {index}"),
            cause,
        };
        let entry = Entry::parse(&bytes).map_err(|error| damaged(error.to_string()))?;
        let event = KeyEvent::of(&entry).map_err(|error| damaged(error.to_string()))?;
        events.extend(event.map(|event| (index, event)));
    }
    Ok(events)
}

/// The keys of one log, as far as they are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogKeys {
    origin: String,
    /// Those that may have signed its last checkpoint, the newest last.
    signing: Vec<Verifier>,
    /// Those that sign no more, and the index of the entry of `control` that says so.
    retired: Vec<(Verifier, u64)>,
    /// All that ever signed or are to sign, oldest first.
    all: Vec<Verifier>,
}

impl From<Verifier> for LogKeys {
    /// A key that never changed.
    fn from(key: Verifier) -> Self {
        Self {
            origin: key.name().to_owned(),
            signing: vec![key.clone()],
            retired: Vec::new(),
            all: vec![key],
        }
    }
}

impl LogKeys {
    /// The log's origin.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Those that may have signed its last checkpoint, the newest last.
    pub fn signing(&self) -> &[Verifier] {
        &self.signing
    }

    /// All that ever signed or are to sign, oldest first.
    pub fn all(&self) -> &[Verifier] {
        &self.all
    }

    /// Whether an entry may name this key as the one that signs.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.all.iter().any(|key| key.key_name() == name)
    }

    /// Reads the log's last checkpoint.
    pub fn open(&self, note: &str) -> Result<Checkpoint, CheckpointError> {
        self.of_note(&Note::parse(note)?)
    }

    /// Like [`LogKeys::open`], of a note that has been read.
    pub fn of_note(&self, note: &Note) -> Result<Checkpoint, CheckpointError> {
        let checkpoint = Checkpoint::of_note_by(note, &self.signing);
        let Err(CheckpointError::Note(NoteError::Unsigned { .. })) = checkpoint else {
            return checkpoint;
        };
        let retired = self.retired.iter();
        let mut retired = retired.filter(|(key, _)| note.verify(key).is_ok());
        match retired.next() {
            Some((key, since)) => Err(CheckpointError::Retired {
                key: key.key_name(),
                since: *since,
            }),
            None => checkpoint,
        }
    }

    /// Reads a checkpoint that somebody kept: any key of the log's life may have signed it.
    pub fn open_kept(&self, note: &Note) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::of_note_by(note, &self.all)
    }

    /// The key before all that the control log says of this one, and what it says added.
    fn life(
        pinned: &Verifier,
        log: LogName,
        events: &[(u64, KeyEvent)],
    ) -> Result<Self, FollowError> {
        let mut all: Vec<Verifier> = Vec::new();
        for (index, event) in events.iter().filter(|(_, event)| event.log() == log) {
            if let KeyEvent::Announced(body) = event {
                let key = body.key.verifier();
                if key.name() != body.by.verifier().name() {
                    return Err(FollowError::Origin {
                        index: *index,
                        key: key.key_name(),
                    });
                }
                for key in [&body.by, &body.key] {
                    if !all.contains(key.verifier()) {
                        all.push(key.verifier().clone());
                    }
                }
            }
        }
        if all.is_empty() {
            all.push(pinned.clone());
        }
        if !all.contains(pinned) {
            return Err(FollowError::Unknown {
                log,
                given: pinned.key_name(),
                known: names(&all),
            });
        }
        Ok(Self {
            all,
            ..Self::from(pinned.clone())
        })
    }

    fn retire(&mut self, key: &Verifier, at: u64) {
        self.signing.retain(|it| it != key);
        self.retired.push((key.clone(), at));
    }
}

fn names(keys: &[Verifier]) -> String {
    let names: Vec<String> = keys
        .iter()
        .map(|key| format!("`{}`", key.key_name()))
        .collect();
    names.join(", ")
}

/// Why no way leads from the keys that are trusted to those that sign.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FollowError {
    /// A log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The trusted key is none of the log's.
    #[error("`{given}` is no key of the log `{log}`; its keys are {known}")]
    Unknown {
        /// The log.
        log: LogName,
        /// The trusted key.
        given: String,
        /// The log's keys.
        known: String,
    },
    /// An entry announces a key that has another name than the one before it.
    #[error("`control/{index}` announces `{key}`, which is named after another log")]
    Origin {
        /// The entry.
        index: u64,
        /// The key.
        key: String,
    },
    /// An entry has a key sign that nobody announced.
    #[error("`control/{index}` has `{key}` sign, which was announced nowhere before it")]
    Unannounced {
        /// The entry.
        index: u64,
        /// The key.
        key: String,
    },
    /// The key before it cannot hand over.
    #[error("`control/{index}` has `{key}` sign after `{by}`, which may not hand over any more")]
    Predecessor {
        /// The entry.
        index: u64,
        /// The key.
        key: String,
        /// The key before it.
        by: String,
    },
    /// Nothing by the key before it vouches for the announcement.
    #[error(
        "`control/{index}` does not show that `{key}` was announced under the key before it: {why}"
    )]
    Unproven {
        /// The entry.
        index: u64,
        /// The key.
        key: String,
        /// Why.
        why: String,
    },
}

/// What was followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The control log's keys.
    pub control: LogKeys,
    /// Those of the log of calls; none if no key of it was given.
    pub calls: Option<LogKeys>,
    /// The announcements that were relied on, each proven under a key before it: with them
    /// [`followed`] comes to the same keys without the logs.
    pub steps: Vec<TlogProof>,
    /// The checkpoints that handed over: the control log is a continuation of each.
    pub handed_over: Vec<Known>,
}

impl Followed {
    /// A log's keys.
    pub const fn of(&self, log: LogName) -> Option<&LogKeys> {
        match log {
            LogName::Control => Some(&self.control),
            LogName::Calls => self.calls.as_ref(),
        }
    }
}

/// Goes from trusted keys of the two logs to those that may sign now.
pub fn follow(
    reader: &dyn LogReader,
    control: &Verifier,
    calls: Option<&Verifier>,
) -> Result<Followed, FollowError> {
    let events = events(reader)?;
    let mut followed = Followed {
        control: LogKeys::life(control, LogName::Control, &events)?,
        calls: None,
        steps: Vec::new(),
        handed_over: Vec::new(),
    };
    for step in Step::all(LogName::Control, control, &events) {
        followed.hand_over(reader, &step)?;
    }
    if let Some(pinned) = calls {
        let mut keys = LogKeys::life(pinned, LogName::Calls, &events)?;
        for step in Step::all(LogName::Calls, pinned, &events) {
            followed.vouch(reader, &step, &mut keys)?;
        }
        followed.calls = Some(keys);
    }
    Ok(followed)
}

/// What follows after the trusted key came to sign.
enum Step<'a> {
    Activated {
        index: u64,
        body: &'a LogKeyActivated,
        announced: Option<(u64, &'a LogKeyAnnounced)>,
    },
    Retired {
        index: u64,
        key: &'a Verifier,
    },
}

impl<'a> Step<'a> {
    fn all(log: LogName, pinned: &Verifier, events: &'a [(u64, KeyEvent)]) -> Vec<Self> {
        let of = events.iter().filter(|(_, event)| event.log() == log);
        let mut announced: Vec<(u64, &LogKeyAnnounced)> = Vec::new();
        let mut steps = Vec::new();
        for (index, event) in of {
            let index = *index;
            match event {
                KeyEvent::Announced(body) => announced.push((index, body)),
                // Whoever trusts a key does not ask how it came to sign.
                KeyEvent::Activated(body) if body.key.verifier() == pinned => {
                    steps.retain(|step| matches!(step, Step::Retired { .. }));
                }
                KeyEvent::Activated(body) => {
                    let by = announced.iter().rev().find(|(_, it)| it.key == body.key);
                    steps.push(Step::Activated {
                        index,
                        body,
                        announced: by.copied(),
                    });
                }
                KeyEvent::Retired(body) => steps.push(Step::Retired {
                    index,
                    key: body.key.verifier(),
                }),
            }
        }
        steps
    }
}

impl Followed {
    /// The control log's key changes: by a checkpoint of the key before, over the announcement.
    fn hand_over(&mut self, reader: &dyn LogReader, step: &Step<'_>) -> Result<(), FollowError> {
        let (index, body, announced) = match *step {
            Step::Retired { index, key } => {
                self.control.retire(key, index);
                return Ok(());
            }
            Step::Activated {
                index,
                body,
                announced,
            } => (index, body, announced),
        };
        let key = || body.key.verifier().key_name();
        let unproven = |why: String| FollowError::Unproven {
            index,
            key: key(),
            why,
        };
        let (at, by) = announced.ok_or_else(|| FollowError::Unannounced { index, key: key() })?;
        let by = by.by.verifier();
        if !self.control.signing.contains(by) {
            return Err(FollowError::Predecessor {
                index,
                key: key(),
                by: by.key_name(),
            });
        }
        let note = body.checkpoint.clone();
        let note = note.ok_or_else(|| unproven("no checkpoint comes with it".to_owned()))?;
        let old = LogKeys::from(by.clone());
        let proof = proven(reader, at, &old, note.clone()).map_err(unproven)?;
        let checkpoint = old
            .open(&note)
            .map_err(|error| unproven(error.to_string()))?;
        self.handed_over.push(Known {
            by: format!("`control/{index}`"),
            checkpoint,
        });
        self.steps.push(proof);
        self.control.signing.push(body.key.verifier().clone());
        Ok(())
    }

    /// The key of `calls` changes: by the word of the control log.
    fn vouch(
        &mut self,
        reader: &dyn LogReader,
        step: &Step<'_>,
        keys: &mut LogKeys,
    ) -> Result<(), FollowError> {
        match *step {
            Step::Retired { index, key } => keys.retire(key, index),
            Step::Activated {
                index,
                body,
                announced,
            } => {
                let key = body.key.verifier();
                let (at, _) = announced.ok_or_else(|| FollowError::Unannounced {
                    index,
                    key: key.key_name(),
                })?;
                let note = reader.checkpoint()?.unwrap_or_default();
                let proof = proven(reader, at, &self.control, note);
                self.steps.push(proof.map_err(|why| FollowError::Unproven {
                    index,
                    key: key.key_name(),
                    why,
                })?);
                keys.signing.push(key.clone());
            }
        }
        Ok(())
    }
}

/// An entry of the control log, under a checkpoint by one of these keys; checked.
fn proven(
    reader: &dyn LogReader,
    index: u64,
    keys: &LogKeys,
    note: String,
) -> Result<TlogProof, String> {
    let proof = TlogProof::under(reader, index, keys, note);
    let proof = proof.map_err(|error: MakeError| chained(&error))?;
    let entry = proof.extra.as_deref().unwrap_or_default();
    let checked = proof.verify(entry, keys);
    checked.map_err(|error: TlogProofError| chained(&error))?;
    Ok(proof)
}

fn chained(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) if !error.to_string().contains(&cause.to_string()) => {
            format!("{error}: {cause}")
        }
        Some(_) | None => error.to_string(),
    }
}

/// Goes from trusted keys of the two logs to those that may sign, by announcements with their
/// proofs ([`Followed::steps`]) and without the logs. That a key was retired does not show in them.
pub fn followed(
    steps: &[TlogProof],
    control: &Verifier,
    calls: &Verifier,
) -> Result<[LogKeys; 2], FollowError> {
    let mut keys = [LogKeys::from(control.clone()), LogKeys::from(calls.clone())];
    let mut announced = Vec::new();
    for step in steps {
        let entry = step.extra.as_deref().unwrap_or_default();
        let body = Entry::parse(entry).ok();
        match body.map(|entry| KeyEvent::of(&entry)) {
            Some(Ok(Some(KeyEvent::Announced(body)))) => announced.push((step, body)),
            Some(_) | None => {
                return Err(FollowError::Unannounced {
                    index: step.index,
                    key: "a key".to_owned(),
                });
            }
        }
    }
    for log in LogName::ALL {
        let of = announced.iter().filter(|(_, body)| body.log == log);
        let of: Vec<_> = of.collect();
        let pinned = if log == LogName::Control {
            control
        } else {
            calls
        };
        // Whoever trusts a key does not ask how it came to sign.
        let known = of
            .iter()
            .rposition(|(_, body)| body.key.verifier() == pinned);
        for (step, body) in of.into_iter().skip(known.map_or(0, |at| at + 1)) {
            let [control, calls] = &mut keys;
            let (index, key, by) = (step.index, body.key.verifier(), body.by.verifier());
            let predecessor = match log {
                LogName::Control if control.signing.contains(by) => LogKeys::from(by.clone()),
                LogName::Calls if calls.signing.contains(by) => control.clone(),
                LogName::Control | LogName::Calls => {
                    return Err(FollowError::Predecessor {
                        index,
                        key: key.key_name(),
                        by: by.key_name(),
                    });
                }
            };
            let entry = step.extra.as_deref().unwrap_or_default();
            step.verify(entry, &predecessor)
                .map_err(|error| FollowError::Unproven {
                    index,
                    key: key.key_name(),
                    why: chained(&error),
                })?;
            let keys = if log == LogName::Control {
                control
            } else {
                calls
            };
            keys.signing.push(key.clone());
            keys.all.push(key.clone());
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests;
