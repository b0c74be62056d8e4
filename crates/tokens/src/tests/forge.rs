//! Tokens that nobody should accept, and ES256 ones that somebody may.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use crate::PrivateKey;

/// How a forged token is signed.
#[derive(Clone, Copy)]
pub(crate) enum Sign<'a> {
    /// By an Ed25519 key.
    EdDsa(&'a PrivateKey),
    /// By the P-256 key of RFC 7515 appendix A.3.
    Es256,
    /// By the RSA key of [`rsa_jwk`], as `RS256`.
    Rs256,
    /// By the same key, as `PS512`.
    Ps512,
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
        Sign::Rs256 => rsa(&signature::RSA_PKCS1_SHA256, signed.as_bytes()),
        Sign::Ps512 => rsa(&signature::RSA_PSS_SHA512, signed.as_bytes()),
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

/// An RSA key that signs nothing but tests, in PKCS #8.
const RSA: &str = "\
    MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC93PTfgceOqwBSQ/k1LQjqv4Y5aS7X9g26b5hW\
    VwtV8F1jBWALXFtqy0azAPseOwKBe1gCwsg203nBQxIwtRXiw5b5LnuWH57xgsYQ/Y4aiYQ1hNBNWy1eTVnDb8ap\
    1ROS1/RqJSalUFUtnxl/B3iyXVMMLs/xCERQoXVnBjYHPQx3dsvBzbcG+W8d3cXc4qLDZ8sZlgKfT6h3PpQBSyn7\
    bKNKo6wtK66ZLD2x+HPT2/CgqdQrprh3JCEL6ez90E3vONF/LOappi5Yjj7FHoRda6qXgHBX4CfzRn7SfYy6VmvJ\
    zc89wuRloAVZPvPttcNxT9J6h6hQPvt5j3qrXRYLAgMBAAECggEAJbmntll1K3Xy5GW5OMWwBeT0aKfrtOGhLLBL\
    1qwJBpRyGeDRirBZQckOTTcero0PHGdDv5iwa6Rthucq0B7LMHmon+6Kg/PYgyh27p1TBRbZ/EBdm2FIjHpWIa0u\
    DkTWVNEwMX8cRLDHm/8G8+SqKNa+T6dljgEUgejzCPuE9L7m+LT69DvIgt1veWCeyo+ELHf7JDbXJw+HBei70qz6\
    vGWHL7x3LPvtkvMFDo6nFfZPqW9HUx2F5ZIP+2vqwmozVzF5VuxMATjwm61Oancltx/VgJe4GBF4qcoQa24+j0mI\
    s3uzEQky96Lph+zWzE8dhKcJTh0kAwNhrWadoNMiEQKBgQDjrmis8BvJOhgaE8pyNX7MXoNLUSoCebpswOodmhK0\
    eOprltEmo8V6dcl14w7gRThohyGwWUb9bAXsaZKtzNGZV0NW3BagtzAzb1CIh7CNLaNOWR04YWEQUGKf/Z1x6UOk\
    z+YfBatVIPOeE6HEpSR39iHf1NK1xo8ibGRCZ2zSJQKBgQDVemFxKqhIBcZGUYO73OVWN6x6gqwF2ZFW0D7Ns3FJ\
    A5WwL/7k0LNVstiJu7scBKTqSC8Rzmzr7wGhUcexZ2RtFf8kDQRdghI7xhemcEbDC6iAF+kVSdv8j4gE8NFIMu8n\
    wd5wE62i/VBCGZILIKlSU7uId0NvBA6DIEWK7EiYbwKBgAaA5NyLvz9wOWAFULMSdBzCVl3AY8LOV1Tj7cwKqp4d\
    FhUcqbzA0NM+qhKD+djOIV5a/ctbwXtbqo+mNFpij1oh8/p3Lu5ITUgq1dIQjip6Mz/5q6wAnBUrNqX7SJQIZbY/\
    egNI1iwIVO0fAm/rh68liLIsEhi/IzeIgRSkf6dBAoGAV1R7LEphESWbmQSbuWyCPSUFYBC4wqPgev0x1ACGZXIb\
    +DmKMpzV4EcLojy0LKARvu3Mo6IomNPrfMzxvjcntCB9gYf5sy8UunMtFZ90szG/urcNWPIgFk+5Oxww4TJE96St\
    lHfYXob2IDRJtFemLNGoNAlmArJMJYQ8Lrq+b+0CgYEArpBY1F8koHj6UIxwzQmaMHJQh6C/DujV2iHwGRL99a/D\
    g9sOUutXEBkW1BcVeuifV8eGSWMa6YPYHldc56DlAPHqT1qFk5H0WD3NiaiCI4MNMkc1Yc7Rs7R2HnzVX+1gEUKN\
    kQBH+ItFrtMsZJEuSSV53oo+gq30GYBfEofI3c8=";

fn rsa_pair() -> signature::RsaKeyPair {
    let der = base64::engine::general_purpose::STANDARD
        .decode(RSA)
        .unwrap();
    signature::RsaKeyPair::from_pkcs8(&der).unwrap()
}

fn rsa(padding: &'static dyn signature::RsaEncoding, message: &[u8]) -> Vec<u8> {
    let pair = rsa_pair();
    let mut out = vec![0; pair.public().modulus_len()];
    pair.sign(padding, &SystemRandom::new(), message, &mut out)
        .unwrap();
    out
}

/// The public key of [`Sign::Rs256`].
pub(crate) fn rsa_jwk() -> Value {
    let public = rsa_pair().public().clone();
    let parts = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(&public);
    json!({ "kty": "RSA", "n": b64(&parts.n), "e": b64(&parts.e) })
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
