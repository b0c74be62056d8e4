//! `tipstaff.toml`: read once, strictly, into a [`Config`] that is already valid.
//!
//! An unknown key is an error that names the nearest known one. Secrets are never written inline:
//! a value is a reference (`env:NAME`, `file:PATH`, `vault:NAME`) that is read when it is used.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker::{Grant, HeaderTemplate, Vault};
use directory::{Reaction, Reactions};
use gateway::{LabelError, Labels};
use http::header::AUTHORIZATION;
use ledger::note::{self, Verifier};
use policy::UpstreamOptions;
use register::{AssertedAgents, FirstSight, GlassSettings, Word};
use serde::Deserialize;
use tokens::{Algorithm, PublicUrl};
use toml::de::{DeTable, DeValue};
use vocab::{Digest, Secret, Time, TrustDomain, UpstreamName, suggest};

use crate::inspection::InspectConfig;
use crate::quorum::Quorum;

mod approvals;
mod oauth;
mod openbao;
mod sign_in;
mod signals;

pub use approvals::{Approvals, WebhookConfig};
pub use broker::Source as Reference;
pub use oauth::{ClientAuth, ExchangeConfig, OAuthConfig};
pub use openbao::BaoConfig;
pub use sign_in::{Jwks, LoginConfig, ProviderConfig, WorkloadConfig};
pub use signals::{AskDirectory, Poll, Signals};

/// The name of the configuration file.
pub const FILE_NAME: &str = "tipstaff.toml";

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error(
        "cannot read `{path}`: {cause}; `tipstaff init` writes a new one, `--config` names another"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is not valid TOML, or has an unknown key or a value of the wrong type.
    #[error("`{path}`: {message}")]
    Syntax {
        /// The file.
        path: String,
        /// What is wrong, with line and column, and the nearest known key.
        message: String,
    },
    /// A value that parses but cannot be used.
    #[error("`{path}`: {place}`{key}`: {message}")]
    Value {
        /// The file.
        path: String,
        /// Line and column of the value, with what divides them from the rest; empty if there is
        /// no such key.
        place: String,
        /// The key.
        key: String,
        /// What is wrong and what would be right.
        message: String,
    },
}

/// The configuration, resolved against the folder of its file.
#[derive(Debug)]
pub struct Config {
    /// The file it came from.
    pub path: PathBuf,
    /// The digest of its text.
    pub digest: Digest,
    /// The realm that all names belong to.
    pub trust_domain: TrustDomain,
    /// This node's name in records.
    pub node: String,
    /// The data folder.
    pub data: PathBuf,
    /// The keys folder, outside the data folder so that a backup of one is not a backup of both.
    pub keys: PathBuf,
    /// The policies folder.
    pub policies: PathBuf,
    /// Where HTTP listens.
    pub listen: SocketAddr,
    /// The URL that clients use; fixes issuer, audience and DPoP `htu`. Derived from the listener
    /// when absent.
    pub public_url: Option<PublicUrl>,
    /// Whether edited policy files are activated by themselves.
    pub environment: Environment,
    /// Browser origins that may call, beside none.
    pub allowed_origins: Vec<String>,
    /// Host names that requests may carry, beside those of the listener and `public_url`.
    pub allowed_hosts: Vec<String>,
    /// Whether replies name the policies that decided.
    pub show_policies: bool,
    /// Ledger settings.
    pub ledger: LedgerConfig,
    /// How tokens are signed.
    pub tokens: TokensConfig,
    /// Limits on what instances may do.
    pub limits: Limits,
    /// Where proxies ask over gRPC `ext_authz`; nowhere if none.
    pub ext_authz: Option<SocketAddr>,
    /// What goes for all agents.
    pub agents: Agents,
    /// How long a break-glass may hold.
    pub break_glass: GlassSettings,
    /// How those who may approve are told.
    pub approvals: Approvals,
    /// What follows of what the directory says.
    pub reactions: Reactions,
    /// How people sign in.
    pub login: LoginConfig,
    /// Issuers of workloads' tokens.
    pub workloads: BTreeMap<Word, WorkloadConfig>,
    /// Where the directory is asked about active sponsors; none: it is not.
    pub directory: Option<AskDirectory>,
    /// Who sends security events about people.
    pub signals: BTreeMap<Word, Signals>,
    /// What is looked for in what passes.
    pub inspect: InspectConfig,
    /// Servers that secrets of upstreams are read from.
    pub openbao: BTreeMap<String, BaoConfig>,
    /// The upstreams.
    pub upstreams: BTreeMap<UpstreamName, Upstream>,
}

/// `[agents]`.
#[derive(Debug, Clone, Copy)]
pub struct Agents {
    /// Whether agents run whose sponsors did not accept them.
    pub asserted: AssertedAgents,
    /// How often somebody has to say that an agent is needed.
    pub review_every: Duration,
    /// Whether an agent is suspended whose review is overdue.
    pub suspend_overdue: bool,
    /// After how long without use an agent is shown as dormant.
    pub dormant_after: Duration,
}

/// What kind of node this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Edited policy files are activated by themselves within a second.
    Development,
    /// Policies change only by `tipstaff policy apply`.
    Production,
}

/// `[ledger]`.
#[derive(Debug, Clone, Default)]
pub struct LedgerConfig {
    /// Where checkpoints are pushed.
    pub anchors: Vec<Anchor>,
    /// Which witnesses must agree before anything is exported; none: nobody must.
    pub quorum: Option<Quorum>,
    /// Free bytes under which readiness warns.
    pub warn_free_bytes: u64,
    /// Free bytes under which appends are refused.
    pub refuse_free_bytes: u64,
    /// How long a call waits for its record.
    pub timeout: Duration,
    /// When the logs' keys change.
    pub keys: LogKeysConfig,
}

/// When the logs' keys change.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogKeysConfig {
    /// How long one key signs; none: until somebody changes it.
    pub rotation: Option<Duration>,
    /// How long the key before signs beside it.
    pub overlap: Duration,
}

impl LedgerConfig {
    /// The keys of the witnesses among the anchors.
    pub fn witnesses(&self) -> Vec<Verifier> {
        witnesses(&self.anchors)
    }
}

fn witnesses(anchors: &[Anchor]) -> Vec<Verifier> {
    let keys = anchors.iter().filter_map(|anchor| match anchor {
        Anchor::Witness { key, .. } => Some((**key).clone()),
        Anchor::Path(_) | Anchor::Http(_) => None,
    });
    keys.collect()
}

/// `[tokens]`.
#[derive(Debug, Clone, Copy)]
pub struct TokensConfig {
    /// How long one key signs; none: until somebody changes it.
    pub rotation: Option<Duration>,
    /// What the next key signs with.
    pub algorithm: Algorithm,
}

/// A place outside the data folder that keeps our checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anchor {
    /// A folder on another mount.
    Path(PathBuf),
    /// An HTTP endpoint that is sent the checkpoint as a `POST` body.
    Http(String),
    /// A C2SP witness: its URL and its verifier key; its cosignature is kept.
    Witness {
        /// The witness's prefix URL.
        url: String,
        /// Its verifier key.
        key: Box<Verifier>,
    },
}

/// `[limits]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Calls per minute for one agent, over all its instances; 0 is no limit.
    pub calls_per_minute: u32,
    /// Identical denials of one instance within a minute that trip its breaker.
    pub same_denials: u32,
    /// Calls one instance may have in flight.
    pub calls_in_flight: usize,
    /// Arguments of denied calls that are kept per minute for one agent, in KiB.
    pub denied_kib_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls_per_minute: 0,
            same_denials: 5,
            calls_in_flight: 64,
            denied_kib_per_minute: 4096,
        }
    }
}

/// `[upstream.NAME]`.
#[derive(Debug)]
pub struct Upstream {
    /// How it is reached.
    pub transport: Transport,
    /// What it is reached with.
    pub grant: Grant,
    /// Where a token for it is had, if it wants one.
    pub oauth: Option<OAuthConfig>,
    /// Whether each instance has what servers lease for itself.
    pub leases_of_each: bool,
    /// Whether one stdio child serves all instances.
    pub shared: bool,
    /// Until when policy denials pass (and are recorded as such).
    pub observe_until: Option<Time>,
    /// How long one call may take.
    pub timeout: Duration,
    /// How long a start may take.
    pub start_timeout: Duration,
    /// Whether arguments that the tool's schema does not declare pass.
    pub allow_undeclared: bool,
    /// Whether path- and URL-like arguments may be in another than canonical form.
    pub allow_noncanonical: bool,
    /// Arguments that are paths whatever their name.
    pub path_arguments: Vec<String>,
    /// Arguments that are URLs whatever their name.
    pub url_arguments: Vec<String>,
    /// Whether a stdio child is confined from the data folder.
    pub confine: Confine,
    /// What is picked up by calling it.
    pub labels: Labels,
    /// What becomes of a tool that it lists for the first time.
    pub tools: FirstSight,
    /// The digest of its whole table, as [`table`] has it.
    pub table: Digest,
}

impl Upstream {
    /// All that its table refers to, and what for.
    pub fn references(&self) -> impl Iterator<Item = (String, &Reference)> {
        let oauth = self.oauth.iter();
        let oauth = oauth.map(|it| ("oauth.client_secret".to_owned(), &it.client_secret));
        self.grant.sources().chain(oauth)
    }

    /// How policy treats its arguments.
    pub fn policy_options(&self) -> UpstreamOptions {
        UpstreamOptions {
            allow_undeclared: self.allow_undeclared,
            allow_noncanonical: self.allow_noncanonical,
            path_args: self.path_arguments.clone(),
            url_args: self.url_arguments.clone(),
        }
    }
}

/// Whom servers lease something for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LeasesOf {
    #[default]
    Upstream,
    Instance,
}

/// How an upstream is reached.
#[derive(Debug)]
pub enum Transport {
    /// A child process that speaks MCP on stdio.
    Stdio {
        /// The program and its arguments.
        command: Vec<String>,
        /// Its working folder.
        cwd: Option<PathBuf>,
    },
    /// A streamable HTTP endpoint.
    Http {
        /// Its URL.
        url: String,
    },
    /// Not from here: `[service.NAME]` guards itself and asks for decisions.
    Elsewhere {
        /// The file that declares its actions.
        actions: PathBuf,
        /// Where its clients reach it.
        url: Option<String>,
    },
}

/// Confinement of a stdio child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Confine {
    /// Confined where the kernel can; said at start where it cannot.
    #[default]
    IfAvailable,
    /// Not started where the kernel cannot confine it.
    Required,
    /// Not confined.
    Off,
}

const MIB: u64 = 1024 * 1024;
const TABLE_DOMAIN: &[u8] = b"tipstaff/v1/table";
const DAYS_MAX: u64 = 3650;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    trust_domain: TrustDomain,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    data: Option<PathBuf>,
    #[serde(default)]
    keys: Option<PathBuf>,
    #[serde(default)]
    policies: Option<PathBuf>,
    #[serde(default)]
    listen: Option<String>,
    #[serde(default)]
    public_url: Option<String>,
    #[serde(default)]
    environment: Option<Environment>,
    #[serde(default)]
    allowed_origins: Vec<String>,
    #[serde(default)]
    allowed_hosts: Vec<String>,
    #[serde(default)]
    show_policies: Option<bool>,
    #[serde(default)]
    ledger: RawLedger,
    #[serde(default)]
    inspect: RawInspect,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    tokens: RawTokens,
    #[serde(default)]
    agents: RawAgents,
    #[serde(default)]
    break_glass: RawBreakGlass,
    #[serde(default)]
    approvals: approvals::RawApprovals,
    #[serde(default)]
    reactions: Reactions,
    #[serde(default)]
    directory: Option<signals::RawAsk>,
    #[serde(default)]
    ssf: BTreeMap<String, signals::RawSignals>,
    #[serde(default)]
    ext_authz: Option<RawExtAuthz>,
    #[serde(default)]
    login: sign_in::RawLogin,
    #[serde(default)]
    workload: BTreeMap<String, sign_in::RawWorkload>,
    #[serde(default)]
    openbao: BTreeMap<String, openbao::RawBao>,
    #[serde(default)]
    upstream: BTreeMap<String, RawUpstream>,
    #[serde(default)]
    service: BTreeMap<String, RawService>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawAgents {
    #[serde(default)]
    asserted: Option<AssertedAgents>,
    #[serde(default)]
    review_days: Option<u64>,
    #[serde(default)]
    overdue: Option<Overdue>,
    #[serde(default)]
    dormant_days: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawBreakGlass {
    #[serde(default)]
    max_minutes: Option<u64>,
    #[serde(default)]
    approve_minutes: Option<u64>,
}

impl RawBreakGlass {
    fn read(&self) -> Result<GlassSettings, (&'static str, String)> {
        let default = GlassSettings::default();
        let within = |key, value: Option<u64>, least, default| match value {
            None => Ok(default),
            Some(value) if value < least => Err((key, format!("must be at least {least}"))),
            Some(value) if value > 1_440 => Err((key, "must be at most 1440 (one day)".to_owned())),
            Some(value) => Ok(Duration::from_mins(value)),
        };
        Ok(GlassSettings {
            max: within("break_glass.max_minutes", self.max_minutes, 0, default.max)?,
            open_within: within(
                "break_glass.approve_minutes",
                self.approve_minutes,
                1,
                default.open_within,
            )?,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Overdue {
    Show,
    Suspend,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawLedger {
    #[serde(default)]
    anchor: Option<OneOrMany>,
    #[serde(default)]
    quorum: Option<usize>,
    #[serde(default)]
    warn_free_mib: Option<u64>,
    #[serde(default)]
    refuse_free_mib: Option<u64>,
    #[serde(default)]
    timeout: Option<u64>,
    #[serde(default)]
    key_rotation_days: Option<u64>,
    #[serde(default)]
    key_overlap_days: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawInspect {
    #[serde(default)]
    rules: Vec<PathBuf>,
    #[serde(default)]
    leave_out: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawTokens {
    #[serde(default)]
    rotation_days: Option<u64>,
    #[serde(default)]
    algorithm: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUpstream {
    #[serde(default)]
    command: Option<Vec<String>>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    cwd: Option<PathBuf>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    oauth: Option<oauth::RawOAuth>,
    #[serde(default)]
    leases: LeasesOf,
    #[serde(default)]
    shared: bool,
    #[serde(default)]
    mode: Option<Mode>,
    #[serde(default)]
    observe_until: Option<String>,
    #[serde(default)]
    timeout_s: Option<u64>,
    #[serde(default)]
    start_timeout_s: Option<u64>,
    #[serde(default)]
    undeclared_arguments: Handling,
    #[serde(default)]
    noncanonical_arguments: Handling,
    #[serde(default)]
    path_arguments: Vec<String>,
    #[serde(default)]
    url_arguments: Vec<String>,
    #[serde(default)]
    confine: Confine,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    tool_labels: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    tools: FirstSight,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExtAuthz {
    listen: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    actions: PathBuf,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    mode: Option<Mode>,
    #[serde(default)]
    observe_until: Option<String>,
    #[serde(default)]
    undeclared_arguments: Handling,
    #[serde(default)]
    noncanonical_arguments: Handling,
    #[serde(default)]
    path_arguments: Vec<String>,
    #[serde(default)]
    url_arguments: Vec<String>,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    tool_labels: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize, PartialEq, Eq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Enforce,
    Observe,
}

#[derive(Deserialize, Default, PartialEq, Eq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Handling {
    #[default]
    Refuse,
    Allow,
}

impl Config {
    /// Where agents' keys are kept that lie on this machine: beside the configuration, out of
    /// reach of confined children.
    pub fn agents(&self) -> PathBuf {
        self.path.with_file_name("agents")
    }

    /// The local vault: in the data folder, its key among the keys.
    pub fn vault(&self) -> Vault {
        Vault::of(&self.data, &self.keys)
    }

    /// A value that the configuration refers to, as it is at this moment.
    pub fn secret(&self, reference: &Reference) -> Result<Secret<String>, String> {
        let value = reference.read(&self.vault());
        value.map_err(|error| error.to_string())
    }

    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable {
            path: path.display().to_string(),
            cause,
        })?;
        Self::parse(path, &text)
    }

    /// Reads the text of a configuration file that lies at `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let raw: Raw = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.display().to_string(),
            message: explain(&error, text),
        })?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let base = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let shown = path.display().to_string();
        let bad = |key: &str, message: String| ConfigError::Value {
            path: shown.clone(),
            place: place_of(key, text),
            key: key.to_owned(),
            message,
        };
        if let Some(origin) = raw.allowed_origins.iter().find(|it| !is_origin(it)) {
            let message = format!(
                "`{origin}` is no origin: a scheme, `://`, a host and perhaps a port, as in \
                 `https://app.acme.example`"
            );
            return Err(bad("allowed_origins", message));
        }
        let listen = raw.listen.as_deref().unwrap_or("127.0.0.1:7420");
        let listen = listen
            .parse()
            .map_err(|_| bad("listen", format!("`{listen}` is not ADDRESS:PORT")))?;
        let ext_authz = raw.ext_authz.map(|raw| {
            raw.listen.parse().map_err(|_| {
                let message = format!("`{}` is not ADDRESS:PORT", raw.listen);
                bad("ext_authz.listen", message)
            })
        });
        let ext_authz = ext_authz.transpose()?;
        let public_url = raw.public_url.as_deref().map(public_url).transpose();
        let public_url = public_url.map_err(|message| bad("public_url", message))?;
        let node = raw.node.unwrap_or_else(|| "node-1".to_owned());
        if node.is_empty() || node.len() > 64 || !node.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(bad(
                "node",
                "a node's name is 1 to 64 visible ASCII characters".to_owned(),
            ));
        }
        if raw.reactions.leaves != Reaction::Suspend {
            let message = "whoever leaves is suspended: this can be `suspend` only";
            return Err(bad("reactions.leaves", message.to_owned()));
        }
        let environment = raw.environment.unwrap_or(Environment::Development);
        let wrong = |(key, message): sign_in::Wrong| bad(&key, message);
        let approvals = approvals::approvals(raw.approvals, &base).map_err(wrong)?;
        let login = sign_in::login(raw.login, environment, &base).map_err(wrong)?;
        let workloads = sign_in::workloads(raw.workload, &base).map_err(wrong)?;
        let openbao = openbao::servers(raw.openbao, &base).map_err(wrong)?;
        let mut upstreams = BTreeMap::new();
        let tables: toml::Table = toml::from_str(text).unwrap_or_default();
        for (name, raw) in raw.upstream {
            let key = format!("upstream.{name}");
            let table = table(&tables, "upstream", &name);
            let name: UpstreamName = name
                .parse()
                .map_err(|error: vocab::IdError| bad(&key, error.to_string()))?;
            let upstream = upstream(raw, &base, table).map_err(|(part, message)| {
                bad(
                    &if part.is_empty() {
                        key.clone()
                    } else {
                        format!("{key}.{part}")
                    },
                    message,
                )
            })?;
            upstreams.insert(name, upstream);
        }
        for (name, raw) in raw.service {
            let key = format!("service.{name}");
            let table = table(&tables, "service", &name);
            let name: UpstreamName = name
                .parse()
                .map_err(|error: vocab::IdError| bad(&key, error.to_string()))?;
            let service = service(raw, &base, table)
                .map_err(|(part, message)| bad(&format!("{key}.{part}"), message))?;
            if upstreams.insert(name, service).is_some() {
                let message = "there is an upstream of that name; policies could not tell them \
                               apart";
                return Err(bad(&key, message.to_owned()));
            }
        }
        let anchors = match raw.ledger.anchor {
            None => Vec::new(),
            Some(OneOrMany::One(one)) => vec![one],
            Some(OneOrMany::Many(many)) => many,
        };
        let anchors = anchors
            .iter()
            .map(|text| anchor(text, &base))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|message| bad("ledger.anchor", message))?;
        let quorum = Quorum::new(raw.ledger.quorum.unwrap_or(0), witnesses(&anchors))
            .map_err(|error| bad("ledger.quorum", error.to_string()))?;
        let asserted = raw.agents.asserted.unwrap_or(match environment {
            Environment::Development => AssertedAgents::Run,
            Environment::Production => AssertedAgents::Refuse,
        });
        let config = Self {
            trust_domain: raw.trust_domain,
            node,
            data: base.join(raw.data.unwrap_or_else(|| "data".into())),
            keys: base.join(raw.keys.unwrap_or_else(|| "keys".into())),
            policies: base.join(raw.policies.unwrap_or_else(|| "policies".into())),
            listen,
            public_url,
            environment,
            allowed_origins: raw.allowed_origins,
            allowed_hosts: raw.allowed_hosts,
            show_policies: raw.show_policies.unwrap_or(true),
            ledger: LedgerConfig {
                anchors,
                quorum,
                warn_free_bytes: raw.ledger.warn_free_mib.unwrap_or(1024) * MIB,
                refuse_free_bytes: raw.ledger.refuse_free_mib.unwrap_or(64) * MIB,
                timeout: seconds("ledger.timeout", raw.ledger.timeout, 10)
                    .map_err(|(key, message)| bad(key, message))?,
                keys: log_keys((raw.ledger.key_rotation_days, raw.ledger.key_overlap_days))
                    .map_err(|(key, message)| bad(key, message))?,
            },
            tokens: tokens(&raw.tokens).map_err(|(key, message)| bad(key, message))?,
            limits: raw.limits,
            ext_authz,
            agents: Agents {
                asserted,
                review_every: days("agents.review_days", raw.agents.review_days, 90)
                    .map_err(|(key, message)| bad(key, message))?,
                suspend_overdue: raw.agents.overdue == Some(Overdue::Suspend),
                dormant_after: days("agents.dormant_days", raw.agents.dormant_days, 30)
                    .map_err(|(key, message)| bad(key, message))?,
            },
            break_glass: raw
                .break_glass
                .read()
                .map_err(|(key, message)| bad(key, message))?,
            approvals,
            login,
            workloads,
            directory: raw
                .directory
                .map(|raw| signals::ask(raw, &base))
                .transpose()
                .map_err(|(key, why)| bad(key, why))?,
            signals: signals::signals(raw.ssf, &base).map_err(|(key, why)| bad(&key, why))?,
            reactions: raw.reactions,
            inspect: InspectConfig {
                rules: raw.inspect.rules.iter().map(|it| base.join(it)).collect(),
                leave_out: raw.inspect.leave_out,
            },
            openbao,
            upstreams,
            path,
            digest: Digest::of(text.as_bytes()),
        };
        openbao::check(&config).map_err(wrong)?;
        Ok(config)
    }
}

/// Witnesses have to be told of a new key, so it changes only where somebody says so.
fn log_keys(
    (rotation, overlap): (Option<u64>, Option<u64>),
) -> Result<LogKeysConfig, (&'static str, String)> {
    let (rotation, overlap) = (rotation.unwrap_or(0), overlap.unwrap_or(30));
    for (key, days) in [
        ("ledger.key_rotation_days", rotation),
        ("ledger.key_overlap_days", overlap),
    ] {
        if days > DAYS_MAX {
            return Err((key, format!("must be at most {DAYS_MAX}")));
        }
    }
    if rotation > 0 && rotation <= overlap {
        let message = format!(
            "must be more than the {overlap} days of `key_overlap_days`: one change ends before the \
             next begins"
        );
        return Err(("ledger.key_rotation_days", message));
    }
    let day = Duration::from_hours(24);
    Ok(LogKeysConfig {
        rotation: (rotation > 0)
            .then(|| day.saturating_mul(u32::try_from(rotation).unwrap_or(u32::MAX))),
        overlap: day.saturating_mul(u32::try_from(overlap).unwrap_or(u32::MAX)),
    })
}

fn tokens(raw: &RawTokens) -> Result<TokensConfig, (&'static str, String)> {
    let days = raw.rotation_days.unwrap_or(30);
    if days > DAYS_MAX {
        let message = format!("must be at most {DAYS_MAX}; 0 leaves it to `tipstaff keys rotate`");
        return Err(("tokens.rotation_days", message));
    }
    let name = raw.algorithm.as_deref().unwrap_or("EdDSA");
    let algorithm = Algorithm::ALL.into_iter().find(|it| it.as_str() == name);
    let algorithm = algorithm.ok_or_else(|| {
        let message = format!("`{name}` is neither `EdDSA` (Ed25519) nor `ES256` (P-256)");
        ("tokens.algorithm", message)
    })?;
    Ok(TokensConfig {
        rotation: (days > 0).then(|| Duration::from_hours(24 * days)),
        algorithm,
    })
}

fn seconds(
    key: &'static str,
    value: Option<u64>,
    default: u64,
) -> Result<Duration, (&'static str, String)> {
    match value.unwrap_or(default) {
        0 => Err((key, "must be at least 1".to_owned())),
        value if value > 86_400 => Err((key, "must be at most 86400 (one day)".to_owned())),
        value => Ok(Duration::from_secs(value)),
    }
}

fn days(
    key: &'static str,
    value: Option<u64>,
    default: u64,
) -> Result<Duration, (&'static str, String)> {
    match value.unwrap_or(default) {
        0 => Err((key, "must be at least 1".to_owned())),
        value if value > 3_660 => Err((key, "must be at most 3660 (ten years)".to_owned())),
        value => Ok(Duration::from_hours(24 * value)),
    }
}

/// Whether a browser could say it in `Origin`; `null` could be any page's.
fn is_origin(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, host)| {
        let outside = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '@');
        !scheme.is_empty() && !host.is_empty() && !text.contains('*') && !host.contains(outside)
    })
}

fn public_url(url: &str) -> Result<PublicUrl, String> {
    url.parse().map_err(|error| {
        format!(
            "`{url}`: {error}; write it like `https://tipstaff.acme.example`, and let a proxy that \
             serves other things too give the node a name or a port of its own"
        )
    })
}

fn witness_url(url: &str) -> Result<String, String> {
    let trimmed = url.trim_end_matches('/');
    let rest = trimmed
        .strip_prefix("https://")
        .or_else(|| trimmed.strip_prefix("http://"))
        .ok_or_else(|| format!("`{url}` does not start with https:// or http://"))?;
    if rest.is_empty() || rest.contains(['?', '#', '@', ' ', '\\']) {
        return Err(format!(
            "`{url}` may have a host, a port and a path, nothing else"
        ));
    }
    Ok(trimmed.to_owned())
}

fn anchor(text: &str, base: &Path) -> Result<Anchor, String> {
    if let Some(rest) = text.strip_prefix("witness:") {
        let (url, vkey) = rest.split_once(' ').ok_or(
            "a witness is written `witness:URL VKEY`, its URL, a space and its verifier key",
        )?;
        let vkey = vkey.trim();
        let key: Verifier = vkey.parse().map_err(|error| {
            format!(
                "`{vkey}` is not a witness's verifier key: {error}; it is what the witness \
                 publishes, `NAME+HASH+KEY`"
            )
        })?;
        if key.algorithm() != note::Algorithm::CosignatureV1 {
            return Err(format!(
                "`{vkey}` is a key that signs notes and cosigns nothing; name the witness's \
                 cosignature key"
            ));
        }
        return Ok(Anchor::Witness {
            url: witness_url(url)?,
            key: Box::new(key),
        });
    }
    if let Some(path) = text.strip_prefix("path:") {
        return Ok(Anchor::Path(base.join(path)));
    }
    if text.contains("://") {
        let url = text.parse::<http::Uri>().ok();
        let url = url.filter(|url| matches!(url.scheme_str(), Some("http" | "https")));
        return url.map(|_| Anchor::Http(text.to_owned())).ok_or_else(|| {
            format!(
                "checkpoints cannot be sent to `{text}`; an anchor is a folder's path, an endpoint \
                 `http://…` or `https://…`, or `witness:URL VKEY`"
            )
        });
    }
    if text.is_empty() {
        return Err(
            "is empty; name a folder, an endpoint or a witness, or leave it out".to_owned(),
        );
    }
    Ok(Anchor::Path(base.join(text)))
}

fn headers(
    raw: &BTreeMap<String, String>,
    base: &Path,
) -> Result<Vec<HeaderTemplate>, (&'static str, String)> {
    let mut headers: Vec<HeaderTemplate> = Vec::new();
    for (name, value) in raw {
        let header = HeaderTemplate::parse(name, value, base);
        let header = header.map_err(|why| ("headers", format!("`{name}`: {why}")))?;
        if headers.iter().any(|it| it.name() == header.name()) {
            return Err(("headers", format!("`{name}` is there twice")));
        }
        headers.push(header);
    }
    Ok(headers)
}

/// The digest of all that a table says of an upstream or service: where it is, what it is reached
/// with (references, never what they stand for), how its calls are judged. It is taken of the whole
/// table, so that no key is forgotten that is added one day.
fn table(tables: &toml::Table, kind: &str, name: &str) -> Digest {
    let table = tables.get(kind).and_then(|it| it.get(name));
    let text = serde_json::to_vec(&table).unwrap_or_default();
    Digest::of_parts(&[TABLE_DOMAIN, kind.as_bytes(), b"\0", &text])
}

fn upstream(
    raw: RawUpstream,
    base: &Path,
    table: Digest,
) -> Result<Upstream, (&'static str, String)> {
    if raw.leases == LeasesOf::Instance && raw.shared {
        let why = "one child that all share has one environment; leave out `shared`";
        return Err(("leases", why.into()));
    }
    let mut grant = Grant::default();
    let oauth = raw.oauth.map(|raw| oauth::oauth(raw, base)).transpose()?;
    let transport = match (raw.command, raw.url) {
        (Some(command), None) => {
            if command.first().is_none_or(String::is_empty) {
                return Err((
                    "command",
                    "is empty; write [\"PROGRAM\", \"ARGUMENT\", …]".into(),
                ));
            }
            if !raw.headers.is_empty() || oauth.is_some() {
                let why = "`headers` and `oauth` belong to `url`; a child gets `env`";
                return Err(("command", why.into()));
            }
            for (key, value) in raw.env {
                if key.is_empty() || key.contains(['=', '\0']) {
                    return Err(("env", format!("`{key}` is no variable's name")));
                }
                let source = Reference::parse(&value, base);
                let source = source.map_err(|why| ("env", why.to_string()))?;
                grant.env.push((key, source));
            }
            Transport::Stdio {
                command,
                cwd: raw.cwd.map(|cwd| base.join(cwd)),
            }
        }
        (None, Some(url)) => {
            if !raw.env.is_empty() || raw.cwd.is_some() || raw.shared {
                return Err((
                    "url",
                    "`env`, `cwd` and `shared` belong to `command`".into(),
                ));
            }
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Err((
                    "url",
                    format!("`{url}` does not start with http:// or https://"),
                ));
            }
            grant.headers = headers(&raw.headers, base)?;
            if oauth.is_some() && grant.headers.iter().any(|it| it.name() == AUTHORIZATION) {
                let why = "`Authorization` is what `oauth` writes; keep one of the two";
                return Err(("headers", why.into()));
            }
            Transport::Http { url }
        }
        (Some(_), Some(_)) => return Err(("", "has both `command` and `url`; keep one".into())),
        (None, None) => return Err(("", "needs `command` (stdio) or `url` (HTTP)".into())),
    };
    Ok(Upstream {
        transport,
        grant,
        oauth,
        leases_of_each: raw.leases == LeasesOf::Instance,
        shared: raw.shared,
        observe_until: observed(raw.mode, raw.observe_until)?,
        timeout: seconds("timeout_s", raw.timeout_s, 60)?,
        start_timeout: seconds("start_timeout_s", raw.start_timeout_s, 30)?,
        allow_undeclared: raw.undeclared_arguments == Handling::Allow,
        allow_noncanonical: raw.noncanonical_arguments == Handling::Allow,
        path_arguments: raw.path_arguments,
        url_arguments: raw.url_arguments,
        confine: raw.confine,
        labels: labels(raw.labels, raw.tool_labels)?,
        tools: raw.tools,
        table,
    })
}

fn labels(
    all: Vec<String>,
    tools: BTreeMap<String, Vec<String>>,
) -> Result<Labels, (&'static str, String)> {
    Labels::new(all, tools).map_err(|error| {
        let key = match error {
            LabelError::Tool(_) => "tool_labels",
            LabelError::Word(_) | LabelError::Class(_) => "labels",
        };
        (key, error.to_string())
    })
}

/// A service, as an upstream that nothing is sent to.
fn service(
    raw: RawService,
    base: &Path,
    table: Digest,
) -> Result<Upstream, (&'static str, String)> {
    let url = raw.url.map(|url| {
        tokens::endpoint(&url).ok_or_else(|| {
            let message = format!(
                "`{url}` is not where clients reach it; write it as they do, like \
                 `https://records.acme.example/api`"
            );
            ("url", message)
        })
    });
    Ok(Upstream {
        transport: Transport::Elsewhere {
            actions: base.join(raw.actions),
            url: url.transpose()?,
        },
        grant: Grant::default(),
        oauth: None,
        leases_of_each: false,
        shared: false,
        observe_until: observed(raw.mode, raw.observe_until)?,
        timeout: seconds("timeout_s", None, 60)?,
        start_timeout: seconds("start_timeout_s", None, 30)?,
        allow_undeclared: raw.undeclared_arguments == Handling::Allow,
        allow_noncanonical: raw.noncanonical_arguments == Handling::Allow,
        path_arguments: raw.path_arguments,
        url_arguments: raw.url_arguments,
        confine: Confine::Off,
        labels: labels(raw.labels, raw.tool_labels)?,
        tools: FirstSight::AcceptFirst,
        table,
    })
}

fn observed(
    mode: Option<Mode>,
    until: Option<String>,
) -> Result<Option<Time>, (&'static str, String)> {
    match (mode.unwrap_or(Mode::Enforce), until) {
        (Mode::Enforce, None) => Ok(None),
        (Mode::Enforce, Some(_)) => {
            Err(("observe_until", "belongs to `mode = \"observe\"`".into()))
        }
        (Mode::Observe, None) => Err((
            "mode",
            "observe mode needs an end: observe_until = \"2026-12-31\"".into(),
        )),
        (Mode::Observe, Some(until)) => until
            .parse()
            .map(Some)
            .map_err(|error: vocab::time::TimeError| ("observe_until", error.to_string())),
    }
}

fn place(at: usize, text: &str) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: ")
}

/// The place of the value of a key, or of the last table on the way to it.
fn place_of(key: &str, text: &str) -> String {
    let Ok(document) = DeTable::parse(text) else {
        return String::new();
    };
    let document = DeValue::Table(document.into_inner());
    let (mut value, mut found) = (&document, None);
    for part in key.split('.') {
        let Some(inner) = value.get(part) else { break };
        found = Some(inner.span().start);
        value = inner.get_ref();
    }
    found.map(|at| place(at, text)).unwrap_or_default()
}

/// The TOML error in words, with line and column, and the nearest key for an unknown one.
fn explain(error: &toml::de::Error, text: &str) -> String {
    let mut out = error
        .span()
        .map(|span| place(span.start, text))
        .unwrap_or_default();
    // The parser's words for what TOML calls otherwise.
    let message = error.message();
    let message = message.replace("expected a sequence", "expected a list, `[…]`");
    let message = message.replace("expected a map", "expected a table");
    let message = match message.split_once("expected struct ") {
        Some((before, _ours)) => format!("{before}expected a table"),
        None => message,
    };
    out.push_str(&message);
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let mut quoted = rest.split('`');
        let given = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.skip(1).step_by(2).collect();
        if let Some(near) = suggest::nearest(given, known) {
            let _infallible = write!(out, "; did you mean `{near}`?");
        }
    }
    out
}

#[cfg(test)]
mod tests;
