//! The results as a table for people and as JSON for programs, with what was aimed for.

use std::fmt::Write as _;

use serde::Serialize;

use crate::approvals::{Approvals, Step};
use crate::cutoff::{self, Spread};
use crate::decision::Size;
use crate::delegation::Delegation;
use crate::gateway::{Cell, Disk, Gateway, POLICIES, Row, Way};
use crate::inspection::{self, Inspection};
use crate::ledger::Ledger;
use crate::load::{Era, Measured};
use crate::looking::{self, Looking};
use crate::machine::Machine;
use crate::node::With;
use crate::register::{Register, Started};
use crate::world::Content;

/// Everything that one run measured. A part that was not asked for is not there.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) quick: bool,
    pub(crate) machine: Machine,
    pub(crate) gateway: Option<Gateway>,
    pub(crate) decisions: Option<Vec<Size>>,
    pub(crate) inspection: Option<Inspection>,
    pub(crate) ledger: Option<Ledger>,
    pub(crate) delegation: Option<Delegation>,
    pub(crate) looking: Option<Looking>,
    pub(crate) approvals: Option<Approvals>,
    pub(crate) cutoff: Option<Vec<cutoff::Size>>,
    pub(crate) register: Option<Register>,
    pub(crate) aims: Vec<Aim>,
}

/// Something aimed for, and whether it was met.
#[derive(Debug, Serialize)]
pub(crate) struct Aim {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) wanted: f64,
    pub(crate) unit: &'static str,
    /// Whether more is better.
    pub(crate) at_least: bool,
    pub(crate) met: bool,
}

impl Aim {
    fn at_most(what: &str, measured: f64, aim: f64, unit: &'static str) -> Self {
        let what = what.to_owned();
        Self {
            what,
            measured,
            wanted: aim,
            unit,
            at_least: false,
            met: measured <= aim,
        }
    }

    fn at_least(what: &str, measured: f64, aim: f64, unit: &'static str) -> Self {
        let what = what.to_owned();
        Self {
            what,
            measured,
            wanted: aim,
            unit,
            at_least: true,
            met: measured >= aim,
        }
    }
}

/// Holds what was measured against what was aimed for; of both eras the worse counts.
pub(crate) fn aims(
    gateway: Option<&Gateway>,
    decisions: Option<&[Size]>,
    ledger: Option<&Ledger>,
) -> Vec<Aim> {
    let mut aims = Vec::new();
    if let Some(gateway) = gateway {
        aims.extend(gateway_aims(gateway));
    }
    if let Some(worst) =
        decisions.and_then(|it| it.iter().map(|it| it.decision_us).reduce(f64::max))
    {
        aims.push(Aim::at_most(
            "one decision, at every size of set",
            worst,
            20.0,
            "µs",
        ));
    }
    if let Some(ledger) = ledger {
        let rate = ledger.verified_per_second;
        aims.push(Aim::at_least(
            "entries verified by one core",
            rate,
            100_000.0,
            "/s",
        ));
    }
    aims
}

/// What was aimed for in looking into results: the slowest kind counts. Short ones are dominated by
/// what every inspection costs, so their speed is told and not aimed at.
pub(crate) fn inspection_aims(inspection: &Inspection) -> Vec<Aim> {
    let of = |kib: usize| inspection.sizes.iter().filter(move |it| it.kib == kib);
    let slowest = inspection
        .sizes
        .iter()
        .filter(|it| it.kib > 1)
        .map(|it| it.mb_per_second)
        .reduce(f64::min);
    let longest = of(10).map(|it| it.inspect_us).reduce(f64::max);
    let speed = slowest.map(|it| Aim::at_least("inspection by one core", it, 100.0, "MB/s"));
    let time = longest.map(|it| Aim::at_most("inspection of a result of 10 KiB", it, 200.0, "µs"));
    speed.into_iter().chain(time).collect()
}

/// What everything that looks into a call may add to it.
pub(crate) fn looking_aims(looking: &Looking) -> Option<Aim> {
    let of = |with| {
        let cell = looking::Cell {
            connections: 16,
            kib: 1,
            content: Content::Clean,
            way: looking::Way::Through(with),
        };
        looking.find(cell).map(|measured| measured.cpu_us)
    };
    let ratio = of(With::Everything)? / of(With::NoRules)?;
    let what =
        "CPU of a call with everything on, 1 KiB, against no rules, labels, masks or secrets";
    Some(Aim::at_most(what, ratio, 1.3, "×"))
}

/// What was aimed for in cutting off, at the most instances that were measured.
pub(crate) fn cutoff_aims(sizes: &[cutoff::Size]) -> Vec<Aim> {
    let Some(most) = sizes.iter().max_by_key(|it| it.instances) else {
        return Vec::new();
    };
    let what = |to| format!("cut-off of {} instances, p99 to {to}", most.instances);
    let to = [
        ("the last permit", &most.last_permit),
        ("the last byte sent upstream", &most.last_byte_upstream),
    ];
    let mut aims = Vec::from(to.map(|(to, it)| Aim::at_most(&what(to), it.p99_ms, 10.0, "ms")));
    let after: u64 = sizes.iter().map(|it| it.permitted_after).sum();
    #[expect(clippy::cast_precision_loss, reason = "it should be zero")]
    let after = after as f64;
    let what = "permitted after the acknowledgement of a cut";
    aims.push(Aim::at_most(what, after, 0.0, ""));
    aims
}

/// What was aimed for in delegating.
pub(crate) fn delegation_aims(delegation: &Delegation) -> Vec<Aim> {
    let what = "CPU that a hop of delegation adds to a call";
    vec![Aim::at_most(what, delegation.hop_us, 5.0, "µs")]
}

pub(crate) fn register_aims(register: &Register) -> Vec<Aim> {
    let mut aims = vec![
        Aim::at_most(
            "start of a large register, from its snapshot",
            register.snapshot.seconds,
            5.0,
            "s",
        ),
        Aim::at_most(
            "memory of a large register, for each agent",
            (register.snapshot.rss_mib - register.small.rss_mib) * 1024.0
                / whole(register.scale.agents),
            1.5,
            "KiB",
        ),
    ];
    let ratio = |(_, small, large): &(usize, Measured, Measured)| large.p50_us / small.p50_us;
    if let Some(worst) = register.calls.iter().map(ratio).reduce(f64::max) {
        aims.push(Aim::at_most(
            "p50 of a call with a large register, against one agent",
            worst,
            1.2,
            "×",
        ));
    }
    aims
}

#[expect(clippy::cast_precision_loss, reason = "some millions")]
const fn whole(number: u64) -> f64 {
    number as f64
}

fn gateway_aims(gateway: &Gateway) -> Vec<Aim> {
    let of = |era, connections, way, disk| {
        gateway.find(Cell {
            disk,
            era,
            connections,
            way,
        })
    };
    let worst = |figure: &dyn Fn(Era) -> Option<f64>, pick: fn(f64, f64) -> f64| {
        Era::ALL.into_iter().filter_map(figure).reduce(pick)
    };
    let cpu = |way| move |era| Some(of(era, 64, way, Disk::Real)?.cpu_us);
    let added = |way| {
        move |era| {
            let with = of(era, 1, way, Disk::Real)?.p50_us;
            Some((with - of(era, 1, Way::Direct, Disk::Real)?.p50_us) / gateway.flush_us)
        }
    };
    let rate = |era| Some(of(era, 64, Way::Bearer, Disk::Real)?.calls_per_second);
    let synced = of(Era::Modern, 64, Way::Bearer, Disk::Real);
    let unsynced = of(Era::Modern, 64, Way::Bearer, Disk::Unsynced);
    let mut aims = Vec::new();
    if let Some(cpu) = worst(&cpu(Way::Dpop), f64::max) {
        aims.push(Aim::at_most(
            "CPU of one call with DPoP, 64 connections",
            cpu,
            150.0,
            "µs",
        ));
    }
    if let Some(cpu) = worst(&cpu(Way::Bearer), f64::max) {
        aims.push(Aim::at_most(
            "CPU of one call with a bearer token, 64 connections",
            cpu,
            110.0,
            "µs",
        ));
    }
    if let Some(rate) = worst(&rate, f64::min) {
        aims.push(Aim::at_least(
            "calls with a bearer token, 64 connections",
            rate,
            9_000.0,
            "/s",
        ));
    }
    for (way, what) in [
        (Way::Bearer, "p50 added at 1 connection, bearer, in flushes"),
        (Way::Dpop, "p50 added at 1 connection, DPoP, in flushes"),
    ] {
        if let Some(added) = worst(&added(way), f64::max) {
            aims.push(Aim::at_most(what, added, 3.5, ""));
        }
    }
    if let (Some(synced), Some(unsynced)) = (synced, unsynced) {
        let ratio = synced.calls_per_second / unsynced.calls_per_second;
        aims.push(Aim::at_least(
            "calls against those without flushes, 64 connections",
            ratio,
            0.9,
            "×",
        ));
    }
    aims.push(Aim::at_most(
        "memory of the gateway at its peak",
        gateway.peak_mib,
        45.0,
        "MiB",
    ));
    aims
}

impl Report {
    /// The page.
    pub(crate) fn page(&self) -> String {
        let mut page = String::from(
            "# Measured\n\nWritten by `cargo xtask bench`; the same figures are in `latest.json`.\n\n",
        );
        let _infallible = writeln!(page, "{}", self.machine.line());
        if self.quick {
            page.push_str("A quick run: shorter, and so less certain.\n");
        }
        self.write_aims(&mut page);
        if let Some(gateway) = &self.gateway {
            write_gateway(&mut page, gateway);
        }
        if let Some(decisions) = &self.decisions {
            write_decisions(&mut page, decisions);
        }
        if let Some(inspection) = &self.inspection {
            write_inspection(&mut page, inspection);
        }
        if let Some(ledger) = &self.ledger {
            write_ledger(&mut page, ledger);
        }
        if let Some(delegation) = &self.delegation {
            write_delegation(&mut page, delegation);
        }
        if let Some(looking) = &self.looking {
            write_looking(&mut page, looking);
        }
        if let Some(approvals) = &self.approvals {
            write_approvals(&mut page, approvals);
        }
        if let Some(sizes) = &self.cutoff {
            write_cutoff(&mut page, sizes);
        }
        if let Some(register) = &self.register {
            write_register(&mut page, register);
        }
        page
    }

    fn write_aims(&self, page: &mut String) {
        page.push_str("\n## Aims\n\n| | measured | aim | |\n|---|---:|---:|---|\n");
        for Aim {
            what,
            measured,
            wanted,
            unit,
            at_least,
            met,
        } in &self.aims
        {
            let (sign, met) = (
                if *at_least { "≥" } else { "≤" },
                if *met { "met" } else { "missed" },
            );
            let (measured, aim) = (figure(*measured), figure(*wanted));
            let _infallible = writeln!(
                page,
                "| {what} | {measured} {unit} | {sign} {aim} {unit} | {met} |"
            );
        }
    }
}

/// The head of a table of calls.
const HEAD: &str = "| | p50 µs | p99 µs | p99.9 µs | calls/s | CPU µs | CPU to forwarding |\n\
                        |---|---:|---:|---:|---:|---:|---:|\n";

fn write_gateway(page: &mut String, gateway: &Gateway) {
    let _infallible = write!(
        page,
        "\n## One call\n\n`tools/call` with a kibibyte there and back; `direct` is the upstream \
         itself, `plain forwarding` the same libraries with no governance. Tipstaff has everything \
         on: token, {POLICIES} policies, arguments checked, the decision durable before the call \
         goes out and the outcome before the answer does; with DPoP, a fresh proof on each call. \
         CPU is user and system time of the process in the row's first column.\n\n"
    );
    let mut last = None;
    for row in gateway
        .rows
        .iter()
        .filter(|row| row.cell.disk == Disk::Real)
    {
        let Cell {
            era,
            connections,
            way,
            ..
        } = row.cell;
        if last != Some((era, connections)) {
            last = Some((era, connections));
            let s = if connections == 1 { "" } else { "s" };
            let _infallible = write!(
                page,
                "\n**{} era, {connections} connection{s}**\n\n{HEAD}",
                era.as_str()
            );
        }
        let forward = gateway.find(Cell {
            way: Way::Forward,
            ..row.cell
        });
        write_row(page, way.as_str(), row, forward);
    }
    let _infallible = write!(page, "\n**Other disks: bearer, modern era**\n\n{HEAD}");
    for row in &gateway.rows {
        let Cell {
            disk,
            era,
            connections,
            way,
        } = row.cell;
        if era == Era::Modern && way == Way::Bearer && connections != 16 {
            let what = format!("{}, {connections} connections", disk.text());
            let forward = gateway.find(Cell {
                way: Way::Forward,
                disk: Disk::Real,
                ..row.cell
            });
            write_row(page, &what, row, forward);
        }
    }
    let Gateway {
        flush_us,
        peak_mib,
        forward_peak_mib,
        replayed,
        replayed_per_second,
        ..
    } = gateway;
    let _infallible = writeln!(
        page,
        "\nOne flush between the rounds: {flush_us:.0} µs. Memory at its peak: {peak_mib:.0} MiB; \
         plain forwarding {forward_peak_mib:.0} MiB.\n\nDecisions run again from the files, by one \
         thread: {replayed_per_second:.0}/s ({replayed} decisions, all the same)."
    );
}

fn write_row(page: &mut String, what: &str, row: &Row, forward: Option<&Measured>) {
    let Measured {
        p50_us,
        p99_us,
        p999_us,
        calls_per_second,
        cpu_us,
    } = &row.measured;
    let ratio = forward.map_or_else(String::new, |forward| {
        format!("{:.2}×", cpu_us / forward.cpu_us)
    });
    let _infallible = writeln!(
        page,
        "| {what} | {p50_us:.0} | {p99_us:.0} | {p999_us:.0} | {calls_per_second:.0} | {cpu_us:.0} | {ratio} |"
    );
}

fn write_decisions(page: &mut String, decisions: &[Size]) {
    page.push_str(
        "\n## One decision\n\nStrict parse of the request, facts, arguments against the tool's \
         schema, and Cedar, on one thread.\n\n\
         | policies | µs | of that the parse | reading and fitting the set, once, ms |\n\
         |---:|---:|---:|---:|\n",
    );
    for Size {
        policies,
        build_ms,
        decision_us,
        parse_us,
    } in decisions
    {
        let _infallible = writeln!(
            page,
            "| {policies} | {decision_us:.1} | {parse_us:.1} | {build_ms:.0} |"
        );
    }
}

fn write_inspection(page: &mut String, inspection: &Inspection) {
    let Inspection {
        build_ms,
        sizes,
        masked_us,
    } = inspection;
    page.push_str(
        "\n## Inspection\n\nA result with one block of text and nothing to find, by the rules that \
         ship, on one thread.\n\n| | KiB | µs | MB/s |\n|---|---:|---:|---:|\n",
    );
    for inspection::Size {
        kind,
        kib,
        inspect_us,
        mb_per_second,
    } in sizes
    {
        let _infallible = writeln!(
            page,
            "| {kind} | {kib} | {inspect_us:.1} | {mb_per_second:.0} |"
        );
    }
    let _infallible = writeln!(
        page,
        "\nRules read and compiled, once: {build_ms:.0} ms. Source code of 10 KiB with a secret in \
         every twentieth line, inspected and masked: {masked_us:.0} µs."
    );
}

fn write_ledger(page: &mut String, ledger: &Ledger) {
    let Ledger {
        flushes_per_second,
        appends,
        verified_per_second,
        verified_entries,
    } = ledger;
    let _infallible = write!(
        page,
        "\n## Ledger\n\nDurable appends of one entry each; the bare loop writes and flushes a \
         preallocated file {flushes_per_second:.0} times a second.\n\n\
         | writers | appends/s | for each bare flush |\n|---:|---:|---:|\n"
    );
    for it in appends {
        let (writers, rate, per) = (it.writers, it.per_second, it.per_flush);
        let _infallible = writeln!(page, "| {writers} | {rate:.0} | {per:.2} |");
    }
    let _infallible = writeln!(
        page,
        "\nVerified from the files by one thread: {verified_per_second:.0} entries/s \
         ({verified_entries} entries)."
    );
}

fn write_delegation(page: &mut String, delegation: &Delegation) {
    page.push_str(
        "\n## Delegation\n\nCalls with a bearer token over 64 connections by the last instance of a \
         chain; each hop handed on one tool with bounds on two arguments, and each is held against \
         each call.\n\n\
         | hops | CPU µs | p50 µs | calls/s |\n|---:|---:|---:|---:|\n",
    );
    for it in &delegation.calls {
        let (depth, cpu, p50, rate) = (it.depth, it.cpu_us, it.p50_us, it.calls_per_second);
        let _infallible = writeln!(page, "| {depth} | {cpu:.0} | {p50:.0} | {rate:.0} |");
    }
    let _infallible = write!(
        page,
        "\nA hop adds {:.1} µs (least squares).\n\nTokens, by one core: what the node does, its \
         entry in the control log and its checkpoint included where it writes one (in memory: flushes \
         are no CPU).\n\n| | CPU µs | for each core and second |\n|---|---:|---:|\n",
        delegation.hop_us
    );
    for it in &delegation.operations {
        let (what, cpu, rate) = (&it.what, it.cpu_us, 1e6 / it.cpu_us);
        let _infallible = writeln!(page, "| {what} | {cpu:.1} | {rate:.0} |");
    }
}

fn write_cutoff(page: &mut String, sizes: &[cutoff::Size]) {
    let _infallible = write!(
        page,
        "\n## Cut-off\n\nThe directory says over SCIM that a sponsor has left, while {} connections \
         call as fast as they can: half of them for the sponsor's instances, on all three levels of \
         delegation, and half for another's. Milliseconds from the last byte of that request; the \
         last permit by its time in the log, the last byte by the upstream's own clock, which is the \
         same.\n\n\
         | instances | runs | to | p50 ms | p99 ms | most ms |\n|---:|---:|---|---:|---:|---:|\n",
        cutoff::CONNECTIONS
    );
    for size in sizes {
        let rows = [
            ("the request read by the node", &size.heard),
            ("the entry that narrows", &size.narrowed),
            ("**the last permit**", &size.last_permit),
            ("**the last byte sent upstream**", &size.last_byte_upstream),
            ("the barrier", &size.barrier),
            ("the answer", &size.acknowledged),
            ("the certificate on record", &size.certified),
        ];
        let (instances, runs) = (size.instances, size.runs);
        for (to, spread) in rows {
            let Spread {
                p50_ms,
                p99_ms,
                max_ms,
            } = spread;
            let _infallible = writeln!(
                page,
                "| {instances} | {runs} | {to} | {p50_ms:.2} | {p99_ms:.2} | {max_ms:.2} |"
            );
        }
    }
    let after: u64 = sizes.iter().map(|it| it.permitted_after).sum();
    let others: u64 = sizes.iter().map(|it| it.of_others).sum();
    let _infallible = writeln!(
        page,
        "\nPermitted after the answer: {after}. Of the other sponsor's {others} calls meanwhile none \
         was refused."
    );
}

fn write_looking(page: &mut String, looking: &Looking) {
    page.push_str(
        "\n## Calls that are looked into\n\n`tools/call` with a bearer token and a kibibyte there, \
         modern era; results of source code. `no rules` looks for nothing that a rule is for; \
         `rules` is as it ships; `everything` has policies over findings and labels besides, masks, \
         a hold for people on another tool, and a secret of the local vault on each request. \
         `with cards` has the number of a card in each kibibyte, and masks it.\n",
    );
    for connections in looking::CONNECTIONS {
        let s = if connections == 1 { "" } else { "s" };
        let _infallible = write!(page, "\n**{connections} connection{s}**\n\n{LOOKING_HEAD}");
        for kib in looking::SIZES {
            let find = |(way, content)| {
                looking.find(looking::Cell {
                    connections,
                    kib,
                    content,
                    way,
                })
            };
            let base = find((looking::Way::Through(With::NoRules), Content::Clean));
            for of in looking::WAYS {
                if let Some((measured, base)) = find(of).zip(base) {
                    write_looked(page, kib, of, (measured, base));
                }
            }
        }
    }
}

const LOOKING_HEAD: &str = "| KiB | | p50 µs | p99 µs | CPU µs | p50 to `no rules` µs | CPU to `no rules` |\n\
     |---:|---|---:|---:|---:|---:|---:|\n";

fn write_looked(
    page: &mut String,
    kib: usize,
    (way, content): (looking::Way, Content),
    (measured, base): (&Measured, &Measured),
) {
    let what = match (way, content) {
        (looking::Way::Forward, _) => "plain forwarding",
        (looking::Way::Through(With::NoRules), _) => "no rules",
        (looking::Way::Through(With::Rules), _) => "rules",
        (looking::Way::Through(With::Everything), Content::Clean) => "everything",
        (looking::Way::Through(With::Everything), Content::Cards) => "everything, with cards",
    };
    let Measured {
        p50_us,
        p99_us,
        cpu_us,
        ..
    } = measured;
    let (added, ratio) = (p50_us - base.p50_us, cpu_us / base.cpu_us);
    let _infallible = writeln!(
        page,
        "| {kib} | {what} | {p50_us:.0} | {p99_us:.0} | {cpu_us:.0} | {added:+.0} | {ratio:.2}× |"
    );
}

fn write_approvals(page: &mut String, approvals: &Approvals) {
    let Approvals {
        instances,
        made,
        per_second,
        steps,
        quiet,
        waiting,
        waits,
    } = approvals;
    let _infallible = write!(
        page,
        "\n## Approvals\n\n{instances} instances at once, {made} calls in all that a person \
         approves as soon as they are asked: {per_second:.0} a second from held to made. Everything \
         runs in one process with its clients.\n\n| step | p50 µs | p99 µs |\n|---|---:|---:|\n"
    );
    for Step {
        what,
        p50_us,
        p99_us,
    } in steps
    {
        let _infallible = writeln!(page, "| {what} | {p50_us:.0} | {p99_us:.0} |");
    }
    let _infallible = writeln!(
        page,
        "\nCalls that nobody has to approve: p50 {:.0} µs with none that wait, {:.0} µs with {waits} \
         that wait ({:.2}×).",
        quiet.p50_us,
        waiting.p50_us,
        waiting.p50_us / quiet.p50_us
    );
}

fn write_register(page: &mut String, register: &Register) {
    let Register {
        scale,
        control_entries,
        call_entries,
        small,
        whole,
        snapshot,
        stop_s,
        snapshot_mib,
        calls,
    } = register;
    let _infallible = write!(
        page,
        "\n## A large register\n\n{} registered agents, {} live instances; {control_entries} entries \
         in the control log, {call_entries} in the log of calls. A start is until the node serves, \
         of which up to a second is waiting for the clock's next second.\n\n\
         | | start s | memory then MiB | at its peak MiB |\n|---|---:|---:|---:|\n",
        scale.agents, scale.instances
    );
    for (what, started) in [
        ("one agent", small),
        ("all, no snapshot", whole),
        ("all, from the snapshot", snapshot),
    ] {
        let Started {
            seconds,
            rss_mib,
            peak_mib,
        } = started;
        let _infallible = writeln!(
            page,
            "| {what} | {seconds:.1} | {rss_mib:.0} | {peak_mib:.0} |"
        );
    }
    let _infallible = write!(
        page,
        "\nThe snapshot is {snapshot_mib:.0} MiB; the stop that wrote it took {stop_s:.1} s.\n\n\
         | `tools/call` with a bearer token | one agent, p50 µs | p99 µs | all, p50 µs | p99 µs | p50 to p50 |\n\
         |---|---:|---:|---:|---:|---:|\n"
    );
    for (connections, small, large) in calls {
        let ratio = large.p50_us / small.p50_us;
        let s = if *connections == 1 { "" } else { "s" };
        let _infallible = writeln!(
            page,
            "| {connections} connection{s} | {:.0} | {:.0} | {:.0} | {:.0} | {ratio:.2}× |",
            small.p50_us, small.p99_us, large.p50_us, large.p99_us
        );
    }
}

/// A figure in as many digits as it deserves.
fn figure(value: f64) -> String {
    if value.abs() < 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}
