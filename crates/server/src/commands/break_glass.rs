//! `tipstaff break-glass …`: two named administrators let an agent run that nobody answers for.

use serde_json::Value;

use super::{Context, Outcome, Verdict, on_record};
use crate::admin::wire;
use crate::cli::BreakGlassCommand;
use crate::output::{Lines, Table, cell, time};

pub(super) async fn run(context: &Context, command: BreakGlassCommand) -> Outcome {
    let node = context.node()?;
    match command {
        BreakGlassCommand::Request {
            agent,
            why,
            minutes,
        } => {
            let asked = wire::NewBreakGlass {
                agent,
                reason: why,
                lasts_s: minutes.saturating_mul(60),
            };
            let asked = node.post_json("/v1/break-glass", &asked).await?;
            context.show(&asked, |it| {
                format!(
                    "asked for{}; nothing is open yet\n{}Another named administrator opens it \
                     until {}:\n  tipstaff --admin-key FILE break-glass approve {}",
                    on_record(it),
                    text(it),
                    time(&it["until"]),
                    cell(&it["id"])
                )
            })?;
        }
        BreakGlassCommand::Approve { id } => {
            let path = format!("/v1/break-glass/{id}/approve");
            let opened = node.post(&path).await?;
            context.show(&opened, |it| {
                format!(
                    "OPEN{}: agent {} may run until {}\n{}`tipstaff break-glass end {}` ends it \
                     before",
                    on_record(it),
                    cell(&it["agent"]),
                    time(&it["until"]),
                    text(it),
                    cell(&it["id"])
                )
            })?;
        }
        BreakGlassCommand::End { id } => {
            let ended = node.post(&format!("/v1/break-glass/{id}/end")).await?;
            context.show(&ended, |it| format!("over{}\n{}", on_record(it), text(it)))?;
        }
        BreakGlassCommand::List => context.show(&node.get("/v1/break-glass").await?, table)?,
        BreakGlassCommand::Show { id } => {
            let shown = node.get(&format!("/v1/break-glass/{id}")).await?;
            context.show(&shown, text)?;
        }
    }
    Ok(Verdict::Good)
}

fn text(it: &Value) -> String {
    let by = |by: &str, at: &str, record: &str| {
        if it[by].is_null() {
            return String::new();
        }
        format!(
            "{}, {} ({})",
            cell(&it[by]),
            time(&it[at]),
            cell(&it[record])
        )
    };
    let mut lines = Lines::default();
    lines.line("break-glass", cell(&it["id"]));
    lines.line("state", state(it));
    lines.line("agent", cell(&it["agent"]));
    lines.line("sponsor", cell(&it["sponsor"]));
    lines.line("sets aside", cell(&it["sets_aside"]));
    lines.line(
        "why",
        match it["reason"].as_str() {
            Some(reason) => reason.to_owned(),
            None => "erased".to_owned(),
        },
    );
    lines.line(
        "for",
        format!("{} minutes", it["lasts_s"].as_u64().unwrap_or(0) / 60),
    );
    lines.line("asked for by", by("requested_by", "requested_at", "record"));
    lines.line("opened by", by("opened_by", "opened_at", "opened_record"));
    lines.text()
}

fn state(it: &Value) -> String {
    let until = time(&it["until"]);
    match it["state"].as_str() {
        Some("requested") => format!("asked for; it can be opened until {until}"),
        Some("open") => format!("OPEN until {until}"),
        _ => format!("over since {until}: {}", cell(&it["over"])),
    }
}

fn table(all: &Value) -> String {
    let mut table = Table::new(["id", "agent", "state", "asked by", "opened by", "why"]);
    for it in all.as_array().into_iter().flatten() {
        table.row([
            cell(&it["id"]),
            cell(&it["agent"]),
            state(it),
            cell(&it["requested_by"]),
            cell(&it["opened_by"]),
            cell(&it["reason"]),
        ]);
    }
    table.text("Nobody ever asked for break-glass.")
}
