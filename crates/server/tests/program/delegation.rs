//! `tipstaff token` hands on a part of what an instance may do, or one call; `instance tree` and
//! `trace` draw it.

use std::fs;

use serde_json::{Value, json};

use crate::commands::help_desk;
use crate::node::{Folder, Node};

/// Asks for a token of `triage` for the help desk, with more said, and keeps the answer in a file.
async fn token(folder: &Folder, name: &str, more: &[&str]) -> (Value, String) {
    let key = folder.key();
    let who = ["token", "--agent", "triage", "--key", key.to_str().unwrap()];
    let what = ["--purpose", "triage", "--upstream", "desk"];
    let said = folder.run(&[&who[..], &what[..], more].concat()).await;
    let file = folder.beside(name);
    fs::write(&file, &said).unwrap();
    let said = serde_json::from_str(&said).unwrap();
    (said, file.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_part_is_handed_on_and_drawn() {
    let node = Node::start(&help_desk()).await;
    let folder = &node.folder;
    let file = |name: &str, text: &Value| {
        let file = folder.beside(name);
        fs::write(&file, text.to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (root, first) = token(folder, "first", &[]).await;
    let part = json!([{"type": "mcp_tool", "locations": ["desk"], "identifier": "refund",
                       "arguments": {"amount": {"max": 10}}}]);
    let details = file("details", &part);
    let handing_on = [
        "--from",
        &first,
        "--authorization-details",
        &details,
        "--max-calls",
        "2",
    ];
    let (child, second) = token(folder, "second", &handing_on).await;
    assert_eq!(child["authorization_details"][0]["identifier"], "refund");
    assert_eq!(child["token_type"], "DPoP");
    // Its own key is another than the one above proves; with that one it cannot hand on.
    let below = format!("{}.below.dpop", folder.key().to_str().unwrap());
    let third = folder.beside("third.dpop");
    let third = ["--dpop-key", third.to_str().unwrap(), "--lifetime-s", "60"];
    let from = ["--from", &second, "--from-key", &below];
    let (leaf, _) = token(folder, "third", &[&from[..], &third[..]].concat()).await;
    assert_eq!(leaf["expires_in"], 60);
    // Its next token is had by its name. Its key alone would start one without the bounds, and a
    // request that is refused leaves no key behind.
    let (on, _) = token(
        folder,
        "on",
        &[
            "--dpop-key",
            &below,
            "--instance",
            child["instance"].as_str().unwrap(),
        ],
    )
    .await;
    assert_eq!(on["instance"], child["instance"]);
    assert_eq!(on["authorization_details"], child["authorization_details"]);
    let unused = folder.beside("unused.dpop");
    for (key, more, told) in [
        (&*below, &[][..], "--instance i-"),
        (unused.to_str().unwrap(), &["--from", &second], "--from-key"),
    ] {
        let agent = folder.key();
        let who = [
            "token",
            "--agent",
            "triage",
            "--key",
            agent.to_str().unwrap(),
        ];
        let what = [
            "--purpose",
            "triage",
            "--upstream",
            "desk",
            "--dpop-key",
            key,
        ];
        let refused = folder.output(&[&who[..], &what[..], more].concat()).await;
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains(told), "{said}");
    }
    assert!(!unused.exists());
    let wider = file(
        "wider",
        &json!([{"type": "mcp_tool", "locations": ["desk"], "identifier": "*"}]),
    );
    let key = folder.key();
    let who = ["token", "--agent", "triage", "--key", key.to_str().unwrap()];
    let what = [
        "--purpose",
        "triage",
        "--upstream",
        "desk",
        "--authorization-details",
        &wider,
    ];
    let refused = folder
        .output(&[&who[..], &what[..], &from[..], &third[..]].concat())
        .await;
    assert_eq!(refused.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(said["error"], "invalid_authorization_details");

    let trees = folder.json(&["instance", "tree"]).await;
    let tree = &trees[0];
    assert_eq!(tree["id"], root["instance"]);
    let hop = &tree["children"][0];
    assert_eq!(
        (&hop["id"], &hop["max_calls"]),
        (&child["instance"], &json!(2))
    );
    assert_eq!(hop["children"][0]["id"], leaf["instance"]);
    let leaf = leaf["instance"].as_str().unwrap();
    assert_eq!(folder.json(&["instance", "tree", leaf]).await, trees);
    let drawn = folder.run(&["instance", "tree"]).await;
    assert!(
        drawn.contains(r#"may: refund of desk, amount {"max":10}"#),
        "{drawn}"
    );
    assert!(
        drawn.contains(&format!("   └─ {leaf} of triage")),
        "{drawn}"
    );
    let traced = folder.json(&["trace", leaf]).await;
    let chain = traced["chain"].as_array().unwrap();
    let ids: Vec<_> = chain.iter().map(|hop| hop["instance"].clone()).collect();
    assert_eq!(
        ids,
        [
            root["instance"].clone(),
            child["instance"].clone(),
            leaf.into()
        ]
    );
    let drawn = folder.run(&["trace", leaf]).await;
    assert!(drawn.contains("sponsors agent triage, asserted"), "{drawn}");
    assert!(drawn.contains("by token exchange (control/"), "{drawn}");
    node.stop().await;
}

#[tokio::test]
async fn a_credential_for_one_call_is_got_with_a_file() {
    let node = Node::start(&help_desk()).await;
    let folder = &node.folder;
    let call = folder.beside("call");
    fs::write(
        &call,
        r#"{"name":"refund","arguments":{"order": "1", "amount":5}}"#,
    )
    .unwrap();
    let once = ["--once", "--call", call.to_str().unwrap()];
    let (given, _) = token(folder, "once", &once).await;
    assert_eq!(
        (&given["token_type"], &given["expires_in"]),
        (&json!("DPoP"), &json!(60))
    );
    let digest = |text: &str| json!(vocab::Digest::of(text.as_bytes()).to_string());
    let bound = |given: &Value| given["authorization_details"][0]["arguments_sha256"].clone();
    assert_eq!(bound(&given), digest(r#"{"order":"1","amount":5}"#));
    let exact = [&once[..], &["--exact"]].concat();
    let (exact, _) = token(folder, "exact", &exact).await;
    assert_eq!(bound(&exact), digest(r#"{"order": "1", "amount":5}"#));
    // Of an instance that is there already as well.
    let (root, first) = token(folder, "first", &[]).await;
    let (again, _) = token(folder, "again", &[&once[..], &["--from", &first]].concat()).await;
    assert_ne!(again["instance"], given["instance"]);
    let seen = folder
        .json(&["instance", "show", again["instance"].as_str().unwrap()])
        .await;
    assert_eq!(
        (&seen["parent"], &seen["via"]),
        (&root["instance"], &json!("once"))
    );
    for (arguments, why) in [
        (&["--once"][..], "--call"),
        (&["--call", "x"], "--once"),
        (&["--max-calls", "1"], "--from"),
        (&["--once", "--call", "x", "--bearer"], "--bearer"),
    ] {
        let key = folder.key();
        let who = ["token", "--agent", "triage", "--key", key.to_str().unwrap()];
        let what = ["--purpose", "triage", "--upstream", "desk"];
        let refused = folder
            .output(&[&who[..], &what[..], arguments].concat())
            .await;
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains(why),
            "{arguments:?}"
        );
    }
    fs::write(&call, "[]").unwrap();
    let key = folder.key();
    let who = ["token", "--agent", "triage", "--key", key.to_str().unwrap()];
    let what = ["--purpose", "triage", "--upstream", "desk"];
    let refused = folder
        .output(&[&who[..], &what[..], &once[..]].concat())
        .await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is neither a `tools/call` request"));
    node.stop().await;
}
