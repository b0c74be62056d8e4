//! `cargo xtask tidy`: the rules of the workspace that a compiler does not hold.
//!
//! Every rule is a ratchet: what breaks it today is in a list, and a list may only shrink. A rule
//! returns what it found wrong; it never stops at the first.

mod crates;
mod licences;
mod text;

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cite;
use crate::process::{command, output, say};

/// Holds every rule, prints each thing found wrong, and fails if there was any.
pub(crate) fn run(root: &Path) -> Result<()> {
    let metadata = metadata(root)?;
    let manifest = read(root, "Cargo.toml")?;
    let files = tracked(root)?;
    let mut wrong = crates::arrows(&metadata);
    wrong.extend(crates::order(&metadata, &manifest));
    wrong.extend(licences::check(&metadata));
    wrong.extend(text::check(&files));
    wrong.extend(cite::check(&files)?);
    for finding in &wrong {
        say(finding);
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("tidy found {} things", wrong.len())
}

fn metadata(root: &Path) -> Result<Value> {
    let args = ["metadata", "--format-version", "1", "--locked"];
    let bytes = output(command(root, "cargo", args))?;
    serde_json::from_slice(&bytes).context("reading what cargo metadata says")
}

/// A file of ours that is text.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// What git knows, so that build products are not ours; new files count before they are committed.
pub(crate) fn tracked(root: &Path) -> Result<Vec<Source>> {
    let args = [
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ];
    let listed = String::from_utf8(output(command(root, "git", args))?)?;
    let mut sources = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        // A path that was deleted but not committed yet, or a binary file, has nothing to hold.
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            sources.push(Source {
                path: path.to_owned(),
                text,
            });
        }
    }
    Ok(sources)
}

fn read(root: &Path, path: &str) -> Result<String> {
    std::fs::read_to_string(root.join(path)).with_context(|| format!("reading {path}"))
}

/// The members of an array in cargo's metadata; none where it is absent.
fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn string<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}
