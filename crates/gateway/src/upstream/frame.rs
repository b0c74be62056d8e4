//! Just enough of a JSON-RPC message to bring it to whoever waits for it. What it says is read,
//! strictly, by the caller.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Message, MessageKind};

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Progress<'a> {
    #[serde(borrow, rename = "progressToken")]
    token: Option<&'a RawValue>,
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: MessageKind,
    /// The id as it is written; none for a notification, or where it is `null`.
    pub(super) id: Option<String>,
    pub(super) method: Option<String>,
    /// The token of a progress notification, as it is written.
    pub(super) progress: Option<String>,
}

impl Frame {
    /// Reads one message; `None` if it is none.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        let envelope: Envelope<'_> = serde_json::from_slice(json).ok()?;
        let id = envelope.id.map(|id| id.get().to_owned());
        let kind = match (&envelope.method, &id) {
            (Some(_), Some(_)) => MessageKind::Request,
            (Some(_), None) => MessageKind::Notification,
            (None, Some(_)) => MessageKind::Response,
            (None, None) if envelope.error.is_some() || envelope.result.is_some() => {
                MessageKind::Response
            }
            (None, None) => return None,
        };
        let method = envelope.method.map(Cow::into_owned);
        let progress = match (&method, envelope.params) {
            (Some(name), Some(params)) if name == "notifications/progress" => {
                let progress: Option<Progress<'_>> = serde_json::from_str(params.get()).ok();
                progress
                    .and_then(|it| it.token)
                    .map(|token| token.get().to_owned())
            }
            _ => None,
        };
        Some(Self {
            kind,
            id,
            method,
            progress,
        })
    }

    /// The message as it is handed on.
    pub(super) const fn message(&self, json: Bytes) -> Message {
        Message {
            json,
            event_id: None,
            retry: None,
            kind: self.kind,
            http_status: None,
        }
    }
}

/// The id under which an upstream's message is routed, `null` if it has none, if it is a message.
/// For fuzz targets.
#[doc(hidden)]
pub fn routed(json: &[u8]) -> Option<String> {
    Frame::read(json).map(|frame| frame.id.unwrap_or_else(|| "null".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Option<(MessageKind, Option<&str>, Option<&str>)>) {
        let frame = Frame::read(json.as_bytes());
        let seen = frame
            .as_ref()
            .map(|it| (it.kind, it.id.as_deref(), it.progress.as_deref()));
        assert_eq!(seen, expected, "{json}");
    }

    #[test]
    fn messages_go_by_id_and_by_token() {
        use MessageKind::{Notification, Request, Response};
        check(
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            Some((Response, Some("1"), None)),
        );
        check(
            r#"{"id":"a","result":null}"#,
            Some((Response, Some("\"a\""), None)),
        );
        check(r#"{"id":null,"error":{}}"#, Some((Response, None, None)));
        check(
            r#"{"id":1,"method":"ping"}"#,
            Some((Request, Some("1"), None)),
        );
        let progress = r#"{"method":"notifications/progress","params":{"progressToken":"t"}}"#;
        check(progress, Some((Notification, None, Some("\"t\""))));
        check(
            r#"{"method":"x","params":{"progressToken":"t"}}"#,
            Some((Notification, None, None)),
        );
        check(
            r#"{"method":"notifications/progress","params":[]}"#,
            Some((Notification, None, None)),
        );
        check("{}", None);
        check("[]", None);
        check("Listening…", None);
        check(r#"{"id":1,"id":2,"result":{}}"#, None);
        check(r#"{"id":1,"result":{}} x"#, None);
    }
}
