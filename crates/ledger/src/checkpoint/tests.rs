use proptest::prelude::*;

use super::*;

const ORIGIN: &str = "example.com/behind-the-sofa";
const ROOT: &str = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";

fn signer() -> Signer {
    Signer::from_seed(ORIGIN, &[7; 32]).unwrap()
}

#[test]
fn the_example_of_the_specification_reads() {
    let text = format!("{ORIGIN}\n20852163\n{ROOT}\n");
    let checkpoint: Checkpoint = text.parse().unwrap();
    assert_eq!(checkpoint.origin, ORIGIN);
    assert_eq!(checkpoint.size, 20_852_163);
    assert_eq!(checkpoint.to_string(), text);
    let signed = checkpoint.sign(&signer()).unwrap();
    assert!(signed.starts_with(&format!("{text}\n— {ORIGIN} ")));
    assert_eq!(
        Checkpoint::open(&signed, signer().verifier()),
        Ok(checkpoint)
    );
}

/// Also when it is signed by the log itself.
fn bad(text: &str, expected: &CheckpointError) {
    let note = Note::sign(text, &signer()).unwrap();
    assert_eq!(
        Checkpoint::of_note(&note, signer().verifier()).as_ref(),
        Err(expected),
        "{text}"
    );
}

#[test]
fn anything_else_is_refused() {
    use CheckpointError::{Extension, Form, Origin, Root, Size};
    bad("\n", &Form);
    bad(&format!("{ORIGIN}\n1\n"), &Form);
    bad(&format!("\n1\n{ROOT}\n"), &Form);
    for size in [
        "",
        "01",
        "00",
        "+1",
        "-1",
        " 1",
        "1 ",
        "0x1",
        "1e3",
        "18446744073709551616",
        "١",
    ] {
        bad(&format!("{ORIGIN}\n{size}\n{ROOT}\n"), &Size);
    }
    let empty = hash::to_line(&hash::empty());
    let (long, short) = (format!("{ROOT}="), ROOT.trim_end_matches('='));
    let loose = ROOT.replace("2I=", "2J=");
    for root in ["", &long, short, &loose, "AAAA", &format!(" {ROOT}")] {
        bad(&format!("{ORIGIN}\n1\n{root}\n"), &Root);
    }
    bad(&format!("{ORIGIN}\n0\n{ROOT}\n"), &Root);
    bad(&format!("{ORIGIN}\n1\n{ROOT}\nextra\n"), &Extension);
    bad(&format!("{ORIGIN}\n1\n{ROOT}\n\n"), &Extension);
    bad(
        &format!("{ORIGIN}\n1\n{ROOT}\n\n{ORIGIN}\n2\n{ROOT}\n"),
        &Extension,
    );
    let found = "example.com/other".to_owned();
    let expected = ORIGIN.to_owned();
    bad(
        &format!("{found}\n0\n{empty}\n"),
        &Origin { expected, found },
    );
}

#[test]
fn a_log_signs_in_its_own_name_only() {
    let other = Checkpoint {
        origin: "example.com/other".to_owned(),
        size: 0,
        root: hash::empty(),
    };
    assert!(matches!(
        other.sign(&signer()),
        Err(CheckpointError::Origin { .. })
    ));
    let stranger = Signer::from_seed(ORIGIN, &[8; 32]).unwrap();
    let own = Checkpoint {
        origin: ORIGIN.to_owned(),
        ..other
    };
    assert!(matches!(
        Checkpoint::open(&own.sign(&stranger).unwrap(), signer().verifier()),
        Err(CheckpointError::Note(NoteError::Unsigned { .. }))
    ));
}

proptest! {
    #[test]
    fn what_is_signed_opens(size in 1_u64.., root: [u8; 32]) {
        let root = Digest::from_bytes(root);
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root };
        let signed = checkpoint.sign(&signer()).unwrap();
        prop_assert_eq!(Checkpoint::open(&signed, signer().verifier()), Ok(checkpoint));
    }

    #[test]
    fn reading_never_panics(text in "[a-z]{0,3}\n[0-9]{0,3}\n[A-Za-z0-9+/=]{0,44}\n{0,2}") {
        if let Ok(checkpoint) = text.parse::<Checkpoint>() {
            prop_assert_eq!(checkpoint.to_string(), text);
        }
    }
}
