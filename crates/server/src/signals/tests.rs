use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use ledger::Actor;
use register::{Command, Done, Email, Person, Signal, Status, Subject};
use serde_json::{Value, json};
use store::Faults;
use tempfile::TempDir;
use vocab::rng::SystemRng;
use vocab::time::SystemClock;
use vocab::{Handle, Rng};

use super::*;
use crate::config::FILE_NAME;
use crate::node::{Deps, Node};

const ISSUER: &str = "https://idp.example";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";

/// A node that hears of `idp`, and a sponsor whom the directory calls `00u1`.
struct Listening {
    node: Node,
    maya: Handle,
    key: SigningKey,
    dir: TempDir,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A JWT of a type, signed.
fn sign(key: &SigningKey, header: &Value, claims: &Value) -> String {
    let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let signature = key.sign(signed.as_bytes());
    format!("{signed}.{}", b64(signature.to_bytes()))
}

fn typ(typ: &str) -> Value {
    json!({"typ": typ, "alg": "EdDSA", "kid": "k1"})
}

fn claims(jti: &str, event: &str) -> Value {
    let now = SystemClock::new().now().as_secs();
    json!({
        "iss": ISSUER, "aud": "us", "jti": jti, "iat": now,
        "sub_id": {"format": "iss_sub", "iss": ISSUER, "sub": "00u1"},
        "events": {format!("{RISC}{event}"): {}},
    })
}

async fn start(path: &Path) -> Node {
    let deps = Deps {
        clock: Arc::new(SystemClock::new()) as Arc<dyn Clock>,
        rng: Arc::new(SystemRng) as Arc<dyn Rng>,
        faults: Faults::default(),
        confiner: None,
    };
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let config = Config::read(path).unwrap();
    Node::start(config, listen, deps).await.unwrap()
}

impl Listening {
    async fn restart(self) -> Self {
        self.node.stop().await.unwrap();
        let node = start(&self.dir.path().join(FILE_NAME)).await;
        Self { node, ..self }
    }

    async fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        crate::init::init(dir.path(), &"acme.example".parse().unwrap(), &SystemRng).unwrap();
        let key = SigningKey::from_bytes(&[5; 32]);
        let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1",
            "x": b64(key.verifying_key().as_bytes())}]});
        fs::write(dir.path().join("jwks.json"), jwks.to_string()).unwrap();
        let path = dir.path().join(FILE_NAME);
        let mut text = fs::read_to_string(&path).unwrap();
        let _infallible = write!(
            text,
            "\n[ssf.idp]\nissuer = \"{ISSUER}\"\naudience = \"us\"\njwks = \"file:jwks.json\"\n\
             authorization = \"plain:Bearer pushing\"\n{more}\n"
        );
        fs::write(&path, text).unwrap();
        let node = start(&path).await;
        let email: Email = "maya@acme.example".parse().unwrap();
        let person = Person {
            external_id: Some("00u1".parse().unwrap()),
            ..Person::new("maya".parse().unwrap(), "Maya".parse().unwrap(), email)
        };
        let command = Command::ProvisionSponsor {
            person: Box::new(person),
            signal: Signal {
                source: "scim".parse().unwrap(),
                event: "provisioned".parse().unwrap(),
                received_at: vocab::Time::from_secs(1),
                happened_at: None,
                id: None,
            },
        };
        let done = node
            .plane
            .control()
            .execute(Actor::node("n"), command)
            .await;
        let Done::Changed {
            subject: Subject::Sponsor(maya),
            ..
        } = done.unwrap()
        else {
            panic!("not added");
        };
        Self {
            node,
            maya,
            key,
            dir,
        }
    }

    fn set(&self, jti: &str, event: &str) -> String {
        sign(&self.key, &typ("secevent+jwt"), &claims(jti, event))
    }

    async fn push(&self, stream: &str, authorization: &str, set: String) -> (u16, String) {
        let request = Request::post(format!("{}/ssf/{stream}", self.node.url))
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_TYPE, "application/secevent+jwt")
            .body(Full::new(Bytes::from(set)))
            .unwrap();
        let answer = outbound::send(request, 4096).await.unwrap();
        let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        let err = body["err"].as_str().unwrap_or_default().to_owned();
        (answer.status().as_u16(), err)
    }

    fn status(&self) -> Status {
        self.node.plane.control().view(|state| {
            state
                .sponsor_view(state.sponsor(&self.maya).unwrap())
                .status
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_event_stops_a_sponsor_and_a_forged_one_does_not() {
    let it = Listening::new("").await;
    let good = "Bearer pushing";
    let claims = claims("x", "account-disabled");
    let stranger = SigningKey::from_bytes(&[6; 32]);
    let unsigned = format!(
        "{}.{}.",
        b64(json!({"typ": "secevent+jwt", "alg": "none"}).to_string()),
        b64(claims.to_string())
    );
    let mut elsewhere = claims.clone();
    elsewhere["aud"] = "them".into();
    let mut other = claims.clone();
    other["iss"] = "https://evil.example".into();
    for (set, expected) in [
        (
            sign(&stranger, &typ("secevent+jwt"), &claims),
            "invalid_key",
        ),
        // A token that lets somebody in is no event, and an event lets nobody in.
        (sign(&it.key, &typ("JWT"), &claims), "invalid_request"),
        (
            sign(&it.key, &json!({"alg": "EdDSA", "kid": "k1"}), &claims),
            "invalid_request",
        ),
        (unsigned, "invalid_request"),
        ("not a token".to_owned(), "invalid_request"),
        (
            sign(&it.key, &typ("secevent+jwt"), &elsewhere),
            "invalid_audience",
        ),
        (
            sign(&it.key, &typ("secevent+jwt"), &other),
            "invalid_issuer",
        ),
    ] {
        assert_eq!(it.push("idp", good, set).await, (400, expected.to_owned()));
    }
    let set = it.set("j-1", "account-disabled");
    let denied = it.push("idp", "Bearer x", set.clone()).await;
    assert_eq!(denied, (401, "authentication_failed".to_owned()));
    assert_eq!(it.push("other", good, set.clone()).await.0, 404);
    assert_eq!(it.status(), Status::Active);
    assert_eq!(
        it.push("idp", good, set.clone()).await,
        (202, String::new())
    );
    assert_eq!(it.status(), Status::Suspended);
    // The answer came after its barrier.
    let reader = it.node.plane.calls().reader();
    let barred = (0..reader.size()).any(|index| {
        let entry: Value = serde_json::from_slice(&reader.entry(index).unwrap()).unwrap();
        entry["kind"] == "barrier" && entry["body"]["cause"] == "sponsor-suspended"
    });
    assert!(barred);
    // The node says by itself how the cut ended; after that nothing more is written.
    let control = it.node.plane.control();
    let cut = control.view(|state| state.cuts().last().unwrap().record);
    it.node.plane.certificate_of(cut).await.unwrap();
    let size = control.view(register::State::size);
    assert_eq!(it.push("idp", good, set).await.0, 202);
    assert_eq!(it.node.plane.control().view(register::State::size), size);
    it.node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_of_events_after_a_restart_does_nothing() {
    let mut it = Listening::new("").await;
    let began = SystemClock::new().now().as_secs() - 100;
    let set = |it: &Listening, at: u64, uri: &str, payload: Value| {
        let mut claims = claims(&format!("j-{at}"), "none");
        claims["iat"] = (began + at).into();
        claims["events"] = json!({uri: payload});
        sign(&it.key, &typ("secevent+jwt"), &claims)
    };
    let account = |it: &Listening, at: u64, event: &str| {
        set(it, at, &format!("{RISC}account-{event}"), json!({}))
    };
    let caep = |it: &Listening, at: u64, event: &str, payload: Value| {
        let uri = format!("https://schemas.openid.net/secevent/caep/event-type/{event}");
        set(it, at, &uri, payload)
    };
    let risk = |it: &Listening, at: u64, level: &str| {
        caep(it, at, "risk-level-change", json!({"current_level": level}))
    };
    let sent = [
        account(&it, 0, "disabled"),
        account(&it, 1, "enabled"),
        account(&it, 2, "disabled"),
        risk(&it, 3, "HIGH"),
        risk(&it, 4, "LOW"),
        risk(&it, 5, "HIGH"),
        caep(&it, 6, "session-revoked", json!({})),
    ];
    for set in &sent {
        let taken = it.push("idp", "Bearer pushing", set.clone()).await;
        assert_eq!(taken, (202, String::new()));
    }
    let holds = |it: &Listening| {
        let control = it.node.plane.control();
        control.view(|state| state.sponsor(&it.maya).unwrap().holds.len())
    };
    assert_eq!((it.status(), holds(&it)), (Status::Suspended, 2));
    let heard = |it: &Listening| {
        it.node.plane.control().view(|state| {
            let sponsor = state.sponsor(&it.maya).unwrap();
            (sponsor.clone(), state.generation())
        })
    };
    for resumed in [false, true] {
        if resumed {
            // Neither stops whom an administrator resumed.
            let command = Command::ResumeSponsor {
                id: "maya".parse().unwrap(),
                signal: None,
                despite: true,
            };
            let control = it.node.plane.control();
            control.execute(Actor::node("n"), command).await.unwrap();
        }
        it = it.restart().await;
        let before = heard(&it);
        for set in &sent {
            let taken = it.push("idp", "Bearer pushing", set.clone()).await;
            assert_eq!(taken, (202, String::new()));
        }
        assert_eq!(heard(&it), before);
        assert_eq!(it.status() == Status::Active, resumed);
    }
    let later = account(&it, 7, "disabled");
    it.push("idp", "Bearer pushing", later).await;
    assert_eq!(it.status(), Status::Suspended);
    it.node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_hangs_keeps_nobody_active() {
    // It takes connections, and never says anything.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let it = Listening::new(&format!(
        "\n[directory]\nurl = \"http://{address}\"\nevery_s = 1\nfresh_s = 2\n"
    ))
    .await;
    let stopped = async {
        while it.status() == Status::Active {
            tokio::task::yield_now().await;
        }
    };
    // Long before one question after the other would be given up.
    tokio::time::timeout(Duration::from_secs(15), stopped)
        .await
        .unwrap();
    it.node.stop().await.unwrap();
    drop(listener);
}

/// What a transmitter still has to tell.
type Waiting = Arc<Mutex<Vec<(String, String)>>>;

#[tokio::test(flavor = "multi_thread")]
async fn a_transmitter_is_polled_until_it_has_nothing_more_to_tell() {
    let waiting: Waiting = Arc::default();
    let app = Router::new()
        .route(
            "/poll",
            post(
                |State(waiting): State<Waiting>, Json(asked): Json<Value>| async move {
                    let mut waiting = waiting.lock().unwrap();
                    let acks = asked["ack"].as_array().cloned().unwrap_or_default();
                    waiting.retain(|(jti, _)| !acks.iter().any(|ack| ack == jti));
                    let sets: serde_json::Map<String, Value> = waiting
                        .iter()
                        .map(|(jti, set)| (jti.clone(), set.as_str().into()))
                        .collect();
                    Json(json!({"sets": sets}))
                },
            ),
        )
        .with_state(Arc::clone(&waiting));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let it = Listening::new(&format!("poll_url = \"http://{address}/poll\"\npoll_s = 1")).await;
    let set = it.set("j-1", "account-disabled");
    waiting.lock().unwrap().push(("j-1".to_owned(), set));
    let told = async {
        while !waiting.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told)
        .await
        .unwrap();
    assert_eq!(it.status(), Status::Suspended);
    it.node.stop().await.unwrap();
    server.abort();
}

#[test]
fn a_transmitters_configuration_is_between_host_and_path() {
    let at = |issuer: &str| well_known(&issuer.parse().unwrap()).unwrap().to_string();
    assert_eq!(
        at("https://idp.example"),
        "https://idp.example/.well-known/ssf-configuration"
    );
    assert_eq!(
        at("https://idp.example/tenant/1/"),
        "https://idp.example/.well-known/ssf-configuration/tenant/1"
    );
}
