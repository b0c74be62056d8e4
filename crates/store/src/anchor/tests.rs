use super::*;

#[test]
fn an_anchor_keeps_the_last_checkpoint_of_each_log() {
    let temp = tempfile::tempdir().unwrap();
    let anchor = PathAnchor::new(temp.path().join("mount/anchors"));
    assert_eq!(anchor.last(LogName::Calls).unwrap(), None);
    anchor.push(LogName::Calls, "one\n").unwrap();
    anchor.push(LogName::Calls, "two\n").unwrap();
    anchor.push(LogName::Control, "three\n").unwrap();
    let again = PathAnchor::new(anchor.folder());
    assert_eq!(
        again.last(LogName::Calls).unwrap().as_deref(),
        Some("two\n")
    );
    assert_eq!(
        again.last(LogName::Control).unwrap().as_deref(),
        Some("three\n")
    );
    std::fs::write(temp.path().join("mount/anchors/calls.checkpoint"), [0xff]).unwrap();
    assert!(again.last(LogName::Calls).is_err());
}
