//! What a call costs: direct, forwarded without governance, and through the gateway with
//! everything on; both eras, at several numbers of connections, and on slow and fast disks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::child::Role;
use crate::gate::{Gate, Proofs};
use crate::load::{self, Client, Era, Lasting, Measured, Target};
use crate::machine;
use crate::node::With;
use crate::stats::median;
use crate::world;

/// Connections at once.
const CONNECTIONS: [usize; 3] = [1, 16, 64];
/// Policies in the gateway's set.
pub(crate) const POLICIES: usize = 1_000;
/// Instances that share the connections.
const INSTANCES: usize = 4;
/// More calls in a second than one connection, or all together, will get done: proofs are made
/// beforehand.
const CALLS_PER_CONNECTION_MAX: f64 = 6_000.0;
const CALLS_MAX: f64 = 20_000.0;

/// How a call gets to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    Direct,
    Forward,
    Bearer,
    Dpop,
}

impl Way {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Forward => "plain forwarding",
            Self::Bearer => "Tipstaff, bearer",
            Self::Dpop => "Tipstaff, DPoP",
        }
    }
}

/// The disk under the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Disk {
    /// As it is.
    Real,
    /// Each flush takes this many milliseconds longer.
    Slow(u64),
    /// In memory, where a flush does nothing.
    Unsynced,
}

impl Disk {
    /// Where a node with such a disk lies in `dir`.
    fn folder(self, dir: &Path) -> PathBuf {
        match self {
            Self::Real => dir.join("real"),
            Self::Slow(by) => dir.join(format!("slow-{by}")),
            Self::Unsynced => dir.join("unsynced"),
        }
    }

    pub(crate) fn text(self) -> String {
        match self {
            Self::Real => "as it is".to_owned(),
            Self::Slow(by) => format!("flushes {by} ms slower"),
            Self::Unsynced => "no flushes (in memory)".to_owned(),
        }
    }
}

/// One thing that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Cell {
    pub(crate) disk: Disk,
    pub(crate) era: Era,
    pub(crate) connections: usize,
    pub(crate) way: Way,
}

impl Cell {
    fn name(self) -> String {
        let (disk, era, way) = (self.disk.text(), self.era.as_str(), self.way.as_str());
        format!(
            "{way}, {era} era, {} connections, disk {disk}",
            self.connections
        )
    }
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
pub(crate) struct Gateway {
    pub(crate) rows: Vec<Row>,
    /// One flush of the disk, between the rounds.
    pub(crate) flush_us: f64,
    /// The most memory that the gateway's process had.
    pub(crate) peak_mib: f64,
    /// The most that plain forwarding had.
    pub(crate) forward_peak_mib: f64,
    /// Decisions of a gateway's log that were run again, from its files.
    pub(crate) replayed: u64,
    /// How many in a second, by one thread.
    pub(crate) replayed_per_second: f64,
}

impl Gateway {
    pub(crate) fn find(&self, cell: Cell) -> Option<&Measured> {
        self.rows
            .iter()
            .find(|row| row.cell == cell)
            .map(|row| &row.measured)
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) rounds: usize,
    pub(crate) lasting: Lasting,
}

/// Measures with logs in `dir`, which `memory` is a folder in memory for.
pub(crate) async fn run(
    dir: &Path,
    memory: Option<&Path>,
    extent: Extent,
    rows: &str,
    say: &dyn Fn(&str),
) -> Result<Gateway> {
    let mut stage = Stage::set_up(dir, memory).await?;
    let mut cells = cells(memory.is_some());
    cells.retain(|cell| cell.name().contains(rows));
    let mut found: BTreeMap<Cell, Vec<Measured>> = BTreeMap::new();
    let mut flushes = Vec::new();
    for round in 1..=extent.rounds {
        say(&format!("gateway: round {round} of {}", extent.rounds));
        flushes.push(machine::flush(dir, Duration::from_millis(300))?);
        for &cell in &cells {
            let measured = stage.measure(cell, extent.lasting).await;
            let measured = measured.with_context(|| cell.name())?;
            found.entry(cell).or_default().push(measured);
        }
    }
    let rows = found.into_iter().map(|(cell, all)| {
        let measured = Measured::middle(&all);
        Row { cell, measured }
    });
    let rows = rows.collect();
    let (peak_mib, forward_peak_mib) = stage.peaks()?;
    stage.tear_down().await?;
    say("replay");
    // The one with the fewest calls: enough to take the time of.
    let slow = Disk::Slow(3);
    let (replayed, replayed_per_second) = if cells.iter().any(|cell| cell.disk == slow) {
        replay(&slow.folder(dir))?
    } else {
        (0, 0.0)
    };
    Ok(Gateway {
        rows,
        flush_us: median(&mut flushes),
        peak_mib,
        forward_peak_mib,
        replayed,
        replayed_per_second,
    })
}

/// Runs all decisions of a node again that was in `dir`: how many, and how many in a second.
fn replay(dir: &Path) -> Result<(u64, f64)> {
    let key = server::keys::facts_key(&dir.join("keys"));
    let begin = machine::elapsed();
    let replayed = server::commands::ledger::replay(&dir.join("data"), Some(&key))?;
    let took = machine::elapsed().saturating_sub(begin).as_secs_f64();
    if replayed.same == 0 || replayed.different + replayed.sealed > 0 {
        bail!("not every decision came out the same: {replayed:?}");
    }
    #[expect(clippy::cast_precision_loss, reason = "a number of decisions")]
    let per_second = replayed.same as f64 / took;
    Ok((replayed.same, per_second))
}

/// Everything that is measured, in the order of one round: what is compared lies side by side.
fn cells(has_memory: bool) -> Vec<Cell> {
    let mut cells = Vec::new();
    let ways = [Way::Direct, Way::Forward, Way::Bearer, Way::Dpop];
    for era in Era::ALL {
        for connections in CONNECTIONS {
            cells.extend(ways.map(|way| Cell {
                disk: Disk::Real,
                era,
                connections,
                way,
            }));
        }
    }
    let disks = [Disk::Slow(1), Disk::Slow(3), Disk::Unsynced];
    for disk in disks
        .into_iter()
        .filter(|it| has_memory || *it != Disk::Unsynced)
    {
        for connections in [1, 64] {
            cells.push(Cell {
                disk,
                era: Era::Modern,
                connections,
                way: Way::Bearer,
            });
        }
    }
    cells
}

/// The processes.
struct Stage {
    upstream: Role,
    forward: Role,
    gateways: BTreeMap<Disk, Gate>,
}

impl Stage {
    async fn set_up(dir: &Path, memory: Option<&Path>) -> Result<Self> {
        let upstream = Role::start(["upstream"]).await?;
        let url = format!("http://{}/mcp", upstream.offer);
        let forward = Role::start(["forward", "--upstream", &url]).await?;
        let mut gateways = BTreeMap::new();
        let disks = [Disk::Real, Disk::Slow(1), Disk::Slow(3)].map(|disk| (disk, dir));
        for (disk, dir) in disks
            .into_iter()
            .chain(memory.map(|it| (Disk::Unsynced, it)))
        {
            let dir = disk.folder(dir);
            let delay = match disk {
                Disk::Slow(by) => by,
                Disk::Real | Disk::Unsynced => 0,
            };
            gateways.insert(
                disk,
                Gate::start(&dir, &url, (POLICIES, With::Rules), delay).await?,
            );
        }
        Ok(Self {
            upstream,
            forward,
            gateways,
        })
    }

    async fn measure(&mut self, cell: Cell, lasting: Lasting) -> Result<Measured> {
        let Cell {
            disk,
            era,
            connections,
            way,
        } = cell;
        let (pid, targets) = match way {
            Way::Direct => (self.upstream.pid, vec![plain(&self.upstream.offer)?]),
            Way::Forward => (self.forward.pid, vec![plain(&self.forward.offer)?]),
            Way::Bearer | Way::Dpop => {
                let gate = self
                    .gateways
                    .get(&disk)
                    .context("no gateway on such a disk")?;
                let instances = connections.min(INSTANCES);
                (
                    gate.role.pid,
                    gate.targets(way == Way::Dpop, instances).await?,
                )
            }
        };
        let seconds = (lasting.warm_up + lasting.measured).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "some connections")]
        let each = (CALLS_MAX / connections as f64).min(CALLS_PER_CONNECTION_MAX) * seconds;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "some thousands of calls"
        )]
        let each = each as usize + 16;
        let mut clients = Vec::new();
        for (_, (target, proofs)) in (0..connections).zip(targets.iter().cycle()) {
            let proofs = proofs
                .as_ref()
                .map_or(Ok(Vec::new()), |proofs| proofs.make(each))?;
            clients.push(Client {
                target: target.clone(),
                era,
                arguments: world::arguments(world::FILE),
                proofs,
            });
        }
        load::run(clients, pid, lasting).await
    }

    fn peaks(&self) -> Result<(f64, f64)> {
        let gate = self.gateways.get(&Disk::Real).context("no gateway")?;
        Ok((
            machine::peak_mib(gate.role.pid)?,
            machine::peak_mib(self.forward.pid)?,
        ))
    }

    async fn tear_down(self) -> Result<()> {
        for gate in self.gateways.into_values() {
            gate.role.stop().await?;
        }
        self.forward.stop().await?;
        self.upstream.stop().await
    }
}

pub(crate) fn plain(address: &str) -> Result<(Target, Option<Proofs>)> {
    let target = Target {
        address: address.parse()?,
        path: "/mcp".to_owned(),
        authorization: None,
    };
    Ok((target, None))
}
