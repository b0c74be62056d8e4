//! What one holder was given by OpenBao servers: an upstream for all, or an instance for itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vocab::Secret;

use crate::bao::{Bao, BaoError, Leased, Slot};
use crate::reads::Reads;
use crate::source::{BaoRef, Source, SourceError};
use crate::vault::Vault;

/// The servers that configuration names.
pub type Baos = std::collections::BTreeMap<String, Arc<Bao>>;

/// A holder's paths.
#[derive(Default)]
pub(crate) struct Leases {
    slots: Mutex<HashMap<(String, String), Arc<Slot>>>,
    ended: AtomicBool,
}

/// What was read for one lease.
#[derive(Default)]
pub(crate) struct Fetched(Vec<(BaoRef, Arc<Leased>)>);

impl Leases {
    fn slots(&self) -> MutexGuard<'_, HashMap<(String, String), Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what these references name; the fields of one path come from one answer.
    pub(crate) async fn fetch(
        &self,
        baos: &Baos,
        wanted: impl Iterator<Item = &BaoRef>,
        reads: &Arc<Reads>,
    ) -> Result<Fetched, SourceError> {
        let mut fetched = Vec::new();
        for reference in wanted {
            let failed = |cause| SourceError::Bao {
                from: Source::OpenBao(reference.clone()).to_string(),
                cause,
            };
            let slot = self.slot(baos, reference).map_err(failed)?;
            let leased = slot.read(reads).await.map_err(failed)?;
            if self.ended.load(Ordering::Acquire) {
                return Err(failed(BaoError::Ended));
            }
            fetched.push((reference.clone(), leased));
        }
        Ok(Fetched(fetched))
    }

    fn slot(&self, baos: &Baos, reference: &BaoRef) -> Result<Arc<Slot>, BaoError> {
        let mut slots = self.slots();
        if self.ended.load(Ordering::Acquire) {
            return Err(BaoError::Ended);
        }
        let key = (reference.store.clone(), reference.path.clone());
        if let Some(slot) = slots.get(&key) {
            return Ok(Arc::clone(slot));
        }
        let bao = baos.get(&reference.store);
        let bao = bao.ok_or_else(|| BaoError::Source("no such server".to_owned()))?;
        let slot = Arc::new(Slot::new(Arc::clone(bao), reference.path.clone()));
        slots.insert(key, Arc::clone(&slot));
        Ok(slot)
    }

    /// From now on nothing is read; what was is to be given back.
    pub(crate) fn end(&self) -> Vec<Arc<Slot>> {
        let mut slots = self.slots();
        self.ended.store(true, Ordering::Release);
        slots.drain().map(|(_, slot)| slot).collect()
    }
}

impl Fetched {
    /// The value of a reference: of these, or of what lies on this machine. May block on the disk.
    pub(crate) fn read(
        &self,
        source: &Source,
        vault: &Vault,
    ) -> Result<Secret<String>, SourceError> {
        let Source::OpenBao(wanted) = source else {
            return source.read(vault);
        };
        let found = self.0.iter().find(|(it, _)| it == wanted);
        let value = match found {
            Some((_, leased)) => leased.field(&wanted.field),
            None => Err(BaoError::NoField(wanted.field.clone())),
        };
        let value = value.map_err(|cause| SourceError::Bao {
            from: source.to_string(),
            cause,
        })?;
        source.checked(value)
    }
}
