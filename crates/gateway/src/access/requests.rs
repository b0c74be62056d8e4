//! Access requests: the `AuthZEN` Access Request and Approval Profile, Draft 1, on
//! `/access/v1/requests`.
//!
//! Asking for a decision has people asked already where policies hold a call, so a request makes no
//! second thing of it: what it is answered with, the task, is the approval, under the same id. It
//! binds to the denial by `evaluation_id`, which is that id too, and is looked up here: nothing that
//! an enforcement point brings along is believed. People answer on their page and nowhere else; then
//! the same question is asked again, and answered with a yes once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::header::{CACHE_CONTROL, HeaderName, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Request as HttpRequest, StatusCode};
use ledger::Entry;
use mcp::Value;
use register::{Approval, ApprovalLife, ApprovalOver, Exactly};
use serde_json::json;
use vocab::{Digest, Handle, PepName, Time};

use super::{Asking, Evaluation, Refused, with_type};
use crate::elsewhere::{self, Asker};
use crate::plane::Plane;
use crate::record::{DecisionBody, Over};

/// What metadata says of it.
pub(super) const CAPABILITY: &str = "urn:openid:authzen:capability:access-request";
const ERROR: &str = "urn:openid:authzen:access-request:error:";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest `Idempotency-Key` that is taken, in bytes.
const KEY_BYTES_MAX: usize = 256;
/// Keys that are remembered; past it those are forgotten whose approvals say nothing any more.
const KEYS_MAX: usize = 4_096;
/// How long an enforcement point waits before it asks again what became of a task, in seconds.
const POLL_SECONDS: &str = "5";

/// Where requests go.
pub(super) fn endpoint(plane: &Plane) -> String {
    format!("{}/access/v1/requests", plane.issuer.public_url())
}

/// What an answer says that is a no until people approve it.
pub(super) fn requestable(plane: &Plane, approval: &mcp::error::Approval) -> serde_json::Value {
    json!({
        "endpoint": endpoint(plane),
        "expires_at": approval.until,
        "form_url": approval.url,
        "display": {
            "title": "People have to approve this",
            "description": "They were asked, and answer on the page under `form_url`. Ask the \
                            same again once they approved.",
        },
    })
}

/// A request that is none, or about nothing of the asker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    NotRequestable,
    ExpiredDenial,
    InvalidBinding,
    Duplicate,
    UnknownTask,
}

impl Problem {
    /// The status, the word of the profile, and what is said.
    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::NotRequestable => (
                StatusCode::BAD_REQUEST,
                "not_requestable",
                "One call is requested at a time: `subject`, `action`, `resource` and `denial`, \
                 and no `items`.",
            ),
            Self::ExpiredDenial => (
                StatusCode::GONE,
                "expired_denial",
                "The time in which people could approve it is over. Ask for the decision again.",
            ),
            Self::InvalidBinding => (
                StatusCode::BAD_REQUEST,
                "invalid_denial_binding",
                "`denial.evaluation_id` and `denial.expires_at` are not those of an answer to you \
                 that people were asked about, or the rest is not, to the byte, what you asked then.",
            ),
            Self::Duplicate => (
                StatusCode::CONFLICT,
                "duplicate_request",
                "This `Idempotency-Key` was used for another denial.",
            ),
            Self::UnknownTask => (
                StatusCode::NOT_FOUND,
                "unknown_task",
                "There is no such task of yours.",
            ),
        }
    }

    fn respond(self, plane: &Plane) -> Response {
        let (status, word, detail) = self.parts();
        plane.refusals.note("bad-access-request", "access", None);
        let problem = json!({
            "type": format!("{ERROR}{word}"),
            "title": word.replace('_', " "),
            "status": status.as_u16(),
            "detail": detail,
        });
        let mut response = with_type("application/problem+json", problem.to_string());
        *response.status_mut() = status;
        response
    }
}

/// Why there is no task.
enum Failed {
    Refused(Refused),
    Problem(Problem),
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// What a submission was for, by who submitted it and under which `Idempotency-Key`. Every
/// submission for one denial is the same task, so this is only for noticing a key that is used for
/// two; a restart forgets them.
#[derive(Debug, Default)]
pub(crate) struct Keys(Mutex<HashMap<(PepName, Digest), Handle>>);

impl Keys {
    /// Notes a use; false: it was used for something else.
    fn note(&self, by: &PepName, key: &[u8], id: &Handle, holds: impl Fn(&Handle) -> bool) -> bool {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KEYS_MAX {
            keys.retain(|_, id| holds(id));
        }
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        let key = (by.clone(), Digest::of(key));
        *keys.entry(key).or_insert_with(|| id.clone()) == *id
    }
}

/// `POST /access/v1/requests`.
pub(super) async fn submit(
    State(plane): State<Arc<Plane>>,
    request: HttpRequest<Body>,
) -> Response {
    let done = submitted(&plane, request).await;
    respond(&plane, done)
}

/// `GET /access/v1/requests/{id}`.
pub(super) async fn status(
    State(plane): State<Arc<Plane>>,
    Path(id): Path<String>,
    request: HttpRequest<Body>,
) -> Response {
    let (parts, _) = request.into_parts();
    let found = super::asker(&plane, &parts)
        .map_err(Failed::from)
        .and_then(|asker| {
            let approval = id.parse().ok().and_then(|id| of(&plane, &asker, &id));
            let approval = approval.ok_or(Problem::UnknownTask)?;
            Ok((StatusCode::OK, approval))
        });
    respond(&plane, found)
}

fn respond(plane: &Plane, done: Result<(StatusCode, Arc<Approval>), Failed>) -> Response {
    let mut response = match done {
        Ok((status, approval)) => {
            let task = Task::of(&approval, plane.clock.now());
            let url = format!("{}/{}", endpoint(plane), approval.id);
            let body = task.json(&approval, &url);
            let mut response = with_type("application/json", body.to_string());
            *response.status_mut() = status;
            let headers = response.headers_mut();
            if status != StatusCode::OK
                && let Ok(url) = HeaderValue::from_str(&url)
            {
                headers.insert(LOCATION, url);
            }
            if task == Task::Pending {
                let poll = HeaderValue::from_static(POLL_SECONDS);
                headers.insert(http::header::RETRY_AFTER, poll);
            }
            response
        }
        Err(Failed::Problem(problem)) => problem.respond(plane),
        Err(Failed::Refused(refused)) => {
            refused.cause.note(plane);
            let status = refused.status;
            let mut response = super::said(status, refused.told);
            if status == StatusCode::UNAUTHORIZED {
                let challenge = elsewhere::challenge();
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            response
        }
    };
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}

async fn submitted(
    plane: &Arc<Plane>,
    request: HttpRequest<Body>,
) -> Result<(StatusCode, Arc<Approval>), Failed> {
    let (asker, headers, document) = super::received(plane, request).await?;
    let asking = Asking {
        plane,
        asker: &asker,
        headers: &headers,
    };
    let submission = Submission::read(document.root())?;
    let evaluation = Evaluation::read(document.root(), None).map_err(Refused::bad)?;
    let id = submission.evaluation_id;
    let approval = of(plane, &asker, &id).ok_or(Problem::InvalidBinding)?;
    // As it stands on record, whatever the submission says.
    let asked_until = approval.asked_at.plus(approval.lasts);
    let now = plane.clock.now();
    if now >= asked_until || approval.life.expired(now) {
        return Err(Problem::ExpiredDenial.into());
    }
    if !is_that(asking, &approval, &evaluation) {
        return Err(Problem::InvalidBinding.into());
    }
    if let Some(key) = headers.get(IDEMPOTENCY_KEY) {
        let key = key.as_bytes();
        if key.len() > KEY_BYTES_MAX {
            return Err(Refused::bad("`Idempotency-Key` is too long").into());
        }
        let holds = |id: &Handle| {
            let found =
                |state: &register::State| state.approval(id).is_some_and(|it| it.holds(now));
            plane.control.view(found)
        };
        if !plane.keys.note(&asker.pep.name, key, &id, holds) {
            return Err(Problem::Duplicate.into());
        }
    }
    let status = match Task::of(&approval, now) {
        Task::Pending => StatusCode::ACCEPTED,
        Task::Approved | Task::Denied | Task::Expired | Task::Cancelled => StatusCode::CREATED,
    };
    Ok((status, approval))
}

/// What of a submission is not an evaluation.
struct Submission {
    evaluation_id: Handle,
}

impl Submission {
    fn read(of: Value<'_>) -> Result<Self, Problem> {
        if of.get("items").is_some() {
            return Err(Problem::NotRequestable);
        }
        let denial = of.get("denial").filter(|it| it.is_object());
        let text = |name: &str| denial.and_then(|it| it.get(name)?.as_str());
        let expires_at: Option<Time> = text("expires_at").and_then(|it| it.parse().ok());
        let id = text("evaluation_id").and_then(|it| it.parse().ok());
        match (id, expires_at) {
            (Some(evaluation_id), Some(_)) => Ok(Self { evaluation_id }),
            (Some(_) | None, _) => Err(Problem::InvalidBinding),
        }
    }
}

/// Whether a body could be a submission: what is fuzzed.
#[doc(hidden)]
pub fn reads_submission(body: &[u8]) -> bool {
    let Ok(document) = mcp::Json::parse(bytes::Bytes::copy_from_slice(body)) else {
        return false;
    };
    let root = document.root();
    root.is_object() && Submission::read(root).is_ok() && Evaluation::read(root, None).is_ok()
}

/// An approval that this enforcement point has people asked for, by this way of asking. Not there
/// and not its own are the same.
fn of(plane: &Plane, asker: &Asker, id: &Handle) -> Option<Arc<Approval>> {
    let approval = plane.control.view(|state| state.approval(id).cloned())?;
    // One that has the name of another that was removed did not ask.
    let was_there = asker.pep.record <= approval.asked;
    let asked = decision(plane, &approval)?.asked?;
    let is_its_own = was_there && asked.by == asker.pep.name && asked.over == Over::Authzen;
    is_its_own.then_some(approval)
}

/// The decision that held the call.
fn decision(plane: &Plane, approval: &Approval) -> Option<DecisionBody> {
    let bytes = plane.calls.reader().entry(approval.held).ok()?;
    let entry = Entry::parse(&bytes).ok()?;
    serde_json::from_str(entry.body.get()).ok()
}

/// Whether a submission says what was asked then: the same caller, action, resource and arguments.
fn is_that(asking: Asking<'_>, approval: &Approval, evaluation: &Evaluation<'_>) -> bool {
    let Ok(matter) = asking.about(evaluation) else {
        return false;
    };
    let above: Vec<_> = approval.above.iter().rev().cloned().collect();
    let exactly = Exactly {
        door: Some((&asking.asker.pep.name, Over::Authzen.as_str())),
        instance: &approval.instance,
        above: &above,
        upstream: matter.served.name(),
        target: &matter.target,
        args: matter.args.get(),
        policy_set: &approval.policy_set,
        // Who makes the call itself is sent nowhere else.
        routed: None,
    };
    if !approval.is_for(&exactly.digest()) {
        return false;
    }
    let identity = evaluation.subject.1;
    let id = identity.id.as_str().unwrap_or_default();
    match identity.kind.as_str().as_deref() {
        Some("instance") => id == approval.instance.as_str(),
        // Nothing rests on the token here: whoever asks is known, and may see their own task.
        Some("access_token") => {
            tokens::instance_assertion(&id).is_some_and(|it| it == approval.instance)
        }
        Some(_) | None => false,
    }
}

/// Where a task is, in the words of the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// People were asked, and not enough of them approved.
    Pending,
    /// Enough did, and the same question is answered with yes once, or was.
    Approved,
    /// Somebody refused.
    Denied,
    /// Nobody answered, or nobody asked again, in time.
    Expired,
    /// Something that it rests on was stopped or changed.
    Cancelled,
}

impl Task {
    fn of(approval: &Approval, now: Time) -> Self {
        match approval.life {
            life if life.expired(now) => Self::Expired,
            ApprovalLife::Pending { .. } => Self::Pending,
            ApprovalLife::Granted { .. } | ApprovalLife::Used { .. } => Self::Approved,
            ApprovalLife::Refused { .. } => Self::Denied,
            ApprovalLife::Over { cause, .. } => match cause {
                ApprovalOver::Expired => Self::Expired,
                ApprovalOver::Cut | ApprovalOver::Changed => Self::Cancelled,
            },
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// What is told of it: never who approves, nor who did.
    fn json(self, approval: &Approval, url: &str) -> serde_json::Value {
        let (id, until) = (&approval.id, approval.until());
        let status = self.as_str();
        match self {
            Self::Pending => json!({"task": {
                "id": id, "status": status, "status_endpoint": url, "expires_at": until,
            }}),
            Self::Approved => {
                let at = approval.granted.last().map(|grant| grant.at);
                json!({
                    "task": {"id": id, "status": status, "status_endpoint": url},
                    "result": {
                        "mode": "reevaluate",
                        // Of one that was used it is when it was: it is good for nothing more.
                        "approval": {"id": id, "approved_at": at, "approved_until": until},
                    },
                })
            }
            Self::Denied | Self::Expired | Self::Cancelled => {
                json!({"task": {"id": id, "status": status, "status_endpoint": url}})
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mcp::Json;

    use super::*;

    fn told(request: &serde_json::Value) -> String {
        let json = Json::parse(request.to_string().into()).unwrap();
        Evaluation::read(json.root(), None).unwrap().told()
    }

    #[test]
    fn what_was_approved_is_no_part_of_what_is_asked() {
        let asked = |context: serde_json::Value| {
            told(&json!({
                "subject": {"type": "instance", "id": "i"}, "action": {"name": "a"},
                "resource": {"type": "record", "id": "r"}, "context": context,
            }))
        };
        let approval = json!({"id": "ap-1", "approved_until": "2027-01-01T00:00:00Z"});
        let plain = asked(json!({"amount": 1}));
        assert_eq!(asked(json!({"approval": approval, "amount": 1})), plain);
        assert_ne!(asked(json!({"approval": approval, "amount": 2})), plain);
        assert!(plain.contains(r#""context":{"amount":1}"#), "{plain}");
        assert!(!asked(json!({"approval": approval})).contains("context"));
    }

    #[test]
    fn a_key_is_for_one_denial_of_one_enforcement_point() {
        let keys = Keys::default();
        let name = |it: &str| it.parse::<PepName>().unwrap();
        let id = |nth: usize| -> Handle {
            let letter = ["a", "b"][nth];
            format!("ap-{}", letter.repeat(26)).parse().unwrap()
        };
        let holds = |_: &Handle| true;
        assert!(keys.note(&name("web"), b"k", &id(0), holds));
        assert!(keys.note(&name("web"), b"k", &id(0), holds));
        assert!(!keys.note(&name("web"), b"k", &id(1), holds));
        assert!(keys.note(&name("web"), b"l", &id(1), holds));
        assert!(keys.note(&name("other"), b"k", &id(1), holds));
        // However many there are, so many are remembered.
        for nth in 0..2 * KEYS_MAX {
            assert!(keys.note(&name("web"), nth.to_string().as_bytes(), &id(0), holds));
        }
        assert!(keys.0.lock().unwrap().len() <= KEYS_MAX);
    }

    #[test]
    fn a_submission_names_one_denial() {
        let good = json!({
            "subject": {"type": "instance", "id": "i"}, "action": {"name": "a"},
            "resource": {"type": "tool", "id": "a"},
            "denial": {"evaluation_id": format!("ap-{}", "a".repeat(26)),
                       "expires_at": "2027-01-01T00:00:00Z"},
        });
        assert!(reads_submission(good.to_string().as_bytes()));
        for (path, value, why) in [
            ("/items", json!([]), Problem::NotRequestable),
            ("/denial", json!(1), Problem::InvalidBinding),
            (
                "/denial/evaluation_id",
                json!("calls/17"),
                Problem::InvalidBinding,
            ),
            ("/denial/evaluation_id", json!(17), Problem::InvalidBinding),
            ("/denial/expires_at", json!(null), Problem::InvalidBinding),
            ("/denial/expires_at", json!("soon"), Problem::InvalidBinding),
        ] {
            let mut bad = good.clone();
            let (holder, name) = path.rsplit_once('/').unwrap();
            let holder = bad.pointer_mut(holder).unwrap();
            holder
                .as_object_mut()
                .unwrap()
                .insert(name.to_owned(), value);
            let json = Json::parse(bad.to_string().into()).unwrap();
            let found = Submission::read(json.root()).err();
            assert_eq!(found, Some(why), "{bad}");
            assert!(!reads_submission(bad.to_string().as_bytes()));
        }
    }
}
