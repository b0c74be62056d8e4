//! The workspace's own tasks: `cargo xtask test` is what CI runs and what you run.
//!
//! Nothing here is part of the product, and nothing of the product is used here: the tasks drive
//! cargo, Python, Node and Go from outside, so that they still work when the product does not build.

mod cite;
mod parts;
mod peers;
mod process;
mod reference;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use process::{command, must, say};

const HELP: &str = "\
cargo xtask TASK

  test [--only PART]...   set up what the tests need and run every part, or only those named:
                          fmt, clippy, tidy, build, unit, generated, interop, people, oracle
  tidy                    hold the rules of the workspace: arrows between crates, licences, sizes, words,
                          and that citations of specifications quote them
  cite [SPEC]             list the requirements of specifications (or of one) that no code or no test cites,
                          and fail on a citation that quotes nothing
  gen [--check]           write docs/reference from the code, or say whether it is stale
  bench [ARG]...          measure, in a release build; arguments go to the benchmark
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let root = root();
    match task.as_str() {
        "test" => match parts::select(&rest) {
            Ok(selected) => parts::run(&root, &selected),
            Err(error) => usage(&error),
        },
        "tidy" if rest.is_empty() => end(tidy::run(&root)),
        "cite" if rest.len() <= 1 => end(cite::run(&root, rest.first().map(String::as_str))),
        "gen" if rest.is_empty() => end(reference::write(&root, &root.join(reference::FOLDER))),
        "gen" if rest == ["--check"] => end(reference::check(&root)),
        "bench" => end(bench(&root, &rest)),
        "help" | "--help" | "-h" => {
            say(HELP);
            ExitCode::SUCCESS
        }
        "" => usage("no task given"),
        _ => usage(&format!("no task `{task}`")),
    }
}

fn end(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn bench(root: &Path, args: &[String]) -> Result<()> {
    let mut run = command(
        root,
        "cargo",
        ["run", "--release", "--package", "bench", "--"],
    );
    run.args(args);
    must(run)
}

fn usage(error: &str) -> ExitCode {
    say(&format!("{error}\n\n{HELP}"));
    ExitCode::from(2)
}

/// The workspace's folder: the one above this crate.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
