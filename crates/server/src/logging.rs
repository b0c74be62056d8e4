//! The log: lines for whoever reads them at night, on standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

/// Begins to log. `TIPSTAFF_LOG` sets what (`info`, `debug`, `gateway=debug`); without it `quiet`
/// programs only warn.
pub fn start(quiet: bool) {
    let default = EnvFilter::new(if quiet { "warn" } else { "info" });
    let filter = EnvFilter::try_from_env("TIPSTAFF_LOG").unwrap_or(default);
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    // A program that logs already goes on doing so.
    drop(started);
}
