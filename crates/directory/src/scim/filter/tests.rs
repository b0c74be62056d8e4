use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::scim::schema::{ENTERPRISE, USERS};

fn maya() -> Value {
    json!({
        "id": "s-1", "userName": "Maya@acme.example", "externalId": "00uA", "active": true,
        "displayName": "Maya Ó Briain", "title": "",
        "name": {"givenName": "Maya", "familyName": "Ó Briain"},
        "emails": [
            {"value": "maya@acme.example", "type": "work", "primary": true},
            {"value": "maya@home.example", "type": "home"},
        ],
        "meta": {"lastModified": "2026-11-21T10:00:00Z"},
        (ENTERPRISE): {"department": "Finance", "manager": {"value": "s-2"}},
    })
}

/// Cases: the filter, and whether Maya matches.
fn check(cases: &[(&str, bool)]) {
    for (text, expected) in cases {
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(filter.matches(&USERS, &maya()), *expected, "{text}");
    }
}

#[test]
fn every_operator_compares() {
    check(&[
        (r#"userName eq "maya@acme.example""#, true),
        (r#"userName ne "maya@acme.example""#, false),
        (r#"userName co "ACME""#, true),
        (r#"userName sw "maya@""#, true),
        (r#"userName ew ".example""#, true),
        (r#"userName sw "acme""#, false),
        (r#"displayName gt "maya""#, true),
        (r#"displayName lt "maya""#, false),
        (r#"displayName ge "Maya Ó Briain""#, true),
        (r#"displayName le "Maya Ó Briain""#, true),
        (r#"meta.lastModified gt "2026-11-21T09:59:59Z""#, true),
        (r#"meta.lastModified lt "2026-11-21T09:59:59Z""#, false),
        ("active eq true", true),
        ("active eq false", false),
        ("active ne false", true),
        ("displayName pr", true),
        ("title pr", false),
        ("userType pr", false),
        ("userType eq null", true),
        ("displayName eq null", false),
        ("displayName ne null", true),
        (r#"userType ne "Contractor""#, true),
        (r#"active eq "True""#, true),
    ]);
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
//= type=test
//# Filters MUST be evaluated using the following order of operations, in order of precedence:
#[test]
fn operators_bind_as_the_rfc_says() {
    check(&[
        (r"active eq false or userName pr and title pr", false),
        (r"(active eq true or userName pr) and title pr", false),
        (r"active eq true or userName pr and title pr", true),
        (r"not (title pr)", true),
        (r"not (title pr) and active eq true", true),
        (r"not(active eq true)", false),
        (r"not (not (active eq true))", true),
        (r"not (title pr or userType pr) and (active eq true)", true),
    ]);
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
//= type=test
//# For complex attributes, a fully qualified sub-attribute MUST be specified using standard
//# attribute notation (Section 3.10).
#[test]
fn names_and_operators_are_read_in_any_case() {
    check(&[
        (r#"USERNAME EQ "MAYA@ACME.EXAMPLE""#, true),
        (r"Active Eq True AND UserName Pr", true),
        (r"NOT (TITLE PR)", true),
        (r#"Name.GivenName eq "maya""#, true),
    ]);
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
//= type=test
//# When comparing attributes of type String, the case sensitivity for String type attributes SHALL
//# be determined by the attribute's "caseExact" characteristic (see Section 2.2 of [RFC7643]).
//= https://www.rfc-editor.org/rfc/rfc7643#section-7
//= type=test
//# The server SHALL use case sensitivity when evaluating filters.
//= https://www.rfc-editor.org/rfc/rfc7644#section-7.8
//= type=test
//# strings MUST be appropriately prepared before comparison.
#[test]
fn what_is_exact_is_compared_exactly() {
    check(&[
        (r#"externalId eq "00uA""#, true),
        (r#"externalId eq "00ua""#, false),
        (r#"id eq "S-1""#, false),
        // Of one letter, and of a letter and its accent.
        ("displayName eq \"maya \u{d3} briain\"", true),
        ("displayName eq \"maya O\u{301} briain\"", true),
        ("displayName eq \"maya O briain\"", false),
    ]);
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
//= type=test
//# expressions MUST be applied to the same value of a parent attribute specified immediately before
//# the left square bracket ("[").
//= https://www.rfc-editor.org/rfc/rfc7643#section-2.4
//= type=test
//# If not specified, the value of "primary" SHALL be assumed to be "false".
#[test]
fn complex_values_match_as_one() {
    check(&[
        (r#"emails[type eq "work"]"#, true),
        (r#"emails[type eq "work" and value co "@home"]"#, false),
        (r#"emails.type eq "work" and emails.value co "@home""#, true),
        (r#"emails[type eq "home" and not (primary eq true)]"#, true),
        (r"emails[primary eq true] and active eq true", true),
        (r#"emails co "home.example""#, true),
        (r"emails pr", true),
        (r"groups pr", false),
    ]);
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
//= type=test
//# For all operations, the value of the "schemas" attribute on the SCIM service provider's
//# representation of the resource SHALL be assumed by default.
#[test]
fn schemas_can_be_named() {
    check(&[
        (
            r#"urn:ietf:params:scim:schemas:core:2.0:User:userName sw "maya""#,
            true,
        ),
        (
            r"URN:IETF:params:scim:schemas:core:2.0:user:name.familyName pr",
            true,
        ),
        (&format!(r#"{ENTERPRISE}:department eq "finance""#), true),
        (&format!(r#"{ENTERPRISE}:manager.value eq "s-2""#), true),
        (&format!(r#"{ENTERPRISE}:manager eq "s-2""#), true),
        (r#"department eq "finance""#, true),
        (r#"externalId eq "00uA""#, true),
        (r"urn:example:other:userName pr", false),
    ]);
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.1
//= type=test
//# For filtered attributes that are not part of a particular resource type, the service provider
//# SHALL treat the attribute as if there is no attribute value.
#[test]
fn what_nobody_has_is_without_a_value() {
    check(&[
        (r#"shoeSize eq "41""#, false),
        ("shoeSize pr", false),
        ("not (shoeSize pr)", true),
        (r#"emails[colour eq "red"]"#, false),
    ]);
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
//= type=test
//# Each expression MUST contain an attribute name followed by an attribute operator and optional
//# value.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
//= type=test
//# The expression within square brackets ("[" and "]") MUST be a valid filter expression based upon
//# sub-attributes of the parent attribute.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
//= type=test
//# Grouping Operators SCIM filters MUST conform to the following ABNF [RFC5234] rules as specified
//# below:
//= https://www.rfc-editor.org/rfc/rfc7643#section-2.1
//= type=test
//# Attribute names MUST conform to the following ABNF rules:
#[test]
fn what_is_no_filter_is_refused() {
    for bad in [
        "",
        "   ",
        "userName",
        "userName eq",
        "userName eq maya",
        "userName eq 'maya'",
        r#"userName == "maya""#,
        r#"userName eq "maya"#,
        r#"userName eq "maya"x"#,
        r#"userName eq "maya" and"#,
        r#"userName eq "maya" or or title pr"#,
        r#"(userName eq "maya""#,
        r#"userName eq "maya")"#,
        r#"not userName eq "maya""#,
        r#"emails[type eq "work""#,
        r"emails[]",
        r"emails[type[value pr]]",
        r"user:name pr",
        r"1name pr",
        r"user*name pr",
        r".name pr",
        r"name. pr",
        r"a.b.c pr",
        r#"userName eq {"a":1}"#,
        r"userName eq [1]",
        "userName\teq \"maya\"",
    ] {
        assert!(Filter::parse(bad).is_err(), "{bad}");
    }
    for bad in [
        "active gt true",
        "active co false",
        "title lt null",
        "title sw 1",
    ] {
        assert!(
            matches!(Filter::parse(bad), Err(FilterError::Operand { .. })),
            "{bad}"
        );
    }
}

#[test]
fn an_error_says_where() {
    let error = Filter::parse(r#"userName eq "a" und title pr"#).unwrap_err();
    assert_eq!(error.to_string(), "at character 17, the end is expected");
}

#[test]
fn bombs_are_refused() {
    let deep = |depth: usize| format!("{}title pr{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Filter::parse(&deep(SCIM_FILTER_DEPTH_MAX)).is_ok());
    assert_eq!(
        Filter::parse(&deep(SCIM_FILTER_DEPTH_MAX + 1)),
        Err(FilterError::TooDeep)
    );
    let nots = format!("{}title pr{}", "not (".repeat(600), ")".repeat(600));
    assert_eq!(Filter::parse(&nots), Err(FilterError::TooDeep));
    let long = |terms: usize| vec!["title pr"; terms].join(" or ");
    assert!(Filter::parse(&long(SCIM_FILTER_TERMS_MAX)).is_ok());
    assert_eq!(
        Filter::parse(&long(SCIM_FILTER_TERMS_MAX + 1)),
        Err(FilterError::TooMany)
    );
    let text = |bytes: usize| format!("title eq \"{}\"", "x".repeat(bytes - 11));
    assert!(Filter::parse(&text(SCIM_FILTER_BYTES_MAX)).is_ok());
    assert_eq!(
        Filter::parse(&text(SCIM_FILTER_BYTES_MAX + 1)),
        Err(FilterError::TooLong)
    );
}

#[test]
fn paths_name_attributes_values_and_parts() {
    let path = |text: &str| PatchPath::parse(text).unwrap();
    assert_eq!(path("active").attr.name, "active");
    assert_eq!(
        path("name.familyName").attr.sub.as_deref(),
        Some("familyName")
    );
    let work = path(r#"emails[type eq "work"].value"#);
    assert_eq!(work.attr.sub.as_deref(), Some("value"));
    assert!(work.filter.is_some());
    assert!(path(r#"members[value eq "s-1"]"#).filter.is_some());
    let whole = path(ENTERPRISE).attr.resolve(&USERS).unwrap();
    assert_eq!((whole.extension, whole.attribute), (Some(ENTERPRISE), None));
    let manager = path(&format!("{ENTERPRISE}:manager"))
        .attr
        .resolve(&USERS)
        .unwrap();
    assert_eq!(manager.attribute.unwrap().name, "manager");
    for bad in [
        "",
        "a b",
        "emails[",
        r#"emails[type eq "work"].a.b"#,
        "emails[type]",
        "a..b",
    ] {
        assert!(PatchPath::parse(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in r#"[a-z().\[\]:" =0-9\\$é-]{0,120}"#) {
        let _read = Filter::parse(&text);
        let _read = PatchPath::parse(&text);
    }

    #[test]
    fn no_filter_like_text_panics(words in proptest::collection::vec(
        prop_oneof![
            Just("userName"), Just("emails["), Just("]"), Just("("), Just(")"), Just("not"),
            Just("and"), Just("or"), Just("eq"), Just("pr"), Just("\"x\""), Just("true"),
            Just("1.5"), Just("urn:a:b"), Just(".value"),
        ], 0..40)) {
        if let Ok(filter) = Filter::parse(&words.join(" ")) {
            filter.matches(&USERS, &maya());
        }
    }
}
