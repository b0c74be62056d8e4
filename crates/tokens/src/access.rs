//! The access token: a JWT of the RFC 9068 profile, for one upstream, for five minutes.
//!
//! | claim | is |
//! |---|---|
//! | `iss` | the node |
//! | `aud` | the upstream's URI |
//! | `sub` | the sponsor's handle: for whom |
//! | `client_id` | the agent |
//! | `act.sub` | the instance: who acts (RFC 8693 §4.1) |
//! | `act.act.sub`, … | the instances that delegated, the nearest first: for others to read |
//! | `purpose` | why |
//! | `cnf.jkt` | the key that must be proven (RFC 9449 §6.1); absent in a bearer token |
//!
//! Nothing in it grants: what the instance may do, and who delegated to it, is looked up at each
//! call. What is nested in `act` is not even read.

use std::sync::Arc;

use serde_json::json;
use vocab::{AgentId, Handle, InstanceId, PurposePath};

use crate::json::{JsonError, Object};

/// The claims of an access token that this node signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) audience: String,
    pub(crate) sponsor: Handle,
    pub(crate) agent: AgentId,
    pub(crate) instance: InstanceId,
    /// Those above it, the nearest first. Written, never read.
    pub(crate) delegated_by: Vec<InstanceId>,
    pub(crate) purpose: PurposePath,
    pub(crate) jkt: Option<Arc<str>>,
    pub(crate) token_id: Arc<str>,
    /// Seconds since 1970, like the next.
    pub(crate) issued_at: u64,
    pub(crate) expires_at: u64,
}

impl Claims {
    pub(crate) fn to_json(&self, issuer: &str) -> serde_json::Value {
        // The outermost is the current actor (RFC 8693 §4.1).
        let above = self.delegated_by.iter().rev();
        let above = above.fold(None, |act, id| Some(actor(id, act)));
        let mut claims = json!({
            "iss": issuer,
            "aud": self.audience,
            "sub": self.sponsor,
            "client_id": self.agent,
            "act": actor(&self.instance, above),
            "purpose": self.purpose,
            "jti": *self.token_id,
            "iat": self.issued_at,
            "exp": self.expires_at,
        });
        if let (Some(jkt), Some(claims)) = (&self.jkt, claims.as_object_mut()) {
            //= https://www.rfc-editor.org/rfc/rfc9449#section-6.1
            //# The value of the jkt member MUST be the base64url encoding (as defined in [RFC7515])
            //# of the JWK SHA-256 Thumbprint
            claims.insert("cnf".to_owned(), json!({ "jkt": **jkt }));
        }
        claims
    }

    /// Reads the claims of a token whose signature is ours.
    pub(crate) fn read(claims: &Object, issuer: &str) -> Result<Self, ClaimsError> {
        if claims.required_text("iss")? != issuer {
            return Err(ClaimsError::Issuer);
        }
        //= https://www.rfc-editor.org/rfc/rfc8693#section-4.1
        //# the consumer of a token MUST only consider the token's top-level claims and the party
        //# identified as the current actor by the "act" claim.
        let act = claims.object("act")?.ok_or(JsonError::Missing("act"))?;
        //= https://www.rfc-editor.org/rfc/rfc9449#section-6
        //# Resource servers MUST be able to reliably identify whether an access token is DPoP-bound
        let jkt = match claims.object("cnf")? {
            // A confirmation of another sort must not pass for none.
            Some(cnf) => Some(cnf.required_text("jkt")?.into()),
            None => None,
        };
        Ok(Self {
            audience: claims.required_text("aud")?.to_owned(),
            sponsor: value(claims, "sub")?,
            agent: value(claims, "client_id")?,
            instance: value(act, "sub")?,
            delegated_by: Vec::new(),
            purpose: value(claims, "purpose")?,
            jkt,
            token_id: claims.required_text("jti")?.into(),
            issued_at: claims.required_seconds("iat")?,
            expires_at: claims.required_seconds("exp")?,
        })
    }
}

pub(crate) fn actor(id: &InstanceId, on_behalf_of: Option<serde_json::Value>) -> serde_json::Value {
    match on_behalf_of {
        Some(act) => json!({ "sub": id, "act": act }),
        None => json!({ "sub": id }),
    }
}

fn value<T: std::str::FromStr>(claims: &Object, name: &'static str) -> Result<T, ClaimsError> {
    claims
        .required_text(name)?
        .parse()
        .map_err(|_| ClaimsError::Value(name))
}

/// Why the claims of a token are not those of an access token of this node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// A claim is missing or of the wrong type.
    #[error("in the access token, {0}")]
    Json(#[from] JsonError),
    /// Another node's.
    #[error("the access token's `iss` is not this node")]
    Issuer,
    /// A claim that is not what it should be.
    #[error("the access token's `{0}` cannot be read")]
    Value(&'static str),
}
