//! Who signs access tokens.
//!
//! A [`TokenSigner`] is the node's own key in memory, or stands for one that lies elsewhere: in a
//! PKCS#11 module or a key management service. It is asynchronous, because those are a call into a
//! library that blocks or into a network that is slow, and a token is issued on a task that waits
//! for the ledger anyway; a signer that is at hand answers at once, for the price of one
//! allocation a token.

use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use vocab::Secret;

use crate::jwk::{PrivateKey, PublicKey};

/// A signature that is being made.
pub type Signing<'a> = Pin<Box<dyn Future<Output = Result<[u8; 64], SignError>> + Send + 'a>>;

/// Why there is no signature. Its cause is for the node's log.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the token key does not sign: {0}")]
pub struct SignError(pub String);

/// Signs with one key.
pub trait TokenSigner: Send + Sync + fmt::Debug {
    /// The key that verifies what it signs.
    fn public(&self) -> &PublicKey;

    /// Signs a message by the algorithm of its key (RFC 8037 §3.1, RFC 7518 §3.4).
    fn sign<'a>(&'a self, message: &'a [u8]) -> Signing<'a>;
}

impl TokenSigner for PrivateKey {
    fn public(&self) -> &PublicKey {
        self.public()
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> Signing<'a> {
        Box::pin(ready(Ok(self.sign(message))))
    }
}

/// Why a text is not a P-256 key that signs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a P-256 key in PKCS#8, in base 64")]
pub struct Es256KeyError;

/// A P-256 key that signs `ES256`.
pub struct Es256Key {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

impl Es256Key {
    /// A fresh key, in the text form that [`Es256Key::parse`] reads. `ring` takes randomness from
    /// the system only, here and for each signature.
    pub fn generate() -> Result<Secret<String>, SignError> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map_err(|_| SignError("the system's random source failed".to_owned()))?;
        Ok(Secret::new(STANDARD.encode(pkcs8.as_ref())))
    }

    /// Reads a PKCS#8 document in base 64.
    pub fn parse(text: &Secret<String>) -> Result<Self, Es256KeyError> {
        let pkcs8 = STANDARD.decode(text.expose()).map_err(|_| Es256KeyError)?;
        let pkcs8 = Secret::new(pkcs8);
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.expose(), &SystemRandom::new())
            .map_err(|_| Es256KeyError)?;
        let point = pair.public_key().as_ref();
        let public = PublicKey::from_sec1(point).ok_or(Es256KeyError)?;
        Ok(Self { pair, public })
    }
}

impl TokenSigner for Es256Key {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> Signing<'a> {
        let signed = self.pair.sign(&SystemRandom::new(), message);
        let signed = signed
            .ok()
            .and_then(|signature| signature.as_ref().try_into().ok());
        let failed = || SignError("the system's random source failed".to_owned());
        Box::pin(ready(signed.ok_or_else(failed)))
    }
}

impl fmt::Debug for Es256Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Es256Key({:?}, [redacted])", self.public)
    }
}
