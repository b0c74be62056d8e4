//! What every part measures with: one upstream's tools, a set of policies of which one matters, and
//! a call of about a kibibyte.

use std::fmt::Write as _;

use inspect::Inspector;
use serde_json::{Value, json};

use crate::node::With;

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
/// The tool whose calls people have to approve, where everything is on.
pub(crate) const HELD_TOOL: &str = "tool-1";
/// Who may approve them: the sponsor of the other agent.
pub(crate) const APPROVER: &str = "olle";
/// Files in this folder are answered about with a text of the upstream's own: see [`Content`].
const SIZED: &str = "/notes/sized/";
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

/// What is in a text of the upstream's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Content {
    /// Source code in which nothing is to be found.
    Clean,
    /// The same with a card's number in each kibibyte.
    Cards,
}

impl Content {
    const ALL: [Self; 2] = [Self::Clean, Self::Cards];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Cards => "cards",
        }
    }

    /// The file whose text is of that many kibibytes.
    pub(crate) fn file(self, kib: usize) -> String {
        format!("{SIZED}{}/{kib}.txt", self.as_str())
    }

    /// A text of so many kibibytes, as a JSON string.
    fn text(self, kib: usize) -> String {
        let mut text = String::new();
        let (mut at, mut cards) = (0, 0);
        while text.len() < kib * 1_024 {
            if self == Self::Cards && text.len() >= cards * 1_024 {
                cards += 1;
                text.push_str("paid with card 4111 1111 1111 1111 on Tuesday\n");
            }
            let _infallible = writeln!(
                text,
                "    let found_{at} = self.entries.get(&name)?; // the name of line {at}"
            );
            at += 1;
        }
        Value::from(text).to_string()
    }
}

/// Texts of the upstream's own, as JSON, by file.
pub(crate) fn sized(sizes: &[usize]) -> std::collections::HashMap<String, String> {
    let files = sizes.iter().flat_map(|kib| {
        let of = move |content: Content| (content.file(*kib), content.text(*kib));
        Content::ALL.map(of)
    });
    files.collect()
}

/// What the policies say beside `load-echo` where everything is on: each part of a decision is used.
const EVERYTHING: &str = r#"
@id("no-secrets") forbid (principal, action, resource)
when { context.findings.contains("secret:medium") };
@id("cards") @mask("personal/card-number, stable") forbid (principal, action, resource)
when { context.findings.contains("personal/card-number") };
@id("orders") forbid (principal, action, resource)
when { context.direction == "response" && context.findings.contains("injection") };
@id("stays-here") forbid (principal, action == Action::"bench/tool-2", resource)
when { context.labels.contains("notes") };
@id("noted") @warn("What you read here stays here.")
permit (principal, action == Action::"bench/tool-3", resource);
@id("asked") @approval("olle") permit (principal, action == Action::"bench/tool-1", resource)
when { context has approval };
"#;

/// What is in the configuration of a gateway beside its upstream's address.
pub(crate) fn settings(with: With, upstream: &str) -> anyhow::Result<String> {
    let name = UPSTREAM;
    let plain = format!("\n[upstream.{name}]\nurl = \"{upstream}\"\n");
    Ok(match with {
        With::Rules => plain,
        With::NoRules => {
            let rules = Inspector::built_in()?;
            let ids: Vec<&str> = rules.rules().map(inspect::Rule::id).collect();
            format!("{plain}\n[inspect]\nleave_out = {}\n", json!(ids))
        }
        With::Everything => format!(
            "{plain}headers = {{ Authorization = \"Bearer {{vault:{SECRET}}}\" }}\n\
             labels = [\"notes\"]\n"
        ),
    })
}

/// The secret that an upstream is reached with, where everything is on.
pub(crate) const SECRET: &str = "bench";

/// Policies that use each part of a decision.
pub(crate) fn more_policies(with: With) -> &'static str {
    match with {
        With::Rules | With::NoRules => "",
        With::Everything => EVERYTHING,
    }
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
