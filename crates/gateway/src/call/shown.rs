//! The text that approvers are shown: what will happen, in our words, from what was decided on.
//!
//! Nothing in it is the agent's or the upstream's own wording but what it quotes: the arguments,
//! whole and with every character visible, each line of them marked as quoted. So nobody can write
//! a line of ours. What an upstream claims of its tool is told as its claim.

use std::fmt::Write as _;
use std::time::Duration;

use policy::{Facts, Found, Hold, Target};
use register::approval::SHOWN_BYTES_MAX;

use super::Who;
use super::decide::Question;
use crate::plane::Claims;

/// The whole text. Arguments that are too long for it are not approved: nobody answers for what they
/// cannot read, and a digest of it is nothing to read.
pub(super) fn text(
    question: &Question<'_>,
    who: &Who,
    facts: &Facts,
    hold: &Hold,
    lasts: Duration,
) -> Result<String, String> {
    let mut out = String::new();
    let instance = &facts.instance;
    let person = |id: &Option<vocab::SponsorId>| {
        id.as_ref().map_or_else(
            || "nobody who is known by name".to_owned(),
            |id| shown(id.as_str()),
        )
    };
    line(
        &mut out,
        "Who asks",
        &format!("agent {}, instance {}", instance.agent, instance.id),
    );
    if !facts.instance.environment.is_empty() {
        line(&mut out, "Running in", &shown(&instance.environment));
    }
    line(&mut out, "For whom", &person(&instance.sponsor));
    line(&mut out, "Why", instance.purpose.as_str());
    let mut through = Vec::new();
    for link in who.links() {
        let (it, agent) = (&link.instance, &link.agent);
        through.push(format!(
            "agent {}, instance {}, for {}",
            agent.id, it.id, it.purpose
        ));
    }
    if through.is_empty() {
        line(
            &mut out,
            "Through",
            "nobody: it was not started by another instance",
        );
    }
    for link in through {
        line(&mut out, "Through", &link);
    }
    let what = match &facts.target {
        Target::Tool { name } => format!("the tool {} of {}", shown(name.as_str()), facts.upstream),
        Target::Method { method, .. } => format!("{} of {}", shown(method), facts.upstream),
    };
    line(&mut out, "What", &what);
    if let Some(to) = hold.route() {
        let there = format!(
            "{to}, in place of {}: policy sends it there",
            facts.upstream
        );
        line(&mut out, "Goes to", &there);
    }
    if let Some((pep, over)) = question.asker {
        let by = format!(
            "the enforcement point {}, which asks over {}: this node neither makes the call nor \
             sees it made",
            pep.name,
            over.as_str()
        );
        line(&mut out, "Made by", &by);
    }
    if let Target::Tool { name } = &facts.target {
        let made_at = hold.route().unwrap_or(&facts.upstream);
        let tools = who.snapshot.tools.get(made_at);
        let claims = tools
            .map(|(_, tools)| tools.claims(name))
            .unwrap_or_default();
        line(&mut out, "Undone", undone(claims));
    }
    line(
        &mut out,
        "Policies",
        &hold
            .policies()
            .iter()
            .map(|id| shown(id))
            .collect::<Vec<_>>()
            .join(", "),
    );
    line(&mut out, "They say", &shown(hold.reason()));
    line(
        &mut out,
        "Who may approve",
        &shown(&hold.needs().to_string()),
    );
    line(&mut out, "Inspection", &found(&facts.findings));
    let minutes = lasts.as_secs() / 60;
    line(&mut out, "Asked at", &facts.now.to_string());
    line(
        &mut out,
        "Until when",
        &format!("{minutes} minutes from then; once approved, it can be made for as long again"),
    );
    line(&mut out, "How often", "once, exactly as it stands here");
    let args = facts.args.get();
    quote(&mut out, "Arguments", args);
    for (name, value) in others(question, &facts.target) {
        quote(&mut out, &format!("Also sent, as {}", shown(&name)), &value);
    }
    if out.len() > SHOWN_BYTES_MAX {
        return Err(format!(
            "Nobody is asked: what a person would have to read is {} bytes long, and at most \
             {SHOWN_BYTES_MAX} are shown. Make the call smaller.",
            out.len()
        ));
    }
    Ok(out)
}

/// What inspection saw in what is asked for: by which rules and how often, never the value.
fn found(findings: &[Found]) -> String {
    let told = findings.iter().map(|it| {
        let (class, rule) = (it.class.as_str(), shown(&it.rule));
        format!("{class}/{rule} ({}) × {}", it.confidence.as_str(), it.count)
    });
    let told: Vec<_> = told.collect();
    if told.is_empty() {
        "nothing was found".to_owned()
    } else {
        told.join(", ")
    }
}

/// Whether what is done can be undone, as far as the upstream says so. What it says nothing of, or
/// calls destructive, is to be taken as irreversible.
const fn undone(claims: Claims) -> &'static str {
    match (claims.read_only, claims.destructive) {
        (Some(true), _) => {
            "the upstream claims that this tool changes nothing (nobody checked that)"
        }
        (_, Some(false)) => {
            "the upstream claims that this tool destroys nothing (nobody checked that)"
        }
        (_, Some(true)) => "take it as irreversible: the upstream says that this tool can destroy",
        (_, None) => "take it as irreversible: the upstream does not say what this tool destroys",
    }
}

/// What is sent beside what policy decides on.
fn others(question: &Question<'_>, target: &Target) -> Vec<(String, String)> {
    let decided: &[&str] = match target {
        Target::Tool { .. } => &["name", "arguments"],
        // All of the parameters are its arguments.
        Target::Method { .. } => return Vec::new(),
    };
    // Those who ask over AuthZEN say no more than the arguments.
    if question.request.is_none() {
        return Vec::new();
    }
    let members = serde_json::from_str::<
        std::collections::BTreeMap<String, Box<serde_json::value::RawValue>>,
    >(&question.exact());
    let members = members.into_iter().flatten();
    let members = members.filter(|(name, _)| !decided.contains(&name.as_str()));
    members
        .map(|(name, value)| (name, value.get().to_owned()))
        .collect()
}

fn line(out: &mut String, what: &str, text: &str) {
    // Writing to a string cannot fail.
    let _infallible = writeln!(out, "{what}: {text}");
}

/// JSON text, laid out, each line after a mark that no line of ours has.
fn quote(out: &mut String, what: &str, json: &str) {
    let _infallible = writeln!(out, "{what} ({} bytes, quoted):", json.len());
    for text in laid_out(json).lines() {
        let _infallible = writeln!(out, "  | {text}");
    }
}

/// JSON text with a line for each member and element. No token of it is changed, but for characters
/// that would not be seen.
fn laid_out(json: &str) -> String {
    let mut out = String::new();
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut rest = json.trim().chars().peekable();
    let new_line = |out: &mut String, depth: usize| {
        out.push('\n');
        // What is nested deep is read by its brackets.
        out.extend(std::iter::repeat_n(' ', 2 * depth.min(16)));
    };
    while let Some(c) = rest.next() {
        if in_string {
            see(&mut out, c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while rest.next_if(char::is_ascii_whitespace).is_some() {}
                if rest.next_if(|next| matches!(next, '}' | ']')).is_some() {
                    out.push(if c == '{' { '}' } else { ']' });
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => see(&mut out, c),
        }
    }
    out
}

/// A text with every character visible.
fn shown(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        see(&mut out, c);
    }
    out
}

/// A character that is seen, or its number: `⟨U+200B⟩`.
fn see(out: &mut String, c: char) {
    if is_seen(c) {
        out.push(c);
    } else {
        let _infallible = write!(out, "⟨U+{:04X}⟩", u32::from(c));
    }
}

/// Whether a character is one that people see, and not more than itself: letters, digits and marks of
/// scripts, and what is known to be printed. Everything else is not, so that what Unicode adds is
/// not either.
fn is_seen(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // Fillers of Hangul, which are letters and nothing to see; and what stands for a number.
    let unseen = ['\u{115F}', '\u{1160}', '\u{3164}', '\u{FFA0}', '⟨', '⟩'];
    if unseen.contains(&c) {
        return false;
    }
    let printed = matches!(c,
        '\u{A1}'..='\u{AC}' | '\u{AE}'..='\u{BF}' | '×' | '÷'
        // Dashes, quotation marks, dots, per mille, primes and the like; not the spaces and
        // directions between them.
        | '\u{2010}'..='\u{2015}' | '\u{2018}'..='\u{2027}' | '\u{2030}'..='\u{205E}'
        | '\u{20A0}'..='\u{20C0}'
        // Arrows, operators, boxes and shapes, but for braille, whose first is blank.
        | '\u{2100}'..='\u{27FF}' | '\u{2900}'..='\u{2BFF}'
        | '\u{3001}'..='\u{303F}' | '\u{FF01}'..='\u{FF5E}' | '\u{1F300}'..='\u{1FAFF}'
    );
    printed || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::{is_seen, laid_out, shown};

    #[test]
    fn nothing_hides_in_what_is_shown() {
        // Lines, bells, bidi overrides, zero width, tags, fillers, spaces, private and unassigned.
        for hidden in [
            '\n',
            '\r',
            '\u{7}',
            '\u{7F}',
            '\u{85}',
            '\u{A0}',
            '\u{AD}',
            '\u{34F}',
            '\u{61C}',
            '\u{115F}',
            '\u{180E}',
            '\u{200B}',
            '\u{200D}',
            '\u{200E}',
            '\u{2028}',
            '\u{202E}',
            '\u{2060}',
            '\u{2066}',
            '\u{2800}',
            '\u{3000}',
            '\u{3164}',
            '\u{E000}',
            '\u{FE0F}',
            '\u{FEFF}',
            '\u{FFA0}',
            '\u{FFFD}',
            '\u{E0041}',
            '\u{E01EF}',
            '\u{10FFFF}',
        ] {
            assert!(!is_seen(hidden), "U+{:04X}", u32::from(hidden));
        }
        assert_eq!(shown("a\u{202E}b\u{E0041}"), "a⟨U+202E⟩b⟨U+E0041⟩");
        // Nor can somebody write what stands for such a character.
        assert_eq!(shown("⟨U+202E⟩"), "⟨U+27E8⟩U+202E⟨U+27E9⟩");
        assert_eq!(
            shown("Ó Briain, 北京, 5 €, “no”…"),
            "Ó Briain, 北京, 5 €, “no”…"
        );
    }

    #[test]
    fn arguments_are_laid_out_and_not_changed() {
        let json = r#" {"a":[1,2.50,{}],"b":"x,{\"y\":\\", "c":[ ],"d":{"e":null}} "#;
        let expected = "{\n  \"a\": [\n    1,\n    2.50,\n    {}\n  ],\n  \"b\": \"x,{\\\"y\\\":\\\\\",\n  \"c\": [],\n  \"d\": {\n    \"e\": null\n  }\n}";
        assert_eq!(laid_out(json), expected);
    }

    #[test]
    fn no_argument_begins_a_line() {
        let text = laid_out("{\"a\":\"x\\nWho may approve: mallory\u{2028}y\"}");
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("⟨U+2028⟩"));
    }
}
