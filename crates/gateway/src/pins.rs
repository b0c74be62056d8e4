//! What of an upstream's tools was accepted, and what of it is held.
//!
//! A tool's definition is pinned when it is accepted: agents get that text and no other, and calls are
//! judged by its schema. A tool that is listed with another is held, that one alone, until a person
//! accepts or refuses exactly what they were shown. The pins of an upstream are one blob, which the
//! control log names: an array like that of `tools/list`, where a tool that is not simply accepted is
//! `{"name":…,"dev.tipstaff/pin":{…}}`. `policy::ToolList::pinned` reads the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use inspect::{Class, Finding, Findings, Inspector, Likeness, Uninspectable, look_alikes};
use mcp::json::{Json, Limits};
use mcp::{Raw, Value};
use register::{FirstSight, Judgement};
use serde::{Deserialize, Serialize};
use vocab::{Digest, ToolName, UpstreamName, limits};

/// The member that says what became of a tool; [`policy::ToolList::pinned`] has it too.
const PIN: &str = "dev.tipstaff/pin";

/// Why a definition is not accepted without a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doubt {
    /// New tools of this upstream are reviewed.
    Review,
    /// It is another than the one before.
    Changed,
    /// The upstream lists the tool more than once.
    Twice,
    /// There is text in it that a person does not see.
    Hidden,
    /// It tries to instruct whoever reads it.
    Injection,
    /// It could not be looked into.
    Uninspectable,
    /// Its name looks like that of an accepted tool of another upstream.
    LookAlike,
}

impl Doubt {
    /// Every doubt.
    pub const ALL: [Self; 7] = [
        Self::Review,
        Self::Changed,
        Self::Twice,
        Self::Hidden,
        Self::Injection,
        Self::Uninspectable,
        Self::LookAlike,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Review => "review",
            Self::Changed => "changed",
            Self::Twice => "twice",
            Self::Hidden => "hidden",
            Self::Injection => "injection",
            Self::Uninspectable => "uninspectable",
            Self::LookAlike => "look-alike",
        }
    }

    fn of(finding: &Finding) -> Option<Self> {
        match finding.class() {
            Class::Hidden => Some(Self::Hidden),
            Class::Injection => Some(Self::Injection),
            // An icon is no text, and nothing to read.
            Class::Uninspectable if finding.rule() == Uninspectable::Blob.rule() => None,
            Class::Uninspectable => Some(Self::Uninspectable),
            Class::Secret | Class::Personal | Class::Encoded => None,
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What has become of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinState {
    /// It is listed as it was accepted, and can be called.
    Accepted,
    /// It waits for a person.
    New,
    /// It is listed otherwise than it was accepted, and waits for a person.
    Changed,
    /// A person refused what is listed.
    Refused,
    /// It is not listed at present.
    Gone,
}

impl PinState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Accepted,
        Self::New,
        Self::Changed,
        Self::Refused,
        Self::Gone,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::New => "new",
            Self::Changed => "changed",
            Self::Refused => "refused",
            Self::Gone => "gone",
        }
    }

    /// Whether the tool is listed and cannot be called.
    pub const fn is_held(self) -> bool {
        match self {
            Self::New | Self::Changed | Self::Refused => true,
            Self::Accepted | Self::Gone => false,
        }
    }
}

/// One tool. A definition is its canonical text, [`mcp::definition`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pin {
    /// What was accepted.
    pub accepted: Option<Arc<str>>,
    /// What the upstream lists at present.
    pub listed: Option<Arc<str>>,
    /// The digest of what was refused last.
    pub refused: Option<Digest>,
    /// Why what is listed is held.
    pub doubts: BTreeSet<Doubt>,
}

impl Pin {
    /// What has become of it.
    pub fn state(&self) -> PinState {
        let Some(listed) = &self.listed else {
            return PinState::Gone;
        };
        if self.accepted.as_ref() == Some(listed) {
            PinState::Accepted
        } else if self.refused == Some(Digest::of(listed.as_bytes())) {
            PinState::Refused
        } else if self.accepted.is_some() {
            PinState::Changed
        } else {
            PinState::New
        }
    }

    /// The digest of what is listed: what a person accepts or refuses.
    pub fn digest(&self) -> Option<Digest> {
        Some(Digest::of(self.listed.as_ref()?.as_bytes()))
    }

    fn length(&self) -> usize {
        let text = self.accepted.as_ref().or(self.listed.as_ref());
        text.map_or(0, |text| text.len())
    }
}

/// Why what a person says of a tool is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JudgeError {
    /// No such tool.
    #[error("`{upstream}` has no tool `{tool}`{}", or_near(.nearest.as_deref()))]
    Unknown {
        /// The upstream.
        upstream: UpstreamName,
        /// The tool.
        tool: ToolName,
        /// A tool with a name like it.
        nearest: Option<String>,
    },
    /// There is nothing to say about it.
    #[error(
        "`{upstream}/{tool}` is not held: it is {}, and stays that for as long as its definition \
         does; to stop it all the same, write a policy: `forbid (principal, action == \
         Action::\"{upstream}/{tool}\", resource);`", .state.as_str()
    )]
    NotHeld {
        /// The upstream.
        upstream: UpstreamName,
        /// The tool.
        tool: ToolName,
        /// What it is.
        state: PinState,
    },
    /// It changed since it was looked at.
    #[error(
        "what `{upstream}` lists as `{tool}` is not {given}; it has the digest {listed} now. Look at \
         it again with `tipstaff upstream diff {upstream}/{tool}`"
    )]
    Moved {
        /// The upstream.
        upstream: UpstreamName,
        /// The tool.
        tool: ToolName,
        /// What the person was shown.
        given: Digest,
        /// What is listed.
        listed: Digest,
    },
    /// Nobody can tell which one would be called.
    #[error("`{upstream}` lists `{tool}` more than once, so it cannot be accepted")]
    Twice {
        /// The upstream.
        upstream: UpstreamName,
        /// The tool.
        tool: ToolName,
    },
}

fn or_near(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// What an upstream lists, by name.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    tools: BTreeMap<ToolName, Arc<str>>,
    twice: BTreeSet<ToolName>,
    nameless: Vec<Arc<str>>,
}

impl Definitions {
    /// Which of them look like an accepted tool of another upstream. The same name is no look-alike.
    pub(crate) fn look_alikes(
        &self,
        upstream: &UpstreamName,
        elsewhere: Vec<(UpstreamName, ToolName)>,
    ) -> BTreeSet<ToolName> {
        let before = elsewhere.len();
        let mut all = elsewhere;
        all.extend(
            self.tools
                .keys()
                .map(|tool| (upstream.clone(), tool.clone())),
        );
        let names: Vec<_> = all
            .iter()
            .map(|(upstream, tool)| (upstream.as_str(), tool.as_str()))
            .collect();
        look_alikes(&names)
            .into_iter()
            .filter(|it| it.first < before && it.likeness == Likeness::Alike)
            .filter_map(|it| all.get(it.second).filter(|_| it.second >= before))
            .map(|(_, tool)| tool.clone())
            .collect()
    }

    /// Reads a JSON array of tools.
    pub(crate) fn read(list: &Json) -> Self {
        let mut all = Self::default();
        for tool in list.root().elements() {
            let text = mcp::definition(tool);
            let Some(name) = name_of(tool) else {
                all.nameless.push(text.into());
                continue;
            };
            let text = match all.tools.remove(&name) {
                None => text,
                // Both, so that neither can change unseen.
                Some(other) => {
                    all.twice.insert(name.clone());
                    format!("{other}\n{text}")
                }
            };
            all.tools.insert(name, text.into());
        }
        for name in &all.twice {
            if let Some(text) = all.tools.get_mut(name) {
                *text = Raw::string(text).as_str().into();
            }
        }
        all
    }
}

fn name_of(tool: Value<'_>) -> Option<ToolName> {
    tool.get("name")?.as_str()?.parse().ok()
}

/// The pins of one upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins {
    tools: BTreeMap<ToolName, Pin>,
    /// Listed tools whose names no tool can have. Nobody can call them.
    nameless: Vec<Arc<str>>,
}

impl Pins {
    /// Reads a blob of pins. None: it is not one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let within = Limits {
            depth: limits::JSON_DEPTH_MAX + 4,
            nodes: 4 * limits::JSON_NODES_MAX,
        };
        let json = Json::parse_within(Bytes::copy_from_slice(text), within).ok()?;
        let mut pins = Self::default();
        for element in json.root().elements() {
            let Some(name) = name_of(element) else {
                pins.nameless.push(element.text().into());
                continue;
            };
            let pin = match element.get(PIN) {
                None => {
                    // A list from before there were pins is as its upstream wrote it.
                    let text: Arc<str> = mcp::definition(element).into();
                    Pin {
                        accepted: Some(Arc::clone(&text)),
                        listed: Some(text),
                        ..Pin::default()
                    }
                }
                Some(pin) => {
                    let text = |name| pin.get(name).map(|it| Arc::from(it.text()));
                    let doubts = pin.get("doubts").map_or("[]", Value::text);
                    let refused = pin.get("refused").and_then(Value::as_str);
                    Pin {
                        accepted: text("accepted"),
                        listed: text("seen"),
                        refused: refused.map(|it| it.parse()).transpose().ok()?,
                        doubts: serde_json::from_str(doubts).ok()?,
                    }
                }
            };
            pins.tools.insert(name, pin);
        }
        Some(pins)
    }

    /// The blob.
    pub fn to_blob(&self) -> Vec<u8> {
        let tools = self.tools.iter().map(|(name, pin)| {
            let state = pin.state();
            if state == PinState::Accepted && pin.refused.is_none() {
                return pin.listed.as_deref().unwrap_or_default().to_owned();
            }
            let mut out = format!(
                "{{\"name\":{},\"{PIN}\":{{\"state\":\"{}\"",
                Raw::string(name.as_str()).as_str(),
                state.as_str()
            );
            for (member, text) in [("accepted", &pin.accepted), ("seen", &pin.listed)] {
                if let Some(text) = text {
                    let _infallible = write!(out, ",\"{member}\":{text}");
                }
            }
            if let Some(refused) = pin.refused {
                let _infallible = write!(out, ",\"refused\":\"{refused}\"");
            }
            let doubts: Vec<_> = pin.doubts.iter().map(|it| format!("\"{it}\"")).collect();
            out + &format!(",\"doubts\":[{}]}}}}", doubts.join(","))
        });
        let nameless = self.nameless.iter().map(ToString::to_string);
        let all: Vec<String> = tools.chain(nameless).collect();
        format!("[{}]", all.join(",\n")).into_bytes()
    }

    /// The tools, by name.
    pub fn tools(&self) -> impl Iterator<Item = (&ToolName, &Pin)> {
        self.tools.iter()
    }

    /// There is no such tool.
    pub fn unknown(&self, upstream: &UpstreamName, tool: &ToolName) -> JudgeError {
        let known = self.tools.keys().map(ToolName::as_str);
        JudgeError::Unknown {
            upstream: upstream.clone(),
            tool: tool.clone(),
            nearest: vocab::suggest::nearest(tool.as_str(), known).map(str::to_owned),
        }
    }

    /// Accepts all that is listed: of what the operator wrote.
    pub(crate) fn accept_all(&mut self) {
        for pin in self.tools.values_mut() {
            if pin.listed.is_some() && !pin.doubts.contains(&Doubt::Twice) {
                pin.accepted.clone_from(&pin.listed);
                pin.refused = None;
                pin.doubts.clear();
            }
        }
    }

    /// One tool.
    pub fn tool(&self, name: &ToolName) -> Option<&Pin> {
        self.tools.get(name)
    }

    /// How many are listed as they were accepted, and how many are held.
    pub fn counts(&self) -> (u32, u32) {
        let count = |is: fn(PinState) -> bool| {
            let states = self.tools.values().map(Pin::state);
            u32::try_from(states.filter(|it| is(*it)).count()).unwrap_or(u32::MAX)
        };
        (
            count(|it| it == PinState::Accepted),
            count(PinState::is_held),
        )
    }

    /// Takes in what the upstream lists now. What is new and in no doubt is accepted where
    /// `first_sight` says so; what is known is never accepted here. How many new tools were left out,
    /// because there are too many.
    pub(crate) fn see(
        &mut self,
        listed: &Definitions,
        (first_sight, inspector): (FirstSight, &Inspector),
        look_alikes: &BTreeSet<ToolName>,
    ) -> usize {
        let found = |text: &str| inspector.inspect_json(text.as_bytes());
        let mut length: usize = self.tools.values().map(Pin::length).sum();
        let mut left_out = 0;
        for (name, pin) in &mut self.tools {
            if !listed.tools.contains_key(name) {
                pin.listed = None;
            }
        }
        for (name, text) in &listed.tools {
            if let Some(pin) = self.tools.get_mut(name) {
                if pin.listed.as_ref() == Some(text) {
                    continue;
                }
                pin.listed = Some(Arc::clone(text));
                pin.doubts = match pin.state() {
                    PinState::Accepted => BTreeSet::new(),
                    _ => doubts_about(listed, name, &found(text), look_alikes),
                };
                if pin.state().is_held() {
                    pin.doubts.insert(Doubt::Changed);
                }
                continue;
            }
            length = length.saturating_add(text.len());
            // Nothing is forgotten to make room: a tool that was could come back as another.
            if self.tools.len() >= limits::PINNED_TOOLS_MAX
                || length > 2 * limits::TOOL_LIST_BYTES_MAX
            {
                left_out += 1;
                continue;
            }
            let mut doubts = doubts_about(listed, name, &found(text), look_alikes);
            match first_sight {
                FirstSight::AcceptFirst => {}
                FirstSight::Review => {
                    doubts.insert(Doubt::Review);
                }
            }
            let pin = Pin {
                accepted: doubts.is_empty().then(|| Arc::clone(text)),
                listed: Some(Arc::clone(text)),
                refused: None,
                doubts,
            };
            self.tools.insert(name.clone(), pin);
        }
        self.nameless.clone_from(&listed.nameless);
        left_out
    }

    /// Accepts or refuses exactly what a person was shown.
    pub(crate) fn judge(
        &mut self,
        upstream: &UpstreamName,
        tool: &ToolName,
        given: Digest,
        judgement: Judgement,
    ) -> Result<(), JudgeError> {
        let (upstream, name) = (upstream.clone(), tool.clone());
        let Some(pin) = self.tools.get_mut(tool) else {
            return Err(self.unknown(&upstream, &name));
        };
        let state = pin.state();
        let (Some(listed), Some(digest), true) = (&pin.listed, pin.digest(), state.is_held())
        else {
            return Err(JudgeError::NotHeld {
                upstream,
                tool: name,
                state,
            });
        };
        if digest != given {
            return Err(JudgeError::Moved {
                upstream,
                tool: name,
                given,
                listed: digest,
            });
        }
        match judgement {
            Judgement::Accepted if pin.doubts.contains(&Doubt::Twice) => {
                return Err(JudgeError::Twice {
                    upstream,
                    tool: name,
                });
            }
            Judgement::Accepted => {
                pin.accepted = Some(Arc::clone(listed));
                pin.refused = None;
                pin.doubts.clear();
            }
            Judgement::Refused => pin.refused = Some(digest),
        }
        Ok(())
    }
}

fn doubts_about(
    listed: &Definitions,
    name: &ToolName,
    found: &Findings,
    look_alikes: &BTreeSet<ToolName>,
) -> BTreeSet<Doubt> {
    let mut doubts: BTreeSet<Doubt> = found.iter().filter_map(Doubt::of).collect();
    if listed.twice.contains(name) {
        doubts.insert(Doubt::Twice);
    }
    if look_alikes.contains(name) {
        doubts.insert(Doubt::LookAlike);
    }
    doubts
}

/// Two tools whose names a reader could take for one another, or that are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alike {
    /// The upstream of the one.
    pub upstream: UpstreamName,
    /// The one.
    pub tool: ToolName,
    /// The upstream of the other.
    pub other_upstream: UpstreamName,
    /// The other.
    pub other_tool: ToolName,
    /// Whether it is the same name, at two upstreams.
    pub same: bool,
}

/// Tools that could be taken for one another, of all that are listed.
pub(crate) fn alike(tools: &[(UpstreamName, ToolName)]) -> Vec<Alike> {
    let names: Vec<_> = tools
        .iter()
        .map(|(upstream, tool)| (upstream.as_str(), tool.as_str()))
        .collect();
    let of = |at: usize| tools.get(at).cloned();
    look_alikes(&names)
        .into_iter()
        .filter_map(|found| {
            let ((upstream, tool), (other_upstream, other_tool)) =
                (of(found.second)?, of(found.first)?);
            Some(Alike {
                upstream,
                tool,
                other_upstream,
                other_tool,
                same: found.likeness == Likeness::Same,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
