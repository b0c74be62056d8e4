//! Entries: JSON bytes, written once by a log's one writer and never encoded again.
//!
//! ```json
//! {"v":1,"kind":"decision","trust_domain":"acme.example","node":"n-…","epoch":3,
//!  "time":"2026-11-21T09:51:02.000123Z","key":"tipstaff.local/calls/…+1f2e3d4c",
//!  "actor":{"type":"instance","id":"i-…","credential":"…","verified":true},
//!  "trace":"","retention":"","body":{…}}
//! ```
//!
//! (One line; broken here to be read.) The body's shape belongs to whoever writes that kind.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use vocab::id::{LogName, TrustDomain};
use vocab::limits::{ENTRY_BYTES_MAX, SEALED_BYTES_MAX};
use vocab::time::Time;

/// The version of the entry format that this program writes and reads.
pub const VERSION: u64 = 1;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident $text:literal $log:ident,)*) => {
        /// What an entry says happened. Old kinds are read for ever; an unknown one is fatal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $variant,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The text form, as in an entry.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// The log that this kind belongs to; in the other it is an error.
            pub const fn log(self) -> LogName {
                match self {
                    $(Self::$variant => LogName::$log,)*
                }
            }
        }

        impl FromStr for Kind {
            type Err = EntryError;

            fn from_str(text: &str) -> Result<Self, EntryError> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(EntryError::Kind { found: text.to_owned() }),
                }
            }
        }
    };
}

kinds! {
    /// A node began to serve; a new epoch.
    NodeStarted "node-started" Control,
    /// A node stopped on request.
    NodeStopped "node-stopped" Control,
    /// A node serves less than it should, or stopped because it had to.
    NodeDegraded "node-degraded" Control,
    /// A named administrator got a credential.
    AdminAdded "admin-added" Control,
    /// A named administrator's credential was taken away.
    AdminRemoved "admin-removed" Control,
    /// A service or gateway may ask for decisions.
    PepAdded "pep-added" Control,
    /// A service or gateway may not ask any more.
    PepRemoved "pep-removed" Control,
    /// A sponsor became known.
    SponsorAdded "sponsor-added" Control,
    /// A sponsor, and everything they sponsor, was stopped.
    SponsorSuspended "sponsor-suspended" Control,
    /// A suspension of a sponsor was lifted.
    SponsorResumed "sponsor-resumed" Control,
    /// Something is known otherwise about a sponsor.
    SponsorChanged "sponsor-changed" Control,
    /// How risky a sponsor's account is held to be.
    SponsorRisk "sponsor-risk" Control,
    /// What ran for a sponsor is over; they may start anew.
    SessionsRevoked "sessions-revoked" Control,
    /// It was said who is offered a sponsor's agents when they do not act.
    SponsorDeputies "sponsor-deputies" Control,
    /// A group of the directory became known.
    GroupAdded "group-added" Control,
    /// A group got another name.
    GroupChanged "group-changed" Control,
    /// Members of a group came or went.
    GroupMembers "group-members" Control,
    /// A group is no more.
    GroupRemoved "group-removed" Control,
    /// An agent was registered.
    AgentAdded "agent-added" Control,
    /// An agent was stopped.
    AgentSuspended "agent-suspended" Control,
    /// A suspension of an agent was lifted.
    AgentResumed "agent-resumed" Control,
    /// An agent was ended for good.
    AgentRetired "agent-retired" Control,
    /// An agent's key was replaced.
    AgentKeyRotated "agent-key-rotated" Control,
    /// A sponsor accepted to answer for an agent.
    AgentAccepted "agent-accepted" Control,
    /// A sponsor's acceptance is to be given again.
    AgentLapsed "agent-lapsed" Control,
    /// An agent got another sponsor.
    AgentTransferred "agent-transferred" Control,
    /// It was said who owns an agent beside its sponsor.
    AgentOwned "agent-owned" Control,
    /// Somebody looked whether an agent is needed yet.
    AgentReviewed "agent-reviewed" Control,
    /// An instance began.
    InstanceStarted "instance-started" Control,
    /// An instance ended.
    InstanceEnded "instance-ended" Control,
    /// An instance's refresh token was used, and the next one given.
    TokenRefreshed "token-refreshed" Control,
    /// An upstream's configuration took effect.
    UpstreamConfigured "upstream-configured" Control,
    /// An upstream was stopped: nobody may call it.
    UpstreamStopped "upstream-stopped" Control,
    /// An upstream may be called again.
    UpstreamResumed "upstream-resumed" Control,
    /// Everything was stopped: nobody may act.
    AllStopped "all-stopped" Control,
    /// Whoever may act otherwise may act again.
    AllResumed "all-resumed" Control,
    /// A cut was carried out: what it covered, and how each call ended that was in flight.
    CutOff "cut-off" Control,
    /// An upstream's tool list was read and kept.
    ToolsListed "tools-listed" Control,
    /// Which definitions of an upstream's tools are accepted, and which are held, was said anew.
    ToolsPinned "tools-pinned" Control,
    /// Somebody accepted or refused a definition that was held.
    ToolJudged "tool-judged" Control,
    /// A policy set took effect.
    PolicyActivated "policy-activated" Control,
    /// A key that signs tokens was added.
    TokenKeyAdded "token-key-added" Control,
    /// A directory got a credential.
    DirectoryTokenAdded "directory-token-added" Control,
    /// A directory's credential was taken away.
    DirectoryTokenRemoved "directory-token-removed" Control,
    /// A key that was announced began to sign tokens.
    TokenKeyActivated "token-key-activated" Control,
    /// A key that signed tokens is needed no more.
    TokenKeyRetired "token-key-retired" Control,
    /// A key that signed tokens is believed no more.
    TokenKeyRevoked "token-key-revoked" Control,
    /// Another key is to sign a log.
    LogKeyAnnounced "log-key-announced" Control,
    /// A key that was announced began to sign a log.
    LogKeyActivated "log-key-activated" Control,
    /// A key signs a log no more.
    LogKeyRetired "log-key-retired" Control,
    /// The key that wraps the erasable keys was replaced.
    WrappingKeyChanged "wrapping-key-changed" Control,
    /// What the local vault holds was changed.
    VaultChanged "vault-changed" Control,
    /// A key was destroyed, and with it what it sealed.
    Erased "erased" Control,
    /// Somebody asked that an agent may run although nobody who may answers for it.
    BreakGlassRequested "break-glass-requested" Control,
    /// A second person opened it.
    BreakGlassOpened "break-glass-opened" Control,
    /// A break-glass is over.
    BreakGlassEnded "break-glass-ended" Control,
    /// A call is held, and people were asked to approve it.
    ApprovalRequested "approval-requested" Control,
    /// Somebody approved a call.
    ApprovalGranted "approval-granted" Control,
    /// Somebody who may approve a call refused it.
    ApprovalRefused "approval-refused" Control,
    /// An approval was used up by its call.
    ApprovalUsed "approval-used" Control,
    /// An approval is over and was not used.
    ApprovalEnded "approval-over" Control,
    /// A call was permitted or denied.
    Decision "decision" Calls,
    /// What came of a permitted call.
    Outcome "outcome" Calls,
    /// A listing or negotiation was answered.
    Listing "listing" Calls,
    /// A request was refused before there was anything to decide.
    Refused "refused" Calls,
    /// A cut: nothing permitted under what it narrows can follow it.
    Barrier "barrier" Calls,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What sort of actor did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActorKind {
    /// A human: an administrator or a sponsor.
    Person,
    /// A running agent.
    Instance,
    /// The node itself.
    Node,
    /// A system outside with a credential of its own: the directory, an enforcement point.
    Service,
    /// A peer who has not shown who it is.
    Stranger,
}

/// Who did it, by which credential, and whether that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// What sort of actor.
    #[serde(rename = "type")]
    pub kind: ActorKind,
    /// Its id; empty for a stranger who named none.
    pub id: String,
    /// The credential's id or sort (`peer-uid`, a token's `jti`), never the credential.
    pub credential: String,
    /// True if the credential was verified, false if the id was only asserted.
    pub verified: bool,
}

impl Actor {
    /// The node acting of itself.
    pub fn node(node: &str) -> Self {
        Self {
            kind: ActorKind::Node,
            id: node.to_owned(),
            credential: "self".to_owned(),
            verified: true,
        }
    }
}

/// Run by the writer at the moment of sequencing, with the time that the entry gets. False: the entry
/// is not written and its append fails with
/// [`AppendError::Narrowed`](crate::AppendError::Narrowed).
pub type Guard = Box<dyn FnOnce(Time) -> bool + Send>;

/// An entry before its writer gave it a place and a time.
pub struct Draft {
    /// What happened.
    pub kind: Kind,
    /// Who did it.
    pub actor: Actor,
    /// The W3C trace id of the request, if it had one.
    pub trace: Option<String>,
    /// The body: a JSON object in the shape of its kind.
    pub body: Box<RawValue>,
    /// Sealed bytes that ride in the same commit, outside the entry.
    pub sealed: Option<Vec<u8>>,
    /// What must still hold when the entry is sequenced.
    pub guard: Option<Guard>,
}

impl Draft {
    /// A draft with no trace, nothing sealed and no guard.
    pub fn new<T: Serialize>(kind: Kind, actor: Actor, body: &T) -> Result<Self, EntryError> {
        let body = serde_json::value::to_raw_value(body)
            .map_err(|error| EntryError::Syntax(error.to_string()))?;
        Ok(Self {
            kind,
            actor,
            trace: None,
            body,
            sealed: None,
            guard: None,
        })
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("kind", &self.kind)
            .field("actor", &self.actor)
            .field("trace", &self.trace)
            .field("body", &self.body.get())
            .field("sealed", &self.sealed.as_ref().map(Vec::len))
            .field("guard", &self.guard.is_some())
            .finish()
    }
}

/// What a log's writer adds to every entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The realm of all names in the entry.
    pub trust_domain: TrustDomain,
    /// The node that writes.
    pub node: String,
    /// Which start of the node, from one.
    pub epoch: u64,
    /// The id of the key that signs the log's checkpoints: `<origin>+<8 hex digits>`.
    pub key: String,
}

/// Why bytes are not an entry, or a draft cannot become one.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum EntryError {
    /// Not the JSON of an entry: syntax, a missing, doubled or unknown member, a wrong type.
    #[error("not an entry: {0}")]
    Syntax(String),
    /// A version that this program does not know.
    #[error("entry version {found} is not known")]
    Version {
        /// The version.
        found: u64,
    },
    /// A kind that this program does not know.
    #[error("entry kind `{found}` is not known")]
    Kind {
        /// The kind.
        found: String,
    },
    /// A member whose text is not of its form.
    #[error("the entry's `{member}` is not of its form")]
    Member {
        /// The member.
        member: &'static str,
    },
    /// The body is not an object.
    #[error("the entry's body is not a JSON object")]
    Body,
    /// Longer than a tile can carry.
    #[error("the {what} is {length} bytes long; at most {max} are allowed")]
    TooLarge {
        /// `entry` or `sealed part`.
        what: &'static str,
        /// Its length.
        length: usize,
        /// The most allowed.
        max: usize,
    },
}

#[derive(Serialize)]
struct Written<'a> {
    v: u64,
    kind: Kind,
    trust_domain: &'a TrustDomain,
    node: &'a str,
    epoch: u64,
    time: Time,
    key: &'a str,
    actor: &'a Actor,
    trace: &'a str,
    retention: &'a str,
    body: &'a RawValue,
}

/// Room for what is around the body of most entries.
const FRAME_BYTES: usize = 640;

/// Writes the bytes of an entry. They are what is hashed, kept and proved; nothing encodes them
/// again.
pub fn write_entry(header: &Header, time: Time, draft: &Draft) -> Result<Vec<u8>, EntryError> {
    if !draft.body.get().starts_with('{') {
        return Err(EntryError::Body);
    }
    let sealed = draft.sealed.as_ref().map_or(0, Vec::len);
    if sealed > SEALED_BYTES_MAX {
        return Err(EntryError::TooLarge {
            what: "sealed part",
            length: sealed,
            max: SEALED_BYTES_MAX,
        });
    }
    let written = Written {
        v: VERSION,
        kind: draft.kind,
        trust_domain: &header.trust_domain,
        node: &header.node,
        epoch: header.epoch,
        time,
        key: &header.key,
        actor: &draft.actor,
        trace: draft.trace.as_deref().unwrap_or_default(),
        retention: "",
        body: &draft.body,
    };
    let mut bytes = Vec::with_capacity(draft.body.get().len() + FRAME_BYTES);
    serde_json::to_writer(&mut bytes, &written)
        .map_err(|error| EntryError::Syntax(error.to_string()))?;
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(EntryError::TooLarge {
            what: "entry",
            length: bytes.len(),
            max: ENTRY_BYTES_MAX,
        });
    }
    Ok(bytes)
}

/// An entry, read from its bytes and borrowing from them.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// What happened.
    pub kind: Kind,
    /// The realm of all names in it.
    pub trust_domain: TrustDomain,
    /// The node that wrote it.
    pub node: Cow<'a, str>,
    /// Which start of that node.
    pub epoch: u64,
    /// When it was sequenced; never goes back within a log.
    pub time: Time,
    /// The id of the log's key, `<origin>+<8 hex digits>`.
    pub key: Cow<'a, str>,
    /// Who did it.
    pub actor: Actor,
    /// The trace id; empty if there was none.
    pub trace: Cow<'a, str>,
    /// The retention class; empty where unknown.
    pub retention: Cow<'a, str>,
    /// The body, as it stands.
    pub body: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    v: u64,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    trust_domain: TrustDomain,
    #[serde(borrow)]
    node: Cow<'a, str>,
    epoch: u64,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    actor: Actor,
    #[serde(borrow)]
    trace: Cow<'a, str>,
    #[serde(borrow)]
    retention: Cow<'a, str>,
    #[serde(borrow)]
    body: &'a RawValue,
}

impl<'a> Entry<'a> {
    /// Reads an entry strictly: every member there, once, and no other; version and kind known;
    /// no byte before or after the object.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EntryError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLarge {
                what: "entry",
                length: bytes.len(),
                max: ENTRY_BYTES_MAX,
            });
        }
        if bytes.first() != Some(&b'{') || bytes.last() != Some(&b'}') {
            return Err(EntryError::Syntax("not one JSON object".to_owned()));
        }
        let wire: Wire<'a> =
            serde_json::from_slice(bytes).map_err(|error| EntryError::Syntax(error.to_string()))?;
        if wire.v != VERSION {
            return Err(EntryError::Version { found: wire.v });
        }
        if !wire.body.get().starts_with('{') {
            return Err(EntryError::Body);
        }
        // `Time` reads shorter forms too; an entry has one.
        let time = match wire.time.len() {
            27 => wire.time.parse().ok(),
            _ => None,
        };
        Ok(Self {
            kind: wire.kind.parse()?,
            trust_domain: wire.trust_domain,
            node: wire.node,
            epoch: wire.epoch,
            time: time.ok_or(EntryError::Member { member: "time" })?,
            key: wire.key,
            actor: wire.actor,
            trace: wire.trace,
            retention: wire.retention,
            body: wire.body,
        })
    }
}

#[cfg(test)]
mod tests;
