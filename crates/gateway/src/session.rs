//! Legacy sessions: one client's conversation with one upstream, bound to the instance that
//! opened it. A session id is a name, never a credential: every request proves itself anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use ledger::Recorded;
use mcp::Raw;
use vocab::limits::SESSIONS_PER_INSTANCE_MAX;
use vocab::rng::RngError;
use vocab::{InstanceId, Rng, UpstreamName};

use crate::call::Call;
use crate::looks::Looks;
use crate::record::Permit;
use crate::route::Back;
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
    /// Requests of the server that the client has yet to answer, by the id that it knows them by.
    pub(crate) asked: Mutex<HashMap<String, Asked>>,
    /// Calls whose stream ended before their response, by the id that the upstream knows them by:
    /// the client may come back for the rest.
    pub(crate) loose: Mutex<HashMap<i64, Loose>>,
    /// Requests of the client that are under way.
    calls: Mutex<Vec<Weak<Call>>>,
    last_used: Mutex<Duration>,
}

/// A request of the server on its way to the client.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) permit: Recorded<Permit>,
    pub(crate) link: Arc<Link>,
    pub(crate) theirs: Theirs,
}

/// What a server wrote where its client sees an id and a progress token of ours.
#[derive(Debug, Clone)]
pub(crate) struct Theirs {
    pub(crate) id: Raw<'static>,
    pub(crate) progress: Option<Raw<'static>>,
}

/// A call whose response is still to come.
#[derive(Debug)]
pub(crate) struct Loose {
    pub(crate) permit: Recorded<Permit>,
    pub(crate) back: Back,
}

impl Session {
    /// Notes that a request of the client is under way, for as long as it is kept.
    pub(crate) fn carries(&self, call: &Arc<Call>) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.retain(|call| call.strong_count() > 0);
        calls.push(Arc::downgrade(call));
    }

    /// The id that the upstream knows a request of the client's by, if the client waits for its
    /// answer.
    pub(crate) fn sent_as(&self, id: &str) -> Option<i64> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let mut calls = calls.iter().filter_map(Weak::upgrade);
        let under_way = calls.find(|call| call.request.id_text() == id);
        let loose = self.loose.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = under_way.and_then(|call| call.sent_as.get().copied());
        sent.or_else(|| {
            let mut loose = loose.iter();
            let (ours, _) = loose.find(|(_, it)| it.back.client_id.as_str() == id)?;
            Some(*ours)
        })
    }

    /// What is looked into of each call of the client's that is under way.
    pub(crate) fn looks(&self) -> Vec<Arc<Looks>> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = calls.iter().filter_map(Weak::upgrade);
        let under_way = calls.filter_map(|call| call.looks.get().cloned());
        let loose = self.loose.lock().unwrap_or_else(PoisonError::into_inner);
        let loose = loose
            .values()
            .map(|it| Arc::clone(it.permit.value().looks()));
        under_way.chain(loose).collect()
    }

    /// The token by which the upstream wants to hear of the progress of what it asked the client,
    /// by the one that the client knows.
    pub(crate) fn reports(&self, token: &str) -> Option<Raw<'static>> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get(token)?.theirs.progress.clone()
    }

    /// The id that the client knows a request of the upstream's by.
    pub(crate) fn asked_as(&self, id: &str) -> Option<String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut asked = asked.iter();
        let (ours, _) = asked.find(|(_, it)| it.theirs.id.as_str() == id)?;
        Some(ours.clone())
    }

    /// What has to be put back into what the upstream says of a call whose response is to come.
    pub(crate) fn loose_back(&self, ours: &str) -> Option<Back> {
        let loose = self.loose.lock().unwrap_or_else(PoisonError::into_inner);
        Some(loose.get(&ours.parse().ok()?)?.back.clone())
    }

    /// Takes out the request of the server with this id.
    pub(crate) fn take_asked(&self, id: &str) -> Option<Asked> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id)
    }

    /// Takes out the call that the upstream knows by this id and whose response is still to come.
    pub(crate) fn take_loose(&self, ours: &str) -> Option<Loose> {
        let mut loose = self.loose.lock().unwrap_or_else(PoisonError::into_inner);
        loose.remove(&ours.parse().ok()?)
    }

    /// Everything that has no outcome yet.
    pub(crate) fn take_open(&self) -> Vec<Recorded<Permit>> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open: Vec<_> = asked.drain().map(|(_, asked)| asked.permit).collect();
        drop(asked);
        let mut loose = self.loose.lock().unwrap_or_else(PoisonError::into_inner);
        open.extend(loose.drain().map(|(_, loose)| loose.permit));
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
