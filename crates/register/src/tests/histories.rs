//! Random histories: whatever is asked for in whatever order, folding the log again gives the same
//! state, what was refused left no trace, and nobody acts who was stopped.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::fold_prefix;

/// A step, as numbers so that it shrinks: what, and which of a few.
type Step = (u8, u8, u8);

/// What was done, kept by other means than the register's.
#[derive(Default)]
struct Model {
    /// By handle: an id is free again once who it named was erased.
    suspended_sponsors: HashSet<String>,
    suspended_agents: HashSet<String>,
    retired_agents: HashSet<String>,
    ended: HashSet<InstanceId>,
    /// Instance, agent, sponsor.
    instances: Vec<(InstanceId, String, String)>,
    erased: HashSet<String>,
    keys: u32,
}

const SPONSORS: [&str; 2] = ["maja", "noor"];
const AGENTS: [&str; 3] = ["triage", "billing", "ops"];

fn pick<'a>(from: &[&'a str], which: u8) -> &'a str {
    from[usize::from(which) % from.len()]
}

impl Model {
    fn command(&mut self, node: &Node, (what, a, b): Step) -> Option<Command> {
        let (sponsor, agent) = (pick(&SPONSORS, a), pick(&AGENTS, a));
        Some(match what % 20 {
            0 => add_sponsor(sponsor),
            1 => suspend_sponsor(sponsor),
            2 | 3 => resume_sponsor(sponsor),
            4 | 5 => Command::AddAgent(Box::new(NewAgent {
                max_instances: Some(3),
                allow_bearer: b.is_multiple_of(2),
                ..new_agent(agent, pick(&SPONSORS, b))
            })),
            6 => suspend_agent(agent),
            7 | 8 => resume_agent(agent),
            9 if b.is_multiple_of(8) => retire_agent(agent),
            10 if b.is_multiple_of(4) => {
                self.keys += 1;
                rotate(agent, &format!("r{}", self.keys))
            }
            11..=14 => {
                let kid = node.control.view(|state| {
                    let agent = state.agent(&agent.parse().unwrap());
                    agent.map_or_else(|| "k1".to_owned(), |agent| agent.key.kid.to_string())
                });
                let binding = match b % 4 {
                    0 => Binding::Bearer,
                    key => Binding::Dpop { jkt: jkt(key) },
                };
                let purpose = if b < 128 { "triage" } else { "triage/refunds" };
                start_with(agent, &kid, purpose, binding)
            }
            15 => {
                let (id, ..) = self
                    .instances
                    .get(usize::from(b) % self.instances.len().max(1))?;
                end(id, EndReason::ALL[usize::from(a) % 4])
            }
            16 => configure("files"),
            17 if b.is_multiple_of(8) => {
                let handle = node.control.view(|state| {
                    let sponsor = state.sponsor_by_id(&sponsor.parse().unwrap());
                    sponsor.map(|sponsor| sponsor.handle.clone())
                })?;
                Command::Erase { handle }
            }
            _ => return None,
        })
    }

    /// Notes what a command that was done means.
    fn done(&mut self, node: &Node, command: &Command, done: &Done) {
        let handle = |id: &SponsorId| {
            node.control.view(|state| {
                let sponsor = state.sponsor_by_id(id);
                sponsor.map(|sponsor| sponsor.handle.to_string()).unwrap()
            })
        };
        match command {
            Command::SuspendSponsor { id } => {
                self.suspended_sponsors.insert(handle(id));
            }
            Command::ResumeSponsor { id } => {
                self.suspended_sponsors.remove(&handle(id));
            }
            Command::SuspendAgent { id } => {
                self.suspended_agents.insert(id.to_string());
            }
            Command::ResumeAgent { id } => {
                self.suspended_agents.remove(id.as_str());
            }
            Command::RetireAgent { id } => {
                self.retired_agents.insert(id.to_string());
            }
            Command::EndInstance { id, .. } => {
                self.ended.insert(id.clone());
            }
            Command::Erase { handle } => {
                self.erased.insert(handle.to_string());
            }
            _ => {}
        }
        if let Done::Started { instance, .. } = done {
            self.instances.push((
                instance.id.clone(),
                instance.agent.to_string(),
                instance.sponsor.to_string(),
            ));
        }
    }

    fn check(&self, node: &Node) {
        for (id, agent, sponsor) in &self.instances {
            let stopped = self.erased.contains(sponsor)
                || self.suspended_sponsors.contains(sponsor)
                || self.suspended_agents.contains(agent)
                || self.retired_agents.contains(agent)
                || self.ended.contains(id);
            match node.narrowed(id) {
                None => assert!(!stopped, "{id} acts although it was stopped"),
                // It was ended because its key came back after it had expired.
                Some(Why::InstanceExpired | Why::InstanceEnded) => {}
                Some(why) => assert!(stopped, "{id} is narrowed by {why:?} for no reason"),
            }
        }
    }
}

async fn run(steps: Vec<Step>) {
    let mut node = Node::ready().await;
    let mut model = Model::default();
    let mut restarted = false;
    for step in steps {
        match step {
            (18, by, _) => node.clock.advance(minutes(u64::from(by))),
            (19, 0..64, _) => {
                // What was idle may be live again, and then be more than the most.
                restarted = true;
                node = node.restarted().unwrap();
            }
            (19, _, which) => {
                if let Some((id, ..)) = model.instances.get(usize::from(which)) {
                    node.control.touch(id, node.now());
                }
            }
            step => {
                let Some(command) = model.command(&node, step) else {
                    continue;
                };
                let before = node.log.len();
                let answer = node.execute(command.clone()).await;
                let written = node.log.len() - before;
                match &answer {
                    Ok(Done::Changed { records, .. }) => assert_eq!(records.len() as u64, written),
                    Ok(Done::Started { record, .. }) => {
                        assert_eq!(record.index, before + written - 1);
                    }
                    Ok(Done::Continued { .. } | Done::Unchanged { .. })
                    | Err(CommandError::Refused(_)) => assert_eq!(written, 0, "{answer:?}"),
                    Err(error) => panic!("{command:?}: {error:?}"),
                }
                if let Ok(done) = &answer {
                    model.done(&node, &command, done);
                }
            }
        }
        model.check(&node);
    }
    let again = fold_prefix(&*node.log, Some(&*node.keyring), node.log.len()).unwrap();
    node.control.view(|state| {
        assert_eq!(*state, again);
        for agent in state.agents().filter(|_| !restarted) {
            assert!(state.live_instances(&agent.id, node.now()) <= agent.max_instances);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn folding_again_gives_the_same_and_the_stopped_stay_stopped(
        steps in proptest::collection::vec((0..20_u8, any::<u8>(), any::<u8>()), 0..80),
    ) {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(run(steps));
    }
}
