use proptest::prelude::*;
use vocab::rng::SystemRng;

use super::*;

#[test]
fn what_is_sealed_opens() {
    let key = GroupKey::random(&SystemRng).unwrap();
    for plain in [&b""[..], b"a", &[7; 10_000]] {
        let sealed = seal(&key, &SystemRng, plain).unwrap();
        assert_eq!(open(&key, &sealed.bytes, &sealed.commit).unwrap(), plain);
        assert_eq!(sealed.bytes.len(), 1 + 32 + 32 + plain.len() + 16);
    }
}

#[test]
fn the_same_text_is_never_sealed_the_same_way() {
    let key = GroupKey::random(&SystemRng).unwrap();
    let (one, two) = (
        seal(&key, &SystemRng, b"maya").unwrap(),
        seal(&key, &SystemRng, b"maya").unwrap(),
    );
    assert_ne!(one.commit, two.commit);
    assert_ne!(one.bytes, two.bytes);
    assert_eq!(
        open(&key, &one.bytes, &two.commit),
        Err(OpenError::Commit),
        "a commitment binds one sealing"
    );
}

#[test]
fn another_key_opens_nothing() {
    let key = GroupKey::from_bytes([1; 32]);
    let sealed = seal(&key, &SystemRng, b"maya").unwrap();
    let other = GroupKey::from_bytes([2; 32]);
    assert_eq!(
        open(&other, &sealed.bytes, &sealed.commit),
        Err(OpenError::Cipher)
    );
    assert_eq!(open(&key, b"", &sealed.commit), Err(OpenError::Format));
    assert_eq!(format!("{key:?}"), "GroupKey([redacted])");
}

proptest! {
    #[test]
    fn any_changed_bit_is_refused(plain: Vec<u8>, at: prop::sample::Index, bit in 0..8) {
        let key = GroupKey::from_bytes([1; 32]);
        let mut sealed = seal(&key, &SystemRng, &plain).unwrap();
        let at = at.index(sealed.bytes.len());
        sealed.bytes[at] ^= 1_u8 << bit;
        prop_assert!(open(&key, &sealed.bytes, &sealed.commit).is_err());
    }
}
