//! What it costs to have people approve calls: from the call that is held to the one that is made,
//! with many at once, and what those that wait cost everybody else. The person answers at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use ledger::{Actor, ActorKind};
use register::{ApprovalCommand, ApprovalSettings, Command, SignIn};
use serde::Serialize;
use serde_json::Value;
use vocab::Handle;

use crate::child::Role;
use crate::gate;
use crate::load::{self, Client, Connection, Era, Lasting, Measured, Target};
use crate::machine;
use crate::node::{self, Peopled, With};
use crate::stats::{micros, quantile};
use crate::world;

/// Agents whose calls are held, and instances of each: each waits for as much as it may.
const AGENTS: usize = 8;
const INSTANCES: usize = 8;
/// Connections of those who call meanwhile.
const OTHERS: usize = 4;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Approvals of each instance, one after another.
    pub(crate) each: usize,
    pub(crate) lasting: Lasting,
    /// Policies in the node's set.
    pub(crate) policies: usize,
}

/// All that was measured here.
#[derive(Debug, Serialize)]
pub(crate) struct Approvals {
    /// Instances that ask at once.
    pub(crate) instances: usize,
    pub(crate) made: usize,
    /// From a held call to one that was made, all of them together.
    pub(crate) per_second: f64,
    pub(crate) steps: Vec<Step>,
    /// Calls that nobody has to approve, with none that wait.
    pub(crate) quiet: Measured,
    /// The same with as many as may wait.
    pub(crate) waiting: Measured,
    pub(crate) waits: usize,
}

/// One step on the way.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    pub(crate) what: &'static str,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Measures with a node of this process in `dir`.
pub(crate) async fn run(dir: &Path, extent: Extent, say: &dyn Fn(&str)) -> Result<Approvals> {
    let upstream = Role::start(["upstream"]).await?;
    let url = format!("http://{}/mcp", upstream.offer);
    let dir = dir.join("approvals");
    let peopled = node::start(&dir, &url, extent.policies, With::Everything).await?;
    let address = peopled.node.url.trim_start_matches("http://").parse()?;
    let mut askers = Vec::new();
    for at in 0..AGENTS {
        let key = node::agent(&peopled.node, &format!("asker-{at}"), "maya").await?;
        for _ in 0..INSTANCES {
            askers.push(gate::bearer(address, &key).await?);
        }
    }
    let mut others = Vec::new();
    for _ in 0..OTHERS {
        others.push(gate::bearer(address, &peopled.key).await?);
    }
    let peopled = Arc::new(peopled);
    say("approvals: calls of others, with none that wait");
    let quiet = plain(&others, extent.lasting).await?;
    say("approvals: asked for, granted and used");
    let number = Arc::new(AtomicU32::new(0));
    let mut ready = Vec::new();
    for target in &askers {
        let asker = Asker::new(target, &peopled, &number).await?;
        ready.push(asker);
    }
    let begin = machine::elapsed();
    let tasks = ready.into_iter().map(|it| it.approved(extent.each));
    let tasks: Vec<_> = tasks.map(tokio::spawn).collect();
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for task in tasks {
        for (all, more) in times.iter_mut().zip(task.await??) {
            all.extend(more);
        }
    }
    let took = machine::elapsed().saturating_sub(begin).as_secs_f64();
    say("approvals: calls of others, with as many as may wait");
    for target in &askers {
        let mut asker = Asker::new(target, &peopled, &number).await?;
        for _ in 0..ApprovalSettings::default().per_instance {
            asker.held(number.fetch_add(1, Ordering::Relaxed)).await?;
        }
    }
    let waiting = plain(&others, extent.lasting).await?;
    let waits = askers.len() * ApprovalSettings::default().per_instance;
    let Ok(peopled) = Arc::try_unwrap(peopled) else {
        bail!("somebody still asks");
    };
    peopled.node.stop().await.map_err(anyhow::Error::msg)?;
    upstream.stop().await?;
    let made = askers.len() * extent.each;
    let whats = [
        "the held call is answered",
        "the person's word is on record",
        "the approved call is answered",
    ];
    let steps = whats.into_iter().zip(&mut times).map(|(what, times)| Step {
        what,
        p50_us: quantile(times, 0.5),
        p99_us: quantile(times, 0.99),
    });
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let per_second = made as f64 / took;
    Ok(Approvals {
        instances: askers.len(),
        made,
        per_second,
        steps: steps.collect(),
        quiet,
        waiting,
        waits,
    })
}

/// Calls that nobody has to approve.
async fn plain(targets: &[Target], lasting: Lasting) -> Result<Measured> {
    let clients = targets.iter().map(|target| Client {
        target: target.clone(),
        era: Era::Modern,
        arguments: world::arguments(world::FILE),
        proofs: Vec::new(),
    });
    load::run(clients.collect(), std::process::id(), lasting).await
}

/// An instance whose calls are held.
struct Asker {
    connection: Connection,
    target: Target,
    peopled: Arc<Peopled>,
    number: Arc<AtomicU32>,
}

impl Asker {
    async fn new(target: &Target, peopled: &Arc<Peopled>, number: &Arc<AtomicU32>) -> Result<Self> {
        Ok(Self {
            connection: Connection::open(target.address).await?,
            target: target.clone(),
            peopled: Arc::clone(peopled),
            number: Arc::clone(number),
        })
    }

    /// So many approvals, one after another: the times of each step, in µs.
    async fn approved(mut self, count: usize) -> Result<[Vec<f64>; 3]> {
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..count {
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            let begin = machine::elapsed();
            let id = self.held(number).await?;
            let held = machine::elapsed();
            self.grant(id).await?;
            let granted = machine::elapsed();
            let answer = self.call(number).await?;
            let text = answer.pointer("/result/content/0/text");
            let text = text.and_then(Value::as_str).unwrap_or_default();
            if text.len() < world::TEXT_BYTES {
                bail!("the approved call was not made: {answer}");
            }
            let made = machine::elapsed();
            for (times, (from, to)) in
                times
                    .iter_mut()
                    .zip([(begin, held), (held, granted), (granted, made)])
            {
                times.push(micros(to.saturating_sub(from)));
            }
        }
        Ok(times)
    }

    /// Calls, and gives the approval that the call waits for.
    async fn held(&mut self, number: u32) -> Result<Handle> {
        let answer = self.call(number).await?;
        let id = answer.pointer("/result/_meta/dev.tipstaff~1decision/approval/id");
        let id = id.and_then(Value::as_str);
        Ok(id
            .with_context(|| format!("nobody was asked: {answer}"))?
            .parse()?)
    }

    async fn call(&mut self, number: u32) -> Result<Value> {
        let arguments = world::arguments(&format!("/notes/{number}.txt"));
        let request = self.target.call(world::HELD_TOOL, &arguments);
        let answer = self.connection.exchange(&request).await?;
        Ok(serde_json::from_slice(self.connection.success(&answer)?)?)
    }

    async fn grant(&self, id: Handle) -> Result<()> {
        let (by, sign_in) = (self.peopled.approver.clone(), SignIn::Oidc);
        let actor = Actor {
            kind: ActorKind::Person,
            id: by.to_string(),
            credential: sign_in.as_str().to_owned(),
            verified: true,
        };
        let granted = Command::Approval(ApprovalCommand::Grant {
            id,
            by,
            sign_in,
            signed_in: None,
        });
        self.peopled
            .node
            .plane
            .control()
            .execute(actor, granted)
            .await?;
        Ok(())
    }
}
