//! The directory: what it says over SCIM holds on the very next call, and by nobody else's token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ledger::Kind;
use serde_json::{Value, json};
use testkit::{Answer, Plane, Script, until, within};
use vocab::limits::SCIM_BODY_BYTES_MAX;

use crate::common::{ANY, Client, ERAS, assert_challenged};

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

/// A directory that has its token.
pub(crate) struct Directory {
    token: String,
}

impl Directory {
    pub(crate) async fn of(plane: &Plane) -> Self {
        let made = plane.command("/v1/scim/tokens").await;
        let token = made["token"].as_str().unwrap().to_owned();
        Self { token }
    }

    pub(crate) async fn ask(
        &self,
        plane: &Plane,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Answer {
        let mut ask = plane
            .ask(method, &format!("/scim/v2{path}"))
            .header("authorization", format!("Bearer {}", self.token));
        if !body.is_null() {
            ask = ask
                .header("content-type", "application/scim+json")
                .body(body.to_string());
        }
        ask.send().await
    }

    /// The id of whoever has a user name.
    pub(crate) async fn id(&self, plane: &Plane, name: &str) -> String {
        let path = format!("/Users?filter=userName+eq+%22{name}%22");
        let list = self.ask(plane, "GET", &path, &Value::Null).await.json();
        list["Resources"][0]["id"].as_str().unwrap().to_owned()
    }

    async fn deactivate(&self, plane: &Plane, id: &str) -> Answer {
        let body = json!({"schemas": [PATCH], "Operations": [
            {"op": "Replace", "path": "active", "value": "False"}]});
        self.ask(plane, "PATCH", &format!("/Users/{id}"), &body)
            .await
    }
}

/// PRIOR-ART: "status flipped, tokens still worked".
#[tokio::test]
async fn a_leaver_stops_before_the_directory_is_answered() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let directory = Directory::of(&plane).await;
    let id = directory.id(&plane, "maya").await;
    let token = agent.token("files").await;
    let client = Client::new(&token, ERAS[0]).await;
    assert!(!client.call("anything", ANY).await.is_error());
    plane.files().script("anything", Script::Hang);
    let flight = client.spawn_call("anything", ANY);
    plane.files().until_under_way(1).await;
    let answer = directory.deactivate(&plane, &id).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["active"], false);
    // Its barrier is on record behind everything that was permitted.
    let ledger = plane.ledger();
    let barrier = ledger.last(Kind::Barrier);
    assert_eq!(barrier.body["cause"], "sponsor-suspended");
    let decisions = ledger.of(Kind::Decision);
    assert!(decisions.iter().all(|it| it.index < barrier.index));
    let suspended = ledger.last(Kind::SponsorSuspended);
    assert_eq!(suspended.body["signal"]["source"], "scim");
    assert_eq!(suspended.actor.id, "scim");
    assert!(suspended.actor.verified);
    let reply = within("what was cut to end", flight).await.unwrap();
    assert!(
        reply.said().contains("may not act any more"),
        "{}",
        reply.json
    );
    let refused = client.call("anything", ANY).await;
    assert_challenged(&refused, 401, "the agent's sponsor is suspended");
    let request = agent.token_request("files", None).send().await;
    assert_eq!(request.json()["error"], "unauthorized_client");
    plane.end().await;
}

/// While somebody is deactivated, their agent calls as fast as it can: nothing that begins after
/// the answer is permitted.
#[tokio::test]
async fn nothing_is_permitted_after_the_directory_is_answered() {
    let plane = Arc::new(Plane::start().await);
    let agent = plane.agent("triage").await;
    let directory = Directory::of(&plane).await;
    let id = directory.id(&plane, "maya").await;
    let token = agent.token("files").await;
    let stopped = Arc::new(AtomicBool::new(false));
    let mut callers = Vec::new();
    for era in ERAS {
        let client = Client::new(&token, era).await;
        let stopped = Arc::clone(&stopped);
        callers.push(tokio::spawn(async move {
            let mut permitted = 0;
            loop {
                let is_after = stopped.load(Ordering::SeqCst);
                let reply = client.call("anything", ANY).await;
                let is_permitted = reply.status == 200 && reply.effect() == "allow";
                assert!(!(is_after && is_permitted), "{}", reply.json);
                permitted += u32::from(is_permitted);
                if is_after {
                    return permitted;
                }
            }
        }));
    }
    until("calls are made", async || {
        plane.calls().of(Kind::Outcome).len() > 4
    })
    .await;
    let answer = directory.deactivate(&plane, &id).await;
    stopped.store(true, Ordering::SeqCst);
    assert_eq!(answer.status, 200, "{}", answer.text());
    for caller in callers {
        within("the callers to stop", caller).await.unwrap();
    }
    Arc::into_inner(plane).unwrap().end().await;
}

#[tokio::test]
async fn what_the_directory_said_holds_after_a_restart() {
    let mut plane = Plane::start().await;
    let directory = Directory::of(&plane).await;
    let new = json!({
        "schemas": [USER], "userName": "carla@acme.example", "externalId": "00u7",
        "name": {"givenName": "Carla", "familyName": "Roy"}, "title": "Buyer",
    });
    let user = directory.ask(&plane, "POST", "/Users", &new).await;
    assert_eq!(user.status, 201, "{}", user.text());
    let user = user.json();
    let id = user["id"].as_str().unwrap().to_owned();
    directory.deactivate(&plane, &id).await;
    let group = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "Finance",
        "members": [{"value": id}],
    });
    let group = directory
        .ask(&plane, "POST", "/Groups", &group)
        .await
        .json();
    plane.restart().await;
    // The token, too, was kept as its digest alone.
    let again = directory
        .ask(&plane, "GET", &format!("/Users/{id}"), &Value::Null)
        .await;
    assert_eq!(again.status, 200, "{}", again.text());
    let again = again.json();
    assert_eq!(again["active"], false);
    assert_eq!(again["title"], "Buyer");
    assert_eq!(again["groups"][0]["value"], group["id"]);
    // No name and no address is in any entry.
    for line in plane.ledger().control {
        for personal in [
            "Carla",
            "carla",
            "Finance",
            "Buyer",
            "00u7",
            &directory.token,
        ] {
            assert!(!line.text.contains(personal), "{}", line.text);
        }
    }
    plane.end().await;
}

#[tokio::test]
async fn the_directorys_token_opens_nothing_else_and_no_other_opens_the_directory() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let directory = Directory::of(&plane).await;
    let token = agent.token("files").await;
    let auditor = std::fs::read_to_string(plane.folder().join("keys/auditor.token")).unwrap();
    let get = async |path: &str, authorization: &str| {
        let ask = plane
            .ask("GET", path)
            .header("authorization", authorization);
        ask.send().await
    };
    let scim = "/scim/v2/Users";
    for other in [
        format!("Bearer {}", token.text),
        format!("DPoP {}", token.text),
        format!("Bearer {}", auditor.trim()),
        format!("Bearer {}x", directory.token),
    ] {
        let answer = get(scim, &other).await;
        assert_eq!(answer.status, 401);
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .starts_with("Bearer")
        );
        assert_eq!(answer.header("content-type"), Some("application/scim+json"));
        assert_eq!(answer.json()["status"], "401");
    }
    let own = format!("Bearer {}", directory.token);
    assert_eq!(get(scim, &own).await.status, 200);
    let entries = "/ledger/control/tile/entries/000.p/1";
    assert_eq!(get(entries, &own).await.status, 401);
    let call = plane
        .ask("POST", "/mcp/files")
        .header("authorization", &own)
        .send()
        .await;
    assert_eq!(call.status, 401);
    // Rotated: the new one and the old one are good until the old one is taken away.
    let second = plane.command("/v1/scim/tokens").await;
    let old = second["others"][0].as_str().unwrap();
    //= https://www.rfc-editor.org/rfc/rfc7644#section-7.4
    //= type=test
    //# bearer tokens and cookies MUST contain sufficient entropy to prevent a random guessing attack
    let text = second["token"].as_str().unwrap();
    assert_eq!(text.len(), 43, "32 bytes in base64url");
    assert_ne!(text, directory.token);
    let new = format!("Bearer {text}");
    assert_eq!(get(scim, &own).await.status, 200);
    plane
        .command(&format!("/v1/scim/tokens/{old}/revoke"))
        .await;
    assert_eq!(get(scim, &own).await.status, 401);
    assert_eq!(get(scim, &new).await.status, 200);
    let ledger = plane.ledger_with_refusals().await;
    assert_eq!(ledger.refused("bad-directory-token"), 5);
    plane.end().await;
}

#[tokio::test]
async fn bodies_are_bounded() {
    let plane = Plane::start().await;
    let directory = Directory::of(&plane).await;
    let send = async |bytes: usize| {
        let ask = plane
            .ask("POST", "/scim/v2/Users")
            .header("authorization", format!("Bearer {}", directory.token))
            .header("content-type", "application/scim+json");
        ask.body(vec![b' '; bytes]).send().await
    };
    assert_eq!(send(SCIM_BODY_BYTES_MAX).await.status, 400);
    let answer = send(SCIM_BODY_BYTES_MAX + 1).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["status"], "413");
    plane.end().await;
}

#[tokio::test]
async fn an_administrator_says_whom_the_directory_speaks_for() {
    let plane = Plane::start().await;
    plane.agent("triage").await;
    let directory = Directory::of(&plane).await;
    let id = directory.id(&plane, "maya").await;
    let path = format!("/Users/{id}");
    let named =
        json!({"schemas": [USER], "userName": "maya", "externalId": "00u1", "title": "Buyer"});
    let refused = directory.ask(&plane, "POST", "/Users", &named).await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json()["scimType"], "uniqueness");
    let link = json!({"external_id": "00u1"});
    let unknown = plane
        .admin("POST", "/v1/sponsors/nobody/link", Some(link.clone()))
        .await;
    assert_eq!(unknown.status, 404);
    let linked = plane
        .admin("POST", "/v1/sponsors/maya/link", Some(link))
        .await;
    assert_eq!(linked.status, 200, "{}", linked.text());
    let taken = directory.ask(&plane, "POST", "/Users", &named).await;
    assert_eq!(taken.status, 201, "{}", taken.text());
    assert_eq!(taken.json()["id"], id.as_str());
    // Deleted, she is nobody's until an administrator says that she is back.
    let gone = directory.ask(&plane, "DELETE", &path, &Value::Null).await;
    assert_eq!(gone.status, 204);
    assert_eq!(
        directory
            .ask(&plane, "GET", &path, &Value::Null)
            .await
            .status,
        404
    );
    let shown = plane.admin("GET", "/v1/sponsors/maya", None).await.json();
    assert_eq!(shown["status"], "suspended");
    let link = json!({"external_id": "00u2"});
    plane
        .admin("POST", "/v1/sponsors/maya/link", Some(link))
        .await;
    let back = json!({"schemas": [USER], "userName": "maya", "externalId": "00u2", "active": true});
    let back = directory.ask(&plane, "POST", "/Users", &back).await;
    assert_eq!(back.status, 201, "{}", back.text());
    assert_eq!(
        (&back.json()["id"], &back.json()["active"]),
        (&json!(id), &json!(true))
    );
    plane.end().await;
}

#[tokio::test]
async fn doctor_prints_what_follows_of_what() {
    let plane =
        Plane::with(|setup| setup.tail = "[reactions]\ngroup_lost = \"ignore\"\n".to_owned()).await;
    let found = plane.admin("GET", "/v1/doctor", None).await.json();
    let found = found.as_array().unwrap();
    let table = found.iter().find(|it| it["check"] == "reactions").unwrap();
    let table = table["finding"].as_str().unwrap();
    for row in [
        "leaves: suspend",
        "role_changed: re-accept",
        "group_lost: ignore",
    ] {
        assert!(table.contains(row), "{table}");
    }
    let directory = found.iter().find(|it| it["check"] == "directory").unwrap();
    assert_eq!(directory["status"], "ok");
    plane.command("/v1/scim/tokens").await;
    plane.command("/v1/scim/tokens").await;
    let found = plane.admin("GET", "/v1/doctor", None).await.json();
    let mut found = found.as_array().unwrap().iter();
    let directory = found.find(|it| it["check"] == "directory").unwrap();
    assert_eq!(directory["status"], "warn", "{directory}");
    plane.end().await;
}

/// What the directory says of groups is what policy sees on the next call; a group whose name
/// nobody can read any more is not one that a `forbid` passes over.
#[tokio::test]
async fn policies_see_the_groups_of_the_moment() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let directory = Directory::of(&plane).await;
    let id = directory.id(&plane, "maya").await;
    let of_groups = r#"
        @id("adjusters") permit (principal, action, resource)
            when { principal.sponsor.groups.contains("Adjusters") };
        @id("contractors") @reason("not for contractors") forbid (principal, action, resource)
            when { principal.sponsor.groups.contains("Contractors") };"#;
    plane.activate(of_groups).await.unwrap();
    // Whoever leaves a group loses what ran until then, so each call is a new instance's.
    let call = async || {
        let client = Client::new(&agent.token("files").await, ERAS[0]).await;
        client.call("anything", ANY).await
    };
    let group = async |name: &str| {
        let group = json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": name,
            "members": [{"value": id}],
        });
        let made = directory.ask(&plane, "POST", "/Groups", &group).await;
        assert_eq!(made.status, 201, "{}", made.text());
        format!("/Groups/{}", made.json()["id"].as_str().unwrap())
    };
    let patch = async |group: &str, operation: Value| {
        let body = json!({"schemas": [PATCH], "Operations": [operation]});
        let answer = directory.ask(&plane, "PATCH", group, &body).await;
        assert!(answer.status.is_success(), "{}", answer.text());
    };
    let allowed = async || {
        let reply = call().await;
        assert!(!reply.is_error(), "{}", reply.json);
    };
    let leaves = json!({"op": "remove", "path": format!("members[value eq \"{id}\"]")});
    assert!(call().await.is_error(), "in no group");
    let adjusters = group("Adjusters").await;
    allowed().await;
    let contractors = group("Contractors").await;
    let denied = call().await;
    assert!(denied.said().contains("not for contractors"), "{denied:?}");
    let renamed = json!({"op": "replace", "path": "displayName", "value": "Employees"});
    patch(&contractors, renamed).await;
    let denied = call().await;
    assert!(denied.said().contains("not for contractors"), "{denied:?}");
    // Put in force again, policies mean who has the name now.
    plane.activate(of_groups).await.unwrap();
    allowed().await;
    patch(&adjusters, leaves).await;
    assert!(call().await.is_error(), "they left");
    let joins = json!({"op": "add", "path": "members", "value": [{"value": id}]});
    patch(&adjusters, joins).await;
    allowed().await;
    let groups = plane.admin("GET", "/v1/groups", None).await.json();
    let names: Vec<_> = groups
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["name"].clone(), it["members"].clone()))
        .collect();
    assert!(
        names.contains(&(json!("Adjusters"), json!(["maya"]))),
        "{groups}"
    );
    let maya = plane.admin("GET", "/v1/sponsors/maya", None).await.json();
    let hers = maya["groups"].as_array().unwrap();
    assert!(hers.contains(&json!("Adjusters")), "{maya}");
    let key = plane.gateway().control().view(|state| {
        let group = state.groups().find(|it| it.name() == Some("Employees"));
        group.unwrap().key.to_string()
    });
    let client = Client::new(&agent.token("files").await, ERAS[0]).await;
    let erased = plane
        .admin("POST", "/v1/erase", Some(json!({"what": key})))
        .await;
    assert_eq!(erased.status, 200, "{}", erased.text());
    assert_challenged(
        &client.call("anything", ANY).await,
        401,
        "a group whose name is erased",
    );
    let gone = directory
        .ask(&plane, "DELETE", &contractors, &Value::Null)
        .await;
    assert_eq!(gone.status, 204, "{}", gone.text());
    allowed().await;
    plane.end().await;
}
