//! Tokens that others sign: an `OpenID` provider's ID tokens, a workload's token, an assertion of
//! the company's provider. Their issuers write JWKs and headers in more ways than our own agents
//! do, so what is not understood in them is passed over; what is understood is held strictly.
//!
//! * A key has one family of algorithms by its type, and one algorithm if its JWK says so. The
//!   header's `alg` chooses among those and can do nothing else: there is no `none`, and nothing
//!   symmetric, so a public key can never be taken for a secret.
//! * No key comes from a header: `jku`, `x5u`, `x5c` and `jwk` are not looked at.
//! * Claims are shown only after the signature was checked.

use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use vocab::Time;
use vocab::limits::{CLOCK_LEEWAY_SECONDS, FOREIGN_KEYS_MAX, FOREIGN_TOKEN_BYTES_MAX};

use crate::json::{Json, JsonError, Object};
use crate::jwk::{PublicKey, unb64};

/// Why a token that somebody else signed is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForeignError {
    /// Too long.
    #[error("it is {0} bytes long; at most {FOREIGN_TOKEN_BYTES_MAX} are read")]
    TooLong(usize),
    /// Not a compact JWS.
    #[error("it is not three parts in base64url joined by `.`")]
    Form,
    /// The header or the claims are not strict JSON, or a claim is missing or of the wrong type.
    #[error("in it, {0}")]
    Json(#[from] JsonError),
    /// A header member that changes how the token is read.
    #[error("its header has `{0}`, which is not understood")]
    Member(&'static str),
    /// Of another type.
    #[error("its `typ` is not {0}")]
    Typ(&'static str),
    /// `alg` is not an asymmetric algorithm that is known here.
    #[error("its `alg` is not one that is accepted")]
    Algorithm,
    /// No key of the issuer could have signed it.
    #[error("its issuer has no key with that `kid` for that `alg`")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("its signature is not by its issuer's key")]
    Signature,
    /// By somebody else.
    #[error("its `iss` is not `{0}`")]
    Issuer(String),
    /// For somebody else.
    #[error("its `aud` is not `{0}`")]
    Audience(String),
    /// Its time is over.
    #[error("it expired {0} s ago")]
    Expired(u64),
    /// Its time has not come.
    #[error("it is dated {0} s ahead of this node's clock")]
    Early(u64),
    /// Its time is too long for anything to be remembered about it.
    #[error("it is valid for {seconds} s, and at most {max} are accepted")]
    Lifetime {
        /// For how long it is valid.
        seconds: u64,
        /// The most.
        max: u64,
    },
}

/// A set of keys could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not a JWK set.
    #[error("it is not a JWK set: {0}")]
    Json(#[from] JsonError),
    /// Too many keys.
    #[error("it has more than {FOREIGN_KEYS_MAX} keys")]
    TooMany,
    /// Nothing in it verifies signatures.
    #[error("it has no key that verifies signatures")]
    Empty,
}

/// Signature algorithms of others (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alg {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// What a client or a provider may sign with, as metadata and requests list it.
pub const FOREIGN_ALGORITHMS: [&str; 10] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "Ed25519",
];

impl Alg {
    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }
}

/// A public key of somebody else.
#[derive(Debug, Clone)]
struct Key {
    kid: Option<String>,
    /// The one algorithm that its JWK allows, if it says.
    alg: Option<Alg>,
    material: Material,
}

#[derive(Debug, Clone)]
enum Material {
    /// Modulus and exponent.
    Rsa(Box<[u8]>, Box<[u8]>),
    /// Uncompressed SEC 1.
    P256(Box<[u8]>),
    /// Uncompressed SEC 1.
    P384(Box<[u8]>),
    Ed25519(PublicKey),
}

impl Key {
    /// The key of a JWK; none if it is not one that verifies what we read.
    fn read(jwk: &Object) -> Option<Self> {
        let usage = jwk.text("use").ok()?;
        // `jwt-svid`: the bundles of SPIFFE.
        if usage.is_some_and(|usage| usage != "sig" && usage != "jwt-svid") {
            return None;
        }
        let alg = match jwk.text("alg").ok()? {
            Some(alg) => Some(Alg::read(alg)?),
            None => None,
        };
        let part = |name| unb64(jwk.text(name).ok()??);
        let point = |length: usize| {
            let (x, y) = (part("x")?, part("y")?);
            let right = x.len() == length && y.len() == length;
            right.then(|| [&[4], &*x, &*y].concat().into_boxed_slice())
        };
        let material = match (jwk.text("kty").ok()??, jwk.text("crv").ok()?) {
            ("RSA", _) => Material::Rsa(part("n")?.into(), part("e")?.into()),
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => {
                let bare = serde_json::json!({
                    "kty": "OKP", "crv": "Ed25519", "x": jwk.text("x").ok()??,
                });
                Material::Ed25519(PublicKey::from_jwk(bare.to_string().as_bytes()).ok()?)
            }
            _ => return None,
        };
        let kid = jwk.text("kid").ok()?.map(str::to_owned);
        let key = Self { kid, alg, material };
        // A JWK that names an algorithm of another type of key verifies nothing.
        key.alg.is_none_or(|alg| key.fits(alg)).then_some(key)
    }

    fn fits(&self, alg: Alg) -> bool {
        self.algorithm(alg).is_some()
            || matches!((&self.material, alg), (Material::Ed25519(_), Alg::EdDsa))
    }

    /// What `ring` calls the algorithm, if the key is of its type.
    fn algorithm(&self, alg: Alg) -> Option<Verifies> {
        use signature as s;
        Some(match (&self.material, alg) {
            (Material::Rsa(..), Alg::Rs256) => Verifies::Rsa(&s::RSA_PKCS1_2048_8192_SHA256),
            (Material::Rsa(..), Alg::Rs384) => Verifies::Rsa(&s::RSA_PKCS1_2048_8192_SHA384),
            (Material::Rsa(..), Alg::Rs512) => Verifies::Rsa(&s::RSA_PKCS1_2048_8192_SHA512),
            (Material::Rsa(..), Alg::Ps256) => Verifies::Rsa(&s::RSA_PSS_2048_8192_SHA256),
            (Material::Rsa(..), Alg::Ps384) => Verifies::Rsa(&s::RSA_PSS_2048_8192_SHA384),
            (Material::Rsa(..), Alg::Ps512) => Verifies::Rsa(&s::RSA_PSS_2048_8192_SHA512),
            (Material::P256(_), Alg::Es256) => Verifies::Ec(&s::ECDSA_P256_SHA256_FIXED),
            (Material::P384(_), Alg::Es384) => Verifies::Ec(&s::ECDSA_P384_SHA384_FIXED),
            _ => return None,
        })
    }

    fn verifies(&self, alg: Alg, message: &[u8], signature: &[u8]) -> bool {
        match (&self.material, self.algorithm(alg)) {
            (Material::Rsa(n, e), Some(Verifies::Rsa(parameters))) => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(parameters, message, signature).is_ok()
            }
            (Material::P256(point) | Material::P384(point), Some(Verifies::Ec(algorithm))) => {
                let key = UnparsedPublicKey::new(algorithm, point);
                key.verify(message, signature).is_ok()
            }
            (Material::Ed25519(key), _) if alg == Alg::EdDsa => signature
                .try_into()
                .is_ok_and(|signature| key.verifies(message, signature)),
            _ => false,
        }
    }
}

enum Verifies {
    Rsa(&'static signature::RsaParameters),
    Ec(&'static dyn VerificationAlgorithm),
}

/// The keys of an issuer (RFC 7517 §5).
#[derive(Debug, Clone)]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a JWK set. Keys that are for something else, or of a type that is not known here, are
    /// passed over; a set of nothing else is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeySetError> {
        let set = Object::parse(bytes)?;
        let Some(Json::List(list)) = set.get("keys") else {
            return Err(JsonError::Missing("keys").into());
        };
        if list.len() > FOREIGN_KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let keys: Vec<Key> = list
            .iter()
            .filter_map(|jwk| match jwk {
                Json::Object(jwk) => Key::read(jwk),
                Json::Other | Json::Number(_) | Json::Text(_) | Json::List(_) => None,
            })
            .collect();
        if keys.is_empty() {
            return Err(KeySetError::Empty);
        }
        Ok(Self(keys))
    }

    /// How many keys verify signatures.
    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }
}

/// The kinds of foreign token, each with its `typ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignTyp {
    /// An ID token or a workload's token: absent, `JWT` or `JOSE`. The kinds that say what else
    /// they are, access tokens and identity assertions among them, are not this one.
    Identity,
    /// A client's assertion (RFC 7523): absent, `JWT` or `client-authentication+jwt`.
    Client,
    /// `oauth-id-jag+jwt`.
    IdJag,
    /// A security event (RFC 8417): `secevent+jwt`. It says that something happened, and lets
    /// nobody in.
    SecurityEvent,
}

/// A foreign token of the right form, whose signature nobody has checked.
#[derive(Debug)]
pub struct Foreign<'a> {
    header: Object,
    alg: Alg,
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

impl<'a> Foreign<'a> {
    /// Whether a text says of itself that it is an identity assertion. Chooses who looks at it.
    pub fn is_id_jag(text: &'a str) -> bool {
        Self::parse(text, ForeignTyp::IdJag).is_ok()
    }

    /// Reads the form and the header.
    pub fn parse(text: &'a str, typ: ForeignTyp) -> Result<Self, ForeignError> {
        if text.len() > FOREIGN_TOKEN_BYTES_MAX {
            return Err(ForeignError::TooLong(text.len()));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(ForeignError::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(ForeignError::Form)?;
        if payload.contains('.') {
            return Err(ForeignError::Form);
        }
        let header = unb64(header).ok_or(ForeignError::Form)?;
        let header = Object::parse(&header)?;
        //= https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11
        //# If any of the listed extension Header
        //# Parameters are not understood and supported by the recipient, then
        //# the JWS is invalid.
        for name in ["crit", "b64"] {
            if header.has(name) {
                return Err(ForeignError::Member(name));
            }
        }
        let named = header.text("typ")?;
        let is = |name: &str| named.is_some_and(|typ| typ.eq_ignore_ascii_case(name));
        let (good, expected) = match typ {
            ForeignTyp::Identity => (named.is_none() || is("JWT") || is("JOSE"), "`JWT`"),
            ForeignTyp::Client => (
                named.is_none() || is("JWT") || is("client-authentication+jwt"),
                "`JWT` or `client-authentication+jwt`",
            ),
            ForeignTyp::IdJag => (
                is("oauth-id-jag+jwt") || is("application/oauth-id-jag+jwt"),
                "`oauth-id-jag+jwt`",
            ),
            ForeignTyp::SecurityEvent => (
                is("secevent+jwt") || is("application/secevent+jwt"),
                "`secevent+jwt`",
            ),
        };
        if !good {
            return Err(ForeignError::Typ(expected));
        }
        let alg = Alg::read(header.required_text("alg")?).ok_or(ForeignError::Algorithm)?;
        let signature = unb64(signature).ok_or(ForeignError::Form)?;
        Ok(Self {
            header,
            alg,
            signed,
            payload,
            signature,
        })
    }

    /// Claims that nobody vouches for yet: good for finding the issuer, and for nothing else.
    pub(crate) fn claimed(&self) -> Result<Object, ForeignError> {
        let bytes = unb64(self.payload).ok_or(ForeignError::Form)?;
        Ok(Object::parse(&bytes)?)
    }

    /// What is signed: it names the token however its signature is written.
    pub(crate) const fn signed(&self) -> &str {
        self.signed
    }

    /// The claims, if a key of the set signed them.
    pub fn verify(&self, keys: &KeySet) -> Result<Claims, ForeignError> {
        let kid = self.header.text("kid")?;
        let mut fitting = keys
            .0
            .iter()
            .filter(|key| kid.is_none() || key.kid.as_deref() == kid)
            .filter(|key| key.fits(self.alg) && key.alg.is_none_or(|alg| alg == self.alg))
            .peekable();
        if fitting.peek().is_none() {
            return Err(ForeignError::UnknownKey);
        }
        if !fitting.any(|key| key.verifies(self.alg, self.signed.as_bytes(), &self.signature)) {
            return Err(ForeignError::Signature);
        }
        Ok(Claims(self.claimed()?))
    }

    /// The claims as they were written, if a key of the set signed them: for who reads them by
    /// other rules than those of tokens that let somebody in.
    pub(crate) fn verify_bytes(&self, keys: &KeySet) -> Result<Vec<u8>, ForeignError> {
        self.verify(keys)?;
        unb64(self.payload).ok_or(ForeignError::Form)
    }
}

/// What must hold of a token whoever signed it.
#[derive(Debug)]
pub struct Expected<'a> {
    /// `iss`, letter by letter; none where the keys stand for the issuer (SPIFFE bundles).
    pub issuer: Option<&'a str>,
    /// One of these must be in `aud`.
    pub audiences: &'a [&'a str],
    /// The longest time from `iat` to `exp`, in seconds.
    pub lifetime_max: u64,
    /// Now.
    pub now: Time,
}

/// Claims that their issuer signed.
#[derive(Debug, Clone)]
pub struct Claims(pub(crate) Object);

impl Claims {
    /// Whether they are by the issuer, for us, and for now.
    pub fn check(&self, expected: &Expected<'_>) -> Result<(), ForeignError> {
        if let Some(issuer) = expected.issuer
            && self.0.required_text("iss")? != issuer
        {
            return Err(ForeignError::Issuer(issuer.to_owned()));
        }
        let audiences = self.audiences()?;
        if !audiences.iter().any(|aud| expected.audiences.contains(aud)) {
            let first = expected.audiences.first().copied().unwrap_or_default();
            return Err(ForeignError::Audience(first.to_owned()));
        }
        let now = expected.now.as_secs();
        let expires = self.expires_at()?;
        if expires + CLOCK_LEEWAY_SECONDS <= now {
            return Err(ForeignError::Expired(now - expires));
        }
        let made = self.0.seconds("iat")?;
        let not_before = self.0.seconds("nbf")?;
        let earliest = made.max(not_before).unwrap_or(0);
        if earliest > now + CLOCK_LEEWAY_SECONDS {
            return Err(ForeignError::Early(earliest - now));
        }
        let seconds = expires.saturating_sub(made.unwrap_or(now));
        if seconds > expected.lifetime_max {
            let max = expected.lifetime_max;
            return Err(ForeignError::Lifetime { seconds, max });
        }
        Ok(())
    }

    /// When they expire, in seconds.
    pub fn expires_at(&self) -> Result<u64, ForeignError> {
        Ok(self.0.required_seconds("exp")?)
    }

    /// A claim that is a string.
    pub fn text(&self, name: &'static str) -> Result<&str, ForeignError> {
        Ok(self.0.required_text(name)?)
    }

    /// A claim of that name that is a string, whatever else it may be.
    pub fn any_text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Json::Text(text) => Some(text),
            Json::Other | Json::Number(_) | Json::List(_) | Json::Object(_) => None,
        }
    }

    /// `aud`: one, or a list.
    pub(crate) fn audiences(&self) -> Result<Vec<&str>, ForeignError> {
        match self.0.get("aud") {
            None => Err(JsonError::Missing("aud").into()),
            Some(Json::Text(one)) => Ok(vec![one]),
            Some(Json::List(list)) => Ok(list
                .iter()
                .filter_map(|one| match one {
                    Json::Text(text) => Some(&**text),
                    Json::Other | Json::Number(_) | Json::List(_) | Json::Object(_) => None,
                })
                .collect()),
            Some(_) => Err(JsonError::Type {
                name: "aud",
                expected: "a string or a list of strings",
            }
            .into()),
        }
    }
}

/// Reads a text as every kind of foreign token, and bytes as a set of keys; whether it is either.
/// For property tests and fuzz targets: whatever the bytes, it returns.
#[doc(hidden)]
pub fn read_foreign(text: &str) -> bool {
    let keys = KeySet::parse(text.as_bytes());
    let mut taken = keys.is_ok();
    for typ in [
        ForeignTyp::Identity,
        ForeignTyp::Client,
        ForeignTyp::IdJag,
        ForeignTyp::SecurityEvent,
    ] {
        if let Ok(token) = Foreign::parse(text, typ) {
            taken = true;
            drop(token.claimed());
            drop(keys.as_ref().map(|keys| token.verify(keys)));
        }
    }
    taken
}
