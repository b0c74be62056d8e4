//! Real children and real HTTP servers, of both eras, well and ill.

mod http;
mod stdio;

use std::path::Path;

use broker::{Grant, Source, Vault};
use serde_json::{Value, json};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn config(transport: Transport) -> UpstreamConfig {
    UpstreamConfig {
        name: "files".parse().unwrap(),
        transport,
        account: account(Vec::new()),
        shared: false,
        call_timeout: 20 * SECOND,
        start_timeout: 20 * SECOND,
        data_dir: "data".into(),
        keys_dir: "keys".into(),
        secrets: Vec::new(),
        read_only: Vec::new(),
        sandbox: SandboxMode::Off,
        keeper: None,
    }
}

pub(super) fn child(command: &[&str]) -> UpstreamConfig {
    let token = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/upstream/tests/token.txt");
    let mut config = config(Transport::Stdio {
        command: command.iter().map(|&it| it.to_owned()).collect(),
        cwd: None,
    });
    config.account = account(vec![("TOKEN", Source::File(token))]);
    config
}

/// What a child is started with.
pub(super) fn account(env: Vec<(&str, Source)>) -> Arc<Account> {
    let nowhere = Path::new("nowhere");
    let grant = Grant {
        env: env
            .into_iter()
            .map(|(name, it)| (name.to_owned(), it))
            .collect(),
        headers: Vec::new(),
    };
    Arc::new(Account::new(
        Arc::new(Vault::of(nowhere, nowhere)),
        grant,
        [],
    ))
}

/// The server that does what it is asked, in one era or with one oddity.
pub(super) fn fixture(era: &str) -> UpstreamConfig {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/upstream/tests/server.py");
    child(&["python3", script.to_str().unwrap(), era])
}

/// A `tools/call`.
pub(super) fn call(id: &str, tool: &str, arguments: &Value) -> Outgoing {
    let token = format!("token-{id}");
    let body = json!({
        "jsonrpc": "2.0", "id": id, "method": "tools/call",
        "params": {"name": tool, "arguments": arguments, "_meta": {"progressToken": token}},
    });
    Outgoing::assertion(body.to_string())
}

/// What a tool gives.
pub(super) async fn given(link: &Link, id: &str, tool: &str, arguments: Value) -> Value {
    let mut exchange = link.request(call(id, tool, &arguments)).await.unwrap();
    let message = exchange.response().await.unwrap();
    assert!(exchange.next().await.is_none());
    value(&message)["result"].take()
}

fn value(message: &Message) -> Value {
    serde_json::from_slice(&message.json).unwrap()
}

/// What an error, and all that caused it, says.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
