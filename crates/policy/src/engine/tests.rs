mod approval;
mod chain;
mod findings;
mod names;
mod pins;
mod routed;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::decision::Effect;
use crate::facts::Target as Called;
use crate::set::PolicyFile;
use crate::testing::{World, facts};

/// Policies, a call, and what is answered: effect, stage, policies, words of the reason.
fn check(policies: &str, call: &str, args: &Value, expected: (&str, &[&str], &str)) {
    let world = World::new(policies);
    let verdict = world.engine.decide(&facts(call, args)).verdict();
    let stage = verdict.stage.map_or("allow", Stage::as_str);
    let (expected_stage, ids, words) = expected;
    assert_eq!(
        (stage, verdict.policies.as_slice()),
        (
            expected_stage,
            &ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()[..]
        ),
        "{policies}\n{call} {args}\n{verdict:?}\n{:?}",
        world.engine.diagnostics()
    );
    assert!(
        verdict.reason.contains(words),
        "{:?} lacks {words:?}",
        verdict.reason
    );
    assert_eq!(verdict.effect == Effect::Allow, stage == "allow");
}

const PUBLIC: &str = r#"
@id("public") @reason("Only what is below /public.")
permit (principal in Agent::"triage", action == Action::"files/read", resource)
when { context.canonical.path like "/public/*" };
"#;

#[test]
fn arguments_decide() {
    let path = |path: &str| json!({"path": path});
    check(
        PUBLIC,
        "files/read",
        &path("/public/a"),
        ("allow", &["public"], "Only what is below"),
    );
    check(
        PUBLIC,
        "files/read",
        &path("/etc/passwd"),
        ("policy", &[], "came near to `public`"),
    );
    check(
        PUBLIC,
        "files/read",
        &path("/public/../etc"),
        ("canonical", &[], "Write it as \"/etc\""),
    );
    check(
        PUBLIC,
        "files/read",
        &path("/public/%2e%2e/etc"),
        ("canonical", &[], "\"/etc\""),
    );
    check(
        PUBLIC,
        "files/read",
        &json!({"pth": "/public/a"}),
        ("schema", &[], "Did you mean `path` (string)?"),
    );
    check(
        PUBLIC,
        "files/read",
        &json!([]),
        ("schema", &[], "not a JSON object"),
    );
    check(
        PUBLIC,
        "files/raed",
        &path("/public/a"),
        ("unknown-tool", &[], "Did you mean `read`?"),
    );
    check(
        PUBLIC,
        "files/wirte-file",
        &path("/public/a"),
        ("unknown-tool", &[], "has no tool `wirte-file`."),
    );
    check(
        PUBLIC,
        "files/write-file",
        &json!({"path": "/public/a", "text": ""}),
        ("policy", &[], "No policy permits"),
    );
    check(
        PUBLIC,
        "down/anything",
        &json!({}),
        ("policy-unavailable", &[], "not known yet"),
    );
    check(
        PUBLIC,
        "nowhere/anything",
        &json!({}),
        ("policy-unavailable", &[], "no valid policy"),
    );
}

#[test]
fn everything_in_the_vocabulary_can_be_read() {
    for condition in [
        "principal in Agent::\"triage\"",
        "principal.agent == Agent::\"triage\"",
        "principal in Purpose::\"triage\"",
        "principal in Purpose::\"triage/refunds\"",
        "principal.purpose == \"triage/refunds\"",
        "principal.sponsor == Sponsor::\"maya\"",
        "principal.sponsor.groups.contains(\"oncall\")",
        "principal.depth == 1",
        "principal.ancestors.contains(Agent::\"front\")",
        "principal.root_purpose == \"triage/refunds\"",
        "principal.environment == \"production\"",
        "action in Action::\"files\"",
        "resource in Upstream::\"files\"",
        "resource == Tool::\"files/write-file\"",
        "context.proven",
        "context.args.path == \"/a\"",
        "context.args has size && context.args.size < 10",
        "context.args has ratio && context.args.ratio.lessThan(decimal(\"0.5\"))",
        "context.args has options && context.args.options has force && context.args.options.force",
        "context.args has tags && context.args.tags.contains(\"x\")",
        "context.canonical.path == \"/a\"",
        "context.untyped.contains(\"blob\")",
        "context.now >= datetime(\"2026-11-21\") && context.now < datetime(\"2026-11-22\")",
    ] {
        let policies = format!(
            "@id(\"p\") permit (principal, action == Action::\"files/write-file\", resource) when {{ {condition} }};"
        );
        let args = json!({"path": "/a", "text": "", "size": 3, "ratio": 0.25,
            "options": {"force": true}, "tags": ["x"], "blob": {"any": "thing"}});
        check(
            &policies,
            "files/write-file",
            &args,
            ("allow", &["p"], "`p`"),
        );
    }
}

#[test]
fn methods_are_decided() {
    let policies = r#"
        @id("res") permit (principal, action == Action::"files:resources/read", resource == Upstream::"files")
        when { context.canonical.uri like "file:///public/*" };
        @id("prompt") permit (principal, action in Action::"files", resource is Upstream)
        when { context.args has name && context.args.name == "greet" };
    "#;
    let world = World::new(policies);
    assert_eq!(world.engine.diagnostics(), []);
    let call = |method: &str, name: Option<&str>| {
        let mut facts = facts("files/read", &json!({}));
        facts.target = Called::Method {
            method: method.to_owned(),
            name_or_uri: name.map(ToOwned::to_owned),
        };
        let verdict = world.engine.decide(&facts).verdict();
        (verdict.stage, verdict.policies.join(" "))
    };
    let ok = |id: &str| (None, id.to_owned());
    let no = |stage| (Some(stage), String::new());
    assert_eq!(call("resources/read", Some("file:///public/a")), ok("res"));
    assert_eq!(
        call("resources/read", Some("file:///private/a")),
        no(Stage::Policy)
    );
    assert_eq!(
        call("resources/read", Some("file:///public/../a")),
        no(Stage::Canonical)
    );
    assert_eq!(call("resources/read", None), no(Stage::Schema));
    assert_eq!(call("prompts/get", Some("greet")), ok("prompt"));
    assert_eq!(call("prompts/get", Some("other")), no(Stage::Policy));
    assert_eq!(call("completion/complete", None), no(Stage::Policy));
    assert_eq!(call("no/such", None), no(Stage::UnknownTool));
}

#[test]
fn stages_come_in_the_order_of_the_walk() {
    let world = World::new("@id(\"all\") permit (principal, action, resource);");
    let good = facts("files/read", &json!({"path": "/a"}));
    let stage = |facts: &Facts| world.engine.decide(facts).verdict().stage;
    assert_eq!(stage(&good), None);
    let mut bad = good.clone();
    bad.limit = Some("Too fast.".to_owned());
    assert_eq!(stage(&bad), Some(Stage::Limit));
    bad.instance.authority = Some(vec!["files/write*".to_owned()]);
    assert_eq!(stage(&bad), Some(Stage::Authority));
    bad.standing = Some("The sponsor is suspended.".to_owned());
    assert_eq!(stage(&bad), Some(Stage::Standing));
    bad.observe = true;
    assert_eq!(stage(&bad), Some(Stage::Standing));
    let denied = Engine::none().decide(&good).verdict();
    assert_eq!(denied.stage, Some(Stage::PolicyUnavailable));
}

#[test]
fn forbids_win_and_warnings_add_up() {
    let policies = r#"
        @id("all") @warn("Look out.") permit (principal, action, resource);
        @id("some") @warn("Take care.") permit (principal, action in Action::"files", resource);
        @id("secret") @reason("Not that file.") forbid (principal, action, resource)
        when { context.canonical has path && context.canonical.path like "*secret*" };
    "#;
    check(
        policies,
        "files/read",
        &json!({"path": "/secret"}),
        ("policy", &["secret"], "Not that file."),
    );
    let world = World::new(policies);
    let Decision::Permit(permit) = world
        .engine
        .decide(&facts("files/read", &json!({"path": "/a"})))
    else {
        panic!("denied");
    };
    assert_eq!(permit.policies(), ["all", "some"]);
    assert_eq!(permit.warnings(), ["Look out.", "Take care."]);
}

#[test]
fn an_evaluation_error_denies() {
    let policies = r#"
        @id("all") permit (principal, action, resource);
        @id("sum") forbid (principal, action == Action::"files/write-file", resource)
        when { context.args has size && context.args.size + 1 > 100 };
    "#;
    let args = json!({"path": "/a", "text": "", "size": i64::MAX});
    check(
        policies,
        "files/write-file",
        &args,
        ("error", &["sum"], "could not be evaluated"),
    );
}

#[test]
fn a_value_that_policy_cannot_read_does_not_slip_past_a_forbid() {
    let policies = r#"
        @id("all") permit (principal, action, resource);
        @id("big") forbid (principal, action == Action::"files/write-file", resource)
        when { context.args has size && context.args.size > 100 };
    "#;
    let args = |size: &str| -> Value {
        serde_json::from_str(&format!(
            "{{\"path\": \"/a\", \"text\": \"\", \"size\": {size}}}"
        ))
        .unwrap()
    };
    check(
        policies,
        "files/write-file",
        &args("7"),
        ("allow", &["all"], ""),
    );
    check(
        policies,
        "files/write-file",
        &args("9223372036854775808"),
        ("schema", &[], "cannot be shown to policy"),
    );
    // An argument without a type is the same to a rule for all tools.
    let for_all = r#"
        @id("all") permit (principal, action, resource);
        @id("blob") forbid (principal, action, resource) when { context.args has blob };
    "#;
    let blob = json!({"path": "/a", "text": "", "blob": [1]});
    check(
        for_all,
        "files/write-file",
        &blob,
        ("schema", &[], "`blob` cannot be shown to policy"),
    );
    check(
        for_all,
        "files/write-file",
        &args("7"),
        ("allow", &["all"], ""),
    );
    // Where no policy reads it, it passes, and is named.
    let lax = "@id(\"all\") permit (principal, action, resource) when { context.untyped.contains(\"size\") };";
    check(
        lax,
        "files/write-file",
        &args("9223372036854775808"),
        ("allow", &["all"], ""),
    );
}

#[test]
fn observing_lets_policy_denials_pass_and_nothing_else() {
    let world = World::new(PUBLIC);
    let mut observed = facts("files/read", &json!({"path": "/etc/passwd"}));
    observed.observe = true;
    let Decision::Permit(permit) = world.engine.decide(&observed) else {
        panic!("denied");
    };
    assert_eq!(
        permit.observed().map(|denial| denial.stage),
        Some(Stage::Policy)
    );
    assert!(permit.verdict().observed);
    let mut bad = facts("files/read", &json!({"path": "/public/../etc"}));
    bad.observe = true;
    assert_eq!(
        world.engine.decide(&bad).verdict().stage,
        Some(Stage::Canonical)
    );
    assert_eq!(Engine::none().decide(&observed).effect(), Effect::Deny);
}

#[test]
fn a_forbid_that_does_not_fit_denies_its_scope_and_no_more() {
    let policies = r#"
        @id("all") permit (principal, action, resource);
        @id("shape") forbid (principal in Agent::"triage", action in [Action::"files/read", Action::"files/write-file"], resource)
        when { context.args.size > 100 };
    "#;
    // `read` has no `size`, and `write-file` has one that is optional: neither can be evaluated.
    check(
        policies,
        "files/read",
        &json!({"path": "/a"}),
        ("policy-unavailable", &["shape"], "does not fit"),
    );
    check(
        policies,
        "files/list_dir",
        &json!({}),
        ("allow", &["all"], ""),
    );
    let world = World::new(policies);
    let mut other = facts("files/read", &json!({"path": "/a"}));
    other.instance.agent = "other".parse().unwrap();
    assert_eq!(world.engine.decide(&other).effect(), Effect::Allow);
}

#[test]
fn a_permit_that_does_not_fit_is_off_where_it_does_not_fit() {
    let policies = r#"
        @id("read") permit (principal, action in Action::"files", resource is Tool)
        when { context.args.path like "/public/*" };
    "#;
    check(
        policies,
        "files/read",
        &json!({"path": "/public/a"}),
        ("allow", &["read"], ""),
    );
    check(
        policies,
        "files/list_dir",
        &json!({}),
        ("policy", &[], "No policy permits"),
    );
}

#[test]
fn a_changed_tool_list_touches_only_what_names_the_change() {
    let policies = r#"
        @id("reads") permit (principal, action == Action::"files/read", resource) when { context.args.path like "/public/*" };
        @id("lists") permit (principal, action == Action::"files/list_dir", resource);
        @id("limit") forbid (principal, action == Action::"files/write-file", resource) when { context.args has size && context.args.size > 9 };
        @id("writes") permit (principal, action == Action::"files/write-file", resource);
    "#;
    let changed = json!([
        {"name": "read", "inputSchema": {"type": "object", "properties": {"file": {"type": "string"}}}},
        {"name": "list_dir", "inputSchema": {"type": "object"}},
        {"name": "write-file", "inputSchema": {"type": "object", "properties": {"size": {"type": "string"}}}},
    ]);
    let world = World::with_tools(policies, &changed);
    let verdict = |call: &str| world.engine.decide(&facts(call, &json!({}))).verdict();
    assert_eq!(verdict("files/read").stage, Some(Stage::Policy));
    assert_eq!(verdict("files/list_dir").effect, Effect::Allow);
    assert_eq!(
        verdict("files/write-file").stage,
        Some(Stage::PolicyUnavailable)
    );
}

#[test]
fn an_upstream_that_is_down_is_decided_by_its_kept_list_or_not_at_all() {
    let world =
        World::new("@id(\"d\") permit (principal, action == Action::\"down/x\", resource);");
    let verdict = world.engine.decide(&facts("down/x", &json!({}))).verdict();
    assert_eq!(verdict.stage, Some(Stage::PolicyUnavailable));
    let [only] = world.engine.diagnostics() else {
        panic!("{:?}", world.engine.diagnostics());
    };
    assert_eq!(only.severity, crate::Severity::Warning);
}

#[test]
fn a_default_denial_names_what_came_near() {
    let policies = r#"
        @id("mine") permit (principal in Agent::"triage", action == Action::"files/read", resource)
        when { context.proven && context.canonical.path like "/public/*" }
        unless { context.canonical.path like "*.key" };
        @id("theirs") permit (principal in Agent::"billing", action == Action::"files/list_dir", resource);
    "#;
    let world = World::new(policies);
    let nearest = |call: &str, args: &Value| match world.engine.decide(&facts(call, args)) {
        Decision::Denial(denial) => denial.nearest().to_vec(),
        Decision::Permit(_) | Decision::Hold(_) => panic!("not denied"),
    };
    let near = |policy: &str, failed: &str| {
        vec![Nearest {
            policy: policy.to_owned(),
            failed: failed.to_owned(),
        }]
    };
    assert_eq!(
        nearest("files/read", &json!({"path": "/etc/x"})),
        near("mine", "context.canonical.path like \"/public/*\"")
    );
    assert_eq!(
        nearest("files/read", &json!({"path": "/public/x.key"})),
        near("mine", "!(context.canonical.path like \"*.key\")")
    );
    assert_eq!(
        nearest("files/list_dir", &json!({})),
        near("theirs", "principal in Agent::\"billing\"")
    );
}

#[test]
fn only_what_could_be_permitted_is_visible() {
    let policies = r#"
        permit (principal in Agent::"triage", action == Action::"files/read", resource)
        when { principal.sponsor.groups.contains("oncall") && context.args.path like "/public/*" };
        permit (principal in Agent::"billing", action == Action::"files/list_dir", resource);
        permit (principal, action == Action::"files/write-file", resource);
        forbid (principal, action == Action::"files/write-file", resource) when { principal.depth > 0 };
    "#;
    let world = World::new(policies);
    let caller = facts("files/read", &json!({})).instance;
    let seen = |instance: &InstanceFacts| -> Vec<&str> {
        ["read", "list_dir", "write-file", "no-such"]
            .into_iter()
            .filter(|tool| {
                world
                    .engine
                    .visible(instance, &"files".parse().unwrap(), &tool.parse().unwrap())
            })
            .collect()
    };
    assert_eq!(seen(&caller), ["read"]);
    assert_eq!(
        seen(&InstanceFacts {
            sponsor_groups: Vec::new(),
            ..caller.clone()
        }),
        [""; 0]
    );
    assert_eq!(
        seen(&InstanceFacts {
            depth: 0,
            ..caller.clone()
        }),
        ["read", "write-file"]
    );
    assert_eq!(
        seen(&InstanceFacts {
            authority: Some(vec!["files/w*".into()]),
            depth: 0,
            ..caller.clone()
        }),
        ["write-file"]
    );
    assert_eq!(
        seen(&InstanceFacts {
            agent: "billing".parse().unwrap(),
            ..caller.clone()
        }),
        ["list_dir"]
    );
    assert!(!Engine::none().visible(&caller, &"files".parse().unwrap(), &"read".parse().unwrap()));
}

#[test]
fn facts_read_what_they_write_and_nothing_else() {
    let facts = facts("files/read", &json!({"path": "/a", "n": 1.50}));
    let text = serde_json::to_string(&facts).unwrap();
    let again: Facts = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
    assert_eq!(
        text,
        "{\"v\":1,\"instance\":{\"id\":\"i-aaaaaaaaaaaaaaaaaaaaaaaaab\",\"agent\":\"triage\",\"sponsor\":\"maya\",\
        \"sponsor_groups\":[\"oncall\"],\"purpose\":\"triage/refunds\",\"depth\":1,\"ancestors\":[\"front\"],\"proven\":true,\
        \"environment\":\"production\",\"authority\":null},\"upstream\":\"files\",\"target\":{\"tool\":{\"name\":\"read\"}},\
        \"args\":{\"path\":\"/a\",\"n\":1.5},\"now\":\"2026-11-21T09:51:02.123456Z\",\"standing\":null,\"limit\":null,\"observe\":false}"
    );
    assert!(serde_json::from_str::<Facts>(&text.replace("\"v\":1", "\"v\":2")).is_err());
    assert!(serde_json::from_str::<Facts>(&text.replace("\"observe\"", "\"obsreve\"")).is_err());
}

#[test]
fn a_duplicate_key_is_refused() {
    let mut facts = facts("files/read", &json!({}));
    facts.args = serde_json::value::RawValue::from_string(
        "{\"path\":\"/public/a\",\"path\":\"/etc\"}".to_owned(),
    )
    .unwrap();
    let verdict = World::new(PUBLIC).engine.decide(&facts).verdict();
    assert_eq!(verdict.stage, Some(Stage::Schema));
}

const AGENTS: [&str; 2] = ["triage", "other"];
const PURPOSES: [&str; 4] = ["triage", "triage/refunds", "triage/refunds/eu", "ops"];
const INSTANCES: [&str; 2] = [
    "i-aaaaaaaaaaaaaaaaaaaaaaaaab",
    "i-aaaaaaaaaaaaaaaaaaaaaaaaac",
];
const ACTIONS: [&str; 9] = [
    "files",
    "web",
    "files/read",
    "files/list_dir",
    "files/write-file",
    "files/rea",
    "files:resources/read",
    "files:prompts/get",
    "web/fetch",
];

/// Every form of scope that Cedar has, but for slots, which are refused.
fn principal_scope() -> impl Strategy<Value = String> {
    let of = |ty: &'static str, ids: &'static [&'static str]| {
        prop::sample::select(ids).prop_map(move |id| format!("{ty}::{id:?}"))
    };
    let instance = || of("Instance", &INSTANCES);
    let group = prop_oneof![
        of("Agent", &AGENTS),
        of("Purpose", &PURPOSES),
        of("Purpose", &["tri", "triage/refund"]),
        Just("Agent::\"tri\\u{61}ge\"".to_owned()),
        instance(),
    ];
    prop_oneof![
        2 => Just("principal".to_owned()),
        1 => Just("principal is Instance".to_owned()),
        2 => instance().prop_map(|id| format!("principal == {id}")),
        4 => (group, any::<bool>()).prop_map(|(group, is)| {
            let is = if is { "is Instance " } else { "" };
            format!("principal {is}in {group}")
        }),
    ]
}

fn action_scope() -> impl Strategy<Value = String> {
    let action = prop::sample::select(&ACTIONS).prop_map(|id| format!("Action::{id:?}"));
    let exact = prop::sample::select(&ACTIONS[2..]).prop_map(|id| format!("Action::{id:?}"));
    prop_oneof![
        Just("action".to_owned()),
        exact.prop_map(|id| format!("action == {id}")),
        action.clone().prop_map(|id| format!("action in {id}")),
        proptest::collection::vec(action, 0..4)
            .prop_map(|ids| format!("action in [{}]", ids.join(", "))),
    ]
}

fn resource_scope() -> impl Strategy<Value = String> {
    let tool = || {
        prop::sample::select(vec!["files/read", "files/write-file", "web/fetch"])
            .prop_map(|id| format!("Tool::{id:?}"))
    };
    let upstream =
        || prop::sample::select(vec!["files", "web"]).prop_map(|id| format!("Upstream::{id:?}"));
    prop_oneof![
        Just("resource".to_owned()),
        Just("resource is Tool".to_owned()),
        Just("resource is Upstream".to_owned()),
        tool().prop_map(|id| format!("resource == {id}")),
        tool().prop_map(|id| format!("resource in {id}")),
        tool().prop_map(|id| format!("resource is Tool in {id}")),
        upstream().prop_map(|id| format!("resource == {id}")),
        upstream().prop_map(|id| format!("resource in {id}")),
        upstream().prop_map(|id| format!("resource is Tool in {id}")),
        upstream().prop_map(|id| format!("resource is Upstream in {id}")),
    ]
}

fn conditions() -> impl Strategy<Value = String> {
    let condition = prop::sample::select(vec![
        "true",
        "context.proven",
        "principal.depth > 1",
        "principal.depth + 9223372036854775807 > 1",
        "principal.depth * 2 - 9223372036854775807 < 0 || principal.depth > 1",
        "principal.sponsor.groups.contains(\"oncall\")",
        "principal in Agent::\"triage\" && action in [Action::\"files\", Action::\"web/fetch\"]",
        "if resource is Tool then context.proven else principal.depth == 0",
        "[1, -2, principal.depth].containsAny([2]) || {\"a b\": \"\\\"\\u{e9}\\0\"}[\"a b\"] == \"\"",
        "context.args has path && context.args.path like \"/p*\"",
        "context.args has path && context.args.path like \"*\\*x\\u{2a}*\"",
        "decimal(\"0.5\").lessThan(decimal(\"0.25\")) || principal.ancestors.isEmpty()",
        "context.now < datetime(\"2026-11-22\")",
        "context has now && principal.depth < 2",
        "context == context",
    ]);
    let kind = prop::sample::select(vec!["when", "when", "unless"]);
    let clause = (kind, condition).prop_map(|(kind, text)| format!("{kind} {{ {text} }} "));
    proptest::collection::vec(clause, 0..3).prop_map(|clauses| clauses.concat())
}

fn policy_text() -> impl Strategy<Value = String> {
    let effect = prop::sample::select(vec!["permit", "permit", "permit", "forbid"]);
    let parts = (
        effect,
        principal_scope(),
        action_scope(),
        resource_scope(),
        conditions(),
    );
    parts.prop_map(|(effect, principal, action, resource, conditions)| {
        format!("{effect} ({principal}, {action}, {resource}) {conditions};\n")
    })
}

/// A call of a tool, or of a method.
fn call() -> impl Strategy<Value = Facts> {
    let calls = prop::sample::select(vec![
        ("files/read", json!({"path": "/public"})),
        ("files/list_dir", json!({})),
        ("files/write-file", json!({"path": "/p*x*", "text": ""})),
        ("web/fetch", json!({"url": "https://example.com/"})),
        ("files:resources/read", json!("file:///p")),
        ("web:resources/read", json!("file:///p")),
        ("files:prompts/get", json!("greet")),
    ]);
    calls.prop_map(|(call, args)| {
        let mut facts = facts(&call.replace(':', "/"), &args);
        if let Some((_, method)) = call.split_once(':') {
            facts.target = Called::Method {
                method: method.to_owned(),
                name_or_uri: args.as_str().map(ToOwned::to_owned),
            };
            facts.args = serde_json::value::RawValue::NULL.to_owned();
        }
        facts
    })
}

/// One of a few instances.
fn caller() -> impl Strategy<Value = InstanceFacts> {
    let agent = prop::sample::select(&AGENTS);
    let purpose = prop::sample::select(&PURPOSES);
    let instance = prop::sample::select(&INSTANCES);
    let parts = (agent, purpose, instance, 0_u32..3, any::<bool>());
    parts.prop_map(|(agent, purpose, id, depth, proven)| InstanceFacts {
        agent: agent.parse().unwrap(),
        purpose: purpose.parse().unwrap(),
        id: id.parse().unwrap(),
        depth,
        proven,
        ..facts("files/read", &json!({})).instance
    })
}

/// What Cedar makes of a call by `set`: its decision, the policies that determine it, its errors.
fn ask(asked: &Asked, set: &cedar_policy::PolicySet) -> (bool, Vec<String>, Vec<String>) {
    let response = Authorizer::new().is_authorized(&asked.request, set, &asked.caller.1);
    let diagnostics = response.diagnostics();
    let mut reasons: Vec<String> = diagnostics.reason().map(ToString::to_string).collect();
    let mut errors: Vec<String> = diagnostics.errors().map(ToString::to_string).collect();
    reasons.sort_unstable();
    errors.sort_unstable();
    let allowed = response.decision() == cedar_policy::Decision::Allow;
    (allowed, reasons, errors)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Selecting policies by scope, evaluating them without it, and showing them what they read
    /// alone, never changes an answer.
    #[test]
    fn a_slice_answers_as_the_whole_set(
        policies in proptest::collection::vec(policy_text(), 0..12),
        calls in proptest::collection::vec(call(), 1..3),
        callers in proptest::collection::vec(caller(), 1..8),
    ) {
        let world = World::new(&policies.concat());
        let engine = &world.engine;
        for (mut facts, caller) in calls.iter().flat_map(|call| callers.iter().map(|caller| (call.clone(), caller))) {
            facts.instance = caller.clone();
            let (index, _) = match &facts.target {
                Called::Tool { name } => engine.target_of(&facts.upstream, name).unwrap(),
                Called::Method { method, .. } => engine.method_target(&facts.upstream, method).unwrap(),
            };
            let reached = [Shown::All, Shown::Read].map(|shown| engine.reach(&facts, shown, &As::default()));
            let [asked, lean] = match reached {
                [Reached::Policy(asked), Reached::Policy(lean)] => [asked, lean],
                [Reached::Refused(denial), _] | [_, Reached::Refused(denial)] => {
                    prop_assert_eq!(denial.stage(), Stage::PolicyUnavailable);
                    continue;
                }
            };
            let fits = |at: &usize| !engine.broken.get(at).is_some_and(|broken| broken.is_on(index));
            let whole = (0..engine.policies.len()).filter(fits);
            let whole = whole.map(|at| engine.policies[at].cedar.clone());
            let whole = cedar_policy::PolicySet::from_policies(whole).unwrap();
            let (allowed, reasons, errors) = ask(&asked, &whole);
            prop_assert_eq!(ask(&lean, &lean.slice.set), (allowed, reasons.clone(), errors.clone()));
            let verdict = engine.decide(&facts).verdict();
            prop_assert_eq!(verdict.effect == Effect::Allow, allowed && errors.is_empty());
            if errors.is_empty() {
                prop_assert_eq!(&verdict.policies, &reasons);
            } else {
                prop_assert_eq!(verdict.stage, Some(Stage::Error));
            }
            // What the context holds is what the schema says it holds.
            let (principal, action, resource) = (asked.request.principal(), asked.request.action(), asked.request.resource());
            let checked = Request::new(
                principal.unwrap().clone(), action.unwrap().clone(), resource.unwrap().clone(),
                asked.request.context().unwrap().clone(), engine.schema(),
            );
            prop_assert!(checked.is_ok(), "{checked:?}");
            // What is permitted is visible.
            let (instance, upstream) = (&facts.instance, &facts.upstream);
            let visible = match &facts.target {
                Called::Tool { name } => engine.visible(instance, upstream, name),
                Called::Method { method, .. } => engine.visible_method(instance, upstream, method),
            };
            prop_assert!(visible || verdict.effect == Effect::Deny);
        }
    }
}

#[test]
fn digests_name_everything_that_decides() {
    let world = World::new(PUBLIC);
    assert_ne!(world.engine.digest(), World::new("").engine.digest());
    assert_ne!(
        world.engine.digest(),
        World::with_tools(PUBLIC, &json!([])).engine.digest()
    );
    assert_eq!(world.engine.digest(), World::new(PUBLIC).engine.digest());
    let set = PolicySet::parse(vec![PolicyFile {
        name: "p.cedar".into(),
        text: PUBLIC.into(),
    }])
    .unwrap();
    let again = PolicySet::from_blob(set.to_blob()).unwrap();
    assert_eq!(again.digest(), set.digest());
}

#[test]
fn the_version_is_that_of_the_engine() {
    let cedar = format!("cedar-{} ", cedar_policy::get_sdk_version());
    assert!(versions().starts_with(&cedar), "{} {cedar}", versions());
}

#[test]
fn options_open_an_upstream() {
    let tools = json!([{"name": "send", "inputSchema": {"type": "object", "properties": {
        "target": {"type": "string"}, "into": {"type": "array", "items": {"type": "string"}}, "link": {"type": "string"}}}}]);
    let upstream: UpstreamName = "files".parse().unwrap();
    let list = ToolList::parse(&upstream, tools.to_string().as_bytes()).unwrap();
    let policies = r#"
        @id("all") permit (principal, action, resource);
        @id("etc") forbid (principal, action == Action::"files/send", resource)
        when { context.canonical has target && context.canonical.target like "/etc/*"
            || context.canonical has into && context.canonical.into.contains("/etc")
            || context.canonical has link && context.canonical.link like "http://127.0.0.1/*" };
    "#;
    let set = PolicySet::parse(vec![PolicyFile {
        name: "p.cedar".to_owned(),
        text: policies.to_owned(),
    }])
    .unwrap();
    let check = |args: Value, strict: Option<Stage>, lax: Option<Stage>| {
        for (allow, expected) in [(false, strict), (true, lax)] {
            let input = UpstreamInput {
                name: upstream.clone(),
                tools: Some(&list),
                options: UpstreamOptions {
                    allow_undeclared: allow,
                    allow_noncanonical: allow,
                    path_args: vec!["target".to_owned(), "send/into".to_owned()],
                    url_args: vec!["send/link".to_owned(), "other/link".to_owned()],
                },
            };
            let engine = Engine::build(&set, &[input]);
            assert_eq!(engine.diagnostics(), []);
            let verdict = engine.decide(&facts("files/send", &args)).verdict();
            assert_eq!(
                verdict.stage, expected,
                "{args} {allow}: {}",
                verdict.reason
            );
        }
    };
    let (schema, canonical, policy) = (
        Some(Stage::Schema),
        Some(Stage::Canonical),
        Some(Stage::Policy),
    );
    check(json!({"target": "/tmp/a"}), None, None);
    check(json!({"target": "/etc/a"}), policy, policy);
    check(json!({"target": "/tmp/../etc/a"}), canonical, policy);
    check(json!({"target": "/tmp/%2e%2e/etc/a"}), canonical, policy);
    check(json!({"target": "../etc/a"}), canonical, canonical);
    check(json!({"into": ["/a", "/b"]}), None, None);
    check(json!({"into": ["/a", "/etc/./"]}), canonical, policy);
    check(json!({"link": "http://2130706433/x"}), canonical, policy);
    check(json!({"link": "http://xn--a.example/x"}), canonical, None);
    check(json!({"undeclared": 1}), schema, None);
}

#[test]
fn an_explanation_says_what_policy_saw_and_what_came_of_it() {
    let policies = r#"
        @id("public") permit (principal in Agent::"triage", action == Action::"files/read", resource)
        when { context.canonical.path like "/public/*" };
        @id("large") permit (principal, action == Action::"files/read", resource)
        when { context.args has head && context.args.head > 100 };
        @id("other") permit (principal in Agent::"other", action, resource);
        @id("sum") forbid (principal, action in Action::"files", resource)
        when { principal.depth * 9223372036854775807 > 1 && principal.depth > 1 };
    "#;
    let mut facts = facts("files/read", &json!({"path": "/public/a", "head": 7}));
    let explanation = World::new(policies).engine.explain(&facts);
    assert_eq!(
        serde_json::to_value(&explanation).unwrap(),
        json!({
            "verdict": {"effect": "allow", "stage": null, "policies": ["public"],
                "reason": "Permitted by `public`.", "observed": false},
            "warnings": [],
            "nearest": [],
            "request": {
                "principal": "Instance::\"i-aaaaaaaaaaaaaaaaaaaaaaaaab\"",
                "action": "Action::\"files/read\"",
                "resource": "Tool::\"files/read\"",
                "context": {
                    "args": {"path": "/public/a", "head": 7},
                    "canonical": {"path": "/public/a"},
                    "proven": true,
                    "untyped": [], "findings": [], "direction": "request", "labels": [],
                    "now": {"__extn": {"fn": "datetime", "arg": "2026-11-21T09:51:02.123Z"}},
                },
            },
            "policies": [
                {"policy": "large", "effect": "allow", "place": "p.cedar:4",
                    "outcome": {"is": "does-not-apply", "because": "!(context.args.head <= 100)"}},
                {"policy": "public", "effect": "allow", "place": "p.cedar:2", "outcome": {"is": "applies"}},
                {"policy": "sum", "effect": "deny", "place": "p.cedar:7",
                    "outcome": {"is": "does-not-apply", "because": "!(principal.depth <= 1)"}},
            ],
        })
    );
    facts.instance.depth = 2;
    let explanation = World::new(policies).engine.explain(&facts);
    assert_eq!(explanation.verdict.stage, Some(Stage::Error));
    let failed = explanation
        .policies
        .last()
        .map(|policy| format!("{:?}", policy.outcome));
    assert_eq!(
        failed.unwrap(),
        "Failed(\"integer overflow while attempting to multiply the values `2` and `9223372036854775807`\")"
    );
    facts.instance.authority = Some(Vec::new());
    let explanation = World::new(policies).engine.explain(&facts);
    assert_eq!(
        (explanation.verdict.stage, explanation.request),
        (Some(Stage::Authority), None)
    );
}

#[test]
fn a_decision_run_again_is_the_same_or_different() {
    let facts = facts("files/read", &json!({"path": "/public/a"}));
    let world = World::new(PUBLIC);
    let recorded = world.engine.decide(&facts).verdict();
    let text = serde_json::to_string(&recorded).unwrap();
    let recorded: crate::Verdict = serde_json::from_str(&text).unwrap();
    assert_eq!(
        crate::replay(&facts, &world.engine, &recorded),
        crate::Replay::Same
    );
    let denied = Engine::none().decide(&facts).verdict();
    assert_eq!(
        crate::replay(&facts, &Engine::none(), &recorded),
        crate::Replay::Different(denied)
    );
}

#[test]
fn a_denial_without_its_arguments_is_run_as_far_as_it_goes() {
    use crate::Replay::{Bounded, Different, Same};
    let world = World::new(PUBLIC);
    let check = |call: &str, change: fn(&mut Facts), engine: &Engine, expected: &str| {
        let mut facts = facts(call, &json!({"path": "/etc/passwd"}));
        change(&mut facts);
        let recorded = engine.decide(&facts).verdict();
        facts.args = serde_json::value::RawValue::NULL.to_owned();
        let again = crate::replay_without_arguments(&facts, engine, &recorded);
        let seen = match &again {
            Same => "same",
            Bounded => "bounded",
            Different(_) => "different",
        };
        assert_eq!(seen, expected, "{call}: {recorded:?}: {again:?}");
        // What is refused before its arguments are looked at cannot pass for what is not.
        facts.standing = Some("suspended".to_owned());
        let again = crate::replay_without_arguments(&facts, engine, &recorded);
        let same = recorded.stage == Some(Stage::Standing);
        assert_eq!(again == Same, same, "{call}: {recorded:?}: {again:?}");
        assert_eq!(matches!(again, Different(_)), !same);
    };
    let as_it_is = |_: &mut Facts| {};
    check("files/read", as_it_is, &world.engine, "bounded");
    check("files/no-such", as_it_is, &world.engine, "same");
    check("files/read", as_it_is, &Engine::none(), "same");
    let suspended = |facts: &mut Facts| facts.standing = Some("suspended".to_owned());
    check("files/read", suspended, &world.engine, "same");
    let over = |facts: &mut Facts| facts.limit = Some("too many".to_owned());
    check("files/read", over, &world.engine, "same");
    let beyond = |facts: &mut Facts| facts.instance.authority = Some(Vec::new());
    check("files/read", beyond, &world.engine, "same");
    let foreign = |facts: &mut Facts| {
        facts.args = serde_json::value::RawValue::from_string("[]".to_owned()).unwrap();
    };
    check("files/read", foreign, &world.engine, "bounded");
    // A permit is never without its arguments.
    let public = |facts: &mut Facts| {
        facts.args =
            serde_json::value::RawValue::from_string(r#"{"path":"/public/a"}"#.to_owned()).unwrap();
    };
    check("files/read", public, &world.engine, "different");
}

#[test]
fn methods_that_nothing_permits_are_not_visible() {
    let world = World::new(
        "permit (principal in Agent::\"triage\", action == Action::\"files:prompts/get\", resource);",
    );
    let caller = facts("files/read", &json!({})).instance;
    let seen = |method: &str| {
        world
            .engine
            .visible_method(&caller, &"files".parse().unwrap(), method)
    };
    assert!(seen("prompts/get"));
    assert!(!seen("resources/read"));
    assert!(!seen("no/such"));
}

#[test]
fn paths_in_lists_and_objects_are_in_canonical_form_too() {
    let text = json!({"type": "string"});
    let tools = json!([{"name": "copy", "inputSchema": {"type": "object", "properties": {
        "paths": {"type": "array", "items": text},
        "options": {"type": "object", "properties": {
            "targetPath": text,
            "urls": {"type": "array", "items": {"type": "string", "format": "uri"}},
        }},
        "edits": {"type": "array", "items": {"type": "object", "properties": {"path": text}}},
    }}}]);
    let policies = r#"
        @id("files") permit (principal, action == Action::"files/copy", resource);
        @id("list") forbid (principal, action == Action::"files/copy", resource)
            when { context.canonical has paths && context.canonical.paths.contains("/private/a") };
        @id("object") forbid (principal, action == Action::"files/copy", resource) when {
            context.canonical has "options.targetPath" &&
            context.canonical["options.targetPath"] like "/private/*" };
        @id("unseen") forbid (principal, action == Action::"files/copy", resource)
            when { context.untyped.contains("edits") };
    "#;
    let world = World::with_tools(policies, &tools);
    assert_eq!(world.engine.diagnostics(), []);
    let check = |args: Value, stage: &str, policies: &[&str]| {
        let verdict = world.engine.decide(&facts("files/copy", &args)).verdict();
        let found = verdict.stage.map_or("", Stage::as_str);
        assert_eq!(found, stage, "{args}: {}", verdict.reason);
        assert_eq!(verdict.policies, policies, "{args}: {}", verdict.reason);
    };
    check(json!({"paths": ["/public/a", "/b"]}), "", &["files"]);
    check(json!({"paths": []}), "", &["files"]);
    check(
        json!({"paths": ["/public/a", "/private/a"]}),
        "policy",
        &["list"],
    );
    check(
        json!({"paths": ["/public/a", "/public/../private/a"]}),
        "canonical",
        &[],
    );
    check(
        json!({"options": {"targetPath": "/public/a"}}),
        "",
        &["files"],
    );
    check(
        json!({"options": {"targetPath": "/private/a"}}),
        "policy",
        &["object"],
    );
    check(
        json!({"options": {"targetPath": "/public/%2e%2e/a"}}),
        "canonical",
        &[],
    );
    check(
        json!({"options": {"urls": ["https://a.example/", "HTTPS://b.example/"]}}),
        "canonical",
        &[],
    );
    // What has no type is not looked into; policy sees that it is there.
    check(
        json!({"edits": [{"path": "/public/../private/a"}]}),
        "policy",
        &["unseen"],
    );
}
