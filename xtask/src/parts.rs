//! `cargo xtask test`: the parts, in the order in which a mistake is cheapest to find.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::process::{Finished, command, must, say, stream, works};
use crate::{peers, reference, tidy};

#[cfg(test)]
mod tests;

/// How many checks passed and failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    const ONE: Self = Self {
        passed: 1,
        failed: 0,
    };

    /// A runner that failed without naming a failed test (it did not build, it was killed) counts as one failure.
    fn of(finished: &Finished, counted: Self) -> Self {
        if finished.success || counted.failed > 0 {
            return counted;
        }
        Self {
            failed: 1,
            ..counted
        }
    }
}

/// One part of the whole.
pub(crate) struct Part {
    name: &'static str,
    run: fn(&Path) -> Result<Tally>,
}

const PARTS: &[Part] = &[
    part("fmt", fmt),
    part("clippy", clippy),
    part("tidy", tidy_up),
    part("build", build),
    part("unit", unit),
    part("generated", generated),
    part("interop", interop),
    part("people", people),
    part("outsiders", outsiders),
    part("oracle", oracle),
];

const fn part(name: &'static str, run: fn(&Path) -> Result<Tally>) -> Part {
    Part { name, run }
}

/// The parts that `--only PART` names, or all of them.
pub(crate) fn select(args: &[String]) -> Result<Vec<&'static Part>, String> {
    let mut selected = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg != "--only" {
            return Err(format!("no argument `{arg}`"));
        }
        let name = args.next().ok_or("`--only` needs the name of a part")?;
        let part = PARTS.iter().find(|part| part.name == name);
        selected.push(part.ok_or_else(|| format!("no part `{name}`"))?);
    }
    if selected.is_empty() {
        selected.extend(PARTS);
    }
    Ok(selected)
}

/// Runs parts one after the other, all of them whatever fails, and ends with the count alone on a line.
pub(crate) fn run(root: &Path, parts: &[&Part]) -> ExitCode {
    let mut total = Tally::default();
    for part in parts {
        say(&format!("== {}", part.name));
        let start = now();
        let tally = (part.run)(root).unwrap_or_else(|error| {
            say(&format!("{error:#}"));
            Tally {
                passed: 0,
                failed: 1,
            }
        });
        total.passed += tally.passed;
        total.failed += tally.failed;
        let word = if tally.failed == 0 { "ok" } else { "FAILED" };
        let seconds = start.elapsed().as_secs_f64();
        say(&format!(
            "== {}: {word}, {} passed, {} failed, {seconds:.1} s",
            part.name, tally.passed, tally.failed
        ));
    }
    say(&format!("{} passed, {} failed", total.passed, total.failed));
    if total.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn fmt(root: &Path) -> Result<Tally> {
    must(command(
        root,
        "cargo",
        ["fmt", "--all", "--check", "--", "--color", "never"],
    ))?;
    Ok(Tally::ONE)
}

fn clippy(root: &Path) -> Result<Tally> {
    let args = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    must(command(root, "cargo", args))?;
    Ok(Tally::ONE)
}

fn tidy_up(root: &Path) -> Result<Tally> {
    tidy::run(root)?;
    Ok(Tally::ONE)
}

/// Building is apart from running, so that the times show which one grew.
fn build(root: &Path) -> Result<Tally> {
    must(command(root, "cargo", ["build", "--workspace", "--locked"]))?;
    must(command(
        root,
        "cargo",
        ["test", "--workspace", "--locked", "--no-run"],
    ))?;
    Ok(Tally::ONE)
}

/// Unit tests and the integration binary. Nextest where it is installed: it ends a test that hangs.
fn unit(root: &Path) -> Result<Tally> {
    if works(command(root, "cargo", ["nextest", "--version"])) {
        let args = [
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--no-fail-fast",
            "--no-tests=pass",
        ];
        let finished = stream(command(root, "cargo", args))?;
        let counted = count(&finished.lines, nextest_line);
        return Ok(Tally::of(&finished, counted));
    }
    let args = ["test", "--workspace", "--locked", "--no-fail-fast"];
    let finished = stream(command(root, "cargo", args))?;
    let counted = count(&finished.lines, cargo_test_line);
    Ok(Tally::of(&finished, counted))
}

/// What is written from the code is as the code is.
fn generated(root: &Path) -> Result<Tally> {
    reference::check(root)?;
    Ok(Tally::ONE)
}

/// Real clients and servers of others, direct and through the gateway.
fn interop(root: &Path) -> Result<Tally> {
    let python = peers::python(root)?;
    let node = peers::node(root)?;
    must(command(
        root,
        "cargo",
        ["build", "--package", "server", "--locked"],
    ))?;
    let mut run = command(root, python, ["tests/interop/run.py"]);
    run.env("INTEROP_NODE", node);
    let finished = stream(run)?;
    Ok(Tally::of(&finished, count(&finished.lines, plain_line)))
}

/// People sign in at a provider of others, with a browser and a client of others.
fn people(root: &Path) -> Result<Tally> {
    in_a_browser(root, "tests/interop/people.py")
}

/// OAuth with clients, workloads and a conformance suite of others.
fn outsiders(root: &Path) -> Result<Tally> {
    in_a_browser(root, "tests/interop/outsiders.py")
}

fn in_a_browser(root: &Path, script: &str) -> Result<Tally> {
    let python = peers::python(root)?;
    peers::node(root)?;
    peers::browser(root)?;
    must(command(
        root,
        "cargo",
        ["build", "--package", "server", "--locked"],
    ))?;
    let finished = stream(command(root, python, [script]))?;
    Ok(Tally::of(&finished, count(&finished.lines, plain_line)))
}

/// Go's own reader of transparency logs on a data folder that a node wrote.
fn oracle(root: &Path) -> Result<Tally> {
    let python = peers::python(root)?;
    let go = peers::go(root)?;
    must(command(
        root,
        "cargo",
        ["build", "--package", "server", "--locked"],
    ))?;
    let mut run = command(root, python, ["tests/interop/oracle.py"]);
    run.envs(go);
    let finished = stream(run)?;
    Ok(Tally::of(&finished, count(&finished.lines, plain_line)))
}

fn count(lines: &[String], line: fn(&str) -> Option<Tally>) -> Tally {
    lines
        .iter()
        .filter_map(|text| line(text))
        .fold(Tally::default(), |sum, tally| Tally {
            passed: sum.passed + tally.passed,
            failed: sum.failed + tally.failed,
        })
}

/// `Summary [   0.1s] 5 tests run: 3 passed, 2 failed, 0 skipped`; `3/5 tests run` when it was stopped.
fn nextest_line(line: &str) -> Option<Tally> {
    let (_, rest) = line
        .trim_start()
        .strip_prefix("Summary [")?
        .split_once(']')?;
    let (run, rest) = rest.split_once(" run: ")?;
    let total = run
        .trim()
        .split(' ')
        .next()?
        .rsplit('/')
        .next()?
        .parse::<u64>()
        .ok()?;
    let passed = number_before(rest, "passed").unwrap_or(0);
    Some(Tally {
        passed,
        failed: total.saturating_sub(passed),
    })
}

/// `test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out`
fn cargo_test_line(line: &str) -> Option<Tally> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    Some(Tally {
        passed: number_before(rest, "passed")?,
        failed: number_before(rest, "failed")?,
    })
}

/// `12 passed, 0 failed`, the last line of our own runners.
fn plain_line(line: &str) -> Option<Tally> {
    let (passed, failed) = line.split_once(" passed, ")?;
    let failed = failed.strip_suffix(" failed")?;
    Some(Tally {
        passed: passed.parse().ok()?,
        failed: failed.parse().ok()?,
    })
}

fn number_before(text: &str, word: &str) -> Option<u64> {
    text.split([',', ';'])
        .filter_map(|piece| piece.trim().split_once(' '))
        .find(|(_, rest)| rest.split(' ').next() == Some(word))
        .and_then(|(number, _)| number.parse().ok())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the runner's own stopwatch: no product code here"
)]
fn now() -> Instant {
    Instant::now()
}
