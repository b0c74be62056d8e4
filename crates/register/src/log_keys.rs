//! The keys that sign the logs' checkpoints, and what can happen to them.
//!
//! A key is announced under the one before it; then it signs, and the one before it signs beside
//! it, so that whoever knows only that goes on; then that one is retired, or compromised if
//! somebody else may have it. Until a log's key is first to change, the register knows none: the
//! first is in the entry that announces the second. What whoever verifies the logs makes of these
//! entries is [`ledger::keys`].

use ledger::note::Verifier;
use ledger::{LogKey, LogKeyActivated, LogKeyAnnounced, LogKeyRetired, LogKeys};
use vocab::id::LogName;
use vocab::time::Time;

use crate::entry::Event;
use crate::lifecycle::{SigningEvent, SigningLife};
use crate::refusal::Refusal;
use crate::state::Impossible;

/// A key that signs a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// Which of the two logs.
    pub log: LogName,
    /// The public key.
    pub key: LogKey,
    /// The entry that made it known.
    pub record: u64,
    /// What became of it.
    pub life: SigningLife,
}

/// What can be asked about the keys that sign logs.
#[derive(Clone, Debug)]
pub enum LogKeyCommand {
    /// Says that a key is to sign after the one that does.
    Announce(LogKeyAnnounced),
    /// Says that an announced key signs.
    Activate(LogKeyActivated),
    /// Says that a key signs no more.
    Retire(LogKeyRetired),
}

impl LogKeyCommand {
    /// The key that it is about.
    pub const fn key(&self) -> &LogKey {
        match self {
            Self::Announce(body) => &body.key,
            Self::Activate(body) => &body.key,
            Self::Retire(body) => &body.key,
        }
    }
}

/// The keys of both logs, oldest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SigningKeys(Vec<SigningKey>);

impl From<Vec<SigningKey>> for SigningKeys {
    fn from(keys: Vec<SigningKey>) -> Self {
        Self(keys)
    }
}

impl SigningKeys {
    pub(crate) fn as_slice(&self) -> &[SigningKey] {
        &self.0
    }

    fn find(&self, log: LogName, key: &LogKey) -> Option<&SigningKey> {
        self.0.iter().find(|it| it.log == log && it.key == *key)
    }

    fn current(&self, log: LogName) -> Option<&SigningKey> {
        let current = |it: &&SigningKey| matches!(it.life, SigningLife::Current { .. });
        self.0.iter().filter(|it| it.log == log).find(current)
    }

    fn announced(&self, log: LogName) -> Option<&SigningKey> {
        let announced = |it: &&SigningKey| matches!(it.life, SigningLife::Announced { .. });
        self.0.iter().filter(|it| it.log == log).find(announced)
    }

    fn change(
        &mut self,
        log: LogName,
        key: &LogKey,
        event: SigningEvent,
        at: Time,
    ) -> Result<(), Impossible> {
        let mut keys = self.0.iter_mut();
        let Some(known) = keys.find(|it| it.log == log && it.key == *key) else {
            return Err(Impossible::Unknown {
                what: "log key",
                id: key.verifier().key_name(),
            });
        };
        known.life = known.life.after(event, at)?;
        Ok(())
    }

    pub(crate) fn announce(
        &mut self,
        body: LogKeyAnnounced,
        record: u64,
        at: Time,
    ) -> Result<(), Impossible> {
        let LogKeyAnnounced { log, by, key } = body;
        if self.find(log, &key).is_some() || by == key {
            return Err(Impossible::Twice {
                what: "log key",
                id: key.verifier().key_name(),
            });
        }
        let foreign = |what: &'static str, key: &LogKey| Impossible::Unknown {
            what,
            id: key.verifier().key_name(),
        };
        if by.verifier().name() != key.verifier().name() {
            return Err(foreign("the log of the key", &key));
        }
        match self.current(log) {
            Some(current) if current.key != by => return Err(foreign("the current log key", &by)),
            Some(_) => {}
            None => self.0.push(SigningKey {
                log,
                key: by,
                record,
                life: SigningLife::Current { since: at },
            }),
        }
        self.0.push(SigningKey {
            log,
            key,
            record,
            life: SigningLife::Announced { since: at },
        });
        Ok(())
    }

    pub(crate) fn activate(&mut self, body: &LogKeyActivated, at: Time) -> Result<(), Impossible> {
        let LogKeyActivated { log, key, .. } = body;
        // Checked before anything is changed.
        let known = self.find(*log, key).map(|it| it.life);
        known
            .map(|life| life.after(SigningEvent::Activate, at))
            .transpose()?;
        let current = self.current(*log).map(|it| it.key.clone());
        if let (Some(current), true) = (current, known.is_some()) {
            self.change(*log, &current, SigningEvent::Replace, at)?;
        }
        self.change(*log, key, SigningEvent::Activate, at)
    }

    pub(crate) fn retire(&mut self, body: &LogKeyRetired, at: Time) -> Result<(), Impossible> {
        self.change(body.log, &body.key, retiring(body), at)
    }

    /// The events that a command comes to; none if it is so already.
    pub(crate) fn decide(&self, command: LogKeyCommand, at: Time) -> Result<Vec<Event>, Refusal> {
        match command {
            LogKeyCommand::Announce(body) => {
                let refused = |state, event| Refusal::LogKeyState {
                    key: body.key.verifier().key_name(),
                    state,
                    event,
                };
                let known = self.find(body.log, &body.key).map(|it| it.life);
                let signs = self.current(body.log);
                match (known, self.announced(body.log)) {
                    (Some(SigningLife::Announced { .. }), _) => Ok(Vec::new()),
                    (Some(life), _) => Err(refused(life.as_str(), "announce")),
                    (None, Some(_)) => Err(refused("not the one that is announced", "announce")),
                    (None, None) if signs.is_some_and(|it| it.key != body.by) => {
                        Err(refused("by a key that does not sign", "announce"))
                    }
                    (None, None) if body.by == body.key => Err(refused("current", "announce")),
                    (None, None) if body.by.verifier().name() != body.key.verifier().name() => {
                        Err(refused("of another log", "announce"))
                    }
                    (None, None) => Ok(vec![Event::LogKeyAnnounced(body)]),
                }
            }
            LogKeyCommand::Activate(body) => {
                let key = || body.key.verifier().key_name();
                let Some(known) = self.find(body.log, &body.key) else {
                    return Err(Refusal::UnknownLogKey { key: key() });
                };
                match known.life {
                    SigningLife::Current { .. } => Ok(Vec::new()),
                    SigningLife::Announced { .. } => {
                        self.handed_over(known, &body)?;
                        Ok(vec![Event::LogKeyActivated(body)])
                    }
                    life => Err(Refusal::LogKeyState {
                        key: key(),
                        state: life.as_str(),
                        event: SigningEvent::Activate.as_str(),
                    }),
                }
            }
            LogKeyCommand::Retire(body) => {
                let key = || body.key.verifier().key_name();
                let Some(known) = self.find(body.log, &body.key) else {
                    return Err(Refusal::UnknownLogKey { key: key() });
                };
                let event = retiring(&body);
                match (known.life, known.life.after(event, at)) {
                    (SigningLife::Retired { .. }, _) if !body.compromised => Ok(Vec::new()),
                    (SigningLife::Compromised { .. }, _) => Ok(Vec::new()),
                    (_, Ok(_)) => Ok(vec![Event::LogKeyRetired(body)]),
                    (life, Err(_)) => Err(Refusal::LogKeyState {
                        key: key(),
                        state: life.as_str(),
                        event: event.as_str(),
                    }),
                }
            }
        }
    }

    /// Whoever follows the control log's keys needs a checkpoint over the announcement, by the key
    /// before it.
    fn handed_over(&self, announced: &SigningKey, body: &LogKeyActivated) -> Result<(), Refusal> {
        let unproven = |why: String| Refusal::LogKeyUnproven {
            key: body.key.verifier().key_name(),
            why,
        };
        let current = self.current(body.log);
        let note = match (body.log, &body.checkpoint) {
            (LogName::Calls, None) => return Ok(()),
            (LogName::Calls, Some(_)) => {
                return Err(unproven(
                    "one of the log of calls proves nothing".to_owned(),
                ));
            }
            (LogName::Control, None) => return Err(unproven("there is none".to_owned())),
            (LogName::Control, Some(note)) => note,
        };
        let by = current.map(|it| it.key.verifier().clone());
        let by: Verifier = by.ok_or_else(|| unproven("no key signs".to_owned()))?;
        match LogKeys::from(by).open(note) {
            Ok(checkpoint) if checkpoint.size > announced.record => Ok(()),
            Ok(_) => Err(unproven("it does not cover the announcement".to_owned())),
            Err(error) => Err(unproven(error.to_string())),
        }
    }
}

const fn retiring(body: &LogKeyRetired) -> SigningEvent {
    if body.compromised {
        SigningEvent::Revoke
    } else {
        SigningEvent::Retire
    }
}
