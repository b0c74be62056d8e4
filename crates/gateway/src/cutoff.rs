//! Certificates of cuts: what a cut covered, how each call ended that was in flight, and what is
//! left over.
//!
//! A certificate is made after its cut is acknowledged, since a cut waits for nobody. Everything in
//! it is read from the two logs (but for the ids of tokens, which only the process that issued them
//! knows), so whoever has them can make it again. What it is about is in the log of calls already:
//! the barrier, after which nothing can be permitted that the cut rules out.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ledger::{Actor, Entry, Kind, LogReader, ReadError};
use register::{Command, CommandError, Cut, CutOf, CutOff, Instance, Signal};
use serde::{Deserialize, Serialize};
use vocab::{AgentId, Digest, Handle, InstanceId, Time, ToolName, UpstreamName};

use crate::plane::Plane;
use crate::record::{Came, DecisionBody, Effect, OutcomeBody};
use crate::returns::CredentialPart;

/// How long calls that were in flight are waited for. A cut ends them within milliseconds; one that
/// has no outcome by then is shown as open, and its outcome follows in the log.
pub const CALLS_SECONDS_MAX: u64 = 10;
/// Permits told to an enforcement point are shown if they are no older than this at the cut: what
/// acts on an answer does so at once.
const TOLD_SECONDS: u64 = 60;
/// How many entries before the calls in flight are searched for the last permit, and for those told
/// elsewhere.
const EARLIER_ENTRIES_MAX: u64 = 65_536;

/// A cut-off certificate, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The version of this shape: 1.
    pub v: u8,
    /// What was cut.
    pub cut: CutPart,
    /// What said so.
    pub signal: Option<Signal>,
    /// The barrier: nothing that the cut rules out can be permitted after it.
    pub barrier: Place,
    /// The last permit of an instance that it covers, or for the upstream that it stopped; none if
    /// there is none among the last entries before the barrier.
    pub last_permit: Option<LastPermit>,
    /// How long it took.
    pub took: Took,
    /// The agents of the instances that it covers.
    pub agents: Vec<AgentId>,
    /// Every instance that it covers.
    pub instances: Vec<Covered>,
    /// Access tokens of theirs that this process issued and whose time was not over. This node
    /// refuses them since the cut.
    pub tokens: Vec<Token>,
    /// When the last token that was ever issued to them expires, for those who believe a token
    /// without asking this node.
    pub tokens_expire_by: Option<Time>,
    /// Credentials for upstreams that instances had of their own, and what became of giving them back.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub credentials: Vec<CredentialPart>,
    /// Every call that was in flight when the barrier was written.
    pub calls: Vec<CallPart>,
    /// What is left over.
    pub residue: Residue,
    /// Whether every call that was in flight has an outcome on record.
    pub complete: bool,
}

/// What was cut.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutPart {
    /// The entry that narrowed: `control/INDEX`.
    pub record: String,
    /// Its kind.
    pub kind: String,
    /// When it was written.
    pub at: Time,
    /// The sponsor, if it was about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sponsor: Option<Handle>,
    /// The agent, if it was about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<AgentId>,
    /// The upstream, if it was about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub upstream: Option<UpstreamName>,
    /// Whether it was about everything.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub all: bool,
}

/// An entry, and when it was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// `calls/INDEX`.
    pub record: String,
    /// When.
    pub at: Time,
}

/// The last permit before a cut.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastPermit {
    /// `calls/INDEX`.
    pub record: String,
    /// When it was written.
    pub at: Time,
    /// Whose.
    pub instance: InstanceId,
}

/// How long a cut took, in microseconds, by the times of the entries.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "a unit belongs into a name")]
pub struct Took {
    /// From the signal to the entry that narrowed.
    pub signal_to_cut_us: Option<u64>,
    /// From the entry that narrowed to the barrier.
    pub cut_to_barrier_us: u64,
    /// From the entry that narrowed to the last outcome of a call that was in flight.
    pub cut_to_last_outcome_us: Option<u64>,
}

/// An instance that a cut covers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Covered {
    /// The instance.
    pub id: InstanceId,
    /// Its agent.
    pub agent: AgentId,
    /// The instance that delegated to it.
    pub parent: Option<InstanceId>,
    /// How many stand above it.
    pub depth: u8,
    /// The entry that started it: `control/INDEX`.
    pub record: String,
}

/// A token of an instance that a cut covers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Its id (`jti`).
    pub id: String,
    /// The instance.
    pub instance: InstanceId,
    /// When it expires by what it says.
    pub expires_at: Time,
}

/// A call that was in flight.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallPart {
    /// The permit: `calls/INDEX`.
    pub decision: String,
    /// The outcome: `calls/INDEX`; null if there was none when the certificate was written.
    pub outcome: Option<String>,
    /// Whose call.
    pub instance: InstanceId,
    /// The upstream.
    pub upstream: UpstreamName,
    /// Where policy sent it in place of that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub routed_to: Option<UpstreamName>,
    /// The method.
    pub method: String,
    /// The tool, for `tools/call`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tool: Option<ToolName>,
    /// `not-sent`, `unknown`, `completed`, or `open` without an outcome.
    pub result: String,
    /// Why, if it did not complete.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
}

/// What a cut cannot undo.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residue {
    /// Permits whose effect is not known: somebody has to look.
    pub unknown: Vec<String>,
    /// Permits without an outcome when the certificate was written.
    pub open: Vec<String>,
    /// Permits told to enforcement points elsewhere in the minute before the cut, and since the
    /// oldest call in flight began: whether they were acted on, those who asked know.
    pub told_elsewhere: Vec<String>,
    /// Of `credentials`, those that an upstream may honour yet: `UPSTREAM of INSTANCE`. The node gives
    /// none to agents; those that it uses for all, from its configuration, are not the instances' and
    /// go on.
    pub credentials: Vec<String>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// A log could not be read.
    #[error("a log could not be read")]
    Read(#[from] ReadError),
    /// An entry is not what it should be.
    #[error("entry calls/{index} cannot be read: {cause}")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong.
        cause: String,
    },
    /// Reading a log was interrupted.
    #[error("reading the log of calls was interrupted")]
    Interrupted,
    /// It could not be kept.
    #[error("the certificate could not be kept")]
    Blob(#[from] ledger::BlobError),
    /// It could not be put in words.
    #[error("the certificate could not be written: {0}")]
    Words(#[from] serde_json::Error),
    /// It could not be put on record.
    #[error("the certificate could not be put on record")]
    Register(#[from] CommandError),
}

/// What is in flight, as the log of calls says.
#[derive(Debug, Default)]
struct Flight {
    /// Permits of what the cut covers, by index, and what came of them.
    permits: BTreeMap<u64, Permitted>,
    /// Permits that an enforcement point was told, to act on itself.
    told_elsewhere: Vec<u64>,
    last: Option<LastPermit>,
    next: u64,
    last_outcome: Option<Time>,
}

#[derive(Debug)]
struct Permitted {
    body: DecisionBody,
    outcome: Option<(u64, OutcomeBody)>,
    /// Whether its outcome came before the barrier: then it was not in flight.
    landed: bool,
}

/// Which permits a cut is about.
struct About {
    instances: HashSet<InstanceId>,
    upstream: Option<UpstreamName>,
}

impl About {
    /// Whether a credential was one of its instances', or for the upstream that it stopped.
    fn had(&self, upstream: &UpstreamName, instance: &InstanceId) -> bool {
        self.instances.contains(instance) || self.upstream.as_ref() == Some(upstream)
    }

    fn covers(&self, body: &DecisionBody) -> bool {
        body.effect == Effect::Allow
            && (self.instances.contains(&body.instance)
                || self
                    .upstream
                    .as_ref()
                    .is_some_and(|it| *it == body.upstream || body.routed_to.as_ref() == Some(it)))
    }
}

impl Flight {
    /// Reads on to the end of the log.
    fn read(
        &mut self,
        calls: &dyn LogReader,
        about: &About,
        barrier: u64,
    ) -> Result<(), CertifyError> {
        let end = calls.size();
        for index in self.next..end {
            let bytes = calls.entry(index)?;
            let bad = |cause: String| CertifyError::Entry { index, cause };
            let entry = Entry::parse(&bytes).map_err(|error| bad(error.to_string()))?;
            match entry.kind {
                Kind::Decision if index < barrier => {
                    let body: DecisionBody = serde_json::from_str(entry.body.get())
                        .map_err(|error| bad(error.to_string()))?;
                    if about.covers(&body) {
                        self.last = Some(LastPermit {
                            record: format!("calls/{index}"),
                            at: entry.time,
                            instance: body.instance.clone(),
                        });
                        if !body.awaits_outcome() {
                            self.told_elsewhere.push(index);
                            continue;
                        }
                        let permitted = Permitted {
                            body,
                            outcome: None,
                            landed: false,
                        };
                        self.permits.insert(index, permitted);
                    }
                }
                Kind::Outcome => {
                    let body: OutcomeBody = serde_json::from_str(entry.body.get())
                        .map_err(|error| bad(error.to_string()))?;
                    if let Some(permitted) = self.permits.get_mut(&body.decision) {
                        permitted.landed = index < barrier;
                        if !permitted.landed {
                            self.last_outcome = Some(entry.time);
                        }
                        permitted.outcome = Some((index, body));
                    }
                }
                _ => {}
            }
        }
        self.next = end;
        Ok(())
    }

    fn settled(&self) -> bool {
        self.permits.values().all(|it| it.outcome.is_some())
    }
}

/// What a certificate says of the time before the oldest call in flight.
#[derive(Debug, Default)]
struct Earlier {
    /// The last permit.
    last: Option<LastPermit>,
    /// Permits that an enforcement point was told.
    told_elsewhere: Vec<u64>,
}

impl Earlier {
    /// Reads back from `end`, at least to what was written at `since`, and on to the last permit.
    fn read(
        calls: &dyn LogReader,
        about: &About,
        end: u64,
        since: Time,
    ) -> Result<Self, CertifyError> {
        let mut found = Self::default();
        for index in (end.saturating_sub(EARLIER_ENTRIES_MAX)..end).rev() {
            let bytes = calls.entry(index)?;
            let bad = |cause: String| CertifyError::Entry { index, cause };
            let entry = Entry::parse(&bytes).map_err(|error| bad(error.to_string()))?;
            if entry.time < since && found.last.is_some() {
                break;
            }
            if entry.kind != Kind::Decision {
                continue;
            }
            let body: DecisionBody =
                serde_json::from_str(entry.body.get()).map_err(|error| bad(error.to_string()))?;
            if !about.covers(&body) {
                continue;
            }
            if !body.awaits_outcome() && entry.time >= since {
                found.told_elsewhere.push(index);
            }
            found.last.get_or_insert(LastPermit {
                record: format!("calls/{index}"),
                at: entry.time,
                instance: body.instance,
            });
        }
        found.told_elsewhere.reverse();
        Ok(found)
    }
}

impl Plane {
    /// Makes the certificate of a cut whose barrier is at `barrier`, and puts it on record. `from`
    /// is an index before which no permit was open then.
    pub(crate) async fn certify(
        self: &Arc<Self>,
        cut: u64,
        barrier: u64,
        from: u64,
    ) -> Result<(), CertifyError> {
        let found = self.beside(move |plane| {
            let found = plane.control.view(|state| {
                let cut = state.cut(cut)?;
                let open = cut.certificate.is_none();
                open.then(|| (cut.clone(), state.covered(cut), state.covered_agents(cut)))
            });
            let (cut, instances, agents) = found?;
            let about = About {
                instances: instances.iter().map(|it| it.id.clone()).collect(),
                upstream: match &cut.of {
                    CutOf::Upstream(upstream) => Some(upstream.clone()),
                    CutOf::Sponsor(_) | CutOf::Sessions(_) | CutOf::Agent(_) | CutOf::All => None,
                },
            };
            Some((cut, instances, agents, Arc::new(about)))
        });
        let Some((cut, instances, agents, about)) = found.await? else {
            return Ok(());
        };
        let mut flight = Flight {
            next: from,
            ..Flight::default()
        };
        let wait = tokio::time::sleep(Duration::from_secs(CALLS_SECONDS_MAX));
        let mut wait = std::pin::pin!(wait);
        loop {
            // Whoever settles after this is heard.
            let settled = self.settled.notified();
            flight = self
                .reading(&about, move |calls, about| {
                    flight.read(calls, about, barrier)?;
                    Ok(flight)
                })
                .await?;
            if flight.settled() {
                break;
            }
            tokio::select! {
                () = settled => {}
                () = &mut wait => break,
            }
        }
        let covers = |upstream: &UpstreamName, id: &InstanceId| about.had(upstream, id);
        tokio::select! {
            () = self.returns.settled(covers) => {}
            () = &mut wait => {}
        }
        let credentials = self.returns.parts(cut.at, covers);
        let since = cut.at.minus(Duration::from_secs(TOLD_SECONDS));
        let found = self.reading(&about, move |calls, about| {
            let earlier = Earlier::read(calls, about, from, since)?;
            Ok((flight, earlier))
        });
        let (mut flight, earlier) = found.await?;
        flight.last = flight.last.or(earlier.last);
        flight.told_elsewhere.splice(0..0, earlier.told_elsewhere);
        let covered = (agents, instances, credentials);
        let written = self.beside(move |plane| plane.written(&cut, covered, flight, barrier));
        let body = written.await??;
        let (record, instances, calls) = (body.cut, body.instances, body.in_flight);
        let actor = Actor::node(&self.settings.node);
        self.control
            .execute(actor, Command::CertifyCut(body))
            .await?;
        tracing::info!(
            cut.record = record,
            instances,
            calls,
            "The cut of control/{record} is carried out and certified"
        );
        self.certified.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Reads the log of calls away from the threads that answer calls.
    async fn reading<T: Send + 'static>(
        self: &Arc<Self>,
        about: &Arc<About>,
        look: impl FnOnce(&dyn LogReader, &About) -> Result<T, CertifyError> + Send + 'static,
    ) -> Result<T, CertifyError> {
        let about = Arc::clone(about);
        self.beside(move |plane| look(plane.calls.reader(), &about))
            .await?
    }

    /// Does what grows with the instances that a cut covers, or may wait for a disk, away from the
    /// threads that answer calls.
    async fn beside<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, CertifyError> {
        let plane = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&plane));
        done.await.map_err(|_| CertifyError::Interrupted)
    }

    /// Keeps the certificate, and says what is to be put on record of it.
    fn written(
        &self,
        cut: &Cut,
        (agents, instances, credentials): (Vec<AgentId>, Vec<Arc<Instance>>, Vec<CredentialPart>),
        flight: Flight,
        barrier: u64,
    ) -> Result<CutOff, CertifyError> {
        let bytes = self.calls.reader().entry(barrier)?;
        let entry = Entry::parse(&bytes).map_err(|error| CertifyError::Entry {
            index: barrier,
            cause: error.to_string(),
        })?;
        let covered = (agents, instances.as_slice(), credentials);
        let certificate = self.certificate(cut, covered, flight, (barrier, entry.time));
        Ok(CutOff {
            cut: cut.record,
            barrier,
            certificate: self.blobs.put(&serde_json::to_vec(&certificate)?)?,
            instances: count(certificate.instances.len()),
            tokens: count(certificate.tokens.len()),
            in_flight: count(certificate.calls.len()),
            unknown: count(certificate.residue.unknown.len()),
            open: count(certificate.residue.open.len()),
        })
    }

    fn certificate(
        &self,
        cut: &Cut,
        (mut agents, instances, credentials): (Vec<AgentId>, &[Arc<Instance>], Vec<CredentialPart>),
        flight: Flight,
        (barrier, barrier_at): (u64, Time),
    ) -> Certificate {
        agents.extend(instances.iter().map(|it| it.agent.clone()));
        agents.sort();
        agents.dedup();
        let tokens: Vec<Token> = instances
            .iter()
            .flat_map(|it| {
                let issued = self.issuer.issued(&it.id, cut.at);
                issued.into_iter().map(|(id, expires_at)| Token {
                    id: id.to_string(),
                    instance: it.id.clone(),
                    expires_at,
                })
            })
            .collect();
        let told_elsewhere = flight.told_elsewhere;
        let calls: Vec<CallPart> = flight
            .permits
            .into_iter()
            .filter(|(_, it)| !it.landed)
            .map(|(index, it)| {
                let (outcome, result, cause) = match it.outcome {
                    None => (None, "open", None),
                    Some((at, body)) => {
                        let result = match body.result {
                            Came::NotSent => "not-sent",
                            Came::Unknown => "unknown",
                            Came::Completed => "completed",
                        };
                        (Some(format!("calls/{at}")), result, body.cause)
                    }
                };
                CallPart {
                    decision: format!("calls/{index}"),
                    outcome,
                    instance: it.body.instance,
                    upstream: it.body.upstream,
                    routed_to: it.body.routed_to,
                    method: it.body.method,
                    tool: it.body.tool,
                    result: result.to_owned(),
                    cause,
                }
            })
            .collect();
        let of = |result: &str| {
            let calls = calls.iter().filter(|it| it.result == result);
            calls.map(|it| it.decision.clone()).collect::<Vec<_>>()
        };
        let residue = Residue {
            unknown: of("unknown"),
            open: of("open"),
            told_elsewhere: told_elsewhere
                .into_iter()
                .map(|index| format!("calls/{index}"))
                .collect(),
            credentials: credentials
                .iter()
                .filter(|it| it.is_left())
                .map(|it| format!("{} of {}", it.upstream, it.instance))
                .collect(),
        };
        let micros =
            |from: Time, to: Time| u64::try_from(to.since(from).as_micros()).unwrap_or(u64::MAX);
        Certificate {
            v: 1,
            cut: CutPart::of(cut),
            signal: cut.signal.clone(),
            barrier: Place {
                record: format!("calls/{barrier}"),
                at: barrier_at,
            },
            last_permit: flight.last,
            took: Took {
                signal_to_cut_us: cut.signal.as_ref().map(|it| micros(it.received_at, cut.at)),
                cut_to_barrier_us: micros(cut.at, barrier_at),
                cut_to_last_outcome_us: flight.last_outcome.map(|at| micros(cut.at, at)),
            },
            agents,
            instances: instances.iter().map(|it| Covered::of(it)).collect(),
            tokens_expire_by: (!instances.is_empty()).then(|| {
                cut.at
                    .plus(Duration::from_secs(vocab::limits::ACCESS_TOKEN_SECONDS))
            }),
            tokens,
            credentials,
            calls,
            complete: residue.open.is_empty(),
            residue,
        }
    }

    /// The certificate of the cut at `record`, as soon as it is on record; none if the entry is no
    /// cut.
    pub async fn certificate_of(&self, record: u64) -> Option<(u64, Digest)> {
        let mut certified = self.certified.subscribe();
        loop {
            certified.borrow_and_update();
            let found = self
                .control
                .view(|state| state.cut(record).map(|cut| cut.certificate))?;
            if found.is_some() {
                return found;
            }
            if certified.changed().await.is_err() {
                return None;
            }
        }
    }

    /// Certifies cuts that a node before this one acknowledged and did not come to certify.
    /// `barrier` is the one that this start wrote; `from` an index before which nothing was open.
    pub async fn certify_pending(self: &Arc<Self>, barrier: u64, from: u64) {
        let pending: Vec<u64> = self.control.view(|state| state.uncertified().collect());
        for cut in pending {
            if let Err(error) = self.certify(cut, barrier, from).await {
                tracing::error!(error = %crate::upstream::chain(&error), "The cut of control/{cut} could not be certified");
            }
        }
    }
}

impl CutPart {
    /// What it was about: a handle, an id, a name, or `everything`.
    pub fn of_what(&self) -> String {
        let sponsor = self.sponsor.as_ref().map(ToString::to_string);
        let agent = || self.agent.as_ref().map(ToString::to_string);
        let upstream = || self.upstream.as_ref().map(ToString::to_string);
        let of = sponsor.or_else(agent).or_else(upstream);
        of.unwrap_or_else(|| "everything".to_owned())
    }

    /// A cut, as the register has it.
    pub fn of(cut: &Cut) -> Self {
        let (mut sponsor, mut agent, mut upstream, mut all) = (None, None, None, false);
        match &cut.of {
            CutOf::Sponsor(of) | CutOf::Sessions(of) => sponsor = Some(of.clone()),
            CutOf::Agent(of) => agent = Some(of.clone()),
            CutOf::Upstream(of) => upstream = Some(of.clone()),
            CutOf::All => all = true,
        }
        Self {
            record: format!("control/{}", cut.record),
            kind: cut.kind.to_string(),
            at: cut.at,
            sponsor,
            agent,
            upstream,
            all,
        }
    }
}

impl Covered {
    fn of(instance: &Instance) -> Self {
        Self {
            id: instance.id.clone(),
            agent: instance.agent.clone(),
            parent: instance.parent.clone(),
            depth: instance.depth,
            record: format!("control/{}", instance.record),
        }
    }
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}
