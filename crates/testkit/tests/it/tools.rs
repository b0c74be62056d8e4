//! What the node knows of an upstream's tools, and does with it.

use serde_json::json;
use testkit::{Plane, Script, Speaks, Upstream, until};

#[tokio::test]
async fn arguments_are_mirrored_for_a_client_that_knows_no_headers() {
    let files = Upstream::start(Speaks::Modern).await;
    files.set_tools(vec![json!({"name": "anything", "inputSchema": {
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "count": {"type": "integer", "x-mcp-header": "Count"},
            "note": {"type": "string"},
        },
    }})]);
    let policies = r#"@id("all") permit (principal, action, resource);"#;
    let plane = Plane::with(|setup| {
        setup.upstream("files", &files, "");
        setup.policies = policies.to_owned();
    });
    let plane = plane.await;
    let token = plane.agent("triage").await.token("files").await;
    let arguments = r#"{"region":"eu-west-1","count":7,"note":"mine"}"#;
    let reply = token.legacy().await.call("anything", arguments).await;
    assert_eq!(reply.effect(), "allow", "{}", reply.json);

    let sent = files.last_call();
    let header = |name: &str| sent.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header("mcp-param-region"), Some("eu-west-1"));
    assert_eq!(header("mcp-param-count"), Some("7"));
    assert_eq!(header("mcp-param-note"), None);
    assert_eq!(header("mcp-name"), Some("anything"));
    assert_eq!(sent.param("arguments").as_deref(), Some(arguments));
    plane.end().await;
}

#[tokio::test]
async fn a_listing_that_declares_a_tool_otherwise_has_the_tools_read_again() {
    let plane = Plane::start().await;
    plane.tools_known().await;
    plane.files().script("refund", Script::Echo);
    let client = plane.agent("triage").await.token("files").await;
    let client = client.legacy().await;
    let dear = r#"{"order":"a","total":7}"#;
    let reply = client.call("refund", dear).await;
    assert!(
        reply.said().contains("takes no argument `total`"),
        "{}",
        reply.json
    );
    // Without a word from the upstream that its list changed.
    let mut tools = plane.files().tools();
    for tool in &mut tools {
        if tool["name"] == "refund" {
            tool["inputSchema"]["properties"]["total"] = json!({"type": "integer"});
            tool["inputSchema"]["required"] = json!(["order"]);
        }
    }
    plane.files().set_tools(tools);
    let files = "files".parse().unwrap();
    let known = || plane.gateway().known_tools(&files).unwrap().0;
    let before = known();
    client.request("tools/list", "").await;
    until("the tools are read again", async || known() != before).await;
    plane.accept("files").await;
    let reply = client.call("refund", dear).await;
    assert!(!reply.said().contains("total"), "{}", reply.json);
    // The same list again is no news.
    let asked = || plane.files().seen_of("tools/list").len();
    let before = asked();
    client.request("tools/list", "").await;
    assert_eq!(asked(), before + 1);
    plane.end().await;
}
