use std::env;

use broker::Source;
use serde_json::json;

use super::super::keep::{self, Keeper, Level};
use super::super::tests::{account, fixture, given};
use super::super::{Opening, Transport, Upstream};
use super::*;

/// Not a test by itself: run by the script below, it becomes a confined command. The arguments
/// come one a line.
#[test]
fn becomes_the_command() {
    if let Some(arguments) = env::var_os("TIPSTAFF_TEST_CONFINE") {
        let arguments = arguments.into_string().unwrap();
        panic!(
            "{:?}",
            confine_and_exec(arguments.lines().map(OsString::from))
        );
    }
}

/// A node's folder, and an upstream whose children are confined from it.
fn node() -> (tempfile::TempDir, Upstream) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("state/data/secret", "the log"),
        ("state/data/deep/er/secret", "the log"),
        ("state/keys/key", "a key"),
        ("state/policies/p.cedar", "permit"),
        ("state/tipstaff.toml", "listen"),
        ("state/notes/note", "a note"),
        ("files/file", "a file"),
    ] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    std::os::unix::fs::symlink("data", dir.path().join("state/link")).unwrap();
    // The program that is this test, as one that takes the arguments of `__confine`: `sh` takes
    // the subcommand for the name of its script. Keeping is tested with the real program.
    let script = "TIPSTAFF_TEST_CONFINE=$(printf '%s\\n' \"$@\")\nexport TIPSTAFF_TEST_CONFINE\n\
                  exec \"$TIPSTAFF_TEST_EXE\" --exact upstream::sandbox::tests::becomes_the_command \
                  --nocapture\n";
    fs::write(dir.path().join(SUBCOMMAND), script).unwrap();
    let script = "while [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"\n";
    fs::write(dir.path().join(keep::SUBCOMMAND), script).unwrap();
    let mut config = fixture("modern");
    let state = dir.path().join("state");
    config.data_dir = state.join("data");
    config.keys_dir = state.join("keys");
    config.read_only = vec![
        state.join("policies"),
        state.join("tipstaff.toml"),
        "absent".into(),
    ];
    config.sandbox = SandboxMode::Required;
    config.keeper = Some(Keeper {
        exe: "/bin/sh".into(),
        level: Level::Subreaper,
    });
    if let Transport::Stdio { cwd, .. } = &mut config.transport {
        let exe = env::current_exe()
            .unwrap()
            .into_os_string()
            .into_string()
            .unwrap();
        config.account = account(vec![("TIPSTAFF_TEST_EXE", Source::Plain(exe))]);
        *cwd = Some(dir.path().to_owned());
    }
    (dir, Upstream::new(config))
}

#[tokio::test]
async fn a_confined_child_reaches_all_but_the_node() {
    if support() != Support::Whole {
        let (_dir, upstream) = node();
        let error = upstream.link("i-1", Opening::Handshake).await.unwrap_err();
        assert!(matches!(error, OpenError::Unconfined { .. }), "{error:?}");
        return;
    }
    let (dir, upstream) = node();
    let link = upstream.link("i-1", Opening::Handshake).await.unwrap();
    let check = async |tool: &str, path: &str, expected: &str| {
        let path = dir.path().join(path);
        let id = format!("{tool} {}", path.display());
        let seen = given(&link, &id, tool, json!({"path": path})).await;
        let seen = seen
            .as_str()
            .map_or_else(|| seen.to_string(), str::to_owned);
        assert_eq!(seen, expected, "{id}");
    };
    let denied = "PermissionError";
    check("read", "state/data/secret", denied).await;
    check("read", "state/data/deep/er/secret", denied).await;
    check("read", "state/data/../data/secret", denied).await;
    check("read", "state/link/secret", denied).await;
    check("read", "state/keys/key", denied).await;
    check("list", "state/data", denied).await;
    check("write", "state/data/secret", denied).await;
    check("write", "state/data/new", denied).await;
    check("remove", "state/data/secret", denied).await;
    check("truncate", "state/data/secret", denied).await;
    check("read", "state/policies/p.cedar", "permit").await;
    check("list", "state/policies", r#"["p.cedar"]"#).await;
    check("write", "state/policies/p.cedar", denied).await;
    check("write", "state/policies/new.cedar", denied).await;
    check("remove", "state/policies/p.cedar", denied).await;
    check("read", "state/tipstaff.toml", "listen").await;
    check("truncate", "state/tipstaff.toml", denied).await;
    check("read", "state/notes/note", "a note").await;
    check("write", "state/notes/new", "7").await;
    check("read", "files/file", "a file").await;
    // What is created beside the way later is found below it, not directly on it.
    fs::write(dir.path().join("files/later"), "later").unwrap();
    fs::write(dir.path().join("state/later"), "later").unwrap();
    check("read", "files/later", "later").await;
    check("read", "state/later", denied).await;
    check("list", "state", denied).await;
    check("write", "state/another", denied).await;

    let ours = std::process::id();
    let kill = given(&link, "kill", "kill", json!({"pid": ours})).await;
    assert_eq!(kill, denied, "it must not signal the node");
    let pid = given(&link, "pid", "pid", json!({}))
        .await
        .as_u64()
        .unwrap();
    assert_eq!(has_no_new_privs(u32::try_from(pid).unwrap()), Some(true));
    assert_eq!(has_no_new_privs(ours), Some(false));
    upstream.close_all().await;
}

#[tokio::test]
async fn what_cannot_be_denied_is_not_started() {
    if support() != Support::Whole {
        return;
    }
    let (dir, upstream) = node();
    fs::remove_dir_all(dir.path().join("state/keys")).unwrap();
    let error = upstream.link("i-1", Opening::Handshake).await.unwrap_err();
    assert!(matches!(error, OpenError::ChildGone { .. }), "{error:?}");
    assert!(
        upstream
            .stderr()
            .iter()
            .any(|line| line.contains("Unreadable"))
    );
}

#[test]
fn the_way_is_walked() {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    for path in ["a/data/x", "a/b/policies", "a/c", "e"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    std::os::unix::fs::symlink("a/data", root.join("link")).unwrap();
    let way = Way {
        denied: vec![root.join("a/data")],
        read_only: vec![root.join("a/b/policies")],
    };
    let mut rules = Vec::new();
    way.visit(&root, Right::All, &mut rules).unwrap();
    let seen: Vec<_> = rules
        .iter()
        .map(|(path, right)| (path.strip_prefix(&root).unwrap().to_str().unwrap(), *right))
        .collect();
    let expected = [
        ("a/b", Right::Read),
        ("a/b/policies", Right::Read),
        ("a/c", Right::All),
        ("e", Right::All),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn the_arguments_are_those_of_the_subcommand() {
    let check = |arguments: &[&str]| {
        let error = confine_and_exec(arguments.iter().map(OsString::from));
        assert!(matches!(error, ConfineError::Usage), "{error:?}");
    };
    check(&[]);
    check(&["--deny"]);
    check(&["--deny", "/"]);
    check(&["--allow", "/", "--", "true"]);
    check(&["--"]);
    check(&["--", "true"]);
    check(&["--open", "--deny", "/", "--", "true"]);
}
