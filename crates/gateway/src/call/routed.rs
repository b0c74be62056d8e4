//! Where a call goes that policy sends to another upstream than was asked.

use std::sync::Arc;

use policy::{Facts, Target};
use register::Active;
use vocab::UpstreamName;

use super::Who;
use crate::plane::{Plane, Served};
use crate::upstream::Transport;

/// The upstream that policy sends a call to, as it stands at this moment.
#[derive(Debug)]
pub(super) struct Routed {
    pub(super) served: Arc<Served>,
    /// The caller with that upstream; none if either may not act.
    pub(super) active: Option<Active>,
}

/// What policy decided on has changed meanwhile, and has to be decided on anew.
pub(super) struct Changed;

/// Looks at where policy sends a call. Why nothing may be sent there goes into the facts, and then it
/// is denied.
pub(super) async fn look(
    plane: &Arc<Plane>,
    who: &Who,
    facts: &mut Facts,
    to: &UpstreamName,
) -> Result<Option<Routed>, Changed> {
    let served = plane.upstreams.get(to);
    let is_sent_to = |served: &&Arc<Served>| {
        let transport = &served.upstream.config().transport;
        !matches!(transport, Transport::Elsewhere { .. })
    };
    let Some(served) = served.filter(is_sent_to) else {
        facts.no_route = Some(format!("This node sends nothing to `{to}`."));
        return Ok(None);
    };
    if !served.is_listed() {
        plane.ensure_tools(served).await;
        if served.is_listed() {
            return Err(Changed);
        }
    }
    let standing = plane
        .control
        .standing_at(&who.instance.id, to, plane.clock.now());
    let active = match standing.active() {
        Ok(active) => Some(active),
        Err(why) => {
            facts.no_route = Some(why.to_string());
            None
        }
    };
    // Of an upstream that was never listed nothing is known, and nothing permitted.
    let is_tool = matches!(facts.target, Target::Tool { .. });
    let is_known = who.snapshot.tools.contains_key(to);
    if active.is_some() && is_tool && is_known && !served.is_listed() {
        facts.no_route = Some(format!(
            "The tools of `{to}` could not be read since this node started."
        ));
    }
    Ok(Some(Routed {
        served: Arc::clone(served),
        active,
    }))
}
