//! What agents hand on is in their own words: it lies sealed, it can be erased, and what nobody can
//! read any more permits nothing.

use std::sync::atomic::Ordering;

use ledger::{Keyring, Kind, seal};
use vocab::Authority;
use vocab::id::Handle;

use super::restarts::forged;
use super::*;
use crate::entry::SealedAuthority;
use crate::state::{HandedOn, Known, State};
use crate::{FoldCause, FoldError, NotTaken, fold_prefix, snapshot};

/// What an agent says that must be nowhere in clear.
const MARK: &str = "zebra-4711";

/// With instances `root` of `lead`, `child` below it to which something was handed on, and `leaf`
/// below that, which has the same.
struct Chain {
    node: Node,
    root: InstanceId,
    child: InstanceId,
    leaf: InstanceId,
}

fn part() -> Arc<Authority> {
    let text = format!(
        r#"[{{"type":"mcp_tool","locations":["files"],"identifier":"{MARK}*",
              "arguments":{{"{MARK}":{{"one_of":["{MARK}"]}},"path":{{"prefix":"/{MARK}/"}}}}}}]"#
    );
    Arc::new(serde_json::from_str(&text).unwrap())
}

fn below(parent: &InstanceId, key: u8, authority: Option<Arc<Authority>>) -> Command {
    Command::Delegate(Box::new(Delegation {
        parent: parent.clone(),
        agent: "lead".parse().unwrap(),
        kid: None,
        once: false,
        purpose: "triage".parse().unwrap(),
        binding: Binding::Dpop { jkt: jkt(key) },
        upstream: files(),
        authority,
        max_calls: None,
        lifetime: None,
    }))
}

async fn delegate(node: &Node, command: Command) -> InstanceId {
    match node.ok(command).await {
        Done::Started { instance, .. } => instance.id.clone(),
        other => panic!("{other:?}"),
    }
}

async fn chain() -> Chain {
    let node = Node::ready().await;
    node.ok(Command::AddAgent(Box::new(NewAgent {
        max_depth: Some(3),
        max_children: Some(9),
        ..new_agent("lead", "maja")
    })))
    .await;
    let root = node.start("lead", 0).await;
    let child = delegate(&node, below(&root, 1, Some(part()))).await;
    let leaf = delegate(&node, below(&child, 2, None)).await;
    Chain {
        node,
        root,
        child,
        leaf,
    }
}

fn handed_on(state: &State, id: &InstanceId) -> Arc<HandedOn> {
    Arc::clone(state.instance(id).unwrap().authority.as_ref().unwrap())
}

fn sealed(node: &Node, id: &InstanceId) -> SealedAuthority {
    let handed_on = node.control.view(|state| handed_on(state, id));
    handed_on.sealed.clone().unwrap()
}

async fn keep(node: &Node) -> Vec<u8> {
    let snapshot = node.control.snapshot().await.unwrap();
    snapshot.write(&*node.log, &log_key()).unwrap()
}

fn read(node: &Node, bytes: &[u8]) -> Result<State, NotTaken> {
    let keyring: &dyn Keyring = &*node.keyring;
    snapshot::read(bytes, log_key().verifier(), &*node.log, Some(keyring))
}

fn folded(node: &Node) -> Result<State, FoldError> {
    fold_prefix(&*node.log, Some(&*node.keyring), node.log.len())
}

fn erase(handle: &Handle) -> Command {
    Command::Erase {
        handle: handle.clone(),
    }
}

impl Chain {
    /// What is known of what was handed on, by the register and whatever gives it again.
    async fn check(&self, expected: &Known<Arc<Authority>>) {
        let bytes = keep(&self.node).await;
        let states = [
            read(&self.node, &bytes).unwrap(),
            folded(&self.node).unwrap(),
        ];
        for id in [&self.child, &self.leaf] {
            let here = self.node.control.view(|state| handed_on(state, id));
            assert_eq!(here.authority, *expected);
            for state in &states {
                assert_eq!(handed_on(state, id), here);
            }
        }
        self.node.control.view(|state| {
            assert!(states.iter().all(|it| it == state));
        });
    }

    /// Nothing below `root` may act, and why.
    fn check_nothing(&self) {
        assert_eq!(self.node.narrowed(&self.root), None);
        assert_eq!(self.node.narrowed(&self.child), Some(Why::AuthorityErased));
        assert!(self.node.narrowed(&self.leaf).is_some());
        self.node.control.view(|state| {
            for id in [&self.child, &self.leaf] {
                let instance = state.instance(id).unwrap();
                assert_eq!(instance.bound().unwrap().details(), []);
                let view = state.instance_view(instance, self.node.now());
                assert_eq!(view.authority_unknown, Some("erased"));
                assert_eq!(serde_json::to_value(&view).unwrap()["authority"], json!([]));
            }
        });
    }

    fn restarted(self) -> Self {
        let node = self.node.restarted().unwrap();
        Self { node, ..self }
    }
}

#[tokio::test]
async fn what_is_handed_on_is_in_no_entry_and_no_snapshot_and_survives_both_ways() {
    let chain = chain().await;
    let known = Known::Named(part());
    chain.check(&known).await;
    let entries = chain.node.log.text();
    let kept = keep(&chain.node).await;
    for text in [entries.into(), String::from_utf8_lossy(&kept)] {
        assert!(text.contains("triage") && !text.contains(MARK), "{text}");
        assert!(!text.contains("one_of") && !text.contains("mcp_tool"));
    }
    let chain = chain.restarted();
    chain.check(&known).await;
    assert_eq!(chain.node.narrowed(&chain.leaf), None);
    // What is handed on yet is held against it as before.
    let wider = r#"[{"type":"mcp_tool","locations":["files"],"identifier":"*"}]"#;
    let wider = Arc::new(serde_json::from_str(wider).unwrap());
    let refused = chain
        .node
        .execute(below(&chain.child, 3, Some(wider)))
        .await;
    assert!(matches!(
        refused,
        Err(CommandError::Refused(crate::Refusal::Beyond(_)))
    ));
}

/// One entry and one append for a child, and one key for all of a day, which calls use too.
#[tokio::test]
async fn children_of_a_day_share_a_key() {
    let chain = chain().await;
    let (keys, entries) = (chain.node.keyring.len(), chain.node.log.len());
    let child = delegate(&chain.node, below(&chain.root, 3, Some(part()))).await;
    assert_eq!(chain.node.keyring.len(), keys);
    assert_eq!(chain.node.log.len(), entries + 1);
    let first = sealed(&chain.node, &chain.child);
    let other = sealed(&chain.node, &child);
    assert_eq!(first.key, other.key);
    assert_ne!(first.commit, other.commit, "the digest is salted");
    let (sponsor, lead) = (handle_of(&chain.node, "maja").unwrap(), "lead".parse());
    let group = seal::group_of(&sponsor, &lead.unwrap(), chain.node.now());
    assert_eq!(chain.node.keyring.group_key(&group).unwrap().0, first.key);
    chain.node.clock.advance(minutes(24 * 60));
    let root = chain.node.start("lead", 5).await;
    let later = delegate(&chain.node, below(&root, 6, Some(part()))).await;
    assert_ne!(sealed(&chain.node, &later).key, first.key);
}

#[tokio::test]
async fn once_its_key_is_erased_nothing_may_be_done_by_what_it_sealed() {
    let chain = chain().await;
    let key = sealed(&chain.node, &chain.child).key;
    let before = keep(&chain.node).await;
    chain.node.ok(erase(&key)).await;
    chain.check_nothing();
    chain.check(&Known::Erased).await;
    // A snapshot from before gives it neither.
    let mut state = read(&chain.node, &before).unwrap();
    let (log, keyring) = (&*chain.node.log, &*chain.node.keyring);
    crate::fold_on(&mut state, log, Some(keyring), log.len()).unwrap();
    assert_eq!(state, folded(&chain.node).unwrap());
    // Nor is it handed on.
    let refused = chain.node.execute(below(&chain.child, 3, None)).await;
    assert!(matches!(
        refused,
        Err(CommandError::Refused(crate::Refusal::ParentNarrowed {
            why: Why::AuthorityErased,
            ..
        }))
    ));
    let chain = chain.restarted();
    chain.check_nothing();
    chain.check(&Known::Erased).await;
    // Also if the key came back with a backup, once the erasure is on record.
    chain.node.keyring.restore(&key);
    let chain = chain.restarted();
    chain.check_nothing();
    // What is handed on from now on has another key.
    let child = delegate(&chain.node, below(&chain.root, 3, Some(part()))).await;
    assert_eq!(chain.node.narrowed(&child), None);
    assert_ne!(sealed(&chain.node, &child).key, key);
}

#[tokio::test]
async fn a_key_that_is_gone_without_a_word_permits_nothing_and_stops_no_start() {
    let chain = chain().await;
    let key = sealed(&chain.node, &chain.child).key;
    chain.node.keyring.erase(&key).unwrap();
    let chain = chain.restarted();
    chain.check_nothing();
    chain.check(&Known::Erased).await;
}

/// An erasure that is on record and not finished seals nothing more.
#[tokio::test]
async fn an_unfinished_erasure_is_finished_before_anything_is_sealed() {
    let chain = chain().await;
    let key = sealed(&chain.node, &chain.child).key;
    chain.node.keyring.refuse.store(true, Ordering::Relaxed);
    let unfinished = chain.node.execute(erase(&key)).await;
    assert!(matches!(
        unfinished,
        Err(CommandError::EraseUnfinished { .. })
    ));
    chain.check_nothing();
    let entries = chain.node.log.len();
    let refused = chain
        .node
        .execute(below(&chain.root, 3, Some(part())))
        .await;
    assert!(
        matches!(refused, Err(CommandError::Keyring(_))),
        "{refused:?}"
    );
    assert_eq!(chain.node.log.len(), entries);
    chain.node.keyring.refuse.store(false, Ordering::Relaxed);
    let child = delegate(&chain.node, below(&chain.root, 3, Some(part()))).await;
    assert_eq!(chain.node.narrowed(&child), None);
    let gone = chain.node.keyring.open(&key).unwrap();
    assert!(matches!(gone, ledger::Opened::Erased), "{gone:?}");
}

/// Opens a chain's files again after what lies sealed beside the child's entry was tampered with.
async fn check_damage(
    tamper: impl FnOnce(&Node, u64),
    of_snapshot: impl FnOnce(&NotTaken) -> bool,
    expected: impl FnOnce(&FoldCause) -> bool,
) {
    let chain = chain().await;
    let record = |state: &State| state.instance(&chain.child).unwrap().record;
    let record = chain.node.control.view(record);
    let bytes = keep(&chain.node).await;
    tamper(&chain.node, record);
    let found = read(&chain.node, &bytes);
    assert!(found.as_ref().map_or_else(of_snapshot, |state| {
        // What is not there is told apart from what was erased, and the start looks for it.
        state.locked_authority() == Some(record)
    }));
    let Err(error) = chain.node.restarted() else {
        panic!("it should not start");
    };
    assert!(expected(&error.cause) && error.index == record, "{error:?}");
}

#[tokio::test]
async fn sealed_words_that_are_gone_or_changed_do_not_start() {
    let place = |record: u64| usize::try_from(record).unwrap();
    check_damage(
        |node, record| node.log.entries.lock().unwrap()[place(record)].1 = None,
        |_| false,
        |cause| *cause == FoldCause::Locked,
    )
    .await;
    let changed = |cause: &FoldCause| matches!(cause, FoldCause::Sealed(_));
    check_damage(
        |node, record| {
            let entries = &mut node.log.entries.lock().unwrap();
            entries[place(record)].1.as_mut().unwrap()[40] ^= 1;
        },
        |not| matches!(not, NotTaken::Sealed { cause, .. } if changed(cause)),
        changed,
    )
    .await;
    // Those of another entry, sealed by the same key.
    check_damage(
        |node, record| {
            let entries = &mut node.log.entries.lock().unwrap();
            entries[place(record)].1 = entries[place(record) + 1].1.clone();
        },
        |not| matches!(not, NotTaken::Sealed { cause, .. } if changed(cause)),
        changed,
    )
    .await;
}

/// The body of an instance that `triage` has below another.
fn body(node: &Node, parent: &InstanceId) -> serde_json::Value {
    json!({
        "instance": format!("i-{}", "b".repeat(26)), "agent": "lead",
        "sponsor": handle_of(node, "maja"), "parent": parent, "purpose": "triage",
        "binding": {"dpop": {"jkt": jkt(5)}}, "upstream": "files", "via": "exchange",
        "max_lifetime_s": 600, "idle_s": 600,
    })
}

#[tokio::test]
async fn what_is_sealed_and_hands_nothing_on_does_not_start() {
    let chain = chain().await;
    let key = sealed(&chain.node, &chain.child).key;
    let Ok(ledger::Opened::Key(group_key)) = chain.node.keyring.open(&key) else {
        panic!();
    };
    let plain = format!(r#"{{"{MARK}":1}}"#);
    let sealed = seal::seal(&group_key, &*chain.node.rng, plain.as_bytes()).unwrap();
    let mut body = body(&chain.node, &chain.child);
    body["handed_on"] = json!({"key": key, "commit": sealed.commit});
    let entry = forged(&chain.node, Kind::InstanceStarted, &body);
    let written = (entry, Some(sealed.bytes));
    chain.node.log.entries.lock().unwrap().push(written);
    let Err(error) = chain.node.restarted() else {
        panic!("it should not start");
    };
    assert_eq!(error.cause, FoldCause::Form);
    assert!(!format!("{error} {error:?}").contains(MARK));
}

#[tokio::test]
async fn entries_that_hand_on_less_than_they_may_do_not_start() {
    for members in [
        // Nothing said where less than everything was handed on above.
        json!({}),
        // Twice.
        json!({"authority": part(), "handed_on": {"key": "k-x", "commit": "00".repeat(32)}}),
    ] {
        let chain = chain().await;
        let mut body = body(&chain.node, &chain.child);
        for (name, value) in members.as_object().unwrap() {
            body[name] = value.clone();
        }
        let entry = forged(&chain.node, Kind::InstanceStarted, &body);
        chain.node.log.forge(entry);
        let Err(error) = chain.node.restarted() else {
            panic!("it should not start");
        };
        assert!(matches!(error.cause, FoldCause::Impossible(_)), "{error:?}");
    }
}

/// What was written in clear before folds for ever, and no snapshot repeats it.
#[tokio::test]
async fn old_entries_in_clear_are_read_as_ever() {
    let chain = chain().await;
    let id: InstanceId = format!("i-{}", "b".repeat(26)).parse().unwrap();
    let mut body = body(&chain.node, &chain.child);
    body["authority"] = json!(part());
    let entry = forged(&chain.node, Kind::InstanceStarted, &body);
    chain.node.log.forge(entry);
    let chain = chain.restarted();
    assert_eq!(chain.node.narrowed(&id), None);
    let kept = keep(&chain.node).await;
    assert!(!String::from_utf8_lossy(&kept).contains(MARK));
    let state = read(&chain.node, &kept).unwrap();
    assert_eq!(state, folded(&chain.node).unwrap());
    let clear = Known::Named(part());
    assert_eq!(handed_on(&state, &id).authority, clear);
    // A key that is erased is none of its business, though the one above it is stopped by that.
    let key = sealed(&chain.node, &chain.child).key;
    chain.node.ok(erase(&key)).await;
    let chain = chain.restarted();
    chain.node.control.view(|state| {
        assert_eq!(handed_on(state, &id).authority, clear);
    });
    assert_eq!(chain.node.narrowed(&id), Some(Why::AncestorNarrowed));
}
