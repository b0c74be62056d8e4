//! The narrow path: one call, attributed, decided, recorded, sent and answered, in both eras.

use ledger::Kind;
use testkit::Plane;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowed_call() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let reply = token
        .modern()
        .call("read_text_file", r#"{"path":"/public/a.txt"}"#)
        .await;
    assert_eq!(reply.effect(), "allow", "{}", reply.json);
    let ledger = plane.ledger();
    assert_eq!(ledger.of(Kind::Decision).len(), 1);
    assert!(ledger.outcome(reply.record().unwrap()).is_some());
    plane.end().await;
}
