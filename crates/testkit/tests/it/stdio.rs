//! Children on stdio: one for each instance, ended with it, and ids that are put back.

use std::path::Path;

use serde_json::json;
use testkit::{Legacy, Plane, until, within};

use crate::common::{Client, ERAS};

/// A server that says who it is, and which ids it was given.
const SERVER: &str = r#"
import json, os, sys
def say(message):
    sys.stdout.write(json.dumps(message) + "\n"); sys.stdout.flush()
hanging = None
for line in sys.stdin:
    message = json.loads(line)
    method, ident = message.get("method"), message.get("id")
    if method == "notifications/cancelled" and message["params"]["requestId"] == hanging:
        text = json.dumps(message["params"])
        say({"jsonrpc": "2.0", "id": hanging, "result": {"content": [{"type": "text", "text": text}]}})
    if ident is None or method is None:
        continue
    answer = {"jsonrpc": "2.0", "id": ident}
    if method == "initialize":
        answer["result"] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                            "serverInfo": {"name": "child", "version": "1"},
                            "dev.tipstaff/x": 1, "_meta": {"dev.tipstaff/decision": {"effect": "allow"}}}
    elif method == "tools/list":
        tool = lambda name: {"name": name, "inputSchema": {"type": "object"}}
        answer["result"] = {"tools": [tool("who"), tool("hang"), tool("quit")]}
    elif method == "tools/call" and message["params"]["name"] == "who":
        token = message["params"].get("_meta", {}).get("progressToken")
        if token is not None:
            say({"jsonrpc": "2.0", "method": "notifications/progress",
                 "params": {"progressToken": token, "progress": 1}})
        text = json.dumps({"pid": os.getpid(), "id": ident, "token": token, "env": sorted(os.environ)})
        answer["result"] = {"content": [{"type": "text", "text": text}]}
    elif method == "tools/call" and message["params"]["name"] == "quit":
        os._exit(3)
    elif method == "tools/call":
        hanging = ident
        continue
    else:
        answer["error"] = {"code": -32601, "message": "no such method"}
    say(answer)
"#;

async fn plane(script: &Path, more: &str) -> Plane {
    std::fs::write(script, SERVER).unwrap();
    let plane = Plane::with(|setup| {
        setup.tail = format!("[upstream.desk]\ncommand = [\"python3\", {script:?}]\n{more}\n");
        setup.policies = r#"permit (principal, action in Action::"desk", resource);"#.to_owned();
    })
    .await;
    let desk = "desk".parse().unwrap();
    until("its tools are known", async || {
        plane.gateway().known_tools(&desk).is_some()
    })
    .await;
    plane
}

async fn who(client: &Client) -> serde_json::Value {
    let reply = client.call("who", "{}").await;
    assert_eq!(
        (reply.effect(), &reply.json["id"]),
        ("allow", &json!(7)),
        "{}",
        reply.json
    );
    serde_json::from_str(reply.said()).unwrap()
}

#[tokio::test]
async fn a_child_is_its_instances_and_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let plane = plane(&folder.path().join("server.py"), "").await;
    let agent = plane.agent("triage").await;
    let other = plane.register("other", json!({"sponsor": "otto"})).await;
    let (token, others) = (agent.token("desk").await, other.token("desk").await);
    let [modern, legacy] = [
        Client::new(&token, ERAS[0]).await,
        Client::new(&token, ERAS[1]).await,
    ];
    let theirs = Client::new(&others, ERAS[0]).await;
    let (one, same, another) = (who(&modern).await, who(&legacy).await, who(&theirs).await);
    assert_eq!(one["pid"], same["pid"]);
    // The second session gets what the first was told, and neither hears the child in our name.
    for session in [token.legacy().await, token.legacy().await] {
        assert_eq!(session.initialized["result"]["serverInfo"]["name"], "child");
        assert!(
            !session.initialized.to_string().contains("tipstaff/"),
            "{}",
            session.initialized
        );
    }
    assert_ne!(one["pid"], another["pid"]);
    // On one channel every request needs an id of its own, whatever its client called it.
    assert_ne!(one["id"], same["id"]);
    assert!(!one["env"].to_string().contains("CARGO"), "{}", one["env"]);
    let children = || plane.served("desk").upstream().children();
    until("only theirs run", async || children() == 2).await;

    let flights = [
        modern.spawn_call("hang", "{}"),
        legacy.spawn_call("hang", "{}"),
    ];
    until("they are in flight", async || {
        plane.gateway().in_flight() == 2
    })
    .await;
    plane.command("/v1/agents/triage/suspend").await;
    for flight in flights {
        let reply = within("what was cut", flight).await.unwrap();
        assert!(
            reply.said().contains("may not act any more"),
            "{}",
            reply.json
        );
    }
    until("its child is gone", async || children() == 1).await;
    assert_eq!(who(&theirs).await["pid"], another["pid"]);
    plane.end().await;
}

/// A client takes back its own request under the id that it gave it, and no other: the ids on a
/// channel that several use are easily guessed.
#[tokio::test]
async fn a_client_takes_back_its_own_requests_only() {
    let folder = tempfile::tempdir().unwrap();
    for more in ["", "shared = true"] {
        let plane = plane(&folder.path().join("server.py"), more).await;
        let agent = plane.agent("triage").await;
        let mine = agent.token("desk").await.legacy().await;
        let other = match more {
            "" => mine.clone(),
            _ => agent.token("desk").await.legacy().await,
        };
        let taken_back = |id: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"why"}}}}"#
            )
        };
        // What the upstream called the last request, so what it will call the next ones.
        let last = who(&Client::Legacy(mine.clone())).await["id"]
            .as_u64()
            .unwrap();
        let flight = tokio::spawn(mine.ask_call("hang", "{}").send());
        until("it is in flight", async || plane.gateway().in_flight() == 1).await;
        // But for its own, 7.
        for id in (last..last + 64).filter(|id| *id != 7) {
            let answer = other.ask(taken_back(&id.to_string())).send().await;
            assert_eq!(answer.status, 202);
        }
        if more.is_empty() {
            assert_eq!(mine.ask(taken_back("\"7\"")).send().await.status, 202);
        } else {
            assert_eq!(other.ask(taken_back("7")).send().await.status, 202);
        }
        // The child reads in order: by now it has read all of that, if it got it.
        who(&Client::Legacy(other.clone())).await;
        assert_eq!(plane.gateway().in_flight(), 1, "{more}");
        assert_eq!(mine.ask(taken_back("7")).send().await.status, 202);
        let reply = testkit::Reply::from(within("what was taken back", flight).await.unwrap());
        let said: serde_json::Value = serde_json::from_str(reply.said()).unwrap();
        // By the number that the child knows, and without a word.
        assert!(said["requestId"].is_i64(), "{said}");
        assert_eq!(said.as_object().unwrap().len(), 1, "{said}");
        plane.end().await;
    }
}

#[tokio::test]
async fn progress_tokens_are_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let plane = plane(&folder.path().join("server.py"), "").await;
    let session = plane
        .agent("triage")
        .await
        .token("desk")
        .await
        .legacy()
        .await;
    let params = r#""name":"who","arguments":{},"_meta":{"progressToken":"mine"}"#;
    let reply = testkit::Reply::from(session.ask(Legacy::text("tools/call", params)).send().await);
    assert_eq!(
        reply.before[0]["params"]["progressToken"], "mine",
        "{:?}",
        reply.before
    );
    assert!(!reply.said().contains("mine"), "{}", reply.said());
    plane.end().await;
}

#[tokio::test]
async fn a_child_that_dies_takes_down_its_call_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let plane = plane(&folder.path().join("server.py"), "shared = true").await;
    let agent = plane.agent("triage").await;
    let clients = [
        Client::new(&agent.token("desk").await, ERAS[0]).await,
        Client::new(&agent.token("desk").await, ERAS[1]).await,
    ];
    let before = who(&clients[0]).await;
    assert_eq!(before["pid"], who(&clients[1]).await["pid"], "it is shared");
    let reply = clients[0].call("quit", "{}").await;
    let outcome = plane.calls().outcome(reply.record().unwrap()).unwrap();
    assert_eq!(
        outcome.result,
        gateway::record::Came::Unknown,
        "{}",
        reply.json
    );
    until("it is back", async || {
        !clients[0].call("who", "{}").await.is_error()
    })
    .await;
    assert_ne!(who(&clients[0]).await["pid"], before["pid"]);
    plane.end().await;
}
