//! Access requests over `AuthZEN`: an enforcement point follows, as a task, what people were asked
//! about for it, and nobody else does.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::Answer;
use vocab::Digest;

use crate::approvals;
use crate::authzen::{Asker, by_token};

const REQUESTS: &str = "/access/v1/requests";
const REFUND: &str = "files/refund";

/// What an enforcement point submits about a question that was held.
fn submission(question: &Value, held: &Value) -> Value {
    let context = &held["context"];
    let mut submission = question.clone();
    submission["denial"] = json!({
        "evaluation_id": context["evaluation_id"],
        "expires_at": context["access_request"]["expires_at"],
        "reason": context["reason"],
    });
    submission
}

fn problem(answer: &Answer, status: u16, word: &str) {
    assert_eq!(answer.status, status, "{word}: {}", answer.text());
    let media_type = answer.header("content-type");
    assert_eq!(media_type, Some("application/problem+json"));
    let urn = format!("urn:openid:authzen:access-request:error:{word}");
    let json = answer.json();
    assert_eq!(
        (&json["type"], &json["status"]),
        (&json!(urn), &json!(status))
    );
}

impl Asker<'_> {
    async fn status(&self, id: &str) -> Answer {
        let path = format!("{REQUESTS}/{id}");
        self.get(&path).send().await
    }

    async fn task(&self, id: &str) -> Value {
        let answer = self.status(id).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        answer.json()
    }
}

/// The same question, with what was approved.
fn again(question: &Value, task: &Value) -> Value {
    let mut question = question.clone();
    question["context"]["approval"] = task["result"]["approval"].clone();
    question
}

#[tokio::test]
async fn a_held_answer_is_requested_followed_and_asked_again_once() {
    let plane = approvals::office("").await;
    let bearer = plane.agent("triage").await.bearer("files").await;
    let asker = Asker::add(&plane, "notes-server", &["files"], false).await;
    let metadata = plane.ask("GET", "/.well-known/authzen-configuration");
    let metadata = metadata.send().await.json();
    let url = metadata["access_request_endpoint"].as_str().unwrap();
    assert!(url.ends_with(REQUESTS), "{metadata}");
    let capability = "urn:openid:authzen:capability:access-request";
    assert_eq!(metadata["capabilities"], json!([capability]));
    let question = by_token(&bearer, REFUND, approvals::REFUND);
    let held = asker.evaluate(&question).await;
    let asked = approvals::asked(&plane);
    let context = &held["context"];
    assert_eq!(
        (&held["decision"], &context["evaluation_id"]),
        (&json!(false), &json!(asked.id))
    );
    let request = &context["access_request"];
    assert_eq!(request["endpoint"], url);
    assert_eq!(request["expires_at"], asked.until().to_string());
    assert_eq!(request["form_url"], context["approval"]["url"]);
    assert_eq!(context["next_action"], Value::Null, "nothing was presented");
    // Nobody is asked twice: the task is what waits already.
    let before = plane.ledger().control.len();
    let submission = submission(&question, &held);
    for _ in 0..2 {
        let answer = asker.post(REQUESTS, &submission).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        let task = answer.json()["task"].clone();
        assert_eq!(
            (&task["id"], &task["status"]),
            (&json!(asked.id), &json!("pending"))
        );
        assert_eq!(answer.header("location"), task["status_endpoint"].as_str());
        assert_eq!(asker.task(asked.id.as_str()).await["task"], task);
    }
    assert_eq!(plane.ledger().control.len(), before);
    approvals::answers(&plane, "noor", true).await;
    let task = asker.task(asked.id.as_str()).await;
    assert_eq!(task["task"]["status"], "approved", "{task}");
    let approval = &task["result"]["approval"];
    assert_eq!(task["result"]["mode"], "reevaluate");
    assert_eq!(approval["id"], asked.id.as_str());
    let until = approvals::asked(&plane).until().to_string();
    assert_eq!(approval["approved_until"], until);
    assert!(
        !task.to_string().contains("noor"),
        "who approved is not told: {task}"
    );
    // Completed, it is submitted as before.
    let answer = asker.post(REQUESTS, &submission).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (201, task.clone()));
    let question = again(&question, &task);
    let yes = asker.evaluate(&question).await;
    assert_eq!(yes["decision"], true, "{yes}");
    // Once: brought along again it is worth nothing, and people are asked anew.
    let no = asker.evaluate(&question).await;
    assert_eq!(no["decision"], false, "{no}");
    assert_eq!(no["context"]["next_action"], "request");
    assert_ne!(no["context"]["evaluation_id"], asked.id.as_str());
    let used = asker.task(asked.id.as_str()).await;
    assert_eq!(used["task"]["status"], "approved");
    let until: vocab::Time =
        serde_json::from_value(used["result"]["approval"]["approved_until"].clone()).unwrap();
    assert!(until <= plane.now(), "{used}");
    plane.end().await;
}

#[tokio::test]
async fn request_substitution_an_approval_is_requested_for_what_was_denied_alone() {
    let plane = approvals::office("").await;
    let bearer = plane.agent("triage").await.bearer("files").await;
    let other = plane.agent("other").await.bearer("files").await;
    let asker = Asker::add(&plane, "notes-server", &["files"], false).await;
    let question = by_token(&bearer, REFUND, approvals::REFUND);
    let held = asker.evaluate(&question).await;
    let good = submission(&question, &held);
    let id = approvals::asked(&plane).id;
    for (path, value) in [
        ("/context/args", json!({"order": "A-1", "amount": 999})),
        ("/context/args", json!({"amount": 50, "order": "A-1"})),
        ("/action/name", json!("files/anything")),
        ("/resource/id", json!("files/anything")),
        ("/subject/id", json!(other.text)),
        ("/subject/id", json!("made-up")),
        (
            "/subject",
            json!({"type": "instance", "id": other.instance}),
        ),
        (
            "/denial/evaluation_id",
            json!(format!("ap-{}", "a".repeat(26))),
        ),
        ("/denial/evaluation_id", json!("calls/0")),
        ("/denial/expires_at", json!("never")),
        ("/denial", json!({})),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = value;
        let answer = asker.post(REQUESTS, &bad).await;
        problem(&answer, 400, "invalid_denial_binding");
    }
    let mut many = good.clone();
    many["items"] = json!([]);
    problem(&asker.post(REQUESTS, &many).await, 400, "not_requestable");
    // Not as a request at all.
    let mut none = good.clone();
    none.as_object_mut().unwrap().remove("resource");
    assert_eq!(asker.post(REQUESTS, &none).await.status, 400);
    // A key is for one denial.
    let keyed = async |body: &Value| {
        let ask = asker.ask(REQUESTS).header("idempotency-key", "k-1");
        ask.body(body.to_string()).send().await
    };
    assert_eq!(keyed(&good).await.status, 202);
    assert_eq!(keyed(&good).await.status, 202);
    let larger = by_token(&bearer, REFUND, r#"{"order":"A-1","amount":51}"#);
    let second = submission(&larger, &asker.evaluate(&larger).await);
    problem(&keyed(&second).await, 409, "duplicate_request");
    assert_eq!(asker.post(REQUESTS, &second).await.status, 202);
    assert_eq!(asker.task(id.as_str()).await["task"]["status"], "pending");
    plane.end().await;
}

#[tokio::test]
async fn task_handle_leakage_a_task_is_for_the_enforcement_point_that_asked() {
    let plane = approvals::office("").await;
    let bearer = plane.agent("triage").await.bearer("files").await;
    let asker = Asker::add(&plane, "notes-server", &["files"], false).await;
    let nosy = Asker::add(&plane, "web", &["files"], true).await;
    let question = by_token(&bearer, REFUND, approvals::REFUND);
    let held = asker.evaluate(&question).await;
    let submission = submission(&question, &held);
    let id = approvals::asked(&plane).id.to_string();
    problem(&nosy.status(&id).await, 404, "unknown_task");
    problem(
        &nosy.post(REQUESTS, &submission).await,
        400,
        "invalid_denial_binding",
    );
    for unknown in ["ap-none", "x", "calls", &format!("ap-{}", "a".repeat(26))] {
        problem(&asker.status(unknown).await, 404, "unknown_task");
    }
    // Made through the gateway, what waits is nobody's task.
    let direct = bearer.modern().call("refund", approvals::REFUND).await;
    assert_eq!(direct.effect(), "hold");
    let direct = approvals::asked(&plane).id.to_string();
    assert_ne!(direct, id);
    problem(&asker.status(&direct).await, 404, "unknown_task");
    // Without a token, and with one that is no more; one of that name that is added later is another.
    let open = plane.ask("GET", &format!("{REQUESTS}/{id}")).send().await;
    assert_eq!(open.status, 401);
    let removed = plane
        .admin("POST", "/v1/peps/notes-server/remove", None)
        .await;
    assert_eq!(removed.status, 200, "{}", removed.text());
    assert_eq!(asker.status(&id).await.status, 401);
    let body = json!({"id": "notes-server", "serves": ["files"], "trusted": false,
                      "token": Digest::of(b"tsp_another")});
    let added = plane.admin("POST", "/v1/peps", Some(body)).await;
    assert_eq!(added.status, 200, "{}", added.text());
    let namesake = Asker::with(&plane, "tsp_another");
    problem(&namesake.status(&id).await, 404, "unknown_task");
    plane.end().await;
}

#[tokio::test]
async fn a_task_ends_as_the_approval_does() {
    // Refused.
    let plane = approvals::office("").await;
    let bearer = plane.agent("triage").await.bearer("files").await;
    let asker = Asker::add(&plane, "notes-server", &["files"], false).await;
    let question = by_token(&bearer, REFUND, approvals::REFUND);
    let held = asker.evaluate(&question).await;
    let first = submission(&question, &held);
    approvals::answers(&plane, "zoe", false).await;
    let id = approvals::asked(&plane).id.to_string();
    let task = asker.task(&id).await;
    assert_eq!(
        (&task["task"]["status"], &task["result"]),
        (&json!("denied"), &Value::Null)
    );
    let mut told = question.clone();
    told["context"]["approval"] = json!({"id": id});
    let no = asker.evaluate(&told).await;
    assert_eq!(
        (&no["decision"], &no["context"]["next_action"]),
        (&json!(false), &json!("none"))
    );
    assert_eq!(no["context"]["access_request"], Value::Null);
    // Other policies or tools end what waits.
    let larger = by_token(&bearer, REFUND, r#"{"order":"A-1","amount":51}"#);
    asker.evaluate(&larger).await;
    let cut = approvals::asked(&plane).id.to_string();
    let stopped = plane.admin("POST", "/v1/agents/triage/suspend", None).await;
    assert_eq!(stopped.status, 200, "{}", stopped.text());
    assert_eq!(asker.task(&cut).await["task"]["status"], "cancelled");
    let resumed = plane.admin("POST", "/v1/agents/triage/resume", None).await;
    assert_eq!(resumed.status, 200, "{}", resumed.text());
    // Time.
    let other = plane.agent("other").await.bearer("files").await;
    let question = by_token(&other, REFUND, approvals::REFUND);
    let held = asker.evaluate(&question).await;
    let late = submission(&question, &held);
    let id = approvals::asked(&plane).id.to_string();
    plane.clock.advance(Duration::from_mins(61));
    assert_eq!(asker.task(&id).await["task"]["status"], "expired");
    for late in [late, first] {
        problem(&asker.post(REQUESTS, &late).await, 410, "expired_denial");
    }
    plane.end().await;
}
