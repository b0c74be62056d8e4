//! What was used in one life of a node, sent again in its next.

use std::time::Duration;

use testkit::Plane;
use vocab::Clock as _;
use vocab::limits::CLOCK_LEEWAY_SECONDS;

use crate::common::ANY;
use crate::hostile::check;

#[tokio::test]
async fn what_was_proven_to_the_node_before_does_not_count() {
    let mut plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let (used, unused) = (
        token.modern().ask_call("anything", ANY),
        token.modern().ask_call("anything", ANY),
    );
    assert_eq!(used.clone().send().await.status, 200);
    let (form, fresh) = (
        agent.token_request("files", None),
        agent.token_request("files", None),
    );
    assert_eq!(form.clone().send().await.status, 200);
    plane.restart().await;
    let listings = || plane.files().seen_of("tools/list").len();
    testkit::until("its tools were listed again", async || listings() >= 2).await;
    for ask in [used, unused] {
        let answer = check(&plane, "a proof of before", ask, 401, "bad-proof").await;
        let said = answer.header("www-authenticate").unwrap().to_owned();
        let all = answer.headers.get_all("www-authenticate").iter();
        let all: Vec<_> = all.map(|it| it.to_str().unwrap()).collect();
        assert!(
            all.iter().any(|it| it.contains("before this node started")),
            "{said} {all:?}"
        );
    }
    for ask in [form, fresh] {
        let answer = check(&plane, "an assertion of before", ask, 401, "bad-assertion").await;
        assert!(
            answer.text().contains("before this node started"),
            "{}",
            answer.text()
        );
    }
    // The token itself is as good as before, with a proof of now; and the instance goes on.
    assert_eq!(token.modern().call("anything", ANY).await.effect(), "allow");
    plane.end().await;
}

#[tokio::test]
async fn what_is_dated_ahead_does_not_outlive_the_node() {
    for killed in [false, true] {
        let mut plane = Plane::start().await;
        let agent = plane.agent("triage").await;
        let token = agent.token("files").await;
        let ahead = Duration::from_secs(CLOCK_LEEWAY_SECONDS);
        let ahead = plane.clock.now().plus(ahead);
        let (key, text) = (token.key().unwrap(), Some(token.text.as_str()));
        let proof = token.proof_by(key, "POST", &token.uri(), text, ahead);
        let call = token
            .modern()
            .ask_call("anything", ANY)
            .header("dpop", proof);
        assert_eq!(call.clone().send().await.status, 200);
        let form = agent.form(&[
            ("grant_type", "client_credentials"),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", &agent.assertion_at(ahead)),
            ("purpose", "triage"),
            ("resource", &token.uri()),
        ]);
        assert_ne!(form.clone().send().await.status, 401);
        if killed {
            plane.kill();
            plane.boot().await.unwrap();
        } else {
            plane.restart().await;
        }
        let listings = || plane.files().seen_of("tools/list").len();
        testkit::until("its tools were listed again", async || listings() >= 2).await;
        for (ask, cause) in [(call, "bad-proof"), (form, "bad-assertion")] {
            let answer = check(&plane, "dated ahead", ask, 401, cause).await;
            let text = answer.text();
            assert!(text.contains("before this node started"), "{text}");
        }
        let token = agent.token("files").await;
        let call = token.modern().ask_call("anything", ANY);
        assert_eq!(call.send().await.status, 200);
        plane.end().await;
    }
}
