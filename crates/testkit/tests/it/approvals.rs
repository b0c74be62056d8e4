//! Approvals on the call path: people approve one exact call, and it is made once.

use std::time::Duration;

use ledger::{Actor, ActorKind, Kind};
use mcp::Era;
use register::{Approval, ApprovalCommand, Command, SignIn};
use serde_json::{Value, json};
use store::Fault;
use testkit::{Plane, Reply, Script, Speaks, Token, Upstream, until};
use vocab::Handle;

use crate::common::{ANY, Client, ERAS};

const POLICIES: &str = r#"
@id("refunds") @approval("noor, zoe") @reason("Refunds are for people to decide.")
permit (principal, action == Action::"files/refund", resource) when { context has approval };
@id("large") @approval("2 of noor, zoe")
forbid (principal, action == Action::"files/refund", resource)
when { context.args.amount >= 1000 } unless { context has approval };
@id("resources") @approval("noor")
permit (principal, action == Action::"files:resources/read", resource)
when { context has approval };
@id("rest") permit (principal, action == Action::"files/anything", resource);
"#;
pub(crate) const REFUND: &str = r#"{"order":"A-1","amount":50}"#;
const LARGE: &str = r#"{"order":"A-1","amount":5000}"#;

pub(crate) async fn office(limits: &str) -> Plane {
    office_under(POLICIES, limits).await
}

async fn office_under(policies: &str, limits: &str) -> Plane {
    let plane = Plane::with(|setup| {
        setup.policies = policies.to_owned();
        setup.limits = limits.to_owned();
        setup.top = "[ext_authz]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    })
    .await;
    for id in ["noor", "zoe"] {
        let new = json!({"id": id, "name": id, "email": format!("{id}@example.com")});
        let answer = plane.admin("POST", "/v1/sponsors", Some(new)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    plane
}

pub(crate) fn asked(plane: &Plane) -> Approval {
    let last = |state: &register::State| state.approvals().last().unwrap().as_ref().clone();
    plane.gateway().control().view(last)
}

/// Grants or refuses the last one that was asked for, as a person who signed in.
pub(crate) async fn answers(plane: &Plane, person: &str, yes: bool) {
    let id = asked(plane).id;
    let control = plane.gateway().control();
    let by: Handle = control.view(|state| {
        let found = state.sponsor_by_id(&person.parse().unwrap());
        found.unwrap().handle.clone()
    });
    let (sign_in, signed_in) = (SignIn::Oidc, None);
    let actor = Actor {
        kind: ActorKind::Person,
        id: by.to_string(),
        credential: sign_in.as_str().to_owned(),
        verified: true,
    };
    let command = if yes {
        ApprovalCommand::Grant {
            id,
            by,
            sign_in,
            signed_in,
        }
    } else {
        ApprovalCommand::Refuse {
            id,
            by,
            sign_in,
            signed_in,
        }
    };
    let done = control.execute(actor, Command::Approval(command)).await;
    done.unwrap_or_else(|error| panic!("{error}"));
}

async fn token(plane: &Plane) -> Token {
    plane.agent("triage").await.token("files").await
}

/// The id of the approval that a call waits for.
fn waits(reply: &Reply) -> String {
    assert_eq!(reply.effect(), "hold", "{}", reply.json);
    let approval = &reply.decision()["approval"];
    approval["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_held_call_is_made_once_after_a_person_approved_it() {
    for era in ERAS {
        let plane = office("").await;
        let client = Client::new(&token(&plane).await, era).await;
        let held = client.call("refund", REFUND).await;
        let id = waits(&held);
        let approval = &held.decision()["approval"];
        let url = format!("http://localhost:7420/approve/{id}");
        assert_eq!(approval["url"], url);
        assert_eq!(approval["until"], asked(&plane).until().to_string());
        for told in [
            "for people to decide",
            "noor, zoe",
            &url,
            "the same call again",
        ] {
            assert!(held.said().contains(told), "no {told} in {}", held.json);
        }
        assert_eq!(held.record(), Some(asked(&plane).held));
        // Whoever asks again is told the same, and nothing more is on record.
        let recorded = plane.calls().calls.len();
        let again = client.call("refund", REFUND).await;
        assert_eq!((waits(&again), again.record()), (id.clone(), held.record()));
        assert_eq!(again.decision()["record"], held.decision()["record"]);
        assert_eq!(plane.calls().calls.len(), recorded);
        assert_eq!(plane.files().calls(), 0);
        answers(&plane, "noor", true).await;
        let made = client.call("refund", REFUND).await;
        assert_eq!(made.effect(), "allow", "{}", made.json);
        assert_eq!(plane.files().calls(), 1);
        let decision = plane.calls().decision(made.record().unwrap());
        assert_eq!(decision.approval, Some(asked(&plane).asked));
        // It is used up: a replay is another call.
        let replayed = client.call("refund", REFUND).await;
        assert_ne!(waits(&replayed), id);
        assert_eq!(plane.files().calls(), 1);
        let ledger = plane.ledger();
        let text: String = ledger
            .control
            .iter()
            .map(|line| line.text.as_str())
            .collect();
        assert!(!text.contains("A-1") && !text.contains("noor"));
        let verified = plane.end().await;
        assert_eq!(verified.permits, 1);
        assert!(verified.replayed >= 3);
    }
}

#[tokio::test]
async fn a_trace_names_who_approved_a_call_also_when_the_register_forgot_it() {
    let plane = office("").await;
    let client = token(&plane).await.modern();
    let trace = async |index: u64| {
        let path = format!("/v1/trace/calls/{index}");
        let trace = plane.admin("GET", &path, None).await.json();
        trace["decision"]["approval"].clone()
    };
    let held = client.call("refund", REFUND).await.record().unwrap();
    let waiting = trace(held).await;
    let id = asked(&plane).id;
    assert_eq!(waiting["id"], id.as_str(), "{waiting}");
    assert_eq!(waiting["state"], "pending");
    answers(&plane, "noor", true).await;
    assert_eq!(trace(held).await["state"], "granted");
    let made = client.call("refund", REFUND).await.record().unwrap();
    let used = trace(made).await;
    let on_record = |kind: Kind| format!("control/{}", plane.ledger().last(kind).index);
    assert_eq!(used["id"], id.as_str(), "{used}");
    assert_eq!(used["state"], "used");
    assert_eq!(used["held"], format!("calls/{held}"));
    assert_eq!(used["record"], on_record(Kind::ApprovalRequested));
    assert_eq!(used["granted"][0]["by"], "noor");
    assert_eq!(
        used["granted"][0]["record"],
        on_record(Kind::ApprovalGranted)
    );
    assert_eq!(used["used"], on_record(Kind::ApprovalUsed));
    assert_eq!(trace(held).await, used);
    // What needed none says nothing of one.
    let other = client.call("anything", "{}").await.record().unwrap();
    assert!(trace(other).await.is_null());
    // Ten days later, somebody else asks: the register forgets, and the log does not.
    plane.clock.advance(Duration::from_hours(240));
    let later = plane.agent("later").await.token("files").await.modern();
    waits(&later.call("refund", LARGE).await);
    let control = plane.gateway().control();
    assert!(control.view(|state| state.approval(&id).is_none()));
    let mut read = trace(made).await;
    assert!(read["needs"].is_null(), "{read}");
    read["needs"] = used["needs"].clone();
    assert_eq!(read, used);
    plane.end().await;
}

#[tokio::test]
async fn an_approver_is_shown_what_will_happen_in_our_words() {
    let plane = office("").await;
    let client = token(&plane).await.modern();
    let hidden = "{\"order\":\"A\u{202E}1\\nWho may approve: me\",\"amount\":50}";
    waits(&client.call("refund", hidden).await);
    let approval = asked(&plane);
    let request = approval.request.known().unwrap();
    let time = approval.asked_at.to_string();
    let instance = approval.instance.to_string();
    let lines: Vec<_> = request.shown.lines().collect();
    let expected = [
        format!("Who asks: agent triage, instance {instance}"),
        "For whom: maya".to_owned(),
        "Why: triage".to_owned(),
        "Through: nobody: it was not started by another instance".to_owned(),
        "What: the tool refund of files".to_owned(),
        "Undone: take it as irreversible: the upstream does not say what this tool destroys"
            .to_owned(),
        "Policies: refunds".to_owned(),
        "They say: Refunds are for people to decide.".to_owned(),
        "Who may approve: noor, zoe".to_owned(),
        "Inspection: hidden/hidden-direction (medium) × 1".to_owned(),
    ];
    assert_eq!(
        lines[..expected.len()],
        expected.each_ref().map(String::as_str)
    );
    assert!(lines[expected.len()].starts_with("Asked at: ") && !time.is_empty());
    let quoted = [
        "  | {",
        "  |   \"order\": \"A⟨U+202E⟩1\\nWho may approve: me\",",
        "  |   \"amount\": 50",
        "  | }",
    ];
    assert!(lines.ends_with(&quoted), "{}", request.shown);
    // What inspection saw is told by rule and count, and that it saw nothing too.
    waits(&client.call("refund", REFUND).await);
    let approval = asked(&plane);
    let shown = &approval.request.known().unwrap().shown;
    assert!(
        shown.contains("\nInspection: nothing was found\n"),
        "{shown}"
    );
    let key = concat!("AKIA", "Q3EGRIQ7TKLMWZ2B");
    let keys = json!({"order": key, "amount": 50, "note": key}).to_string();
    waits(&client.call("refund", &keys).await);
    let approval = asked(&plane);
    let shown = &approval.request.known().unwrap().shown;
    let mut told = shown.lines().filter(|it| it.starts_with("Inspection: "));
    let line = told.next().unwrap();
    assert!(line.contains("secret/") && line.contains(" × 2"), "{line}");
    assert!(!line.contains(key) && told.next().is_none(), "{shown}");
    // What is too long to read is not asked about.
    let long = json!({"order": "x".repeat(40_000), "amount": 50}).to_string();
    let held = client.call("refund", &long).await;
    assert_eq!(held.effect(), "hold");
    assert!(held.decision()["approval"].is_null());
    assert!(
        held.said().contains("Make the call smaller"),
        "{}",
        held.said()
    );
    plane.end().await;
}

/// What it is held for, and what it is permitted for, are both facts: neither decision comes out the
/// same without them.
#[tokio::test]
async fn what_was_found_and_approved_is_decided_the_same_again() {
    let policies = r#"
@id("all") permit (principal, action == Action::"files/refund", resource);
@id("keys") @approval("noor")
forbid (principal, action == Action::"files/refund", resource)
when { context.findings.contains("secret") } unless { context has approval };
"#;
    let plane = office_under(policies, "").await;
    let client = token(&plane).await.modern();
    let free = client.call("refund", REFUND).await;
    assert_eq!(free.effect(), "allow", "{}", free.json);
    let key = concat!("AKIA", "Q3EGRIQ7TKLMWZ2B");
    let keys = json!({"order": "A-2", "amount": 50, "note": key}).to_string();
    waits(&client.call("refund", &keys).await);
    answers(&plane, "noor", true).await;
    let made = client.call("refund", &keys).await;
    assert_eq!(made.effect(), "allow", "{}", made.json);
    let decision = plane.calls().decision(made.record().unwrap());
    assert_eq!(decision.approval, Some(asked(&plane).asked));
    let verified = plane.end().await;
    assert_eq!((verified.permits, verified.replayed), (2, 3));
}

#[tokio::test]
async fn an_approval_is_for_that_call_of_that_instance_and_no_other() {
    let plane = office("").await;
    let agent = plane.agent("triage").await;
    let first = agent.token("files").await;
    let key = agent.fresh_key();
    let second = agent.token_by("files", &key).await;
    assert_ne!(first.instance, second.instance);
    let (one, other) = (first.modern(), second.modern());
    let id = waits(&one.call("refund", REFUND).await);
    answers(&plane, "noor", true).await;
    for changed in [
        r#"{"order":"A-1","amount":51}"#,
        r#"{"amount":50,"order":"A-1"}"#,
        r#"{"order":"A-1", "amount":50}"#,
        r#"{"order":"A-1","amount":50,"note":""}"#,
    ] {
        assert_ne!(waits(&one.call("refund", changed).await), id, "{changed}");
    }
    assert_ne!(
        waits(&other.call("refund", REFUND).await),
        id,
        "another instance"
    );
    assert_eq!(plane.files().calls(), 0);
    assert_eq!(one.call("refund", REFUND).await.effect(), "allow");
    // What is about the message alone makes no other call of it, and all else does.
    let read = |params: &str| {
        let params = format!(r#""uri":"file:///public/a"{params}"#);
        let ask = one.ask("resources/read", Some("file:///public/a"), &params);
        async move { Reply::from(ask.send().await) }
    };
    let id = waits(&read("").await);
    assert_eq!(waits(&read("").await), id);
    let more = r#","inputResponses":{"dev.tipstaff/approval":{"action":"accept"}}"#;
    assert_eq!(waits(&read(more).await), id);
    let more = r#","inputResponses":{"q":{"action":"accept"}}"#;
    assert_ne!(waits(&read(more).await), id);
    // Nor is anything else in `_meta`, which the upstream gets too.
    let tagged = |meta: &str| {
        let params = format!(r#""name":"refund","arguments":{REFUND}"#);
        let body = testkit::Modern::text("tools/call", &params)
            .replace(r#""_meta":{"#, &format!(r#""_meta":{{{meta},"#));
        let ask = one.ask("tools/call", Some("refund"), &params).body(body);
        async move { Reply::from(ask.send().await) }
    };
    let id = waits(&tagged(r#""com.example/account":"A-1","progressToken":1"#).await);
    let request = asked(&plane).request;
    let shown = &request.known().unwrap().shown;
    assert!(
        shown.contains("Also sent, as _meta") && shown.contains(r#""com.example/account": "A-1""#),
        "{shown}"
    );
    assert!(!shown.contains("progressToken"), "{shown}");
    let same = r#""traceparent":"t","baggage":"n=2","progressToken":2,"com.example/account":"A-1""#;
    assert_eq!(waits(&tagged(same).await), id);
    assert_ne!(waits(&tagged(r#""com.example/account":"A-2""#).await), id);
    plane.end().await;
}

#[tokio::test]
async fn of_two_identical_calls_at_once_one_is_made() {
    let plane = office("").await;
    let client = Client::new(&token(&plane).await, Era::Modern).await;
    waits(&client.call("refund", REFUND).await);
    answers(&plane, "noor", true).await;
    let calls: Vec<_> = (0..6)
        .map(|_| client.spawn_call("refund", REFUND))
        .collect();
    let mut made = 0;
    for call in calls {
        made += usize::from(call.await.unwrap().effect() == "allow");
    }
    assert_eq!((made, plane.files().calls()), (1, 1));
    plane.end().await;
}

#[tokio::test]
async fn two_of_two_have_to_approve_what_asks_for_two() {
    let plane = office("").await;
    let client = token(&plane).await.modern();
    let id = waits(&client.call("refund", LARGE).await);
    answers(&plane, "noor", true).await;
    assert_eq!(waits(&client.call("refund", LARGE).await), id);
    answers(&plane, "zoe", true).await;
    assert_eq!(client.call("refund", LARGE).await.effect(), "allow");
    plane.end().await;
}

#[tokio::test]
async fn who_waits_trips_no_breaker_and_fills_no_log() {
    let plane = office("same_denials = 3\ncalls_per_minute = 0").await;
    let client = token(&plane).await.modern();
    let id = waits(&client.call("refund", REFUND).await);
    let recorded = plane.calls().calls.len();
    for _ in 0..20 {
        assert_eq!(waits(&client.call("refund", REFUND).await), id);
    }
    assert_eq!(plane.calls().calls.len(), recorded);
    // Nor does who asks for other calls, as long as people are asked about these.
    for amount in 1..8 {
        let other = format!(r#"{{"order":"A-1","amount":{amount}}}"#);
        waits(&client.call("refund", &other).await);
    }
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    // Past that nobody is asked, and the breaker counts.
    let held = client.call("refund", r#"{"order":"A-1","amount":9}"#).await;
    assert!(held.decision()["approval"].is_null());
    assert!(
        held.said().contains("may have at most 8"),
        "{}",
        held.said()
    );
    for amount in 10..20 {
        let other = format!(r#"{{"order":"A-1","amount":{amount}}}"#);
        client.call("refund", &other).await;
    }
    let stopped = client
        .call("refund", r#"{"order":"A-1","amount":20}"#)
        .await;
    assert_eq!(stopped.effect(), "deny", "{}", stopped.json);
    let ledger = plane.ledger_with_refusals().await;
    assert_eq!(ledger.refused("repeated-hold"), 20);
    plane.end().await;
}

#[tokio::test]
async fn a_hold_that_nobody_may_approve_trips_the_breaker() {
    let policies = POLICIES.replace("@approval(\"noor\")", "@approval(\"p0\")");
    // A policy names 64 at most, and several may hold a call.
    let all = r#"@id("all") permit (principal, action, resource);"#;
    let mut too_many = vec![all.to_owned()];
    for nth in 0..=register::approval::NAMED_MAX / 64 {
        let names: Vec<_> = (0..64).map(|name| format!("p{nth}-{name}")).collect();
        too_many.push(format!(
            r#"@id("f{nth}") @approval("{}")
            forbid (principal, action == Action::"files/refund", resource)
            unless {{ context has approval }};"#,
            names.join(", ")
        ));
    }
    let too_many = too_many.concat();
    for (policies, told) in [
        (policies, "nobody who is active"),
        (too_many, "more than 256"),
    ] {
        let plane = Plane::with(|setup| {
            setup.policies = policies;
            setup.limits = "same_denials = 3\ncalls_per_minute = 0".to_owned();
        })
        .await;
        let client = token(&plane).await.modern();
        for _ in 0..10 {
            let held = client.call("refund", REFUND).await;
            assert!(held.decision()["approval"].is_null(), "{}", held.json);
            if held.effect() == "hold" {
                assert!(held.said().contains(told), "{}", held.said());
            }
        }
        // As many as may be, and the one too many.
        assert_eq!(plane.calls().of(Kind::Decision).len(), 4, "{told}");
        let stopped = client.call("refund", REFUND).await;
        assert_eq!(stopped.effect(), "deny", "{}", stopped.json);
        plane.end().await;
    }
}

#[tokio::test]
async fn a_refusal_holds_and_a_cut_or_other_policies_end_what_was_granted() {
    let plane = office("").await;
    let agent = plane.agent("triage").await;
    let client = agent.token("files").await.modern();
    waits(&client.call("refund", REFUND).await);
    answers(&plane, "zoe", false).await;
    let refused = client.call("refund", REFUND).await;
    assert_eq!(refused.effect(), "deny");
    assert!(refused.said().contains("refused it"), "{}", refused.said());
    // Of another call, granted, and then the agent is stopped and resumed.
    let id = waits(&client.call("refund", LARGE).await);
    answers(&plane, "noor", true).await;
    answers(&plane, "zoe", true).await;
    plane.command("/v1/agents/triage/suspend").await;
    plane.command("/v1/agents/triage/resume").await;
    let id_after = waits(&client.call("refund", LARGE).await);
    assert_ne!(id, id_after);
    answers(&plane, "noor", true).await;
    answers(&plane, "zoe", true).await;
    let other = format!(
        "{POLICIES}\n@id(\"more\") permit (principal, action == Action::\"files/fetch\", resource);"
    );
    plane.activate(&other).await.unwrap();
    assert_ne!(waits(&client.call("refund", LARGE).await), id_after);
    assert_eq!(plane.files().calls(), 0);
    plane.end().await;
}

#[tokio::test]
async fn an_upstream_that_is_repointed_between_approval_and_call_is_asked_about_anew() {
    let mut plane = office("").await;
    let agent = plane.agent("triage").await;
    let client = agent.token("files").await.modern();
    let id = waits(&client.call("refund", REFUND).await);
    answers(&plane, "noor", true).await;
    plane.stop().await.unwrap();
    let path = plane.folder().join("tipstaff.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let table = "[upstream.files]\n";
    assert!(text.contains(table), "{text}");
    let other = format!("{table}headers = {{ X-Account = \"plain:another\" }}\n");
    std::fs::write(&path, text.replace(table, &other)).unwrap();
    plane.boot().await.unwrap();
    let approval = plane.gateway().control().view(|state| {
        let approval = state.approval(&id.parse().unwrap());
        approval.unwrap().life.as_str()
    });
    assert_eq!(approval, "over");
    let again = agent
        .token("files")
        .await
        .modern()
        .call("refund", REFUND)
        .await;
    assert_ne!(waits(&again), id);
    assert_eq!(plane.files().calls(), 0);
    plane.end().await;
}

#[tokio::test]
async fn what_nobody_answers_expires_loudly() {
    let plane = office("").await;
    let agent = plane.agent("triage").await;
    let key = agent.fresh_key();
    let mut id = String::new();
    for minutes in [29, 29, 2] {
        let client = agent.token_by("files", &key).await.modern();
        id = waits(&client.call("refund", REFUND).await);
        plane.clock.advance(Duration::from_mins(minutes));
    }
    until("its end is on record", async || {
        let ledger = plane.ledger();
        let over = ledger.of(Kind::ApprovalEnded);
        over.iter()
            .any(|it| it.body == json!({"id": id, "cause": "expired"}))
    })
    .await;
    let answer = plane.ask("GET", "/metrics").send().await;
    let metrics = answer.text();
    for line in [
        "tipstaff_approvals_total{came=\"asked\"} 1",
        "tipstaff_approvals_total{came=\"expired\"} 1",
        "tipstaff_approvals{state=\"pending\"} 0",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    plane.end().await;
}

/// Whatever fails, and wherever it is killed, one approval is at most one call.
#[tokio::test]
async fn a_kill_between_use_and_permit_loses_an_approval_and_never_doubles_it() {
    let mut plane = office("").await;
    let agent = plane.agent("triage").await;
    let mut granted = 0;
    for fault in Fault::FAILURES {
        let client = agent.token("files").await.modern();
        waits(&client.call("refund", REFUND).await);
        answers(&plane, "noor", true).await;
        granted += 1;
        plane.faults.set(fault);
        let failed = client.call("refund", REFUND).await;
        assert_ne!(failed.effect(), "allow", "{fault:?}");
        plane.faults.set(Fault::None);
        plane.kill();
        plane.boot().await.unwrap();
        let client = agent.token("files").await.modern();
        let _either = client.call("refund", REFUND).await;
        let last = client.call("refund", REFUND).await;
        assert_eq!(last.effect(), "hold", "{fault:?}");
        assert!(plane.files().calls() <= granted, "{fault:?}");
        answers(&plane, "zoe", false).await;
        plane.clock.advance(Duration::from_mins(61));
    }
    // As it is between the two: used on record, and no permit.
    let client = agent.token("files").await.modern();
    waits(&client.call("refund", LARGE).await);
    answers(&plane, "noor", true).await;
    answers(&plane, "zoe", true).await;
    let (reached, approval) = (plane.files().calls(), asked(&plane));
    let what = used_by_hand(&plane, &approval).await;
    plane.kill();
    plane.boot().await.unwrap();
    let client = agent.token("files").await.modern();
    assert_ne!(
        waits(&client.call("refund", LARGE).await),
        approval.id.to_string()
    );
    assert_eq!(plane.files().calls(), reached, "{what:?}");
    plane.end().await;
}

/// Uses an approval up as the gateway does, and does not go on.
async fn used_by_hand(plane: &Plane, approval: &Approval) -> vocab::Digest {
    let params = format!(r#"{{"arguments":{LARGE},"name":"refund"}}"#);
    let exactly = register::Exactly {
        door: None,
        instance: &approval.instance,
        above: &[],
        upstream: &approval.upstream,
        target: &policy::Target::Tool {
            name: "refund".parse().unwrap(),
        },
        args: &params,
        policy_set: &approval.policy_set,
        routed: None,
    };
    let what = exactly.digest();
    let id = approval.id.clone();
    let used = Command::Approval(ApprovalCommand::Use { id, what });
    let node = Actor::node("test");
    plane.gateway().control().execute(node, used).await.unwrap();
    what
}

#[tokio::test]
async fn a_client_that_opens_urls_is_asked_to() {
    let plane = office("").await;
    let token = token(&plane).await;
    let client = token.modern();
    let call = async |more: &str| -> Value {
        let params = format!(r#""name":"refund","arguments":{REFUND}{more}"#);
        let ask = client.ask("tools/call", Some("refund"), &params);
        let body = testkit::Modern::text("tools/call", &params).replace(
            r#""io.modelcontextprotocol/clientCapabilities":{}"#,
            r#""io.modelcontextprotocol/clientCapabilities":{"elicitation":{"url":{}}}"#,
        );
        ask.body(body).send().await.json()
    };
    let held = call("").await;
    let result = &held["result"];
    assert_eq!(result["resultType"], "input_required", "{held}");
    let id = asked(&plane).id;
    assert_eq!(
        result["inputRequests"]["dev.tipstaff/approval"],
        json!({"method": "elicitation/create", "params": {
            "mode": "url", "message": "People have to approve this call first.",
            "url": format!("http://localhost:7420/approve/{id}"),
        }})
    );
    assert_eq!(
        result["_meta"]["dev.tipstaff/decision"]["approval"]["id"],
        id.as_str()
    );
    // Who comes back before it is approved is told in words, so that nothing goes round and round.
    let back = r#","inputResponses":{"dev.tipstaff/approval":{"action":"accept"}}"#;
    let early = call(back).await;
    assert_eq!(early["result"]["isError"], true, "{early}");
    assert_eq!(plane.files().calls(), 0);
    answers(&plane, "noor", true).await;
    let made = call(back).await;
    assert_eq!(
        made["result"]["_meta"]["dev.tipstaff/decision"]["effect"], "allow",
        "{made}"
    );
    // What came back under our name went no further.
    let sent = plane.files().last_call().json().to_string();
    assert!(!sent.contains("dev.tipstaff"), "{sent}");
    plane.end().await;
}

/// The call that an upstream asks about may be made already: nobody is told to make it again.
#[tokio::test]
async fn who_is_held_at_a_question_is_not_told_to_call_again() {
    let files = Upstream::start(Speaks::Modern).await;
    let plane = Plane::with(|setup| {
        setup.upstream("files", &files, "");
        setup.policies = POLICIES.replace("files:resources/read", "files:elicitation/create");
    })
    .await;
    let noor = json!({"id": "noor", "name": "noor", "email": "noor@example.com"});
    let added = plane.admin("POST", "/v1/sponsors", Some(noor)).await;
    assert_eq!(added.status, 200, "{}", added.text());
    let client = token(&plane).await.modern();
    let question = r#"{"q":{"method":"elicitation/create","params":{"message":"Sure?"}}}"#;
    let asking = format!(
        r#"{{"resultType":"input_required","inputRequests":{question},"requestState":"s"}}"#
    );
    plane.files().script("anything", Script::Result(asking));
    for _ in 0..2 {
        let held = client.call("anything", ANY).await;
        assert!(held.is_error(), "{}", held.json);
        for told in [
            "asks for input",
            "/approve/ap-",
            "a question of the upstream's",
            "Do not send a call again",
        ] {
            assert!(held.said().contains(told), "no {told} in {}", held.said());
        }
        assert!(
            !held.said().contains("the same call again"),
            "{}",
            held.said()
        );
    }
    answers(&plane, "noor", true).await;
    let asked = client.call("anything", ANY).await;
    assert_eq!(asked.effect(), "allow", "{}", asked.json);
    assert_eq!(asked.result()["resultType"], "input_required");
    plane.end().await;
}
