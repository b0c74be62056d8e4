use std::collections::BTreeMap;

use super::*;
use crate::testing::World;

const POLICIES: &str = r#"
@id("public") @reason("Only what is below /public.")
permit (principal in Agent::"triage", action == Action::"files/read", resource)
when { context.canonical.path like "/public/*" && context.now < datetime("2027-01-01") };
@id("docs") permit (principal, action == Action::"files:resources/read", resource)
when { principal.sponsor == Sponsor::"maya" && context.canonical.uri like "docs://*" };
"#;

fn people() -> Known {
    Known {
        agents: BTreeMap::from([(
            "deploy".parse().unwrap(),
            vec!["deploy/canary".parse().unwrap()],
        )]),
        ..Known::default()
    }
}

/// A case file and the lines that say how each case came out.
fn check(text: &str, expected: &[&str]) {
    let engine = World::new(POLICIES).engine;
    let cases = parse("a.test.yaml", text).unwrap_or_else(|problems| panic!("{problems:?}"));
    let found: Vec<String> = run(&engine, &people(), &cases)
        .iter()
        .map(|result| {
            let came = result.mismatch.as_deref().unwrap_or("passed");
            match &result.warning {
                Some(odd) => format!("{}:{came}, {odd}", result.line),
                None => format!("{}:{came}", result.line),
            }
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn cases_run() {
    check(
        "\
- name: public
  who: {agent: triage}
  call: files/read
  args: {path: /public/a}
  expect: allow
  policies: [public]
- {who: {agent: triage}, call: files/read, args: {path: /etc}, expect: deny, stage: policy, reason: below /public}
- {who: {agent: triage}, call: files/read, args: {path: /public/a}, now: \"2027-01-01\", expect: deny}
- {who: {agent: x, sponsor: maya}, call: \"files:resources/read\", args: {uri: \"docs://a\"}, expect: allow}
- {who: {agent: triage, allow: [\"web/*\"]}, call: files/read, args: {path: /public/a}, expect: deny, stage: authority}
- {who: {agent: triage}, call: files/read, args: {path: /etc}, expect: allow}
- {who: {agent: triage}, call: files/read, args: {path: /public/a}, expect: allow, policies: []}
- {who: {agent: triage}, call: files/read, args: {path: /public/../a}, expect: deny, stage: policy}
",
        &[
            "1:passed",
            "7:passed",
            "8:passed",
            "9:passed",
            "10:passed",
            "11:expected allow, got deny: No policy permits this call. It came near to `public`, whose conditions \
             do not hold. `public`: Only what is below /public.",
            "12:expected policies [], got [public]",
            "13:expected stage policy, got canonical: Argument `path` is not a canonical path: it can be written \
             in a simpler way. Write it as \"/a\".",
        ],
    );
}

#[test]
fn where_a_call_is_sent_is_expected_like_anything_else() {
    let policies = r#"@route("web") permit (principal, action == Action::"files:resources/read", resource);
        @approval("li") @route("web") permit (principal, action == Action::"files:prompts/get", resource)
        when { context has approval };"#;
    let engine = World::new(policies).engine;
    let text = "\
- {who: {agent: x}, call: \"files:resources/read\", args: {uri: \"docs://a\"}, expect: route}
- {who: {agent: x}, call: \"files:resources/read\", args: {uri: \"docs://a\"}, expect: route, route: web}
- {who: {agent: x}, call: \"files:prompts/get\", args: {name: a}, expect: hold, route: web}
- {who: {agent: x}, call: \"files:prompts/get\", args: {name: a}, expect: hold}
- {who: {agent: x}, call: \"files:resources/read\", args: {uri: \"docs://a\"}, expect: allow}
- {who: {agent: x}, call: \"files:resources/read\", args: {uri: \"docs://a\"}, expect: route, route: files}
- {who: {agent: x}, call: \"web:resources/read\", args: {uri: \"docs://a\"}, expect: deny, route: web}
";
    let cases = parse("a.test.yaml", text).unwrap_or_else(|problems| panic!("{problems:?}"));
    let came = run(&engine, &people(), &cases);
    let came: Vec<_> = came.iter().map(|it| it.mismatch.as_deref()).collect();
    assert_eq!(
        came,
        [
            None,
            None,
            None,
            None,
            Some("expected no route, got one to web"),
            Some("expected a route to files, got one to web"),
            Some("expected a route to web, got none"),
        ]
    );
}

#[test]
fn a_denial_of_what_is_not_there_shows_nothing() {
    check(
        "\
- {who: {agent: triage}, call: filez/read, args: {path: /etc}, expect: deny}
- {who: {agent: triage}, call: mail/send, expect: deny}
- {who: {agent: triage}, call: files/red, args: {path: /etc}, expect: deny}
- {who: {agent: triage}, call: files/read, args: {pth: /etc}, expect: deny}
- {who: {agent: triage}, call: files/read, args: {path: /etc, more: 1}, expect: deny}
- {who: {agent: triage}, call: down/read, expect: deny}
- {who: {agent: triage}, call: \"files:resources/raed\", args: {uri: \"x://a\"}, expect: deny}
- {who: {agent: triage}, call: \"files:resources/read\", args: {urii: \"x://a\"}, expect: deny}
- {who: {agent: traige}, call: files/read, args: {path: /etc}, expect: deny}
- {who: {agent: stranger}, call: files/read, args: {path: /etc}, expect: deny}
- {who: {agent: deploy, purpose: deploy/canray}, call: files/read, args: {path: /etc}, expect: deny}
- {who: {agent: deploy, purpose: holidays}, call: files/read, args: {path: /etc}, expect: deny}
- {who: {agent: deploy, purpose: deploy/canary/eu}, call: files/read, args: {path: /etc}, expect: deny}
",
        &[
            "1:there is no upstream `filez`; did you mean `files`?",
            "2:there is no upstream `mail`; there are `down`, `files`, `web`",
            "3:`files` has no tool `red`; did you mean `read`?",
            "4:`read` takes no argument `pth`. Did you mean `path` (string)? It takes `head` (integer), \
             `path` (string, required).",
            "5:`read` takes no argument `more`. It takes `head` (integer), `path` (string, required).",
            "6:the tools of `down` are not known, so this case shows nothing",
            "7:policy decides no method `resources/raed`; did you mean `resources/read`?",
            "8:`resources/read` needs a `uri` in `args`",
            "9:the agent `traige` is neither registered nor named by a policy; did you mean `triage`?",
            "10:passed, the agent `stranger` is neither registered nor named by a policy",
            "11:the purpose `deploy/canray` is neither registered nor named by a policy; did you mean \
             `deploy/canary`?",
            "12:passed, the purpose `holidays` is neither registered nor named by a policy",
            "13:passed",
        ],
    );
}

#[test]
fn sponsors_and_groups_that_nobody_knows_are_told() {
    let engine = World::new(
        r#"
@id("maya") permit (principal, action, resource)
when { principal.sponsor == Sponsor::"mayo" || principal.sponsor == Sponsor::"noor" };
@id("groups") forbid (principal, action, resource)
when { principal.sponsor.groups.containsAny(["Contractors", "Contractor"]) }
unless { ["/public/*"].contains("/public/*") || principal.sponsor == Sponsor::"" };
@id("open") forbid (principal, action == Action::"files/read", resource)
when { principal.sponsor.groups.contains(context.args.path) };
@id("held") @approval("2 of noor, olga, group:Contractors, group:Finance, sponsor")
permit (principal, action, resource) when { context has approval };
"#,
    )
    .engine;
    let names = |all: &[&str]| Some(all.iter().map(|&it| it.to_owned()).collect());
    let told = |people: &Known| -> Vec<String> {
        let all = slips(&engine, people);
        let told = all.iter().map(|it| {
            let help = it.help.as_deref().unwrap_or("-");
            format!("{}:{} ({help})", it.policy.as_deref().unwrap(), it.message)
        });
        told.collect()
    };
    let unwritten = "open:this compares groups with what is not written in the policy, so whenever a \
                     group is renamed it says something else (write the names of the groups into the \
                     policy)";
    let later = "whoever is added first by that name will be meant";
    let people = Known {
        sponsors: names(&["maya", "noor"]),
        groups: names(&["Contractors"]),
        ..Known::default()
    };
    assert_eq!(
        told(&people),
        [
            format!("maya:no sponsor `mayo` is known; {later} (did you mean `maya`?)"),
            format!("groups:no group `Contractor` is known; {later} (did you mean `Contractors`?)"),
            unwritten.to_owned(),
            format!("held:no sponsor `olga` is known; {later} (-)"),
            format!("held:no group `Finance` is known; {later} (-)"),
        ]
    );
    assert_eq!(told(&Known::default()), [unwritten]);
}

#[test]
fn a_file_of_comments_has_no_cases() {
    for text in ["", "# none yet\n", "# - name: a\n#   call: b\n\n"] {
        let cases = parse("a.test.yaml", text).unwrap_or_else(|problems| panic!("{problems:?}"));
        assert!(cases.is_empty(), "{text}");
    }
}

fn seeing() -> Known {
    let names = |all: &[&str]| Some(all.iter().map(ToString::to_string).collect());
    Known {
        findings: names(&["secret/github-token", "personal/card-number"]),
        labels: names(&["customer-data"]),
        ..people()
    }
}

#[test]
fn what_policies_never_see_is_told() {
    let engine = World::new(
        r#"
@id("right") @mask("personal/card-number, secret:medium") forbid (principal, action, resource)
when { context.findings.contains("secret/github-token") || context.findings.contains("personal") };
@id("rule") forbid (principal, action, resource)
when { context.findings.contains("secret/githubtoken") };
@id("mask") @mask("personal/card-numbr") permit (principal, action, resource);
@id("labels") forbid (principal, action, resource)
when { context.labels.containsAny(["customer-data", "custmer-data", "persnal", "personal"]) };
"#,
    )
    .engine;
    let told = |known: &Known| -> Vec<String> {
        let slips = slips(&engine, known);
        let told = slips.iter().map(|it| {
            let near = it.help.as_deref().unwrap_or("-");
            format!(
                "{}: {} ({near})",
                it.policy.as_deref().unwrap_or("-"),
                it.message
            )
        });
        told.collect()
    };
    assert_eq!(
        told(&seeing()),
        [
            "rule: no rule finds `secret/githubtoken` (did you mean `secret/github-token`?)",
            "mask: no rule finds `personal/card-numbr` (did you mean `personal/card-number`?)",
            "labels: no upstream and no tool has the label `custmer-data` (did you mean `customer-data`?)",
            "labels: no upstream and no tool has the label `persnal` (did you mean `personal`?)",
        ]
    );
    assert_eq!(told(&Known::default()), [""; 0]);
}

#[test]
fn a_case_that_says_what_is_never_seen_shows_nothing() {
    let engine = World::new(POLICIES).engine;
    for (said, why) in [
        (
            "findings: [secret, personal/card-number, \"injection:high\"]",
            None,
        ),
        ("labels: [customer-data, personal]", None),
        (
            "findings: [secret/github-tokn]",
            Some("no rule finds `secret/github-tokn`; did you mean `secret/github-token`?"),
        ),
        ("findings: [hidden/x]", Some("no rule finds `hidden/x`")),
        (
            "labels: [custmer-data]",
            Some(
                "no upstream and no tool has the label `custmer-data`; did you mean `customer-data`?",
            ),
        ),
    ] {
        let text = format!(
            "- {{who: {{agent: triage}}, call: files/read, args: {{path: /public/a}}, {said}, \
             expect: allow}}\n"
        );
        let cases = parse("a.test.yaml", &text).unwrap_or_else(|problems| panic!("{problems:?}"));
        let results = run(&engine, &seeing(), &cases);
        assert_eq!(results[0].mismatch.as_deref(), why, "{said}");
    }
}

#[test]
fn a_slip_in_the_name_of_an_agent_or_a_purpose_is_told() {
    let engine = World::new(
        r#"
@id("known") forbid (principal in Agent::"deploy", action, resource)
unless { principal in Purpose::"deploy/canary/eu" };
@id("slips") forbid (principal in Agent::"delpoy", action, resource)
unless { principal in Purpose::"deploy/canray" || principal in Purpose::"deplyo" };
@id("above") forbid (principal in Purpose::"deploy", action, resource);
@id("later") forbid (principal in Agent::"triage", action, resource)
unless { principal in Purpose::"holidays" };
"#,
    )
    .engine;
    let told = |people: &Known| -> Vec<String> {
        let slips = slips(&engine, people);
        slips.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        told(&people()),
        [
            "p.cedar:4:43: warning: no agent `delpoy` is registered\n  help: did you mean `deploy`?",
            "p.cedar:5:33: warning: no purpose `deploy/canray` is registered\n  help: did you mean \
             `deploy/canary`?",
            "p.cedar:5:74: warning: no purpose `deplyo` is registered\n  help: did you mean `deploy`?",
        ]
    );
    assert_eq!(told(&Known::default()), [""; 0]);
}

#[test]
fn a_case_that_states_the_stage_means_it() {
    check(
        "\
- {who: {agent: triage}, call: filez/read, expect: deny, stage: policy-unavailable}
- {who: {agent: triage}, call: down/read, expect: deny, stage: policy-unavailable}
- {who: {agent: triage}, call: files/red, expect: deny, stage: unknown-tool}
- {who: {agent: triage}, call: files/read, args: {pth: /etc}, expect: deny, stage: schema}
- {who: {agent: triage}, call: \"files:resources/read\", expect: deny, stage: schema}
- {who: {agent: triage}, call: files/red, expect: deny, stage: schema}
",
        &[
            "1:passed",
            "2:passed",
            "3:passed",
            "4:passed",
            "5:passed",
            "6:`files` has no tool `red`; did you mean `read`?",
        ],
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let check = |text: &str, expected: &[&str]| {
        let found: Vec<String> = parse("a.test.yaml", text)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, expected, "{text}");
    };
    check(
        "a: 1",
        &["a.test.yaml:1:1: error: a case file is a list of cases"],
    );
    check(
        "- [",
        &[
            "a.test.yaml:2:1: error: this is not YAML: while parsing a node, did not find expected node content",
        ],
    );
    check(
        "- nmae: x\n  who: {agent: triage, sponser: maya}\n  call: files/read\n  expect: deny\n",
        &[
            "a.test.yaml:1:3: error: a case has no `nmae`\n  help: did you mean `name`?",
            "a.test.yaml:2:24: error: `who` has no `sponser`\n  help: did you mean `sponsor`?",
        ],
    );
    check(
        "- who: {agent: Triage, proven: 1}\n  call: read\n  expect: maybe\n",
        &[
            "a.test.yaml:1:16: error: `agent` is not valid: an agent id may not hold 'T' (byte 0); lower-case letters, \
             digits, `-`, `_` and `.` are allowed, the first a letter or digit",
            "a.test.yaml:2:9: error: `call` is `UPSTREAM/TOOL` or `UPSTREAM:METHOD`",
            "a.test.yaml:3:11: error: `expect` is `allow`, `hold`, `deny` or `route`",
        ],
    );
    check(
        "- {}\n",
        &[
            "a.test.yaml:1:3: error: a case needs `who`",
            "a.test.yaml:1:3: error: a case needs `call`",
            "a.test.yaml:1:3: error: a case needs `expect`",
        ],
    );
    check(
        "- name: a\n  name: b\n",
        &["a.test.yaml:2:3: error: this is not YAML: duplicated key in mapping"],
    );
}
