//! The `AuthZEN` Authorization API 1.0: `/access/v1/evaluation` and `/access/v1/evaluations`; and
//! under `/access/v1/requests` what people were asked about for it ([`requests`]).
//!
//! What a request's four parts are here:
//!
//! * `subject`: `{"type":"access_token","id":TOKEN}`, the token that the agent showed to the asker
//!   (with `properties.dpop`: `proof`, `htm` and `htu`, if it is bound to a key); or, from an asker
//!   that is trusted with it, `{"type":"instance","id":"i-…"}`.
//! * `action.name`: `UPSTREAM/TOOL` or `UPSTREAM:METHOD`, as policies name it; the bare tool or
//!   action from an asker that stands in front of one upstream only.
//! * `resource`: `{"type":"tool","id":"UPSTREAM/TOOL"}` or `{"type":"upstream","id":"UPSTREAM"}`,
//!   which must be that of the action, and then `context.args` are the arguments. Of any other type
//!   (a record, an account) the arguments are what the request says itself: `subject`, `action` and
//!   `resource` with their properties, and `context`.
//!
//! A denial is an answer, with status 200.

pub(crate) mod requests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::header::{WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, Request as HttpRequest, StatusCode};
use mcp::error::{Effect, Verdict};
use mcp::{Json, Raw, Value};
use policy::Target;
use serde_json::json;
use serde_json::value::RawValue;
use vocab::limits::{BODY_SECONDS_MAX, EVALUATIONS_AT_ONCE, EVALUATIONS_MAX};
use vocab::{InstanceId, ToolName, UpstreamName};

use crate::elsewhere::{self, Asker, Matter, Who};
use crate::face::{self, Unread};
use crate::plane::{Plane, Served};
use crate::record::Over;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TOOLS_CALL: &str = "tools/call";

/// The routes of those who ask from elsewhere.
//= https://openid.net/specs/authorization-api-1_0.html#section-10
//# This specification defines an HTTPS binding using JSON serialization which MUST be implemented
//# by a compliant PDP.
pub(crate) fn router(plane: Arc<Plane>) -> Router {
    Router::new()
        .route("/access/v1/evaluation", post(evaluation))
        .route("/access/v1/evaluations", post(evaluations))
        .route("/access/v1/requests", post(requests::submit))
        .route("/access/v1/requests/{id}", get(requests::status))
        .route("/.well-known/authzen-configuration", get(metadata))
        .with_state(plane)
}

/// Why there is nothing to decide, for the counts.
#[derive(Debug, Clone, Copy)]
enum Cause {
    HostOrOrigin,
    Asker,
    NotTrusted,
    NotItsOwn,
    Malformed,
    Subject,
    /// The agent's token does not hold, for this reason.
    Token(&'static str),
}

impl Cause {
    fn note(self, plane: &Plane) {
        let refusals = &plane.refusals;
        match self {
            Self::HostOrOrigin => refusals.note("host-or-origin", "access", None),
            Self::Asker => refusals.note("unknown-asker", "access", None),
            Self::NotTrusted => refusals.note("asker-not-trusted", "access", None),
            Self::NotItsOwn => refusals.note("not-for-asker", "access", None),
            Self::Malformed => refusals.note("bad-evaluation", "access", None),
            Self::Subject => refusals.note("unknown-subject", "access", None),
            Self::Token(why) => refusals.note(why, "access", None),
        }
    }
}

/// A request that has no decision: its status, and an error message as the specification has it.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    cause: Cause,
    told: String,
}

impl Refused {
    fn bad(told: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            cause: Cause::Malformed,
            told: told.into(),
        }
    }
}

/// One answer.
#[derive(Debug)]
enum Answered {
    /// Decided, and on record.
    Decided {
        verdict: Box<Verdict>,
        /// Whether the request says that something was approved.
        presented: bool,
    },
    /// There is nothing to decide; closed, as decisions default to.
    Failed {
        status: StatusCode,
        cause: Cause,
        told: String,
    },
}

impl Answered {
    fn failed(status: StatusCode, cause: Cause, told: impl Into<String>) -> Self {
        Self::Failed {
            status,
            cause,
            told: told.into(),
        }
    }

    fn is_permit(&self) -> bool {
        matches!(self, Self::Decided { verdict, .. } if verdict.effect == Effect::Allow)
    }

    fn json(&self, plane: &Plane) -> serde_json::Value {
        match self {
            Self::Decided { verdict, presented } => {
                let mut context = serde_json::Map::new();
                context.insert("reason".to_owned(), json!(verdict.reason));
                if let Some(policies) = &verdict.policies {
                    context.insert("policies".to_owned(), json!(policies));
                }
                if let Some(record) = &verdict.record {
                    context.insert("record".to_owned(), json!(record));
                }
                if let Some(approval) = &verdict.approval {
                    context.insert("approval".to_owned(), json!(approval));
                    context.insert("evaluation_id".to_owned(), json!(approval.id));
                    let requestable = requests::requestable(plane, approval);
                    context.insert("access_request".to_owned(), requestable);
                }
                if *presented && !self.is_permit() {
                    let next = verdict.approval.as_ref().map_or("none", |_| "request");
                    context.insert("next_action".to_owned(), json!(next));
                }
                //= https://openid.net/specs/authorization-api-1_0.html#section-5.5
                //# Decision is an object that contains a REQUIRED `decision` key with a `boolean`
                //# value, and an OPTIONAL `context` key with an object value.
                //= https://openid.net/specs/authorization-api-1_0.html#section-5.5
                //# `decision`: REQUIRED. A boolean value that specifies whether the Decision is to
                //# allow or deny the operation.
                json!({"decision": self.is_permit(), "context": context})
            }
            Self::Failed { status, told, .. } => json!({
                "decision": false,
                "context": {"error": {"status": status.as_u16(), "message": told}},
            }),
        }
    }
}

async fn evaluation(State(plane): State<Arc<Plane>>, request: HttpRequest<Body>) -> Response {
    respond(&plane, request, false).await
}

async fn evaluations(State(plane): State<Arc<Plane>>, request: HttpRequest<Body>) -> Response {
    respond(&plane, request, true).await
}

async fn metadata(State(plane): State<Arc<Plane>>, request: HttpRequest<Body>) -> Response {
    if let Err(error) = plane.hosts.check(request.uri(), request.headers()) {
        Cause::HostOrOrigin.note(&plane);
        return said(StatusCode::FORBIDDEN, error.to_string());
    }
    let url = plane.issuer.public_url();
    //= https://openid.net/specs/authorization-api-1_0.html#section-9.2
    //# PDPs supporting metadata MUST make a JSON document containing metadata as specified in the
    //# AuthZEN Policy Decision Point Metadata Registry
    //= https://openid.net/specs/authorization-api-1_0.html#section-9.2.1
    //# A Policy Decision Point metadata document MUST be queried using an HTTP GET request at the
    //# previously specified URL.
    //= https://openid.net/specs/authorization-api-1_0.html#section-9.2.2
    //# Its body MUST be a JSON object that contains a set of metadata parameters as defined in the
    //# AuthZEN Policy Decision Point Metadata Registry
    //= https://openid.net/specs/authorization-api-1_0.html#section-9.1.1
    //# `policy_decision_point`: REQUIRED. The Policy Decision Point identifier
    //= https://openid.net/specs/authorization-api-1_0.html#section-9.1.1
    //# `access_evaluation_endpoint`: REQUIRED. URL of Access Evaluation API endpoint
    //= https://openid.net/specs/authorization-api-1_0.html#section-9.2.2
    //# A successful response MUST use the HTTP status code `200` and a `Content-Type` of
    //# `application/json`.
    //= https://openid.net/specs/authorization-api-1_0.html#section-9.2.2
    //# Parameters that have no values MUST be omitted from the response.
    //= https://openid.net/specs/authorization-api-1_0.html#section-9.2.3
    //# The `policy_decision_point` value returned MUST be identical to the Policy Decision Point
    //# identifier value
    let metadata = json!({
        "policy_decision_point": url.as_str(),
        "access_evaluation_endpoint": format!("{url}/access/v1/evaluation"),
        "access_evaluations_endpoint": format!("{url}/access/v1/evaluations"),
        "access_request_endpoint": requests::endpoint(&plane),
        "capabilities": [requests::CAPABILITY],
    });
    with_type("application/json", metadata.to_string())
}

async fn respond(plane: &Arc<Plane>, request: HttpRequest<Body>, many: bool) -> Response {
    //= https://openid.net/specs/authorization-api-1_0.html#section-10.1.3
    //# When an Authorization API request contains a request identifier the PDP MUST include a
    //# request identifier in the response.
    //= https://openid.net/specs/authorization-api-1_0.html#section-10.1.3
    //# If the PEP specified a request identifier in the request, the PDP MUST include the same
    //# identifier in the response to that request.
    let id = request.headers().get(REQUEST_ID).cloned();
    let mut response = match served(plane, request, many).await {
        Ok(body) => with_type("application/json", body),
        Err(refused) => {
            refused.cause.note(plane);
            let mut response = said(refused.status, refused.told);
            if refused.status == StatusCode::UNAUTHORIZED {
                let challenge = elsewhere::challenge();
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            response
        }
    };
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}

/// Who sends a request that calls the node by its name.
fn asker(plane: &Plane, parts: &Parts) -> Result<Asker, Refused> {
    plane
        .hosts
        .check(&parts.uri, &parts.headers)
        .map_err(|error| Refused {
            status: StatusCode::FORBIDDEN,
            cause: Cause::HostOrOrigin,
            told: error.to_string(),
        })?;
    let asker = Asker::known(plane, &parts.headers, Over::Authzen);
    asker.ok_or_else(|| Refused {
        status: StatusCode::UNAUTHORIZED,
        cause: Cause::Asker,
        told: "present the token of a policy enforcement point as `Authorization: Bearer`".into(),
    })
}

/// Who sends a request, its headers, and the JSON object that is its body.
async fn received(
    plane: &Plane,
    request: HttpRequest<Body>,
) -> Result<(Asker, HeaderMap, Json), Refused> {
    let (parts, body) = request.into_parts();
    let asker = asker(plane, &parts)?;
    //= https://openid.net/specs/authorization-api-1_0.html#section-10.1
    //# Requests MUST include a `Content-Type` header with the value `application/json`
    if !mcp::headers::says_json(&parts.headers) {
        return Err(Refused::bad("`Content-Type` must be application/json"));
    }
    let read = face::read(body, Duration::from_secs(BODY_SECONDS_MAX)).await;
    let body = read.map_err(|unread| Refused {
        status: match unread {
            Unread::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Unread::Broken => StatusCode::BAD_REQUEST,
        },
        ..Refused::bad("the body is too long, too slow or cut short")
    })?;
    let document = Json::parse(body)
        .map_err(|error| Refused::bad(format!("the body is not strict JSON: {error}")))?;
    //= https://openid.net/specs/authorization-api-1_0.html#section-10.1.1
    //# The top-level element of all request and response bodies MUST be a JSON object
    if !document.root().is_object() {
        return Err(Refused::bad("the body must be a JSON object"));
    }
    Ok((asker, parts.headers, document))
}

async fn served(
    plane: &Arc<Plane>,
    request: HttpRequest<Body>,
    many: bool,
) -> Result<String, Refused> {
    let (asker, headers, document) = received(plane, request).await?;
    let asking = Asking {
        plane,
        asker: &asker,
        headers: &headers,
    };
    // An asker that goes away misses an answer that may be on record, and acts on none.
    let answer = if many {
        asking.all(document.root()).await?
    } else {
        asking.one(document.root()).await?
    };
    Ok(answer.to_string())
}

/// The entities of one evaluation, as they stand in the request.
#[derive(Debug, Clone, Copy)]
struct Evaluation<'a> {
    subject: (Value<'a>, Identity<'a>),
    action: (Value<'a>, Value<'a>),
    resource: (Value<'a>, Identity<'a>),
    context: Option<Value<'a>>,
}

/// `type` and `id`.
#[derive(Debug, Clone, Copy)]
struct Identity<'a> {
    kind: Value<'a>,
    id: Value<'a>,
}

/// A member that must be there and of its type.
fn member<'a>(of: Value<'a>, path: &str, name: &str) -> Result<Value<'a>, String> {
    let value = of.get(name);
    let value = value.ok_or_else(|| format!("`{path}{name}` is missing"))?;
    if value.as_str().is_none() {
        return Err(format!("`{path}{name}` must be a string"));
    }
    Ok(value)
}

fn properties(of: Value<'_>) -> Option<Value<'_>> {
    of.get("properties")
}

impl<'a> Evaluation<'a> {
    /// Reads one; what it does not say itself, `defaults` do. Unknown members are passed over.
    //= https://openid.net/specs/authorization-api-1_0.html#section-10.1.1
    //# To ensure forward compatibility, receivers MUST ignore unknown fields present in request or
    //# response bodies.
    //= https://openid.net/specs/authorization-api-1_0.html#section-10.1.1
    //# Implementations MUST NOT assume a particular ordering of JSON object members.
    fn read(of: Value<'a>, defaults: Option<Value<'a>>) -> Result<Self, String> {
        let entity = |name: &str| {
            //= https://openid.net/specs/authorization-api-1_0.html#section-7.1.1
            //# any of these keys omitted from an evaluation object MUST be provided as a top-level
            //# key.
            let found = of
                .get(name)
                .or_else(|| defaults.and_then(|it| it.get(name)));
            if found.is_some_and(|it| !it.is_object()) {
                return Err(format!("`{name}` must be an object"));
            }
            Ok(found)
        };
        //= https://openid.net/specs/authorization-api-1_0.html#section-10.1.1
        //# If a required attribute in the information model is omitted, the server MUST return a
        //# "Bad Request" error, as defined in
        let required = |name: &str| {
            let found = entity(name)?.ok_or_else(|| format!("`{name}` is missing"))?;
            //= https://openid.net/specs/authorization-api-1_0.html#section-5.1
            //# A Subject is an object that contains two REQUIRED keys, `type` and `id`, which have
            //# a string value, and an OPTIONAL key, `properties`, with a value of an object.
            //= https://openid.net/specs/authorization-api-1_0.html#section-5.3
            //# Action is an object that contains a REQUIRED `name` key with a string value, and an
            //# OPTIONAL `properties` key with an object value.
            if properties(found).is_some_and(|it| !it.is_object()) {
                return Err(format!("`{name}.properties` must be an object"));
            }
            Ok(found)
        };
        let identified = |name: &str| {
            let found = required(name)?;
            let path = format!("{name}.");
            //= https://openid.net/specs/authorization-api-1_0.html#section-5.1
            //# `type`: REQUIRED. A string value that specifies the type of the Subject.
            //= https://openid.net/specs/authorization-api-1_0.html#section-5.1
            //# `id`: REQUIRED. A string value containing the unique identifier of the Subject,
            //# scoped to the `type`.
            //= https://openid.net/specs/authorization-api-1_0.html#section-5.2
            //# `type`: REQUIRED. A string value that specifies the type of the Resource.
            //= https://openid.net/specs/authorization-api-1_0.html#section-5.2
            //# `id`: REQUIRED. A string value containing the unique identifier of the Resource,
            //# scoped to the `type`.
            let identity = Identity {
                kind: member(found, &path, "type")?,
                id: member(found, &path, "id")?,
            };
            Ok::<_, String>((found, identity))
        };
        //= https://openid.net/specs/authorization-api-1_0.html#section-6.1
        //# `subject`: REQUIRED. The subject (or principal) of type Subject
        //= https://openid.net/specs/authorization-api-1_0.html#section-6.1
        //# `action`: REQUIRED. The action (or verb) of type Action.
        //= https://openid.net/specs/authorization-api-1_0.html#section-6.1
        //# `resource`: REQUIRED. The resource of type Resource.
        //= https://openid.net/specs/authorization-api-1_0.html#section-5.3
        //# `name`: REQUIRED. A string value containing the name of the Action.
        let action = required("action")?;
        Ok(Self {
            subject: identified("subject")?,
            action: (action, member(action, "action.", "name")?),
            resource: identified("resource")?,
            context: entity("context")?,
        })
    }

    /// The request itself, as arguments that a schema can type. Whatever else it says is not shown.
    fn told(&self) -> String {
        let mut members = Vec::new();
        let mut put = |name: &str, text: String| members.push(format!("{name:?}:{text}"));
        let said: Vec<String> = properties(self.subject.0)
            .into_iter()
            .flat_map(Value::members)
            .filter(|member| member.name() != DPOP)
            .map(|member| {
                let name = Raw::string(&member.name());
                format!("{}:{}", name.as_str(), member.value.text())
            })
            .collect();
        if !said.is_empty() {
            put("subject", format!("{{{}}}", said.join(",")));
        }
        if let Some(properties) = properties(self.action.0) {
            put("action", properties.text().to_owned());
        }
        let Identity { kind, id } = self.resource.1;
        let more = properties(self.resource.0)
            .map_or_else(String::new, |it| format!(r#","properties":{}"#, it.text()));
        put(
            "resource",
            format!(r#"{{"type":{},"id":{}{more}}}"#, kind.text(), id.text()),
        );
        if let Some(context) = self.context {
            // What was approved is no argument of what is asked: the same, asked again, is the same.
            let members = context.members().filter(|it| it.name() != APPROVAL);
            let kept: Vec<String> = members
                .map(|it| format!("{}:{}", Raw::string(&it.name()).as_str(), it.value.text()))
                .collect();
            if context.get(APPROVAL).is_none() {
                put("context", context.text().to_owned());
            } else if !kept.is_empty() {
                put("context", format!("{{{}}}", kept.join(",")));
            }
        }
        format!("{{{}}}", members.join(","))
    }
}

const DPOP: &str = "dpop";
/// The member of `context` in which an enforcement point brings back what was approved.
const APPROVAL: &str = "approval";

/// When a list of evaluations is answered early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Semantic {
    All,
    UntilDenied,
    UntilPermitted,
}

impl Semantic {
    fn of(request: Value<'_>) -> Result<Self, Refused> {
        let Some(options) = request.get("options") else {
            return Ok(Self::All);
        };
        if !options.is_object() {
            return Err(Refused::bad("`options` must be an object"));
        }
        let Some(given) = options.get("evaluations_semantic") else {
            return Ok(Self::All);
        };
        match given.as_str().as_deref() {
            Some("execute_all") => Ok(Self::All),
            Some("deny_on_first_deny") => Ok(Self::UntilDenied),
            Some("permit_on_first_permit") => Ok(Self::UntilPermitted),
            _ => Err(Refused::bad(
                "`options.evaluations_semantic` must be `execute_all`, `deny_on_first_deny` or \
                 `permit_on_first_permit`",
            )),
        }
    }
}

/// A request whose asker is known.
#[derive(Debug, Clone, Copy)]
struct Asking<'a> {
    plane: &'a Arc<Plane>,
    asker: &'a Asker,
    headers: &'a HeaderMap,
}

impl<'a> Asking<'a> {
    async fn one(self, request: Value<'_>) -> Result<serde_json::Value, Refused> {
        let evaluation = Evaluation::read(request, None).map_err(Refused::bad)?;
        Ok(self.answer(&evaluation).await.json(self.plane))
    }

    async fn all(self, request: Value<'_>) -> Result<serde_json::Value, Refused> {
        let semantic = Semantic::of(request)?;
        let list = request.get("evaluations");
        if list.is_some_and(|list| list.kind() != mcp::json::Kind::Array) {
            return Err(Refused::bad("`evaluations` must be an array"));
        }
        let items: Vec<Value<'_>> = list
            .into_iter()
            .flat_map(Value::elements)
            .take(EVALUATIONS_MAX + 1)
            .collect();
        if items.is_empty() {
            //= https://openid.net/specs/authorization-api-1_0.html#section-7.1
            //# If an `evaluations` array is NOT present or is empty, the Access Evaluations Request
            //# behaves in a backwards-compatible manner
            return self.one(request).await;
        }
        if items.len() > EVALUATIONS_MAX {
            return Err(Refused::bad(format!(
                "`evaluations` has more than {EVALUATIONS_MAX} elements"
            )));
        }
        if let Some(wrong) = items.iter().position(|item| !item.is_object()) {
            return Err(Refused::bad(format!(
                "`evaluations[{wrong}]` must be an object"
            )));
        }
        let at_once = match semantic {
            Semantic::All => EVALUATIONS_AT_ONCE,
            // What comes after the one that settles it is not decided, and not on record.
            Semantic::UntilDenied | Semantic::UntilPermitted => 1,
        };
        let items: Vec<BoxFuture<'_, Answered>> = items
            .into_iter()
            .map(|item| self.item(item, request).boxed())
            .collect();
        let mut answers = stream::iter(items).buffered(at_once);
        let mut all = Vec::new();
        while let Some(answer) = answers.next().await {
            all.push(answer.json(self.plane));
            let settled = match semantic {
                Semantic::All => false,
                Semantic::UntilDenied => !answer.is_permit(),
                Semantic::UntilPermitted => answer.is_permit(),
            };
            if settled {
                break;
            }
        }
        Ok(json!({"evaluations": all}))
    }

    /// One of several: what is wrong with it is its own.
    async fn item(self, item: Value<'_>, defaults: Value<'_>) -> Answered {
        match Evaluation::read(item, Some(defaults)) {
            Ok(evaluation) => self.answer(&evaluation).await,
            Err(told) => {
                Cause::Malformed.note(self.plane);
                Answered::failed(StatusCode::BAD_REQUEST, Cause::Malformed, told)
            }
        }
    }

    async fn answer(self, evaluation: &Evaluation<'_>) -> Answered {
        let answered = self.ask(evaluation).await.unwrap_or_else(|failed| failed);
        if let Answered::Failed { cause, .. } = &answered {
            cause.note(self.plane);
        }
        answered
    }

    /// What is asked about, without who asks.
    fn about(self, evaluation: &Evaluation<'_>) -> Result<About<'a>, Answered> {
        let name = evaluation.action.1.as_str().unwrap_or_default();
        let (served, target) = self.target(&name)?;
        let args = arguments(served, &target, &name, evaluation)?;
        let (target, method) = match target {
            Named::Tool(name) => (Target::Tool { name }, TOOLS_CALL.to_owned()),
            Named::Method(method) => {
                let params = Json::parse(Bytes::copy_from_slice(args.as_bytes()));
                let params = params.as_ref().map(Json::root);
                let text = |name| params.as_ref().ok()?.get(name)?.as_str();
                let name_or_uri = text("uri").or_else(|| text("name")).map(Into::into);
                let target = Target::Method {
                    method: method.clone(),
                    name_or_uri,
                };
                (target, method)
            }
        };
        let args = RawValue::from_string(args).map_err(|_| {
            Answered::failed(
                StatusCode::BAD_REQUEST,
                Cause::Malformed,
                "the arguments cannot be read",
            )
        })?;
        Ok(About {
            served,
            method,
            target,
            args,
        })
    }

    async fn ask(self, evaluation: &Evaluation<'_>) -> Result<Answered, Answered> {
        let About {
            served,
            method,
            target,
            args,
        } = self.about(evaluation)?;
        let who = self.who(served, evaluation)?;
        let id = self.headers.get(REQUEST_ID);
        let trace = self.headers.get("traceparent");
        let trace = trace.and_then(|trace| face::trace_id(trace.to_str().ok()?));
        let matter = Matter {
            served,
            method: &method,
            target: &target,
            args: &args,
            request: None,
            id: id.and_then(|id| id.to_str().ok()).unwrap_or_default(),
            trace: trace.as_deref(),
        };
        let answer = elsewhere::answer(self.plane, self.asker, &who, &matter);
        let presented = evaluation.context.and_then(|it| it.get(APPROVAL));
        Ok(Answered::Decided {
            verdict: Box::new(Box::pin(answer).await),
            presented: presented.is_some(),
        })
    }

    /// What an action's name means to this asker.
    fn target(self, name: &str) -> Result<(&'a Arc<Served>, Named), Answered> {
        let (upstream, named) = match name.split_once(['/', ':']) {
            None => (
                self.asker.only().cloned(),
                name.parse().ok().map(Named::Tool),
            ),
            Some((upstream, rest)) => {
                let named = if name.as_bytes().get(upstream.len()) == Some(&b'/') {
                    rest.parse().ok().map(Named::Tool)
                } else {
                    Some(Named::Method(rest.to_owned()))
                };
                (upstream.parse().ok(), named)
            }
        };
        // Not there and not its own are the same, or names could be tried.
        let served = upstream.and_then(|name: UpstreamName| self.asker.served(self.plane, &name));
        served.zip(named).ok_or_else(|| {
            Answered::failed(
                StatusCode::FORBIDDEN,
                Cause::NotItsOwn,
                "`action.name` is not `UPSTREAM/TOOL` or `UPSTREAM:METHOD` of something that this \
                 policy enforcement point stands in front of",
            )
        })
    }

    /// Whose request it is.
    fn who(self, served: &Served, evaluation: &Evaluation<'_>) -> Result<Who, Answered> {
        let (subject, Identity { kind, id }) = evaluation.subject;
        let id = id.as_str().unwrap_or_default();
        let bad = |told: &str| Answered::failed(StatusCode::BAD_REQUEST, Cause::Malformed, told);
        match kind.as_str().as_deref() {
            Some("instance") if self.asker.pep.trusted => {
                let id: InstanceId = id.parse().map_err(|_| {
                    Answered::failed(
                        StatusCode::NOT_FOUND,
                        Cause::Subject,
                        "there is no such instance",
                    )
                })?;
                Ok(Who::Said(id))
            }
            Some("instance") => Err(Answered::failed(
                StatusCode::FORBIDDEN,
                Cause::NotTrusted,
                "this policy enforcement point is not trusted to say whose request it is; it \
                 presents the access token: {\"type\":\"access_token\",\"id\":TOKEN}",
            )),
            Some("access_token") => {
                let dpop = properties(subject).and_then(|it| it.get(DPOP));
                let text = |name: &str| dpop.and_then(|it| it.get(name)?.as_str());
                let shown = dpop.map(|_| {
                    let shown = (text("proof"), text("htm"), text("htu"));
                    let (Some(proof), Some(htm), Some(htu)) = shown else {
                        return Err(bad(
                            "`subject.properties.dpop` needs `proof`, `htm` and `htu`",
                        ));
                    };
                    // A proof is for a request to the service itself, or anybody's would do.
                    let htu = tokens::endpoint(&htu).filter(|htu| served.covers(htu));
                    let htu = htu.ok_or_else(|| {
                        bad("`subject.properties.dpop.htu` is not a URL of this service")
                    })?;
                    Ok((proof, htm, htu))
                });
                let shown = shown.transpose()?;
                let mut headers = HeaderMap::new();
                let scheme = if shown.is_some() { "DPoP" } else { "Bearer" };
                let mut put = |name: HeaderName, value: &str| {
                    let value = HeaderValue::from_str(value)
                        .map_err(|_| bad("the access token or its proof is not one"))?;
                    headers.insert(name, value);
                    Ok::<_, Answered>(())
                };
                put(AUTHORIZATION, &format!("{scheme} {id}"))?;
                let (method, uri) = match &shown {
                    None => ("POST", served.endpoint()),
                    Some((proof, htm, htu)) => {
                        put(tokens::DPOP, proof)?;
                        (&**htm, &**htu)
                    }
                };
                Who::proven(self.plane, served, &headers, method, uri).map_err(|challenge| {
                    Answered::failed(
                        challenge.status(),
                        Cause::Token(challenge.word()),
                        challenge.description(),
                    )
                })
            }
            _ => Err(Answered::failed(
                StatusCode::NOT_FOUND,
                Cause::Subject,
                "`subject.type` is neither `access_token` nor `instance`: who acts here is an \
                 agent's instance",
            )),
        }
    }
}

/// What is asked about.
#[derive(Debug)]
struct About<'a> {
    served: &'a Arc<Served>,
    /// The MCP method; that of a tool call for whatever is named as one.
    method: String,
    target: Target,
    args: Box<RawValue>,
}

/// What an action names.
#[derive(Debug)]
enum Named {
    Tool(ToolName),
    Method(String),
}

/// The text of the arguments, once the resource is found to be that of the action.
fn arguments(
    served: &Served,
    named: &Named,
    action: &str,
    evaluation: &Evaluation<'_>,
) -> Result<String, Answered> {
    let Identity { kind, id } = evaluation.resource.1;
    let id = id.as_str().unwrap_or_default();
    let upstream = served.name();
    let is_that = match (kind.as_str().as_deref(), named) {
        (Some("tool"), Named::Tool(tool)) => id == format!("{upstream}/{tool}") || id == action,
        (Some("upstream"), Named::Method(_)) => id == upstream.as_str(),
        (Some("tool" | "upstream"), _) => false,
        // Something of the service's own: policies see it as it is told.
        _ => return Ok(evaluation.told()),
    };
    if !is_that {
        return Err(Answered::failed(
            StatusCode::BAD_REQUEST,
            Cause::Malformed,
            "`resource` is not that of `action`",
        ));
    }
    let args = evaluation.context.and_then(|context| context.get("args"));
    match args {
        None => Ok("{}".to_owned()),
        Some(args) if args.is_object() => Ok(args.text().to_owned()),
        Some(_) => Err(Answered::failed(
            StatusCode::BAD_REQUEST,
            Cause::Malformed,
            "`context.args` must be an object",
        )),
    }
}

/// An error message.
fn said(status: StatusCode, text: String) -> Response {
    let mut response = with_type("text/plain; charset=utf-8", text);
    *response.status_mut() = status;
    response
}

fn with_type(media_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
