//! Decisions: what a command comes to, given a state and a moment. Pure but for fresh ids.
//!
//! What is refused here is never written, so the fold need not ask again. What the fold holds
//! impossible must be refused here: a property test compares the two.

use std::sync::Arc;
use std::time::Duration;

use vocab::id::{AgentId, Handle, InstanceId, PurposePath, SponsorId, UpstreamName};
use vocab::limits::{
    AGENT_KEY_LIFETIME_SECONDS_MAX, ALLOW_LINES_MAX, INSTANCE_LIFETIME_SECONDS_MAX,
    INSTANCES_PER_AGENT_MAX, PURPOSES_PER_AGENT_MAX,
};
use vocab::rng::{Rng, RngError};
use vocab::suggest::nearest;
use vocab::time::Time;

use crate::command::{Command, NewAgent, NewKey, Settings, Subject};
use crate::entry::{
    AdminAdded, AdminRemoved, AgentAdded, AgentKeyRotated, AgentResumed, AgentRetired,
    AgentSuspended, Binding, Erased, Event, InstanceEnded, InstanceStarted, Key, NodeDegraded,
    NodeStarted, NodeStopped, PolicyActivated, SponsorResumed, SponsorSuspended, Sponsorship,
    TokenKeyAdded, ToolsListed, UpstreamConfigured,
};
use crate::lifecycle::{AgentLife, EndReason, InstanceLife, SponsorLife};
use crate::refusal::Refusal;
use crate::standing::sponsor_narrowed;
use crate::state::{Agent, Instance, Sponsor, State, Upstream, WELL};
use crate::text::{KeyId, Person};

/// What a command comes to.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Nothing is to be written.
    Unchanged(Subject),
    /// An instance goes on.
    Continue(Arc<Instance>),
    /// These entries, all or none.
    Write(Subject, Vec<Event>),
    /// A new sponsor's entry, once who they are is sealed.
    AddSponsor(Handle, Person),
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPlan {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Random(#[from] RngError),
}

/// Decides `command` at `now`.
pub(crate) fn decide(
    state: &State,
    settings: &Settings,
    rng: &dyn Rng,
    now: Time,
    command: Command,
) -> Result<Plan, NoPlan> {
    Ok(match command {
        Command::AddAdmin { key } => {
            let id = key.admin().clone();
            let known = state.admin(&id);
            if known.is_some_and(|admin| admin.key != key) {
                return Err(Refusal::AdminExists { id }.into());
            }
            unless(
                known.is_some(),
                Subject::Admin(id.clone()),
                Event::AdminAdded(AdminAdded { admin: id, key }),
            )
        }
        Command::RemoveAdmin { id } => {
            if state.admin(&id).is_none() {
                let known = state.admins().map(|admin| admin.id.as_str());
                let nearest = nearest(id.as_str(), known).map(str::to_owned);
                return Err(Refusal::UnknownAdmin { given: id, nearest }.into());
            }
            Plan::Write(
                Subject::Admin(id.clone()),
                vec![Event::AdminRemoved(AdminRemoved { admin: id })],
            )
        }
        Command::AddSponsor { id, name, email } => {
            if state.sponsor_by_id(&id).is_some() {
                return Err(Refusal::SponsorExists { id }.into());
            }
            Plan::AddSponsor(Handle::random("s", rng)?, Person { id, name, email })
        }
        Command::SuspendSponsor { id } => {
            let sponsor = sponsor(state, &id)?;
            let subject = Subject::Sponsor(sponsor.handle.clone());
            match sponsor.life {
                SponsorLife::Active { .. } => Plan::Write(
                    subject,
                    vec![Event::SponsorSuspended(SponsorSuspended {
                        sponsor: sponsor.handle.clone(),
                    })],
                ),
                SponsorLife::Suspended { .. } | SponsorLife::Erased { .. } => {
                    Plan::Unchanged(subject)
                }
            }
        }
        Command::ResumeSponsor { id } => {
            let found = sponsor(state, &id)?;
            let subject = Subject::Sponsor(found.handle.clone());
            match found.life {
                SponsorLife::Active { .. } => Plan::Unchanged(subject),
                SponsorLife::Suspended { .. } => Plan::Write(
                    subject,
                    vec![Event::SponsorResumed(SponsorResumed {
                        sponsor: found.handle.clone(),
                    })],
                ),
                // An erased sponsor has no id to be found by.
                SponsorLife::Erased { .. } => return Err(unknown_sponsor(state, &id).into()),
            }
        }
        Command::AddAgent(new) => add_agent(state, settings, now, *new)?,
        Command::SuspendAgent { id } => {
            let agent = agent(state, &id)?;
            match agent.life {
                AgentLife::Active { .. } => Plan::Write(
                    Subject::Agent(id.clone()),
                    vec![Event::AgentSuspended(AgentSuspended { agent: id })],
                ),
                AgentLife::Suspended { .. } => Plan::Unchanged(Subject::Agent(id)),
                AgentLife::Retired { since } => {
                    return Err(Refusal::AgentRetired { agent: id, since }.into());
                }
            }
        }
        Command::ResumeAgent { id } => {
            let agent = agent(state, &id)?;
            match agent.life {
                AgentLife::Active { .. } => Plan::Unchanged(Subject::Agent(id)),
                AgentLife::Suspended { .. } => {
                    sponsored(state, agent)?;
                    Plan::Write(
                        Subject::Agent(id.clone()),
                        vec![Event::AgentResumed(AgentResumed { agent: id })],
                    )
                }
                AgentLife::Retired { since } => {
                    return Err(Refusal::AgentRetired { agent: id, since }.into());
                }
            }
        }
        Command::RetireAgent { id } => match agent(state, &id)?.life {
            AgentLife::Active { .. } | AgentLife::Suspended { .. } => Plan::Write(
                Subject::Agent(id.clone()),
                vec![Event::AgentRetired(AgentRetired { agent: id })],
            ),
            AgentLife::Retired { .. } => Plan::Unchanged(Subject::Agent(id)),
        },
        Command::RotateAgentKey { id, key } => {
            let agent = agent(state, &id)?;
            if let AgentLife::Retired { since } = agent.life {
                return Err(Refusal::AgentRetired { agent: id, since }.into());
            }
            if agent.key.kid == key.kid || agent.past_keys.iter().any(|past| past.kid == key.kid) {
                return Err(Refusal::KeyReused {
                    agent: id,
                    kid: key.kid,
                }
                .into());
            }
            let key = new_key(settings, now, key)?;
            Plan::Write(
                Subject::Agent(id.clone()),
                vec![Event::AgentKeyRotated(AgentKeyRotated { agent: id, key })],
            )
        }
        Command::StartInstance {
            agent,
            kid,
            purpose,
            binding,
            upstream,
            continues,
        } => {
            if let Some(id) = continues {
                goes_on(state, &agent, id, binding, &purpose)?;
            }
            start_instance(state, rng, now, agent, kid, purpose, binding, upstream)?
        }
        Command::EndInstance { id, reason } => {
            let instance = state
                .instance(&id)
                .ok_or_else(|| Refusal::UnknownInstance { given: id.clone() })?;
            match instance.life {
                InstanceLife::Running => Plan::Write(
                    Subject::Instance(id.clone()),
                    vec![Event::InstanceEnded(InstanceEnded {
                        instance: id,
                        reason,
                    })],
                ),
                InstanceLife::Ended { .. } => Plan::Unchanged(Subject::Instance(id)),
            }
        }
        Command::ConfigureUpstream {
            name,
            config,
            observe_until,
        } => {
            let same = state.upstream(&name).is_some_and(|upstream| {
                upstream.config == config && upstream.observe_until == observe_until
            });
            unless(
                same,
                Subject::Upstream(name.clone()),
                Event::UpstreamConfigured(UpstreamConfigured {
                    upstream: name,
                    config,
                    observe_until,
                }),
            )
        }
        Command::RecordTools {
            upstream: name,
            blob,
            count,
        } => {
            let same = upstream(state, &name)?
                .tools
                .as_ref()
                .is_some_and(|tools| tools.blob == blob);
            unless(
                same,
                Subject::Upstream(name.clone()),
                Event::ToolsListed(ToolsListed {
                    upstream: name,
                    blob,
                    count,
                }),
            )
        }
        Command::ActivatePolicy { set, author, tests } => {
            if tests.failed > 0 {
                return Err(Refusal::TestsFailed {
                    passed: tests.passed,
                    failed: tests.failed,
                }
                .into());
            }
            unless(
                state.policy().is_some_and(|active| active.set == set),
                Subject::Policy(set),
                Event::PolicyActivated(PolicyActivated { set, author, tests }),
            )
        }
        Command::NodeStarted {
            version,
            shared_user,
            development,
            calls,
        } => Plan::Write(
            Subject::Node,
            vec![Event::NodeStarted(NodeStarted {
                version,
                shared_user,
                development,
                calls,
            })],
        ),
        Command::NodeStopped { calls } => Plan::Write(
            Subject::Node,
            vec![Event::NodeStopped(NodeStopped { calls })],
        ),
        Command::NodeDegraded { subsystem, cause } => {
            let known = state.node().degraded.get(&subsystem);
            let same = match known {
                Some(known) => *known == cause,
                None => cause.as_str() == WELL,
            };
            unless(
                same,
                Subject::Node,
                Event::NodeDegraded(NodeDegraded { subsystem, cause }),
            )
        }
        Command::AddTokenKey { kid, jwk } => {
            let known = state.token_keys().iter().find(|key| key.kid == kid);
            if known.is_some_and(|key| key.jwk != jwk) {
                return Err(Refusal::TokenKeyTaken { kid }.into());
            }
            unless(
                known.is_some(),
                Subject::TokenKey(kid.clone()),
                Event::TokenKeyAdded(TokenKeyAdded { kid, jwk }),
            )
        }
        Command::Erase { handle } => erase(state, handle)?,
    })
}

fn unless(same: bool, subject: Subject, event: Event) -> Plan {
    if same {
        Plan::Unchanged(subject)
    } else {
        Plan::Write(subject, vec![event])
    }
}

fn add_agent(
    state: &State,
    settings: &Settings,
    now: Time,
    new: NewAgent,
) -> Result<Plan, Refusal> {
    let id = new.id;
    if state.agent(&id).is_some() {
        return Err(Refusal::AgentExists { id });
    }
    let sponsor = sponsor(state, &new.sponsor)?;
    match sponsor.life {
        SponsorLife::Active { .. } => {}
        SponsorLife::Suspended { .. } | SponsorLife::Erased { .. } => {
            return Err(Refusal::SponsorNotActive {
                sponsor: new.sponsor,
            });
        }
    }
    if new.purposes.is_empty() {
        return Err(Refusal::NoPurpose { agent: id });
    }
    at_most(&id, "purposes", new.purposes.len(), PURPOSES_PER_AGENT_MAX)?;
    let lines = new.allow.as_ref().map_or(0, Vec::len);
    at_most(&id, "lines in its allow list", lines, ALLOW_LINES_MAX)?;
    let max_instances = new.max_instances.unwrap_or(settings.max_instances);
    within(
        &id,
        "the number of live instances",
        u64::from(max_instances),
        u64::from(INSTANCES_PER_AGENT_MAX),
    )?;
    let max_lifetime_s = new.max_lifetime.unwrap_or(settings.max_lifetime).as_secs();
    within(
        &id,
        "the lifetime of an instance, in seconds,",
        max_lifetime_s,
        INSTANCE_LIFETIME_SECONDS_MAX,
    )?;
    // A lifetime shorter than the default idle time does not have to name one.
    let default_idle = settings.idle.min(Duration::from_secs(max_lifetime_s));
    let idle_s = new.idle.unwrap_or(default_idle).as_secs();
    within(
        &id,
        "the idle time of an instance, in seconds,",
        idle_s,
        max_lifetime_s,
    )?;
    Ok(Plan::Write(
        Subject::Agent(id.clone()),
        vec![Event::AgentAdded(AgentAdded {
            agent: id,
            sponsor: sponsor.handle.clone(),
            sponsorship: Sponsorship::Asserted,
            purposes: new.purposes,
            allow: new.allow,
            max_instances,
            allow_bearer: new.allow_bearer,
            max_lifetime_s,
            idle_s,
            limits: new.limits,
            key: new_key(settings, now, new.key)?,
            software: new.software,
            model: new.model,
            environment: new.environment,
        })],
    ))
}

fn at_most(agent: &AgentId, what: &'static str, given: usize, max: usize) -> Result<(), Refusal> {
    if given > max {
        return Err(Refusal::TooMany {
            agent: agent.clone(),
            what,
            given: given as u64,
            max: max as u64,
        });
    }
    Ok(())
}

fn within(agent: &AgentId, what: &'static str, given: u64, max: u64) -> Result<(), Refusal> {
    if (1..=max).contains(&given) {
        return Ok(());
    }
    Err(Refusal::OutOfRange {
        agent: agent.clone(),
        what,
        given,
        min: 1,
        max,
    })
}

fn new_key(settings: &Settings, now: Time, key: NewKey) -> Result<Key, Refusal> {
    let expires_at = key
        .expires_at
        .unwrap_or_else(|| now.plus(settings.key_lifetime));
    let begins_at = key.not_before.unwrap_or(now).max(now);
    if expires_at <= begins_at {
        return Err(Refusal::KeyNeverValid {
            kid: key.kid,
            begins_at,
            expires_at,
        });
    }
    if expires_at.since(now).as_secs() > AGENT_KEY_LIFETIME_SECONDS_MAX {
        return Err(Refusal::KeyTooLong {
            kid: key.kid,
            expires_at,
            max_days: AGENT_KEY_LIFETIME_SECONDS_MAX / 86_400,
        });
    }
    Ok(Key {
        kid: key.kid,
        jwk: key.jwk,
        not_before: key.not_before,
        expires_at,
    })
}

/// Whether the agent's instance may go on with this key and purpose. If somebody ended it, it may
/// not; that its time is over is nobody's doing, and another takes its place.
fn goes_on(
    state: &State,
    agent: &AgentId,
    id: InstanceId,
    binding: Binding,
    purpose: &PurposePath,
) -> Result<(), Refusal> {
    let Some(instance) = state.instance(&id).filter(|it| it.agent == *agent) else {
        return Err(Refusal::UnknownInstance { given: id });
    };
    if !binding.proven() || instance.binding != binding || instance.purpose != *purpose {
        return Err(Refusal::OtherInstance { instance: id });
    }
    match instance.life {
        InstanceLife::Ended {
            since,
            reason: reason @ (EndReason::Revoked | EndReason::Closed),
        } => Err(Refusal::InstanceEnded {
            instance: id,
            since,
            reason,
        }),
        InstanceLife::Ended {
            reason: EndReason::Idle | EndReason::Lifetime,
            ..
        }
        | InstanceLife::Running => Ok(()),
    }
}

fn start_instance(
    state: &State,
    rng: &dyn Rng,
    now: Time,
    agent_id: AgentId,
    kid: KeyId,
    purpose: PurposePath,
    binding: Binding,
    name: UpstreamName,
) -> Result<Plan, NoPlan> {
    let agent = agent(state, &agent_id)?;
    match agent.life {
        AgentLife::Active { .. } => {}
        AgentLife::Suspended { since } => {
            return Err(Refusal::AgentSuspended {
                agent: agent_id,
                since,
            }
            .into());
        }
        AgentLife::Retired { since } => {
            return Err(Refusal::AgentRetired {
                agent: agent_id,
                since,
            }
            .into());
        }
    }
    sponsored(state, agent)?;
    // Here, in the order of writing, and not only where the request was authenticated: a key that
    // is replaced meanwhile starts nothing.
    agent.holds(&kid, now)?;
    if !agent.acts_for(&purpose) {
        return Err(Refusal::PurposeNotRegistered {
            agent: agent_id,
            purpose,
            registered: agent.purposes.clone(),
        }
        .into());
    }
    if !binding.proven() && !agent.allow_bearer {
        return Err(Refusal::BearerNotAllowed { agent: agent_id }.into());
    }
    upstream(state, &name)?;
    let mut events = Vec::new();
    let occupant = match binding {
        Binding::Dpop { jkt } => state.occupant(&agent_id, jkt, &purpose),
        Binding::Bearer => None,
    };
    if let Some(instance) = occupant {
        let reason = if instance.outlived(now) {
            EndReason::Lifetime
        } else if instance.idled(now) {
            EndReason::Idle
        } else {
            return Ok(Plan::Continue(Arc::clone(instance)));
        };
        // Its time is over and its key starts another: say that it ended, so that no reader, also
        // after a restart, takes it for running.
        events.push(Event::InstanceEnded(InstanceEnded {
            instance: instance.id.clone(),
            reason,
        }));
    }
    let live = state.live_instances(&agent_id, now);
    if live >= agent.max_instances {
        return Err(Refusal::InstancesReached {
            agent: agent_id,
            live,
            max: agent.max_instances,
        }
        .into());
    }
    let instance = InstanceId::random(rng)?;
    events.push(Event::InstanceStarted(InstanceStarted {
        instance: instance.clone(),
        agent: agent_id,
        sponsor: agent.sponsor.clone(),
        parent: None,
        purpose,
        binding,
        upstream: name,
        key: kid,
        max_lifetime_s: agent.max_lifetime.as_secs(),
        idle_s: agent.idle.as_secs(),
    }));
    Ok(Plan::Write(Subject::Instance(instance), events))
}

fn erase(state: &State, handle: Handle) -> Result<Plan, Refusal> {
    // Either handle of a sponsor means the sponsor: their key is not destroyed behind their back.
    let Some(sponsor) = state
        .sponsor(&handle)
        .or_else(|| state.sponsor_of_key(&handle))
    else {
        return Ok(unless(
            state.erased().contains(&handle),
            Subject::Key(handle.clone()),
            Event::Erased(Erased {
                key: handle,
                sponsor: None,
            }),
        ));
    };
    let subject = Subject::Key(sponsor.key.clone());
    match sponsor.life {
        SponsorLife::Active { .. } => Err(Refusal::EraseActiveSponsor {
            handle: sponsor.handle.clone(),
        }),
        SponsorLife::Suspended { .. } => Ok(Plan::Write(
            subject,
            vec![Event::Erased(Erased {
                key: sponsor.key.clone(),
                sponsor: Some(sponsor.handle.clone()),
            })],
        )),
        SponsorLife::Erased { .. } => Ok(Plan::Unchanged(subject)),
    }
}

fn sponsor<'a>(state: &'a State, id: &SponsorId) -> Result<&'a Sponsor, Refusal> {
    state
        .sponsor_by_id(id)
        .map(AsRef::as_ref)
        .ok_or_else(|| unknown_sponsor(state, id))
}

fn unknown_sponsor(state: &State, id: &SponsorId) -> Refusal {
    let known = state.sponsors();
    let ids = known
        .iter()
        .filter_map(|sponsor| sponsor.id().map(SponsorId::as_str));
    Refusal::UnknownSponsor {
        given: id.clone(),
        nearest: nearest(id.as_str(), ids).map(ToOwned::to_owned),
    }
}

fn agent<'a>(state: &'a State, id: &AgentId) -> Result<&'a Agent, Refusal> {
    state
        .agent(id)
        .map(AsRef::as_ref)
        .ok_or_else(|| Refusal::UnknownAgent {
            given: id.clone(),
            nearest: nearest(id.as_str(), state.agents().map(|agent| agent.id.as_str()))
                .map(ToOwned::to_owned),
        })
}

fn upstream<'a>(state: &'a State, name: &UpstreamName) -> Result<&'a Upstream, Refusal> {
    state
        .upstream(name)
        .map(AsRef::as_ref)
        .ok_or_else(|| Refusal::UnknownUpstream {
            given: name.clone(),
            nearest: nearest(
                name.as_str(),
                state.upstreams().map(|upstream| upstream.name.as_str()),
            )
            .map(ToOwned::to_owned),
        })
}

/// Whether the agent's sponsor stands behind it now.
fn sponsored(state: &State, agent: &Agent) -> Result<(), Refusal> {
    match state
        .sponsor(&agent.sponsor)
        .map(|found| sponsor_narrowed(found))
    {
        Some(None) => Ok(()),
        Some(Some(_)) | None => Err(Refusal::AgentWithoutSponsor {
            agent: agent.id.clone(),
        }),
    }
}
