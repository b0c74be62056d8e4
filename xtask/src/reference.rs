//! `cargo xtask gen`: the reference under `docs/reference`, written from the code, and whether it is stale.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::process::{command, must};

/// Where the reference is kept, from the workspace's folder.
pub(crate) const FOLDER: &str = "docs/reference";

/// Writes the reference into `folder`.
pub(crate) fn write(root: &Path, folder: &Path) -> Result<()> {
    let args = [
        "run",
        "--quiet",
        "--locked",
        "--package",
        "server",
        "--example",
        "reference",
        "--",
    ];
    let mut run = command(root, "cargo", args);
    run.arg(folder);
    must(run)
}

/// Fails if what is kept is not what the code says now.
pub(crate) fn check(root: &Path) -> Result<()> {
    let (kept, fresh) = (root.join(FOLDER), root.join("target").join("reference"));
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh).context("removing the last reference")?;
    }
    write(root, &fresh)?;
    let stale: Vec<String> = files(&kept)?
        .union(&files(&fresh)?)
        .filter(|file| std::fs::read(kept.join(file)).ok() != std::fs::read(fresh.join(file)).ok())
        .cloned()
        .collect();
    if stale.is_empty() {
        return Ok(());
    }
    bail!(
        "stale in {FOLDER}: {}; run `cargo xtask gen` and commit",
        stale.join(", ")
    )
}

fn files(folder: &Path) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    if folder.exists() {
        for entry in std::fs::read_dir(folder)? {
            files.insert(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(files)
}
