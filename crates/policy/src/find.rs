//! Whether there is what a call is about, and whether it can be called at all.

use vocab::{ToolName, suggest};

use crate::decision::Stage;
use crate::engine::Engine;
use crate::facts::{Facts, Target as Called};
use crate::target::Target;
use crate::tools::{Refusal, quoted};

impl Engine {
    /// Where what is called is, or why it cannot be. A tool that is held cannot be called, unless
    /// it is taken as `accepted`.
    pub(crate) fn find(&self, facts: &Facts, accepted: bool) -> Result<usize, (Stage, Refusal)> {
        let upstream = facts.upstream.as_str();
        let refuse = |stage, cause: &str, reason: String| {
            let cause = cause.to_owned();
            Err((stage, Refusal { cause, reason }))
        };
        let Some(targets) = self.upstreams.get(upstream) else {
            let text = format!("There is no valid policy for the upstream `{upstream}`.");
            return refuse(Stage::PolicyUnavailable, &text, text.clone());
        };
        match &facts.target {
            Called::Method { method, .. } => match targets.methods.get(method.as_str()) {
                Some(index) => Ok(*index),
                None => refuse(
                    Stage::UnknownTool,
                    "a method that is not known",
                    format!("The method {} is not known here.", quoted(method)),
                ),
            },
            Called::Tool { name } => {
                let Some(tools) = &targets.tools else {
                    let text = format!("The tools of `{upstream}` are not known yet.");
                    return refuse(Stage::PolicyUnavailable, &text, text.clone());
                };
                if let Some(index) = tools.get(name.as_str()) {
                    let held = self.target(*index).and_then(Target::held);
                    let held = held.filter(|_| !accepted);
                    return match held {
                        None => Ok(*index),
                        Some(held) => refuse(
                            Stage::Quarantined,
                            "a tool whose definition nobody accepted",
                            held.told(name, &facts.upstream),
                        ),
                    };
                }
                // A name that the caller could not see is not suggested.
                let nearest = suggest::nearest(name.as_str(), tools.keys().map(String::as_str));
                let nearest = nearest.filter(|near| {
                    let near = near.parse::<ToolName>();
                    near.is_ok_and(|near| self.visible(&facts.instance, &facts.upstream, &near))
                });
                let hint =
                    nearest.map_or_else(String::new, |near| format!(" Did you mean `{near}`?"));
                refuse(
                    Stage::UnknownTool,
                    "a tool that the upstream does not have",
                    format!("`{upstream}` has no tool {}.{hint}", quoted(name.as_str())),
                )
            }
        }
    }
}
