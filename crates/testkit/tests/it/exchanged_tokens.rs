//! Tokens that an authorization server gives for the sponsor and the instance of a call, and gives
//! for nobody else: how they are had, and how they go back when somebody is cut.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway::record::Came;
use http::{HeaderMap, StatusCode, Uri, header};
use serde_json::{Value, json};
use testkit::{Agent, Below, Plane, Reply, Script, Speaks, Token, Upstream};
use tokio::sync::watch;

use crate::common::{ANY, Client, ERAS};

const SECRET: &str = "s3cr3t-of-the-exchange-77d0";
const ISSUER: &str = "https://as.example";
const TYPES: &str = "urn:ietf:params:oauth:token-type";

/// An authorization server on this machine.
#[derive(Clone)]
pub(crate) struct Server {
    url: String,
    inner: Arc<Mutex<Inner>>,
    revoked: Arc<watch::Sender<Vec<String>>>,
}

#[derive(Default)]
struct Inner {
    /// Forms that asked for tokens.
    asked: Vec<Vec<(String, String)>>,
    instead: Option<Instead>,
    revoking: Option<StatusCode>,
    elsewhere: usize,
}

/// What is answered in place of a token.
#[derive(Debug, Clone)]
pub(crate) enum Instead {
    /// Members over those of an honest answer.
    Beside(Value),
    /// This, as it is.
    Status(StatusCode, String),
    /// What was sent, as the error.
    Echo,
    /// More bytes than anybody reads.
    Huge,
    /// Nothing.
    Hang,
}

/// The token that is given for an instance, or for the client itself.
pub(crate) fn given(whom: &str) -> String {
    format!("3xchanged-for-{whom}-9c1e")
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn parameter<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = form.iter().filter(|(key, _)| key == name);
    let value = found.next().map(|(_, value)| value.as_str());
    assert!(found.next().is_none(), "{name} is there twice");
    value
}

async fn answer(State(it): State<Server>, uri: Uri, headers: HeaderMap, body: String) -> Response {
    let form = tokens::read_form(body.as_bytes()).unwrap();
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("gate:{SECRET}"));
    assert_eq!(headers["authorization"], format!("Basic {basic}"));
    if uri == "/revoke" {
        let status = it.inner.lock().unwrap().revoking;
        let token = parameter(&form, "token").unwrap().to_owned();
        it.revoked.send_modify(|all| all.push(token));
        return status.unwrap_or(StatusCode::OK).into_response();
    }
    let (instead, whom) = {
        let mut inner = it.inner.lock().unwrap();
        if uri != "/token" {
            inner.elsewhere += 1;
            return StatusCode::NOT_FOUND.into_response();
        }
        inner.asked.push(form.clone());
        let actor = parameter(&form, "actor_token").map(claims);
        let whom = actor.map_or("gate".to_owned(), |it| {
            it["sub"].as_str().unwrap().to_owned()
        });
        (inner.instead.clone(), whom)
    };
    let mut token = json!({"access_token": given(&whom), "token_type": "Bearer",
                           "issued_token_type": format!("{TYPES}:access_token"), "expires_in": 600});
    let json = [(header::CONTENT_TYPE, "application/json")];
    match instead {
        None => {}
        Some(Instead::Beside(beside)) => {
            for (name, value) in beside.as_object().unwrap() {
                token[name] = value.clone();
            }
        }
        Some(Instead::Status(status, body)) => {
            let to = [(header::LOCATION, format!("{}/other", it.url))];
            return (status, json, to, body).into_response();
        }
        Some(Instead::Echo) => {
            let body = json!({"error": parameter(&form, "subject_token"),
                              "error_description": parameter(&form, "actor_token")});
            return (StatusCode::BAD_REQUEST, json, body.to_string()).into_response();
        }
        Some(Instead::Huge) => token["padding"] = "x".repeat(1 << 20).into(),
        Some(Instead::Hang) => std::future::pending().await,
    }
    (json, token.to_string()).into_response()
}

impl Server {
    /// Starts one on a free port.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let it = Self {
            url,
            inner: Arc::default(),
            revoked: Arc::new(watch::Sender::default()),
        };
        let app = Router::new().fallback(answer).with_state(it.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        it
    }

    /// `[upstream.NAME.oauth]` of a node that exchanges here, with its secret in that file.
    pub(crate) fn config(&self, name: &str, secret: &str) -> String {
        let mut table = String::new();
        writeln!(
            table,
            "[upstream.{name}.oauth]\ngrant = \"token-exchange\"\ntoken_url = \"{0}/token\"\n\
             revocation_url = \"{0}/revoke\"\nissuer = \"{ISSUER}\"\nclient_id = \"gate\"\n\
             client_secret = \"{secret}\"\nscope = \"read write\"\naudience = \"crm\"",
            self.url
        )
        .unwrap();
        table
    }

    /// Answers this instead from now on.
    pub(crate) fn answers(&self, instead: Option<Instead>) {
        self.inner.lock().unwrap().instead = instead;
    }

    fn asked(&self) -> Vec<Vec<(String, String)>> {
        self.inner.lock().unwrap().asked.clone()
    }

    /// What was to be revoked, once it is so much.
    pub(crate) async fn revoked(&self, count: usize) -> Vec<String> {
        let mut revoked = self.revoked.subscribe();
        let mut all = revoked
            .wait_for(|all| all.len() >= count)
            .await
            .unwrap()
            .clone();
        all.sort();
        all
    }
}

struct Fixture {
    server: Server,
    plane: Plane,
    agent: Agent,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        Self::with("subject = \"id\"\n").await
    }

    async fn with(more: &str) -> Self {
        let server = Server::start().await;
        let upstream = Upstream::start(Speaks::Both).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, SECRET).unwrap();
        let table = server.config("files", &format!("file:{}", file.display()));
        let table = format!("{table}{more}");
        let plane = Plane::with(|setup| setup.upstream("files", &upstream, &table)).await;
        let agent = plane.agent("triage").await;
        Self {
            server,
            plane,
            agent,
            _folder: folder,
        }
    }

    /// What the last call was sent with.
    fn sent(&self) -> String {
        let seen = self.plane.files().last_call();
        let all: Vec<_> = seen.headers.get_all("authorization").iter().collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].to_str().unwrap().to_owned()
    }

    async fn call(&self, token: &Token) -> Reply {
        Client::new(token, ERAS[0])
            .await
            .call("anything", ANY)
            .await
    }

    async fn allowed(&self, token: &Token) {
        let reply = self.call(token).await;
        assert_eq!(reply.effect(), "allow", "{}", reply.json);
        assert_eq!(self.sent(), format!("Bearer {}", given(&token.instance)));
    }
}

fn bearer(whom: &str) -> String {
    format!("Bearer {}", given(whom))
}

//= https://www.rfc-editor.org/rfc/rfc8693#section-4.4
//= type=test
//# makes a statement that one party is authorized to become the actor and act on behalf of another
//# party
#[tokio::test]
async fn the_server_is_told_for_whom_by_whom_and_through_whom() {
    let it = Fixture::new().await;
    let top = it.agent.token("files").await;
    let below = it.agent.below(&top, &Below::default()).await;
    it.allowed(&below).await;
    let asked = it.server.asked();
    let form = asked.last().unwrap();
    let jwt = format!("{TYPES}:jwt");
    for (name, value) in [
        (
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        ("subject_token_type", &jwt),
        ("actor_token_type", &jwt),
        ("requested_token_type", &format!("{TYPES}:access_token")),
        ("audience", "crm"),
        ("scope", "read write"),
    ] {
        assert_eq!(parameter(form, name), Some(value), "{name}");
    }
    let [subject, actor] = ["subject_token", "actor_token"].map(|it| parameter(form, it).unwrap());
    let issuer = it.plane.gateway().issuer().public_url().to_string();
    let (about, by) = (claims(subject), claims(actor));
    assert_eq!(about["sub"], "maya");
    assert_eq!(
        about["may_act"],
        json!({"iss": issuer, "sub": below.instance})
    );
    assert_eq!(about["act"], json!({"sub": top.instance}));
    assert_eq!(by["sub"], below.instance.as_str());
    assert_eq!(by["client_id"], "triage");
    for token in [&about, &by] {
        assert_eq!(
            (&token["iss"], &token["aud"]),
            (&json!(issuer), &json!(ISSUER))
        );
        let (from, to) = (
            token["iat"].as_u64().unwrap(),
            token["exp"].as_u64().unwrap(),
        );
        assert_eq!(to - from, 60);
    }
    assert_ne!(about["jti"], by["jti"]);
    // What is for others is none of ours: neither of them is an access token here.
    for token in [subject, actor] {
        let reply = it.call(&it.plane.bearer(token)).await;
        assert_eq!(reply.status, 401, "{}", reply.json);
    }
    it.plane.end().await;
}

#[tokio::test]
async fn nobody_is_reached_with_anothers_token_and_the_gateway_itself_with_the_clients() {
    let it = Fixture::new().await;
    let otto = it.plane.register("other", json!({"sponsor": "otto"})).await;
    let (one, other, third) = (
        it.agent.token("files").await,
        it.agent.token("files").await,
        otto.token("files").await,
    );
    for era in ERAS {
        for token in [&one, &other, &third, &one] {
            let client = Client::new(token, era).await;
            let reply = client.call("anything", ANY).await;
            assert_eq!(reply.effect(), "allow", "{}", reply.json);
            assert_eq!(it.sent(), bearer(&token.instance));
        }
    }
    // Of all that was sent, handshakes and listings of the gateway alone went as the client.
    let whose = [&one, &other, &third].map(|it| bearer(&it.instance));
    for seen in it.plane.files().seen() {
        let with = seen.headers["authorization"].to_str().unwrap().to_owned();
        let own = with == bearer("gate") && seen.method != "tools/call";
        assert!(own || whose.contains(&with), "{} {with}", seen.method);
    }
    let asked = it.server.asked();
    let exchanged = asked
        .iter()
        .filter(|it| parameter(it, "actor_token").is_some());
    assert_eq!(exchanged.count(), 3, "one for each instance");
    it.plane.end().await;
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_asked_for_sends_nothing_and_nobody_else_is_taken() {
    let it = Fixture::new().await;
    let token = it.agent.token("files").await;
    let client = Client::new(&token, ERAS[0]).await;
    let calls = it.plane.files().calls();
    let beside = |json: Value| Instead::Beside(json);
    let all = [
        beside(json!({"issued_token_type": format!("{TYPES}:refresh_token")})),
        beside(json!({"issued_token_type": null})),
        beside(json!({"token_type": "N_A"})),
        beside(json!({"token_type": "DPoP"})),
        beside(json!({"scope": "read write admin"})),
        beside(json!({"access_token": "x\r\nX-Admin: 1"})),
        beside(json!({"access_token": ""})),
        Instead::Huge,
        Instead::Echo,
        Instead::Status(StatusCode::TEMPORARY_REDIRECT, String::new()),
        Instead::Status(
            StatusCode::BAD_REQUEST,
            r#"{"error":"invalid_target"}"#.to_owned(),
        ),
        Instead::Status(StatusCode::OK, "garbage".to_owned()),
        Instead::Hang,
    ];
    for instead in all {
        it.server.answers(Some(instead.clone()));
        let reply = client.call("anything", ANY).await;
        assert!(reply.is_error(), "{instead:?}: {}", reply.json);
        let told = reply.json.to_string();
        assert!(told.contains("nothing was sent"), "{told}");
        for hidden in [
            "oauth",
            "eyJ",
            "/token",
            "scope",
            "invalid_target",
            "3xchanged",
        ] {
            assert!(!told.contains(hidden), "{told}");
        }
        let outcome = it.plane.calls().outcome(reply.record().unwrap()).unwrap();
        assert_eq!(outcome.result, Came::NotSent, "{instead:?}");
    }
    assert_eq!(it.plane.files().calls(), calls, "nothing was sent");
    let trouble = it.server.inner.lock().unwrap().elsewhere;
    assert_eq!(trouble, 0, "no redirect is followed");
    it.server.answers(None);
    it.allowed(&token).await;
    it.plane.end().await;
}

#[tokio::test]
async fn a_sponsor_whom_the_server_cannot_know_is_not_called_for() {
    let it = Fixture::with("").await;
    let token = it.agent.token("files").await;
    let reply = it.call(&token).await;
    assert!(reply.is_error(), "{}", reply.json);
    let exchanged = |form: &Vec<(String, String)>| parameter(form, "actor_token").is_some();
    assert!(!it.server.asked().iter().any(exchanged));
    let link = json!({"external_id": "00u1-maya"});
    let answer = it
        .plane
        .admin("POST", "/v1/sponsors/maya/link", Some(link))
        .await;
    assert!(answer.status.is_success(), "{}", answer.text());
    it.allowed(&token).await;
    let form = it.server.asked().pop().unwrap();
    let subject = parameter(&form, "subject_token").unwrap();
    assert_eq!(claims(subject)["sub"], "00u1-maya");
    it.plane.end().await;
}

/// The newest certificate.
async fn certificate(plane: &Plane) -> Value {
    let cuts = plane.admin("GET", "/v1/cuts", None).await.json();
    let cut = cuts.as_array().unwrap().last().unwrap()["record"].clone();
    let index = cut.as_str().unwrap().strip_prefix("control/").unwrap();
    let answer = plane.admin("GET", &format!("/v1/cuts/{index}"), None).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["certificate"].clone()
}

#[tokio::test]
async fn a_cut_sponsors_tokens_are_revoked_at_the_server_and_nobody_elses() {
    let it = Fixture::new().await;
    let otto = it.plane.register("other", json!({"sponsor": "otto"})).await;
    let (one, unharmed) = (it.agent.token("files").await, otto.token("files").await);
    let below = it.agent.below(&one, &Below::default()).await;
    for token in [&one, &below, &unharmed] {
        it.allowed(token).await;
    }
    it.plane.command("/v1/sponsors/maya/suspend").await;
    let mut expected = [&one, &below].map(|it| given(&it.instance));
    expected.sort();
    assert_eq!(it.server.revoked(2).await, expected);
    let cut = certificate(&it.plane).await;
    let credentials = cut["credentials"].as_array().unwrap();
    assert_eq!(credentials.len(), 2, "{cut:#}");
    for credential in credentials {
        assert_eq!(credential["result"], "revoked", "{cut:#}");
        assert_eq!(credential["upstream"], "files");
    }
    assert_eq!(cut["residue"]["credentials"], json!([]));
    it.allowed(&unharmed).await;
    assert_eq!(it.server.revoked(2).await, expected);
    let metrics = it.plane.ask("GET", "/metrics").send().await;
    let counted = "tipstaff_credentials_returned_total{result=\"revoked\"} 2";
    assert!(metrics.text().contains(counted), "{}", metrics.text());
    // Who goes on has another one.
    it.plane.command("/v1/sponsors/maya/resume").await;
    let before = it.server.asked().len();
    it.allowed(&one).await;
    assert_eq!(it.server.asked().len(), before + 1);
    it.plane.end().await;
}

#[tokio::test]
async fn what_the_server_does_not_take_back_is_in_the_certificate() {
    let it = Fixture::new().await;
    let token = it.agent.token("files").await;
    it.allowed(&token).await;
    it.server.inner.lock().unwrap().revoking = Some(StatusCode::FORBIDDEN);
    it.plane.command("/v1/agents/triage/suspend").await;
    let cut = certificate(&it.plane).await;
    let credential = &cut["credentials"][0];
    assert_eq!(credential["result"], "failed", "{cut:#}");
    assert!(credential["good_until"].is_string());
    let left = format!("files of {}", token.instance);
    assert_eq!(cut["residue"]["credentials"], json!([left]));
    assert_eq!(it.server.revoked(1).await, [given(&token.instance)]);
    it.plane.end().await;
}

#[tokio::test]
async fn while_the_sponsor_is_cut_the_server_is_asked_for_nothing() {
    let it = Fixture::new().await;
    let token = it.agent.token("files").await;
    it.allowed(&token).await;
    it.plane.command("/v1/sponsors/maya/suspend").await;
    it.server.revoked(1).await;
    it.plane.command("/v1/sponsors/maya/resume").await;
    // The server is slow, and the cut comes meanwhile.
    it.server.answers(Some(Instead::Hang));
    let before = it.server.asked().len();
    let client = Client::new(&token, ERAS[0]).await;
    let waiting = client.spawn_call("anything", ANY);
    while it.server.asked().len() == before {
        tokio::task::yield_now().await;
    }
    it.plane.command("/v1/sponsors/maya/suspend").await;
    drop(waiting);
    // Nobody else is asked for anything while they are suspended.
    it.server.answers(None);
    let asked = it.server.asked().len();
    let reply = it.call(&token).await;
    assert_eq!(reply.status, 401, "{}", reply.json);
    assert_eq!(it.server.asked().len(), asked);
    it.plane.end().await;
}

#[tokio::test]
async fn a_node_that_stops_gives_back_what_its_instances_had() {
    let it = Fixture::new().await;
    let token = it.agent.token("files").await;
    it.allowed(&token).await;
    it.plane.end().await;
    let revoked = tokio::time::timeout(Duration::from_secs(5), it.server.revoked(1)).await;
    assert_eq!(revoked.unwrap(), [given(&token.instance)]);
}

#[tokio::test]
async fn what_comes_back_of_the_token_is_masked() {
    let it = Fixture::new().await;
    let token = it.agent.token("files").await;
    let said = format!(
        r#"{{"content":[{{"type":"text","text":"{} {SECRET}"}}]}}"#,
        given(&token.instance)
    );
    it.plane.files().script("anything", Script::Result(said));
    let reply = it.call(&token).await;
    assert_eq!(reply.effect(), "allow", "{}", reply.json);
    assert_eq!(reply.said(), format!("{0} {0}", broker::MASK));
    it.plane.end().await;
}
