//! Shared signals (SSF 1.0, CAEP 1.0, RISC 1.0): security events about people, received.
//!
//! [`set`] reads what a transmitter signed; [`receiver`] does what follows, once; [`poll`] asks a
//! transmitter that does not push.

pub mod poll;
pub mod receiver;
pub mod set;

pub use receiver::{Formats, Heard, Keys, Receiver, Stream, Turns, Verifying};
pub use set::SetError;
