//! Children on stdio: nothing of them outlives them, or the node.

use std::fs;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::unix::pipe;

use crate::node::{Client, Folder, Node, within};

/// A server that does what it is asked. `scatter` starts what leaves its group and its parent
/// twice over, heeds no signal it need not heed, and holds a pipe open for as long as it lives.
const SERVER: &str = r#"
import json, os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def scatter(pipe):
    pipe = os.open(pipe, os.O_WRONLY)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            os.closerange(0, 3)
            os.write(pipe, b"away\n")
            while True:
                signal.pause()
        os._exit(0)
    os.wait()
    os.write(pipe, b"here\n")
def read(path):
    try:
        return open(path).read()
    except OSError as error:
        return type(error).__name__
def call(name, arguments):
    if name == "end":
        os._exit(3)
    return {"scatter": scatter, "read": read}[name](**arguments)
tools = [{"name": name, "inputSchema": {"type": "object", "additionalProperties": True}}
         for name in ("scatter", "read", "end")]
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    method, params = message["method"], message.get("params", {})
    if method == "server/discover":
        result = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
    elif method == "tools/list":
        result = {"tools": tools, "ttlMs": 0, "cacheScope": "public"}
    else:
        given = call(params["name"], params["arguments"])
        result = {"content": [{"type": "text", "text": json.dumps(given)}]}
    result["resultType"] = "complete"
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
while "stubborn" in sys.argv:
    signal.pause()
"#;

/// A node with that server, whose child has scattered.
struct Scattered {
    node: Node,
    client: Client,
    /// Ends when all that the child has started is gone, and the child.
    pipe: Lines<BufReader<pipe::Receiver>>,
}

impl Scattered {
    async fn new(more: &str) -> Self {
        let node = desk("stubborn", more).await;
        let path = node.folder.beside("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        // Open for writing too, or it would end before the child has opened it.
        let held = fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let pipe = pipe::OpenOptions::new().open_receiver(&path).unwrap();
        let mut pipe = BufReader::new(pipe).lines();
        let mut client = node.connect("desk");
        given(&mut client, "scatter", json!({"pipe": path})).await;
        let mut said = [(); 2].map(|()| String::new());
        for line in &mut said {
            *line = within("a word", pipe.next_line()).await.unwrap().unwrap();
        }
        said.sort();
        assert_eq!(said, ["away", "here"]);
        drop(held);
        Self { node, client, pipe }
    }

    async fn ends(mut self) {
        let end = within("all to be gone", self.pipe.next_line()).await;
        assert_eq!(end.unwrap(), None);
    }
}

/// A node with that server.
async fn desk(argument: &str, more: &str) -> Node {
    let server = json!(SERVER);
    Node::start(&format!(
        "[upstream.desk]\ncommand = [\"python3\", \"-c\", {server}, \"{argument}\"]\n{more}\n"
    ))
    .await
}

/// What a tool gives.
async fn given(client: &mut Client, tool: &str, arguments: Value) -> Value {
    let answer = client.call(tool, arguments).await;
    let text = answer["result"]["content"][0]["text"].as_str();
    serde_json::from_str(text.unwrap_or_else(|| panic!("{answer}"))).unwrap()
}

/// Kept in a namespace, where there can be one, and by a keeper alone.
const KEPT: [&str; 2] = ["", "confine = \"off\""];

#[tokio::test]
async fn what_a_child_started_ends_with_its_instance() {
    for kept in KEPT {
        let it = Scattered::new(kept).await;
        let instance = it.node.instance().await;
        it.node.folder.run(&["instance", "revoke", &instance]).await;
        it.ends().await;
    }
}

#[tokio::test]
async fn what_a_child_started_ends_with_it() {
    for kept in KEPT {
        let mut it = Scattered::new(kept).await;
        let answer = it.client.call("end", json!({})).await;
        assert_eq!(answer["result"]["isError"], true, "{answer}");
        it.ends().await;
    }
}

#[tokio::test]
async fn what_a_child_started_ends_with_a_node_that_is_stopped() {
    for kept in KEPT {
        let Scattered { node, client, pipe } = Scattered::new(kept).await;
        let folder = node.stop().await;
        gone(folder, client, pipe).await;
    }
}

#[tokio::test]
async fn what_a_child_started_ends_with_a_node_that_is_killed() {
    for kept in KEPT {
        let Scattered { node, client, pipe } = Scattered::new(kept).await;
        let folder = node.kill().await;
        gone(folder, client, pipe).await;
    }
}

#[tokio::test]
async fn a_child_cannot_read_what_is_the_nodes() {
    let node = desk("", "confine = \"required\"").await;
    let mut client = node.connect("desk");
    let beside = node.folder.beside("note");
    fs::write(&beside, "a note").unwrap();
    let pid = node.pid();
    let policy = node.folder.node("policies/first.cedar");
    let text = fs::read_to_string(&policy).unwrap();
    for (path, expected) in [(beside, "a note"), (policy, &text)] {
        let seen = given(&mut client, "read", json!({"path": path})).await;
        assert_eq!(seen, expected, "{}", path.display());
    }
    let mut secrets = vec![
        node.folder.key(),
        node.folder.node("keys/token.key"),
        node.folder.node("data/node.json"),
        node.folder.node("data/calls.vkey"),
    ];
    // The node, and this test: both have this user's environment.
    for pid in [pid, std::process::id()] {
        secrets.extend(["environ", "mem", "maps"].map(|it| format!("/proc/{pid}/{it}").into()));
    }
    for path in secrets {
        assert!(path.exists(), "{}", path.display());
        let seen = given(&mut client, "read", json!({"path": path})).await;
        let refused = ["PermissionError", "FileNotFoundError"];
        let is_refused = refused.iter().any(|it| seen == *it);
        assert!(is_refused, "{}: {seen}", path.display());
    }
    let status = given(&mut client, "read", json!({"path": "/proc/self/status"})).await;
    let status = status.as_str().unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(
            status.contains(&format!("{set}:\t0000000000000000\n")),
            "{status}"
        );
    }
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
}

async fn gone(_folder: Folder, _client: Client, mut pipe: Lines<BufReader<pipe::Receiver>>) {
    let end = within("all to be gone", pipe.next_line()).await;
    assert_eq!(end.unwrap(), None);
}
