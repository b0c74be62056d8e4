//! `tipstaff doctor`: what is wrong, what is risky, and what to do about it.
//!
//! Half of it is read from files by whoever runs the command ([`of_files`]); the other half only
//! the running node knows ([`of_node`]).

mod approvals;
mod directory;
mod named;
mod names;
pub(crate) mod stops;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gateway::upstream::keep;
use gateway::upstream::sandbox::{self, Confinement, Support};
use ledger::note::{Signer, Verifier};
use ledger::{Entry, Log as _, LogReader};
use policy::Severity;
use register::AssertedAgents;
use serde::{Deserialize, Serialize};
use store::OfflineLog;
use vocab::{Clock, Digest, LogName, Time};

use crate::commands::ledger::trusted;
use crate::config::{Anchor, Config, Confine, Transport};
use crate::keys;
use crate::node::Shared;
use crate::node::snapshot::{Start, Told};
use crate::output::count;
use crate::policies;

/// How long an upstream gets to list its tools.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(20);

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and claims less or may stop working.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `config`, `keys`, `clock`, …
    pub check: String,
    /// How bad it is.
    pub status: Level,
    /// What was found.
    #[serde(rename = "finding")]
    pub found: String,
    /// What to do about it; null where nothing is to be done.
    pub advice: Option<String>,
}

impl Finding {
    /// Something as it should be.
    pub fn ok(check: &str, finding: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            status: Level::Ok,
            found: finding.into(),
            advice: None,
        }
    }

    /// Something risky.
    pub fn warn(check: &str, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self {
            status: Level::Warn,
            advice,
            ..Self::ok(check, finding)
        }
    }

    /// Something broken.
    pub fn fail(check: &str, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self {
            status: Level::Fail,
            advice,
            ..Self::ok(check, finding)
        }
    }
}

/// What the files say, whether or not a node runs.
pub fn of_files(config: &Config, clock: &dyn Clock) -> Vec<Finding> {
    let mut found = vec![configuration(config)];
    found.extend(named::files(config));
    if is_closed(&config.keys) {
        found.push(Finding::warn(
            "keys",
            "keys and logs are closed to this user, as they should be; they were not looked at",
            "run the command as the user that the node runs as, to look at them too",
        ));
    } else {
        found.extend(all_keys(config));
        found.extend(logs(config, clock.now()));
        found.extend(quorum(config));
    }
    found.push(disk(config));
    found
}

/// Whether a folder is there for another user than this one.
fn is_closed(folder: &Path) -> bool {
    fs::read_dir(folder).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// What can be said of the rest while no node runs.
pub fn without_node(config: &Config) -> Vec<Finding> {
    let mut found = vec![Finding::warn(
        "node",
        "no node is running, so upstreams and policies were not tried",
        "start one with `tipstaff up`, then run `tipstaff doctor` again",
    )];
    found.extend(config.upstreams.iter().filter_map(|(name, upstream)| {
        let Transport::Stdio { command, .. } = &upstream.transport else {
            return None;
        };
        let program = command.first()?;
        (!is_there(program)).then(|| {
            Finding::fail(
                "upstreams",
                format!("`{name}`: there is no program `{program}` on the path"),
                format!("install it, or give its full path in [upstream.{name}] command"),
            )
        })
    }));
    if !config.policies.is_dir() {
        found.push(Finding::fail(
            "policy",
            format!("there is no folder `{}`", config.policies.display()),
            "make it and write a policy; without one everything is denied",
        ));
    }
    found.extend(no_anchor(config.ledger.anchors.is_empty()));
    found.extend(named::references(config));
    found.extend(acceptance(config));
    found.extend(isolation(crate::node::is_shared_user(), config));
    found
}

fn is_there(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn configuration(config: &Config) -> Finding {
    let path = config.path.display();
    let encrypted = config
        .public_url
        .as_ref()
        .is_some_and(|url| url.as_str().starts_with("https://"));
    if let Some(url) = &config.public_url
        && !encrypted
        && !is_here(url.as_str())
    {
        return Finding::warn(
            "config",
            format!("`{path}` is valid; agents are told to come to `{url}`, without TLS"),
            "put a proxy that ends TLS before the node and name its https URL as `public_url`",
        );
    }
    if !config.listen.ip().is_loopback() && !encrypted {
        return Finding::warn(
            "config",
            format!(
                "`{path}` is valid; it listens on {} without TLS",
                config.listen
            ),
            "listen on 127.0.0.1, or put a proxy that ends TLS before it and name its https URL \
             as `public_url`",
        );
    }
    Finding::ok("config", format!("`{path}` is valid"))
}

/// Whether a URL leads to this machine alone.
fn is_here(url: &str) -> bool {
    let host = url
        .parse::<http::Uri>()
        .ok()
        .and_then(|uri| uri.host().map(str::to_owned));
    host.is_some_and(|host| {
        let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    })
}

fn all_keys(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    let folder = &config.keys;
    if config.keys.starts_with(&config.data) {
        found.push(Finding::warn(
            "keys",
            format!("`{}` lies in the data folder", folder.display()),
            "keep keys elsewhere: a copy of the data folder should open nothing",
        ));
    }
    let mut count = 0;
    for name in LogName::ALL {
        let path = keys::log_key(folder, name);
        match log_key(config, name, &path) {
            Ok(()) => count += 1,
            Err(finding) => found.push(*finding),
        }
    }
    let token = keys::read_token_key(&keys::token_key(folder)).map(drop);
    let facts = keys::read_seed(&keys::facts_key(folder)).map(drop);
    for (read, advice) in [(token, REPLACE), (facts, RESTORE)] {
        match read {
            Ok(()) => count += 1,
            Err(error) => found.push(Finding::fail("keys", error.to_string(), advice)),
        }
    }
    found.extend(
        keys::open_to_others(folder)
            .iter()
            .map(|path| exposed(path)),
    );
    found.insert(
        0,
        Finding::ok(
            "keys",
            format!("{count} of 4 keys in `{}` can be used", folder.display()),
        ),
    );
    found
}

const RESTORE: &str = "restore it from a backup; a folder without any keys is made by \
                       `tipstaff init`";

const REPLACE: &str = "while the node is stopped, `tipstaff keys rotate token` makes another";

fn log_key(config: &Config, name: LogName, path: &Path) -> Result<(), Box<Finding>> {
    let fail = |finding: String, advice: &str| Box::new(Finding::fail("keys", finding, advice));
    let text = keys::read_secret(path).map_err(|error| fail(error.to_string(), RESTORE))?;
    let signer: Signer = text.expose().parse().map_err(|_| {
        fail(
            format!("`{}` is not a signed-note private key", path.display()),
            RESTORE,
        )
    })?;
    let public = config.data.join(format!("{name}.vkey"));
    let shown = public.display();
    let vkey = fs::read_to_string(&public)
        .map_err(|error| fail(format!("cannot read `{shown}`: {error}"), RESTORE))?;
    let vkey: Verifier = vkey
        .trim_end()
        .parse()
        .map_err(|_| fail(format!("`{shown}` is not a public key"), RESTORE))?;
    if vkey.to_string() == signer.verifier().to_string() {
        Ok(())
    } else {
        Err(fail(
            format!("`{}` and `{shown}` are not of one pair", path.display()),
            "one of them was replaced: restore both from the same backup",
        ))
    }
}

fn exposed(path: &Path) -> Finding {
    let path = path.display();
    Finding::fail(
        "keys",
        format!("`{path}` can be read by others"),
        format!("chmod go= '{path}'; if somebody may have read it, make new keys"),
    )
}

fn logs(config: &Config, now: Time) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut last = Time::EPOCH;
    for name in LogName::ALL {
        match last_time(&config.data, name) {
            Ok(time) => last = last.max(time),
            Err(error) => found.push(Finding::fail(
                "ledger",
                format!("`{name}`: {error}"),
                "`tipstaff ledger verify` says more; restore the data folder from a backup",
            )),
        }
    }
    if found.is_empty() {
        let told = "the ends of both logs can be read; `tipstaff ledger verify` reads them whole";
        found.push(Finding::ok("ledger", told));
    }
    let behind = last.since(now);
    found.push(if behind > store::CLOCK_BEHIND_MAX {
        Finding::fail(
            "clock",
            format!("the clock is {} s behind the last entry", behind.as_secs()),
            "set the clock right (an NTP service does it); until then nothing can be recorded, \
             so every call is refused",
        )
    } else {
        Finding::ok("clock", format!("{now}, not behind the last entry"))
    });
    found
}

/// How much of each log the witnesses agree on, where that is asked for.
fn quorum(config: &Config) -> Vec<Finding> {
    let Some(quorum) = &config.ledger.quorum else {
        return Vec::new();
    };
    let look = |log: LogName| {
        let keys = trusted(&config.data, None, log).ok()?;
        let size = OfflineLog::open(&config.data, log).ok()?.size();
        Some(match quorum.covering(&config.data, log, &keys, 1) {
            Ok(agreed) => Finding::ok(
                "quorum",
                format!(
                    "{} of `{log}` have {} cosignatures and can be exported; there are {size}",
                    agreed.checkpoint.size,
                    quorum.needed()
                ),
            ),
            Err(short) => Finding::warn(
                "quorum",
                format!("nothing of `{log}` can be exported: {short}"),
                "see that the witnesses are reached (`anchors` says what each answered) and follow \
                 this log's key",
            ),
        })
    };
    // What cannot be read is told by others.
    LogName::ALL.into_iter().filter_map(look).collect()
}

fn last_time(data: &Path, name: LogName) -> Result<Time, String> {
    if !data.join(name.as_str()).exists() {
        return Ok(Time::EPOCH);
    }
    let log = OfflineLog::open(data, name).map_err(|error| error.to_string())?;
    let Some(index) = log.size().checked_sub(1) else {
        return Ok(Time::EPOCH);
    };
    let bytes = log.entry(index).map_err(|error| error.to_string())?;
    Ok(Entry::parse(&bytes)
        .map_err(|error| error.to_string())?
        .time)
}

fn disk(config: &Config) -> Finding {
    const MIB: u64 = 1024 * 1024;
    let free = match store::free_bytes(&config.data) {
        Ok(free) => free,
        Err(error) => {
            return Finding::fail(
                "disk",
                format!("`{}`: {error}", config.data.display()),
                "`tipstaff init` makes the data folder",
            );
        }
    };
    let told = format!(
        "{} MiB are free for `{}`",
        free / MIB,
        config.data.display()
    );
    let (warn, refuse) = (
        config.ledger.warn_free_bytes,
        config.ledger.refuse_free_bytes,
    );
    if free < refuse {
        Finding::fail(
            "disk",
            format!(
                "{told}, less than the {} MiB that the ledger needs",
                refuse / MIB
            ),
            "make room: every call is refused until there is",
        )
    } else if free < warn {
        Finding::warn(
            "disk",
            told,
            format!(
                "make room: below {} MiB every call is refused",
                refuse / MIB
            ),
        )
    } else {
        Finding::ok("disk", told)
    }
}

/// What only the running node knows.
pub async fn of_node(shared: &Arc<Shared>) -> Vec<Finding> {
    let mut found = vec![life(shared)];
    found.extend(edited(&shared.config));
    for log in [&shared.control_log, &shared.calls_log] {
        found.push(health(log.name(), &log.health()));
    }
    found.push(snapshot(&shared.snapshots.told()));
    found.extend(stops::findings(shared));
    found.extend(upstreams(shared).await);
    found.extend(policy(shared));
    found.extend(names::findings(shared));
    found.extend(anchors(shared));
    found.push(admins(shared));
    found.extend(break_glass(shared));
    found.extend(directory::findings(shared));
    found.push(sign_in(&shared.config));
    found.extend(approvals::findings(shared));
    found.extend(acceptance(&shared.config));
    found.extend(named::agents(shared));
    found.extend(named::secrets(shared));
    found.push(inspection(shared));
    found.extend(isolation(shared.shared_user, &shared.config));
    found
}

/// What the node read is not what the file says now.
fn edited(config: &Config) -> Option<Finding> {
    let path = config.path.display();
    let told = match fs::read(&config.path) {
        Ok(text) if Digest::of(&text) == config.digest => return None,
        Ok(_) => format!("`{path}` was changed since the node read it, and is not in force so"),
        Err(error) => format!("the node cannot read `{path}` any more: {error}"),
    };
    let advice = "start the node again to put it in force; until then it goes on with what it read";
    Some(Finding::warn("config", told, advice))
}

/// How people sign in.
fn sign_in(config: &Config) -> Finding {
    let login = &config.login;
    match (&login.provider, login.local) {
        (Some(provider), false) => {
            Finding::ok("sign-in", format!("people sign in at {}", provider.issuer))
        }
        (Some(provider), true) => Finding::warn(
            "sign-in",
            format!(
                "people sign in at {}, and whoever administers this node can sign in as anybody \
                 (`tipstaff login`)",
                provider.issuer
            ),
            "take `local = true` out of `[login]` unless you mean it",
        ),
        (None, true) => Finding::warn(
            "sign-in",
            "NO identity provider is configured: whoever administers this node can sign in as \
             anybody (`tipstaff login`), and records of that say `local-login`",
            "name the company's OpenID provider in `[login]`; docs/sign-in.md says how",
        ),
        (None, false) => Finding::ok(
            "sign-in",
            "nobody can sign in: no identity provider is configured",
        ),
    }
}

/// Whether anybody can accept the agents that run only once accepted.
fn acceptance(config: &Config) -> Option<Finding> {
    let nobody = config.login.provider.is_none() && !config.login.local;
    (config.agents.asserted == AssertedAgents::Refuse && nobody).then(|| {
        Finding::fail(
            "sign-in",
            "no agent that is added can ever run: `[agents] asserted` refuses those that their \
             sponsor did not accept, and no sponsor can sign in to accept one",
            "name the company's OpenID provider in [login] (docs/sign-in.md), or set \
             `asserted = \"run\"` in [agents]",
        )
    })
}

fn admins(shared: &Shared) -> Finding {
    let view = |state: &register::State| {
        let names = state.admins().map(|admin| format!("`{}`", admin.id));
        names.collect::<Vec<_>>()
    };
    let names = shared.plane.control().view(view);
    let told = if names.is_empty() {
        "root and the node's own user; none by name".to_owned()
    } else {
        let names = names.join(", ");
        format!("root, the node's own user, and by name {names}")
    };
    Finding::ok("admins", told)
}

/// Who runs although nobody answers for them.
fn break_glass(shared: &Shared) -> Vec<Finding> {
    let open = crate::break_glass::open(shared).into_iter();
    let told = open.map(|it| {
        let opened = it
            .opened_by
            .map_or_else(String::new, |by| format!(", opened by {by}"));
        Finding::warn(
            "break-glass",
            format!(
                "BROKEN: agent `{}` runs until {} although nobody answers for it; asked for by \
                 {}{opened}",
                it.agent, it.until, it.requested_by
            ),
            format!(
                "`tipstaff break-glass show {0}` says why; `tipstaff break-glass end {0}` ends it",
                it.id
            ),
        )
    });
    told.collect()
}

fn life(shared: &Shared) -> Finding {
    let plane = &shared.plane;
    if plane.life().has_failed() {
        return Finding::fail(
            "node",
            "it serves no more, because an outcome could not be put on record",
            "see to the disk, then start the node again",
        );
    }
    if let Some(failure) = plane.control().failure() {
        return Finding::fail(
            "node",
            format!("it serves no more: {failure}"),
            "start it again; if that fails too, `tipstaff ledger verify` says more",
        );
    }
    Finding::ok("node", format!("running at {}", shared.url))
}

fn health(name: LogName, health: &store::Health) -> Finding {
    let why = health
        .last_failure
        .as_ref()
        .map(|it| it.cause.as_str())
        .unwrap_or_default();
    let advice = "see to the disk; the log is used again as soon as it can be written";
    if !health.running || !health.writable {
        let told = format!("`{name}` cannot be written: {why}");
        Finding::fail("ledger", told, advice)
    } else if health.publishing {
        let entries = count(health.entries, "entry", "entries");
        Finding::ok("ledger", format!("`{name}` has {entries}"))
    } else {
        let told = format!("`{name}` cannot be published: {why}");
        Finding::warn("ledger", told, advice)
    }
}

/// What the next start begins with.
fn snapshot(told: &Told) -> Finding {
    if let Some(failure) = &told.failure {
        return Finding::warn(
            "snapshot",
            format!("no snapshot of the register could be written: {failure}"),
            "see to the disk; until one can be written, a start folds more of the control log",
        );
    }
    let next = match told.size {
        0 => "there is none for the next".to_owned(),
        size => format!(
            "the last one stands for {}",
            count(size, "entry", "entries")
        ),
    };
    let start = match &told.start {
        Start::Whole => "no snapshot of the register was there at the start".to_owned(),
        Start::OtherVersion => {
            "another version had written the register's snapshot at the start".to_owned()
        }
        Start::From(size) => format!(
            "the register began with a snapshot of {}",
            count(*size, "entry", "entries")
        ),
        Start::NotTaken(why) => {
            return Finding::warn(
                "snapshot",
                format!(
                    "the register's snapshot was not taken at the start, and the whole log was \
                     folded: {why}; {next}"
                ),
                "nothing is lost; but if nobody put another file there, see to the disk",
            );
        }
    };
    Finding::ok("snapshot", format!("{start}; {next}"))
}

/// What is looked for in what passes.
fn inspection(shared: &Shared) -> Finding {
    let it = shared.inspection.get();
    let digest = it.digest.to_string();
    let mut told = format!(
        "{} in force, digest {}",
        count(it.rules, "rule is", "rules are"),
        digest.get(..12).unwrap_or_default()
    );
    for (what, names) in [("also from", &it.files), ("left out:", &it.left_out)] {
        if !names.is_empty() {
            let _infallible = write!(told, "; {what} {}", names.join(", "));
        }
    }
    Finding::ok("inspection", told)
}

async fn upstreams(shared: &Arc<Shared>) -> Vec<Finding> {
    let asked = shared.plane.upstreams().map(|served| {
        let served = Arc::clone(served);
        async move {
            let name = served.name().clone();
            let refreshed = shared.plane.refresh_tools(&served);
            let listed = tokio::time::timeout(UPSTREAM_TIMEOUT, refreshed).await;
            let mut found = Vec::new();
            found.push(match listed {
                Ok(Ok(())) => {
                    let tools = shared
                        .plane
                        .known_tools(&name)
                        .map_or(0, |(_, tools)| tools.list().len());
                    let what = if served.is_elsewhere() {
                        format!("`{name}` declares {}", count(tools, "action", "actions"))
                    } else {
                        let tools = count(tools, "tool", "tools");
                        format!("`{name}` answers and lists {tools}")
                    };
                    Finding::ok("upstreams", what)
                }
                Ok(Err(error)) => unreachable_upstream(shared, &name, &error),
                Err(_) => {
                    let told = format!("no answer within {} s", UPSTREAM_TIMEOUT.as_secs());
                    unreachable_upstream(shared, &name, &told)
                }
            });
            found.extend(held(shared, &name));
            found.extend(restless(&served));
            let configured = shared.config.upstreams.get(&name);
            let wanted = configured.is_some_and(|it| it.confine != Confine::Off);
            match served.upstream().confinement() {
                Some(Ok(Confinement::Open)) if wanted => {
                    found.push(kept(&name, served.upstream()));
                    found.push(Finding::warn(
                        "upstreams",
                        format!("`{name}` runs as a child that is not confined"),
                        "it can read what this user can; give the node a kernel with Landlock, or \
                     run the server as another user and reach it by `url`",
                    ));
                }
                Some(Err(error)) => found.push(Finding::fail(
                    "upstreams",
                    format!("`{name}` is not started: {error}"),
                    format!("see [upstream.{name}] confine"),
                )),
                Some(Ok(_)) => found.push(kept(&name, served.upstream())),
                None => {}
            }
            found.extend(
                served
                    .observe_until()
                    .map(|until| observed(&name, until, shared.clock.now())),
            );
            found
        }
    });
    let found: Vec<Finding> = futures_util::future::join_all(asked)
        .await
        .into_iter()
        .flatten()
        .collect();
    if found.is_empty() {
        return vec![Finding::warn(
            "upstreams",
            "none is configured, so there is nothing to call",
            "add an [upstream.NAME] with `command` or `url` to the configuration",
        )];
    }
    found
}

/// An upstream that changes its tools so often that not all of it is put on record.
fn restless(served: &gateway::Served) -> Option<Finding> {
    let (put_off, is_put_off) = served.listings_put_off();
    if put_off == 0 {
        return None;
    }
    let name = served.name();
    let now = if is_put_off {
        "what it lists at present is not on record yet, and nothing of it is in force"
    } else {
        "what it lists at present is on record"
    };
    Some(Finding::warn(
        "upstreams",
        format!(
            "`{name}` changes its tools too often: {} since the start not put on record; {now}",
            count(
                usize::try_from(put_off).unwrap_or(usize::MAX),
                "change was",
                "changes were"
            )
        ),
        "see why the server lists something else each time (a date or a counter in a description \
         is enough) and mend it; what was accepted stays in force",
    ))
}

/// Its tools that cannot be called, and those that could be taken for others.
fn held(shared: &Shared, name: &vocab::UpstreamName) -> Vec<Finding> {
    const NAMED_MAX: usize = 5;
    let mut found = Vec::new();
    let Some((_, tools)) = shared.plane.known_tools(name) else {
        return found;
    };
    let held: Vec<_> = tools
        .pins()
        .tools()
        .filter(|(_, pin)| pin.state().is_held())
        .map(|(tool, pin)| format!("{tool} ({})", pin.state().as_str()))
        .collect();
    if !held.is_empty() {
        let named = held.iter().take(NAMED_MAX).map(String::as_str);
        found.push(Finding::warn(
            "upstreams",
            format!(
                "{} of `{name}` {} not called until a person accepts what it says: {}{}",
                count(held.len(), "tool", "tools"),
                if held.len() == 1 { "is" } else { "are" },
                named.collect::<Vec<_>>().join(", "),
                if held.len() > NAMED_MAX { ", …" } else { "" }
            ),
            format!(
                "look at each with `tipstaff upstream diff {name}/TOOL`, then `tipstaff upstream \
                 accept` or `refuse`"
            ),
        ));
    }
    let alike = shared.plane.look_alikes();
    let alike = alike.iter().filter(|it| it.upstream == *name && !it.same);
    found.extend(alike.take(NAMED_MAX).map(|it| {
        Finding::warn(
            "upstreams",
            format!(
                "`{}/{}` looks like `{}/{}`",
                it.upstream, it.tool, it.other_upstream, it.other_tool
            ),
            "see whether both are meant; an agent may take one for the other",
        )
    }));
    found
}

fn observed(name: &vocab::UpstreamName, until: Time, now: Time) -> Finding {
    if now < until {
        return Finding::warn(
            "upstreams",
            format!("`{name}` is only observed until {until}: policy denials PASS"),
            "set mode = \"enforce\" as soon as the records show that the policies fit",
        );
    }
    Finding::warn(
        "upstreams",
        format!(
            "`{name}` was observed until {until}, which is over: what policy denies is refused"
        ),
        format!("set mode = \"enforce\" in [upstream.{name}], or a later observe_until"),
    )
}

/// How surely what its children start ends with them.
fn kept(name: &vocab::UpstreamName, upstream: &gateway::upstream::Upstream) -> Finding {
    match upstream.keeping() {
        Some(keep::Level::Namespace) => Finding::ok(
            "upstreams",
            format!(
                "`{name}` runs in a pid namespace: when a child ends, the kernel ends all that it \
                 started"
            ),
        ),
        Some(keep::Level::Subreaper) => Finding::ok(
            "upstreams",
            format!(
                "`{name}` has a keeper that ends all that a child started; a child made to harm \
                 could end the keeper first, on Linux before 6.12 or with confine = \"off\""
            ),
        ),
        None => Finding::warn(
            "upstreams",
            format!("`{name}` has no keeper: what leaves a child's process group outlives it"),
            "run the node on Linux 5.3 or later, or run the server as another user and reach it \
             by `url`",
        ),
    }
}

fn unreachable_upstream(shared: &Shared, name: &vocab::UpstreamName, error: &str) -> Finding {
    let known = match shared.plane.known_tools(name) {
        Some(_) => "its tools are known from before, so policies can still be checked",
        None => "its tools are not known, so every call to it is denied",
    };
    let upstream = shared.plane.upstream(name).map(|it| it.upstream());
    if let Some(gateway::upstream::Transport::Unusable { .. }) =
        upstream.map(|it| &it.config().transport)
    {
        return Finding::fail(
            "upstreams",
            format!("`{name}` is not available: {error}; {known}"),
            format!(
                "set it where the node starts, or mend [upstream.{name}]; then start the node again"
            ),
        );
    }
    let words = upstream.map(|it| it.last_words()).unwrap_or_default();
    let advice = match shared.config.upstreams.get(name).map(|it| &it.transport) {
        Some(Transport::Stdio { command, .. }) => {
            format!("try it by hand: {}", command.join(" "))
        }
        Some(Transport::Http { url }) => format!("see whether {url} is up and speaks MCP"),
        Some(Transport::Elsewhere { actions, .. }) => format!(
            "write what can be done there into `{}`: a JSON array of tools, as `tools/list` gives it",
            actions.display()
        ),
        None => "see the configuration".to_owned(),
    };
    Finding::fail(
        "upstreams",
        format!("`{name}` does not answer: {error}{words}; {known}"),
        advice,
    )
}

fn policy(shared: &Arc<Shared>) -> Vec<Finding> {
    let (set, diagnostics) = shared.plane.policy_status();
    let mut found = Vec::new();
    match set {
        None => found.push(Finding::fail(
            "policy",
            "no valid policy set is in force, so every call is denied",
            "`tipstaff policy check` says what is wrong with the files; `tipstaff policy apply` \
             puts them in force",
        )),
        Some(set) => {
            let short: String = set.to_string().chars().take(12).collect();
            found.push(Finding::ok("policy", format!("set {short}… is in force")));
        }
    }
    for mut diagnostic in diagnostics {
        let advice = diagnostic.help.take();
        let advice = advice.unwrap_or_else(|| match diagnostic.severity {
            Severity::Error => "mend the policy and apply it again".to_owned(),
            Severity::Warning => "see whether it is meant so; tools that are not known are \
                                  listed as soon as their upstream answers"
                .to_owned(),
        });
        found.push(match diagnostic.severity {
            Severity::Error => Finding::fail("policy", diagnostic.to_string(), advice),
            Severity::Warning => Finding::warn("policy", diagnostic.to_string(), advice),
        });
    }
    match policies::check(&**shared, &shared.config.policies) {
        Err(error) => found.push(Finding::fail("policy", error, "see to the policies folder")),
        Ok(report) if !report.valid => found.push(Finding::warn(
            "policy",
            "the policy files as they are now are not valid, so what was in force stays",
            "`tipstaff policy check` says what is wrong",
        )),
        Ok(report) if report.set != set => found.push(Finding::warn(
            "policy",
            "the policy files are not what is in force",
            "put them in force with `tipstaff policy apply`",
        )),
        Ok(_) => {}
    }
    found
}

fn anchors(shared: &Shared) -> Vec<Finding> {
    let states = shared.anchors.states();
    let mut found: Vec<Finding> = states
        .iter()
        .map(|state| match (&state.failure, state.pushed_at) {
            (Some(failure), _) => Finding::fail(
                "anchors",
                format!("checkpoints do not reach {}: {failure}", state.place),
                "see to the place; meanwhile a replaced folder would not be noticed there",
            ),
            (None, Some(at)) => Finding::ok(
                "anchors",
                format!("{} has our checkpoints since {at}", state.place),
            ),
            (None, None) => Finding::warn(
                "anchors",
                format!("nothing was pushed to {} yet", state.place),
                "wait some seconds and look again",
            ),
        })
        .collect();
    found.extend(no_anchor(shared.config.ledger.anchors.is_empty()));
    let local = shared
        .config
        .ledger
        .anchors
        .iter()
        .filter_map(|anchor| match anchor {
            Anchor::Path(path) => Some(path),
            Anchor::Http(_) | Anchor::Witness { .. } => None,
        });
    found.extend(local.filter(|path| same_device(path, &shared.config.data)).map(|path| {
        Finding::warn(
            "anchors",
            format!("`{}` is on the same file system as the data folder", path.display()),
            "use another mount, an HTTP endpoint or a witness: who replaces one may replace both",
        )
    }));
    found
}

fn same_device(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.dev() == other.dev(),
        _ => false,
    }
}

fn no_anchor(none: bool) -> Option<Finding> {
    none.then(|| {
        Finding::warn(
            "anchors",
            "checkpoints are kept nowhere else, so it is not claimed that the history is whole: \
             whoever can replace the data folder and has the keys can replace the history",
            "set `anchor` in [ledger]: a path on another mount, an HTTP endpoint, or a witness",
        )
    })
}

fn isolation(shared_user: bool, config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    if crate::node::is_root() {
        found.push(Finding::warn(
            "isolation",
            "this runs as root; children have no capabilities, but own what root owns, such as \
             its home and what it may read as the owner",
            "nothing here needs root: run the node as a user of its own",
        ));
    }
    if shared_user {
        let data = config.data.display();
        let keys = config.keys.display();
        let agents = config.agents();
        let agents = agents.display();
        found.push(Finding::warn(
            "isolation",
            "the node runs as a user that agents may run as too; such an agent can read its keys, \
             and records say so",
            format!(
                "give the node a user of its own: `useradd --system tipstaff`, `chown -R tipstaff \
                 {data} {keys} {agents}`, and run `tipstaff up` as that user (a service manager does it); \
                 each agent then \
                 gets a copy of its own key file, and of no other"
            ),
        ));
    } else {
        found.push(Finding::ok("isolation", "the node has a user of its own"));
    }
    let children = config.upstreams.values().any(|upstream| {
        matches!(upstream.transport, Transport::Stdio { .. }) && upstream.confine != Confine::Off
    });
    if children && sandbox::support() != Support::Whole {
        found.push(Finding::warn(
            "isolation",
            "this system cannot confine stdio upstreams whole, so they can read what this user \
             can",
            "use Linux 6.2 or later with Landlock, or run such servers as another user and reach \
             them by `url`",
        ));
    }
    found
}

#[cfg(test)]
mod tests;
