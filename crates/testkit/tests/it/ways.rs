//! Attacks that carry words past inspection, policy, labels and record: from an agent to an upstream
//! in what nobody decides on, and from an upstream to an agent.

use mcp::Era;
use serde_json::{Value, json};
use testkit::{Legacy, Modern, Plane, Reply, Seen, Speaks, Upstream};

use crate::common::{ANY, Client, ERAS, code};

/// What must not arrive.
const WORDS: &str = "words-for-the-upstream";

/// That nothing of what an agent smuggled reached the upstream, in a body or a header.
fn assert_wordless(seen: &[Seen]) {
    for seen in seen {
        let body = String::from_utf8_lossy(&seen.body);
        assert!(!body.contains(WORDS), "{body}");
        for (name, value) in &seen.headers {
            let line = format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
            assert!(!line.contains(WORDS), "{line}");
        }
    }
}

/// Wherever a client can write something into `_meta`.
fn meta() -> Value {
    let mut meta = Modern::meta();
    meta["io.modelcontextprotocol/clientInfo"] = json!({"name": WORDS, "version": WORDS});
    meta["io.modelcontextprotocol/clientCapabilities"] =
        json!({"experimental": {WORDS: WORDS}, "elicitation": {"form": {}, "note": WORDS}});
    meta["progressToken"] = WORDS.into();
    meta["baggage"] = format!("note={WORDS}").into();
    meta["tracestate"] = format!("note={WORDS}").into();
    meta["traceparent"] = WORDS.into();
    meta
}

#[tokio::test]
async fn an_agent_sends_words_in_a_listing_or_a_handshake() {
    for speaks in [Speaks::Modern, Speaks::Legacy] {
        let files = Upstream::start(speaks).await;
        let plane = Plane::with(|setup| setup.upstream("files", &files, "")).await;
        let token = plane.agent("triage").await.token("files").await;
        let mut said = meta();
        said["com.example/note"] = WORDS.into();
        let modern = token.modern();
        let legacy = token.legacy().await;
        for method in [
            "tools/list",
            "resources/list",
            "resources/templates/list",
            "prompts/list",
            "server/discover",
        ] {
            let params = json!({"note": WORDS, "_meta": said});
            let body = json!({"jsonrpc": "2.0", "id": WORDS, "method": method, "params": params});
            let ask = modern.ask(method, None, "").body(body.to_string());
            let ask = ask.header("baggage", WORDS).header("mcp-note", WORDS);
            let reply = Reply::from(ask.send().await);
            assert!(!reply.is_error(), "{method}: {}", reply.json);
            assert_eq!(reply.json["id"], WORDS, "the client's own");
            if method != "server/discover" {
                let mut said = said.clone();
                let names = said.as_object_mut().unwrap();
                names.retain(|name, _| !name.starts_with("io.modelcontextprotocol/"));
                let params = json!({"note": WORDS, "_meta": said});
                let body =
                    json!({"jsonrpc": "2.0", "id": WORDS, "method": method, "params": params});
                let reply = Reply::from(legacy.ask(body.to_string()).send().await);
                assert!(!reply.is_error(), "{method}: {}", reply.json);
                assert_eq!(reply.json["id"], WORDS, "the client's own");
            }
            assert!(!files.seen_of(method).is_empty() || method == "server/discover");
        }
        let params = json!({
            "protocolVersion": WORDS,
            "capabilities": {"experimental": {WORDS: {}}, "roots": {"listChanged": true}},
            "clientInfo": {"name": WORDS, "version": WORDS}, "note": WORDS,
        });
        let body = json!({"jsonrpc": "2.0", "id": WORDS, "method": "initialize", "params": params});
        let ask = token.ask("POST").json(body.to_string());
        let reply = Reply::from(ask.send().await);
        assert!(!reply.is_error(), "{}", reply.json);
        if speaks == Speaks::Legacy {
            let seen = files.seen_of("initialize").pop().unwrap().json();
            let params = &seen["params"];
            assert_eq!(params["clientInfo"]["name"], "tipstaff");
            assert_eq!(
                params["capabilities"],
                json!({"roots": {"listChanged": true}}),
                "what servers can ask of it"
            );
            assert_eq!(params["protocolVersion"], "2025-11-25");
        }
        assert_wordless(&files.seen());
        plane.end().await;
    }
}

#[tokio::test]
async fn an_agent_sends_words_as_a_cursor() {
    for speaks in [Speaks::Modern, Speaks::Legacy] {
        let files = Upstream::start(speaks).await;
        files.set_cursor("page 2");
        let plane = Plane::with(|setup| setup.upstream("files", &files, "")).await;
        let agent = plane.agent("triage").await;
        let other = plane.agent("other").await.token("files").await;
        for era in ERAS {
            let client = Client::new(&agent.token("files").await, era).await;
            let first = client.request("resources/list", None, "").await;
            let cursor = first.result()["nextCursor"].as_str().unwrap().to_owned();
            assert!(!cursor.contains("page"), "{cursor}");
            let at = format!(r#""cursor":"{cursor}""#);
            let second = client.request("resources/list", None, &at).await;
            assert!(!second.is_error(), "{}", second.json);
            let seen = files.seen_of("resources/list").pop().unwrap();
            assert_eq!(seen.param("cursor").unwrap(), r#""page 2""#);
            // Words, another's cursor, and one of another list.
            let reached = || {
                let lists = ["resources/list", "prompts/list"];
                lists.map(|method| files.seen_of(method).len())
            };
            let before = reached();
            let words = format!(r#""cursor":"{WORDS}""#);
            for (client, method, params) in [
                (&client, "resources/list", &words),
                (&client, "tools/list", &words),
                (&client, "resources/list", &r#""cursor":7"#.to_owned()),
                (&client, "prompts/list", &at),
                (&Client::Modern(other.modern()), "resources/list", &at),
            ] {
                let reply = client.request(method, None, params).await;
                assert_eq!(code(&reply.json), -32602, "{method}: {}", reply.json);
            }
            assert_eq!(reached(), before);
        }
        assert_wordless(&files.seen());
        plane.end().await;
    }
}

#[tokio::test]
async fn an_agent_sends_words_in_the_envelope_of_a_call() {
    for speaks in [Speaks::Modern, Speaks::Legacy] {
        let files = Upstream::start(speaks).await;
        files.script("anything", testkit::Script::Progress(1));
        let plane = Plane::with(|setup| setup.upstream("files", &files, "")).await;
        let token = plane.agent("triage").await.token("files").await;
        for era in ERAS {
            let client = Client::new(&token, era).await;
            let mut said = meta();
            // These are of what was decided on: inspected, and part of what is approved.
            let own = ["io.modelcontextprotocol/clientCapabilities"];
            let names = said.as_object_mut().unwrap();
            for name in own {
                names[name] = json!({});
            }
            if era == Era::Legacy {
                names.retain(|name, _| !name.starts_with("io.modelcontextprotocol/"));
            }
            let arguments: Value = serde_json::from_str(ANY).unwrap();
            let params = json!({"name": "anything", "arguments": arguments, "_meta": said});
            let body =
                json!({"jsonrpc": "2.0", "id": WORDS, "method": "tools/call", "params": params});
            let mut ask = client.ask_call("anything", ANY).body(body.to_string());
            for name in [
                "baggage",
                "tracestate",
                "traceparent",
                "mcp-note",
                "mcp-param-note",
                "x-note",
            ] {
                ask = ask.header(name, WORDS);
            }
            let reply = Reply::from(ask.send().await);
            assert_eq!(reply.effect(), "allow", "{}", reply.json);
            // The client gets its own names back.
            assert_eq!(reply.json["id"], WORDS);
            assert_eq!(reply.before[0]["params"]["progressToken"], WORDS);
            let seen = files.last_call().json();
            assert!(seen["id"].is_i64(), "{seen}");
            assert_eq!(seen["params"]["_meta"]["progressToken"], seen["id"]);
        }
        assert_wordless(&files.seen());
        plane.end().await;
    }
}

#[tokio::test]
async fn a_trace_goes_on_and_nothing_that_hangs_on_it() {
    let plane = Plane::start().await;
    let token = plane.agent("triage").await.token("files").await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    for era in ERAS {
        for flags in ["00", "01"] {
            let client = Client::new(&token, era).await;
            let ask = client.ask_call("anything", ANY);
            let parent = format!("00-{trace}-00f067aa0ba902b7-{flags}");
            let ask = ask.header("traceparent", &parent);
            let reply = Reply::from(ask.header("tracestate", "a=b").send().await);
            assert_eq!(reply.effect(), "allow", "{}", reply.json);
            let seen = plane.files().last_call();
            let sent = seen.headers["traceparent"].to_str().unwrap();
            let id = seen.json()["id"].as_i64().unwrap();
            assert_eq!(sent, format!("00-{trace}-{id:016x}-{flags}"));
            assert!(!seen.headers.contains_key("tracestate"));
        }
    }
    plane.end().await;
}

#[tokio::test]
async fn a_server_says_something_by_its_ids() {
    let files = Upstream::start(Speaks::Legacy).await;
    let ask = r#"{"message":"Sure?","requestedSchema":{},"_meta":{"progressToken":"words"}}"#;
    files.script("anything", testkit::Script::Ask("elicitation/create", ask));
    let plane = Plane::with(|setup| {
        setup.upstream("files", &files, "");
        setup.policies = "permit (principal, action, resource);".to_owned();
    })
    .await;
    let session = plane
        .agent("triage")
        .await
        .token("files")
        .await
        .legacy()
        .await;
    let mut stream = session.ask_call("anything", ANY).open().await;
    let asked = stream.next().await.unwrap();
    assert!(!asked.to_string().contains("ask-"), "{asked}");
    assert!(!asked.to_string().contains("words"), "{asked}");
    // What the client answers finds its way back all the same.
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "accept"}});
    let said = session.ask(answer.to_string()).send().await;
    assert_eq!(said.status, 202, "{}", said.text());
    let reply = stream.next().await.unwrap();
    let text = reply["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains(r#""id":"ask-"#), "{text}");
    // An event's name and pace are of use to nobody but those who can come back.
    let events = "id: words\nretry: 99\ndata: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"content\":[]}}\n\n";
    files.script("anything", testkit::Script::Events(events));
    for era in ERAS {
        let client = match era {
            Era::Modern => Client::Modern(plane.agent("other").await.token("files").await.modern()),
            Era::Legacy => Client::Legacy(session.clone()),
        };
        let answer = client.ask_call("anything", ANY).send().await;
        assert!(!answer.text().contains("words"), "{}", answer.text());
        let pace = answer.text().contains("retry");
        assert!(!pace || era == Era::Legacy, "{}", answer.text());
    }
    // Nor does progress that nobody asked for say anything.
    let events = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":\"words\",\"progress\":1}}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"content\":[]}}\n\n";
    files.script("anything", testkit::Script::Events(events));
    let text = Legacy::text("tools/call", r#""name":"anything","arguments":{"n":1}"#);
    let reply = Reply::from(session.ask(text).send().await);
    assert_eq!(reply.effect(), "allow", "{}", reply.json);
    assert!(reply.before.is_empty(), "{:?}", reply.before);
    plane.end().await;
}
