//! What our files may not say, how long they may grow, and how a crate introduces itself.

use super::Source;

#[cfg(test)]
mod tests;

/// Beyond this a file holds two things.
const LINES_MAX: usize = 1_200;

/// Files that were longer when the rule came. A number here may only go down, to where the line goes away.
const LONGER: &[(&str, usize)] = &[];

/// What a crate must at least say about itself, in characters.
const MODULE_DOC_MIN: usize = 120;

/// Words that are refused, where, and why. Split, so that this file does not hold them.
const WORDS: &[(&[&str], &[&str], &str)] = &[
    (
        &["#[ig", "nore"],
        &["rs"],
        "a test that does not run is not a test",
    ),
    (&["to", "do!("], &["rs"], "unfinished"),
    (&["unimpl", "emented!("], &["rs"], "unfinished"),
    (&["db", "g!("], &["rs"], "left over from a search"),
    (
        &["pytest.mark.", "skip"],
        &["py"],
        "a test that does not run is not a test",
    ),
    (
        &["unittest.", "skip"],
        &["py"],
        "a test that does not run is not a test",
    ),
    (
        &["xf", "ail"],
        &["py"],
        "assert the wrong behaviour with a reason, or mend it",
    ),
    (
        &["test.", "skip("],
        &["ts", "js", "mjs"],
        "a test that does not run is not a test",
    ),
    (
        &["it.", "skip("],
        &["ts", "js", "mjs"],
        "a test that does not run is not a test",
    ),
    (&["/wo", "rk/"], &[], "a path of somebody's machine"),
    (&["/ro", "ot/"], &[], "a path of somebody's machine"),
    (
        &["registry.", "npmjs"],
        &[],
        "the host of a registry: whoever builds configures theirs",
    ),
    (
        &["pypi.", "org"],
        &[],
        "the host of a registry: whoever builds configures theirs",
    ),
    (
        &["files.pyth", "onhosted"],
        &[],
        "the host of a registry: whoever builds configures theirs",
    ),
    (
        &["index.cra", "tes.io"],
        &[],
        "the host of a registry: whoever builds configures theirs",
    ),
    (
        &["static.cra", "tes.io"],
        &[],
        "the host of a registry: whoever builds configures theirs",
    ),
    (
        &["deb.deb", "ian.org"],
        &[],
        "the host of a registry: whoever builds configures theirs",
    ),
    (
        &["proxy.gol", "ang.org"],
        &[],
        "the host of a registry: whoever builds configures theirs",
    ),
];

/// Not ours to word or to shorten.
const NOT_OURS: &[&str] = &["Cargo.lock", "LICENSE"];

pub(super) fn check(files: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files
        .iter()
        .filter(|file| !NOT_OURS.contains(&file.path.as_str()))
    {
        wrong.extend(words(file));
        wrong.extend(length(file, LONGER));
        wrong.extend(introduction(file));
    }
    for (path, _) in LONGER {
        if !files.iter().any(|file| file.path == *path) {
            wrong.push(format!(
                "{path}: gone, so take it off the list of longer files"
            ));
        }
    }
    wrong
}

fn words(file: &Source) -> Vec<String> {
    let extension = file
        .path
        .rsplit_once('.')
        .map_or("", |(_, extension)| extension);
    let mut wrong = Vec::new();
    for (word, extensions, why) in WORDS {
        if !extensions.is_empty() && !extensions.contains(&extension) {
            continue;
        }
        let word = word.concat();
        for (number, line) in file.text.lines().enumerate() {
            if line.contains(&word) {
                wrong.push(format!("{}:{}: `{word}`: {why}", file.path, number + 1));
            }
        }
    }
    wrong
}

fn length(file: &Source, longer: &[(&str, usize)]) -> Option<String> {
    let lines = file.text.lines().count();
    let path = &file.path;
    match longer.iter().find(|(listed, _)| listed == path) {
        Some((_, max)) if lines > *max => {
            Some(format!("{path}: {lines} lines, was {max}: only shorter"))
        }
        Some(_) if lines <= LINES_MAX => Some(format!(
            "{path}: {lines} lines, so take it off the list of longer files"
        )),
        Some((_, max)) if lines < *max => Some(format!(
            "{path}: {lines} lines, so write that for {max} in the list of longer files"
        )),
        None if lines > LINES_MAX && is_source(path) => {
            Some(format!("{path}: {lines} lines, more than {LINES_MAX}"))
        }
        Some(_) | None => None,
    }
}

fn is_source(path: &str) -> bool {
    ["rs", "py", "ts", "go"].contains(&extension(path))
}

fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

/// A crate opens with what it is for and what it must never do; any other file of code, with what it is.
fn introduction(file: &Source) -> Option<String> {
    let path = &file.path;
    if extension(path) != "rs" || path.ends_with("tests.rs") || path.contains("/tests/") {
        return None;
    }
    let doc: Vec<&str> = file
        .text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .collect();
    let said = doc.concat().chars().count();
    if said == 0 {
        return Some(format!("{path}: does not open with what it is (`//!`)"));
    }
    if path.ends_with("/src/lib.rs") && said < MODULE_DOC_MIN {
        return Some(format!(
            "{path}: says too little about what the crate is for and never does"
        ));
    }
    None
}
