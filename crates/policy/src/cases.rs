//! Test cases beside the policies: who, what, and what is expected.
//!
//! ```yaml
//! - name: a triage agent reads what is public
//!   who: {agent: triage, sponsor: maya, groups: [oncall], purpose: triage/refunds}
//!   call: files/read            # or files:resources/read
//!   args: {path: /public/a.txt}
//!   expect: allow
//!   policies: [public]          # exactly these, if given
//! - name: and nothing else
//!   who: {agent: triage}
//!   call: files/read
//!   args: {path: /etc/passwd}
//!   expect: deny
//!   reason: only what is public # the reason contains this, if given
//! - name: a large refund waits for two people
//!   who: {agent: triage, sponsor: maya}
//!   call: billing/refund
//!   args: {amount: 5000}
//!   approval: [li, {sponsor: sam, groups: [finance]}]  # who approved it, if anybody did
//!   expect: allow               # or hold, deny, or route: allowed, and sent elsewhere
//! ```
//!
//! | of `who` | is | without it |
//! | --- | --- | --- |
//! | `agent` | the agent's id | needed |
//! | `sponsor` | the sponsor's id | nobody: no policy that asks for one holds |
//! | `groups` | the names of the sponsor's groups, a list | none |
//! | `purpose` | why it acts, an id path | the agent's id |
//! | `ancestors` | the agents of the instances above it, a list; the first is the one that nobody delegated to. As many are its `depth` | none: `depth` is 0 |
//! | `root_purpose` | the purpose of the first of them | `purpose` |
//! | `proven` | whether the caller proved possession of its key | `true` |
//! | `environment` | where the agent is registered to run | empty |
//! | `allow` | the agent's allow list, as `tipstaff agent add --allow` has it: `files/read_*`, `files:resources/read` | no list: the policies alone decide |
//! | `instance` | the instance's id | one that is made up |
//!
//! Beside `who`, `call` and `expect`, a case may have `name`, `args`, `policies`, `stage`, `reason`
//! and `now`, the time of the call (`2026-01-01T00:00:00Z` without it); `findings`, what inspection
//! saw (`[secret, personal/card-number, "injection:high"]`), `direction` (`response` for what came back),
//! `labels`, what was read before, and `masks`, exactly what is to be masked; `route`, the upstream
//! where policy sends the call, or would once it is approved. A call that is sent elsewhere is none
//! that is expected with `allow`.
//!
//! A tool that is held at the moment (quarantined) is judged as if it were not: cases are about what
//! the policies say.
//!
//! A case fails that calls what is not there (an upstream, a tool, an argument), for it would be
//! denied whatever the policies say; one that means it names the `stage`: `unknown-tool`, `schema`.
//! So does one that expects a denial of an agent or a purpose that is neither registered nor named
//! by a policy, and is nearly the name of one that is.

mod names;

use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};
use serde::Serialize;
use serde_json::{Map, Number, Value};
use vocab::{AgentId, Time, UpstreamName, suggest};

pub use names::{Known, slips};

use crate::approval::ApprovedBy;
use crate::decision::{Effect, Verdict};
use crate::diagnostic::{Diagnostic, Place};
use crate::engine::Engine;
use crate::facts::{Approved, FACTS_VERSION, Facts, InstanceFacts, Target};
use crate::findings::{Direction, Found, Masks, Which};
use names::Fault;

/// Longest case file, in bytes.
const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// When a case happens that does not say: 2026-01-01T00:00:00Z.
const NOW: Time = Time::from_secs(1_767_225_600);

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The file it is in.
    pub file: String,
    /// Its line, from one.
    pub line: usize,
    /// The call.
    pub facts: Facts,
    /// What is expected.
    pub expect: Expected,
}

/// What a case expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Allowed, held or denied.
    pub effect: Effect,
    /// Exactly these policies, sorted.
    pub policies: Option<Vec<String>>,
    /// The stage of a denial.
    pub stage: Option<String>,
    /// Words of the reason.
    pub reason: Option<String>,
    /// Exactly what is to be masked.
    pub masks: Option<Masks>,
    /// Where it is sent.
    pub route: Route,
}

/// Where a case expects a call to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Where it was asked for; of a call that is not allowed, anywhere.
    Asked,
    /// To another upstream.
    Elsewhere,
    /// To that upstream.
    To(UpstreamName),
}

/// What came of a case.
#[derive(Debug, Clone, Serialize)]
pub struct CaseResult {
    /// The case.
    pub name: String,
    /// Where it is.
    pub file: String,
    /// Its line, from one.
    pub line: usize,
    /// Whether it came out as expected.
    pub passed: bool,
    /// What was expected instead of what came, if it did not.
    pub mismatch: Option<String>,
    /// What is odd about it, though it may be meant so.
    pub warning: Option<String>,
    /// What came.
    pub verdict: Verdict,
}

/// Reads a case file, or says everything that is wrong with it.
pub fn parse(file: &str, text: &str) -> Result<Vec<Case>, Vec<Diagnostic>> {
    let mut reader = Reader {
        file,
        problems: Vec::new(),
    };
    let cases = reader.file(text);
    if reader.problems.is_empty() {
        Ok(cases)
    } else {
        Err(reader.problems)
    }
}

/// Runs cases.
pub fn run(engine: &Engine, people: &Known, cases: &[Case]) -> Vec<CaseResult> {
    let one = |case| run_one(engine, people, case);
    cases.iter().map(one).collect()
}

fn run_one(engine: &Engine, people: &Known, case: &Case) -> CaseResult {
    let (void, warning) = match names::fault(engine, people, case) {
        Some(Fault::Void(why)) => (Some(why), None),
        Some(Fault::Odd(why)) => (None, Some(why)),
        None => (None, None),
    };
    // A tool may be held for what its upstream did; a set is not wrong for that.
    let verdict = engine.decide_as_accepted(&case.facts).verdict();
    let stage = verdict.stage.map_or("", crate::Stage::as_str);
    let expect = &case.expect;
    let mismatch = if void.is_some() {
        void
    } else if verdict.effect != expect.effect {
        Some(format!(
            "expected {}, got {}: {}",
            expect.effect.as_str(),
            verdict.effect.as_str(),
            verdict.reason
        ))
    } else if let Some(policies) = &expect.policies
        && *policies != verdict.policies
    {
        Some(format!(
            "expected policies [{}], got [{}]",
            policies.join(", "),
            verdict.policies.join(", ")
        ))
    } else if let Some(expected) = &expect.stage
        && expected != stage
    {
        Some(format!(
            "expected stage {expected}, got {stage}: {}",
            verdict.reason
        ))
    } else if let Some(words) = &expect.reason
        && !verdict.reason.contains(words)
    {
        Some(format!(
            "expected a reason with {words:?}, got {:?}",
            verdict.reason
        ))
    } else if let Some(masks) = &expect.masks
        && *masks != verdict.masks
    {
        let named = |masks: &Masks| Vec::from(masks.clone()).join(", ");
        Some(format!(
            "expected masks [{}], got [{}]",
            named(masks),
            named(&verdict.masks)
        ))
    } else {
        misrouted(&expect.route, &verdict)
    };
    CaseResult {
        name: case.name.clone(),
        file: case.file.clone(),
        line: case.line,
        passed: mismatch.is_none(),
        mismatch,
        warning,
        verdict,
    }
}

fn misrouted(expected: &Route, verdict: &Verdict) -> Option<String> {
    let went = verdict.routed_to.as_ref();
    let as_expected = match expected {
        Route::Asked => went.is_none() || verdict.effect != Effect::Allow,
        Route::Elsewhere => went.is_some(),
        Route::To(to) => went == Some(to),
    };
    let expected = match expected {
        Route::Asked => "no route".to_owned(),
        Route::Elsewhere => "a route".to_owned(),
        Route::To(to) => format!("a route to {to}"),
    };
    let got = went.map_or("none".to_owned(), |to| format!("one to {to}"));
    (!as_expected).then(|| format!("expected {expected}, got {got}"))
}

struct Reader<'a> {
    file: &'a str,
    problems: Vec<Diagnostic>,
}

/// A member that was read: its node, or nothing where it is absent or wrong.
type Member<'a, 'y> = Option<&'a MarkedYaml<'y>>;

impl Reader<'_> {
    fn wrong(&mut self, node: &MarkedYaml<'_>, message: impl Into<String>) -> &mut Diagnostic {
        let place = Place {
            file: self.file,
            line: node.span.start.line(),
            column: node.span.start.col() + 1,
        };
        self.problems.push(Diagnostic::error(&place, message));
        #[expect(clippy::expect_used, reason = "one was pushed on the line above")]
        self.problems.last_mut().expect("a problem")
    }

    fn file(&mut self, text: &str) -> Vec<Case> {
        if text.len() > FILE_BYTES_MAX {
            let place = Place {
                file: self.file,
                line: 1,
                column: 1,
            };
            let message = format!("a case file is at most {FILE_BYTES_MAX} bytes long");
            self.problems.push(Diagnostic::error(&place, message));
            return Vec::new();
        }
        let documents = match MarkedYaml::load_from_str(text) {
            Ok(documents) => documents,
            Err(error) => {
                let place = Place {
                    file: self.file,
                    line: error.marker().line(),
                    column: error.marker().col() + 1,
                };
                self.problems.push(Diagnostic::error(
                    &place,
                    format!("this is not YAML: {}", error.info()),
                ));
                return Vec::new();
            }
        };
        let mut cases = Vec::new();
        for document in &documents {
            match &document.data {
                YamlData::Sequence(nodes) => {
                    cases.extend(nodes.iter().filter_map(|node| self.case(node)));
                }
                YamlData::Value(Scalar::Null) => {}
                _ => {
                    self.wrong(document, "a case file is a list of cases");
                }
            }
        }
        cases
    }

    /// The members of a mapping in the order of `known`; others are complained about.
    fn members<'a, 'y, const N: usize>(
        &mut self,
        node: &'a MarkedYaml<'y>,
        what: &str,
        known: [&str; N],
    ) -> Option<[Member<'a, 'y>; N]> {
        let YamlData::Mapping(mapping) = &node.data else {
            self.wrong(node, format!("{what} is a mapping"));
            return None;
        };
        let mut found = [None; N];
        for (key, value) in mapping {
            let name = string(key).unwrap_or_default();
            let slot = known.iter().position(|known| *known == name);
            if let Some(slot) = slot.and_then(|slot| found.get_mut(slot)) {
                *slot = Some(value);
                continue;
            }
            let help = match suggest::nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", known.join(", ")),
            };
            self.wrong(key, format!("{what} has no `{name}`")).help = Some(help);
        }
        Some(found)
    }

    fn case(&mut self, node: &MarkedYaml<'_>) -> Option<Case> {
        let before = self.problems.len();
        let known = [
            "name",
            "who",
            "call",
            "args",
            "now",
            "approval",
            "findings",
            "direction",
            "labels",
            "expect",
            "policies",
            "stage",
            "reason",
            "masks",
            "route",
        ];
        let [
            name,
            who,
            call,
            args,
            now,
            approval,
            findings,
            direction,
            labels,
            expect,
            policies,
            stage,
            reason,
            masks,
            route,
        ] = self.members(node, "a case", known)?;
        let who = self.needed(node, who, "who");
        let instance = who.and_then(|who| self.who(who));
        let args = match args {
            Some(args) => self.arguments(args),
            None => Some(Map::new()),
        };
        let call = self.needed(node, call, "call");
        let call = call.and_then(|call| self.call(call, args.as_ref()));
        let now = now.map_or(Some(NOW), |now| self.parsed(now, "`now`"));
        let approval = approval.map(|approval| self.approval(approval));
        let findings = findings.map_or_else(Vec::new, |node| self.findings(node));
        let direction = match direction {
            Some(node) => self.direction(node),
            None => Some(Direction::Request),
        };
        let labels = labels.map_or_else(Vec::new, |node| self.strings(node, "`labels`"));
        let effect = self.needed(node, expect, "expect");
        let mut is_routed = false;
        let effect = effect.and_then(|effect| match string(effect) {
            Some("allow") => Some(Effect::Allow),
            Some("hold") => Some(Effect::Hold),
            Some("deny") => Some(Effect::Deny),
            Some("route") => {
                is_routed = true;
                Some(Effect::Allow)
            }
            _ => {
                self.wrong(effect, "`expect` is `allow`, `hold`, `deny` or `route`");
                None
            }
        });
        let route = match route {
            Some(node) => Route::To(self.parsed(node, "`route`")?),
            None if is_routed => Route::Elsewhere,
            None => Route::Asked,
        };
        let mut policies = policies.map(|policies| self.strings(policies, "`policies`"));
        if let Some(policies) = &mut policies {
            policies.sort_unstable();
        }
        let stage = stage.and_then(|stage| {
            let text = self.text(stage, "`stage`")?;
            let known = crate::Stage::ALL.map(crate::Stage::as_str);
            if !known.contains(&text.as_str()) {
                let help = format!("known are {}", known.join(", "));
                self.wrong(stage, format!("there is no stage `{text}`"))
                    .help = Some(help);
            }
            Some(text)
        });
        let reason = reason.and_then(|reason| self.text(reason, "`reason`"));
        let masks = masks.and_then(|node| {
            let names = self.strings(node, "`masks`");
            if names.is_empty() {
                return Some(Masks::default());
            }
            let masks = Masks::try_from(names);
            masks
                .map_err(|error| self.wrong(node, format!("`masks`: {error}")).help = None)
                .ok()
        });
        let name = name.and_then(|name| self.text(name, "`name`"));
        let (upstream, target) = call?;
        let text = serde_json::to_string(&Value::Object(args?)).ok()?;
        let instance = instance?;
        let mut approval = match approval {
            Some(approval) => Some(approval?),
            None => None,
        };
        for person in approval.iter_mut().flat_map(|approval| &mut approval.by) {
            person.is_sponsor = person.id == instance.sponsor;
        }
        let case = Case {
            name: name.unwrap_or_else(|| target.action(&upstream)),
            file: self.file.to_owned(),
            line: node.span.start.line(),
            facts: Facts {
                v: FACTS_VERSION,
                instance,
                upstream,
                target,
                args: serde_json::value::RawValue::from_string(text).ok()?,
                now: now?,
                standing: None,
                limit: None,
                unread: false,
                observe: false,
                approval,
                findings,
                direction: direction?,
                elsewhere: false,
                labels: labels.into_iter().collect(),
                no_route: None,
            },
            expect: Expected {
                effect: effect?,
                policies,
                stage,
                reason,
                masks,
                route,
            },
        };
        (self.problems.len() == before).then_some(case)
    }

    /// The people who approved: by ID, or with what policy sees of them.
    fn approval(&mut self, node: &MarkedYaml<'_>) -> Option<Approved> {
        let YamlData::Sequence(people) = &node.data else {
            self.wrong(node, "`approval` is a list of people who approved");
            return None;
        };
        let mut by = Vec::new();
        for person in people {
            let (id, groups) = if let YamlData::Mapping(_) = &person.data {
                let [id, groups] = self.members(person, "a person", ["sponsor", "groups"])?;
                let groups = groups.map(|groups| self.strings(groups, "`groups`"));
                (id.unwrap_or(person), groups.unwrap_or_default())
            } else {
                (person, Vec::new())
            };
            by.push(ApprovedBy {
                id: Some(self.parsed(id, "a person's ID")?),
                groups,
                is_sponsor: false,
            });
        }
        Some(Approved { record: 0, by })
    }

    /// What is found, in the words of policies: `secret`, `secret/RULE`, `secret:high`. What is not
    /// said of it is as it least is.
    fn findings(&mut self, node: &MarkedYaml<'_>) -> Vec<Found> {
        let mut findings = Vec::new();
        for text in self.strings(node, "`findings`") {
            match text.parse::<Which>() {
                Ok(which) => findings.push(which.example()),
                Err(error) => {
                    self.wrong(node, format!("`findings`: {error}"));
                }
            }
        }
        findings
    }

    fn direction(&mut self, node: &MarkedYaml<'_>) -> Option<Direction> {
        match string(node) {
            Some("request") => Some(Direction::Request),
            Some("response") => Some(Direction::Response),
            _ => {
                self.wrong(node, "`direction` is `request` or `response`");
                None
            }
        }
    }

    fn needed<'a, 'y>(
        &mut self,
        case: &MarkedYaml<'_>,
        member: Member<'a, 'y>,
        name: &str,
    ) -> Member<'a, 'y> {
        if member.is_none() {
            self.wrong(case, format!("a case needs `{name}`"));
        }
        member
    }

    fn who(&mut self, node: &MarkedYaml<'_>) -> Option<InstanceFacts> {
        let known = [
            "agent",
            "sponsor",
            "groups",
            "purpose",
            "ancestors",
            "root_purpose",
            "proven",
            "environment",
            "allow",
            "instance",
        ];
        let [
            agent,
            sponsor,
            groups,
            purpose,
            ancestors,
            root_purpose,
            proven,
            environment,
            allow,
            instance,
        ] = self.members(node, "`who`", known)?;
        let Some(agent) = agent else {
            self.wrong(node, "`who` needs an `agent`");
            return None;
        };
        let agent: AgentId = self.parsed(agent, "`agent`")?;
        let ancestors: Vec<AgentId> = match ancestors {
            Some(node) => self
                .strings(node, "`ancestors`")
                .iter()
                .filter_map(|id| self.parsed_text(node, id, "`ancestors`"))
                .collect(),
            None => Vec::new(),
        };
        Some(InstanceFacts {
            id: match instance {
                Some(node) => self.parsed(node, "`instance`")?,
                None => self.parsed_text(node, "i-aaaaaaaaaaaaaaaaaaaaaaaaaa", "`instance`")?,
            },
            sponsor: match sponsor {
                Some(node) => Some(self.parsed(node, "`sponsor`")?),
                None => None,
            },
            sponsor_groups: groups.map_or_else(Vec::new, |node| self.strings(node, "`groups`")),
            purpose: match purpose {
                Some(node) => self.parsed(node, "`purpose`")?,
                None => self.parsed_text(
                    node,
                    agent.as_str(),
                    "the purpose, which is the agent's id if not given,",
                )?,
            },
            depth: u32::try_from(ancestors.len()).unwrap_or(u32::MAX),
            ancestors,
            proven: match proven {
                Some(node) => self.boolean(node, "`proven`")?,
                None => true,
            },
            environment: environment
                .and_then(|node| self.text(node, "`environment`"))
                .unwrap_or_default(),
            authority: allow.map(|node| self.strings(node, "`allow`")),
            handed_on: None,
            above: Vec::new(),
            perhaps_sponsor: Vec::new(),
            perhaps_groups: Vec::new(),
            root_purpose: match root_purpose {
                Some(node) => Some(self.parsed(node, "`root_purpose`")?),
                None => None,
            },
            agent,
        })
    }

    fn call(
        &mut self,
        node: &MarkedYaml<'_>,
        args: Option<&Map<String, Value>>,
    ) -> Option<(UpstreamName, Target)> {
        let text = self.text(node, "`call`")?;
        let Some(at) = text.find(['/', ':']) else {
            self.wrong(node, "`call` is `UPSTREAM/TOOL` or `UPSTREAM:METHOD`");
            return None;
        };
        let (upstream, rest) = text.split_at(at);
        let upstream = self.parsed_text(node, upstream, "`call`")?;
        let target = match rest.strip_prefix('/') {
            Some(tool) => Target::Tool {
                name: self.parsed_text(node, tool, "`call`")?,
            },
            None => Target::Method {
                method: rest.trim_start_matches(':').to_owned(),
                name_or_uri: args
                    .and_then(|args| args.get("uri").or_else(|| args.get("name")))
                    .and_then(Value::as_str)
                    .map(ToOwned::to_owned),
            },
        };
        Some((upstream, target))
    }

    fn arguments(&mut self, node: &MarkedYaml<'_>) -> Option<Map<String, Value>> {
        let json = self.json(node)?;
        if let Value::Object(args) = json {
            return Some(args);
        }
        self.wrong(node, "`args` is a mapping");
        None
    }

    fn json(&mut self, node: &MarkedYaml<'_>) -> Option<Value> {
        match &node.data {
            YamlData::Value(Scalar::Null) => Some(Value::Null),
            YamlData::Value(Scalar::Boolean(is)) => Some(Value::Bool(*is)),
            YamlData::Value(Scalar::Integer(number)) => Some(Value::Number((*number).into())),
            YamlData::Value(Scalar::FloatingPoint(number)) => {
                let number = Number::from_f64(number.0);
                if number.is_none() {
                    self.wrong(node, "JSON has no such number");
                }
                number.map(Value::Number)
            }
            YamlData::Value(Scalar::String(text)) => Some(Value::String(text.to_string())),
            YamlData::Sequence(nodes) => nodes
                .iter()
                .map(|node| self.json(node))
                .collect::<Option<Vec<_>>>()
                .map(Value::Array),
            YamlData::Mapping(mapping) => {
                let mut out = Map::new();
                for (key, value) in mapping {
                    let Some(name) = string(key) else {
                        self.wrong(key, "a key is a string");
                        return None;
                    };
                    out.insert(name.to_owned(), self.json(value)?);
                }
                Some(Value::Object(out))
            }
            YamlData::Representation(..)
            | YamlData::Tagged(..)
            | YamlData::Alias(_)
            | YamlData::BadValue => {
                self.wrong(node, "this is not a JSON value");
                None
            }
        }
    }

    fn text(&mut self, node: &MarkedYaml<'_>, what: &str) -> Option<String> {
        let text = string(node);
        if text.is_none() {
            self.wrong(node, format!("{what} is a string"));
        }
        text.map(ToOwned::to_owned)
    }

    fn boolean(&mut self, node: &MarkedYaml<'_>, what: &str) -> Option<bool> {
        if let YamlData::Value(Scalar::Boolean(is)) = &node.data {
            return Some(*is);
        }
        self.wrong(node, format!("{what} is `true` or `false`"));
        None
    }

    fn strings(&mut self, node: &MarkedYaml<'_>, what: &str) -> Vec<String> {
        let YamlData::Sequence(nodes) = &node.data else {
            self.wrong(node, format!("{what} is a list of strings"));
            return Vec::new();
        };
        let each = format!("each of {what}");
        nodes
            .iter()
            .filter_map(|node| self.text(node, &each))
            .collect()
    }

    fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        node: &MarkedYaml<'_>,
        what: &str,
    ) -> Option<T> {
        let text = self.text(node, what)?;
        self.parsed_text(node, &text, what)
    }

    fn parsed_text<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        node: &MarkedYaml<'_>,
        text: &str,
        what: &str,
    ) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(node, format!("{what} is not valid: {error}"));
                None
            }
        }
    }
}

fn string<'a>(node: &'a MarkedYaml<'_>) -> Option<&'a str> {
    match &node.data {
        YamlData::Value(Scalar::String(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
