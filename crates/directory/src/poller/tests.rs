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

    fn round(&self) -> (usize, usize, usize) {
        let round = wait(self.poller.round()).unwrap();
        (round.answered, round.silent, self.judge())
    }

    fn judge(&self) -> usize {
        wait(self.poller.judge()).unwrap()
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
    let polling = Polling::new(None);
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
    let polling = Polling::new(Some(600));
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

/// A directory that never answers, and counts what it was asked at once.
#[derive(Debug, Default)]
struct Hangs(std::sync::atomic::AtomicUsize);

impl Source for Hangs {
    fn ask<'a>(&'a self, _: &'a PersonText) -> Asking<'a> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_directory_that_hangs_puts_nothing_off() {
    let bench = Bench::new();
    let all: Vec<Handle> = (0..AT_ONCE + 4)
        .map(|nth| bench.person(&format!("p{nth}"), &format!("00u{nth}")))
        .collect();
    let source = Arc::new(Hangs::default());
    let fresh = Some(Duration::from_mins(10));
    let control = Arc::clone(&bench.control);
    let poller = Poller::new(control, bench.clock.clone(), source.clone(), fresh);
    wait(async {
        let round = poller.round();
        tokio::pin!(round);
        let judged = async {
            assert_eq!(poller.judge().await.unwrap(), 0);
            while source.0.load(std::sync::atomic::Ordering::Relaxed) < AT_ONCE {
                tokio::task::yield_now().await;
            }
            bench.clock.pass(601);
            poller.judge().await.unwrap()
        };
        tokio::select! {
            _ = &mut round => panic!("it never answers"),
            stale = judged => assert_eq!(stale, all.len()),
        }
    });
    let asked = source.0.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(asked, AT_ONCE, "no more at once");
    bench.control.view(|state| {
        for sponsor in &all {
            let life = state.sponsor(sponsor).unwrap().life;
            assert!(matches!(life, SponsorLife::Suspended { .. }));
        }
    });
}

#[test]
fn who_comes_later_is_given_as_long_as_everybody() {
    let polling = Polling::new(Some(600));
    polling.source.says("00u1", Some(Standing::Active));
    assert_eq!(polling.round(), (1, 0, 0));
    polling.bench.clock.pass(500);
    polling.round();
    polling.bench.clock.pass(500);
    let noor = polling.bench.person("noor", "00u2");
    assert_eq!(polling.judge(), 0);
    polling.bench.clock.pass(600);
    polling.round();
    let life = |it: &Polling| {
        it.bench
            .control
            .view(|state| state.sponsor(&noor).unwrap().life)
    };
    assert!(matches!(life(&polling), SponsorLife::Active { .. }));
    polling.bench.clock.pass(1);
    polling.judge();
    assert!(matches!(life(&polling), SponsorLife::Suspended { .. }));
}

#[test]
fn silence_from_the_start_counts_from_the_start() {
    let polling = Polling::new(Some(600));
    polling.source.says("00u1", None);
    assert_eq!(polling.round(), (0, 1, 0));
    polling.bench.clock.pass(601);
    assert_eq!(polling.round(), (0, 1, 1));
    assert_eq!(polling.status(), Status::Suspended);
}

#[test]
fn without_a_bound_silence_means_nothing() {
    let polling = Polling::new(None);
    polling.source.says("00u1", None);
    polling.bench.clock.pass(1_000_000);
    assert_eq!(polling.round(), (0, 1, 0));
    assert_eq!(polling.status(), Status::Active);
}

#[test]
fn an_answer_lifts_nothing_that_another_stopped() {
    let polling = Polling::new(None);
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
        let read = read_scim(text.as_bytes(), "00uA");
        assert_eq!(read.ok(), expected, "{text}");
    };
    let one = |total: u64, member: &str| {
        format!(r#"{{"totalResults":{total},"Resources":[{{"id":"1",{member}}}]}}"#)
    };
    let (active, gone) = (Some(Standing::Active), Some(Standing::Gone));
    check(&one(1, r#""externalId":"00uA","active":true"#), active);
    check(&one(1, r#""externalId":"00uA","active":false"#), gone);
    check(r#"{"totalResults":0,"Resources":[]}"#, gone);
    check(r#"{"totalResults":0}"#, gone);
    // An answer about somebody else, also by case alone, or about nobody.
    check(&one(1, r#""externalId":"00ua","active":true"#), None);
    check(&one(1, r#""externalId":"00ua","active":false"#), None);
    check(&one(1, r#""externalId":"00uB","active":true"#), None);
    check(&one(1, r#""externalId":["00uA"],"active":true"#), None);
    check(&one(1, r#""active":true"#), None);
    // What says two things.
    check(&one(0, r#""externalId":"00uA","active":true"#), None);
    check(&one(2, r#""externalId":"00uA","active":true"#), None);
    check(r#"{"totalResults":1,"Resources":[]}"#, None);
    check(r#"{"totalResults":"0","Resources":[]}"#, None);
    check(r#"{"Resources":[]}"#, None);
    check(&one(1, r#""externalId":"00uA""#), None);
    check(&one(1, r#""externalId":"00uA","active":"true""#), None);
    check(
        r#"{"totalResults":2,"Resources":[{"externalId":"00uA","active":true},{"externalId":"00uA","active":true}]}"#,
        None,
    );
    check(r#"{"totalResults":1}"#, None);
    check(r#"{"Resources":{}}"#, None);
    check("<html>", None);
    check("", None);
}
