//! Hostile input on every route: a precise error, nothing upstream, and a count on record.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use mcp::Era;
use serde_json::{Value, json};
use testkit::{Agent, Ask, Legacy, Modern, Plane, Speaks, Token, Upstream};
use tokens::DpopKey;
use vocab::limits::BODY_BYTES_MAX;

use crate::common::{ANY, ERAS, code};

/// Sends it, and holds that it was refused so, for this cause, and reached nothing.
pub(crate) async fn check(
    plane: &Plane,
    name: &str,
    ask: Ask,
    status: u16,
    cause: &str,
) -> testkit::Answer {
    let count = || {
        let totals = plane.gateway().refusals().totals();
        totals
            .iter()
            .filter(|(it, ..)| *it == cause)
            .map(|(_, _, count)| *count)
            .sum::<u64>()
    };
    let (counted, reached) = (count(), plane.files().seen().len());
    let answer = ask.send().await;
    let case = format!("{name}: {} {:?}", answer.status, answer.body);
    assert_eq!(answer.status.as_u16(), status, "{case}");
    assert_eq!(
        count(),
        counted + 1,
        "{case}: {:?}",
        plane.gateway().refusals().totals()
    );
    assert_eq!(
        plane.files().seen().len(),
        reached,
        "{case} reached the upstream"
    );
    answer
}

/// Everything that was counted is on record, and nothing that was said.
pub(crate) async fn counted(plane: &Plane) {
    let ledger = plane.ledger_with_refusals().await;
    let mut causes: Vec<_> = plane.gateway().refusals().totals();
    causes.dedup_by_key(|(cause, ..)| *cause);
    for (cause, ..) in causes {
        let totals = plane.gateway().refusals().totals();
        let total: u64 = totals
            .iter()
            .filter(|(it, ..)| *it == cause)
            .map(|(_, _, n)| n)
            .sum();
        assert_eq!(ledger.refused(cause), total, "{cause}");
    }
    // Counts, not requests: strangers cannot fill the disk.
    assert!(ledger.of(ledger::Kind::Refused).len() < 64);
}

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

/// A call in which `{}` stands for the arguments.
fn call(arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"anything","arguments":{arguments},{META}}}}}"#
    )
}

fn nested(depth: usize) -> String {
    call(&format!(
        r#"{{"a":{}{}}}"#,
        "[".repeat(depth),
        "]".repeat(depth)
    ))
}

/// Bodies that are no message to be taken: the body, the code, and a word of what is said.
fn bodies() -> Vec<(Vec<u8>, i64, &'static str)> {
    let text = |text: &str, code, said| (text.as_bytes().to_vec(), code, said);
    let mut all = vec![
        text("", -32700, "ends too early"),
        text("nonsense", -32700, "expected"),
        text(
            &format!("{} x", call("{}")),
            -32700,
            "data after the document",
        ),
        text(&format!("\u{feff}{}", call("{}")), -32700, "expected"),
        text(&call("{").replace("}}", "}"), -32700, ""),
        text(&call(r#"{"a":NaN}"#), -32700, "expected"),
        text(&call(r#"{"a":01}"#), -32700, ""),
        text(&call(r#"{"a":1,}"#), -32700, ""),
        text(&call(r#"{"a":'b'}"#), -32700, ""),
        text(&call("{\"a\":\"\u{1}\"}"), -32700, "control character"),
        text(&call(r#"{"a":"\ud800"}"#), -32700, "surrogate"),
        text(&call(r#"{"a":"\x"}"#), -32700, "escape"),
        // Bombs.
        text(&nested(100), -32700, "deep"),
        text(&"[".repeat(1_000_000), -32700, ""),
        text(
            &call(&format!(r#"{{"a":[{}0]}}"#, "0,".repeat(250_000))),
            -32700,
            "",
        ),
        // What two readers read differently.
        text(&call(r#"{"a":1,"a":2}"#), -32700, "duplicate"),
        text(&call(r#"{"a":1,"\u0061":2}"#), -32700, "duplicate"),
        text(
            &call("{}").replacen("\"id\":7", "\"id\":7,\"id\":8", 1),
            -32700,
            "duplicate",
        ),
        text(
            &call("{}").replacen('{', "{\"method\":\"ping\",", 1),
            -32700,
            "duplicate",
        ),
        text(
            &call("{}").replace("\"name\":", "\"name\":\"x\",\"name\":"),
            -32700,
            "duplicate",
        ),
        text(
            &call("{}").replacen('{', "{\"Method\":\"ping\",", 1),
            -32600,
            "almost like",
        ),
        text(
            &call("{}").replacen('{', "{\"PARAMS\":{},", 1),
            -32600,
            "almost like",
        ),
        text(
            &call("{}").replacen('{', "{\"param\u{17f}\":{},", 1),
            -32600,
            "almost like",
        ),
        text(
            &call("{}").replacen('{', "{\"ID\":1,", 1),
            -32600,
            "almost like",
        ),
        // Words that nobody would decide on.
        text(
            &call("{}").replacen('{', "{\"note\":\"to the upstream\",", 1),
            -32600,
            "no member `note`",
        ),
        text(
            &call("{}").replace("\"name\":", "\"Name\":\"x\",\"name\":"),
            -32600,
            "almost like",
        ),
        text(
            &call("{}").replace("\"arguments\":", "\"Arguments\":{},\"arguments\":"),
            -32600,
            "almost like",
        ),
        text(
            &call("{}").replace("\"_meta\":", "\"_META\":{},\"_meta\":"),
            -32600,
            "almost like",
        ),
        // Not one message.
        text("[]", -32600, "batch"),
        text(&format!("[{}]", call("{}")), -32600, "batch"),
        text(&format!("[{0},{0}]", call("{}")), -32600, "batch"),
        text("7", -32600, "not an object"),
        text("{}", -32600, ""),
        text(&call("{}").replace("2.0", "1.0"), -32600, "jsonrpc"),
        text(
            &call("{}").replace(r#""jsonrpc":"2.0","#, ""),
            -32600,
            "jsonrpc",
        ),
        text(&call("{}").replace(":7,", ":null,"), -32600, "`id`"),
        text(&call("{}").replace(":7,", ":7.5,"), -32600, "`id`"),
        text(&call("{}").replace(":7,", ":{},"), -32600, "`id`"),
        text(
            &call("{}").replace("\"tools/call\"", "7"),
            -32600,
            "`method`",
        ),
        text(
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":[1]}"#,
            -32600,
            "`params`",
        ),
        text(
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":{"_meta":1}}"#,
            -32600,
            "`_meta`",
        ),
        text(
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","result":{}}"#,
            -32600,
            "at once",
        ),
        text(
            r#"{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":1,"message":""}}"#,
            -32600,
            "at once",
        ),
        text(
            r#"{"jsonrpc":"2.0","id":7,"result":{}}"#,
            -32600,
            "nothing that was asked",
        ),
    ];
    all.push((
        b"{\"jsonrpc\":\"2.0\",\"id\":\"\xff\"}".to_vec(),
        -32700,
        "UTF-8",
    ));
    all.push((
        call("{}")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect(),
        -32700,
        "",
    ));
    all
}

#[tokio::test]
async fn bodies_that_are_no_message() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let legacy = token.legacy().await;
    let modern = token.modern();
    for (body, expected, said) in bodies() {
        for era in ERAS {
            let ask = match era {
                Era::Modern => modern.ask_call("anything", "{}").body(body.clone()),
                Era::Legacy => legacy.ask(body.clone()),
            };
            let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            let answer = check(&plane, &shown, ask, 400, "bad-message").await;
            let reply = answer.json();
            assert_eq!(code(&reply), expected, "{shown}: {reply}");
            let message = reply["error"]["message"].as_str().unwrap();
            assert!(message.contains(said), "{shown}: {message}");
            assert!(
                message.len() < 300 && !message.contains("anything"),
                "{shown}: {message}"
            );
            // Where the id could not be read, a legacy error says null and a modern one nothing.
            assert_eq!(
                reply.get("id").is_some(),
                era == Era::Legacy,
                "{shown}: {reply}"
            );
        }
    }
    counted(&plane).await;
    plane.end().await;
}

#[tokio::test]
async fn headers_that_contradict_the_body() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let modern = token.modern();
    let good = || modern.ask_call("anything", ANY);
    let version = "mcp-protocol-version";
    let cases: Vec<(&str, Ask, u16, i64)> = vec![
        (
            "another method",
            good().header("mcp-method", "tools/list"),
            400,
            -32020,
        ),
        ("no method", good().without("mcp-method"), 400, -32020),
        (
            "two methods",
            good().also("mcp-method", "tools/call"),
            400,
            -32020,
        ),
        (
            "another name",
            good().header("mcp-name", "read_text_file"),
            400,
            -32020,
        ),
        ("no name", good().without("mcp-name"), 400, -32020),
        (
            "two names",
            good().also("mcp-name", "anything"),
            400,
            -32020,
        ),
        (
            "a folded name",
            good().header("mcp-name", "Anything"),
            400,
            -32020,
        ),
        (
            "a name that is not base 64",
            good().header("mcp-name", "=?base64?%%?="),
            400,
            -32020,
        ),
        (
            "a name that is not ASCII",
            good().header("mcp-name", "\u{e9}"),
            400,
            -32020,
        ),
        (
            "another version",
            good().header(version, "2025-11-25"),
            400,
            -32020,
        ),
        ("no version", good().without(version), 400, -32020),
        (
            "two versions",
            good().also(version, "2026-07-28"),
            400,
            -32020,
        ),
        (
            "no such version",
            good()
                .body(call("{}").replace("2026-07-28", "2027-01-01"))
                .header(version, "2027-01-01"),
            400,
            -32022,
        ),
        (
            "no capabilities",
            good().body(call("{}").replace("clientCapabilities", "c")),
            400,
            -32602,
        ),
        (
            "no version in the body",
            good().body(Legacy::text("tools/call", r#""name":"anything""#)),
            400,
            -32602,
        ),
        (
            "text",
            good().header("content-type", "text/plain"),
            415,
            -32600,
        ),
        ("no type", good().without("content-type"), 415, -32600),
        (
            "two types",
            good().also("content-type", "application/json"),
            415,
            -32600,
        ),
        (
            "takes no stream",
            good().header("accept", "application/json"),
            406,
            -32600,
        ),
        ("takes nothing", good().without("accept"), 406, -32600),
        (
            "a method of servers",
            modern.ask("sampling/createMessage", None, ""),
            404,
            -32601,
        ),
        (
            "a method of the era before",
            modern.ask("initialize", None, ""),
            404,
            -32601,
        ),
    ];
    for (name, ask, status, expected) in cases {
        let answer = check(&plane, name, ask, status, "bad-message").await;
        assert_eq!(code(&answer.json()), expected, "{name}: {}", answer.text());
    }
    let legacy = token.legacy().await;
    let good = || legacy.ask_call("anything", ANY);
    let cases: Vec<(&str, Ask, u16, i64)> = vec![
        ("no session", good().without("mcp-session-id"), 400, -32600),
        (
            "no such session",
            good().header("mcp-session-id", "x"),
            404,
            -32600,
        ),
        (
            "two sessions",
            good().also("mcp-session-id", legacy.session()),
            404,
            -32600,
        ),
        (
            "no such version",
            good().header(version, "1999-01-01"),
            400,
            -32022,
        ),
        (
            "a method of servers",
            legacy.ask(Legacy::text("elicitation/create", "")),
            200,
            -32601,
        ),
        (
            "a method of the era after",
            legacy.ask(Legacy::text("server/discover", "")),
            200,
            -32601,
        ),
    ];
    for (name, ask, status, expected) in cases {
        let answer = check(&plane, name, ask, status, "bad-message").await;
        assert_eq!(code(&answer.json()), expected, "{name}: {}", answer.text());
    }
    counted(&plane).await;
    plane.end().await;
}

#[tokio::test]
async fn at_the_limit_and_one_past_it() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let modern = token.modern();
    // A listing, whose parameters nobody seals, and of which none goes on.
    let filled = |length: usize| {
        let pad = r#""pad":"""#;
        let empty = Modern::text("tools/list", pad).len();
        let pad = format!(r#""pad":"{}""#, "x".repeat(length - empty));
        modern.ask("tools/list", None, &pad)
    };
    let reply = testkit::Reply::from(filled(BODY_BYTES_MAX).send().await);
    assert!(!reply.is_error(), "{}", reply.json);
    let sent = plane.files().seen().pop().unwrap().body;
    assert!(!String::from_utf8_lossy(&sent).contains("pad"));
    let past = filled(BODY_BYTES_MAX + 1);
    check(&plane, "a byte too many", past, 413, "bad-message").await;
    // Nor where its length is not told.
    let past = [
        format!("{:x}\r\n", BODY_BYTES_MAX + 1).into_bytes(),
        vec![b' '; BODY_BYTES_MAX + 1],
    ];
    let head = modern
        .ask("tools/list", None, "")
        .send_raw("Transfer-Encoding: chunked\r\n", &past.concat())
        .await;
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    let ask = |body: String| modern.ask_call("anything", "{}").body(body);
    // The document, its parameters and its arguments are three levels of it.
    let deep = ask(nested(vocab::limits::JSON_DEPTH_MAX - 3));
    assert_eq!(testkit::Reply::from(deep.send().await).effect(), "allow");
    let past = ask(nested(vocab::limits::JSON_DEPTH_MAX - 2));
    check(&plane, "too deep", past, 400, "bad-message").await;
    plane.end().await;
}

#[tokio::test]
async fn a_body_is_not_read_before_its_sender_is_known() {
    let notes = Upstream::start(Speaks::Both).await;
    let plane = Plane::with(|setup| setup.upstream("notes", &notes, "")).await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let good = token.modern().ask_call("anything", ANY);
    let used = token.modern().ask_call("anything", ANY);
    assert_eq!(used.clone().send().await.status, 200);
    let elsewhere = agent.token("notes").await.modern();
    let revoked = agent.token("files").await;
    let revoke = format!("/v1/instances/{}/revoke", revoked.instance);
    plane.command(&revoke).await;
    for (name, ask, status) in [
        ("nobody", good.clone().without("authorization"), "401"),
        ("no proof", good.clone().without("dpop"), "401"),
        ("a proof used before", used, "401"),
        (
            "another audience",
            elsewhere.ask_call("anything", ANY).path("/mcp/files"),
            "401",
        ),
        (
            "a revoked instance",
            revoked.modern().ask_call("anything", ANY),
            "401",
        ),
        (
            "a bad token",
            good.clone().header("authorization", "DPoP x"),
            "401",
        ),
        (
            "another host",
            good.clone().header("host", "evil.example"),
            "403",
        ),
        (
            "another origin",
            good.clone().header("origin", "http://evil.example"),
            "403",
        ),
        ("nowhere", good.clone().path("/mcp/nowhere"), "404"),
    ] {
        // A body that is announced and never sent, one that never ends, and one that is sent.
        for (more, body) in [
            ("Content-Length: 8589934592\r\n", ""),
            ("Transfer-Encoding: chunked\r\n", ""),
            ("Transfer-Encoding: chunked\r\n", "5\r\n{\"jso\r\n"),
        ] {
            let head = ask.send_raw(more, body.as_bytes()).await;
            assert!(
                head.starts_with(&format!("HTTP/1.1 {status}")),
                "{name}: {head}"
            );
        }
    }
    assert_eq!(plane.files().calls(), 1);
    plane.end().await;
}

/// A token or proof with another header or other claims, and the signature that it had.
fn forged(jwt: &str, part: usize, change: impl FnOnce(&mut Value)) -> String {
    let mut parts: Vec<_> = jwt.split('.').map(str::to_owned).collect();
    let mut value = serde_json::from_slice(&BASE64.decode(&parts[part]).unwrap()).unwrap();
    change(&mut value);
    parts[part] = BASE64.encode(value.to_string());
    parts.join(".")
}

fn with(jwt: &str, part: usize, name: &str, value: impl Into<Value>) -> String {
    forged(jwt, part, |it| it[name] = value.into())
}

#[tokio::test]
async fn credentials_that_prove_nothing() {
    let notes = Upstream::start(Speaks::Both).await;
    let plane = Plane::with(|setup| setup.upstream("notes", &notes, "")).await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let bearer = agent.bearer("files").await;
    let elsewhere = agent.token("notes").await;
    let other_key = agent.fresh_key();
    let now = plane.now();
    let second = Duration::from_secs(1);
    let good = || token.modern().ask_call("anything", ANY);
    let bound = |text: &str| good().header("authorization", format!("DPoP {text}"));
    let proof = |key: &DpopKey, method: &str, uri: &str, text: Option<&str>, now| {
        good().header("dpop", token.proof_by(key, method, uri, text, now))
    };
    let (key, uri, text) = (token.key().unwrap(), token.uri(), Some(&*token.text));
    let header = |name: &str, value: Value| with(&token.text, 0, name, value);
    let in_proof = |part, name: &str, value: Value| {
        good().header("dpop", with(&token.proof("POST"), part, name, value))
    };
    let jwk = |change: Value| {
        let proof = forged(&token.proof("POST"), 0, |it| it["jwk"] = change);
        good().header("dpop", proof)
    };
    let x = key_x(&token);
    let replayed = good();
    assert_eq!(replayed.clone().send().await.status, 200);
    let cases: Vec<(&str, Ask, u16, &str)> = vec![
        (
            "nothing",
            good().without("authorization"),
            401,
            "missing-token",
        ),
        (
            "in the query",
            good()
                .without("authorization")
                .path(&format!("/mcp/files?access_token={}", bearer.text)),
            401,
            "missing-token",
        ),
        (
            "basic",
            good().header("authorization", "Basic eDp5"),
            401,
            "missing-token",
        ),
        (
            "an empty one",
            good().header("authorization", "Bearer "),
            401,
            "missing-token",
        ),
        (
            "two",
            good().also("authorization", "Bearer x"),
            400,
            "bad-authorization-header",
        ),
        (
            "not text",
            good().header("authorization", "Bearer \u{e9}"),
            400,
            "bad-authorization-header",
        ),
        ("not a token", bound("x"), 401, "bad-token"),
        ("too long", bound(&"x".repeat(10_000)), 401, "bad-token"),
        // The wrong way of showing it.
        (
            "bound as bearer",
            good().header("authorization", format!("Bearer {}", token.text)),
            401,
            "bound-token-as-bearer",
        ),
        (
            "bearer as bound",
            bound(&bearer.text),
            401,
            "bearer-token-as-bound",
        ),
        (
            "elsewhere",
            elsewhere
                .modern()
                .ask_call("anything", ANY)
                .path("/mcp/files"),
            401,
            "wrong-audience",
        ),
        // Forged.
        (
            "alg none",
            bound(&header("alg", json!("none"))),
            401,
            "bad-token",
        ),
        (
            "alg none, no signature",
            bound(&unsigned(&header("alg", json!("none")))),
            401,
            "bad-token",
        ),
        (
            "alg HS256",
            bound(&header("alg", json!("HS256"))),
            401,
            "bad-token",
        ),
        (
            "alg ES256",
            bound(&header("alg", json!("ES256"))),
            401,
            "bad-token",
        ),
        (
            "alg eddsa",
            bound(&header("alg", json!("eddsa"))),
            401,
            "bad-token",
        ),
        (
            "a key of its own",
            bound(&header(
                "jwk",
                json!({"kty": "OKP", "crv": "Ed25519", "x": x}),
            )),
            401,
            "bad-token",
        ),
        (
            "critical",
            bound(&header("crit", json!(["exp"]))),
            401,
            "bad-token",
        ),
        (
            "another kid",
            bound(&header("kid", json!("x"))),
            401,
            "unknown-token-key",
        ),
        (
            "another typ",
            bound(&header("typ", json!("JWT"))),
            401,
            "bad-token",
        ),
        (
            "another instance",
            bound(&with(
                &token.text,
                1,
                "act",
                json!({"sub": bearer.instance}),
            )),
            401,
            "bad-token",
        ),
        (
            "a longer life",
            bound(&with(&token.text, 1, "exp", json!(9_999_999_999_u64))),
            401,
            "bad-token",
        ),
        (
            "no binding",
            bound(&forged(&token.text, 1, |it| {
                it.as_object_mut().unwrap().remove("cnf");
            })),
            401,
            "bad-token",
        ),
        (
            "a proof for a token",
            bound(&token.proof("POST")),
            401,
            "bad-token",
        ),
        (
            "an assertion for a token",
            bound(&agent.assertion()),
            401,
            "bad-token",
        ),
        // Proofs.
        ("no proof", good().without("dpop"), 401, "missing-proof"),
        (
            "two proofs",
            good().also("dpop", token.proof("POST")),
            400,
            "bad-proof-header",
        ),
        ("a proof used before", replayed, 401, "replayed-proof"),
        (
            "another method",
            proof(key, "GET", &uri, text, now),
            401,
            "bad-proof",
        ),
        (
            "another URI",
            proof(key, "POST", &elsewhere.uri(), text, now),
            401,
            "bad-proof",
        ),
        (
            "where it listens",
            proof(
                key,
                "POST",
                &format!("http://{}/mcp/files", plane.node().address),
                text,
                now,
            ),
            401,
            "bad-proof",
        ),
        (
            "no token",
            proof(key, "POST", &uri, None, now),
            401,
            "bad-proof",
        ),
        (
            "another token",
            proof(key, "POST", &uri, Some(&bearer.text), now),
            401,
            "bad-proof",
        ),
        (
            "another key",
            proof(&other_key, "POST", &uri, text, now),
            401,
            "bad-proof",
        ),
        (
            "of long ago",
            proof(key, "POST", &uri, text, now.minus(62 * second)),
            401,
            "bad-proof",
        ),
        (
            "of the future",
            proof(key, "POST", &uri, text, now.plus(8 * second)),
            401,
            "bad-proof",
        ),
        (
            "proof: alg none",
            in_proof(0, "alg", json!("none")),
            401,
            "bad-proof",
        ),
        (
            "proof: alg ES256",
            in_proof(0, "alg", json!("ES256")),
            401,
            "bad-proof",
        ),
        (
            "proof: alg HS256",
            in_proof(0, "alg", json!("HS256")),
            401,
            "bad-proof",
        ),
        (
            "proof: typ",
            in_proof(0, "typ", json!("at+jwt")),
            401,
            "bad-proof",
        ),
        (
            "proof: other claims",
            in_proof(1, "htm", json!("GET")),
            401,
            "bad-proof",
        ),
        (
            "proof: private",
            jwk(json!({"kty": "OKP", "crv": "Ed25519", "x": x, "d": x})),
            401,
            "bad-proof",
        ),
        (
            "proof: symmetric",
            jwk(json!({"kty": "oct", "k": x})),
            401,
            "bad-proof",
        ),
        (
            "proof: short",
            jwk(json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"})),
            401,
            "bad-proof",
        ),
        (
            "proof: empty",
            jwk(json!({"kty": "OKP", "crv": "Ed25519", "x": ""})),
            401,
            "bad-proof",
        ),
        (
            "proof: no point",
            jwk(json!({"kty": "EC", "crv": "P-256", "x": x, "y": x})),
            401,
            "bad-proof",
        ),
        (
            "proof: RSA",
            jwk(json!({"kty": "RSA", "n": x, "e": "AQAB"})),
            401,
            "bad-proof",
        ),
        ("proof: no key", jwk(Value::Null), 401, "bad-proof"),
    ];
    for (name, ask, status, cause) in cases {
        let answer = check(&plane, name, ask, status, cause).await;
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        assert!(
            challenge.contains("resource_metadata="),
            "{name}: {challenge}"
        );
        // What is said back is nobody's secret.
        let said = format!("{} {:?}", answer.text(), answer.headers);
        assert!(
            !said.contains(&token.text) && !said.contains(&bearer.instance),
            "{name}"
        );
    }
    assert_eq!(good().send().await.status, 200);
    counted(&plane).await;
    plane.end().await;
}

fn unsigned(jwt: &str) -> String {
    let (signed, _) = jwt.rsplit_once('.').unwrap();
    format!("{signed}.")
}

fn key_x(token: &Token) -> String {
    let header = token.proof("POST");
    let header = BASE64.decode(header.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["jwk"]["x"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_of_another_node() {
    let (plane, strange) = (Plane::start().await, Plane::start().await);
    let agent = plane.agent("triage").await;
    agent.token("files").await;
    // The same seed makes the same keys, so the strange one gets others.
    let mut strange = strange;
    strange.stop().await.unwrap();
    let key = strange.folder().join("keys/token.key");
    std::fs::write(
        &key,
        format!(
            "{}\n",
            base64::engine::general_purpose::STANDARD.encode([7; 32])
        ),
    )
    .unwrap();
    strange.boot().await.unwrap();
    let agent = strange.agent("triage").await;
    let token = agent.token("files").await;
    assert_eq!(token.modern().call("anything", ANY).await.effect(), "allow");
    let mut ask = plane
        .ask("POST", "/mcp/files")
        .json(Modern::text("tools/list", ""));
    for name in ["authorization", "dpop"] {
        let good = token.ask("POST");
        ask = ask.header(name, good.get(name).unwrap());
    }
    check(&plane, "a strange token", ask, 401, "unknown-token-key").await;
    plane.end().await;
    strange.end().await;
}

#[tokio::test]
async fn sessions_are_names_and_not_credentials() {
    let notes = Upstream::start(Speaks::Both).await;
    let plane = Plane::with(|setup| setup.upstream("notes", &notes, "")).await;
    let agent = plane.agent("triage").await;
    let key = agent.fresh_key();
    let token = agent.token_by("files", &key).await;
    let session = token.legacy().await;
    let other = agent.token("files").await.legacy().await;
    let elsewhere = agent.token_by("notes", &key).await;
    assert_eq!(elsewhere.instance, token.instance);
    let elsewhere = elsewhere.legacy().await;
    for (name, ask) in [
        (
            "another instance's",
            other
                .ask_call("anything", ANY)
                .header("mcp-session-id", session.session()),
        ),
        (
            "another upstream's",
            elsewhere
                .ask_call("anything", ANY)
                .header("mcp-session-id", session.session()),
        ),
        (
            "no one's",
            session
                .ask_call("anything", ANY)
                .header("mcp-session-id", "a".repeat(32)),
        ),
    ] {
        let answer = check(&plane, name, ask, 404, "bad-message").await;
        assert_eq!(
            answer.json()["error"]["message"],
            "no such session",
            "{name}"
        );
    }
    // Nor can they end it, or listen to it.
    for verb in ["GET", "DELETE"] {
        let ask = agent
            .token("files")
            .await
            .ask(verb)
            .header("accept", "text/event-stream");
        let ask = ask.header("mcp-session-id", session.session());
        check(&plane, verb, ask, 404, "bad-message").await;
    }
    assert_eq!(session.call("anything", ANY).await.effect(), "allow");
    assert_eq!(session.delete().await.status, 204);
    assert_eq!(session.call("anything", ANY).await.status, 404);
    plane.end().await;
}

#[tokio::test]
async fn requests_for_tokens() {
    let plane = Plane::start().await;
    let agent = plane
        .register("triage", json!({"allow_bearer": false, "max_instances": 2}))
        .await;
    let open = plane.register("open", json!({"sponsor": "otto"})).await;
    let rng = testkit::SeededRng::new(99);
    let second = Duration::from_secs(1);
    let resource = format!("{}/mcp/files", Plane::public_url());
    let parameters = |agent: &Agent, change: &[(&str, &str)]| {
        let assertion = agent.assertion();
        let mut all: Vec<(String, String)> = [
            ("grant_type", "client_credentials"),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", &assertion),
            ("purpose", "triage"),
            ("resource", &resource),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        for (name, value) in change {
            all.retain(|(it, _)| it != name);
            if !value.is_empty() {
                all.push(((*name).to_owned(), (*value).to_owned()));
            }
        }
        all
    };
    let form = |change: &[(&str, &str)]| {
        let all = parameters(&open, change);
        let all: Vec<_> = all
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        open.form(&all)
    };
    let assertion = |text: &str| form(&[("client_assertion", text)]);
    let good = open.assertion();
    let key = DpopKey::generate(&rng).unwrap();
    let endpoint = format!("{}/oauth/token", Plane::public_url());
    let proof = |method: &str, uri: &str| {
        let proof = key.proof(method, uri, None, plane.now(), &rng).unwrap();
        form(&[]).header("dpop", proof)
    };
    let used = form(&[]);
    assert_eq!(used.clone().send().await.status, 200);
    let cases: Vec<(&str, Ask, u16, &str, &str)> = vec![
        ("nothing", open.form(&[]), 400, "invalid_request", "bad-token-request"),
        ("JSON", form(&[]).header("content-type", "application/json"), 400, "invalid_request", "bad-token-request"),
        ("another grant", form(&[("grant_type", "password")]), 400, "unsupported_grant_type", "bad-token-request"),
        ("not encoded", form(&[]).body("grant_type=%ff"), 400, "invalid_request", "bad-token-request"),
        ("duplicate", form(&[]).body("purpose=a&purpose=b"), 400, "invalid_request", "bad-token-request"),
        ("long", form(&[("x", &"x".repeat(70_000))]), 400, "invalid_request", "bad-token-request"),
        ("too long", form(&[("x", &"x".repeat(140_000))]), 413, "invalid_request", "bad-token-request"),
        ("many", form(&[]).body("a1=1&a2=1&a3=1&a4=1&a5=1&a6=1&a7=1&a8=1&a9=1&b1=1&b2=1&b3=1&b4=1&b5=1&b6=1&b7=1&b8=1&b9=1&c1=1&c2=1&c3=1&c4=1&c5=1&c6=1&c7=1&c8=1&c9=1&d1=1&d2=1&d3=1&d4=1&d5=1&d6=1"), 400, "invalid_request", "bad-token-request"),
        ("no path", form(&[("purpose", "../x")]), 400, "invalid_request", "bad-token-request"),
        ("another purpose", form(&[("purpose", "billing")]), 400, "access_denied", "refused-instance"),
        ("a longer word", form(&[("purpose", "triages")]), 400, "access_denied", "refused-instance"),
        ("no resource", form(&[("resource", "")]), 400, "invalid_target", "unknown-resource"),
        ("no upstream", form(&[("resource", &format!("{}/mcp/nowhere", Plane::public_url()))]), 400, "invalid_target", "unknown-resource"),
        ("elsewhere", form(&[("resource", "http://evil.example/mcp/files")]), 400, "invalid_target", "unknown-resource"),
        ("no client", form(&[("client_assertion", "")]), 401, "invalid_client", "bad-token-request"),
        ("a secret", form(&[("client_secret", "x")]), 400, "invalid_request", "bad-token-request"),
        ("basic", form(&[]).header("authorization", "Basic eDp5"), 400, "invalid_request", "bad-token-request"),
        ("another id", form(&[("client_id", "triage")]), 401, "invalid_client", "bad-assertion"),
        ("not a JWT", assertion("x"), 401, "invalid_client", "bad-assertion"),
        ("used before", used, 401, "invalid_client", "replayed-assertion"),
        ("another agent's name", assertion(&forged(&good, 1, |it| { it["iss"] = "triage".into(); it["sub"] = "triage".into(); })), 401, "invalid_client", "unproven-client"),
        ("nobody's name", assertion(&forged(&good, 1, |it| { it["iss"] = "nobody".into(); it["sub"] = "nobody".into(); })), 401, "invalid_client", "unproven-client"),
        ("two names", assertion(&with(&good, 1, "sub", "triage")), 401, "invalid_client", "bad-assertion"),
        ("another audience", assertion(&with(&good, 1, "aud", "http://evil.example")), 401, "invalid_client", ""),
        ("alg none", assertion(&unsigned(&with(&good, 0, "alg", "none"))), 401, "invalid_client", "bad-assertion"),
        ("alg HS256", assertion(&with(&good, 0, "alg", "HS256")), 401, "invalid_client", "bad-assertion"),
        ("alg ES256", assertion(&with(&good, 0, "alg", "ES256")), 401, "invalid_client", ""),
        ("another typ", assertion(&with(&good, 0, "typ", "at+jwt")), 401, "invalid_client", "bad-assertion"),
        ("of long ago", assertion(&open.assertion_at(plane.now().minus(120 * second))), 401, "invalid_client", "bad-assertion"),
        ("of the future", assertion(&open.assertion_at(plane.now().plus(20 * second))), 401, "invalid_client", "bad-assertion"),
        ("proof: another method", proof("GET", &endpoint), 400, "invalid_dpop_proof", "bad-proof"),
        ("proof: another URI", proof("POST", &resource), 400, "invalid_dpop_proof", "bad-proof"),
        ("proof: garbage", form(&[]).header("dpop", "x"), 400, "invalid_dpop_proof", "bad-proof"),
        ("two proofs", proof("POST", &endpoint).also("dpop", "x"), 400, "invalid_dpop_proof", "bad-token-request"),
        ("bearer", agent.token_request("files", None), 400, "invalid_dpop_proof", "refused-instance"),
    ];
    let before = plane.gateway().control().view(register::State::size);
    for (name, ask, status, error, cause) in cases {
        let answer = if cause.is_empty() {
            let answer = ask.send().await;
            assert_eq!(answer.status.as_u16(), status, "{name}: {}", answer.text());
            answer
        } else {
            check(&plane, name, ask, status, cause).await
        };
        assert_eq!(answer.json()["error"], error, "{name}: {}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{name}");
        assert!(!answer.text().contains(&good), "{name}");
    }
    assert_eq!(
        plane.gateway().control().view(register::State::size),
        before,
        "nothing was started"
    );
    // As many instances as it may have, and one more.
    for _ in 0..2 {
        agent.token("files").await;
    }
    let key = agent.fresh_key();
    let ask = agent.token_request("files", Some(&key));
    let answer = check(&plane, "one more", ask, 400, "refused-instance").await;
    assert_eq!(answer.json()["error"], "access_denied");
    counted(&plane).await;
    plane.end().await;
}
