use ledger::cosignature::Cosigner;
use ledger::note::Signer;

use super::*;

fn witness(name: &str, seed: u8) -> Verifier {
    let cosigner = Cosigner::from_seed(name, &[seed; 32]).unwrap();
    cosigner.verifier().clone()
}

#[test]
fn a_quorum_is_of_different_witnesses() {
    let [a, b] = [witness("a.example", 1), witness("b.example", 2)];
    let new = |needed, witnesses: &[&Verifier]| {
        Quorum::new(needed, witnesses.iter().map(|it| (*it).clone()).collect())
    };
    assert_eq!(new(0, &[]), Ok(None));
    assert_eq!(new(0, &[&a]), Ok(None));
    assert_eq!(new(2, &[&a, &b]).unwrap().unwrap().needed(), 2);
    assert_eq!(
        new(1, &[]),
        Err(QuorumError::TooFew {
            needed: 1,
            named: 0
        })
    );
    // Reached by two URLs, it still is one.
    assert_eq!(
        new(2, &[&a, &a]),
        Err(QuorumError::TooFew {
            needed: 2,
            named: 1
        })
    );
    // Nor does another name make it two.
    let again = witness("b.example", 1);
    assert!(matches!(
        new(2, &[&a, &again]),
        Err(QuorumError::Same { .. })
    ));
}

#[test]
fn only_cosignatures_that_hold_count() {
    let log = Signer::from_seed("acme.example/calls/x", &[9; 32]).unwrap();
    let cosigners = [1, 2, 3].map(|n| Cosigner::from_seed(&format!("w{n}"), &[n; 32]).unwrap());
    let at = |size| Checkpoint {
        origin: log.name().to_owned(),
        size,
        root: vocab::Digest::of(b"root"),
    };
    let time = vocab::Time::from_secs(1_700_000_000);
    let named = cosigners.iter().take(2).map(|it| it.verifier().clone());
    let quorum = Quorum::new(2, named.collect()).unwrap().unwrap();
    let note = |by: &[(usize, u64)]| {
        let mut note = Note::parse(&at(5).sign(&log).unwrap()).unwrap();
        for (nth, size) in by {
            note.push(cosigners[*nth].cosign(&at(*size), time));
        }
        quorum.is_met(&note)
    };
    assert!(note(&[(0, 5), (1, 5)]));
    assert!(note(&[(0, 5), (1, 5), (2, 5)]));
    for short in [
        &[][..],
        &[(0, 5)],
        &[(0, 5), (0, 5)],
        // Of a witness that nobody named.
        &[(0, 5), (2, 5)],
        // Of another checkpoint.
        &[(0, 5), (1, 4)],
    ] {
        assert!(!note(short), "{short:?}");
    }
}
