//! As much of Rust as it takes to read documentation out of formatted sources: structs and enums
//! with their members, what is said about each, and the texts of errors.

use anyhow::{Context, Result};

/// The structs, enums and constants of a file.
#[derive(Debug, Default)]
pub(crate) struct Items(Vec<Item>);

/// A struct, enum or constant.
#[derive(Debug, Default)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) docs: String,
    pub(crate) members: Vec<Member>,
}

/// A field or a variant.
#[derive(Debug, Default)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) docs: String,
    /// A field's type, a constant's value.
    pub(crate) what: String,
    /// The text of `#[error("…")]`, with `…` for what is filled in; empty where there is none.
    pub(crate) message: String,
    /// `#[serde(default)]` and its like: the field may be absent.
    pub(crate) optional: bool,
}

impl Items {
    pub(crate) fn read(text: &str) -> Self {
        let mut items = Vec::new();
        let mut open: Option<(usize, Item)> = None;
        let (mut docs, mut attributes) = (Vec::new(), String::new());
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let bare = line.trim_start();
            let depth = line.len() - bare.len();
            if let Some(doc) = bare.strip_prefix("///") {
                docs.push(doc.trim().to_owned());
                continue;
            }
            if bare.starts_with("#[") {
                let mut attribute = bare.to_owned();
                while !attribute.ends_with(']') {
                    let Some(more) = lines.next() else { break };
                    attribute.push('\n');
                    attribute.push_str(more.trim());
                }
                attributes.push_str(&attribute);
                continue;
            }
            let said = plain(&std::mem::take(&mut docs));
            let around = std::mem::take(&mut attributes);
            match &mut open {
                Some((outer, _)) if depth == *outer && bare.starts_with('}') => {
                    items.extend(open.take().map(|(_, item)| item));
                }
                Some((outer, item)) if depth == *outer + 4 && !bare.starts_with(['}', '$']) => {
                    if let Some(member) = member(bare, &said, &around) {
                        item.members.push(member);
                    }
                }
                Some(_) => {}
                None => {
                    let bare = bare.strip_prefix("pub(crate) ").unwrap_or(bare);
                    let bare = bare.strip_prefix("pub ").unwrap_or(bare);
                    let Some((sort, rest)) = bare.split_once(' ') else {
                        continue;
                    };
                    if !["struct", "enum", "const"].contains(&sort) {
                        continue;
                    }
                    let mut item = Item {
                        name: word(rest),
                        docs: said.clone(),
                        members: Vec::new(),
                    };
                    if sort == "const" {
                        item.members.extend(member(rest, &said, ""));
                        items.push(item);
                    } else if bare.ends_with('{') {
                        open = Some((depth, item));
                    } else {
                        items.push(item);
                    }
                }
            }
        }
        Self(items)
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Item> {
        self.0.iter().find(|item| item.name == name)
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Item> {
        self.find(name)
            .with_context(|| format!("there is no `{name}` in the source any more"))
    }
}

impl Item {
    pub(crate) fn member(&self, name: &str) -> Result<&Member> {
        let found = self.members.iter().find(|member| member.name == name);
        found.with_context(|| format!("`{}` has no `{name}` any more", self.name))
    }
}

fn member(line: &str, docs: &str, attributes: &str) -> Option<Member> {
    let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let name = word(line);
    if name.is_empty() || line.contains("fn ") {
        return None;
    }
    let what = line
        .get(name.len()..)
        .and_then(|rest| rest.strip_prefix(": "))
        .map(|rest| rest.trim_end_matches([',', ';']).to_owned());
    let optional = attributes.contains("default") || attributes.contains("skip_serializing_if");
    Some(Member {
        name,
        docs: docs.to_owned(),
        what: what.unwrap_or_default(),
        message: message(attributes),
        optional,
    })
}

fn word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Documentation as one text: links become code.
fn plain(lines: &[String]) -> String {
    let text = lines.join(" ");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, behind)) = rest.split_once("[`") {
        let Some((name, behind)) = behind.split_once("`]") else {
            break;
        };
        out.push_str(before);
        out.push('`');
        out.push_str(name);
        out.push('`');
        rest = match behind.strip_prefix('(').and_then(|it| it.split_once(')')) {
            Some((_, behind)) => behind,
            None => behind,
        };
    }
    out.push_str(rest);
    out
}

/// The text of `#[error("…")]`.
fn message(attributes: &str) -> String {
    let Some((_, rest)) = attributes.split_once("#[error(") else {
        return String::new();
    };
    let mut text = String::new();
    let mut chars = rest
        .trim_start()
        .strip_prefix('"')
        .unwrap_or_default()
        .chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                // The lines were trimmed: a continued one goes on right here.
                Some('\n') | None => {}
                Some(escaped) => text.push(escaped),
            },
            '{' if chars.clone().next() == Some('{') => {
                chars.next();
                text.push('{');
            }
            '{' => {
                let inside: String = chars.by_ref().take_while(|c| *c != '}').collect();
                let name = inside.split(':').next().unwrap_or_default();
                let named = name.starts_with(|c: char| c.is_ascii_lowercase())
                    && !text.ends_with(char::is_alphanumeric);
                text.push_str(&if named {
                    name.to_uppercase()
                } else {
                    "…".to_owned()
                });
            }
            '}' if chars.clone().next() == Some('}') => {
                chars.next();
                text.push('}');
            }
            c => text.push(c),
        }
    }
    if text == "…" { String::new() } else { text }
}

/// The documentation at the head of a file, as Markdown; headings one level deeper.
pub(crate) fn head_of(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    lines
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .fold(String::new(), |out, line| out + line + "\n")
}
