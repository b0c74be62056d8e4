#![expect(
    clippy::needless_pass_by_value,
    reason = "the cases are data, and read better without borrows"
)]

use serde_json::json;

use super::*;
use crate::scim::schema::{ENTERPRISE, GROUP, GROUPS, USER, USERS};

fn user(mut body: Value) -> Attributes {
    let members = body.as_object_mut().unwrap();
    members.insert("schemas".to_owned(), json!([USER]));
    members.entry("userName").or_insert("maya".into());
    members.entry("active").or_insert(true.into());
    resource::read(&USERS, members).unwrap()
}

fn group(members: &[&str]) -> Attributes {
    let members: Vec<Value> = members.iter().map(|id| json!({"value": id})).collect();
    let body = json!({"schemas": [GROUP], "displayName": "Finance", "members": members});
    resource::read(&GROUPS, body.as_object().unwrap()).unwrap()
}

fn patched(
    of: &'static ResourceType,
    before: &Attributes,
    operations: &Value,
) -> Result<Value, ScimError> {
    let body = json!({"schemas": [PATCH_OP], "Operations": operations});
    let operations = read(body.to_string().as_bytes())?;
    let mut attributes = before.clone();
    apply(of, &mut attributes, &operations)?;
    Ok(Value::Object(attributes.to_json()))
}

/// One operation on a user, and what the attributes are then, beside the name.
fn check(before: Value, operation: Value, mut expected: Value) {
    let members = expected.as_object_mut().unwrap();
    members.entry("userName").or_insert("maya".into());
    members.entry("active").or_insert(true.into());
    let after = patched(&USERS, &user(before), &json!([operation]));
    let after = after.unwrap_or_else(|error| panic!("{operation}: {error}"));
    assert_eq!(after, expected, "{operation}");
}

fn refused(before: Value, operation: Value, scim_type: &str) {
    let error = patched(&USERS, &user(before), &json!([operation])).unwrap_err();
    assert_eq!(error.scim_type(), Some(scim_type), "{operation}: {error}");
}

#[test]
fn okta_deactivates_without_a_path() {
    check(
        json!({"active": true}),
        json!({"op": "replace", "value": {"active": false}}),
        json!({"active": false}),
    );
    // And sends what is not its to change among the rest.
    check(
        json!({"active": true}),
        json!({"op": "replace", "value": {"id": "s-1", "schemas": [USER], "active": false,
               "meta": {"resourceType": "User"}, "displayName": "Maya"}}),
        json!({"active": false, "displayName": "Maya"}),
    );
}

#[test]
fn entra_capitalises_and_writes_booleans_as_text() {
    for (op, off) in [("Replace", "False"), ("replace", "false"), ("Add", "FALSE")] {
        check(
            json!({"active": true}),
            json!({"op": op, "path": "active", "value": off}),
            json!({"active": false}),
        );
    }
    check(
        json!({"active": false}),
        json!({"op": "Replace", "path": "active", "value": "True"}),
        json!({"active": true}),
    );
    refused(
        json!({}),
        json!({"op": "Replace", "path": "active", "value": "no"}),
        "invalidValue",
    );
}

#[test]
fn entra_writes_parts_of_the_value_of_a_type() {
    let work = |value: &str| json!({"emails": [{"type": "work", "value": value}]});
    let path = r#"emails[type eq "work"].value"#;
    check(
        work("a@acme.example"),
        json!({"op": "Replace", "path": path, "value": "b@acme.example"}),
        work("b@acme.example"),
    );
    check(
        json!({}),
        json!({"op": "Add", "path": path, "value": "b@acme.example"}),
        work("b@acme.example"),
    );
    // A leaver is not missed because an address is not there that Entra thinks is.
    let operations = json!([
        {"op": "Replace", "path": path, "value": "b@acme.example"},
        {"op": "Replace", "path": "active", "value": "False"},
    ]);
    let after = patched(&USERS, &user(json!({"active": true})), &operations).unwrap();
    assert_eq!(after.get("active"), Some(&json!(false)));
    check(
        json!({"emails": [{"type": "work", "value": "a@b"}, {"type": "home", "value": "c@d"}]}),
        json!({"op": "Remove", "path": r#"emails[type eq "home"]"#}),
        json!({"emails": [{"type": "work", "value": "a@b"}]}),
    );
}

#[test]
fn entra_writes_the_manager_by_id_object_or_list() {
    let expected = json!({ENTERPRISE: {"manager": {"value": "s-2"}}});
    let path = format!("{ENTERPRISE}:manager");
    for value in [
        json!("s-2"),
        json!({"value": "s-2"}),
        json!([{"$ref": "https://x/Users/s-2", "value": "s-2"}]),
        json!({"value": "s-2", "displayName": "Ben"}),
    ] {
        check(
            json!({}),
            json!({"op": "Add", "path": path, "value": value}),
            expected.clone(),
        );
    }
    check(
        json!({}),
        json!({"op": "Replace", "path": format!("{ENTERPRISE}:manager.value"), "value": "s-2"}),
        expected.clone(),
    );
    check(
        expected.clone(),
        json!({"op": "Remove", "path": path}),
        json!({}),
    );
    check(
        expected,
        json!({"op": "Replace", "path": path, "value": ""}),
        json!({}),
    );
}

#[test]
fn without_a_path_members_are_paths() {
    check(
        json!({}),
        json!({"op": "Add", "value": {
            "name.givenName": "Maya",
            "name.familyName": "Li",
            (format!("{ENTERPRISE}:department")): "Finance",
            "phoneNumbers[type eq \"work\"].value": "1",
        }}),
        json!({"name": {"givenName": "Maya", "familyName": "Li"},
               ENTERPRISE: {"department": "Finance"}}),
    );
    check(
        json!({}),
        json!({"op": "replace", "value": {ENTERPRISE: {"department": "Finance", "costCenter": "1"}}}),
        json!({ENTERPRISE: {"department": "Finance"}}),
    );
}

#[test]
fn what_is_not_in_the_table_is_ignored() {
    for path in [
        "nickName",
        "addresses[type eq \"work\"].formatted",
        "urn:ietf:params:scim:schemas:extension:example:2.0:User:badge",
        "emails[type eq \"work\"].display",
        "roles",
    ] {
        check(
            json!({"title": "Buyer"}),
            json!({"op": "Add", "path": path, "value": "x"}),
            json!({"title": "Buyer"}),
        );
    }
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.3
//= type=test
//# If the target location specifies a complex attribute, a set of sub-attributes SHALL be specified
//# in the "value" parameter, which replaces any existing values or adds where an attribute did not
//# previously exist.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.2
//= type=test
//# Sub-attributes whose values have been removed SHALL be considered unassigned.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.2
//= type=test
//# If the target location is a single-value attribute, the attribute and its associated value is
//# removed, and the attribute SHALL be considered unassigned.
#[test]
fn parts_of_a_complex_value_stay_as_they_were() {
    check(
        json!({"name": {"givenName": "Maya", "familyName": "Li"}}),
        json!({"op": "replace", "path": "name", "value": {"familyName": "Lim"}}),
        json!({"name": {"givenName": "Maya", "familyName": "Lim"}}),
    );
    check(
        json!({"name": {"givenName": "Maya"}}),
        json!({"op": "remove", "path": "name.givenName"}),
        json!({}),
    );
    check(
        json!({"title": "Buyer", "name": {"givenName": "Maya"}}),
        json!({"op": "remove", "path": "title"}),
        json!({"name": {"givenName": "Maya"}}),
    );
    check(
        json!({"name": {"givenName": "Maya"}, "title": "Buyer"}),
        json!({"op": "replace", "value": {"name": null, "title": null}}),
        json!({}),
    );
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
//= type=test
//# a PATCH operation that sets a value's "primary" sub-attribute to "true" SHALL cause the server
//# to automatically set "primary" to "false" for any other values in the array.
//= https://www.rfc-editor.org/rfc/rfc7643#section-2.4
//= type=test
//# The primary attribute value "true" MUST appear no more than once.
#[test]
fn one_address_is_primary() {
    check(
        json!({"emails": [{"value": "a@b", "primary": true}]}),
        json!({"op": "add", "path": "emails", "value": [{"value": "c@d", "primary": true}]}),
        json!({"emails": [{"value": "a@b", "primary": false}, {"value": "c@d", "primary": true}]}),
    );
    check(
        json!({"emails": [{"value": "a@b", "primary": true}, {"value": "c@d"}]}),
        json!({"op": "replace", "path": "emails[value eq \"c@d\"].primary", "value": true}),
        json!({"emails": [{"value": "a@b", "primary": false}, {"value": "c@d", "primary": true}]}),
    );
    refused(
        json!({}),
        json!({"op": "replace", "path": "emails",
               "value": [{"value": "a@b", "primary": true}, {"value": "c@d", "primary": "True"}]}),
        "invalidValue",
    );
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.2
//= type=test
//# If the target location is a multi-valued attribute and no filter is specified, the attribute and
//# all values are removed, and the attribute SHALL be considered unassigned.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.2
//= type=test
//# If no other values remain after removal of the selected values, the multi-valued attribute SHALL
//# be considered unassigned.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.2
//= type=test
//# If the complex multi-valued attribute has no remaining records, the attribute SHALL be
//# considered unassigned.
#[test]
fn members_come_and_go_in_every_shape() {
    let check = |before: &[&str], operation: Value, expected: &[&str]| {
        let after = patched(&GROUPS, &group(before), &json!([operation])).unwrap();
        assert_ne!(after.get("members"), Some(&json!([])), "{operation}");
        let members = after.get("members").and_then(Value::as_array);
        let members: Vec<&str> = members
            .into_iter()
            .flatten()
            .map(|it| it["value"].as_str().unwrap())
            .collect();
        assert_eq!(members, expected, "{operation}");
    };
    let add = |value: Value| json!({"op": "Add", "path": "members", "value": value});
    check(&["a"], add(json!([{"value": "b"}])), &["a", "b"]);
    check(
        &["a"],
        add(json!([{"value": "a"}, {"value": "b", "display": "Ben"}])),
        &["a", "b"],
    );
    check(&["a"], add(json!({"value": "b"})), &["a", "b"]);
    check(&["a"], add(json!("b")), &["a", "b"]);
    check(&[], add(json!([{"$ref": "x", "value": "b"}])), &["b"]);
    let remove = |path: &str| json!({"op": "Remove", "path": path});
    check(&["a", "b"], remove(r#"members[value eq "a"]"#), &["b"]);
    check(&["a", "b"], remove(r#"members[value eq "z"]"#), &["a", "b"]);
    check(
        &["a", "b"],
        remove(r#"members[value eq "a" or value eq "b"]"#),
        &[],
    );
    check(&["a", "b"], remove("members"), &[]);
    check(
        &["a", "b", "c"],
        json!({"op": "Remove", "path": "members", "value": [{"value": "a"}, {"value": "c"}]}),
        &["b"],
    );
    check(
        &["a", "b"],
        json!({"op": "replace", "path": "members", "value": [{"value": "c"}]}),
        &["c"],
    );
    check(
        &["a"],
        json!({"op": "replace", "value": {"displayName": "F", "members": [{"value": "c"}]}}),
        &["c"],
    );
    check(
        &["a"],
        json!({"op": "replace", "path": "members", "value": []}),
        &[],
    );
}

#[test]
fn okta_renames_a_group_with_its_id() {
    let operation = json!([{"op": "replace", "value": {"id": "g-1", "displayName": "Money"}}]);
    let after = patched(&GROUPS, &group(&["a"]), &operation).unwrap();
    assert_eq!(after["displayName"], "Money");
    assert_eq!(after["members"], json!([{"value": "a"}]));
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
//= type=test
//# The body of each request MUST contain the "schemas" attribute with the URI value of
//# "urn:ietf:params:scim:api:messages:2.0:PatchOp".
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
//= type=test
//# The body of an HTTP PATCH request MUST contain the attribute "Operations", whose value is an
//# array of one or more PATCH operations.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
//= type=test
//# Each PATCH operation object MUST have exactly one "op" member, whose value indicates the
//# operation to perform and MAY be one of "add", "remove", or "replace".
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
//= type=test
//# The "path" attribute is OPTIONAL for "add" and "replace" and is REQUIRED for "remove"
//# operations.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
//= type=test
//# Each operation against an attribute MUST be compatible with the attribute's mutability and
//# schema as defined in Sections 2.2 and 2.3 of [RFC7643].
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
//= type=test
//# An operation that is not compatible with an attribute's mutability or schema SHALL return the
//# appropriate HTTP response status code and a JSON detail error response as defined in Section
//# 3.12.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.1
//= type=test
//# The operation MUST contain a "value" member whose content specifies the value to be added.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.1
//= type=test
//# If the target location specifies a complex attribute, a set of sub-attributes SHALL be specified
//# in the "value" parameter.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.2
//= type=test
//# If an attribute is removed or becomes unassigned and is defined as a required attribute or a
//# read-only attribute, the server SHALL return an HTTP response status code and a JSON detail
//# error response as defined in Section 3.12, with a "scimType" error code of "mutability".
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.3
//= type=test
//# In this case, the "value" attribute SHALL contain a list of one or more attributes that are to
//# be replaced.
//= https://www.rfc-editor.org/rfc/rfc7643#section-4.1.2
//= type=test
//# Since this attribute has a mutability of "readOnly", group membership changes MUST be applied
//# via the "Group" Resource (Section 4.2).
//= https://www.rfc-editor.org/rfc/rfc7643#section-7
//= type=test
//# readOnly The attribute SHALL NOT be modified.
#[test]
fn what_cannot_be_is_refused_by_the_book() {
    refused(json!({}), json!({"op": "remove"}), "noTarget");
    refused(
        json!({}),
        json!({"op": "remove", "path": "userName"}),
        "mutability",
    );
    refused(
        json!({}),
        json!({"op": "replace", "path": "userName", "value": ""}),
        "mutability",
    );
    refused(
        json!({}),
        json!({"op": "replace", "path": "id", "value": "x"}),
        "mutability",
    );
    refused(
        json!({}),
        json!({"op": "add", "path": "groups", "value": []}),
        "mutability",
    );
    refused(
        json!({}),
        json!({"op": "move", "path": "title"}),
        "invalidSyntax",
    );
    refused(
        json!({}),
        json!({"op": "add", "path": "title"}),
        "invalidSyntax",
    );
    refused(
        json!({}),
        json!({"op": "add", "value": "x"}),
        "invalidSyntax",
    );
    refused(
        json!({}),
        json!({"op": "add", "path": 1, "value": "x"}),
        "invalidSyntax",
    );
    refused(json!({}), json!("add"), "invalidSyntax");
    refused(
        json!({}),
        json!({"path": "title", "value": "x"}),
        "invalidSyntax",
    );
    refused(
        json!({}),
        json!({"op": "replace", "value": "x"}),
        "invalidSyntax",
    );
    refused(
        json!({}),
        json!({"op": "add", "path": "name", "value": "Maya"}),
        "invalidValue",
    );
    refused(
        json!({}),
        json!({"op": "add", "path": "a[", "value": "x"}),
        "invalidPath",
    );
    refused(
        json!({}),
        json!({"op": "add", "path": "title", "value": {"a": 1}}),
        "invalidValue",
    );
    refused(
        json!({}),
        json!({"op": "add", "path": "title", "value": ["a", "b"]}),
        "invalidValue",
    );
    refused(
        json!({}),
        json!({"op": "replace", "path": r#"emails[type ne "work"].value"#, "value": "a@b"}),
        "noTarget",
    );
    refused(
        json!({}),
        json!({"op": "add", "path": "title", "value": "x".repeat(1025)}),
        "invalidValue",
    );
    refused(
        json!({}),
        json!({"op": "add", "path": "title", "value": "a\nb"}),
        "invalidValue",
    );
    let body = json!({"Operations": [{"op": "remove", "path": "title"}]});
    let error = read(body.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.scim_type(), Some("invalidSyntax"));
    let most = vec![json!({"op": "remove", "path": "title"}); SCIM_OPERATIONS_MAX];
    assert!(patched(&USERS, &user(json!({})), &json!(most)).is_ok());
    let more = vec![json!({"op": "remove", "path": "title"}); SCIM_OPERATIONS_MAX + 1];
    let error = patched(&USERS, &user(json!({})), &json!(more)).unwrap_err();
    assert_eq!(error.scim_type(), Some("tooMany"));
    assert!(patched(&USERS, &user(json!({})), &json!([])).is_err());
    let addresses: Vec<Value> = (0..=SCIM_VALUES_MAX)
        .map(|i| json!({"value": format!("a{i}@b")}))
        .collect();
    let add = |addresses: &[Value]| json!({"op": "add", "path": "emails", "value": addresses});
    refused(json!({}), add(&addresses), "invalidValue");
    refused(
        json!({"emails": addresses.get(1..)}),
        add(&addresses[..1]),
        "invalidValue",
    );
}

#[test]
fn two_spellings_of_one_attribute_are_refused() {
    // Two readers could keep different ones.
    for body in [
        format!(
            r#"{{"schemas":["{PATCH_OP}"],"Operations":[{{"op":"replace","value":{{"active":false,"Active":true}}}}]}}"#
        ),
        format!(
            r#"{{"schemas":["{PATCH_OP}"],"Operations":[{{"op":"replace","op":"add","value":{{"active":false}}}}]}}"#
        ),
    ] {
        assert_eq!(
            read(body.as_bytes()).unwrap_err().scim_type(),
            Some("invalidSyntax")
        );
    }
}

#[test]
fn a_repeated_request_changes_nothing_more() {
    let operations = json!([
        {"op": "Add", "path": "emails[type eq \"work\"].value", "value": "a@b"},
        {"op": "Replace", "path": "active", "value": "False"},
        {"op": "Add", "path": format!("{ENTERPRISE}:manager"), "value": "s-2"},
        {"op": "add", "path": "emails", "value": [{"value": "c@d", "primary": true}]},
    ]);
    let once = patched(&USERS, &user(json!({})), &operations).unwrap();
    let mut again = once.clone();
    again.as_object_mut().unwrap().remove("userName");
    let twice = patched(&USERS, &user(again), &operations).unwrap();
    assert_eq!(once, twice);
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.3
//= type=test
//# If the target location path specifies an attribute that does not exist, the service provider
//# SHALL treat the operation as an "add".
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.3
//= type=test
//# If the target location is a multi-valued attribute and a value selection ("valuePath") filter is
//# specified that matches one or more values of the multi-valued attribute, then all matching
//# record values SHALL be replaced.
#[test]
fn all_that_matches_is_replaced_and_what_is_not_there_is_added() {
    let email = |kind: &str, value: &str| json!({"type": kind, "value": value});
    check(
        json!({"emails": [email("work", "a@b"), email("work", "c@d"), email("home", "e@f")]}),
        json!({"op": "replace", "path": "emails[type eq \"work\"].type", "value": "other"}),
        json!({"emails": [email("other", "a@b"), email("other", "c@d"), email("home", "e@f")]}),
    );
    check(
        json!({}),
        json!({"op": "replace", "path": "title", "value": "Buyer"}),
        json!({"title": "Buyer"}),
    );
    check(
        json!({}),
        json!({"op": "replace", "path": "emails", "value": [email("work", "a@b")]}),
        json!({"emails": [email("work", "a@b")]}),
    );
}

//= https://www.rfc-editor.org/rfc/rfc7643#section-7
//= type=test
//# The attribute SHALL NOT be updated.
#[test]
fn a_member_is_not_made_into_another() {
    let after = |operation: Value| patched(&GROUPS, &group(&["a", "b"]), &json!([operation]));
    let value = "members[value eq \"a\"].value";
    for operation in [
        json!({"op": "replace", "path": value, "value": "c"}),
        json!({"op": "add", "path": value, "value": "c"}),
        json!({"op": "remove", "path": value}),
        json!({"op": "add", "path": "members.value", "value": "c"}),
        json!({"op": "replace", "path": "members.value", "value": "a"}),
    ] {
        let error = after(operation.clone()).unwrap_err();
        assert_eq!(error.scim_type(), Some("mutability"), "{operation}");
    }
    let same = after(json!({"op": "replace", "path": value, "value": "a"})).unwrap();
    assert_eq!(same["members"], json!([{"value": "a"}, {"value": "b"}]));
}
