use std::ops::Deref;

use register::{Status, Word};
use serde_json::json;

use super::*;
use crate::bench::{Bench, wait};
use crate::reactions::Reaction;

mod leavers;
mod rfc;

const TOKEN: &str = "the-directory's-token";
const PATCH: &str = patch::PATCH_OP;
const USER: &str = super::super::schema::USER;
const GROUP: &str = super::super::schema::GROUP;
const ENTERPRISE: &str = super::super::schema::ENTERPRISE;

/// A service on a register of its own.
struct Served {
    bench: Bench,
    scim: Scim,
}

impl Deref for Served {
    type Target = Bench;

    fn deref(&self) -> &Bench {
        &self.bench
    }
}

impl Served {
    fn new() -> Self {
        Self::with(Reactions::default())
    }

    fn with(reactions: Reactions) -> Self {
        let bench = Bench::new();
        bench.execute(Command::AddDirectoryToken {
            digest: Digest::of(TOKEN.as_bytes()),
        });
        let clock: Arc<dyn Clock> = bench.clock.clone();
        let scim = Scim::new(
            Arc::clone(&bench.control),
            clock,
            "https://gate.example/",
            reactions,
        );
        Self { bench, scim }
    }

    fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Bytes> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{PATH}{path}"))
            .header("authorization", format!("Bearer {TOKEN}"));
        if !body.is_empty() {
            request = request.header("content-type", SCIM_JSON);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::from(body.to_owned())).unwrap();
        match self.scim.admit(request.headers()) {
            Ok(admitted) => wait(self.scim.answer(admitted, request)),
            Err((_, refused)) => *refused,
        }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let response = self.raw(method, path, &[], &body);
        let json = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
        (response.status().as_u16(), json)
    }

    fn get(&self, path: &str) -> Value {
        let (status, json) = self.ask("GET", path, &Value::Null);
        assert_eq!(status, 200, "{path}: {json}");
        json
    }

    fn good(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, json) = self.ask(method, path, body);
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {json}"
        );
        json
    }

    fn refused(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        status: u16,
        scim_type: &str,
    ) -> Value {
        let (found, json) = self.ask(method, path, body);
        assert_eq!(found, status, "{method} {path}: {json}");
        assert_eq!(json["status"], status.to_string());
        assert_eq!(
            json["scimType"].as_str().unwrap_or_default(),
            scim_type,
            "{json}"
        );
        json
    }

    /// A user whom the directory added; their id.
    fn user(&self, name: &str) -> String {
        let body = json!({
            "schemas": [USER], "userName": name, "externalId": format!("00u-{name}"),
            "active": true,
        });
        let user = self.good("POST", "/Users", &body);
        user["id"].as_str().unwrap().to_owned()
    }

    fn patch(&self, path: &str, operations: &Value) -> Value {
        self.good(
            "PATCH",
            path,
            &json!({"schemas": [PATCH], "Operations": operations}),
        )
    }

    fn status(&self, id: &str) -> Status {
        let handle: Handle = id.parse().unwrap();
        self.control
            .view(|state| state.sponsor_view(state.sponsor(&handle).unwrap()).status)
    }
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2
//= type=test
//# A query that does not return any matches SHALL return success (HTTP status code 200) with
//# "totalResults" set to a value of 0.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5
//= type=test
//# Implementers MUST support HTTP PUT as specified in Section 4.3 of [RFC7231].
//= https://www.rfc-editor.org/rfc/rfc7643#section-3.3
//= type=test
//# the schema extension URI SHALL be used as a JSON container to distinguish attributes belonging
//# to the extension namespace from base schema attributes.
//= https://www.rfc-editor.org/rfc/rfc7643#section-2.5
//= type=test
//# Unassigned attributes, the null value, or an empty array (in the case of a multi-valued
//# attribute) SHALL be considered to be equivalent in "state".
#[test]
fn okta_provisions_changes_and_deactivates_a_person() {
    let served = Served::new();
    // Its first look.
    let list = served.get("/Users?startIndex=1&count=2");
    assert_eq!(
        list,
        json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
            "totalResults": 0, "startIndex": 1, "itemsPerPage": 0, "Resources": [],
        })
    );
    let query = "/Users?filter=userName%20eq%20%22maya%40acme.example%22&startIndex=1&count=100";
    assert_eq!(served.get(query)["totalResults"], 0);
    let body = json!({
        "schemas": [USER, ENTERPRISE],
        "userName": "maya@acme.example",
        "name": {"givenName": "Maya", "familyName": "Li"},
        "emails": [{"primary": true, "value": "maya@acme.example", "type": "work"}],
        "displayName": "Maya Li",
        "locale": "en-US",
        "externalId": "00ujl29u0le5T6Aj10h7",
        "groups": [],
        "password": "not kept",
        "active": true,
        ENTERPRISE: {"department": "Finance", "costCenter": "42"},
    });
    let response = served.raw("POST", "/Users", &[], &body.to_string());
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers()[CONTENT_TYPE], SCIM_JSON);
    let user: Value = serde_json::from_slice(response.body()).unwrap();
    let id = user["id"].as_str().unwrap();
    let location = format!("https://gate.example/scim/v2/Users/{id}");
    assert_eq!(response.headers()[LOCATION], location.as_str());
    assert_eq!(
        response.headers()[ETAG],
        user["meta"]["version"].as_str().unwrap()
    );
    let mut shown = user.clone();
    let members = shown.as_object_mut().unwrap();
    members.remove("id");
    members.remove("meta");
    assert_eq!(
        shown,
        json!({
            "schemas": [USER, ENTERPRISE],
            "userName": "maya@acme.example",
            "name": {"givenName": "Maya", "familyName": "Li"},
            "emails": [{"primary": true, "value": "maya@acme.example", "type": "work"}],
            "displayName": "Maya Li",
            "externalId": "00ujl29u0le5T6Aj10h7",
            "active": true,
            ENTERPRISE: {"department": "Finance"},
        })
    );
    assert_eq!(user["meta"]["resourceType"], "User");
    assert_eq!(user["meta"]["location"], location.as_str());
    assert_eq!(served.get(query)["Resources"][0]["id"], id);
    // An update of a wizard's app is a PUT of everything.
    let mut put = body;
    put["title"] = "Buyer".into();
    put["id"] = id.into();
    let user = served.good("PUT", &format!("/Users/{id}"), &put);
    assert_eq!(user["title"], "Buyer");
    // She leaves.
    let before = served.size();
    served.cuts.take();
    let user = served.patch(
        &format!("/Users/{id}"),
        &json!([{"op": "replace", "value": {"active": false}}]),
    );
    assert_eq!(user["active"], false);
    assert_eq!(served.cuts.take(), ["sponsor-suspended"]);
    assert_eq!(
        served.entries(before),
        [
            "sponsor-suspended scim:deactivated",
            "sponsor-changed scim:changed"
        ]
    );
    assert_eq!(served.status(id), Status::Suspended);
    // Who was deactivated is still there to be found.
    assert_eq!(served.get(query)["Resources"][0]["active"], false);
    assert_eq!(
        served.get("/Users?filter=active+eq+false")["totalResults"],
        1
    );
    // And comes back.
    let before = served.size();
    let user = served.patch(
        &format!("/Users/{id}"),
        &json!([{"op": "replace", "value": {"active": true}}]),
    );
    assert_eq!(user["active"], true);
    assert_eq!(
        served.entries(before),
        [
            "sponsor-changed scim:changed",
            "sponsor-resumed scim:reactivated"
        ]
    );
    assert_eq!(served.status(id), Status::Active);
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.6
//= type=test
//# MUST return a 404 (Not Found) error code for all operations associated with the previously
//# deleted resource.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.6
//= type=test
//# Service providers MUST omit the resource from future query results.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.6
//= type=test
//# In response to a successful DELETE, the server SHALL return a successful HTTP status code 204
//# (No Content).
#[test]
fn entra_provisions_changes_and_deletes_a_person() {
    let served = Served::new();
    // Its test of the connection.
    let probe = "/Users?filter=userName+eq+%22c4a5a0f2-58f5-4f0b-9a0d-5f1a2b3c4d5e%22";
    assert_eq!(served.get(probe)["totalResults"], 0);
    let boss = served.user("ben@acme.example");
    let user = served.good(
        "POST",
        "/Users",
        &json!({
            "schemas": [USER, ENTERPRISE],
            "externalId": "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef",
            "userName": "maya@acme.example",
            "active": true,
            "displayName": "Maya Li",
            "emails": [{"primary": true, "type": "work", "value": "maya@acme.example"}],
            "meta": {"resourceType": "User"},
            "name": {"formatted": "Maya Li", "familyName": "Li", "givenName": "Maya"},
            "roles": [],
        }),
    );
    let id = user["id"].as_str().unwrap();
    let by_external =
        "/Users?filter=externalId+eq+%220a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef%22+and+active+eq+true";
    assert_eq!(served.get(by_external)["Resources"][0]["id"], id);
    let path = format!("/Users/{id}");
    let user = served.patch(
        &path,
        &json!([
            {"op": "Replace", "path": "emails[type eq \"work\"].value", "value": "li@acme.example"},
            {"op": "Add", "path": format!("{ENTERPRISE}:manager"), "value": boss},
            {"op": "Replace", "path": "name.familyName", "value": "Lim"},
            {"op": "Add", "path": "phoneNumbers[type eq \"work\"].value", "value": "1"},
        ]),
    );
    assert_eq!(user["emails"][0]["value"], "li@acme.example");
    assert_eq!(user["name"]["familyName"], "Lim");
    let manager = &user[ENTERPRISE]["manager"];
    assert_eq!(
        manager,
        &json!({
            "value": boss,
            "$ref": format!("https://gate.example/scim/v2/Users/{boss}"),
        })
    );
    served.cuts.take();
    let user = served.patch(
        &path,
        &json!([{"op": "Replace", "path": "active", "value": "False"}]),
    );
    assert_eq!(user["active"], false);
    assert_eq!(served.cuts.take(), ["sponsor-suspended"]);
    // Thirty days later.
    let response = served.raw("DELETE", &path, &[], "");
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert!(response.body().is_empty());
    served.refused("GET", &path, &Value::Null, 404, "");
    served.refused("DELETE", &path, &Value::Null, 404, "");
    assert_eq!(served.get(by_external)["totalResults"], 0);
    assert_eq!(served.get("/Users")["totalResults"], 1);
    // She is kept, suspended, for what was done in her name.
    assert_eq!(served.status(id), Status::Suspended);
    assert_eq!(
        served
            .control
            .view(|state| state.sponsor_name(&id.parse().unwrap())),
        "maya@acme.example"
    );
}

#[test]
fn who_was_deleted_never_comes_back_by_their_name() {
    let served = Served::new();
    let id = served.user("maya");
    served.good("DELETE", &format!("/Users/{id}"), &Value::Null);
    let body = json!({"schemas": [USER], "userName": "Maya", "externalId": "00u-other"});
    let error = served.refused("POST", "/Users", &body, 409, "uniqueness");
    assert!(
        error["detail"].as_str().unwrap().contains("was deleted"),
        "{error}"
    );
    // The directory's own id is free again.
    let body = json!({"schemas": [USER], "userName": "maya2", "externalId": "00u-maya"});
    let other = served.good("POST", "/Users", &body);
    assert_ne!(other["id"], id.as_str());
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        let (status, _) = served.ask(method, &format!("/Users/{id}"), &body);
        assert_eq!(status, 404, "{method}");
    }
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.1
//= type=test
//# If the service provider has no existing values, the new value(s) SHALL be applied.
#[test]
fn entra_and_okta_fill_groups() {
    let served = Served::new();
    let (maya, ben) = (served.user("maya"), served.user("ben"));
    let group = served.good(
        "POST",
        "/Groups",
        &json!({"schemas": [GROUP], "externalId": "8aa1a0c0", "displayName": "Finance",
                "meta": {"resourceType": "Group"}}),
    );
    let path = format!("/Groups/{}", group["id"].as_str().unwrap());
    assert!(group.get("members").is_none());
    served.patch(
        &path,
        &json!([{"op": "Add", "path": "members", "value": [{"$ref": null, "value": maya}]}]),
    );
    let group = served.patch(
        &path,
        &json!([{"op": "add", "path": "members", "value": [{"value": ben, "display": "Ben"}]}]),
    );
    let mut members: Vec<&str> = group["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member["value"].as_str().unwrap())
        .collect();
    members.sort_unstable();
    let mut expected = [maya.as_str(), ben.as_str()];
    expected.sort_unstable();
    assert_eq!(members, expected);
    // Members show their groups, and lists of groups can leave members out.
    let user = served.get(&format!("/Users/{maya}"));
    assert_eq!(user["groups"][0]["display"], "Finance");
    let list = served.get("/Groups?excludedAttributes=members&filter=displayName+eq+%22finance%22");
    assert_eq!(list["totalResults"], 1);
    assert!(list["Resources"][0].get("members").is_none());
    let with = format!("/Groups?filter=members.value+eq+%22{maya}%22");
    assert_eq!(served.get(&with)["totalResults"], 1);
    served.patch(
        &path,
        &json!([{"op": "Remove", "path": format!("members[value eq \"{maya}\"]")}]),
    );
    assert_eq!(served.get(&with)["totalResults"], 0);
    let group = served.patch(
        &path,
        &json!([{"op": "replace", "value": {"id": group["id"], "displayName": "Money"}}]),
    );
    assert_eq!(group["displayName"], "Money");
    assert_eq!(group["members"][0]["value"], ben.as_str());
    let put = json!({"schemas": [GROUP], "displayName": "Money", "members": [{"value": maya}]});
    let group = served.good("PUT", &path, &put);
    assert_eq!(group["members"][0]["value"], maya.as_str());
    assert!(group.get("externalId").is_none());
    // Who is deleted is in no group any more.
    served.good("DELETE", &format!("/Users/{maya}"), &Value::Null);
    assert!(served.get(&path).get("members").is_none());
    served.good("DELETE", &path, &Value::Null);
    served.refused("GET", &path, &Value::Null, 404, "");
}

//= https://www.rfc-editor.org/rfc/rfc7643#section-4.2
//= type=test
//# displayName A human-readable name for the Group. REQUIRED.
#[test]
fn groups_that_cannot_be_are_refused() {
    let served = Served::new();
    let maya = served.user("maya");
    let group = |name: &str, member: &str| json!({"schemas": [GROUP], "displayName": name, "members": [{"value": member}]});
    served.refused(
        "POST",
        "/Groups",
        &group("A", "s-nobody"),
        400,
        "invalidValue",
    );
    served.refused(
        "POST",
        "/Groups",
        &group("A", "No Such"),
        400,
        "invalidValue",
    );
    served.refused(
        "POST",
        "/Groups",
        &json!({"schemas": [GROUP]}),
        400,
        "invalidValue",
    );
    served.good("POST", "/Groups", &group("A", &maya));
    served.refused("POST", "/Groups", &group("A", &maya), 409, "uniqueness");
    let other = served.good("POST", "/Groups", &group("B", &maya));
    let path = format!("/Groups/{}", other["id"].as_str().unwrap());
    served.refused("PUT", &path, &group("A", &maya), 409, "uniqueness");
    let add = json!({"schemas": [PATCH], "Operations": [
        {"op": "add", "path": "members", "value": [{"value": "s-nobody"}]}]});
    served.refused("PATCH", &path, &add, 400, "invalidValue");
    assert_eq!(served.get(&path), other);
}

#[test]
fn large_groups_are_written_in_parts() {
    let served = Served::new();
    let ids: Vec<String> = (0..3).map(|i| served.user(&format!("u{i}"))).collect();
    // As many as fit an entry, many times over, but only three of them different.
    let members: Vec<Value> = (0..GROUP_CHANGES_MAX * 2)
        .map(|i| json!({"value": ids[i % 3]}))
        .collect();
    let body = json!({"schemas": [GROUP], "displayName": "All", "members": members});
    let group = served.good("POST", "/Groups", &body);
    assert_eq!(group["members"].as_array().unwrap().len(), 3);
}

//= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
//= type=test
//# The value of the "externalId" attribute is always issued by the provisioning client and MUST NOT
//# be specified by the service provider.
#[test]
fn a_sponsor_added_by_hand_is_a_user_by_id() {
    let served = Served::new();
    let handle = served.sponsor("maya");
    let list = served.get("/Users?filter=userName+eq+%22maya%22");
    let user = &list["Resources"][0];
    assert_eq!(user["id"], handle.as_str());
    assert_eq!(user["userName"], "maya");
    assert_eq!(user["displayName"], "Somebody");
    assert_eq!(user["emails"][0]["value"], "maya@acme.example");
    assert_eq!(user["active"], true);
    assert!(user.get("externalId").is_none());
}

/// PRIOR-ART: whoever can name somebody in the directory must not become them here.
#[test]
fn a_name_or_an_address_alone_takes_nobody_over() {
    let served = Served::new();
    let handle = served.sponsor("maya");
    let path = format!("/Users/{handle}");
    let same = json!({
        "schemas": [USER], "userName": "maya", "externalId": "00u-evil",
        "emails": [{"value": "maya@acme.example", "primary": true}],
    });
    let error = served.refused("POST", "/Users", &same, 409, "uniqueness");
    assert!(
        error["detail"]
            .as_str()
            .unwrap()
            .contains("tipstaff sponsor link maya")
    );
    served.refused("PUT", &path, &same, 409, "uniqueness");
    let patch = |value: Value| json!({"schemas": [PATCH], "Operations": [{"op": "replace", "value": value}]});
    served.refused(
        "PATCH",
        &path,
        &patch(json!({"externalId": "00u-evil"})),
        409,
        "uniqueness",
    );
    served.refused(
        "PATCH",
        &path,
        &patch(json!({"displayName": "Eve"})),
        409,
        "uniqueness",
    );
    // The same address under another name is somebody else.
    let other = json!({
        "schemas": [USER], "userName": "eve", "emails": [{"value": "maya@acme.example"}],
    });
    let other = served.good("POST", "/Users", &other);
    assert_ne!(other["id"], handle.as_str());
    assert_eq!(served.get(&path)["displayName"], "Somebody");
}

#[test]
fn the_directory_may_say_that_anybody_left() {
    let served = Served::new();
    let handle = served.sponsor("maya");
    let path = format!("/Users/{handle}");
    served.cuts.take();
    let user = served.patch(
        &path,
        &json!([{"op": "Replace", "path": "active", "value": "False"},
                {"op": "Replace", "path": "displayName", "value": "Eve"}]),
    );
    assert_eq!(
        (&user["active"], &user["displayName"]),
        (&json!(false), &json!("Somebody"))
    );
    assert_eq!(served.cuts.take(), ["sponsor-suspended"]);
    let user = served.patch(
        &path,
        &json!([{"op": "Replace", "path": "active", "value": "True"}]),
    );
    assert_eq!(user["active"], true);
}

#[test]
fn whom_an_administrator_linked_is_taken_over() {
    let served = Served::new();
    let handle = served.sponsor("maya");
    let person = served.control.view(|state| {
        let person = state.sponsor(&handle).unwrap().person().unwrap().clone();
        register::Person {
            external_id: Some("00u1".parse().unwrap()),
            ..person
        }
    });
    served.execute(Command::ChangeSponsor {
        sponsor: handle.clone(),
        person: Box::new(person),
        changes: vec!["linked".parse::<Word>().unwrap()],
        signal: Signal {
            source: "cli".parse().unwrap(),
            event: "linked".parse().unwrap(),
            received_at: served.clock.now(),
            happened_at: None,
            id: None,
        },
    });
    assert_eq!(
        served.get("/Users?filter=externalId+eq+%2200u1%22")["totalResults"],
        1
    );
    let body = json!({
        "schemas": [USER], "userName": "maya@acme.example", "externalId": "00u1",
        "displayName": "Maya Li",
    });
    let response = served.raw("POST", "/Users", &[], &body.to_string());
    assert_eq!(response.status(), StatusCode::CREATED);
    let user: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(user["id"], handle.as_str());
    assert_eq!(user["userName"], "maya@acme.example");
    // Once: the same external id again is somebody who exists.
    served.refused("POST", "/Users", &body, 409, "uniqueness");
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.1
//= type=test
//# SCIM responses SHALL reflect resource state as interpreted by the SCIM service provider.
#[test]
fn nobody_lifts_what_another_stopped() {
    let served = Served::new();
    let id = served.user("maya");
    let path = format!("/Users/{id}");
    served.execute(Command::SuspendSponsor {
        id: "maya".parse().unwrap(),
        signal: None,
    });
    // Okta sends all of a person with every change of a title.
    let put = json!({
        "schemas": [USER], "userName": "maya", "externalId": "00u-maya", "active": true,
        "title": "Buyer",
    });
    let user = served.good("PUT", &path, &put);
    assert_eq!(
        (&user["active"], &user["title"]),
        (&json!(false), &json!("Buyer"))
    );
    assert_eq!(served.status(&id), Status::Suspended);
}

#[test]
fn a_leaver_stays_stopped_whoever_else_stopped_and_freed_them() {
    let served = Served::new();
    let id = served.user("maya");
    let path = format!("/Users/{id}");
    let suspend = || Command::SuspendSponsor {
        id: "maya".parse().unwrap(),
        signal: None,
    };
    let active = |active: bool| {
        let operations = json!([{"op": "replace", "value": {"active": active}}]);
        served.patch(&path, &operations)["active"].clone()
    };
    // First an administrator, then the directory, which changes its mind.
    served.execute(suspend());
    assert_eq!(active(false), false);
    assert_eq!(active(true), false);
    assert_eq!(served.status(&id), Status::Suspended);
    assert_eq!(active(false), false);
    served.execute(Command::ResumeSponsor {
        id: "maya".parse().unwrap(),
        signal: None,
        despite: true,
    });
    // An administrator lifts all of it; what the directory says last is shown all the same.
    assert_eq!(served.status(&id), Status::Active);
    assert_eq!(served.get(&path)["active"], false);
    assert_eq!(active(true), true);
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.1
//= type=test
//# when deciding whether non-asserted attributes SHALL be removed or defaulted.
#[test]
fn a_put_that_does_not_say_leaves_active_as_it_is() {
    let served = Served::new();
    let id = served.user("maya");
    let path = format!("/Users/{id}");
    served.patch(
        &path,
        &json!([{"op": "replace", "value": {"active": false}}]),
    );
    let put = json!({"schemas": [USER], "userName": "maya", "title": "Buyer"});
    assert_eq!(served.good("PUT", &path, &put)["active"], false);
    assert_eq!(served.status(&id), Status::Suspended);
}

#[test]
fn a_user_can_begin_inactive() {
    let served = Served::new();
    let body = json!({"schemas": [USER], "userName": "maya", "active": "False"});
    let user = served.good("POST", "/Users", &body);
    assert_eq!(user["active"], false);
    assert_eq!(
        served.status(user["id"].as_str().unwrap()),
        Status::Suspended
    );
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.3
//= type=test
//# the service provider MUST return HTTP status code 409 (Conflict) with a "scimType" error code of
//# "uniqueness", as per Section 3.12.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
//= type=test
//# A PATCH request, regardless of the number of operations, SHALL be treated as atomic.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
//= type=test
//# the original SCIM resource MUST be restored, and a failure status SHALL be returned.
//= https://www.rfc-editor.org/rfc/rfc7644#section-5
//= type=test
//# service providers MUST use the preparation, enforcement, and comparison of internationalized
//# strings (PRECIS) preparation and comparison rules
//= https://www.rfc-editor.org/rfc/rfc7643#section-4.1.1
//= type=test
//# Each User MUST include a non-empty userName value.
//= https://www.rfc-editor.org/rfc/rfc7643#section-4.1.1
//= type=test
//# This identifier MUST be unique across the service provider's entire set of Users.
//= https://www.rfc-editor.org/rfc/rfc7643#section-4.1.1
//= type=test
//# This attribute is REQUIRED and is case insensitive.
//= https://www.rfc-editor.org/rfc/rfc7643#section-3
//= type=test
//# The "schemas" attribute is a REQUIRED attribute and is an array of Strings
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
//= type=test
//# If a request fails, the server SHALL return an HTTP response status code and a JSON detail error
//# response as defined in Section 3.12.
#[test]
fn names_that_are_taken_are_refused() {
    let served = Served::new();
    let maya = served.user("maya");
    served.user("ben");
    let user = |name: &str, external: &str| json!({"schemas": [USER], "userName": name, "externalId": external});
    served.refused("POST", "/Users", &user("MAYA", "x"), 409, "uniqueness");
    served.refused(
        "POST",
        "/Users",
        &user("carl", "00u-ben"),
        409,
        "uniqueness",
    );
    let path = format!("/Users/{maya}");
    let before = served.get(&path);
    let size = served.size();
    served.refused("PUT", &path, &user("ben", "00u-maya"), 409, "uniqueness");
    served.refused("PUT", &path, &user("maya", "00u-ben"), 409, "uniqueness");
    let both = json!({"schemas": [PATCH], "Operations": [
        {"op": "replace", "path": "active", "value": false},
        {"op": "replace", "path": "userName", "value": "ben"}]});
    // All of a request or nothing; but whoever left is stopped.
    assert_eq!((served.get(&path), served.size()), (before, size));
    served.refused("PATCH", &path, &both, 409, "uniqueness");
    let after = served.get(&path);
    assert_eq!(
        (&after["userName"], &after["active"]),
        (&json!("maya"), &json!(false))
    );
    served.refused("POST", "/Users", &user("maya li", "y"), 400, "invalidValue");
    served.refused(
        "POST",
        "/Users",
        &json!({"schemas": [USER]}),
        400,
        "invalidValue",
    );
    served.refused(
        "POST",
        "/Users",
        &json!({"userName": "x"}),
        400,
        "invalidSyntax",
    );
}

#[test]
fn a_change_of_role_asks_for_acceptance_again() {
    let served = Served::new();
    let id = served.user("maya");
    served.agent("triage", "maya");
    let path = format!("/Users/{id}");
    let change = |operations: Value| {
        let before = served.size();
        served.cuts.take();
        served.patch(&path, &operations);
        (served.entries(before), served.cuts.take())
    };
    let replace =
        |path: &str, value: &str| json!([{"op": "Replace", "path": path, "value": value}]);
    assert_eq!(change(replace("title", "Trainee")).1, [""; 0]);
    assert_eq!(
        change(replace("title", "Buyer")),
        (
            vec![
                "agent-lapsed scim:changed".to_owned(),
                "sponsor-changed scim:changed".to_owned()
            ],
            vec!["agent-lapsed"]
        )
    );
    // The manager is offered when somebody has to take over, and nothing follows of a new one.
    assert_eq!(
        change(replace(&format!("{ENTERPRISE}:manager"), "s-1")),
        (vec!["sponsor-changed scim:changed".to_owned()], vec![])
    );
    // The same again is nothing.
    assert_eq!(change(replace("title", "Buyer")), (vec![], vec![]));
}

#[test]
fn a_lost_group_ends_what_runs() {
    let served = Served::new();
    let (maya, ben) = (served.user("maya"), served.user("ben"));
    served.agent("triage", "maya");
    let body = json!({
        "schemas": [GROUP], "displayName": "Finance",
        "members": [{"value": maya}, {"value": ben}],
    });
    let group = served.good("POST", "/Groups", &body);
    let path = format!("/Groups/{}", group["id"].as_str().unwrap());
    let before = served.size();
    served.cuts.take();
    served.patch(&path, &json!([{"op": "Remove", "path": "members"}]));
    // Nothing runs for Ben.
    assert_eq!(
        served.entries(before),
        [
            "sessions-revoked scim:group-lost",
            "group-members scim:group-members"
        ]
    );
    assert_eq!(served.cuts.take(), ["sessions-revoked"]);
}

#[test]
fn reactions_are_the_configurations_to_choose() {
    let reactions = Reactions {
        role_changed: Reaction::Suspend,
        department_changed: Reaction::Ignore,
        group_lost: Reaction::Ignore,
        ..Reactions::default()
    };
    let served = Served::with(reactions);
    let id = served.user("maya");
    served.agent("triage", "maya");
    let path = format!("/Users/{id}");
    let department = format!("{ENTERPRISE}:department");
    for value in ["Buying", "Sales"] {
        served.patch(
            &path,
            &json!([{"op": "add", "path": department, "value": value}]),
        );
    }
    assert_eq!(served.status(&id), Status::Active);
    for value in ["Trainee", "Head"] {
        served.patch(
            &path,
            &json!([{"op": "add", "path": "title", "value": value}]),
        );
    }
    assert_eq!(served.status(&id), Status::Suspended);
}

/// PRIOR-ART: "status flipped, tokens still worked".
#[test]
fn status_flipped_and_nothing_works_before_the_answer() {
    let served = Served::new();
    let id = served.user("maya");
    let path = format!("/Users/{id}");
    served.cuts.take();
    for (method, body) in [
        (
            "PATCH",
            json!({"schemas": [PATCH], "Operations": [
            {"op": "replace", "value": {"active": false}}]}),
        ),
        (
            "PUT",
            json!({"schemas": [USER], "userName": "maya", "active": false}),
        ),
    ] {
        // Also if it holds already: the answer to the first may have been lost.
        served.good(method, &path, &body);
        assert_eq!(served.cuts.take(), ["sponsor-suspended"], "{method}");
    }
    served.good("DELETE", &path, &Value::Null);
    assert_eq!(served.cuts.take(), ["sponsor-suspended"]);
}

#[test]
fn what_cannot_be_recorded_is_answered_with_an_error() {
    let leave = json!({"schemas": [PATCH], "Operations": [
        {"op": "replace", "value": {"active": false}}]});
    for fault in store::Fault::FAILURES {
        let served = Served::new();
        let path = format!("/Users/{}", served.user("maya"));
        served.faults.set(fault);
        let error = served.refused("PATCH", &path, &leave, 503, "");
        served.faults.set(store::Fault::None);
        // Sent again it is done.
        let (status, again) = served.ask("PATCH", &path, &leave);
        assert_eq!(
            (status, &again["active"]),
            (200, &json!(false)),
            "{fault:?}: {error} {again}"
        );
    }
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.14
//= type=test
//# SCIM ETags MUST be specified as an HTTP header and SHOULD be specified within the 'version'
//# attribute contained in the resource's 'meta' attribute.
//= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
//= type=test
//# the origin server MUST mark the "version" (entity-tag) as weak by prefixing its opaque value
//# with "W/" (case sensitive).
#[test]
fn tags_hold_what_was_seen() {
    let served = Served::new();
    let id = served.user("maya");
    let path = format!("/Users/{id}");
    let version = served.get(&path)["meta"]["version"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(version.starts_with("W/\""), "{version}");
    let same = served.raw("GET", &path, &[("if-none-match", &version)], "");
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    assert!(same.body().is_empty());
    let other = served.raw("GET", &path, &[("if-none-match", "W/\"x\"")], "");
    assert_eq!(other.status(), StatusCode::OK);
    let title = json!({"schemas": [PATCH], "Operations": [
        {"op": "add", "path": "title", "value": "Buyer"}]})
    .to_string();
    let changed = served.raw("PATCH", &path, &[("if-match", "W/\"x\"")], &title);
    assert_eq!(changed.status(), StatusCode::PRECONDITION_FAILED);
    let changed = served.raw("PATCH", &path, &[("if-match", &version)], &title);
    assert_eq!(changed.status(), StatusCode::OK);
    let now = changed.headers()[ETAG].to_str().unwrap().to_owned();
    assert_ne!(now, version);
    let gone = served.raw("DELETE", &path, &[("if-match", &version)], "");
    assert_eq!(gone.status(), StatusCode::PRECONDITION_FAILED);
    let gone = served.raw(
        "DELETE",
        &path,
        &[("if-match", &format!("W/\"x\", {now}"))],
        "",
    );
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-2
//= type=test
//# SHALL indicate supported HTTP authentication schemes via the "WWW-Authenticate" header.
//= https://www.rfc-editor.org/rfc/rfc7644#section-2
//= type=test
//# MUST be able to map the authenticated client to an access control policy in order to determine
//# the client's authorization to retrieve and update SCIM resources.
//= https://www.rfc-editor.org/rfc/rfc7644#section-2.1
//= type=test
//# implementers MUST take into account similar threats and countermeasures, especially those
//# documented by the relevant specifications.
#[test]
fn only_the_directory_is_let_in() {
    let served = Served::new();
    let check = |headers: &[(&str, &str)]| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        served.scim.admit(&map).map_err(|(turned, response)| {
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert!(response.headers().contains_key(WWW_AUTHENTICATE));
            turned
        })
    };
    let good = format!("Bearer {TOKEN}");
    assert!(check(&[("authorization", &good)]).is_ok());
    assert!(check(&[("authorization", &good.replace("Bearer", "bearer"))]).is_ok());
    for bad in [
        vec![],
        vec![("authorization", "")],
        vec![("authorization", "Bearer")],
        vec![("authorization", "Bearer ")],
        vec![("authorization", "Bearer wrong")],
        vec![("authorization", TOKEN)],
        vec![("authorization", "Basic dGhlLWRpcmVjdG9yeSdzLXRva2Vu")],
        vec![
            ("authorization", good.as_str()),
            ("authorization", good.as_str()),
        ],
        vec![("authorization", "DPoP the-directory's-token")],
    ] {
        assert_eq!(check(&bad).unwrap_err(), Turned::Unknown, "{bad:?}");
    }
    // Taken away, it is good for nothing from the next request on.
    let token = served
        .control
        .view(|state| state.directory_tokens().next().unwrap().id.clone());
    served.execute(Command::RemoveDirectoryToken { token });
    assert_eq!(
        check(&[("authorization", &good)]).unwrap_err(),
        Turned::Unknown
    );
}

#[test]
fn no_more_than_so_many_requests_a_minute() {
    let served = Served::new();
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {TOKEN}").parse().unwrap());
    for _ in 0..PER_MINUTE_MAX {
        assert!(served.scim.admit(&headers).is_ok());
    }
    let (turned, response) = served.scim.admit(&headers).unwrap_err();
    assert_eq!(turned, Turned::TooMany);
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(response.headers().contains_key(RETRY_AFTER));
    served.clock.pass(1);
    assert!(served.scim.admit(&headers).is_ok());
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.12
//= type=test
//# implementers MUST return the errors in the body of the response in a JSON format, using the
//# attributes described below.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.12
//= type=test
//# status The HTTP status code (see Section 6 of [RFC7231]) expressed as a JSON string. REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
//= type=test
//# Providers MUST decline to filter results if the specified filter operation is not recognized and
//# return an HTTP 400 error with a "scimType" error of "invalidFilter" and an appropriate
//# human-readable response as per Section 3.12.
#[test]
fn the_service_says_what_it_is() {
    let served = Served::new();
    let config = served.get("/ServiceProviderConfig");
    assert_eq!(config["patch"]["supported"], true);
    assert_eq!(config["bulk"]["supported"], false);
    assert_eq!(
        config["filter"],
        json!({"supported": true, "maxResults": 200})
    );
    assert_eq!(served.get("/ResourceTypes")["totalResults"], 2);
    assert_eq!(served.get("/ResourceTypes/User")["schema"], USER);
    assert_eq!(served.get("/Schemas")["totalResults"], 3);
    let schema = served.get(&format!("/Schemas/{USER}"));
    assert_eq!(schema["name"], "User");
    assert_eq!(
        served.get("/Schemas/urn%3Aietf%3Aparams%3Ascim%3Aschemas%3Acore%3A2.0%3AGroup")["id"],
        GROUP
    );
    served.refused("GET", "/Schemas/urn:none", &Value::Null, 404, "");
    for path in ["/ServiceProviderConfig", "/ResourceTypes", "/Schemas"] {
        let response = served.raw("POST", path, &[], "{}");
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(response.headers()[ALLOW], "GET");
        served.refused(
            "GET",
            &format!("{path}?filter=id+pr"),
            &Value::Null,
            403,
            "",
        );
    }
    served.refused("POST", "/Bulk", &json!({}), 501, "");
    served.refused("GET", "/Me", &Value::Null, 501, "");
    served.refused("POST", "/.search", &json!({}), 501, "");
    served.refused("GET", "/Robots", &Value::Null, 404, "");
    served.refused("GET", "/Users/a/b", &Value::Null, 404, "");
    served.refused("GET", "/Users/%ff", &Value::Null, 404, "");
    served.refused("GET", "/Users/s-nobody", &Value::Null, 404, "");
    served.refused(
        "GET",
        "/Users?filter=userName",
        &Value::Null,
        400,
        "invalidFilter",
    );
    served.refused(
        "GET",
        "/Users?filter=userName+is+%22maya%22",
        &Value::Null,
        400,
        "invalidFilter",
    );
    assert_eq!(
        served.raw("PUT", "/Users", &[], "{}").status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
    let user = json!({"schemas": [USER], "userName": "maya"}).to_string();
    let html = Request::post(format!("{PATH}/Users"))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "text/plain")
        .body(Bytes::from(user))
        .unwrap();
    let admitted = served.scim.admit(html.headers()).unwrap();
    assert_eq!(
        wait(served.scim.answer(admitted, html)).status(),
        StatusCode::BAD_REQUEST
    );
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.3
//= type=test
//# The inclusion of "/.search" on the end of a valid SCIM endpoint SHALL be used to indicate that
//# the HTTP POST verb is intended to be a query operation.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2
//= type=test
//# REQUIRED if "totalResults" is non-zero.
#[test]
fn searches_and_pages_go_through_everybody_once() {
    let served = Served::new();
    let mut ids: Vec<String> = (0..7).map(|i| served.user(&format!("u{i}"))).collect();
    let mut seen = Vec::new();
    for start in [1, 4, 7] {
        let page = served.get(&format!("/Users?startIndex={start}&count=3"));
        assert_eq!(page["totalResults"], 7);
        assert_eq!(page["startIndex"], start);
        for user in page["Resources"].as_array().unwrap() {
            seen.push(user["id"].as_str().unwrap().to_owned());
        }
    }
    ids.sort();
    seen.sort();
    assert_eq!(seen, ids);
    let search = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
        "filter": "userName eq \"U3\" or userName eq \"u5\"", "attributes": ["userName"],
    });
    let found = served.good("POST", "/Users/.search", &search);
    assert_eq!(found["totalResults"], 2);
    assert!(found["Resources"][0].get("active").is_none());
}
