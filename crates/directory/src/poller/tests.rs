use std::sync::Mutex;

use register::{Command, Status};

use super::*;
use crate::bench::{Bench, wait};

/// A directory that says what it is told to say.
#[derive(Debug, Default)]
struct Scripted(Mutex<HashMap<String, Standing>>);

impl Source for Scripted {
    fn ask<'a>(&'a self, external_id: &'a PersonText) -> Asking<'a> {
        Box::pin(async move {
            let said = self.0.lock().unwrap();
            let said = said.get(external_id.as_str()).copied();
            said.ok_or_else(|| "no answer".to_owned())
        })
    }
}

impl Scripted {
    fn says(&self, id: &str, standing: Option<Standing>) {
        let mut said = self.0.lock().unwrap();
        match standing {
            Some(standing) => said.insert(id.to_owned(), standing),
            None => said.remove(id),
        };
    }
}

struct Polling {
    bench: Bench,
    source: Arc<Scripted>,
    poller: Poller,
    maya: Handle,
}

impl Polling {
    fn new(fresh: Option<u64>) -> Self {
        let bench = Bench::new();
        let maya = bench.person("maya", "00u1");
        // Nobody is asked about whom an administrator added and the directory does not know.
        bench.sponsor("otto");
        let source = Arc::new(Scripted::default());
        source.says("00u1", Some(Standing::Active));
        let poller = Poller::new(
            Arc::clone(&bench.control),
            bench.clock.clone(),
            source.clone(),
            fresh.map(Duration::from_secs),
        );
        bench.cuts.take();
        Self {
            bench,
            source,
            poller,
            maya,
        }
    }

    fn round(&mut self) -> (usize, usize, usize) {
        let round = wait(self.poller.round()).unwrap();
        (round.answered, round.silent, round.stale)
    }

    fn status(&self) -> Status {
        self.bench.control.view(|state| {
            state
                .sponsor_view(state.sponsor(&self.maya).unwrap())
                .status
        })
    }
}

#[test]
fn who_is_gone_is_stopped_and_goes_on_when_they_are_back() {
    let mut polling = Polling::new(None);
    assert_eq!(polling.round(), (1, 0, 0));
    let before = polling.bench.size();
    assert_eq!(polling.round(), (1, 0, 0));
    assert_eq!(
        polling.bench.size(),
        before,
        "an answer that changes nothing writes nothing"
    );
    polling.source.says("00u1", Some(Standing::Gone));
    polling.round();
    assert_eq!(polling.status(), Status::Suspended);
    assert_eq!(polling.bench.cuts.take(), ["sponsor-suspended"]);
    assert_eq!(
        polling.bench.entries(before),
        ["sponsor-suspended poll:gone"]
    );
    polling.source.says("00u1", Some(Standing::Active));
    polling.round();
    assert_eq!(polling.status(), Status::Active);
}

#[test]
fn silence_stops_nobody_until_the_answer_is_too_old() {
    let mut polling = Polling::new(Some(600));
    polling.round();
    polling.source.says("00u1", None);
    polling.bench.clock.pass(600);
    assert_eq!(polling.round(), (0, 1, 0));
    assert_eq!(polling.status(), Status::Active);
    polling.bench.clock.pass(1);
    assert_eq!(polling.round(), (0, 1, 1));
    assert_eq!(polling.status(), Status::Suspended);
    // One answer, and they go on.
    polling.source.says("00u1", Some(Standing::Active));
    assert_eq!(polling.round(), (1, 0, 0));
    assert_eq!(polling.status(), Status::Active);
}

#[test]
fn silence_from_the_start_counts_from_the_start() {
    let mut polling = Polling::new(Some(600));
    polling.source.says("00u1", None);
    assert_eq!(polling.round(), (0, 1, 0));
    polling.bench.clock.pass(601);
    assert_eq!(polling.round(), (0, 1, 1));
    assert_eq!(polling.status(), Status::Suspended);
}

#[test]
fn without_a_bound_silence_means_nothing() {
    let mut polling = Polling::new(None);
    polling.source.says("00u1", None);
    polling.bench.clock.pass(1_000_000);
    assert_eq!(polling.round(), (0, 1, 0));
    assert_eq!(polling.status(), Status::Active);
}

#[test]
fn an_answer_lifts_nothing_that_another_stopped() {
    let mut polling = Polling::new(None);
    polling.source.says("00u1", Some(Standing::Gone));
    polling.round();
    polling.bench.execute(Command::SuspendSponsor {
        id: "maya".parse().unwrap(),
        signal: None,
    });
    polling.source.says("00u1", Some(Standing::Active));
    polling.round();
    assert_eq!(polling.status(), Status::Suspended);
}

#[test]
fn an_answer_of_scim_is_read_strictly() {
    let check = |text: &str, expected: Option<Standing>| {
        assert_eq!(read_scim(text.as_bytes()).ok(), expected, "{text}");
    };
    check(
        r#"{"totalResults":1,"Resources":[{"id":"1","active":true}]}"#,
        Some(Standing::Active),
    );
    check(
        r#"{"totalResults":1,"Resources":[{"id":"1","active":false}]}"#,
        Some(Standing::Gone),
    );
    check(r#"{"totalResults":0,"Resources":[]}"#, Some(Standing::Gone));
    check(r#"{"totalResults":0}"#, Some(Standing::Gone));
    check(
        r#"{"totalResults":2,"Resources":[{"active":true},{"active":true}]}"#,
        None,
    );
    check(r#"{"totalResults":1,"Resources":[{"id":"1"}]}"#, None);
    check(
        r#"{"totalResults":1,"Resources":[{"active":"true"}]}"#,
        None,
    );
    check(r#"{"totalResults":1}"#, None);
    check(r#"{"Resources":{}}"#, None);
    check("<html>", None);
    check("", None);
}
