//! The resource server.

use http::StatusCode;
use register::{Command, EndReason};
use serde_json::{Value, json};

use super::bench::{Bench, NOW, URL, headers, key};
use super::forge::{Sign, b64, es256_jwk, forge, with};
use crate::{Challenge, DpopKey, PublicKey};

/// What a challenge looks like: `word status code: description`.
fn shown(challenge: &Challenge) -> String {
    format!(
        "{} {} {}: {}",
        challenge.word(),
        challenge.status().as_u16(),
        challenge.code().unwrap_or("-"),
        challenge.description()
    )
}

fn word(answer: Result<crate::Caller, Challenge>) -> &'static str {
    answer.map_or_else(|challenge| challenge.word(), |_| "ok")
}

//= https://www.rfc-editor.org/rfc/rfc8693#section-4.1
//= type=test
//# MUST only consider the token's top-level claims and the party identified as the current actor by
//# the "act" claim.
#[test]
fn a_caller_is_who_the_token_says() {
    let bench = Bench::new();
    let response = bench.token();
    let token = &response.access_token;
    // Twice: the second time the token and the key are known.
    for _ in 0..2 {
        let caller = bench
            .call(&[
                ("authorization", &format!("DPoP {token}")),
                ("dpop", &bench.proof(token)),
            ])
            .unwrap();
        assert_eq!(caller.instance(), &response.instance);
        assert_eq!(caller.agent().as_str(), "triage");
        assert_eq!(caller.purpose().as_str(), "triage/refunds");
        assert_eq!(caller.upstream().as_str(), "files");
        assert_eq!(caller.jkt(), Some(bench.dpop.jkt()));
        assert!(caller.proven());
        assert_eq!(caller.expires_at().as_secs(), NOW + 300);
        let sponsor = bench
            .control
            .view(|state| state.sponsors()[0].handle.clone());
        assert_eq!(caller.sponsor(), &sponsor);
    }
    let bearer = bench.bearer();
    for _ in 0..2 {
        let caller = bench
            .call(&[("authorization", &format!("bearer  {}", bearer.access_token))])
            .unwrap();
        assert_eq!(caller.instance(), &bearer.instance);
        assert_eq!(caller.agent().as_str(), "porter");
        assert_eq!(caller.jkt(), None);
        assert!(!caller.proven());
    }
}

//= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
//= type=test
//# There is not more than one DPoP HTTP request header field.
//= https://www.rfc-editor.org/rfc/rfc9449#section-7
//= type=test
//# Requests to DPoP-protected resources MUST include both a DPoP proof as per Section 4 and the
//# access token
//= https://www.rfc-editor.org/rfc/rfc9449#section-7.1
//= type=test
//# a resource server MUST check that a DPoP proof was also received in the DPoP header field of the
//# HTTP request
//= https://www.rfc-editor.org/rfc/rfc9449#section-7.1
//= type=test
//# MUST NOT grant access to the resource unless all checks are successful.
//= https://www.rfc-editor.org/rfc/rfc9449#section-7.1
//= type=test
//# this authentication scheme MUST NOT be used with the Proxy-Authenticate or Proxy-Authorization
//# header fields.
//= https://www.rfc-editor.org/rfc/rfc9449#section-7.2
//= type=test
//# MUST reject a DPoP-bound access token received as a bearer token
//= https://www.rfc-editor.org/rfc/rfc9449#section-6
//= type=test
//# MUST be able to reliably identify whether an access token is DPoP-bound
#[test]
fn headers_are_strict() {
    let bench = Bench::new();
    let token = bench.token().access_token;
    let bearer = bench.bearer().access_token;
    let proof = || bench.proof(&token);
    let check = |pairs: &[(&str, &str)], expected: &str| {
        let challenge = bench.call(pairs).unwrap_err();
        assert_eq!(shown(&challenge), expected, "{pairs:?}");
    };
    let missing = "missing-token 401 -: the request has no access token";
    check(&[], missing);
    check(&[("dpop", &proof())], missing);
    check(&[("authorization", "")], missing);
    check(&[("authorization", "DPoP")], missing);
    check(&[("authorization", &token)], missing);
    check(&[("authorization", "Basic eDp5")], missing);
    let dpop = format!("dPoP {token}");
    check(
        &[("proxy-authorization", &dpop), ("dpop", &proof())],
        missing,
    );
    let authorization = "bad-authorization-header 400 invalid_request: there is not exactly one \
         readable `Authorization` header";
    check(
        &[("authorization", &dpop), ("authorization", &dpop)],
        authorization,
    );
    check(
        &[("authorization", &dpop), ("authorization", "Basic eDp5")],
        authorization,
    );
    check(&[("authorization", "DPoP \u{e9}")], authorization);
    check(
        &[("authorization", &dpop)],
        "missing-proof 401 invalid_dpop_proof: the request has no `DPoP` header",
    );
    check(
        &[
            ("authorization", &dpop),
            ("dpop", &proof()),
            ("dpop", &proof()),
        ],
        "bad-proof-header 400 invalid_request: there is not exactly one readable `DPoP` header",
    );
    check(
        &[("authorization", &format!("Bearer {token}"))],
        "bound-token-as-bearer 401 invalid_token: the access token is bound to a key; present it \
         as `Authorization: DPoP` with a proof",
    );
    check(
        &[
            ("authorization", &format!("Bearer {token}")),
            ("dpop", &proof()),
        ],
        "bound-token-as-bearer 401 invalid_token: the access token is bound to a key; present it \
         as `Authorization: DPoP` with a proof",
    );
    check(
        &[
            ("authorization", &format!("DPoP {bearer}")),
            ("dpop", &bench.proof(&bearer)),
        ],
        "bearer-token-as-bound 401 invalid_token: the access token is not bound to a key; present \
         it as `Authorization: Bearer`",
    );
    let parts = "bad-token 401 invalid_token: the access token cannot be used: it is not three \
         parts joined by `.`";
    check(&[("authorization", "Bearer ")], parts);
    check(
        &[("authorization", &format!("Bearer {bearer}, DPoP {token}"))],
        "bad-token 401 \
         invalid_token: the access token cannot be used: it is not three parts joined by `.`",
    );
    check(
        &[("authorization", &format!("Bearer {}", "x".repeat(8_193)))],
        "bad-token 401 invalid_token: the access token cannot be used: it is 8193 bytes long; at \
         most 8192 are read",
    );
    assert!(
        bench
            .call(&[("authorization", &dpop), ("dpop", &proof())])
            .is_ok()
    );
}

#[test]
fn challenges_say_where_to_get_a_token() {
    let bench = Bench::new();
    let check = |pairs: &[(&str, &str)], expected: [&str; 2]| {
        assert_eq!(bench.call(pairs).unwrap_err().www_authenticate(), expected);
    };
    check(
        &[],
        [
            r#"Bearer resource_metadata="http://127.0.0.1:7420/.well-known/oauth-protected-resource/mcp/files""#,
            r#"DPoP resource_metadata="http://127.0.0.1:7420/.well-known/oauth-protected-resource/mcp/files", algs="EdDSA Ed25519 ES256""#,
        ],
    );
    check(
        &[("authorization", "Bearer x")],
        [
            r#"Bearer error="invalid_token", error_description="the access token cannot be used: it is not three parts joined by `.`", resource_metadata="http://127.0.0.1:7420/.well-known/oauth-protected-resource/mcp/files""#,
            r#"DPoP resource_metadata="http://127.0.0.1:7420/.well-known/oauth-protected-resource/mcp/files", algs="EdDSA Ed25519 ES256""#,
        ],
    );
    let token = bench.token().access_token;
    check(
        &[("authorization", &format!("DPoP {token}"))],
        [
            r#"Bearer resource_metadata="http://127.0.0.1:7420/.well-known/oauth-protected-resource/mcp/files""#,
            r#"DPoP error="invalid_dpop_proof", error_description="the request has no `DPoP` header", resource_metadata="http://127.0.0.1:7420/.well-known/oauth-protected-resource/mcp/files", algs="EdDSA Ed25519 ES256""#,
        ],
    );
}

#[test]
fn hostile_access_tokens() {
    let bench = Bench::new();
    let token_key = key(200);
    let kid = token_key.public().thumbprint().to_string();
    let header = json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": kid });
    let response = bench.bearer();
    let sponsor = bench
        .control
        .view(|state| state.sponsors()[0].handle.clone());
    let claims = json!({
        "iss": URL, "aud": format!("{URL}/mcp/files"), "sub": sponsor, "client_id": "porter",
        "act": { "sub": response.instance }, "purpose": "triage", "jti": "1",
        "iat": NOW, "exp": NOW + 300,
    });
    let good = Sign::EdDsa(&token_key);
    let check = |header: &str, claims: &str, sign: Sign<'_>, expected: &str| {
        let token = forge(header, claims, sign);
        let answer = bench.call(&[("authorization", &format!("Bearer {token}"))]);
        let shown = answer.map_or_else(|challenge| shown(&challenge), |_| "ok".to_owned());
        assert_eq!(shown, expected, "{header} {claims}");
    };
    let header_with = |changes: Value, expected: &str| {
        check(
            &with(&header, &changes),
            &claims.to_string(),
            good,
            expected,
        );
    };
    let claims_with = |changes: Value, expected: &str| {
        check(
            &header.to_string(),
            &with(&claims, &changes),
            good,
            expected,
        );
    };
    let bad = |what: &str| {
        format!("bad-token 401 invalid_token: the access token cannot be used: {what}")
    };

    header_with(json!({}), "ok");
    header_with(json!({ "alg": "Ed25519" }), "ok");
    header_with(json!({ "typ": "application/AT+JWT" }), "ok");
    claims_with(json!({ "more": [1, { "x": null }] }), "ok");

    for typ in [
        json!(null),
        json!("JWT"),
        json!("dpop+jwt"),
        json!("client-authentication+jwt"),
    ] {
        header_with(json!({ "typ": typ }), &bad("its `typ` is not `at+jwt`"));
    }
    let algorithm = bad("its `alg` is none of EdDSA, Ed25519 and ES256");
    for alg in ["none", "None", "HS256", "RS256", "PS256", "ES512"] {
        header_with(json!({ "alg": alg }), &algorithm);
    }
    header_with(
        json!({ "alg": "ES256" }),
        &bad("its `alg` is not that of the key"),
    );
    header_with(
        json!({ "alg": null }),
        &bad("in its header, the member `alg` is missing"),
    );
    let no_key =
        "unknown-token-key 401 invalid_token: the access token's `kid` is not a key of this node";
    header_with(json!({ "kid": null }), no_key);
    header_with(json!({ "kid": "" }), no_key);
    header_with(
        json!({ "kid": **bench.agent.key.public().thumbprint() }),
        no_key,
    );
    header_with(
        json!({ "kid": [1] }),
        &bad("in its header, the member `kid` is not a string"),
    );
    for member in ["crit", "b64", "jku", "x5u", "x5c", "x5t", "x5t#S256", "jwk"] {
        let expected = bad(&format!("its header has `{member}`, which is not accepted"));
        header_with(json!({ member: token_key.public().to_jwk() }), &expected);
    }
    let length = bad("its signature of 64 bytes is not base64url without padding");
    let text = |value: &Value| value.to_string();
    check(&text(&header), &text(&claims), Sign::Nothing, &length);
    check(
        &with(&header, &json!({ "alg": "none" })),
        &text(&claims),
        Sign::Nothing,
        &length,
    );
    let public = token_key.public().to_jwk().to_string();
    check(
        &with(&header, &json!({ "alg": "HS256" })),
        &text(&claims),
        Sign::Hs256(public.as_bytes()),
        &length,
    );
    let signature = bad("its signature is not by the key");
    check(
        &text(&header),
        &text(&claims),
        Sign::EdDsa(&key(201)),
        &signature,
    );
    check(
        &text(&header),
        &text(&claims),
        Sign::EdDsa(&bench.agent.key),
        &signature,
    );

    let missing = |name: &str| {
        format!(
            "bad-token-claims 401 invalid_token: in the access token, the member `{name}` is missing"
        )
    };
    for name in [
        "iss",
        "aud",
        "sub",
        "client_id",
        "act",
        "purpose",
        "jti",
        "iat",
        "exp",
    ] {
        claims_with(json!({ name: null }), &missing(name));
    }
    claims_with(json!({ "act": {} }), &missing("sub"));
    claims_with(json!({ "cnf": {} }), &missing("jkt"));
    claims_with(json!({ "cnf": { "x5t#S256": "x" } }), &missing("jkt"));
    let value = |name: &str| {
        format!("bad-token-claims 401 invalid_token: the access token's `{name}` cannot be read")
    };
    claims_with(json!({ "act": { "sub": "i-1" } }), &value("sub"));
    claims_with(json!({ "sub": "Maya" }), &value("sub"));
    claims_with(json!({ "client_id": "no id" }), &value("client_id"));
    claims_with(json!({ "purpose": "/" }), &value("purpose"));
    let kind = |name: &str, kind: &str| {
        format!(
            "bad-token-claims 401 invalid_token: in the access token, the member `{name}` is not \
             {kind}"
        )
    };
    claims_with(json!({ "cnf": "x" }), &kind("cnf", "an object"));
    claims_with(
        json!({ "aud": [format!("{URL}/mcp/files")] }),
        &kind("aud", "a string"),
    );
    claims_with(
        json!({ "exp": -1 }),
        &kind("exp", "a time in seconds since 1970"),
    );
    claims_with(
        json!({ "exp": u64::MAX }),
        &kind("exp", "a time in seconds since 1970"),
    );
    let issuer = "bad-token-claims 401 invalid_token: the access token's `iss` is not this node";
    claims_with(json!({ "iss": "http://127.0.0.1:7421" }), issuer);
    claims_with(json!({ "iss": format!("{URL}/") }), issuer);
    let audience = "wrong-audience 401 invalid_token: the access token is for another resource; \
         get one for `http://127.0.0.1:7420/mcp/files`";
    for aud in [
        URL,
        "http://127.0.0.1:7420/mcp/clock",
        "http://127.0.0.1:7420/mcp/files/",
        "",
    ] {
        claims_with(json!({ "aud": aud }), audience);
    }
    claims_with(
        json!({ "exp": NOW }),
        "token-expired 401 invalid_token: the access token expired 0 s ago; get a new one",
    );
    claims_with(json!({ "exp": NOW + 1 }), "ok");
    claims_with(json!({ "iat": NOW + 5 }), "ok");
    claims_with(
        json!({ "iat": NOW + 6 }),
        "token-from-future 401 invalid_token: the access token is from the future: this node's \
         clock went back",
    );
    claims_with(
        json!({ "act": { "sub": format!("i-{}", "a".repeat(26)) } }),
        "unknown 401 invalid_token: there is no such instance",
    );
    let doubled = r#"{"iss":"x","iss":"x"}"#;
    check(
        &text(&header),
        doubled,
        good,
        &bad("in its claims, it is not one JSON object whose members are all different"),
    );
    // An assertion or a proof is no access token, whoever signed it.
    let assertion = bench.agent.assertion(bench.now(), &*bench.rng).unwrap();
    for other in [assertion, bench.endpoint_proof()] {
        assert_eq!(
            word(bench.call(&[("authorization", &format!("Bearer {other}"))])),
            "bad-token"
        );
    }
}

#[test]
fn a_token_is_for_one_upstream() {
    let bench = Bench::new();
    let token = bench.token().access_token;
    let clock = bench.resource("clock");
    let proof = bench
        .dpop
        .proof("POST", clock.uri(), Some(&token), bench.now(), &*bench.rng)
        .unwrap();
    let headers = headers(&[
        ("authorization", &format!("DPoP {token}")),
        ("dpop", &proof),
    ]);
    let answer = bench.issuer.verify(&headers, "POST", &clock);
    assert_eq!(word(answer), "wrong-audience");
}

//= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
//= type=test
//# To validate a DPoP proof, the receiving server MUST ensure the following:
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
//= type=test
//# All required claims per Section 4.2 are contained in the JWT.
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
//= type=test
//# The typ JOSE Header Parameter has the value dpop+jwt.
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
//= type=test
//# The alg JOSE Header Parameter indicates a registered asymmetric digital signature algorithm
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
//= type=test
//# The JWT signature verifies with the public key contained in the jwk JOSE Header Parameter.
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
//= type=test
//# The jwk JOSE Header Parameter does not contain a private key.
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
//= type=test
//# The htm claim matches the HTTP method of the current request.
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
//= type=test
//# The htu claim matches the HTTP URI value for the HTTP request in which the JWT was received,
//# ignoring any query and fragment parts.
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
//= type=test
//# The creation time of the JWT, as determined by either the iat claim
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
//= type=test
//# ensure that the value of the ath claim equals the hash of that access token
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
//= type=test
//# confirm that the public key to which the access token is bound matches the public key from the
//# DPoP proof.
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
//= type=test
//# The DPoP HTTP request header field value is a single and well-formed JWT.
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.2
//= type=test
//# The payload of a DPoP proof MUST contain at least the following claims:
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.2
//= type=test
//# The JOSE Header of a DPoP JWT MUST contain at least the following parameters:
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.2
//= type=test
//# It MUST NOT be none or an identifier for a symmetric algorithm
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.2
//= type=test
//# It MUST NOT contain a private key.
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.2
//= type=test
//# the DPoP proof MUST also contain the following claim:
//= https://www.rfc-editor.org/rfc/rfc9449#section-4.2
//= type=test
//# The value MUST be the result of a base64url encoding (as defined in Section 2 of [RFC7515]) the
//# SHA-256 [SHS] hash
//= https://www.rfc-editor.org/rfc/rfc9449#section-6
//= type=test
//# MUST ensure that the public key from the DPoP proof matches the one bound to the access token.
//= https://www.rfc-editor.org/rfc/rfc9449#section-7
//= type=test
//# The DPoP proof MUST include the ath claim with a valid hash of the associated access token.
//= https://www.rfc-editor.org/rfc/rfc9449#section-11.1
//= type=test
//# servers MUST only accept DPoP proofs for a limited time after their creation
//= https://www.rfc-editor.org/rfc/rfc9449#section-11.5
//= type=test
//# MUST verify that the typ field is dpop+jwt
//= https://www.rfc-editor.org/rfc/rfc9449#section-11.6
//= type=test
//# MUST ensure that only asymmetric digital signature algorithms
//= https://www.rfc-editor.org/rfc/rfc9449#section-11.6
//= type=test
//# In particular, the algorithm none MUST NOT be allowed.
#[test]
fn hostile_proofs() {
    let bench = Bench::new();
    let token = bench.token().access_token;
    let dpop_key = key(2);
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519",
        "x": dpop_key.public().to_jwk()["x"] });
    let header = json!({ "typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk });
    let count = std::cell::Cell::new(0);
    let claims = || {
        count.set(count.get() + 1);
        json!({ "jti": format!("j{}", count.get()), "htm": "POST", "htu": format!("{URL}/mcp/files"),
            "iat": NOW, "ath": b64(vocab::Digest::of(token.as_bytes()).as_bytes()) })
    };
    let good = Sign::EdDsa(&dpop_key);
    let present = |proof: &str| {
        let answer = bench.call(&[("authorization", &format!("DPoP {token}")), ("dpop", proof)]);
        answer.map_or_else(
            |challenge| {
                let shown = shown(&challenge);
                let bad = "bad-proof 401 invalid_dpop_proof: ";
                shown.strip_prefix(bad).map_or(shown.clone(), str::to_owned)
            },
            |_| "ok".to_owned(),
        )
    };
    let check = |header: &str, claims: &str, sign: Sign<'_>, expected: &str| {
        assert_eq!(
            present(&forge(header, claims, sign)),
            expected,
            "{header} {claims}"
        );
    };
    let header_with = |changes: Value, expected: &str| {
        check(
            &with(&header, &changes),
            &claims().to_string(),
            good,
            expected,
        );
    };
    let claims_with = |changes: Value, expected: &str| {
        check(
            &header.to_string(),
            &with(&claims(), &changes),
            good,
            expected,
        );
    };
    let jwk_with = |changes: Value, expected: &str| {
        let changed: Value = serde_json::from_str(&with(&jwk, &changes)).unwrap();
        header_with(json!({ "jwk": changed }), expected);
    };
    let bad = |what: &str| format!("the DPoP proof cannot be used: {what}");
    let bad_key = |what: &str| format!("the DPoP proof's key cannot be used: {what}");

    // Twice over: before any proof was accepted, and when the key is known.
    for _ in 0..2 {
        header_with(
            json!({ "alg": "none" }),
            &bad("its `alg` is none of EdDSA, Ed25519 and ES256"),
        );
        header_with(
            json!({ "alg": "ES256" }),
            &bad("its `alg` is not that of the key"),
        );
        header_with(
            json!({ "alg": "HS256" }),
            &bad("its `alg` is none of EdDSA, Ed25519 and ES256"),
        );
        for typ in [json!(null), json!("JWT"), json!("at+jwt")] {
            header_with(json!({ "typ": typ }), &bad("its `typ` is not `dpop+jwt`"));
        }
        header_with(
            json!({ "crit": ["jwk"] }),
            &bad("its header has `crit`, which is not accepted"),
        );
        header_with(
            json!({ "jku": "x" }),
            &bad("its header has `jku`, which is not accepted"),
        );
        header_with(
            json!({ "jwk": null }),
            "in the DPoP proof, the member `jwk` is missing",
        );
        header_with(
            json!({ "jwk": "x" }),
            "in the DPoP proof, the member `jwk` is not an object",
        );

        // Keys that are none. An `x` of 31 bytes panics inside a well-known JOSE library.
        let x = bad_key("the JWK's `x` is not 32 bytes in base64url without padding");
        for length in [0, 1, 16, 31, 33, 64] {
            jwk_with(json!({ "x": b64(&vec![7; length]) }), &x);
        }
        jwk_with(json!({ "x": format!("{}=", b64(&[7; 32])) }), &x);
        jwk_with(json!({ "x": "!".repeat(43) }), &x);
        // The same bytes with a stray bit at the end.
        let mut stray = b64(&[7; 32]);
        assert_eq!(stray.pop(), Some('c'));
        jwk_with(json!({ "x": format!("{stray}d") }), &x);
        let point = bad_key("the JWK is not a point that a key can be");
        // Not on the curve; the identity; a point of order 8.
        let identity = {
            let mut bytes = [0; 32];
            bytes[0] = 1;
            bytes
        };
        for bytes in [[2; 32], identity, [0; 32]] {
            jwk_with(json!({ "x": b64(&bytes) }), &point);
        }
        let private =
            bad_key("the JWK holds a private or symmetric key (`d`); send only its public part");
        jwk_with(json!({ "d": b64(&[2; 32]) }), &private);
        jwk_with(json!({ "d": "" }), &private);
        let unknown = bad_key("the JWK is neither OKP Ed25519 nor EC P-256");
        for change in [
            json!({ "kty": "RSA", "n": "x", "e": "AQAB" }),
            json!({ "kty": "oct" }),
            json!({ "kty": "okp" }),
            json!({ "crv": "X25519" }),
            json!({ "crv": "Ed448" }),
            json!({ "crv": "P-256" }),
            json!({ "kty": "EC", "crv": "secp256k1" }),
            json!({ "kty": "EC" }),
            json!({ "crv": null }),
        ] {
            jwk_with(change, &unknown);
        }
        jwk_with(
            json!({ "kty": null }),
            &bad_key("the JWK cannot be read: the member `kty` is missing"),
        );
        jwk_with(
            json!({ "x": null }),
            &bad_key("the JWK cannot be read: the member `x` is missing"),
        );
        jwk_with(
            json!({ "x": 7 }),
            &bad_key("the JWK cannot be read: the member `x` is not a string"),
        );
        let fit = |member: &str| {
            bad_key(&format!(
                "the JWK's `{member}` does not fit a key that verifies signatures of its type"
            ))
        };
        jwk_with(json!({ "alg": "ES256" }), &fit("alg"));
        jwk_with(json!({ "use": "enc" }), &fit("use"));
        jwk_with(json!({ "key_ops": ["sign"] }), &fit("key_ops"));
        jwk_with(json!({ "key_ops": ["verify", "sign"] }), &fit("key_ops"));
        jwk_with(json!({ "key_ops": "verify" }), &fit("key_ops"));
        jwk_with(
            json!({ "alg": "EdDSA", "use": "sig", "key_ops": ["verify"], "kid": "x", "ext": true }),
            "ok",
        );
        // P-256: short, and not on the curve.
        let ec = |x: &[u8], y: &[u8]| {
            json!({ "alg": "ES256",
                "jwk": { "kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y) } })
        };
        header_with(ec(&[1; 31], &[1; 32]), &x);
        let y = bad_key("the JWK's `y` is not 32 bytes in base64url without padding");
        header_with(ec(&[1; 32], &[]), &y);
        let signature = bad("its signature is not by the key");
        header_with(ec(&[1; 32], &[1; 32]), &signature);
        header_with(ec(&[0; 32], &[0; 32]), &signature);
        header_with(ec(&[255; 32], &[255; 32]), &signature);

        check(
            &header.to_string(),
            &claims().to_string(),
            Sign::EdDsa(&key(5)),
            &signature,
        );
        let other = json!({ "kty": "OKP", "crv": "Ed25519", "x": key(5).public().to_jwk()["x"] });
        check(
            &with(&header, &json!({ "jwk": other })),
            &claims().to_string(),
            Sign::EdDsa(&key(5)),
            "bad-proof 401 invalid_token: the DPoP proof is by another key than the access token's",
        );
        check(
            &with(&header, &json!({ "alg": "ES256", "jwk": es256_jwk() })),
            &claims().to_string(),
            Sign::Es256,
            "bad-proof 401 invalid_token: the DPoP proof is by another key than the access token's",
        );
        for name in ["jti", "htm", "htu", "iat"] {
            claims_with(
                json!({ name: null }),
                &format!("in the DPoP proof, the member `{name}` is missing"),
            );
        }
        claims_with(
            json!({ "jti": 7 }),
            "in the DPoP proof, the member `jti` is not a string",
        );
        let jti = "the DPoP proof's `jti` is empty or longer than 256 bytes";
        claims_with(json!({ "jti": "" }), jti);
        claims_with(json!({ "jti": "j".repeat(257) }), jti);
        for method in ["GET", "post", ""] {
            claims_with(
                json!({ "htm": method }),
                "the DPoP proof's `htm` is not the request's method",
            );
        }
        let uri = "the DPoP proof's `htu` is not this endpoint; it should be \
             `http://127.0.0.1:7420/mcp/files`";
        for htu in [
            "http://127.0.0.1:7420/mcp/clock",
            "http://127.0.0.1:7420/mcp/files/",
            "http://127.0.0.1:7421/mcp/files",
            "https://127.0.0.1:7420/mcp/files",
            "http://127.0.0.1:7420@127.0.0.2/mcp/files",
            "/mcp/files",
            "",
        ] {
            claims_with(json!({ "htu": htu }), uri);
        }
        claims_with(
            json!({ "htu": "HTTP://127.0.0.1:7420/mcp/files?a#b" }),
            "ok",
        );
        let ath = "the DPoP proof's `ath` is not the hash of the access token";
        claims_with(json!({ "ath": null }), ath);
        claims_with(json!({ "ath": "" }), ath);
        claims_with(json!({ "ath": b64(&[0; 32]) }), ath);
        let stale = |what: &str| format!("the DPoP proof is not fresh: {what}");
        claims_with(
            json!({ "iat": NOW - 61 }),
            &stale("it was made 61 s ago; at most 60 s are accepted"),
        );
        claims_with(json!({ "iat": NOW - 60 }), "ok");
        claims_with(json!({ "iat": NOW + 5 }), "ok");
        claims_with(
            json!({ "iat": NOW + 6 }),
            &stale("it is dated 6 s ahead of this node's clock; set the clock"),
        );
        claims_with(
            json!({ "iat": 0 }),
            &stale(&format!(
                "it was made {NOW} s ago; at most 60 s are accepted"
            )),
        );
        let replayed = "replayed-proof 401 invalid_dpop_proof: the DPoP proof was used before";
        let once = forge(&header.to_string(), &claims().to_string(), good);
        assert_eq!(present(&once), "ok");
        assert_eq!(present(&once), replayed);
        // The same id under another time is not a new proof.
        let again = with(
            &claims(),
            &json!({ "jti": format!("j{}", count.get() - 1), "iat": NOW - 9 }),
        );
        check(&header.to_string(), &again, good, replayed);
        assert_eq!(present("x"), bad("it is not three parts joined by `.`"));
        assert_eq!(
            present(&"x".repeat(8_193)),
            bad("it is 8193 bytes long; at most 8192 are read")
        );
    }
}

#[test]
fn a_proof_is_for_one_request() {
    let bench = Bench::new();
    let token = bench.token().access_token;
    let authorization = format!("DPoP {token}");
    let proof = bench.proof(&token);
    let call = || bench.call(&[("authorization", &authorization), ("dpop", &proof)]);
    assert_eq!(word(call()), "ok");
    assert_eq!(word(call()), "replayed-proof");
    bench.advance(60);
    assert_eq!(word(call()), "replayed-proof");
    bench.advance(1);
    assert_eq!(word(call()), "bad-proof");
    // A clock that goes back does not bring it back.
    bench.advance(100);
    let later = bench.proof(&token);
    assert_eq!(
        word(bench.call(&[("authorization", &authorization), ("dpop", &later)])),
        "ok"
    );
    bench.go_back(161);
    assert_eq!(word(call()), "replayed-proof");
}

#[test]
fn a_proof_from_before_the_start_is_refused_after_it() {
    let mut bench = Bench::new();
    let token = bench.token().access_token;
    let authorization = format!("DPoP {token}");
    let used = bench.proof(&token);
    let unused = bench.proof(&token);
    assert!(
        bench
            .call(&[("authorization", &authorization), ("dpop", &used)])
            .is_ok()
    );
    bench.issuer = bench.restarted(200);
    for _ in 0..2 {
        for proof in [&used, &unused] {
            let answer = bench.call(&[("authorization", &authorization), ("dpop", proof)]);
            assert_eq!(
                shown(&answer.unwrap_err()),
                "bad-proof 401 invalid_dpop_proof: the DPoP proof is not fresh: it was made before \
                 this node started; make a new one"
            );
        }
        bench.advance(1);
    }
    // The instance goes on, and so does its token.
    let answer = bench.call(&[
        ("authorization", &authorization),
        ("dpop", &bench.proof(&token)),
    ]);
    assert_eq!(word(answer), "ok");
}

#[test]
fn tokens_expire_whether_known_or_not() {
    let mut bench = Bench::new();
    let token = bench.bearer().access_token;
    let call = |bench: &Bench| word(bench.call(&[("authorization", &format!("Bearer {token}"))]));
    assert_eq!(call(&bench), "ok");
    bench.advance(299);
    assert_eq!(call(&bench), "ok");
    bench.advance(1);
    assert_eq!(call(&bench), "token-expired");
    bench.issuer = bench.restarted(200);
    assert_eq!(call(&bench), "token-expired");
    // A clock that went back before the token was made.
    bench.go_back(306);
    assert_eq!(call(&bench), "token-from-future");
}

#[test]
fn what_is_narrowed_is_refused_on_the_very_next_request() {
    let bench = Bench::new();
    let response = bench.token();
    let token = response.access_token;
    let call = || {
        let answer = bench.call(&[
            ("authorization", &format!("DPoP {token}")),
            ("dpop", &bench.proof(&token)),
        ]);
        if let Err(challenge) = &answer {
            assert_eq!(challenge.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(challenge.code(), Some("invalid_token"));
        }
        word(answer)
    };
    let agent = || bench.agent.agent.clone();
    let sponsor = || "maya".parse().unwrap();
    assert_eq!(call(), "ok");
    bench.execute(Command::SuspendAgent {
        id: agent(),
        signal: None,
    });
    assert_eq!(call(), "agent-suspended");
    bench.execute(Command::ResumeAgent { id: agent() });
    assert_eq!(call(), "ok");
    bench.execute(Command::SuspendSponsor {
        id: sponsor(),
        signal: None,
    });
    assert_eq!(call(), "sponsor-suspended");
    bench.execute(Command::ResumeSponsor {
        id: sponsor(),
        signal: None,
        despite: true,
    });
    assert_eq!(call(), "ok");
    bench.execute(Command::EndInstance {
        id: response.instance,
        reason: EndReason::Revoked,
    });
    assert_eq!(call(), "instance-ended");
    bench.execute(Command::RetireAgent { id: agent() });
    assert_eq!(call(), "instance-ended");
}

#[test]
fn an_es256_key_is_proven_too() {
    let bench = Bench::new();
    let public = PublicKey::from_jwk(es256_jwk().to_string().as_bytes()).unwrap();
    let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": es256_jwk() }).to_string();
    let proof = |jti: &str, uri: &str, ath: Option<&str>| {
        let mut claims =
            json!({ "jti": jti, "htm": "POST", "htu": format!("{URL}{uri}"), "iat": NOW });
        if let Some(token) = ath {
            claims["ath"] = json!(b64(vocab::Digest::of(token.as_bytes()).as_bytes()));
        }
        forge(&header, &claims.to_string(), Sign::Es256)
    };
    let response = bench.ask(
        &bench.form(&bench.agent),
        Some(&proof("1", "/oauth/token", None)),
    );
    let token = response.unwrap().access_token;
    let authorization = format!("DPoP {token}");
    for jti in ["2", "3"] {
        let proof = proof(jti, "/mcp/files", Some(&token));
        let caller = bench
            .call(&[("authorization", &authorization), ("dpop", &proof)])
            .unwrap();
        assert_eq!(caller.jkt(), Some(&**public.thumbprint()));
    }
    let stranger = DpopKey::new(key(8));
    let now = bench.now();
    let proof = stranger.proof(
        "POST",
        &format!("{URL}/mcp/files"),
        Some(&token),
        now,
        &*bench.rng,
    );
    let answer = bench.call(&[("authorization", &authorization), ("dpop", &proof.unwrap())]);
    assert_eq!(
        shown(&answer.unwrap_err()),
        "bad-proof 401 invalid_token: the DPoP proof is by another key than the access token's"
    );
}
