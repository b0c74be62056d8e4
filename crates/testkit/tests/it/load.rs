//! Switched off under load: clients call without end while something is taken away. From then on
//! nothing that they begin reaches the upstream, as its own count says, and when it is given back
//! they are served again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::record::{Came, OutcomeBody};
use ledger::Kind;
use mcp::Era;
use serde_json::{Value, json};
use server::node::StartError;
use store::Fault;
use testkit::{Agent, Line, Plane, Reply, Script, Setup, Speaks, Upstream, until, within};
use tokio::task::JoinHandle;

use crate::common::{Client, ERAS};

/// How many clients call at once.
const CLIENTS: usize = 6;

/// What a client was told about a call.
#[derive(Debug, Clone)]
struct Told {
    /// The number that the call was given when it was begun, and has as its argument.
    number: u64,
    status: u16,
    /// Whether the tool's result came back.
    served: bool,
    said: String,
}

/// Clients of both eras, each calling as fast as it is answered.
#[derive(Debug)]
struct Load {
    upstream: Upstream,
    begun: Arc<AtomicU64>,
    told: Arc<Mutex<Vec<Told>>>,
    over: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
}

impl Load {
    async fn begin(plane: &Plane, agent: &Agent, upstream: &str, eras: &[Era]) -> Self {
        let mut load = Self {
            upstream: plane.upstream(upstream).clone(),
            // Numbers go on from load to load, so that one is one call's for ever.
            begun: Arc::new(AtomicU64::new(plane.calls().calls.len() as u64 * 1000)),
            told: Arc::default(),
            over: Arc::default(),
            workers: Vec::new(),
        };
        for era in eras.iter().copied().cycle().take(CLIENTS) {
            let client = Client::new(&agent.token(upstream).await, era).await;
            load.workers.push(load.worker(client));
        }
        load
    }

    /// Starts, and waits until calls are served.
    async fn start(plane: &Plane, agent: &Agent, upstream: &str, eras: &[Era]) -> Self {
        let load = Self::begin(plane, agent, upstream, eras).await;
        let served = load.fresh(24).await;
        assert!(served.iter().all(|it| it.served), "{served:?}");
        load
    }

    fn worker(&self, client: Client) -> JoinHandle<()> {
        let (begun, told, over) = (
            Arc::clone(&self.begun),
            Arc::clone(&self.told),
            Arc::clone(&self.over),
        );
        tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                let number = begun.fetch_add(1, Ordering::SeqCst);
                let arguments = format!(r#"{{"number":{number}}}"#);
                let answer = client.ask_call("anything", &arguments).try_send().await;
                let heard = match answer.map(Reply::from) {
                    Some(reply) => Told {
                        number,
                        status: reply.status.as_u16(),
                        served: reply.effect() == "allow" && !reply.is_error(),
                        said: reply.said().to_owned(),
                    },
                    None => Told {
                        number,
                        status: 0,
                        served: false,
                        said: NOBODY.to_owned(),
                    },
                };
                told.lock().unwrap().push(heard);
                // Where nobody is, nothing takes time.
                tokio::task::yield_now().await;
            }
        })
    }

    /// What was told about calls that were begun after this was asked, once they are so many.
    async fn fresh(&self, count: usize) -> Vec<Told> {
        let from = self.begun.load(Ordering::SeqCst);
        let fresh = || {
            let told = self.told.lock().unwrap();
            let fresh = told.iter().filter(|it| it.number >= from).cloned();
            fresh.collect::<Vec<_>>()
        };
        until("calls are answered", async || fresh().len() >= count).await;
        fresh()
    }

    /// Waits until what is begun is served.
    async fn served(&self) {
        until("calls are served", async || {
            self.fresh(CLIENTS).await.iter().all(|it| it.served)
        })
        .await;
    }

    /// That what is begun from now on is refused in one of these ways, and does not reach anything.
    async fn refused(&self, what: &str, ways: &[&str]) {
        let fresh = self.fresh(24).await;
        let reached = self.reached();
        for told in fresh {
            assert!(!told.served, "{what}: {told:?}");
            assert!(!reached.contains(&told.number), "{what}: {told:?}");
            let way = ways
                .iter()
                .any(|way| told.said.contains(way) || told.status.to_string() == *way);
            assert!(way, "{what}: {told:?}");
        }
    }

    /// The numbers of the calls that reached the upstream.
    fn reached(&self) -> BTreeSet<u64> {
        let calls = self.upstream.seen_of("tools/call");
        calls
            .iter()
            .filter_map(|it| it.json()["params"]["arguments"]["number"].as_u64())
            .collect()
    }

    /// Has every client finish its call.
    async fn end(self) {
        self.over.store(true, Ordering::SeqCst);
        for worker in self.workers {
            within("a client", worker).await.unwrap();
        }
    }
}

fn unlimited(setup: &mut Setup) {
    setup.limits = "same_denials = 0\ncalls_per_minute = 1000000".to_owned();
}

/// That each of so many calls that reached upstreams is on record, and none that did not is said to
/// have been carried out. What was cut off on its way may have reached them or not.
fn on_record(plane: &Plane, reached: usize) {
    let ledger = plane.calls();
    let outcomes = ledger.of(Kind::Outcome).into_iter();
    let came: Vec<Came> = outcomes
        .map(Line::read::<OutcomeBody>)
        .map(|it| it.result)
        .collect();
    let count = |what| came.iter().filter(|it| **it == what).count();
    let (completed, unknown) = (count(Came::Completed), count(Came::Unknown));
    assert!(
        completed <= reached && reached <= completed + unknown,
        "{completed} completed, {unknown} unknown, {reached} reached an upstream"
    );
}

const UNRECORDED: &str = "could not be put on record";
const STOPPED: &str = "stopped serving";
const NOBODY: &str = "nobody";

#[tokio::test]
async fn the_ledger() {
    let mut plane = Plane::with(unlimited).await;
    let agent = plane.agent("triage").await;
    for fault in Fault::FAILURES {
        let load = Load::start(&plane, &agent, "files", &ERAS).await;
        plane.faults.set(fault);
        load.refused(&format!("{fault:?}"), &[UNRECORDED, STOPPED])
            .await;
        plane.faults.set(Fault::None);
        load.end().await;
        // An effect whose outcome could not be recorded was the last; the next start closes it.
        plane.restart().await;
    }
    let load = Load::start(&plane, &agent, "files", &ERAS).await;
    plane.faults.set(Fault::Slow(Duration::from_millis(20)));
    let slow = load.fresh(24).await;
    assert!(slow.iter().all(|it| it.served), "{slow:?}");
    load.end().await;
    on_record(&plane, plane.files().calls());
    plane.end().await;
}

#[tokio::test]
async fn policy() {
    let plane = Plane::with(unlimited).await;
    let agent = plane.agent("triage").await;
    let load = Load::start(&plane, &agent, "files", &ERAS).await;
    let all = "permit (principal, action, resource);";
    // Sets by which nothing is permitted; what is no set leaves them in force.
    for (policies, said) in [
        ("", "No policy permits"),
        ("forbid (principal, action, resource);", "Denied by policy"),
    ] {
        plane.activate(policies).await.unwrap();
        load.refused(policies, &[said]).await;
        plane.activate("permit (").await.unwrap_err();
        load.refused(policies, &[said]).await;
        plane.activate(all).await.unwrap();
        load.served().await;
    }
    // A list of tools by which a forbid cannot be judged.
    let list = async |tool: Value| {
        let mut tools = plane.files().tools();
        tools.retain(|it| it["name"] != "anything");
        tools.push(json!({"name": "anything", "inputSchema": tool}));
        plane.files().set_tools(tools);
        plane.refresh("files").await.unwrap();
        plane.accept("files").await;
    };
    let typed = json!({"type": "object", "properties": {"number": {"type": "integer"}},
                       "required": ["number"]});
    list(typed.clone()).await;
    let forbid = r#"forbid (principal, action == Action::"files/anything", resource)
                    when { context.args.number < 0 };"#;
    plane.activate(&format!("{all}\n{forbid}")).await.unwrap();
    load.served().await;
    list(json!({"type": "object", "additionalProperties": true})).await;
    load.refused("a changed list", &["does not fit the tools"])
        .await;
    list(typed).await;
    load.served().await;
    load.end().await;
    on_record(&plane, plane.files().calls());
    plane.end().await;
}

#[tokio::test]
async fn the_register() {
    let plane = Plane::with(unlimited).await;
    let agent = plane.agent("triage").await;
    // A session ends when its instance is cut, so these are clients without.
    let load = Load::start(&plane, &agent, "files", &[Era::Modern]).await;
    // Its log cannot be published: what it is told to cut is cut, and it says that it cannot say so.
    let (control, away) = (plane.data().join("control"), plane.data().join("away"));
    std::fs::rename(&control, &away).unwrap();
    std::fs::write(&control, "").unwrap();
    let answer = plane.admin("POST", "/v1/agents/triage/suspend", None).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    load.refused("suspended", &["401"]).await;
    let answer = plane.admin("POST", "/v1/agents/triage/resume", None).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    std::fs::remove_file(&control).unwrap();
    std::fs::rename(&away, &control).unwrap();
    plane.command("/v1/agents/triage/resume").await;
    load.served().await;
    load.end().await;
    on_record(&plane, plane.files().calls());
    plane.end().await;
}

#[tokio::test]
async fn the_keys() {
    let mut plane = Plane::with(unlimited).await;
    let agent = plane.agent("triage").await;
    // A session ends with the node, so these are clients without.
    let load = Load::start(&plane, &agent, "files", &[Era::Modern]).await;
    let keys = plane.folder().join("keys");
    for name in ["token.key", "facts.key", "control.skey", "calls.skey"] {
        std::fs::rename(keys.join(name), plane.folder().join("away")).unwrap();
        plane.stop().await.unwrap();
        let error = plane.boot().await.unwrap_err();
        assert!(matches!(error, StartError::Key(_)), "{name}: {error}");
        load.refused(name, &[NOBODY]).await;
        std::fs::rename(plane.folder().join("away"), keys.join(name)).unwrap();
        plane.boot().await.unwrap();
        load.served().await;
    }
    load.end().await;
    on_record(&plane, plane.files().calls());
    plane.end().await;
}

#[tokio::test]
async fn the_keyring() {
    let plane = Plane::with(unlimited).await;
    let agent = plane.agent("triage").await;
    let known = Load::start(&plane, &agent, "files", &ERAS).await;
    let (keyring, away) = (plane.data().join("keyring"), plane.data().join("away"));
    std::fs::rename(&keyring, &away).unwrap();
    std::fs::write(&keyring, "").unwrap();
    // The first call of an agent on a day needs a key to seal its facts under.
    let other = plane.agent("other").await;
    let new = Load::begin(&plane, &other, "files", &ERAS).await;
    new.refused("no keyring", &[UNRECORDED]).await;
    known.served().await;
    std::fs::remove_file(&keyring).unwrap();
    std::fs::rename(&away, &keyring).unwrap();
    new.served().await;
    new.end().await;
    known.end().await;
    on_record(&plane, plane.files().calls());
    plane.end().await;
}

#[tokio::test]
async fn the_clock() {
    let mut plane = Plane::with(unlimited).await;
    let agent = plane.agent("triage").await;
    plane.clock.advance(Duration::from_secs(30));
    let load = Load::start(&plane, &agent, "files", &ERAS).await;
    plane.clock.advance(Duration::from_secs(30));
    load.served().await;
    plane.clock.set_back(Duration::from_secs(20));
    load.refused("20 s back", &[UNRECORDED, STOPPED]).await;
    plane.clock.set_forward(Duration::from_secs(20));
    load.end().await;
    plane.restart().await;
    let load = Load::start(&plane, &agent, "files", &ERAS).await;
    load.end().await;
    on_record(&plane, plane.files().calls());
    plane.end().await;
}

#[tokio::test]
async fn an_upstream() {
    let (files, notes) = (
        Upstream::start(Speaks::Both).await,
        Upstream::start(Speaks::Both).await,
    );
    let plane = Plane::with(|setup| {
        unlimited(setup);
        setup.upstream("files", &files, "timeout_s = 1");
        setup.upstream("notes", &notes, "");
        setup.policies = "permit (principal, action, resource);".to_owned();
    })
    .await;
    let agent = plane.agent("triage").await;
    let well = Load::start(&plane, &agent, "notes", &ERAS).await;
    let ill = Load::start(&plane, &agent, "files", &ERAS).await;
    files.script("anything", Script::Hang);
    files.until_under_way(CLIENTS).await;
    // Everybody waits for it, and nobody for the other.
    let beside = well.fresh(24).await;
    assert!(beside.iter().all(|it| it.served), "{beside:?}");
    let late = ill.fresh(CLIENTS).await;
    assert!(
        late.iter().all(|it| it.said.contains("did not answer")),
        "{late:?}"
    );
    files.script("anything", Script::Echo);
    ill.served().await;
    ill.end().await;
    well.end().await;
    on_record(&plane, files.calls() + notes.calls());
    plane.end().await;
}
