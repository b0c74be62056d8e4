//! The blobs: whether each is what its name says, and whether those that the logs name are there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use ledger::Blobs as _;
use serde::Serialize;
use store::FileBlobs;
use vocab::Digest;

use super::{FAULTS_TOLD_MAX, length, unsound_by};
use crate::output;

/// What the blobs came to.
#[derive(Debug, Default, Serialize)]
pub struct BlobCheck {
    /// How many there are.
    pub count: u64,
    /// What is wrong, in short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is wrong, one by one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

/// Checks every blob, and that those that are `named` are there.
pub(super) fn check(data: &Path, named: &BTreeMap<Digest, String>) -> BlobCheck {
    let folder = data.join("blobs");
    let blobs = FileBlobs::open(&folder);
    let mut faults = Vec::new();
    let listed = blobs.list().unwrap_or_else(|error| {
        faults.push(format!("`{}`: {error}", folder.display()));
        Vec::new()
    });
    for digest in &listed {
        match blobs.get(digest) {
            Ok(Some(_)) => {}
            // Gone since it was listed.
            Ok(None) => faults.push(format!("`{}` is missing", name(digest))),
            Err(error) => faults.push(format!("`{}`: {error}", name(digest))),
        }
    }
    for (digest, by) in named {
        if listed.binary_search(digest).is_err() {
            faults.push(format!("`{}` is missing; {by} names it", name(digest)));
        }
    }
    let error = unsound_by(length(&faults));
    faults.truncate(FAULTS_TOLD_MAX);
    BlobCheck {
        count: length(&listed),
        error,
        faults,
    }
}

/// Its file in the data folder.
fn name(digest: &Digest) -> String {
    let hex = digest.to_string();
    let folder = hex.get(..2).unwrap_or_default();
    format!("blobs/{folder}/{hex}")
}

impl BlobCheck {
    pub(super) fn tell(&self, text: &mut String) {
        let verdict = self.error.as_deref().unwrap_or("sound");
        let _infallible = writeln!(text, "blobs: {verdict}");
        let mut lines = output::Lines::default();
        lines.line("  kept", self.count.to_string());
        for fault in &self.faults {
            lines.line("  WRONG", fault.clone());
        }
        text.push_str(&lines.text());
    }
}
