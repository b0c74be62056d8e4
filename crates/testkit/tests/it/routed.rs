//! Calls that policy sends to another upstream than was asked.

use gateway::record::{Came, Done};
use mcp::Era;
use serde_json::{Value, json};
use testkit::{Plane, Script, Speaks, Upstream, until};

use crate::approvals::{answers, asked};
use crate::common::{ANY, Client, ERAS};

const ROUTE: &str = r#"
@id("try") @route("sandbox") permit (principal, action in Action::"files", resource);
"#;

/// `files`, and `sandbox`, which speaks what it is told to.
async fn plane(speaks: Speaks, policies: &str) -> Plane {
    let (files, sandbox) = (
        Upstream::start(Speaks::Both).await,
        Upstream::start(speaks).await,
    );
    plane_with(&files, &sandbox, policies).await
}

async fn plane_with(files: &Upstream, sandbox: &Upstream, policies: &str) -> Plane {
    let plane = Plane::with(|setup| {
        setup.upstream("files", files, "labels = [\"real\"]");
        setup.upstream("sandbox", sandbox, "labels = [\"made-up\"]");
        setup.limits = "same_denials = 0".to_owned();
        setup.policies = policies.to_owned();
    })
    .await;
    for id in ["noor", "zoe"] {
        let new = json!({"id": id, "name": id, "email": format!("{id}@example.com")});
        let answer = plane.admin("POST", "/v1/sponsors", Some(new)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    plane
}

async fn client(plane: &Plane, era: Era) -> Client {
    let token = plane.agent("triage").await.token("files").await;
    Client::new(&token, era).await
}

#[tokio::test]
async fn a_call_goes_where_policy_sends_it_and_the_record_says_both() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        for era in ERAS {
            let plane = plane(speaks, ROUTE).await;
            let client = client(&plane, era).await;
            let reply = client.call("anything", ANY).await;
            assert_eq!(reply.effect(), "allow", "{}", reply.json);
            assert!(!reply.is_error(), "{}", reply.json);
            assert_eq!(plane.files().calls(), 0);
            let sandbox = plane.upstream("sandbox");
            assert_eq!(sandbox.calls(), 1);
            assert_eq!(sandbox.last_call().param("arguments").as_deref(), Some(ANY));
            // Policy did not ask to have it said.
            assert!(
                !reply.json.to_string().contains("sandbox"),
                "{}",
                reply.json
            );
            let calls = plane.calls();
            let index = reply.record().unwrap();
            let decision = calls.decision(index);
            assert_eq!(decision.upstream.as_str(), "files");
            assert_eq!(decision.routed_to.as_ref().unwrap().as_str(), "sandbox");
            assert_eq!(decision.labels, ["made-up"]);
            let outcome = calls.outcome(index).unwrap();
            assert_eq!(outcome.routed_to.as_ref().unwrap().as_str(), "sandbox");
            assert_eq!(outcome.result, Came::Completed);
            assert_eq!(plane.gateway().metrics().sent_elsewhere(), 1);
            let read = client.request("resources/read", Some("docs://a"), r#""uri":"docs://a""#);
            let read = read.await;
            assert_eq!(read.effect(), "allow", "{}", read.json);
            assert!(plane.files().seen_of("resources/read").is_empty());
            assert_eq!(sandbox.seen_of("resources/read").len(), 1);
            // Every decision is made again from the files.
            plane.end().await;
        }
    }
}

#[tokio::test]
async fn the_agent_is_told_if_policy_wishes() {
    let policies = ROUTE.replace("permit", "@warn(\"It was a dry run.\") permit");
    let plane = plane(Speaks::Both, &policies).await;
    let reply = client(&plane, Era::Modern)
        .await
        .call("anything", ANY)
        .await;
    assert_eq!(reply.decision()["warnings"], json!(["It was a dry run."]));
    assert_eq!(plane.upstream("sandbox").calls(), 1);
    plane.end().await;
}

/// That a call is denied, and nothing sent anywhere.
async fn denied(plane: &Plane, client: &Client, tool: &str, args: &str, words: &str) {
    let sent = || plane.files().calls() + plane.upstream("sandbox").calls();
    let before = sent();
    let reply = client.call(tool, args).await;
    assert_eq!(reply.effect(), "deny", "{}", reply.json);
    assert!(reply.said().contains(words), "{}", reply.said());
    assert_eq!(sent(), before);
    let decision = plane.calls().decision(reply.record().unwrap());
    assert_eq!(decision.routed_to.unwrap().as_str(), "sandbox");
}

#[tokio::test]
async fn a_route_is_no_way_past_what_holds_where_it_leads() {
    let plane = plane(Speaks::Both, ROUTE).await;
    let client = client(&plane, Era::Modern).await;
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    // A forbid that names nothing but the upstream it leads to.
    let closed = r#"@id("closed") @reason("Not there.")
        forbid (principal, action in Action::"sandbox", resource);"#;
    plane.activate(&format!("{ROUTE}{closed}")).await.unwrap();
    denied(
        &plane,
        &client,
        "anything",
        ANY,
        "where it is denied: Not there.",
    )
    .await;
    plane.activate(ROUTE).await.unwrap();
    // It is cut off.
    let kill = |undo: bool| Some(json!({"upstream": "sandbox", "undo": undo}));
    plane.admin("POST", "/v1/kill", kill(false)).await;
    denied(&plane, &client, "anything", ANY, "stopped").await;
    plane.admin("POST", "/v1/kill", kill(true)).await;
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    // Its tool is another, which nobody accepted; then it is gone.
    let sandbox = plane.upstream("sandbox");
    let mut tools = sandbox.tools();
    tools.retain(|tool| tool["name"] != "fetch");
    for tool in &mut tools {
        if tool["name"] == "anything" {
            tool["description"] = json!("Something else.");
        }
    }
    sandbox.set_tools(tools);
    plane.refresh("sandbox").await.unwrap();
    denied(&plane, &client, "anything", ANY, "accepted").await;
    let url = r#"{"url":"https://example.com/"}"#;
    denied(&plane, &client, "fetch", url, "no tool `fetch`").await;
    // The upstream that was asked is cut off.
    plane
        .admin("POST", "/v1/kill", Some(json!({"upstream": "files"})))
        .await;
    let reply = client.call("refund", r#"{"order":"A","amount":1}"#).await;
    assert_ne!(reply.effect(), "allow", "{}", reply.json);
    plane.end().await;
}

#[tokio::test]
async fn arguments_have_to_fit_where_they_go() {
    let sandbox = Upstream::start(Speaks::Both).await;
    let narrow = json!([{"name": "anything", "description": "Narrow.",
        "inputSchema": {"type": "object", "properties": {"m": {"type": "integer"}}}}]);
    sandbox.set_tools(narrow.as_array().unwrap().clone());
    let files = Upstream::start(Speaks::Both).await;
    let plane = plane_with(&files, &sandbox, ROUTE).await;
    let client = client(&plane, Era::Modern).await;
    denied(&plane, &client, "anything", ANY, "`n`").await;
    assert_eq!(
        client.call("anything", r#"{"m":1}"#).await.effect(),
        "allow"
    );
    plane.end().await;
}

#[tokio::test]
async fn an_allow_list_is_the_most_an_agent_may_ever_do_wherever_it_is_sent() {
    let plane = plane(Speaks::Both, ROUTE).await;
    let agent = plane
        .register("capped", json!({"allow": ["files/*"]}))
        .await;
    let client = Client::new(&agent.token("files").await, Era::Modern).await;
    denied(&plane, &client, "anything", ANY, "sandbox").await;
    plane.end().await;
}

#[tokio::test]
async fn what_nobody_reaches_is_said_under_the_name_that_was_asked() {
    let mut plane = plane(Speaks::Both, ROUTE).await;
    let agent = plane.agent("triage").await;
    let old = Client::new(&agent.token("files").await, Era::Legacy).await;
    assert_eq!(old.call("anything", ANY).await.effect(), "allow");
    plane
        .upstream("sandbox")
        .script("anything", Script::Http(502, ""));
    let reply = old.call("anything", ANY).await;
    assert!(
        reply.is_error() && reply.said().contains("`files`"),
        "{}",
        reply.json
    );
    assert!(!reply.said().contains("sandbox"), "{}", reply.said());
    // Of what was known before a start nobody knows whether it is so yet.
    plane.reconfigure(|setup| setup.upstream("sandbox", &Upstream::nobody(), ""));
    plane.restart().await;
    let new = Client::new(&agent.token("files").await, Era::Modern).await;
    let reply = new.call("anything", ANY).await;
    assert_eq!(reply.effect(), "deny", "{}", reply.json);
    let why = "The tools of `sandbox` could not be read since this node started.";
    assert!(reply.said().contains(why), "{}", reply.said());
    plane.end().await;
}

#[tokio::test]
async fn what_comes_back_is_decided_by_what_holds_where_it_came_from() {
    let policies = r#"
        @id("try") @route("sandbox") permit (principal, action in Action::"files", resource)
        when { context.direction == "request" };
        @id("no-mail") @reason("No mail from there.")
        forbid (principal, action in Action::"sandbox", resource)
        when { context.findings.contains("personal") && context.direction == "response" };
        @id("keys") @mask("secret") forbid (principal, action in Action::"sandbox", resource)
        when { context.findings.contains("secret") && context.direction == "response" };
    "#;
    let plane = plane(Speaks::Both, policies).await;
    let client = client(&plane, Era::Modern).await;
    let sandbox = plane.upstream("sandbox");
    let says = |text: &str| {
        let result = json!({"resultType": "complete",
            "content": [{"type": "text", "text": text}]});
        sandbox.script("anything", Script::Result(result.to_string()));
    };
    says("maya@acme.example");
    let reply = client.call("anything", ANY).await;
    assert!(
        reply.said().contains("No mail from there."),
        "{}",
        reply.json
    );
    let outcome = plane.calls().outcome(reply.record().unwrap()).unwrap();
    assert_eq!(outcome.response.unwrap().done, Done::Withheld);
    let key = concat!("AKIA", "Q3EGRIQ7TKLMWZ2B");
    says(key);
    let reply = client.call("anything", ANY).await;
    assert!(
        reply.said().contains("masked") && !reply.said().contains(key),
        "{}",
        reply.json
    );
    plane.end().await;
}

const HELD: &str = r#"
@id("try") @route("sandbox") @approval("noor")
permit (principal, action in Action::"files", resource) when { context has approval };
"#;

#[tokio::test]
async fn an_approval_says_where_the_call_goes_and_is_for_that_alone() {
    let plane = plane(Speaks::Both, HELD).await;
    let client = client(&plane, Era::Modern).await;
    let held = client.call("anything", ANY).await;
    assert_eq!(held.effect(), "hold", "{}", held.json);
    let decision = plane.calls().decision(held.record().unwrap());
    assert_eq!(decision.routed_to.unwrap().as_str(), "sandbox");
    let shown = asked(&plane).request.known().unwrap().shown.clone();
    let line = "\nGoes to: sandbox, in place of files: policy sends it there\n";
    assert!(shown.contains(line), "{shown}");
    answers(&plane, "noor", true).await;
    let done = client.call("anything", ANY).await;
    assert_eq!(done.effect(), "allow", "{}", done.json);
    assert_eq!(
        (plane.files().calls(), plane.upstream("sandbox").calls()),
        (0, 1)
    );
    assert_eq!(
        client.call("anything", ANY).await.effect(),
        "hold",
        "it was used"
    );
    // What the tools are there is part of what was shown.
    let first = asked(&plane).id;
    answers(&plane, "noor", true).await;
    let sandbox = plane.upstream("sandbox");
    let mut tools = sandbox.tools();
    tools.push(json!({"name": "more", "description": "More.", "inputSchema": {"type": "object"}}));
    sandbox.set_tools(tools);
    plane.refresh("sandbox").await.unwrap();
    let again = client.call("anything", ANY).await;
    assert_eq!(again.effect(), "hold", "{}", again.json);
    assert_ne!(asked(&plane).id, first);
    assert_eq!((plane.files().calls(), sandbox.calls()), (0, 1));
    plane.end().await;
}

#[tokio::test]
async fn a_cut_of_where_it_went_ends_a_call_under_way() {
    let mut plane = plane(Speaks::Both, ROUTE).await;
    let client = client(&plane, Era::Modern).await;
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    let sandbox = plane.upstream("sandbox").clone();
    sandbox.script("anything", Script::Hang);
    let hanging = client.spawn_call("anything", ANY);
    sandbox.until_under_way(1).await;
    let kill = |undo: bool| Some(json!({"upstream": "sandbox", "undo": undo}));
    plane.admin("POST", "/v1/kill", kill(false)).await;
    let reply = hanging.await.unwrap();
    assert!(reply.said().contains("may not act"), "{}", reply.json);
    plane.admin("POST", "/v1/kill", kill(true)).await;
    // What was under way when the node ended is put on record with where it went.
    let hanging = client.spawn_call("anything", ANY);
    until("it is under way", async || sandbox.under_way() > 0).await;
    plane.kill();
    hanging.abort();
    plane.boot().await.unwrap();
    let calls = plane.calls();
    let last = calls
        .calls
        .iter()
        .rev()
        .find(|line| line.kind == ledger::Kind::Outcome);
    let outcome: gateway::record::OutcomeBody = last.unwrap().read();
    assert_eq!(outcome.cause.as_deref(), Some("node-ended"));
    assert_eq!(outcome.routed_to.unwrap().as_str(), "sandbox");
    plane.end().await;
}

#[tokio::test]
async fn a_server_that_was_routed_to_asks_no_client_of_another() {
    let plane = plane(Speaks::Legacy, ROUTE).await;
    let client = client(&plane, Era::Legacy).await;
    let params =
        r#"{"message":"Who are you?","requestedSchema":{"type":"object","properties":{}}}"#;
    let sandbox = plane.upstream("sandbox");
    sandbox.script("anything", Script::Ask("elicitation/create", params));
    let reply = client.call("anything", ANY).await;
    let said: Value = reply.json.clone();
    assert!(said.to_string().contains("cannot be asked"), "{said}");
    plane.end().await;
}
