//! The register as a whole, over a log in memory.

mod approvals;
mod break_glass;
mod cuts;
mod delegation;
mod entries;
mod forgetting;
mod handed_on;
mod histories;
mod log_keys;
mod memory;
mod names;
mod offers;
mod refusals;
mod restarts;
mod signing;
mod snapshots;
mod tables;
mod views;
mod walks;
mod workloads;

use std::sync::Arc;
use std::time::Duration;

use ledger::{Actor, ActorKind, Blobs as _};
use serde_json::json;
use vocab::id::{InstanceId, SponsorId};
use vocab::time::{Clock as _, Time};

use crate::command::{
    Command, CommandError, Delegation, Done, NewAgent, NewKey, NewOwners, Settings,
};
use crate::control::Control;
use crate::entry::{Binding, CallLimits, SignIn, Signal, Via};
use crate::jwk::{PublicJwk, Thumbprint};
use crate::lifecycle::EndReason;
use crate::standing::Why;
use crate::text::{AdminKey, GroupProfile, Label, Person};
use memory::{MemoryBlobs, MemoryKeyring, MemoryLog, Seeded, Still};

const START: &str = "2026-11-21T09:00:00.000000Z";

/// A register over a log in memory.
struct Node {
    control: Arc<Control>,
    log: Arc<MemoryLog>,
    blobs: Arc<MemoryBlobs>,
    keyring: Arc<MemoryKeyring>,
    clock: Arc<Still>,
    rng: Arc<Seeded>,
}

impl Node {
    fn empty() -> Self {
        let clock = Still::at(START.parse().unwrap());
        let log = MemoryLog::new(Arc::clone(&clock));
        let (blobs, keyring, rng) = (Arc::default(), Arc::default(), Arc::default());
        let control = open(&log, &blobs, &keyring, &clock, &rng).unwrap();
        Self {
            control,
            log,
            blobs,
            keyring,
            clock,
            rng,
        }
    }

    /// With a sponsor `maja`, an upstream `files` and an agent `triage` for purpose `triage`.
    async fn ready() -> Self {
        let node = Self::empty();
        node.ok(add_sponsor("maja")).await;
        node.ok(configure("files")).await;
        node.ok(add_agent("triage", "maja")).await;
        node
    }

    /// The same files, opened again.
    fn restarted(self) -> Result<Self, crate::FoldError> {
        let control = open(
            &self.log,
            &self.blobs,
            &self.keyring,
            &self.clock,
            &self.rng,
        )?;
        Ok(Self { control, ..self })
    }

    async fn execute(&self, command: Command) -> Result<Done, CommandError> {
        self.control.execute(admin(), command).await
    }

    async fn ok(&self, command: Command) -> Done {
        self.execute(command).await.unwrap()
    }

    /// Starts or continues an instance.
    async fn start(&self, agent: &str, key: u8) -> InstanceId {
        match self.ok(start(agent, key)).await {
            Done::Started { instance, .. } | Done::Continued { instance } => instance.id.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    /// `None`: it may act.
    fn narrowed(&self, id: &InstanceId) -> Option<Why> {
        self.control.standing(id, self.now()).active().err()
    }

    fn keep(&self, bytes: &[u8]) -> vocab::Digest {
        self.blobs.put(bytes).unwrap()
    }
}

fn open(
    log: &Arc<MemoryLog>,
    blobs: &Arc<MemoryBlobs>,
    keyring: &Arc<MemoryKeyring>,
    clock: &Arc<Still>,
    rng: &Arc<Seeded>,
) -> Result<Arc<Control>, crate::FoldError> {
    Control::open(
        Arc::<MemoryLog>::clone(log),
        Arc::<MemoryBlobs>::clone(blobs),
        Arc::<MemoryKeyring>::clone(keyring),
        Arc::<Still>::clone(clock),
        Arc::<Seeded>::clone(rng),
        Settings::default(),
    )
}

fn admin() -> Actor {
    Actor {
        kind: ActorKind::Person,
        id: "uid:1000".to_owned(),
        credential: "peer-uid".to_owned(),
        verified: true,
    }
}

/// The certificate of a cut, as far as the register looks at it.
fn certified(node: &Node, cut: u64) -> Command {
    Command::CertifyCut(crate::CutOff {
        cut,
        barrier: 0,
        certificate: node.keep(b"certificate"),
        instances: 0,
        tokens: 0,
        in_flight: 0,
        unknown: 0,
        open: 0,
    })
}

/// The key of the control log.
fn log_key() -> ledger::note::Signer {
    ledger::note::Signer::from_seed("tipstaff.local/control/x", &[9; 32]).unwrap()
}

/// The key of a credential of `ops`.
fn admin_key(seed: u8) -> AdminKey {
    key_of("ops", seed)
}

/// The key of a credential of a named administrator's.
fn key_of(admin: &str, seed: u8) -> AdminKey {
    let signer = ledger::note::Signer::from_seed(admin, &[seed; 32]).unwrap();
    signer.verifier().clone().try_into().unwrap()
}

/// Somebody with that credential.
fn by_key(key: &AdminKey) -> Actor {
    Actor {
        id: key.admin().to_string(),
        credential: key.credential(),
        ..admin()
    }
}

fn jwk() -> PublicJwk {
    PublicJwk::parse(&json!({
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }))
    .unwrap()
}

fn jkt(key: u8) -> Thumbprint {
    let mut text = "A".repeat(41);
    text.push(char::from(b'A' + key));
    text.push('A');
    text.parse().unwrap()
}

fn new_key(kid: &str) -> NewKey {
    NewKey {
        kid: kid.parse().unwrap(),
        jwk: jwk(),
        not_before: None,
        expires_at: None,
    }
}

fn new_agent(id: &str, sponsor: &str) -> NewAgent {
    NewAgent {
        id: id.parse().unwrap(),
        sponsor: sponsor.parse().unwrap(),
        purposes: vec!["triage".parse().unwrap()],
        allow: None,
        max_instances: None,
        allow_bearer: false,
        max_lifetime: None,
        idle: None,
        limits: CallLimits::default(),
        max_depth: None,
        max_children: None,
        people: None,
        owners: NewOwners::default(),
        key: Some(new_key("k1")),
        software: Label::default(),
        model: Label::default(),
        environment: Label::default(),
    }
}

fn signal(event: &str) -> Signal {
    Signal {
        source: "scim".parse().unwrap(),
        event: event.parse().unwrap(),
        received_at: START.parse().unwrap(),
        happened_at: None,
        id: None,
    }
}

fn group_profile(name: &str) -> GroupProfile {
    GroupProfile {
        display_name: name.parse().unwrap(),
        external_id: None,
    }
}

/// A sponsor as a directory has them.
fn person(id: &str, department: u8) -> Person {
    let mut person = Person::new(
        id.parse().unwrap(),
        "Maja Ó Briain".parse().unwrap(),
        format!("{id}@example.com").parse().unwrap(),
    );
    person.external_id = Some(format!("ext-{id}").parse().unwrap());
    person.department = Some(format!("department {department}").parse().unwrap());
    person
}

fn handle_of(node: &Node, sponsor: &str) -> Option<vocab::Handle> {
    node.control.view(|state| {
        let sponsor = state.sponsor_by_id(&sponsor.parse().unwrap());
        sponsor.map(|sponsor| sponsor.handle.clone())
    })
}

fn files() -> vocab::UpstreamName {
    "files".parse().unwrap()
}

fn transfer(agent: &str, to: &str) -> Command {
    Command::TransferAgent {
        agent: agent.parse().unwrap(),
        to: to.parse().unwrap(),
    }
}

fn add_agent(id: &str, sponsor: &str) -> Command {
    Command::AddAgent(Box::new(new_agent(id, sponsor)))
}

fn add_pep(pep: &str, token: u8, serves: &[&str]) -> Command {
    Command::AddPep {
        pep: pep.parse().unwrap(),
        token: vocab::Digest::of(&[token]),
        serves: serves.iter().map(|name| name.parse().unwrap()).collect(),
        trusted: false,
    }
}

fn add_sponsor(id: &str) -> Command {
    Command::AddSponsor {
        id: id.parse().unwrap(),
        name: "Maja Ó Briain".parse().unwrap(),
        email: format!("{id}@example.com").parse().unwrap(),
    }
}

/// By which entry an agent's sponsor was last asked to answer for it.
fn asked_in(node: &Node, agent: &str) -> u64 {
    let asked = |state: &crate::State| state.agent(&agent.parse().unwrap()).unwrap().asked_in;
    node.control.view(asked)
}

fn suspend_sponsor(id: &str) -> Command {
    Command::SuspendSponsor {
        id: id.parse().unwrap(),
        signal: None,
    }
}

fn resume_sponsor(id: &str) -> Command {
    Command::ResumeSponsor {
        id: id.parse().unwrap(),
        signal: None,
        despite: true,
    }
}

fn suspend_agent(id: &str) -> Command {
    Command::SuspendAgent {
        id: id.parse().unwrap(),
        signal: None,
    }
}

fn resume_agent(id: &str) -> Command {
    Command::ResumeAgent {
        id: id.parse().unwrap(),
    }
}

fn retire_agent(id: &str) -> Command {
    Command::RetireAgent {
        id: id.parse().unwrap(),
    }
}

fn rotate(id: &str, kid: &str) -> Command {
    Command::RotateAgentKey {
        id: id.parse().unwrap(),
        key: new_key(kid),
    }
}

fn configure(name: &str) -> Command {
    Command::ConfigureUpstream {
        name: name.parse().unwrap(),
        config: vocab::Digest::of(name.as_bytes()),
        table: vocab::Digest::of(b"a table"),
        observe_until: None,
    }
}

fn start(agent: &str, key: u8) -> Command {
    start_with(agent, "k1", "triage", Binding::Dpop { jkt: jkt(key) })
}

fn start_with(agent: &str, kid: &str, purpose: &str, binding: Binding) -> Command {
    Command::StartInstance {
        agent: agent.parse().unwrap(),
        kid: kid.parse().unwrap(),
        purpose: purpose.parse().unwrap(),
        binding,
        upstream: "files".parse().unwrap(),
        continues: None,
    }
}

/// A workload of an issuer asks, as this agent.
fn by_workload(agent: &str, issuer: &str, subject: u8, purpose: &str, binding: Binding) -> Command {
    Command::StartFor {
        agent: agent.parse().unwrap(),
        person: None,
        via: Via::Workload {
            issuer: issuer.parse().unwrap(),
            subject: vocab::Digest::of(&[subject]),
        },
        purpose: purpose.parse().unwrap(),
        binding,
        upstream: "files".parse().unwrap(),
        signed_in: None,
    }
}

fn end(id: &InstanceId, reason: EndReason) -> Command {
    Command::EndInstance {
        id: id.clone(),
        reason,
    }
}

const fn minutes(count: u64) -> Duration {
    Duration::from_mins(count)
}
