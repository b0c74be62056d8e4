//! Public keys as they are kept, in JWK form reduced to what identifies a key, and thumbprints of
//! keys. To use one is for `tokens`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A public key that may sign: Ed25519 or P-256. Coordinates are 32 bytes; whether they lie on the
/// curve is for the signature library to say.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub enum PublicJwk {
    /// `kty` `OKP`, `crv` `Ed25519`; signs with `EdDSA`.
    Ed25519 {
        /// The public key.
        x: Coordinate,
    },
    /// `kty` `EC`, `crv` `P-256`; signs with `ES256`.
    P256 {
        /// First coordinate.
        x: Coordinate,
        /// Second coordinate.
        y: Coordinate,
    },
}

/// 32 bytes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Coordinate([u8; 32]);

impl Coordinate {
    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Their base64url form, as in a JWK.
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    fn read(member: &'static str, text: &str) -> Result<Self, JwkError> {
        URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(JwkError::Coordinate { member })
    }
}

/// Why a JSON value is not a public key that may be registered.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum JwkError {
    /// Not an object.
    #[error("a JWK is a JSON object")]
    NotAnObject,
    /// A member of a private or symmetric key. The value is not repeated.
    #[error("the JWK holds the private member `{member}`; give only the public key")]
    Private {
        /// The member.
        member: &'static str,
    },
    /// A member that is not there or not a text.
    #[error("the JWK's `{member}` is missing or not a text")]
    Missing {
        /// The member.
        member: &'static str,
    },
    /// Another sort of key.
    #[error("keys are `OKP`/`Ed25519` or `EC`/`P-256`; this one is another sort")]
    Sort,
    /// A coordinate of another length, or not base64url.
    #[error("the JWK's `{member}` is not 32 bytes in base64url without padding")]
    Coordinate {
        /// The member.
        member: &'static str,
    },
}

/// Members that only a private or symmetric key has (RFC 7518 §6).
const PRIVATE: [&str; 8] = ["d", "k", "p", "q", "dp", "dq", "qi", "oth"];

impl PublicJwk {
    /// Reads a JWK as a person gives it: private members are refused, and members that do not
    /// identify the key are dropped.
    pub fn parse(jwk: &Value) -> Result<Self, JwkError> {
        let members = jwk.as_object().ok_or(JwkError::NotAnObject)?;
        for member in PRIVATE {
            if members.contains_key(member) {
                return Err(JwkError::Private { member });
            }
        }
        let text = |member: &'static str| {
            members
                .get(member)
                .and_then(Value::as_str)
                .ok_or(JwkError::Missing { member })
        };
        Self::new(text("kty")?, text("crv")?, text("x")?, text("y").ok())
    }

    fn new(kty: &str, crv: &str, x: &str, y: Option<&str>) -> Result<Self, JwkError> {
        match (kty, crv, y) {
            ("OKP", "Ed25519", None) => Ok(Self::Ed25519 {
                x: Coordinate::read("x", x)?,
            }),
            ("EC", "P-256", Some(y)) => Ok(Self::P256 {
                x: Coordinate::read("x", x)?,
                y: Coordinate::read("y", y)?,
            }),
            ("EC", "P-256", None) => Err(JwkError::Missing { member: "y" }),
            _ => Err(JwkError::Sort),
        }
    }
}

/// The form in which a key is written: exactly these members.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    kty: String,
    crv: String,
    x: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<String>,
}

impl From<PublicJwk> for Wire {
    fn from(jwk: PublicJwk) -> Self {
        let (kty, crv, x, y) = match jwk {
            PublicJwk::Ed25519 { x } => ("OKP", "Ed25519", x, None),
            PublicJwk::P256 { x, y } => ("EC", "P-256", x, Some(y.text())),
        };
        Self {
            kty: kty.to_owned(),
            crv: crv.to_owned(),
            x: x.text(),
            y,
        }
    }
}

impl TryFrom<Wire> for PublicJwk {
    type Error = JwkError;

    fn try_from(wire: Wire) -> Result<Self, JwkError> {
        Self::new(&wire.kty, &wire.crv, &wire.x, wire.y.as_deref())
    }
}

/// An RFC 7638 SHA-256 thumbprint of a key: `jkt`. Text form: base64url, 43 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// A text that is not a thumbprint.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("a key's thumbprint is 32 bytes in base64url without padding")]
pub struct ThumbprintError;

impl FromStr for Thumbprint {
    type Err = ThumbprintError;

    fn from_str(text: &str) -> Result<Self, ThumbprintError> {
        URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(ThumbprintError)
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Thumbprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Thumbprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn check(jwk: &Value, expected: Result<(), JwkError>) {
        assert_eq!(PublicJwk::parse(jwk).err(), expected.err(), "{jwk}");
    }

    #[test]
    fn public_keys_are_read_and_others_refused() {
        check(
            &json!({"kty":"OKP","crv":"Ed25519","x":X,"kid":"k","alg":"EdDSA","ext":true}),
            Ok(()),
        );
        check(&json!({"kty":"EC","crv":"P-256","x":X,"y":X}), Ok(()));
        let private = |member| Err(JwkError::Private { member });
        let okp = |x: &str| json!({"kty":"OKP","crv":"Ed25519","x":x});
        check(
            &json!({"kty":"OKP","crv":"Ed25519","x":X,"d":X}),
            private("d"),
        );
        check(&json!({"kty":"oct","k":"AAAA"}), private("k"));
        check(&json!([]), Err(JwkError::NotAnObject));
        check(
            &json!({"kty":"RSA","n":"AQAB","e":"AQAB"}),
            Err(JwkError::Missing { member: "crv" }),
        );
        check(
            &json!({"kty":"OKP","crv":"X25519","x":X}),
            Err(JwkError::Sort),
        );
        check(
            &json!({"kty":"EC","crv":"P-256","x":X}),
            Err(JwkError::Missing { member: "y" }),
        );
        // Short, padded, and with a stray bit at the end.
        for x in [
            String::new(),
            "AAAA".to_owned(),
            format!("{X}="),
            X.replace("Ro", "Rp"),
        ] {
            check(&okp(&x), Err(JwkError::Coordinate { member: "x" }));
        }
    }

    #[test]
    fn a_written_key_has_its_members_and_no_other() {
        let text = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}"}}"#);
        let key: PublicJwk = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&key).unwrap(), text);
        let more = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}","d":"{X}"}}"#);
        assert!(serde_json::from_str::<PublicJwk>(&more).is_err());
    }

    #[test]
    fn a_thumbprint_reads_what_it_shows() {
        // RFC 8037 appendix A.3.
        let text = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
        assert_eq!(text.parse::<Thumbprint>().unwrap().to_string(), text);
        assert_eq!("kPrK".parse::<Thumbprint>(), Err(ThumbprintError));
    }
}
