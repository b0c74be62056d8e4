//! Cuts and their certificates, and the switches that stop an upstream or everything.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Path, State};
use bytes::Bytes;
use gateway::cutoff::{CALLS_SECONDS_MAX, CutPart};
use http::StatusCode;
use ledger::{Actor, Log as _};
use register::{Command, CommandError, Cut, CutOf, Refusal, Signal, State as Register, Validity};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vocab::{AgentId, Digest, LogName, RecordRef, SponsorId, UpstreamName};

use super::routes::{Answer, App, ok, parsed, read};
use super::wire::{self, Problem};
use super::{Admin, Caller};
use crate::certificate::{Bundle, Proofs};
use crate::commands::ledger::{LedgerError, Way};
use crate::doctor::stops;
use crate::node::Shared;
use crate::quorum::Short;

/// How long whoever asks for a certificate waits for it: calls in flight are waited for less long.
const CERTIFIED_WITHIN: Duration = Duration::from_secs(2 * CALLS_SECONDS_MAX);

/// How long they wait for the cosignatures that `[ledger] quorum` asks for.
const WITNESSED_WITHIN: Duration = Duration::from_secs(15);
const ASKED_AGAIN: Duration = Duration::from_millis(250);

/// A cut, as it is listed.
#[derive(Debug, Serialize)]
struct CutView {
    #[serde(flatten)]
    cut: CutPart,
    /// The sponsor's id, if it was about one who has a name.
    sponsor_id: Option<SponsorId>,
    /// Whether it holds yet.
    validity: Validity,
    /// Who did it, as its entry says; null if that cannot be read.
    by: Option<Actor>,
    signal: Option<Signal>,
    /// The entry that says how it ended; none yet if null.
    certificate: Option<String>,
}

impl CutView {
    fn of(state: &Register, cut: &Cut) -> Self {
        let certificate = cut.certificate.as_ref();
        let sponsor = match &cut.of {
            CutOf::Sponsor(handle) | CutOf::Sessions(handle) => state.sponsor(handle),
            CutOf::Agent(_) | CutOf::Upstream(_) | CutOf::All => None,
        };
        Self {
            cut: CutPart::of(cut),
            sponsor_id: sponsor.and_then(|it| it.id().cloned()),
            validity: state.validity(cut),
            by: None,
            signal: cut.signal.clone(),
            certificate: certificate.map(|(record, _)| format!("control/{record}")),
        }
    }
}

/// What an administrator's command is recorded as, when it cuts.
pub(super) fn signal(admin: &Admin, event: &str) -> Result<Signal, Problem> {
    Ok(Signal {
        source: parsed("cli")?,
        event: parsed(event)?,
        received_at: admin.shared.clock.now(),
        happened_at: None,
        id: None,
    })
}

pub(super) async fn list(State(admin): App) -> Answer {
    let shared = Arc::clone(&admin.shared);
    let read = tokio::task::spawn_blocking(move || {
        let list = |state: &Register| {
            let cuts = state.cuts();
            let cuts = cuts.map(|cut| (cut.record, CutView::of(state, cut)));
            cuts.collect::<Vec<_>>()
        };
        let log = shared.control_log.reader();
        let cuts = shared.plane.control().view(list).into_iter();
        cuts.map(|(record, mut view)| {
            view.by = stops::actor(&*log, record);
            view
        })
        .collect::<Vec<_>>()
    });
    Ok(ok(&read.await.map_err(|_| Problem::internal())?))
}

/// The certificate of a cut with its proofs, as soon as it is on record.
pub(super) async fn certificate(State(admin): App, Path(record): Path<u64>) -> Answer {
    let shared = &admin.shared;
    let unknown = || {
        let refusal = Refusal::UnknownCut { given: record };
        Problem::from(CommandError::Refused(refusal))
    };
    let found = shared.plane.certificate_of(record);
    let found = tokio::time::timeout(CERTIFIED_WITHIN, found).await;
    let found = found.map_err(|_| unproven(&"it is not on record yet"))?;
    let (entry, digest) = found.ok_or_else(unknown)?;
    bundle(&admin, record, entry, digest).await
}

async fn bundle(admin: &Arc<Admin>, cut: u64, entry: u64, digest: Digest) -> Answer {
    let shared = Arc::clone(&admin.shared);
    // The barrier has to be under a checkpoint to be proven.
    for log in LogName::ALL {
        let published = shared.log(log).publish().await;
        published.map_err(|error| unproven(&wire::chain(&error)))?;
    }
    let until = tokio::time::Instant::now() + WITNESSED_WITHIN;
    loop {
        let shared = Arc::clone(&shared);
        let made = tokio::task::spawn_blocking(move || proven(&shared, cut, entry, digest));
        match made.await {
            Ok(Ok(bundle)) => return Ok(ok(&bundle)),
            Ok(Err(Withheld::For(problem))) => return Err(problem),
            Ok(Err(Withheld::Short(short))) if tokio::time::Instant::now() >= until => {
                return Err(unproven(&short).help(
                    "it is on record; `tipstaff certificate show` gives it as soon as witnesses cosigned, and \
                     `tipstaff doctor` says what is wrong with them",
                ));
            }
            // Witnesses are asked beside; they take their time.
            Ok(Err(Withheld::Short(_))) => tokio::time::sleep(ASKED_AGAIN).await,
            Err(_) => return Err(Problem::internal()),
        }
    }
}

/// Why a certificate is not handed out.
enum Withheld {
    /// Its entries wait for witnesses.
    Short(Short),
    /// Something is wrong.
    For(Problem),
}

fn proven(shared: &Shared, cut: u64, entry: u64, digest: Digest) -> Result<Bundle, Withheld> {
    let failed = |why: &dyn std::fmt::Display| Withheld::For(unproven(why));
    let text = shared.plane.blobs().get(&digest);
    let text = text
        .map_err(|error| failed(&wire::chain(&error)))?
        .and_then(|text| String::from_utf8(text).ok())
        .ok_or_else(|| failed(&"its text is not kept any more"))?;
    let certificate: gateway::cutoff::Certificate =
        serde_json::from_str(&text).map_err(|error| failed(&error))?;
    let place: Result<RecordAt, _> = certificate.barrier.record.parse();
    let barrier = place.map_err(|()| failed(&"its barrier is no record"))?.0;
    let quorum = shared.config.ledger.quorum.as_ref();
    let way = Way::of(&shared.config.data).map_err(|error| failed(&wire::chain(&error)))?;
    let proof = |log, index| match way.prove(log, index, quorum) {
        Ok(proven) => Ok(proven.proof),
        Err(LedgerError::Quorum(short)) => Err(Withheld::Short(short)),
        Err(error) => Err(failed(&wire::chain(&error))),
    };
    Ok(Bundle {
        proofs: Proofs {
            cut: proof(LogName::Control, cut)?,
            cut_off: proof(LogName::Control, entry)?,
            barrier: proof(LogName::Calls, barrier)?,
        },
        certificate: serde_json::from_str(&text).map_err(|error| failed(&error))?,
        text,
        keys: way.steps(),
    })
}

fn unproven(why: &dyn std::fmt::Display) -> Problem {
    let told = format!("the cut holds, but its certificate cannot be given out: {why}");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unproven", &told)
        .help("`tipstaff doctor` says what is wrong; then ask again")
}

/// `calls/INDEX`.
struct RecordAt(u64);

impl std::str::FromStr for RecordAt {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let index = text.strip_prefix("calls/").ok_or(())?;
        index.parse().map(Self).map_err(|_| ())
    }
}

/// What is to stop, or to go on; `POST /v1/kill`. Neither an agent nor an upstream: everything.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// One agent.
    #[serde(default)]
    pub agent: Option<AgentId>,
    /// One upstream.
    #[serde(default)]
    pub upstream: Option<UpstreamName>,
    /// Whether it is to go on instead.
    #[serde(default)]
    pub undo: bool,
}

/// What was stopped, or goes on.
#[derive(Debug, Serialize)]
struct Killed {
    agent: Option<AgentId>,
    upstream: Option<UpstreamName>,
    all: bool,
    stopped: bool,
    is_new: bool,
    records: Vec<RecordRef>,
}

pub(super) async fn kill(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Answer {
    let Kill {
        agent,
        upstream,
        undo,
    } = read(&body)?;
    let signal = signal(&admin, "kill")?;
    let command = match (agent.clone(), upstream.clone(), undo) {
        (Some(_), Some(_), _) => {
            return Err(Problem::bad(&"name an agent or an upstream, not both"));
        }
        (Some(id), None, false) => Command::SuspendAgent {
            id,
            signal: Some(signal),
        },
        (Some(id), None, true) => Command::ResumeAgent { id },
        (None, Some(name), false) => Command::StopUpstream { name, signal },
        (None, Some(name), true) => Command::ResumeUpstream { name },
        (None, None, false) => Command::StopAll { signal },
        (None, None, true) => Command::ResumeAll,
    };
    let (is_new, records) = admin.execute(caller, command).await?;
    Ok(ok(&Killed {
        all: agent.is_none() && upstream.is_none(),
        agent,
        upstream,
        stopped: !undo,
        is_new,
        records,
    }))
}

/// The newest cut of what a command was about, in what `/v1/cuts` lists.
pub fn newest<'a>(cuts: &'a Value, about: &str, id: &str) -> Option<&'a Value> {
    let cuts = cuts.as_array()?;
    cuts.iter().rev().find(|cut| match about {
        "all" => cut["all"] == true,
        about => cut[about] == id,
    })
}
