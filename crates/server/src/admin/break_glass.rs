//! Break-glass over the administration socket. Who may is not decided here: the register takes
//! nobody's word but that of two named administrators, by their keys.

use std::time::Duration;

use axum::extract::{Extension, Path, State};
use bytes::Bytes;
use register::{BreakGlassView, Command, CommandError, GlassCommand, GlassOver, Refusal};
use vocab::Handle;

use super::routes::{Answer, App, ok, parsed, read};
use super::wire::{self, Changed, Problem};
use super::{Admin, Caller};

/// `GET /v1/break-glass`.
pub(super) async fn list(State(admin): App) -> Answer {
    let now = admin.shared.clock.now();
    let all: Vec<BreakGlassView> = admin.control().view(|state| {
        let all = state.break_glasses();
        all.map(|glass| state.break_glass_view(glass, now))
            .collect()
    });
    Ok(ok(&all))
}

/// `GET /v1/break-glass/{id}`.
pub(super) async fn show(State(admin): App, Path(id): Path<String>) -> Answer {
    Ok(ok(&admin.break_glass_view(&parsed(&id)?)?))
}

/// `POST /v1/break-glass`.
pub(super) async fn request(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Answer {
    let asked: wire::NewBreakGlass = read(&body)?;
    let agent = asked.agent.clone();
    let command = GlassCommand::Request {
        agent: asked.agent,
        reason: parsed(&asked.reason)?,
        lasts: Duration::from_secs(asked.lasts_s),
    };
    let (is_new, records) = admin.execute(caller, Command::BreakGlass(command)).await?;
    // The entry that says so is the last about this agent.
    let id = admin.control().view(|state| {
        let theirs = state.break_glasses().filter(|glass| glass.agent == agent);
        theirs.last().map(|glass| glass.id.clone())
    });
    Ok(ok(&Changed {
        view: admin.break_glass_view(&id.ok_or_else(Problem::internal)?)?,
        is_new,
        records,
    }))
}

/// `POST /v1/break-glass/{id}/approve`, `POST /v1/break-glass/{id}/end`.
pub(super) async fn change(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path((id, verb)): Path<(String, String)>,
) -> Answer {
    let id: Handle = parsed(&id)?;
    let command = match verb.as_str() {
        "approve" => GlassCommand::Open { id: id.clone() },
        "end" => GlassCommand::End {
            id: id.clone(),
            cause: GlassOver::Ended,
        },
        _ => return Err(super::routes::no_route().await),
    };
    let (is_new, records) = admin.execute(caller, Command::BreakGlass(command)).await?;
    Ok(ok(&Changed {
        view: admin.break_glass_view(&id)?,
        is_new,
        records,
    }))
}

impl Admin {
    fn break_glass_view(&self, id: &Handle) -> Result<BreakGlassView, Problem> {
        let now = self.shared.clock.now();
        self.control().view(|state| {
            let found = state.break_glass(id);
            let found = found.ok_or_else(|| Refusal::UnknownGlass { given: id.clone() });
            let found = found.map_err(CommandError::Refused)?;
            Ok(state.break_glass_view(found, now))
        })
    }
}
