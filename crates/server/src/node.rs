//! A running node: files, register, gateway and listeners, put together and taken apart in order.

mod resume;
pub mod snapshot;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use broker::{Account, Baos};
use directory::Scim;
use gateway::upstream::{Keeper, SandboxMode, Transport as Reach, UpstreamConfig};
use gateway::{Bounds, Hosts, Parts, Plane, Served, ServedConfig, Settings};
use ledger::{Actor, Entry, Header, Log, LogReader};
use register::{Command, Control, Label};
use store::{DataDir, Faults, FileBlobs, FileKeyring, FilesLog, LogOptions, OfflineLog};
use tokens::{Fetch, Issuer, IssuerConfig, IssuerError, PublicUrlError};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vocab::limits::CLOCK_LEEWAY_SECONDS;
use vocab::{Clock, LogName, Rng, Time};

use crate::config::{Config, Confine, Environment, Transport};
use crate::fetch::Fetcher;
use crate::lane::Lane;
use crate::log_keys::{self, LogKeyError, LogRotation, Logs};
use crate::output::count;
use crate::people::People;
use crate::rotation::{self, Keyed, Rotation};
use crate::upstream_tokens::Endpoint;
use crate::webhook::Webhook;
use crate::wrapping::{self, WrappingError};
use crate::{
    admin, anchor, approvals, approvers, asking, break_glass, http, inspection, keys, listen,
    names, openbao, policies, secrets, signals, trust,
};

/// How long calls in flight get to end when the node stops, and again after they are cut.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How often sessions, children and counters are looked after.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How often upstreams are asked for their tools.
const TOOLS_EVERY: Duration = Duration::from_mins(1);
/// The longest that a stop waits for proofs that are dated ahead; the clock may have been set back.
const SETTLE_MAX: Duration = Duration::from_secs(2 * CLOCK_LEEWAY_SECONDS);
/// How often the clock is looked at while waiting for a time of day.
const CLOCK_POLL: Duration = Duration::from_millis(100);
/// The part of the version that records name.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a node takes from outside, so that tests can give it others.
#[derive(Debug, Clone)]
pub struct Deps {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// The switch that makes storage fail.
    pub faults: Faults,
    /// The program that keeps and confines stdio children; none runs them as they are.
    pub confiner: Option<PathBuf>,
}

impl From<WrappingError> for StartError {
    fn from(error: WrappingError) -> Self {
        match error {
            WrappingError::Key(error) => Self::Key(error),
            error => Self::Wrapping(error),
        }
    }
}

impl From<LogKeyError> for StartError {
    fn from(error: LogKeyError) -> Self {
        match error {
            LogKeyError::Key(error) => Self::Key(error),
            error => Self::LogKey(error),
        }
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A key is missing or damaged.
    #[error(transparent)]
    Key(#[from] keys::KeyError),
    /// The erasable keys cannot be opened.
    #[error(transparent)]
    Wrapping(WrappingError),
    /// What signs a log is not what the log says.
    #[error(transparent)]
    LogKey(LogKeyError),
    /// The data folder or a log cannot be used.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// The control log does not make sense.
    #[error("the control log cannot be folded: {0}")]
    Fold(#[from] register::FoldError),
    /// A change that every start makes was not made.
    #[error("the start could not be put on record: {0}")]
    Command(#[from] register::CommandError),
    /// Recovery did not go through.
    #[error("calls without an outcome could not be closed: {0}")]
    Close(String),
    /// The gateway could not be made.
    #[error(transparent)]
    Plane(#[from] gateway::PlaneError),
    /// One of the two logs knows more of the other than is there.
    #[error(
        "the log `{log}` was set back or removed: {why}; bring the whole data folder back from one \
         backup, or from none"
    )]
    SetBack {
        /// The log that was set back.
        log: LogName,
        /// How it shows.
        why: String,
    },
    /// An anchor has seen more, or something else, than is here.
    #[error("the logs are not what was anchored: {0}")]
    Anchor(String),
    /// The keys are there, and what they signed is not.
    #[error(
        "`{keys}` has keys, and `{data}` has none of the logs that they sign: mount it, or bring the \
         whole folder back from a backup; to begin a new history on purpose, make another folder with \
         `tipstaff init DIR` and copy tipstaff.toml and policies/ into it: keys never sign two \
         histories"
    )]
    NoData {
        /// The keys folder.
        keys: String,
        /// The data folder.
        data: String,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {cause}; is another node running?")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        cause: io::Error,
    },
    /// Something else in the configuration.
    #[error("{0}")]
    Unusable(String),
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where proxies ask over gRPC.
    pub ext_authz: Option<SocketAddr>,
    /// The URL that clients use.
    pub url: String,
    /// The gateway.
    pub plane: Arc<Plane>,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
    state: PathBuf,
    _lanes: [Lane; 2],
}

/// What handlers of the node's own routes need.
#[derive(Debug)]
pub struct Shared {
    /// The gateway.
    pub plane: Arc<Plane>,
    /// The configuration.
    pub config: Arc<Config>,
    /// The control log.
    pub control_log: Arc<FilesLog>,
    /// The log of calls.
    pub calls_log: Arc<FilesLog>,
    /// The erasable keys of facts.
    pub keyring: Arc<FileKeyring>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// The URL that clients use.
    pub url: String,
    /// People in their browsers.
    pub people: Arc<People>,
    /// How the anchors are doing.
    pub anchors: anchor::Anchors,
    /// What the directory provisions people and groups to.
    pub scim: Arc<Scim>,
    /// What the keys that sign tokens are changed with.
    pub rotation: Rotation,
    /// What a start need not fold.
    pub snapshots: Arc<snapshot::Snapshots>,
    /// What agents did, as far as that was read.
    pub used: std::sync::Mutex<crate::review::Used>,
    /// Held while the wrapping key is changed.
    pub rewrapping: tokio::sync::Mutex<()>,
    /// Held while the vault is changed and that is put on record.
    pub changing_secrets: tokio::sync::Mutex<()>,
    /// What the keys that sign the logs are changed with.
    pub log_rotation: LogRotation,
    /// What takes security events, by the stream's name.
    pub signals: signals::Receivers,
    /// The directory that is asked about active sponsors, if one is.
    pub directory: Option<Arc<asking::Directory>>,
    /// Who is told of approvals, if anybody is.
    pub webhook: Option<Arc<Webhook>>,
    /// The rules of inspection that are in force.
    pub inspection: inspection::Current,
    /// Servers that secrets of upstreams are read from.
    pub baos: Arc<Baos>,
    /// Whether agents may run as the node's own user.
    #[expect(clippy::struct_field_names, reason = "the user is shared, not this")]
    pub shared_user: bool,
}

impl Shared {
    /// The log of that name.
    pub fn log(&self, name: LogName) -> &Arc<FilesLog> {
        match name {
            LogName::Control => &self.control_log,
            LogName::Calls => &self.calls_log,
        }
    }
}

impl Node {
    /// Starts a node.
    pub async fn start(
        config: Config,
        listen: Option<SocketAddr>,
        deps: Deps,
    ) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let Deps {
            clock,
            rng,
            faults,
            confiner,
        } = deps;
        there(&config)?;
        let dir = DataDir::open(&config.data)?;
        let last = Last::read(&config.data)?;
        let epoch = last.epoch + 1;
        let open = |name: LogName, publish_every| -> Result<Arc<FilesLog>, StartError> {
            let signers = log_keys::signers(&config.keys, name)?;
            let header = Header {
                trust_domain: config.trust_domain.clone(),
                node: config.node.clone(),
                epoch,
                key: signers.key_name().to_owned(),
            };
            let options = LogOptions {
                name,
                signers,
                header,
                clock: Arc::clone(&clock),
                faults: faults.clone(),
                publish_every,
            };
            Ok(Arc::new(FilesLog::open(&dir, options)?))
        };
        let control_log = open(LogName::Control, None)?;
        let calls_log = open(LogName::Calls, Some(Duration::from_secs(1)))?;
        // The first entry of `calls` is written before the first of `control`.
        if control_log.recovery().size > 0 && calls_log.recovery().size == 0 {
            return Err(StartError::SetBack {
                log: LogName::Calls,
                why: "it is empty, and `control` is not".to_owned(),
            });
        }
        let anchors = anchor::Anchors::new(&config.ledger.anchors);
        anchors
            .compare(&control_log, &calls_log)
            .map_err(StartError::Anchor)?;
        let blobs: Arc<dyn ledger::Blobs> =
            Arc::new(FileBlobs::open(&config.data.join("blobs")).with_faults(faults.clone()));
        for path in keys::open_to_others(&config.keys) {
            let path = path.display();
            tracing::warn!("`{path}` can be read by others; chmod go= '{path}'");
        }
        let keyring = wrapping::open(&config.data, &config.keys)?;
        let keyring = Arc::new(keyring.with_faults(faults.clone()));
        let snapshots = snapshot::Snapshots::new(&config.data, &config.keys, faults.clone());
        let begin = snapshots.begin(
            keys::read_log_key(&keys::log_key(&config.keys, LogName::Control))?.verifier(),
            control_log.reader(),
            &*keyring,
        );
        let control = Control::resume(
            begin,
            Arc::clone(&control_log) as Arc<dyn Log>,
            Arc::clone(&blobs),
            Arc::clone(&keyring) as Arc<dyn ledger::Keyring>,
            Arc::clone(&clock),
            Arc::clone(&rng),
            register::Settings {
                break_glass: config.break_glass,
                approvals: config.approvals.settings,
                ..register::Settings::default()
            },
        )?;
        control.view(|state| log_keys::check(&config.keys, state))?;
        let lane = |name: &str| {
            Lane::start(name)
                .map_err(|error| StartError::Unusable(format!("no thread for {name}: {error}")))
        };
        let lanes = [lane("commands")?, lane("signals")?];
        let [commands, signals_lane] = lanes.each_ref().map(Lane::handle);
        control.runs_on(commands.clone());
        // Proofs made in this second or before are refused, since a process that ran until now may
        // have taken them. One that was killed may have taken some that are dated ahead.
        let killed = control.view(|state| {
            let node = state.node();
            node.started.is_some() && node.stopped_at.is_none()
        });
        let ahead = Duration::from_secs(if killed { CLOCK_LEEWAY_SECONDS } else { 0 });
        let boot = clock.now().max(last.time).plus(ahead);
        // What can fail by the configuration fails before anything is on record.
        let loaded = config.inspect.load();
        let (inspector, looked_for) =
            loaded.map_err(|error| StartError::Unusable(admin::wire::chain(&error)))?;
        let address = listen.unwrap_or(config.listen);
        let (listener, address) = bind(address).await?;
        let proxies = match config.ext_authz {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let ext_authz = proxies.as_ref().map(|(_, address)| *address);
        let public_url = match &config.public_url {
            Some(url) => url.clone(),
            None => format!("http://{}", reachable(address))
                .parse()
                .map_err(|error: PublicUrlError| StartError::Unusable(error.to_string()))?,
        };
        let url = public_url.to_string();
        let token_key = keys::read_token_key(&keys::token_key(&config.keys))?;
        let trust =
            trust::trust(&config, &public_url, &clock, &rng).map_err(StartError::Unusable)?;
        let signals = signals::receivers(&config, &url, &control, &clock, &trust.fetch)
            .map_err(StartError::Unusable)?;
        let directory = config
            .directory
            .as_ref()
            .map(|it| asking::Directory::new(it, &config));
        let directory = directory.transpose().map_err(StartError::Unusable)?;
        let webhook = Webhook::configured(&config, &clock, &rng).map_err(StartError::Unusable)?;
        let node_actor = Actor::node(&config.node);
        let resumed = resume::resume(&control, &*control_log, &*calls_log, &node_actor).await?;
        if resumed.closed > 0 {
            tracing::warn!(
                "{} in flight when the node last ended; what came of that is unknown",
                count(resumed.closed, "call was", "calls were")
            );
        }
        let shared_user = is_shared_user();
        let started = Command::NodeStarted {
            version: label(VERSION)?,
            shared_user,
            development: config.environment == Environment::Development,
            asserted: config.agents.asserted,
            calls: resume::mention(&*calls_log).await,
        };
        control.execute(node_actor.clone(), started).await?;
        let log_rotation = LogRotation::new(config.ledger.keys, &config.node);
        let logs = Logs {
            keys: &config.keys,
            data: &config.data,
            control: &control,
            control_log: &control_log,
            calls_log: &calls_log,
            rng: &*rng,
        };
        log_rotation.settle(&logs).await?;
        if wrapping::is_changing(&config.keys) {
            let by = (node_actor.clone(), &*rng);
            // What is not wrapped anew is open all the same.
            if let Err(error) = wrapping::rotate(&config.keys, &keyring, &control, by).await {
                tracing::error!(error = %error, "The change of the wrapping key could not be finished");
            }
        }
        secrets::settle(&config.vault(), &control, node_actor.clone()).await?;
        let known: std::collections::BTreeSet<_> = config.upstreams.keys().cloned().collect();
        let issuer = Issuer::new(IssuerConfig {
            public_url: public_url.clone(),
            token_key,
            actor: node_actor.clone(),
            clock: Arc::clone(&clock),
            rng: Arc::clone(&rng),
            control: Arc::clone(&control),
            boot,
            upstreams: Box::new(move |name| known.contains(name)),
            trust,
        })
        .await
        .map_err(|error| StartError::Unusable(unusable_token_key(&error)))?;
        let rotation = Rotation::new(config.tokens, &config.node);
        let keyed = Keyed {
            keys: &config.keys,
            control: &control,
            issuer: &issuer,
            rng: &*rng,
        };
        let prepared = rotation.prepare(&keyed).await;
        prepared.map_err(|error| StartError::Unusable(format!("the next token key: {error}")))?;
        let issuer = Arc::new(issuer);
        let people = People::new(
            Arc::clone(&issuer),
            config.login.local,
            Arc::clone(&clock),
            Arc::clone(&rng),
        )
        .map_err(|error| StartError::Unusable(error.to_string()))?;
        let baos = Arc::new(openbao::servers(&config.openbao));
        let upstreams = served(&config, confiner.as_deref(), &issuer, &baos);
        let parts = Parts {
            settings: Settings {
                node: config.node.clone(),
                show_policies: config.show_policies,
                record_timeout: config.ledger.timeout,
                bounds: Bounds {
                    calls_per_minute: config.limits.calls_per_minute,
                    same_denials: config.limits.same_denials,
                    calls_in_flight: config.limits.calls_in_flight,
                    denied_bytes_per_minute: u64::from(config.limits.denied_kib_per_minute) * 1024,
                },
                approvals: config.approvals.settings,
            },
            clock: Arc::clone(&clock),
            rng: Arc::clone(&rng),
            control: Arc::clone(&control),
            calls: Arc::clone(&calls_log) as Arc<dyn Log>,
            keyring: Arc::clone(&keyring) as Arc<dyn ledger::Keyring>,
            blobs,
            issuer,
            hosts: Hosts::new(
                address,
                &url,
                &config.allowed_hosts,
                &config.allowed_origins,
                config.environment == Environment::Development,
            ),
            inspector,
            upstreams,
            public_url,
        };
        let plane = Plane::new(parts).await?;
        let shared = Arc::new(Shared {
            inspection: inspection::Current::new(looked_for),
            plane: Arc::clone(&plane),
            config: Arc::clone(&config),
            control_log: Arc::clone(&control_log),
            calls_log: Arc::clone(&calls_log),
            keyring,
            clock: Arc::clone(&clock),
            rng,
            url: url.clone(),
            scim: Arc::new(Scim::new(
                Arc::clone(plane.control()),
                Arc::clone(&clock),
                &url,
                config.reactions,
            )),
            people: Arc::new(people),
            snapshots: Arc::new(snapshots),
            used: std::sync::Mutex::default(),
            signals,
            directory: directory.map(Arc::new),
            webhook: webhook.map(Arc::new),
            anchors,
            rotation,
            log_rotation,
            rewrapping: tokio::sync::Mutex::default(),
            changing_secrets: tokio::sync::Mutex::default(),
            baos,
            shared_user,
        });
        plane.certify_pending(resumed.barrier, resumed.from).await;
        let seen = policies::activate_at_start(&shared).await;
        if killed {
            tracing::warn!(
                "The node did not stop by itself, and may have taken proofs that are dated ahead; it \
                 serves in {CLOCK_LEEWAY_SECONDS} s, when none of them is good any more"
            );
        }
        wait_until(Time::from_secs(boot.as_secs() + 1), &*clock).await;
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let app = Router::new()
            .merge(http::router(Arc::clone(&shared)))
            .merge(gateway::router(Arc::clone(&plane)));
        let listener = moved(listener, signals_lane).map_err(|cause| StartError::Listen {
            address: address.to_string(),
            cause,
        })?;
        let calls = Handle::current();
        let served = listen::serve_apart(listener, app, stop.clone(), calls);
        tasks.spawn_on(served, signals_lane);
        if let Some((listener, _)) = proxies {
            let (plane, ended) = (Arc::clone(&plane), stop.clone());
            tasks.spawn(listen::serve_as(
                listener,
                stop.clone(),
                move |stream, place| {
                    let (plane, ended) = (Arc::clone(&plane), ended.clone());
                    async move {
                        let asks = || place.asks();
                        tokio::select! {
                            () = gateway::ext_authz(plane, stream, ended, asks) => {}
                            () = place.made_room() => {}
                        }
                    }
                },
            ));
        }
        admin::listen(&shared, &tasks, &stop).map_err(|cause| StartError::Listen {
            address: admin::socket_path(&config.data).display().to_string(),
            cause,
        })?;
        if let Some(seen) = seen {
            tasks.spawn(policies::watch(Arc::clone(&shared), seen, stop.clone()));
        }
        tasks.spawn(http::watch_disk(Arc::clone(&shared), stop.clone()));
        tasks.spawn(anchor::run(Arc::clone(&shared), stop.clone()));
        tasks.spawn(rotation::watch(Arc::clone(&shared), stop.clone()));
        tasks.spawn(snapshot::watch(Arc::clone(&shared), stop.clone()));
        tasks.spawn(resume::pace(
            Arc::clone(&shared),
            resumed.barrier,
            stop.clone(),
        ));
        tasks.spawn(log_keys::watch(Arc::clone(&shared), stop.clone()));
        tasks.spawn(sweep(Arc::clone(&plane), stop.clone()));
        if let Some(directory) = shared.directory.clone() {
            let (control, clock) = (Arc::clone(&control), Arc::clone(&clock));
            tasks.spawn(directory.ask(control, clock, stop.clone()));
        }
        for receiver in shared.signals.values() {
            let (receiver, config) = (Arc::clone(receiver), Arc::clone(&config));
            tasks.spawn(signals::poll(receiver, config, stop.clone()));
        }
        if let Some(webhook) = shared.webhook.clone() {
            let news = approvers::News(Arc::clone(&shared));
            tasks.spawn(webhook.tell(news, stop.clone()));
        }
        tasks.spawn(watch_observed(Arc::clone(&shared), stop.clone()));
        tasks.spawn(watch_reviews(Arc::clone(&shared), stop.clone()));
        tasks.spawn(break_glass::watch(Arc::clone(&shared), stop.clone()));
        tasks.spawn(approvals::watch(Arc::clone(&shared), stop.clone()));
        tasks.spawn(names::watch(Arc::clone(&shared), stop.clone()));
        for upstream in plane.upstreams() {
            tasks.spawn(list_tools(
                Arc::clone(&plane),
                Arc::clone(upstream),
                stop.clone(),
            ));
        }
        let state = config.data.join("node.json");
        let socket = admin::socket_path(&config.data);
        let text = serde_json::json!({
            "url": url, "admin": socket, "pid": std::process::id(), "version": VERSION,
        });
        std::fs::write(&state, format!("{text}\n"))
            .map_err(|error| StartError::Unusable(format!("cannot write node.json: {error}")))?;
        Ok(Self {
            address,
            ext_authz,
            url,
            plane,
            shared,
            tasks,
            stop,
            state,
            _lanes: lanes,
        })
    }

    /// Stops: nothing new is accepted, what is in flight ends or is cut, all of it is on record.
    pub async fn stop(self) -> Result<(), String> {
        self.stop.cancel();
        self.plane.stop(STOP_GRACE).await;
        let _late = tokio::time::timeout(STOP_GRACE, openbao::end(&self.shared.baos)).await;
        self.tasks.close();
        let _late = tokio::time::timeout(STOP_GRACE, self.tasks.wait()).await;
        // Before it is on record that the node stopped: whoever starts it again relies on that.
        let settled = wait_until(self.plane.issuer().settled(), &*self.shared.clock);
        let _late = tokio::time::timeout(SETTLE_MAX, settled).await;
        let actor = Actor::node(self.plane.node_name());
        let (control, calls) = (&self.shared.control_log, &self.shared.calls_log);
        // Each log ends by naming the other, so that neither can be set back alone.
        let barrier = resume::barrier(self.plane.control(), &**control, &actor, "stop");
        let barred = match barrier {
            Ok(draft) => calls.append(vec![draft]).await.map(drop),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = barred {
            tracing::warn!(error = %error, "The log of calls ends without a barrier");
        }
        let calls = resume::mention(&**calls).await;
        let stopped = self
            .plane
            .control()
            .execute(actor, Command::NodeStopped { calls })
            .await;
        let _late = tokio::time::timeout(STOP_GRACE, anchor::push_all(&self.shared)).await;
        let _gone = std::fs::remove_file(&self.state);
        snapshot::at_stop(&self.shared).await;
        let shared = self.shared;
        let closed = tokio::task::spawn_blocking(move || {
            shared
                .calls_log
                .close()
                .and(shared.control_log.close())
                .map_err(|error| error.to_string())
        });
        closed.await.map_err(|error| error.to_string())??;
        stopped.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// That the data folder is the one that was made with the keys. A volume that is not mounted looks
/// like an empty folder, and a second history under the same keys is what a witness calls a fork.
fn there(config: &Config) -> Result<(), StartError> {
    let keyed = LogName::ALL.map(|log| keys::log_key(&config.keys, log).exists());
    let known = LogName::ALL.map(|log| config.data.join(format!("{log}.vkey")).exists());
    if keyed.contains(&true) && !known.contains(&true) {
        return Err(StartError::NoData {
            keys: config.keys.display().to_string(),
            data: config.data.display().to_string(),
        });
    }
    Ok(())
}

/// A listener, and where it listens.
async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let listen = |cause| StartError::Listen {
        address: address.to_string(),
        cause,
    };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    Ok((listener, address))
}

/// A listener that another thread takes connections from.
fn moved(listener: TcpListener, to: &Handle) -> io::Result<TcpListener> {
    let listener = listener.into_std()?;
    let _there = to.enter();
    TcpListener::from_std(listener)
}

/// Waits for a time of day, also if the clock is set meanwhile.
async fn wait_until(time: Time, clock: &dyn Clock) {
    loop {
        let left = time.since(clock.now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(CLOCK_POLL)).await;
    }
}

/// Why the key that lies there cannot sign, with what to do about it.
fn unusable_token_key(error: &IssuerError) -> String {
    format!(
        "the token key: {}; if it is one that was put back, `tipstaff keys rotate token` makes \
         another while the node is not running",
        admin::wire::chain(error)
    )
}

async fn sweep(plane: Arc<Plane>, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(SWEEP_EVERY))
        .await
        .is_some()
    {
        plane.sweep().await;
    }
}

/// Suspends agents whose review is overdue, where that is configured.
async fn watch_reviews(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        crate::review::suspend_overdue(&shared).await;
        let wait = tokio::time::sleep(crate::review::LOOK_EVERY);
        if stop.run_until_cancelled(wait).await.is_none() {
            return;
        }
    }
}

/// Says of upstreams that are observed that they are, and when that is over.
async fn watch_observed(shared: Arc<Shared>, stop: CancellationToken) {
    let until = |served: &Served| served.observe_until();
    let all = shared.plane.upstreams();
    let mut observed: Vec<_> = all.filter(|it| until(it).is_some()).cloned().collect();
    for served in &observed {
        if let Some(until) = until(served).filter(|until| shared.clock.now() < *until) {
            let name = served.name();
            tracing::warn!(upstream.name = %name, "Upstream {name} is only observed until {until}: what policy denies passes, and is recorded");
        }
    }
    while !observed.is_empty() {
        observed.retain(|served| {
            let over = until(served).filter(|until| *until <= shared.clock.now());
            if let Some(until) = over {
                let name = served.name();
                tracing::warn!(upstream.name = %name, "Upstream {name} was observed until {until}, which is over: what policy denies is refused");
            }
            over.is_none()
        });
        let pause = tokio::time::sleep(SWEEP_EVERY);
        if stop.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

/// Reads an upstream's tools at the start and from time to time.
async fn list_tools(plane: Arc<Plane>, served: Arc<Served>, stop: CancellationToken) {
    loop {
        let name = served.name();
        match stop.run_until_cancelled(plane.refresh_tools(&served)).await {
            None => return,
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::warn!(upstream.name = %name, error, "The tools of upstream {name} could not be read");
            }
        }
        if stop
            .run_until_cancelled(tokio::time::sleep(TOOLS_EVERY))
            .await
            .is_none()
        {
            return;
        }
    }
}

fn label(text: &str) -> Result<Label, StartError> {
    text.parse()
        .map_err(|_| StartError::Unusable(format!("`{text}` is not a label")))
}

/// An address that a client on this machine can use.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::from(([127, 0, 0, 1], address.port()))
    } else {
        address
    }
}

/// What both logs end with.
struct Last {
    epoch: u64,
    time: Time,
}

impl Last {
    fn read(data: &Path) -> Result<Self, StartError> {
        let mut last = Self {
            epoch: 0,
            time: Time::from_secs(0),
        };
        for name in LogName::ALL {
            let Ok(log) = OfflineLog::open(data, name) else {
                continue;
            };
            let Some(index) = log.size().checked_sub(1) else {
                continue;
            };
            let unusable = |error: &dyn std::fmt::Display| {
                StartError::Unusable(format!("the last entry of `{name}`: {error}"))
            };
            let bytes = log.entry(index).map_err(|error| unusable(&error))?;
            let entry = Entry::parse(&bytes).map_err(|error| unusable(&error))?;
            last.epoch = last.epoch.max(entry.epoch);
            last.time = last.time.max(entry.time);
        }
        Ok(last)
    }
}

/// Whether an agent on this machine may well run as the node's own user: it does unless the node
/// has a user of its own, which service managers give it.
pub fn is_shared_user() -> bool {
    #[cfg(unix)]
    {
        let uid = rustix::process::getuid().as_raw();
        uid == 0 || uid >= 1000
    }
    #[cfg(not(unix))]
    {
        true
    }
}

/// Whether the node runs as root, which it needs for nothing.
pub fn is_root() -> bool {
    #[cfg(unix)]
    {
        rustix::process::geteuid().is_root()
    }
    #[cfg(not(unix))]
    {
        false
    }
}

/// The upstreams of a configuration.
fn served(
    config: &Config,
    confiner: Option<&Path>,
    issuer: &Arc<Issuer>,
    baos: &Arc<Baos>,
) -> Vec<ServedConfig> {
    let has_children = config
        .upstreams
        .values()
        .any(|it| matches!(it.transport, Transport::Stdio { .. }));
    let keeper = confiner.filter(|_| has_children).and_then(Keeper::probe);
    let vault = Arc::new(config.vault());
    // Its own, so that nobody who describes a client takes places from it.
    let fetch: Arc<dyn Fetch> = Arc::new(Fetcher::new(false));
    let mut all = Vec::new();
    for (name, upstream) in &config.upstreams {
        let transport = match &upstream.transport {
            Transport::Stdio { command, cwd } => Ok(Reach::Stdio {
                command: command.clone(),
                cwd: cwd.clone(),
            }),
            Transport::Http { url } => url
                .parse()
                .map(|url| Reach::Http { url })
                .map_err(|_| format!("url: `{url}` is not a URL")),
            Transport::Elsewhere { actions, .. } => Ok(Reach::Elsewhere {
                actions: actions.clone(),
            }),
        };
        let endpoint = match &upstream.transport {
            Transport::Elsewhere { url, .. } => url.clone(),
            Transport::Stdio { .. } | Transport::Http { .. } => None,
        };
        // One that cannot be used is unavailable, and the node runs for the others.
        let transport = transport.unwrap_or_else(|why| {
            tracing::error!(
                upstream.name = %name,
                "Upstream {name} is NOT available: upstream.{name}.{why}; mend that and start again"
            );
            Reach::Unusable { why }
        });
        let mut account = Account::new(Arc::clone(&vault), upstream.grant.clone(), []);
        account = account.with_baos(Arc::clone(baos), upstream.leases_of_each);
        if let Some(oauth) = &upstream.oauth {
            let endpoint = Endpoint::new(oauth.clone(), Arc::clone(&fetch))
                .vouched_for(name.clone(), Arc::clone(issuer));
            let (secret, endpoint) = (oauth.client_secret.clone(), Arc::new(endpoint));
            account = match oauth.exchange {
                Some(_) => account.with_tokens_of_each(secret, endpoint),
                None => account.with_tokens(secret, endpoint),
            };
        }
        let sandbox = match upstream.confine {
            Confine::Off => SandboxMode::Off,
            Confine::IfAvailable => SandboxMode::IfAvailable,
            Confine::Required => SandboxMode::Required,
        };
        all.push(ServedConfig {
            upstream: UpstreamConfig {
                name: name.clone(),
                transport,
                account: Arc::new(account),
                shared: upstream.shared,
                call_timeout: upstream.timeout,
                start_timeout: upstream.start_timeout,
                data_dir: config.data.clone(),
                keys_dir: config.keys.clone(),
                secrets: secrets::files(config),
                read_only: vec![config.path.clone(), config.policies.clone()],
                sandbox,
                keeper: keeper.clone(),
            },
            options: upstream.policy_options(),
            table: upstream.table,
            observe_until: upstream.observe_until,
            labels: upstream.labels.clone(),
            first_sight: upstream.tools,
            endpoint,
        });
    }
    all
}
