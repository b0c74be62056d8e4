//! The directory: what it says of sponsors, and what follows.
//!
//! [`Scim`] is the server that directories provision people and groups to. It never decides what
//! an agent may do: it turns what was said into commands of the register. [`ssf::Receiver`] takes
//! security events about people, pushed or polled. What follows of what was said is a table of the
//! configuration, [`Reactions`].

#[cfg(test)]
mod bench;
pub mod json;
pub mod poller;
pub mod rate;
pub mod reactions;
pub mod scim;
pub mod ssf;

pub use reactions::{Cause, Reaction, Reactions};
pub use scim::Scim;
