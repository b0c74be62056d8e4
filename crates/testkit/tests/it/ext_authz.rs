//! Proxies that ask over gRPC `ext_authz`, spoken to byte for byte: what is let through, and that
//! all else is denied.

use std::net::SocketAddr;

use bytes::Bytes;
use gateway::record::Over;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ledger::Kind;
use serde_json::{Value, json};
use testkit::{Ask, Plane, Token, within};
use tokio::net::TcpStream;
use vocab::Digest;

use crate::approvals;
use crate::common::PUBLIC;

fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let part = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        if value == 0 {
            out.push(part);
            return out;
        }
        out.push(part | 0x80);
    }
}

fn field(number: usize, value: &[u8]) -> Vec<u8> {
    [&varint(number << 3 | 2), &varint(value.len()), value].concat()
}

fn pair(name: &str, value: &str) -> Vec<u8> {
    [field(1, name.as_bytes()), field(2, value.as_bytes())].concat()
}

/// A request as a proxy describes it.
#[derive(Debug, Clone)]
struct Described {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Field 11 is text, 12 bytes.
    body_field: usize,
    service: Option<&'static str>,
    /// Fields of the request beside those, as they stand in it.
    beside: Vec<u8>,
}

impl Described {
    /// A good request to `files`, as its client sends it.
    fn of(ask: &Ask, body: &str) -> Self {
        let head = ask.head();
        let headers = head.lines().skip(1).filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_ascii_lowercase(), value.to_owned()))
        });
        let headers = headers
            .chain([(":path".to_owned(), "/mcp/files".to_owned())])
            .collect();
        Self {
            method: "POST",
            path: "/mcp/files".to_owned(),
            headers,
            body: body.into(),
            body_field: 11,
            service: None,
            beside: Vec::new(),
        }
        .with("content-length", &body.len().to_string())
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    fn encode(&self) -> Vec<u8> {
        let mut http = field(2, self.method.as_bytes());
        for (name, value) in &self.headers {
            http.extend(field(3, &pair(name, value)));
        }
        http.extend(field(4, self.path.as_bytes()));
        http.extend(field(self.body_field, &self.body));
        http.extend(&self.beside);
        let mut attributes = field(4, &field(2, &http));
        if let Some(service) = self.service {
            attributes.extend(field(10, &pair("service", service)));
        }
        field(1, &attributes)
    }
}

/// What came back: nothing, or the answer for the client.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Let through, without these headers.
    Through(Vec<String>),
    Denied(u16, String),
}

/// The fields of a message: a number's value, or bytes.
fn fields(mut bytes: &[u8]) -> Vec<(usize, Vec<u8>, usize)> {
    let mut out = Vec::new();
    let number = |bytes: &mut &[u8]| {
        let mut value = 0_usize;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    };
    while !bytes.is_empty() {
        let tag = number(&mut bytes);
        let value = number(&mut bytes);
        if tag & 7 == 2 {
            out.push((tag >> 3, bytes[..value].to_vec(), 0));
            bytes = &bytes[value..];
        } else {
            out.push((tag >> 3, Vec::new(), value));
        }
    }
    out
}

fn one(bytes: &[u8], number: usize) -> Vec<u8> {
    let found = fields(bytes).into_iter().find(|it| it.0 == number);
    found.map(|it| it.1).unwrap_or_default()
}

fn read(message: &[u8]) -> Answer {
    let code = fields(&one(message, 1)).first().map_or(0, |it| it.2);
    if code == 0 {
        let removed = fields(&one(message, 3)).into_iter();
        let removed = removed.filter(|it| it.0 == 5);
        return Answer::Through(removed.map(|it| String::from_utf8(it.1).unwrap()).collect());
    }
    assert_eq!(code, 7, "PERMISSION_DENIED");
    let denied = one(message, 2);
    let status = fields(&one(&denied, 1))[0].2;
    let body = String::from_utf8(one(&denied, 3)).unwrap();
    Answer::Denied(u16::try_from(status).unwrap(), body)
}

/// A proxy on a connection of its own.
struct Proxy {
    address: SocketAddr,
    token: String,
}

impl Proxy {
    async fn add(plane: &Plane, id: &str, serves: &[&str]) -> Self {
        let token = format!("tsp_{id}");
        let body = json!({
            "id": id, "serves": serves, "token": Digest::of(token.as_bytes()),
        });
        let added = plane.admin("POST", "/v1/peps", Some(body)).await;
        assert_eq!(added.status, 200, "{}", added.text());
        Self {
            address: plane.node().ext_authz.expect("it listens"),
            token,
        }
    }

    /// Sends bytes as a call, and gives what came back with its gRPC status.
    async fn call(&self, path: &str, framed: Vec<u8>) -> (String, Vec<u8>) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        let running = tokio::spawn(connection);
        let request = http::Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::new(Bytes::from(framed)))
            .unwrap();
        let answer = within("an answer over gRPC", sender.send_request(request)).await;
        let (parts, body) = answer.unwrap().into_parts();
        assert_eq!(parts.status, 200);
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let status = trailers
            .get("grpc-status")
            .or(parts.headers.get("grpc-status"));
        let status = status.expect("a status").to_str().unwrap().to_owned();
        let bytes = body.to_bytes().to_vec();
        drop(sender);
        running.abort();
        (status, bytes)
    }

    async fn check(&self, described: &Described) -> Answer {
        self.message(&described.encode()).await
    }

    async fn message(&self, message: &[u8]) -> Answer {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let framed = [&[0], &length[..], message].concat();
        let path = "/envoy.service.auth.v3.Authorization/Check";
        let (status, answer) = self.call(path, framed).await;
        assert_eq!(status, "0");
        assert_eq!(answer[0], 0);
        read(&answer[5..])
    }

    async fn denied(&self, described: &Described, expected: u16) -> String {
        match self.check(described).await {
            Answer::Denied(status, body) => {
                assert_eq!(status, expected, "{body}");
                body
            }
            Answer::Through(_) => panic!("let through: {described:?}"),
        }
    }
}

async fn plane() -> Plane {
    Plane::with(|setup| {
        setup.top = "[ext_authz]\nlisten = \"127.0.0.1:0\"\n".to_owned();
        setup.limits = "same_denials = 0".to_owned();
    })
    .await
}

/// A tool call as a modern client sends it.
fn modern(token: &Token, args: &str) -> Described {
    let body = testkit::Modern::text(
        "tools/call",
        &format!(r#""name":"read_text_file","arguments":{args}"#),
    );
    let ask = token.modern().ask_call("read_text_file", args);
    Described::of(&ask, &body)
}

fn through() -> Answer {
    Answer::Through(vec!["authorization".to_owned(), "dpop".to_owned()])
}

const SECRET: &str = r#"{"path":"/secret/a.txt"}"#;

#[tokio::test]
async fn what_people_approved_is_let_through_once() {
    let plane = approvals::office("").await;
    let token = plane.agent("triage").await.token("files").await;
    let proxy = Proxy::add(&plane, "edge", &["files"]).await;
    let args = approvals::REFUND;
    let refund = || {
        let params = format!(r#""name":"refund","arguments":{args}"#);
        let ask = token.modern().ask_call("refund", args);
        Described::of(&ask, &testkit::Modern::text("tools/call", &params))
    };
    let held = async || {
        let body = proxy.denied(&refund(), 200).await;
        let told: Value = serde_json::from_str(&body).unwrap();
        let decision = &told["result"]["_meta"]["dev.tipstaff/decision"];
        assert_eq!(decision["effect"], "hold", "{told}");
        decision["approval"]["id"].as_str().unwrap().to_owned()
    };
    let id = held().await;
    let first = approvals::asked(&plane);
    assert_eq!(id, first.id.as_str());
    assert_eq!(held().await, id);
    approvals::answers(&plane, "noor", true).await;
    assert_eq!(proxy.check(&refund()).await, through());
    let decision = u64::try_from(plane.calls().calls.len()).unwrap() - 1;
    let body = plane.calls().decision(decision);
    assert_eq!(body.approval, Some(first.asked));
    assert_ne!(held().await, id);
    assert_eq!(plane.files().calls(), 0);
    plane.end().await;
}

#[tokio::test]
async fn a_request_is_let_through_once_its_permit_is_on_record() {
    let plane = plane().await;
    let agent = plane.agent("triage").await;
    let proxy = Proxy::add(&plane, "edge", &["files"]).await;
    for token in [agent.token("files").await, agent.bearer("files").await] {
        let before = plane.calls().of(Kind::Decision).len();
        assert_eq!(proxy.check(&modern(&token, PUBLIC)).await, through());
        let body = proxy.denied(&modern(&token, SECRET), 200).await;
        let told: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(told["id"], 7);
        assert_eq!(told["result"]["isError"], true);
        let decision = &told["result"]["_meta"]["dev.tipstaff/decision"];
        assert_eq!(decision["effect"], "deny");
        let index = decision["record"]["index"].as_u64().unwrap();
        let decided = plane.calls().of(Kind::Decision).len();
        assert_eq!(decided, before + 2);
        let body = plane.calls().decision(index);
        let asked = body.asked.unwrap();
        assert_eq!((asked.by.as_str(), asked.over), ("edge", Over::ExtAuthz));
        assert_eq!(body.proven, token.key().is_some());
        // What asks nothing needs no decision.
        let text = testkit::Modern::text("tools/list", "");
        let list = token.modern().ask("tools/list", None, "");
        assert_eq!(proxy.check(&Described::of(&list, &text)).await, through());
        assert_eq!(plane.calls().of(Kind::Decision).len(), decided);
    }
    assert_eq!(plane.files().calls(), 0);
    let token = agent.bearer("files").await;
    let legacy = Described::of(
        &token.ask("POST").json("{}"),
        &testkit::Legacy::text(
            "tools/call",
            &format!(r#""name":"read_text_file","arguments":{PUBLIC}"#),
        ),
    );
    assert_eq!(proxy.check(&legacy).await, through());
    for method in ["GET", "DELETE"] {
        let mut stream = Described::of(&token.ask(method), "");
        (stream.method, stream.body) = (method, Vec::new());
        assert_eq!(
            proxy.check(&stream.without("content-length")).await,
            through()
        );
    }
    // As bytes too.
    let mut raw = modern(&token, PUBLIC);
    raw.body_field = 12;
    assert_eq!(proxy.check(&raw).await, through());
    plane.end().await;
}

#[tokio::test]
async fn a_credential_for_one_call_lets_one_through() {
    let plane = plane().await;
    let agent = plane.agent("triage").await;
    let root = agent.token("files").await;
    let proxy = Proxy::add(&plane, "edge", &["files"]).await;
    let once = agent.once(&root, "read_text_file", PUBLIC).await;
    // The same arguments in other bytes are others.
    proxy
        .denied(&modern(&once, r#"{"path": "/public/a.txt"}"#), 200)
        .await;
    let (one, two) = (modern(&once, PUBLIC), modern(&once, PUBLIC));
    let (one, two) = tokio::join!(proxy.check(&one), proxy.check(&two));
    let through = [one, two].iter().filter(|it| **it == through()).count();
    assert_eq!(through, 1);
    plane.end().await;
}

#[tokio::test]
async fn what_was_not_wholly_seen_is_denied() {
    let plane = plane().await;
    let token = plane.agent("triage").await.bearer("files").await;
    let proxy = Proxy::add(&plane, "edge", &["files"]).await;
    let good = modern(&token, PUBLIC);
    let none = Described {
        body: Vec::new(),
        ..good.clone()
    };
    let refused = proxy.denied(&none, 403).await;
    assert!(refused.contains("with_request_body"), "{refused}");
    for partial in ["true", "True", "", "1"] {
        let part = good.clone().with("x-envoy-auth-partial-body", partial);
        proxy.denied(&part, 413).await;
    }
    let whole = good.clone().with("x-envoy-auth-partial-body", "false");
    assert_eq!(proxy.check(&whole).await, through());
    for length in ["1", "99999", "x", "", "-1"] {
        proxy
            .denied(&good.clone().with("content-length", length), 400)
            .await;
    }
    // HTTP/2 clients do not say how long it is.
    assert_eq!(
        proxy.check(&good.clone().without("content-length")).await,
        through()
    );
    // Part of a body that happens to be JSON too.
    let cut = Described {
        body: b"{}".to_vec(),
        ..good.clone()
    };
    proxy.denied(&cut.without("content-length"), 400).await;
    let encoded = good.clone().with("content-encoding", "gzip");
    proxy.denied(&encoded, 415).await;
    assert_eq!(plane.calls().of(Kind::Decision).len(), 2);
    plane.end().await;
}

/// What the proxy says of the request beside its parts is held against them.
#[tokio::test]
async fn facts_that_contradict_the_request_are_denied() {
    let plane = plane().await;
    let token = plane.agent("triage").await.bearer("files").await;
    let proxy = Proxy::add(&plane, "edge", &["files"]).await;
    let good = modern(&token, PUBLIC);
    let size = |size: usize| [varint(9 << 3), varint(size)].concat();
    let beside = |described: &Described, beside: Vec<u8>| Described {
        beside,
        ..described.clone()
    };
    let mut stream = Described::of(&token.ask("GET"), "").without("content-length");
    (stream.method, stream.body) = ("GET", Vec::new());
    for (facts, text) in [(field(7, b"x=1"), "query"), (field(8, b"part"), "fragment")] {
        for described in [&good, &stream] {
            let refused = proxy.denied(&beside(described, facts.clone()), 400).await;
            assert!(refused.contains(text), "{refused}");
        }
    }
    let long = good.body.len();
    for wrong in [1, long - 1, long + 1, 1 << 40] {
        let refused = proxy.denied(&beside(&good, size(wrong)), 400).await;
        assert!(refused.contains("as long as the proxy says"), "{refused}");
    }
    proxy.denied(&beside(&stream, size(2)), 405).await;
    let unknown = [vec![9 << 3], vec![0xff; 9], vec![1]].concat();
    for right in [size(long), size(0), unknown, field(7, b"")] {
        let answer = proxy.check(&beside(&good, right)).await;
        assert_eq!(answer, through());
    }
    plane.end().await;
}

#[tokio::test]
async fn headers_that_say_something_else_than_the_body_are_denied() {
    let plane = plane().await;
    let token = plane.agent("triage").await.bearer("files").await;
    let proxy = Proxy::add(&plane, "edge", &["files"]).await;
    let good = modern(&token, PUBLIC);
    for (name, value) in [
        ("mcp-method", "tools/list"),
        ("mcp-method", "tools/call,tools/list"),
        ("mcp-name", "anything"),
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-protocol-version", "2026-07-28,2025-11-25"),
    ] {
        proxy.denied(&good.clone().with(name, value), 400).await;
    }
    for name in ["mcp-method", "mcp-name", "mcp-protocol-version"] {
        proxy.denied(&good.clone().without(name), 400).await;
    }
    // A message of a session, which a server of both eras could read by its headers.
    let legacy = Described::of(
        &token.ask("POST").json("{}"),
        &testkit::Legacy::text("ping", ""),
    );
    assert_eq!(proxy.check(&legacy).await, through());
    for (name, value) in [
        ("mcp-method", "tools/call"),
        ("mcp-name", "anything"),
        ("mcp-param-path", "/x"),
        ("mcp-method", "ping"),
    ] {
        proxy.denied(&legacy.clone().with(name, value), 400).await;
    }
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"words"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"x/y"}"#,
    ] {
        let ask = token.ask("POST").json("{}");
        match proxy.check(&Described::of(&ask, body)).await {
            Answer::Denied(..) => {}
            Answer::Through(_) => panic!("let through: {body}"),
        }
    }
    assert_eq!(plane.calls().of(Kind::Decision).len(), 0);
    plane.end().await;
}

#[tokio::test]
async fn who_asks_and_who_is_asked_about_are_both_proven() {
    let plane = plane().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let proxy = Proxy::add(&plane, "edge", &["files"]).await;
    // The agent.
    let good = modern(&token, PUBLIC);
    assert_eq!(proxy.check(&good).await, through());
    proxy.denied(&good, 401).await;
    let stolen = modern(&token, PUBLIC).without("dpop");
    proxy.denied(&stolen, 401).await;
    proxy
        .denied(&modern(&token, PUBLIC).without("authorization"), 401)
        .await;
    let other = modern(&token, PUBLIC).with("authorization", "Bearer x");
    proxy.denied(&other, 401).await;
    // A token is good for one path, with nothing beside it.
    for path in [
        "/mcp/files?admin=1",
        "/mcp/files/",
        "/mcp/Files",
        "/admin",
        "",
        "/",
    ] {
        let mut elsewhere = modern(&token, PUBLIC);
        path.clone_into(&mut elsewhere.path);
        proxy.denied(&elsewhere, 404).await;
    }
    for method in ["PUT", "OPTIONS", "CONNECT", "post", ""] {
        let mut other = modern(&agent.bearer("files").await, PUBLIC);
        other.method = method;
        proxy.denied(&other, 405).await;
    }
    let mut body = modern(&agent.bearer("files").await, PUBLIC);
    body.method = "GET";
    proxy.denied(&body, 405).await;
    // The proxy.
    for token in ["tsp_edgf", ""] {
        let stranger = Proxy {
            address: proxy.address,
            token: token.to_owned(),
        };
        let good = modern(&agent.bearer("files").await, PUBLIC);
        stranger.denied(&good, 403).await;
    }
    let named = Described {
        service: Some("other"),
        ..modern(&token, PUBLIC)
    };
    proxy.denied(&named, 403).await;
    // Everybody in the chain.
    plane.command("/v1/sponsors/maya/suspend").await;
    proxy.denied(&modern(&token, PUBLIC), 401).await;
    plane.command("/v1/sponsors/maya/resume").await;
    assert_eq!(proxy.check(&modern(&token, PUBLIC)).await, through());
    plane.command("/v1/peps/edge/remove").await;
    proxy.denied(&modern(&token, PUBLIC), 403).await;
    plane.end().await;
}

#[tokio::test]
async fn what_is_no_question_is_denied_too() {
    let plane = plane().await;
    let proxy = Proxy::add(&plane, "edge", &["files"]).await;
    for message in [
        &b""[..],
        b"\x0a\x00",
        b"\x0b",
        b"\xff\xff\xff",
        &[0x0a; 100],
    ] {
        match proxy.message(message).await {
            Answer::Denied(..) => {}
            Answer::Through(_) => panic!("let through: {message:?}"),
        }
    }
    let path = "/envoy.service.auth.v3.Authorization/Check";
    for (path, framed, status) in [
        (path, Vec::new(), "3"),
        (path, vec![0, 0, 0, 0, 9, 1], "3"),
        (path, vec![1, 0, 0, 0, 0], "12"),
        (path, vec![0; vocab::limits::BODY_BYTES_MAX + 300_000], "8"),
        (
            "/envoy.service.auth.v3.Authorization/Other",
            vec![0; 5],
            "12",
        ),
    ] {
        assert_eq!(
            proxy.call(path, framed).await,
            (status.to_owned(), Vec::new())
        );
    }
    // A log that takes no entry lets nothing through.
    let token = plane.agent("triage").await.bearer("files").await;
    plane.faults.set(store::Fault::Full);
    proxy.denied(&modern(&token, PUBLIC), 200).await;
    plane.end().await;
}

/// The proxy sends all that it got, so all of it is looked into, shown and approved.
#[tokio::test]
async fn what_passes_beside_the_arguments_is_seen_and_approved_too() {
    let plane = Plane::with(|setup| {
        setup.top = "[ext_authz]\nlisten = \"127.0.0.1:0\"\n".to_owned();
        setup.policies = r#"
            @id("refunds") @approval("noor") @reason("For people.")
            permit (principal, action == Action::"files/refund", resource)
            when { context has approval };
            @id("no-secrets") @reason("No secrets.")
            forbid (principal, action, resource)
            when { context.findings.contains("secret") };"#
            .to_owned();
    })
    .await;
    let noor = json!({"id": "noor", "name": "noor", "email": "noor@example.com"});
    let added = plane.admin("POST", "/v1/sponsors", Some(noor)).await;
    assert_eq!(added.status, 200, "{}", added.text());
    let token = plane.agent("triage").await.bearer("files").await;
    let proxy = Proxy::add(&plane, "edge", &["files"]).await;
    let args = r#"{"order":"A-1","amount":50}"#;
    let decision = async |meta: &str| {
        let params = format!(r#""name":"refund","arguments":{args}"#);
        let body = testkit::Modern::text("tools/call", &params)
            .replace(r#""_meta":{"#, &format!(r#""_meta":{{{meta},"#));
        let ask = token.modern().ask_call("refund", args);
        let told = proxy.denied(&Described::of(&ask, &body), 200).await;
        let told: Value = serde_json::from_str(&told).unwrap();
        told["result"]["_meta"]["dev.tipstaff/decision"].clone()
    };
    let held = async |meta: &str| {
        let told = decision(meta).await;
        let id = told["approval"]["id"].as_str();
        id.unwrap_or_else(|| panic!("{told}")).to_owned()
    };
    let first = r#""com.example/account":"A-1","progressToken":1"#;
    let id = held(first).await;
    let shown = plane.gateway().control().view(|state| {
        let asked = state.approvals().last().unwrap();
        asked.request.known().unwrap().shown.clone()
    });
    assert!(shown.contains(r#""com.example/account": "A-1""#), "{shown}");
    let made_by = "\nMade by: the enforcement point edge, which asks over ext-authz: this node";
    assert!(shown.contains(made_by), "{shown}");
    assert_eq!(held(first).await, id);
    assert_eq!(
        held(r#""progressToken":2,"com.example/account":"A-1""#).await,
        id
    );
    for other in [
        r#""com.example/account":"A-2""#,
        // Nobody takes it off on this way.
        r#""com.example/account":"A-1","dev.tipstaff/x":1"#,
    ] {
        assert_ne!(held(other).await, id, "{other}");
    }
    let key = concat!("AKIA", "Q3EGRIQ7TKLMWZ2B");
    let denied = decision(&format!(r#""com.example/note":"{key}""#)).await;
    assert_eq!(
        (&denied["effect"], &denied["reason"]),
        (&json!("deny"), &json!("No secrets."))
    );
    plane.end().await;
}

/// The asker's word that it made the call is all there is, and the gateway's call is another.
#[tokio::test]
async fn an_approval_is_for_the_door_that_asked() {
    let plane = Plane::with(|setup| {
        setup.top = "[ext_authz]\nlisten = \"127.0.0.1:0\"\n".to_owned();
        setup.policies = r#"
            @id("refunds") @approval("noor") @reason("For people.")
            permit (principal, action == Action::"files/refund", resource)
            when { context has approval };"#
            .to_owned();
    })
    .await;
    let noor = json!({"id": "noor", "name": "noor", "email": "noor@example.com"});
    let added = plane.admin("POST", "/v1/sponsors", Some(noor)).await;
    assert_eq!(added.status, 200, "{}", added.text());
    let token = plane.agent("triage").await.bearer("files").await;
    let args = r#"{"order":"A-1","amount":50}"#;
    let params = format!(r#""name":"refund","arguments":{args}"#);
    let body = testkit::Modern::text("tools/call", &params);
    let ask = token.modern().ask_call("refund", args);
    let described = Described::of(&ask, &body);
    let mut ids = std::collections::BTreeSet::new();
    for pep in ["edge", "inner"] {
        let proxy = Proxy::add(&plane, pep, &["files"]).await;
        for _ in 0..2 {
            let told = proxy.denied(&described, 200).await;
            let told: Value = serde_json::from_str(&told).unwrap();
            let decision = &told["result"]["_meta"]["dev.tipstaff/decision"];
            ids.insert(decision["approval"]["id"].to_string());
        }
    }
    let here = token.modern().call("refund", args).await;
    ids.insert(here.decision()["approval"]["id"].to_string());
    assert_eq!(ids.len(), 3, "{ids:?}");
    plane.end().await;
}

#[tokio::test]
async fn what_policy_sends_elsewhere_is_not_let_through() {
    let plane = Plane::with(|setup| {
        setup.top = "[ext_authz]\nlisten = \"127.0.0.1:0\"\n".to_owned();
        setup.policies = r#"@id("try") @route("sandbox")
            permit (principal, action in Action::"files", resource);"#
            .to_owned();
    })
    .await;
    let token = plane.agent("triage").await.token("files").await;
    let proxy = Proxy::add(&plane, "edge", &["files"]).await;
    let told = proxy.denied(&modern(&token, PUBLIC), 200).await;
    assert!(told.contains("through the gateway"), "{told}");
    plane.end().await;
}
