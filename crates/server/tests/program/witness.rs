//! `tipstaff witness`: as people run it, beside a node and killed at any moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use ledger::cosignature::Cosigner;
use ledger::note::{Note, Signer, Verifier};
use ledger::tlog_proof::TlogProof;
use ledger::{Checkpoint, cosignature, hash};
use serde_json::Value;
use tokio::process::{Child, Command};
use vocab::{Digest, LogName};

use crate::node::{Folder, Node, until, within};

/// A witness that runs as a process of its own.
pub(crate) struct Witness {
    folder: PathBuf,
    url: String,
    key: Verifier,
    process: Child,
}

impl Witness {
    /// Starts one in `folder`; it follows the logs whose keys lie in `logs`.
    pub(crate) async fn start(folder: &Path, logs: &[PathBuf]) -> Self {
        Self::named(folder, "witness.example/w1", logs).await
    }

    /// Like [`Witness::start`], under another name.
    pub(crate) async fn named(folder: &Path, name: &str, logs: &[PathBuf]) -> Self {
        let ready = folder.with_extension("ready");
        let told = folder.with_extension("told");
        let _none = fs::remove_file(&ready);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tipstaff"));
        command.args(["--json", "witness", "--listen", "127.0.0.1:0"]);
        command.args(["--name", name, "--folder"]);
        command.arg(folder).arg("--ready-file").arg(&ready);
        for log in logs {
            command.arg("--log").arg(log);
        }
        let out = fs::File::create(&told).unwrap();
        let process = command
            .stdin(Stdio::null())
            .stdout(out)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let told = until("the witness is ready", || {
            let told = fs::read_to_string(&told).ok()?;
            serde_json::from_str::<Value>(&told).ok()
        })
        .await;
        Self {
            folder: folder.to_owned(),
            url: told["url"].as_str().unwrap().to_owned(),
            key: told["vkey"].as_str().unwrap().parse().unwrap(),
            process,
        }
    }

    pub(crate) async fn kill(&mut self) {
        self.process.start_kill().unwrap();
        within("its end", self.process.wait()).await.unwrap();
    }

    /// How a node is told of it.
    pub(crate) fn anchor(&self) -> String {
        format!("witness:{} {}", self.url, self.key)
    }

    /// Waits until it has cosigned both logs of a node.
    pub(crate) async fn cosigns(&self, folder: &Folder) {
        for log in LogName::ALL {
            until("both logs are cosigned", || {
                cosigned(folder, log, &self.key)
            })
            .await;
        }
    }
}

async fn submit(url: String, body: String) -> Option<(u16, String)> {
    let request = Request::post(format!("{url}/add-checkpoint"));
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let response = server::outbound::send(request, 1 << 16).await.ok()?;
    let text = String::from_utf8(response.body().to_vec()).unwrap();
    Some((response.status().as_u16(), text))
}

/// A log that doubles: what joins is a whole right half, so its root is all that the proof needs.
struct Doubling {
    signer: Signer,
    checkpoint: Checkpoint,
}

impl Doubling {
    fn new(signer: Signer) -> Self {
        let checkpoint = Checkpoint {
            origin: signer.name().to_owned(),
            size: 1,
            root: hash::leaf(b"first"),
        };
        Self { signer, checkpoint }
    }

    /// The log twice as long, its new half of this kind.
    fn next(&self, half: &str) -> (Checkpoint, String) {
        let right = Digest::of(half.as_bytes());
        let next = Checkpoint {
            origin: self.checkpoint.origin.clone(),
            size: self.checkpoint.size * 2,
            root: hash::node(&self.checkpoint.root, &right),
        };
        let body = format!(
            "old {}\n{}\n\n{}",
            self.checkpoint.size,
            STANDARD.encode(right.as_bytes()),
            next.sign(&self.signer).unwrap()
        );
        (next, body)
    }
}

/// Killed with a submission under way, again and again: what it answered it stands by, and no
/// other history is ever cosigned.
#[tokio::test]
async fn a_witness_that_is_killed_forgets_nothing() {
    let root = tempfile::tempdir().unwrap();
    let signer = Signer::from_seed("example.com/log", &[7; 32]).unwrap();
    let logs = [root.path().join("log.vkey")];
    fs::write(&logs[0], format!("{}\n", signer.verifier())).unwrap();
    let folder = root.path().join("witness");
    let mut log = Doubling::new(signer);
    let first = format!("old 0\n\n{}", log.checkpoint.sign(&log.signer).unwrap());
    let mut witness = Witness::start(&folder, &logs).await;
    let key = witness.key.to_string();
    let answered = submit(witness.url.clone(), first).await.unwrap();
    assert_eq!(answered.0, 200, "{answered:?}");
    for round in 0..6 {
        // A few that are answered, then one that may be.
        for step in 0..4 {
            let (next, body) = log.next(&format!("{round} {step}"));
            let (status, _) = submit(witness.url.clone(), body).await.unwrap();
            assert_eq!(status, 200);
            log.checkpoint = next;
        }
        let (next, body) = log.next(&format!("{round} cut"));
        let under_way = tokio::spawn(submit(witness.url.clone(), body.clone()));
        if round % 2 == 1 {
            tokio::task::yield_now().await;
        }
        witness.kill().await;
        let under_way = under_way.await.unwrap();
        witness = Witness::start(&folder, &logs).await;
        assert_eq!(witness.key.to_string(), key);
        if under_way.is_some_and(|(status, _)| status == 200) {
            log.checkpoint = next.clone();
            let fork = log.next("x").1.replace(
                &format!("old {}\n", next.size),
                &format!("old {}\n", next.size / 2),
            );
            assert_eq!(submit(witness.url.clone(), fork).await.unwrap().0, 409);
            continue;
        }
        // Another history from what was answered: refused if the one under way was kept, else
        // cosigned; then the one under way is the one that is refused.
        let (other, fork) = log.next(&format!("{round} other"));
        let (status, seen) = submit(witness.url.clone(), fork).await.unwrap();
        match status {
            200 => {
                log.checkpoint = other;
                assert_eq!(submit(witness.url.clone(), body).await.unwrap().0, 409);
            }
            409 => {
                assert_eq!(seen, format!("{}\n", next.size));
                log.checkpoint = next;
            }
            status => panic!("{status}: {seen}"),
        }
    }
    let evidence = witness.folder.join("forks");
    assert!(!evidence.exists(), "nothing was taken for a fork");
}

fn vkey(folder: &Folder, log: LogName) -> Verifier {
    let path = folder.node(&format!("data/{log}.vkey"));
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

fn cosigned(folder: &Folder, log: LogName, key: &Verifier) -> Option<Checkpoint> {
    let path = folder.node(&format!("data/{log}.cosigned"));
    let note = Note::parse(&fs::read_to_string(path).ok()?).ok()?;
    cosignature::verify(&note, key).ok()?;
    Checkpoint::of_note(&note, &vkey(folder, log)).ok()
}

#[tokio::test]
async fn a_node_is_witnessed() {
    let folder = Folder::new("").await;
    let logs = LogName::ALL.map(|log| folder.node(&format!("data/{log}.vkey")));
    let mut witness = Witness::start(&folder.beside("witness"), &logs).await;
    let anchored = |anchor: &str| {
        let text = fs::read_to_string(folder.config()).unwrap();
        let text = text.split("[ledger]").next().unwrap();
        let text = format!("{text}\n[ledger]\nanchor = \"{anchor}\"\nquorum = 1\n");
        fs::write(folder.config(), text).unwrap();
    };
    anchored(&witness.anchor());
    let key = witness.key.clone();
    let node = Node::up(folder, &[]).await;
    for log in LogName::ALL {
        until("both logs are cosigned", || {
            cosigned(&node.folder, log, &key)
        })
        .await;
    }
    let before = cosigned(&node.folder, LogName::Control, &key).unwrap();
    let sponsor = ["sponsor", "add", "maya", "--name", "M", "--email", "m@x"];
    node.folder.run(&sponsor).await;
    until("what is new is cosigned", || {
        let now = cosigned(&node.folder, LogName::Control, &key)?;
        (now.size > before.size).then_some(())
    })
    .await;
    // A certificate is waited for until it is cosigned.
    let cut = ["sponsor", "suspend", "maya", "--wait"];
    let told = node.folder.run(&cut).await;
    assert!(told.contains("sponsor-suspended"), "{told}");
    // A second witness with the same memory cannot run beside it.
    let mut second = Command::new(env!("CARGO_BIN_EXE_tipstaff"));
    second.args(["witness", "--listen", "127.0.0.1:0", "--folder"]);
    second.arg(&witness.folder).arg("--log").arg(&logs[0]);
    let second = within("its end", second.output()).await.unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(
        !second.status.success() && said.contains("another witness"),
        "{said}"
    );
    let folder = node.stop().await;
    folder.run(&["ledger", "verify"]).await;
    witness.kill().await;
    // What is handed out rests on its cosignature, here and on a copy without a configuration.
    let proof = folder.run(&["ledger", "proof", "control/0"]).await;
    let proof: TlogProof = proof.parse().unwrap();
    cosignature::verify(&Note::parse(&proof.checkpoint).unwrap(), &key).unwrap();
    let lines = folder.run(&["ledger", "export", "--log", "control"]).await;
    let agreed = cosigned(&folder, LogName::Control, &key).unwrap().size;
    assert_eq!(lines.lines().count() as u64, agreed);
    let (data, key) = (folder.node("data"), key.to_string());
    let data = ["--data", data.to_str().unwrap()];
    let ask = ["ledger", "proof", "control/0", "--quorum", "1", "--witness"];
    folder.run(&[&ask[..], &[&key], &data[..]].concat()).await;
    let other = Cosigner::from_seed("other.example", &[3; 32]).unwrap();
    let other = other.verifier().to_string();
    let refused = folder
        .output(&[&ask[..], &[&other], &data[..]].concat())
        .await;
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && refused.stdout.is_empty());
    assert!(
        said.contains("other.example") && said.contains("missing"),
        "{said}"
    );
    let doctor = folder.output(&["doctor"]).await;
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(said.contains("quorum"), "{said}");
}
