//! From the public keys that are trusted to those that sign the logs now.

use std::path::{Path, PathBuf};

use ledger::keys::{FollowError, events, follow};
use ledger::note::Verifier;
use ledger::tlog_proof::TlogProof;
use ledger::{LogKeys, LogReader};
use store::OfflineLog;
use vocab::LogName;

use super::{LedgerError, Proven, open, prove_by};
use crate::quorum::Quorum;

pub(super) fn vkey_path(data: &Path, vkeys: Option<&Path>, log: LogName) -> PathBuf {
    vkeys.unwrap_or(data).join(format!("{log}.vkey"))
}

/// A log's public key: one that was given, or the one that lies beside the log.
pub(super) fn vkey(
    data: &Path,
    vkeys: Option<&Path>,
    log: LogName,
) -> Result<Verifier, LedgerError> {
    let path = vkey_path(data, vkeys, log);
    let bad = |cause: String| LedgerError::Vkey {
        log,
        path: path.display().to_string(),
        cause,
    };
    let text = std::fs::read_to_string(&path).map_err(|error| bad(error.to_string()))?;
    text.trim_end()
        .parse()
        .map_err(|error: ledger::note::KeyError| bad(error.to_string()))
}

/// The keys of a log, as the control log has them, from a key that is trusted.
pub(crate) fn trusted(
    data: &Path,
    vkeys: Option<&Path>,
    log: LogName,
) -> Result<LogKeys, LedgerError> {
    let trusted = vkey(data, vkeys, log)?;
    if !data.join(LogName::Control.as_str()).is_dir() {
        return Ok(trusted.into());
    }
    let control = open(data, LogName::Control)?;
    let keys = match log {
        LogName::Control => follow(&control, &trusted, None)?.control,
        LogName::Calls => {
            let control_key = vkey(data, vkeys, LogName::Control).ok();
            of_calls(&control, control_key.as_ref(), &trusted)?
        }
    };
    Ok(keys)
}

/// The key of the log of calls changes by the word of the control log, whose key is needed only if
/// any did.
pub(super) fn of_calls(
    control: &dyn LogReader,
    control_key: Option<&Verifier>,
    trusted: &Verifier,
) -> Result<LogKeys, LedgerError> {
    let calls = match control_key {
        Some(key) => follow(control, key, Some(trusted))?.calls,
        None if events(control).map_err(FollowError::Read)?.is_empty() => None,
        None => return Err(LedgerError::NoControlKey),
    };
    Ok(calls.unwrap_or_else(|| trusted.clone().into()))
}

/// Both logs of a node, by their first keys: what leads from there to those that sign is handed out
/// with what is proven, so that whoever knows the first keys needs no log.
pub(crate) struct Way {
    data: PathBuf,
    control: OfflineLog,
    calls: OfflineLog,
    keys: [LogKeys; 2],
    steps: Vec<TlogProof>,
}

impl Way {
    /// From the data folder alone.
    pub(crate) fn of(data: &Path) -> Result<Self, LedgerError> {
        let calls = open(data, LogName::Calls)?;
        let control = open(data, LogName::Control)?;
        let [control_key, calls_key] =
            [LogName::Control, LogName::Calls].map(|log| vkey(data, None, log));
        let (control_key, calls_key) = (control_key?, calls_key?);
        let known = follow(&control, &control_key, Some(&calls_key))?;
        let first = |keys: Option<&LogKeys>, own: &Verifier| {
            let first = keys.and_then(|keys| keys.all().first());
            first.unwrap_or(own).clone()
        };
        let first_control = first(Some(&known.control), &control_key);
        let first_calls = first(known.calls.as_ref(), &calls_key);
        let way = follow(&control, &first_control, Some(&first_calls))?;
        let calls_keys = way.calls.unwrap_or_else(|| first_calls.into());
        Ok(Self {
            data: data.to_owned(),
            control,
            calls,
            keys: [way.control, calls_keys],
            steps: way.steps,
        })
    }

    /// Proves an entry.
    pub(crate) fn prove(
        &self,
        log: LogName,
        index: u64,
        quorum: Option<&Quorum>,
    ) -> Result<Proven, LedgerError> {
        let [control, calls] = &self.keys;
        let (reader, keys) = match log {
            LogName::Control => (&self.control, control),
            LogName::Calls => (&self.calls, calls),
        };
        prove_by(&self.data, reader, keys, log, index, quorum)
    }

    /// What leads from the first keys to those that sign.
    pub(crate) fn steps(&self) -> Vec<String> {
        self.steps.iter().map(TlogProof::to_string).collect()
    }
}
