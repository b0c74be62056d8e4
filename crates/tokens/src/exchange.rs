//! Token exchange (RFC 8693): an instance starts another, with a part of what it may do.
//!
//! Two things must be shown. That the *subject*, the instance that delegates, wants it: its access
//! token alone does not show that, since a token is handed around. It is bound to a key, and that
//! key signs a proof over everything that is handed on and to whom (`subject_token_proof`, see
//! [`delegation_digest`]). And that the *client* is an agent that the new instance may be one of: by
//! its own assertion, or, where it is the subject's agent, by what the subject showed.
//!
//! A credential for one call (`arguments_sha256`) has the subject for its holder, so that the proof
//! in the `DPoP` header shows both.

use std::sync::Arc;
use std::time::Duration;

use ledger::{Actor, ActorKind};
use register::{Command, CommandError, Delegation, Refusal};
use vocab::authority::AuthorityError;
use vocab::{AgentId, Authority, Digest, Secret};

use crate::access::Claims;
use crate::dpop;
use crate::form::Form;
use crate::fresh::Moment;
use crate::issuer::{Granted, Issuer, TokenError, binding};
use crate::jwk::{PublicKey, b64};
use crate::request::{ClaimedClient, RequestError, TokenRequest};
use crate::verify::VerifyError;

/// The grant.
pub(crate) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The only type of token that is taken and given.
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Why an exchange gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The token of the instance that would delegate is no good.
    #[error("the subject token is not accepted: {0}")]
    Subject(VerifyError),
    /// Whoever sent it did not show that the instance that delegates wants it.
    #[error(
        "the subject token is bound to a key; `subject_token_proof` has to be a DPoP proof by that \
         key, with `ath` and `delegation`"
    )]
    NoProof,
    /// Nobody showed anything.
    #[error(
        "the subject token is not bound to a key, and so does not show who sends it; authenticate \
         as its agent, with `client_assertion`"
    )]
    Unproven,
    /// A bearer token of another agent: found, or stolen.
    #[error(
        "the subject token is another agent's and not bound to a key; only its own agent exchanges \
         such a token"
    )]
    Anothers,
    /// `client_id` names an agent that did not authenticate itself.
    #[error("`client_id` is not the agent of the subject token; authenticate as that agent")]
    Client,
    /// What is to be handed on cannot be read.
    #[error(transparent)]
    Details(#[from] AuthorityError),
}

impl ExchangeError {
    /// The `error` of the answer, whose status is 400, but for [`Self::Unproven`].
    pub(crate) const fn oauth_code(&self) -> &'static str {
        match self {
            //= https://www.rfc-editor.org/rfc/rfc8693#section-2.2.2
            //# If the request itself is not valid or if either the "subject_token" or
            //# "actor_token" are invalid for any reason, or are unacceptable based on policy,
            //# the authorization server MUST construct an error response, as specified in
            //# Section 5.2 of [RFC6749].
            //= https://www.rfc-editor.org/rfc/rfc8693#section-2.2.2
            //# The value of the "error" parameter MUST be the "invalid_request" error code.
            Self::Subject(_) | Self::Anothers | Self::Client => "invalid_request",
            Self::NoProof => "invalid_dpop_proof",
            Self::Unproven => "invalid_client",
            //= https://www.rfc-editor.org/rfc/rfc9396#section-5
            //# The AS MUST refuse to process any unknown authorization details type
            //# or authorization details not conforming to the respective type
            //# definition.
            //= https://www.rfc-editor.org/rfc/rfc9396#section-5
            //# The AS MUST abort processing and respond with an error invalid_authorization_details
            //# to the client if any of the following are true of the objects in the
            //# authorization_details structure:
            Self::Details(_) => "invalid_authorization_details",
        }
    }
}

/// A request to exchange a token. Nothing in it is verified.
pub(crate) struct Exchange {
    subject: Secret<String>,
    subject_proof: Option<String>,
    client: Option<ClaimedClient>,
    client_id: Option<String>,
    asked: Asked,
}

/// What is to be handed on, in the words of the request.
#[derive(Default)]
struct Asked {
    details: Option<String>,
    max_calls: Option<String>,
    purpose: Option<String>,
    resource: Option<String>,
    expiry: Option<String>,
}

impl Exchange {
    pub(crate) fn parse(
        form: &Form<'_>,
        client: Option<ClaimedClient>,
    ) -> Result<Self, RequestError> {
        //= https://www.rfc-editor.org/rfc/rfc8693#section-2.1
        //# subject_token REQUIRED. A security token that represents the identity of the party on
        //# behalf of whom the request is being made.
        let subject = form
            .get("subject_token")
            .ok_or(RequestError::Missing("subject_token"))?;
        //= https://www.rfc-editor.org/rfc/rfc8693#section-2.1
        //# subject_token_type REQUIRED. An identifier, as described in Section 3, that indicates
        //# the type of the security token in the "subject_token" parameter.
        let types = [
            ("subject_token_type", None),
            ("requested_token_type", Some(ACCESS_TOKEN)),
        ];
        for (name, default) in types {
            let kind = form.get(name).or(default);
            if kind.ok_or(RequestError::Missing(name))? != ACCESS_TOKEN {
                return Err(RequestError::TokenType(name));
            }
        }
        //= https://www.rfc-editor.org/rfc/rfc8693#section-2.1
        //# This is REQUIRED when the "actor_token" parameter is present in the request but MUST NOT
        //# be included otherwise.
        // Who acts is who is started, and that is for the register to say.
        if form.get("actor_token").is_some() || form.get("actor_token_type").is_some() {
            return Err(RequestError::ActorToken);
        }
        if form.get("audience").is_some() {
            return Err(RequestError::Audience);
        }
        let text = |name| form.get(name).map(str::to_owned);
        Ok(Self {
            subject: Secret::new(subject.to_owned()),
            subject_proof: text("subject_token_proof"),
            client,
            client_id: text("client_id"),
            asked: Asked {
                details: text("authorization_details"),
                max_calls: text("max_calls"),
                purpose: text("purpose"),
                resource: text("resource"),
                expiry: text("requested_expiry"),
            },
        })
    }
}

impl Asked {
    fn digest(&self, agent: &AgentId, key: Option<&PublicKey>) -> String {
        delegation_digest(&[
            Some(agent.as_str()),
            key.map(|key| &**key.thumbprint()),
            self.details.as_deref(),
            self.max_calls.as_deref(),
            self.purpose.as_deref(),
            self.resource.as_deref(),
            self.expiry.as_deref(),
        ])
    }

    fn number(text: Option<&String>, name: &'static str) -> Result<Option<u64>, RequestError> {
        text.map(|text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|number| digits && *number > 0);
            number.ok_or(RequestError::Number(name))
        })
        .transpose()
    }
}

/// What `delegation` in a subject's proof is: SHA-256, as base64url, of the digests, each SHA-256, of
/// the new instance's agent, the thumbprint of its key, and the values of `authorization_details`,
/// `max_calls`, `purpose`, `resource` and `requested_expiry`, in this order. What is absent is empty.
pub(crate) fn delegation_digest(parts: &[Option<&str>; 7]) -> String {
    let digests = parts.map(|part| Digest::of(part.unwrap_or_default().as_bytes()));
    let digests: Vec<&[u8]> = digests.iter().map(|it| it.as_bytes().as_slice()).collect();
    b64(Digest::of_parts(&digests).as_bytes())
}

impl Issuer {
    /// Has the register start an instance below that of the subject token.
    pub(crate) async fn by_exchange(
        &self,
        request: &TokenRequest,
        exchange: &Exchange,
        moment: Moment,
    ) -> Result<Granted, TokenError> {
        let asked = &exchange.asked;
        let subject = self.subject(exchange.subject.expose(), moment)?;
        let authority = asked.details.as_deref().map(|text| self.authority(text));
        let authority = authority.transpose().map_err(ExchangeError::Details)?;
        let once = authority
            .iter()
            .flat_map(Authority::details)
            .any(|detail| detail.arguments_sha256().is_some());
        let max_calls = Asked::number(asked.max_calls.as_ref(), "max_calls")?;
        let lifetime = Asked::number(asked.expiry.as_ref(), "requested_expiry")?;
        let upstream = self.upstream(request)?;
        let client = match &exchange.client {
            Some(claimed) => Some(self.authenticate(claimed, self.token_endpoint(), moment)?),
            None => None,
        };
        let agent = match &client {
            Some(client) => client.agent.clone(),
            None => subject.agent.clone(),
        };
        if exchange
            .client_id
            .as_ref()
            .is_some_and(|id| *id != agent.as_str())
        {
            return Err(ExchangeError::Client.into());
        }
        let key = self.possession(request, moment)?;
        let jkt = key.as_ref().map(|key| &**key.thumbprint());
        match &subject.jkt {
            None if client.is_none() => return Err(ExchangeError::Unproven.into()),
            None if agent != subject.agent => return Err(ExchangeError::Anothers.into()),
            None => {}
            // The holder stays who it is, and has just proven it.
            Some(held) if once && jkt == Some(held) => {}
            Some(held) => {
                let digest = asked.digest(&agent, key.as_ref());
                self.wanted(exchange, held, &digest, moment)?;
            }
        }
        let purpose = match &request.purpose {
            Some(purpose) => purpose.clone(),
            None => subject.purpose,
        };
        let delegation = Delegation {
            parent: subject.instance.clone(),
            agent,
            kid: client.map(|client| client.kid),
            once,
            purpose,
            binding: binding(key.as_ref())?,
            upstream: upstream.clone(),
            authority: authority.map(Arc::new),
            max_calls,
            lifetime: lifetime.map(Duration::from_secs),
        };
        let actor = Actor {
            kind: ActorKind::Instance,
            id: subject.instance.to_string(),
            credential: match &subject.jkt {
                Some(_) => "dpop",
                None => "bearer",
            }
            .to_owned(),
            verified: true,
        };
        let command = Command::Delegate(Box::new(delegation));
        match self.start(actor, command, upstream, key).await {
            Err(TokenError::Register(CommandError::Refused(Refusal::ParentNarrowed {
                why,
                ..
            }))) => Err(ExchangeError::Subject(VerifyError::Narrowed(why)).into()),
            done => done,
        }
    }

    /// What the subject token says, if it is one of this node's, in its time, and its instance may
    /// act: it and all that stands above it, as the register has it and not as the token says.
    fn subject(&self, token: &str, moment: Moment) -> Result<Claims, ExchangeError> {
        //= https://www.rfc-editor.org/rfc/rfc8693#section-4.1
        //# For the purpose of applying access control policy, the consumer of a token MUST only
        //# consider the token's top-level claims and the party identified as the current actor by
        //# the "act" claim.
        //= https://www.rfc-editor.org/rfc/rfc8693#section-2.1
        //# In processing the request, the authorization server MUST perform the appropriate
        //# validation procedures for the indicated token type and, if the actor token is present,
        //# also perform the appropriate validation procedures for its indicated token type.
        let signed = self.signed(token, moment.now);
        let (claims, _) = signed.map_err(ExchangeError::Subject)?;
        let now = moment.now.as_secs();
        if claims.expires_at <= now {
            return Err(ExchangeError::Subject(VerifyError::Expired {
                seconds: now - claims.expires_at,
            }));
        }
        let standing = self.control().standing(&claims.instance, moment.now);
        match standing.active() {
            Ok(_) => Ok(claims),
            Err(why) => Err(ExchangeError::Subject(VerifyError::Narrowed(why))),
        }
    }

    /// `authorization_details`, whose locations are upstreams of this node, by URI or by name.
    fn authority(&self, text: &str) -> Result<Authority, AuthorityError> {
        Authority::parse(text, |location| {
            let named = self.public_url().upstream_of(location);
            let named = named.or_else(|| location.parse().ok());
            named.filter(|upstream| self.serves(upstream))
        })
    }

    /// Whether the holder of the subject's key wants exactly this.
    fn wanted(
        &self,
        exchange: &Exchange,
        held: &str,
        digest: &str,
        moment: Moment,
    ) -> Result<(), TokenError> {
        let proof = exchange.subject_proof.as_deref();
        let proof = proof.ok_or(ExchangeError::NoProof)?;
        let token = Digest::of(exchange.subject.expose().as_bytes());
        let expected = dpop::Expected {
            method: "POST",
            uri: self.token_endpoint(),
            token: Some(dpop::Bound {
                ath: &b64(token.as_bytes()),
                jkt: held,
            }),
            delegation: Some(digest),
            moment,
        };
        dpop::accept(proof, None, &expected, self.used())?;
        Ok(())
    }
}
