//! Public keys, read from JWKs (RFC 7517, RFC 8037) that others wrote.
//!
//! A [`PublicKey`] exists only after its JWK was checked here: known type and curve, coordinates
//! of exactly the right length, no private part, no member that speaks of another use. That order
//! matters. A library that is handed a short `x` may slice past its end, and the JWK of a DPoP
//! proof is written by whoever sends the request.
//!
//! The algorithm belongs to the key: Ed25519 keys verify `EdDSA` and P-256 keys verify `ES256`,
//! whatever a token's header asks for.
//!
//! Signatures are checked by the two libraries that the program links anyway, through one
//! function each: `ed25519-dalek` (`verify_strict`, which also refuses keys and points of small
//! order) and `ring` for P-256. A JOSE library in between would parse headers and keys a second
//! time, by its own rules, and that parsing is where their defects have been; we need none of it.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use register::jwk::PublicJwk;
use serde_json::json;
use vocab::{Digest, Secret};

use crate::json::{Json, JsonError, Object};

/// Signature algorithms (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

impl Algorithm {
    /// What there is.
    pub const ALL: [Self; 2] = [Self::EdDsa, Self::Es256];
    /// What is accepted, as metadata and challenges list it: Ed25519 has two names.
    pub const NAMES: [&str; 3] = ["EdDSA", "Ed25519", "ES256"];

    /// The `alg` value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
        }
    }

    /// What an `alg` value means.
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text {
            // By its first name, and by the one that says which curve (RFC 9864 §2.2).
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            "ES256" => Some(Self::Es256),
            _ => None,
        }
    }
}

/// Why a JWK is not a public key that can be used here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// Not a JSON object, or a member is missing or of the wrong type.
    #[error("the JWK cannot be read: {0}")]
    Json(#[from] JsonError),
    /// It holds a private key.
    #[error("the JWK holds a private or symmetric key (`{0}`); send only its public part")]
    Private(&'static str),
    /// A type or curve that is not accepted.
    #[error("the JWK is neither OKP Ed25519 nor EC P-256")]
    Unknown,
    /// A coordinate of the wrong length or spelling.
    #[error("the JWK's `{0}` is not 32 bytes in base64url without padding")]
    Coordinate(&'static str),
    /// Numbers that are not a usable key.
    #[error("the JWK is not a point that a key can be")]
    Point,
    /// `alg`, `use` or `key_ops` says that the key is for something else.
    #[error("the JWK's `{0}` does not fit a key that verifies signatures of its type")]
    Use(&'static str),
}

/// A key that verifies signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    point: Point,
    thumbprint: Arc<str>,
}

#[derive(Clone, PartialEq, Eq)]
enum Point {
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
    /// Uncompressed SEC 1: `04`, x, y.
    P256([u8; 65]),
}

impl PublicKey {
    /// Reads a public JWK.
    pub fn from_jwk(jwk: &[u8]) -> Result<Self, JwkError> {
        Self::from_object(&Object::parse(jwk)?)
    }

    pub(crate) fn from_object(jwk: &Object) -> Result<Self, JwkError> {
        // `d` of OKP, EC and RSA; the others of RSA; `k` of symmetric keys (RFC 7518 §6).
        //= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
        //# The jwk JOSE Header Parameter does not contain a private key.
        //= https://www.rfc-editor.org/rfc/rfc9449#section-4.2
        //# It MUST NOT contain a private key.
        for private in ["d", "k", "p", "q", "dp", "dq", "qi", "oth"] {
            if jwk.has(private) {
                return Err(JwkError::Private(private));
            }
        }
        let kty = jwk.required_text("kty")?;
        let point = match (kty, jwk.text("crv")?) {
            ("OKP", Some("Ed25519")) => Point::ed25519(&coordinate(jwk, "x")?)?,
            ("EC", Some("P-256")) => Point::p256(&coordinate(jwk, "x")?, &coordinate(jwk, "y")?),
            _ => return Err(JwkError::Unknown),
        };
        let key = Self::new(point);
        if jwk
            .text("alg")?
            .is_some_and(|alg| alg != key.algorithm().as_str())
        {
            return Err(JwkError::Use("alg"));
        }
        if jwk.text("use")?.is_some_and(|usage| usage != "sig") {
            return Err(JwkError::Use("use"));
        }
        match jwk.get("key_ops") {
            None => {}
            Some(Json::List(operations)) if operations == &[Json::Text("verify".to_owned())] => {}
            Some(_) => return Err(JwkError::Use("key_ops")),
        }
        Ok(key)
    }

    /// The key of a registered agent.
    pub fn from_registered(jwk: &PublicJwk) -> Result<Self, JwkError> {
        Ok(Self::new(match jwk {
            PublicJwk::Ed25519 { x } => Point::ed25519(x.as_bytes())?,
            PublicJwk::P256 { x, y } => Point::p256(x.as_bytes(), y.as_bytes()),
        }))
    }

    /// A P-256 key as an uncompressed point (SEC 1).
    pub(crate) fn from_sec1(point: &[u8]) -> Option<Self> {
        let point: [u8; 65] = point.try_into().ok()?;
        (point.first() == Some(&4)).then(|| Self::new(Point::P256(point)))
    }

    /// The key as the register keeps it.
    pub fn to_registered(&self) -> Result<PublicJwk, register::jwk::JwkError> {
        PublicJwk::parse(&self.to_bare_jwk())
    }

    /// A key of either kind that is nobody's (the curve's base point). For taking as long over an
    /// unknown agent as over a known one.
    pub(crate) fn decoy(algorithm: Algorithm) -> Result<Self, JwkError> {
        Self::from_jwk(match algorithm {
            Algorithm::EdDsa => {
                br#"{"kty":"OKP","crv":"Ed25519","x":"WGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY"}"#
            }
            Algorithm::Es256 => {
                br#"{"kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}"#
            }
        })
    }

    fn new(point: Point) -> Self {
        //= https://www.rfc-editor.org/rfc/rfc7638#section-3
        //# The thumbprint of a JSON Web Key (JWK) is computed as follows:
        // The required members, in lexical order, without white space.
        let canonical = match &point {
            Point::Ed25519(key) => {
                format!(
                    r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#,
                    b64(key.as_bytes())
                )
            }
            Point::P256(sec1) => {
                let (x, y) = coordinates(sec1);
                format!(
                    r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#,
                    b64(x),
                    b64(y)
                )
            }
        };
        Self {
            point,
            thumbprint: b64(Digest::of(canonical.as_bytes()).as_bytes()).into(),
        }
    }

    /// The one algorithm that this key verifies.
    pub const fn algorithm(&self) -> Algorithm {
        match self.point {
            Point::Ed25519(_) => Algorithm::EdDsa,
            Point::P256(_) => Algorithm::Es256,
        }
    }

    /// The RFC 7638 SHA-256 thumbprint in base64url: a key's `kid` here, and a token's `cnf.jkt`.
    pub fn thumbprint(&self) -> &Arc<str> {
        &self.thumbprint
    }

    /// The members that make the key, as a DPoP proof carries them.
    pub(crate) fn to_bare_jwk(&self) -> serde_json::Value {
        match &self.point {
            Point::Ed25519(key) => json!({
                "kty": "OKP", "crv": "Ed25519", "x": b64(key.as_bytes()),
            }),
            Point::P256(sec1) => {
                let (x, y) = coordinates(sec1);
                json!({ "kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y) })
            }
        }
    }

    /// The public JWK, with its thumbprint as `kid`.
    pub fn to_jwk(&self) -> serde_json::Value {
        let mut jwk = self.to_bare_jwk();
        if let Some(members) = jwk.as_object_mut() {
            members.insert("kid".to_owned(), json!(*self.thumbprint));
            members.insert("use".to_owned(), json!("sig"));
            members.insert("alg".to_owned(), json!(self.algorithm().as_str()));
        }
        jwk
    }

    /// Whether `signature` over `message` was made by this key.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        match &self.point {
            Point::Ed25519(key) => {
                let signature = ed25519_dalek::Signature::from_bytes(signature);
                key.verify_strict(message, &signature).is_ok()
            }
            Point::P256(sec1) => {
                let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED;
                ring::signature::UnparsedPublicKey::new(algorithm, sec1)
                    .verify(message, signature)
                    .is_ok()
            }
        }
    }
}

impl Point {
    fn ed25519(x: &[u8; 32]) -> Result<Self, JwkError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(x).map_err(|_| JwkError::Point)?;
        if key.is_weak() {
            return Err(JwkError::Point);
        }
        Ok(Self::Ed25519(Box::new(key)))
    }

    /// `ring` checks that the point is on the curve each time it verifies: a pair of numbers that
    /// is not on it is a key under which no signature is good.
    fn p256(x: &[u8; 32], y: &[u8; 32]) -> Self {
        let mut sec1 = [4; 65];
        for (to, from) in sec1.iter_mut().skip(1).zip(x.iter().chain(y)) {
            *to = *from;
        }
        Self::P256(sec1)
    }
}

fn coordinates(sec1: &[u8; 65]) -> (&[u8], &[u8]) {
    let (_, xy) = sec1.split_at(1);
    xy.split_at(32)
}

fn coordinate(jwk: &Object, name: &'static str) -> Result<[u8; 32], JwkError> {
    let text = jwk.required_text(name)?;
    // 43 characters, so that the decoder never sees more.
    if text.len() != 43 {
        return Err(JwkError::Coordinate(name));
    }
    unb64(text)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(JwkError::Coordinate(name))
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm().as_str(), self.thumbprint)
    }
}

/// An Ed25519 key that signs: the node's token key, an agent's key, a client's DPoP key.
///
/// Wiped when dropped (`ed25519-dalek` does it); `Debug` shows the thumbprint.
pub struct PrivateKey {
    key: ed25519_dalek::SigningKey,
    public: PublicKey,
}

impl PrivateKey {
    /// The key of an RFC 8032 seed.
    pub fn from_seed(seed: &Secret<[u8; 32]>) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(seed.expose());
        let public = PublicKey::new(Point::Ed25519(Box::new(key.verifying_key())));
        Self { key, public }
    }

    /// A fresh key.
    pub fn generate(rng: &dyn vocab::Rng) -> Result<Self, vocab::rng::RngError> {
        Ok(Self::from_seed(&Secret::new(vocab::rng::bytes(rng)?)))
    }

    /// Reads a private Ed25519 JWK whose `x` belongs to its `d`.
    pub fn from_jwk(jwk: &[u8]) -> Result<Self, JwkError> {
        Self::from_object(&Object::parse(jwk)?)
    }

    pub(crate) fn from_object(jwk: &Object) -> Result<Self, JwkError> {
        if (jwk.required_text("kty")?, jwk.text("crv")?) != ("OKP", Some("Ed25519")) {
            return Err(JwkError::Unknown);
        }
        let key = Self::from_seed(&Secret::new(coordinate(jwk, "d")?));
        if key.key.verifying_key().as_bytes() != &coordinate(jwk, "x")? {
            return Err(JwkError::Point);
        }
        Ok(key)
    }

    /// The private JWK: write it only where a key may lie.
    pub fn to_jwk(&self) -> Secret<String> {
        let (x, d) = (
            b64(self.key.verifying_key().as_bytes()),
            Secret::new(b64(self.key.as_bytes())),
        );
        let kid = self.public.thumbprint();
        Secret::new(format!(
            r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","d":"{}","kid":"{kid}","use":"sig","alg":"EdDSA"}}"#,
            d.expose()
        ))
    }

    /// The public part.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        use ed25519_dalek::Signer as _;
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({:?}, [redacted])", self.public)
    }
}

/// Base64url without padding (RFC 7515 §2).
pub(crate) fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The one spelling of base64url without padding: no padding, no white space, no stray bits.
pub(crate) fn unb64(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
