//! The end of the last run: whether both logs are still what the other one says, and what was
//! left open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gateway::record::{BarrierBody, Came, DecisionBody, OutcomeBody};
use ledger::{Actor, Draft, Entry, EntryError, Kind, Log, LogReader, Mention, ReadError};
use register::Control;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use vocab::{LogName, UpstreamName};

use super::{Shared, StartError};

/// Compares the logs with what they say of each other, then closes the calls that have no outcome,
/// and says so with a barrier. Says how many there were.
pub(super) async fn resume(
    control: &Control,
    control_log: &dyn Log,
    calls: &dyn Log,
    actor: &Actor,
) -> Result<Resumed, StartError> {
    let reader = calls.reader();
    let end = End::of(reader)?;
    let open = end.open(reader)?;
    let size = control.view(register::State::size);
    compare(control, control_log, calls, &end)?;
    if open.rests_on > size {
        return Err(StartError::SetBack {
            log: LogName::Control,
            why: format!(
                "`calls` rests on {} entries of it, and it has {size}",
                open.rests_on
            ),
        });
    }
    let failed = |error: &dyn std::fmt::Display| StartError::Close(error.to_string());
    let count = open.decisions.len();
    let mut drafts = Vec::new();
    for (decision, routed_to) in open.decisions {
        let body = OutcomeBody {
            routed_to,
            decision,
            result: Came::Unknown,
            cause: Some("node-ended".to_owned()),
            is_error: None,
            said: None,
            delivered: None,
            sent: None,
            response: None,
            labels: Vec::new(),
            salt: None,
        };
        let draft = Draft::new(Kind::Outcome, actor.clone(), &body);
        drafts.push(draft.map_err(|error| failed(&error))?);
    }
    let barrier = barrier(control, control_log, actor, "start");
    drafts.push(barrier.map_err(|error| failed(&error))?);
    let receipts = calls.append(drafts).await;
    let receipts = receipts.map_err(|error| failed(&error))?;
    Ok(Resumed {
        closed: count,
        barrier: receipts.last().map_or(0, |receipt| receipt.index),
        from: end.from,
    })
}

/// Where a run begins in the log of calls.
pub(super) struct Resumed {
    /// Calls that were in flight when the last run ended.
    pub(super) closed: usize,
    /// The index of the barrier that says that it begins.
    pub(super) barrier: u64,
    /// No permit before this was without an outcome.
    pub(super) from: u64,
}

/// A barrier over all that the control log has.
pub(super) fn barrier(
    control: &Control,
    control_log: &dyn Log,
    actor: &Actor,
    cause: &str,
) -> Result<Draft, EntryError> {
    let body = BarrierBody {
        control_size: control.view(register::State::size),
        cause: cause.to_owned(),
        control: told(control_log),
    };
    Draft::new(Kind::Barrier, actor.clone(), &body)
}

/// Entries of the log of calls after which there is another barrier, so that a start after a kill
/// does not look back through all that the last run wrote.
const BARRIER_EVERY: u64 = 100_000;
/// How often it is looked whether there were so many.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Writes a barrier whenever the last one is far back.
pub(super) async fn pace(shared: Arc<Shared>, mut last: u64, stop: CancellationToken) {
    let actor = Actor::node(&shared.config.node);
    let (control, calls) = (&shared.control_log, &shared.calls_log);
    while stop
        .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
        .await
        .is_some()
    {
        if calls.reader().size().saturating_sub(last) < BARRIER_EVERY {
            continue;
        }
        let barrier = barrier(shared.plane.control(), &**control, &actor, "pace");
        let written = match barrier {
            Ok(draft) => calls.append(vec![draft]).await,
            Err(error) => Err(error.into()),
        };
        match written {
            Ok(receipts) => last = receipts.last().map_or(last, |receipt| receipt.index),
            // The next look tries again; calls that cannot be recorded are refused meanwhile.
            Err(error) => tracing::warn!(error = %error, "A barrier could not be written"),
        }
    }
}

/// What can be said of a log after a checkpoint over all of it; what the last one says if there
/// can be none now.
pub(super) async fn mention(log: &dyn Log) -> Option<Mention> {
    if let Err(error) = log.publish().await {
        tracing::warn!(error = %error, "There is no checkpoint over the end of {}", log.name());
    }
    told(log)
}

fn told(log: &dyn Log) -> Option<Mention> {
    Mention::of(log.reader()).unwrap_or_else(|error| {
        tracing::warn!(error = %error, "The checkpoint of {} cannot be named", log.name());
        None
    })
}

/// Neither log may be less than, or other than, what the other one last said of it.
fn compare(
    control: &Control,
    control_log: &dyn Log,
    calls: &dyn Log,
    end: &End,
) -> Result<(), StartError> {
    let said = control.view(|state| state.node().calls.clone());
    let of_calls = said.map(|(index, mention)| (calls, LogName::Control, index, mention));
    let of_control = end.barrier.as_ref().and_then(|(index, barrier)| {
        let mention = barrier.control.clone()?;
        Some((control_log, LogName::Calls, *index, mention))
    });
    for (log, by, index, mention) in of_calls.into_iter().chain(of_control) {
        mention.check(log).map_err(|error| StartError::SetBack {
            log: log.name(),
            why: format!("`{by}/{index}` names it, and {error}"),
        })?;
    }
    Ok(())
}

/// The end of the log of calls.
struct End {
    /// No permit before this is without an outcome.
    from: u64,
    /// The last barrier.
    barrier: Option<(u64, BarrierBody)>,
}

impl End {
    /// Goes back as far as the last barrier and the last decision, never further than the last
    /// start.
    fn of(calls: &dyn LogReader) -> Result<Self, StartError> {
        let (mut from, mut barrier) = (None, None);
        for index in (0..calls.size()).rev() {
            let bytes = entry(calls, index)?;
            let entry = parsed(&bytes)?;
            match entry.kind {
                Kind::Decision if from.is_none() => {
                    from = Some(body::<DecisionBody>(&entry)?.open_from);
                }
                Kind::Barrier => {
                    let found: BarrierBody = body(&entry)?;
                    if found.cause == "start" {
                        from = from.or(Some(index));
                    }
                    barrier = barrier.or(Some((index, found)));
                }
                _ => {}
            }
            if from.is_some() && barrier.is_some() {
                break;
            }
        }
        Ok(Self {
            from: from.unwrap_or(0),
            barrier,
        })
    }

    fn open(&self, calls: &dyn LogReader) -> Result<Open, StartError> {
        let mut open = Open {
            decisions: BTreeMap::new(),
            rests_on: self.barrier.as_ref().map_or(0, |(_, it)| it.control_size),
        };
        for index in self.from..calls.size() {
            let bytes = entry(calls, index)?;
            let entry = parsed(&bytes)?;
            match entry.kind {
                Kind::Decision => {
                    let body: DecisionBody = body(&entry)?;
                    open.rests_on = open.rests_on.max(body.basis.control_size);
                    if body.awaits_outcome() {
                        open.decisions.insert(index, body.routed_to);
                    }
                }
                Kind::Outcome => {
                    open.decisions
                        .remove(&body::<OutcomeBody>(&entry)?.decision);
                }
                _ => {}
            }
        }
        Ok(open)
    }
}

/// What the last run left.
struct Open {
    /// Permits without an outcome.
    decisions: BTreeMap<u64, Option<UpstreamName>>,
    /// Entries of the control log that it rested on.
    rests_on: u64,
}

fn entry(log: &dyn LogReader, index: u64) -> Result<Vec<u8>, StartError> {
    let read = log.entry(index);
    read.map_err(|error: ReadError| StartError::Close(error.to_string()))
}

fn parsed(bytes: &[u8]) -> Result<Entry<'_>, StartError> {
    Entry::parse(bytes).map_err(|error| StartError::Close(error.to_string()))
}

fn body<T: DeserializeOwned>(entry: &Entry<'_>) -> Result<T, StartError> {
    serde_json::from_str(entry.body.get()).map_err(|error| StartError::Close(error.to_string()))
}
