//! Upstreams that cannot be used: the node runs, and says what is wrong with which.

use std::fs;

use serde_json::{Value, json};

use crate::node::{Folder, Node, until, within};

/// A start that fails by the configuration leaves no word of a node that did not stop.
#[tokio::test]
async fn an_address_that_is_taken_is_told_before_anything_is_on_record() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::new("").await;
    let output = folder.output(&["up", "--listen", &address]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("cannot listen on {address}")),
        "{said}"
    );
    assert_eq!(folder.run(&["ledger", "export"]).await, "");
    let node = Node::up(folder, &[]).await;
    assert!(!node.log().contains("did not stop"), "{}", node.log());
}

/// Whatever is wrong with one upstream, the node starts, and each says what it is.
#[tokio::test]
async fn one_upstreams_trouble_is_its_alone() {
    let node = Node::start(
        r#"
[upstream.unset]
command = ["cat"]
env = { TOKEN = "env:TIPSTAFF_TEST_IS_NOT_SET" }

[upstream.unread]
command = ["cat"]
env = { TOKEN = "file:/nonexistent/token" }

[upstream.absent]
command = ["/nonexistent/server"]

[upstream.dies]
command = ["sh", "-c", "echo 'I want a token' >&2; exit 3"]

[upstream.strange]
url = "http://127.0.0.1:1/mcp"

[upstream.well]
command = ["python3", "-c", "import json, sys\nfor line in sys.stdin:\n    it = json.loads(line)\n    print(json.dumps({'jsonrpc': '2.0', 'id': it['id'], 'result': {'resultType': 'complete', 'supportedVersions': ['2026-07-28'], 'capabilities': {'tools': {}}, 'tools': [{'name': 'tell', 'inputSchema': {'type': 'object'}}], 'ttlMs': 0, 'cacheScope': 'public', 'content': []}}), flush=True)"]
"#,
    )
    .await;
    let why = [
        (
            "unset",
            "the environment variable `TIPSTAFF_TEST_IS_NOT_SET` is not set",
        ),
        ("unread", "cannot read `/nonexistent/token`"),
        (
            "absent",
            "could not start `/nonexistent/server`: there is no such program",
        ),
        ("dies", "the upstream's process ended: exit status 3"),
        ("strange", "Connection refused"),
    ];
    for (name, why) in why {
        let mut client = node.connect(name);
        let answer = client.call("tell", json!({})).await;
        let said = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert!(said.contains("tipstaff doctor"), "{name}: {answer}");
        assert!(
            !answer.to_string().contains(why),
            "agents are not told: {answer}"
        );
        let decision = &answer["result"]["_meta"]["dev.tipstaff/decision"];
        assert_eq!(decision["effect"], "deny", "{answer}");
        assert!(decision["record"].is_object(), "{answer}");
    }
    let mut client = node.connect("well");
    let answer = client.call("tell", json!({})).await;
    let decision = &answer["result"]["_meta"]["dev.tipstaff/decision"];
    assert_eq!(decision["effect"], "allow", "{answer}");

    let doctor = within("doctor", node.folder.output(&["--json", "doctor"])).await;
    assert_eq!(doctor.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let found = found.as_array().or_else(|| found["findings"].as_array());
    let found: Vec<String> = found
        .unwrap()
        .iter()
        .filter(|it| it["status"] == "fail")
        .map(|it| it["finding"].as_str().unwrap().to_owned())
        .collect();
    // A reference that gives nothing is named by its key, too.
    let (keys, found): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|it| it.starts_with("`upstream."));
    for key in ["`upstream.unset.env.TOKEN`", "`upstream.unread.env.TOKEN`"] {
        assert!(keys.iter().any(|it| it.starts_with(key)), "{keys:#?}");
    }
    assert_eq!((found.len(), keys.len()), (why.len(), 2), "{found:#?}");
    for (name, why) in why {
        let is_said = |it: &&String| it.starts_with(&format!("`{name}`")) && it.contains(why);
        assert!(found.iter().any(|it| is_said(&it)), "{name}: {found:#?}");
    }
    let words = "its last words: I want a token";
    assert!(found.iter().any(|it| it.contains(words)), "{found:#?}");
    let log = fs::read_to_string(node.folder.beside("log")).unwrap();
    for text in [words, "The tools of upstream unset could not be read"] {
        assert!(log.contains(text), "{log}");
    }
}

#[tokio::test]
async fn what_is_out_of_date_is_said() {
    let upstream = "[upstream.desk]\nurl = \"http://127.0.0.1:9/mcp\"\nmode = \"observe\"\n\
                    observe_until = \"2026-01-31\"\n";
    let node = Node::start(upstream).await;
    let warned = async |part: &str| {
        let found = node.folder.output(&["doctor"]).await.stdout;
        let found = String::from_utf8(found).unwrap();
        let of_part: Vec<_> = found.lines().filter(|it| it.contains(part)).collect();
        assert!(of_part.iter().all(|it| it.starts_with("warn")), "{found}");
        !of_part.is_empty()
    };
    assert!(warned("`desk` was observed until 2026-01-31T00:00:00.000000Z, which is over").await);
    until("the log says so", || {
        let said = "Upstream desk was observed until 2026-01-31";
        node.log().contains(said).then_some(())
    })
    .await;
    assert!(!warned("was changed since the node read it").await);
    let config = node.folder.config();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}# edited\n")).unwrap();
    assert!(warned("was changed since the node read it").await);
}
