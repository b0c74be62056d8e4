//! What `tipstaff token` hands on: a part of what an instance may do, or one call.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use vocab::{Digest, Secret, ToolName, UpstreamName};

/// Longest file that is read, in bytes: a call may be as long as a request body.
const FILE_BYTES_MAX: u64 = vocab::limits::BODY_BYTES_MAX as u64;

/// Why a file says nothing that can be handed on.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` {cause}")]
pub struct FileError {
    /// The file.
    path: String,
    /// What is wrong with it.
    cause: String,
}

/// One call of a tool, with the exact text of its arguments.
#[derive(Debug)]
pub struct Call {
    tool: ToolName,
    arguments: Box<RawValue>,
}

#[derive(Deserialize)]
struct Message {
    method: String,
    params: Params,
}

#[derive(Deserialize)]
struct Params {
    name: ToolName,
    #[serde(default)]
    arguments: Option<Box<RawValue>>,
}

impl Call {
    /// Reads a `tools/call` request, or its parameters: `{"name": …, "arguments": …}`.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let wrong = |cause: &str| error(path, cause);
        let text = text(path)?;
        let params = if let Ok(message) = serde_json::from_str::<Message>(&text) {
            if message.method != "tools/call" {
                return Err(wrong("is a request of another method than `tools/call`"));
            }
            message.params
        } else {
            serde_json::from_str::<Params>(&text).map_err(|cause| {
                wrong(&format!(
                    "is neither a `tools/call` request nor `{{\"name\", \"arguments\"}}`: {cause}"
                ))
            })?
        };
        let arguments = params.arguments.unwrap_or_else(empty);
        if !arguments.get().starts_with('{') {
            return Err(wrong("has arguments that are not an object"));
        }
        Ok(Self {
            tool: params.name,
            arguments,
        })
    }

    /// The call with its arguments as clients write them: in the order in which they stand, numbers
    /// and escapes untouched, without blanks between them.
    #[must_use]
    pub fn compact(self) -> Self {
        let mut text = String::with_capacity(self.arguments.get().len());
        let (mut quoted, mut escaped) = (false, false);
        for c in self.arguments.get().chars() {
            if quoted {
                quoted = c != '"' || escaped;
                escaped = c == '\\' && !escaped;
            } else if c.is_ascii_whitespace() {
                continue;
            } else {
                quoted = c == '"';
            }
            text.push(c);
        }
        let arguments = RawValue::from_string(text).unwrap_or(self.arguments);
        Self { arguments, ..self }
    }

    /// The bytes that the arguments of the call have to be.
    pub fn arguments(&self) -> &str {
        self.arguments.get()
    }

    /// `authorization_details` for this call and no other.
    pub fn details(&self, upstream: &UpstreamName) -> String {
        serde_json::json!([{
            "type": vocab::authority::MCP_TOOL,
            "locations": [upstream],
            "identifier": self.tool,
            "arguments_sha256": Digest::of(self.arguments.get().as_bytes()),
        }])
        .to_string()
    }
}

/// Arguments that are left out.
fn empty() -> Box<RawValue> {
    serde_json::value::to_raw_value(&Map::<String, Value>::new())
        .unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Reads the access token of the instance that delegates: the token endpoint's answer, or the token
/// alone.
pub fn subject(path: &Path) -> Result<Secret<String>, FileError> {
    #[derive(Deserialize)]
    struct Answer {
        access_token: String,
    }
    let text = text(path)?;
    let token = match serde_json::from_str::<Answer>(&text) {
        Ok(answer) => answer.access_token,
        Err(_) => text.trim().to_owned(),
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if token.is_empty() || !token.bytes().all(fits) {
        let cause = "is neither what `tipstaff token` printed nor an access token";
        return Err(error(path, cause));
    }
    Ok(Secret::new(token))
}

/// Reads `authorization_details`. What is in them is for the node to judge.
pub fn details(path: &Path) -> Result<String, FileError> {
    let text = text(path)?;
    match serde_json::from_str::<Vec<&RawValue>>(&text) {
        Ok(_) => Ok(text.trim().to_owned()),
        Err(cause) => Err(error(path, &format!("is not a JSON array: {cause}"))),
    }
}

fn text(path: &Path) -> Result<String, FileError> {
    let length = fs::metadata(path).map_err(|cause| unreadable(path, &cause))?;
    if length.len() > FILE_BYTES_MAX {
        return Err(error(path, "is too long"));
    }
    fs::read_to_string(path).map_err(|cause| unreadable(path, &cause))
}

fn unreadable(path: &Path, cause: &std::io::Error) -> FileError {
    error(path, &format!("cannot be read: {cause}"))
}

fn error(path: &Path, cause: &str) -> FileError {
    FileError {
        path: path.display().to_string(),
        cause: cause.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    fn call(text: &str) -> Result<(String, String), String> {
        let call = Call::read(file(text).path()).map_err(|error| error.cause)?;
        Ok((call.tool.to_string(), call.arguments.get().to_owned()))
    }

    #[test]
    fn a_call_is_read_to_the_letter() {
        let read = |tool: &str, arguments: &str| Ok((tool.to_owned(), arguments.to_owned()));
        assert_eq!(
            call(r#"{"name":"refund","arguments":{"order": "7",  "amount":1.50}}"#),
            read("refund", r#"{"order": "7",  "amount":1.50}"#)
        );
        assert_eq!(
            call(
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{ }}}"#
            ),
            read("x", "{ }")
        );
        assert_eq!(call(r#"{"name":"x"}"#), read("x", "{}"));
        for bad in [
            "",
            "[]",
            r#"{"name":"x","arguments":[]}"#,
            r#"{"name":"x","arguments":null}"#,
            r#"{"name":"x","name":"y"}"#,
            r#"{"name":"x","arguments":{},"arguments":{"a":1}}"#,
            r#"{"method":"resources/read","params":{"name":"x"}}"#,
        ] {
            match call(bad) {
                // A `null` is left out.
                Ok((_, arguments)) => assert_eq!((bad.contains("null"), &*arguments), (true, "{}")),
                Err(cause) => assert!(!cause.is_empty()),
            }
        }
    }

    #[test]
    fn blanks_are_left_out_and_nothing_else() {
        let compact = |arguments: &str| {
            let text = format!(r#"{{"name":"x","arguments":{arguments}}}"#);
            let call = Call::read(file(&text).path()).unwrap().compact();
            call.arguments().to_owned()
        };
        for (given, expected) in [
            ("{ }", "{}"),
            (
                "{\n\t\"b\" : [ 1.50, -0 , 1e3 ],\r\n \"a\" :null }",
                r#"{"b":[1.50,-0,1e3],"a":null}"#,
            ),
            (
                r#"{"a b": "x \" y\\", "c": "\u0020 \\"}"#,
                r#"{"a b":"x \" y\\","c":"\u0020 \\"}"#,
            ),
        ] {
            assert_eq!(compact(given), expected);
        }
    }

    #[test]
    fn a_subject_is_a_token_or_what_was_printed() {
        let read = |text: &str| {
            subject(file(text).path())
                .map(|it| it.expose().clone())
                .ok()
        };
        let token = Some("eyJ0.eyJp.c2ln".to_owned());
        assert_eq!(read("eyJ0.eyJp.c2ln\n"), token);
        assert_eq!(
            read(r#"{"access_token":"eyJ0.eyJp.c2ln","expires_in":300}"#),
            token
        );
        assert_eq!(read(r#"{"error":"invalid_request"}"#), None);
        assert_eq!(read(""), None);
    }
}
