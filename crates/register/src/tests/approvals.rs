//! People approve one exact call, which uses that up; and everything that could make more of it.

mod ends;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use vocab::digest::Digest;
use vocab::id::{Handle, UpstreamName};

use super::histories::{check_kept, keep};
use super::*;
use crate::approval::{
    APPROVALS_KEPT_MAX, Approval, ApprovalCommand, ApprovalLife, ApprovalOver, ApprovalRefusal,
    ApprovalSettings, Exactly, NAMED_MAX, NewApproval, NotApprover, SHOWN_BYTES_MAX,
};
use crate::entry::{Event, FirstSight, ToolsPinned};
use crate::lifecycle::InstanceLife;
use crate::refusal::Refusal;
use crate::state::{CutOf, Impossible, Known};
use crate::{FoldCause, fold_prefix};

/// The call that is asked about.
fn what(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// Asks about a call.
fn ask(node: &Node, instance: &InstanceId, text: &str, needs: &[&[&str]]) -> Command {
    let policy = node.control.view(|state| state.policy().unwrap().record);
    Command::Approval(ApprovalCommand::Request(Box::new(NewApproval {
        instance: instance.clone(),
        upstream: files(),
        method: "tools/call".to_owned(),
        tool: Some("delete".parse().unwrap()),
        what: what(text),
        policy,
        held: 7,
        needs: serde_json::from_value(json!(needs)).unwrap(),
        shown: format!("Shown: {text}"),
    })))
}

fn grant(id: &Handle, by: &Handle) -> Command {
    Command::Approval(ApprovalCommand::Grant {
        id: id.clone(),
        by: by.clone(),
        sign_in: SignIn::Oidc,
        signed_in: None,
    })
}

fn refuse(id: &Handle, by: &Handle) -> Command {
    Command::Approval(ApprovalCommand::Refuse {
        id: id.clone(),
        by: by.clone(),
        sign_in: SignIn::Oidc,
        signed_in: None,
    })
}

fn use_up(id: &Handle, text: &str) -> Command {
    Command::Approval(ApprovalCommand::Use {
        id: id.clone(),
        what: what(text),
    })
}

fn over(id: &Handle, cause: ApprovalOver) -> Command {
    let id = id.clone();
    Command::Approval(ApprovalCommand::Over { id, cause })
}

/// A person who signed in as themselves.
fn themselves(by: &Handle) -> Actor {
    Actor {
        kind: ActorKind::Person,
        id: by.to_string(),
        credential: SignIn::Oidc.as_str().to_owned(),
        verified: true,
    }
}

impl Node {
    /// An instance of maja's `triage`, a policy set in force, and noor, zoe and the group `finance`
    /// of both, whom it may name.
    async fn held() -> (Self, InstanceId) {
        let node = Self::ready().await;
        for id in ["noor", "zoe"] {
            node.ok(add_sponsor(id)).await;
        }
        let members = ["noor", "zoe", "maja"];
        let members = members.iter().filter_map(|id| handle_of(&node, id));
        node.ok(Command::AddGroup {
            profile: group_profile("finance"),
            members: members.collect(),
            signal: signal("provisioned"),
        })
        .await;
        node.ok(node.activate(b"set")).await;
        let id = node.start("triage", 0).await;
        (node, id)
    }

    fn activate(&self, set: &[u8]) -> Command {
        Command::ActivatePolicy {
            set: self.keep(set),
            author: "uid:1000".parse().unwrap(),
            tests: crate::TestResults::default(),
        }
    }

    async fn approval_asked(&self, instance: &InstanceId, text: &str, needs: &[&[&str]]) -> Handle {
        match self.ok(ask(self, instance, text, needs)).await {
            Done::Changed {
                subject: crate::Subject::Approval(id),
                ..
            } => id,
            other => panic!("{other:?}"),
        }
    }

    async fn in_person(
        &self,
        person: &str,
        command: impl Fn(&Handle) -> Command,
    ) -> Result<(), Refusal> {
        let person = handle_of(self, person).unwrap();
        let done = self.control.execute(themselves(&person), command(&person));
        refused(done.await)
    }

    async fn grants(&self, id: &Handle, person: &str) -> Result<(), Refusal> {
        self.in_person(person, |person| grant(id, person)).await
    }

    async fn refuses(&self, id: &Handle, person: &str) -> Result<(), Refusal> {
        self.in_person(person, |person| refuse(id, person)).await
    }

    async fn uses(&self, id: &Handle, text: &str) -> Result<(), Refusal> {
        refused(self.execute(use_up(id, text)).await)
    }

    fn approval(&self, id: &Handle) -> Approval {
        let found = |state: &crate::State| state.approval(id).unwrap().as_ref().clone();
        self.control.view(found)
    }

    fn ended(&self, id: &Handle) -> Option<ApprovalOver> {
        match self.approval(id).life {
            ApprovalLife::Over { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// The same log, folded anew, is the same.
    fn folds_the_same(&self) {
        let again = fold_prefix(&*self.log, Some(&*self.keyring), self.log.len()).unwrap();
        self.control.view(|state| assert_eq!(*state, again));
    }
}

fn refused(done: Result<Done, CommandError>) -> Result<(), Refusal> {
    match done {
        Ok(Done::Changed { .. }) => Ok(()),
        Err(CommandError::Refused(refusal)) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

fn not(why: NotApprover) -> Result<(), Refusal> {
    Err(ApprovalRefusal::NotApprover { why }.into())
}

fn is_over(id: &Handle, state: &'static str) -> Result<(), Refusal> {
    let id = id.clone();
    Err(ApprovalRefusal::Over { id, state }.into())
}

#[tokio::test]
async fn a_call_that_was_approved_is_made_once() {
    let (node, instance) = Node::held().await;
    let id = node.approval_asked(&instance, "a", &[&["noor"]]).await;
    let asked = node.approval(&id);
    assert!(asked.is_pending(node.now()));
    assert_eq!(asked.held, 7);
    let shown = asked.request.known().unwrap();
    assert_eq!(
        (shown.shown.as_str(), shown.needs.to_string()),
        ("Shown: a", "noor".to_owned())
    );
    let early = ApprovalRefusal::NotGranted { id: id.clone() };
    assert_eq!(node.uses(&id, "a").await, Err(early.into()));
    node.grants(&id, "noor").await.unwrap();
    node.uses(&id, "a").await.unwrap();
    assert_eq!(node.uses(&id, "a").await, is_over(&id, "used"), "a replay");
    let found = node.control.view(|state| {
        let found = state.approval_for(&instance, &what("a"), node.now());
        found.map(|it| it.id.clone())
    });
    assert_eq!(found, None, "it says nothing of the next call");
    node.folds_the_same();
}

#[tokio::test]
async fn what_was_asked_already_is_not_asked_again() {
    let (node, instance) = Node::held().await;
    let id = node.approval_asked(&instance, "a", &[&["noor"]]).await;
    let size = node.log.len();
    let again =
        async |expected: &Handle| match node.ok(ask(&node, &instance, "a", &[&["noor"]])).await {
            Done::Unchanged {
                subject: crate::Subject::Approval(found),
            } => assert_eq!(found, *expected),
            other => panic!("{other:?}"),
        };
    again(&id).await;
    assert_eq!(node.log.len(), size);
    node.refuses(&id, "noor").await.unwrap();
    // A refusal holds until its time is over.
    for count in [29, 29, 1] {
        again(&id).await;
        node.clock.advance(minutes(count));
        node.control.touch(&instance, node.now());
    }
    again(&id).await;
    node.clock.advance(minutes(1));
    assert_ne!(node.approval_asked(&instance, "a", &[&["noor"]]).await, id);
}

#[tokio::test]
async fn an_approval_is_for_one_call_of_one_instance() {
    let (node, instance) = Node::held().await;
    let other = node.start("triage", 1).await;
    let id = node.approval_asked(&instance, "a", &[&["noor"]]).await;
    node.grants(&id, "noor").await.unwrap();
    let found = |instance: &InstanceId, text: &str| {
        node.control.view(|state| {
            let found = state.approval_for(instance, &what(text), node.now());
            found.map(|it| it.id.clone())
        })
    };
    assert_eq!(found(&instance, "a"), Some(id.clone()));
    assert_eq!(found(&instance, "b"), None);
    assert_eq!(
        found(&other, "a"),
        None,
        "another instance of the same agent"
    );
    let other = ApprovalRefusal::OtherCall { id: id.clone() };
    assert_eq!(node.uses(&id, "b").await, Err(other.into()));
}

#[test]
fn each_part_of_a_call_makes_another_digest() {
    let instance = |at: u8| -> InstanceId {
        format!("i-{}", "a".repeat(25) + if at == 0 { "b" } else { "c" })
            .parse()
            .unwrap()
    };
    let (one, two) = (instance(0), instance(1));
    let tool = |name: &str| policy::Target::Tool {
        name: name.parse().unwrap(),
    };
    let method = |name_or_uri: Option<&str>| policy::Target::Method {
        method: "resources/read".to_owned(),
        name_or_uri: name_or_uri.map(str::to_owned),
    };
    let (files, sets) = (
        ["files", "mail"].map(|it| it.parse().unwrap()),
        [what("s"), what("t")],
    );
    let peps = ["edge", "inner"].map(|it| it.parse().unwrap());
    let base = Exactly {
        door: None,
        instance: &one,
        above: &[],
        upstream: &files[0],
        target: &tool("delete"),
        args: "{}",
        policy_set: &sets[0],
        routed: None,
    };
    let above = [one.clone(), two.clone()];
    let targets = [
        tool("delete2"),
        method(None),
        method(Some("")),
        method(Some("tool")),
    ];
    let mut all = vec![
        base.digest(),
        Exactly {
            door: Some((&peps[0], "authzen")),
            ..base
        }
        .digest(),
        Exactly {
            door: Some((&peps[0], "ext-authz")),
            ..base
        }
        .digest(),
        Exactly {
            door: Some((&peps[1], "authzen")),
            ..base
        }
        .digest(),
        Exactly {
            instance: &two,
            ..base
        }
        .digest(),
        Exactly {
            above: &above[..1],
            ..base
        }
        .digest(),
        Exactly {
            above: &above,
            ..base
        }
        .digest(),
        Exactly {
            upstream: &files[1],
            ..base
        }
        .digest(),
        Exactly {
            args: "{ }",
            ..base
        }
        .digest(),
        Exactly {
            policy_set: &sets[1],
            ..base
        }
        .digest(),
        Exactly {
            routed: Some((&files[0], None)),
            ..base
        }
        .digest(),
        Exactly {
            routed: Some((&files[1], None)),
            ..base
        }
        .digest(),
        Exactly {
            routed: Some((&files[1], Some(&sets[0]))),
            ..base
        }
        .digest(),
    ];
    all.extend(
        targets
            .iter()
            .map(|target| Exactly { target, ..base }.digest()),
    );
    for (nth, digest) in all.iter().enumerate() {
        assert!(!all[..nth].contains(digest), "{nth}");
    }
}

#[tokio::test]
async fn nobody_approves_for_themselves() {
    let (node, instance) = Node::held().await;
    // Maja answers for `triage`, and is in the group.
    let id = node
        .approval_asked(&instance, "a", &[&["group:finance"]])
        .await;
    assert_eq!(node.grants(&id, "maja").await, not(NotApprover::OwnCall));
    node.grants(&id, "noor").await.unwrap();
    // A policy can say that she may.
    let id = node.approval_asked(&instance, "b", &[&["sponsor"]]).await;
    assert_eq!(node.grants(&id, "noor").await, not(NotApprover::NotAsked));
    node.grants(&id, "maja").await.unwrap();
    node.uses(&id, "b").await.unwrap();
    // By her name alone she may not.
    let alone = node.execute(ask(&node, &instance, "c", &[&["maja"]])).await;
    assert_eq!(refused(alone), Err(ApprovalRefusal::NobodyMay.into()));
    node.folds_the_same();
}

#[tokio::test]
async fn whoever_answers_for_an_agent_above_is_not_asked_either() {
    let (node, parent) = Node::held().await;
    node.ok(add_agent("helper", "zoe")).await;
    let child = started(&node, &parent, "helper", 1).await;
    let id = node
        .approval_asked(&child, "a", &[&["group:finance"]])
        .await;
    for person in ["maja", "zoe"] {
        assert_eq!(node.grants(&id, person).await, not(NotApprover::OwnCall));
    }
    node.grants(&id, "noor").await.unwrap();
}

async fn started(node: &Node, parent: &InstanceId, agent: &str, key: u8) -> InstanceId {
    let delegate = Command::Delegate(Box::new(Delegation {
        parent: parent.clone(),
        agent: agent.parse().unwrap(),
        kid: Some("k1".parse().unwrap()),
        once: false,
        purpose: "triage".parse().unwrap(),
        binding: Binding::Dpop { jkt: jkt(key) },
        upstream: files(),
        authority: None,
        max_calls: None,
        lifetime: None,
    }));
    match node.ok(delegate).await {
        Done::Started { instance, .. } => instance.id.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_administrators_credential_is_nobodys_approval() {
    let (node, instance) = Node::held().await;
    node.ok(Command::AddAdmin { key: admin_key(1) }).await;
    let id = node.approval_asked(&instance, "a", &[&["noor"]]).await;
    let (noor, zoe) = (
        handle_of(&node, "noor").unwrap(),
        handle_of(&node, "zoe").unwrap(),
    );
    let asserted = Actor {
        verified: false,
        ..themselves(&noor)
    };
    let node_itself = Actor::node("n-1");
    let local = Actor {
        credential: SignIn::LocalLogin.as_str().to_owned(),
        ..themselves(&noor)
    };
    let key = by_key(&admin_key(1));
    for actor in [admin(), key, asserted, node_itself, local, themselves(&zoe)] {
        for command in [grant(&id, &noor), refuse(&id, &noor)] {
            let found = node.control.execute(actor.clone(), command).await;
            let actor = actor.id.clone();
            let expected = ApprovalRefusal::NotThemselves { actor };
            assert_eq!(refused(found), Err(expected.into()));
        }
    }
    // Nor does the fold take it.
    for event in [
        Event::ApprovalGranted(crate::entry::ApprovalGranted {
            id: id.clone(),
            by: noor.clone(),
            sign_in: SignIn::Oidc,
        }),
        Event::ApprovalRefused(crate::entry::ApprovalRefused {
            id: id.clone(),
            by: noor.clone(),
            sign_in: SignIn::Oidc,
        }),
    ] {
        assert!(matches!(
            forged(&node, &event, admin()),
            Some(FoldCause::Impossible(Impossible::NotThemselves { .. }))
        ));
    }
}

/// Why the fold does not take an entry that no command writes.
fn forged(node: &Node, event: &Event, actor: Actor) -> Option<FoldCause> {
    folded(node, event, actor, Result::err)
}

/// What the fold makes of such an entry.
fn folded<T>(
    node: &Node,
    event: &Event,
    actor: Actor,
    then: impl FnOnce(Result<crate::State, FoldCause>) -> T,
) -> T {
    let before = node.log.len();
    let header = ledger::Header {
        trust_domain: "acme.example".parse().unwrap(),
        node: "n-1".to_owned(),
        epoch: 1,
        key: "tipstaff.local/control/x+00000000".to_owned(),
    };
    let draft = event.draft(actor).unwrap();
    let bytes = ledger::write_entry(&header, node.now(), &draft).unwrap();
    node.log.forge(bytes);
    let found = fold_prefix(&*node.log, Some(&*node.keyring), before + 1);
    node.log.entries.lock().unwrap().pop();
    then(found.map_err(|error| error.cause))
}

#[tokio::test]
async fn a_grant_that_no_command_gives_cannot_be_folded() {
    let (node, instance) = Node::held().await;
    let id = node
        .approval_asked(&instance, "a", &[&["2 of noor, zoe"]])
        .await;
    let call = node.approval(&id).call;
    let granted = |by: &str| {
        let by = handle_of(&node, by).unwrap();
        let actor = themselves(&by);
        let sign_in = SignIn::Oidc;
        let id = id.clone();
        let body = crate::entry::ApprovalGranted { id, by, sign_in };
        forged(&node, &Event::ApprovalGranted(body), actor)
    };
    let used = |call: Digest| {
        let body = crate::entry::ApprovalUsed {
            id: id.clone(),
            call,
        };
        forged(&node, &Event::ApprovalUsed(body), admin())
    };
    let why = |found: Option<FoldCause>| match found {
        Some(FoldCause::Impossible(Impossible::NotApprover { why, .. })) => Some(why),
        _ => None,
    };
    let transition = |found: &Option<FoldCause>| {
        matches!(
            found,
            Some(FoldCause::Impossible(Impossible::Transition(_)))
        )
    };
    assert_eq!(why(granted("maja")), Some(NotApprover::OwnCall));
    assert!(transition(&used(call)), "nobody granted it");
    node.grants(&id, "noor").await.unwrap();
    assert_eq!(why(granted("noor")), Some(NotApprover::Already));
    assert!(transition(&used(call)), "one of two granted it");
    assert_eq!(granted("zoe"), None);
    node.grants(&id, "zoe").await.unwrap();
    assert_eq!(why(granted("zoe")), Some(NotApprover::NotPending));
    assert!(used(what("another")).is_some());
    assert_eq!(used(call), None);
    node.uses(&id, "a").await.unwrap();
    assert!(transition(&used(call)), "twice");
}

#[tokio::test]
async fn two_of_a_group_are_two_different_people() {
    let (node, instance) = Node::held().await;
    let id = node
        .approval_asked(&instance, "a", &[&["2 of group:finance"]])
        .await;
    node.grants(&id, "noor").await.unwrap();
    assert_eq!(node.grants(&id, "noor").await, not(NotApprover::Already));
    let few = ApprovalRefusal::NotGranted { id: id.clone() };
    assert_eq!(node.uses(&id, "a").await, Err(few.into()));
    node.grants(&id, "zoe").await.unwrap();
    assert_eq!(node.grants(&id, "zoe").await, not(NotApprover::NotPending));
    node.uses(&id, "a").await.unwrap();
    // There is no third of whom three could be.
    let three = node
        .execute(ask(&node, &instance, "b", &[&["3 of group:finance"]]))
        .await;
    assert_eq!(refused(three), Err(ApprovalRefusal::NobodyMay.into()));
    node.folds_the_same();
}

#[tokio::test]
async fn every_need_is_to_be_met_in_one_of_its_ways() {
    let (node, instance) = Node::held().await;
    let needs: [&[&str]; 2] = [&["zoe", "2 of noor, zoe"], &["noor"]];
    let id = node.approval_asked(&instance, "a", &needs).await;
    node.grants(&id, "noor").await.unwrap();
    assert!(node.uses(&id, "a").await.is_err());
    node.grants(&id, "zoe").await.unwrap();
    node.uses(&id, "a").await.unwrap();
}

#[tokio::test]
async fn whoever_may_approve_may_stop_it_until_it_is_used() {
    let (node, instance) = Node::held().await;
    let id = node
        .approval_asked(&instance, "a", &[&["noor", "zoe"]])
        .await;
    assert_eq!(node.refuses(&id, "maja").await, not(NotApprover::OwnCall));
    node.grants(&id, "noor").await.unwrap();
    node.refuses(&id, "zoe").await.unwrap();
    assert_eq!(node.uses(&id, "a").await, is_over(&id, "refused"));
    assert_eq!(node.grants(&id, "zoe").await, is_over(&id, "refused"));
    assert_eq!(node.refuses(&id, "noor").await, is_over(&id, "refused"));
    let zoe = handle_of(&node, "zoe");
    assert_eq!(node.approval(&id).refused.map(|it| it.by), zoe);
    node.folds_the_same();
}

#[tokio::test]
async fn time_ends_what_waits_and_what_was_granted() {
    let (node, instance) = Node::held().await;
    let (waits, granted) = (
        node.approval_asked(&instance, "a", &[&["noor"]]).await,
        node.approval_asked(&instance, "b", &[&["noor"]]).await,
    );
    node.clock.advance(minutes(59));
    node.grants(&granted, "noor").await.unwrap();
    let early = node.execute(over(&waits, ApprovalOver::Expired)).await;
    assert!(matches!(early, Ok(Done::Unchanged { .. })));
    node.clock.advance(minutes(1));
    assert_eq!(
        node.grants(&waits, "noor").await,
        is_over(&waits, "expired")
    );
    assert_eq!(
        node.refuses(&waits, "noor").await,
        is_over(&waits, "expired")
    );
    assert!(!node.approval(&waits).is_pending(node.now()));
    node.ok(over(&waits, ApprovalOver::Expired)).await;
    assert_eq!(node.ended(&waits), Some(ApprovalOver::Expired));
    // What was granted may be used for an hour from then.
    node.clock.advance(minutes(58));
    assert!(!node.approval(&granted).life.expired(node.now()));
    node.clock.advance(minutes(1));
    assert_eq!(node.uses(&granted, "b").await, is_over(&granted, "expired"));
    node.folds_the_same();
}

/// What becomes of an approval that noor granted when something happens.
async fn check_ended(happens: impl AsyncFn(&Node, &InstanceId), expected: Option<ApprovalOver>) {
    let (node, parent) = Node::held().await;
    let instance = started(&node, &parent, "triage", 1).await;
    let ids = [
        node.approval_asked(&instance, "granted", &[&["noor", "zoe"]])
            .await,
        node.approval_asked(&instance, "refused", &[&["noor", "zoe"]])
            .await,
    ];
    node.grants(&ids[0], "noor").await.unwrap();
    node.refuses(&ids[1], "zoe").await.unwrap();
    happens(&node, &parent).await;
    assert_eq!(node.ended(&ids[0]), expected);
    if expected.is_some() {
        assert!(node.uses(&ids[0], "granted").await.is_err());
    }
    node.folds_the_same();
}

#[tokio::test]
async fn a_cut_between_grant_and_use_ends_it() {
    let cut = Some(ApprovalOver::Cut);
    check_ended(
        async |node, _| drop(node.ok(suspend_sponsor("maja")).await),
        cut,
    )
    .await;
    check_ended(
        async |node, _| drop(node.ok(suspend_agent("triage")).await),
        cut,
    )
    .await;
    check_ended(
        async |node, _| drop(node.ok(retire_agent("triage")).await),
        cut,
    )
    .await;
    check_ended(
        async |node, _| drop(node.ok(transfer("triage", "zoe")).await),
        cut,
    )
    .await;
    let revoke = async |node: &Node, person: &str| {
        let sponsor = handle_of(node, person).unwrap();
        let signal = signal("session-revoked");
        node.ok(Command::RevokeSessions { sponsor, signal }).await;
    };
    check_ended(async |node, _| revoke(node, "maja").await, cut).await;
    let above = async |node: &Node, parent: &InstanceId| {
        node.ok(end(parent, EndReason::Revoked)).await;
    };
    check_ended(above, cut).await;
    let stop = async |node: &Node, _: &InstanceId| {
        let signal = signal("kill");
        node.ok(Command::StopAll { signal }).await;
    };
    check_ended(stop, cut).await;
    let stop = async |node: &Node, _: &InstanceId| {
        let (name, signal) = (files(), signal("kill"));
        node.ok(Command::StopUpstream { name, signal }).await;
    };
    check_ended(stop, cut).await;
    // Whose word it stands on was stopped.
    check_ended(
        async |node, _| drop(node.ok(suspend_sponsor("noor")).await),
        cut,
    )
    .await;
    check_ended(async |node, _| revoke(node, "noor").await, cut).await;
    check_ended(
        async |node, _| drop(node.ok(suspend_sponsor("zoe")).await),
        None,
    )
    .await;
    // What was asked is erased.
    let erase = async |node: &Node, _: &InstanceId| {
        let handle = node.control.view(|state| {
            let mut all = state.approvals().map(|it| it.key.clone());
            all.next().unwrap()
        });
        node.ok(Command::Erase { handle }).await;
        let erased = |state: &crate::State| state.approvals().all(|it| it.request == Known::Erased);
        assert!(node.control.view(erased));
    };
    check_ended(erase, cut).await;
}

fn pinned(upstream: UpstreamName, pins: Digest) -> Command {
    Command::PinTools(ToolsPinned {
        upstream,
        pins,
        accepted: 1,
        held: 0,
        first_sight: FirstSight::AcceptFirst,
    })
}

#[tokio::test]
async fn other_policies_or_tools_end_what_was_asked() {
    let changed = Some(ApprovalOver::Changed);
    let other = async |node: &Node, _: &InstanceId| {
        node.ok(node.activate(b"other")).await;
    };
    check_ended(other, changed).await;
    let tools = async |node: &Node, _: &InstanceId| {
        node.ok(pinned(files(), node.keep(b"tools"))).await;
    };
    check_ended(tools, changed).await;
    let others = async |node: &Node, _: &InstanceId| {
        node.ok(configure("mail")).await;
        node.ok(pinned("mail".parse().unwrap(), node.keep(b"tools")))
            .await;
    };
    check_ended(others, None).await;
    // Nor is anybody asked by policies that are not in force.
    let (node, instance) = Node::held().await;
    let old = ask(&node, &instance, "a", &[&["noor"]]);
    node.ok(node.activate(b"other")).await;
    let found = refused(node.execute(old).await);
    assert_eq!(found, Err(ApprovalRefusal::PolicyChanged.into()));
}

#[tokio::test]
async fn whoever_left_the_group_or_was_suspended_does_not_count() {
    let (node, instance) = Node::held().await;
    let id = node
        .approval_asked(&instance, "a", &[&["2 of group:finance"]])
        .await;
    let leave = async |person: &str| {
        let group = node
            .control
            .view(|state| state.groups().next().unwrap().handle.clone());
        node.ok(Command::ChangeMembers {
            group,
            added: Vec::new(),
            removed: handle_of(&node, person).into_iter().collect(),
            signal: signal("left"),
        })
        .await;
    };
    node.grants(&id, "noor").await.unwrap();
    node.grants(&id, "zoe").await.unwrap();
    leave("noor").await;
    let few = ApprovalRefusal::NotGranted { id: id.clone() };
    assert_eq!(node.uses(&id, "a").await, Err(few.into()));
    let id = node
        .approval_asked(&instance, "b", &[&["zoe", "noor"]])
        .await;
    node.ok(suspend_sponsor("zoe")).await;
    assert_eq!(node.grants(&id, "zoe").await, not(NotApprover::NotActive));
    node.folds_the_same();
}

#[tokio::test]
async fn a_name_means_who_had_it_when_the_policies_came_into_force() {
    let (node, instance) = Node::held().await;
    let rename = async |from: &str, to: &str| {
        let sponsor = handle_of(&node, from).unwrap();
        let mut person = person(to, 1);
        person.external_id = None;
        node.ok(Command::ChangeSponsor {
            sponsor,
            person: Box::new(person),
            changes: vec!["id".parse().unwrap()],
            signal: signal("changed"),
        })
        .await;
    };
    rename("noor", "nour").await;
    node.ok(add_sponsor("noor")).await;
    let id = node.approval_asked(&instance, "a", &[&["noor"]]).await;
    // Somebody who got the name since is not who was meant.
    assert_eq!(node.grants(&id, "noor").await, not(NotApprover::NotAsked));
    node.grants(&id, "nour").await.unwrap();
    // A name that nobody had means who was first added with it since.
    node.ok(add_sponsor("ann")).await;
    rename("ann", "anne").await;
    node.ok(add_sponsor("ann")).await;
    let id = node.approval_asked(&instance, "b", &[&["ann"]]).await;
    assert_eq!(node.grants(&id, "ann").await, not(NotApprover::NotAsked));
    node.grants(&id, "anne").await.unwrap();
    // A group is meant likewise.
    let group = node
        .control
        .view(|state| state.groups().next().unwrap().handle.clone());
    let profile = group_profile("money");
    let signal = signal("changed");
    node.ok(Command::ChangeGroup {
        group,
        profile,
        signal,
    })
    .await;
    let id = node
        .approval_asked(&instance, "c", &[&["group:finance"]])
        .await;
    node.grants(&id, "zoe").await.unwrap();
    let nobody = async |text: &str, name: &str| {
        let found = refused(node.execute(ask(&node, &instance, text, &[&[name]])).await);
        assert_eq!(found, Err(ApprovalRefusal::NobodyMay.into()), "{name}");
    };
    nobody("d", "group:money").await;
    nobody("e", "group:stranger").await;
    nobody("f", "stranger").await;
    // Once a name is lost, whoever came since may have that of somebody else.
    node.ok(add_sponsor("kim")).await;
    node.ok(suspend_sponsor("zoe")).await;
    let handle = handle_of(&node, "zoe").unwrap();
    node.ok(Command::Erase { handle }).await;
    nobody("g", "kim").await;
    node.folds_the_same();
}

#[tokio::test]
async fn only_so_many_wait_and_so_long_a_text() {
    let (node, instance) = Node::held().await;
    let settings = ApprovalSettings::default();
    for nth in 0..settings.per_instance {
        node.approval_asked(&instance, &nth.to_string(), &[&["noor"]])
            .await;
    }
    let many = |of, max| {
        let waiting = max;
        Err(Refusal::from(ApprovalRefusal::TooMany { of, waiting, max }))
    };
    let ask_of = async |instance: &InstanceId, text: &str| {
        refused(node.execute(ask(&node, instance, text, &[&["noor"]])).await)
    };
    assert_eq!(ask_of(&instance, "more").await, many("this instance", 8));
    for other in 1..8 {
        let other = node.start("triage", other).await;
        for nth in 0..settings.per_instance {
            assert_eq!(ask_of(&other, &nth.to_string()).await, Ok(()));
        }
    }
    let last = node.start("triage", 8).await;
    assert_eq!(ask_of(&last, "more").await, many("this agent", 64));
    // Those whose time is over do not wait.
    node.clock.advance(minutes(60));
    node.control.touch(&instance, node.now());
    let instance = node.start("triage", 9).await;
    assert_eq!(ask_of(&instance, "more").await, Ok(()));
    let long = |bytes: usize| match ask(&node, &instance, "long", &[&["noor"]]) {
        Command::Approval(ApprovalCommand::Request(mut new)) => {
            new.shown = "x".repeat(bytes);
            Command::Approval(ApprovalCommand::Request(new))
        }
        other => other,
    };
    let bytes = SHOWN_BYTES_MAX + 1;
    let found = refused(node.execute(long(bytes)).await);
    assert_eq!(found, Err(ApprovalRefusal::TooLong { bytes }.into()));
    node.ok(long(SHOWN_BYTES_MAX)).await;
    let names = |count: usize| {
        let names: Vec<String> = (0..count).map(|nth| format!("group:g{nth}")).collect();
        let ways: Vec<String> = names.chunks(64).map(|names| names.join(",")).collect();
        ways
    };
    let mut ways = names(NAMED_MAX - 1);
    ways.push("noor".to_owned());
    let ways: Vec<&str> = ways.iter().map(String::as_str).collect();
    node.approval_asked(&instance, "names", &[&ways]).await;
    let mut ways = names(NAMED_MAX);
    ways.push("noor".to_owned());
    let ways: Vec<&str> = ways.iter().map(String::as_str).collect();
    let found = refused(
        node.execute(ask(&node, &instance, "more names", &[&ways]))
            .await,
    );
    assert_eq!(found, Err(ApprovalRefusal::TooManyNames.into()));
}

#[tokio::test]
async fn what_is_long_over_is_forgotten() {
    let (node, instance) = Node::held().await;
    let id = node.approval_asked(&instance, "a", &[&["noor"]]).await;
    let known = |id: &Handle| node.control.view(|state| state.approval(id).is_some());
    node.clock.advance(minutes(60 + 7 * 24 * 60 - 1));
    node.ok(configure("mail")).await;
    assert!(known(&id));
    node.clock.advance(minutes(1));
    node.ok(configure("mail2")).await;
    assert!(!known(&id));
    // And of many, those that were over first.
    let instance = node.start("triage", 1).await;
    let first = node.approval_asked(&instance, "first", &[&["noor"]]).await;
    let waits = node.approval_asked(&instance, "waits", &[&["noor"]]).await;
    node.ok(over(&first, ApprovalOver::Changed)).await;
    for nth in 0..APPROVALS_KEPT_MAX - 2 {
        node.clock.advance(Duration::from_micros(1));
        let id = node
            .approval_asked(&instance, &nth.to_string(), &[&["noor"]])
            .await;
        node.ok(over(&id, ApprovalOver::Changed)).await;
    }
    assert!(known(&first));
    node.approval_asked(&instance, "one more", &[&["noor"]])
        .await;
    assert!(!known(&first) && known(&waits));
    node.folds_the_same();
}

#[tokio::test]
async fn what_is_asked_stands_in_no_entry() {
    let (node, instance) = Node::held().await;
    let id = node
        .approval_asked(&instance, "a secret", &[&["noor"]])
        .await;
    let text = node.log.text();
    assert!(!text.contains("a secret") && !text.contains("noor"));
    assert!(
        !text.contains(&what("a secret").to_string()),
        "which can be guessed"
    );
    // Without the keys nobody can tell what it is for, and everything else is the same.
    let blind = fold_prefix(&*node.log, None, node.log.len()).unwrap();
    let found = blind.approval(&id).unwrap();
    assert_eq!(found.request, Known::Sealed);
    assert!(
        blind
            .approval_for(&instance, &what("a secret"), node.now())
            .is_none()
    );
    assert_eq!(found.life, node.approval(&id).life);
}

#[tokio::test]
async fn a_signed_out_person_approves_nothing() {
    let (node, instance) = Node::held().await;
    let id = node.approval_asked(&instance, "a", &[&["noor"]]).await;
    let noor = handle_of(&node, "noor").unwrap();
    let began = node.control.view(crate::State::size);
    node.ok(Command::RevokeSessions {
        sponsor: noor.clone(),
        signal: signal("session-revoked"),
    })
    .await;
    for command in [
        ApprovalCommand::Grant {
            id: id.clone(),
            by: noor.clone(),
            sign_in: SignIn::Oidc,
            signed_in: Some(crate::SignedIn::Here(began)),
        },
        ApprovalCommand::Refuse {
            id: id.clone(),
            by: noor.clone(),
            sign_in: SignIn::Oidc,
            signed_in: Some(crate::SignedIn::Here(began)),
        },
    ] {
        let command = Command::Approval(command);
        let found = node.control.execute(themselves(&noor), command).await;
        assert_eq!(refused(found), Err(Refusal::SignedOut));
    }
}

/// A step of a history, as numbers so that it shrinks.
type Step = (u8, u8, u8);

const PEOPLE: [&str; 3] = ["maja", "noor", "zoe"];
const CALLS: [&str; 2] = ["one", "two"];

/// The command of a step, and who gives it.
fn step(node: &Node, instances: &[InstanceId], (kind, a, b): Step) -> Option<(Actor, Command)> {
    let nth = usize::from(a);
    let person = PEOPLE[nth % 3];
    let text = CALLS[nth / 8 % 2];
    let last = || {
        node.control.view(|state| {
            let mut all: Vec<_> = state.approvals().map(|it| it.id.clone()).collect();
            all.reverse();
            all.get(usize::from(b % 4)).cloned()
        })
    };
    let needs: [&[&[&str]]; 4] = [
        &[&["noor", "zoe"]],
        &[&["2 of group:finance"]],
        &[&["sponsor"], &["group:finance"]],
        &[&["group:finance", "sponsor"]],
    ];
    let command = match kind {
        0..=3 => {
            let instance = &instances[usize::from(b) % instances.len()];
            ask(node, instance, text, needs[nth / 16 % 4])
        }
        4..=8 => {
            let by = handle_of(node, person)?;
            return Some((themselves(&by), grant(&last()?, &by)));
        }
        9 if a < 64 => {
            let by = handle_of(node, person)?;
            return Some((themselves(&by), refuse(&last()?, &by)));
        }
        10..=13 => use_up(&last()?, text),
        14 => over(
            &last()?,
            [ApprovalOver::Expired, ApprovalOver::Changed][nth % 2],
        ),
        15 if b < 64 => suspend_sponsor(person),
        16 => resume_sponsor(person),
        17 if b < 64 => suspend_agent("triage"),
        18 => resume_agent("triage"),
        19 if b < 64 => end(&instances[nth % instances.len()], EndReason::Revoked),
        20 if b < 32 => node.activate(&[a % 3]),
        21 => {
            let group = node
                .control
                .view(|state| state.groups().next().unwrap().handle.clone());
            let member = vec![handle_of(node, person)?];
            let (added, removed) = if a < 128 {
                (member, Vec::new())
            } else {
                (Vec::new(), member)
            };
            let signal = signal("changed");
            Command::ChangeMembers {
                group,
                added,
                removed,
                signal,
            }
        }
        22 if b < 16 => {
            let approval = node.approval(&last()?);
            Command::Erase {
                handle: approval.key,
            }
        }
        _ => return None,
    };
    Some((admin(), command))
}

/// What stands of an approval stands on the word of active people, and is of whoever may act yet.
fn check(node: &Node, used: &mut BTreeMap<Handle, u64>) {
    node.control.view(|state| {
        for approval in state.approvals() {
            let before = used.get(&approval.id).copied();
            assert!(before.is_none() || approval.used == before, "used twice");
            let mut by = BTreeSet::new();
            assert!(approval.granted.iter().all(|grant| by.insert(&grant.by)));
            match approval.life {
                ApprovalLife::Used { .. } => {
                    let record = approval.used.unwrap();
                    assert!(approval.granted.iter().all(|grant| grant.record < record));
                    assert!(!approval.granted.is_empty());
                    used.insert(approval.id.clone(), record);
                    continue;
                }
                ApprovalLife::Pending { .. } | ApprovalLife::Granted { .. } => {}
                ApprovalLife::Refused { .. } | ApprovalLife::Over { .. } => {
                    assert_eq!(approval.used, None);
                    continue;
                }
            }
            assert_eq!(approval.used, None);
            assert_eq!(Some(approval.policy), state.policy().map(|it| it.record));
            let active = |it: &Handle| state.sponsor(it).unwrap().life.as_str() == "active";
            assert!(by.into_iter().all(active));
            let since = approval.asked;
            let cut = state.cuts().any(|cut| {
                cut.record > since && cut.of != CutOf::All && {
                    let covered = state.instance(&approval.instance).unwrap();
                    match &cut.of {
                        CutOf::Sponsor(sponsor) => covered.sponsor == *sponsor,
                        CutOf::Agent(agent) => covered.agent == *agent,
                        _ => false,
                    }
                }
            });
            assert!(!cut, "it was cut since");
            let instance = state.instance(&approval.instance).unwrap();
            assert_eq!(instance.life, InstanceLife::Running);
        }
    });
}

async fn run(steps: Vec<Step>, kept_at: usize) {
    let (mut node, first) = Node::held().await;
    let second = node.start("triage", 1).await;
    let child = started(&node, &first, "triage", 2).await;
    let instances = [first, second, child];
    let (mut kept, mut used) = (keep(&node).await, BTreeMap::new());
    for (nth, now) in steps.into_iter().enumerate() {
        if nth == kept_at {
            kept = keep(&node).await;
        }
        match now {
            (23, a, _) => node.clock.advance(minutes(u64::from(a % 16))),
            (24, 0..64, _) => node = node.restarted().unwrap(),
            now => {
                let Some((actor, command)) = step(&node, &instances, now) else {
                    continue;
                };
                let before = node.log.len();
                match node.control.execute(actor, command.clone()).await {
                    Ok(Done::Changed { .. }) => assert!(node.log.len() > before),
                    Ok(Done::Unchanged { .. }) | Err(CommandError::Refused(_)) => {
                        assert_eq!(node.log.len(), before);
                    }
                    other => panic!("{command:?}: {other:?}"),
                }
            }
        }
        for id in &instances {
            node.control.touch(id, node.now());
        }
        check(&node, &mut used);
    }
    check_kept(&node, &kept);
    let last = keep(&node).await;
    check_kept(&node, &last);
    node.folds_the_same();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_an_approval_is_used_once_by_who_may_on_the_word_of_who_may(
        steps in proptest::collection::vec((0..25_u8, any::<u8>(), any::<u8>()), 0..60),
        kept_at in 0..60_usize,
    ) {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(run(steps, kept_at));
    }
}

/// What is told where an approval is not asked for, given or used.
pub(super) async fn refusals() -> String {
    let (node, instance) = Node::held().await;
    let id = node.approval_asked(&instance, "a", &[&["noor"]]).await;
    let say = |done: Result<(), Refusal>| format!("- {}\n", done.unwrap_err());
    let stranger: Handle = "ap-stranger".parse().unwrap();
    let mut found = say(node.grants(&stranger, "noor").await);
    let noor = handle_of(&node, "noor").unwrap();
    found += &say(refused(node.execute(grant(&id, &noor)).await));
    for person in ["zoe", "maja"] {
        found += &say(node.grants(&id, person).await);
    }
    found += &say(node.uses(&id, "a").await);
    node.grants(&id, "noor").await.unwrap();
    found += &say(node.uses(&id, "b").await);
    found += &say(node.in_person("noor", |by| grant(&id, by)).await);
    node.uses(&id, "a").await.unwrap();
    found += &say(node.uses(&id, "a").await);
    let two = node
        .approval_asked(&instance, "b", &[&["2 of noor, zoe"]])
        .await;
    node.grants(&two, "noor").await.unwrap();
    found += &say(node.grants(&two, "noor").await);
    let alone = ask(&node, &instance, "c", &[&["maja"]]);
    found += &say(refused(node.execute(alone).await));
    found
        .replace(id.as_str(), "ap-…")
        .replace(two.as_str(), "ap-…")
}
