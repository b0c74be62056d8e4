//! Whether the process is alive, and whether the node can serve calls.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use gateway::Served;
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use store::Health;
use vocab::LogName;

use super::{Routed, Routes, as_json, no_store};
use crate::node::Shared;
use crate::output::count;

const MIB: u64 = 1024 * 1024;

/// Whether calls can be served, and what says so.
#[derive(Debug, Serialize)]
pub struct Readiness {
    /// Whether all parts are well.
    pub ready: bool,
    /// The parts.
    pub parts: Vec<Part>,
}

/// One part of the node.
#[derive(Debug, Serialize)]
pub struct Part {
    /// Its name, one of a closed set.
    pub name: &'static str,
    /// Whether it is well.
    pub ok: bool,
    /// In words. Anyone may read it, so what the system said is in the log and not here.
    pub detail: String,
}

/// `GET /healthz`: the process answers.
pub(super) async fn alive() -> Response {
    no_store(as_json(StatusCode::OK, &json!({"status": "ok"})))
}

/// `GET /readyz`: everything is there that a call needs.
pub(super) async fn ready(State(routes): Routed) -> Response {
    let readiness = readiness(&routes).await;
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    no_store(as_json(status, &readiness))
}

async fn readiness(routes: &Routes) -> Readiness {
    let looked = routes.blocking(|shared| {
        let free = store::free_bytes(&shared.config.data).ok();
        (free, shared.keyring.is_writable())
    });
    let (free, keyring) = looked.await.unwrap_or_default();
    let shared = &routes.shared;
    let plane = &shared.plane;
    let serving = plane.life().check();
    let stopped = plane.control().view(|state| !state.everything().is_on());
    // A node that denies everything on purpose serves: who asks is told why, and that is on record.
    let calls = if stopped {
        "everything is stopped by an administrator: every call is denied, and on record"
    } else {
        "calls are taken"
    };
    let register = plane.control().failure().is_none();
    let (set, problems) = plane.policy_status();
    let parts = vec![
        part("serving", serving.is_ok(), serving.err().unwrap_or(calls)),
        log("control-log", &shared.log(LogName::Control).health()),
        log("calls-log", &shared.log(LogName::Calls).health()),
        part(
            "register",
            register,
            if register {
                "folded"
            } else {
                "it does not know its own state; start again"
            },
        ),
        part(
            "policy",
            set.is_some(),
            &policy(set.is_some(), problems.len()),
        ),
        upstreams(plane.upstreams()),
        clock(shared),
        part(
            "keyring",
            keyring,
            if keyring {
                "keys can be kept"
            } else {
                "no key can be kept, so the facts of new calls cannot be sealed"
            },
        ),
        disk(free, shared.config.ledger.refuse_free_bytes),
        break_glass(shared),
    ];
    Readiness {
        ready: parts.iter().all(|part| part.ok),
        parts,
    }
}

fn part(name: &'static str, ok: bool, detail: &str) -> Part {
    Part {
        name,
        ok,
        detail: detail.to_owned(),
    }
}

fn policy(in_force: bool, problems: usize) -> String {
    match (in_force, problems) {
        (false, _) => "no valid policy set is in force, so everything is denied".to_owned(),
        (true, 0) => "in force".to_owned(),
        (true, 1) => "in force, with one problem; see `tipstaff policy check`".to_owned(),
        (true, n) => format!("in force, with {n} problems; see `tipstaff policy check`"),
    }
}

/// Always well: one that cannot be used is not available, and the others are.
fn upstreams<'a>(all: impl Iterator<Item = &'a Arc<Served>>) -> Part {
    let (mut count, mut troubled) = (0_usize, Vec::new());
    for served in all {
        count += 1;
        if served.upstream().trouble().is_some() {
            troubled.push(format!("`{}`", served.name()));
        }
    }
    let detail = if troubled.is_empty() {
        format!("{count} configured")
    } else {
        let troubled = troubled.join(", ");
        format!("{count} configured, not available: {troubled}; `tipstaff doctor` says why")
    };
    part("upstreams", true, &detail)
}

/// Always well, and loud: calls are served, some of them in nobody's name but of those who broke it.
fn break_glass(shared: &Shared) -> Part {
    let open = crate::break_glass::open(shared);
    match open.iter().map(|it| it.until).max() {
        None => part("break-glass", true, "not broken"),
        Some(until) => {
            let agents = count(open.len() as u64, "agent runs", "agents run");
            let detail =
                format!("BROKEN: {agents} by it until {until}; `tipstaff doctor` says more");
            part("break-glass", true, &detail)
        }
    }
}

fn log(name: &'static str, health: &Health) -> Part {
    let detail = match health {
        Health { running: false, .. } => "it is closed".to_owned(),
        Health {
            writable: false, ..
        } => "its last commit could not be written".to_owned(),
        Health {
            publishing: false, ..
        } => "its last checkpoint could not be published".to_owned(),
        Health { entries, .. } => count(*entries, "entry", "entries"),
    };
    Part {
        name,
        ok: health.running && health.writable && health.publishing,
        detail,
    }
}

fn clock(shared: &Shared) -> Part {
    let now = shared.clock.now();
    let logs = LogName::ALL.map(|name| shared.log(name).health().clock_behind(now));
    match logs.into_iter().flatten().max() {
        None => part("clock", true, "not behind the last entry"),
        Some(behind) => {
            let seconds = behind.as_secs();
            let detail = format!("{seconds} s behind the last entry, so nothing can be recorded");
            part("clock", false, &detail)
        }
    }
}

fn disk(free: Option<u64>, refuse: u64) -> Part {
    let detail = match free {
        None => "its free space cannot be read".to_owned(),
        Some(free) => format!(
            "{} MiB free; under {} MiB calls are refused",
            free / MIB,
            refuse / MIB
        ),
    };
    Part {
        name: "disk",
        ok: free.is_some_and(|free| free >= refuse),
        detail,
    }
}
