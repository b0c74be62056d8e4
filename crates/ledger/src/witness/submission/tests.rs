use super::*;
use crate::memory::{Memory, ORIGIN, signer};
use crate::note::Signer;
use crate::witness::{answer, request};

fn witness() -> Cosigner {
    Cosigner::from_seed("witness.example/w1", &[1; 32]).unwrap()
}

fn keys() -> Vec<Verifier> {
    vec![signer().verifier().clone()]
}

const NOON: Time = Time::from_secs(1_700_000_000);

fn seen(log: &Memory, size: u64) -> Option<Seen> {
    (size > 0).then(|| Seen {
        checkpoint: log.checkpoint_at(size),
        at: NOON,
    })
}

fn body(log: &Memory, old: u64, size: u64) -> String {
    request(log, signer().verifier(), old, &log.sign(size)).unwrap()
}

fn judge(body: &str, seen: Option<&Seen>) -> Result<Cosigned, Refused> {
    let consistent = Submission::parse(body.as_bytes())?
        .signed(&keys())?
        .continuing(seen)?;
    Ok(consistent.cosign(&witness(), NOON))
}

fn check(body: &str, seen: Option<&Seen>, expected: u16) {
    let status = match judge(body, seen) {
        Ok(_) => 200,
        Err(refused) => refused.status(),
    };
    assert_eq!(status, expected, "{body}");
}

#[test]
fn what_continues_what_was_seen_is_cosigned() {
    let log = Memory::of(300);
    for (old, size) in [
        (0, 0),
        (0, 1),
        (0, 300),
        (1, 2),
        (7, 255),
        (256, 300),
        (300, 300),
    ] {
        let cosigned = judge(&body(&log, old, size), seen(&log, old).as_ref()).unwrap();
        let note = Note::parse(&log.sign(size)).unwrap();
        let (signature, at) = answer(&note, witness().verifier(), &cosigned.answer).unwrap();
        assert_eq!(at, NOON);
        let mut whole = note;
        whole.push(signature);
        assert_eq!(cosigned.note, whole.to_string());
        let again = Seen::read(&cosigned.note, witness().verifier()).unwrap();
        assert_eq!(again, cosigned.seen);
        assert_eq!(again.checkpoint, log.checkpoint_at(size));
    }
}

#[test]
fn a_stale_old_size_is_told_the_right_one() {
    let log = Memory::of(10);
    for (old, at) in [(0, 4), (3, 4), (5, 4), (10, 4), (4, 0)] {
        let refused = judge(&body(&log, old, 10), seen(&log, at).as_ref());
        assert_eq!(refused.unwrap_err(), Refused::Conflict { seen: at });
    }
}

/// The one thing that a witness is for.
#[test]
fn a_rollback_is_never_cosigned() {
    let log = Memory::of(10);
    let seen = seen(&log, 8);
    // Whatever old size the log claims for the smaller tree.
    for old in 0..=7 {
        check(&body(&log, old, 7), seen.as_ref(), 409);
    }
    let claimed = body(&log, 7, 7).replace("old 7\n", "old 8\n");
    check(&claimed, seen.as_ref(), 400);
}

#[test]
fn a_fork_is_never_cosigned() {
    let log = Memory::of(10);
    let mut other = Memory::of(10);
    other.entries[3] = crate::memory::entry(99);
    let other = Memory::with(other.entries);
    let seen = seen(&log, 8);
    // Of the same size: the proof of two histories.
    let refused = judge(&body(&other, 8, 8), seen.as_ref());
    assert_eq!(refused.unwrap_err(), Refused::Fork { size: 8 });
    // Grown from another past.
    let refused = judge(&body(&other, 8, 10), seen.as_ref()).unwrap_err();
    assert!(matches!(refused, Refused::Proof(_)), "{refused}");
    assert_eq!(refused.status(), 422);
    // With the proof of the honest log.
    let honest = body(&log, 8, 10);
    let (head, _) = honest.split_once("\n\n").unwrap();
    check(&format!("{head}\n\n{}", other.sign(10)), seen.as_ref(), 422);
}

#[test]
fn proofs_are_those_that_must_be_there() {
    let log = Memory::of(10);
    let hash = hash::to_line(&log.root(3));
    // From nothing, or to the same, there is nothing to prove.
    let stuffed = |old: u64| body(&log, old, 10).replacen('\n', &format!("\n{hash}\n"), 1);
    check(&stuffed(0), None, 422);
    check(&stuffed(10), seen(&log, 10).as_ref(), 422);
    check(&stuffed(4), seen(&log, 4).as_ref(), 422);
    let without = format!("old 4\n\n{}", log.sign(10));
    check(&without, seen(&log, 4).as_ref(), 422);
}

#[test]
fn an_empty_tree_has_the_root_of_one() {
    let empty = Checkpoint {
        origin: ORIGIN.to_owned(),
        size: 0,
        root: hash::leaf(b"something"),
    };
    let note = Note::sign(&empty.to_string(), &signer()).unwrap();
    check(&format!("old 0\n\n{note}"), None, 422);
}

#[test]
fn only_the_logs_own_keys_speak_for_it() {
    let log = Memory::of(3);
    let good = body(&log, 0, 3);
    let parsed = || Submission::parse(good.as_bytes()).unwrap();
    let status = |keys: &[Verifier]| parsed().signed(keys).map(drop).map_err(|it| it.status());
    let renamed = Signer::from_seed(ORIGIN, &[8; 32]).unwrap();
    let elsewhere = Signer::from_seed("example.com/other", &[7; 32]).unwrap();
    assert_eq!(status(&[]), Err(404));
    assert_eq!(status(&[renamed.verifier().clone()]), Err(403));
    assert_eq!(status(&[elsewhere.verifier().clone()]), Err(403));
    // While a key is changed, either does.
    assert_eq!(
        status(&[renamed.verifier().clone(), signer().verifier().clone()]),
        Ok(())
    );
    // A wrong signature by a trusted key beside a right one makes the note malformed.
    let mut note = Note::parse(&log.sign(3)).unwrap();
    note.push(signer().sign("something else\n"));
    check(&format!("old 0\n\n{note}"), None, 403);
    // Strangers' signatures are neither looked at nor kept.
    let mut note = Note::parse(&log.sign(3)).unwrap();
    note.push(renamed.sign("anything\n"));
    let cosigned = judge(&format!("old 0\n\n{note}"), None).unwrap();
    let kept = Note::parse(&cosigned.note).unwrap();
    assert_eq!(kept.signatures().len(), 2);
}

#[test]
fn extension_lines_are_the_logs_and_are_signed_too() {
    let log = Memory::of(3);
    let text = format!("{}extended\n", log.checkpoint_at(3));
    let note = Note::sign(&text, &signer()).unwrap();
    let cosigned = judge(&format!("old 0\n\n{note}"), None).unwrap();
    let kept = Note::parse(&cosigned.note).unwrap();
    assert_eq!(kept.text(), text);
    cosignature::verify(&kept, witness().verifier()).unwrap();
    assert_eq!(cosigned.seen.checkpoint, log.checkpoint_at(3));
    let empty = Note::sign(&format!("{}\nx\n", log.checkpoint_at(3)), &signer()).unwrap();
    check(&format!("old 0\n\n{empty}"), None, 400);
}

#[test]
fn what_is_no_submission_is_a_bad_request() {
    let log = Memory::of(5);
    let note = log.sign(5);
    let hash = hash::to_line(&log.root(3));
    let hashes = |n: usize| format!("{hash}\n").repeat(n);
    for bad in [
        String::new(),
        "\n\n".to_owned(),
        note.clone(),
        format!("old 0\n{note}"),
        format!("old 00\n\n{note}"),
        format!("old +0\n\n{note}"),
        format!("old  0\n\n{note}"),
        format!("Old 0\n\n{note}"),
        format!("old 0\r\n\n{note}"),
        format!("old 18446744073709551616\n\n{note}"),
        format!("old 9223372036854775808\n\n{note}"),
        format!("old 6\n\n{note}"),
        format!("old 1\nAAAA\n\n{note}"),
        format!("old 1\n{}\n{note}", hashes(PROOF_LINES_MAX + 1)),
        format!("old 0\n\n{}", note.trim_end()),
        format!("old 0\n\n{}", log.checkpoint_at(5)),
        format!("old 0\n\n{}", note.replace("\n5\n", "\n05\n")),
        format!(
            "old 0\n\n{}",
            note.replace("\n5\n", "\n9223372036854775808\n")
        ),
    ] {
        check(&bad, None, 400);
    }
    // At the limit it is read, and found wanting.
    check(
        &format!("old 1\n{}\n{note}", hashes(PROOF_LINES_MAX)),
        None,
        409,
    );
    let long = format!("{}{}", body(&log, 0, 5), "x".repeat(SUBMISSION_BYTES_MAX));
    check(&long, None, 413);
    assert!(Submission::parse(&[0xff, b'\n', b'\n']).is_err());
}

#[test]
fn a_memory_that_is_not_by_its_own_key_is_none() {
    let log = Memory::of(5);
    let kept = judge(&body(&log, 0, 5), None).unwrap().note;
    let other = Cosigner::from_seed("witness.example/w1", &[2; 32]).unwrap();
    assert!(Seen::read(&kept, other.verifier()).is_err());
    for at in 0..kept.len() {
        let mut bytes = kept.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(changed) = String::from_utf8(bytes) else {
            continue;
        };
        // The log's own signature need not be there: what was cosigned is the text.
        if let Ok(seen) = Seen::read(&changed, witness().verifier()) {
            assert_eq!(seen.checkpoint, log.checkpoint_at(5), "byte {at}");
        }
    }
    for (length, _) in kept.char_indices() {
        let cut = kept.get(..length).unwrap();
        assert!(Seen::read(cut, witness().verifier()).is_err());
    }
}

#[test]
fn a_witness_key_has_one_text() {
    let text = witness().to_text();
    let again: Cosigner = text.expose().parse().unwrap();
    assert_eq!(again.verifier(), witness().verifier());
    // Neither passes for the other.
    assert!(text.expose().parse::<Signer>().is_err());
    assert!(signer().to_text().expose().parse::<Cosigner>().is_err());
}
