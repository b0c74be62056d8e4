//! What is read before anyone is known: tokens, proofs, token requests and keys.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use tokens::{AgentKey, DPOP, OwnTokenRequest, PrivateKey, PublicKey, PublicUrl, TokenRequest};

use crate::{text, two_parts};

/// A text is read as every kind of token, and by every key that it brings.
pub fn token(data: &[u8]) -> bool {
    text(data).is_some_and(tokens::read_anything)
}

/// The input: a `DPoP` header, then the form.
pub fn token_request(data: &[u8]) -> bool {
    let (proof, body) = two_parts(data);
    let mut headers = HeaderMap::new();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    if let Ok(proof) = HeaderValue::from_bytes(proof)
        && !proof.is_empty()
    {
        headers.insert(DPOP, proof);
    }
    let revokes = OwnTokenRequest::parse(&headers, body).is_ok();
    TokenRequest::parse(&headers, body).is_ok() || revokes
}

/// What a token endpoint answers, whose token upstreams are sent.
pub fn token_answer(data: &[u8]) -> bool {
    broker::read_token_answer(data)
}

/// What an OpenBao server answers, whose secrets upstreams are sent.
pub fn openbao_answer(data: &[u8]) -> bool {
    broker::read_bao_answer(data)
}

/// What others signed: workloads, the company's provider, clients, transmitters, and their keys.
pub fn foreign(data: &[u8]) -> bool {
    text(data).is_some_and(tokens::read_foreign)
}

/// How a client describes itself, at its own URL or in a registration.
pub fn client(data: &[u8]) -> bool {
    tokens::read_client(data)
}

/// A key that was taken is written as one that is taken, with the same name; a private one is never
/// taken for a public one.
pub fn keys(data: &[u8]) -> bool {
    let public = PublicKey::from_jwk(data);
    if let Ok(key) = &public {
        let again = PublicKey::from_jwk(key.to_jwk().to_string().as_bytes());
        assert!(again.is_ok_and(|again| again.thumbprint() == key.thumbprint()));
        if let Ok(registered) = key.to_registered() {
            let back = PublicKey::from_registered(&registered);
            assert!(back.is_ok_and(|back| back.thumbprint() == key.thumbprint()));
        }
    }
    let private = PrivateKey::from_jwk(data);
    if let Ok(key) = &private {
        assert!(public.is_err());
        let again = PrivateKey::from_jwk(key.to_jwk().expose().as_bytes());
        assert!(again.is_ok_and(|again| again.public().thumbprint() == key.public().thumbprint()));
    }
    let file = text(data).and_then(|text| AgentKey::parse(text).ok());
    if let Some(file) = &file {
        let again = AgentKey::parse(file.to_file().expose());
        assert!(again.is_ok_and(|again| again.agent == file.agent));
    }
    public.is_ok() || private.is_ok() || file.is_some() || url(data)
}

fn url(data: &[u8]) -> bool {
    let url = text(data).and_then(|text| text.parse::<PublicUrl>().ok());
    if let Some(url) = &url {
        assert!(
            url.as_str()
                .parse::<PublicUrl>()
                .is_ok_and(|again| again.as_str() == url.as_str())
        );
    }
    url.is_some()
}
