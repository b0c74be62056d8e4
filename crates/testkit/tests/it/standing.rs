//! Who may act at this moment: a cut holds on the very next call, ends what is in flight, and is
//! acknowledged when nothing permitted can follow it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use gateway::record::Came;
use ledger::Kind;
use serde_json::{Value, json};
use testkit::{Ledger, Plane, Script, Speaks, Upstream, until, within};

use crate::common::{ANY, Client, ERAS, assert_challenged};

/// A way of taking away what somebody may do.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// The command that does it; `{}` is the instance.
    command: &'static str,
    /// The command that takes it back.
    back: Option<&'static str>,
    /// The entry that says so.
    kind: Kind,
    /// What the next request is told.
    why: &'static str,
    /// The OAuth error that a request for a token gets, if it gets one.
    token: Option<&'static str>,
}

const CUTS: [Cut; 4] = [
    Cut {
        command: "/v1/agents/triage/suspend",
        back: Some("/v1/agents/triage/resume"),
        kind: Kind::AgentSuspended,
        why: "the agent is suspended",
        token: Some("unauthorized_client"),
    },
    Cut {
        command: "/v1/sponsors/maya/suspend",
        back: Some("/v1/sponsors/maya/resume"),
        kind: Kind::SponsorSuspended,
        why: "the agent's sponsor is suspended",
        token: Some("unauthorized_client"),
    },
    Cut {
        command: "/v1/agents/triage/retire",
        back: None,
        kind: Kind::AgentRetired,
        why: "the agent is retired",
        token: Some("unauthorized_client"),
    },
    Cut {
        command: "/v1/instances/{}/revoke",
        back: None,
        kind: Kind::InstanceEnded,
        why: "the instance was ended",
        token: None,
    },
];

async fn check(cut: Cut, speaks: Speaks) {
    let files = Upstream::start(speaks).await;
    let plane = Plane::with(|setup| setup.upstream("files", &files, "")).await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let modern = Client::new(&token, mcp::Era::Modern).await;
    let session = token.legacy().await;
    let legacy = Client::Legacy(session.clone());
    let other = plane.register("other", json!({"sponsor": "otto"})).await;
    let others = Client::new(&other.token("files").await, mcp::Era::Modern).await;

    // In flight: two that the upstream does not begin to answer, one whose answer has begun, the
    // client's own stream, and one of somebody else.
    files.script("anything", Script::Hang);
    let mut flights = vec![
        modern.spawn_call("anything", ANY),
        legacy.spawn_call("anything", ANY),
    ];
    files.until_under_way(2).await;
    files.script("anything", Script::HangStream);
    flights.push(modern.spawn_call("anything", ANY));
    files.until_under_way(3).await;
    files.script("anything", Script::Gate);
    let unharmed = others.spawn_call("anything", ANY);
    files.until_under_way(4).await;
    let mut stream = if speaks == Speaks::Modern {
        None
    } else {
        Some(session.stream().await)
    };
    if stream.is_some() {
        until("the stream is open", async || files.streams() == 1).await;
    }
    let permits = plane.calls().of(Kind::Decision).len();
    let reached = files.calls();

    let done = plane
        .command(&cut.command.replace("{}", &token.instance))
        .await;

    // The acknowledgement finds its barrier durable, after everything that was permitted.
    let ledger = plane.ledger();
    let record = done["records"][0]["index"].as_u64().unwrap();
    assert_eq!(
        ledger.control[usize::try_from(record).unwrap()].kind,
        cut.kind
    );
    let barrier = ledger.last(Kind::Barrier);
    assert!(
        barrier.body["control_size"].as_u64().unwrap() > record,
        "{}",
        barrier.text
    );
    assert_eq!(barrier.body["cause"], cut.kind.as_str());
    assert!(
        ledger
            .of(Kind::Decision)
            .iter()
            .all(|it| it.index < barrier.index)
    );

    // What was in flight ends, here and there; what the client hears says so.
    for flight in flights {
        let reply = within("what was cut to end", flight).await.unwrap();
        assert!(
            reply.said().contains("may not act any more"),
            "{}",
            reply.json
        );
        let told = "Whether the upstream acted is not known.";
        assert!(reply.said().contains(told), "{}", reply.json);
        let index = reply.record().unwrap();
        let outcome = plane.calls().outcome(index).expect("an outcome");
        assert_eq!(
            (outcome.result, outcome.cause.as_deref()),
            (Came::Unknown, Some("cut"))
        );
    }
    if let Some(stream) = &mut stream {
        assert_eq!(
            stream.next().await,
            None,
            "the stream outlived its instance"
        );
        until("the upstream's stream is closed", async || {
            files.streams() == 0
        })
        .await;
    }
    files.until_under_way(1).await;

    // The very next request of each kind is turned away, and reaches nothing.
    for client in [&modern, &legacy] {
        assert_challenged(&client.call("anything", ANY).await, 401, cut.why);
        assert_challenged(&client.request("tools/list", None, "").await, 401, cut.why);
    }
    let answer = agent
        .token_request("files", token.key().map(|it| &**it))
        .send()
        .await;
    match cut.token {
        Some(code) => {
            assert_eq!(
                (answer.status.as_u16(), &answer.json()["error"]),
                (400, &json!(code))
            );
        }
        None => assert_ne!(answer.json()["instance"], *token.instance, "it was ended"),
    }
    assert_eq!(files.calls(), reached);
    assert_eq!(plane.calls().of(Kind::Decision).len(), permits);

    // Nobody else noticed.
    files.set_gate(true);
    let reply = within("the other's call", unharmed).await.unwrap();
    assert_eq!(
        (reply.effect(), reply.is_error()),
        ("allow", false),
        "{}",
        reply.json
    );

    if let Some(back) = cut.back {
        plane.command(back).await;
        assert_eq!(modern.call("anything", ANY).await.effect(), "allow");
        // The session was closed and stays so.
        assert_eq!(legacy.call("anything", ANY).await.status, 404);
        let again = Client::Legacy(token.legacy().await);
        assert_eq!(again.call("anything", ANY).await.effect(), "allow");
    } else {
        assert_challenged(&modern.call("anything", ANY).await, 401, cut.why);
    }
    plane.end().await;
}

#[tokio::test]
async fn a_suspended_agent() {
    check(CUTS[0], Speaks::Both).await;
}

#[tokio::test]
async fn a_suspended_sponsor() {
    check(CUTS[1], Speaks::Legacy).await;
}

#[tokio::test]
async fn a_retired_agent() {
    check(CUTS[2], Speaks::Modern).await;
}

#[tokio::test]
async fn a_revoked_instance() {
    check(CUTS[3], Speaks::Both).await;
}

#[tokio::test]
async fn a_cut_is_idempotent_and_proven_each_time() {
    let plane = Plane::start().await;
    plane.agent("triage").await;
    let barriers = |ledger: Ledger| ledger.of(Kind::Barrier).len();
    let before = barriers(plane.calls());
    let first = plane.command("/v1/agents/triage/suspend").await;
    let second = plane.command("/v1/agents/triage/suspend").await;
    assert_eq!(
        (&first["changed"], &second["changed"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        (&first["status"], &second["status"]),
        (&json!("suspended"), &json!("suspended"))
    );
    assert_eq!(barriers(plane.calls()), before + 2);
    plane.end().await;
}

#[tokio::test]
async fn no_permit_follows_a_barrier_under_load() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    for command in ["/v1/agents/triage/suspend", "/v1/sponsors/maya/suspend"] {
        let acknowledged = Arc::new(AtomicBool::new(false));
        let permitted = Arc::new(AtomicUsize::new(0));
        let mut workers = Vec::new();
        for _ in 0..4 {
            let client = agent.token("files").await.modern();
            let (acknowledged, permitted) = (Arc::clone(&acknowledged), Arc::clone(&permitted));
            workers.push(tokio::spawn(async move {
                loop {
                    let late = acknowledged.load(Ordering::SeqCst);
                    let reply = client.call("anything", ANY).await;
                    let stands = reply.effect() == "allow" && !reply.is_error();
                    assert!(!(late && stands), "permitted after the acknowledgement");
                    permitted.fetch_add(usize::from(stands), Ordering::SeqCst);
                    if late {
                        return;
                    }
                }
            }));
        }
        until("there is load", async || {
            permitted.load(Ordering::SeqCst) > 20
        })
        .await;
        plane.command(command).await;
        let reached = plane.files().calls();
        acknowledged.store(true, Ordering::SeqCst);
        for worker in workers {
            within("a worker", worker).await.unwrap();
        }
        assert_eq!(
            plane.files().calls(),
            reached,
            "something was sent after the acknowledgement"
        );
        plane.command(&command.replace("suspend", "resume")).await;
    }
    plane.end().await;
}

#[tokio::test]
async fn a_call_that_waits_for_its_upstream_is_not_sent_after_a_cut() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let files = Upstream::start(speaks).await;
        let plane = Plane::with(|setup| setup.upstream("files", &files, "")).await;
        let agent = plane.agent("triage").await;
        let client = agent.token("files").await.modern();
        files.set_silent(true);
        let ask = client.ask_call("anything", ANY);
        let flight = tokio::spawn(ask.send());
        until("the upstream was asked", async || files.under_way() > 0).await;
        plane.command("/v1/agents/triage/suspend").await;
        let reached = files.calls();
        files.set_silent(false);
        let reply = testkit::Reply::from(within("the call", flight).await.unwrap());
        assert!(reply.is_error(), "{}", reply.json);
        assert_eq!(files.calls(), reached, "it was sent after the cut");
        plane.end().await;
    }
}

#[tokio::test]
async fn tokens_and_instances_expire() {
    let plane = Plane::start().await;
    let agent = plane
        .register("triage", json!({"max_lifetime_s": 3600, "idle_s": 1000}))
        .await;
    let key = agent.fresh_key();
    let token = agent.token_by("files", &key).await;
    let call = async |token: &testkit::Token| token.modern().call("anything", ANY).await;
    assert_eq!(call(&token).await.effect(), "allow");
    plane.clock.advance(Duration::from_secs(301));
    assert_challenged(&call(&token).await, 401, "the access token expired");
    // The same key goes on with the same instance.
    let again = agent.token_by("files", &key).await;
    assert_eq!(again.instance, token.instance);
    assert_eq!(call(&again).await.effect(), "allow");
    // Idle too long.
    plane.clock.advance(Duration::from_secs(999));
    let third = agent.token_by("files", &key).await;
    assert_eq!(third.instance, token.instance, "asking for a token is use");
    plane.clock.advance(Duration::from_secs(1001));
    let fourth = agent.token_by("files", &key).await;
    assert_ne!(fourth.instance, token.instance);
    // Over its lifetime: each token of it lives less long than the instance would.
    for _ in 0..3 {
        plane.clock.advance(Duration::from_mins(15));
        assert_eq!(
            agent.token_by("files", &key).await.instance,
            fourth.instance
        );
    }
    plane.clock.advance(Duration::from_secs(850));
    let last = agent.token_by("files", &key).await;
    assert_eq!(call(&last).await.effect(), "allow");
    plane.clock.advance(Duration::from_secs(100));
    assert_challenged(&call(&last).await, 401, "the instance has expired");
    // The agent's key, in the end.
    plane.clock.advance(Duration::from_hours(91 * 24));
    let answer = agent.token_request("files", None).send().await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]),
        (401, &json!("invalid_client"))
    );
    plane.end().await;
}

#[tokio::test]
async fn what_is_in_flight_ends_with_its_instance() {
    let plane = Plane::start().await;
    let agent = plane
        .register("triage", json!({"max_lifetime_s": 60}))
        .await;
    let token = agent.token("files").await;
    let mut flights = Vec::new();
    let mut streams = Vec::new();
    let mut clients = Vec::new();
    for era in ERAS {
        let client = Client::new(&token, era).await;
        if let Client::Legacy(client) = &client {
            streams.push(client.stream().await);
        }
        clients.push(client);
    }
    plane.clock.advance(Duration::from_secs(59));
    for client in &clients {
        for script in [Script::Hang, Script::HangStream] {
            plane.files().script("anything", script);
            flights.push(client.spawn_call("anything", ANY));
            plane.files().until_under_way(flights.len()).await;
        }
    }
    for flight in flights {
        let reply = within("what is in flight", flight).await.unwrap();
        assert!(
            reply.said().contains("may not act any more"),
            "{}",
            reply.json
        );
        let told = "Whether the upstream acted is not known.";
        assert!(reply.said().contains(told), "{}", reply.json);
        let outcome = plane.calls().outcome(reply.record().unwrap()).unwrap();
        assert_eq!(outcome.cause.as_deref(), Some("instance-expired"));
    }
    for mut stream in streams {
        assert_eq!(stream.next().await, None);
    }
    plane.files().until_under_way(0).await;
    plane.end().await;
}

#[tokio::test]
async fn a_node_that_stops_does_not_wait_for_idle_streams() {
    let mut plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let session = agent.token("files").await.legacy().await;
    let mut stream = session.stream().await;
    until("the stream is open", async || plane.files().streams() == 1).await;
    // What is in flight would have five seconds, and nothing is.
    let stopped = tokio::time::timeout(Duration::from_secs(5), plane.stop()).await;
    stopped.expect("it waits for the stream").unwrap();
    assert_eq!(stream.next().await, None);
    plane.end().await;
}

/// Whoever has a token takes up few places of the listener.
#[tokio::test]
async fn an_instance_has_four_streams_of_its_standing_and_a_newer_one_ends_the_oldest() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let [token, other] = [agent.token("files").await, agent.token("files").await];
    assert_ne!(token.instance, other.instance);
    let open = async |token: &testkit::Token| {
        let ask = token.ask("GET").header("accept", "text/event-stream");
        let stream = ask.header("tipstaff-standing", "?1").open().await;
        assert_eq!(stream.status, 200);
        stream
    };
    let others = open(&other).await;
    let mut oldest = open(&token).await;
    let mut streams = Vec::new();
    for _ in 0..vocab::limits::STANDING_PER_INSTANCE_MAX {
        streams.push(open(&token).await);
    }
    // It is told nothing: nothing is wrong.
    assert_eq!(oldest.next().await, None);
    plane.command("/v1/agents/triage/suspend").await;
    streams.push(others);
    for mut stream in streams {
        let said = stream.next().await.unwrap();
        assert_eq!(said["standing"], "agent-suspended", "{said}");
        assert_eq!(stream.next().await, None);
    }
    plane.end().await;
}

/// What such a key seals would be gone when the erasure is finished.
#[tokio::test]
async fn no_facts_are_sealed_by_a_key_whose_erasure_is_on_record_and_unfinished() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let call = async || token.modern().call("anything", ANY).await;
    let key = || {
        let last = plane.calls().last(Kind::Decision).body["facts"]["key"].clone();
        last.as_str().unwrap().to_owned()
    };
    assert_eq!(call().await.effect(), "allow");
    let first = key();
    // A folder in its place is not removed.
    let file = plane.data().join("keyring").join(&first);
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let erase = || plane.admin("POST", "/v1/erase", Some(json!({"what": first})));
    let unfinished = erase().await;
    assert_eq!(unfinished.status, 503, "{}", unfinished.text());
    assert_eq!(unfinished.json()["error"], "erase-unfinished");
    let decisions = || plane.calls().of(Kind::Decision).len();
    let before = decisions();
    let refused = call().await;
    assert!(
        refused.said().contains("could not be put on record"),
        "{}",
        refused.json
    );
    assert_eq!(decisions(), before);
    std::fs::remove_dir(&file).unwrap();
    assert_eq!(call().await.effect(), "allow");
    let second = key();
    assert_ne!(second, first);
    assert_eq!(erase().await.status, 200);
    assert_eq!(call().await.effect(), "allow");
    assert_eq!(key(), second);
    plane.end().await;
}

#[tokio::test]
async fn standing_survives_a_restart() {
    let mut plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let other = plane.register("other", json!({"sponsor": "otto"})).await;
    let (token, others) = (agent.token("files").await, other.token("files").await);
    plane.command("/v1/agents/triage/suspend").await;
    plane.restart().await;
    let reply = token.modern().call("anything", ANY).await;
    assert_challenged(&reply, 401, "the agent is suspended");
    assert_eq!(
        others.modern().call("anything", ANY).await.effect(),
        "allow"
    );
    plane.end().await;
}

#[tokio::test]
async fn an_erased_sponsor_is_gone_and_the_proofs_stay() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    assert_eq!(token.modern().call("anything", ANY).await.effect(), "allow");
    let erase = || plane.admin("POST", "/v1/erase", Some(json!({"what": "maya"})));
    assert_eq!(
        erase().await.status,
        422,
        "only a suspended sponsor is erased"
    );
    plane.command("/v1/sponsors/maya/suspend").await;
    assert_eq!(erase().await.status, 200);
    let sponsors: Value = plane.admin("GET", "/v1/sponsors", None).await.json();
    assert_eq!(
        (&sponsors[0]["id"], &sponsors[0]["name"]),
        (&Value::Null, &Value::Null)
    );
    let reply = token.modern().call("anything", ANY).await;
    assert_challenged(&reply, 401, "the agent's sponsor is");
    plane.end().await;
}
