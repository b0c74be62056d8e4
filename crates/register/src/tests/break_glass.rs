//! Two people break the glass, and everything that could make it one, or make it last.

use ledger::Keyring as _;
use vocab::id::Handle;

use super::*;
use crate::break_glass::{GlassCommand, GlassLife, GlassOver};
use crate::entry::{AssertedAgents, Event};
use crate::fold_prefix;
use crate::refusal::Refusal;
use crate::standing::Stale;
use crate::state::{Impossible, Known};
use crate::text::Reason;
use crate::{FoldCause, FoldError};

impl Node {
    /// With named administrators `ops` and `duty`, and an instance of `triage`, whose sponsor is
    /// suspended.
    async fn stopped() -> (Self, InstanceId) {
        let node = Self::ready().await;
        node.ok(Command::AddAdmin { key: ops() }).await;
        node.ok(Command::AddAdmin { key: duty() }).await;
        let id = node.start("triage", 0).await;
        node.ok(suspend_sponsor("maja")).await;
        (node, id)
    }

    async fn by(&self, key: &AdminKey, command: GlassCommand) -> Result<Done, CommandError> {
        let command = Command::BreakGlass(command);
        self.control.execute(by_key(key), command).await
    }

    /// Asks for an hour for `triage`.
    async fn asked(&self) -> Handle {
        self.by(&ops(), request("triage", minutes(60)))
            .await
            .unwrap();
        self.last()
    }

    /// Broken by both, for an hour.
    async fn broken(&self) -> Handle {
        let id = self.asked().await;
        self.by(&duty(), open(&id)).await.unwrap();
        id
    }

    fn last(&self) -> Handle {
        let last = |state: &crate::State| state.break_glasses().last().map(|it| it.id.clone());
        self.control.view(last).unwrap()
    }

    fn life(&self, id: &Handle) -> GlassLife {
        self.control
            .view(|state| state.break_glass(id).unwrap().life)
    }

    fn over(&self, id: &Handle) -> Option<GlassOver> {
        match self.life(id) {
            GlassLife::Over { cause, .. } => Some(cause),
            GlassLife::Requested { .. } | GlassLife::Open { .. } => None,
        }
    }

    /// An hour goes by, in which an instance is used.
    fn an_hour_of(&self, id: &InstanceId) {
        for _ in 0..3 {
            self.clock.advance(minutes(20));
            self.control.touch(id, self.now());
        }
    }

    /// The ids of the break-glasses by which an instance acts.
    fn under(&self, id: &InstanceId) -> Vec<Handle> {
        let active = self.control.standing(id, self.now()).active().unwrap();
        active.under().iter().map(|it| it.id.clone()).collect()
    }
}

fn ops() -> AdminKey {
    key_of("ops", 7)
}

fn duty() -> AdminKey {
    key_of("duty", 8)
}

fn request(agent: &str, lasts: Duration) -> GlassCommand {
    GlassCommand::Request {
        agent: agent.parse().unwrap(),
        reason: reason(),
        lasts,
    }
}

fn reason() -> Reason {
    "INC-4711: payouts stand still".parse().unwrap()
}

fn open(id: &Handle) -> GlassCommand {
    GlassCommand::Open { id: id.clone() }
}

fn end_glass(id: &Handle, cause: GlassOver) -> GlassCommand {
    GlassCommand::End {
        id: id.clone(),
        cause,
    }
}

fn refused(answer: Result<Done, CommandError>) -> Refusal {
    match answer {
        Err(CommandError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn it_holds_when_a_second_person_opened_it_and_for_no_longer_than_it_says() {
    let (node, id) = Node::stopped().await;
    let (before, glass) = (node.log.len(), node.asked().await);
    assert_eq!(node.log.len(), before + 1);
    assert_eq!(node.narrowed(&id), Some(Why::SponsorSuspended));
    node.clock.advance(minutes(5));
    node.by(&duty(), open(&glass)).await.unwrap();
    assert_eq!(node.under(&id), std::slice::from_ref(&glass));
    assert!(!node.log.text().contains("payouts"), "the reason is sealed");

    let active = node.control.standing(&id, node.now()).active().unwrap();
    assert_eq!(active.until(), node.now().plus(minutes(60)));
    let size = node.log.len();
    for _ in 0..2 {
        node.clock.advance(minutes(20));
        node.control.touch(&id, node.now());
    }
    assert_eq!(node.narrowed(&id), None);
    assert_eq!(node.control.still(&active, &files(), node.now()), Ok(()));
    node.clock.advance(minutes(20));
    let narrowed = Some(Why::SponsorSuspended);
    assert_eq!(node.narrowed(&id), narrowed);
    assert_eq!(
        node.control.still(&active, &files(), node.now()).err(),
        narrowed.map(Stale::Narrowed)
    );
    assert_eq!(node.log.len(), size, "its time needs no entry");
}

#[tokio::test]
async fn a_permit_for_the_moment_in_which_it_ends_is_refused() {
    let (node, id) = Node::stopped().await;
    node.broken().await;
    let active = node.control.standing(&id, node.now()).active().unwrap();
    let before = active.until();
    let last = Time::from_micros(before.as_micros() - 1);
    node.an_hour_of(&id);
    assert_eq!(node.control.still(&active, &files(), last), Ok(()));
    assert_eq!(
        node.control.still(&active, &files(), before),
        Err(Stale::Narrowed(Why::SponsorSuspended))
    );
}

#[tokio::test]
async fn one_person_is_not_two() {
    let (node, id) = Node::stopped().await;
    // Not the local user, not who is no administrator, not one with the same key by another name.
    let command = Command::BreakGlass(request("triage", minutes(60)));
    assert!(matches!(
        refused(node.execute(command).await),
        Refusal::GlassNotNamed { .. }
    ));
    let glass = node.asked().await;
    let open_it = || Command::BreakGlass(open(&glass));
    assert!(matches!(
        refused(node.execute(open_it()).await),
        Refusal::GlassNotNamed { .. }
    ));
    let same = refused(node.by(&ops(), open(&glass)).await);
    assert!(matches!(same, Refusal::GlassSamePerson { .. }), "{same:?}");

    let twin = key_of("twin", 7);
    node.ok(Command::AddAdmin { key: twin.clone() }).await;
    let same = refused(node.by(&twin, open(&glass)).await);
    assert!(matches!(same, Refusal::GlassSamePerson { .. }), "{same:?}");
    // Nor one whom the first makes for it.
    let fresh = key_of("fresh", 9);
    node.ok(Command::AddAdmin { key: fresh.clone() }).await;
    let new = refused(node.by(&fresh, open(&glass)).await);
    assert!(matches!(new, Refusal::GlassNewAdmin { .. }), "{new:?}");
    let unknown = node.by(&key_of("nobody", 3), open(&glass)).await;
    assert!(matches!(refused(unknown), Refusal::AdminGone { .. }));
    assert_eq!(node.narrowed(&id), Some(Why::SponsorSuspended));
}

#[tokio::test]
async fn an_approval_is_good_once_and_in_time() {
    let (node, id) = Node::stopped().await;
    let late = node.asked().await;
    node.clock.advance(minutes(15));
    let cause = GlassOver::Expired;
    let expected = |id: &Handle, cause| Refusal::GlassIsOver {
        id: id.clone(),
        cause,
    };
    assert_eq!(
        refused(node.by(&duty(), open(&late)).await),
        expected(&late, cause)
    );
    // A lost answer is asked for again; nothing is written.
    let glass = node.broken().await;
    let size = node.log.len();
    let again = node.by(&duty(), open(&glass)).await.unwrap();
    assert!(matches!(again, Done::Unchanged { .. }), "{again:?}");
    assert_eq!(node.log.len(), size);
    node.by(&ops(), end_glass(&glass, GlassOver::Ended))
        .await
        .unwrap();
    assert_eq!(node.narrowed(&id), Some(Why::SponsorSuspended));
    // What was opened once is not opened again.
    assert_eq!(
        refused(node.by(&duty(), open(&glass)).await),
        expected(&glass, GlassOver::Ended)
    );
    let again = node
        .by(&duty(), end_glass(&glass, GlassOver::Ended))
        .await
        .unwrap();
    assert!(matches!(again, Done::Unchanged { .. }));
    assert_eq!(node.narrowed(&id), Some(Why::SponsorSuspended));
}

#[tokio::test]
async fn it_goes_with_the_credential_of_either() {
    for admin in ["ops", "duty"] {
        let (node, id) = Node::stopped().await;
        let glass = node.broken().await;
        let active = node.control.standing(&id, node.now()).active().unwrap();
        let remove = Command::RemoveAdmin {
            id: admin.parse().unwrap(),
        };
        assert_eq!(remove.cut(), Some("admin-removed"));
        node.ok(remove).await;
        let narrowed = Some(Why::SponsorSuspended);
        assert_eq!(node.narrowed(&id), narrowed, "{admin}");
        assert_eq!(
            node.control.still(&active, &files(), node.now()).err(),
            narrowed.map(Stale::Narrowed)
        );
        assert_eq!(node.over(&glass), Some(GlassOver::AdminRemoved));
    }
    // Before it is opened.
    let (node, _) = Node::stopped().await;
    let glass = node.asked().await;
    node.ok(Command::RemoveAdmin {
        id: "ops".parse().unwrap(),
    })
    .await;
    let gone = refused(node.by(&duty(), open(&glass)).await);
    assert!(matches!(
        gone,
        Refusal::GlassIsOver {
            cause: GlassOver::AdminRemoved,
            ..
        }
    ));
    let glass = node.by(&duty(), request("triage", minutes(1))).await;
    assert!(glass.is_ok());
    let id = node.last();
    node.ok(Command::RemoveAdmin {
        id: "duty".parse().unwrap(),
    })
    .await;
    node.ok(Command::AddAdmin { key: ops() }).await;
    assert!(matches!(
        refused(node.by(&ops(), open(&id)).await),
        Refusal::GlassNewAdmin { .. }
    ));
}

#[tokio::test]
async fn whatever_narrows_the_agent_after_it_was_asked_for_wins() {
    let agent = || "triage".parse().unwrap();
    let deactivated = || Command::SuspendSponsor {
        id: "maja".parse().unwrap(),
        signal: Some(signal("deactivated")),
    };
    let lapse = || Command::LapseAgent {
        agent: agent(),
        signal: signal("department-changed"),
    };
    let stop = || Command::StopAll {
        signal: signal("kill"),
    };
    for is_open in [false, true] {
        for (cut, expected) in [
            (deactivated(), Why::SponsorSuspended),
            (suspend_agent("triage"), Why::AgentSuspended),
            (retire_agent("triage"), Why::AgentRetired),
            (lapse(), Why::SponsorSuspended),
            // The glass is over, so what it set aside is back, and is said before the stop.
            (stop(), Why::SponsorSuspended),
        ] {
            let (node, id) = Node::stopped().await;
            let glass = node.asked().await;
            if is_open {
                node.by(&duty(), open(&glass)).await.unwrap();
                assert_eq!(node.narrowed(&id), None);
            }
            let told = format!("{cut:?}");
            node.ok(cut).await;
            assert_eq!(node.narrowed(&id), Some(expected), "{told}");
            assert_eq!(node.over(&glass), Some(GlassOver::Cut), "{told}");
            let late = refused(node.by(&duty(), open(&glass)).await);
            assert!(matches!(late, Refusal::GlassIsOver { .. }), "{late:?}");
        }
    }
    // A stop that is lifted does not bring it back.
    let (node, id) = Node::stopped().await;
    node.broken().await;
    node.ok(stop()).await;
    node.ok(Command::ResumeAll).await;
    assert_eq!(node.narrowed(&id), Some(Why::SponsorSuspended));
    // Asked for after it, and for it, it holds.
    node.broken().await;
    assert_eq!(node.narrowed(&id), None);
    // A resumed sponsor needs none, and a second suspension is not what it was for.
    node.ok(resume_sponsor("maja")).await;
    assert_eq!(node.under(&id), Vec::<Handle>::new());
    node.ok(suspend_sponsor("maja")).await;
    assert_eq!(node.narrowed(&id), Some(Why::SponsorSuspended));
}

#[tokio::test]
async fn it_sets_aside_only_that_nobody_answers_for_the_agent() {
    let node = Node::ready().await;
    node.ok(Command::AddAdmin { key: ops() }).await;
    let cannot = |why| Refusal::GlassForNothing {
        agent: "triage".parse().unwrap(),
        why,
    };
    let first = ops();
    let ask = || node.by(&first, request("triage", minutes(60)));
    assert_eq!(refused(ask().await), cannot(None), "it may run");
    node.ok(suspend_agent("triage")).await;
    assert_eq!(refused(ask().await), cannot(Some(Why::AgentSuspended)));
    node.ok(suspend_sponsor("maja")).await;
    assert_eq!(refused(ask().await), cannot(Some(Why::AgentSuspended)));
    node.ok(Command::Erase {
        handle: handle_of(&node, "maja").unwrap(),
    })
    .await;
    node.ok(add_sponsor("noor")).await;
    node.ok(add_agent("other", "noor")).await;
    node.ok(suspend_sponsor("noor")).await;
    node.ok(Command::Erase {
        handle: handle_of(&node, "noor").unwrap(),
    })
    .await;
    let erased = node.by(&ops(), request("other", minutes(60))).await;
    assert!(matches!(
        refused(erased),
        Refusal::GlassForNothing {
            why: Some(Why::SponsorErased),
            ..
        }
    ));
    node.ok(retire_agent("other")).await;
    let retired = node.by(&ops(), request("other", minutes(60))).await;
    assert!(matches!(refused(retired), Refusal::AgentRetired { .. }));
}

#[tokio::test]
async fn it_is_never_longer_than_the_configuration_says() {
    let (node, _) = Node::stopped().await;
    for (lasts, max_s) in [(minutes(0), 14_400), (minutes(241), 14_400)] {
        let answer = refused(node.by(&ops(), request("triage", lasts)).await);
        let given_s = lasts.as_secs();
        assert_eq!(answer, Refusal::GlassTooLong { given_s, max_s });
    }
    node.by(&ops(), request("triage", minutes(240)))
        .await
        .unwrap();
    let waits = refused(node.by(&duty(), request("triage", minutes(1))).await);
    assert!(matches!(waits, Refusal::GlassWaits { .. }), "{waits:?}");
}

#[tokio::test]
async fn the_next_one_takes_the_place_of_the_one_that_is_open() {
    let (node, id) = Node::stopped().await;
    let first = node.broken().await;
    node.clock.advance(minutes(20));
    node.control.touch(&id, node.now());
    let second = node.asked().await;
    assert_eq!(node.under(&id), std::slice::from_ref(&first));
    let before = node.control.standing(&id, node.now()).active().unwrap();
    node.by(&duty(), open(&second)).await.unwrap();
    assert_eq!(node.under(&id), [second]);
    assert_eq!(node.over(&first), Some(GlassOver::Replaced));
    assert_eq!(node.control.still(&before, &files(), node.now()), Ok(()));
    // The end of one is not the end of the request for the next.
    node.clock.advance(minutes(59));
    let third = node.asked().await;
    node.clock.advance(minutes(1));
    node.control
        .execute(
            Actor::node("n-1"),
            Command::BreakGlass(end_glass(&node.under_id(), GlassOver::Expired)),
        )
        .await
        .unwrap();
    assert_eq!(node.over(&third), None);
}

impl Node {
    /// The one that is open, whatever the time.
    fn under_id(&self) -> Handle {
        self.control.view(|state| {
            let open = |it: &&Arc<crate::BreakGlass>| matches!(it.life, GlassLife::Open { .. });
            state.break_glasses().find(open).unwrap().id.clone()
        })
    }
}

#[tokio::test]
async fn only_its_time_makes_it_expired() {
    let (node, id) = Node::stopped().await;
    let glass = node.broken().await;
    let expire = || {
        let command = Command::BreakGlass(end_glass(&glass, GlassOver::Expired));
        node.control.execute(Actor::node("n-1"), command)
    };
    assert!(matches!(expire().await.unwrap(), Done::Unchanged { .. }));
    assert_eq!(node.narrowed(&id), None);
    node.start("triage", 1).await;
    node.clock.advance(minutes(60));
    assert!(matches!(expire().await.unwrap(), Done::Changed { .. }));
    assert_eq!(node.over(&glass), Some(GlassOver::Expired));
    // It is a cut, and names what went on under it and what started under it.
    let covered = node.control.view(|state| {
        let cut = state.cuts().last().unwrap();
        assert_eq!(cut.kind, ledger::Kind::BreakGlassEnded);
        state.covered(cut).len()
    });
    assert_eq!(covered, 2);
}

#[tokio::test]
async fn a_clock_that_goes_back_does_not_make_it_last() {
    let (node, id) = Node::stopped().await;
    node.broken().await;
    node.an_hour_of(&id);
    node.ok(configure("later")).await;
    node.clock.back(minutes(60));
    assert_eq!(node.narrowed(&id), Some(Why::SponsorSuspended));
}

#[tokio::test]
async fn a_restart_anywhere_between_changes_nothing() {
    let (node, id) = Node::stopped().await;
    let glass = node.asked().await;
    let node = node.restarted().unwrap();
    assert_eq!(node.narrowed(&id), Some(Why::SponsorSuspended));
    node.by(&duty(), open(&glass)).await.unwrap();
    let node = node.restarted().unwrap();
    assert_eq!(node.under(&id), std::slice::from_ref(&glass));
    node.an_hour_of(&id);
    let node = node.restarted().unwrap();
    assert_eq!(node.narrowed(&id), Some(Why::SponsorSuspended));
    let again = fold_prefix(&*node.log, Some(&*node.keyring), node.log.len()).unwrap();
    node.control.view(|state| assert_eq!(*state, again));
}

#[tokio::test]
async fn what_the_ledger_refuses_opens_nothing() {
    let (node, id) = Node::stopped().await;
    let glass = node.asked().await;
    node.log
        .refuse_append
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let answer = node.by(&duty(), open(&glass)).await;
    assert!(matches!(answer, Err(CommandError::Ledger(_))), "{answer:?}");
    assert_eq!(node.narrowed(&id), Some(Why::SponsorSuspended));
}

#[tokio::test]
async fn instances_start_under_it_and_are_over_with_it() {
    let (node, old) = Node::stopped().await;
    assert!(matches!(
        refused(node.execute(start("triage", 1)).await),
        Refusal::AgentWithoutSponsor { .. }
    ));
    let glass = node.broken().await;
    node.clock.advance(minutes(20));
    let new = node.start("triage", 1).await;
    assert_eq!(node.start("triage", 0).await, old, "it goes on");
    let expires = node
        .control
        .view(|state| state.instance(&new).unwrap().expires_at);
    assert_eq!(expires, node.now().plus(minutes(41)));
    assert_eq!(node.under(&new), [glass]);
    node.clock.advance(minutes(20));
    node.control.touch(&new, node.now());
    node.clock.advance(minutes(20));
    assert_eq!(node.narrowed(&new), Some(Why::SponsorSuspended));
    assert_eq!(node.narrowed(&old), Some(Why::InstanceExpired), "idle");
    assert!(matches!(
        refused(node.execute(start("triage", 2)).await),
        Refusal::AgentWithoutSponsor { .. }
    ));
}

#[tokio::test]
async fn what_it_delegates_to_acts_for_its_sponsor_under_it_and_no_other_agent_does() {
    let node = Node::ready().await;
    node.ok(Command::AddAdmin { key: ops() }).await;
    node.ok(Command::AddAdmin { key: duty() }).await;
    node.ok(add_sponsor("noor")).await;
    node.ok(add_agent("helper", "noor")).await;
    node.ok(add_agent("sibling", "maja")).await;
    let root = node.start("triage", 0).await;
    let sibling = node.start("sibling", 0).await;
    let below = |parent: &InstanceId, agent: &str, key: u8| {
        Command::Delegate(Box::new(Delegation {
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
        }))
    };
    let started = |done: Done| match done {
        Done::Started { instance, .. } => instance.id.clone(),
        other => panic!("{other:?}"),
    };
    let child = started(node.ok(below(&root, "helper", 5)).await);
    let aunt = started(node.ok(below(&sibling, "helper", 6)).await);
    node.ok(suspend_sponsor("maja")).await;
    let glass = node.broken().await;
    assert_eq!(node.under(&child), std::slice::from_ref(&glass));
    assert_eq!(node.narrowed(&sibling), Some(Why::SponsorSuspended));
    assert_eq!(node.narrowed(&aunt), Some(Why::SponsorSuspended));
    let late = started(node.ok(below(&root, "helper", 7)).await);
    assert_eq!(node.under(&late), [glass]);
    // An agent of hers below it is another agent: it takes one of its own.
    assert!(matches!(
        refused(node.execute(below(&root, "sibling", 8)).await),
        Refusal::AgentWithoutSponsor { .. }
    ));
    node.ok(suspend_sponsor("noor")).await;
    assert_eq!(node.narrowed(&child), Some(Why::SponsorSuspended));
}

#[tokio::test]
async fn an_agent_that_nobody_accepted_runs_under_it() {
    let node = Node::empty();
    node.ok(Command::NodeStarted {
        version: "1".parse().unwrap(),
        shared_user: false,
        development: false,
        asserted: AssertedAgents::Refuse,
        calls: None,
    })
    .await;
    node.ok(add_sponsor("maja")).await;
    node.ok(configure("files")).await;
    node.ok(add_agent("triage", "maja")).await;
    node.ok(Command::AddAdmin { key: ops() }).await;
    node.ok(Command::AddAdmin { key: duty() }).await;
    assert!(matches!(
        refused(node.execute(start("triage", 0)).await),
        Refusal::AgentNotAccepted { .. }
    ));
    node.broken().await;
    let id = node.start("triage", 0).await;
    // That her account is stopped, too, is another thing than what it was broken for.
    assert_eq!(node.narrowed(&id), None);
    node.ok(suspend_sponsor("maja")).await;
    assert_eq!(node.narrowed(&id), Some(Why::SponsorSuspended));
}

#[tokio::test]
async fn the_reason_can_be_erased() {
    let (node, _) = Node::stopped().await;
    let glass = node.broken().await;
    let reason_of = |state: &crate::State| state.break_glass(&glass).unwrap().reason.clone();
    assert_eq!(node.control.view(reason_of), Known::Named(reason()));
    let key = node
        .control
        .view(|it| it.break_glass(&glass).unwrap().key.clone());
    node.ok(Command::Erase {
        handle: key.clone(),
    })
    .await;
    assert_eq!(node.control.view(reason_of), Known::Erased);
    assert!(matches!(
        node.keyring.open(&key).unwrap(),
        ledger::Opened::Erased
    ));
    let again = fold_prefix(&*node.log, Some(&*node.keyring), node.log.len()).unwrap();
    node.control.view(|state| assert_eq!(*state, again));
}

/// A log in which one person did both, or one did it in the name of another, is none of ours.
#[tokio::test]
async fn a_log_in_which_one_person_was_two_is_not_folded() {
    for (by, actor) in [("ops", ops()), ("duty", ops()), ("ops", duty())] {
        let (node, _) = Node::stopped().await;
        let id = node.asked().await;
        let event = Event::BreakGlassOpened(crate::entry::BreakGlassOpened {
            id,
            by: by.parse().unwrap(),
        });
        let draft = event.draft(by_key(&actor)).unwrap();
        let header = ledger::Header {
            trust_domain: "acme.example".parse().unwrap(),
            node: "n-1".to_owned(),
            epoch: 1,
            key: "tipstaff.local/control/x+00000000".to_owned(),
        };
        let bytes = ledger::write_entry(&header, node.now(), &draft).unwrap();
        node.log.forge(bytes);
        let Err(FoldError { cause, .. }) = node.restarted().map(drop) else {
            panic!("folded");
        };
        let expected = |it: &FoldCause| match it {
            FoldCause::Impossible(Impossible::NotSecond { .. }) => by == actor.admin().as_str(),
            FoldCause::Impossible(Impossible::NotTheirs { .. }) => by != actor.admin().as_str(),
            _ => false,
        };
        assert!(expected(&cause), "{cause:?}");
    }
}

#[tokio::test]
async fn a_snapshot_has_it_and_not_why() {
    let (node, id) = Node::stopped().await;
    let glass = node.broken().await;
    let kept = node.control.snapshot().await.unwrap();
    let kept = kept.write(&*node.log, &log_key()).unwrap();
    assert!(!kept.windows(7).any(|it| it == b"payouts"));
    let keyring: &dyn ledger::Keyring = &*node.keyring;
    let verifier = log_key();
    let state =
        crate::snapshot::read(&kept, verifier.verifier(), &*node.log, Some(keyring)).unwrap();
    node.control.view(|whole| assert_eq!(*whole, state));
    let active = state.standing(&id, node.now()).active().unwrap();
    assert_eq!(active.under()[0].id, glass);
    assert_eq!(active.under()[0].reason, Known::Named(reason()));
}
