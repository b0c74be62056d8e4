//! Reading of sources, which may hang: a network mount that is gone lets nobody read, nor give up.
//!
//! What waits for a disk is done by a thread that is for that. Nobody can take a thread back from a
//! read that hangs; so each account has a few of them at most, and a read has its place until it
//! ends, whether or not anybody still waits for it. One source cannot keep those of other upstreams
//! from being read, nor the node from its own files.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::vault::Vault;

/// How long a read may take, and how long whoever wants to read waits for a place.
const PATIENCE: Duration = Duration::from_secs(5);
/// Reads of one account at once. A node has 512 threads for all that waits for a disk.
const READS_MAX: usize = 4;

/// Why nothing was read, or not to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It took too long.
    #[error("a source was not read within {after:?}")]
    Late {
        /// How long was waited.
        after: Duration,
    },
    /// Those who read before do not come to an end.
    #[error(
        "{reads} reads of the upstream's sources have not come to an end yet, so no other is begun; \
         look whether what the files lie on still answers"
    )]
    Hung {
        /// How many.
        reads: usize,
    },
    /// Whoever read did not come to its end.
    #[error("a source was not read to its end")]
    Interrupted,
}

/// Reads for one account.
pub(crate) struct Reads {
    vault: Arc<Vault>,
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Reads {
    pub(crate) fn new(vault: Arc<Vault>) -> Self {
        Self {
            vault,
            places: Arc::new(Semaphore::new(READS_MAX)),
            patience: PATIENCE,
        }
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.vault
    }

    /// What `read` gives; it may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Vault) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let place = timeout(self.patience, Arc::clone(&self.places).acquire_owned());
        let Ok(Ok(place)) = place.await else {
            return Err(ReadError::Hung { reads: READS_MAX });
        };
        let vault = Arc::clone(&self.vault);
        let reading = tokio::task::spawn_blocking(move || {
            let _until_it_ends = place;
            read(&vault)
        });
        match timeout(self.patience, reading).await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(_interrupted)) => Err(ReadError::Interrupted),
            Err(_elapsed) => {
                let after = self.patience;
                Err(ReadError::Late { after })
            }
        }
    }
}

#[cfg(test)]
impl Reads {
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;

    use super::*;

    fn reads(patience: Duration) -> Arc<Reads> {
        let nowhere = Path::new("/nonexistent");
        let vault = Arc::new(Vault::of(nowhere, nowhere));
        Arc::new(Reads::new(vault).with_patience(patience))
    }

    #[tokio::test]
    async fn a_read_that_hangs_keeps_its_place_though_nobody_waits_for_it() {
        let all = reads(Duration::from_millis(20));
        let (ends, begun) = (mpsc::channel::<()>(), Semaphore::new(0));
        let (begun, gate) = (Arc::new(begun), Arc::new(std::sync::Mutex::new(ends.1)));
        for _ in 0..READS_MAX {
            let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
            let hangs = all.read(move |_| {
                begun.add_permits(1);
                let _ended = gate.lock().unwrap().recv();
            });
            let late = hangs.await.unwrap_err();
            assert!(matches!(late, ReadError::Late { .. }), "{late}");
        }
        let many = u32::try_from(READS_MAX).unwrap();
        begun.acquire_many(many).await.unwrap().forget();
        // None is begun beyond them, however many ask.
        for _ in 0..3 {
            let refused = all.read(|_| ()).await;
            assert_eq!(refused, Err(ReadError::Hung { reads: READS_MAX }));
        }
        // Another account is not held up.
        let other = reads(Duration::from_mins(1));
        assert_eq!(other.read(|_| 1).await, Ok(1));
        // When they end, there is reading again.
        drop(ends.0);
        let all = Arc::try_unwrap(all).ok().unwrap();
        let again = all.with_patience(Duration::from_mins(1));
        assert_eq!(again.read(|_| 2).await, Ok(2));
    }

    #[tokio::test]
    async fn a_read_that_does_not_come_to_its_end_gives_its_place_back() {
        let it = reads(Duration::from_mins(1));
        for _ in 0..=READS_MAX {
            let read = it.read(|_| panic!("as told")).await;
            assert_eq!(read, Err::<(), _>(ReadError::Interrupted));
        }
    }

    #[tokio::test]
    async fn many_who_read_at_once_all_have_their_turn() {
        let it = reads(Duration::from_mins(1));
        let all = (0..50).map(|at| {
            let it = Arc::clone(&it);
            tokio::spawn(async move { it.read(move |_| at).await })
        });
        for (at, read) in all.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(read.await.unwrap(), Ok(at));
        }
    }
}
