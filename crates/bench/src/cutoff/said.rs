//! What the logs say of cuts that were made one after the other.

use anyhow::{Context, Result, bail};
use ledger::{Entry, Kind, LogReader};
use serde::Deserialize;
use vocab::Time;

use crate::world;

/// An entry, as far as it matters here.
#[derive(Debug)]
pub(super) struct Line {
    kind: Kind,
    time: Time,
    body: Body,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    agent: Option<String>,
    effect: Option<String>,
    cause: Option<String>,
    cut: Option<u64>,
    signal: Option<Heard>,
}

#[derive(Debug, Deserialize)]
struct Heard {
    received_at: Time,
}

impl Line {
    pub(super) fn all(log: &dyn LogReader) -> Result<Vec<Self>> {
        let mut lines = Vec::new();
        for index in 0..log.size() {
            let bytes = log.entry(index)?;
            let entry = Entry::parse(&bytes)?;
            let body = match entry.kind {
                Kind::Decision | Kind::Barrier | Kind::CutOff | Kind::SponsorSuspended => {
                    serde_json::from_str(entry.body.get())?
                }
                _ => Body::default(),
            };
            lines.push(Self {
                kind: entry.kind,
                time: entry.time,
                body,
            });
        }
        Ok(lines)
    }

    /// Whether it permits a call of somebody whom the cuts cover.
    fn permits(&self) -> bool {
        self.kind == Kind::Decision
            && self.body.agent.as_deref() == Some(world::AGENT)
            && self.body.effect.as_deref() == Some("allow")
    }

    fn is_barrier(&self) -> bool {
        self.kind == Kind::Barrier && self.body.cause.as_deref() == Some("sponsor-suspended")
    }
}

/// What the logs say of one cut.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// The node had read the directory's request.
    pub(super) heard: Time,
    pub(super) narrowed: Time,
    pub(super) last_permit: Time,
    pub(super) barrier: Time,
    pub(super) certified: Time,
    /// Permits behind the barrier, before the sponsor was back.
    pub(super) permitted_after: u64,
}

/// Finds each cut in the logs; `resumed` is when what was cut was let go on again.
pub(super) fn of(control: &[Line], calls: &[Line], resumed: &[Time]) -> Result<Vec<Said>> {
    let cuts = (0_u64..).zip(control);
    let cuts: Vec<_> = cuts
        .filter(|(_, line)| line.kind == Kind::SponsorSuspended)
        .collect();
    let barriers = calls.iter().enumerate();
    let barriers: Vec<_> = barriers.filter(|(_, line)| line.is_barrier()).collect();
    if cuts.len() != resumed.len() || barriers.len() != resumed.len() {
        let (made, cuts, barriers) = (resumed.len(), cuts.len(), barriers.len());
        bail!("{made} cuts were made; {cuts} and {barriers} barriers are on record");
    }
    let mut said = Vec::new();
    for (((record, cut), (at, barrier)), resumed) in cuts.into_iter().zip(barriers).zip(resumed) {
        let (before, after) = calls.split_at(at);
        let last_permit = before.iter().rfind(|line| line.permits());
        let certificate = control
            .iter()
            .find(|line| line.kind == Kind::CutOff && line.body.cut == Some(record));
        let later = after.iter().take_while(|line| line.time < *resumed);
        let signal = cut.body.signal.as_ref();
        said.push(Said {
            heard: signal.context("a cut that nothing said")?.received_at,
            narrowed: cut.time,
            last_permit: last_permit
                .context("nothing was permitted before a cut")?
                .time,
            barrier: barrier.time,
            certified: certificate.context("a cut was not certified")?.time,
            permitted_after: later.filter(|line| line.permits()).map(|_| 1).sum(),
        });
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNAL: &str = r#"{"signal":{"received_at":"1970-01-01T00:00:00.000095Z"}}"#;

    fn line(kind: Kind, micros: u64, body: &str) -> Line {
        Line {
            kind,
            time: Time::from_micros(micros),
            body: serde_json::from_str(body).unwrap(),
        }
    }

    fn permit(micros: u64) -> Line {
        line(
            Kind::Decision,
            micros,
            r#"{"agent":"load","effect":"allow"}"#,
        )
    }

    fn barrier(micros: u64) -> Line {
        line(Kind::Barrier, micros, r#"{"cause":"sponsor-suspended"}"#)
    }

    fn control() -> Vec<Line> {
        vec![
            line(Kind::NodeStarted, 1, "{}"),
            line(Kind::SponsorSuspended, 100, SIGNAL),
            line(Kind::SponsorResumed, 200, "{}"),
            line(Kind::CutOff, 210, r#"{"cut":1}"#),
            line(Kind::SponsorSuspended, 300, SIGNAL),
            line(Kind::CutOff, 330, r#"{"cut":4}"#),
        ]
    }

    fn check(calls: &[Line], expected: &[(u64, u64)]) {
        let resumed = [190, 390].map(Time::from_micros);
        let said = of(&control(), calls, &resumed).unwrap();
        let found = said
            .iter()
            .map(|it| (it.last_permit.as_micros(), it.permitted_after));
        assert_eq!(found.collect::<Vec<_>>(), expected);
        assert_eq!(said[0].heard.as_micros(), 95);
        assert_eq!(said[0].certified.as_micros(), 210);
        assert_eq!(said[1].narrowed.as_micros(), 300);
    }

    #[test]
    fn each_cut_has_its_last_permit() {
        let refused = line(Kind::Decision, 115, r#"{"agent":"load","effect":"deny"}"#);
        let others = line(
            Kind::Decision,
            130,
            r#"{"agent":"agent-10","effect":"allow"}"#,
        );
        let start = line(Kind::Barrier, 2, r#"{"cause":"start"}"#);
        let calls = [
            start,
            permit(90),
            permit(101),
            refused,
            barrier(120),
            others,
            permit(250),
            barrier(310),
        ];
        check(&calls, &[(101, 0), (250, 0)]);
    }

    #[test]
    fn permits_behind_a_barrier_are_counted() {
        let calls = [
            permit(90),
            barrier(120),
            permit(121),
            permit(189),
            permit(191),
            barrier(310),
            permit(320),
        ];
        check(&calls, &[(90, 2), (191, 1)]);
    }

    #[test]
    fn a_cut_that_is_not_proven_is_no_measurement() {
        let calls = [permit(90), barrier(120)];
        let resumed = [190, 390].map(Time::from_micros);
        assert!(of(&control(), &calls, &resumed).is_err());
        let calls = [permit(90), barrier(120), barrier(310)];
        assert!(of(&control()[..5], &calls, &resumed).is_err());
    }
}
