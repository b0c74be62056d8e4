//! What people and scripts see of the register: the shapes behind `--json`.

use std::sync::Arc;

use serde::Serialize;
use vocab::Authority;
use vocab::id::{AdminId, AgentId, Handle, InstanceId, PepName, PurposePath, UpstreamName};
use vocab::time::Time;

use crate::allow::Allow;
use crate::break_glass::{BreakGlass, GlassLife, GlassOver, Held};
use crate::entry::{CallLimits, DelegationLimits, People, SignIn, Signal, Sponsorship, Via};
use crate::lifecycle::{Acceptance, AgentLife, EndReason, InstanceLife, SponsorLife};
use crate::standing::{Why, agent_narrowed};
use crate::state::{
    Agent, CutOf, Group, Identity, Instance, KeyFault, Known, Origin, Sponsor, State,
};
use crate::text::{AdminKey, KeyId, Label, Word};

/// A status as it is shown. It folds in what stands above: an agent of a suspended sponsor is
/// shown as suspended, and so are its instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// May act.
    Active,
    /// Stopped, and can be resumed.
    Suspended,
    /// An agent that was ended, or an instance of one, or of an erased sponsor.
    Retired,
    /// An instance that was ended by an administrator or a sponsor; a credential that was removed.
    Revoked,
    /// An instance that outlived its time or was idle too long; or a key.
    Expired,
    /// An instance that its own client ended.
    Ended,
    /// A sponsor whose name was destroyed.
    Erased,
    /// A key whose time has not come, or an agent whose sponsor has not accepted it yet.
    Pending,
}

impl Status {
    /// The text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Ended => "ended",
            Self::Erased => "erased",
            Self::Pending => "pending",
        }
    }

    const fn of(why: Option<Why>) -> Self {
        match why {
            None => Self::Active,
            Some(
                Why::AgentSuspended
                | Why::SponsorSuspended
                | Why::AcceptanceLapsed
                | Why::GroupErased
                | Why::AncestorNarrowed
                | Why::UpstreamStopped
                | Why::AllStopped
                | Why::RegisterFailed,
            ) => Self::Suspended,
            Some(Why::AgentNotAccepted) => Self::Pending,
            Some(Why::AgentRetired | Why::SponsorErased) => Self::Retired,
            Some(Why::InstanceExpired) => Self::Expired,
            Some(
                Why::InstanceEnded
                | Why::AgentTransferred
                | Why::SessionsRevoked
                | Why::AuthorityErased
                | Why::Unknown,
            ) => Self::Ended,
        }
    }
}

/// A named administrator.
#[derive(Clone, Debug, Serialize)]
pub struct AdminView {
    /// Their name.
    pub id: AdminId,
    /// `active`, or `revoked` in the answer to whoever took the credential away.
    pub status: Status,
    /// The public half of their credential.
    pub key: AdminKey,
    /// When it was added.
    pub added_at: Time,
}

/// A policy enforcement point.
#[derive(Clone, Debug, Serialize)]
pub struct PepView {
    /// What it is called.
    pub id: PepName,
    /// `active`, or `revoked` in the answer to whoever removed it.
    pub status: Status,
    /// What it may ask about.
    pub serves: Vec<UpstreamName>,
    /// Whether its word is taken for which instance asks.
    pub trusted: bool,
    /// When it was added.
    pub added_at: Time,
}

/// A sponsor.
#[derive(Clone, Debug, Serialize)]
pub struct SponsorView {
    /// Their id; null if erased or sealed, as are name and address.
    pub id: Option<String>,
    /// Their name.
    pub name: Option<String>,
    /// Their address.
    pub email: Option<String>,
    /// Their status.
    pub status: Status,
    /// The handle that entries name.
    pub handle: Handle,
    /// What the directory and the identity provider know them by.
    pub external_id: Option<String>,
    /// The groups that they are in; a handle where the name is erased.
    pub groups: Vec<String>,
    /// The agents they answer for, retired ones too.
    pub agents: Vec<AgentId>,
    /// Who is offered these when they do not act, the first first: ids, or a handle where that is
    /// erased.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deputies: Vec<String>,
    /// What stops them, each for itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<HoldView>,
    /// Instances of others' agents that act for them and are not over.
    pub acting: u64,
    /// Since when the status holds.
    pub since: Time,
    /// When they were added.
    pub added_at: Time,
}

/// What stops a sponsor.
#[derive(Clone, Debug, Serialize)]
pub struct HoldView {
    /// From where it came: `cli`, `scim`, `ssf`, `poll`, …
    pub source: String,
    /// What it was: `suspended`, `deactivated`, …
    pub event: String,
    /// When.
    pub at: Time,
    /// The entry that says so.
    pub record: Option<String>,
    /// Who wrote it, where whoever shows this has read the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A break-glass.
#[derive(Clone, Debug, Serialize)]
pub struct BreakGlassView {
    /// What it is called.
    pub id: Handle,
    /// The agent.
    pub agent: AgentId,
    /// Its sponsor's id; the handle if that is erased or sealed.
    pub sponsor: String,
    /// `requested`, `open` or `over`.
    pub state: &'static str,
    /// What held the agent and is set aside.
    pub sets_aside: Vec<Held>,
    /// Why; null if that is erased or sealed.
    pub reason: Option<String>,
    /// How long it holds once it is open, in seconds.
    pub lasts_s: u64,
    /// Who asked.
    pub requested_by: AdminId,
    /// When.
    pub requested_at: Time,
    /// The entry that says so.
    pub record: String,
    /// Who opened it.
    pub opened_by: Option<AdminId>,
    /// When.
    pub opened_at: Option<Time>,
    /// The entry that says so.
    pub opened_record: Option<String>,
    /// Until when it can be opened, or holds; since when it is over.
    pub until: Time,
    /// Why it is over.
    pub over: Option<GlassOver>,
}

/// A group of the directory.
#[derive(Clone, Debug, Serialize)]
pub struct GroupView {
    /// What policies and `--people group:NAME` call it; null if that is erased or sealed.
    pub name: Option<String>,
    /// The handle that entries name.
    pub handle: Handle,
    /// The sponsors who are in it, by id; by handle where that is erased.
    pub members: Vec<String>,
    /// When it was added.
    pub added_at: Time,
    /// The entry that added it.
    pub record: String,
}

fn group_name(group: &Group) -> String {
    let name = group.name().map(str::to_owned);
    name.unwrap_or_else(|| group.handle.to_string())
}

/// An agent's key.
#[derive(Clone, Debug, Serialize)]
pub struct KeyView {
    /// Its id.
    pub kid: KeyId,
    /// `active`, `pending` or `expired`.
    pub status: Status,
    /// Not before this.
    pub not_before: Option<Time>,
    /// Not from this on.
    pub expires_at: Time,
}

/// An agent.
#[derive(Clone, Debug, Serialize)]
pub struct AgentView {
    /// Its id.
    pub id: AgentId,
    /// Its sponsor's id; the handle if that is erased or sealed.
    pub sponsor: String,
    /// Its status.
    pub status: Status,
    /// What narrows it, if anything.
    pub narrowed_by: Option<Why>,
    /// The break-glass that it runs by all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<Handle>,
    /// What it may act for.
    pub purposes: Vec<PurposePath>,
    /// The most it may ever do; null: the policies alone decide.
    pub allow: Option<Vec<Allow>>,
    /// Live instances at once.
    pub max_instances: u32,
    /// Live instances now.
    pub live_instances: u32,
    /// Whether its instances may use tokens without proof of possession.
    pub allow_bearer: bool,
    /// `verified` once its sponsor accepted it, signed in as themselves; else `asserted`.
    pub sponsorship: Sponsorship,
    /// `asserted`, `accepted` or `lapsed`.
    pub acceptance: &'static str,
    /// How its sponsor signed in to accept it.
    pub sign_in: Option<SignIn>,
    /// Who owns it beside its sponsor.
    pub owners: OwnersView,
    /// Its sponsors before, the first first.
    pub past_sponsors: Vec<String>,
    /// When somebody last said that it is needed.
    pub reviewed_at: Time,
    /// How far its instances may delegate.
    pub delegation: DelegationLimits,
    /// Who may sign in to start instances of it.
    pub people: Option<People>,
    /// The key that starts its instances.
    pub key: Option<KeyView>,
    /// How long an instance lives at most, in seconds.
    pub max_lifetime_s: u64,
    /// How long an instance may be idle, in seconds.
    pub idle_s: u64,
    /// How much it may call.
    pub limits: CallLimits,
    /// Its software and version.
    pub software: Label,
    /// Its model's digest or name.
    pub model: Label,
    /// Where it runs.
    pub environment: Label,
    /// Since when the status holds.
    pub since: Time,
    /// When it was added.
    pub added_at: Time,
}

/// Who owns an agent beside its sponsor: their ids, or handles where those are erased.
#[derive(Clone, Debug, Serialize)]
pub struct OwnersView {
    /// Who answers for what it does for the business.
    pub business: Option<String>,
    /// Who answers for how it runs.
    pub technical: Option<String>,
    /// Who answers for its policies.
    pub policy: Option<String>,
}

/// An instance.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceView {
    /// Its id.
    pub id: InstanceId,
    /// Its agent.
    pub agent: AgentId,
    /// Its sponsor's id; the handle if that is erased or sealed.
    pub sponsor: String,
    /// Why it acts.
    pub purpose: PurposePath,
    /// The instance that delegated to it.
    pub parent: Option<InstanceId>,
    /// How many instances stand above it.
    pub depth: u8,
    /// What started it, if it was no key of its agent.
    pub via: Option<Via>,
    /// What was handed on to it; none: all that its agent, and whoever delegated to it, may do.
    pub authority: Option<Arc<Authority>>,
    /// Why that cannot be said any more, so that it is nothing: `erased` or `sealed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority_unknown: Option<&'static str>,
    /// Calls that it and all below it may make in its life.
    pub max_calls: Option<u64>,
    /// Its status.
    pub status: Status,
    /// What narrows it, if anything.
    pub narrowed_by: Option<Why>,
    /// The break-glasses without which it could not act.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub break_glass: Vec<Handle>,
    /// When it started.
    pub started_at: Time,
    /// When its lifetime is over.
    pub expires_at: Time,
    /// When it ended, if an entry says so.
    pub ended_at: Option<Time>,
    /// When it was last used, as far as this node knows.
    pub last_used_at: Option<Time>,
    /// Whether it proves possession of a key.
    pub proven: bool,
    /// The upstream that its first token was for.
    pub upstream: UpstreamName,
    /// The agent's key that started it, if one did.
    pub key: Option<KeyId>,
    /// The entry that started it.
    pub record: String,
}

impl State {
    /// A sponsor's id; the handle if that is erased or sealed.
    pub fn sponsor_name(&self, handle: &Handle) -> String {
        self.sponsor(handle)
            .and_then(|sponsor| sponsor.id())
            .map_or_else(|| handle.to_string(), ToString::to_string)
    }

    /// How a sponsor is shown.
    pub fn sponsor_view(&self, sponsor: &Sponsor) -> SponsorView {
        let person = match &sponsor.identity {
            Identity::Named(person) => Some(person),
            Identity::Erased | Identity::Sealed => None,
        };
        SponsorView {
            id: person.map(|person| person.id.to_string()),
            name: person.map(|person| person.name.as_str().to_owned()),
            email: person
                .and_then(|person| person.email.as_ref())
                .map(|email| email.as_str().to_owned()),
            status: match sponsor.life {
                SponsorLife::Active { .. } => Status::Active,
                SponsorLife::Suspended { .. } => Status::Suspended,
                SponsorLife::Erased { .. } => Status::Erased,
            },
            handle: sponsor.handle.clone(),
            external_id: person
                .and_then(|person| person.external_id.as_ref())
                .map(|id| id.as_str().to_owned()),
            groups: self
                .groups_of(&sponsor.handle)
                .map(|group| group_name(group))
                .collect(),
            acting: self.acting_of_others(&sponsor.handle),
            agents: self
                .agents_of(&sponsor.handle)
                .map(|agent| agent.id.clone())
                .collect(),
            deputies: sponsor
                .deputies
                .iter()
                .map(|it| self.sponsor_name(it))
                .collect(),
            holds: self.hold_views(sponsor),
            since: sponsor.life.since(),
            added_at: sponsor.added_at,
        }
    }

    fn hold_views(&self, sponsor: &Sponsor) -> Vec<HoldView> {
        let of = CutOf::Sponsor(sponsor.handle.clone());
        let view = |hold: &Option<Signal>| {
            let mut cuts = self.cuts().rev();
            let cut = cuts.find(|cut| cut.of == of && cut.signal == *hold);
            let word = |word: Option<&Word>, none: &str| {
                word.map_or_else(|| none.to_owned(), ToString::to_string)
            };
            HoldView {
                source: word(hold.as_ref().map(|it| &it.source), "cli"),
                event: word(hold.as_ref().map(|it| &it.event), "suspended"),
                at: cut.map_or(sponsor.life.since(), |cut| cut.at),
                record: cut.map(|cut| format!("control/{}", cut.record)),
                by: None,
            }
        };
        sponsor.holds.iter().map(view).collect()
    }

    /// How an agent is shown at `now`.
    pub fn agent_view(&self, agent: &Agent, now: Time) -> AgentView {
        let sponsor = self.sponsor(&agent.sponsor);
        let narrowed_by = match sponsor {
            Some(sponsor) => agent_narrowed(agent, sponsor, self.asserted_agents()),
            None => Some(Why::Unknown),
        };
        let name = |owner: &Option<Handle>| owner.as_ref().map(|it| self.sponsor_name(it));
        AgentView {
            id: agent.id.clone(),
            sponsor: self.sponsor_name(&agent.sponsor),
            status: Status::of(narrowed_by),
            narrowed_by,
            break_glass: self.agent_under_glass(agent, now).map(|it| it.id.clone()),
            purposes: agent.purposes.clone(),
            allow: agent.allow.clone(),
            max_instances: agent.max_instances,
            live_instances: match agent.life {
                AgentLife::Retired { .. } => 0,
                AgentLife::Active { .. } | AgentLife::Suspended { .. } => {
                    self.live_instances(&agent.id, now)
                }
            },
            allow_bearer: agent.allow_bearer,
            sponsorship: match agent.acceptance {
                Acceptance::Accepted { .. } => Sponsorship::Verified,
                Acceptance::Asserted { .. } | Acceptance::Lapsed { .. } => Sponsorship::Asserted,
            },
            acceptance: agent.acceptance.as_str(),
            sign_in: agent.accepted.as_ref().map(|accepted| accepted.sign_in),
            owners: OwnersView {
                business: name(&agent.owners.business),
                technical: name(&agent.owners.technical),
                policy: name(&agent.owners.policy),
            },
            past_sponsors: agent
                .past_sponsors
                .iter()
                .map(|past| self.sponsor_name(&past.sponsor))
                .collect(),
            reviewed_at: agent.reviewed_at,
            delegation: agent.delegation,
            people: agent.people.clone(),
            key: agent.key.as_ref().map(|key| KeyView {
                kid: key.kid.clone(),
                status: match key.valid_at(now) {
                    Ok(()) => Status::Active,
                    Err(KeyFault::NotYet) => Status::Pending,
                    Err(KeyFault::Expired) => Status::Expired,
                },
                not_before: key.not_before,
                expires_at: key.expires_at,
            }),
            max_lifetime_s: agent.max_lifetime.as_secs(),
            idle_s: agent.idle.as_secs(),
            limits: agent.limits,
            software: agent.software.clone(),
            model: agent.model.clone(),
            environment: agent.environment.clone(),
            since: match narrowed_by {
                Some(Why::AgentSuspended | Why::AgentRetired) => agent.life.since(),
                // What stands above it decides, too.
                _ => sponsor.map_or(agent.life.since(), |sponsor| {
                    agent.life.since().max(sponsor.life.since())
                }),
            },
            added_at: agent.added_at,
        }
    }

    /// How an instance is shown at `now`.
    pub fn instance_view(&self, instance: &Instance, now: Time) -> InstanceView {
        let (narrowed_by, under) = match self.standing(&instance.id, now).active() {
            Ok(active) => (
                None,
                active.under().iter().map(|it| it.id.clone()).collect(),
            ),
            Err(why) => (Some(why), Vec::new()),
        };
        let (status, ended_at) = match instance.life {
            InstanceLife::Running => (Status::of(narrowed_by), None),
            InstanceLife::Ended { since, reason } => (
                match reason {
                    EndReason::Revoked | EndReason::Reused => Status::Revoked,
                    EndReason::Closed => Status::Ended,
                    EndReason::Idle | EndReason::Lifetime => Status::Expired,
                },
                Some(since),
            ),
        };
        InstanceView {
            id: instance.id.clone(),
            agent: instance.agent.clone(),
            sponsor: self.sponsor_name(&instance.sponsor),
            purpose: instance.purpose.clone(),
            parent: instance.parent.clone(),
            depth: instance.depth,
            via: match &instance.origin {
                Origin::AgentKey(_) => None,
                Origin::Via(via) => Some(via.clone()),
            },
            authority: instance.bound(),
            authority_unknown: instance.bound_unknown(),
            max_calls: instance.max_calls,
            status,
            narrowed_by,
            break_glass: under,
            started_at: instance.started_at,
            expires_at: instance.expires_at,
            ended_at,
            last_used_at: instance.last_used.get(),
            proven: instance.binding.proven(),
            upstream: instance.upstream.clone(),
            key: instance.key().cloned(),
            record: format!("control/{}", instance.record),
        }
    }

    /// How a break-glass is shown at `now`.
    pub fn break_glass_view(&self, glass: &BreakGlass, now: Time) -> BreakGlassView {
        let sponsor = self.agent(&glass.agent).map(|agent| &agent.sponsor);
        let expired = glass.life.expired(now);
        BreakGlassView {
            id: glass.id.clone(),
            agent: glass.agent.clone(),
            sponsor: sponsor.map_or_else(String::new, |it| self.sponsor_name(it)),
            state: if expired { "over" } else { glass.life.as_str() },
            sets_aside: glass.sets_aside.clone(),
            reason: match &glass.reason {
                Known::Named(reason) => Some(reason.as_str().to_owned()),
                Known::Erased | Known::Sealed => None,
            },
            lasts_s: glass.lasts.as_secs(),
            requested_by: glass.requested.admin.clone(),
            requested_at: glass.requested.at,
            record: format!("control/{}", glass.requested.record),
            opened_by: glass.opened.as_ref().map(|it| it.admin.clone()),
            opened_at: glass.opened.as_ref().map(|it| it.at),
            opened_record: glass
                .opened
                .as_ref()
                .map(|it| format!("control/{}", it.record)),
            until: glass.until(),
            over: match glass.life {
                GlassLife::Over { cause, .. } => Some(cause),
                GlassLife::Requested { .. } | GlassLife::Open { .. } => {
                    expired.then_some(GlassOver::Expired)
                }
            },
        }
    }

    /// Every named administrator, by name.
    pub fn admin_views(&self) -> Vec<AdminView> {
        self.admins()
            .map(|admin| AdminView {
                id: admin.id.clone(),
                status: Status::Active,
                key: admin.key.clone(),
                added_at: admin.added_at,
            })
            .collect()
    }

    /// Every policy enforcement point, by name.
    pub fn pep_views(&self) -> Vec<PepView> {
        self.peps()
            .map(|pep| PepView {
                id: pep.name.clone(),
                status: Status::Active,
                serves: pep.serves.clone(),
                trusted: pep.trusted,
                added_at: pep.added_at,
            })
            .collect()
    }

    /// Every group, by name.
    pub fn group_views(&self) -> Vec<GroupView> {
        let view = |group: &Arc<Group>| GroupView {
            name: group.name().map(str::to_owned),
            handle: group.handle.clone(),
            members: group
                .members
                .iter()
                .map(|member| self.sponsor_name(member))
                .collect(),
            added_at: group.added_at,
            record: format!("control/{}", group.record),
        };
        let mut views: Vec<GroupView> = self.groups().map(view).collect();
        views.sort_by(|one, other| (&one.name, &one.handle).cmp(&(&other.name, &other.handle)));
        views
    }

    /// Every sponsor, in the order they were added.
    pub fn sponsor_views(&self) -> Vec<SponsorView> {
        self.sponsors()
            .into_iter()
            .map(|sponsor| self.sponsor_view(sponsor))
            .collect()
    }

    /// Every agent, by id.
    pub fn agent_views(&self, now: Time) -> Vec<AgentView> {
        self.agents()
            .map(|agent| self.agent_view(agent, now))
            .collect()
    }

    /// Every instance, in the order they started.
    pub fn instance_views(&self, now: Time) -> Vec<InstanceView> {
        self.instances()
            .into_iter()
            .map(|instance| self.instance_view(instance, now))
            .collect()
    }
}
