//! What commands say when they do not do what they were asked, and what they warn of.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::node::{Folder, Node, until};

const NO_NODE: i32 = 1;

/// Runs a command that fails, for people and for programs: both are told the same.
pub(crate) async fn fails(folder: &Folder, arguments: &[&str], code: i32, why: &str) -> Value {
    let plain = folder.output(arguments).await;
    let errors = String::from_utf8(plain.stderr).unwrap();
    assert_eq!(plain.status.code(), Some(code), "{arguments:?}: {errors}");
    assert!(errors.contains(why), "{arguments:?}: {errors}");
    let output = folder.output(&[arguments, &["--json"]].concat()).await;
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Value =
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("{arguments:?}: {said}"));
    let error = said["error"].as_str().unwrap_or_default();
    assert!(error.contains(why), "{arguments:?}: {said}");
    said
}

pub(crate) fn help_desk() -> String {
    let program = json!(env!("CARGO_BIN_EXE_tipstaff"));
    let count = json!(std::env::temp_dir().join("tipstaff-test-count"));
    format!(
        "[upstream.desk]\ncommand = [{program}, \"__upstream\", \"--count\", {count}]\nconfine = \"off\"\n"
    )
}

#[tokio::test]
async fn programs_are_told_why_a_command_failed() {
    let folder = Folder::new("").await;
    for (arguments, code, why) in [
        (&["agent", "list"][..], NO_NODE, "no node is running"),
        (
            &["sponsor", "suspend", "maya"],
            NO_NODE,
            "no node is running",
        ),
        (&["instance", "list"], NO_NODE, "no node is running"),
        (&["policy", "apply"], NO_NODE, "no node is running"),
        (&["trace", "calls/1"], NO_NODE, "no node is running"),
        (&["ledger", "proof", "99"], 1, "there are no logs in"),
        (&["ledger", "verify"], 1, "there are no logs in"),
        (
            &["ledger", "verify", "--data", "nowhere"],
            1,
            "there is no folder `nowhere`, which `--data` names",
        ),
        (
            &["ledger", "verify", "--vkeys", "nowhere"],
            1,
            "there is no folder `nowhere`, which `--vkeys` names",
        ),
        (
            &["ledger", "verify", "--anchor", "nowhere"],
            1,
            "there are no logs in",
        ),
        (&["ledger", "proof", "x"], 2, "`x` is not an entry"),
        (
            &["init", folder.node("").to_str().unwrap()],
            1,
            "is there already",
        ),
        (
            &[
                "token",
                "--agent",
                "a",
                "--key",
                "none",
                "--purpose",
                "p",
                "--upstream",
                "u",
            ],
            1,
            "none",
        ),
        (
            &[
                "token",
                "--agent",
                "a",
                "--key",
                "none",
                "--purpose",
                "p",
                "--upstream",
                "u",
                "--config",
                "/nowhere.toml",
            ],
            1,
            "cannot read `/nowhere.toml`",
        ),
        (&["agent", "lst"], 2, "lst"),
        (&["agent", "show"], 2, "required"),
    ] {
        fails(&folder, arguments, code, why).await;
    }
    fs::write(folder.config(), "lisetn = 1").unwrap();
    fails(&folder, &["policy", "check"], 1, "listen").await;
}

#[tokio::test]
async fn names_that_nobody_has_are_told_with_those_there_are() {
    let node = Node::start(&help_desk()).await;
    let folder = &node.folder;
    fails(
        folder,
        &["instance", "list", "--agent", "nobody"],
        1,
        "there is no agent `nobody`",
    )
    .await;
    for verb in ["show", "grant", "refuse"] {
        let why = "there is no approval `ap-none`";
        fails(folder, &["approval", verb, "ap-none"], 1, why).await;
    }
    fails(
        folder,
        &["ledger", "verify", "--anchor", "nowhere"],
        1,
        "there is no checkpoint or folder `nowhere`, which `--anchor` names",
    )
    .await;
    let said = fails(
        folder,
        &["up", "--listen", "127.0.0.1:0"],
        1,
        "is in use by process",
    )
    .await;
    assert!(
        said["error"]
            .as_str()
            .unwrap()
            .ends_with(&node.pid().to_string()),
        "{said}"
    );
    until("the list", || {
        node.log()
            .contains("upstream desk are listed")
            .then_some(())
    })
    .await;
    let (sponsor, key) = (
        ["--sponsor", "maya", "--purpose", "triage"],
        folder.beside("key"),
    );
    let add = [
        "agent",
        "add",
        "other",
        "--allow",
        "dsk/refund",
        "--allow",
        "desk/refnd",
        "--allow",
        "desk/re*",
        "--allow",
        "desk:resources/read",
        "--allow",
        "desk:resource/read",
        "--key-out",
        key.to_str().unwrap(),
    ];
    let added = folder.json(&[&add[..], &sponsor[..]].concat()).await;
    assert_eq!(
        added["warnings"],
        json!([
            "`dsk/refund` allows nothing yet: there is no upstream `dsk`; did you mean `desk`?",
            "`desk/refnd` allows nothing yet: `desk` has no tool `refnd`; did you mean `refund`?",
            "`desk:resource/read` allows nothing: no method `resource/read` is decided by policy; \
             did you mean `resources/read`?",
        ])
    );
    let key = folder.key();
    let who = [
        "--agent",
        "triage",
        "--key",
        key.to_str().unwrap(),
        "--purpose",
        "triage",
    ];
    for command in [&["connect", "dsk"][..], &["token", "--upstream", "dsk"]] {
        let output = folder.output(&[command, &who[..]].concat()).await;
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("did you mean `desk`?"), "{errors}");
        assert!(errors.contains("there are: desk"), "{errors}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_trace_shows_the_arguments_until_they_are_erased() {
    let node = Node::start(&help_desk()).await;
    let mut client = node.connect("desk");
    let arguments = json!({"path": "/public/a", "more": "é"});
    client.call("read-article", arguments.clone()).await;
    let long = format!("/public/{}", "é".repeat(400));
    client.call("read-article", json!({"path": long})).await;
    let instance = node.instance().await;
    let folder = &node.folder;
    let trace = async || folder.json(&["trace", &instance]).await["decisions"][0].clone();
    let shown = async || folder.run(&["trace", &instance]).await;
    assert_eq!(trace().await["arguments"], arguments);
    let text = shown().await;
    assert!(
        text.contains(r#"with {"path":"/public/a","more":"é"}"#),
        "{text}"
    );
    // A long one is cut for people, and whole for programs.
    assert!(text.contains("éé…\n") && !text.contains(&long), "{text}");
    let whole = folder.json(&["trace", &instance]).await["decisions"][1]["arguments"].clone();
    assert_eq!(whole, json!({"path": long}));
    let index = trace().await["record"]["index"].to_string();
    let record = folder.json(&["trace", &format!("calls/{index}")]).await;
    let handle = record["body"]["facts"]["key"].as_str().unwrap();
    folder.run(&["sponsor", "erase", handle]).await;
    assert_eq!(trace().await["arguments"], Value::Null);
    let text = shown().await;
    assert!(text.contains("with arguments that were erased"), "{text}");
    assert!(!text.contains("/public/a"), "{text}");
    node.stop().await;
}

#[tokio::test]
async fn a_named_administrator_comes_and_goes_on_record() {
    let node = Node::start(&help_desk()).await;
    let folder = &node.folder;
    let (key, other) = (folder.beside("noor.key"), folder.beside("other.key"));
    let (key, other) = (key.to_str().unwrap(), other.to_str().unwrap());
    let told = folder
        .run(&["admin", "add", "noor", "--key-out", key])
        .await;
    assert!(told.contains("(on record as control/"), "{told}");
    // What is refused leaves no key behind, and a file that is there is kept.
    let secret = fs::read_to_string(key).unwrap();
    for (name, out, why) in [
        ("noor", other, "remove it first"),
        ("uid:0", other, "cannot be an administrator's name"),
        ("other", key, "cannot write the key file"),
    ] {
        fails(folder, &["admin", "add", name, "--key-out", out], 1, why).await;
    }
    assert!(!fs::exists(other).unwrap());
    assert_eq!(fs::read_to_string(key).unwrap(), secret);
    assert_eq!(folder.json(&["admin", "list"]).await[0]["id"], "noor");
    let findings = folder.output(&["doctor"]).await.stdout;
    let findings = String::from_utf8(findings).unwrap();
    assert!(findings.contains("and by name `noor`"), "{findings}");
    let suspend = ["agent", "suspend", "triage", "--admin-key", key];
    let told = folder.run(&suspend).await;
    assert!(told.contains("is now suspended (on record as"), "{told}");
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(key, open).unwrap();
    let resume = ["agent", "resume", "triage", "--admin-key", key];
    let warned = folder.output(&resume).await.stderr;
    let warned = String::from_utf8(warned).unwrap();
    assert!(warned.contains("can be read by others; chmod"), "{warned}");
    let told = folder.run(&["admin", "remove", "noor"]).await;
    assert!(
        told.contains("noor is now revoked (on record as control/"),
        "{told}"
    );
    fails(
        folder,
        &suspend,
        1,
        "not signed by an administrator's key that this node knows",
    )
    .await;
    fails(
        folder,
        &["admin", "remove", "noor"],
        1,
        "no administrator `noor`",
    )
    .await;
    node.stop().await;
}

#[tokio::test]
async fn what_is_run_again_is_signed_with_the_keys_given() {
    let node = Node::start(&help_desk()).await;
    let mut client = node.connect("desk");
    client.call("read-article", json!({"path": "/a"})).await;
    drop(client);
    let folder = node.stop().await;
    let trusted = folder.beside("trusted");
    let named = ["--vkeys", trusted.to_str().unwrap()];
    fs::create_dir(&trusted).unwrap();
    for log in ["control", "calls"] {
        let name = format!("{log}.vkey");
        fs::copy(folder.node("data").join(&name), trusted.join(&name)).unwrap();
    }
    let replayed = folder
        .json(&[&["ledger", "replay"], &named[..]].concat())
        .await;
    for (class, count) in [("same", 1), ("different", 0), ("erased", 0), ("sealed", 0)] {
        assert_eq!(replayed[class], count, "{replayed}");
    }
    // Another's keys, no keys, and what is no key.
    let other = Folder::new("").await;
    for log in ["control", "calls"] {
        let name = format!("{log}.vkey");
        fs::copy(other.node("data").join(&name), trusted.join(&name)).unwrap();
    }
    let why = [
        "does not vouch for `",
        "the public key of `",
        "the public key of `",
    ];
    for (nth, why) in why.into_iter().enumerate() {
        for log in ["control", "calls"] {
            let path = trusted.join(format!("{log}.vkey"));
            match nth {
                0 => {}
                1 => fs::write(path, "no key").unwrap(),
                _ => fs::remove_file(path).unwrap(),
            }
        }
        for command in ["replay", "export"] {
            fails(
                &folder,
                &[&["ledger", command], &named[..]].concat(),
                1,
                why,
            )
            .await;
        }
    }
    // A policy set that is gone is neither the same nor a crash.
    fs::remove_dir_all(folder.node("data/blobs")).unwrap();
    let output = folder.output(&["ledger", "replay", "--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let replayed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&replayed["same"], &replayed["missing"]),
        (&json!(0), &json!(1))
    );
}

/// A volume that is not mounted looks like a folder in which nothing ever was.
#[tokio::test]
async fn keys_without_their_data_begin_no_second_history() {
    let folder = Node::start("").await.stop().await;
    let (data, beside) = (folder.node("data"), folder.beside("data"));
    fs::rename(&data, &beside).unwrap();
    let up = ["up", "--listen", "127.0.0.1:0"];
    for _ in 0..2 {
        let why = "none of the logs that they sign";
        fails(&folder, &up, 1, why).await;
        fs::create_dir_all(&data).unwrap();
    }
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&beside, &data).unwrap();
    let node = Node::up(folder, &[]).await;
    let agents = node.folder.json(&["agent", "list"]).await;
    assert_eq!(agents[0]["id"], "triage", "{agents}");
}

#[tokio::test]
async fn owners_are_named_and_taken_away() {
    let node = Node::start("").await;
    let folder = &node.folder;
    let owners = ["agent", "owners", "triage"];
    let said = |more: &'static [&'static str]| {
        let arguments = [&owners[..], more].concat();
        async move { folder.run(&arguments).await }
    };
    let named = said(&["--business-owner", "maya", "--policy-owner", "maya"]).await;
    let expected = "agent triage is owned by maya (business), nobody (technical), maya (policy)";
    assert!(named.contains(expected), "{named}");
    let again = said(&["--business-owner", "maya", "--policy-owner", "maya"]).await;
    assert!(again.contains("as before"), "{again}");
    // Whoever is not named is none any more.
    let fewer = said(&["--technical-owner", "maya"]).await;
    assert!(
        fewer.contains("nobody (business), maya (technical), nobody (policy)"),
        "{fewer}"
    );
    let none = said(&["--none"]).await;
    assert!(
        none.contains("nobody (business), nobody (technical), nobody (policy)"),
        "{none}"
    );
    let shown = folder.json(&["agent", "show", "triage"]).await;
    assert_eq!(
        shown["owners"],
        json!({"business": null, "technical": null, "policy": null})
    );
    fails(folder, &owners, 1, "`--none` takes all away").await;
    let both = [&owners[..], &["--none", "--policy-owner", "maya"]].concat();
    fails(folder, &both, 2, "cannot be used with").await;
}

#[tokio::test]
async fn a_review_shows_all_or_those_that_are_due() {
    let node = Node::start("").await;
    let folder = &node.folder;
    let due = ["agent", "review", "--due"];
    let ids = |found: &Value| {
        let agents = found["agents"].as_array().unwrap().clone();
        let ids = agents
            .iter()
            .map(|it| it["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids(&folder.json(&["agent", "review"]).await), ["triage"]);
    assert_eq!(ids(&folder.json(&due).await), [""; 0]);
    assert!(folder.run(&due).await.contains("No agent to look at."));
    folder.run(&["sponsor", "suspend", "maya"]).await;
    assert_eq!(ids(&folder.json(&due).await), ["triage"]);
    let shown = folder.run(&due).await;
    assert!(shown.contains("orphaned"), "{shown}");
    let said = folder.run(&["agent", "reviewed", "triage"]).await;
    assert!(said.contains("is on record as reviewed at"), "{said}");
}
