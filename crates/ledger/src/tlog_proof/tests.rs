use proptest::prelude::*;

use super::*;
use crate::memory::{Memory, entry, signer};
use crate::note::NoteError;

fn keys() -> LogKeys {
    signer().verifier().clone().into()
}

fn proof() -> String {
    let log = Memory::of(300);
    let proof = TlogProof::of(&log, 77, &keys()).unwrap();
    proof.to_string()
}

/// As anyone would who has the proof and the key.
fn check(text: &str) -> Result<Checkpoint, TlogProofError> {
    let proof: TlogProof = text.parse()?;
    let entry = proof.extra.as_deref().unwrap_or_default();
    proof.verify(entry, &keys())
}

#[test]
fn a_proof_stands_alone() {
    let text = proof();
    assert_eq!(check(&text).unwrap().size, 300);
    let read: TlogProof = text.parse().unwrap();
    assert_eq!(read.to_string(), text);
    assert_eq!((read.index, read.path.len()), (77, 9));
    let mut bare = read;
    bare.extra = None;
    let bare: TlogProof = bare.to_string().parse().unwrap();
    assert!(bare.verify(&entry(77), &keys()).is_ok());
    assert_eq!(
        bare.verify(&entry(78), &keys()),
        Err(TlogProofError::Proof(ProofError::Root))
    );
}

#[test]
fn every_entry_of_the_small_logs_has_its_proof() {
    for size in 1..20 {
        let log = Memory::of(size);
        for index in 0..size {
            let proof = TlogProof::of(&log, index, &keys()).unwrap();
            assert_eq!(check(&proof.to_string()).unwrap(), log.checkpoint_at(size));
        }
        assert_eq!(
            TlogProof::of(&log, size, &keys()),
            Err(MakeError::Prove(ProveError::Index { index: size, size }))
        );
    }
    let mut log = Memory::of(3);
    log.checkpoint = None;
    assert_eq!(
        TlogProof::of(&log, 0, &keys()),
        Err(MakeError::NoCheckpoint)
    );
}

#[test]
fn anything_else_is_refused() {
    let good = proof();
    let bad = |from: &str, to: &str, expected: TlogProofError| {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        assert_eq!(check(&text), Err(expected), "{from:?} to {to:?}");
    };
    bad(
        "c2sp.org/tlog-proof@v1",
        "c2sp.org/tlog-proof@v2",
        TlogProofError::FirstLine,
    );
    bad("v1\n", "v1\r\n", TlogProofError::FirstLine);
    bad("extra ", "extra  ", TlogProofError::Extra);
    bad("extra ", "Extra ", TlogProofError::Index);
    bad("index 77", "index 077", TlogProofError::Index);
    bad("index 77", "index +77", TlogProofError::Index);
    bad("index 77", "index", TlogProofError::Index);
    bad(
        "index 77",
        "index 76",
        TlogProofError::Proof(ProofError::Root),
    );
    let (index, size) = (777, 300);
    bad(
        "index 77",
        "index 777",
        TlogProofError::Proof(ProofError::Index { index, size }),
    );
    bad("index 77\n", "index 77\nAAAA\n", TlogProofError::Path);
    let hash = format!("{}\n", hash::to_line(&hash::empty()));
    bad(
        "index 77\n",
        &format!("index 77\n{hash}"),
        TlogProofError::Proof(ProofError::TooLong),
    );
    bad(
        "index 77\n",
        &format!("index 77\n{}", hash.repeat(60)),
        TlogProofError::Path,
    );
    bad("\n\nexample", "\nexample", TlogProofError::Path);
    let key = signer().verifier().key_name();
    bad(
        "index 77\n",
        "index 77\n\n",
        TlogProofError::Checkpoint(CheckpointError::Note(NoteError::Wrong { key })),
    );
    let long = "x".repeat(PROOF_BYTES_MAX + 1);
    let length = long.len();
    assert_eq!(check(&long), Err(TlogProofError::TooLong { length }));
    assert_eq!(check(FIRST_LINE), Err(TlogProofError::FirstLine));
    let cut = good.split_once("\n\n").unwrap().0;
    assert_eq!(check(cut), Err(TlogProofError::NoCheckpoint));
}

/// Every single bit of a proof file matters.
#[test]
fn any_changed_bit_is_refused() {
    let good = proof();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.as_bytes().to_vec();
            bytes[at] ^= 1_u8 << bit;
            let held = str::from_utf8(&bytes).is_ok_and(|text| check(text).is_ok());
            assert!(!held, "byte {at} bit {bit}");
        }
    }
}

proptest! {
    #[test]
    fn reading_never_panics(
        rest in "(extra [A-Za-z=]{0,6}\n)?(index [0-9]{0,3}\n)?([A-Za-z=]{0,4}\n){0,3}\\PC{0,9}"
    ) {
        let text = format!("{FIRST_LINE}\n{rest}");
        if let Ok(read) = text.parse::<TlogProof>() {
            prop_assert_eq!(read.to_string(), text);
        }
    }
}
