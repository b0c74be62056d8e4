//! What was used, read from a log that grows meanwhile.

use std::sync::Mutex;

use ledger::{Draft, Header, write_entry};
use serde_json::json;

use super::*;

const OLD: &str = "i-aaaaaaaaaaaaaaaaaaaaaaaaaa";
const NEW: &str = "i-bbbbbbbbbbbbbbbbbbbbbbbbbb";

#[derive(Debug, Default)]
struct Calls(Mutex<Vec<Vec<u8>>>);

impl Calls {
    /// An instance is permitted a call, by the first detail of what was handed on to it.
    fn decide(&self, instance: &str) {
        let digest = "0".repeat(64);
        let body = json!({
            "instance": instance, "agent": "triage", "sponsor": "s-aaaaaaaaaaaaaaaaaaaaaaaaaa",
            "purpose": "triage", "chain": [instance], "details": [0], "proven": true, "token": "t",
            "upstream": "files", "method": "tools/call", "tool": "read", "request": digest,
            "effect": "allow", "policies": [],
            "basis": {"control_size": 1, "policy_set": null, "tools": null, "options": digest,
                      "versions": ""},
            "facts": {"key": "k-aaaaaaaaaaaaaaaaaaaaaaaaaa", "commit": digest, "bytes": 0},
            "software": "", "model": "", "environment": "", "open_from": 0,
        });
        let header = Header {
            trust_domain: "it.example".parse().unwrap(),
            node: "it".to_owned(),
            epoch: 1,
            key: "it.example/calls+00000000".to_owned(),
        };
        let draft = Draft::new(Kind::Decision, Actor::node("it"), &body).unwrap();
        let time = "2026-11-21T09:00:00.000000Z".parse().unwrap();
        let bytes = write_entry(&header, time, &draft).unwrap();
        self.0.lock().unwrap().push(bytes);
    }

    fn kept(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }
}

impl LogReader for Calls {
    fn size(&self) -> u64 {
        self.kept().len() as u64
    }

    fn entry(&self, index: u64) -> Result<Vec<u8>, ReadError> {
        let found = usize::try_from(index).ok();
        let found = found.and_then(|index| self.kept().get(index).cloned());
        let what = format!("entry {index}");
        found.ok_or(ReadError::Absent { what })
    }

    fn sealed(&self, _: u64) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(None)
    }

    fn checkpoint(&self) -> Result<Option<String>, ReadError> {
        Ok(None)
    }

    fn hash_tile(&self, level: u8, n: u64, _: u16) -> Result<Vec<u8>, ReadError> {
        let what = format!("tile {level}/{n}");
        Err(ReadError::Absent { what })
    }
}

fn running(all: &[&str]) -> HashSet<InstanceId> {
    all.iter().map(|id| id.parse().unwrap()).collect()
}

fn told(used: &Used) -> Vec<&str> {
    used.details.iter().map(|(id, _)| id.as_str()).collect()
}

/// An instance that starts and decides while others are looked at is not taken for one that is over.
#[test]
fn what_an_instance_did_that_started_meanwhile_is_read_the_next_time() {
    let (calls, mut used) = (Calls::default(), Used::default());
    calls.decide(OLD);
    let look = || {
        let all = running(&[OLD]);
        calls.decide(NEW);
        all
    };
    used.read(&calls, look).unwrap();
    assert_eq!(told(&used), [OLD]);
    used.read(&calls, || running(&[OLD, NEW])).unwrap();
    assert_eq!(told(&used), [OLD, NEW]);
    // What is over is let go.
    used.read(&calls, || running(&[NEW])).unwrap();
    assert_eq!(told(&used), [NEW]);
}
