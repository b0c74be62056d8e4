//! Tokens that others sign, and where their keys come from.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use vocab::{Clock, Secret, Time};

use super::forge::{Sign, es256_jwk, forge, rsa_jwk, with};
use crate::foreign::{Expected, Foreign, ForeignError, ForeignTyp, KeySet, KeySetError};
use crate::provider::{Provider, ProviderError, Source, discovery_url};
use crate::{Document, Fetch, FetchError, Fetching, NamedBy, PrivateKey, WebUrl};

const ISSUER: &str = "https://idp.example";
const NOW: u64 = 1_800_000_000;

fn ed() -> PrivateKey {
    PrivateKey::from_seed(&Secret::new([7; 32]))
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn named(mut jwk: Value, kid: &str) -> Value {
    jwk["kid"] = json!(kid);
    jwk
}

fn header(alg: &str, kid: Option<&str>) -> String {
    let mut header = json!({ "alg": alg, "typ": "JWT" });
    if let Some(kid) = kid {
        header["kid"] = json!(kid);
    }
    header.to_string()
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": "us", "sub": "who", "iat": NOW, "exp": NOW + 300 })
}

fn expected<'a>(audiences: &'a [&'a str]) -> Expected<'a> {
    Expected {
        issuer: Some(ISSUER),
        audiences,
        lifetime_max: 3600,
        now: Time::from_secs(NOW),
    }
}

fn verify(token: &str, keys: &KeySet) -> Result<(), ForeignError> {
    let claims = Foreign::parse(token, ForeignTyp::Identity)?.verify(keys)?;
    claims.check(&expected(&["us"]))
}

#[test]
fn each_key_verifies_its_own_algorithms() {
    let ed = ed();
    let keys = set(&[
        named(rsa_jwk(), "r"),
        named(es256_jwk(), "e"),
        named(ed.public().to_jwk(), "d"),
    ]);
    let claims = claims().to_string();
    for (alg, kid, sign) in [
        ("RS256", Some("r"), Sign::Rs256),
        ("PS512", Some("r"), Sign::Ps512),
        ("ES256", Some("e"), Sign::Es256),
        ("EdDSA", Some("d"), Sign::EdDsa(&ed)),
        ("Ed25519", Some("d"), Sign::EdDsa(&ed)),
        // A key may go unnamed: all that fit are tried.
        ("RS256", None, Sign::Rs256),
        ("ES256", None, Sign::Es256),
    ] {
        let token = forge(&header(alg, kid), &claims, sign);
        assert_eq!(verify(&token, &keys), Ok(()), "{alg} {kid:?}");
    }
}

#[test]
fn algorithm_confusion_is_refused() {
    let ed = ed();
    let keys = set(&[named(rsa_jwk(), "r"), named(ed.public().to_jwk(), "d")]);
    let claims = claims().to_string();
    let modulus = rsa_jwk()["n"].as_str().unwrap().to_owned();
    for (alg, kid, sign, expected) in [
        ("none", Some("r"), Sign::Nothing, ForeignError::Algorithm),
        (
            "HS256",
            Some("r"),
            Sign::Hs256(modulus.as_bytes()),
            ForeignError::Algorithm,
        ),
        // A good signature under the name of another algorithm, or of another key.
        ("PS256", Some("r"), Sign::Rs256, ForeignError::Signature),
        ("RS512", Some("r"), Sign::Rs256, ForeignError::Signature),
        ("ES256", Some("r"), Sign::Rs256, ForeignError::UnknownKey),
        (
            "EdDSA",
            Some("r"),
            Sign::EdDsa(&ed),
            ForeignError::UnknownKey,
        ),
        ("RS256", Some("d"), Sign::Rs256, ForeignError::UnknownKey),
        ("RS256", Some("x"), Sign::Rs256, ForeignError::UnknownKey),
        ("RS256", Some("r"), Sign::Nothing, ForeignError::Signature),
    ] {
        let token = forge(&header(alg, kid), &claims, sign);
        assert_eq!(verify(&token, &keys), Err(expected), "{alg} {kid:?}");
    }
    // A JWK that names its algorithm verifies no other.
    let mut only = named(rsa_jwk(), "r");
    only["alg"] = json!("PS512");
    let only = set(&[only]);
    let token = forge(&header("RS256", Some("r")), &claims, Sign::Rs256);
    assert_eq!(verify(&token, &only), Err(ForeignError::UnknownKey));
    let token = forge(&header("PS512", Some("r")), &claims, Sign::Ps512);
    assert_eq!(verify(&token, &only), Ok(()));
}

#[test]
fn no_key_comes_from_a_header() {
    let attacker = PrivateKey::from_seed(&Secret::new([9; 32]));
    let keys = set(&[named(ed().public().to_jwk(), "d")]);
    let base = json!({ "alg": "EdDSA", "typ": "JWT" });
    for more in [
        json!({ "jwk": attacker.public().to_jwk() }),
        json!({ "jku": "https://evil.example/jwks", "kid": "d" }),
        json!({ "x5u": "https://evil.example/x5u" }),
    ] {
        let token = forge(
            &with(&base, &more),
            &claims().to_string(),
            Sign::EdDsa(&attacker),
        );
        assert_eq!(
            verify(&token, &keys),
            Err(ForeignError::Signature),
            "{more}"
        );
    }
    //= https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11
    //= type=test
    //# If any of the listed extension Header
    //# Parameters are not understood and supported by the recipient, then
    //# the JWS is invalid.
    for (name, value) in [("crit", json!(["b64"])), ("b64", json!(false))] {
        let header = with(&base, &json!({ name: value }));
        let token = forge(&header, &claims().to_string(), Sign::EdDsa(&ed()));
        assert_eq!(verify(&token, &keys), Err(ForeignError::Member(name)));
    }
}

#[test]
fn claims_are_held() {
    let keys = set(&[named(es256_jwk(), "e")]);
    let check = |changes: Value, good: bool| {
        let token = forge(
            &header("ES256", Some("e")),
            &with(&claims(), &changes),
            Sign::Es256,
        );
        assert_eq!(verify(&token, &keys).is_ok(), good, "{changes}");
    };
    check(json!({}), true);
    check(json!({ "aud": ["them", "us"] }), true);
    check(json!({ "aud": "them" }), false);
    check(json!({ "aud": [] }), false);
    check(json!({ "aud": null }), false);
    check(json!({ "aud": ["them", { "us": 1 }] }), false);
    check(json!({ "iss": "https://idp.example/" }), false);
    check(json!({ "iss": "https://IDP.example" }), false);
    check(json!({ "iss": null }), false);
    check(json!({ "exp": NOW - 4 }), true);
    check(json!({ "exp": NOW - 5 }), false);
    check(json!({ "exp": null }), false);
    check(json!({ "exp": "soon" }), false);
    check(json!({ "iat": NOW + 5 }), true);
    check(json!({ "iat": NOW + 6 }), false);
    check(json!({ "nbf": NOW + 6 }), false);
    check(json!({ "iat": null }), true);
    check(json!({ "iat": NOW, "exp": NOW + 3600 }), true);
    check(json!({ "iat": NOW, "exp": NOW + 3601 }), false);
    check(json!({ "iat": null, "exp": NOW + 3601 }), false);
}

#[test]
fn a_token_is_of_its_kind() {
    let keys = set(&[named(es256_jwk(), "e")]);
    for (typ, kinds) in [
        (None, vec![ForeignTyp::Identity, ForeignTyp::Client]),
        (Some("JWT"), vec![ForeignTyp::Identity, ForeignTyp::Client]),
        (Some("at+jwt"), vec![]),
        (Some("dpop+jwt"), vec![]),
        (Some("logout+jwt"), vec![]),
        (Some("client-authentication+jwt"), vec![ForeignTyp::Client]),
        (Some("oauth-id-jag+jwt"), vec![ForeignTyp::IdJag]),
    ] {
        let header = with(&json!({ "alg": "ES256" }), &json!({ "typ": typ }));
        let token = forge(&header, &claims().to_string(), Sign::Es256);
        for kind in [ForeignTyp::Identity, ForeignTyp::Client, ForeignTyp::IdJag] {
            let read = Foreign::parse(&token, kind).and_then(|token| token.verify(&keys));
            assert_eq!(read.is_ok(), kinds.contains(&kind), "{typ:?} as {kind:?}");
        }
    }
}

#[test]
fn key_sets_keep_what_verifies() {
    let check = |set: Value, expected: Result<usize, KeySetError>| {
        let read = KeySet::parse(set.to_string().as_bytes());
        assert_eq!(read.map(|keys| keys.len()), expected, "{set}");
    };
    check(json!({ "keys": [rsa_jwk(), es256_jwk()] }), Ok(2));
    let more =
        |changes: Value| -> Value { serde_json::from_str(&with(&es256_jwk(), &changes)).unwrap() };
    let odd = [
        more(json!({ "use": "enc" })),
        more(json!({ "alg": "RS256" })),
        more(json!({ "alg": "HS256" })),
        more(json!({ "crv": "secp256k1" })),
        more(json!({ "x": "AA" })),
        json!({ "kty": "oct", "k": "c2VjcmV0" }),
        json!("a key"),
    ];
    for key in &odd {
        check(json!({ "keys": [key] }), Err(KeySetError::Empty));
        check(
            json!({ "keys": [key, more(json!({ "use": "jwt-svid" }))] }),
            Ok(1),
        );
    }
    check(json!({ "keys": [] }), Err(KeySetError::Empty));
    let many = |count| vec![es256_jwk(); count];
    check(json!({ "keys": many(64) }), Ok(64));
    check(json!({ "keys": many(65) }), Err(KeySetError::TooMany));
    assert!(KeySet::parse(b"{}").is_err());
    assert!(KeySet::parse(b"[]").is_err());
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,300}") {
        let _read = crate::read_foreign(&text);
    }

    #[test]
    fn one_flipped_bit_is_noticed(at in 0..400_usize, bit in 0..6_u8) {
        let token = forge(&header("ES256", Some("e")), &claims().to_string(), Sign::Es256);
        let mut bytes = token.into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(text) = String::from_utf8(bytes) {
            prop_assert!(verify(&text, &set(&[named(es256_jwk(), "e")])).is_err());
        }
    }
}

/// A web of documents that a test changes, with a clock.
#[derive(Debug, Default)]
struct Web {
    documents: Mutex<HashMap<String, Result<Value, ()>>>,
    fresh: Option<Duration>,
    asked: Mutex<Vec<String>>,
    now: AtomicU64,
}

impl Web {
    fn new() -> Arc<Self> {
        let web = Self::default();
        web.now.store(NOW, Ordering::SeqCst);
        Arc::new(web)
    }

    fn put(&self, url: &str, document: Value) {
        self.documents
            .lock()
            .unwrap()
            .insert(url.to_owned(), Ok(document));
    }

    fn fail(&self, url: &str) {
        self.documents
            .lock()
            .unwrap()
            .insert(url.to_owned(), Err(()));
    }

    fn later(&self, seconds: u64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Clock for Web {
    fn now(&self) -> Time {
        Time::from_secs(self.now.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.now.load(Ordering::SeqCst))
    }
}

impl Fetch for Web {
    fn get<'a>(&'a self, url: &'a WebUrl, named_by: NamedBy) -> Fetching<'a> {
        assert_eq!(named_by, NamedBy::Administrator);
        self.asked.lock().unwrap().push(url.to_string());
        let found = self.documents.lock().unwrap().get(url.as_str()).cloned();
        let fresh = self.fresh;
        Box::pin(async move {
            match found {
                Some(Ok(document)) => Ok(Document {
                    body: document.to_string().into_bytes(),
                    fresh,
                }),
                Some(Err(())) | None => Err(FetchError::Status {
                    url: url.to_string(),
                    status: 500,
                    error: None,
                }),
            }
        })
    }

    fn post<'a>(
        &'a self,
        _: &'a WebUrl,
        _: Secret<String>,
        _: Option<Secret<String>>,
    ) -> Fetching<'a> {
        panic!("no keys are posted for")
    }
}

const DISCOVERY: &str = "https://idp.example/.well-known/openid-configuration";
const JWKS: &str = "https://idp.example/keys";

fn provider(web: &Arc<Web>) -> Provider {
    let url = discovery_url(&ISSUER.parse().unwrap()).unwrap();
    Provider::new(
        Some(ISSUER.to_owned()),
        Source::Discovery(url),
        Arc::clone(web) as _,
        Arc::clone(web) as _,
    )
}

async fn ask(provider: &Provider, web: &Web, kid: &str) -> Result<(), ProviderError> {
    let claims = with(
        &claims(),
        &json!({ "exp": web.now().as_secs() + 60, "iat": web.now().as_secs() }),
    );
    let token = forge(&header("ES256", Some(kid)), &claims, Sign::Es256);
    let token = Foreign::parse(&token, ForeignTyp::Identity)?;
    provider.verify(&token, &["us"], 3600).await.map(drop)
}

#[tokio::test]
async fn rotated_keys_are_found_and_made_up_ones_cost_nothing() {
    let web = Web::new();
    web.put(DISCOVERY, json!({ "issuer": ISSUER, "jwks_uri": JWKS }));
    web.put(JWKS, json!({ "keys": [named(es256_jwk(), "one")] }));
    let provider = provider(&web);
    ask(&provider, &web, "one").await.unwrap();
    assert_eq!(web.asked(), 2);
    for _ in 0..5 {
        ask(&provider, &web, "one").await.unwrap();
    }
    assert_eq!(web.asked(), 2, "keys are kept");
    // Whoever makes up names of keys has them read once in a while, and no oftener.
    for _ in 0..20 {
        let made_up = ask(&provider, &web, "made-up").await.unwrap_err();
        assert_eq!(made_up, ProviderError::Token(ForeignError::UnknownKey));
    }
    assert_eq!(web.asked(), 2);
    web.later(10);
    web.put(
        JWKS,
        json!({ "keys": [named(es256_jwk(), "one"), named(es256_jwk(), "two")] }),
    );
    ask(&provider, &web, "two").await.unwrap();
    assert_eq!(web.asked(), 3, "a key that is new is looked for at once");
    // A key that was withdrawn verifies nothing once its time is over.
    web.put(JWKS, json!({ "keys": [named(es256_jwk(), "two")] }));
    web.later(601);
    let withdrawn = ask(&provider, &web, "one").await.unwrap_err();
    assert_eq!(withdrawn, ProviderError::Token(ForeignError::UnknownKey));
}

#[tokio::test]
async fn errors_are_not_kept_and_old_keys_not_for_ever() {
    let web = Web::new();
    let provider = provider(&web);
    web.fail(DISCOVERY);
    assert!(matches!(
        ask(&provider, &web, "one").await,
        Err(ProviderError::Fetch(_))
    ));
    assert_eq!(
        ask(&provider, &web, "one").await,
        Err(ProviderError::Lately)
    );
    assert_eq!(web.asked(), 1, "a failure is not tried again at once");
    web.put(DISCOVERY, json!({ "issuer": ISSUER, "jwks_uri": JWKS }));
    web.put(JWKS, json!({ "keys": [named(es256_jwk(), "one")] }));
    web.later(10);
    ask(&provider, &web, "one").await.unwrap();
    // The issuer is away: what it said last holds for a while.
    web.fail(DISCOVERY);
    web.fail(JWKS);
    web.later(600 + 3599);
    ask(&provider, &web, "one").await.unwrap();
    web.later(11);
    assert!(matches!(
        ask(&provider, &web, "one").await,
        Err(ProviderError::Fetch(_))
    ));
}

#[tokio::test]
async fn a_discovery_document_is_the_issuers_own() {
    for document in [
        json!({ "issuer": "https://evil.example", "jwks_uri": JWKS }),
        json!({ "issuer": "https://idp.example/", "jwks_uri": JWKS }),
        json!({ "jwks_uri": JWKS }),
        json!({ "issuer": ISSUER }),
        json!({ "issuer": ISSUER, "jwks_uri": "http://idp.example/keys" }),
        json!({ "issuer": ISSUER, "jwks_uri": "file:///etc/passwd" }),
        json!([ISSUER]),
    ] {
        let web = Web::new();
        web.put(DISCOVERY, document.clone());
        web.put(JWKS, json!({ "keys": [named(es256_jwk(), "one")] }));
        let refused = ask(&provider(&web), &web, "one").await;
        assert!(
            matches!(refused, Err(ProviderError::Discovery(_))),
            "{document}"
        );
        assert_eq!(web.asked(), 1);
    }
}
