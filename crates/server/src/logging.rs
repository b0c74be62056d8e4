//! The log: lines for whoever reads them at night, on standard error.

use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;

/// Begins to log. `TIPSTAFF_LOG` sets what (`info`, `debug`, `gateway=debug`); without it `quiet`
/// programs only warn.
pub fn start(quiet: bool) {
    let default = EnvFilter::new(if quiet { "warn" } else { "info" });
    let filter = EnvFilter::try_from_env("TIPSTAFF_LOG").unwrap_or(default);
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Lossy)
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    // A program that logs already goes on doing so.
    drop(started);
}

/// Standard error that may lose a line. A full disk under the log must not end a thread: the
/// ledger says what cannot be recorded, and the log is not the ledger.
struct Lossy;

impl Write for Lossy {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _lost = io::stderr().write_all(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
