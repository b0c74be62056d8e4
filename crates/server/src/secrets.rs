//! What the configuration refers to, and changes of the local vault by a running node.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use broker::{Changed, Vault, VaultError};
use ledger::Actor;
use register::entry::{VaultChange, VaultChanged};
use register::{Command, CommandError, Control, Done};
use serde::Serialize;
use serde_json::{Value, json};
use vocab::{RecordRef, Secret, SecretName, Time};

use crate::config::{Config, Reference, Transport};
use crate::node::Shared;

/// Why the vault was not changed, or its change is not on record.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The vault did not do it.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The vault was changed, and that could not be put on record.
    #[error("the vault was changed, which the next start puts on record: {0}")]
    Command(#[from] CommandError),
    /// It was interrupted.
    #[error("the vault's change was interrupted; `tipstaff secret list` says what it has")]
    Interrupted,
}

/// A secret as people see it: all but its value.
#[derive(Debug, Serialize)]
pub struct SecretView {
    /// Its name.
    pub name: SecretName,
    /// What stands for its name in records.
    pub id: vocab::Handle,
    /// When it was set.
    pub set_at: Time,
    /// What refers to it, by keys of the configuration.
    pub used_by: Vec<String>,
}

/// Everything that the configuration refers to, by its keys.
pub fn references(config: &Config) -> Vec<(String, &Reference)> {
    let mut named: Vec<(String, &Reference)> = Vec::new();
    let provider = config.login.provider.as_ref();
    let secret = provider.and_then(|it| it.client_secret.as_ref());
    named.extend(secret.map(|it| ("login.client_secret".to_owned(), it)));
    let directory = config.directory.as_ref().and_then(|it| it.token.as_ref());
    named.extend(directory.map(|it| ("directory.token".to_owned(), it)));
    let webhook = config.approvals.webhook.as_ref();
    named.extend(webhook.map(|it| ("approvals.webhook_secret".to_owned(), &it.secret)));
    for (name, it) in &config.signals {
        let polled = it.poll.as_ref().and_then(|poll| poll.token.as_ref());
        let pushed = it.authorization.as_ref();
        named.extend(pushed.map(|it| (format!("ssf.{name}.authorization"), it)));
        named.extend(polled.map(|it| (format!("ssf.{name}.poll_token"), it)));
    }
    for (name, it) in &config.openbao {
        let (key, source) = it.auth.source();
        named.push((format!("openbao.{name}.{key}"), source));
    }
    named.extend(of_upstreams(config));
    named
}

/// Where secrets lie in files: what no child may reach into.
pub fn files(config: &Config) -> Vec<PathBuf> {
    let named = references(config).into_iter();
    let files = named.filter_map(|(_, it)| match it {
        Reference::File(path) => Some(path.clone()),
        Reference::Env(_) | Reference::Vault(_) | Reference::OpenBao(_) | Reference::Plain(_) => {
            None
        }
    });
    std::iter::once(config.agents()).chain(files).collect()
}

/// What upstreams are reached with, by keys of the configuration.
pub fn of_upstreams(config: &Config) -> Vec<(String, &Reference)> {
    let all = config.upstreams.iter().flat_map(|(name, it)| {
        let sources = it.references();
        sources.map(move |(key, source)| (format!("upstream.{name}.{key}"), source))
    });
    all.collect()
}

/// Upstreams that would be sent a secret in clear, over a network.
pub fn in_clear(config: &Config) -> Vec<&vocab::UpstreamName> {
    let is_clear = |transport: &Transport| match transport {
        Transport::Http { url } => url.parse::<http::Uri>().is_ok_and(|url| {
            let host = url.host().unwrap_or_default();
            url.scheme_str() == Some("http")
                && !matches!(host, "localhost" | "[::1]")
                && !host.starts_with("127.")
        }),
        Transport::Stdio { .. } | Transport::Elsewhere { .. } => false,
    };
    let clear = config.upstreams.iter().filter(|(_, it)| {
        is_clear(&it.transport) && it.references().any(|(_, source)| source.is_secret())
    });
    clear.map(|(name, _)| name).collect()
}

/// Files with secrets that others than their owner may read.
pub fn open_files(config: &Config) -> Vec<PathBuf> {
    let files = references(config)
        .into_iter()
        .filter_map(|(_, it)| match it {
            Reference::File(path) => Some(path.clone()),
            Reference::Env(_)
            | Reference::Vault(_)
            | Reference::OpenBao(_)
            | Reference::Plain(_) => None,
        });
    let mut open: Vec<_> = files
        .filter(|path| crate::keys::is_open_to_others(path).unwrap_or(false))
        .collect();
    open.sort();
    open.dedup();
    open
}

/// What the vault holds, and what refers to it.
pub fn list(config: &Config, vault: &Vault) -> Result<Vec<SecretView>, VaultError> {
    let mut used: BTreeMap<&SecretName, Vec<String>> = BTreeMap::new();
    for (key, reference) in references(config) {
        if let Reference::Vault(name) = reference {
            used.entry(name).or_default().push(key);
        }
    }
    let listed = vault.list()?.into_iter();
    let views = listed.map(|it| SecretView {
        used_by: used.get(&it.name).cloned().unwrap_or_default(),
        name: it.name,
        id: it.id,
        set_at: it.set_at,
    });
    Ok(views.collect())
}

/// What is to become of a secret.
#[derive(Debug)]
pub enum Change {
    /// It is put in.
    Set(Secret<String>),
    /// It is taken out.
    Remove,
}

impl Change {
    /// Makes it. Blocks on the disk.
    pub fn make(
        &self,
        vault: &Vault,
        name: &SecretName,
        by: broker::Change<'_>,
    ) -> Result<Changed, VaultError> {
        match self {
            Self::Set(value) => vault.set(name, value, by),
            Self::Remove => vault.remove(name, by),
        }
    }

    const fn kind(&self) -> VaultChange {
        match self {
            Self::Set(_) => VaultChange::Set,
            Self::Remove => VaultChange::Removed,
        }
    }
}

/// Changes the vault of a running node. A crash before it is on record leaves it changed; the next
/// start finds that.
pub async fn change(
    shared: &Shared,
    actor: Actor,
    name: SecretName,
    change: Change,
) -> Result<Value, SecretError> {
    let _alone = shared.changing_secrets.lock().await;
    let kind = change.kind();
    let (vault, told) = (shared.config.vault(), name.clone());
    let (clock, rng) = (shared.clock.clone(), shared.rng.clone());
    let recorded = shared.plane.control().view(register::State::vault);
    let making = move || {
        let by = broker::Change {
            recorded,
            now: clock.now(),
            rng: &*rng,
        };
        change.make(&vault, &name, by)
    };
    let made = tokio::task::spawn_blocking(making).await;
    let changed = made.map_err(|_| SecretError::Interrupted)??;
    let id = changed.handle.clone();
    let body = VaultChanged {
        change: kind,
        secret: Some(changed.handle),
        generation: changed.generation,
    };
    let records = record(shared.plane.control(), actor, body).await?;
    Ok(json!({"name": told, "id": id, "changed": true, "records": records}))
}

/// Takes a vault that was set back for the one that there is.
pub async fn accept(shared: &Shared, actor: Actor) -> Result<Value, SecretError> {
    let _alone = shared.changing_secrets.lock().await;
    let (vault, rng) = (shared.config.vault(), shared.rng.clone());
    let recorded = shared.plane.control().view(register::State::vault);
    let accepting = tokio::task::spawn_blocking(move || vault.accept(recorded, &*rng));
    let generation = accepting.await.map_err(|_| SecretError::Interrupted)??;
    let body = VaultChanged {
        change: VaultChange::Accepted,
        secret: None,
        generation,
    };
    let records = record(shared.plane.control(), actor, body).await?;
    Ok(json!({"generation": generation, "changed": true, "records": records}))
}

async fn record(
    control: &Arc<Control>,
    actor: Actor,
    body: VaultChanged,
) -> Result<Vec<RecordRef>, CommandError> {
    let command = Command::ChangeVault(body);
    Ok(match control.execute(actor, command).await? {
        Done::Changed { records, .. } => records,
        Done::Started { .. } | Done::Continued { .. } | Done::Unchanged { .. } => Vec::new(),
    })
}

/// Puts on record what was changed while no node ran, and says what is wrong with the vault.
pub async fn settle(
    vault: &Vault,
    control: &Arc<Control>,
    actor: Actor,
) -> Result<(), CommandError> {
    let generation = match vault.generation() {
        Ok(generation) => generation,
        Err(error) => {
            tracing::error!(error = %error, "The vault cannot be used, nor what refers to it");
            return Ok(());
        }
    };
    let recorded = control.view(register::State::vault);
    let change = if generation < recorded {
        tracing::error!("{}", set_back(generation, recorded));
        VaultChange::SetBack
    } else {
        VaultChange::Found
    };
    let body = VaultChanged {
        change,
        secret: None,
        generation,
    };
    record(control, actor, body).await.map(drop)
}

/// That the vault is an old one.
pub fn set_back(generation: u64, recorded: u64) -> VaultError {
    VaultError::SetBack {
        generation,
        recorded,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// An agent that may read files through one upstream must not read what another is reached with.
    #[test]
    fn no_child_reaches_into_files_that_secrets_lie_in() {
        let text = r#"
            trust_domain = "acme.example"
            [approvals]
            webhook = "https://hooks.example/x"
            webhook_secret = "file:hook"
            [upstream.a]
            url = "https://a.example/mcp"
            headers = { Authorization = "Bearer {file:secrets/a}", X-B = "vault:b" }
            [upstream.c]
            command = ["c"]
            env = { C = "file:/run/c", D = "env:D" }
        "#;
        let config = Config::parse(Path::new("/srv/gate/tipstaff.toml"), text).unwrap();
        let expected = [
            "/srv/gate/agents",
            "/srv/gate/hook",
            "/srv/gate/secrets/a",
            "/run/c",
        ];
        assert_eq!(files(&config), expected.map(PathBuf::from));
    }
}
