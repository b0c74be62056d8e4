//! Lifecycles of sponsors, agents, their keys and instances: which state follows which event.
//!
//! The whole of it is a table in `tests/lifecycles.txt`, so a new edge shows in review.
//!
//! A lifecycle speaks of its own subject only. What stands above narrows what stands below without
//! touching it: an instance of a suspended agent stays `running` and is not *active*; when the
//! agent is resumed within the instance's lifetime, the instance goes on. A sponsor's suspension
//! narrows all their agents in the same way, and lifting it does not lift an agent's own. (A command
//! to resume an agent whose sponsor is not active is refused all the same, so that nobody takes the
//! answer for more than it is.)

use serde::{Deserialize, Serialize};
use vocab::time::Time;

/// An event that cannot happen in a state. While folding this is fatal; a command that would lead
/// to it is refused before anything is written.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{what} that is {state} cannot {event}")]
pub struct InvalidTransition {
    /// Whose lifecycle.
    pub what: &'static str,
    /// The state it is in.
    pub state: &'static str,
    /// The event.
    pub event: &'static str,
}

/// The life of a sponsor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SponsorLife {
    /// What they sponsor may act.
    Active {
        /// Since when.
        since: Time,
    },
    /// Nothing that they sponsor may act.
    Suspended {
        /// Since when.
        since: Time,
    },
    /// Who they were is erased; final.
    Erased {
        /// Since when.
        since: Time,
    },
}

/// What can happen to a sponsor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SponsorEvent {
    /// An agent is registered under them.
    AddAgent,
    /// An instance that acts for them, or of an agent of theirs, is started.
    StartInstance,
    /// They leave, or are stopped.
    Suspend,
    /// The suspension is lifted.
    Resume,
    /// Something is known otherwise about them, or what ran for them ends.
    Change,
    /// Their name is destroyed.
    Erase,
}

impl SponsorEvent {
    /// Every event.
    pub const ALL: [Self; 6] = [
        Self::AddAgent,
        Self::StartInstance,
        Self::Suspend,
        Self::Resume,
        Self::Change,
        Self::Erase,
    ];

    /// The event as a verb.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AddAgent => "add-agent",
            Self::StartInstance => "start-instance",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Change => "change",
            Self::Erase => "erase",
        }
    }
}

impl SponsorLife {
    /// The state as an adjective.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Active { .. } => "active",
            Self::Suspended { .. } => "suspended",
            Self::Erased { .. } => "erased",
        }
    }

    /// Since when it is in this state.
    pub const fn since(&self) -> Time {
        match self {
            Self::Active { since } | Self::Suspended { since } | Self::Erased { since } => *since,
        }
    }

    /// The state after `event`.
    pub const fn after(self, event: SponsorEvent, at: Time) -> Result<Self, InvalidTransition> {
        use SponsorEvent as On;
        match (self, event) {
            (Self::Active { .. }, On::AddAgent | On::StartInstance | On::Change)
            | (Self::Suspended { .. }, On::Change | On::Suspend) => Ok(self),
            (Self::Active { .. }, On::Suspend) => Ok(Self::Suspended { since: at }),
            (Self::Suspended { .. }, On::Resume) => Ok(Self::Active { since: at }),
            (Self::Suspended { .. }, On::Erase) => Ok(Self::Erased { since: at }),
            (Self::Active { .. }, On::Resume | On::Erase)
            | (Self::Suspended { .. }, On::AddAgent | On::StartInstance)
            | (
                Self::Erased { .. },
                On::AddAgent
                | On::StartInstance
                | On::Suspend
                | On::Resume
                | On::Change
                | On::Erase,
            ) => Err(InvalidTransition {
                what: "a sponsor",
                state: self.as_str(),
                event: event.as_str(),
            }),
        }
    }
}

/// The life of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentLife {
    /// It may start instances, and they may act.
    Active {
        /// Since when.
        since: Time,
    },
    /// It may start none, and those it has may not act.
    Suspended {
        /// Since when.
        since: Time,
    },
    /// Ended; final.
    Retired {
        /// Since when.
        since: Time,
    },
}

/// What can happen to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentEvent {
    /// An instance of it is started.
    StartInstance,
    /// Its key is replaced.
    RotateKey,
    /// Its sponsor, its owners or what is known of them changes, or it is reviewed.
    Change,
    /// It is stopped.
    Suspend,
    /// The suspension is lifted.
    Resume,
    /// It is ended.
    Retire,
}

impl AgentEvent {
    /// Every event.
    pub const ALL: [Self; 6] = [
        Self::StartInstance,
        Self::RotateKey,
        Self::Change,
        Self::Suspend,
        Self::Resume,
        Self::Retire,
    ];

    /// The event as a verb.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StartInstance => "start-instance",
            Self::RotateKey => "rotate-key",
            Self::Change => "change",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Retire => "retire",
        }
    }
}

impl AgentLife {
    /// The state as an adjective.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Active { .. } => "active",
            Self::Suspended { .. } => "suspended",
            Self::Retired { .. } => "retired",
        }
    }

    /// Since when it is in this state.
    pub const fn since(&self) -> Time {
        match self {
            Self::Active { since } | Self::Suspended { since } | Self::Retired { since } => *since,
        }
    }

    /// The state after `event`.
    pub const fn after(self, event: AgentEvent, at: Time) -> Result<Self, InvalidTransition> {
        use AgentEvent as On;
        match (self, event) {
            (Self::Active { .. }, On::StartInstance | On::RotateKey | On::Change)
            | (Self::Suspended { .. }, On::RotateKey | On::Change) => Ok(self),
            (Self::Active { .. }, On::Suspend) => Ok(Self::Suspended { since: at }),
            (Self::Suspended { .. }, On::Resume) => Ok(Self::Active { since: at }),
            (Self::Active { .. } | Self::Suspended { .. }, On::Retire) => {
                Ok(Self::Retired { since: at })
            }
            (Self::Active { .. }, On::Resume)
            | (Self::Suspended { .. }, On::StartInstance | On::Suspend)
            | (
                Self::Retired { .. },
                On::StartInstance
                | On::RotateKey
                | On::Change
                | On::Suspend
                | On::Resume
                | On::Retire,
            ) => Err(InvalidTransition {
                what: "an agent",
                state: self.as_str(),
                event: event.as_str(),
            }),
        }
    }
}

/// What is known of a sponsor's standing behind an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// An administrator said so; the configuration decides whether the agent runs.
    Asserted {
        /// Since when.
        since: Time,
    },
    /// The sponsor said so, signed in as themselves.
    Accepted {
        /// Since when.
        since: Time,
    },
    /// The sponsor is to say so again; the agent does not run.
    Lapsed {
        /// Since when.
        since: Time,
    },
}

/// What can happen to an acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptanceEvent {
    /// The sponsor accepts.
    Accept,
    /// It is to be given again.
    Lapse,
    /// Another sponsor takes the place.
    Transfer,
}

impl AcceptanceEvent {
    /// Every event.
    pub const ALL: [Self; 3] = [Self::Accept, Self::Lapse, Self::Transfer];

    /// The event as a verb.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Lapse => "lapse",
            Self::Transfer => "transfer",
        }
    }
}

impl Acceptance {
    /// The state as an adjective.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Asserted { .. } => "asserted",
            Self::Accepted { .. } => "accepted",
            Self::Lapsed { .. } => "lapsed",
        }
    }

    /// Since when it is in this state.
    pub const fn since(&self) -> Time {
        match self {
            Self::Asserted { since } | Self::Accepted { since } | Self::Lapsed { since } => *since,
        }
    }

    /// The state after `event`.
    pub const fn after(self, event: AcceptanceEvent, at: Time) -> Result<Self, InvalidTransition> {
        use AcceptanceEvent as On;
        match (self, event) {
            (Self::Asserted { .. } | Self::Accepted { .. } | Self::Lapsed { .. }, On::Accept) => {
                Ok(Self::Accepted { since: at })
            }
            (Self::Asserted { .. } | Self::Accepted { .. }, On::Lapse) => {
                Ok(Self::Lapsed { since: at })
            }
            (Self::Asserted { .. } | Self::Accepted { .. } | Self::Lapsed { .. }, On::Transfer) => {
                Ok(Self::Asserted { since: at })
            }
            (Self::Lapsed { .. }, On::Lapse) => Err(InvalidTransition {
                what: "an acceptance",
                state: self.as_str(),
                event: event.as_str(),
            }),
        }
    }
}

/// Whether an upstream, or everything, may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    /// It may.
    #[default]
    On,
    /// It may not.
    Off {
        /// Since when.
        since: Time,
    },
}

/// What can happen to a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchEvent {
    /// It is turned off.
    Stop,
    /// It is turned on again.
    Resume,
}

impl SwitchEvent {
    /// Every event.
    pub const ALL: [Self; 2] = [Self::Stop, Self::Resume];

    /// The event as a verb.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Resume => "resume",
        }
    }
}

impl Switch {
    /// Since when it is off, if it is.
    pub const fn off_since(&self) -> Option<Time> {
        match self {
            Self::On => None,
            Self::Off { since } => Some(*since),
        }
    }

    /// The state as an adjective.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off { .. } => "off",
        }
    }

    /// Whether it is on.
    pub const fn is_on(&self) -> bool {
        match self {
            Self::On => true,
            Self::Off { .. } => false,
        }
    }

    /// The state after `event`.
    pub const fn after(self, event: SwitchEvent, at: Time) -> Result<Self, InvalidTransition> {
        match (self, event) {
            (Self::On, SwitchEvent::Stop) => Ok(Self::Off { since: at }),
            (Self::Off { .. }, SwitchEvent::Resume) => Ok(Self::On),
            (Self::On, SwitchEvent::Resume) | (Self::Off { .. }, SwitchEvent::Stop) => {
                Err(InvalidTransition {
                    what: "a switch",
                    state: self.as_str(),
                    event: event.as_str(),
                })
            }
        }
    }
}

/// The life of an agent's key. That it is not valid yet, or no longer, is the clock's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLife {
    /// It starts instances.
    Current {
        /// Since when.
        since: Time,
    },
    /// Another took its place; final.
    Replaced {
        /// Since when.
        since: Time,
    },
}

/// What can happen to an agent's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// It starts an instance.
    StartInstance,
    /// Another takes its place.
    Replace,
}

impl KeyEvent {
    /// Every event.
    pub const ALL: [Self; 2] = [Self::StartInstance, Self::Replace];

    /// The event as a verb.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StartInstance => "start-instance",
            Self::Replace => "replace",
        }
    }
}

impl KeyLife {
    /// The state as an adjective.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Current { .. } => "current",
            Self::Replaced { .. } => "replaced",
        }
    }

    /// The state after `event`.
    pub const fn after(self, event: KeyEvent, at: Time) -> Result<Self, InvalidTransition> {
        match (self, event) {
            (Self::Current { .. }, KeyEvent::StartInstance) => Ok(self),
            (Self::Current { .. }, KeyEvent::Replace) => Ok(Self::Replaced { since: at }),
            (Self::Replaced { .. }, KeyEvent::StartInstance | KeyEvent::Replace) => {
                Err(InvalidTransition {
                    what: "a key",
                    state: self.as_str(),
                    event: event.as_str(),
                })
            }
        }
    }
}

/// The life of a key that signs tokens or a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningLife {
    /// It is made known, and signs nothing yet.
    Announced {
        /// Since when.
        since: Time,
    },
    /// It signs.
    Current {
        /// Since when.
        since: Time,
    },
    /// Another signs. Of a token key: its tokens are good until they expire. Of a log's: it signs
    /// beside the one that came after it.
    Past {
        /// Since when.
        since: Time,
    },
    /// It signs no more, and nothing needs it; final.
    Retired {
        /// Since when.
        since: Time,
    },
    /// Somebody else may have it; final.
    Compromised {
        /// Since when.
        since: Time,
    },
}

/// What can happen to a key that signs tokens or a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningEvent {
    /// It begins to sign.
    Activate,
    /// Another begins to sign.
    Replace,
    /// Nothing needs it any more: it is done with.
    Retire,
    /// Somebody else may have it.
    Revoke,
}

impl SigningEvent {
    /// Every event.
    pub const ALL: [Self; 4] = [Self::Activate, Self::Replace, Self::Retire, Self::Revoke];

    /// The event as a verb.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::Replace => "replace",
            Self::Retire => "retire",
            Self::Revoke => "revoke",
        }
    }
}

impl SigningLife {
    /// The state as an adjective.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Announced { .. } => "announced",
            Self::Current { .. } => "current",
            Self::Past { .. } => "past",
            Self::Retired { .. } => "retired",
            Self::Compromised { .. } => "compromised",
        }
    }

    /// Since when it is in this state.
    pub const fn since(&self) -> Time {
        match self {
            Self::Announced { since }
            | Self::Current { since }
            | Self::Past { since }
            | Self::Retired { since }
            | Self::Compromised { since } => *since,
        }
    }

    /// The state after `event`.
    pub const fn after(self, event: SigningEvent, at: Time) -> Result<Self, InvalidTransition> {
        use SigningEvent as On;
        match (self, event) {
            (Self::Announced { .. }, On::Activate) => Ok(Self::Current { since: at }),
            (Self::Current { .. }, On::Replace) => Ok(Self::Past { since: at }),
            (Self::Announced { .. } | Self::Past { .. }, On::Retire) => {
                Ok(Self::Retired { since: at })
            }
            (Self::Announced { .. } | Self::Past { .. }, On::Revoke) => {
                Ok(Self::Compromised { since: at })
            }
            (Self::Announced { .. }, On::Replace)
            // Another must sign first, or nothing could be signed.
            | (Self::Current { .. }, On::Activate | On::Retire | On::Revoke)
            | (Self::Past { .. }, On::Activate | On::Replace)
            | (
                Self::Retired { .. } | Self::Compromised { .. },
                On::Activate | On::Replace | On::Retire | On::Revoke,
            ) => Err(InvalidTransition {
                what: "a signing key",
                state: self.as_str(),
                event: event.as_str(),
            }),
        }
    }
}

/// Why an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// An administrator or a sponsor ended it.
    Revoked,
    /// Its own client ended it.
    Closed,
    /// A credential of it that can be used once was used a second time: somebody has a copy.
    Reused,
    /// It was idle too long. Written only when the same key comes back and starts another.
    Idle,
    /// It reached its lifetime. Written only when the same key comes back and starts another.
    Lifetime,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::Revoked,
        Self::Closed,
        Self::Reused,
        Self::Idle,
        Self::Lifetime,
    ];

    /// Whether its time was over, and nobody ended it.
    pub const fn by_time(self) -> bool {
        match self {
            Self::Idle | Self::Lifetime => true,
            Self::Revoked | Self::Closed | Self::Reused => false,
        }
    }

    /// The reason as a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Closed => "closed",
            Self::Reused => "reused",
            Self::Idle => "idle",
            Self::Lifetime => "lifetime",
        }
    }
}

/// The life of an instance. That it has expired is the clock's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceLife {
    /// It was started and not ended.
    Running,
    /// Ended; final.
    Ended {
        /// Since when.
        since: Time,
        /// Why.
        reason: EndReason,
    },
}

/// What can happen to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceEvent {
    /// It delegates a part of what it may do.
    Delegate,
    /// Its refresh token is used.
    Refresh,
    /// It is ended.
    End(EndReason),
}

impl InstanceEvent {
    /// The event as a verb.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delegate => "delegate",
            Self::Refresh => "refresh",
            Self::End(_) => "end",
        }
    }
}

impl InstanceLife {
    /// The state as an adjective.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ended { .. } => "ended",
        }
    }

    /// The state after `event`.
    pub const fn after(self, event: InstanceEvent, at: Time) -> Result<Self, InvalidTransition> {
        match (self, event) {
            (Self::Running, InstanceEvent::Delegate | InstanceEvent::Refresh) => Ok(self),
            (Self::Running, InstanceEvent::End(reason)) => Ok(Self::Ended { since: at, reason }),
            (Self::Ended { .. }, event) => Err(InvalidTransition {
                what: "an instance",
                state: self.as_str(),
                event: event.as_str(),
            }),
        }
    }
}
