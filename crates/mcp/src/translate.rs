//! Carrying listings, tools, resources, prompts and completion between a client of one era and an
//! upstream of the other.
//!
//! What would need the server to ask the client something (sampling, roots, elicitation), to log to
//! it or to keep it informed is not carried: each side is told that the other cannot do it. No
//! specification covers a proxy that crosses eras; the rules are ours, each with its reason.

use serde_json::{Map, Value as Tree, json};

use crate::error::code;
use crate::frame::{Edit, ReplyEdit, Request, Response, meta};
use crate::json::{Raw, Value};
use crate::method::{Era, Method, ProtocolVersion};

/// Something that has no counterpart in the other era.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCarried {
    /// A method.
    #[error("`{method}` has no counterpart in the other era")]
    Method {
        /// The method.
        method: Method,
    },
    /// A result that is not complete: it asks for input that the client cannot be asked for, or
    /// stands for a task that it cannot follow.
    #[error("the result is not complete, and the client's era cannot complete it")]
    Incomplete,
}

/// Whether a message is carried between eras.
pub const fn carries(method: &Method) -> bool {
    matches!(
        method,
        Method::ToolsList
            | Method::ToolsCall
            | Method::ResourcesList
            | Method::ResourceTemplatesList
            | Method::ResourcesRead
            | Method::PromptsList
            | Method::PromptsGet
            | Method::Complete
            | Method::Progress
    )
}

/// How we name ourselves to an upstream where the client's own name is not carried.
pub fn own_info() -> Tree {
    json!({"name": "tipstaff", "version": env!("CARGO_PKG_VERSION")})
}

/// What to edit in a request of a client of era `from` for an upstream that speaks `to`; nothing
/// within an era.
pub fn request(
    request: &Request,
    from: Era,
    to: ProtocolVersion,
) -> Result<Vec<Edit<'static>>, NotCarried> {
    if from == to.era() {
        return Ok(Vec::new());
    }
    if !carries(request.method()) {
        return Err(NotCarried::Method {
            method: request.method().clone(),
        });
    }
    let mut edits = vec![Edit::StripModern];
    if to.era() == Era::Modern {
        let set = |name, value: Tree| Edit::Meta(name, Some(value.into()));
        edits.extend([
            set(meta::PROTOCOL_VERSION, to.as_str().into()),
            // None: so that nobody asks for what could not be carried back.
            set(meta::CLIENT_CAPABILITIES, json!({})),
            set(meta::CLIENT_INFO, own_info()),
        ]);
    }
    Ok(edits)
}

/// What to edit in the response to a request that was carried to the other era, for a client of era
/// `to`.
pub fn reply(
    response: &Response,
    to: Era,
    method: &Method,
) -> Result<Vec<ReplyEdit<'static>>, NotCarried> {
    if response.is_error() {
        return Ok(error_code(response, to)
            .map(ReplyEdit::ErrorCode)
            .into_iter()
            .collect());
    }
    let mut edits = Vec::new();
    match to {
        // What a legacy server says by these names is not what they mean to a modern client.
        Era::Modern => {
            edits.push(ReplyEdit::Set("resultType", Some(Raw::string("complete"))));
            if method.is_cacheable() {
                edits.push(ReplyEdit::Set("ttlMs", Some(Raw::integer(0))));
                edits.push(ReplyEdit::Set("cacheScope", Some(Raw::string("private"))));
            }
        }
        Era::Legacy => {
            if response.result_type().as_deref() != Some("complete") {
                return Err(NotCarried::Incomplete);
            }
            for name in ["resultType", "ttlMs", "cacheScope"] {
                edits.push(ReplyEdit::Set(name, None));
            }
            edits.push(ReplyEdit::Meta(meta::SERVER_INFO, None));
            // Modern structured content may be any JSON; legacy clients refuse a result whose is
            // not an object. The same content is in `content` as text.
            if response
                .member("structuredContent")
                .is_some_and(|content| !content.is_object())
            {
                edits.push(ReplyEdit::Set("structuredContent", None));
            }
        }
    }
    Ok(edits)
}

/// The code that the other era has for an error, where it is another one.
fn error_code(response: &Response, to: Era) -> Option<i64> {
    match (to, response.error_code()?) {
        (Era::Modern, code::RESOURCE_NOT_FOUND) => Some(code::INVALID_PARAMS),
        // The modern ones are about what we sent, not about what the client said.
        (Era::Modern, code::URL_ELICITATION)
        | (
            Era::Legacy,
            code::HEADER_MISMATCH | code::MISSING_CAPABILITY | code::UNSUPPORTED_VERSION,
        ) => Some(code::INTERNAL),
        _ => None,
    }
}

/// What we answer to a legacy client's `initialize` in place of a modern upstream: the revision for
/// the session, and the result. `discovered` is the result of `server/discover`.
pub fn initialize_result(
    discovered: Value<'_>,
    requested: Option<&str>,
) -> (ProtocolVersion, Raw<'static>) {
    let version = negotiate(requested);
    let info = discovered
        .path(&["_meta", meta::SERVER_INFO])
        .filter(|info| info.is_object());
    let mut result = Map::new();
    result.insert("protocolVersion".to_owned(), version.as_str().into());
    result.insert("capabilities".to_owned(), capabilities(discovered));
    result.insert("serverInfo".to_owned(), info.map_or_else(own_info, tree));
    copy(discovered, "instructions", &mut result);
    (version, Tree::Object(result).into())
}

/// The revision of a legacy session: what the client asks for if we serve it, else our newest.
pub fn negotiate(requested: Option<&str>) -> ProtocolVersion {
    requested
        .and_then(|requested| requested.parse().ok())
        .filter(|version: &ProtocolVersion| {
            version.era() == Era::Legacy && ProtocolVersion::SERVED.contains(version)
        })
        .unwrap_or(ProtocolVersion::LATEST_LEGACY)
}

/// What we answer to a modern client's `server/discover` in place of a legacy upstream.
/// `initialized` is the result of `initialize`.
pub fn discover_result(initialized: Value<'_>) -> Raw<'static> {
    let versions = ProtocolVersion::SERVED.map(ProtocolVersion::as_str);
    let mut result = Map::new();
    result.insert("resultType".to_owned(), "complete".into());
    result.insert("supportedVersions".to_owned(), json!(versions));
    result.insert("capabilities".to_owned(), capabilities(initialized));
    copy(initialized, "instructions", &mut result);
    result.insert("ttlMs".to_owned(), 0.into());
    result.insert("cacheScope".to_owned(), "private".into());
    let info = initialized
        .get("serverInfo")
        .filter(|info| info.is_object());
    let info = info.map_or_else(own_info, tree);
    result.insert("_meta".to_owned(), json!({meta::SERVER_INFO: info}));
    Tree::Object(result).into()
}

/// Of what a server can do, what is carried: without subscriptions and change notifications.
fn capabilities(said: Value<'_>) -> Tree {
    let said = said.get("capabilities");
    ["tools", "resources", "prompts", "completions"]
        .into_iter()
        .filter(|name| {
            said.and_then(|said| said.get(name))
                .is_some_and(Value::is_object)
        })
        .map(|name| (name.to_owned(), json!({})))
        .collect::<Map<_, _>>()
        .into()
}

fn copy(from: Value<'_>, name: &str, to: &mut Map<String, Tree>) {
    if let Some(text) = from.get(name).and_then(Value::as_str) {
        to.insert(name.to_owned(), text.into_owned().into());
    }
}

fn tree(value: Value<'_>) -> Tree {
    // What we accept, serde_json accepts, but for numbers that no float can hold.
    serde_json::from_str(value.text()).unwrap_or_else(|_| own_info())
}

#[cfg(test)]
mod tests;
