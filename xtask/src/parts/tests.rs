use super::*;

fn check(parse: fn(&str) -> Option<Tally>, line: &str, expected: Option<(u64, u64)>) {
    let expected = expected.map(|(passed, failed)| Tally { passed, failed });
    assert_eq!(parse(line), expected, "{line}");
}

#[test]
fn runners_are_counted_by_their_closing_lines() {
    check(
        nextest_line,
        "     Summary [   0.012s] 3 tests run: 3 passed, 0 skipped",
        Some((3, 0)),
    );
    check(
        nextest_line,
        "     Summary [   1.0s] 1 test run: 1 passed (1 slow), 0 skipped",
        Some((1, 0)),
    );
    check(
        nextest_line,
        "Summary [   1.0s] 5 tests run: 2 passed, 2 failed, 1 timed out, 7 skipped",
        Some((2, 3)),
    );
    check(
        nextest_line,
        "Summary [   1.0s] 3/5 tests run: 2 passed, 1 failed, 0 skipped",
        Some((2, 3)),
    );
    check(
        nextest_line,
        "Summary [   1.0s] 2 tests run: 2 failed, 0 skipped",
        Some((0, 2)),
    );
    check(
        nextest_line,
        "        PASS [   0.004s] xtask parts::tests::summary",
        None,
    );
    let line = "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
    check(cargo_test_line, line, Some((3, 1)));
    check(cargo_test_line, "test parts::tests ... ok", None);
    check(plain_line, "12 passed, 3 failed", Some((12, 3)));
    check(plain_line, "of them 12 passed, 3 failed", None);
    check(plain_line, "12 passed, 3 failed, 1 skipped", None);
}

#[test]
fn a_runner_that_names_no_failure_still_failed() {
    let broken = Finished {
        success: false,
        lines: Vec::new(),
    };
    assert_eq!(
        Tally::of(&broken, Tally::ONE),
        Tally {
            passed: 1,
            failed: 1
        }
    );
    let named = Tally {
        passed: 1,
        failed: 2,
    };
    assert_eq!(Tally::of(&broken, named), named);
}

#[test]
fn only_takes_known_parts() {
    let names = |args: &[&str]| {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        select(&args).map(|parts| parts.iter().map(|part| part.name).collect::<Vec<_>>())
    };
    assert_eq!(
        names(&["--only", "fmt", "--only", "unit"]),
        Ok(vec!["fmt", "unit"])
    );
    assert_eq!(names(&[]).map(|all| all.len()), Ok(PARTS.len()));
    assert_eq!(names(&["--only", "fnt"]), Err("no part `fnt`".to_owned()));
    assert_eq!(
        names(&["--only"]),
        Err("`--only` needs the name of a part".to_owned())
    );
    assert_eq!(names(&["fmt"]), Err("no argument `fmt`".to_owned()));
}
