//! How long a decision takes with 10 to 10,000 policies, in microseconds.
//!
//! `cargo run --release -p policy --example decide_speed`

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;

use policy::{
    Engine, FACTS_VERSION, Facts, InstanceFacts, PolicyFile, PolicySet, Target, ToolList,
    UpstreamInput, UpstreamOptions,
};
use vocab::Clock as _;
use vocab::time::SystemClock;

const BATCHES: u32 = 200;
const BATCH: u32 = 50;

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "| policies | parse ms | build ms | first µs | decide µs | visible µs |"
    )?;
    writeln!(out, "|---:|---:|---:|---:|---:|---:|")?;
    for count in [10, 100, 1_000, 10_000] {
        writeln!(out, "{}", measure(count)?)?;
    }
    Ok(())
}

/// Twenty agents, each with its share of `count` policies over fifty tools, and some for everyone.
fn policies(count: usize) -> String {
    let mut text = String::from(
        "@id(\"keys\") forbid (principal, action, resource)\n\
         when { context.canonical has path && context.canonical.path like \"*.key\" };\n",
    );
    for n in 1..count {
        let _ = writeln!(
            text,
            "@id(\"p{n}\") permit (principal in Agent::\"agent-{}\", action == Action::\"files/tool-{}\", resource)\n\
             when {{ context.proven && context.canonical.path like \"/area-{n}/*\" }};",
            n % 20,
            n / 20 % 50
        );
    }
    text
}

fn measure(count: usize) -> Result<String, Box<dyn Error>> {
    let clock = SystemClock::new();
    let name: vocab::UpstreamName = "files".parse()?;
    let tools: Vec<String> = (0..50)
        .map(|n| {
            format!(
                "{{\"name\":\"tool-{n}\",\"inputSchema\":{{\"type\":\"object\",\"required\":[\"path\"],\
                 \"properties\":{{\"path\":{{\"type\":\"string\"}},\"head\":{{\"type\":\"integer\"}}}}}}}}"
            )
        })
        .collect();
    let tools = ToolList::parse(&name, format!("[{}]", tools.join(",")).as_bytes())?;
    let file = PolicyFile {
        name: "p.cedar".to_owned(),
        text: policies(count),
    };
    let start = clock.elapsed();
    let set = PolicySet::parse(vec![file]).map_err(|problems| format!("{problems:?}"))?;
    let parsed = clock.elapsed();
    let upstream = UpstreamInput {
        name: name.clone(),
        tools: Some(&tools),
        options: UpstreamOptions::default(),
    };
    let engine = Engine::build(&set, &[upstream]);
    let built = clock.elapsed();
    let facts = Facts {
        v: FACTS_VERSION,
        instance: InstanceFacts {
            id: "i-aaaaaaaaaaaaaaaaaaaaaaaaaa".parse()?,
            agent: "agent-1".parse()?,
            sponsor: Some("maya".parse()?),
            sponsor_groups: vec!["oncall".to_owned()],
            purpose: "triage/refunds".parse()?,
            depth: 0,
            ancestors: Vec::new(),
            proven: true,
            environment: "production".to_owned(),
            authority: None,
            handed_on: None,
            above: Vec::new(),
            root_purpose: None,
            perhaps_sponsor: Vec::new(),
            perhaps_groups: Vec::new(),
        },
        upstream: name.clone(),
        target: Target::Tool {
            name: "tool-0".parse()?,
        },
        args: serde_json::value::RawValue::from_string(
            "{\"path\":\"/area-1/notes/today.txt\",\"head\":40}".to_owned(),
        )?,
        now: vocab::Time::from_secs(1_795_254_662),
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
    };
    let before = clock.elapsed();
    let mut allowed = engine.decide(&facts).effect().as_str();
    let first = clock.elapsed();
    let decided = each(&clock, || {
        allowed = engine.decide(&facts).effect().as_str();
    });
    let tool = "tool-0".parse()?;
    let seen = each(&clock, || {
        std::hint::black_box(engine.visible(&facts.instance, &name, &tool));
    });
    if allowed != "allow" {
        return Err(format!("expected allow, got {allowed}").into());
    }
    Ok(format!(
        "| {count} | {} | {} | {} | {:.1} | {:.1} |",
        parsed.saturating_sub(start).as_millis(),
        built.saturating_sub(parsed).as_millis(),
        first.saturating_sub(before).as_micros(),
        decided,
        seen,
    ))
}

/// The median time of one `act` in microseconds, over batches: a busy machine does not show.
fn each(clock: &SystemClock, mut act: impl FnMut()) -> f64 {
    let mut times = Vec::new();
    for _ in 0..BATCHES {
        let begin = clock.elapsed();
        for _ in 0..BATCH {
            act();
        }
        let took = clock.elapsed().saturating_sub(begin);
        times.push(took.as_secs_f64() * 1e6 / f64::from(BATCH));
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}
