//! What one upstream is reached with.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use vocab::{CredentialName, Digest, InstanceId, Secret};

use crate::bearer::{Bearer, Token, TokenEndpoint, TokenError};
use crate::echo::Echo;
use crate::header::HeaderTemplate;
use crate::leases::{Baos, Fetched, Leases};
use crate::lessee::{Ending, Lessee};
use crate::reads::{ReadError, Reads};
use crate::source::{BaoRef, Source, SourceError};
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

    fn waits(&self, vault: &Vault) -> bool {
        self.sources().any(|(_, source)| source.waits(vault))
    }

    fn wanted(&self) -> impl Iterator<Item = &BaoRef> {
        self.sources().filter_map(|(_, source)| match source {
            Source::OpenBao(wanted) => Some(wanted),
            Source::Env(_) | Source::File(_) | Source::Vault(_) | Source::Plain(_) => None,
        })
    }

    fn read(
        &self,
        vault: &Vault,
        fetched: &Fetched,
    ) -> Result<(Credential, Vec<Secret<String>>), LeaseError> {
        let failed = |key: String| move |cause| LeaseError::Source { key, cause };
        let mut seen = Vec::new();
        let mut env = Vec::with_capacity(self.env.len());
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, source) in &self.env {
            let value = fetched.read(source, vault);
            let value = value.map_err(failed(format!("env.{name}")))?;
            if source.is_secret() {
                seen.push(Secret::new(value.expose().clone()));
            }
            env.push((name.clone(), value));
        }
        for template in &self.headers {
            let key = format!("headers.{}", template.name());
            let value = template.read(vault, fetched, |secret| seen.push(secret));
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
    token: Option<(Arc<Bearer>, Arc<Token>)>,
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
        let token = token.map(|(_, it)| (&AUTHORIZATION, it.header()));
        let headers = self.headers.iter().map(|(name, value)| (name, value));
        headers.chain(token)
    }

    /// That the upstream did not accept it (401): what can be had anew is, for the next lease.
    pub fn refused(&self) {
        if let Some((bearer, token)) = &self.token {
            bearer.give_up(token);
        }
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
    /// A server does not give it.
    #[error(transparent)]
    Server(SourceError),
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
    reads: Arc<Reads>,
    default: Arc<Grant>,
    named: BTreeMap<CredentialName, Arc<Grant>>,
    bearer: Option<Arc<Bearer>>,
    /// The servers that sources may name, and what they gave for all alike.
    baos: Arc<Baos>,
    leases: Leases,
    /// Where each instance has something of its own.
    personal: Option<Personal>,
    known: Mutex<Known>,
}

/// Who has something of their own, and what.
#[derive(Default)]
struct Personal {
    /// A token, from there with that secret.
    token: Option<(Source, Arc<dyn TokenEndpoint>)>,
    /// What servers lease.
    leases: bool,
    lessees: Mutex<HashMap<InstanceId, Arc<Lessee>>>,
}

impl Personal {
    fn lessees(&self) -> MutexGuard<'_, HashMap<InstanceId, Arc<Lessee>>> {
        self.lessees.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub(crate) struct Known {
    values: Vec<Secret<String>>,
    echo: Arc<Echo>,
}

impl Known {
    pub(crate) fn echo(&self) -> Arc<Echo> {
        Arc::clone(&self.echo)
    }

    pub(crate) fn note(&mut self, seen: Vec<Secret<String>>) {
        let mut is_new = false;
        for secret in seen {
            // What is in use is forgotten last.
            let mut known = self.values.iter();
            if let Some(at) = known.position(|it| it.expose() == secret.expose()) {
                let known = self.values.remove(at);
                self.values.push(known);
                continue;
            }
            is_new = true;
            if self.values.len() == KNOWN_MAX {
                self.values.remove(0);
            }
            self.values.push(secret);
        }
        if is_new {
            let values = self.values.iter().map(|it| it.expose().as_str());
            self.echo = Arc::new(Echo::of(values));
        }
    }
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
            reads: Arc::new(Reads::new(vault)),
            default: Arc::new(default),
            named: named.collect(),
            bearer: None,
            baos: Arc::default(),
            leases: Leases::default(),
            personal: None,
            known: Mutex::default(),
        }
    }

    /// The same, whose credential for what policy names none for has a token of an endpoint, too:
    /// as `Authorization: Bearer`, which no other header of it may be.
    #[must_use]
    pub fn with_tokens(mut self, secret: Source, endpoint: Arc<dyn TokenEndpoint>) -> Self {
        self.bearer = Some(Arc::new(Bearer::new(secret, endpoint, None)));
        self
    }

    /// The same, where each instance has a token of its own: it is had on behalf of whoever the
    /// instance acts for. What the gateway asks by itself goes with the client's own.
    #[must_use]
    pub fn with_tokens_of_each(mut self, secret: Source, endpoint: Arc<dyn TokenEndpoint>) -> Self {
        let token = (secret.clone(), Arc::clone(&endpoint));
        self.personal.get_or_insert_default().token = Some(token);
        self.with_tokens(secret, endpoint)
    }

    /// The same, whose sources may name these servers. What they lease is had for each instance if
    /// `each` says so, and for all alike if not.
    #[must_use]
    pub fn with_baos(mut self, baos: Arc<Baos>, each: bool) -> Self {
        self.baos = baos;
        if each {
            self.personal.get_or_insert_default().leases = true;
        }
        self
    }

    /// Whether instances are reached for each as itself, so that nothing may be sent for one with what
    /// another was leased.
    pub const fn is_personal(&self) -> bool {
        self.personal.is_some()
    }

    /// The one that credentials for an instance are leased to; none if all are leased the same.
    pub fn lessee(&self, instance: &InstanceId) -> Option<Arc<Lessee>> {
        let personal = self.personal.as_ref()?;
        let mut lessees = personal.lessees();
        if let Some(known) = lessees.get(instance) {
            return Some(Arc::clone(known));
        }
        let bearer = personal.token.as_ref().map(|(secret, endpoint)| {
            let (secret, endpoint) = (secret.clone(), Arc::clone(endpoint));
            Bearer::new(secret, endpoint, Some(instance.clone()))
        });
        let lessee = Arc::new(Lessee::new(instance.clone(), bearer));
        lessees.insert(instance.clone(), Arc::clone(&lessee));
        Some(lessee)
    }

    /// Ends what is leased to instances that `stands` does not say may act: from now on they have
    /// nothing. What they had is to be given back.
    pub fn end_unless(&self, stands: impl Fn(&InstanceId) -> bool) -> Vec<Ending> {
        let Some(personal) = &self.personal else {
            return Vec::new();
        };
        let mut lessees = personal.lessees();
        let over = lessees.extract_if(|instance, _| !stands(instance));
        over.map(|(_, lessee)| Ending::of(&lessee, Arc::clone(&self.reads)))
            .collect()
    }

    /// Ends what was leased for all alike. It is to be given back.
    pub fn end(&self) -> Ending {
        Ending::of_all(&self.leases, Arc::clone(&self.reads))
    }

    /// The credential of this moment: the one that policy named, or the one for all else. What is
    /// absent, unreadable or late gives none.
    /// `lessee` is whom it is for; none: the gateway itself, or all alike.
    pub async fn lease(
        &self,
        named: Option<&CredentialName>,
        lessee: Option<&Arc<Lessee>>,
    ) -> Result<Credential, LeaseError> {
        let grant = match named {
            None => &self.default,
            Some(name) => {
                let unknown = || LeaseError::Unknown { name: name.clone() };
                self.named.get(name).ok_or_else(unknown)?
            }
        };
        let fetched = if self.baos.is_empty() {
            Fetched::default()
        } else {
            self.fetched(grant, lessee).await?
        };
        let (mut credential, seen) = if grant.waits(self.reads.vault()) {
            let grant = Arc::clone(grant);
            let reading = self.reads.read(move |vault| grant.read(vault, &fetched));
            reading.await??
        } else {
            grant.read(self.reads.vault(), &fetched)?
        };
        self.note(lessee, seen);
        let own = lessee.and_then(|it| it.bearer.as_ref());
        let bearer = own.or(self.bearer.as_ref());
        if named.is_none()
            && let Some(bearer) = bearer
        {
            let had = bearer.token(&self.reads).await?;
            self.note(lessee, had.seen);
            credential.token = Some((Arc::clone(bearer), had.token));
        }
        Ok(credential)
    }

    /// What servers give for it.
    async fn fetched(
        &self,
        grant: &Grant,
        lessee: Option<&Arc<Lessee>>,
    ) -> Result<Fetched, LeaseError> {
        let is_own = self.personal.as_ref().is_some_and(|it| it.leases);
        let leases = match lessee {
            Some(lessee) if is_own => &lessee.leases,
            Some(_) | None => &self.leases,
        };
        let fetching = leases.fetch(&self.baos, grant.wanted(), &self.reads);
        fetching.await.map_err(LeaseError::Server)
    }

    /// What recognises what was leased so far, to that lessee or to all.
    pub fn echo(&self, lessee: Option<&Arc<Lessee>>) -> Arc<Echo> {
        match lessee {
            Some(lessee) => lessee.echo(),
            None => self.known().echo(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, lessee: Option<&Arc<Lessee>>, seen: Vec<Secret<String>>) {
        match lessee {
            _ if seen.is_empty() => {}
            Some(lessee) => {
                // An upstream may show one caller what it had of another.
                let copies = seen.iter().map(|it| Secret::new(it.expose().clone()));
                self.known().note(copies.collect());
                lessee.note(seen);
            }
            None => self.known().note(seen),
        }
    }
}

#[cfg(test)]
mod tests;
