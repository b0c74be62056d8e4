//! The bodies of the control log's entries, one struct a kind, as they are written for ever.
//!
//! Golden vectors in `tests/entries.jsonl` pin each shape. No name, address or free text is in any
//! of them: a sponsor is a random handle, and who that is lies sealed beside `sponsor-added`.

use ledger::{Actor, Draft, Entry, EntryError, Kind, Mention};
use serde::{Deserialize, Serialize};
use vocab::digest::Digest;
use vocab::id::{AdminId, AgentId, Handle, InstanceId, PurposePath, UpstreamName};
use vocab::time::Time;

use crate::allow::Allow;
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
    SponsorAdded SponsorSuspended SponsorResumed
    AgentAdded AgentSuspended AgentResumed AgentRetired AgentKeyRotated
    InstanceStarted InstanceEnded
    UpstreamConfigured ToolsListed PolicyActivated TokenKeyAdded Erased
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
    /// The log of calls as it was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub calls: Option<Mention>,
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

/// How it is known that a person sponsors what the entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sponsorship {
    /// An administrator typed it; nobody verified it.
    Asserted,
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
}

/// A sponsor, and everything they sponsor, was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SponsorSuspended {
    /// The sponsor.
    pub sponsor: Handle,
}

/// A suspension of a sponsor was lifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SponsorResumed {
    /// The sponsor.
    pub sponsor: Handle,
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
    /// The key that starts its instances.
    pub key: Key,
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

/// An instance began.
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
    /// The agent's key that started it.
    pub key: KeyId,
    /// How long it lives at most, in seconds from this entry's time.
    pub max_lifetime_s: u64,
    /// How long it may be idle, in seconds.
    pub idle_s: u64,
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

/// An upstream's configuration took effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfigured {
    /// The upstream.
    pub upstream: UpstreamName,
    /// The digest of its configuration.
    pub config: Digest,
    /// Until when what policy denies passes and is recorded as such; null: it does not pass.
    pub observe_until: Option<Time>,
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
