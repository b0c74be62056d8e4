//! `tipstaff approval …`: which calls wait for people, and where they answer.

use serde_json::Value;
use vocab::Handle;

use super::{Context, Failure, Outcome, Verdict};
use crate::approvers;
use crate::cli::ApprovalCommand;
use crate::output::{Lines, Table, cell, clean, time};

pub(super) async fn run(context: &Context, command: ApprovalCommand) -> Outcome {
    let node = context.node()?;
    let path = |id: &Handle| format!("/v1/approvals/{id}");
    match command {
        ApprovalCommand::List { all } => {
            let found = node.get("/v1/approvals").await?;
            let found = found.as_array().into_iter().flatten();
            let found = found.filter(|it| all || it["state"] == "pending").cloned();
            context.show(&Value::Array(found.collect()), |it| table(it, all))?;
            Ok(Verdict::Good)
        }
        ApprovalCommand::Show { id } => {
            context.show(&node.get(&path(&id)).await?, text)?;
            Ok(Verdict::Good)
        }
        ApprovalCommand::Grant { id } | ApprovalCommand::Refuse { id } => {
            let found = &node.get(&path(&id)).await?;
            match found["state"].as_str() {
                Some("pending" | "granted") => Err(Failure::InPerson {
                    url: cell(&found["url"]),
                }),
                _ => Err(Failure::Other(format!("approval {id} is {}", state(found)))),
            }
        }
    }
}

/// What is asked for, as policies name it.
fn asked(it: &Value) -> String {
    let upstream = cell(&it["upstream"]);
    match it["tool"].as_str() {
        Some(tool) => format!("{upstream}/{tool}"),
        None => format!("{upstream}:{}", cell(&it["method"])),
    }
}

/// Who gave their word, when, and which entry says so.
pub(super) fn by(all: &Value) -> String {
    let all = all.as_array().into_iter().flatten();
    let all = all.map(|it| {
        let (by, at, record) = (cell(&it["by"]), time(&it["at"]), cell(&it["record"]));
        format!("{by}, {at} ({record})")
    });
    all.collect::<Vec<_>>().join("; ")
}

/// Where it is in its life.
pub(super) fn state(it: &Value) -> String {
    let until = time(&it["until"]);
    match it["state"].as_str() {
        Some("pending") => format!("waiting until {until}"),
        Some("granted") => format!("granted, to be used until {until}"),
        Some("refused") => format!("refused until {until}"),
        Some("used") => format!("used at {until}"),
        _ => format!("over since {until}: {}", cell(&it["over"])),
    }
}

fn text(it: &Value) -> String {
    let mut lines = Lines::default();
    lines.line("approval", cell(&it["id"]));
    lines.line("state", state(it));
    lines.line("agent", cell(&it["agent"]));
    lines.line("instance", cell(&it["instance"]));
    lines.line("call", asked(it));
    lines.line("asked at", time(&it["asked_at"]));
    lines.line(
        "who may approve",
        it["needs"].as_str().unwrap_or("erased").to_owned(),
    );
    lines.line("granted by", by(&it["granted"]));
    if !it["refused"].is_null() {
        lines.line("refused by", by(&Value::Array(vec![it["refused"].clone()])));
    }
    lines.line("used by", cell(&it["used"]));
    lines.line("record", cell(&it["record"]));
    lines.line("held by", cell(&it["held"]));
    lines.line("where", cell(&it["url"]));
    lines.line("text", cell(&it["shown_digest"]));
    let shown = it["shown"].as_str().unwrap_or("What was asked is erased.");
    let warning = approvers::look_alikes(shown).map(|it| format!("\n{}\n", clean(&it)));
    // Line for line: each can neither move the cursor nor pass for another.
    let shown: Vec<String> = shown
        .lines()
        .map(|line| format!("  {}", clean(line)))
        .collect();
    format!(
        "{}\nWhat approvers are shown:\n\n{}\n{}",
        lines.text(),
        shown.join("\n"),
        warning.unwrap_or_default()
    )
}

fn table(all: &Value, over: bool) -> String {
    let mut table = Table::new(["id", "agent", "call", "state", "who may approve"]);
    for it in all.as_array().into_iter().flatten() {
        table.row([
            cell(&it["id"]),
            cell(&it["agent"]),
            asked(it),
            state(it),
            it["needs"].as_str().unwrap_or("erased").to_owned(),
        ]);
    }
    table.text(if over {
        "No call was held for people lately."
    } else {
        "No call waits for people. With --all, those that were answered lately are listed too."
    })
}
