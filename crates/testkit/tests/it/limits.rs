//! Limits beside policy, and the switches of an upstream: they refuse on record, and who is over
//! one does not harm others.

use std::time::Duration;

use mcp::Era;
use serde_json::{Value, json};
use testkit::{Plane, Reply, Script, Speaks, Upstream, within};

use crate::common::{ANY, Client, ERAS};

const PRIVATE: &str = r#"{"path":"/private/a"}"#;

/// Where it was denied, as the record says; empty if it was not.
fn stage(plane: &Plane, reply: &Reply) -> String {
    plane
        .calls()
        .decision(reply.record().expect("a record"))
        .stage
        .unwrap_or_default()
}

#[tokio::test]
async fn an_agent_has_so_many_calls_a_minute() {
    let plane = Plane::with(|setup| setup.limits = "calls_per_minute = 6".to_owned()).await;
    let agent = plane.agent("triage").await;
    let other = plane.agent("other").await;
    let own = plane
        .register("own", json!({"limits": {"calls_per_minute": 2}}))
        .await;
    // Over all its instances.
    let clients = [
        agent.token("files").await.modern(),
        agent.token("files").await.modern(),
    ];
    for _ in 0..3 {
        for client in &clients {
            assert_eq!(client.call("anything", ANY).await.effect(), "allow");
        }
    }
    let reached = plane.files().calls();
    for client in &clients {
        let reply = client.call("anything", ANY).await;
        assert_eq!(&*stage(&plane, &reply), "limit", "{}", reply.json);
        assert!(
            reply.said().contains("in a minute, 6 in all. Wait 10 s"),
            "{}",
            reply.json
        );
    }
    assert_eq!(plane.files().calls(), reached);
    assert_eq!(
        other
            .token("files")
            .await
            .modern()
            .call("anything", ANY)
            .await
            .effect(),
        "allow"
    );
    let own = own.token("files").await.modern();
    let effects = [
        own.call("anything", ANY).await,
        own.call("anything", ANY).await,
        own.call("anything", ANY).await,
    ];
    assert_eq!(
        effects.map(|reply| reply.effect().to_owned()),
        ["allow", "allow", "deny"]
    );
    plane.clock.advance(Duration::from_secs(11));
    assert_eq!(clients[0].call("anything", ANY).await.effect(), "allow");
    assert_eq!(clients[1].call("anything", ANY).await.effect(), "deny");
    plane.end().await;
}

#[tokio::test]
async fn the_same_denial_over_and_over_ends_in_a_stop() {
    let plane = Plane::with(|setup| setup.limits = "same_denials = 3".to_owned()).await;
    let agent = plane.agent("triage").await;
    for era in ERAS {
        let client = Client::new(&agent.token("files").await, era).await;
        for _ in 0..3 {
            let reply = client.call("read_text_file", PRIVATE).await;
            assert_eq!(&*stage(&plane, &reply), "policy");
        }
        // Another argument that is denied for the same reason is the same.
        let reply = client
            .call("read_text_file", r#"{"path":"/private/b"}"#)
            .await;
        assert_eq!(&*stage(&plane, &reply), "limit");
        assert!(reply.said().starts_with("Stop: "), "{}", reply.json);
        // It may still do what it may.
        assert_eq!(client.call("anything", ANY).await.effect(), "allow");
        let reply = client.call("delete-file", PRIVATE).await;
        assert_eq!(&*stage(&plane, &reply), "policy", "{}", reply.json);
        let another = agent.token("files").await.modern();
        let reply = another.call("read_text_file", PRIVATE).await;
        assert_eq!(&*stage(&plane, &reply), "policy", "{}", reply.json);
        plane.clock.advance(Duration::from_secs(61));
        let reply = client.call("read_text_file", PRIVATE).await;
        assert_eq!(&*stage(&plane, &reply), "policy", "{}", reply.json);
    }
    plane.end().await;
}

#[tokio::test]
async fn an_instance_has_so_many_calls_in_its_life() {
    let mut plane = Plane::start().await;
    let limits = json!({"limits": {"calls_per_instance": 5}});
    let agent = plane.register("triage", limits).await;
    let tokens = [agent.token("files").await, agent.token("files").await];
    let clients = tokens.map(|token| token.modern());
    for start in 0..3 {
        for effect in ["allow", "allow", "deny"].iter().take(5 - 2 * start) {
            let call = match *effect {
                "allow" => clients[0].call("anything", ANY).await,
                _ => clients[0].call("read_text_file", PRIVATE).await,
            };
            assert_eq!(call.effect(), *effect, "start {start}: {}", call.json);
        }
        // What was refused is not spent, and what was permitted stays spent.
        match start {
            0 => plane.restart().await,
            1 => {
                plane.kill();
                plane.boot().await.unwrap();
            }
            _ => {}
        }
        plane.tools_known().await;
    }
    let reached = plane.files().calls();
    for _ in 0..2 {
        let reply = clients[0].call("anything", ANY).await;
        assert_eq!(&*stage(&plane, &reply), "limit", "{}", reply.json);
        assert!(
            reply.said().contains("in its life, 5 in all. Stop"),
            "{}",
            reply.json
        );
    }
    assert_eq!(plane.files().calls(), reached);
    assert_eq!(clients[1].call("anything", ANY).await.effect(), "allow");
    let shown = plane.admin("GET", "/v1/agents/triage", None).await.json();
    assert_eq!(shown["limits"]["calls_per_instance"], 5);
    plane.end().await;
}

#[tokio::test]
async fn what_is_refused_on_and_on_is_counted_and_not_told_again() {
    let plane = Plane::with(|setup| {
        setup.limits = "same_denials = 3".to_owned();
    })
    .await;
    let agent = plane.agent("triage").await;
    let client = agent.token("files").await.modern();
    for _ in 0..3 {
        client.call("read_text_file", PRIVATE).await;
    }
    let stopped = client.call("read_text_file", PRIVATE).await;
    let record = stopped.record().unwrap();
    let entries = plane.calls().calls.len();
    for _ in 0..20 {
        let reply = client.call("read_text_file", PRIVATE).await;
        assert_eq!(reply.record(), Some(record), "{}", reply.json);
        assert!(reply.said().starts_with("Stop: "), "{}", reply.json);
    }
    // Another name each time is no other denial; what an agent may never do, and a rate that it is
    // over, count as well.
    let narrow = plane
        .register("narrow", json!({"allow": ["files/x"]}))
        .await;
    let narrow = narrow.token("files").await.modern();
    for n in 0..24 {
        client.call(&format!("no-such-{n}"), "{}").await;
        narrow.call("anything", ANY).await;
    }
    let slow = json!({"limits": {"calls_per_minute": 1}});
    let slow = plane
        .register("slow", slow)
        .await
        .token("files")
        .await
        .modern();
    assert_eq!(slow.call("anything", ANY).await.effect(), "allow");
    for _ in 0..24 {
        let reply = slow.call("anything", ANY).await;
        assert!(
            reply.said().contains("in a minute, 1 in all. Wait 60 s"),
            "{}",
            reply.json
        );
    }
    let calls = plane.calls();
    let denied = calls.calls.split_at(entries).1.iter();
    let denied = denied.filter(|it| it.body["effect"] == "deny").count();
    assert_eq!(denied, 3 * 4);
    assert_eq!(plane.files().calls(), calls.of(ledger::Kind::Outcome).len());
    let mut plane = plane;
    plane.stop().await.unwrap();
    assert_eq!(plane.ledger().refused("repeated-denial"), 4 * 20);
    plane.end().await;
}

/// The bytes of all files of a folder, as far as they are on the disk.
fn on_disk(folder: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata().unwrap() {
            it if it.is_dir() => on_disk(&entry.path()),
            it => it.blocks() * 512,
        })
        .sum()
}

#[tokio::test]
async fn denied_calls_do_not_fill_the_disk() {
    const MIB: usize = 1024 * 1024;
    let plane = Plane::with(|setup| {
        setup.limits = "same_denials = 0\ndenied_kib_per_minute = 64".to_owned();
    })
    .await;
    let agent = plane.agent("triage").await;
    let client = agent.token("files").await.modern();
    let long = format!(r#"{{"path":"/private/{}"}}"#, "a".repeat(MIB));
    // The first write of all makes the segment.
    client.call("anything", ANY).await;
    let before = on_disk(&plane.data());
    for n in 0..50 {
        let tool = ["read_text_file", "no-such-tool"][n % 2];
        assert_eq!(client.call(tool, &long).await.effect(), "deny");
    }
    let grown = on_disk(&plane.data()).saturating_sub(before);
    assert!(grown < 4 * MIB as u64, "{grown} bytes");
    // Short arguments are kept, as long as there is room for them.
    let short = format!(r#"{{"path":"/private/{}"}}"#, "a".repeat(10_000));
    let mut kept = 0;
    for _ in 0..20 {
        let reply = client.call("read_text_file", &short).await;
        let decision = plane.calls().decision(reply.record().unwrap());
        kept += usize::from(decision.facts.bytes > 10_000);
    }
    assert_eq!(kept, 64 * 1024 / short.len());
    // A permit keeps them always.
    let permitted = format!(r#"{{"n":1,"text":"{}"}}"#, "a".repeat(MIB));
    let reply = client.call("anything", &permitted).await;
    assert_eq!(reply.effect(), "allow");
    let decision = plane.calls().decision(reply.record().unwrap());
    assert!(decision.facts.bytes > MIB as u64);
    let mut plane = plane;
    plane.stop().await.unwrap();
    let key = server::keys::facts_key(&plane.folder().join("keys"));
    let replayed = server::commands::ledger::replay(&plane.data(), Some(&key)).unwrap();
    let (same, bounded) = (2 + 25 + kept as u64, 25 + 20 - kept as u64);
    assert_eq!(
        json!(replayed),
        // A mebibyte of one letter could be anything: what came back was decided on, too.
        json!({"same": same, "responses": 1, "different": 0, "erased": 0, "sealed": 0, "bounded": bounded, "missing": 0})
    );
    plane.end().await;
}

#[tokio::test]
async fn an_instance_has_so_many_calls_in_flight() {
    let plane = Plane::with(|setup| setup.limits = "calls_in_flight = 2".to_owned()).await;
    let agent = plane.agent("triage").await;
    let client = Client::new(&agent.token("files").await, Era::Modern).await;
    let other = agent.token("files").await.modern();
    plane.files().script("anything", Script::Gate);
    let flights = [
        client.spawn_call("anything", ANY),
        client.spawn_call("anything", ANY),
    ];
    plane.files().until_under_way(2).await;
    let reply = client.call("anything", ANY).await;
    assert_eq!(&*stage(&plane, &reply), "limit", "{}", reply.json);
    assert!(reply.said().contains("in flight"), "{}", reply.json);
    plane.files().set_gate(true);
    assert_eq!(other.call("anything", ANY).await.effect(), "allow");
    for flight in flights {
        assert_eq!(within("a flight", flight).await.unwrap().effect(), "allow");
    }
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    plane.end().await;
}

#[tokio::test]
async fn an_instance_has_so_many_sessions() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let mut sessions = Vec::new();
    for _ in 0..vocab::limits::SESSIONS_PER_INSTANCE_MAX {
        sessions.push(token.legacy().await);
    }
    let hello = testkit::Legacy::hello("2025-11-25");
    let reply = Reply::from(token.ask("POST").json(hello.clone()).send().await);
    assert!(
        reply.is_error() && reply.said().contains("sessions open"),
        "{}",
        reply.json
    );
    assert!(reply.headers.get("mcp-session-id").is_none());
    // Others have their own, and an ended one makes room.
    agent.token("files").await.legacy().await;
    assert_eq!(sessions.pop().unwrap().delete().await.status, 204);
    token.legacy().await;
    plane.end().await;
}

#[tokio::test]
async fn the_names_of_policies_can_stay_here() {
    let plane = Plane::with(|setup| setup.top = "show_policies = false".to_owned()).await;
    let client = plane.agent("triage").await.token("files").await.modern();
    for (tool, arguments, policies) in [
        ("anything", ANY, "anyone-does-anything"),
        (
            "read_text_file",
            r#"{"path":"/public/drafts/a"}"#,
            "no-drafts",
        ),
    ] {
        let reply = client.call(tool, arguments).await;
        assert_eq!(reply.decision()["policies"], Value::Null, "{}", reply.json);
        assert!(reply.decision()["reason"].is_string());
        assert_eq!(
            plane.calls().decision(reply.record().unwrap()).policies,
            [policies]
        );
    }
    plane.end().await;
}

#[tokio::test]
async fn an_observed_upstream_lets_policy_denials_pass_until_a_date() {
    let plane = Plane::start().await;
    let tomorrow = plane.now().plus(Duration::from_hours(24)).day();
    let mut plane = plane;
    let agent = plane.agent("triage").await;
    let narrow = plane
        .register("narrow", json!({"allow": ["files/anything"]}))
        .await;
    plane.reconfigure(|setup| {
        let files = setup.upstreams["files"].0.clone();
        setup.upstream(
            "files",
            &files,
            &format!("mode = \"observe\"\nobserve_until = \"{tomorrow}\""),
        );
    });
    plane.restart().await;
    let client = agent.token("files").await.modern();
    for (tool, arguments, observed) in [
        ("anything", ANY, false),
        ("read_text_file", PRIVATE, true),
        ("read_text_file", r#"{"path":"/public/drafts/a"}"#, true),
    ] {
        let reply = client.call(tool, arguments).await;
        assert_eq!(
            (reply.effect(), reply.is_error()),
            ("allow", false),
            "{}",
            reply.json
        );
        let decision = plane.calls().decision(reply.record().unwrap());
        assert_eq!(decision.observed, observed, "{tool} {arguments}");
        assert_eq!(
            decision.stage.is_some(),
            observed,
            "what it would have been is on record"
        );
    }
    // Identity, authority and recording still say no.
    let reached = plane.files().calls();
    let reply = narrow
        .token("files")
        .await
        .modern()
        .call("read_text_file", PRIVATE)
        .await;
    assert_eq!(&*stage(&plane, &reply), "authority", "{}", reply.json);
    plane.faults.set(store::Fault::Full);
    assert!(client.call("read_text_file", PRIVATE).await.is_error());
    plane.faults.set(store::Fault::None);
    plane.command("/v1/agents/triage/suspend").await;
    assert_eq!(client.call("read_text_file", PRIVATE).await.status, 401);
    plane.command("/v1/agents/triage/resume").await;
    plane.clock.advance(Duration::from_hours(48));
    let reply = agent
        .token("files")
        .await
        .modern()
        .call("read_text_file", PRIVATE)
        .await;
    assert_eq!(&*stage(&plane, &reply), "policy", "{}", reply.json);
    assert_eq!(plane.files().calls(), reached);
    plane.end().await;
}

#[tokio::test]
async fn what_an_upstream_lets_through_is_its_own_configuration() {
    let lax = Upstream::start(Speaks::Both).await;
    let plane = Plane::with(|setup| {
        let more = "undeclared_arguments = \"allow\"\nnoncanonical_arguments = \"allow\"\n\
                    path_arguments = [\"refund/note\"]";
        setup.upstream("lax", &lax, more);
        setup.policies = r#"
            permit (principal, action, resource);
            @id("no-secrets") forbid (principal, action == Action::"lax/read_text_file", resource)
            when { context.canonical.path like "/secret/*" };
            @id("no-notes") forbid (principal, action == Action::"lax/refund", resource)
            when { context.canonical has note && context.canonical.note like "/secret/*" };
        "#
        .to_owned();
    })
    .await;
    let agent = plane.agent("triage").await;
    let (files, lax_client) = (
        agent.token("files").await.modern(),
        agent.token("lax").await.modern(),
    );
    let undeclared = r#"{"path":"/a","more":1}"#;
    let reply = files.call("read_text_file", undeclared).await;
    assert_eq!(&*stage(&plane, &reply), "schema");
    assert_eq!(
        lax_client.call("read_text_file", undeclared).await.effect(),
        "allow"
    );
    // Another form passes, and policy sees the one form that it has.
    let other = r#"{"path":"/public/../secret/a"}"#;
    let reply = files.call("read_text_file", other).await;
    assert_eq!(&*stage(&plane, &reply), "canonical");
    let reply = lax_client.call("read_text_file", other).await;
    assert_eq!(
        reply.decision()["policies"],
        json!(["no-secrets"]),
        "{}",
        reply.json
    );
    let reply = lax_client
        .call("read_text_file", r#"{"path":"/secret/../public/a"}"#)
        .await;
    assert_eq!(reply.effect(), "allow", "{}", reply.json);
    assert_eq!(
        lax.last_call().param("arguments").unwrap(),
        r#"{"path":"/secret/../public/a"}"#
    );
    let note = r#"{"order":"a","amount":1,"note":"/public/../secret/a"}"#;
    assert_eq!(
        lax_client.call("refund", note).await.decision()["policies"],
        json!(["no-notes"])
    );
    plane.end().await;
}

#[tokio::test]
async fn an_agent_can_do_no_more_than_it_may_ever_do() {
    let plane =
        Plane::with(|setup| setup.policies = "permit (principal, action, resource);".to_owned())
            .await;
    let agent = plane
        .register(
            "triage",
            json!({"allow": ["files/read_*", "files:resources/read"]}),
        )
        .await;
    for era in ERAS {
        let client = Client::new(&agent.token("files").await, era).await;
        assert_eq!(
            client.call("read_text_file", PRIVATE).await.effect(),
            "allow"
        );
        let reply = client.call("anything", ANY).await;
        assert_eq!(&*stage(&plane, &reply), "authority", "{}", reply.json);
        let uri = "file:///public/a.txt";
        let params = format!(r#""uri":"{uri}""#);
        let reply = client.request("resources/read", Some(uri), &params).await;
        assert!(!reply.is_error(), "{}", reply.json);
        let reply = client
            .request("prompts/get", Some("greet"), r#""name":"greet""#)
            .await;
        assert_eq!(
            (reply.effect(), &*stage(&plane, &reply)),
            ("deny", "authority")
        );
        let shown = client.request("tools/list", None, "").await.names("tools");
        assert_eq!(shown, ["read_text_file"]);
    }
    plane.end().await;
}
