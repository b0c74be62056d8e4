//! What is read from a data folder, from a copy of one, and from witnesses.
//!
//! The keys here are nobody's. What they signed is in the seeds, and an assertion holds that
//! nothing else is ever believed to be signed by them.

use ledger::cosignature::Cosigner;
use ledger::note::{self, KeyError, Note, Signer, Verifier};
use ledger::tile::{self as tiles, Tile};
use ledger::tlog_proof::TlogProof;
use ledger::witness::submission::{Seen, Submission};
use ledger::{Checkpoint, Draft, Entry, Header, hash, proof as proofs, write_entry};
use vocab::{Digest, Time};

use crate::text;

/// The log that the seeds speak of.
const ORIGIN: &str = "fuzz.tipstaff.example/calls";
/// The witness that the seeds speak of.
const WITNESS: &str = "witness.tipstaff.example";

/// The key of the log.
fn log_key() -> Result<Signer, KeyError> {
    Signer::from_seed(ORIGIN, &[7; 32])
}

/// The key of the witness.
fn witness_key() -> Result<Cosigner, KeyError> {
    Cosigner::from_seed(WITNESS, &[9; 32])
}

/// The first entry of the log.
const ENTRY: &[u8] = b"the first entry";
/// And what stands behind it.
const OTHER: &[u8] = b"the other";
/// When the witness cosigned, in Unix seconds.
const COSIGNED: u64 = 1_795_254_662;

/// The only checkpoint that the log's key ever signed, and the only one the witness cosigned.
fn signed() -> Checkpoint {
    Checkpoint {
        origin: ORIGIN.to_owned(),
        size: 2,
        root: hash::node(&hash::leaf(ENTRY), &hash::leaf(OTHER)),
    }
}

/// An entry that was taken can be written again and says the same.
pub fn entry(data: &[u8]) -> bool {
    let Ok(entry) = Entry::parse(data) else {
        return false;
    };
    let header = Header {
        trust_domain: entry.trust_domain.clone(),
        node: entry.node.clone().into_owned(),
        epoch: entry.epoch,
        key: entry.key.clone().into_owned(),
    };
    let draft = Draft {
        kind: entry.kind,
        actor: entry.actor.clone(),
        trace: Some(entry.trace.clone().into_owned()),
        body: entry.body.to_owned(),
        sealed: None,
        guard: None,
    };
    if let Ok(written) = write_entry(&header, entry.time, &draft) {
        let again = Entry::parse(&written);
        assert!(again.is_ok_and(|again| {
            again.kind == entry.kind
                && again.time == entry.time
                && again.actor == entry.actor
                && again.trace == entry.trace
                && again.body.get() == entry.body.get()
        }));
    }
    true
}

/// Notes and keys have one text form each.
pub fn note(data: &[u8]) -> bool {
    let Some(text) = text(data) else {
        return false;
    };
    if let Ok(key) = text.parse::<Verifier>() {
        assert_eq!(key.to_string(), text);
        return true;
    }
    if let Ok(key) = text.parse::<Signer>() {
        assert_eq!(key.to_text().expose(), text);
        return true;
    }
    let Ok(note) = Note::parse(text) else {
        return false;
    };
    assert_eq!(note.to_string(), text);
    true
}

/// A checkpoint has one text form, and the log's key vouches for no other.
pub fn checkpoint(data: &[u8]) -> bool {
    let (Some(text), Ok(key)) = (text(data), log_key()) else {
        return false;
    };
    if let Ok(checkpoint) = text.parse::<Checkpoint>() {
        assert_eq!(checkpoint.to_string(), text);
    }
    let opened = Checkpoint::open(text, key.verifier());
    if let Ok(checkpoint) = &opened {
        assert_eq!(*checkpoint, signed());
    }
    opened.is_ok()
}

/// A witness cosigned what it cosigned.
pub fn cosignature(data: &[u8]) -> bool {
    let (Some(text), Ok(key)) = (text(data), witness_key()) else {
        return false;
    };
    let Ok(note) = Note::parse(text) else {
        return false;
    };
    let held = ledger::cosignature::verify(&note, key.verifier()).is_ok();
    assert!(!held || note.text() == signed().to_string());
    held
}

/// A proof file has one text form, and proves no entry but the log's.
pub fn tlog_proof(data: &[u8]) -> bool {
    let (Some(text), Ok(key)) = (text(data), log_key()) else {
        return false;
    };
    let Ok(proof) = text.parse::<TlogProof>() else {
        return false;
    };
    assert_eq!(proof.to_string(), text);
    let entry = proof.extra.as_deref().unwrap_or_default();
    let held = proof.verify(entry, &key.verifier().clone().into()).is_ok();
    assert!(!held || entry == ENTRY && proof.index == 0);
    held
}

/// The input: two numbers, two hashes, then a path. Neither proof fails but by saying so.
pub fn proof(data: &[u8]) -> bool {
    let Some((left, rest)) = data.split_first_chunk::<8>() else {
        return false;
    };
    let Some((right, rest)) = rest.split_first_chunk::<8>() else {
        return false;
    };
    let Some((low, rest)) = rest.split_first_chunk::<32>() else {
        return false;
    };
    let Some((high, rest)) = rest.split_first_chunk::<32>() else {
        return false;
    };
    let (left, right) = (u64::from_le_bytes(*left), u64::from_le_bytes(*right));
    let (low, high) = (Digest::from_bytes(*low), Digest::from_bytes(*high));
    let path: Vec<Digest> = rest
        .as_chunks::<32>()
        .0
        .iter()
        .map(|bytes| Digest::from_bytes(*bytes))
        .collect();
    let included = proofs::verify_inclusion(&low, left, right, &path, &high).is_ok();
    let consistent = proofs::verify_consistency((left, &low), (right, &high), &path).is_ok();
    assert!(!consistent || left != right || low == high);
    included || consistent
}

/// An answer is believed only if the witness cosigned this checkpoint.
pub fn witness(data: &[u8]) -> bool {
    let (Some(text), Ok(key), Ok(log)) = (text(data), witness_key(), log_key()) else {
        return false;
    };
    let conflict = ledger::witness::conflict(text);
    let Ok(note) = Note::sign(&signed().to_string(), &log) else {
        return false;
    };
    let Ok((signature, time)) = ledger::witness::answer(&note, key.verifier(), text) else {
        return conflict.is_some();
    };
    assert_eq!(time, Time::from_secs(COSIGNED));
    assert_eq!(signature.name(), WITNESS);
    assert!(note::parse_signatures(text).is_ok_and(|all| all.contains(&signature)));
    true
}

/// A checkpoint is cosigned only if the log signed it, and what is kept of it is found again.
pub fn submission(data: &[u8]) -> bool {
    let (Ok(submission), Ok(key), Ok(log)) = (Submission::parse(data), witness_key(), log_key())
    else {
        return false;
    };
    let Ok(signed_by_log) = submission.signed(&[log.verifier().clone()]) else {
        return true;
    };
    let at = Time::from_secs(COSIGNED);
    let seen = Seen {
        checkpoint: Checkpoint {
            origin: ORIGIN.to_owned(),
            size: 1,
            root: hash::leaf(ENTRY),
        },
        at,
    };
    for seen in [None, Some(&seen)] {
        let Ok(consistent) = signed_by_log.clone().continuing(seen) else {
            continue;
        };
        let cosigned = consistent.cosign(&key, at);
        assert_eq!(cosigned.seen.checkpoint, signed());
        assert_eq!(
            Seen::read(&cosigned.note, key.verifier()),
            Ok(cosigned.seen)
        );
    }
    true
}

/// A path names one tile, and a bundle is what its entries make.
pub fn tile(data: &[u8]) -> bool {
    let path = text(data).and_then(|text| text.parse::<Tile>().ok().map(|tile| (text, tile)));
    if let Some((text, tile)) = path {
        assert_eq!(tile.to_string(), text);
        return true;
    }
    if let Some(hashes) = tiles::hashes(data) {
        assert_eq!(hashes.len() * tiles::HASH_BYTES, data.len());
    }
    let Some(entries) = tiles::entries(data) else {
        return false;
    };
    let mut again = Vec::with_capacity(data.len());
    assert!(
        entries
            .iter()
            .all(|entry| tiles::push_entry(&mut again, entry))
    );
    assert_eq!(again, data);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signed seeds are what these keys sign.
    #[test]
    fn signed_seeds() {
        let (log, witness) = (log_key().unwrap(), witness_key().unwrap());
        let checkpoint = signed().sign(&log).unwrap();
        let cosigned = witness.cosign(&signed(), Time::from_secs(COSIGNED));
        let mut note = Note::parse(&checkpoint).unwrap();
        note.push(cosigned.clone());
        let proof = TlogProof {
            extra: Some(ENTRY.to_vec()),
            index: 0,
            path: vec![hash::leaf(OTHER)],
            checkpoint: checkpoint.clone(),
        };
        let proof_text = proof.to_string();
        let other = proof_text.lines().nth(3).unwrap();
        for (file, text) in [
            ("checkpoint/signed", checkpoint.clone()),
            ("cosignature/cosigned", note.to_string()),
            ("witness/answer", format!("{cosigned}\n")),
            ("submission/first", format!("old 0\n\n{checkpoint}")),
            ("submission/next", format!("old 1\n{other}\n\n{checkpoint}")),
            ("tlog_proof/proof", proof_text.clone()),
            ("note/verifier", log.verifier().to_string()),
            ("note/signer", log.to_text().expose().clone()),
        ] {
            let path = format!("{}/../seeds/{file}", env!("CARGO_MANIFEST_DIR"));
            assert_eq!(std::fs::read_to_string(path).unwrap(), text, "seeds/{file}");
        }
    }
}
