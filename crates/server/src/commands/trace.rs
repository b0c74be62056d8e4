//! `tipstaff trace`.

use std::fmt::Write as _;

use serde_json::Value;

use super::approval::{by as by_whom, state};
use super::{Context, Failure, Outcome, Verdict};
use crate::cli::Trace;
use crate::output::{Lines, at, cell, clean, record, time};
use crate::trace::Target;

pub(super) async fn run(context: &Context, trace: Trace) -> Outcome {
    let target: Target = trace
        .id
        .parse()
        .map_err(|error: crate::trace::TraceError| Failure::Other(error.to_string()))?;
    let value = context
        .node()?
        .get(&format!("/v1/trace/{}", trace.id))
        .await?;
    context.show(&value, |it| match target {
        Target::Instance(_) => instance(it),
        Target::Record(..) => entry(it),
    })?;
    Ok(Verdict::Good)
}

fn person(sponsor: &Value, otherwise: &Value) -> String {
    if sponsor["name"].is_null() {
        return cell(otherwise);
    }
    let (id, name, email) = (&sponsor["id"], &sponsor["name"], &sponsor["email"]);
    format!("{} ({}, {})", cell(id), cell(name), cell(email))
}

fn actor(actor: &Value) -> String {
    let how = if actor["verified"] == true {
        "verified"
    } else {
        "asserted"
    };
    match cell(&actor["id"]) {
        none if none.is_empty() => format!("a {}", cell(&actor["type"])),
        id => format!(
            "{} {id} by {} ({how})",
            cell(&actor["type"]),
            cell(&actor["credential"])
        ),
    }
}

fn instance(it: &Value) -> String {
    let seen = &it["instance"];
    let mut lines = Lines::default();
    lines.line(
        "instance",
        format!("{}, {}", cell(&seen["id"]), cell(&seen["status"])),
    );
    lines.line("narrowed by", cell(&seen["narrowed_by"]));
    lines.line("BREAK-GLASS", cell(&seen["break_glass"]));
    lines.line("agent", cell(&seen["agent"]));
    lines.line("software", cell(at(it, "/agent/software")));
    lines.line("model", cell(at(it, "/agent/model")));
    lines.line("sponsor", person(&it["sponsor"], &seen["sponsor"]));
    let registered = &it["registered"];
    if registered.is_object() {
        lines.line(
            "registered",
            format!(
                "by {}, sponsorship {} ({})",
                actor(&registered["by"]),
                cell(&registered["sponsorship"]),
                cell(&registered["record"])
            ),
        );
    }
    lines.line("purpose", cell(&seen["purpose"]));
    if !seen["parent"].is_null() {
        lines.line("below", cell(&seen["parent"]));
    }
    lines.line(
        "bound",
        match at(it, "/binding/dpop/jkt").as_str() {
            Some(jkt) => format!("to key {jkt}, which it proves with every request"),
            None => "to nothing: whoever holds its token is taken for it".to_owned(),
        },
    );
    let started = format!(
        "{} by {} ({})",
        time(&seen["started_at"]),
        started_by(&seen["via"], &seen["key"]),
        cell(&seen["record"])
    );
    lines.line("started", started);
    lines.line("expires", time(&seen["expires_at"]));
    lines.line("ended", time(&seen["ended_at"]));
    let mut out = lines.text();
    let _infallible = write!(
        out,
        "\n{}",
        chain(&it["chain"], &it["sponsor"], &seen["sponsor"]).0
    );
    let decisions = it["decisions"].as_array().map_or(&[][..], Vec::as_slice);
    let earlier = if it["earlier"] == true {
        "; there are earlier ones"
    } else {
        ""
    };
    let _infallible = match decisions.len() {
        0 => writeln!(out, "\nNothing was decided about it."),
        1 => writeln!(out, "\nThe last decision{earlier}:"),
        count => writeln!(out, "\nThe last {count} decisions, newest last{earlier}:"),
    };
    for decision in decisions {
        out.push_str(&decided(decision));
    }
    out
}

/// A decision in two or three lines.
fn decided(it: &Value) -> String {
    let what = if it["tool"].is_null() && it["method"] == "tools/call" {
        "a tool that it does not list".to_owned()
    } else if it["tool"].is_null() {
        cell(&it["method"])
    } else {
        cell(&it["tool"])
    };
    let effect = match (it["effect"].as_str(), it["observed"].as_bool()) {
        (Some("allow"), Some(true)) => "OBSERVED (policy would have denied)",
        (Some("allow"), _) => "allowed",
        (Some("hold"), _) => "held",
        _ => "denied",
    };
    let mut out = format!(
        "{}  {}  {}: {effect}{}\n",
        record(&it["record"]),
        time(&it["time"]),
        clean(&format!("{} {what}", cell(&it["upstream"]))),
        by(it)
    );
    let _infallible = writeln!(out, "    with {}", clean(&arguments(it)));
    if let Some(to) = it["routed_to"].as_str() {
        let goes = match it["effect"].as_str() {
            Some("allow") => "sent to",
            Some("hold") => "goes, once approved, to",
            _ => "would have gone to",
        };
        let _infallible = writeln!(out, "    {goes} {}, where policy routes it", clean(to));
    }
    for (what, of) in [
        ("found in it", found(&it["found"])),
        ("read before", cell(&it["labels"])),
    ] {
        if !of.is_empty() {
            let _infallible = writeln!(out, "    {what}: {}", clean(&of));
        }
    }
    for glass in it["break_glass"].as_array().into_iter().flatten() {
        let _infallible = writeln!(
            out,
            "    UNDER BREAK-GLASS {}: asked for by {} ({}), opened by {} ({})",
            cell(&glass["id"]),
            cell(&glass["requested_by"]),
            cell(&glass["record"]),
            cell(&glass["opened_by"]),
            cell(&glass["opened_record"])
        );
    }
    if it["approval"].is_object() {
        let _infallible = writeln!(out, "    {}", approval(&it["approval"]));
    }
    if it["effect"] != "allow" || it["observed"] == true {
        let _infallible = writeln!(out, "    {}", clean(&reason(it)));
    }
    let _infallible = writeln!(out, "    {}", came(it));
    for line in passed(&it["outcome"]) {
        let _infallible = writeln!(out, "    {}", clean(&line));
    }
    out
}

/// What inspection found, as policies name it.
fn found(all: &Value) -> String {
    let one = |it: &Value| {
        format!(
            "{}/{} ×{}",
            cell(&it["class"]),
            cell(&it["rule"]),
            it["count"]
        )
    };
    let all = all.as_array().into_iter().flatten().map(one);
    all.collect::<Vec<_>>().join(", ")
}

/// What was masked, by rule.
fn masked(all: &Value) -> String {
    let one = |it: &Value| format!("{} ×{}", cell(&it["rule"]), it["count"]);
    let all = all.as_array().into_iter().flatten().map(one);
    all.collect::<Vec<_>>().join(", ")
}

/// What was looked into on the way, and what was done about it.
fn passed(outcome: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let sent = masked(at(outcome, "/sent/masked"));
    if !sent.is_empty() {
        lines.push(format!("masked before it was sent: {sent}"));
    }
    let response = &outcome["response"];
    if !response.is_object() {
        return lines;
    }
    let by = match cell(&response["policies"]) {
        none if none.is_empty() => String::new(),
        policies => format!(" by {policies}"),
    };
    let done = match response["done"].as_str() {
        Some("withheld") => format!("what came back was withheld from the agent{by}"),
        Some("masked") => format!(
            "what came back was masked{by}: {}",
            masked(&response["masked"])
        ),
        _ => format!("what came back was passed on{by}"),
    };
    lines.push(format!(
        "found in what came back: {}",
        found(&response["found"])
    ));
    lines.push(done);
    let labels = cell(&outcome["labels"]);
    if !labels.is_empty() {
        lines.push(format!("read since: {labels}"));
    }
    lines
}

/// The approval of a call, and by which records.
fn approval(it: &Value) -> String {
    let mut text = format!(
        "approval {}, asked for at {} ({})",
        cell(&it["id"]),
        time(&it["asked_at"]),
        cell(&it["record"])
    );
    let refused = match &it["refused"] {
        Value::Null => Value::Null,
        one => Value::Array(vec![one.clone()]),
    };
    for (word, who) in [("granted", &it["granted"]), ("refused", &refused)] {
        let who = by_whom(who);
        if !who.is_empty() {
            let _infallible = write!(text, ", {word} by {who}");
        }
    }
    let _infallible = write!(text, ", {}", state(it));
    if let Some(used) = it["used"].as_str() {
        let _infallible = write!(text, " ({})", clean(used));
    }
    text
}

fn by(it: &Value) -> String {
    match cell(&it["policies"]) {
        none if none.is_empty() => {
            let stage = cell(&it["stage"]);
            if stage.is_empty() {
                String::new()
            } else {
                format!(", at {stage}")
            }
        }
        policies => format!(" by {}", clean(&policies)),
    }
}

/// The arguments, cut where they are long: `--json` has them whole.
fn arguments(it: &Value) -> String {
    const SHOWN_CHARS_MAX: usize = 300;
    let left_out = &it["left_out"];
    match it["facts"].as_str() {
        Some("open") if left_out.is_object() => format!(
            "arguments that were not kept: {} bytes, SHA-256 {}",
            left_out["bytes"],
            cell(&left_out["digest"])
        ),
        Some("open") => {
            let text = it["arguments"].to_string();
            let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            if shown.len() < text.len() {
                shown.push('…');
            }
            shown
        }
        Some("erased") => "arguments that were erased".to_owned(),
        Some("sealed") => "arguments that are sealed".to_owned(),
        _ => "arguments that cannot be read".to_owned(),
    }
}

fn reason(it: &Value) -> String {
    match it["facts"].as_str() {
        Some("open") => cell(&it["reason"]),
        Some("erased") => "the reason was erased".to_owned(),
        Some("sealed") => "the reason is sealed, and the key is not here".to_owned(),
        _ => "the reason cannot be read: what was sealed is damaged".to_owned(),
    }
}

fn came(it: &Value) -> String {
    let outcome = &it["outcome"];
    if it["effect"] != "allow" {
        return "nothing was sent".to_owned();
    }
    if outcome.is_null() {
        return "in flight: no outcome is on record yet".to_owned();
    }
    let cause = match cell(&outcome["cause"]) {
        none if none.is_empty() => String::new(),
        cause => format!(", {}", clean(&cause)),
    };
    let told = match (outcome["result"].as_str(), outcome["is_error"].as_bool()) {
        // What the agent had is an error of ours then.
        (Some("completed"), _) if outcome.pointer("/response/done") == Some(&"withheld".into()) => {
            "the upstream answered"
        }
        (Some("completed"), Some(true)) => "the upstream answered with an error",
        (Some("completed"), _) => "the upstream answered",
        (Some("not-sent"), _) => "nothing was sent",
        _ => "it was sent, or may have been; the result is not known",
    };
    format!(
        "{told}{cause} ({}, {})",
        record(&outcome["record"]),
        time(&outcome["time"])
    )
}

fn entry(it: &Value) -> String {
    let mut lines = Lines::default();
    lines.line("record", record(&it["record"]));
    lines.line("leaf hash", cell(at(it, "/record/leaf_hash")));
    lines.line("kind", cell(&it["kind"]));
    lines.line("time", cell(&it["time"]));
    lines.line(
        "written by",
        format!("{}, start {}", cell(&it["node"]), it["epoch"]),
    );
    lines.line("actor", actor(&it["actor"]));
    lines.line("trace", cell(&it["trace"]));
    let decision = &it["decision"];
    if decision.is_null() {
        let body = serde_json::to_string_pretty(&it["body"]).unwrap_or_default();
        let body: Vec<String> = body.lines().map(clean).collect();
        return format!("{}\n{}\n", lines.text(), body.join("\n"));
    }
    lines.line("instance", cell(&decision["instance"]));
    lines.line("agent", cell(&decision["agent"]));
    lines.line("sponsor", person(&it["sponsor"], &decision["sponsor"]));
    lines.line("purpose", cell(&decision["purpose"]));
    lines.line("proven", cell(&decision["proven"]));
    lines.line("policy set", cell(&decision["policy_set"]));
    let (mut drawn, indent) = chain(&decision["chain"], &it["sponsor"], &decision["sponsor"]);
    let mut told = decided(decision);
    if decision["effect"] == "allow" && decision["observed"] != true {
        let _infallible = writeln!(told, "    {}", clean(&reason(decision)));
    }
    for (at, line) in told.lines().enumerate() {
        let branch = if at == 0 { "└─ " } else { "   " };
        let _infallible = writeln!(drawn, "{indent}{branch}{line}");
    }
    format!("{}\n{drawn}", lines.text())
}

/// The tree from the sponsor through each hop, and how far what hangs below the last is indented.
/// `sponsor`, called `id`, is whom the instance acts for: who started it, who need not be its agent's
/// sponsor.
fn chain(hops: &Value, sponsor: &Value, id: &Value) -> (String, String) {
    let hops = hops.as_array().map_or(&[][..], Vec::as_slice);
    let mut out = String::new();
    if let Some(first) = hops.first() {
        let (acts_for, own) = (person(sponsor, id), first["sponsor"] == *id);
        let sponsor = if own {
            acts_for.clone()
        } else {
            cell(&first["sponsor"])
        };
        let (agent, record) = (cell(&first["agent"]), cell(&first["acceptance_record"]));
        let since = time(&first["acceptance_since"]);
        let _infallible = match first["acceptance"].as_str() {
            Some("accepted") => writeln!(
                out,
                "{sponsor} accepted agent {agent} {since}, by {} ({record})",
                cell(&first["sign_in"])
            ),
            Some("lapsed") => writeln!(out, "{sponsor} has to accept agent {agent} again, {since}"),
            _ => writeln!(
                out,
                "{sponsor} sponsors agent {agent}, asserted {since} ({record})"
            ),
        };
        if !own {
            let _infallible = writeln!(out, "{acts_for} started the instance and answers for it");
        }
    }
    let mut indent = String::new();
    for hop in hops {
        let _infallible = writeln!(
            out,
            "{indent}└─ {} of {}, for {}, started {} by {} ({})",
            cell(&hop["instance"]),
            cell(&hop["agent"]),
            cell(&hop["purpose"]),
            time(&hop["started_at"]),
            started_by(&hop["via"], &Value::Null),
            cell(&hop["record"])
        );
        indent.push_str("   ");
        for detail in hop["handed_on"].as_array().into_iter().flatten() {
            let used = if *detail == hop["used"] {
                "used"
            } else {
                "may"
            };
            let _infallible = writeln!(out, "{indent}{used}: {}", clean(&what(detail)));
        }
        if let Some(why) = hop["handed_on_unknown"].as_str() {
            let _infallible = writeln!(
                out,
                "{indent}may: nothing, since what was handed on is {why}"
            );
        }
        if !hop["max_calls"].is_null() {
            let _infallible = writeln!(out, "{indent}calls: at most {}", hop["max_calls"]);
        }
    }
    (out, indent)
}

/// A detail of what was handed on, in short.
pub(super) fn what(detail: &Value) -> String {
    let mut text = format!(
        "{} of {}",
        cell(&detail["identifier"]),
        cell(&detail["locations"])
    );
    for (path, constraint) in detail["arguments"].as_object().into_iter().flatten() {
        let _infallible = write!(text, ", {path} {constraint}");
    }
    if !detail["arguments_sha256"].is_null() {
        let _infallible = write!(text, ", SHA-256 {}", cell(&detail["arguments_sha256"]));
    }
    text
}

/// What started an instance.
pub(super) fn started_by(via: &Value, key: &Value) -> String {
    let word = via.as_str().map(str::to_owned);
    let word = word.or_else(|| via.as_object().and_then(|it| it.keys().next().cloned()));
    match word.as_deref() {
        Some("exchange") => "token exchange".to_owned(),
        Some("once") => "token exchange, for one call".to_owned(),
        Some("person") => "a person who signed in".to_owned(),
        Some(other) => clean(other),
        None if key.is_null() => "a key of its agent".to_owned(),
        None => format!("key {}", cell(key)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::decided;

    #[test]
    fn a_call_says_what_was_found_and_what_was_done_about_it() {
        let said = decided(&json!({
            "effect": "allow", "tool": "leak", "upstream": "bank", "policies": ["all"],
            "facts": "open", "arguments": {},
            "found": [{"class": "personal", "rule": "card-number", "confidence": "high", "count": 2}],
            "labels": ["customer-data"],
            "outcome": {
                "result": "completed", "is_error": true,
                "sent": {"masked": [{"rule": "card-number", "count": 2}]},
                "response": {
                    "found": [{"class": "secret", "rule": "github-token", "confidence": "high", "count": 1}],
                    "done": "withheld", "policies": ["no-secrets"],
                },
            },
        }));
        let told: Vec<&str> = said.lines().skip(1).map(str::trim).collect();
        assert_eq!(
            told[..3],
            [
                "with {}",
                "found in it: personal/card-number ×2",
                "read before: customer-data"
            ]
        );
        assert!(told[3].starts_with("the upstream answered ("), "{said}");
        assert_eq!(
            told[4..],
            [
                "masked before it was sent: card-number ×2",
                "found in what came back: secret/github-token ×1",
                "what came back was withheld from the agent by no-secrets",
            ]
        );
        let masked = decided(&json!({
            "effect": "allow", "outcome": {
                "result": "completed", "labels": ["personal"],
                "response": {
                    "found": [], "done": "masked", "policies": ["cards"],
                    "masked": [{"rule": "card-number", "count": 1}],
                },
            },
        }));
        assert!(
            masked.contains("what came back was masked by cards: card-number ×1"),
            "{masked}"
        );
        assert!(masked.contains("read since: personal"), "{masked}");
        let plain = decided(
            &json!({"effect": "allow", "outcome": {"result": "completed", "is_error": true}}),
        );
        assert!(plain.contains("answered with an error"), "{plain}");
        assert!(!plain.contains("found"), "{plain}");
    }

    #[test]
    fn a_call_says_who_approved_it_and_a_held_one_whether_anybody_did() {
        let said = |at: &str, record: &str| json!({"by": "noor", "at": at, "record": record});
        let call = |effect: &str, approval: &Value| {
            let it = json!({"effect": effect, "tool": "refund", "approval": approval});
            decided(&it)
        };
        let (first, then) = ("2026-03-01T10:00:00.000000Z", "2026-03-01T10:05:00.000000Z");
        let mut it = json!({
            "id": "ap-1", "state": "pending", "asked_at": first, "record": "control/5",
            "until": then, "granted": [], "refused": null, "used": null, "over": null,
        });
        let waits = "    approval ap-1, asked for at 2026-03-01 10:00:00Z (control/5), \
                     waiting until 2026-03-01 10:05:00Z\n";
        assert!(call("hold", &it).contains(waits), "{}", call("hold", &it));
        it["refused"] = said(then, "control/6");
        it["state"] = json!("refused");
        let refused =
            "(control/5), refused by noor, 2026-03-01 10:05:00Z (control/6), refused until";
        assert!(call("hold", &it).contains(refused), "{}", call("hold", &it));
        it["refused"] = Value::Null;
        it["granted"] = json!([said(first, "control/6"), said(then, "control/7")]);
        it["state"] = json!("used");
        it["used"] = json!("control/8");
        let used = "(control/5), granted by noor, 2026-03-01 10:00:00Z (control/6); \
                    noor, 2026-03-01 10:05:00Z (control/7), used at 2026-03-01 10:05:00Z (control/8)\n";
        assert!(call("allow", &it).contains(used), "{}", call("allow", &it));
        assert!(!call("allow", &Value::Null).contains("approval"));
    }
}
