//! The machine that is measured on: its clock, its disk's flushes, and what processes used.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use vocab::Clock;
use vocab::time::SystemClock;

use crate::stats::{median, micros};

static CLOCK: LazyLock<SystemClock> = LazyLock::new(SystemClock::new);

/// A clock that only goes forward.
pub(crate) fn elapsed() -> Duration {
    CLOCK.elapsed()
}

/// The wall clock.
pub(crate) fn now() -> vocab::Time {
    CLOCK.now()
}

/// What the numbers depend on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    memory_mib: u64,
    /// Median of one flush of a preallocated file on the disk that the logs are on.
    pub(crate) flush_us: f64,
    version: &'static str,
}

impl Machine {
    pub(crate) fn look(flush_us: f64) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let uname = rustix::system::uname();
        let kernel = uname.release().to_string_lossy().into_owned();
        let memory_mib = rustix::system::sysinfo().totalram / (1024 * 1024);
        let processor = field("/proc/cpuinfo", "model name").unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION");
        Self {
            cores,
            processor,
            kernel,
            memory_mib,
            flush_us,
            version,
        }
    }

    pub(crate) fn line(&self) -> String {
        let Self {
            cores,
            processor,
            kernel,
            memory_mib,
            flush_us,
            version,
        } = self;
        format!(
            "Tipstaff {version}, release build; {cores} cores ({processor}), {memory_mib} MiB, \
             Linux {kernel}; one `fdatasync` of the disk: {flush_us:.0} µs (median, same run). \
             Load generator, upstream and gateway share the cores."
        )
    }
}

/// The text after `name:` in a file of `/proc`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// User and system time that a process has used, all its threads together.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    // The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
    let fields = text
        .rsplit_once(')')
        .context("no name in a process's state")?
        .1;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|it| it.parse::<u64>().ok()).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_micros(ticks * 1_000_000 / per_second.max(1)))
}

/// User and system time that this process has used.
pub(crate) fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::from_secs(seconds)
        + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default())
}

/// The most memory that a process had resident, in MiB.
pub(crate) fn peak_mib(pid: u32) -> Result<f64> {
    memory(pid, "VmHWM")
}

/// What a process has resident, in MiB.
pub(crate) fn rss_mib(pid: u32) -> Result<f64> {
    memory(pid, "VmRSS")
}

#[expect(clippy::cast_precision_loss, reason = "a number of KiB")]
fn memory(pid: u32, what: &str) -> Result<f64> {
    let text = field(&format!("/proc/{pid}/status"), what).context("no such figure of memory")?;
    let kib = text.split_whitespace().next().unwrap_or_default();
    Ok(kib
        .parse::<u64>()
        .context("a figure of memory is no number")? as f64
        / 1024.0)
}

/// Writes and flushes a preallocated file again and again, as a log with one writer would, for
/// about `lasting`; the time of each round in µs.
pub(crate) fn flushes(dir: &Path, lasting: Duration) -> Result<Vec<f64>> {
    const FILE_BYTES: u64 = 16 * 1024 * 1024;
    const WRITE_BYTES: usize = 1_024;
    let zeros = vec![0; 1024 * 1024];
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(dir.join("flushes"))
        .context("creating a file to flush")?;
    for at in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    let bytes = [b'x'; WRITE_BYTES];
    let end = elapsed() + lasting;
    let mut times = Vec::new();
    let mut at = 0;
    while elapsed() < end {
        let begin = elapsed();
        file.write_all_at(&bytes, at)?;
        file.sync_data()?;
        times.push(micros(elapsed().saturating_sub(begin)));
        at = (at + WRITE_BYTES as u64) % (FILE_BYTES - WRITE_BYTES as u64);
    }
    drop(file);
    fs::remove_file(dir.join("flushes"))?;
    Ok(times)
}

/// One flush, in µs: the median of what fits into `lasting`.
pub(crate) fn flush(dir: &Path, lasting: Duration) -> Result<f64> {
    Ok(median(&mut flushes(dir, lasting)?))
}
