//! The lifecycles as a table that people review.

use std::fmt::Write as _;

use super::*;
use crate::approval::{ApprovalEvent, ApprovalLife, ApprovalOver};
use crate::break_glass::{GlassEvent, GlassLife, GlassOver};
use crate::entry::AssertedAgents;
use crate::lifecycle::{
    Acceptance, AcceptanceEvent, AgentEvent, AgentLife, InstanceEvent, InstanceLife,
    InvalidTransition, KeyEvent, KeyLife, SigningEvent, SigningLife, SponsorEvent, SponsorLife,
    Switch, SwitchEvent,
};
use crate::standing::narrowed;

fn rows<L>(
    out: &mut String,
    state: &str,
    events: impl IntoIterator<Item = (String, Result<L, InvalidTransition>)>,
    name: fn(&L) -> &'static str,
) {
    for (event, after) in events {
        let after = match &after {
            Ok(life) => name(life),
            Err(_) => "-",
        };
        writeln!(out, "  {state:<10} {event:<16} {after}").unwrap();
    }
}

fn table() -> String {
    let at = Time::EPOCH;
    let mut out = String::from(
        "Which state follows which event; `-` cannot happen. Generated from `lifecycle.rs` and\n\
         compared by a test.\n\nsponsor\n",
    );
    for life in [
        SponsorLife::Active { since: at },
        SponsorLife::Suspended { since: at },
        SponsorLife::Erased { since: at },
    ] {
        let events = SponsorEvent::ALL.map(|on| (on.as_str().to_owned(), life.after(on, at)));
        rows(&mut out, life.as_str(), events, SponsorLife::as_str);
    }
    out.push_str("\nagent\n");
    for life in [
        AgentLife::Active { since: at },
        AgentLife::Suspended { since: at },
        AgentLife::Retired { since: at },
    ] {
        let events = AgentEvent::ALL.map(|on| (on.as_str().to_owned(), life.after(on, at)));
        rows(&mut out, life.as_str(), events, AgentLife::as_str);
    }
    out.push_str("\nacceptance\n");
    for state in [
        Acceptance::Asserted { since: at },
        Acceptance::Accepted { since: at },
        Acceptance::Lapsed { since: at },
    ] {
        let events = AcceptanceEvent::ALL.map(|on| (on.as_str().to_owned(), state.after(on, at)));
        rows(&mut out, state.as_str(), events, Acceptance::as_str);
    }
    out.push_str("\nan upstream, or everything\n");
    for state in [Switch::On, Switch::Off { since: at }] {
        let events = SwitchEvent::ALL.map(|on| (on.as_str().to_owned(), state.after(on, at)));
        rows(&mut out, state.as_str(), events, Switch::as_str);
    }
    out.push_str("\nagent's key\n");
    for life in [
        KeyLife::Current { since: at },
        KeyLife::Replaced { since: at },
    ] {
        let events = KeyEvent::ALL.map(|on| (on.as_str().to_owned(), life.after(on, at)));
        rows(&mut out, life.as_str(), events, KeyLife::as_str);
    }
    out.push_str("\nkey that signs\n");
    for life in [
        SigningLife::Announced { since: at },
        SigningLife::Current { since: at },
        SigningLife::Past { since: at },
        SigningLife::Retired { since: at },
        SigningLife::Compromised { since: at },
    ] {
        let events = SigningEvent::ALL.map(|on| (on.as_str().to_owned(), life.after(on, at)));
        rows(&mut out, life.as_str(), events, SigningLife::as_str);
    }
    out.push_str("\nbreak-glass\n");
    for life in [
        GlassLife::Requested {
            since: at,
            until: at,
        },
        GlassLife::Open {
            since: at,
            until: at,
        },
        GlassLife::Over {
            since: at,
            cause: GlassOver::Ended,
        },
    ] {
        let events = [
            GlassEvent::Open(Duration::ZERO),
            GlassEvent::End(GlassOver::Ended),
        ];
        let events = events.map(|on| (on.as_str().to_owned(), life.after(on, at)));
        rows(&mut out, life.as_str(), events, GlassLife::as_str);
    }
    out.push_str("\napproval\n");
    let (since, until) = (at, at);
    for life in [
        ApprovalLife::Pending { since, until },
        ApprovalLife::Granted { since, until },
        ApprovalLife::Refused { since, until },
        ApprovalLife::Used { since },
        ApprovalLife::Over {
            since,
            cause: ApprovalOver::Expired,
        },
    ] {
        let events = [
            ApprovalEvent::Join,
            ApprovalEvent::Grant(Duration::ZERO),
            ApprovalEvent::Refuse,
            ApprovalEvent::Use,
            ApprovalEvent::End(ApprovalOver::Expired),
        ];
        let events = events.map(|on| (on.as_str().to_owned(), life.after(on, at)));
        rows(&mut out, life.as_str(), events, ApprovalLife::as_str);
    }
    out.push_str("\ninstance\n");
    for life in [
        InstanceLife::Running,
        InstanceLife::Ended {
            since: at,
            reason: EndReason::Revoked,
        },
    ] {
        let ends = EndReason::ALL.map(InstanceEvent::End);
        let events = [InstanceEvent::Delegate, InstanceEvent::Refresh].into_iter();
        let events = events.chain(ends).map(|on| {
            let event = match on {
                InstanceEvent::End(reason) => format!("end ({})", reason.as_str()),
                InstanceEvent::Delegate | InstanceEvent::Refresh => on.as_str().to_owned(),
            };
            (event, life.after(on, at))
        });
        rows(&mut out, life.as_str(), events, InstanceLife::as_str);
    }
    out
}

/// What narrows an instance, by its own state and those above it.
async fn standings() -> String {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    let (instance, agent, sponsor) = node.control.view(|state| {
        let agent = state.agent(&"triage".parse().unwrap()).unwrap();
        (
            state.instance(&id).unwrap().as_ref().clone(),
            agent.as_ref().clone(),
            state.sponsor(&agent.sponsor).unwrap().as_ref().clone(),
        )
    });
    let since = node.now();
    let reason = EndReason::Revoked;
    let mut out = String::from("\nstanding: instance, agent, sponsor -> what narrows it\n");
    for (state, life, now) in [
        ("running", InstanceLife::Running, since),
        ("expired", InstanceLife::Running, instance.expires_at),
        ("ended", InstanceLife::Ended { since, reason }, since),
    ] {
        for agent_life in [
            AgentLife::Active { since },
            AgentLife::Suspended { since },
            AgentLife::Retired { since },
        ] {
            for sponsor_life in [
                SponsorLife::Active { since },
                SponsorLife::Suspended { since },
                SponsorLife::Erased { since },
            ] {
                let (mut instance, mut agent, mut sponsor) =
                    (instance.clone(), agent.clone(), sponsor.clone());
                instance.life = life;
                agent.life = agent_life;
                sponsor.life = sponsor_life;
                let asserted = AssertedAgents::Run;
                let sponsors = [&sponsor, &sponsor];
                let why = narrowed(&instance, &agent, sponsors, [false; 2], asserted, now);
                writeln!(
                    out,
                    "  {state:<10} {:<10} {:<10} {}",
                    agent_life.as_str(),
                    sponsor_life.as_str(),
                    why.map_or("(active)", Why::as_str),
                )
                .unwrap();
            }
        }
    }
    out
}

#[tokio::test]
async fn the_lifecycles_are_those_of_the_table() {
    let found = table() + &standings().await;
    let golden = include_str!("../../tests/lifecycles.txt");
    assert!(found == golden, "tests/lifecycles.txt should be:\n{found}");
}
