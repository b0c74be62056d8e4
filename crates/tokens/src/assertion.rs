//! Client authentication with `private_key_jwt` (RFC 7523 §2.2, `OpenID` Connect Core §9).

use register::{Agent, KeyId};
use vocab::AgentId;
use vocab::limits::{ASSERTION_SECONDS_MAX, CLOCK_LEEWAY_SECONDS, JTI_BYTES_MAX};

use crate::foreign::{Foreign, ForeignError, ForeignTyp, KeySet};
use crate::fresh::{Moment, Stale};
use crate::json::{Json, JsonError, Object};
use crate::jwk::PublicKey;
use crate::jws::{JwsError, Typ, Unverified};
use crate::replay::{Claim, ReplayCache};

/// Why an assertion does not authenticate its client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// Not a signed token of the right kind.
    #[error("the client assertion cannot be used: {0}")]
    Jws(JwsError),
    /// Not by a key that the client's description names.
    #[error("the client assertion cannot be used: {0}")]
    Foreign(#[from] ForeignError),
    /// A claim is missing or of the wrong type.
    #[error("in the client assertion, {0}")]
    Claims(#[from] JsonError),
    /// `iss`, `sub` and the `client_id` parameter are not one agent's id.
    #[error("the client assertion's `iss`, its `sub` and `client_id` are not one agent's id")]
    Client,
    /// Nobody showed to be an agent. The client is not told which of these it was.
    #[error("the client assertion is not by the current key of an agent: {0}")]
    Unproven(Unproven),
    /// The header names another key than the one that signed.
    #[error("the client assertion's `kid` is not that of the agent's key")]
    Kid,
    /// For somebody else.
    #[error("the client assertion's `aud` is not this node; it should be `{issuer}`")]
    Audience {
        /// This node.
        issuer: String,
    },
    /// Made at the wrong time.
    #[error("the client assertion is not fresh: {0}")]
    Stale(#[from] Stale),
    /// `exp` has passed.
    #[error("the client assertion expired {seconds} s ago")]
    Expired {
        /// How long ago.
        seconds: u64,
    },
    /// `exp` is too far ahead, or `nbf` is ahead.
    #[error("the client assertion is not valid for the next {ASSERTION_SECONDS_MAX} s at most")]
    Lifetime,
    /// `jti` is empty or too long.
    #[error("the client assertion's `jti` is empty or longer than {JTI_BYTES_MAX} bytes")]
    Jti,
    /// Used before.
    #[error("the client assertion was used before; make a new one for each request")]
    Replayed,
    /// Too many assertions are remembered; nobody can say whether this one was used.
    #[error("too many client assertions are in use to tell whether this one is new")]
    Full,
}

/// What is wrong with a client that did not prove to be an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// There is no such agent.
    #[error("agent `{0}` is not registered")]
    Agent(AgentId),
    /// The signature is not by the key.
    #[error("agent `{agent}`: {cause}")]
    Signature {
        /// The agent.
        agent: AgentId,
        /// What is wrong.
        cause: JwsError,
    },
    /// It has no key, or one that cannot verify anything.
    #[error("agent `{0}` is registered without a key that can be used")]
    Key(AgentId),
}

/// An assertion of the right form. Who made it is only claimed.
#[derive(Debug)]
pub(crate) struct Assertion<'a> {
    token: Unverified<'a>,
    agent: AgentId,
}

/// An agent that authenticated itself, and the key it did it with. Whether that key's time is over
/// is for the register to say, at the moment that it starts an instance.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) agent: AgentId,
    pub(crate) kid: KeyId,
}

impl<'a> Assertion<'a> {
    pub(crate) fn parse(text: &'a str, client_id: Option<&str>) -> Result<Self, AssertionError> {
        let token = Unverified::parse(text, Typ::Assertion).map_err(AssertionError::Jws)?;
        let claimed = token.claimed().map_err(AssertionError::Jws)?;
        let sub = claimed.required_text("sub")?;
        if claimed.required_text("iss")? != sub || client_id.is_some_and(|id| id != sub) {
            return Err(AssertionError::Client);
        }
        let agent = sub.parse().map_err(|_| AssertionError::Client)?;
        Ok(Self { token, agent })
    }

    /// Whose key to look up.
    pub(crate) const fn claimed_agent(&self) -> &AgentId {
        &self.agent
    }

    /// Checks the assertion against the claimed agent's current key, if there is such an agent, and
    /// uses it up.
    pub(crate) fn accept(
        self,
        registered: Option<&Agent>,
        audiences: [&str; 2],
        moment: Moment,
        used: &ReplayCache,
    ) -> Result<Client, AssertionError> {
        let (claims, kid) = self.prove(registered).map_err(AssertionError::Unproven)?;
        // A key may go unnamed: the agent has one. Naming another is a client that confuses its keys.
        if self.token.header().has("kid") && self.token.header().text("kid")? != Some(kid.as_str())
        {
            return Err(AssertionError::Kid);
        }
        let agent = self.agent;
        once(&claims, agent.as_str(), audiences, moment, used)?;
        Ok(Client { agent, kid })
    }

    /// The claims, if the agent exists and its current key signed them.
    ///
    /// A signature is checked in every case, so that the time of the answer does not tell whether
    /// the agent exists.
    fn prove(&self, registered: Option<&Agent>) -> Result<(Object, KeyId), Unproven> {
        let agent = || self.agent.clone();
        let Some(registered) = registered else {
            self.token.verify_in_vain();
            return Err(Unproven::Agent(agent()));
        };
        // An agent that only people or workloads start has none.
        let Some(own) = &registered.key else {
            self.token.verify_in_vain();
            return Err(Unproven::Key(agent()));
        };
        let key = PublicKey::from_registered(&own.jwk).map_err(|_| Unproven::Key(agent()))?;
        let claims = self.token.verify(&key).map_err(|cause| {
            if cause == JwsError::WrongAlgorithm {
                self.token.verify_in_vain();
            }
            Unproven::Signature {
                agent: agent(),
                cause,
            }
        })?;
        Ok((claims, own.kid.clone()))
    }
}

/// Checks the assertion of a person's client, which names its keys itself, and uses it up.
pub(crate) fn check_client_assertion(
    text: &str,
    client_id: &str,
    keys: &KeySet,
    audiences: [&str; 2],
    moment: Moment,
    used: &ReplayCache,
) -> Result<(), AssertionError> {
    let claims = Foreign::parse(text, ForeignTyp::Client)?.verify(keys)?.0;
    if claims.required_text("iss")? != client_id || claims.required_text("sub")? != client_id {
        return Err(AssertionError::Client);
    }
    once(&claims, client_id, audiences, moment, used)
}

/// Whether an assertion is for this node and for now, and was not used before.
fn once(
    claims: &Object,
    client: &str,
    audiences: [&str; 2],
    moment: Moment,
    used: &ReplayCache,
) -> Result<(), AssertionError> {
    check_audience(claims, audiences)?;
    let now = moment.now.as_secs();
    let expires = claims.required_seconds("exp")?;
    if expires + CLOCK_LEEWAY_SECONDS < now {
        return Err(AssertionError::Expired {
            seconds: now - expires,
        });
    }
    let not_before = claims.seconds("nbf")?.unwrap_or(0);
    if expires > now + ASSERTION_SECONDS_MAX + CLOCK_LEEWAY_SECONDS
        || not_before > now + CLOCK_LEEWAY_SECONDS
    {
        return Err(AssertionError::Lifetime);
    }
    let made = claims.required_seconds("iat")?;
    moment.check(made, ASSERTION_SECONDS_MAX)?;
    let jti = claims.required_text("jti")?;
    if jti.is_empty() || jti.len() > JTI_BYTES_MAX {
        return Err(AssertionError::Jti);
    }
    let life = made..=expires + CLOCK_LEEWAY_SECONDS;
    match used.claim(&("assertion", client, jti), life, moment.now) {
        Claim::First => Ok(()),
        Claim::Again => Err(AssertionError::Replayed),
        Claim::Full => Err(AssertionError::Full),
    }
}

/// `aud` is the issuer (RFC 7523bis), or the endpoint as before it; one value, alone or in
/// an array.
fn check_audience(claims: &Object, audiences: [&str; 2]) -> Result<(), AssertionError> {
    let audience = match claims.get("aud").ok_or(JsonError::Missing("aud"))? {
        Json::Text(text) => Some(text),
        Json::List(list) => match list.as_slice() {
            [Json::Text(text)] => Some(text),
            _ => None,
        },
        Json::Other | Json::Number(_) | Json::Object(_) => None,
    };
    if audience.is_some_and(|audience| audiences.contains(&audience.as_str())) {
        return Ok(());
    }
    let [issuer, _] = audiences;
    Err(AssertionError::Audience {
        issuer: issuer.to_owned(),
    })
}
