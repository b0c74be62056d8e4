//! The keys that sign access tokens, and what can happen to them.
//!
//! A key is announced before it signs, so that whoever verifies tokens by the node's published
//! keys has it in time; then it is the one that signs; then it is past, and verifies for as long
//! as a token of its making can be valid; then it is retired. One that somebody else may have is
//! compromised, and verifies nothing from that entry on.

use std::time::Duration;

use vocab::limits::ACCESS_TOKEN_SECONDS;
use vocab::time::Time;

use crate::entry::{Event, TokenKeyActivated, TokenKeyAdded, TokenKeyRetired, TokenKeyRevoked};
use crate::jwk::PublicJwk;
use crate::lifecycle::{InvalidTransition, SigningEvent, SigningLife};
use crate::refusal::Refusal;
use crate::text::KeyId;

/// A key that signs tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKey {
    /// Its id.
    pub kid: KeyId,
    /// The public key.
    pub jwk: PublicJwk,
    /// Since when it is known.
    pub since: Time,
    /// What became of it.
    pub life: SigningLife,
}

impl TokenKey {
    /// Whether a token that it signed is believed at `now`.
    pub fn verifies(&self, now: Time) -> bool {
        match self.life {
            SigningLife::Current { .. } => true,
            SigningLife::Past { since } => now < until(since),
            SigningLife::Announced { .. }
            | SigningLife::Retired { .. }
            | SigningLife::Compromised { .. } => false,
        }
    }

    /// Whether it is published at `now`: what verifies, and what will.
    pub fn is_published(&self, now: Time) -> bool {
        matches!(self.life, SigningLife::Announced { .. }) || self.verifies(now)
    }
}

/// When the last token of a key that was replaced at `since` expires.
fn until(since: Time) -> Time {
    since.plus(Duration::from_secs(ACCESS_TOKEN_SECONDS))
}

/// What can be asked about the keys that sign tokens, beside
/// [`AddTokenKey`](crate::Command::AddTokenKey).
#[derive(Clone, Debug)]
pub enum TokenKeyCommand {
    /// Publishes a key that is to sign later.
    Announce {
        /// Its id.
        kid: KeyId,
        /// The public key.
        jwk: PublicJwk,
    },
    /// Has the announced key sign.
    Activate {
        /// Its id.
        kid: KeyId,
    },
    /// Says that nothing needs a key any more: its last token has expired.
    Retire {
        /// Its id.
        kid: KeyId,
    },
    /// Says that somebody else may have a key. If it is the one that signs, the announced one
    /// takes its place first.
    Revoke {
        /// Its id.
        kid: KeyId,
    },
}

impl TokenKeyCommand {
    /// The key.
    pub const fn kid(&self) -> &KeyId {
        match self {
            Self::Announce { kid, .. }
            | Self::Activate { kid }
            | Self::Retire { kid }
            | Self::Revoke { kid } => kid,
        }
    }
}

/// Finds a key, and changes its life.
pub(crate) fn change(
    keys: &mut [TokenKey],
    kid: &KeyId,
    event: SigningEvent,
    at: Time,
) -> Result<bool, InvalidTransition> {
    let Some(key) = keys.iter_mut().find(|key| key.kid == *kid) else {
        return Ok(false);
    };
    key.life = key.life.after(event, at)?;
    Ok(true)
}

/// The key that signs, and whoever comes before it, is replaced.
pub(crate) fn replace_current(keys: &mut [TokenKey], at: Time) -> Result<(), InvalidTransition> {
    let current = |key: &&mut TokenKey| matches!(key.life, SigningLife::Current { .. });
    for key in keys.iter_mut().filter(current) {
        key.life = key.life.after(SigningEvent::Replace, at)?;
    }
    Ok(())
}

/// The events that a key which is to sign at once comes to; none if it signs already.
pub(crate) fn add(keys: &[TokenKey], kid: KeyId, jwk: PublicJwk) -> Result<Vec<Event>, Refusal> {
    let known = keys.iter().find(|key| key.kid == kid);
    match known.map(|key| (key.jwk == jwk, key.life)) {
        None => Ok(vec![Event::TokenKeyAdded(TokenKeyAdded {
            kid,
            jwk,
            announced: false,
        })]),
        Some((false, _)) => Err(Refusal::TokenKeyTaken { kid }),
        Some((true, SigningLife::Current { .. })) => Ok(Vec::new()),
        Some((true, SigningLife::Announced { .. })) => {
            Ok(vec![Event::TokenKeyActivated(TokenKeyActivated { kid })])
        }
        Some((true, life)) => Err(Refusal::TokenKeyState {
            kid,
            state: life.as_str(),
            event: SigningEvent::Activate.as_str(),
        }),
    }
}

/// The events that a command comes to at `now`; none if it is so already.
pub(crate) fn decide(
    keys: &[TokenKey],
    command: TokenKeyCommand,
    now: Time,
) -> Result<Vec<Event>, Refusal> {
    let announced = || {
        let announced = |key: &&TokenKey| matches!(key.life, SigningLife::Announced { .. });
        keys.iter().find(announced)
    };
    if let TokenKeyCommand::Announce { kid, jwk } = command {
        return match announced() {
            Some(key) if key.kid == kid && key.jwk == jwk => Ok(Vec::new()),
            Some(key) => Err(Refusal::TokenKeyState {
                kid: key.kid.clone(),
                state: key.life.as_str(),
                event: "announce beside",
            }),
            None if keys.iter().any(|key| key.kid == kid) => Err(Refusal::TokenKeyTaken { kid }),
            None => Ok(vec![Event::TokenKeyAdded(TokenKeyAdded {
                kid,
                jwk,
                announced: true,
            })]),
        };
    }
    let kid = command.kid().clone();
    let Some(key) = keys.iter().find(|key| key.kid == kid) else {
        return Err(Refusal::UnknownTokenKey { kid });
    };
    let event = match command {
        TokenKeyCommand::Announce { .. } | TokenKeyCommand::Activate { .. } => {
            SigningEvent::Activate
        }
        TokenKeyCommand::Retire { .. } => SigningEvent::Retire,
        TokenKeyCommand::Revoke { .. } => SigningEvent::Revoke,
    };
    let refused = |kid: KeyId| Refusal::TokenKeyState {
        kid,
        state: key.life.as_str(),
        event: event.as_str(),
    };
    match (event, key.life) {
        (SigningEvent::Activate, SigningLife::Current { .. })
        | (SigningEvent::Retire, SigningLife::Retired { .. })
        | (SigningEvent::Revoke, SigningLife::Compromised { .. }) => Ok(Vec::new()),
        (SigningEvent::Revoke, SigningLife::Current { .. }) => {
            let next = announced().ok_or(Refusal::NoNextTokenKey)?.kid.clone();
            Ok(vec![
                Event::TokenKeyActivated(TokenKeyActivated { kid: next }),
                Event::TokenKeyRevoked(TokenKeyRevoked { kid }),
            ])
        }
        (SigningEvent::Retire, SigningLife::Past { .. }) if key.verifies(now) => Err(refused(kid)),
        (event, life) if life.after(event, now).is_ok() => Ok(vec![match event {
            SigningEvent::Retire => Event::TokenKeyRetired(TokenKeyRetired { kid }),
            SigningEvent::Revoke => Event::TokenKeyRevoked(TokenKeyRevoked { kid }),
            SigningEvent::Activate | SigningEvent::Replace => {
                Event::TokenKeyActivated(TokenKeyActivated { kid })
            }
        }]),
        _ => Err(refused(kid)),
    }
}
