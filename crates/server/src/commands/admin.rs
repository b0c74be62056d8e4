//! `tipstaff admin …`: named administrators. Their keys are made here: the node sees only the public
//! halves, and puts them on record.

use std::fs;

use ledger::note::Signer;
use register::AdminKey;
use serde_json::Value;

use super::{Context, Failure, Outcome, Verdict, changed};
use crate::admin::client::AdminError;
use crate::admin::wire;
use crate::cli::AdminCommand;
use crate::keys::{self, KeyError};
use crate::output::{Table, cell, time};

pub(super) async fn run(context: &Context, command: AdminCommand) -> Outcome {
    let node = context.node()?;
    match command {
        AdminCommand::Add { name, key_out } => {
            let made = Signer::generate(name.as_str(), &context.rng);
            let signer = made.map_err(|error| KeyError::Generate(error.to_string()))?;
            let public: AdminKey = signer
                .verifier()
                .clone()
                .try_into()
                .map_err(|error| Failure::Other(format!("{error}")))?;
            keys::write_secret(&key_out, signer.to_text().expose())?;
            let new = wire::NewAdmin {
                key: public.verifier().to_string(),
            };
            let added = node.post_json("/v1/admins", &new).await;
            // Where it is not known whether it was added, the key may be needed.
            if added.as_ref().is_err_and(AdminError::is_undone) {
                let _gone = fs::remove_file(&key_out);
            }
            context.show(&added?, |it| {
                format!(
                    "{}\nThey give commands with `--admin-key {}`. Give them the file and keep no \
                     copy.",
                    changed(it, "administrator"),
                    key_out.display()
                )
            })?;
        }
        AdminCommand::List => context.show(&node.get("/v1/admins").await?, table)?,
        AdminCommand::Remove { name } => {
            let removed = node.post(&format!("/v1/admins/{name}/remove")).await?;
            context.show(&removed, |it| changed(it, "administrator"))?;
        }
    }
    Ok(Verdict::Good)
}

fn table(admins: &Value) -> String {
    let mut table = Table::new(["name", "key", "added"]);
    for it in admins.as_array().into_iter().flatten() {
        table.row([cell(&it["id"]), cell(&it["key"]), time(&it["added_at"])]);
    }
    table.text("No named administrator; local users are root and the node's own.")
}
