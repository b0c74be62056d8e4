//! What the gateway stands on: the register, the logs, the policy set in force, the upstreams, and
//! whether the node may serve at all.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use broker::GivenBack;
use bytes::Bytes;
use inspect::Inspector;
use ledger::seal::GroupKey;
use ledger::{Actor, Blobs, Keyring, KeyringError, Log, ReadError, Receipt, RecordError};
use mcp::Json;
use mcp::headers::ParamHeaders;
use policy::{Engine, PolicySet, ToolList, UpstreamInput, UpstreamOptions};
use register::{
    ApprovalSettings, Command, CommandError, Control, FirstSight, Sever, State, TestResults,
};
use tokens::{Caller, Issuer, PublicUrl, Resource};
use tokio::runtime;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;
use vocab::{AdminId, Clock, Digest, Handle, InstanceId, Rng, Time, ToolName, UpstreamName};

use crate::access::requests::Keys;
use crate::flow::{Flow, Labels};
use crate::handed::Handed;
use crate::hosts::Hosts;
use crate::limits::{Bounds, Counter, Limiter};
use crate::metrics::Metrics;
use crate::names::Found;
use crate::open::OpenIntents;
use crate::pass::Strange;
use crate::pins::Pins;
use crate::record::{Barrier, BarrierBody, Basis, RoutedBasis};
use crate::refusals::Refusals;
use crate::returns::Returns;
use crate::route::Hubs;
use crate::session::Sessions;
use crate::standing::Hearers;
use crate::tools::Pace;
use crate::upstream::{Transport, Upstream, UpstreamConfig, chain};

/// Settings of the node that matter here.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node's name in records.
    pub node: String,
    /// Whether replies name the policies that decided.
    pub show_policies: bool,
    /// How long a call waits for its record.
    pub record_timeout: Duration,
    /// Limits beside policy.
    pub bounds: Bounds,
    /// How long approvals last, and how many may wait: as the register has it.
    pub approvals: ApprovalSettings,
}

/// An upstream as configured.
#[derive(Debug)]
pub struct ServedConfig {
    /// How it is reached.
    pub upstream: UpstreamConfig,
    /// What of its configuration bears on decisions.
    pub options: UpstreamOptions,
    /// The digest of all of its configuration, references to secrets included.
    pub table: Digest,
    /// Until when policy denials pass.
    pub observe_until: Option<Time>,
    /// What is picked up by calling it.
    pub labels: Labels,
    /// What becomes of a tool that it lists for the first time.
    pub first_sight: FirstSight,
    /// Where clients reach what guards itself, as they write it: what a proof is for that they make
    /// there. None: its URI here.
    pub endpoint: Option<String>,
}

/// Everything that a plane is made of.
#[derive(Debug)]
pub struct Parts {
    /// Settings.
    pub settings: Settings,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// The register, on the control log.
    pub control: Arc<Control>,
    /// The log of calls.
    pub calls: Arc<dyn Log>,
    /// The erasable keys of facts.
    pub keyring: Arc<dyn Keyring>,
    /// Policy sets and tool lists.
    pub blobs: Arc<dyn Blobs>,
    /// The authority on tokens.
    pub issuer: Arc<Issuer>,
    /// The names that requests may call the node by.
    pub hosts: Hosts,
    /// What is looked for in what passes.
    pub inspector: Inspector,
    /// The upstreams.
    pub upstreams: Vec<ServedConfig>,
    /// The URL that clients use.
    pub public_url: PublicUrl,
}

/// The gateway of one node.
#[derive(Debug)]
pub struct Plane {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) control: Arc<Control>,
    pub(crate) calls: Arc<dyn Log>,
    pub(crate) keyring: Arc<dyn Keyring>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) hosts: Hosts,
    pub(crate) upstreams: BTreeMap<UpstreamName, Arc<Served>>,
    pub(crate) active: ArcSwap<Snapshot>,
    inspector: ArcSwap<Inspector>,
    /// What upstreams gave clients to come back with.
    pub(crate) handed: Handed,
    /// What was read.
    pub(crate) flow: Flow,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) open: Arc<OpenIntents>,
    pub(crate) sessions: Sessions,
    pub(crate) refusals: Refusals,
    /// `Idempotency-Key`s of access requests.
    pub(crate) keys: Keys,
    pub(crate) life: Life,
    /// Changes whenever something may have been narrowed.
    pub(crate) cut: watch::Sender<u64>,
    /// Told whenever an outcome was put on record.
    pub(crate) settled: Notify,
    /// Counts certificates of cuts.
    pub(crate) certified: watch::Sender<u64>,
    pub(crate) tasks: TaskTracker,
    /// Streams that clients keep open for what belongs to no request.
    pub(crate) streams: TaskTracker,
    pub(crate) hearers: Arc<Hearers>,
    /// Cuts that are being certified.
    certifying: TaskTracker,
    /// What was leased to instances that are over.
    pub(crate) returns: Arc<Returns>,
    /// Where calls run.
    runtime: runtime::Handle,
    pub(crate) metrics: Metrics,
    pub(crate) tools_changed: watch::Sender<u64>,
    /// What was found wrong with the names that policies say.
    pub(crate) names: Mutex<Option<Found>>,
    group_keys: RwLock<HashMap<String, (Handle, Arc<GroupKey>)>>,
    activation: Mutex<()>,
    /// One set at a time is put on record and then in force: calls are decided by the set that the
    /// register has in force or by the one before, and it knows no others' names.
    activating: tokio::sync::Mutex<()>,
    /// One change of pins at a time: what is new is held against what is accepted elsewhere.
    pub(crate) pinning: tokio::sync::Mutex<()>,
}

/// One upstream.
#[derive(Debug)]
pub struct Served {
    pub(crate) name: UpstreamName,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) options: UpstreamOptions,
    pub(crate) options_blob: Digest,
    observe_until: Option<Time>,
    pub(crate) labels: Labels,
    /// Its URI, which tokens for it name.
    pub(crate) resource: Resource,
    endpoint: Option<String>,
    /// Instances that may have a link to it.
    owners: Mutex<HashSet<InstanceId>>,
    /// It speaks the modern era and refused the one before.
    legacy_refused: AtomicBool,
    pub(crate) hubs: Hubs,
    /// One listing at a time.
    pub(crate) listing: tokio::sync::Mutex<()>,
    /// A listing waits for its turn, and will see what has changed until then.
    pub(crate) listing_waits: AtomicBool,
    pub(crate) strange: Strange,
    pub(crate) first_sight: FirstSight,
    /// Its tools were listed, and judged by the pins, since this start.
    pub(crate) listed: AtomicBool,
    pub(crate) pace: Pace,
}

impl Served {
    /// Whether a listing has to be asked for: none is waiting for its turn.
    pub(crate) fn queue_listing(&self) -> bool {
        !self.listing_waits.swap(true, Ordering::AcqRel)
    }

    /// Whether its tools were listed since this start, so that what changed before it is held.
    pub(crate) fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Acquire)
    }

    /// Notes that an instance may have a link.
    pub(crate) fn note_owner(&self, instance: &InstanceId) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if !owners.contains(instance) {
            owners.insert(instance.clone());
        }
    }

    /// Ends the links of instances that `keep` says are over.
    fn close_owners(&self, keep: impl Fn(&InstanceId) -> bool) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.retain(|owner| {
            let stays = keep(owner);
            if !stays {
                self.upstream.close_owner(owner.as_str());
            }
            stays
        });
    }

    /// Whether it guards itself, and nothing is sent to it from here.
    pub fn is_elsewhere(&self) -> bool {
        matches!(
            self.upstream.config().transport,
            Transport::Elsewhere { .. }
        )
    }

    /// Where clients reach it, if it guards itself.
    pub(crate) fn endpoint(&self) -> &str {
        self.endpoint
            .as_deref()
            .unwrap_or_else(|| self.resource.uri())
    }

    /// Whether a URL, as its clients write it, is one of its own.
    pub(crate) fn covers(&self, url: &str) -> bool {
        url.strip_prefix(self.endpoint())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    }

    /// Whether it is known to speak the modern era only.
    pub(crate) fn has_refused_legacy(&self) -> bool {
        self.legacy_refused.load(Ordering::Acquire)
    }

    /// Notes that it speaks the modern era only.
    pub(crate) fn note_legacy_refused(&self) {
        self.legacy_refused.store(true, Ordering::Release);
    }

    /// Whether policy denials pass at `now`.
    pub(crate) fn observing(&self, now: Time) -> bool {
        self.observe_until.is_some_and(|until| now < until)
    }

    /// The upstream behind it.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Its name.
    pub const fn name(&self) -> &UpstreamName {
        &self.name
    }

    /// Until when policy denials pass.
    pub const fn observe_until(&self) -> Option<Time> {
        self.observe_until
    }
}

/// What decides, as of one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) engine: Engine,
    pub(crate) set: Option<Digest>,
    /// The index of the entry that activated the set: it settles whom names mean.
    pub(crate) since: Option<u64>,
    pub(crate) tools: Known,
}

/// An upstream's tools, as decisions, headers and listings need them.
#[derive(Debug)]
pub struct Tools {
    list: ToolList,
    pins: Pins,
    /// What of a tool's arguments headers mirror.
    headers: HashMap<ToolName, ParamHeaders>,
    /// What the upstream claims of each.
    claims: HashMap<ToolName, Claims>,
}

/// What an upstream claims of a tool (`annotations`). Nobody checked it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// `readOnlyHint`.
    pub(crate) read_only: Option<bool>,
    /// `destructiveHint`.
    pub(crate) destructive: Option<bool>,
}

impl Tools {
    fn read(upstream: &UpstreamName, text: &[u8]) -> Result<Self, String> {
        let list = ToolList::pinned(upstream, text).map_err(|error| error.to_string())?;
        let pins = Pins::parse(text).ok_or("it is no list of pins")?;
        let (mut headers, mut claims) = (HashMap::new(), HashMap::new());
        for (name, pin) in pins.tools() {
            let Some(text) = &pin.accepted else {
                continue;
            };
            let json = Json::parse(Bytes::copy_from_slice(text.as_bytes()));
            let json = json.map_err(|error| error.to_string())?;
            let claim = |hint| json.root().path(&["annotations", hint])?.as_bool();
            let claimed = Claims {
                read_only: claim("readOnlyHint"),
                destructive: claim("destructiveHint"),
            };
            claims.insert(name.clone(), claimed);
            if let Ok(annotations) = ParamHeaders::of_tool(json.root()) {
                headers.insert(name.clone(), annotations);
            }
        }
        Ok(Self {
            list,
            pins,
            headers,
            claims,
        })
    }

    /// The list.
    pub const fn list(&self) -> &ToolList {
        &self.list
    }

    /// What of it was accepted, and what is held.
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// What the upstream claims of a tool.
    pub(crate) fn claims(&self, name: &ToolName) -> Claims {
        self.claims.get(name).copied().unwrap_or_default()
    }

    /// What headers mirror of a tool's arguments.
    pub(crate) fn param_headers(&self, name: &ToolName) -> Option<&ParamHeaders> {
        self.headers.get(name)
    }
}

/// The tools of each upstream, as on record.
type Known = HashMap<UpstreamName, (Digest, Arc<Tools>)>;

fn same(one: &Known, other: &Known) -> bool {
    let same = |(name, (digest, _)): (&UpstreamName, &(Digest, _))| {
        other.get(name).is_some_and(|(known, _)| known == digest)
    };
    one.len() == other.len() && one.iter().all(same)
}

/// A proposed set, and what it came to with the tools that were known.
#[derive(Debug)]
pub struct Trial {
    set: PolicySet,
    engine: Engine,
    tools: Known,
}

impl Trial {
    /// The set.
    pub const fn set(&self) -> &PolicySet {
        &self.set
    }

    /// The engine on it.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl Snapshot {
    /// What a decision about `served` rests on.
    pub(crate) fn basis(
        &self,
        served: &Served,
        routed: Option<&Served>,
        control_size: u64,
    ) -> Basis {
        let tools = |of: &Served| self.tools.get(&of.name).map(|(digest, _)| *digest);
        let routed = routed.map(|to| RoutedBasis {
            upstream: to.name.clone(),
            tools: tools(to),
            options: to.options_blob,
        });
        Basis {
            control_size,
            policy_set: self.set,
            tools: tools(served),
            options: served.options_blob,
            versions: policy::versions(),
            routed,
        }
    }
}

/// What the counter of cuts shows when everything is cut.
pub(crate) const STOPPED: u64 = u64::MAX;

/// Whether the node may serve.
#[derive(Debug, Default)]
pub struct Life(AtomicU8);

const SERVING: u8 = 0;
const STOPPING: u8 = 1;
const FAILED: u8 = 2;
const PAUSED: u8 = 3;

impl Life {
    /// Why nothing is served, if so.
    pub fn check(&self) -> Result<(), &'static str> {
        match self.0.load(Ordering::Acquire) {
            SERVING => Ok(()),
            STOPPING => Err("This node is stopping; nothing was sent. Try again later."),
            PAUSED => Err(
                "This node is short of disk space, and nothing is done here that could not be put \
                 on record; nothing was sent. Try again later.",
            ),
            _ => Err(
                "This node has stopped serving because an outcome could not be put on \
                      record; nothing was sent. It must be started again.",
            ),
        }
    }

    /// Whether the node failed.
    pub fn has_failed(&self) -> bool {
        self.0.load(Ordering::Acquire) == FAILED
    }

    /// Serves no more: it was asked to stop.
    pub(crate) fn stop(&self) {
        let _was = self.turn(SERVING, STOPPING) || self.turn(PAUSED, STOPPING);
    }

    /// Takes no new calls for now: the disk is nearly full, and outcomes still need room.
    pub fn pause(&self) {
        self.turn(SERVING, PAUSED);
    }

    /// Takes calls again, if it was only paused.
    pub fn resume(&self) {
        self.turn(PAUSED, SERVING);
    }

    fn turn(&self, from: u8, to: u8) -> bool {
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Serves no more: an effect has no outcome on record.
    pub(crate) fn fail(&self, cause: &RecordError) {
        if self.0.swap(FAILED, Ordering::AcqRel) != FAILED {
            tracing::error!(
                error = %chain(cause),
                "An outcome could not be recorded after its effect; this node serves no more"
            );
        }
    }

    /// A decision could not be recorded: the call was not made, and the node goes on.
    pub(crate) fn noted(cause: &RecordError) {
        tracing::error!(error = %chain(cause), "A decision could not be recorded, so nothing was sent");
    }
}

/// What the register has cuts carried out by. A plane that is gone permits nothing.
#[derive(Debug)]
struct Severs(Weak<Plane>);

impl Sever for Severs {
    fn sever<'a>(
        &'a self,
        cause: &'static str,
        entry: Option<u64>,
    ) -> Pin<Box<dyn Future<Output = Result<(), RecordError>> + Send + 'a>> {
        Box::pin(async move {
            match self.0.upgrade() {
                Some(plane) => plane.sever(cause, entry).await,
                None => Ok(()),
            }
        })
    }
}

/// Why a plane could not be made, or a policy set not be activated.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// A blob could not be kept or read.
    #[error(transparent)]
    Blob(#[from] ledger::BlobError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] vocab::rng::RngError),
    /// The register refused.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// What is on record cannot be read back.
    #[error("{what} on record cannot be used: {cause}")]
    Damaged {
        /// What.
        what: String,
        /// Why.
        cause: String,
    },
    /// The policy files are not a valid set.
    #[error("the policies are not valid:\n{0}")]
    Invalid(String),
    /// Building the engine ended early; what was in force stays.
    #[error("the policies were not put in force, and what was stays: {0}")]
    Unfinished(String),
}

/// What those who still run have read, as it is on record.
fn read(parts: &Parts) -> Result<HashMap<InstanceId, BTreeSet<String>>, ReadError> {
    let now = parts.clock.now();
    let since = parts.control.view(|state| {
        let live = state.instances().into_iter().filter(|it| !it.outlived(now));
        live.map(|it| it.started_at).min()
    });
    match since {
        None => Ok(HashMap::new()),
        Some(since) => crate::flow::on_record(parts.calls.reader(), since),
    }
}

/// The calls on record that count against what running instances may make in their life.
fn spent(parts: &Parts) -> Result<HashMap<Counter, u64>, ReadError> {
    let now = parts.clock.now();
    let (counted, started) = parts.control.view(|state| {
        let (mut counted, mut first) = (HashSet::new(), None);
        for instance in state.instances() {
            let agent = state.agent(&instance.agent);
            let own = agent.is_some_and(|it| it.limits.calls_per_instance.is_some());
            let tree = instance.max_calls.is_some();
            if instance.outlived(now) || !(own || tree) {
                continue;
            }
            let id = &instance.id;
            counted.extend(own.then(|| Counter::Own(id.clone())));
            counted.extend(tree.then(|| Counter::Tree(id.clone())));
            first = Some(first.map_or(instance.started_at, |at| instance.started_at.min(at)));
        }
        (counted, first)
    });
    match started {
        None => Ok(HashMap::new()),
        Some(since) => crate::limits::on_record(parts.calls.reader(), &counted, since),
    }
}

impl Plane {
    /// Puts the parts together. Configured upstreams are put on record.
    pub async fn new(parts: Parts) -> Result<Arc<Self>, PlaneError> {
        let spent = spent(&parts).map_err(|cause| PlaneError::Damaged {
            what: "the log of calls".into(),
            cause: cause.to_string(),
        })?;
        let read = read(&parts).map_err(|cause| PlaneError::Damaged {
            what: "the log of calls".into(),
            cause: cause.to_string(),
        })?;
        let mut upstreams = BTreeMap::new();
        let actor = Actor::node(&parts.settings.node);
        for config in parts.upstreams {
            let name = config.upstream.name.clone();
            let options =
                serde_json::to_vec(&config.options).map_err(|cause| PlaneError::Damaged {
                    what: "an upstream's options".into(),
                    cause: cause.to_string(),
                })?;
            let options_blob = parts.blobs.put(&options)?;
            let command = Command::ConfigureUpstream {
                name: name.clone(),
                config: options_blob,
                table: config.table,
                observe_until: config.observe_until,
            };
            parts.control.execute(actor.clone(), command).await?;
            let served = Served {
                name: name.clone(),
                upstream: Arc::new(Upstream::new(config.upstream)),
                resource: Resource::new(&parts.public_url, name.clone()),
                endpoint: config.endpoint,
                owners: Mutex::default(),
                legacy_refused: AtomicBool::new(false),
                hubs: Hubs::default(),
                options: config.options,
                options_blob,
                observe_until: config.observe_until,
                labels: config.labels,
                listing: tokio::sync::Mutex::default(),
                listing_waits: AtomicBool::new(false),
                strange: Strange::default(),
                first_sight: config.first_sight,
                listed: AtomicBool::new(false),
                pace: Pace::default(),
            };
            upstreams.insert(name, Arc::new(served));
        }
        let handed = Handed::new(&*parts.rng)?;
        let limiter = Arc::new(Limiter::new(parts.settings.bounds, spent));
        let none = Snapshot {
            engine: Engine::none(),
            set: None,
            since: None,
            tools: HashMap::new(),
        };
        let plane = Arc::new(Self {
            settings: parts.settings,
            clock: parts.clock,
            rng: parts.rng,
            control: parts.control,
            calls: parts.calls,
            keyring: parts.keyring,
            blobs: parts.blobs,
            issuer: parts.issuer,
            hosts: parts.hosts,
            upstreams,
            active: ArcSwap::from_pointee(none),
            inspector: ArcSwap::from_pointee(parts.inspector),
            handed,
            flow: Flow::new(read),
            limiter,
            open: Arc::default(),
            sessions: Sessions::default(),
            refusals: Refusals::default(),
            keys: Keys::default(),
            life: Life::default(),
            cut: watch::channel(0).0,
            settled: Notify::new(),
            certified: watch::channel(0).0,
            certifying: TaskTracker::new(),
            returns: Arc::default(),
            runtime: runtime::Handle::current(),
            tasks: TaskTracker::new(),
            streams: TaskTracker::new(),
            hearers: Arc::default(),
            metrics: Metrics::default(),
            tools_changed: watch::channel(0).0,
            names: Mutex::default(),
            group_keys: RwLock::default(),
            activation: Mutex::default(),
            activating: tokio::sync::Mutex::default(),
            pinning: tokio::sync::Mutex::default(),
        });
        plane
            .control
            .cuts_by(Arc::new(Severs(Arc::downgrade(&plane))));
        plane.rebuild(None);
        Ok(plane)
    }

    /// What is looked for in what passes.
    pub fn inspector(&self) -> Inspector {
        Inspector::clone(&self.inspector.load())
    }

    /// Looks for what these rules say from now on.
    pub fn inspect_by(&self, inspector: Inspector) {
        self.inspector.store(Arc::new(inspector));
    }

    /// Notes what those of a delegation have read.
    pub(crate) fn pick_up(&self, root: &InstanceId, labels: &[String]) {
        let goes_on = |id: &InstanceId| {
            let now = self.clock.now();
            let found = |state: &State| state.instance(id).is_some_and(|it| !it.outlived(now));
            self.control.view(found)
        };
        self.flow.pick_up(root, labels, goes_on);
    }

    /// The node's name in records.
    pub fn node_name(&self) -> &str {
        &self.settings.node
    }

    /// The register.
    pub const fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// The authority on tokens.
    pub const fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// The log of calls.
    pub const fn calls(&self) -> &Arc<dyn Log> {
        &self.calls
    }

    /// The blobs.
    pub const fn blobs(&self) -> &Arc<dyn Blobs> {
        &self.blobs
    }

    /// Whether the node may serve.
    pub const fn life(&self) -> &Life {
        &self.life
    }

    /// The names that requests may call the node by.
    pub const fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Counters.
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Requests refused before there was anything to decide.
    pub const fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The upstreams.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.upstreams.values()
    }

    /// One upstream.
    pub fn upstream(&self, name: &UpstreamName) -> Option<&Arc<Served>> {
        self.upstreams.get(name)
    }

    /// Calls that have no outcome yet.
    pub fn in_flight(&self) -> usize {
        self.open.len()
    }

    /// Legacy sessions that are open.
    pub fn sessions_open(&self) -> usize {
        self.sessions.len()
    }

    /// The policy set in force and what the engine has to say about it.
    pub fn policy_status(&self) -> (Option<Digest>, Vec<policy::Diagnostic>) {
        let snapshot = self.active.load();
        (snapshot.set, snapshot.engine.diagnostics().to_vec())
    }

    /// The tool list of an upstream that decisions rest on.
    pub fn known_tools(&self, name: &UpstreamName) -> Option<(Digest, Arc<Tools>)> {
        self.active.load().tools.get(name).cloned()
    }

    /// Builds the engine anew from what the register says is in force. A set that cannot be read
    /// leaves nothing in force: everything is denied.
    fn rebuild(&self, trial: Option<Trial>) {
        let _one = self
            .activation
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (set, since, listed) = self.control.view(|state| {
            let set = state.policy().map(|policy| policy.set);
            let since = state.policy().map(|policy| policy.record);
            let listed: Vec<(UpstreamName, Digest)> = state
                .upstreams()
                .filter_map(|it| Some((it.name.clone(), it.definitions()?)))
                .collect();
            (set, since, listed)
        });
        let mut tools = HashMap::new();
        for (name, digest) in listed {
            if !self.upstreams.contains_key(&name) {
                continue;
            }
            let old = self
                .active
                .load()
                .tools
                .get(&name)
                .filter(|(it, _)| *it == digest)
                .cloned();
            let known = match old {
                Some((_, list)) => list,
                None => match self.read_tools(&name, &digest) {
                    Ok(tools) => Arc::new(tools),
                    Err(error) => {
                        tracing::error!("The tools of `{name}` have to be listed again: {error}");
                        continue;
                    }
                },
            };
            tools.insert(name, (digest, known));
        }
        // A set that cannot be read is none: that is what decisions rest on, and what is recorded.
        let tried = trial.filter(|it| Some(it.set.digest()) == set && same(&it.tools, &tools));
        let (engine, set) = match (set, tried) {
            (None, _) => (Engine::none(), None),
            (Some(digest), Some(trial)) => (trial.engine, Some(digest)),
            (Some(digest), None) => match self.read_set(&digest) {
                Ok(set) => (self.engine_of(&set, &tools), Some(digest)),
                Err(error) => {
                    tracing::error!("No policy is in force, so everything is denied: {error}");
                    (Engine::none(), None)
                }
            },
        };
        for diagnostic in engine.diagnostics() {
            tracing::warn!("Policy problem: {diagnostic}");
        }
        self.active.store(Arc::new(Snapshot {
            engine,
            set,
            since,
            tools,
        }));
    }

    fn read_tools(&self, name: &UpstreamName, digest: &Digest) -> Result<Tools, PlaneError> {
        let what = || format!("the tool list of `{name}` ({digest})");
        let bytes = self.blobs.get(digest)?.ok_or_else(|| PlaneError::Damaged {
            what: what(),
            cause: "its blob is missing".to_owned(),
        })?;
        Tools::read(name, &bytes).map_err(|cause| PlaneError::Damaged {
            what: what(),
            cause,
        })
    }

    fn read_set(&self, digest: &Digest) -> Result<PolicySet, PlaneError> {
        let what = || format!("the policy set {digest}");
        let bytes = self.blobs.get(digest)?.ok_or_else(|| PlaneError::Damaged {
            what: what(),
            cause: "its blob is missing".to_owned(),
        })?;
        PolicySet::from_blob(&bytes).map_err(|cause| PlaneError::Damaged {
            what: what(),
            cause: cause.to_string(),
        })
    }

    /// [`Plane::rebuild`], beside the calls: a large set takes seconds.
    pub(crate) async fn put_in_force(
        self: &Arc<Self>,
        trial: Option<Trial>,
    ) -> Result<(), PlaneError> {
        let plane = Arc::clone(self);
        tokio::task::spawn_blocking(move || plane.rebuild(trial))
            .await
            .map_err(|cause| PlaneError::Unfinished(cause.to_string()))
    }

    fn engine_of(&self, set: &PolicySet, tools: &Known) -> Engine {
        let inputs: Vec<UpstreamInput<'_>> = self
            .upstreams
            .values()
            .map(|served| UpstreamInput {
                name: served.name.clone(),
                tools: tools.get(&served.name).map(|(_, tools)| tools.list()),
                options: served.options.clone(),
            })
            .collect();
        Engine::build(set, &inputs)
    }

    /// Changes whenever a tool list did.
    pub fn tools_generation(&self) -> u64 {
        *self.tools_changed.borrow()
    }

    /// An engine on a proposed set, with the tools that are known now: for checks and tests.
    pub fn engine(&self, set: &PolicySet) -> Engine {
        self.engine_of(set, &self.active.load().tools)
    }

    /// A proposed set on trial, with the tools that are known now. A large set takes seconds.
    pub fn trial(&self, set: PolicySet) -> Trial {
        let tools = self.active.load().tools.clone();
        let engine = self.engine_of(&set, &tools);
        Trial { set, engine, tools }
    }

    /// Puts a set into force, on record with its author and what its cases came to. A set with
    /// errors is refused and leaves the one in force as it is.
    pub async fn activate(
        self: &Arc<Self>,
        actor: Actor,
        trial: Trial,
        author: AdminId,
        tests: TestResults,
    ) -> Result<Digest, PlaneError> {
        let errors: Vec<String> = trial
            .engine
            .diagnostics()
            .iter()
            .filter(|it| it.severity == policy::Severity::Error)
            .map(ToString::to_string)
            .collect();
        if !errors.is_empty() {
            return Err(PlaneError::Invalid(errors.join("\n")));
        }
        let digest = self.blobs.put(trial.set.to_blob())?;
        let command = Command::ActivatePolicy {
            set: digest,
            author,
            tests,
        };
        let plane = Arc::clone(self);
        // To its end, also if whoever asked goes away.
        let both = self.control.spawn(async move {
            let _one = plane.activating.lock().await;
            // One before this may be on record and not in force: its checkpoint could not be signed.
            let recorded = |state: &State| state.policy().map(|policy| policy.record);
            if plane.control.view(recorded) != plane.active.load().since {
                plane.put_in_force(None).await?;
            }
            plane.control.execute(actor, command).await?;
            plane.put_in_force(Some(trial)).await
        });
        both.await
            .map_err(|cause| PlaneError::Unfinished(cause.to_string()))??;
        Ok(digest)
    }

    /// The key that seals what a group did. Made rarely, kept in memory.
    pub(crate) fn group_key(&self, group: &str) -> Result<(Handle, Arc<GroupKey>), KeyringError> {
        let erased = |key: &Handle| self.control.view(|state| state.erased().contains(key));
        let keys = self
            .group_keys
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let known = keys.get(group).cloned();
        drop(keys);
        if let Some(known) = known.filter(|(handle, _)| !erased(handle)) {
            return Ok(known);
        }
        let mut made = self.keyring.group_key(group)?;
        if erased(&made.0) {
            // Its erasure is on record and was not finished: what it seals would be nothing.
            self.keyring.erase(&made.0)?;
            made = self.keyring.group_key(group)?;
        }
        let mut keys = self
            .group_keys
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Yesterday's groups are asked for no more.
        if keys.len() > 4_096 {
            keys.clear();
        }
        keys.insert(group.to_owned(), made.clone());
        Ok(made)
    }

    /// Forgets every group key, after one was erased.
    pub fn forget_group_keys(&self) {
        self.group_keys
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Carries out what was narrowed: cuts what is in flight, closes sessions and children of
    /// instances that may not act any more, and puts a barrier on record. When it returns, nothing
    /// that the narrowing rules out can follow in the log of calls. [`Control::execute`] asks for
    /// it by itself.
    pub async fn narrowed(self: &Arc<Self>, cause: &str) -> Result<Receipt, RecordError> {
        // A cut is not held up because the control log's checkpoint cannot be read.
        let control = self.control.mention().unwrap_or_else(|error| {
            tracing::warn!(error = %error, "A barrier does not name the control log's checkpoint");
            None
        });
        let control_size = self.control.view(State::size);
        let barrier = Barrier {
            body: BarrierBody {
                control_size,
                cause: cause.to_owned(),
                control,
            },
            actor: Actor::node(&self.settings.node),
        };
        let recording = ledger::record(&*self.calls, barrier);
        let cutting = async {
            self.cut
                .send_modify(|generation| *generation = generation.saturating_add(1));
            self.close_narrowed().await;
        };
        // The barrier stands in line before anybody is cut, so that the outcome of what is cut comes
        // behind it; and neither waits for the other to be done.
        let (recorded, ()) = tokio::join!(biased; recording, cutting);
        recorded.map(|recorded| recorded.receipt().clone())
    }

    /// Carries out and proves what the control entry at `entry` narrowed, and has it certified.
    async fn sever(self: &Arc<Self>, cause: &str, entry: Option<u64>) -> Result<(), RecordError> {
        let from = self.open.lowest(self.calls.reader().size());
        let barrier = self.narrowed(cause).await?.index;
        // A command that is repeated wrote nothing: the first one's barrier may have failed, and with
        // it the certificate, so whatever has none yet is certified now.
        let cuts: Vec<u64> = self.control.view(|state| match entry {
            Some(entry) => state.cut(entry).map(|cut| cut.record).into_iter().collect(),
            None => state.uncertified().collect(),
        });
        for cut in cuts {
            let plane = Arc::clone(self);
            let certifying = async move {
                if let Err(error) = plane.certify(cut, barrier, from).await {
                    tracing::error!(error = %chain(&error), "The cut of control/{cut} could not be certified; giving the command again, or the next start, tries again");
                }
            };
            self.certifying.spawn_on(certifying, &self.runtime);
        }
        Ok(())
    }

    /// Ends sessions and children that nobody may use any more.
    async fn close_narrowed(self: &Arc<Self>) {
        let now = self.clock.now();
        let stands = |id: &InstanceId, upstream: &UpstreamName| {
            let standing = self.control.standing_at(id, upstream, now);
            standing.active().is_ok()
        };
        for session in self.sessions.sweep(self.clock.elapsed(), stands) {
            session.close();
            crate::call::abandon(self, session.take_open(), "session-over").await;
        }
        for served in self.upstreams.values() {
            served.close_owners(|id| stands(id, &served.name));
            self.give_back(served, |id| stands(id, &served.name));
        }
    }

    /// Credentials of instances that were given back since the start, or were not.
    pub fn returned(&self) -> Vec<(GivenBack, u64)> {
        self.returns.counted()
    }

    /// Gives back what was leased to instances that `keep` says are over.
    fn give_back(&self, served: &Served, keep: impl Fn(&InstanceId) -> bool) {
        for ending in served.upstream.config().account.end_unless(keep) {
            self.returns
                .give(&served.name, ending, &self.clock, &self.runtime);
        }
    }

    /// Ends what nobody may use any more, and puts on record what was only counted.
    pub async fn sweep(self: &Arc<Self>) {
        self.close_narrowed().await;
        let now = self.clock.now();
        self.control.view(|state| {
            self.limiter
                .forget(|id| state.instance(id).is_some_and(|it| !it.outlived(now)));
        });
        self.returns.forget(now);
        if let Err(error) = self.refusals.flush(&*self.calls).await {
            tracing::warn!(error = %chain(&error), "Refused requests could not be counted on record");
        }
    }

    /// Resolves when the caller's instance is over by its own clock, or the break-glass that lets it
    /// act.
    pub(crate) fn until_expiry(&self, caller: &Caller) -> tokio::time::Sleep {
        let now = self.clock.now();
        let standing = self.control.standing(caller.instance(), now).active();
        let until = standing.map_or(now, |active| active.until());
        tokio::time::sleep(until.since(now))
    }

    /// Stops: no new calls, those in flight get `grace` to end and are then cut.
    pub async fn stop(self: &Arc<Self>, grace: Duration) {
        self.life.stop();
        self.tasks.close();
        self.streams.close();
        let _late = tokio::time::timeout(grace, self.tasks.wait()).await;
        // Until here a call in flight could need them: its upstream may ask its client something.
        self.cut.send_modify(|generation| *generation = STOPPED);
        let cut = async { tokio::join!(self.tasks.wait(), self.streams.wait()) };
        let _late = tokio::time::timeout(grace, cut).await;
        self.certifying.close();
        let _late = tokio::time::timeout(grace, self.certifying.wait()).await;
        for session in self.sessions.sweep(Duration::MAX, |_, _| false) {
            session.close();
            crate::call::abandon(self, session.take_open(), "node-stopped").await;
        }
        for served in self.upstreams.values() {
            served.upstream.close_all().await;
            self.give_back(served, |_| false);
            let ending = served.upstream.config().account.end();
            self.returns
                .give(&served.name, ending, &self.clock, &self.runtime);
        }
        let _late = tokio::time::timeout(grace, self.returns.end()).await;
        if let Err(error) = self.refusals.flush(&*self.calls).await {
            tracing::warn!(error = %chain(&error), "Refused requests could not be counted on record");
        }
    }
}
