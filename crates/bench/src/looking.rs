//! What it adds to a call that what passes is looked into, masked and labelled, and that its upstream
//! is reached with a secret: results of several sizes, through gateways that differ in nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::child::Role;
use crate::gate::Gate;
use crate::gateway::{Extent, plain};
use crate::load::{self, Client, Era, Lasting, Measured, Target};
use crate::node::With;
use crate::world::{self, Content};

/// Sizes of results, in KiB.
pub(crate) const SIZES: [usize; 3] = [1, 10, 100];
/// Connections at once: one for the time that is added, several for the CPU.
pub(crate) const CONNECTIONS: [usize; 2] = [1, 16];
/// Instances that share the connections.
const INSTANCES: usize = 4;

/// How a call gets to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    Forward,
    Through(With),
}

/// One thing that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Cell {
    pub(crate) connections: usize,
    pub(crate) kib: usize,
    pub(crate) content: Content,
    pub(crate) way: Way,
}

/// What it came to: the median of the rounds, figure by figure.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    #[serde(flatten)]
    pub(crate) measured: Measured,
}

/// All that was measured here.
#[derive(Debug, Serialize)]
pub(crate) struct Looking {
    pub(crate) rows: Vec<Row>,
}

impl Looking {
    /// What was measured of a cell.
    pub(crate) fn find(&self, cell: Cell) -> Option<&Measured> {
        let row = self.rows.iter().find(|row| row.cell == cell);
        row.map(|row| &row.measured)
    }
}

/// What is compared at each size, and lies side by side in each round.
pub(crate) const WAYS: [(Way, Content); 5] = [
    (Way::Forward, Content::Clean),
    (Way::Through(With::NoRules), Content::Clean),
    (Way::Through(With::Rules), Content::Clean),
    (Way::Through(With::Everything), Content::Clean),
    (Way::Through(With::Everything), Content::Cards),
];

/// Everything that is measured, in the order of one round.
pub(crate) fn cells() -> impl Iterator<Item = Cell> {
    let sizes = CONNECTIONS
        .into_iter()
        .flat_map(|connections| SIZES.map(|kib| (connections, kib)));
    sizes.flat_map(|(connections, kib)| {
        WAYS.map(|(way, content)| Cell {
            connections,
            kib,
            content,
            way,
        })
    })
}

/// Measures with logs in `dir`.
pub(crate) async fn run(
    dir: &Path,
    extent: Extent,
    policies: usize,
    say: &dyn Fn(&str),
) -> Result<Looking> {
    let upstream = Role::start(["upstream"]).await?;
    let url = format!("http://{}/mcp", upstream.offer);
    let forward = Role::start(["forward", "--upstream", &url]).await?;
    let mut gates = BTreeMap::new();
    for with in [With::NoRules, With::Rules, With::Everything] {
        let gate = Gate::start(&dir.join(with.as_str()), &url, (policies, with), 0).await?;
        let targets = gate.targets(false, INSTANCES).await?;
        let targets: Vec<Target> = targets.into_iter().map(|(target, _)| target).collect();
        gates.insert(with, (gate, targets));
    }
    let mut found: BTreeMap<Cell, Vec<Measured>> = BTreeMap::new();
    for round in 1..=extent.rounds {
        say(&format!("looking: round {round} of {}", extent.rounds));
        for cell in cells() {
            let (pid, targets) = match cell.way {
                Way::Forward => (forward.pid, vec![plain(&forward.offer)?.0]),
                Way::Through(with) => {
                    let (gate, targets) = gates.get(&with).context("a gateway of each kind")?;
                    (gate.role.pid, targets.clone())
                }
            };
            let measured = measure(cell, pid, &targets, extent.lasting).await;
            let measured = measured.with_context(|| format!("{cell:?}"))?;
            found.entry(cell).or_default().push(measured);
        }
    }
    for (gate, _) in gates.into_values() {
        gate.role.stop().await?;
    }
    forward.stop().await?;
    upstream.stop().await?;
    let rows = found.into_iter().map(|(cell, all)| Row {
        cell,
        measured: Measured::middle(&all),
    });
    Ok(Looking {
        rows: rows.collect(),
    })
}

async fn measure(cell: Cell, pid: u32, targets: &[Target], lasting: Lasting) -> Result<Measured> {
    let clients = targets.iter().cycle().take(cell.connections);
    let clients = clients.map(|target| Client {
        target: target.clone(),
        era: Era::Modern,
        arguments: world::arguments(&cell.content.file(cell.kib)),
        proofs: Vec::new(),
    });
    load::run(clients.collect(), pid, lasting).await
}
