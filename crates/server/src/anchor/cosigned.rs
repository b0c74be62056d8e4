//! What witnesses said of a log, kept beside it.
//!
//! `<log>.cosigned` is the newest checkpoint that a witness cosigned, with the cosignatures of all
//! who did. Of a witness that did not (it was down, or is configured no more), the last checkpoint
//! that it did cosign stays as `<log>.<key id>.cosigned`: nothing that a witness said is lost to
//! what another one says. Where a quorum is asked for, `<log>.quorum.cosigned` is the newest
//! checkpoint that has one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ledger::note::{KeyId, Note, Signature};
use vocab::LogName;

use crate::quorum::Quorum;

/// Adds cosignatures on a checkpoint, which has no signatures yet but the log's.
pub(super) fn keep(
    data: &Path,
    log: LogName,
    checkpoint: &Note,
    cosignatures: Vec<Signature>,
    quorum: Option<&Quorum>,
) -> io::Result<()> {
    let path = data.join(format!("{log}.cosigned"));
    let mut note = checkpoint.clone();
    for cosignature in cosignatures {
        note.push(cosignature);
    }
    if let Some(old) = read(&path)? {
        let (signed, cosigned): (Vec<_>, Vec<_>) = old
            .signatures()
            .iter()
            .partition(|signature| is_logs(&old, signature));
        for cosignature in cosigned {
            if note
                .signatures()
                .iter()
                .any(|it| key(it) == key(cosignature))
            {
                continue;
            }
            if old.text() == note.text() {
                note.push(cosignature.clone());
            } else {
                let mut left = old.clone().without_signatures();
                for it in &signed {
                    left.push(Signature::clone(it));
                }
                left.push(cosignature.clone());
                write(&left_by(data, log, cosignature), &left.to_string())?;
            }
        }
    }
    if quorum.is_some_and(|quorum| quorum.is_met(&note)) {
        write(
            &data.join(format!("{log}.quorum.cosigned")),
            &note.to_string(),
        )?;
    }
    write(&path, &note.to_string())?;
    for cosignature in note.signatures() {
        match fs::remove_file(left_by(data, log, cosignature)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => {}
        }
    }
    Ok(())
}

/// The files of what witnesses cosigned of a log, the newest checkpoint and older ones.
pub(crate) fn files(data: &Path, log: LogName) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(data)
        .into_iter()
        .flatten()
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.and_then(|name| name.strip_suffix(".cosigned"));
            name.and_then(|name| name.split('.').next()) == Some(log.as_str())
        })
        .collect();
    paths.sort();
    paths
}

/// Whether the log made a signature on its checkpoint: its keys have its origin as their name.
fn is_logs(checkpoint: &Note, signature: &Signature) -> bool {
    checkpoint.text().lines().next() == Some(signature.name())
}

fn key(signature: &Signature) -> (&str, KeyId) {
    (signature.name(), signature.id())
}

fn left_by(data: &Path, log: LogName, cosignature: &Signature) -> PathBuf {
    data.join(format!("{log}.{}.cosigned", cosignature.id()))
}

/// What was kept before; none if there is nothing, or nothing that can be read.
fn read(path: &Path) -> io::Result<Option<Note>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Note::parse(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A crash leaves the old or the new file whole.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("cosigned.tmp");
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests;
