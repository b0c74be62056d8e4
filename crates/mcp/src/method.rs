//! Every method of every revision from 2024-11-05 to 2026-07-28, in one table: who sends it, which
//! revisions have it, and which parameter names what it is about. Beside it, the closed list of
//! requests that need no permit.

use std::fmt;
use std::str::FromStr;

/// A revision of the protocol. Later is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// HTTP with SSE.
    V2024_11_05,
    /// Streamable HTTP.
    V2025_03_26,
    /// The version header, structured output, elicitation; no more batches.
    V2025_06_18,
    /// The last with `initialize` and sessions.
    V2025_11_25,
    /// Stateless.
    V2026_07_28,
}

/// How a peer talks: with a handshake, or with all that is needed in every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Era {
    /// Up to 2025-11-25: `initialize`, sessions, requests from the server.
    Legacy,
    /// From 2026-07-28 on: stateless.
    Modern,
}

/// A text is not a revision that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an unknown protocol version")]
pub struct UnknownVersion;

impl ProtocolVersion {
    /// All, oldest first.
    pub const ALL: [Self; 5] = [
        Self::V2024_11_05,
        Self::V2025_03_26,
        Self::V2025_06_18,
        Self::V2025_11_25,
        Self::V2026_07_28,
    ];
    /// Those we serve, newest first.
    pub const SERVED: [Self; 4] = [
        Self::V2026_07_28,
        Self::V2025_11_25,
        Self::V2025_06_18,
        Self::V2025_03_26,
    ];
    /// The newest that begins with `initialize`.
    pub const LATEST_LEGACY: Self = Self::V2025_11_25;
    /// The newest.
    pub const LATEST: Self = Self::V2026_07_28;

    /// As it is written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Its era.
    pub const fn era(self) -> Era {
        match self {
            Self::V2024_11_05 | Self::V2025_03_26 | Self::V2025_06_18 | Self::V2025_11_25 => {
                Era::Legacy
            }
            Self::V2026_07_28 => Era::Modern,
        }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ProtocolVersion {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or(UnknownVersion)
    }
}

/// Who sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The client.
    Client,
    /// The server.
    Server,
    /// Either.
    Both,
}

/// What holds for a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// It has no answer.
    pub is_notification: bool,
    /// Who sends it.
    pub sender: Sender,
    /// The first revision that has it as a message of its own.
    pub since: ProtocolVersion,
    /// The last.
    pub until: ProtocolVersion,
    /// The member of `params` that says what it is about, which `Mcp-Name` repeats.
    pub name_param: Option<&'static str>,
}

const fn rule(
    is_notification: bool,
    sender: Sender,
    (since, until): (ProtocolVersion, ProtocolVersion),
    name_param: Option<&'static str>,
) -> Rule {
    Rule {
        is_notification,
        sender,
        since,
        until,
        name_param,
    }
}

macro_rules! methods {
    ($($variant:ident $name:literal = $kind:ident $sender:ident $range:ident $param:expr;)*) => {
        /// A method or notification.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum Method {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
            /// One that no revision names.
            Other(String),
        }

        impl Method {
            /// All that some revision names.
            pub const KNOWN: &'static [Self] = &[$(Self::$variant,)*];

            /// As it is written on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other(name) => name,
                }
            }

            /// What holds for it.
            pub const fn rule(&self) -> Rule {
                match self {
                    $(Self::$variant => rule($kind, Sender::$sender, $range, $param),)*
                    Self::Other(_) => rule(REQUEST, Sender::Both, EVER, None),
                }
            }
        }

        impl From<&str> for Method {
            fn from(name: &str) -> Self {
                match name {
                    $($name => Self::$variant,)*
                    _ => Self::Other(name.to_owned()),
                }
            }
        }
    };
}

use ProtocolVersion::{V2024_11_05, V2025_06_18, V2025_11_25, V2026_07_28};

const REQUEST: bool = false;
const NOTIFICATION: bool = true;
const EVER: (ProtocolVersion, ProtocolVersion) = (V2024_11_05, V2026_07_28);
const LEGACY: (ProtocolVersion, ProtocolVersion) = (V2024_11_05, V2025_11_25);
const FROM_2025_06: (ProtocolVersion, ProtocolVersion) = (V2025_06_18, V2025_11_25);
const ONLY_2025_11: (ProtocolVersion, ProtocolVersion) = (V2025_11_25, V2025_11_25);
const FROM_2025_11: (ProtocolVersion, ProtocolVersion) = (V2025_11_25, V2026_07_28);
const MODERN: (ProtocolVersion, ProtocolVersion) = (V2026_07_28, V2026_07_28);
const NAME: Option<&str> = Some("name");
const URI: Option<&str> = Some("uri");
const TASK: Option<&str> = Some("taskId");

methods! {
    Initialize "initialize" = REQUEST Client LEGACY None;
    Discover "server/discover" = REQUEST Client MODERN None;
    Ping "ping" = REQUEST Both LEGACY None;
    ToolsList "tools/list" = REQUEST Client EVER None;
    ToolsCall "tools/call" = REQUEST Client EVER NAME;
    ResourcesList "resources/list" = REQUEST Client EVER None;
    ResourceTemplatesList "resources/templates/list" = REQUEST Client EVER None;
    ResourcesRead "resources/read" = REQUEST Client EVER URI;
    ResourcesSubscribe "resources/subscribe" = REQUEST Client LEGACY URI;
    ResourcesUnsubscribe "resources/unsubscribe" = REQUEST Client LEGACY URI;
    PromptsList "prompts/list" = REQUEST Client EVER None;
    PromptsGet "prompts/get" = REQUEST Client EVER NAME;
    Complete "completion/complete" = REQUEST Client EVER None;
    SetLevel "logging/setLevel" = REQUEST Client LEGACY None;
    Listen "subscriptions/listen" = REQUEST Client MODERN None;
    TasksList "tasks/list" = REQUEST Both ONLY_2025_11 None;
    TasksGet "tasks/get" = REQUEST Both FROM_2025_11 TASK;
    TasksResult "tasks/result" = REQUEST Both ONLY_2025_11 TASK;
    TasksUpdate "tasks/update" = REQUEST Client MODERN TASK;
    TasksCancel "tasks/cancel" = REQUEST Both FROM_2025_11 TASK;
    CreateMessage "sampling/createMessage" = REQUEST Server LEGACY None;
    Elicit "elicitation/create" = REQUEST Server FROM_2025_06 None;
    RootsList "roots/list" = REQUEST Server LEGACY None;
    Initialized "notifications/initialized" = NOTIFICATION Client LEGACY None;
    Cancelled "notifications/cancelled" = NOTIFICATION Both EVER None;
    Progress "notifications/progress" = NOTIFICATION Both EVER None;
    LogMessage "notifications/message" = NOTIFICATION Server EVER None;
    ToolsChanged "notifications/tools/list_changed" = NOTIFICATION Server EVER None;
    ResourcesChanged "notifications/resources/list_changed" = NOTIFICATION Server EVER None;
    ResourceUpdated "notifications/resources/updated" = NOTIFICATION Server EVER None;
    PromptsChanged "notifications/prompts/list_changed" = NOTIFICATION Server EVER None;
    RootsChanged "notifications/roots/list_changed" = NOTIFICATION Client LEGACY None;
    ElicitationComplete "notifications/elicitation/complete" = NOTIFICATION Server ONLY_2025_11 None;
    TaskStatus "notifications/tasks/status" = NOTIFICATION Both ONLY_2025_11 None;
    TaskChanged "notifications/tasks" = NOTIFICATION Server MODERN None;
    Acknowledged "notifications/subscriptions/acknowledged" = NOTIFICATION Server MODERN None;
}

/// A request that needs no permit: it changes nothing, and its answer can be filtered to what the
/// caller could be permitted. The list is closed; tasks are not on it, since theirs cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Free {
    /// `initialize`
    Initialize,
    /// `server/discover`
    Discover,
    /// `ping`
    Ping,
    /// `tools/list`
    ToolsList,
    /// `resources/list`
    ResourcesList,
    /// `resources/templates/list`
    ResourceTemplatesList,
    /// `prompts/list`
    PromptsList,
}

impl Free {
    /// As it is written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Discover => "server/discover",
            Self::Ping => "ping",
            Self::ToolsList => "tools/list",
            Self::ResourcesList => "resources/list",
            Self::ResourceTemplatesList => "resources/templates/list",
            Self::PromptsList => "prompts/list",
        }
    }
}

impl Method {
    /// The request that needs no permit, if it is one.
    pub const fn free(&self) -> Option<Free> {
        match self {
            Self::Initialize => Some(Free::Initialize),
            Self::Discover => Some(Free::Discover),
            Self::Ping => Some(Free::Ping),
            Self::ToolsList => Some(Free::ToolsList),
            Self::ResourcesList => Some(Free::ResourcesList),
            Self::ResourceTemplatesList => Some(Free::ResourceTemplatesList),
            Self::PromptsList => Some(Free::PromptsList),
            _ => None,
        }
    }

    /// Whether it is a notification that a client may send and some revision names. What such a
    /// message says, it says of the client itself or of a request of its own.
    pub const fn is_client_notice(&self) -> bool {
        self.rule().is_notification && self.is_for_servers()
    }

    /// Whether that revision has it as a message. What no revision names may be in any.
    pub fn is_in(&self, version: ProtocolVersion) -> bool {
        let rule = self.rule();
        (rule.since..=rule.until).contains(&version)
    }

    /// Whether it has no answer. Of those that no revision names, the name says so.
    pub fn is_notification(&self) -> bool {
        match self {
            Self::Other(name) => name.starts_with("notifications/"),
            known => known.rule().is_notification,
        }
    }

    /// Whether the client may send it.
    pub const fn is_for_servers(&self) -> bool {
        matches!(self.rule().sender, Sender::Client | Sender::Both)
    }

    /// Whether the server may send it.
    pub const fn is_for_clients(&self) -> bool {
        matches!(self.rule().sender, Sender::Server | Sender::Both)
    }

    /// Whether a complete modern result must carry `ttlMs` and `cacheScope`.
    pub const fn is_cacheable(&self) -> bool {
        matches!(
            self,
            Self::Discover
                | Self::ToolsList
                | Self::PromptsList
                | Self::ResourcesList
                | Self::ResourceTemplatesList
                | Self::ResourcesRead
        )
    }

    /// What a listing lists.
    pub const fn list(&self) -> Option<List> {
        match self {
            Self::ToolsList => Some(List::Tools),
            Self::PromptsList => Some(List::Prompts),
            Self::ResourcesList => Some(List::Resources),
            Self::ResourceTemplatesList => Some(List::ResourceTemplates),
            _ => None,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A list that a listing's result holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `tools`
    Tools,
    /// `prompts`
    Prompts,
    /// `resources`
    Resources,
    /// `resourceTemplates`
    ResourceTemplates,
}

impl List {
    /// The member of the result that holds it.
    pub const fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::ResourceTemplates => "resourceTemplates",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for method in Method::KNOWN {
            assert_eq!(&Method::from(method.as_str()), method);
            assert_eq!(
                method.rule().is_notification,
                method.as_str().starts_with("notifications/")
            );
        }
        for version in ProtocolVersion::ALL {
            assert_eq!(version.as_str().parse(), Ok(version));
        }
        assert_eq!("2026-7-28".parse::<ProtocolVersion>(), Err(UnknownVersion));
        assert_eq!(
            Method::from("Tools/Call"),
            Method::Other("Tools/Call".to_owned())
        );
    }

    /// A method that needs no permit is a decision: it shows here.
    #[test]
    fn these_messages_and_no_others_go_without_a_permit() {
        let named = |is: fn(&Method) -> bool| {
            let methods = Method::KNOWN.iter().filter(|method| is(method));
            methods.map(Method::as_str).collect::<Vec<_>>()
        };
        assert_eq!(
            named(|method| method.free().is_some()),
            [
                "initialize",
                "server/discover",
                "ping",
                "tools/list",
                "resources/list",
                "resources/templates/list",
                "prompts/list",
            ]
        );
        assert_eq!(
            named(Method::is_client_notice),
            [
                "notifications/initialized",
                "notifications/cancelled",
                "notifications/progress",
                "notifications/roots/list_changed",
                "notifications/tasks/status",
            ]
        );
        for method in Method::KNOWN {
            if let Some(free) = method.free() {
                assert_eq!(free.as_str(), method.as_str());
            }
        }
        for strange in ["x/y", "notifications/x"].map(Method::from) {
            assert!(strange.free().is_none() && !strange.is_client_notice());
        }
    }

    #[test]
    fn the_modern_revision_has_exactly_these() {
        let modern: Vec<_> = Method::KNOWN
            .iter()
            .filter(|method| method.is_in(V2026_07_28))
            .filter(|method| !method.rule().is_notification)
            .map(Method::as_str)
            .collect();
        assert_eq!(
            modern,
            [
                "server/discover",
                "tools/list",
                "tools/call",
                "resources/list",
                "resources/templates/list",
                "resources/read",
                "prompts/list",
                "prompts/get",
                "completion/complete",
                "subscriptions/listen",
                "tasks/get",
                "tasks/update",
                "tasks/cancel",
            ]
        );
    }
}
