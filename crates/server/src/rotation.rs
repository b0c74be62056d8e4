//! The keys that sign tokens, in the keys folder and on record.
//!
//! | file | is |
//! |---|---|
//! | `token.key` | the key that signs |
//! | `token.next.key` | the key that is to sign next, published as long as the other one signs |
//!
//! A rotation moves the second into the place of the first, has the register say so, and makes
//! another second. A crash between two steps leaves a folder that the next start makes sense of:
//! what lies in `token.key` is to sign.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ledger::Actor;
use register::{
    Command, CommandError, Control, Done, KeyId, PublicJwk, Refusal, SigningLife, TokenKeyCommand,
};
use serde::Serialize;
use tokens::{Algorithm, Issuer, TokenSigner};
use tokio_util::sync::CancellationToken;
use vocab::{RecordRef, Rng, Time};

use crate::config::TokensConfig;
use crate::keys::{self, KeyError};
use crate::node::Shared;

/// How often it is looked whether a key is due.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Why a key was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// A key file cannot be made, read or moved.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The register did not take it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A key is of a sort that the register does not take.
    #[error("the token key cannot be registered: {0}")]
    Form(String),
}

/// What a change of keys came to.
#[derive(Debug)]
pub struct Rotated {
    /// The key that it is about.
    pub kid: KeyId,
    /// Whether anything changed.
    pub is_new: bool,
    /// What says so.
    pub records: Vec<RecordRef>,
}

/// A token key as people see it.
#[derive(Debug, Serialize)]
pub struct TokenKeyView {
    /// Its id, as in the header of tokens and in `/oauth/jwks`.
    pub id: KeyId,
    /// `tokens`.
    pub of: &'static str,
    /// What it signs with.
    pub algorithm: &'static str,
    /// `announced`, `current`, `past`, `gone` or `compromised`.
    pub status: &'static str,
    /// Since when it is so.
    pub since: Time,
    /// Since when it is known.
    pub added_at: Time,
}

/// The keys of the register, the last first.
pub fn views(control: &Control) -> Vec<TokenKeyView> {
    control.view(|state| {
        let keys = state.token_keys().iter().rev();
        let view = |key: &register::TokenKey| TokenKeyView {
            id: key.kid.clone(),
            of: "tokens",
            algorithm: algorithm(&key.jwk).as_str(),
            status: key.life.as_str(),
            since: key.life.since(),
            added_at: key.since,
        };
        keys.map(view).collect()
    })
}

/// What keys are changed with. One change at a time.
#[derive(Debug)]
pub struct Rotation {
    config: TokensConfig,
    node: Actor,
    changing: tokio::sync::Mutex<()>,
}

impl Rotation {
    /// By this configuration.
    pub fn new(config: TokensConfig, node: &str) -> Self {
        Self {
            config,
            node: Actor::node(node),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// Sees to it that a next key is there, published and at hand.
    pub async fn prepare(&self, shared: &Keyed<'_>) -> Result<(), RotationError> {
        let _alone = self.changing.lock().await;
        self.next(shared).await?;
        // Another algorithm was configured: the next key is the first that can have it, and it is
        // published from this start on.
        let path = keys::next_token_key(shared.keys);
        let next = keys::read_token_key(&path)?;
        let public = next
            .public()
            .to_registered()
            .map_err(|error| form(&error))?;
        if algorithm(&public) == self.config.algorithm {
            return Ok(());
        }
        remove(&path)?;
        self.next(shared).await
    }

    async fn next(&self, shared: &Keyed<'_>) -> Result<(), RotationError> {
        let path = keys::next_token_key(shared.keys);
        // Twice at most: the second time with a key that nobody knows yet.
        for _ in 0..2 {
            if !path.exists() {
                self.finish(shared).await?;
                keys::write_token_key(&path, self.config.algorithm, shared.rng)?;
            }
            let signer = keys::read_token_key(&path)?;
            let kid = kid(&*signer)?;
            let life = shared.control.view(|state| {
                let keys = state.token_keys().iter();
                let announced = |life: &SigningLife| matches!(life, SigningLife::Announced { .. });
                let other = keys
                    .clone()
                    .find(|key| key.kid != kid && announced(&key.life));
                let own = keys.clone().find(|key| key.kid == kid).map(|key| key.life);
                (own, other.map(|key| key.kid.clone()))
            });
            // Announced by a file that is there no more: it will never sign.
            if let (_, Some(kid)) = life {
                self.command(shared, TokenKeyCommand::Retire { kid })
                    .await?;
            }
            match life.0 {
                None => {
                    let jwk = signer.public().to_registered();
                    let jwk = jwk.map_err(|error| form(&error))?;
                    self.command(shared, TokenKeyCommand::Announce { kid, jwk })
                        .await?;
                }
                Some(SigningLife::Announced { .. }) => {}
                Some(_) => {
                    remove(&path)?;
                    continue;
                }
            }
            shared.issuer.hold(signer);
            return Ok(());
        }
        Err(RotationError::Form(
            "a fresh key is known already".to_owned(),
        ))
    }

    /// A change that was begun and is not on record: the next key lies in the place of the one
    /// that signs already.
    async fn finish(&self, shared: &Keyed<'_>) -> Result<(), RotationError> {
        let Ok(present) = keys::read_token_key(&keys::token_key(shared.keys)) else {
            return Ok(());
        };
        let kid = kid(&*present)?;
        let is_announced = shared.control.view(|state| {
            let mut keys = state.token_keys().iter();
            let announced = |life| matches!(life, SigningLife::Announced { .. });
            keys.any(|key| key.kid == kid && announced(key.life))
        });
        if is_announced {
            shared.issuer.hold(present);
            self.command(shared, TokenKeyCommand::Activate { kid })
                .await?;
        }
        Ok(())
    }

    async fn command(
        &self,
        shared: &Keyed<'_>,
        command: TokenKeyCommand,
    ) -> Result<(), RotationError> {
        let command = Command::TokenKey(command);
        shared.control.execute(self.node.clone(), command).await?;
        Ok(())
    }

    /// Has the next key sign, and makes another next one.
    pub async fn rotate(&self, shared: &Keyed<'_>, actor: Actor) -> Result<Rotated, RotationError> {
        let _alone = self.changing.lock().await;
        self.next(shared).await?;
        let next = kid(&*keys::read_token_key(&keys::next_token_key(shared.keys))?)?;
        let activate = TokenKeyCommand::Activate { kid: next.clone() };
        self.promote(shared, actor, activate, next).await
    }

    /// Says that somebody else may have a key. What it signed is refused from then on.
    pub async fn revoke(
        &self,
        shared: &Keyed<'_>,
        actor: Actor,
        kid: KeyId,
    ) -> Result<Rotated, RotationError> {
        let _alone = self.changing.lock().await;
        self.next(shared).await?;
        let life = shared.control.view(|state| {
            let mut keys = state.token_keys().iter();
            keys.find(|key| key.kid == kid).map(|key| key.life)
        });
        let revoke = TokenKeyCommand::Revoke { kid: kid.clone() };
        match life {
            None => Err(CommandError::Refused(Refusal::UnknownTokenKey { kid }).into()),
            Some(SigningLife::Current { .. }) => self.promote(shared, actor, revoke, kid).await,
            Some(_) => {
                let done = shared
                    .control
                    .execute(actor, Command::TokenKey(revoke))
                    .await?;
                self.next(shared).await?;
                shared.issuer.forget();
                Ok(rotated(kid, done))
            }
        }
    }

    /// Moves the next key into the place of the one that signs, by a command that says so.
    async fn promote(
        &self,
        shared: &Keyed<'_>,
        actor: Actor,
        command: TokenKeyCommand,
        about: KeyId,
    ) -> Result<Rotated, RotationError> {
        let (next, present) = (
            keys::next_token_key(shared.keys),
            keys::token_key(shared.keys),
        );
        let moved = fs::rename(&next, &present).and_then(|()| sync(shared.keys));
        moved.map_err(|cause| KeyError::Write {
            path: present.display().to_string(),
            cause,
        })?;
        // A crash here, or a log that cannot be written, leaves a key in place that the next start
        // puts on record as the one that signs; until then the old one signs, from memory.
        let done = shared
            .control
            .execute(actor, Command::TokenKey(command))
            .await?;
        self.next(shared).await?;
        shared.issuer.forget();
        Ok(rotated(about, done))
    }

    /// Changes the key if it is due, and says of those whose tokens have expired that they are gone.
    pub async fn look(&self, shared: &Keyed<'_>, now: Time) -> Result<(), RotationError> {
        let (due, over) = shared.control.view(|state| {
            let keys = state.token_keys();
            let due = keys
                .iter()
                .any(|key| match (key.life, self.config.rotation) {
                    (SigningLife::Current { since }, Some(every)) => since.plus(every) <= now,
                    _ => false,
                });
            let over = keys
                .iter()
                .filter(|key| matches!(key.life, SigningLife::Past { .. }) && !key.verifies(now));
            (due, over.map(|key| key.kid.clone()).collect::<Vec<_>>())
        });
        for kid in over {
            self.command(shared, TokenKeyCommand::Retire { kid })
                .await?;
        }
        if due {
            let rotated = self.rotate(shared, self.node.clone()).await?;
            tracing::info!("The token key `{}` signs from now on", rotated.kid);
        }
        Ok(())
    }
}

/// What keys lie in, and who is told.
#[derive(Debug, Clone, Copy)]
pub struct Keyed<'a> {
    /// The keys folder.
    pub keys: &'a Path,
    /// The register.
    pub control: &'a Arc<Control>,
    /// Who signs.
    pub issuer: &'a Issuer,
    /// Randomness.
    pub rng: &'a dyn Rng,
}

impl<'a> Keyed<'a> {
    /// Those of a running node.
    pub fn of(shared: &'a Shared) -> Self {
        Self {
            keys: &shared.config.keys,
            control: shared.plane.control(),
            issuer: shared.plane.issuer(),
            rng: &*shared.rng,
        }
    }
}

/// Looks after the keys until stopped.
pub async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let now = shared.clock.now();
        if let Err(error) = shared.rotation.look(&Keyed::of(&shared), now).await {
            tracing::error!(error = %error, "The token key could not be changed; the old one signs on");
        }
        let wait = tokio::time::sleep(LOOK_EVERY);
        if stop.run_until_cancelled(wait).await.is_none() {
            return;
        }
    }
}

const fn algorithm(key: &PublicJwk) -> Algorithm {
    match key {
        PublicJwk::Ed25519 { .. } => Algorithm::EdDsa,
        PublicJwk::P256 { .. } => Algorithm::Es256,
    }
}

fn form(error: &dyn std::fmt::Display) -> RotationError {
    RotationError::Form(error.to_string())
}

fn kid(signer: &dyn TokenSigner) -> Result<KeyId, RotationError> {
    let kid = signer.public().thumbprint().parse();
    kid.map_err(|error: vocab::IdError| RotationError::Form(error.to_string()))
}

fn rotated(kid: KeyId, done: Done) -> Rotated {
    let (is_new, records) = match done {
        Done::Changed { records, .. } => (true, records),
        Done::Started { .. } | Done::Continued { .. } | Done::Unchanged { .. } => {
            (false, Vec::new())
        }
    };
    Rotated {
        kid,
        is_new,
        records,
    }
}

fn remove(path: &Path) -> Result<(), KeyError> {
    fs::remove_file(path).map_err(|cause| KeyError::Write {
        path: path.display().to_string(),
        cause,
    })
}

fn sync(folder: &Path) -> std::io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// Makes another token key for a node that is not running: what it finds in `keys` when it starts
/// signs from then on. The one before is past then, and its tokens expire by themselves.
pub fn replace_offline(
    folder: &Path,
    algorithm: Algorithm,
    rng: &dyn Rng,
) -> Result<KeyId, RotationError> {
    let (next, present) = (keys::next_token_key(folder), keys::token_key(folder));
    if next.exists() {
        remove(&next)?;
    }
    keys::write_token_key(&next, algorithm, rng)?;
    let kid = kid(&*keys::read_token_key(&next)?)?;
    let moved = fs::rename(&next, &present).and_then(|()| sync(folder));
    moved.map_err(|cause| KeyError::Write {
        path: present.display().to_string(),
        cause,
    })?;
    Ok(kid)
}
