//! What one decision costs: strict parse, facts and Cedar, on one thread, over sets of policies.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use mcp::Frame;
use policy::{
    Decision, Engine, FACTS_VERSION, Facts, InstanceFacts, PolicyFile, PolicySet, Target, ToolList,
    UpstreamInput, UpstreamOptions,
};
use serde::Serialize;
use serde_json::value::RawValue;
use vocab::rng::{self, SystemRng};

use crate::machine;
use crate::stats::{median, micros};
use crate::world;

/// Callers that take turns.
const CALLERS: u32 = 16;
/// Decisions whose time is taken together.
const BATCH: u32 = 100;

/// What a set of one size came to.
#[derive(Debug, Serialize)]
pub(crate) struct Size {
    pub(crate) policies: usize,
    /// Reading the set and fitting it to the tools, once.
    pub(crate) build_ms: f64,
    /// One decision: the median of batches.
    pub(crate) decision_us: f64,
    /// Of that, the strict parse.
    pub(crate) parse_us: f64,
}

/// Measures sets of each size for about `lasting` each.
pub(crate) fn run(sizes: &[usize], lasting: Duration) -> Result<Vec<Size>> {
    let tools = world::tools().to_string();
    let upstream = world::UPSTREAM.parse()?;
    let tools = ToolList::parse(&upstream, tools.as_bytes())?;
    let bodies: Vec<Bytes> = (0..CALLERS).map(body).collect();
    let callers = (0..CALLERS).map(|_| caller()).collect::<Result<Vec<_>>>()?;
    let mut measured = Vec::new();
    for &policies in sizes {
        let begin = machine::elapsed();
        let file = PolicyFile {
            name: "bench.cedar".to_owned(),
            text: world::policies(policies),
        };
        let set = PolicySet::parse(vec![file])
            .map_err(|wrong| anyhow::anyhow!("the policies do not parse: {wrong:?}"))?;
        let input = UpstreamInput {
            name: upstream.clone(),
            tools: Some(&tools),
            options: UpstreamOptions::default(),
        };
        let engine = Engine::build(&set, &[input]);
        let build_ms = micros(machine::elapsed().saturating_sub(begin)) / 1_000.0;
        if let Some(wrong) = engine.diagnostics().first() {
            bail!("the policies do not fit the tools: {wrong}");
        }
        let decide = |n: usize| -> Result<()> {
            let body = bodies.get(n).context("a body for each caller")?;
            let caller = callers.get(n).context("a caller")?;
            let facts = facts(body.clone(), caller)?;
            match black_box(engine.decide(&facts)) {
                Decision::Permit(_) => Ok(()),
                Decision::Hold(hold) => bail!("held: {}", hold.reason()),
                Decision::Denial(denial) => bail!("denied: {}", denial.reason()),
            }
        };
        let parse = |n: usize| -> Result<()> {
            let body = bodies.get(n).context("a body for each caller")?;
            black_box(Frame::parse(body.clone())?);
            Ok(())
        };
        let decision_us = each(lasting, decide)?;
        let parse_us = each(lasting / 4, parse)?;
        measured.push(Size {
            policies,
            build_ms,
            decision_us,
            parse_us,
        });
    }
    Ok(measured)
}

/// The median time of one `act`, over batches that fill `lasting`.
fn each(lasting: Duration, act: impl Fn(usize) -> Result<()>) -> Result<f64> {
    let end = machine::elapsed() + lasting;
    let mut times = Vec::new();
    while machine::elapsed() < end {
        let begin = machine::elapsed();
        for n in 0..BATCH {
            act((n % CALLERS) as usize)?;
        }
        times.push(micros(machine::elapsed().saturating_sub(begin)) / f64::from(BATCH));
    }
    Ok(median(&mut times))
}

fn body(n: u32) -> Bytes {
    let arguments = world::arguments(world::FILE);
    let tool = world::TOOL;
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":{n},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
    ))
}

fn caller() -> Result<InstanceFacts> {
    Ok(InstanceFacts {
        id: format!("i-{}", vocab::id::base32(&rng::bytes::<16>(&SystemRng)?)).parse()?,
        agent: world::AGENT.parse()?,
        sponsor: Some("maya".parse()?),
        sponsor_groups: Vec::new(),
        purpose: world::PURPOSE.parse()?,
        depth: 0,
        ancestors: Vec::new(),
        proven: true,
        environment: String::new(),
        authority: None,
        handed_on: None,
        above: Vec::new(),
        root_purpose: None,
        perhaps_sponsor: Vec::new(),
        perhaps_groups: Vec::new(),
    })
}

/// From the bytes of a request to what policy sees, as the gateway does it.
fn facts(body: Bytes, caller: &InstanceFacts) -> Result<Facts> {
    let Frame::Request(request) = Frame::parse(body)? else {
        bail!("no request")
    };
    let name = request.name().context("no tool is named")?.parse()?;
    let args = request.arguments_text().unwrap_or("{}").to_owned();
    Ok(Facts {
        v: FACTS_VERSION,
        instance: caller.clone(),
        upstream: world::UPSTREAM.parse()?,
        target: Target::Tool { name },
        args: RawValue::from_string(args)?,
        now: machine::now(),
        standing: None,
        limit: None,
        unread: false,
        observe: false,
        approval: None,
        findings: Vec::new(),
        direction: policy::Direction::default(),
        elsewhere: false,
        labels: std::collections::BTreeSet::new(),
        no_route: None,
    })
}
