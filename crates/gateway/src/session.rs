//! Legacy sessions: one client's conversation with one upstream, bound to the instance that
//! opened it. A session id is a name, never a credential: every request proves itself anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use ledger::Recorded;
use vocab::limits::SESSIONS_PER_INSTANCE_MAX;
use vocab::rng::RngError;
use vocab::{InstanceId, Rng, UpstreamName};

use crate::call::Call;
use crate::record::Permit;
use crate::upstream::Link;

/// A session without a request for this long is over.
const IDLE_MAX: Duration = Duration::from_hours(1);

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) instance: InstanceId,
    pub(crate) upstream: UpstreamName,
    /// The conversation with the upstream, where the session has one of its own (HTTP, legacy).
    pub(crate) link: Option<Arc<Link>>,
    /// Whether this session's handshake was the upstream's.
    pub(crate) opened_link: bool,
    /// Requests of the server that the client has yet to answer, by their id's text.
    pub(crate) asked: Mutex<HashMap<String, Asked>>,
    /// Calls whose stream ended before their response, by their id's text: the client may come
    /// back for the rest.
    pub(crate) loose: Mutex<HashMap<String, Recorded<Permit>>>,
    /// Requests of the client that are under way.
    calls: Mutex<Vec<Weak<Call>>>,
    last_used: Mutex<Duration>,
}

/// A request of the server on its way to the client.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) permit: Recorded<Permit>,
    pub(crate) link: Arc<Link>,
}

impl Session {
    /// Notes that a request of the client is under way, for as long as it is kept.
    pub(crate) fn carries(&self, call: &Arc<Call>) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.retain(|call| call.strong_count() > 0);
        calls.push(Arc::downgrade(call));
    }

    /// Whether the client waits for the answer to a request with this id.
    pub(crate) fn waits_for(&self, id: &str) -> bool {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let mut calls = calls.iter().filter_map(Weak::upgrade);
        let under_way = calls.any(|call| call.request.id_text() == id);
        let loose = self.loose.lock().unwrap_or_else(PoisonError::into_inner);
        under_way || loose.contains_key(id)
    }

    /// Whether the upstream asked the client something, and to hear of its progress by this token.
    pub(crate) fn reports(&self, token: &str) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.values().any(|asked| {
            let request = asked.permit.value().request();
            request.meta_text(mcp::frame::meta::PROGRESS_TOKEN) == Some(token)
        })
    }

    /// Takes out the request of the server with this id.
    pub(crate) fn take_asked(&self, id: &str) -> Option<Asked> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id)
    }

    /// Takes out the call with this id whose response is still to come.
    pub(crate) fn take_loose(&self, id: &str) -> Option<Recorded<Permit>> {
        self.loose
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id)
    }

    /// Everything that has no outcome yet.
    pub(crate) fn take_open(&self) -> Vec<Recorded<Permit>> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open: Vec<_> = asked.drain().map(|(_, asked)| asked.permit).collect();
        drop(asked);
        let mut loose = self.loose.lock().unwrap_or_else(PoisonError::into_inner);
        open.extend(loose.drain().map(|(_, permit)| permit));
        open
    }

    /// Ends the conversation with the upstream.
    pub(crate) fn close(&self) {
        if let Some(link) = &self.link {
            link.close();
        }
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: RwLock<HashMap<String, Arc<Session>>>,
}

/// Why no session was opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The instance has as many as it may.
    #[error("this instance has {SESSIONS_PER_INSTANCE_MAX} sessions open, the most allowed")]
    TooMany,
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RngError),
}

impl Sessions {
    /// Opens a session.
    pub(crate) fn open(
        &self,
        instance: &InstanceId,
        upstream: &UpstreamName,
        (link, opened_link): (Option<Arc<Link>>, bool),
        rng: &dyn Rng,
        now: Duration,
    ) -> Result<Arc<Session>, SessionError> {
        let id = vocab::id::base32(&vocab::rng::bytes::<20>(rng)?);
        let session = Arc::new(Session {
            id: id.clone(),
            instance: instance.clone(),
            upstream: upstream.clone(),
            link,
            opened_link,
            asked: Mutex::default(),
            loose: Mutex::default(),
            calls: Mutex::default(),
            last_used: Mutex::new(now),
        });
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let mine = open
            .values()
            .filter(|session| session.instance == *instance)
            .count();
        if mine >= SESSIONS_PER_INSTANCE_MAX {
            return Err(SessionError::TooMany);
        }
        open.insert(id, Arc::clone(&session));
        Ok(session)
    }

    /// The session of this id, if it is this instance's with this upstream. To anybody else it
    /// does not exist.
    pub(crate) fn get(
        &self,
        id: &str,
        instance: &InstanceId,
        upstream: &UpstreamName,
        now: Duration,
    ) -> Option<Arc<Session>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let session = open.get(id)?;
        if session.instance != *instance || session.upstream != *upstream {
            return None;
        }
        *session
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = now;
        Some(Arc::clone(session))
    }

    /// Takes a session out.
    pub(crate) fn remove(&self, id: &str) -> Option<Arc<Session>> {
        self.open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id)
    }

    /// Takes out every session that is idle, or whose instance `keep` says is over.
    pub(crate) fn sweep(
        &self,
        now: Duration,
        keep: impl Fn(&InstanceId, &UpstreamName) -> bool,
    ) -> Vec<Arc<Session>> {
        let mut over = Vec::new();
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| {
            let used = *session
                .last_used
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let stays =
                now.saturating_sub(used) < IDLE_MAX && keep(&session.instance, &session.upstream);
            if !stays {
                over.push(Arc::clone(session));
            }
            stays
        });
        over
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Whether the instance has one with this upstream.
    pub(crate) fn has(&self, instance: &InstanceId, upstream: &UpstreamName) -> bool {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.values()
            .any(|it| it.instance == *instance && it.upstream == *upstream)
    }
}
