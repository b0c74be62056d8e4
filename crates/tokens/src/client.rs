//! The agent's side: what `tipstaff token` and `tipstaff connect` send. It does no IO.

use serde_json::json;
use vocab::rng::{self, RngError};
use vocab::{AgentId, InstanceId, PurposePath, Rng, Secret, Time};

use crate::exchange::{ACCESS_TOKEN, TOKEN_EXCHANGE, delegation_digest};
use crate::form;
use crate::json::{JsonError, Object};
use crate::jwk::{JwkError, PrivateKey, b64};
use crate::jws;
use crate::uri::{PublicUrl, PublicUrlError, Resource};

/// How long an assertion made here is valid, in seconds.
const ASSERTION_SECONDS: u64 = 60;

const ASSERTION_TYPE: (&str, &str) = (
    "client_assertion_type",
    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
);

/// Why a text is not an agent's key file.
#[derive(Debug, thiserror::Error)]
pub enum AgentKeyError {
    /// Not JSON of the right form.
    #[error("the key file cannot be read: {0}")]
    Json(#[from] JsonError),
    /// A member that is not what it should be.
    #[error("the key file's `{0}` cannot be read")]
    Member(&'static str),
    /// `issuer` is not a public URL.
    #[error("the key file's `issuer` cannot be read: {0}")]
    Issuer(#[from] PublicUrlError),
    /// `key` is not a private key.
    #[error("the key file's `key` cannot be used: {0}")]
    Key(#[from] JwkError),
}

/// An agent's key, as `tipstaff agent add --key-out` writes it: it authenticates the agent at the
/// token endpoint, and so starts instances.
#[derive(Debug)]
pub struct AgentKey {
    /// The agent.
    pub agent: AgentId,
    /// The node.
    pub issuer: PublicUrl,
    /// The key.
    pub key: PrivateKey,
    /// When the node stops accepting the key.
    pub expires_at: Time,
}

impl AgentKey {
    /// Reads a key file: `{"agent","kid","issuer","expires_at","key":{private JWK}}`.
    pub fn parse(text: &str) -> Result<Self, AgentKeyError> {
        let file = Object::parse(text.as_bytes())?;
        let key = PrivateKey::from_object(file.object("key")?.ok_or(JsonError::Missing("key"))?)?;
        if file.required_text("kid")? != &**key.public().thumbprint() {
            return Err(AgentKeyError::Member("kid"));
        }
        Ok(Self {
            agent: member(&file, "agent")?,
            issuer: file.required_text("issuer")?.parse()?,
            key,
            expires_at: member(&file, "expires_at")?,
        })
    }

    /// The key file's text.
    pub fn to_file(&self) -> Secret<String> {
        Secret::new(format!(
            "{{\"agent\":\"{}\",\"kid\":\"{}\",\"issuer\":\"{}\",\"expires_at\":\"{}\",\"key\":{}}}\n",
            self.agent,
            self.key.public().thumbprint(),
            self.issuer,
            self.expires_at,
            self.key.to_jwk().expose(),
        ))
    }

    /// A client assertion (RFC 7523 §2.2), good for one request.
    pub fn assertion(&self, now: Time, rng: &dyn Rng) -> Result<String, RngError> {
        let header = jws::header(&json!({
            "typ": "client-authentication+jwt",
            "alg": "EdDSA",
            "kid": &**self.key.public().thumbprint(),
        }));
        let claims = json!({
            "iss": self.agent,
            "sub": self.agent,
            "aud": self.issuer.as_str(),
            "jti": fresh_id(rng)?,
            "iat": now.as_secs(),
            "exp": now.as_secs() + ASSERTION_SECONDS,
        });
        Ok(jws::sign(&self.key, &header, &claims))
    }

    /// The body of a request for a token: `POST` it to [`PublicUrl::token_endpoint`] as
    /// `application/x-www-form-urlencoded`, with a proof in the `DPoP` header unless the token is
    /// to be a bearer token.
    pub fn token_form(
        &self,
        purpose: &PurposePath,
        resource: &Resource,
        now: Time,
        rng: &dyn Rng,
    ) -> Result<String, RngError> {
        Ok(form::encode(&[
            ("grant_type", "client_credentials"),
            ASSERTION_TYPE,
            ("client_assertion", &self.assertion(now, rng)?),
            ("purpose", purpose.as_str()),
            ("resource", resource.uri()),
        ]))
    }

    /// Adds to a request what shows that it comes from this agent.
    pub fn authenticated(
        &self,
        form: &Secret<String>,
        now: Time,
        rng: &dyn Rng,
    ) -> Result<Secret<String>, RngError> {
        let own = form::encode(&[
            ASSERTION_TYPE,
            ("client_assertion", &self.assertion(now, rng)?),
        ]);
        Ok(Secret::new(format!("{}&{own}", form.expose())))
    }

    /// Likewise, for the next token of an instance that is to go on.
    pub fn renewal_form(
        &self,
        purpose: &PurposePath,
        resource: &Resource,
        instance: &InstanceId,
        now: Time,
        rng: &dyn Rng,
    ) -> Result<String, RngError> {
        let form = self.token_form(purpose, resource, now, rng)?;
        let instance = form::encode(&[("instance", instance.as_str())]);
        Ok(format!("{form}&{instance}"))
    }

    /// The body of a request to end the instance of a token, or to say whether it is good: `POST` it
    /// to [`PublicUrl::revocation_endpoint`] or [`PublicUrl::introspection_endpoint`] as `application/x-www-form-urlencoded`.
    pub fn revocation_form(
        &self,
        token: &str,
        now: Time,
        rng: &dyn Rng,
    ) -> Result<Secret<String>, RngError> {
        Ok(Secret::new(form::encode(&[
            ASSERTION_TYPE,
            ("client_assertion", &self.assertion(now, rng)?),
            ("token", token),
        ])))
    }
}

/// A key that proves possession on each request, kept in memory only.
#[derive(Debug)]
pub struct DpopKey {
    key: PrivateKey,
    /// The header is the same in every proof, to the byte; a node remembers it.
    header: String,
}

impl DpopKey {
    /// A fresh key.
    pub fn generate(rng: &dyn Rng) -> Result<Self, RngError> {
        Ok(Self::new(PrivateKey::generate(rng)?))
    }

    /// Proofs by `key`.
    pub fn new(key: PrivateKey) -> Self {
        let header = jws::header(&json!({
            "typ": "dpop+jwt",
            "alg": "EdDSA",
            "jwk": key.public().to_bare_jwk(),
        }));
        Self { key, header }
    }

    /// The key's thumbprint: `cnf.jkt` of its tokens.
    pub fn jkt(&self) -> &str {
        self.key.public().thumbprint()
    }

    /// The value of the `DPoP` header of one request (RFC 9449 §4.2). With `access_token`, the
    /// token that goes into `Authorization: DPoP …`.
    pub fn proof(
        &self,
        method: &str,
        uri: &str,
        access_token: Option<&str>,
        now: Time,
        rng: &dyn Rng,
    ) -> Result<String, RngError> {
        self.sign(uri, access_token, None, method, now, rng)
    }

    fn sign(
        &self,
        uri: &str,
        access_token: Option<&str>,
        delegation: Option<&str>,
        method: &str,
        now: Time,
        rng: &dyn Rng,
    ) -> Result<String, RngError> {
        let mut claims = json!({
            "jti": fresh_id(rng)?,
            "htm": method,
            "htu": uri,
            "iat": now.as_secs(),
        });
        if let Some(claims) = claims.as_object_mut() {
            claims.extend(access_token.map(|token| ("ath".to_owned(), ath(token).into())));
            claims.extend(delegation.map(|digest| ("delegation".to_owned(), digest.into())));
        }
        Ok(jws::sign(&self.key, &self.header, &claims))
    }
}

/// What an instance hands on to another: a token exchange (RFC 8693).
#[derive(Debug)]
pub struct HandingOn<'a> {
    /// The node.
    pub issuer: &'a PublicUrl,
    /// The agent of the new instance.
    pub agent: &'a AgentId,
    /// The thumbprint of its key; none for a bearer token.
    pub jkt: Option<&'a str>,
    /// `authorization_details`; none: all that the one above may do.
    pub details: Option<&'a str>,
    /// Calls that it and all below it may make.
    pub max_calls: Option<u64>,
    /// Why it acts; none: as the one above.
    pub purpose: Option<&'a PurposePath>,
    /// The upstream that its token is for.
    pub resource: &'a Resource,
    /// How long it lives at most, in seconds.
    pub lifetime_seconds: Option<u64>,
}

impl HandingOn<'_> {
    /// The body of the request: `POST` it to [`PublicUrl::token_endpoint`] as
    /// `application/x-www-form-urlencoded`, with a proof of the new instance's key in the `DPoP`
    /// header. `holder` holds the key of `subject_token`, and shows that it wants this; a credential
    /// for one call needs none, since its holder proves that key in the header.
    pub fn form(
        &self,
        subject_token: &str,
        holder: Option<&DpopKey>,
        now: Time,
        rng: &dyn Rng,
    ) -> Result<Secret<String>, RngError> {
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let (max_calls, lifetime) = (number(self.max_calls), number(self.lifetime_seconds));
        let asked = [
            ("authorization_details", self.details),
            ("max_calls", max_calls.as_deref()),
            ("purpose", self.purpose.map(PurposePath::as_str)),
            ("resource", Some(self.resource.uri())),
            ("requested_expiry", lifetime.as_deref()),
        ];
        let [details, max_calls, purpose, resource, lifetime] = asked.map(|(_, value)| value);
        let agent = Some(self.agent.as_str());
        let parts = [
            agent, self.jkt, details, max_calls, purpose, resource, lifetime,
        ];
        let proof = match holder {
            Some(holder) => {
                let endpoint = self.issuer.token_endpoint();
                let digest = delegation_digest(&parts);
                Some(holder.sign(
                    &endpoint,
                    Some(subject_token),
                    Some(&digest),
                    "POST",
                    now,
                    rng,
                )?)
            }
            None => None,
        };
        let fixed = [
            ("grant_type", Some(TOKEN_EXCHANGE)),
            ("subject_token", Some(subject_token)),
            ("subject_token_type", Some(ACCESS_TOKEN)),
            ("subject_token_proof", proof.as_deref()),
        ];
        let there: Vec<(&str, &str)> = fixed
            .into_iter()
            .chain(asked)
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        Ok(Secret::new(form::encode(&there)))
    }
}

/// The hash of an access token that a proof carries (RFC 9449 §4.2).
fn ath(token: &str) -> String {
    b64(vocab::Digest::of(token.as_bytes()).as_bytes())
}

fn fresh_id(rng: &dyn Rng) -> Result<String, RngError> {
    Ok(b64(&rng::bytes::<16>(rng)?))
}

fn member<T: std::str::FromStr>(file: &Object, name: &'static str) -> Result<T, AgentKeyError> {
    file.required_text(name)?
        .parse()
        .map_err(|_| AgentKeyError::Member(name))
}
