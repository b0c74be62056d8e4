//! `tipstaff pep …`: who may ask for decisions. Tokens are made here: the node sees only their digest,
//! and puts that on record.

use serde_json::{Value, json};
use vocab::{Digest, id, rng};

use super::{Context, Outcome, Verdict, changed};
use crate::admin::wire;
use crate::cli::PepCommand;
use crate::output::{Table, cell, time};

pub(super) async fn run(context: &Context, command: PepCommand) -> Outcome {
    let node = context.node()?;
    match command {
        PepCommand::Add {
            name,
            serves,
            trusted,
        } => {
            let token = format!("tsp_{}", id::base32(&rng::bytes::<32>(&context.rng)?));
            let new = wire::NewPep {
                id: name,
                token: Digest::of(token.as_bytes()),
                serves,
                trusted,
            };
            let mut added = node.post_json("/v1/peps", &new).await?;
            if let Some(added) = added.as_object_mut() {
                added.insert("token".to_owned(), json!(token));
            }
            context.show(&added, |it| {
                format!(
                    "{}\nIts token, which is shown only now: {token}\nIt asks with \
                     `Authorization: Bearer TOKEN`.",
                    changed(it, "policy enforcement point")
                )
            })?;
        }
        PepCommand::List => context.show(&node.get("/v1/peps").await?, table)?,
        PepCommand::Remove { name } => {
            let removed = node.post(&format!("/v1/peps/{name}/remove")).await?;
            context.show(&removed, |it| changed(it, "policy enforcement point"))?;
        }
    }
    Ok(Verdict::Good)
}

fn table(peps: &Value) -> String {
    let mut table = Table::new(["name", "for", "trusted", "added"]);
    for it in peps.as_array().into_iter().flatten() {
        let serves = it["serves"].as_array().into_iter().flatten();
        let serves: Vec<_> = serves.filter_map(Value::as_str).collect();
        table.row([
            cell(&it["id"]),
            serves.join(", "),
            cell(&it["trusted"]),
            time(&it["added_at"]),
        ]);
    }
    table.text("No policy enforcement point; `tipstaff pep add NAME --for UPSTREAM` makes one.")
}
