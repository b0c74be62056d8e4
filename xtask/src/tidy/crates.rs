//! Which crate may know which: the arrow of the design, and who alone may use what from outside.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{array, string};

#[cfg(test)]
mod tests;

/// The arrow, most basic first. A crate may use those of earlier rows, never its neighbours in a row.
const ROWS: &[&[&str]] = &[
    &["vocab", "tipstaff-pep"],
    &["ledger", "mcp", "policy", "inspect"],
    &["store", "register"],
    &["tokens", "broker"],
    &["gateway", "directory", "evidence", "discovery"],
    &["server"],
    &["testkit"],
    &["bench", "bodies"],
    &["xtask"],
];

/// Crates that only the named ones may use: a rule of the design that Cargo cannot say.
const ONLY: &[(&str, &[&str])] = &[
    ("cedar-policy", &["policy"]),
    ("jsonschema", &["policy"]),
    ("jsonwebtoken", &["tokens"]),
    ("landlock", &["gateway"]),
    ("clap", &["server"]),
    ("tracing-subscriber", &["server"]),
    ("tipstaff-pep", &["testkit"]),
    ("testkit", &[]),
    ("bench", &[]),
    ("bodies", &[]),
    ("gateway", &["server", "testkit", "bodies"]),
    ("directory", &["server", "testkit", "bodies"]),
    ("server", &["testkit", "bench", "bodies"]),
    ("anyhow", &["server", "testkit", "bench", "xtask"]),
];

/// Crates that do no IO, and what would let them.
const PURE: &[&str] = &["vocab", "ledger", "mcp", "policy", "inspect", "register"];
const IO: &[&str] = &[
    "axum",
    "hyper",
    "hyper-util",
    "hyper-rustls",
    "reqwest",
    "rustix",
    "tempfile",
    "landlock",
    "store",
];

/// Two TLS stacks, or one in C, is one too many.
const BANNED: &[&str] = &["openssl-sys", "native-tls", "aws-lc-sys", "reqwest"];

/// One crate using another.
struct Edge<'a> {
    from: &'a str,
    to: &'a str,
    dev: bool,
}

pub(super) fn arrows(metadata: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for edge in edges(metadata) {
        wrong.extend(judge(&edge));
    }
    for package in array(metadata, "packages") {
        if let Some(name) = string(package, "name").filter(|name| BANNED.contains(name)) {
            wrong.push(format!(
                "Cargo.lock: `{name}` is not to be built, whoever asks for it"
            ));
        }
    }
    wrong
}

fn judge(edge: &Edge<'_>) -> Option<String> {
    let Edge { from, to, dev } = *edge;
    let Some(from_row) = row(from) else {
        return Some(format!(
            "crate `{from}` has no place in the table of arrows"
        ));
    };
    // What tests use is not part of a crate: only the arrow among our own holds for it.
    if dev && to == "testkit" {
        return None;
    }
    if row(to).is_some_and(|to_row| to_row >= from_row) {
        return Some(format!(
            "`{from}` uses `{to}`: the arrow goes the other way"
        ));
    }
    if dev {
        return None;
    }
    if ONLY
        .iter()
        .any(|(name, users)| *name == to && !users.contains(&from))
    {
        return Some(format!("`{from}` uses `{to}`, which is not for it to know"));
    }
    if PURE.contains(&from) && IO.contains(&to) {
        return Some(format!("`{from}` uses `{to}`, but does no IO"));
    }
    None
}

fn row(name: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&name))
}

fn edges(metadata: &Value) -> Vec<Edge<'_>> {
    let mut edges = Vec::new();
    for package in members(metadata) {
        for dependency in array(package, "dependencies") {
            if let (Some(from), Some(to)) = (string(package, "name"), string(dependency, "name")) {
                edges.push(Edge {
                    from,
                    to,
                    dev: string(dependency, "kind") == Some("dev"),
                });
            }
        }
    }
    edges
}

fn members(metadata: &Value) -> impl Iterator<Item = &Value> {
    let ids: Vec<&str> = array(metadata, "workspace_members")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    array(metadata, "packages")
        .iter()
        .filter(move |package| string(package, "id").is_some_and(|id| ids.contains(&id)))
}

/// The root manifest lists the members in the order of the arrow, each with a word about it; every
/// member takes the workspace's lints and is never published.
pub(super) fn order(metadata: &Value, manifest: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let listed: Vec<(&str, &str)> = manifest
        .lines()
        .skip_while(|line| !line.starts_with("members = ["))
        .skip(1)
        .take_while(|line| !line.starts_with(']'))
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\","))
        .collect();
    let rows: Vec<Option<usize>> = listed
        .iter()
        .map(|(path, _)| row(path.rsplit('/').next().unwrap_or(path)))
        .collect();
    if !rows.is_sorted() {
        wrong.push("Cargo.toml: the members are not in the order of the arrow".to_owned());
    }
    for (path, comment) in &listed {
        if comment.trim().trim_start_matches('#').trim().is_empty() {
            wrong.push(format!("Cargo.toml: member `{path}` has no word about it"));
        }
    }
    let mut names: BTreeMap<&str, bool> = listed
        .iter()
        .map(|(path, _)| (path.rsplit('/').next().unwrap_or(path), false))
        .collect();
    for package in members(metadata) {
        let name = string(package, "name").unwrap_or_default();
        names.insert(name, true);
        if package
            .get("publish")
            .and_then(Value::as_array)
            .is_none_or(|to| !to.is_empty())
        {
            wrong.push(format!("crate `{name}` could be published"));
        }
        let own =
            string(package, "manifest_path").and_then(|path| std::fs::read_to_string(path).ok());
        if !own.is_some_and(|own| own.contains("[lints]\nworkspace = true")) {
            wrong.push(format!(
                "crate `{name}` does not take the workspace's lints"
            ));
        }
    }
    for (name, _) in names.iter().filter(|(_, is_member)| !**is_member) {
        wrong.push(format!(
            "Cargo.toml: the folder of `{name}` has another name than its crate"
        ));
    }
    wrong
}
