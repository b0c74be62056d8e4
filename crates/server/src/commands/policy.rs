//! `tipstaff policy …`.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Context, Failure, Outcome, Verdict};
use crate::admin::client::AdminError;
use crate::cli::{PolicyCommand, PolicyTools};
use crate::config::Config;
use crate::output::{self, at, cell, clean, count};
use crate::policies::{self, Ground, Offline};

pub(super) async fn run(context: &Context, command: PolicyCommand) -> Outcome {
    let good = match command {
        PolicyCommand::Check(tools) => {
            let report = judge(context, &tools, "/v1/policy/check", policies::check).await?;
            context.show(&report, checked)?;
            let unchecked = at(&report, "/unchecked").as_object();
            at(&report, "/valid") == true && unchecked.is_none_or(serde_json::Map::is_empty)
        }
        PolicyCommand::Test(tools) => {
            let report = judge(context, &tools, "/v1/policy/test", policies::test).await?;
            context.show(&report, tested)?;
            at(&report, "/failed") == 0
                && at(&report, "/diagnostics")
                    .as_array()
                    .is_none_or(Vec::is_empty)
        }
        PolicyCommand::Apply => {
            let applied = context.node()?.post("/v1/policy/apply").await?;
            context.show(&applied, |it| {
                format!(
                    "{}{} in force as set {}, by {}; {} passed",
                    diagnostics(&it["warnings"]),
                    are(number(&it["policies"])),
                    cell(&it["set"]),
                    cell(&it["author"]),
                    count(number(&it["passed"]), "case", "cases")
                )
            })?;
            true
        }
    };
    Ok(if good { Verdict::Good } else { Verdict::Wrong })
}

/// Has the files judged by the running node. If none runs, or tools are given, does it here.
async fn judge<R: Serialize>(
    context: &Context,
    tools: &PolicyTools,
    target: &str,
    here: fn(&dyn Ground, &Path) -> Result<R, String>,
) -> Result<Value, Failure> {
    if tools.tools.is_empty() {
        let asked = match context.node() {
            Ok(node) => node.post(target).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        match asked {
            Err(Failure::Admin(AdminError::NoNode { .. })) => output::warn(
                "note: no node is running, so the tools are those on record in the data folder",
            ),
            asked => return asked,
        }
    }
    let config: Config = context.config()?;
    let ground = Offline::read(&config, &tools.tools).map_err(Failure::Other)?;
    let report = here(&ground, &config.policies).map_err(Failure::Other)?;
    Ok(json!(report))
}

fn number(value: &Value) -> usize {
    let number = value.as_u64().unwrap_or_default();
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// `FILE:LINE:COLUMN: error: …`, as compilers say it.
fn diagnostics(told: &Value) -> String {
    let mut out = String::new();
    for it in told.as_array().into_iter().flatten() {
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
    let mut told = diagnostics(&report["diagnostics"]);
    for (upstream, ids) in report["unchecked"].as_object().into_iter().flatten() {
        let ids = clean(&cell(ids));
        let _infallible = writeln!(
            told,
            "The tools of `{upstream}` are not known, so what these policies say of them is not \
             checked: {ids}\n  help: start the node with the upstream, or give its `tools/list` \
             result: --tools {upstream}=FILE"
        );
    }
    if report["valid"] == true {
        let policies = match number(&report["policies"]) {
            0 => return format!("{told}There is no policy, so every call is denied."),
            some => are(some),
        };
        let unchecked = report["unchecked"].as_object();
        let rest = if unchecked.is_none_or(serde_json::Map::is_empty) {
            ""
        } else {
            ", as far as can be told"
        };
        format!("{told}{policies} valid{rest}")
    } else {
        format!("{told}The policies are not valid; what is in force stays in force.")
    }
}

fn are(policies: usize) -> String {
    count(policies, "policy is", "policies are")
}

fn tested(report: &Value) -> String {
    let mut out = diagnostics(&report["diagnostics"]);
    let none = |list: &str| report[list].as_array().is_none_or(Vec::is_empty);
    if none("cases") && none("diagnostics") {
        return "There is no test case; they lie beside the policies, in `NAME.test.yaml`."
            .to_owned();
    }
    for case in report["cases"].as_array().into_iter().flatten() {
        if case["passed"] == true {
            let _infallible = writeln!(out, "ok    {}", clean(&cell(&case["name"])));
            if let Some(odd) = case["warning"].as_str() {
                let _infallible = writeln!(out, "      warning: {}", clean(odd));
            }
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
    if let Some(problems) = report["diagnostics"].as_array().filter(|it| !it.is_empty()) {
        let problems = count(problems.len(), "problem", "problems");
        let _infallible = write!(out, ", {problems} in the files");
    }
    out
}
