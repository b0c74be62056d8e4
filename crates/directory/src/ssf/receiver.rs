//! A stream's receiver: pushed to (RFC 8935) or polled (RFC 8936), each event done once.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LANGUAGE, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use ledger::{Actor, ActorKind};
use register::entry::Signal;
use register::{Command, CommandError, Control, Latest, PersonText, Sponsor, State, Word};
use serde_json::json;
use tokio::sync::Mutex;
use vocab::limits::{CLOCK_LEEWAY_SECONDS, SET_BYTES_MAX, SETS_REMEMBERED_MAX};
use vocab::secret::same_bytes;
use vocab::{Clock, Digest, Handle, Time};

use super::set::{Event, Meaning, Set, SetError, Subject};
use crate::reactions::{self, Reactions};

/// The media type of a pushed SET.
pub const SECEVENT_JWT: &str = "application/secevent+jwt";

/// Claims whose signature was checked, when they come.
pub type Verifying<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, SetError>> + Send + 'a>>;

/// Who knows the transmitter's keys.
pub trait Keys: Send + Sync + fmt::Debug {
    /// The claims of a SET that the transmitter signed, as bytes.
    fn verify<'a>(&'a self, set: &'a str) -> Verifying<'a>;
}

/// Which names in an event say who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    /// What the issuer calls them: their external id.
    pub iss_sub: bool,
    /// What both sides call them: their external id.
    pub opaque: bool,
    /// Their address. It is somebody else's tomorrow, so it is not believed unless it is said to be.
    pub email: bool,
}

impl Default for Formats {
    fn default() -> Self {
        Self {
            iss_sub: true,
            opaque: true,
            email: false,
        }
    }
}

/// A stream, as it is configured.
#[derive(Debug)]
pub struct Stream {
    /// What it is called.
    pub name: String,
    /// Who makes its events.
    pub issuer: String,
    /// Whom they are for: us.
    pub audience: String,
    /// Who vouches for people in `iss_sub`; the same as the issuer unless it says otherwise.
    pub subject_issuer: String,
    /// Which names say who somebody is.
    pub formats: Formats,
    /// The digest of what a transmitter that pushes has in `Authorization`; none: it is not let in.
    pub push_token: Option<Digest>,
    /// The state that verifications must have, if they were asked for with one.
    pub state: Option<String>,
}

/// What the receivers of a node share: one event at a time, in the order in which they came.
#[derive(Debug, Default)]
pub struct Turns(Mutex<Seen>);

/// The receiver of one stream.
#[derive(Debug)]
pub struct Receiver {
    control: Arc<Control>,
    clock: Arc<dyn Clock>,
    stream: Stream,
    reactions: Reactions,
    keys: Arc<dyn Keys>,
    turns: Arc<Turns>,
    /// The entries that there were before this began.
    began: u64,
    taken: AtomicU64,
    about_nobody: AtomicU64,
    refused: AtomicU64,
    /// The second of the last event that was taken; 0: none yet.
    last: AtomicU64,
}

/// The ids of those that were done lately.
#[derive(Debug, Default)]
struct Seen {
    known: HashSet<Digest>,
    order: VecDeque<Digest>,
}

impl Seen {
    fn note(&mut self, id: Digest) {
        if self.known.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > SETS_REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// How a stream is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// SETs that were taken since the node's start.
    pub taken: u64,
    /// Events in them that were about nobody who is known here, so that nothing was done.
    pub about_nobody: u64,
    /// SETs that were refused.
    pub refused: u64,
    /// The second of the last that was taken.
    pub last: Option<u64>,
}

impl Receiver {
    /// The receiver of `stream`.
    pub fn new(
        control: Arc<Control>,
        clock: Arc<dyn Clock>,
        stream: Stream,
        reactions: Reactions,
        keys: Arc<dyn Keys>,
        turns: Arc<Turns>,
    ) -> Self {
        Self {
            began: control.view(State::size),
            control,
            clock,
            stream,
            reactions,
            keys,
            turns,
            taken: AtomicU64::new(0),
            about_nobody: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            last: AtomicU64::new(0),
        }
    }

    /// What the stream is called.
    pub fn name(&self) -> &str {
        &self.stream.name
    }

    /// How it is doing.
    pub fn heard(&self) -> Heard {
        let last = self.last.load(Ordering::Relaxed);
        Heard {
            taken: self.taken.load(Ordering::Relaxed),
            about_nobody: self.about_nobody.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            last: (last > 0).then_some(last),
        }
    }

    /// Whether the transmitter may push, by its headers alone.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), Box<Response<Bytes>>> {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let token = match (given.next(), given.next()) {
            (Some(one), None) => Digest::of(one.as_bytes()),
            _ => Digest::of(b""),
        };
        let known = self.stream.push_token;
        if known.is_some_and(|known| same_bytes(known.as_bytes(), token.as_bytes())) {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        let text = "the `Authorization` that was agreed on for this stream is needed";
        let mut response = failed(StatusCode::UNAUTHORIZED, "authentication_failed", text);
        let challenge = HeaderValue::from_static("Bearer realm=\"tipstaff signals\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        Err(Box::new(response))
    }

    /// Takes a SET that was pushed. To be carried out to its end even if the transmitter goes away.
    pub async fn push(&self, headers: &HeaderMap, body: &[u8]) -> Response<Bytes> {
        // RFC 8935 §2.1: this media type and no other.
        let kind = headers.get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let taken = match std::str::from_utf8(body) {
            Ok(set) if kind.eq_ignore_ascii_case(SECEVENT_JWT) => self.receive(set.trim()).await,
            _ => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(SetError::Request("its media type is not that of a SET"))
            }
        };
        match taken {
            // RFC 8935 §2.2.
            Ok(()) => {
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = StatusCode::ACCEPTED;
                response
            }
            Err(error @ SetError::Unavailable) => failed(
                StatusCode::SERVICE_UNAVAILABLE,
                error.as_str(),
                &error.to_string(),
            ),
            Err(error) => failed(StatusCode::BAD_REQUEST, error.as_str(), &error.to_string()),
        }
    }

    /// Takes a SET: verifies it and does what follows of it, once. What stops somebody is proven
    /// when this is done.
    pub async fn receive(&self, text: &str) -> Result<(), SetError> {
        let taken = self.take(text).await;
        match &taken {
            Ok(()) => {
                self.taken.fetch_add(1, Ordering::Relaxed);
                self.last
                    .store(self.clock.now().as_secs(), Ordering::Relaxed);
            }
            Err(error) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(stream = %self.stream.name, "An event was not taken: {error}");
            }
        }
        taken
    }

    async fn take(&self, text: &str) -> Result<(), SetError> {
        if text.len() > SET_BYTES_MAX {
            return Err(SetError::Request("it is too long"));
        }
        let claims = self.keys.verify(text).await?;
        let set = Set::read(&claims, &self.stream.issuer, &self.stream.audience)?;
        let now = self.clock.now();
        if set.issued_at > now.as_secs() + CLOCK_LEEWAY_SECONDS {
            return Err(SetError::Request("it is dated ahead of this node's clock"));
        }
        let mut seen = self.turns.0.lock().await;
        let id = Digest::of(format!("{} {}", self.stream.name, set.jti).as_bytes());
        // Sent again, since the answer to the first may have been lost.
        if seen.known.contains(&id) {
            return Ok(());
        }
        let short: String = id.to_string().chars().take(16).collect();
        let actor = Actor {
            kind: ActorKind::Service,
            id: format!("ssf:{}", self.stream.name),
            credential: format!("set:{short}"),
            verified: true,
        };
        for event in &set.events {
            let signal = |word: Word| {
                Ok(Signal {
                    source: "ssf".parse().map_err(|_| SetError::Unavailable)?,
                    event: word,
                    received_at: now,
                    happened_at: Some(Time::from_secs(event.happened_at)),
                    id: Some(Digest::of(text.as_bytes())),
                })
            };
            self.react(&actor, event, &signal).await?;
        }
        seen.note(id);
        Ok(())
    }

    async fn react(
        &self,
        actor: &Actor,
        event: &Event,
        signal: &(dyn Fn(Word) -> Result<Signal, SetError> + Sync),
    ) -> Result<(), SetError> {
        match &event.meaning {
            Meaning::Verification(state) => {
                let expected = self.stream.state.as_ref();
                if expected.is_some() && state.as_ref() != expected {
                    return Err(SetError::State);
                }
                tracing::info!(stream = %self.stream.name, "The stream of signals works");
                return Ok(());
            }
            Meaning::Stopped => {
                tracing::error!(
                    stream = %self.stream.name,
                    "The transmitter stopped the stream: no signals will be heard"
                );
                return Ok(());
            }
            Meaning::Nothing => return Ok(()),
            Meaning::Cause(_) | Meaning::Enabled | Meaning::Risk(_) => {}
        }
        let Some(sponsor) = self.who(&event.subjects)? else {
            self.about_nobody.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(stream = %self.stream.name, "An event is about nobody who is known here");
            return Ok(());
        };
        let word: Word = event.word.parse().map_err(|_| SetError::Unavailable)?;
        let signal = signal(word)?;
        if !self.is_news(&sponsor, event, &signal) {
            tracing::info!(
                stream = %self.stream.name,
                "An event is older than what is on record: nothing follows of `{}`",
                event.word
            );
            return Ok(());
        }
        let (control, table) = (&self.control, &self.reactions);
        let done = match &event.meaning {
            Meaning::Cause(cause) => {
                reactions::react(control, table, actor, &sponsor, *cause, signal).await
            }
            Meaning::Risk(risk) => {
                let later = |by: &Signal| is_later(by, event.happened_at);
                reactions::assess(control, table, actor, &sponsor, *risk, signal, later).await
            }
            Meaning::Enabled => self.enable(actor, &sponsor, event, signal).await,
            Meaning::Verification(_) | Meaning::Stopped | Meaning::Nothing => Ok(()),
        };
        done.map_err(|error| unavailable(&error))
    }

    /// Whether something follows of an event: it is later than what is on record, whether or not
    /// this process has seen it. Two of one moment are told apart for as long as this runs.
    fn is_news(&self, sponsor: &Handle, event: &Event, signal: &Signal) -> bool {
        let rank = match event.meaning {
            Meaning::Risk(risk) => risk.rank(),
            _ => signal.rank(),
        };
        self.control.view(|state| {
            let Some(sponsor) = state.sponsor(sponsor) else {
                return true;
            };
            let same = |latest: &Latest| {
                Some(latest.at) == signal.happened_at
                    && latest.rank == rank
                    && latest.record >= self.began
            };
            sponsor.is_news(signal, rank) || sponsor.heard.get(signal.class()).is_some_and(same)
        })
    }

    /// Lifts what an earlier `account-disabled` did; and puts on record that the account was
    /// enabled, for one that comes later and is from before.
    async fn enable(
        &self,
        actor: &Actor,
        sponsor: &Handle,
        event: &Event,
        signal: Signal,
    ) -> Result<(), CommandError> {
        let disabled =
            |by: &Signal| by.source.as_str() == "ssf" && by.event.as_str() == "account-disabled";
        let lifts = |by: &Signal| disabled(by) && !is_later(by, event.happened_at);
        let lifted = reactions::resume(&self.control, actor, sponsor, signal.clone(), lifts);
        let held = |state: &State| {
            let holds = state.sponsor(sponsor).map(|it| it.holds.as_slice());
            holds.unwrap_or_default().iter().flatten().any(disabled)
        };
        if lifted.await? || self.control.view(held) {
            return Ok(());
        }
        let Ok(event) = "account-disabled".parse() else {
            return Ok(());
        };
        let command = Command::LiftSuspension {
            sponsor: sponsor.clone(),
            event,
            signal,
        };
        self.control.execute(actor.clone(), command).await.map(drop)
    }

    /// The one sponsor whom the names are of. Names of two people are a mistake that is told.
    fn who(&self, subjects: &[Subject]) -> Result<Option<Handle>, SetError> {
        let found: HashSet<Handle> = self.control.view(|state| {
            let named = subjects
                .iter()
                .filter_map(|subject| self.named(state, subject));
            named.map(|sponsor| sponsor.handle.clone()).collect()
        });
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (one, None) => Ok(one),
            _ => Err(SetError::Request("its subject has names of several people")),
        }
    }

    fn named<'a>(&self, state: &'a State, subject: &Subject) -> Option<&'a Arc<Sponsor>> {
        let formats = self.stream.formats;
        let external = |id: &str| {
            let id = id.parse::<PersonText>().ok()?;
            state.sponsor_by_external_id(&id)
        };
        match subject {
            Subject::IssSub { iss, sub }
                if formats.iss_sub && *iss == self.stream.subject_issuer =>
            {
                external(sub)
            }
            Subject::Opaque(id) if formats.opaque => external(id),
            Subject::Email(address) if formats.email => {
                let mut all = state.sponsors().into_iter().filter(|sponsor| {
                    let email = sponsor.person().and_then(|person| person.email.as_ref());
                    email.is_some_and(|it| it.as_str().eq_ignore_ascii_case(address))
                });
                // An address that two people share is nobody's name.
                match (all.next(), all.next()) {
                    (one, None) => one,
                    _ => None,
                }
            }
            Subject::IssSub { .. } | Subject::Opaque(_) | Subject::Email(_) => None,
        }
    }
}

/// Whether what stopped somebody is from after a second. What has no time of its own is from
/// before it was received, and it takes a while to be.
fn is_later(by: &Signal, second: u64) -> bool {
    by.happened_at.map_or_else(
        || by.received_at.as_secs() > second + CLOCK_LEEWAY_SECONDS,
        |at| at.as_secs() > second,
    )
}

fn unavailable(error: &CommandError) -> SetError {
    tracing::error!(error = %error, "What follows of an event was not done");
    SetError::Unavailable
}

fn failed(status: StatusCode, err: &str, description: &str) -> Response<Bytes> {
    // RFC 8935 §2.3: with the language of the description.
    let body = json!({"err": err, "description": description});
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
    response
}

#[cfg(test)]
mod tests;
