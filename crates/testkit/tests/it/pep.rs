//! `tipstaff-pep`, as a Rust service uses it: against a running node, against none, and against one
//! that says anything but a clean yes.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::{Extension, Router};
use http::request::Parts;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use ledger::Kind;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use testkit::{Plane, within};
use tipstaff_pep::{Pep, PepLayer, Permitted, Question, SetupError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use vocab::Digest;

const TOKEN: &str = "tsp_records";
const BASE: &str = "https://records.acme.example/api";
const POLICIES: &str = r#"
@id("reads") permit (principal in Agent::"triage", action == Action::"records/read", resource)
when { context.args.resource.id like "public-*" };
@id("archived") @reason("Archived records stay as they are.")
forbid (principal, action == Action::"records/write", resource)
when { context.args.resource has properties && context.args.resource.properties.status == "archived" };
@id("writes") permit (principal in Agent::"triage", action == Action::"records/write", resource);
"#;

fn asks(request: &Parts) -> Option<Question> {
    let id = request.uri.path().strip_prefix("/records/")?;
    match request.method.as_str() {
        "GET" => Some(Question::new("records/read", "record", id)),
        "PUT" => {
            let status = request.uri.query().unwrap_or("active");
            let question = Question::new("records/write", "record", id);
            Some(question.property("status", status))
        }
        _ => None,
    }
}

/// A service behind the layer, and how often it was reached.
fn service(pep: Pep) -> (Router, Arc<AtomicUsize>) {
    let reached = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    let handler = move |Extension(permitted): Extension<Permitted>| async move {
        count.fetch_add(1, Ordering::SeqCst);
        permitted.record.unwrap_or_default()
    };
    let app = Router::new().fallback(handler);
    (app.layer(PepLayer::new(pep, asks)), reached)
}

async fn send(app: &Router, request: Request<Body>) -> (StatusCode, Value, String) {
    use tower::Service as _;
    let answer = within("the service", app.clone().call(request))
        .await
        .unwrap();
    let (parts, body) = answer.into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let json = serde_json::from_str(&text).unwrap_or_default();
    (parts.status, json, text)
}

fn request(method: &str, path: &str, credentials: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in credentials {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

fn actions() -> NamedTempFile {
    let record = json!({
        "type": "object", "required": ["type", "id"],
        "properties": {
            "type": {"const": "record"}, "id": {"type": "string"},
            "properties": {
                "type": "object", "required": ["status"],
                "properties": {"status": {"type": "string"}},
            },
        },
    });
    let schema = json!({
        "type": "object", "required": ["resource"],
        "properties": {"resource": record, "context": {"type": "object"}},
    });
    let all = ["read", "write"].map(|name| json!({"name": name, "inputSchema": schema}));
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(json!(all).to_string().as_bytes()).unwrap();
    file
}

async fn plane(actions: &NamedTempFile) -> (Plane, Pep) {
    let plane = Plane::with(|setup| {
        setup.policies = POLICIES.to_owned();
        setup.tail = format!(
            "[service.records]\nactions = {:?}\nurl = {BASE:?}\n",
            actions.path()
        );
        setup.top = "allowed_hosts = []\n".to_owned();
    })
    .await;
    plane.refresh("records").await.unwrap();
    let body = json!({
        "id": "records-server", "serves": ["records"], "token": Digest::of(TOKEN.as_bytes()),
    });
    let added = plane.admin("POST", "/v1/peps", Some(body)).await;
    assert_eq!(added.status, 200, "{}", added.text());
    let pep = Pep::new(&format!("http://{}", plane.node().address), TOKEN, BASE).unwrap();
    (plane, pep)
}

#[tokio::test]
async fn a_service_does_what_is_permitted_and_says_why_it_does_nothing_else() {
    let actions = actions();
    let (mut plane, pep) = plane(&actions).await;
    let (app, reached) = service(pep);
    let agent = plane.agent("triage").await;
    let token = agent.token("records").await;
    let bearer = format!("Bearer {}", agent.bearer("records").await.text);
    let by_bearer: &[(&str, &str)] = &[("authorization", &bearer)];

    let (status, _, record) = send(&app, request("GET", "/records/public-1", by_bearer)).await;
    assert_eq!(status, 200, "{record}");
    let index = plane.calls().last(Kind::Decision).index;
    assert_eq!(record, format!("calls/{index}"));
    for (method, path, expected, why) in [
        ("GET", "/records/secret-1", 403, "No policy permits"),
        (
            "PUT",
            "/records/secret-1?archived",
            403,
            "Archived records stay as they are.",
        ),
        (
            "DELETE",
            "/records/public-1",
            403,
            "nothing is permitted here",
        ),
        ("GET", "/other", 403, "nothing is permitted here"),
    ] {
        let (status, told, text) = send(&app, request(method, path, by_bearer)).await;
        assert_eq!(status, expected, "{method} {path}: {text}");
        let said = told["error"].as_str().unwrap();
        assert!(said.contains(why) || why.starts_with("No policy"), "{said}");
    }
    let (status, ..) = send(&app, request("PUT", "/records/secret-1", by_bearer)).await;
    assert_eq!(status, 200);
    //= https://openid.net/specs/authorization-api-1_0.html#section-5.5
    //= type=test
    //# The access request is denied and MUST NOT be permitted to go forward.
    assert_eq!(reached.load(Ordering::SeqCst), 2);

    // A bound token, with a proof for the request as its sender wrote it.
    let by_proof = |uri: &str| {
        let key = token.key().unwrap();
        let proof = token.proof_by(key, "GET", uri, Some(&token.text), plane.now());
        let authorization = format!("DPoP {}", token.text);
        request(
            "GET",
            "/records/public-1",
            &[("authorization", &authorization), ("dpop", &proof)],
        )
    };
    let (status, _, text) = send(&app, by_proof(&format!("{BASE}/records/public-1"))).await;
    assert_eq!(status, 200, "{text}");
    assert!(
        plane
            .calls()
            .decision(plane.calls().last(Kind::Decision).index)
            .proven
    );
    for uri in [
        format!("{BASE}/records/public-2"),
        "https://evil.example/x".to_owned(),
    ] {
        let (status, _, text) = send(&app, by_proof(&uri)).await;
        assert_eq!(status, 401, "{text}");
    }
    for credentials in [
        &[][..],
        &[("authorization", "Bearer x")],
        &[("authorization", "Basic x")],
        &[("authorization", &*bearer), ("authorization", "Bearer x")],
        &[("authorization", "DPoP x")],
    ] {
        let (status, _, text) = send(&app, request("GET", "/records/public-1", credentials)).await;
        assert_eq!(status, 401, "{credentials:?}: {text}");
    }
    // Cut off, then gone.
    plane.command("/v1/sponsors/maya/suspend").await;
    let (status, ..) = send(&app, request("GET", "/records/public-1", by_bearer)).await;
    assert_eq!(status, 401);
    plane.command("/v1/sponsors/maya/resume").await;
    plane.command("/v1/peps/records-server/remove").await;
    let (status, _, text) = send(&app, request("GET", "/records/public-1", by_bearer)).await;
    assert_eq!(status, 503, "{text}");
    plane.stop().await.unwrap();
    let (status, _, text) = send(&app, request("GET", "/records/public-1", by_bearer)).await;
    assert_eq!(status, 503);
    assert!(
        !text.contains("refused") && !text.contains("127.0.0.1"),
        "{text}"
    );
    assert_eq!(reached.load(Ordering::SeqCst), 3);
    plane.verify();
}

/// A node that answers every connection with these bytes, and then says nothing more.
async fn liar(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = [0; 16 * 1024];
            let _read = stream.read(&mut asked).await;
            stream.write_all(answer).await.unwrap();
            open.push(stream);
        }
    });
    url
}

#[tokio::test]
async fn anything_but_a_clean_yes_is_no() {
    for (answer, expected) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{\"decision\":true}"[..], 200),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{\"decision\":false}", 403),
        (b"HTTP/1.1 201 OK\r\ncontent-length: 17\r\n\r\n{\"decision\":true}", 503),
        (b"HTTP/1.1 302 Go\r\nlocation: /\r\ncontent-length: 17\r\n\r\n{\"decision\":true}", 503),
        (b"HTTP/1.1 401 No\r\ncontent-length: 17\r\n\r\n{\"decision\":true}", 503),
        (b"HTTP/1.1 500 No\r\ncontent-length: 17\r\n\r\n{\"decision\":true}", 503),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 503),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", 503),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntrue", 503),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"decision\":1}", 503),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 19\r\n\r\n{\"decision\":\"true\"}", 503),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 34\r\n\r\n{\"decision\":false,\"decision\":true}\n", 503),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 62\r\n\r\n{\"decision\":true,\"context\":{\"error\":{\"status\":1,\"message\":\"\"}}}", 503),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"decision\":true}", 503),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n", 503),
        (b"not HTTP\r\n\r\n", 503),
        (b"", 503),
    ] {
        let pep = Pep::new(&liar(answer).await, TOKEN, BASE).unwrap();
        let pep = pep.timeout(Duration::from_millis(500));
        let (app, reached) = service(pep);
        let ask = request("GET", "/records/a", &[("authorization", "Bearer x")]);
        let (status, _, text) = send(&app, ask).await;
        let shown = String::from_utf8_lossy(answer);
        assert_eq!(status, expected, "{shown}: {text}");
        assert_eq!(reached.load(Ordering::SeqCst), usize::from(expected == 200), "{shown}");
    }
}

#[test]
fn what_cannot_ask_is_not_made() {
    for (node, token) in [
        ("ftp://node", TOKEN),
        ("node:7420", TOKEN),
        ("", TOKEN),
        ("http://node", ""),
        ("http://node", "a\nb"),
    ] {
        let made = Pep::new(node, token, BASE);
        assert!(
            matches!(made, Err(SetupError::Url(_) | SetupError::Token)),
            "{node} {token}"
        );
    }
}
