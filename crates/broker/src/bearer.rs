//! Access tokens that an upstream is reached with: fetched with a client's secret, as the client
//! itself (RFC 6749 §4.4) or on behalf of an instance (RFC 8693), and kept in memory until shortly
//! before they expire.
//!
//! How the endpoint is asked is for whoever has sockets ([`TokenEndpoint`]); what of its answer is
//! taken is decided here.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use serde::{Deserialize, Deserializer};
use tokio::time::{Instant, timeout};
use vocab::secret::same_bytes;
use vocab::{InstanceId, Secret};
use zeroize::Zeroizing;

use crate::reads::Reads;
use crate::source::Source;

/// How long fetching a token may take, and how long whoever needs one waits for its turn.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// For how long a token is used whose endpoint does not say when it expires.
const UNTOLD: Duration = Duration::from_mins(1);
/// Longest use of a token, so that a client that was shut out at the endpoint is not for days.
const USE_MAX: Duration = Duration::from_hours(1);
/// How long before it expires a token is given up, or a fifth of its life if that is less: clocks
/// differ, and a request takes its time.
const MARGIN: Duration = Duration::from_secs(30);
/// What an access token is called where tokens are exchanged, and what a JWT is, which some call one
/// (RFC 8693 §3).
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// Tokens of one instance that were replaced or refused and are to be given back yet. Beyond them the
/// oldest are forgotten, and nobody says that all was given back.
const LEFT_MAX: usize = 32;
/// Longest token, in bytes: what servers accept as a header.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// What an endpoint answers, or why it did not; the reason goes to the log and says nothing secret.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<Secret<Vec<u8>>, String>> + Send + 'a>>;

/// What became of giving a token back: whether there was a way to do so.
pub type Revoking<'a> = Pin<Box<dyn Future<Output = Result<bool, RevokeError>> + Send + 'a>>;

/// Where tokens are had, as one client.
pub trait TokenEndpoint: Send + Sync + fmt::Debug {
    /// Asks for a token, and gives the JSON of a successful answer: for the client itself or, on
    /// behalf of whoever it acts for, for an instance. Redirects are not followed, and what is read
    /// is bounded.
    fn ask<'a>(
        &'a self,
        whom: Option<&'a InstanceId>,
        client_secret: &'a Secret<String>,
    ) -> Asking<'a>;

    /// The scope that is asked for.
    fn scope(&self) -> Option<&str>;

    /// Asks that a token be good no more.
    fn revoke<'a>(
        &'a self,
        token: &'a Secret<String>,
        client_secret: &'a Secret<String>,
    ) -> Revoking<'a>;
}

/// Why a token was not given back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct RevokeError {
    /// The reason, for the log. It says nothing secret.
    pub why: String,
    /// Whether it may be otherwise when asked again.
    pub again: bool,
}

/// Why there is no token. It never says anything of the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The client's secret cannot be had.
    #[error("oauth.client_secret: {0}")]
    NoSecret(String),
    /// The endpoint cannot be reached, or refused.
    #[error("oauth: no token was given: {0}")]
    Refused(String),
    /// The answer is no token response.
    #[error("oauth: the token endpoint's answer is not one of RFC 6749 §5.1")]
    Malformed,
    /// A token that is used in another way.
    #[error("oauth: the token endpoint gave a token of another type than `Bearer`")]
    Type,
    /// A token that cannot stand in a header.
    #[error(
        "oauth: the token endpoint gave a token that is empty, longer than {TOKEN_BYTES_MAX} bytes, \
         or has a character that no header can have"
    )]
    Token,
    /// Something else than an access token was given in exchange.
    #[error("oauth: the token endpoint gave something else than an access token in exchange")]
    Issued,
    /// A token for more than was asked for.
    #[error("oauth: the token endpoint gave a token for more than the scope that was asked for")]
    Scope,
    /// The instance that it is for is over.
    #[error("oauth: the instance that a token is for may not act any more")]
    Ended,
    /// It took too long.
    #[error("oauth: no token was given in time")]
    Late,
}

/// One token, in use by whoever has it.
pub(crate) struct Token {
    value: Secret<String>,
    header: HeaderValue,
    until: Instant,
    expires: Option<Instant>,
}

impl Token {
    pub(crate) const fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// When it is good no more; none: its giver did not say.
    pub(crate) const fn expires(&self) -> Option<Instant> {
        self.expires
    }
}

/// What fetching gave: the token, and secrets to be recognised from now on.
pub(crate) struct Had {
    pub(crate) token: Arc<Token>,
    pub(crate) seen: Vec<Secret<String>>,
}

/// The token that is used, and the client's secret that it was had with.
struct Held {
    token: Arc<Token>,
    secret: Secret<String>,
}

/// Tokens that are not used any more and were not given back.
#[derive(Default)]
struct Left {
    tokens: Vec<Arc<Token>>,
    /// Whether there were more than are kept.
    is_short: bool,
}

/// A client of a token endpoint, and the token that it has for itself or for one instance.
pub(crate) struct Bearer {
    secret: Source,
    endpoint: Arc<dyn TokenEndpoint>,
    whom: Option<InstanceId>,
    ended: AtomicBool,
    held: Mutex<Option<Held>>,
    /// Of an instance: what was replaced, or refused by the upstream, and may still be good.
    left: Mutex<Left>,
    /// Whoever fetches has it, so that one does for all who wait; with it, how it went last if it
    /// went wrong.
    fetching: Arc<tokio::sync::Mutex<Option<(Instant, TokenError)>>>,
    patience: Duration,
}

impl Bearer {
    pub(crate) fn new(
        secret: Source,
        endpoint: Arc<dyn TokenEndpoint>,
        whom: Option<InstanceId>,
    ) -> Self {
        Self {
            secret,
            endpoint,
            whom,
            ended: AtomicBool::new(false),
            held: Mutex::default(),
            left: Mutex::default(),
            fetching: Arc::default(),
            patience: FETCH_TIMEOUT,
        }
    }

    /// The token that is held, or another one if it expires or was had with another secret than the
    /// present one.
    pub(crate) async fn token(self: &Arc<Self>, reads: &Arc<Reads>) -> Result<Had, TokenError> {
        let had = |token| Had {
            token,
            seen: Vec::new(),
        };
        if self.ended.load(Ordering::Acquire) {
            return Err(TokenError::Ended);
        }
        let asked = Instant::now();
        if let Some(token) = self.fresh(&self.secret(reads).await?) {
            return Ok(had(token));
        }
        let turn = Arc::clone(&self.fetching).lock_owned();
        let turn = timeout(self.patience, turn);
        let mut last = turn.await.map_err(|_| TokenError::Late)?;
        // What was had until then is given back by whoever ended it; what is had later nobody would.
        if self.ended.load(Ordering::Acquire) {
            return Err(TokenError::Ended);
        }
        // It may have been changed while others fetched.
        let secret = self.secret(reads).await?;
        if let Some(token) = self.fresh(&secret) {
            return Ok(had(token));
        }
        // Whoever waited while it went wrong does not try once more by itself: many who wait for an
        // endpoint that is gone would otherwise wait one after the other.
        if let Some((at, error)) = &*last
            && *at >= asked
        {
            return Err(error.clone());
        }
        // Whoever waits may go away. What was asked for is taken all the same: what nobody took could
        // not be given back.
        let (it, reads) = (Arc::clone(self), Arc::clone(reads));
        let fetching = tokio::spawn(async move {
            let fetched = timeout(it.patience, it.fetch(&secret)).await;
            let fetched = fetched.unwrap_or(Err(TokenError::Late));
            *last = match &fetched {
                Ok(fetched) => {
                    let token = Arc::clone(&fetched.token);
                    let replaced = it.held().replace(Held { token, secret });
                    if let Some(replaced) = replaced {
                        it.leave(replaced.token);
                    }
                    None
                }
                Err(error) => Some((Instant::now(), error.clone())),
            };
            // What fails is tried again when another is had, and at the end of the instance.
            let left = it.left().tokens.clone();
            for old in left {
                if let Ok(true) = it.revoke(&old, &reads).await {
                    it.left().tokens.retain(|left| !Arc::ptr_eq(left, &old));
                }
            }
            fetched
        });
        let fetched = fetching.await.unwrap_or(Err(TokenError::Late))?;
        if self.ended.load(Ordering::Acquire) {
            return Err(TokenError::Ended);
        }
        Ok(fetched)
    }

    /// From now on no token is given.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// What is to be given back in the end, whoever is just fetching, and whether that is all.
    pub(crate) async fn last(&self) -> (Vec<Arc<Token>>, bool) {
        let _turn = self.fetching.lock().await;
        let held = self.held().take();
        if let Some(held) = held {
            self.leave(held.token);
        }
        let left = std::mem::take(&mut *self.left());
        (left.tokens, !left.is_short)
    }

    /// Keeps an instance's token that is not used any more, to be given back.
    fn leave(&self, token: Arc<Token>) {
        if self.whom.is_none() {
            return;
        }
        let now = Instant::now();
        let mut left = self.left();
        left.tokens
            .retain(|it| it.expires().is_none_or(|at| at > now));
        if left.tokens.len() == LEFT_MAX {
            left.tokens.remove(0);
            left.is_short = true;
        }
        left.tokens.push(token);
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a token back; whether there was a way to do so.
    pub(crate) async fn revoke(&self, token: &Token, reads: &Reads) -> Result<bool, RevokeError> {
        let late = |_| RevokeError {
            why: "it took too long".to_owned(),
            again: true,
        };
        let revoking = async {
            let secret = self.secret(reads).await.map_err(|error| RevokeError {
                why: error.to_string(),
                again: true,
            })?;
            self.endpoint.revoke(&token.value, &secret).await
        };
        timeout(self.patience, revoking).await.map_err(late)?
    }

    /// The client's secret, as it is at this moment.
    async fn secret(&self, reads: &Reads) -> Result<Secret<String>, TokenError> {
        let read = if self.secret.waits(reads.vault()) {
            let source = self.secret.clone();
            let reading = reads.read(move |vault| source.read(vault)).await;
            reading.map_err(|error| TokenError::NoSecret(error.to_string()))?
        } else {
            self.secret.read(reads.vault())
        };
        read.map_err(|error| TokenError::NoSecret(error.to_string()))
    }

    /// Gives up a token that the upstream refused, unless another took its place already.
    pub(crate) fn give_up(&self, token: &Arc<Token>) {
        let mut held = self.held();
        let is_it = |it: &Held| Arc::ptr_eq(&it.token, token);
        // The upstream that refuses it has it, and may not be the only one that it is good for.
        if held.as_ref().is_some_and(is_it)
            && let Some(refused) = held.take()
        {
            self.leave(refused.token);
        }
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self, secret: &Secret<String>) -> Option<Arc<Token>> {
        let held = self.held();
        let is_fresh = |it: &&Held| {
            let (one, other) = (it.secret.expose(), secret.expose());
            it.token.until > Instant::now() && same_bytes(one.as_bytes(), other.as_bytes())
        };
        let fresh = held.as_ref().filter(is_fresh);
        fresh.map(|it| Arc::clone(&it.token))
    }

    fn exchanged(&self) -> Option<Exchanged<'_>> {
        let scope = self.endpoint.scope();
        self.whom.as_ref().map(|_| Exchanged { scope })
    }

    async fn fetch(&self, secret: &Secret<String>) -> Result<Had, TokenError> {
        // The life of a token begins before its answer is on its way.
        let asked = Instant::now();
        let answer = self.endpoint.ask(self.whom.as_ref(), secret).await;
        let answer = answer.map_err(TokenError::Refused)?;
        let token = Arc::new(read(answer.expose(), asked, self.exchanged())?);
        let value = Secret::new(token.value.expose().clone());
        Ok(Had {
            token,
            seen: vec![value, Secret::new(secret.expose().clone())],
        })
    }
}

/// What a token that is given in exchange may be good for.
struct Exchanged<'a> {
    scope: Option<&'a str>,
}

//= https://www.rfc-editor.org/rfc/rfc6749#section-5.1
//# The client MUST ignore unrecognized value names in the response.
#[derive(Deserialize)]
struct Answer {
    #[serde(deserialize_with = "secret")]
    access_token: Secret<String>,
    token_type: String,
    #[serde(default)]
    expires_in: serde_json::Value,
    #[serde(default)]
    issued_token_type: Option<String>,
    #[serde(default)]
    scope: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Secret<String>, D::Error> {
    String::deserialize(from).map(Secret::new)
}

fn read(
    answer: &[u8],
    asked: Instant,
    exchanged: Option<Exchanged<'_>>,
) -> Result<Token, TokenError> {
    // What the parser says may repeat what it read.
    let answer: Answer = serde_json::from_slice(answer).map_err(|_| TokenError::Malformed)?;
    //= https://www.rfc-editor.org/rfc/rfc6749#section-7.1
    //# The client MUST NOT use an access token if it does not understand the token type.
    if !answer.token_type.eq_ignore_ascii_case("bearer") {
        return Err(TokenError::Type);
    }
    if let Some(exchanged) = exchanged {
        //= https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1
        //# issued_token_type REQUIRED. An identifier, as described in Section 3, for the
        //# representation of the issued security token.
        if !matches!(
            answer.issued_token_type.as_deref(),
            Some(ACCESS_TOKEN | JWT)
        ) {
            return Err(TokenError::Issued);
        }
        let (wanted, given) = (exchanged.scope, answer.scope.as_deref());
        let within = |wanted: &str, word: &str| wanted.split(' ').any(|it| it == word);
        if let (Some(wanted), Some(given)) = (wanted, given)
            && !given
                .split_ascii_whitespace()
                .all(|word| within(wanted, word))
        {
            return Err(TokenError::Scope);
        }
    }
    let text = answer.access_token.expose();
    let is_one = (1..=TOKEN_BYTES_MAX).contains(&text.len());
    if !is_one || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::Token);
    }
    let header = Zeroizing::new(format!("Bearer {text}"));
    let mut header = HeaderValue::from_str(&header).map_err(|_| TokenError::Token)?;
    header.set_sensitive(true);
    // What is no number of seconds says nothing.
    let told = answer.expires_in.as_u64().map(Duration::from_secs);
    let used = told.map_or(UNTOLD, |life| life.saturating_sub(MARGIN.min(life / 5)));
    Ok(Token {
        value: answer.access_token,
        header,
        until: asked + used.min(USE_MAX),
        expires: told.and_then(|life| asked.checked_add(life)),
    })
}

/// Reads bytes as the answer of a token endpoint; whether they are one. For fuzz targets: whatever is
/// taken can stand in a header.
#[doc(hidden)]
pub fn read_token_answer(bytes: &[u8]) -> bool {
    let exchanged = Exchanged { scope: Some("a") };
    let token = read(bytes, Instant::now(), None);
    if read(bytes, Instant::now(), Some(exchanged)).is_ok() {
        assert!(
            token.is_ok(),
            "an exchange takes nothing beyond what others take"
        );
    }
    token.is_ok_and(|token| {
        let sent = token.header.as_bytes();
        assert!(sent.iter().all(|byte| matches!(byte, b' '..=b'~')));
        assert_eq!(
            sent.strip_prefix(b"Bearer "),
            Some(token.value.expose().as_bytes())
        );
        true
    })
}

#[cfg(test)]
mod tests;
