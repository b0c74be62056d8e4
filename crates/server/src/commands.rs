//! The commands of the command line: what each asks of the node or of files, and what it prints.

mod admin;
mod agent;
mod approval;
mod break_glass;
mod certificate;
mod demo;
mod doctor;
mod group;
mod init;
mod inspection;
mod instance;
mod keys;
pub mod ledger;
mod pep;
mod policy;
mod scim;
mod secret;
mod sponsor;
mod token;
mod trace;
mod up;
mod upstream;
mod witness;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use vocab::rng::{RngError, SystemRng};
use vocab::time::SystemClock;
use vocab::{UpstreamName, suggest};

use crate::admin::client::{AdminError, Client, NodeFile};
use crate::admin::wire::chain;
use crate::cli::{Cli, Command};
use crate::config::{Config, ConfigError};
use crate::keys::KeyError;
use crate::node::StartError;
use crate::output;
use crate::token::AskError;

/// Why a command did not do what it was asked. `Display` is for the person who gave it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node did not do it.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A key file cannot be written or read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A folder was not made.
    #[error(transparent)]
    Init(#[from] crate::init::InitError),
    /// The node did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The witness did not start.
    #[error(transparent)]
    Witness(#[from] crate::witness::WitnessError),
    /// A key that signs tokens was not changed.
    #[error(transparent)]
    Rotation(#[from] crate::rotation::RotationError),
    /// The demonstration did not go through.
    #[error(transparent)]
    Demo(#[from] crate::demo::DemoError),
    /// The bridge ended with an error.
    #[error(transparent)]
    Connect(#[from] crate::connect::ConnectError),
    /// No token was had.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Nothing that can be handed on.
    #[error(transparent)]
    HandingOn(#[from] crate::handing_on::FileError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RngError),
    /// Standard output or a file cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    /// The data folder serves another node.
    #[error("`{data}` is in use{by}", by = .pid.map_or_else(String::new, |pid| format!(" by process {pid}")))]
    InUse {
        /// The data folder.
        data: String,
        /// The process that serves it, if it said so.
        pid: Option<u32>,
    },
    /// The vault did not do it.
    #[error(transparent)]
    Vault(#[from] broker::VaultError),
    /// The upstream that was named is not in the node's configuration.
    #[error("there is no upstream `{name}`{nearest}", nearest = suggest::nearest(name.as_str(), known.iter().map(UpstreamName::as_str)).map_or_else(String::new, |near| format!("; did you mean `{near}`?")))]
    NoUpstream {
        /// What was named.
        name: UpstreamName,
        /// Those there are.
        known: Vec<UpstreamName>,
    },
    /// People answer approvals themselves, and nobody is signed in on a command line.
    #[error(
        "nothing was answered: whoever approves or refuses a call does it signed in as themselves, \
         and an administrator's credential is nobody's approval"
    )]
    InPerson {
        /// Where they do.
        url: String,
    },
    /// Something else, said where it happened.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    fn help(&self) -> Option<String> {
        match self {
            Self::InUse { .. } => Some(
                "a node is running on that data folder already (`tipstaff doctor` says more); \
                 one folder serves one node"
                    .to_owned(),
            ),
            Self::NoUpstream { known, .. } if known.is_empty() => {
                Some("the configuration has no [upstream.NAME] yet".to_owned())
            }
            Self::NoUpstream { known, .. } => {
                let names: Vec<&str> = known.iter().map(UpstreamName::as_str).collect();
                Some(format!("there are: {}", names.join(", ")))
            }
            Self::InPerson { url } => Some(format!("open {url} in a browser and sign in there")),
            Self::Admin(AdminError::Refused(problem)) => problem.help.clone(),
            Self::Key(KeyError::Write { cause, .. }) => match cause.kind() {
                io::ErrorKind::AlreadyExists => {
                    Some("a file that is there is not overwritten; name another".to_owned())
                }
                io::ErrorKind::NotFound => Some("make its folder first".to_owned()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether standard output has the reason already: the token endpoint's own answer.
    const fn is_told(&self) -> bool {
        matches!(self, Self::Ask(AskError::Refused { .. }))
    }

    /// The cause as a word, where there is one.
    fn code(&self) -> Option<&str> {
        match self {
            Self::Admin(AdminError::Refused(problem)) => Some(&problem.error),
            Self::InPerson { .. } => Some("in-person"),
            _ => None,
        }
    }
}

/// What a command that did not fail came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Done, or found as it should be.
    Good,
    /// Found wrong; what is wrong was printed.
    Wrong,
}

type Outcome = Result<Verdict, Failure>;

/// What every command may need.
#[derive(Debug)]
struct Context {
    path: PathBuf,
    json: bool,
    admin_key: Option<PathBuf>,
    clock: SystemClock,
    rng: SystemRng,
}

impl Context {
    fn config(&self) -> Result<Config, ConfigError> {
        Config::read(&self.path)
    }

    /// Why `upstream` cannot be reached through the node that runs here, if its configuration lacks it.
    fn no_upstream(&self, upstream: &UpstreamName) -> Option<Failure> {
        let config = self.config().ok()?;
        NodeFile::read(&config.data).ok()?;
        (!config.upstreams.contains_key(upstream)).then(|| Failure::NoUpstream {
            name: upstream.clone(),
            known: config.upstreams.into_keys().collect(),
        })
    }

    /// A way to the running node.
    fn node(&self) -> Result<Client<'_>, Failure> {
        let config = self.config()?;
        Ok(Client::find(
            &config,
            self.admin_key.as_deref(),
            &self.clock,
            &self.rng,
        )?)
    }

    /// The URL of the node that runs here, if one does and this user may know it.
    fn local_url(&self) -> Option<String> {
        NodeFile::read(&self.config().ok()?.data)
            .ok()
            .map(|node| node.url)
    }

    /// Prints a result: one JSON value, or the text that `text` makes of it.
    fn show(&self, value: &Value, text: impl FnOnce(&Value) -> String) -> Result<(), Failure> {
        if self.json {
            output::print(&value.to_string())?;
        } else {
            output::print(&text(value))?;
        }
        Ok(())
    }
}

/// Carries out what was asked on the command line.
pub fn run(cli: Cli) -> ExitCode {
    if let Command::Ledger(command) = &cli.command {
        return ledger::run(command, &cli).unwrap_or_else(|error| {
            failed(cli.json, &error.to_string(), None, None);
            ExitCode::from(if error.is_usage() { 2 } else { 1 })
        });
    }
    // What these write to standard output is not for whoever typed the command.
    let speaks = matches!(
        cli.command,
        Command::Connect(_) | Command::Confine { .. } | Command::Upstream { .. }
    );
    #[cfg(target_os = "linux")]
    if let Command::Keep { args } = cli.command {
        return gateway::upstream::keep::run(args);
    }
    let context = Context {
        path: cli.config,
        json: cli.json,
        admin_key: cli.admin_key,
        clock: SystemClock::new(),
        rng: SystemRng,
    };
    let outcome = match cli.command {
        // Before there are threads: this process confines itself and becomes another program.
        Command::Confine { args } => {
            let error = gateway::upstream::sandbox::confine_and_exec(args);
            Err(Failure::Other(chain(&error)))
        }
        Command::Upstream { count } => crate::upstream::serve(&count)
            .map(|()| Verdict::Good)
            .map_err(Failure::Write),
        Command::Demo(demo) => demo::run(&context, &demo),
        Command::Init(init) => init::run(&context, &init),
        command => in_runtime(&context, command),
    };
    match outcome {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Wrong) => ExitCode::FAILURE,
        Err(failure) => {
            let json = context.json && !speaks && !failure.is_told();
            let help = failure.help();
            failed(json, &chain(&failure), failure.code(), help.as_deref());
            ExitCode::FAILURE
        }
    }
}

/// Says on the command line that it could not be read.
pub fn misread(error: &clap::Error, json: bool) {
    let _unheard = error.print();
    if json && error.use_stderr() {
        let text = error.render().to_string();
        let text = text.trim_start_matches("error: ");
        let first = text.split("\n\n").next().unwrap_or_default();
        told(first, None, None);
    }
}

/// Says why a command did not do what it was asked: to people, and with `--json` to programs too.
fn failed(json: bool, error: &str, code: Option<&str>, help: Option<&str>) {
    output::warn(&format!("error: {error}"));
    if let Some(help) = help {
        output::warn(&format!("help: {help}"));
    }
    if json {
        told(error, code, help);
    }
}

fn told(error: &str, code: Option<&str>, help: Option<&str>) {
    let mut object = json!({"error": error});
    for (name, text) in [("code", code), ("help", help)] {
        if let (Some(text), Some(object)) = (text, object.as_object_mut()) {
            object.insert(name.to_owned(), text.into());
        }
    }
    let _unheard = output::print(&object.to_string());
}

/// Runs the commands that speak to the network.
fn in_runtime(context: &Context, command: Command) -> Outcome {
    let mut builder = match command {
        Command::Up(_) | Command::Witness(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build()?;
    crate::logging::start(context.json);
    let outcome = runtime.block_on(async {
        match command {
            Command::Up(up) => Box::pin(up::run(context, up)).await,
            Command::Connect(connect) => Box::pin(token::connect(context, connect)).await,
            Command::Token(token) => token::run(context, token).await,
            Command::Admin(command) => admin::run(context, command).await,
            Command::Approval(command) => approval::run(context, command).await,
            Command::BreakGlass(command) => break_glass::run(context, command).await,
            Command::Pep(command) => pep::run(context, command).await,
            Command::Tools(command) => upstream::run(context, command).await,
            Command::Login { id } => sponsor::login(context, id).await,
            Command::Sponsor(command) => sponsor::run(context, command).await,
            Command::Inspection(command) => inspection::run(context, command).await,
            Command::Secret(command) => secret::run(context, command).await,
            Command::Scim(command) => scim::run(context, command).await,
            Command::Group(command) => group::run(context, command).await,
            Command::Agent(command) => agent::run(context, command).await,
            Command::Keys(command) => keys::run(context, command).await,
            Command::Instance(command) => instance::run(context, command).await,
            Command::Kill(args) => certificate::kill(context, args).await,
            Command::Certificate(command) => certificate::run(context, command).await,
            Command::Policy(command) => policy::run(context, command).await,
            Command::Trace(trace) => trace::run(context, trace).await,
            Command::Witness(witness) => witness::run(context, witness).await,
            Command::Doctor => doctor::run(context).await,
            Command::Demo(_)
            | Command::Init(_)
            | Command::Ledger(_)
            | Command::Confine { .. }
            | Command::Keep { .. }
            | Command::Upstream { .. } => Ok(Verdict::Good),
        }
    });
    // A read of standard input may wait for ever.
    runtime.shutdown_background();
    outcome
}

/// Says what a command changed: `LABEL ID is STATUS`, with its records.
fn changed(value: &Value, what: &str) -> String {
    let id = output::cell(&value["id"]);
    let status = output::cell(&value["status"]);
    let told = if value["changed"] == true {
        "is now"
    } else {
        "was already"
    };
    output::clean(&format!("{what} {id} {told} {status}{}", on_record(value)))
}

/// The records of a command's answer, in brackets.
fn on_record(value: &Value) -> String {
    let records: Vec<String> = value["records"]
        .as_array()
        .map(|records| records.iter().map(output::record).collect())
        .unwrap_or_default();
    match records.as_slice() {
        [] => String::new(),
        records => format!(" (on record as {})", records.join(", ")),
    }
}
