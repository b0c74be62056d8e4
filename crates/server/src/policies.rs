//! The policy files: read, judged, tested, and put in force.
//!
//! A file is a proposal. What runs is a set that was activated, on record with its author and
//! what its test cases came to. On a development node the files activate themselves.

mod offline;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gateway::Trial;
use inspect::{Inspector, Uninspectable};
use ledger::Actor;
use policy::cases::{self, Known};
use policy::{Diagnostic, Engine, PolicyFile, PolicySet, Severity};
use register::TestResults;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use vocab::finding::Class;
use vocab::{AdminId, Digest, UpstreamName};

use crate::config::{Config, Environment};
use crate::node::Shared;
use crate::output::count;

pub use offline::{Offline, ToolsFile, on_record};

/// How often a development node looks whether a file was edited.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Longest policy or case file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What a look at the policy files found.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// Whether the set could be activated.
    pub valid: bool,
    /// The set's digest, if it parses.
    pub set: Option<Digest>,
    /// How many policies it has.
    pub policies: usize,
    /// Upstreams whose tools are not known, and the policies that could therefore not be checked.
    pub unchecked: BTreeMap<UpstreamName, Vec<String>>,
    /// What there is to say.
    pub diagnostics: Vec<Diagnostic>,
}

/// What the test cases came to.
#[derive(Debug, Serialize)]
pub struct TestReport {
    /// Cases that came out as expected.
    pub passed: u32,
    /// Cases that did not.
    pub failed: u32,
    /// What each came to.
    pub cases: Vec<cases::CaseResult>,
    /// What is wrong with the files.
    pub diagnostics: Vec<Diagnostic>,
}

/// A set that was put in force.
#[derive(Debug, Serialize)]
pub struct Applied {
    /// Its digest.
    pub set: Digest,
    /// How many policies it has.
    pub policies: usize,
    /// Who proposed it.
    pub author: AdminId,
    /// What its cases came to.
    pub passed: u32,
    /// What its cases came to.
    pub failed: u32,
    /// Names that it says and nobody has.
    pub warnings: Vec<Diagnostic>,
}

/// Why a set was not put in force. The one that was stays.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A file cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// The files are not a valid set.
    #[error("the policies are not valid, so what was in force stays in force:\n{}", lines(.0))]
    Invalid(Vec<Diagnostic>),
    /// Cases failed.
    #[error("{} failed, so what was in force stays in force:\n{}", count(.0.failed, "test case", "test cases"), failures(.0))]
    Tests(Box<TestReport>),
    /// Judging them ended early.
    #[error("the policies were not judged, so what was in force stays in force: {0}")]
    Unfinished(String),
    /// It could not be put on record.
    #[error(transparent)]
    Plane(#[from] gateway::PlaneError),
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

fn failures(report: &TestReport) -> String {
    let failed = report.cases.iter().filter(|case| !case.passed);
    let told = failed.map(|case| {
        let mismatch = case.mismatch.as_deref().unwrap_or_default();
        format!("{}:{}: {}: {mismatch}", case.file, case.line, case.name)
    });
    told.collect::<Vec<_>>().join("\n")
}

/// The files of a policy folder: policies and test cases.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Files {
    policies: Vec<PolicyFile>,
    cases: Vec<PolicyFile>,
}

impl Files {
    /// Reads `*.cedar` and `*.test.yaml` of a folder, and of `tests/` in it.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let mut files = Self::default();
        files.read_folder(folder, "")?;
        let tests = folder.join("tests");
        if tests.is_dir() {
            files.read_folder(&tests, "tests/")?;
        }
        files.policies.sort_by(|a, b| a.name.cmp(&b.name));
        files.cases.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> Result<(), String> {
        let told = |error: std::io::Error| format!("cannot read `{}`: {error}", folder.display());
        for entry in std::fs::read_dir(folder).map_err(told)? {
            let path = entry.map_err(told)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            // Names are taken as they are written: `A.CEDAR` is no policy file.
            let ends = |end: &str| name.len() > end.len() && name.ends_with(end);
            let is_policy = ends(".cedar");
            let is_case =
                ends(".test.yaml") || (!prefix.is_empty() && (ends(".yaml") || ends(".yml")));
            if name.starts_with('.') || !(is_policy || is_case) || !path.is_file() {
                continue;
            }
            let told = |error: std::io::Error| format!("cannot read `{}`: {error}", path.display());
            if std::fs::metadata(&path).map_err(told)?.len() > FILE_BYTES_MAX {
                let path = path.display();
                return Err(format!("`{path}` is longer than {FILE_BYTES_MAX} bytes"));
            }
            let text = std::fs::read_to_string(&path).map_err(told)?;
            let file = PolicyFile {
                name: format!("{prefix}{name}"),
                text,
            };
            if is_policy {
                self.policies.push(file);
            } else {
                self.cases.push(file);
            }
        }
        Ok(())
    }

    /// Whether there is no policy at all.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }
}

fn parsed(files: &Files) -> Result<PolicySet, Vec<Diagnostic>> {
    PolicySet::parse(files.policies.clone())
}

/// What policies are judged by.
pub trait Ground {
    /// An engine on a proposed set.
    fn engine(&self, set: &PolicySet) -> Engine;

    /// Who is registered, and what else policies may name.
    fn known(&self) -> Known;
}

impl Ground for Shared {
    fn engine(&self, set: &PolicySet) -> Engine {
        self.plane.engine(set)
    }

    fn known(&self) -> Known {
        let sights = Sights::of(&self.config, &self.plane.inspector());
        self.plane.control().view(|state| {
            let agents = state.agents();
            let sponsors = state.sponsors().into_iter().filter_map(|it| it.id());
            let groups = state.groups().filter_map(|it| it.name());
            Known {
                agents: agents
                    .map(|agent| (agent.id.clone(), agent.purposes.clone()))
                    .collect(),
                sponsors: Some(sponsors.map(ToString::to_string).collect()),
                groups: Some(groups.map(str::to_owned).collect()),
                findings: Some(sights.findings),
                labels: Some(sights.labels),
            }
        })
    }
}

/// What policies may say of what passes.
struct Sights {
    findings: BTreeSet<String>,
    labels: BTreeSet<String>,
}

impl Sights {
    fn of(config: &Config, inspector: &Inspector) -> Self {
        let by_rule = |rule: &inspect::Rule| format!("{}/{}", rule.class(), rule.id());
        let unseen =
            Uninspectable::ALL.map(|why| format!("{}/{}", Class::Uninspectable, why.rule()));
        let upstreams = config.upstreams.values();
        let labels = upstreams.flat_map(|upstream| upstream.labels.all());
        Self {
            findings: inspector.rules().map(by_rule).chain(unseen).collect(),
            labels: labels.map(str::to_owned).collect(),
        }
    }
}

/// Judges the policy files of a folder.
pub fn check(ground: &dyn Ground, folder: &Path) -> Result<CheckReport, String> {
    Ok(judged(ground, &Files::read(folder)?))
}

fn judged(ground: &dyn Ground, files: &Files) -> CheckReport {
    match parsed(files) {
        Err(diagnostics) => CheckReport {
            valid: false,
            set: None,
            policies: 0,
            unchecked: BTreeMap::new(),
            diagnostics,
        },
        Ok(set) => {
            let engine = ground.engine(&set);
            let mut diagnostics = engine.diagnostics().to_vec();
            diagnostics.extend(cases::slips(&engine, &ground.known()));
            CheckReport {
                valid: !has_errors(&diagnostics),
                set: Some(set.digest()),
                policies: set.len(),
                unchecked: engine.unchecked().clone(),
                diagnostics,
            }
        }
    }
}

fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|it| it.severity == Severity::Error)
}

/// Runs the test cases beside the policy files of a folder.
pub fn test(ground: &dyn Ground, folder: &Path) -> Result<TestReport, String> {
    let files = Files::read(folder)?;
    match parsed(&files) {
        Err(diagnostics) => Ok(TestReport {
            passed: 0,
            failed: 0,
            cases: Vec::new(),
            diagnostics,
        }),
        Ok(set) => Ok(tested(&ground.engine(&set), &ground.known(), &files)),
    }
}

fn tested(engine: &Engine, known: &Known, files: &Files) -> TestReport {
    let mut report = TestReport {
        passed: 0,
        failed: 0,
        cases: Vec::new(),
        diagnostics: Vec::new(),
    };
    for file in &files.cases {
        match cases::parse(&file.name, &file.text) {
            Err(diagnostics) => report.diagnostics.extend(diagnostics),
            Ok(cases) => {
                for result in cases::run(engine, known, &cases) {
                    let counter = if result.passed {
                        &mut report.passed
                    } else {
                        &mut report.failed
                    };
                    *counter += 1;
                    report.cases.push(result);
                }
            }
        }
    }
    report
}

/// Puts the policy files in force.
pub async fn apply(
    shared: &Arc<Shared>,
    actor: Actor,
    author: AdminId,
) -> Result<Applied, ApplyError> {
    let files = Files::read(&shared.config.policies).map_err(ApplyError::Unreadable)?;
    let judged = beside(shared, move |shared| {
        let set = parsed(&files).map_err(ApplyError::Invalid)?;
        judge(shared, set, &files)
    });
    let judged = judged.await?;
    activate(shared, judged, actor, author).await
}

/// Runs what a large set makes long beside the calls.
async fn beside<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared) -> Result<T, ApplyError> + Send + 'static,
) -> Result<T, ApplyError> {
    let shared = Arc::clone(shared);
    let done = tokio::task::spawn_blocking(move || work(&shared)).await;
    done.unwrap_or_else(|cause| Err(ApplyError::Unfinished(cause.to_string())))
}

/// Judges files that are to be put in force, and runs their cases.
fn judge(shared: &Shared, set: PolicySet, files: &Files) -> Result<Judged, ApplyError> {
    let trial = shared.plane.trial(set);
    let diagnostics = trial.engine().diagnostics();
    if has_errors(diagnostics) {
        return Err(ApplyError::Invalid(diagnostics.to_vec()));
    }
    let known = shared.known();
    let slips = cases::slips(trial.engine(), &known);
    for slip in &slips {
        tracing::warn!("Policy problem: {slip}");
    }
    let tests = tested(trial.engine(), &known, files);
    if !tests.diagnostics.is_empty() {
        return Err(ApplyError::Invalid(tests.diagnostics));
    }
    if tests.failed > 0 {
        return Err(ApplyError::Tests(Box::new(tests)));
    }
    Ok(Judged {
        trial,
        tests,
        slips,
    })
}

/// Files that may be put in force.
struct Judged {
    trial: Trial,
    tests: TestReport,
    slips: Vec<Diagnostic>,
}

async fn activate(
    shared: &Shared,
    judged: Judged,
    actor: Actor,
    author: AdminId,
) -> Result<Applied, ApplyError> {
    let Judged {
        trial,
        tests,
        slips,
    } = judged;
    let results = TestResults {
        passed: tests.passed,
        failed: tests.failed,
    };
    let policies = trial.set().len();
    let plane = &shared.plane;
    let digest = plane
        .activate(actor, trial, author.clone(), results)
        .await?;
    tracing::info!(
        "Policy set {digest} is in force: {}",
        count(policies, "policy", "policies")
    );
    Ok(Applied {
        set: digest,
        policies,
        author,
        passed: tests.passed,
        failed: tests.failed,
        warnings: slips,
    })
}

/// The node itself, as the author of what a development node activates by itself.
fn self_author() -> AdminId {
    #[expect(clippy::expect_used, reason = "a constant that is a valid name")]
    "file-edit".parse().expect("a valid name")
}

/// Activates `files` if they are something else than what is in force.
async fn reconsider(shared: &Arc<Shared>, files: &Files) -> Result<(), ApplyError> {
    let files = files.clone();
    let judged = beside(shared, move |shared| {
        let (in_force, _) = shared.plane.policy_status();
        let set = parsed(&files).map_err(ApplyError::Invalid)?;
        if in_force == Some(set.digest()) {
            return Ok(None);
        }
        judge(shared, set, &files).map(Some)
    });
    if let Some(judged) = judged.await? {
        let actor = Actor::node(&shared.config.node);
        activate(shared, judged, actor, self_author()).await?;
    }
    Ok(())
}

/// The policy files as a development node last saw them.
#[derive(Debug)]
pub struct Seen {
    files: Option<Files>,
    /// If they are not in force, the tool lists by which they were judged. A file can fail for a
    /// reason outside of it (a tool that was not listed yet), so it is judged again by others.
    refused_at: Option<u64>,
}

/// At the start: what was in force stays; a development node takes the files as they are.
pub async fn activate_at_start(shared: &Arc<Shared>) -> Option<Seen> {
    match shared.config.environment {
        Environment::Production => None,
        Environment::Development => {
            let files = Files::read(&shared.config.policies);
            Some(take(shared, files).await)
        }
    }
}

async fn take(shared: &Arc<Shared>, files: Result<Files, String>) -> Seen {
    let tools = shared.plane.tools_generation();
    let outcome = match &files {
        Ok(files) => reconsider(shared, files).await,
        Err(error) => Err(ApplyError::Unreadable(error.clone())),
    };
    if let Err(error) = &outcome {
        tracing::error!("The policy files are not in force: {error}");
    }
    Seen {
        files: files.ok(),
        refused_at: outcome.is_err().then_some(tools),
    }
}

/// On a development node: activates edited files within a second.
pub async fn watch(shared: Arc<Shared>, mut seen: Seen, stop: CancellationToken) {
    let mut last = seen.files.clone();
    while stop
        .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
        .await
        .is_some()
    {
        let now = Files::read(&shared.config.policies);
        // A file that is being written is not judged: two looks must see the same.
        let settled = now.as_ref().ok() == last.as_ref();
        last = now.as_ref().ok().cloned();
        let tools = shared.plane.tools_generation();
        let edited = now.as_ref().ok() != seen.files.as_ref();
        if settled && (edited || seen.refused_at.is_some_and(|refused| refused != tools)) {
            seen = take(&shared, now).await;
        }
    }
}
