//! What can be asked of the register, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use ledger::{AppendError, BlobError, EntryError, KeyringError, Mention};
use vocab::digest::Digest;
use vocab::id::{
    AdminId, AgentId, Handle, InstanceId, PurposePath, RecordRef, SponsorId, UpstreamName,
};
use vocab::time::Time;

use crate::allow::Allow;
use crate::control::Failure;
use crate::entry::{Binding, CallLimits, TestResults};
use crate::jwk::PublicJwk;
use crate::lifecycle::EndReason;
use crate::refusal::Refusal;
use crate::state::Instance;
use crate::text::{AdminKey, Email, KeyId, Label, PersonName, Word};

/// What an agent gets where its registration says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long an instance lives at most: 8 hours, a working day.
    pub max_lifetime: Duration,
    /// How long an instance may be idle: 30 minutes.
    pub idle: Duration,
    /// Live instances of one agent: 100. More than a person watches over, fewer than a runaway
    /// loop makes in a minute.
    pub max_instances: u32,
    /// How long an agent's key lives: 90 days.
    pub key_lifetime: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_lifetime: Duration::from_hours(8),
            idle: Duration::from_mins(30),
            max_instances: 100,
            key_lifetime: Duration::from_hours(90 * 24),
        }
    }
}

/// A key that an agent is to have.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its id, unlike that of any key the agent had.
    pub kid: KeyId,
    /// The public key.
    pub jwk: PublicJwk,
    /// Not before this.
    pub not_before: Option<Time>,
    /// Not from this on; none: [`Settings::key_lifetime`] from now.
    pub expires_at: Option<Time>,
}

/// An agent that is to be registered. Where an option is none, [`Settings`] says.
#[derive(Clone, Debug)]
pub struct NewAgent {
    /// Its id, unlike that of any agent there ever was.
    pub id: AgentId,
    /// Who answers for it.
    pub sponsor: SponsorId,
    /// What it may act for: each of these, or narrower. At least one.
    pub purposes: Vec<PurposePath>,
    /// The most it may ever do; none: the policies alone decide.
    pub allow: Option<Vec<Allow>>,
    /// Live instances at once.
    pub max_instances: Option<u32>,
    /// Whether its instances may use tokens without proof of possession.
    pub allow_bearer: bool,
    /// How long an instance lives at most.
    pub max_lifetime: Option<Duration>,
    /// How long an instance may be idle.
    pub idle: Option<Duration>,
    /// How much it may call.
    pub limits: CallLimits,
    /// The key that starts its instances.
    pub key: NewKey,
    /// Its software and version; empty where unknown.
    pub software: Label,
    /// Its model's digest or name; empty where unknown.
    pub model: Label,
    /// Where it runs; empty where unknown.
    pub environment: Label,
}

/// Something that is to change.
#[derive(Clone, Debug)]
pub enum Command {
    /// Gives a named administrator a credential.
    AddAdmin {
        /// Its public half, which has their name.
        key: AdminKey,
    },
    /// Takes a named administrator's credential away.
    RemoveAdmin {
        /// The administrator.
        id: AdminId,
    },
    /// Makes a person known who may answer for agents.
    AddSponsor {
        /// What administrators and policies call them.
        id: SponsorId,
        /// Their name.
        name: PersonName,
        /// Their address.
        email: Email,
    },
    /// Stops a sponsor and everything they sponsor.
    SuspendSponsor {
        /// The sponsor.
        id: SponsorId,
    },
    /// Lifts a sponsor's suspension; agents suspended themselves stay so.
    ResumeSponsor {
        /// The sponsor.
        id: SponsorId,
    },
    /// Registers an agent.
    AddAgent(Box<NewAgent>),
    /// Stops an agent and its instances.
    SuspendAgent {
        /// The agent.
        id: AgentId,
    },
    /// Lifts an agent's suspension; instances whose time is not over go on.
    ResumeAgent {
        /// The agent.
        id: AgentId,
    },
    /// Ends an agent for good.
    RetireAgent {
        /// The agent.
        id: AgentId,
    },
    /// Replaces an agent's key. The old one stops at once; running instances go on.
    RotateAgentKey {
        /// The agent.
        id: AgentId,
        /// The new key.
        key: NewKey,
    },
    /// Starts an instance, or continues the one that the same agent, DPoP key and purpose have.
    StartInstance {
        /// The agent.
        agent: AgentId,
        /// The agent's key that signed the request.
        kid: KeyId,
        /// Why it acts.
        purpose: PurposePath,
        /// How its tokens are bound.
        binding: Binding,
        /// The upstream that its first token is for.
        upstream: UpstreamName,
        /// The instance that is to go on: if somebody ended it, no other is started.
        continues: Option<InstanceId>,
    },
    /// Ends an instance.
    EndInstance {
        /// The instance.
        id: InstanceId,
        /// Why.
        reason: EndReason,
    },
    /// Puts an upstream's configuration into effect.
    ConfigureUpstream {
        /// The upstream.
        name: UpstreamName,
        /// The digest of its configuration.
        config: Digest,
        /// Until when it only observes.
        observe_until: Option<Time>,
    },
    /// Keeps an upstream's tool list.
    RecordTools {
        /// The upstream.
        upstream: UpstreamName,
        /// The list, a blob that is durable already.
        blob: Digest,
        /// How many tools are in it.
        count: u32,
    },
    /// Puts a policy set into force.
    ActivatePolicy {
        /// The set, a blob that is durable already.
        set: Digest,
        /// Who proposed it.
        author: AdminId,
        /// What its cases came to.
        tests: TestResults,
    },
    /// Says that the node began to serve.
    NodeStarted {
        /// The program's version.
        version: Label,
        /// Whether agents may run as the user whom the node runs as.
        shared_user: bool,
        /// Whether edited policy files are activated by themselves.
        development: bool,
        /// The log of calls as its last checkpoint has it.
        calls: Option<Mention>,
    },
    /// Says that the node stops on request.
    NodeStopped {
        /// The log of calls as its last checkpoint has it.
        calls: Option<Mention>,
    },
    /// Says that the node serves less than it should, or, with the cause
    /// [`none`](crate::state::WELL), that a part is well again.
    NodeDegraded {
        /// The part.
        subsystem: Word,
        /// What is wrong with it.
        cause: Word,
    },
    /// Makes a key known that signs tokens.
    AddTokenKey {
        /// Its id.
        kid: KeyId,
        /// The public key.
        jwk: PublicJwk,
    },
    /// Destroys a key and what it sealed: a suspended sponsor's name, or what a key of the
    /// keyring sealed.
    Erase {
        /// The sponsor's handle, or the key's.
        handle: Handle,
    },
}

impl Command {
    /// Whether it is a cut: something may not act any more once it is done. Whoever gave it is
    /// answered only after a barrier in the log of calls, also if it came to
    /// [`Done::Unchanged`], since the answer to the first one may have been lost.
    pub const fn cuts(&self) -> bool {
        match self {
            Self::SuspendSponsor { .. }
            | Self::SuspendAgent { .. }
            | Self::RetireAgent { .. }
            | Self::EndInstance { .. }
            | Self::Erase { .. } => true,
            Self::AddAdmin { .. }
            | Self::RemoveAdmin { .. }
            | Self::AddSponsor { .. }
            | Self::ResumeSponsor { .. }
            | Self::AddAgent(_)
            | Self::ResumeAgent { .. }
            | Self::RotateAgentKey { .. }
            | Self::StartInstance { .. }
            | Self::ConfigureUpstream { .. }
            | Self::RecordTools { .. }
            | Self::ActivatePolicy { .. }
            | Self::NodeStarted { .. }
            | Self::NodeStopped { .. }
            | Self::NodeDegraded { .. }
            | Self::AddTokenKey { .. } => false,
        }
    }
}

/// What a command was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A named administrator.
    Admin(AdminId),
    /// A sponsor.
    Sponsor(Handle),
    /// An agent.
    Agent(AgentId),
    /// An instance.
    Instance(InstanceId),
    /// An upstream.
    Upstream(UpstreamName),
    /// The policy set in force.
    Policy(Digest),
    /// A key that signs tokens.
    TokenKey(KeyId),
    /// A destroyed key.
    Key(Handle),
    /// The node.
    Node,
}

/// What a command came to. Whatever it says is durable, covered by a signed checkpoint, and seen
/// by every reader.
#[derive(Clone, Debug)]
pub enum Done {
    /// Entries were written.
    Changed {
        /// What the command was about.
        subject: Subject,
        /// The entries, in order.
        records: Vec<RecordRef>,
    },
    /// An instance was started.
    Started {
        /// The instance.
        instance: Arc<Instance>,
        /// The entry that says so.
        record: RecordRef,
    },
    /// The same agent proved the same key for the same purpose: its instance goes on, and nothing
    /// was written.
    Continued {
        /// The instance.
        instance: Arc<Instance>,
    },
    /// What was asked for holds already; nothing was written.
    Unchanged {
        /// What the command was about.
        subject: Subject,
    },
}

/// Why a command was not done, or not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It may not be. Nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The ledger did not take it. Nothing changed here. If the storage could not tell whether it
    /// wrote and the entry turns out to be there after a restart, it holds from then on.
    #[error("the change could not be recorded, so it was not made")]
    Ledger(#[source] AppendError),
    /// The entries are durable and what they say holds, here and after a restart, but no signed
    /// checkpoint covers them yet, so it is not acknowledged. The next command tries again, and so
    /// does repeating this one.
    #[error(
        "the change is recorded and holds, but no checkpoint over it could be signed, so it is \
         not acknowledged; ask again"
    )]
    Unpublished {
        /// The entries.
        records: Vec<RecordRef>,
        /// Why.
        #[source]
        cause: AppendError,
    },
    /// The erasure is on record but the key is not destroyed yet. Repeating the command tries
    /// again, and so does the next start of the node.
    #[error("the erasure is recorded, but the key could not be destroyed yet; ask again")]
    EraseUnfinished {
        /// Why.
        #[source]
        cause: KeyringError,
    },
    /// The keyring could not make or read a key. Nothing was written.
    #[error("the keyring did not answer, so the change was not made")]
    Keyring(#[source] KeyringError),
    /// A blob that the entry would name could not be read. Nothing was written.
    #[error("the blob store did not answer, so the change was not made")]
    Blob(#[source] BlobError),
    /// Something could not be made that the entry needs: randomness, a seal. Nothing was written.
    #[error("the change could not be prepared, so it was not made: {cause}")]
    Unprepared {
        /// What went wrong.
        cause: String,
    },
    /// A draft could not be put in words. Nothing was written.
    #[error("the change could not be put in an entry, so it was not made")]
    Draft(#[source] EntryError),
    /// The register does not know its own state; the node must stop and recover.
    #[error("the register does not know its own state; the node must be started again")]
    Failed(#[source] Arc<Failure>),
}
