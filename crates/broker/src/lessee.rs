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
use crate::bearer::{Bearer, RevokeError};
use crate::echo::Echo;
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
    pub(crate) bearer: Arc<Bearer>,
    known: Mutex<Known>,
}

impl fmt::Debug for Lessee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lessee({})", self.instance)
    }
}

impl Lessee {
    pub(crate) fn new(instance: InstanceId, bearer: Bearer) -> Self {
        Self {
            instance,
            bearer: Arc::new(bearer),
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

/// What was had for an instance that is over, to be given back.
pub struct Ending {
    lessee: Arc<Lessee>,
    reads: Arc<Reads>,
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ending({})", self.lessee.instance)
    }
}

impl Ending {
    pub(crate) fn of(lessee: Arc<Lessee>, reads: Arc<Reads>) -> Self {
        lessee.bearer.end();
        Self { lessee, reads }
    }

    /// Whose it was.
    pub fn instance(&self) -> &InstanceId {
        &self.lessee.instance
    }

    /// Gives the token back, in a few attempts. None: there is none, or its time is over. With a
    /// result comes how long it would have been good, where its giver said so; a failure is told to
    /// `failed`.
    pub async fn carry_out(
        &self,
        failed: impl Fn(&RevokeError),
    ) -> Option<(GivenBack, Option<Duration>)> {
        let bearer = &self.lessee.bearer;
        // Whoever is just fetching one is waited for, so that it is not left behind.
        let token = bearer.last().await?;
        let good_for = || token.expires().map(|at| at - Instant::now());
        let mut waits = WAITS.into_iter();
        loop {
            if token.expires().is_some_and(|at| at <= Instant::now()) {
                return None;
            }
            match bearer.revoke(&token, &self.reads).await {
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
