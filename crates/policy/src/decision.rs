//! The answer: a permit, a hold or a denial, never a bool.
//!
//! All are proofs that [`Engine::decide`](crate::Engine::decide) ran: it alone makes them, they
//! cannot be copied, and what is to be written down about them is a [`Verdict`].

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use vocab::UpstreamName;

use crate::approval::Needs;
use crate::findings::Masks;

/// What the engine decided.
#[derive(Debug)]
#[must_use]
pub enum Decision {
    /// The call may be made, once it is on record.
    Permit(Permit),
    /// It may be made once people approve it.
    Hold(Hold),
    /// It may not.
    Denial(Denial),
}

/// A permission for one call.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    pub(crate) policies: Vec<String>,
    pub(crate) reason: String,
    pub(crate) warnings: Vec<String>,
    pub(crate) masks: Masks,
    /// Where its policies send it; one at most once it is decided.
    pub(crate) routes: BTreeSet<UpstreamName>,
    pub(crate) observed: Option<DenialSummary>,
}

/// One call that would be permitted if it were approved, and is not permitted until then.
#[derive(Debug)]
#[must_use]
pub struct Hold {
    pub(crate) policies: Vec<String>,
    pub(crate) reason: String,
    pub(crate) needs: Needs,
    pub(crate) routes: BTreeSet<UpstreamName>,
}

/// A refusal of one call.
#[derive(Debug)]
#[must_use]
pub struct Denial {
    pub(crate) stage: Stage,
    pub(crate) cause: String,
    pub(crate) reason: String,
    pub(crate) policies: Vec<String>,
    pub(crate) nearest: Vec<Nearest>,
    /// Where it would have gone.
    pub(crate) route: Option<UpstreamName>,
}

/// Where on the way a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Something in the caller's chain is narrowed.
    Standing,
    /// It is more than an agent of the chain may ever do, or than was handed on along it.
    Authority,
    /// A rate, a budget or the breaker.
    Limit,
    /// There is no valid policy to decide this with.
    PolicyUnavailable,
    /// The upstream's tools were not read since the node started.
    ToolsNotRead,
    /// The upstream has no such tool or method.
    UnknownTool,
    /// Nobody accepted what the upstream says of the tool.
    Quarantined,
    /// The arguments are not what the tool declares.
    Schema,
    /// A path or URL is not in canonical form.
    Canonical,
    /// Policy says no, or does not say yes.
    Policy,
    /// A policy could not be evaluated.
    Error,
    /// People have to approve it first.
    Approval,
}

impl Stage {
    /// Every stage, in the order of the walk.
    pub const ALL: [Self; 12] = [
        Self::Standing,
        Self::Authority,
        Self::Limit,
        Self::PolicyUnavailable,
        Self::ToolsNotRead,
        Self::UnknownTool,
        Self::Quarantined,
        Self::Schema,
        Self::Canonical,
        Self::Policy,
        Self::Error,
        Self::Approval,
    ];

    /// The word for it in records and replies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standing => "standing",
            Self::Authority => "authority",
            Self::Limit => "limit",
            Self::PolicyUnavailable => "policy-unavailable",
            Self::ToolsNotRead => "tools-not-read",
            Self::UnknownTool => "unknown-tool",
            Self::Quarantined => "quarantined",
            Self::Schema => "schema",
            Self::Canonical => "canonical",
            Self::Policy => "policy",
            Self::Error => "error",
            Self::Approval => "approval",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A permit whose scope covered the call, and why it did not apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nearest {
    /// Its id.
    pub policy: String,
    /// The first of its conditions that does not hold, as Cedar text. Policy text, never a value
    /// of the call: for people, not for the agent.
    pub failed: String,
}

/// What would have been the answer, had the upstream not been observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenialSummary {
    /// Where it would have been refused.
    pub stage: Stage,
    /// What the agent would have been told.
    pub reason: String,
    /// The policies that denied.
    pub policies: Vec<String>,
}

/// `allow`, `hold` or `deny`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It may be made.
    Allow,
    /// It may be made once people approve it.
    Hold,
    /// It may not.
    Deny,
}

impl Effect {
    /// `allow`, `hold` or `deny`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Hold => "hold",
            Self::Deny => "deny",
        }
    }
}

/// What is written down about a decision, and compared when it is made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Allowed, held or denied.
    pub effect: Effect,
    /// Where it was held or denied, or would have been if the upstream were not observed.
    pub stage: Option<Stage>,
    /// The policies that made it, sorted.
    pub policies: Vec<String>,
    /// What the agent was told. It may quote an argument: seal it.
    pub reason: String,
    /// Allowed only because the upstream is observed.
    pub observed: bool,
    /// What has to be masked in what passes, if it is allowed.
    #[serde(skip_serializing_if = "Masks::is_empty", default)]
    pub masks: Masks,
    /// Where policy sends it, if that is another upstream than was asked; if it is denied, where it
    /// would have gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub routed_to: Option<UpstreamName>,
}

impl Decision {
    /// Allowed, held or denied.
    pub const fn effect(&self) -> Effect {
        match self {
            Self::Permit(_) => Effect::Allow,
            Self::Hold(_) => Effect::Hold,
            Self::Denial(_) => Effect::Deny,
        }
    }

    /// What is to be written down.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Permit(permit) => permit.verdict(),
            Self::Hold(hold) => hold.verdict(),
            Self::Denial(denial) => denial.verdict(),
        }
    }

    /// Where policy sends the call, or would have, if that is another upstream than was asked.
    pub fn route(&self) -> Option<&UpstreamName> {
        match self {
            Self::Permit(permit) => permit.route(),
            Self::Hold(hold) => hold.route(),
            Self::Denial(denial) => denial.route.as_ref(),
        }
    }
}

impl Permit {
    /// The same, with these masks too.
    pub(crate) fn masking(mut self, masks: &Masks) -> Self {
        self.masks = self.masks.and(masks);
        self
    }

    /// What both ask for.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.masks = self.masks.and(&other.masks);
        for (all, more) in [
            (&mut self.policies, other.policies),
            (&mut self.warnings, other.warnings),
        ] {
            all.extend(more);
            all.sort_unstable();
            all.dedup();
        }
        self
    }

    /// The permits that applied, sorted; the denying policies if only observed.
    pub fn policies(&self) -> &[String] {
        &self.policies
    }

    /// Why, in a sentence.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The `@warn` texts of the permits that applied.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What has to be masked in what passes.
    pub const fn masks(&self) -> &Masks {
        &self.masks
    }

    /// Where it has to go, if not where it was asked for.
    pub fn route(&self) -> Option<&UpstreamName> {
        self.routes.first()
    }

    /// The denial that was only observed.
    pub const fn observed(&self) -> Option<&DenialSummary> {
        self.observed.as_ref()
    }

    /// What is to be written down.
    pub fn verdict(&self) -> Verdict {
        Verdict {
            effect: Effect::Allow,
            stage: self.observed.as_ref().map(|denial| denial.stage),
            policies: self.policies.clone(),
            reason: self.reason.clone(),
            observed: self.observed.is_some(),
            masks: self.masks.clone(),
            routed_to: self.route().cloned(),
        }
    }
}

impl Hold {
    /// Both of them.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.policies.extend(other.policies);
        self.policies.sort_unstable();
        self.policies.dedup();
        self.needs = self.needs.and(other.needs);
        self.routes.extend(other.routes);
        if self.reason != other.reason {
            self.reason = format!("{} {}", self.reason, other.reason);
        }
        self
    }

    /// The policies that ask for an approval, sorted.
    pub fn policies(&self) -> &[String] {
        &self.policies
    }

    /// What the agent is told. It quotes no argument.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Where it would go once approved, if not where it was asked for.
    pub fn route(&self) -> Option<&UpstreamName> {
        self.routes.first()
    }

    /// Who has to approve.
    pub const fn needs(&self) -> &Needs {
        &self.needs
    }

    /// What is to be written down.
    pub fn verdict(&self) -> Verdict {
        Verdict {
            effect: Effect::Hold,
            stage: Some(Stage::Approval),
            policies: self.policies.clone(),
            reason: self.reason.clone(),
            observed: false,
            masks: Masks::default(),
            routed_to: self.route().cloned(),
        }
    }
}

impl Denial {
    /// Where on the way.
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// What the agent is told: a text that a model can act on. It may quote an argument.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Why, without any value of the call: fit for an entry, a log line, a metric's exemplar.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// The policies that denied, sorted; none for a default denial.
    pub fn policies(&self) -> &[String] {
        &self.policies
    }

    /// For a default denial, the permits that came nearest.
    pub fn nearest(&self) -> &[Nearest] {
        &self.nearest
    }

    /// What is to be written down.
    pub fn verdict(&self) -> Verdict {
        Verdict {
            effect: Effect::Deny,
            stage: Some(self.stage),
            policies: self.policies.clone(),
            reason: self.reason.clone(),
            observed: false,
            masks: Masks::default(),
            routed_to: self.route.clone(),
        }
    }
}
