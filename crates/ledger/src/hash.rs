//! The hashes of a Merkle tree, by RFC 6962 §2.1: SHA-256, with one prefix for leaves and another
//! for nodes so that neither can pass for the other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use vocab::digest::Digest;

/// The root of the empty tree.
pub fn empty() -> Digest {
    Digest::of(b"")
}

/// The hash of an entry's bytes.
pub fn leaf(entry: &[u8]) -> Digest {
    Digest::of_parts(&[&[0], entry])
}

/// The hash of a node over its two children.
pub fn node(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// A hash as C2SP formats write it: standard base64.
pub(crate) fn to_line(hash: &Digest) -> String {
    STANDARD.encode(hash.as_bytes())
}

/// Reads what [`to_line`] writes, and nothing else.
pub(crate) fn from_line(line: &str) -> Option<Digest> {
    let bytes = STANDARD.decode(line).ok()?;
    Some(Digest::from_bytes(bytes.try_into().ok()?))
}

/// Reads a decimal number without sign or leading zeros.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    if !canonical || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}
