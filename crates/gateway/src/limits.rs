//! Limits beside policy: calls per minute of an agent, calls in flight and in the life of an
//! instance, the breaker that tells an instance to stop repeating what is refused, and how much of
//! what is refused is kept. They only ever refuse.
//!
//! Calls in an instance's life are counted from the record, so that they are the same after a
//! start. The others are about minutes, and begin anew.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ledger::{Entry, Kind, LogReader, ReadError};
use vocab::limits::{CLOCK_LEEWAY_SECONDS, DENIED_ARGS_BYTES_MAX};
use vocab::{AgentId, Digest, InstanceId, RecordRef, Time};

use crate::record::{DecisionBody, Effect};

/// How much is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Calls per minute for one agent, over all its instances; 0 is no limit.
    pub calls_per_minute: u32,
    /// Identical denials within a minute that trip an instance's breaker; 0 is never.
    pub same_denials: u32,
    /// Calls one instance may have in flight.
    pub calls_in_flight: usize,
    /// Bytes of arguments of denied calls that are kept per minute for one agent.
    pub denied_bytes_per_minute: u64,
}

/// The counters. Times are the clock's `elapsed`, so that a jump of the wall clock frees nobody.
#[derive(Debug)]
pub(crate) struct Limiter {
    bounds: Bounds,
    agents: Mutex<HashMap<AgentId, Bucket>>,
    kept: Mutex<HashMap<AgentId, Bucket>>,
    breakers: Mutex<HashMap<(InstanceId, Digest), Run>>,
    flights: Mutex<HashMap<InstanceId, usize>>,
    /// Permitted calls where only so many may be made.
    spent: Mutex<HashMap<Counter, u64>>,
}

/// Whose permitted calls are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Counter {
    /// Those of an instance.
    Own(InstanceId),
    /// Those of an instance and of all below it.
    Tree(InstanceId),
}

impl Counter {
    const fn instance(&self) -> &InstanceId {
        match self {
            Self::Own(id) | Self::Tree(id) => id,
        }
    }

    /// What its caller is told when they are used up.
    fn used_up(&self, caller: &InstanceId, most: u64) -> String {
        match self {
            Self::Own(_) => format!(
                "This instance has made every call that it may make in its life, {most} in all. \
                 Stop, and tell the person you work for."
            ),
            Self::Tree(id) if id == caller && most == 1 => {
                "This was a credential for one call, and that call was made. Ask for another."
                    .to_owned()
            }
            Self::Tree(id) if id == caller => format!(
                "Every call that was handed on to this instance is made, {most} in all. Stop, and \
                 tell whoever started you."
            ),
            Self::Tree(_) => format!(
                "Every call that was handed on to an instance above this one is made, {most} in \
                 all, by it and those it started. Stop, and tell whoever started you."
            ),
        }
    }
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Duration,
}

impl Bucket {
    /// Takes so much from an agent's minute, or says how long it must wait.
    fn take(
        agents: &Mutex<HashMap<AgentId, Self>>,
        agent: &AgentId,
        (cost, full): (f64, f64),
        now: Duration,
    ) -> Result<(), Duration> {
        let mut agents = lock(agents);
        if agents.len() > SWEEP_AT {
            agents.retain(|_, bucket| now.saturating_sub(bucket.at) < MINUTE);
        }
        let bucket = agents.entry(agent.clone()).or_insert(Self {
            tokens: full,
            at: now,
        });
        let refill = now.saturating_sub(bucket.at).as_secs_f64() * full / 60.0;
        bucket.tokens = (bucket.tokens + refill).min(full);
        bucket.at = now;
        if bucket.tokens < cost {
            return Err(Duration::from_secs_f64(
                (cost - bucket.tokens) * 60.0 / full,
            ));
        }
        bucket.tokens -= cost;
        Ok(())
    }
}

#[derive(Debug)]
struct Run {
    count: u32,
    since: Duration,
    last: Duration,
    /// The first denial that was one too many, once it is on record.
    record: Option<RecordRef>,
}

/// The same denial came too often.
#[derive(Debug)]
pub(crate) struct Stop {
    /// What the agent is to be told.
    pub(crate) text: String,
    /// Where that is on record already.
    pub(crate) record: Option<RecordRef>,
}

const MINUTE: Duration = Duration::from_mins(1);
/// Entries kept per map before those that no longer matter are dropped.
const SWEEP_AT: usize = 10_000;

impl Limiter {
    /// Fresh counters.
    pub(crate) fn new(bounds: Bounds, spent: HashMap<Counter, u64>) -> Self {
        Self {
            bounds,
            agents: Mutex::default(),
            kept: Mutex::default(),
            breakers: Mutex::default(),
            flights: Mutex::default(),
            spent: Mutex::new(spent),
        }
    }

    /// Takes one call from the agent's budget, or says why not.
    pub(crate) fn admit(
        &self,
        agent: &AgentId,
        per_minute: Option<u32>,
        now: Duration,
    ) -> Option<String> {
        let limit = per_minute.unwrap_or(self.bounds.calls_per_minute);
        if limit == 0 {
            return None;
        }
        let wait = Bucket::take(&self.agents, agent, (1.0, f64::from(limit)), now).err()?;
        let wait = wait.as_secs_f64().ceil();
        Some(format!(
            "Agent `{agent}` has made every call that it may make in a minute, {limit} in all. \
             Wait {wait} s before the next call."
        ))
    }

    /// One call of each of these, all or none, given back unless it is permitted: each counter with
    /// how many it has.
    pub(crate) fn spend(
        self: &Arc<Self>,
        caller: &InstanceId,
        counted: Vec<(Counter, u64)>,
    ) -> Result<Spending, String> {
        if !counted.is_empty() {
            let mut spent = lock(&self.spent);
            for (counter, most) in &counted {
                if spent.get(counter).is_some_and(|count| count >= most) || *most == 0 {
                    return Err(counter.used_up(caller, *most));
                }
            }
            for (counter, _) in &counted {
                *spent.entry(counter.clone()).or_insert(0) += 1;
            }
        }
        Ok(Spending {
            limiter: Arc::clone(self),
            counted: counted.into_iter().map(|(counter, _)| counter).collect(),
        })
    }

    /// Forgets instances that `keep` says are over for good.
    pub(crate) fn forget(&self, keep: impl Fn(&InstanceId) -> bool) {
        lock(&self.spent).retain(|counter, _| keep(counter.instance()));
    }

    /// Whether arguments of this length are kept, of a call of the agent's that is denied. If so
    /// they count.
    pub(crate) fn keeps(&self, agent: &AgentId, bytes: usize, now: Duration) -> bool {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a rate need not be exact beyond 2^53 bytes"
        )]
        let (cost, full) = (bytes as f64, self.bounds.denied_bytes_per_minute as f64);
        bytes <= DENIED_ARGS_BYTES_MAX && Bucket::take(&self.kept, agent, (cost, full), now).is_ok()
    }

    /// Notes a denial; once the same one has come too often, says what the agent is to be told.
    pub(crate) fn denied(
        &self,
        instance: &InstanceId,
        what: Digest,
        now: Duration,
    ) -> Option<Stop> {
        let limit = self.bounds.same_denials;
        if limit == 0 {
            return None;
        }
        let mut breakers = lock(&self.breakers);
        if breakers.len() > SWEEP_AT {
            breakers.retain(|_, run| now.saturating_sub(run.last) < MINUTE);
        }
        let run = breakers.entry((instance.clone(), what)).or_insert(Run {
            count: 0,
            since: now,
            last: now,
            record: None,
        });
        if now.saturating_sub(run.last) >= MINUTE {
            *run = Run {
                count: 0,
                since: now,
                last: now,
                record: None,
            };
        }
        run.last = now;
        run.count = run.count.saturating_add(1);
        (run.count > limit).then(|| Stop {
            text: format!(
                "Stop: this call has been refused {} times in {} s for the same reason, and \
                 repeating it will not change the answer. Do something else, or tell the person \
                 you work for that you are not permitted to do this.",
                run.count,
                now.saturating_sub(run.since).as_secs().max(1)
            ),
            record: run.record.clone(),
        })
    }

    /// Notes where a denial that was one too many is on record: those after it are only counted.
    pub(crate) fn stopped(&self, instance: &InstanceId, what: Digest, record: &RecordRef) {
        if let Some(run) = lock(&self.breakers).get_mut(&(instance.clone(), what)) {
            run.record.get_or_insert_with(|| record.clone());
        }
    }

    /// A place among the instance's calls in flight, held until it is dropped.
    pub(crate) fn depart(self: &Arc<Self>, instance: &InstanceId) -> Result<InFlight, String> {
        let limit = self.bounds.calls_in_flight;
        let mut flights = lock(&self.flights);
        let count = flights.entry(instance.clone()).or_insert(0);
        if *count >= limit {
            return Err(format!(
                "Too many calls at once: this instance has {limit} in flight, the most allowed. \
                 Wait for one to end, then call again."
            ));
        }
        *count += 1;
        drop(flights);
        Ok(InFlight {
            limiter: Arc::clone(self),
            instance: instance.clone(),
        })
    }
}

/// A call in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    limiter: Arc<Limiter>,
    instance: InstanceId,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut flights = lock(&self.limiter.flights);
        if let Some(count) = flights.get_mut(&self.instance) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                flights.remove(&self.instance);
            }
        }
    }
}

/// A call that is counted.
#[derive(Debug)]
pub(crate) struct Spending {
    limiter: Arc<Limiter>,
    /// Empty where calls are not counted, or once this one is spent.
    counted: Vec<Counter>,
}

impl Spending {
    /// The call is permitted, on record.
    pub(crate) fn spent(mut self) {
        self.counted.clear();
    }
}

impl Drop for Spending {
    fn drop(&mut self) {
        if self.counted.is_empty() {
            return;
        }
        let mut spent = lock(&self.limiter.spent);
        for counter in &self.counted {
            if let Some(count) = spent.get_mut(counter) {
                *count = count.saturating_sub(1);
            }
        }
    }
}

/// The permitted calls that these count, as they are on record. None of their instances started
/// before `since`.
pub(crate) fn on_record(
    calls: &dyn LogReader,
    of: &HashSet<Counter>,
    since: Time,
) -> Result<HashMap<Counter, u64>, ReadError> {
    let mut spent = HashMap::new();
    // The times of two logs may differ by as much as a clock may go back.
    let since = since.minus(Duration::from_secs(CLOCK_LEEWAY_SECONDS));
    for index in ledger::first_since(calls, since)?..calls.size() {
        let bytes = calls.entry(index)?;
        let damaged = |cause: String| ReadError::Damaged {
            what: format!("entry {index}"),
            cause,
        };
        let entry = Entry::parse(&bytes).map_err(|error| damaged(error.to_string()))?;
        if entry.kind != Kind::Decision {
            continue;
        }
        let body: DecisionBody =
            serde_json::from_str(entry.body.get()).map_err(|error| damaged(error.to_string()))?;
        if body.effect != Effect::Allow {
            continue;
        }
        let trees = body.chain.into_iter().map(Counter::Tree);
        for counter in trees.chain([Counter::Own(body.instance)]) {
            if of.contains(&counter) {
                *spent.entry(counter).or_default() += 1;
            }
        }
    }
    Ok(spent)
}

/// The counters stay usable after a panic elsewhere: they hold numbers, not invariants.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(calls_per_minute: u32) -> Arc<Limiter> {
        Arc::new(Limiter::new(
            Bounds {
                calls_per_minute,
                same_denials: 3,
                calls_in_flight: 2,
                denied_bytes_per_minute: 40_000,
            },
            HashMap::new(),
        ))
    }

    fn instance(letter: char) -> InstanceId {
        format!("i-{}", letter.to_string().repeat(26))
            .parse()
            .unwrap()
    }

    #[test]
    fn an_agent_spends_its_minute_and_gets_it_back() {
        let limiter = limiter(60);
        let agent = "triage".parse().unwrap();
        let at = Duration::from_secs;
        assert!((0..60).all(|_| limiter.admit(&agent, None, at(10)).is_none()));
        assert!(
            limiter
                .admit(&agent, None, at(10))
                .unwrap()
                .contains("in a minute, 60 in all. Wait 1 s")
        );
        assert!(limiter.admit(&agent, None, at(11)).is_none());
        assert!(limiter.admit(&agent, None, at(11)).is_some());
        assert!(
            limiter
                .admit(&"other".parse().unwrap(), None, at(11))
                .is_none()
        );
    }

    #[test]
    fn the_breaker_counts_one_denial_of_one_instance() {
        let limiter = limiter(0);
        let (what, other) = (Digest::of(b"a"), Digest::of(b"b"));
        let at = Duration::from_secs;
        assert!((0..3).all(|s| limiter.denied(&instance('a'), what, at(s)).is_none()));
        assert!(
            limiter
                .denied(&instance('a'), what, at(4))
                .unwrap()
                .text
                .starts_with("Stop: ")
        );
        assert!(limiter.denied(&instance('a'), other, at(4)).is_none());
        assert!(limiter.denied(&instance('b'), what, at(4)).is_none());
        assert!(
            limiter.denied(&instance('a'), what, at(64)).is_none(),
            "a minute of quiet"
        );
    }

    #[test]
    fn what_is_kept_of_denials_has_a_share_of_the_minute() {
        let limiter = limiter(0);
        let (agent, other) = ("triage".parse().unwrap(), "other".parse().unwrap());
        let at = Duration::from_secs;
        assert!(!limiter.keeps(&agent, DENIED_ARGS_BYTES_MAX + 1, at(10)));
        assert!(limiter.keeps(&agent, DENIED_ARGS_BYTES_MAX, at(10)));
        assert!(limiter.keeps(&agent, DENIED_ARGS_BYTES_MAX, at(10)));
        assert!(!limiter.keeps(&agent, DENIED_ARGS_BYTES_MAX, at(10)));
        assert!(limiter.keeps(&agent, 100, at(10)));
        assert!(limiter.keeps(&other, DENIED_ARGS_BYTES_MAX, at(10)));
        assert!(limiter.keeps(&agent, DENIED_ARGS_BYTES_MAX, at(40)));
    }

    #[test]
    fn a_call_that_is_not_permitted_is_not_spent() {
        let limiter = limiter(0);
        let (one, other) = (instance('a'), instance('b'));
        let own = |id: &InstanceId, most| vec![(Counter::Own(id.clone()), most)];
        limiter.spend(&one, own(&one, 2)).unwrap().spent();
        drop(limiter.spend(&one, own(&one, 2)).unwrap());
        limiter.spend(&one, own(&one, 2)).unwrap().spent();
        let refused = limiter.spend(&one, own(&one, 2)).unwrap_err();
        assert!(refused.contains("in its life, 2 in all. Stop"), "{refused}");
        assert!(limiter.spend(&one, Vec::new()).is_ok());
        assert!(limiter.spend(&other, own(&other, 1)).is_ok());
        assert!(limiter.spend(&other, own(&other, 0)).is_err());
    }

    /// A call counts for everybody above, or, if one of them has none left, for nobody.
    #[test]
    fn calls_are_counted_along_the_chain() {
        let limiter = limiter(0);
        let (root, child, sibling) = (instance('a'), instance('b'), instance('c'));
        let below_root = |id: &InstanceId, most| {
            vec![
                (Counter::Tree(root.clone()), 3),
                (Counter::Tree(id.clone()), most),
            ]
        };
        let spend = |id: &InstanceId, most| limiter.spend(id, below_root(id, most));
        spend(&child, 1).unwrap().spent();
        let refused = spend(&child, 1).unwrap_err();
        assert!(refused.contains("a credential for one call"), "{refused}");
        spend(&sibling, 5).unwrap().spent();
        spend(&sibling, 5).unwrap().spent();
        let refused = spend(&sibling, 5).unwrap_err();
        assert!(
            refused.contains("an instance above this one is made, 3 in all"),
            "{refused}"
        );
        let refused = limiter
            .spend(&root, vec![(Counter::Tree(root.clone()), 3)])
            .unwrap_err();
        assert!(
            refused.contains("handed on to this instance is made, 3 in all"),
            "{refused}"
        );
        // What was refused is not counted for those below.
        let own = vec![(Counter::Tree(sibling.clone()), 3)];
        assert!(limiter.spend(&sibling, own).is_ok());
    }

    /// However many ask at once, no more than there are get through.
    #[test]
    fn a_race_spends_no_more_than_there_is() {
        let limiter = limiter(0);
        let one = instance('a');
        let spend = || {
            let spending = limiter.spend(&one, vec![(Counter::Tree(one.clone()), 1)]);
            u32::from(spending.map(Spending::spent).is_ok())
        };
        let spent: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(spend)).collect();
            threads.into_iter().map(|it| it.join().unwrap()).sum()
        });
        assert_eq!(spent, 1);
    }

    #[test]
    fn a_place_in_flight_comes_back() {
        let limiter = limiter(0);
        let first = limiter.depart(&instance('a')).unwrap();
        let _second = limiter.depart(&instance('a')).unwrap();
        assert!(
            limiter
                .depart(&instance('a'))
                .unwrap_err()
                .contains("in flight")
        );
        assert!(limiter.depart(&instance('b')).is_ok());
        drop(first);
        assert!(limiter.depart(&instance('a')).is_ok());
    }
}
