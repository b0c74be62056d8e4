//! `tipstaff witness`.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::json;
use store::{Faults, OpenError, SeenError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::up::{Stop, write_whole};
use super::{Context, Failure, Outcome, Verdict};
use crate::cli::Witness as Asked;
use crate::output;
use crate::witness::{Setup, Witness, WitnessError, serve};

pub(super) async fn run(context: &Context, asked: Asked) -> Outcome {
    let mut stopping = Stop::new()?;
    let setup = Setup {
        folder: asked.folder.clone(),
        name: asked.name,
        logs: asked.logs,
        clock: Arc::new(context.clock),
        faults: Faults::default(),
    };
    let witness = Witness::open(setup, &context.rng).map_err(|error| match error {
        WitnessError::Memory(SeenError::Open(OpenError::Locked { .. })) => Failure::Other(format!(
            "another witness runs in `{}`",
            asked.folder.display()
        )),
        error => Failure::Witness(error),
    })?;
    let listener = TcpListener::bind(asked.listen)
        .await
        .map_err(|error| Failure::Other(format!("cannot listen on {}: {error}", asked.listen)))?;
    let url = format!("http://{}", listener.local_addr()?);
    let (vkey, logs) = (
        witness.verifier().to_string(),
        witness.origins().map(str::to_owned).collect::<Vec<_>>(),
    );
    if let Some(path) = &asked.ready_file {
        write_whole(path, &format!("{}\n", json!({"url": url}))).map_err(|error| {
            Failure::Other(format!("cannot write `{}`: {error}", path.display()))
        })?;
    }
    let told = json!({"url": url, "name": witness.verifier().name(), "vkey": vkey, "logs": logs});
    context.show(&told, |_| {
        let mut out = format!(
            "The witness serves at {url}\n  its key: {vkey}\n  a node is told of it by\n    [ledger]\n    \
             anchor = \"witness:{url} {vkey}\"\n"
        );
        for origin in &logs {
            let _infallible = writeln!(out, "  follows {}", output::clean(origin));
        }
        out
    })?;
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(Arc::new(witness), listener, stop.clone()));
    stopping.asked().await;
    stop.cancel();
    let _ended = served.await;
    Ok(Verdict::Good)
}
