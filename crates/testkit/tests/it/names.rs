//! Policies name sponsors and groups, and the directory changes who has a name: a forbid is not
//! dropped by that, and nobody gets a permit by it.

use std::fs;
use std::sync::Arc;

use ledger::Kind;
use serde_json::{Value, json};
use testkit::Plane;

use crate::common::{ANY, Client, ERAS};
use crate::directory::Directory;

const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

const FORBID: &str = r#"
    @id("all") permit (principal, action, resource);
    @id("contractors") @reason("not for contractors") forbid (principal, action, resource)
        when { principal.sponsor.groups.contains("Contractors") };"#;
const PERMIT: &str = r#"
    @id("adjusters") permit (principal, action, resource)
        when { principal.sponsor.groups.contains("Adjusters") };"#;
const BY_NAME: &str = r#"
    @id("not-noor") @reason("not for noor") forbid (principal, action == Action::"files/anything", resource)
        when { principal.sponsor == Sponsor::"noor" };
    @id("mia") permit (principal, action, resource)
        when { principal.sponsor == Sponsor::"mia" || principal.sponsor == Sponsor::"noor" };"#;

/// A node, its directory, and an agent of `maya`.
struct Office {
    plane: Plane,
    directory: Directory,
    agent: testkit::Agent,
    maya: String,
}

impl Office {
    async fn open() -> Self {
        let plane = Plane::start().await;
        let agent = plane.agent("triage").await;
        let directory = Directory::of(&plane).await;
        let maya = directory.id(&plane, "maya").await;
        Self {
            plane,
            directory,
            agent,
            maya,
        }
    }

    /// Makes a group with `maya` in it.
    async fn group(&self, name: &str) -> String {
        let body = json!({"schemas": [GROUP], "displayName": name,
            "members": [{"value": self.maya}]});
        let made = self
            .directory
            .ask(&self.plane, "POST", "/Groups", &body)
            .await;
        assert_eq!(made.status, 201, "{}", made.text());
        format!("/Groups/{}", made.json()["id"].as_str().unwrap())
    }

    /// Makes a user, and gives its id.
    async fn user(&self, name: &str) -> String {
        let body = json!({"schemas": [USER], "userName": name, "externalId": format!("x-{name}"),
            "active": true, "name": {"formatted": name}});
        let made = self
            .directory
            .ask(&self.plane, "POST", "/Users", &body)
            .await;
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["id"].as_str().unwrap().to_owned()
    }

    async fn patch(&self, path: &str, operation: Value) {
        let body = json!({"schemas": [PATCH], "Operations": [operation]});
        let answer = self.directory.ask(&self.plane, "PATCH", path, &body).await;
        assert!(answer.status.is_success(), "{}", answer.text());
    }

    async fn rename(&self, group: &str, name: &str) {
        let operation = json!({"op": "replace", "path": "displayName", "value": name});
        self.patch(group, operation).await;
    }

    async fn rename_user(&self, id: &str, name: &str) {
        let operation = json!({"op": "replace", "path": "userName", "value": name});
        self.patch(&format!("/Users/{id}"), operation).await;
    }

    async fn remove(&self, group: &str) {
        let gone = self
            .directory
            .ask(&self.plane, "DELETE", group, &Value::Null)
            .await;
        assert_eq!(gone.status, 204, "{}", gone.text());
    }

    /// What a call of a new instance's comes to. (Who leaves a group loses what ran until then.)
    async fn check(&self, agent: &testkit::Agent, expected: Result<(), &str>) {
        let client = Client::new(&agent.token("files").await, ERAS[0]).await;
        let reply = client.call("anything", ANY).await;
        match expected {
            Ok(()) => assert!(!reply.is_error(), "{}", reply.json),
            Err(words) => assert!(reply.said().contains(words), "{}", reply.json),
        }
    }

    async fn allowed(&self) {
        self.check(&self.agent, Ok(())).await;
    }

    async fn denied(&self, words: &str) {
        self.check(&self.agent, Err(words)).await;
    }

    /// Starts again: from a snapshot, or by folding everything.
    async fn restart(&mut self, snapshot: bool) {
        self.plane.stop().await.unwrap();
        if !snapshot {
            let path = server::node::snapshot::path(&self.plane.data());
            fs::remove_file(path).unwrap();
        }
        self.plane.boot().await.unwrap();
        self.plane.tools_known().await;
    }

    /// `tipstaff policy apply` of these.
    async fn apply(&self, policies: &str) -> Value {
        let file = self.plane.folder().join("policies/it.cedar");
        fs::write(file, policies).unwrap();
        self.plane.command("/v1/policy/apply").await
    }

    /// What the doctor says of names.
    async fn doctor(&self) -> String {
        let found = self.plane.admin("GET", "/v1/doctor", None).await.json();
        let found = found.as_array().unwrap().iter();
        let told = found.filter(|it| it["check"] == "policy" && it["status"] == "warn");
        let told: Vec<_> = told.map(|it| it["finding"].as_str().unwrap()).collect();
        told.join("\n")
    }

    async fn metric(&self, fault: &str, count: usize) {
        let answer = self.plane.ask("GET", "/metrics").send().await;
        let line = format!("tipstaff_policy_names_faulty{{fault=\"{fault}\"}} {count}\n");
        assert!(answer.text().contains(&line), "{}", answer.text());
    }
}

const NO: &str = "No policy permits this call";

/// Nothing is looked for when nothing changed.
#[tokio::test]
async fn what_is_wrong_with_names_is_found_once_for_each_change() {
    let office = Office::open().await;
    let group = office.group("Contractors").await;
    office.apply(FORBID).await;
    let gateway = office.plane.gateway();
    let found = || gateway.faulty_names();
    let none = found();
    assert!(none.is_empty(), "{none:?}");
    office.rename(&group, "Externals").await;
    let renamed = found();
    assert_eq!(renamed.len(), 1, "{renamed:?}");
    assert_eq!(renamed[0].fault, gateway::NameFault::Renamed);
    assert!(Arc::ptr_eq(&renamed, &found()), "it was looked for again");
    // What is in force, and who has the name: each is looked at anew.
    office.rename(&group, "Contractors").await;
    assert!(found().is_empty());
    office.rename(&group, "Externals").await;
    assert_eq!(found(), renamed);
    office.apply(PERMIT).await;
    let unknown = found();
    assert_eq!(unknown.len(), 1, "{unknown:?}");
    assert_eq!(unknown[0].fault, gateway::NameFault::Unknown);
}

#[tokio::test]
async fn approvers_whom_nobody_knows_are_told_of() {
    let office = Office::open().await;
    let applied = office
        .apply(
            r#"@id("held") @approval("2 of group:Finance, maya, nobody")
permit (principal, action, resource) when { context has approval };"#,
        )
        .await;
    let warnings = applied["warnings"].as_array().unwrap();
    let warned: Vec<_> = warnings
        .iter()
        .filter_map(|it| it["message"].as_str())
        .collect();
    for unknown in [
        "no group `Finance` is known",
        "no sponsor `nobody` is known",
    ] {
        assert!(
            warned.iter().any(|it| it.starts_with(unknown)),
            "{warned:?}"
        );
    }
    assert_eq!(warned.len(), 2, "{warned:?}");
    let told = office.doctor().await;
    assert!(
        told.contains("the sponsor `nobody`, whom `held` names, is not known"),
        "{told}"
    );
}

#[tokio::test]
async fn a_forbidden_group_that_is_renamed_stays_forbidden() {
    let mut office = Office::open().await;
    let group = office.group("Contractors").await;
    office.apply(FORBID).await;
    office.denied("not for contractors").await;
    office.rename(&group, "Externals").await;
    office.denied("not for contractors").await;
    let told = office.doctor().await;
    assert!(
        told.contains(
            "the group `Contractors`, whom `contractors` names, is called `Externals` now"
        ),
        "{told}"
    );
    office.metric("renamed", 1).await;
    for snapshot in [true, false] {
        office.restart(snapshot).await;
        office.denied("not for contractors").await;
    }
    // Whoever puts the policies in force again settles what they mean.
    let applied = office.apply(FORBID).await;
    let warnings = applied["warnings"].as_array().unwrap();
    let message = warnings[0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("no group `Contractors` is known"),
        "{message}"
    );
    office.allowed().await;
    office.metric("renamed", 0).await;
    office.metric("unknown", 1).await;
    let told = office.doctor().await;
    assert!(told.contains("the group `Contractors`, whom `contractors` names, is not known"));
    // All of it is decided the same from what was sealed.
    let verified = office.plane.end().await;
    assert_eq!(verified.permits, 1);
    assert_eq!(verified.replayed, 5);
}

#[tokio::test]
async fn a_group_that_takes_a_forbidden_name_is_forbidden_too() {
    let mut office = Office::open().await;
    let first = office.group("Contractors").await;
    office.apply(FORBID).await;
    office.rename(&first, "Externals").await;
    let leaves = json!({"op": "remove", "path": format!("members[value eq \"{}\"]", office.maya)});
    office.patch(&first, leaves).await;
    office.allowed().await;
    // Perhaps the directory made the group anew.
    let second = office.group("Contractors").await;
    office.denied("not for contractors").await;
    let told = office.doctor().await;
    assert!(told.contains("is somebody else now"), "{told}");
    office.metric("taken", 1).await;
    office.restart(true).await;
    office.denied("not for contractors").await;
    // And having had the name once is enough.
    office.rename(&second, "Others").await;
    office.denied("not for contractors").await;
    office.apply(FORBID).await;
    office.allowed().await;
    office.plane.end().await;
}

#[tokio::test]
async fn a_group_that_takes_a_permitted_name_gets_nothing_by_it() {
    let mut office = Office::open().await;
    let first = office.group("Adjusters").await;
    office.apply(PERMIT).await;
    office.allowed().await;
    office.rename(&first, "Claims").await;
    // Who is meant has it yet: the directory did not take them out.
    office.allowed().await;
    office.remove(&first).await;
    office.denied(NO).await;
    let second = office.group("Adjusters").await;
    office.denied(NO).await;
    for snapshot in [true, false] {
        office.restart(snapshot).await;
        office.denied(NO).await;
    }
    let other = office.group("Staff").await;
    office.remove(&second).await;
    office.rename(&other, "Adjusters").await;
    office.denied(NO).await;
    office.apply(PERMIT).await;
    office.allowed().await;
    office.plane.end().await;
}

#[tokio::test]
async fn a_name_that_policies_knew_first_is_whose_it_first_is() {
    let office = Office::open().await;
    let applied = office.apply(PERMIT).await;
    let help = &applied["warnings"][0]["message"];
    assert!(
        help.as_str()
            .unwrap()
            .contains("no group `Adjusters` is known"),
        "{applied}"
    );
    office.denied(NO).await;
    office.group("Adjusters").await;
    office.allowed().await;
    office.plane.end().await;
}

#[tokio::test]
async fn a_sponsors_name_that_somebody_else_takes_is_not_theirs() {
    let mut office = Office::open().await;
    let (mia, noor) = (office.user("mia").await, office.user("noor").await);
    let register = async |id: &str, sponsor: &str| {
        let more = json!({"sponsor": sponsor});
        office.plane.register(id, more).await
    };
    let (her, hers) = (register("her", "mia").await, register("hers", "noor").await);
    office.apply(BY_NAME).await;
    office.check(&her, Ok(())).await;
    office.check(&hers, Err("not for noor")).await;
    // Renamed, she is forbidden what she was.
    office.rename_user(&noor, "noor.b").await;
    office.check(&hers, Err("not for noor")).await;
    office.rename_user(&mia, "mia.b").await;
    office.check(&her, Ok(())).await;
    // And the name is no permit for whoever takes it.
    office.rename_user(&noor, "mia").await;
    office.check(&hers, Err("not for noor")).await;
    office.restart(true).await;
    office.check(&hers, Err("not for noor")).await;
    office.metric("taken", 1).await;
    office.metric("renamed", 2).await;
    let activations = office.plane.ledger().of(Kind::PolicyActivated).len();
    office.apply(BY_NAME).await;
    let again = office.plane.ledger().of(Kind::PolicyActivated).len();
    assert_eq!(again, activations + 1, "the same set, activated anew");
    office.check(&hers, Ok(())).await;
    office.check(&her, Err(NO)).await;
    office.plane.end().await;
}
