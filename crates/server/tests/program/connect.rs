//! `tipstaff connect`: an instance lives as long as its client, and no longer than it may.

use serde_json::json;

use crate::node::{Client, Node, within};

/// A server with one tool.
const SERVER: &str = r#"
[upstream.desk]
command = ["python3", "-c", """
import json, sys
for line in sys.stdin:
    it = json.loads(line)
    if it.get("params", {}).get("name") == "brood":
        continue
    result = {"resultType": "complete", "supportedVersions": ["2026-07-28"], "content": [],
              "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "public",
              "tools": [{"name": name, "inputSchema": {"type": "object"}}
                        for name in ("tell", "brood")]}
    print(json.dumps({"jsonrpc": "2.0", "id": it["id"], "result": result}), flush=True)
"""]
"#;

async fn tell(client: &mut Client) {
    let answer = client.call("tell", json!({})).await;
    let decision = &answer["result"]["_meta"]["dev.tipstaff/decision"];
    assert_eq!(decision["effect"], "allow", "{answer}");
}

#[tokio::test]
async fn an_instance_ends_with_its_client() {
    let node = Node::start(SERVER).await;
    let mut client = node.connect("desk");
    tell(&mut client).await;
    let instance = node.instance().await;
    let (status, said) = client.close().await;
    assert_eq!(status, Some(0), "{said}");
    let seen = node.folder.json(&["instance", "show", &instance]).await;
    assert_eq!(seen["status"], "ended", "{seen}");
    let live = node.folder.json(&["instance", "list", "--live"]).await;
    assert_eq!(live, json!([]));
    let exported = node
        .folder
        .run(&["ledger", "export", "--log", "control"])
        .await;
    let ended = exported.lines().find(|it| it.contains("instance-ended"));
    assert!(ended.unwrap().contains(r#""reason":"closed""#), "{ended:?}");
    let calls = node.folder.run(&["ledger", "export", "--log", "calls"]);
    assert!(calls.await.contains(r#""cause":"instance-ended""#));
}

#[tokio::test]
async fn an_instance_that_was_revoked_ends_its_client() {
    let node = Node::start(SERVER).await;
    let mut client = node.connect("desk");
    tell(&mut client).await;
    let instance = node.instance().await;
    node.folder.run(&["instance", "revoke", &instance]).await;
    let answer = client.call("tell", json!({})).await;
    let text = answer["error"]["message"].as_str().unwrap();
    assert!(text.contains("ended by an administrator"), "{answer}");
    let (status, said) = client.end().await;
    assert_eq!(status, Some(1));
    assert!(said.contains("ended by an administrator"), "{said}");
    let all = node.folder.json(&["instance", "list"]).await;
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
}

#[tokio::test]
async fn a_client_of_somebody_suspended_is_told_so() {
    for (suspend, why) in [
        (
            ["agent", "suspend", "triage"],
            "agent `triage` is suspended",
        ),
        (["sponsor", "suspend", "maya"], "its sponsor is not active"),
    ] {
        let node = Node::start(SERVER).await;
        let mut before = node.connect("desk");
        tell(&mut before).await;
        node.folder.run(&suspend).await;
        let mut after = node.connect("desk");
        for client in [&mut before, &mut after] {
            let answer = client.call("tell", json!({})).await;
            let text = answer["error"]["message"].as_str().unwrap();
            assert!(text.contains(why), "{suspend:?}: {answer}");
        }
        let (status, said) = after.end().await;
        assert_eq!(status, Some(1));
        assert!(said.contains(why), "{said}");
        let [what, _, who] = suspend;
        node.folder.run(&[what, "resume", who]).await;
        tell(&mut before).await;
    }
}

/// It is told at the moment of the cut, whatever its client does.
#[tokio::test]
async fn a_client_that_is_idle_hears_of_a_suspension_at_once() {
    let node = Node::start(SERVER).await;
    let mut client = node.connect("desk");
    tell(&mut client).await;
    for (what, who, why) in [
        ("agent", "triage", "the agent is suspended"),
        ("sponsor", "maya", "the agent's sponsor is suspended"),
    ] {
        node.folder.run(&[what, "suspend", who]).await;
        client.says(why).await;
        node.folder.run(&[what, "resume", who]).await;
        // It goes on when it is let in again, and is told of the next.
        tell(&mut client).await;
    }
    // What it waits for is answered with the cause, too.
    client.begin("brood").await;
    within("the call to be permitted", async {
        let export = ["ledger", "export", "--log", "calls"];
        while !node.folder.run(&export).await.contains("brood") {}
    })
    .await;
    node.folder.run(&["agent", "suspend", "triage"]).await;
    let answer = client.answer().await.unwrap();
    let text = answer.to_string();
    assert!(text.contains("the agent is suspended"), "{answer}");
    client.says("the agent is suspended").await;
    let (status, said) = client.close().await;
    assert_eq!(status, Some(0), "{said}");
}

#[tokio::test]
async fn a_client_that_is_idle_ends_with_its_instance() {
    let node = Node::start(SERVER).await;
    let mut client = node.connect("desk");
    tell(&mut client).await;
    let instance = node.instance().await;
    node.folder.run(&["instance", "revoke", &instance]).await;
    client.says("the instance was ended").await;
    let (status, said) = client.close().await;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("ended by an administrator"), "{said}");
}
