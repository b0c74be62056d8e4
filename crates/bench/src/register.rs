//! What size costs: a node with a million agents, a tenth as many live instances and ten million
//! entries in its log of calls, against the same node with one agent: how long a start takes with a
//! snapshot and without, memory, and a call.
//!
//! The entries are written by the store itself, many to a commit, and are what a node writes; only
//! what would be sealed beside those of calls is left out, which no start reads.

use std::path::Path;
use std::sync::Arc;

use ::ledger::note::Signer;
use ::ledger::{Actor, Draft, Entry, Header, Kind, Log, LogReader};
use anyhow::{Context, Result, bail};
use register::entry::{AgentAdded, InstanceStarted, Key};
use register::{
    Binding, CallLimits, DelegationLimits, Event, Owners, Sponsorship, State, fold_prefix,
};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use server::config::Config;
use server::keys;
use store::{DataDir, Faults, FilesLog, LogOptions};
use vocab::rng::SystemRng;
use vocab::time::SystemClock;
use vocab::{InstanceId, LogName};

use crate::child::Role;
use crate::gate::Gate;
use crate::load::{Client, Era, Lasting, Measured};
use crate::node::With;
use crate::{load, machine, world};

/// Entries in one append.
const BATCH: u64 = 2_048;
/// Policies in the set: few, since they are not what is measured.
const POLICIES: usize = 10;
/// Connections for the latency of a call.
const CONNECTIONS: [usize; 2] = [1, 16];
/// As often as a node writes one.
const BARRIER_EVERY: u64 = 100_000;
const LIFETIME_SECONDS: u64 = 8 * 60 * 60;

/// How much there is.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Scale {
    pub(crate) agents: u64,
    pub(crate) instances: u64,
    pub(crate) calls: u64,
}

/// What it came to.
#[derive(Debug, Serialize)]
pub(crate) struct Register {
    pub(crate) scale: Scale,
    pub(crate) control_entries: u64,
    pub(crate) call_entries: u64,
    /// The node with one agent.
    pub(crate) small: Started,
    /// All of the control log is folded.
    pub(crate) whole: Started,
    /// From the snapshot that the stop before wrote.
    pub(crate) snapshot: Started,
    /// A stop that writes a snapshot.
    pub(crate) stop_s: f64,
    pub(crate) snapshot_mib: f64,
    /// Calls with a bearer token: the connections, with one agent, and with all.
    pub(crate) calls: Vec<(usize, Measured, Measured)>,
}

/// A start.
#[derive(Debug, Serialize)]
pub(crate) struct Started {
    /// Until it serves, of which up to a second is for the clock's next second.
    pub(crate) seconds: f64,
    /// What it has resident then.
    pub(crate) rss_mib: f64,
    /// The most that it had.
    pub(crate) peak_mib: f64,
}

impl Started {
    fn of(gate: &Gate) -> Result<Self> {
        Ok(Self {
            seconds: gate.start_seconds,
            rss_mib: machine::rss_mib(gate.role.pid)?,
            peak_mib: machine::peak_mib(gate.role.pid)?,
        })
    }
}

/// Measures with a node in `dir`.
pub(crate) async fn run(
    dir: &Path,
    scale: Scale,
    lasting: Lasting,
    say: &dyn Fn(&str),
) -> Result<Register> {
    let upstream = Role::start(["upstream"]).await?;
    let url = format!("http://{}/mcp", upstream.offer);
    let dir = dir.join("register");
    let gate = Gate::start(&dir, &url, (POLICIES, With::Rules), 0).await?;
    let small_calls = latencies(&gate, lasting).await?;
    gate.role.stop().await?;
    let gate = Gate::again(&dir).await?;
    let small = Started::of(&gate)?;
    gate.role.stop().await?;
    say("register: writing the logs");
    let (control_entries, call_entries) = fill(&dir, scale).await?;
    let config = Config::read(&dir.join(server::config::FILE_NAME))?;
    let file = server::node::snapshot::path(&config.data);
    std::fs::remove_file(&file)?;
    say("register: a start without a snapshot");
    let gate = Gate::again(&dir).await?;
    let whole = Started::of(&gate)?;
    let begin = machine::elapsed();
    gate.role.stop().await?;
    let stop_s = machine::elapsed().saturating_sub(begin).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a number of bytes")]
    let snapshot_mib = std::fs::metadata(&file)?.len() as f64 / 1024.0 / 1024.0;
    say("register: a start from the snapshot");
    let gate = Gate::again(&dir).await?;
    let snapshot = Started::of(&gate)?;
    let large_calls = latencies(&gate, lasting).await?;
    gate.role.stop().await?;
    upstream.stop().await?;
    let calls = CONNECTIONS.into_iter().zip(small_calls).zip(large_calls);
    Ok(Register {
        scale,
        control_entries,
        call_entries,
        small,
        whole,
        snapshot,
        stop_s,
        snapshot_mib,
        calls: calls
            .map(|((connections, small), large)| (connections, small, large))
            .collect(),
    })
}

/// A call with a bearer token, at each number of connections.
async fn latencies(gate: &Gate, lasting: Lasting) -> Result<Vec<Measured>> {
    let mut found = Vec::new();
    for connections in CONNECTIONS {
        let targets = gate.targets(false, connections.min(4)).await?;
        let targets = (0..connections).zip(targets.iter().cycle());
        let clients = targets.map(|(_, (target, _))| Client {
            target: target.clone(),
            era: Era::Modern,
            arguments: world::arguments(world::FILE),
            proofs: Vec::new(),
        });
        found.push(load::run(clients.collect(), gate.role.pid, lasting).await?);
    }
    Ok(found)
}

/// One of the logs of a node that is stopped.
fn open(config: &Config, dir: &DataDir, name: LogName) -> Result<Arc<FilesLog>> {
    let text = keys::read_secret(&keys::log_key(&config.keys, name))?;
    let signer: Signer = text.expose().parse()?;
    let options = LogOptions {
        name,
        header: Header {
            trust_domain: config.trust_domain.clone(),
            node: config.node.clone(),
            // Not before the last node's.
            epoch: 3,
            key: signer.verifier().key_name(),
        },
        signers: signer.into(),
        clock: Arc::new(SystemClock::new()),
        faults: Faults::default(),
        publish_every: None,
    };
    Ok(Arc::new(FilesLog::open(dir, options)?))
}

/// Makes the logs of a stopped node as long as they are to be; how long that is.
async fn fill(dir: &Path, scale: Scale) -> Result<(u64, u64)> {
    let config = Config::read(&dir.join(server::config::FILE_NAME))?;
    let data = DataDir::open(&config.data)?;
    let control = open(&config, &data, LogName::Control)?;
    let reader = control.reader();
    let state = fold_prefix(reader, None, reader.size())?;
    append(&control, scale.agents, |n| {
        Ok(agent(&state, n)?.draft(actor())?)
    })
    .await?;
    append(&control, scale.instances, |n| {
        Ok(instance(&state, n)?.draft(actor())?)
    })
    .await?;
    let control_entries = control.reader().size();
    control.close()?;
    let calls = open(&config, &data, LogName::Calls)?;
    let first = calls.reader().size();
    let templates = Templates::of(calls.reader())?;
    append(&calls, scale.calls, |n| templates.draft(first + n)).await?;
    let call_entries = calls.reader().size();
    calls.close()?;
    Ok((control_entries, call_entries))
}

fn actor() -> Actor {
    Actor::node("bench")
}

/// Appends so many drafts, one batch being made while another is written.
async fn append(
    log: &Arc<FilesLog>,
    count: u64,
    draft: impl Fn(u64) -> Result<Draft>,
) -> Result<()> {
    let mut written = None;
    for batch in 0..count.div_ceil(BATCH) {
        let entries = batch * BATCH..count.min((batch + 1) * BATCH);
        let drafts = entries.map(&draft).collect::<Result<Vec<_>>>()?;
        let log = Arc::clone(log);
        let next = tokio::spawn(async move { log.append(drafts).await });
        if let Some(before) = written.replace(next) {
            before.await??;
        }
        tokio::task::yield_now().await;
    }
    if let Some(last) = written {
        last.await??;
    }
    log.publish().await?;
    Ok(())
}

/// Like the agent that is there, under another name.
fn agent(state: &State, n: u64) -> Result<Event> {
    let like = state.agent(&world::AGENT.parse()?).context("no agent")?;
    let key = like.key.as_ref().context("an agent without a key")?;
    Ok(Event::AgentAdded(AgentAdded {
        agent: format!("agent-{n:07}").parse()?,
        sponsor: like.sponsor.clone(),
        sponsorship: Sponsorship::Asserted,
        purposes: like.purposes.clone(),
        allow: Some(vec!["bench/echo".parse()?]),
        max_instances: 10,
        allow_bearer: false,
        max_lifetime_s: LIFETIME_SECONDS,
        idle_s: LIFETIME_SECONDS,
        limits: CallLimits::default(),
        key: Some(Key {
            kid: format!("{}-{n:07}", key.kid).parse()?,
            jwk: key.jwk.clone(),
            not_before: None,
            expires_at: key.expires_at,
        }),
        people: None,
        delegation: DelegationLimits::default(),
        owners: Owners::default(),
        software: "claude-code/2.1.0".parse()?,
        model: "a-model-20261101".parse()?,
        environment: "production".parse()?,
    }))
}

/// An instance of the agent of the same number.
fn instance(state: &State, n: u64) -> Result<Event> {
    let like = state.agent(&world::AGENT.parse()?).context("no agent")?;
    let key = like.key.as_ref().context("an agent without a key")?;
    let purpose = like.purposes.first().context("an agent without purpose")?;
    Ok(Event::InstanceStarted(InstanceStarted {
        instance: InstanceId::random(&SystemRng)?,
        agent: format!("agent-{n:07}").parse()?,
        sponsor: like.sponsor.clone(),
        parent: None,
        purpose: purpose.clone(),
        binding: Binding::Dpop {
            jkt: key.kid.as_str().parse()?,
        },
        upstream: world::UPSTREAM.parse()?,
        key: Some(format!("{}-{n:07}", key.kid).parse()?),
        via: None,
        authority: None,
        handed_on: None,
        max_calls: None,
        max_lifetime_s: LIFETIME_SECONDS,
        idle_s: LIFETIME_SECONDS,
    }))
}

/// Bodies as the node wrote them, but for one number.
struct Templates {
    decision: (String, String),
    outcome: (String, String),
    barrier: Box<RawValue>,
}

/// Stands for the number.
const MARK: u64 = 1_234_567_890_123_456_789;

impl Templates {
    fn of(log: &dyn LogReader) -> Result<Self> {
        Ok(Self {
            decision: split(last(log, Kind::Decision)?, "open_from")?,
            outcome: split(last(log, Kind::Outcome)?, "decision")?,
            barrier: serde_json::value::to_raw_value(&last(log, Kind::Barrier)?)?,
        })
    }

    /// The entry at an index: permits and what came of them in turn, and now and then a barrier.
    fn draft(&self, index: u64) -> Result<Draft> {
        if index.is_multiple_of(BARRIER_EVERY) {
            return Ok(Draft::new(Kind::Barrier, actor(), &self.barrier)?);
        }
        let (kind, (head, tail), number) = if index.is_multiple_of(2) {
            (Kind::Decision, &self.decision, index)
        } else {
            (Kind::Outcome, &self.outcome, index - 1)
        };
        let body = RawValue::from_string(format!("{head}{number}{tail}"))?;
        Ok(Draft::new(kind, actor(), &body)?)
    }
}

/// The body of the last entry of a kind.
fn last(log: &dyn LogReader, kind: Kind) -> Result<Value> {
    for index in (0..log.size()).rev() {
        let bytes = log.entry(index)?;
        let entry = Entry::parse(&bytes)?;
        if entry.kind == kind {
            return Ok(serde_json::from_str(entry.body.get())?);
        }
    }
    bail!("no entry of kind {kind}")
}

fn split(mut body: Value, member: &str) -> Result<(String, String)> {
    let members = body.as_object_mut().context("a body that is no object")?;
    members.insert(member.to_owned(), MARK.into());
    let text = body.to_string();
    let (head, tail) = text
        .split_once(&MARK.to_string())
        .context("no such member")?;
    Ok((head.to_owned(), tail.to_owned()))
}
