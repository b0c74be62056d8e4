use std::fs;

use vocab::digest::Digest;

use super::*;
use crate::segment::Segment;

#[test]
fn a_blank_in_use_is_not_made_again() {
    let temp = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let spares = Spares::new(disk.clone(), temp.path().to_owned(), 8 * 1024);
    assert!(spares.take(1).is_none());
    spares.make().unwrap();
    spares.make().unwrap();
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    assert!(spares.take(8 * 1024 + 1).is_none(), "it has less room");
    let taken = spares.take(8 * 1024).unwrap();
    // The publisher makes the next one while the writer has not named its own yet.
    spares.make().unwrap();
    let owner = Digest::of(b"a log");
    let (segment, ..) = Segment::begin(&disk, temp.path(), taken, owner, 1, 0, []).unwrap();
    assert!(Segment::open(&segment.path, Some(owner)).is_ok());
    spares.make().unwrap();
    assert!(Segment::open(&segment.path, Some(owner)).is_ok());
    spares.clear().unwrap();
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
}
