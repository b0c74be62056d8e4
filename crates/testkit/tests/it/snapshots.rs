//! The register's snapshot, over a whole node: what the start begins with, what tells of it, and
//! that nothing hangs on it.

use std::fs;

use server::commands::ledger::verify;
use testkit::Plane;

use crate::common::ANY;

/// What the running node says of its snapshot.
async fn told(plane: &Plane) -> (String, String) {
    let found = plane.admin("GET", "/v1/doctor", None).await.json();
    let found = found.as_array().unwrap().iter();
    let mut found = found.filter(|it| it["check"] == "snapshot");
    let finding = found.next().unwrap();
    assert!(found.next().is_none());
    let text = |member: &str| finding[member].as_str().unwrap().to_owned();
    (text("status"), text("finding"))
}

async fn check_told(plane: &Plane, status: &str, part: &str) {
    let (found, finding) = told(plane).await;
    assert!(
        found == status && finding.contains(part),
        "{found}: {finding}"
    );
}

#[tokio::test]
async fn a_node_that_stopped_starts_from_its_snapshot() {
    let mut plane = Plane::start().await;
    check_told(&plane, "ok", "no snapshot of the register was there").await;
    let agent = plane.agent("triage").await;
    let client = agent.token("files").await.modern();
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    plane.restart().await;
    check_told(&plane, "ok", "began with a snapshot of").await;
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    plane.command("/v1/agents/triage/suspend").await;
    // What came after the snapshot holds after a kill.
    plane.kill();
    plane.boot().await.unwrap();
    check_told(&plane, "ok", "began with a snapshot of").await;
    assert!(!client.call("anything", ANY).await.status.is_success());
    plane.stop().await.unwrap();
    let checked = verify(&plane.data(), None, &[]);
    assert!(checked.verified);
    let snapshot = checked.snapshot.as_ref().unwrap();
    assert!(snapshot.size.is_some() && snapshot.not_taken.is_none());
    assert!(
        checked
            .text(true)
            .contains("snapshot: the same as the fold")
    );
    plane.end().await;
}

#[tokio::test]
async fn a_snapshot_that_was_changed_is_not_taken_and_stops_nothing() {
    let mut plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let client = agent.token("files").await.modern();
    plane.stop().await.unwrap();
    let path = server::node::snapshot::path(&plane.data());
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let checked = verify(&plane.data(), None, &[]);
    assert!(checked.verified, "it is derived");
    assert!(checked.snapshot.unwrap().not_taken.is_some());
    plane.boot().await.unwrap();
    check_told(&plane, "warn", "its body is not the one that was signed").await;
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    // The next one is right again, and without one a start is one too.
    plane.restart().await;
    check_told(&plane, "ok", "began with a snapshot of").await;
    plane.stop().await.unwrap();
    fs::remove_file(&path).unwrap();
    assert!(verify(&plane.data(), None, &[]).snapshot.is_none());
    plane.boot().await.unwrap();
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    plane.end().await;
}
