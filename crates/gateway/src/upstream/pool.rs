//! One configured server, and the links to it: one per owner, opened when needed, and opened again
//! after a failure, not at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use broker::{Credential, Fingerprint};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;
use vocab::{InstanceId, UpstreamName};

use super::backoff::Backoff;
use super::era::Probed;
use super::http::{Conversation, HttpClient};
use super::keep::Level;
use super::sandbox::{self, Confinement, SandboxMode};
use super::stdio::{Pipe, StderrTail};
use super::{CHILDREN_MAX, Link, OpenError, State, Transport, UpstreamConfig, Wire, chain};

/// The owner of the only link of a shared upstream.
const SHARED: &str = "shared";
/// A wait this short is waited out; a longer one is an error.
const WAITED_OUT: Duration = Duration::from_secs(1);
/// Longest wait for links to end, when all are closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Who opens the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// The owner's client does: its `initialize` will be sent on the link.
    PassThrough,
    /// We do, in the upstream's era: the link is ready for requests.
    Handshake,
}

/// One configured server.
#[derive(Debug)]
pub struct Upstream {
    config: Arc<UpstreamConfig>,
    http: Option<Result<HttpClient, OpenError>>,
    pub(super) places: Arc<Semaphore>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    pub(super) probed: Mutex<Option<Arc<Probed>>>,
    stderr: Arc<StderrTail>,
    trouble: Mutex<Option<String>>,
    tasks: TaskTracker,
    closed: CancellationToken,
}

/// The place of one owner's link.
#[derive(Debug, Default)]
struct Slot {
    /// Held while the link is opened.
    backoff: tokio::sync::Mutex<Backoff>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    link: Option<Arc<Link>>,
    is_closed: bool,
}

impl Slot {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut held = self.held();
        held.is_closed = true;
        if let Some(link) = held.link.take() {
            link.close();
        }
    }
}

impl Upstream {
    /// A server that is not spoken to yet. What is wrong with its configuration shows when it is.
    pub fn new(config: UpstreamConfig) -> Self {
        let http = match &config.transport {
            Transport::Stdio { .. } | Transport::Elsewhere { .. } | Transport::Unusable { .. } => {
                None
            }
            Transport::Http { url } => Some(HttpClient::new(url)),
        };
        let trouble = match &config.transport {
            Transport::Unusable { why } => {
                let what = why.clone();
                Some(OpenError::Unusable { what }.to_string())
            }
            Transport::Stdio { .. } | Transport::Http { .. } | Transport::Elsewhere { .. } => None,
        };
        Self {
            config: Arc::new(config),
            http,
            places: Arc::new(Semaphore::new(CHILDREN_MAX)),
            slots: Mutex::default(),
            probed: Mutex::default(),
            stderr: Arc::default(),
            trouble: Mutex::new(trouble),
            tasks: TaskTracker::new(),
            closed: CancellationToken::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &UpstreamName {
        &self.config.name
    }

    /// Its configuration.
    pub fn config(&self) -> &UpstreamConfig {
        &self.config
    }

    /// How many of its children run.
    pub fn children(&self) -> usize {
        CHILDREN_MAX.saturating_sub(self.places.available_permits())
    }

    /// How its children are run; none if it has no children.
    pub fn confinement(&self) -> Option<Result<Confinement, OpenError>> {
        match &self.config.transport {
            Transport::Stdio { .. } => Some(sandbox::confinement(&self.config)),
            Transport::Http { .. } | Transport::Elsewhere { .. } | Transport::Unusable { .. } => {
                None
            }
        }
    }

    /// How surely what its children start ends with them; none if not at all.
    pub fn keeping(&self) -> Option<Level> {
        let level = self.config.keeper.as_ref()?.level;
        match self.config.sandbox {
            SandboxMode::Off => Some(Level::Subreaper),
            SandboxMode::IfAvailable | SandboxMode::Required => Some(level),
        }
    }

    /// Why it could not be used when that was last tried; none if it could, or was not tried.
    pub fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn troubled(&self, error: Option<&dyn std::error::Error>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = error.map(chain);
    }

    /// The last few of them, as the end of a sentence; nothing if it has no children.
    pub fn last_words(&self) -> String {
        match &self.config.transport {
            Transport::Stdio { .. } => self.stderr.last_words(),
            Transport::Http { .. } | Transport::Elsewhere { .. } | Transport::Unusable { .. } => {
                String::new()
            }
        }
    }

    /// The last lines that its children wrote to stderr, for people.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lines()
    }

    /// The owner's link, opened if there is none alive. A shared upstream has one link for all,
    /// always opened by us.
    pub async fn link(&self, owner: &str, opening: Opening) -> Result<Arc<Link>, OpenError> {
        let (owner, opening) = if self.config.shared {
            (SHARED, Opening::Handshake)
        } else {
            (owner, opening)
        };
        let slot = {
            let mut slots = self.slots();
            if self.closed.is_cancelled() {
                return Err(OpenError::Closed);
            }
            Arc::clone(slots.entry(owner.to_owned()).or_default())
        };
        let whom = self.whom(owner)?;
        // A child whose environment was changed serves those who have it to their end, and no more.
        let wanted = self
            .leased(whom.as_ref())
            .await
            .inspect_err(|error| self.troubled(Some(error)))?;
        let wanted = wanted.as_ref().map(Credential::fingerprint);
        if let Some(link) = alive(&slot, wanted.as_ref()) {
            return Ok(link);
        }
        // Boxed, as all that calls rarely wait for: what a call's task is large by is moved and
        // allocated with each call.
        Box::pin(self.connect(&slot, opening, (whom, wanted))).await
    }

    /// For whom an owner's link is leased a credential, where that is not the same for all. Whoever is
    /// no instance has no such link: a call must not go out as somebody else's.
    fn whom(&self, owner: &str) -> Result<Option<InstanceId>, OpenError> {
        if !self.config.account.is_personal() {
            return Ok(None);
        }
        let whom = owner.parse().map_err(|_| OpenError::Unusable {
            what: "what it is reached with belongs to one instance, and this is none".to_owned(),
        })?;
        Ok(Some(whom))
    }

    /// Opens the slot's link, unless somebody else has meanwhile.
    async fn connect(
        &self,
        slot: &Slot,
        opening: Opening,
        (whom, wanted): (Option<InstanceId>, Option<Fingerprint>),
    ) -> Result<Arc<Link>, OpenError> {
        // Two probes, and a wait that is waited out.
        let after = self.config.start_timeout * 3;
        let Ok(mut backoff) = timeout(after, slot.backoff.lock()).await else {
            return Err(OpenError::Busy { after });
        };
        if let Some(link) = alive(slot, wanted.as_ref()) {
            return Ok(link);
        }
        let dead = slot.held().link.take();
        if let Some(dead) = dead
            && dead.has_crashed()
        {
            backoff.failed(Instant::now(), dead.state.opened.elapsed());
            info!(upstream.name = %self.config.name, "Upstream {} is started again", self.config.name);
        }
        match backoff.wait(Instant::now()) {
            Some((failures, retry_in)) if retry_in > WAITED_OUT => {
                let why = self.trouble().unwrap_or_else(|| "it ended".to_owned());
                return Err(OpenError::BackingOff {
                    why,
                    failures,
                    retry_in,
                });
            }
            Some((_, wait)) => tokio::time::sleep(wait).await,
            None => {}
        }
        let opened = match opening {
            Opening::PassThrough => {
                let opened = self.open(whom.as_ref()).await;
                opened.inspect_err(|error| self.troubled(Some(error)))
            }
            Opening::Handshake => self.ready(whom.as_ref()).await.map(|(link, _)| link),
        };
        match opened {
            Err(error) => {
                if !matches!(error, OpenError::TooManyChildren { .. } | OpenError::Closed) {
                    backoff.failed(Instant::now(), Duration::ZERO);
                }
                Err(error)
            }
            Ok(link) => {
                let link = Arc::new(link);
                let mut held = slot.held();
                if held.is_closed {
                    return Err(OpenError::Closed);
                }
                held.link = Some(Arc::clone(&link));
                Ok(link)
            }
        }
    }

    /// What a child is started with; none if there is none to start.
    async fn leased(&self, whom: Option<&InstanceId>) -> Result<Option<Credential>, OpenError> {
        if !matches!(self.config.transport, Transport::Stdio { .. }) {
            return Ok(None);
        }
        let account = &self.config.account;
        let lessee = whom.and_then(|it| account.lessee(it));
        let leased = account.lease(None, lessee.as_ref()).await;
        leased.map(Some).map_err(|error| OpenError::NoCredential {
            what: chain(&error),
        })
    }

    /// A link that no owner holds, as it is: nothing has been said on it. It is for an instance, or
    /// for the gateway itself.
    pub async fn open(&self, whom: Option<&InstanceId>) -> Result<Link, OpenError> {
        let closed = self.closed.child_token();
        if closed.is_cancelled() {
            return Err(OpenError::Closed);
        }
        let state = Arc::new(State {
            closed,
            negotiated: OnceLock::new(),
            tasks: self.tasks.clone(),
            call_timeout: self.config.call_timeout,
            opened: Instant::now(),
        });
        let leased = self.leased(whom).await?;
        let environment = leased.as_ref().map(Credential::fingerprint);
        let wire = match (&self.config.transport, &self.http) {
            (Transport::Http { url }, Some(client)) => {
                let client = client.clone()?;
                let account = Arc::clone(&self.config.account);
                let lessee = whom.and_then(|it| account.lessee(it));
                let state = Arc::clone(&state);
                Wire::Http(Conversation::new(
                    client,
                    url.clone(),
                    (account, lessee),
                    state,
                ))
            }
            (Transport::Unusable { why }, _) => {
                return Err(OpenError::Unusable { what: why.clone() });
            }
            (Transport::Elsewhere { .. }, _) => {
                let what = "nothing is sent to it from here".to_owned();
                return Err(OpenError::Unusable { what });
            }
            (Transport::Http { .. } | Transport::Stdio { .. }, _) => {
                let limit = CHILDREN_MAX;
                let place = Arc::clone(&self.places).try_acquire_owned();
                let place = place.map_err(|_| OpenError::TooManyChildren { limit })?;
                let lessee = whom.and_then(|it| self.config.account.lessee(it));
                let child = (&self.config, leased.as_ref(), lessee);
                Wire::Stdio(Pipe::open(child, &state, &self.stderr, place)?)
            }
        };
        Ok(Link {
            state,
            wire,
            environment,
        })
    }

    /// Who has a link, or had one.
    pub fn owners(&self) -> Vec<String> {
        self.slots().keys().cloned().collect()
    }

    /// Ends the owner's link and forgets its failures.
    pub fn close_owner(&self, owner: &str) {
        let slot = self.slots().remove(owner);
        if let Some(slot) = slot {
            slot.close();
        }
    }

    /// Ends every link, those that no slot holds too, and waits until its children are gone. No
    /// link is opened after.
    pub async fn close_all(&self) {
        self.closed.cancel();
        let slots = std::mem::take(&mut *self.slots());
        for slot in slots.values() {
            slot.close();
        }
        self.tasks.close();
        // A child that outlives SIGKILL is beyond us.
        let _late = timeout(CLOSE_TIMEOUT, self.tasks.wait()).await;
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn alive(slot: &Slot, environment: Option<&Fingerprint>) -> Option<Arc<Link>> {
    slot.held()
        .link
        .as_ref()
        .filter(|link| link.is_alive() && link.has_environment(environment))
        .map(Arc::clone)
}
