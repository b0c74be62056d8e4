use serde_json::json;

use super::*;

fn list(tools: &Value) -> ToolList {
    ToolList::parse(&"files".parse().unwrap(), tools.to_string().as_bytes()).unwrap()
}

fn tool(schema: &Value) -> Arc<Tool> {
    let list = list(&json!([{"name": "read", "inputSchema": schema}]));
    Arc::clone(list.tools().next().unwrap())
}

fn check(schema: &Value, args: &Value, expected: Result<(), (&str, &str)>) {
    let found = tool(schema).check(args, false);
    let expected = expected.map_err(|(cause, reason)| Refusal {
        cause: cause.to_owned(),
        reason: reason.to_owned(),
    });
    assert_eq!(found, expected, "{args}");
}

const TAKES: &str = "It takes `edit` (object), `head` (integer), `mode` (one of \"text\", \"bytes\"), \
    `path` (string, required), `tags` (array of string).";

#[test]
fn arguments_are_checked_in_words_a_model_can_act_on() {
    let schema = json!({"type": "object", "required": ["path"], "properties": {
        "path": {"type": "string"},
        "head": {"type": "integer", "minimum": 1},
        "mode": {"enum": ["text", "bytes"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "edit": {"type": "object", "properties": {"from": {"type": "string"}}, "required": ["from"]},
    }});
    let check = |args: Value, expected: Result<(), (&str, &str)>| {
        let whole = expected.map_err(|(cause, reason)| (cause, format!("{reason} {TAKES}")));
        check(
            &schema,
            &args,
            whole.as_ref().copied().map_err(|(c, r)| (*c, r.as_str())),
        );
    };
    check(json!({"path": "x"}), Ok(()));
    check(
        json!({"path": "x", "haed": 3}),
        Err((
            "an argument that the tool does not declare",
            "`read` takes no argument `haed`. Did you mean `head` (integer)?",
        )),
    );
    check(
        json!({"head": 3}),
        Err((
            "argument `path` (string) is missing",
            "`read` cannot be called so: argument `path` (string) is missing.",
        )),
    );
    check(
        json!({"path": 7}),
        Err((
            "argument `path` must be of type string, and is of type number",
            "`read` cannot be called so: argument `path` must be of type string, and is of type number.",
        )),
    );
    check(
        json!({"path": "x", "mode": "secret"}),
        Err((
            "argument `mode` must be one of \"text\", \"bytes\"",
            "`read` cannot be called so: argument `mode` must be one of \"text\", \"bytes\".",
        )),
    );
    check(
        json!({"path": "x", "tags": ["a", 2]}),
        Err((
            "argument `tags[1]` must be of type string, and is of type number",
            "`read` cannot be called so: argument `tags[1]` must be of type string, and is of type number.",
        )),
    );
    check(
        json!({"path": "x", "edit": {}}),
        Err((
            "argument `edit` lacks its member `from`",
            "`read` cannot be called so: argument `edit` lacks its member `from`.",
        )),
    );
    check(
        json!({"path": "x", "head": 0}),
        Err((
            "argument `head` is not valid: value is less than the minimum of 1",
            "`read` cannot be called so: argument `head` is not valid: value is less than the minimum of 1.",
        )),
    );
}

#[test]
fn what_a_schema_leaves_open_is_open() {
    let args = json!({"path": "x", "more": 1});
    let properties = json!({"path": {"type": "string"}});
    let closed = tool(&json!({"properties": properties}));
    assert!(closed.check(&args, false).is_err());
    assert!(closed.check(&args, true).is_ok());
    let open = tool(&json!({"properties": properties, "additionalProperties": true}));
    assert!(open.check(&args, false).is_ok());
    let shut = tool(&json!({"properties": properties, "additionalProperties": false}));
    assert!(shut.check(&args, true).is_err());
    let typed =
        tool(&json!({"properties": properties, "additionalProperties": {"type": "string"}}));
    assert!(typed.check(&args, false).is_err());
    let split = tool(
        &json!({"allOf": [{"properties": properties}, {"$ref": "#/$defs/m"}],
        "$defs": {"m": {"properties": {"more": {}}}}}),
    );
    assert!(split.check(&args, false).is_ok());
    let none = tool(&json!({"type": "object"}));
    assert_eq!(
        none.check(&args, false).unwrap_err().reason,
        "`read` takes no argument `path`. It takes no arguments."
    );
}

#[test]
fn undeclared_members_are_refused_at_any_depth() {
    let schema = json!({"type": "object", "properties": {
        "opts": {"type": "object", "properties": {
            "path": {"type": "string"},
            "deep": {"anyOf": [{"$ref": "#/$defs/deep"}, {"type": "null"}]},
            "free": {"type": "object"},
            "any": {},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
            "one": {"type": "object", "oneOf": [
                {"properties": {"a": {}}, "required": ["a"]},
                {"properties": {"b": {}}, "required": ["b"]},
            ]},
        }},
        "edits": {"type": "array", "items": {"$ref": "#/$defs/deep"}},
    }, "$defs": {"deep": {"type": "object", "properties": {
        "to": {"type": "string"}, "again": {"$ref": "#/$defs/deep"},
    }}}});
    let tool = tool(&schema);
    let check = |args: Value, expected: Option<&str>| {
        let found = tool.check(&args, false).map_err(|refusal| refusal.reason);
        let takes = "It takes `edits` (array of object), `opts` (object).";
        let expected = expected.map(|name| format!("`read` takes no argument `{name}`. {takes}"));
        assert_eq!(found.err(), expected, "{args}");
        assert!(tool.check(&args, true).is_ok(), "{args}");
    };
    check(json!({"opts": {"path": "/x", "deep": {"to": "y"}}}), None);
    check(
        json!({"opts": {"deep": null, "free": {"a": {"b": 1}}, "any": {"c": 1}}}),
        None,
    );
    check(json!({"opts": {"map": {"k": "v"}}}), None);
    check(
        json!({"edits": [{"to": "x", "again": {"again": {"to": "z"}}}]}),
        None,
    );
    check(json!({"opts": {"one": {"a": 1}}}), None);
    check(
        json!({"opts": {"one": {"a": 1, "A": 2}}}),
        Some("opts.one.A"),
    );
    check(json!({"opts": {"PATH": "/x"}}), Some("opts.PATH"));
    check(
        json!({"opts": {"path": "/x", "Path": "/y"}}),
        Some("opts.Path"),
    );
    check(json!({"opts": {"deep": {"To": "y"}}}), Some("opts.deep.To"));
    check(
        json!({"edits": [{"to": "x"}, {"TO": "y"}]}),
        Some("edits.TO"),
    );
    check(
        json!({"edits": [{"again": {"again": {"x": 1}}}]}),
        Some("edits.again.again.x"),
    );
}

#[test]
fn one_bad_tool_spoils_itself_only() {
    let list = list(&json!([
        {"name": "good", "inputSchema": {"type": "object"}},
        {"name": "far", "inputSchema": {"$ref": "https://elsewhere.example/schema.json"}},
        {"name": "bad", "inputSchema": {"type": "no such type"}},
        {"name": "odd", "inputSchema": true},
        {"name": "twice", "inputSchema": {}}, {"name": "twice", "inputSchema": {}},
        {"name": "in\u{202e}visible"},
        {"title": "nameless"},
    ]));
    let callable: Vec<&str> = list
        .tools()
        .filter(|tool| tool.check(&json!({}), false).is_ok())
        .map(|tool| tool.name.as_str())
        .collect();
    assert_eq!(callable, ["good"]);
    assert_eq!(list.problems().len(), 6);
    assert_eq!(list.len(), 5);
}

#[test]
fn a_list_is_strict_json_of_bounded_size() {
    let files = "files".parse().unwrap();
    for text in ["", "{}", "[", "[{\"name\":\"a\",\"name\":\"b\"}]"] {
        assert!(ToolList::parse(&files, text.as_bytes()).is_err(), "{text}");
    }
    let many: Vec<Value> = (0..=limits::TOOLS_MAX)
        .map(|n| json!({"name": format!("t{n}")}))
        .collect();
    let text = Value::Array(many.clone()).to_string();
    assert!(ToolList::parse(&files, text.as_bytes()).is_err());
    let text = Value::Array(many.into_iter().skip(1).collect()).to_string();
    assert!(ToolList::parse(&files, text.as_bytes()).is_ok());
    let long = format!("[{}]", " ".repeat(limits::TOOL_LIST_BYTES_MAX - 1));
    assert!(ToolList::parse(&files, long.as_bytes()).is_err());
}

#[test]
fn schemas_that_refer_to_themselves_end() {
    let branches: Vec<Value> = (0..50).map(|_| json!({"$ref": "#"})).collect();
    let list = list(&json!([
        {"name": "wide", "inputSchema": {"allOf": branches}},
        {"name": "deep", "inputSchema": {"properties": {"x": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}}},
    ]));
    assert_eq!(list.len(), 2);
}

#[test]
fn a_hostile_pattern_is_cut_short() {
    let tool =
        tool(&json!({"properties": {"x": {"type": "string", "pattern": "^(?=(a+)+$)(a+)+$"}}}));
    let text = format!("{}!", "a".repeat(4_000));
    assert!(tool.check(&json!({"x": text}), false).is_err());
}
