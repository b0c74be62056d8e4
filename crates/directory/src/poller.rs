//! Asking the directory itself about active sponsors: directories provision in cycles, and a cycle
//! that does not come says nothing.
//!
//! An answer holds for as long as the configuration says. A sponsor about whom nothing was heard
//! for longer is stopped, where the configuration says so, until the directory answers again.
//! Where no poller is configured, silence means nothing.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ledger::{Actor, ActorKind};
use register::lifecycle::SponsorLife;
use register::{CommandError, Control, PersonText, Signal, Word};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    /// Sponsors about whom there was an answer.
    pub answered: usize,
    /// Sponsors about whom there was none.
    pub silent: usize,
    /// Why there was no answer, the last time that there was none.
    pub why: Option<String>,
}

/// Asks about sponsors.
#[derive(Debug)]
pub struct Poller {
    control: Arc<Control>,
    clock: Arc<dyn Clock>,
    source: Arc<dyn Source>,
    /// How long an answer holds; none: for ever.
    fresh: Option<Duration>,
    /// When the last answer about each came, or when they were first to be asked about. Held until
    /// what follows is done, so that no answer comes between judging somebody and stopping them.
    heard: Mutex<HashMap<Handle, Time>>,
}

/// Questions that are out at once.
const AT_ONCE: usize = 16;

impl Poller {
    /// One that has heard nothing yet. What was heard before a start is not on record, so silence
    /// counts from when somebody is first to be asked about.
    pub fn new(
        control: Arc<Control>,
        clock: Arc<dyn Clock>,
        source: Arc<dyn Source>,
        fresh: Option<Duration>,
    ) -> Self {
        Self {
            control,
            clock,
            source,
            fresh,
            heard: Mutex::default(),
        }
    }

    /// Asks about everybody for whom the directory speaks, once, several at a time. What stops
    /// somebody is proven when this is done.
    pub async fn round(&self) -> Result<Round, CommandError> {
        let mut round = Round::default();
        let left = self.sponsors();
        {
            // From now on an answer about them is waited for.
            let mut heard = self.heard.lock().await;
            let now = self.clock.now();
            for (sponsor, _) in &left {
                heard.entry(sponsor.clone()).or_insert(now);
            }
        }
        let mut left = left.into_iter();
        let mut asked = JoinSet::new();
        loop {
            while asked.len() < AT_ONCE
                && let Some((sponsor, external_id)) = left.next()
            {
                let source = Arc::clone(&self.source);
                asked.spawn(async move {
                    let answer = source.ask(&external_id).await;
                    (sponsor, answer)
                });
            }
            match asked.join_next().await {
                None => return Ok(round),
                Some(Ok((sponsor, Ok(standing)))) => {
                    round.answered += 1;
                    self.answered(&sponsor, standing).await?;
                }
                Some(Ok((_, Err(why)))) => {
                    round.silent += 1;
                    round.why = Some(why);
                }
                Some(Err(_)) => round.silent += 1,
            }
        }
    }

    async fn answered(&self, sponsor: &Handle, standing: Standing) -> Result<(), CommandError> {
        let mut heard = self.heard.lock().await;
        heard.insert(sponsor.clone(), self.clock.now());
        self.lift(sponsor, "stale").await?;
        match standing {
            Standing::Active => self.lift(sponsor, "gone").await,
            Standing::Gone => self.stop(sponsor, "gone").await,
        }
    }

    /// Stops everybody about whom there was no answer for too long; how many they are. It asks
    /// nobody and waits for no answer, so a directory that is slow does not put it off.
    pub async fn judge(&self) -> Result<usize, CommandError> {
        let Some(fresh) = self.fresh else {
            return Ok(0);
        };
        let mut heard = self.heard.lock().await;
        let now = self.clock.now();
        let asked: HashSet<Handle> = self.sponsors().into_iter().map(|(it, _)| it).collect();
        // Of whom nobody is to ask there is no answer to wait for.
        heard.retain(|sponsor, _| asked.contains(sponsor));
        let mut stale = 0;
        for sponsor in asked {
            let last = *heard.entry(sponsor.clone()).or_insert(now);
            if now.since(last) > fresh {
                stale += 1;
                self.stop(&sponsor, "stale").await?;
            }
        }
        Ok(stale)
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
            happened_at: None,
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

/// What a SCIM service says of one person, in its answer to a query by `externalId`. An answer
/// about somebody else, or that says two things, is none.
pub fn read_scim(answer: &[u8], external_id: &str) -> Result<Standing, String> {
    let list = crate::json::object(answer).map_err(|_| "the answer is no list of users")?;
    let member = |name| crate::json::member(&list, name);
    let total = member("totalResults").and_then(Value::as_u64);
    let found = match member("Resources") {
        Some(Value::Array(found)) => found.as_slice(),
        None => &[],
        Some(_) => return Err("the answer's `Resources` are no list".to_owned()),
    };
    match (total, found) {
        (Some(0), []) => Ok(Standing::Gone),
        (Some(1), [Value::Object(one)]) => {
            let is_them = crate::json::member(one, "externalId").and_then(Value::as_str);
            if is_them != Some(external_id) {
                return Err("the answer is about somebody else".to_owned());
            }
            match crate::json::member(one, "active") {
                Some(Value::Bool(true)) => Ok(Standing::Active),
                Some(Value::Bool(false)) => Ok(Standing::Gone),
                _ => Err("the user does not say whether they are active".to_owned()),
            }
        }
        (Some(total), found) if total > 1 || found.len() > 1 => {
            Err("several users have that id".to_owned())
        }
        _ => Err("the answer's `totalResults` is not the number of its `Resources`".to_owned()),
    }
}

#[cfg(test)]
mod tests;
