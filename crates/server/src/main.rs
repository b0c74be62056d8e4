//! The program `tipstaff`.

use std::process::ExitCode;

use clap::Parser as _;
use server::cli::Cli;

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => server::commands::run(cli),
        Err(error) => {
            server::commands::misread(&error, std::env::args().any(|arg| arg == "--json"));
            // Help and version are asked for, and no error; all else is 2.
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}
