//! Refresh tokens of people's clients: rotated at each use (RFC 9700 §2.2.2).
//!
//! A refresh token names its instance and its number, under an authentication code of the node's.
//! Which number is the next one is in the register, so nothing else is stored, a restart forgets
//! nothing, and of two that use the same one at once exactly one is first.

use ring::hmac;
use vocab::{InstanceId, Secret};

use crate::jwk::{b64, unb64};

/// What a refresh token begins with, so that scanners for secrets know it.
const BEGINS: &str = "tsr_";

/// The number of a refresh token, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refresh {
    pub(crate) instance: InstanceId,
    pub(crate) serial: u64,
}

impl Refresh {
    /// The token. `client` is who may use it.
    pub(crate) fn write(&self, mac: &hmac::Key, client: &str) -> Secret<String> {
        let text = format!("{}.{}", self.instance, self.serial);
        let tag = hmac::sign(mac, &signed(&text, client));
        Secret::new(format!("{BEGINS}{text}.{}", b64(tag.as_ref())))
    }

    /// Reads a token that was given to this client.
    pub(crate) fn read(token: &str, mac: &hmac::Key, client: &str) -> Option<Self> {
        let (text, tag) = token.strip_prefix(BEGINS)?.rsplit_once('.')?;
        hmac::verify(mac, &signed(text, client), &unb64(tag)?).ok()?;
        let (instance, serial) = text.rsplit_once('.')?;
        Some(Self {
            instance: instance.parse().ok()?,
            serial: serial.parse().ok()?,
        })
    }
}

fn signed(text: &str, client: &str) -> Vec<u8> {
    format!("{text}\n{client}").into_bytes()
}
