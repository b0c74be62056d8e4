//! Running other programs, with what they say both shown and kept.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use anyhow::{Context, Result, bail};

/// How a program ended, and every line it wrote to either stream.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) success: bool,
    pub(crate) lines: Vec<String>,
}

/// Prints one line. All output goes to standard output, so that its order is the order of events.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A closed pipe is not worth failing for: the exit code still tells the result.
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}

/// A command in `dir` with no standard input.
pub(crate) fn command<I, S>(dir: &Path, program: impl AsRef<OsStr>, args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.current_dir(dir).args(args).stdin(Stdio::null());
    command
}

/// Runs a command, printing each line as it comes.
pub(crate) fn stream(mut command: Command) -> Result<Finished> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{}`", command.get_program().display()))?;
    let (sender, receiver) = mpsc::channel();
    let pipes: [Option<Box<dyn Read + Send>>; 2] = [
        child
            .stdout
            .take()
            .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        child
            .stderr
            .take()
            .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    ];
    for pipe in pipes.into_iter().flatten() {
        let sender = sender.clone();
        std::thread::spawn(move || forward(pipe, &sender));
    }
    drop(sender);
    let mut lines = Vec::new();
    for line in receiver {
        say(&line);
        lines.push(line);
    }
    let success = child.wait().context("waiting for the program")?.success();
    Ok(Finished { success, lines })
}

/// Runs a command and fails with a word about it unless it succeeds.
pub(crate) fn must(command: Command) -> Result<()> {
    let shown = shown(&command);
    if stream(command)?.success {
        return Ok(());
    }
    bail!("`{shown}` failed")
}

/// Runs a command quietly and returns its standard output.
pub(crate) fn output(mut command: Command) -> Result<Vec<u8>> {
    let shown = shown(&command);
    let output = command
        .output()
        .with_context(|| format!("starting `{shown}`"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    bail!(
        "`{shown}` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Whether a command can be started and succeeds; says nothing.
pub(crate) fn works(mut command: Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(OsStr::to_string_lossy));
    words.join(" ")
}

fn forward(pipe: impl Read, sender: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if sender.send(text).is_err() {
            return;
        }
        line.clear();
    }
}
