//! `tipstaff keys …`: the keys that sign tokens and the logs, and the one that wraps the keyring.

use serde_json::{Value, json};
use store::DataDir;

use super::{Context, Failure, Outcome, Verdict, changed};
use crate::admin::client::AdminError;
use crate::cli::KeysCommand;
use crate::output::{Table, cell, time};
use crate::rotation;

pub(super) async fn run(context: &Context, command: KeysCommand) -> Outcome {
    let node = match (context.node(), &command) {
        (Err(Failure::Admin(AdminError::NoNode { .. })), KeysCommand::Rotate { what })
            if what == "token" =>
        {
            return offline(context);
        }
        (node, _) => node?,
    };
    match command {
        KeysCommand::List => context.show(&node.get("/v1/keys").await?, table)?,
        KeysCommand::Rotate { what } if what == "token" => {
            let rotated = node.post("/v1/keys/rotate").await?;
            context.show(&rotated, |it| changed(it, "token key"))?;
        }
        KeysCommand::Rotate { what } => {
            let path = match what.as_str() {
                "keyring" => "/v1/keys/keyring/rotate".to_owned(),
                log => format!("/v1/keys/logs/{log}/rotate"),
            };
            let rotated = node.post(&path).await?;
            context.show(&rotated, |it| changed(it, "key"))?;
        }
        KeysCommand::Revoke { kid } => {
            let revoked = node.post(&format!("/v1/keys/{kid}/revoke")).await?;
            context.show(&revoked, |it| changed(it, "key"))?;
        }
    }
    Ok(Verdict::Good)
}

fn offline(context: &Context) -> Outcome {
    let config = context.config()?;
    // Held so that no node starts in the middle of it.
    let _held = DataDir::open(&config.data).map_err(|error| Failure::Other(error.to_string()))?;
    let kid = rotation::replace_offline(&config.keys, config.tokens.algorithm, &context.rng)?;
    let told = json!({"id": kid, "status": "unrecorded", "changed": true});
    context.show(&told, |_| {
        format!(
            "Made token key {kid}; the next start of the node puts it on record, and it signs then."
        )
    })?;
    Ok(Verdict::Good)
}

fn table(keys: &Value) -> String {
    let mut table = Table::new(["key", "of", "with", "status", "since"]);
    for it in keys.as_array().into_iter().flatten() {
        table.row([
            cell(&it["id"]),
            cell(&it["of"]),
            cell(&it["algorithm"]),
            cell(&it["status"]),
            time(&it["since"]),
        ]);
    }
    table.text("No key.")
}
