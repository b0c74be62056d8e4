//! What upstreams and people give the policy engine: tool lists, policies, cases, arguments.

use std::sync::LazyLock;

use policy::cases::Known;
use policy::{
    Decision, Engine, FACTS_VERSION, Facts, InstanceFacts, PolicyFile, PolicySet, Replay, Target,
    ToolList, UpstreamInput, UpstreamOptions,
};
use serde_json::Value;
use serde_json::value::RawValue;
use vocab::{Time, UpstreamName};

use crate::{text, two_parts};

const TOOLS: &str = r#"[
    {"name": "read", "inputSchema": {"type": "object", "required": ["path"], "properties": {
        "path": {"type": "string"}, "head": {"type": "integer"}}}},
    {"name": "write-file", "inputSchema": {"type": "object", "required": ["path"], "properties": {
        "path": {"type": "string"}, "size": {"type": "integer"}, "ratio": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "string"}}, "blob": {},
        "options": {"type": "object", "properties": {"force": {"type": "boolean"}}}}}},
    {"name": "fetch", "inputSchema": {"type": "object", "required": ["url"], "properties": {
        "url": {"type": "string", "format": "uri"}}}}
]"#;

const POLICIES: &str = r#"
@id("read") permit (principal, action == Action::"files/read", resource)
  when { context.canonical.path like "/public/*" };
@id("write") permit (principal, action == Action::"files/write-file", resource)
  when { context.canonical.path like "/public/*" && context.args has size && context.args.size <= 10 };
@id("fetch") permit (principal, action == Action::"files/fetch", resource)
  when { context.canonical.url like "https://example.com/public/*" };
@id("tags") forbid (principal, action == Action::"files/write-file", resource)
  when { context.args has tags && context.args.tags.contains("secret") };
"#;

/// What the fixed world is made of, made once.
struct World {
    upstream: UpstreamName,
    instance: InstanceFacts,
    tools: ToolList,
    engine: Engine,
}

static WORLD: LazyLock<Option<World>> = LazyLock::new(|| {
    let upstream: UpstreamName = "files".parse().ok()?;
    let tools = ToolList::parse(&upstream, TOOLS.as_bytes()).ok()?;
    let set = set(POLICIES)?;
    Some(World {
        instance: InstanceFacts {
            id: "i-aaaaaaaaaaaaaaaaaaaaaaaaab".parse().ok()?,
            agent: "triage".parse().ok()?,
            sponsor: "maya".parse().ok(),
            sponsor_groups: Vec::new(),
            purpose: "triage/refunds".parse().ok()?,
            depth: 0,
            ancestors: Vec::new(),
            proven: true,
            environment: String::new(),
            authority: None,
            handed_on: None,
            above: Vec::new(),
            root_purpose: None,
            perhaps_sponsor: Vec::new(),
            perhaps_groups: vec!["staff".to_owned()],
        },
        engine: Engine::build(&set, &[input(&upstream, &tools)]),
        upstream,
        tools,
    })
});

fn input<'a>(name: &UpstreamName, tools: &'a ToolList) -> UpstreamInput<'a> {
    UpstreamInput {
        name: name.clone(),
        tools: Some(tools),
        options: UpstreamOptions::default(),
    }
}

fn set(text: &str) -> Option<PolicySet> {
    let name = "p.cedar".to_owned();
    let text = text.to_owned();
    PolicySet::parse(vec![PolicyFile { name, text }]).ok()
}

fn call(world: &World, tool: &str, args: &str) -> Option<Facts> {
    Some(Facts {
        v: FACTS_VERSION,
        instance: world.instance.clone(),
        upstream: world.upstream.clone(),
        target: Target::Tool {
            name: tool.parse().ok()?,
        },
        args: RawValue::from_string(args.to_owned()).ok()?,
        now: Time::from_secs(1_795_254_662),
        standing: None,
        limit: None,
        unread: false,
        observe: false,
        approval: None,
        findings: Vec::new(),
        direction: policy::Direction::default(),
        elsewhere: false,
        labels: std::collections::BTreeSet::new(),
        no_route: None,
    })
}

/// An upstream's list of tools becomes a schema, whatever the upstream lists.
pub fn tool_list(data: &[u8]) -> bool {
    let Some(world) = &*WORLD else {
        return false;
    };
    // As pins of an upstream it is written as both readers take it.
    if let Some(pins) = gateway::Pins::parse(data) {
        assert!(ToolList::pinned(&world.upstream, &pins.to_blob()).is_ok());
    }
    let Ok(list) = ToolList::parse(&world.upstream, data) else {
        return false;
    };
    let _shown = list.problems();
    let Some(policies) = set("permit (principal, action, resource);") else {
        return false;
    };
    let engine = Engine::build(&policies, &[input(&world.upstream, &list)]);
    for tool in list.names() {
        if let Some(facts) = call(world, tool.as_str(), r#"{"path":"/a","n":1,"o":{"x":[1]}}"#) {
            let verdict = engine.decide(&facts).verdict();
            assert_eq!(policy::replay(&facts, &engine, &verdict), Replay::Same);
        }
    }
    !list.is_empty()
}

/// A set of policies is kept and read again as the same set, and can decide.
pub fn policy_set(data: &[u8]) -> bool {
    if let Ok(kept) = PolicySet::from_blob(data) {
        let again = PolicySet::from_blob(kept.to_blob());
        assert!(again.is_ok_and(|again| again.digest() == kept.digest()));
        return true;
    }
    let (Some(text), Some(world)) = (text(data), &*WORLD) else {
        return false;
    };
    let Some(policies) = set(text) else {
        return false;
    };
    let again = PolicySet::from_blob(policies.to_blob());
    assert!(again.is_ok_and(|again| again.digest() == policies.digest()));
    let engine = Engine::build(&policies, &[input(&world.upstream, &world.tools)]);
    if let Some(facts) = call(world, "read", r#"{"path":"/public/a"}"#) {
        let verdict = engine.decide(&facts).verdict();
        assert_eq!(policy::replay(&facts, &engine, &verdict), Replay::Same);
        let _shown = engine.explain(&facts);
    }
    !policies.is_empty()
}

/// A file of cases, which runs if it was taken.
pub fn cases(data: &[u8]) -> bool {
    let (Some(text), Some(world)) = (text(data), &*WORLD) else {
        return false;
    };
    let Ok(cases) = policy::cases::parse("cases.yaml", text) else {
        return false;
    };
    let results = policy::cases::run(&world.engine, &Known::default(), &cases);
    assert_eq!(results.len(), cases.len());
    !cases.is_empty()
}

/// The input: a tool, then its arguments. What is permitted is, to any reader, below `/public/`.
pub fn decide(data: &[u8]) -> bool {
    let (tool, args) = two_parts(data);
    let (Some(tool), Some(args), Some(world)) = (text(tool), text(args), &*WORLD) else {
        return false;
    };
    let Some(facts) = call(world, tool, args) else {
        return false;
    };
    let decision = world.engine.decide(&facts);
    let permitted = matches!(decision, Decision::Permit(_));
    let verdict = decision.verdict();
    assert_eq!(
        policy::replay(&facts, &world.engine, &verdict),
        Replay::Same
    );
    let _shown = world.engine.explain(&facts);
    if !permitted {
        return false;
    }
    let args: Value = serde_json::from_str(args).unwrap_or_default();
    match tool {
        "fetch" => assert!(is_below(&args, "url", "https://example.com/public/")),
        "read" | "write-file" => assert!(is_below(&args, "path", "/public/")),
        _ => assert!(tool.is_empty(), "`{tool}` was permitted"),
    }
    if tool == "write-file" {
        let size = args.get("size").and_then(Value::as_f64);
        assert!(size.is_some_and(|size| size <= 10.0));
    }
    true
}

/// Read as a careless server would: every escape undone again and again, then segment by segment.
fn is_below(args: &Value, name: &str, start: &str) -> bool {
    let mut value = args
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    for (escape, plain) in [("%25", "%"), ("%2e", "."), ("%2f", "/"), ("%5c", "\\")].repeat(4) {
        let upper = escape.to_ascii_uppercase();
        value = value.replace(escape, plain).replace(&upper, plain);
    }
    let rest = value.strip_prefix(start).unwrap_or("..");
    !rest.contains(['\0', '\n', '\r']) && !rest.split(['/', '\\']).any(|it| it == "..")
}
