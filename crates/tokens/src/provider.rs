//! An issuer whose tokens the administrator trusts, and where its keys are.
//!
//! Keys are read when they are first needed, again when whoever serves them says that they are old,
//! and when a token names one that is not known: that is how issuers rotate keys. A stranger can
//! make up names of keys, so keys are read at most once in [`REFETCH_SECONDS`]. A failure is
//! remembered for as long, and never as an answer: the keys from before hold until they are
//! [`STALE_SECONDS`] over their time, and not longer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;
use vocab::{Clock, Time};

use crate::fetch::{Fetch, FetchError, NamedBy, WebUrl};
use crate::foreign::{Claims, Expected, Foreign, ForeignError, KeySet, KeySetError};
use crate::json::{JsonError, Object};

/// Least time between two reads of the same issuer's documents, in seconds.
const REFETCH_SECONDS: u64 = 10;
/// How long keys hold if whoever serves them does not say.
const FRESH: Duration = Duration::from_mins(10);
/// The least and the most that is believed of what they say.
const FRESH_RANGE: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(1));
/// How long keys that cannot be read again still hold after that, in seconds.
const STALE_SECONDS: u64 = 60 * 60;

/// Where an issuer's keys are.
#[derive(Debug, Clone)]
pub enum Source {
    /// Where its discovery document says (`OpenID` Connect Discovery 1.0, RFC 8414).
    Discovery(WebUrl),
    /// At an address.
    Address(WebUrl),
    /// Here: they were read from a file.
    Given(KeySet),
}

/// Why an issuer's token was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The token is not good.
    #[error(transparent)]
    Token(#[from] ForeignError),
    /// A document could not be had.
    #[error("the issuer's documents cannot be read: {0}")]
    Fetch(#[from] FetchError),
    /// What was had is no set of keys.
    #[error("the issuer's keys cannot be read: {0}")]
    Keys(#[from] KeySetError),
    /// What was had is no discovery document, or somebody else's.
    #[error("the issuer's discovery document cannot be used: {0}")]
    Discovery(&'static str),
    /// Nothing is known, and it was tried a moment ago.
    #[error(
        "the issuer's documents could not be read a moment ago; ask again in {REFETCH_SECONDS} s"
    )]
    Lately,
}

impl ProviderError {
    /// Whether it is the token that is no good, and not what the node knows of its issuer.
    pub const fn is_about_the_token(&self) -> bool {
        matches!(self, Self::Token(_))
    }
}

/// What an issuer says about itself, as far as a client of it needs it.
#[derive(Debug, Clone)]
pub struct Discovered {
    /// Where people sign in.
    pub authorization_endpoint: Option<WebUrl>,
    /// Where codes become tokens.
    pub token_endpoint: Option<WebUrl>,
    /// Whether its answers name it (RFC 9207).
    pub names_itself: bool,
    /// Whether it takes a secret in the form and not in a header.
    pub secret_in_form: bool,
    jwks_uri: WebUrl,
}

/// An issuer.
#[derive(Debug)]
pub struct Provider {
    issuer: Option<String>,
    source: Source,
    fetch: Arc<dyn Fetch>,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    document: Option<(Arc<Discovered>, Time)>,
    keys: Option<(KeySet, Time)>,
    /// When the document was last asked for.
    asked: Option<Time>,
    /// When the keys were.
    tried: Option<Time>,
}

impl Provider {
    /// An issuer whose tokens say `issuer`; none where its keys stand for it.
    pub fn new(
        issuer: Option<String>,
        source: Source,
        fetch: Arc<dyn Fetch>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            issuer,
            source,
            fetch,
            clock,
            known: Mutex::default(),
        }
    }

    /// The issuer's identifier.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// What the issuer says about itself.
    pub async fn discovered(&self) -> Result<Arc<Discovered>, ProviderError> {
        let Source::Discovery(url) = &self.source else {
            return Err(ProviderError::Discovery("its keys are configured by hand"));
        };
        let mut known = self.known.lock().await;
        self.discover(&mut known, url).await
    }

    async fn discover(
        &self,
        known: &mut Known,
        url: &WebUrl,
    ) -> Result<Arc<Discovered>, ProviderError> {
        let now = self.clock.now();
        if let Some((document, _)) = known.document.as_ref().filter(|(_, until)| now < *until) {
            return Ok(Arc::clone(document));
        }
        if lately(known.asked, now) {
            return match &known.document {
                Some((document, until)) if now < stale(*until) => Ok(Arc::clone(document)),
                Some(_) | None => Err(ProviderError::Lately),
            };
        }
        known.asked = Some(now);
        let read = async {
            let document = self.fetch.get(url, NamedBy::Administrator).await?;
            let read = Discovered::read(&document.body, self.issuer.as_deref().unwrap_or_default());
            Ok((read?, until(now, document.fresh)))
        };
        match read.await {
            Ok((document, until)) => {
                let document = Arc::new(document);
                known.document = Some((Arc::clone(&document), until));
                Ok(document)
            }
            Err(error) => match &known.document {
                Some((document, until)) if now < stale(*until) => Ok(Arc::clone(document)),
                Some(_) | None => Err(error),
            },
        }
    }

    /// The claims of a token of this issuer's, if all of `audiences` and times is right.
    pub async fn verify(
        &self,
        token: &Foreign<'_>,
        audiences: &[&str],
        lifetime_max: u64,
    ) -> Result<Claims, ProviderError> {
        let claims = match self.keys(false).await {
            Ok(keys) => match token.verify(&keys) {
                // A key that was not there when they were read, perhaps.
                Err(ForeignError::UnknownKey) => token.verify(&self.keys(true).await?)?,
                read => read?,
            },
            Err(error) => return Err(error),
        };
        let expected = Expected {
            issuer: self.issuer.as_deref(),
            audiences,
            lifetime_max,
            now: self.clock.now(),
        };
        claims.check(&expected)?;
        Ok(claims)
    }

    /// The claims of a security event that this issuer signed, as they were written. Nobody has
    /// looked at them: not whose they are, not whom they are for.
    pub async fn verify_event(&self, token: &Foreign<'_>) -> Result<Vec<u8>, ProviderError> {
        match token.verify_bytes(&self.keys(false).await?) {
            Err(ForeignError::UnknownKey) => Ok(token.verify_bytes(&self.keys(true).await?)?),
            read => Ok(read?),
        }
    }

    async fn keys(&self, again: bool) -> Result<KeySet, ProviderError> {
        if let Source::Given(keys) = &self.source {
            return Ok(keys.clone());
        }
        // One reads, the others wait for what it reads.
        let mut known = self.known.lock().await;
        let now = self.clock.now();
        let lately = lately(known.tried, now);
        if let Some((keys, until)) = &known.keys {
            let holds = now < *until && !again;
            if holds || (lately && now < stale(*until)) {
                return Ok(keys.clone());
            }
        } else if lately {
            return Err(ProviderError::Lately);
        }
        known.tried = Some(now);
        match self.read_keys(&mut known, now).await {
            Ok((keys, until)) => {
                known.keys = Some((keys.clone(), until));
                Ok(keys)
            }
            Err(error) => match &known.keys {
                Some((keys, until)) if now < stale(*until) => Ok(keys.clone()),
                Some(_) | None => Err(error),
            },
        }
    }

    async fn read_keys(
        &self,
        known: &mut Known,
        now: Time,
    ) -> Result<(KeySet, Time), ProviderError> {
        let address = match &self.source {
            Source::Discovery(url) => self.discover(known, url).await?.jwks_uri.clone(),
            Source::Address(url) => url.clone(),
            Source::Given(keys) => return Ok((keys.clone(), until(now, None))),
        };
        let document = self.fetch.get(&address, NamedBy::Administrator).await?;
        Ok((KeySet::parse(&document.body)?, until(now, document.fresh)))
    }
}

/// Whether something was done so lately that it is not done again yet.
fn lately(done: Option<Time>, now: Time) -> bool {
    done.is_some_and(|done| done <= now && now.since(done).as_secs() < REFETCH_SECONDS)
}

fn until(now: Time, fresh: Option<Duration>) -> Time {
    let (least, most) = FRESH_RANGE;
    now.plus(fresh.unwrap_or(FRESH).clamp(least, most))
}

fn stale(until: Time) -> Time {
    until.plus(Duration::from_secs(STALE_SECONDS))
}

impl Discovered {
    /// Reads a discovery document, which must be the issuer's own.
    fn read(bytes: &[u8], issuer: &str) -> Result<Self, ProviderError> {
        let wrong =
            |_: JsonError| ProviderError::Discovery("it is not one JSON object of its kind");
        // A document has more members than a token, and nobody signs it: it is read as it comes,
        // and what of it matters is looked at strictly.
        let document: Value = serde_json::from_slice(bytes)
            .map_err(|_| ProviderError::Discovery("it is not JSON"))?;
        let mut kept = serde_json::Map::new();
        for name in [
            "issuer",
            "authorization_endpoint",
            "token_endpoint",
            "jwks_uri",
        ] {
            if let Some(value) = document.get(name) {
                kept.insert(name.to_owned(), value.clone());
            }
        }
        let texts = Object::parse(Value::Object(kept).to_string().as_bytes()).map_err(wrong)?;
        //= https://www.rfc-editor.org/rfc/rfc8414#section-3.3
        //# The "issuer" value returned MUST be identical to the authorization
        //# server's issuer identifier value into which the well-known URI string
        //# was inserted to create the URL used to retrieve the metadata.
        if texts.required_text("issuer").map_err(wrong)? != issuer {
            return Err(ProviderError::Discovery(
                "its `issuer` is not the configured one, letter by letter",
            ));
        }
        let secure = issuer.starts_with("https://");
        let address = |name| match texts.text(name).map_err(wrong)? {
            None => Ok(None),
            Some(text) => match text.parse::<WebUrl>() {
                Ok(url) if url.is_https() || !secure => Ok(Some(url)),
                Ok(_) | Err(_) => Err(ProviderError::Discovery(
                    "one of its addresses is not an `https` URL",
                )),
            },
        };
        let methods = document
            .get("token_endpoint_auth_methods_supported")
            .and_then(Value::as_array);
        let takes = |name: &str| methods.is_some_and(|all| all.iter().any(|one| one == name));
        Ok(Self {
            authorization_endpoint: address("authorization_endpoint")?,
            token_endpoint: address("token_endpoint")?,
            names_itself: document.get("authorization_response_iss_parameter_supported")
                == Some(&Value::Bool(true)),
            // Without a list it is the header (OpenID Connect Discovery 1.0 §3).
            secret_in_form: takes("client_secret_post") && !takes("client_secret_basic"),
            jwks_uri: address("jwks_uri")?
                .ok_or(ProviderError::Discovery("it has no `jwks_uri`"))?,
        })
    }
}

/// Where an issuer's discovery document is (`OpenID` Connect Discovery 1.0 §4).
pub fn discovery_url(issuer: &WebUrl) -> Result<WebUrl, crate::fetch::WebUrlError> {
    let base = issuer.as_str().trim_end_matches('/');
    format!("{base}/.well-known/openid-configuration").parse()
}
