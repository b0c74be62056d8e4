//! Policy files, as a development node takes them.

use std::fs;

use serde_json::json;

use crate::node::{Folder, Node, until};

/// A server with one tool, whose name is in a file.
const SERVER: &str = "\
import json, sys
for line in sys.stdin:
    it = json.loads(line)
    tool = {'name': open(sys.argv[1]).read(), 'inputSchema': {'type': 'object'}}
    print(json.dumps({'jsonrpc': '2.0', 'id': it['id'], 'result': {'resultType': 'complete',
        'supportedVersions': ['2026-07-28'], 'capabilities': {'tools': {}}, 'tools': [tool],
        'ttlMs': 0, 'cacheScope': 'public'}}), flush=True)
";

#[tokio::test]
async fn files_that_fit_only_the_next_tool_list_come_into_force_with_it() {
    let folder = Folder::new("").await;
    let (tool, policies) = (folder.beside("tool"), folder.node("policies/first.cedar"));
    let name = |name: &str| {
        let policy = format!("permit (principal, action == Action::\"desk/{name}\", resource);");
        fs::write(&tool, name).unwrap();
        fs::write(&policies, policy).unwrap();
    };
    let command = json!(["python3", "-c", SERVER, tool]);
    let config = fs::read_to_string(folder.config()).unwrap();
    let config = format!("{config}\n[upstream.desk]\ncommand = {command}\nconfine = \"off\"\n");
    fs::write(folder.config(), config).unwrap();
    name("old");
    let node = Node::up(folder, &[]).await;
    let has = |node: &Node, words: &str| node.log().contains(words).then_some(());
    until("the list", || has(&node, "upstream desk are listed: 1")).await;
    let folder = node.stop().await;
    name("new");
    let node = Node::up(folder, &[]).await;
    // At first the list is the one on record.
    let refused = "The policy files are not in force";
    has(&node, refused).unwrap_or_else(|| panic!("{}", node.log()));
    until("the policies", || has(&node, "is in force: 1 policy")).await;
    node.stop().await;
}

#[tokio::test]
async fn no_policy_and_no_case_are_told_as_such() {
    let folder = Folder::new("").await;
    assert_eq!(
        folder.run(&["policy", "check"]).await,
        "1 policy is valid\n"
    );
    fs::remove_file(folder.node("policies/first.cedar")).unwrap();
    assert_eq!(
        folder.run(&["policy", "check"]).await,
        "There is no policy, so every call is denied.\n"
    );
    assert_eq!(
        folder.run(&["policy", "test"]).await,
        "There is no test case; they lie beside the policies, in `NAME.test.yaml`.\n"
    );
}
