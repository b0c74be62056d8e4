#![expect(
    clippy::needless_pass_by_value,
    reason = "the cases are data, and read better without borrows"
)]

use std::ops::Deref;

use register::{Command, Risk, Status};
use serde_json::Value;
use vocab::Secret;

use super::super::poll::{Post, Posting, round};
use super::*;
use crate::bench::{Bench, NOW, wait};
use crate::reactions::Reaction;

const ISS: &str = "https://idp.example";
const AUD: &str = "https://gate.example/ssf/idp";
const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";

/// Stands for keys: a SET is its claims, and `forged` ones are not signed.
#[derive(Debug)]
struct Plain;

impl Keys for Plain {
    fn verify<'a>(&'a self, set: &'a str) -> Verifying<'a> {
        Box::pin(async move {
            match set.strip_prefix("forged ") {
                Some(_) => Err(SetError::Key),
                None => Ok(set.as_bytes().to_vec()),
            }
        })
    }
}

struct Listening {
    bench: Bench,
    receiver: Receiver,
    maya: Handle,
}

impl Deref for Listening {
    type Target = Bench;

    fn deref(&self) -> &Bench {
        &self.bench
    }
}

/// A SET, its claims.
fn set(jti: &str, uri: &str, payload: Value) -> Value {
    json!({
        "iss": ISS, "aud": AUD, "jti": jti, "iat": NOW,
        "sub_id": {"format": "iss_sub", "iss": ISS, "sub": "00u1"},
        "events": {uri: payload},
    })
}

impl Listening {
    fn new() -> Self {
        Self::with(Reactions::default(), Formats::default(), None)
    }

    fn with(reactions: Reactions, formats: Formats, state: Option<&str>) -> Self {
        let bench = Bench::new();
        let maya = bench.person("maya", "00u1");
        bench.agent("triage", "maya");
        let stream = Stream {
            name: "idp".to_owned(),
            issuer: ISS.to_owned(),
            audience: AUD.to_owned(),
            subject_issuer: ISS.to_owned(),
            formats,
            push_token: Some(Digest::of(b"Bearer pushing")),
            state: state.map(str::to_owned),
        };
        let receiver = Receiver::new(
            Arc::clone(&bench.control),
            bench.clock.clone(),
            stream,
            reactions,
            Arc::new(Plain),
            Arc::default(),
        );
        bench.cuts.take();
        Self {
            bench,
            receiver,
            maya,
        }
    }

    fn hear(&self, set: &Value) -> Result<(), SetError> {
        wait(self.receiver.receive(&set.to_string()))
    }

    /// What one event writes, and what it cuts.
    fn follows(&self, set: &Value) -> (Vec<String>, Vec<&'static str>) {
        let before = self.size();
        self.hear(set).unwrap();
        (self.entries(before), self.cuts.take())
    }

    fn status(&self) -> Status {
        self.control.view(|state| {
            state
                .sponsor_view(state.sponsor(&self.maya).unwrap())
                .status
        })
    }
}

#[test]
fn each_event_has_its_consequence() {
    for (uri, payload, entry, cut) in [
        (
            format!("{CAEP}session-revoked"),
            json!({}),
            "sessions-revoked ssf:session-revoked",
            "sessions-revoked",
        ),
        (
            format!("{CAEP}credential-change"),
            json!({"credential_type": "password", "change_type": "revoke"}),
            "sessions-revoked ssf:credential-change",
            "sessions-revoked",
        ),
        (
            format!("{RISC}account-disabled"),
            json!({}),
            "sponsor-suspended ssf:account-disabled",
            "sponsor-suspended",
        ),
        (
            format!("{RISC}account-purged"),
            json!({}),
            "sponsor-suspended ssf:account-purged",
            "sponsor-suspended",
        ),
        (
            format!("{RISC}credential-compromise"),
            json!({}),
            "sponsor-suspended ssf:credential-compromise",
            "sponsor-suspended",
        ),
    ] {
        let listening = Listening::new();
        let (entries, cuts) = listening.follows(&set("j", &uri, payload));
        assert_eq!(
            (entries, cuts),
            (vec![entry.to_owned()], vec![cut]),
            "{uri}"
        );
    }
}

#[test]
fn a_set_is_done_once() {
    let listening = Listening::new();
    let revoked = set("j-1", &format!("{CAEP}session-revoked"), json!({}));
    assert_eq!(listening.follows(&revoked).0.len(), 1);
    // Sent again it is taken, and nothing is done.
    assert_eq!(listening.follows(&revoked), (vec![], vec![]));
    let another = set("j-2", &format!("{CAEP}session-revoked"), json!({}));
    assert_eq!(listening.follows(&another).0.len(), 1);
    assert_eq!(listening.receiver.heard().taken, 3);
    assert_eq!(listening.receiver.heard().last, Some(NOW));
}

#[test]
fn so_many_are_remembered() {
    let mut seen = Seen::default();
    let id = |i: usize| Digest::of(&i.to_be_bytes());
    for i in 0..=SETS_REMEMBERED_MAX {
        seen.note(id(i));
        seen.note(id(i));
    }
    assert!(!seen.known.contains(&id(0)));
    assert!(seen.known.contains(&id(1)));
    assert_eq!(
        (seen.known.len(), seen.order.len()),
        (SETS_REMEMBERED_MAX, SETS_REMEMBERED_MAX)
    );
}

#[test]
fn high_risk_stops_until_it_is_over() {
    let listening = Listening::new();
    let (entries, cuts) = listening.follows(&risk("1", "HIGH", NOW));
    assert_eq!(
        entries,
        [
            "sponsor-suspended ssf:risk-level-change",
            "sponsor-risk ssf:risk-level-change"
        ]
    );
    assert_eq!(cuts, ["sponsor-suspended"]);
    // Of two of the same moment the stricter counts.
    assert_eq!(listening.follows(&risk("2", "LOW", NOW)), (vec![], vec![]));
    let (entries, _) = listening.follows(&risk("3", "LOW", NOW + 1));
    assert_eq!(
        entries,
        [
            "sponsor-resumed ssf:risk-level-change",
            "sponsor-risk ssf:risk-level-change"
        ]
    );
    assert_eq!(listening.status(), Status::Active);
    let risk = listening
        .control
        .view(|state| state.sponsor(&listening.maya).unwrap().risk);
    assert_eq!(risk, Some(Risk::Low));
}

/// A SET made at a second, of a risk.
fn risk(jti: &str, level: &str, iat: u64) -> Value {
    let uri = format!("{CAEP}risk-level-change");
    let mut set = set(jti, &uri, json!({"current_level": level}));
    set["iat"] = iat.into();
    set
}

#[test]
fn an_old_risk_in_a_new_set_lifts_nothing() {
    let listening = Listening::new();
    listening.clock.pass(600);
    listening.hear(&risk("1", "HIGH", NOW + 300)).unwrap();
    let uri = format!("{CAEP}risk-level-change");
    for (jti, member, value) in [
        ("2", "event_timestamp", json!(NOW)),
        (
            "3",
            "event_timestamp",
            json!(299.5 + f64::from(u32::try_from(NOW).unwrap())),
        ),
        ("4", "toe", json!(NOW)),
    ] {
        let mut low = risk(jti, "LOW", NOW + 600);
        if member == "toe" {
            low["toe"] = value;
        } else {
            low["events"][&uri][member] = value;
        }
        assert!(listening.follows(&low).0.is_empty(), "{low}");
        assert_eq!(listening.status(), Status::Suspended);
    }
    // An event that says of itself that it is from later than its SET is as old as that.
    let mut lies = risk("5", "LOW", NOW);
    lies["events"][&uri]["event_timestamp"] = json!(NOW + 599);
    assert!(listening.follows(&lies).0.is_empty());
    listening.hear(&risk("6", "LOW", NOW + 600)).unwrap();
    assert_eq!(listening.status(), Status::Active);
}

#[test]
fn events_that_come_in_another_order_come_to_the_same() {
    let at = |jti: &str, event: &str, iat: u64| {
        let mut set = set(jti, &format!("{RISC}{event}"), json!({}));
        set["iat"] = iat.into();
        set
    };
    let all = [
        at("0", "account-disabled", NOW),
        at("1", "account-enabled", NOW + 1),
        at("2", "account-disabled", NOW + 2),
    ];
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for order in orders {
        let listening = Listening::new();
        for nth in order {
            listening.hear(&all[nth]).unwrap();
        }
        assert_eq!(listening.status(), Status::Suspended, "{order:?}");
        let later = at("3", "account-enabled", NOW + 3);
        listening.hear(&later).unwrap();
        assert_eq!(listening.status(), Status::Active, "{order:?}");
        // What was enabled stays enabled, whatever of before is heard yet.
        let late = at("4", "account-disabled", NOW + 1);
        assert!(listening.follows(&late).0.is_empty());
    }
}

#[test]
fn an_old_event_that_is_sent_again_lifts_nothing() {
    let listening = Listening::new();
    let disabled = |jti: &str| set(jti, &format!("{RISC}account-disabled"), json!({}));
    let enabled = |jti: &str, iat: u64| {
        let mut set = set(jti, &format!("{RISC}account-enabled"), json!({}));
        set["iat"] = iat.into();
        set
    };
    listening.clock.pass(600);
    listening.hear(&disabled("1")).unwrap();
    listening.hear(&enabled("2", NOW)).unwrap();
    assert_eq!(listening.status(), Status::Suspended);
    listening.clock.pass(600);
    listening.hear(&enabled("3", NOW + 1200)).unwrap();
    assert_eq!(listening.status(), Status::Active);
    // Whose account was purged does not come back by being enabled.
    let mut purged = set("4", &format!("{RISC}account-purged"), json!({}));
    purged["iat"] = (NOW + 1200).into();
    listening.hear(&purged).unwrap();
    listening.clock.pass(60);
    listening.hear(&enabled("5", NOW + 1230)).unwrap();
    assert_eq!(listening.status(), Status::Suspended);
}

#[test]
fn what_an_administrator_stopped_is_not_enabled() {
    let listening = Listening::new();
    listening.execute(Command::SuspendSponsor {
        id: "maya".parse().unwrap(),
        signal: None,
    });
    listening
        .hear(&set("1", &format!("{RISC}account-enabled"), json!({})))
        .unwrap();
    assert_eq!(listening.status(), Status::Suspended);
}

#[test]
fn only_names_that_are_believed_say_who_somebody_is() {
    let check = |formats: Formats, subject: Value, is_maya: bool| {
        let listening = Listening::with(Reactions::default(), formats, None);
        let mut set = set("j", &format!("{CAEP}session-revoked"), json!({}));
        set["sub_id"] = subject.clone();
        let (entries, _) = listening.follows(&set);
        assert_eq!(!entries.is_empty(), is_maya, "{subject}");
        // Who is asked how the stream is doing can tell one that names nobody from one that works.
        let heard = listening.receiver.heard();
        assert_eq!((heard.taken, heard.about_nobody), (1, u64::from(!is_maya)));
    };
    let usual = Formats::default();
    let email = json!({"format": "email", "email": "Maya@acme.example"});
    check(
        usual,
        json!({"format": "iss_sub", "iss": ISS, "sub": "00u1"}),
        true,
    );
    check(
        usual,
        json!({"format": "iss_sub", "iss": "https://other.example", "sub": "00u1"}),
        false,
    );
    check(
        usual,
        json!({"format": "iss_sub", "iss": ISS, "sub": "00u2"}),
        false,
    );
    check(usual, json!({"format": "opaque", "id": "00u1"}), true);
    check(usual, json!({"format": "opaque", "id": "maya"}), false);
    // Never by an address alone, unless the configuration says so.
    check(usual, email.clone(), false);
    check(
        Formats {
            email: true,
            ..usual
        },
        email,
        true,
    );
    check(
        Formats {
            opaque: false,
            ..usual
        },
        json!({"format": "opaque", "id": "00u1"}),
        false,
    );
    check(
        Formats {
            iss_sub: false,
            ..usual
        },
        json!({"format": "iss_sub", "iss": ISS, "sub": "00u1"}),
        false,
    );
}

#[test]
fn a_subject_that_is_two_people_is_refused() {
    let listening = Listening::new();
    listening.person("ben", "00u2");
    let mut set = set("j", &format!("{RISC}account-disabled"), json!({}));
    set["sub_id"] = json!({"format": "aliases", "identifiers": [
        {"format": "opaque", "id": "00u1"}, {"format": "opaque", "id": "00u2"}]});
    assert_eq!(
        listening.hear(&set).unwrap_err().as_str(),
        "invalid_request"
    );
    assert_eq!(listening.status(), Status::Active);
}

#[test]
fn a_verification_has_the_state_that_was_asked_for() {
    let with =
        |state: Option<&str>| Listening::with(Reactions::default(), Formats::default(), state);
    let verification = |state: Value| {
        let mut set = set("j", &format!("{SSF}verification"), json!({"state": state}));
        set["sub_id"] = json!({"format": "opaque", "id": "stream-1"});
        set
    };
    assert_eq!(with(Some("s1")).hear(&verification(json!("s1"))), Ok(()));
    assert_eq!(
        with(Some("s1")).hear(&verification(json!("s2"))),
        Err(SetError::State)
    );
    assert_eq!(
        with(Some("s1")).hear(&verification(Value::Null)),
        Err(SetError::State)
    );
    assert_eq!(with(None).hear(&verification(json!("any"))), Ok(()));
    let stopped = set(
        "j",
        &format!("{SSF}stream-updated"),
        json!({"status": "disabled"}),
    );
    assert_eq!(with(None).hear(&stopped), Ok(()));
}

#[test]
fn what_is_not_signed_or_dated_ahead_is_refused() {
    let listening = Listening::new();
    let disabled = set("j", &format!("{RISC}account-disabled"), json!({}));
    let forged = wait(listening.receiver.receive(&format!("forged {disabled}")));
    assert_eq!(forged, Err(SetError::Key));
    let mut ahead = disabled;
    ahead["iat"] = (NOW + CLOCK_LEEWAY_SECONDS + 1).into();
    assert_eq!(
        listening.hear(&ahead).unwrap_err().as_str(),
        "invalid_request"
    );
    let long = wait(listening.receiver.receive(&"x".repeat(SET_BYTES_MAX + 1)));
    assert_eq!(long.unwrap_err().as_str(), "invalid_request");
    assert_eq!(listening.status(), Status::Active);
    assert_eq!(listening.receiver.heard().refused, 3);
}

#[test]
fn what_cannot_be_recorded_is_to_be_sent_again() {
    let listening = Listening::new();
    let disabled = set("j", &format!("{RISC}account-disabled"), json!({}));
    listening.faults.set(store::Fault::Full);
    assert_eq!(listening.hear(&disabled), Err(SetError::Unavailable));
    listening.faults.set(store::Fault::None);
    assert_eq!(listening.hear(&disabled), Ok(()));
    assert_eq!(listening.status(), Status::Suspended);
}

#[test]
fn reactions_are_the_configurations_to_choose() {
    let reactions = Reactions {
        session_revoked: Reaction::Ignore,
        credential_changed: Reaction::ReAccept,
        ..Reactions::default()
    };
    let listening = Listening::with(reactions, Formats::default(), None);
    let revoked = set("1", &format!("{CAEP}session-revoked"), json!({}));
    assert_eq!(listening.follows(&revoked), (vec![], vec![]));
    let changed = set(
        "2",
        &format!("{CAEP}credential-change"),
        json!({"change_type": "update"}),
    );
    assert_eq!(
        listening.follows(&changed),
        (
            vec!["agent-lapsed ssf:credential-change".to_owned()],
            vec!["agent-lapsed"]
        )
    );
}

#[test]
fn pushes_are_answered_as_rfc_8935_says() {
    let listening = Listening::new();
    let push = |kind: &str, body: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, kind.parse().unwrap());
        let response = wait(listening.receiver.push(&headers, body.as_bytes()));
        let json: Value = serde_json::from_slice(response.body()).unwrap_or_default();
        (
            response.status().as_u16(),
            json["err"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let good = set("j", &format!("{CAEP}session-revoked"), json!({})).to_string();
    assert_eq!(push(SECEVENT_JWT, &good), (202, String::new()));
    assert_eq!(
        push("application/jwt", &good),
        (400, "invalid_request".to_owned())
    );
    assert_eq!(
        push(SECEVENT_JWT, "forged"),
        (400, "invalid_request".to_owned())
    );
    assert_eq!(
        push(SECEVENT_JWT, "forged {}"),
        (400, "invalid_key".to_owned())
    );
    let other = good.replace("/ssf/idp", "/ssf/other");
    assert_eq!(
        push(SECEVENT_JWT, &other),
        (400, "invalid_audience".to_owned())
    );
}

#[test]
fn only_the_transmitter_is_let_in() {
    let listening = Listening::new();
    let admit = |tokens: &[&str]| {
        let mut headers = HeaderMap::new();
        for token in tokens {
            headers.append(AUTHORIZATION, token.parse().unwrap());
        }
        listening
            .receiver
            .admit(&headers)
            .map_err(|refused| refused.status().as_u16())
    };
    assert_eq!(admit(&["Bearer pushing"]), Ok(()));
    for bad in [
        &[][..],
        &[""],
        &["Bearer pulling"],
        &["pushing"],
        &["Bearer pushing", "x"],
    ] {
        assert_eq!(admit(bad), Err(401), "{bad:?}");
    }
}

/// A transmitter that is polled: what it has, and what it was sent.
#[derive(Debug, Default)]
struct Transmitter {
    waiting: std::sync::Mutex<Vec<(String, String)>>,
    asked: std::sync::Mutex<Vec<Value>>,
}

impl Post for Transmitter {
    fn post<'a>(
        &'a self,
        _: &'a str,
        token: Option<&'a Secret<String>>,
        body: Value,
    ) -> Posting<'a> {
        Box::pin(async move {
            if token.map(|token| token.expose().as_str()) != Some("polling") {
                return Err("401".to_owned());
            }
            let mut waiting = self.waiting.lock().unwrap();
            let done = |jti: &String| {
                let ack = body["ack"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|it| it == jti));
                ack || body["setErrs"].get(jti).is_some()
            };
            waiting.retain(|(jti, _)| !done(jti));
            let sets: serde_json::Map<String, Value> = waiting
                .iter()
                .take(2)
                .map(|(jti, set)| (jti.clone(), set.as_str().into()))
                .collect();
            let more = waiting.len() > sets.len();
            self.asked.lock().unwrap().push(body);
            Ok(json!({"sets": sets, "moreAvailable": more})
                .to_string()
                .into_bytes())
        })
    }
}

#[test]
fn polled_events_are_acknowledged_when_they_are_done() {
    let listening = Listening::new();
    let transmitter = Transmitter::default();
    for i in 0..3 {
        let jti = format!("j-{i}");
        let set = set(&jti, &format!("{CAEP}session-revoked"), json!({})).to_string();
        transmitter.waiting.lock().unwrap().push((jti, set));
    }
    transmitter
        .waiting
        .lock()
        .unwrap()
        .push(("bad".to_owned(), "forged x".to_owned()));
    let token = Secret::new("polling".to_owned());
    let go = |token| {
        wait(round(
            &listening.receiver,
            &transmitter,
            "https://idp.example/poll",
            token,
        ))
    };
    assert!(go(None).is_err());
    assert_eq!(go(Some(&token)), Ok(3));
    assert!(transmitter.waiting.lock().unwrap().is_empty());
    let asked = transmitter.asked.lock().unwrap().clone();
    assert_eq!(asked[0]["returnImmediately"], true);
    assert_eq!(
        asked.last().unwrap()["setErrs"]["bad"]["err"],
        "invalid_key"
    );
    // What cannot be recorded is neither acknowledged nor refused.
    let again = set("j-9", &format!("{RISC}account-disabled"), json!({})).to_string();
    transmitter
        .waiting
        .lock()
        .unwrap()
        .push(("j-9".to_owned(), again));
    listening.faults.set(store::Fault::Full);
    assert_eq!(go(Some(&token)), Ok(0));
    assert_eq!(transmitter.waiting.lock().unwrap().len(), 1);
    listening.faults.set(store::Fault::None);
    assert_eq!(go(Some(&token)), Ok(1));
    assert_eq!(listening.status(), Status::Suspended);
}
