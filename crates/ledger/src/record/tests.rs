use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use vocab::digest::Digest;
use vocab::id::LogName;
use vocab::time::Time;

use super::*;
use crate::entry::{Actor, Kind};
use crate::log::LogReader;

/// A log that answers as it is told to.
#[derive(Debug)]
struct Scripted(Result<usize, AppendError>);

impl Log for Scripted {
    fn name(&self) -> LogName {
        LogName::Calls
    }

    fn origin(&self) -> &'static str {
        "example.com/log"
    }

    fn append(&self, _: Vec<Draft>) -> BoxFuture<'_, Result<Vec<Receipt>, AppendError>> {
        let answer = self.0.clone().map(|count| {
            let receipt = Receipt {
                log: LogName::Calls,
                index: 7,
                leaf_hash: Digest::of(b"x"),
                time: Time::EPOCH,
            };
            vec![receipt; count]
        });
        async move { answer }.boxed()
    }

    fn publish(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        async { Ok(()) }.boxed()
    }

    fn reader(&self) -> &dyn LogReader {
        panic!("nobody reads here")
    }
}

#[derive(Debug)]
struct Answer(bool);

impl Record for Answer {
    fn draft(&self) -> Result<Draft, EntryError> {
        Draft::new(
            Kind::Decision,
            Actor::node("n"),
            &serde_json::json!({ "permit": self.0 }),
        )
    }
}

impl Ruling for Answer {
    type Permit = &'static str;
    type Denial = &'static str;

    fn ruling(self) -> Result<Self::Permit, Self::Denial> {
        if self.0 { Ok("go") } else { Err("stop") }
    }
}

fn put(log: &Scripted, value: Answer) -> Result<Recorded<Answer>, RecordError> {
    record(log, value).now_or_never().unwrap()
}

#[test]
fn only_an_acknowledged_entry_makes_a_recorded_value() {
    let permit = put(&Scripted(Ok(1)), Answer(true)).unwrap();
    assert_eq!(permit.receipt().record_ref().to_string(), "calls/7");
    let permit = permit.permitted().unwrap();
    assert_eq!(*permit.value(), "go");
    assert_eq!(permit.receipt().index, 7);

    let denial = put(&Scripted(Ok(1)), Answer(false)).unwrap();
    assert_eq!(denial.permitted().unwrap_err().into_value(), "stop");
}

#[test]
fn a_log_that_fails_or_miscounts_makes_none() {
    assert_eq!(
        put(&Scripted(Err(AppendError::Narrowed)), Answer(true)).unwrap_err(),
        RecordError::Append(AppendError::Narrowed)
    );
    for count in [0, 2] {
        assert_eq!(
            put(&Scripted(Ok(count)), Answer(true)).unwrap_err(),
            RecordError::Receipts { found: count }
        );
    }
}
