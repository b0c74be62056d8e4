//! What the log can take: durable appends, against bare flushes of the same disk; and how fast a
//! log is verified.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::ledger::note::Signer;
use ::ledger::verify::{Expected, verify};
use ::ledger::{Actor, Draft, Header, Kind, Log, LogReader};
use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;
use store::{DataDir, Faults, FilesLog, LogOptions, OfflineLog};
use vocab::LogName;
use vocab::rng::SystemRng;
use vocab::time::SystemClock;

use crate::machine;
use crate::stats::median;

/// Writers at once.
const WRITERS: [usize; 4] = [1, 16, 64, 256];

/// What the log took.
#[derive(Debug, Serialize)]
pub(crate) struct Ledger {
    /// Flushes of a preallocated file in a bare loop.
    pub(crate) flushes_per_second: f64,
    pub(crate) appends: Vec<Appends>,
    /// Entries verified by one thread, with the log's signature, hashes and tiles.
    pub(crate) verified_per_second: f64,
    pub(crate) verified_entries: u64,
}

/// What so many writers came to.
#[derive(Debug, Serialize)]
pub(crate) struct Appends {
    pub(crate) writers: usize,
    pub(crate) per_second: f64,
    /// Appends for each bare flush that the disk could have done.
    pub(crate) per_flush: f64,
}

/// Measures in `dir`: `rounds` rounds, each of every number of writers and of bare flushes.
pub(crate) fn run(dir: &Path, rounds: usize, lasting: Duration) -> Result<Ledger> {
    let runtime = tokio::runtime::Runtime::new()?;
    let data = dir.join("data");
    let folder = DataDir::open(&data)?;
    let signer = Signer::generate("bench.tipstaff/calls", &SystemRng)?;
    let verifier = signer.verifier().clone();
    let header = Header {
        trust_domain: "bench.tipstaff".parse()?,
        node: "bench".to_owned(),
        epoch: 1,
        key: verifier.key_name(),
    };
    let options = LogOptions {
        name: LogName::Calls,
        signers: signer.into(),
        header,
        clock: Arc::new(SystemClock::new()),
        faults: Faults::default(),
        publish_every: Some(Duration::from_secs(1)),
    };
    let log = Arc::new(FilesLog::open(&folder, options)?);
    let mut bare = Vec::new();
    let mut rates = vec![Vec::new(); WRITERS.len()];
    for _ in 0..rounds {
        bare.push(1e6 / machine::flush(dir, lasting / 2)?);
        for (&writers, rates) in WRITERS.iter().zip(&mut rates) {
            rates.push(runtime.block_on(append(&log, writers, lasting))?);
        }
    }
    log.close()?;
    drop(log);
    drop(folder);
    let flushes_per_second = median(&mut bare);
    let appends = WRITERS.iter().zip(&mut rates).map(|(&writers, rates)| {
        let per_second = median(rates);
        Appends {
            writers,
            per_second,
            per_flush: per_second / flushes_per_second,
        }
    });
    let appends = appends.collect();
    let offline = OfflineLog::open(&data, LogName::Calls)?;
    let verified_entries = offline.size();
    let expected = Expected {
        log: LogName::Calls,
        keys: &verifier.into(),
        known: &[],
    };
    let begin = machine::elapsed();
    let report = verify(&offline, expected).context("the log does not verify")?;
    let took = machine::elapsed().saturating_sub(begin).as_secs_f64();
    anyhow::ensure!(
        report.tail == 0,
        "a closed log has entries that are not signed"
    );
    #[expect(clippy::cast_precision_loss, reason = "a number of entries")]
    let verified_per_second = verified_entries as f64 / took;
    Ok(Ledger {
        flushes_per_second,
        appends,
        verified_per_second,
        verified_entries,
    })
}

/// Appends per second of so many writers, each of which waits for one entry before the next.
async fn append(log: &Arc<FilesLog>, writers: usize, lasting: Duration) -> Result<f64> {
    let begin = machine::elapsed();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let log = Arc::clone(log);
            tokio::spawn(async move {
                let mut count = 0_u32;
                while machine::elapsed() < begin + lasting {
                    log.append(vec![draft()?]).await?;
                    count += 1;
                }
                anyhow::Ok(count)
            })
        })
        .collect();
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    let took = machine::elapsed().saturating_sub(begin).as_secs_f64();
    Ok(f64::from(count) / took)
}

/// An entry of about 600 bytes.
fn draft() -> Result<Draft> {
    let digest = vocab::Digest::of(b"something");
    let body = json!({
        "decision": 1_000_000, "result": "completed", "is_error": false,
        "said": digest, "delivered": digest, "note": "x".repeat(80),
    });
    Ok(Draft::new(Kind::Outcome, Actor::node("bench"), &body)?)
}
