//! Certificates of cuts, what `kill` stops, and what a transfer ends.

use ledger::Kind;
use mcp::Era;
use serde_json::{Value, json};
use server::certificate::Bundle;
use testkit::{Plane, Script, Token};

use crate::common::{ANY, Client};

/// The bundle of the newest cut, checked offline.
async fn certificate(plane: &Plane) -> Value {
    let cuts = plane.admin("GET", "/v1/cuts", None).await.json();
    let cut = cuts.as_array().unwrap().last().unwrap()["record"].clone();
    let index = cut.as_str().unwrap().strip_prefix("control/").unwrap();
    let answer = plane.admin("GET", &format!("/v1/cuts/{index}"), None).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let bundle: Bundle = serde_json::from_str(answer.text()).unwrap();
    let [control, calls] = keys(plane);
    let proven = bundle.verify(&control, &calls).unwrap();
    assert_eq!(proven.cut, cut);
    answer.json()
}

fn keys(plane: &Plane) -> [ledger::note::Verifier; 2] {
    ["control", "calls"].map(|log| {
        let path = plane.data().join(format!("{log}.vkey"));
        let text = std::fs::read_to_string(path).unwrap();
        text.trim_end().parse().unwrap()
    })
}

/// An instance below another, as the register has it; what it may call is its parent's.
async fn below(plane: &Plane, parent: &str, agent: &str, key: char) -> String {
    let control = plane.gateway().control();
    let kid = control.view(|state| {
        let agent = state.agent(&agent.parse().unwrap()).unwrap();
        agent.key.as_ref().map(|key| key.kid.clone())
    });
    let command = register::Command::Delegate(Box::new(register::Delegation {
        parent: parent.parse().unwrap(),
        agent: agent.parse().unwrap(),
        kid,
        once: false,
        purpose: "triage".parse().unwrap(),
        binding: register::Binding::Dpop {
            jkt: format!("{key}{}", "A".repeat(42)).parse().unwrap(),
        },
        upstream: "files".parse().unwrap(),
        authority: None,
        max_calls: None,
        lifetime: None,
    }));
    let actor = ledger::Actor::node("it");
    match control.execute(actor, command).await {
        Ok(register::Done::Started { instance, .. }) => instance.id.to_string(),
        other => panic!("{other:?}"),
    }
}

fn ids(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap();
    list.iter().map(|it| it["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_leavers_certificate_names_all_that_they_sponsored_and_how_each_call_ended() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let other = plane.register("other", json!({"sponsor": "otto"})).await;
    let unharmed = other.token("files").await;
    // Otto's agent works for Maya's: the one below goes with her.
    let child = below(&plane, &token.instance, "other", 'B').await;
    let grandchild = below(&plane, &child, "other", 'C').await;
    let client = Client::new(&token, Era::Modern).await;
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    plane.files().script("anything", Script::Hang);
    let hanging = client.spawn_call("anything", ANY);
    plane.files().until_under_way(1).await;

    plane.command("/v1/sponsors/maya/suspend").await;
    let found = certificate(&plane).await;
    let it = &found["certificate"];
    drop(hanging);

    let mut covered = ids(&it["instances"]);
    covered.sort_unstable();
    let mut expected = vec![token.instance.as_str(), child.as_str(), grandchild.as_str()];
    expected.sort_unstable();
    assert_eq!(covered, expected);
    assert_eq!(it["agents"], json!(["other", "triage"]));
    assert_eq!(it["signal"]["source"], "cli");
    assert_eq!(it["cut"]["kind"], "sponsor-suspended");
    assert_eq!(it["tokens"].as_array().unwrap().len(), 1);
    assert_eq!(it["tokens"][0]["instance"], token.instance.as_str());
    let calls = it["calls"].as_array().unwrap();
    assert_eq!(calls.len(), 1, "{it:#}");
    assert_eq!(calls[0]["result"], "unknown");
    assert_eq!(calls[0]["cause"], "cut");
    assert_eq!(it["residue"]["unknown"], json!([calls[0]["decision"]]));
    assert_eq!(it["last_permit"]["record"], calls[0]["decision"]);
    assert_eq!(it["complete"], true);

    // Otto's own instance is none of it.
    plane.files().script("anything", Script::Echo);
    let others = Client::new(&unharmed, Era::Modern).await;
    assert_eq!(others.call("anything", ANY).await.effect(), "allow");
    let ledger = plane.ledger();
    let end = ledger.last(Kind::CutOff);
    assert_eq!(end.body["in_flight"], 1);
    assert_eq!(end.body["instances"], 3);
    plane.end().await;
}

/// The number in a proof is of those that could act until then, not of all there ever were.
#[tokio::test]
async fn what_was_over_before_is_not_counted_again() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    plane.agent("idle").await;
    let before = agent.token("files").await;
    let _below = below(&plane, &before.instance, "triage", 'B').await;
    let control = plane.gateway().control();
    let sponsor = control.view(|state| {
        let maya = state.sponsor_by_id(&"maya".parse().unwrap());
        maya.unwrap().handle.clone()
    });
    let revoke = register::Command::RevokeSessions {
        sponsor,
        signal: register::Signal {
            source: "ssf".parse().unwrap(),
            event: "session-revoked".parse().unwrap(),
            received_at: plane.now(),
            happened_at: None,
            id: None,
        },
    };
    let actor = ledger::Actor::node("it");
    control.execute(actor, revoke).await.unwrap();
    assert_eq!(
        certificate(&plane).await["certificate"]["instances"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let now = agent.token("files").await;
    let child = below(&plane, &now.instance, "triage", 'C').await;
    plane.command("/v1/sponsors/maya/suspend").await;
    let found = certificate(&plane).await;
    let it = &found["certificate"];
    let mut covered = ids(&it["instances"]);
    covered.sort_unstable();
    let mut expected = vec![now.instance.as_str(), child.as_str()];
    expected.sort_unstable();
    assert_eq!(covered, expected);
    assert_eq!(
        it["agents"],
        json!(["idle", "triage"]),
        "all that they sponsor"
    );
    plane.end().await;
}

#[tokio::test]
async fn a_changed_certificate_proves_nothing() {
    let plane = Plane::start().await;
    plane.agent("triage").await.token("files").await;
    plane.command("/v1/agents/triage/suspend").await;
    let good = certificate(&plane).await;
    let [control, calls] = keys(&plane);
    let verify = |value: &Value| {
        let bundle: Bundle = serde_json::from_value(value.clone()).unwrap();
        bundle.verify(&control, &calls).map_err(|it| it.to_string())
    };
    assert!(verify(&good).is_ok());
    for change in [
        // What is shown, what is proven, and which proof stands where.
        |it: &mut Value| it["certificate"]["instances"] = json!([]),
        |it: &mut Value| {
            let text = it["text"].as_str().unwrap().replace("triage", "billing");
            it["text"] = json!(text);
            it["certificate"] = serde_json::from_str(&text).unwrap();
        },
        |it: &mut Value| it["proofs"]["cut"] = it["proofs"]["cut_off"].clone(),
        |it: &mut Value| it["proofs"]["barrier"] = it["proofs"]["cut"].clone(),
        |it: &mut Value| {
            let proof = it["proofs"]["barrier"]
                .as_str()
                .unwrap()
                .replacen("index ", "index 1", 1);
            it["proofs"]["barrier"] = json!(proof);
        },
    ] {
        let mut bad = good.clone();
        change(&mut bad);
        assert_ne!(bad, good);
        assert!(verify(&bad).is_err(), "{bad:#}");
    }
    // The other log's key is no key for it.
    let bundle: Bundle = serde_json::from_value(good).unwrap();
    assert!(bundle.verify(&calls, &control).is_err());
    plane.end().await;
}

#[tokio::test]
async fn a_cut_that_was_not_certified_is_certified_at_the_next_start() {
    let mut plane = Plane::start().await;
    let token = plane.agent("triage").await.token("files").await;
    let client = Client::new(&token, Era::Modern).await;
    plane.files().script("anything", Script::Hang);
    let hanging = client.spawn_call("anything", ANY);
    plane.files().until_under_way(1).await;
    // As a node leaves it that ends between the two: the cut is on record, the certificate not.
    let control = plane.gateway().control();
    let size = control.view(register::State::size);
    plane.command("/v1/sponsors/maya/suspend").await;
    plane.kill();
    drop(hanging);
    plane.boot().await.unwrap();
    let cut = plane.gateway().control().view(|state| {
        let cut = state.cut(size).unwrap();
        cut.certificate.is_some()
    });
    assert!(cut);
    let found = certificate(&plane).await;
    assert_eq!(
        ids(&found["certificate"]["instances"]),
        [token.instance.as_str()]
    );
    plane.end().await;
}

/// What a client of an upstream gets now.
async fn effect(token: &Token) -> String {
    let client = Client::new(token, Era::Modern).await;
    let reply = client.call("anything", ANY).await;
    if reply.status == 401 {
        return "challenged".to_owned();
    }
    reply.effect().to_owned()
}

#[tokio::test]
async fn kill_stops_an_upstream_for_everybody_and_nothing_else() {
    let plane = Plane::with(|setup| {
        let files = setup.upstreams["files"].0.clone();
        setup.upstream("more", &files, "");
        setup.policies += "\npermit (principal, action in Action::\"more\", resource);";
    })
    .await;
    let agent = plane.agent("triage").await;
    let (files, more) = (agent.token("files").await, agent.token("more").await);
    let client = Client::new(&files, Era::Modern).await;
    plane.files().script("anything", Script::Hang);
    let hanging = client.spawn_call("anything", ANY);
    plane.files().until_under_way(1).await;
    let kill = |undo: bool| Some(json!({"upstream": "files", "undo": undo}));
    let done = plane.admin("POST", "/v1/kill", kill(false)).await.json();
    assert_eq!(
        (&done["stopped"], &done["is_new"]),
        (&json!(true), &json!(true))
    );
    let cut = hanging.await.unwrap();
    assert!(cut.said().contains("may not act"), "{}", cut.said());
    plane.files().script("anything", Script::Echo);
    assert_eq!(effect(&files).await, "deny");
    assert_eq!(effect(&more).await, "allow");
    let found = certificate(&plane).await;
    assert_eq!(found["certificate"]["cut"]["upstream"], "files");
    assert_eq!(found["certificate"]["calls"][0]["result"], "unknown");
    // A restart is no way around it.
    let again = plane.admin("POST", "/v1/kill", kill(false)).await.json();
    assert_eq!(again["is_new"], false);
    plane.admin("POST", "/v1/kill", kill(true)).await;
    assert_eq!(effect(&files).await, "allow");
    plane.end().await;
}

#[tokio::test]
async fn kill_stops_everything_also_after_a_restart() {
    let mut plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    assert_eq!(effect(&token).await, "allow");
    plane.admin("POST", "/v1/kill", Some(json!({}))).await;
    assert_eq!(effect(&token).await, "challenged");
    let refused = agent.token_request("files", None).send().await;
    assert_ne!(refused.status, 200);
    assert_eq!(
        ids(&certificate(&plane).await["certificate"]["instances"]),
        [token.instance.as_str()]
    );
    plane.restart().await;
    assert_eq!(effect(&token).await, "challenged");
    plane
        .admin("POST", "/v1/kill", Some(json!({"undo": true})))
        .await;
    assert_eq!(effect(&agent.token("files").await).await, "allow");
    plane.end().await;
}

#[tokio::test]
async fn a_transfer_ends_what_ran_and_the_history_stays() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    plane.register("other", json!({"sponsor": "otto"})).await;
    for to in ["otto", "maya"] {
        let path = "/v1/agents/triage/transfer";
        let done = plane.admin("POST", path, Some(json!({"to": to}))).await;
        assert_eq!(done.status, 200, "{}", done.text());
        // Also when it is back with the first one: what was started under her is over.
        assert_eq!(effect(&token).await, "challenged");
    }
    let agent_now = plane.admin("GET", "/v1/agents/triage", None).await.json();
    assert_eq!(agent_now["past_sponsors"], json!(["maya", "otto"]));
    assert_eq!(effect(&agent.token("files").await).await, "allow");
    assert_eq!(
        ids(&certificate(&plane).await["certificate"]["instances"]).len(),
        0
    );
    plane.end().await;
}

#[tokio::test]
async fn agents_that_nobody_accepted_do_not_run_where_that_is_refused() {
    let mut plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    assert_eq!(effect(&token).await, "allow");
    plane.reconfigure(|setup| setup.asserted = "refuse");
    plane.restart().await;
    assert_eq!(effect(&token).await, "challenged");
    let refused = agent.token_request("files", None).send().await;
    assert!(
        refused.text().contains("has to accept it first"),
        "{}",
        refused.text()
    );
    let shown = plane.admin("GET", "/v1/agents/triage", None).await.json();
    assert_eq!(shown["status"], "pending");
    assert_eq!(shown["narrowed_by"], "agent-not-accepted");
    let control = plane.gateway().control();
    let (sponsor, asked_in) = control.view(|state| {
        let agent = state.agent(&"triage".parse().unwrap()).unwrap();
        (agent.sponsor.clone(), agent.asked_in)
    });
    let accept = register::Command::AcceptAgent {
        agent: "triage".parse().unwrap(),
        sponsor,
        sign_in: register::SignIn::Oidc,
        asked_in,
        terms: plane.gateway().blobs().put(b"terms").unwrap(),
        signed_in: None,
    };
    control
        .execute(ledger::Actor::node("it"), accept)
        .await
        .unwrap();
    assert_eq!(effect(&token).await, "allow");
    let shown = plane.admin("GET", "/v1/agents/triage", None).await.json();
    assert_eq!(shown["sponsorship"], "verified");
    plane.end().await;
}

#[tokio::test]
async fn a_review_shows_what_was_used_and_what_is_orphaned_dormant_or_overdue() {
    let mut plane = Plane::start().await;
    let allow = json!({"allow": ["files/any*", "files/refund"]});
    let agent = plane.register("triage", allow).await;
    plane.register("other", json!({"sponsor": "otto"})).await;
    assert_eq!(effect(&agent.token("files").await).await, "allow");
    plane.command("/v1/sponsors/otto/suspend").await;
    let look = async |plane: &Plane| plane.admin("GET", "/v1/review", None).await.json();
    let found = look(&plane).await;
    let [triage, other] = found["agents"].as_array().unwrap().as_slice() else {
        panic!("{found:#}");
    };
    assert_eq!(
        (&triage["sponsor"], &other["sponsor"]),
        (&json!("maya"), &json!("otto"))
    );
    assert_eq!(triage["unused"], json!(["files/refund"]));
    assert!(triage["last_used_at"].is_string());
    assert!(other["last_used_at"].is_null());
    let flags = |it: &Value| ["orphaned", "dormant", "overdue"].map(|name| it[name] == true);
    assert_eq!(flags(triage), [false, false, false]);
    assert_eq!(flags(other), [true, false, false]);
    // It is counted from the log, which a start leaves as it is.
    let last_used = triage["last_used_at"].clone();
    plane.restart().await;
    let found = look(&plane).await;
    assert_eq!(found["agents"][0]["last_used_at"], last_used);
    assert_eq!(found["looked_since"], Value::Null);

    plane
        .clock
        .advance(std::time::Duration::from_hours(91 * 24));
    let found = look(&plane).await;
    assert_eq!(flags(&found["agents"][0]), [false, true, true]);
    plane.command("/v1/agents/triage/review").await;
    let found = look(&plane).await;
    assert_eq!(flags(&found["agents"][0]), [false, true, false]);

    // Where that is configured, what is overdue is suspended, and that is certified.
    plane.reconfigure(|setup| setup.asserted = "run\"\noverdue = \"suspend");
    plane.restart().await;
    let status = async |plane: &Plane| {
        let shown = plane.admin("GET", "/v1/agents/triage", None).await.json();
        shown["status"].clone()
    };
    assert_eq!(status(&plane).await, "active");
    plane
        .clock
        .advance(std::time::Duration::from_hours(91 * 24));
    plane.restart().await;
    testkit::until("it is suspended", async || {
        status(&plane).await == "suspended"
    })
    .await;
    let found = certificate(&plane).await;
    assert_eq!(found["certificate"]["signal"]["event"], "review-overdue");
    plane.end().await;
}

/// A client that asks its instance to go on is told that somebody ended it, and does not run on as
/// another, for another sponsor.
#[tokio::test]
async fn what_a_transfer_or_a_revocation_ended_does_not_go_on_as_another() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    plane.register("other", json!({"sponsor": "otto"})).await;
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let goes_on = async |token: &Token| {
        let form = [
            ("client_assertion_type", kind),
            ("client_assertion", &*agent.assertion()),
            ("grant_type", "client_credentials"),
            ("instance", token.instance.as_str()),
            ("purpose", "triage"),
            ("resource", &token.uri()),
        ];
        let proof = plane.endpoint_proof(token.key().unwrap());
        agent.form(&form).header("dpop", &proof).send().await
    };
    let token = agent.token("files").await;
    assert_eq!(
        goes_on(&token).await.json()["instance"],
        token.instance.as_str()
    );
    let to = Some(json!({"to": "otto"}));
    let done = plane.admin("POST", "/v1/agents/triage/transfer", to).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let refused = goes_on(&token).await.json();
    assert_eq!(refused["error"], "invalid_grant", "{refused}");
    let said = refused["error_description"].as_str().unwrap();
    assert!(said.contains("another sponsor"), "{said}");
    plane.end().await;
}

#[tokio::test]
async fn an_orphaned_agent_is_offered_to_the_manager_and_its_sponsor_resumed_by_who_stopped_them() {
    let plane = Plane::start().await;
    plane.agent("triage").await;
    plane.register("other", json!({"sponsor": "otto"})).await;
    let control = plane.gateway().control();
    let of = |id: &str| {
        let id = id.parse().unwrap();
        control.view(|state| state.sponsor_by_id(&id).unwrap().as_ref().clone())
    };
    let (maya, otto) = (of("maya"), of("otto"));
    let signal = |event: &str| register::Signal {
        source: "scim".parse().unwrap(),
        event: event.parse().unwrap(),
        received_at: plane.now(),
        happened_at: None,
        id: None,
    };
    let mut person = maya.person().unwrap().clone();
    person.manager = Some(otto.handle.as_str().parse().unwrap());
    let directory = ledger::Actor {
        kind: ledger::ActorKind::Service,
        id: "scim".to_owned(),
        credential: "test".to_owned(),
        verified: true,
    };
    for command in [
        register::Command::ChangeSponsor {
            sponsor: maya.handle.clone(),
            person: Box::new(person),
            changes: vec!["manager".parse().unwrap()],
            signal: signal("changed"),
        },
        register::Command::SuspendSponsor {
            id: "maya".parse().unwrap(),
            signal: Some(signal("deactivated")),
        },
    ] {
        control.execute(directory.clone(), command).await.unwrap();
    }

    let review = plane.admin("GET", "/v1/review", None).await.json();
    let agents = review["agents"].as_array().unwrap();
    let triage = agents.iter().find(|it| it["id"] == "triage").unwrap();
    assert_eq!(triage["orphaned"], true);
    let command = "tipstaff agent transfer triage --to otto";
    let offered = json!([
        {"to": "otto", "relation": "manager", "takes_over": true, "command": command},
    ]);
    assert_eq!(triage["offered"], offered);
    let other = agents.iter().find(|it| it["id"] == "other").unwrap();
    assert_eq!(other["offered"], json!([]), "its sponsor is there");
    let agent = plane.admin("GET", "/v1/agents/triage", None).await.json();
    assert_eq!(agent["sponsor"], "maya", "nothing is applied by itself");

    let shown = plane.admin("GET", "/v1/sponsors/maya", None).await.json();
    let hold = &shown["holds"][0];
    assert_eq!(
        (&hold["source"], &hold["event"], &hold["by"]),
        (&json!("scim"), &json!("deactivated"), &json!("scim"))
    );
    let resume = "/v1/sponsors/maya/resume";
    let refused = plane.admin("POST", resume, None).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("by scim (deactivated)"));
    let despite = Some(json!({"despite_directory": true}));
    let resumed = plane.admin("POST", resume, despite).await;
    assert_eq!(resumed.status, 200, "{}", resumed.text());
    // A manager who is gone, too, is nobody to offer it to.
    plane.command("/v1/sponsors/otto/suspend").await;
    plane.command("/v1/sponsors/maya/suspend").await;
    let review = plane.admin("GET", "/v1/review", None).await.json();
    let agents = review["agents"].as_array().unwrap();
    assert!(agents.iter().all(|it| it["offered"] == json!([])));
    plane.end().await;
}
