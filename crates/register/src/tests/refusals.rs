//! Refusals, as people read them: `tests/refusals.txt`.

use vocab::digest::Digest;

use super::*;
use crate::break_glass::GlassCommand;
use crate::entry::TestResults;
use crate::signing::TokenKeyCommand;

async fn refusal(node: &Node, command: Command) -> String {
    match node.execute(command).await {
        Err(CommandError::Refused(refusal)) => format!("- {refusal}\n"),
        other => panic!("not refused: {other:?}"),
    }
}

fn agent_with(change: impl FnOnce(&mut NewAgent)) -> Command {
    let mut agent = new_agent("fresh", "maja");
    change(&mut agent);
    Command::AddAgent(Box::new(agent))
}

fn key(agent: &mut NewAgent) -> &mut NewKey {
    agent.key.as_mut().unwrap()
}

#[tokio::test]
async fn refusals_say_what_why_and_what_to_do() {
    let node = Node::ready().await;
    node.ok(Command::AddAdmin { key: admin_key(7) }).await;
    node.ok(add_pep("notes-server", 0, &["files"])).await;
    node.ok(add_sponsor("noor")).await;
    node.ok(suspend_sponsor("noor")).await;
    node.ok(add_agent("held", "maja")).await;
    node.ok(suspend_agent("held")).await;
    node.ok(add_agent("gone", "maja")).await;
    node.ok(retire_agent("gone")).await;
    node.ok(Command::AddAgent(Box::new(NewAgent {
        max_instances: Some(1),
        ..new_agent("few", "maja")
    })))
    .await;
    let over = node.start("few", 0).await;
    let dpop = Binding::Dpop { jkt: jkt(0) };
    let later = node.now().plus(minutes(60));
    let handle = node
        .control
        .view(|state| state.sponsors()[0].handle.clone());
    let stranger = "i-aaaaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap();
    let commands = vec![
        Command::RemoveAdmin {
            id: "opps".parse().unwrap(),
        },
        Command::AddAdmin { key: admin_key(8) },
        Command::RemovePep {
            pep: "notes-sever".parse().unwrap(),
        },
        add_pep("notes-server", 1, &["files", "later"]),
        add_pep("other", 0, &["files"]),
        add_pep("other", 1, &[]),
        add_pep("other", 1, &["fiels"]),
        suspend_sponsor("maya"),
        suspend_sponsor("zachary"),
        add_sponsor("Maja"),
        suspend_agent("traige"),
        end(&stranger, EndReason::Revoked),
        add_agent("triage", "maja"),
        add_agent("gone", "maja"),
        add_agent("fresh", "noor"),
        add_agent("fresh", "nobody"),
        agent_with(|agent| agent.purposes.clear()),
        agent_with(|agent| agent.purposes = vec!["p".parse().unwrap(); 65]),
        agent_with(|agent| agent.allow = Some(vec!["files/*".parse().unwrap(); 101])),
        agent_with(|agent| agent.max_instances = Some(0)),
        agent_with(|agent| agent.max_lifetime = Some(minutes(31 * 24 * 60))),
        agent_with(|agent| {
            agent.max_lifetime = Some(minutes(60));
            agent.idle = Some(minutes(61));
        }),
        agent_with(|agent| key(agent).expires_at = Some(Time::EPOCH)),
        agent_with(|agent| key(agent).expires_at = Some("2028-06-01".parse().unwrap())),
        agent_with(|agent| {
            key(agent).not_before = Some(later);
            key(agent).expires_at = Some(later);
        }),
        suspend_agent("gone"),
        resume_agent("gone"),
        rotate("gone", "k2"),
        rotate("triage", "k1"),
        start("held", 0),
        start("gone", 0),
        start("few", 1),
        start_with("triage", "k0", "triage", dpop),
        start_with("triage", "k1", "billing", dpop),
        start_with("triage", "k1", "triage", Binding::Bearer),
        Command::StartInstance {
            agent: "triage".parse().unwrap(),
            kid: "k1".parse().unwrap(),
            purpose: "triage".parse().unwrap(),
            binding: dpop,
            upstream: "fiels".parse().unwrap(),
            continues: None,
        },
        Command::RecordTools {
            upstream: "files".parse().unwrap(),
            blob: Digest::of(b"not kept"),
            count: 1,
        },
        Command::ActivatePolicy {
            set: node.keep(b"set"),
            author: "uid:1000".parse().unwrap(),
            tests: TestResults {
                passed: 3,
                failed: 2,
            },
        },
        Command::Erase { handle },
        Command::Erase {
            handle: "day-1".parse().unwrap(),
        },
    ];
    let mut found = String::new();
    let before = node.log.len();
    for command in commands {
        found += &refusal(&node, command).await;
    }
    assert_eq!(node.log.len(), before, "what is refused is not written");

    // Those that need another moment.
    node.ok(end(&over, EndReason::Revoked)).await;
    for binding in [dpop, Binding::Bearer] {
        let go_on = Command::StartInstance {
            agent: "few".parse().unwrap(),
            kid: "k1".parse().unwrap(),
            purpose: "triage".parse().unwrap(),
            binding,
            upstream: "files".parse().unwrap(),
            continues: Some(over.clone()),
        };
        found += &refusal(&node, go_on).await.replace(over.as_str(), "i-…");
    }
    node.ok(Command::AddTokenKey {
        kid: "t1".parse().unwrap(),
        jwk: jwk(),
    })
    .await;
    found += &refusal(
        &node,
        Command::AddTokenKey {
            kid: "t1".parse().unwrap(),
            jwk: PublicJwk::parse(&json!({"kty":"OKP","crv":"Ed25519","x":"A".repeat(43)}))
                .unwrap(),
        },
    )
    .await;
    for _ in 0..vocab::limits::DIRECTORY_TOKENS_MAX {
        node.ok(directory_token()).await;
    }
    found += &refusal(&node, directory_token()).await;
    let token = Command::RemoveDirectoryToken {
        token: "d-none".parse().unwrap(),
    };
    found += &refusal(&node, token).await;
    let revoke = |kid: &str| {
        let kid = kid.parse().unwrap();
        Command::TokenKey(TokenKeyCommand::Revoke { kid })
    };
    found += &refusal(&node, revoke("t1")).await;
    found += &refusal(&node, revoke("t9")).await;
    let kid = "t1".parse().unwrap();
    found += &refusal(&node, Command::TokenKey(TokenKeyCommand::Retire { kid })).await;
    let mut key = new_key("k2");
    key.not_before = Some(later);
    let id = "triage".parse().unwrap();
    node.ok(Command::RotateAgentKey { id, key }).await;
    found += &refusal(&node, start_with("triage", "k2", "triage", dpop)).await;
    node.clock.advance(minutes(91 * 24 * 60));
    found += &refusal(&node, start_with("triage", "k2", "triage", dpop)).await;
    node.ok(suspend_sponsor("maja")).await;
    found += &refusal(&node, start_with("triage", "k2", "triage", dpop)).await;
    found += &refusal(&node, resume_agent("held")).await;

    found += &break_glass(&node).await;
    found += &approvals::refusals().await;

    let golden = include_str!("../../tests/refusals.txt");
    let found = found.replace(
        &node.control.view(|s| s.sponsors()[0].handle.to_string()),
        "s-…",
    );
    assert!(found == golden, "tests/refusals.txt should be:\n{found}");
}

/// What is told where the glass is not broken, or not by two.
async fn break_glass(node: &Node) -> String {
    let (ops, duty) = (key_of("ops", 7), key_of("duty", 8));
    node.ok(Command::AddAdmin { key: duty.clone() }).await;
    node.ok(add_sponsor("away")).await;
    for agent in ["payouts", "stopped"] {
        node.ok(add_agent(agent, "away")).await;
    }
    node.ok(suspend_agent("stopped")).await;
    let ask = |agent: &str, count: u64| GlassCommand::Request {
        agent: agent.parse().unwrap(),
        reason: "INC-4711".parse().unwrap(),
        lasts: minutes(count),
    };
    let mut found = refusal(node, Command::BreakGlass(ask("payouts", 60))).await;
    let by = async |key: &AdminKey, command: GlassCommand| {
        let command = Command::BreakGlass(command);
        match node.control.execute(by_key(key), command).await {
            Err(CommandError::Refused(refusal)) => format!("- {refusal}\n"),
            Ok(_) => String::new(),
            other => panic!("{other:?}"),
        }
    };
    for command in [ask("payouts", 60), ask("stopped", 60)] {
        found += &by(&ops, command).await;
    }
    node.ok(suspend_sponsor("away")).await;
    for command in [ask("payouts", 300), ask("payouts", 60), ask("payouts", 60)] {
        found += &by(&ops, command).await;
    }
    let id = node.control.view(|state| {
        let last = state.break_glasses().last();
        last.map(|it| it.id.clone()).unwrap()
    });
    found += &by(&ops, GlassCommand::Open { id: id.clone() }).await;
    let fresh = key_of("fresh", 9);
    node.ok(Command::AddAdmin { key: fresh.clone() }).await;
    found += &by(&fresh, GlassCommand::Open { id: id.clone() }).await;
    node.clock.advance(minutes(15));
    found += &by(&duty, GlassCommand::Open { id: id.clone() }).await;
    let stranger = "b-stranger".parse().unwrap();
    found += &by(&duty, GlassCommand::Open { id: stranger }).await;
    found.replace(id.as_str(), "b-…")
}

fn directory_token() -> Command {
    Command::AddDirectoryToken {
        digest: Digest::of(b"a token"),
    }
}
