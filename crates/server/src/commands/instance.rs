//! `tipstaff instance …`.

use serde_json::Value;

use super::{Context, Outcome, Verdict, changed};
use crate::cli::InstanceCommand;
use crate::output::{Lines, Table, cell, time};

pub(super) async fn run(context: &Context, command: InstanceCommand) -> Outcome {
    let node = context.node()?;
    match command {
        InstanceCommand::List { agent, live } => {
            if let Some(agent) = &agent {
                // Refused where there is none.
                let _agent = node.get(&format!("/v1/agents/{agent}")).await?;
            }
            let mut instances = node.get("/v1/instances").await?;
            if let Some(instances) = instances.as_array_mut() {
                instances.retain(|it| {
                    (!live || it["status"] == "active" || it["status"] == "suspended")
                        && agent
                            .as_ref()
                            .is_none_or(|agent| it["agent"] == agent.as_str())
                });
            }
            context.show(&instances, table)?;
        }
        InstanceCommand::Show { id } => {
            context.show(&node.get(&format!("/v1/instances/{id}")).await?, lines)?;
        }
        InstanceCommand::Revoke { id } => {
            let done = node.post(&format!("/v1/instances/{id}/revoke")).await?;
            context.show(&done, |it| changed(it, "instance"))?;
        }
    }
    Ok(Verdict::Good)
}

fn table(instances: &Value) -> String {
    let mut table = Table::new([
        "id", "agent", "sponsor", "purpose", "status", "started", "expires",
    ]);
    for it in instances.as_array().into_iter().flatten() {
        table.row([
            cell(&it["id"]),
            cell(&it["agent"]),
            cell(&it["sponsor"]),
            cell(&it["purpose"]),
            cell(&it["status"]),
            time(&it["started_at"]),
            time(&it["expires_at"]),
        ]);
    }
    table.text("No instance. An agent starts one with `tipstaff connect` or `tipstaff token`.")
}

fn lines(it: &Value) -> String {
    let mut lines = Lines::default();
    lines.line("id", cell(&it["id"]));
    lines.line("agent", cell(&it["agent"]));
    lines.line("sponsor", cell(&it["sponsor"]));
    lines.line("purpose", cell(&it["purpose"]));
    lines.line("parent", cell(&it["parent"]));
    lines.line("status", cell(&it["status"]));
    lines.line("narrowed by", cell(&it["narrowed_by"]));
    lines.line(
        "its key",
        if it["proven"] == true {
            "proven with every request"
        } else {
            "none: bearer tokens"
        },
    );
    lines.line(
        "started",
        format!("{} ({})", time(&it["started_at"]), cell(&it["record"])),
    );
    lines.line("expires", time(&it["expires_at"]));
    lines.line("ended", time(&it["ended_at"]));
    lines.line("last used", time(&it["last_used_at"]));
    lines.line("first for", cell(&it["upstream"]));
    lines.text()
}
