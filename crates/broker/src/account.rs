//! What one upstream is reached with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use vocab::{CredentialName, Digest, Secret};

use crate::bearer::{Bearer, Token, TokenEndpoint, TokenError};
use crate::echo::Echo;
use crate::header::HeaderTemplate;
use crate::reads::{ReadError, Reads};
use crate::source::{Source, SourceError};
use crate::vault::Vault;

/// Values of an upstream that are recognised when they come back. What was rotated out goes on being
/// recognised until so many others came after it.
const KNOWN_MAX: usize = 32;

/// What of an upstream's credentials is one: environment of its children, headers of its requests.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    /// Variables of stdio children.
    pub env: Vec<(String, Source)>,
    /// Headers over HTTP.
    pub headers: Vec<HeaderTemplate>,
}

impl Grant {
    /// All that it refers to, and what for.
    pub fn sources(&self) -> impl Iterator<Item = (String, &Source)> {
        let env = self.env.iter();
        let env = env.map(|(name, source)| (format!("env.{name}"), source));
        let headers = self.headers.iter().flat_map(|it| {
            let key = format!("headers.{}", it.name());
            it.sources().map(move |source| (key.clone(), source))
        });
        env.chain(headers)
    }

    fn waits(&self) -> bool {
        self.sources().any(|(_, source)| source.waits())
    }

    fn read(&self, vault: &Vault) -> Result<(Credential, Vec<Secret<String>>), LeaseError> {
        let failed = |key: String| move |cause| LeaseError::Source { key, cause };
        let mut seen = Vec::new();
        let mut env = Vec::with_capacity(self.env.len());
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, source) in &self.env {
            let value = source.read(vault).map_err(failed(format!("env.{name}")))?;
            if source.is_secret() {
                seen.push(Secret::new(value.expose().clone()));
            }
            env.push((name.clone(), value));
        }
        for template in &self.headers {
            let key = format!("headers.{}", template.name());
            let value = template.read(vault, |secret| seen.push(secret));
            let value = value.map_err(failed(key.clone()))?;
            let value = value.ok_or(LeaseError::NoHeader { key })?;
            headers.push((template.name().clone(), value));
        }
        let credential = Credential {
            env,
            headers,
            token: None,
        };
        Ok((credential, seen))
    }
}

/// What one call, or one child, is given. It is gone with whoever has it, and shows nothing.
#[expect(
    missing_debug_implementations,
    reason = "there is nothing of it to be shown"
)]
pub struct Credential {
    env: Vec<(String, Secret<String>)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    token: Option<Arc<Token>>,
}

impl Credential {
    /// Variables for a child's environment.
    pub fn env(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose().as_str()))
    }

    /// Headers for a request.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let token = self.token.iter();
        let token = token.map(|it| (&AUTHORIZATION, it.header()));
        let headers = self.headers.iter().map(|(name, value)| (name, value));
        headers.chain(token)
    }

    /// What tells whether the environment is still the same, without it.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut parts: Vec<&[u8]> = Vec::with_capacity(self.env.len() * 4);
        for (name, value) in &self.env {
            // Neither a name nor a value has a zero byte in it.
            parts.extend([name.as_bytes(), b"\0", value.expose().as_bytes(), b"\0"]);
        }
        Fingerprint(Digest::of_parts(&parts))
    }
}

/// Stands for an environment: equal if it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint(Digest);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of a short secret a digest can be guessed.
        f.write_str("Fingerprint")
    }
}

/// Why there is no credential, so that nothing is sent.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// A source does not give it.
    #[error("{key}: {cause}")]
    Source {
        /// Which key of the upstream's configuration refers to it.
        key: String,
        /// Why.
        cause: SourceError,
    },
    /// The value cannot be a header's.
    #[error("{key}: its value has a character that no header can have, perhaps a line break")]
    NoHeader {
        /// Which key of the upstream's configuration it is for.
        key: String,
    },
    /// Policy names a credential that the upstream does not have.
    #[error("there is no credential `{name}`")]
    Unknown {
        /// Its name.
        name: CredentialName,
    },
    /// A source was not read, or not to its end.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No token was to be had.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// What one upstream is reached with: its credential, others that policies name, and what is known
/// of them so that an echo is recognised.
pub struct Account {
    reads: Reads,
    default: Arc<Grant>,
    named: BTreeMap<CredentialName, Arc<Grant>>,
    bearer: Option<Bearer>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    values: Vec<Secret<String>>,
    echo: Arc<Echo>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("default", &self.default)
            .field("named", &self.named)
            .finish_non_exhaustive()
    }
}

impl Account {
    /// An account with a credential for what policy names none for, and others by name.
    pub fn new(
        vault: Arc<Vault>,
        default: Grant,
        named: impl IntoIterator<Item = (CredentialName, Grant)>,
    ) -> Self {
        let named = named.into_iter().map(|(name, it)| (name, Arc::new(it)));
        Self {
            reads: Reads::new(vault),
            default: Arc::new(default),
            named: named.collect(),
            bearer: None,
            known: Mutex::default(),
        }
    }

    /// The same, whose credential for what policy names none for has a token of an endpoint, too:
    /// as `Authorization: Bearer`, which no other header of it may be.
    #[must_use]
    pub fn with_tokens(mut self, secret: Source, endpoint: Arc<dyn TokenEndpoint>) -> Self {
        self.bearer = Some(Bearer::new(secret, endpoint));
        self
    }

    /// The credential of this moment: the one that policy named, or the one for all else. What is
    /// absent, unreadable or late gives none.
    pub async fn lease(&self, named: Option<&CredentialName>) -> Result<Credential, LeaseError> {
        let grant = match named {
            None => &self.default,
            Some(name) => {
                let unknown = || LeaseError::Unknown { name: name.clone() };
                self.named.get(name).ok_or_else(unknown)?
            }
        };
        let (mut credential, seen) = if grant.waits() {
            let grant = Arc::clone(grant);
            self.reads.read(move |vault| grant.read(vault)).await??
        } else {
            grant.read(self.reads.vault())?
        };
        self.note(seen);
        if named.is_none()
            && let Some(bearer) = &self.bearer
        {
            let had = bearer.token(&self.reads).await?;
            self.note(had.seen);
            credential.token = Some(had.token);
        }
        Ok(credential)
    }

    /// That the upstream did not accept a credential (401): what can be had anew is, for the next
    /// lease.
    pub fn refused(&self, credential: &Credential) {
        if let (Some(bearer), Some(token)) = (&self.bearer, &credential.token) {
            bearer.give_up(token);
        }
    }

    /// What recognises what was leased so far.
    pub fn echo(&self) -> Arc<Echo> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known.echo)
    }

    fn note(&self, seen: Vec<Secret<String>>) {
        if seen.is_empty() {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_new = false;
        for secret in seen {
            if known.values.iter().any(|it| it.expose() == secret.expose()) {
                continue;
            }
            is_new = true;
            if known.values.len() == KNOWN_MAX {
                known.values.remove(0);
            }
            known.values.push(secret);
        }
        if is_new {
            let values = known.values.iter().map(|it| it.expose().as_str());
            known.echo = Arc::new(Echo::of(values));
        }
    }
}

#[cfg(test)]
mod tests;
