//! Both eras on both faces: clients and upstreams of each, in every pairing.

use gateway::record::Came;
use mcp::Era;
use serde_json::{Value, json};
use testkit::{Plane, Reply, Script, Speaks, Token, Upstream, until};

use crate::common::{ANY, Client};

const ALL: &str = "permit (principal, action, resource);";

/// A client's revision; the modern one has no session.
const REVISIONS: [&str; 4] = ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"];

async fn plane(speaks: Speaks) -> (Plane, Token) {
    let files = Upstream::start(speaks).await;
    let plane = Plane::with(|setup| {
        setup.upstream("files", &files, "");
        setup.policies = ALL.to_owned();
    })
    .await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    (plane, token)
}

async fn client(token: &Token, revision: &str) -> Client {
    match revision {
        "2026-07-28" => Client::Modern(token.modern()),
        revision => Client::Legacy(token.legacy_of(revision).await),
    }
}

fn is_modern(revision: &str) -> bool {
    revision == "2026-07-28"
}

/// What every pairing carries: method, what it is about, parameters, and what comes back.
fn carried() -> Vec<(&'static str, Option<&'static str>, &'static str, Value)> {
    vec![
        (
            "tools/list",
            None,
            "",
            json!({"tools": testkit::upstream::default_tools()}),
        ),
        (
            "tools/call",
            Some("refund"),
            r#""name":"refund","arguments":{"order":"A","amount":1}"#,
            json!({"content": [{"type": "text", "text": r#"{"order":"A","amount":1}"#}]}),
        ),
        (
            "resources/list",
            None,
            "",
            json!({"resources": [
                {"uri": "file:///public/a.txt", "name": "a"},
                {"uri": "file:///secret/b.txt", "name": "b"}]}),
        ),
        (
            "resources/templates/list",
            None,
            "",
            json!({"resourceTemplates": [{"uriTemplate": "file:///public/{name}", "name": "public"}]}),
        ),
        (
            "resources/read",
            Some("file:///public/a.txt"),
            r#""uri":"file:///public/a.txt""#,
            json!({"contents": [
                {"uri": "file:///public/a.txt", "text": "the text", "mimeType": "text/plain"}]}),
        ),
        (
            "prompts/list",
            None,
            "",
            json!({"prompts": [{"name": "greet"}, {"name": "scold"}]}),
        ),
        (
            "prompts/get",
            Some("greet"),
            r#""name":"greet""#,
            json!({"messages": [{"role": "user", "content": {"type": "text", "text": "Hello."}}]}),
        ),
        (
            "completion/complete",
            None,
            r#""ref":{"type":"ref/prompt","name":"greet"},"argument":{"name":"a","value":"b"}"#,
            json!({"completion": {"values": ["one", "two"]}}),
        ),
    ]
}

#[tokio::test]
async fn every_pairing_carries_the_same() {
    for speaks in [Speaks::Legacy, Speaks::Modern, Speaks::Both] {
        let (plane, token) = plane(speaks).await;
        for revision in REVISIONS {
            let client = client(&token, revision).await;
            for (method, name, params, expected) in carried() {
                let reply = client.request(method, name, params).await;
                let case = format!("{revision} × {speaks:?}: {method}: {}", reply.json);
                assert!(!reply.is_error(), "{case}");
                let mut result = reply.result().clone();
                let members = result.as_object_mut().expect(&case);
                if mcp::Method::from(method).free().is_none() {
                    let meta = members.remove("_meta").expect(&case);
                    assert_eq!(meta["dev.tipstaff/decision"]["effect"], "allow", "{case}");
                }
                if is_modern(revision) {
                    assert_eq!(
                        members.remove("resultType"),
                        Some(json!("complete")),
                        "{case}"
                    );
                    let cached = mcp::Method::from(method).is_cacheable();
                    assert_eq!(members.remove("ttlMs").is_some(), cached, "{case}");
                    assert_eq!(members.remove("cacheScope").is_some(), cached, "{case}");
                }
                assert_eq!(result, expected, "{case}");
                // As its own era has it.
                let seen = plane.files().seen_of(method).pop().unwrap();
                let upstream = match speaks {
                    Speaks::Legacy => false,
                    Speaks::Modern => true,
                    Speaks::Both => is_modern(revision),
                };
                let header = |name: &str| {
                    seen.headers
                        .get(name)
                        .map(|it| it.to_str().unwrap().to_owned())
                };
                assert_eq!(header("mcp-method").is_some(), upstream, "{case}");
                assert_eq!(
                    header("mcp-name"),
                    name.map(str::to_owned).filter(|_| upstream),
                    "{case}"
                );
                assert_eq!(header("mcp-session-id").is_some(), !upstream, "{case}");
                if let Client::Legacy(client) = &client {
                    assert_ne!(
                        header("mcp-session-id").as_deref(),
                        Some(client.session()),
                        "{case}"
                    );
                }
                let meta = &seen.json()["params"]["_meta"];
                let says = meta["io.modelcontextprotocol/protocolVersion"].as_str();
                assert_eq!(says.is_some(), upstream, "{case}");
            }
        }
        plane.end().await;
    }
}

#[tokio::test]
async fn what_cannot_be_carried_is_hidden() {
    let hidden = json!({"tools": {}, "resources": {}, "prompts": {}, "completions": {}});
    let all = json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}, "prompts": {},
                     "completions": {}, "logging": {}});
    for (speaks, across_from_modern, across_from_legacy) in [
        (Speaks::Legacy, true, false),
        (Speaks::Modern, false, true),
        (Speaks::Both, false, false),
    ] {
        let (plane, token) = plane(speaks).await;
        for revision in &REVISIONS[1..] {
            let client = token.legacy_of(revision).await;
            let result = &client.initialized["result"];
            assert_eq!(result["protocolVersion"], *revision);
            assert_eq!(
                result["capabilities"],
                if across_from_legacy { &hidden } else { &all }.clone()
            );
            assert_eq!(result["instructions"], "Ask nicely.");
            assert_eq!(result["serverInfo"]["name"], "scripted");
        }
        let reply = token.modern().request("server/discover").await;
        let result = reply.result();
        assert_eq!(
            result["supportedVersions"],
            json!(REVISIONS),
            "{}",
            reply.json
        );
        assert_eq!(
            result["capabilities"],
            if across_from_modern { &hidden } else { &all }.clone()
        );
        assert_eq!(result["instructions"], "Ask nicely.");
        let info = &result["_meta"]["io.modelcontextprotocol/serverInfo"];
        assert_eq!(info["name"], "scripted", "{}", reply.json);
        plane.end().await;
    }
}

#[tokio::test]
async fn what_has_no_counterpart_is_refused_and_not_sent() {
    let uri = "file:///public/a.txt";
    for (speaks, revision, method, name, params) in [
        (
            Speaks::Modern,
            "2025-11-25",
            "logging/setLevel",
            None,
            r#""level":"debug""#,
        ),
        (
            Speaks::Modern,
            "2025-11-25",
            "resources/subscribe",
            Some(uri),
            r#""uri":"file:///public/a.txt""#,
        ),
        (
            Speaks::Legacy,
            "2026-07-28",
            "subscriptions/listen",
            None,
            r#""notifications":{}"#,
        ),
    ] {
        let (plane, token) = plane(speaks).await;
        let client = client(&token, revision).await;
        let reply = client.request(method, name, params).await;
        assert!(reply.is_error(), "{method}: {}", reply.json);
        assert!(
            reply.said().contains("other era"),
            "{method}: {}",
            reply.json
        );
        assert!(plane.files().seen_of(method).is_empty(), "{method}");
        let outcome = plane.calls().outcome(reply.record().unwrap()).unwrap();
        assert_eq!(
            (outcome.result, outcome.cause.as_deref()),
            (Came::NotSent, Some("not-carried"))
        );
        plane.end().await;
    }
}

const ASK: Script = Script::Ask(
    "elicitation/create",
    r#"{"message":"Sure?","requestedSchema":{},"_meta":{"progressToken":"p"}}"#,
);

#[tokio::test]
async fn a_server_may_ask_what_policy_permits() {
    let files = Upstream::start(Speaks::Legacy).await;
    let only_tools = r#"permit (principal, action == Action::"files/anything", resource);"#;
    let plane = Plane::with(|setup| {
        setup.upstream("files", &files, "");
        setup.policies = only_tools.to_owned();
    })
    .await;
    let token = plane.agent("triage").await.token("files").await;
    let session = token.legacy().await;
    files.script("anything", ASK);
    // It is not permitted: the server hears so, and the client nothing.
    let reply = session.call("anything", ANY).await;
    assert!(reply.before.is_empty(), "{:?}", reply.before);
    let answer: Value = serde_json::from_str(reply.said()).unwrap();
    assert_eq!(answer["error"]["code"], 7403, "{answer}");
    assert!(
        answer["error"]["data"]["record"]["index"].is_u64(),
        "{answer}"
    );
    // Across eras there is nobody to ask.
    let reply = token.modern().call("anything", ANY).await;
    assert!(reply.before.is_empty(), "{:?}", reply.before);
    let answer: Value = serde_json::from_str(reply.said()).unwrap();
    assert!(answer["error"].is_object(), "{answer}");

    plane.activate(ALL).await.unwrap();
    let mut stream = session.ask_call("anything", ANY).open().await;
    let asked = stream.next().await.unwrap();
    assert_eq!(
        (&asked["method"], &asked["params"]["message"]),
        (&json!("elicitation/create"), &json!("Sure?"))
    );
    // What another session answers goes nowhere.
    let answer = |result: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#,
            asked["id"]
        )
    };
    let other = token.legacy().await;
    let token = asked["params"]["_meta"]["progressToken"].clone();
    assert!(token.is_i64() && asked["id"].is_i64(), "{asked}");
    for (client, token) in [
        (&other, &token),
        (&session, &json!("p")),
        (&session, &token),
    ] {
        let progress = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1,"total":2.5,"message":"words"}}}}"#
        );
        assert_eq!(client.ask(progress).send().await.status, 202);
    }
    let heard: Vec<Value> = files
        .seen_of("notifications/progress")
        .iter()
        .map(|it| it.json()["params"].take())
        .collect();
    assert_eq!(
        heard,
        [json!({"progressToken": "p", "progress": 1, "total": 2.5})]
    );
    assert_eq!(
        other
            .ask(answer(r#"{"action":"accept"}"#))
            .send()
            .await
            .status,
        400
    );
    let said = session
        .ask(answer(r#"{"action":"decline","n":1.0}"#))
        .send()
        .await;
    assert_eq!(said.status, 202, "{}", said.text());
    let reply = stream.next().await.unwrap();
    let text = reply["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains(r#""action":"decline""#), "{text}");
    assert_eq!(
        reply["result"]["_meta"]["dev.tipstaff/decision"]["effect"],
        "allow"
    );
    // Once.
    assert_eq!(
        session
            .ask(answer(r#"{"action":"accept"}"#))
            .send()
            .await
            .status,
        400
    );
    // Asked, and cut off before it was answered.
    let mut stream = session.ask_call("anything", ANY).open().await;
    stream.next().await.unwrap();
    plane.command("/v1/agents/triage/suspend").await;
    until("all is settled", async || plane.gateway().in_flight() == 0).await;
    plane.end().await;
}

/// What a result of the modern era asks the client is decided on like a server's request.
#[tokio::test]
async fn a_result_may_ask_what_policy_permits() {
    let elicit = r#"{"method":"elicitation/create","params":{"message":"Sure?","_meta":{"dev.tipstaff/x":1}}}"#;
    let sample = r#"{"method":"sampling/createMessage","params":{"messages":[]}}"#;
    let asking = |asked: &str| {
        format!(r#"{{"resultType":"input_required","inputRequests":{asked},"requestState":"s"}}"#)
    };
    let only = |methods: &str| {
        format!(r#"permit (principal, action in [Action::"files/anything", {methods}], resource);"#)
    };
    let (plane, token) = plane(Speaks::Modern).await;
    let client = token.modern();
    let both = format!(r#"{{"a":{elicit},"b":{sample}}}"#);
    let methods = || {
        let decisions = plane.calls();
        let decisions = decisions.of(ledger::Kind::Decision).into_iter();
        let asked = decisions.filter(|it| it.body["method"] != "tools/call");
        asked
            .map(|it| {
                format!(
                    "{} {}",
                    it.body["method"].as_str().unwrap(),
                    it.body["effect"].as_str().unwrap()
                )
            })
            .collect::<Vec<_>>()
    };
    // Denied, the first or the second of them: nothing of the result gets to the client.
    for (permitted, expected) in [
        ("", vec!["elicitation/create deny"]),
        (
            r#"Action::"files:elicitation/create""#,
            vec!["elicitation/create allow", "sampling/createMessage deny"],
        ),
    ] {
        plane.activate(&only(permitted)).await.unwrap();
        plane
            .files()
            .script("anything", Script::Result(asking(&both)));
        let before = methods().len();
        let reply = client.call("anything", ANY).await;
        assert!(reply.is_error(), "{}", reply.json);
        assert!(reply.said().contains("asks for input"), "{}", reply.json);
        assert!(!reply.json.to_string().contains("Sure?"), "{}", reply.json);
        assert_eq!(methods().split_off(before), expected);
        let outcome = plane.calls().outcome(reply.record().unwrap()).unwrap();
        assert_eq!(
            (outcome.result, outcome.cause.as_deref()),
            (Came::Unknown, Some("input-denied"))
        );
    }
    // Permitted, all of them.
    plane.activate(ALL).await.unwrap();
    let before = methods().len();
    let reply = client.call("anything", ANY).await;
    assert_eq!(reply.effect(), "allow", "{}", reply.json);
    assert_eq!(
        reply.result()["inputRequests"]["a"]["params"],
        json!({"message": "Sure?", "_meta": {}})
    );
    assert_eq!(reply.result()["requestState"], "s");
    assert_eq!(
        methods().split_off(before),
        ["elicitation/create allow", "sampling/createMessage allow"]
    );
    // What is no question, or too many, or where there is none.
    let many: Vec<_> = (0..17).map(|n| format!(r#""{n}":{elicit}"#)).collect();
    for asked in [
        r#"[{"method":"elicitation/create"}]"#,
        r#"{"a":{}}"#,
        r#"{"a":"elicitation/create"}"#,
        r#"{"a":{"method":"notifications/message"}}"#,
        r#"{"a":{"method":"elicitation/create","Params":{}}}"#,
        &format!("{{{}}}", many.join(",")),
    ] {
        plane
            .files()
            .script("anything", Script::Result(asking(asked)));
        let reply = client.call("anything", ANY).await;
        assert!(reply.is_error(), "{asked}: {}", reply.json);
        let outcome = plane.calls().outcome(reply.record().unwrap()).unwrap();
        assert_eq!(
            outcome.cause.as_deref(),
            Some("malformed-answer"),
            "{asked}"
        );
    }
    plane.files().script(
        "anything",
        Script::Result(asking(r#"{"a":{"method":"files/delete"}}"#)),
    );
    let reply = client.call("anything", ANY).await;
    assert!(reply.said().contains("not known"), "{}", reply.json);
    plane.end().await;
}

/// An error of the era before asks the client too.
#[tokio::test]
async fn an_error_may_have_opened_what_policy_permits() {
    let (plane, token) = plane(Speaks::Legacy).await;
    let client = token.legacy().await;
    let wants = |elicitations: &str| {
        let data = format!(r#"{{"elicitations":{elicitations}}}"#);
        Script::Body(format!(
            r#"{{"jsonrpc":"2.0","id":7,"error":{{"code":-32042,"message":"m","data":{data}}}}}"#
        ))
    };
    let url =
        r#"{"mode":"url","elicitationId":"e","url":"https://pay.example/","message":"Sure?"}"#;
    let asked = || {
        let calls = plane.calls();
        let asked = calls.of(ledger::Kind::Decision).into_iter();
        let asked = asked.filter(|it| it.body["method"] == "elicitation/create");
        asked
            .map(|it| it.body["effect"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for (policies, effect) in [
        (
            r#"permit (principal, action == Action::"files/anything", resource);"#,
            "deny",
        ),
        (ALL, "allow"),
    ] {
        plane.activate(policies).await.unwrap();
        plane.files().script("anything", wants(&format!("[{url}]")));
        let before = asked().len();
        let reply = client.call("anything", ANY).await;
        assert_eq!(asked().split_off(before), [effect]);
        let shown = reply.json.to_string().contains("pay.example");
        assert_eq!(shown, effect == "allow", "{}", reply.json);
    }
    plane.files().script("anything", wants("[7]"));
    let reply = client.call("anything", ANY).await;
    assert!(reply.said().contains("not MCP"), "{}", reply.json);
    plane.end().await;
}

#[tokio::test]
async fn a_servers_own_words_reach_the_clients_stream() {
    let (plane, token) = plane(Speaks::Legacy).await;
    let session = token.legacy().await;
    let mut stream = session.stream().await;
    assert_eq!(stream.status, 200);
    until("the stream is open", async || plane.files().streams() == 1).await;
    plane
        .files()
        .push(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
    plane.files().push(json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {
        "level": "info", "data": "hello", "_meta": {"dev.tipstaff/decision": {"effect": "allow"}, "a": 1}}}));
    assert_eq!(
        stream.next().await.unwrap()["method"],
        "notifications/tools/list_changed"
    );
    let said = stream.next().await.unwrap();
    assert_eq!(
        (&said["params"]["data"], &said["params"]["_meta"]),
        (&json!("hello"), &json!({"a": 1}))
    );
    // The client ends it, and so does the end of the session.
    drop(stream);
    until("the stream is closed", async || {
        plane.files().streams() == 0
    })
    .await;
    let mut stream = session.stream().await;
    until("the stream is open", async || plane.files().streams() == 1).await;
    assert_eq!(session.delete().await.status, 204);
    assert_eq!(stream.next().await, None);
    until("the stream is closed", async || {
        plane.files().streams() == 0
    })
    .await;
    plane.end().await;
}

#[tokio::test]
async fn a_session_that_the_upstream_forgot_is_over() {
    let (plane, token) = plane(Speaks::Legacy).await;
    let session = token.legacy().await;
    assert_eq!(session.call("anything", ANY).await.effect(), "allow");
    plane.files().forget_sessions();
    let reply = session.call("anything", ANY).await;
    assert!(reply.is_error(), "{}", reply.json);
    let outcome = plane.calls().outcome(reply.record().unwrap()).unwrap();
    assert_eq!(outcome.result, Came::NotSent);
    assert_eq!(session.call("anything", ANY).await.status, 404);
    assert_eq!(
        token.legacy().await.call("anything", ANY).await.effect(),
        "allow"
    );
    // A client without sessions does not notice for longer than one call.
    plane.files().forget_sessions();
    let replies = [
        token.modern().call("anything", ANY).await,
        token.modern().call("anything", ANY).await,
    ];
    assert!(!replies[1].is_error(), "{}", replies[1].json);
    plane.end().await;
}

#[tokio::test]
async fn a_client_without_a_session_cancels_by_going_away() {
    for speaks in [Speaks::Modern, Speaks::Legacy] {
        let (plane, token) = plane(speaks).await;
        for script in [Script::Hang, Script::HangStream] {
            plane.files().script("anything", script);
            let flight = tokio::spawn(token.modern().ask_call("anything", ANY).send());
            plane.files().until_under_way(1).await;
            flight.abort();
            plane.files().until_under_way(0).await;
            until("it is settled", async || plane.gateway().in_flight() == 0).await;
            let ledger = plane.calls();
            let outcome: gateway::record::OutcomeBody = ledger.last(ledger::Kind::Outcome).read();
            assert_eq!(outcome.cause.as_deref(), Some("cancelled"));
        }
        if speaks == Speaks::Legacy {
            until("it was told", async || {
                plane.files().seen_of("notifications/cancelled").len() == 2
            })
            .await;
        }
        plane.end().await;
    }
}

#[tokio::test]
async fn a_client_with_a_session_does_not() {
    let (plane, token) = plane(Speaks::Legacy).await;
    let client = Client::new(&token, Era::Legacy).await;
    plane.files().script("anything", Script::Gate);
    let flight = tokio::spawn(client.ask_call("anything", ANY).send());
    plane.files().until_under_way(1).await;
    flight.abort();
    plane.files().set_gate(true);
    until("it is settled", async || plane.gateway().in_flight() == 0).await;
    let ledger = plane.calls();
    let outcome: gateway::record::OutcomeBody = ledger.last(ledger::Kind::Outcome).read();
    assert_eq!(outcome.result, Came::Completed);
    plane.end().await;
}

/// A notification needs no permit and leaves no record, so it carries no words of an agent's.
#[tokio::test]
async fn a_notification_is_no_way_past_the_ledger() {
    let (plane, token) = plane(Speaks::Legacy).await;
    let session = token.legacy().await;
    plane.files().script("anything", Script::Gate);
    let flight = tokio::spawn(session.ask_call("anything", ANY).send());
    plane.files().until_under_way(1).await;
    for (method, params) in [
        (
            "progress",
            r#""progressToken":"t","progress":1,"message":"words""#,
        ),
        ("cancelled", r#""requestId":"other","reason":"words""#),
        (
            "tasks/status",
            r#""taskId":"t","status":"working","statusMessage":"words""#,
        ),
        ("initialized", r#""words":1"#),
        ("roots/list_changed", r#""words":1,"_meta":{"words":1}"#),
    ] {
        let notice = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{{{params}}}}}"#
        );
        assert_eq!(session.ask(notice).send().await.status, 202, "{method}");
    }
    let said = |method| {
        let seen = plane.files().seen_of(method);
        let texts = seen
            .iter()
            .map(|it| String::from_utf8_lossy(&it.body).into_owned());
        texts.collect::<Vec<_>>()
    };
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;
    assert_eq!(said("notifications/roots/list_changed"), [changed]);
    for seen in plane.files().seen() {
        let text = String::from_utf8_lossy(&seen.body);
        assert!(!text.contains("words"), "{text}");
    }
    // What is under way can be taken back.
    let notice = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,"reason":"words","x":"words"}}"#
        .to_owned();
    assert_eq!(session.ask(notice.clone()).send().await.status, 202);
    let sent = plane.files().last_call().json()["id"].clone();
    let told = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{sent}}}}}"#
    );
    assert_eq!(said("notifications/cancelled"), std::slice::from_ref(&told));
    plane.files().set_gate(true);
    assert_eq!(flight.await.unwrap().status, 200);
    // And what is answered cannot.
    until("it is settled", async || plane.gateway().in_flight() == 0).await;
    assert_eq!(session.ask(notice.clone()).send().await.status, 202);
    assert_eq!(said("notifications/cancelled"), [told]);
    plane.end().await;
}

#[tokio::test]
async fn an_answer_in_a_stream_is_an_answer() {
    for speaks in [Speaks::Modern, Speaks::Legacy] {
        let (plane, token) = plane(speaks).await;
        plane.files().script("anything", Script::Progress(2));
        for revision in ["2026-07-28", "2025-11-25"] {
            let client = client(&token, revision).await;
            let reply: Reply = client.ask_call("anything", ANY).send().await.into();
            assert_eq!(
                (reply.effect(), reply.said()),
                ("allow", "done"),
                "{}",
                reply.json
            );
        }
        plane.end().await;
    }
}

#[tokio::test]
async fn a_stream_that_broke_off_is_answered_on_another() {
    let (plane, token) = plane(Speaks::Legacy).await;
    plane
        .files()
        .script("anything", Script::Events("id: ev-1\ndata:\n\n"));
    let session = token.legacy().await;
    let begun = session.ask_call("anything", ANY).send().await;
    assert_eq!(
        (begun.status.as_u16(), begun.messages().len()),
        (200, 0),
        "{}",
        begun.text()
    );
    let sealed = begun.text().lines().find_map(|line| {
        let id = line.strip_prefix("id: ")?;
        Some(id.to_owned())
    });
    let sealed = sealed.expect("something to come back with");
    assert!(!sealed.contains("ev-1"), "{}", begun.text());
    let decision = plane.calls().last(ledger::Kind::Decision).index;
    assert!(
        plane.calls().outcome(decision).is_none(),
        "it may still be answered"
    );
    // Nobody comes back for what they were not given, and the upstream hears nothing of it.
    let back = |id: &str| {
        let ask = session.bare("GET").header("accept", "text/event-stream");
        ask.header("last-event-id", id)
    };
    assert_eq!(back("ev-1").send().await.status, 400);
    assert_eq!(back("words for the upstream").send().await.status, 400);
    assert_eq!(plane.files().streams(), 0);
    let mut stream = back(&sealed).open().await;
    until("the stream is open", async || plane.files().streams() == 1).await;
    let opened = plane.files().seen().pop().unwrap();
    assert_eq!(opened.headers["last-event-id"], "ev-1");
    let sent = plane.files().last_call().json()["id"].clone();
    plane
        .files()
        .push(json!({"jsonrpc": "2.0", "id": sent, "result": {"content": []}}));
    let late = stream.next().await.unwrap();
    assert_eq!(
        late["result"]["_meta"]["dev.tipstaff/decision"]["record"]["index"],
        decision
    );
    let outcome = plane.calls().outcome(decision).expect("an outcome");
    assert_eq!(outcome.result, Came::Completed);
    // One that nobody comes back for is closed with its session.
    session.ask_call("anything", ANY).send().await;
    let decision = plane.calls().last(ledger::Kind::Decision).index;
    assert_eq!(session.delete().await.status, 204);
    let outcome = plane.calls().outcome(decision).expect("an outcome");
    assert_eq!(
        (outcome.result, outcome.cause.as_deref()),
        (Came::Unknown, Some("session-closed"))
    );
    plane.end().await;
}
