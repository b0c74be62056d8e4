//! What is in the logs: every kind of entry, and the shape of its body.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Context, Result};
use ledger::Kind;
use vocab::LogName;

use crate::source::{Item, Items, Member};
use crate::{Sources, add, code, head, row};

const HEAD: &str = "\
# Records

A node keeps two logs. `control` has every change to who exists and what holds; `calls` has every
decision and what came of it. Each is a list of entries that only grows, a transparency log in C2SP
tlog-tiles form with signed checkpoints. A record is named by its log and its index: `calls/17`.

An entry is JSON, written once and hashed as it stands, less than 64 KiB. An entry of a kind that a
program does not know stops that program: it cannot know what holds.

What is personal or secret is not in entries, nor what agents say in words of their own. Where a field
is *sealed beside the entry*, the bytes lie encrypted beside the log, the entry commits to them by a
salted digest, and erasing destroys the key: the entry and its proof stay.
";

/// What stands in a table for a type.
const WORDS: &[(&str, &str)] = &[
    ("bool", "boolean"),
    ("u8", "number"),
    ("u32", "number"),
    ("u64", "number"),
    ("String", "text"),
    ("Label", "text"),
    ("PersonText", "text"),
    ("serde_json::Value", "JSON"),
    ("Word", "word"),
    ("Allow", "`UPSTREAM/TOOL` or `UPSTREAM:METHOD`"),
    ("Digest", "SHA-256 in hex"),
    (
        "Arc<Authority>",
        "`authorization_details` (RFC 9396) of type `mcp_tool`, locations by name",
    ),
    ("Time", "time, RFC 3339 in UTC with microseconds"),
    ("Handle", "random handle"),
    ("KeyId", "key id"),
    ("Thumbprint", "JWK thumbprint (RFC 7638)"),
    ("PublicJwk", "JWK, public"),
    ("AgentId", "agent"),
    ("AdminId", "administrator"),
    ("PepName", "policy enforcement point"),
    ("AdminKey", "public key in signed-note form"),
    ("LogKey", "public key in signed-note form"),
    ("LogName", "`control` or `calls`"),
    ("InstanceId", "instance"),
    ("UpstreamName", "upstream"),
    ("ToolName", "tool"),
    ("PurposePath", "purpose"),
    ("TrustDomain", "trust domain"),
    (
        "Needs",
        "list of what has to be met; each is a list of texts of `@approval`, one of which is enough",
    ),
    ("policy::Facts", "object: see [below](#facts)"),
    ("Masks", "list of texts of `@mask`"),
];

struct Shapes {
    items: BTreeMap<String, (Item, Sort)>,
    wanted: VecDeque<String>,
    shown: BTreeSet<String>,
}

#[derive(Clone, Copy)]
enum Sort {
    /// An object with these members.
    Object,
    /// One of these words.
    Word,
}

pub(crate) fn page(sources: &Sources) -> Result<String> {
    let mut page = HEAD.to_owned();
    let entry = sources.items("ledger/src/entry.rs")?;
    let control = sources.items("register/src/entry.rs")?;
    let glass = sources.items("register/src/break_glass.rs")?;
    let approval = sources.items("register/src/approval.rs")?;
    let calls = sources.items("gateway/src/record.rs")?;
    let found = sources.items("policy/src/findings.rs")?;
    let finding = sources.items("vocab/src/finding.rs")?;
    let lifecycle = sources.items("register/src/lifecycle.rs")?;
    let people = sources.items("register/src/text.rs")?;
    let mention = sources.items("ledger/src/mention.rs")?;
    let keys = sources.items("ledger/src/keys.rs")?;
    let mut shapes = Shapes::new();
    for (items, name, sort) in [
        (&entry, "Actor", Sort::Object),
        (&entry, "ActorKind", Sort::Word),
        (&mention, "Mention", Sort::Object),
        (&control, "Sponsorship", Sort::Word),
        (&control, "AssertedAgents", Sort::Word),
        (&control, "FirstSight", Sort::Word),
        (&control, "Judgement", Sort::Word),
        (&control, "Signal", Sort::Object),
        (&control, "Risk", Sort::Word),
        (&control, "SignIn", Sort::Word),
        (&control, "People", Sort::Word),
        (&control, "DelegationLimits", Sort::Object),
        (&control, "Owners", Sort::Object),
        (&control, "Via", Sort::Word),
        (&control, "Key", Sort::Object),
        (&control, "CallLimits", Sort::Object),
        (&control, "Binding", Sort::Word),
        (&control, "SealedAuthority", Sort::Object),
        (&control, "TestResults", Sort::Object),
        (&control, "VaultChange", Sort::Word),
        (&lifecycle, "EndReason", Sort::Word),
        (&glass, "Held", Sort::Word),
        (&glass, "GlassOver", Sort::Word),
        (&approval, "Way", Sort::Object),
        (&approval, "MayApprove", Sort::Word),
        (&approval, "ApprovalOver", Sort::Word),
        (&calls, "Effect", Sort::Word),
        (&calls, "Basis", Sort::Object),
        (&calls, "RoutedBasis", Sort::Object),
        (&calls, "SealedRef", Sort::Object),
        (&calls, "LeftOut", Sort::Object),
        (&calls, "Came", Sort::Word),
        (&calls, "Asked", Sort::Object),
        (&calls, "Over", Sort::Word),
        (&calls, "Sent", Sort::Object),
        (&calls, "MaskedBy", Sort::Object),
        (&calls, "Inspected", Sort::Object),
        (&calls, "Done", Sort::Word),
        (&found, "Found", Sort::Object),
        (&finding, "Class", Sort::Word),
        (&finding, "Confidence", Sort::Word),
    ] {
        shapes.know(items, name, sort)?;
    }

    page.push_str("\n## Every entry\n\n");
    page.push_str(&head(&["member", "is", "means"]));
    page.push_str(&row(&["`v`", "number", "The version of this shape: 1."]));
    let wire = entry.get("Wire")?;
    let meanings = entry.get("Entry")?;
    for member in wire.members.iter().filter(|member| member.name != "v") {
        let meaning = &meanings.member(&member.name)?.docs;
        let what = match member.name.as_str() {
            "kind" => "word: one of those below".to_owned(),
            "time" => shapes.word("Time", &member.name)?,
            "body" => "object".to_owned(),
            _ => shapes.word(&member.what.replace("Cow<'a, str>", "String"), &member.name)?,
        };
        page.push_str(&row(&[&code(&member.name), &what, meaning]));
    }

    let examples = sources.text("register/tests/entries.jsonl")?;
    for log in LogName::ALL {
        add(
            &mut page,
            format_args!("\n## Kinds of `{}`\n", log.as_str()),
        );
        for kind in Kind::ALL.iter().filter(|kind| kind.log() == log) {
            let name = format!("{kind:?}");
            let item = match log {
                LogName::Control => match glass
                    .find(&name)
                    .or_else(|| approval.find(&name))
                    .or_else(|| keys.find(&name))
                {
                    Some(item) => item,
                    None => control.get(&name)?,
                },
                LogName::Calls => calls.get(&format!("{name}Body"))?,
            };
            add(&mut page, format_args!("\n### `{kind}`\n\n{}\n", item.docs));
            page.push_str(&shapes.object(item)?);
            if let Some(line) = example(&examples, *kind) {
                add(&mut page, format_args!("\n```json\n{line}\n```\n"));
            }
        }
    }

    page.push_str("\n## What they are made of\n");
    shapes.parts(&mut page)?;

    page.push_str("\n## Sealed\n\nBeside `sponsor-added`, under the sponsor's key:\n");
    page.push_str(&shapes.object(people.get("Person")?)?);
    page.push_str("\nBeside `decision`, under a key that its sponsor, agent and day share:\n");
    page.push_str(&shapes.object(calls.get("DecisionSeal")?)?);
    shapes.parts(&mut page)?;
    page.push_str("\nBeside `break-glass-requested`, under a key of its own: why, a text.\n");
    page.push_str("\nBeside `approval-requested`, under the key of its sponsor, agent and day:\n");
    page.push_str(&shapes.object(approval.get("ApprovalRequest")?)?);
    page.push_str(
        "\nBeside `instance-started` with `handed_on`, under the key of its sponsor, agent and day: \
         `authorization_details` (RFC 9396) of type `mcp_tool`, locations by name.\n",
    );
    let facts = sources.items("policy/src/facts.rs")?;
    page.push_str("\n### Facts\n\n");
    page.push_str(&facts.get("Facts")?.docs);
    page.push_str("\n\n");
    page.push_str(&head(&["member", "means"]));
    for name in ["Facts", "InstanceFacts"] {
        let item = facts.get(name)?;
        for member in item.members.iter().filter(|member| !member.docs.is_empty()) {
            let path = if name == "Facts" { "" } else { "instance." };
            let path = format!("{path}{}", member.name);
            let version = policy::FACTS_VERSION.to_string();
            let docs = member.docs.replace("`FACTS_VERSION`", &version);
            page.push_str(&row(&[&code(&path), &docs]));
        }
    }
    Ok(page)
}

/// The body of the fullest published vector of a kind.
fn example(vectors: &str, kind: Kind) -> Option<String> {
    let mark = format!("\"kind\":\"{kind}\"");
    let of_kind = vectors.lines().filter(|line| line.contains(&mark));
    // Nobody writes that any more.
    let present = of_kind.filter(|line| !line.contains("\"authority\":["));
    let line = present.max_by_key(|line| line.len())?;
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let body = value.get("body")?;
    let empty = body.as_object().is_some_and(serde_json::Map::is_empty);
    (!empty).then(|| serde_json::to_string_pretty(body).ok())?
}

impl Shapes {
    const fn new() -> Self {
        Self {
            items: BTreeMap::new(),
            wanted: VecDeque::new(),
            shown: BTreeSet::new(),
        }
    }

    fn know(&mut self, items: &Items, name: &str, sort: Sort) -> Result<()> {
        let item = items.get(name)?;
        let copy = Item {
            name: item.name.clone(),
            docs: item.docs.clone(),
            members: item.members.iter().map(copy).collect(),
        };
        self.items.insert(name.to_owned(), (copy, sort));
        Ok(())
    }

    /// The shapes that were named and not shown yet.
    fn parts(&mut self, page: &mut String) -> Result<()> {
        while let Some(name) = self.wanted.pop_front() {
            let (item, sort) = self.items.remove(&name).context("a shape went missing")?;
            add(
                page,
                format_args!("\n### {}\n\n{}\n", spaced(&name), item.docs),
            );
            match sort {
                Sort::Object => page.push_str(&self.object(&item)?),
                Sort::Word => {
                    page.push('\n');
                    page.push_str(&head(&["value", "means"]));
                    for variant in &item.members {
                        page.push_str(&row(&[&code(&spelled(&name, variant)), &variant.docs]));
                    }
                }
            }
            self.items.insert(name, (item, sort));
        }
        Ok(())
    }

    fn object(&mut self, item: &Item) -> Result<String> {
        if item.members.is_empty() {
            return Ok("\nThe body is empty.\n".to_owned());
        }
        let mut table = format!("\n{}", head(&["member", "is", "means"]));
        for member in &item.members {
            let mut what = self.word(&member.what, &item.name)?;
            if member.optional {
                what = what.replace(", or null", "") + "; absent where there is none";
            }
            table.push_str(&row(&[&code(&named(member)), &what, &member.docs]));
        }
        Ok(table)
    }

    /// A type in words.
    fn word(&mut self, kind: &str, of: &str) -> Result<String> {
        if let Some((_, word)) = WORDS.iter().find(|(name, _)| *name == kind) {
            return Ok((*word).to_owned());
        }
        if self.items.contains_key(kind) {
            if self.shown.insert(kind.to_owned()) {
                self.wanted.push_back(kind.to_owned());
            }
            let title = spaced(kind);
            return Ok(format!("[{title}](#{})", title.replace(' ', "-")));
        }
        let inner = |wrap: &str| kind.strip_prefix(wrap).and_then(|it| it.strip_suffix('>'));
        if let Some(inner) = inner("Option<") {
            return Ok(self.word(inner, of)? + ", or null");
        }
        if let Some(inner) = inner("Vec<") {
            return Ok(format!("list of: {}", self.word(inner, of)?));
        }
        // People's names and addresses are texts of their own types.
        let text = ["PersonName", "Email", "SponsorId"].contains(&kind);
        text.then(|| "text".to_owned())
            .with_context(|| format!("no word for the type `{kind}` in `{of}`"))
    }
}

fn copy(member: &Member) -> Member {
    Member {
        name: member.name.clone(),
        docs: member.docs.clone(),
        what: member.what.clone(),
        message: String::new(),
        optional: member.optional,
    }
}

/// `kind` is written `type` in an actor.
fn named(member: &Member) -> String {
    if member.what == "ActorKind" {
        "type".to_owned()
    } else {
        member.name.clone()
    }
}

/// `CallLimits` → `call limits`.
fn spaced(name: &str) -> String {
    words(name, ' ')
}

/// A variant as it is written: `NotSent` → `not-sent`.
fn spelled(of: &str, variant: &Member) -> String {
    match (of, variant.name.as_str()) {
        ("Binding", "Dpop") => "{\"dpop\":{\"jkt\":THUMBPRINT}}".to_owned(),
        ("MayApprove", "Person") => "{\"person\":{\"sponsor\":HANDLE}}".to_owned(),
        ("MayApprove", "Group") => "{\"group\":{\"group\":HANDLE}}".to_owned(),
        (_, name) => words(name, '-'),
    }
}

fn words(name: &str, between: char) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push(between);
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
