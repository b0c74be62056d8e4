//! Small MCP clients of both eras. They write their messages as text, so that a test says every
//! byte of its arguments.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::agent::Token;
use crate::wire::{Answer, Ask, Stream};

/// The revision without sessions.
pub const MODERN: &str = "2026-07-28";

/// The answer to an MCP request.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The HTTP headers.
    pub headers: HeaderMap,
    /// What came before the response.
    pub before: Vec<Value>,
    /// The response as it came.
    pub text: Bytes,
    /// The response.
    pub json: Value,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        let mut messages = answer.messages();
        let text = messages.pop().unwrap_or_default();
        let parse = |text: &Bytes| serde_json::from_slice(text).unwrap_or_default();
        Self {
            status: answer.status,
            headers: answer.headers,
            before: messages.iter().map(parse).collect(),
            json: parse(&text),
            text,
        }
    }
}

impl Reply {
    /// The result; null for an error.
    pub fn result(&self) -> &Value {
        &self.json["result"]
    }

    /// What it says about its decision.
    pub fn decision(&self) -> &Value {
        match &self.json["error"] {
            Value::Null => &self.result()["_meta"]["dev.tipstaff/decision"],
            error => &error["data"],
        }
    }

    /// `allow`, `deny`, or nothing.
    pub fn effect(&self) -> &str {
        self.decision()["effect"].as_str().unwrap_or_default()
    }

    /// The index of its decision in `calls`.
    pub fn record(&self) -> Option<u64> {
        self.decision()["record"]["index"].as_u64()
    }

    /// Whether the caller is told that it did not work.
    pub fn is_error(&self) -> bool {
        self.json["error"].is_object() || self.result()["isError"] == true
    }

    /// What the caller is told: the text of a tool's result, or an error's message.
    pub fn said(&self) -> &str {
        let error = self.json["error"]["message"].as_str();
        error
            .or(self.result()["content"][0]["text"].as_str())
            .unwrap_or_default()
    }

    /// The names in a listing.
    pub fn names(&self, list: &str) -> Vec<String> {
        let listed = self.result()[list].as_array().cloned().unwrap_or_default();
        listed
            .iter()
            .map(|it| it["name"].as_str().unwrap_or("?").to_owned())
            .collect()
    }
}

/// A client without sessions.
#[derive(Debug, Clone)]
pub struct Modern {
    token: Token,
}

impl Modern {
    pub(crate) const fn new(token: Token) -> Self {
        Self { token }
    }

    /// What every request of the era carries.
    pub fn meta() -> Value {
        json!({
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "testkit", "version": "1"},
        })
    }

    /// The text of a request; `params` are the members of its parameters as text, without braces.
    pub fn text(method: &str, params: &str) -> String {
        let comma = if params.is_empty() { "" } else { "," };
        format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{{{params}{comma}"_meta":{}}}}}"#,
            Self::meta()
        )
    }

    /// A request, ready to be sent; `name` is what `Mcp-Name` says.
    pub fn ask(&self, method: &str, name: Option<&str>, params: &str) -> Ask {
        let ask = self
            .token
            .ask("POST")
            .json(Self::text(method, params))
            .header("mcp-protocol-version", MODERN)
            .header("mcp-method", method);
        match name {
            Some(name) if name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => {
                ask.header("mcp-name", name)
            }
            Some(name) => ask.header("mcp-name", format!("=?base64?{}?=", BASE64.encode(name))),
            None => ask,
        }
    }

    /// A tool call, ready to be sent.
    pub fn ask_call(&self, tool: &str, arguments: &str) -> Ask {
        let params = format!(r#""name":{},"arguments":{arguments}"#, json!(tool));
        self.ask("tools/call", Some(tool), &params)
    }

    /// Calls a tool with these arguments, byte for byte.
    pub async fn call(&self, tool: &str, arguments: &str) -> Reply {
        self.ask_call(tool, arguments).send().await.into()
    }

    /// Makes a request that names nothing.
    pub async fn request(&self, method: &str) -> Reply {
        self.ask(method, None, "").send().await.into()
    }

    /// Makes a request about something.
    pub async fn request_about(&self, method: &str, name: &str, params: &str) -> Reply {
        self.ask(method, Some(name), params).send().await.into()
    }
}

/// A client with a session.
#[derive(Debug, Clone)]
pub struct Legacy {
    token: Token,
    version: String,
    session: String,
    /// The answer to `initialize`.
    pub initialized: Value,
}

impl Legacy {
    pub(crate) async fn open(token: Token, version: &str) -> Self {
        let answer = token.ask("POST").json(Self::hello(version)).send().await;
        let session = answer.header("mcp-session-id").map(str::to_owned);
        let reply = Reply::from(answer);
        let session = session.unwrap_or_else(|| panic!("no session: {}", reply.json));
        let client = Self {
            token,
            version: reply.result()["protocolVersion"]
                .as_str()
                .unwrap()
                .to_owned(),
            session,
            initialized: reply.json,
        };
        let answer = client.notify("notifications/initialized").await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        client
    }

    /// The text of `initialize`.
    pub fn hello(version: &str) -> String {
        let params = json!({
            "protocolVersion": version,
            "capabilities": {"elicitation": {}, "sampling": {}, "roots": {}},
            "clientInfo": {"name": "testkit", "version": "1"},
        });
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{params}}}"#)
    }

    /// The session's id.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// A message in the session, ready to be sent.
    pub fn ask(&self, text: impl Into<Bytes>) -> Ask {
        self.bare("POST").json(text)
    }

    /// A request in the session without a body.
    pub fn bare(&self, method: &str) -> Ask {
        self.token
            .ask(method)
            .header("mcp-session-id", &self.session)
            .header("mcp-protocol-version", &self.version)
    }

    /// The text of a request; `params` are its parameters as text, without braces.
    pub fn text(method: &str, params: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{{{params}}}}}"#)
    }

    /// A tool call, ready to be sent.
    pub fn ask_call(&self, tool: &str, arguments: &str) -> Ask {
        let params = format!(r#""name":{},"arguments":{arguments}"#, json!(tool));
        self.ask(Self::text("tools/call", &params))
    }

    /// Calls a tool with these arguments, byte for byte.
    pub async fn call(&self, tool: &str, arguments: &str) -> Reply {
        self.ask_call(tool, arguments).send().await.into()
    }

    /// Makes a request; `params` are its parameters as text, without braces.
    pub async fn request(&self, method: &str, params: &str) -> Reply {
        self.ask(Self::text(method, params)).send().await.into()
    }

    /// Sends a notification.
    pub async fn notify(&self, method: &str) -> Answer {
        self.ask(format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#))
            .send()
            .await
    }

    /// Opens the stream of what belongs to no request.
    pub async fn stream(&self) -> Stream {
        self.bare("GET")
            .header("accept", "text/event-stream")
            .open()
            .await
    }

    /// Ends the session.
    pub async fn delete(&self) -> Answer {
        self.bare("DELETE").send().await
    }
}
