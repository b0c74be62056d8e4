//! What is handed on to an instance, shown to be within everything above it.

use std::sync::Arc;

use vocab::Authority;

use crate::allow::bound;
use crate::command::Delegation;
use crate::refusal::Refusal;
use crate::standing::Active;
use crate::state::Agent;

/// What an instance of `agent` below `parent` may do, and how many calls it may make.
///
/// Every call is held against each link of the chain again; this says no before anything starts
/// that could do nothing, and sees to it that no token claims more than it gives.
pub(crate) fn handed_on(
    parent: &Active,
    agent: &Agent,
    asked: &Delegation,
) -> Result<(Option<Arc<Authority>>, Option<u64>), Refusal> {
    let above = parent.instance();
    if above.is_once() {
        return Err(Refusal::OnceDelegates {
            instance: above.id.clone(),
        });
    }
    let Some(authority) = &asked.authority else {
        if asked.once {
            return Err(Refusal::NotOneCall);
        }
        return Ok((above.bound(), asked.max_calls));
    };
    if let Some(outer) = above.bound() {
        authority.is_within(&outer, "what was handed on to the instance that delegates")?;
    }
    for link in parent.chain() {
        if let Some(lines) = &link.agent.allow {
            let named = "the allow list of an agent that delegates";
            authority.is_within(&bound(lines), named)?;
        }
    }
    if let Some(lines) = &agent.allow {
        authority.is_within(&bound(lines), "the allow list of the agent that it is for")?;
    }
    if !authority.reaches(&asked.upstream) {
        return Err(Refusal::NothingHandedOn {
            upstream: asked.upstream.clone(),
        });
    }
    if !asked.once {
        return Ok((Some(Arc::clone(authority)), asked.max_calls));
    }
    let one_call = match authority.details() {
        [detail] => detail.is_exact() && detail.arguments_sha256().is_some(),
        _ => false,
    };
    if !one_call || asked.max_calls.is_some_and(|max| max != 1) {
        return Err(Refusal::NotOneCall);
    }
    Ok((Some(Arc::clone(authority)), Some(1)))
}

/// Whether the new instance can be told from those above it: it proves a key of its own, or has a
/// token that nothing is proven with.
pub(crate) fn own_key(parent: &Active, asked: &Delegation) -> Result<(), Refusal> {
    let proven = asked.binding.proven();
    let same = |link: &crate::standing::Link| link.instance.binding == asked.binding;
    if proven && !asked.once && parent.chain().any(same) {
        return Err(Refusal::SharedKey);
    }
    Ok(())
}
