//! How an upstream's tools are read, pinned, and judged by people.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use inspect::Findings;
use ledger::Actor;
use mcp::Json;
use policy::ToolList;
use register::{Command, Done, Judgement, ToolJudged, ToolsPinned};
use vocab::{Digest, RecordRef, ToolName, UpstreamName, limits};

use crate::pins::{self, Alike, Definitions, JudgeError, PinState, Pins};
use crate::plane::{Plane, PlaneError, Served};
use crate::upstream::chain;

/// Why a person's word on a tool was not taken.
#[derive(Debug, thiserror::Error)]
pub enum JudgeToolError {
    /// No such upstream.
    #[error("there is no upstream `{given}`")]
    NoUpstream {
        /// What was named.
        given: UpstreamName,
    },
    /// Its tools were not read.
    #[error("the tools of `{upstream}` are not known yet; `tipstaff doctor` says why")]
    NotKnown {
        /// The upstream.
        upstream: UpstreamName,
    },
    /// It does not fit what there is.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// It was not put on record, or not in force.
    #[error(transparent)]
    Plane(#[from] PlaneError),
}

/// How often notifications have an upstream listed, and how often what it lists is put on record: it
/// may send any number of notifications, and say something else each time.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Paced>);

#[derive(Debug, Default)]
struct Paced {
    /// When it is listed next, or was last, for a notification.
    listing: Option<Duration>,
    /// Changes since it was quiet.
    changes: u32,
    /// From when on the next change is put on record.
    open_at: Duration,
    /// Listings whose changes were not.
    put_off: u64,
    /// The last listing was one of them.
    is_put_off: bool,
}

impl Pace {
    fn lock(&self) -> std::sync::MutexGuard<'_, Paced> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the next listing has to wait.
    pub(crate) fn wait(&self, now: Duration) -> Duration {
        let every = Duration::from_millis(limits::LISTINGS_EVERY_MS);
        let mut paced = self.lock();
        let at = paced.listing.map_or(now, |last| now.max(last + every));
        paced.listing = Some(at);
        at.saturating_sub(now).min(every)
    }

    /// Whether a change is put on record now: many at once, then ever more rarely.
    fn takes(&self, now: Duration) -> bool {
        let calm = Duration::from_secs(limits::LISTINGS_CALM_SECONDS);
        let mut paced = self.lock();
        paced.is_put_off = now < paced.open_at;
        if paced.is_put_off {
            paced.put_off += 1;
            return false;
        }
        if now.saturating_sub(paced.open_at) >= calm {
            paced.changes = 0;
        }
        paced.changes = paced.changes.saturating_add(1);
        let too_many = paced.changes.checked_sub(limits::LISTINGS_BURST + 1);
        let pause = too_many.map_or(Duration::ZERO, |times| {
            Duration::from_secs(1u64.checked_shl(times).unwrap_or(u64::MAX)).min(calm)
        });
        paced.open_at = now + pause;
        true
    }

    /// What was listed is what is on record.
    fn is_as_recorded(&self) {
        self.lock().is_put_off = false;
    }

    /// How many listings since the start were not put on record, and whether the last one was not.
    fn put_off(&self) -> (u64, bool) {
        let paced = self.lock();
        (paced.put_off, paced.is_put_off)
    }
}

impl Served {
    /// How many listings were not put on record since the start, because its tools change too often,
    /// and whether what it lists at present is not.
    pub fn listings_put_off(&self) -> (u64, bool) {
        self.pace.put_off()
    }
}

impl Plane {
    /// Takes in what an upstream listed: keeps it, pins what is new, holds what has changed, and judges
    /// the policies by it.
    pub async fn tools_listed(
        self: &Arc<Self>,
        served: &Served,
        list: &[u8],
    ) -> Result<(), PlaneError> {
        let name = &served.name;
        let damaged = |cause: String| PlaneError::Damaged {
            what: format!("what `{name}` lists as its tools"),
            cause,
        };
        let parsed = ToolList::parse(name, list).map_err(|error| damaged(error.to_string()))?;
        let json = Json::parse(Bytes::copy_from_slice(list));
        let json = json.map_err(|error| damaged(error.to_string()))?;
        let definitions = Definitions::read(&json);
        let _one = self.pinning.lock().await;
        let (kept, on_record) = self.control.view(|state| {
            let upstream = state.upstreams().find(|it| it.name == *name);
            let tools = upstream.and_then(|it| it.tools.as_ref());
            let kept = tools.is_some_and(|it| it.blob == Digest::of(list));
            (kept, upstream.is_some_and(|it| it.pins.is_some()))
        });
        let actor = Actor::node(&self.settings.node);
        if kept {
            served.pace.is_as_recorded();
        } else if served.is_listed() && !served.pace.takes(self.clock.elapsed()) {
            // What was accepted stays what agents see and calls are judged by. The first listing of
            // a start is always taken.
            tracing::warn!(upstream.name = %name, "Upstream {name} changes its tools too often: this change is not put on record yet, and nothing of it is in force");
            return Ok(());
        } else {
            let command = Command::RecordTools {
                upstream: name.clone(),
                blob: self.blobs.put(list)?,
                count: u32::try_from(parsed.len()).unwrap_or(u32::MAX),
            };
            self.control.execute(actor.clone(), command).await?;
        }
        let known = self.known_tools(name);
        if known.is_none() && on_record {
            // Nothing is pinned over it: with its blob it comes back.
            return Err(PlaneError::Damaged {
                what: format!("what was accepted of the tools of `{name}`"),
                cause: "its blob cannot be read; bring it back from a backup".to_owned(),
            });
        }
        let first_sight = served.first_sight;
        let before = known.map(|(_, tools)| tools.pins().clone());
        let mut pins = before.clone().unwrap_or_default();
        let look_alikes = definitions.look_alikes(name, self.accepted_elsewhere(name));
        let looked = (first_sight, &self.inspector());
        let left_out = pins.see(&definitions, looked, &look_alikes);
        if served.is_elsewhere() {
            // The operator's own file says what can be done there.
            pins.accept_all();
        }
        if left_out > 0 {
            tracing::error!(upstream.name = %name, "{left_out} new tools of upstream {name} are left out: at most {} are pinned", limits::PINNED_TOOLS_MAX);
        }
        if before.as_ref() != Some(&pins) || !on_record {
            let blob = self.kept(name, &pins)?;
            let (accepted, held) = pins.counts();
            let command = Command::PinTools(ToolsPinned {
                upstream: name.clone(),
                pins: blob,
                accepted,
                held,
                first_sight,
            });
            self.control.execute(actor, command).await?;
            tell(name, before.as_ref(), &pins);
            self.put_in_force(None).await?;
            let count = parsed.len();
            tracing::info!(upstream.name = %name, "The tools of upstream {name} are listed: {count}, of them {accepted} accepted and {held} held");
            self.tools_changed
                .send_modify(|generation| *generation += 1);
        }
        served.listed.store(true, Ordering::Release);
        Ok(())
    }

    /// Keeps pins as a blob.
    fn kept(&self, name: &UpstreamName, pins: &Pins) -> Result<Digest, PlaneError> {
        let blob = pins.to_blob();
        if blob.len() > limits::PINS_BYTES_MAX {
            return Err(PlaneError::Damaged {
                what: format!("what `{name}` lists as its tools"),
                cause: "with what was accepted before it is too long to be kept".to_owned(),
            });
        }
        Ok(self.blobs.put(&blob)?)
    }

    fn accepted_elsewhere(&self, name: &UpstreamName) -> Vec<(UpstreamName, ToolName)> {
        let all = self.pins();
        let others = all.iter().filter(|(upstream, _)| *upstream != name);
        others
            .flat_map(|(upstream, pins)| {
                pins.tools()
                    .filter(|(_, pin)| pin.accepted.is_some())
                    .map(|(tool, _)| (upstream.clone(), tool.clone()))
            })
            .collect()
    }

    /// What inspection finds in a definition.
    pub fn findings(&self, definition: &str) -> Findings {
        self.inspector().inspect_json(definition.as_bytes())
    }

    /// The pins of each upstream whose tools are known.
    pub fn pins(&self) -> BTreeMap<UpstreamName, Pins> {
        let active = self.active.load();
        let known = active.tools.iter();
        known
            .map(|(name, (_, tools))| (name.clone(), tools.pins().clone()))
            .collect()
    }

    /// Listed tools that a reader could take for one another, over all upstreams.
    pub fn look_alikes(&self) -> Vec<Alike> {
        let active = self.active.load();
        let mut tools: Vec<(UpstreamName, ToolName)> = active
            .tools
            .iter()
            .flat_map(|(upstream, (_, tools))| {
                tools
                    .pins()
                    .tools()
                    .filter(|(_, pin)| pin.state() != PinState::Gone)
                    .map(|(tool, _)| (upstream.clone(), tool.clone()))
            })
            .collect();
        tools.sort();
        pins::alike(&tools)
    }

    /// Accepts or refuses the definition of a tool that is held: exactly the one of that digest.
    pub async fn judge_tool(
        self: &Arc<Self>,
        actor: Actor,
        upstream: &UpstreamName,
        tool: &ToolName,
        (definition, judgement): (Digest, Judgement),
    ) -> Result<(bool, Vec<RecordRef>), JudgeToolError> {
        if self.upstream(upstream).is_none() {
            return Err(JudgeToolError::NoUpstream {
                given: upstream.clone(),
            });
        }
        let _one = self.pinning.lock().await;
        let Some((_, known)) = self.known_tools(upstream) else {
            return Err(JudgeToolError::NotKnown {
                upstream: upstream.clone(),
            });
        };
        let mut pins = known.pins().clone();
        pins.judge(upstream, tool, definition, judgement)?;
        let blob = self.kept(upstream, &pins)?;
        let (accepted, held) = pins.counts();
        let command = Command::JudgeTool(ToolJudged {
            upstream: upstream.clone(),
            tool: tool.clone(),
            definition,
            judgement,
            pins: blob,
            accepted,
            held,
        });
        let done = self.control.execute(actor, command).await;
        let done = done.map_err(PlaneError::Command)?;
        self.put_in_force(None).await?;
        self.tools_changed
            .send_modify(|generation| *generation += 1);
        Ok(match done {
            Done::Changed { records, .. } => (true, records),
            Done::Started { .. } | Done::Continued { .. } | Done::Unchanged { .. } => {
                (false, Vec::new())
            }
        })
    }

    /// Asks an upstream for its tools, one asker at a time.
    pub async fn refresh_tools(self: &Arc<Self>, served: &Arc<Served>) -> Result<(), String> {
        let _one = served.listing.lock().await;
        served.listing_waits.store(false, Ordering::Release);
        self.list_now(served).await
    }

    async fn list_now(self: &Arc<Self>, served: &Arc<Served>) -> Result<(), String> {
        let list = served.upstream.list_tools().await;
        let list = list.map_err(|error| chain(&error))?;
        self.tools_listed(served, &list)
            .await
            .map_err(|error| chain(&error))
    }

    /// Waits until an upstream's tools were listed once since this start. Until then nobody knows
    /// whether they are those that were accepted, so whoever asks first asks for them.
    pub(crate) async fn ensure_tools(self: &Arc<Self>, served: &Arc<Served>) {
        if served.is_listed() {
            return;
        }
        let _one = served.listing.lock().await;
        if served.is_listed() {
            return;
        }
        if let Err(error) = Box::pin(self.list_now(served)).await {
            let name = &served.name;
            tracing::warn!(upstream.name = %name, error, "The tools of upstream {name} are not known");
        }
    }
}

/// Says in the log what is held now and was not before.
fn tell(name: &UpstreamName, before: Option<&Pins>, now: &Pins) {
    for (tool, pin) in now.tools() {
        let was = before.and_then(|pins| pins.tool(tool));
        if !pin.state().is_held() || was == Some(pin) {
            continue;
        }
        let doubts: Vec<_> = pin.doubts.iter().map(|doubt| doubt.as_str()).collect();
        let doubts = doubts.join(", ");
        tracing::warn!(upstream.name = %name, tool.name = %tool, "Tool {name}/{tool} is held ({doubts}): `tipstaff upstream diff {name}/{tool}` shows it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_notifications_is_few_listings() {
        let pace = Pace::default();
        for (now, expected) in [(0, 0), (10, 990), (1_000, 1_000), (5_000, 0), (5_999, 1)] {
            let waits = pace.wait(Duration::from_millis(now));
            assert_eq!(waits, Duration::from_millis(expected), "at {now}");
        }
    }

    /// How many changes are put on record of an upstream that changes its tools each second.
    fn taken(pace: &Pace, seconds: std::ops::Range<u64>) -> usize {
        let taken = |second: &u64| pace.takes(Duration::from_secs(*second));
        seconds.filter(taken).count()
    }

    #[test]
    fn an_upstream_that_never_stops_changing_is_put_on_record_ever_more_rarely() {
        let pace = Pace::default();
        let at_once = |_: &u32| pace.takes(Duration::from_secs(5));
        assert_eq!((0..100).filter(at_once).count(), 17);
        assert_eq!(pace.put_off(), (83, true));
        // 1, 2, 4 … seconds.
        assert_eq!(taken(&pace, 6..6 + 127), 7);
        // No more than one an hour in the end, however long it goes on.
        let day = 24 * 60 * 60;
        let first = taken(&pace, 200..day);
        assert!(first < 30, "{first}");
        assert_eq!(taken(&pace, day..2 * day), 24);
        pace.is_as_recorded();
        assert!(!pace.put_off().1);
        // What is quiet for an hour is as if it were new.
        let calm = Duration::from_secs(2 * day + 2 * limits::LISTINGS_CALM_SECONDS);
        assert_eq!((0..100).filter(|_| pace.takes(calm)).count(), 17);
    }
}
