//! `tipstaff instance …`.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value;
use vocab::InstanceId;

use super::trace::{started_by, what};
use super::{Context, Outcome, Verdict, changed};
use crate::cli::InstanceCommand;
use crate::output::{Lines, Table, cell, clean, time};

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
        InstanceCommand::Tree { id } => {
            if let Some(id) = &id {
                // Refused where there is none.
                let _instance = node.get(&format!("/v1/instances/{id}")).await?;
            }
            let instances = node.get("/v1/instances").await?;
            let trees = trees(&instances, id.as_ref().map(InstanceId::as_str));
            context.show(&trees, drawn)?;
        }
        InstanceCommand::Revoke { id } => {
            let done = node.post(&format!("/v1/instances/{id}/revoke")).await?;
            context.show(&done, |it| changed(it, "instance"))?;
        }
    }
    Ok(Verdict::Good)
}

/// Each instance that nobody delegated to, with those below it in `children`: the one whose tree
/// `of` is in, or all with one that is not over.
fn trees(instances: &Value, of: Option<&str>) -> Value {
    let mut below: HashMap<&str, Vec<&Value>> = HashMap::new();
    for it in instances.as_array().into_iter().flatten() {
        let parent = it["parent"].as_str().unwrap_or_default();
        below.entry(parent).or_default().push(it);
    }
    let wanted = |it: &Value| match of {
        Some(id) => it["id"] == id,
        None => it["status"] == "active" || it["status"] == "suspended",
    };
    let roots = below.get("").into_iter().flatten();
    roots
        .filter_map(|root| tree(root, &below, &wanted))
        .collect()
}

/// An instance with those below it, if one of them is wanted. The node bounds how deep they go.
fn tree(
    it: &Value,
    below: &HashMap<&str, Vec<&Value>>,
    wanted: &dyn Fn(&Value) -> bool,
) -> Option<Value> {
    let children = it["id"].as_str().and_then(|id| below.get(id));
    let mut is_wanted = wanted(it);
    let mut drawn = Vec::new();
    for child in children.into_iter().flatten() {
        let found = tree(child, below, wanted);
        is_wanted |= found.is_some();
        drawn.push(found.or_else(|| tree(child, below, &|_| true)));
    }
    let mut it = it.clone();
    if let Some(it) = it.as_object_mut() {
        let drawn = drawn.into_iter().flatten().collect();
        it.insert("children".to_owned(), drawn);
    }
    is_wanted.then_some(it)
}

fn drawn(trees: &Value) -> String {
    let mut out = String::new();
    for root in trees.as_array().into_iter().flatten() {
        draw(root, "", "", &mut out);
    }
    if out.is_empty() {
        out.push_str("No instance that is not over. `tipstaff instance list` shows the others.\n");
    }
    out
}

fn draw(it: &Value, branch: &str, indent: &str, out: &mut String) {
    let _infallible = writeln!(
        out,
        "{branch}{} of {}, for {}: {}, started {} by {}",
        cell(&it["id"]),
        cell(&it["agent"]),
        cell(&it["purpose"]),
        cell(&it["status"]),
        time(&it["started_at"]),
        started_by(&it["via"], &it["key"])
    );
    let children = it["children"].as_array().map_or(&[][..], Vec::as_slice);
    let rest = if children.is_empty() { "   " } else { "│  " };
    for detail in it["authority"].as_array().into_iter().flatten() {
        let _infallible = writeln!(out, "{indent}{rest}may: {}", clean(&what(detail)));
    }
    if let Some(why) = it["authority_unknown"].as_str() {
        let _infallible = writeln!(
            out,
            "{indent}{rest}may: nothing, since what was handed on is {why}"
        );
    }
    if !it["max_calls"].is_null() {
        let _infallible = writeln!(out, "{indent}{rest}calls: at most {}", it["max_calls"]);
    }
    for (at, child) in children.iter().enumerate() {
        let (branch, below) = if at + 1 == children.len() {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        let (branch, below) = (format!("{indent}{branch}"), format!("{indent}{below}"));
        draw(child, &branch, &below, out);
    }
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
    lines.line("BREAK-GLASS", cell(&it["break_glass"]));
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
