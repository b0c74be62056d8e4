//! DPoP proofs (RFC 9449): a caller shows, for this one request, that it holds the private key.

use vocab::Time;
use vocab::limits::{JTI_BYTES_MAX, PROOF_SECONDS_MAX};

use crate::fresh::{Moment, Stale};
use crate::json::JsonError;
use crate::jwk::{JwkError, PublicKey};
use crate::jws::{self, JwsError, Typ, Unverified};
use crate::replay::{Claim, ReplayCache};
use crate::uri::same_endpoint;

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not a signed token of the right kind, or not by the key it carries.
    #[error("the DPoP proof cannot be used: {0}")]
    Jws(#[from] JwsError),
    /// The key it carries cannot be used.
    #[error("the DPoP proof's key cannot be used: {0}")]
    Key(#[from] JwkError),
    /// A claim is missing or of the wrong type.
    #[error("in the DPoP proof, {0}")]
    Claims(#[from] JsonError),
    /// `jti` is empty or too long.
    #[error("the DPoP proof's `jti` is empty or longer than {JTI_BYTES_MAX} bytes")]
    Jti,
    /// For another method.
    #[error("the DPoP proof's `htm` is not the request's method")]
    Method,
    /// For another endpoint.
    #[error("the DPoP proof's `htu` is not this endpoint; it should be `{expected}`")]
    Uri {
        /// The endpoint.
        expected: String,
    },
    /// Made at the wrong time.
    #[error("the DPoP proof is not fresh: {0}")]
    Stale(#[from] Stale),
    /// For another access token, or for none.
    #[error("the DPoP proof's `ath` is not the hash of the access token")]
    Token,
    /// For another delegation, or for none.
    #[error("the DPoP proof's `delegation` is not the digest of what this request hands on")]
    Delegation,
    /// By another key than the access token's.
    #[error("the DPoP proof is by another key than the access token's")]
    OtherKey,
    /// Used before.
    #[error("the DPoP proof was used before")]
    Replayed,
    /// Too many proofs are remembered; nobody can say whether this one was used.
    #[error("too many proofs are in use to tell whether this one is new")]
    Full,
}

/// What a proof must be for.
#[derive(Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) method: &'a str,
    /// In canonical form.
    pub(crate) uri: &'a str,
    /// The access token's `ath` and `cnf.jkt`; none at the token endpoint.
    pub(crate) token: Option<Bound<'a>>,
    /// What a subject hands on, where that is what it proves.
    pub(crate) delegation: Option<&'a str>,
    pub(crate) moment: Moment,
}

/// The access token that a proof goes with.
#[derive(Debug)]
pub(crate) struct Bound<'a> {
    pub(crate) ath: &'a str,
    pub(crate) jkt: &'a str,
}

/// A key whose proofs were accepted, with the header they came under. A client's header does not
/// change, and so neither header nor key need to be read again.
#[derive(Debug, Clone)]
pub(crate) struct ProofKey {
    header_text: Box<str>,
    key: PublicKey,
}

impl ProofKey {
    pub(crate) fn jkt(&self) -> &str {
        self.key.thumbprint()
    }

    pub(crate) fn into_key(self) -> PublicKey {
        self.key
    }
}

/// Checks a proof and uses it up. Gives its key, if that is not `known` already.
pub(crate) fn accept(
    text: &str,
    known: Option<&ProofKey>,
    expected: &Expected<'_>,
    used: &ReplayCache,
) -> Result<Option<ProofKey>, ProofError> {
    let by_known = known.and_then(|known| {
        let claims = jws::verify_known(text, &known.header_text, &known.key)?;
        Some((claims, known))
    });
    let (claims, key, new) = if let Some((claims, known)) = by_known {
        (claims?, known, None)
    } else {
        let (claims, key) = read(text)?;
        (claims, &key.clone(), Some(key))
    };
    //= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
    //# To validate a DPoP proof, the receiving server MUST ensure the following:
    //= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
    //# All required claims per Section 4.2 are contained in the JWT.
    //= https://www.rfc-editor.org/rfc/rfc9449#section-4.2
    //# The payload of a DPoP proof MUST contain at least the following claims:
    let jti = claims.required_text("jti")?;
    if jti.is_empty() || jti.len() > JTI_BYTES_MAX {
        return Err(ProofError::Jti);
    }
    //= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
    //# The htm claim matches the HTTP method of the current request.
    if claims.required_text("htm")? != expected.method {
        return Err(ProofError::Method);
    }
    //= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
    //# The htu claim matches the HTTP URI value for the HTTP request in which the JWT was received,
    //# ignoring any query and fragment parts.
    if !same_endpoint(claims.required_text("htu")?, expected.uri) {
        return Err(ProofError::Uri {
            expected: expected.uri.to_owned(),
        });
    }
    //= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
    //# The creation time of the JWT, as determined by either the iat claim or a server managed
    //# timestamp via the nonce claim, is within an acceptable window
    //= https://www.rfc-editor.org/rfc/rfc9449#section-11.1
    //# servers MUST only accept DPoP proofs for a limited time after their creation
    let iat = claims.required_seconds("iat")?;
    expected.moment.check(iat, PROOF_SECONDS_MAX)?;
    if let Some(token) = &expected.token {
        //= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
        //# ensure that the value of the ath claim equals the hash of that access token
        //= https://www.rfc-editor.org/rfc/rfc9449#section-4.2
        //# When the DPoP proof is used in conjunction with the presentation of an access token in
        //# protected resource access (see Section 7), the DPoP proof MUST also contain the
        //# following claim:
        //= https://www.rfc-editor.org/rfc/rfc9449#section-7
        //# The DPoP proof MUST include the ath claim with a valid hash of the associated access
        //# token.
        if claims.text("ath")? != Some(token.ath) {
            return Err(ProofError::Token);
        }
        //= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
        //# confirm that the public key to which the access token is bound matches the public key
        //# from the DPoP proof.
        //= https://www.rfc-editor.org/rfc/rfc9449#section-6
        //# Resource servers supporting DPoP MUST ensure that the public key from the DPoP proof
        //# matches the one bound to the access token.
        if key.jkt() != token.jkt {
            return Err(ProofError::OtherKey);
        }
    }
    if expected.delegation.is_some() && claims.text("delegation")? != expected.delegation {
        return Err(ProofError::Delegation);
    }
    let now: Time = expected.moment.now;
    let life = iat..=iat + PROOF_SECONDS_MAX;
    match used.claim(&("proof", key.jkt(), jti), life, now) {
        Claim::First => Ok(new),
        Claim::Again => Err(ProofError::Replayed),
        Claim::Full => Err(ProofError::Full),
    }
}

fn read(text: &str) -> Result<(crate::json::Object, ProofKey), ProofError> {
    //= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
    //# The DPoP HTTP request header field value is a single and well-formed JWT.
    //= https://www.rfc-editor.org/rfc/rfc9449#section-4.2
    //# The JOSE Header of a DPoP JWT MUST contain at least the following parameters:
    //= https://www.rfc-editor.org/rfc/rfc9449#section-5
    //# The DPoP HTTP header field MUST contain a valid DPoP proof JWT.
    let proof = Unverified::parse(text, Typ::Proof)?;
    let jwk = proof
        .header()
        .object("jwk")?
        .ok_or(JsonError::Missing("jwk"))?;
    let key = PublicKey::from_object(jwk)?;
    //= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
    //# The JWT signature verifies with the public key contained in the jwk JOSE Header Parameter.
    let claims = proof.verify(&key)?;
    let header_text = proof.header_text.into();
    Ok((claims, ProofKey { header_text, key }))
}
