//! Who is offered the agents of a sponsor who does not answer for them any more, and takes them over.

use vocab::Handle;

use super::*;
use crate::entry::Event;
use crate::lifecycle::Acceptance;
use crate::refusal::Refusal;
use crate::{fold_prefix, snapshot};

/// `triage` is of `maja`; `noor`, `otto` and `mia` are sponsors, too.
async fn ready() -> Node {
    let node = Node::ready().await;
    for id in ["noor", "otto", "mia"] {
        node.ok(add_sponsor(id)).await;
    }
    node
}

fn name(of: &str, deputies: &[&str]) -> Command {
    Command::NameDeputies {
        sponsor: of.parse().unwrap(),
        deputies: deputies.iter().map(|id| id.parse().unwrap()).collect(),
    }
}

/// The directory stops somebody.
fn deactivate(id: &str) -> Command {
    stop(id, Some(signal("deactivated")))
}

fn stop(id: &str, signal: Option<Signal>) -> Command {
    Command::SuspendSponsor {
        id: id.parse().unwrap(),
        signal,
    }
}

fn take_over(node: &Node, person: &str) -> Command {
    Command::TakeOver {
        agent: "triage".parse().unwrap(),
        person: handle_of(node, person).unwrap(),
        sign_in: SignIn::Oidc,
        asked_in: asked_in(node, "triage"),
        terms: node.keep(b"terms"),
        signed_in: None,
    }
}

fn offered(node: &Node) -> Vec<String> {
    node.control.view(|state| {
        let offered = state.offered(state.agent(&"triage".parse().unwrap()).unwrap());
        let told = offered
            .into_iter()
            .map(|(to, relation)| format!("{} {}", relation.as_str(), to.id().unwrap()));
        told.collect()
    })
}

async fn refused(node: &Node, command: Command) -> Refusal {
    match node.execute(command).await {
        Err(CommandError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn agents_of_who_does_not_act_are_offered_to_deputies_and_then_to_the_manager() {
    let node = ready().await;
    let maja = handle_of(&node, "maja").unwrap();
    node.ok(name("maja", &["otto", "noor", "otto"])).await;
    let mut managed = person("maja", 1);
    managed.manager = Some(handle_of(&node, "mia").unwrap().as_str().parse().unwrap());
    node.ok(Command::ChangeSponsor {
        sponsor: maja.clone(),
        person: Box::new(managed),
        changes: vec!["manager".parse().unwrap()],
        signal: signal("changed"),
    })
    .await;
    assert_eq!(offered(&node), [""; 0], "she answers for it");
    node.ok(suspend_sponsor("maja")).await;
    assert_eq!(
        offered(&node),
        ["deputy otto", "deputy noor", "manager mia"]
    );
    // Who does not act is passed over, and who is both is one.
    node.ok(suspend_sponsor("otto")).await;
    node.ok(name("maja", &["noor", "mia"])).await;
    assert_eq!(offered(&node), ["deputy noor", "deputy mia"]);
    // Deputies are known when it is not known any more who she was.
    node.ok(Command::Erase {
        handle: maja.clone(),
    })
    .await;
    assert_eq!(offered(&node), ["deputy noor", "deputy mia"]);
    let kept = node.control.snapshot().await.unwrap();
    let kept = kept.write(&*node.log, &log_key()).unwrap();
    let keyring: &dyn ledger::Keyring = &*node.keyring;
    let restored = snapshot::read(&kept, log_key().verifier(), &*node.log, Some(keyring)).unwrap();
    let folded = fold_prefix(&*node.log, Some(keyring), node.log.len()).unwrap();
    node.control.view(|state| assert_eq!(*state, folded));
    assert_eq!(restored, folded);
}

#[tokio::test]
async fn somebody_is_offered_all_agents_of_who_does_not_act_and_no_other() {
    let node = ready().await;
    let to = |person: &str| {
        let person = handle_of(&node, person).unwrap();
        node.control.view(|state| {
            let agents = state.offered_to(&person).into_iter();
            // As each agent says of itself.
            let mut each: Vec<_> = state.agents().collect();
            each.retain(|agent| {
                let mut offered = state.offered(agent).into_iter();
                offered.any(|(to, _)| to.handle == person)
            });
            let agents: Vec<_> = agents.map(|agent| agent.id.to_string()).collect();
            assert!(each.iter().map(|agent| agent.id.as_str()).eq(&agents));
            agents
        })
    };
    for (id, sponsor) in [("zeta", "maja"), ("alpha", "maja"), ("other", "otto")] {
        node.ok(add_agent(id, sponsor)).await;
    }
    node.ok(name("maja", &["noor", "mia"])).await;
    node.ok(name("otto", &["noor"])).await;
    assert_eq!(to("noor"), [""; 0], "both answer for theirs");
    node.ok(suspend_sponsor("maja")).await;
    let hers = ["alpha", "triage", "zeta"];
    assert_eq!(
        (to("noor"), to("mia")),
        (
            hers.map(str::to_owned).to_vec(),
            hers.map(str::to_owned).to_vec()
        )
    );
    assert_eq!(to("otto"), [""; 0]);
    assert_eq!(to("maja"), [""; 0]);
    node.ok(suspend_sponsor("otto")).await;
    assert_eq!(to("noor"), ["alpha", "other", "triage", "zeta"]);
    assert_eq!(to("mia"), hers);
    node.ok(suspend_sponsor("mia")).await;
    assert_eq!(to("mia"), [""; 0], "she does not act herself");
}

#[tokio::test]
async fn deputies_are_others_who_act_and_few() {
    let node = ready().await;
    let maja: SponsorId = "maja".parse().unwrap();
    assert_eq!(
        refused(&node, name("maja", &["noor", "Maja"])).await,
        Refusal::OwnDeputy {
            sponsor: maja.clone()
        }
    );
    assert!(matches!(
        refused(&node, name("maja", &["nobody"])).await,
        Refusal::UnknownSponsor { .. }
    ));
    assert!(matches!(
        refused(&node, name("nobody", &["maja"])).await,
        Refusal::UnknownSponsor { .. }
    ));
    let mut many = Vec::new();
    for nth in 0..=vocab::limits::DEPUTIES_MAX {
        let id = format!("d{nth}");
        node.ok(add_sponsor(&id)).await;
        many.push(id);
    }
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let too_many = refused(&node, name("maja", &many)).await;
    assert!(matches!(
        too_many,
        Refusal::TooManyDeputies {
            given: 9,
            max: 8,
            ..
        }
    ));
    node.ok(name("maja", &many[1..])).await;
    let again = node.ok(name("maja", &many[1..])).await;
    assert!(matches!(again, Done::Unchanged { .. }));
    node.ok(name("maja", &[])).await;
    node.ok(suspend_sponsor("maja")).await;
    assert_eq!(offered(&node), [""; 0]);
    node.ok(suspend_sponsor("noor")).await;
    assert!(matches!(
        refused(&node, name("maja", &["noor"])).await,
        Refusal::SponsorNotActive { .. }
    ));
}

#[tokio::test]
async fn only_who_is_offered_an_agent_takes_it_over() {
    let node = ready().await;
    node.ok(name("maja", &["noor"])).await;
    let ran = node.start("triage", 1).await;
    let not_offered = Refusal::NotOffered {
        agent: "triage".parse().unwrap(),
    };
    let before = node.log.len();
    assert_eq!(refused(&node, take_over(&node, "noor")).await, not_offered);
    assert_eq!(node.log.len(), before);
    node.ok(deactivate("maja")).await;
    for other in ["otto", "maja"] {
        assert_eq!(refused(&node, take_over(&node, other)).await, not_offered);
    }
    let (first, size) = (node.log.len(), |node: &Node| node.log.len());
    node.ok(take_over(&node, "noor")).await;
    assert_eq!(size(&node), first + 2, "both or neither");
    let noor: Handle = handle_of(&node, "noor").unwrap();
    node.control.view(|state| {
        let agent = state.agent(&"triage".parse().unwrap()).unwrap();
        assert_eq!(agent.sponsor, noor);
        assert!(matches!(agent.acceptance, Acceptance::Accepted { .. }));
        assert_eq!(agent.past_sponsors.len(), 1);
        // What is certified is the transfer, which cut, and not the entry after it.
        assert!(state.cut(first).is_some() && state.cut(first + 1).is_none());
    });
    // What ran under her is over, and it starts anew.
    assert!(node.narrowed(&ran).is_some());
    node.ok(Command::ResumeSponsor {
        id: "maja".parse().unwrap(),
        signal: None,
        despite: true,
    })
    .await;
    assert!(node.narrowed(&ran).is_some());
    let anew = node.start("triage", 1).await;
    assert_ne!(anew, ran);
    assert_eq!(node.narrowed(&anew), None);
    // It is not offered any more, to nobody.
    assert_eq!(offered(&node), [""; 0]);
    assert_eq!(refused(&node, take_over(&node, "noor")).await, not_offered);
}

/// Whoever has the directory's token says who the manager is: that does not undo what an
/// administrator stopped, in whichever order they stop and name.
#[tokio::test]
async fn a_manager_whom_the_directory_names_does_not_take_over_what_an_administrator_stopped() {
    let by = |source: &str| {
        Some(Signal {
            source: source.parse().unwrap(),
            ..signal("suspended")
        })
    };
    for held in [None, by("cli"), by("api")] {
        let node = ready().await;
        let maja = handle_of(&node, "maja").unwrap();
        node.ok(deactivate("maja")).await;
        node.ok(stop("maja", held)).await;
        let mut managed = person("maja", 1);
        managed.manager = Some(handle_of(&node, "mia").unwrap().as_str().parse().unwrap());
        node.ok(Command::ChangeSponsor {
            sponsor: maja.clone(),
            person: Box::new(managed),
            changes: vec!["manager".parse().unwrap()],
            signal: signal("changed"),
        })
        .await;
        node.ok(name("maja", &["noor"])).await;
        assert_eq!(offered(&node), ["deputy noor", "manager mia"]);
        let before = node.log.len();
        for (person, refusal) in [
            (
                "mia",
                Refusal::StoppedByAdmin {
                    agent: "triage".parse().unwrap(),
                },
            ),
            (
                "noor",
                Refusal::StoppedByAdmin {
                    agent: "triage".parse().unwrap(),
                },
            ),
            // Who is offered nothing is told nothing.
            (
                "otto",
                Refusal::NotOffered {
                    agent: "triage".parse().unwrap(),
                },
            ),
        ] {
            assert_eq!(refused(&node, take_over(&node, person)).await, refusal);
        }
        assert_eq!(node.log.len(), before);
        // An administrator gives it away, or lifts what they did: then the directory's is left.
        node.ok(Command::LiftSuspension {
            sponsor: maja,
            event: "deactivated".parse().unwrap(),
            signal: signal("reactivated"),
        })
        .await;
        assert!(matches!(
            refused(&node, take_over(&node, "mia")).await,
            Refusal::StoppedByAdmin { .. }
        ));
        node.ok(Command::ResumeSponsor {
            id: "maja".parse().unwrap(),
            signal: None,
            despite: true,
        })
        .await;
        node.ok(deactivate("maja")).await;
        node.ok(take_over(&node, "mia")).await;
    }
}

fn accept(node: &Node, sponsor: &str) -> Command {
    Command::AcceptAgent {
        agent: "triage".parse().unwrap(),
        sponsor: handle_of(node, sponsor).unwrap(),
        sign_in: SignIn::Oidc,
        asked_in: asked_in(node, "triage"),
        terms: node.keep(b"terms"),
        signed_in: None,
    }
}

/// Between the look at a page and the writer's turn, what was asked there can be over.
#[tokio::test]
async fn an_acceptance_of_before_does_not_answer_what_was_asked_since() {
    let node = ready().await;
    let asked_anew = Refusal::AskedAnew {
        agent: "triage".parse().unwrap(),
    };
    let lapse = || Command::LapseAgent {
        agent: "triage".parse().unwrap(),
        signal: signal("department-changed"),
    };
    let accepted = |node: &Node| {
        node.control.view(|state| {
            let agent = state.agent(&"triage".parse().unwrap()).unwrap();
            matches!(agent.acceptance, Acceptance::Accepted { .. })
        })
    };
    // It lapsed meanwhile.
    let shown = accept(&node, "maja");
    node.ok(lapse()).await;
    assert_eq!(refused(&node, shown).await, asked_anew);
    assert!(!accepted(&node));
    // It went to somebody else, and came back.
    let shown = accept(&node, "maja");
    node.ok(transfer("triage", "otto")).await;
    node.ok(transfer("triage", "maja")).await;
    assert_eq!(refused(&node, shown).await, asked_anew);
    assert!(!accepted(&node));
    node.ok(accept(&node, "maja")).await;
    assert!(accepted(&node));
    // The same, of what is taken over.
    node.ok(name("maja", &["noor"])).await;
    node.ok(deactivate("maja")).await;
    let shown = take_over(&node, "noor");
    node.ok(lapse()).await;
    assert_eq!(refused(&node, shown).await, asked_anew);
    node.ok(take_over(&node, "noor")).await;
    assert!(accepted(&node));
}

#[tokio::test]
async fn who_was_signed_out_meanwhile_takes_nothing_over() {
    let node = ready().await;
    node.ok(name("maja", &["noor"])).await;
    node.ok(deactivate("maja")).await;
    let began = node.log.len();
    node.ok(Command::RevokeSessions {
        sponsor: handle_of(&node, "noor").unwrap(),
        signal: signal("session-revoked"),
    })
    .await;
    let Command::TakeOver {
        agent,
        person,
        sign_in,
        asked_in,
        terms,
        ..
    } = take_over(&node, "noor")
    else {
        panic!("it takes over")
    };
    let command = Command::TakeOver {
        agent,
        person,
        sign_in,
        asked_in,
        terms,
        signed_in: Some(crate::SignedIn::Here(began)),
    };
    assert_eq!(refused(&node, command).await, Refusal::SignedOut);
    let entries = (0..node.log.len()).map(|index| {
        let bytes = ledger::LogReader::entry(&*node.log, index).unwrap();
        Event::read(&ledger::Entry::parse(&bytes).unwrap()).unwrap()
    });
    let transferred = |event: Event| matches!(event, Event::AgentTransferred(_));
    assert!(!entries.into_iter().any(transferred));
}
