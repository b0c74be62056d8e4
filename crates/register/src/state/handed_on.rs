//! What was handed on to instances. Agents worded it, so it lies sealed; whoever runs by what nobody
//! can read any more may do nothing.

use std::sync::Arc;

use ledger::{Keyring, LogReader};
use vocab::Authority;
use vocab::id::Handle;

use super::{Beside, HandedOn, Instance, Known, State, Unsealed};
use crate::entry::{Event, InstanceStarted};
use crate::fold::{self, FoldCause};
use crate::lifecycle::InstanceLife;

/// What an entry hands on.
pub(super) fn of(body: &mut InstanceStarted, unsealed: Unsealed) -> Option<HandedOn> {
    if let Some(clear) = body.authority.take() {
        return Some(HandedOn {
            authority: Known::Named(clear),
            sealed: None,
        });
    }
    let sealed = body.handed_on.take()?;
    let authority = match unsealed {
        Unsealed::Authority(authority) => authority.map(Arc::new),
        Unsealed::Person(_)
        | Unsealed::Group(_)
        | Unsealed::Reason(_)
        | Unsealed::Approval(_)
        | Unsealed::Nothing => Known::Sealed,
    };
    Some(HandedOn {
        authority,
        sealed: Some(sealed),
    })
}

impl State {
    /// Forgets what a destroyed key sealed.
    pub(super) fn erase_authority(&mut self, key: &Handle) {
        for instance in self.instances.values_mut() {
            if instance
                .authority
                .as_ref()
                .is_some_and(|it| it.is_under(key))
                && let Some(handed_on) = &mut Arc::make_mut(instance).authority
            {
                Arc::make_mut(handed_on).authority = Known::Erased;
            }
        }
    }

    /// The first entry that started a running instance and beside which lies what cannot be opened,
    /// though nothing says that it was erased.
    pub(crate) fn locked_authority(&self) -> Option<u64> {
        let locked = |it: &&Arc<Instance>| {
            let authority = it.authority.as_ref().map(|it| &it.authority);
            it.life == InstanceLife::Running && authority == Some(&Known::Sealed)
        };
        let instances = self.instances.values().filter(locked);
        instances.map(|it| it.record).min()
    }

    /// What was handed on to the instance that the entry at `record` started: opened where it lies
    /// sealed, or read in the entry.
    pub(super) fn handed_on(
        &self,
        record: u64,
        handed_on: &HandedOn,
        log: &dyn LogReader,
        keyring: Option<&dyn Keyring>,
    ) -> Result<Known<Arc<Authority>>, FoldCause> {
        if let Some(sealed) = &handed_on.sealed {
            let commit = sealed.commit;
            let beside = Beside { record, commit };
            let opened = fold::unseal(self, Some(&sealed.key), &beside, log, keyring)?;
            return Ok(opened.map(Arc::new));
        }
        match fold::event(log, record)? {
            Event::InstanceStarted(InstanceStarted {
                authority: Some(clear),
                ..
            }) => Ok(Known::Named(clear)),
            _ => Err(FoldCause::Differs),
        }
    }
}
