//! `tipstaff up`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use store::{Faults, OpenError};
use tokio::signal::unix::{SignalKind, signal};
use vocab::Clock;
use vocab::time::SystemClock;

use super::{Context, Failure, Outcome, Verdict};
use crate::admin::client::NodeFile;
use crate::cli::Up;
use crate::config::{Config, Environment, Transport};
use crate::node::{Deps, Node, StartError};
use crate::output;

pub(super) async fn run(context: &Context, up: Up) -> Outcome {
    let config = context.config()?;
    let mut stopping = Stop::new()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut told = notes(&config, &*clock);
    let (data, environment) = (config.data.clone(), config.environment);
    let deps = Deps {
        clock,
        rng: Arc::new(context.rng),
        faults: Faults::default(),
        confiner: std::env::current_exe().ok(),
    };
    let node = tokio::select! {
        node = Box::pin(Node::start(config, up.listen, deps)) => node.map_err(|error| match error {
            StartError::Store(OpenError::Locked { .. }) => Failure::InUse {
                pid: NodeFile::read(&data).ok().map(|node| node.pid),
                data: data.display().to_string(),
            },
            error => Failure::Start(error),
        })?,
        // Nobody was served yet, and what is on record is whole at every moment.
        () = stopping.asked() => return Ok(Verdict::Good),
    };
    for served in node.plane.upstreams() {
        if let Some(why) = served.upstream().trouble() {
            told.push(format!("NOT available: `{}`: {why}", served.name()));
        }
    }
    let (set, _) = node.plane.policy_status();
    if set.is_none() {
        let act = match environment {
            Environment::Development => "`tipstaff policy check` says why",
            Environment::Production => "`tipstaff policy apply` puts the files in force",
        };
        told.insert(
            0,
            format!("NO valid policy set is in force: every call is denied. {act}."),
        );
    }
    if !node.address.ip().is_loopback() && !node.url.starts_with("https://") {
        told.push(format!(
            "Listens on {} WITHOUT TLS: others on the network can read what passes. Listen on \
             127.0.0.1, or put a proxy that ends TLS before it and name its https URL as `public_url`.",
            node.address
        ));
    }
    if let Some(address) = node.ext_authz {
        told.push(format!("Proxies ask over gRPC ext_authz at {address}"));
        if !address.ip().is_loopback() {
            told.push(format!(
                "{address} is WITHOUT TLS: agents' tokens and the proxies' own pass it. Listen on \
                 127.0.0.1, or let nobody else into that network."
            ));
        }
    }
    if let Some(path) = &up.ready_file {
        write_whole(path, &format!("{}\n", json!({"url": node.url}))).map_err(|error| {
            Failure::Other(format!("cannot write `{}`: {error}", path.display()))
        })?;
    }
    context.show(&json!({"url": node.url}), |_| {
        let mut out = format!("Tipstaff serves at {}\n", node.url);
        for line in &told {
            let _infallible = writeln!(out, "  {}", output::clean(line));
        }
        out
    })?;
    stopping.asked().await;
    tracing::info!("Stopping: calls in flight are finished or cut, and put on record");
    node.stop().await.map_err(Failure::Other)?;
    Ok(Verdict::Good)
}

/// What whoever starts the node should know, in plain words.
fn notes(config: &Config, clock: &dyn Clock) -> Vec<String> {
    let mut notes = Vec::new();
    for (name, upstream) in &config.upstreams {
        let how = match &upstream.transport {
            Transport::Stdio { command, .. } => command.join(" "),
            Transport::Http { url } => url.clone(),
            Transport::Elsewhere { .. } => {
                notes.push(format!(
                    "/access/v1 → answers what asks for service `{name}`"
                ));
                String::new()
            }
        };
        if !how.is_empty() {
            notes.push(format!("/mcp/{name} → {how}"));
        }
        match upstream.observe_until {
            Some(until) if clock.now() < until => notes.push(format!(
                "OBSERVED: what policy denies at `{name}` PASSES until {until}, and is recorded"
            )),
            Some(until) => notes.push(format!(
                "`{name}` was observed until {until}, which is over: what policy denies is refused"
            )),
            None => {}
        }
    }
    if config.upstreams.is_empty() {
        notes
            .push("No upstream is configured: add an [upstream.NAME] to the configuration.".into());
    }
    if crate::node::is_root() {
        notes.push(
            "The node runs as ROOT, and need not: what it starts has no privileges, but owns what \
             root owns. `tipstaff doctor` says how to give it a user of its own."
                .into(),
        );
    } else if crate::node::is_shared_user() {
        notes.push(
            "Agents may run as this same user and could read this node's keys; records say so, \
             and `tipstaff doctor` explains how to separate them."
                .into(),
        );
    }
    if config.login.local {
        let how = match config.login.provider {
            Some(_) => "The node's own login is ON beside the identity provider",
            None => "NO identity provider signs people in",
        };
        notes.push(format!(
            "{how}: whoever administers this node can sign in as anybody (`tipstaff login ID`). For \
             development only; see [login]."
        ));
    }
    if config.ledger.anchors.is_empty() {
        notes.push(
            "Checkpoints are anchored nowhere else, so it is not claimed that the history is \
             whole; see [ledger] anchor."
                .into(),
        );
    }
    notes
}

/// Writes a file that appears whole or not at all.
pub(super) fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Signals that end the node.
pub(super) struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    _file_size: tokio::signal::unix::Signal,
}

impl Stop {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            // Heard so that it does not kill us: a write past the limit on file sizes is an error
            // like any other, and the ledger's to deal with.
            _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
