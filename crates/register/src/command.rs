//! What can be asked of the register, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use ledger::{AppendError, BlobError, EntryError, KeyringError, Kind, Mention, RecordError};
use vocab::Authority;
use vocab::digest::Digest;
use vocab::id::{
    AdminId, AgentId, Handle, InstanceId, PepName, PurposePath, RecordRef, SponsorId, UpstreamName,
};
use vocab::time::Time;

use crate::allow::Allow;
use crate::approval::{ApprovalCommand, ApprovalSettings};
use crate::break_glass::{GlassCommand, GlassSettings};
use crate::control::Failure;
use crate::entry::{
    AssertedAgents, Binding, CallLimits, CutOff, DelegationLimits, People, Risk, SignIn, Signal,
    TestResults, ToolJudged, ToolsPinned, VaultChanged, Via,
};
use crate::jwk::PublicJwk;
use crate::lifecycle::EndReason;
use crate::log_keys::LogKeyCommand;
use crate::refusal::Refusal;
use crate::signing::TokenKeyCommand;
use crate::state::{Instance, SignedIn};
use crate::text::{AdminKey, Email, GroupProfile, KeyId, Label, Person, PersonName, Word};

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
    /// How far an agent's instances may delegate: 4 hops, 32 live ones below each. What they hand
    /// on can only shrink, so this bounds numbers, not what may be done.
    pub delegation: DelegationLimits,
    /// How long a break-glass may hold.
    pub break_glass: GlassSettings,
    /// How long approvals last, and how many may wait.
    pub approvals: ApprovalSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_lifetime: Duration::from_hours(8),
            idle: Duration::from_mins(30),
            max_instances: 100,
            key_lifetime: Duration::from_hours(90 * 24),
            delegation: DelegationLimits {
                max_depth: 4,
                max_children: 32,
            },
            break_glass: GlassSettings::default(),
            approvals: ApprovalSettings::default(),
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
    /// Hops of delegation below one of its instances; 0: none.
    pub max_depth: Option<u8>,
    /// Live instances directly below one of its instances.
    pub max_children: Option<u32>,
    /// Who may sign in to start instances of it.
    pub people: Option<People>,
    /// Who owns it beside its sponsor.
    pub owners: NewOwners,
    /// The key that starts its instances; none if only people, workloads or other instances do.
    pub key: Option<NewKey>,
    /// Its software and version; empty where unknown.
    pub software: Label,
    /// Its model's digest or name; empty where unknown.
    pub model: Label,
    /// Where it runs; empty where unknown.
    pub environment: Label,
}

/// Who is to own an agent beside its sponsor: known sponsors.
#[derive(Clone, Debug, Default)]
pub struct NewOwners {
    /// Who answers for what it does for the business.
    pub business: Option<SponsorId>,
    /// Who answers for how it runs.
    pub technical: Option<SponsorId>,
    /// Who answers for its policies.
    pub policy: Option<SponsorId>,
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
    /// Lets a service or gateway ask for decisions.
    AddPep {
        /// What it is called.
        pep: PepName,
        /// SHA-256 of the token that it will show.
        token: Digest,
        /// What it may ask about. At least one.
        serves: Vec<UpstreamName>,
        /// Whether its word is taken for which instance asks.
        trusted: bool,
    },
    /// Lets a service or gateway ask no more.
    RemovePep {
        /// What it is called.
        pep: PepName,
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
    /// Makes a person known as a directory has them.
    ProvisionSponsor {
        /// Who they are.
        person: Box<Person>,
        /// What said so.
        signal: Signal,
    },
    /// Takes what a directory says of a sponsor now in place of what was known. From then on the
    /// directory speaks for them.
    ChangeSponsor {
        /// The sponsor.
        sponsor: Handle,
        /// Who they are, all of it.
        person: Box<Person>,
        /// What changed, in words that name no value.
        changes: Vec<Word>,
        /// What said so.
        signal: Signal,
    },
    /// Stops a sponsor and everything they sponsor.
    SuspendSponsor {
        /// The sponsor.
        id: SponsorId,
        /// What said so, if it was no administrator.
        signal: Option<Signal>,
    },
    /// Lifts a sponsor's suspension; agents suspended themselves stay so.
    ResumeSponsor {
        /// The sponsor.
        id: SponsorId,
        /// What said so, if it was no administrator.
        signal: Option<Signal>,
        /// Whether to lift also what others than administrators stopped them for.
        despite: bool,
    },
    /// Lifts what one event did that suspended a sponsor. They go on when nothing else stops them.
    LiftSuspension {
        /// The sponsor.
        sponsor: Handle,
        /// The event that is over, of the signal's source.
        event: Word,
        /// What said so.
        signal: Signal,
    },
    /// Ends all that runs for a sponsor; more may be started.
    RevokeSessions {
        /// The sponsor.
        sponsor: Handle,
        /// What said so.
        signal: Signal,
    },
    /// Says how risky a sponsor's account is held to be.
    SetRisk {
        /// The sponsor.
        sponsor: Handle,
        /// How risky.
        risk: Risk,
        /// What said so.
        signal: Signal,
    },
    /// Says who is to be offered a sponsor's agents when nobody answers for these any more.
    NameDeputies {
        /// The sponsor.
        sponsor: SponsorId,
        /// Their deputies from now on, the first to be offered first.
        deputies: Vec<SponsorId>,
    },
    /// Makes a group of the directory known.
    AddGroup {
        /// What it is called.
        profile: GroupProfile,
        /// The sponsors in it.
        members: Vec<Handle>,
        /// What said so.
        signal: Signal,
    },
    /// Gives a group another name.
    ChangeGroup {
        /// The group.
        group: Handle,
        /// What it is called.
        profile: GroupProfile,
        /// What said so.
        signal: Signal,
    },
    /// Adds members to a group and takes others away; whoever is in already, or is not, is passed
    /// over.
    ChangeMembers {
        /// The group.
        group: Handle,
        /// Sponsors who are to be in it.
        added: Vec<Handle>,
        /// Sponsors who are not.
        removed: Vec<Handle>,
        /// What said so.
        signal: Signal,
    },
    /// Takes a group away.
    RemoveGroup {
        /// The group.
        group: Handle,
        /// What said so.
        signal: Signal,
    },
    /// Registers an agent.
    AddAgent(Box<NewAgent>),
    /// Stops an agent and its instances.
    SuspendAgent {
        /// The agent.
        id: AgentId,
        /// What said so, if it was no administrator.
        signal: Option<Signal>,
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
    /// Says that an agent's sponsor accepted it, signed in as themselves.
    AcceptAgent {
        /// The agent.
        agent: AgentId,
        /// The sponsor who accepted: the agent's.
        sponsor: Handle,
        /// How they signed in.
        sign_in: SignIn,
        /// [`Agent::asked_in`](crate::Agent::asked_in) as they were shown it: asked anew since, they
        /// did not answer that.
        asked_in: u64,
        /// Exactly what they were shown, a blob that is durable already.
        terms: Digest,
        /// When they signed in: if they were signed out since, nothing is accepted.
        signed_in: Option<SignedIn>,
    },
    /// Has an agent's sponsor accept it again; until then it does not run.
    LapseAgent {
        /// The agent.
        agent: AgentId,
        /// Why.
        signal: Signal,
    },
    /// Gives an agent another sponsor. What runs under the one before ends.
    TransferAgent {
        /// The agent.
        agent: AgentId,
        /// The new sponsor.
        to: SponsorId,
    },
    /// Says that somebody, signed in as themselves, takes over an agent that they are offered and
    /// accepts it. What runs under the sponsor before ends.
    TakeOver {
        /// The agent.
        agent: AgentId,
        /// Who takes it over.
        person: Handle,
        /// How they signed in.
        sign_in: SignIn,
        /// [`Agent::asked_in`](crate::Agent::asked_in) as they were shown it: asked anew since, they
        /// did not answer that.
        asked_in: u64,
        /// Exactly what they were shown, a blob that is durable already.
        terms: Digest,
        /// When they signed in: if they were signed out since, nothing is taken over.
        signed_in: Option<SignedIn>,
    },
    /// Says who owns an agent beside its sponsor.
    OwnAgent {
        /// The agent.
        agent: AgentId,
        /// Its owners from now on.
        owners: NewOwners,
    },
    /// Says that somebody looked, and that an agent is needed.
    ReviewAgent {
        /// The agent.
        agent: AgentId,
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
    /// Starts an instance for a person who signed in, or for a workload; continues the one that the
    /// same workload has as the same agent, with the same DPoP key and purpose.
    StartFor {
        /// The agent.
        agent: AgentId,
        /// The person; none for a workload, which acts for the agent's sponsor.
        person: Option<Handle>,
        /// How it came about.
        via: Via,
        /// Why it acts.
        purpose: PurposePath,
        /// How its tokens are bound.
        binding: Binding,
        /// The upstream that its first token is for.
        upstream: UpstreamName,
        /// When the person signed in: if they were signed out since, nothing is started.
        signed_in: Option<SignedIn>,
    },
    /// Starts an instance below another.
    Delegate(Box<Delegation>),
    /// Uses an instance's refresh token: the next one takes its place.
    RefreshToken {
        /// The instance.
        instance: InstanceId,
        /// The number of the token that was used.
        serial: u64,
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
        /// The digest of what of its configuration decisions rest on.
        config: Digest,
        /// The digest of all of its configuration.
        table: Digest,
        /// Until when it only observes.
        observe_until: Option<Time>,
    },
    /// Stops an upstream: nobody may call it.
    StopUpstream {
        /// The upstream.
        name: UpstreamName,
        /// What said so.
        signal: Signal,
    },
    /// Lets an upstream be called again.
    ResumeUpstream {
        /// The upstream.
        name: UpstreamName,
    },
    /// Stops everything: nobody may act.
    StopAll {
        /// What said so.
        signal: Signal,
    },
    /// Lets whoever may act otherwise act again.
    ResumeAll,
    /// Says how a cut was carried out.
    CertifyCut(CutOff),
    /// Keeps an upstream's tool list.
    RecordTools {
        /// The upstream.
        upstream: UpstreamName,
        /// The list, a blob that is durable already.
        blob: Digest,
        /// How many tools are in it.
        count: u32,
    },
    /// Says which definitions of an upstream's tools are accepted, by a blob that is durable already.
    PinTools(ToolsPinned),
    /// Accepts or refuses the definition of a tool that is held.
    JudgeTool(ToolJudged),
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
        /// Whether agents run whose sponsors did not accept them.
        asserted: AssertedAgents,
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
    /// Gives the directory a credential. Those that it has stay.
    AddDirectoryToken {
        /// The digest of it.
        digest: Digest,
    },
    /// Takes a credential of the directory's away.
    RemoveDirectoryToken {
        /// What it is called.
        token: Handle,
    },
    /// Asks for break-glass, opens or ends it.
    BreakGlass(GlassCommand),
    /// Asks for an approval, grants, refuses, uses or ends it.
    Approval(ApprovalCommand),
    /// Announces a token key, has it sign, says that it is gone or compromised.
    TokenKey(TokenKeyCommand),
    /// Announces a key of a log, says that it signs, or that it does no more.
    LogKey(Box<LogKeyCommand>),
    /// Says that another key wraps the erasable keys.
    ChangeWrappingKey {
        /// What it is known by.
        key: Digest,
    },
    /// Says that what the local vault holds was changed.
    ChangeVault(VaultChanged),
    /// Destroys a key and what it sealed: a suspended sponsor's name, or what a key of the
    /// keyring sealed.
    Erase {
        /// The sponsor's handle, or the key's.
        handle: Handle,
    },
}

/// A part of what an instance may do, for an instance below it.
#[derive(Clone, Debug)]
pub struct Delegation {
    /// The instance that delegates.
    pub parent: InstanceId,
    /// The agent of the new instance.
    pub agent: AgentId,
    /// The agent's key that authenticated the client; none: the instance that delegates showed that
    /// it is of the same agent.
    pub kid: Option<KeyId>,
    /// Whether it is a credential for one call: then the agent is the same, and so is the holder.
    pub once: bool,
    /// Why it acts: as the one above, or narrower.
    pub purpose: PurposePath,
    /// How its tokens are bound.
    pub binding: Binding,
    /// The upstream that its first token is for.
    pub upstream: UpstreamName,
    /// What is handed on to it; none: all that the one above may do.
    pub authority: Option<Arc<Authority>>,
    /// Calls that it and all below it may make.
    pub max_calls: Option<u64>,
    /// How long it lives at most; none: as long as its agent's registration and the one above allow.
    pub lifetime: Option<Duration>,
}

impl Command {
    /// The kind of the entry that it cuts by, if something may not act any more once it is done.
    /// Whoever gave it is answered only after a barrier in the log of calls, also if it came to
    /// [`Done::Unchanged`], since the answer to the first one may have been lost.
    pub const fn cut(&self) -> Option<&'static str> {
        let kind = match self {
            Self::SuspendSponsor { .. } => Kind::SponsorSuspended,
            Self::RevokeSessions { .. } => Kind::SessionsRevoked,
            Self::SuspendAgent { .. } => Kind::AgentSuspended,
            Self::RetireAgent { .. } => Kind::AgentRetired,
            Self::LapseAgent { .. } => Kind::AgentLapsed,
            Self::TransferAgent { .. } | Self::TakeOver { .. } => Kind::AgentTransferred,
            Self::StopUpstream { .. } => Kind::UpstreamStopped,
            Self::StopAll { .. } => Kind::AllStopped,
            Self::EndInstance { .. } => Kind::InstanceEnded,
            Self::RemovePep { .. } => Kind::PepRemoved,
            Self::Erase { .. } => Kind::Erased,
            // It may end a break-glass that stands on their word.
            Self::RemoveAdmin { .. } => Kind::AdminRemoved,
            Self::BreakGlass(GlassCommand::End { .. }) => Kind::BreakGlassEnded,
            Self::TokenKey(TokenKeyCommand::Revoke { .. }) => Kind::TokenKeyRevoked,
            Self::BreakGlass(GlassCommand::Request { .. } | GlassCommand::Open { .. })
            | Self::Approval(_)
            | Self::AddAdmin { .. }
            | Self::AddPep { .. }
            | Self::AddSponsor { .. }
            | Self::ProvisionSponsor { .. }
            | Self::ChangeSponsor { .. }
            | Self::ResumeSponsor { .. }
            | Self::LiftSuspension { .. }
            | Self::SetRisk { .. }
            | Self::NameDeputies { .. }
            | Self::AddGroup { .. }
            | Self::ChangeGroup { .. }
            | Self::ChangeMembers { .. }
            | Self::RemoveGroup { .. }
            | Self::AddAgent(_)
            | Self::ResumeAgent { .. }
            | Self::RotateAgentKey { .. }
            | Self::AcceptAgent { .. }
            | Self::OwnAgent { .. }
            | Self::ReviewAgent { .. }
            | Self::StartInstance { .. }
            | Self::StartFor { .. }
            | Self::Delegate(_)
            | Self::RefreshToken { .. }
            | Self::ConfigureUpstream { .. }
            | Self::ResumeUpstream { .. }
            | Self::ResumeAll
            | Self::CertifyCut(_)
            | Self::RecordTools { .. }
            | Self::PinTools(_)
            | Self::JudgeTool(_)
            | Self::ActivatePolicy { .. }
            | Self::NodeStarted { .. }
            | Self::NodeStopped { .. }
            | Self::NodeDegraded { .. }
            | Self::AddTokenKey { .. }
            | Self::AddDirectoryToken { .. }
            | Self::RemoveDirectoryToken { .. }
            | Self::LogKey(_)
            | Self::ChangeWrappingKey { .. }
            | Self::ChangeVault(_)
            | Self::TokenKey(_) => return None,
        };
        Some(kind.as_str())
    }
}

/// What a command was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A named administrator.
    Admin(AdminId),
    /// A policy enforcement point.
    Pep(PepName),
    /// A sponsor.
    Sponsor(Handle),
    /// A group of the directory.
    Group(Handle),
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
    /// A key that signs a log, by name and id.
    LogKey(String),
    /// A credential of the directory's.
    DirectoryToken(Handle),
    /// A break-glass.
    BreakGlass(Handle),
    /// An approval.
    Approval(Handle),
    /// A destroyed key.
    Key(Handle),
    /// The node.
    Node,
    /// Everything.
    All,
    /// A cut, by the index of its entry.
    Cut(u64),
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
    /// The same agent, or workload as it, proved the same key for the same purpose: its instance
    /// goes on, and nothing was written.
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
    /// The cut holds from now on, and what it rules out is cut, but no barrier in the log of calls
    /// proves it, so it is not acknowledged. Repeating the command tries again.
    #[error(
        "it holds from now on, but that could not be proven: no barrier could be put into the log \
         of calls; `tipstaff doctor` says what is wrong; then ask again"
    )]
    Unproven(#[source] RecordError),
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
