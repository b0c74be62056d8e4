//! Which host and `Origin` a request may name. A page in a browser on the same machine can
//! send requests to a loopback listener under a name it controls; these two headers are what
//! gives it away (DNS rebinding).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Uri};

/// The names under which this node is called.
#[derive(Debug, Clone)]
pub struct Hosts {
    names: BTreeSet<String>,
    /// Of our own pages.
    own: BTreeSet<String>,
    /// Of other pages that may be clients.
    others: BTreeSet<String>,
    /// Whether a page of any port of this machine may be a client: for development.
    loopback: bool,
}

/// Why a request is refused by its headers.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HostError {
    /// No host, or several.
    #[error("a request names its host exactly once")]
    Host,
    /// A host that is not ours.
    #[error("this node is not called `{0}`; `allowed_hosts` in tipstaff.toml names others")]
    Stranger(String),
    /// A browser origin that is not allowed.
    #[error(
        "the origin `{0}` is not allowed; `allowed_origins` in tipstaff.toml names those that are"
    )]
    Origin(String),
}

impl Hosts {
    /// The names of a listener, of the public URL, and those configured beside them. With `loopback`
    /// the pages of this machine may be clients, beside `other_origins`.
    pub fn new(
        listener: SocketAddr,
        public_url: &str,
        more_hosts: &[String],
        other_origins: &[String],
        loopback: bool,
    ) -> Self {
        let mut hosts = BTreeSet::new();
        let port = listener.port();
        if listener.ip().is_loopback() || listener.ip().is_unspecified() {
            for name in ["localhost", "127.0.0.1", "[::1]"] {
                hosts.insert(format!("{name}:{port}"));
                if port == 80 {
                    hosts.insert(name.to_owned());
                }
            }
        }
        if !listener.ip().is_unspecified() {
            hosts.insert(listener.to_string());
        }
        if let Some(authority) = public_url
            .parse::<Uri>()
            .ok()
            .and_then(|uri| uri.authority().cloned())
        {
            hosts.insert(authority.as_str().to_ascii_lowercase());
        }
        hosts.extend(more_hosts.iter().map(|host| host.to_ascii_lowercase()));
        let own = hosts
            .iter()
            .flat_map(|host| [format!("http://{host}"), format!("https://{host}")])
            .collect();
        let others = other_origins.iter().map(|it| it.to_ascii_lowercase());
        Self {
            others: others.collect(),
            names: hosts,
            own,
            loopback,
        }
    }

    /// Checks a request's target, if that names a host, and its headers. Only our own pages may send
    /// it.
    pub fn check(&self, target: &Uri, headers: &HeaderMap) -> Result<(), HostError> {
        self.check_names(target, headers, |origin| self.own.contains(origin))
    }

    /// The same at a route that is for clients, which pages of other origins can be.
    pub(crate) fn check_crossing(
        &self,
        target: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), HostError> {
        self.check_names(target, headers, |origin| {
            self.own.contains(origin)
                || self.others.contains(origin)
                || (self.loopback && is_loopback(origin))
        })
    }

    fn check_names(
        &self,
        target: &Uri,
        headers: &HeaderMap,
        may: impl Fn(&str) -> bool,
    ) -> Result<(), HostError> {
        // In absolute form it stands above `Host` (RFC 9112 §3.2.2). Both must be ours.
        if let Some(authority) = target.authority() {
            self.known(authority.as_str())?;
        }
        let mut named = headers.get_all(HOST).iter();
        let host = named
            .next()
            .and_then(|host| host.to_str().ok())
            .ok_or(HostError::Host)?;
        if named.next().is_some() {
            return Err(HostError::Host);
        }
        self.known(host)?;
        for (number, origin) in headers.get_all(ORIGIN).iter().enumerate() {
            let origin = origin.to_str().unwrap_or("(not text)");
            if number > 0 || !may(&origin.to_ascii_lowercase()) {
                return Err(HostError::Origin(shown(origin)));
            }
        }
        Ok(())
    }

    fn known(&self, host: &str) -> Result<(), HostError> {
        if self.names.contains(&host.to_ascii_lowercase()) {
            return Ok(());
        }
        Err(HostError::Stranger(shown(host)))
    }
}

/// Whether a page's origin is this machine itself, by one of the three names that no resolver is
/// asked for: whoever serves a page there could as well call us without a browser.
fn is_loopback(origin: &str) -> bool {
    let Some(host) = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))
    else {
        return false;
    };
    let ends = |rest: &str| {
        rest.is_empty()
            || rest.strip_prefix(':').is_some_and(|port| {
                !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
            })
    };
    ["localhost", "127.0.0.1", "[::1]"]
        .iter()
        .any(|name| host.strip_prefix(name).is_some_and(ends))
}

fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(loopback: bool) -> Hosts {
        Hosts::new(
            "127.0.0.1:7420".parse().unwrap(),
            "https://gate.example",
            &["Alias:1".to_owned()],
            &["https://inspector.example".to_owned()],
            loopback,
        )
    }

    fn check(headers: &[(&str, &str)], allowed: bool) {
        check_target("/mcp/files", headers, allowed);
    }

    fn check_target(target: &str, headers: &[(&str, &str)], allowed: bool) {
        let hosts = hosts(false);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        let target = target.parse().unwrap();
        assert_eq!(
            hosts.check(&target, &map).is_ok(),
            allowed,
            "{target} {headers:?}"
        );
    }

    #[test]
    fn only_our_names_and_allowed_origins() {
        check(&[("host", "localhost:7420")], true);
        check(&[("host", "127.0.0.1:7420")], true);
        check(&[("host", "GATE.example")], true);
        check(&[("host", "alias:1")], true);
        check(
            &[
                ("host", "127.0.0.1:7420"),
                ("origin", "http://localhost:7420"),
            ],
            true,
        );
        check(
            &[
                ("host", "127.0.0.1:7420"),
                ("origin", "https://inspector.example"),
            ],
            false,
        );
        check(&[], false);
        check(&[("host", "localhost")], false);
        check(&[("host", "evil.example:7420")], false);
        check(
            &[("host", "localhost:7420"), ("host", "localhost:7420")],
            false,
        );
        check(
            &[
                ("host", "localhost:7420"),
                ("origin", "http://evil.example"),
            ],
            false,
        );
        check(&[("host", "localhost:7420"), ("origin", "null")], false);
        let ours = [("host", "localhost:7420")];
        check_target("http://LOCALHOST:7420/mcp/files", &ours, true);
        check_target("https://gate.example/mcp/files", &ours, true);
        check_target("http://evil.example/mcp/files", &ours, false);
        check_target("http://x@localhost:7420/mcp/files", &ours, false);
        check_target(
            "http://localhost:7420/mcp/files",
            &[("host", "evil.example")],
            false,
        );
    }
    #[test]
    fn at_a_route_for_clients_listed_origins_may_ask_and_in_development_this_machine() {
        for (origin, listed, here) in [
            ("http://localhost:7420", true, true),
            ("https://gate.example", true, true),
            ("https://inspector.example", true, true),
            ("HTTPS://Inspector.example", true, true),
            ("https://inspector.example:8443", false, false),
            ("http://inspector.example", false, false),
            ("https://inspector.example.evil.example", false, false),
            ("http://localhost:6274", false, true),
            ("http://localhost", false, true),
            ("https://127.0.0.1:1", false, true),
            ("http://[::1]:6274", false, true),
            ("http://localhost.evil.example:6274", false, false),
            ("http://localhost:6274@evil.example", false, false),
            ("http://localhost:", false, false),
            ("http://localhost:6274/", false, false),
            ("http://127.0.0.1.evil.example", false, false),
            ("http://127.0.0.2:6274", false, false),
            ("http://evil.example", false, false),
            ("file://localhost", false, false),
            ("file://", false, false),
            ("null", false, false),
            ("*", false, false),
            ("", false, false),
        ] {
            for (loopback, may) in [(false, listed), (true, here)] {
                let mut headers = HeaderMap::new();
                headers.insert(HOST, "localhost:7420".parse().unwrap());
                headers.insert(ORIGIN, origin.parse().unwrap());
                let target = "/mcp/files".parse().unwrap();
                let checked = hosts(loopback).check_crossing(&target, &headers);
                assert_eq!(checked.is_ok(), may, "{origin} {loopback}");
                headers.append(ORIGIN, "https://gate.example".parse().unwrap());
                let twice = hosts(loopback).check_crossing(&target, &headers);
                assert!(twice.is_err(), "{origin} and another");
                headers.remove(ORIGIN);
                headers.insert(HOST, "evil.example".parse().unwrap());
                let rebound = hosts(loopback).check_crossing(&target, &headers);
                assert_eq!(rebound, Err(HostError::Stranger("evil.example".to_owned())));
            }
        }
    }
}
