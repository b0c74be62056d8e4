//! `tipstaff policy …`.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Context, Outcome, Verdict};
use crate::cli::PolicyCommand;
use crate::output::{at, cell, clean};

pub(super) async fn run(context: &Context, command: PolicyCommand) -> Outcome {
    let node = context.node()?;
    let good = match command {
        PolicyCommand::Check => {
            let report = node.post("/v1/policy/check").await?;
            context.show(&report, checked)?;
            at(&report, "/valid") == true
        }
        PolicyCommand::Test => {
            let report = node.post("/v1/policy/test").await?;
            context.show(&report, tested)?;
            at(&report, "/failed") == 0
                && at(&report, "/diagnostics")
                    .as_array()
                    .is_none_or(Vec::is_empty)
        }
        PolicyCommand::Apply => {
            let applied = node.post("/v1/policy/apply").await?;
            context.show(&applied, |it| {
                format!(
                    "{} policies are in force as set {}, by {}; {} cases passed",
                    it["policies"],
                    cell(&it["set"]),
                    cell(&it["author"]),
                    it["passed"]
                )
            })?;
            true
        }
    };
    Ok(if good { Verdict::Good } else { Verdict::Wrong })
}

/// `FILE:LINE:COLUMN: error: …`, as compilers say it.
fn diagnostics(report: &Value) -> String {
    let mut out = String::new();
    for it in report["diagnostics"].as_array().into_iter().flatten() {
        let file = cell(&it["file"]);
        let place = format!("{file}:{}:{}", it["line"], it["column"]);
        let (severity, message) = (cell(&it["severity"]), cell(&it["message"]));
        let _infallible = writeln!(out, "{place}: {severity}: {}", clean(&message));
        if let Some(help) = it["help"].as_str() {
            let _infallible = writeln!(out, "  help: {}", clean(help));
        }
    }
    out
}

fn checked(report: &Value) -> String {
    let told = diagnostics(report);
    if report["valid"] == true {
        format!("{told}{} policies are valid", report["policies"])
    } else {
        format!("{told}The policies are not valid; what is in force stays in force.")
    }
}

fn tested(report: &Value) -> String {
    let mut out = diagnostics(report);
    for case in report["cases"].as_array().into_iter().flatten() {
        if case["passed"] == true {
            let _infallible = writeln!(out, "ok    {}", clean(&cell(&case["name"])));
        } else {
            let (name, file) = (cell(&case["name"]), cell(&case["file"]));
            let _infallible = writeln!(out, "FAIL  {} ({file}:{})", clean(&name), case["line"]);
            let _infallible = writeln!(out, "      {}", clean(&cell(&case["mismatch"])));
        }
    }
    let _infallible = write!(
        out,
        "{} passed, {} failed",
        report["passed"], report["failed"]
    );
    out
}
