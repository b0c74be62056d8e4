//! Asking from elsewhere over `AuthZEN`: who may ask about whom, and what of it is on record.

use std::io::Write as _;

use gateway::record::{Asked, Over};
use ledger::Kind;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use testkit::{Answer, Ask, Below, Plane, Token};
use vocab::Digest;

use crate::approvals;
use crate::common::PUBLIC;

/// A policy enforcement point that asks.
pub(crate) struct Asker<'a> {
    plane: &'a Plane,
    token: String,
}

impl<'a> Asker<'a> {
    /// One that is registered for these upstreams.
    pub(crate) async fn add(plane: &'a Plane, id: &str, serves: &[&str], trusted: bool) -> Self {
        let token = format!("tsp_{id}");
        let body = json!({
            "id": id, "serves": serves, "trusted": trusted,
            "token": Digest::of(token.as_bytes()),
        });
        let added = plane.admin("POST", "/v1/peps", Some(body)).await;
        assert_eq!(added.status, 200, "{}", added.text());
        Self { plane, token }
    }

    /// One that shows a token.
    pub(crate) fn with(plane: &'a Plane, token: &str) -> Self {
        let token = token.to_owned();
        Self { plane, token }
    }

    pub(crate) fn get(&self, path: &str) -> Ask {
        let bearer = format!("Bearer {}", self.token);
        self.plane.ask("GET", path).header("authorization", bearer)
    }

    pub(crate) fn ask(&self, path: &str) -> Ask {
        self.plane
            .ask("POST", path)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask(path).body(body.to_string()).send().await
    }

    pub(crate) async fn evaluate(&self, body: &Value) -> Value {
        let answer = self.post("/access/v1/evaluation", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let json = answer.json();
        //= https://openid.net/specs/authorization-api-1_0.html#section-5.5
        //= type=test
        //# Decision is an object that contains a REQUIRED `decision` key with a `boolean` value,
        //# and an OPTIONAL `context` key with an object value.
        //= https://openid.net/specs/authorization-api-1_0.html#section-5.5
        //= type=test
        //# `decision`: REQUIRED. A boolean value that specifies whether the Decision is to allow or
        //# deny the operation.
        assert!(json["decision"].is_boolean(), "{json}");
        json
    }
}

/// A call of a tool, asked about by the caller's token.
pub(crate) fn by_token(token: &Token, tool: &str, args: &str) -> Value {
    let args: Value = serde_json::from_str(args).unwrap();
    let mut subject = json!({"type": "access_token", "id": token.text});
    if token.key().is_some() {
        let dpop = json!({"proof": token.proof("POST"), "htm": "POST", "htu": token.uri()});
        subject["properties"] = json!({"dpop": dpop});
    }
    json!({
        "subject": subject,
        "action": {"name": tool},
        "resource": {"type": "tool", "id": tool},
        "context": {"args": args},
    })
}

fn record(decision: &Value) -> u64 {
    decision["context"]["record"]["index"].as_u64().unwrap()
}

fn error(decision: &Value) -> u64 {
    assert_eq!(decision["decision"], false, "{decision}");
    decision["context"]["error"]["status"].as_u64().unwrap()
}

const READ: &str = "files/read_text_file";
const SECRET: &str = r#"{"path":"/secret/a.txt"}"#;

#[tokio::test]
async fn an_answer_is_decided_like_a_call_and_on_record_before_it_is_told() {
    let mut plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let bearer = agent.bearer("files").await;
    {
        let asker = Asker::add(&plane, "notes-server", &["files"], false).await;
        for (token, credential) in [(&token, "dpop"), (&bearer, "bearer")] {
            let yes = asker.evaluate(&by_token(token, READ, PUBLIC)).await;
            let no = asker.evaluate(&by_token(token, READ, SECRET)).await;
            assert_eq!(
                (&yes["decision"], &no["decision"]),
                (&json!(true), &json!(false))
            );
            // The gateway itself says the same.
            let direct = token.modern().call("read_text_file", SECRET).await;
            assert_eq!(json!(direct.said()), no["context"]["reason"]);
            for answer in [&yes, &no] {
                let ledger = plane.ledger();
                let line = ledger.calls[usize::try_from(record(answer)).unwrap()].clone();
                assert_eq!(line.kind, Kind::Decision);
                assert_eq!(line.actor.id, token.instance);
                assert_eq!(line.actor.credential, credential);
                assert!(line.actor.verified);
                let body = plane.calls().decision(record(answer));
                let by = "notes-server".parse().unwrap();
                let over = Over::Authzen;
                assert_eq!(body.asked, Some(Asked { by, over }));
                assert_eq!(body.proven, token.key().is_some());
                assert_eq!(
                    json!(body.effect),
                    json!(if answer["decision"] == true {
                        "allow"
                    } else {
                        "deny"
                    })
                );
            }
        }
        assert_eq!(plane.gateway().in_flight(), 0);
    }
    assert_eq!(plane.files().calls(), 0, "nothing was sent");
    // A start waits for no outcome of what somebody else does.
    let before = plane.ledger().of(Kind::Outcome).len();
    plane.kill();
    plane.boot().await.unwrap();
    assert_eq!(plane.ledger().of(Kind::Outcome).len(), before);
    // The policy enforcement point is on record, and survives.
    let asker = Asker {
        plane: &plane,
        token: "tsp_notes-server".to_owned(),
    };
    let bearer = agent.bearer("files").await;
    let yes = asker.evaluate(&by_token(&bearer, READ, PUBLIC)).await;
    assert_eq!(yes["decision"], true, "{yes}");
    // Every decision is made again from the files, these too.
    let verified = plane.end().await;
    assert_eq!(verified.permits, 3);
    assert_eq!(verified.replayed, 7);
}

#[tokio::test]
async fn what_people_approved_is_answered_with_yes_once() {
    let plane = approvals::office("").await;
    let token = plane.agent("triage").await.token("files").await;
    let asker = Asker::add(&plane, "notes-server", &["files"], false).await;
    let ask = async || {
        let question = by_token(&token, "files/refund", approvals::REFUND);
        asker.evaluate(&question).await
    };
    let held = ask().await;
    let first = approvals::asked(&plane);
    assert_eq!(held["decision"], false, "{held}");
    assert_eq!(held["context"]["approval"]["id"], first.id.as_str());
    assert_eq!(record(&held), first.held);
    let again = ask().await;
    assert_eq!(
        (&again["decision"], record(&again)),
        (&json!(false), first.held)
    );
    approvals::answers(&plane, "noor", true).await;
    // Made through the gateway it is another call.
    let direct = token.modern().call("refund", approvals::REFUND).await;
    assert_eq!(direct.effect(), "hold", "{}", direct.json);
    let yes = ask().await;
    assert_eq!(yes["decision"], true, "{yes}");
    let body = plane.calls().decision(record(&yes));
    assert_eq!(body.approval, Some(first.asked));
    let next = ask().await;
    assert_eq!(next["decision"], false, "{next}");
    assert_ne!(next["context"]["approval"]["id"], first.id.as_str());
    assert_eq!(plane.files().calls(), 0);
    plane.end().await;
}

#[tokio::test]
async fn only_who_is_registered_is_answered_and_only_about_its_own() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.bearer("files").await;
    let asker = Asker::add(&plane, "web", &["files"], false).await;
    let question = by_token(&token, READ, PUBLIC);
    let decisions = || plane.calls().of(Kind::Decision).len();
    for authorization in [
        "Bearer tsp_wev",
        "Bearer ",
        "Basic dHNwX3dlYg==",
        "tsp_web",
        // The agent's own token is no way to ask.
        &format!("Bearer {}", token.text),
    ] {
        let ask = asker
            .ask("/access/v1/evaluation")
            .body(question.to_string());
        let answer = ask.header("authorization", authorization).send().await;
        assert_eq!(answer.status, 401, "{authorization}");
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .starts_with("Bearer")
        );
    }
    let twice = asker
        .ask("/access/v1/evaluation")
        .also("authorization", "Bearer tsp_web")
        .body(question.to_string());
    assert_eq!(twice.send().await.status, 401);
    for name in [
        "other/read_text_file",
        "read_text_file/x",
        "other:ping",
        ":",
        "/",
    ] {
        let answer = asker.evaluate(&by_token(&token, name, PUBLIC)).await;
        assert_eq!(error(&answer), 403, "{name}");
    }
    // Whose word is not taken shows the token.
    let mut said = question.clone();
    said["subject"] = json!({"type": "instance", "id": token.instance});
    assert_eq!(error(&asker.evaluate(&said).await), 403);
    assert_eq!(decisions(), 0);

    let trusted = Asker::add(&plane, "mesh", &["files"], true).await;
    let answer = trusted.evaluate(&said).await;
    assert_eq!(answer["decision"], true, "{answer}");
    let line = plane.ledger().last(Kind::Decision).clone();
    assert!(!line.actor.verified, "it is only said who asked");
    assert_eq!(line.actor.credential, "said");
    assert!(!plane.calls().decision(record(&answer)).proven);
    for unknown in ["i-aaaaaaaaaaaaaaaaaaaaaaaaaa", "alice"] {
        said["subject"]["id"] = json!(unknown);
        assert_eq!(trusted.evaluate(&said).await["decision"], false);
    }
    said["subject"] = json!({"type": "user", "id": "alice"});
    assert_eq!(error(&trusted.evaluate(&said).await), 404);
    assert_eq!(decisions(), 1);

    // What it was told is told on by whoever is cut: what it does with it, it does itself.
    plane.command("/v1/agents/triage/suspend").await;
    let cuts = plane.admin("GET", "/v1/cuts", None).await.json();
    let cut = cuts[0]["record"].as_str().unwrap().replace("control/", "");
    let cut = plane.admin("GET", &format!("/v1/cuts/{cut}"), None).await;
    let told = &cut.json()["certificate"]["residue"]["told_elsewhere"];
    assert_eq!(*told, json!([format!("calls/{}", record(&answer))]));
    plane.command("/v1/agents/triage/resume").await;

    // Removed is acknowledged once no answer of it can follow.
    plane.command("/v1/peps/mesh/remove").await;
    assert_eq!(
        plane.calls().last(Kind::Barrier).body["cause"],
        "pep-removed"
    );
    let answer = trusted.post("/access/v1/evaluation", &question).await;
    assert_eq!(answer.status, 401);
    assert_eq!(decisions(), 1);
    plane.end().await;
}

#[tokio::test]
async fn a_token_is_checked_as_if_its_request_had_come_here() {
    let plane = Plane::with(|setup| {
        let notes = setup.upstreams["files"].0.clone();
        setup.upstream("notes", &notes, "");
    })
    .await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let asker = Asker::add(&plane, "web", &["files", "notes"], false).await;
    let good = by_token(&token, READ, PUBLIC);
    assert_eq!(asker.evaluate(&good).await["decision"], true);
    assert_eq!(error(&asker.evaluate(&good).await), 401, "a replayed proof");
    // For another upstream than the token's.
    let other = by_token(&token, "notes/read_text_file", PUBLIC);
    assert!([400, 401].contains(&error(&asker.evaluate(&other).await)));
    // Without the proof, by somebody who only has the token.
    let mut stolen = by_token(&token, READ, PUBLIC);
    stolen["subject"]["properties"] = json!({});
    assert_eq!(error(&asker.evaluate(&stolen).await), 401);
    // A proof that was made for another server.
    let mut elsewhere = by_token(&token, READ, PUBLIC);
    let uri = "https://evil.example/mcp/files";
    let key = token.key().unwrap();
    let proof = token.proof_by(key, "POST", uri, Some(&token.text), plane.now());
    elsewhere["subject"]["properties"]["dpop"] = json!({"proof": proof, "htm": "POST", "htu": uri});
    assert_eq!(error(&asker.evaluate(&elsewhere).await), 400);
    elsewhere["subject"]["properties"]["dpop"]["htu"] = json!(token.uri());
    assert_eq!(error(&asker.evaluate(&elsewhere).await), 401);
    // For another method.
    let mut method = by_token(&token, READ, PUBLIC);
    method["subject"]["properties"]["dpop"]["htm"] = json!("GET");
    assert_eq!(error(&asker.evaluate(&method).await), 401);
    for id in ["", "x", "a b", "é\u{0}"] {
        let mut not = by_token(&token, READ, PUBLIC);
        not["subject"] = json!({"type": "access_token", "id": id});
        assert!(
            [400, 401].contains(&error(&asker.evaluate(&not).await)),
            "{id:?}"
        );
    }
    assert_eq!(plane.calls().of(Kind::Decision).len(), 1);
    // Narrowed at any place of its chain.
    for (command, back) in [
        ("/v1/agents/triage/suspend", "/v1/agents/triage/resume"),
        ("/v1/sponsors/maya/suspend", "/v1/sponsors/maya/resume"),
    ] {
        plane.command(command).await;
        let token = by_token(&token, READ, PUBLIC);
        assert_eq!(error(&asker.evaluate(&token).await), 401, "{command}");
        plane.command(back).await;
    }
    let answer = asker.evaluate(&by_token(&token, READ, PUBLIC)).await;
    assert_eq!(answer["decision"], true);
    plane.end().await;
}

/// The whole chain answers for the instance at its end, here as in the gateway.
#[tokio::test]
async fn what_was_handed_on_bounds_answers_and_ends_with_any_link() {
    let plane = Plane::with(|setup| setup.limits = "same_denials = 0".to_owned()).await;
    let agent = plane.agent("triage").await;
    let root = agent.token("files").await;
    let part = Below {
        details: Some(
            r#"[{"type":"mcp_tool","locations":["files"],"identifier":"read_*",
                 "arguments":{"path":{"prefix":"/public/a"}}}]"#,
        ),
        ..Below::default()
    };
    let child = agent.below(&root, &part).await;
    let leaf = agent.below(&child, &Below::default()).await;
    let asker = Asker::add(&plane, "web", &["files"], true).await;
    let other = r#"{"path":"/public/b.txt"}"#;
    for token in [&child, &leaf] {
        let yes = asker.evaluate(&by_token(token, READ, PUBLIC)).await;
        assert_eq!(yes["decision"], true, "{yes}");
        // Said by a trusted asker it is no more.
        let mut said = by_token(token, READ, other);
        let shown = asker.evaluate(&said).await;
        said["subject"] = json!({"type": "instance", "id": token.instance});
        for no in [shown, asker.evaluate(&said).await] {
            assert_eq!(no["decision"], false, "{no}");
            let body = plane.calls().decision(record(&no));
            assert_eq!(body.stage.as_deref(), Some("authority"));
            assert!(body.chain.len() > 1);
        }
    }
    let broad = asker.evaluate(&by_token(&root, READ, other)).await;
    assert_eq!(broad["decision"], true, "{broad}");
    // For one call, once, with these arguments to the byte, also of two that race.
    let once = agent.once(&root, "read_text_file", PUBLIC).await;
    let no = asker.evaluate(&by_token(&once, READ, other)).await;
    assert_eq!(no["decision"], false, "{no}");
    let (one, two) = (by_token(&once, READ, PUBLIC), by_token(&once, READ, PUBLIC));
    let (one, two) = tokio::join!(asker.evaluate(&one), asker.evaluate(&two));
    let yes = [one, two]
        .iter()
        .filter(|it| it["decision"] == true)
        .count();
    assert_eq!(yes, 1);
    let used = once.modern().call("read_text_file", PUBLIC).await;
    assert_ne!(used.effect(), "allow", "{}", used.json);
    // The link in the middle.
    plane
        .command(&format!("/v1/instances/{}/revoke", child.instance))
        .await;
    for (token, standing) in [(&leaf, false), (&child, false), (&root, true)] {
        let answer = asker.evaluate(&by_token(token, READ, PUBLIC)).await;
        assert_eq!(answer["decision"], standing, "{answer}");
        let mut said = by_token(token, READ, PUBLIC);
        said["subject"] = json!({"type": "instance", "id": token.instance});
        let answer = asker.evaluate(&said).await;
        assert_eq!(answer["decision"], standing, "{answer}");
    }
    plane.end().await;
}

#[tokio::test]
async fn no_yes_is_told_past_a_cut_that_it_raced() {
    let plane = Plane::with(|setup| setup.limits = "same_denials = 0".to_owned()).await;
    let token = plane.agent("triage").await.bearer("files").await;
    for cut in ["/v1/peps/web/remove", "/v1/sponsors/maya/suspend"] {
        let asker = Asker::add(&plane, "web", &["files"], false).await;
        let question = by_token(&token, READ, PUBLIC);
        let ask = async || {
            let answer = asker.post("/access/v1/evaluation", &question).await;
            let yes = answer.status == 200 && answer.json()["decision"] == true;
            yes.then(|| record(&answer.json()))
        };
        assert!(ask().await.is_some(), "{cut}");
        let racing = async {
            let mut told = Vec::new();
            while let Some(index) = ask().await {
                told.push(index);
            }
            told
        };
        let (told, others, ()) = tokio::join!(racing, ask(), async {
            plane.command(cut).await;
        });
        // Whatever was told is on record before the barrier, and nothing after it.
        let ledger = plane.ledger();
        let barrier = ledger.last(Kind::Barrier).index;
        let last = told.iter().chain(&others).max();
        assert!(
            last.is_none_or(|last| *last < barrier),
            "{cut}: {last:?} {barrier}"
        );
        let after = ledger.of(Kind::Decision).into_iter();
        let after = after.filter(|it| it.index > barrier && it.body["effect"] == "allow");
        assert_eq!(after.count(), 0, "{cut}");
        assert_eq!(ask().await, None);
    }
    plane.end().await;
}

#[tokio::test]
async fn a_resource_is_that_of_its_action_and_arguments_are_typed_by_the_tool() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let asker = Asker::add(&plane, "web", &["files"], false).await;
    let token = agent.bearer("files").await;
    let mut question = by_token(&token, READ, PUBLIC);
    for resource in [
        json!({"type": "tool", "id": "files/write_file"}),
        json!({"type": "tool", "id": "files"}),
        json!({"type": "upstream", "id": "files"}),
    ] {
        question["resource"] = resource;
        assert_eq!(error(&asker.evaluate(&question).await), 400);
    }
    assert_eq!(plane.calls().of(Kind::Decision).len(), 0);
    // What the tool does not declare is refused here too, and what it is not.
    for (tool, args) in [
        (READ, r#"{"path":"/public/a.txt","sudo":true}"#),
        (READ, r#"{"path":7}"#),
        (READ, "{}"),
        (READ, r#"{"path":"/public/../secret"}"#),
        ("files/no_such_tool", "{}"),
    ] {
        let answer = asker.evaluate(&by_token(&token, tool, args)).await;
        assert_eq!(answer["decision"], false, "{tool} {args}");
        let stage = plane.calls().decision(record(&answer)).stage;
        assert!(
            ["schema", "canonical", "unknown-tool"].contains(&stage.as_deref().unwrap()),
            "{stage:?}"
        );
    }
    // The only one it stands in front of need not be named.
    let answer = asker
        .evaluate(&by_token(&token, "read_text_file", PUBLIC))
        .await;
    assert_eq!(answer["decision"], true, "{answer}");
    // Other methods, by the name that policies have for them.
    let mut read = by_token(&token, READ, r#"{"uri":"file:///public/a.txt"}"#);
    read["action"]["name"] = json!("files:resources/read");
    read["resource"] = json!({"type": "upstream", "id": "files"});
    assert_eq!(asker.evaluate(&read).await["decision"], true);
    read["context"]["args"]["uri"] = json!("file:///secret/a.txt");
    assert_eq!(asker.evaluate(&read).await["decision"], false);
    plane.end().await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_recorded_is_no() {
    let plane = Plane::start().await;
    let token = plane.agent("triage").await.bearer("files").await;
    let asker = Asker::add(&plane, "web", &["files"], false).await;
    let question = by_token(&token, READ, PUBLIC);
    assert_eq!(asker.evaluate(&question).await["decision"], true);
    plane.faults.set(store::Fault::Full);
    let answer = asker.evaluate(&question).await;
    assert_eq!(answer["decision"], false, "{answer}");
    assert!(answer["context"]["record"].is_null());
    plane.end().await;
}

#[tokio::test]
async fn what_an_agent_may_spend_is_spent_by_answers_too() {
    let plane = Plane::start().await;
    let limits = json!({"limits": {"calls_per_minute": null, "calls_per_instance": 2}});
    let token = plane.register("triage", limits).await.bearer("files").await;
    let asker = Asker::add(&plane, "web", &["files"], false).await;
    let question = by_token(&token, READ, PUBLIC);
    assert_eq!(asker.evaluate(&question).await["decision"], true);
    let direct = token.modern().call("read_text_file", PUBLIC).await;
    assert_eq!(direct.effect(), "allow");
    let answer = asker.evaluate(&question).await;
    assert_eq!(answer["decision"], false);
    let stage = plane.calls().decision(record(&answer)).stage;
    assert_eq!(stage.as_deref(), Some("limit"));
    plane.end().await;
}

#[tokio::test]
async fn malformed_requests_get_an_error_and_no_decision() {
    let plane = Plane::start().await;
    let token = plane.agent("triage").await.bearer("files").await;
    let asker = Asker::add(&plane, "web", &["files"], false).await;
    let good = by_token(&token, READ, PUBLIC).to_string();
    for path in ["/access/v1/evaluation", "/access/v1/evaluations"] {
        for (body, status) in [
            (String::new(), 400),
            ("{".to_owned(), 400),
            //= https://openid.net/specs/authorization-api-1_0.html#section-10.1.1
            //= type=test
            //# The top-level element of all request and response bodies MUST be a JSON object
            ("[]".to_owned(), 400),
            ("null".to_owned(), 400),
            (good.replacen('{', r#"{"subject":{},"#, 1), 400),
            (good.clone() + "x", 400),
        ] {
            let answer = asker.ask(path).body(body.clone()).send().await;
            assert_eq!(answer.status, status, "{path} {body}");
        }
        //= https://openid.net/specs/authorization-api-1_0.html#section-10.1
        //= type=test
        //# Requests MUST include a `Content-Type` header with the value `application/json`
        for content in ["text/plain", "application/json; charset=latin-1", ""] {
            let ask = asker.ask(path).body(good.clone());
            let answer = ask.header("content-type", content).send().await;
            assert_eq!(answer.status, 400, "{content}");
        }
        let ask = asker.ask(path).body(good.clone());
        assert_eq!(
            ask.header("content-encoding", "gzip").send().await.status,
            400
        );
        let long = vec![b' '; vocab::limits::BODY_BYTES_MAX + 1];
        assert_eq!(asker.ask(path).body(long).send().await.status, 413);
    }
    let many = |count: usize| {
        let mut all: Value = serde_json::from_str(&good).unwrap();
        all["evaluations"] = json!(vec![json!({}); count]);
        all
    };
    let max = vocab::limits::EVALUATIONS_MAX;
    let path = "/access/v1/evaluations";
    assert_eq!(asker.post(path, &many(max + 1)).await.status, 400);
    assert_eq!(plane.calls().of(Kind::Decision).len(), 0);
    let answer = asker.post(path, &many(max)).await.json();
    let all = answer["evaluations"].as_array().unwrap();
    assert_eq!(all.len(), max);
    assert!(all.iter().all(|it| it["decision"] == true), "{answer}");
    assert!(answer.get("decision").is_none());
    plane.end().await;
}

#[tokio::test]
async fn a_list_is_answered_as_far_as_it_asks_to_be() {
    let plane = Plane::start().await;
    let token = plane.agent("triage").await.bearer("files").await;
    let asker = Asker::add(&plane, "web", &["files"], false).await;
    let check = async |semantic: Value, expected: &[bool]| {
        let mut all = by_token(&token, READ, PUBLIC);
        let no = json!({"context": {"args": {"path": "/secret/a.txt"}}});
        all["evaluations"] = json!([{}, no, {}, {"resource": {}}]);
        if !semantic.is_null() {
            all["options"] = json!({"evaluations_semantic": semantic, "another": 1});
        }
        let before = plane.calls().of(Kind::Decision).len();
        let answer = asker.post("/access/v1/evaluations", &all).await;
        let found: Vec<bool> = answer.json()["evaluations"]
            .as_array()
            .unwrap_or_else(|| panic!("{}", answer.text()))
            .iter()
            .map(|it| it["decision"].as_bool().unwrap())
            .collect();
        assert_eq!(found, expected, "{semantic}");
        // What is not answered is not on record; what is malformed neither.
        let decided = plane.calls().of(Kind::Decision).len() - before;
        assert_eq!(decided, expected.len().min(3), "{semantic}");
    };
    check(Value::Null, &[true, false, true, false]).await;
    check(json!("execute_all"), &[true, false, true, false]).await;
    check(json!("deny_on_first_deny"), &[true, false]).await;
    check(json!("permit_on_first_permit"), &[true]).await;
    let mut wrong = by_token(&token, READ, PUBLIC);
    wrong["evaluations"] = json!([{}]);
    for semantic in [json!("first"), json!(1), Value::Null] {
        wrong["options"] = json!({"evaluations_semantic": semantic});
        let answer = asker.post("/access/v1/evaluations", &wrong).await;
        assert_eq!(answer.status, 400, "{semantic}");
    }
    wrong["options"] = json!([]);
    assert_eq!(
        asker.post("/access/v1/evaluations", &wrong).await.status,
        400
    );
    wrong = by_token(&token, READ, PUBLIC);
    for evaluations in [json!({}), json!("x"), json!([1])] {
        wrong["evaluations"] = evaluations;
        assert_eq!(
            asker.post("/access/v1/evaluations", &wrong).await.status,
            400
        );
    }
    plane.end().await;
}

/// What the certification scenario asks for, in Tipstaff's policies: `alice` and `bob` are agents,
/// records belong to a service that guards itself.
const FIXTURE: &str = r#"
@id("read") permit (principal, action == Action::"records/read", resource)
when { context.args.resource.id == "record-1" };

@id("alice-writes") permit (principal in Agent::"alice", action == Action::"records/write", resource)
when { context.args.resource.id == "record-1" };

@id("admins-write") permit (principal, action == Action::"records/write", resource)
when { context.args has subject && context.args.subject has role && context.args.subject.role == "admin" };

@id("archived") forbid (principal in Agent::"alice", action == Action::"records/write", resource)
when { context.args.resource has properties && context.args.resource.properties has status &&
       context.args.resource.properties.status == "archived" };

@id("soft-delete") permit (principal in Agent::"alice", action == Action::"records/delete", resource)
when { context.args has action && context.args.action has soft && context.args.action.soft };
"#;

fn actions() -> NamedTempFile {
    let schema = json!({
        "type": "object",
        "required": ["resource"],
        "properties": {
            "subject": {"type": "object", "properties": {"role": {"type": "string"}}},
            "action": {"type": "object", "properties": {"soft": {"type": "boolean"}}},
            "resource": {
                "type": "object",
                "required": ["type", "id"],
                "properties": {
                    "type": {"const": "record"},
                    "id": {"type": "string"},
                    "properties": {
                        "type": "object", "properties": {"status": {"type": "string"}},
                    },
                },
            },
        },
    });
    let all = ["read", "write", "delete"].map(|it| json!({"name": it, "inputSchema": schema}));
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(json!(all).to_string().as_bytes()).unwrap();
    file
}

#[tokio::test]
async fn the_tables_of_the_certification_scenario_hold() {
    //= https://openid.net/specs/authorization-api-1_0.html#section-10
    //= type=test
    //# This specification defines an HTTPS binding using JSON serialization which MUST be implemented
    //# by a compliant PDP.
    let actions = actions();
    let plane = Plane::with(|setup| {
        setup.policies = FIXTURE.to_owned();
        setup.tail = format!(
            "[service.records]\nactions = {:?}\nundeclared_arguments = \"allow\"\n",
            actions.path()
        );
    })
    .await;
    plane.refresh("records").await.unwrap();
    let mut ids = std::collections::BTreeMap::new();
    for name in ["alice", "bob"] {
        let agent = plane.register(name, json!({"sponsor": name})).await;
        ids.insert(name, agent.bearer("records").await.instance);
    }
    let asker = Asker::add(&plane, "records-server", &["records"], true).await;
    // The scenario's own requests, but for who a subject is.
    let told = |mut request: Value| {
        let rename = |subject: &mut Value| {
            if let Some(name) = subject["id"].as_str() {
                *subject = json!({
                    "type": "instance", "id": ids[name], "properties": subject["properties"],
                });
                if subject["properties"].is_null() {
                    subject.as_object_mut().unwrap().remove("properties");
                }
            }
        };
        if request.get("subject").is_some() {
            rename(&mut request["subject"]);
        }
        for item in request["evaluations"].as_array_mut().into_iter().flatten() {
            if item.get("subject").is_some() {
                rename(&mut item["subject"]);
            }
        }
        if request["evaluations"].is_null() {
            request.as_object_mut().unwrap().remove("evaluations");
        }
        request
    };
    let user = |id: &str| json!({"type": "user", "id": id});
    let admin = json!({"type": "user", "id": "bob", "properties": {"role": "admin"}});
    let record = |id: &str| json!({"type": "record", "id": id});
    let with = |id: &str, status: &str| json!({"type": "record", "id": id, "properties": {"status": status}});
    let action = |name: &str| json!({"name": name});
    let delete = |soft: bool| json!({"name": "delete", "properties": {"soft": soft}});
    // 2.2: the eight decisions, with and without what need not be there.
    //= https://openid.net/specs/authorization-api-1_0.html#section-10.1.1
    //= type=test
    //# To ensure forward compatibility, receivers MUST ignore unknown fields present in request or
    //# response bodies.
    let rows = [
        (user("alice"), action("read"), record("record-1"), true),
        (user("alice"), action("write"), record("record-1"), true),
        (user("bob"), action("read"), record("record-1"), true),
        (user("bob"), action("write"), record("record-1"), false),
        (
            user("alice"),
            action("write"),
            with("record-2", "archived"),
            false,
        ),
        (
            admin.clone(),
            action("write"),
            with("record-2", "archived"),
            true,
        ),
        (user("alice"), delete(true), record("record-1"), true),
        (user("alice"), delete(false), record("record-1"), false),
    ];
    for (subject, action, resource, expected) in &rows {
        let plain = json!({"subject": subject, "action": action, "resource": resource});
        let mut context = plain.clone();
        context["context"] = json!({"time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1"});
        let mut unknown = plain.clone();
        unknown["foo"] = json!("bar");
        unknown["futureField"] = json!({"nested": true});
        //= https://openid.net/specs/authorization-api-1_0.html#section-10.1.1
        //= type=test
        //# Implementations MUST NOT assume a particular ordering of JSON object members.
        let other_order = json!({"resource": resource, "action": action, "subject": subject});
        // 2.6: the same again and again.
        for request in [&plain, &other_order, &context, &unknown] {
            let answer = asker.evaluate(&told(request.clone())).await;
            assert_eq!(answer["decision"], *expected, "{request}: {answer}");
        }
    }
    // 2.2.8
    let more = json!({
        "subject": {"type": "user", "id": "alice",
                    "properties": {"department": "Sales", "role": "manager"}},
        "action": {"name": "read", "properties": {"method": "GET"}},
        "resource": {"type": "record", "id": "record-1",
                     "properties": {"status": "active", "owner": "bob"}},
    });
    assert_eq!(asker.evaluate(&told(more)).await["decision"], true);
    // 2.4: everything that is missing or of another type.
    //= https://openid.net/specs/authorization-api-1_0.html#section-5.1
    //= type=test
    //# A Subject is an object that contains two REQUIRED keys, `type` and `id`, which have a string
    //# value, and an OPTIONAL key, `properties`, with a value of an object.
    //= https://openid.net/specs/authorization-api-1_0.html#section-5.3
    //= type=test
    //# Action is an object that contains a REQUIRED `name` key with a string value, and an OPTIONAL
    //# `properties` key with an object value.
    //= https://openid.net/specs/authorization-api-1_0.html#section-5.1
    //= type=test
    //# `type`: REQUIRED. A string value that specifies the type of the Subject.
    //= https://openid.net/specs/authorization-api-1_0.html#section-5.1
    //= type=test
    //# `id`: REQUIRED. A string value containing the unique identifier of the Subject, scoped to
    //# the `type`.
    //= https://openid.net/specs/authorization-api-1_0.html#section-5.2
    //= type=test
    //# `type`: REQUIRED. A string value that specifies the type of the Resource.
    //= https://openid.net/specs/authorization-api-1_0.html#section-5.2
    //= type=test
    //# `id`: REQUIRED. A string value containing the unique identifier of the Resource, scoped to
    //# the `type`.
    //= https://openid.net/specs/authorization-api-1_0.html#section-5.3
    //= type=test
    //# `name`: REQUIRED. A string value containing the name of the Action.
    //= https://openid.net/specs/authorization-api-1_0.html#section-6.1
    //= type=test
    //# `subject`: REQUIRED. The subject (or principal) of type Subject
    //= https://openid.net/specs/authorization-api-1_0.html#section-6.1
    //= type=test
    //# `action`: REQUIRED. The action (or verb) of type Action.
    //= https://openid.net/specs/authorization-api-1_0.html#section-6.1
    //= type=test
    //# `resource`: REQUIRED. The resource of type Resource.
    //= https://openid.net/specs/authorization-api-1_0.html#section-10.1.1
    //= type=test
    //# If a required attribute in the information model is omitted, the server MUST return a "Bad
    //# Request" error, as defined in
    let good = told(json!({
        "subject": user("alice"), "action": action("read"), "resource": record("record-1"),
    }));
    for (path, instead) in [
        ("subject", Value::Null),
        ("action", Value::Null),
        ("resource", Value::Null),
        ("subject.type", Value::Null),
        ("subject.id", Value::Null),
        ("action.name", Value::Null),
        ("resource.type", Value::Null),
        ("resource.id", Value::Null),
        ("subject", json!("alice")),
        ("action.name", json!(123)),
        ("resource.id", json!({})),
        ("resource.properties", json!([])),
        ("context", json!("now")),
    ] {
        let mut request = good.clone();
        let (entity, part) = path.split_once('.').unwrap_or((path, ""));
        let holder = if part.is_empty() {
            &mut request
        } else {
            &mut request[entity]
        };
        let name = if part.is_empty() { entity } else { part };
        if instead.is_null() {
            holder.as_object_mut().unwrap().remove(name);
        } else {
            holder[name] = instead;
        }
        for route in ["/access/v1/evaluation", "/access/v1/evaluations"] {
            let answer = asker.post(route, &request).await;
            assert_eq!(answer.status, 400, "{route} {path}: {}", answer.text());
        }
    }
    // 2.5
    //= https://openid.net/specs/authorization-api-1_0.html#section-10.1.3
    //= type=test
    //# When an Authorization API request contains a request identifier the PDP MUST include a
    //# request identifier in the response.
    //= https://openid.net/specs/authorization-api-1_0.html#section-10.1.3
    //= type=test
    //# If the PEP specified a request identifier in the request, the PDP MUST include the same
    //# identifier in the response to that request.
    for id in ["bfe9eb29-ab87-4ca3-be83-a1d5d8305716", "x"] {
        for body in [good.to_string(), "{".to_owned()] {
            let ask = asker.ask("/access/v1/evaluation").body(body);
            let answer = ask.header("x-request-id", id).send().await;
            assert_eq!(answer.header("x-request-id"), Some(id));
        }
    }
    // 3.2, 3.3, 3.4
    //= https://openid.net/specs/authorization-api-1_0.html#section-7.1.1
    //= type=test
    //# any of these keys omitted from an evaluation object MUST be provided as a top-level key.
    for (request, expected) in [
        (
            json!({"subject": user("bob"), "resource": record("record-1"),
                   "evaluations": [{"action": action("read")}, {"action": action("write")}]}),
            vec![true, false],
        ),
        (
            json!({"subject": user("alice"), "action": action("write"),
                   "evaluations": [{"resource": with("record-1", "active")},
                                   {"resource": with("record-2", "archived")}]}),
            vec![true, false],
        ),
        (
            json!({"action": action("write"), "resource": with("record-2", "archived"),
                   "evaluations": [{"subject": user("alice")}, {"subject": admin}]}),
            vec![false, true],
        ),
        (
            json!({"evaluations": [
                {"subject": user("alice"), "action": action("read"), "resource": record("record-1")},
                {"subject": user("bob"), "action": action("write"), "resource": record("record-1")},
            ]}),
            vec![true, false],
        ),
        (
            json!({"subject": user("alice"), "action": action("write"),
                   "resource": with("record-1", "active"),
                   "evaluations": [{}, {"resource": with("record-2", "archived")}]}),
            vec![true, false],
        ),
        (
            json!({"subject": user("alice"), "action": action("read"),
                   "options": {"evaluations_semantic": "execute_all"},
                   "evaluations": [{"resource": record("record-1")}, {}]}),
            vec![true, false],
        ),
    ] {
        let answer = asker
            .post("/access/v1/evaluations", &told(request.clone()))
            .await;
        assert_eq!(answer.status, 200, "{request}: {}", answer.text());
        let found: Vec<_> = answer.json()["evaluations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["decision"].as_bool().unwrap())
            .collect();
        assert_eq!(found, expected, "{request}: {}", answer.text());
    }
    let mut empty = good.clone();
    for evaluations in [None, Some(json!([]))] {
        if let Some(evaluations) = evaluations {
            empty["evaluations"] = evaluations;
        }
        let answer = asker.post("/access/v1/evaluations", &empty).await;
        assert_eq!(answer.json()["decision"], true);
        assert!(answer.json().get("evaluations").is_none());
    }
    // 6
    //= https://openid.net/specs/authorization-api-1_0.html#section-9.2
    //= type=test
    //# PDPs supporting metadata MUST make a JSON document containing metadata as specified in the
    //# AuthZEN Policy Decision Point Metadata Registry
    //= https://openid.net/specs/authorization-api-1_0.html#section-9.2.1
    //= type=test
    //# A Policy Decision Point metadata document MUST be queried using an HTTP GET request at the
    //# previously specified URL.
    //= https://openid.net/specs/authorization-api-1_0.html#section-9.2.2
    //= type=test
    //# Its body MUST be a JSON object that contains a set of metadata parameters as defined in the
    //# AuthZEN Policy Decision Point Metadata Registry
    //= https://openid.net/specs/authorization-api-1_0.html#section-9.1.1
    //= type=test
    //# `policy_decision_point`: REQUIRED. The Policy Decision Point identifier
    //= https://openid.net/specs/authorization-api-1_0.html#section-9.1.1
    //= type=test
    //# `access_evaluation_endpoint`: REQUIRED. URL of Access Evaluation API endpoint
    //= https://openid.net/specs/authorization-api-1_0.html#section-9.2.2
    //= type=test
    //# A successful response MUST use the HTTP status code `200` and a `Content-Type` of
    //# `application/json`.
    //= https://openid.net/specs/authorization-api-1_0.html#section-9.2.2
    //= type=test
    //# Parameters that have no values MUST be omitted from the response.
    //= https://openid.net/specs/authorization-api-1_0.html#section-9.2.3
    //= type=test
    //# The `policy_decision_point` value returned MUST be identical to the Policy Decision Point
    //# identifier value
    let answer = plane
        .ask("GET", "/.well-known/authzen-configuration")
        .send()
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let metadata = answer.json();
    let url = Plane::public_url();
    assert_eq!(metadata["policy_decision_point"], url);
    for (name, path) in [
        ("access_evaluation_endpoint", "/access/v1/evaluation"),
        ("access_evaluations_endpoint", "/access/v1/evaluations"),
    ] {
        assert_eq!(metadata[name], format!("{url}{path}"));
    }
    // What guards itself is not spoken to from here.
    let token = plane.agent("carol").await.bearer("records").await;
    assert_eq!(token.ask("POST").json("{}").send().await.status, 404);
    plane.end().await;
}

#[tokio::test]
async fn what_policy_sends_elsewhere_is_denied_to_who_makes_the_call() {
    let plane = Plane::with(|setup| {
        setup.policies = r#"@id("try") @route("sandbox")
            permit (principal, action in Action::"files", resource);"#
            .to_owned();
    })
    .await;
    let token = plane.agent("triage").await.token("files").await;
    let asker = Asker::add(&plane, "edge", &["files"], false).await;
    let told = asker.evaluate(&by_token(&token, "anything", "{}")).await;
    assert_eq!(told["decision"], false, "{told}");
    assert!(told.to_string().contains("through the gateway"), "{told}");
    let decision = plane.calls().decision(record(&told));
    assert_eq!(decision.policies, ["try"]);
    assert_eq!(decision.routed_to, None);
    plane.end().await;
}
