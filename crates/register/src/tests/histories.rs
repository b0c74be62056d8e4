//! Random histories: whatever is asked for in whatever order, folding the log again gives the same
//! state, what was refused left no trace, and nobody acts who was stopped.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use vocab::digest::Digest;
use vocab::id::Handle;

use super::*;
use crate::break_glass::{GlassCommand, GlassOver};
use crate::entry::Via;
use crate::lifecycle::InstanceLife;
use crate::signing::TokenKeyCommand;
use crate::state::{CutOf, Instance, Origin};
use crate::{fold_on, fold_prefix, snapshot};

/// A step, as numbers so that it shrinks: what, and which of a few.
type Step = (u8, u8, u8);

/// What was done, kept by other means than the register's.
#[derive(Default)]
struct Model {
    /// By handle, since an id is free again once who it named was erased; and whether a signal
    /// stopped them, or an administrator.
    suspended_sponsors: HashSet<(String, bool)>,
    suspended_agents: HashSet<String>,
    retired_agents: HashSet<String>,
    /// Ended, or started under a sponsor or in a session that is over.
    ended: HashSet<InstanceId>,
    lapsed: HashSet<String>,
    all_stopped: bool,
    instances: Vec<Ran>,
    erased: HashSet<String>,
    /// Break-glasses that were opened: by which entry, and until when.
    broken: HashMap<String, (u64, Time)>,
    keys: u32,
}

struct Ran {
    id: InstanceId,
    agent: String,
    sponsor: String,
    parent: Option<InstanceId>,
    /// What seals what was handed on to it.
    sealed_by: Option<Handle>,
    /// The register may not forget it before.
    kept_until: Time,
}

const SPONSORS: [&str; 2] = ["maja", "noor"];
const ADMINS: [&str; 2] = ["ops", "duty"];
const AGENTS: [&str; 3] = ["triage", "billing", "ops"];

fn pick<'a>(from: &[&'a str], which: u8) -> &'a str {
    from[usize::from(which) % from.len()]
}

impl Model {
    fn command(&mut self, node: &Node, (what, a, b): Step) -> Option<Command> {
        let (sponsor, agent) = (pick(&SPONSORS, a), pick(&AGENTS, a));
        Some(match what {
            0 => add_sponsor(sponsor),
            1 if b.is_multiple_of(2) => Command::SuspendSponsor {
                id: sponsor.parse().unwrap(),
                signal: Some(signal("deactivated")),
            },
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
                    let key = agent.and_then(|agent| agent.key.clone());
                    key.map_or_else(|| "k1".to_owned(), |key| key.kid.to_string())
                });
                let binding = match b % 4 {
                    0 => Binding::Bearer,
                    key => Binding::Dpop { jkt: jkt(key) },
                };
                let purpose = if b < 128 { "triage" } else { "triage/refunds" };
                start_with(agent, &kid, purpose, binding)
            }
            15 => {
                let id = &self.instance(b)?.id;
                end(id, EndReason::ALL[usize::from(a) % 5])
            }
            16 => configure("files"),
            17 if b.is_multiple_of(8) => {
                let handle = node.control.view(|state| {
                    let sponsor = state.sponsor_by_id(&sponsor.parse().unwrap());
                    sponsor.map(|sponsor| sponsor.handle.clone())
                })?;
                Command::Erase { handle }
            }
            18 => Command::AddDirectoryToken {
                digest: Digest::of(&[a, b]),
            },
            19 => {
                let token = node.control.view(|state| {
                    let mut tokens = state.directory_tokens().map(|it| it.id.clone());
                    tokens.nth(usize::from(b) % 4)
                })?;
                Command::RemoveDirectoryToken { token }
            }
            20..=23 => {
                let parent = self.instance(b)?;
                Command::Delegate(Box::new(Delegation {
                    parent: parent.id.clone(),
                    agent: agent.parse().unwrap(),
                    kid: (a % 2 == 0).then(|| "k1".parse().unwrap()),
                    once: false,
                    purpose: "triage/refunds".parse().unwrap(),
                    binding: Binding::Dpop { jkt: jkt(b % 8) },
                    upstream: "files".parse().unwrap(),
                    authority: (b % 3 > 0).then(|| {
                        let text = format!(
                            r#"[{{"type":"mcp_tool","locations":["files"],"identifier":"t*","arguments":{{"n":{{"max":{}}}}}}}]"#,
                            b % 5
                        );
                        Arc::new(serde_json::from_str(&text).unwrap())
                    }),
                    max_calls: Some(u64::from(a)),
                    lifetime: None,
                }))
            }
            24 => transfer(agent, pick(&SPONSORS, b)),
            25 => Command::LapseAgent {
                agent: agent.parse().unwrap(),
                signal: signal("department-changed"),
            },
            26 | 27 => {
                let (sponsor, asked_in) = node.control.view(|state| {
                    let agent = state.agent(&agent.parse().unwrap())?;
                    Some((agent.sponsor.clone(), agent.asked_in))
                })?;
                Command::AcceptAgent {
                    agent: agent.parse().unwrap(),
                    sponsor,
                    sign_in: SignIn::Oidc,
                    asked_in,
                    terms: node.keep(b"terms"),
                    signed_in: None,
                }
            }
            28 => Command::RevokeSessions {
                sponsor: handle_of(node, sponsor)?,
                signal: signal("session-revoked"),
            },
            29 if b >= 200 => Command::ActivatePolicy {
                set: node.keep(&[b % 3]),
                author: "uid:1000".parse().unwrap(),
                tests: crate::TestResults::default(),
            },
            29 => Command::AddGroup {
                profile: group_profile(&format!("group {}", b % 3)),
                members: handle_of(node, sponsor).into_iter().collect(),
                signal: signal("provisioned"),
            },
            30 => {
                let member = handle_of(node, sponsor)?;
                let group = node.control.view(|state| {
                    let mut groups = state.groups().map(|it| it.handle.clone());
                    groups.nth(usize::from(b) % 3)
                })?;
                let (added, removed) = if b.is_multiple_of(2) {
                    (vec![member], Vec::new())
                } else {
                    (Vec::new(), vec![member])
                };
                if (200..240).contains(&b) {
                    return Some(Command::ChangeGroup {
                        group,
                        profile: group_profile(&format!("group {}", a % 5)),
                        signal: signal("changed"),
                    });
                }
                if b >= 240 {
                    let signal = signal("provisioned");
                    return Some(Command::RemoveGroup { group, signal });
                }
                Command::ChangeMembers {
                    group,
                    added,
                    removed,
                    signal: signal("provisioned"),
                }
            }
            31 if b.is_multiple_of(2) => Command::LiftSuspension {
                sponsor: handle_of(node, sponsor)?,
                event: "deactivated".parse().unwrap(),
                signal: signal("reactivated"),
            },
            31 => Command::ChangeSponsor {
                sponsor: handle_of(node, sponsor)?,
                person: Box::new(person(sponsor, b)),
                changes: vec!["department".parse().unwrap()],
                signal: signal("provisioned"),
            },
            32 => {
                let kid: crate::text::KeyId = format!("t{}", b % 6).parse().unwrap();
                let log = vocab::LogName::ALL[usize::from(b % 2)];
                let (one, other) = (1 + b / 2 % 3, 1 + a / 8 % 3);
                match a % 8 {
                    5 => log_keys::announce(log, one, other),
                    6 => log_keys::activate(log, one, (b % 2 == 0).then_some((other, 1 << 20))),
                    7 => log_keys::retire(log, one, other == 1),
                    0 => Command::AddTokenKey { kid, jwk: jwk() },
                    1 => Command::TokenKey(TokenKeyCommand::Announce { kid, jwk: jwk() }),
                    2 => Command::TokenKey(TokenKeyCommand::Activate { kid }),
                    3 => Command::TokenKey(TokenKeyCommand::Retire { kid }),
                    _ => Command::TokenKey(TokenKeyCommand::Revoke { kid }),
                }
            }
            33 if b.is_multiple_of(4) => Command::StopAll {
                signal: signal("kill"),
            },
            34 | 35 => Command::ResumeAll,
            36..=39 => {
                let binding = match b % 4 {
                    0 => Binding::Bearer,
                    key => Binding::Dpop { jkt: jkt(key) },
                };
                let purpose = if b < 64 { "triage/refunds" } else { "triage" };
                by_workload(
                    agent,
                    pick(&["ci", "cluster"], b >> 4),
                    b >> 3 & 1,
                    purpose,
                    binding,
                )
            }
            40 | 41 => Command::BreakGlass(GlassCommand::Request {
                agent: agent.parse().unwrap(),
                reason: "INC-4711".parse().unwrap(),
                lasts: minutes(u64::from(a) + 1),
            }),
            42..=44 => {
                let id = node.control.view(|state| {
                    let mut last: Vec<_> = state.break_glasses().map(|it| it.id.clone()).collect();
                    last.reverse();
                    last.get(usize::from(a) % 2).cloned()
                })?;
                Command::BreakGlass(if what == 44 {
                    GlassCommand::End {
                        id,
                        cause: [GlassOver::Ended, GlassOver::Expired][usize::from(b) % 2],
                    }
                } else {
                    GlassCommand::Open { id }
                })
            }
            45 if b.is_multiple_of(4) => Command::RemoveAdmin {
                id: pick(&ADMINS, a).parse().unwrap(),
            },
            45 => Command::AddAdmin {
                key: key_of(pick(&ADMINS, a), a % 2),
            },
            46 => {
                let keys = self.instances.iter().rev();
                let mut keys = keys.filter_map(|it| it.sealed_by.clone());
                let handle = keys.nth(usize::from(a % 4))?;
                Command::Erase { handle }
            }
            _ => return None,
        })
    }

    fn instance(&self, which: u8) -> Option<&Ran> {
        self.instances
            .get(usize::from(which) % self.instances.len().max(1))
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
            Command::TransferAgent { agent, .. } => {
                let theirs = self
                    .instances
                    .iter()
                    .filter(|it| it.agent == agent.as_str());
                self.ended.extend(theirs.map(|it| it.id.clone()));
                self.lapsed.remove(agent.as_str());
            }
            Command::StopAll { .. } => self.all_stopped = true,
            Command::ResumeAll => self.all_stopped = false,
            Command::LapseAgent { agent, .. } => {
                self.lapsed.insert(agent.to_string());
            }
            Command::AcceptAgent { agent, .. } => {
                self.lapsed.remove(agent.as_str());
            }
            Command::RevokeSessions { sponsor, .. } => {
                let theirs = self
                    .instances
                    .iter()
                    .filter(|it| it.sponsor == sponsor.as_str());
                self.ended.extend(theirs.map(|it| it.id.clone()));
            }
            Command::SuspendSponsor { id, signal } => {
                self.suspended_sponsors
                    .insert((handle(id), signal.is_some()));
            }
            Command::ResumeSponsor { id, .. } => {
                let id = handle(id);
                self.suspended_sponsors.retain(|(it, _)| *it != id);
            }
            Command::LiftSuspension { sponsor, .. } => {
                self.suspended_sponsors.remove(&(sponsor.to_string(), true));
            }
            Command::SuspendAgent { id, .. } => {
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
            Command::BreakGlass(GlassCommand::Open { id }) => {
                let glass = node.control.view(|state| state.break_glass(id).cloned());
                let glass = glass.unwrap();
                let opened = glass.opened.clone().unwrap();
                assert_ne!(glass.requested.admin, opened.admin);
                let until = opened.at.plus(glass.lasts);
                self.broken.insert(id.to_string(), (opened.record, until));
            }
            Command::BreakGlass(GlassCommand::End { id, cause }) => {
                let until = self.broken.get(id.as_str()).map(|(_, until)| *until);
                if *cause == GlassOver::Ended || until.is_some_and(|it| it <= node.now()) {
                    self.broken.remove(id.as_str());
                }
            }
            Command::RemoveAdmin { .. } => self.broken.retain(|id, _| {
                let glass = node.control.view(|state| {
                    let glass = state.break_glass(&id.parse().unwrap());
                    glass.cloned().unwrap()
                });
                let hands = [Some(&glass.requested), glass.opened.as_ref()];
                let mut hands = hands.into_iter().flatten();
                hands.all(|hand| node.control.view(|it| it.admin(&hand.admin).is_some()))
            }),
            _ => {}
        }
        if let Done::Started { instance, .. } = done {
            self.instances.push(Ran {
                id: instance.id.clone(),
                agent: instance.agent.to_string(),
                sponsor: instance.sponsor.to_string(),
                parent: instance.parent.clone(),
                sealed_by: instance.authority.as_ref().map(|it| {
                    let sealed = it.sealed.as_ref().expect("nothing is written in clear");
                    sealed.key.clone()
                }),
                kept_until: instance.expires_at.plus(minutes(7 * 24 * 60)),
            });
        }
    }

    fn check(&self, node: &Node) {
        for ran in &self.instances {
            let (id, stopped) = (&ran.id, self.stopped(node, ran));
            match node.narrowed(id) {
                None if stopped => self.check_broken(node, id),
                // It was ended because its key came back after it had expired.
                None | Some(Why::InstanceExpired | Why::InstanceEnded) => {}
                // Its time was over for so long that it was forgotten.
                Some(Why::Unknown) => assert!(node.now() >= ran.kept_until),
                // One above it may have expired.
                Some(Why::AncestorNarrowed) => assert!(ran.parent.is_some()),
                Some(why) => assert!(stopped, "{id} is narrowed by {why:?} for no reason"),
            }
        }
    }

    /// Who was stopped acts only by a break-glass that two opened, which no cut followed and whose
    /// time is not over.
    fn check_broken(&self, node: &Node, id: &InstanceId) {
        let active = node.control.standing(id, node.now()).active().unwrap();
        assert!(
            !active.under().is_empty(),
            "{id} acts although it was stopped"
        );
        assert!(!self.all_stopped);
        for glass in active.under() {
            let (record, until) = self.broken[glass.id.as_str()];
            assert!(node.now() < until);
            let agent = glass.agent.as_str();
            assert!(!self.suspended_agents.contains(agent) && !self.retired_agents.contains(agent));
            let (sponsor, last) = node.control.view(|state| {
                let sponsor = state.agent(&glass.agent).unwrap().sponsor.clone();
                let of = [
                    CutOf::Sponsor(sponsor.clone()),
                    CutOf::Agent(glass.agent.clone()),
                ];
                let ended = ledger::Kind::BreakGlassEnded;
                let mut cuts = state
                    .cuts()
                    .filter(|it| of.contains(&it.of) && it.kind != ended);
                (sponsor.to_string(), cuts.next_back().map(|cut| cut.record))
            });
            assert!(last.is_none_or(|last| last < record), "a cut came after it");
            assert!(!self.erased.contains(&sponsor));
        }
        let ran = self.instances.iter().find(|it| it.id == *id).unwrap();
        assert!(!self.ended.contains(&ran.id) && !self.erased.contains(&ran.sponsor));
        assert!(!self.is_unknown(ran));
    }

    /// Whether what was handed on to it was erased.
    fn is_unknown(&self, ran: &Ran) -> bool {
        let sealed_by = ran.sealed_by.as_ref();
        sealed_by.is_some_and(|key| self.erased.contains(key.as_str()))
    }

    /// Whether it was stopped itself, or one above it was.
    fn stopped(&self, node: &Node, ran: &Ran) -> bool {
        let agents_sponsor = node.control.view(|state| {
            let agent = state.agent(&ran.agent.parse().unwrap()).unwrap();
            agent.sponsor.to_string()
        });
        let parent = ran.parent.as_ref();
        let parent = parent.and_then(|id| self.instances.iter().find(|it| it.id == *id));
        [&ran.sponsor, &agents_sponsor].into_iter().any(|it| {
            self.erased.contains(it) || self.suspended_sponsors.iter().any(|(held, _)| held == it)
        }) || self.all_stopped
            || self.suspended_agents.contains(&ran.agent)
            || self.retired_agents.contains(&ran.agent)
            || self.lapsed.contains(&ran.agent)
            || self.ended.contains(&ran.id)
            || self.is_unknown(ran)
            || parent.is_some_and(|parent| self.stopped(node, parent))
    }
}

/// By key, workload, agent and purpose, no more than one instance runs.
fn check_single(node: &Node, model: &Model) {
    let mut seen = HashSet::new();
    for ran in &model.instances {
        let Some(instance) = node.control.view(|state| state.instance(&ran.id).cloned()) else {
            assert!(node.now() >= ran.kept_until);
            continue;
        };
        let (Binding::Dpop { jkt }, InstanceLife::Running) = (instance.binding, instance.life)
        else {
            continue;
        };
        let who = match &instance.origin {
            Origin::AgentKey(_) => "its key".to_owned(),
            Origin::Via(Via::Workload { issuer, subject }) => format!("{issuer:?} {subject}"),
            Origin::Via(_) => continue,
        };
        let purpose = instance.purpose.to_string();
        assert!(
            seen.insert((ran.agent.clone(), who, jkt, purpose)),
            "{} runs beside another",
            ran.id
        );
    }
}

/// What goes on is what was asked for, and may act.
fn check_continued(node: &Node, command: &Command, instance: &Instance) {
    assert_eq!(node.narrowed(&instance.id), None);
    let (agent, origin, binding, purpose) = match command {
        Command::StartInstance {
            agent,
            binding,
            purpose,
            ..
        } => (agent, None, binding, purpose),
        Command::StartFor {
            agent,
            via,
            binding,
            purpose,
            ..
        } => (agent, Some(via), binding, purpose),
        other => panic!("{other:?} continues nothing"),
    };
    assert_eq!(
        (&instance.agent, &instance.binding, &instance.purpose),
        (agent, binding, purpose)
    );
    assert!(binding.proven());
    match (&instance.origin, origin) {
        (Origin::AgentKey(_), None) => {}
        (Origin::Via(had), Some(via)) => assert_eq!(had, via),
        other => panic!("{other:?}"),
    }
}

/// Whatever a cut covers was started before it, and all that is below it is covered too.
fn check_covered(node: &Node) {
    node.control.view(|state| {
        for cut in state.cuts() {
            let covered = state.covered(cut);
            let ids: HashSet<_> = covered.iter().map(|it| &it.id).collect();
            assert_eq!(ids.len(), covered.len());
            for instance in &covered {
                assert!(instance.record < cut.record);
                for child in state.children(&instance.id, cut.at) {
                    let is_running = child.life == InstanceLife::Running;
                    // A transfer before the cut had ended it already.
                    let agent = state.agent(&child.agent).unwrap();
                    let past = agent.past_sponsors.iter().map(|past| past.record);
                    let over = past
                        .into_iter()
                        .any(|it| child.record < it && it < cut.record);
                    let before = child.record < cut.record && !child.outlived(cut.at) && !over;
                    assert!(!is_running || !before || ids.contains(&child.id));
                }
            }
            // Nobody who acts is covered by the last cut, unless it was lifted since.
            let is_last = state.size() == cut.record + 1;
            for instance in covered.iter().filter(|_| is_last) {
                assert!(node.narrowed(&instance.id).is_some(), "{cut:?}");
            }
        }
    });
}

/// Certifies whatever was cut.
async fn certify(node: &Node) {
    let cuts: Vec<u64> = node.control.view(|state| state.uncertified().collect());
    for cut in cuts {
        node.ok(certified(node, cut)).await;
    }
}

pub(super) async fn keep(node: &Node) -> Vec<u8> {
    let snapshot = node.control.snapshot().await.unwrap();
    snapshot.write(&*node.log, &log_key()).unwrap()
}

/// A snapshot, and what came after it, is what the whole log adds up to: with names and without.
/// What is found by more than its id is counted again on the way.
pub(super) fn check_kept(node: &Node, kept: &[u8]) {
    for keyring in [Some(&*node.keyring as &dyn ledger::Keyring), None] {
        let mut state = snapshot::read(kept, log_key().verifier(), &*node.log, keyring).unwrap();
        let then = fold_prefix(&*node.log, keyring, state.size()).unwrap();
        assert_eq!(state, then);
        fold_on(&mut state, &*node.log, keyring, node.log.len()).unwrap();
        let whole = fold_prefix(&*node.log, keyring, node.log.len()).unwrap();
        assert_eq!(state, whole);
    }
}

async fn run(steps: Vec<Step>, kept_at: usize) {
    let mut node = Node::ready().await;
    for (admin, seed) in [("ops", 0), ("duty", 1)] {
        let key = key_of(admin, seed);
        node.ok(Command::AddAdmin { key }).await;
    }
    let mut kept = keep(&node).await;
    let mut model = Model::default();
    let mut restarted = false;
    for (nth, step) in steps.into_iter().enumerate() {
        if nth == kept_at {
            kept = keep(&node).await;
        }
        match step {
            (18, by, 0..32) => node.clock.advance(minutes(u64::from(by) * 24 * 60 / 16)),
            (18, by, _) => node.clock.advance(minutes(u64::from(by))),
            (19, 0..64, 0..128) => certify(&node).await,
            (19, 0..64, _) => {
                // What was idle may be live again, and then be more than the most.
                restarted = true;
                node = node.restarted().unwrap();
            }
            (19, _, which) => {
                if let Some(ran) = model.instances.get(usize::from(which)) {
                    node.control.touch(&ran.id, node.now());
                }
            }
            step => {
                let Some(command) = model.command(&node, step) else {
                    continue;
                };
                let before = node.log.len();
                let actor = match &command {
                    Command::BreakGlass(_) => {
                        let admin = pick(&ADMINS, step.2 >> 4);
                        let key = node.control.view(|state| {
                            let admin = state.admin(&admin.parse().unwrap());
                            admin.map(|admin| admin.key.clone())
                        });
                        key.map_or_else(super::admin, |key| by_key(&key))
                    }
                    _ => admin(),
                };
                let answer = node.control.execute(actor, command.clone()).await;
                let written = node.log.len() - before;
                match &answer {
                    Ok(Done::Changed { records, .. }) => {
                        assert_eq!(records.len() as u64, written);
                    }
                    Ok(Done::Started { record, .. }) => {
                        assert_eq!(record.index, before + written - 1);
                    }
                    Ok(Done::Continued { instance }) => {
                        assert_eq!(written, 0, "{answer:?}");
                        check_continued(&node, &command, instance);
                    }
                    Ok(Done::Unchanged { .. }) | Err(CommandError::Refused(_)) => {
                        assert_eq!(written, 0, "{answer:?}");
                    }
                    Err(error) => panic!("{command:?}: {error:?}"),
                }
                if let Ok(done) = &answer {
                    model.done(&node, &command, done);
                }
            }
        }
        model.check(&node);
        check_covered(&node);
        check_single(&node, &model);
    }
    check_kept(&node, &kept);
    let last = keep(&node).await;
    check_kept(&node, &last);
    for text in [node.log.text().into(), String::from_utf8_lossy(&last)] {
        assert!(
            !text.contains("mcp_tool") && !text.contains(r#""n""#),
            "{text}"
        );
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
        steps in proptest::collection::vec((0..47_u8, any::<u8>(), any::<u8>()), 0..80),
        kept_at in 0..80_usize,
    ) {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(run(steps, kept_at));
    }
}
