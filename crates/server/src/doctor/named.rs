//! What the configuration names, and whether it is there: files, references, agents.

use std::fs;
use std::path::Path;

use super::Finding;
use crate::config::{Config, Jwks, Reference, Transport};
use crate::node::Shared;
use crate::secrets;

/// Files that the configuration names.
pub(super) fn files(config: &Config) -> Vec<Finding> {
    let workloads = config.workloads.iter();
    let workloads = workloads.map(|(name, it)| (format!("workload.{name}.jwks"), it.jwks.as_ref()));
    let signals = config.signals.iter();
    let signals = signals.map(|(name, it)| (format!("ssf.{name}.jwks"), it.jwks.as_ref()));
    let keys = workloads
        .chain(signals)
        .filter_map(|(key, jwks)| match jwks {
            Some(Jwks::File(path)) => Some((key, path)),
            Some(Jwks::Url(_)) | None => None,
        });
    let services = config.upstreams.iter();
    let services = services.filter_map(|(name, it)| match &it.transport {
        Transport::Elsewhere { actions, .. } => Some((format!("service.{name}.actions"), actions)),
        Transport::Stdio { .. } | Transport::Http { .. } => None,
    });
    let named = keys.chain(services);
    named
        .filter_map(|(key, path)| unreadable(&key, path))
        .collect()
}

fn unreadable(key: &str, path: &Path) -> Option<Finding> {
    let error = fs::File::open(path).err()?;
    Some(Finding::fail(
        "config",
        format!("`{key}`: cannot read `{}`: {error}", path.display()),
        "put the file there, or name another",
    ))
}

/// Why a reference gives nothing. What another machine gives is not asked for to look whether it does.
fn unresolved(config: &Config, reference: &Reference) -> Option<String> {
    match reference {
        Reference::OpenBao(_) => None,
        reference => config.secret(reference).err(),
    }
}

/// References of the configuration, as whoever runs the command resolves them.
pub(super) fn references(config: &Config) -> Vec<Finding> {
    let unresolved = secrets::references(config);
    let unresolved = unresolved.into_iter().filter_map(|(key, reference)| {
        let why = self::unresolved(config, reference)?;
        Some(Finding::warn(
            "config",
            format!("`{key}`: {why}, as far as this command sees"),
            "set it where the node starts: without it the node does not, or sends an upstream nothing",
        ))
    });
    unresolved.chain(exposed(config)).collect()
}

/// References of upstreams as the node resolves them, and what its vault is.
pub(super) fn secrets(shared: &Shared) -> Vec<Finding> {
    let config = &shared.config;
    let unresolved = secrets::of_upstreams(config).into_iter();
    let unresolved = unresolved.filter_map(|(key, reference)| {
        let why = self::unresolved(config, reference)?;
        Some(Finding::fail(
            "secrets",
            format!("`{key}`: {why}, so nothing is sent there"),
            "put it there: the next call has it; a variable needs a restart of the node",
        ))
    });
    let known = shared.plane.control().view(register::State::vault);
    let vault = match config.vault().generation() {
        Ok(generation) if generation < known => Some(Finding::fail(
            "secrets",
            secrets::set_back(generation, known).to_string(),
            "bring back the vault of the last backup, or `tipstaff secret accept`, then set again \
             what was changed since",
        )),
        Ok(_) => None,
        Err(error) => Some(Finding::fail(
            "secrets",
            error.to_string(),
            "bring back the vault and its key from one backup",
        )),
    };
    unresolved.chain(vault).chain(exposed(config)).collect()
}

/// Secrets that others could read.
fn exposed(config: &Config) -> impl Iterator<Item = Finding> {
    let open = secrets::open_files(config).into_iter().map(|path| {
        let path = path.display();
        Finding::warn(
            "secrets",
            format!("`{path}` can be read by others than its owner"),
            format!("chmod go= '{path}', and if somebody may have read it, make another secret"),
        )
    });
    let clear = secrets::in_clear(config).into_iter().map(|name| {
        Finding::warn(
            "secrets",
            format!("`upstream.{name}` is sent its credential in clear, over http"),
            "use https",
        )
    });
    open.chain(clear.collect::<Vec<_>>())
}

/// Agents that rules for workloads name and nobody registered.
pub(super) fn agents(shared: &Shared) -> Vec<Finding> {
    shared.plane.control().view(|state| {
        let rules = shared.config.workloads.iter();
        let rules = rules.flat_map(|(name, it)| it.rules.iter().map(move |rule| (name, rule)));
        let unknown = rules.filter(|(_, rule)| state.agent(&rule.agent).is_none());
        let found = unknown.map(|(name, rule)| {
            let agent = &rule.agent;
            Finding::warn(
                "workloads",
                format!(
                    "a rule of `workload.{name}` names agent `{agent}`, which is not registered"
                ),
                format!("`tipstaff agent add {agent}`, or mend the rule"),
            )
        });
        found.collect()
    })
}
