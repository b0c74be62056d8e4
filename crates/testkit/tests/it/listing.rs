//! Listings: filtered to what the caller could be permitted, on record, and judged anew when an
//! upstream lists something else.

use gateway::record::ListingBody;
use ledger::Kind;
use mcp::Era;
use serde_json::{Value, json};
use testkit::{Plane, Reply, Script, Speaks, Upstream, until};

use crate::common::{ANY, Client, ERAS, PUBLIC};

#[tokio::test]
async fn a_caller_sees_what_it_could_be_permitted() {
    let plane = Plane::start().await;
    let triage = plane.agent("triage").await;
    let other = plane.agent("other").await;
    let narrow = plane
        .register(
            "narrow",
            json!({"purposes": ["triage"], "allow": ["files/fetch"]}),
        )
        .await;
    let all: &[&str] = &["read_text_file", "fetch", "refund", "anything"];
    for era in ERAS {
        for (agent, tools, resources, templates, prompts) in [
            (&triage, all, 2, 1, 2),
            (&other, &["anything"][..], 0, 0, 0),
            (&narrow, &[][..], 0, 0, 0),
        ] {
            let client = Client::new(&agent.token("files").await, era).await;
            for (method, list, expected, listed) in [
                ("tools/list", "tools", tools.len(), 6),
                ("resources/list", "resources", resources, 2),
                (
                    "resources/templates/list",
                    "resourceTemplates",
                    templates,
                    1,
                ),
                ("prompts/list", "prompts", prompts, 2),
            ] {
                let reply = client.request(method, None, "").await;
                let shown = reply.names(list);
                assert_eq!(
                    shown.len(),
                    expected,
                    "{} {method}: {}",
                    agent.id(),
                    reply.json
                );
                if list == "tools" {
                    assert_eq!(shown, tools, "{}", agent.id());
                }
                if era == Era::Modern {
                    // What is shown depends on who asks and on the policy of this moment.
                    assert_eq!(reply.result()["ttlMs"], 0, "{}", reply.json);
                    assert_eq!(reply.result()["cacheScope"], "private", "{}", reply.json);
                }
                let ledger = plane.calls();
                let body: ListingBody = ledger.last(Kind::Listing).read();
                assert_eq!(
                    (&*body.method, body.listed, body.shown),
                    (method, listed, expected as u64)
                );
            }
            // What is hidden is denied, not missing, and the session goes on.
            let reply = client.call("secret_tool", "{}").await;
            assert_eq!(reply.effect(), "deny", "{}", reply.json);
            assert!(!reply.said().contains("no tool"), "{}", reply.json);
            assert!(!client.request("tools/list", None, "").await.is_error());
        }
    }
    plane.end().await;
}

#[tokio::test]
async fn a_listing_passes_what_it_does_not_know() {
    let plane = Plane::start().await;
    let mut tools = plane.files().tools();
    tools[0]["annotations"] = json!({"readOnlyHint": true, "x": 1.5});
    tools[0]["icons"] = json!([{"src": "data:,"}]);
    plane.files().set_tools(tools.clone());
    plane.refresh("files").await.unwrap();
    plane.accept("files").await;
    let client = plane.agent("triage").await.token("files").await.modern();
    let reply = client.request("tools/list").await;
    assert_eq!(reply.result()["tools"][0], tools[0]);
    plane.end().await;
}

/// The tools with one changed.
fn changed(tools: &[Value], name: &str, change: impl Fn(&mut Value)) -> Vec<Value> {
    let mut tools = tools.to_vec();
    change(tools.iter_mut().find(|tool| tool["name"] == name).unwrap());
    tools
}

#[tokio::test]
async fn a_changed_tool_list_disables_only_what_names_it() {
    let notes = Upstream::start(Speaks::Both).await;
    let plane = Plane::with(|setup| {
        setup.upstream("notes", &notes, "");
        setup.policies.push_str(r#"permit (principal, action == Action::"notes/refund", resource) when { context.args.amount < 5 };"#);
    })
    .await;
    let agent = plane.agent("triage").await;
    let client = agent.token("files").await.modern();
    let elsewhere = agent.token("notes").await.modern();
    let stage = |reply: &Reply| plane.calls().decision(reply.record().unwrap()).stage;
    let refund = r#"{"order":"A","amount":1}"#;
    let check = async |tool: &str, arguments: &str, expected: Option<&str>| {
        let reply = client.call(tool, arguments).await;
        assert_eq!(stage(&reply).as_deref(), expected, "{tool}: {}", reply.json);
    };
    let tools = plane.files().tools();
    let relist = async |tools: Vec<Value>| {
        plane.files().set_tools(tools);
        plane.refresh("files").await.unwrap();
        plane.accept("files").await;
    };
    let listed = plane.ledger().of(Kind::ToolsListed).len();

    // A permit's argument is gone: the permit is off.
    relist(changed(&tools, "refund", |tool| {
        tool["inputSchema"]["properties"]["amount"] = Value::Null;
        tool["inputSchema"]["properties"]
            .as_object_mut()
            .unwrap()
            .remove("amount");
        tool["inputSchema"]["properties"]["cents"] = json!({"type": "integer"});
        tool["inputSchema"]["required"] = json!(["order"]);
    }))
    .await;
    check("refund", r#"{"order":"A","cents":1}"#, Some("policy")).await;
    check("read_text_file", PUBLIC, None).await;
    check("anything", ANY, None).await;
    assert_eq!(
        elsewhere.call("refund", refund).await.effect(),
        "allow",
        "the other upstream is as before"
    );

    // A forbid's argument is gone: it cannot be judged, so what it is about is denied.
    relist(changed(&tools, "read_text_file", |tool| {
        tool["inputSchema"] = json!({"type": "object", "properties": {"file": {"type": "string"}}});
    }))
    .await;
    check(
        "read_text_file",
        r#"{"file":"/public/a"}"#,
        Some("policy-unavailable"),
    )
    .await;
    check("refund", refund, None).await;
    assert!(
        !client
            .request("tools/list")
            .await
            .names("tools")
            .contains(&"read_text_file".to_owned())
    );

    // A tool is gone, another is new.
    let mut fewer = tools.clone();
    fewer.retain(|tool| tool["name"] != "fetch");
    fewer.push(json!({"name": "brand_new", "inputSchema": {"type": "object"}}));
    relist(fewer).await;
    check(
        "fetch",
        r#"{"url":"https://docs.example/a"}"#,
        Some("unknown-tool"),
    )
    .await;
    check("brand_new", "{}", Some("policy")).await;
    check("refund", refund, None).await;

    // What it lists cannot be read: what was known stays.
    plane
        .files()
        .set_tools(vec![json!({"name": "x".repeat(5 * 1024 * 1024)})]);
    plane.refresh("files").await.unwrap_err();
    check("refund", refund, None).await;

    relist(tools.clone()).await;
    check("fetch", r#"{"url":"https://docs.example/a"}"#, None).await;
    check("read_text_file", PUBLIC, None).await;
    let ledger = plane.ledger();
    assert_eq!(
        ledger.of(Kind::ToolsListed).len(),
        listed + 4,
        "each list is on record"
    );
    assert_eq!(plane.files().calls_by_tool().get("fetch"), Some(&1));
    plane.end().await;
}

#[tokio::test]
async fn a_tool_that_nobody_knew_is_asked_about() {
    let plane = Plane::start().await;
    let mut tools = plane.files().tools();
    tools.push(json!({"name": "brand_new", "inputSchema": {"type": "object"}}));
    plane.files().set_tools(tools);
    let client = plane.agent("triage").await.token("files").await.modern();
    let upstream = "files".parse().unwrap();
    let known = || {
        plane
            .gateway()
            .known_tools(&upstream)
            .unwrap()
            .1
            .list()
            .len()
    };
    assert_eq!(known(), 6);
    client.request("tools/list").await;
    until("the new tool is known", async || known() == 7).await;
    assert_eq!(plane.ledger().last(Kind::ToolsListed).body["count"], 7);
    plane.end().await;
}

#[tokio::test]
async fn a_denied_call_does_not_look_like_a_missing_one_and_ends_nothing() {
    let plane = Plane::with(|setup| setup.limits = "same_denials = 0".to_owned()).await;
    plane.files().script("anything", Script::Echo);
    let token = plane.agent("triage").await.token("files").await;
    let session = token.legacy().await;
    for era in ERAS {
        let client = match era {
            Era::Modern => Client::Modern(token.modern()),
            Era::Legacy => Client::Legacy(session.clone()),
        };
        let secret = "file:///secret/b.txt";
        let params = format!(r#""uri":"{secret}""#);
        for _ in 0..3 {
            let denied = client
                .request("resources/read", Some(secret), &params)
                .await;
            assert_eq!(
                (denied.status.as_u16(), denied.effect()),
                (200, "deny"),
                "{}",
                denied.json
            );
            assert_eq!(crate::common::code(&denied.json), 7403, "{}", denied.json);
            let denied = client.call("secret_tool", "{}").await;
            assert_eq!(denied.result()["isError"], true);
        }
        let allowed = "file:///public/a.txt";
        let params = format!(r#""uri":"{allowed}""#);
        let reply = client
            .request("resources/read", Some(allowed), &params)
            .await;
        assert_eq!(
            reply.result()["contents"][0]["text"],
            "the text",
            "{}",
            reply.json
        );
        assert_eq!(reply.effect(), "allow");
    }
    plane.end().await;
}
