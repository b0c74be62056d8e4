//! The keys that sign the logs, in the keys folder and on record.
//!
//! | file | is |
//! |---|---|
//! | `LOG.skey` | the key that signs |
//! | `LOG.next.skey` | the key that is to sign next, while one is |
//! | `LOG.past.skey` | the key before it, while that signs beside it |
//!
//! A rotation makes the second, announces it under a checkpoint by the first, copies the first to
//! the third, moves the second into the place of the first, has both sign, and says so. What a
//! crash leaves after each step, and what the next start (or the next change) makes of it:
//!
//! 1. the next key is made: nobody knows it, and it is removed;
//! 2. it is announced: the rotation is finished;
//! 3. the present key is copied: the same;
//! 4. the next key is in its place: it signs, and that is put on record;
//! 5. it signs: the same;
//! 6. it is on record: `LOG.vkey` is written again.
//!
//! When the overlap is over, an entry says that the old key is retired; then only the new one
//! signs; then the old file is removed. A crash between leaves an old key that the next start does
//! not use and removes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ledger::note::{Signer, Verifier};
use ledger::{Actor, Log as _, LogKey, LogKeyActivated, LogKeyAnnounced, LogKeyRetired};
use register::{
    Command, CommandError, Control, Done, LogKeyCommand, SigningKey, SigningLife, State,
};
use serde::Serialize;
use store::{FilesLog, Signers};
use tokio_util::sync::CancellationToken;
use vocab::{LogName, RecordRef, Rng, Time};

use crate::config::LogKeysConfig;
use crate::keys::{self, KeyError};
use crate::node::Shared;
use crate::rotation::LOOK_EVERY;

/// Why a log's key was not changed, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogKeyError {
    /// A key file cannot be made, read or moved.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The register did not take it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The last checkpoint could not be signed anew.
    #[error(
        "the last checkpoint of `{log}` cannot be signed with the key, which signs what comes next: {cause}"
    )]
    Sign {
        /// The log.
        log: LogName,
        /// Why.
        cause: ledger::AppendError,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ledger::ReadError),
    /// Something else than the log says lies in the keys folder.
    #[error(
        "`{path}` holds {what}, and the log is signed by `{present}`: put that key back from its \
         backup"
    )]
    Other {
        /// The file.
        path: String,
        /// What it holds.
        what: String,
        /// The key that signs by the log's own word.
        present: String,
    },
    /// A change is not over.
    #[error(
        "`{0}` signs beside the present key until the last change of keys is over; `tipstaff keys \
         revoke` ends that at once, and `[ledger] key_overlap_days` says how long it lasts"
    )]
    Overlap(String),
    /// No key of this id.
    #[error("no log has the key `{0}`; `tipstaff keys list` shows those there are")]
    Unknown(String),
    /// Keys that cannot sign one log together.
    #[error("{0}")]
    Form(String),
}

/// What a change of keys came to.
#[derive(Debug)]
pub struct Changed {
    /// The key that it is about.
    pub id: String,
    /// What says so.
    pub records: Vec<RecordRef>,
}

/// A log's key as people see it.
#[derive(Debug, Serialize)]
pub struct LogKeyView {
    /// The log, and the key's short id.
    pub id: String,
    /// The log.
    pub of: LogName,
    /// What it signs with.
    pub algorithm: &'static str,
    /// `announced`, `current`, `past`, `retired` or `compromised`.
    pub status: &'static str,
    /// Since when it is so; none for a key that never changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// The public key.
    pub vkey: String,
}

/// What a key is called on a command line: `control+1f2e3d4c`.
fn id(log: LogName, key: &Verifier) -> String {
    format!("{log}+{}", key.id())
}

/// Where the keys lie and where they sign.
#[derive(Debug, Clone, Copy)]
pub struct Logs<'a> {
    /// The keys folder.
    pub keys: &'a Path,
    /// The data folder.
    pub data: &'a Path,
    /// The register.
    pub control: &'a Arc<Control>,
    /// The control log.
    pub control_log: &'a FilesLog,
    /// The log of calls.
    pub calls_log: &'a FilesLog,
    /// Randomness.
    pub rng: &'a dyn Rng,
}

impl<'a> Logs<'a> {
    /// Those of a running node.
    pub fn of(shared: &'a Shared) -> Self {
        Self {
            keys: &shared.config.keys,
            data: &shared.config.data,
            control: shared.plane.control(),
            control_log: &shared.control_log,
            calls_log: &shared.calls_log,
            rng: &*shared.rng,
        }
    }

    const fn log(&self, log: LogName) -> &'a FilesLog {
        match log {
            LogName::Control => self.control_log,
            LogName::Calls => self.calls_log,
        }
    }

    /// The keys of both logs, the last first.
    pub fn views(&self) -> Vec<LogKeyView> {
        let mut views = Vec::new();
        for log in LogName::ALL {
            let known = self.known(log);
            let view = |key: &Verifier, status, since| LogKeyView {
                id: id(log, key),
                of: log,
                algorithm: "Ed25519",
                status,
                since,
                vkey: key.to_string(),
            };
            for it in known.iter().rev() {
                let life = &it.life;
                views.push(view(it.key.verifier(), life.as_str(), Some(life.since())));
            }
            if known.is_empty() {
                let own = self.log(log).verifiers();
                views.extend(own.first().map(|key| view(key, "current", None)));
            }
        }
        views
    }

    fn known(&self, log: LogName) -> Vec<SigningKey> {
        self.control.view(|state| known(state, log))
    }
}

fn known(state: &State, log: LogName) -> Vec<SigningKey> {
    let keys = state.log_keys().iter().filter(|it| it.log == log);
    keys.cloned().collect()
}

/// What lies in the keys folder for one log.
struct Files {
    present: Signer,
    next: Option<Signer>,
    past: Option<Signer>,
}

impl Files {
    fn read(folder: &Path, log: LogName) -> Result<Self, KeyError> {
        let optional = |path: PathBuf| {
            let there = path.exists();
            there.then(|| keys::read_log_key(&path)).transpose()
        };
        let present = keys::read_log_key(&keys::log_key(folder, log))?;
        let past = optional(keys::past_log_key(folder, log))?;
        Ok(Self {
            next: optional(keys::next_log_key(folder, log))?,
            // A change that a crash cut short before anything was moved.
            past: past.filter(|past| past.verifier() != present.verifier()),
            present,
        })
    }

    fn signers(self) -> Result<Signers, LogKeyError> {
        match self.past {
            None => Ok(self.present.into()),
            Some(past) => Signers::new(self.present, past)
                .map_err(|error| LogKeyError::Form(error.to_string())),
        }
    }
}

/// What signs a log, by the keys folder alone; [`check`] holds it against the log.
pub fn signers(folder: &Path, log: LogName) -> Result<Signers, LogKeyError> {
    Files::read(folder, log)?.signers()
}

/// Holds what lies in the keys folder against what the log says of its keys.
pub fn check(folder: &Path, state: &State) -> Result<(), LogKeyError> {
    for log in LogName::ALL {
        let known = known(state, log);
        let files = Files::read(folder, log)?;
        let current = known.iter().find(|it| is_current(it));
        let present = current.map_or(files.present.verifier(), |it| it.key.verifier());
        if known.is_empty() && files.past.is_none() {
            continue;
        }
        let present_file = files.present.verifier();
        let held = [
            (keys::log_key(folder, log), Some(&files.present), true),
            (keys::past_log_key(folder, log), files.past.as_ref(), false),
        ];
        for (path, signer, is_present) in held {
            let Some(key) = signer.map(Signer::verifier) else {
                continue;
            };
            let life = known.iter().find(|it| it.key.verifier() == key);
            let good = match life.map(|it| it.life) {
                Some(SigningLife::Announced { .. }) => is_present,
                Some(SigningLife::Current { .. }) => {
                    // Beside an announced key that lies in its place already.
                    is_present || current.is_some_and(|it| it.key.verifier() != present_file)
                }
                Some(
                    SigningLife::Past { .. }
                    | SigningLife::Retired { .. }
                    | SigningLife::Compromised { .. },
                ) => !is_present,
                None => is_present && known.is_empty(),
            };
            if !good {
                let what = match life {
                    Some(it) => format!("a key that is {}", it.life.as_str()),
                    None => "a key that was announced nowhere".to_owned(),
                };
                return Err(LogKeyError::Other {
                    path: path.display().to_string(),
                    what,
                    present: present.key_name(),
                });
            }
        }
    }
    Ok(())
}

const fn is_current(it: &SigningKey) -> bool {
    matches!(it.life, SigningLife::Current { .. })
}

/// What keys of logs are changed with. One change at a time.
#[derive(Debug)]
pub struct LogRotation {
    config: LogKeysConfig,
    node: Actor,
    changing: tokio::sync::Mutex<()>,
    /// Whether a change was begun and not finished.
    unsettled: AtomicBool,
}

impl LogRotation {
    /// By this configuration.
    pub fn new(config: LogKeysConfig, node: &str) -> Self {
        Self {
            config,
            node: Actor::node(node),
            changing: tokio::sync::Mutex::default(),
            unsettled: AtomicBool::new(false),
        }
    }

    /// Finishes or undoes what a crash, or a failure, left of a change.
    pub async fn settle(&self, logs: &Logs<'_>) -> Result<(), LogKeyError> {
        let _alone = self.changing.lock().await;
        for log in LogName::ALL {
            self.settle_log(logs, log).await?;
        }
        self.unsettled.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn settle_log(&self, logs: &Logs<'_>, log: LogName) -> Result<(), LogKeyError> {
        let files = Files::read(logs.keys, log)?;
        let life = |key: &Verifier| {
            let mut known = logs.known(log).into_iter();
            known.find(|it| it.key.verifier() == key).map(|it| it.life)
        };
        let next = files.next.as_ref().map(|next| life(next.verifier()));
        match next {
            None => {}
            Some(Some(SigningLife::Announced { .. })) => {
                return self.promote(logs, log, self.node.clone()).await.map(drop);
            }
            // Nobody knows it, or it has signed already.
            Some(_) => remove(&keys::next_log_key(logs.keys, log))?,
        }
        if matches!(
            life(files.present.verifier()),
            Some(SigningLife::Announced { .. })
        ) {
            return self.activate(logs, log, self.node.clone()).await.map(drop);
        }
        for it in logs.known(log) {
            match it.life {
                // Its file is gone: it will never sign.
                SigningLife::Announced { .. } => {
                    self.retired(logs, log, &it.key, (self.node.clone(), false))
                        .await?;
                }
                SigningLife::Past { .. } if files.past.is_none() => {
                    self.end(logs, log, &it.key, (self.node.clone(), false))
                        .await?;
                }
                SigningLife::Current { .. }
                | SigningLife::Past { .. }
                | SigningLife::Retired { .. }
                | SigningLife::Compromised { .. } => {}
            }
        }
        let past = files.past.as_ref().map(|past| life(past.verifier()));
        if let Some(Some(SigningLife::Retired { .. } | SigningLife::Compromised { .. })) = past {
            self.alone(logs, log).await?;
        }
        let leftover = keys::past_log_key(logs.keys, log);
        if files.past.is_none() && leftover.exists() {
            remove(&leftover)?;
        }
        if !logs.known(log).is_empty() {
            write_vkey(logs, log)?;
        }
        Ok(())
    }

    /// Has another key sign a log, the present one beside it until the overlap is over.
    pub async fn rotate(
        &self,
        logs: &Logs<'_>,
        log: LogName,
        actor: Actor,
    ) -> Result<Changed, LogKeyError> {
        let _alone = self.changing.lock().await;
        let past = logs.known(log);
        let past = past
            .iter()
            .find(|it| matches!(it.life, SigningLife::Past { .. }));
        if let Some(past) = past {
            return Err(LogKeyError::Overlap(id(log, past.key.verifier())));
        }
        self.unsettled.store(true, Ordering::Relaxed);
        let changed = self.change(logs, log, actor).await?;
        self.unsettled.store(false, Ordering::Relaxed);
        Ok(changed)
    }

    /// Says that somebody else may have a key. If it is the one that signs, another one takes its
    /// place first, and it signs nothing beside that.
    pub async fn revoke(
        &self,
        logs: &Logs<'_>,
        given: &str,
        actor: Actor,
    ) -> Result<Changed, LogKeyError> {
        let _alone = self.changing.lock().await;
        let unknown = || LogKeyError::Unknown(given.to_owned());
        let views = logs.views();
        let found = views.iter().find(|view| view.id == given);
        let view = found.ok_or_else(unknown)?;
        let (log, key) = (view.of, key(&view.vkey)?);
        self.unsettled.store(true, Ordering::Relaxed);
        let mut records = Vec::new();
        if view.status == "current" {
            for it in logs.known(log) {
                if matches!(it.life, SigningLife::Past { .. }) {
                    let by = (self.node.clone(), false);
                    records.extend(self.end(logs, log, &it.key, by).await?);
                }
            }
            records.extend(self.change(logs, log, actor.clone()).await?.records);
        }
        let next = view.status == "announced";
        records.extend(self.end(logs, log, &key, (actor, true)).await?);
        if next {
            remove(&keys::next_log_key(logs.keys, log))?;
        }
        self.unsettled.store(false, Ordering::Relaxed);
        Ok(Changed {
            id: given.to_owned(),
            records,
        })
    }

    /// Steps 1 and 2, and all that follows.
    async fn change(
        &self,
        logs: &Logs<'_>,
        log: LogName,
        actor: Actor,
    ) -> Result<Changed, LogKeyError> {
        self.settle_log(logs, log).await?;
        let present = keys::read_log_key(&keys::log_key(logs.keys, log))?;
        let form = |error: &dyn std::fmt::Display| LogKeyError::Form(error.to_string());
        let next = Signer::generate(present.name(), logs.rng).map_err(|error| form(&error))?;
        let path = keys::next_log_key(logs.keys, log);
        keys::write_secret_whole(&path, next.to_text().expose())?;
        sync(logs.keys, &path)?;
        let announce = LogKeyCommand::Announce(LogKeyAnnounced {
            log,
            by: public(&present)?,
            key: public(&next)?,
        });
        let mut records = execute(logs, actor.clone(), announce).await?;
        let changed = self.promote(logs, log, actor).await?;
        records.extend(changed.records);
        Ok(Changed { records, ..changed })
    }

    /// Steps 3 and 4, and all that follows.
    async fn promote(
        &self,
        logs: &Logs<'_>,
        log: LogName,
        actor: Actor,
    ) -> Result<Changed, LogKeyError> {
        let present = keys::log_key(logs.keys, log);
        let (past, next) = (
            keys::past_log_key(logs.keys, log),
            keys::next_log_key(logs.keys, log),
        );
        if past.exists() {
            remove(&past)?;
        }
        keys::write_secret_whole(&past, keys::read_secret(&present)?.expose())?;
        sync(logs.keys, &past)?;
        fs::rename(&next, &present).map_err(|cause| KeyError::Write {
            path: present.display().to_string(),
            cause,
        })?;
        sync(logs.keys, &present)?;
        self.activate(logs, log, actor).await
    }

    /// Steps 5 and 6, and `LOG.vkey`.
    async fn activate(
        &self,
        logs: &Logs<'_>,
        log: LogName,
        actor: Actor,
    ) -> Result<Changed, LogKeyError> {
        let files = Files::read(logs.keys, log)?;
        let key = public(&files.present)?;
        sign_with(logs, log, files.signers()?).await?;
        let checkpoint = match log {
            LogName::Control => logs.control_log.reader().checkpoint()?,
            LogName::Calls => None,
        };
        let id = id(log, key.verifier());
        let activate = LogKeyCommand::Activate(LogKeyActivated {
            log,
            key,
            checkpoint,
        });
        let records = execute(logs, actor, activate).await?;
        write_vkey(logs, log)?;
        Ok(Changed { id, records })
    }

    /// Says that a key signs no more, and sees to it.
    async fn end(
        &self,
        logs: &Logs<'_>,
        log: LogName,
        key: &LogKey,
        by: (Actor, bool),
    ) -> Result<Vec<RecordRef>, LogKeyError> {
        let records = self.retired(logs, log, key, by).await?;
        self.alone(logs, log).await?;
        Ok(records)
    }

    async fn retired(
        &self,
        logs: &Logs<'_>,
        log: LogName,
        key: &LogKey,
        (actor, compromised): (Actor, bool),
    ) -> Result<Vec<RecordRef>, LogKeyError> {
        let retire = LogKeyCommand::Retire(LogKeyRetired {
            log,
            key: key.clone(),
            compromised,
        });
        execute(logs, actor, retire).await
    }

    /// Has the present key sign alone, and removes the one before it.
    async fn alone(&self, logs: &Logs<'_>, log: LogName) -> Result<(), LogKeyError> {
        let files = Files::read(logs.keys, log)?;
        sign_with(logs, log, files.present.into()).await?;
        let past = keys::past_log_key(logs.keys, log);
        if past.exists() {
            remove(&past)?;
            sync(logs.keys, &past)?;
        }
        Ok(())
    }

    /// Changes keys that are due, ends overlaps that are over, and finishes what failed.
    pub async fn look(&self, logs: &Logs<'_>, now: Time) -> Result<(), LogKeyError> {
        if self.unsettled.load(Ordering::Relaxed) {
            self.settle(logs).await?;
        }
        for log in LogName::ALL {
            let known = logs.known(log);
            let over = known.iter().find(|it| match it.life {
                SigningLife::Past { since } => since.plus(self.config.overlap) <= now,
                _ => false,
            });
            if let Some(over) = over {
                let _alone = self.changing.lock().await;
                self.end(logs, log, &over.key, (self.node.clone(), false))
                    .await?;
                tracing::info!(log = %log, "The key before the present one signs `{log}` no more");
            }
            let current = known.iter().find(|it| is_current(it));
            let overlaps = known
                .iter()
                .any(|it| matches!(it.life, SigningLife::Past { .. }));
            let since = match current {
                Some(it) => Some(it.life.since()),
                None => begun(logs)?,
            };
            if let (Some(every), Some(since), false) = (self.config.rotation, since, overlaps)
                && since.plus(every) <= now
            {
                let changed = self.rotate(logs, log, self.node.clone()).await?;
                tracing::info!(log = %log, "The key `{}` signs `{log}` from now on", changed.id);
            }
        }
        Ok(())
    }
}

/// Looks after the keys until stopped.
pub async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let now = shared.clock.now();
        if let Err(error) = shared.log_rotation.look(&Logs::of(&shared), now).await {
            tracing::error!(error = %error, "A log's key could not be changed; the present one signs on");
        }
        let wait = tokio::time::sleep(LOOK_EVERY);
        if stop.run_until_cancelled(wait).await.is_none() {
            return;
        }
    }
}

/// When the control log began, and with it the first key of either log.
fn begun(logs: &Logs<'_>) -> Result<Option<Time>, LogKeyError> {
    let reader = logs.control_log.reader();
    if reader.size() == 0 {
        return Ok(None);
    }
    let first = reader.entry(0)?;
    Ok(ledger::Entry::parse(&first).ok().map(|entry| entry.time))
}

async fn sign_with(logs: &Logs<'_>, log: LogName, signers: Signers) -> Result<(), LogKeyError> {
    let signed = logs.log(log).sign_with(signers).await;
    signed.map_err(|cause| LogKeyError::Sign { log, cause })
}

async fn execute(
    logs: &Logs<'_>,
    actor: Actor,
    command: LogKeyCommand,
) -> Result<Vec<RecordRef>, LogKeyError> {
    let command = Command::LogKey(Box::new(command));
    match logs.control.execute(actor, command).await? {
        Done::Changed { records, .. } => Ok(records),
        Done::Started { .. } | Done::Continued { .. } | Done::Unchanged { .. } => Ok(Vec::new()),
    }
}

fn public(signer: &Signer) -> Result<LogKey, LogKeyError> {
    let key = LogKey::try_from(signer.verifier().clone());
    key.map_err(|error| LogKeyError::Form(error.to_string()))
}

fn key(vkey: &str) -> Result<LogKey, LogKeyError> {
    let key = vkey.parse::<Verifier>().and_then(LogKey::try_from);
    key.map_err(|error| LogKeyError::Form(error.to_string()))
}

/// The public half of the present key, beside the log for who takes it from there.
fn write_vkey(logs: &Logs<'_>, log: LogName) -> Result<(), LogKeyError> {
    let signer = keys::read_log_key(&keys::log_key(logs.keys, log))?;
    let path = logs.data.join(format!("{log}.vkey"));
    let text = format!("{}\n", signer.verifier());
    if fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    let write = || {
        let file = tempfile::NamedTempFile::new_in(logs.data)?;
        fs::write(file.path(), &text)?;
        file.as_file().sync_all()?;
        open_to_read(file.path())?;
        file.persist(&path).map_err(|error| error.error)?;
        fs::File::open(logs.data)?.sync_all()
    };
    write().map_err(|cause| {
        KeyError::Write {
            path: path.display().to_string(),
            cause,
        }
        .into()
    })
}

/// What it holds is public.
fn open_to_read(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        Ok(())
    }
}

fn remove(path: &Path) -> Result<(), KeyError> {
    fs::remove_file(path).map_err(|cause| KeyError::Write {
        path: path.display().to_string(),
        cause,
    })
}

fn sync(folder: &Path, path: &Path) -> Result<(), KeyError> {
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|cause| KeyError::Write {
        path: path.display().to_string(),
        cause,
    })
}

#[cfg(test)]
mod tests;
