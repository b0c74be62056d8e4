//! `tipstaff group …`.

use serde_json::Value;

use super::{Context, Outcome, Verdict};
use crate::cli::GroupCommand;
use crate::output::{Table, cell, count, time};

pub(super) async fn run(context: &Context, command: GroupCommand) -> Outcome {
    let node = context.node()?;
    match command {
        GroupCommand::List => context.show(&node.get("/v1/groups").await?, table)?,
    }
    Ok(Verdict::Good)
}

fn table(groups: &Value) -> String {
    let mut table = Table::new(["name", "id", "members", "who", "added"]);
    for it in groups.as_array().into_iter().flatten() {
        let members = it["members"].as_array().map_or(0, Vec::len);
        table.row([
            cell(&it["name"]),
            cell(&it["handle"]),
            count(members, "member", "members"),
            cell(&it["members"]),
            time(&it["added_at"]),
        ]);
    }
    table.text(
        "There is no group yet: the directory provisions them at /scim/v2 (`tipstaff scim token`)",
    )
}
