//! The routes of administration, and their handlers.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Extension, Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use gateway::upstream::Transport;
use gateway::upstream::sandbox::Confinement;
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use ledger::{Entry, Log as _};
use register::{
    AdminKey, AdminView, AgentView, Allow, Command, CommandError, Done, EndReason, InstanceView,
    People, PepView, PublicJwk, Refusal, SponsorView, Status,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokens::PublicKey;
use vocab::{
    AdminId, AgentId, Handle, InstanceId, PepName, RecordRef, SponsorId, ToolName, suggest,
};

use super::approvals;
use super::break_glass;
use super::directory;
use super::wire::{self, Changed, Problem, Registered, json};
use super::{Admin, Caller, Peer, cuts, secrets, tools};
use crate::log_keys::{self, LogKeyError, LogKeyView, Logs};
use crate::node::Shared;
use crate::policies::{self, Ground};
use crate::rotation::{self, Keyed, Rotated, RotationError, TokenKeyView};
use crate::trace::{Sources, Target, TraceError};
use crate::wrapping::{self, WrappingKeyView};

pub(super) type Answer = Result<Response, Problem>;
pub(super) type App = State<Arc<Admin>>;

pub(super) fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/doctor", get(doctor))
        .route("/v1/admins", get(admins).post(add_admin))
        .route("/v1/admins/{id}/remove", post(remove_admin))
        .route("/v1/peps", get(peps).post(add_pep))
        .route("/v1/peps/{id}/remove", post(remove_pep))
        .route(
            "/v1/break-glass",
            get(break_glass::list).post(break_glass::request),
        )
        .route("/v1/break-glass/{id}", get(break_glass::show))
        .route("/v1/break-glass/{id}/{verb}", post(break_glass::change))
        .route("/v1/approvals", get(approvals::list))
        .route("/v1/approvals/{id}", get(approvals::show))
        .route("/v1/keys", get(keys))
        .route("/v1/keys/rotate", post(rotate_token_key))
        .route("/v1/keys/{id}/revoke", post(revoke_key))
        .route("/v1/keys/logs/{log}/rotate", post(rotate_log_key))
        .route("/v1/keys/keyring/rotate", post(rotate_wrapping_key))
        .route("/v1/sponsors", get(sponsors).post(add_sponsor))
        .route("/v1/sponsors/{id}", get(sponsor))
        .route("/v1/sponsors/{id}/link", post(directory::link))
        .route("/v1/sponsors/{id}/deputies", post(name_deputies))
        .route("/v1/sponsors/{id}/{verb}", post(change_sponsor))
        .route("/v1/login", post(login))
        .route("/v1/agents", get(agents).post(add_agent))
        .route("/v1/agents/{id}", get(agent))
        .route("/v1/agents/{id}/rotate-key", post(rotate_key))
        .route("/v1/agents/{id}/transfer", post(transfer))
        .route("/v1/agents/{id}/owners", post(own))
        .route("/v1/agents/{id}/{verb}", post(change_agent))
        .route("/v1/review", get(review))
        .route("/v1/cuts", get(cuts::list))
        .route("/v1/cuts/{record}", get(cuts::certificate))
        .route("/v1/kill", post(cuts::kill))
        .route("/v1/instances", get(instances))
        .route("/v1/instances/{id}", get(instance))
        .route("/v1/instances/{id}/revoke", post(revoke))
        .route("/v1/groups", get(directory::groups))
        .route("/v1/policy/check", post(check_policies))
        .route("/v1/policy/test", post(test_policies))
        .route("/v1/policy/apply", post(apply_policies))
        .route("/v1/tools", get(tools::list))
        .route(
            "/v1/tools/{upstream}/{*tool}",
            get(tools::show).post(tools::judge),
        )
        .route("/v1/trace/{*id}", get(trace))
        .route(
            "/v1/scim/tokens",
            get(directory::tokens).post(directory::add_token),
        )
        .route("/v1/scim/tokens/{id}/revoke", post(directory::remove_token))
        .route("/v1/inspection", get(inspection))
        .route("/v1/inspection/reload", post(reload_inspection))
        .route("/v1/secrets", get(secrets::list))
        .route("/v1/secrets/{name}", post(secrets::set))
        .route("/v1/secrets/{name}/remove", post(secrets::remove))
        .route("/v1/vault/accept", post(secrets::accept))
        .route("/v1/erase", post(erase))
        .fallback(no_route)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&admin),
            authenticated,
        ))
        .with_state(admin)
}

/// The rules of inspection that are in force.
async fn inspection(State(admin): App) -> Answer {
    Ok(ok(&*admin.shared.inspection.get()))
}

/// Has the rules read again.
async fn reload_inspection(State(admin): App, Extension(caller): Extension<Caller>) -> Answer {
    let loaded = crate::inspection::reload(&admin.shared).await;
    let loaded = loaded.map_err(|error| {
        let told = format!("{}; what was in force stays", wire::chain(&error));
        Problem::new(StatusCode::CONFLICT, "inspection", &told)
    })?;
    tracing::warn!(
        "Inspection was told by {} to look for other rules: {}, digest {}",
        caller.actor.id,
        loaded.rules,
        loaded.digest
    );
    Ok(ok(&loaded))
}

pub(super) async fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-route", &"there is nothing here")
}

/// Reads the body, since a signature covers it, and finds out who is calling.
async fn authenticated(
    State(admin): App,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, wire::BODY_BYTES_MAX).collect().await else {
        return Problem::bad(&"the body is too long or was cut off").into_response();
    };
    let body = body.to_bytes();
    match admin.caller(peer, &parts, &body) {
        Err(problem) => problem.into_response(),
        Ok(caller) => {
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, Body::from(body))).await
        }
    }
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::bad(&error))
}

pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: T::Err| Problem::bad(&error))
}

pub(super) fn ok<T: Serialize>(value: &T) -> Response {
    json(StatusCode::OK, value)
}

impl Admin {
    pub(super) fn control(&self) -> &Arc<register::Control> {
        self.shared.plane.control()
    }

    /// Carries out a command, to its end even if whoever gave it goes away. A cut is acknowledged
    /// when its barrier is on record: nothing that it rules out can follow in the log of calls.
    pub(super) async fn execute(
        self: &Arc<Self>,
        caller: Caller,
        command: Command,
    ) -> Result<(bool, Vec<RecordRef>), Problem> {
        let control = Arc::clone(self.control());
        let task = self.tasks.spawn(async move {
            Ok(match control.execute(caller.actor, command).await? {
                Done::Changed { records, .. } => (true, records),
                Done::Started { record, .. } => (true, vec![record]),
                Done::Continued { .. } | Done::Unchanged { .. } => (false, Vec::new()),
            })
        });
        task.await.unwrap_or_else(|_| Err(Problem::internal()))
    }

    fn admin_view(&self, id: &AdminId) -> Result<AdminView, Problem> {
        let views = self.control().view(register::State::admin_views);
        let view = views.into_iter().find(|view| view.id == *id);
        view.ok_or_else(Problem::internal)
    }

    /// Changes a token key, to its end even if whoever asked goes away.
    async fn change_key(
        self: &Arc<Self>,
        change: impl Future<Output = Result<Rotated, RotationError>> + Send + 'static,
    ) -> Answer {
        let changed = self.tasks.spawn(change).await;
        let rotated = changed.map_err(|_| Problem::internal())??;
        let views = rotation::views(self.control());
        let view = views.into_iter().find(|view| view.id == rotated.kid);
        Ok(ok(&Changed {
            view: view.ok_or_else(Problem::internal)?,
            is_new: rotated.is_new,
            records: rotated.records,
        }))
    }

    /// Changes a log's key, to its end even if whoever asked goes away.
    async fn change_log_key(
        self: &Arc<Self>,
        change: impl Future<Output = Result<log_keys::Changed, LogKeyError>> + Send + 'static,
    ) -> Answer {
        let changed = self.tasks.spawn(change).await;
        let changed = changed.map_err(|_| Problem::internal())??;
        let views = Logs::of(&self.shared).views();
        let view = views.into_iter().find(|view| view.id == changed.id);
        Ok(ok(&Changed {
            view: view.ok_or_else(Problem::internal)?,
            is_new: !changed.records.is_empty(),
            records: changed.records,
        }))
    }

    fn pep_view(&self, pep: &PepName) -> Result<PepView, Problem> {
        let views = self.control().view(register::State::pep_views);
        let view = views.into_iter().find(|view| view.id == *pep);
        view.ok_or_else(Problem::internal)
    }

    pub(super) fn sponsor_view(&self, id: &SponsorId) -> Result<SponsorView, Problem> {
        self.control().view(|state| {
            if let Some(sponsor) = state.sponsor_by_id(id) {
                return Ok(state.sponsor_view(sponsor));
            }
            let known = state.sponsors();
            let known = known.iter().filter_map(|it| it.id().map(SponsorId::as_str));
            let nearest = suggest::nearest(id.as_str(), known).map(str::to_owned);
            Err(CommandError::Refused(Refusal::UnknownSponsor {
                given: id.clone(),
                nearest,
            })
            .into())
        })
    }

    fn agent_view(&self, id: &AgentId) -> Result<AgentView, Problem> {
        let now = self.shared.clock.now();
        self.control().view(|state| {
            if let Some(agent) = state.agent(id) {
                return Ok(state.agent_view(agent, now));
            }
            let known = state.agents().map(|agent| agent.id.as_str());
            let nearest = suggest::nearest(id.as_str(), known).map(str::to_owned);
            Err(CommandError::Refused(Refusal::UnknownAgent {
                given: id.clone(),
                nearest,
            })
            .into())
        })
    }

    fn instance_view(&self, id: &InstanceId) -> Result<InstanceView, Problem> {
        let now = self.shared.clock.now();
        self.control()
            .view(|state| {
                state
                    .instance(id)
                    .map(|instance| state.instance_view(instance, now))
            })
            .ok_or_else(|| Problem::unknown_instance(id))
    }
}

async fn status(State(admin): App) -> Answer {
    let shared = &admin.shared;
    let plane = &shared.plane;
    let upstreams = plane.upstreams().map(|served| {
        let upstream = served.upstream();
        wire::UpstreamStatus {
            name: served.name().clone(),
            url: plane
                .issuer()
                .resource(served.name().clone())
                .uri()
                .to_owned(),
            transport: match upstream.config().transport {
                Transport::Stdio { .. } => "stdio",
                Transport::Http { .. } => "http",
                Transport::Elsewhere { .. } => "elsewhere",
                Transport::Unusable { .. } => "unusable",
            },
            observe_until: served.observe_until(),
            tools: plane
                .known_tools(served.name())
                .map(|(_, tools)| tools.list().len()),
            children: upstream.children(),
            confinement: upstream
                .confinement()
                .and_then(Result::ok)
                .map(|it| match it {
                    Confinement::Confined => "confined",
                    Confinement::Open => "open",
                }),
        }
    });
    Ok(ok(&wire::Status {
        url: shared.url.clone(),
        node: shared.config.node.clone(),
        version: crate::node::VERSION,
        trust_domain: shared.config.trust_domain.to_string(),
        pid: std::process::id(),
        time: shared.clock.now(),
        serving: !plane.life().has_failed() && plane.control().failure().is_none(),
        shared_user: shared.shared_user,
        control_size: shared.control_log.reader().size(),
        calls_size: shared.calls_log.reader().size(),
        in_flight: plane.in_flight(),
        policy: plane.policy_status().0,
        break_glass: crate::break_glass::open(shared),
        upstreams: upstreams.collect(),
    }))
}

async fn doctor(State(admin): App) -> Answer {
    Ok(ok(&crate::doctor::of_node(&admin.shared).await))
}

async fn admins(State(admin): App) -> Answer {
    Ok(ok(&admin.control().view(register::State::admin_views)))
}

async fn add_admin(State(admin): App, Extension(caller): Extension<Caller>, body: Bytes) -> Answer {
    let new: wire::NewAdmin = read(&body)?;
    let key: AdminKey = parsed(&new.key)?;
    let id = key.admin().clone();
    let (is_new, records) = admin.execute(caller, Command::AddAdmin { key }).await?;
    Ok(ok(&Changed {
        view: admin.admin_view(&id)?,
        is_new,
        records,
    }))
}

async fn remove_admin(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let id: AdminId = parsed(&id)?;
    // As it was; none if there is none, and then the register says so.
    let view = admin.admin_view(&id);
    let (is_new, records) = admin.execute(caller, Command::RemoveAdmin { id }).await?;
    Ok(ok(&Changed {
        view: AdminView {
            status: Status::Revoked,
            ..view?
        },
        is_new,
        records,
    }))
}

/// A key as people see it: of tokens, of a log, or of the keyring.
#[derive(Serialize)]
#[serde(untagged)]
enum KeyView {
    Token(TokenKeyView),
    Log(LogKeyView),
    Wrapping(WrappingKeyView),
}

async fn keys(State(admin): App) -> Answer {
    let tokens = rotation::views(admin.control()).into_iter();
    let logs = Logs::of(&admin.shared).views().into_iter();
    let wrapping = wrapping::views(&admin.shared.config.keys).into_iter();
    let keys: Vec<_> = tokens
        .map(KeyView::Token)
        .chain(logs.map(KeyView::Log))
        .chain(wrapping.map(KeyView::Wrapping))
        .collect();
    Ok(ok(&keys))
}

async fn rotate_token_key(State(admin): App, Extension(caller): Extension<Caller>) -> Answer {
    let shared = Arc::clone(&admin.shared);
    let rotate = async move {
        let keyed = Keyed::of(&shared);
        shared.rotation.rotate(&keyed, caller.actor).await
    };
    admin.change_key(rotate).await
}

async fn rotate_log_key(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path(log): Path<String>,
) -> Answer {
    let log = parsed(&log)?;
    let shared = Arc::clone(&admin.shared);
    let rotate = async move {
        let logs = Logs::of(&shared);
        shared.log_rotation.rotate(&logs, log, caller.actor).await
    };
    admin.change_log_key(rotate).await
}

async fn rotate_wrapping_key(State(admin): App, Extension(caller): Extension<Caller>) -> Answer {
    let shared = Arc::clone(&admin.shared);
    // To its end, even if whoever asked goes away.
    let rotate = async move { wrapping::rotate_running(&shared, caller.actor).await };
    let rotated = admin.tasks.spawn(rotate).await;
    let rotated = rotated.map_err(|_| Problem::internal())??;
    Ok(ok(&Changed {
        view: rotated.view,
        is_new: !rotated.records.is_empty(),
        records: rotated.records,
    }))
}

async fn revoke_key(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let shared = Arc::clone(&admin.shared);
    if Logs::of(&shared).views().iter().any(|view| view.id == id) {
        let revoke = async move {
            let logs = Logs::of(&shared);
            shared.log_rotation.revoke(&logs, &id, caller.actor).await
        };
        return admin.change_log_key(revoke).await;
    }
    let kid = parsed(&id)?;
    let revoke = async move {
        let keyed = Keyed::of(&shared);
        shared.rotation.revoke(&keyed, caller.actor, kid).await
    };
    admin.change_key(revoke).await
}

async fn peps(State(admin): App) -> Answer {
    Ok(ok(&admin.control().view(register::State::pep_views)))
}

async fn add_pep(State(admin): App, Extension(caller): Extension<Caller>, body: Bytes) -> Answer {
    let new: wire::NewPep = read(&body)?;
    let pep = new.id.clone();
    let command = Command::AddPep {
        pep: new.id,
        token: new.token,
        serves: new.serves,
        trusted: new.trusted,
    };
    let (is_new, records) = admin.execute(caller, command).await?;
    Ok(ok(&Changed {
        view: admin.pep_view(&pep)?,
        is_new,
        records,
    }))
}

async fn remove_pep(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let pep: PepName = parsed(&id)?;
    // As it was; none if there is none, and then the register says so.
    let view = admin.pep_view(&pep);
    let (is_new, records) = admin.execute(caller, Command::RemovePep { pep }).await?;
    Ok(ok(&Changed {
        view: PepView {
            status: Status::Revoked,
            ..view?
        },
        is_new,
        records,
    }))
}

async fn sponsors(State(admin): App) -> Answer {
    Ok(ok(&admin.control().view(register::State::sponsor_views)))
}

/// A sponsor, and of what stops them also who wrote it.
async fn sponsor(State(admin): App, Path(id): Path<String>) -> Answer {
    let mut view = admin.sponsor_view(&parsed(&id)?)?;
    let read = tokio::task::spawn_blocking(move || {
        let log = admin.shared.control_log.reader();
        for hold in &mut view.holds {
            let index = hold
                .record
                .as_deref()
                .and_then(|it| it.strip_prefix("control/"));
            let index = index.and_then(|it| it.parse().ok());
            let bytes = index.and_then(|index| log.entry(index).ok());
            let entry = bytes.as_deref().and_then(|it| Entry::parse(it).ok());
            hold.by = entry.map(|entry| entry.actor.id);
        }
        view
    });
    Ok(ok(&read.await.map_err(|_| Problem::internal())?))
}

async fn add_sponsor(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Answer {
    let new: wire::NewSponsor = read(&body)?;
    let command = Command::AddSponsor {
        id: new.id.clone(),
        name: parsed(&new.name)?,
        email: parsed(&new.email)?,
    };
    let (is_new, records) = admin.execute(caller, command).await?;
    Ok(ok(&Changed {
        view: admin.sponsor_view(&new.id)?,
        is_new,
        records,
    }))
}

async fn change_sponsor(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path((id, verb)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let id: SponsorId = parsed(&id)?;
    let command = match verb.as_str() {
        "suspend" => Command::SuspendSponsor {
            id: id.clone(),
            signal: Some(cuts::signal(&admin, "suspended")?),
        },
        "resume" => Command::ResumeSponsor {
            id: id.clone(),
            signal: None,
            despite: if body.is_empty() {
                false
            } else {
                read::<wire::Resume>(&body)?.despite_directory
            },
        },
        _ => return Err(no_route().await),
    };
    let (is_new, records) = admin.execute(caller, command).await?;
    Ok(ok(&Changed {
        view: admin.sponsor_view(&id)?,
        is_new,
        records,
    }))
}

async fn agents(State(admin): App) -> Answer {
    let now = admin.shared.clock.now();
    Ok(ok(&admin.control().view(|state| state.agent_views(now))))
}

async fn agent(State(admin): App, Path(id): Path<String>) -> Answer {
    Ok(ok(&admin.agent_view(&parsed(&id)?)?))
}

/// The key as the register takes it: checked by the crate that will use it.
fn key(new: &wire::NewKey) -> Result<register::NewKey, Problem> {
    let text = serde_json::to_vec(&new.jwk).map_err(|error| Problem::bad(&error))?;
    let key = PublicKey::from_jwk(&text).map_err(|error| Problem::bad(&error))?;
    let jwk: PublicJwk = key.to_registered().map_err(|error| Problem::bad(&error))?;
    Ok(register::NewKey {
        kid: parsed(key.thumbprint())?,
        jwk,
        not_before: None,
        expires_at: new.expires_at,
    })
}

/// A URL that signs a sponsor in. What they do with it is done by whoever may administer the node
/// as well as by them: records say `local-login`.
async fn login(State(admin): App, Extension(_): Extension<Caller>, body: Bytes) -> Answer {
    let wire::Login { id } = read(&body)?;
    let person = admin.control().view(|state| {
        let known = state.sponsor_by_id(&id);
        known.map(|known| (known.handle.clone(), state.sponsor_acts(&known.handle)))
    });
    let refused = |text: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", &text);
    let person = match person {
        Some((person, true)) => person,
        Some((_, false)) => {
            return Err(refused(
                "that sponsor is suspended, so they sign in nowhere",
            ));
        }
        None => {
            return Err(CommandError::Refused(Refusal::UnknownSponsor {
                given: id,
                nearest: None,
            })
            .into());
        }
    };
    match admin.shared.people.ticket(person, id) {
        Some(Ok(url)) => Ok(ok(&wire::LoginUrl { url })),
        Some(Err(error)) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not-recorded",
            &error,
        )),
        None => Err(refused(
            "the node's own login is off: people sign in at the provider of `[login]`; `local = \
             true` there turns it on, and then whoever administers the node can sign in as anybody",
        )),
    }
}

async fn add_agent(State(admin): App, Extension(caller): Extension<Caller>, body: Bytes) -> Answer {
    let new: wire::NewAgent = read(&body)?;
    let id = new.id.clone();
    let allow = |lines: Vec<String>| {
        lines
            .iter()
            .map(|line| parsed::<Allow>(line))
            .collect::<Result<Vec<_>, _>>()
    };
    let allow = new.allow.map(allow).transpose()?;
    let command = Command::AddAgent(Box::new(register::NewAgent {
        id: new.id,
        sponsor: new.sponsor,
        purposes: new.purposes,
        allow: allow.clone(),
        max_instances: new.max_instances,
        allow_bearer: new.allow_bearer,
        max_lifetime: new.max_lifetime_s.map(Duration::from_secs),
        idle: new.idle_s.map(Duration::from_secs),
        limits: new.limits,
        max_depth: new.max_depth,
        max_children: new.max_children,
        people: new.people.map(|people| admin.people(&people)).transpose()?,
        owners: new.owners.into(),
        key: new.key.as_ref().map(key).transpose()?,
        software: parsed(&new.software)?,
        model: parsed(&new.model)?,
        environment: parsed(&new.environment)?,
    }));
    let (is_new, records) = admin.execute(caller, command).await?;
    let lines = allow.iter().flatten();
    let warnings = lines
        .filter_map(|line| admin.allows_nothing(line))
        .collect();
    admin.registered(&id, is_new, records, warnings)
}

async fn rotate_key(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let id: AgentId = parsed(&id)?;
    let command = Command::RotateAgentKey {
        id: id.clone(),
        key: key(&read(&body)?)?,
    };
    let (is_new, records) = admin.execute(caller, command).await?;
    admin.registered(&id, is_new, records, Vec::new())
}

/// Which agents are needed yet.
async fn review(State(admin): App) -> Answer {
    let shared = Arc::clone(&admin.shared);
    let read = tokio::task::spawn_blocking(move || crate::review::reviews(&shared)).await;
    let reviews = read.map_err(|_| Problem::internal())?;
    let reviews = reviews.map_err(|error| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unreadable", &error)
            .help("`tipstaff ledger verify` says what is wrong with the log of calls")
    })?;
    Ok(ok(&reviews))
}

async fn transfer(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let id: AgentId = parsed(&id)?;
    let wire::Transfer { to } = read(&body)?;
    let agent = id.clone();
    let command = Command::TransferAgent { agent, to };
    let (is_new, records) = admin.execute(caller, command).await?;
    Ok(ok(&Changed {
        view: admin.agent_view(&id)?,
        is_new,
        records,
    }))
}

async fn name_deputies(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let id: SponsorId = parsed(&id)?;
    let wire::Deputies { deputies } = read(&body)?;
    let sponsor = id.clone();
    let command = Command::NameDeputies { sponsor, deputies };
    let (is_new, records) = admin.execute(caller, command).await?;
    Ok(ok(&Changed {
        view: admin.sponsor_view(&id)?,
        is_new,
        records,
    }))
}

async fn own(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let id: AgentId = parsed(&id)?;
    let owners: wire::NewOwners = read(&body)?;
    let command = Command::OwnAgent {
        agent: id.clone(),
        owners: owners.into(),
    };
    let (is_new, records) = admin.execute(caller, command).await?;
    Ok(ok(&Changed {
        view: admin.agent_view(&id)?,
        is_new,
        records,
    }))
}

impl Admin {
    /// Who may sign in, as it is written on the command line.
    fn people(&self, text: &str) -> Result<People, Problem> {
        match text.split_once(':') {
            None if text == "sponsor" => Ok(People::Sponsor),
            None if text == "everyone" => Ok(People::Everyone),
            Some(("group", name)) => self.control().view(|state| {
                let found = state.groups().find(|group| group.name() == Some(name));
                let group = found.map(|group| group.handle.clone());
                let group = group.ok_or_else(|| Refusal::UnknownGroup {
                    given: name.to_owned(),
                });
                let group = group.map_err(CommandError::Refused)?;
                Ok(People::Group { group })
            }),
            _ => Err(Problem::bad(
                &"who may sign in is `sponsor`, `everyone` or `group:NAME`",
            )),
        }
    }

    /// Why a line of an allow list allows nothing now. It may later, once the upstream is there.
    fn allows_nothing(&self, line: &Allow) -> Option<String> {
        let plane = &self.shared.plane;
        let (Allow::Tool { upstream, .. } | Allow::Method { upstream, .. }) = line;
        let or_near = |given: &str, known: Vec<&str>| {
            let near = suggest::nearest(given, known);
            near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
        };
        if plane.upstream(upstream).is_none() {
            let known = plane.upstreams().map(|served| served.name().as_str());
            let near = or_near(upstream.as_str(), known.collect());
            return Some(format!(
                "`{line}` allows nothing yet: there is no upstream `{upstream}`{near}"
            ));
        }
        let tool = match line {
            Allow::Tool { tool, .. } => tool,
            Allow::Method { method, .. } => {
                if policy::methods().any(|known| known == &**method) {
                    return None;
                }
                let near = or_near(method, policy::methods().collect());
                return Some(format!(
                    "`{line}` allows nothing: no method `{method}` is decided by policy{near}"
                ));
            }
        };
        let (_, tools) = plane.known_tools(upstream)?;
        if tools.list().names().any(|name| line.tool(upstream, name)) {
            return None;
        }
        let known = tools.list().names().map(ToolName::as_str);
        let near = or_near(tool.as_str(), known.collect());
        Some(format!(
            "`{line}` allows nothing yet: `{upstream}` has no tool `{tool}`{near}"
        ))
    }

    fn registered(
        &self,
        id: &AgentId,
        is_new: bool,
        records: Vec<RecordRef>,
        warnings: Vec<String>,
    ) -> Answer {
        let changed = Changed {
            view: self.agent_view(id)?,
            is_new,
            records,
        };
        Ok(ok(&Registered {
            changed,
            issuer: self.shared.plane.issuer().public_url().to_string(),
            accept_url: format!("{}/accept/{id}", self.shared.plane.issuer().public_url()),
            warnings,
        }))
    }
}

async fn change_agent(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path((id, verb)): Path<(String, String)>,
) -> Answer {
    let id: AgentId = parsed(&id)?;
    let command = match verb.as_str() {
        "suspend" => Command::SuspendAgent {
            id: id.clone(),
            signal: Some(cuts::signal(&admin, "suspended")?),
        },
        "resume" => Command::ResumeAgent { id: id.clone() },
        "retire" => Command::RetireAgent { id: id.clone() },
        "review" => Command::ReviewAgent { agent: id.clone() },
        _ => return Err(no_route().await),
    };
    let (is_new, records) = admin.execute(caller, command).await?;
    Ok(ok(&Changed {
        view: admin.agent_view(&id)?,
        is_new,
        records,
    }))
}

async fn instances(State(admin): App) -> Answer {
    let now = admin.shared.clock.now();
    Ok(ok(&admin.control().view(|state| state.instance_views(now))))
}

async fn instance(State(admin): App, Path(id): Path<String>) -> Answer {
    Ok(ok(&admin.instance_view(&parsed(&id)?)?))
}

async fn revoke(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let id: InstanceId = parsed(&id)?;
    let command = Command::EndInstance {
        id: id.clone(),
        reason: EndReason::Revoked,
    };
    let (is_new, records) = admin.execute(caller, command).await?;
    Ok(ok(&Changed {
        view: admin.instance_view(&id)?,
        is_new,
        records,
    }))
}

async fn check_policies(State(admin): App) -> Answer {
    judged(&admin.shared, policies::check).await
}

async fn test_policies(State(admin): App) -> Answer {
    judged(&admin.shared, policies::test).await
}

/// Judges the policy files beside the calls: a large set takes seconds.
async fn judged<T: Serialize + Send + 'static>(
    shared: &Arc<Shared>,
    judge: fn(&dyn Ground, &std::path::Path) -> Result<T, String>,
) -> Answer {
    let shared = Arc::clone(shared);
    let report =
        tokio::task::spawn_blocking(move || judge(&*shared, &shared.config.policies)).await;
    let report = report.map_err(|_| Problem::internal())?;
    Ok(ok(&report.map_err(|error| unreadable(&error))?))
}

fn unreadable(error: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unreadable", &error)
}

async fn apply_policies(State(admin): App, Extension(caller): Extension<Caller>) -> Answer {
    let shared = Arc::clone(&admin.shared);
    // To its end, even if whoever asked goes away.
    let task = admin
        .tasks
        .spawn(async move { policies::apply(&shared, caller.actor, caller.id).await });
    let applied = task.await.map_err(|_| Problem::internal())?;
    let applied = applied.map_err(|error| {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "refused",
            &wire::chain(&error),
        )
    })?;
    Ok(ok(&applied))
}

async fn trace(State(admin): App, Path(id): Path<String>) -> Answer {
    let problem = |error: TraceError| {
        let (status, word) = match &error {
            TraceError::Form(_) => (StatusCode::BAD_REQUEST, "bad-request"),
            TraceError::NoInstance(_) | TraceError::NoRecord { .. } => {
                (StatusCode::NOT_FOUND, "unknown")
            }
            TraceError::Read(_) | TraceError::Entry { .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, "unreadable")
            }
        };
        Problem::new(status, word, &error)
    };
    let target: Target = id.parse().map_err(problem)?;
    let read = tokio::task::spawn_blocking(move || {
        let shared = &admin.shared;
        let sources = Sources {
            control: admin.control(),
            control_log: shared.control_log.reader(),
            calls_log: shared.calls_log.reader(),
            keyring: &*shared.keyring,
            now: shared.clock.now(),
            url: &shared.url,
        };
        match target {
            Target::Instance(id) => serde_json::to_value(sources.instance(&id)?),
            Target::Record(log, index) => serde_json::to_value(sources.record(log, index)?),
        }
        .map_err(|_| TraceError::Form(id))
    });
    let trace: Value = read
        .await
        .map_err(|_| Problem::internal())?
        .map_err(problem)?;
    Ok(ok(&trace))
}

async fn erase(State(admin): App, Extension(caller): Extension<Caller>, body: Bytes) -> Answer {
    let asked: wire::Erase = read(&body)?;
    let sponsor = asked.what.parse::<SponsorId>().ok();
    let sponsor = sponsor.and_then(|id| {
        admin
            .control()
            .view(|state| state.sponsor_by_id(&id).map(|it| it.handle.clone()))
    });
    let handle: Handle = match sponsor {
        Some(handle) => handle,
        None => parsed(&asked.what)?,
    };
    let command = Command::Erase {
        handle: handle.clone(),
    };
    let done = admin.execute(caller, command).await;
    // An error does not say that it is not on record.
    admin.shared.plane.forget_group_keys();
    let (is_new, records) = done?;
    let erased = serde_json::json!({
        "erased": handle, "changed": is_new, "records": records,
    });
    Ok(ok(&erased))
}
