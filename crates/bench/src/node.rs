//! The process that is measured: a node as the program runs it, with everything on.
//!
//! It starts [`Node`] itself, so that its disk can be slowed down without the program having a
//! switch for that.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ledger::Actor;
use register::{Command, NewAgent, NewKey};
use serde::{Deserialize, Serialize};
use server::config::Config;
use server::init::init;
use server::node::{Deps, Node};
use store::{Fault, Faults};
use tokens::{AgentKey, PrivateKey};
use vocab::rng::SystemRng;
use vocab::time::SystemClock;

use crate::child;
use crate::world;

/// What the process offers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) url: String,
    pub(crate) key: PathBuf,
    /// How long the start took.
    pub(crate) start_seconds: f64,
}

/// A node in `dir` in front of `upstream`, with so many policies in its set.
pub(crate) async fn run(
    dir: &Path,
    upstream: &str,
    policies: usize,
    flush_delay: Duration,
) -> Result<()> {
    init(dir, &"bench.tipstaff".parse()?, &SystemRng)?;
    let config = dir.join(server::config::FILE_NAME);
    let mut text = fs::read_to_string(&config)?;
    let name = world::UPSTREAM;
    let upstream = format!("\n[upstream.{name}]\nurl = \"{upstream}\"\n");
    text.push_str(&upstream);
    fs::write(&config, text)?;
    for file in fs::read_dir(dir.join("policies"))? {
        fs::remove_file(file?.path())?;
    }
    fs::write(dir.join("policies/bench.cedar"), world::policies(policies))?;
    let faults = Faults::default();
    let (node, start_seconds) = start(&config, faults.clone()).await?;
    let key = agent(&node).await?;
    let path = dir.join(AGENT_KEY);
    fs::write(&path, key.to_file().expose())?;
    if !flush_delay.is_zero() {
        faults.set(Fault::Slow(flush_delay));
    }
    serve(node, path, start_seconds).await
}

/// The node of a folder, as it was left.
pub(crate) async fn again(dir: &Path) -> Result<()> {
    let config = dir.join(server::config::FILE_NAME);
    let (node, start_seconds) = start(&config, Faults::default()).await?;
    serve(node, dir.join(AGENT_KEY), start_seconds).await
}

const AGENT_KEY: &str = "agent.key";

async fn start(config: &Path, faults: Faults) -> Result<(Node, f64)> {
    let deps = Deps {
        clock: Arc::new(SystemClock::new()),
        rng: Arc::new(SystemRng),
        faults,
        confiner: None,
    };
    let listen = "127.0.0.1:0".parse()?;
    let begin = crate::machine::elapsed();
    let node = Node::start(Config::read(config)?, Some(listen), deps).await?;
    let took = crate::machine::elapsed().saturating_sub(begin);
    Ok((node, took.as_secs_f64()))
}

async fn serve(node: Node, key: PathBuf, start_seconds: f64) -> Result<()> {
    let offer = Offer {
        url: node.url.clone(),
        key,
        start_seconds,
    };
    child::ready(&serde_json::to_string(&offer)?)?;
    child::parent_gone().await;
    node.stop().await.map_err(anyhow::Error::msg)
}

/// Registers the agent and who answers for it.
async fn agent(node: &Node) -> Result<AgentKey> {
    let control = node.plane.control();
    let actor = Actor::node(node.plane.node_name());
    let sponsor = Command::AddSponsor {
        id: "maya".parse()?,
        name: "Maya Lindqvist".parse()?,
        email: "maya@example.com".parse()?,
    };
    control.execute(actor.clone(), sponsor).await?;
    let key = PrivateKey::generate(&SystemRng)?;
    let public = key.public();
    let agent = NewAgent {
        id: world::AGENT.parse()?,
        sponsor: "maya".parse()?,
        purposes: vec![world::PURPOSE.parse()?],
        allow: None,
        max_instances: Some(10_000),
        allow_bearer: true,
        max_lifetime: None,
        idle: None,
        limits: register::CallLimits {
            calls_per_minute: None,
            calls_per_instance: None,
        },
        max_depth: Some(16),
        max_children: Some(10_000),
        people: None,
        owners: register::NewOwners::default(),
        key: Some(NewKey {
            kid: public.thumbprint().parse()?,
            jwk: public
                .to_registered()
                .context("the key cannot be registered")?,
            not_before: None,
            expires_at: None,
        }),
        software: "bench".parse()?,
        model: String::new().parse()?,
        environment: "measuring".parse()?,
    };
    control
        .execute(actor, Command::AddAgent(Box::new(agent)))
        .await?;
    Ok(AgentKey {
        agent: world::AGENT.parse()?,
        issuer: node.url.parse()?,
        key,
        expires_at: crate::machine::now().plus(Duration::from_hours(1)),
    })
}
