//! In which era a server speaks, and what we ask it on our own account: the handshake, and its
//! list of tools.
//!
//! `server/discover` is sent first. A server that answers it is modern; so is one that refuses it
//! with an error that only the modern era has. Any other error, and silence, means `initialize`.
//! What was found is kept until a link fails to open.

use std::convert::Infallible;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mcp::{Era, Free, ProtocolVersion};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{sleep, timeout};
use tracing::debug;
use vocab::InstanceId;
use vocab::limits::{PAGES_MAX, TOOL_LIST_BYTES_MAX, TOOLS_MAX};

use crate::outgoing::next_id;

use super::pool::{Opening, Upstream};
use super::{
    Exchange, ExchangeError, Link, Message, MessageKind, OpenError, Outgoing, Passing, SendError,
    Transport,
};

/// The part of the start timeout that a server may think about `server/discover` before it is sent
/// `initialize` too.
const DISCOVER_SHARE: u32 = 3;
/// How long a legacy server that may change its tools is given after the handshake: some add those
/// that depend on the client's capabilities only then.
const SETTLING: Duration = Duration::from_millis(300);
/// Errors that only a modern server gives.
const MODERN_ERRORS: std::ops::RangeInclusive<i64> = -32_099..=-32_020;

/// What a server said of itself.
#[derive(Debug, Clone)]
pub struct Probed {
    /// The version that is spoken with it.
    pub version: ProtocolVersion,
    /// The versions it offers, where it says.
    pub supported_versions: Vec<String>,
    /// Its capabilities, as it wrote them.
    pub capabilities: Bytes,
    /// Its name and version, as it wrote them.
    pub server_info: Option<Bytes>,
    /// The whole result of `server/discover` or `initialize`; empty where a modern server
    /// answered with an error.
    pub result: Bytes,
}

impl Probed {
    /// Its era.
    pub const fn era(&self) -> Era {
        self.version.era()
    }

    /// Whether its tools may change after a handshake that is just over.
    fn is_settling(&self) -> bool {
        let capabilities = serde_json::from_slice::<Value>(&self.capabilities);
        let changes = capabilities
            .ok()
            .and_then(|it| it.pointer("/tools/listChanged")?.as_bool());
        self.era() == Era::Legacy && changes == Some(true)
    }
}

/// Why a request of our own got no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskError {
    /// It was not sent, perhaps.
    #[error("`{method}` failed")]
    Send {
        /// The method.
        method: &'static str,
        /// The cause.
        source: SendError,
    },
    /// It was not answered.
    #[error("`{method}` failed")]
    Exchange {
        /// The method.
        method: &'static str,
        /// The cause.
        source: ExchangeError,
    },
    /// The server refused.
    #[error("`{method}` was refused with error {code}")]
    Refused {
        /// The method.
        method: &'static str,
        /// The JSON-RPC error code.
        code: i64,
    },
    /// The result is not what the method gives.
    #[error("`{method}` gave a malformed result")]
    Malformed {
        /// The method.
        method: &'static str,
    },
    /// It took too long.
    #[error("`{method}` was not answered within {after:?}")]
    Timeout {
        /// The method.
        method: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// We have no version in common.
    #[error("the server speaks {offered:?}, and we speak none of them")]
    NoCommonVersion {
        /// What it offers.
        offered: Vec<String>,
    },
}

/// Why the tools of a server could not be listed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ListError {
    /// No link.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A page was not given.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// It has too many tools.
    #[error("more than {limit} tools")]
    TooManyTools {
        /// The limit.
        limit: usize,
    },
    /// It gives too many pages.
    #[error("more than {limit} pages")]
    TooManyPages {
        /// The limit.
        limit: usize,
    },
    /// The list is too long.
    #[error("a list of more than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
}

/// What a service declares can be done there.
async fn declared(actions: PathBuf) -> Result<Vec<u8>, ListError> {
    let limit = TOOL_LIST_BYTES_MAX;
    let shown = actions.display().to_string();
    let read = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        std::fs::File::open(actions)?
            .take(limit as u64 + 1)
            .read_to_end(&mut text)?;
        Ok::<_, std::io::Error>(text)
    });
    let unusable = |cause: String| OpenError::Unusable {
        what: format!("cannot read `{shown}`: {cause}"),
    };
    let text = read
        .await
        .map_err(|error| unusable(error.to_string()))?
        .map_err(|error| unusable(error.to_string()))?;
    if text.len() > limit {
        return Err(ListError::TooLong { limit });
    }
    Ok(text)
}

impl Upstream {
    /// What the server said of itself, asked on a link of its own unless it is known.
    pub async fn probe(&self) -> Result<Arc<Probed>, OpenError> {
        if let Some(probed) = self.known() {
            return Ok(probed);
        }
        if self.config().shared {
            self.link("", Opening::Handshake).await?;
            return self.known().ok_or(OpenError::Closed);
        }
        Ok(Box::pin(self.ready(None)).await?.1)
    }

    /// What is known without asking.
    pub fn known(&self) -> Option<Arc<Probed>> {
        self.probed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Forgets what is known: the next link asks again. For a server that answered in the wrong
    /// era.
    pub fn forget(&self) {
        self.remember(None);
    }

    fn remember(&self, probed: Option<Arc<Probed>>) {
        *self.probed.lock().unwrap_or_else(PoisonError::into_inner) = probed;
    }

    /// The server's tools, all pages of them, as one JSON array of what it wrote. Asked on a link
    /// of its own, as a client that can be asked for everything, or on the shared one.
    pub async fn list_tools(&self) -> Result<Vec<u8>, ListError> {
        let listed = self.listed().await;
        match &listed {
            // It says again what is known.
            Err(ListError::Open(OpenError::BackingOff { .. })) => {}
            Err(error) => self.troubled(Some(error)),
            Ok(_) => self.troubled(None),
        }
        listed
    }

    async fn listed(&self) -> Result<Vec<u8>, ListError> {
        if let Transport::Elsewhere { actions } = &self.config().transport {
            return declared(actions.clone()).await;
        }
        if self.config().shared {
            let link = self.link("", Opening::Handshake).await?;
            let probed = self.probe().await?;
            return self.list_on(&link, &probed).await;
        }
        let (link, probed) = self.introduced(None, askable()).await?;
        // Before the handshake is over, so that no question is missed.
        let questions = link.unsolicited();
        self.begin(&link, &probed).await?;
        let listing = async {
            if probed.is_settling() {
                sleep(SETTLING).await;
            }
            self.list_on(&link, &probed).await
        };
        tokio::select! {
            list = listing => list,
            never = refuse_all(&link, questions, probed.era()) => match never {},
        }
    }

    async fn list_on(&self, link: &Link, probed: &Probed) -> Result<Vec<u8>, ListError> {
        #[derive(Deserialize)]
        struct Page<'a> {
            #[serde(borrow)]
            tools: Vec<&'a RawValue>,
            #[serde(rename = "nextCursor")]
            next: Option<String>,
        }
        const METHOD: Free = Free::ToolsList;
        let after = self.config().call_timeout;
        let mut list = Vec::from(*b"[");
        let mut count = 0_usize;
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut params = serde_json::Map::new();
            if let Some(cursor) = cursor {
                params.insert("cursor".into(), cursor.into());
            }
            let own = Own {
                method: METHOD,
                params,
                version: Some(probed.version),
                capabilities: askable(),
            };
            let result = own.ask(link, after).await?;
            let page: Page<'_> =
                serde_json::from_slice(&result).map_err(|_| AskError::Malformed {
                    method: METHOD.as_str(),
                })?;
            for tool in page.tools {
                if count > 0 {
                    list.push(b',');
                }
                list.extend_from_slice(tool.get().as_bytes());
                count += 1;
                if count > TOOLS_MAX {
                    return Err(ListError::TooManyTools { limit: TOOLS_MAX });
                }
                if list.len() > TOOL_LIST_BYTES_MAX {
                    return Err(ListError::TooLong {
                        limit: TOOL_LIST_BYTES_MAX,
                    });
                }
            }
            if page.next.is_none() {
                list.push(b']');
                return Ok(list);
            }
            cursor = page.next;
        }
        Err(ListError::TooManyPages { limit: PAGES_MAX })
    }

    /// Opens a link that is ready for requests in the server's era.
    pub(super) async fn ready(
        &self,
        whom: Option<&InstanceId>,
    ) -> Result<(Link, Arc<Probed>), OpenError> {
        let (link, probed) = self.introduced(whom, json!({})).await?;
        self.begin(&link, &probed).await?;
        Ok((link, probed))
    }

    /// Opens a link and makes the handshake but for its last word, as a client that has these
    /// capabilities if the server is legacy.
    async fn introduced(
        &self,
        whom: Option<&InstanceId>,
        capabilities: Value,
    ) -> Result<(Link, Arc<Probed>), OpenError> {
        let opened = match self.known() {
            Some(probed) => self.reopen(whom, probed, capabilities).await,
            None => self.discover(whom, capabilities).await,
        };
        match &opened {
            Ok((_, probed)) => self.remember(Some(Arc::clone(probed))),
            Err(error) => {
                self.troubled(Some(error));
                self.forget();
            }
        }
        opened
    }

    /// Ends the handshake: a legacy server may ask us things from now on.
    async fn begin(&self, link: &Link, probed: &Probed) -> Result<(), OpenError> {
        const METHOD: &str = "notifications/initialized";
        if probed.era() == Era::Modern {
            return Ok(());
        }
        let sent = link.pass(Passing::initialized()).await;
        sent.map_err(|source| {
            self.forget();
            let method = METHOD;
            OpenError::handshake(AskError::Send { method, source })
        })
    }

    async fn reopen(
        &self,
        whom: Option<&InstanceId>,
        known: Arc<Probed>,
        capabilities: Value,
    ) -> Result<(Link, Arc<Probed>), OpenError> {
        let link = self.open(whom).await?;
        if known.era() == Era::Modern {
            return Ok((link, known));
        }
        let probed = self.initialize(&link, capabilities).await;
        let probed = probed.map_err(OpenError::handshake)?;
        Ok((link, Arc::new(probed)))
    }

    async fn discover(
        &self,
        whom: Option<&InstanceId>,
        capabilities: Value,
    ) -> Result<(Link, Arc<Probed>), OpenError> {
        let link = self.open(whom).await?;
        let name = self.name();
        let own = Own::new(Free::Discover, Some(ProtocolVersion::LATEST));
        let start_timeout = self.config().start_timeout;
        let mut pending = own.send(&link, start_timeout).await;
        let first = match &mut pending {
            Ok(exchange) => timeout(start_timeout / DISCOVER_SHARE, verdict(exchange))
                .await
                .ok(),
            Err(_) => Some(Verdict::Legacy),
        };
        let legacy = match first {
            Some(Verdict::Modern(probed)) => return Ok((link, Arc::new(probed))),
            Some(Verdict::NoCommonVersion(offered)) => {
                return Err(OpenError::Handshake(AskError::NoCommonVersion { offered }));
            }
            Some(Verdict::Legacy) => {
                debug!(upstream.name = %name, "Upstream {name} does not know `server/discover`");
                // Some servers end when they are spoken to before `initialize`.
                let link = if link.is_alive() {
                    link
                } else {
                    self.open(whom).await?
                };
                let probed = self.initialize(&link, capabilities).await;
                let probed = probed.map_err(OpenError::handshake)?;
                return Ok((link, Arc::new(probed)));
            }
            // Slow, or silent. Both questions stay open, since the first must not be cancelled on
            // a server that may not know cancellation yet.
            None => self.initialize(&link, capabilities),
        };
        let Ok(exchange) = &mut pending else {
            return Err(OpenError::Closed);
        };
        let modern = async {
            match verdict(exchange).await {
                Verdict::Modern(probed) => probed,
                Verdict::Legacy | Verdict::NoCommonVersion(_) => std::future::pending().await,
            }
        };
        let probed = tokio::select! {
            biased;
            probed = modern => Ok(probed),
            probed = legacy => probed,
        };
        let probed = probed.map_err(OpenError::handshake)?;
        drop(pending);
        Ok((link, Arc::new(probed)))
    }

    /// Opens the conversation as a legacy client that can do this.
    async fn initialize(&self, link: &Link, capabilities: Value) -> Result<Probed, AskError> {
        const METHOD: &str = Free::Initialize.as_str();
        let after = self.config().start_timeout;
        let mut own = Own::new(Free::Initialize, None);
        let version = ProtocolVersion::LATEST_LEGACY.as_str();
        own.params.insert("protocolVersion".into(), version.into());
        own.params.insert("capabilities".into(), capabilities);
        own.params
            .insert("clientInfo".into(), mcp::translate::own_info());
        let result = own.ask(link, after).await?;
        let said: Said<'_> =
            serde_json::from_slice(&result).map_err(|_| AskError::Malformed { method: METHOD })?;
        let offered = said
            .version
            .clone()
            .ok_or(AskError::Malformed { method: METHOD })?;
        let version = offered
            .parse()
            .ok()
            .filter(|it: &ProtocolVersion| it.era() == Era::Legacy);
        let Some(version) = version else {
            return Err(AskError::NoCommonVersion {
                offered: vec![offered],
            });
        };
        Ok(said.probed(version, &result))
    }
}

/// A request of ours.
struct Own {
    method: Free,
    params: serde_json::Map<String, Value>,
    /// The version that is spoken, where one is.
    version: Option<ProtocolVersion>,
    /// What we can do, which a modern server is told with each request.
    capabilities: Value,
}

impl Own {
    fn new(method: Free, version: Option<ProtocolVersion>) -> Self {
        Self {
            method,
            params: serde_json::Map::new(),
            version,
            capabilities: json!({}),
        }
    }

    async fn send(self, link: &Link, after: Duration) -> Result<Exchange, SendError> {
        let modern = self.version.filter(|it| it.era() == Era::Modern);
        let modern = modern.map(|version| (version, self.capabilities));
        let outgoing = Outgoing::free(next_id(), self.method, self.params, modern);
        link.request_within(outgoing, after).await
    }

    /// The result, as it was written.
    async fn ask(self, link: &Link, after: Duration) -> Result<Bytes, AskError> {
        let method = self.method.as_str();
        let asking = async {
            let mut exchange = self
                .send(link, after)
                .await
                .map_err(|source| AskError::Send { method, source })?;
            let response = loop {
                let message = exchange.next().await.unwrap_or(Err(ExchangeError::Ended));
                let message = message.map_err(|source| AskError::Exchange { method, source })?;
                match message.kind {
                    MessageKind::Response => break message,
                    MessageKind::Request => link.refuse(message).await,
                    MessageKind::Notification | MessageKind::Empty => {}
                }
            };
            match Answer::read(&response.json) {
                Answer::Result(result) => Ok(result),
                Answer::Error { code, .. } => Err(AskError::Refused { method, code }),
                Answer::Malformed => Err(AskError::Malformed { method }),
            }
        };
        timeout(after, asking)
            .await
            .unwrap_or(Err(AskError::Timeout { method, after }))
    }
}

enum Answer {
    Result(Bytes),
    Error {
        code: i64,
        supported: Option<Vec<String>>,
    },
    Malformed,
}

impl Answer {
    fn read(json: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Response<'a> {
            #[serde(borrow)]
            result: Option<&'a RawValue>,
            error: Option<Fault>,
        }
        #[derive(Deserialize)]
        struct Fault {
            code: i64,
            data: Option<Value>,
        }
        match serde_json::from_slice(json) {
            Ok(Response {
                result: Some(result),
                error: None,
            }) => Self::Result(Bytes::copy_from_slice(result.get().as_bytes())),
            Ok(Response {
                result: None,
                error: Some(Fault { code, data }),
            }) => {
                let supported = data.and_then(|data| data.get("supported").cloned());
                let supported = supported.and_then(|it| serde_json::from_value(it).ok());
                Self::Error { code, supported }
            }
            Ok(_) | Err(_) => Self::Malformed,
        }
    }
}

enum Verdict {
    Modern(Probed),
    /// Modern, in a version that we do not speak, and nothing else.
    NoCommonVersion(Vec<String>),
    Legacy,
}

/// What the answer to `server/discover` says about the era.
async fn verdict(exchange: &mut Exchange) -> Verdict {
    let (json, status) = match exchange.response().await {
        Ok(message) => (message.json, None),
        Err(ExchangeError::Http { status, body }) => (body, Some(status)),
        Err(_) => return Verdict::Legacy,
    };
    match Answer::read(&json) {
        Answer::Result(result) if status.is_none() => {
            let Ok(said) = serde_json::from_slice::<Said<'_>>(&result) else {
                return Verdict::Legacy;
            };
            let Some(offered) = &said.supported else {
                return Verdict::Legacy;
            };
            match common(offered) {
                Some(Era::Modern) => Verdict::Modern(said.probed(ProtocolVersion::LATEST, &result)),
                Some(Era::Legacy) => Verdict::Legacy,
                None => Verdict::NoCommonVersion(offered.clone()),
            }
        }
        Answer::Error { code, supported } if MODERN_ERRORS.contains(&code) => {
            let offered = supported.unwrap_or_else(|| vec![ProtocolVersion::LATEST.to_string()]);
            match common(&offered) {
                Some(Era::Modern) => Verdict::Modern(Probed {
                    version: ProtocolVersion::LATEST,
                    supported_versions: offered,
                    capabilities: Bytes::from_static(b"{}"),
                    server_info: None,
                    result: Bytes::new(),
                }),
                Some(Era::Legacy) => Verdict::Legacy,
                None => Verdict::NoCommonVersion(offered),
            }
        }
        Answer::Result(_) | Answer::Error { .. } | Answer::Malformed => Verdict::Legacy,
    }
}

/// The era of the best version that both speak.
fn common(offered: &[String]) -> Option<Era> {
    let known = offered
        .iter()
        .filter_map(|it| it.parse::<ProtocolVersion>().ok());
    known.max().map(ProtocolVersion::era)
}

/// What `server/discover` and `initialize` tell.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(rename = "protocolVersion")]
    version: Option<String>,
    #[serde(rename = "supportedVersions")]
    supported: Option<Vec<String>>,
    #[serde(borrow)]
    capabilities: Option<&'a RawValue>,
    #[serde(borrow, rename = "serverInfo")]
    server_info: Option<&'a RawValue>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<SaidMeta<'a>>,
}

#[derive(Deserialize)]
struct SaidMeta<'a> {
    #[serde(borrow, rename = "io.modelcontextprotocol/serverInfo")]
    server_info: Option<&'a RawValue>,
}

impl Said<'_> {
    fn probed(self, version: ProtocolVersion, result: &Bytes) -> Probed {
        let bytes = |raw: &RawValue| Bytes::copy_from_slice(raw.get().as_bytes());
        let server_info = self.server_info.or_else(|| self.meta?.server_info);
        Probed {
            version,
            supported_versions: self.supported.unwrap_or_else(|| vec![version.to_string()]),
            capabilities: self
                .capabilities
                .map_or_else(|| Bytes::from_static(b"{}"), bytes),
            server_info: server_info.map(bytes),
            result: result.clone(),
        }
    }
}

/// Refuses whatever a server asks on a link that nobody is behind, for as long as that is needed.
async fn refuse_all(link: &Link, mut questions: Receiver<Message>, era: Era) -> Infallible {
    loop {
        match questions.recv().await {
            Ok(message) => link.refuse(message).await,
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => break,
        }
    }
    // Over HTTP nothing comes by itself.
    if era == Era::Legacy
        && let Ok(mut stream) = link.open_stream(None).await
    {
        while let Some(Ok(message)) = stream.next().await {
            link.refuse(message).await;
        }
    }
    std::future::pending().await
}

/// The capabilities of the client that asks for the record. Servers may keep tools from clients that
/// cannot be asked what the tools need; what decisions rest on is to have every tool that some
/// client's own list has.
fn askable() -> Value {
    json!({
        "roots": {},
        "sampling": {"context": {}, "tools": {}},
        "elicitation": {"form": {}, "url": {}},
    })
}
