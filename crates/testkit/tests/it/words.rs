//! What agents say in words of their own is nowhere in the data folder in clear, and can be erased.

use std::fs;
use std::path::Path;

use gateway::record::OTHER_METHOD;
use ledger::Kind;
use serde_json::{Value, json};
use server::commands::ledger::replay;
use testkit::{Agent, Below, Plane, Reply, Token};
use vocab::Digest;

use crate::common::{ANY, PUBLIC, assert_challenged};

/// What agents of these tests say wherever they can.
const MARK: &str = "zebra-4711";

/// The path that [`part`] lets be read.
const OTHER: &str = r#"{"path":"/public/other.txt"}"#;

/// Something to hand on that can be used, with the mark wherever it fits.
fn part() -> String {
    format!(
        r#"[{{"type":"mcp_tool","locations":["files"],"identifier":"read_*",
              "arguments":{{"path":{{"one_of":["/public/a.txt","/public/{MARK}"]}}}}}},
            {{"type":"mcp_tool","locations":["files"],"identifier":"{MARK}*",
              "arguments":{{"{MARK}":{{"equals":"{MARK}"}},"to":{{"glob":"{MARK}@*"}}}}}}]"#
    )
}

/// An agent, one of its instances, and one below it with [`part`].
async fn started(plane: &Plane) -> (Agent, Token, Token) {
    let agent = plane.agent("triage").await;
    let root = agent.token("files").await;
    let details = part();
    let below = Below {
        details: Some(&details),
        ..Below::default()
    };
    let child = agent.below(&root, &below).await;
    (agent, root, child)
}

/// What was handed on holds: that may be done, and nothing else.
async fn check_holds(plane: &Plane, child: &Token) {
    let client = child.modern();
    assert_eq!(
        client.call("read_text_file", PUBLIC).await.effect(),
        "allow"
    );
    for (tool, args) in [("read_text_file", OTHER), ("anything", ANY)] {
        let reply = client.call(tool, args).await;
        let body = plane.calls().decision(reply.record().unwrap());
        assert_eq!(body.stage.as_deref(), Some("authority"), "{}", reply.json);
    }
}

/// The files below a folder in which a text is, in whatever case.
fn naming(folder: &Path, text: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            naming(&path, text, found);
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap().to_ascii_lowercase();
            if bytes.windows(text.len()).any(|it| it == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
}

fn in_clear(plane: &Plane, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    naming(&plane.data(), text, &mut found);
    found
}

fn snapshot(plane: &Plane) -> std::path::PathBuf {
    server::node::snapshot::path(&plane.data())
}

/// Stops the node and starts it from its snapshot, or without one.
async fn restart(plane: &mut Plane, from_snapshot: bool) {
    plane.stop().await.unwrap();
    assert!(snapshot(plane).exists());
    if !from_snapshot {
        fs::remove_file(snapshot(plane)).unwrap();
    }
    plane.boot().await.unwrap();
    let doctor = plane.admin("GET", "/v1/doctor", None).await.json();
    let text = doctor.to_string();
    assert_eq!(
        text.contains("began with a snapshot of"),
        from_snapshot,
        "{text}"
    );
}

#[tokio::test]
async fn no_word_of_an_agents_is_in_clear_in_the_data_folder() {
    let mut plane = Plane::start().await;
    let (agent, root, child) = started(&plane).await;
    // It is told what it has, and whoever administers the node may see it.
    assert!(child.response.to_string().contains(MARK));
    let traced = trace(&plane, &child.instance).await;
    assert!(traced["chain"][1]["handed_on"].to_string().contains(MARK));
    let leaf = agent.below(&child, &Below::default()).await;
    for token in [&child, &leaf] {
        check_holds(&plane, token).await;
    }
    // Arguments, permitted and denied; a tool that is not there, with and without authority to call
    // it; a credential for one call of one that is not there.
    let args = format!(r#"{{"n":1,"text":"{MARK}"}}"#);
    assert_eq!(
        root.modern().call("anything", &args).await.effect(),
        "allow"
    );
    let tool = format!("{MARK}-of-mine");
    for token in [&root, &child] {
        let reply = token.modern().call(&tool, &args).await;
        assert_eq!(reply.effect(), "deny");
        let body = plane.calls().decision(reply.record().unwrap());
        assert_eq!(
            (body.tool, body.unlisted, &*body.method),
            (None, true, "tools/call")
        );
        // Who has the keys is told all the same.
        let path = format!("/v1/trace/calls/{}", reply.record().unwrap());
        let traced = plane.admin("GET", &path, None).await.json();
        assert_eq!(traced["decision"]["tool"], json!(tool), "{traced}");
    }
    let once = agent.once(&root, &tool, &args).await;
    assert_eq!(once.modern().call(&tool, &args).await.effect(), "deny");
    let legacy = child.legacy().await;
    legacy.request(&format!("{MARK}/method"), "").await;
    // Somebody else asks about a method that is none.
    let reply = asked(&plane, &root, &format!("files:{MARK}/method")).await;
    let body = plane.calls().decision(reply);
    assert_eq!((&*body.method, body.unlisted), (OTHER_METHOD, true));
    let path = format!("/v1/trace/calls/{reply}");
    let traced = plane.admin("GET", &path, None).await.json();
    assert_eq!(
        traced["decision"]["method"],
        json!(format!("{MARK}/method"))
    );
    // What is refused is counted, and not repeated.
    let wider = format!(r#"[{{"type":"{MARK}","locations":["files"],"identifier":"*"}}]"#);
    let below = Below {
        details: Some(&wider),
        ..Below::default()
    };
    let key = agent.fresh_key();
    let refused = agent.exchange(&root, &key, &below).send().await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    drop(plane.ledger_with_refusals().await);
    for from_snapshot in [true, false] {
        restart(&mut plane, from_snapshot).await;
        for token in [&child, &leaf] {
            check_holds(&plane, token).await;
        }
    }
    plane.stop().await.unwrap();
    assert!(snapshot(&plane).exists());
    let found = in_clear(&plane, MARK);
    assert!(found.is_empty(), "{found:?}");
    // It would have been found.
    assert!(!in_clear(&plane, "read_text_file").is_empty());
    assert!(!in_clear(&plane, &child.instance).is_empty());
    plane.end().await;
}

async fn trace(plane: &Plane, of: &str) -> Value {
    let path = format!("/v1/trace/{of}");
    let answer = plane.admin("GET", &path, None).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Has a policy enforcement point ask; the record of the answer, a denial.
async fn asked(plane: &Plane, token: &Token, action: &str) -> u64 {
    let secret = "tsp_words";
    let body = json!({
        "id": "words", "serves": ["files"], "trusted": true,
        "token": Digest::of(secret.as_bytes()),
    });
    let added = plane.admin("POST", "/v1/peps", Some(body)).await;
    assert_eq!(added.status, 200, "{}", added.text());
    let question = json!({
        "subject": {"type": "instance", "id": token.instance},
        "action": {"name": action},
        "resource": {"type": "upstream", "id": "files"},
    });
    let answer = plane
        .ask("POST", "/access/v1/evaluation")
        .header("authorization", format!("Bearer {secret}"))
        .header("content-type", "application/json")
        .body(question.to_string())
        .send()
        .await;
    let answer = answer.json();
    assert_eq!(answer["decision"], false, "{answer}");
    answer["context"]["record"]["index"].as_u64().unwrap()
}

#[tokio::test]
async fn what_was_handed_on_and_is_erased_lets_nobody_do_anything() {
    let mut plane = Plane::start().await;
    let (agent, root, child) = started(&plane).await;
    let leaf = agent.below(&child, &Below::default()).await;
    check_holds(&plane, &leaf).await;
    let ledger = plane.ledger();
    let started = ledger.of(Kind::InstanceStarted).into_iter();
    let started: Vec<_> = started
        .map(|it| it.body["handed_on"]["key"].clone())
        .collect();
    let [none, key, same] = &started[..] else {
        panic!("{started:?}");
    };
    assert!(none.is_null() && key == same);
    // The key is that of the facts of their calls.
    assert_eq!(ledger.last(Kind::Decision).body["facts"]["key"], *key);
    let erased = plane
        .admin("POST", "/v1/erase", Some(json!({"what": key})))
        .await;
    assert_eq!(erased.status, 200, "{}", erased.text());
    // Nothing that it permitted can follow.
    let last = plane.calls();
    assert_eq!(last.last(Kind::Barrier).body["cause"], "erased");
    let check = async |plane: &Plane| {
        let refused = |reply: &Reply, why: &str| assert_challenged(reply, 401, why);
        let reply = child.modern().call("read_text_file", PUBLIC).await;
        refused(&reply, "what was handed on to it is erased");
        let reply = leaf.modern().call("read_text_file", PUBLIC).await;
        refused(&reply, "what was handed on to it is erased");
        let again = agent.exchange(&child, &agent.fresh_key(), &Below::default());
        assert_eq!(again.send().await.status, 400);
        // Whoever handed it on goes on.
        let read = root.modern().call("read_text_file", PUBLIC).await;
        assert_eq!(read.effect(), "allow", "{}", read.json);
        let traced = trace(plane, &leaf.instance).await;
        assert_eq!(traced["instance"]["narrowed_by"], "authority-erased");
        assert_eq!(traced["chain"][2]["handed_on"], json!([]));
        assert_eq!(traced["chain"][2]["handed_on_unknown"], "erased");
    };
    check(&plane).await;
    for from_snapshot in [true, false] {
        restart(&mut plane, from_snapshot).await;
        check(&plane).await;
    }
    // What is handed on anew is.
    let details = part();
    let below = Below {
        details: Some(&details),
        ..Below::default()
    };
    check_holds(&plane, &agent.below(&root, &below).await).await;
    plane.stop().await.unwrap();
    let key = server::keys::facts_key(&plane.folder().join("keys"));
    let replayed = replay(&plane.data(), Some(&key)).unwrap();
    assert!(replayed.is_good() && replayed.erased > 0, "{replayed:?}");
    let verified = plane.end().await;
    assert_eq!(verified.erased as u64, replayed.erased);
}
