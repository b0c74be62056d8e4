use std::time::Duration;

use ledger::Log as _;
use vocab::time::SystemClock;

use super::*;
use crate::disk::{Fault, Faults};
use crate::log::{FilesLog, LogOptions};
use crate::testing::{draft, signer};
use crate::{DataDir, OpenError};

fn other(seed: u8) -> Signer {
    Signer::from_seed("acme.example/calls", &[seed; 32]).unwrap()
}

fn domain() -> vocab::TrustDomain {
    "acme.example".parse().unwrap()
}

fn open(dir: &std::path::Path, signers: Signers, faults: Faults) -> Result<FilesLog, OpenError> {
    let options = LogOptions {
        name: vocab::LogName::Calls,
        header: ledger::Header {
            trust_domain: domain(),
            node: "n-1".to_owned(),
            epoch: 1,
            key: signers.key_name().to_owned(),
        },
        signers,
        clock: Arc::new(SystemClock::new()),
        faults,
        publish_every: Some(Duration::from_hours(1)),
    };
    FilesLog::open(&DataDir::open(dir)?, options)
}

fn signed_by(log: &FilesLog) -> Vec<String> {
    let note = Note::parse(&log.reader().checkpoint().unwrap().unwrap()).unwrap();
    let keys = [signer(), other(8), other(9)];
    let keys = keys
        .iter()
        .filter(|key| note.verify(key.verifier()).is_ok());
    keys.map(|key| key.verifier().key_name()).collect()
}

fn names(keys: &[Signer]) -> Vec<String> {
    keys.iter().map(|key| key.verifier().key_name()).collect()
}

#[tokio::test]
async fn both_keys_sign_and_then_the_new_one_alone() {
    let temp = tempfile::tempdir().unwrap();
    let log = open(temp.path(), signer().into(), Faults::default()).unwrap();
    log.append(vec![draft("a")]).await.unwrap();
    log.publish().await.unwrap();
    assert_eq!(signed_by(&log), names(&[signer()]));
    // Also if nothing was appended since.
    log.sign_with(Signers::new(other(8), signer()).unwrap())
        .await
        .unwrap();
    assert_eq!(signed_by(&log), names(&[signer(), other(8)]));
    log.append(vec![draft("b")]).await.unwrap();
    let last = log.reader().entry(1).unwrap();
    let last = ledger::Entry::parse(&last).unwrap();
    assert_eq!(last.key, other(8).verifier().key_name());
    log.sign_with(other(8).into()).await.unwrap();
    assert_eq!(signed_by(&log), names(&[other(8)]));
    drop(log);
    // The old one opens it no more.
    let refused = open(temp.path(), signer().into(), Faults::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Checkpoint { .. }), "{refused}");
    open(temp.path(), other(8).into(), Faults::default()).unwrap();
}

#[tokio::test]
async fn a_start_signs_what_a_change_left_unsigned() {
    let temp = tempfile::tempdir().unwrap();
    let log = open(temp.path(), signer().into(), Faults::default()).unwrap();
    log.append(vec![draft("a")]).await.unwrap();
    drop(log);
    let both = Signers::new(other(8), signer()).unwrap();
    let log = open(temp.path(), both, Faults::default()).unwrap();
    assert_eq!(signed_by(&log), names(&[signer(), other(8)]));
}

#[tokio::test]
async fn a_disk_that_fails_keeps_the_checkpoint_that_is_there() {
    let temp = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let log = open(temp.path(), signer().into(), faults.clone()).unwrap();
    log.append(vec![draft("a")]).await.unwrap();
    log.publish().await.unwrap();
    faults.set(Fault::Full);
    let both = Signers::new(other(8), signer()).unwrap();
    log.sign_with(both).await.unwrap_err();
    assert_eq!(signed_by(&log), names(&[signer()]));
    faults.set(Fault::None);
    log.publish().await.unwrap();
    assert_eq!(signed_by(&log), names(&[signer(), other(8)]));
}

#[tokio::test]
async fn keys_of_another_log_do_not_sign_this_one() {
    let temp = tempfile::tempdir().unwrap();
    let log = open(temp.path(), signer().into(), Faults::default()).unwrap();
    let foreign = || Signer::from_seed("acme.example/other", &[1; 32]).unwrap();
    log.sign_with(foreign().into()).await.unwrap_err();
    assert!(Signers::new(foreign(), signer()).is_err());
    log.append(vec![draft("a")]).await.unwrap();
    log.publish().await.unwrap();
    assert_eq!(signed_by(&log), names(&[signer()]));
}
