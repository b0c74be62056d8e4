//! `tipstaff secret …`: the local vault, with a running node or without.

use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;

use broker::{SECRET_BYTES_MAX, Vault};
use serde_json::{Value, json};
use store::DataDir;
use vocab::{Clock as _, Secret, SecretName};

use super::{Context, Failure, Outcome, Verdict};
use crate::admin::client::AdminError;
use crate::admin::wire::NewSecret;
use crate::cli::{SecretCommand, VaultFiles};
use crate::output::{self, Table, cell, time};
use crate::policies;
use crate::secrets::{self, Change};

pub(super) async fn run(context: &Context, command: SecretCommand) -> Outcome {
    match command {
        SecretCommand::Set {
            name,
            from_file,
            files,
        } => {
            let value = value(from_file.as_deref())?;
            change(context, &files, &name, Change::Set(value)).await
        }
        SecretCommand::Rm { name, files } => change(context, &files, &name, Change::Remove).await,
        SecretCommand::Accept => {
            let told = context.node()?.post("/v1/vault/accept").await?;
            context.show(&told, |it| {
                let generation = cell(&it["generation"]);
                format!("The vault is taken for what it should be, as change {generation} of it.")
            })?;
            Ok(Verdict::Good)
        }
        SecretCommand::List { files } => {
            let listed = match node(context, &files)? {
                Some(node) => node.get("/v1/secrets").await?,
                None => listed(context, &files)?,
            };
            context.show(&listed, table)?;
            Ok(Verdict::Good)
        }
    }
}

fn listed(context: &Context, files: &VaultFiles) -> Result<Value, Failure> {
    if files.data.is_some() {
        return Ok(json!(vault(context, files)?.list()?));
    }
    let config = context.config()?;
    Ok(json!(secrets::list(&config, &config.vault())?))
}

/// The running node, if the command is for one.
fn node<'a>(
    context: &'a Context,
    files: &VaultFiles,
) -> Result<Option<crate::admin::client::Client<'a>>, Failure> {
    if files.data.is_some() {
        return Ok(None);
    }
    match context.node() {
        Ok(node) => Ok(Some(node)),
        Err(Failure::Admin(AdminError::NoNode { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

fn vault(context: &Context, files: &VaultFiles) -> Result<Vault, Failure> {
    let Some(data) = &files.data else {
        return Ok(context.config()?.vault());
    };
    let beside = data.with_file_name("keys");
    Ok(Vault::of(data, files.keys.as_deref().unwrap_or(&beside)))
}

fn offline(
    context: &Context,
    files: &VaultFiles,
    name: &SecretName,
    change: &Change,
) -> Result<Value, Failure> {
    let data = match &files.data {
        Some(data) => data.clone(),
        None => context.config()?.data,
    };
    if !data.is_dir() {
        let told = format!("there is no data folder `{}`", data.display());
        return Err(Failure::Other(told));
    }
    // Held so that no node starts in the middle of it.
    let _held = DataDir::open(&data).map_err(|error| Failure::Other(error.to_string()))?;
    let by = broker::Change {
        recorded: policies::on_record(&data)
            .map_err(Failure::Other)?
            .map_or(0, |state| state.vault()),
        now: context.clock.now(),
        rng: &context.rng,
    };
    let changed = change.make(&vault(context, files)?, name, by)?;
    Ok(json!({"name": name, "id": changed.handle, "changed": true, "records": []}))
}

async fn change(
    context: &Context,
    files: &VaultFiles,
    name: &SecretName,
    change: Change,
) -> Outcome {
    let done = match &change {
        Change::Set(_) => "Set",
        Change::Remove => "Removed",
    };
    let told = match (node(context, files)?, change) {
        (None, change) => offline(context, files, name, &change)?,
        (Some(node), Change::Set(value)) => {
            let body = NewSecret {
                value: value.expose().clone(),
            };
            node.post_json(&format!("/v1/secrets/{name}"), &body)
                .await?
        }
        (Some(node), Change::Remove) => node.post(&format!("/v1/secrets/{name}/remove")).await?,
    };
    context.show(&told, |it| {
        let records = it["records"].as_array().map_or(0, Vec::len);
        let recorded = if records == 0 {
            "; the next start of the node puts on record that the vault was changed"
        } else {
            ""
        };
        format!(
            "{done} secret {} ({}){recorded}.",
            cell(&it["name"]),
            cell(&it["id"])
        )
    })?;
    Ok(Verdict::Good)
}

fn value(file: Option<&Path>) -> Result<Secret<String>, Failure> {
    let limit = u64::try_from(SECRET_BYTES_MAX).unwrap_or(u64::MAX) + 64;
    // Room for all of it, so that it does not grow and leave copies.
    let mut read = String::with_capacity(SECRET_BYTES_MAX + 64);
    let from: Box<dyn io::Read> = if let Some(path) = file {
        let file = std::fs::File::open(path);
        Box::new(file.map_err(|error| {
            Failure::Other(format!("cannot read `{}`: {error}", path.display()))
        })?)
    } else {
        if io::stdin().is_terminal() {
            output::warn("Type the secret, then Enter and Ctrl-D. It shows while you type.");
        }
        Box::new(io::stdin())
    };
    let done = from.take(limit).read_to_string(&mut read);
    let read = Secret::new(read);
    done.map(|_| read)
        .map_err(|error| Failure::Other(format!("cannot read the secret: {error}")))
}

fn table(secrets: &Value) -> String {
    let mut table = Table::new(["name", "id", "set", "used by"]);
    for it in secrets.as_array().into_iter().flatten() {
        let users = it["used_by"].as_array().into_iter().flatten();
        let users: Vec<String> = users.map(cell).collect();
        table.row([
            cell(&it["name"]),
            cell(&it["id"]),
            time(&it["set_at"]),
            users.join(", "),
        ]);
    }
    table.text("The vault is empty: tipstaff secret set NAME")
}
