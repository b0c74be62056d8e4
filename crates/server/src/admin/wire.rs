//! What goes over the administration socket: bodies in, views out, problems.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use register::{AgentView, BreakGlassView, CallLimits, CommandError, Refusal};
use serde::{Deserialize, Serialize};
use vocab::{
    AgentId, Digest, InstanceId, PepName, PurposePath, RecordRef, SponsorId, Time, UpstreamName,
};

use crate::log_keys::LogKeyError;
use crate::rotation::RotationError;
use crate::wrapping::WrappingError;

/// Longest body of a request, in bytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// `POST /v1/admins`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAdmin {
    /// The public half of the credential, in signed-note form; its name is the administrator's.
    pub key: String,
}

/// `POST /v1/break-glass`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBreakGlass {
    /// The agent that is to run.
    pub agent: AgentId,
    /// Why.
    pub reason: String,
    /// For how long once it is open, in seconds.
    pub lasts_s: u64,
}

/// `POST /v1/peps`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPep {
    /// What it is called.
    pub id: PepName,
    /// SHA-256 of the token that it will show.
    pub token: Digest,
    /// What it may ask about.
    pub serves: Vec<UpstreamName>,
    /// Whether its word is taken for which instance asks.
    #[serde(default)]
    pub trusted: bool,
}

/// `POST /v1/secrets/NAME`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSecret {
    /// Its value; line breaks at the end are not part of it.
    pub value: String,
}

impl std::fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewSecret([redacted])")
    }
}

/// `POST /v1/sponsors`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSponsor {
    /// What administrators and policies call them.
    pub id: SponsorId,
    /// Their name.
    pub name: String,
    /// Their address.
    pub email: String,
}

/// `POST /v1/sponsors/{id}/link`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// What the identity provider and the directory know them by.
    pub external_id: String,
    /// Whether it takes the place of another that they have.
    #[serde(default)]
    pub replace: bool,
}

/// `POST /v1/sponsors/{id}/deputies`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deputies {
    /// Their deputies from now on, the first to be offered first.
    pub deputies: Vec<SponsorId>,
}

/// `POST /v1/sponsors/{id}/resume`; without a body, as if this were false.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// Whether to lift also what the directory or a signal stopped them for.
    pub despite_directory: bool,
}

/// `POST /v1/login`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Who is to sign in.
    pub id: SponsorId,
}

/// The answer to it.
#[derive(Debug, Serialize)]
pub struct LoginUrl {
    /// Signs them in, once, within five minutes, in the browser that opens it.
    pub url: String,
}

/// `POST /v1/agents`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAgent {
    /// Its id.
    pub id: AgentId,
    /// Who answers for it.
    pub sponsor: SponsorId,
    /// What it may act for.
    pub purposes: Vec<PurposePath>,
    /// The most it may ever do; none: the policies alone decide.
    #[serde(default)]
    pub allow: Option<Vec<String>>,
    /// Live instances at once.
    #[serde(default)]
    pub max_instances: Option<u32>,
    /// Whether its instances may use tokens without proof of possession.
    #[serde(default)]
    pub allow_bearer: bool,
    /// How much it may call.
    #[serde(default)]
    pub limits: CallLimits,
    /// How long an instance lives at most, in seconds.
    #[serde(default)]
    pub max_lifetime_s: Option<u64>,
    /// How long an instance may be idle, in seconds.
    #[serde(default)]
    pub idle_s: Option<u64>,
    /// Its software and version.
    #[serde(default)]
    pub software: String,
    /// Its model's digest or name.
    #[serde(default)]
    pub model: String,
    /// Where it runs.
    #[serde(default)]
    pub environment: String,
    /// The public key that starts its instances; without it, only people, workloads and other
    /// instances start them.
    #[serde(default)]
    pub key: Option<NewKey>,
    /// Who may sign in to start instances of it: `sponsor`, `everyone`, or `group:NAME`.
    #[serde(default)]
    pub people: Option<String>,
    /// Hops of delegation below one of its instances.
    #[serde(default)]
    pub max_depth: Option<u8>,
    /// Live instances directly below one of its instances.
    #[serde(default)]
    pub max_children: Option<u32>,
    /// Who owns it beside its sponsor.
    #[serde(default)]
    pub owners: NewOwners,
}

/// Who is to own an agent beside its sponsor: sponsors' ids. `POST /v1/agents/{id}/owners`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOwners {
    /// Who answers for what it does for the business.
    #[serde(default)]
    pub business: Option<SponsorId>,
    /// Who answers for how it runs.
    #[serde(default)]
    pub technical: Option<SponsorId>,
    /// Who answers for its policies.
    #[serde(default)]
    pub policy: Option<SponsorId>,
}

impl From<NewOwners> for register::NewOwners {
    fn from(new: NewOwners) -> Self {
        Self {
            business: new.business,
            technical: new.technical,
            policy: new.policy,
        }
    }
}

/// Who is to answer for an agent; `POST /v1/agents/{id}/transfer`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// The new sponsor.
    pub to: SponsorId,
}

/// An agent's public key; `POST /v1/agents/{id}/rotate-key`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// The key. Its thumbprint is its id.
    pub jwk: serde_json::Value,
    /// Not from this on.
    #[serde(default)]
    pub expires_at: Option<Time>,
}

/// `POST /v1/erase`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erase {
    /// A suspended sponsor's id or handle, or the handle of a key.
    pub what: String,
}

/// The answer to a command: what it was about, as it is now.
#[derive(Debug, Serialize)]
pub struct Changed<V> {
    /// As it is now.
    #[serde(flatten)]
    pub view: V,
    /// False if it was so already.
    #[serde(rename = "changed")]
    pub is_new: bool,
    /// The entries that say so.
    pub records: Vec<RecordRef>,
}

/// The answer to a command that gave an agent a key.
#[derive(Debug, Serialize)]
pub struct Registered {
    /// The agent.
    #[serde(flatten)]
    pub changed: Changed<AgentView>,
    /// The URL that tokens come from.
    pub issuer: String,
    /// Where its sponsor accepts it, signed in as themselves.
    pub accept_url: String,
    /// What may not be meant, though it was done.
    pub warnings: Vec<String>,
}

/// `GET /v1/status`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The URL that clients use.
    pub url: String,
    /// The node's name in records.
    pub node: String,
    /// The program's version.
    pub version: &'static str,
    /// The realm of all names.
    pub trust_domain: String,
    /// The process.
    pub pid: u32,
    /// Now, by the node's clock.
    pub time: Time,
    /// Whether the node serves calls.
    pub serving: bool,
    /// Whether agents may run as the node's own user.
    pub shared_user: bool,
    /// Entries in each log.
    pub control_size: u64,
    /// Entries in each log.
    pub calls_size: u64,
    /// Calls that have no outcome yet.
    pub in_flight: usize,
    /// The policy set in force.
    pub policy: Option<Digest>,
    /// What is open of break-glass: agents that run although nobody who may answers for them.
    pub break_glass: Vec<BreakGlassView>,
    /// The upstreams.
    pub upstreams: Vec<UpstreamStatus>,
}

/// An upstream.
#[derive(Debug, Serialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: UpstreamName,
    /// Its URI, for clients.
    pub url: String,
    /// `stdio`, `http`, or `unusable` as it is configured.
    pub transport: &'static str,
    /// Until when policy denials pass; null: they do not.
    pub observe_until: Option<Time>,
    /// How many tools it lists; null: not known yet.
    pub tools: Option<usize>,
    /// Children that run.
    pub children: usize,
    /// `confined`, `open`, or null for one that is no child.
    pub confinement: Option<&'static str>,
}

/// Why something was not done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Problem {
    /// The status, not in the body.
    #[serde(skip)]
    pub status: StatusCode,
    /// The cause, as a word.
    pub error: String,
    /// What went wrong, for a person.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub help: Option<String>,
}

impl Problem {
    /// A problem.
    pub fn new(status: StatusCode, error: &str, message: &dyn std::fmt::Display) -> Self {
        Self {
            status,
            error: error.to_owned(),
            message: message.to_string(),
            help: None,
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn help(mut self, text: &str) -> Self {
        self.help = Some(text.to_owned());
        self
    }

    /// A request that cannot be understood.
    pub fn bad(message: &dyn std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", message)
    }

    /// Our own fault.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            &"something that cannot be",
        )
    }

    /// Something that the register does not know.
    pub fn unknown_instance(id: &InstanceId) -> Self {
        Self::from(CommandError::Refused(Refusal::UnknownInstance {
            given: id.clone(),
        }))
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let (status, word) = match &error {
            CommandError::Refused(refusal) => refused(refusal),
            CommandError::Unpublished { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unpublished"),
            CommandError::EraseUnfinished { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "erase-unfinished")
            }
            CommandError::Unproven(_) => (StatusCode::SERVICE_UNAVAILABLE, "unproven"),
            CommandError::Failed(_) => (StatusCode::SERVICE_UNAVAILABLE, "register-failed"),
            CommandError::Ledger(_)
            | CommandError::Keyring(_)
            | CommandError::Blob(_)
            | CommandError::Unprepared { .. }
            | CommandError::Draft(_) => (StatusCode::SERVICE_UNAVAILABLE, "not-recorded"),
        };
        Self::new(status, word, &chain(&error))
    }
}

impl From<RotationError> for Problem {
    fn from(error: RotationError) -> Self {
        match error {
            RotationError::Command(error) => error.into(),
            error @ (RotationError::Key(_) | RotationError::Form(_)) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "keys", &chain(&error))
            }
        }
    }
}

impl From<WrappingError> for Problem {
    fn from(error: WrappingError) -> Self {
        match error {
            WrappingError::Command(error) => error.into(),
            error @ (WrappingError::Key(_) | WrappingError::Keyring(_)) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "keys", &chain(&error))
            }
        }
    }
}

impl From<LogKeyError> for Problem {
    fn from(error: LogKeyError) -> Self {
        match error {
            LogKeyError::Command(error) => error.into(),
            error @ LogKeyError::Unknown(_) => {
                Self::new(StatusCode::NOT_FOUND, "unknown", &chain(&error))
            }
            error @ LogKeyError::Overlap(_) => {
                Self::new(StatusCode::CONFLICT, "conflict", &chain(&error))
            }
            error @ (LogKeyError::Key(_)
            | LogKeyError::Sign { .. }
            | LogKeyError::Read(_)
            | LogKeyError::Other { .. }
            | LogKeyError::Form(_)) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "keys", &chain(&error))
            }
        }
    }
}

fn refused(refusal: &Refusal) -> (StatusCode, &'static str) {
    match refusal {
        Refusal::UnknownAdmin { .. }
        | Refusal::UnknownSponsor { .. }
        | Refusal::UnknownAgent { .. }
        | Refusal::UnknownInstance { .. }
        | Refusal::UnknownUpstream { .. }
        | Refusal::UnknownGroup { .. }
        | Refusal::UnknownHandle { .. }
        | Refusal::UnknownTokenKey { .. }
        | Refusal::UnknownGlass { .. }
        | Refusal::Approval(register::ApprovalRefusal::Unknown { .. })
        | Refusal::UnknownLogKey { .. }
        | Refusal::NothingSealed { .. } => (StatusCode::NOT_FOUND, "unknown"),
        Refusal::AdminGone { .. } => (StatusCode::UNAUTHORIZED, "untrusted"),
        Refusal::GlassNotNamed { .. }
        | Refusal::GlassSamePerson { .. }
        | Refusal::GlassNewAdmin { .. } => (StatusCode::FORBIDDEN, "not-two-people"),
        Refusal::AdminExists { .. }
        | Refusal::SponsorExists { .. }
        | Refusal::AgentExists { .. }
        | Refusal::GroupExists
        | Refusal::ExternalIdTaken
        | Refusal::KeyReused { .. }
        | Refusal::TokenKeyTaken { .. } => (StatusCode::CONFLICT, "exists"),
        _ => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
    }
}

/// An error and all that caused it, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        source = cause.source();
    }
    text
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        json(self.status, &self)
    }
}

/// A value as an answer.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let body = serde_json::to_vec(value);
    let status = if body.is_ok() {
        status
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let mut response = Response::new(Body::from(body.unwrap_or_default()));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
