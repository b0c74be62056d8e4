//! What the configuration names, and whether it is there: files, references, agents.

use std::fs;
use std::path::Path;

use super::Finding;
use crate::config::{Config, Jwks, Reference, Transport};
use crate::node::Shared;

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

/// References of the configuration, as whoever runs the command resolves them.
pub(super) fn references(config: &Config) -> Vec<Finding> {
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
    let unresolved = named.into_iter().filter_map(|(key, reference)| {
        let why = config.secret(reference).err()?;
        Some(Finding::warn(
            "config",
            format!("`{key}`: {why}, as far as this command sees"),
            "set it where the node starts: without it the node does not",
        ))
    });
    unresolved.collect()
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
