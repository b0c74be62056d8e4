//! People sign in: at the company's provider, or, in development, with a ticket of the node's own.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use register::SignIn;
use tokens::{Login, NoPerson, PersonClaim, Returned};
use vocab::Handle;

use super::page::Page;
use super::session::SESSION;
use super::{App, Fields, cookie, html, see_other, unavailable};

type Shared = State<std::sync::Arc<App>>;

/// How long a browser keeps what it takes along to the provider, in seconds.
const LEAVE_SECONDS: u64 = 600;

/// `GET /login`: signs somebody in for nothing in particular.
pub(super) async fn leave(State(app): Shared, request: Request) -> Response {
    let session = app.people.session(request.headers());
    let name = session.and_then(|it| app.people.issuer.active_person(&it.person).ok());
    match name {
        Some(name) => welcome(&app, &name),
        None => app.sign_in("/login").await,
    }
}

fn welcome(app: &App, name: &str) -> Response {
    let page = Page::new("You are signed in").text(&format!(
        "As {name}. You can go back to where you came from."
    ));
    html(StatusCode::OK, &page.marked(app.people.local))
}

impl App {
    /// Has somebody sign in, and come back to `return_to`, a path of ours.
    pub(super) async fn sign_in(&self, return_to: &str) -> Response {
        let Some(login) = self.people.issuer.login() else {
            return self.without_provider();
        };
        let began = self.people.issuer.moment_of_signing_in();
        let (begun, to) = match login.begin().await {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) => {
                tracing::error!(error = %error, "Nobody can sign in: the provider cannot be asked");
                let text = "The company's identity provider cannot be asked now. The node's log \
                            says why.";
                let status = StatusCode::SERVICE_UNAVAILABLE;
                self.note("no-provider", "people");
                return self.refuse(status, "Nobody can sign in now", text);
            }
            Err(_) => return unavailable(),
        };
        let now = self.people.clock.now();
        match self.people.sealer.seal(&begun, return_to, now, began) {
            Ok(Some(kept)) => {
                let mut response = see_other(&to);
                let name = self.people.leaving_name();
                self.people.keep(&mut response, name, &kept, LEAVE_SECONDS);
                response
            }
            Ok(None) => {
                self.note("bad-code-request", "people");
                self.refuse(
                    StatusCode::URI_TOO_LONG,
                    "The request is too long",
                    "What the program that sent you here asked for is longer than a browser keeps.",
                )
            }
            Err(_) => unavailable(),
        }
    }

    fn without_provider(&self) -> Response {
        if !self.people.local {
            self.note("no-provider", "people");
            return self.refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "Nobody can sign in here",
                "This node has no identity provider: an administrator names one in `[login]` of \
                 tipstaff.toml.",
            );
        }
        let page = Page::new("Sign in")
            .text("On the machine of the node, let an administrator run")
            .command("tipstaff login ID")
            .text(
                "with your sponsor id, and open the address that it prints in this browser. This page \
                 goes on by itself then.",
            )
            .refreshed();
        html(StatusCode::UNAUTHORIZED, &page.marked(true))
    }

    /// Signs somebody in: always under a number that no browser had before, so that nobody can have
    /// planted it there (session fixation).
    fn signed_in(
        &self,
        headers: &http::HeaderMap,
        person: Handle,
        sign_in: SignIn,
        began: u64,
        answer: impl FnOnce() -> Response,
    ) -> Response {
        let people = &self.people;
        if let Some(old) = cookie(headers, people.cookie_name()) {
            people.sessions.end(old);
        }
        let Ok(value) = people.sessions.start(person, sign_in, began) else {
            return unavailable();
        };
        let mut response = answer();
        people.keep(
            &mut response,
            people.cookie_name(),
            &value,
            SESSION.as_secs(),
        );
        people.keep(&mut response, people.leaving_name(), "", 0);
        response
    }
}

/// `GET /login/callback`: the provider sends somebody back.
pub(super) async fn come_back(State(app): Shared, request: Request) -> Response {
    let people = &app.people;
    let not_begun = || {
        app.note("bad-login", "people");
        app.refuse(
            StatusCode::BAD_REQUEST,
            "That sign-in did not begin here",
            "It was begun in another browser, too long ago, or before the node was started again. \
             Start again from where you came from.",
        )
    };
    let query = request.uri().query().unwrap_or_default();
    let Some(fields) = tokens::read_form(query.as_bytes()).map(Fields) else {
        return not_begun();
    };
    let kept = cookie(request.headers(), people.leaving_name());
    let state = fields.get("state");
    let opened = kept.and_then(|kept| people.sealer.open(kept, state, people.clock.now()));
    let (Some((begun, return_to, began)), Some(login)) = (opened, people.issuer.login()) else {
        return not_begun();
    };
    let given = |name: &str| Some(fields.get(name).to_owned()).filter(|text| !text.is_empty());
    let returned = Returned {
        code: given("code"),
        error: given("error"),
        iss: given("iss"),
    };
    let claims = match login.finish(&begun, &returned).await {
        Ok(claims) => claims,
        Err(error) => {
            tracing::warn!(error = %error, "A person was not signed in");
            let text = "The identity provider did not sign you in, or its answer cannot be taken. \
                        The node's log says why.";
            app.note("bad-login", "people");
            return app.refuse(StatusCode::FORBIDDEN, "You are not signed in", text);
        }
    };
    match people.issuer.person(login, &claims) {
        // Whoever began before their sessions were revoked is asked to sign in again, there.
        Ok(person) => app.signed_in(request.headers(), person, SignIn::Oidc, began, || {
            see_other(&return_to)
        }),
        Err(error) => nobody(&app, login, &claims, error),
    }
}

/// Somebody whom the provider knows, and the register does not, or not any more.
fn nobody(app: &App, login: &Login, claims: &tokens::Claims, why: NoPerson) -> Response {
    app.note("unknown-person", "people");
    let mut page = Page::new("You are not known here").text(&format!("{why}."));
    if why == NoPerson::Unknown {
        let rows = login.person_claims().iter().map(|claim| match claim {
            PersonClaim::ExternalId(name) => ("external id", name),
            PersonClaim::Id(name) => ("id", name),
        });
        let said = |name: &String| claims.any_text(name).unwrap_or("(nothing)").to_owned();
        page = page
            .text("An administrator, or the directory, has to make you known by what it says:")
            .table(rows.map(|(kind, name)| (kind, said(name))));
    }
    html(StatusCode::FORBIDDEN, &page.marked(app.people.local))
}

const USED: &str = "It was used, or five minutes went by. Let an administrator run `tipstaff login \
                    ID` again.";

/// `GET /login/{ticket}`: shows whose it is. Opening it uses nothing up, since mail readers and
/// chat programs open addresses by themselves.
pub(super) async fn show_ticket(State(app): Shared, Path(ticket): Path<String>) -> Response {
    let Some(id) = app.people.sessions.whose(&ticket) else {
        let title = "That address is not good any more";
        app.note("bad-login", "people");
        return app.refuse(StatusCode::NOT_FOUND, title, USED);
    };
    let page = Page::new("Sign in by the node's own login")
        .table([("Sponsor", id.to_string())])
        .form(&format!("/login/{ticket}"), &[])
        .button("sign-in", &format!("Sign in as {id}"), true)
        .end_form();
    html(StatusCode::OK, &page.marked(true))
}

/// `POST /login/{ticket}`.
pub(super) async fn use_ticket(
    State(app): Shared,
    Path(ticket): Path<String>,
    request: Request,
) -> Response {
    let issuer = &app.people.issuer;
    let person = app.people.sessions.redeem(&ticket);
    let person = person.filter(|(person, began)| !issuer.is_signed_out(person, *began));
    let name = person
        .as_ref()
        .and_then(|(person, _)| issuer.active_person(person).ok());
    let (Some((person, began)), Some(name)) = (person, name) else {
        let title = "That address is not good any more";
        app.note("bad-login", "people");
        return app.refuse(StatusCode::NOT_FOUND, title, USED);
    };
    app.signed_in(request.headers(), person, SignIn::LocalLogin, began, || {
        welcome(&app, &name)
    })
}

/// `POST /logout`.
pub(super) async fn leave_session(State(app): Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let fields = Fields::read(body).await;
    let session = app.people.session(&parts.headers);
    let (Some(fields), Some(session)) = (fields, session) else {
        return see_other("/login");
    };
    if !session.is_ours(fields.get("form")) {
        let text = "The form was not one of this page's.";
        app.note("bad-consent", "people");
        return app.refuse(StatusCode::FORBIDDEN, "Nothing was done", text);
    }
    let name = app.people.cookie_name();
    if let Some(value) = cookie(&parts.headers, name) {
        app.people.sessions.end(value);
    }
    let page = Page::plain(
        "You are signed out here",
        "You may still be signed in at the identity provider. Start again from your program.",
    );
    let mut response = html(StatusCode::OK, &page.marked(app.people.local));
    app.people.keep(&mut response, name, "", 0);
    response
}
