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
    hosts: BTreeSet<String>,
    origins: BTreeSet<String>,
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
    /// The names of a listener, of the public URL, and those configured beside them.
    pub fn new(
        listener: SocketAddr,
        public_url: &str,
        more_hosts: &[String],
        more_origins: &[String],
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
        let mut origins = BTreeSet::new();
        if let Some(authority) = public_url
            .parse::<Uri>()
            .ok()
            .and_then(|uri| uri.authority().cloned())
        {
            hosts.insert(authority.as_str().to_ascii_lowercase());
        }
        hosts.extend(more_hosts.iter().map(|host| host.to_ascii_lowercase()));
        for host in &hosts {
            origins.insert(format!("http://{host}"));
            origins.insert(format!("https://{host}"));
        }
        origins.extend(
            more_origins
                .iter()
                .map(|origin| origin.to_ascii_lowercase()),
        );
        Self { hosts, origins }
    }

    /// Checks a request's target, if that names a host, and its headers.
    pub fn check(&self, target: &Uri, headers: &HeaderMap) -> Result<(), HostError> {
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
        for origin in headers.get_all(ORIGIN) {
            let origin = origin.to_str().unwrap_or("(not text)");
            if !self.origins.contains(&origin.to_ascii_lowercase()) {
                return Err(HostError::Origin(shown(origin)));
            }
        }
        Ok(())
    }

    fn known(&self, host: &str) -> Result<(), HostError> {
        if self.hosts.contains(&host.to_ascii_lowercase()) {
            return Ok(());
        }
        Err(HostError::Stranger(shown(host)))
    }
}

fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&str, &str)], allowed: bool) {
        check_target("/mcp/files", headers, allowed);
    }

    fn check_target(target: &str, headers: &[(&str, &str)], allowed: bool) {
        let hosts = Hosts::new(
            "127.0.0.1:7420".parse().unwrap(),
            "https://gate.example",
            &["Alias:1".to_owned()],
            &["https://inspector.example".to_owned()],
        );
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
            true,
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
}
