//! What the register does not have to know for ever: instances whose time is long over.
//!
//! An instance is forgotten by the time of an entry, so whoever folds the same entries has
//! forgotten the same. Who is forgotten may not act, as before; only why is not known any more.

use std::time::Duration;

use vocab::id::InstanceId;
use vocab::limits::{INSTANCE_KEPT_SECONDS, ONCE_KEPT_SECONDS};
use vocab::time::Time;

use super::{Instance, State, leaves};

/// When an instance is forgotten. Never before those below it: none of them lives longer.
pub(super) fn kept_until(instance: &Instance) -> (Time, InstanceId) {
    let kept = if instance.is_once() {
        ONCE_KEPT_SECONDS
    } else {
        INSTANCE_KEPT_SECONDS
    };
    let until = instance.expires_at.plus(Duration::from_secs(kept));
    (until, instance.id.clone())
}

impl State {
    /// Forgets the instances that are kept until `now`, unless a certificate has yet to say what
    /// was cut.
    pub(super) fn forget(&mut self, now: Time) {
        if !self.open_cuts.is_empty() {
            return;
        }
        let before = self.instances.len();
        while self
            .kept_until
            .first()
            .is_some_and(|(until, _)| *until <= now)
        {
            let Some(instance) = self
                .kept_until
                .pop_first()
                .and_then(|(_, id)| self.instances.remove(&id))
            else {
                continue;
            };
            let runs = (instance.expires_at, instance.id.clone());
            leaves(&mut self.running, &instance.agent, &runs);
            leaves(&mut self.acting, &instance.sponsor, &instance.id);
            if let Some(parent) = &instance.parent {
                leaves(&mut self.children, parent, &runs);
            }
            if let Some(continues) = instance.continues_as()
                && self.continues.get(&continues) == Some(&instance.id)
            {
                self.continues.remove(&continues);
            }
        }
        if self.instances.len() < before {
            self.end_forgotten_approvals(now);
        }
    }
}
