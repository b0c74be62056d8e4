//! What Tipstaff costs: `tipstaff-bench` measures the gateway, decisions, inspection, approvals, the ledger and
//! the register on this machine and writes `latest.md` and `latest.json`. `cargo xtask bench` builds and runs it.
//!
//! Everything that is compared is measured in one run, in rounds that interleave it; figures are
//! medians over the rounds. The processes under test are this program in other roles ([`node`],
//! [`forward`], [`upstream`]). It is no part of the product and never a dependency.

mod approvals;
mod child;
mod cutoff;
mod decision;
mod delegation;
mod forward;
mod gate;
mod gateway;
mod inspection;
mod ledger;
mod load;
mod looking;
mod machine;
mod node;
mod register;
mod report;
mod stats;
mod upstream;
mod world;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::runtime::{Builder, Runtime};

use crate::cutoff::Shape;
use crate::gateway::Extent;
use crate::load::Lasting;
use crate::machine::Machine;
use crate::node::With;
use crate::report::Report;

const HELP: &str = "\
tipstaff-bench [--quick] [--only PART]... [--rows TEXT] [--out DIR] [--work DIR]

  --quick      shorter: a look, not a measurement
  --only PART  approvals, cutoff, delegation, gateway, decision, inspect, ledger, looking or
               register; all if not given
  --rows TEXT  of the gateway's rows only those whose name has the text in it, such as
               `bearer, modern era, 64`; a process can be profiled while it runs
  --out DIR    where latest.md and latest.json go; `bench` if not given
  --work DIR   where logs are written meanwhile, on the disk to measure; `target/bench` if not given
";

/// A folder in memory: its flushes do nothing.
const MEMORY: &str = "/dev/shm";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let (role, rest) = match args.split_first() {
        Some((first, rest)) if !first.starts_with("--") => (first.as_str(), rest),
        _ => ("", args),
    };
    let mut flags = Flags::parse(rest)?;
    match role {
        "" => measure(&flags),
        "upstream" => one_thread()?.block_on(upstream::run()),
        "forward" => Runtime::new()?.block_on(forward::run(flags.take("--upstream")?.parse()?)),
        "gateway" => {
            let delay = Duration::from_millis(flags.take("--flush-delay-ms")?.parse()?);
            let policies = flags.take("--policies")?.parse()?;
            let with = With::parse(&flags.take("--with")?)?;
            let (dir, upstream) = (flags.take("--dir")?, flags.take("--upstream")?);
            Runtime::new()?.block_on(node::run(
                Path::new(&dir),
                &upstream,
                (policies, with),
                delay,
            ))
        }
        "again" => Runtime::new()?.block_on(node::again(Path::new(&flags.take("--dir")?))),
        other => bail!("no role `{other}`\n\n{HELP}"),
    }
}

fn one_thread() -> Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")
}

/// What was given on the command line, in order.
struct Flags(Vec<(String, String)>);

impl Flags {
    fn parse(args: &[String]) -> Result<Self> {
        let mut flags = Vec::new();
        let mut rest = args.iter();
        while let Some(flag) = rest.next() {
            let value = match flag.as_str() {
                "--quick" => String::new(),
                "--only" | "--rows" | "--out" | "--work" | "--upstream" | "--dir"
                | "--policies" | "--with" | "--flush-delay-ms" => rest
                    .next()
                    .with_context(|| format!("{flag} needs a value"))?
                    .clone(),
                "--help" => bail!("{HELP}"),
                other => bail!("no option `{other}`\n\n{HELP}"),
            };
            flags.push((flag.clone(), value));
        }
        Ok(Self(flags))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(flag, _)| flag == name)?;
        Some(value)
    }

    fn take(&mut self, name: &str) -> Result<String> {
        self.get(name)
            .map(str::to_owned)
            .with_context(|| format!("{name} is missing"))
    }

    /// Whether a part is to be measured.
    fn wants(&self, part: &str) -> bool {
        let mut only = self
            .0
            .iter()
            .filter(|(flag, _)| flag == "--only")
            .peekable();
        only.peek().is_none() || only.any(|(_, value)| value == part)
    }
}

/// How much is measured of each part.
struct Extents {
    gateway: Extent,
    each: Duration,
    rounds: usize,
    cutoff: cutoff::Extent,
    delegation: delegation::Extent,
    approvals: approvals::Extent,
}

impl Extents {
    fn new(quick: bool) -> Self {
        let millis = Duration::from_millis;
        let lasting = Lasting {
            warm_up: millis(if quick { 150 } else { 200 }),
            measured: millis(if quick { 600 } else { 1_500 }),
        };
        let rounds = if quick { 1 } else { 3 };
        let policies = if quick { 50 } else { gateway::POLICIES };
        Self {
            gateway: Extent { rounds, lasting },
            each: millis(if quick { 500 } else { 1_000 }),
            rounds,
            cutoff: cutoff::Extent {
                shapes: if quick {
                    &[Shape::ONE, Shape::HUNDRED]
                } else {
                    &[Shape::ONE, Shape::HUNDRED, Shape::TEN_THOUSAND]
                },
                runs: if quick { 3 } else { 50 },
                warm_up: millis(if quick { 100 } else { 200 }),
                policies,
            },
            delegation: delegation::Extent {
                rounds: if quick { 1 } else { 5 },
                batches: if quick { 2 } else { 15 },
                lasting,
                policies,
            },
            approvals: approvals::Extent {
                each: if quick { 2 } else { 12 },
                lasting,
                policies,
            },
        }
    }
}

fn measure(flags: &Flags) -> Result<()> {
    let quick = flags.get("--quick").is_some();
    let work = flags.get("--work").unwrap_or("target/bench");
    fs::create_dir_all(work)?;
    let work = tempfile::Builder::new().prefix("bench-").tempdir_in(work)?;
    let memory = Path::new(MEMORY);
    let memory = if memory.is_dir() {
        Some(tempfile::tempdir_in(memory)?)
    } else {
        None
    };
    let millis = Duration::from_millis;
    let Extents {
        gateway: extent,
        each,
        rounds,
        cutoff,
        delegation,
        approvals,
    } = Extents::new(quick);
    let (lasting, policies) = (extent.lasting, approvals.policies);
    let machine = Machine::look(machine::flush(work.path(), millis(500))?);
    say(&machine.line());
    let decisions = if flags.wants("decision") {
        say("decisions");
        Some(decision::run(&[10, 100, 1_000, 10_000], each)?)
    } else {
        None
    };
    let inspection = if flags.wants("inspect") {
        say("inspection");
        Some(inspection::run(each)?)
    } else {
        None
    };
    let ledger = if flags.wants("ledger") {
        say("ledger");
        Some(ledger::run(work.path(), rounds, each)?)
    } else {
        None
    };
    let gateway = if flags.wants("gateway") {
        let memory = memory.as_ref().map(tempfile::TempDir::path);
        let rows = flags.get("--rows").unwrap_or_default();
        Some(one_thread()?.block_on(gateway::run(work.path(), memory, extent, rows, &say))?)
    } else {
        None
    };
    let delegation = if flags.wants("delegation") {
        let memory = memory.as_ref().map(tempfile::TempDir::path);
        let measured = delegation::run(work.path(), memory, delegation, &say);
        Some(one_thread()?.block_on(measured)?)
    } else {
        None
    };
    let looking = if flags.wants("looking") {
        let measured = looking::run(work.path(), extent, policies, &say);
        Some(one_thread()?.block_on(measured)?)
    } else {
        None
    };
    let approvals = if flags.wants("approvals") {
        Some(Runtime::new()?.block_on(approvals::run(work.path(), approvals, &say))?)
    } else {
        None
    };
    let cutoff = if flags.wants("cutoff") {
        Some(one_thread()?.block_on(cutoff::run(work.path(), cutoff, &say))?)
    } else {
        None
    };
    let register = if flags.wants("register") {
        let part = if quick { 100 } else { 1 };
        let scale = register::Scale {
            agents: 1_000_000 / part,
            instances: 100_000 / part,
            calls: 10_000_000 / part,
        };
        let run = register::run(work.path(), scale, lasting, &say);
        Some(Runtime::new()?.block_on(run)?)
    } else {
        None
    };
    let mut aims = report::aims(gateway.as_ref(), decisions.as_deref(), ledger.as_ref());
    aims.extend(inspection.iter().flat_map(report::inspection_aims));
    aims.extend(looking.iter().filter_map(report::looking_aims));
    aims.extend(cutoff.as_deref().into_iter().flat_map(report::cutoff_aims));
    aims.extend(delegation.iter().flat_map(report::delegation_aims));
    aims.extend(register.iter().flat_map(report::register_aims));
    let report = Report {
        quick,
        machine,
        gateway,
        decisions,
        inspection,
        ledger,
        delegation,
        looking,
        approvals,
        cutoff,
        register,
        aims,
    };
    let page = report.page();
    let out = PathBuf::from(flags.get("--out").unwrap_or("bench"));
    fs::create_dir_all(&out)?;
    fs::write(out.join("latest.md"), &page)?;
    let json = serde_json::to_string_pretty(&report)?;
    fs::write(out.join("latest.json"), format!("{json}\n"))?;
    say(&page);
    Ok(())
}

/// Tells the person who waits.
fn say(line: &str) {
    // A closed pipe is not worth failing for.
    writeln!(std::io::stderr().lock(), "{line}").ok();
}
