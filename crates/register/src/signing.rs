//! The keys that sign access tokens, and what can happen to them.
//!
//! A key is announced before it signs, so that whoever verifies tokens by the node's published
//! keys has it in time; then it is the one that signs; then it is past, and verifies for as long
//! as a token of its making can be valid; then it is gone. One that somebody else may have is
//! compromised, and verifies nothing from that entry on.

use std::time::Duration;

use vocab::limits::ACCESS_TOKEN_SECONDS;
use vocab::time::Time;

use crate::entry::{Event, TokenKeyActivated, TokenKeyAdded, TokenKeyRetired, TokenKeyRevoked};
use crate::jwk::PublicJwk;
use crate::lifecycle::InvalidTransition;
use crate::refusal::Refusal;
use crate::text::KeyId;

/// The life of a key that signs tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKeyLife {
    /// It is published, and signs nothing yet.
    Announced {
        /// Since when.
        since: Time,
    },
    /// It signs.
    Current {
        /// Since when.
        since: Time,
    },
    /// Another signs; its tokens are good until they expire.
    Past {
        /// Since when.
        since: Time,
    },
    /// No token of its making can be valid any more; final.
    Gone {
        /// Since when.
        since: Time,
    },
    /// Somebody else may have it; final.
    Compromised {
        /// Since when.
        since: Time,
    },
}

/// What can happen to a key that signs tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKeyEvent {
    /// It begins to sign.
    Activate,
    /// Another begins to sign.
    Replace,
    /// Nothing needs it any more.
    Retire,
    /// Somebody else may have it.
    Revoke,
}

impl TokenKeyEvent {
    /// Every event.
    pub const ALL: [Self; 4] = [Self::Activate, Self::Replace, Self::Retire, Self::Revoke];

    /// The event as a verb.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::Replace => "replace",
            Self::Retire => "retire",
            Self::Revoke => "revoke",
        }
    }
}

impl TokenKeyLife {
    /// The state as an adjective.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Announced { .. } => "announced",
            Self::Current { .. } => "current",
            Self::Past { .. } => "past",
            Self::Gone { .. } => "gone",
            Self::Compromised { .. } => "compromised",
        }
    }

    /// Since when it is in this state.
    pub const fn since(&self) -> Time {
        match self {
            Self::Announced { since }
            | Self::Current { since }
            | Self::Past { since }
            | Self::Gone { since }
            | Self::Compromised { since } => *since,
        }
    }

    /// The state after `event`.
    pub const fn after(self, event: TokenKeyEvent, at: Time) -> Result<Self, InvalidTransition> {
        use TokenKeyEvent as On;
        match (self, event) {
            (Self::Announced { .. }, On::Activate) => Ok(Self::Current { since: at }),
            (Self::Current { .. }, On::Replace) => Ok(Self::Past { since: at }),
            (Self::Announced { .. } | Self::Past { .. }, On::Retire) => {
                Ok(Self::Gone { since: at })
            }
            (Self::Announced { .. } | Self::Past { .. }, On::Revoke) => {
                Ok(Self::Compromised { since: at })
            }
            (Self::Announced { .. }, On::Replace)
            // Another must sign first, or the node could sign nothing.
            | (Self::Current { .. }, On::Activate | On::Retire | On::Revoke)
            | (Self::Past { .. }, On::Activate | On::Replace)
            | (
                Self::Gone { .. } | Self::Compromised { .. },
                On::Activate | On::Replace | On::Retire | On::Revoke,
            ) => Err(InvalidTransition {
                what: "a token key",
                state: self.as_str(),
                event: event.as_str(),
            }),
        }
    }

    /// Whether a token that it signed is believed at `now`.
    pub fn verifies(&self, now: Time) -> bool {
        match self {
            Self::Current { .. } => true,
            Self::Past { since } => now < until(*since),
            Self::Announced { .. } | Self::Gone { .. } | Self::Compromised { .. } => false,
        }
    }

    /// Whether it is published at `now`: what verifies, and what will.
    pub fn is_published(&self, now: Time) -> bool {
        matches!(self, Self::Announced { .. }) || self.verifies(now)
    }
}

/// When the last token of a key that was replaced at `since` expires.
fn until(since: Time) -> Time {
    since.plus(Duration::from_secs(ACCESS_TOKEN_SECONDS))
}

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
    pub life: TokenKeyLife,
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
    event: TokenKeyEvent,
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
    let current = |key: &&mut TokenKey| matches!(key.life, TokenKeyLife::Current { .. });
    for key in keys.iter_mut().filter(current) {
        key.life = key.life.after(TokenKeyEvent::Replace, at)?;
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
        Some((true, TokenKeyLife::Current { .. })) => Ok(Vec::new()),
        Some((true, TokenKeyLife::Announced { .. })) => {
            Ok(vec![Event::TokenKeyActivated(TokenKeyActivated { kid })])
        }
        Some((true, life)) => Err(Refusal::TokenKeyState {
            kid,
            state: life.as_str(),
            event: TokenKeyEvent::Activate.as_str(),
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
        let announced = |key: &&TokenKey| matches!(key.life, TokenKeyLife::Announced { .. });
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
            TokenKeyEvent::Activate
        }
        TokenKeyCommand::Retire { .. } => TokenKeyEvent::Retire,
        TokenKeyCommand::Revoke { .. } => TokenKeyEvent::Revoke,
    };
    let refused = |kid: KeyId| Refusal::TokenKeyState {
        kid,
        state: key.life.as_str(),
        event: event.as_str(),
    };
    match (event, key.life) {
        (TokenKeyEvent::Activate, TokenKeyLife::Current { .. })
        | (TokenKeyEvent::Retire, TokenKeyLife::Gone { .. })
        | (TokenKeyEvent::Revoke, TokenKeyLife::Compromised { .. }) => Ok(Vec::new()),
        (TokenKeyEvent::Revoke, TokenKeyLife::Current { .. }) => {
            let next = announced().ok_or(Refusal::NoNextTokenKey)?.kid.clone();
            Ok(vec![
                Event::TokenKeyActivated(TokenKeyActivated { kid: next }),
                Event::TokenKeyRevoked(TokenKeyRevoked { kid }),
            ])
        }
        (TokenKeyEvent::Retire, TokenKeyLife::Past { .. }) if key.life.verifies(now) => {
            Err(refused(kid))
        }
        (event, life) if life.after(event, now).is_ok() => Ok(vec![match event {
            TokenKeyEvent::Retire => Event::TokenKeyRetired(TokenKeyRetired { kid }),
            TokenKeyEvent::Revoke => Event::TokenKeyRevoked(TokenKeyRevoked { kid }),
            TokenKeyEvent::Activate | TokenKeyEvent::Replace => {
                Event::TokenKeyActivated(TokenKeyActivated { kid })
            }
        }]),
        _ => Err(refused(kid)),
    }
}
