//! Who is signed in, in which browser. In memory: a restart signs everybody out.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use register::SignIn;
use tokens::CodeRequest;
use vocab::rng::{self, RngError};
use vocab::secret::same_bytes;
use vocab::{Clock, Digest, Handle, Rng, SponsorId, Time};

/// How long somebody stays signed in: for what they came for, and a little reading.
pub(super) const SESSION: Duration = Duration::from_mins(15);
/// How long a ticket of the node's own login is good.
const TICKET: Duration = Duration::from_mins(5);
/// Sessions at once, and tickets that wait to be used.
const SESSIONS_MAX: usize = 10_000;
const TICKETS_MAX: usize = 1_000;
/// Requests of clients that wait for the answer of one session's person.
const ASKED_MAX: usize = 16;

/// Somebody who is signed in.
pub(super) struct Session {
    pub(super) person: Handle,
    pub(super) sign_in: SignIn,
    /// How many entries there were when they began to sign in.
    pub(super) began: u64,
    /// What a form of ours carries so that it is known for one.
    form: String,
    asked: Mutex<Vec<(String, CodeRequest)>>,
    until: Time,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("person", &self.person)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// What a form of ours carries.
    pub(super) fn form(&self) -> &str {
        &self.form
    }

    /// Whether a form is one of ours, shown to this session.
    pub(super) fn is_ours(&self, form: &str) -> bool {
        same_bytes(form.as_bytes(), self.form.as_bytes())
    }

    fn asked(&self) -> MutexGuard<'_, Vec<(String, CodeRequest)>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request that the person was shown, once.
    pub(super) fn answered(&self, number: &str) -> Option<CodeRequest> {
        let mut asked = self.asked();
        let same = |(known, _): &(String, _)| same_bytes(known.as_bytes(), number.as_bytes());
        let at = asked.iter().position(same)?;
        Some(asked.remove(at).1)
    }
}

/// A sign-in that an administrator gave somebody.
struct Ticket {
    person: Handle,
    id: SponsorId,
    began: u64,
    until: Time,
}

/// Everybody who is signed in.
pub(super) struct Sessions {
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    all: Mutex<HashMap<Digest, Arc<Session>>>,
    tickets: Mutex<HashMap<Digest, Ticket>>,
}

impl Sessions {
    pub(super) fn new(clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        Self {
            clock,
            rng,
            all: Mutex::default(),
            tickets: Mutex::default(),
        }
    }

    fn fresh(&self) -> Result<String, RngError> {
        Ok(URL_SAFE_NO_PAD.encode(rng::bytes::<32>(&*self.rng)?))
    }

    /// Signs somebody in: the value of a cookie that nobody had before.
    pub(super) fn start(
        &self,
        person: Handle,
        sign_in: SignIn,
        began: u64,
    ) -> Result<String, RngError> {
        let value = self.fresh()?;
        let now = self.clock.now();
        let session = Session {
            person,
            sign_in,
            began,
            form: self.fresh()?,
            asked: Mutex::default(),
            until: now.plus(SESSION),
        };
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SESSIONS_MAX {
            all.retain(|_, session| now < session.until);
        }
        if all.len() >= SESSIONS_MAX {
            // Only who could sign in has a session, so the oldest makes room.
            let oldest = all.iter().min_by_key(|(_, session)| session.until);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                all.remove(&oldest);
            }
        }
        all.insert(Digest::of(value.as_bytes()), Arc::new(session));
        Ok(value)
    }

    pub(super) fn find(&self, value: &str) -> Option<Arc<Session>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let session = all.get(&Digest::of(value.as_bytes()))?;
        (self.clock.now() < session.until).then(|| Arc::clone(session))
    }

    pub(super) fn end(&self, value: &str) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&Digest::of(value.as_bytes()));
    }

    /// Keeps a request until its person answers, and gives its number.
    pub(super) fn ask(&self, session: &Session, request: CodeRequest) -> Result<String, RngError> {
        let number = self.fresh()?;
        let mut asked = session.asked();
        if asked.len() >= ASKED_MAX {
            asked.remove(0);
        }
        asked.push((number.clone(), request));
        Ok(number)
    }

    pub(super) fn ticket(
        &self,
        person: Handle,
        id: SponsorId,
        began: u64,
    ) -> Result<String, RngError> {
        let value = self.fresh()?;
        let now = self.clock.now();
        let mut tickets = self.tickets();
        tickets.retain(|_, ticket| now < ticket.until);
        if tickets.len() >= TICKETS_MAX {
            tickets.clear();
        }
        let until = now.plus(TICKET);
        let ticket = Ticket {
            person,
            id,
            began,
            until,
        };
        tickets.insert(Digest::of(value.as_bytes()), ticket);
        Ok(value)
    }

    /// Who a ticket is for.
    pub(super) fn whose(&self, value: &str) -> Option<SponsorId> {
        let tickets = self.tickets();
        let ticket = tickets.get(&Digest::of(value.as_bytes()))?;
        (self.clock.now() < ticket.until).then(|| ticket.id.clone())
    }

    /// Uses a ticket up: whose it is, and when it was given.
    pub(super) fn redeem(&self, value: &str) -> Option<(Handle, u64)> {
        let ticket = self.tickets().remove(&Digest::of(value.as_bytes()))?;
        (self.clock.now() < ticket.until).then_some((ticket.person, ticket.began))
    }

    fn tickets(&self) -> MutexGuard<'_, HashMap<Digest, Ticket>> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
