//! The bodies of the control log's entries, one struct a kind, as they are written for ever.
//!
//! Golden vectors in `tests/entries.jsonl` pin each shape. No name, address or free text is in any
//! of them: a sponsor is a random handle, and who that is lies sealed beside `sponsor-added`; what
//! an agent hands on to another lies sealed beside `instance-started`.

use std::sync::Arc;

use ledger::{
    Actor, Draft, Entry, EntryError, Kind, LogKeyActivated, LogKeyAnnounced, LogKeyRetired, Mention,
};
use serde::{Deserialize, Serialize};
use vocab::digest::Digest;
use vocab::id::{AdminId, AgentId, Handle, InstanceId, PepName, PurposePath, UpstreamName};
use vocab::time::Time;
use vocab::{Authority, ToolName};

use crate::allow::Allow;
pub use crate::approval::{
    ApprovalEnded, ApprovalGranted, ApprovalRefused, ApprovalRequested, ApprovalUsed,
};
pub use crate::break_glass::{BreakGlassEnded, BreakGlassOpened, BreakGlassRequested};
use crate::jwk::{PublicJwk, Thumbprint};
use crate::lifecycle::EndReason;
use crate::text::{AdminKey, KeyId, Label, Word};

macro_rules! events {
    ($($kind:ident)*) => {
        /// An entry of the control log, read.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Event {
            $(
                #[doc = concat!("The body of the kind of that name; see [`", stringify!($kind), "`].")]
                $kind($kind),
            )*
        }

        impl Event {
            /// Its kind.
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// The draft of its entry.
            pub fn draft(&self, actor: Actor) -> Result<Draft, EntryError> {
                match self {
                    $(Self::$kind(body) => Draft::new(Kind::$kind, actor, body),)*
                }
            }

            /// Reads an entry's body in the shape of its kind, to the letter.
            pub fn read(entry: &Entry<'_>) -> Result<Self, BodyError> {
                let body = entry.body.get();
                let shape = |error: serde_json::Error| BodyError::Shape {
                    kind: entry.kind,
                    cause: error.to_string(),
                };
                match entry.kind {
                    $(Kind::$kind => serde_json::from_str(body).map(Self::$kind).map_err(shape),)*
                    Kind::Decision | Kind::Outcome | Kind::Listing | Kind::Refused
                    | Kind::Barrier => Err(BodyError::Kind { kind: entry.kind }),
                }
            }
        }
    };
}

events! {
    NodeStarted NodeStopped NodeDegraded
    AdminAdded AdminRemoved
    PepAdded PepRemoved
    SponsorAdded SponsorSuspended SponsorResumed
    SponsorChanged SponsorRisk SessionsRevoked SponsorDeputies
    GroupAdded GroupChanged GroupMembers GroupRemoved
    AgentAdded AgentSuspended AgentResumed AgentRetired AgentKeyRotated
    AgentAccepted AgentLapsed AgentTransferred AgentOwned AgentReviewed
    InstanceStarted InstanceEnded TokenRefreshed
    UpstreamConfigured UpstreamStopped UpstreamResumed AllStopped AllResumed CutOff ToolsListed ToolsPinned ToolJudged
    PolicyActivated TokenKeyAdded TokenKeyActivated TokenKeyRetired TokenKeyRevoked
    DirectoryTokenAdded DirectoryTokenRemoved Erased
    BreakGlassRequested BreakGlassOpened BreakGlassEnded
    ApprovalRequested ApprovalGranted ApprovalRefused ApprovalUsed ApprovalEnded
    LogKeyAnnounced LogKeyActivated LogKeyRetired WrappingKeyChanged
    VaultChanged
}

/// Why an entry is not one of the control log.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BodyError {
    /// A kind of the other log.
    #[error("an entry of kind `{kind}` does not belong to the control log")]
    Kind {
        /// The kind.
        kind: Kind,
    },
    /// Not in the shape of its kind.
    #[error("the body of a `{kind}` entry is not of its shape: {cause}")]
    Shape {
        /// The kind.
        kind: Kind,
        /// What is wrong.
        cause: String,
    },
}

/// A node began to serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeStarted {
    /// The program's version.
    pub version: Label,
    /// Whether agents may run as the user whom the node runs as, and so read its files.
    pub shared_user: bool,
    /// Whether edited policy files are activated by themselves.
    pub development: bool,
    /// Whether agents run whose sponsors did not accept them; absent in old entries, where they did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub asserted: Option<AssertedAgents>,
    /// The log of calls as it was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub calls: Option<Mention>,
}

/// What becomes of agents whose sponsors did not accept them, but for whom an administrator said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AssertedAgents {
    /// They run, and are marked.
    #[default]
    Run,
    /// They do not run until their sponsors accept them.
    Refuse,
}

/// A node stopped on request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeStopped {
    /// The log of calls as it was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub calls: Option<Mention>,
}

/// A node serves less than it should, or again as it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeDegraded {
    /// The part: `disk`, `clock`, `anchor`, …
    pub subsystem: Word,
    /// What is wrong with it: `full`, `behind`, …; `none` when it is well again.
    pub cause: Word,
}

/// A named administrator got a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminAdded {
    /// The administrator.
    pub admin: AdminId,
    /// The public key of the credential; its name is the administrator's.
    pub key: AdminKey,
}

/// A named administrator's credential was taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminRemoved {
    /// The administrator.
    pub admin: AdminId,
}

/// A policy enforcement point may ask: a service or gateway that lets through what is permitted
/// here. An answer discloses policy, so not everybody may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PepAdded {
    /// The policy enforcement point.
    pub pep: PepName,
    /// SHA-256 of the token that it shows; the token itself is nowhere.
    pub token: Digest,
    /// The upstreams and services that it may ask about.
    pub serves: Vec<UpstreamName>,
    /// Whether its word is taken for which instance asks. Otherwise it shows the instance's token.
    pub trusted: bool,
}

/// A policy enforcement point may not ask any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PepRemoved {
    /// The policy enforcement point.
    pub pep: PepName,
}

/// How it is known that a person sponsors what the entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sponsorship {
    /// An administrator typed it; nobody verified it.
    Asserted,
    /// The sponsor said so, signed in as themselves.
    Verified,
}

/// A sponsor became known. Sealed beside it: [`Person`](crate::text::Person).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SponsorAdded {
    /// The sponsor's random handle.
    pub sponsor: Handle,
    /// The handle of the key that seals who they are.
    pub key: Handle,
    /// The digest that commits to what is sealed.
    pub commit: Digest,
    /// How it is known.
    pub sponsorship: Sponsorship,
    /// What said so, if it was no administrator.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<Signal>,
}

/// Something is known otherwise about a sponsor. Sealed beside it:
/// [`Person`](crate::text::Person), all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SponsorChanged {
    /// The sponsor.
    pub sponsor: Handle,
    /// The digest that commits to what is sealed.
    pub commit: Digest,
    /// What changed: `department`, `title`, `manager`, …; never what to.
    pub changes: Vec<Word>,
    /// What said so.
    pub signal: Signal,
}

/// How risky an account is held to be (CAEP `risk-level-change`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// As ever.
    Low,
    /// More than that.
    Medium,
    /// Taken over, perhaps.
    High,
}

impl Risk {
    /// Which of two of the same moment counts: the higher.
    pub const fn rank(self) -> u8 {
        match self {
            Self::Low => 0,
            Self::Medium => 1,
            Self::High => 2,
        }
    }

    /// The word, as in records and policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// How risky a sponsor's account is held to be, from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SponsorRisk {
    /// The sponsor.
    pub sponsor: Handle,
    /// How risky.
    pub risk: Risk,
    /// What said so.
    pub signal: Signal,
}

/// It was said who is to be offered a sponsor's agents when nobody answers for these any more.
/// Nothing is theirs by that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SponsorDeputies {
    /// The sponsor.
    pub sponsor: Handle,
    /// Their deputies from now on, the first to be offered first.
    pub deputies: Vec<Handle>,
}

/// What ran for a sponsor until now is over; what is started later is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionsRevoked {
    /// The sponsor.
    pub sponsor: Handle,
    /// What said so.
    pub signal: Signal,
}

/// A group of the directory became known. Sealed beside it:
/// [`GroupProfile`](crate::text::GroupProfile).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupAdded {
    /// The group's random handle.
    pub group: Handle,
    /// The handle of the key that seals its name.
    pub key: Handle,
    /// The digest that commits to what is sealed.
    pub commit: Digest,
    /// What said so.
    pub signal: Signal,
}

/// A group got another name. Sealed beside it: [`GroupProfile`](crate::text::GroupProfile).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupChanged {
    /// The group.
    pub group: Handle,
    /// The digest that commits to what is sealed.
    pub commit: Digest,
    /// What said so.
    pub signal: Signal,
}

/// Members of a group came or went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupMembers {
    /// The group.
    pub group: Handle,
    /// Sponsors who are members from now on and were not.
    pub added: Vec<Handle>,
    /// Sponsors who were and are not any more.
    pub removed: Vec<Handle>,
    /// What said so.
    pub signal: Signal,
}

/// A group is no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRemoved {
    /// The group.
    pub group: Handle,
    /// What said so.
    pub signal: Signal,
}

/// A sponsor, and everything they sponsor, was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SponsorSuspended {
    /// The sponsor.
    pub sponsor: Handle,
    /// What said so, if it was no administrator.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<Signal>,
}

/// A suspension of a sponsor was lifted; whoever else stopped them still does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SponsorResumed {
    /// The sponsor.
    pub sponsor: Handle,
    /// What said so, if it was no administrator.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<Signal>,
    /// The event that stopped them and is over, of the same source; absent: all that did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lifts: Option<Word>,
}

impl SponsorResumed {
    /// Whether it lifts what a signal, or an administrator, did.
    pub(crate) fn lifts(&self, hold: Option<&Signal>) -> bool {
        match (&self.lifts, &self.signal) {
            (None, _) => true,
            (Some(event), by) => hold
                .zip(by.as_ref())
                .is_some_and(|(hold, by)| hold.source == by.source && hold.event == *event),
        }
    }
}

/// An agent's public key, and when it starts instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its id.
    pub kid: KeyId,
    /// The key.
    pub jwk: PublicJwk,
    /// Not before this.
    pub not_before: Option<Time>,
    /// Not from this on.
    pub expires_at: Time,
}

/// How much an agent may call. A limit, never the only defence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallLimits {
    /// Calls in any minute, of all its instances together.
    pub calls_per_minute: Option<u32>,
    /// Permitted calls of one instance in its life.
    pub calls_per_instance: Option<u64>,
}

/// Who may sign in and start instances of an agent, in their own name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum People {
    /// Its sponsor.
    Sponsor,
    /// Every active sponsor.
    Everyone,
    /// The members of a group of the directory.
    Group {
        /// The group.
        group: Handle,
    },
}

/// How far an agent's instances may hand on what they may do. Nothing said: not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelegationLimits {
    /// Hops below an instance of it that somebody started; 0: it may not delegate.
    pub max_depth: u8,
    /// Live instances directly below one of its instances.
    pub max_children: u32,
}

impl DelegationLimits {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
    const fn is_none(&self) -> bool {
        self.max_depth == 0 && self.max_children == 0
    }
}

/// Who owns an agent beside its sponsor: other sponsors, by their handles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owners {
    /// Who answers for what it does for the business.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub business: Option<Handle>,
    /// Who answers for how it runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub technical: Option<Handle>,
    /// Who answers for its policies.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<Handle>,
}

impl Owners {
    const fn is_none(&self) -> bool {
        self.business.is_none() && self.technical.is_none() && self.policy.is_none()
    }

    pub(crate) fn handles(&self) -> impl Iterator<Item = &Handle> {
        [&self.business, &self.technical, &self.policy]
            .into_iter()
            .flatten()
    }
}

/// An agent was registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentAdded {
    /// The agent.
    pub agent: AgentId,
    /// Who answers for it.
    pub sponsor: Handle,
    /// How that is known.
    pub sponsorship: Sponsorship,
    /// What it may act for: each of these, or narrower.
    pub purposes: Vec<PurposePath>,
    /// The most it may ever do; null: the policies alone decide.
    pub allow: Option<Vec<Allow>>,
    /// Live instances at once.
    pub max_instances: u32,
    /// Whether its instances may use tokens without proof of possession.
    pub allow_bearer: bool,
    /// How long an instance lives at most, in seconds.
    pub max_lifetime_s: u64,
    /// How long an instance may be idle, in seconds.
    pub idle_s: u64,
    /// How much it may call.
    pub limits: CallLimits,
    /// The key that starts its instances; absent: only people or workloads start them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<Key>,
    /// Who may sign in to start instances of it; absent: nobody.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub people: Option<People>,
    /// How far its instances may delegate; absent: not at all.
    #[serde(skip_serializing_if = "DelegationLimits::is_none", default)]
    pub delegation: DelegationLimits,
    /// Who owns it beside its sponsor.
    #[serde(skip_serializing_if = "Owners::is_none", default)]
    pub owners: Owners,
    /// Its software and version; empty where unknown.
    pub software: Label,
    /// Its model's digest or name; empty where unknown.
    pub model: Label,
    /// Where it runs; empty where unknown.
    pub environment: Label,
}

/// An agent was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSuspended {
    /// The agent.
    pub agent: AgentId,
    /// What said so, if it was no administrator.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<Signal>,
}

/// A suspension of an agent was lifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentResumed {
    /// The agent.
    pub agent: AgentId,
}

/// An agent was ended for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRetired {
    /// The agent.
    pub agent: AgentId,
}

/// An agent's key was replaced; the one before stopped with this entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentKeyRotated {
    /// The agent.
    pub agent: AgentId,
    /// The new key.
    pub key: Key,
}

/// How a person showed who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignIn {
    /// At the company's identity provider, which the configuration names.
    Oidc,
    /// By the node's own login, which is for development: whoever administers the node could have
    /// signed in as them.
    LocalLogin,
}

impl SignIn {
    /// The word, as in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Oidc => "oidc",
            Self::LocalLogin => "local-login",
        }
    }
}

/// A sponsor accepted, signed in as themselves, to answer for an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentAccepted {
    /// The agent.
    pub agent: AgentId,
    /// The sponsor.
    pub sponsor: Handle,
    /// How that is known: verified.
    pub sponsorship: Sponsorship,
    /// How they showed who they are.
    pub sign_in: SignIn,
    /// Exactly what they were shown, a blob.
    pub terms: Digest,
}

/// An agent does not run until its sponsor accepts it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentLapsed {
    /// The agent.
    pub agent: AgentId,
    /// Why, and who said so.
    pub signal: Signal,
}

/// An agent got another sponsor. What was started under the one before is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentTransferred {
    /// The agent.
    pub agent: AgentId,
    /// Who answered for it.
    pub from: Handle,
    /// Who does now.
    pub to: Handle,
    /// How that is known: asserted, until they accept; verified if they took it over themselves.
    pub sponsorship: Sponsorship,
}

/// It was said who owns an agent beside its sponsor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentOwned {
    /// The agent.
    pub agent: AgentId,
    /// Its owners from now on.
    pub owners: Owners,
}

/// Somebody looked whether an agent is needed yet, and said that it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentReviewed {
    /// The agent.
    pub agent: AgentId,
}

/// Why something was narrowed or changed: what was heard, from where and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// From where: `cli`, `api`, `scim`, `ssf`, `poll`, `login`, `node`.
    pub source: Word,
    /// What: `deactivated`, `session-revoked`, …
    pub event: Word,
    /// When the last byte of it was here.
    pub received_at: Time,
    /// When it happened, as whoever said it has it, where that says what came before what.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub happened_at: Option<Time>,
    /// A digest of what was received, where there is something that another keeps too.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<Digest>,
}

impl Signal {
    /// What it belongs to: of events that belong to the same, a later one makes an earlier one
    /// void, in whatever order they come.
    pub fn class(&self) -> &str {
        match self.event.as_str() {
            "account-disabled" | "account-enabled" | "account-purged" => "account",
            event => event,
        }
    }

    /// Of two of the same moment the one of the higher rank counts: what stops more.
    pub fn rank(&self) -> u8 {
        match self.event.as_str() {
            "account-enabled" => 0,
            "account-purged" => 2,
            _ => 1,
        }
    }
}

/// The event of which risks are heard. What else follows of one is not the last that is put on
/// record of it: the risk is.
pub const RISK_LEVEL_CHANGE: &str = "risk-level-change";

/// How an instance's tokens are bound to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Binding {
    /// To a key that it proves on every request (RFC 9449).
    Dpop {
        /// The thumbprint of that key.
        jkt: Thumbprint,
    },
    /// Not at all: whoever holds the token is taken for the instance.
    Bearer,
}

impl Binding {
    /// Whether the instance proves possession of a key.
    pub const fn proven(&self) -> bool {
        match self {
            Self::Dpop { .. } => true,
            Self::Bearer => false,
        }
    }
}

/// What an agent handed on to another, which lies sealed beside the entry: the values in it are the
/// agent's own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedAuthority {
    /// The handle of the key that seals it.
    pub key: Handle,
    /// The digest that commits to what is sealed.
    pub commit: Digest,
}

/// An instance began. Sealed beside it, where less than everything was handed on to it:
/// `authorization_details` (RFC 9396) of type `mcp_tool`, locations by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceStarted {
    /// The instance.
    pub instance: InstanceId,
    /// The agent that it is an instance of.
    pub agent: AgentId,
    /// Who answers for it.
    pub sponsor: Handle,
    /// The instance that delegated to it; null for one that an agent's key started.
    pub parent: Option<InstanceId>,
    /// Why it acts.
    pub purpose: PurposePath,
    /// How its tokens are bound.
    pub binding: Binding,
    /// The upstream that its first token was for.
    pub upstream: UpstreamName,
    /// The agent's key that started it; absent where `via` says what else did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<KeyId>,
    /// What started it, if it was no key of its agent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub via: Option<Via>,
    /// What was handed on to it, in clear: only old entries have it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub authority: Option<Arc<Authority>>,
    /// What was handed on to it, sealed beside this entry; absent, and no `authority`: all that its
    /// agent, and whoever delegated to it, may do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handed_on: Option<SealedAuthority>,
    /// Calls that it and all below it may make in its life; absent: no such limit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_calls: Option<u64>,
    /// How long it lives at most, in seconds from this entry's time.
    pub max_lifetime_s: u64,
    /// How long it may be idle, in seconds.
    pub idle_s: u64,
}

/// What started an instance, other than a key of its agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Via {
    /// A workload, by the token of an issuer that the configuration trusts.
    Workload {
        /// The issuer's name in the configuration.
        issuer: Word,
        /// A digest of who the issuer says that the workload is.
        subject: Digest,
    },
    /// A person who signed in and consented; the instance's sponsor.
    Person {
        /// A digest of the client's id.
        client: Digest,
        /// How they signed in.
        sign_in: SignIn,
    },
    /// An assertion of the company's identity provider about a person; the instance's sponsor.
    IdentityAssertion {
        /// The issuer's name in the configuration.
        issuer: Word,
        /// The agent's key that authenticated the client.
        key: KeyId,
    },
    /// An instance that delegated a part of what it may do.
    Exchange,
    /// An instance that bound a credential to one call.
    Once,
}

impl Via {
    /// Whether another instance started it.
    pub const fn delegates(&self) -> bool {
        match self {
            Self::Exchange | Self::Once => true,
            Self::Workload { .. } | Self::Person { .. } | Self::IdentityAssertion { .. } => false,
        }
    }
}

/// An instance ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceEnded {
    /// The instance.
    pub instance: InstanceId,
    /// Why.
    pub reason: EndReason,
}

/// An instance's refresh token was used, and the next one given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRefreshed {
    /// The instance.
    pub instance: InstanceId,
    /// The number of the refresh token that was given; the one with the first access token has 0.
    pub serial: u64,
}

/// An upstream's configuration took effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfigured {
    /// The upstream.
    pub upstream: UpstreamName,
    /// The digest of what of its configuration decisions rest on: a blob.
    pub config: Digest,
    /// Until when what policy denies passes and is recorded as such; null: it does not pass.
    pub observe_until: Option<Time>,
    /// The digest of all of its configuration: how it is reached, and by which references to
    /// secrets. Absent in old entries.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub table: Option<Digest>,
}

/// An upstream was stopped: nobody may call it until it is resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamStopped {
    /// The upstream.
    pub upstream: UpstreamName,
    /// What said so.
    pub signal: Signal,
}

/// An upstream may be called again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamResumed {
    /// The upstream.
    pub upstream: UpstreamName,
}

/// Everything was stopped: nobody may act until it is resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllStopped {
    /// What said so.
    pub signal: Signal,
}

/// Whoever may act otherwise may act again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllResumed {}

/// A cut was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutOff {
    /// The index of the control entry that narrowed.
    pub cut: u64,
    /// The index of the barrier in `calls`: no permit that the cut rules out can follow it.
    pub barrier: u64,
    /// The certificate, a blob: all that the cut covered, and how it ended.
    pub certificate: Digest,
    /// Instances that it covers.
    pub instances: u64,
    /// Access tokens of theirs that this node issued and whose time was not over.
    pub tokens: u64,
    /// Calls that were in flight.
    pub in_flight: u64,
    /// Of those, calls of which it is not known what they came to.
    pub unknown: u64,
    /// Of those, calls without an outcome when the certificate was written.
    pub open: u64,
}

/// An upstream's tool list was read and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolsListed {
    /// The upstream.
    pub upstream: UpstreamName,
    /// The list, a blob.
    pub blob: Digest,
    /// How many tools are in it.
    pub count: u32,
}

/// What becomes of a tool that an upstream lists for the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstSight {
    /// Its definition is accepted, unless something was found in it.
    #[default]
    AcceptFirst,
    /// It waits until a person accepts it.
    Review,
}

/// Which definitions of an upstream's tools are accepted, and which are held, was said anew: an
/// accepted one is what agents get and calls are judged by, a held one cannot be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolsPinned {
    /// The upstream.
    pub upstream: UpstreamName,
    /// The pins, a blob: of each tool the text of its definition, or what of it is held and why.
    pub pins: Digest,
    /// Tools that are listed as they were accepted.
    pub accepted: u32,
    /// Tools that are listed and cannot be called: new, changed or refused.
    pub held: u32,
    /// What became of tools that were new.
    pub first_sight: FirstSight,
}

/// Somebody accepted or refused the definition of a tool that was held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolJudged {
    /// The upstream.
    pub upstream: UpstreamName,
    /// The tool.
    pub tool: ToolName,
    /// The digest of the definition that they were shown, in its canonical text.
    pub definition: Digest,
    /// What they said.
    pub judgement: Judgement,
    /// The pins from now on, a blob.
    pub pins: Digest,
    /// Tools that are listed as they were accepted.
    pub accepted: u32,
    /// Tools that are listed and cannot be called.
    pub held: u32,
}

/// What a person says of a tool's definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// It is to be called, by this definition.
    Accepted,
    /// It is not.
    Refused,
}

/// What a policy set's own cases came to when it was activated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestResults {
    /// Cases that came out as they should.
    pub passed: u32,
    /// Cases that did not. A set with any is not activated.
    pub failed: u32,
}

/// A policy set took effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyActivated {
    /// The set, a blob.
    pub set: Digest,
    /// Who proposed it.
    pub author: AdminId,
    /// What its cases came to.
    pub tests: TestResults,
}

/// A key that signs tokens was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKeyAdded {
    /// Its id.
    pub kid: KeyId,
    /// The public key.
    pub jwk: PublicJwk,
    /// Whether it is only to be known for now; otherwise it signs from this entry on.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub announced: bool,
}

/// An announced key begins to sign, and the one before is past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKeyActivated {
    /// Its id.
    pub kid: KeyId,
}

/// Nothing needs a token key any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKeyRetired {
    /// Its id.
    pub kid: KeyId,
}

/// Somebody else may have a token key; what it signed is believed no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKeyRevoked {
    /// Its id.
    pub kid: KeyId,
}

/// A directory got a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryTokenAdded {
    /// What the credential is called; nothing of it can be told from that.
    pub token: Handle,
    /// The digest of the credential, which is random and as long.
    pub digest: Digest,
}

/// A directory's credential was taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryTokenRemoved {
    /// What the credential is called.
    pub token: Handle,
}

/// The key that wraps the erasable keys was replaced, and all of them wrapped anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrappingKeyChanged {
    /// What the new key is known by: a digest that nothing of it can be told from.
    pub key: Digest,
}

/// What the local vault holds was changed. What its secrets are called stands in the vault alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultChanged {
    /// What became of it.
    pub change: VaultChange,
    /// Which secret, as `tipstaff secret list` shows it; null where that is not known.
    pub secret: Option<Handle>,
    /// How often the vault was changed by then. A vault that was changed less often is an old one.
    pub generation: u64,
}

/// What became of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VaultChange {
    /// It was put in, or has another value.
    Set,
    /// It was taken out.
    Removed,
    /// Something was changed while no node ran.
    Found,
    /// It was found to be older than the record says, or gone. Nothing was changed by that.
    SetBack,
    /// What was set back was taken for the one that there is.
    Accepted,
}

/// A key was destroyed, and with it what it sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erased {
    /// The key's handle.
    pub key: Handle,
    /// The sponsor whose name it sealed, if it was such a key.
    pub sponsor: Option<Handle>,
}
