//! A whole node in process, for tests: the real program on a temporary folder, with a clock that a
//! test moves, seeded randomness, storage that fails on request, and upstreams that do what they
//! are told.
//!
//! ```text
//! let plane = Plane::start().await;
//! let token = plane.agent("triage").await.token("files").await;
//! let reply = token.modern().call("read_text_file", r#"{"path":"/public/a.txt"}"#).await;
//! plane.end().await;   // stops the node and verifies everything it wrote
//! ```
//!
//! Everything goes the way that users go: administration over the Unix socket, tokens over
//! `POST /oauth/token`, calls over HTTP. Nothing here is a mock of a part of the program. It is no
//! dependency of anything but tests.
//!
//! Main types: [`Plane`], [`Upstream`], [`Token`] with its [`Modern`] and [`Legacy`] clients, and
//! [`Ledger`].

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a test kit does not get as expected ends the test"
)]

mod agent;
pub mod client;
mod clock;
pub mod idp;
pub mod ledger;
pub mod plane;
pub mod upstream;
mod wire;

pub use agent::{Agent, Below, Token};
pub use client::{Legacy, Modern, Reply};
pub use clock::{MockClock, SeededRng};
pub use idp::{Browser, Idp};
pub use ledger::{Ledger, Line};
pub use plane::{Plane, Setup};
pub use upstream::{Script, Seen, Speaks, Upstream};
pub use wire::{Answer, Ask, Stream};

use std::time::Duration;

use vocab::Clock as _;
use vocab::time::SystemClock;

/// The longest that a test waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `holds`, looking again and again; panics if it takes too long.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let clock = SystemClock::new();
    while !holds().await {
        assert!(clock.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits for `future`; panics if it takes too long.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|elapsed| panic!("waited too long for {what}: {elapsed}"))
}
