//! A whole node, started and stopped by a test.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway::Served;
use http::Request;
use http_body_util::Full;
use ledger::note::Signer;
use ledger::{Actor, ActorKind, LogReader as _};
use policy::{PolicyFile, PolicySet};
use register::TestResults;
use serde_json::{Value, json};
use server::admin::credential;
use server::config::Config;
use server::node::{Deps, Node, StartError};
use store::{Faults, OfflineLog, OpenError};
use tempfile::TempDir;
use tokens::{AgentKey, DpopKey, PrivateKey};
use tokio::runtime::{Builder, Runtime};
use vocab::limits::CLOCK_LEEWAY_SECONDS;
use vocab::time::SystemClock;
use vocab::{Clock as _, LogName, Time};

use crate::ledger::Verified;
use crate::wire::{self, Ask, Wire};
use crate::{
    Agent, Answer, Ledger, MockClock, PATIENCE, SeededRng, Speaks, Token, Upstream, until, within,
};

/// The URL that tokens and proofs name, wherever the node listens.
const PUBLIC_URL: &str = "http://localhost:7420";

/// The policies of a plane that is not given others.
pub const POLICIES: &str = r#"
@id("triage-reads-public-files")
permit (principal in Agent::"triage", action == Action::"files/read_text_file", resource)
when { context.canonical.path like "/public/*" };

@id("no-drafts")
@reason("Drafts are off limits. Ask your sponsor if you need one.")
forbid (principal, action == Action::"files/read_text_file", resource)
when { context.canonical.path like "/public/drafts/*" };

@id("triage-refunds")
permit (principal in Agent::"triage", action == Action::"files/refund", resource)
when { context.args.amount <= 100 };

@id("large-refunds-wait")
@approval("group:finance")
@reason("Refunds of 10000 and more are for two people to decide.")
permit (principal in Agent::"triage", action == Action::"files/refund", resource)
when { context.args.amount >= 10000 && context.args.amount < 20000 && context has approval };

@id("triage-fetches-docs")
permit (principal in Agent::"triage", action == Action::"files/fetch", resource)
when { context.canonical.url like "https://docs.example/*" };

@id("anyone-does-anything")
permit (principal, action == Action::"files/anything", resource);

@id("triage-reads-resources")
permit (principal in Agent::"triage", action == Action::"files:resources/read", resource)
when { context.args.uri like "file:///public/*" };

@id("triage-prompts")
permit (principal in Agent::"triage",
        action in [Action::"files:prompts/get", Action::"files:completion/complete"], resource);
"#;

/// What a plane is to be.
#[derive(Debug)]
pub struct Setup {
    /// The upstreams by name, and what their tables say beside the URL.
    pub upstreams: BTreeMap<String, (Upstream, String)>,
    /// The policies.
    pub policies: String,
    /// `production` or `development`.
    pub environment: String,
    /// What stands in the configuration before its tables.
    pub top: String,
    /// What `[limits]` says.
    pub limits: String,
    /// What becomes of agents that nobody accepted.
    pub asserted: &'static str,
    /// What stands after everything else: upstreams that are not scripted ones.
    pub tail: String,
    /// Whether to wait until tools are known and policies in force.
    pub ready: bool,
}

impl Setup {
    /// Adds an upstream, or replaces it; `more` is what its table says beside the URL.
    pub fn upstream(&mut self, name: &str, upstream: &Upstream, more: &str) {
        self.upstreams
            .insert(name.to_owned(), (upstream.clone(), more.to_owned()));
    }

    fn config(&self) -> String {
        let mut text = format!(
            "trust_domain = \"it.example\"\npublic_url = \"{PUBLIC_URL}\"\n\
             environment = \"{}\"\n{}\n[agents]\nasserted = \"{}\"\n[limits]\n{}\n",
            self.environment, self.top, self.asserted, self.limits
        );
        for (name, (upstream, more)) in &self.upstreams {
            let url = upstream.url();
            writeln!(text, "[upstream.{name}]\nurl = \"{url}\"\n{more}").unwrap();
        }
        text.push_str(&self.tail);
        text
    }
}

/// A node, on threads of its own: so that it can be cut off in the middle of everything.
#[derive(Debug)]
struct Running {
    node: Node,
    runtime: Runtime,
}

/// A node, its files, and everything around it.
#[derive(Debug)]
pub struct Plane {
    folder: TempDir,
    setup: Setup,
    running: Option<Running>,
    /// Whether the node stopped by itself, if it ever ran.
    stopped: bool,
    wire: Arc<Wire>,
    /// The node's clock.
    pub clock: Arc<MockClock>,
    /// What makes its storage fail.
    pub faults: Faults,
}

impl Plane {
    /// A node with one upstream, `files`, that speaks both eras.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A node with changes to what [`Plane::start`] has.
    pub async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let files = Upstream::start(Speaks::Both).await;
        let mut setup = Setup {
            upstreams: BTreeMap::from([("files".to_owned(), (files, String::new()))]),
            policies: POLICIES.to_owned(),
            environment: "production".to_owned(),
            top: String::new(),
            limits: String::new(),
            asserted: "run",
            tail: String::new(),
            ready: true,
        };
        change(&mut setup);
        let folder = tempfile::Builder::new()
            .prefix("tipstaff-it-")
            .tempdir()
            .unwrap();
        let clock = Arc::new(MockClock::new());
        let rng = Arc::new(SeededRng::new(1));
        let written = server::init::init(folder.path(), &"it.example".parse().unwrap(), &*rng);
        let config = written.unwrap().config;
        std::fs::write(config, setup.config()).unwrap();
        let policies = folder.path().join("policies");
        for file in std::fs::read_dir(&policies).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        std::fs::write(policies.join("it.cedar"), &setup.policies).unwrap();
        let mut plane = Self {
            wire: Wire::new(Arc::clone(&clock), rng, PUBLIC_URL),
            folder,
            setup,
            running: None,
            stopped: true,
            clock,
            faults: Faults::default(),
        };
        plane.boot().await.unwrap();
        if plane.setup.ready {
            plane.tools_known().await;
            plane.activate(&plane.setup.policies).await.unwrap();
        }
        plane
    }

    /// Starts the node on its files.
    pub async fn boot(&mut self) -> Result<(), StartError> {
        assert!(self.running.is_none(), "it is running");
        let patience = SystemClock::new();
        loop {
            match self.boot_once().await {
                // The threads of a node that was killed may not have let go yet.
                Err(StartError::Store(OpenError::Locked { .. }))
                    if patience.elapsed() < PATIENCE =>
                {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                done => return done,
            }
        }
    }

    async fn boot_once(&mut self) -> Result<(), StartError> {
        let config = Config::read(&self.folder.path().join("tipstaff.toml")).unwrap();
        let deps = Deps {
            clock: Arc::clone(&self.clock) as _,
            rng: Arc::clone(&self.wire.rng) as _,
            faults: self.faults.clone(),
            confiner: None,
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("node")
            .enable_all()
            .build()
            .unwrap();
        self.clock.advance_to_end_of_second();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let before = self.control_size();
        let starting = runtime.spawn(Node::start(config, Some(listen), deps));
        if !self.stopped {
            let written = async || starting.is_finished() || self.control_size() > before;
            until("the start is on record", written).await;
            // Now it waits for as long as clocks may differ; nobody needs to wait for that here.
            self.clock
                .advance(Duration::from_secs(CLOCK_LEEWAY_SECONDS + 1));
        }
        match starting.await.unwrap() {
            Ok(node) => {
                self.wire.set_address(node.address);
                self.running = Some(Running { node, runtime });
                self.stopped = false;
                Ok(())
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    fn control_size(&self) -> u64 {
        OfflineLog::open(&self.data(), LogName::Control).map_or(0, |it| it.size())
    }

    /// Changes the configuration; the next start reads it.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Setup)) {
        change(&mut self.setup);
        std::fs::write(
            self.folder.path().join("tipstaff.toml"),
            self.setup.config(),
        )
        .unwrap();
    }

    /// Stops the node.
    pub async fn stop(&mut self) -> Result<(), String> {
        let Running { node, runtime } = self.running.take().expect("it is running");
        let stopped = within("the node to stop", runtime.spawn(node.stop())).await;
        // Its port may be somebody else's from now on.
        self.wire.clear_address();
        runtime.shutdown_background();
        self.stopped = matches!(stopped, Ok(Ok(())));
        stopped.unwrap()
    }

    /// Cuts the node off in the middle of everything, as near to a kill as one process can come.
    pub fn kill(&mut self) {
        let Running { node, runtime } = self.running.take().expect("it is running");
        runtime.shutdown_background();
        drop(node);
    }

    /// Stops the node and starts it again.
    pub async fn restart(&mut self) {
        self.stop().await.unwrap();
        self.boot().await.unwrap();
    }

    /// Stops the node, reads all that it wrote from nothing, and checks it wholly.
    pub async fn end(mut self) -> Verified {
        self.faults.set(store::Fault::None);
        if self.running.is_some() {
            self.stop().await.unwrap();
        }
        self.verify()
    }

    /// Checks all that the node wrote. It must not be running.
    pub fn verify(&self) -> Verified {
        assert!(self.running.is_none(), "it is running");
        crate::ledger::verify(&self.data(), &self.folder.path().join("keys"))
    }

    /// The folder that `init` wrote.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.running.as_ref().expect("it is running").node
    }

    /// The gateway.
    pub fn gateway(&self) -> &Arc<gateway::Plane> {
        &self.node().plane
    }

    /// The URL that clients use.
    pub const fn public_url() -> &'static str {
        PUBLIC_URL
    }

    /// Now, by the node's clock.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// The upstream `files`.
    pub fn files(&self) -> &Upstream {
        self.upstream("files")
    }

    /// An upstream.
    pub fn upstream(&self, name: &str) -> &Upstream {
        &self.setup.upstreams[name].0
    }

    /// The node's side of an upstream.
    pub fn served(&self, name: &str) -> Arc<Served> {
        Arc::clone(
            self.gateway()
                .upstream(&name.parse().unwrap())
                .expect("an upstream"),
        )
    }

    /// Waits until the tools of every upstream are known.
    pub async fn tools_known(&self) {
        for name in self.setup.upstreams.keys() {
            let upstream = name.parse().unwrap();
            until("the tools are known", async || {
                self.gateway().known_tools(&upstream).is_some()
            })
            .await;
        }
    }

    /// Has an upstream's tools read again.
    pub async fn refresh(&self, upstream: &str) -> Result<(), String> {
        self.gateway().refresh_tools(&self.served(upstream)).await
    }

    /// Accepts, as an administrator, whatever is held of an upstream's tools.
    pub async fn accept(&self, upstream: &str) {
        let tools = self.admin("GET", "/v1/tools", None).await.json();
        for tool in tools.as_array().unwrap() {
            let is_held = ["new", "changed", "refused"]
                .iter()
                .any(|it| tool["state"] == *it);
            if tool["upstream"] != upstream || !is_held {
                continue;
            }
            let name = tool["tool"].as_str().unwrap();
            let said = json!({"definition": tool["definition"], "judgement": "accepted"});
            let path = format!("/v1/tools/{upstream}/{name}");
            let answer = self.admin("POST", &path, Some(said)).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
    }

    /// Puts policies in force.
    pub async fn activate(&self, policies: &str) -> Result<(), String> {
        let trial = self.trial(policies)?;
        self.activate_tried(trial).await
    }

    /// Policies on trial.
    pub fn trial(&self, policies: &str) -> Result<gateway::Trial, String> {
        let file = PolicyFile {
            name: "it.cedar".to_owned(),
            text: policies.to_owned(),
        };
        let set = PolicySet::parse(vec![file]).map_err(|all| format!("{all:?}"))?;
        Ok(self.gateway().trial(set))
    }

    /// Puts what was on trial in force.
    pub async fn activate_tried(&self, trial: gateway::Trial) -> Result<(), String> {
        let actor = Actor {
            kind: ActorKind::Person,
            id: "tester".to_owned(),
            credential: "none".to_owned(),
            verified: false,
        };
        let tests = TestResults {
            passed: 0,
            failed: 0,
        };
        let author = "tester".parse().unwrap();
        let activated = self.gateway().activate(actor, trial, author, tests).await;
        activated.map(drop).map_err(|error| error.to_string())
    }

    /// A request over the administration socket, as root or the node's own user makes it.
    pub async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let cookie = std::fs::read_to_string(server::admin::cookie_path(&self.data())).unwrap();
        self.admin_with(method, path, body, Some(cookie.trim()))
            .await
    }

    /// A request over the administration socket that shows this for the cookie.
    pub async fn admin_with(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        cookie: Option<&str>,
    ) -> Answer {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json");
        if let Some(cookie) = cookie {
            request = request.header(server::admin::COOKIE, cookie);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        wire::over_socket(&server::admin::socket_path(&self.data()), request).await
    }

    /// A named administrator, with the key of their credential.
    pub async fn named_admin(&self, name: &str) -> Signer {
        let signer = Signer::generate(name, &*self.wire.rng).unwrap();
        let new = json!({"key": signer.verifier().to_string()});
        let answer = self.admin("POST", "/v1/admins", Some(new)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        signer
    }

    /// A request over the administration socket that a named administrator signed.
    pub async fn signed(
        &self,
        by: &Signer,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let vkey = std::fs::read_to_string(self.data().join("control.vkey")).unwrap();
        let vkey: ledger::note::Verifier = vkey.trim_end().parse().unwrap();
        let request = credential::Request {
            audience: vkey.name(),
            method,
            target: path,
            body: body.as_bytes(),
        };
        // Later than the start, which takes no signature from before it.
        self.clock.advance(Duration::from_millis(1));
        let signed = credential::sign(&request, by, self.clock.now(), &*self.wire.rng).unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header(credential::HEADER, signed)
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        wire::over_socket(&server::admin::socket_path(&self.data()), request).await
    }

    /// A command of an administrator that must succeed.
    pub async fn command(&self, path: &str) -> Value {
        let answer = self.admin("POST", path, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// A bearer token for `files` that a client got by itself.
    pub fn bearer(&self, text: &str) -> Token {
        Token::bearer_of(&self.wire, "files", text)
    }

    /// A proof of possession for the token endpoint.
    pub fn endpoint_proof(&self, key: &DpopKey) -> String {
        let url: tokens::PublicUrl = PUBLIC_URL.parse().unwrap();
        let now = self.clock.now();
        key.proof("POST", &url.token_endpoint(), None, now, &*self.wire.rng)
            .unwrap()
    }

    /// Registers an agent, and its sponsor if need be. `more` goes over what is asked by default:
    /// sponsor `maya`, purpose `triage`, bearer tokens allowed.
    pub async fn register(&self, id: &str, more: Value) -> Agent {
        let private = PrivateKey::generate(&*self.wire.rng).unwrap();
        let mut body = json!({
            "id": id, "sponsor": "maya", "purposes": ["triage"], "allow_bearer": true,
            "key": {"jwk": private.public().to_jwk()},
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let sponsor = body["sponsor"].as_str().unwrap().to_owned();
        let known = self
            .gateway()
            .control()
            .view(|state| state.sponsor_by_id(&sponsor.parse().unwrap()).is_some());
        if !known {
            let person = json!({"id": sponsor, "name": "Some Person",
                                "email": format!("{sponsor}@it.example")});
            let answer = self.admin("POST", "/v1/sponsors", Some(person)).await;
            assert!(answer.status.is_success(), "{}", answer.text());
        }
        let answer = self.admin("POST", "/v1/agents", Some(body.clone())).await;
        assert!(answer.status.is_success(), "{}", answer.text());
        let key = AgentKey {
            agent: id.parse().unwrap(),
            issuer: PUBLIC_URL.parse().unwrap(),
            key: private,
            expires_at: self.now().plus(Duration::from_hours(24)),
        };
        Agent::new(&self.wire, key, body["purposes"][0].as_str().unwrap())
    }

    /// Registers an agent as most tests need it.
    pub async fn agent(&self, id: &str) -> Agent {
        self.register(id, Value::Null).await
    }

    /// A request without credentials.
    pub fn ask(&self, method: &str, path: &str) -> Ask {
        Ask::new(&self.wire, method, path)
    }

    /// Writes bytes to the node's listener, and reads the head of what comes back.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        within(
            "an answer to raw bytes",
            wire::raw(self.node().address, bytes),
        )
        .await
    }

    /// What the node wrote so far.
    pub fn ledger(&self) -> Ledger {
        Ledger::read(&self.data())
    }

    /// The calls that the node wrote so far, as it reads them itself. Quicker than [`Plane::ledger`].
    pub fn calls(&self) -> Ledger {
        let calls = crate::ledger::lines(self.gateway().calls().reader());
        Ledger {
            control: Vec::new(),
            calls,
        }
    }

    /// What the node wrote so far, refused requests included.
    pub async fn ledger_with_refusals(&self) -> Ledger {
        self.gateway().sweep().await;
        self.ledger()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Some(Running { runtime, .. }) = self.running.take() {
            runtime.shutdown_background();
        }
    }
}
