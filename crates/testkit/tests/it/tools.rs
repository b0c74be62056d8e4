//! What the node knows of an upstream's tools, and does with it.

use serde_json::json;
use testkit::{Plane, Speaks, Upstream};

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
