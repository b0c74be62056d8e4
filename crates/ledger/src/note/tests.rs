use proptest::prelude::*;

use super::*;

/// The keys and the note of the tests of `golang.org/x/mod/sumdb/note`.
const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const SKEY: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\n\
    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

fn verifier() -> Verifier {
    VKEY.parse().unwrap()
}

#[test]
fn published_keys_and_note() {
    let signer: Signer = SKEY.parse().unwrap();
    assert_eq!(signer.verifier().to_string(), VKEY);
    assert_eq!(signer.to_text().expose(), SKEY);
    assert_eq!(signer.name(), "PeterNeumann");
    assert_eq!(signer.verifier().key_name(), "PeterNeumann+c74f20a3");
    assert_eq!(Note::sign(TEXT, &signer).unwrap().to_string(), NOTE);
    let note = Note::parse(NOTE).unwrap();
    assert_eq!(note.text(), TEXT);
    assert_eq!(note.verify(&verifier()), Ok(()));
    // The public checksum database's key.
    let sum = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
    assert_eq!(sum.parse::<Verifier>().unwrap().to_string(), sum);
    assert!(!format!("{signer:?}").contains("AYEK"));
}

#[test]
fn keys_are_read_strictly() {
    let check = |text: &str, expected: fn(&KeyError) -> bool| {
        let found = text.parse::<Verifier>().unwrap_err();
        assert!(expected(&found), "{text}: {found:?}");
        let found = format!("PRIVATE+KEY+{text}").parse::<Signer>().unwrap_err();
        assert!(expected(&found), "{text}: {found:?}");
    };
    let data = "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    check("", |e| matches!(e, KeyError::Form { .. }));
    check("a+b", |e| matches!(e, KeyError::Form { .. }));
    check("a+b+!", |e| matches!(e, KeyError::Form { .. }));
    check("a+b+", |e| matches!(e, KeyError::Form { .. }));
    check(&format!("+c74f20a3+{data}"), |e| *e == KeyError::Name);
    check(&format!("a b+c74f20a3+{data}"), |e| *e == KeyError::Name);
    check(&format!("a\u{2003}b+c74f20a3+{data}"), |e| {
        *e == KeyError::Name
    });
    check(&format!("{}+c74f20a3+{data}", "a".repeat(256)), |e| {
        *e == KeyError::Name
    });
    check(&format!("PeterNeumann+C74F20A3+{data}"), |e| {
        matches!(e, KeyError::Hash { .. })
    });
    check(&format!("PeterNeumann+c74f20a4+{data}"), |e| {
        matches!(e, KeyError::Hash { .. })
    });
    check("PeterNeumann+c74f20a3+ARpc", |e| *e == KeyError::Key);
    check("PeterNeumann+c74f20a3+BhpcAAAA", |e| {
        *e == KeyError::Algorithm { found: 6 }
    });
    // The identity point: everything would be signed by it.
    let mut weak = [0; 33];
    weak[..2].copy_from_slice(&[1, 1]);
    let weak = format!("a+00000000+{}", STANDARD.encode(weak));
    assert_eq!(weak.parse::<Verifier>(), Err(KeyError::Key));
    assert_eq!(
        VKEY.parse::<Signer>().unwrap_err(),
        KeyError::Form {
            form: "`PRIVATE+KEY+<name>+<8 hex digits>+<base64>`"
        }
    );
}

#[test]
fn notes_are_read_strictly() {
    let line = NOTE.lines().last().unwrap();
    for (note, expected) in [
        (String::new(), NoteError::Form),
        (TEXT.to_owned(), NoteError::Form),
        (format!("{TEXT}\n"), NoteError::Form),
        (format!("{TEXT}{line}\n"), NoteError::Form),
        (format!("{TEXT}\n{line}"), NoteError::Form),
        (format!("{TEXT}\n{line}\n\n"), NoteError::Form),
        (format!("{TEXT}\n{line}\n{TEXT}"), NoteError::SignatureLine),
        (format!("{TEXT}\n{line} \n"), NoteError::SignatureLine),
        (
            format!("{TEXT}\n{}\n", line.replace('—', "-")),
            NoteError::SignatureLine,
        ),
        (
            format!("{TEXT}\n— PeterNeumann x08go/Z=\n"),
            NoteError::SignatureLine,
        ),
        (
            format!("{TEXT}\n— PeterNeumann x08gow==\n"),
            NoteError::SignatureLine,
        ),
        (format!("a\tb\n\n{line}\n"), NoteError::Control),
        (format!("a\r\n\n{line}\n"), NoteError::Control),
        (
            format!("{TEXT}\n{}", format!("{line}\n").repeat(101)),
            NoteError::TooManySignatures,
        ),
        (
            "x".repeat(NOTE_BYTES_MAX + 1),
            NoteError::TooLong {
                length: NOTE_BYTES_MAX + 1,
            },
        ),
    ] {
        assert_eq!(Note::parse(&note), Err(expected), "{note}");
    }
}

#[test]
fn strangers_signatures_neither_help_nor_harm() {
    let own: Signer = SKEY.parse().unwrap();
    let other = Signer::from_seed("other.example/log", &[7; 32]).unwrap();
    let same_name = Signer::from_seed("PeterNeumann", &[7; 32]).unwrap();
    let wrong = Err(NoteError::Wrong {
        key: "PeterNeumann+c74f20a3".to_owned(),
    });
    let unsigned = Err(NoteError::Unsigned {
        key: "PeterNeumann+c74f20a3".to_owned(),
    });

    let mut note = Note::sign(TEXT, &other).unwrap();
    note.push(same_name.sign(TEXT));
    assert_eq!(note.verify(own.verifier()), unsigned);
    note.push(other.sign("something else\n"));
    note.push(own.sign(TEXT));
    let mut note = Note::parse(&note.to_string()).unwrap();
    assert_eq!(note.verify(own.verifier()), Ok(()));
    // One good signature does not cover for a bad one by the same key.
    note.push(own.sign("something else\n"));
    assert_eq!(note.verify(own.verifier()), wrong);
    // A cosigner's key does not verify a plain signature, even under the same name and id.
    let mut posing = verifier();
    posing.algorithm = Algorithm::CosignatureV1;
    assert_eq!(Note::parse(NOTE).unwrap().verify(&posing), wrong);
}

#[test]
fn only_a_proper_text_is_signed() {
    let signer: Signer = SKEY.parse().unwrap();
    assert_eq!(Note::sign("no newline", &signer), Err(NoteError::Form));
    assert_eq!(Note::sign("a\tb\n", &signer), Err(NoteError::Control));
    let text = "a\n\nb\n\n";
    let note = Note::sign(text, &signer).unwrap().to_string();
    assert_eq!(Note::parse(&note).unwrap().text(), text);
    for name in ["", "a b", "a+b", "a\nb"] {
        assert_eq!(
            Signer::from_seed(name, &[7; 32]).unwrap_err(),
            KeyError::Name
        );
    }
}

/// Every single bit of a signed note matters.
#[test]
fn any_changed_bit_is_refused() {
    for at in 0..NOTE.len() {
        for bit in 0..8 {
            let mut bytes = NOTE.as_bytes().to_vec();
            bytes[at] ^= 1_u8 << bit;
            let refused = str::from_utf8(&bytes).is_ok_and(|note| {
                Note::parse(note).is_ok_and(|note| note.verify(&verifier()).is_ok())
            });
            assert!(!refused, "byte {at} bit {bit}");
        }
    }
}

proptest! {
    #[test]
    fn reading_never_panics(note in "\\PC{0,40}\n\n(— [a-z ]{0,5}[A-Za-z0-9+/=]{0,20}\n?){0,3}") {
        if let Ok(read) = Note::parse(&note) {
            prop_assert_eq!(read.to_string(), note);
        }
    }

    #[test]
    fn what_is_signed_verifies(text in "[^\\x00-\\x1f]{0,40}\n{1,3}", seed: [u8; 32]) {
        let signer = Signer::from_seed("example.com/log", &seed).unwrap();
        let note = Note::sign(&text, &signer).unwrap().to_string();
        let note = Note::parse(&note).unwrap();
        prop_assert_eq!(note.text(), text);
        prop_assert_eq!(note.verify(signer.verifier()), Ok(()));
    }
}
