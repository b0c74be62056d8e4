//! What was leased to instances that are over, on its way back to those who gave it.
//!
//! A cut waits for none of it: what instances have is theirs no more from the moment that they are
//! ended, and giving it back is a request to another machine. Its certificate waits for what its
//! instances had, and says what became of that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use broker::{Ending, GivenBack};
use serde::{Deserialize, Serialize};
use tokio::runtime;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use vocab::{Clock, InstanceId, Time, UpstreamName};

/// How long what became of something is known, for certificates of cuts.
const KEPT: Duration = Duration::from_mins(10);

/// A credential that an instance had of its own when it was cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialPart {
    /// The upstream that it was for.
    pub upstream: UpstreamName,
    /// Whose it was.
    pub instance: InstanceId,
    /// `revoked`; `irrevocable` if whoever gave it has no way to take it back; `failed` if it was not
    /// taken back; `open` if that was not known when the certificate was written.
    pub result: String,
    /// When it would have expired by itself; null if its giver did not say.
    pub good_until: Option<Time>,
}

impl CredentialPart {
    /// Whether somebody may honour it yet.
    pub(crate) fn is_left(&self) -> bool {
        self.result != GivenBack::Revoked.as_str()
    }
}

/// What is on its way back, and what became of what was.
#[derive(Debug)]
pub(crate) struct Returns {
    all: Mutex<Vec<Return>>,
    changed: watch::Sender<()>,
    counted: [AtomicU64; GivenBack::ALL.len()],
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Return {
    number: u64,
    upstream: UpstreamName,
    /// None: it was for all alike.
    instance: Option<InstanceId>,
    since: Time,
    /// What became of each; none: it is under way.
    outcomes: Option<Vec<(GivenBack, Option<Time>)>>,
}

impl Return {
    fn is_of(&self, covers: impl Fn(&UpstreamName, &InstanceId) -> bool) -> bool {
        let instance = self.instance.as_ref();
        instance.is_some_and(|instance| covers(&self.upstream, instance))
    }
}

impl Default for Returns {
    fn default() -> Self {
        Self {
            all: Mutex::default(),
            changed: watch::Sender::new(()),
            counted: Default::default(),
            tasks: TaskTracker::new(),
        }
    }
}

impl Returns {
    fn all(&self) -> MutexGuard<'_, Vec<Return>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what an instance had for an upstream.
    pub(crate) fn give(
        self: &Arc<Self>,
        upstream: &UpstreamName,
        ending: Ending,
        clock: &Arc<dyn Clock>,
        runtime: &runtime::Handle,
    ) {
        let number = {
            let mut all = self.all();
            let number = all.last().map_or(0, |it| it.number + 1);
            all.push(Return {
                number,
                upstream: upstream.clone(),
                instance: ending.instance().cloned(),
                since: clock.now(),
                outcomes: None,
            });
            number
        };
        let (returns, clock, upstream) = (Arc::clone(self), Arc::clone(clock), upstream.clone());
        let giving = async move {
            let instance = ending.instance().map_or("all", InstanceId::as_str);
            let failed = |error: &broker::RevokeError| {
                tracing::warn!(upstream.name = %upstream, instance.id = instance, error = %error, "A credential for upstream {upstream} was not given back");
            };
            let became = ending.carry_out(failed).await.into_iter();
            let outcomes: Vec<_> = became
                .map(|(result, good_for)| {
                    returns.count(result);
                    (result, good_for.map(|good_for| clock.now().plus(good_for)))
                })
                .collect();
            if outcomes.iter().any(|(it, _)| *it == GivenBack::Failed) {
                tracing::error!(upstream.name = %upstream, instance.id = instance, "A credential for upstream {upstream} could not be revoked and is good until it expires: revoke it there");
            }
            let mut all = returns.all();
            if let Some(it) = all.iter_mut().find(|it| it.number == number) {
                it.outcomes = Some(outcomes);
            }
            drop(all);
            returns.changed.send_replace(());
        };
        self.tasks.spawn_on(giving, runtime);
    }

    fn count(&self, result: GivenBack) {
        let at = GivenBack::ALL.iter().position(|it| *it == result);
        if let Some(counter) = at.and_then(|at| self.counted.get(at)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were given back, and how many were not.
    pub(crate) fn counted(&self) -> Vec<(GivenBack, u64)> {
        let counted = self.counted.iter().map(|it| it.load(Ordering::Relaxed));
        GivenBack::ALL.into_iter().zip(counted).collect()
    }

    /// Resolves when nothing of those is under way any more that `covers` names.
    pub(crate) async fn settled(&self, covers: impl Fn(&UpstreamName, &InstanceId) -> bool) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let is_under_way = |it: &Return| it.outcomes.is_none() && it.is_of(&covers);
            let waits = self.all().iter().any(is_under_way);
            if !waits || changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// What became of those that `covers` names, since then.
    pub(crate) fn parts(
        &self,
        since: Time,
        covers: impl Fn(&UpstreamName, &InstanceId) -> bool,
    ) -> Vec<CredentialPart> {
        let all = self.all();
        let covered = all
            .iter()
            .filter(|it| it.since >= since && it.is_of(&covers));
        let mut parts = Vec::new();
        for it in covered {
            let part = |result: &str, good_until| {
                Some(CredentialPart {
                    upstream: it.upstream.clone(),
                    instance: it.instance.clone()?,
                    result: result.to_owned(),
                    good_until,
                })
            };
            match &it.outcomes {
                None => parts.extend(part("open", None)),
                Some(outcomes) => parts.extend(
                    outcomes
                        .iter()
                        .filter_map(|(result, until)| part(result.as_str(), *until)),
                ),
            }
        }
        parts
    }

    /// Forgets what nobody asks for any more.
    pub(crate) fn forget(&self, now: Time) {
        let is_old = |it: &Return| it.outcomes.is_some() && now.since(it.since) > KEPT;
        self.all().retain(|it| !is_old(it));
    }

    /// Waits until nothing is under way.
    pub(crate) async fn end(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
