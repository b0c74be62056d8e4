//! Telling an authorization server of others for whom a call is made (RFC 8693 §2.1).
//!
//! Two tokens of a minute, good at that server only: one is about the sponsor and says which instance
//! may act for them, the other is about the instance. The server gives a token of its own for the two.
//!
//! | claim | of the subject token | of the actor token |
//! |---|---|---|
//! | `iss` | the node | the node |
//! | `aud` | the authorization server | the authorization server |
//! | `sub` | the sponsor, as the company's provider knows them | the instance |
//! | `may_act` | the instance | – |
//! | `act` | the instances that delegated, the nearest first, if any did | – |
//! | `client_id` | – | the agent |
//!
//! Nothing of ours takes them: they are of another `typ` than access tokens are, and for somebody else.

use std::time::Duration;

use register::{Identity, Why};
use serde_json::{Value, json};
use vocab::rng::{self, RngError};
use vocab::{AgentId, InstanceId, Secret, UpstreamName};

use crate::access;
use crate::issuer::Issuer;
use crate::jwk::b64;
use crate::jws;
use crate::signer::SignError;

/// How long the two are good: they are used at once.
const LIFE: Duration = Duration::from_mins(1);

/// What an authorization server knows sponsors by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectName {
    /// What the company's directory calls them.
    ExternalId,
    /// Their id here.
    Id,
}

/// Two tokens that say for whom a call is made, and who makes it.
#[derive(Debug)]
pub struct Vouched {
    /// About the sponsor.
    pub subject: Secret<String>,
    /// About the instance.
    pub actor: Secret<String>,
}

/// Why nobody is vouched for.
#[derive(Debug, thiserror::Error)]
pub enum VouchError {
    /// The instance may not act.
    #[error("the instance may not act: {0}")]
    Standing(Why),
    /// It is not known who the sponsor is.
    #[error("who the sponsor is cannot be said: it was erased, or its key is not at hand")]
    Nameless,
    /// The directory's name of the sponsor is not known.
    #[error(
        "the sponsor has no external id, which the authorization server is to know them by; \
         `tipstaff sponsor link` gives them one, or write `subject = \"id\"`"
    )]
    NoExternalId,
    /// There is no randomness.
    #[error(transparent)]
    Rng(#[from] RngError),
    /// It was not signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// What one moment says of an instance.
struct Stood {
    sponsor: String,
    agent: AgentId,
    /// The instances that delegated, the nearest first.
    above: Vec<InstanceId>,
}

impl Issuer {
    /// Vouches, towards `audience`, for an instance that may act and call the upstream at this moment.
    pub async fn vouch(
        &self,
        instance: &InstanceId,
        upstream: &UpstreamName,
        name: SubjectName,
        audience: &str,
    ) -> Result<Vouched, VouchError> {
        let stood = self.stood(instance, upstream, name)?;
        let issuer = self.public_url().as_str();
        let actor = json!({"iss": issuer, "sub": instance});
        //= https://www.rfc-editor.org/rfc/rfc8693#section-4.4
        //# makes a statement that one party is authorized to become the actor and act on behalf of
        //# another party
        let mut subject = json!({"sub": stood.sponsor, "may_act": actor});
        let above = stood.above.iter().rev();
        let above = above.fold(None, |act, id| Some(access::actor(id, act)));
        if let (Some(above), Some(claims)) = (above, subject.as_object_mut()) {
            claims.insert("act".to_owned(), above);
        }
        let actor = json!({"sub": instance, "client_id": stood.agent});
        Ok(Vouched {
            subject: self.addressed(subject, audience).await?,
            actor: self.addressed(actor, audience).await?,
        })
    }

    fn stood(
        &self,
        instance: &InstanceId,
        upstream: &UpstreamName,
        name: SubjectName,
    ) -> Result<Stood, VouchError> {
        let now = self.moment().now;
        let standing = self.control().standing_at(instance, upstream, now);
        standing.active().map_err(VouchError::Standing)?;
        let found = self.control().view(|state| {
            let instance = state.instance(instance)?;
            let above = state.ancestors(instance);
            let above = above.map(|it| it.id.clone()).collect();
            let sponsor = state.sponsor(&instance.sponsor)?;
            Some((instance.agent.clone(), above, sponsor.identity.clone()))
        });
        let Some((agent, above, Identity::Named(person))) = found else {
            return Err(VouchError::Nameless);
        };
        let sponsor = match name {
            SubjectName::Id => person.id.to_string(),
            SubjectName::ExternalId => {
                let id = person.external_id.as_ref();
                id.ok_or(VouchError::NoExternalId)?.as_str().to_owned()
            }
        };
        Ok(Stood {
            sponsor,
            agent,
            above,
        })
    }

    /// A token of these claims, for somebody else.
    async fn addressed(
        &self,
        mut claims: Value,
        audience: &str,
    ) -> Result<Secret<String>, VouchError> {
        let now = self.moment().now.as_secs();
        let id = b64(&rng::bytes::<16>(self.rng())?);
        let common = [
            ("iss", json!(self.public_url().as_str())),
            ("aud", json!(audience)),
            ("jti", json!(id)),
            ("iat", json!(now)),
            ("exp", json!(now + LIFE.as_secs())),
        ];
        if let Some(claims) = claims.as_object_mut() {
            claims.extend(common.map(|(name, value)| (name.to_owned(), value)));
        }
        Ok(Secret::new(self.signed_as("JWT", &claims).await?))
    }

    /// A token of these claims, signed by the key that signs at this moment.
    pub(crate) async fn signed_as(&self, typ: &str, claims: &Value) -> Result<String, SignError> {
        let signer = self.signer()?;
        let key = signer.public();
        let header = jws::header(&json!({
            "typ": typ,
            "alg": key.algorithm().as_str(),
            "kid": &**key.thumbprint(),
        }));
        let text = jws::unsigned(&header, claims);
        let signature = signer.sign(text.as_bytes()).await?;
        Ok(jws::signed(text, &signature))
    }
}
