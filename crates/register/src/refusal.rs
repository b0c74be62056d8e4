//! Refusals: what was refused, why, and what to do about it, for whoever asked.
//!
//! A text that may reach an agent's client (all that [`StartInstance`](crate::Command) can give)
//! names the agent and what belongs to it, never its sponsor.

use vocab::authority::NotWithin;
use vocab::digest::Digest;
use vocab::id::{
    AdminId, AgentId, Handle, InstanceId, PepName, PurposePath, SponsorId, UpstreamName,
};
use vocab::time::Time;

use crate::approval::ApprovalRefusal;
use crate::break_glass::GlassOver;
use crate::lifecycle::EndReason;
use crate::standing::Why;
use crate::text::KeyId;

/// Why a command may not be done.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// No such administrator.
    #[error("there is no administrator `{given}`; {}", hint(nearest.as_deref(), "tipstaff admin list"))]
    UnknownAdmin {
        /// The name that was given.
        given: AdminId,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// The name is taken.
    #[error(
        "there is an administrator `{id}` already, with another key; remove it first with \
         `tipstaff admin remove {id}`"
    )]
    AdminExists {
        /// The name that is taken.
        id: AdminId,
    },
    /// The administrator's credential was taken away before the command's turn came.
    #[error("the credential of administrator `{id}` was removed, so the command was not done")]
    AdminGone {
        /// The administrator.
        id: String,
    },
    /// Something about an approval.
    #[error(transparent)]
    Approval(#[from] ApprovalRefusal),
    /// Break-glass is for named administrators.
    #[error(
        "break-glass takes two named administrators, and `{actor}` is none; give the command with \
         `--admin-key FILE` (`tipstaff admin add NAME --key-out FILE` makes one)"
    )]
    GlassNotNamed {
        /// Who asked.
        actor: String,
    },
    /// The configuration has none.
    #[error("there is no break-glass on this node: `[break_glass] max_minutes` is 0")]
    GlassOff,
    /// Longer than any may hold, or not at all.
    #[error("a break-glass may hold from 1 to {max_s} s, not {given_s} s; ask for less")]
    GlassTooLong {
        /// What was asked for, in seconds.
        given_s: u64,
        /// The most, in seconds.
        max_s: u64,
    },
    /// There is nothing that break-glass can set aside.
    #[error("break-glass cannot help agent `{agent}`: {}", for_nothing(*why))]
    GlassForNothing {
        /// The agent.
        agent: AgentId,
        /// What narrows it, if anything.
        why: Option<Why>,
    },
    /// There is a request already.
    #[error(
        "somebody asked for break-glass for agent `{agent}` already; another administrator opens it \
         with `tipstaff break-glass approve {id}`, or take it back with `tipstaff break-glass end {id}`"
    )]
    GlassWaits {
        /// The agent.
        agent: AgentId,
        /// The request.
        id: Handle,
    },
    /// No such break-glass.
    #[error("there is no break-glass `{given}`; `tipstaff break-glass list` shows those there are")]
    UnknownGlass {
        /// What was given.
        given: Handle,
    },
    /// One person is not two.
    #[error(
        "administrator `{admin}`, or the same key, asked for break-glass `{id}`; somebody else has to \
         open it"
    )]
    GlassSamePerson {
        /// The break-glass.
        id: Handle,
        /// Who wanted to open it.
        admin: AdminId,
    },
    /// Whoever asks makes no second for themselves.
    #[error(
        "administrator `{admin}` was added only after break-glass `{id}` was asked for; one who was \
         there before has to open it, or ask anew"
    )]
    GlassNewAdmin {
        /// The break-glass.
        id: Handle,
        /// Who wanted to open it.
        admin: AdminId,
    },
    /// Its time is over, or it was ended.
    #[error("break-glass `{id}` is over ({}); ask anew with `tipstaff break-glass request`", cause.as_str())]
    GlassIsOver {
        /// The break-glass.
        id: Handle,
        /// Why.
        cause: GlassOver,
    },
    /// No such policy enforcement point.
    #[error("there is no policy enforcement point `{given}`; {}", hint(nearest.as_deref(), "tipstaff pep list"))]
    UnknownPep {
        /// The name that was given.
        given: PepName,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// The name is taken.
    #[error(
        "there is a policy enforcement point `{pep}` already, with another token or for other \
         upstreams; remove it first with `tipstaff pep remove {pep}`"
    )]
    PepExists {
        /// The name that is taken.
        pep: PepName,
    },
    /// Nothing that it may ask about, or too much.
    #[error(
        "`{pep}` is to ask about {given} upstreams; name 1 to {max} with `--for NAME`, each that \
         it stands in front of"
    )]
    PepServes {
        /// The policy enforcement point.
        pep: PepName,
        /// How many were named.
        given: usize,
        /// The most allowed.
        max: usize,
    },
    /// The token is another one's.
    #[error("that token is `{holder}`'s already; make another")]
    PepToken {
        /// Whose it is.
        holder: PepName,
    },
    /// No such sponsor.
    #[error("there is no sponsor `{given}`; {}", hint(nearest.as_deref(), "tipstaff sponsor list"))]
    UnknownSponsor {
        /// The id that was given.
        given: SponsorId,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// Whoever stopped them did not lift it.
    #[error(
        "sponsor `{sponsor}` is not only stopped by administrators, but by {by}; have it lifted there, \
         or lift it all the same with `tipstaff sponsor resume {sponsor} --despite-directory`"
    )]
    HeldByOthers {
        /// The sponsor.
        sponsor: SponsorId,
        /// Who, and what for.
        by: String,
    },
    /// No such agent.
    #[error("there is no agent `{given}`; {}", hint(nearest.as_deref(), "tipstaff agent list"))]
    UnknownAgent {
        /// The id that was given.
        given: AgentId,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// No such instance.
    #[error("there is no instance `{given}`; `tipstaff instance list` shows those there are")]
    UnknownInstance {
        /// The id that was given.
        given: InstanceId,
    },
    /// No such upstream.
    #[error(
        "there is no upstream `{given}`; {}",
        hint(nearest.as_deref(), "tipstaff doctor")
    )]
    UnknownUpstream {
        /// The name that was given.
        given: UpstreamName,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// The id is taken.
    #[error(
        "a sponsor `{id}` exists already (upper and lower case are the same); choose another id"
    )]
    SponsorExists {
        /// The id that is taken.
        id: SponsorId,
    },
    /// The id is taken, perhaps by an agent that was retired.
    #[error(
        "an agent `{id}` exists already; an id is never used again, also not a retired agent's, so \
         choose another"
    )]
    AgentExists {
        /// The id.
        id: AgentId,
    },
    /// An agent needs an active sponsor, and this one is suspended.
    #[error(
        "sponsor `{sponsor}` is suspended, and no agent exists or runs without an active sponsor; \
         name another, or resume this one first with `tipstaff sponsor resume {sponsor}`"
    )]
    SponsorNotActive {
        /// The sponsor.
        sponsor: SponsorId,
    },
    /// The agent's sponsor is suspended or erased.
    #[error(
        "agent `{agent}` cannot run: its sponsor is not active; whoever stopped them lifts that (an \
         administrator, the directory), or an administrator gives the agent another sponsor with \
         `tipstaff agent transfer`"
    )]
    AgentWithoutSponsor {
        /// The agent.
        agent: AgentId,
    },
    /// The agent is suspended.
    #[error(
        "agent `{agent}` is suspended since {since}; an administrator can lift that with \
         `tipstaff agent resume {agent}`"
    )]
    AgentSuspended {
        /// The agent.
        agent: AgentId,
        /// Since when.
        since: Time,
    },
    /// The agent's sponsor has not accepted it, or has to again.
    #[error(
        "agent `{agent}` cannot run: its sponsor has to accept it first, signed in as themselves; \
         `tipstaff agent show {agent}` says where"
    )]
    AgentNotAccepted {
        /// The agent.
        agent: AgentId,
    },
    /// Only an agent's sponsor accepts it.
    #[error(
        "agent `{agent}` is accepted by its own sponsor only, signed in as themselves; you are \
         signed in as somebody else"
    )]
    NotTheSponsor {
        /// The agent.
        agent: AgentId,
    },
    /// The agent has that sponsor already.
    #[error("agent `{agent}` has sponsor `{sponsor}` already; nothing was transferred")]
    SameSponsor {
        /// The agent.
        agent: AgentId,
        /// The sponsor.
        sponsor: SponsorId,
    },
    /// Nobody stands in for themselves.
    #[error("`{sponsor}` cannot be their own deputy; name somebody else")]
    OwnDeputy {
        /// The sponsor.
        sponsor: SponsorId,
    },
    /// More deputies than a sponsor may have.
    #[error("`{sponsor}` may have {max} deputies, not {given}; name fewer")]
    TooManyDeputies {
        /// The sponsor.
        sponsor: SponsorId,
        /// How many were named.
        given: usize,
        /// How many there may be.
        max: usize,
    },
    /// Somebody who is not offered the agent wants to take it over.
    #[error(
        "agent `{agent}` is not offered to you: its sponsor acts, or you are neither their deputy \
         nor their manager; an administrator can give it to you with `tipstaff agent transfer`"
    )]
    NotOffered {
        /// The agent.
        agent: AgentId,
    },
    /// An acceptance of what was shown before the agent was transferred, or its acceptance lapsed.
    #[error(
        "agent `{agent}` is not accepted as it was shown to you: it was transferred, or has to be \
         accepted again, since; look at it again"
    )]
    AskedAnew {
        /// The agent.
        agent: AgentId,
    },
    /// Somebody wants to take over an agent whose sponsor an administrator stopped.
    #[error(
        "agent `{agent}` is not yours to take over: an administrator stopped its sponsor; one can \
         give it to you with `tipstaff agent transfer`"
    )]
    StoppedByAdmin {
        /// The agent.
        agent: AgentId,
    },
    /// A person who may not start instances of the agent.
    #[error(
        "agent `{agent}` is not one that you may start; an administrator says who may when \
         registering it (`--people`)"
    )]
    NotForThisPerson {
        /// The agent.
        agent: AgentId,
    },
    /// The directory's id is another sponsor's.
    #[error("another sponsor has that external id; an external id is one person's only")]
    ExternalIdTaken,
    /// No such sponsor, or one who is erased.
    #[error("there is no sponsor with the handle `{given}`, or who they were is erased")]
    UnknownHandle {
        /// The handle.
        given: Handle,
    },
    /// The group's name is taken.
    #[error("there is a group of that name already; policies name groups, so no two share one")]
    GroupExists,
    /// More members than one entry holds.
    #[error("{given} members would come or go at once; at most {max} can, so do it in parts")]
    TooManyMembers {
        /// How many.
        given: u64,
        /// The most.
        max: u64,
    },
    /// No such cut.
    #[error("entry control/{given} is no cut; `tipstaff certificate list` shows those there are")]
    UnknownCut {
        /// The index of the entry.
        given: u64,
    },
    /// Everything was stopped.
    #[error("an administrator stopped everything; nothing starts until `tipstaff kill --undo`")]
    AllStopped,
    /// The upstream was stopped.
    #[error(
        "an administrator stopped upstream `{upstream}`; nothing starts for it until `tipstaff kill \
         --upstream {upstream} --undo`"
    )]
    UpstreamStopped {
        /// The upstream.
        upstream: UpstreamName,
    },
    /// No such group.
    #[error("there is no group `{given}`; `tipstaff group list` shows those the directory has")]
    UnknownGroup {
        /// The group's handle or name.
        given: String,
    },
    /// A person who is suspended or erased.
    #[error("you are not an active sponsor here, so no agent acts for you; ask an administrator")]
    PersonNotActive,
    /// A person who signed in before they were suspended or their sessions revoked.
    #[error("you were suspended, or your sessions were ended, since you signed in; sign in again")]
    SignedOut,
    /// The instance that would delegate may not act itself.
    #[error("instance `{instance}` does not delegate: {why}")]
    ParentNarrowed {
        /// The instance.
        instance: InstanceId,
        /// Why.
        why: Why,
    },
    /// An instance that was to go on, and may not act any more: one below another, or one whose
    /// sponsor's sessions were revoked or whose agent got another sponsor.
    #[error("instance `{instance}` does not go on: {why}; whoever started it can start another")]
    StandsNoMore {
        /// The instance.
        instance: InstanceId,
        /// Why.
        why: Why,
    },
    /// More hops than an agent on the way may have below it.
    #[error(
        "the delegation would be {depth} hops below an instance of agent `{agent}`, which may have \
         at most {max}; that is fixed when an agent is registered, so it takes another agent, with \
         a higher `--max-depth`"
    )]
    TooDeep {
        /// The agent that bounds it.
        agent: AgentId,
        /// Hops below its instance.
        depth: u8,
        /// The most.
        max: u8,
    },
    /// More instances directly below one than its agent may have.
    #[error(
        "instance `{instance}` has {live} live instances below it, and may have at most {max}; wait \
         for one to end; the bound is fixed when an agent is registered, so more takes another agent, \
         with a higher `--max-children`"
    )]
    TooManyChildren {
        /// The instance.
        instance: InstanceId,
        /// Live ones directly below it.
        live: u32,
        /// The most.
        max: u32,
    },
    /// A purpose beside or above that of the instance that delegates.
    #[error(
        "purpose `{purpose}` is neither `{parent}`, for which the instance that delegates acts, nor \
         narrower (`{parent}/…`)"
    )]
    PurposeWider {
        /// The purpose.
        purpose: PurposePath,
        /// That of the one above.
        parent: PurposePath,
    },
    /// More calls than the instance that delegates may make itself.
    #[error("{given} calls are more than the {max} of the instance that delegates")]
    MoreCalls {
        /// What was asked for.
        given: u64,
        /// What the one above may make.
        max: u64,
    },
    /// More than the instance that delegates may do, or what cannot be shown to be less.
    #[error(transparent)]
    Beyond(#[from] NotWithin),
    /// No part of what is handed on is about the upstream that a token is asked for.
    #[error("nothing of upstream `{upstream}` is handed on, so no token for it would be of use")]
    NothingHandedOn {
        /// The upstream.
        upstream: UpstreamName,
    },
    /// A credential for one call that is not about one call.
    #[error(
        "a credential for one call names one tool of one upstream, without `*`, with the digest of \
         its arguments (`arguments_sha256`), and nothing else"
    )]
    NotOneCall,
    /// A credential for one call that would start others.
    #[error("instance `{instance}` is a credential for one call, and hands on nothing")]
    OnceDelegates {
        /// The instance.
        instance: InstanceId,
    },
    /// A new instance that would prove the key of one above it.
    #[error(
        "an instance below another proves a key of its own, so that the two can be told apart; this \
         is the key of one above it"
    )]
    SharedKey,
    /// A key that a living instance below another proves, where one of its own would be started.
    #[error(
        "this is the DPoP key of instance `{instance}`, which another delegated to; ask with \
         `instance` (`tipstaff token --instance {instance}`) to go on with it and its bounds, or \
         prove another key to start an instance without them"
    )]
    DelegatedKey {
        /// The instance.
        instance: InstanceId,
    },
    /// A refresh token that was used before, or one of an instance that has none.
    #[error(
        "the refresh token of instance `{instance}` was used before; the instance is ended, since \
         somebody has a copy: sign in again"
    )]
    RefreshReused {
        /// The instance.
        instance: InstanceId,
    },
    /// The agent is retired.
    #[error("agent `{agent}` is retired since {since}, which is final; register another agent")]
    AgentRetired {
        /// The agent.
        agent: AgentId,
        /// Since when.
        since: Time,
    },
    /// No purpose was given.
    #[error("agent `{agent}` has no purpose; give at least one with `--purpose ID`")]
    NoPurpose {
        /// The agent.
        agent: AgentId,
    },
    /// Too many of something.
    #[error("agent `{agent}` would have {given} {what}; at most {max} are allowed")]
    TooMany {
        /// The agent.
        agent: AgentId,
        /// What there is too much of.
        what: &'static str,
        /// How many.
        given: u64,
        /// The most allowed.
        max: u64,
    },
    /// A number out of its range.
    #[error("agent `{agent}`: {what} is {given}; it must be from {min} to {max}")]
    OutOfRange {
        /// The agent.
        agent: AgentId,
        /// What.
        what: &'static str,
        /// The number.
        given: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// A key whose time is over before it begins.
    #[error(
        "key `{kid}` would expire at {expires_at}, which is not after {begins_at}, when it begins"
    )]
    KeyNeverValid {
        /// The key.
        kid: KeyId,
        /// When it begins, or now.
        begins_at: Time,
        /// When it would expire.
        expires_at: Time,
    },
    /// A key that lives too long.
    #[error("key `{kid}` would expire at {expires_at}; at most {max_days} days are allowed")]
    KeyTooLong {
        /// The key.
        kid: KeyId,
        /// When it would expire.
        expires_at: Time,
        /// The most days allowed.
        max_days: u64,
    },
    /// A key id that the agent has, or had.
    #[error(
        "agent `{agent}` has or had a key `{kid}`; an id is never used again, so give the new key \
         another"
    )]
    KeyReused {
        /// The agent.
        agent: AgentId,
        /// The key.
        kid: KeyId,
    },
    /// A key that is not the agent's, or not any more.
    #[error(
        "key `{kid}` is not the key of agent `{agent}` (any more); use the one that \
         `tipstaff agent rotate-key` wrote last"
    )]
    KeyNotCurrent {
        /// The agent.
        agent: AgentId,
        /// The key.
        kid: KeyId,
    },
    /// A key whose time has not come.
    #[error(
        "key `{kid}` of agent `{agent}` is not valid before {not_before}; wait, or check the clock"
    )]
    KeyNotYet {
        /// The agent.
        agent: AgentId,
        /// The key.
        kid: KeyId,
        /// When it begins.
        not_before: Time,
    },
    /// A key whose time is over.
    #[error(
        "key `{kid}` of agent `{agent}` expired at {expired_at}; replace it with \
         `tipstaff agent rotate-key {agent}`"
    )]
    KeyExpired {
        /// The agent.
        agent: AgentId,
        /// The key.
        kid: KeyId,
        /// When.
        expired_at: Time,
    },
    /// A purpose that the agent is not registered for.
    #[error(
        "agent `{agent}` is not registered for purpose `{purpose}`; it may act for {}, or \
         narrower (`PURPOSE/…`)",
        list(registered)
    )]
    PurposeNotRegistered {
        /// The agent.
        agent: AgentId,
        /// The purpose.
        purpose: PurposePath,
        /// Those that it is registered for.
        registered: Vec<PurposePath>,
    },
    /// Bearer tokens for an agent that may not have them.
    #[error(
        "agent `{agent}` may not use bearer tokens; prove possession of a key (DPoP), or register \
         the agent with `--allow-bearer`"
    )]
    BearerNotAllowed {
        /// The agent.
        agent: AgentId,
    },
    /// As many live instances as may be.
    #[error(
        "agent `{agent}` may have at most {max} live instances, and has {live}; wait for one to \
         end or expire, or end one with `tipstaff instance revoke ID`"
    )]
    InstancesReached {
        /// The agent.
        agent: AgentId,
        /// Live ones.
        live: u32,
        /// The most.
        max: u32,
    },
    /// An instance that was to go on, and was ended.
    #[error(
        "instance `{instance}` was {} at {since}, and does not go on; if the agent may act, start \
         another",
        match reason {
            EndReason::Revoked => "revoked by an administrator",
            EndReason::Reused => "ended because a credential of it was used a second time",
            _ => "ended by its own client",
        }
    )]
    InstanceEnded {
        /// The instance.
        instance: InstanceId,
        /// Since when.
        since: Time,
        /// Why.
        reason: EndReason,
    },
    /// An instance that was to go on, and is another than the request's key and purpose continue.
    #[error(
        "instance `{instance}` does not go on with this request: prove the key that it began with, \
         for the purpose that it began with"
    )]
    OtherInstance {
        /// The instance.
        instance: InstanceId,
    },
    /// As many credentials as the directory may have.
    #[error(
        "the directory has {live} tokens already; take one away first with \
         `tipstaff scim token --revoke ID`"
    )]
    DirectoryTokens {
        /// Those that it has.
        live: u64,
    },
    /// No such credential of the directory's.
    #[error("the directory has no token `{given}`; `tipstaff scim list` shows those that it has")]
    UnknownDirectoryToken {
        /// What it would be called.
        given: Handle,
    },
    /// A blob that is not kept.
    #[error("blob {digest} is not kept; put it into the blob store before an entry names it")]
    BlobMissing {
        /// The blob.
        digest: Digest,
    },
    /// A policy set whose own cases failed.
    #[error(
        "the policy set was not activated: of its cases {failed} failed and {passed} passed; \
         `tipstaff policy test` shows them"
    )]
    TestsFailed {
        /// Cases that passed.
        passed: u32,
        /// Cases that failed.
        failed: u32,
    },
    /// A token key's id that another key has.
    #[error(
        "there is a token key `{kid}` already, and it is another key; give the new one another id"
    )]
    TokenKeyTaken {
        /// The id.
        kid: KeyId,
    },
    /// No such token key.
    #[error("there is no token key `{kid}`; `tipstaff keys list` shows those there are")]
    UnknownTokenKey {
        /// The id.
        kid: KeyId,
    },
    /// A token key that this cannot happen to.
    #[error(
        "cannot {event} the token key `{kid}`, which is {state}; `tipstaff keys list` shows all of \
         them"
    )]
    TokenKeyState {
        /// The id.
        kid: KeyId,
        /// What became of it.
        state: &'static str,
        /// What was asked for.
        event: &'static str,
    },
    /// The key that signs is to be taken away, and no other could sign.
    #[error("no other token key is announced that could sign in its place; announce one first")]
    NoNextTokenKey,
    /// No such key of a log.
    #[error("the log has no key `{key}`; `tipstaff keys list` shows those there are")]
    UnknownLogKey {
        /// The key's name and id.
        key: String,
    },
    /// A key of a log that this cannot happen to.
    #[error(
        "cannot {event} the log key `{key}`, which is {state}; `tipstaff keys list` shows all of \
         them"
    )]
    LogKeyState {
        /// The key's name and id.
        key: String,
        /// What became of it.
        state: &'static str,
        /// What was asked for.
        event: &'static str,
    },
    /// A key that whoever follows the log's keys would not come to.
    #[error(
        "the log key `{key}` cannot sign yet: a checkpoint by the key before it has to cover its \
         announcement, and {why}"
    )]
    LogKeyUnproven {
        /// The key's name and id.
        key: String,
        /// What is wrong with the checkpoint.
        why: String,
    },
    /// A sponsor whose agents may act.
    #[error(
        "sponsor {handle} is active, and what their agents do must be answered for by a named \
         person; suspend them first with `tipstaff sponsor suspend`"
    )]
    EraseActiveSponsor {
        /// The sponsor.
        handle: Handle,
    },
    /// Nothing is sealed under that handle.
    #[error("nothing that can be erased has the handle `{handle}`")]
    NothingSealed {
        /// The handle.
        handle: Handle,
    },
}

fn for_nothing(why: Option<Why>) -> String {
    match why {
        None => "its sponsor stands behind it, so it may run".to_owned(),
        Some(Why::AgentSuspended) => {
            "it is suspended itself, which is not what break-glass opens; an \
                                      administrator can lift that, once somebody sponsors it"
                .to_owned()
        }
        Some(why) => format!("{why}, which is not what break-glass opens"),
    }
}

fn hint(nearest: Option<&str>, command: &str) -> String {
    match nearest {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("`{command}` shows those there are"),
    }
}

fn list(purposes: &[PurposePath]) -> String {
    let names: Vec<String> = purposes
        .iter()
        .map(|purpose| format!("`{purpose}`"))
        .collect();
    names.join(", ")
}
