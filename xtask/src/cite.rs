//! `cargo xtask cite`: which requirements of the specifications that we implement are met by code
//! that says so, and held by a test that says so.
//!
//! `xtask/specs/*.toml` has the requirements, quoted. Code and tests cite them:
//!
//! ```text
//! //= https://www.rfc-editor.org/rfc/rfc7009#section-2.1
//! //= type=test
//! //# The authorization server first validates the client credentials
//! ```
//!
//! without `type=test` where it is met; with `type=exception` and `reason=…` where it is not, on
//! purpose. A quote may be a part of a requirement, or hold several; white space does not count. A
//! quote that is in no list is an error, and the number of requirements that lack a citation may
//! only shrink: `open` in each list says how many there may be.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process::say;
use crate::tidy::{Source, tracked};

#[cfg(test)]
mod tests;

/// Where the lists are kept, from the workspace's folder.
const FOLDER: &str = "xtask/specs";
/// Shorter quotes could be of anything.
const QUOTE_CHARS_MIN: usize = 12;

/// The requirements of a specification.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    /// What it is called.
    name: String,
    /// Its title, for people who read the list.
    #[serde(rename = "title")]
    _title: String,
    url: String,
    /// Requirements that are ours and lack a citation: at most so many.
    open: usize,
    requirement: Vec<Requirement>,
    /// Sentences that are cited and require nothing.
    #[serde(default)]
    also: Vec<Also>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    section: String,
    quote: String,
    /// Why it is for others to meet.
    not_ours: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Also {
    section: String,
    quote: String,
}

/// What a citation says of the requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Test,
    Exception,
}

/// A citation, as it stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Citation {
    place: String,
    url: String,
    section: String,
    kind: Kind,
    reason: bool,
    quote: String,
}

/// What is cited of one requirement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cited {
    code: bool,
    test: bool,
    exception: bool,
}

impl Cited {
    const fn is_open(self) -> bool {
        !(self.exception || self.code && self.test)
    }
}

/// Prints what each specification lacks (or only the one that is named), a table, and what is
/// wrong with the citations.
pub(crate) fn run(root: &Path, only: Option<&str>) -> Result<()> {
    let specs = specs(&tracked(root)?)?;
    let (citations, mut wrong) = citations(&tracked(root)?);
    let named = |spec: &Spec| {
        only.is_none_or(|only| {
            spec.name
                .replace(' ', "")
                .eq_ignore_ascii_case(&only.replace(' ', ""))
        })
    };
    if !specs.iter().any(named) {
        let known: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        bail!("no such list; there are: {}", known.join(", "));
    }
    let judged: Vec<_> = specs.iter().map(|spec| judge(spec, &citations)).collect();
    wrong.extend(unmatched(&specs, &citations));
    let mut table = row([
        "spec",
        "requirements",
        "ours",
        "met and tested",
        "met",
        "tested",
        "neither",
        "excepted",
    ]);
    for (spec, cited) in specs.iter().zip(&judged).filter(|(spec, _)| named(spec)) {
        list(spec, cited);
        table.push_str(&line(spec, cited));
    }
    say(&table);
    wrong.extend(ratchet(&specs, &judged));
    for finding in &wrong {
        say(finding);
    }
    for (spec, cited) in specs.iter().zip(&judged) {
        let open = open(spec, cited);
        if open < spec.open {
            say(&format!(
                "note: {} lacks {open}; `open` in its list may go down to that",
                spec.name
            ));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("cite found {} things", wrong.len())
}

/// What is wrong with the citations, for `tidy`.
pub(crate) fn check(files: &[Source]) -> Result<Vec<String>> {
    let specs = specs(files)?;
    let (citations, mut wrong) = citations(files);
    wrong.extend(unmatched(&specs, &citations));
    let judged: Vec<_> = specs.iter().map(|spec| judge(spec, &citations)).collect();
    wrong.extend(ratchet(&specs, &judged));
    Ok(wrong)
}

fn specs(files: &[Source]) -> Result<Vec<Spec>> {
    let lists = files.iter().filter(|file| {
        let path = Path::new(&file.path);
        path.starts_with(FOLDER) && path.extension().is_some_and(|it| it == "toml")
    });
    let read = lists.map(|file| {
        let spec: Spec =
            toml::from_str(&file.text).with_context(|| format!("reading {}", file.path))?;
        for requirement in &spec.requirement {
            if plain(&requirement.quote).len() < QUOTE_CHARS_MIN {
                bail!(
                    "{}: `{}` could be of anything",
                    file.path,
                    requirement.quote
                );
            }
        }
        Ok(spec)
    });
    read.collect()
}

/// Every citation in the sources, and what is wrong with how they are written.
fn citations(files: &[Source]) -> (Vec<Citation>, Vec<String>) {
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for file in files.iter().filter(|file| is_rust(&file.path)) {
        // This tool's own words are no citations.
        if file.path.starts_with("xtask/") {
            continue;
        }
        let (read, bad) = read(file);
        found.extend(read);
        wrong.extend(bad);
    }
    (found, wrong)
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|it| it == "rs")
}

fn read(file: &Source) -> (Vec<Citation>, Vec<String>) {
    let (mut found, mut wrong) = (Vec::<Citation>::new(), Vec::new());
    // Whether the last line belonged to a citation, which then is the last that was found.
    let mut inside = false;
    for (number, line) in file.text.lines().enumerate() {
        let place = format!("{}:{}", file.path, number + 1);
        let line = line.trim_start();
        if let Some(word) = line.strip_prefix("//=") {
            let word = word.trim();
            match (
                word.split_once("#section-"),
                found.last_mut().filter(|_| inside),
            ) {
                (Some((url, section)), _) => {
                    found.push(Citation {
                        place,
                        url: url.to_owned(),
                        section: section.to_owned(),
                        kind: Kind::Code,
                        reason: false,
                        quote: String::new(),
                    });
                    inside = true;
                }
                (None, Some(last)) => match word.split_once('=') {
                    Some(("type", "test")) => last.kind = Kind::Test,
                    Some(("type", "exception")) => last.kind = Kind::Exception,
                    Some(("reason", reason)) if !reason.trim().is_empty() => last.reason = true,
                    _ => wrong.push(format!("{place}: `{word}` is no part of a citation")),
                },
                (None, None) => {
                    wrong.push(format!("{place}: a citation begins with URL#section-N"));
                }
            }
        } else if let Some(quote) = line.strip_prefix("//#") {
            match found.last_mut().filter(|_| inside) {
                Some(last) => {
                    last.quote.push(' ');
                    last.quote.push_str(quote.trim());
                }
                None => wrong.push(format!(
                    "{place}: a quote without `//= URL#section-N` above it"
                )),
            }
        } else {
            inside = false;
        }
    }
    wrong.extend(
        found
            .iter()
            .filter(|it| it.kind == Kind::Exception && !it.reason)
            .map(|it| format!("{}: an exception says why: `//= reason=…`", it.place)),
    );
    (found, wrong)
}

/// Without white space, which differs between a text and its quotes, and the list markers and
/// marks of format that stand in some sources.
fn plain(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_whitespace() && *c != '`')
        .collect()
}

fn is_of(quote: &str, listed: &str) -> bool {
    let (quote, listed) = (plain(quote), plain(listed));
    quote.len() >= QUOTE_CHARS_MIN && (listed.contains(&quote) || quote.contains(&listed))
}

/// What is cited of each requirement of a specification.
fn judge(spec: &Spec, citations: &[Citation]) -> Vec<Cited> {
    let mut cited = vec![Cited::default(); spec.requirement.len()];
    for citation in citations.iter().filter(|it| it.url == spec.url) {
        for (requirement, cited) in spec.requirement.iter().zip(&mut cited) {
            if requirement.section == citation.section && is_of(&citation.quote, &requirement.quote)
            {
                match citation.kind {
                    Kind::Code => cited.code = true,
                    Kind::Test => cited.test = true,
                    Kind::Exception => cited.exception = true,
                }
            }
        }
    }
    cited
}

/// Quotes of a listed specification that are of no sentence in its list.
fn unmatched(specs: &[Spec], citations: &[Citation]) -> Vec<String> {
    let mut wrong = Vec::new();
    for citation in citations {
        // Of a specification without a list nothing is known.
        let Some(spec) = specs.iter().find(|spec| spec.url == citation.url) else {
            continue;
        };
        let listed = spec.requirement.iter().map(|it| (&it.section, &it.quote));
        let mut all = listed.chain(spec.also.iter().map(|it| (&it.section, &it.quote)));
        let mut elsewhere = None;
        let found = all.any(|(section, quote)| {
            let is = is_of(&citation.quote, quote);
            if is && *section != citation.section {
                elsewhere = Some(section.clone());
            }
            is && *section == citation.section
        });
        if found {
            continue;
        }
        let hint = match elsewhere {
            Some(section) => format!("it stands in section {section}"),
            None => format!(
                "mend the quote; if it is in the text and requires nothing, add it as [[also]] to its list in {FOLDER}"
            ),
        };
        wrong.push(format!(
            "{}: this is in no requirement of {} section {}: `{}`; {hint}",
            citation.place,
            spec.name,
            citation.section,
            citation.quote.trim()
        ));
    }
    wrong
}

fn open(spec: &Spec, cited: &[Cited]) -> usize {
    let ours = spec
        .requirement
        .iter()
        .zip(cited)
        .filter(|(it, _)| it.not_ours.is_none());
    ours.filter(|(_, cited)| cited.is_open()).count()
}

/// Lists whose number of open requirements grew.
fn ratchet(specs: &[Spec], judged: &[Vec<Cited>]) -> Vec<String> {
    let grown = specs.iter().zip(judged).filter_map(|(spec, cited)| {
        let open = open(spec, cited);
        (open > spec.open).then(|| {
            format!(
                "{}: {open} requirements lack a citation in code or in tests, and there may be {}: `cargo xtask cite \"{}\"` \
                 lists them",
                spec.name, spec.open, spec.name
            )
        })
    });
    grown.collect()
}

/// Prints what lacks code or a test.
fn list(spec: &Spec, cited: &[Cited]) {
    let mut sections: BTreeMap<usize, String> = BTreeMap::new();
    let ours = spec.requirement.iter().zip(cited).enumerate();
    for (nth, (requirement, cited)) in ours {
        if requirement.not_ours.is_some() || !cited.is_open() {
            continue;
        }
        let lacks = match (cited.code, cited.test) {
            (false, false) => "neither",
            (false, true) => "no code",
            (true, _) => "no test",
        };
        let text = format!(
            "  {:<8} {lacks}: {}",
            requirement.section, requirement.quote
        );
        sections.insert(nth, text);
    }
    if sections.is_empty() {
        return;
    }
    say(&format!("{} ({})", spec.name, spec.url));
    for text in sections.values() {
        say(text);
    }
    say("");
}

fn line(spec: &Spec, cited: &[Cited]) -> String {
    let ours: Vec<Cited> = spec
        .requirement
        .iter()
        .zip(cited)
        .filter(|(it, _)| it.not_ours.is_none())
        .map(|(_, cited)| *cited)
        .collect();
    let count =
        |which: fn(&Cited) -> bool| ours.iter().filter(|cited| which(cited)).count().to_string();
    row([
        &spec.name,
        &spec.requirement.len().to_string(),
        &ours.len().to_string(),
        &count(|it| !it.exception && it.code && it.test),
        &count(|it| !it.exception && it.code && !it.test),
        &count(|it| !it.exception && !it.code && it.test),
        &count(|it| !it.exception && !it.code && !it.test),
        &count(|it| it.exception),
    ])
}

fn row<const N: usize>(cells: [&str; N]) -> String {
    let mut text = String::new();
    for cell in cells {
        let _infallible = write!(text, "{cell:<16}");
    }
    format!("{}\n", text.trim_end())
}
