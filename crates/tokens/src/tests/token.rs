//! The token endpoint.

use register::{Command, Done, EndReason, PublicJwk, Standing, Why};
use serde_json::{Value, json};
use vocab::InstanceId;
use vocab::limits::REVOCATIONS_PER_MINUTE_MIN;

use super::bench::{Bench, NOW, URL, headers, key, new_key, wait};
use super::forge::{Sign, b64, es256_jwk, forge, with};
use crate::form;
use crate::jwk::unb64;
use crate::{
    AgentKey, DpopKey, OwnTokenRequest, PublicKey, TokenError, TokenRequest, TokenResponse,
};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What a refusal looks like: `status code: description`.
pub(super) fn shown(error: &TokenError) -> String {
    let body = error.body();
    format!(
        "{} {}: {}",
        error.status().as_u16(),
        body["error"].as_str().unwrap(),
        body["error_description"].as_str().unwrap(),
    )
}

pub(super) fn claims_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&unb64(payload).unwrap()).unwrap()
}

/// A form with parameters set, or taken away by an empty value.
fn form_with(bench: &Bench, changes: &[(&str, &str)]) -> String {
    let assertion = bench.agent.assertion(bench.now(), &*bench.rng).unwrap();
    let resource = format!("{URL}/mcp/files");
    let mut parameters = vec![
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", &*assertion),
        ("purpose", "triage/refunds"),
        ("resource", &*resource),
    ];
    for (name, value) in changes {
        parameters.retain(|(known, _)| known != name);
        if !value.is_empty() {
            parameters.push((name, value));
        }
    }
    form::encode(&parameters)
}

//= https://www.rfc-editor.org/rfc/rfc9449#section-5
//= type=test
//# A token_type of DPoP MUST be included in the access token response
//= https://www.rfc-editor.org/rfc/rfc9449#section-6.1
//= type=test
//# The value of the jkt member MUST be the base64url encoding (as defined in [RFC7515]) of the JWK
//# SHA-256 Thumbprint
#[test]
fn an_agent_gets_a_token_for_a_new_instance() {
    let bench = Bench::new();
    let response = bench.token();
    assert_eq!(response.token_type, "DPoP");
    assert_eq!(response.expires_in, 300);
    assert_eq!(response.purpose.as_str(), "triage/refunds");
    let sponsor = bench
        .control
        .view(|state| state.sponsors()[0].handle.clone());
    let claims = claims_of(&response.access_token);
    let expected = json!({
        "iss": URL,
        "aud": format!("{URL}/mcp/files"),
        "sub": sponsor,
        "client_id": "triage",
        "act": { "sub": response.instance },
        "purpose": "triage/refunds",
        "jti": claims["jti"],
        "iat": NOW,
        "exp": NOW + 300,
        "cnf": { "jkt": bench.dpop.jkt() },
    });
    assert_eq!(claims, expected);
    let wire = serde_json::to_value(&response).unwrap();
    let names: Vec<_> = wire.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        names,
        [
            "access_token",
            "token_type",
            "expires_in",
            "instance",
            "purpose"
        ]
    );
    assert!(!format!("{response:?}").contains(&response.access_token));
}

#[test]
fn the_same_key_continues_its_instance_and_another_starts_one() {
    let mut bench = Bench::new();
    let first = bench.token();
    bench.advance(200);
    let second = bench.token();
    assert_eq!(first.instance, second.instance);
    assert_ne!(first.access_token, second.access_token);
    bench.dpop = DpopKey::new(key(9));
    assert_ne!(bench.token().instance, first.instance);
    assert_ne!(bench.bearer().instance, bench.bearer().instance);
}

#[test]
fn a_purpose_is_said_unless_the_agent_has_one_only() {
    let bench = Bench::new();
    let public = PublicKey::from_jwk(es256_jwk().to_string().as_bytes()).unwrap();
    bench.add_agent_for(&["triage", "billing"], "clerk", &public, true);
    let ask = |agent: &str, purpose: &str| {
        let claims = json!({ "iss": agent, "sub": agent, "aud": URL, "jti": format!("for {purpose}"), "iat": NOW,
            "exp": NOW + 60 });
        let clerk = forge(r#"{"alg":"ES256"}"#, &claims.to_string(), Sign::Es256);
        let mut changes = vec![("purpose", purpose)];
        if agent == "clerk" {
            changes.push(("client_assertion", &clerk));
        }
        let given = bench.ask(&form_with(&bench, &changes), Some(&bench.endpoint_proof()));
        given.map_or_else(|error| shown(&error), |given| given.purpose.to_string())
    };
    assert_eq!(ask("triage", ""), "triage");
    assert_eq!(ask("triage", "triage/refunds"), "triage/refunds");
    assert_eq!(ask("clerk", "billing"), "billing");
    assert_eq!(
        ask("clerk", ""),
        "400 invalid_request: the parameter `purpose` is missing"
    );
}

#[test]
fn an_es256_agent_with_an_es256_proof_gets_a_token() {
    let bench = Bench::new();
    let public = PublicKey::from_jwk(es256_jwk().to_string().as_bytes()).unwrap();
    bench.add_agent("browser", &public, false);
    let assertion = forge(
        r#"{"alg":"ES256"}"#,
        &json!({ "iss": "browser", "sub": "browser", "aud": [format!("{URL}/oauth/token")],
            "jti": "1", "iat": NOW, "exp": NOW + 300 })
        .to_string(),
        Sign::Es256,
    );
    let proof = forge(
        &json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": es256_jwk() }).to_string(),
        &json!({ "jti": "1", "htm": "POST", "htu": format!("{URL}/oauth/token"), "iat": NOW })
            .to_string(),
        Sign::Es256,
    );
    let form = form_with(&bench, &[("client_assertion", &assertion)]);
    let token = bench.ask(&form, Some(&proof)).unwrap().access_token;
    assert_eq!(claims_of(&token)["cnf"]["jkt"], **public.thumbprint());
}

#[test]
fn requests_that_are_not_for_a_token_are_refused() {
    let bench = Bench::new();
    let check = |changes: &[(&str, &str)], expected: &str| {
        let proof = bench.endpoint_proof();
        let error = bench
            .ask(&form_with(&bench, changes), Some(&proof))
            .unwrap_err();
        assert_eq!(shown(&error), expected, "{changes:?}");
    };
    check(
        &[("grant_type", "")],
        "400 invalid_request: the parameter `grant_type` is missing",
    );
    check(
        &[("grant_type", "password")],
        "400 unsupported_grant_type: `grant_type` is not one of `client_credentials`, \
         `authorization_code`, `refresh_token`, `urn:ietf:params:oauth:grant-type:jwt-bearer` and \
         `urn:ietf:params:oauth:grant-type:token-exchange`",
    );
    let no_assertion = "401 invalid_client: the client did not authenticate; use \
         `private_key_jwt`: `client_assertion_type` \
         `urn:ietf:params:oauth:client-assertion-type:jwt-bearer` and `client_assertion`";
    check(&[("client_assertion", "")], no_assertion);
    check(&[("client_assertion_type", "")], no_assertion);
    check(
        &[(
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:saml2-bearer",
        )],
        no_assertion,
    );
    check(
        &[("client_secret", "x")],
        "400 invalid_request: the client authenticated in a second way; send only \
         `client_assertion`",
    );
    check(
        &[("purpose", "Triage \u{202e}\"")],
        "400 invalid_request: `purpose`: a purpose may not hold 'T' (byte 0); segments of \
         lower-case letters, digits, `-`, `_` and `.` joined by `/`",
    );
    check(
        &[("client_id", "porter")],
        "401 invalid_client: the client assertion's `iss`, its `sub` and `client_id` are not one \
         agent's id",
    );
    let target = "400 invalid_target: `resource` is not the URI of one of this node's upstreams";
    for resource in [
        "",
        "files",
        "http://127.0.0.1:7420/mcp/none",
        "http://127.0.0.1:7420/mcp/files/",
        "http://127.0.0.1:7420/mcp/files#x",
        "http://127.0.0.1:7421/mcp/files",
        "http://127.0.0.1:7420",
    ] {
        check(&[("resource", resource)], target);
    }
    //= https://www.rfc-editor.org/rfc/rfc9396#section-5
    //= type=test
    //# The AS MUST refuse to process any unknown authorization details type or authorization details
    //# not conforming to the respective type definition.
    check(
        &[("authorization_details", r#"[{"type":"mcp_tool"}]"#)],
        "400 invalid_authorization_details: `authorization_details` is taken with the grant \
         `urn:ietf:params:oauth:grant-type:token-exchange` alone: get a token, and hand on a part of \
         what it permits",
    );
    for bound in ["max_calls", "requested_expiry"] {
        check(
            &[(bound, "5")],
            &format!(
                "400 invalid_request: `{bound}` is taken with the grant \
                 `urn:ietf:params:oauth:grant-type:token-exchange` alone, where it bounds what is \
                 handed on; leave it out, or hand on a part"
            ),
        );
    }
    let twice = format!("{}&resource=x", form_with(&bench, &[]));
    let error = bench.ask(&twice, None).unwrap_err();
    assert_eq!(
        shown(&error),
        "400 invalid_request: a parameter is repeated"
    );
    // What is not known, and what is empty, is ignored.
    let more = format!("{}&scope=everything&audience=&x", form_with(&bench, &[]));
    assert!(bench.ask(&more, Some(&bench.endpoint_proof())).is_ok());
}

#[test]
fn headers_of_a_request_are_strict() {
    const FORM: (&str, &str) = (
        "content-type",
        "Application/X-WWW-Form-Urlencoded; charset=utf-8",
    );
    let check = |pairs: &[(&str, &str)], expected: &str| {
        let error =
            TokenRequest::parse(&headers(pairs), b"grant_type=client_credentials").unwrap_err();
        assert_eq!(shown(&error.into()), expected);
    };
    let media_type = "400 invalid_request: the request's `Content-Type` is not \
         `application/x-www-form-urlencoded`";
    check(&[], media_type);
    check(&[("content-type", "application/json")], media_type);
    check(
        &[FORM, ("authorization", "Basic eDp5")],
        "400 invalid_request: the client authenticated in a second way; send only \
         `client_assertion`",
    );
    let bench = Bench::new();
    let proof = bench.endpoint_proof();
    let twice = headers(&[FORM, ("dpop", &proof), ("dpop", &proof)]);
    let error = TokenRequest::parse(&twice, form_with(&bench, &[]).as_bytes()).unwrap_err();
    assert_eq!(
        shown(&error.into()),
        "400 invalid_dpop_proof: there is not exactly one readable `DPoP` header"
    );
}

/// A strange assertion, and what it comes to. `None`: it is accepted.
#[test]
fn hostile_assertions() {
    let bench = Bench::new();
    let kid = bench.agent.key.public().thumbprint().to_string();
    let header = json!({ "alg": "EdDSA", "kid": kid });
    let count = std::cell::Cell::new(0);
    let claims = || {
        count.set(count.get() + 1);
        json!({ "iss": "triage", "sub": "triage", "aud": URL, "jti": format!("j{}", count.get()),
            "iat": NOW, "exp": NOW + 60 })
    };
    let good = Sign::EdDsa(&bench.agent.key);
    let ask = |assertion: &str| {
        let form = form_with(&bench, &[("client_assertion", assertion)]);
        let asked = bench.ask(&form, Some(&bench.endpoint_proof()));
        asked.map(|_| ()).map_err(|error| shown(&error))
    };
    let check = |header: &str, claims: &str, sign: Sign<'_>, expected: Option<&str>| {
        let expected = expected.map(|text| format!("401 invalid_client: {text}"));
        assert_eq!(
            ask(&forge(header, claims, sign)).err(),
            expected,
            "{header} {claims}"
        );
    };
    let header_with = |changes: Value, expected: Option<&str>| {
        check(
            &with(&header, &changes),
            &claims().to_string(),
            good,
            expected,
        );
    };
    let claims_with = |changes: Value, expected: Option<&str>| {
        check(
            &header.to_string(),
            &with(&claims(), &changes),
            good,
            expected,
        );
    };

    header_with(json!({}), None);
    header_with(json!({ "kid": null }), None);
    header_with(json!({ "typ": "JWT" }), None);
    header_with(json!({ "typ": "client-authentication+jwt" }), None);
    claims_with(json!({ "aud": [URL] }), None);
    claims_with(json!({ "aud": format!("{URL}/oauth/token") }), None);
    claims_with(json!({ "exp": NOW + 300, "iat": NOW - 99 }), None);
    claims_with(
        json!({ "iat": NOW + 5, "exp": NOW + 305, "nbf": NOW + 5 }),
        None,
    );
    claims_with(json!({ "exp": NOW - 5 }), None);

    // One text for all that shows nobody to be an agent.
    let nobody = Some("the client assertion is not by the current key of a registered agent");
    check(
        &header.to_string(),
        &claims().to_string(),
        Sign::EdDsa(&key(66)),
        nobody,
    );
    check(
        &header.to_string(),
        &claims().to_string(),
        Sign::EdDsa(&key(200)),
        nobody,
    );
    claims_with(json!({ "iss": "ghost", "sub": "ghost" }), nobody);
    check(
        &with(&header, &json!({ "alg": "ES256" })),
        &claims().to_string(),
        Sign::Es256,
        nobody,
    );
    check(
        &with(&header, &json!({ "alg": "ES256" })),
        &claims().to_string(),
        good,
        nobody,
    );
    let ghost = with(&claims(), &json!({ "iss": "ghost", "sub": "ghost" }));
    check(
        &with(&header, &json!({ "alg": "ES256" })),
        &ghost,
        Sign::Es256,
        nobody,
    );

    let wrong_alg =
        Some("the client assertion cannot be used: its `alg` is none of EdDSA, Ed25519 and ES256");
    for alg in [
        "none", "NONE", "HS256", "RS256", "PS256", "ES384", "eddsa", "Ed448", "",
    ] {
        header_with(json!({ "alg": alg }), wrong_alg);
    }
    let in_header =
        |what: &str| format!("the client assertion cannot be used: in its header, {what}");
    header_with(
        json!({ "alg": null }),
        Some(&in_header("the member `alg` is missing")),
    );
    header_with(
        json!({ "alg": 1 }),
        Some(&in_header("the member `alg` is not a string")),
    );
    header_with(
        json!({ "kid": 1 }),
        Some("in the client assertion, the member `kid` is not a string"),
    );
    header_with(
        json!({ "kid": "other" }),
        Some("the client assertion's `kid` is not that of the agent's key"),
    );
    for typ in ["at+jwt", "dpop+jwt", "JOSE", "", "application/at+jwt"] {
        header_with(
            json!({ "typ": typ }),
            Some(
                "the client assertion cannot be used: its `typ` is not `JWT` or \
                 `client-authentication+jwt`",
            ),
        );
    }
    for (member, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(true)),
        ("jku", json!("http://127.0.0.1/keys")),
        ("x5u", json!("http://127.0.0.1/cert")),
        ("x5c", json!([])),
        ("x5t", json!("")),
        ("jwk", bench.agent.key.public().to_jwk()),
    ] {
        header_with(
            json!({ member: value }),
            Some(&format!(
                "the client assertion cannot be used: its header has `{member}`, which is not \
                 accepted"
            )),
        );
    }
    let not_strict = in_header("it is not one JSON object whose members are all different");
    for bad in [
        r#"{"alg":"EdDSA","alg":"EdDSA"}"#,
        r#"{"alg":"EdDSA","ALG":"none"}"#,
        r#"["EdDSA"]"#,
        "",
        "{",
        r#"{"alg":"EdDSA"} x"#,
    ] {
        check(bad, &claims().to_string(), good, Some(&not_strict));
    }

    for name in ["iss", "sub", "aud", "exp", "iat", "jti"] {
        claims_with(
            json!({ name: null }),
            Some(&format!(
                "in the client assertion, the member `{name}` is missing"
            )),
        );
    }
    let client =
        Some("the client assertion's `iss`, its `sub` and `client_id` are not one agent's id");
    claims_with(json!({ "iss": "porter" }), client);
    claims_with(json!({ "iss": "no id", "sub": "no id" }), client);
    let audience =
        Some("the client assertion's `aud` is not this node; it should be `http://127.0.0.1:7420`");
    for aud in [
        json!("http://127.0.0.1:7420/"),
        json!("http://127.0.0.1:7421"),
        json!([URL, "http://127.0.0.1:7421"]),
        json!([URL, URL]),
        json!([]),
        json!({}),
        json!(format!("{URL}/mcp/files")),
    ] {
        claims_with(json!({ "aud": aud }), audience);
    }
    claims_with(
        json!({ "exp": NOW - 6 }),
        Some("the client assertion expired 6 s ago"),
    );
    let lifetime = Some("the client assertion is not valid for the next 300 s at most");
    claims_with(json!({ "exp": NOW + 306 }), lifetime);
    claims_with(json!({ "nbf": NOW + 6 }), lifetime);
    claims_with(
        json!({ "exp": "soon" }),
        Some("in the client assertion, the member `exp` is not a time in seconds since 1970"),
    );
    claims_with(
        json!({ "iat": NOW + 6 }),
        Some(
            "the client assertion is not fresh: it is dated 6 s ahead of this node's clock; set \
             the clock",
        ),
    );
    claims_with(
        json!({ "iat": NOW - 301 }),
        Some(
            "the client assertion is not fresh: it was made 301 s ago; at most 300 s are accepted",
        ),
    );
    claims_with(
        json!({ "iat": NOW - 100 }),
        Some(
            "the client assertion is not fresh: it was made before this node started; make a new \
             one",
        ),
    );
    let jti = Some("the client assertion's `jti` is empty or longer than 256 bytes");
    claims_with(json!({ "jti": "" }), jti);
    claims_with(json!({ "jti": "j".repeat(257) }), jti);
    claims_with(json!({ "jti": "j".repeat(256) }), None);
    check(
        &header.to_string(),
        r#"{"iss":"triage","sub":"triage","sub":"triage"}"#,
        good,
        Some(
            "the client assertion cannot be used: in its claims, it is not one JSON object whose \
             members are all different",
        ),
    );

    // Form.
    let token = forge(&header.to_string(), &claims().to_string(), good);
    let text = |text: &str, expected: &str| {
        let expected =
            format!("401 invalid_client: the client assertion cannot be used: {expected}");
        assert_eq!(ask(text), Err(expected), "{text}");
    };
    let parts = "it is not three parts joined by `.`";
    text("x", parts);
    text("x.y", parts);
    text(&format!("{token}.{token}"), parts);
    text(&format!("{token}."), parts);
    text(
        &format!("{token}="),
        "its signature of 64 bytes is not base64url without padding",
    );
    text(
        &token.replace('.', " ."),
        "its header is not base64url without padding",
    );
    text(
        &token.replacen('.', "=.", 1),
        "its header is not base64url without padding",
    );
    text(
        &format!(" {token}"),
        "its header is not base64url without padding",
    );
    let unsigned = forge(&header.to_string(), &claims().to_string(), Sign::Nothing);
    text(
        &unsigned,
        "its signature of 64 bytes is not base64url without padding",
    );
    text(
        &"x".repeat(8_193),
        "it is 8193 bytes long; at most 8192 are read",
    );
    // A signature under HMAC is of another length, whatever secret it was made with.
    let public = b64(&[0; 32]);
    let hmac = forge(
        &header.to_string(),
        &claims().to_string(),
        Sign::Hs256(public.as_bytes()),
    );
    text(
        &hmac,
        "its signature of 64 bytes is not base64url without padding",
    );
    // The last character's stray bits are another spelling of the same signature.
    let (front, last) = token.split_at(token.len() - 1);
    let respelled = format!("{front}{}", if last == "B" { "C" } else { "B" });
    text(
        &respelled,
        "its signature of 64 bytes is not base64url without padding",
    );

    let once = forge(&header.to_string(), &claims().to_string(), good);
    assert_eq!(ask(&once), Ok(()));
    assert_eq!(
        ask(&once),
        Err(
            "401 invalid_client: the client assertion was used before; make a new one for each \
             request"
                .to_owned()
        )
    );
}

#[test]
fn an_assertion_that_got_no_token_is_used_up_too() {
    let bench = Bench::new();
    let form = bench.form(&bench.agent);
    assert_eq!(
        bench.ask(&form, Some("x")).unwrap_err().oauth_code(),
        "invalid_dpop_proof"
    );
    let error = bench.ask(&form, Some(&bench.endpoint_proof())).unwrap_err();
    assert_eq!(error.oauth_code(), "invalid_client");
}

//= https://www.rfc-editor.org/rfc/rfc9449#section-5
//= type=test
//# The DPoP HTTP header field MUST contain a valid DPoP proof JWT.
#[test]
fn hostile_proofs_at_the_token_endpoint() {
    let bench = Bench::new();
    let check = |proof: &str, expected: &str| {
        let error = bench
            .ask(&bench.form(&bench.agent), Some(proof))
            .unwrap_err();
        assert_eq!(shown(&error), format!("400 invalid_dpop_proof: {expected}"));
    };
    let at = |method: &str, uri: &str| {
        let now = bench.now();
        bench
            .dpop
            .proof(method, uri, None, now, &*bench.rng)
            .unwrap()
    };
    check(
        &at("GET", &format!("{URL}/oauth/token")),
        "the DPoP proof's `htm` is not the request's method",
    );
    check(
        &at("POST", &format!("{URL}/mcp/files")),
        "the DPoP proof's `htu` is not this endpoint; it should be \
         `http://127.0.0.1:7420/oauth/token`",
    );
    let used = bench.endpoint_proof();
    assert!(bench.ask(&bench.form(&bench.agent), Some(&used)).is_ok());
    check(&used, "the DPoP proof was used before");
}

#[test]
fn bearer_tokens_are_for_agents_that_may_have_them() {
    let bench = Bench::new();
    let error = bench.ask(&bench.form(&bench.agent), None).unwrap_err();
    assert_eq!(
        shown(&error),
        "400 invalid_dpop_proof: agent `triage` may not use bearer tokens; prove possession of a \
         key (DPoP), or register the agent with `--allow-bearer`"
    );
    let response = bench.bearer();
    assert_eq!(response.token_type, "Bearer");
    assert_eq!(claims_of(&response.access_token).get("cnf"), None);
}

#[test]
fn an_agent_that_proved_itself_is_told_why() {
    let bench = Bench::new();
    // The texts are the register's; what matters here is that they get through, under which code.
    let check = |asked: Result<TokenResponse, TokenError>, expected: &str| {
        let shown = shown(&asked.unwrap_err());
        assert!(shown.starts_with(expected), "{shown}");
    };
    let ask = || bench.ask(&bench.form(&bench.agent), Some(&bench.endpoint_proof()));
    let id = || bench.agent.agent.clone();

    let form = form_with(&bench, &[("purpose", "billing")]);
    check(
        bench.ask(&form, Some(&bench.endpoint_proof())),
        "400 access_denied: agent `triage` is not registered for purpose `billing`",
    );
    bench.execute(Command::SuspendAgent {
        id: id(),
        signal: None,
    });
    check(
        ask(),
        "400 unauthorized_client: agent `triage` is suspended since 2026-11-21T",
    );
    bench.execute(Command::ResumeAgent { id: id() });
    let sponsor = || "maya".parse().unwrap();
    bench.execute(Command::SuspendSponsor {
        id: sponsor(),
        signal: None,
    });
    check(
        ask(),
        "400 unauthorized_client: agent `triage` cannot run: its sponsor is not active",
    );
    bench.execute(Command::ResumeSponsor {
        id: sponsor(),
        signal: None,
        despite: true,
    });

    let first = bench.token().instance;
    let another = |seed: u8| {
        let dpop = DpopKey::new(key(seed));
        let now = bench.now();
        let proof = dpop.proof(
            "POST",
            &format!("{URL}/oauth/token"),
            None,
            now,
            &*bench.rng,
        );
        bench.ask(&bench.form(&bench.agent), Some(&proof.unwrap()))
    };
    assert!(another(50).is_ok());
    check(another(51), "400 access_denied: agent `triage` ");
    bench.execute(Command::EndInstance {
        id: first,
        reason: EndReason::Revoked,
    });
    assert!(another(52).is_ok());

    bench.execute(Command::RotateAgentKey {
        id: id(),
        key: new_key(key(77).public()),
    });
    check(
        ask(),
        "401 invalid_client: the client assertion is not by the current key of a registered agent",
    );
    bench.execute(Command::RetireAgent { id: id() });
    let rotated = AgentKey {
        agent: id(),
        issuer: URL.parse().unwrap(),
        key: key(77),
        ..bench.agent
    };
    check(
        bench.ask(&bench.form(&rotated), Some(&bench.endpoint_proof())),
        "400 unauthorized_client: agent `triage` is retired since 2026-11-21T",
    );
}

#[test]
fn a_key_whose_time_is_over_says_how_to_replace_it() {
    let bench = Bench::new();
    bench.advance(86_400);
    let error = bench
        .ask(&bench.form(&bench.agent), Some(&bench.endpoint_proof()))
        .unwrap_err();
    assert_eq!(error.oauth_code(), "invalid_client");
    assert!(
        error
            .description()
            .contains("`tipstaff agent rotate-key triage`")
    );
}

#[test]
fn no_token_without_a_record() {
    let bench = Bench::new();
    bench.faults.set(store::Fault::Full);
    let error = bench
        .ask(&bench.form(&bench.agent), Some(&bench.endpoint_proof()))
        .unwrap_err();
    assert_eq!(
        shown(&error),
        "503 temporarily_unavailable: the node cannot record the start or end of an instance now"
    );
    bench.faults.set(store::Fault::None);
    bench.token();
}

#[test]
fn nothing_from_before_the_start_is_accepted_after_it() {
    let mut bench = Bench::new();
    let form = bench.form(&bench.agent);
    let proof = bench.endpoint_proof();
    bench.issuer = bench.restarted(200);
    let error = bench.ask(&form, Some(&proof)).unwrap_err();
    assert_eq!(
        shown(&error),
        "401 invalid_client: the client assertion is not fresh: it was made before this node \
         started; make a new one"
    );
    bench.advance(1);
    let error = bench
        .ask(&bench.form(&bench.agent), Some(&proof))
        .unwrap_err();
    assert_eq!(
        shown(&error),
        "400 invalid_dpop_proof: the DPoP proof is not fresh: it was made before this node \
         started; make a new one"
    );
    bench.token();
}

#[test]
fn an_agents_key_file_reads_what_it_shows() {
    let bench = Bench::new();
    let file = bench.agent.to_file();
    let read = AgentKey::parse(file.expose()).unwrap();
    assert_eq!(read.to_file().expose(), file.expose());
    assert_eq!(read.agent, bench.agent.agent);
    assert_eq!(read.expires_at, bench.agent.expires_at);
    assert!(!format!("{read:?}").contains(&b64(&[1; 32])));
    for (from, to) in [
        ("\"agent\":\"triage\"", "\"agent\":\"Triage\""),
        ("\"issuer\":\"http", "\"issuer\":\"ftp"),
        ("\"kid\":\"", "\"kid\":\"x"),
        ("\"d\":\"AQEB", "\"d\":\"AQEC"),
        ("\"kty\":\"OKP\"", "\"kty\":\"EC\""),
        ("2026-", "26-"),
        ("{\"agent\"", "{\"key\":{},\"agent\""),
    ] {
        let bad = file.expose().replace(from, to);
        assert_ne!(&bad, file.expose());
        assert!(AgentKey::parse(&bad).is_err(), "{from}");
    }
}

#[test]
fn registered_keys_are_the_same_keys() {
    for jwk in [key(1).public().to_jwk(), es256_jwk()] {
        let public = PublicKey::from_jwk(jwk.to_string().as_bytes()).unwrap();
        let registered: PublicJwk = public.to_registered().unwrap();
        assert_eq!(PublicKey::from_registered(&registered), Ok(public));
    }
}

//= https://www.rfc-editor.org/rfc/rfc7009#section-2.1
//= type=test
//# and then verifies whether the token was issued to the client making the revocation request.
#[test]
fn a_token_that_is_revoked_ends_its_instance_and_no_other() {
    let bench = Bench::new();
    let (own, bearer) = (bench.token(), bench.bearer());
    let revoke = |token: &str| {
        let form = bench.agent.revocation_form(token, bench.now(), &*bench.rng);
        let headers = headers(&[("content-type", "application/x-www-form-urlencoded")]);
        let form = form.unwrap();
        let request = OwnTokenRequest::parse(&headers, form.expose().as_bytes())?;
        let revocation = wait(bench.issuer.revocation(&request))?;
        Ok(revocation.is_some_and(|(actor, command)| {
            let done = wait(bench.control.execute(actor, command)).unwrap();
            matches!(done, Done::Changed { .. })
        }))
    };
    assert!(!revoke("nonsense").unwrap());
    let error = revoke(&bearer.access_token).unwrap_err();
    assert_eq!(
        shown(&error),
        "400 invalid_grant: the token was not issued to this agent"
    );
    let forged = format!("{}A", own.access_token);
    assert!(!revoke(&forged).unwrap());
    let ended = |instance: &InstanceId| match bench.control.standing(instance, bench.now()) {
        Standing::Active(_) => None,
        Standing::Narrowed(why) => Some(why),
    };
    assert_eq!(ended(&own.instance), None);
    let ask = |form: &[(&str, &str)]| {
        let assertion = bench.agent.assertion(bench.now(), &*bench.rng).unwrap();
        let mut all = vec![
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", &*assertion),
        ];
        all.extend(form);
        let headers = headers(&[("content-type", "application/x-www-form-urlencoded")]);
        let request = OwnTokenRequest::parse(&headers, form::encode(&all).as_bytes())?;
        wait(bench.issuer.revocation(&request))
    };
    //= https://www.rfc-editor.org/rfc/rfc7009#section-2.1
    //= type=test
    //# token REQUIRED.
    assert_eq!(
        shown(&ask(&[]).unwrap_err()),
        "400 invalid_request: the parameter `token` is missing"
    );
    //= https://www.rfc-editor.org/rfc/rfc7009#section-2.1
    //= type=test
    //# If the server is unable to locate the token using the given hint, it MUST extend its search
    //# across all of its supported token types.
    for hint in ["access_token", "refresh_token", "whatever"] {
        let found = ask(&[("token", &own.access_token), ("token_type_hint", hint)]);
        assert!(found.unwrap().is_some(), "{hint}");
    }
    // Also when the token has expired, and only once.
    bench.advance(400);
    assert!(revoke(&own.access_token).unwrap());
    assert_eq!(ended(&own.instance), Some(Why::InstanceEnded));
    assert!(!revoke(&own.access_token).unwrap());
    assert_eq!(ended(&bearer.instance), None);
    // The same assertion is not taken twice.
    let form = bench
        .agent
        .revocation_form("x", bench.now(), &*bench.rng)
        .unwrap();
    let headers = headers(&[("content-type", "application/x-www-form-urlencoded")]);
    let request = OwnTokenRequest::parse(&headers, form.expose().as_bytes()).unwrap();
    assert!(wait(bench.issuer.revocation(&request)).unwrap().is_none());
    let error = wait(bench.issuer.revocation(&request)).unwrap_err();
    assert_eq!(error.word(), "replayed-assertion");
}

//= https://www.rfc-editor.org/rfc/rfc7662#section-2.1
//= type=test
//# token REQUIRED. The string value of the token.
//= https://www.rfc-editor.org/rfc/rfc7662#section-2.3
//= type=test
//# In these cases, the authorization server MUST instead respond with an introspection response with
//# the "active" field set to "false" as described in Section 2.2.
//= https://www.rfc-editor.org/rfc/rfc7662#section-2.2
//= type=test
//# active REQUIRED. Boolean indicator of whether or not the presented token is currently active.
//= https://www.rfc-editor.org/rfc/rfc7662#section-2.2
//= type=test
//# If the introspection call is properly authorized but the token is not active, does not exist on
//# this server, or the protected resource is not allowed to introspect this particular token, then
//# the authorization server MUST return an introspection response with the "active" field set to
//# "false".
//= https://www.rfc-editor.org/rfc/rfc7662#section-4
//= type=test
//# If the token can expire, the authorization server MUST determine whether or not the token has
//# expired.
//= https://www.rfc-editor.org/rfc/rfc7662#section-4
//= type=test
//# If the token has been signed, the authorization server MUST validate the signature.
//= https://www.rfc-editor.org/rfc/rfc7662#section-4
//= type=test
//# If the token can be used only at certain resource servers, the authorization server MUST determine
//# whether or not the token can be used at the resource server making the introspection call.
#[test]
fn a_token_is_introspected_by_its_own_agent_while_it_is_good() {
    let bench = Bench::new();
    let (own, bearer) = (bench.token(), bench.bearer());
    let form = |token: &str| {
        let form = bench.agent.revocation_form(token, bench.now(), &*bench.rng);
        let headers = headers(&[("content-type", "application/x-www-form-urlencoded")]);
        OwnTokenRequest::parse(&headers, form.unwrap().expose().as_bytes()).unwrap()
    };
    let ask = |token: &str| bench.issuer.introspection(&form(token)).unwrap();
    let told = ask(&own.access_token);
    assert_eq!(told["active"], true);
    assert_eq!(told["act"], json!({"sub": own.instance}));
    assert_eq!(told["client_id"], "triage");
    assert_eq!(told["purpose"], own.purpose.to_string());
    assert_eq!(told["iss"], URL);
    //= https://www.rfc-editor.org/rfc/rfc9449#section-6.2
    //= type=test
    //# If the token_type member is included in the introspection response, it MUST contain the value
    //# DPoP.
    assert_eq!(told["token_type"], "DPoP");
    assert!(
        told["cnf"]["jkt"].is_string() && told["sub"].is_string(),
        "{told}"
    );
    assert_eq!(
        told["exp"].as_u64().unwrap(),
        told["iat"].as_u64().unwrap() + own.expires_in
    );
    let silent = json!({"active": false});
    let forged = format!("{}A", own.access_token);
    for other in [&*bearer.access_token, &forged, "nonsense"] {
        assert_eq!(ask(other), silent, "{other}");
    }
    //= https://www.rfc-editor.org/rfc/rfc7662#section-2.1
    //= type=test
    //# If the server is unable to locate the token using the given hint, it MUST extend its search
    //# across all of its supported token types.
    let hinted = form::encode(&[
        ("client_assertion_type", ASSERTION_TYPE),
        (
            "client_assertion",
            &bench.agent.assertion(bench.now(), &*bench.rng).unwrap(),
        ),
        ("token", &own.access_token),
        ("token_type_hint", "refresh_token"),
    ]);
    let hinted = OwnTokenRequest::parse(
        &headers(&[("content-type", "application/x-www-form-urlencoded")]),
        hinted.as_bytes(),
    );
    let told = bench.issuer.introspection(&hinted.unwrap()).unwrap();
    assert_eq!(told["active"], true);
    // Not to whoever shows no assertion, or one again.
    let request = form(&own.access_token);
    assert!(bench.issuer.introspection(&request).is_ok());
    let error = bench.issuer.introspection(&request).unwrap_err();
    assert_eq!(error.word(), "replayed-assertion");
    //= https://www.rfc-editor.org/rfc/rfc7662#section-4
    //= type=test
    //# the authorization server MUST determine whether or not a token's valid period has started
    //# yet.
    bench.go_back(6);
    assert_eq!(ask(&own.access_token), silent);
    bench.advance(6);
    // Looking at it is no use of it, and it is not good for longer than it says.
    bench.advance(own.expires_in - 1);
    assert_eq!(ask(&own.access_token)["active"], true);
    bench.advance(1);
    assert_eq!(ask(&own.access_token), silent);
}

//= https://www.rfc-editor.org/rfc/rfc7009#section-5
//= type=test
//# Care MUST be taken to prevent malicious clients from exploiting this feature to launch
//# denial-of-service attacks.
//= https://www.rfc-editor.org/rfc/rfc7009#section-5
//= type=test
//# Appropriate countermeasures, which should be in place for the token endpoint as well, MUST be
//# applied to the revocation endpoint
#[test]
fn revocations_are_counted_and_need_a_key_that_holds() {
    let bench = Bench::new();
    let token = bench.token().access_token;
    let ask = || {
        let form = bench
            .agent
            .revocation_form(&token, bench.now(), &*bench.rng);
        let headers = headers(&[("content-type", "application/x-www-form-urlencoded")]);
        let form = form.unwrap();
        let request = OwnTokenRequest::parse(&headers, form.expose().as_bytes()).unwrap();
        wait(bench.issuer.revocation(&request)).map(|it| it.is_some())
    };
    for _ in 0..REVOCATIONS_PER_MINUTE_MIN {
        assert!(ask().unwrap());
    }
    let error = ask().unwrap_err();
    assert_eq!(
        (error.status().as_u16(), error.word()),
        (503, "too-many-revocations")
    );
    bench.advance(60);
    assert!(ask().unwrap());
    bench.advance(400 * 24 * 60 * 60);
    let error = ask().unwrap_err();
    assert_eq!(error.oauth_code(), "invalid_client");
    assert!(error.to_string().contains("expired"), "{error}");
}

#[test]
fn an_assertion_is_for_the_endpoint_that_it_names() {
    let bench = Bench::new();
    let check = |audience: &str, expected: &str| {
        let claims = json!({ "iss": "triage", "sub": "triage", "aud": audience,
            "jti": audience, "iat": NOW, "exp": NOW + 60 });
        let assertion = forge(
            r#"{"alg":"EdDSA"}"#,
            &claims.to_string(),
            Sign::EdDsa(&key(1)),
        );
        let form = form::encode(&[
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", &assertion),
            ("token", "x"),
        ]);
        let headers = headers(&[("content-type", "application/x-www-form-urlencoded")]);
        let request = OwnTokenRequest::parse(&headers, form.as_bytes()).unwrap();
        let answer = match wait(bench.issuer.revocation(&request)) {
            Ok(_) => "ok",
            Err(error) => error.word(),
        };
        assert_eq!(answer, expected, "{audience}");
    };
    check(&format!("{URL}/oauth/revoke"), "ok");
    check(&format!("{URL}/oauth/token"), "bad-assertion");
}

#[test]
fn an_instance_that_was_ended_gets_no_other_token() {
    let bench = Bench::new();
    let renew = |instance: &InstanceId| {
        let purpose = "triage/refunds".parse().unwrap();
        let resource = bench.resource("files");
        let form =
            bench
                .agent
                .renewal_form(&purpose, &resource, instance, bench.now(), &*bench.rng);
        bench.ask(&form.unwrap(), Some(&bench.endpoint_proof()))
    };
    let first = bench.token().instance;
    assert_eq!(renew(&first).unwrap().instance, first);
    bench.execute(Command::EndInstance {
        id: first.clone(),
        reason: EndReason::Revoked,
    });
    let error = renew(&first).unwrap_err();
    assert_eq!(error.oauth_code(), "invalid_grant");
    assert!(
        error
            .description()
            .contains("was revoked by an administrator"),
        "{error}"
    );
    let theirs = bench.bearer().instance;
    for strange in [theirs, "i-aaaaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap()] {
        assert_eq!(renew(&strange).unwrap_err().oauth_code(), "invalid_grant");
    }
    assert_ne!(bench.token().instance, first);
}
