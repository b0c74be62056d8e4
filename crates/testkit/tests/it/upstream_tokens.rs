//! OAuth access tokens that the gateway has by its client credentials, for upstreams that want one.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway::record::Came;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use testkit::{Plane, Script, Speaks, Token, Upstream};

use crate::common::{ANY, Client, ERAS};

const SECRET: &str = "s3cr3t-of-the-client-77d0";

/// A token endpoint on this machine. Each token that it gives has its number in it.
#[derive(Clone)]
struct Endpoint {
    url: String,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// The end of an answer that is a token; what is answered instead.
    expires_in: u64,
    instead: Option<(StatusCode, &'static str)>,
    asked: Vec<(HeaderMap, String)>,
    elsewhere: usize,
}

/// What it gave the n-th time.
fn given(n: usize) -> String {
    format!("t0ken-of-the-endpoint-{n:03}-9c1e")
}

async fn answer(
    State(it): State<Endpoint>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let mut inner = it.inner.lock().unwrap();
    if uri != "/token" || method != Method::POST {
        inner.elsewhere += 1;
        return StatusCode::NOT_FOUND.into_response();
    }
    inner.asked.push((headers, body));
    let token = given(inner.asked.len());
    let json = [(header::CONTENT_TYPE, "application/json")];
    match inner.instead {
        Some((status, _)) if status.is_redirection() => {
            let to = format!("{}/other", it.url);
            (status, [(header::LOCATION, to)]).into_response()
        }
        Some((status, body)) => (status, json, body).into_response(),
        None => {
            let expires_in = inner.expires_in;
            let body = serde_json::json!({"access_token": token, "token_type": "bearer",
                                          "expires_in": expires_in});
            (json, body.to_string()).into_response()
        }
    }
}

impl Endpoint {
    async fn start(expires_in: u64) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Mutex::new(Inner {
            expires_in,
            instead: None,
            asked: Vec::new(),
            elsewhere: 0,
        }));
        let it = Self { url, inner };
        let app = Router::new().fallback(answer).with_state(it.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        it
    }

    fn answers(&self, instead: Option<(StatusCode, &'static str)>) {
        self.inner.lock().unwrap().instead = instead;
    }

    fn asked(&self) -> usize {
        self.inner.lock().unwrap().asked.len()
    }
}

struct Fixture {
    endpoint: Endpoint,
    plane: Plane,
    token: Token,
    folder: tempfile::TempDir,
}

impl Fixture {
    async fn new(expires_in: u64) -> Self {
        let endpoint = Endpoint::start(expires_in).await;
        let upstream = Upstream::start(Speaks::Both).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, SECRET).unwrap();
        let mut more = String::new();
        writeln!(
            more,
            "[upstream.files.oauth]\ntoken_url = \"{}/token\"\nclient_id = \"gate\"\n\
             client_secret = \"file:{}\"\nscope = \"tools\"\nresource = \"{}\"",
            endpoint.url,
            file.display(),
            upstream.url()
        )
        .unwrap();
        let plane = Plane::with(|setup| setup.upstream("files", &upstream, &more)).await;
        let token = plane.agent("triage").await.token("files").await;
        Self {
            endpoint,
            plane,
            token,
            folder,
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    fn sent(&self) -> String {
        let seen = self.plane.files().last_call();
        let all: Vec<_> = seen.headers.get_all("authorization").iter().collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn every_request_has_the_token_and_one_is_had_for_all() {
    let it = Fixture::new(3600).await;
    for era in ERAS {
        let reply = Client::new(&it.token, era)
            .await
            .call("anything", ANY)
            .await;
        assert_eq!(reply.effect(), "allow", "{}", reply.json);
    }
    assert_eq!(it.endpoint.asked(), 1);
    let expected = format!("Bearer {}", given(1));
    for seen in it.plane.files().seen() {
        assert_eq!(seen.headers["authorization"], expected, "{}", seen.method);
    }
    let (headers, form) = it.endpoint.inner.lock().unwrap().asked[0].clone();
    let basic = STANDARD.encode(format!("gate:{SECRET}"));
    assert_eq!(headers["authorization"], format!("Basic {basic}"));
    assert!(
        form.starts_with("grant_type=client_credentials&scope=tools&resource=http%3A%2F%2F"),
        "{form}"
    );
    it.plane.end().await;
}

#[tokio::test]
async fn a_token_that_expired_is_replaced() {
    let it = Fixture::new(0).await;
    let client = Client::new(&it.token, ERAS[0]).await;
    for _ in 0..2 {
        assert_eq!(client.call("anything", ANY).await.effect(), "allow");
        assert_eq!(it.sent(), format!("Bearer {}", given(it.endpoint.asked())));
    }
    assert!(it.endpoint.asked() >= 3, "one for each request");
    it.plane.end().await;
}

#[tokio::test]
async fn a_refused_token_and_a_changed_secret_are_replaced_for_the_next_call() {
    let it = Fixture::new(3600).await;
    let client = Client::new(&it.token, ERAS[0]).await;
    std::fs::write(it.file(), "another-secret-of-the-client").unwrap();
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    assert_eq!(it.endpoint.asked(), 2, "a changed secret is used at once");
    assert_eq!(it.sent(), format!("Bearer {}", given(2)));
    let calls = it.plane.files().calls();
    let refusal = Script::Http(
        401,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"revoked"}}"#,
    );
    it.plane.files().script("anything", refusal);
    assert!(client.call("anything", ANY).await.is_error());
    assert_eq!(it.plane.files().calls(), calls + 1, "it is not sent again");
    assert_eq!(it.endpoint.asked(), 2);
    let said = format!(
        r#"{{"content":[{{"type":"text","text":"{} {}"}}]}}"#,
        given(1),
        given(3)
    );
    it.plane.files().script("anything", Script::Result(said));
    let reply = client.call("anything", ANY).await;
    assert_eq!(reply.effect(), "allow", "{}", reply.json);
    assert_eq!(it.sent(), format!("Bearer {}", given(3)));
    assert_eq!(it.endpoint.asked(), 3);
    let basic = STANDARD.encode("gate:another-secret-of-the-client");
    let (headers, _) = it.endpoint.inner.lock().unwrap().asked[1].clone();
    assert_eq!(headers["authorization"], format!("Basic {basic}"));
    // Both are masked, the one that is not in use any more too.
    let masked = format!("{0} {0}", broker::MASK);
    assert_eq!(reply.said(), masked, "{}", reply.json);
    it.plane.end().await;
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_agent_learns_no_more() {
    let it = Fixture::new(0).await;
    let client = Client::new(&it.token, ERAS[0]).await;
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    let calls = it.plane.files().calls();
    let failures = [
        (StatusCode::UNAUTHORIZED, r#"{"error":"invalid_client"}"#),
        (StatusCode::SERVICE_UNAVAILABLE, "{}"),
        (StatusCode::TEMPORARY_REDIRECT, ""),
        (StatusCode::OK, "garbage"),
        (
            StatusCode::OK,
            r#"{"access_token":"x","token_type":"DPoP"}"#,
        ),
        (
            StatusCode::OK,
            r#"{"access_token":"x\r\nX-Admin: 1","token_type":"Bearer"}"#,
        ),
    ];
    for failure in failures {
        it.endpoint.answers(Some(failure));
        let reply = client.call("anything", ANY).await;
        assert!(reply.is_error(), "{failure:?}: {}", reply.json);
        let told = reply.json.to_string();
        assert!(told.contains("nothing was sent"), "{told}");
        for hidden in ["oauth", "invalid_client", "/token", "DPoP", "s3cr3t"] {
            assert!(!told.contains(hidden), "{told}");
        }
        let outcome = it.plane.calls().outcome(reply.record().unwrap()).unwrap();
        assert_eq!(outcome.result, Came::NotSent, "{failure:?}");
    }
    std::fs::remove_file(it.file()).unwrap();
    it.endpoint.answers(None);
    assert!(client.call("anything", ANY).await.is_error());
    assert_eq!(it.plane.files().calls(), calls, "nothing was sent");
    let elsewhere = it.endpoint.inner.lock().unwrap().elsewhere;
    assert_eq!(elsewhere, 0, "no redirect is followed");
    std::fs::write(it.file(), SECRET).unwrap();
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    it.plane.end().await;
}
