//! Break-glass from end to end: two signed requests, and what of it shows.

use std::time::Duration;

use gateway::record::{Came, Effect};
use ledger::Kind;
use ledger::note::Signer;
use mcp::Era;
use serde_json::{Value, json};
use testkit::{Answer, Plane, Script, Token, until, within};

use crate::common::{ANY, Client};

/// Two named administrators, and an agent whose sponsor's account was stopped by mistake.
struct Night {
    plane: Plane,
    ops: Signer,
    duty: Signer,
    agent: testkit::Agent,
    token: Token,
}

impl Night {
    async fn falls() -> Self {
        let plane = Plane::start().await;
        let (ops, duty) = (
            plane.named_admin("ops").await,
            plane.named_admin("duty").await,
        );
        let agent = plane.agent("triage").await;
        let token = agent.token("files").await;
        plane.command("/v1/sponsors/maya/suspend").await;
        Self {
            plane,
            ops,
            duty,
            agent,
            token,
        }
    }

    async fn ask(&self, lasts_s: u64) -> String {
        let body = json!({
            "agent": "triage", "reason": "INC-4711: payouts stand still", "lasts_s": lasts_s,
        });
        let answer = self
            .plane
            .signed(&self.ops, "POST", "/v1/break-glass", Some(body))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let asked = answer.json();
        assert_eq!(asked["state"], "requested");
        asked["id"].as_str().unwrap().to_owned()
    }

    async fn change(&self, by: &Signer, id: &str, verb: &str) -> Answer {
        let path = format!("/v1/break-glass/{id}/{verb}");
        self.plane.signed(by, "POST", &path, None).await
    }

    async fn breaks(&self, lasts_s: u64) -> String {
        let id = self.ask(lasts_s).await;
        let answer = self.change(&self.duty, &id, "approve").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["state"], "open");
        id
    }

    async fn call(&self) -> testkit::Reply {
        let client = Client::new(&self.token, Era::Modern).await;
        client.call("anything", ANY).await
    }

    async fn told(&self, path: &str) -> String {
        let answer = self.plane.ask("GET", path).send().await;
        assert_eq!(answer.status, 200);
        answer.text().to_owned()
    }
}

#[tokio::test]
async fn a_call_under_it_says_so_everywhere() {
    let night = Night::falls().await;
    let plane = &night.plane;
    let id = night.ask(3600).await;
    assert_eq!(night.call().await.status, 401, "nothing is open yet");
    assert!(night.told("/readyz").await.contains("not broken"));
    night.change(&night.duty, &id, "approve").await;

    let reply = night.call().await;
    assert_eq!(reply.effect(), "allow", "{}", reply.json);
    let index = reply.record().unwrap();
    let decision = plane.calls().decision(index);
    assert_eq!(decision.effect, Effect::Allow);
    let under: Vec<_> = decision
        .break_glass
        .iter()
        .map(vocab::Handle::as_str)
        .collect();
    assert_eq!(under, [id.as_str()]);

    let path = format!("/v1/trace/calls/{index}");
    let trace = plane.admin("GET", &path, None).await.json();
    let glass = &trace["decision"]["break_glass"][0];
    assert_eq!(glass["requested_by"], "ops");
    assert_eq!(glass["opened_by"], "duty");
    let opened = plane.ledger();
    let opened = opened.last(Kind::BreakGlassOpened);
    assert_eq!(glass["opened_record"], format!("control/{}", opened.index));
    assert_eq!(opened.actor.id, "duty");

    let metrics = night.told("/metrics").await;
    assert!(metrics.contains("tipstaff_break_glass_open 1"), "{metrics}");
    assert!(metrics.contains("tipstaff_break_glass_calls_total 1"));
    assert!(night.told("/readyz").await.contains("BROKEN: 1 agent runs"));
    let status = plane.admin("GET", "/v1/status", None).await.json();
    assert_eq!(status["break_glass"][0]["id"], id);
    let doctor = plane.admin("GET", "/v1/doctor", None).await;
    assert!(doctor.text().contains("BROKEN: agent `triage` runs until"));
    let agent = plane.admin("GET", "/v1/agents/triage", None).await.json();
    assert_eq!(agent["status"], "suspended", "nobody answers for it");
    assert_eq!(agent["break_glass"], id);
    let instance = format!("/v1/instances/{}", night.token.instance);
    let instance = plane.admin("GET", &instance, None).await.json();
    assert_eq!(instance["break_glass"], json!([id]));
    // Nobody but who may read it learns why.
    assert!(
        !plane
            .ledger()
            .control
            .iter()
            .any(|it| it.text.contains("payouts"))
    );
    let shown = plane
        .admin("GET", &format!("/v1/break-glass/{id}"), None)
        .await;
    assert_eq!(shown.json()["reason"], "INC-4711: payouts stand still");
    night.plane.end().await;
}

#[tokio::test]
async fn what_policy_forbids_stays_forbidden() {
    let night = Night::falls().await;
    night.breaks(3600).await;
    let client = Client::new(&night.token, Era::Modern).await;
    let secret = r#"{"path":"/etc/shadow"}"#;
    let reply = client.call("read_text_file", secret).await;
    assert_eq!(reply.effect(), "deny", "{}", reply.json);
    let decision = night.plane.calls().decision(reply.record().unwrap());
    assert_eq!(decision.break_glass.len(), 1, "it was asked under it");
    // Nor does it let past a stop.
    night
        .plane
        .admin("POST", "/v1/kill", Some(json!({"upstream": "files"})))
        .await;
    let stopped = client.call("anything", ANY).await;
    assert_ne!(stopped.json["result"]["isError"], json!(false));
    assert_eq!(night.plane.files().calls(), 0);
    night.plane.end().await;
}

#[tokio::test]
async fn it_takes_two_and_neither_is_the_local_user() {
    let night = Night::falls().await;
    let body = json!({"agent": "triage", "reason": "x", "lasts_s": 60});
    let local = night
        .plane
        .admin("POST", "/v1/break-glass", Some(body))
        .await;
    assert_eq!(local.status, 403, "{}", local.text());
    assert_eq!(local.json()["error"], "not-two-people");
    let id = night.ask(60).await;
    let local = night
        .plane
        .admin("POST", &format!("/v1/break-glass/{id}/approve"), None)
        .await;
    assert_eq!(local.status, 403, "{}", local.text());
    let same = night.change(&night.ops, &id, "approve").await;
    assert_eq!(same.status, 403, "{}", same.text());
    // One that the first makes for it is too late.
    let fresh = night.plane.named_admin("fresh").await;
    let answer = night.change(&fresh, &id, "approve").await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(night.call().await.status, 401);
    // Whoever stops may be anybody who administers.
    let ended = night
        .plane
        .command(&format!("/v1/break-glass/{id}/end"))
        .await;
    assert_eq!(ended["over"], "ended");
    let late = night.change(&night.duty, &id, "approve").await;
    assert_eq!(late.status, 422, "{}", late.text());
    night.plane.end().await;
}

/// What was in flight when it ended is cut, and the certificate of its end names it.
async fn ended_by(how: impl AsyncFnOnce(&Night, &str)) -> Value {
    let night = Night::falls().await;
    let id = night.breaks(600).await;
    let plane = &night.plane;
    plane.files().script("anything", Script::Hang);
    let client = Client::new(&night.token, Era::Modern).await;
    let hanging = client.spawn_call("anything", ANY);
    plane.files().until_under_way(1).await;
    how(&night, &id).await;
    let reply = within("what was cut to end", hanging).await.unwrap();
    assert!(
        reply.said().contains("may not act any more"),
        "{}",
        reply.json
    );
    let index = reply.record().unwrap();
    assert_eq!(plane.calls().outcome(index).unwrap().result, Came::Unknown);
    assert_eq!(night.call().await.status, 401);

    until("the cut is certified", async || {
        let control = plane.gateway().control();
        control.view(|state| state.cuts().all(|cut| cut.certificate.is_some()))
    })
    .await;
    let cuts = plane.admin("GET", "/v1/cuts", None).await.json();
    let cut = cuts.as_array().unwrap().last().unwrap();
    assert_eq!(cut["kind"], "break-glass-ended", "{cut}");
    let record = cut["record"].as_str().unwrap().replace("control/", "");
    let bundle = plane
        .admin("GET", &format!("/v1/cuts/{record}"), None)
        .await;
    let certificate = bundle.json()["certificate"].clone();
    assert_eq!(
        certificate["calls"][0]["decision"],
        format!("calls/{index}")
    );
    assert_eq!(
        certificate["instances"][0]["id"],
        night.token.instance.as_str()
    );
    let shown = plane
        .admin("GET", &format!("/v1/break-glass/{id}"), None)
        .await;
    let over = shown.json()["over"].clone();
    night.plane.end().await;
    over
}

#[tokio::test]
async fn its_end_by_hand_cuts_and_is_certified() {
    let over = ended_by(async |night, id| {
        let answer = night.change(&night.ops, id, "end").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    })
    .await;
    assert_eq!(over, "ended");
}

#[tokio::test]
async fn the_end_of_its_time_cuts_and_is_certified() {
    let over = ended_by(async |night, _| night.plane.clock.advance(Duration::from_mins(10))).await;
    assert_eq!(over, "expired");
}

#[tokio::test]
async fn no_permit_is_recorded_after_its_time_however_it_races() {
    let night = Night::falls().await;
    let id = night.breaks(60).await;
    let plane = &night.plane;
    let shown = plane
        .admin("GET", &format!("/v1/break-glass/{id}"), None)
        .await;
    let ends: vocab::Time = shown.json()["until"].as_str().unwrap().parse().unwrap();
    let left = ends.since(vocab::Clock::now(&*plane.clock));
    plane
        .clock
        .advance(left.saturating_sub(Duration::from_micros(200)));
    let client = Client::new(&night.token, Era::Modern).await;
    // The clock passes the end while they are decided and sequenced.
    let calls: Vec<_> = (0..64)
        .map(|_| client.spawn_call("anything", ANY))
        .collect();
    for _ in 0..400 {
        plane.clock.advance(Duration::from_micros(1));
        tokio::task::yield_now().await;
    }
    for call in calls {
        within("a call that races the end", call).await.unwrap();
    }
    let ledger = plane.calls();
    for line in ledger.of(Kind::Decision) {
        let decision = ledger.decision(line.index);
        if decision.effect == Effect::Allow {
            assert!(line.time < ends, "{}", line.text);
            assert_eq!(decision.break_glass.len(), 1);
        }
    }
    assert_eq!(night.call().await.status, 401);
    night.plane.end().await;
}

#[tokio::test]
async fn a_kill_anywhere_between_loses_and_opens_nothing() {
    let mut night = Night::falls().await;
    let id = night.ask(3600).await;
    night.plane.kill();
    night.plane.boot().await.unwrap();
    night.plane.tools_known().await;
    assert_eq!(night.call().await.status, 401);
    let answer = night.change(&night.duty, &id, "approve").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    night.plane.kill();
    night.plane.boot().await.unwrap();
    night.plane.tools_known().await;
    // The token may have expired meanwhile; the agent gets another under it.
    night.token = night.agent.token("files").await;
    assert_eq!(night.call().await.effect(), "allow");
    // Its time went on while the node was down.
    night.plane.kill();
    night.plane.clock.advance(Duration::from_hours(1));
    night.plane.boot().await.unwrap();
    assert_eq!(night.call().await.status, 401);
    until("its end is on record", async || {
        night.plane.ledger().of(Kind::BreakGlassEnded).len() == 1
    })
    .await;
    night.plane.end().await;
}

#[tokio::test]
async fn a_signal_that_comes_later_wins() {
    let night = Night::falls().await;
    night.breaks(3600).await;
    assert_eq!(night.call().await.effect(), "allow");
    let maya = night.plane.gateway().control().view(|state| {
        let found = state.sponsor_by_id(&"maya".parse().unwrap());
        found.unwrap().id().cloned().unwrap()
    });
    let signal = Some(register::Signal {
        source: "scim".parse().unwrap(),
        event: "deactivated".parse().unwrap(),
        received_at: vocab::Clock::now(&*night.plane.clock),
        happened_at: None,
        id: None,
    });
    let command = register::Command::SuspendSponsor { id: maya, signal };
    let control = night.plane.gateway().control();
    control
        .execute(ledger::Actor::node("it"), command)
        .await
        .unwrap();
    assert_eq!(night.call().await.status, 401);
    night.plane.end().await;
}
