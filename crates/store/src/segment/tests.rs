use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::disk::Disk;

const BYTES: u64 = 16 * 1024;

fn owner() -> Digest {
    Digest::of(b"a log")
}

/// A segment that starts at index 5 with these frames, closed.
fn write(folder: &Path, frames: &[Vec<Item>]) -> PathBuf {
    let disk = Disk::default();
    let blank = Blank::make(&disk, folder.join("next"), BYTES).unwrap();
    let (segment, _, mut at) = Segment::begin(&disk, folder, blank, owner(), 9, 5, []).unwrap();
    let mut first = 5;
    for items in frames {
        let bytes = segment.encode(first, items).unwrap();
        assert_eq!(bytes.len(), extent(items));
        let frame = segment
            .write(&disk, at, first, items.len(), &bytes)
            .unwrap();
        segment.sync(&disk).unwrap();
        assert_eq!(frame.extent().unwrap(), bytes.len() as u64);
        assert_eq!(frame.items().unwrap(), *items);
        first = frame.end();
        at += bytes.len() as u64;
    }
    segment.path.clone()
}

/// The entries that a scan finds, and whether it says that a commit was cut short.
fn scan(path: &Path) -> Result<(Vec<Vec<u8>>, bool), SegmentError> {
    let segment = Arc::new(Segment::open(path, Some(owner()))?);
    let mut entries = Vec::new();
    let scan = segment.scan(u64::MAX, |entry| entries.push(entry.to_vec()))?;
    let read: Vec<_> = scan
        .frames
        .iter()
        .flat_map(|frame| frame.entries().unwrap())
        .collect();
    assert_eq!(read, entries);
    assert_eq!(scan.next, 5 + entries.len() as u64);
    Ok((entries, scan.cut.is_some()))
}

fn item(entry: &str, sealed: Option<&[u8]>) -> Item {
    Item {
        entry: entry.as_bytes().to_vec(),
        sealed: sealed.map(<[u8]>::to_vec),
    }
}

fn entries(frames: &[Vec<Item>]) -> Vec<Vec<u8>> {
    frames
        .iter()
        .flatten()
        .map(|item| item.entry.clone())
        .collect()
}

/// Where each frame ends, in bytes of the segment, and how many entries there are by then.
fn ends(frames: &[Vec<Item>]) -> Vec<(usize, usize)> {
    let (mut at, mut count) = (SECTOR, 0);
    let mut ends = vec![(at, count)];
    for items in frames {
        at += extent(items);
        count += items.len();
        ends.push((at, count));
    }
    ends
}

fn some_frames() -> Vec<Vec<Item>> {
    vec![
        vec![item("{\"a\":1}", None)],
        vec![
            item("{\"b\":2}", Some(&[7; 700])),
            item("{\"c\":3}", Some(b"")),
        ],
        vec![item(&format!("{{\"d\":\"{}\"}}", "x".repeat(1200)), None)],
    ]
}

fn any_frames() -> impl Strategy<Value = Vec<Vec<Item>>> {
    let item = (
        "[a-z]{1,300}",
        prop::option::of(prop::collection::vec(1_u8.., 0..600)),
    )
        .prop_map(|(entry, sealed)| Item {
            entry: entry.into_bytes(),
            sealed,
        });
    prop::collection::vec(prop::collection::vec(item, 1..4), 0..4)
}

#[test]
fn a_segment_reads_what_was_written() {
    let temp = TempDir::new().unwrap();
    for frames in [vec![], some_frames()] {
        let path = write(temp.path(), &frames);
        assert_eq!(scan(&path).unwrap(), (entries(&frames), false));
    }
}

/// Cuts a segment at byte `at`, by ending the file there or by zeros from there on: every frame
/// before it must be found, and nothing else.
fn check_cut(path: &Path, bytes: &[u8], frames: &[Vec<Item>], at: usize) {
    let ends = ends(frames);
    // What is behind a frame's last byte that is not zero is not missed.
    let count = ends
        .iter()
        .filter(|(end, _)| bytes[..*end].iter().rposition(|byte| *byte != 0).unwrap() < at)
        .map(|(_, count)| *count)
        .max()
        .unwrap();
    let mut zeroed = bytes.to_vec();
    zeroed[at..].fill(0);
    fs::write(path, &zeroed).unwrap();
    let (found, _) = scan(path).unwrap_or_else(|error| panic!("zeros from {at}: {error}"));
    assert_eq!(found, entries(frames)[..count], "zeros from {at}");
    fs::write(path, &bytes[..at]).unwrap();
    let (found, _) = scan(path).unwrap_or_else(|error| panic!("ends at {at}: {error}"));
    assert!(entries(frames)[..count].starts_with(&found), "ends at {at}");
    let whole = ends
        .iter()
        .filter(|(end, _)| *end <= at)
        .map(|(_, count)| *count)
        .max();
    assert!(found.len() >= whole.unwrap(), "ends at {at}");
}

#[test]
fn a_segment_cut_at_any_byte_keeps_every_frame_before() {
    let temp = TempDir::new().unwrap();
    let frames = some_frames();
    let path = write(temp.path(), &frames);
    let bytes = fs::read(&path).unwrap();
    let end = ends(&frames).last().unwrap().0;
    for at in SECTOR..end + SECTOR {
        check_cut(&path, &bytes, &frames, at);
    }
}

/// The last frame with only some of its sectors written is no frame, and no damage.
fn check_torn(frames: &[Vec<Item>], written: u64) {
    let temp = TempDir::new().unwrap();
    let path = write(temp.path(), frames);
    let mut bytes = fs::read(&path).unwrap();
    let ends = ends(frames);
    let [.., (start, count), (end, _)] = ends[..] else {
        return;
    };
    let mut torn = false;
    for (nth, sector) in bytes[start..end].chunks_mut(SECTOR).enumerate() {
        if written >> (nth % 64) & 1 == 0 {
            torn = true;
            sector.fill(0);
        }
    }
    fs::write(&path, &bytes).unwrap();
    let expected = if torn {
        &entries(frames)[..count]
    } else {
        &entries(frames)[..]
    };
    assert_eq!(scan(&path).unwrap().0, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_segment_reads_back(frames in any_frames()) {
        let temp = TempDir::new().unwrap();
        let path = write(temp.path(), &frames);
        prop_assert_eq!(scan(&path).unwrap(), (entries(&frames), false));
    }

    #[test]
    fn any_segment_can_be_cut_anywhere(frames in any_frames(), at in 0_usize..8 * 1024) {
        let temp = TempDir::new().unwrap();
        let path = write(temp.path(), &frames);
        let bytes = fs::read(&path).unwrap();
        check_cut(&path, &bytes, &frames, SECTOR + at);
    }

    #[test]
    fn a_frame_may_be_torn_at_any_sectors(frames in any_frames(), written: u64) {
        check_torn(&frames, written);
    }

    /// A change anywhere is never taken for an entry: it is damage, or what a crash leaves.
    #[test]
    fn a_changed_byte_is_never_an_entry(frames in any_frames(), at in 0_usize..8 * 1024, by in 1_u8..) {
        let temp = TempDir::new().unwrap();
        let path = write(temp.path(), &frames);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= by;
        fs::write(&path, &bytes).unwrap();
        if let Ok((found, _)) = scan(&path) {
            let ends = ends(&frames);
            // In padding it changes nothing; in the last frame it may look cut short.
            let before_last = ends.len().checked_sub(2).map_or(0, |nth| ends[nth].1);
            prop_assert!(entries(&frames).starts_with(&found));
            prop_assert!(found.len() >= before_last);
        }
    }
}

#[test]
fn damage_is_told_from_a_cut() {
    let temp = TempDir::new().unwrap();
    let frames = some_frames();
    let path = write(temp.path(), &frames);
    let bytes = fs::read(&path).unwrap();
    let ends: Vec<usize> = ends(&frames).into_iter().map(|(end, _)| end).collect();
    let check = |what: &str, change: &dyn Fn(&mut Vec<u8>), expected: Result<usize, u64>| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        match (scan(&path), expected) {
            (Ok((found, _)), Ok(count)) => assert_eq!(found.len(), count, "{what}"),
            (Err(SegmentError::Damaged { at, .. }), Err(expected)) => {
                assert_eq!(at, expected, "{what}");
            }
            (found, expected) => panic!("{what}: {found:?}, not {expected:?}"),
        }
    };
    let last = ends[2];
    check(
        "a byte of the last frame",
        &|b| b[last + 200] ^= 1,
        Err(last as u64),
    );
    check("its header", &|b| b[last + 33] ^= 1, Err(last as u64));
    check("its digest", &|b| b[last] ^= 1, Err(last as u64));
    check(
        "its second sector",
        &|b| b[last + 512..last + 1024].fill(0),
        Ok(3),
    );
    check("its first sector", &|b| b[last..last + 512].fill(0), Ok(3));
    check("all of it", &|b| b[last..].fill(0), Ok(3));
    check(
        "a byte of an earlier frame",
        &|b| b[ends[1] + 200] ^= 1,
        Err(ends[1] as u64),
    );
    check(
        "a sector of one",
        &|b| b[ends[1]..ends[1] + 512].fill(0),
        Err(ends[1] as u64),
    );
    check(
        "all of one",
        &|b| b[ends[1]..ends[2]].fill(0),
        Err(ends[1] as u64),
    );
    check("a byte behind the end", &|b| b[ends[3] + 512] = 1, Ok(4));
    check("the segment's own sector", &|b| b[40] ^= 1, Err(0));
    let swapped = |b: &mut Vec<u8>| b.copy_within(ends[0]..ends[1], ends[3]);
    check("a frame that is there twice", &swapped, Err(ends[3] as u64));
}

#[test]
fn a_segment_is_of_one_log_and_keeps_its_name() {
    let temp = TempDir::new().unwrap();
    let path = write(temp.path(), &some_frames());
    let other = Segment::open(&path, Some(Digest::of(b"another log")));
    assert!(matches!(other, Err(SegmentError::Damaged { at: 0, .. })));
    assert!(Segment::open(&path, None).is_ok());
    let renamed = temp.path().join("00000000000000000010.seg");
    fs::rename(&path, &renamed).unwrap();
    assert!(matches!(
        Segment::open(&renamed, None),
        Err(SegmentError::Damaged { .. })
    ));
    fs::write(&renamed, b"short").unwrap();
    assert!(matches!(
        Segment::open(&renamed, None),
        Err(SegmentError::Damaged { .. })
    ));
}

#[test]
fn a_later_segment_takes_over() {
    let temp = TempDir::new().unwrap();
    let path = write(temp.path(), &some_frames());
    let segment = Arc::new(Segment::open(&path, None).unwrap());
    let scan = |limit| {
        segment
            .scan(limit, |_| {})
            .map(|scan| (scan.frames.len(), scan.next))
    };
    assert_eq!(scan(8).unwrap(), (2, 8));
    assert_eq!(scan(9).unwrap(), (3, 9));
    assert_eq!(scan(5).unwrap(), (0, 5));
    // A frame is never divided.
    assert!(matches!(scan(7), Err(SegmentError::Damaged { .. })));
}

/// A frame that says what it likes, with digests that are right: whoever can write the file can
/// write those too.
fn forge(segment: &Segment, fields: (u64, u64, u32, u32), body: &[u8]) -> Vec<u8> {
    let (first, length, count, version) = fields;
    let parts = [
        first.to_le_bytes().as_slice(),
        &length.to_le_bytes(),
        &count.to_le_bytes(),
        &version.to_le_bytes(),
    ]
    .concat();
    let fields: [u8; 24] = parts.try_into().unwrap();
    let digest = Digest::of_parts(&[&segment.id, &fields, body]);
    let check = segment.check(digest.as_bytes(), &fields);
    let header = [digest.as_bytes().as_slice(), &fields, &check, FRAME_MAGIC];
    let mut frame = [&header.concat(), body].concat();
    frame.resize(frame.len().next_multiple_of(SECTOR), 0);
    frame
}

/// A number as a forger would choose it.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![9 => 0..40_u32, 1 => Just(65_536), 1 => Just(u32::MAX - 1), 3 => Just(u32::MAX)]
}

proptest! {
    #[test]
    fn forged_frames_are_answered(
        first in prop_oneof![Just(5), Just(u64::MAX - 1), Just(u64::MAX), any::<u64>()],
        frames in prop::collection::vec(
            (
                prop::collection::vec((number(), number()), 0..4),
                prop::collection::vec(any::<u8>(), 0..100),
                prop_oneof![4 => Just(None), 1 => number().prop_map(Some)],
                prop_oneof![6 => Just(None), 1 => any::<u64>().prop_map(Some)],
                prop_oneof![9 => Just(FRAME_VERSION), 1 => any::<u32>()],
            ),
            1..3,
        ),
    ) {
        let folder = TempDir::new().unwrap();
        let disk = Disk::default();
        let blank = Blank::make(&disk, folder.path().join("next"), BYTES).unwrap();
        let (segment, _, mut at) =
            Segment::begin(&disk, folder.path(), blank, owner(), 9, first, []).unwrap();
        let mut next = first;
        for (rows, rest, count, length, version) in frames {
            let table = rows.iter().flat_map(|(entry, sealed)| {
                [entry.to_le_bytes(), sealed.to_le_bytes()].concat()
            });
            // As long as the table says, where that is not long, so that it is taken.
            let held = rows.iter().map(|(entry, sealed)| {
                let sealed = if *sealed == NOT_SEALED { 0 } else { *sealed as usize };
                *entry as usize + sealed
            });
            let held: usize = held.sum();
            let mut body: Vec<u8> = table.collect();
            if held < 1_000 {
                body.resize(body.len() + held, b'x');
                body.push(TRAILER);
            } else {
                body.extend(rest);
            }
            let count = count.unwrap_or(u32::try_from(rows.len()).unwrap());
            let length = length.unwrap_or(body.len() as u64);
            let frame = forge(&segment, (next, length, count, version), &body);
            disk.write_at(&segment.file, &frame, at).unwrap();
            at += frame.len() as u64;
            next = next.wrapping_add(u64::from(count));
        }
        let segment = Arc::new(Segment::open(&segment.path, Some(owner())).unwrap());
        if let Ok(scan) = segment.scan(u64::MAX, |_| ()) {
            for frame in scan.frames {
                prop_assert!(frame.end() <= scan.next);
                let _either = (frame.entries(), frame.items(), frame.extent());
                let _either = (frame.sealed(frame.first), frame.sealed_lengths());
            }
        }
    }
}
