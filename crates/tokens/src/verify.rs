//! The resource server: who sent this request, from its headers alone.

use std::sync::{Arc, OnceLock};

use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use register::{Standing, State, Why};
use vocab::limits::CLOCK_LEEWAY_SECONDS;
use vocab::{AgentId, Digest, Handle, InstanceId, PurposePath, Time, UpstreamName};

use crate::access::{Claims, ClaimsError};
use crate::cache::KnownToken;
use crate::dpop::{self, ProofError};
use crate::fresh::Moment;
use crate::issuer::{Issuer, quotable};
use crate::jwk::{Algorithm, b64};
use crate::jws::{JwsError, Typ, Unverified};
use crate::request;
use crate::uri::Resource;

/// The instance that an access token says it is of. Nobody checked its signature or time: good for
/// telling which instance somebody means who may ask about it anyway, and for nothing else.
pub fn instance_assertion(token: &str) -> Option<InstanceId> {
    let claims = Unverified::parse(token, Typ::Access).ok()?.claimed().ok()?;
    let act = claims.object("act").ok()??;
    act.text("sub").ok()??.parse().ok()
}

/// Who sent a request. There is one way to get one: [`Issuer::verify`].
///
/// It says who asks and for what purpose, and not what they may do.
#[derive(Debug)]
pub struct Caller {
    instance: InstanceId,
    agent: AgentId,
    sponsor: Handle,
    purpose: PurposePath,
    upstream: UpstreamName,
    token_id: Arc<str>,
    token_key: Arc<str>,
    jkt: Option<Arc<str>>,
    expires_at: Time,
}

impl Caller {
    /// The instance.
    pub const fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// The agent that it is an instance of.
    pub const fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// The person who answers for it.
    pub const fn sponsor(&self) -> &Handle {
        &self.sponsor
    }

    /// Why it acts.
    pub const fn purpose(&self) -> &PurposePath {
        &self.purpose
    }

    /// The upstream that its token is for.
    pub const fn upstream(&self) -> &UpstreamName {
        &self.upstream
    }

    /// The token's `jti`.
    pub fn token_id(&self) -> &str {
        &self.token_id
    }

    /// The id of the node's key that signed its token.
    pub const fn token_key(&self) -> &Arc<str> {
        &self.token_key
    }

    /// The thumbprint of the key that it proved to hold.
    pub fn jkt(&self) -> Option<&str> {
        self.jkt.as_deref()
    }

    /// Whether it proved possession of its key; if not, it is whoever holds the token.
    pub const fn proven(&self) -> bool {
        self.jkt.is_some()
    }

    /// When its token expires.
    pub const fn expires_at(&self) -> Time {
        self.expires_at
    }
}

/// Why a request's sender is not known. `Display` is the cause, for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No credentials, or of a scheme that is not ours.
    #[error("the request has no access token")]
    Missing,
    /// More than one `Authorization` header, or one that is not text.
    #[error("there is not exactly one readable `Authorization` header")]
    Authorization,
    /// More than one `DPoP` header, or one that is not text.
    #[error("there is not exactly one readable `DPoP` header")]
    ProofHeader,
    /// Not a token, or not one that this node signed.
    #[error("the access token cannot be used: {0}")]
    Token(#[from] JwsError),
    /// It names no key of this node.
    #[error("the access token's `kid` is not a key of this node")]
    Key,
    /// Signed here, but not an access token.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// Its time is over.
    #[error("the access token expired {seconds} s ago; get a new one")]
    Expired {
        /// How long ago.
        seconds: u64,
    },
    /// Its time has not come.
    #[error("the access token is from the future: this node's clock went back")]
    NotYet,
    /// For another upstream.
    #[error("the access token is for another resource; get one for `{expected}`")]
    Audience {
        /// This one.
        expected: String,
    },
    /// Bound to a key, but presented as if it were not.
    #[error("the access token is bound to a key; present it as `Authorization: DPoP` with a proof")]
    BoundAsBearer,
    /// Not bound to a key, but presented as if it were.
    #[error("the access token is not bound to a key; present it as `Authorization: Bearer`")]
    BearerAsBound,
    /// There is no proof.
    #[error("the request has no `DPoP` header")]
    NoProof,
    /// The proof proves nothing.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The instance, or something above it, may not act.
    #[error("{0}")]
    Narrowed(Why),
}

impl VerifyError {
    /// The `error` attribute (RFC 6750 §3.1, RFC 9449 §7.1) and the status.
    pub const fn code_and_status(&self) -> (Option<&'static str>, StatusCode) {
        match self {
            // "If the request lacks any authentication information […], the resource server
            // SHOULD NOT include an error code" (RFC 6750 §3.1).
            Self::Missing => (None, StatusCode::UNAUTHORIZED),
            Self::Authorization | Self::ProofHeader => {
                (Some("invalid_request"), StatusCode::BAD_REQUEST)
            }
            // The proof is good, and the token is not for whoever made it (RFC 9449 §7.1, figure 17).
            Self::Proof(ProofError::OtherKey)
            | Self::Token(_)
            | Self::Key
            | Self::Claims(_)
            | Self::Expired { .. }
            | Self::NotYet
            | Self::Audience { .. }
            | Self::BoundAsBearer
            | Self::BearerAsBound
            | Self::Narrowed(
                Why::Unknown
                | Why::InstanceEnded
                | Why::InstanceExpired
                | Why::AgentRetired
                | Why::AgentSuspended
                | Why::AgentTransferred
                | Why::AgentNotAccepted
                | Why::AcceptanceLapsed
                | Why::SessionsRevoked
                | Why::SponsorSuspended
                | Why::SponsorErased
                | Why::GroupErased
                | Why::AuthorityErased
                | Why::AncestorNarrowed
                | Why::UpstreamStopped
                | Why::AllStopped,
            ) => (Some("invalid_token"), StatusCode::UNAUTHORIZED),
            Self::Proof(ProofError::Full) | Self::Narrowed(Why::RegisterFailed) => {
                (None, StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::NoProof | Self::Proof(_) => {
                (Some("invalid_dpop_proof"), StatusCode::UNAUTHORIZED)
            }
        }
    }

    /// The cause as a word, for metrics and counts of refusals.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Missing => "missing-token",
            Self::Authorization => "bad-authorization-header",
            Self::ProofHeader => "bad-proof-header",
            Self::Token(_) => "bad-token",
            Self::Key => "unknown-token-key",
            Self::Claims(_) => "bad-token-claims",
            Self::Expired { .. } => "token-expired",
            Self::NotYet => "token-from-future",
            Self::Audience { .. } => "wrong-audience",
            Self::BoundAsBearer => "bound-token-as-bearer",
            Self::BearerAsBound => "bearer-token-as-bound",
            Self::NoProof => "missing-proof",
            Self::Proof(ProofError::Replayed) => "replayed-proof",
            Self::Proof(ProofError::Full) => "replay-memory-full",
            Self::Proof(_) => "bad-proof",
            Self::Narrowed(why) => why.as_str(),
        }
    }
}

/// The answer to a request whose sender is not known.
#[derive(Debug)]
pub struct Challenge {
    cause: VerifyError,
    metadata_uri: Arc<str>,
    scheme: Option<Scheme>,
}

impl Challenge {
    /// Why.
    pub const fn cause(&self) -> &VerifyError {
        &self.cause
    }

    /// Why, as a word for metrics and counts of refusals.
    pub const fn word(&self) -> &'static str {
        self.cause.as_str()
    }

    /// 401; 400 if the request cannot be read; 503 if the node cannot tell.
    pub const fn status(&self) -> StatusCode {
        self.cause.code_and_status().1
    }

    /// The error code, if the answer has one.
    pub const fn code(&self) -> Option<&'static str> {
        self.cause.code_and_status().0
    }

    /// What the client may be told. The error is about its own request and its own token.
    pub fn description(&self) -> String {
        quotable(&self.cause.to_string())
    }

    /// The values of `WWW-Authenticate`, one header each: Bearer first, since clients that know one scheme only look
    /// at the first header. The error stands with the scheme that was used.
    pub fn www_authenticate(&self) -> Vec<String> {
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            return Vec::new();
        }
        let algorithms = Algorithm::NAMES.join(" ");
        let error = self.code().map_or_else(String::new, |code| {
            format!(
                r#"error="{code}", error_description="{}", "#,
                self.description()
            )
        });
        let error_with = |scheme| match self.scheme {
            Some(used) if used != scheme => "",
            Some(_) | None => error.as_str(),
        };
        let metadata = &self.metadata_uri;
        vec![
            format!(
                r#"Bearer {}resource_metadata="{metadata}""#,
                error_with(Scheme::Bearer)
            ),
            format!(
                r#"DPoP {}resource_metadata="{metadata}", algs="{algorithms}""#,
                error_with(Scheme::Dpop)
            ),
        ]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Bearer,
    Dpop,
}

impl Issuer {
    /// Who sent a request for `resource`, before its body is read.
    ///
    /// Signature, time, audience and possession of the key are checked here, and that nothing is
    /// narrowed at this moment. A token is only looked for in `Authorization`; one in the query
    /// string is not seen.
    pub fn verify(
        &self,
        headers: &HeaderMap,
        method: &str,
        resource: &Resource,
    ) -> Result<Caller, Challenge> {
        self.verify_at(headers, method, resource, resource.uri())
    }

    /// [`Issuer::verify`] of a request that another server got, which asks about it: `uri` is what
    /// its sender knows that server by, and so what its proof is for.
    pub fn verify_at(
        &self,
        headers: &HeaderMap,
        method: &str,
        resource: &Resource,
        uri: &str,
    ) -> Result<Caller, Challenge> {
        let credentials = credentials(headers);
        let scheme = credentials.as_ref().ok().map(|(scheme, _)| *scheme);
        credentials
            .and_then(|(scheme, token)| {
                let request = (headers, method, uri);
                self.caller(request, resource, scheme, token)
            })
            .map_err(|cause| Challenge {
                cause,
                metadata_uri: Arc::clone(resource.metadata_uri()),
                scheme,
            })
    }

    fn caller(
        &self,
        request: (&HeaderMap, &str, &str),
        resource: &Resource,
        scheme: Scheme,
        token: &str,
    ) -> Result<Caller, VerifyError> {
        let moment = self.moment();
        let digest = Digest::of(token.as_bytes());
        let known = match self.known.get(&digest) {
            Some(known) => known,
            None => self.learn(token, digest, moment.now)?,
        };
        // INVARIANT: no cached token outlives its key. The register is asked, not the cache.
        let believed = |state: &State| state.token_key_verifies(&known.key, moment.now);
        if !self.control().view(believed) {
            return Err(VerifyError::Key);
        }
        let claims = &known.claims;
        let now = moment.now.as_secs();
        if claims.expires_at <= now {
            return Err(VerifyError::Expired {
                seconds: now - claims.expires_at,
            });
        }
        if claims.issued_at > now + CLOCK_LEEWAY_SECONDS {
            return Err(VerifyError::NotYet);
        }
        if claims.audience != resource.uri() {
            return Err(VerifyError::Audience {
                expected: resource.uri().to_owned(),
            });
        }
        match (&claims.jkt, scheme) {
            (None, Scheme::Bearer) => {}
            (None, Scheme::Dpop) => return Err(VerifyError::BearerAsBound),
            //= https://www.rfc-editor.org/rfc/rfc9449#section-7.2
            //# such a protected resource MUST reject a DPoP-bound access token received as a bearer
            //# token
            (Some(_), Scheme::Bearer) => return Err(VerifyError::BoundAsBearer),
            (Some(jkt), Scheme::Dpop) => {
                //= https://www.rfc-editor.org/rfc/rfc9449#section-7.1
                //# For such an access token, a resource server MUST check that a DPoP proof was
                //# also received in the DPoP header field of the HTTP request
                //= https://www.rfc-editor.org/rfc/rfc9449#section-7.1
                //# The resource server MUST NOT grant access to the resource unless all checks are
                //# successful.
                //= https://www.rfc-editor.org/rfc/rfc9449#section-7
                //# Requests to DPoP-protected resources MUST include both a DPoP proof as per
                //# Section 4 and the access token as described in Section 7.1.
                self.prove(request, &known, jkt, &digest, moment)?;
            }
        }
        match self.control().standing(&claims.instance, moment.now) {
            Standing::Active(_) => {}
            Standing::Narrowed(why) => return Err(VerifyError::Narrowed(why)),
        }
        Ok(Caller {
            instance: claims.instance.clone(),
            agent: claims.agent.clone(),
            sponsor: claims.sponsor.clone(),
            purpose: claims.purpose.clone(),
            upstream: resource.upstream().clone(),
            token_id: Arc::clone(&claims.token_id),
            token_key: Arc::clone(&known.key),
            jkt: claims.jkt.clone(),
            expires_at: Time::from_secs(claims.expires_at),
        })
    }

    /// Checks a token for the first time.
    fn learn(
        &self,
        token: &str,
        digest: Digest,
        now: Time,
    ) -> Result<Arc<KnownToken>, VerifyError> {
        let (claims, key) = self.signed(token, now)?;
        let known = Arc::new(KnownToken {
            claims,
            key,
            proof_key: OnceLock::new(),
        });
        self.known.insert(digest, Arc::clone(&known));
        Ok(known)
    }

    /// What a token says that this node signed, and with which key; whether it is still valid is
    /// not looked at.
    pub(crate) fn signed(&self, token: &str, now: Time) -> Result<(Claims, Arc<str>), VerifyError> {
        let token = Unverified::parse(token, Typ::Access)?;
        let kid = token.header().text("kid").map_err(JwsError::Header)?;
        let key = kid.and_then(|kid| self.verifying_key(kid, now));
        let key = key.ok_or(VerifyError::Key)?;
        let claims = Claims::read(&token.verify(&key)?, self.public_url().as_str())?;
        Ok((claims, Arc::clone(key.thumbprint())))
    }

    fn prove(
        &self,
        (headers, method, uri): (&HeaderMap, &str, &str),
        known: &KnownToken,
        jkt: &str,
        digest: &Digest,
        moment: Moment,
    ) -> Result<(), VerifyError> {
        let proof = request::proof(headers)
            .map_err(|_| VerifyError::ProofHeader)?
            .ok_or(VerifyError::NoProof)?;
        let expected = dpop::Expected {
            method,
            uri,
            token: Some(dpop::Bound {
                //= https://www.rfc-editor.org/rfc/rfc9449#section-4.2
                //# The value MUST be the result of a base64url encoding (as defined in Section 2 of
                //# [RFC7515]) the SHA-256 [SHS] hash of the ASCII encoding of the associated access
                //# token's value.
                ath: &b64(digest.as_bytes()),
                jkt,
            }),
            delegation: None,
            moment,
        };
        let key = dpop::accept(proof, known.proof_key.get(), &expected, self.used())?;
        if let Some(key) = key {
            // Another request may have been first; its key has the same thumbprint.
            drop(known.proof_key.set(key));
        }
        Ok(())
    }
}

//= https://www.rfc-editor.org/rfc/rfc9449#section-7.1
//# Therefore, this authentication scheme MUST NOT be used with the Proxy-Authenticate or
//# Proxy-Authorization header fields.
fn credentials(headers: &HeaderMap) -> Result<(Scheme, &str), VerifyError> {
    let value = request::one(headers, &AUTHORIZATION)
        .map_err(|_| VerifyError::Authorization)?
        .ok_or(VerifyError::Missing)?;
    let (scheme, token) = value.split_once(' ').ok_or(VerifyError::Missing)?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Scheme::Bearer,
        "dpop" => Scheme::Dpop,
        _ => return Err(VerifyError::Missing),
    };
    Ok((scheme, token.trim_start_matches(' ')))
}
