//! Confinement of children: they have no privileges, cannot read, list or change the node's data
//! folder and keys, nor change its configuration and policies (Landlock).
//!
//! A process can only confine itself, and doing that between fork and exec takes `unsafe` code. So
//! the child's command is this program again, `EXE __confine --deny DIR… --read-only PATH… --
//! COMMAND…`, which confines itself and becomes the command ([`confine_and_exec`]). It is started
//! by the keeper ([`keep`](super::keep)).
//!
//! Whoever the node runs as, the child has no capabilities and can gain none: run as root it owns
//! what root owns, and nothing more. With `--open`, where there is no Landlock, that is all.
//!
//! Landlock knows only what is allowed, and what is allowed for a folder is allowed for all below
//! it. To leave a folder out, everything *beside* the way to it is allowed, one by one: for
//! `/srv/node/data` that is all in `/` but `srv`, all in `/srv` but `node`, all in `/srv/node` but
//! `data`. What follows from that:
//!
//! * The folders on the way (`/`, `/srv`, `/srv/node`) cannot be listed, and nothing can be
//!   created, renamed or removed directly in them.
//! * What others create directly in them later is out of reach until the child starts again.
//! * Below everything beside the way, nothing changes: new files and folders there are reachable.
//!
//! So a data folder in a folder of its own costs children nothing; one in a home or project folder
//! takes the listing of that folder away from them. The other way round, to allow the listing,
//! would show the child the data folder's file names and let it create files there.
//!
//! Symbolic links on the way are left out: what they lead to is judged by its real place. The
//! same folder bound to a second place by a mount is not known here, and stays open there.
//! Landlock before its ABI 9 does not govern connecting to Unix sockets that have a path: an
//! administration socket must know a confined peer itself ([`has_no_new_privs`]).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::keep::Level;
use super::{OpenError, Transport, UpstreamConfig};

/// The hidden subcommand that calls [`confine_and_exec`].
pub const SUBCOMMAND: &str = "__confine";
/// Most files and folders beside the way to what is denied.
const ENTRIES_MAX: usize = 65_536;

/// Whether children are confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxMode {
    /// Not at all.
    Off,
    /// As far as the system can.
    IfAvailable,
    /// No child is started where the system cannot confine it whole.
    Required,
}

/// What the kernel can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// All that is needed (ABI 3, Linux 6.2).
    Whole,
    /// Reading and writing are governed, truncating is not.
    Partial,
    /// No Landlock.
    None,
}

/// How a child is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confinement {
    /// Confined.
    Confined,
    /// It can read what our user can.
    Open,
}

/// Why a command was not run confined.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The arguments are not those of the subcommand.
    #[error("usage: {SUBCOMMAND} (--open | --deny DIR… --read-only PATH…) -- COMMAND…")]
    Usage,
    /// A path on the way could not be read.
    #[error("could not read `{path}`")]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// There is too much beside what is denied.
    #[error("more than {limit} files lie beside the way to the data folder")]
    TooManyEntries {
        /// The limit.
        limit: usize,
    },
    /// The kernel refused the confinement.
    #[error("Landlock: {what}")]
    Landlock {
        /// The reason.
        what: String,
    },
    /// Privileges could not be given up.
    #[error("could not give up privileges")]
    Privileges {
        /// The reason.
        source: io::Error,
    },
    /// The command did not start.
    #[error("could not start `{program}`")]
    Exec {
        /// The program.
        program: String,
        /// The reason.
        source: io::Error,
    },
}

/// How a child of this upstream would be run, or why it would not.
pub fn confinement(config: &UpstreamConfig) -> Result<Confinement, OpenError> {
    let is_required = match config.sandbox {
        SandboxMode::Off => return Ok(Confinement::Open),
        SandboxMode::IfAvailable => false,
        SandboxMode::Required => true,
    };
    let support = match &config.keeper {
        Some(_) => support(),
        None => Support::None,
    };
    match support {
        Support::Whole => Ok(Confinement::Confined),
        Support::Partial if !is_required => Ok(Confinement::Confined),
        Support::None if !is_required => Ok(Confinement::Open),
        Support::Partial => Err(OpenError::Unconfined {
            what: "the kernel's Landlock is older than Linux 6.2".into(),
        }),
        Support::None => Err(OpenError::Unconfined {
            what: "this system has no Landlock".into(),
        }),
    }
}

/// The command to start.
pub(super) fn command(
    config: &UpstreamConfig,
    command: &[String],
    own_path: Option<&str>,
) -> Result<Command, OpenError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(OpenError::Unusable {
            what: "the command is empty".into(),
        });
    };
    let confinement = confinement(config)?;
    let mut bare = Command::new(program);
    bare.args(arguments);
    let Some(keeper) = &config.keeper else {
        return Ok(bare);
    };
    if let Err(what) = is_there(program, config, own_path) {
        let program = program.clone();
        return Err(OpenError::Spawn { program, what });
    }
    if config.sandbox == SandboxMode::Off {
        // A namespace would confine it too: it would see no process but its own.
        return Ok(keeper.at(Level::Subreaper).around(&bare));
    }
    let mut confined = Command::new(&keeper.exe);
    confined.arg(SUBCOMMAND);
    if confinement == Confinement::Confined {
        // What is made on the way later is out of reach as it is.
        let is_there = |path: &&PathBuf| path.exists();
        let denied = [&config.data_dir, &config.keys_dir];
        for path in denied
            .into_iter()
            .chain(config.secrets.iter().filter(is_there))
        {
            confined.arg("--deny").arg(absolute(path)?);
        }
        for path in &config.read_only {
            confined.arg("--read-only").arg(absolute(path)?);
        }
    }
    if confinement == Confinement::Open {
        confined.arg("--open");
    }
    confined.arg("--").arg(program).args(arguments);
    Ok(keeper.around(&confined))
}

/// Whether there is a program of that name; said here, since a keeper starts in any case.
fn is_there(program: &str, config: &UpstreamConfig, own_path: Option<&str>) -> Result<(), String> {
    let absent = || "there is no such program".to_owned();
    let Transport::Stdio { cwd, .. } = &config.transport else {
        return Err(absent());
    };
    if program.contains('/') {
        let cwd = cwd.as_deref().unwrap_or(Path::new(""));
        return match cwd.join(program).metadata() {
            Ok(it) if it.is_file() => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
            Ok(_) | Err(_) => Err(absent()),
        };
    }
    let path = match own_path {
        Some(path) => path.into(),
        None => std::env::var_os("PATH").unwrap_or_default(),
    };
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    found.then_some(()).ok_or_else(absent)
}

/// The child may start in another folder than ours.
fn absolute(path: &Path) -> Result<PathBuf, OpenError> {
    std::path::absolute(path).map_err(|error| OpenError::Unusable {
        what: format!("`{}`: {error}", path.display()),
    })
}

/// Confines this process, and becomes the command. Returns only if that fails; then nothing must
/// be done with the process but end it.
pub fn confine_and_exec(arguments: impl IntoIterator<Item = OsString>) -> ConfineError {
    match confine(arguments) {
        Err(error) => error,
        Ok(mut command) => {
            let source = command.exec();
            let program = command.get_program().to_string_lossy().into_owned();
            ConfineError::Exec { program, source }
        }
    }
}

fn confine(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, ConfineError> {
    let mut arguments = arguments.into_iter();
    let mut way = Way::default();
    let mut is_open = false;
    loop {
        let flag = arguments.next().ok_or(ConfineError::Usage)?;
        if flag == "--" {
            break;
        }
        if flag == "--open" {
            is_open = true;
            continue;
        }
        let path = PathBuf::from(arguments.next().ok_or(ConfineError::Usage)?);
        let real = fs::canonicalize(&path);
        if flag == "--deny" {
            // What is not there yet could be created later, and read: refuse.
            way.denied
                .push(real.map_err(|source| ConfineError::Unreadable { path, source })?);
        } else if flag == "--read-only" {
            // What is not there has nothing to be changed.
            way.read_only.extend(real);
        } else {
            return Err(ConfineError::Usage);
        }
    }
    if is_open != way.denied.is_empty() {
        return Err(ConfineError::Usage);
    }
    let mut command = Command::new(arguments.next().ok_or(ConfineError::Usage)?);
    command.args(arguments);
    end_with_parent()
        .and_then(|()| give_up_privileges())
        .map_err(|source| ConfineError::Privileges { source })?;
    if !is_open {
        let mut rules = Vec::new();
        way.visit(Path::new("/"), Right::All, &mut rules)?;
        restrict(&rules)?;
    }
    Ok(command)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    All,
    Read,
}

/// What is left out. All paths are real ones.
#[derive(Debug, Default)]
struct Way {
    denied: Vec<PathBuf>,
    read_only: Vec<PathBuf>,
}

impl Way {
    /// Adds the rules for `path` and all below it, at most `right`.
    fn visit(
        &self,
        path: &Path,
        right: Right,
        rules: &mut Vec<(PathBuf, Right)>,
    ) -> Result<(), ConfineError> {
        if rules.len() >= ENTRIES_MAX {
            return Err(ConfineError::TooManyEntries { limit: ENTRIES_MAX });
        }
        if self.denied.iter().any(|denied| denied == path) {
            return Ok(());
        }
        let right = if self.read_only.iter().any(|it| it == path) {
            Right::Read
        } else {
            right
        };
        let is_above = |it: &&PathBuf| it.starts_with(path) && it.as_path() != path;
        let has_denied = self.denied.iter().any(|it| is_above(&it));
        let has_read_only = right == Right::All && self.read_only.iter().any(|it| is_above(&it));
        if !has_denied {
            let own = if has_read_only { Right::Read } else { right };
            rules.push((path.to_owned(), own));
        }
        if has_denied || has_read_only {
            for entry in self.beside(path)? {
                self.visit(&entry, right, rules)?;
            }
        }
        Ok(())
    }

    /// What lies in a folder on the way, symbolic links left out.
    fn beside(&self, folder: &Path) -> Result<BTreeSet<PathBuf>, ConfineError> {
        let unreadable = |source| ConfineError::Unreadable {
            path: folder.to_owned(),
            source,
        };
        let mut entries = BTreeSet::new();
        match fs::read_dir(folder) {
            Ok(listed) => {
                for entry in listed {
                    let entry = entry.map_err(unreadable)?;
                    let is_link = entry.file_type().is_ok_and(|it| it.is_symlink());
                    if !is_link {
                        entries.insert(entry.path());
                    }
                    if entries.len() > ENTRIES_MAX {
                        return Err(ConfineError::TooManyEntries { limit: ENTRIES_MAX });
                    }
                }
            }
            // Not ours to list, so only the way on is known.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(unreadable(error)),
        }
        let all = self.denied.iter().chain(&self.read_only);
        let next = all.filter_map(|it| it.strip_prefix(folder).ok()?.components().next());
        entries.extend(next.map(|component| folder.join(component)));
        Ok(entries)
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use landlock::{
        ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
        RulesetStatus, Scope, path_beneath_rules,
    };

    use super::{ConfineError, PathBuf, Right, Support};

    /// The newest that we know; what an older kernel lacks is left out.
    const NEWEST: ABI = ABI::V9;

    pub(super) fn support() -> Support {
        let has = |abi| {
            Ruleset::default()
                .set_compatibility(CompatLevel::HardRequirement)
                .handle_access(AccessFs::from_all(abi))
                .and_then(Ruleset::create)
                .is_ok()
        };
        match (has(ABI::V3), has(ABI::V1)) {
            (true, _) => Support::Whole,
            (false, true) => Support::Partial,
            (false, false) => Support::None,
        }
    }

    pub(super) fn restrict(rules: &[(PathBuf, Right)]) -> Result<(), ConfineError> {
        let refused = |error: landlock::RulesetError| ConfineError::Landlock {
            what: error.to_string(),
        };
        // It must not signal us either, nor reach our sockets without a path.
        let mut ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))
            .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
            .and_then(Ruleset::create)
            .map_err(refused)?;
        for (path, right) in rules {
            let access = match right {
                Right::All => AccessFs::from_all(NEWEST),
                Right::Read => AccessFs::from_read(NEWEST),
            };
            // What is gone meanwhile, or not ours to open, is passed over.
            let rule = path_beneath_rules([path], access);
            ruleset = ruleset.add_rules(rule).map_err(refused)?;
        }
        let status = ruleset.restrict_self().map_err(refused)?;
        if status.ruleset == RulesetStatus::NotEnforced {
            return Err(ConfineError::Landlock {
                what: "not enforced".into(),
            });
        }
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    use super::{ConfineError, PathBuf, Right, Support};

    pub(super) const fn support() -> Support {
        Support::None
    }

    pub(super) fn restrict(_rules: &[(PathBuf, Right)]) -> Result<(), ConfineError> {
        Err(ConfineError::Landlock {
            what: "this system has none".into(),
        })
    }
}

use kernel::restrict;
#[cfg(target_os = "linux")]
pub(super) use privileges::drop_capabilities;
pub(super) use privileges::{end_with_parent, give_up_privileges};

#[cfg(target_os = "linux")]
mod privileges {
    use std::io;

    use rustix::process::{Signal, set_parent_process_death_signal};
    use rustix::thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
        clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
        set_no_new_privs,
    };

    /// Has the kernel kill this process when its parent ends; that holds over exec.
    pub(in super::super) fn end_with_parent() -> io::Result<()> {
        Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
    }

    /// Gives up every privilege that there is and may come.
    pub(in super::super) fn give_up_privileges() -> io::Result<()> {
        set_no_new_privs(true)?;
        drop_capabilities()
    }

    /// Gives up all capabilities.
    pub(in super::super) fn drop_capabilities() -> io::Result<()> {
        if capabilities(None)?
            .effective
            .contains(CapabilitySet::SETPCAP)
        {
            // What exec would give back to root. One that the kernel does not know is in no set.
            let held = CapabilitySet::all()
                .iter()
                .filter(|it| capability_is_in_bounding_set(*it).unwrap_or(false));
            for capability in held {
                remove_capability_from_bounding_set(capability)?;
            }
        }
        clear_ambient_capability_set()?;
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        Ok(set_capabilities(None, none)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod privileges {
    use std::io;

    pub(in super::super) fn end_with_parent() -> io::Result<()> {
        Ok(())
    }

    pub(in super::super) fn give_up_privileges() -> io::Result<()> {
        Ok(())
    }
}

/// What the kernel can do.
pub fn support() -> Support {
    kernel::support()
}

/// Whether a process can gain no privileges, as every confined child and all that it starts. An
/// administration socket asks this of its peer: if the peer has that mark and the node itself has
/// not, it comes from a confined child. `None` where it cannot be known.
pub fn has_no_new_privs(process: u32) -> Option<bool> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let mark = status
        .lines()
        .find_map(|line| line.strip_prefix("NoNewPrivs:"))?;
    Some(mark.trim() == "1")
}

#[cfg(test)]
mod tests;
