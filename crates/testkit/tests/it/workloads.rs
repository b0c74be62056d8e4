//! Tokens on the word of others: workloads' own tokens, and assertions of the company's provider.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use register::{Command, Signal};
use serde_json::{Value, json};
use testkit::idp::query;
use testkit::{Agent, Answer, Below, Idp, Plane, Token};
use tokens::DpopKey;

use crate::people::with_idp;

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

async fn ask(plane: &Plane, more: &[(&str, &str)], key: Option<&DpopKey>) -> Answer {
    let resource = format!("{}/mcp/files", Plane::public_url());
    let mut form = vec![("grant_type", JWT_BEARER), ("resource", &*resource)];
    form.extend(more);
    let ask = plane
        .ask("POST", "/oauth/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(query(&form));
    match key {
        Some(key) => ask.header("dpop", plane.endpoint_proof(key)).send().await,
        None => ask.send().await,
    }
}

fn error(answer: &Answer) -> Value {
    answer.json()["error"].clone()
}

#[tokio::test]
async fn a_workloads_token_starts_the_agent_of_its_rule_and_is_tied_to_a_key() {
    let idp = Idp::start().await;
    let config = format!(
        "[workload.ci]\nissuer = \"{}\"\nrule = [{{ agent = \"triage\", purpose = \"triage\", \
         claims = {{ repository = \"acme/*\" }} }}]\n",
        idp.url()
    );
    let plane = Plane::with(|setup| setup.tail.push_str(&config)).await;
    idp.keep_time(&plane);
    let agent = plane.agent("triage").await;
    let (key, thief) = (agent.fresh_key(), agent.fresh_key());
    let good = json!({"aud": Plane::public_url(), "sub": "job-1", "repository": "acme/app"});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        idp.issue("JWT", &claims)
    };
    let token = idp.issue("JWT", &good);
    let given = ask(&plane, &[("assertion", &token)], Some(&key)).await;
    assert_eq!(given.status, 200, "{}", given.text());
    assert_eq!(given.json()["token_type"], "DPoP");
    assert_eq!(given.json()["refresh_token"], Value::Null);
    // It is read again by the same workload, and no use to whoever takes it.
    assert_eq!(
        ask(&plane, &[("assertion", &token)], Some(&key))
            .await
            .status,
        200
    );
    for other in [Some(&*thief), None] {
        let refused = ask(&plane, &[("assertion", &token)], other).await;
        assert_eq!(error(&refused), "invalid_grant", "{}", refused.text());
    }
    // Without a key it is used up at once.
    let once = with("jti", json!("once"));
    assert_eq!(ask(&plane, &[("assertion", &once)], None).await.status, 200);
    assert_eq!(
        error(&ask(&plane, &[("assertion", &once)], None).await),
        "invalid_grant"
    );
    for (name, value) in [
        ("aud", json!("https://another.example")),
        ("iss", json!("https://evil.example")),
        ("repository", json!("acme-evil/app")),
        ("repository", json!("acme/app/more")),
        ("repository", Value::Null),
        ("exp", json!(1)),
        ("sub", Value::Null),
    ] {
        let refused = ask(
            &plane,
            &[("assertion", &with(name, value.clone()))],
            Some(&key),
        )
        .await;
        assert_eq!(error(&refused), "invalid_grant", "{name} {value}");
    }
    let typed = idp.issue("at+jwt", &good);
    assert_eq!(
        error(&ask(&plane, &[("assertion", &typed)], Some(&key)).await),
        "invalid_grant"
    );
    let wider = ask(
        &plane,
        &[("assertion", &token), ("purpose", "billing")],
        Some(&key),
    )
    .await;
    assert_eq!(error(&wider), "invalid_grant");
    plane.end().await;
}

#[tokio::test]
async fn a_workload_that_renews_its_token_keeps_its_instance() {
    let idp = Idp::start().await;
    let config = format!(
        "[workload.ci]\nissuer = \"{}\"\nrule = [{{ agent = \"triage\", purpose = \"triage\", \
         claims = {{ sub = \"job-*\" }} }}]\n",
        idp.url()
    );
    let plane = Plane::with(|setup| setup.tail.push_str(&config)).await;
    idp.keep_time(&plane);
    let agent = plane.register("triage", json!({"max_instances": 3})).await;
    let (key, other) = (agent.fresh_key(), agent.fresh_key());
    let asked = AtomicU32::new(0);
    let ask_as = async |subject: &str, purpose: &str, key: &DpopKey| {
        // Each is another token.
        let jti = asked.fetch_add(1, Ordering::Relaxed);
        let claims = json!({"aud": Plane::public_url(), "sub": subject, "jti": jti.to_string()});
        let token = idp.issue("JWT", &claims);
        let form = [("assertion", &*token), ("purpose", purpose)];
        ask(&plane, &form, Some(key)).await
    };
    let instance = async |subject: &str, purpose: &str, key: &DpopKey| {
        let given = ask_as(subject, purpose, key).await;
        assert_eq!(given.status, 200, "{}", given.text());
        given.json()["instance"].as_str().unwrap().to_owned()
    };
    let renewed = async || instance("job-1", "triage", &key).await;
    let mut first = renewed().await;
    // With a new token of its own each time, for longer than the instance may be idle.
    for _ in 0..8 {
        plane.clock.advance(Duration::from_mins(5));
        assert_eq!(renewed().await, first);
    }
    let mut seen = vec![first.clone()];
    for (subject, purpose, key) in [
        ("job-2", "triage", &key),
        ("job-1", "triage/refunds", &key),
        // The fourth, of three that may live at once.
        ("job-1", "triage", &other),
    ] {
        if seen.len() == 3 {
            let refused = ask_as(subject, purpose, key).await;
            assert!(
                refused.text().contains("live instances"),
                "{}",
                refused.text()
            );
            let path = format!("/v1/instances/{}/revoke", seen.pop().unwrap());
            plane.command(&path).await;
        }
        let started = instance(subject, purpose, key).await;
        assert!(!seen.contains(&started), "{subject} {purpose}");
        seen.push(started);
    }
    assert_eq!(renewed().await, first);

    plane.command("/v1/agents/triage/suspend").await;
    let refused = ask_as("job-1", "triage", &key).await;
    assert!(refused.text().contains("suspended"), "{}", refused.text());
    plane.command("/v1/agents/triage/resume").await;
    assert_eq!(renewed().await, first, "a suspension is lifted");

    plane
        .command(&format!("/v1/instances/{first}/revoke"))
        .await;
    let second = renewed().await;
    assert_ne!(second, first, "what was revoked is not revived");
    first = second;

    let control = plane.gateway().control();
    let sponsor = control.view(|state| {
        let sponsor = state.sponsor_by_id(&"maya".parse().unwrap());
        sponsor.unwrap().handle.clone()
    });
    let actor = ledger::Actor {
        kind: ledger::ActorKind::Service,
        id: "tester".to_owned(),
        credential: "none".to_owned(),
        verified: false,
    };
    let revoke = Command::RevokeSessions {
        sponsor,
        signal: Signal {
            source: "tester".parse().unwrap(),
            event: "session-revoked".parse().unwrap(),
            received_at: plane.now(),
            happened_at: None,
            id: None,
        },
    };
    control.execute(actor, revoke).await.unwrap();
    let third = renewed().await;
    assert_ne!(third, first, "what ran until then is over");
    assert_eq!(renewed().await, third);
    plane.end().await;
}

//= https://www.rfc-editor.org/rfc/rfc7662#section-4
//= type=test
//# If the token can be revoked after it was issued, the authorization server MUST determine whether
//# or not such a revocation has taken place.
//= https://www.rfc-editor.org/rfc/rfc7662#section-2.1
//= type=test
//# To prevent token scanning attacks, the endpoint MUST also require some form of authorization to
//# access this endpoint
//= https://www.rfc-editor.org/rfc/rfc7662#section-4
//= type=test
//# the authorization server MUST require authentication of protected resources that need to access
//# the introspection endpoint
//= https://www.rfc-editor.org/rfc/rfc7662#section-4
//= type=test
//# designers of an OAuth 2.0 system using this protocol MUST consider the performance and security
//# trade-offs inherent in caching security information such as this.
//= https://www.rfc-editor.org/rfc/rfc7662#section-4
//= type=test
//# If the response contains the "exp" parameter (expiration), the response MUST NOT be cached beyond
//# the time indicated therein.
//= https://www.rfc-editor.org/rfc/rfc7662#section-4
//= type=test
//# the authorization server MUST perform all applicable checks against a token's state.
//= https://www.rfc-editor.org/rfc/rfc7662#section-5
//= type=test
//# measures MUST be taken to prevent disclosure of this information to unintended parties.
#[tokio::test]
async fn a_token_is_inactive_as_soon_as_anything_above_it_is_narrowed() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let introspect = async |agent: &Agent, token: &Token| {
        let client = agent.assertion();
        let form = [
            ("token", &*token.text),
            ("client_assertion", &*client),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
        ];
        plane
            .ask("POST", "/oauth/introspect")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(query(&form))
            .send()
            .await
    };
    let active = async || {
        let told = introspect(&agent, &token).await;
        assert_eq!(told.status, 200, "{}", told.text());
        assert_eq!(told.header("cache-control"), Some("no-store"));
        told.json()
    };
    let told = active().await;
    assert_eq!(told["active"], true);
    assert_eq!(told["act"]["sub"], *token.instance);
    assert_eq!(told["aud"], format!("{}/mcp/files", Plane::public_url()));
    let silent = json!({"active": false});
    for what in ["sponsors/maya", "agents/triage"] {
        plane.command(&format!("/v1/{what}/suspend")).await;
        assert_eq!(active().await, silent, "{what}");
        plane.command(&format!("/v1/{what}/resume")).await;
        assert_eq!(active().await["active"], true, "{what}");
    }
    let other = plane.agent("other").await;
    assert_eq!(introspect(&other, &token).await.json(), silent);
    // The whole chain: what is above it, and what was handed on.
    let part = r#"[{"type":"mcp_tool","locations":["files"],"identifier":"read_text_file"}]"#;
    let handed = Below {
        details: Some(part),
        ..Below::default()
    };
    let child = agent.below(&token, &handed).await;
    let told = introspect(&agent, &child).await.json();
    assert_eq!(
        told["act"],
        json!({"sub": child.instance, "act": {"sub": token.instance}})
    );
    //= https://www.rfc-editor.org/rfc/rfc9396#section-9
    //= type=test
    //# the AS MUST make this data available to the RS.
    //= https://www.rfc-editor.org/rfc/rfc9396#section-9.2
    //= type=test
    //# the information MUST be conveyed with authorization_details as a top-level member of the
    //# introspection response JSON object.
    //= https://www.rfc-editor.org/rfc/rfc9396#section-9.2
    //= type=test
    //# The authorization_details member MUST contain the same structure defined in Section 2
    assert_eq!(
        told["authorization_details"],
        json!([{
            "type": "mcp_tool",
            "locations": [format!("{}/mcp/files", Plane::public_url())],
            "identifier": "read_text_file",
        }])
    );
    // Without an assertion nothing is said.
    let unknown = plane
        .ask("POST", "/oauth/introspect")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(query(&[("token", &*token.text)]))
        .send()
        .await;
    assert_eq!(error(&unknown), "invalid_client", "{}", unknown.text());
    assert_eq!(unknown.json()["active"], Value::Null);
    let revoke = format!("/v1/instances/{}/revoke", token.instance);
    plane.command(&revoke).await;
    assert_eq!(active().await, silent);
    assert_eq!(introspect(&agent, &child).await.json(), silent);
    plane.end().await;
}

#[tokio::test]
async fn an_identity_assertion_starts_an_instance_for_its_person_once() {
    let (plane, idp) = with_idp("identity_assertions = true").await;
    let agent = plane.register("desk", json!({"people": "everyone"})).await;
    let good = json!({
        "aud": Plane::public_url(), "sub": "sub-maya", "client_id": "desk", "jti": "one",
        "resource": format!("{}/mcp/files", Plane::public_url()),
    });
    let typ = "oauth-id-jag+jwt";
    let ask = async |assertion: &str| {
        let client = agent.assertion();
        let form = [
            ("assertion", assertion),
            ("client_assertion", &*client),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("purpose", "triage"),
        ];
        ask(&plane, &form, None).await
    };
    let token = idp.issue(typ, &good);
    let given = ask(&token).await;
    assert_eq!(given.status, 200, "{}", given.text());
    assert_eq!(given.json()["refresh_token"], Value::Null);
    assert_eq!(error(&ask(&token).await), "invalid_grant");
    for (name, value) in [
        ("aud", json!("https://another.example")),
        (
            "aud",
            json!([Plane::public_url(), "https://another.example"]),
        ),
        ("client_id", json!("triage")),
        ("sub", json!("sub-nobody")),
        ("resource", json!("https://another.example/mcp")),
        ("jti", Value::Null),
        ("iat", Value::Null),
        ("exp", json!(1)),
    ] {
        let mut claims = good.clone();
        claims["jti"] = json!(format!("for {name} {value}"));
        claims[name] = value.clone();
        assert_eq!(
            error(&ask(&idp.issue(typ, &claims)).await),
            "invalid_grant",
            "{name} {value}"
        );
    }
    // An ID token is no assertion of that kind.
    let mut claims = good.clone();
    claims["jti"] = json!("two");
    assert_eq!(
        error(&ask(&idp.issue("JWT", &claims)).await),
        "invalid_grant"
    );
    plane.end().await;
}

/// Whoever got an assertion of somebody who was then cut off keeps it for when that is lifted.
#[tokio::test]
async fn an_identity_assertion_from_before_its_person_was_cut_off_is_refused_after_it() {
    let (plane, idp) = with_idp("identity_assertions = true").await;
    let agent = plane.register("desk", json!({"people": "everyone"})).await;
    let issued = AtomicU32::new(0);
    let assertion = |iat: u64| {
        let nth = issued.fetch_add(1, Ordering::Relaxed);
        let claims = json!({
            "aud": Plane::public_url(), "sub": "sub-maya", "client_id": "desk",
            "jti": format!("nth {nth}"), "iat": iat,
        });
        idp.issue("oauth-id-jag+jwt", &claims)
    };
    let redeem = async |assertion: &str| {
        let client = agent.assertion();
        let form = [
            ("assertion", assertion),
            ("client_assertion", &*client),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("purpose", "triage"),
        ];
        ask(&plane, &form, None).await
    };
    let now = || plane.now().as_secs();
    for cut in ["revoked", "suspended and resumed"] {
        plane.clock.advance(Duration::from_mins(1));
        let before = assertion(now());
        assert_eq!(redeem(&assertion(now())).await.status, 200, "{cut}");
        if cut == "revoked" {
            crate::people_attacks::revoke_sessions(&plane).await;
        } else {
            plane.command("/v1/sponsors/maya/suspend").await;
            assert_eq!(redeem(&assertion(now())).await.status, 400);
            plane.command("/v1/sponsors/maya/resume").await;
        }
        let cut_at = now();
        let refused = redeem(&before).await;
        assert_eq!(error(&refused), "invalid_grant", "{cut}");
        assert!(refused.text().contains("since you signed in"), "{cut}");
        // A provider's clock may be ahead by five seconds, so what it dates so may be from before.
        plane.clock.advance(Duration::from_secs(10));
        for (iat, status) in [(cut_at, 400), (cut_at + 5, 400), (cut_at + 6, 200)] {
            let given = redeem(&assertion(iat)).await;
            assert_eq!(given.status, status, "{cut} {iat} {}", given.text());
        }
    }
    plane.end().await;
}
