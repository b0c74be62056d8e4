use super::*;
use crate::cosignature::Cosigner;
use crate::memory::{Memory, signer};
use crate::proof::verify_consistency;

#[test]
fn a_witness_can_check_what_it_is_sent() {
    let log = Memory::of(300);
    let checkpoint = log.checkpoint.clone().unwrap();
    for old in [0, 1, 64, 199, 299, 300] {
        let body = request(&log, signer().verifier(), old, &checkpoint).unwrap();
        let (head, note) = body.split_once("\n\n").unwrap();
        assert_eq!(note, checkpoint);
        let mut lines = head.lines();
        assert_eq!(lines.next(), Some(format!("old {old}").as_str()));
        let path: Vec<_> = lines.map(|line| hash::from_line(line).unwrap()).collect();
        let (from, to) = (log.root(old), log.root(300));
        assert_eq!(verify_consistency((old, &from), (300, &to), &path), Ok(()));
    }
    assert_eq!(
        request(&log, signer().verifier(), 301, &checkpoint),
        Err(RequestError::Prove(ProveError::Sizes {
            from: 301,
            to: 300
        }))
    );
    assert!(matches!(
        request(&log, signer().verifier(), 0, "nothing"),
        Err(RequestError::Checkpoint(_))
    ));
}

#[test]
fn an_answer_is_believed_only_if_it_holds() {
    let log = Memory::of(7);
    let note = Note::parse(&log.sign(7)).unwrap();
    let witness = Cosigner::from_seed("witness.example/w1", &[1; 32]).unwrap();
    let other = Cosigner::from_seed("witness.example/w2", &[2; 32]).unwrap();
    let time = Time::from_secs(1_700_000_000);
    let (own, strange) = (log.checkpoint_at(7), log.checkpoint_at(6));
    let good = witness.cosign(&own, time);
    let beside = other.cosign(&own, time);

    let body = format!("{beside}\n{good}\n");
    assert_eq!(
        answer(&note, witness.verifier(), &body),
        Ok((good.clone(), time))
    );
    let mut cosigned = note.clone();
    cosigned.push(good);
    let bad = witness.cosign(&strange, time);
    for note in [&note, &cosigned] {
        assert!(matches!(
            answer(note, witness.verifier(), &format!("{bad}\n")),
            Err(NoteError::Wrong { .. })
        ));
        assert!(matches!(
            answer(note, witness.verifier(), &format!("{beside}\n")),
            Err(NoteError::Unsigned { .. })
        ));
        assert_eq!(answer(note, witness.verifier(), ""), Err(NoteError::Form));
        assert_eq!(
            answer(note, witness.verifier(), "<html>\n"),
            Err(NoteError::SignatureLine)
        );
    }
}

#[test]
fn a_conflict_says_a_size() {
    assert_eq!(conflict("42\n"), Some(42));
    for bad in ["", "\n", "42", "042\n", "x\n", "42\n\n"] {
        assert_eq!(conflict(bad), None, "{bad}");
    }
}
