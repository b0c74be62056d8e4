//! `tipstaff secret`, with a running node and without.

use std::fs;
use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::node::{Folder, Node, tipstaff};

const VALUE: &str = "distinctive-value-of-it";

/// What the command says when it is given `value`, and that it worked.
async fn set(folder: &Folder, name: &str, value: &str) -> String {
    let mut command = tipstaff(&folder.config(), &["secret", "set", name]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(value.as_bytes()).await.unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn holds_nothing(text: &str) {
    assert!(!text.contains("distinctive"), "{text}");
}

#[tokio::test]
async fn secrets_are_kept_listed_and_removed_without_a_node_and_with_one() {
    let upstream = "[upstream.files]\nurl = \"http://127.0.0.1:9/mcp\"\n\
                    headers = { Authorization = \"Bearer {vault:github}\" }\n";
    let folder = Folder::new(upstream).await;
    assert_eq!(folder.json(&["secret", "list"]).await, json!([]));
    let made = fs::create_dir_all(folder.node("data"));
    made.unwrap();
    let told = set(&folder, "github", &format!("{VALUE}\n")).await;
    holds_nothing(&told);
    assert!(told.contains("next start"), "{told}");
    let listed = folder.json(&["secret", "list"]).await;
    assert_eq!(listed[0]["name"], "github");
    assert_eq!(
        listed[0]["used_by"],
        json!(["upstream.files.headers.authorization"])
    );
    holds_nothing(&listed.to_string());
    // Of a folder that is named.
    let data = folder.node("data");
    let named = ["secret", "list", "--data", data.to_str().unwrap()];
    assert_eq!(folder.json(&named).await[0]["name"], "github");
    // A value is never an argument, and an empty one is none.
    let wrong = folder.output(&["secret", "set", "github", VALUE]).await;
    assert_eq!(wrong.status.code(), Some(2));
    let empty = folder.output(&["secret", "set", "github"]).await;
    assert_eq!(empty.status.code(), Some(1));
    let node = Node::up(folder, &[]).await;
    let file = node.folder.beside("secret.txt");
    fs::write(&file, "another-distinctive-value").unwrap();
    let from = [
        "secret",
        "set",
        "slack",
        "--from-file",
        file.to_str().unwrap(),
    ];
    let told = node.folder.json(&from).await;
    assert_eq!(told["records"].as_array().map(Vec::len), Some(1), "{told}");
    let named = [&named[..], &["--json"]].concat();
    assert!(
        node.folder.output(&named).await.status.success(),
        "reading needs no lock"
    );
    let elsewhere = ["secret", "rm", "slack", "--data", data.to_str().unwrap()];
    let locked = node.folder.output(&elsewhere).await;
    assert_eq!(locked.status.code(), Some(1), "a node serves it");
    let removed = node.folder.json(&["secret", "rm", "slack"]).await;
    assert_eq!(removed["changed"], true);
    holds_nothing(&node.log());
    let folder = node.stop().await;
    let vault = fs::read(data.join("vault")).unwrap();
    holds_nothing(&String::from_utf8_lossy(&vault));
    let again = folder.output(&["secret", "rm", "slack"]).await;
    assert_eq!(again.status.code(), Some(1));
}
