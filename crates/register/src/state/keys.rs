//! The node's own keys, as the control log has them.

use vocab::digest::Digest;
use vocab::time::Time;

use super::{Impossible, State, unknown};
use crate::entry::Event;
use crate::lifecycle::SigningEvent;
use crate::log_keys::{LogKeyCommand, SigningKey};
use crate::refusal::Refusal;
use crate::signing::{self, TokenKey};
use crate::text::KeyId;

impl State {
    /// The keys that sign tokens, oldest first.
    pub fn token_keys(&self) -> &[TokenKey] {
        &self.token_keys
    }

    /// Whether a token that the key signed is believed at `now`.
    pub fn token_key_verifies(&self, kid: &str, now: Time) -> bool {
        let key = self.token_keys.iter().find(|key| key.kid.as_str() == kid);
        key.is_some_and(|key| key.verifies(now))
    }

    /// The keys that sign the two logs, oldest first; none of a log whose key never changed.
    pub fn log_keys(&self) -> &[SigningKey] {
        self.log_keys.as_slice()
    }

    /// What the key is known by that wraps the erasable keys; none if it never changed.
    pub const fn wrapping_key(&self) -> Option<Digest> {
        self.wrapping_key
    }

    /// How often the local vault was changed, as far as it is on record.
    pub const fn vault(&self) -> u64 {
        self.vault
    }

    pub(crate) fn decide_log_key(
        &self,
        command: LogKeyCommand,
        now: Time,
    ) -> Result<Vec<Event>, Refusal> {
        self.log_keys.decide(command, now)
    }

    pub(super) fn change_token_key(
        &mut self,
        kid: &KeyId,
        event: SigningEvent,
        at: Time,
    ) -> Result<(), Impossible> {
        if signing::change(&mut self.token_keys, kid, event, at)? {
            Ok(())
        } else {
            Err(unknown("token key", kid))
        }
    }
}
