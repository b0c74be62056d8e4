//! `tipstaff upstream …`: what upstreams say of their tools, and what people say to that.

use register::Judgement;
use serde_json::Value;
use vocab::{ToolName, UpstreamName};

use super::{Context, Failure, Outcome, Verdict, on_record};
use crate::admin::tools::Judge;
use crate::asking::percent;
use crate::cli::{ToolJudgement, UpstreamCommand};
use crate::definitions;
use crate::output::{Table, cell};

pub(super) async fn run(context: &Context, command: UpstreamCommand) -> Outcome {
    let node = context.node()?;
    match command {
        UpstreamCommand::Tools { upstream } => {
            let mut tools = node.get("/v1/tools").await?;
            if let (Some(upstream), Some(all)) = (&upstream, tools.as_array_mut()) {
                all.retain(|it| it["upstream"] == upstream.as_str());
                if all.is_empty() {
                    return Err(Failure::Other(format!(
                        "no tool of an upstream `{upstream}` is known; `tipstaff doctor` says which \
                         upstreams there are, and what is wrong with them"
                    )));
                }
            }
            context.show(&tools, table)?;
        }
        UpstreamCommand::Diff { tool } => {
            let (upstream, tool) = named(&tool)?;
            let shown = node.get(&target(&upstream, &tool)).await?;
            context.show(&shown, definitions::text)?;
        }
        UpstreamCommand::Accept(said) => judge(context, said, Judgement::Accepted).await?,
        UpstreamCommand::Refuse(said) => judge(context, said, Judgement::Refused).await?,
    }
    Ok(Verdict::Good)
}

async fn judge(
    context: &Context,
    said: ToolJudgement,
    judgement: Judgement,
) -> Result<(), Failure> {
    let (upstream, tool) = named(&said.tool)?;
    let body = Judge {
        definition: said.digest,
        judgement,
    };
    let node = context.node()?;
    let done = node.post_json(&target(&upstream, &tool), &body).await?;
    context.show(&done, |it| {
        let what = match judgement {
            Judgement::Accepted => "is accepted, and can be called by this definition",
            Judgement::Refused => "is refused, and cannot be called",
        };
        format!("{upstream}/{tool} {what}{}", on_record(it))
    })
}

fn target(upstream: &UpstreamName, tool: &ToolName) -> String {
    format!("/v1/tools/{upstream}/{}", percent(tool.as_str()))
}

/// `UPSTREAM/TOOL`.
fn named(text: &str) -> Result<(UpstreamName, ToolName), Failure> {
    let wrong = || Failure::Other(format!("`{text}` is not UPSTREAM/TOOL, like `files/read`"));
    let (upstream, tool) = text.split_once('/').ok_or_else(wrong)?;
    let other = |error: &dyn std::fmt::Display| Failure::Other(error.to_string());
    Ok((
        upstream.parse().map_err(|error| other(&error))?,
        tool.parse().map_err(|error| other(&error))?,
    ))
}

fn table(tools: &Value) -> String {
    let mut table = Table::new(["tool", "state", "why", "found", "looks like", "digest"]);
    for it in tools.as_array().into_iter().flatten() {
        let found = it["findings"].as_array().into_iter().flatten();
        let found: Vec<_> = found.map(|it| cell(&it["rule"])).collect();
        table.row([
            definitions::visible(&format!("{}/{}", cell(&it["upstream"]), cell(&it["tool"]))),
            cell(&it["state"]),
            cell(&it["doubts"]),
            found.join(", "),
            definitions::visible(&cell(&it["look_alikes"])),
            cell(&it["definition"]).chars().take(12).collect(),
        ]);
    }
    table.text("No tool is known yet; `tipstaff doctor` says why.")
}
