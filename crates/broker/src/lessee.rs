//! Credentials that are one instance's: had for it alone, and given back when it is over.
//!
//! Where an upstream is reached on behalf of somebody, a [`Lessee`] stands for the instance: it has
//! the token that was given for it, and knows what to recognise in what comes back to it. Whoever
//! finds that an instance may not act any more ends it ([`Account::end_unless`]); from then on it is
//! leased nothing, and what it had is given back ([`Ending::carry_out`]).
//!
//! [`Account::end_unless`]: crate::Account::end_unless

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use vocab::{InstanceId, Secret};

use crate::account::Known;
use crate::bao::{Leased, Slot};
use crate::bearer::{Bearer, RevokeError, Token};
use crate::echo::Echo;
use crate::leases::Leases;
use crate::reads::Reads;

/// Waits between attempts to give something back: half a minute in all.
const WAITS: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(9),
    Duration::from_secs(18),
];

/// The instance that something is leased to.
pub struct Lessee {
    instance: InstanceId,
    pub(crate) bearer: Option<Arc<Bearer>>,
    pub(crate) leases: Leases,
    known: Mutex<Known>,
}

impl fmt::Debug for Lessee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lessee({})", self.instance)
    }
}

impl Lessee {
    pub(crate) fn new(instance: InstanceId, bearer: Option<Bearer>) -> Self {
        Self {
            instance,
            bearer: bearer.map(Arc::new),
            leases: Leases::default(),
            known: Mutex::default(),
        }
    }

    pub(crate) fn note(&self, seen: Vec<Secret<String>>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.note(seen);
    }

    pub(crate) fn echo(&self) -> Arc<Echo> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.echo()
    }
}

/// What became of something that was to be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenBack {
    /// Whoever gave it said that it is good no more.
    Revoked,
    /// Whoever gave it has no way to take it back: it is good until it expires.
    Irrevocable,
    /// It was not taken back, however often that was asked: it is good until it expires.
    Failed,
}

impl GivenBack {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Revoked, Self::Irrevocable, Self::Failed];

    /// Its word in certificates and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Irrevocable => "irrevocable",
            Self::Failed => "failed",
        }
    }
}

/// What was had for an instance that is over, or for all alike, to be given back.
pub struct Ending {
    instance: Option<InstanceId>,
    bearer: Option<Arc<Bearer>>,
    slots: Vec<Arc<Slot>>,
    reads: Arc<Reads>,
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ending({:?})", self.instance)
    }
}

impl Ending {
    pub(crate) fn of(lessee: &Lessee, reads: Arc<Reads>) -> Self {
        if let Some(bearer) = &lessee.bearer {
            bearer.end();
        }
        Self {
            instance: Some(lessee.instance.clone()),
            bearer: lessee.bearer.clone(),
            slots: lessee.leases.end(),
            reads,
        }
    }

    pub(crate) fn of_all(leases: &Leases, reads: Arc<Reads>) -> Self {
        Self {
            instance: None,
            bearer: None,
            slots: leases.end(),
            reads,
        }
    }

    /// Whose it was; none: it was for all alike.
    pub const fn instance(&self) -> Option<&InstanceId> {
        self.instance.as_ref()
    }

    /// Gives all of it back, each in a few attempts: what became of each whose time was not over, and
    /// for how long it would have been good, where its giver said so. A failure is told to `failed`.
    pub async fn carry_out(
        &self,
        failed: impl Fn(&RevokeError),
    ) -> Vec<(GivenBack, Option<Duration>)> {
        let mut became = Vec::new();
        // Whoever is just fetching something is waited for, so that it is not left behind.
        if let Some(bearer) = &self.bearer {
            let (tokens, are_all) = bearer.last().await;
            if !are_all {
                // Nobody knows what those are that are not kept any more.
                became.push((GivenBack::Failed, None));
            }
            // For all of them together: who does not take back the first hardly takes the next.
            let mut waits = WAITS.into_iter();
            for token in tokens {
                let had = Had::Token(bearer, token);
                became.extend(had.given_back(&self.reads, &mut waits, &failed).await);
            }
        }
        for slot in &self.slots {
            if let Some(leased) = slot.end().await {
                let had = Had::Lease(slot, leased);
                let mut waits = WAITS.into_iter();
                became.extend(had.given_back(&self.reads, &mut waits, &failed).await);
            }
        }
        became
    }
}

/// One thing that was had, and of whom.
enum Had<'a> {
    Token(&'a Bearer, Arc<Token>),
    Lease(&'a Slot, Arc<Leased>),
}

impl Had<'_> {
    fn expires(&self) -> Option<Instant> {
        match self {
            Self::Token(_, token) => token.expires(),
            Self::Lease(_, leased) => leased.expires(),
        }
    }

    /// Asks its giver to take it back; whether there was a way to do so.
    async fn revoke(&self, reads: &Arc<Reads>) -> Result<bool, RevokeError> {
        match self {
            Self::Token(bearer, token) => bearer.revoke(token, reads).await,
            Self::Lease(slot, leased) => match slot.revoke(leased, reads).await {
                Ok(()) => Ok(true),
                Err(error) => Err(RevokeError {
                    why: error.to_string(),
                    again: error.is_passing(),
                }),
            },
        }
    }

    /// Attempts until one succeeds, or none of them would; nothing if its time is over meanwhile.
    async fn given_back(
        &self,
        reads: &Arc<Reads>,
        waits: &mut impl Iterator<Item = Duration>,
        failed: &impl Fn(&RevokeError),
    ) -> Option<(GivenBack, Option<Duration>)> {
        let good_for = || self.expires().map(|at| at - Instant::now());
        loop {
            if self.expires().is_some_and(|at| at <= Instant::now()) {
                return None;
            }
            match self.revoke(reads).await {
                Ok(true) => return Some((GivenBack::Revoked, good_for())),
                Ok(false) => return Some((GivenBack::Irrevocable, good_for())),
                Err(error) => {
                    failed(&error);
                    let wait = waits.next().filter(|_| error.again);
                    let Some(wait) = wait else {
                        return Some((GivenBack::Failed, good_for()));
                    };
                    sleep(wait).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
