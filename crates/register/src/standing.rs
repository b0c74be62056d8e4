//! Standing: whether an instance may act at this moment, and if not, why.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use vocab::id::InstanceId;
use vocab::time::Time;

use crate::lifecycle::{AgentLife, InstanceLife, SponsorLife};
use crate::state::{Agent, Identity, Instance, Sponsor, State};

/// Why an instance may not act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// No such instance.
    Unknown,
    /// It was ended.
    InstanceEnded,
    /// Its lifetime is over, or it was idle too long.
    InstanceExpired,
    /// Its agent is retired.
    AgentRetired,
    /// Its agent is suspended.
    AgentSuspended,
    /// Its sponsor is suspended.
    SponsorSuspended,
    /// Who its sponsor is cannot be said any more.
    SponsorErased,
    /// The register does not know its own state; nothing may act.
    RegisterFailed,
}

impl Why {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::Unknown,
        Self::InstanceEnded,
        Self::InstanceExpired,
        Self::AgentRetired,
        Self::AgentSuspended,
        Self::SponsorSuspended,
        Self::SponsorErased,
        Self::RegisterFailed,
    ];

    /// The reason as a word, as in `--json` and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::InstanceEnded => "instance-ended",
            Self::InstanceExpired => "instance-expired",
            Self::AgentRetired => "agent-retired",
            Self::AgentSuspended => "agent-suspended",
            Self::SponsorSuspended => "sponsor-suspended",
            Self::SponsorErased => "sponsor-erased",
            Self::RegisterFailed => "register-failed",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "there is no such instance",
            Self::InstanceEnded => "the instance was ended",
            Self::InstanceExpired => "the instance has expired",
            Self::AgentRetired => "the agent is retired",
            Self::AgentSuspended => "the agent is suspended",
            Self::SponsorSuspended => "the agent's sponsor is suspended",
            Self::SponsorErased => "the agent's sponsor is erased",
            Self::RegisterFailed => "the register does not know its own state",
        })
    }
}

/// Whether an instance may act.
#[derive(Clone, Debug)]
pub enum Standing {
    /// It may not.
    Narrowed(Why),
    /// It may.
    Active(Active),
}

impl Standing {
    /// The yes, or why not.
    pub fn active(self) -> Result<Active, Why> {
        match self {
            Self::Narrowed(why) => Err(why),
            Self::Active(active) => Ok(active),
        }
    }
}

/// An instance that may act, with all that stands above it, as of one moment. Only the register
/// makes one; [`Control::still`](crate::Control::still) says whether it holds yet.
#[derive(Clone, Debug)]
pub struct Active {
    instance: Arc<Instance>,
    agent: Arc<Agent>,
    sponsor: Arc<Sponsor>,
    size: u64,
    generation: u64,
    as_of: Time,
}

impl Active {
    /// The instance.
    pub const fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// Its agent.
    pub const fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    /// Their sponsor.
    pub const fn sponsor(&self) -> &Arc<Sponsor> {
        &self.sponsor
    }

    /// The control log's size when this was seen: what a decision names.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The register's [generation](State::generation) when this was seen.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether time alone has ended it. A clock that went back does not bring it back.
    pub(crate) fn expired(&self, now: Time) -> Option<Why> {
        expired(&self.instance, now.max(self.as_of))
    }
}

fn expired(instance: &Instance, now: Time) -> Option<Why> {
    (instance.outlived(now) || instance.idled(now)).then_some(Why::InstanceExpired)
}

/// What narrows an instance, the nearest and most final first.
pub(crate) fn narrowed(
    instance: &Instance,
    agent: &Agent,
    sponsor: &Sponsor,
    now: Time,
) -> Option<Why> {
    match instance.life {
        InstanceLife::Ended { .. } => return Some(Why::InstanceEnded),
        InstanceLife::Running => {}
    }
    expired(instance, now).or_else(|| agent_narrowed(agent, sponsor))
}

/// What narrows an agent and all its instances.
pub(crate) const fn agent_narrowed(agent: &Agent, sponsor: &Sponsor) -> Option<Why> {
    match agent.life {
        AgentLife::Retired { .. } => Some(Why::AgentRetired),
        AgentLife::Suspended { .. } => Some(Why::AgentSuspended),
        AgentLife::Active { .. } => sponsor_narrowed(sponsor),
    }
}

/// What narrows everything that a person sponsors.
pub(crate) const fn sponsor_narrowed(sponsor: &Sponsor) -> Option<Why> {
    match (&sponsor.life, &sponsor.identity) {
        (SponsorLife::Active { .. }, Identity::Named(_)) => None,
        (SponsorLife::Suspended { .. }, _) => Some(Why::SponsorSuspended),
        // No call without a named person: also when the key went without an entry saying so.
        (SponsorLife::Erased { .. }, _)
        | (SponsorLife::Active { .. }, Identity::Erased | Identity::Sealed) => {
            Some(Why::SponsorErased)
        }
    }
}

impl State {
    /// Whether an instance may act at `now`, or at the last entry's time if that is later.
    pub fn standing(&self, id: &InstanceId, now: Time) -> Standing {
        let now = now.max(self.last_time());
        let Some(instance) = self.instance(id) else {
            return Standing::Narrowed(Why::Unknown);
        };
        let (Some(agent), Some(sponsor)) =
            (self.agent(&instance.agent), self.sponsor(&instance.sponsor))
        else {
            return Standing::Narrowed(Why::Unknown);
        };
        match narrowed(instance, agent, sponsor, now) {
            Some(why) => Standing::Narrowed(why),
            None => Standing::Active(Active {
                instance: Arc::clone(instance),
                agent: Arc::clone(agent),
                sponsor: Arc::clone(sponsor),
                size: self.size(),
                generation: self.generation(),
                as_of: now,
            }),
        }
    }
}
