//! Where commands run, and with them who proves a cut.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use ledger::RecordError;

use super::*;
use crate::control::Sever;

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
