use std::os::unix::fs::PermissionsExt as _;

use vocab::rng::SystemRng;
use vocab::time::SystemClock;

use super::*;
use crate::config::FILE_NAME;

/// A folder as `init` makes it, changed, and what is then found beside what is in order.
fn check(change: impl FnOnce(&Path), expected: &[(&str, Level, &str)]) {
    let dir = tempfile::tempdir().unwrap();
    crate::init::init(dir.path(), &"acme.example".parse().unwrap(), &SystemRng).unwrap();
    change(dir.path());
    let config = Config::read(&dir.path().join(FILE_NAME)).unwrap();
    let found = of_files(&config, &SystemClock::new());
    let wrong: Vec<&Finding> = found.iter().filter(|it| it.status != Level::Ok).collect();
    assert_eq!(wrong.len(), expected.len(), "{wrong:?}");
    for (finding, (check, status, text)) in wrong.iter().zip(expected) {
        assert_eq!(
            (finding.check.as_str(), finding.status),
            (*check, *status),
            "{finding:?}"
        );
        assert!(finding.found.contains(text), "{finding:?}");
        assert!(finding.advice.is_some(), "{finding:?}");
    }
}

fn edit(dir: &Path, from: &str, to: &str) {
    let path = dir.join(FILE_NAME);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn a_fresh_folder_is_in_order() {
    check(|_| {}, &[]);
}

#[test]
fn keys_are_there_closed_and_of_a_pair() {
    check(
        |dir| {
            let key = dir.join("keys/token.key");
            fs::set_permissions(key, fs::Permissions::from_mode(0o644)).unwrap();
        },
        &[("keys", Level::Fail, "can be read by others")],
    );
    check(
        |dir| {
            let open = fs::Permissions::from_mode(0o777);
            fs::set_permissions(dir.join("keys"), open.clone()).unwrap();
            fs::set_permissions(dir.join("keys/auditor.token"), open).unwrap();
        },
        &[
            ("keys", Level::Fail, "keys` can be read by others"),
            ("keys", Level::Fail, "auditor.token` can be read by others"),
        ],
    );
    check(
        |dir| fs::remove_file(dir.join("keys/facts.key")).unwrap(),
        &[("keys", Level::Fail, "facts.key")],
    );
    check(
        |dir| fs::write(dir.join("keys/calls.skey"), "x").unwrap(),
        &[("keys", Level::Fail, "not a signed-note private key")],
    );
    check(
        |dir| {
            fs::copy(dir.join("data/calls.vkey"), dir.join("data/control.vkey")).unwrap();
        },
        &[("keys", Level::Fail, "not of one pair")],
    );
    check(
        |dir| {
            fs::rename(dir.join("keys"), dir.join("data/keys")).unwrap();
            edit(dir, "environment =", "keys = \"data/keys\"\nenvironment =");
        },
        &[("keys", Level::Warn, "lies in the data folder")],
    );
}

#[test]
fn what_listens_to_others_needs_tls() {
    check(
        |dir| edit(dir, "127.0.0.1:7420", "0.0.0.0:7420"),
        &[("config", Level::Warn, "without TLS")],
    );
    check(
        |dir| {
            let public = "0.0.0.0:7420\"\npublic_url = \"https://gate.example";
            edit(dir, "127.0.0.1:7420", public);
        },
        &[],
    );
    for (url, expected) in [
        (
            "http://gate.example",
            &[("config", Level::Warn, "without TLS")][..],
        ),
        ("http://localhost:8080", &[]),
        ("http://[::1]:8080", &[]),
    ] {
        check(
            |dir| {
                let public = format!("127.0.0.1:7420\"\npublic_url = \"{url}");
                edit(dir, "127.0.0.1:7420", &public);
            },
            expected,
        );
    }
}

#[test]
fn a_full_disk_is_seen_before_it_is_full() {
    let ledger = |dir: &Path, setting: &str| edit(dir, "[ledger]", &format!("[ledger]\n{setting}"));
    check(
        |dir| ledger(dir, "warn_free_mib = 1000000000"),
        &[("disk", Level::Warn, "are free")],
    );
    check(
        |dir| {
            ledger(
                dir,
                "warn_free_mib = 1000000000\nrefuse_free_mib = 999999999",
            );
        },
        &[("disk", Level::Fail, "less than")],
    );
}

#[test]
fn without_a_node_programs_and_folders_are_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let text = "trust_domain = \"acme.example\"\n\
                [upstream.gone]\ncommand = [\"no-such-program-anywhere\"]\n\
                [upstream.there]\ncommand = [\"sh\"]\n";
    let config = Config::parse(&dir.path().join(FILE_NAME), text).unwrap();
    let found = without_node(&config);
    let failed: Vec<&str> = found
        .iter()
        .filter(|it| it.status == Level::Fail)
        .map(|it| it.check.as_str())
        .collect();
    assert_eq!(failed, ["upstreams", "policy"], "{found:?}");
    assert!(
        found
            .iter()
            .any(|it| it.check == "node" && it.status == Level::Warn)
    );
}
