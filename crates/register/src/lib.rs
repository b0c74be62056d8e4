//! The register: who exists and what holds, as a fold of the control log.
//!
//! There is no other source of truth. A [`Command`] is decided against the [`State`], becomes
//! entries, and only reading those entries back changes the state; folding the log again gives the
//! same state. [`Control`] serialises commands; [`Standing`] answers, before every call, whether an
//! instance and everything above it may act *now*.
//!
//! This crate does no IO: it takes the log, the keyring, time and randomness as arguments.

mod closing;
mod control;
mod decide;
mod fold;
mod handing_on;
mod nouns;
mod starting;

pub mod allow;
pub mod approval;
pub mod break_glass;
pub mod command;
pub mod entry;
pub mod jwk;
pub mod lifecycle;
pub mod log_keys;
pub mod refusal;
pub mod signing;
pub mod snapshot;
pub mod standing;
pub mod state;
pub mod text;
pub mod view;

pub use allow::Allow;
pub use approval::{
    Approval, ApprovalCommand, ApprovalLife, ApprovalOver, ApprovalRefusal, ApprovalRequest,
    ApprovalSettings, Exactly, Grant, MayApprove, NewApproval, NotApprover, Way,
};
pub use break_glass::{BreakGlass, GlassCommand, GlassLife, GlassOver, GlassSettings, Held};
pub use command::{
    Command, CommandError, Delegation, Done, NewAgent, NewKey, NewOwners, Settings, Subject,
};
pub use control::{Control, Failure, Sever};
pub use entry::{
    AssertedAgents, Binding, CallLimits, CutOff, DelegationLimits, Event, FirstSight, Judgement,
    Owners, People, Risk, SignIn, Signal, Sponsorship, TestResults, ToolJudged, ToolsPinned, Via,
};
pub use fold::{FoldCause, FoldError, fold_on, fold_prefix};
pub use jwk::{PublicJwk, Thumbprint};
pub use lifecycle::{EndReason, SigningLife};
pub use log_keys::{LogKeyCommand, SigningKey};
pub use refusal::Refusal;
pub use signing::{TokenKey, TokenKeyCommand};
pub use snapshot::{NotTaken, Snapshot};
pub use standing::{Active, Link, Stale, Standing, Why};
pub use state::{
    Admin, Agent, Cut, CutOf, Group, HandedOn, Identity, Instance, Known, Latest, Origin, Pep,
    PolicyName, Relation, Renamed, SignedIn, SignedOut, Sponsor, State, Validity,
};
pub use text::{
    AdminKey, AdminKeyError, Email, GroupProfile, KeyId, Label, Person, PersonName, PersonText,
    Reason, Word,
};
pub use view::{
    AdminView, AgentView, BreakGlassView, GroupView, HoldView, InstanceView, PepView, SponsorView,
    Status,
};

#[cfg(test)]
mod tests;
