//! Keeping of children: nothing that a child starts outlives it, nor the node.
//!
//! A process that leaves its parent and its process group (a double fork, `setsid`, `nohup`)
//! cannot be ended by ending the child. So between the node and the child stands this program
//! again, as the *keeper*, `EXE __keep --of NODE … -- COMMAND…`. It starts the command, waits for
//! it, and ends when the command ends, when the node asks it to, or when the node is gone,
//! however that came about; and it leaves nothing behind. How surely depends on the system:
//!
//! * [`Level::Namespace`]: everything runs in a pid namespace, whose first process is a second
//!   keeper (`EXE __keep --of KEEPER --init -- COMMAND…`). When that one ends, the kernel kills
//!   all the rest, and it ends with the first. What runs inside sees no other process: `/proc`
//!   is mounted anew, in a mount namespace.
//! * [`Level::Subreaper`]: the kernel hands orphans to the keeper, which kills its children until
//!   it has none.
//!
//! A keeper is never confined itself: what is confined cannot signal it, on Linux 6.12 and newer,
//! and in a namespace cannot even see it.

use std::path::{Path, PathBuf};

/// The hidden subcommand that calls [`run`].
pub const SUBCOMMAND: &str = "__keep";

/// How surely all that a child starts ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The kernel ends it.
    Namespace,
    /// The keeper ends it.
    Subreaper,
}

/// How children are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    /// A program that hands the arguments after `__keep` to [`run`], and those after `__confine`
    /// to [`confine_and_exec`](super::sandbox::confine_and_exec).
    pub exe: PathBuf,
    /// How surely.
    pub level: Level,
}

impl Keeper {
    /// The surest keeper that can be had here; found out by trying.
    pub fn probe(exe: &Path) -> Option<Self> {
        let surest = Self {
            exe: exe.to_path_buf(),
            level: Level::Namespace,
        };
        let next = surest.at(Level::Subreaper);
        [surest, next].into_iter().find(Self::works)
    }

    /// The same at another level.
    pub(super) fn at(&self, level: Level) -> Self {
        let exe = self.exe.clone();
        Self { exe, level }
    }
}

#[cfg(target_os = "linux")]
pub use linux::run;

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsString;
    use std::fs;
    use std::io::{self, Write as _};
    use std::os::fd::OwnedFd;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, ExitCode, Stdio};
    use std::time::Duration;

    use rustix::io::Errno;
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    use rustix::process::{
        DumpableBehavior, Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getegid, geteuid,
        getpid, getppid, kill_process, kill_process_group, pidfd_open, set_child_subreaper,
        set_dumpable_behavior, wait,
    };
    use rustix::stdio::{dup2_stdin, dup2_stdout};
    use rustix::thread::{
        CapabilitySet, UnshareFlags, capabilities, configure_capability_in_ambient_set,
        set_capabilities,
    };
    use tokio::net::unix::pipe;
    use tokio::signal::unix::{SignalKind, signal};
    use tokio::time::{Instant, sleep_until};

    use super::super::sandbox;
    use super::{Keeper, Level, SUBCOMMAND};

    /// How long a command may take to end after SIGTERM.
    const GRACE: Duration = Duration::from_secs(2);
    /// What a keeper exits with that could not do its work.
    const FAILED: u8 = 125;
    /// Added to the number of the signal that ended the command, as shells do.
    const BY_SIGNAL: i32 = 128;

    impl Keeper {
        /// The command that has `command` kept.
        pub(in super::super) fn around(&self, command: &Command) -> Command {
            let mut around = self.begun();
            around.arg("--").arg(command.get_program());
            around.args(command.get_args());
            around
        }

        fn begun(&self) -> Command {
            let mut around = Command::new(&self.exe);
            around.args([SUBCOMMAND, "--of"]).arg(getpid().to_string());
            if self.level == Level::Namespace {
                around.arg("--first").arg(&self.exe);
            }
            around
        }

        pub(super) fn works(&self) -> bool {
            let tried = self
                .begun()
                .arg("--trial")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            tried.is_ok_and(|status| status.success())
        }
    }

    /// What the keeper's arguments say.
    struct Task {
        /// Whose child it is to be.
        of: Pid,
        place: Place,
        /// None only tries whether the rest can be done.
        command: Option<Command>,
    }

    enum Place {
        /// The first keeper, which kills what is left.
        Around,
        /// The first keeper, around a namespace.
        Outside { first: OsString },
        /// The first process of the namespace.
        Init,
    }

    impl Task {
        fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<Self> {
            let mut arguments = arguments.into_iter();
            let (mut of, mut place, mut command) = (None, Place::Around, None);
            loop {
                let flag = arguments.next()?;
                match flag.to_str()? {
                    "--of" => {
                        let number = arguments.next()?.to_str()?.parse().ok()?;
                        of = Some(Pid::from_raw(number)?);
                    }
                    "--first" => {
                        place = Place::Outside {
                            first: arguments.next()?,
                        }
                    }
                    "--init" => place = Place::Init,
                    "--trial" => break,
                    "--" => {
                        command = Some(Command::new(arguments.next()?));
                        break;
                    }
                    _ => return None,
                }
            }
            if let Some(command) = &mut command {
                command.args(arguments);
            }
            Some(Self {
                of: of?,
                place,
                command,
            })
        }
    }

    /// Keeps a command: starts it, and ends with it, leaving nothing of it. Must be called
    /// before the process has threads.
    pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        let kept = match Task::parse(arguments) {
            Some(task) => keep(task),
            None => Err(io::Error::other(
                "usage: --of PID [--first EXE | --init] (--trial | -- COMMAND…)",
            )),
        };
        let code = kept.unwrap_or_else(|error| {
            let _unheard = writeln!(io::stderr(), "tipstaff {SUBCOMMAND}: {error}");
            FAILED
        });
        ExitCode::from(code)
    }

    fn keep(task: Task) -> io::Result<u8> {
        let Task {
            of,
            place,
            mut command,
        } = task;
        let parent = match &place {
            Place::Around => {
                set_child_subreaper(Some(getpid()))?;
                Some(parent(of)?)
            }
            Place::Outside { first } => {
                let parent = parent(of)?;
                enter_namespaces()?;
                let mut init = Command::new(first);
                init.args([SUBCOMMAND, "--of"])
                    .arg(getpid().to_string())
                    .arg("--init");
                match &command {
                    None => init.arg("--trial"),
                    Some(command) => init
                        .arg("--")
                        .arg(command.get_program())
                        .args(command.get_args()),
                };
                command = Some(init);
                Some(parent)
            }
            Place::Init => {
                sandbox::end_with_parent()?;
                // Seen from the outside, since `/proc` is still of there: the parent may have
                // ended before it was asked to take us along.
                if parent_outside() != Some(of) {
                    return Err(io::Error::other("the keeper is gone"));
                }
                let closed = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
                mount("proc", "/proc", "proc", closed, None)?;
                sandbox::drop_capabilities()?;
                None
            }
        };
        // What runs as the same user must not get at this process through `/proc` or ptrace.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        let Some(command) = &mut command else {
            return Ok(0);
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let status = runtime.block_on(attend(parent, command))?;
        if !matches!(place, Place::Init) {
            kill_all()?;
        }
        let code = status.map_or(BY_SIGNAL + Signal::KILL.as_raw(), |status| {
            let by_signal = || status.terminating_signal().map(|signal| BY_SIGNAL + signal);
            status
                .exit_status()
                .or_else(by_signal)
                .unwrap_or(i32::from(FAILED))
        });
        Ok(u8::try_from(code).unwrap_or(FAILED))
    }

    /// The process that this one is a child of, to be waited for.
    fn parent(of: Pid) -> io::Result<OwnedFd> {
        let parent = pidfd_open(of, PidfdFlags::empty())?;
        // In this order: while it is our parent, its number is no other's.
        if getppid() == Some(of) {
            Ok(parent)
        } else {
            Err(io::Error::other("the node is gone"))
        }
    }

    fn parent_outside() -> Option<Pid> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        Pid::from_raw(parent.trim().parse().ok()?)
    }

    /// Has the next child begin a pid namespace, with mounts of its own; without privileges in a
    /// user namespace, in which there is this user alone.
    fn enter_namespaces() -> io::Result<()> {
        let wanted = UnshareFlags::NEWPID | UnshareFlags::NEWNS;
        match unshare(wanted) {
            Ok(()) => {}
            Err(Errno::PERM) => {
                let (user, group) = (geteuid(), getegid());
                unshare(wanted | UnshareFlags::NEWUSER)?;
                fs::write("/proc/self/setgroups", "deny")?;
                fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
                fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
                // Kept over exec, so that the first process can mount `/proc`.
                let mut sets = capabilities(None)?;
                sets.inheritable |= CapabilitySet::SYS_ADMIN;
                set_capabilities(None, sets)?;
                configure_capability_in_ambient_set(CapabilitySet::SYS_ADMIN, true)?;
            }
            Err(error) => return Err(error.into()),
        }
        // What is mounted outside later shows inside, and not the other way round.
        let inward = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        Ok(mount_change("/", inward)?)
    }

    #[expect(
        deprecated,
        reason = "the safe form is deprecated for what it does with CLONE_FILES, never asked here"
    )]
    fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
        rustix::thread::unshare(flags)
    }

    /// Starts the command and waits for its end, or brings it about: then there may be no status.
    async fn attend(
        parent: Option<OwnedFd>,
        command: &mut Command,
    ) -> io::Result<Option<WaitStatus>> {
        let mut ended = signal(SignalKind::child())?;
        let mut asked = signal(SignalKind::terminate())?;
        // No pipe, but all that is asked of it is whether it is readable, which an ended process
        // is. There can be no thread that waits, since those may not begin a namespace.
        let parent = parent
            .map(pipe::Receiver::from_owned_fd_unchecked)
            .transpose()?;
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::other(format!("could not start `{program}`: {error}")))?;
        let child = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let child = child.ok_or_else(|| io::Error::other("the child has no number"))?;
        // The pipes are the command's alone, so that it alone closes them.
        let nothing = fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        dup2_stdin(&nothing)?;
        dup2_stdout(&nothing)?;
        let mut deadline = None;
        loop {
            while let Some((process, status)) = reap()? {
                if process == child {
                    return Ok(Some(status));
                }
            }
            let gone = async {
                match &parent {
                    Some(parent) => parent.readable().await,
                    None => std::future::pending().await,
                }
            };
            let is_late = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = ended.recv() => {}
                Some(()) = asked.recv(), if deadline.is_none() => {
                    deadline = Some(ask(child));
                }
                gone = gone, if deadline.is_none() => {
                    gone?;
                    deadline = Some(ask(child));
                }
                () = is_late => return Ok(None),
            }
        }
    }

    /// Asks the command to end, and says by when.
    fn ask(child: Pid) -> Instant {
        // It may be gone already.
        let _gone = kill_process_group(child, Signal::TERM);
        Instant::now() + GRACE
    }

    fn reap() -> io::Result<Option<(Pid, WaitStatus)>> {
        match wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => Ok(None),
            reaped => Ok(reaped?),
        }
    }

    /// Kills the children until there are none: those of what ends become ours.
    fn kill_all() -> io::Result<()> {
        loop {
            for child in children()? {
                // It is ours until it is waited for, so the number is no other's.
                let _gone = kill_process(child, Signal::KILL);
            }
            match wait(WaitOptions::empty()) {
                Err(Errno::CHILD) => return Ok(()),
                Err(Errno::INTR) | Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn children() -> io::Result<Vec<Pid>> {
        let ours = getpid();
        let mut children = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(process) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // It may be gone by now.
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            // The name before the last bracket may hold anything.
            let parent = stat
                .rsplit_once(')')
                .and_then(|(_, rest)| rest.split_whitespace().nth(1));
            if parent
                .and_then(|parent| parent.parse().ok())
                .and_then(Pid::from_raw)
                == Some(ours)
            {
                children.extend(Pid::from_raw(process));
            }
        }
        Ok(children)
    }
}

#[cfg(not(target_os = "linux"))]
impl Keeper {
    /// The command that has `command` kept.
    pub(super) fn around(&self, command: &std::process::Command) -> std::process::Command {
        let mut same = std::process::Command::new(command.get_program());
        same.args(command.get_args());
        same
    }

    fn works(&self) -> bool {
        false
    }
}
