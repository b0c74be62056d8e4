//! Tokens that nobody should accept, and ES256 ones that somebody may.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use crate::PrivateKey;

/// How a forged token is signed.
#[derive(Clone, Copy)]
pub(crate) enum Sign<'a> {
    /// By an Ed25519 key.
    EdDsa(&'a PrivateKey),
    /// By the P-256 key of RFC 7515 appendix A.3.
    Es256,
    /// HMAC with a public key as the secret.
    Hs256(&'a [u8]),
    /// Not at all.
    Nothing,
}

/// A token of these very bytes.
pub(crate) fn forge(header: &str, claims: &str, sign: Sign<'_>) -> String {
    let signed = format!("{}.{}", b64(header.as_bytes()), b64(claims.as_bytes()));
    let signature = match sign {
        Sign::EdDsa(key) => key.sign(signed.as_bytes()).to_vec(),
        Sign::Es256 => es256(signed.as_bytes()),
        Sign::Hs256(secret) => {
            let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
            ring::hmac::sign(&secret, signed.as_bytes())
                .as_ref()
                .to_vec()
        }
        Sign::Nothing => Vec::new(),
    };
    format!("{signed}.{}", b64(&signature))
}

pub(crate) fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The public key of [`Sign::Es256`].
pub(crate) fn es256_jwk() -> Value {
    json!({
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    })
}

fn es256(message: &[u8]) -> Vec<u8> {
    let unb64 = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let jwk = es256_jwk();
    let mut public = vec![4];
    public.extend(unb64(jwk["x"].as_str().unwrap()));
    public.extend(unb64(jwk["y"].as_str().unwrap()));
    let private = unb64("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI");
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, &public, &random)
        .unwrap()
        .sign(&random, message)
        .unwrap()
        .as_ref()
        .to_vec()
}

/// `json` with members set, or with null taken away.
pub(crate) fn with(json: &Value, changes: &Value) -> String {
    let mut json = json.clone();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            json.as_object_mut().unwrap().remove(name);
        } else {
            json[name] = value.clone();
        }
    }
    json.to_string()
}
