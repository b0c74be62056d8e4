//! A node that runs as a process of its own, in a folder that `init` made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// The longest that a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for `future`; panics if it takes too long.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// Waits until `look` finds something, looking again and again.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// The program with these arguments.
pub(crate) fn tipstaff(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipstaff"));
    command.arg("--config").arg(config).args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A folder of a node, and beside it one for everything else.
pub(crate) struct Folder {
    root: tempfile::TempDir,
}

impl Folder {
    /// As `init` makes it, with these upstreams; all that they offer is permitted, and an agent
    /// `triage` is registered for the purpose `triage`, once a node runs.
    pub(crate) async fn new(upstreams: &str) -> Self {
        let folder = Self {
            root: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(folder.beside("")).unwrap();
        let node = folder.node("");
        folder.run(&["init", node.to_str().unwrap()]).await;
        let text = fs::read_to_string(folder.config()).unwrap();
        fs::write(folder.config(), format!("{text}\n{upstreams}")).unwrap();
        let policy = "permit (principal, action, resource);\n";
        fs::write(folder.node("policies/first.cedar"), policy).unwrap();
        fs::remove_file(folder.node("policies/first.test.yaml")).unwrap();
        folder
    }

    pub(crate) fn node(&self, path: &str) -> PathBuf {
        self.root.path().join("node").join(path)
    }

    pub(crate) fn beside(&self, path: &str) -> PathBuf {
        self.root.path().join("beside").join(path)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.node("tipstaff.toml")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.node("agents/triage.key")
    }

    /// Runs a command to its end, whatever that is.
    pub(crate) async fn output(&self, arguments: &[&str]) -> Output {
        let output = tipstaff(&self.config(), arguments).output();
        within("a command", output).await.unwrap()
    }

    /// Runs a command that must succeed.
    pub(crate) async fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments).await;
        let said = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}{errors}");
        said
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let said = self.run(&[&["--json"], arguments].concat()).await;
        serde_json::from_str(&said).unwrap()
    }
}

/// A running node.
pub(crate) struct Node {
    pub(crate) folder: Folder,
    pub(crate) process: Child,
}

impl Node {
    pub(crate) async fn start(upstreams: &str) -> Self {
        let node = Self::up(Folder::new(upstreams).await, &[]).await;
        let key = node.folder.key();
        let folder = &node.folder;
        let sponsor = ["sponsor", "add", "maya", "--name", "Maya", "--email", "m@x"];
        folder.run(&sponsor).await;
        let agent = [
            "agent",
            "add",
            "triage",
            "--sponsor",
            "maya",
            "--purpose",
            "triage",
        ];
        let key = ["--key-out", key.to_str().unwrap()];
        folder.run(&[&agent[..], &key[..]].concat()).await;
        node
    }

    /// Starts a node on a folder, with more in its environment.
    pub(crate) async fn up(folder: Folder, environment: &[(&str, &str)]) -> Self {
        let ready = folder.beside("ready");
        let _none = fs::remove_file(&ready);
        let listen = ["up", "--listen", "127.0.0.1:0", "--ready-file"];
        let log = fs::File::create(folder.beside("log")).unwrap();
        let process = tipstaff(&folder.config(), &listen)
            .arg(&ready)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        until("the node is ready", || {
            let text = fs::read_to_string(&ready).ok()?;
            text.contains("url").then_some(())
        })
        .await;
        Self { folder, process }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.beside("log")).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id().unwrap()
    }

    /// Asks the node to stop, and waits until it has.
    pub(crate) async fn stop(mut self) -> Folder {
        let pid = i32::try_from(self.pid()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = within("its end", self.process.wait()).await.unwrap();
        assert!(status.success(), "{status}: {}", self.log());
        self.folder
    }

    /// Kills the node.
    pub(crate) async fn kill(mut self) -> Folder {
        self.process.start_kill().unwrap();
        within("its end", self.process.wait()).await.unwrap();
        self.folder
    }

    /// `tipstaff connect`.
    pub(crate) fn connect(&self, upstream: &str) -> Client {
        let key = self.folder.key();
        let key = key.to_str().unwrap();
        let who = ["--agent", "triage", "--key", key, "--purpose", "triage"];
        let arguments = [&["connect", upstream], &who[..]].concat();
        let mut process = tipstaff(&self.folder.config(), &arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Client {
            input: process.stdin.take(),
            lines: BufReader::new(process.stdout.take().unwrap()).lines(),
            errors: BufReader::new(process.stderr.take().unwrap()).lines(),
            process,
            asked: 0,
        }
    }

    /// The one instance that is not over.
    pub(crate) async fn instance(&self) -> String {
        let live = self.folder.json(&["instance", "list", "--live"]).await;
        assert_eq!(live.as_array().unwrap().len(), 1, "{live}");
        live[0]["id"].as_str().unwrap().to_owned()
    }
}

/// A client whose `command` is `tipstaff connect`.
pub(crate) struct Client {
    process: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    errors: Lines<BufReader<ChildStderr>>,
    asked: u64,
}

impl Client {
    /// Sends a request of the modern era and waits for its answer; none if the bridge ends.
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> Option<Value> {
        self.send(method, params).await;
        self.answer().await
    }

    /// Sends a request of the modern era.
    async fn send(&mut self, method: &str, mut params: Value) {
        self.asked += 1;
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let request = json!({
            "jsonrpc": "2.0", "id": self.asked, "method": method, "params": params,
        });
        let line = format!("{request}\n");
        let input = self.input.as_mut().unwrap();
        let _gone = input.write_all(line.as_bytes()).await;
    }

    /// The answer to the last request; none if the bridge ends.
    pub(crate) async fn answer(&mut self) -> Option<Value> {
        within("an answer", async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                let message: Value = serde_json::from_str(&line).unwrap();
                if message["id"] == self.asked {
                    return Some(message);
                }
            }
            None
        })
        .await
    }

    /// Asks for a tool, whose answer is awaited later.
    pub(crate) async fn begin(&mut self, tool: &str) {
        let params = json!({"name": tool, "arguments": {}});
        self.send("tools/call", params).await;
    }

    /// Waits until it says to people, unasked, what has this in it.
    pub(crate) async fn says(&mut self, what: &str) {
        within(what, async {
            loop {
                let line = self.errors.next_line().await.unwrap();
                if line.expect("more").contains(what) {
                    return;
                }
            }
        })
        .await;
    }

    /// What a tool gives.
    pub(crate) async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let params = json!({"name": tool, "arguments": arguments});
        let answer = self.ask("tools/call", params).await;
        answer.expect("an answer")
    }

    /// Closes the client's side, and waits for the end: its status, and what it said to people.
    pub(crate) async fn close(mut self) -> (Option<i32>, String) {
        drop(self.input.take());
        self.end().await
    }

    /// Waits for the bridge's end.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        let status = within("its end", async {
            while let Some(line) = self.errors.next_line().await.unwrap() {
                said.push_str(&line);
                said.push('\n');
            }
            self.process.wait().await.unwrap()
        })
        .await;
        (status.code(), said)
    }
}
