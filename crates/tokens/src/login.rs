//! Signing a person in at the company's `OpenID` provider, as a client of it (`OpenID` Connect Core
//! §3.1, RFC 9700): code, PKCE, state and nonce, all of them fresh for each sign-in.

use std::fmt;
use std::sync::Arc;

use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use vocab::rng::{self, RngError};
use vocab::{Digest, Rng, Secret, Time};

use crate::fetch::{Fetch, FetchError};
use crate::foreign::{Claims, Foreign, ForeignError, ForeignTyp};
use crate::form;
use crate::jwk::{b64, unb64};
use crate::provider::{Provider, ProviderError};

/// The longest life of an ID token that is accepted, in seconds: a day. It is looked at once.
const LIFETIME_SECONDS_MAX: u64 = 24 * 60 * 60;

/// Which claim says who a person is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PersonClaim {
    /// It is their `externalId` in the directory.
    ExternalId(String),
    /// It is their sponsor id.
    Id(String),
}

/// What the configuration says about the provider.
#[derive(Debug)]
pub struct LoginConfig {
    /// The provider.
    pub provider: Provider,
    /// What the provider knows this node as.
    pub client_id: String,
    /// The secret that goes with it, if the provider gave one.
    pub client_secret: Option<Secret<String>>,
    /// Which claims say who a person is, in this order.
    pub person: Vec<PersonClaim>,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
}

/// Why a person is not signed in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The provider, its documents or its token.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The provider's document lacks an endpoint.
    #[error("the provider's discovery document has no `{0}`")]
    NoEndpoint(&'static str),
    /// The provider did not sign the person in.
    #[error("the provider answered `{0}`")]
    Refused(String),
    /// The answer is another provider's.
    #[error(
        "the answer does not name the provider that was asked, so it may be another's (mix-up)"
    )]
    Issuer,
    /// The code was not taken.
    #[error("the provider did not take the code: {0}")]
    Code(FetchError),
    /// There is no ID token in the answer.
    #[error("the provider's answer has no `id_token`")]
    NoIdToken,
    /// The ID token is of another sign-in.
    #[error("the ID token's `nonce` is not the one of this sign-in")]
    Nonce,
    /// The ID token was made for another client.
    #[error("the ID token was made for another client (`azp`)")]
    OtherClient,
}

/// A sign-in that began: what must come back, and what goes with it.
pub struct Begun {
    /// Comes back with the browser.
    pub state: String,
    nonce: String,
    verifier: Secret<String>,
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Begun")
    }
}

/// What the browser brings back from the provider (RFC 6749 §4.1.2, RFC 9207).
#[derive(Debug, Clone, Default)]
pub struct Returned {
    /// The code.
    pub code: Option<String>,
    /// The error.
    pub error: Option<String>,
    /// Who says so.
    pub iss: Option<String>,
}

/// The node as a client of the company's provider.
#[derive(Debug)]
pub struct Login {
    config: LoginConfig,
    redirect_uri: String,
    fetch: Arc<dyn Fetch>,
    rng: Arc<dyn Rng>,
}

impl Login {
    /// A client that the provider sends people back to at `redirect_uri`.
    pub fn new(
        config: LoginConfig,
        redirect_uri: String,
        fetch: Arc<dyn Fetch>,
        rng: Arc<dyn Rng>,
    ) -> Self {
        Self {
            config,
            redirect_uri,
            fetch,
            rng,
        }
    }

    /// The provider's identifier.
    pub fn issuer(&self) -> &str {
        self.config.provider.issuer().unwrap_or_default()
    }

    pub(crate) const fn provider(&self) -> &Provider {
        &self.config.provider
    }

    /// The claims that say who a person is.
    pub fn person_claims(&self) -> &[PersonClaim] {
        &self.config.person
    }

    /// Begins a sign-in: what to remember, and where to send the browser.
    pub async fn begin(&self) -> Result<Result<(Begun, String), LoginError>, RngError> {
        let fresh = || rng::bytes::<32>(&*self.rng).map(|bytes| b64(&bytes));
        let (state, nonce, verifier) = (fresh()?, fresh()?, fresh()?);
        let endpoint = match self.config.provider.discovered().await {
            Ok(document) => document.authorization_endpoint.clone(),
            Err(error) => return Ok(Err(error.into())),
        };
        let Some(endpoint) = endpoint else {
            return Ok(Err(LoginError::NoEndpoint("authorization_endpoint")));
        };
        let mut scope = "openid".to_owned();
        for more in &self.config.scopes {
            scope.push(' ');
            scope.push_str(more);
        }
        let challenge = b64(Digest::of(verifier.as_bytes()).as_bytes());
        let query = form::encode(&[
            ("response_type", "code"),
            ("client_id", &self.config.client_id),
            ("redirect_uri", &self.redirect_uri),
            ("scope", &scope),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let joined = if endpoint.as_str().contains('?') {
            '&'
        } else {
            '?'
        };
        let begun = Begun {
            state,
            nonce,
            verifier: Secret::new(verifier),
        };
        Ok(Ok((begun, format!("{endpoint}{joined}{query}"))))
    }

    /// Ends a sign-in: the claims of the person's ID token.
    pub async fn finish(&self, begun: &Begun, returned: &Returned) -> Result<Claims, LoginError> {
        let provider = &self.config.provider;
        let document = provider.discovered().await?;
        //= https://www.rfc-editor.org/rfc/rfc9207#section-2.4
        //# Clients MUST then
        //# compare the extracted and URL-decoded value to the issuer identifier
        //# of the authorization server where the authorization request was sent
        //# to.  This comparison MUST use simple string comparison
        // Before anything else of the answer is believed, errors among it.
        let right = match &returned.iss {
            Some(iss) => Some(&**iss) == provider.issuer(),
            None => !document.names_itself,
        };
        if !right {
            return Err(LoginError::Issuer);
        }
        let code = match (&returned.error, &returned.code) {
            (None, Some(code)) => code,
            (error, _) => {
                let error = error.as_deref().unwrap_or("nothing");
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let error: String = error.chars().filter(|c| word(*c)).take(64).collect();
                return Err(LoginError::Refused(error));
            }
        };
        let endpoint = document.token_endpoint.as_ref();
        let endpoint = endpoint.ok_or(LoginError::NoEndpoint("token_endpoint"))?;
        let mut parameters = vec![
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", self.redirect_uri.as_str()),
            ("code_verifier", begun.verifier.expose().as_str()),
        ];
        let mut basic = None;
        match &self.config.client_secret {
            Some(secret) if !document.secret_in_form => {
                basic = Some(form::basic(&self.config.client_id, secret));
            }
            Some(secret) => {
                parameters.push(("client_id", &self.config.client_id));
                parameters.push(("client_secret", secret.expose()));
            }
            None => parameters.push(("client_id", &self.config.client_id)),
        }
        let form = Secret::new(form::encode(&parameters));
        let answer = self.fetch.post(endpoint, form, basic).await;
        let answer = answer.map_err(LoginError::Code)?;
        let answer: serde_json::Value =
            serde_json::from_slice(&answer.body).map_err(|_| LoginError::NoIdToken)?;
        let token = answer.get("id_token").and_then(serde_json::Value::as_str);
        let token = token.ok_or(LoginError::NoIdToken)?;
        self.claims(begun, token).await
    }

    async fn claims(&self, begun: &Begun, token: &str) -> Result<Claims, LoginError> {
        let client_id = &*self.config.client_id;
        let token = Foreign::parse(token, ForeignTyp::Identity).map_err(ProviderError::from)?;
        let claims = self
            .config
            .provider
            .verify(&token, &[client_id], LIFETIME_SECONDS_MAX)
            .await?;
        let read = |error: ForeignError| LoginError::Provider(error.into());
        if claims.text("nonce").map_err(read)? != begun.nonce {
            return Err(LoginError::Nonce);
        }
        // Several audiences: then it says who asked (OpenID Connect Core §3.1.3.7).
        let several = claims.audiences().map_err(read)?.len() > 1;
        match claims.any_text("azp") {
            Some(azp) if azp != client_id => return Err(LoginError::OtherClient),
            None if several => return Err(LoginError::OtherClient),
            Some(_) | None => {}
        }
        claims.text("sub").map_err(read)?;
        Ok(claims)
    }
}

/// How long somebody may take to sign in, in seconds.
const LEAVE_SECONDS: u64 = 600;
/// Longest text that a browser keeps for us, in bytes: with its name it must fit in a cookie.
const SEALED_BYTES_MAX: usize = 3800;

/// Seals what a browser keeps between leaving for the provider and coming back, so that nothing is
/// kept here for whoever leaves and never comes back. The key is this process's alone.
pub struct Sealer {
    key: LessSafeKey,
    rng: Arc<dyn Rng>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// A sign-in that is under way, and where the browser goes after it.
#[derive(Serialize, Deserialize)]
struct Leaving {
    state: String,
    nonce: String,
    verifier: String,
    return_to: String,
    /// When it is too late, in seconds.
    until: u64,
    /// How many entries there were.
    began: u64,
}

impl Sealer {
    /// With a key of its own.
    pub fn new(rng: Arc<dyn Rng>) -> Result<Self, RngError> {
        let bytes = Secret::new(rng::bytes::<32>(&*rng)?);
        let key = UnboundKey::new(&aead::CHACHA20_POLY1305, bytes.expose())
            .map_err(|_| RngError("a key of 32 bytes was not taken".to_owned()))?;
        Ok(Self {
            key: LessSafeKey::new(key),
            rng,
        })
    }

    /// What the browser is to keep; none if that is too long for it.
    pub fn seal(
        &self,
        begun: &Begun,
        return_to: &str,
        now: Time,
        began: u64,
    ) -> Result<Option<String>, RngError> {
        let leaving = Leaving {
            state: begun.state.clone(),
            nonce: begun.nonce.clone(),
            verifier: begun.verifier.expose().clone(),
            return_to: return_to.to_owned(),
            until: now.as_secs() + LEAVE_SECONDS,
            began,
        };
        let Ok(mut text) = serde_json::to_vec(&leaving) else {
            return Ok(None);
        };
        let nonce = rng::bytes::<12>(&*self.rng)?;
        let sealed = self.key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::empty(),
            &mut text,
        );
        if sealed.is_err() {
            return Ok(None);
        }
        let kept = b64(&[&nonce[..], &text].concat());
        Ok((kept.len() <= SEALED_BYTES_MAX).then_some(kept))
    }

    /// What was kept, if it was sealed here, is not too old, and `state` came back with it.
    pub fn open(&self, kept: &str, state: &str, now: Time) -> Option<(Begun, String, u64)> {
        let mut bytes = unb64(kept)?;
        let (nonce, sealed) = bytes.split_at_mut_checked(12)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let text = self.key.open_in_place(nonce, Aad::empty(), sealed).ok()?;
        let leaving: Leaving = serde_json::from_slice(text).ok()?;
        let same = vocab::secret::same_bytes(leaving.state.as_bytes(), state.as_bytes());
        let begun = Begun {
            state: leaving.state,
            nonce: leaving.nonce,
            verifier: Secret::new(leaving.verifier),
        };
        (same && now.as_secs() < leaving.until).then_some((begun, leaving.return_to, leaving.began))
    }
}
