//! What a cut is about to narrow.
//!
//! From the moment that a cut is decided nothing that it narrows is permitted, although its entry is
//! not durable yet: a disk takes milliseconds at times, and whoever is cut off is not to have them.
//! If the entry cannot be written the cut failed, and this is over.

use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

use vocab::id::{AgentId, Handle, InstanceId, UpstreamName};

use crate::entry::Event;
use crate::standing::{Active, Link, Why};

/// What one entry narrows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Narrowed {
    /// All that a sponsor answers for.
    Sponsor(Handle),
    /// What acts for a sponsor.
    Sessions(Handle),
    /// An agent, and what its instances started.
    Agent(AgentId, Why),
    /// An instance, and what it started.
    Instance(InstanceId),
    /// Calls to an upstream.
    Upstream(UpstreamName),
    /// Everything.
    All,
}

impl Narrowed {
    fn by(event: &Event) -> Option<Self> {
        Some(match event {
            Event::SponsorSuspended(body) => Self::Sponsor(body.sponsor.clone()),
            Event::SessionsRevoked(body) => Self::Sessions(body.sponsor.clone()),
            Event::AgentSuspended(body) => Self::Agent(body.agent.clone(), Why::AgentSuspended),
            Event::AgentRetired(body) => Self::Agent(body.agent.clone(), Why::AgentRetired),
            Event::AgentLapsed(body) => Self::Agent(body.agent.clone(), Why::AcceptanceLapsed),
            Event::AgentTransferred(body) => Self::Agent(body.agent.clone(), Why::AgentTransferred),
            Event::InstanceEnded(body) => Self::Instance(body.instance.clone()),
            Event::UpstreamStopped(body) => Self::Upstream(body.upstream.clone()),
            Event::AllStopped(_) => Self::All,
            _ => return None,
        })
    }

    /// Why it narrows one hop, if it does.
    fn hop(&self, link: &Link) -> Option<Why> {
        let (instance, agent) = (&link.instance, &link.agent);
        match self {
            Self::Sponsor(sponsor) => (instance.sponsor == *sponsor || agent.sponsor == *sponsor)
                .then_some(Why::SponsorSuspended),
            Self::Sessions(sponsor) => {
                (instance.sponsor == *sponsor).then_some(Why::SessionsRevoked)
            }
            Self::Agent(id, why) => (agent.id == *id).then_some(*why),
            Self::Instance(id) => (instance.id == *id).then_some(Why::InstanceEnded),
            Self::Upstream(_) | Self::All => None,
        }
    }

    fn why(&self, active: &Active, upstream: Option<&UpstreamName>) -> Option<Why> {
        match self {
            Self::All => return Some(Why::AllStopped),
            Self::Upstream(name) => {
                return (upstream == Some(name)).then_some(Why::UpstreamStopped);
            }
            Self::Sponsor(_) | Self::Sessions(_) | Self::Agent(..) | Self::Instance(_) => {}
        }
        let own = active.chain().next_back().and_then(|own| self.hop(own));
        own.or_else(|| {
            let above = active.above().iter().any(|link| self.hop(link).is_some());
            above.then_some(Why::AncestorNarrowed)
        })
    }
}

/// What the one writer is about to narrow, for all who ask to look at.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    /// Whether there is anything, to be read without the lock.
    any: AtomicBool,
    narrowed: RwLock<Vec<Narrowed>>,
}

impl Closing {
    /// Closes what `events` narrow, until what is returned is dropped.
    pub(crate) fn close(&self, events: &[Event]) -> Closed<'_> {
        let narrowed: Vec<Narrowed> = events.iter().filter_map(Narrowed::by).collect();
        let any = !narrowed.is_empty();
        if any {
            *self
                .narrowed
                .write()
                .unwrap_or_else(PoisonError::into_inner) = narrowed;
            self.any.store(true, Ordering::Release);
        }
        Closed(any.then_some(self))
    }

    /// Why somebody who may act is about not to, if so.
    pub(crate) fn why(&self, active: &Active, upstream: Option<&UpstreamName>) -> Option<Why> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let narrowed = self.narrowed.read().unwrap_or_else(PoisonError::into_inner);
        narrowed.iter().find_map(|it| it.why(active, upstream))
    }
}

/// What is closed meanwhile.
#[derive(Debug)]
pub(crate) struct Closed<'a>(Option<&'a Closing>);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        if let Some(closing) = self.0 {
            closing.any.store(false, Ordering::Release);
            let mut narrowed = closing
                .narrowed
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            narrowed.clear();
        }
    }
}
