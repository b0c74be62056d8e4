//! Break-glass: two named administrators let one agent run although nobody who may answers for it.
//!
//! One asks, saying what for and for how long, the other opens. Each step is an entry before it
//! works, and what is open is nothing but the fold of those entries: there is no flag to set. It
//! sets aside only what held the agent when it was asked for; whatever narrows the agent after that
//! ends it, and so does its time.

use std::sync::Arc;
use std::time::Duration;

use ledger::Actor;
use serde::{Deserialize, Serialize};
use vocab::digest::Digest;
use vocab::id::{AdminId, AgentId, Handle};
use vocab::rng::Rng;
use vocab::time::Time;

use crate::command::Subject;
use crate::decide::{NoPlan, Plan, Sealing, not_retired};
use crate::entry::{AssertedAgents, Event};
use crate::lifecycle::{Acceptance, AgentLife, InvalidTransition, SponsorLife};
use crate::nouns::Beside;
use crate::refusal::Refusal;
use crate::standing::{Why, agent_narrowed};
use crate::state::{Admin, Agent, Instance, Known, Sponsor, State};
use crate::text::{AdminKey, Reason};

/// What break-glass can set aside: that nobody stands behind an agent. A suspension of the agent
/// itself, a stop of an upstream or of everything, keys and policies are not among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// Its sponsor is suspended.
    SponsorSuspended,
    /// Its sponsor has not accepted it yet, and the node runs none that is not accepted.
    AgentNotAccepted,
    /// Its sponsor has to accept it again.
    AcceptanceLapsed,
}

impl Held {
    /// The word, as in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SponsorSuspended => "sponsor-suspended",
            Self::AgentNotAccepted => "agent-not-accepted",
            Self::AcceptanceLapsed => "acceptance-lapsed",
        }
    }

    /// All of it that holds an agent.
    fn of(agent: &Agent, sponsor: &Sponsor, asserted: AssertedAgents) -> Vec<Self> {
        let suspended = match sponsor.life {
            SponsorLife::Suspended { .. } => Some(Self::SponsorSuspended),
            SponsorLife::Active { .. } | SponsorLife::Erased { .. } => None,
        };
        let unaccepted = match (agent.acceptance, asserted) {
            (Acceptance::Asserted { .. }, AssertedAgents::Refuse) => Some(Self::AgentNotAccepted),
            (Acceptance::Lapsed { .. }, _) => Some(Self::AcceptanceLapsed),
            (Acceptance::Asserted { .. }, AssertedAgents::Run)
            | (Acceptance::Accepted { .. }, _) => None,
        };
        suspended.into_iter().chain(unaccepted).collect()
    }
}

/// Somebody asked that an agent may run. Sealed beside it: why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassRequested {
    /// What this break-glass is called.
    pub id: Handle,
    /// The agent.
    pub agent: AgentId,
    /// Who asks: the administrator by whose key the entry's actor came.
    pub by: AdminId,
    /// What holds the agent, which is to be set aside.
    pub sets_aside: Vec<Held>,
    /// For how long, in seconds from when it is opened.
    pub lasts_s: u64,
    /// How long another may take to open it, in seconds from this entry's time.
    pub open_within_s: u64,
    /// The handle of the key that seals why.
    pub key: Handle,
    /// The digest that commits to what is sealed.
    pub commit: Digest,
}

/// A second administrator opened a break-glass: from this entry on the agent may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassOpened {
    /// The break-glass.
    pub id: Handle,
    /// Who opened it: the administrator by whose key the entry's actor came.
    pub by: AdminId,
}

/// A break-glass is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassEnded {
    /// The break-glass.
    pub id: Handle,
    /// Why.
    pub cause: GlassOver,
}

/// Why a break-glass is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GlassOver {
    /// An administrator ended it, or took the request back.
    Ended,
    /// Its time is over, or nobody opened it in time.
    Expired,
    /// Something narrowed the agent after it was asked for.
    Cut,
    /// The credential of one of the two was taken away.
    AdminRemoved,
    /// Another was opened for the same agent.
    Replaced,
}

impl GlassOver {
    /// The word, as in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Expired => "expired",
            Self::Cut => "cut",
            Self::AdminRemoved => "admin-removed",
            Self::Replaced => "replaced",
        }
    }
}

/// The life of a break-glass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlassLife {
    /// Somebody asked; it opens nothing.
    Requested {
        /// Since when.
        since: Time,
        /// When it can no longer be opened.
        until: Time,
    },
    /// It holds.
    Open {
        /// Since when.
        since: Time,
        /// When it is over by itself.
        until: Time,
    },
    /// It opens nothing any more; final.
    Over {
        /// Since when.
        since: Time,
        /// Why.
        cause: GlassOver,
    },
}

/// What can happen to a break-glass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlassEvent {
    /// Another administrator opens it, for this long.
    Open(Duration),
    /// It ends.
    End(GlassOver),
}

impl GlassEvent {
    /// The event as a verb.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::End(_) => "end",
        }
    }
}

impl GlassLife {
    /// The state as an adjective.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Requested { .. } => "requested",
            Self::Open { .. } => "open",
            Self::Over { .. } => "over",
        }
    }

    /// The state after `event`.
    pub fn after(self, event: GlassEvent, at: Time) -> Result<Self, InvalidTransition> {
        match (self, event) {
            (Self::Requested { .. }, GlassEvent::Open(lasts)) => Ok(Self::Open {
                since: at,
                until: at.plus(lasts),
            }),
            (Self::Requested { .. } | Self::Open { .. }, GlassEvent::End(cause)) => {
                Ok(Self::Over { since: at, cause })
            }
            (Self::Open { .. }, GlassEvent::Open(_))
            | (Self::Over { .. }, GlassEvent::Open(_) | GlassEvent::End(_)) => {
                Err(InvalidTransition {
                    what: "a break-glass",
                    state: self.as_str(),
                    event: event.as_str(),
                })
            }
        }
    }

    /// Whether its time is over at `now`, though no entry says so yet.
    pub fn expired(&self, now: Time) -> bool {
        match self {
            Self::Requested { until, .. } | Self::Open { until, .. } => now >= *until,
            Self::Over { .. } => false,
        }
    }
}

/// One of the two who broke the glass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hand {
    /// Their name.
    pub admin: AdminId,
    /// The public half of the credential that they came by.
    pub key: AdminKey,
    /// When.
    pub at: Time,
    /// The index of the entry that says so.
    pub record: u64,
}

impl Hand {
    pub(crate) fn of(admin: &Admin, at: Time, record: u64) -> Self {
        Self {
            admin: admin.id.clone(),
            key: admin.key.clone(),
            at,
            record,
        }
    }
}

/// A break-glass, from the request to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakGlass {
    /// What it is called.
    pub id: Handle,
    /// The agent.
    pub agent: AgentId,
    /// What held the agent when it was asked for.
    pub sets_aside: Vec<Held>,
    /// How long it holds once it is open.
    pub lasts: Duration,
    /// Who asked.
    pub requested: Hand,
    /// Who opened it.
    pub opened: Option<Hand>,
    /// Why.
    pub reason: Known<Reason>,
    /// The handle of the key that seals why.
    pub key: Handle,
    /// Where why lies sealed.
    pub(crate) beside: Beside,
    /// Where it is in its life.
    pub life: GlassLife,
}

impl BreakGlass {
    /// Until when it holds, if it does at `now`.
    pub fn open_until(&self, now: Time) -> Option<Time> {
        match self.life {
            GlassLife::Open { until, .. } if now < until => Some(until),
            GlassLife::Requested { .. } | GlassLife::Open { .. } | GlassLife::Over { .. } => None,
        }
    }

    /// When it is over by itself, or was: before that, only an entry ends it.
    pub const fn until(&self) -> Time {
        match self.life {
            GlassLife::Requested { until, .. } | GlassLife::Open { until, .. } => until,
            GlassLife::Over { since, .. } => since,
        }
    }

    /// What narrows the agent again once it is over.
    pub(crate) fn why(&self) -> Why {
        match self.sets_aside.first() {
            Some(Held::SponsorSuspended) => Why::SponsorSuspended,
            Some(Held::AgentNotAccepted) => Why::AgentNotAccepted,
            Some(Held::AcceptanceLapsed) => Why::AcceptanceLapsed,
            None => Why::Unknown,
        }
    }

    /// Why somebody is not the second of two: the same person, by name or by key, or one who was
    /// made an administrator only after it was asked for.
    pub(crate) fn second(&self, admin: &Admin) -> Result<(), NotSecond> {
        let first = &self.requested;
        if first.admin == admin.id || first.key.verifier().is_same_key(admin.key.verifier()) {
            Err(NotSecond::Same)
        } else if admin.record > first.record {
            Err(NotSecond::New)
        } else {
            Ok(())
        }
    }
}

/// Why an administrator cannot be the second of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSecond {
    /// They are the first.
    Same,
    /// They were none yet when it was asked for.
    New,
}

/// How long a break-glass may hold, and how long the second may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlassSettings {
    /// The longest that one holds; nothing: there is no break-glass.
    pub max: Duration,
    /// How long the second may take to open it.
    pub open_within: Duration,
}

impl Default for GlassSettings {
    /// Four hours, half a working day: by then the people who can mend it are awake. A quarter of
    /// an hour for the second, who is called for it.
    fn default() -> Self {
        Self {
            max: Duration::from_hours(4),
            open_within: Duration::from_mins(15),
        }
    }
}

/// What can be asked of break-glass.
#[derive(Clone, Debug)]
pub enum GlassCommand {
    /// Asks that an agent may run.
    Request {
        /// The agent.
        agent: AgentId,
        /// Why.
        reason: Reason,
        /// For how long.
        lasts: Duration,
    },
    /// Opens what another administrator asked for.
    Open {
        /// The break-glass.
        id: Handle,
    },
    /// Ends it, or takes the request back.
    End {
        /// The break-glass.
        id: Handle,
        /// Why: by hand, or because its time is over.
        cause: GlassOver,
    },
}

/// What `actor` asks comes to at `now`.
pub(crate) fn decide(
    state: &State,
    settings: GlassSettings,
    rng: &dyn Rng,
    now: Time,
    actor: &Actor,
    command: GlassCommand,
) -> Result<Plan, NoPlan> {
    match command {
        GlassCommand::Request {
            agent,
            reason,
            lasts,
        } => request(state, settings, rng, now, actor, agent, reason, lasts),
        GlassCommand::Open { id } => Ok(open(state, now, actor, id)?),
        GlassCommand::End { id, cause } => Ok(end(state, now, id, cause)?),
    }
}

fn request(
    state: &State,
    settings: GlassSettings,
    rng: &dyn Rng,
    now: Time,
    actor: &Actor,
    agent: AgentId,
    reason: Reason,
    lasts: Duration,
) -> Result<Plan, NoPlan> {
    let by = named(state, actor)?.id.clone();
    let (given_s, max_s) = (lasts.as_secs(), settings.max.as_secs());
    if max_s == 0 {
        return Err(Refusal::GlassOff.into());
    }
    if given_s == 0 || given_s > max_s {
        return Err(Refusal::GlassTooLong { given_s, max_s }.into());
    }
    let sets_aside = held(state, &agent)?;
    let waiting = state.break_glasses().find(|glass| {
        glass.agent == agent
            && matches!(glass.life, GlassLife::Requested { .. })
            && !glass.life.expired(now)
    });
    if let Some(waiting) = waiting {
        let id = waiting.id.clone();
        return Err(Refusal::GlassWaits { agent, id }.into());
    }
    let id = Handle::random("b", rng)?;
    let sealing = Sealing::BreakGlass {
        id: id.clone(),
        agent,
        by,
        sets_aside,
        lasts_s: given_s,
        open_within_s: settings.open_within.as_secs(),
        reason,
    };
    Ok(Plan::Seal(
        Subject::BreakGlass(id),
        Box::new(sealing),
        Vec::new(),
    ))
}

fn open(state: &State, now: Time, actor: &Actor, id: Handle) -> Result<Plan, Refusal> {
    let admin = named(state, actor)?;
    let glass = known(state, &id)?;
    match (glass.second(admin), glass.life) {
        (Err(NotSecond::Same), _) => {
            let admin = admin.id.clone();
            return Err(Refusal::GlassSamePerson { id, admin });
        }
        (Err(NotSecond::New), _) => {
            let admin = admin.id.clone();
            return Err(Refusal::GlassNewAdmin { id, admin });
        }
        (Ok(()), GlassLife::Over { cause, .. }) => {
            return Err(Refusal::GlassIsOver { id, cause });
        }
        (Ok(()), life) if life.expired(now) => {
            let cause = GlassOver::Expired;
            return Err(Refusal::GlassIsOver { id, cause });
        }
        // The answer to the first time was lost.
        (Ok(()), GlassLife::Open { .. }) => {
            return Ok(Plan::Unchanged(Subject::BreakGlass(id)));
        }
        (Ok(()), GlassLife::Requested { .. }) => {}
    }
    // A cut since would have ended it; what held the agent may have been lifted.
    held(state, &glass.agent)?;
    Ok(Plan::Write(
        Subject::BreakGlass(id.clone()),
        vec![Event::BreakGlassOpened(BreakGlassOpened {
            id,
            by: admin.id.clone(),
        })],
    ))
}

fn end(state: &State, now: Time, id: Handle, cause: GlassOver) -> Result<Plan, Refusal> {
    let glass = known(state, &id)?;
    let subject = Subject::BreakGlass(id.clone());
    match glass.life {
        GlassLife::Over { .. } => Ok(Plan::Unchanged(subject)),
        GlassLife::Requested { .. } | GlassLife::Open { .. }
            if cause == GlassOver::Expired && !glass.life.expired(now) =>
        {
            Ok(Plan::Unchanged(subject))
        }
        GlassLife::Requested { .. } | GlassLife::Open { .. } => Ok(Plan::Write(
            subject,
            vec![Event::BreakGlassEnded(BreakGlassEnded { id, cause })],
        )),
    }
}

/// The named administrator who acts, by the key that they came by. Nobody else breaks the glass:
/// whoever is root on the machine is one person, and not named.
fn named<'a>(state: &'a State, actor: &Actor) -> Result<&'a Admin, Refusal> {
    let mut admins = state.admins();
    admins
        .find(|admin| admin.key.credential() == actor.credential)
        .ok_or_else(|| Refusal::GlassNotNamed {
            actor: actor.id.clone(),
        })
}

fn known<'a>(state: &'a State, id: &Handle) -> Result<&'a Arc<BreakGlass>, Refusal> {
    let found = state.break_glass(id);
    found.ok_or_else(|| Refusal::UnknownGlass { given: id.clone() })
}

/// What holds an agent, if break-glass can set aside all of it.
fn held(state: &State, id: &AgentId) -> Result<Vec<Held>, Refusal> {
    let agent = not_retired(state, id)?;
    let refused = |why: Option<Why>| Refusal::GlassForNothing {
        agent: id.clone(),
        why,
    };
    let sponsor = state.sponsor(&agent.sponsor);
    let sponsor = sponsor.ok_or_else(|| refused(Some(Why::Unknown)))?;
    let asserted = state.asserted_agents();
    match agent_narrowed(agent, sponsor, asserted) {
        Some(Why::SponsorSuspended | Why::AgentNotAccepted | Why::AcceptanceLapsed) => {
            Ok(Held::of(agent, sponsor, asserted))
        }
        other => Err(refused(other)),
    }
}

impl State {
    /// The break-glass that an agent runs by at `now`, if nothing else lets it: all that holds the
    /// agent is set aside by it.
    pub(crate) fn agent_under_glass(&self, agent: &Agent, now: Time) -> Option<&Arc<BreakGlass>> {
        let glass = self.open_glass(&agent.id, now)?;
        match agent.life {
            AgentLife::Active { .. } => {}
            AgentLife::Suspended { .. } | AgentLife::Retired { .. } => return None,
        }
        let sponsor = self.sponsor(&agent.sponsor)?;
        // No call without a named person, whoever breaks the glass.
        if let SponsorLife::Erased { .. } = sponsor.life {
            return None;
        }
        sponsor.id()?;
        let held = Held::of(agent, sponsor, self.asserted_agents());
        let all = held.iter().all(|it| glass.sets_aside.contains(it));
        (all && !held.is_empty()).then_some(glass)
    }

    /// The break-glass by which an instance acts for a suspended sponsor: of its own agent or of one
    /// above it, whose sponsor they are.
    pub(crate) fn sponsor_under_glass(
        &self,
        instance: &Instance,
        now: Time,
    ) -> Option<&Arc<BreakGlass>> {
        let above = self.ancestors(instance).map(AsRef::as_ref);
        std::iter::once(instance).chain(above).find_map(|it| {
            let agent = self.agent(&it.agent)?;
            let theirs = agent.sponsor == instance.sponsor;
            self.agent_under_glass(agent, now).filter(|_| theirs)
        })
    }
}
