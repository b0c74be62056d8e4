//! Break-glass, as the entries about it have left it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ledger::Kind;
use vocab::id::{AdminId, AgentId, Handle, InstanceId};
use vocab::time::Time;

use super::{Admin, Agent, Beside, CutOf, Impossible, Known, State, Unsealed, twice, unknown};
use crate::break_glass::{
    BreakGlass, BreakGlassEnded, BreakGlassOpened, BreakGlassRequested, GlassEvent, GlassLife,
    GlassOver, Hand, NotSecond,
};
use crate::standing::agent_narrowed;

/// Every break-glass there was.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct BreakGlasses {
    all: BTreeMap<Handle, Arc<BreakGlass>>,
    /// INVARIANT: each names one that is open, of that agent.
    open: BTreeMap<AgentId, Handle>,
}

impl BreakGlasses {
    pub(super) const fn all(&self) -> &BTreeMap<Handle, Arc<BreakGlass>> {
        &self.all
    }

    /// Takes one as a snapshot has it.
    pub(super) fn restore(&mut self, glass: Arc<BreakGlass>) {
        if let GlassLife::Open { .. } = glass.life {
            self.open.insert(glass.agent.clone(), glass.id.clone());
        }
        self.all.insert(glass.id.clone(), glass);
    }
}

impl State {
    /// A break-glass, also one that is over.
    pub fn break_glass(&self, id: &Handle) -> Option<&Arc<BreakGlass>> {
        self.break_glasses.all.get(id)
    }

    /// Every break-glass, those that are over too, in the order they were asked for.
    pub fn break_glasses(&self) -> impl Iterator<Item = &Arc<BreakGlass>> {
        let mut all: Vec<_> = self.break_glasses.all.values().collect();
        all.sort_by_key(|glass| glass.requested.record);
        all.into_iter()
    }

    /// The break-glass of an agent that is open at `now`.
    pub(crate) fn open_glass(&self, agent: &AgentId, now: Time) -> Option<&Arc<BreakGlass>> {
        let id = self.break_glasses.open.get(agent)?;
        let glass = self.break_glasses.all.get(id)?;
        glass.open_until(now).map(|_| glass)
    }

    /// Whether an instance of an agent may start although a sponsor is suspended: break-glass was
    /// opened for that agent, or one above, whose sponsor they are, and no entry ended it. The time
    /// is not asked, since an entry can be a moment younger than the decision to write it; standing
    /// asks it.
    pub(super) fn glass_of(
        &self,
        agent: &Agent,
        parent: Option<&InstanceId>,
        sponsor: &Handle,
    ) -> bool {
        let opened = |agent: &Agent| {
            agent.sponsor == *sponsor && self.break_glasses.open.contains_key(&agent.id)
        };
        let parent = parent.and_then(|id| self.instances.get(id));
        let above = parent
            .into_iter()
            .chain(parent.into_iter().flat_map(|parent| self.ancestors(parent)));
        opened(agent)
            || above
                .filter_map(|it| self.agents.get(&it.agent))
                .any(|it| opened(it))
    }

    pub(super) fn request_glass(
        &mut self,
        body: BreakGlassRequested,
        at: Time,
        unsealed: Unsealed,
    ) -> Result<(), Impossible> {
        if self.break_glasses.all.contains_key(&body.id) {
            return Err(twice("break-glass", &body.id));
        }
        self.known_agent(&body.agent)?;
        let admin = self.known_admin(&body.by)?;
        let glass = BreakGlass {
            id: body.id.clone(),
            agent: body.agent,
            sets_aside: body.sets_aside,
            lasts: Duration::from_secs(body.lasts_s),
            requested: Hand::of(admin, at, self.size),
            opened: None,
            reason: match unsealed {
                Unsealed::Reason(reason) => reason,
                Unsealed::Authority(_)
                | Unsealed::Person(_)
                | Unsealed::Group(_)
                | Unsealed::Approval(_)
                | Unsealed::Nothing => Known::Sealed,
            },
            key: body.key,
            beside: Beside {
                record: self.size,
                commit: body.commit,
            },
            life: GlassLife::Requested {
                since: at,
                until: at.plus(Duration::from_secs(body.open_within_s)),
            },
        };
        self.break_glasses.all.insert(body.id, Arc::new(glass));
        Ok(())
    }

    pub(super) fn open_break_glass(
        &mut self,
        body: &BreakGlassOpened,
        at: Time,
    ) -> Result<(), Impossible> {
        let admin = self.known_admin(&body.by)?;
        let mut glass = BreakGlass::clone(self.known_glass(&body.id)?);
        glass.second(admin).map_err(|why| Impossible::NotSecond {
            id: body.id.clone(),
            what: match why {
                NotSecond::Same => "whoever asked for it",
                NotSecond::New => "an administrator who was none when it was asked for",
            },
        })?;
        glass.life = glass.life.after(GlassEvent::Open(glass.lasts), at)?;
        glass.opened = Some(Hand::of(admin, at, self.size));
        if let Some(before) = self.break_glasses.open.get(&glass.agent).cloned() {
            self.end_glass(&before, GlassOver::Replaced, at)?;
        }
        let open = &mut self.break_glasses.open;
        open.insert(glass.agent.clone(), glass.id.clone());
        self.break_glasses
            .all
            .insert(glass.id.clone(), Arc::new(glass));
        Ok(())
    }

    pub(super) fn end_break_glass(
        &mut self,
        body: &BreakGlassEnded,
        at: Time,
    ) -> Result<(), Impossible> {
        let glass = Arc::clone(self.known_glass(&body.id)?);
        self.end_glass(&body.id, body.cause, at)?;
        // A request that is taken back cuts nobody, nor does what nobody needed any more.
        let GlassLife::Open { .. } = glass.life else {
            return Ok(());
        };
        let agent = self.known_agent(&glass.agent)?;
        let sponsor = self.known_sponsor(&agent.sponsor)?;
        if agent_narrowed(agent, sponsor, self.asserted_agents()).is_some() {
            let of = CutOf::Agent(glass.agent.clone());
            self.note_cut(Kind::BreakGlassEnded, of, at, None);
        }
        Ok(())
    }

    /// Ends what a cut covers: whoever broke the glass did not know of it.
    pub(super) fn cut_glass(&mut self, of: &CutOf, at: Time) {
        let covers = |state: &Self, glass: &BreakGlass| match of {
            CutOf::All => true,
            CutOf::Agent(agent) => *agent == glass.agent,
            CutOf::Sponsor(sponsor) | CutOf::Sessions(sponsor) => {
                let agent = state.agents.get(&glass.agent);
                agent.is_some_and(|agent| agent.sponsor == *sponsor)
            }
            CutOf::Upstream(_) => false,
        };
        self.end_glasses(covers, GlassOver::Cut, at);
    }

    /// Ends what stands on the word of somebody whose credential is taken away.
    pub(super) fn disown_glass(&mut self, admin: &AdminId, at: Time) {
        let hand = |hand: &Hand| hand.admin == *admin;
        let theirs = |_: &Self, glass: &BreakGlass| {
            hand(&glass.requested) || glass.opened.as_ref().is_some_and(hand)
        };
        self.end_glasses(theirs, GlassOver::AdminRemoved, at);
    }

    /// Forgets why, where the key that sealed it is destroyed.
    pub(super) fn erase_glass(&mut self, key: &Handle) {
        let all = self.break_glasses.all.values_mut();
        for glass in all.filter(|glass| glass.key == *key) {
            Arc::make_mut(glass).reason = Known::Erased;
        }
    }

    fn end_glasses(
        &mut self,
        which: impl Fn(&Self, &BreakGlass) -> bool,
        cause: GlassOver,
        at: Time,
    ) {
        let all = self.break_glasses.all.values();
        let ended: Vec<Handle> = all
            .filter(|it| it.life.after(GlassEvent::End(cause), at).is_ok() && which(self, it))
            .map(|glass| glass.id.clone())
            .collect();
        for id in ended {
            // It was looked at: it can end.
            let _ended = self.end_glass(&id, cause, at);
        }
    }

    fn end_glass(&mut self, id: &Handle, cause: GlassOver, at: Time) -> Result<(), Impossible> {
        let glasses = &mut self.break_glasses;
        let glass = glasses
            .all
            .get_mut(id)
            .ok_or_else(|| unknown("break-glass", id))?;
        let life = glass.life.after(GlassEvent::End(cause), at)?;
        let glass = Arc::make_mut(glass);
        glass.life = life;
        if glasses.open.get(&glass.agent) == Some(id) {
            glasses.open.remove(&glass.agent);
        }
        Ok(())
    }

    fn known_admin(&self, id: &AdminId) -> Result<&Admin, Impossible> {
        let found = self.admins.get(id);
        found.ok_or_else(|| unknown("administrator", id))
    }

    fn known_glass(&self, id: &Handle) -> Result<&Arc<BreakGlass>, Impossible> {
        let found = self.break_glasses.all.get(id);
        found.ok_or_else(|| unknown("break-glass", id))
    }
}
