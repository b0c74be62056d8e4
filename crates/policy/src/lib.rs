//! Decides calls: Cedar policies on the facts of one call, typed by the tools' own schemas.
//!
//! [`PolicySet`] is policies that parse, [`ToolList`] what an upstream can do, and [`Engine`] both
//! together: [`Engine::decide`] turns [`Facts`] into a [`Decision`], a [`Permit`], a [`Hold`] for
//! people to approve, or a [`Denial`].
//! Absent, unreadable or failing means no. Only this crate knows Cedar; it does no IO and takes the
//! time from the facts, so that a decision can be [run again](replay) from what was recorded.
//!
//! # What policies see
//!
//! * `principal` is `Instance::"ID"`, in its `Agent::"triage"` and in each `Purpose` on its path:
//!   `principal in Purpose::"triage"` holds for the purpose `triage/refunds`. Attributes: `agent`,
//!   `sponsor` (with `groups`, a set of strings), `purpose` (the path as a string), `depth`,
//!   `ancestors` (a set of agents), `root_purpose` (of the first of them), `environment`. (Do not match `purpose` by `like "triage*"`: that
//!   holds for `triages` too.) An erased sponsor is `Sponsor::""`.
//!   Sponsors and groups are called what they were when the policies came into force, or were first
//!   called since, whatever the directory calls them now.
//! * `action` is `Action::"UPSTREAM/TOOL"` or `Action::"UPSTREAM:METHOD"`, in `Action::"UPSTREAM"`.
//!   `Action::"UPSTREAM:free"` is what needs no permit (the handshake, listings, what the upstream says
//!   of its own accord), where something was found in it: `context.args.name` is its method, and only
//!   forbids and masks count.
//! * `resource` is `Tool::"UPSTREAM/TOOL"` in `Upstream::"UPSTREAM"` for a tool, and
//!   `Upstream::"UPSTREAM"` for the other methods.
//! * `context.args` are the arguments, typed as the tool declares them; what is not required is
//!   optional, and a policy asks `has` first. Of another method it holds `uri` or `name`.
//!   `context.canonical` holds those that are paths or URLs in their one canonical form.
//!   `context.untyped` names those that Cedar cannot type, `context.proven` says whether the caller
//!   proved possession of its key, `context.now` is a `datetime`. `context.approval` is there when
//!   people approved this very call. `context.findings` is what inspection saw in what passes, as
//!   texts: `secret`, `secret/RULE`, `secret:medium` for what is that sure at least.
//!   `context.direction` is `request`, or `response` when what came back is decided on.
//!   `context.labels` is what was read in the same delegation: labels of upstreams and tools.

mod approval;
mod authority;
mod canonical;
pub mod cases;
mod check;
mod decision;
mod diagnostic;
mod engine;
mod explain;
mod facts;
mod find;
mod findings;
mod json;
mod replay;
mod set;
mod target;
#[cfg(test)]
mod testing;
mod tools;
mod types;
mod visible;

pub use approval::{ApprovedBy, Approver, Approvers, ApproversError, Needs};
pub use canonical::CANONICAL_VERSION;
pub use decision::{
    Decision, Denial, DenialSummary, Effect, Hold, Nearest, Permit, Stage, Verdict,
};
pub use diagnostic::{Diagnostic, Severity};
pub use engine::{Engine, Free, SCHEMA_VERSION, Said, UpstreamInput, versions};
pub use explain::{AskedRequest, Explanation, Outcome, PolicyOutcome};
pub use facts::{Approved, FACTS_VERSION, Facts, InstanceFacts, LinkFacts, Target};
pub use findings::{Direction, Found, MaskError, Masks};
pub use replay::{Replay, replay, replay_without_arguments};
pub use set::{BlobError, PolicyFile, PolicySet};
pub use target::{UpstreamOptions, methods};
pub use tools::{HeldTool, ToolList, ToolListError};
