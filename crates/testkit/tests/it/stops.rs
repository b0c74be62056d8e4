//! What is stopped can be seen: by `doctor`, in the list of cuts, and at `/readyz`.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Plane, until};

/// What `doctor` says of `check`, as `status finding → advice`, where it says more than `ok`.
async fn trouble(plane: &Plane, check: &str) -> Vec<String> {
    let found = plane.admin("GET", "/v1/doctor", None).await.json();
    let found = found.as_array().unwrap().iter();
    let found = found.filter(|it| it["check"] == check && it["status"] != "ok");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    found
        .map(|it| {
            let [status, told, advice] = ["status", "finding", "advice"].map(|key| text(&it[key]));
            format!("{status} {told} → {advice}")
        })
        .collect()
}

/// What the last cut is about, and whether it holds.
async fn last_cut(plane: &Plane) -> (String, String) {
    let cuts = plane.admin("GET", "/v1/cuts", None).await.json();
    let cut = cuts.as_array().unwrap().last().unwrap().clone();
    let by = cut["by"].clone();
    assert!(by["type"].is_string(), "{cut}");
    let text = |key: &str| cut[key].as_str().unwrap().to_owned();
    (text("kind"), text("validity"))
}

async fn serving(plane: &Plane) -> String {
    let ready = plane.ask("GET", "/readyz").send().await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    ready.json()["parts"][0]["detail"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_stop_is_seen_until_it_is_lifted() {
    let plane = Plane::start().await;
    plane.agent("triage").await;
    assert_eq!(trouble(&plane, "stops").await, [""; 0]);
    assert_eq!(serving(&plane).await, "calls are taken");
    let upstream = json!({"upstream": "files"});
    let agent = json!({"agent": "triage"});
    for (order, told, undo) in [
        (
            json!({}),
            "everything is STOPPED since",
            "`tipstaff kill --undo`",
        ),
        (
            upstream,
            "upstream `files` is STOPPED since",
            "`tipstaff kill --upstream files --undo`",
        ),
        (
            agent,
            "1 agent is suspended: `triage` since",
            "agent resume",
        ),
    ] {
        let kill = plane.admin("POST", "/v1/kill", Some(order.clone())).await;
        assert_eq!(kill.status, 200, "{}", kill.text());
        let found = trouble(&plane, "stops").await;
        let [one] = &found[..] else {
            panic!("{order}: {found:?}")
        };
        assert!(one.contains(told) && one.contains(undo), "{one}");
        assert_eq!(last_cut(&plane).await.1, "in-force");
        let all = order.as_object().unwrap().is_empty();
        assert_eq!(serving(&plane).await.contains("everything is stopped"), all);
        let mut back = order.clone();
        back["undo"] = true.into();
        plane.admin("POST", "/v1/kill", Some(back)).await;
        assert_eq!(trouble(&plane, "stops").await, [""; 0], "{order}");
        assert_eq!(last_cut(&plane).await.1, "lifted");
    }
    plane.command("/v1/sponsors/maya/suspend").await;
    let found = trouble(&plane, "stops").await;
    assert!(
        found[0].starts_with("warn 1 sponsor is suspended"),
        "{found:?}"
    );
    assert!(found[0].contains("`maya` since"), "{found:?}");
    plane.command("/v1/agents/triage/retire").await;
    assert_eq!(
        last_cut(&plane).await,
        ("agent-retired".to_owned(), "in-force".to_owned())
    );
    plane.end().await;
}

#[tokio::test]
async fn agents_that_wait_for_their_sponsor_are_seen_and_so_is_that_nobody_can_accept_them() {
    let plane = Plane::with(|setup| setup.asserted = "refuse").await;
    plane.register("triage", json!({})).await;
    let found = trouble(&plane, "stops").await;
    assert!(found[0].contains("1 agent is not accepted"), "{found:?}");
    let found = trouble(&plane, "sign-in").await;
    assert!(
        found[0].starts_with("fail no agent that is added can ever run"),
        "{found:?}"
    );
    plane.end().await;
}

#[tokio::test]
async fn a_directory_that_does_not_answer_is_seen_with_the_cause_and_whom_it_holds() {
    let asked = "[directory]\nurl = \"http://127.0.0.1:9/scim\"\nevery_s = 1\nfresh_s = 60\n";
    let plane = Plane::with(|setup| setup.tail = asked.to_owned()).await;
    plane.agent("triage").await;
    let link = json!({"external_id": "00u1"});
    let linked = plane
        .admin("POST", "/v1/sponsors/maya/link", Some(link))
        .await;
    assert_eq!(linked.status, 200, "{}", linked.text());
    until("it is seen", async || {
        let found = trouble(&plane, "directory").await;
        let is_told = |it: &String| {
            it.starts_with("warn http://127.0.0.1:9/scim/Users does not answer about 1 sponsor")
                && it.contains("refused")
        };
        found.iter().any(is_told)
    })
    .await;
    plane.clock.advance(Duration::from_secs(61));
    until("it is seen whom that stopped", async || {
        let found = trouble(&plane, "directory").await;
        found
            .iter()
            .any(|it| it.contains("SUSPENDED for its silence: `maya`"))
    })
    .await;
    plane.end().await;
}

#[tokio::test]
async fn a_directory_is_not_asked_without_the_token_that_was_configured() {
    let mut plane = Plane::start().await;
    plane.stop().await.unwrap();
    let asked = "[directory]\nurl = \"https://idp.example/scim\"\ntoken = \"env:NO_SUCH_TOKEN\"\n";
    plane.reconfigure(|setup| setup.tail = asked.to_owned());
    let size = |plane: &Plane| {
        let log = store::OfflineLog::open(&plane.data(), vocab::LogName::Control);
        ledger::LogReader::size(&log.unwrap())
    };
    let before = size(&plane);
    let error = plane.boot().await.unwrap_err().to_string();
    assert!(
        error.contains("`directory.token`") && error.contains("`NO_SUCH_TOKEN` is not set"),
        "{error}"
    );
    assert_eq!(size(&plane), before, "nothing is on record");
}

#[tokio::test]
async fn a_transfer_ended_what_ran_then() {
    let plane = Plane::start().await;
    plane.agent("triage").await;
    plane.register("other", json!({"sponsor": "otto"})).await;
    let to = json!({"to": "otto"});
    let moved = plane
        .admin("POST", "/v1/agents/triage/transfer", Some(to))
        .await;
    assert_eq!(moved.status, 200, "{}", moved.text());
    assert_eq!(
        last_cut(&plane).await,
        ("agent-transferred".to_owned(), "ended".to_owned())
    );
    plane.end().await;
}

#[tokio::test]
async fn what_is_over_is_over_also_while_everything_is_stopped() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let kill = plane.admin("POST", "/v1/kill", Some(json!({}))).await;
    assert_eq!(kill.status, 200, "{}", kill.text());
    let path = format!("/v1/instances/{}", token.instance);
    let status = async || plane.admin("GET", &path, None).await.json()["status"].clone();
    assert_eq!(status().await, "suspended");
    plane.clock.advance(Duration::from_hours(24 * 30));
    assert_eq!(status().await, "expired");
    plane.end().await;
}

#[tokio::test]
async fn a_link_to_the_directory_is_not_replaced_by_mistake() {
    let plane = Plane::start().await;
    plane.agent("triage").await;
    plane.register("other", json!({"sponsor": "otto"})).await;
    let link = async |who: &str, id: &str, replace: bool| {
        let path = format!("/v1/sponsors/{who}/link");
        let body = json!({"external_id": id, "replace": replace});
        plane.admin("POST", &path, Some(body)).await
    };
    assert_eq!(
        link("maya", "00u1", false).await.json()["external_id"],
        "00u1"
    );
    assert_eq!(link("maya", "00u1", false).await.json()["changed"], false);
    let other = link("maya", "00u2", false).await;
    assert_eq!(other.status, 409, "{}", other.text());
    assert!(other.text().contains("has the external id `00u1` already"));
    let taken = link("otto", "00u1", true).await;
    assert_eq!(taken.status, 409, "{}", taken.text());
    assert!(taken.text().contains("sponsor `maya` has that external id"));
    assert_eq!(
        link("maya", "00u2", true).await.json()["external_id"],
        "00u2"
    );
    plane.end().await;
}
