//! Whether a call is within what its caller may do at all: the allow lists of the agents along its
//! chain, and what was handed on along it.

use vocab::authority::{CallArguments, Unmet};
use vocab::{Authority, ToolName, UpstreamName};

use crate::authority;
use crate::facts::{Facts, InstanceFacts, Target as Called};
use crate::tools::{Refusal, quoted};

/// Why a call is beyond what its caller may do whatever the arguments, if so: each agent of the
/// chain may do no more than its allow list, each instance no more than was handed on to it.
pub(crate) fn beyond(
    instance: &InstanceFacts,
    upstream: &UpstreamName,
    target: &Called,
) -> Option<Refusal> {
    let action = target.action(upstream);
    let tool = match target {
        Called::Tool { name } => Some(name),
        Called::Method { .. } => None,
    };
    let name = tool.map(ToolName::as_str);
    let listed = instance
        .allow_lists()
        .all(|lines| authority::covers(lines, upstream.as_str(), name, &action));
    if !listed {
        return Some(Refusal {
            cause: "beyond the agent's authority".to_owned(),
            reason: format!(
                "{} is beyond what this agent may ever do, whatever the policies say.",
                quoted(&action)
            ),
        });
    }
    // What is handed on is tools, and nothing else.
    let handed_on = instance
        .handed_on()
        .all(|authority| tool.is_some_and(|tool| authority.covers(upstream, tool)));
    (!handed_on).then(|| Refusal {
        cause: "beyond what was handed on".to_owned(),
        reason: format!(
            "{} is not part of what was handed on to this instance. Ask whoever started it.",
            quoted(&action)
        ),
    })
}

/// Why a call's arguments are beyond what was handed on to its caller, if so. They are in canonical
/// form by now, or the upstream takes others.
pub(super) fn beyond_arguments(facts: &Facts) -> Option<Refusal> {
    let Called::Tool { name } = &facts.target else {
        return None;
    };
    let args = CallArguments::new(&facts.args);
    let permits = |authority: &Authority| {
        let detail = authority.permits(&facts.upstream, name, &args);
        detail.is_some()
    };
    (!facts.instance.handed_on().all(permits)).then(|| {
        // Only of what its own token shows it: what stands above is others' business.
        let own = facts.instance.handed_on.as_deref();
        let unmet = own.and_then(|own| own.unmet(&facts.upstream, name, &args));
        let why = match unmet {
            None => String::new(),
            Some(Unmet::Bytes) => " Their bytes are not those whose SHA-256 the credential has: \
                                   blanks, order and escapes count."
                .to_owned(),
            Some(Unmet::Argument(path)) => format!(
                " The argument {} is not as `authorization_details` asks, or not there.",
                quoted(path.as_str())
            ),
        };
        Refusal {
            cause: "arguments beyond what was handed on".to_owned(),
            reason: format!(
                "These arguments of {} are not part of what was handed on to this instance.{why} Ask \
                 whoever started it.",
                quoted(&facts.target.action(&facts.upstream))
            ),
        }
    })
}
