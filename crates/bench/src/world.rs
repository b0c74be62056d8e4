//! What every part measures with: one upstream's tools, a set of policies of which one matters, and
//! a call of about a kibibyte.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// The upstream's name.
pub(crate) const UPSTREAM: &str = "bench";
/// The agent that calls.
pub(crate) const AGENT: &str = "load";
/// The agent of another sponsor, which one of the policies lets call with its own file.
pub(crate) const BYSTANDER: &str = "agent-10";
/// The file that the agent calls about.
pub(crate) const FILE: &str = "/notes/today.txt";
/// The file that the other agent calls about.
pub(crate) const BYSTANDER_FILE: &str = "/area-10/today.txt";
/// What an instance hands on to the next: the same tool, with a bound on each of two arguments.
pub(crate) const HANDED_ON: &str = r#"[{"type":"mcp_tool","locations":["bench"],"identifier":"echo","arguments":{"path":{"prefix":"/notes/"},"count":{"max":100}}}]"#;
/// Why it calls.
pub(crate) const PURPOSE: &str = "measuring";
/// The tool that it calls.
pub(crate) const TOOL: &str = "echo";
/// The text that goes there and back.
pub(crate) const TEXT_BYTES: usize = 1_024;
/// The upstream's other tools.
const TOOLS: usize = 49;

/// The tools as `tools/list` gives them.
pub(crate) fn tools() -> Value {
    let schema = json!({
        "type": "object",
        "properties": {
            "path": {"type": "string"},
            "text": {"type": "string"},
            "count": {"type": "integer"},
        },
        "required": ["path", "text", "count"],
    });
    let tool = |name: String| json!({"name": name, "description": "Gives back its text.", "inputSchema": schema});
    let others = (0..TOOLS).map(|n| tool(format!("tool-{n}")));
    std::iter::once(tool(TOOL.to_owned()))
        .chain(others)
        .collect()
}

/// The arguments of one call about a file, as JSON text.
pub(crate) fn arguments(file: &str) -> String {
    let text = "All work is on record. ".repeat(TEXT_BYTES);
    let text: String = text.chars().take(TEXT_BYTES).collect();
    json!({"path": file, "text": text, "count": 3}).to_string()
}

/// `count` policies, the first of which permits the call. Every tenth of the others is about the
/// same tool, for other agents.
pub(crate) fn policies(count: usize) -> String {
    let mut text = format!(
        "@id(\"load-echo\")\npermit (principal in Agent::\"{AGENT}\", \
         action == Action::\"{UPSTREAM}/{TOOL}\", resource)\n\
         when {{ context.canonical.path like \"/notes/*\" && context.args.count <= 100 }};\n"
    );
    for n in 1..count {
        let tool = match n % 10 {
            0 => TOOL.to_owned(),
            _ => format!("tool-{}", n % TOOLS),
        };
        let _infallible = write!(
            text,
            "@id(\"other-{n}\")\npermit (principal in Agent::\"agent-{n}\", \
             action == Action::\"{UPSTREAM}/{tool}\", resource)\n\
             when {{ context.canonical.path like \"/area-{n}/*\" && context.args.count <= {n} }};\n"
        );
    }
    text
}
