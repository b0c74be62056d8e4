use super::*;

fn source(path: &str, text: &str) -> Source {
    Source {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

#[test]
fn words_are_found_where_they_are_refused() {
    let check = |path: &str, text: &str, expected: usize| {
        assert_eq!(words(&source(path, text)).len(), expected, "{path}: {text}");
    };
    check("a.rs", concat!("    to", "do!()"), 1);
    check("a.md", concat!("    to", "do!()"), 0);
    check("a.md", concat!("see /wo", "rk/main"), 1);
    check(
        "a.rs",
        concat!("#[ig", "nore]\nfn a() {}\n#[ig", "nore = \"slow\"]"),
        2,
    );
    check("a.rs", "items.skip(1)", 0);
}

#[test]
fn a_long_file_only_gets_shorter() {
    let check = |lines: usize, listed: Option<usize>, expected: Option<&str>| {
        let list: Vec<(&str, usize)> = listed.iter().map(|max| ("a.rs", *max)).collect();
        let found = length(&source("a.rs", &"x\n".repeat(lines)), &list);
        assert_eq!(found.as_deref(), expected, "{lines} lines, {listed:?}");
    };
    check(LINES_MAX, None, None);
    check(
        LINES_MAX + 1,
        None,
        Some("a.rs: 1201 lines, more than 1200"),
    );
    check(1300, Some(1300), None);
    check(
        1301,
        Some(1300),
        Some("a.rs: 1301 lines, was 1300: only shorter"),
    );
    check(
        1299,
        Some(1300),
        Some("a.rs: 1299 lines, so write that for 1300 in the list of longer files"),
    );
    check(
        1200,
        Some(1300),
        Some("a.rs: 1200 lines, so take it off the list of longer files"),
    );
}

#[test]
fn code_says_what_it_is() {
    let check = |path: &str, text: &str, expected: Option<&str>| {
        assert_eq!(
            introduction(&source(path, text)).as_deref(),
            expected,
            "{path}"
        );
    };
    check("crates/a/src/b.rs", "//! The b of a.\n", None);
    check(
        "crates/a/src/b.rs",
        "use c;\n",
        Some("crates/a/src/b.rs: does not open with what it is (`//!`)"),
    );
    check("crates/a/src/b/tests.rs", "use c;\n", None);
    check("crates/a/tests/it/b.rs", "use c;\n", None);
    let short = "crates/a/src/lib.rs: says too little about what the crate is for and never does";
    check("crates/a/src/lib.rs", "//! Short.\n", Some(short));
    check(
        "crates/a/src/lib.rs",
        &format!("//! {}\n//! {}", "a".repeat(60), "b".repeat(60)),
        None,
    );
}
