use super::*;

fn parse(name: &str, value: &str) -> Result<HeaderTemplate, HeaderError> {
    HeaderTemplate::parse(name, value, Path::new("/base"))
}

fn read(name: &str, value: &str) -> (Option<String>, Vec<String>) {
    let mut seen = Vec::new();
    let nowhere = Path::new("/nonexistent");
    let template = parse(name, value).unwrap();
    let value = template.read(&Vault::of(nowhere, nowhere), &Fetched::default(), |it| {
        seen.push(it.expose().clone());
    });
    let value = value.unwrap();
    (value.map(|it| it.to_str().unwrap().to_owned()), seen)
}

#[test]
fn a_value_is_a_reference_or_text_around_references() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "s3cret\n").unwrap();
    let file = format!("file:{}", path.display());
    let expect = |value: &str| (Some(value.to_owned()), vec!["s3cret".to_owned()]);
    assert_eq!(read("X-Key", &file), expect("s3cret"));
    assert_eq!(
        read("Authorization", &format!("Bearer {{{file}}}")),
        expect("Bearer s3cret")
    );
    assert_eq!(read("X-Key", &format!("a{{{file}}}b")), expect("as3cretb"));
    assert_eq!(
        read("X-Version", "plain:2026-01-01"),
        (Some("2026-01-01".to_owned()), vec![])
    );
}

#[test]
fn a_value_with_a_line_break_is_no_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "s3cret\r\nX-Admin: yes\n").unwrap();
    let (value, _) = read(
        "Authorization",
        &format!("Bearer {{file:{}}}", path.display()),
    );
    assert_eq!(value, None);
}

#[test]
fn the_password_of_basic_authentication_is_a_secret_of_its_own() {
    use base64::Engine as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let encoded = base64::engine::general_purpose::STANDARD.encode("app:pa55word");
    std::fs::write(&path, &encoded).unwrap();
    let (_, seen) = read(
        "Authorization",
        &format!("Basic {{file:{}}}", path.display()),
    );
    assert_eq!(seen, [encoded, "pa55word".to_owned()]);
}

#[test]
fn what_could_be_a_secret_or_is_ours_is_refused() {
    for value in ["Bearer hunter2", "hunter2", "{hunter2}"] {
        let error = parse("Authorization", value).unwrap_err();
        assert_eq!(error, HeaderError::Reference(ReferenceError::Form));
    }
    for value in ["Bearer {env:A", "Bearer env:A}", "{env:A}}", "a}{env:A}"] {
        assert_eq!(
            parse("Authorization", value).unwrap_err(),
            HeaderError::Brace,
            "{value}"
        );
    }
    for name in [
        "Host",
        "content-length",
        "Mcp-Session-Id",
        "Transfer-Encoding",
        "traceparent",
    ] {
        assert!(
            matches!(parse(name, "env:A"), Err(HeaderError::Ours(_))),
            "{name}"
        );
    }
    assert!(matches!(parse("X Key", "env:A"), Err(HeaderError::Name(_))));
}

#[test]
fn a_header_is_not_shown() {
    let template = parse("X-Key", "plain:visible").unwrap();
    let nowhere = Path::new("/nonexistent");
    let value = template
        .read(&Vault::of(nowhere, nowhere), &Fetched::default(), drop)
        .unwrap()
        .unwrap();
    assert!(!format!("{value:?}").contains("visible"));
}
