//! How fast a cut is: from the last byte of the directory's request that a sponsor has left, under
//! load, to the last permit of theirs, to the last byte that an upstream got of their calls, and to
//! the answer, after which nothing of theirs may be permitted.

mod said;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use store::OfflineLog;
use tokio::sync::Barrier;
use vocab::{LogName, Time};

use self::said::{Line, Said};
use crate::child::Role;
use crate::gate::Gate;
use crate::load::{self, Client, Connection, Era, Target, Told};
use crate::machine;
use crate::node::With;
use crate::stats::{micros, quantile};
use crate::upstream::LAST_PATH;
use crate::world;

/// Connections that call at once.
pub(crate) const CONNECTIONS: usize = 64;
/// Of these, those of the sponsor who leaves.
const LEAVING: usize = 32;
/// How long calls go on after the cut is acknowledged.
const AFTERWARDS: Duration = Duration::from_millis(60);
/// Connections that ask for tokens beforehand.
const ASKING: usize = 4;
/// The tokens got beforehand have to last until the last run.
const LASTING_MAX: Duration = Duration::from_secs(vocab::limits::ACCESS_TOKEN_SECONDS - 30);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) shapes: &'static [Shape],
    pub(crate) runs: usize,
    pub(crate) warm_up: Duration,
    /// Policies in the gateway's set.
    pub(crate) policies: usize,
}

/// The instances of a sponsor: so many that nobody delegated to, so many below each of these, and so
/// many below each of those.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    roots: usize,
    below: usize,
    below_that: usize,
}

impl Shape {
    pub(crate) const ONE: Self = Self::of(1, 0, 0);
    pub(crate) const HUNDRED: Self = Self::of(4, 4, 5);
    pub(crate) const TEN_THOUSAND: Self = Self::of(100, 9, 10);

    const fn of(roots: usize, below: usize, below_that: usize) -> Self {
        Self {
            roots,
            below,
            below_that,
        }
    }

    const fn instances(self) -> usize {
        self.roots * (1 + self.below * (1 + self.below_that))
    }
}

/// What the cuts of one size came to.
#[derive(Debug, Serialize)]
pub(crate) struct Size {
    pub(crate) instances: usize,
    pub(crate) runs: usize,
    /// From the last byte of the request to …
    pub(crate) last_permit: Spread,
    pub(crate) last_byte_upstream: Spread,
    pub(crate) acknowledged: Spread,
    /// … when the node had read it, when the entry that narrows was written, and the barrier.
    pub(crate) heard: Spread,
    pub(crate) narrowed: Spread,
    pub(crate) barrier: Spread,
    /// … when the certificate was on record.
    pub(crate) certified: Spread,
    /// Permits after the acknowledgement, in the log of calls or as somebody who called saw them.
    pub(crate) permitted_after: u64,
    /// Calls of the other sponsor's meanwhile; none of them failed.
    pub(crate) of_others: u64,
}

/// Milliseconds over all runs.
#[expect(
    clippy::struct_field_names,
    reason = "figures have their unit in the name"
)]
#[derive(Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Spread {
    fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<f64> = times.map(|it| micros(it) / 1_000.0).collect();
        Self {
            p50_ms: quantile(&mut times, 0.5),
            p99_ms: quantile(&mut times, 0.99),
            max_ms: quantile(&mut times, 1.0),
        }
    }
}

/// What was seen of one cut from outside.
#[derive(Debug)]
struct Seen {
    sent: Time,
    acknowledged: Time,
    last_byte_upstream: Time,
    /// The next request that changes the sponsor was sent.
    resumed: Time,
    made_late: u64,
    of_others: u64,
}

/// Measures with logs in `dir`.
pub(crate) async fn run(dir: &Path, extent: Extent, say: &dyn Fn(&str)) -> Result<Vec<Size>> {
    let upstream = Role::start(["upstream"]).await?;
    let mut stages = Vec::new();
    for shape in extent.shapes {
        say(&format!(
            "cut-off: starting {} instances",
            shape.instances()
        ));
        let dir = dir.join(format!("cutoff-{}", shape.instances()));
        stages.push(Stage::set_up(&dir, &upstream.offer, (*shape, extent.policies)).await?);
    }
    for run in 1..=extent.runs {
        if run % 10 == 0 {
            say(&format!("cut-off: run {run} of {}", extent.runs));
        }
        for stage in &mut stages {
            let seen = stage.cut(extent.warm_up).await?;
            stage.seen.push(seen);
        }
    }
    let mut sizes = Vec::new();
    for stage in stages {
        sizes.push(stage.tear_down().await?);
    }
    upstream.stop().await?;
    Ok(sizes)
}

/// A gateway and the sponsor who leaves it again and again.
struct Stage {
    gate: Gate,
    data: PathBuf,
    upstream: SocketAddr,
    shape: Shape,
    /// Who calls: some of every level, and some of another sponsor's.
    leaving: Vec<Target>,
    staying: Vec<Target>,
    since: Duration,
    seen: Vec<Seen>,
}

impl Stage {
    async fn set_up(dir: &Path, upstream: &str, (shape, policies): (Shape, usize)) -> Result<Self> {
        let url = format!("http://{upstream}/mcp");
        let gate = Gate::start(dir, &url, (policies, With::Rules), 0).await?;
        let tokens = instances(&gate, shape).await?;
        let since = machine::elapsed();
        let mut connection = Connection::open(gate.address).await?;
        let mut staying = Vec::new();
        for _ in 0..4 {
            let token = gate.token(&mut connection, &gate.bystander, None).await?;
            staying.push(gate.target(&token, false));
        }
        Ok(Self {
            leaving: tokens.iter().map(|it| gate.target(it, false)).collect(),
            gate,
            data: dir.join("data"),
            upstream: upstream.parse()?,
            shape,
            staying,
            since,
            seen: Vec::new(),
        })
    }

    /// One cut under load, and its end.
    async fn cut(&self, warm_up: Duration) -> Result<Seen> {
        if machine::elapsed().saturating_sub(self.since) > LASTING_MAX {
            bail!("this machine is too slow: the tokens are about to expire");
        }
        let client = |target: &Target, file: &str| Client {
            target: target.clone(),
            era: Era::Modern,
            arguments: world::arguments(file),
            proofs: Vec::new(),
        };
        let leaving = self.leaving.iter().cycle().take(LEAVING);
        let staying = self.staying.iter().cycle().take(CONNECTIONS - LEAVING);
        let warm = Arc::new(Barrier::new(CONNECTIONS + 1));
        let told = Arc::new(Told::default());
        let insist =
            |client| tokio::spawn(load::insist(client, warm_up, warm.clone(), told.clone()));
        let leaving: Vec<_> = leaving.map(|it| insist(client(it, world::FILE))).collect();
        let staying: Vec<_> = staying
            .map(|it| insist(client(it, world::BYSTANDER_FILE)))
            .collect();
        let mut directory = Directory::open(&self.gate)?;
        warm.wait().await;
        // All are at it again, and a little out of step with each other.
        tokio::time::sleep(Duration::from_millis(20)).await;
        // On a thread of its own, which does not wait until the others have had their turn.
        let acknowledging = Arc::clone(&told);
        let (directory, sent, acknowledged) = tokio::task::spawn_blocking(move || {
            let times = directory.says_active(false);
            acknowledging.acknowledged.store(true, Ordering::Release);
            times.map(|(sent, acknowledged)| (directory, sent, acknowledged))
        })
        .await??;
        tokio::time::sleep(AFTERWARDS).await;
        told.stop.store(true, Ordering::Release);
        let (mut made_late, mut of_others) = (0, 0);
        for task in leaving {
            made_late += task.await??.made_late;
        }
        for task in staying {
            let tried = task.await??;
            if tried.refused > 0 {
                bail!("{} calls of another sponsor's were refused", tried.refused);
            }
            of_others += tried.made;
        }
        let last_byte_upstream = self.last_byte_upstream().await?;
        let mut directory = directory;
        let (resumed, _) =
            tokio::task::spawn_blocking(move || directory.says_active(true)).await??;
        Ok(Seen {
            sent,
            acknowledged,
            last_byte_upstream,
            resumed,
            made_late,
            of_others,
        })
    }

    async fn last_byte_upstream(&self) -> Result<Time> {
        let mut connection = Connection::open(self.upstream).await?;
        let request = format!(
            "GET {LAST_PATH} HTTP/1.1\r\nHost: {}\r\n\r\n",
            self.upstream
        );
        let answer = connection.exchange(request.as_bytes()).await?;
        let text = std::str::from_utf8(connection.success(&answer)?)?;
        Ok(Time::from_micros(text.parse()?))
    }

    /// Ends the gateway and reads what its logs say of each cut.
    async fn tear_down(self) -> Result<Size> {
        self.gate.role.stop().await?;
        let calls = OfflineLog::open(&self.data, LogName::Calls)?;
        let control = OfflineLog::open(&self.data, LogName::Control)?;
        let resumed: Vec<Time> = self.seen.iter().map(|it| it.resumed).collect();
        let said = said::of(&Line::all(&control)?, &Line::all(&calls)?, &resumed)?;
        let pairs = || self.seen.iter().zip(&said);
        let spread = |of: fn(&Seen, &Said) -> Time| {
            Spread::of(pairs().map(|(seen, said)| of(seen, said).since(seen.sent)))
        };
        Ok(Size {
            instances: self.shape.instances(),
            runs: self.seen.len(),
            last_permit: spread(|_, said| said.last_permit),
            last_byte_upstream: spread(|seen, _| seen.last_byte_upstream),
            acknowledged: spread(|seen, _| seen.acknowledged),
            heard: spread(|_, said| said.heard),
            narrowed: spread(|_, said| said.narrowed),
            barrier: spread(|_, said| said.barrier),
            certified: spread(|_, said| said.certified),
            permitted_after: pairs()
                .map(|(seen, said)| seen.made_late + said.permitted_after)
                .sum(),
            of_others: self.seen.iter().map(|it| it.of_others).sum(),
        })
    }
}

/// Starts the sponsor's instances as agents do it, and gives tokens of some of every level.
async fn instances(gate: &Gate, shape: Shape) -> Result<Vec<String>> {
    let mut askers = Vec::new();
    for nth in 0..ASKING.min(shape.roots) {
        askers.push(async move {
            let mut connection = Connection::open(gate.address).await?;
            let mut shown = Vec::new();
            for _ in (nth..shape.roots).step_by(ASKING) {
                let root = gate.token(&mut connection, &gate.key, None).await?;
                let mut first = vec![root.clone()];
                for _ in 0..shape.below {
                    let child = gate
                        .child(&mut connection, &root, Some(world::HANDED_ON))
                        .await?;
                    let mut last = None;
                    for _ in 0..shape.below_that {
                        let handed_on = Some(world::HANDED_ON);
                        last = Some(gate.child(&mut connection, &child, handed_on).await?);
                    }
                    if first.len() == 1 {
                        first.push(child);
                        first.extend(last);
                    }
                }
                shown.extend(first);
            }
            Ok::<_, anyhow::Error>(shown)
        });
    }
    let shown = futures_util::future::try_join_all(askers).await?;
    Ok(shown.into_iter().flatten().collect())
}

/// The directory: a connection that it keeps open.
struct Directory {
    stream: TcpStream,
    head: String,
}

impl Directory {
    fn open(gate: &Gate) -> Result<Self> {
        let stream = TcpStream::connect(gate.address).context("connecting as the directory")?;
        stream.set_nodelay(true)?;
        let (address, token, sponsor) = (gate.address, &gate.directory_token, &gate.sponsor);
        let head = format!(
            "PATCH /scim/v2/Users/{sponsor} HTTP/1.1\r\nHost: {address}\r\n\
             Authorization: Bearer {token}\r\nContent-Type: application/scim+json\r\n"
        );
        Ok(Self { stream, head })
    }

    /// Says whether the sponsor is there: when its last byte was sent, and when the answer came.
    fn says_active(&mut self, active: bool) -> Result<(Time, Time)> {
        let body = serde_json::json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{"op": "replace", "path": "active", "value": active}],
        })
        .to_string();
        let (head, length) = (&self.head, body.len());
        let request = format!("{head}Content-Length: {length}\r\n\r\n{body}");
        let sent = machine::now();
        self.stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let mut piece = [0; 16 * 1024];
        // The answer's last byte closes the resource's JSON.
        while !answer.ends_with(b"}") {
            let length = self.stream.read(&mut piece)?;
            answer.extend_from_slice(piece.get(..length).unwrap_or_default());
            if length == 0 {
                break;
            }
        }
        let acknowledged = machine::now();
        if !answer.starts_with(b"HTTP/1.1 200") {
            bail!(
                "the directory was refused:\n{}",
                String::from_utf8_lossy(&answer)
            );
        }
        Ok((sent, acknowledged))
    }
}
