//! Sealing: what can be erased is encrypted under a key that can be destroyed, and named in
//! entries only by a salted digest.
//!
//! A record's key is HKDF-SHA256 of its group's key and a fresh 32-byte salt, so a call makes no
//! key that has to be kept. The digest's own salt lies inside the ciphertext: once the group key
//! is gone, the digest can no longer be linked to anything, or guessed.
//!
//! Sealed bytes: `01 ‖ salt (32) ‖ XChaCha20-Poly1305(commit salt (32) ‖ plain)`.

use std::fmt;

use chacha20poly1305::aead::{Aead, AeadInPlace as _, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use vocab::digest::Digest;
use vocab::id::{AgentId, Handle, InstanceId};
use vocab::rng::{self, Rng, RngError};
use vocab::secret::{Secret, same_bytes};
use vocab::time::Time;
use zeroize::{Zeroize as _, Zeroizing};

const FORMAT: u8 = 1;
const SALT_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const SEAL_DOMAIN: &[u8] = b"tipstaff/v1/seal";
const MASK_DOMAIN: &[u8] = b"tipstaff/v1/mask";
const COMMIT_DOMAIN: &[u8] = b"tipstaff/v1/commit";

/// The key of a group: a person, an agent, a day. Destroying it erases what it sealed.
pub struct GroupKey(Secret<[u8; 32]>);

impl GroupKey {
    /// A fresh key.
    pub fn random(rng: &dyn Rng) -> Result<Self, RngError> {
        Ok(Self(Secret::new(rng::bytes(rng)?)))
    }

    /// A key that was kept.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }

    /// The bytes, for a keyring to wrap.
    pub const fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// What stands for a value in masks that an instance may compare. Others of the group have other
    /// masks for it, and without the key nobody can try values.
    pub fn mask(&self, of: &InstanceId, value: &[u8]) -> [u8; 32] {
        let of = of.as_str().as_bytes();
        let mut masked = [0; 32];
        let made = Hkdf::<Sha256>::new(Some(MASK_DOMAIN), self.expose())
            .expand_multi_info(&[of, b"\0", value], &mut masked);
        // INVARIANT: the hash gives up to 255 times 32 bytes.
        debug_assert!(made.is_ok());
        masked
    }

    /// The cipher and nonce of one record. The salt is fresh, so key and nonce are used once.
    fn record(&self, salt: &[u8]) -> Option<(XChaCha20Poly1305, XNonce)> {
        let mut okm = Zeroizing::new([0; 32 + 24]);
        Hkdf::<Sha256>::new(Some(salt), self.expose())
            .expand(SEAL_DOMAIN, okm.as_mut())
            .ok()?;
        let (key, nonce) = okm.split_at(32);
        Some((
            XChaCha20Poly1305::new_from_slice(key).ok()?,
            *XNonce::from_slice(nonce),
        ))
    }
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupKey([redacted])")
    }
}

/// The group whose key seals what an agent was handed on and did for somebody on a day. It is small,
/// so that what must be forgotten takes little else along.
pub fn group_of(sponsor: &Handle, agent: &AgentId, at: Time) -> String {
    format!("{sponsor}/{agent}/{}", at.day())
}

/// Sealed bytes and the digest that commits to what is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// `SHA-256("tipstaff/v1/commit" ‖ salt ‖ plain)`; this goes into the entry.
    pub commit: Digest,
    /// What [`open`] opens.
    pub bytes: Vec<u8>,
}

/// Why nothing was sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RngError),
    /// The cipher refused.
    #[error("the cipher refused {length} bytes")]
    Cipher {
        /// Length of the plain text.
        length: usize,
    },
}

/// Why sealed bytes could not be opened.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpenError {
    /// Too short, or of another format.
    #[error("not sealed bytes")]
    Format,
    /// Another key, or changed bytes.
    #[error("sealed under another key, or changed since")]
    Cipher,
    /// Opened, but not what the digest in the entry commits to.
    #[error("not what the entry commits to")]
    Commit,
}

/// Seals `plain` under a group's key.
pub fn seal(key: &GroupKey, rng: &dyn Rng, plain: &[u8]) -> Result<Sealed, SealError> {
    let salts = Zeroizing::new(rng::bytes::<{ 2 * SALT_BYTES }>(rng)?);
    let (salt, commit_salt) = salts.split_at(SALT_BYTES);
    let commit = Digest::of_parts(&[COMMIT_DOMAIN, commit_salt, plain]);
    // One buffer of the final length, encrypted where it stands: no copy of the plain text is left.
    let head = 1 + SALT_BYTES;
    let mut bytes = Vec::with_capacity(head + SALT_BYTES + plain.len() + TAG_BYTES);
    bytes.push(FORMAT);
    bytes.extend_from_slice(salt);
    bytes.extend_from_slice(commit_salt);
    bytes.extend_from_slice(plain);
    let tag = key.record(salt).and_then(|(cipher, nonce)| {
        let (_, message) = bytes.split_at_mut_checked(head)?;
        cipher
            .encrypt_in_place_detached(&nonce, &[FORMAT], message)
            .ok()
    });
    let Some(tag) = tag else {
        bytes.zeroize();
        return Err(SealError::Cipher {
            length: plain.len(),
        });
    };
    bytes.extend_from_slice(&tag);
    Ok(Sealed { commit, bytes })
}

/// Opens sealed bytes, and refuses them if they are not what `commit` commits to.
pub fn open(key: &GroupKey, bytes: &[u8], commit: &Digest) -> Result<Vec<u8>, OpenError> {
    let (salt, sealed) = bytes
        .strip_prefix(&[FORMAT])
        .and_then(|rest| rest.split_at_checked(SALT_BYTES))
        .ok_or(OpenError::Format)?;
    let (cipher, nonce) = key.record(salt).ok_or(OpenError::Cipher)?;
    let message = cipher
        .decrypt(
            &nonce,
            Payload {
                msg: sealed,
                aad: &[FORMAT],
            },
        )
        .map(Zeroizing::new)
        .map_err(|_| OpenError::Cipher)?;
    let found = Digest::of_parts(&[COMMIT_DOMAIN, &message]);
    if !same_bytes(found.as_bytes(), commit.as_bytes()) {
        return Err(OpenError::Commit);
    }
    let (_, plain) = message
        .split_at_checked(SALT_BYTES)
        .ok_or(OpenError::Format)?;
    Ok(plain.to_vec())
}

#[cfg(test)]
mod tests;
