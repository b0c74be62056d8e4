use std::fs;

use super::*;
use crate::policies;

const TOOLS: &str = r#"{"tools":[{"name":"read","inputSchema":{"type":"object",
    "properties":{"path":{"type":"string"}},"required":["path"]}}]}"#;

/// The ids that are not checked, or why nothing can be: of one policy for `files/read`, with the
/// upstreams `upstreams` and `--tools given`, where TOOLS is in `tools.json`.
#[track_caller]
fn check(upstreams: &[&str], given: &[&str], expected: Result<&[&str], &str>) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    fs::create_dir(folder.join("policies")).unwrap();
    let policy = "@id(\"p\") permit (principal, action == Action::\"files/read\", resource)\n\
                  when { context.args.path == \"/a\" };";
    fs::write(folder.join("policies/p.cedar"), policy).unwrap();
    fs::write(folder.join("tools.json"), TOOLS).unwrap();
    fs::write(
        folder.join("answer.json"),
        format!("{{\"result\":{TOOLS}}}"),
    )
    .unwrap();
    fs::write(folder.join("other.json"), "{}").unwrap();
    let upstreams: Vec<String> = upstreams
        .iter()
        .map(|name| format!("[upstream.{name}]\ncommand = [\"true\"]\n"))
        .collect();
    let config = folder.join("tipstaff.toml");
    fs::write(
        &config,
        format!("trust_domain = \"x.example\"\n{}", upstreams.concat()),
    )
    .unwrap();
    let config = Config::read(&config).unwrap();
    let given: Vec<ToolsFile> = given
        .iter()
        .map(|text| {
            let mut file: ToolsFile = text.parse().unwrap();
            file.path = folder.join(file.path);
            file
        })
        .collect();
    let found = Offline::read(&config, &given);
    let found = found.and_then(|ground| policies::check(&ground, &config.policies));
    match (found, expected) {
        (Ok(report), Ok(expected)) => {
            assert!(report.valid, "{:?}", report.diagnostics);
            let unchecked: Vec<&String> = report.unchecked.values().flatten().collect();
            assert_eq!(unchecked, expected);
            assert_eq!(report.diagnostics.len(), expected.len());
        }
        (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
        (found, expected) => panic!("{found:?}, not {expected:?}"),
    }
    assert!(!folder.join("data").exists());
}

#[test]
fn tools_are_given_or_not_known() {
    check(&["files"], &[], Ok(&["p"]));
    check(&["files"], &["tools.json"], Ok(&[]));
    check(&["files"], &["answer.json"], Ok(&[]));
    check(&["files", "web"], &["files=tools.json"], Ok(&[]));
    check(&["files", "web"], &["web=tools.json"], Ok(&["p"]));
    check(&["files", "web"], &["tools.json"], Err("one of files, web"));
    check(
        &["files"],
        &["filez=tools.json"],
        Err("did you mean `files`?"),
    );
    check(&["files"], &["none.json"], Err("none.json"));
    check(&["files"], &["other.json"], Err("no list `tools`"));
}
