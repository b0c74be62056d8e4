//! People in a browser: they sign in, consent to what their clients may be, accept agents, and
//! approve calls.
//!
//! | route | is |
//! |---|---|
//! | `GET /oauth/authorize` | a client asks for a code: who is signed in is asked, every time |
//! | `POST /oauth/consent` | the answer |
//! | `POST /oauth/register` | a client describes itself (RFC 7591) |
//! | `GET /login`, `GET /login/callback` | to the company's provider and back |
//! | `GET`, `POST /login/{ticket}` | the node's own login, for development |
//! | `POST /logout` | ends the browser's session |
//! | `GET /accept` | what there is for somebody to accept or to take over |
//! | `GET`, `POST /accept/{agent}` | a sponsor accepts an agent, or somebody takes one over |
//! | `GET /approve` | which calls wait for somebody's approval |
//! | `GET`, `POST /approve/{id}` | somebody approves a call, or refuses it |
//!
//! No page needs a script, none may be framed, and nothing that a stranger wrote is shown but as
//! text. What changes anything is a `POST` that carries a number which only a page of ours, shown
//! to that same session, knows.

mod accept;
mod approve;
mod consent;
mod login;
mod page;
mod session;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::{get, post};
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, COOKIE, HeaderValue, LOCATION, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Limited};
use tokens::{Issuer, Sealer};
use vocab::rng::RngError;
use vocab::{Clock, Rng, SponsorId};

use crate::node::Shared;

use page::Page;
use session::{Session, Sessions};

/// Longest body of a page's form or of a registration, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// How long it may take.
const BODY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// What the pages share.
pub struct People {
    issuer: Arc<Issuer>,
    sessions: Sessions,
    /// Seals what a browser keeps between leaving for the provider and coming back.
    sealer: Sealer,
    /// Whether cookies are for `https` alone.
    secure: bool,
    /// Whether the node's own login signs people in.
    local: bool,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for People {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("People").finish_non_exhaustive()
    }
}

impl People {
    /// With nobody signed in.
    pub fn new(
        issuer: Arc<Issuer>,
        local: bool,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, RngError> {
        Ok(Self {
            secure: issuer.public_url().as_str().starts_with("https://"),
            sealer: Sealer::new(Arc::clone(&rng))?,
            sessions: Sessions::new(Arc::clone(&clock), rng),
            issuer,
            local,
            clock,
        })
    }

    /// Whether the node's own login signs people in.
    pub const fn is_local(&self) -> bool {
        self.local
    }

    /// A URL that signs a named sponsor in, once, in the browser that opens it; none if the
    /// configuration does not allow that.
    pub fn ticket(&self, person: vocab::Handle, id: SponsorId) -> Option<Result<String, RngError>> {
        let began = self.issuer.moment_of_signing_in();
        let ticket = self
            .local
            .then(|| self.sessions.ticket(person, id, began))?;
        let url = self.issuer.public_url();
        Some(ticket.map(|ticket| format!("{url}/login/{ticket}")))
    }

    fn session(&self, headers: &HeaderMap) -> Option<Arc<Session>> {
        let session = self.sessions.find(cookie(headers, self.cookie_name())?)?;
        // Asked each time: who is suspended is signed in nowhere, and neither is who began before
        // they were, or before their sessions were revoked.
        self.issuer.active_person(&session.person).ok()?;
        let over = self.issuer.is_signed_out(&session.person, session.began);
        (!over).then_some(session)
    }

    const fn cookie_name(&self) -> &'static str {
        if self.secure {
            "__Host-tipstaff"
        } else {
            "tipstaff"
        }
    }

    const fn leaving_name(&self) -> &'static str {
        if self.secure {
            "__Host-tipstaff-login"
        } else {
            "tipstaff-login"
        }
    }

    /// Has the browser keep a cookie; an empty one is forgotten. `Lax`, since people come here from
    /// their clients and from the provider.
    fn keep(&self, response: &mut Response, name: &str, value: &str, seconds: u64) {
        let secure = if self.secure { "; Secure" } else { "" };
        let text =
            format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
        if let Ok(value) = HeaderValue::try_from(text) {
            response.headers_mut().append(SET_COOKIE, value);
        }
    }
}

/// What the handlers share.
#[derive(Debug)]
struct App {
    shared: Arc<Shared>,
    people: Arc<People>,
}

/// The routes, without the check of host and origin that every route of the node has.
pub fn router(shared: Arc<Shared>) -> Router {
    let people = Arc::clone(&shared.people);
    let app = Arc::new(App { shared, people });
    Router::new()
        .route("/oauth/authorize", get(consent::authorize))
        .route("/oauth/consent", post(consent::answer))
        .route("/login", get(login::leave))
        .route("/login/callback", get(login::come_back))
        .route(
            "/login/{ticket}",
            get(login::show_ticket).post(login::use_ticket),
        )
        .route("/logout", post(login::leave_session))
        .route("/accept", get(accept::list))
        .route("/accept/{agent}", get(accept::show).post(accept::accept))
        .route("/approve", get(approve::list))
        .route("/approve/", get(approve::list))
        .route("/approve/{id}", get(approve::show).post(approve::answer))
        .with_state(app)
}

/// Where clients register, which pages of other origins may be.
pub fn registration(shared: Arc<Shared>) -> Router {
    let people = Arc::clone(&shared.people);
    Router::new()
        .route("/oauth/register", post(consent::register))
        .with_state(Arc::new(App { shared, people }))
}

/// The value of a cookie, if it is there once.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut found = None;
    for header in headers.get_all(COOKIE) {
        for pair in header.to_str().ok()?.split(';') {
            let (key, value) = pair.trim().split_once('=').unwrap_or_default();
            if key == name && found.replace(value).is_some() {
                // Two of that name: somebody else set one of them.
                return None;
            }
        }
    }
    found
}

/// A page's form.
struct Fields(Vec<(String, String)>);

impl Fields {
    async fn read(body: Body) -> Option<Self> {
        let bytes = read_body(body).await?;
        Some(Self(tokens::read_form(&bytes)?))
    }

    fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| &**value).unwrap_or_default()
    }
}

async fn read_body(body: Body) -> Option<bytes::Bytes> {
    let read = Limited::new(body, BODY_BYTES_MAX).collect();
    let read = tokio::time::timeout(BODY_TIMEOUT, read).await.ok()?;
    Some(read.ok()?.to_bytes())
}

/// A page as an answer.
fn html(status: StatusCode, page: &Page) -> Response {
    let mut response = Response::new(Body::from(page.text_of()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (X_FRAME_OPTIONS, "DENY"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not `no-referrer`: then browsers send `Origin: null` with our own forms.
        (REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::try_from(page::policy()) {
        headers.insert("content-security-policy", policy);
    }
    headers.insert(
        "cross-origin-opener-policy",
        HeaderValue::from_static("same-origin"),
    );
    response
}

/// Sends the browser elsewhere with a `GET`, whatever it came with (RFC 9700 §4.12).
fn see_other(to: &str) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(to) = HeaderValue::try_from(to) {
        headers.insert(LOCATION, to);
        *response.status_mut() = StatusCode::SEE_OTHER;
    } else {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    response
}

/// What cannot be: the random source failed.
fn unavailable() -> Response {
    let page = Page::plain(
        "Not now",
        "The node cannot do this now. Its log says why. Try again in a moment.",
    );
    html(StatusCode::SERVICE_UNAVAILABLE, &page)
}

impl App {
    /// Counts a refusal, for the record.
    fn note(&self, word: &'static str, at: &'static str) {
        self.shared.plane.refusals().note(word, at, None);
    }

    fn refuse(&self, status: StatusCode, title: &str, text: &str) -> Response {
        html(status, &Page::plain(title, text).marked(self.people.local))
    }
}
