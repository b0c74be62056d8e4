//! Asking the directory itself about active sponsors: directories provision in cycles, and a cycle
//! that does not come says nothing.
//!
//! An answer holds for as long as the configuration says. A sponsor about whom nothing was heard
//! for longer is stopped, where the configuration says so, until the directory answers again.
//! Where no poller is configured, silence means nothing.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ledger::{Actor, ActorKind};
use register::lifecycle::SponsorLife;
use register::{CommandError, Control, PersonText, Signal, Word};
use vocab::{Clock, Handle, Time};

use crate::reactions;
use crate::scim::people;

/// What the directory says of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They are with the company.
    Active,
    /// They are not, or it does not know them.
    Gone,
}

/// An answer, when it comes; or why there is none.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<Standing, String>> + Send + 'a>>;

/// A source that can be asked.
pub trait Source: Send + Sync + fmt::Debug {
    /// Asks about the person whom the directory calls so.
    fn ask<'a>(&'a self, external_id: &'a PersonText) -> Asking<'a>;
}

/// What a round came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// Sponsors about whom there was an answer.
    pub answered: usize,
    /// Sponsors about whom there was none.
    pub silent: usize,
    /// Sponsors who are stopped because nothing was heard for too long.
    pub stale: usize,
}

/// Asks about sponsors.
#[derive(Debug)]
pub struct Poller {
    control: Arc<Control>,
    clock: Arc<dyn Clock>,
    source: Arc<dyn Source>,
    /// How long an answer holds; none: for ever.
    fresh: Option<Duration>,
    began: Time,
    heard: HashMap<Handle, Time>,
}

impl Poller {
    /// One that has heard nothing yet: what it was told before counts from now.
    pub fn new(
        control: Arc<Control>,
        clock: Arc<dyn Clock>,
        source: Arc<dyn Source>,
        fresh: Option<Duration>,
    ) -> Self {
        Self {
            control,
            began: clock.now(),
            clock,
            source,
            fresh,
            heard: HashMap::new(),
        }
    }

    /// Asks about everybody for whom the directory speaks, once. What stops somebody is proven
    /// when this is done.
    pub async fn round(&mut self) -> Result<Round, CommandError> {
        let mut round = Round::default();
        for (sponsor, external_id) in self.sponsors() {
            match self.source.ask(&external_id).await {
                Ok(standing) => {
                    round.answered += 1;
                    self.heard.insert(sponsor.clone(), self.clock.now());
                    self.lift(&sponsor, "stale").await?;
                    match standing {
                        Standing::Active => self.lift(&sponsor, "gone").await?,
                        Standing::Gone => self.stop(&sponsor, "gone").await?,
                    }
                }
                Err(why) => {
                    round.silent += 1;
                    tracing::debug!("The directory does not say whether somebody is there: {why}");
                    let heard = self.heard.get(&sponsor).copied().unwrap_or(self.began);
                    let age = self.clock.now().since(heard);
                    if self.fresh.is_some_and(|fresh| age > fresh) {
                        round.stale += 1;
                        self.stop(&sponsor, "stale").await?;
                    }
                }
            }
        }
        Ok(round)
    }

    /// Who is asked about: those who may act, and those whom nothing but this stopped.
    fn sponsors(&self) -> Vec<(Handle, PersonText)> {
        self.control.view(|state| {
            let asked = state.sponsors().into_iter().filter_map(|sponsor| {
                let person = sponsor.person().filter(|it| !people::is_deleted(it))?;
                let by_poll = |hold: &Option<Signal>| {
                    hold.as_ref().is_some_and(|by| by.source.as_str() == "poll")
                };
                let asked = match sponsor.life {
                    SponsorLife::Active { .. } => true,
                    SponsorLife::Suspended { .. } => sponsor.holds.iter().any(by_poll),
                    SponsorLife::Erased { .. } => false,
                };
                let external_id = person.external_id.clone()?;
                asked.then(|| (sponsor.handle.clone(), external_id))
            });
            asked.collect()
        })
    }

    fn signal(&self, event: &str) -> Option<Signal> {
        let word = |text: &str| text.parse::<Word>().ok();
        Some(Signal {
            source: word("poll")?,
            event: word(event)?,
            received_at: self.clock.now(),
            id: None,
        })
    }

    async fn stop(&self, sponsor: &Handle, event: &str) -> Result<(), CommandError> {
        match self.signal(event) {
            Some(signal) => reactions::suspend(&self.control, &actor(), sponsor, signal).await,
            None => Ok(()),
        }
    }

    async fn lift(&self, sponsor: &Handle, event: &str) -> Result<(), CommandError> {
        let Some(signal) = self.signal(event) else {
            return Ok(());
        };
        let over = signal.event.clone();
        let lifts = |by: &Signal| by.event == over;
        let actor = actor();
        let lifted = reactions::resume(&self.control, &actor, sponsor, signal, lifts);
        lifted.await.map(drop)
    }
}

fn actor() -> Actor {
    Actor {
        kind: ActorKind::Service,
        id: "poll".to_owned(),
        credential: "asked".to_owned(),
        verified: true,
    }
}

/// What a SCIM service says of one person, in its answer to a query by `externalId`.
pub fn read_scim(answer: &[u8]) -> Result<Standing, String> {
    let wrong = || "the answer is no list of users".to_owned();
    let list = crate::json::object(answer).map_err(|_| wrong())?;
    let found = crate::json::member(&list, "Resources");
    let found = match found {
        Some(serde_json::Value::Array(found)) => found.as_slice(),
        None if crate::json::member(&list, "totalResults") == Some(&0.into()) => &[],
        Some(_) | None => return Err(wrong()),
    };
    match found {
        [] => Ok(Standing::Gone),
        [one] => match one.get("active") {
            Some(serde_json::Value::Bool(true)) => Ok(Standing::Active),
            Some(serde_json::Value::Bool(false)) => Ok(Standing::Gone),
            _ => Err("the user does not say whether they are active".to_owned()),
        },
        _ => Err("several users have that id".to_owned()),
    }
}

#[cfg(test)]
mod tests;
