use super::*;

#[test]
fn expressions_are_met_by_allowed_licences() {
    let check = |expression: &str, expected: bool| {
        assert_eq!(permits(expression), expected, "{expression}");
    };
    check("MIT", true);
    check("MIT/Apache-2.0", true);
    check("MIT OR GPL-3.0-only", true);
    check("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true);
    check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
    check("MIT AND GPL-3.0-only", false);
    check("GPL-3.0-only OR MPL-2.0", false);
    check("(MIT OR Apache-2.0) AND MPL-2.0", false);
    check("GPL-2.0-only WITH Classpath-exception-2.0", false);
    check("(MIT", false);
    check("MIT MIT", false);
    check("", false);
}
