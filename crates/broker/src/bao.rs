//! Secrets of an OpenBao or HashiCorp Vault server: stored ones, and those that it makes for whoever
//! asks and takes back (leases).
//!
//! How requests are sent is for whoever has sockets ([`BaoServer`]). Decided here is which are made, what
//! of an answer is taken, and for how long: what is stored is read anew after a minute, a lease is
//! renewed after two thirds of its time, and given back when whoever it was had for is over.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use vocab::Secret;
use zeroize::Zeroize;

use crate::reads::Reads;
use crate::source::{SECRET_BYTES_MAX, Source};

/// How long one thing may take that is asked of a server.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long something stored is used before it is read anew.
const STORED: Duration = Duration::from_mins(1);
/// The shortest time after which anything is renewed, and the pause after a renewal that failed.
const RENEW_MIN: Duration = Duration::from_secs(1);

/// The longest time that something is taken to be good for: what a server says may be any number.
const LIFE_SECONDS_MAX: u64 = 366 * 24 * 3600;

/// What is asked of a server.
#[derive(Debug)]
pub struct BaoRequest<'a> {
    /// Whether something is sent (`POST`), or read (`GET`).
    pub body: Option<Secret<String>>,
    /// What follows `/v1/`.
    pub path: &'a str,
    /// The token, if there is one.
    pub token: Option<&'a Secret<String>>,
}

/// An answer that comes: status and body, or why there is none, without anything secret.
pub type BaoAnswering<'a> =
    Pin<Box<dyn Future<Output = Result<(u16, Secret<Vec<u8>>), String>> + Send + 'a>>;

/// A server, as far as it can be reached.
pub trait BaoServer: Send + Sync + fmt::Debug {
    /// Sends one request. Redirects are not followed, and what is read is bounded.
    fn send<'a>(&'a self, request: BaoRequest<'a>) -> BaoAnswering<'a>;
}

/// As whom a server is asked.
#[derive(Debug, Clone)]
pub enum BaoAuth {
    /// With a token that somebody made.
    Token(Source),
    /// By AppRole.
    AppRole {
        /// Where the method is mounted.
        mount: String,
        /// The role's id.
        role_id: String,
        /// What goes with it.
        secret_id: Source,
    },
    /// By the token of a Kubernetes service account.
    Kubernetes {
        /// Where the method is mounted.
        mount: String,
        /// The role there.
        role: String,
        /// The service account's token.
        jwt: Source,
    },
}

impl BaoAuth {
    /// What it refers to, by its key.
    pub const fn source(&self) -> (&'static str, &Source) {
        match self {
            Self::Token(token) => ("token", token),
            Self::AppRole { secret_id, .. } => ("approle.secret_id", secret_id),
            Self::Kubernetes { jwt, .. } => ("kubernetes.jwt", jwt),
        }
    }
}

/// Why a server gave nothing. It never says anything of an answer but its status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaoError {
    /// What it is asked with cannot be had.
    #[error("what it is asked with cannot be had: {0}")]
    Source(String),
    /// It did not answer.
    #[error("it does not answer: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("it did not answer in time")]
    Late,
    /// It refused to say who we are.
    #[error("it refused the login ({0}): look at the role, at what goes with it, and at the mount")]
    Login(u16),
    /// Who we are may not do that.
    #[error(
        "permission denied (403): the token is no longer good, or no policy of it allows this path"
    )]
    Denied,
    /// There is nothing at that path.
    #[error(
        "there is nothing at that path (404); of a KV store of version 2 it is `MOUNT/data/NAME`, and \
         a version that was deleted is gone"
    )]
    Absent,
    /// There is no such field.
    #[error("it has no text `{0}` there")]
    NoField(String),
    /// It is another node's turn.
    #[error(
        "it sends us elsewhere ({0}), perhaps from a standby: name the active node or what stands \
         before it; redirects are not followed"
    )]
    Elsewhere(u16),
    /// It has been asked too much.
    #[error("it has been asked too often (429): raise its quota, or wait")]
    Often,
    /// It is sealed, or down.
    #[error("it is sealed, or down for maintenance (503): unseal it")]
    Sealed,
    /// Something else.
    #[error("it answered {0}")]
    Status(u16),
    /// The answer is not one.
    #[error("its answer is none of the documented form")]
    Malformed,
    /// Whoever it was for is over.
    #[error("the instance that it is for may not act any more")]
    Ended,
}

impl BaoError {
    const fn of(status: u16) -> Self {
        match status {
            403 => Self::Denied,
            404 => Self::Absent,
            429 => Self::Often,
            503 => Self::Sealed,
            300..=399 | 472 | 473 => Self::Elsewhere(status),
            status => Self::Status(status),
        }
    }

    /// Whether it may be otherwise when asked again.
    pub(crate) const fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Late | Self::Often | Self::Sealed | Self::Source(_) => {
                true
            }
            Self::Status(status) => *status >= 500,
            Self::Login(_)
            | Self::Denied
            | Self::Absent
            | Self::NoField(_)
            | Self::Elsewhere(_)
            | Self::Malformed
            | Self::Ended => false,
        }
    }
}

/// A server, and who we are there.
#[derive(Debug)]
pub struct Bao {
    server: Arc<dyn BaoServer>,
    auth: BaoAuth,
    token: tokio::sync::Mutex<Option<Arc<Token>>>,
    patience: Duration,
}

/// Who we are.
#[derive(Debug)]
struct Token {
    value: Secret<String>,
    until: Mutex<Option<Instant>>,
}

impl Token {
    fn is_good(&self) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_none_or(|until| Instant::now() < until)
    }

    fn renewed(&self, life: Option<Duration>) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = life.map(used).map(|used| Instant::now() + used);
    }
}

/// For how long something is good, as its giver says.
fn life(seconds: u64) -> Duration {
    Duration::from_secs(seconds.min(LIFE_SECONDS_MAX))
}

/// For how long something is used that is good for `life`: clocks differ, and a request takes its time.
fn used(life: Duration) -> Duration {
    life.saturating_sub((life / 5).min(Duration::from_secs(30)))
}

/// When something is renewed that is good for `life`.
fn renewed_after(life: Duration) -> Duration {
    (life * 2 / 3).max(RENEW_MIN)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    lease_id: String,
    lease_duration: u64,
    renewable: bool,
    data: Value,
    auth: Option<Auth>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    client_token: String,
    lease_duration: u64,
    renewable: bool,
}

fn parsed(body: &Secret<Vec<u8>>) -> Result<Answer, BaoError> {
    // What the parser says may repeat what it read.
    serde_json::from_slice(body.expose()).map_err(|_| BaoError::Malformed)
}

impl Bao {
    /// A server that is asked as this one.
    pub fn new(server: Arc<dyn BaoServer>, auth: BaoAuth) -> Self {
        Self {
            server,
            auth,
            token: tokio::sync::Mutex::default(),
            patience: PATIENCE,
        }
    }

    async fn send(
        &self,
        path: &str,
        token: Option<&Secret<String>>,
        body: Option<&Value>,
    ) -> Result<(u16, Secret<Vec<u8>>), BaoError> {
        let body = body.map(|it| Secret::new(it.to_string()));
        let sending = self.server.send(BaoRequest { body, path, token });
        let sent = timeout(self.patience, sending).await;
        sent.map_err(|_| BaoError::Late)?
            .map_err(BaoError::Unreachable)
    }

    /// Asks as who we are, which is found out first; once more if that is no longer good. The answer,
    /// and the token that it was given to.
    async fn ask(
        self: &Arc<Self>,
        path: &str,
        body: Option<&Value>,
        reads: &Reads,
    ) -> Result<(Secret<Vec<u8>>, Arc<Token>), BaoError> {
        let mut token = self.token(None, reads).await?;
        let (mut status, mut answer) = self.send(path, Some(&token.value), body).await?;
        if status == 403 && !self.knows(&token).await? {
            let again = self.token(Some(&token), reads).await?;
            if Arc::ptr_eq(&again, &token) {
                return Err(BaoError::Denied);
            }
            token = again;
            (status, answer) = self.send(path, Some(&token.value), body).await?;
        }
        match status {
            200..=204 => Ok((answer, token)),
            status => Err(BaoError::of(status)),
        }
    }

    /// Whether a token is good that was just refused something. If it is, another login helps nobody,
    /// and what was leased under this one would be over with it.
    async fn knows(&self, token: &Token) -> Result<bool, BaoError> {
        let looking = self.send("auth/token/lookup-self", Some(&token.value), None);
        Ok(looking.await?.0 == 200)
    }

    /// The token that is held and good; another one than `refused`, if another is to be had.
    async fn token(
        self: &Arc<Self>,
        refused: Option<&Arc<Token>>,
        reads: &Reads,
    ) -> Result<Arc<Token>, BaoError> {
        let mut held = timeout(self.patience, self.token.lock())
            .await
            .map_err(|_| BaoError::Late)?;
        let (key, source) = self.auth.source();
        let (of, at) = (source.clone(), key);
        let read = reads.read(move |vault| of.read(vault)).await;
        let failed = |cause: String| BaoError::Source(format!("{at}: {cause}"));
        let secret = read.map_err(|error| failed(error.to_string()))?;
        let secret = secret.map_err(|error| failed(error.to_string()))?;
        if let Some(token) = held.as_ref().filter(|it| it.is_good()) {
            let is_refused = refused.is_some_and(|it| Arc::ptr_eq(it, token));
            let is_same = match &self.auth {
                BaoAuth::Token(_) => token.value.expose() == secret.expose(),
                BaoAuth::AppRole { .. } | BaoAuth::Kubernetes { .. } => !is_refused,
            };
            if is_same {
                return Ok(Arc::clone(token));
            }
        }
        let (path, body) = match &self.auth {
            BaoAuth::Token(_) => {
                let token = Arc::new(Token {
                    value: secret,
                    until: Mutex::default(),
                });
                // How long it is good only the server knows; one that cannot be renewed is used as it is.
                self.keep_token(&token, RENEW_MIN);
                *held = Some(Arc::clone(&token));
                return Ok(token);
            }
            BaoAuth::AppRole { mount, role_id, .. } => (
                format!("auth/{mount}/login"),
                json!({"role_id": role_id, "secret_id": secret.expose()}),
            ),
            BaoAuth::Kubernetes { mount, role, .. } => (
                format!("auth/{mount}/login"),
                json!({"role": role, "jwt": secret.expose()}),
            ),
        };
        let answered = self.send(&path, None, Some(&body)).await;
        wipe(body);
        let auth = match answered? {
            (200, answer) => parsed(&answer)?.auth.ok_or(BaoError::Malformed)?,
            (status @ (400 | 403 | 404), _) => return Err(BaoError::Login(status)),
            (status, _) => return Err(BaoError::of(status)),
        };
        if !is_header(&auth.client_token) {
            return Err(BaoError::Malformed);
        }
        let token = Arc::new(Token {
            value: Secret::new(auth.client_token),
            until: Mutex::default(),
        });
        // Zero: it does not expire.
        let life = (auth.lease_duration > 0).then(|| life(auth.lease_duration));
        token.renewed(life);
        if let Some(life) = life.filter(|_| auth.renewable) {
            self.keep_token(&token, renewed_after(life));
        }
        *held = Some(Arc::clone(&token));
        Ok(token)
    }

    /// Renews a token for as long as it is used.
    fn keep_token(self: &Arc<Self>, token: &Arc<Token>, first: Duration) {
        let (bao, token) = (Arc::downgrade(self), Arc::downgrade(token));
        tokio::spawn(async move {
            let mut wait = first;
            loop {
                sleep(wait).await;
                let (Some(bao), Some(token)) = (bao.upgrade(), token.upgrade()) else {
                    return;
                };
                if !token.is_good() {
                    return;
                }
                let nothing = json!({});
                let renewing =
                    bao.send("auth/token/renew-self", Some(&token.value), Some(&nothing));
                match renewing.await {
                    Ok((200, answer)) => {
                        let auth = parsed(&answer).ok().and_then(|it| it.auth);
                        let Some(auth) = auth.filter(|it| it.lease_duration > 0) else {
                            return;
                        };
                        let life = life(auth.lease_duration);
                        token.renewed(Some(life));
                        if !auth.renewable {
                            return;
                        }
                        wait = renewed_after(life);
                    }
                    Ok((status, _)) if !BaoError::of(status).is_passing() => return,
                    Ok(_) | Err(_) => wait = RENEW_MIN,
                }
            }
        });
    }

    /// Gives up who we are there, and with it all that was leased under it, unless the token is not
    /// ours to give up.
    pub async fn end(&self) -> Result<(), BaoError> {
        if matches!(self.auth, BaoAuth::Token(_)) {
            return Ok(());
        }
        let Some(token) = self.token.lock().await.take() else {
            return Ok(());
        };
        match self
            .send(
                "auth/token/revoke-self",
                Some(&token.value),
                Some(&json!({})),
            )
            .await?
        {
            (200..=204, _) => Ok(()),
            (status, _) => Err(BaoError::of(status)),
        }
    }
}

fn is_header(text: &str) -> bool {
    !text.is_empty() && text.len() <= SECRET_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic())
}

fn wipe(value: Value) {
    match value {
        Value::String(mut text) => text.zeroize(),
        Value::Array(all) => all.into_iter().for_each(wipe),
        Value::Object(all) => all.into_iter().for_each(|(_, value)| wipe(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What one path gave.
pub(crate) struct Leased {
    fields: BTreeMap<String, Secret<String>>,
    /// What it is given back by; empty for what is stored.
    lease: String,
    /// What it was given to. It is renewed while this is held, and what was leased is over with it.
    token: Arc<Token>,
    life: Mutex<Life>,
}

#[derive(Clone, Copy)]
struct Life {
    /// Until when it is used.
    used: Instant,
    /// When it expires, if it does.
    expires: Option<Instant>,
}

impl Life {
    fn of(asked: Instant, seconds: u64) -> Self {
        let life = life(seconds);
        Self {
            used: asked + used(life),
            expires: Some(asked + life),
        }
    }
}

impl Leased {
    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn expires(&self) -> Option<Instant> {
        self.life().expires
    }

    pub(crate) fn field(&self, name: &str) -> Result<Secret<String>, BaoError> {
        let found = self.fields.get(name);
        let found = found.ok_or_else(|| BaoError::NoField(name.to_owned()))?;
        Ok(Secret::new(found.expose().clone()))
    }
}

/// Reads an answer: the fields that are text, and the lease.
fn leased(
    body: &Secret<Vec<u8>>,
    token: Arc<Token>,
    asked: Instant,
) -> Result<(Leased, bool), BaoError> {
    let answer = parsed(body)?;
    let mut data = answer.data;
    // A KV store of version 2 has the fields beside what it knows of their version.
    let is_version_2 = answer.lease_id.is_empty()
        && data.pointer("/metadata/version").is_some_and(Value::is_u64)
        && data.as_object().is_some_and(|it| it.len() == 2);
    if is_version_2 {
        data = data.get_mut("data").map(Value::take).unwrap_or_default();
    }
    let Value::Object(data) = data else {
        return Err(BaoError::Malformed);
    };
    let mut fields = BTreeMap::new();
    for (name, value) in data {
        match value {
            Value::String(text) => {
                fields.insert(name, Secret::new(text));
            }
            other => wipe(other),
        }
    }
    let life = if answer.lease_id.is_empty() {
        Life {
            used: asked + STORED,
            expires: None,
        }
    } else {
        Life::of(asked, answer.lease_duration)
    };
    let renewable = answer.renewable && !answer.lease_id.is_empty();
    let leased = Leased {
        fields,
        lease: answer.lease_id,
        token,
        life: Mutex::new(life),
    };
    Ok((leased, renewable))
}

/// One path of one server, read for one holder.
pub(crate) struct Slot {
    bao: Arc<Bao>,
    path: String,
    /// Whoever reads has it.
    turn: Arc<tokio::sync::Mutex<bool>>,
    held: Mutex<Option<Arc<Leased>>>,
}

impl Slot {
    pub(crate) fn new(bao: Arc<Bao>, path: String) -> Self {
        Self {
            bao,
            path,
            turn: Arc::default(),
            held: Mutex::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Option<Arc<Leased>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> Option<Arc<Leased>> {
        let held = self.held();
        let is_fresh = |it: &Arc<Leased>| Instant::now() < it.life().used && it.token.is_good();
        held.clone().filter(is_fresh)
    }

    /// What is held, or what the server gives now.
    pub(crate) async fn read(
        self: &Arc<Self>,
        reads: &Arc<Reads>,
    ) -> Result<Arc<Leased>, BaoError> {
        if let Some(leased) = self.fresh() {
            return Ok(leased);
        }
        let turn = Arc::clone(&self.turn).lock_owned();
        let turn = timeout(self.bao.patience, turn).await;
        let turn = turn.map_err(|_| BaoError::Late)?;
        if *turn {
            return Err(BaoError::Ended);
        }
        if let Some(leased) = self.fresh() {
            return Ok(leased);
        }
        // Whoever waits may go away; what was made for them is taken all the same, to be given back.
        let (it, reads) = (Arc::clone(self), Arc::clone(reads));
        let reading = tokio::spawn(async move {
            let _turn = turn;
            let asked = Instant::now();
            let (answer, token) = it.bao.ask(&it.path, None, &reads).await?;
            let (leased, renewable) = leased(&answer, token, asked)?;
            let leased = Arc::new(leased);
            if renewable {
                it.keep(&leased, &reads);
            }
            *it.held() = Some(Arc::clone(&leased));
            Ok(leased)
        });
        reading.await.unwrap_or(Err(BaoError::Late))
    }

    /// Renews a lease for as long as it is held.
    fn keep(&self, leased: &Arc<Leased>, reads: &Arc<Reads>) {
        let (bao, reads) = (Arc::downgrade(&self.bao), Arc::clone(reads));
        let (leased, id) = (Arc::downgrade(leased), leased.lease.clone());
        tokio::spawn(keep(bao, leased, id, reads));
    }

    /// Ends it: nothing is read any more. What is held in the end, if it is to be given back.
    pub(crate) async fn end(&self) -> Option<Arc<Leased>> {
        *self.turn.lock().await = true;
        self.held().take().filter(|it| !it.lease.is_empty())
    }

    /// Gives a lease back.
    pub(crate) async fn revoke(&self, leased: &Leased, reads: &Arc<Reads>) -> Result<(), BaoError> {
        // Without `sync` the answer says no more than that it will be tried.
        let body = json!({"lease_id": leased.lease, "sync": true});
        let revoking = self.bao.ask("sys/leases/revoke", Some(&body), reads);
        revoking.await.map(drop)
    }
}

async fn keep(bao: Weak<Bao>, leased: Weak<Leased>, id: String, reads: Arc<Reads>) {
    loop {
        let wait = {
            let Some(leased) = leased.upgrade() else {
                return;
            };
            let expires = leased.life().expires;
            let Some(left) = expires.map(|at| at - Instant::now()) else {
                return;
            };
            if left < RENEW_MIN {
                return;
            }
            renewed_after(left)
        };
        sleep(wait).await;
        let (Some(bao), Some(leased)) = (bao.upgrade(), leased.upgrade()) else {
            return;
        };
        let asked = Instant::now();
        let body = json!({"lease_id": id});
        match bao.ask("sys/leases/renew", Some(&body), &reads).await {
            Ok((answer, _)) => {
                let Ok(answer) = parsed(&answer) else { return };
                *leased.life() = Life::of(asked, answer.lease_duration);
                if !answer.renewable {
                    return;
                }
            }
            Err(error) if error.is_passing() => {}
            // It has lived as long as it may: whoever comes after it has another one.
            Err(_) => return,
        }
    }
}

/// Reads bytes as a server's answer; whether they are one. For fuzz targets.
#[doc(hidden)]
pub fn read_bao_answer(bytes: &[u8]) -> bool {
    let body = Secret::new(bytes.to_vec());
    let token = Token {
        value: Secret::new(String::new()),
        until: Mutex::default(),
    };
    leased(&body, Arc::new(token), Instant::now()).is_ok()
}

#[cfg(test)]
mod tests;
