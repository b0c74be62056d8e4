//! What is known of a log from elsewhere: from the other log, from anchors, from witnesses.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ledger::note::Note;
use ledger::verify::Known;
use ledger::{Entry, LogKeys, LogReader, Mention};
use register::Event;
use store::OfflineLog;
use vocab::{Digest, LogName};

use crate::anchor::cosigned;

/// A checkpoint in a file, not judged yet.
pub(super) struct Kept {
    pub(super) log: LogName,
    path: PathBuf,
    text: io::Result<String>,
}

impl Kept {
    /// The checkpoint, if a key of the log signed it.
    pub(super) fn open(&self, keys: &LogKeys) -> Result<Known, String> {
        let path = self.path.display();
        let bad = |why: &dyn std::fmt::Display| {
            format!("`{path}` is not a checkpoint of this log: {why}")
        };
        let text = self.text.as_ref().map_err(|error| bad(error))?;
        let note = Note::parse(text).map_err(|error| bad(&error))?;
        let checkpoint = keys.open_kept(&note).map_err(|error| bad(&error))?;
        Ok(Known {
            by: format!("`{path}`"),
            checkpoint,
        })
    }
}

/// The checkpoints that lie in `anchors`, and those that witnesses cosigned. `origins` are the
/// logs', as far as they are known.
pub(super) fn kept(data: &Path, anchors: &[PathBuf], origins: &[(LogName, &str)]) -> Vec<Kept> {
    let mut kept = Vec::new();
    for log in LogName::ALL {
        // Not every node has a witness, and a witness may know one log only.
        let cosigned = cosigned::files(data, log).into_iter();
        kept.extend(cosigned.map(|path| Kept::read(log, path)));
    }
    for anchor in anchors {
        if anchor.is_dir() {
            kept.extend(
                LogName::ALL.map(|log| Kept::read(log, anchor.join(format!("{log}.checkpoint")))),
            );
        } else {
            kept.push(Kept::alone(anchor.clone(), origins));
        }
    }
    kept
}

impl Kept {
    fn read(log: LogName, path: PathBuf) -> Self {
        let text = fs::read_to_string(&path);
        Self { log, path, text }
    }

    /// A checkpoint that its own origin says which log it is of. One of neither is held against the
    /// first, so that it is told.
    fn alone(path: PathBuf, origins: &[(LogName, &str)]) -> Self {
        let kept = Self::read(LogName::Control, path);
        let note = kept.text.as_ref().ok().and_then(|it| Note::parse(it).ok());
        let origin = note.as_ref().and_then(|note| note.text().lines().next());
        let log = origins.iter().find(|(_, it)| Some(*it) == origin);
        let log = log.map_or(kept.log, |(log, _)| *log);
        Self { log, ..kept }
    }
}

/// What the control log says of the log of calls, and the blobs that it names.
#[derive(Default)]
pub(super) struct Said {
    pub(super) calls: Vec<Known>,
    pub(super) blobs: BTreeMap<Digest, String>,
}

/// Reads the first `size` entries of the control log for what they say of calls, and all of them
/// for blobs.
pub(super) fn said(control: &OfflineLog, size: u64) -> Said {
    let mut said = Said::default();
    for index in 0..control.size() {
        // What cannot be read or is no entry is told by who verifies the log by itself.
        let Ok(bytes) = control.entry(index) else {
            break;
        };
        let event = Entry::parse(&bytes)
            .ok()
            .and_then(|entry| Event::read(&entry).ok());
        let (calls, blob) = match event {
            Some(Event::NodeStarted(body)) => (body.calls, None),
            Some(Event::NodeStopped(body)) => (body.calls, None),
            Some(Event::UpstreamConfigured(body)) => (None, Some(body.config)),
            Some(Event::ToolsListed(body)) => (None, Some(body.blob)),
            Some(Event::ToolsPinned(body)) => (None, Some(body.pins)),
            Some(Event::ToolJudged(body)) => (None, Some(body.pins)),
            Some(Event::PolicyActivated(body)) => (None, Some(body.set)),
            Some(_) | None => (None, None),
        };
        if index < size {
            said.calls
                .extend(calls.map(|it| by(LogName::Control, index, it)));
        }
        if let Some(digest) = blob {
            let first = said.blobs.entry(digest);
            first.or_insert_with(|| entry(LogName::Control, index));
        }
    }
    said
}

/// What an entry says of the other log.
pub(super) fn by(log: LogName, index: u64, mention: Mention) -> Known {
    Known {
        by: entry(log, index),
        checkpoint: mention.into(),
    }
}

/// An entry's name.
pub(super) fn entry(log: LogName, index: u64) -> String {
    format!("`{log}/{index}`")
}
