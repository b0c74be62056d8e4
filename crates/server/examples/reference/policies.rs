//! What a policy can say, from what the policy crate says of itself.

use anyhow::{Context, Result};

use crate::source::head_of;
use crate::{Sources, code, head, row};

pub(crate) fn page(sources: &Sources) -> Result<String> {
    let mut page = "\
# Policy vocabulary

Policies are [Cedar](https://docs.cedarpolicy.com/), in `*.cedar` files. What no policy permits is
denied; a `forbid` goes before every `permit`. Policies are checked against the tools that the
upstreams list themselves: one that names an unknown tool or argument is an error, with file, line
and the nearest known name. An agent or a purpose that is not registered, where one of nearly that
name is, is a warning: a `forbid` with such a slip holds for nobody. So is a sponsor or a group that
nobody knows.

## What policies see

"
    .to_owned();
    let about = head_of(&sources.text("policy/src/lib.rs")?);
    let (_, seen) = about
        .split_once("# What policies see")
        .context("the policy crate does not say what policies see")?;
    page.push_str(seen.trim());

    page.push_str("\n\n## Methods\n\nBeside tool calls, these have actions, `Action::\"UPSTREAM:METHOD\"`; all others are refused.\n\n");
    page.push_str(&head(&["method", "`context.args` has"]));
    for (method, argument) in methods(&sources.text("policy/src/target.rs")?)? {
        let has = match argument {
            "Uri" => "`uri`",
            "Name" => "`name`",
            _ => "`name`, if the request has one",
        };
        page.push_str(&row(&[&code(method), has]));
    }

    page.push_str("\n## Types of arguments\n\n");
    page.push_str(&after_first(&sources.text("policy/src/types.rs")?));
    page.push_str("\n## Paths and URLs\n\n");
    page.push_str(&after_first(&sources.text("policy/src/canonical.rs")?));

    page.push_str(
        "\nArguments are taken for one or the other by `format`, else by the last word of their name\n(`target_path`, `targetPath`); `path_arguments` and `url_arguments` of the configuration add others.\n\n",
    );
    let (formats, names) = sorts(&sources.text("policy/src/canonical.rs")?)?;
    page.push_str(&head(&["is a", "by `format`", "by name"]));
    for kind in ["Path", "Url"] {
        let of = |all: &[(String, &str)]| {
            let all = all.iter().filter(|(_, it)| *it == kind);
            all.map(|(word, _)| code(word))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let what = if kind == "Path" { "path" } else { "URL" };
        page.push_str(&row(&[what, &of(&formats), &of(&names)]));
    }
    page.push_str("\n## Annotations\n\n");
    page.push_str(&head(&["annotation", "means"]));
    let set = sources.text("policy/src/set.rs")?;
    for name in quoted_list(&set, "const KNOWN")? {
        let meaning = match name {
            "id" => {
                "The policy's name, in records and replies. Without one it is made of file and place."
            }
            "reason" => {
                "What a refused agent is told, on a `forbid`; what comes with the answer, on a `permit`."
            }
            "warn" => "On a `permit`: a text that comes with the answer, in `_meta`.",
            "mask" => {
                "What is masked in what passes, either way: `secret`, `personal/card-number`, `injection:high`, several with commas between them; with `stable`, equal values have equal masks for one instance. On a `permit` always; on a `forbid` that looks at `context.findings`, the forbid gives way where it no longer applies once these are masked."
            }
            "approval" => {
                "Who has to approve before a call is permitted, by a policy with `context has approval` among its conditions: `maya`, `group:NAME`, `sponsor`, several with commas between them, `2 of …`. Until then the call is held, and they are asked: see [approvals](../approvals.md)."
            }
            "route" => {
                "On a `permit`: the upstream that the call is made at, in place of the one that was asked; every `forbid` that matches it there holds too: see [routes](../routes.md)."
            }
            "note" => "For whoever reads the policy; it does nothing.",
            other => anyhow::bail!("no word about the annotation `@{other}`"),
        };
        page.push_str(&row(&[&format!("`@{name}(\"…\")`"), meaning]));
    }
    page.push_str("\nAny other is an error.\n\n");
    page.push_str("## Cases\n\n`*.test.yaml` beside the policies; `tipstaff policy test` runs them, and a set with a failed case is\nnot activated.\n\n");
    page.push_str(&after_first(&sources.text("policy/src/cases.rs")?));
    Ok(page)
}

/// The documentation of a file without its first paragraph.
fn after_first(text: &str) -> String {
    let about = head_of(text);
    about
        .split_once("\n\n")
        .map_or_else(String::new, |(_, rest)| rest.to_owned())
}

/// `method("resources/read", Uri),`
fn methods(text: &str) -> Result<Vec<(&str, &str)>> {
    let found: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let inside = line.trim().strip_prefix("method(\"")?.strip_suffix("),")?;
            inside.split_once("\", ")
        })
        .collect();
    (!found.is_empty())
        .then_some(found)
        .context("no methods in the source")
}

/// The texts of `const NAME: [&str; N] = ["…", …];`.
fn quoted_list<'a>(text: &'a str, name: &str) -> Result<Vec<&'a str>> {
    let (_, rest) = text
        .split_once(name)
        .with_context(|| format!("no `{name}`"))?;
    let (list, _) = rest.split_once(';').context("no end")?;
    let list = match list.split_once("= ") {
        Some((_, list)) => list,
        // The length has a semicolon of its own.
        None => {
            rest.split_once("= ")
                .and_then(|(_, it)| it.split_once(';'))
                .context("no list")?
                .0
        }
    };
    Ok(list.split('"').skip(1).step_by(2).collect())
}

/// Words and the kind of argument that each makes.
type Sorts = Vec<(String, &'static str)>;

/// The words by which an argument is taken for a path or a URL: by format, and by name.
fn sorts(text: &str) -> Result<(Sorts, Sorts)> {
    let (_, body) = text.split_once("fn kind_of(").context("no `kind_of`")?;
    let (formats, names) = body
        .split_once("match word.as_str() {")
        .context("no words of names")?;
    let (names, _) = names.split_once("\n}").context("no end")?;
    let read = |part: &str| {
        let (mut found, mut pending) = (Vec::new(), Vec::new());
        for (nth, piece) in part.split('"').enumerate() {
            if nth % 2 == 1 {
                pending.push(piece.to_owned());
            } else if let Some(kind) = ["Path", "Url"]
                .into_iter()
                .find(|kind| piece.contains(&format!("Some(Kind::{kind})")))
            {
                found.extend(pending.drain(..).map(|word| (word, kind)));
            }
        }
        found
    };
    Ok((read(formats), read(names)))
}
