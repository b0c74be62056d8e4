//! Workloads start instances, and go on with them.

use super::*;
use crate::refusal::Refusal;

const fn job(which: u8) -> Job {
    Job {
        agent: "triage",
        issuer: "ci",
        subject: 1,
        purpose: "triage",
        key: which,
    }
}

#[derive(Clone, Copy)]
struct Job {
    agent: &'static str,
    issuer: &'static str,
    subject: u8,
    purpose: &'static str,
    key: u8,
}

fn asks(it: Job) -> Command {
    let binding = Binding::Dpop { jkt: jkt(it.key) };
    by_workload(it.agent, it.issuer, it.subject, it.purpose, binding)
}

/// The instance, and whether it was there before.
async fn ask(node: &Node, command: Command) -> (InstanceId, bool) {
    match node.ok(command).await {
        Done::Started { instance, .. } => (instance.id.clone(), false),
        Done::Continued { instance } => (instance.id.clone(), true),
        other => panic!("{other:?}"),
    }
}

async fn refused(node: &Node, command: Command) -> Refusal {
    match node.execute(command).await {
        Err(CommandError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_workload_that_renews_keeps_its_instance() {
    let node = Node::ready().await;
    node.ok(Command::AddAgent(Box::new(NewAgent {
        max_instances: Some(1),
        ..new_agent("few", "maja")
    })))
    .await;
    let it = Job {
        agent: "few",
        ..job(0)
    };
    let (first, _) = ask(&node, asks(it)).await;
    let size = node.log.len();
    // For longer than it may be idle, so that continuing is a use.
    for _ in 0..12 {
        node.clock.advance(minutes(5));
        assert_eq!(ask(&node, asks(it)).await, (first.clone(), true));
    }
    assert_eq!(node.log.len(), size, "continuing writes nothing");
    assert_eq!(node.narrowed(&first), None);
    let other = asks(Job { key: 1, ..it });
    assert!(matches!(
        refused(&node, other).await,
        Refusal::InstancesReached { live: 1, .. }
    ));
    // Also after a restart.
    let node = node.restarted().unwrap();
    assert_eq!(ask(&node, asks(it)).await, (first, true));
}

#[tokio::test]
async fn nobody_else_goes_on_with_a_workloads_instance() {
    let node = Node::ready().await;
    node.ok(add_agent("other", "maja")).await;
    let it = job(0);
    let (first, _) = ask(&node, asks(it)).await;
    let mut seen = vec![first.clone()];
    for other in [
        Job { key: 1, ..it },
        Job { subject: 2, ..it },
        Job {
            issuer: "cluster",
            ..it
        },
        Job {
            purpose: "triage/refunds",
            ..it
        },
        Job {
            agent: "other",
            ..it
        },
    ] {
        let (id, there) = ask(&node, asks(other)).await;
        assert!(!there && !seen.contains(&id));
        seen.push(id);
    }
    // Nor the agent itself with the same key, in either order.
    let by_key = node.start("triage", 0).await;
    assert!(!seen.contains(&by_key));
    assert_eq!(node.start("triage", 0).await, by_key);
    assert_eq!(ask(&node, asks(it)).await, (first.clone(), true));
    let mut by_name = start("triage", 0);
    if let Command::StartInstance { continues, .. } = &mut by_name {
        *continues = Some(first.clone());
    }
    assert!(matches!(
        refused(&node, by_name).await,
        Refusal::OtherInstance { .. }
    ));
    let earlier = node.start("triage", 5).await;
    assert_ne!(ask(&node, asks(job(5))).await, (earlier, true));
}

#[tokio::test]
async fn a_bearer_workload_always_starts() {
    let node = Node::ready().await;
    let loose = NewAgent {
        allow_bearer: true,
        ..new_agent("loose", "maja")
    };
    node.ok(Command::AddAgent(Box::new(loose))).await;
    let asks = || by_workload("loose", "ci", 1, "triage", Binding::Bearer);
    let (one, there) = ask(&node, asks()).await;
    assert!(!there);
    let (two, there) = ask(&node, asks()).await;
    assert!(!there && one != two);
}

#[tokio::test]
async fn a_persons_instance_is_not_continued() {
    let node = Node::ready().await;
    let agent = NewAgent {
        people: Some(crate::entry::People::Sponsor),
        ..new_agent("desk", "maja")
    };
    node.ok(Command::AddAgent(Box::new(agent))).await;
    let asks = || Command::StartFor {
        agent: "desk".parse().unwrap(),
        person: handle_of(&node, "maja"),
        via: Via::Person {
            client: vocab::Digest::of(b"a client"),
            sign_in: SignIn::Oidc,
        },
        purpose: "triage".parse().unwrap(),
        binding: Binding::Dpop { jkt: jkt(0) },
        upstream: files(),
        signed_in: None,
    };
    let (one, _) = ask(&node, asks()).await;
    let (two, there) = ask(&node, asks()).await;
    assert!(!there && one != two);
}

#[tokio::test]
async fn what_is_over_is_not_revived() {
    let node = Node::ready().await;
    let it = job(0);
    let mut seen = Vec::new();
    for over in 0..5 {
        let (id, there) = ask(&node, asks(it)).await;
        assert!(!there && !seen.contains(&id), "{over}");
        match over {
            0 => drop(node.ok(end(&id, EndReason::Revoked)).await),
            1 => {
                let revoke = Command::RevokeSessions {
                    sponsor: handle_of(&node, "maja").unwrap(),
                    signal: signal("session-revoked"),
                };
                node.ok(revoke).await;
            }
            2 => node.clock.advance(minutes(30)),
            3 => {
                node.ok(add_sponsor("noor")).await;
                node.ok(transfer("triage", "noor")).await;
            }
            _ => {
                // It lives to its end however often it is used.
                for _ in 0..8 * 60 / 20 {
                    assert_eq!(node.narrowed(&id), None);
                    node.clock.advance(minutes(20));
                    node.control.touch(&id, node.now());
                }
            }
        }
        assert!(node.narrowed(&id).is_some(), "{over}");
        seen.push(id);
    }
    let (last, there) = ask(&node, asks(it)).await;
    assert!(!there && !seen.contains(&last));
    for id in &seen {
        assert_eq!(node.narrowed(id), Some(Why::InstanceEnded));
    }
    assert_eq!(node.narrowed(&last), None);
}

#[tokio::test]
async fn a_log_in_which_every_token_of_a_workload_started_an_instance_is_read() {
    let node = Node::ready().await;
    let (first, _) = ask(&node, asks(job(0))).await;
    let sponsor = handle_of(&node, "maja");
    let body = json!({
        "instance": format!("i-{}", "b".repeat(26)), "agent": "triage", "sponsor": sponsor,
        "parent": null, "purpose": "triage", "binding": {"dpop": {"jkt": jkt(0)}},
        "upstream": "files", "max_lifetime_s": 3600, "idle_s": 1800,
        "via": {"workload": {"issuer": "ci", "subject": vocab::Digest::of(&[1])}},
    });
    let forged = restarts::forged(&node, ledger::Kind::InstanceStarted, &body);
    node.log.forge(forged);
    let node = node.restarted().unwrap();
    let (second, there) = ask(&node, asks(job(0))).await;
    assert!(there && second != first);
    // The end of the one is not the end of the other.
    assert_eq!(node.narrowed(&first), None);
    node.ok(end(&first, EndReason::Closed)).await;
    assert_eq!(ask(&node, asks(job(0))).await, (second.clone(), true));
    node.ok(end(&second, EndReason::Closed)).await;
    assert!(!ask(&node, asks(job(0))).await.1);
}

#[tokio::test]
async fn what_is_left_behind_takes_no_place() {
    let node = Node::ready().await;
    node.ok(add_sponsor("noor")).await;
    node.ok(Command::AddAgent(Box::new(NewAgent {
        max_instances: Some(2),
        ..new_agent("few", "maja")
    })))
    .await;
    let it = Job {
        agent: "few",
        ..job(0)
    };
    for left_behind in [
        Command::RevokeSessions {
            sponsor: handle_of(&node, "maja").unwrap(),
            signal: signal("session-revoked"),
        },
        transfer("few", "noor"),
    ] {
        let (id, _) = ask(&node, asks(it)).await;
        let by_key = node.start("few", 0).await;
        node.ok(left_behind).await;
        assert_ne!(ask(&node, asks(it)).await.0, id);
        assert_ne!(node.start("few", 0).await, by_key);
    }
}

#[tokio::test]
async fn while_its_agent_is_suspended_a_workload_gets_nothing() {
    let node = Node::ready().await;
    let (id, _) = ask(&node, asks(job(0))).await;
    for (stop, resume) in [
        (suspend_agent("triage"), resume_agent("triage")),
        (suspend_sponsor("maja"), resume_sponsor("maja")),
        (
            Command::StopAll {
                signal: signal("kill"),
            },
            Command::ResumeAll,
        ),
    ] {
        node.ok(stop).await;
        let size = node.log.len();
        assert!(matches!(
            refused(&node, asks(job(0))).await,
            Refusal::AgentSuspended { .. }
                | Refusal::AgentWithoutSponsor { .. }
                | Refusal::AllStopped
        ));
        assert_eq!(node.log.len(), size);
        node.ok(resume).await;
        assert_eq!(ask(&node, asks(job(0))).await, (id.clone(), true));
    }
}
