//! `tipstaff certificate …` and `tipstaff kill`: what was cut, and the proof of it.

use std::path::Path;

use ledger::note::Verifier;
use serde_json::Value;
use vocab::LogName;

use super::{Context, Failure, Outcome, Verdict};
use crate::admin::{Kill, newest};
use crate::certificate::{Bundle, Checked, Unproven};
use crate::cli::{CertificateCommand, KillArgs};
use crate::doctor::stops::named;
use crate::output::{Lines, Table, at, cell, count, time};

pub(super) async fn run(context: &Context, command: CertificateCommand) -> Outcome {
    match command {
        CertificateCommand::List => {
            let node = context.node()?;
            context.show(&node.get("/v1/cuts").await?, table)?;
        }
        CertificateCommand::Show { cut, out } => {
            let bundle = fetch(context, &cut).await?;
            if let Some(out) = out {
                let text = format!("{bundle:#}\n");
                std::fs::write(&out, text).map_err(|error| {
                    Failure::Other(format!("cannot write `{}`: {error}", out.display()))
                })?;
            }
            context.show(&bundle, lines)?;
        }
        CertificateCommand::Verify { file, vkeys } => {
            return verify(context, &file, &vkeys);
        }
    }
    Ok(Verdict::Good)
}

pub(super) async fn kill(context: &Context, args: KillArgs) -> Outcome {
    let node = context.node()?;
    let order = Kill {
        agent: args.agent.clone(),
        upstream: args.upstream.clone(),
        undo: args.undo,
    };
    let done = node.post_json("/v1/kill", &order).await?;
    let (about, id) = match (&args.agent, &args.upstream) {
        (Some(agent), _) => ("agent", agent.to_string()),
        (None, Some(upstream)) => ("upstream", upstream.to_string()),
        (None, None) => ("all", String::new()),
    };
    if args.wait && !args.undo {
        return waited(context, about, &id).await;
    }
    context.show(&done, |it| {
        let what = match about {
            "all" => "Everything".to_owned(),
            about => format!("{about} {id}"),
        };
        match (it["stopped"] == true, it["is_new"] == true) {
            (true, true) => format!("{what} is stopped, from the very next call."),
            (true, false) => format!("{what} was stopped already."),
            (false, true) => format!("{what} goes on."),
            (false, false) => format!("{what} was not stopped."),
        }
    })?;
    Ok(Verdict::Good)
}

/// Prints the certificate of the newest cut of something, once it is on record.
pub(super) async fn waited(context: &Context, about: &str, id: &str) -> Outcome {
    let cuts = context.node()?.get("/v1/cuts").await?;
    let cut = newest(&cuts, about, id).map(|cut| cell(&cut["record"]));
    let cut = cut.ok_or_else(|| Failure::Other("there is no cut of it on record".to_owned()))?;
    let bundle = fetch(context, &cut).await?;
    context.show(&bundle, lines)?;
    Ok(Verdict::Good)
}

async fn fetch(context: &Context, cut: &str) -> Result<Value, Failure> {
    let index = cut.strip_prefix("control/").unwrap_or(cut);
    if index.parse::<u64>().is_err() {
        return Err(Failure::Other(format!(
            "`{cut}` is no cut: it is named by the entry that narrowed, `control/INDEX`; `tipstaff \
             certificate list` has them"
        )));
    }
    let node = context.node()?;
    Ok(node.get(&format!("/v1/cuts/{index}")).await?)
}

fn verify(context: &Context, file: &Path, vkeys: &Path) -> Outcome {
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|error| Failure::Other(format!("cannot read `{}`: {error}", path.display())))
    };
    let key = |log: LogName| -> Result<Verifier, Failure> {
        let path = vkeys.join(format!("{log}.vkey"));
        let text = read(&path)?;
        text.trim_end()
            .parse()
            .map_err(|error| Failure::Other(format!("`{}`: {error}", path.display())))
    };
    let text = read(file)?;
    let (control, calls) = (key(LogName::Control)?, key(LogName::Calls)?);
    let checked = serde_json::from_str::<Bundle>(&text)
        .map_err(Unproven::from)
        .and_then(|bundle| bundle.verify(&control, &calls));
    match checked {
        Ok(proven) => {
            context.show(&serde_json::json!(proven), |_| told(&proven))?;
            Ok(Verdict::Good)
        }
        Err(error) => {
            let found = serde_json::json!({"proven": false, "why": error.to_string()});
            context.show(&found, |_| format!("It proves nothing: {error}."))?;
            Ok(Verdict::Wrong)
        }
    }
}

fn told(proven: &Checked) -> String {
    let [control, calls] = &proven.origins;
    format!(
        "Proven by both logs: {} ({} of {} at {}, by {}) was carried out. It covers {}; nothing of \
         theirs can be permitted after {}. Calls in flight: {}, of which {} with unknown effect.{}\n\
         The logs are {control} and {calls}.",
        proven.cut,
        proven.kind,
        proven.of,
        proven.at,
        named(&proven.by),
        count(proven.instances, "instance", "instances"),
        proven.barrier,
        proven.in_flight,
        proven.unknown,
        if proven.complete {
            ""
        } else {
            " Some had no outcome yet when it was written."
        }
    )
}

fn table(cuts: &Value) -> String {
    let mut table = Table::new(["cut", "kind", "of", "at", "by", "holds", "certificate"]);
    for it in cuts.as_array().into_iter().flatten() {
        let of = ["sponsor_id", "sponsor", "agent", "upstream"]
            .into_iter()
            .map(|name| cell(&it[name]))
            .find(|of| !of.is_empty())
            .unwrap_or_else(|| "everything".to_owned());
        table.row([
            cell(&it["record"]),
            cell(&it["kind"]),
            of,
            time(&it["at"]),
            by(it),
            match it["validity"].as_str() {
                Some("in-force") => "in force".to_owned(),
                _ => cell(&it["validity"]),
            },
            cell(&it["certificate"]),
        ]);
    }
    table.text("Nothing was cut.")
}

/// Who cut, and for what signal if it was no command.
fn by(it: &Value) -> String {
    let actor = ["/by/id", "/by/credential"].map(|name| cell(at(it, name)));
    let actor = actor.into_iter().find(|name| !name.is_empty());
    actor.unwrap_or_else(|| cell(at(it, "/signal/source")))
}

fn lines(bundle: &Value) -> String {
    let it = &bundle["certificate"];
    let mut lines = Lines::default();
    let many = |value: &Value| value.as_array().map_or(0, Vec::len).to_string();
    lines.line(
        "cut",
        format!(
            "{} {}",
            cell(at(it, "/cut/record")),
            cell(at(it, "/cut/kind"))
        ),
    );
    lines.line("at", time(at(it, "/cut/at")));
    lines.line(
        "signal",
        format!(
            "{} {}",
            cell(at(it, "/signal/source")),
            cell(at(it, "/signal/event"))
        ),
    );
    lines.line("barrier", cell(at(it, "/barrier/record")));
    lines.line("last permit", cell(at(it, "/last_permit/record")));
    lines.line("instances", many(&it["instances"]));
    lines.line("agents", cell(&it["agents"]));
    lines.line("tokens", many(&it["tokens"]));
    lines.line("calls in flight", many(&it["calls"]));
    for call in it["calls"].as_array().into_iter().flatten() {
        let tool = cell(&call["tool"]);
        let what = if tool.is_empty() {
            cell(&call["method"])
        } else {
            tool
        };
        lines.line(
            "",
            format!(
                "{} {}/{what}: {}",
                cell(&call["decision"]),
                cell(&call["upstream"]),
                cell(&call["result"])
            ),
        );
    }
    lines.line("unknown effects", cell(at(it, "/residue/unknown")));
    lines.line("complete", cell(&it["complete"]));
    let took = [
        ("/took/cut_to_barrier_us", "to the barrier"),
        ("/took/cut_to_last_outcome_us", "to the last outcome"),
    ]
    .map(|(name, what)| (cell(at(it, name)), what));
    let took = took.into_iter().filter(|(micros, _)| !micros.is_empty());
    let took: Vec<String> = took
        .map(|(micros, what)| format!("{micros} µs {what}"))
        .collect();
    lines.line("took", took.join(", "));
    lines.text()
}
