//! What an upstream gives a client to come back with: cursors of listings, ids of events.
//!
//! To the client they mean nothing, and whatever it sends in their place would go to the upstream
//! without a permit. So it gets them sealed, for itself and for the one thing they are for, and what
//! does not open was never given. Nothing is kept: the key lives as long as the node runs, and whoever
//! comes back later begins again.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use vocab::rng::{self, RngError};
use vocab::{Rng, Secret};

const NONCE_BYTES: usize = 24;

/// Seals what is handed to clients, and opens what they bring back.
pub(crate) struct Handed(XChaCha20Poly1305);

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handed([redacted])")
    }
}

impl Handed {
    pub(crate) fn new(rng: &dyn Rng) -> Result<Self, RngError> {
        let key = Secret::new(rng::bytes::<32>(rng)?);
        Ok(Self(XChaCha20Poly1305::new(key.expose().into())))
    }

    /// What the client gets; none without randomness. `about` says whose it is and what for.
    pub(crate) fn seal(&self, rng: &dyn Rng, about: &str, text: &str) -> Option<String> {
        let nonce = rng::bytes::<NONCE_BYTES>(rng).ok()?;
        let payload = Payload {
            msg: text.as_bytes(),
            aad: about.as_bytes(),
        };
        let sealed = self.0.encrypt(XNonce::from_slice(&nonce), payload).ok()?;
        Some(BASE64.encode([&nonce[..], &sealed].concat()))
    }

    /// What the upstream gave; none if it gave nothing of the kind.
    pub(crate) fn open(&self, about: &str, given: &str) -> Option<String> {
        let given = BASE64.decode(given).ok()?;
        let (nonce, sealed) = given.split_at_checked(NONCE_BYTES)?;
        let payload = Payload {
            msg: sealed,
            aad: about.as_bytes(),
        };
        let text = self.0.decrypt(XNonce::from_slice(nonce), payload).ok()?;
        String::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use vocab::rng::SystemRng;

    use super::*;

    #[test]
    fn what_comes_back_is_what_was_given_to_whom_it_was_given() {
        let rng = SystemRng;
        let handed = Handed::new(&rng).unwrap();
        for text in ["", "page 2", "\u{0}\u{e000}"] {
            let sealed = handed.seal(&rng, "cursor/a", text).unwrap();
            assert_eq!(handed.open("cursor/a", &sealed).as_deref(), Some(text));
            assert_eq!(handed.open("cursor/b", &sealed), None);
            let other = Handed::new(&rng).unwrap();
            assert_eq!(other.open("cursor/a", &sealed), None);
            let mut changed = sealed.clone().into_bytes();
            changed[30] ^= 1;
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(handed.open("cursor/a", &changed), None);
            let shorter = sealed.strip_suffix(|_| true).unwrap();
            assert_eq!(handed.open("cursor/a", shorter), None);
        }
        for words in ["", "words", "AAAA", "w\u{f6}rter", &"A".repeat(100)] {
            assert_eq!(handed.open("cursor/a", words), None, "{words}");
        }
    }
}
