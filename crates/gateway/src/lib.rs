//! The walk of one call, and the clients that reach upstreams.
//!
//! This crate turns what an agent asks into a decision on record, and only then into a request to
//! an upstream. It is used by the program alone. Read [`call`] first. It never verifies a token by
//! itself, never decides by itself, and sends nothing that needs a permit without a
//! `Recorded<Permit>`.
//!
//! Main types: [`Plane`], [`Parts`].

mod access;
mod answer;
mod call;
mod cors;
pub mod cutoff;
mod elsewhere;
mod ending;
mod ext_authz;
mod face;
mod flow;
mod handed;
mod hosts;
mod limits;
mod looks;
mod metrics;
mod names;
mod open;
mod outgoing;
mod pass;
mod pins;
mod plane;
pub mod record;
mod refusals;
mod returns;
mod route;
mod session;
mod standing;
mod tools;
pub mod upstream;

#[doc(hidden)]
pub use access::requests::reads_submission;
pub use cors::Crossing;
pub use ext_authz::grpc::connection as ext_authz;
pub use ext_authz::proto::reads as reads_check;
pub use face::{STANDING, router};
pub use flow::{LabelError, Labels};
pub use hosts::{HostError, Hosts};
pub use limits::Bounds;
pub use metrics::Metrics;
pub use names::{FaultyName, NameFault};
pub use pins::{Alike, Doubt, JudgeError, Pin, PinState, Pins};
pub use plane::{Life, Parts, Plane, PlaneError, Served, ServedConfig, Settings, Trial};
pub use refusals::Refusals;
pub use tools::JudgeToolError;
