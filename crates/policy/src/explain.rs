//! A decision in full, for people: what policy saw, and what each policy made of it.

use serde::Serialize;
use serde_json::Value;

use crate::decision::{Effect, Nearest, Verdict};
use crate::engine::{As, Asked, Engine, Reached, Shown};
use crate::facts::Facts;
use crate::set::Policy;

/// Why a call is decided as it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// What is decided.
    pub verdict: Verdict,
    /// The `@warn` texts of a permit.
    pub warnings: Vec<String>,
    /// For a default denial, the permits that came nearest.
    pub nearest: Vec<Nearest>,
    /// For a call that is held, who has to approve it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs: Option<String>,
    /// What Cedar was asked; nothing if the call did not get so far.
    pub request: Option<AskedRequest>,
    /// Every policy whose scope covers the call.
    pub policies: Vec<PolicyOutcome>,
}

/// What Cedar was asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AskedRequest {
    /// Such as `Instance::"i-…"`.
    pub principal: String,
    /// Such as `Action::"files/read"`.
    pub action: String,
    /// Such as `Tool::"files/read"`.
    pub resource: String,
    /// The context, in Cedar's JSON form.
    pub context: Value,
}

/// What one policy made of the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyOutcome {
    /// Its id.
    pub policy: String,
    /// What it says when it applies.
    pub effect: Effect,
    /// Where it is: `files.cedar:3`.
    pub place: String,
    /// Whether it applied.
    pub outcome: Outcome,
}

/// Whether a policy applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "because")]
pub enum Outcome {
    /// It applies.
    Applies,
    /// Its first condition that does not hold, as Cedar text.
    DoesNotApply(String),
    /// It could not be evaluated, and why.
    Failed(String),
    /// It does not fit the tools as they are.
    DoesNotFit,
}

impl Engine {
    /// Decides as [`Engine::decide`] does, and says how it came to that.
    pub fn explain(&self, facts: &Facts) -> Explanation {
        let decision = self.decide(facts);
        let (warnings, nearest) = match &decision {
            crate::Decision::Permit(permit) => (permit.warnings().to_vec(), Vec::new()),
            crate::Decision::Hold(_) => (Vec::new(), Vec::new()),
            crate::Decision::Denial(denial) => (Vec::new(), denial.nearest().to_vec()),
        };
        let needs = match &decision {
            crate::Decision::Hold(hold) => Some(hold.needs().to_string()),
            crate::Decision::Permit(_) | crate::Decision::Denial(_) => None,
        };
        let as_if = As {
            approved: facts.approval.is_some() && needs.is_none(),
            ..As::default()
        };
        let (request, policies) = match self.reach(facts, Shown::All, &as_if) {
            Reached::Policy(asked) => (Some(request(&asked)), self.outcomes(&asked)),
            Reached::Refused(denial) => {
                let broken = self.broken_among(&denial.policies);
                (None, broken)
            }
        };
        Explanation {
            verdict: decision.verdict(),
            warnings,
            nearest,
            needs,
            request,
            policies,
        }
    }

    fn outcomes(&self, asked: &Asked) -> Vec<PolicyOutcome> {
        let policies = asked.slice.policies.values();
        policies
            .map(|policy| outcome(policy, self.outcome(policy, asked)))
            .collect()
    }

    fn outcome(&self, policy: &Policy, asked: &Asked) -> Outcome {
        let Ok(alone) = cedar_policy::PolicySet::from_policies([policy.cedar.clone()]) else {
            return Outcome::DoesNotFit;
        };
        let response = self.evaluate(asked, &alone);
        if let Some(error) = response.diagnostics().errors().next() {
            return Outcome::Failed(policy.cedar_says(error).message);
        }
        if response.diagnostics().reason().next().is_some() {
            return Outcome::Applies;
        }
        Outcome::DoesNotApply(self.failed(policy, asked).unwrap_or_default().to_owned())
    }

    fn broken_among(&self, ids: &[String]) -> Vec<PolicyOutcome> {
        let policies = self.policies().iter();
        policies
            .filter(|policy| ids.contains(&policy.id))
            .map(|policy| outcome(policy, Outcome::DoesNotFit))
            .collect()
    }
}

fn outcome(policy: &Policy, outcome: Outcome) -> PolicyOutcome {
    let place = policy.place();
    PolicyOutcome {
        policy: policy.id.clone(),
        effect: match policy.effect {
            cedar_policy::Effect::Permit => Effect::Allow,
            cedar_policy::Effect::Forbid => Effect::Deny,
        },
        place: format!("{}:{}", place.file, place.line),
        outcome,
    }
}

fn request(asked: &Asked) -> AskedRequest {
    let text =
        |uid: Option<&cedar_policy::EntityUid>| uid.map(ToString::to_string).unwrap_or_default();
    let context = asked
        .request
        .context()
        .and_then(|context| context.to_json_value().ok());
    AskedRequest {
        principal: text(asked.request.principal()),
        action: text(asked.request.action()),
        resource: text(asked.request.resource()),
        context: context.unwrap_or(Value::Null),
    }
}
