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
            "People's key",
            "Auditors' token",
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
    let tests: Vec<_> = page
        .lines()
        .filter_map(|it| {
            it.strip_prefix("| [")?
                .rsplit_once(" | `")?
                .1
                .strip_suffix("` |")
        })
        .collect();
    assert_eq!(tests.len(), sections.len(), "{tests:?}");
    let here = include_str!("keys.rs");
    for test in tests {
        assert!(here.contains(&format!("async fn {test}()")), "{test}");
    }
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
    let leaked_key = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    does_not_start(&folder, "control.skey").await;
    // From its backup.
    fs::write(&file, &leaked_key).unwrap();
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
    // Leaked: another one takes its place, and whoever knows the first key goes on.
    fs::rename(kept, folder.node("data")).unwrap();
    let trusted = folder.beside("trusted");
    fs::create_dir(&trusted).unwrap();
    for log in ["control.vkey", "calls.vkey"] {
        fs::copy(folder.node("data").join(log), trusted.join(log)).unwrap();
    }
    let trusted = trusted.to_str().unwrap();
    let node = Node::up(folder, &[]).await;
    for log in ["control", "calls"] {
        let leaked = log_key_that_is(&node.folder, log, "current").await;
        let told = node.folder.run(&["keys", "revoke", &leaked]).await;
        assert!(told.contains("is now compromised (on record as"), "{told}");
        assert_ne!(log_key_that_is(&node.folder, log, "current").await, leaked);
    }
    let folder = node.stop().await;
    assert!(verified(&folder, &["--vkeys", trusted, "--anchor", anchor]).await);
    // With the leaked key in its place again it does not start.
    let new = fs::read(&file).unwrap();
    fs::write(&file, leaked_key).unwrap();
    does_not_start(&folder, "control").await;
    fs::write(&file, new).unwrap();
    let node = Node::up(folder, &[]).await;
    node.stop().await;
}

async fn log_key_that_is(folder: &Folder, log: &str, status: &str) -> String {
    let keys = folder.json(&["keys", "list"]).await;
    let mut keys = keys.as_array().unwrap().iter();
    let found = keys.find(|key| key["of"] == log && key["status"] == status);
    found.unwrap()["id"].as_str().unwrap().to_owned()
}

/// Both keys change while a witness knows the first ones only, and the node is killed.
#[tokio::test]
async fn log_keys_change_and_whoever_knows_the_first_ones_goes_on() {
    let folder = Folder::new(&help_desk()).await;
    let trusted = folder.beside("trusted");
    fs::create_dir(&trusted).unwrap();
    let logs = ["control", "calls"].map(|log| {
        let name = format!("{log}.vkey");
        let to = trusted.join(&name);
        fs::copy(folder.node("data").join(name), &to).unwrap();
        to
    });
    let witness = Witness::start(&folder.beside("witness"), &logs).await;
    let config = fs::read_to_string(folder.config()).unwrap();
    let ledger = format!("[ledger]\nanchor = \"{}\"\nquorum = 1\n", witness.anchor());
    fs::write(folder.config(), config.replacen("[ledger]\n", &ledger, 1)).unwrap();
    let node = Node::up(folder, &[]).await;
    witness.cosigns(&node.folder).await;
    let sponsor = ["sponsor", "add", "maya", "--name", "Maya", "--email", "m@x"];
    node.folder.run(&sponsor).await;
    for log in ["control", "calls"] {
        let told = node.folder.run(&["keys", "rotate", log]).await;
        assert!(told.contains("is now current (on record as"), "{told}");
        let again = ["keys", "rotate", log];
        fails(&node.folder, &again, "signs beside the present key").await;
    }
    let folder = node.kill().await;
    let node = Node::up(folder, &[]).await;
    // What comes now is cosigned, too, and proven to whoever knows the first keys.
    node.folder.run(&["sponsor", "suspend", "maya"]).await;
    let file = node.folder.beside("cut.json");
    let file = file.to_str().unwrap();
    within("a certificate", async {
        let cuts = node.folder.json(&["certificate", "list"]).await;
        let cut = cuts[0]["record"].as_str().unwrap().to_owned();
        let show = ["certificate", "show", &cut, "--out", file];
        while !node.folder.output(&show).await.status.success() {}
    })
    .await;
    let folder = node.stop().await;
    let trusted = trusted.to_str().unwrap();
    let data = folder.node("data");
    for vkeys in [trusted, data.to_str().unwrap()] {
        assert!(verified(&folder, &["--vkeys", vkeys]).await);
        folder
            .run(&["certificate", "verify", file, "--vkeys", vkeys])
            .await;
        folder
            .run(&["ledger", "proof", "control/0", "--vkeys", vkeys])
            .await;
    }
    // A key that was announced nowhere vouches for nothing of it.
    let another = folder.beside("gate2");
    folder.run(&["init", another.to_str().unwrap()]).await;
    let other = another.join("data");
    let other = ["--vkeys", other.to_str().unwrap()];
    assert!(!verified(&folder, &other).await);
    let why = "is no key of the log";
    let proof = ["ledger", "proof", "control/0"];
    fails(&folder, &[&proof[..], &other[..]].concat(), why).await;
    let wrong = folder
        .output(&[&["certificate", "verify", file], &other[..]].concat())
        .await;
    assert!(!wrong.status.success());
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
    // Leaked: another one takes its place, and a kill does not matter.
    let leaked = fs::read(&file).unwrap();
    let node = Node::up(folder, &[]).await;
    let told = node.folder.run(&["keys", "rotate", "keyring"]).await;
    assert!(told.contains("is now current (on record as"), "{told}");
    let folder = node.kill().await;
    let new = fs::read(&file).unwrap();
    assert_ne!(new, leaked);
    let old = folder.beside("facts.old.key");
    fs::write(&old, &leaked).unwrap();
    let replay = ["ledger", "replay", "--facts-key", old.to_str().unwrap()];
    fails(&folder, &replay, "wrapped by another key").await;
    fs::write(&file, &leaked).unwrap();
    does_not_start(&folder, "wrapped by another key").await;
    // As a kill in the middle leaves it: both are there, and the next start comes to the end.
    let next = folder.node("keys/facts.next.key");
    fs::write(&next, &new).unwrap();
    let node = Node::up(folder, &[]).await;
    assert!(!next.exists());
    assert_eq!(fs::read(&file).unwrap(), new);
    // What must not be read is erased.
    node.folder.run(&["sponsor", "suspend", "maya"]).await;
    node.folder.run(&["sponsor", "erase", "maya"]).await;
    let folder = node.stop().await;
    assert!(verified(&folder, &[]).await);
    let replayed = folder.json(&["ledger", "replay"]).await;
    // The new key opens what the old one did.
    assert_eq!(
        (&replayed["same"], &replayed["sealed"]),
        (&json!(1), &json!(0)),
        "{replayed}"
    );
}

#[tokio::test]
async fn a_peoples_key_lost_or_leaked() {
    let folder = Folder::new("").await;
    let node = Node::up(folder, &[]).await;
    let folder = node.stop().await;
    let file = folder.node("keys/people.key");
    let old = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let node = Node::up(folder, &[]).await;
    assert_ne!(fs::read(&file).unwrap(), old);
    node.stop().await;
}

#[tokio::test]
async fn an_auditors_token_lost_or_leaked() {
    let folder = Folder::new("").await;
    let node = Node::up(folder, &[]).await;
    let file = node.folder.node("keys/auditor.token");
    let told = node.folder.node("data/node.json");
    let told: Value = serde_json::from_slice(&fs::read(told).unwrap()).unwrap();
    let url = told["url"].as_str().unwrap().trim_end_matches('/');
    let url = format!("{url}/ledger/control/tile/entries/000.p/1");
    let read = async |token: &str| {
        let request = http::Request::get(&url).header("authorization", format!("Bearer {token}"));
        let request = request.body(http_body_util::Full::default()).unwrap();
        let answer = server::outbound::send(request, 1 << 20).await.unwrap();
        answer.status().as_u16()
    };
    let old = fs::read_to_string(&file).unwrap();
    let old = old.trim();
    assert_ne!(read(old).await, 401);
    fs::remove_file(&file).unwrap();
    assert_eq!(read(old).await, 401);
    let new = "bm90IHRoZSBvbmUgdGhhdCB3YXMgdGhlcmUgYmVmb3Jl";
    fs::write(&file, format!("{new}\n")).unwrap();
    assert_eq!(read(old).await, 401);
    assert_ne!(read(new).await, 401);
    node.stop().await;
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
