//! The state as a snapshot has it: what entries said, and nothing that follows from it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ledger::{Keyring, LogReader};
use serde::de::DeserializeOwned;
use vocab::digest::Digest;
use vocab::id::{AdminId, AgentId, Handle, PepName, UpstreamName};
use vocab::time::Time;

use super::names::{self, Pasts};
use super::{
    ActivePolicy, Admin, Agent, Cut, DirectoryToken, Group, Instance, Known, NodeState, Pep,
    Sponsor, State, Upstream,
};
use crate::approval::Approval;
use crate::break_glass::BreakGlass;
use crate::fold;
use crate::lifecycle::{InstanceLife, Switch};
use crate::log_keys::SigningKey;
use crate::signing::TokenKey;
use crate::snapshot::{Form, Input, Malformed, NotTaken, put_length, shape_of, structs};

/// What there is little of.
#[derive(Clone, Debug)]
struct Head {
    size: u64,
    last_time: Option<Time>,
    generation: u64,
    admins: BTreeMap<AdminId, Admin>,
    peps: BTreeMap<PepName, Arc<Pep>>,
    upstreams: BTreeMap<UpstreamName, Arc<Upstream>>,
    everything: Switch,
    cuts: BTreeMap<u64, Cut>,
    policy: Option<Arc<ActivePolicy>>,
    sponsor_pasts: Pasts,
    group_pasts: Pasts,
    name_lost: Option<u64>,
    token_keys: Vec<TokenKey>,
    directory_tokens: Vec<DirectoryToken>,
    break_glasses: BTreeMap<Handle, Arc<BreakGlass>>,
    approvals: BTreeMap<Handle, Arc<Approval>>,
    log_keys: Vec<SigningKey>,
    wrapping_key: Option<Digest>,
    vault: u64,
    erased: BTreeSet<Handle>,
    node: NodeState,
}

structs! {
    Head {
        size last_time generation admins peps upstreams everything cuts policy sponsor_pasts
        group_pasts name_lost token_keys directory_tokens break_glasses approvals log_keys
        wrapping_key vault erased node
    };
}

/// A state at one moment, which the one it was taken from goes on without.
#[derive(Debug)]
pub struct Snapshot {
    head: Head,
    sponsors: Vec<Arc<Sponsor>>,
    groups: Vec<Arc<Group>>,
    agents: Vec<Arc<Agent>>,
    /// And whether it is the one that is continued.
    instances: Vec<(Arc<Instance>, bool)>,
}

impl Snapshot {
    /// How many entries it stands for.
    pub const fn size(&self) -> u64 {
        self.head.size
    }

    /// What is signed: the same bytes for the same state.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.head.put(&mut out);
        let mut sponsors: Vec<_> = self.sponsors.iter().collect();
        sponsors.sort_unstable_by_key(|it| it.record);
        put_all(sponsors.into_iter(), &mut out);
        put_all(self.groups.iter(), &mut out);
        put_all(self.agents.iter(), &mut out);
        let mut instances: Vec<_> = self.instances.iter().collect();
        instances.sort_unstable_by_key(|(it, _)| it.record);
        put_length(instances.len(), &mut out);
        for (instance, goes_on) in instances {
            instance.put(&mut out);
            goes_on.put(&mut out);
        }
        out
    }
}

fn put_all<'a, T: Form + 'a>(all: impl ExactSizeIterator<Item = &'a T>, out: &mut Vec<u8>) {
    put_length(all.len(), out);
    for it in all {
        it.put(out);
    }
}

impl State {
    /// Takes note of all there is. Quick: what is large is shared.
    pub fn snapshot(&self) -> Snapshot {
        // What is left out follows from the rest.
        let Self {
            size,
            last_time,
            generation,
            admins,
            peps,
            sponsors,
            sponsor_ids: _,
            external_ids: _,
            groups,
            memberships: _,
            agents,
            for_people: _,
            sponsored: _,
            instances,
            running: _,
            children: _,
            continues,
            kept_until: _,
            upstreams,
            everything,
            cuts,
            open_cuts: _,
            acting: _,
            policy,
            sponsor_pasts,
            group_pasts,
            name_lost,
            names_unread: _,
            token_keys,
            directory_tokens,
            break_glasses,
            approvals,
            log_keys,
            wrapping_key,
            vault,
            erased,
            node,
        } = self;
        let goes_on = |it: &Instance| {
            let continued = it.continues_as().and_then(|it| continues.get(&it));
            it.life == InstanceLife::Running && continued == Some(&it.id)
        };
        Snapshot {
            head: Head {
                size: *size,
                last_time: *last_time,
                generation: *generation,
                admins: admins.clone(),
                peps: peps.clone(),
                upstreams: upstreams.clone(),
                everything: *everything,
                cuts: cuts.clone(),
                policy: policy.clone(),
                sponsor_pasts: sponsor_pasts.clone(),
                group_pasts: group_pasts.clone(),
                name_lost: *name_lost,
                token_keys: token_keys.clone(),
                directory_tokens: directory_tokens.clone(),
                break_glasses: break_glasses.all().clone(),
                approvals: approvals.all().clone(),
                log_keys: log_keys.as_slice().to_vec(),
                wrapping_key: *wrapping_key,
                vault: *vault,
                erased: erased.clone(),
                node: node.clone(),
            },
            sponsors: sponsors.values().map(Arc::clone).collect(),
            groups: groups.values().map(Arc::clone).collect(),
            agents: agents.values().map(Arc::clone).collect(),
            instances: instances
                .values()
                .map(|it| (Arc::clone(it), goes_on(it)))
                .collect(),
        }
    }

    /// What a snapshot's body has.
    pub(crate) fn shape(out: &mut String) {
        Head::shape(out);
        <(Vec<Sponsor>, Vec<Group>)>::shape(out);
        <(Vec<Agent>, Vec<(Instance, bool)>)>::shape(out);
    }

    /// Makes the state again. Names are opened where they lie sealed in `log`, as far as `keyring`
    /// opens them.
    pub(crate) fn restore(
        body: &[u8],
        log: &dyn LogReader,
        keyring: Option<&dyn Keyring>,
    ) -> Result<Self, NotTaken> {
        let malformed = |_: Malformed| NotTaken::Malformed;
        let mut input = Input::new(body);
        let head = Head::take(&mut input).map_err(malformed)?;
        let sponsors = Vec::<Sponsor>::take(&mut input).map_err(malformed)?;
        let groups = Vec::<Group>::take(&mut input).map_err(malformed)?;
        let agents = Vec::<Arc<Agent>>::take(&mut input).map_err(malformed)?;
        let instances = Vec::<(Instance, bool)>::take(&mut input).map_err(malformed)?;
        input.end().map_err(malformed)?;
        let open_cuts = head.cuts.values().filter(|it| it.certificate.is_none());
        let mut state = Self {
            open_cuts: open_cuts.map(|it| it.record).collect(),
            size: head.size,
            last_time: head.last_time,
            generation: head.generation,
            admins: head.admins,
            peps: head.peps,
            upstreams: head.upstreams,
            everything: head.everything,
            cuts: head.cuts,
            policy: head.policy,
            name_lost: head.name_lost,
            token_keys: head.token_keys,
            directory_tokens: head.directory_tokens,
            log_keys: head.log_keys.into(),
            wrapping_key: head.wrapping_key,
            vault: head.vault,
            erased: head.erased,
            node: head.node,
            ..Self::default()
        };
        for glass in head.break_glasses.into_values() {
            state.restore_break_glass(glass, log, keyring)?;
        }
        for approval in head.approvals.into_values() {
            state.restore_approval(approval, log, keyring)?;
        }
        state.sponsor_pasts =
            state.restore_pasts(head.sponsor_pasts, names::id_of, log, keyring)?;
        state.group_pasts = state.restore_pasts(head.group_pasts, names::name_of, log, keyring)?;
        for sponsor in sponsors {
            state.restore_sponsor(sponsor, log, keyring)?;
        }
        for group in groups {
            state.restore_group(group, log, keyring)?;
        }
        state.restore_agents(agents);
        for (instance, goes_on) in instances {
            state.restore_instance(instance, goes_on, log, keyring)?;
        }
        Ok(state)
    }

    fn restore_sponsor(
        &mut self,
        mut sponsor: Sponsor,
        log: &dyn LogReader,
        keyring: Option<&dyn Keyring>,
    ) -> Result<(), NotTaken> {
        let index = sponsor.beside.record;
        sponsor.identity = fold::unseal(self, Some(&sponsor.key), &sponsor.beside, log, keyring)
            .map_err(|cause| NotTaken::Sealed { index, cause })?;
        self.name_sponsor(&sponsor.handle, None, &sponsor.identity)
            .map_err(|_| NotTaken::Malformed)?;
        self.sponsors
            .insert(sponsor.handle.clone(), Arc::new(sponsor));
        Ok(())
    }

    fn restore_pasts<T: DeserializeOwned>(
        &self,
        mut pasts: Pasts,
        name: fn(&Known<T>) -> Known<String>,
        log: &dyn LogReader,
        keyring: Option<&dyn Keyring>,
    ) -> Result<Pasts, NotTaken> {
        for past in pasts.values_mut() {
            for was in &mut past.was {
                let index = was.beside.record;
                let opened = fold::unseal(self, Some(&past.key), &was.beside, log, keyring)
                    .map_err(|cause| NotTaken::Sealed { index, cause })?;
                was.name = name(&opened);
            }
        }
        Ok(pasts)
    }

    fn restore_break_glass(
        &mut self,
        mut glass: Arc<BreakGlass>,
        log: &dyn LogReader,
        keyring: Option<&dyn Keyring>,
    ) -> Result<(), NotTaken> {
        let index = glass.requested.record;
        let reason = fold::unseal(self, Some(&glass.key), &glass.beside, log, keyring)
            .map_err(|cause| NotTaken::Sealed { index, cause })?;
        Arc::make_mut(&mut glass).reason = reason;
        self.break_glasses.restore(glass);
        Ok(())
    }

    fn restore_approval(
        &mut self,
        approval: Arc<Approval>,
        log: &dyn LogReader,
        keyring: Option<&dyn Keyring>,
    ) -> Result<(), NotTaken> {
        let mut approval = Arc::unwrap_or_clone(approval);
        let index = approval.asked;
        approval.request = fold::unseal(self, Some(&approval.key), &approval.beside, log, keyring)
            .map_err(|cause| NotTaken::Sealed { index, cause })?;
        self.approvals.put(approval);
        Ok(())
    }

    fn restore_group(
        &mut self,
        mut group: Group,
        log: &dyn LogReader,
        keyring: Option<&dyn Keyring>,
    ) -> Result<(), NotTaken> {
        let index = group.beside.record;
        group.profile = fold::unseal(self, Some(&group.key), &group.beside, log, keyring)
            .map_err(|cause| NotTaken::Sealed { index, cause })?;
        for member in &group.members {
            let theirs = self.memberships.entry(member.clone()).or_default();
            theirs.insert(group.handle.clone());
        }
        self.groups.insert(group.handle.clone(), Arc::new(group));
        Ok(())
    }

    fn restore_agents(&mut self, agents: Vec<Arc<Agent>>) {
        let mut sponsored: HashMap<&Handle, Vec<AgentId>> = HashMap::new();
        for agent in &agents {
            let theirs = sponsored.entry(&agent.sponsor).or_default();
            theirs.push(agent.id.clone());
        }
        // Collected at once, since that takes a fraction of the time.
        self.sponsored = sponsored
            .into_iter()
            .map(|(sponsor, theirs)| (sponsor.clone(), theirs.into_iter().collect()))
            .collect();
        let for_people = agents.iter().filter(|it| it.people.is_some());
        self.for_people = for_people.map(|it| it.id.clone()).collect();
        self.agents = agents.into_iter().map(|it| (it.id.clone(), it)).collect();
    }

    fn restore_instance(
        &mut self,
        mut instance: Instance,
        goes_on: bool,
        log: &dyn LogReader,
        keyring: Option<&dyn Keyring>,
    ) -> Result<(), NotTaken> {
        let index = instance.record;
        if let Some(mut handed_on) = instance.authority.take() {
            let authority = self
                .handed_on(index, &handed_on, log, keyring)
                .map_err(|cause| NotTaken::Sealed { index, cause })?;
            Arc::make_mut(&mut handed_on).authority = authority;
            instance.authority = Some(handed_on);
        }
        if let Some(agent) = self.agents.get(&instance.agent) {
            instance.agent = agent.id.clone();
        }
        self.index_instance(&instance, goes_on);
        self.instances
            .insert(instance.id.clone(), Arc::new(instance));
        Ok(())
    }

    /// Notes where an instance is found beside by its id.
    pub(super) fn index_instance(&mut self, instance: &Instance, goes_on: bool) {
        let id = || instance.id.clone();
        self.kept_until.insert(super::forget::kept_until(instance));
        match instance.life {
            InstanceLife::Running => {}
            InstanceLife::Ended { .. } => return,
        }
        if let Some(continues) = instance.continues_as().filter(|_| goes_on) {
            self.continues.insert(continues, id());
        }
        let acting = self.acting.entry(instance.sponsor.clone()).or_default();
        acting.insert(id());
        let running = self.running.entry(instance.agent.clone()).or_default();
        running.insert((instance.expires_at, id()));
        if let Some(parent) = &instance.parent {
            let children = self.children.entry(parent.clone()).or_default();
            children.insert((instance.expires_at, id()));
        }
    }
}
