//! Processes that are measured: this program again, in another role.
//!
//! A child says on one line of its standard output what it offers once it is ready, and ends when
//! its standard input does; so none outlives the run, however that ends.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a child may take to start, and to end: a start may fold a million entries.
const PATIENCE: Duration = Duration::from_mins(5);

/// Says that this child is ready.
pub(crate) fn ready(what: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what}")
        .and_then(|()| out.flush())
        .context("saying that it is ready")
}

/// Resolves when the parent has closed this child's standard input.
pub(crate) async fn parent_gone() {
    let mut rest = Vec::new();
    // An error is an end too.
    let _ended = tokio::io::stdin().read_to_end(&mut rest).await;
}

/// A child of this program.
pub(crate) struct Role {
    process: Child,
    /// Its process id.
    pub(crate) pid: u32,
    /// What it offers.
    pub(crate) offer: String,
}

impl Role {
    /// Starts this program again with `args` and waits until it is ready.
    pub(crate) async fn start<I, S>(args: I) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let program = std::env::current_exe().context("finding this program")?;
        let mut process = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting a child")?;
        let pid = process.id().context("a child that ended at once")?;
        let out = process.stdout.take().context("a child without output")?;
        let mut lines = BufReader::new(out).lines();
        let line = timeout(PATIENCE, lines.next_line())
            .await
            .context("a child that never began")??;
        let offer = line.context("a child that ended before it was ready")?;
        Ok(Self {
            process,
            pid,
            offer,
        })
    }

    /// Ends it in good order.
    pub(crate) async fn stop(mut self) -> Result<()> {
        drop(self.process.stdin.take());
        let status = timeout(PATIENCE, self.process.wait())
            .await
            .context("a child that never ended")??;
        if !status.success() {
            bail!("a child ended with {status}");
        }
        Ok(())
    }
}
