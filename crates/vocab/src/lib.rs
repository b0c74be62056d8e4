//! The nouns of Tipstaff: identifiers, names, time, randomness, secrets, limits, and authority.
//!
//! Every other crate speaks in these types. A value of one of them is already valid: there is no
//! `validate` to forget. This crate does no IO; the clock and the random source are traits, and
//! their system implementations ([`time::SystemClock`], [`rng::SystemRng`]) are the only places in
//! the workspace that read them.

pub mod authority;
pub mod digest;
pub mod finding;
pub mod glob;
pub mod id;
pub mod limits;
pub mod rng;
pub mod secret;
pub mod suggest;
pub mod time;

pub use authority::Authority;
pub use digest::Digest;
pub use id::{
    AdminId, AgentId, CredentialName, Handle, IdError, InstanceId, LogName, PepName, PurposePath,
    RecordRef, SecretName, SponsorId, ToolName, TrustDomain, UpstreamName,
};
pub use rng::Rng;
pub use secret::Secret;
pub use time::{Clock, Time};
