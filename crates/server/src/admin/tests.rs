use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use ledger::note::Signer;
use serde_json::{Value, json};
use store::{Fault, Faults};
use tempfile::TempDir;
use vocab::rng::SystemRng;
use vocab::time::SystemClock;
use vocab::{Clock, Rng};

use super::client::{AdminError, Client};
use super::*;
use crate::config::{Config, FILE_NAME};
use crate::node::{Deps, Node};

/// A node on a folder of its own.
struct Place {
    dir: TempDir,
    node: Node,
    faults: Faults,
    clock: SystemClock,
}

impl Place {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        crate::init::init(dir.path(), &"acme.example".parse().unwrap(), &SystemRng).unwrap();
        // An upstream that nothing is asked of.
        let mut config = fs::OpenOptions::new();
        let mut config = config
            .append(true)
            .open(dir.path().join(FILE_NAME))
            .unwrap();
        config
            .write_all(b"[upstream.desk]\nurl = \"http://127.0.0.1:9/mcp\"\n")
            .unwrap();
        Self::on(dir).await
    }

    async fn on(dir: TempDir) -> Self {
        let faults = Faults::default();
        let deps = Deps {
            clock: Arc::new(SystemClock::new()) as Arc<dyn Clock>,
            rng: Arc::new(SystemRng) as Arc<dyn Rng>,
            faults: faults.clone(),
            confiner: None,
        };
        let config = Config::read(&dir.path().join(FILE_NAME)).unwrap();
        let listen = Some("127.0.0.1:0".parse().unwrap());
        let node = Node::start(config, listen, deps).await.unwrap();
        Self {
            dir,
            node,
            faults,
            clock: SystemClock::new(),
        }
    }

    async fn restarted(self) -> Self {
        self.node.stop().await.unwrap();
        Self::on(self.dir).await
    }

    fn config(&self) -> Config {
        Config::read(&self.dir.path().join(FILE_NAME)).unwrap()
    }

    fn client(&self, key: Option<&Path>) -> Result<Client<'_>, AdminError> {
        Client::find(&self.config(), key, &self.clock, &SystemRng)
    }

    async fn get(&self, target: &str) -> Value {
        self.client(None).unwrap().get(target).await.unwrap()
    }

    async fn post(&self, target: &str, body: &Value) -> Result<Value, AdminError> {
        self.client(None).unwrap().post_json(target, body).await
    }

    /// A sponsor `maya` and her agent `triage`.
    async fn people(&self) {
        let maya = json!({"id": "maya", "name": "Maya", "email": "maya@example.com"});
        self.post("/v1/sponsors", &maya).await.unwrap();
        self.post("/v1/agents", &agent("triage", "maya"))
            .await
            .unwrap();
    }

    /// Waits until each cut has its certificate: it is written after the answer, by the node.
    async fn certified(&self) {
        let plane = &self.node.plane;
        let open: Vec<u64> = plane.control().view(|state| state.uncertified().collect());
        for cut in open {
            plane.certificate_of(cut).await.unwrap();
        }
    }

    fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(socket_path(&self.config().data)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

fn agent(id: &str, sponsor: &str) -> Value {
    let key = tokens::PrivateKey::generate(&SystemRng).unwrap();
    json!({"id": id, "sponsor": sponsor, "purposes": ["triage"],
           "key": {"jwk": key.public().to_jwk()}})
}

fn refused(answer: Result<Value, AdminError>) -> String {
    match answer {
        Err(AdminError::Refused(problem)) => problem.error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_change_the_register_and_name_who_gave_them() {
    let place = Place::new().await;
    place.people().await;
    let suspended = place
        .post("/v1/agents/triage/suspend", &json!({}))
        .await
        .unwrap();
    assert_eq!(suspended["status"], "suspended");
    assert_eq!(suspended["changed"], true);
    let again = place
        .post("/v1/agents/triage/suspend", &json!({}))
        .await
        .unwrap();
    assert_eq!(
        (&again["changed"], &again["records"]),
        (&json!(false), &json!([]))
    );
    let record = &suspended["records"][0];
    let target = format!("/v1/trace/control/{}", record["index"]);
    let entry = place.get(&target).await;
    assert_eq!(entry["kind"], "agent-suspended");
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(
        entry["actor"],
        json!({"type": "person", "id": format!("uid:{uid}"), "credential": "peer-uid",
               "verified": true})
    );
    // What a cut rules out cannot follow its barrier.
    let calls = place.get("/v1/status").await["calls_size"]
        .as_u64()
        .unwrap();
    let barrier = place.get(&format!("/v1/trace/calls/{}", calls - 1)).await;
    assert_eq!(barrier["body"]["cause"], "agent-suspended");
    place.node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_refused_and_explained() {
    let place = Place::new().await;
    place.people().await;
    let maya = json!({"id": "maya", "name": "Maya", "email": "maya@example.com"});
    let mut private = agent("other", "maya");
    private["key"]["jwk"]["d"] = json!("AAAA");
    let mut unknown_member = agent("other", "maya");
    unknown_member["purpose"] = json!("triage");
    for (target, body, expected) in [
        ("/v1/sponsors", maya, "exists"),
        ("/v1/agents", agent("other", "maja"), "unknown"),
        ("/v1/agents", agent("triage", "maya"), "exists"),
        ("/v1/agents", private, "bad-request"),
        ("/v1/agents", unknown_member, "bad-request"),
        ("/v1/agents", json!("x"), "bad-request"),
        ("/v1/agents/nobody/suspend", json!({}), "unknown"),
        ("/v1/agents/triage/promote", json!({}), "no-route"),
        (
            "/v1/instances/i-aaaaaaaaaaaaaaaaaaaaaaaaaa/revoke",
            json!({}),
            "unknown",
        ),
        ("/v1/erase", json!({"what": "maya"}), "refused"),
        ("/v1/nothing", json!({}), "no-route"),
    ] {
        assert_eq!(
            refused(place.post(target, &body).await),
            expected,
            "{target}"
        );
    }
    place.node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_knows_who_is_calling() {
    let place = Place::new().await;
    let answer = place.raw("GET /v1/sponsors HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.contains("no-cookie"),
        "{answer}"
    );
    let wrong = "GET /v1/sponsors HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                 tipstaff-cookie: aaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n";
    assert!(place.raw(wrong).contains("no-cookie"));
    let forged = "GET /v1/sponsors HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                  tipstaff-admin: aaaa\r\n\r\n";
    let answer = place.raw(forged);
    assert!(
        answer.starts_with("HTTP/1.1 401") && answer.contains("untrusted"),
        "{answer}"
    );

    place.node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn named_administrators_are_on_record_and_nowhere_else() {
    let mut place = Place::new().await;
    let key = place.dir.path().join("ops.key");
    let signer = Signer::generate("ops", &SystemRng).unwrap();
    keys::write_secret(&key, signer.to_text().expose()).unwrap();
    let refused_as_ops = refused(place.client(Some(&key)).unwrap().get("/v1/sponsors").await);
    assert_eq!(refused_as_ops, "untrusted");
    let vkey = signer.verifier().to_string();
    let added = place
        .post("/v1/admins", &json!({"key": vkey}))
        .await
        .unwrap();
    assert_eq!(added["key"], vkey);
    let trace = |record: &Value| format!("/v1/trace/control/{}", record["index"]);
    let entry = place.get(&trace(&added["records"][0])).await;
    assert_eq!(entry["kind"], "admin-added");
    assert_eq!(entry["actor"]["credential"], "peer-uid");
    assert!(!entry.to_string().contains("PRIVATE"), "{entry}");
    // The same key once more is no news; another key of that name is refused.
    let again = place.post("/v1/admins", &json!({"key": vkey})).await;
    assert_eq!(again.unwrap()["changed"], false);
    for (name, expected) in [("ops", "exists"), ("uid:0", "bad-request")] {
        let other = Signer::generate(name, &SystemRng).unwrap();
        let other = json!({"key": other.verifier().to_string()});
        assert_eq!(refused(place.post("/v1/admins", &other).await), expected);
    }
    let ops = place.client(Some(&key)).unwrap();
    let maya = json!({"id": "maya", "name": "Maya", "email": "maya@example.com"});
    let added = ops.post_json("/v1/sponsors", &maya).await.unwrap();
    let entry = ops
        .get(&format!(
            "/v1/trace/control/{}",
            added["records"][0]["index"]
        ))
        .await;
    let entry = entry.unwrap();
    assert_eq!(
        entry["actor"],
        json!({
            "type": "person", "id": "ops", "verified": true,
            "credential": format!("admin-key:{}", signer.verifier().key_name()),
        })
    );
    // The register is what says who they are, also after a restart.
    place = place.restarted().await;
    let ops = place.client(Some(&key)).unwrap();
    assert_eq!(ops.get("/v1/admins").await.unwrap()[0]["id"], "ops");
    let removed = ops.post("/v1/admins/ops/remove").await.unwrap();
    assert_eq!(removed["status"], "revoked");
    assert_eq!(refused(ops.get("/v1/sponsors").await), "untrusted");
    let entry = place.get(&trace(&removed["records"][0])).await;
    assert_eq!(entry["kind"], "admin-removed");
    assert_eq!(entry["actor"]["id"], "ops", "by themselves");
    let gone = place.post("/v1/admins/ops/remove", &json!({})).await;
    assert_eq!(refused(gone), "unknown");
    assert_eq!(place.get("/v1/admins").await, json!([]));
    place.node.stop().await.unwrap();
}

/// Whatever step the disk fails at, the answer is true: what was refused did not happen, what
/// holds but is not proven is said to be so, and giving the command again completes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_on_a_failing_disk_says_what_holds() {
    let place = Place::new().await;
    place.people().await;
    let mut seen = std::collections::BTreeSet::new();
    for steps in 0.. {
        place.faults.set_from(steps, Fault::Io);
        let answer = place.post("/v1/agents/triage/suspend", &json!({})).await;
        place.faults.set(Fault::None);
        let status = place.get("/v1/agents/triage").await["status"].clone();
        let word = match answer {
            Ok(done) => {
                assert_eq!(done["status"], "suspended");
                "done".to_owned()
            }
            refusal => refused(refusal),
        };
        let holds = word != "not-recorded";
        assert_eq!(
            status,
            if holds { "suspended" } else { "active" },
            "{word} at {steps}"
        );
        seen.insert(word.clone());
        let done = place
            .post("/v1/agents/triage/suspend", &json!({}))
            .await
            .unwrap();
        assert_eq!(done["status"], "suspended");
        place.certified().await;
        if word == "done" {
            break;
        }
        place
            .post("/v1/agents/triage/resume", &json!({}))
            .await
            .unwrap();
    }
    let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
    assert_eq!(seen, ["done", "not-recorded", "unproven", "unpublished"]);
    place.node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_gone_is_not_found() {
    let place = Place::new().await;
    let data = place.config().data;
    let Place {
        dir, node, clock, ..
    } = place;
    node.stop().await.unwrap();
    assert!(!socket_path(&data).exists() && !cookie_path(&data).exists());
    let config = Config::read(&dir.path().join(FILE_NAME)).unwrap();
    let found = Client::find(&config, None, &clock, &SystemRng);
    assert!(matches!(found, Err(AdminError::NoNode { .. })), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_shown_traced_and_revoked() {
    let place = Place::new().await;
    place.people().await;
    let control = place.node.plane.control();
    let key = control.view(|state| {
        let triage = state.agent(&"triage".parse().unwrap()).unwrap();
        triage.key.as_ref().unwrap().kid.clone()
    });
    let start = register::Command::StartInstance {
        agent: "triage".parse().unwrap(),
        kid: key,
        purpose: "triage/refunds".parse().unwrap(),
        binding: register::Binding::Bearer,
        upstream: "desk".parse().unwrap(),
        continues: None,
    };
    // The agent may not have bearer tokens, so it is not this way that an instance is had.
    assert!(
        control
            .execute(Actor::node("n"), start.clone())
            .await
            .is_err()
    );
    let mut bearer = agent("bearer", "maya");
    bearer["allow_bearer"] = json!(true);
    let added = place.post("/v1/agents", &bearer).await.unwrap();
    let register::Command::StartInstance {
        purpose,
        binding,
        upstream,
        ..
    } = start
    else {
        panic!("it was one");
    };
    let start = register::Command::StartInstance {
        agent: "bearer".parse().unwrap(),
        kid: added["key"]["kid"].as_str().unwrap().parse().unwrap(),
        purpose,
        binding,
        upstream,
        continues: None,
    };
    control.execute(Actor::node("n"), start).await.unwrap();

    let listed = place.get("/v1/instances").await;
    let seen = &listed[0];
    assert_eq!(
        (
            &seen["agent"],
            &seen["sponsor"],
            &seen["purpose"],
            &seen["parent"],
            &seen["status"]
        ),
        (
            &json!("bearer"),
            &json!("maya"),
            &json!("triage/refunds"),
            &Value::Null,
            &json!("active")
        )
    );
    let id = seen["id"].as_str().unwrap();
    assert_eq!(place.get(&format!("/v1/instances/{id}")).await, *seen);
    let trace = place.get(&format!("/v1/trace/{id}")).await;
    assert_eq!(trace["instance"], *seen);
    assert_eq!(trace["binding"], "bearer");
    assert_eq!(trace["registered"]["sponsorship"], "asserted");
    assert_eq!(trace["decisions"], json!([]));
    let revoked = place
        .post(&format!("/v1/instances/{id}/revoke"), &json!({}))
        .await
        .unwrap();
    assert_eq!(
        (&revoked["status"], &revoked["changed"]),
        (&json!("revoked"), &json!(true))
    );
    place.node.stop().await.unwrap();
}

#[test]
fn a_long_path_gets_a_socket_elsewhere() {
    let short = Path::new("/srv/tipstaff/data");
    assert_eq!(socket_path(short), short.join("admin.sock"));
    let long = Path::new("/srv").join("x".repeat(120));
    let socket = socket_path(&long);
    assert!(
        socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX,
        "{}",
        socket.display()
    );
    assert_ne!(socket, socket_path(&long.join("other")));
}

#[test]
fn a_folder_that_others_may_write_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tipstaff-x");
    let uid = rustix::process::geteuid().as_raw();
    own_folder(&folder, uid).unwrap();
    own_folder(&folder, uid).unwrap();
    assert!(own_folder(&folder, uid + 1).is_err());
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(own_folder(&folder, uid).is_err());
}
