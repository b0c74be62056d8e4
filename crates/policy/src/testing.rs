//! A small world for tests: three upstreams, one of them never listed, and one caller.

use serde_json::{Value, json};
use vocab::Time;

use crate::{
    Engine, Facts, InstanceFacts, PolicyFile, PolicySet, Target, ToolList, UpstreamInput,
    UpstreamOptions,
};

pub(crate) struct World {
    pub(crate) engine: Engine,
}

impl World {
    pub(crate) fn new(policies: &str) -> Self {
        Self::with_tools(policies, &file_tools())
    }

    pub(crate) fn with_tools(policies: &str, tools: &Value) -> Self {
        let set = PolicySet::parse(vec![PolicyFile {
            name: "p.cedar".to_owned(),
            text: policies.to_owned(),
        }])
        .unwrap_or_else(|problems| panic!("{problems:?}"));
        let files =
            ToolList::pinned(&"files".parse().unwrap(), tools.to_string().as_bytes()).unwrap();
        let web = json!([{"name": "fetch", "inputSchema": {"type": "object",
            "properties": {"url": {"type": "string", "format": "uri"}}, "required": ["url"]}}]);
        let web = ToolList::parse(&"web".parse().unwrap(), web.to_string().as_bytes()).unwrap();
        let input = |name: &str, tools| UpstreamInput {
            name: name.parse().unwrap(),
            tools,
            options: UpstreamOptions::default(),
        };
        let upstreams = [
            input("files", Some(&files)),
            input("web", Some(&web)),
            input("down", None),
        ];
        Self {
            engine: Engine::build(&set, &upstreams),
        }
    }
}

fn file_tools() -> Value {
    json!([
        {"name": "read", "inputSchema": {"type": "object", "required": ["path"],
            "properties": {"path": {"type": "string"}, "head": {"type": "integer"}}}},
        {"name": "list_dir", "inputSchema": {"type": "object"}},
        {"name": "write-file", "inputSchema": {"type": "object", "required": ["path", "text"], "properties": {
            "path": {"type": "string"}, "text": {"type": "string"}, "size": {"type": "integer"},
            "ratio": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}},
            "options": {"type": "object", "properties": {"force": {"type": "boolean"}}},
            "blob": {}}}},
    ])
}

/// Facts of a call by a delegated, proven instance of `triage`.
pub(crate) fn facts(call: &str, args: &Value) -> Facts {
    let (upstream, tool) = call.split_once('/').unwrap();
    Facts {
        v: crate::FACTS_VERSION,
        instance: InstanceFacts {
            id: "i-aaaaaaaaaaaaaaaaaaaaaaaaab".parse().unwrap(),
            agent: "triage".parse().unwrap(),
            sponsor: Some("maya".parse().unwrap()),
            sponsor_groups: vec!["oncall".to_owned()],
            purpose: "triage/refunds".parse().unwrap(),
            depth: 1,
            ancestors: vec!["front".parse().unwrap()],
            proven: true,
            environment: "production".to_owned(),
            authority: None,
            handed_on: None,
            above: Vec::new(),
            root_purpose: None,
            perhaps_sponsor: Vec::new(),
            perhaps_groups: Vec::new(),
        },
        upstream: upstream.parse().unwrap(),
        target: Target::Tool {
            name: tool.parse().unwrap(),
        },
        args: serde_json::value::to_raw_value(args).unwrap(),
        now: Time::from_micros(1_795_254_662_123_456),
        standing: None,
        limit: None,
        unread: false,
        observe: false,
        approval: None,
        findings: Vec::new(),
        direction: crate::Direction::default(),
        elsewhere: false,
        labels: std::collections::BTreeSet::new(),
        no_route: None,
    }
}
