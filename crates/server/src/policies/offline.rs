//! What policies are judged by where no node runs: the tools that were given, or that are on record
//! in the data folder, and the agents that are registered there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ledger::{Blobs as _, LogReader as _};
use policy::cases::Known;
use policy::{Engine, PolicySet, ToolList, UpstreamInput, UpstreamOptions};
use register::State;
use serde_json::Value;
use store::{FileBlobs, OfflineLog};
use vocab::{LogName, UpstreamName, limits, suggest};

use super::{Ground, Sights};
use crate::config::Config;

/// A file with an upstream's tools: `[UPSTREAM=]FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolsFile {
    /// Whose they are; nobody needs to say so of the only upstream.
    pub upstream: Option<UpstreamName>,
    /// A `tools/list` result.
    pub path: PathBuf,
}

impl FromStr for ToolsFile {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = text.split_once('=');
        let named = named.and_then(|(name, path)| Some((name.parse().ok()?, path)));
        Ok(match named {
            Some((upstream, path)) => Self {
                upstream: Some(upstream),
                path: path.into(),
            },
            None => Self {
                upstream: None,
                path: text.into(),
            },
        })
    }
}

/// See [the module](self).
#[derive(Debug)]
pub struct Offline {
    upstreams: BTreeMap<UpstreamName, (UpstreamOptions, Option<ToolList>)>,
    known: Known,
}

impl Offline {
    /// Reads what there is: `given` goes before what is on record.
    pub fn read(config: &Config, given: &[ToolsFile]) -> Result<Self, String> {
        let mut upstreams: BTreeMap<_, _> = config
            .upstreams
            .iter()
            .map(|(name, upstream)| (name.clone(), (upstream.policy_options(), None)))
            .collect();
        let loaded = config.inspect.load();
        let (inspector, _) = loaded.map_err(|error| crate::admin::wire::chain(&error))?;
        let sights = Sights::of(config, &inspector);
        let mut known = Known {
            findings: Some(sights.findings),
            labels: Some(sights.labels),
            ..Known::default()
        };
        if let Some(state) = on_record(&config.data)? {
            for agent in state.agents() {
                known
                    .agents
                    .insert(agent.id.clone(), agent.purposes.clone());
            }
            let blobs = FileBlobs::open(&config.data.join("blobs"));
            for listed in state.upstreams() {
                let known = upstreams.get_mut(&listed.name).zip(listed.definitions());
                let Some(((_, list), digest)) = known else {
                    continue;
                };
                let blob = blobs.get(&digest).map_err(|error| error.to_string())?;
                let Some(blob) = blob else {
                    continue;
                };
                let read = ToolList::pinned(&listed.name, &blob);
                *list =
                    Some(read.map_err(|error| format!("the tools of `{}`: {error}", listed.name))?);
            }
        }
        for file in given {
            let name = whose(config, file)?;
            if let Some((_, list)) = upstreams.get_mut(&name) {
                *list = Some(tools_in(&name, file)?);
            }
        }
        Ok(Self { upstreams, known })
    }
}

impl Ground for Offline {
    fn engine(&self, set: &PolicySet) -> Engine {
        let inputs: Vec<UpstreamInput<'_>> = self
            .upstreams
            .iter()
            .map(|(name, (options, tools))| UpstreamInput {
                name: name.clone(),
                tools: tools.as_ref(),
                options: options.clone(),
            })
            .collect();
        Engine::build(set, &inputs)
    }

    fn known(&self) -> Known {
        // What sponsors and groups are called lies sealed, and is not opened for this.
        self.known.clone()
    }
}

/// The register of a data folder, if there is a control log. No key is needed: nothing erasable is looked at.
pub fn on_record(data: &Path) -> Result<Option<State>, String> {
    if !data.join(LogName::Control.as_str()).is_dir() {
        return Ok(None);
    }
    let log = OfflineLog::open(data, LogName::Control)
        .map_err(|error| format!("the control log cannot be read: {error}"))?;
    let state = register::fold_prefix(&log, None, log.size())
        .map_err(|error| format!("the control log cannot be folded: {error}"))?;
    Ok(Some(state))
}

fn whose(config: &Config, file: &ToolsFile) -> Result<UpstreamName, String> {
    let names = || config.upstreams.keys().map(UpstreamName::as_str);
    match &file.upstream {
        Some(name) if config.upstreams.contains_key(name) => Ok(name.clone()),
        Some(name) => Err(match suggest::nearest(name.as_str(), names()) {
            Some(near) => format!("there is no upstream `{name}`; did you mean `{near}`?"),
            None => format!(
                "there is no upstream `{name}` in the configuration; it has: {}",
                names().collect::<Vec<_>>().join(", ")
            ),
        }),
        None => {
            let mut all = config.upstreams.keys();
            match (all.next(), all.next()) {
                (Some(only), None) => Ok(only.clone()),
                (None, _) => Err("there is no upstream in the configuration".to_owned()),
                (Some(_), Some(_)) => Err(format!(
                    "say whose tools `{0}` has: `--tools UPSTREAM={0}`, one of {1}",
                    file.path.display(),
                    names().collect::<Vec<_>>().join(", ")
                )),
            }
        }
    }
}

/// The tools of a `tools/list` result, of the whole response, or of the bare list.
fn tools_in(upstream: &UpstreamName, file: &ToolsFile) -> Result<ToolList, String> {
    let bad = |why: &dyn std::fmt::Display| {
        format!("cannot take tools from `{}`: {why}", file.path.display())
    };
    let length = std::fs::metadata(&file.path)
        .map_err(|error| bad(&error))?
        .len();
    if length > 2 * limits::TOOL_LIST_BYTES_MAX as u64 {
        return Err(bad(&"it is too long for a list of tools"));
    }
    let text = std::fs::read(&file.path).map_err(|error| bad(&error))?;
    let json: Value = serde_json::from_slice(&text).map_err(|error| bad(&error))?;
    let list = json
        .pointer("/result/tools")
        .or_else(|| json.get("tools"))
        .unwrap_or(&json);
    if !list.is_array() {
        return Err(bad(
            &"it is not the result of `tools/list`: it has no list `tools`",
        ));
    }
    ToolList::parse(upstream, list.to_string().as_bytes()).map_err(|error| bad(&error))
}

#[cfg(test)]
mod tests;
