use super::*;
use crate::memory::{Memory, signer};

fn cosigner() -> Cosigner {
    Cosigner::from_seed("witness.example.com/w1", &[9; 32]).unwrap()
}

fn cosigned() -> (Checkpoint, Note) {
    let checkpoint = Memory::of(5).checkpoint_at(5);
    let mut note = Note::parse(&checkpoint.sign(&signer()).unwrap()).unwrap();
    note.push(cosigner().cosign(&checkpoint, Time::from_secs(1_679_315_147)));
    (checkpoint, note)
}

#[test]
fn a_cosignature_holds_beside_the_logs_signature() {
    let (checkpoint, note) = cosigned();
    let read = Note::parse(&note.to_string()).unwrap();
    assert_eq!(
        Checkpoint::of_note(&read, signer().verifier()),
        Ok(checkpoint)
    );
    assert_eq!(
        verify(&read, cosigner().verifier()),
        Ok(Time::from_secs(1_679_315_147))
    );
    let text = cosigner().verifier().to_string();
    assert_eq!(&text.parse::<Verifier>().unwrap(), cosigner().verifier());
    assert!(!format!("{:?}", cosigner()).contains("CQkJ"));
}

/// The message, spelled out, signed by hand.
#[test]
fn the_signed_message_is_that_of_the_specification() {
    let (checkpoint, note) = cosigned();
    let root = crate::hash::to_line(&checkpoint.root);
    let message = format!("cosignature/v1\ntime 1679315147\nexample.com/calls\n5\n{root}\n");
    let signature = SigningKey::from_bytes(&[9; 32]).sign(message.as_bytes());
    let bytes = &note.signatures()[1].bytes;
    assert_eq!(bytes[..8], 1_679_315_147_u64.to_be_bytes());
    assert_eq!(bytes[8..], signature.to_bytes());
}

#[test]
fn the_latest_of_several_counts() {
    let (checkpoint, mut note) = cosigned();
    note.push(cosigner().cosign(&checkpoint, Time::from_secs(2_000_000_000)));
    note.push(cosigner().cosign(&checkpoint, Time::from_secs(1_000_000_000)));
    let latest = verify(&note, cosigner().verifier());
    assert_eq!(latest, Ok(Time::from_secs(2_000_000_000)));
}

#[test]
fn what_was_not_cosigned_is_refused() {
    let (checkpoint, note) = cosigned();
    let wrong = Err(NoteError::Wrong {
        key: cosigner().verifier().key_name(),
    });
    let unsigned = |verifier: &Verifier| {
        Err(NoteError::Unsigned {
            key: verifier.key_name(),
        })
    };
    let other = Cosigner::from_seed("witness.example.com/w2", &[9; 32]).unwrap();
    assert_eq!(verify(&note, other.verifier()), unsigned(other.verifier()));
    // The log's signature is no cosignature, nor the other way round.
    let log = signer();
    assert!(matches!(
        verify(&note, log.verifier()),
        Err(NoteError::Wrong { .. })
    ));
    assert!(note.verify(cosigner().verifier()).is_err());

    let bare = || Note::parse(&checkpoint.sign(&signer()).unwrap()).unwrap();
    let good = note.signatures()[1].clone();
    for bit in 0..good.bytes.len() * 8 {
        let mut signature = good.clone();
        signature.bytes[bit / 8] ^= 1 << (bit % 8);
        let mut note = bare();
        note.push(signature);
        assert_eq!(verify(&note, cosigner().verifier()), wrong, "bit {bit}");
    }
    let late = cosigner().cosign(&checkpoint, Time::EPOCH);
    for bytes in [
        late.bytes[..71].to_vec(),
        [late.bytes.as_slice(), &[0]].concat(),
        vec![0],
    ] {
        let mut note = bare();
        note.push(Signature {
            bytes,
            ..good.clone()
        });
        assert_eq!(verify(&note, cosigner().verifier()), wrong);
    }
    // A cosignature of another checkpoint.
    let older = Memory::of(5).checkpoint_at(4);
    let mut note = bare();
    note.push(cosigner().cosign(&older, Time::EPOCH));
    assert_eq!(verify(&note, cosigner().verifier()), wrong);
}
