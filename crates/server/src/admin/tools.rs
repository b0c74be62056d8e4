//! The tools of the upstreams: what was accepted of them, what is held, and what a person says of it.

use axum::extract::{Extension, Path, State};
use bytes::Bytes;
use gateway::{Alike, Doubt, JudgeError, JudgeToolError, Pin, PinState, Plane, PlaneError};
use http::StatusCode;
use register::Judgement;
use serde::{Deserialize, Serialize};
use vocab::{Digest, RecordRef, ToolName, UpstreamName};

use super::routes::{Answer, App, ok, parsed, read};
use super::wire::{Problem, chain};
use super::{Admin, Caller};

/// What was found in a definition, without it.
#[derive(Debug, Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    class: &'static str,
    rule: String,
    confidence: String,
    count: usize,
}

/// A tool, as `GET /v1/tools` lists it.
#[derive(Debug, Serialize)]
struct ToolView {
    upstream: UpstreamName,
    tool: ToolName,
    state: PinState,
    doubts: Vec<Doubt>,
    /// What is listed at present: this is what is accepted or refused.
    definition: Option<Digest>,
    accepted: Option<Digest>,
    findings: Vec<Found>,
    look_alikes: Vec<String>,
}

/// A tool with its definitions, as `GET /v1/tools/UPSTREAM/TOOL` shows it.
#[derive(Debug, Serialize)]
struct Definitions {
    #[serde(flatten)]
    view: ToolView,
    /// The canonical text of what was accepted.
    accepted_text: Option<String>,
    /// The canonical text of what is listed at present.
    listed_text: Option<String>,
}

/// What a person says of a tool; `POST /v1/tools/UPSTREAM/TOOL`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judge {
    /// The digest of the definition that they were shown.
    pub definition: Digest,
    /// What they say.
    pub judgement: Judgement,
}

#[derive(Debug, Serialize)]
struct Judged {
    upstream: UpstreamName,
    tool: ToolName,
    definition: Digest,
    judgement: Judgement,
    is_new: bool,
    records: Vec<RecordRef>,
}

pub(super) async fn list(State(admin): App) -> Answer {
    let plane = &admin.shared.plane;
    let alike = plane.look_alikes();
    let views: Vec<ToolView> = plane
        .pins()
        .iter()
        .flat_map(|(upstream, pins)| {
            pins.tools()
                .map(|(tool, pin)| view(plane, upstream, tool, (pin, &alike)))
                .collect::<Vec<_>>()
        })
        .collect();
    Ok(ok(&views))
}

pub(super) async fn show(
    State(admin): App,
    Path((upstream, tool)): Path<(String, String)>,
) -> Answer {
    let (upstream, tool) = named(&upstream, &tool)?;
    let plane = &admin.shared.plane;
    let pins = plane.pins();
    let Some(pins) = pins.get(&upstream) else {
        return Err(match plane.upstream(&upstream) {
            None => JudgeToolError::NoUpstream { given: upstream },
            Some(_) => JudgeToolError::NotKnown { upstream },
        }
        .into());
    };
    let Some(pin) = pins.tool(&tool) else {
        return Err(JudgeToolError::Judge(pins.unknown(&upstream, &tool)).into());
    };
    let text = |text: &Option<std::sync::Arc<str>>| text.as_ref().map(ToString::to_string);
    Ok(ok(&Definitions {
        accepted_text: text(&pin.accepted),
        listed_text: text(&pin.listed),
        view: view(plane, &upstream, &tool, (pin, &plane.look_alikes())),
    }))
}

pub(super) async fn judge(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path((upstream, tool)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let (upstream, tool) = named(&upstream, &tool)?;
    let said: Judge = read(&body)?;
    admin.judge(caller, upstream, tool, said).await
}

impl Admin {
    /// Takes a person's word on a tool, to its end even if they go away.
    async fn judge(
        &self,
        caller: Caller,
        upstream: UpstreamName,
        tool: ToolName,
        said: Judge,
    ) -> Answer {
        let plane = std::sync::Arc::clone(&self.shared.plane);
        let Judge {
            definition,
            judgement,
        } = said;
        let task = self.tasks.spawn(async move {
            let said = (definition, judgement);
            let done = plane.judge_tool(caller.actor, &upstream, &tool, said).await;
            done.map(|(is_new, records)| Judged {
                upstream,
                tool,
                definition,
                judgement,
                is_new,
                records,
            })
        });
        let judged = task.await.map_err(|_| Problem::internal())??;
        Ok(ok(&judged))
    }
}

fn named(upstream: &str, tool: &str) -> Result<(UpstreamName, ToolName), Problem> {
    Ok((parsed(upstream)?, parsed(tool)?))
}

fn view(
    plane: &Plane,
    upstream: &UpstreamName,
    tool: &ToolName,
    (pin, alike): (&Pin, &[Alike]),
) -> ToolView {
    let definition = pin.listed.as_ref().or(pin.accepted.as_ref());
    let mut found: Vec<Found> = Vec::new();
    let findings = definition.map(|text| plane.findings(text));
    for finding in findings.unwrap_or_default() {
        let one = Found {
            class: finding.class().as_str(),
            rule: finding.rule().to_owned(),
            confidence: format!("{:?}", finding.confidence()).to_lowercase(),
            count: 1,
        };
        let same = |it: &&mut Found| it.rule == one.rule && it.confidence == one.confidence;
        match found.iter_mut().find(same) {
            Some(it) => it.count += 1,
            None => found.push(one),
        }
    }
    found.sort();
    let look_alikes = alike.iter().filter_map(|it| {
        if (&it.upstream, &it.tool) == (upstream, tool) {
            Some(format!("{}/{}", it.other_upstream, it.other_tool))
        } else if (&it.other_upstream, &it.other_tool) == (upstream, tool) {
            Some(format!("{}/{}", it.upstream, it.tool))
        } else {
            None
        }
    });
    ToolView {
        upstream: upstream.clone(),
        tool: tool.clone(),
        state: pin.state(),
        doubts: pin.doubts.iter().copied().collect(),
        definition: pin.digest(),
        accepted: pin.accepted.as_ref().map(|it| Digest::of(it.as_bytes())),
        findings: found,
        look_alikes: look_alikes.collect(),
    }
}

impl From<JudgeToolError> for Problem {
    fn from(error: JudgeToolError) -> Self {
        let (status, word) = match &error {
            JudgeToolError::NoUpstream { .. }
            | JudgeToolError::Judge(JudgeError::Unknown { .. }) => {
                (StatusCode::NOT_FOUND, "unknown")
            }
            JudgeToolError::NotKnown { .. } => (StatusCode::CONFLICT, "not-listed"),
            JudgeToolError::Judge(JudgeError::Moved { .. }) => (StatusCode::CONFLICT, "changed"),
            JudgeToolError::Judge(JudgeError::NotHeld { .. } | JudgeError::Twice { .. }) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "refused")
            }
            JudgeToolError::Plane(PlaneError::Command(_)) => {
                let JudgeToolError::Plane(PlaneError::Command(cause)) = error else {
                    return Self::internal();
                };
                return cause.into();
            }
            JudgeToolError::Plane(_) => (StatusCode::SERVICE_UNAVAILABLE, "not-recorded"),
        };
        Self::new(status, word, &chain(&error))
    }
}
