//! The small MCP server that `tipstaff demo` uses as its upstream: a help desk with two tools. It
//! speaks both eras on stdio and counts, in a file of its own, every tool call that reaches it.

#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value that is indexed by what it does not have gives null"
)]

use std::io::{self, BufRead, Write};
use std::path::Path;

use serde_json::{Value, json};

const MODERN: &str = "2026-07-28";
const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

/// Serves stdin and stdout until stdin ends.
pub fn serve(count: &Path) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else {
            continue;
        };
        let (Some(id), Some(method)) = (message.get("id"), message["method"].as_str()) else {
            continue;
        };
        if method == "tools/call" {
            let mut file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(count)?;
            file.write_all(b".")?;
        }
        let modern =
            message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == MODERN;
        let mut answer = json!({"jsonrpc": "2.0", "id": id});
        match answered(method, &message["params"]) {
            Ok(mut result) => {
                if modern {
                    result["resultType"] = json!("complete");
                    if method.ends_with("/list") || method == "server/discover" {
                        result["ttlMs"] = json!(0);
                        result["cacheScope"] = json!("public");
                    }
                }
                answer["result"] = result;
            }
            Err((code, text)) => answer["error"] = json!({"code": code, "message": text}),
        }
        serde_json::to_writer(&mut out, &answer)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

/// How many tool calls a server that counts in `count` has seen.
pub fn counted(count: &Path) -> u64 {
    std::fs::metadata(count).map_or(0, |meta| meta.len())
}

fn answered(method: &str, params: &Value) -> Result<Value, (i64, String)> {
    let info = json!({"name": "tipstaff-help-desk", "version": env!("CARGO_PKG_VERSION")});
    match method {
        "initialize" => {
            let asked = params["protocolVersion"].as_str().unwrap_or_default();
            let version = if LEGACY.contains(&asked) {
                asked
            } else {
                LEGACY[0]
            };
            Ok(
                json!({"protocolVersion": version, "capabilities": {"tools": {}},
                      "serverInfo": info}),
            )
        }
        "server/discover" => Ok(json!({
            "supportedVersions": [MODERN], "capabilities": {"tools": {}},
            "_meta": {"io.modelcontextprotocol/serverInfo": info}
        })),
        "ping" => Ok(json!({})),
        "tools/list" => Ok(json!({"tools": tools()})),
        "tools/call" => call(&params["name"], &params["arguments"]),
        _ => Err((-32601, format!("method `{method}` is not served here"))),
    }
}

fn tools() -> Value {
    json!([
        {
            "name": "read-article",
            "description": "Read an article of the help desk.",
            "inputSchema": {
                "type": "object",
                "properties": {"path": {"type": "string", "description": "such as /public/refunds.md"}},
                "required": ["path"]
            }
        },
        {
            "name": "refund",
            "description": "Refund an order.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "order": {"type": "string"},
                    "amount_eur": {"type": "integer", "minimum": 1},
                    "note": {"type": "string"}
                },
                "required": ["order", "amount_eur"]
            }
        }
    ])
}

fn call(name: &Value, arguments: &Value) -> Result<Value, (i64, String)> {
    let text = match name.as_str() {
        Some("read-article") => match arguments["path"].as_str() {
            Some("/public/refunds.md") => "Refunds up to 100 EUR need no second person.".to_owned(),
            Some("/internal/margins.md") => "Margins: not for customers.".to_owned(),
            _ => return Ok(said("there is no such article", true)),
        },
        Some("refund") => format!(
            "Refunded {} EUR for order {}.",
            arguments["amount_eur"],
            arguments["order"].as_str().unwrap_or("?")
        ),
        _ => return Err((-32602, format!("unknown tool {name}"))),
    };
    Ok(said(&text, false))
}

fn said(text: &str, is_error: bool) -> Value {
    json!({"content": [{"type": "text", "text": text}], "isError": is_error})
}
