//! What delegation costs: tokens and their exchange in this process, and calls of the last instance
//! of a chain through a gateway.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;

use anyhow::{Context, Result};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde::Serialize;
use tokens::{AgentKey, DpopKey, Issuer, Resource, TokenRequest};
use vocab::rng::SystemRng;

use crate::child::Role;
use crate::gate::{self, Gate};
use crate::load::{self, Client, Connection, Era, Lasting, Measured};
use crate::machine;
use crate::node::{self, With};
use crate::stats::{median, micros};
use crate::world;

/// Delegations between the instance that nobody delegated to and the one that calls.
const DEPTHS: [usize; 4] = [0, 1, 4, 8];
/// Connections that call at once.
const CONNECTIONS: usize = 64;
/// Instances that share them.
const INSTANCES: usize = 4;
/// Operations whose time is taken together.
const BATCH: usize = 32;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) rounds: usize,
    pub(crate) batches: usize,
    pub(crate) lasting: Lasting,
    /// Policies in the gateway's set.
    pub(crate) policies: usize,
}

/// All that was measured here.
#[derive(Debug, Serialize)]
pub(crate) struct Delegation {
    pub(crate) operations: Vec<Operation>,
    pub(crate) calls: Vec<AtDepth>,
    /// What each hop adds to the CPU of a call.
    pub(crate) hop_us: f64,
}

/// One thing that is done with a token.
#[derive(Debug, Serialize)]
pub(crate) struct Operation {
    pub(crate) what: String,
    pub(crate) cpu_us: f64,
}

/// Calls at one depth.
#[derive(Debug, Serialize)]
pub(crate) struct AtDepth {
    pub(crate) depth: usize,
    pub(crate) cpu_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) calls_per_second: f64,
}

/// Measures with logs in `dir`; `memory` is a folder in memory for those of which no flush counts.
pub(crate) async fn run(
    dir: &Path,
    memory: Option<&Path>,
    extent: Extent,
    say: &dyn Fn(&str),
) -> Result<Delegation> {
    let upstream = Role::start(["upstream"]).await?;
    let url = format!("http://{}/mcp", upstream.offer);
    say("delegation: tokens");
    let folder = memory.unwrap_or(dir).join("tokens");
    let operations = Box::pin(tokens(&folder, &url, extent.batches)).await?;
    say("delegation: calls");
    let calls = calls(&dir.join("chains"), &url, extent).await?;
    upstream.stop().await?;
    let hop_us = hop(&calls);
    Ok(Delegation {
        operations,
        calls,
        hop_us,
    })
}

/// What each hop adds: the slope of the line that fits best.
fn hop(calls: &[AtDepth]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few hops")]
    let points: Vec<(f64, f64)> = calls
        .iter()
        .map(|it| (it.depth as f64, it.cpu_us))
        .collect();
    slope(&points)
}

/// The slope of the line with the least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few points")]
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|it| it.0), mean(|it| it.1));
    let above: f64 = points.iter().map(|it| (it.0 - x) * (it.1 - y)).sum();
    let below: f64 = points.iter().map(|it| (it.0 - x).powi(2)).sum();
    if below == 0.0 { 0.0 } else { above / below }
}

async fn calls(dir: &Path, upstream: &str, extent: Extent) -> Result<Vec<AtDepth>> {
    let gate = Gate::start(dir, upstream, (extent.policies, With::Rules), 0).await?;
    let mut connection = Connection::open(gate.address).await?;
    let mut targets = BTreeMap::new();
    for depth in DEPTHS {
        for _ in 0..INSTANCES {
            let handed_on = Some(world::HANDED_ON);
            let token = gate.chain(&mut connection, depth, handed_on).await?;
            let all: &mut Vec<_> = targets.entry(depth).or_default();
            all.push(gate.target(&token, false));
        }
    }
    let mut found: BTreeMap<usize, Vec<Measured>> = BTreeMap::new();
    for _ in 0..extent.rounds {
        for (depth, targets) in &targets {
            let clients = targets.iter().cycle().take(CONNECTIONS);
            let clients = clients.map(|target| Client {
                target: target.clone(),
                era: Era::Modern,
                arguments: world::arguments(world::FILE),
                proofs: Vec::new(),
            });
            let measured = load::run(clients.collect(), gate.role.pid, extent.lasting).await?;
            found.entry(*depth).or_default().push(measured);
        }
    }
    gate.role.stop().await?;
    let calls = found.into_iter().map(|(depth, all)| {
        let Measured {
            cpu_us,
            p50_us,
            calls_per_second,
            ..
        } = Measured::middle(&all);
        AtDepth {
            depth,
            cpu_us,
            p50_us,
            calls_per_second,
        }
    });
    Ok(calls.collect())
}

/// The node's side of what is done with tokens: CPU of this process, medians over batches that take
/// turns.
async fn tokens(dir: &Path, upstream: &str, batches: usize) -> Result<Vec<Operation>> {
    let peopled = node::start(dir, upstream, 16, With::Rules).await?;
    let desk = Desk {
        issuer: peopled.node.plane.issuer(),
        resource: Resource::new(&peopled.key.issuer, world::UPSTREAM.parse()?),
        key: &peopled.key,
    };
    let mut chains = BTreeMap::new();
    for depth in DEPTHS {
        for depth in [depth.saturating_sub(1), depth] {
            chains.insert(depth, desk.chain(depth).await?);
        }
    }
    let holder = DpopKey::generate(&SystemRng)?;
    let bound = desk.bound(&holder).await?;
    let mut times: BTreeMap<(usize, String), Vec<f64>> = BTreeMap::new();
    for _ in 0..batches {
        let mut note = |order: usize, what: String, cpu_us: f64| {
            times.entry((order, what)).or_default().push(cpu_us);
        };
        let forms = several(|| desk.issue_form())?;
        let (took, issued) = desk.answer(&forms).await?;
        note(0, "a token for a new instance".to_owned(), took);
        let first = desk.verify(&desk.presented("Bearer", &issued, None)?)?;
        note(10, "verification, a token's first".to_owned(), first);
        for depth in DEPTHS.into_iter().filter(|depth| *depth > 0) {
            let above = chains
                .get(&(depth - 1))
                .context("a chain to hand on from")?;
            let forms = several(|| desk.exchange_form(above))?;
            let (took, _) = desk.answer(&forms).await?;
            note(depth, format!("exchange, depth {depth}"), took);
        }
        for depth in DEPTHS {
            let token = chains.get(&depth).context("a chain of each depth")?;
            let same = vec![token.clone(); BATCH];
            let known = desk.verify(&desk.presented("Bearer", &same, None)?)?;
            note(
                20 + depth,
                format!("verification, a known token, depth {depth}"),
                known,
            );
        }
        let same = vec![bound.clone(); BATCH];
        let proven = desk.verify(&desk.presented("DPoP", &same, Some(&holder))?)?;
        note(
            40,
            "verification, a known token with a fresh proof".to_owned(),
            proven,
        );
    }
    let operations = times.into_iter().map(|((_, what), mut all)| Operation {
        what,
        cpu_us: median(&mut all),
    });
    let operations = operations.collect();
    peopled.node.stop().await.map_err(anyhow::Error::msg)?;
    Ok(operations)
}

/// As many as are timed together.
fn several<T>(make: impl Fn() -> Result<T>) -> Result<Vec<T>> {
    (0..BATCH).map(|_| make()).collect()
}

/// Where tokens are got and shown.
struct Desk<'a> {
    issuer: &'a Issuer,
    resource: Resource,
    key: &'a AgentKey,
}

impl Desk<'_> {
    fn issue_form(&self) -> Result<String> {
        let purpose = world::PURPOSE.parse()?;
        let now = machine::now();
        Ok(self
            .key
            .token_form(&purpose, &self.resource, now, &SystemRng)?)
    }

    fn exchange_form(&self, subject: &str) -> Result<String> {
        gate::handing_on(self.key, &self.resource, Some(world::HANDED_ON), subject)
    }

    /// The CPU of one answer to requests for tokens, and the tokens.
    async fn answer(&self, forms: &[String]) -> Result<(f64, Vec<String>)> {
        let mut given = Vec::with_capacity(forms.len());
        let before = machine::own_cpu();
        for form in forms {
            given.push(self.token(form, HeaderMap::new()).await?);
        }
        Ok((each(before, forms.len()), given))
    }

    async fn token(&self, form: &str, mut headers: HeaderMap) -> Result<String> {
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, kind);
        let request = TokenRequest::parse(&headers, form.as_bytes())?;
        Ok(self.issuer.token(&request).await?.access_token)
    }

    /// The token of the last instance of a chain of so many delegations.
    async fn chain(&self, depth: usize) -> Result<String> {
        let mut token = self.token(&self.issue_form()?, HeaderMap::new()).await?;
        for _ in 0..depth {
            let form = self.exchange_form(&token)?;
            token = self.token(&form, HeaderMap::new()).await?;
        }
        Ok(token)
    }

    /// A token that is bound to a key.
    async fn bound(&self, holder: &DpopKey) -> Result<String> {
        let endpoint = self.key.issuer.token_endpoint();
        let proof = holder.proof("POST", &endpoint, None, machine::now(), &SystemRng)?;
        let mut headers = HeaderMap::new();
        headers.insert(tokens::DPOP, proof.parse()?);
        self.token(&self.issue_form()?, headers).await
    }

    /// The headers of requests that bring tokens.
    fn presented(
        &self,
        scheme: &str,
        tokens: &[String],
        holder: Option<&DpopKey>,
    ) -> Result<Vec<HeaderMap>> {
        let mut all = Vec::new();
        for token in tokens {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, format!("{scheme} {token}").parse()?);
            if let Some(holder) = holder {
                let (uri, now) = (self.resource.uri(), machine::now());
                let proof = holder.proof("POST", uri, Some(token), now, &SystemRng)?;
                headers.insert(tokens::DPOP, proof.parse()?);
            }
            all.push(headers);
        }
        Ok(all)
    }

    /// The CPU of one look at who sent a request.
    fn verify(&self, requests: &[HeaderMap]) -> Result<f64> {
        let before = machine::own_cpu();
        for headers in requests {
            let caller = self.issuer.verify(headers, "POST", &self.resource);
            black_box(caller.map_err(|it| anyhow::anyhow!("{}", it.description()))?);
        }
        Ok(each(before, requests.len()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few operations")]
fn each(before: std::time::Duration, operations: usize) -> f64 {
    micros(machine::own_cpu().saturating_sub(before)) / operations as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(points: &[(f64, f64)], expected: f64) {
        let found = slope(points);
        assert!((found - expected).abs() < 1e-9, "{points:?}: {found}");
    }

    #[test]
    fn a_hop_is_the_slope() {
        check(&[], 0.0);
        check(&[(4.0, 9.0)], 0.0);
        check(&[(0.0, 10.0), (8.0, 26.0)], 2.0);
        check(&[(0.0, 1.0), (1.0, 3.0), (2.0, 2.0)], 0.5);
    }
}
