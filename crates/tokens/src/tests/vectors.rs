//! Published vectors, and tokens made by an implementation that is not ours (`PyJWT` 2.15).

use serde_json::{Value, json};

use super::bench::{Bench, NOW, URL};
use super::forge::es256_jwk;
use crate::access::Claims;
use crate::form;
use crate::jwk::unb64;
use crate::jws::{self, Typ, Unverified};
use crate::{JwkError, JwsError, PrivateKey, PublicKey};

fn public(jwk: &Value) -> PublicKey {
    PublicKey::from_jwk(jwk.to_string().as_bytes()).unwrap()
}

fn check_thumbprint(jwk: &Value, expected: &str) {
    assert_eq!(&**public(jwk).thumbprint(), expected);
}

/// RFC 8037 appendix A.
fn rfc8037() -> Value {
    json!({
        "kty": "OKP",
        "crv": "Ed25519",
        "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    })
}

fn private(jwk: &Value) -> PrivateKey {
    PrivateKey::from_jwk(jwk.to_string().as_bytes()).unwrap()
}

//= https://www.rfc-editor.org/rfc/rfc7638#section-3
//= type=test
//# The thumbprint of a JSON Web Key (JWK) is computed as follows:
#[test]
fn thumbprints() {
    let key = private(&rfc8037());
    // RFC 8037 appendix A.3.
    assert_eq!(
        &**key.public().thumbprint(),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
    check_thumbprint(
        &key.public().to_jwk(),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
    );
    // RFC 9449 sections 4.2 and 6.1: the proof's key, and `jkt`.
    check_thumbprint(
        &json!({
            "kty": "EC",
            "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
            "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
            "crv": "P-256",
        }),
        "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
    );
    // RFC 7638 section 3.1 has an RSA key, which is not accepted here.
    let rsa = json!({ "kty": "RSA", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29" });
    let error = PublicKey::from_jwk(rsa.to_string().as_bytes()).unwrap_err();
    assert_eq!(error, JwkError::Unknown);
}

#[test]
fn eddsa_signatures() {
    // RFC 8037 appendix A.4.
    let (message, signature) = (
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    );
    let key = private(&rfc8037());
    let signature: [u8; 64] = unb64(signature).unwrap().try_into().unwrap();
    assert_eq!(key.sign(message.as_bytes()), signature);
    assert!(key.public().verifies(message.as_bytes(), &signature));
    assert!(!key.public().verifies(b"x", &signature));
}

#[test]
fn es256_signatures() {
    // RFC 7515 appendix A.3. Its claims are good JSON.
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let read = Unverified::parse(token, Typ::Assertion).unwrap();
    let claims = read.verify(&public(&es256_jwk())).unwrap();
    assert_eq!(claims.text("iss"), Ok(Some("joe")));
    let key = private(&rfc8037());
    assert_eq!(read.verify(key.public()), Err(JwsError::WrongAlgorithm));
    let other = json!({
        "kty": "EC",
        "crv": "P-256",
        "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    });
    assert_eq!(read.verify(&public(&other)), Err(JwsError::Signature));
}

#[test]
fn a_published_proof() {
    // RFC 9449 section 4.1.
    let proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
    let read = Unverified::parse(proof, Typ::Proof).unwrap();
    let jwk = read.header().object("jwk").unwrap().unwrap();
    let key = PublicKey::from_object(jwk).unwrap();
    let claims = read.verify(&key).unwrap();
    assert_eq!(
        claims.text("htu"),
        Ok(Some("https://server.example.com/token"))
    );
    assert_eq!(claims.seconds("iat"), Ok(Some(1_562_262_616)));
    // The same under the wrong type.
    let error = Unverified::parse(proof, Typ::Access).unwrap_err();
    assert_eq!(error, JwsError::Typ("`at+jwt`"));
}

#[test]
fn tokens_of_another_implementation() {
    let made: Value = serde_json::from_str(include_str!("golden/pyjwt.json")).unwrap();
    let bench = Bench::new();
    bench.add_agent("browser", &public(&es256_jwk()), false);
    for algorithm in ["eddsa", "es256"] {
        let part = |name: &str| made[format!("{algorithm}_{name}")].as_str().unwrap();
        let form = form::encode(&[
            ("grant_type", "client_credentials"),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", part("assertion")),
            ("purpose", "triage"),
            ("resource", &format!("{URL}/mcp/files")),
        ]);
        let response = bench.ask(&form, Some(part("proof"))).unwrap();
        assert_eq!(response.token_type, "DPoP", "{algorithm}");
    }
}

/// An access token as other implementations see it; `PyJWT` 2.15 verifies this one.
#[test]
fn a_token_to_the_letter() {
    let claims = Claims {
        audience: format!("{URL}/mcp/files"),
        sponsor: "s-1".parse().unwrap(),
        agent: "triage".parse().unwrap(),
        instance: format!("i-{}", "a".repeat(26)).parse().unwrap(),
        delegated_by: Vec::new(),
        purpose: "triage/refunds".parse().unwrap(),
        jkt: Some("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I".into()),
        token_id: "1".into(),
        issued_at: NOW,
        expires_at: NOW + 300,
    };
    let key = private(&rfc8037());
    let header = jws::header(&json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": "k" }));
    let token = jws::sign(&key, &header, &claims.to_json(URL));
    assert_eq!(token, include_str!("golden/access-token.jwt").trim());
    let read = Unverified::parse(&token, Typ::Access)
        .unwrap()
        .verify(key.public())
        .unwrap();
    assert_eq!(Claims::read(&read, URL), Ok(claims));
}

mod never_panics {
    use proptest::prelude::*;

    use super::super::forge::b64;
    use crate::jws::read_anything;
    use crate::{AgentKey, PublicKey, PublicUrl};

    /// Text that is nearly a JWK or a header.
    fn nearly_json() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec![
            "\"kty\"",
            "\"OKP\"",
            "\"EC\"",
            "\"crv\"",
            "\"Ed25519\"",
            "\"P-256\"",
            "\"x\"",
            "\"y\"",
            "\"d\"",
            "\"alg\"",
            "\"EdDSA\"",
            "\"ES256\"",
            "\"typ\"",
            "\"dpop+jwt\"",
            "\"jwk\"",
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "null",
            "1",
            "-1e9",
            "\"\"",
            "\"AAAA\"",
            "\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"",
        ]);
        prop::collection::vec(word, 0..30).prop_map(|words| words.concat())
    }

    fn jwk() -> impl Strategy<Value = String> {
        let coordinate = prop::collection::vec(any::<u8>(), 0..70);
        (coordinate.clone(), coordinate, any::<bool>()).prop_map(|(x, y, ec)| {
            let (kty, crv) = if ec {
                ("EC", "P-256")
            } else {
                ("OKP", "Ed25519")
            };
            format!(
                r#"{{"kty":"{kty}","crv":"{crv}","x":"{}","y":"{}"}}"#,
                b64(&x),
                b64(&y)
            )
        })
    }

    proptest! {
        #[test]
        fn on_any_text(text: String) {
            read_anything(&text);
            let _key = PublicKey::from_jwk(text.as_bytes());
            let _key = AgentKey::parse(&text);
            let _url = text.parse::<PublicUrl>();
            let _same = crate::uri::same_endpoint(&text, "http://127.0.0.1:7420/mcp/files");
        }

        #[test]
        fn on_nearly_json(text in nearly_json()) {
            let _key = PublicKey::from_jwk(text.as_bytes());
            let _key = AgentKey::parse(&text);
            read_anything(&format!("{}.{}.{}", b64(text.as_bytes()), b64(text.as_bytes()), b64(&[0; 64])));
        }

        #[test]
        fn on_keys_of_any_length(jwk in jwk(), signature: [u8; 32], message: Vec<u8>) {
            let key = PublicKey::from_jwk(jwk.as_bytes());
            let signature = [signature, signature].concat().try_into().unwrap();
            prop_assert!(!key.is_ok_and(|key| key.verifies(&message, &signature)));
        }

        #[test]
        fn on_proofs_by_any_key(jwk in jwk(), es256: bool) {
            let alg = if es256 { "ES256" } else { "EdDSA" };
            let header = format!(r#"{{"typ":"dpop+jwt","alg":"{alg}","jwk":{jwk}}}"#);
            read_anything(&format!("{}.{}.{}", b64(header.as_bytes()), b64(b"{}"), b64(&[7; 64])));
        }

        #[test]
        fn on_urls(text in r"[hHtTpPsS]{4,5}://[a-z0-9:@\[\]./?#%-]{0,40}") {
            let _url = text.parse::<PublicUrl>();
            let _same = crate::uri::same_endpoint(&text, "http://127.0.0.1:7420/mcp/files");
        }
    }
}
