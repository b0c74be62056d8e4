//! A client asks for a code; its person is asked, and answers.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::json;
use tokens::{Asked, CodeRequest, Consent, McpClientError, SentBack};

use super::page::Page;
use super::session::Session;
use super::{App, Fields, html, read_body, see_other, unavailable};
use crate::http::{as_json, no_store};

type Shared = State<std::sync::Arc<App>>;

/// `GET /oauth/authorize`.
pub(super) async fn authorize(State(app): Shared, request: Request) -> Response {
    if let Err(why) = app.shared.plane.life().check() {
        app.note("not-serving", "people");
        return app.refuse(StatusCode::SERVICE_UNAVAILABLE, "Not now", why);
    }
    let query = request.uri().query().unwrap_or_default();
    let asked = match app.people.issuer.asked(query).await {
        Ok(asked) => asked,
        Err(error) => {
            tracing::info!(error = %error, "A client that asked for a code was refused");
            // What lies at an address is nothing that whoever names it is told.
            let text = match &error {
                tokens::NotSentBack::Client(McpClientError::Fetch(_) | McpClientError::Keys(_)) => {
                    "The client's description could not be read.".to_owned()
                }
                error => format!("The program that sent you here cannot be served: {error}."),
            };
            let title = "Nobody is signed in";
            app.note("bad-code-request", "people");
            return app.refuse(StatusCode::BAD_REQUEST, title, &text);
        }
    };
    let asked = match asked {
        Asked::Person(asked) => *asked,
        // Anybody can register anything, so nobody is sent on before they said so: else this would
        // be a way to lead people from here to anywhere (RFC 9700 §4.11).
        Asked::Back(to, why) => {
            app.note("bad-code-request", "people");
            let page = Page::new("The program made a mistake")
                .text(&format!(
                    "What the program that sent you here asked for cannot be given: {why}."
                ))
                .text("Go back to it only if you came from there.")
                .link(&to, "Tell the program");
            return html(StatusCode::BAD_REQUEST, &page.marked(app.people.local));
        }
    };
    if let Some(session) = app.people.session(request.headers()) {
        return ask(&app, &session, asked);
    }
    let here = request.uri().path_and_query();
    let here = here.map(ToString::to_string).unwrap_or_default();
    app.sign_in(&here).await
}

/// The page on which a person says what a client may be. It is shown every time: that somebody
/// agreed once, or is signed in, is nobody else's consent.
fn ask(app: &App, session: &Session, asked: CodeRequest) -> Response {
    let issuer = &app.people.issuer;
    let Ok(name) = issuer.active_person(&session.person) else {
        return unavailable();
    };
    let choices = issuer.choices(&session.person);
    let client = &asked.client;
    let mut rows = vec![
        ("Program", client.name.clone()),
        (
            "Vouched for by",
            client.host.clone().unwrap_or_else(|| {
                "nobody: it registered itself, under a name of its own choosing".to_owned()
            }),
        ),
        ("Wants to use", asked.upstream.to_string()),
        ("Returns you to", asked.redirect.shown().to_owned()),
    ];
    rows.push(("You answer for it", name.clone()));
    let mut page = Page::new("Let this program act for you?").table(rows);
    if asked.redirect.is_local() {
        page = page.warning(
            "You will be returned to a program on this computer. Any program here can call itself \
             that: go on only if you have just started it yourself.",
        );
    }
    if client.host.is_none() && !asked.redirect.is_local() {
        page = page.warning(
            "Nobody vouches for this program's name. Look at the address that you will be returned \
             to, and go on only if you know it.",
        );
    }
    let mut all = Vec::new();
    // What any program can use comes first: that one is chosen unless somebody chooses.
    let (proving, any): (Vec<_>, Vec<_>) = choices.iter().partition(|choice| choice.proves);
    for choice in any.into_iter().chain(proving) {
        for purpose in &choice.purposes {
            let beside = if choice.proves {
                "needs a program that proves possession of a key (DPoP)"
            } else {
                ""
            };
            all.push((
                format!("{} {purpose}", choice.agent),
                format!("{} for {purpose}", choice.agent),
                beside.to_owned(),
            ));
        }
    }
    let Ok(number) = app.people.sessions.ask(session, asked) else {
        return unavailable();
    };
    page = page.form("/oauth/consent", &[("number", &number)]);
    page = if all.is_empty() {
        page.text(
            "There is no agent that you may start. An administrator says who may: `tipstaff agent \
             add … --people`.",
        )
    } else {
        page.text("It will act as the agent, and for the purpose, that you choose:")
            .choices("Agent and purpose", "choice", &all)
            .button("agree", "Agree", true)
    };
    let page = page.button("refuse", "Refuse", false).end_form();
    let page = page
        .signed_in(&name, session.form())
        .marked(app.people.local);
    html(StatusCode::OK, &page)
}

/// `POST /oauth/consent`.
pub(super) async fn answer(State(app): Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let stale = || {
        app.note("bad-consent", "people");
        app.refuse(
            StatusCode::BAD_REQUEST,
            "That question is not open",
            "It was answered, or too much time went by, or you signed out. Start again from your \
             program.",
        )
    };
    let Some(fields) = Fields::read(body).await else {
        return stale();
    };
    // Whoever makes a browser send this knows neither the session nor the question's number.
    let Some(session) = app.people.session(&parts.headers) else {
        return stale();
    };
    let Some(asked) = session.answered(fields.get("number")) else {
        return stale();
    };
    let issuer = &app.people.issuer;
    let url = issuer.public_url();
    if fields.get("answer") != "agree" {
        return see_other(&asked.back(url, SentBack::Denied));
    }
    let (agent, purpose) = fields.get("choice").split_once(' ').unwrap_or_default();
    let chosen = issuer
        .choices(&session.person)
        .into_iter()
        .find_map(|choice| {
            let purpose = choice.purposes.iter().find(|one| one.as_str() == purpose)?;
            (choice.agent.as_str() == agent).then(|| (choice.agent.clone(), purpose.clone()))
        });
    let Some((agent, purpose)) = chosen else {
        return stale();
    };
    let consent = Consent {
        request: asked.clone(),
        person: session.person.clone(),
        sign_in: session.sign_in,
        signed_in: session.began,
        agent,
        purpose,
    };
    match issuer.consented(consent) {
        Ok(Ok(code)) => see_other(&asked.back_with(url, &code)),
        Ok(Err(_)) | Err(_) => see_other(&asked.back(url, SentBack::Unavailable)),
    }
}

/// `POST /oauth/register` (RFC 7591).
pub(super) async fn register(State(app): Shared, request: Request) -> Response {
    let refused = |code: &str, why: &str| {
        app.note("bad-registration", "people");
        let body = json!({ "error": code, "error_description": why });
        no_store(as_json(StatusCode::BAD_REQUEST, &body))
    };
    let Some(body) = read_body(request.into_body()).await else {
        return refused(
            "invalid_client_metadata",
            "the body is too long, too slow or cut short",
        );
    };
    match app.people.issuer.mcp_clients().register(&body) {
        Ok(client) => no_store(as_json(StatusCode::CREATED, &client)),
        Err(error) => {
            let code = match error {
                McpClientError::Redirect(_) => "invalid_redirect_uri",
                _ => "invalid_client_metadata",
            };
            refused(code, &error.to_string())
        }
    }
}
