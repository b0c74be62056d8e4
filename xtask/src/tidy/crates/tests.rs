use super::*;

#[test]
fn an_arrow_is_skipped_but_never_reversed() {
    let check = |from, to, dev, expected: Option<&str>| {
        let found = judge(&Edge { from, to, dev });
        assert_eq!(found.as_deref(), expected, "{from} -> {to}");
    };
    check("gateway", "vocab", false, None);
    check("policy", "cedar-policy", false, None);
    check("store", "tokio", false, None);
    check("tokens", "testkit", true, None);
    check(
        "ledger",
        "gateway",
        false,
        Some("`ledger` uses `gateway`: the arrow goes the other way"),
    );
    check(
        "ledger",
        "store",
        true,
        Some("`ledger` uses `store`: the arrow goes the other way"),
    );
    check(
        "store",
        "register",
        false,
        Some("`store` uses `register`: the arrow goes the other way"),
    );
    check(
        "server",
        "testkit",
        false,
        Some("`server` uses `testkit`: the arrow goes the other way"),
    );
    check(
        "gateway",
        "cedar-policy",
        false,
        Some("`gateway` uses `cedar-policy`, which is not for it to know"),
    );
    check("gateway", "cedar-policy", true, None);
    check(
        "register",
        "rustix",
        false,
        Some("`register` uses `rustix`, but does no IO"),
    );
    check(
        "helpers",
        "vocab",
        false,
        Some("crate `helpers` has no place in the table of arrows"),
    );
}

#[test]
fn members_are_listed_in_order_with_a_word() {
    let check = |manifest: &str, expected: &[&str]| {
        assert_eq!(order(&Value::Null, manifest), expected);
    };
    let unknown =
        |name: &str| format!("Cargo.toml: the folder of `{name}` has another name than its crate");
    check("members = [\n]\n", &[]);
    check(
        "members = [\n    \"crates/vocab\", # nouns\n]\n",
        &[&unknown("vocab")],
    );
    check(
        "members = [\n    \"crates/store\",\n    \"crates/vocab\", # nouns\n]\n",
        &[
            "Cargo.toml: the members are not in the order of the arrow",
            "Cargo.toml: member `crates/store` has no word about it",
            &unknown("store"),
            &unknown("vocab"),
        ],
    );
}
