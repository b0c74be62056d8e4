//! What a suspension, an expiry, a key or a fault does to who may act.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use ledger::Keyring as _;

use super::*;
use crate::command::Subject;
use crate::control::Failure;
use crate::entry::Risk;
use crate::refusal::Refusal;
use crate::standing::{Active, Stale};
use crate::state::{Identity, State};
use crate::{FoldCause, fold_prefix};

/// Runs commands one after the other, with the standing of one instance after each.
async fn check(steps: impl IntoIterator<Item = (Command, Option<Why>)>) {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    for (step, expected) in steps {
        let told = format!("{step:?}");
        let before = node.control.standing(&id, node.now()).active();
        node.ok(step).await;
        assert_eq!(node.narrowed(&id), expected, "{told}");
        // The quick look says the same as the thorough one.
        if let Ok(active) = before {
            assert_eq!(
                node.control.still(&active, &files(), node.now()).err(),
                expected.map(Stale::Narrowed),
                "{told}"
            );
        }
    }
}

#[tokio::test]
async fn a_suspension_bites_on_the_next_look_and_is_lifted_by_its_own_resume_only() {
    use Why::{AgentRetired, AgentSuspended, SponsorSuspended};
    check([
        (suspend_agent("triage"), Some(AgentSuspended)),
        (suspend_agent("triage"), Some(AgentSuspended)),
        (resume_agent("triage"), None),
        (suspend_sponsor("maja"), Some(SponsorSuspended)),
        (suspend_agent("triage"), Some(AgentSuspended)),
        (resume_sponsor("MAJA"), Some(AgentSuspended)),
        (resume_agent("triage"), None),
        (suspend_sponsor("maja"), Some(SponsorSuspended)),
        (resume_sponsor("maja"), None),
        (rotate("triage", "k2"), None),
        (retire_agent("triage"), Some(AgentRetired)),
        (suspend_sponsor("maja"), Some(AgentRetired)),
        (resume_sponsor("maja"), Some(AgentRetired)),
    ])
    .await;
}

#[tokio::test]
async fn a_sponsor_goes_on_when_each_who_stopped_them_lifted_it() {
    use Why::SponsorSuspended;
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    let maja = handle_of(&node, "maja").unwrap();
    let by = |event: &str| Command::SuspendSponsor {
        id: "maja".parse().unwrap(),
        signal: Some(signal(event)),
    };
    let lift = |event: &str, from: &str| Command::LiftSuspension {
        sponsor: maja.clone(),
        event: event.parse().unwrap(),
        signal: Signal {
            source: from.parse().unwrap(),
            ..signal("over")
        },
    };
    for (step, written, expected) in [
        (by("deactivated"), 1, Some(SponsorSuspended)),
        (by("deactivated"), 0, Some(SponsorSuspended)),
        (by("risk-level-change"), 1, Some(SponsorSuspended)),
        (suspend_sponsor("maja"), 1, Some(SponsorSuspended)),
        (suspend_sponsor("maja"), 0, Some(SponsorSuspended)),
        (lift("risk-level-change", "scim"), 1, Some(SponsorSuspended)),
        (lift("risk-level-change", "scim"), 0, Some(SponsorSuspended)),
        // By another than who stopped them.
        (lift("deactivated", "ssf"), 0, Some(SponsorSuspended)),
        (lift("deactivated", "scim"), 1, Some(SponsorSuspended)),
        // An administrator lifts all there is.
        (by("deactivated"), 1, Some(SponsorSuspended)),
        (resume_sponsor("maja"), 1, None),
        (lift("deactivated", "scim"), 0, None),
        (by("deactivated"), 1, Some(SponsorSuspended)),
        (lift("deactivated", "scim"), 1, None),
    ] {
        let told = format!("{step:?}");
        let before = node.log.len();
        node.ok(step).await;
        assert_eq!(node.log.len() - before, written, "{told}");
        assert_eq!(node.narrowed(&id), expected, "{told}");
    }
}

#[tokio::test]
async fn instances_of_other_agents_are_left_alone() {
    let node = Node::ready().await;
    node.ok(add_sponsor("noor")).await;
    node.ok(add_agent("other", "noor")).await;
    let (mine, theirs) = (node.start("triage", 0).await, node.start("other", 0).await);
    let active = node.control.standing(&theirs, node.now()).active().unwrap();
    node.ok(suspend_sponsor("maja")).await;
    assert_eq!(node.narrowed(&mine), Some(Why::SponsorSuspended));
    assert_eq!(node.narrowed(&theirs), None);
    assert_eq!(node.control.still(&active, &files(), node.now()), Ok(()));
    node.ok(end(&theirs, EndReason::Revoked)).await;
    assert_eq!(
        node.control.still(&active, &files(), node.now()),
        Err(Stale::Narrowed(Why::InstanceEnded))
    );
    let stranger = InstanceId::random(&*node.rng).unwrap();
    assert_eq!(node.narrowed(&stranger), Some(Why::Unknown));
}

#[tokio::test]
async fn an_instance_expires_by_lifetime_however_much_it_is_used() {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    let active = node.control.standing(&id, node.now()).active().unwrap();
    for _ in 0..31 {
        node.clock.advance(minutes(15));
        node.control.touch(&id, node.now());
        assert_eq!(node.narrowed(&id), None);
    }
    node.clock.advance(minutes(15));
    node.control.touch(&id, node.now());
    assert_eq!(node.narrowed(&id), Some(Why::InstanceExpired));
    assert_eq!(
        node.control.still(&active, &files(), node.now()),
        Err(Stale::Narrowed(Why::InstanceExpired))
    );
    assert_eq!(node.log.len(), 4, "expiry writes nothing");
}

#[tokio::test]
async fn an_idle_instance_expires_and_a_late_use_does_not_bring_it_back() {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    node.clock.advance(minutes(29));
    assert_eq!(node.narrowed(&id), None);
    node.clock.advance(minutes(1));
    assert_eq!(node.narrowed(&id), Some(Why::InstanceExpired));
    node.control.touch(&id, node.now());
    assert_eq!(node.narrowed(&id), Some(Why::InstanceExpired));
}

#[tokio::test]
async fn a_clock_that_goes_back_brings_nothing_back() {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    let active = node.control.standing(&id, node.now()).active().unwrap();
    node.clock.advance(minutes(9 * 60));
    node.ok(configure("later")).await;
    node.clock.back(minutes(9 * 60));
    assert_eq!(node.narrowed(&id), Some(Why::InstanceExpired));
    // What was looked at before knows only its own moment; its token is five minutes old at most.
    assert_eq!(node.control.still(&active, &files(), node.now()), Ok(()));
}

#[tokio::test]
async fn what_was_decided_on_a_lost_group_holds_no_more() {
    let node = Node::ready().await;
    node.ok(add_sponsor("noor")).await;
    let id = node.start("triage", 0).await;
    let both = ["maja", "noor"].map(|it| handle_of(&node, it).unwrap());
    let group = match node
        .ok(Command::AddGroup {
            profile: group_profile("Adjusters"),
            members: both.to_vec(),
            signal: signal("provisioned"),
        })
        .await
    {
        Done::Changed {
            subject: Subject::Group(group),
            ..
        } => group,
        other => panic!("{other:?}"),
    };
    let [mine, theirs] = both;
    let leaves = |member: &vocab::Handle| Command::ChangeMembers {
        group: group.clone(),
        added: Vec::new(),
        removed: vec![member.clone()],
        signal: signal("changed"),
    };
    let decided = || node.control.standing(&id, node.now()).active().unwrap();
    let still = |active: &Active| node.control.still(active, &files(), node.now());
    let before = decided();
    node.ok(leaves(&theirs)).await;
    assert_eq!(still(&before), Ok(()), "somebody else left");
    node.ok(leaves(&mine)).await;
    assert_eq!(still(&before), Err(Stale::Changed));
    assert_eq!(still(&decided()), Ok(()), "decided again, it holds");
    for change in [
        Command::SetRisk {
            sponsor: mine.clone(),
            risk: Risk::High,
            signal: signal("risk-level-change"),
        },
        Command::ChangeSponsor {
            sponsor: mine.clone(),
            person: Box::new(person("maja", 7)),
            changes: vec!["department".parse().unwrap()],
            signal: signal("changed"),
        },
    ] {
        let before = decided();
        node.ok(change).await;
        assert_eq!(still(&before), Err(Stale::Changed));
    }
}

#[tokio::test]
async fn the_same_key_for_the_same_purpose_continues_its_instance() {
    let node = Node::ready().await;
    let first = node.start("triage", 0).await;
    let size = node.log.len();
    node.clock.advance(minutes(20));
    assert_eq!(node.start("triage", 0).await, first);
    assert_eq!(node.log.len(), size, "continuing writes nothing");
    node.clock.advance(minutes(20));
    assert_eq!(node.narrowed(&first), None, "continuing is a use");
    let other_key = node.start("triage", 1).await;
    let Done::Started { instance, .. } = node
        .ok(start_with(
            "triage",
            "k1",
            "triage/refunds",
            Binding::Dpop { jkt: jkt(0) },
        ))
        .await
    else {
        panic!("another purpose is another instance");
    };
    assert!(other_key != first && instance.id != first && instance.id != other_key);
    node.ok(end(&first, EndReason::Closed)).await;
    assert_ne!(
        node.start("triage", 0).await,
        first,
        "an ended one is not continued"
    );
}

#[tokio::test]
async fn an_expired_instance_is_said_to_have_ended_when_its_key_comes_back() {
    for (pause, status) in [(30, "idle"), (8 * 60, "lifetime")] {
        let node = Node::ready().await;
        let first = node.start("triage", 0).await;
        node.clock.advance(minutes(pause));
        let second = node.start("triage", 0).await;
        assert_ne!(first, second);
        assert_eq!(node.narrowed(&first), Some(Why::InstanceEnded));
        assert_eq!(node.narrowed(&second), None);
        assert!(node.log.text().contains(&format!(r#""reason":"{status}""#)));
    }
}

#[tokio::test]
async fn bearer_instances_are_always_new() {
    let node = Node::ready().await;
    node.ok(Command::AddAgent(Box::new(NewAgent {
        allow_bearer: true,
        ..new_agent("loose", "maja")
    })))
    .await;
    let command = || start_with("loose", "k1", "triage", Binding::Bearer);
    let (Done::Started { instance: one, .. }, Done::Started { instance: two, .. }) =
        (node.ok(command()).await, node.ok(command()).await)
    else {
        panic!("both are new");
    };
    assert_ne!(one.id, two.id);
}

#[tokio::test]
async fn live_instances_are_counted_and_expired_ones_are_not() {
    let node = Node::ready().await;
    node.ok(Command::AddAgent(Box::new(NewAgent {
        max_instances: Some(2),
        ..new_agent("few", "maja")
    })))
    .await;
    let first = node.start("few", 0).await;
    node.start("few", 1).await;
    let refused = node.execute(start("few", 2)).await;
    assert!(matches!(
        refused,
        Err(CommandError::Refused(Refusal::InstancesReached {
            live: 2,
            max: 2,
            ..
        }))
    ));
    node.ok(end(&first, EndReason::Revoked)).await;
    node.start("few", 2).await;
    node.clock.advance(minutes(30));
    node.start("few", 3).await;
    node.start("few", 4).await;
}

#[tokio::test]
async fn a_replaced_key_stops_at_once_and_what_it_started_goes_on() {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    node.ok(rotate("triage", "k2")).await;
    assert!(matches!(
        node.execute(start("triage", 1)).await,
        Err(CommandError::Refused(Refusal::KeyNotCurrent { .. }))
    ));
    assert_eq!(node.narrowed(&id), None);
    node.ok(start_with(
        "triage",
        "k2",
        "triage",
        Binding::Dpop { jkt: jkt(1) },
    ))
    .await;
}

#[tokio::test]
async fn no_command_of_an_administrator_follows_their_removal() {
    let node = Node::ready().await;
    let as_ops = |seed| Actor {
        id: "ops".to_owned(),
        credential: admin_key(seed).credential(),
        ..admin()
    };
    let commands = |seed| {
        let command = node.control.execute(as_ops(seed), configure("other"));
        async { command.await.map_err(|error| error.to_string()).err() }
    };
    let gone =
        Some("the credential of administrator `ops` was removed, so the command was not done");
    assert_eq!(commands(7).await.as_deref(), gone, "not yet there");
    node.ok(Command::AddAdmin { key: admin_key(7) }).await;
    assert_eq!(commands(7).await, None);
    assert_eq!(commands(8).await.as_deref(), gone, "another key");
    let id = "ops".parse().unwrap();
    node.ok(Command::RemoveAdmin { id }).await;
    let size = node.control.view(State::size);
    assert_eq!(commands(7).await.as_deref(), gone);
    assert_eq!(node.control.view(State::size), size);
    node.ok(Command::AddAdmin { key: admin_key(8) }).await;
    assert_eq!(commands(7).await.as_deref(), gone, "the key of before");
    assert_eq!(commands(8).await, None);
}

#[tokio::test]
async fn a_policy_enforcement_point_is_known_by_its_token_until_it_is_removed() {
    let node = Node::ready().await;
    node.ok(configure("later")).await;
    let holder = |token: u8| {
        node.control.view(|state| {
            let pep = state.pep_of_token(&vocab::Digest::of(&[token]));
            pep.map(|pep| (pep.name.to_string(), pep.serves.len()))
        })
    };
    assert_eq!(holder(1), None);
    node.ok(add_pep("notes-server", 1, &["later", "files", "later"]))
        .await;
    assert_eq!(holder(1), Some(("notes-server".to_owned(), 2)));
    let size = node.control.view(State::size);
    let same = node
        .ok(add_pep("notes-server", 1, &["files", "later"]))
        .await;
    assert!(matches!(same, Done::Unchanged { .. }), "{same:?}");
    assert_eq!(node.control.view(State::size), size);
    let pep = "notes-server".parse().unwrap();
    node.ok(Command::RemovePep { pep }).await;
    assert_eq!(holder(1), None);
    // Another token under the old name, and another name with the old token.
    node.ok(add_pep("notes-server", 2, &["files"])).await;
    node.ok(add_pep("other", 1, &["files"])).await;
    assert_eq!(holder(1), Some(("other".to_owned(), 1)));
}

#[tokio::test]
async fn what_the_ledger_refuses_did_not_happen() {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    let size = node.control.view(State::size);
    node.log.refuse_append.store(true, Ordering::Relaxed);
    for command in [
        suspend_sponsor("maja"),
        add_sponsor("noor"),
        start("triage", 1),
    ] {
        assert!(matches!(
            node.execute(command).await,
            Err(CommandError::Ledger(_))
        ));
    }
    assert_eq!(node.narrowed(&id), None);
    assert_eq!(node.control.view(State::size), size);
    assert_eq!(
        node.start("triage", 0).await,
        id,
        "what needs no entry goes on"
    );
    node.log.refuse_append.store(false, Ordering::Relaxed);
    node.ok(suspend_sponsor("maja")).await;
    assert_eq!(node.narrowed(&id), Some(Why::SponsorSuspended));
}

#[tokio::test]
async fn what_is_durable_but_not_published_holds_and_is_not_acknowledged() {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    node.log.refuse_publish.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        let answer = node.execute(suspend_agent("triage")).await;
        assert!(
            matches!(answer, Err(CommandError::Unpublished { .. })),
            "{answer:?}"
        );
        assert_eq!(node.narrowed(&id), Some(Why::AgentSuspended));
    }
    node.log.refuse_publish.store(false, Ordering::Relaxed);
    let answer = node.ok(suspend_agent("triage")).await;
    assert!(matches!(answer, Done::Unchanged { .. }), "{answer:?}");
    assert_eq!(node.log.published.load(Ordering::Relaxed), node.log.len());
}

#[tokio::test]
async fn a_caller_who_goes_away_does_not_part_the_state_from_the_log() {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    let mut answer = Box::pin(node.execute(suspend_agent("triage")));
    assert!(answer.as_mut().now_or_never().is_none());
    drop(answer);
    // The next command waits for the first to come to its end.
    node.ok(configure("other")).await;
    assert_eq!(node.narrowed(&id), Some(Why::AgentSuspended));
    assert_eq!(node.control.failure(), None);
}

#[tokio::test]
async fn a_log_that_gives_other_bytes_ends_everything() {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    let active = node.control.standing(&id, node.now()).active().unwrap();
    node.log.lie.store(true, Ordering::Relaxed);
    let answer = node.execute(configure("other")).await;
    assert!(matches!(answer, Err(CommandError::Failed(_))), "{answer:?}");
    node.log.lie.store(false, Ordering::Relaxed);
    assert_eq!(node.narrowed(&id), Some(Why::RegisterFailed));
    assert_eq!(
        node.control.still(&active, &files(), node.now()),
        Err(Stale::Narrowed(Why::RegisterFailed))
    );
    let answer = node.execute(configure("other")).await;
    assert!(matches!(answer, Err(CommandError::Failed(_))), "{answer:?}");
    assert!(matches!(
        node.control.failure().map(AsRef::as_ref),
        Some(Failure::Fold(error)) if error.cause == FoldCause::Differs
    ));
}

#[tokio::test]
async fn a_keyring_that_does_not_answer_adds_no_sponsor() {
    let node = Node::ready().await;
    node.keyring.refuse.store(true, Ordering::Relaxed);
    let answer = node.execute(add_sponsor("noor")).await;
    assert!(
        matches!(answer, Err(CommandError::Keyring(_))),
        "{answer:?}"
    );
    node.keyring.refuse.store(false, Ordering::Relaxed);
    node.ok(add_sponsor("noor")).await;
}

#[tokio::test]
async fn no_name_or_address_is_in_the_log() {
    let node = Node::ready().await;
    let text = node.log.text();
    for personal in ["maja", "Maja", "Briain", "example.com"] {
        assert!(!text.contains(personal), "{personal} in {text}");
    }
    assert_eq!(text.matches(r#""sponsorship":"asserted""#).count(), 2);
    assert_eq!(
        text.matches(r#""id":"uid:1000","credential":"peer-uid""#)
            .count(),
        3
    );
}

#[tokio::test]
async fn an_erased_sponsor_is_gone_for_good() {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    let (handle, key) = node.control.view(|state| {
        let sponsor = state.sponsor_by_id(&"maja".parse().unwrap()).unwrap();
        (sponsor.handle.clone(), sponsor.key.clone())
    });
    // Neither handle lets the name of somebody be destroyed whose agents may act.
    for handle in [&handle, &key] {
        let handle = handle.clone();
        assert!(matches!(
            node.execute(Command::Erase { handle }).await,
            Err(CommandError::Refused(Refusal::EraseActiveSponsor { .. }))
        ));
    }
    node.ok(suspend_sponsor("maja")).await;
    node.keyring.refuse.store(true, Ordering::Relaxed);
    let erase = || Command::Erase {
        handle: handle.clone(),
    };
    let answer = node.execute(erase()).await;
    assert!(
        matches!(answer, Err(CommandError::EraseUnfinished { .. })),
        "{answer:?}"
    );
    assert_eq!(node.keyring.len(), 1);
    node.keyring.refuse.store(false, Ordering::Relaxed);
    assert!(matches!(node.ok(erase()).await, Done::Unchanged { .. }));
    assert_eq!(node.keyring.len(), 0);
    assert_eq!(node.narrowed(&id), Some(Why::SponsorErased));
    let node = node.restarted().unwrap();
    assert_eq!(node.narrowed(&id), Some(Why::SponsorErased));
    assert!(matches!(
        node.execute(resume_sponsor("maja")).await,
        Err(CommandError::Refused(Refusal::UnknownSponsor { .. }))
    ));
    // The name is free again, and who bears it then is somebody else.
    node.ok(add_sponsor("maja")).await;
    assert_eq!(node.narrowed(&id), Some(Why::SponsorErased));
}

#[tokio::test]
async fn other_keys_are_erased_once() {
    let node = Node::ready().await;
    let (handle, _) = node.keyring.group_key("day/2026-11-21").unwrap();
    let erase = || Command::Erase {
        handle: handle.clone(),
    };
    assert!(matches!(node.ok(erase()).await, Done::Changed { .. }));
    assert!(matches!(node.ok(erase()).await, Done::Unchanged { .. }));
    assert_eq!(node.keyring.len(), 1);
}

#[tokio::test]
async fn a_prefix_is_the_register_as_it_was() {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    let then = node.control.view(State::size);
    node.ok(suspend_agent("triage")).await;
    let now = node.now();
    let mut state = fold_prefix(&*node.log, Some(&*node.keyring), then).unwrap();
    assert!(state.standing(&id, now).active().is_ok());
    crate::fold_on(&mut state, &*node.log, Some(&*node.keyring), then + 1).unwrap();
    assert_eq!(
        state.standing(&id, now).active().err(),
        Some(Why::AgentSuspended)
    );
    // Without keys the same is known, but not by name.
    let state = fold_prefix(&*node.log, None, then).unwrap();
    assert_eq!(state.sponsors()[0].identity, Identity::Sealed);
    assert_eq!(state.agents().count(), 1);
    // An offline reader does not know when an instance was last used, and does not guess.
    let later = now.plus(Duration::from_hours(1));
    let state = fold_prefix(&*node.log, Some(&*node.keyring), then).unwrap();
    assert!(state.standing(&id, later).active().is_ok());
}

#[tokio::test]
async fn an_administrator_does_not_lift_what_the_directory_stopped_without_saying_so() {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    let resume = |despite| Command::ResumeSponsor {
        id: "maja".parse().unwrap(),
        signal: None,
        despite,
    };
    let by = |source: &str| Command::SuspendSponsor {
        id: "maja".parse().unwrap(),
        signal: Some(Signal {
            source: source.parse().unwrap(),
            ..signal("deactivated")
        }),
    };
    // What administrators stopped, they lift.
    node.ok(by("cli")).await;
    node.ok(suspend_sponsor("maja")).await;
    node.ok(resume(false)).await;
    assert_eq!(node.narrowed(&id), None);
    node.ok(by("scim")).await;
    node.ok(by("ssf")).await;
    node.ok(suspend_sponsor("maja")).await;
    let size = node.log.len();
    let Err(CommandError::Refused(refusal)) = node.execute(resume(false)).await else {
        panic!("not refused");
    };
    assert_eq!(
        refusal.to_string(),
        "sponsor `maja` is not only stopped by administrators, but by scim (deactivated), ssf \
         (deactivated); have it lifted there, or lift it all the same with `tipstaff sponsor resume \
         maja --despite-directory`"
    );
    assert_eq!(node.log.len(), size);
    let holds = node
        .control
        .view(|state| state.sponsor_views()[0].holds.clone());
    let told: Vec<_> = holds.iter().map(|it| it.source.as_str()).collect();
    assert_eq!(told, ["scim", "ssf", "cli"]);
    assert!(holds.iter().all(|it| it.record.is_some()));
    node.ok(resume(true)).await;
    assert_eq!(node.narrowed(&id), None);
    let holds = node
        .control
        .view(|state| state.sponsor_views()[0].holds.clone());
    assert!(holds.is_empty());
}
