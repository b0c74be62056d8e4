//! Secrets of an OpenBao or HashiCorp Vault server, and what it leases. The server here is none of the
//! two: it answers as the documentation of their API says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use gateway::record::Came;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use serde_json::{Value, json};
use testkit::{Plane, Script, Speaks, Token, Upstream};
use tokio::sync::watch;

use crate::common::{ANY, Client, ERAS};
use crate::credentials::SERVER;

const SECRET_ID: &str = "s3cr3t-id-of-the-role-51aa";
pub(crate) const TOKEN: &str = "hvs.t0ken-of-the-node-90be";
pub(crate) const STORED: &str = "st0red-in-openbao-4471c";

/// A server as documented.
#[derive(Clone)]
pub(crate) struct Documented {
    pub(crate) url: String,
    inner: Arc<Mutex<Inner>>,
    revoked: Arc<watch::Sender<Vec<String>>>,
}

#[derive(Default)]
struct Inner {
    leases: usize,
    instead: Option<StatusCode>,
    asked: Vec<String>,
}

/// The password of the n-th lease.
pub(crate) fn password(n: usize) -> String {
    format!("dyn4mic-password-{n:03}-e7d2")
}

async fn answer(
    State(it): State<Documented>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let mut inner = it.inner.lock().unwrap();
    let path = uri.path().strip_prefix("/v1/").unwrap_or_default();
    inner.asked.push(path.to_owned());
    assert_eq!(headers["x-vault-request"], "true");
    assert_eq!(headers["x-vault-namespace"], "team/a");
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    if let Some(status) = inner.instead {
        let to = [(header::LOCATION, format!("{}/v1/elsewhere", it.url))];
        let body = json!({"errors": [format!("{TOKEN} {STORED}")]});
        return (status, to, body.to_string()).into_response();
    }
    let token = headers.get("x-vault-token");
    if path != "auth/approle/login" && token.is_none_or(|it| it != TOKEN) {
        return (
            StatusCode::FORBIDDEN,
            json!({"errors": ["permission denied"]}).to_string(),
        )
            .into_response();
    }
    let ok = |body: Value| (StatusCode::OK, body.to_string()).into_response();
    match (method.as_str(), path) {
        ("POST", "auth/approle/login") => {
            assert_eq!(body, json!({"role_id": "gate", "secret_id": SECRET_ID}));
            ok(json!({"auth": {"client_token": TOKEN, "lease_duration": 3600, "renewable": true}}))
        }
        ("GET", "secret/data/desk") => ok(json!({
            "lease_id": "", "renewable": false, "lease_duration": 0,
            "data": {"data": {"key": STORED}, "metadata": {"version": 1}},
        })),
        ("GET", "database/creds/reader") => {
            inner.leases += 1;
            let n = inner.leases;
            ok(json!({
                "lease_id": format!("database/creds/reader/{n}"), "renewable": true,
                "lease_duration": 3600,
                "data": {"username": format!("reader-{n}"), "password": password(n)},
            }))
        }
        ("POST", "sys/leases/revoke" | "auth/token/revoke-self") => {
            assert!(path != "sys/leases/revoke" || body["sync"] == true);
            let what = body["lease_id"].as_str().unwrap_or(path).to_owned();
            it.revoked.send_modify(|all| all.push(what));
            StatusCode::NO_CONTENT.into_response()
        }
        _ => (StatusCode::NOT_FOUND, json!({"errors": []}).to_string()).into_response(),
    }
}

impl Documented {
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

    /// `[openbao.main]`, with the secret id in that file.
    pub(crate) fn config(&self, secret_id: &std::path::Path) -> String {
        std::fs::write(secret_id, SECRET_ID).unwrap();
        format!(
            "[openbao.main]\naddress = \"{}\"\nnamespace = \"team/a\"\n\
             approle = {{ role_id = \"gate\", secret_id = \"file:{}\" }}\n",
            self.url,
            secret_id.display()
        )
    }

    pub(crate) fn answers(&self, instead: Option<StatusCode>) {
        self.inner.lock().unwrap().instead = instead;
    }

    fn asked(&self, path: &str) -> usize {
        let inner = self.inner.lock().unwrap();
        inner.asked.iter().filter(|it| *it == path).count()
    }

    async fn revoked(&self, count: usize) -> Vec<String> {
        let mut revoked = self.revoked.subscribe();
        let waiting = revoked.wait_for(|all| all.len() >= count);
        let all = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        all.unwrap().unwrap().clone()
    }
}

const HEADERS: &str = "headers = { X-Key = \"Key {openbao:main/database/creds/reader#password}\", \
     X-User = \"openbao:main/database/creds/reader#username\" }\n";

struct Fixture {
    server: Documented,
    plane: Plane,
    token: Token,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new(upstream_has: &str) -> Self {
        let server = Documented::start().await;
        let upstream = Upstream::start(Speaks::Both).await;
        let folder = tempfile::tempdir().unwrap();
        let table = server.config(&folder.path().join("secret-id"));
        let more = format!("{upstream_has}{table}");
        let plane = Plane::with(|setup| setup.upstream("files", &upstream, &more)).await;
        let token = plane.agent("triage").await.token("files").await;
        Self {
            server,
            plane,
            token,
            _folder: folder,
        }
    }

    fn sent(&self) -> [String; 2] {
        let seen = self.plane.files().last_call();
        ["x-user", "x-key"].map(|name| seen.headers[name].to_str().unwrap().to_owned())
    }

    async fn allowed(&self, token: &Token) -> [String; 2] {
        let client = Client::new(token, ERAS[0]).await;
        let reply = client.call("anything", ANY).await;
        assert_eq!(reply.effect(), "allow", "{}", reply.json);
        self.sent()
    }
}

fn of(n: usize) -> [String; 2] {
    [format!("reader-{n}"), format!("Key {}", password(n))]
}

#[tokio::test]
async fn all_calls_share_a_lease_that_a_stop_gives_back_with_the_nodes_own_token() {
    let it = Fixture::new(HEADERS).await;
    for _ in 0..3 {
        assert_eq!(it.allowed(&it.token).await, of(1));
    }
    assert_eq!(it.server.asked("auth/approle/login"), 1);
    assert_eq!(it.server.asked("database/creds/reader"), 1);
    it.plane.end().await;
    let expected = ["database/creds/reader/1", "auth/token/revoke-self"];
    assert_eq!(it.server.revoked(2).await, expected);
}

#[tokio::test]
async fn a_cut_sponsors_leases_are_revoked_at_the_server_and_nobody_elses() {
    let it = Fixture::new(&format!("leases = \"instance\"\n{HEADERS}")).await;
    let other = it.plane.register("other", json!({"sponsor": "otto"})).await;
    let unharmed = other.token("files").await;
    let (one, two) = (it.allowed(&it.token).await, it.allowed(&unharmed).await);
    assert_ne!(one, two);
    assert_eq!(it.allowed(&it.token).await, one);
    let mine = one[0].strip_prefix("reader-").unwrap();
    it.plane.command("/v1/sponsors/maya/suspend").await;
    let expected = [format!("database/creds/reader/{mine}")];
    assert_eq!(it.server.revoked(1).await, expected);
    let cuts = it.plane.admin("GET", "/v1/cuts", None).await.json();
    let cut = cuts.as_array().unwrap().last().unwrap()["record"].clone();
    let index = cut.as_str().unwrap().strip_prefix("control/").unwrap();
    let answer = it
        .plane
        .admin("GET", &format!("/v1/cuts/{index}"), None)
        .await;
    let credentials = answer.json()["certificate"]["credentials"].clone();
    assert_eq!(credentials.as_array().unwrap().len(), 1, "{credentials}");
    assert_eq!(credentials[0]["result"], "revoked");
    assert_eq!(credentials[0]["instance"], it.token.instance.as_str());
    assert_eq!(it.allowed(&unharmed).await, two);
    assert_eq!(it.server.revoked(1).await, expected);
    it.plane.end().await;
}

#[tokio::test]
async fn a_child_has_a_lease_of_its_instance_in_its_environment() {
    let server = Documented::start().await;
    let folder = tempfile::tempdir().unwrap();
    let table = server.config(&folder.path().join("secret-id"));
    let script = folder.path().join("server.py");
    std::fs::write(&script, SERVER).unwrap();
    let plane = Plane::with(|setup| {
        setup.tail = format!(
            "[upstream.desk]\ncommand = [\"python3\", {script:?}]\nleases = \"instance\"\n\
             env = {{ KEY = \"openbao:main/database/creds/reader#password\" }}\n{table}"
        );
    })
    .await;
    let policies = format!(
        "{}\npermit (principal, action in Action::\"desk\", resource);\n",
        testkit::plane::POLICIES
    );
    plane.refresh("desk").await.unwrap();
    plane.activate(&policies).await.unwrap();
    let token = plane.agent("triage").await.token("desk").await;
    let reply = Client::new(&token, ERAS[0]).await.call("who", "{}").await;
    assert_eq!(reply.effect(), "allow", "{}", reply.json);
    // It says its key, and the agent does not see that.
    assert!(reply.said().contains(broker::MASK), "{}", reply.json);
    plane.command("/v1/agents/triage/suspend").await;
    let revoked = server.revoked(1).await;
    assert!(
        revoked[0].starts_with("database/creds/reader/"),
        "{revoked:?}"
    );
    plane.end().await;
}

#[tokio::test]
async fn a_server_that_gives_nothing_has_nothing_sent_and_the_agent_learns_no_more() {
    let it = Fixture::new("headers = { X-Key = \"openbao:main/secret/data/desk#key\" }\n").await;
    let client = Client::new(&it.token, ERAS[0]).await;
    let calls = it.plane.files().calls();
    it.server.answers(Some(StatusCode::SERVICE_UNAVAILABLE));
    // What was stored is used for a minute.
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    assert_eq!(it.plane.files().calls(), calls + 1);
    it.plane.end().await;
    for status in [503, 403, 404, 429, 307, 500, 200] {
        let server = Documented::start().await;
        server.answers(Some(StatusCode::from_u16(status).unwrap()));
        let upstream = Upstream::start(Speaks::Both).await;
        let folder = tempfile::tempdir().unwrap();
        let table = server.config(&folder.path().join("secret-id"));
        let more =
            format!("headers = {{ X-Key = \"openbao:main/secret/data/desk#key\" }}\n{table}");
        let plane = Plane::with(|setup| {
            setup.upstream("files", &upstream, &more);
            setup.ready = false;
        })
        .await;
        let error = plane.refresh("files").await.unwrap_err();
        assert!(
            error.contains("openbao:main/secret/data/desk#key"),
            "{error}"
        );
        for hidden in [TOKEN, STORED, SECRET_ID] {
            assert!(!error.contains(hidden), "{error}");
        }
        assert_eq!(plane.files().seen().len(), 0, "nothing was sent");
        assert_eq!(server.asked("elsewhere"), 0, "no redirect is followed");
        plane.end().await;
    }
}

#[tokio::test]
async fn what_comes_back_of_a_lease_is_masked() {
    let it = Fixture::new(&format!("leases = \"instance\"\n{HEADERS}")).await;
    let [_, key] = it.allowed(&it.token).await;
    let password = key.strip_prefix("Key ").unwrap();
    let said = format!(r#"{{"content":[{{"type":"text","text":"you sent {password}"}}]}}"#);
    it.plane.files().script("anything", Script::Result(said));
    let client = Client::new(&it.token, ERAS[0]).await;
    let reply = client.call("anything", ANY).await;
    assert_eq!(reply.said(), format!("you sent {}", broker::MASK));
    let outcome = it.plane.calls().outcome(reply.record().unwrap()).unwrap();
    assert_eq!(outcome.result, Came::Completed);
    it.plane.end().await;
}
