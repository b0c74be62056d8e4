//! The keys that sign tokens: changed on command and on schedule, with overlap; refused at once
//! when one has leaked; and what the keys folder may look like after a crash, a loss or a restore.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ledger::Kind;
use serde_json::Value;
use server::node::StartError;
use testkit::{Plane, until};
use tokens::Algorithm;

use crate::common::ANY;

const HOURS: Duration = Duration::from_hours(1);

/// The keys by their status, the last first.
async fn keys(plane: &Plane) -> Vec<(String, String)> {
    let keys = plane.admin("GET", "/v1/keys", None).await.json();
    let keys = keys.as_array().unwrap().iter();
    let keys = keys.filter(|key| key["of"] == "tokens");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    keys.map(|key| (text(&key["status"]), text(&key["id"])))
        .collect()
}

async fn statuses(plane: &Plane) -> Vec<String> {
    let keys = keys(plane).await.into_iter();
    keys.map(|(status, _)| status).collect()
}

async fn key_that_is(plane: &Plane, status: &str) -> String {
    let keys = keys(plane).await.into_iter();
    let mut found = keys.filter(|(is, _)| is == status);
    found.next().unwrap().1
}

async fn published(plane: &Plane) -> Vec<String> {
    let jwks = plane.ask("GET", "/oauth/jwks").send().await.json();
    let keys = jwks["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

fn key_file(plane: &Plane, name: &str) -> PathBuf {
    plane.folder().join("keys").join(name)
}

#[tokio::test]
async fn a_key_is_changed_on_command_with_overlap() {
    let mut plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let before = agent.token("files").await.modern();
    let (first, next) = (
        key_that_is(&plane, "current").await,
        key_that_is(&plane, "announced").await,
    );
    // The next one is published before it signs.
    assert_eq!(published(&plane).await, [first.clone(), next.clone()]);
    let done = plane.command("/v1/keys/rotate").await;
    assert_eq!(done["id"], next);
    assert_eq!(done["status"], "current");
    let entry = plane.ledger().last(Kind::TokenKeyActivated).clone();
    assert_eq!(entry.body["kid"], next);
    assert!(entry.actor.verified, "{entry:?}");
    assert_eq!(statuses(&plane).await, ["announced", "current", "past"]);
    // Tokens of both are good.
    let after = agent.token("files").await.modern();
    for client in [&before, &after] {
        assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    }
    plane.clock.advance(Duration::from_secs(301));
    assert!(!published(&plane).await.contains(&first));
    until("the first key is retired", async || {
        statuses(&plane).await == ["announced", "current", "retired"]
    })
    .await;
    assert_eq!(
        plane.ledger().last(Kind::TokenKeyRetired).body["kid"],
        first
    );
    // It goes on so after a restart.
    plane.restart().await;
    assert_eq!(statuses(&plane).await, ["announced", "current", "retired"]);
    let client = agent.token("files").await.modern();
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    plane.end().await;
}

#[tokio::test]
async fn a_key_is_changed_on_schedule() {
    let plane = Plane::with(|setup| setup.top = "tokens = { rotation_days = 2 }".to_owned()).await;
    let next = key_that_is(&plane, "announced").await;
    plane.clock.advance(47 * HOURS);
    plane.agent("triage").await;
    assert_eq!(statuses(&plane).await, ["announced", "current"]);
    plane.clock.advance(2 * HOURS);
    until("the next key signs", async || {
        key_that_is(&plane, "current").await == next
    })
    .await;
    let entry = plane.ledger().last(Kind::TokenKeyActivated).clone();
    assert_eq!(entry.actor.kind, ledger::ActorKind::Node);
    plane.end().await;
}

/// A start with another algorithm publishes a next key of it, and one change has that sign.
#[tokio::test]
async fn another_algorithm_signs_after_one_change() {
    let mut plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let before = agent.token("files").await.modern();
    let replaced = key_that_is(&plane, "announced").await;
    plane.reconfigure(|setup| setup.top = "tokens = { algorithm = \"ES256\" }".to_owned());
    plane.restart().await;
    let algorithm_of = async |status: &str| {
        let keys = plane.admin("GET", "/v1/keys", None).await.json();
        let mut keys = keys.as_array().unwrap().iter();
        let found = keys.find(|key| key["of"] == "tokens" && key["status"] == status);
        found.unwrap()["algorithm"].as_str().unwrap().to_owned()
    };
    assert_eq!(algorithm_of("current").await, "EdDSA");
    assert_eq!(algorithm_of("announced").await, "ES256");
    assert!(!published(&plane).await.contains(&replaced));
    plane.command("/v1/keys/rotate").await;
    assert_eq!(algorithm_of("current").await, "ES256");
    let after = agent.token("files").await.modern();
    for client in [&before, &after] {
        assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    }
    plane.end().await;
}

/// A leaked token key: what it signed is refused from the acknowledgement on, seen before or not,
/// and nothing permitted by it follows the barrier.
#[tokio::test]
async fn a_leaked_token_key_is_refused_at_once() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let (known, unseen) = (
        agent.token("files").await.modern(),
        agent.token("files").await.modern(),
    );
    assert_eq!(known.call("anything", ANY).await.effect(), "allow");
    let leaked = key_that_is(&plane, "current").await;
    let done = plane.command(&format!("/v1/keys/{leaked}/revoke")).await;
    assert_eq!(
        (&done["id"], &done["status"]),
        (&leaked.clone().into(), &"compromised".into())
    );
    let ledger = plane.ledger();
    let barrier = ledger.last(Kind::Barrier);
    assert_eq!(barrier.body["cause"], "token-key-revoked");
    let decisions = ledger.of(Kind::Decision);
    assert!(decisions.iter().all(|it| it.index < barrier.index));
    for client in [&known, &unseen] {
        let answer = client.ask_call("anything", ANY).send().await;
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    assert!(!published(&plane).await.contains(&leaked));
    assert_eq!(
        statuses(&plane).await,
        ["announced", "current", "compromised"]
    );
    let client = agent.token("files").await.modern();
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    // Both lay in one folder: the one that was announced may have leaked, too.
    let announced = key_that_is(&plane, "announced").await;
    plane.command(&format!("/v1/keys/{announced}/revoke")).await;
    assert_ne!(key_that_is(&plane, "announced").await, announced);
    plane.command("/v1/keys/rotate").await;
    // Asked again, it is proven again.
    let again = plane.command(&format!("/v1/keys/{leaked}/revoke")).await;
    assert_eq!(again["changed"], false);
    let unknown = plane.admin("POST", "/v1/keys/nonsense/revoke", None).await;
    assert_eq!(unknown.status, 404);
    plane.end().await;
}

/// Permits that are under way when the key is revoked come before the barrier, or not at all.
#[tokio::test]
async fn no_permit_by_a_leaked_key_follows_the_barrier_under_load() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    for _ in 0..3 {
        let token = agent.token("files").await;
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let client = token.modern();
                tokio::spawn(async move {
                    loop {
                        let answer = client.ask_call("anything", ANY).send().await;
                        if answer.status == 401 {
                            return;
                        }
                    }
                })
            })
            .collect();
        let leaked = key_that_is(&plane, "current").await;
        plane.command(&format!("/v1/keys/{leaked}/revoke")).await;
        for caller in callers {
            testkit::within("a caller that is refused", caller)
                .await
                .unwrap();
        }
        let calls = plane.calls();
        let barrier = calls.last(Kind::Barrier).index;
        let after = calls.of(Kind::Decision).into_iter();
        let after = after.filter(|it| it.index > barrier && it.body["effect"] == "allow");
        assert_eq!(after.count(), 0);
    }
    plane.end().await;
}

#[tokio::test]
async fn the_keys_folder_after_a_crash() {
    let mut plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let (present, next) = (
        key_file(&plane, "token.key"),
        key_file(&plane, "token.next.key"),
    );
    // The file was moved, and nothing is on record yet: what lies there is to sign.
    let announced = key_that_is(&plane, "announced").await;
    plane.stop().await.unwrap();
    fs::rename(&next, &present).unwrap();
    plane.boot().await.unwrap();
    assert_eq!(key_that_is(&plane, "current").await, announced);
    assert_eq!(statuses(&plane).await, ["announced", "current", "past"]);
    // A next key that nobody was told of, in place of one that was announced and is gone.
    let lost = key_that_is(&plane, "announced").await;
    plane.kill();
    fs::remove_file(&next).unwrap();
    plane.boot().await.unwrap();
    let keys = keys(&plane).await;
    assert!(keys.contains(&("retired".to_owned(), lost)), "{keys:?}");
    let client = agent.token("files").await.modern();
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    plane.end().await;
}

#[tokio::test]
async fn a_token_key_that_was_lost_or_put_back() {
    let mut plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let present = key_file(&plane, "token.key");
    let old = fs::read(&present).unwrap();
    let before = agent.token("files").await.modern();
    // Lost: the node says so, and another one is made.
    plane.stop().await.unwrap();
    fs::remove_file(&present).unwrap();
    assert!(matches!(plane.boot().await, Err(StartError::Key(_))));
    let folder = plane.folder().join("keys");
    let rng = testkit::SeededRng::new(9);
    let made = server::rotation::replace_offline(&folder, Algorithm::Es256, &rng).unwrap();
    plane.boot().await.unwrap();
    assert_eq!(key_that_is(&plane, "current").await, made.as_str());
    // Tokens of the lost one are good until they expire, for it did not leak.
    assert_eq!(before.call("anything", ANY).await.effect(), "allow");
    let client = agent.token("files").await.modern();
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    // An old one that was put back does not sign again.
    plane.stop().await.unwrap();
    fs::write(&present, old).unwrap();
    match plane.boot().await {
        Err(StartError::Unusable(told)) => {
            assert!(
                told.contains("which is past") && told.contains("keys rotate token"),
                "{told}"
            );
        }
        other => panic!("{other:?}"),
    }
    server::rotation::replace_offline(&folder, Algorithm::EdDsa, &rng).unwrap();
    plane.boot().await.unwrap();
    let client = agent.token("files").await.modern();
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    plane.end().await;
}

/// What fails while a key is changed leaves one that signs.
#[tokio::test]
async fn a_change_that_cannot_be_recorded_leaves_the_old_key_signing() {
    let mut plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let current = key_that_is(&plane, "current").await;
    plane.faults.set(store::Fault::Full);
    let refused = plane.admin("POST", "/v1/keys/rotate", None).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    plane.faults.set(store::Fault::None);
    assert_eq!(key_that_is(&plane, "current").await, current);
    let client = agent.token("files").await.modern();
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    // What was begun is finished by the next start, or by the next change, whatever that is.
    for again in [true, false] {
        let begun = key_that_is(&plane, "announced").await;
        if again {
            plane.restart().await;
        } else {
            plane.faults.set(store::Fault::Full);
            let refused = plane.admin("POST", "/v1/keys/rotate", None).await;
            assert_eq!(refused.status, 503, "{refused:?}");
            plane.faults.set(store::Fault::None);
            let begun = key_that_is(&plane, "announced").await;
            plane.command(&format!("/v1/keys/{current}/revoke")).await;
            assert_eq!(key_that_is(&plane, "current").await, begun);
            plane.restart().await;
            assert_eq!(key_that_is(&plane, "current").await, begun);
            continue;
        }
        assert_eq!(key_that_is(&plane, "current").await, begun);
        assert_eq!(statuses(&plane).await, ["announced", "current", "past"]);
    }
    let client = agent.token("files").await.modern();
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    plane.end().await;
}
