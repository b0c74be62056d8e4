use super::*;

fn read(source: &Source) -> Result<String, String> {
    let nowhere = Path::new("/nonexistent");
    let value = source.read(&Vault::of(nowhere, nowhere));
    value
        .map(|it| it.expose().clone())
        .map_err(|error| error.to_string())
}

#[test]
fn references_are_read_and_what_is_none_is_not_repeated() {
    let parse = |text: &str| Source::parse(text, Path::new("/base"));
    assert_eq!(parse("env:TOKEN"), Ok(Source::Env("TOKEN".to_owned())));
    assert_eq!(parse("file:a/b"), Ok(Source::File("/base/a/b".into())));
    assert_eq!(
        parse("vault:github"),
        Ok(Source::Vault("github".parse().unwrap()))
    );
    assert_eq!(parse("plain:x:y"), Ok(Source::Plain("x:y".to_owned())));
    for text in ["hunter2", "env:", "file:", "s3:hunter2", "", "vault"] {
        let error = parse(text).unwrap_err();
        assert_eq!(error, ReferenceError::Form);
        assert!(!error.to_string().contains("hunter2"));
    }
    assert!(matches!(
        parse("vault:Not A Name"),
        Err(ReferenceError::Name(_))
    ));
}

#[test]
fn a_file_is_read_without_the_line_breaks_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let source = Source::File(path.clone());
    for (text, expected) in [
        ("abc", "abc"),
        ("abc\n", "abc"),
        ("abc\r\n\n", "abc"),
        (" a\nb \n", " a\nb "),
    ] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(read(&source).unwrap(), expected);
    }
}

#[test]
fn what_is_absent_unreadable_or_no_secret_gives_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let source = Source::File(path.clone());
    assert!(read(&source).unwrap_err().contains("cannot read"));
    for (bytes, why) in [
        (b"".as_slice(), "is empty"),
        (b"\n", "is empty"),
        (b"a\0b", "no text"),
        (b"\xff\xfe", "no text"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = read(&source).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    std::fs::write(&path, "x".repeat(SECRET_BYTES_MAX)).unwrap();
    assert_eq!(read(&source).unwrap().len(), SECRET_BYTES_MAX);
    std::fs::write(&path, "x".repeat(SECRET_BYTES_MAX + 1)).unwrap();
    assert!(read(&source).unwrap_err().contains("more than"));
    let unset = Source::Env("TIPSTAFF_TEST_NOBODY_SETS_THIS".to_owned());
    assert!(read(&unset).unwrap_err().contains("not set"));
}

/// A pipe that nobody writes to would let whoever opens it wait for ever.
#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
    let linked = folder.path().join("linked");
    std::os::unix::fs::symlink(&path, &linked).unwrap();
    let device = folder.path().join("device");
    std::os::unix::fs::symlink("/dev/zero", &device).unwrap();
    for path in [path, linked, device, folder.path().to_owned()] {
        let error = read(&Source::File(path)).unwrap_err();
        assert!(error.contains("is not a regular file"), "{error}");
    }
    // As Kubernetes puts them there.
    let (file, linked) = (folder.path().join("..data"), folder.path().join("token"));
    std::fs::write(&file, "value").unwrap();
    std::os::unix::fs::symlink(&file, &linked).unwrap();
    assert_eq!(read(&Source::File(linked)).unwrap(), "value");
}
