//! What needs no permit, and what was found in it.

use super::{As, Engine, Reached, Shown, denied_plainly};
use crate::decision::{Decision, Denial, Stage};
use crate::facts::{Facts, Target as Called};
use crate::findings::Masks;
use crate::target::FREE;

/// How something passes that needs no permit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Free {
    /// What has to be masked in it.
    pub masks: Masks,
    /// The policies that had something to say, sorted.
    pub policies: Vec<String>,
}

impl Engine {
    /// Decides on what needs no permit, for what was found in it: it passes unless a forbid is in its
    /// way. To policies it is the action `UPSTREAM:free`, and `context.args.name` its method.
    pub fn pass(&self, facts: &Facts) -> Result<Free, Denial> {
        let instance = &facts.instance;
        let Some(readings) = instance.readings() else {
            let text = "Too many names of this agent's sponsor, or of their groups, changed.";
            return Err(denied_plainly(Stage::PolicyUnavailable, text));
        };
        let mut free = Free::default();
        for instance in readings {
            let facts = Facts {
                instance,
                target: match &facts.target {
                    Called::Method { method, .. } => Called::Method {
                        method: FREE.name.to_owned(),
                        name_or_uri: Some(method.clone()),
                    },
                    tool @ Called::Tool { .. } => tool.clone(),
                },
                ..facts.clone()
            };
            let read = self.pass_as_read(&facts)?;
            free.masks = free.masks.and(&read.masks);
            free.policies.extend(read.policies);
        }
        free.policies.sort_unstable();
        free.policies.dedup();
        Ok(free)
    }

    fn pass_as_read(&self, facts: &Facts) -> Result<Free, Denial> {
        let unavailable = |text: &str| Err(denied_plainly(Stage::PolicyUnavailable, text));
        if let Some(why) = &facts.standing {
            return Err(denied_plainly(Stage::Standing, why));
        }
        let targets = self.upstreams.get(facts.upstream.as_str());
        let (Some(_), Some(targets)) = (&self.schema, targets) else {
            return unavailable("There is no valid policy set, so nothing is let pass unseen.");
        };
        let asked = |as_if: &As| match self.reach_from(targets.free, facts, Shown::Read, as_if) {
            Reached::Policy(asked) => {
                let decision = self.ask(&asked);
                Ok((decision, asked))
            }
            Reached::Refused(denial) => Err(denial),
        };
        let (decision, first) = asked(&As::default())?;
        let denial = match passes(decision) {
            Ok(free) => return Ok(free),
            Err(_) if facts.observe => return Ok(Free::default()),
            Err(denial) => denial,
        };
        let masks = first.slice.masks(&denial.policies);
        if denial.stage != Stage::Policy || !facts.findings.iter().any(|it| masks.hides(it)) {
            return Err(denial);
        }
        let masked = As {
            masked: masks.clone(),
            ..As::default()
        };
        let rest = asked(&masked).map(|(decision, _)| passes(decision));
        match rest {
            Ok(Ok(free)) => Ok(Free {
                masks: free.masks.and(&masks),
                policies: [denial.policies, free.policies].concat(),
            }),
            Ok(Err(_)) | Err(_) => Err(denial),
        }
    }
}

/// It does not need a permit; a forbid it heeds.
fn passes(decision: Decision) -> Result<Free, Denial> {
    match decision {
        Decision::Permit(permit) => Ok(Free {
            masks: permit.masks,
            policies: permit.policies,
        }),
        Decision::Denial(denial) if denial.stage == Stage::Policy && denial.policies.is_empty() => {
            Ok(Free::default())
        }
        Decision::Denial(denial) => Err(denial),
        // Nothing that was asked says that.
        Decision::Hold(hold) => Err(denied_plainly(Stage::Approval, hold.reason())),
    }
}
