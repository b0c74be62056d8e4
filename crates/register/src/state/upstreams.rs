//! Upstreams: their configuration, their switch, their tools.

use std::sync::Arc;

use vocab::digest::Digest;
use vocab::id::UpstreamName;
use vocab::time::Time;

use super::{Impossible, State, unknown};
use crate::entry::{ToolsListed, UpstreamConfigured};
use crate::lifecycle::SwitchEvent;
use crate::nouns::{Pins, Tools, Upstream};

impl State {
    /// An upstream's configuration took effect. What people approved was for the upstream that they
    /// were told of, and it may be another now: reached elsewhere, by another account, or judged
    /// otherwise. Before entries had the digest of all of it, nothing ended by it.
    pub(super) fn configure(&mut self, body: UpstreamConfigured, at: Time) {
        let known = self.upstreams.get(&body.upstream);
        let is_other = body.table.is_some()
            && known.is_some_and(|it| (it.table, it.config) != (body.table, body.config));
        let upstream = Upstream {
            name: body.upstream.clone(),
            config: body.config,
            table: body.table,
            // A restart with another configuration is no way around a stop.
            switch: known.map(|upstream| upstream.switch).unwrap_or_default(),
            observe_until: body.observe_until,
            tools: known.and_then(|upstream| upstream.tools.clone()),
            pins: known.and_then(|upstream| upstream.pins.clone()),
            record: self.size,
        };
        if is_other {
            self.outdate_approvals_of(&body.upstream, at);
        }
        self.upstreams.insert(body.upstream, Arc::new(upstream));
    }

    /// An upstream is stopped, or goes on.
    pub(super) fn turn(
        &mut self,
        name: &UpstreamName,
        event: SwitchEvent,
        at: Time,
    ) -> Result<(), Impossible> {
        let upstream = self
            .upstreams
            .get_mut(name)
            .ok_or_else(|| unknown("upstream", name))?;
        let switch = upstream.switch.after(event, at)?;
        Arc::make_mut(upstream).switch = switch;
        Ok(())
    }

    /// An upstream's tool list was read.
    pub(super) fn list(&mut self, body: &ToolsListed, at: Time) -> Result<(), Impossible> {
        let record = self.size;
        let upstream = self
            .upstreams
            .get_mut(&body.upstream)
            .ok_or_else(|| unknown("upstream", &body.upstream))?;
        Arc::make_mut(upstream).tools = Some(Tools {
            blob: body.blob,
            count: body.count,
            listed_at: at,
            record,
        });
        Ok(())
    }

    /// What of an upstream's tools is accepted, from the entry being applied on.
    pub(super) fn pin(
        &mut self,
        name: &UpstreamName,
        blob: Digest,
        (accepted, held): (u32, u32),
        at: Time,
    ) -> Result<(), Impossible> {
        let record = self.size;
        let upstream = self
            .upstreams
            .get_mut(name)
            .ok_or_else(|| unknown("upstream", name))?;
        let pins = Some(Pins {
            blob,
            accepted,
            held,
            record,
        });
        let before = std::mem::replace(&mut Arc::make_mut(upstream).pins, pins);
        if before.is_none_or(|before| before.blob != blob) {
            self.outdate_approvals_of(name, at);
        }
        Ok(())
    }
}
