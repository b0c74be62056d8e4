//! What follows of what a directory says about a sponsor.

use std::sync::Arc;

use ledger::Actor;
use register::entry::Signal;
use register::lifecycle::AgentLife;
use register::{Command, CommandError, Control, Risk, Word};
use serde::{Deserialize, Serialize};
use vocab::{AgentId, Handle, SponsorId};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reaction {
    /// What runs for the sponsor ends; more may be started.
    RevokeTokens,
    /// The sponsor and everything they sponsor stops, until who stopped it or an administrator
    /// lifts it.
    Suspend,
    /// Their agents stop until they accept them again, signed in as themselves.
    ReAccept,
    /// Nothing of theirs passes without an approval. This release has no approvals, so nothing
    /// passes until what asked for it is over.
    ForceApproval,
    /// Nothing.
    Ignore,
}

impl Reaction {
    /// The word, as in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RevokeTokens => "revoke-tokens",
            Self::Suspend => "suspend",
            Self::ReAccept => "re-accept",
            Self::ForceApproval => "force-approval",
            Self::Ignore => "ignore",
        }
    }
}

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident $name:ident $reaction:ident,)*) => {
        /// What was said of a sponsor.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Cause {
            $($(#[$doc])* $variant,)*
        }

        /// `[reactions]`: what follows of each. The defaults stop rather than go on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Reactions {
            $($(#[$doc])* pub $name: Reaction,)*
        }

        impl Default for Reactions {
            fn default() -> Self {
                Self { $($name: Reaction::$reaction,)* }
            }
        }

        impl Reactions {
            /// What follows.
            pub const fn of(&self, cause: Cause) -> Reaction {
                match cause {
                    $(Cause::$variant => self.$name,)*
                }
            }

            /// Every key and what it says.
            pub fn all(&self) -> Vec<(&'static str, Reaction)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

causes! {
    /// They left: deactivated or deleted by the directory, disabled or purged by a signal. Always
    /// `suspend`.
    Leaves leaves Suspend,
    /// They have another title or user type.
    RoleChanged role_changed ReAccept,
    /// They are in another department.
    DepartmentChanged department_changed ReAccept,
    /// They have another manager.
    ManagerChanged manager_changed Ignore,
    /// They are not in a group any more. Policies see that with the next call, whatever this says.
    GroupLost group_lost RevokeTokens,
    /// A session of theirs was revoked (CAEP `session-revoked`).
    SessionRevoked session_revoked RevokeTokens,
    /// A credential of theirs was changed, revoked or deleted (CAEP `credential-change`, RISC
    /// `account-credential-change-required`).
    CredentialChanged credential_changed RevokeTokens,
    /// A credential of theirs is known to others (RISC `credential-compromise`).
    CredentialCompromised credential_compromised Suspend,
    /// Their account is held to be at high risk (CAEP `risk-level-change`).
    RiskHigh risk_high ForceApproval,
    /// Their account is held to be at some risk.
    RiskMedium risk_medium RevokeTokens,
    /// They are signed in less surely than before (CAEP `assurance-level-change`).
    AssuranceLowered assurance_lowered RevokeTokens,
    /// A device of theirs does not comply any more (CAEP `device-compliance-change`).
    DeviceNotCompliant device_not_compliant RevokeTokens,
    /// What their tokens say is not so any more (CAEP `token-claims-change`).
    ClaimsChanged claims_changed RevokeTokens,
    /// Their address or number is another, or somebody else's now (RISC `identifier-changed`,
    /// `identifier-recycled`).
    IdentifierChanged identifier_changed RevokeTokens,
}

/// Does what follows of `cause` for a sponsor. When it is done, each cut in it is proven by its
/// barrier.
pub async fn react(
    control: &Arc<Control>,
    reactions: &Reactions,
    actor: &Actor,
    sponsor: &Handle,
    cause: Cause,
    signal: Signal,
) -> Result<(), CommandError> {
    match reactions.of(cause) {
        Reaction::Ignore => Ok(()),
        Reaction::RevokeTokens => {
            let command = Command::RevokeSessions {
                sponsor: sponsor.clone(),
                signal,
            };
            control.execute(actor.clone(), command).await.map(drop)
        }
        Reaction::Suspend | Reaction::ForceApproval => {
            suspend(control, actor, sponsor, signal).await
        }
        Reaction::ReAccept => {
            let agents = agents(control, sponsor);
            let last = agents.len().saturating_sub(1);
            for (nth, agent) in agents.into_iter().enumerate() {
                let mut signal = signal.clone();
                // Once it is on record when it happened, nothing follows of it any more.
                if nth < last {
                    signal.happened_at = None;
                }
                let command = Command::LapseAgent { agent, signal };
                control.execute(actor.clone(), command).await?;
            }
            Ok(())
        }
    }
}

/// The agents of a sponsor that are not over.
fn agents(control: &Control, sponsor: &Handle) -> Vec<AgentId> {
    control.view(|state| {
        let agents = state.agents_of(sponsor);
        let agents = agents.filter(|agent| !matches!(agent.life, AgentLife::Retired { .. }));
        agents.map(|agent| agent.id.clone()).collect()
    })
}

/// Whether anything runs, or could run, for a sponsor.
pub fn answers_for_agents(control: &Control, sponsor: &Handle) -> bool {
    !agents(control, sponsor).is_empty()
}

fn id_of(control: &Control, sponsor: &Handle) -> Option<SponsorId> {
    control.view(|state| state.sponsor(sponsor).and_then(|it| it.id().cloned()))
}

/// Stops a sponsor and everything they sponsor.
pub async fn suspend(
    control: &Arc<Control>,
    actor: &Actor,
    sponsor: &Handle,
    signal: Signal,
) -> Result<(), CommandError> {
    // Who was erased is suspended, and has no name to be suspended by.
    let Some(id) = id_of(control, sponsor) else {
        return Ok(());
    };
    let signal = Some(signal);
    let command = Command::SuspendSponsor { id, signal };
    control.execute(actor.clone(), command).await.map(drop)
}

/// Lifts what an event stopped that was heard from the signal's source, if `lifts` says so; whether
/// there was such a thing. Nobody lifts what another stopped: an administrator's suspension stays
/// when a directory sends `active: true` with every change of a title, and so does a signal's.
pub async fn resume(
    control: &Arc<Control>,
    actor: &Actor,
    sponsor: &Handle,
    signal: Signal,
    lifts: impl Fn(&Signal) -> bool,
) -> Result<bool, CommandError> {
    let over: Vec<Word> = control.view(|state| {
        let holds = state.sponsor(sponsor).map(|it| it.holds.as_slice());
        let holds = holds.unwrap_or_default().iter().flatten();
        let ours = holds.filter(|by| by.source == signal.source && lifts(by));
        ours.map(|by| by.event.clone()).collect()
    });
    for event in &over {
        let command = Command::LiftSuspension {
            sponsor: sponsor.clone(),
            event: event.clone(),
            signal: signal.clone(),
        };
        control.execute(actor.clone(), command).await?;
    }
    Ok(!over.is_empty())
}

/// Says how risky a sponsor's account is, having done what follows: once the risk is on record,
/// nothing follows of the event any more. What `force-approval` stopped goes on when the risk is
/// not high any more, unless `is_newer` says that it was stopped by something later than this.
pub async fn assess(
    control: &Arc<Control>,
    reactions: &Reactions,
    actor: &Actor,
    sponsor: &Handle,
    risk: Risk,
    signal: Signal,
    is_newer: impl Fn(&Signal) -> bool,
) -> Result<(), CommandError> {
    let cause = match risk {
        Risk::High => Some(Cause::RiskHigh),
        Risk::Medium => Some(Cause::RiskMedium),
        Risk::Low => None,
    };
    if let Some(cause) = cause {
        react(control, reactions, actor, sponsor, cause, signal.clone()).await?;
    }
    let over = risk != Risk::High && reactions.risk_high == Reaction::ForceApproval;
    if over {
        let (source, event) = (signal.source.clone(), signal.event.clone());
        let lifts = |by: &Signal| by.source == source && by.event == event && !is_newer(by);
        resume(control, actor, sponsor, signal.clone(), lifts).await?;
    }
    let command = Command::SetRisk {
        sponsor: sponsor.clone(),
        risk,
        signal,
    };
    control.execute(actor.clone(), command).await.map(drop)
}
