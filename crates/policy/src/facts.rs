//! What a decision is made on: everything policy may see, and nothing else.
//!
//! Facts are sealed into the ledger and decided again years later, so their JSON form is versioned
//! and strict, and arguments are kept as the exact text that was decided.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use vocab::{AgentId, Authority, InstanceId, PurposePath, SponsorId, Time, ToolName, UpstreamName};

use crate::approval::ApprovedBy;
use crate::findings::{Direction, Found};

/// The version of [`Facts`] that this crate writes and reads.
pub const FACTS_VERSION: u32 = 1;

/// Most ways to read the names of one caller. Each costs a whole decision.
const READINGS_MAX: usize = 8;

/// The facts of one call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// [`FACTS_VERSION`].
    #[serde(deserialize_with = "known_version")]
    pub v: u32,
    /// Who calls.
    pub instance: InstanceFacts,
    /// Whom they call.
    pub upstream: UpstreamName,
    /// What they call there.
    pub target: Target,
    /// The exact text of the arguments, a JSON object. The frame it came from was parsed strictly.
    /// In a record, `null` where they were left out.
    pub args: Box<RawValue>,
    /// When.
    pub now: Time,
    /// Why the caller may do nothing at this moment, if so: something in its chain is narrowed.
    pub standing: Option<String>,
    /// The limit that this call is over, if so: a rate, a budget, the breaker.
    pub limit: Option<String>,
    /// It is a tool of an upstream whose tools were not read since the node started, so that nobody
    /// knows whether they are those that were accepted.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub unread: bool,
    /// The upstream is being observed: what policy denies passes, and is recorded as such.
    pub observe: bool,
    /// The approval that this call uses up, if it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub approval: Option<Approved>,
    /// What inspection saw in what passes.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub findings: Vec<Found>,
    /// Which way that passes.
    #[serde(skip_serializing_if = "Direction::is_request", default)]
    pub direction: Direction,
    /// Whoever asks makes the call itself, so nothing in it can be masked.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub elsewhere: bool,
    /// What those who delegated to it, and all below them, have read: the labels of upstreams and
    /// tools, and the classes of what was found.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub labels: BTreeSet<String>,
    /// Why nothing may be sent where policy routes this call to, if it does: that upstream is cut
    /// off, say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub no_route: Option<String>,
}

/// An approval of one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approved {
    /// The index in the control log of the entry that asked for it.
    pub record: u64,
    /// Who gave it, each of them another person.
    pub by: Vec<ApprovedBy>,
}

/// The caller, as policy sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceFacts {
    /// The running instance.
    pub id: InstanceId,
    /// What kind of agent it is.
    pub agent: AgentId,
    /// The person who answers for it; none if erased.
    pub sponsor: Option<SponsorId>,
    /// The groups of that person, by the names that the policy set means them by.
    pub sponsor_groups: Vec<String>,
    /// Why it runs.
    pub purpose: PurposePath,
    /// How many delegations lie between it and its sponsor.
    pub depth: u32,
    /// The agents it was delegated by, the first first.
    pub ancestors: Vec<AgentId>,
    /// The caller proved possession of its key on this call.
    pub proven: bool,
    /// Where it runs, such as `production`; may be empty.
    pub environment: String,
    /// The most its agent may ever do: `UPSTREAM/TOOL` with `*` in the tool, or `UPSTREAM:METHOD`.
    /// None is no cap.
    pub authority: Option<Vec<String>>,
    /// What was handed on to it. None: nobody delegated to it, or all that they may do themselves.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handed_on: Option<Arc<Authority>>,
    /// Those it was delegated by, the first first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub above: Vec<LinkFacts>,
    /// Why the first of them runs. None: for its own purpose.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub root_purpose: Option<PurposePath>,
    /// Names that the person got since the policies came into force, and that these may mean by
    /// somebody else. What is denied by any reading of them is denied.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub perhaps_sponsor: Vec<SponsorId>,
    /// The same, of their groups.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub perhaps_groups: Vec<String>,
}

/// An instance that delegated: what it may do itself, and so what any below it may do at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkFacts {
    /// The most its agent may ever do. None is no cap.
    pub authority: Option<Vec<String>>,
    /// What was handed on to it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handed_on: Option<Arc<Authority>>,
}

impl InstanceFacts {
    /// What was handed on along its chain, where that was less than everything.
    pub(crate) fn handed_on(&self) -> impl Iterator<Item = &Authority> {
        let above = self.above.iter().map(|link| &link.handed_on);
        above.chain([&self.handed_on]).flatten().map(AsRef::as_ref)
    }

    /// Every way to read the names of its sponsor and their groups; none if there are too many.
    pub(crate) fn readings(&self) -> Option<Vec<Self>> {
        let groups = &self.perhaps_groups;
        let ways = u32::try_from(groups.len()).ok();
        let ways = ways.and_then(|groups| 2_usize.checked_pow(groups));
        let ways = ways?.checked_mul(1 + self.perhaps_sponsor.len())?;
        if ways > READINGS_MAX {
            return None;
        }
        let ids = self.perhaps_sponsor.iter().map(|id| Some(id.clone()));
        let mut readings = Vec::new();
        for sponsor in [self.sponsor.clone()].into_iter().chain(ids) {
            for chosen in 0..1_u32 << groups.len() {
                let also = groups.iter().enumerate();
                let also = also.filter(|(nth, _)| chosen & 1 << nth != 0);
                let mut sponsor_groups = self.sponsor_groups.clone();
                sponsor_groups.extend(also.map(|(_, group)| group.clone()));
                readings.push(Self {
                    sponsor: sponsor.clone(),
                    sponsor_groups,
                    perhaps_sponsor: Vec::new(),
                    perhaps_groups: Vec::new(),
                    ..self.clone()
                });
            }
        }
        Some(readings)
    }

    /// The allow lists of the agents along its chain.
    pub(crate) fn allow_lists(&self) -> impl Iterator<Item = &Vec<String>> {
        let above = self.above.iter().map(|link| &link.authority);
        above.chain([&self.authority]).flatten()
    }
}

/// What is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Target {
    /// `tools/call`.
    Tool {
        /// The tool.
        name: ToolName,
    },
    /// Any other method that takes the walk.
    Method {
        /// Such as `resources/read`.
        method: String,
        /// Its `params.uri` or `params.name`, whichever it has.
        name_or_uri: Option<String>,
    },
}

impl Target {
    /// The action's id in policies: `UPSTREAM/TOOL` or `UPSTREAM:METHOD`.
    pub fn action(&self, upstream: &UpstreamName) -> String {
        match self {
            Self::Tool { name } => format!("{upstream}/{name}"),
            Self::Method { method, .. } => format!("{upstream}:{method}"),
        }
    }
}

fn known_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        FACTS_VERSION => Ok(FACTS_VERSION),
        other => Err(serde::de::Error::custom(format!(
            "facts of version {other} are not known here"
        ))),
    }
}
