//! Where commands run, and with them who proves a cut.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use ledger::RecordError;

use super::*;
use crate::control::Sever;
use crate::standing::{Active, Stale};

/// Notes on which thread it is asked.
#[derive(Debug, Default)]
struct Where(Mutex<Option<String>>);

impl Sever for Where {
    fn sever<'a>(
        &'a self,
        _: &'static str,
        _: Option<u64>,
    ) -> Pin<Box<dyn Future<Output = Result<(), RecordError>> + Send + 'a>> {
        *self.0.lock().unwrap() = std::thread::current().name().map(str::to_owned);
        Box::pin(async { Ok(()) })
    }
}

#[test]
fn commands_run_where_they_are_to_run() {
    let lane = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("lane")
        .build()
        .unwrap();
    let here = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    here.block_on(async {
        let node = Node::ready().await;
        let asked = Arc::new(Where::default());
        node.control.cuts_by(Arc::clone(&asked) as Arc<dyn Sever>);
        node.control.runs_on(lane.handle().clone());
        node.ok(suspend_sponsor("maja")).await;
        assert_eq!(asked.0.lock().unwrap().as_deref(), Some("lane"));
    });
}

/// Somebody who may act.
fn active(node: &Node, id: &InstanceId) -> Active {
    let standing = node.control.standing(id, node.now());
    standing.active().unwrap()
}

/// A cut, and why then neither they nor a bystander may act.
type Cutting = (fn(&InstanceId) -> Command, Option<Why>, Option<Why>);

/// What is cut is not permitted from the moment that the cut is decided: the disk may take as long as
/// it likes, and if it refuses the entry all is as before.
#[tokio::test]
async fn nobody_gains_by_a_disk_that_is_slow() {
    let files: vocab::UpstreamName = "files".parse().unwrap();
    let cuts: [Cutting; 6] = [
        (
            |_| suspend_sponsor("maja"),
            Some(Why::SponsorSuspended),
            None,
        ),
        (|_| suspend_agent("triage"), Some(Why::AgentSuspended), None),
        (
            |_| Command::RetireAgent {
                id: "triage".parse().unwrap(),
            },
            Some(Why::AgentRetired),
            None,
        ),
        (
            |id| Command::EndInstance {
                id: id.clone(),
                reason: EndReason::Revoked,
            },
            Some(Why::InstanceEnded),
            None,
        ),
        (
            |_| Command::StopUpstream {
                name: "files".parse().unwrap(),
                signal: signal("stop"),
            },
            Some(Why::UpstreamStopped),
            Some(Why::UpstreamStopped),
        ),
        (
            |_| Command::StopAll {
                signal: signal("stop"),
            },
            Some(Why::AllStopped),
            Some(Why::AllStopped),
        ),
    ];
    for (command, theirs, others) in cuts {
        let node = Node::ready().await;
        node.ok(add_sponsor("noor")).await;
        node.ok(add_agent("billing", "noor")).await;
        let id = node.start("triage", 1).await;
        let other = node.start("billing", 2).await;
        let (mine, bystander) = (active(&node, &id), active(&node, &other));
        let seen = || {
            let still = |active| match node.control.still(active, &files, node.now()) {
                Ok(()) => None,
                Err(Stale::Narrowed(why)) => Some(why),
                Err(stale) => panic!("{stale:?}"),
            };
            (still(&mine), still(&bystander))
        };
        let size = node.log.len();
        for refused in [true, false] {
            node.log.hold.store(true, Ordering::Relaxed);
            node.log.refuse_append.store(refused, Ordering::Relaxed);
            assert_eq!(seen(), (None, None));
            let control = Arc::clone(&node.control);
            let command = command(&id);
            let done = tokio::spawn(async move { control.execute(admin(), command).await });
            while seen().0.is_none() {
                tokio::task::yield_now().await;
            }
            assert_eq!(seen(), (theirs, others));
            let at = |id| node.control.standing_at(id, &files, node.now());
            assert_eq!(at(&id).active().err(), theirs);
            assert_eq!(at(&other).active().err(), others);
            assert_eq!(node.log.len(), size, "nothing is on record yet");
            node.log.hold.store(false, Ordering::Relaxed);
            assert_eq!(done.await.unwrap().is_err(), refused);
            if refused {
                assert_eq!(seen(), (None, None), "a cut that failed cuts nobody off");
            }
        }
        assert_eq!(seen(), (theirs, others));
    }
}
