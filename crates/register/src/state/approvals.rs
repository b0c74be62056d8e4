//! Approvals, as the entries about them have left them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use policy::Needs;
use vocab::digest::Digest;
use vocab::id::{AgentId, Handle, InstanceId, UpstreamName};
use vocab::time::Time;

use super::{Beside, CutOf, Impossible, Instance, Known, State, Unsealed, twice, unknown};
use crate::approval::{
    APPROVAL_KEPT_SECONDS, APPROVALS_KEPT_MAX, Approval, ApprovalEnded, ApprovalEvent,
    ApprovalGranted, ApprovalLife, ApprovalOver, ApprovalRefusal, ApprovalRefused,
    ApprovalRequested, ApprovalSettings, ApprovalUsed, Grant, MayApprove, NotApprover, Way, bound,
};
use crate::lifecycle::SponsorLife;

/// Whose a call is, seen from one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// It is made for them, or they answer for an agent of its chain.
    Theirs,
    /// It is not.
    Others,
    /// Somebody in its chain was forgotten, so nobody can tell, and nobody's word counts.
    Unknown,
}

/// Every approval that is not forgotten.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Approvals {
    all: BTreeMap<Handle, Arc<Approval>>,
    /// Each, by when its time is over.
    until: BTreeSet<(Time, Handle)>,
}

impl Approvals {
    pub(super) const fn all(&self) -> &BTreeMap<Handle, Arc<Approval>> {
        &self.all
    }

    /// Takes one as it is from now on.
    pub(super) fn put(&mut self, approval: Approval) {
        let id = approval.id.clone();
        if let Some(before) = self.all.get(&id) {
            self.until.remove(&(before.until(), id.clone()));
        }
        self.until.insert((approval.until(), id.clone()));
        self.all.insert(id, Arc::new(approval));
    }

    /// Forgets those whose time was over long ago, and of more than are kept those whose time was
    /// over first. What waits is fewer.
    fn forget(&mut self, now: Time) {
        let kept = Duration::from_secs(APPROVAL_KEPT_SECONDS);
        while let Some((until, id)) = self.until.first().cloned()
            && (until.plus(kept) <= now || self.all.len() > APPROVALS_KEPT_MAX)
        {
            self.until.pop_first();
            self.all.remove(&id);
        }
    }
}

impl State {
    /// An approval, also one that is over, until it is forgotten.
    pub fn approval(&self, id: &Handle) -> Option<&Arc<Approval>> {
        self.approvals.all.get(id)
    }

    /// Every approval that is not forgotten, in the order they were asked for.
    pub fn approvals(&self) -> impl Iterator<Item = &Arc<Approval>> {
        let mut all: Vec<_> = self.approvals.all.values().collect();
        all.sort_by_key(|approval| approval.asked);
        all.into_iter()
    }

    /// The approval that says something at `now` of exactly this call: it waits, was granted or
    /// refused. `what` is [`Exactly::digest`](crate::approval::Exactly::digest).
    pub fn approval_for(
        &self,
        instance: &InstanceId,
        what: &Digest,
        now: Time,
    ) -> Option<&Arc<Approval>> {
        let all = self.approvals.all.values();
        let mut theirs = all.filter(|it| it.instance == *instance && it.holds(now));
        theirs.find(|it| it.is_for(what))
    }

    /// Whether people may be asked about one more call of an instance.
    pub fn may_ask(
        &self,
        settings: ApprovalSettings,
        instance: &InstanceId,
        agent: &AgentId,
        now: Time,
    ) -> Result<(), ApprovalRefusal> {
        let waiting = || self.approvals.all.values().filter(|it| it.holds(now));
        let of_instance = waiting().filter(|it| it.instance == *instance).count();
        let of_agent = waiting().filter(|it| it.agent == *agent).count();
        for (of, waiting, max) in [
            ("this instance", of_instance, settings.per_instance),
            ("this agent", of_agent, settings.per_agent),
            ("this node", waiting().count(), settings.in_all),
        ] {
            if waiting >= max {
                return Err(ApprovalRefusal::TooMany { of, waiting, max });
            }
        }
        Ok(())
    }

    /// Who may approve a call of `caller`, by handle, as the set means it that the entry `since` put
    /// into force; an error if too many may, or not enough who are active.
    pub fn who_may(
        &self,
        needs: &Needs,
        since: u64,
        caller: &Instance,
    ) -> Result<Vec<Vec<Way>>, ApprovalRefusal> {
        let needs = bound(self, needs, since)?;
        if self.could_be_met(&needs, caller) {
            Ok(needs)
        } else {
            Err(ApprovalRefusal::NobodyMay)
        }
    }

    /// Whether a person's word counts for an approval that waits. The time is not asked; see
    /// [`Approval::is_pending`].
    pub fn may_approve(&self, person: &Handle, approval: &Approval) -> Result<(), NotApprover> {
        let ApprovalLife::Pending { .. } = approval.life else {
            return Err(NotApprover::NotPending);
        };
        self.counts(person, approval)?;
        if approval.granted.iter().any(|grant| grant.by == *person) {
            return Err(NotApprover::Already);
        }
        Ok(())
    }

    /// Whether a person may refuse an approval: whoever may grant it or did, until it is used.
    pub fn may_refuse(&self, person: &Handle, approval: &Approval) -> Result<(), NotApprover> {
        match approval.life {
            ApprovalLife::Pending { .. } | ApprovalLife::Granted { .. } => {
                self.counts(person, approval)
            }
            ApprovalLife::Refused { .. }
            | ApprovalLife::Used { .. }
            | ApprovalLife::Over { .. } => Err(NotApprover::NotPending),
        }
    }

    /// Whether the caller of an approval acts for a person, or they answer for an agent of its
    /// chain.
    pub fn is_own_call(&self, person: &Handle, approval: &Approval) -> bool {
        self.whose_call(person, approval) == Whose::Theirs
    }

    fn whose_call(&self, person: &Handle, approval: &Approval) -> Whose {
        let chain = [&approval.instance].into_iter().chain(&approval.above);
        self.whose(person, chain)
    }

    fn whose<'a>(&self, person: &Handle, chain: impl Iterator<Item = &'a InstanceId>) -> Whose {
        let mut whose = Whose::Others;
        for id in chain {
            let instance = self.instances.get(id);
            let agent = instance.and_then(|it| self.agents.get(&it.agent));
            let (Some(instance), Some(agent)) = (instance, agent) else {
                return Whose::Unknown;
            };
            if instance.sponsor == *person || agent.sponsor == *person {
                whose = Whose::Theirs;
            }
        }
        whose
    }

    /// Whether the word of a person counts now, for any of what an approval needs.
    fn counts(&self, person: &Handle, approval: &Approval) -> Result<(), NotApprover> {
        if !self.is_active(person) {
            return Err(NotApprover::NotActive);
        }
        let whose = self.whose_call(person, approval);
        let mut ways = approval.needs.iter().flatten();
        if ways.any(|way| self.is_of(person, whose, way)) {
            return Ok(());
        }
        match whose {
            Whose::Theirs => Err(NotApprover::OwnCall),
            Whose::Others | Whose::Unknown => Err(NotApprover::NotAsked),
        }
    }

    fn is_active(&self, person: &Handle) -> bool {
        let life = self.sponsors.get(person).map(|it| it.life);
        matches!(life, Some(SponsorLife::Active { .. }))
    }

    fn is_of(&self, person: &Handle, whose: Whose, way: &Way) -> bool {
        way.of.iter().any(|it| match (whose, it) {
            (Whose::Theirs, MayApprove::Sponsor) => true,
            (Whose::Others, MayApprove::Person { sponsor }) => sponsor == person,
            (Whose::Others, MayApprove::Group { group }) => self.is_member(group, person),
            (Whose::Theirs, MayApprove::Person { .. } | MayApprove::Group { .. })
            | (Whose::Others, MayApprove::Sponsor)
            | (Whose::Unknown, _) => false,
        })
    }

    /// Whether those who granted an approval are enough, as they are now.
    pub fn is_granted(&self, approval: &Approval) -> bool {
        self.are_enough(approval, approval.granted.iter().map(|it| &it.by))
    }

    fn are_enough<'a>(&self, approval: &Approval, by: impl Iterator<Item = &'a Handle>) -> bool {
        let by: BTreeSet<_> = by.filter(|it| self.is_active(it)).collect();
        let by: Vec<_> = by
            .into_iter()
            .map(|it| (it, self.whose_call(it, approval)))
            .collect();
        let is_met = |way: &Way| {
            let theirs = by.iter().filter(|(it, whose)| self.is_of(it, *whose, way));
            enough(theirs.count(), way)
        };
        !approval.needs.is_empty() && approval.needs.iter().all(|ways| ways.iter().any(is_met))
    }

    /// Whether there are people who could meet it.
    fn could_be_met(&self, needs: &[Vec<Way>], caller: &Instance) -> bool {
        let chain: Vec<InstanceId> = [caller.id.clone()]
            .into_iter()
            .chain(self.ancestors(caller).map(|it| it.id.clone()))
            .collect();
        let links = chain.iter().filter_map(|id| self.instances.get(id));
        let answer: BTreeSet<&Handle> = links
            .flat_map(|it| {
                let agent = self.agents.get(&it.agent);
                [Some(&it.sponsor), agent.map(|agent| &agent.sponsor)]
            })
            .flatten()
            .collect();
        let could = |way: &Way| {
            let mut people = BTreeSet::new();
            for it in &way.of {
                match it {
                    MayApprove::Sponsor => people.extend(answer.iter().copied()),
                    MayApprove::Person { sponsor } => {
                        people.insert(sponsor);
                    }
                    MayApprove::Group { group } => {
                        let members = self.groups.get(group).map(|it| it.members.iter());
                        people.extend(members.into_iter().flatten());
                    }
                }
            }
            let of = people.into_iter().filter(|it| {
                self.is_active(it) && self.is_of(it, self.whose(it, chain.iter()), way)
            });
            enough(of.count(), way)
        };
        !needs.is_empty() && needs.iter().all(|ways| ways.iter().any(could))
    }

    pub(super) fn request_approval(
        &mut self,
        body: ApprovalRequested,
        at: Time,
        unsealed: Unsealed,
    ) -> Result<(), Impossible> {
        if self.approvals.all.contains_key(&body.id) {
            return Err(twice("approval", &body.id));
        }
        let instance = self.instances.get(&body.instance);
        let instance = instance.ok_or_else(|| unknown("instance", &body.instance))?;
        if instance.agent != body.agent {
            return Err(unknown("agent", &body.agent));
        }
        let policy = self.policy.as_ref();
        let policy = policy.filter(|it| it.set == body.policy_set);
        let policy = policy.ok_or_else(|| unknown("policy set", &body.policy_set))?;
        let lasts = Duration::from_secs(body.lasts_s);
        // Whoever called cannot use it after their own time, and nobody is to be asked for nothing.
        let until = at.plus(lasts).min(instance.expires_at);
        let approval = Approval {
            id: body.id,
            above: self.ancestors(instance).map(|it| it.id.clone()).collect(),
            instance: body.instance,
            agent: body.agent,
            upstream: body.upstream,
            method: body.method,
            tool: body.tool,
            call: body.call,
            policy_set: body.policy_set,
            policy: policy.record,
            held: body.held,
            needs: body.needs,
            lasts,
            asked_at: at,
            asked: self.size,
            granted: Vec::new(),
            refused: None,
            used: None,
            request: match unsealed {
                Unsealed::Approval(request) => request,
                Unsealed::Authority(_)
                | Unsealed::Person(_)
                | Unsealed::Group(_)
                | Unsealed::Reason(_)
                | Unsealed::Nothing => Known::Sealed,
            },
            key: body.key,
            beside: Beside {
                record: self.size,
                commit: body.commit,
            },
            life: ApprovalLife::Pending { since: at, until },
        };
        self.approvals.put(approval);
        Ok(())
    }

    pub(super) fn grant_approval(
        &mut self,
        body: ApprovalGranted,
        at: Time,
    ) -> Result<(), Impossible> {
        let mut approval = Approval::clone(self.known_approval(&body.id)?);
        self.may_approve(&body.by, &approval)
            .map_err(|why| Impossible::NotApprover {
                id: body.id.clone(),
                why,
            })?;
        approval.granted.push(Grant {
            by: body.by,
            sign_in: body.sign_in,
            at,
            record: self.size,
        });
        let event = if self.is_granted(&approval) {
            let instance = self.instances.get(&approval.instance);
            let left = instance.map_or(Duration::ZERO, |it| it.expires_at.since(at));
            ApprovalEvent::Grant(approval.lasts.min(left))
        } else {
            ApprovalEvent::Join
        };
        approval.life = approval.life.after(event, at)?;
        self.approvals.put(approval);
        Ok(())
    }

    pub(super) fn refuse_approval(
        &mut self,
        body: ApprovalRefused,
        at: Time,
    ) -> Result<(), Impossible> {
        let mut approval = Approval::clone(self.known_approval(&body.id)?);
        self.may_refuse(&body.by, &approval)
            .map_err(|why| Impossible::NotApprover {
                id: body.id.clone(),
                why,
            })?;
        approval.life = approval.life.after(ApprovalEvent::Refuse, at)?;
        approval.refused = Some(Grant {
            by: body.by,
            sign_in: body.sign_in,
            at,
            record: self.size,
        });
        self.approvals.put(approval);
        Ok(())
    }

    pub(super) fn use_approval(&mut self, body: &ApprovalUsed, at: Time) -> Result<(), Impossible> {
        let mut approval = Approval::clone(self.known_approval(&body.id)?);
        approval.life = approval.life.after(ApprovalEvent::Use, at)?;
        if approval.call != body.call {
            return Err(unknown("call", &body.call));
        }
        if !self.is_granted(&approval) {
            return Err(Impossible::NotGranted { id: approval.id });
        }
        approval.used = Some(self.size);
        self.approvals.put(approval);
        Ok(())
    }

    pub(super) fn end_approval(
        &mut self,
        body: &ApprovalEnded,
        at: Time,
    ) -> Result<(), Impossible> {
        let mut approval = Approval::clone(self.known_approval(&body.id)?);
        approval.life = approval.life.after(ApprovalEvent::End(body.cause), at)?;
        self.approvals.put(approval);
        Ok(())
    }

    /// Ends what a cut covers: a call of whoever may not act, and the word of whoever does not
    /// count. Who asks anew is asked about anew.
    pub(super) fn cut_approvals(&mut self, of: &CutOf, at: Time) {
        let link = |state: &Self, id: &InstanceId| {
            let Some(instance) = state.instances.get(id) else {
                return true;
            };
            match of {
                CutOf::All => true,
                CutOf::Agent(agent) => instance.agent == *agent,
                CutOf::Sessions(sponsor) => instance.sponsor == *sponsor,
                CutOf::Sponsor(sponsor) => {
                    let agent = state.agents.get(&instance.agent);
                    instance.sponsor == *sponsor || agent.is_none_or(|it| it.sponsor == *sponsor)
                }
                CutOf::Upstream(_) => false,
            }
        };
        self.end_approvals(ApprovalOver::Cut, at, |state, approval| {
            let word = match of {
                CutOf::Sponsor(sponsor) | CutOf::Sessions(sponsor) => {
                    approval.granted.iter().any(|grant| grant.by == *sponsor)
                }
                CutOf::Upstream(upstream) => approval.upstream == *upstream,
                CutOf::Agent(_) | CutOf::All => false,
            };
            let mut chain = [&approval.instance].into_iter().chain(&approval.above);
            word || chain.any(|id| link(state, id))
        });
    }

    /// Ends what was asked for an instance that ended, or for one below it.
    pub(super) fn end_approvals_of(&mut self, instance: &InstanceId, at: Time) {
        self.end_approvals(ApprovalOver::Cut, at, |_, approval| {
            approval.instance == *instance || approval.above.contains(instance)
        });
    }

    /// Ends what was asked for instances that are forgotten: the time of their calls is over.
    pub(super) fn end_forgotten_approvals(&mut self, at: Time) {
        self.end_approvals(ApprovalOver::Expired, at, |state, approval| {
            let mut chain = [&approval.instance].into_iter().chain(&approval.above);
            !chain.all(|id| state.instances.contains_key(id))
        });
    }

    /// Ends all: other policies are in force.
    pub(super) fn outdate_approvals(&mut self, at: Time) {
        self.end_approvals(ApprovalOver::Changed, at, |_, _| true);
    }

    /// Ends those of an upstream that is configured otherwise, or whose tools changed: what people
    /// were shown is not so any more.
    pub(super) fn outdate_approvals_of(&mut self, upstream: &UpstreamName, at: Time) {
        self.end_approvals(ApprovalOver::Changed, at, |_, approval| {
            approval.upstream == *upstream
        });
    }

    /// Forgets what was asked, where the key that sealed it is destroyed.
    pub(super) fn erase_approvals(&mut self, key: &Handle, at: Time) {
        self.end_approvals(ApprovalOver::Cut, at, |_, approval| approval.key == *key);
        let all = self.approvals.all.values_mut();
        for approval in all.filter(|it| it.key == *key) {
            Arc::make_mut(approval).request = Known::Erased;
        }
    }

    pub(super) fn forget_approvals(&mut self, now: Time) {
        self.approvals.forget(now);
    }

    fn end_approvals(
        &mut self,
        cause: ApprovalOver,
        at: Time,
        which: impl Fn(&Self, &Approval) -> bool,
    ) {
        let event = ApprovalEvent::End(cause);
        let all = self.approvals.all.values();
        let ended: Vec<(Arc<Approval>, ApprovalLife)> = all
            .filter_map(|it| Some((Arc::clone(it), it.life.after(event, at).ok()?)))
            .filter(|(it, _)| which(self, it))
            .collect();
        for (approval, life) in ended {
            self.approvals.put(Approval {
                life,
                ..Approval::clone(&approval)
            });
        }
    }

    fn known_approval(&self, id: &Handle) -> Result<&Arc<Approval>, Impossible> {
        let found = self.approvals.all.get(id);
        found.ok_or_else(|| unknown("approval", id))
    }
}

fn enough(people: usize, way: &Way) -> bool {
    u32::try_from(people).unwrap_or(u32::MAX) >= way.people
}
