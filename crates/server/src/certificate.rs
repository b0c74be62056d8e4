//! A cut-off certificate as it is handed out: its text, and the proofs that both logs hold what it
//! says. Checked offline with the logs' public keys and nothing else.

use gateway::cutoff::Certificate;
use gateway::record::BarrierBody;
use ledger::keys::{FollowError, followed};
use ledger::note::Verifier;
use ledger::tlog_proof::TlogProof;
use ledger::{Actor, Entry, Kind, LogKeys};
use register::CutOff;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vocab::{Digest, Time};

/// A certificate and its proofs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The certificate.
    pub certificate: Certificate,
    /// Its text, byte for byte, which the log commits to.
    pub text: String,
    /// The proofs.
    pub proofs: Proofs,
    /// If keys of the logs changed: what leads from the first ones to those that sign, each an
    /// announcement with its proof under a key before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}

/// Proofs in the form of C2SP tlog-proof; each has its entry with it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proofs {
    /// The entry of `control` that narrowed.
    pub cut: String,
    /// The entry of `control` that names the certificate.
    pub cut_off: String,
    /// The barrier in `calls`.
    pub barrier: String,
}

/// Why a certificate proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    /// Not a bundle.
    #[error("it is not a certificate with its proofs: {0}")]
    Shape(#[from] serde_json::Error),
    /// A proof that does not hold.
    #[error("the proof of {what} does not hold: {cause}")]
    Proof {
        /// Of what.
        what: &'static str,
        /// Why.
        cause: String,
    },
    /// No way leads from the keys that are trusted to those that sign.
    #[error("{0}")]
    Keys(#[from] FollowError),
    /// An entry that is not what it should be.
    #[error("{what} is {found}, not {expected}")]
    Entry {
        /// Which.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// The text is not the one that the log commits to.
    #[error("the text is not the one that the log commits to")]
    Text,
    /// What is shown is not what the text says.
    #[error("what is shown beside the text is not what the text says")]
    Shown,
    /// What the certificate says is not what the entries say.
    #[error("the certificate says {said} of {what}, and the entry {found}")]
    Differs {
        /// Of what.
        what: &'static str,
        /// What the certificate says.
        said: String,
        /// What the entry says.
        found: String,
    },
}

/// What a certificate proves, once it was checked.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// Always true.
    pub proven: bool,
    /// The entry that narrowed.
    pub cut: String,
    /// Its kind.
    pub kind: String,
    /// What was cut: a sponsor's handle, an agent, an upstream, or `everything`.
    pub of: String,
    /// When.
    pub at: Time,
    /// Who did it, as that entry says.
    pub by: Actor,
    /// The barrier.
    pub barrier: String,
    /// The origins of the two logs, `control` and `calls`.
    pub origins: [String; 2],
    /// Instances that it covers.
    pub instances: usize,
    /// Calls that were in flight.
    pub in_flight: usize,
    /// Calls of which it is not known what they came to.
    pub unknown: usize,
    /// Whether every call that was in flight has an outcome.
    pub complete: bool,
}

impl Bundle {
    /// Checks everything with public keys of the two logs, their first ones or later ones.
    pub fn verify(&self, control: &Verifier, calls: &Verifier) -> Result<Checked, Unproven> {
        let mut steps = Vec::new();
        for step in &self.keys {
            steps.push(read("a change of keys", step)?);
        }
        let [control, calls] = &followed(&steps, control, calls)?;
        let (cut_index, cut) = proven("the cut", &self.proofs.cut, control)?;
        let (_, named) = proven("the cut's end", &self.proofs.cut_off, control)?;
        let (barrier_index, barrier) = proven("the barrier", &self.proofs.barrier, calls)?;
        let body: CutOff = body("the cut's end", &named, Kind::CutOff)?;
        let narrowing: BarrierBody = body_of_barrier(&barrier)?;
        if Digest::of(self.text.as_bytes()) != body.certificate {
            return Err(Unproven::Text);
        }
        let certificate: Certificate = serde_json::from_str(&self.text)?;
        if serde_json::to_value(&certificate)? != serde_json::to_value(&self.certificate)? {
            return Err(Unproven::Shown);
        }
        let entry = parsed("the cut", &cut)?;
        same("kind", &certificate.cut.kind, &entry.kind.to_string())?;
        same(
            "time",
            &certificate.cut.at.to_string(),
            &entry.time.to_string(),
        )?;
        let at = |log: &str, index: u64| format!("{log}/{index}");
        same("cut", &certificate.cut.record, &at("control", cut_index))?;
        same("cut", &at("control", body.cut), &at("control", cut_index))?;
        same(
            "barrier",
            &certificate.barrier.record,
            &at("calls", barrier_index),
        )?;
        same(
            "barrier",
            &at("calls", body.barrier),
            &at("calls", barrier_index),
        )?;
        // A barrier speaks for all that the control log had: the cut has to be among it.
        if narrowing.control_size <= cut_index {
            return Err(Unproven::Entry {
                what: "the barrier",
                found: format!("one for {} entries of control", narrowing.control_size),
                expected: format!("one for more than {cut_index}"),
            });
        }
        for (what, said, found) in [
            ("instances", certificate.instances.len(), body.instances),
            ("tokens", certificate.tokens.len(), body.tokens),
            ("calls in flight", certificate.calls.len(), body.in_flight),
            (
                "unknown effects",
                certificate.residue.unknown.len(),
                body.unknown,
            ),
            ("open calls", certificate.residue.open.len(), body.open),
        ] {
            same(what, &said.to_string(), &found.to_string())?;
        }
        let part = certificate.cut;
        let of = part.of_what();
        Ok(Checked {
            proven: true,
            of,
            at: part.at,
            by: entry.actor,
            origins: [control, calls].map(|key| key.origin().to_owned()),
            cut: part.record,
            kind: part.kind,
            barrier: certificate.barrier.record,
            instances: certificate.instances.len(),
            in_flight: certificate.calls.len(),
            unknown: certificate.residue.unknown.len(),
            complete: certificate.complete,
        })
    }
}

fn same(what: &'static str, said: &str, found: &str) -> Result<(), Unproven> {
    if said == found {
        return Ok(());
    }
    Err(Unproven::Differs {
        what,
        said: said.to_owned(),
        found: found.to_owned(),
    })
}

/// The entry that a proof has with it, and its index, once the proof was checked.
fn proven(what: &'static str, text: &str, keys: &LogKeys) -> Result<(u64, Vec<u8>), Unproven> {
    let bad = |cause: String| Unproven::Proof { what, cause };
    let proof = read(what, text)?;
    let entry = proof.extra.clone();
    let entry = entry.ok_or_else(|| bad("it has no entry with it".to_owned()))?;
    proof
        .verify(&entry, keys)
        .map_err(|error| bad(error.to_string()))?;
    Ok((proof.index, entry))
}

fn read(what: &'static str, text: &str) -> Result<TlogProof, Unproven> {
    text.parse().map_err(
        |error: ledger::tlog_proof::TlogProofError| Unproven::Proof {
            what,
            cause: error.to_string(),
        },
    )
}

fn parsed<'a>(what: &'static str, entry: &'a [u8]) -> Result<Entry<'a>, Unproven> {
    Entry::parse(entry).map_err(|error| Unproven::Entry {
        what,
        found: format!("no entry: {error}"),
        expected: "an entry".to_owned(),
    })
}

fn body<T: DeserializeOwned>(what: &'static str, entry: &[u8], kind: Kind) -> Result<T, Unproven> {
    let entry = parsed(what, entry)?;
    if entry.kind != kind {
        return Err(Unproven::Entry {
            what,
            found: format!("an entry of kind `{}`", entry.kind),
            expected: format!("one of kind `{kind}`"),
        });
    }
    Ok(serde_json::from_str(entry.body.get())?)
}

fn body_of_barrier(entry: &[u8]) -> Result<BarrierBody, Unproven> {
    body("the barrier", entry, Kind::Barrier)
}
