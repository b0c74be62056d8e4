//! `tipstaff scim …`.

use serde_json::Value;

use super::{Context, Outcome, Verdict};
use crate::cli::ScimCommand;
use crate::output::{Table, cell, time};

pub(super) async fn run(context: &Context, command: ScimCommand) -> Outcome {
    let node = context.node()?;
    match command {
        ScimCommand::Token { revoke: None } => {
            let made = node.post("/v1/scim/tokens").await?;
            context.show(&made, |it| {
                let others = cell(&it["others"]);
                let overlap = if others.is_empty() {
                    String::new()
                } else {
                    format!(
                        "\nThese go on being good until they are taken away: {others}\n  \
                         tipstaff scim token --revoke ID"
                    )
                };
                format!(
                    "{}\nIt is shown this once, and called {} from now on. Give it to the directory, \
                     as the bearer token of {}.{overlap}",
                    cell(&it["token"]),
                    cell(&it["id"]),
                    cell(&it["url"])
                )
            })?;
        }
        ScimCommand::Token { revoke: Some(id) } => {
            let ids = if id == "all" {
                let all = node.get("/v1/scim/tokens").await?;
                let all = all.as_array().cloned().unwrap_or_default();
                all.iter().map(|it| cell(&it["id"])).collect()
            } else {
                vec![id]
            };
            let mut revoked = Vec::new();
            for id in ids {
                revoked.push(node.post(&format!("/v1/scim/tokens/{id}/revoke")).await?);
            }
            context.show(&Value::Array(revoked), |all| {
                let all = all.as_array().into_iter().flatten();
                let lines: Vec<String> = all
                    .map(|it| {
                        format!(
                            "Token {} is good for nothing any more.",
                            cell(&it["revoked"])
                        )
                    })
                    .collect();
                if lines.is_empty() {
                    return "The directory has no token.".to_owned();
                }
                lines.join("\n")
            })?;
        }
        ScimCommand::List => {
            context.show(&node.get("/v1/scim/tokens").await?, |tokens| {
                let mut table = Table::new(["id", "since"]);
                for it in tokens.as_array().into_iter().flatten() {
                    table.row([cell(&it["id"]), time(&it["since"])]);
                }
                table.text("The directory has no token yet: tipstaff scim token")
            })?;
        }
    }
    Ok(Verdict::Good)
}
