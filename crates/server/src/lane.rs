//! A thread beside those that calls run on. The register's commands have one, and so has who says
//! that somebody left: nobody who is cut off goes on for as long as it takes until a busy node's
//! calls have all had their turn.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Lane {
    handle: Handle,
    _ends: oneshot::Sender<()>,
}

impl Lane {
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (ends, ended) = oneshot::channel();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // What is sent is nothing; that the other half is gone is what ends this.
                let _gone = runtime.block_on(ended);
                // What waits for a disk that does not answer holds nobody up.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            handle,
            _ends: ends,
        })
    }

    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }
}
