//! The measurements that hold processes, connections and logs together still come to an end, and what
//! must be so at any speed is so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests panic on failure"
)]

use std::process::Command;

use serde_json::Value;

#[test]
fn a_quick_run_measures_delegation_and_cuts() {
    let folder = tempfile::tempdir().unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_tipstaff-bench"))
        .args(["--quick", "--only", "delegation", "--only", "cutoff"])
        .args(["--out", folder.path().join("out").to_str().unwrap()])
        .args(["--work", folder.path().join("work").to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    let json = std::fs::read(folder.path().join("out/latest.json")).unwrap();
    let report: Value = serde_json::from_slice(&json).unwrap();
    let sizes = report["cutoff"].as_array().unwrap();
    assert_eq!(sizes.len(), 2, "{said}");
    for size in sizes {
        assert_eq!(size["permitted_after"], 0, "{said}");
        assert!(size["of_others"].as_u64().unwrap() > 0, "{said}");
        // In the order in which they come.
        let at = |what: &str| size[what]["max_ms"].as_f64().unwrap();
        assert!(at("heard") > 0.0 && at("heard") <= at("narrowed"), "{said}");
        assert!(at("barrier") <= at("acknowledged"), "{said}");
    }
    let calls = report["delegation"]["calls"].as_array().unwrap();
    assert_eq!(calls.len(), 4, "{said}");
    let page = std::fs::read_to_string(folder.path().join("out/latest.md")).unwrap();
    assert!(page.contains("Permitted after the answer: 0."), "{page}");
}
