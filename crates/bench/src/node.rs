//! The process that is measured: a node as the program runs it, with everything on.
//!
//! It starts [`Node`] itself, so that its disk can be slowed down without the program having a
//! switch for that.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use broker::Vault;
use ledger::Actor;
use register::{Command, Done, NewAgent, NewKey, Person, Signal, Subject};
use serde::{Deserialize, Serialize};
use server::config::Config;
use server::init::init;
use server::node::{Deps, Node};
use store::{Fault, Faults};
use tokens::{AgentKey, PrivateKey};
use vocab::rng::{self, SystemRng};
use vocab::time::SystemClock;
use vocab::{Digest, Handle, Secret};

use crate::child;
use crate::world;

/// What a gateway does with a call beside deciding on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum With {
    /// As it ships: looks for everything, and no policy asks what was found.
    Rules,
    /// Looks for nothing that a rule is for.
    NoRules,
    /// Looks, masks, labels, has people asked, and reaches its upstream with a secret of the vault.
    Everything,
}

impl With {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::NoRules => "no-rules",
            Self::Everything => "everything",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let all = [Self::Rules, Self::NoRules, Self::Everything];
        let found = all.into_iter().find(|it| it.as_str() == text);
        found.with_context(|| format!("`{text}` is nothing that a gateway can be with"))
    }
}

/// What the process offers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) url: String,
    /// The key of the agent that calls.
    pub(crate) key: PathBuf,
    /// The key of the agent of another sponsor.
    pub(crate) bystander: PathBuf,
    /// What the directory shows.
    pub(crate) directory_token: String,
    /// What the directory calls the sponsor of the agent that calls.
    pub(crate) sponsor: String,
    /// How long the start took.
    pub(crate) start_seconds: f64,
}

/// A node, and who is registered there.
pub(crate) struct Peopled {
    pub(crate) node: Node,
    pub(crate) faults: Faults,
    pub(crate) key: AgentKey,
    bystander: AgentKey,
    directory_token: String,
    sponsor: Handle,
    /// Who approves the calls of the agents of the first sponsor.
    pub(crate) approver: Handle,
    start_seconds: f64,
}

/// Offers a node in `dir` in front of `upstream`, with so many policies in its set.
pub(crate) async fn run(
    dir: &Path,
    upstream: &str,
    (policies, with): (usize, With),
    flush_delay: Duration,
) -> Result<()> {
    let peopled = start(dir, upstream, policies, with).await?;
    let keep = |name: &str, key: &AgentKey| -> Result<PathBuf> {
        let path = dir.join(name);
        fs::write(&path, key.to_file().expose())?;
        Ok(path)
    };
    let offer = Offer {
        start_seconds: peopled.start_seconds,
        url: peopled.node.url.clone(),
        key: keep("agent.key", &peopled.key)?,
        bystander: keep("bystander.key", &peopled.bystander)?,
        directory_token: peopled.directory_token,
        sponsor: peopled.sponsor.to_string(),
    };
    if !flush_delay.is_zero() {
        peopled.faults.set(Fault::Slow(flush_delay));
    }
    fs::write(dir.join(OFFER), serde_json::to_string(&offer)?)?;
    serve(peopled.node, &offer).await
}

/// The node of a folder, as it was left.
pub(crate) async fn again(dir: &Path) -> Result<()> {
    let (node, start_seconds) = begin(
        &dir.join(server::config::FILE_NAME),
        deps(Faults::default()),
    )
    .await?;
    let before: Offer = serde_json::from_str(&fs::read_to_string(dir.join(OFFER))?)?;
    let offer = Offer {
        url: node.url.clone(),
        start_seconds,
        ..before
    };
    serve(node, &offer).await
}

/// What was offered, for when the node is started again.
const OFFER: &str = "offer.json";

async fn serve(node: Node, offer: &Offer) -> Result<()> {
    child::ready(&serde_json::to_string(offer)?)?;
    child::parent_gone().await;
    node.stop().await.map_err(anyhow::Error::msg)
}

fn deps(faults: Faults) -> Deps {
    Deps {
        clock: Arc::new(SystemClock::new()),
        rng: Arc::new(SystemRng),
        faults,
        confiner: None,
    }
}

/// Starts a node, and says how long that took.
async fn begin(config: &Path, deps: Deps) -> Result<(Node, f64)> {
    let listen = "127.0.0.1:0".parse()?;
    let begin = crate::machine::elapsed();
    let node = Node::start(Config::read(config)?, Some(listen), deps).await?;
    let took = crate::machine::elapsed().saturating_sub(begin);
    Ok((node, took.as_secs_f64()))
}

/// Starts a node in `dir` in front of `upstream`.
pub(crate) async fn start(
    dir: &Path,
    upstream: &str,
    policies: usize,
    with: With,
) -> Result<Peopled> {
    init(dir, &"bench.tipstaff".parse()?, &SystemRng)?;
    let config = dir.join(server::config::FILE_NAME);
    let mut text = fs::read_to_string(&config)?;
    text.push_str(&world::settings(with, upstream)?);
    fs::write(&config, text)?;
    for file in fs::read_dir(dir.join("policies"))? {
        fs::remove_file(file?.path())?;
    }
    let policies = world::policies(policies) + world::more_policies(with);
    fs::write(dir.join("policies/bench.cedar"), policies)?;
    if with == With::Everything {
        let value = Secret::new(vocab::id::base32(&rng::bytes::<32>(&SystemRng)?));
        let vault = Vault::of(&dir.join("data"), &dir.join("keys"));
        let name = world::SECRET.parse()?;
        let by = broker::Change {
            recorded: 0,
            now: crate::machine::now(),
            rng: &SystemRng,
        };
        vault.set(&name, &value, by)?;
    }
    let faults = Faults::default();
    let (node, start_seconds) = begin(&config, deps(faults.clone())).await?;
    let sponsor = person(&node, "maya").await?;
    let key = agent(&node, world::AGENT, "maya").await?;
    let approver = person(&node, world::APPROVER).await?;
    let bystander = agent(&node, world::BYSTANDER, world::APPROVER).await?;
    let directory_token = vocab::id::base32(&rng::bytes::<32>(&SystemRng)?);
    let command = Command::AddDirectoryToken {
        digest: Digest::of(directory_token.as_bytes()),
    };
    execute(&node, command).await?;
    Ok(Peopled {
        node,
        faults,
        key,
        bystander,
        directory_token,
        sponsor,
        approver,
        start_seconds,
    })
}

pub(crate) async fn execute(node: &Node, command: Command) -> Result<Done> {
    let actor = Actor::node(node.plane.node_name());
    Ok(node.plane.control().execute(actor, command).await?)
}

/// Has the directory add a sponsor.
async fn person(node: &Node, id: &str) -> Result<Handle> {
    let email = format!("{id}@example.com").parse()?;
    let person = Person {
        external_id: Some(format!("external-{id}").parse()?),
        ..Person::new(id.parse()?, "Somebody".parse()?, email)
    };
    let command = Command::ProvisionSponsor {
        person: Box::new(person),
        signal: Signal {
            source: "scim".parse()?,
            event: "provisioned".parse()?,
            received_at: crate::machine::now(),
            happened_at: None,
            id: None,
        },
    };
    match execute(node, command).await? {
        Done::Changed {
            subject: Subject::Sponsor(handle),
            ..
        } => Ok(handle),
        other => bail!("a sponsor was not added: {other:?}"),
    }
}

/// Registers an agent of a sponsor's.
pub(crate) async fn agent(node: &Node, id: &str, sponsor: &str) -> Result<AgentKey> {
    let key = PrivateKey::generate(&SystemRng)?;
    let public = key.public();
    let agent = NewAgent {
        id: id.parse()?,
        sponsor: sponsor.parse()?,
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
    execute(node, Command::AddAgent(Box::new(agent))).await?;
    Ok(AgentKey {
        agent: id.parse()?,
        issuer: node.url.parse()?,
        key,
        expires_at: crate::machine::now().plus(Duration::from_hours(1)),
    })
}
