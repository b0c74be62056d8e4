//! Keys that sign tokens come and go.

use std::sync::Arc;

use register::{Command, TokenKeyCommand};
use serde_json::{Value, json};

use super::bench::{Bench, key};
use crate::{Es256Key, TokenSigner};

fn kids(bench: &Bench) -> Vec<String> {
    let document = bench.issuer.jwks();
    let keys = document["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

fn kid(seed: u8) -> String {
    key(seed).public().thumbprint().to_string()
}

fn header(token: &str) -> Value {
    let header = token.split('.').next().unwrap();
    serde_json::from_slice(&crate::jwk::unb64(header).unwrap()).unwrap()
}

fn announce(bench: &Bench, signer: Arc<dyn TokenSigner>) {
    let public = signer.public();
    bench.execute(Command::TokenKey(TokenKeyCommand::Announce {
        kid: public.thumbprint().parse().unwrap(),
        jwk: public.to_registered().unwrap(),
    }));
    bench.issuer.hold(signer);
}

fn command(make: fn(register::KeyId) -> TokenKeyCommand, kid: &str) -> Command {
    Command::TokenKey(make(kid.parse().unwrap()))
}

fn call(bench: &Bench, token: &str) -> &'static str {
    let answer = bench.call(&[
        ("authorization", &format!("DPoP {token}")),
        ("dpop", &bench.proof(token)),
    ]);
    answer.map_or_else(|challenge| challenge.word(), |_| "ok")
}

#[test]
fn the_next_key_is_published_before_it_signs_and_the_last_until_its_tokens_expire() {
    let bench = Bench::new();
    let before = bench.token().access_token;
    announce(&bench, Arc::new(key(201)));
    assert_eq!(kids(&bench), [kid(200), kid(201)]);
    assert_eq!(header(&bench.token().access_token)["kid"], json!(kid(200)));
    bench.advance(100);
    bench.execute(command(|kid| TokenKeyCommand::Activate { kid }, &kid(201)));
    let after = bench.token().access_token;
    assert_eq!(header(&after)["kid"], json!(kid(201)));
    assert_eq!(kids(&bench), [kid(201), kid(200)]);
    bench.issuer.forget();
    assert_eq!(call(&bench, &before), "ok");
    assert_eq!(call(&bench, &after), "ok");
    bench.advance(300);
    assert_eq!(kids(&bench), [kid(201)]);
    assert_eq!(header(&bench.token().access_token)["kid"], json!(kid(201)));
    assert_eq!(call(&bench, &before), "unknown-token-key");
}

/// A leaked token key: what anybody signs with it is worth nothing from the entry on, whether a
/// token of it was seen before or not.
#[test]
fn a_cached_token_does_not_outlive_its_key() {
    let bench = Bench::new();
    let (known, unseen) = (bench.token().access_token, bench.token().access_token);
    assert_eq!(call(&bench, &known), "ok");
    announce(&bench, Arc::new(key(201)));
    assert_eq!(call(&bench, &known), "ok");
    bench.execute(command(|kid| TokenKeyCommand::Revoke { kid }, &kid(200)));
    assert_eq!(call(&bench, &known), "unknown-token-key");
    assert_eq!(call(&bench, &unseen), "unknown-token-key");
    assert_eq!(kids(&bench), [kid(201)]);
    // The instance goes on with a token by the next key.
    let next = bench.token().access_token;
    assert_eq!(header(&next)["kid"], json!(kid(201)));
    assert_eq!(call(&bench, &next), "ok");
}

#[test]
fn a_node_that_lost_the_key_that_signs_issues_nothing() {
    let bench = Bench::new();
    let public = key(201);
    bench.execute(Command::TokenKey(TokenKeyCommand::Announce {
        kid: kid(201).parse().unwrap(),
        jwk: public.public().to_registered().unwrap(),
    }));
    bench.execute(command(|kid| TokenKeyCommand::Activate { kid }, &kid(201)));
    let form = bench.form(&bench.agent);
    let error = bench.ask(&form, Some(&bench.endpoint_proof())).unwrap_err();
    assert_eq!(error.word(), "cannot-issue");
    assert_eq!(error.status(), http::StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(error.description(), "the node cannot issue tokens now");
    bench.issuer.hold(Arc::new(public));
    assert!(
        bench
            .ask(&bench.form(&bench.agent), Some(&bench.endpoint_proof()))
            .is_ok()
    );
}

#[test]
fn an_es256_key_signs_on_request() {
    let bench = Bench::new();
    let text = Es256Key::generate().unwrap();
    let signer = Es256Key::parse(&text).unwrap();
    let kid = signer.public().thumbprint().to_string();
    announce(&bench, Arc::new(signer));
    bench.execute(command(|kid| TokenKeyCommand::Activate { kid }, &kid));
    let token = bench.token().access_token;
    assert_eq!(header(&token)["alg"], "ES256");
    assert_eq!(header(&token)["kid"], json!(kid));
    assert_eq!(call(&bench, &token), "ok");
    let document = bench.issuer.jwks();
    assert_eq!(document["keys"][0]["kty"], "EC");
    // One bit of the signature.
    let at = token.len() - 10;
    let other = if token.as_bytes()[at] == b'A' {
        "B"
    } else {
        "A"
    };
    let mut forged = token;
    forged.replace_range(at..=at, other);
    assert_eq!(call(&bench, &forged), "bad-token");
    for bad in ["", "AAAA", "no base 64"] {
        assert!(Es256Key::parse(&vocab::Secret::new(bad.to_owned())).is_err());
    }
}
