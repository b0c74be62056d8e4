//! Delegation from end to end: what was handed on holds on every call, along the whole chain, and
//! however the node ends.

use std::time::Duration;

use gateway::record::DecisionBody;
use ledger::Kind;
use serde_json::{Value, json};
use testkit::{Agent, Below, Plane, Reply, Script, Token, until, within};

use crate::common::{ANY, Client, ERAS, PUBLIC, assert_challenged};

/// What of `files` is below `/public/`, and a call of `anything` with `n` up to 3.
const PART: &str = r#"[
    {"type":"mcp_tool","locations":["files"],"identifier":"read_*",
     "arguments":{"path":{"prefix":"/public/a"}}},
    {"type":"mcp_tool","locations":["files"],"identifier":"anything","arguments":{"n":{"max":3}}}]"#;

fn part() -> Below<'static> {
    Below {
        details: Some(PART),
        ..Below::default()
    }
}

fn decision(plane: &Plane, reply: &Reply) -> DecisionBody {
    let record = reply.record().unwrap_or_else(|| panic!("{}", reply.json));
    plane.calls().decision(record)
}

/// Where it was denied; empty if it was not.
fn stage(plane: &Plane, reply: &Reply) -> String {
    decision(plane, reply).stage.unwrap_or_default()
}

/// A plane, an agent, and a token of one of its instances.
async fn started() -> (Plane, Agent, Token) {
    let plane = Plane::with(|setup| setup.limits = "same_denials = 100".to_owned()).await;
    let agent = plane.agent("triage").await;
    let root = agent.token("files").await;
    (plane, agent, root)
}

#[tokio::test]
async fn a_review_shows_what_was_handed_on_and_not_used() {
    let (mut plane, agent, root) = started().await;
    let child = agent.below(&root, &part()).await;
    let unused = async |plane: &Plane| {
        let found = plane.admin("GET", "/v1/review", None).await.json();
        found["agents"][0]["unused_handed_on"].clone()
    };
    let details: Value = serde_json::from_str(PART).unwrap();
    let of_child = |details: &[&Value]| json!([{"instance": child.instance, "details": details}]);
    assert_eq!(unused(&plane).await, of_child(&[&details[0], &details[1]]));
    // What one below it used was of use.
    let leaf = agent.below(&child, &Below::default()).await;
    let reply = leaf.modern().call("anything", ANY).await;
    assert_eq!(reply.effect(), "allow", "{}", reply.json);
    assert_eq!(unused(&plane).await[0], of_child(&[&details[0]])[0]);
    // Denials use nothing, and it is counted from the log.
    let client = child.modern();
    assert_eq!(client.call("read_text_file", "{}").await.effect(), "deny");
    plane.restart().await;
    assert_eq!(unused(&plane).await[0], of_child(&[&details[0]])[0]);
    let reply = client.call("read_text_file", PUBLIC).await;
    assert_eq!(reply.effect(), "allow", "{}", reply.json);
    let left = unused(&plane).await;
    let left = left.as_array().unwrap().iter();
    assert!(
        left.clone()
            .all(|it| it["instance"] != child.instance.as_str())
    );
    plane.end().await;
}

#[tokio::test]
async fn a_child_does_what_was_handed_on_and_no_more() {
    let (plane, agent, root) = started().await;
    let child = agent.below(&root, &part()).await;
    let leaf = agent.below(&child, &Below::default()).await;
    for era in ERAS {
        for token in [&child, &leaf] {
            let client = Client::new(token, era).await;
            let listed = client.request("tools/list", None, "").await;
            assert_eq!(listed.names("tools"), ["read_text_file", "anything"]);
            let reached = plane.files().calls();
            let read = client.call("read_text_file", PUBLIC).await;
            assert_eq!(read.effect(), "allow", "{}", read.json);
            assert_eq!(
                client.call("anything", r#"{"n":3.0}"#).await.effect(),
                "allow"
            );
            assert_eq!(plane.files().calls(), reached + 2);
            for (tool, arguments) in [
                ("read_text_file", r#"{"path":"/public/b.txt"}"#),
                ("anything", r#"{"n":3.01}"#),
                ("anything", r#"{"n":9007199254740993}"#),
                ("anything", "{}"),
                ("anything", r#"{"n":1,"N":9}"#),
                ("refund", r#"{"order":"1","amount":1}"#),
            ] {
                let reply = client.call(tool, arguments).await;
                assert_eq!(
                    stage(&plane, &reply),
                    "authority",
                    "{arguments} {}",
                    reply.json
                );
                assert!(
                    reply.said().contains("handed on to this instance"),
                    "{}",
                    reply.json
                );
            }
            let uri = r#""uri":"file:///public/a""#;
            let read = client
                .request("resources/read", Some("file:///public/a"), uri)
                .await;
            assert_eq!(stage(&plane, &read), "authority", "{}", read.json);
            assert_eq!(plane.files().calls(), reached + 2);
        }
        // What its own policies permit, the one that delegates may go on doing.
        let client = Client::new(&root, era).await;
        let refund = client.call("refund", r#"{"order":"1","amount":1}"#).await;
        assert_eq!(refund.effect(), "allow", "{}", refund.json);
    }
    let reply = leaf.modern().call("anything", ANY).await;
    let body = decision(&plane, &reply);
    let chain = [&root, &child, &leaf].map(|token| token.instance.parse().unwrap());
    assert_eq!(body.chain, chain);
    assert_eq!(body.details, [None, Some(1), Some(1)]);
    let path = format!("/v1/trace/calls/{}", reply.record().unwrap());
    let traced = plane.admin("GET", &path, None).await.json();
    let hops = traced["decision"]["chain"].as_array().unwrap();
    assert_eq!(hops.len(), 3);
    assert!(hops[0].get("used").is_none(), "{traced}");
    assert_eq!(hops[1]["via"], "exchange");
    assert_eq!(hops[2]["used"]["arguments"], json!({"n": {"max": 3}}));
    assert_eq!(hops[2]["handed_on"].as_array().unwrap().len(), 2);
    let reply = root.modern().call("anything", ANY).await;
    let body = decision(&plane, &reply);
    assert_eq!((body.chain.len(), body.details.len()), (1, 0));
    plane.end().await;
}

/// The agents of a chain, each with what it may do, all have a say.
#[tokio::test]
async fn the_allow_list_of_each_agent_bounds_those_below() {
    let plane = Plane::start().await;
    let narrow = json!({"allow": ["files/anything", "files:resources/read"]});
    let narrow = plane.register("narrow", narrow).await;
    let wide = plane.agent("triage").await;
    let child = wide
        .below(&narrow.token("files").await, &Below::default())
        .await;
    let client = child.modern();
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    let reply = client.call("read_text_file", PUBLIC).await;
    assert_eq!(stage(&plane, &reply), "authority", "{}", reply.json);
    // The other way round as well.
    let child = narrow
        .below(&wide.token("files").await, &Below::default())
        .await;
    let reply = child.modern().call("read_text_file", PUBLIC).await;
    assert_eq!(stage(&plane, &reply), "authority", "{}", reply.json);
    plane.end().await;
}

#[tokio::test]
async fn policies_speak_of_the_chain() {
    let plane = Plane::start().await;
    plane
        .activate(
            r#"permit (principal, action == Action::"files/anything", resource)
               when { principal.depth == 1 && principal.ancestors.contains(Agent::"front")
                      && principal.root_purpose == "triage" && context.proven };"#,
        )
        .await
        .unwrap();
    let front = plane.agent("front").await;
    let back = plane.agent("back").await;
    let root = front.token("files").await;
    let asked = Below {
        purpose: Some("triage/eu"),
        ..Below::default()
    };
    let child = back.below(&root, &asked).await;
    assert_eq!(child.modern().call("anything", ANY).await.effect(), "allow");
    let leaf = front.below(&child, &asked).await;
    let alone = back.token("files").await;
    for token in [&root, &leaf, &alone] {
        let reply = token.modern().call("anything", ANY).await;
        assert_eq!(stage(&plane, &reply), "policy", "{}", reply.json);
    }
    plane.end().await;
}

/// One link that may not act any more, and nothing below it does: not the next call, not one that
/// is under way.
#[tokio::test]
async fn one_narrowed_link_cuts_what_is_below() {
    let plane = Plane::start().await;
    let (lead, other) = (plane.agent("lead").await, plane.agent("other").await);
    for narrow in ["/v1/agents/lead/suspend", "/v1/instances/ID/revoke"] {
        let root = lead.token("files").await;
        let child = other.below(&root, &Below::default()).await;
        let leaf = other.below(&child, &Below::default()).await;
        plane.files().script("anything", Script::Hang);
        let call = leaf.modern().ask_call("anything", ANY);
        let flying = tokio::spawn(async move { Reply::from(call.send().await) });
        until("a call is under way", async || {
            plane.files().under_way() == 1
        })
        .await;
        plane.command(&narrow.replace("ID", &root.instance)).await;
        let cut = within("it was cut", flying).await.unwrap();
        assert!(cut.said().contains("may not act any more"), "{}", cut.json);
        for token in [&child, &leaf] {
            let reply = token.modern().call("anything", ANY).await;
            assert_challenged(&reply, 401, "an instance that delegated to it may not act");
        }
        assert_eq!(
            other
                .token("files")
                .await
                .modern()
                .request("tools/list")
                .await
                .status,
            200
        );
        plane.command("/v1/agents/lead/resume").await;
    }
    plane.end().await;
}

#[tokio::test]
async fn calls_are_counted_along_the_chain_and_across_starts() {
    let (mut plane, agent, root) = started().await;
    let five = Below {
        max_calls: Some(5),
        ..Below::default()
    };
    let child = agent.below(&root, &five).await;
    let leaves = [
        agent.below(&child, &Below::default()).await,
        agent
            .below(
                &child,
                &Below {
                    max_calls: Some(3),
                    ..five
                },
            )
            .await,
    ];
    assert_eq!(child.modern().call("anything", ANY).await.effect(), "allow");
    assert_eq!(
        leaves[0].modern().call("anything", ANY).await.effect(),
        "allow"
    );
    assert_eq!(
        leaves[1]
            .modern()
            .call("delete-file", PUBLIC)
            .await
            .effect(),
        "deny"
    );
    plane.restart().await;
    plane.tools_known().await;
    assert_eq!(
        leaves[1].modern().call("anything", ANY).await.effect(),
        "allow"
    );
    plane.kill();
    plane.boot().await.unwrap();
    plane.tools_known().await;
    // Two are left, whoever asks and however many at once.
    let calls: Vec<_> = (0..8)
        .map(|n| {
            let client = [&child, &leaves[0], &leaves[1]][n % 3].modern();
            tokio::spawn(async move { client.call("anything", ANY).await })
        })
        .collect();
    let mut allowed = 0;
    for call in calls {
        let reply = call.await.unwrap();
        match reply.effect() {
            "allow" => allowed += 1,
            _ => assert_eq!(stage(&plane, &reply), "limit", "{}", reply.json),
        }
    }
    assert_eq!(allowed, 2);
    let reply = leaves[1].modern().call("anything", ANY).await;
    assert!(
        reply
            .said()
            .contains("an instance above this one is made, 5 in all"),
        "{}",
        reply.json
    );
    // The one that delegated has no such limit, and none is put on it.
    assert_eq!(root.modern().call("anything", ANY).await.effect(), "allow");
    plane.end().await;
}

#[tokio::test]
async fn a_credential_for_one_call_is_good_for_that_call_once() {
    let (plane, agent, root) = started().await;
    let arguments = r#"{"n": 1,  "text":"é"}"#;
    for era in ERAS {
        let once = agent.once(&root, "anything", arguments).await;
        let client = Client::new(&once, era).await;
        let reached = plane.files().calls();
        for (tool, given, expected) in [
            // Other arguments, those of the same meaning too; another tool.
            ("anything", r#"{"n":1,"text":"é"}"#, "authority"),
            ("anything", r#"{"n": 1,  "text":"\u00e9"}"#, "authority"),
            ("anything", ANY, "authority"),
            ("read_text_file", PUBLIC, "authority"),
        ] {
            let reply = client.call(tool, given).await;
            assert_eq!(stage(&plane, &reply), expected, "{given} {}", reply.json);
        }
        assert_eq!(plane.files().calls(), reached);
        let reply = client.call("anything", arguments).await;
        assert_eq!(reply.effect(), "allow", "{}", reply.json);
        let again = client.call("anything", arguments).await;
        assert_eq!(stage(&plane, &again), "limit", "{}", again.json);
        assert!(
            again.said().contains("a credential for one call"),
            "{}",
            again.json
        );
        assert_eq!(plane.files().calls(), reached + 1);
    }
    // Another holder has nothing of it.
    let once = agent.once(&root, "anything", arguments).await;
    let thief = agent.fresh_key();
    let proof = once.proof_by(&thief, "POST", &once.uri(), Some(&once.text), plane.now());
    let stolen = once
        .modern()
        .ask_call("anything", arguments)
        .header("dpop", proof);
    assert_challenged(&stolen.send().await.into(), 401, "by another key");
    // And it is over soon.
    plane.clock.advance(Duration::from_secs(61));
    let late = once.modern().call("anything", arguments).await;
    assert_challenged(&late, 401, "expired");
    plane.end().await;
}

/// Of requests that race, one is made. What is on record when the node is killed stays used.
#[tokio::test]
async fn a_credential_for_one_call_is_used_once_whatever_happens() {
    let (mut plane, agent, root) = started().await;
    for _ in 0..5 {
        let once = agent.once(&root, "anything", ANY).await;
        let reached = plane.files().calls();
        let client = once.modern();
        let race: Vec<_> = (0..6)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.call("anything", ANY).await })
            })
            .collect();
        let mut allowed = 0;
        for call in race {
            allowed += u32::from(call.await.unwrap().effect() == "allow");
        }
        assert_eq!(allowed, 1);
        assert_eq!(plane.files().calls(), reached + 1);
    }
    let once = agent.once(&root, "anything", ANY).await;
    plane.files().script("anything", Script::Hang);
    let call = once.modern().ask_call("anything", ANY);
    let flying = tokio::spawn(async move { call.send().await });
    until("the call is under way", async || {
        plane.files().under_way() == 1
    })
    .await;
    plane.kill();
    flying.abort();
    plane.boot().await.unwrap();
    plane.tools_known().await;
    let reached = plane.files().calls();
    let again = once.modern().call("anything", ANY).await;
    assert_eq!(stage(&plane, &again), "limit", "{}", again.json);
    assert_eq!(plane.files().calls(), reached);
    let started = plane.ledger();
    assert!(started.of(Kind::InstanceStarted).len() >= 7);
    plane.end().await;
}
