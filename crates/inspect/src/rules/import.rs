//! Rules in the shape of gitleaks' configuration, whoever wrote them.
//!
//! Only the shape is known here, none of the rules. What the shape says about files, paths and commits
//! has no meaning for what passes: a rule that is nothing else is left out, and an allow list that
//! needs such a thing allows nothing.

use std::sync::Arc;

use serde::Deserialize;

use super::{
    Against, Allow, Group, Looks, Pattern, Rule, RuleError, Rules, compile, entropy, group_exists,
    id, keywords, read, stop_words,
};
use crate::finding::{Class, Confidence};

/// How such expressions often begin, to take in what stands before a name. It makes every search
/// begin everywhere, and changes nothing about whether there is a match or what its groups hold.
const LAZY_BEGINNING: &str = r"[\w.-]{0,50}?";

/// What an import came to.
#[derive(Debug)]
pub struct Imported {
    /// What was taken.
    pub rules: Rules,
    /// What was not, each with a reason.
    pub left_out: Vec<LeftOut>,
}

/// A rule that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its id.
    pub rule: String,
    /// Why.
    pub why: &'static str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FileText {
    #[serde(rename = "title")]
    _title: Option<String>,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "minVersion")]
    _min_version: Option<String>,
    extend: Option<toml::Table>,
    allowlist: Option<AllowText>,
    #[serde(default)]
    allowlists: Vec<AllowText>,
    #[serde(default)]
    rules: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuleText {
    id: String,
    #[serde(default)]
    description: String,
    regex: Option<String>,
    #[serde(rename = "path")]
    _path: Option<String>,
    entropy: Option<f64>,
    secret_group: Option<usize>,
    #[serde(default)]
    keywords: Vec<String>,
    #[serde(default, rename = "tags")]
    _tags: Vec<String>,
    #[serde(default, rename = "skipReport")]
    skip_report: bool,
    required: Option<toml::Value>,
    allowlist: Option<AllowText>,
    #[serde(default)]
    allowlists: Vec<AllowText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct AllowText {
    #[serde(rename = "description")]
    _description: Option<String>,
    condition: Option<String>,
    #[serde(default)]
    target_rules: Vec<String>,
    #[serde(default)]
    commits: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
    regex_target: Option<String>,
    #[serde(default)]
    regexes: Vec<String>,
    #[serde(default, alias = "stopWords")]
    stopwords: Vec<String>,
}

pub(super) fn import(text: &str) -> Result<Imported, RuleError> {
    let file: FileText = read(text)?;
    if file.extend.is_some() {
        return Err(RuleError::Unsupported {
            what: "[extend]".to_owned(),
        });
    }
    let mut common = Vec::new();
    for text in file.allowlist.into_iter().chain(file.allowlists) {
        let allowed = allow("the common allow list", &text)?;
        common.push((text.target_rules, Arc::new(allowed)));
    }
    let mut imported = Imported {
        rules: Rules::default(),
        left_out: Vec::new(),
    };
    for text in file.rules {
        let why = if text.regex.is_none() {
            Some("it has no regular expression, so it looks at names of files alone")
        } else if text.required.is_some() || text.skip_report {
            Some("it is a part of a rule of several parts, which are not understood")
        } else {
            None
        };
        match why {
            Some(why) => imported.left_out.push(LeftOut { rule: text.id, why }),
            None => imported.rules.push(rule(text, &common)?)?,
        }
    }
    Ok(imported)
}

fn rule(text: RuleText, common: &[(Vec<String>, Arc<Allow>)]) -> Result<Rule, RuleError> {
    let id = id(&text.id)?;
    let mut allowed = Vec::new();
    for text in text.allowlist.into_iter().chain(text.allowlists) {
        allowed.push(Arc::new(allow(&id, &text)?));
    }
    for (of, allow) in common {
        if of.is_empty() || of.iter().any(|rule| **rule == *id) {
            allowed.push(Arc::clone(allow));
        }
    }
    let written = with_braces(&text.regex.unwrap_or_default());
    let mut regex = compile(&id, &written)?;
    if regex.captures_len() > 1
        && let Some(shorter) = shortened(&written)
    {
        regex = compile(&id, &shorter)?;
    }
    let looks = Looks::Pattern(Box::new(Pattern {
        regex,
        keywords: keywords(&id, text.keywords)?,
        entropy: entropy(&id, text.entropy)?,
        group: match text.secret_group {
            None | Some(0) => Group::First,
            Some(group) => Group::At(group),
        },
        allow: allowed,
    }));
    group_exists(&id, &looks)?;
    Ok(Rule {
        id,
        class: Class::Secret,
        confidence: Confidence::Medium,
        looks,
        why: text.description,
        #[cfg(test)]
        positive: Vec::new(),
        #[cfg(test)]
        negative: Vec::new(),
    })
}

/// RE2, for which these are written, takes a brace that counts nothing as a brace.
fn with_braces(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(char) = rest.chars().next() {
        // What is escaped and what counts or names something is taken as it stands.
        let len = match char {
            '\\' => {
                let escape: usize = rest.chars().take(2).map(char::len_utf8).sum();
                let names = [r"\p{", r"\P{", r"\x{"]
                    .iter()
                    .any(|it| rest.starts_with(it));
                let name = rest.find('}').filter(|_| names);
                name.map_or(escape, |end| end + 1)
            }
            '{' => counted(rest).unwrap_or_else(|| {
                out.push('\\');
                1
            }),
            other => other.len_utf8(),
        };
        let (taken, behind) = rest.split_at_checked(len).unwrap_or((rest, ""));
        out.push_str(taken);
        rest = behind;
    }
    out
}

/// How long the count is that the text begins with: `{2}`, `{2,}` or `{2,5}`.
fn counted(text: &str) -> Option<usize> {
    let end = text.find('}')?;
    let (least, most) = match text.get(1..end)?.split_once(',') {
        Some((least, most)) => (least, most),
        None => (text.get(1..end)?, ""),
    };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (!least.is_empty() && is_number(least) && is_number(most)).then_some(end + 1)
}

/// The expression without its lazy beginning.
fn shortened(pattern: &str) -> Option<String> {
    ["(?i)", ""].into_iter().find_map(|flags| {
        let rest = pattern.strip_prefix(flags)?.strip_prefix(LAZY_BEGINNING)?;
        Some(format!("{flags}{rest}"))
    })
}

fn allow(rule: &str, text: &AllowText) -> Result<Allow, RuleError> {
    let unsupported = |what: String| RuleError::Unsupported { what };
    let all = match text.condition.as_deref() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("or") => false,
        Some(word) if word.eq_ignore_ascii_case("and") => true,
        Some(other) => return Err(unsupported(format!("condition = \"{other}\" of {rule}"))),
    };
    let against = match text.regex_target.as_deref() {
        None | Some("" | "secret") => Against::Secret,
        Some("match") => Against::Match,
        Some("line") => Against::Line,
        Some(other) => return Err(unsupported(format!("regexTarget = \"{other}\" of {rule}"))),
    };
    let mut patterns = Vec::new();
    for pattern in &text.regexes {
        patterns.push(compile(rule, &with_braces(pattern))?);
    }
    Ok(Allow {
        all,
        elsewhere: !text.commits.is_empty() || !text.paths.is_empty(),
        against,
        patterns,
        stop_words: stop_words(rule, &text.stopwords)?,
    })
}

#[cfg(test)]
mod tests;
