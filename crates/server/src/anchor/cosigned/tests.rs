use ledger::Checkpoint;
use ledger::cosignature::{self, Cosigner};
use ledger::note::Signer;
use vocab::{Digest, Time};

use super::*;

struct Place {
    dir: tempfile::TempDir,
    signer: Signer,
    witnesses: Vec<Cosigner>,
    quorum: Option<Quorum>,
}

impl Place {
    fn new() -> Self {
        let witness = |nth| Cosigner::from_seed(&format!("w.example/{nth}"), &[nth; 32]).unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            signer: Signer::from_seed("acme.example/calls/x", &[9; 32]).unwrap(),
            witnesses: (0..3).map(witness).collect(),
            quorum: None,
        }
    }

    /// These witnesses cosign the checkpoint of this size.
    fn keep(&self, size: u64, witnesses: &[usize]) {
        let checkpoint = Checkpoint {
            origin: self.signer.name().to_owned(),
            size,
            root: Digest::of(b"root"),
        };
        let note = Note::parse(&checkpoint.sign(&self.signer).unwrap()).unwrap();
        let cosign = |nth: &usize| self.witnesses[*nth].cosign(&checkpoint, Time::from_secs(7));
        let cosignatures = witnesses.iter().map(cosign).collect();
        keep(
            self.dir.path(),
            LogName::Calls,
            &note,
            cosignatures,
            self.quorum.as_ref(),
        )
        .unwrap();
    }

    /// Every file: the size of its checkpoint, and who cosigned it.
    fn kept(&self) -> Vec<(String, u64, Vec<usize>)> {
        let mut kept = Vec::new();
        for file in fs::read_dir(self.dir.path()).unwrap() {
            let file = file.unwrap();
            let note = Note::parse(&fs::read_to_string(file.path()).unwrap()).unwrap();
            let checkpoint = Checkpoint::of_note(&note, self.signer.verifier()).unwrap();
            let by = (0..self.witnesses.len())
                .filter(|nth| cosignature::verify(&note, self.witnesses[*nth].verifier()).is_ok());
            let by: Vec<_> = by.collect();
            assert_eq!(note.signatures().len(), 1 + by.len());
            let name = file.file_name().into_string().unwrap();
            kept.push((name, checkpoint.size, by));
        }
        kept.sort();
        kept
    }

    fn left_by(&self, nth: usize) -> String {
        format!("calls.{}.cosigned", self.witnesses[nth].verifier().id())
    }
}

const NEWEST: &str = "calls.cosigned";

#[test]
fn all_that_cosigned_a_checkpoint_are_kept_on_it() {
    let place = Place::new();
    place.keep(5, &[0, 1]);
    assert_eq!(place.kept(), [(NEWEST.to_owned(), 5, vec![0, 1])]);
    // One that comes later, and one again.
    place.keep(5, &[1, 2]);
    assert_eq!(place.kept(), [(NEWEST.to_owned(), 5, vec![0, 1, 2])]);
    place.keep(8, &[0, 1, 2]);
    assert_eq!(place.kept(), [(NEWEST.to_owned(), 8, vec![0, 1, 2])]);
}

#[test]
fn the_last_word_of_a_witness_that_is_down_stays() {
    let place = Place::new();
    place.keep(5, &[0, 1]);
    place.keep(6, &[0]);
    place.keep(7, &[0]);
    let mut expected = vec![
        (NEWEST.to_owned(), 7, vec![0]),
        (place.left_by(1), 5, vec![1]),
    ];
    expected.sort();
    assert_eq!(place.kept(), expected);
    place.keep(7, &[1]);
    assert_eq!(place.kept(), [(NEWEST.to_owned(), 7, vec![0, 1])]);
}

#[test]
fn what_cannot_be_read_is_replaced() {
    let place = Place::new();
    fs::write(place.dir.path().join(NEWEST), "half a no").unwrap();
    place.keep(5, &[0]);
    assert_eq!(place.kept(), [(NEWEST.to_owned(), 5, vec![0])]);
}

#[test]
fn what_a_quorum_agreed_on_stays_when_one_of_them_is_down() {
    let mut place = Place::new();
    let keys = place.witnesses.iter().map(|it| it.verifier().clone());
    place.quorum = Quorum::new(2, keys.collect()).unwrap();
    place.keep(3, &[0]);
    assert!(place.kept().iter().all(|(name, ..)| name == NEWEST));
    place.keep(5, &[0, 2]);
    place.keep(8, &[0]);
    // The second one's word comes later.
    place.keep(9, &[0]);
    let agreed = ("calls.quorum.cosigned".to_owned(), 5, vec![0, 2]);
    assert!(place.kept().contains(&agreed), "{:?}", place.kept());
    place.keep(9, &[1]);
    let agreed = ("calls.quorum.cosigned".to_owned(), 9, vec![0, 1]);
    assert!(place.kept().contains(&agreed), "{:?}", place.kept());
}
