//! `tipstaff ledger …`: the logs from their files alone, without a node and beside a running one.
//!
//! `verify`, `proof` and `export` need the public keys; `replay` needs the key that opens the
//! facts, too.

mod replay;
mod trust;
mod verify;

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ledger::keys::FollowError;
use ledger::proof::ProveError;
use ledger::tlog_proof::{MakeError, TlogProof};
use ledger::{CheckpointError, Entry, LogKeys, LogReader, ReadError, hash};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use store::OfflineLog;
use vocab::{Digest, LogName};

use crate::cli::{Cli, LedgerCommand, LedgerFiles, QuorumArgs};
use crate::config::{Anchor, Config, ConfigError, LedgerConfig};
use crate::output::count;
use crate::quorum::{Quorum, QuorumError, Short};
use crate::{keys, output};

pub use replay::{Difference, Replayed, replay};
pub(crate) use trust::{Way, trusted};
pub use verify::{BlobCheck, Checked, LogCheck, SnapshotCheck, verify};

/// Why a command had no result.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// No `--data`, and no configuration that says where the data lies.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nothing is where the command line says.
    #[error("there is no {what} `{path}`, which `{option}` names")]
    Nowhere {
        /// What should be there.
        what: &'static str,
        /// Where.
        path: String,
        /// The option.
        option: &'static str,
    },
    /// No log was ever begun there.
    #[error("there are no logs in `{data}`: no node has run on it yet, or it is no data folder")]
    NoLogs {
        /// The folder.
        data: String,
    },
    /// Not an entry's name.
    #[error("`{0}` is not an entry: an index in `calls` such as `17`, or `control/3`")]
    Index(String),
    /// A public key is missing or damaged.
    #[error("the public key of `{log}` cannot be had from `{path}`: {cause}")]
    Vkey {
        /// The log.
        log: LogName,
        /// The file.
        path: String,
        /// Why.
        cause: String,
    },
    /// The key does not vouch for the log's checkpoint.
    #[error(
        "`{path}` does not vouch for `{log}`: {cause}; `--vkeys DIR` names a folder with the keys \
         of these logs"
    )]
    NotSigned {
        /// The log.
        log: LogName,
        /// The key's file.
        path: String,
        /// Why.
        cause: CheckpointError,
    },
    /// Keys changed, and the key of the log that says so is not there.
    #[error(
        "the keys of the logs changed, and only the control log says to which: `control.vkey` is \
         needed, too"
    )]
    NoControlKey,
    /// No way leads from the key to those that sign the log now.
    #[error("{0}; `--vkeys DIR` names a folder with a key of each log that you trust")]
    Follow(#[from] FollowError),
    /// A log cannot be opened.
    #[error("the log `{log}` cannot be opened: {cause}")]
    Open {
        /// The log.
        log: LogName,
        /// Why.
        cause: String,
    },
    /// Something in a log cannot be read.
    #[error("{log}: {cause}")]
    Read {
        /// The log.
        log: LogName,
        /// Why.
        cause: ReadError,
    },
    /// Past the end.
    #[error("there is no entry {log}/{index}; that log has {}", count(*size, "entry", "entries"))]
    Absent {
        /// The log.
        log: LogName,
        /// What was asked for.
        index: u64,
        /// How many there are.
        size: u64,
    },
    /// Durable, and nothing signed vouches for it yet.
    #[error(
        "{log}/{index} is on record, but the checkpoint covers {} so far; a running node signs the \
         next within a second, and a stopped one when it starts",
        count(*signed, "entry", "entries")
    )]
    Unsigned {
        /// The log.
        log: LogName,
        /// The entry.
        index: u64,
        /// What is signed.
        signed: u64,
    },
    /// No proof could be made, or it does not hold.
    #[error("{log}/{index} cannot be proved: {cause}")]
    Proof {
        /// The log.
        log: LogName,
        /// The entry.
        index: u64,
        /// Why.
        cause: String,
    },
    /// Bytes that are not an entry.
    #[error("{log}/{index} is not an entry: {cause}")]
    Entry {
        /// The log.
        log: LogName,
        /// The entry.
        index: u64,
        /// Why.
        cause: String,
    },
    /// The key that opens the facts cannot be had.
    #[error(transparent)]
    Key(#[from] keys::KeyError),
    /// The keys of the facts cannot be opened.
    #[error("the facts cannot be opened with `{path}`: {cause}; `--facts-key` names another key")]
    Keyring {
        /// The key file.
        path: String,
        /// Why.
        cause: String,
    },
    /// The control log does not make sense.
    #[error("the control log cannot be folded: {0}")]
    Fold(#[from] register::FoldError),
    /// Not enough witnesses cosigned what is asked for.
    #[error(
        "{0}; nothing is handed out before, unless `--quorum 0` asks for what only the log itself says"
    )]
    Quorum(#[from] Short),
    /// There can be no such quorum.
    #[error("no quorum: {0}")]
    NoQuorum(#[from] QuorumError),
    /// The result cannot be written.
    #[error("the result cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl LedgerError {
    /// Whether the command was not asked as it can be.
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Index(_) | Self::NoQuorum(_))
    }
}

/// Runs `tipstaff ledger …`: success, or failure if something was found wrong.
pub fn run(command: &LedgerCommand, cli: &Cli) -> Result<ExitCode, LedgerError> {
    match command {
        LedgerCommand::Verify { anchor, files } => {
            let data = data_of(files, cli)?;
            for path in anchor {
                named(path, path.exists(), "checkpoint or folder", "--anchor")?;
            }
            let mut anchors = anchor.clone();
            if files.data.is_none() {
                anchors.extend(configured_anchors(cli));
            }
            let checked = verify(&data, files.vkeys.as_deref(), &anchors);
            show(cli, &checked, || checked.text(files.vkeys.is_none()))?;
            Ok(found(checked.verified))
        }
        LedgerCommand::Proof {
            index,
            quorum,
            files,
        } => {
            let (log, index) = entry_named(index)?;
            let quorum = quorum_of(quorum, files, cli)?;
            let (data, vkeys) = (data_of(files, cli)?, files.vkeys.as_deref());
            let proven = prove(&data, vkeys, log, index, quorum.as_ref())?;
            show(cli, &proven, || proven.proof.clone())?;
            Ok(ExitCode::SUCCESS)
        }
        LedgerCommand::Export { log, quorum, files } => {
            let logs = log.map_or(LogName::ALL.to_vec(), |log| vec![log]);
            let quorum = quorum_of(quorum, files, cli)?;
            let data = data_of(files, cli)?;
            let vkeys = files.vkeys.as_deref();
            signed(&data, vkeys, &logs)?;
            let mut parts = Vec::new();
            for log in logs {
                let part = exported(&data, vkeys, log, quorum.as_ref())?;
                if let Some(told) = part.told() {
                    output::warn(&told);
                }
                parts.push(part);
            }
            let mut out = BufWriter::new(io::stdout().lock());
            match export(&data, &parts, &mut out) {
                Err(LedgerError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
                exported => exported?,
            }
            Ok(ExitCode::SUCCESS)
        }
        LedgerCommand::Replay { files, facts_key } => {
            let data = data_of(files, cli)?;
            signed(&data, files.vkeys.as_deref(), &LogName::ALL)?;
            let key = facts_key.clone().or_else(|| configured_facts_key(cli));
            let shown = !cli.json && io::stderr().is_terminal();
            let replayed = replay::replay_telling(&data, key.as_deref(), &mut |done, of| {
                if shown {
                    let _unheard = write!(io::stderr(), "\r{done} of {of} entries\u{1b}[K");
                }
            });
            if shown {
                let _unheard = write!(io::stderr(), "\r\u{1b}[K");
            }
            let replayed = replayed?;
            show(cli, &replayed, || replayed.text(key.is_none()))?;
            Ok(found(replayed.is_good()))
        }
    }
}

fn show(cli: &Cli, value: &impl Serialize, text: impl FnOnce() -> String) -> io::Result<()> {
    if cli.json {
        output::print(&json!(value).to_string())
    } else {
        output::print(&text())
    }
}

fn found(right: bool) -> ExitCode {
    if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The folder that was named, or the configuration's.
fn data_of(files: &LedgerFiles, cli: &Cli) -> Result<PathBuf, LedgerError> {
    if let Some(vkeys) = &files.vkeys {
        named(vkeys, vkeys.is_dir(), "folder", "--vkeys")?;
    }
    let data = match &files.data {
        Some(data) => {
            named(data, data.is_dir(), "folder", "--data")?;
            data.clone()
        }
        None => Config::read(&cli.config)?.data,
    };
    if LogName::ALL
        .iter()
        .any(|log| data.join(log.as_str()).exists())
    {
        return Ok(data);
    }
    Err(LedgerError::NoLogs {
        data: data.display().to_string(),
    })
}

/// A slip in a path is not a fault of the logs.
fn named(
    path: &Path,
    is_there: bool,
    what: &'static str,
    option: &'static str,
) -> Result<(), LedgerError> {
    let path = || path.display().to_string();
    is_there.then_some(()).ok_or_else(|| LedgerError::Nowhere {
        what,
        path: path(),
        option,
    })
}

/// The folders that the configuration has its checkpoints anchored in, once something was.
fn configured_anchors(cli: &Cli) -> Vec<PathBuf> {
    let anchors = Config::read(&cli.config).map(|config| config.ledger.anchors);
    let folders = anchors
        .into_iter()
        .flatten()
        .filter_map(|anchor| match anchor {
            Anchor::Path(path) => Some(path),
            Anchor::Http(_) | Anchor::Witness { .. } => None,
        });
    let used = |path: &PathBuf| {
        LogName::ALL
            .iter()
            .any(|log| path.join(format!("{log}.checkpoint")).exists())
    };
    folders.filter(used).collect()
}

/// The configuration's facts key, if there is a configuration and it has its key.
fn configured_facts_key(cli: &Cli) -> Option<PathBuf> {
    let config = Config::read(&cli.config).ok()?;
    Some(keys::facts_key(&config.keys)).filter(|path| path.exists())
}

/// `17` is in `calls`.
fn entry_named(text: &str) -> Result<(LogName, u64), LedgerError> {
    let (log, index) = text
        .split_once('/')
        .unwrap_or((LogName::Calls.as_str(), text));
    let digits = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    match (log.parse(), index.parse()) {
        (Ok(log), Ok(index)) if digits => Ok((log, index)),
        _ => Err(LedgerError::Index(text.to_owned())),
    }
}

/// Who must have cosigned: those that the command line names, else the configuration's.
fn quorum_of(
    args: &QuorumArgs,
    files: &LedgerFiles,
    cli: &Cli,
) -> Result<Option<Quorum>, LedgerError> {
    let configured = || match Config::read(&cli.config) {
        Ok(config) => Ok(config.ledger),
        // A copy of a data folder may lie where there is no configuration, and then nobody asks.
        Err(ConfigError::Unreadable { cause, .. })
            if files.data.is_some() && cause.kind() == io::ErrorKind::NotFound =>
        {
            Ok(LedgerConfig::default())
        }
        Err(error) => Err(error),
    };
    match args.quorum {
        None => Ok(configured()?.quorum),
        Some(needed) if !args.witness.is_empty() => Ok(Quorum::new(needed, args.witness.clone())?),
        Some(0) => Ok(None),
        Some(needed) => Ok(Quorum::new(needed, configured()?.witnesses())?),
    }
}

fn open(data: &Path, log: LogName) -> Result<OfflineLog, LedgerError> {
    OfflineLog::open(data, log).map_err(|error| LedgerError::Open {
        log,
        cause: error.to_string(),
    })
}

/// Whether the checkpoints of these logs are signed with the keys that were given, or lie beside
/// them. Whether the entries are what was signed is for [`verify`] to say.
fn signed(data: &Path, vkeys: Option<&Path>, logs: &[LogName]) -> Result<(), LedgerError> {
    for &log in logs {
        // The log first: its keys may only be further on than its checkpoint.
        let checkpoint = open(data, log)?.checkpoint();
        let keys = trusted(data, vkeys, log)?;
        let checkpoint = checkpoint.map_err(|cause| LedgerError::Read { log, cause })?;
        if let Some(note) = checkpoint {
            keys.open(&note).map_err(|cause| LedgerError::NotSigned {
                log,
                path: trust::vkey_path(data, vkeys, log).display().to_string(),
                cause,
            })?;
        }
    }
    Ok(())
}

/// A proof that an entry is on record.
#[derive(Debug, Serialize)]
pub struct Proven {
    /// The log.
    pub log: LogName,
    /// The entry.
    pub index: u64,
    /// The hash of its bytes in the tree.
    pub leaf_hash: Digest,
    /// The proof, in the form of C2SP tlog-proof; the entry rides along.
    pub proof: String,
}

/// Proves an entry against the latest checkpoint, or against the latest that a quorum cosigned.
pub fn prove(
    data: &Path,
    vkeys: Option<&Path>,
    log: LogName,
    index: u64,
    quorum: Option<&Quorum>,
) -> Result<Proven, LedgerError> {
    let reader = open(data, log)?;
    let keys = trusted(data, vkeys, log)?;
    prove_by(data, &reader, &keys, log, index, quorum)
}

/// Like [`prove`], with the keys that are trusted.
fn prove_by(
    data: &Path,
    reader: &OfflineLog,
    keys: &LogKeys,
    log: LogName,
    index: u64,
    quorum: Option<&Quorum>,
) -> Result<Proven, LedgerError> {
    let size = reader.size();
    if index >= size {
        return Err(LedgerError::Absent { log, index, size });
    }
    let failed = |cause: String| LedgerError::Proof { log, index, cause };
    let made = match quorum {
        None => TlogProof::of(reader, index, keys),
        Some(quorum) => {
            let agreed = quorum.covering(data, log, keys, index + 1)?;
            TlogProof::under(reader, index, keys, agreed.note)
        }
    };
    let proof = made.map_err(|error| match error {
        MakeError::Prove(ProveError::Index { size: signed, .. }) => {
            LedgerError::Unsigned { log, index, signed }
        }
        MakeError::NoCheckpoint => LedgerError::Unsigned {
            log,
            index,
            signed: 0,
        },
        MakeError::Checkpoint(cause) => failed(format!("its checkpoint is not valid: {cause}")),
        MakeError::Read(cause) => failed(cause.to_string()),
        MakeError::Prove(cause) => failed(cause.to_string()),
    })?;
    let entry = reader
        .entry(index)
        .map_err(|cause| LedgerError::Read { log, cause })?;
    // Tiles may be damaged; a proof that does not hold is not handed out.
    proof
        .verify(&entry, keys)
        .map_err(|cause| failed(cause.to_string()))?;
    Ok(Proven {
        log,
        index,
        leaf_hash: hash::leaf(&entry),
        proof: proof.to_string(),
    })
}

#[derive(Serialize)]
struct Line<'a> {
    log: LogName,
    index: u64,
    leaf_hash: Digest,
    kind: &'a str,
    entry: &'a RawValue,
}

/// The part of a log that is exported: its first entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The log.
    pub log: LogName,
    /// How many entries.
    pub size: u64,
    /// How many come after them, which no quorum cosigned yet.
    pub left: u64,
}

impl Part {
    fn told(&self) -> Option<String> {
        let left = count(self.left, "entry", "entries");
        (self.left > 0).then(|| {
            format!(
                "note: {left} of `{}` after the first {} are left out: no checkpoint that covers them \
                 has the cosignatures that [ledger] quorum asks for",
                self.log, self.size
            )
        })
    }
}

/// What of a log can be exported: all of it, or what a quorum cosigned.
pub fn exported(
    data: &Path,
    vkeys: Option<&Path>,
    log: LogName,
    quorum: Option<&Quorum>,
) -> Result<Part, LedgerError> {
    let size = open(data, log)?.size();
    let Some(quorum) = quorum else {
        return Ok(Part { log, size, left: 0 });
    };
    let agreed = quorum.covering(data, log, &trusted(data, vkeys, log)?, 1)?;
    let agreed = agreed.checkpoint.size;
    Ok(Part {
        log,
        size: agreed,
        left: size.saturating_sub(agreed),
    })
}

/// Writes entries, each as a line of JSON.
pub fn export(data: &Path, parts: &[Part], out: &mut dyn Write) -> Result<(), LedgerError> {
    for &Part { log, size, .. } in parts {
        let reader = open(data, log)?;
        for index in 0..size {
            let bytes = reader
                .entry(index)
                .map_err(|cause| LedgerError::Read { log, cause })?;
            let bad = |cause: String| LedgerError::Entry { log, index, cause };
            let entry = Entry::parse(&bytes).map_err(|error| bad(error.to_string()))?;
            // The writer makes none; one here would break the line.
            if bytes.contains(&b'\n') {
                return Err(bad("it has a line break".to_owned()));
            }
            let line = Line {
                log,
                index,
                leaf_hash: hash::leaf(&bytes),
                kind: entry.kind.as_str(),
                entry: serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?,
            };
            serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests;
