//! An issuer, and everything that it needs, on small storage.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use ledger::note::Signer;
use ledger::{Actor, Header};
use register::{CallLimits, Command, Control, Done, NewAgent, NewKey, NewOwners, Settings};
use store::{DataDir, Faults, FileBlobs, FileKeyring, FilesLog, LogOptions, WrappingKey};
use tempfile::TempDir;
use vocab::rng::RngError;
use vocab::{Clock, Digest, LogName, Rng, Secret, Time};

use crate::{
    AgentKey, Caller, Challenge, DpopKey, Fetch, FetchError, Fetching, Issuer, IssuerConfig,
    NamedBy, PrivateKey, PublicKey, PublicUrl, Resource, TokenError, TokenRequest, TokenResponse,
    Trust, WebUrl,
};

/// The second in which the node of a [`Bench`] starts.
pub(crate) const BOOT: u64 = 1_795_254_000;
/// The second in which its tests begin.
pub(crate) const NOW: u64 = BOOT + 100;
pub(crate) const URL: &str = "http://127.0.0.1:7420";

#[derive(Debug)]
pub(crate) struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> Time {
        Time::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// Bytes that are the same in every run.
#[derive(Debug, Default)]
pub(crate) struct TestRng(AtomicU64);

impl Rng for TestRng {
    fn fill(&self, out: &mut [u8]) -> Result<(), RngError> {
        for chunk in out.chunks_mut(32) {
            let count = self.0.fetch_add(1, Ordering::SeqCst);
            let digest = Digest::of(&count.to_be_bytes());
            for (to, from) in chunk.iter_mut().zip(digest.as_bytes()) {
                *to = *from;
            }
        }
        Ok(())
    }
}

pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&Secret::new([seed; 32]))
}

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// Nothing lies anywhere.
#[derive(Debug)]
struct NoWeb;

impl NoWeb {
    fn nothing(url: &WebUrl) -> Fetching<'_> {
        Box::pin(async move {
            Err(FetchError::Refused {
                url: url.to_string(),
                why: "there is no web here",
            })
        })
    }
}

impl Fetch for NoWeb {
    fn get<'a>(&'a self, url: &'a WebUrl, _: NamedBy) -> Fetching<'a> {
        Self::nothing(url)
    }

    fn post<'a>(
        &'a self,
        url: &'a WebUrl,
        _: Secret<String>,
        _: Option<Secret<String>>,
    ) -> Fetching<'a> {
        Self::nothing(url)
    }
}

/// A node at [`URL`] with the upstreams `files` and `clock`; the agent `triage` of the sponsor
/// `maya`, with key 1, may act for `triage`, prove keys only, and have two instances.
pub(crate) struct Bench {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) rng: Arc<TestRng>,
    pub(crate) control: Arc<Control>,
    pub(crate) issuer: Issuer,
    pub(crate) faults: Faults,
    pub(crate) agent: AgentKey,
    pub(crate) dpop: DpopKey,
    _folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock(AtomicU64::new(NOW)));
        let rng = Arc::new(TestRng::default());
        let data = DataDir::open(folder.path()).unwrap();
        let faults = Faults::default();
        let signer = Signer::from_seed("acme.example/control", &[7; 32]).unwrap();
        let header = Header {
            trust_domain: "acme.example".parse().unwrap(),
            node: "n-1".to_owned(),
            epoch: 1,
            key: signer.verifier().key_name(),
        };
        let options = LogOptions {
            name: LogName::Control,
            signers: signer.into(),
            header,
            clock: clock.clone(),
            faults: faults.clone(),
            publish_every: None,
        };
        let log = FilesLog::open(&data, options).unwrap();
        let wrapping = WrappingKey::from_bytes([9; 32]);
        let control = Control::open(
            Arc::new(log),
            Arc::new(FileBlobs::open(folder.path())),
            Arc::new(FileKeyring::open(folder.path(), Some(wrapping)).unwrap()),
            clock.clone(),
            rng.clone(),
            Settings::default(),
        )
        .unwrap();
        let issuer = issuer(&control, &clock, &rng, key(200), BOOT);
        let bench = Self {
            clock,
            rng,
            control,
            issuer,
            faults,
            agent: AgentKey {
                agent: "triage".parse().unwrap(),
                issuer: URL.parse().unwrap(),
                key: key(1),
                expires_at: Time::from_secs(NOW + 86_400),
            },
            dpop: DpopKey::new(key(2)),
            _folder: folder,
        };
        bench.set_up();
        bench
    }

    fn set_up(&self) {
        self.execute(Command::AddSponsor {
            id: "maya".parse().unwrap(),
            name: "Maya".parse().unwrap(),
            email: "maya@acme.example".parse().unwrap(),
        });
        for name in ["files", "clock"] {
            self.execute(Command::ConfigureUpstream {
                name: name.parse().unwrap(),
                config: Digest::of(b""),
                table: Digest::of(b""),
                observe_until: None,
            });
        }
        self.add_agent("triage", self.agent.key.public(), false);
    }

    pub(crate) fn add_agent(&self, id: &str, key: &PublicKey, allow_bearer: bool) {
        self.add_agent_for(&["triage"], id, key, allow_bearer);
    }

    pub(crate) fn add_agent_for(
        &self,
        purposes: &[&str],
        id: &str,
        key: &PublicKey,
        allow_bearer: bool,
    ) {
        let purposes = purposes.iter().map(|purpose| purpose.parse().unwrap());
        self.execute(Command::AddAgent(Box::new(NewAgent {
            id: id.parse().unwrap(),
            sponsor: "maya".parse().unwrap(),
            purposes: purposes.collect(),
            allow: None,
            max_instances: Some(2),
            allow_bearer,
            max_lifetime: None,
            idle: None,
            limits: CallLimits::default(),
            max_depth: None,
            max_children: None,
            people: None,
            owners: NewOwners::default(),
            key: Some(new_key(key)),
            software: "".parse().unwrap(),
            model: "".parse().unwrap(),
            environment: "".parse().unwrap(),
        })));
    }

    pub(crate) fn execute(&self, command: Command) -> Done {
        wait(self.control.execute(Actor::node("n-1"), command)).unwrap()
    }

    /// The same node after a restart in this second, with another token key.
    pub(crate) fn restarted(&self, token_key: u8) -> Issuer {
        let boot = self.clock.now().as_secs();
        issuer(&self.control, &self.clock, &self.rng, key(token_key), boot)
    }

    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn go_back(&self, seconds: u64) {
        self.clock.0.fetch_sub(seconds, Ordering::SeqCst);
    }

    pub(crate) fn resource(&self, upstream: &str) -> Resource {
        self.issuer.resource(upstream.parse().unwrap())
    }

    /// A good form for `files` and the purpose `triage/refunds`, by `agent`.
    pub(crate) fn form(&self, agent: &AgentKey) -> String {
        let purpose = "triage/refunds".parse().unwrap();
        let resource = self.resource("files");
        agent
            .token_form(&purpose, &resource, self.clock.now(), &*self.rng)
            .unwrap()
    }

    /// A good proof for the token endpoint.
    pub(crate) fn endpoint_proof(&self) -> String {
        let endpoint = self.issuer.public_url().token_endpoint();
        self.dpop
            .proof("POST", &endpoint, None, self.clock.now(), &*self.rng)
            .unwrap()
    }

    /// A good proof for `POST /mcp/files`.
    pub(crate) fn proof(&self, token: &str) -> String {
        let resource = self.resource("files");
        self.dpop
            .proof(
                "POST",
                resource.uri(),
                Some(token),
                self.clock.now(),
                &*self.rng,
            )
            .unwrap()
    }

    pub(crate) fn ask(&self, form: &str, proof: Option<&str>) -> Result<TokenResponse, TokenError> {
        let mut pairs = vec![("content-type", "application/x-www-form-urlencoded")];
        pairs.extend(proof.map(|proof| ("dpop", proof)));
        let request = TokenRequest::parse(&headers(&pairs), form.as_bytes())?;
        wait(self.issuer.token(&request))
    }

    /// A token for `files`, bound to [`Bench::dpop`].
    pub(crate) fn token(&self) -> TokenResponse {
        self.ask(&self.form(&self.agent), Some(&self.endpoint_proof()))
            .unwrap()
    }

    /// A bearer token for `files`, of the agent `porter`.
    pub(crate) fn bearer(&self) -> TokenResponse {
        let porter = AgentKey {
            agent: "porter".parse().unwrap(),
            issuer: URL.parse().unwrap(),
            key: key(3),
            expires_at: self.agent.expires_at,
        };
        if self
            .control
            .view(|state| state.agent(&porter.agent).is_none())
        {
            self.add_agent("porter", porter.key.public(), true);
        }
        self.ask(&self.form(&porter), None).unwrap()
    }

    /// What a `POST` to `files` with these headers comes to.
    pub(crate) fn call(&self, pairs: &[(&str, &str)]) -> Result<Caller, Challenge> {
        self.issuer
            .verify(&headers(pairs), "POST", &self.resource("files"))
    }
}

pub(crate) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(
            http::HeaderName::try_from(*name).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}

pub(crate) fn new_key(key: &PublicKey) -> NewKey {
    NewKey {
        kid: key.thumbprint().parse().unwrap(),
        jwk: key.to_registered().unwrap(),
        not_before: None,
        expires_at: Some(Time::from_secs(NOW + 86_400)),
    }
}

fn issuer(
    control: &Arc<Control>,
    clock: &Arc<TestClock>,
    rng: &Arc<TestRng>,
    token_key: PrivateKey,
    boot: u64,
) -> Issuer {
    let public_url: PublicUrl = URL.parse().unwrap();
    wait(Issuer::new(IssuerConfig {
        public_url,
        token_key: Arc::new(token_key),
        actor: Actor::node("n-1"),
        clock: clock.clone(),
        rng: rng.clone(),
        control: Arc::clone(control),
        boot: Time::from_secs(boot),
        upstreams: Box::new(|name| ["files", "clock"].contains(&name.as_str())),
        trust: Trust {
            fetch: Arc::new(NoWeb),
            secret: Secret::new([4; 32]),
            workloads: Vec::new(),
            login: None,
            assertions: false,
            people: false,
            loopback_clients: false,
        },
    }))
    .unwrap()
}
