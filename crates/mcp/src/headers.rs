//! What HTTP headers say beside the body: which revision a message is written in, and the mirrored
//! `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*`, which must say what the body says.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::ProtocolError;
use crate::frame::{Frame, Request, meta};
use crate::json::{Kind, Value};
use crate::method::{Era, Method, ProtocolVersion};

mod annotation;

pub use annotation::{AnnotationError, ParamHeaders};

/// The revision.
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The body's `method`.
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// The body's `params.name`, `params.uri` or `params.taskId`.
pub const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// A legacy session.
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// How headers begin that mirror a tool's arguments.
pub const PARAM_PREFIX: &str = "mcp-param-";

/// A header that is missing, malformed or says something else than the body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("header mismatch: `{header}` {fault}")]
pub struct HeaderError {
    /// The header, as the specification writes it.
    pub header: String,
    /// What is wrong with it.
    pub fault: HeaderFault,
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// It must be there.
    #[error("is missing")]
    Missing,
    /// It is there more than once.
    #[error("is given more than once")]
    Repeated,
    /// It holds more than visible ASCII, space and tab.
    #[error("holds invalid characters")]
    Characters,
    /// It is marked as base 64 and is not, or not of UTF-8.
    #[error("is not valid base 64 of UTF-8")]
    Encoding,
    /// It is not what the body says.
    #[error("does not match the body")]
    Mismatch,
    /// The body's value is none that a header can carry.
    #[error("cannot carry the body's value")]
    Value,
}

impl HeaderError {
    fn new(header: &HeaderName, fault: HeaderFault) -> Self {
        let header = if *header == PROTOCOL_VERSION {
            "MCP-Protocol-Version".to_owned()
        } else {
            // `mcp-name` → `Mcp-Name`
            let mut start = true;
            let capital = |c: char| {
                let c = if start { c.to_ascii_uppercase() } else { c };
                start = c == '-';
                c
            };
            header.as_str().chars().map(capital).collect()
        };
        Self { header, fault }
    }
}

/// How a message opens: in which era it is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// A stateless message; its headers agree with its body.
    Modern(ProtocolVersion),
    /// `initialize`: the start of a legacy session.
    Initialize,
    /// A message of a legacy session, which knows the revision if the header does not say it.
    Legacy(Option<ProtocolVersion>),
}

impl Opening {
    /// The era.
    pub const fn era(self) -> Era {
        match self {
            Self::Modern(_) => Era::Modern,
            Self::Initialize | Self::Legacy(_) => Era::Legacy,
        }
    }

    /// Tells the era of a message by how it opens, and checks the headers that its era demands.
    /// `Mcp-Param-*` need the tool's schema: [`ParamHeaders::check`].
    pub fn of(headers: &HeaderMap, frame: &Frame) -> Result<Self, ProtocolError> {
        let header = single(headers, &PROTOCOL_VERSION)?;
        let known = header.map(str::parse::<ProtocolVersion>);
        let says_modern = matches!(known, Some(Ok(version)) if version.era() == Era::Modern);
        let (method, metadata, request) = match frame {
            Frame::Request(request) => (request.method(), request.meta(), Some(request)),
            Frame::Notification(notification) => (notification.method(), notification.meta(), None),
            Frame::Response(_) if says_modern => return Err(ProtocolError::UnexpectedResponse),
            Frame::Response(_) => return legacy(header),
        };
        let Some(said) = metadata.and_then(|metadata| metadata.get(meta::PROTOCOL_VERSION)) else {
            return match request {
                Some(_) if says_modern => Err(ProtocolError::MissingMeta {
                    key: meta::PROTOCOL_VERSION,
                }),
                Some(_) if *method == Method::Initialize => Ok(Self::Initialize),
                // The revision has no notification over HTTP, and so no rule for its `_meta`.
                None if says_modern => {
                    check_mirror(headers, &METHOD, method.as_str(), false)?;
                    Ok(Self::Modern(ProtocolVersion::LATEST))
                }
                _ => legacy(header),
            };
        };
        let said = said.as_str().ok_or(ProtocolError::MissingMeta {
            key: meta::PROTOCOL_VERSION,
        })?;
        match header {
            None => return Err(HeaderError::new(&PROTOCOL_VERSION, HeaderFault::Missing).into()),
            Some(header) if header != said => {
                return Err(HeaderError::new(&PROTOCOL_VERSION, HeaderFault::Mismatch).into());
            }
            Some(_) => {}
        }
        let version = match said.parse::<ProtocolVersion>() {
            Ok(version) if version.era() == Era::Modern => version,
            _ => return Err(ProtocolError::no_version(&said)),
        };
        check_mirror(headers, &METHOD, method.as_str(), request.is_some())?;
        if let Some(request) = request {
            if !metadata
                .and_then(|metadata| metadata.get(meta::CLIENT_CAPABILITIES))
                .is_some_and(Value::is_object)
            {
                return Err(ProtocolError::MissingMeta {
                    key: meta::CLIENT_CAPABILITIES,
                });
            }
            check_name(headers, request)?;
        }
        Ok(Self::Modern(version))
    }
}

fn legacy(header: Option<&str>) -> Result<Opening, ProtocolError> {
    let version = header
        .map(|header| match header.parse::<ProtocolVersion>() {
            Ok(version) if version.era() == Era::Legacy => Ok(version),
            _ => Err(ProtocolError::no_version(header)),
        })
        .transpose()?;
    Ok(Opening::Legacy(version))
}

/// The one value of a header, if it is there.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, HeaderError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(HeaderError::new(name, HeaderFault::Repeated));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| HeaderError::new(name, HeaderFault::Characters))
}

fn check_mirror(
    headers: &HeaderMap,
    name: &HeaderName,
    body: &str,
    required: bool,
) -> Result<(), HeaderError> {
    match single(headers, name)? {
        Some(value) if value == body => Ok(()),
        Some(_) => Err(HeaderError::new(name, HeaderFault::Mismatch)),
        None if required => Err(HeaderError::new(name, HeaderFault::Missing)),
        None => Ok(()),
    }
}

fn check_name(headers: &HeaderMap, request: &Request) -> Result<(), HeaderError> {
    if request.method().rule().name_param.is_none() {
        return Ok(());
    }
    let fault = match (single(headers, &NAME)?, request.subject()) {
        (None, None) => return Ok(()),
        (None, Some(_)) => HeaderFault::Missing,
        (Some(value), Some(subject)) if decode(&NAME, value)? == subject => return Ok(()),
        (Some(_), _) => HeaderFault::Mismatch,
    };
    Err(HeaderError::new(&NAME, fault))
}

const SENTINEL: (&str, &str) = ("=?base64?", "?=");

fn sentinel(value: &str) -> Option<&str> {
    value.strip_prefix(SENTINEL.0)?.strip_suffix(SENTINEL.1)
}

fn decode<'a>(name: &HeaderName, value: &'a str) -> Result<Cow<'a, str>, HeaderError> {
    let Some(encoded) = sentinel(value) else {
        return Ok(Cow::Borrowed(value));
    };
    BASE64
        .decode(encoded)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map(Cow::Owned)
        .ok_or_else(|| HeaderError::new(name, HeaderFault::Encoding))
}

/// A text as a header's value: as it is, or in base 64 between markers when a header could not carry
/// it or when it looks like that itself.
fn encode(text: &str) -> HeaderValue {
    let is_plain = text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
        && text.trim_matches([' ', '\t']) == text
        && !(text.starts_with(SENTINEL.0) && text.ends_with(SENTINEL.1));
    if is_plain && let Ok(value) = HeaderValue::from_str(text) {
        return value;
    }
    let encoded = format!("{}{}{}", SENTINEL.0, BASE64.encode(text), SENTINEL.1);
    #[expect(
        clippy::expect_used,
        reason = "base 64 and the markers are visible ASCII"
    )]
    HeaderValue::try_from(encoded).expect("base 64 is a header's value")
}

/// The headers of every POST to an upstream.
pub fn standard(version: ProtocolVersion) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        ACCEPT,
        HeaderValue::from_static("application/json, text/event-stream"),
    );
    if version >= ProtocolVersion::V2025_06_18 {
        headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(version.as_str()));
    }
    headers
}

/// The headers of a request to an upstream; `annotations` are those of the tool that it calls.
pub fn of_request(
    version: ProtocolVersion,
    request: &Request,
    annotations: Option<&ParamHeaders>,
) -> Result<HeaderMap, HeaderError> {
    let mut headers = standard(version);
    if version.era() == Era::Legacy {
        return Ok(headers);
    }
    let method = HeaderValue::from_str(request.method().as_str())
        .map_err(|_| HeaderError::new(&METHOD, HeaderFault::Value))?;
    headers.insert(METHOD, method);
    if let Some(subject) = request.subject() {
        headers.insert(NAME, encode(&subject));
    }
    if let Some(annotations) = annotations {
        annotations.write(request.arguments(), &mut headers)?;
    }
    Ok(headers)
}

/// Whether one of the `Accept` headers takes a type; what has `q=0` is not taken.
pub fn accepts(headers: &HeaderMap, kind: &str, subtype: &str) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let Some((one, two)) = parts.next().and_then(|range| range.split_once('/')) else {
                return false;
            };
            let matches = match (one, two) {
                ("*", "*") => true,
                (_, "*") => one.eq_ignore_ascii_case(kind),
                _ => one.eq_ignore_ascii_case(kind) && two.eq_ignore_ascii_case(subtype),
            };
            let refused = parts.any(|part| {
                part.split_once('=').is_some_and(|(name, q)| {
                    name.trim().eq_ignore_ascii_case("q")
                        && q.trim().parse::<f32>().is_ok_and(|q| q <= 0.0)
                })
            });
            matches && !refused
        })
}

/// Whether a media type is JSON, in the one encoding that JSON has (RFC 8259 §8.1).
fn is_json(media_type: &str) -> bool {
    let mut parts = media_type.split(';').map(str::trim);
    parts
        .next()
        .is_some_and(|it| it.eq_ignore_ascii_case("application/json"))
        && parts
            .filter_map(|parameter| parameter.split_once('='))
            .filter(|(name, _)| name.trim_end().eq_ignore_ascii_case("charset"))
            .all(|(_, value)| value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8"))
}

/// Whether a body is said to be JSON, once, and as it is.
pub fn says_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let first = types.next().and_then(|value| value.to_str().ok());
    first.is_some_and(is_json) && types.next().is_none() && !headers.contains_key(CONTENT_ENCODING)
}

/// What holds for every POST in both eras: JSON comes, JSON or a stream may go back.
pub fn check_post(headers: &HeaderMap) -> Result<(), ProtocolError> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let is_json = types
        .next()
        .and_then(|value| value.to_str().ok())
        .is_some_and(is_json);
    if !is_json || types.next().is_some() {
        return Err(ProtocolError::UnsupportedMediaType);
    }
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(ProtocolError::UnsupportedEncoding);
    }
    if accepts(headers, "application", "json") && accepts(headers, "text", "event-stream") {
        Ok(())
    } else {
        Err(ProtocolError::NotAcceptable)
    }
}

/// A decimal number in one form: no zeros at either end of its digits.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (mantissa, ""),
        };
        let digits = format!("{whole}{fraction}");
        if whole.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let kept = digits.trim_end_matches('0');
        let scale =
            i64::try_from(digits.len() - kept.len()).ok()? - i64::try_from(fraction.len()).ok()?;
        let kept = kept.trim_start_matches('0');
        if kept.is_empty() {
            return Some(Self {
                negative: false,
                digits: String::new(),
                exponent: 0,
            });
        }
        Some(Self {
            negative,
            digits: kept.to_owned(),
            exponent: exponent.checked_add(scale)?,
        })
    }

    /// It as an integer that every JSON reader has exactly.
    fn safe_integer(&self) -> Option<i64> {
        const SAFE: i64 = (1 << 53) - 1;
        if self.digits.is_empty() {
            return Some(0);
        }
        let scale = 10_i64.checked_pow(u32::try_from(self.exponent).ok()?)?;
        let number = self.digits.parse::<i64>().ok()?.checked_mul(scale)?;
        (number <= SAFE).then_some(if self.negative { -number } else { number })
    }
}

/// A value of a call's arguments, as a header says it.
fn header_value(value: Value<'_>) -> Option<HeaderValue> {
    match value.kind() {
        Kind::String => value.as_str().map(|text| encode(&text)),
        Kind::Bool => HeaderValue::from_str(value.text()).ok(),
        Kind::Number => Some(Decimal::parse(value.text())?.safe_integer()?.into()),
        Kind::Null | Kind::Array | Kind::Object => None,
    }
}

/// Whether a decoded header says what the body says.
fn says(header: &str, value: Value<'_>) -> bool {
    match value.kind() {
        Kind::String => value.as_str().is_some_and(|text| text == header),
        Kind::Bool => value.text() == header,
        Kind::Number => {
            let number = Decimal::parse(header);
            number.is_some() && number == Decimal::parse(value.text())
        }
        Kind::Null | Kind::Array | Kind::Object => false,
    }
}

impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Modern(version) | Self::Legacy(Some(version)) => version.fmt(f),
            Self::Initialize => f.write_str("initialize"),
            Self::Legacy(None) => f.write_str("legacy"),
        }
    }
}

#[cfg(test)]
mod tests;
