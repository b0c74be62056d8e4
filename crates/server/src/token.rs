//! Asking a gateway for access tokens, with an agent's key.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Request, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use tokens::{
    AgentKey, AgentKeyError, DpopKey, HandingOn, JwkError, PrivateKey, PublicUrl, PublicUrlError,
    Resource,
};
use vocab::rng::RngError;
use vocab::{AgentId, Clock, InstanceId, PurposePath, Rng, Secret, UpstreamName};

use crate::keys::{self, KeyError};
use crate::outbound;

/// Longest answer of the token endpoint that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The key file cannot be read.
    #[error(transparent)]
    File(#[from] KeyError),
    /// The key file is not an agent's.
    #[error("`{path}` is not an agent's key file: {cause}")]
    AgentKey {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: AgentKeyError,
    },
    /// The key file is another agent's.
    #[error("`{path}` is the key of agent `{found}`, not of `{given}`")]
    OtherAgent {
        /// The file.
        path: String,
        /// Whose it is.
        found: AgentId,
        /// Who was named.
        given: AgentId,
    },
    /// The file is not a DPoP key.
    #[error("`{path}` is not a DPoP key (a private Ed25519 JWK): {cause}")]
    DpopKey {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: JwkError,
    },
    /// The URL cannot be a gateway's.
    #[error("`{url}` cannot be a gateway's URL: {cause}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        cause: PublicUrlError,
    },
    /// Nobody answers.
    #[error(
        "no gateway answers at {url}: {cause}; start the node with `tipstaff up`, or see whether it is up"
    )]
    Unreachable {
        /// The endpoint.
        url: String,
        /// What the system said.
        cause: String,
    },
    /// The gateway refused.
    #[error("the gateway gave no token ({status}): {description}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The `error` of RFC 6749 §5.2.
        code: String,
        /// What the gateway said.
        description: String,
        /// Its answer, as it came.
        body: Bytes,
    },
    /// The gateway's answer is not one.
    #[error("what answers at {url} is not a gateway's token endpoint")]
    Answer {
        /// The endpoint.
        url: String,
    },
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RngError),
}

/// A token, and what the gateway said of it.
#[derive(Debug)]
pub struct Granted {
    /// The token.
    pub token: Secret<String>,
    /// For how long, in seconds.
    pub expires_in: u64,
    /// The instance that it is of.
    pub instance: InstanceId,
    /// The answer, as it came.
    pub body: Bytes,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: u64,
    instance: InstanceId,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

/// An agent that asks for tokens for one upstream and one purpose.
#[derive(Debug)]
pub struct Asker {
    key: AgentKey,
    purpose: PurposePath,
    resource: Resource,
}

impl Asker {
    /// Reads the agent's key. Tokens come from `url`, else from where the key file says.
    pub fn new(
        agent: &AgentId,
        key_file: &Path,
        purpose: PurposePath,
        upstream: UpstreamName,
        url: Option<&str>,
    ) -> Result<Self, AskError> {
        let path = key_file.display().to_string();
        let text = keys::read_named_secret(key_file)?;
        let mut key = AgentKey::parse(text.expose()).map_err(|cause| AskError::AgentKey {
            path: path.clone(),
            cause,
        })?;
        if key.agent != *agent {
            let found = key.agent;
            return Err(AskError::OtherAgent {
                path,
                found,
                given: agent.clone(),
            });
        }
        if let Some(url) = url {
            key.issuer = url.parse().map_err(|cause| AskError::Url {
                url: url.to_owned(),
                cause,
            })?;
        }
        let resource = Resource::new(&key.issuer, upstream);
        Ok(Self {
            key,
            purpose,
            resource,
        })
    }

    /// The upstream as the gateway serves it.
    pub const fn resource(&self) -> &Resource {
        &self.resource
    }

    /// The gateway.
    pub const fn issuer(&self) -> &PublicUrl {
        &self.key.issuer
    }

    /// Asks for a token: bound to `dpop`, or, without one, a bearer token. The next one of an
    /// instance that goes on is refused if somebody ended that.
    pub async fn ask(
        &self,
        dpop: Option<&DpopKey>,
        instance: Option<&InstanceId>,
        clock: &dyn Clock,
        rng: &dyn Rng,
    ) -> Result<Granted, AskError> {
        let url = self.key.issuer.token_endpoint();
        let now = clock.now();
        let (key, purpose, resource) = (&self.key, &self.purpose, &self.resource);
        let form = match instance {
            None => key.token_form(purpose, resource, now, rng)?,
            Some(instance) => key.renewal_form(purpose, resource, instance, now, rng)?,
        };
        let proof = dpop.map(|dpop| dpop.proof("POST", &url, None, now, rng));
        let body = post(&url, form, proof.transpose()?).await?;
        granted(body, url)
    }

    /// Asks for a token of a new instance below that of `subject`, held by who has `holder`, if its
    /// token is bound: bound to `own`, or a bearer token. Where both are one key, `details` are
    /// those of one call.
    pub async fn hand_on(
        &self,
        subject: &Secret<String>,
        (holder, own): (Option<&DpopKey>, Option<&DpopKey>),
        asked: &HandedOn<'_>,
        clock: &dyn Clock,
        rng: &dyn Rng,
    ) -> Result<Granted, AskError> {
        let url = self.key.issuer.token_endpoint();
        let now = clock.now();
        let handing_on = HandingOn {
            issuer: &self.key.issuer,
            agent: &self.key.agent,
            jkt: own.map(DpopKey::jkt),
            details: asked.details,
            max_calls: asked.max_calls,
            purpose: Some(&self.purpose),
            resource: &self.resource,
            lifetime_seconds: asked.lifetime_s,
        };
        let form = handing_on.form(subject.expose(), holder, now, rng)?;
        let form = self.key.authenticated(&form, now, rng)?;
        let proof = own.map(|own| own.proof("POST", &url, None, now, rng));
        let body = post(&url, form.expose().clone(), proof.transpose()?).await?;
        granted(body, url)
    }

    /// Ends the instance of a token.
    pub async fn revoke(
        &self,
        token: &Secret<String>,
        clock: &dyn Clock,
        rng: &dyn Rng,
    ) -> Result<(), AskError> {
        let url = self.key.issuer.revocation_endpoint();
        let form = self.key.revocation_form(token.expose(), clock.now(), rng)?;
        post(&url, form.expose().clone(), None).await.map(drop)
    }
}

/// What is asked to be handed on.
#[derive(Debug, Default)]
pub struct HandedOn<'a> {
    /// `authorization_details`.
    pub details: Option<&'a str>,
    /// Calls that it and all below it may make.
    pub max_calls: Option<u64>,
    /// How long it lives at most, in seconds.
    pub lifetime_s: Option<u64>,
}

fn granted(body: Bytes, url: String) -> Result<Granted, AskError> {
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| AskError::Answer { url })?;
    Ok(Granted {
        token: Secret::new(answer.access_token),
        expires_in: answer.expires_in,
        instance: answer.instance,
        body,
    })
}

/// Sends a form, and gives the answer's body.
async fn post(url: &str, form: String, proof: Option<String>) -> Result<Bytes, AskError> {
    let mut request = Request::post(url)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json");
    if let Some(proof) = proof {
        request = request.header(tokens::DPOP, proof);
    }
    let unreachable = |cause| AskError::Unreachable {
        url: url.to_owned(),
        cause,
    };
    let request = request
        .body(Full::new(Bytes::from(form)))
        .map_err(|error| unreachable(error.to_string()))?;
    let response = outbound::send(request, ANSWER_BYTES_MAX)
        .await
        .map_err(unreachable)?;
    let (parts, body) = response.into_parts();
    if parts.status == StatusCode::OK {
        return Ok(body);
    }
    let Ok(refusal) = serde_json::from_slice::<Refusal>(&body) else {
        return Err(AskError::Answer {
            url: url.to_owned(),
        });
    };
    let description = match refusal.error_description {
        Some(description) => format!("{}: {description}", refusal.error),
        None => refusal.error.clone(),
    };
    Err(AskError::Refused {
        status: parts.status,
        code: refusal.error,
        description,
        body,
    })
}

/// The DPoP key file that goes with an agent's key file: `FILE.dpop` beside it.
pub fn default_dpop_file(key_file: &Path) -> PathBuf {
    beside(key_file, ".dpop")
}

/// The DPoP key file of an instance below another: `FILE.below.dpop` beside the agent's key file.
pub fn below_dpop_file(key_file: &Path) -> PathBuf {
    beside(key_file, ".below.dpop")
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A DPoP key, and what is to be kept of it once it is of use: a request that is refused leaves no
/// file behind.
#[derive(Debug)]
pub struct KeyFile {
    /// The key.
    pub key: DpopKey,
    /// Where it belongs, and what; none if it is there already.
    unkept: Option<(PathBuf, Secret<String>)>,
}

impl KeyFile {
    /// Reads a DPoP key file, or makes a key for it if it is not there.
    pub fn open(path: &Path, rng: &dyn Rng) -> Result<Self, AskError> {
        if path.exists() {
            let key = dpop_key(path)?;
            return Ok(Self { key, unkept: None });
        }
        let key = PrivateKey::generate(rng)?;
        let unkept = Some((path.to_owned(), key.to_jwk()));
        let key = DpopKey::new(key);
        Ok(Self { key, unkept })
    }

    /// Writes the file, if there was none.
    pub fn keep(&self) -> Result<(), AskError> {
        match &self.unkept {
            None => Ok(()),
            Some((path, jwk)) => Ok(keys::write_secret_whole(path, jwk.expose())?),
        }
    }
}

/// Reads a DPoP key file.
pub fn dpop_key(path: &Path) -> Result<DpopKey, AskError> {
    let text = keys::read_named_secret(path)?;
    let key =
        PrivateKey::from_jwk(text.expose().as_bytes()).map_err(|cause| AskError::DpopKey {
            path: path.display().to_string(),
            cause,
        })?;
    Ok(DpopKey::new(key))
}
