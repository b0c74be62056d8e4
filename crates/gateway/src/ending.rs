//! What ends a request under way before its answer, whatever its upstream and its client do: its
//! caller is cut off or has expired, the node stops, or the client takes it back.

use std::pin::Pin;
use std::sync::Arc;

use mcp::Era;
use register::Why;
use tokio::sync::watch;
use tokio::time::Sleep;

use crate::answer::Out;
use crate::call::Call;
use crate::plane::{Plane, STOPPED};

/// Why a request ends before its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The caller was narrowed.
    Cut(Why),
    /// The caller's instance is over.
    Expired,
    /// The node stops.
    Stopped,
    /// The client took it back.
    Cancelled,
}

/// Watches over one request.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    plane: &'a Arc<Plane>,
    call: &'a Call,
    out: &'a Out,
    cut: watch::Receiver<u64>,
    expiry: Pin<Box<Sleep>>,
}

impl<'a> Ending<'a> {
    /// Watches from now on. Who looks at standing after this misses no cut.
    pub(crate) fn watch(plane: &'a Arc<Plane>, call: &'a Call, out: &'a Out) -> Self {
        let cut = plane.cut.subscribe();
        let expiry = Box::pin(plane.until_expiry(&call.caller));
        Self {
            plane,
            call,
            out,
            cut,
            expiry,
        }
    }

    /// Whether it is to end at this moment.
    pub(crate) fn check(&self) -> Result<(), Ended> {
        if *self.cut.borrow() == STOPPED {
            return Err(Ended::Stopped);
        }
        let (id, now) = (self.call.caller.instance(), self.plane.clock.now());
        for served in std::iter::once(&self.call.served).chain(&self.call.asked) {
            let standing = self.plane.control.standing_at(id, &served.name, now);
            match standing.active() {
                Ok(_) => {}
                Err(Why::InstanceExpired) => return Err(Ended::Expired),
                Err(why) => return Err(Ended::Cut(why)),
            }
        }
        Ok(())
    }

    /// Resolves when it is to end.
    pub(crate) async fn reached(&mut self) -> Ended {
        // In the modern era, closing the stream is how a client cancels; before, it is not.
        let cancels = self.call.era == Era::Modern;
        loop {
            tokio::select! {
                biased;
                changed = self.cut.changed() => {
                    if changed.is_err() {
                        return Ended::Stopped;
                    }
                    if let Err(ended) = self.check() {
                        return ended;
                    }
                }
                () = &mut self.expiry => return Ended::Expired,
                () = self.out.gone(), if cancels => return Ended::Cancelled,
            }
        }
    }

    /// What `work` comes to, unless the request ends before; then `work` is dropped.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Ended> {
        tokio::select! {
            biased;
            ended = self.reached() => Err(ended),
            done = work => Ok(done),
        }
    }
}
