//! Decisions: what a command comes to, given a state and a moment. Pure but for fresh ids.
//!
//! What is refused here is never written, so the fold need not ask again. What the fold holds
//! impossible must be refused here: a property test compares the two.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ledger::Actor;
use vocab::Authority;
use vocab::digest::Digest;
use vocab::id::{AdminId, AgentId, Handle, PepName, SponsorId, UpstreamName};
use vocab::limits::{
    AGENT_KEY_LIFETIME_SECONDS_MAX, ALLOW_LINES_MAX, DELEGATION_DEPTH_MAX, DEPUTIES_MAX,
    DIRECTORY_TOKENS_MAX, GROUP_CHANGES_MAX, INSTANCE_LIFETIME_SECONDS_MAX,
    INSTANCES_PER_AGENT_MAX, PEP_SERVES_MAX, PURPOSES_PER_AGENT_MAX,
};
use vocab::rng::{Rng, RngError};
use vocab::suggest::nearest;
use vocab::time::Time;

use crate::approval::{self, ApprovalRequest};
use crate::break_glass::{self, Held};
use crate::command::{Command, NewAgent, NewKey, NewOwners, Settings, Subject};
use crate::entry::{
    AdminAdded, AdminRemoved, AgentAccepted, AgentAdded, AgentKeyRotated, AgentLapsed, AgentOwned,
    AgentResumed, AgentRetired, AgentReviewed, AgentSuspended, AgentTransferred, AllResumed,
    AllStopped, ApprovalRequested, DelegationLimits, DirectoryTokenAdded, DirectoryTokenRemoved,
    Erased, Event, GroupMembers, GroupRemoved, InstanceEnded, InstanceStarted, Key, NodeDegraded,
    NodeStarted, NodeStopped, Owners, People, PepAdded, PepRemoved, PolicyActivated,
    SessionsRevoked, Signal, SponsorDeputies, SponsorResumed, SponsorRisk, SponsorSuspended,
    Sponsorship, ToolsListed, UpstreamConfigured, UpstreamResumed, UpstreamStopped, VaultChange,
    WrappingKeyChanged,
};
use crate::lifecycle::{Acceptance, AgentLife, InstanceLife, SponsorLife};
use crate::refusal::Refusal;
use crate::signing;
use crate::starting;
use crate::state::{
    Agent, Group, Instance, Known, SignedIn, Sponsor, State, Upstream, WELL, same_cause,
};
use crate::text::{GroupProfile, Person, Reason, Word};

/// What a command comes to.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Nothing is to be written.
    Unchanged(Subject),
    /// An instance goes on.
    Continue(Arc<Instance>),
    /// These entries, all or none.
    Write(Subject, Vec<Event>),
    /// An entry with something sealed beside it, and these after it.
    Seal(Subject, Box<Sealing>, Vec<Event>),
}

/// An entry beside which something is to be sealed.
#[derive(Debug)]
pub(crate) enum Sealing {
    /// With what is handed on to the instance, and not in the body yet.
    InstanceStarted(Box<InstanceStarted>, Arc<Authority>),
    SponsorAdded(Handle, Person, Option<Signal>),
    SponsorChanged(Handle, Person, Vec<Word>, Signal),
    GroupAdded(Handle, GroupProfile, Signal),
    GroupChanged(Handle, GroupProfile, Signal),
    /// Of an agent that acts for this sponsor.
    Approval(Handle, Box<(ApprovalRequested, ApprovalRequest)>),
    BreakGlass {
        id: Handle,
        agent: AgentId,
        by: AdminId,
        sets_aside: Vec<Held>,
        lasts_s: u64,
        open_within_s: u64,
        reason: Reason,
    },
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
    actor: &Actor,
    command: Command,
) -> Result<Plan, NoPlan> {
    Ok(match command {
        Command::BreakGlass(command) => {
            break_glass::decide(state, settings.break_glass, rng, now, actor, command)?
        }
        Command::Approval(command) => {
            approval::decide(state, settings.approvals, rng, now, actor, command)?
        }
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
        Command::AddPep {
            pep,
            token,
            serves,
            trusted,
        } => add_pep(state, pep, token, serves, trusted)?,
        Command::RemovePep { pep } => {
            if state.pep(&pep).is_none() {
                let known = state.peps().map(|pep| pep.name.as_str());
                let nearest = nearest(pep.as_str(), known).map(str::to_owned);
                return Err(Refusal::UnknownPep {
                    given: pep,
                    nearest,
                }
                .into());
            }
            Plan::Write(
                Subject::Pep(pep.clone()),
                vec![Event::PepRemoved(PepRemoved { pep })],
            )
        }
        Command::AddSponsor { id, name, email } => {
            if state.sponsor_by_id(&id).is_some() {
                return Err(Refusal::SponsorExists { id }.into());
            }
            add_sponsor(state, rng, Person::new(id, name, email), None)?
        }
        Command::ProvisionSponsor { person, signal } => {
            if state.sponsor_by_id(&person.id).is_some() {
                return Err(Refusal::SponsorExists { id: person.id }.into());
            }
            add_sponsor(state, rng, *person, Some(signal))?
        }
        Command::ChangeSponsor {
            sponsor: handle,
            person,
            changes,
            signal,
        } => {
            let found = sponsor_of(state, &handle)?;
            if found.person() == Some(&*person) && found.provisioned {
                return Ok(Plan::Unchanged(Subject::Sponsor(handle)));
            }
            let other = |found: Option<&Arc<Sponsor>>| found.is_some_and(|it| it.handle != handle);
            if other(state.sponsor_by_id(&person.id)) {
                return Err(Refusal::SponsorExists { id: person.id }.into());
            }
            let external = person.external_id.as_ref();
            if other(external.and_then(|id| state.sponsor_by_external_id(id))) {
                return Err(Refusal::ExternalIdTaken.into());
            }
            let sealing = Sealing::SponsorChanged(handle.clone(), *person, changes, signal);
            Plan::Seal(Subject::Sponsor(handle), Box::new(sealing), Vec::new())
        }
        Command::RevokeSessions {
            sponsor: handle,
            signal,
        } => {
            sponsor_of(state, &handle)?;
            Plan::Write(
                Subject::Sponsor(handle.clone()),
                vec![Event::SessionsRevoked(SessionsRevoked {
                    sponsor: handle,
                    signal,
                })],
            )
        }
        Command::SetRisk {
            sponsor: handle,
            risk,
            signal,
        } => {
            let found = sponsor_of(state, &handle)?;
            unless(
                found.risk == Some(risk) && !later(found, &signal, risk.rank()),
                Subject::Sponsor(handle.clone()),
                Event::SponsorRisk(SponsorRisk {
                    sponsor: handle,
                    risk,
                    signal,
                }),
            )
        }
        Command::AddGroup {
            profile,
            members,
            signal,
        } => {
            group_name_free(state, None, &profile)?;
            let group = Handle::random("g", rng)?;
            let joins = members_change(state, &group, members, Vec::new(), &signal)?;
            let sealing = Sealing::GroupAdded(group.clone(), profile, signal);
            Plan::Seal(
                Subject::Group(group),
                Box::new(sealing),
                joins.into_iter().collect(),
            )
        }
        Command::ChangeGroup {
            group: handle,
            profile,
            signal,
        } => {
            let found = group(state, &handle)?;
            if matches!(&found.profile, Known::Named(known) if *known == profile) {
                return Ok(Plan::Unchanged(Subject::Group(handle)));
            }
            group_name_free(state, Some(&handle), &profile)?;
            let sealing = Sealing::GroupChanged(handle.clone(), profile, signal);
            Plan::Seal(Subject::Group(handle), Box::new(sealing), Vec::new())
        }
        Command::ChangeMembers {
            group: handle,
            added,
            removed,
            signal,
        } => {
            group(state, &handle)?;
            match members_change(state, &handle, added, removed, &signal)? {
                None => Plan::Unchanged(Subject::Group(handle)),
                Some(event) => Plan::Write(Subject::Group(handle), vec![event]),
            }
        }
        Command::RemoveGroup {
            group: handle,
            signal,
        } => {
            group(state, &handle)?;
            Plan::Write(
                Subject::Group(handle.clone()),
                vec![Event::GroupRemoved(GroupRemoved {
                    group: handle,
                    signal,
                })],
            )
        }
        Command::SuspendSponsor { id, signal } => {
            let sponsor = sponsor(state, &id)?;
            let subject = Subject::Sponsor(sponsor.handle.clone());
            let news = |by: &Signal| later(sponsor, by, by.rank());
            let named = |by: &Option<Signal>| same_cause(by.as_ref(), signal.as_ref());
            match sponsor.life {
                // Each who stops them is on record, since each has to lift it.
                SponsorLife::Suspended { .. }
                    if sponsor.holds.iter().any(named) && !signal.as_ref().is_some_and(news) =>
                {
                    Plan::Unchanged(subject)
                }
                SponsorLife::Active { .. } | SponsorLife::Suspended { .. } => Plan::Write(
                    subject,
                    vec![Event::SponsorSuspended(SponsorSuspended {
                        sponsor: sponsor.handle.clone(),
                        signal,
                    })],
                ),
                SponsorLife::Erased { .. } => Plan::Unchanged(subject),
            }
        }
        Command::LiftSuspension {
            sponsor: handle,
            event,
            signal,
        } => {
            let found = sponsor_of(state, &handle)?;
            let body = SponsorResumed {
                sponsor: handle.clone(),
                signal: Some(signal),
                lifts: Some(event),
            };
            let news = |by: &Signal| later(found, by, by.rank());
            let lifts = found.holds.iter().any(|hold| body.lifts(hold.as_ref()));
            unless(
                !lifts && !body.signal.as_ref().is_some_and(news),
                Subject::Sponsor(handle),
                Event::SponsorResumed(body),
            )
        }
        Command::ResumeSponsor {
            id,
            signal,
            despite,
        } => {
            let found = sponsor(state, &id)?;
            let subject = Subject::Sponsor(found.handle.clone());
            let others: Vec<String> = found.holds_of_others().map(held_by).collect();
            if !despite && !others.is_empty() {
                let by = others.join(", ");
                return Err(Refusal::HeldByOthers { sponsor: id, by }.into());
            }
            match found.life {
                SponsorLife::Active { .. } => Plan::Unchanged(subject),
                SponsorLife::Suspended { .. } => Plan::Write(
                    subject,
                    vec![Event::SponsorResumed(SponsorResumed {
                        sponsor: found.handle.clone(),
                        signal,
                        lifts: None,
                    })],
                ),
                // An erased sponsor has no id to be found by.
                SponsorLife::Erased { .. } => return Err(unknown_sponsor(state, &id).into()),
            }
        }
        Command::AddAgent(new) => add_agent(state, settings, now, *new)?,
        Command::SuspendAgent { id, signal } => {
            let agent = agent(state, &id)?;
            match agent.life {
                AgentLife::Active { .. } => Plan::Write(
                    Subject::Agent(id.clone()),
                    vec![Event::AgentSuspended(AgentSuspended { agent: id, signal })],
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
                    starting::sponsored(state, agent)?;
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
            let mut had = agent.key.iter().chain(&agent.past_keys);
            if had.any(|past| past.kid == key.kid) {
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
        Command::AcceptAgent {
            agent: id,
            sponsor,
            sign_in,
            asked_in,
            terms,
            signed_in,
        } => {
            let agent = not_retired(state, &id)?;
            still_signed_in(state, &sponsor, signed_in)?;
            if agent.sponsor != sponsor {
                return Err(Refusal::NotTheSponsor { agent: id }.into());
            }
            as_asked(agent, asked_in)?;
            starting::sponsored(state, agent)?;
            let same = matches!(agent.acceptance, Acceptance::Accepted { .. })
                && agent.accepted.as_ref().is_some_and(|it| it.terms == terms);
            unless(
                same,
                Subject::Agent(id.clone()),
                Event::AgentAccepted(AgentAccepted {
                    agent: id,
                    sponsor,
                    sponsorship: Sponsorship::Verified,
                    sign_in,
                    terms,
                }),
            )
        }
        Command::LapseAgent { agent: id, signal } => {
            let agent = not_retired(state, &id)?;
            unless(
                matches!(agent.acceptance, Acceptance::Lapsed { .. }),
                Subject::Agent(id.clone()),
                Event::AgentLapsed(AgentLapsed { agent: id, signal }),
            )
        }
        Command::NameDeputies {
            sponsor: id,
            deputies: named,
        } => {
            let of = sponsor(state, &id)?;
            let mut deputies = Vec::new();
            for deputy in named {
                let deputy = &active_sponsor(state, deputy)?.handle;
                if *deputy == of.handle {
                    return Err(Refusal::OwnDeputy { sponsor: id }.into());
                }
                if !deputies.contains(deputy) {
                    deputies.push(deputy.clone());
                }
            }
            if deputies.len() > DEPUTIES_MAX {
                return Err(Refusal::TooManyDeputies {
                    sponsor: id,
                    given: deputies.len(),
                    max: DEPUTIES_MAX,
                }
                .into());
            }
            unless(
                of.deputies == deputies,
                Subject::Sponsor(of.handle.clone()),
                Event::SponsorDeputies(SponsorDeputies {
                    sponsor: of.handle.clone(),
                    deputies,
                }),
            )
        }
        Command::TakeOver {
            agent: id,
            person,
            sign_in,
            asked_in,
            terms,
            signed_in,
        } => {
            let agent = not_retired(state, &id)?;
            still_signed_in(state, &person, signed_in)?;
            state.takes_over(agent, &person)?;
            as_asked(agent, asked_in)?;
            let sponsorship = Sponsorship::Verified;
            let transferred = AgentTransferred {
                agent: id.clone(),
                from: agent.sponsor.clone(),
                to: person.clone(),
                sponsorship,
            };
            let accepted = AgentAccepted {
                agent: id.clone(),
                sponsor: person,
                sponsorship,
                sign_in,
                terms,
            };
            Plan::Write(
                Subject::Agent(id),
                vec![
                    Event::AgentTransferred(transferred),
                    Event::AgentAccepted(accepted),
                ],
            )
        }
        Command::TransferAgent { agent: id, to } => {
            let agent = not_retired(state, &id)?;
            let new = active_sponsor(state, to)?;
            if new.handle == agent.sponsor {
                let sponsor = state.sponsor_name(&new.handle).parse();
                let sponsor = sponsor.map_err(|_| Refusal::NotTheSponsor { agent: id.clone() })?;
                return Err(Refusal::SameSponsor { agent: id, sponsor }.into());
            }
            Plan::Write(
                Subject::Agent(id.clone()),
                vec![Event::AgentTransferred(AgentTransferred {
                    agent: id,
                    from: agent.sponsor.clone(),
                    to: new.handle.clone(),
                    sponsorship: Sponsorship::Asserted,
                })],
            )
        }
        Command::OwnAgent { agent: id, owners } => {
            let agent = not_retired(state, &id)?;
            let owners = new_owners(state, owners)?;
            unless(
                agent.owners == owners,
                Subject::Agent(id.clone()),
                Event::AgentOwned(AgentOwned { agent: id, owners }),
            )
        }
        Command::ReviewAgent { agent: id } => {
            not_retired(state, &id)?;
            Plan::Write(
                Subject::Agent(id.clone()),
                vec![Event::AgentReviewed(AgentReviewed { agent: id })],
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
            let child = continues.as_ref().and_then(|id| starting::child(state, id));
            if let Some(id) = continues {
                starting::goes_on(state, now, &agent, id, binding, &purpose)?;
            }
            match child {
                Some(child) => starting::child_goes_on(state, now, &kid, child, &upstream)?,
                None => starting::by_key(state, rng, now, &agent, kid, purpose, binding, upstream)?,
            }
        }
        Command::StartFor {
            agent,
            person,
            via,
            purpose,
            binding,
            upstream,
            signed_in,
        } => {
            if let Some(person) = &person {
                still_signed_in(state, person, signed_in)?;
            }
            starting::for_someone(
                state, rng, now, agent, person, via, purpose, binding, upstream,
            )?
        }
        Command::Delegate(asked) => starting::below(state, rng, now, *asked)?,
        Command::RefreshToken { instance, serial } => {
            starting::refresh(state, now, instance, serial)?
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
            table,
            observe_until,
        } => {
            let table = Some(table);
            let same = state.upstream(&name).is_some_and(|upstream| {
                upstream.config == config
                    && upstream.table == table
                    && upstream.observe_until == observe_until
            });
            unless(
                same,
                Subject::Upstream(name.clone()),
                Event::UpstreamConfigured(UpstreamConfigured {
                    upstream: name,
                    config,
                    observe_until,
                    table,
                }),
            )
        }
        Command::StopUpstream { name, signal } => {
            let same = !upstream(state, &name)?.switch.is_on();
            unless(
                same,
                Subject::Upstream(name.clone()),
                Event::UpstreamStopped(UpstreamStopped {
                    upstream: name,
                    signal,
                }),
            )
        }
        Command::ResumeUpstream { name } => {
            let same = upstream(state, &name)?.switch.is_on();
            unless(
                same,
                Subject::Upstream(name.clone()),
                Event::UpstreamResumed(UpstreamResumed { upstream: name }),
            )
        }
        Command::StopAll { signal } => unless(
            !state.everything().is_on(),
            Subject::All,
            Event::AllStopped(AllStopped { signal }),
        ),
        Command::ResumeAll => unless(
            state.everything().is_on(),
            Subject::All,
            Event::AllResumed(AllResumed {}),
        ),
        Command::CertifyCut(body) => {
            let cut = state.cut(body.cut);
            let cut = cut.ok_or(Refusal::UnknownCut { given: body.cut })?;
            unless(
                cut.certificate.is_some(),
                Subject::Cut(body.cut),
                Event::CutOff(body),
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
        Command::PinTools(it) => {
            let same = upstream(state, &it.upstream)?.is_pinned_by(it.pins);
            let subject = Subject::Upstream(it.upstream.clone());
            unless(same, subject, Event::ToolsPinned(it))
        }
        Command::JudgeTool(it) => {
            let same = upstream(state, &it.upstream)?.is_pinned_by(it.pins);
            let subject = Subject::Upstream(it.upstream.clone());
            unless(same, subject, Event::ToolJudged(it))
        }
        Command::ActivatePolicy { set, author, tests } => {
            if tests.failed > 0 {
                return Err(Refusal::TestsFailed {
                    passed: tests.passed,
                    failed: tests.failed,
                }
                .into());
            }
            // Activated again, its names mean whoever has them now.
            let same = state.policy().is_some_and(|active| active.set == set);
            unless(
                same && !state.names_changed(),
                Subject::Policy(set),
                Event::PolicyActivated(PolicyActivated { set, author, tests }),
            )
        }
        Command::NodeStarted {
            version,
            shared_user,
            development,
            asserted,
            calls,
        } => Plan::Write(
            Subject::Node,
            vec![Event::NodeStarted(NodeStarted {
                version,
                shared_user,
                development,
                asserted: Some(asserted),
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
            let subject = Subject::TokenKey(kid.clone());
            written(subject, signing::add(state.token_keys(), kid, jwk)?)
        }
        Command::TokenKey(command) => {
            let subject = Subject::TokenKey(command.kid().clone());
            written(subject, signing::decide(state.token_keys(), command, now)?)
        }
        Command::LogKey(command) => {
            let subject = Subject::LogKey(command.key().verifier().key_name());
            written(subject, state.decide_log_key(*command, now)?)
        }
        Command::ChangeWrappingKey { key } => unless(
            state.wrapping_key() == Some(key),
            Subject::Node,
            Event::WrappingKeyChanged(WrappingKeyChanged { key }),
        ),
        Command::ChangeVault(body) => unless(
            body.change == VaultChange::Found && state.vault() >= body.generation,
            Subject::Node,
            Event::VaultChanged(body),
        ),
        Command::AddDirectoryToken { digest } => {
            let live = state.directory_tokens().count();
            if live >= DIRECTORY_TOKENS_MAX {
                return Err(Refusal::DirectoryTokens { live: live as u64 }.into());
            }
            let token = Handle::random("d", rng)?;
            Plan::Write(
                Subject::DirectoryToken(token.clone()),
                vec![Event::DirectoryTokenAdded(DirectoryTokenAdded {
                    token,
                    digest,
                })],
            )
        }
        Command::RemoveDirectoryToken { token } => {
            if !state.directory_tokens().any(|known| known.id == token) {
                return Err(Refusal::UnknownDirectoryToken { given: token }.into());
            }
            Plan::Write(
                Subject::DirectoryToken(token.clone()),
                vec![Event::DirectoryTokenRemoved(DirectoryTokenRemoved {
                    token,
                })],
            )
        }
        Command::Erase { handle } => erase(state, handle)?,
    })
}

/// Who stopped a sponsor, and what for.
fn held_by(hold: &Signal) -> String {
    format!("{} ({})", hold.source, hold.event)
}

fn written(subject: Subject, events: Vec<Event>) -> Plan {
    if events.is_empty() {
        Plan::Unchanged(subject)
    } else {
        Plan::Write(subject, events)
    }
}

fn add_sponsor(
    state: &State,
    rng: &dyn Rng,
    person: Person,
    signal: Option<Signal>,
) -> Result<Plan, NoPlan> {
    let external = person.external_id.as_ref();
    if external.is_some_and(|id| state.sponsor_by_external_id(id).is_some()) {
        return Err(Refusal::ExternalIdTaken.into());
    }
    let handle = Handle::random("s", rng)?;
    let sealing = Sealing::SponsorAdded(handle.clone(), person, signal);
    Ok(Plan::Seal(
        Subject::Sponsor(handle),
        Box::new(sealing),
        Vec::new(),
    ))
}

/// The sponsor behind a handle, unless who they were is erased.
fn sponsor_of<'a>(state: &'a State, handle: &Handle) -> Result<&'a Sponsor, Refusal> {
    let found = state.sponsor(handle).filter(|it| match it.life {
        SponsorLife::Active { .. } | SponsorLife::Suspended { .. } => true,
        SponsorLife::Erased { .. } => false,
    });
    found.map(AsRef::as_ref).ok_or(Refusal::UnknownHandle {
        given: handle.clone(),
    })
}

fn group<'a>(state: &'a State, handle: &Handle) -> Result<&'a Group, Refusal> {
    let found = state.group(handle).map(AsRef::as_ref);
    found.ok_or_else(|| Refusal::UnknownGroup {
        given: handle.to_string(),
    })
}

/// Policies name groups by what they are called, so no two are called the same.
fn group_name_free(
    state: &State,
    own: Option<&Handle>,
    profile: &GroupProfile,
) -> Result<(), Refusal> {
    let name = profile.display_name.as_str();
    let taken = state
        .groups()
        .any(|it| Some(&it.handle) != own && it.name() == Some(name));
    if taken {
        return Err(Refusal::GroupExists);
    }
    Ok(())
}

fn members_change(
    state: &State,
    handle: &Handle,
    mut added: Vec<Handle>,
    mut removed: Vec<Handle>,
    signal: &Signal,
) -> Result<Option<Event>, Refusal> {
    for member in &added {
        sponsor_of(state, member)?;
    }
    for list in [&mut added, &mut removed] {
        list.sort();
        list.dedup();
    }
    added.retain(|it| !state.is_member(handle, it));
    removed.retain(|it| state.is_member(handle, it));
    if added.is_empty() && removed.is_empty() {
        return Ok(None);
    }
    let given = added.len() + removed.len();
    if given > GROUP_CHANGES_MAX {
        return Err(Refusal::TooManyMembers {
            given: given as u64,
            max: GROUP_CHANGES_MAX as u64,
        });
    }
    Ok(Some(Event::GroupMembers(GroupMembers {
        group: handle.clone(),
        added,
        removed,
        signal: signal.clone(),
    })))
}

/// Refuses an answer to what was asked before: whether somebody answers for an agent was asked anew.
fn as_asked(agent: &Agent, asked_in: u64) -> Result<(), Refusal> {
    if agent.asked_in == asked_in {
        return Ok(());
    }
    let agent = agent.id.clone();
    Err(Refusal::AskedAnew { agent })
}

/// Refuses what is asked in the name of a person who was signed out since they signed in.
pub(crate) fn still_signed_in(
    state: &State,
    person: &Handle,
    since: Option<SignedIn>,
) -> Result<(), Refusal> {
    let over = since.is_some_and(|since| {
        let person = state.sponsor(person);
        person.is_some_and(|person| person.is_signed_out(since))
    });
    if over {
        return Err(Refusal::SignedOut);
    }
    Ok(())
}

/// Whether an event is to be put on record because it is later than what is.
fn later(sponsor: &Sponsor, signal: &Signal, rank: u8) -> bool {
    signal.happened_at.is_some() && sponsor.is_news(signal, rank)
}

fn unless(same: bool, subject: Subject, event: Event) -> Plan {
    if same {
        Plan::Unchanged(subject)
    } else {
        Plan::Write(subject, vec![event])
    }
}

fn add_pep(
    state: &State,
    pep: PepName,
    token: Digest,
    mut serves: Vec<UpstreamName>,
    trusted: bool,
) -> Result<Plan, Refusal> {
    serves.sort_unstable();
    serves.dedup();
    if serves.is_empty() || serves.len() > PEP_SERVES_MAX {
        return Err(Refusal::PepServes {
            pep,
            given: serves.len(),
            max: PEP_SERVES_MAX,
        });
    }
    if let Some(known) = state.pep(&pep) {
        let same = known.token == token && known.serves == serves && known.trusted == trusted;
        return if same {
            Ok(Plan::Unchanged(Subject::Pep(pep)))
        } else {
            Err(Refusal::PepExists { pep })
        };
    }
    if let Some(holder) = state.pep_of_token(&token) {
        let holder = holder.name.clone();
        return Err(Refusal::PepToken { holder });
    }
    for name in &serves {
        upstream(state, name)?;
    }
    let added = PepAdded {
        pep: pep.clone(),
        token,
        serves,
        trusted,
    };
    Ok(Plan::Write(Subject::Pep(pep), vec![Event::PepAdded(added)]))
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
    let sponsor = active_sponsor(state, new.sponsor)?;
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
    let delegation = DelegationLimits {
        max_depth: new.max_depth.unwrap_or(settings.delegation.max_depth),
        max_children: new.max_children.unwrap_or(settings.delegation.max_children),
    };
    within_from(
        &id,
        "the number of hops of delegation",
        u64::from(delegation.max_depth),
        0..=u64::from(DELEGATION_DEPTH_MAX),
    )?;
    within_from(
        &id,
        "the number of live instances below one",
        u64::from(delegation.max_children),
        0..=u64::from(INSTANCES_PER_AGENT_MAX),
    )?;
    if let Some(People::Group { group }) = &new.people
        && state.group(group).is_none()
    {
        return Err(Refusal::UnknownGroup {
            given: group.to_string(),
        });
    }
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
            key: new.key.map(|key| new_key(settings, now, key)).transpose()?,
            people: new.people,
            delegation,
            owners: new_owners(state, new.owners)?,
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
    within_from(agent, what, given, 1..=max)
}

fn within_from(
    agent: &AgentId,
    what: &'static str,
    given: u64,
    range: RangeInclusive<u64>,
) -> Result<(), Refusal> {
    if range.contains(&given) {
        return Ok(());
    }
    Err(Refusal::OutOfRange {
        agent: agent.clone(),
        what,
        given,
        min: *range.start(),
        max: *range.end(),
    })
}

fn new_owners(state: &State, new: NewOwners) -> Result<Owners, Refusal> {
    let owner = |id: Option<SponsorId>| {
        id.map(|id| active_sponsor(state, id).map(|sponsor| sponsor.handle.clone()))
            .transpose()
    };
    Ok(Owners {
        business: owner(new.business)?,
        technical: owner(new.technical)?,
        policy: owner(new.policy)?,
    })
}

/// The sponsor, if they may be given something to answer for.
fn active_sponsor(state: &State, id: SponsorId) -> Result<&Sponsor, Refusal> {
    let sponsor = sponsor(state, &id)?;
    match sponsor.life {
        SponsorLife::Active { .. } => Ok(sponsor),
        SponsorLife::Suspended { .. } | SponsorLife::Erased { .. } => {
            Err(Refusal::SponsorNotActive { sponsor: id })
        }
    }
}

/// The agent, if anything of it can change yet.
pub(crate) fn not_retired<'a>(state: &'a State, id: &AgentId) -> Result<&'a Agent, Refusal> {
    let agent = agent(state, id)?;
    match agent.life {
        AgentLife::Active { .. } | AgentLife::Suspended { .. } => Ok(agent),
        AgentLife::Retired { since } => Err(Refusal::AgentRetired {
            agent: id.clone(),
            since,
        }),
    }
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

pub(crate) fn agent<'a>(state: &'a State, id: &AgentId) -> Result<&'a Agent, Refusal> {
    state
        .agent(id)
        .map(AsRef::as_ref)
        .ok_or_else(|| Refusal::UnknownAgent {
            given: id.clone(),
            nearest: nearest(id.as_str(), state.agents().map(|agent| agent.id.as_str()))
                .map(ToOwned::to_owned),
        })
}

pub(crate) fn upstream<'a>(state: &'a State, name: &UpstreamName) -> Result<&'a Upstream, Refusal> {
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
