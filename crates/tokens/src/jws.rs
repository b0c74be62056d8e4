//! JWS compact serialisation (RFC 7515 §7.1), read strictly and written plainly.
//!
//! Reading comes in two steps that the types keep apart: [`Unverified::parse`] looks at the form
//! and the header, [`Unverified::verify`] checks the signature and only then shows the claims.

use vocab::limits::TOKEN_BYTES_MAX;

use crate::json::{JsonError, Object};
use crate::jwk::{Algorithm, PrivateKey, PublicKey, b64, unb64};

/// Why a text is not a token that anyone here could have meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("it is {0} bytes long; at most {TOKEN_BYTES_MAX} are read")]
    TooLong(usize),
    /// Not three parts joined by full stops.
    #[error("it is not three parts joined by `.`")]
    Parts,
    /// A part is not base64url without padding.
    #[error("its {0} is not base64url without padding")]
    Base64(&'static str),
    /// The header is not strict JSON.
    #[error("in its header, {0}")]
    Header(JsonError),
    /// A header member that would change how the token is read, or whose key verifies it.
    #[error("its header has `{0}`, which is not accepted")]
    Member(&'static str),
    /// Of another type.
    #[error("its `typ` is not {0}")]
    Typ(&'static str),
    /// `alg` is none of ours.
    #[error("its `alg` is none of EdDSA, Ed25519 and ES256")]
    Algorithm,
    /// `alg` is not the algorithm of the key.
    #[error("its `alg` is not that of the key")]
    WrongAlgorithm,
    /// The signature is not the key's.
    #[error("its signature is not by the key")]
    Signature,
    /// The claims are not strict JSON.
    #[error("in its claims, {0}")]
    Claims(#[from] JsonError),
}

/// Header members that point to a key (RFC 7515 §4.1.2 to §4.1.8), or change what is signed or
/// required (`b64`, RFC 7797; `crit`, RFC 7515 §4.1.11). No key is ever taken from one of them,
/// and we know no extension that could be critical.
const REFUSED: [&str; 8] = ["crit", "b64", "jku", "x5u", "x5c", "x5t", "x5t#S256", "jwk"];

/// The kinds of token that are read here, each with its `typ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typ {
    /// `at+jwt` (RFC 9068 §2.1).
    Access,
    /// `dpop+jwt` (RFC 9449 §4.2); the only kind that brings its key along.
    Proof,
    /// Absent or `JWT` (RFC 7523), or `client-authentication+jwt` (its successor's draft).
    Assertion,
}

impl Typ {
    fn check(self, header: &Object) -> Result<(), JwsError> {
        let typ = header.text("typ").map_err(JwsError::Header)?;
        // Media types ignore case and may drop `application/` (RFC 7515 §4.1.9).
        let is = |name: &str| {
            typ.is_some_and(|typ| {
                let bare = match typ.split_at_checked("application/".len()) {
                    Some((front, rest)) if front.eq_ignore_ascii_case("application/") => rest,
                    _ => typ,
                };
                bare.eq_ignore_ascii_case(name)
            })
        };
        let (good, expected) = match self {
            Self::Access => (is("at+jwt"), "`at+jwt`"),
            //= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
            //# The typ JOSE Header Parameter has the value dpop+jwt.
            //= https://www.rfc-editor.org/rfc/rfc9449#section-11.5
            //# Servers accepting signed DPoP proof JWTs MUST verify that the typ field is dpop+jwt
            //# in the headers of the JWTs
            Self::Proof => (is("dpop+jwt"), "`dpop+jwt`"),
            Self::Assertion => (
                typ.is_none() || is("JWT") || is("client-authentication+jwt"),
                "`JWT` or `client-authentication+jwt`",
            ),
        };
        if good {
            Ok(())
        } else {
            Err(JwsError::Typ(expected))
        }
    }
}

/// A token of the right form, whose signature nobody has checked.
#[derive(Debug)]
pub(crate) struct Unverified<'a> {
    header: Object,
    algorithm: Algorithm,
    /// The header as it stands in the token; equal texts are equal headers.
    pub(crate) header_text: &'a str,
    payload: &'a str,
    signed: &'a str,
    signature: [u8; 64],
}

impl<'a> Unverified<'a> {
    pub(crate) fn parse(text: &'a str, typ: Typ) -> Result<Self, JwsError> {
        let (signed, header_text, payload, signature) = split(text)?;
        let bytes = unb64(header_text).ok_or(JwsError::Base64("header"))?;
        let header = Object::parse(&bytes).map_err(JwsError::Header)?;
        typ.check(&header)?;
        for name in REFUSED {
            if header.has(name) && !(name == "jwk" && typ == Typ::Proof) {
                return Err(JwsError::Member(name));
            }
        }
        let alg = header.required_text("alg").map_err(JwsError::Header)?;
        //= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
        //# The alg JOSE Header Parameter indicates a registered asymmetric digital signature
        //# algorithm [IANA.JOSE.ALGS], is not none, is supported by the application, and is
        //# acceptable per local policy.
        //= https://www.rfc-editor.org/rfc/rfc9449#section-4.2
        //# It MUST NOT be none or an identifier for a symmetric algorithm (Message Authentication
        //# Code (MAC)).
        //= https://www.rfc-editor.org/rfc/rfc9449#section-11.6
        //# Implementers MUST ensure that only asymmetric digital signature algorithms (such as
        //# ES256) that are deemed secure can be used for signing DPoP proofs.
        //= https://www.rfc-editor.org/rfc/rfc9449#section-11.6
        //# In particular, the algorithm none MUST NOT be allowed.
        let algorithm = Algorithm::read(alg).ok_or(JwsError::Algorithm)?;
        Ok(Self {
            header,
            algorithm,
            header_text,
            payload,
            signed,
            signature,
        })
    }

    pub(crate) const fn header(&self) -> &Object {
        &self.header
    }

    /// Claims that nobody vouches for yet: good for finding the key, and for nothing else.
    pub(crate) fn claimed(&self) -> Result<Object, JwsError> {
        let bytes = unb64(self.payload).ok_or(JwsError::Base64("payload"))?;
        Ok(Object::parse(&bytes)?)
    }

    /// Spends the time of checking a signature by a key of the algorithm that the header names.
    pub(crate) fn verify_in_vain(&self) {
        if let Ok(key) = PublicKey::decoy(self.algorithm) {
            key.verifies(self.signed.as_bytes(), &self.signature);
        }
    }

    /// The claims, if `key` signed them and the header names the algorithm of `key`.
    pub(crate) fn verify(&self, key: &PublicKey) -> Result<Object, JwsError> {
        if self.algorithm != key.algorithm() {
            return Err(JwsError::WrongAlgorithm);
        }
        verify_parts(self.signed, self.payload, &self.signature, key)
    }
}

/// The claims of a token whose header is, byte for byte, one that [`Unverified::parse`] accepted
/// before and that names `key`. `None` if the header is another.
pub(crate) fn verify_known(
    text: &str,
    header_text: &str,
    key: &PublicKey,
) -> Option<Result<Object, JwsError>> {
    let (signed, header, payload, signature) = match split(text) {
        Ok(parts) => parts,
        Err(error) => return Some(Err(error)),
    };
    (header == header_text).then(|| verify_parts(signed, payload, &signature, key))
}

fn split(text: &str) -> Result<(&str, &str, &str, [u8; 64]), JwsError> {
    if text.len() > TOKEN_BYTES_MAX {
        return Err(JwsError::TooLong(text.len()));
    }
    let (signed, signature) = text.rsplit_once('.').ok_or(JwsError::Parts)?;
    let (header, payload) = signed.split_once('.').ok_or(JwsError::Parts)?;
    if payload.contains('.') {
        return Err(JwsError::Parts);
    }
    // Both algorithms make 64 bytes (RFC 8037 §3.1, RFC 7518 §3.4): 86 characters.
    let signature = (signature.len() == 86)
        .then(|| unb64(signature))
        .flatten()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(JwsError::Base64("signature of 64 bytes"))?;
    Ok((signed, header, payload, signature))
}

fn verify_parts(
    signed: &str,
    payload: &str,
    signature: &[u8; 64],
    key: &PublicKey,
) -> Result<Object, JwsError> {
    if !key.verifies(signed.as_bytes(), signature) {
        return Err(JwsError::Signature);
    }
    let bytes = unb64(payload).ok_or(JwsError::Base64("payload"))?;
    Ok(Object::parse(&bytes)?)
}

/// Writes a token: `header` in base64url already, `claims` as JSON.
pub(crate) fn sign(key: &PrivateKey, header: &str, claims: &serde_json::Value) -> String {
    let text = unsigned(header, claims);
    let signature = key.sign(text.as_bytes());
    signed(text, &signature)
}

/// What is signed of a token.
pub(crate) fn unsigned(header: &str, claims: &serde_json::Value) -> String {
    format!("{header}.{}", b64(claims.to_string().as_bytes()))
}

/// The token of what was signed.
pub(crate) fn signed(mut text: String, signature: &[u8; 64]) -> String {
    text.push('.');
    text.push_str(&b64(signature));
    text
}

/// A header for [`sign`].
pub(crate) fn header(header: &serde_json::Value) -> String {
    b64(header.to_string().as_bytes())
}

/// Reads a text as every kind of token there is; whether it is one. For property tests and fuzz
/// targets: whatever the text, it returns.
#[doc(hidden)]
pub fn read_anything(text: &str) -> bool {
    let mut taken = false;
    for typ in [Typ::Access, Typ::Proof, Typ::Assertion] {
        if let Ok(token) = Unverified::parse(text, typ) {
            taken = true;
            drop(token.claimed());
            token.verify_in_vain();
            if let Ok(Some(jwk)) = token.header().object("jwk") {
                drop(PublicKey::from_object(jwk).map(|key| token.verify(&key)));
            }
        }
    }
    taken
}
