//! The nouns of a state, member by member. One that got another member does not compile until it
//! is named here; then its shape is another, and what was written before is not read.

use std::sync::Arc;

use ledger::Mention;

use super::form::{Form, Input, Malformed, enums, shape_of, structs};
use crate::approval::{Approval, ApprovalLife, ApprovalOver, Grant, MayApprove, Way};
use crate::break_glass::{BreakGlass, GlassLife, GlassOver, Hand, Held};
use crate::entry::{
    AssertedAgents, Binding, CallLimits, DelegationLimits, NodeStarted, Owners, People, Risk,
    SealedAuthority, SignIn, Signal, TestResults, Via,
};
use crate::jwk::PublicJwk;
use crate::lifecycle::{
    Acceptance, AgentLife, EndReason, InstanceLife, KeyLife, SigningLife, SponsorLife, Switch,
};
use crate::log_keys::SigningKey;
use crate::nouns::{
    Accepted, ActivePolicy, Admin, Agent, AgentKey, Beside, Cut, CutOf, DirectoryToken, Group,
    HandedOn, Instance, Known, Latest, NodeState, Origin, PastSponsor, Pep, Pins, SignedOut,
    Sponsor, Tools, Upstream,
};
use crate::signing::TokenKey;
use crate::state::names::{Past, Was};

structs! {
    Admin { id key added_at record };
    Pep { name token serves trusted added_at record };
    Beside { record commit };
    Past { record key was };
    Was { until beside } but { name: Known::Sealed };
    // Who they are is not written: it is opened again where it lies sealed.
    Sponsor {
        handle key beside life holds provisioned risk sessions_revoked signed_out heard deputies
        added_at record changed changed_at
    } but { identity: Known::Sealed };
    Group { handle key beside members added_at record changed changed_at } but { profile: Known::Sealed };
    Agent {
        id sponsor acceptance asked_in accepted past_sponsors owners reviewed_at life purposes allow
        max_instances allow_bearer max_lifetime idle limits delegation people key past_keys
        software model environment added_at record
    };
    AgentKey { kid jwk not_before expires_at life };
    Accepted { terms sign_in record };
    PastSponsor { sponsor until record };
    Owners { business technical policy };
    CallLimits { calls_per_minute calls_per_instance };
    DelegationLimits { max_depth max_children };
    // The same of what was handed on to an instance.
    HandedOn { sealed } but { authority: Known::Sealed };
    SealedAuthority { key commit };
    Instance {
        id agent sponsor parent depth purpose binding upstream origin authority max_calls
        refresh_serial life started_at expires_at idle record
    } but { last_used: Arc::default() };
    Tools { blob count listed_at record };
    Pins { blob accepted held record };
    Upstream { name config table switch observe_until tools pins record };
    Cut { of kind record at signal certificate };
    Signal { source event received_at happened_at id };
    Latest { at rank record };
    SignedOut { record at };
    ActivePolicy { set author tests since record };
    TestResults { passed failed };
    TokenKey { kid jwk since life };
    SigningKey { log key record life };
    DirectoryToken { id digest since };
    NodeState { started stopped_at degraded calls };
    BreakGlass { id agent sets_aside lasts requested opened key beside life }
        but { reason: Known::Sealed };
    Hand { admin key at record };
    Approval {
        id instance above agent upstream method tool call policy_set policy held needs lasts asked_at
        asked granted refused used key beside life
    } but { request: Known::Sealed };
    Way { people of };
    Grant { by sign_in at record };
    NodeStarted { version shared_user development asserted calls };
    Mention { log size root };
}

enums! {
    SponsorLife { 0 Active { since }, 1 Suspended { since }, 2 Erased { since }, }
    AgentLife { 0 Active { since }, 1 Suspended { since }, 2 Retired { since }, }
    Acceptance { 0 Asserted { since }, 1 Accepted { since }, 2 Lapsed { since }, }
    KeyLife { 0 Current { since }, 1 Replaced { since }, }
    InstanceLife { 0 Running, 1 Ended { since reason }, }
    EndReason { 0 Revoked, 1 Closed, 2 Reused, 3 Idle, 4 Lifetime, }
    Switch { 0 On, 1 Off { since }, }
    SigningLife {
        0 Announced { since }, 1 Current { since }, 2 Past { since }, 3 Retired { since },
        4 Compromised { since },
    }
    PublicJwk { 0 Ed25519 { x }, 1 P256 { x y }, }
    Risk { 0 Low, 1 Medium, 2 High, }
    SignIn { 0 Oidc, 1 LocalLogin, }
    People { 0 Sponsor, 1 Everyone, 2 Group { group }, }
    Binding { 0 Dpop { jkt }, 1 Bearer, }
    Origin { 0 AgentKey(kid), 1 Via(via), }
    Via {
        0 Workload { issuer subject }, 1 Person { client sign_in },
        2 IdentityAssertion { issuer key }, 3 Exchange, 4 Once,
    }
    CutOf { 0 Sponsor(handle), 1 Sessions(handle), 2 Agent(agent), 3 Upstream(upstream), 4 All, }
    AssertedAgents { 0 Run, 1 Refuse, }
    Held { 0 SponsorSuspended, 1 AgentNotAccepted, 2 AcceptanceLapsed, }
    GlassLife {
        0 Requested { since until }, 1 Open { since until }, 2 Over { since cause },
    }
    MayApprove { 0 Sponsor, 1 Person { sponsor }, 2 Group { group }, }
    ApprovalLife {
        0 Pending { since until }, 1 Granted { since until }, 2 Refused { since until },
        3 Used { since }, 4 Over { since cause },
    }
    ApprovalOver { 0 Expired, 1 Cut, 2 Changed, }
    GlassOver { 0 Ended, 1 Expired, 2 Cut, 3 AdminRemoved, 4 Replaced, }
}
