//! Credentials of upstreams: they reach them with every request, as they are at that moment, and
//! nobody else.

use std::path::{Path, PathBuf};

use testkit::{Plane, Script, Setup, Speaks, Upstream, until};
use vocab::Secret;
use vocab::rng::SystemRng;

use crate::common::{ANY, Client, ERAS};

/// What upstreams are sent.
const FILE: &str = "s3cr3t-of-the-file-9f2ab7";
const VAULT: &str = "s3cr3t+of/the=vault-41c0d8";

/// Sources in a folder of their own.
struct Sources {
    folder: tempfile::TempDir,
}

impl Sources {
    fn new() -> Self {
        let it = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        it.set(FILE);
        it
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    fn set(&self, value: &str) {
        std::fs::write(self.file(), format!("{value}\n")).unwrap();
    }

    fn header(&self) -> String {
        format!(
            "headers = {{ Authorization = \"Bearer {{file:{}}}\" }}\n",
            self.file().display()
        )
    }
}

fn vault(plane: &Plane) -> broker::Vault {
    broker::Vault::of(&plane.data(), &plane.folder().join("keys"))
}

fn put(plane: &Plane, name: &str, value: &str) {
    let value = Secret::new(value.to_owned());
    vault(plane)
        .set(&name.parse().unwrap(), &value, by(plane))
        .unwrap();
}

/// As a command without a node would that finds nothing on record.
pub(crate) fn by(plane: &Plane) -> broker::Change<'static> {
    broker::Change {
        recorded: 0,
        now: plane.now(),
        rng: &SystemRng,
    }
}

fn authorization(seen: &testkit::Seen) -> Option<String> {
    let mut all = seen.headers.get_all("authorization").iter();
    let value = all.next().map(|it| it.to_str().unwrap().to_owned());
    assert!(all.next().is_none(), "one header, not {:?}", seen.headers);
    value
}

fn with_header(sources: &Sources, speaks: Upstream) -> impl FnOnce(&mut Setup) {
    let more = sources.header();
    move |setup| setup.upstream("files", &speaks, &more)
}

#[tokio::test]
async fn every_request_has_the_credential_and_none_the_agents_token() {
    for speaks in [Speaks::Modern, Speaks::Legacy] {
        let sources = Sources::new();
        let plane = Plane::with(with_header(&sources, Upstream::start(speaks).await)).await;
        let token = plane.agent("triage").await.token("files").await;
        for era in ERAS {
            let reply = Client::new(&token, era).await.call("anything", ANY).await;
            assert_eq!(reply.effect(), "allow", "{}", reply.json);
        }
        let session = token.legacy().await;
        session.delete().await;
        let seen = plane.files().seen();
        assert!(seen.len() > 4);
        for it in &seen {
            let expected = format!("Bearer {FILE}");
            assert_eq!(
                authorization(it),
                Some(expected),
                "{} {}",
                it.verb,
                it.method
            );
        }
        plane.end().await;
    }
}

#[tokio::test]
async fn a_changed_secret_goes_with_the_next_call_and_an_absent_one_stops_it() {
    let sources = Sources::new();
    let upstream = Upstream::start(Speaks::Both).await;
    let plane = Plane::with(with_header(&sources, upstream)).await;
    let token = plane.agent("triage").await.token("files").await;
    let client = Client::new(&token, ERAS[0]).await;
    let sent = || authorization(&plane.files().last_call());
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    assert_eq!(sent().unwrap(), format!("Bearer {FILE}"));
    sources.set("another-value-of-it");
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    assert_eq!(sent().unwrap(), "Bearer another-value-of-it");
    let calls = plane.files().calls();
    for bad in ["", "with a\nline break"] {
        sources.set(bad);
        let reply = client.call("anything", ANY).await;
        assert!(reply.is_error(), "{}", reply.json);
        let told = reply.said();
        assert!(
            told.contains("nothing was sent") && !told.contains("token"),
            "{told}"
        );
    }
    std::fs::remove_file(sources.file()).unwrap();
    let reply = client.call("anything", ANY).await;
    assert!(reply.is_error(), "{}", reply.json);
    let record = reply.record().unwrap();
    assert_eq!(plane.files().calls(), calls, "nothing was sent");
    let outcome = plane.calls().outcome(record).unwrap();
    assert_eq!(outcome.result, gateway::record::Came::NotSent);
    sources.set(FILE);
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    assert_eq!(plane.files().calls(), calls + 1);
    plane.end().await;
}

#[tokio::test]
async fn the_vault_is_read_without_a_restart() {
    let plane = Plane::with(|setup| {
        let upstream = setup.upstreams["files"].0.clone();
        setup.upstream(
            "files",
            &upstream,
            "headers = { X-Key = \"vault:files\" }\n",
        );
        setup.ready = false;
    })
    .await;
    assert!(
        plane
            .refresh("files")
            .await
            .unwrap_err()
            .contains("`files`")
    );
    put(&plane, "files", VAULT);
    plane.refresh("files").await.unwrap();
    plane.activate(testkit::plane::POLICIES).await.unwrap();
    let token = plane.agent("triage").await.token("files").await;
    let client = Client::new(&token, ERAS[0]).await;
    for value in [VAULT, "after a change of it"] {
        put(&plane, "files", value);
        assert_eq!(client.call("anything", ANY).await.effect(), "allow");
        assert_eq!(plane.files().last_call().headers["x-key"], value);
    }
    let calls = plane.files().calls();
    vault(&plane)
        .remove(&"files".parse().unwrap(), by(&plane))
        .unwrap();
    assert!(client.call("anything", ANY).await.is_error());
    assert_eq!(plane.files().calls(), calls);
    plane.end().await;
}

/// A server that says its environment, in an answer and on stderr.
pub(crate) const SERVER: &str = r#"
import json, os, sys
def say(message):
    sys.stdout.write(json.dumps(message) + "\n"); sys.stdout.flush()
for line in sys.stdin:
    message = json.loads(line)
    method, ident = message.get("method"), message.get("id")
    if ident is None or method is None:
        continue
    key = os.environ["KEY"]
    answer = {"jsonrpc": "2.0", "id": ident}
    if method == "initialize":
        answer["result"] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                            "serverInfo": {"name": "child", "version": "1"}}
    elif method == "tools/list":
        tool = lambda name: {"name": name, "inputSchema": {"type": "object"}}
        answer["result"] = {"tools": [tool("who"), tool("crash")]}
    elif method == "tools/call" and message["params"]["name"] == "crash":
        sys.stderr.write("with key " + key + "\n"); sys.stderr.flush()
        os._exit(3)
    elif method == "tools/call":
        token = message["params"].get("_meta", {}).get("progressToken")
        if token is not None:
            say({"jsonrpc": "2.0", "method": "notifications/progress",
                 "params": {"progressToken": token, "progress": 1, "message": "key " + key}})
        text = json.dumps({"pid": os.getpid(), "bytes": len(key), "key": key})
        answer["result"] = {"content": [{"type": "text", "text": text}]}
    else:
        answer["error"] = {"code": -32601, "message": "no such method"}
    say(answer)
"#;

fn with_child(sources: &Sources, script: &Path) -> impl FnOnce(&mut Setup) {
    std::fs::write(script, SERVER).unwrap();
    let tail = format!(
        "[upstream.desk]\ncommand = [\"python3\", {script:?}]\nenv = {{ KEY = \"file:{}\" }}\n",
        sources.file().display()
    );
    move |setup| {
        setup.tail = tail;
        setup.ready = false;
    }
}

#[tokio::test]
async fn a_child_whose_environment_changed_is_started_anew() {
    let sources = Sources::new();
    let script = sources.folder.path().join("server.py");
    let plane = Plane::with(with_child(&sources, &script)).await;
    plane.refresh("desk").await.unwrap();
    plane
        .activate("permit (principal, action in Action::\"desk\", resource);")
        .await
        .unwrap();
    let token = plane.agent("triage").await.token("desk").await;
    for era in ERAS {
        sources.set(FILE);
        let client = Client::new(&token, era).await;
        let who = async || -> serde_json::Value {
            let reply = client.call("who", "{}").await;
            serde_json::from_str(reply.said()).unwrap_or(reply.json)
        };
        let (one, same) = (who().await, who().await);
        assert_eq!(one, same);
        assert_eq!(one["bytes"], FILE.len());
        assert_eq!(one["key"], broker::MASK);
        sources.set("another-and-longer-value-of-it");
        let other = who().await;
        assert_ne!(one["pid"], other["pid"]);
        assert_eq!(other["bytes"], 30);
        // Without it not even a child that runs is asked.
        std::fs::remove_file(sources.file()).unwrap();
        let reply = client.call("who", "{}").await;
        assert!(reply.is_error(), "{}", reply.json);
        let record = reply.record().unwrap();
        let outcome = plane.calls().outcome(record).unwrap();
        assert_eq!(outcome.result, gateway::record::Came::NotSent);
    }
    let children = || plane.served("desk").upstream().children();
    until("only one child runs", async || children() <= 1).await;
    plane.end().await;
}

#[tokio::test]
async fn what_an_upstream_echoes_is_masked() {
    let sources = Sources::new();
    let upstream = Upstream::start(Speaks::Both).await;
    let plane = Plane::with(with_header(&sources, upstream)).await;
    let token = plane.agent("triage").await.token("files").await;
    let cases = [
        Script::Result(format!(
            r#"{{"content":[{{"type":"text","text":"Bearer {FILE}"}}]}}"#
        )),
        Script::Error(-32000, "bad token s3cr3t-of-the-file-9f2ab7"),
        Script::Error(-32000, "bad token czNjcjN0LW9mLXRoZS1maWxlLTlmMmFiNw=="),
        Script::Http(
            401,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"no: s3cr3t%2Dof%2dthe-file-9f2ab7"}}"#,
        ),
    ];
    for script in cases {
        plane.files().script("anything", script.clone());
        for era in ERAS {
            let reply = Client::new(&token, era).await.call("anything", ANY).await;
            let text = reply.json.to_string();
            assert!(text.contains(broker::MASK), "{script:?}: {text}");
            for part in ["s3cr3t", "czNjcjN0"] {
                assert!(!text.contains(part), "{script:?}: {text}");
            }
        }
    }
    // The record is of what was delivered.
    plane.end().await;
}

#[tokio::test]
async fn administrators_change_the_vault_and_never_read_it() {
    let plane = Plane::with(|setup| {
        let upstream = setup.upstreams["files"].0.clone();
        setup.upstream(
            "files",
            &upstream,
            "headers = { X-Key = \"vault:files\" }\n",
        );
        setup.ready = false;
    })
    .await;
    let put = async |value: &str| {
        let body = serde_json::json!({"value": value});
        plane.admin("POST", "/v1/secrets/files", Some(body)).await
    };
    let set = put(&format!("{VAULT}\n")).await;
    assert_eq!(set.status, 200, "{}", set.text());
    let id = set.json()["id"].as_str().unwrap().to_owned();
    plane.refresh("files").await.unwrap();
    assert_eq!(plane.files().seen().last().unwrap().headers["x-key"], VAULT);
    let listed = plane.admin("GET", "/v1/secrets", None).await;
    assert_eq!(
        listed.json()[0]["used_by"],
        serde_json::json!(["upstream.files.headers.x-key"])
    );
    for answer in [&set, &listed] {
        assert!(!answer.text().contains("s3cr3t"), "{}", answer.text());
    }
    for bad in ["", "\n", "a\0b"] {
        assert_eq!(put(bad).await.status, 400, "{bad:?}");
    }
    let wrong = Some(serde_json::json!({"value": {"s3cr3t": VAULT}}));
    let refused = plane.admin("POST", "/v1/secrets/files", wrong).await;
    assert_eq!(refused.status, 400);
    assert!(!refused.text().contains("s3cr3t"), "{}", refused.text());
    let removed = plane.admin("POST", "/v1/secrets/files/remove", None).await;
    assert_eq!(removed.status, 200, "{}", removed.text());
    let again = plane.admin("POST", "/v1/secrets/files/remove", None).await;
    assert_eq!(again.status, 404, "{}", again.text());
    // The records say that a secret was changed, by whom, and not what it is called.
    let ledger = plane.ledger();
    let told: Vec<_> = ledger
        .of(ledger::Kind::VaultChanged)
        .iter()
        .map(|it| it.body.clone())
        .collect();
    assert_eq!(
        told,
        [
            serde_json::json!({"change": "set", "secret": id, "generation": 1}),
            serde_json::json!({"change": "removed", "secret": id, "generation": 2}),
        ]
    );
    plane.end().await;
}

#[tokio::test]
async fn what_changed_while_no_node_ran_is_found_and_a_vault_that_was_set_back_stays_told() {
    let mut plane = Plane::start().await;
    plane.stop().await.unwrap();
    put(&plane, "a", "first-value");
    let old = std::fs::read(plane.data().join("vault")).unwrap();
    put(&plane, "a", "other-value");
    plane.boot().await.unwrap();
    let told = plane.ledger().last(ledger::Kind::VaultChanged).body.clone();
    assert_eq!(
        told,
        serde_json::json!({"change": "found", "secret": null, "generation": 2})
    );
    assert!(!findings(&plane).await.contains("was set back"));
    // Brought back by hand, or gone: neither is changed, so that nobody could be told no more.
    let newest = std::fs::read(plane.data().join("vault")).unwrap();
    let file = plane.data().join("vault");
    let body = || Some(serde_json::json!({"value": "new-value"}));
    for old in [Some(&old), None] {
        match old {
            Some(old) => std::fs::write(&file, old).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        for _ in 0..3 {
            let refused = plane.admin("POST", "/v1/secrets/a", body()).await;
            assert_eq!(refused.status, 409, "{}", refused.text());
            assert!(
                refused.text().contains("tipstaff secret accept"),
                "{}",
                refused.text()
            );
            assert!(findings(&plane).await.contains("was set back"));
        }
        // A start says so on record and goes on saying so.
        plane.stop().await.unwrap();
        plane.boot().await.unwrap();
        let told = plane.ledger().last(ledger::Kind::VaultChanged).body.clone();
        let generation = u64::from(old.is_some());
        assert_eq!(
            told,
            serde_json::json!({"change": "set-back", "secret": null, "generation": generation})
        );
        assert!(findings(&plane).await.contains("was set back"));
    }
    // The newest one is good, and there is nothing to accept.
    std::fs::write(&file, newest).unwrap();
    assert!(!findings(&plane).await.contains("was set back"));
    let accept = async || plane.admin("POST", "/v1/vault/accept", None).await;
    assert_eq!(accept().await.status, 409);
    // An administrator says that the old one is to be used; from then on each change is on record.
    std::fs::write(&file, &old).unwrap();
    let accepted = accept().await;
    assert_eq!(accepted.status, 200, "{}", accepted.text());
    assert!(!findings(&plane).await.contains("was set back"));
    let set = plane.admin("POST", "/v1/secrets/a", body()).await;
    assert_eq!(set.status, 200, "{}", set.text());
    let ledger = plane.ledger();
    let told = ledger.of(ledger::Kind::VaultChanged);
    let last: Vec<_> = told.iter().rev().take(2).map(|it| &it.body).collect();
    assert_eq!(
        (&last[0]["change"], &last[0]["generation"]),
        (&serde_json::json!("set"), &serde_json::json!(4))
    );
    assert_eq!(
        last[1],
        &serde_json::json!({"change": "accepted", "secret": null, "generation": 3})
    );
    plane.end().await;
}

async fn findings(plane: &Plane) -> String {
    let told = plane.admin("GET", "/v1/doctor", None).await;
    told.text().to_owned()
}
