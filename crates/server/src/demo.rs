//! `tipstaff demo`: the product in a minute, on itself. Every step is done by the program as a
//! user would run it (`init`, `up`, `sponsor add`, `agent add`, `connect`, `ledger …`), each as a
//! process of its own, in a temporary folder.

#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value that is indexed by what it does not have gives null"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use ledger::note::Verifier;
use ledger::tlog_proof::TlogProof;
use ledger::{LogReader, hash};
use serde_json::{Value, json};
use store::OfflineLog;
use vocab::{Clock, LogName, time::SystemClock};

use crate::upstream;

/// How long a process gets for what it is asked.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the demonstration did not go through.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DemoError(String);

fn failed(what: impl std::fmt::Display) -> DemoError {
    DemoError(what.to_string())
}

type Step<T> = Result<T, DemoError>;

/// The upstream's policies, as the demonstration writes them.
const POLICY: &str = r#"@id("desk-reads-public-articles")
permit (principal in Agent::"desk", action == Action::"desk/read-article", resource)
when { context.canonical.path like "/public/*" };

@id("desk-refunds-up-to-100-eur")
permit (principal in Agent::"desk", action == Action::"desk/refund", resource)
when { context.args.amount_eur <= 100 };

@id("large-refunds-need-a-person")
@reason("Refunds above 100 EUR are not for agents. Ask your sponsor to make this one.")
forbid (principal, action == Action::"desk/refund", resource)
when { context.args.amount_eur > 100 };
"#;

/// Runs the demonstration, telling `say` each step, and returns the object that `--json` prints.
pub fn run(exe: &Path, keep: bool, say: &mut dyn FnMut(&str)) -> Step<Value> {
    let temp = tempfile::Builder::new()
        .prefix("tipstaff-demo-")
        .tempdir()
        .map_err(failed)?;
    let dir = temp.path().to_path_buf();
    let stage = Stage {
        exe: exe.to_path_buf(),
        count: dir.join("desk").join("calls"),
        node: dir.join("node"),
        clock: SystemClock::new(),
    };
    let done = stage.play(say);
    if keep {
        let kept = temp.keep();
        say(&format!("The folder is kept: {}", kept.display()));
    }
    done
}

struct Stage {
    exe: PathBuf,
    node: PathBuf,
    count: PathBuf,
    clock: SystemClock,
}

/// A call that went to the upstream.
fn refund(amount: u64) -> Value {
    json!({"name": "refund", "arguments": {"order": "A-1007", "amount_eur": amount}})
}

impl Stage {
    fn play(&self, say: &mut dyn FnMut(&str)) -> Step<Value> {
        say("1. A node on an embedded store, a policy, an upstream that counts what reaches it");
        self.set_up()?;
        let mut gateway = self.up()?;
        say(&format!(
            "   {} is up; its upstream `desk` is a help desk with refunds",
            gateway.url
        ));
        self.tipstaff(&[
            "sponsor",
            "add",
            "maya",
            "--name",
            "Maya Lindqvist",
            "--email",
            "maya@example.com",
        ])?;
        let key = self.node.join("desk.key");
        let key_text = key.display().to_string();
        self.tipstaff(&[
            "agent",
            "add",
            "desk",
            "--sponsor",
            "maya",
            "--purpose",
            "support",
            "--key-out",
            &key_text,
        ])?;
        say("   Maya Lindqvist answers for the agent `desk`, whose purpose is `support`");

        say("2. An allowed call: refund 40 EUR");
        let mut client = self.connect(&key)?;
        let (allowed, reached) = self.call(&mut client, &refund(40))?;
        must(
            reached == 1 && !is_error(&allowed),
            "the allowed call did not go through",
            &allowed,
        )?;
        let allowed_record = record(&allowed)?;
        say(&format!("   the upstream says: {}", text(&allowed)));
        say(&format!("   on record as {}", shown(&allowed_record)));

        say("3. The same call with another argument: refund 9000 EUR");
        let (denied, reached) = self.call(&mut client, &refund(9000))?;
        must(
            reached == 0 && is_error(&denied),
            "the denied call was not refused",
            &denied,
        )?;
        let decision = decision(&denied)?.clone();
        let denied_record = record(&denied)?;
        say(&format!("   the agent is told: {}", text(&denied)));
        say(&format!(
            "   by {}, on record as {}",
            crate::output::cell(&decision["policies"]),
            shown(&denied_record)
        ));

        say("4. Both records, with proofs of inclusion checked against the log's public key");
        for record in [&allowed_record, &denied_record] {
            self.prove(record)?;
            say(&format!("   {} is in the signed log", shown(record)));
        }

        say("5. The policy plane is taken away: no valid policy set, and the same allowed call");
        client.end();
        gateway.stop()?;
        let away = self.take_policies_away()?;
        gateway = self.up()?;
        let mut client = self.connect(&key)?;
        let (refused, reached) = self.call(&mut client, &refund(40))?;
        must(
            reached == 0 && is_error(&refused),
            "a call went through without policy",
            &refused,
        )?;
        let without_policy = json!({"reason": text(&refused), "reached_upstream": reached});
        say(&format!("   the agent is told: {}", text(&refused)));
        say(&format!("   calls that reached the upstream: {reached}"));
        client.end();
        gateway.stop()?;
        self.bring_policies_back(&away)?;

        say("6. The ledger is made unwritable, and the same allowed call");
        gateway = self.up()?;
        let mut client = self.connect(&key)?;
        gateway.limit_files(true)?;
        let (refused, reached) = self.call(&mut client, &refund(40))?;
        must(
            reached == 0 && is_error(&refused),
            "a call went through without a record",
            &refused,
        )?;
        let without_ledger = json!({"reason": text(&refused), "reached_upstream": reached});
        say(&format!("   the agent is told: {}", text(&refused)));
        say(&format!("   calls that reached the upstream: {reached}"));
        gateway.limit_files(false)?;

        say("7. Everything is restored, and the same allowed call");
        let (restored, reached) = self.call(&mut client, &refund(40))?;
        must(
            reached == 1 && !is_error(&restored),
            "the call was not allowed again",
            &restored,
        )?;
        let restored_record = record(&restored)?;
        say(&format!("   the upstream says: {}", text(&restored)));
        say(&format!("   on record as {}", shown(&restored_record)));
        client.end();
        gateway.stop()?;

        say(
            "8. The node is gone; from its files alone: both logs verified, every decision run again",
        );
        let verified = self.tipstaff_json(&["ledger", "verify"])?;
        must(
            verified["verified"] == true,
            "the logs did not verify",
            &verified,
        )?;
        let replayed = self.tipstaff_json(&["ledger", "replay"])?;
        let same = replayed["same"].as_u64().unwrap_or(0);
        let all_same = same > 0
            && ["different", "erased", "sealed", "missing"]
                .iter()
                .all(|k| replayed[*k] == 0);
        must(all_same, "a decision came out otherwise", &replayed)?;
        say(&format!("   verified; {same} decisions came out the same"));
        let calls = upstream::counted(&self.count);
        say(&format!(
            "   calls that reached the upstream in all: {calls}"
        ));
        Ok(json!({
            "allowed": {"record": allowed_record},
            "denied": {
                "reason": decision["reason"],
                "policies": decision["policies"],
                "record": denied_record,
            },
            "refused_without_policy": without_policy,
            "refused_without_ledger": without_ledger,
            "restored": {"record": restored_record},
            "upstream_calls": calls,
            "ledger_verified": true,
            "decisions_replayed": same,
        }))
    }

    fn set_up(&self) -> Step<()> {
        // A folder of its own: a confined child can make no file beside the node's folder.
        if let Some(folder) = self.count.parent() {
            fs::create_dir(folder).map_err(failed)?;
        }
        let node = self.node.display().to_string();
        self.program(&["init", &node, "--trust-domain", "demo.tipstaff"])?;
        let config = self.node.join("tipstaff.toml");
        let mut text = fs::read_to_string(&config).map_err(failed)?;
        let command = json!([self.exe, "__upstream", "--count", self.count]);
        let _infallible = write!(text, "\n[upstream.desk]\ncommand = {command}\n");
        fs::write(&config, text).map_err(failed)?;
        let policies = self.node.join("policies");
        for file in ["first.cedar", "first.test.yaml"] {
            fs::remove_file(policies.join(file)).map_err(failed)?;
        }
        fs::write(policies.join("desk.cedar"), POLICY).map_err(failed)
    }

    /// Takes the policy files and the activated set away, as a lost volume and a bad edit would.
    fn take_policies_away(&self) -> Step<PathBuf> {
        let away = self.node.join("away");
        fs::create_dir(&away).map_err(failed)?;
        fs::rename(self.node.join("policies"), away.join("policies")).map_err(failed)?;
        let broken = self.node.join("policies");
        fs::create_dir(&broken).map_err(failed)?;
        fs::write(broken.join("desk.cedar"), "permit (principal, action").map_err(failed)?;
        fs::rename(self.node.join("data/blobs"), away.join("blobs")).map_err(failed)?;
        Ok(away)
    }

    fn bring_policies_back(&self, away: &Path) -> Step<()> {
        fs::remove_dir_all(self.node.join("policies")).map_err(failed)?;
        fs::rename(away.join("policies"), self.node.join("policies")).map_err(failed)?;
        // What the node kept meanwhile stays; blobs are named by what they hold.
        merge(&away.join("blobs"), &self.node.join("data/blobs")).map_err(failed)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.exe);
        command
            .arg("--config")
            .arg(self.node.join("tipstaff.toml"))
            .args(arguments);
        command
    }

    fn program(&self, arguments: &[&str]) -> Step<String> {
        ran(Command::new(&self.exe).args(arguments), arguments)
    }

    fn tipstaff(&self, arguments: &[&str]) -> Step<String> {
        ran(&mut self.command(arguments), arguments)
    }

    fn tipstaff_json(&self, arguments: &[&str]) -> Step<Value> {
        let mut all = arguments.to_vec();
        all.push("--json");
        serde_json::from_str(&self.tipstaff(&all)?).map_err(failed)
    }

    fn up(&self) -> Step<Gateway> {
        let ready = self.node.join("ready.json");
        let _absent = fs::remove_file(&ready);
        let log = fs::File::create(self.node.join("node.log")).map_err(failed)?;
        let ready_text = ready.display().to_string();
        let child = self
            .command(&["up", "--listen", "127.0.0.1:0", "--ready-file", &ready_text])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let mut gateway = Gateway {
            child,
            url: String::new(),
        };
        let deadline = self.clock.elapsed() + PATIENCE;
        loop {
            let read = fs::read_to_string(&ready).ok();
            if let Some(it) = read.and_then(|text| serde_json::from_str::<Value>(&text).ok()) {
                it["url"]
                    .as_str()
                    .unwrap_or_default()
                    .clone_into(&mut gateway.url);
                return Ok(gateway);
            }
            let over = gateway.child.try_wait().map_err(failed)?.is_some();
            if over || self.clock.elapsed() > deadline {
                let log = fs::read_to_string(self.node.join("node.log")).unwrap_or_default();
                return Err(failed(format!("the node did not start:\n{log}")));
            }
            pause(Duration::from_millis(20));
        }
    }

    fn connect(&self, key: &Path) -> Step<Client> {
        let key = key.display().to_string();
        let arguments = [
            "connect",
            "desk",
            "--agent",
            "desk",
            "--key",
            &key,
            "--purpose",
            "support",
        ];
        let log = fs::File::create(self.node.join("connect.log")).map_err(failed)?;
        let mut child = self
            .command(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(failed("no pipes to `connect`"));
        };
        let mut client = Client {
            child,
            stdin,
            stdout: BufReader::new(stdout),
            next: 1,
        };
        let hello = client.request(
            "initialize",
            &json!({
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "tipstaff-demo", "version": env!("CARGO_PKG_VERSION")},
            }),
        )?;
        if hello["result"]["protocolVersion"].is_null() {
            let log = fs::read_to_string(self.node.join("connect.log")).unwrap_or_default();
            return Err(failed(format!(
                "the client could not connect: {hello}\n{log}"
            )));
        }
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
        Ok(client)
    }

    /// Makes a call, and says how many calls reached the upstream by it.
    fn call(&self, client: &mut Client, params: &Value) -> Step<(Value, u64)> {
        let before = upstream::counted(&self.count);
        let answer = client.request("tools/call", params)?;
        Ok((
            answer["result"].clone(),
            upstream::counted(&self.count) - before,
        ))
    }

    /// Has the entry's inclusion proven, and checks the proof and the entry.
    fn prove(&self, record: &Value) -> Step<()> {
        let name: LogName = record["log"]
            .as_str()
            .unwrap_or_default()
            .parse()
            .map_err(failed)?;
        let index = record["index"].as_u64().unwrap_or(u64::MAX);
        let data = self.node.join("data");
        let vkey = fs::read_to_string(data.join(format!("{name}.vkey"))).map_err(failed)?;
        let verifier: Verifier = vkey.trim().parse().map_err(failed)?;
        let deadline = self.clock.elapsed() + PATIENCE;
        // The checkpoint over the log of calls follows within a second.
        let proof = loop {
            match self.tipstaff(&["ledger", "proof", &format!("{name}/{index}")]) {
                Ok(proof) => break proof,
                Err(error) if self.clock.elapsed() > deadline => return Err(error),
                Err(_) => pause(Duration::from_millis(100)),
            }
        };
        let proof: TlogProof = proof.parse().map_err(failed)?;
        let log = OfflineLog::open(&data, name).map_err(failed)?;
        let entry = log.entry(index).map_err(failed)?;
        proof.verify(&entry, &verifier.into()).map_err(failed)?;
        let leaf = hash::leaf(&entry).to_string();
        must(
            record["leaf_hash"] == leaf,
            "the record names another entry",
            record,
        )
    }
}

fn ran(command: &mut Command, arguments: &[&str]) -> Step<String> {
    let output = command.stdin(Stdio::null()).output().map_err(failed)?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!(
            "`tipstaff {}` failed: {told}",
            arguments.join(" ")
        )));
    }
    String::from_utf8(output.stdout).map_err(failed)
}

fn merge(from: &Path, into: &Path) -> std::io::Result<()> {
    fs::create_dir_all(into)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = into.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            merge(&entry.path(), &target)?;
        } else if !target.exists() {
            fs::rename(entry.path(), target)?;
        }
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing runs on this thread but the demonstration"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn must(holds: bool, otherwise: &str, seen: &Value) -> Step<()> {
    if holds {
        Ok(())
    } else {
        Err(failed(format!("{otherwise}: {seen}")))
    }
}

fn is_error(result: &Value) -> bool {
    result["isError"] == true || !result["content"].is_array()
}

fn text(result: &Value) -> String {
    result["content"][0]["text"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn decision(result: &Value) -> Step<&Value> {
    let decision = &result["_meta"]["dev.tipstaff/decision"];
    if decision.is_object() {
        Ok(decision)
    } else {
        Err(failed(format!("no decision in {result}")))
    }
}

fn record(result: &Value) -> Step<Value> {
    let record = &decision(result)?["record"];
    if record.is_object() {
        Ok(record.clone())
    } else {
        Err(failed(format!("no record in {result}")))
    }
}

fn shown(record: &Value) -> String {
    format!(
        "{}/{}",
        record["log"].as_str().unwrap_or_default(),
        record["index"]
    )
}

/// A running `tipstaff up`.
struct Gateway {
    child: Child,
    url: String,
}

impl Gateway {
    fn stop(mut self) -> Step<()> {
        #[cfg(unix)]
        {
            let pid = rustix::process::Pid::from_child(&self.child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(failed)?;
        }
        #[cfg(not(unix))]
        self.child.kill().map_err(failed)?;
        let status = self.child.wait().map_err(failed)?;
        if cfg!(unix) && !status.success() {
            return Err(failed(format!("the node ended with {status}")));
        }
        Ok(())
    }

    /// Lets the kernel refuse every write of the node to a file, or lifts that.
    #[cfg(target_os = "linux")]
    fn limit_files(&self, limited: bool) -> Step<()> {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};
        let current = limited.then_some(0);
        let limit = Rlimit {
            current,
            maximum: None,
        };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, limit).map_err(failed)?;
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn limit_files(&self, _limited: bool) -> Step<()> {
        Err(failed(
            "this step asks the kernel to refuse the node's writes, which needs Linux",
        ))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _gone = self.child.kill();
            let _gone = self.child.wait();
        }
    }
}

/// An MCP client on the stdio of `tipstaff connect`.
struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    next: u64,
}

impl Client {
    fn send(&mut self, message: &Value) -> Step<()> {
        writeln!(self.stdin, "{message}")
            .and_then(|()| self.stdin.flush())
            .map_err(failed)
    }

    fn request(&mut self, method: &str, params: &Value) -> Step<Value> {
        let id = self.next;
        self.next += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))?;
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).map_err(failed)? == 0 {
                return Err(failed("`connect` ended"));
            }
            let message: Value = serde_json::from_str(&line).map_err(failed)?;
            if message["id"] == id {
                return Ok(message);
            }
        }
    }

    fn end(mut self) {
        drop(self.stdin);
        let _status = self.child.wait();
    }
}
