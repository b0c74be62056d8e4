//! Tells a system of the company's that approvals wait for somebody, and how they end: a signed
//! `POST` for each, as Standard Webhooks says, until it is taken or over.
//!
//! What there is to tell is read from the register, again and again: nothing is kept but what was
//! told since the start, so a restart tells what waits once more, under the same id. A message is
//! made when it is sent, of what holds then. No call waits for any of it.

mod signing;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Full;
use tokens::WebUrl;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vocab::{Clock, Handle, Rng, Secret, Time, rng};

use crate::config::Config;
use crate::outbound;
use signing::{Keys, SecretError};

/// Messages that are under way at once.
const AT_ONCE: usize = 4;
/// Messages that wait for their turn. What more there is stays in the register, and is told later.
const WAITING_MAX: usize = 1024;
/// Longest text of a failure that is kept, in characters.
const FAILURE_CHARS_MAX: usize = 200;

/// How fast things go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How often the register is looked at.
    look: Duration,
    /// How long after a failure the same is told again; twice as long after each.
    again: Duration,
    /// The longest that this gets.
    again_max: Duration,
    /// How long the receiver may take.
    answer: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            look: Duration::from_millis(500),
            again: Duration::from_secs(1),
            again_max: Duration::from_mins(5),
            answer: Duration::from_secs(15),
        }
    }
}

/// What is told of an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// It waits for somebody.
    Requested,
    /// Enough people approved.
    Granted,
    /// Somebody refused it.
    Refused,
    /// Its time was over before it was granted, or used.
    Expired,
    /// What it was asked for cannot be any more: the agent was stopped, or the policies changed.
    Withdrawn,
}

impl Event {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Granted => "granted",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// What stands in `type`.
    pub fn type_of(self) -> String {
        format!("approval.{}", self.as_str())
    }
}

/// Where what is told is read from.
pub(crate) trait Source: Send + Sync {
    /// Everything there is to tell, in the order it was asked for.
    fn news(&self) -> Vec<(Handle, Event)>;

    /// What is told of one, as it is now; none if there is nothing any more.
    fn message(&self, about: &Handle) -> Option<(Event, Vec<u8>)>;
}

/// How telling goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Messages that were taken since the start.
    pub taken: u64,
    /// Attempts that failed since the start.
    pub failed: u64,
    /// Messages that were not taken yet.
    pub waiting: usize,
    /// When the last one was taken.
    pub taken_at: Option<Time>,
    /// Why the last attempt failed, if it did.
    pub failure: Option<String>,
}

/// One that waits to be told.
#[derive(Debug, Clone)]
struct Waiting {
    event: Event,
    attempts: u32,
    due: Instant,
    under_way: bool,
}

#[derive(Debug, Default)]
struct Told {
    taken: HashMap<Handle, Event>,
    waiting: HashMap<Handle, Waiting>,
    health: Health,
}

/// The receiver, and how telling it goes.
pub struct Webhook {
    url: String,
    /// Its scheme and host: a path may be a secret.
    place: String,
    keys: Keys,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    pace: Pace,
    told: Mutex<Told>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// Why a message was not taken, and when the receiver wants to be asked again.
struct Failure {
    why: String,
    after: Option<Duration>,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, after: None }
    }
}

impl Webhook {
    /// Makes ready what the configuration says, if it does; or says what is wrong with it.
    pub(crate) fn configured(
        config: &Config,
        clock: &Arc<dyn Clock>,
        rng: &Arc<dyn Rng>,
    ) -> Result<Option<Self>, String> {
        let Some(webhook) = &config.approvals.webhook else {
            return Ok(None);
        };
        let secret = config.secret(&webhook.secret);
        let made = secret.and_then(|secret| {
            let (clock, rng) = (Arc::clone(clock), Arc::clone(rng));
            Self::new(&webhook.url, &secret, clock, rng).map_err(|error| error.to_string())
        });
        made.map(Some)
            .map_err(|why| format!("`approvals.webhook_secret`: {why}"))
    }

    fn new(
        url: &WebUrl,
        secret: &Secret<String>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, SecretError> {
        let (scheme, _) = url.as_str().split_once("://").unwrap_or_default();
        Ok(Self {
            url: url.to_string(),
            place: format!("{scheme}://{}", url.authority()),
            keys: Keys::parse(secret)?,
            clock,
            rng,
            pace: Pace::default(),
            told: Mutex::default(),
        })
    }

    /// Where it is, without its path, which may be a secret.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// How telling goes.
    pub fn health(&self) -> Health {
        let told = self.told();
        Health {
            waiting: told.waiting.len(),
            ..told.health.clone()
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what there is to tell, until the node stops.
    pub(crate) async fn tell(self: Arc<Self>, source: impl Source, stop: CancellationToken) {
        let mut under_way = FuturesUnordered::new();
        loop {
            self.hear(&source.news());
            while under_way.len() < AT_ONCE
                && let Some(about) = self.next()
            {
                under_way.push(self.attempt(&source, about));
            }
            tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = under_way.next() => {}
                () = tokio::time::sleep(self.pace.look) => {}
            }
        }
    }

    /// Has everything wait that was not told yet, and forgets what there is no more.
    fn hear(&self, news: &[(Handle, Event)]) {
        let known: HashSet<&Handle> = news.iter().map(|(about, _)| about).collect();
        let mut told = self.told();
        let Told { taken, waiting, .. } = &mut *told;
        taken.retain(|about, _| known.contains(about));
        waiting.retain(|about, it| it.under_way || known.contains(about));
        for (about, event) in news {
            if taken.get(about) == Some(event) {
                continue;
            }
            let is_full = waiting.len() >= WAITING_MAX;
            match waiting.get_mut(about) {
                // What it was before need not be told any more.
                Some(it) if it.event != *event && !it.under_way => *it = Waiting::new(*event),
                Some(_) => {}
                None if is_full => {}
                None => {
                    waiting.insert(about.clone(), Waiting::new(*event));
                }
            }
        }
    }

    /// The one that has waited longest for its turn.
    fn next(&self) -> Option<Handle> {
        let now = Instant::now();
        let mut told = self.told();
        let due = told.waiting.iter_mut();
        let due = due.filter(|(_, it)| !it.under_way && it.due <= now);
        let (about, it) = due.min_by(|(one, a), (other, b)| (a.due, *one).cmp(&(b.due, *other)))?;
        it.under_way = true;
        Some(about.clone())
    }

    /// Tries to tell of one, once.
    async fn attempt(&self, source: &impl Source, about: Handle) {
        let Some((event, body)) = source.message(&about) else {
            self.told().waiting.remove(&about);
            return;
        };
        // The same for every attempt, and after a restart: a receiver knows what it has.
        let id = format!("{about}_{}", event.as_str());
        let sent = tokio::time::timeout(self.pace.answer, self.post(&id, body)).await;
        let sent = sent.unwrap_or_else(|_| Err(Failure::from("it took too long".to_owned())));
        match sent {
            Ok(()) => self.taken(about, event),
            Err(failure) => self.failed(&about, &failure),
        }
    }

    async fn post(&self, id: &str, body: Vec<u8>) -> Result<(), Failure> {
        let time = self.clock.now().as_secs();
        let request = Request::post(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, "tipstaff")
            .header("webhook-id", id)
            .header("webhook-timestamp", time)
            .header("webhook-signature", self.keys.sign(id, time, &body))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let answer = outbound::send_for_status(request).await?;
        match answer.status {
            status if status.is_success() => Ok(()),
            status if status.is_redirection() => Err(Failure::from(format!(
                "it answered {status}, and no redirect is followed: name the address itself"
            ))),
            status => {
                let after = answer.headers.get(RETRY_AFTER);
                let after = after.and_then(|it| it.to_str().ok()?.parse().ok());
                let busy = matches!(
                    status,
                    StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
                );
                Err(Failure {
                    why: format!("it answered {status}"),
                    after: after.filter(|_| busy).map(Duration::from_secs),
                })
            }
        }
    }

    fn taken(&self, about: Handle, event: Event) {
        let mut told = self.told();
        told.waiting.remove(&about);
        told.taken.insert(about, event);
        told.health.taken += 1;
        told.health.taken_at = Some(self.clock.now());
        if told.health.failure.take().is_some() {
            tracing::info!("The webhook at {} takes messages again", self.place);
        }
    }

    fn failed(&self, about: &Handle, failure: &Failure) {
        let jitter = rng::bytes::<2>(&*self.rng).map_or(0, u16::from_ne_bytes);
        let Pace {
            again, again_max, ..
        } = self.pace;
        let mut told = self.told();
        if let Some(it) = told.waiting.get_mut(about) {
            let longest = again
                .saturating_mul(1 << it.attempts.min(20))
                .min(again_max);
            // From half of it to all of it, so that what failed together comes apart.
            let pause = longest / 2 + (longest / 2).mul_f64(f64::from(jitter) / 65_535.0);
            let asked = failure.after.unwrap_or_default().min(again_max);
            it.attempts = it.attempts.saturating_add(1);
            it.due = Instant::now() + pause.max(asked);
            it.under_way = false;
        }
        told.health.failed += 1;
        let why: String = failure.why.chars().take(FAILURE_CHARS_MAX).collect();
        // Once, until it is well again.
        if told.health.failure.replace(why).is_none() {
            tracing::error!(
                "Approvers are NOT told by the webhook at {}: {}; what waits is told again",
                self.place,
                failure.why
            );
        }
    }
}

impl Waiting {
    fn new(event: Event) -> Self {
        Self {
            event,
            attempts: 0,
            due: Instant::now(),
            under_way: false,
        }
    }
}

#[cfg(test)]
mod tests;
