//! Signing what is told, as Standard Webhooks 1.0.0 says: HMAC-SHA256 over id, time and body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use vocab::Secret;

/// What a secret begins with, so that it is known for one.
const PREFIX: &str = "whsec_";
/// How long the bytes of a secret are.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// The new secret and the old one, while the receiver changes them.
const SECRETS_MAX: usize = 2;

/// Why a text is no secret to sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is not `whsec_` and the base64 of 24 to 64 random bytes, or two such with a space between \
     them while they change; `echo whsec_$(openssl rand -base64 32)` makes one"
)]
pub(super) struct SecretError;

/// What is signed with: each message by every key, so that a receiver may know either.
pub(super) struct Keys(Vec<hmac::Key>);

impl Keys {
    /// The keys that a configured secret stands for.
    pub(super) fn parse(text: &Secret<String>) -> Result<Self, SecretError> {
        let keys = text.expose().split_ascii_whitespace().map(|one| {
            let encoded = one.strip_prefix(PREFIX).ok_or(SecretError)?;
            let bytes = Secret::new(STANDARD.decode(encoded).map_err(|_| SecretError)?);
            if !SECRET_BYTES.contains(&bytes.expose().len()) {
                return Err(SecretError);
            }
            Ok(hmac::Key::new(hmac::HMAC_SHA256, bytes.expose()))
        });
        let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        if keys.is_empty() || keys.len() > SECRETS_MAX {
            return Err(SecretError);
        }
        Ok(Self(keys))
    }

    /// What stands in `webhook-signature`. Neither `id` nor `time` has a full stop in it, so nothing
    /// else is signed by the same bytes.
    pub(super) fn sign(&self, id: &str, time: u64, body: &[u8]) -> String {
        let signed = [format!("{id}.{time}.").as_bytes(), body].concat();
        let signatures = self
            .0
            .iter()
            .map(|key| format!("v1,{}", STANDARD.encode(hmac::sign(key, &signed))));
        signatures.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Keys, SecretError> {
        Keys::parse(&Secret::new(text.to_owned()))
    }

    /// The example of the specification's own libraries.
    #[test]
    fn a_signature_is_the_one_that_every_library_of_the_standard_expects() {
        let keys = keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn while_secrets_change_both_sign() {
        let (new, old) = (STANDARD.encode([1; 32]), STANDARD.encode([2; 24]));
        let both = keys(&format!("whsec_{new} whsec_{old}\n")).unwrap();
        let signed = both.sign("a", 1, b"{}");
        let one = |it: &str| keys(&format!("whsec_{it}")).unwrap().sign("a", 1, b"{}");
        assert_eq!(signed, format!("{} {}", one(&new), one(&old)));
        assert_ne!(one(&new), one(&old));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (text, is_one) in [
            (of(23), false),
            (of(24), true),
            (of(64), true),
            (of(65), false),
            (String::new(), false),
            ("whsec_".to_owned(), false),
            ("correct horse battery staple and more".to_owned(), false),
            (STANDARD.encode([7; 32]), false),
            (format!("{} {} {}", of(32), of(32), of(32)), false),
            (format!("{} x", of(32)), false),
        ] {
            assert_eq!(keys(&text).is_ok(), is_one, "{text}");
        }
    }
}
