//! What a directory says when somebody leaves or is linked, in all its shapes.

use serde_json::Value;

use super::*;

#[test]
fn renamed_leavers_are_stopped_whatever_else_is_refused() {
    let long = "x".repeat(5000);
    let patch = |more: Value| {
        let leaves = json!({"op": "Replace", "path": "active", "value": "False"});
        json!({"schemas": [PATCH], "Operations": [more, leaves]})
    };
    let put = |more: &str, value: Value| {
        json!({"schemas": [USER], "userName": "maya", "externalId": "00u-maya",
            (USER): {"active": false}, more: value})
    };
    let replace =
        |path: &str, value: Value| patch(json!({"op": "replace", "path": path, "value": value}));
    for (method, body) in [
        ("PATCH", replace("userName", json!("ben"))),
        ("PATCH", replace("userName", json!("not a name"))),
        ("PATCH", replace("externalId", json!("00u-ben"))),
        ("PATCH", replace("displayName", json!(long))),
        ("PATCH", replace("groups", json!([]))),
        (
            "PATCH",
            replace(&format!("{ENTERPRISE}:manager"), json!(["a", "b"])),
        ),
        ("PATCH", patch(json!({"op": "remove"}))),
        ("PATCH", patch(json!({"op": "turn"}))),
        ("PATCH", patch(json!("x"))),
        ("PUT", put("userName", json!("ben"))),
        ("PUT", put("displayName", json!(long))),
        ("PUT", put("schemas", json!([]))),
    ] {
        let served = Served::new();
        let id = served.user("maya");
        served.user("ben");
        let path = format!("/Users/{id}");
        served.cuts.take();
        let (status, told) = served.ask(method, &path, &body);
        assert!((400..500).contains(&status), "{body}: {status} {told}");
        assert_eq!(served.status(&id), Status::Suspended, "{body}");
        assert_eq!(served.cuts.take(), ["sponsor-suspended"]);
        // It stays so when the directory says nothing of it.
        let silent = json!({"schemas": [USER], "userName": "maya", "externalId": "00u-maya"});
        assert_eq!(served.good("PUT", &path, &silent)["active"], false);
        assert_eq!(served.status(&id), Status::Suspended);
    }
    // What says nothing of it, or takes it back, stops nobody.
    let served = Served::new();
    let id = served.user("maya");
    for body in [
        json!({"schemas": [PATCH], "Operations": [
            {"op": "replace", "path": "userName", "value": "not a name"}]}),
        json!({"schemas": [PATCH], "Operations": [
            {"op": "replace", "path": "active", "value": false},
            {"op": "replace", "path": "userName", "value": "not a name"},
            {"op": "replace", "path": "active", "value": true}]}),
        json!({"schemas": [PATCH], "Operations": [
            {"op": "remove", "path": "active", "value": false}, {"op": "turn"}]}),
    ] {
        assert_eq!(served.ask("PATCH", &format!("/Users/{id}"), &body).0, 400);
        assert_eq!(served.status(&id), Status::Active, "{body}");
    }
}

#[test]
fn attributes_under_the_urn_of_their_own_schema_are_read() {
    let served = Served::new();
    let leaves = json!({(USER): {"active": false, "title": "Gone"}});
    for (method, body) in [
        (
            "PATCH",
            json!({"schemas": [PATCH], "Operations": [{"op": "replace", "value": leaves}]}),
        ),
        (
            "PATCH",
            json!({"schemas": [PATCH], "Operations": [
                {"op": "replace", "path": USER, "value": leaves[USER]}]}),
        ),
        (
            "PUT",
            json!({"schemas": [USER], "userName": "maya", "externalId": "00u-maya",
                (USER): leaves[USER]}),
        ),
    ] {
        let served = Served::new();
        let id = served.user("maya");
        let after = served.good(method, &format!("/Users/{id}"), &body);
        assert_eq!(
            (&after["active"], &after["title"]),
            (&json!(false), &json!("Gone")),
            "{body}"
        );
        assert_eq!(served.status(&id), Status::Suspended);
    }
    let new = json!({"schemas": [USER], (USER): {"userName": "noor", "active": "False"}});
    assert_eq!(served.good("POST", "/Users", &new)["active"], false);
}

#[test]
fn the_first_that_is_said_of_a_role_stops_no_agent() {
    let served = Served::new();
    let handle = served.sponsor("maya");
    served.agent("triage", "maya");
    let person = served.control.view(|state| {
        let person = state.sponsor(&handle).unwrap().person().unwrap();
        register::Person {
            external_id: Some("00u1".parse().unwrap()),
            ..person.clone()
        }
    });
    served.execute(Command::ChangeSponsor {
        sponsor: handle.clone(),
        person: Box::new(person),
        changes: vec!["linked".parse().unwrap()],
        signal: Signal {
            source: "cli".parse().unwrap(),
            event: "linked".parse().unwrap(),
            received_at: served.clock.now(),
            happened_at: None,
            id: None,
        },
    });
    served.cuts.take();
    let email = |served: &Served| {
        served.control.view(|state| {
            let person = state.sponsor(&handle).unwrap().person().unwrap();
            person.email.as_ref().map(|it| it.as_str().to_owned())
        })
    };
    let before = email(&served);
    let sync = |title: &str| {
        json!({"schemas": [USER, ENTERPRISE], "userName": "maya@other.example",
            "externalId": "00u1", "title": title, "userType": "Employee",
            (ENTERPRISE): {"department": "Buying", "manager": {"value": "s-1"}}})
    };
    let path = format!("/Users/{handle}");
    served.good("PUT", &path, &sync("Buyer"));
    assert!(served.cuts.take().is_empty());
    // No address is made of a user name, and none goes that an administrator gave.
    assert_eq!(email(&served), before);
    served.good("PUT", &path, &sync("Head of Buying"));
    assert_eq!(served.cuts.take(), ["agent-lapsed"]);
    assert_eq!(email(&served), before);
}
