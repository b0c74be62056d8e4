//! What the service as a whole is held to by RFC 7643 and RFC 7644.

use super::*;
use crate::scim::filter::AttrPath;
use crate::scim::schema::{Attribute, Kind};

const BASE: &str = "https://gate.example/scim/v2";

/// Where in the service a URI leads.
fn path(uri: &Value) -> &str {
    uri.as_str().unwrap().strip_prefix(BASE).unwrap()
}

fn path_end(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

/// Whether a text is a date and a time, as XML Schema has them.
fn is_moment(text: &Value) -> bool {
    let text = text.as_str().unwrap();
    let form = text
        .bytes()
        .map(|b| if b.is_ascii_digit() { b'0' } else { b });
    form.eq(b"0000-00-00T00:00:00.000000Z".iter().copied())
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-1.3
//= type=test
//# The Base URI MUST NOT contain a query string
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.3
//= type=test
//# The server SHALL process attributes according to the following mutability rules:
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.3
//= type=test
//# attributes whose mutability is "readOnly" (see Sections 2.2 and 7 of [RFC7643]) SHALL be
//# ignored.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.3
//= type=test
//# When the service provider successfully creates the new resource, an HTTP response SHALL be
//# returned with HTTP status code 201 (Created).
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.3
//= type=test
//# The URI of the created resource SHALL include, in the HTTP "Location" header and the HTTP body,
//# a JSON representation [RFC7159] with the attribute "meta.location".
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.3.1
//= type=test
//# the meta attribute "resourceType" SHALL be set by the HTTP service provider to the corresponding
//# resource type for the endpoint.
//= https://www.rfc-editor.org/rfc/rfc7644#section-7.5.1
//= type=test
//# The privacy considerations in the Security Considerations section of [RFC7643] MUST be
//# considered.
//= https://www.rfc-editor.org/rfc/rfc7643#section-2.1
//= type=test
//# MUST specify schema via the "schemas" attribute per Section 3.
//= https://www.rfc-editor.org/rfc/rfc7643#section-2.3.5
//= type=test
//# MUST include both a date and a time.
//= https://www.rfc-editor.org/rfc/rfc7643#section-2.3.5
//= type=test
//# Values represented in JSON format MUST conform to the XML constraints above and are represented
//# as a JSON string per Section 7 of [RFC7159].
//= https://www.rfc-editor.org/rfc/rfc7643#section-3
//= type=test
//# MUST include a non-empty array with value(s) of the URIs supported by that representation.
//= https://www.rfc-editor.org/rfc/rfc7643#section-3
//= type=test
//# MUST only contain values defined as "schema" and "schemaExtensions" for the resource's defined
//# "resourceType".
//= https://www.rfc-editor.org/rfc/rfc7643#section-3
//= type=test
//# Duplicate values MUST NOT be included.
//= https://www.rfc-editor.org/rfc/rfc7643#section-3
//= type=test
//# Value order is not specified and MUST NOT impact behavior.
//= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
//= type=test
//# the attributes "id" and "meta" (and its associated sub-attributes) MUST be assigned values by
//# the service provider.
//= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
//= type=test
//# Each representation of the resource MUST include a non-empty "id" value.
//= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
//= type=test
//# The value of the "id" attribute is always issued by the service provider and MUST NOT be
//# specified by the client.
//= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
//= type=test
//# This attribute SHALL be ignored when provided by clients.
//= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
//= type=test
//# This attribute MUST be a DateTime.
//= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
//= type=test
//# This value MUST be the same as the "Content-Location" HTTP response header (see Section 3.1.4.2
//# of [RFC7231]).
//= https://www.rfc-editor.org/rfc/rfc7643#section-3.3
//= type=test
//# The "schemas" attribute MUST contain at least one value, which SHALL be the base schema for the
//# resource.
//= https://www.rfc-editor.org/rfc/rfc7643#section-4.1.1
//= type=test
//# The cleartext value or the hashed value of a password SHALL NOT be returnable by a service
//# provider.
//= https://www.rfc-editor.org/rfc/rfc7643#section-4.1.1
//= type=test
//# the value MUST NOT be returned by a service provider in any form
//= https://www.rfc-editor.org/rfc/rfc7643#section-7
//= type=test
//# For attributes that are case exact, the server SHALL preserve case for any value submitted.
//= https://www.rfc-editor.org/rfc/rfc7643#section-9.2
//= type=test
//# password values MUST NOT be stored in cleartext form.
#[test]
fn what_is_created_is_told_with_its_place_and_is_ours_to_number() {
    let served = Served::new();
    let body = json!({
        "schemas": ["urn:example:unknown", ENTERPRISE, USER, USER], "userName": "maya",
        "externalId": "00uA", "id": "s-mine", "groups": [{"value": "g-mine"}],
        "meta": {"resourceType": "Group", "created": "1970-01-01T00:00:00Z", "location": "x"},
        "password": "a-secret-word", "birthday": "a-private-day",
        ENTERPRISE: {"department": "Finance"},
    });
    let response = served.raw("POST", "/Users", &[], &body.to_string());
    assert_eq!(response.status(), StatusCode::CREATED);
    let user: Value = serde_json::from_slice(response.body()).unwrap();
    let location = user["meta"]["location"].as_str().unwrap();
    assert_eq!(response.headers()[LOCATION], location);
    assert_eq!(response.headers()["content-location"], location);
    let id = user["id"].as_str().unwrap();
    assert!(id.len() > 20 && id != "s-mine", "{id}");
    assert_eq!(location, format!("{BASE}/Users/{id}"));
    assert!(!location.contains('?'));
    let mut meta = user["meta"].clone();
    assert!(is_moment(&meta["created"]) && is_moment(&meta["lastModified"]));
    let members = meta.as_object_mut().unwrap();
    members.retain(|name, _| !["created", "lastModified", "version"].contains(&name.as_str()));
    assert_eq!(meta, json!({"resourceType": "User", "location": location}));
    assert_eq!(user["schemas"], json!([USER, ENTERPRISE]));
    assert_eq!(user["externalId"], "00uA");
    assert!(user.get("groups").is_none());
    let kept = served.control.view(|state| {
        let sponsor = state.sponsor(&id.parse().unwrap()).unwrap();
        format!("{sponsor:?}")
    });
    for text in [user.to_string(), kept] {
        assert!(!text.contains("a-secret-word"), "{text}");
        assert!(!text.contains("a-private-day"), "{text}");
    }
    let group = json!({"schemas": [GROUP], "displayName": "Finance"});
    let group = served.good("POST", "/Groups", &group);
    assert_eq!(group["meta"]["resourceType"], "Group");
    assert_eq!(group["schemas"], json!([GROUP]));
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.2
//= type=test
//# PUT MUST NOT be used to create new resources.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.1
//= type=test
//# HTTP PUT MUST NOT be used to create new resources.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.1
//= type=test
//# readWrite, writeOnly Any values provided SHALL replace the existing attribute values.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.1
//= type=test
//# readOnly Any values provided SHALL be ignored.
//= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
//= type=test
//# This identifier MUST be unique across the SCIM service provider's entire set of resources.
//= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
//= type=test
//# It MUST be a stable, non-reassignable identifier that does not change when the same resource is
//# returned in subsequent requests.
//= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
//= type=test
//# The string "bulkId" is a reserved keyword and MUST NOT be used within any unique identifier
//# value.
#[test]
fn put_makes_nothing_and_replaces_what_is_there() {
    let served = Served::new();
    let (maya, ben) = (served.user("maya"), served.user("ben"));
    let size = served.size();
    let body = json!({
        "schemas": [USER], "userName": "maya.li", "externalId": "00u-new", "title": "Buyer",
        "id": ben, "meta": {"created": "1970-01-01T00:00:00Z"},
    });
    for unknown in ["s-nobody", "maya", "maya.li"] {
        served.refused("PUT", &format!("/Users/{unknown}"), &body, 404, "");
    }
    let group = json!({"schemas": [GROUP], "displayName": "Finance"});
    served.refused("PUT", "/Groups/g-none", &group, 404, "");
    assert_eq!(served.size(), size);
    let before = served.get(&format!("/Users/{maya}"));
    let after = served.good("PUT", &format!("/Users/{maya}"), &body);
    assert_eq!(
        (&after["userName"], &after["title"], &after["externalId"]),
        (&json!("maya.li"), &json!("Buyer"), &json!("00u-new"))
    );
    assert_eq!(after["id"], before["id"]);
    assert_eq!(after["meta"]["created"], before["meta"]["created"]);
    assert_eq!(after["meta"]["location"], before["meta"]["location"]);
    // An id is nobody else's, also when its owner is gone.
    served.good("DELETE", &format!("/Users/{maya}"), &Value::Null);
    let (eve, group) = (served.user("eve"), served.good("POST", "/Groups", &group));
    let group = group["id"].as_str().unwrap();
    let all: BTreeSet<&str> = [&*maya, &*ben, &*eve, group].into();
    assert_eq!(all.len(), 4);
    assert!(
        all.iter()
            .all(|id| !id.contains("bulkId") && *id == id.to_lowercase())
    );
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
//= type=test
//# If a single operation encounters an error condition, the original SCIM resource MUST be
//# restored, and a failure status SHALL be returned.
#[test]
fn a_request_that_asks_wrongly_changes_nothing() {
    let served = Served::new();
    let id = served.user("maya");
    let group = json!({"schemas": [GROUP], "displayName": "Finance"});
    let team = served.good("POST", "/Groups", &group);
    let size = served.size();
    served.cuts.take();
    let patch = |path: &str, value: Value| json!({"schemas": [PATCH], "Operations": [{"op": "replace", "path": path, "value": value}]});
    let user = format!("/Users/{id}");
    let team = format!("/Groups/{}", team["id"].as_str().unwrap());
    for (method, path, body) in [
        (
            "POST",
            "/Users",
            json!({"schemas": [USER], "userName": "ben"}),
        ),
        ("PUT", &user, json!({"schemas": [USER], "userName": "ben"})),
        ("PATCH", &user, patch("active", false.into())),
        ("DELETE", &user, Value::Null),
        (
            "POST",
            "/Groups",
            json!({"schemas": [GROUP], "displayName": "Other"}),
        ),
        ("PATCH", &team, patch("displayName", "Other".into())),
    ] {
        let path = format!("{path}?attributes=user%20name");
        served.refused(method, &path, &body, 400, "invalidValue");
    }
    assert_eq!((served.size(), served.cuts.take()), (size, vec![]));
    assert_eq!(served.get("/Users")["totalResults"], 1);
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
//= type=test
//# On successful completion, the server either MUST return a 200 OK response code and the entire
//# resource within the response body
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
//= type=test
//# The server MUST return a 200 OK if the "attributes" parameter is specified in the request.
#[test]
fn an_answer_to_a_change_shows_what_was_asked_for() {
    let served = Served::new();
    let id = served.user("maya");
    let title = |title: &str| json!({"schemas": [PATCH], "Operations": [{"op": "add", "path": "title", "value": title}]});
    let path = format!("/Users/{id}");
    let (status, whole) = served.ask("PATCH", &path, &title("Buyer"));
    assert_eq!((status, &whole), (200, &served.get(&path)));
    let some = format!("{path}?attributes=title");
    let (status, part) = served.ask("PATCH", &some, &title("Head"));
    assert_eq!(status, 200);
    assert_eq!(part, json!({"schemas": [USER], "id": id, "title": "Head"}));
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.1
//= type=test
//# MUST begin with "urn:ietf:params:scim:api:".
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.1
//= type=test
//# SCIM message schemas using the above prefix URN SHALL NOT be discoverable using the "/Schemas"
//# endpoint.
//= https://www.rfc-editor.org/rfc/rfc7644#section-4
//= type=test
//# An HTTP GET to the endpoint "/Schemas" SHALL return all supported schemas in ListResponse format
//# (see Figure 3).
//= https://www.rfc-editor.org/rfc/rfc7644#section-4
//= type=test
//# When returning multiple ResourceTypes or Schemas, the message form described by the
//# "urn:ietf:params:scim:api:messages:2.0:ListResponse" (ListResponse) form SHALL be used
//= https://www.rfc-editor.org/rfc/rfc7644#section-4
//= type=test
//# Query parameters described in Section 3.4.2, such as filtering, sorting, and pagination, SHALL
//# be ignored.
#[test]
fn messages_have_schemas_that_are_not_listed() {
    let served = Served::new();
    let error = served.refused("GET", "/Users/s-nobody", &Value::Null, 404, "");
    for message in [error, served.get("/Users"), served.get("/Schemas")] {
        let schemas = message["schemas"].as_array().unwrap();
        assert_eq!(schemas.len(), 1, "{message}");
        let urn = schemas[0].as_str().unwrap();
        assert!(urn.starts_with("urn:ietf:params:scim:api:"), "{urn}");
    }
    let list = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
    for (path, ids) in [
        ("/Schemas", json!([USER, ENTERPRISE, GROUP])),
        ("/ResourceTypes", json!(["User", "Group"])),
    ] {
        for query in ["", "?startIndex=2&count=1&sortBy=id&attributes=name"] {
            let all = served.get(&format!("{path}{query}"));
            assert_eq!(all["schemas"], json!([list]));
            let found: Value = all["Resources"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| it["id"].clone())
                .collect();
            assert_eq!(found, ids, "{path}{query}");
            assert!(all["Resources"][0]["description"].is_string());
        }
    }
}

//= https://www.rfc-editor.org/rfc/rfc7643#section-5
//= type=test
//# patch A complex type that specifies PATCH configuration options. REQUIRED. See Section 3.5.2 of
//# [RFC7644].
//= https://www.rfc-editor.org/rfc/rfc7643#section-5
//= type=test
//# supported A Boolean value specifying whether or not the operation is supported. REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-5
//= type=test
//# See Section 3.7 of [RFC7644]. REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-5
//= type=test
//# maxOperations An integer value specifying the maximum number of operations. REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-5
//= type=test
//# maxPayloadSize An integer value specifying the maximum payload size in bytes. REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-5
//= type=test
//# filter A complex type that specifies FILTER options. REQUIRED. See Section 3.4.2.2 of [RFC7644].
//= https://www.rfc-editor.org/rfc/rfc7643#section-5
//= type=test
//# maxResults An integer value specifying the maximum number of resources returned in a response.
//# REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-5
//= type=test
//# changePassword A complex type that specifies configuration options related to changing a
//# password. REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-5
//= type=test
//# sort A complex type that specifies Sort configuration options. REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-5
//= type=test
//# supported A Boolean value specifying whether or not sorting is supported. REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-5
//= type=test
//# etag A complex type that specifies ETag configuration options. REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-5
//= type=test
//# make the authenticationSchemes attribute publicly accessible without prior authentication.
//# REQUIRED. The following sub-attributes are defined:
//= https://www.rfc-editor.org/rfc/rfc7643#section-5
//= type=test
//# This specification defines the values "oauth", "oauth2", "oauthbearertoken", "httpbasic", and
//# "httpdigest". REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-5
//= type=test
//# name The common authentication scheme name, e.g., HTTP Basic. REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-5
//= type=test
//# description A description of the authentication scheme. REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7644#section-4
//= type=test
//# This endpoint SHALL return responses with a JSON object using a "schemas" attribute of
//# "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig".
#[test]
fn the_description_of_the_service_is_whole() {
    let config = Served::new().get("/ServiceProviderConfig");
    assert_eq!(
        config,
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
            "patch": {"supported": true},
            "bulk": {"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
            "filter": {"supported": true, "maxResults": 200},
            "changePassword": {"supported": false},
            "sort": {"supported": false},
            "etag": {"supported": true},
            "authenticationSchemes": [{
                "type": "oauthbearertoken",
                "name": "Bearer token",
                "description": "The token that `tipstaff scim token` prints",
                "specUri": "https://www.rfc-editor.org/rfc/rfc6750",
                "primary": true,
            }],
            "meta": {
                "resourceType": "ServiceProviderConfig",
                "location": format!("{BASE}/ServiceProviderConfig"),
            },
        })
    );
}

//= https://www.rfc-editor.org/rfc/rfc7643#section-6
//= type=test
//# Unlike other core resources, all attributes are REQUIRED unless otherwise specified.
//= https://www.rfc-editor.org/rfc/rfc7643#section-6
//= type=test
//# When applicable, service providers MUST specify the name, e.g., "User" or "Group".
//= https://www.rfc-editor.org/rfc/rfc7643#section-6
//= type=test
//# This name is referenced by the "meta.resourceType" attribute in all resources. REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-6
//= type=test
//# When applicable, service providers MUST specify the description.
//= https://www.rfc-editor.org/rfc/rfc7643#section-6
//= type=test
//# endpoint The resource type's HTTP-addressable endpoint relative to the Base URL of the service
//# provider, e.g., "Users". REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-6
//= type=test
//# This MUST be equal to the "id" attribute of the associated "Schema" resource.
//= https://www.rfc-editor.org/rfc/rfc7643#section-6
//= type=test
//# This MUST be equal to the "id" attribute of the associated "Schema" resource. REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-6
//= type=test
//# This MUST be equal to the "id" attribute of a "Schema" resource.
//= https://www.rfc-editor.org/rfc/rfc7643#section-6
//= type=test
//# This MUST be equal to the "id" attribute of a "Schema" resource. REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-6
//= type=test
//# If false, a resource of this type MAY omit this schema extension. REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-7
//= type=test
//# all attributes are REQUIRED unless otherwise specified.
//= https://www.rfc-editor.org/rfc/rfc7643#section-7
//= type=test
//# When applicable, service providers MUST specify the URI, e.g.,
//# "urn:ietf:params:scim:schemas:core:2.0:User".
//= https://www.rfc-editor.org/rfc/rfc7643#section-7
//= type=test
//# the schema "id" is a URI so that it can be registered and is portable between different service
//# providers and clients. REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc7643#section-7
//= type=test
//# When applicable, service providers MUST specify the name, e.g., "User" or "Group".
//= https://www.rfc-editor.org/rfc/rfc7643#section-7
//= type=test
//# When applicable, service providers MUST specify the description.
#[test]
fn resource_types_and_schemas_name_each_other() {
    let served = Served::new();
    let schemas = served.get("/Schemas")["Resources"].clone();
    let known = |id: &Value| schemas.as_array().unwrap().iter().any(|it| it["id"] == *id);
    for kind in served.get("/ResourceTypes")["Resources"]
        .as_array()
        .unwrap()
    {
        for name in ["id", "name", "description", "endpoint"] {
            assert!(!kind[name].as_str().unwrap().is_empty(), "{kind}");
        }
        assert_eq!(served.get(path(&kind["meta"]["location"])), *kind);
        let endpoint = kind["endpoint"].as_str().unwrap();
        assert_eq!(served.get(endpoint)["totalResults"], 0);
        assert!(known(&kind["schema"]), "{kind}");
        for extension in kind["schemaExtensions"].as_array().unwrap() {
            assert!(known(&extension["schema"]), "{kind}");
            // Nobody need have one.
            assert_eq!(extension["required"], false);
        }
    }
    let id = served.user("maya");
    let user = served.get(&format!("/Users/{id}"));
    assert_eq!(user["schemas"], json!([USER]));
    let kind = format!(
        "/ResourceTypes/{}",
        user["meta"]["resourceType"].as_str().unwrap()
    );
    assert_eq!(served.get(&kind)["endpoint"], "/Users");
    for schema in schemas.as_array().unwrap() {
        assert!(
            schema["id"]
                .as_str()
                .unwrap()
                .starts_with("urn:ietf:params:scim:schemas:")
        );
        for name in ["name", "description"] {
            assert!(!schema[name].as_str().unwrap().is_empty(), "{schema}");
        }
        for attribute in schema["attributes"].as_array().unwrap() {
            for name in [
                "name",
                "type",
                "multiValued",
                "description",
                "required",
                "caseExact",
                "mutability",
                "returned",
                "uniqueness",
            ] {
                assert!(!attribute[name].is_null(), "{attribute}");
            }
        }
        assert_eq!(served.get(path(&schema["meta"]["location"])), *schema);
    }
}

//= https://www.rfc-editor.org/rfc/rfc7643#section-1.2
//= type=test
//# A simple attribute MUST NOT contain sub-attributes.
//= https://www.rfc-editor.org/rfc/rfc7643#section-2.2
//= type=test
//# "required" is "false" (i.e., not REQUIRED),
//= https://www.rfc-editor.org/rfc/rfc7643#section-2.3.8
//= type=test
//# A complex attribute MUST NOT contain sub-attributes that have sub-attributes (i.e., that are
//# complex).
//= https://www.rfc-editor.org/rfc/rfc7643#section-2.4
//= type=test
//# these sub-attributes MUST be used with the meanings defined here.
//= https://www.rfc-editor.org/rfc/rfc7643#section-3
//= type=test
//# SHALL be assumed to be present in every resource, regardless of the value of the "schemas"
//# attribute.
//= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
//= type=test
//# these attributes MUST be defined for all resources, including any extended resource types.
#[test]
fn the_table_is_one_of_scim() {
    let check = |attribute: &'static Attribute| {
        let name = attribute.name;
        assert_eq!(
            attribute.kind == Kind::Complex,
            !attribute.sub.is_empty(),
            "{name}"
        );
        for sub in attribute.sub {
            assert!(
                sub.sub.is_empty() && sub.kind != Kind::Complex,
                "{name}.{}",
                sub.name
            );
            let kind = match sub.name {
                "primary" => Kind::Boolean,
                "$ref" => Kind::Reference,
                "type" | "display" | "value" => Kind::String,
                _ => continue,
            };
            assert_eq!(sub.kind, kind, "{name}.{}", sub.name);
        }
    };
    let common = crate::scim::schema::COMMON;
    common.iter().for_each(check);
    for schema in Schema::all() {
        schema.attributes.iter().for_each(check);
    }
    for of in RESOURCE_TYPES {
        for attribute in common {
            let path = AttrPath::parse(attribute.name).unwrap();
            assert_eq!(path.resolve(of).unwrap().attribute, Some(attribute));
        }
    }
    // What nothing else is said of.
    let user = Served::new().get(&format!("/Schemas/{USER}"));
    let mut attributes = user["attributes"].as_array().unwrap().iter();
    let title = attributes.find(|it| it["name"] == "title").unwrap();
    assert_eq!(
        title,
        &json!({
            "name": "title", "type": "string", "multiValued": false, "description": "Their title.",
            "required": false, "caseExact": false, "mutability": "readWrite",
            "returned": "default", "uniqueness": "none",
        })
    );
}

//= https://www.rfc-editor.org/rfc/rfc7643#section-2.3.7
//= type=test
//# The value MUST be the absolute or relative URI of the target resource.
//= https://www.rfc-editor.org/rfc/rfc7643#section-2.3.7
//= type=test
//# However, the base URI for relative URI resolution MUST include all URI components and path
//# segments up to, but not including, the Endpoint URI (the SCIM service provider root endpoint)
//= https://www.rfc-editor.org/rfc/rfc7643#section-2.3.7
//= type=test
//# A reference URI MUST be to an HTTP-addressable resource.
//= https://www.rfc-editor.org/rfc/rfc7643#section-2.3.7
//= type=test
//# An HTTP client performing a GET operation on a reference URI MUST receive the target resource or
//# an appropriate HTTP response code.
//= https://www.rfc-editor.org/rfc/rfc7643#section-2.4
//= type=test
//# they SHALL be considered to be complex attributes.
//= https://www.rfc-editor.org/rfc/rfc7643#section-2.4
//= type=test
//# URIs for SCIM resources with an API version SHALL be considered comparable to URIs without a
//# version or with a different version.
//= https://www.rfc-editor.org/rfc/rfc7643#section-4.1.2
//= type=test
//# the "value" sub-attribute MUST be the "id", and the "$ref" sub-attribute must be the URI of the
//# corresponding "Group" resources to which the user belongs.
#[test]
fn references_lead_to_what_they_name() {
    let served = Served::new();
    let ids: Vec<String> = (0..4).map(|i| served.user(&format!("u{i}"))).collect();
    let members = json!([
        {"$ref": format!("{BASE}/Users/{}", ids[0])},
        {"$ref": format!("Users/{}", ids[1])},
        {"$ref": format!("https://gate.example/scim/v1/Users/{}", ids[2])},
        {"$ref": format!("https://gate.example/scim/Users/{}", ids[3])},
    ]);
    let group = json!({"schemas": [GROUP], "displayName": "Finance", "members": members});
    let group = served.good("POST", "/Groups", &group);
    let members = group["members"].as_array().unwrap();
    assert_eq!(members.len(), 4);
    for member in members {
        let user = served.get(path(&member["$ref"]));
        assert_eq!(user["id"], member["value"]);
        assert_eq!(user["groups"][0]["value"], group["id"]);
        assert_eq!(served.get(path(&user["groups"][0]["$ref"])), group);
    }
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
//= type=test
//# the service provider SHALL use the value that was returned to the client that last created or
//# modified the attribute.
#[test]
fn a_default_is_found_as_it_was_shown() {
    let served = Served::new();
    let body = json!({"schemas": [USER], "userName": "maya"});
    assert_eq!(served.good("POST", "/Users", &body)["active"], true);
    for (filter, total) in [
        ("active+eq+true", 1),
        ("active+pr", 1),
        ("active+eq+false", 0),
    ] {
        let found = served.get(&format!("/Users?filter={filter}"));
        assert_eq!(found["totalResults"], total, "{filter}");
    }
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.8
//= type=test
//# Servers MUST accept requests and be able to return JSON-structured responses using UTF-8
//# encoding [RFC3629].
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.8
//= type=test
//# UTF-8 SHALL be the default encoding format.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.8
//= type=test
//# Service providers MUST support the "Accept" header "Accept: application/scim+json" and SHOULD
//# support the header "Accept: application/json"
#[test]
fn answers_are_utf8_whatever_is_accepted() {
    let served = Served::new();
    let body = json!({"schemas": [USER], "userName": "maya", "displayName": "Maya \u{d3} Briain"});
    let id = served.good("POST", "/Users", &body)["id"].clone();
    for accept in ["application/scim+json", "application/json", "*/*"] {
        let path = format!("/Users/{}", id.as_str().unwrap());
        let response = served.raw("GET", &path, &[("accept", accept)], "");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], SCIM_JSON);
        let text = std::str::from_utf8(response.body()).unwrap();
        assert!(text.contains("Maya \u{d3} Briain"), "{text}");
    }
    // Other bytes are no text.
    let latin = b"{\"schemas\":[\"urn:ietf:params:scim:schemas:core:2.0:User\"],\"userName\":\"ben\",\"title\":\"\xd3\"}";
    let request = Request::post(format!("{PATH}/Users"))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", SCIM_JSON)
        .body(Bytes::from_static(latin))
        .unwrap();
    let admitted = served.scim.admit(request.headers()).unwrap();
    let refused = wait(served.scim.answer(admitted, request));
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.13
//= type=test
//# the version identifier MUST appear in the URL path immediately preceding the resource endpoint
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.13
//= type=test
//# service providers MUST perform the operation using the desired version or reject the request.
#[test]
fn another_version_is_refused() {
    let served = Served::new();
    let get = |path: &str| {
        let request = Request::get(path)
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(Bytes::new())
            .unwrap();
        let admitted = served.scim.admit(request.headers()).unwrap();
        wait(served.scim.answer(admitted, request)).status()
    };
    assert_eq!(get("/scim/v2/Users"), StatusCode::OK);
    for other in ["/scim/v1/Users", "/scim/v3/Users", "/scim/Users"] {
        assert!(get(other).as_u16() >= 400, "{other}");
    }
}

//= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
//= type=test
//# If this resource has never been modified since its initial creation, the value MUST be the same
//# as the value of "created".
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.1
//= type=test
//# Unless other operations change the resource, this operation SHALL NOT change the modify
//# timestamp of the resource.
#[test]
fn a_resource_says_when_it_was_changed() {
    let served = Served::new();
    let maya = format!("/Users/{}", served.user("maya"));
    let body = json!({"schemas": [GROUP], "displayName": "Finance"});
    let team = served.good("POST", "/Groups", &body);
    let team = format!("/Groups/{}", team["id"].as_str().unwrap());
    let times = |path: &str| {
        let meta = served.get(path)["meta"].clone();
        (
            meta["created"].as_str().unwrap().to_owned(),
            meta["lastModified"].as_str().unwrap().to_owned(),
        )
    };
    let (user, member) = (
        json!([{"op": "add", "path": "emails", "value": [{"value": "maya@acme.example"}]}]),
        json!([{"op": "add", "path": "members", "value": [{"value": path_end(&maya)}]}]),
    );
    for (path, operations) in [(&maya, user), (&team, member)] {
        let (created, modified) = times(path);
        assert_eq!(created, modified, "{path}");
        served.clock.pass(60);
        served.patch(path, &operations);
        let (still, after) = times(path);
        assert_eq!(still, created);
        assert!(after > created, "{path}: {after}");
        // The same again is no change.
        served.clock.pass(60);
        served.patch(path, &operations);
        assert_eq!(times(path), (still, after), "{path}");
    }
}
