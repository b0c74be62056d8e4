//! Whom policies mean by a name, when a directory changes who has it.

use vocab::Handle;

use super::*;
use crate::state::{Identity, PolicyName, State};
use crate::{fold_prefix, snapshot};

/// The names that the policies say.
const SAID: [&str; 4] = ["oncall", "contractors", "maja", "noor"];

/// A register in which a policy set is in force.
async fn ready() -> Node {
    let node = Node::ready().await;
    activate(&node, b"one").await;
    node
}

async fn activate(node: &Node, set: &[u8]) {
    node.ok(Command::ActivatePolicy {
        set: node.keep(set),
        author: "uid:1000".parse().unwrap(),
        tests: crate::TestResults::default(),
    })
    .await;
}

async fn add_group(node: &Node, name: &str) -> Handle {
    node.ok(Command::AddGroup {
        profile: group_profile(name),
        members: Vec::new(),
        signal: signal("provisioned"),
    })
    .await;
    let found = |state: &State| {
        let group = state.groups().find(|it| it.name() == Some(name));
        group.unwrap().handle.clone()
    };
    node.control.view(found)
}

async fn rename_group(node: &Node, group: &Handle, name: &str) {
    node.ok(Command::ChangeGroup {
        group: group.clone(),
        profile: group_profile(name),
        signal: signal("changed"),
    })
    .await;
}

async fn remove_group(node: &Node, group: &Handle) {
    node.ok(Command::RemoveGroup {
        group: group.clone(),
        signal: signal("removed"),
    })
    .await;
}

async fn provision(node: &Node, id: &str) -> Handle {
    node.ok(Command::ProvisionSponsor {
        person: Box::new(person(id, 1)),
        signal: signal("provisioned"),
    })
    .await;
    handle_of(node, id).unwrap()
}

async fn rename_sponsor(node: &Node, sponsor: &Handle, id: &str) {
    node.ok(Command::ChangeSponsor {
        sponsor: sponsor.clone(),
        person: Box::new(Person {
            external_id: Some(format!("ext-{sponsor}").parse().unwrap()),
            ..person(id, 2)
        }),
        changes: vec!["user-name".parse().unwrap()],
        signal: signal("changed"),
    })
    .await;
}

/// How a set activated at `since` reads the name of somebody or something.
fn read_at(state: &State, handle: &Handle, since: u64) -> (Option<String>, Vec<String>) {
    let says = |name: &str| SAID.contains(&name);
    let read = match (state.sponsor(handle), state.group(handle)) {
        (Some(sponsor), _) => state.sponsor_in_policy(sponsor, since, says),
        (None, Some(group)) => state.group_in_policy(group, since, says),
        (None, None) => PolicyName::default(),
    };
    let perhaps = read.perhaps.into_iter().map(str::to_owned).collect();
    (read.means.map(str::to_owned), perhaps)
}

/// What the set in force means by a handle: for the node that runs, for one that folds all anew, and
/// for one that begins with a snapshot.
async fn check(node: &Node, handle: &Handle, means: Option<&str>, perhaps: &[&str]) {
    let kept = node.control.snapshot().await.unwrap();
    let kept = kept.write(&*node.log, &log_key()).unwrap();
    let keyring: &dyn ledger::Keyring = &*node.keyring;
    let restored = snapshot::read(&kept, log_key().verifier(), &*node.log, Some(keyring)).unwrap();
    let folded = fold_prefix(&*node.log, Some(keyring), node.log.len()).unwrap();
    node.control.view(|state| {
        assert_eq!(*state, folded);
        assert_eq!(*state, restored);
        let since = state.policy().unwrap().record;
        let expected = perhaps.iter().map(|&name| name.to_owned()).collect();
        let found = read_at(state, handle, since);
        assert_eq!(found, (means.map(str::to_owned), expected));
    });
}

#[tokio::test]
async fn a_group_that_is_renamed_is_meant_as_before() {
    let node = Node::ready().await;
    let group = add_group(&node, "contractors").await;
    activate(&node, b"one").await;
    check(&node, &group, Some("contractors"), &[]).await;
    rename_group(&node, &group, "externals").await;
    check(&node, &group, Some("contractors"), &[]).await;
    rename_group(&node, &group, "others").await;
    check(&node, &group, Some("contractors"), &[]).await;
    // Back again, and nothing was.
    rename_group(&node, &group, "contractors").await;
    check(&node, &group, Some("contractors"), &[]).await;
    assert!(node.control.view(State::renamed_groups).is_empty());
    // Activated again, the names are those of now.
    rename_group(&node, &group, "others").await;
    activate(&node, b"two").await;
    check(&node, &group, Some("others"), &[]).await;
}

#[tokio::test]
async fn whoever_takes_a_name_is_only_perhaps_meant() {
    let node = Node::ready().await;
    let (first, other) = (
        add_group(&node, "oncall").await,
        add_group(&node, "staff").await,
    );
    activate(&node, b"one").await;
    rename_group(&node, &first, "pager").await;
    rename_group(&node, &other, "oncall").await;
    check(&node, &first, Some("oncall"), &[]).await;
    check(&node, &other, None, &["oncall"]).await;
    // A new one that takes it is not meant either, nor one that takes it after a removal.
    rename_group(&node, &other, "staff").await;
    let new = add_group(&node, "oncall").await;
    check(&node, &new, None, &["oncall"]).await;
    remove_group(&node, &new).await;
    remove_group(&node, &first).await;
    let again = add_group(&node, "oncall").await;
    check(&node, &again, None, &["oncall"]).await;
    check(&node, &other, Some("staff"), &[]).await;
    activate(&node, b"one").await;
    check(&node, &again, Some("oncall"), &[]).await;
}

#[tokio::test]
async fn names_that_are_swapped_are_both_in_doubt() {
    let node = Node::ready().await;
    let (one, two) = (
        add_group(&node, "oncall").await,
        add_group(&node, "contractors").await,
    );
    activate(&node, b"one").await;
    rename_group(&node, &one, "aside").await;
    rename_group(&node, &two, "oncall").await;
    rename_group(&node, &one, "contractors").await;
    check(&node, &one, Some("oncall"), &["contractors"]).await;
    check(&node, &two, Some("contractors"), &["oncall"]).await;
}

#[tokio::test]
async fn a_name_that_nobody_had_means_the_first_who_is_added_with_it() {
    let node = ready().await;
    let first = add_group(&node, "oncall").await;
    check(&node, &first, Some("oncall"), &[]).await;
    rename_group(&node, &first, "pager").await;
    check(&node, &first, Some("oncall"), &[]).await;
    let second = add_group(&node, "oncall").await;
    check(&node, &second, None, &["oncall"]).await;
    // Who is renamed to it was somebody else before.
    let other = add_group(&node, "staff").await;
    rename_group(&node, &other, "contractors").await;
    check(&node, &other, None, &["contractors"]).await;
    // Having had it once is enough to be forbidden what it is forbidden.
    rename_group(&node, &second, "staff").await;
    check(&node, &second, Some("staff"), &["oncall"]).await;
}

#[tokio::test]
async fn sponsors_are_meant_as_they_were_called() {
    let node = Node::ready().await;
    let noor = provision(&node, "noor").await;
    activate(&node, b"one").await;
    rename_sponsor(&node, &noor, "noor.b").await;
    check(&node, &noor, Some("noor"), &[]).await;
    let taker = provision(&node, "noor").await;
    check(&node, &taker, None, &["noor"]).await;
    // In other letters it is not the name that policies say, and not one that somebody can take.
    rename_sponsor(&node, &taker, "taker").await;
    rename_sponsor(&node, &noor, "Noor").await;
    check(&node, &noor, Some("noor"), &[]).await;
    activate(&node, b"one").await;
    check(&node, &noor, Some("Noor"), &[]).await;
}

#[tokio::test]
async fn nobody_is_meant_by_the_name_of_somebody_erased() {
    let node = Node::ready().await;
    let noor = provision(&node, "noor").await;
    activate(&node, b"one").await;
    node.ok(Command::SuspendSponsor {
        id: "noor".parse().unwrap(),
        signal: None,
    })
    .await;
    node.ok(Command::Erase {
        handle: noor.clone(),
    })
    .await;
    let taker = provision(&node, "noor").await;
    check(&node, &noor, None, &[]).await;
    check(&node, &taker, None, &["noor"]).await;
    activate(&node, b"one").await;
    check(&node, &taker, Some("noor"), &[]).await;
}

/// A keyring put back from an older backup lacks the keys of whoever was added since: then nobody
/// can tell who the set means by their names.
#[tokio::test]
async fn a_name_that_is_lost_off_record_is_nobodys_until_the_next_activation() {
    for renamed in [false, true] {
        let node = Node::ready().await;
        let noor = provision(&node, "noor").await;
        let group = add_group(&node, "oncall").await;
        activate(&node, b"one").await;
        let key = node.control.view(|state| {
            let keys = (
                state.sponsor(&noor).unwrap().key.clone(),
                state.group(&group).unwrap().key.clone(),
            );
            [keys.0, keys.1]
        });
        if renamed {
            rename_sponsor(&node, &noor, "noor.b").await;
            rename_group(&node, &group, "pager").await;
            remove_group(&node, &group).await;
        }
        for key in &key {
            ledger::Keyring::erase(&*node.keyring, key).unwrap();
        }
        let node = node.restarted().unwrap();
        let taker = provision(&node, "noor").await;
        let another = add_group(&node, "oncall").await;
        let read = |node: &Node, handle: &Handle| {
            node.control.view(|state| {
                let since = state.policy().unwrap().record;
                read_at(state, handle, since)
            })
        };
        let perhaps = |name: &str| (None, vec![name.to_owned()]);
        let size = node.control.view(State::size);
        let folded = fold_prefix(&*node.log, Some(&*node.keyring), size).unwrap();
        let kept = node.control.view(State::snapshot);
        let folded = folded.snapshot();
        assert!(kept.body() == folded.body(), "only what the log says");
        assert_eq!(read(&node, &taker), perhaps("noor"));
        assert_eq!(read(&node, &another), perhaps("oncall"));
        assert_eq!(read(&node, &noor), (None, Vec::new()));
        // The same set means whoever has the names now.
        activate(&node, b"one").await;
        let means = |name: &str| (Some(name.to_owned()), Vec::new());
        assert_eq!(read(&node, &taker), means("noor"));
        assert_eq!(read(&node, &another), means("oncall"));
    }
}

#[tokio::test]
async fn names_that_are_all_there_or_erased_on_record_are_read_after_a_restart_as_before() {
    let node = Node::ready().await;
    let noor = provision(&node, "noor").await;
    node.ok(suspend_sponsor("noor")).await;
    node.ok(Command::Erase {
        handle: noor.clone(),
    })
    .await;
    activate(&node, b"one").await;
    let taker = provision(&node, "noor").await;
    check(&node, &taker, Some("noor"), &[]).await;
    let node = node.restarted().unwrap();
    check(&node, &taker, Some("noor"), &[]).await;
}

#[tokio::test]
async fn the_old_name_of_somebody_erased_is_kept_nowhere() {
    let node = Node::ready().await;
    let group = add_group(&node, "contractors").await;
    activate(&node, b"one").await;
    rename_group(&node, &group, "externals").await;
    let key = node
        .control
        .view(|state| state.group(&group).unwrap().key.clone());
    node.ok(Command::Erase { handle: key }).await;
    check(&node, &group, None, &[]).await;
    node.control.view(|state| {
        assert_eq!(state.group(&group).unwrap().profile, crate::Known::Erased);
        let renamed = state.renamed_groups();
        assert!(renamed.iter().all(|it| it.then.is_none()), "{renamed:?}");
    });
    let taker = add_group(&node, "contractors").await;
    check(&node, &taker, None, &["contractors"]).await;
    assert!(matches!(
        node.control
            .view(|state| state.sponsors()[0].identity.clone()),
        Identity::Named(_)
    ));
}

/// While the next set takes its place, calls are decided by the one before, and mean by its names
/// whom it meant.
#[tokio::test]
async fn the_set_before_goes_on_meaning_whom_it_meant() {
    let node = Node::ready().await;
    let group = add_group(&node, "contractors").await;
    activate(&node, b"one").await;
    let since = node.control.view(|state| state.policy().unwrap().record);
    rename_group(&node, &group, "externals").await;
    activate(&node, b"two").await;
    node.control.view(|state| {
        let found = read_at(state, &group, since);
        assert_eq!(found, (Some("contractors".to_owned()), Vec::new()));
    });
    check(&node, &group, Some("externals"), &[]).await;
}

#[tokio::test]
async fn activating_the_same_set_is_something_new_only_where_names_changed() {
    let node = ready().await;
    let group = add_group(&node, "oncall").await;
    let again = || Command::ActivatePolicy {
        set: node.keep(b"one"),
        author: "uid:1000".parse().unwrap(),
        tests: crate::TestResults::default(),
    };
    assert!(matches!(node.ok(again()).await, Done::Unchanged { .. }));
    rename_group(&node, &group, "pager").await;
    assert!(matches!(node.ok(again()).await, Done::Changed { .. }));
    assert!(matches!(node.ok(again()).await, Done::Unchanged { .. }));
    // A change of something else is none of these.
    let noor = provision(&node, "noor").await;
    rename_sponsor(&node, &noor, "noor").await;
    assert!(matches!(node.ok(again()).await, Done::Unchanged { .. }));
}
