//! Snapshots: which are taken, and what is in them.

use ledger::note::{Note, Signer};
use ledger::{Checkpoint, Keyring as _};
use vocab::Digest;

use super::memory::{MemoryBlobs, MemoryKeyring, MemoryLog, Seeded, Still};
use super::*;
use crate::entry::{People, Risk};
use crate::snapshot::{self, NotTaken};
use crate::state::{Identity, State};
use crate::{Control, FoldCause, fold_prefix};

/// A register with something of everything.
async fn full() -> Node {
    let node = Node::ready().await;
    node.ok(Command::ProvisionSponsor {
        person: Box::new(person("noor", 1)),
        signal: signal("provisioned"),
    })
    .await;
    let noor = handle_of(&node, "noor").unwrap();
    node.ok(Command::AddGroup {
        profile: group_profile("Secret Group"),
        members: vec![noor.clone()],
        signal: signal("provisioned"),
    })
    .await;
    let group = node
        .control
        .view(|state| state.groups().next().unwrap().handle.clone());
    node.ok(Command::AddAgent(Box::new(NewAgent {
        allow: Some(vec![
            "files/read_*".parse().unwrap(),
            "files:resources/read".parse().unwrap(),
        ]),
        people: Some(People::Group { group }),
        max_depth: Some(3),
        max_children: Some(3),
        ..new_agent("billing", "noor")
    })))
    .await;
    node.ok(Command::SetRisk {
        sponsor: noor.clone(),
        risk: Risk::Medium,
        signal: signal("risk"),
    })
    .await;
    node.ok(Command::AddAdmin { key: admin_key(1) }).await;
    node.ok(add_pep("envoy", 1, &["files"])).await;
    node.ok(Command::AddDirectoryToken {
        digest: Digest::of(b"token"),
    })
    .await;
    let terms = node.keep(b"terms");
    node.ok(Command::AcceptAgent {
        agent: "billing".parse().unwrap(),
        sponsor: noor.clone(),
        sign_in: SignIn::Oidc,
        asked_in: asked_in(&node, "billing"),
        terms,
        signed_in: None,
    })
    .await;
    node.ok(rotate("triage", "k2")).await;
    node.ok(start_with(
        "triage",
        "k2",
        "triage",
        Binding::Dpop { jkt: jkt(1) },
    ))
    .await;
    let first = node.start("billing", 2).await;
    node.ok(Command::Delegate(Box::new(Delegation {
        parent: first.clone(),
        agent: "billing".parse().unwrap(),
        kid: None,
        once: false,
        purpose: "triage/refunds".parse().unwrap(),
        binding: Binding::Dpop { jkt: jkt(3) },
        upstream: files(),
        authority: Some(Arc::new(
            serde_json::from_str(
                r#"[{"type":"mcp_tool","locations":["files"],"identifier":"read_*"}]"#,
            )
            .unwrap(),
        )),
        max_calls: Some(7),
        lifetime: None,
    })))
    .await;
    node.ok(end(&first, EndReason::Closed)).await;
    node.ok(log_keys::announce(vocab::LogName::Calls, 1, 2))
        .await;
    node.ok(log_keys::activate(vocab::LogName::Calls, 2, None))
        .await;
    node.ok(Command::ChangeWrappingKey {
        key: Digest::of(b"a wrapping key"),
    })
    .await;
    node.ok(Command::ChangeVault(crate::entry::VaultChanged {
        change: crate::entry::VaultChange::Set,
        secret: Some("v-aaaaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap()),
        generation: 3,
    }))
    .await;
    node.ok(suspend_sponsor("maja")).await;
    node.ok(transfer("triage", "noor")).await;
    node
}

async fn keep(node: &Node) -> Vec<u8> {
    let snapshot = node.control.snapshot().await.unwrap();
    snapshot.write(&*node.log, &log_key()).unwrap()
}

fn read(node: &Node, bytes: &[u8]) -> Result<State, NotTaken> {
    let keyring: &dyn ledger::Keyring = &*node.keyring;
    snapshot::read(bytes, log_key().verifier(), &*node.log, Some(keyring))
}

fn folded(node: &Node) -> State {
    fold_prefix(&*node.log, Some(&*node.keyring), node.log.len()).unwrap()
}

#[tokio::test]
async fn a_start_from_a_snapshot_is_a_start() {
    let node = full().await;
    let bytes = keep(&node).await;
    node.ok(add_sponsor("later")).await;
    let control = Control::resume(
        read(&node, &bytes).unwrap(),
        Arc::<MemoryLog>::clone(&node.log),
        Arc::<MemoryBlobs>::clone(&node.blobs),
        Arc::<MemoryKeyring>::clone(&node.keyring),
        Arc::<Still>::clone(&node.clock),
        Arc::<Seeded>::clone(&node.rng),
        Settings::default(),
    )
    .unwrap();
    control.view(|state| assert_eq!(*state, folded(&node)));
}

#[tokio::test]
async fn nobody_is_named_in_a_snapshot() {
    let bytes = keep(&full().await).await;
    let text = String::from_utf8_lossy(&bytes);
    for personal in [
        "maja",
        "Maja",
        "Briain",
        "noor",
        "example.com",
        "department",
        "ext-",
        "Secret",
    ] {
        assert!(!text.contains(personal), "{personal}");
    }
}

#[tokio::test]
async fn whoever_is_erased_after_a_snapshot_is_not_in_the_state_it_gives() {
    let node = full().await;
    let bytes = keep(&node).await;
    let maja = node.control.view(|state| {
        let found = state.sponsor_by_id(&"maja".parse().unwrap());
        Arc::clone(found.unwrap())
    });
    let identity = |state: &State| state.sponsor(&maja.handle).unwrap().identity.clone();
    assert!(matches!(
        identity(&read(&node, &bytes).unwrap()),
        Identity::Named(_)
    ));
    node.ok(Command::Erase {
        handle: maja.handle.clone(),
    })
    .await;
    assert_eq!(identity(&read(&node, &bytes).unwrap()), Identity::Erased);
    // Also if the key came back with a backup, once the erasure is on record.
    let bytes = keep(&node).await;
    node.keyring.restore(&maja.key);
    assert!(matches!(
        node.keyring.open(&maja.key),
        Ok(ledger::Opened::Key(_))
    ));
    assert_eq!(identity(&read(&node, &bytes).unwrap()), Identity::Erased);
    assert_eq!(read(&node, &bytes).unwrap(), folded(&node));
}

#[tokio::test]
async fn a_snapshot_with_any_byte_changed_is_not_taken() {
    let node = full().await;
    let bytes = keep(&node).await;
    assert!(read(&node, &bytes).is_ok());
    for at in 0..bytes.len() {
        for change in [0x01, 0x20, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            assert!(read(&node, &changed).is_err(), "byte {at} ^ {change}");
        }
    }
}

#[tokio::test]
async fn a_snapshot_that_was_cut_short_or_grew_is_not_taken() {
    let node = full().await;
    let bytes = keep(&node).await;
    for length in 0..bytes.len() {
        assert!(read(&node, &bytes[..length]).is_err(), "{length}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert_eq!(read(&node, &longer), Err(NotTaken::Body));
}

/// Signs a body as if it were a snapshot's.
fn forged(key: &Signer, lines: &[String], body: &[u8]) -> Vec<u8> {
    let text = lines.join("\n") + "\n";
    let note = Note::sign(&text, key).unwrap().to_string();
    [note.as_bytes(), &[0], body].concat()
}

/// The lines and the body of a snapshot.
fn parts(bytes: &[u8]) -> (Vec<String>, Vec<u8>) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap();
    let note = std::str::from_utf8(&bytes[..end]).unwrap();
    let note = Note::parse(note).unwrap();
    let lines = note.text().lines().map(str::to_owned).collect();
    (lines, bytes[end + 1..].to_vec())
}

#[tokio::test]
async fn a_snapshot_that_somebody_else_signed_is_not_taken() {
    let node = full().await;
    let (lines, body) = parts(&keep(&node).await);
    assert!(read(&node, &forged(&log_key(), &lines, &body)).is_ok());
    // Who can write the folder can name a key like the log's, and not have its signature.
    let own = Signer::from_seed(log_key().name(), &[1; 32]).unwrap();
    let found = read(&node, &forged(&own, &lines, &body));
    assert!(matches!(found, Err(NotTaken::Signature(_))), "{found:?}");
}

/// What becomes of a snapshot with one of its lines replaced, though the log's key signed it.
async fn check_line(nth: usize, line: &str, expected: NotTaken) {
    let node = full().await;
    let (mut lines, body) = parts(&keep(&node).await);
    line.clone_into(&mut lines[nth]);
    let found = read(&node, &forged(&log_key(), &lines, &body));
    assert_eq!(found, Err(expected));
}

#[tokio::test]
async fn each_line_of_a_snapshot_is_held_against_what_is_here() {
    let digest = Digest::of(b"other").to_string();
    let size = full().await.log.len();
    check_line(0, "tipstaff register snapshot v2", NotTaken::Form).await;
    let other = "tipstaff.local/control/y";
    let found = other.to_owned();
    check_line(1, other, NotTaken::Origin { found }).await;
    check_line(2, "+1", NotTaken::Form).await;
    check_line(2, "", NotTaken::Form).await;
    let newer = |size, log| NotTaken::Newer { size, log };
    check_line(2, &(size + 1).to_string(), newer(size + 1, size)).await;
    let history = |size| NotTaken::History { size };
    check_line(2, &(size - 1).to_string(), history(size - 1)).await;
    check_line(2, "0", history(0)).await;
    check_line(3, &digest, history(size)).await;
    check_line(4, &digest, NotTaken::Body).await;
    check_line(5, &digest, NotTaken::Version).await;
    check_line(5, &format!("{digest}\nmore"), NotTaken::Form).await;
}

#[tokio::test]
async fn a_checkpoint_is_no_snapshot_and_a_snapshot_no_checkpoint() {
    let node = full().await;
    let bytes = keep(&node).await;
    let (lines, body) = parts(&bytes);
    let checkpoint = Checkpoint {
        origin: log_key().name().to_owned(),
        size: node.log.len(),
        root: Digest::of(&body),
    };
    let note = checkpoint.sign(&log_key()).unwrap();
    let found = read(&node, &[note.as_bytes(), &[0], &body].concat());
    assert_eq!(found, Err(NotTaken::Form));
    let note = Note::sign(&(lines.join("\n") + "\n"), &log_key()).unwrap();
    assert!(Checkpoint::open(&note.to_string(), log_key().verifier()).is_err());
}

#[tokio::test]
async fn a_snapshot_of_another_history_of_the_same_log_is_not_taken() {
    let (node, other) = (full().await, Node::ready().await);
    let bytes = keep(&node).await;
    // As after a backup was put back, and the log went on differently.
    other.ok(add_sponsor("other")).await;
    let size = node.log.len();
    while other.log.len() <= size {
        let count = other.log.len();
        other.ok(configure(&format!("u{count}"))).await;
    }
    let found = snapshot::read(&bytes, log_key().verifier(), &*other.log, None);
    assert_eq!(found, Err(NotTaken::History { size }));
}

#[tokio::test]
async fn an_older_snapshot_only_means_more_to_fold() {
    let node = full().await;
    let bytes = keep(&node).await;
    node.ok(add_agent("ops", "noor")).await;
    node.ok(suspend_agent("billing")).await;
    let mut state = read(&node, &bytes).unwrap();
    assert!(state.size() < node.log.len());
    crate::fold_on(&mut state, &*node.log, Some(&*node.keyring), node.log.len()).unwrap();
    assert_eq!(state, folded(&node));
}

#[tokio::test]
async fn what_is_sealed_and_was_changed_is_not_taken() {
    let node = full().await;
    let bytes = keep(&node).await;
    node.log.entries.lock().unwrap()[0].1.as_mut().unwrap()[20] ^= 1;
    let found = read(&node, &bytes);
    let changed = |cause: &FoldCause| matches!(cause, FoldCause::Sealed(_));
    assert!(
        matches!(&found, Err(NotTaken::Sealed { index: 0, cause }) if changed(cause)),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_register_that_failed_writes_no_snapshot() {
    let node = Node::ready().await;
    node.log
        .lie
        .store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(node.execute(add_sponsor("noor")).await.is_err());
    assert!(node.control.snapshot().await.is_err());
}

/// Whoever changes what is written, or what the fold makes of an entry, sees it here.
#[tokio::test]
async fn what_a_history_comes_to_is_pinned() {
    let (lines, body) = parts(&keep(&full().await).await);
    let found = format!(
        "fold {}\nbody {} of {} bytes\n",
        snapshot::FOLD,
        lines[4],
        body.len()
    );
    let golden = include_str!("../../tests/snapshot.txt");
    assert!(
        found == golden,
        "if the fold makes something else of the same entries, raise `snapshot::FOLD`; if only \
         members came or went, or entries say more, nothing else is to be done; then \
         tests/snapshot.txt should be:\n{found}"
    );
}
