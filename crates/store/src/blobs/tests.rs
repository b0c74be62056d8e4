use super::*;
use crate::disk::Fault;

#[test]
fn a_blob_is_what_its_digest_names() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("blobs");
    let blobs = FileBlobs::open(&folder);
    assert_eq!(blobs.get(&Digest::of(b"a")), Ok(None));
    assert!(!folder.exists());
    for bytes in [b"".as_slice(), b"a", &vec![0; 100_000]] {
        let digest = blobs.put(bytes).unwrap();
        assert_eq!(digest, Digest::of(bytes));
        assert_eq!(blobs.put(bytes), Ok(digest));
        assert_eq!(
            FileBlobs::open(&folder).get(&digest),
            Ok(Some(bytes.to_vec()))
        );
    }
    let digest = Digest::of(b"a");
    let (_, path) = blobs.path(&digest);
    std::fs::write(&path, "b").unwrap();
    assert_eq!(blobs.get(&digest), Err(BlobError::Damaged { digest }));
    // Keeping it again mends it.
    blobs.put(b"a").unwrap();
    assert_eq!(blobs.get(&digest), Ok(Some(b"a".to_vec())));
}

#[test]
fn every_write_of_a_blob_may_fail() {
    for fault in Fault::FAILURES {
        for step in 0.. {
            let temp = tempfile::tempdir().unwrap();
            let folder = temp.path().join("blobs");
            let faults = Faults::default();
            let blobs = FileBlobs::open(&folder).with_faults(faults.clone());
            faults.set_at(step, fault);
            let result = blobs.put(b"a");
            let took = faults.steps();
            faults.set(Fault::None);
            // Whole or absent, whatever was said.
            let found = FileBlobs::open(&folder).get(&Digest::of(b"a")).unwrap();
            assert!(found.is_some() || result.is_err());
            assert!(found.is_none_or(|found| found == b"a"));
            blobs.put(b"a").unwrap();
            if took <= step {
                break;
            }
        }
    }
}
