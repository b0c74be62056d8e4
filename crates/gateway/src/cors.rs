//! Pages of other origins, as MCP clients that run in a browser are (CORS, the Fetch standard §3.2).
//!
//! A browser lets a page read an answer of ours only where that names the page's origin, and asks
//! first (a preflight) whether the page may send what is more than a form. Who may is a list: the
//! origins that the configuration names, and in development those of this machine. All others are
//! refused as they always were, and so is every origin at a route that is not for clients.
//!
//! No answer allows credentials: a client brings its token itself, and cookies here are for our own
//! pages alone.

use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use http::{Method, StatusCode, Uri};

use crate::hosts::{HostError, Hosts};

/// What clients send beside the headers that a browser asks nobody about, and `mcp-param-…`.
const HEADERS: [&str; 8] = [
    "authorization",
    "content-type",
    "dpop",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
];
const PARAMETER: &str = "mcp-param-";
/// What pages may read of an answer's headers.
const EXPOSED: &str = "mcp-session-id, retry-after, www-authenticate";
/// How long a browser may keep the answer to a preflight, in seconds.
const PREFLIGHT_SECONDS: &str = "600";

/// A request whose names are good, at a route that is for clients.
#[derive(Debug)]
pub struct Crossing(Option<HeaderValue>);

impl Crossing {
    /// Checks a request's host and origin.
    pub fn of(hosts: &Hosts, target: &Uri, headers: &HeaderMap) -> Result<Self, HostError> {
        hosts.check_crossing(target, headers)?;
        Ok(Self(headers.get(ORIGIN).cloned()))
    }

    /// The answer, if a browser only asks whether a page may send something. It comes without the
    /// page's credentials, and says nothing but what this route is for.
    pub fn preflight(
        &self,
        method: &Method,
        headers: &HeaderMap,
        methods: &'static str,
    ) -> Option<Response> {
        let asks =
            *method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !asks || self.0.is_none() {
            return None;
        }
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        answer.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static(methods),
        );
        let seconds = HeaderValue::from_static(PREFLIGHT_SECONDS);
        answer.insert(ACCESS_CONTROL_MAX_AGE, seconds);
        let asked = headers
            .get_all(ACCESS_CONTROL_REQUEST_HEADERS)
            .iter()
            .filter_map(|names| names.to_str().ok())
            .flat_map(|names| names.split(','))
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| HEADERS.contains(&name.as_str()) || name.starts_with(PARAMETER));
        if let Ok(names) = HeaderValue::try_from(asked.collect::<Vec<_>>().join(", ")) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        self.mark(answer);
        Some(response)
    }

    /// Lets the page that asked read an answer, and nobody keep it for another.
    pub fn mark(&self, headers: &mut HeaderMap) {
        headers.append(VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = &self.0 {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            let exposed = HeaderValue::from_static(EXPOSED);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }
}
