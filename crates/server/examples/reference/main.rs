//! Writes the reference under `docs/reference`, from the code: `cargo xtask gen`.
//!
//! The command line comes from its definition, numbers and codes from the types that answer with
//! them, and meanings from the documentation of those types, read out of their sources. Where a
//! meaning has to be added (what to do about an error, what a key of the configuration is for) it
//! stands in a table here, and a table that misses something, or has something that is no more, is
//! an error. An example, so that the program does not carry it.

mod cli;
mod config;
mod errors;
mod findings;
mod metrics;
mod policies;
mod records;
mod source;

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A page: its file and its text.
type Page = (&'static str, fn(&Sources) -> Result<String>);

const PAGES: &[Page] = &[
    ("cli.md", |_| Ok(cli::page())),
    ("config.md", config::page),
    ("errors.md", errors::page),
    ("findings.md", |_| findings::page()),
    ("metrics.md", |_| Ok(metrics::page())),
    ("policy-vocabulary.md", policies::page),
    ("records.md", records::page),
];

const MARK: &str = "<!-- Written by `cargo xtask gen` from the code. Change it there. -->\n";

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).context("usage: reference FOLDER")?;
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder)?;
    let sources = Sources(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    for (file, page) in PAGES {
        let text = page(&sources).with_context(|| format!("writing {file}"))?;
        std::fs::write(folder.join(file), format!("{MARK}\n{}\n", text.trim_end()))?;
    }
    Ok(())
}

/// The folder of the crates.
struct Sources(PathBuf);

impl Sources {
    /// The text of a file, `ledger/src/entry.rs` for example.
    fn text(&self, path: &str) -> Result<String> {
        std::fs::read_to_string(self.0.join(path)).with_context(|| format!("reading {path}"))
    }

    /// The texts of all sources below a folder, but for tests.
    fn tree(&self, path: &str) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        let mut folders = vec![self.0.join(path)];
        while let Some(folder) = folders.pop() {
            for file in std::fs::read_dir(&folder)? {
                let path = file?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if path.is_dir() {
                    folders.push(path);
                } else if name.ends_with(".rs") && !name.contains("tests") {
                    texts.push(std::fs::read_to_string(path)?);
                }
            }
        }
        Ok(texts)
    }

    fn items(&self, path: &str) -> Result<source::Items> {
        Ok(source::Items::read(&self.text(path)?))
    }
}

/// A table's row. What stands in a cell is Markdown already, but for line ends and bars.
fn row(cells: &[&str]) -> String {
    let cells: Vec<String> = cells
        .iter()
        .map(|cell| cell.replace('|', "\\|").replace('\n', " "))
        .collect();
    format!("| {} |\n", cells.join(" | "))
}

/// A table's head.
fn head(cells: &[&str]) -> String {
    row(cells) + &row(&vec!["---"; cells.len()])
}

fn add(page: &mut String, text: fmt::Arguments<'_>) {
    let _infallible = page.write_fmt(text);
}

fn code(text: &str) -> String {
    format!("`{text}`")
}
