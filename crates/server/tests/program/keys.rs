//! `docs/operating/keys.md`, step by step: each kind of key lost, and each leaked.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::commands::help_desk;
use crate::node::{Folder, Node, within};
use crate::witness::Witness;

/// Every section of the page has a test here.
#[test]
fn every_kind_has_a_section() {
    let page = include_str!("../../../../docs/operating/keys.md");
    let sections: Vec<_> = page
        .lines()
        .filter_map(|it| it.strip_prefix("## "))
        .collect();
    assert_eq!(
        sections,
        [
            "Token key",
            "Log key",
            "Wrapping key",
            "Agent's key",
            "Administrator's credential",
            "SCIM token",
            "Witness's key"
        ]
    );
    let told = page.matches("**Lost**").count() + page.matches("**Lost.**").count();
    assert_eq!(told, sections.len(), "what to do when it is lost");
    let told = page.to_lowercase().matches("**leaked").count();
    assert_eq!(told, sections.len(), "what to do when it has leaked");
}

async fn fails(folder: &Folder, arguments: &[&str], why: &str) {
    let output = folder.output(arguments).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains(why),
        "{arguments:?}: {said}"
    );
}

/// The node does not start, and says why.
async fn does_not_start(folder: &Folder, why: &str) {
    fails(folder, &["up", "--listen", "127.0.0.1:0"], why).await;
}

/// Asks for a token with a key file; `Err` is what the endpoint said.
async fn ask(folder: &Folder, key: &Path) -> Result<Value, Value> {
    let who = ["token", "--agent", "triage", "--key", key.to_str().unwrap()];
    let what = ["--purpose", "triage", "--upstream", "desk"];
    let output = folder.output(&[&who[..], &what[..]].concat()).await;
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    if output.status.success() {
        Ok(said)
    } else {
        Err(said)
    }
}

async fn key_that_is(folder: &Folder, status: &str) -> String {
    let keys = folder.json(&["keys", "list"]).await;
    let mut keys = keys.as_array().unwrap().iter();
    let found = keys.find(|key| key["status"] == status).unwrap();
    found["id"].as_str().unwrap().to_owned()
}

async fn verified(folder: &Folder, more: &[&str]) -> bool {
    let verify = folder.output(&[&["ledger", "verify"], more].concat()).await;
    verify.status.success()
}

#[tokio::test]
async fn a_token_key_lost_and_leaked() {
    let node = Node::start(&help_desk()).await;
    let before = node.folder.key();
    ask(&node.folder, &before).await.unwrap();
    let folder = node.stop().await;
    let file = folder.node("keys/token.key");
    let old = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    does_not_start(&folder, "token.key").await;
    folder.run(&["keys", "rotate", "token"]).await;
    let node = Node::up(folder, &[]).await;
    ask(&node.folder, &before).await.unwrap();
    // One that is put back does not sign again.
    let folder = node.stop().await;
    fs::write(&file, old).unwrap();
    does_not_start(&folder, "keys rotate token").await;
    folder.run(&["keys", "rotate", "token"]).await;
    let node = Node::up(folder, &[]).await;
    // Leaked, with the whole folder: the announced one first, then the one that signs.
    let folder = &node.folder;
    let mut client = node.connect("desk");
    client.call("read-article", json!({"path": "/a"})).await;
    for status in ["announced", "current"] {
        let leaked = key_that_is(folder, status).await;
        let told = folder.run(&["keys", "revoke", &leaked]).await;
        assert!(told.contains("is now compromised (on record as"), "{told}");
        assert_ne!(key_that_is(folder, status).await, leaked);
    }
    fails(folder, &["keys", "revoke", "nonsense"], "no token key").await;
    // The agent goes on with a token that it got by itself.
    client.call("read-article", json!({"path": "/a"})).await;
    let exported = folder.run(&["ledger", "export", "--log", "calls"]).await;
    assert!(exported.contains("token-key-revoked"));
    drop(client);
    let folder = node.stop().await;
    assert!(verified(&folder, &[]).await);
}

#[tokio::test]
async fn a_log_key_lost_and_leaked() {
    let folder = Folder::new(&help_desk()).await;
    let config = fs::read_to_string(folder.config()).unwrap();
    let config = config.replacen("[ledger]\n", "[ledger]\nanchor = \"../beside/anchor\"\n", 1);
    fs::write(folder.config(), config).unwrap();
    let node = Node::up(folder, &[]).await;
    let folder = node.stop().await;
    let file = folder.node("keys/control.skey");
    let key = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    does_not_start(&folder, "control.skey").await;
    // From its backup.
    fs::write(&file, key).unwrap();
    let node = Node::up(folder, &[]).await;
    let folder = node.stop().await;
    // Without one, or leaked: held against what was anchored, kept, and another node begun.
    let anchor = folder.beside("anchor");
    let anchor = anchor.to_str().unwrap();
    assert!(verified(&folder, &["--anchor", anchor]).await);
    let kept = folder.node("data-until-today");
    fs::rename(folder.node("data"), &kept).unwrap();
    let another = folder.beside("gate2");
    folder.run(&["init", another.to_str().unwrap()]).await;
    let kept = kept.to_str().unwrap();
    assert!(verified(&folder, &["--data", kept, "--anchor", anchor]).await);
    // The other node's key vouches for nothing of it.
    let other = another.join("data");
    let other = other.to_str().unwrap();
    assert!(!verified(&folder, &["--data", kept, "--vkeys", other]).await);
}

#[tokio::test]
async fn a_wrapping_key_lost_and_leaked() {
    let node = Node::start(&help_desk()).await;
    let mut client = node.connect("desk");
    client.call("read-article", json!({"path": "/a"})).await;
    drop(client);
    let folder = node.stop().await;
    let file = folder.node("keys/facts.key");
    let key = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    does_not_start(&folder, "facts.key").await;
    assert!(verified(&folder, &[]).await);
    let replayed = folder.json(&["ledger", "replay"]).await;
    assert!(replayed["sealed"].as_u64().unwrap() > 0, "{replayed}");
    fs::write(&file, key).unwrap();
    // Leaked: what must not be read is erased.
    let node = Node::up(folder, &[]).await;
    node.folder.run(&["sponsor", "suspend", "maya"]).await;
    node.folder.run(&["sponsor", "erase", "maya"]).await;
    let folder = node.stop().await;
    assert!(verified(&folder, &[]).await);
}

#[tokio::test]
async fn an_agents_key_lost_or_leaked() {
    let node = Node::start(&help_desk()).await;
    let folder = &node.folder;
    let old = folder.key();
    let stolen = ask(folder, &old).await.unwrap();
    let new = folder.node("agents/triage.2.key");
    let out = ["--key-out", new.to_str().unwrap()];
    folder
        .run(&[&["agent", "rotate-key", "triage"], &out[..]].concat())
        .await;
    assert_eq!(
        ask(folder, &old).await.unwrap_err()["error"],
        "invalid_client"
    );
    ask(folder, &new).await.unwrap();
    let live = ["instance", "list", "--agent", "triage", "--live"];
    let live = folder.json(&live).await;
    let stolen = stolen["instance"].as_str().unwrap();
    assert!(live.as_array().unwrap().iter().any(|it| it["id"] == stolen));
    let told = folder.run(&["instance", "revoke", stolen]).await;
    assert!(told.contains("on record as"), "{told}");
    node.stop().await;
}

#[tokio::test]
async fn an_administrators_credential_lost_or_leaked() {
    let node = Node::start(&help_desk()).await;
    let folder = &node.folder;
    let (old, new) = (folder.beside("noor.key"), folder.beside("noor.2.key"));
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    folder
        .run(&["admin", "add", "noor", "--key-out", old])
        .await;
    folder
        .run(&["agent", "suspend", "triage", "--admin-key", old])
        .await;
    folder.run(&["admin", "remove", "noor"]).await;
    folder
        .run(&["admin", "add", "noor", "--key-out", new])
        .await;
    let resume = ["agent", "resume", "triage", "--admin-key"];
    fails(folder, &[&resume[..], &[old]].concat(), "not signed by").await;
    folder.run(&[&resume[..], &[new]].concat()).await;
    let exported = folder.run(&["ledger", "export", "--log", "control"]).await;
    let by: Vec<Value> = exported
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["entry"]["actor"].clone())
        .filter(|actor| actor["id"] == "noor")
        .collect();
    assert_eq!(by.len(), 2);
    assert_ne!(by[0]["credential"], by[1]["credential"]);
    node.stop().await;
}

#[tokio::test]
async fn a_scim_token_lost_or_leaked() {
    let node = Node::start(&help_desk()).await;
    let folder = &node.folder;
    let old = folder.json(&["scim", "token"]).await;
    let listed = folder.json(&["scim", "list"]).await;
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    let id = listed[0]["id"].as_str().unwrap();
    let users = |token: &Value| {
        let url = format!(
            "{}/Users",
            old["url"].as_str().unwrap().trim_end_matches('/')
        );
        let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
        let request = http::Request::get(url).header("authorization", bearer);
        let request = request.body(http_body_util::Full::default()).unwrap();
        server::outbound::send(request, 1 << 20)
    };
    assert_eq!(users(&old).await.unwrap().status(), 200);
    folder.run(&["scim", "token", "--revoke", id]).await;
    assert_eq!(users(&old).await.unwrap().status(), 401);
    let new = folder.json(&["scim", "token"]).await;
    assert_eq!(users(&new).await.unwrap().status(), 200);
    node.stop().await;
}

#[tokio::test]
async fn a_witness_key_lost_or_leaked() {
    let folder = Folder::new("").await;
    let logs = ["control", "calls"].map(|log| folder.node(&format!("data/{log}.vkey")));
    let mut first = Witness::start(&folder.beside("witness"), &logs).await;
    let config = fs::read_to_string(folder.config()).unwrap();
    let config = config.split("[ledger]").next().unwrap().to_owned();
    let anchored = |folder: &Folder, witness: &Witness| {
        let anchor = witness.anchor();
        let text = format!("{config}\n[ledger]\nanchor = \"{anchor}\"\nquorum = 1\n");
        fs::write(folder.config(), text).unwrap();
    };
    anchored(&folder, &first);
    let node = Node::up(folder, &[]).await;
    first.cosigns(&node.folder).await;
    let folder = node.stop().await;
    first.kill().await;
    // Lost: it does not start again on what it remembers.
    fs::remove_file(folder.beside("witness/witness.skey")).unwrap();
    let again = folder.beside("witness");
    let again = [
        "witness",
        "--listen",
        "127.0.0.1:0",
        "--folder",
        again.to_str().unwrap(),
    ];
    let log = [
        "--name",
        "witness.example/w1",
        "--log",
        logs[0].to_str().unwrap(),
    ];
    fails(
        &folder,
        &[&again[..], &log[..]].concat(),
        "its key is missing",
    )
    .await;
    // Another one in its place; nothing is handed out until it has cosigned.
    let mut second = Witness::named(&folder.beside("witness2"), "witness.example/w2", &logs).await;
    anchored(&folder, &second);
    fails(
        &folder,
        &["ledger", "proof", "control/0"],
        "witness.example/w2",
    )
    .await;
    let node = Node::up(folder, &[]).await;
    second.cosigns(&node.folder).await;
    within("a proof", async {
        while !node
            .folder
            .output(&["ledger", "proof", "control/0"])
            .await
            .status
            .success()
        {}
    })
    .await;
    let folder = node.stop().await;
    second.kill().await;
    // What the old one cosigned is still held against the log.
    assert!(verified(&folder, &[]).await);
    let kept = fs::read_dir(folder.node("data")).unwrap();
    let kept = kept.filter_map(|file| fs::read_to_string(file.unwrap().path()).ok());
    assert!(
        kept.into_iter()
            .any(|text| text.contains("— witness.example/w1 "))
    );
}
