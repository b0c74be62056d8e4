//! A gateway's process, and the way to tokens for it.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use tokens::{AgentKey, DpopKey, HandingOn, Resource};
use vocab::rng::SystemRng;

use crate::child::Role;
use crate::load::{Connection, Target};
use crate::machine;
use crate::node::{Offer, With};
use crate::world;

/// A gateway's process.
pub(crate) struct Gate {
    pub(crate) role: Role,
    /// How long its start took, in seconds.
    pub(crate) start_seconds: f64,
    pub(crate) address: SocketAddr,
    pub(crate) resource: Resource,
    /// The key of the agent that calls.
    pub(crate) key: AgentKey,
    /// The key of the agent of another sponsor.
    pub(crate) bystander: AgentKey,
    /// What the directory shows.
    pub(crate) directory_token: String,
    /// What the directory calls the sponsor of the agent that calls.
    pub(crate) sponsor: String,
}

/// What makes the proofs of one instance.
pub(crate) struct Proofs {
    key: DpopKey,
    token: String,
    uri: String,
}

impl Proofs {
    pub(crate) fn make(&self, count: usize) -> Result<Vec<String>> {
        let now = machine::now();
        (0..count)
            .map(|_| {
                Ok(self
                    .key
                    .proof("POST", &self.uri, Some(&self.token), now, &SystemRng)?)
            })
            .collect()
    }
}

impl Gate {
    pub(crate) async fn start(
        dir: &Path,
        upstream: &str,
        (policies, with): (usize, With),
        delay_ms: u64,
    ) -> Result<Self> {
        let (policies, delay_ms) = (policies.to_string(), delay_ms.to_string());
        let dir = dir.to_str().context("a folder whose name is no text")?;
        let role = Role::start([
            "gateway",
            "--dir",
            dir,
            "--upstream",
            upstream,
            "--policies",
            &policies,
            "--with",
            with.as_str(),
            "--flush-delay-ms",
            &delay_ms,
        ])
        .await?;
        Self::of(role)
    }

    /// The node of a folder, started again.
    pub(crate) async fn again(dir: &Path) -> Result<Self> {
        let dir = dir.to_str().context("a folder whose name is no text")?;
        Self::of(Role::start(["again", "--dir", dir]).await?)
    }

    fn of(role: Role) -> Result<Self> {
        let offer: Offer = serde_json::from_str(&role.offer)?;
        // Its port is another after each start.
        let key = |path| -> Result<AgentKey> {
            let mut key = AgentKey::parse(&std::fs::read_to_string(path)?)?;
            key.issuer = offer.url.parse()?;
            Ok(key)
        };
        let (key, bystander) = (key(&offer.key)?, key(&offer.bystander)?);
        let address = offer.url.trim_start_matches("http://").parse()?;
        let resource = Resource::new(&key.issuer, world::UPSTREAM.parse()?);
        Ok(Self {
            role,
            start_seconds: offer.start_seconds,
            address,
            resource,
            key,
            bystander,
            directory_token: offer.directory_token,
            sponsor: offer.sponsor,
        })
    }

    /// New tokens, one for each of so many instances.
    pub(crate) async fn targets(
        &self,
        dpop: bool,
        instances: usize,
    ) -> Result<Vec<(Target, Option<Proofs>)>> {
        let mut connection = Connection::open(self.address).await?;
        let mut targets = Vec::new();
        for _ in 0..instances {
            let key = if dpop {
                Some(DpopKey::generate(&SystemRng)?)
            } else {
                None
            };
            let token = self.token(&mut connection, &self.key, key.as_ref()).await?;
            let target = self.target(&token, dpop);
            let uri = self.resource.uri().to_owned();
            targets.push((target, key.map(|key| Proofs { key, token, uri })));
        }
        Ok(targets)
    }

    /// Calls with a token.
    pub(crate) fn target(&self, token: &str, dpop: bool) -> Target {
        target(self.address, token, dpop)
    }

    /// The token of a new instance of an agent.
    pub(crate) async fn token(
        &self,
        connection: &mut Connection,
        agent: &AgentKey,
        key: Option<&DpopKey>,
    ) -> Result<String> {
        token(connection, self.address, agent, key).await
    }

    /// The bearer token of a new instance below the one of `subject`, to which so much is handed on.
    pub(crate) async fn child(
        &self,
        connection: &mut Connection,
        subject: &str,
        details: Option<&str>,
    ) -> Result<String> {
        let form = handing_on(&self.key, &self.resource, details, subject)?;
        ask(connection, self.address, &self.key, &form, None).await
    }

    /// A chain of so many delegations: the token of the last instance.
    pub(crate) async fn chain(
        &self,
        connection: &mut Connection,
        depth: usize,
        details: Option<&str>,
    ) -> Result<String> {
        let mut token = self.token(connection, &self.key, None).await?;
        for _ in 0..depth {
            token = self.child(connection, &token, details).await?;
        }
        Ok(token)
    }
}

fn target(address: SocketAddr, token: &str, dpop: bool) -> Target {
    let scheme = if dpop { "DPoP" } else { "Bearer" };
    Target {
        address,
        path: format!("/mcp/{}", world::UPSTREAM),
        authorization: Some(format!("{scheme} {token}")),
    }
}

/// Calls with the bearer token of a new instance of an agent, at a node at this address.
pub(crate) async fn bearer(address: SocketAddr, agent: &AgentKey) -> Result<Target> {
    let mut connection = Connection::open(address).await?;
    let token = token(&mut connection, address, agent, None).await?;
    Ok(target(address, &token, false))
}

/// The token of a new instance of an agent.
async fn token(
    connection: &mut Connection,
    address: SocketAddr,
    agent: &AgentKey,
    key: Option<&DpopKey>,
) -> Result<String> {
    let now = machine::now();
    let resource = Resource::new(&agent.issuer, world::UPSTREAM.parse()?);
    let form = agent.token_form(&world::PURPOSE.parse()?, &resource, now, &SystemRng)?;
    ask(connection, address, agent, &form, key).await
}

async fn ask(
    connection: &mut Connection,
    address: SocketAddr,
    agent: &AgentKey,
    form: &str,
    key: Option<&DpopKey>,
) -> Result<String> {
    let proof = match key {
        Some(key) => {
            let (endpoint, now) = (agent.issuer.token_endpoint(), machine::now());
            let proof = key.proof("POST", &endpoint, None, now, &SystemRng)?;
            format!("DPoP: {proof}\r\n")
        }
        None => String::new(),
    };
    let length = form.len();
    let request = format!(
        "POST /oauth/token HTTP/1.1\r\nHost: {address}\r\n{proof}\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n\
         {form}"
    );
    let answer = connection.exchange(request.as_bytes()).await?;
    let answer: serde_json::Value = serde_json::from_slice(connection.success(&answer)?)?;
    let token = answer
        .get("access_token")
        .and_then(serde_json::Value::as_str);
    Ok(token.context("no token was given")?.to_owned())
}

/// The body of a request for a bearer child of the same agent.
pub(crate) fn handing_on(
    key: &AgentKey,
    resource: &Resource,
    details: Option<&str>,
    subject: &str,
) -> Result<String> {
    let now = machine::now();
    let handing_on = HandingOn {
        issuer: &key.issuer,
        agent: &key.agent,
        jkt: None,
        details,
        max_calls: None,
        purpose: None,
        resource,
        lifetime_seconds: None,
    };
    let form = handing_on.form(subject, None, now, &SystemRng)?;
    let form = key.authenticated(&form, now, &SystemRng)?;
    Ok(form.expose().clone())
}
