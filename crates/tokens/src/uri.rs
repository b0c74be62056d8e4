//! The node's public address, and the URIs that are made from it.
//!
//! One setting fixes the issuer, the audiences and what a DPoP proof must name (`htu`), whatever
//! port the node listens on and whatever a `Host` header says.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use vocab::UpstreamName;

/// Why a text cannot be a node's public address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a public URL is `http://` or `https://`, a host and perhaps a port, and nothing more")]
pub struct PublicUrlError;

/// The address under which agents reach the node, such as `https://tipstaff.acme.example`.
///
/// In canonical form: scheme and host in lower case, no default port, no path.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicUrl(Arc<str>);

impl PublicUrl {
    /// The text, without a slash at its end. It is also the issuer's identifier (RFC 8414 §2).
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URI of a path that begins with a slash.
    pub(crate) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// The token endpoint's URI.
    pub fn token_endpoint(&self) -> String {
        self.join("/oauth/token")
    }

    /// The revocation endpoint's URI.
    pub fn revocation_endpoint(&self) -> String {
        self.join("/oauth/revoke")
    }

    /// The introspection endpoint's URI.
    pub fn introspection_endpoint(&self) -> String {
        self.join("/oauth/introspect")
    }

    /// The upstream that a resource indicator (RFC 8707) names, if it has the form of one of this
    /// node's.
    pub(crate) fn upstream_of(&self, resource: &str) -> Option<UpstreamName> {
        if resource.contains(['#', '?']) {
            return None;
        }
        canonical(resource)?
            .strip_prefix(&*self.0)?
            .strip_prefix("/mcp/")?
            .parse()
            .ok()
    }
}

impl FromStr for PublicUrl {
    type Err = PublicUrlError;

    fn from_str(text: &str) -> Result<Self, PublicUrlError> {
        //= https://www.rfc-editor.org/rfc/rfc7009#section-2
        //# This URL MUST conform to the rules given in [RFC6749], Section 3.1.
        if text.contains(['#', '?']) {
            return Err(PublicUrlError);
        }
        let canonical = canonical(text).ok_or(PublicUrlError)?;
        let base = canonical.strip_suffix('/').ok_or(PublicUrlError)?;
        if base.matches('/').count() != 2 {
            return Err(PublicUrlError);
        }
        Ok(Self(base.into()))
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// One upstream as a protected resource: what a token's audience names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    upstream: UpstreamName,
    uri: Arc<str>,
    metadata_uri: Arc<str>,
}

impl Resource {
    /// The upstream `upstream` of the node at `public_url`.
    //= https://www.rfc-editor.org/rfc/rfc9728#section-3.1
    //# If the resource identifier value contains a path or query component, any terminating slash
    //# (/) following the host component MUST be removed before inserting /.well-known/ and the
    //# well-known URI path suffix between the host component and the path and/or query components.
    pub fn new(public_url: &PublicUrl, upstream: UpstreamName) -> Self {
        let path = format!("/mcp/{upstream}");
        Self {
            uri: public_url.join(&path).into(),
            metadata_uri: public_url
                .join(&format!("/.well-known/oauth-protected-resource{path}"))
                .into(),
            upstream,
        }
    }

    /// The upstream's name.
    pub const fn upstream(&self) -> &UpstreamName {
        &self.upstream
    }

    /// Its URI, `{public_url}/mcp/{upstream}`: the audience of its tokens, and the `htu` of a
    /// proof for it.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Where its RFC 9728 metadata is.
    pub const fn metadata_uri(&self) -> &Arc<str> {
        &self.metadata_uri
    }
}

/// Whether `given` names `expected` (in canonical form already), "ignoring any query and fragment
/// parts" (RFC 9449 §4.3) and after RFC 3986 §6.2.2 and §6.2.3 normalisation.
pub(crate) fn same_endpoint(given: &str, expected: &str) -> bool {
    given == expected || canonical(given).is_some_and(|given| given == expected)
}

/// A URL in the form in which endpoints are compared; none if it names no endpoint. One with a
/// segment of dots names another to whoever resolves it, so it names none here.
pub fn endpoint(url: &str) -> Option<String> {
    let url = canonical(url)?;
    let dots = |segment: &str| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        matches!(&*segment, "." | "..")
    };
    if url.split('/').any(dots) {
        return None;
    }
    // So that `/api/` covers what `/api` does.
    Some(url.trim_end_matches('/').to_owned())
}

/// Scheme and host in lower case, no default port, no query, no fragment, no user. Our paths have
/// nothing that could be percent-encoded or a dot segment, so paths are compared as they stand.
fn canonical(text: &str) -> Option<String> {
    let uri: http::Uri = text.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let authority = uri.authority()?;
    if authority.as_str().contains('@') {
        return None;
    }
    let default = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let host = authority.host().to_ascii_lowercase();
    if host.is_empty() {
        return None;
    }
    // `http` takes anything for a port and then says that there is none.
    let port = match authority.as_str().get(host.len()..)? {
        "" | ":" => String::new(),
        _ => match authority.port_u16()? {
            port if port == default => String::new(),
            port => format!(":{port}"),
        },
    };
    Some(format!("{scheme}://{host}{port}{}", uri.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    //= https://www.rfc-editor.org/rfc/rfc7009#section-2
    //= type=test
    //# This URL MUST conform to the rules given in [RFC6749], Section 3.1.
    #[test]
    fn public_urls_have_one_spelling() {
        for (text, expected) in [
            ("http://127.0.0.1:7420", Some("http://127.0.0.1:7420")),
            ("http://127.0.0.1:7420/", Some("http://127.0.0.1:7420")),
            (
                "HTTPS://Tipstaff.Acme.Example:443",
                Some("https://tipstaff.acme.example"),
            ),
            ("http://[::1]:80", Some("http://[::1]")),
            ("http://acme.example:", Some("http://acme.example")),
            ("https://acme.example:8tps", None),
            ("https://acme.example:74200", None),
            ("https://:443", None),
            ("https://:8tps/", None),
            ("https://acme.example/x", None),
            ("https://acme.example//", None),
            ("https://me@acme.example", None),
            ("https://acme.example?q", None),
            ("https://acme.example#f", None),
            ("ftp://acme.example", None),
            ("acme.example", None),
            ("/", None),
            ("", None),
        ] {
            let read = text.parse::<PublicUrl>().ok();
            assert_eq!(read.as_ref().map(PublicUrl::as_str), expected, "{text}");
        }
    }

    #[test]
    fn endpoints_are_the_same_under_any_spelling() {
        let expected = "http://127.0.0.1:7420/mcp/files";
        for (given, same) in [
            ("http://127.0.0.1:7420/mcp/files", true),
            ("HTTP://127.0.0.1:7420/mcp/files?a=b", true),
            ("http://127.0.0.1:7420/mcp/files#f", true),
            ("http://127.0.0.1:7420/mcp/files/", false),
            ("http://127.0.0.1:7420/mcp/file", false),
            ("http://127.0.0.1:7420/MCP/files", false),
            ("https://127.0.0.1:7420/mcp/files", false),
            ("http://127.0.0.1/mcp/files", false),
            ("http://127.0.0.1:7420x/mcp/files", false),
            ("http://me@127.0.0.1:7420/mcp/files", false),
            ("/mcp/files", false),
            ("", false),
        ] {
            assert_eq!(same_endpoint(given, expected), same, "{given}");
        }
        assert!(!same_endpoint(
            "https://a.example:x/mcp",
            "https://a.example/mcp"
        ));
    }

    #[test]
    fn an_endpoint_has_no_dot_segments() {
        let base = "https://api.example/v1";
        for (path, named) in [
            ("/calls", true),
            ("/a..b/.c/...", true),
            ("/../admin", false),
            ("/./calls", false),
            ("/calls/..", false),
            ("/%2e%2E/admin", false),
            ("/.%2e/admin", false),
            ("/%2E", false),
            ("/calls?x=/../y", true),
        ] {
            assert_eq!(
                endpoint(&format!("{base}{path}")).is_some(),
                named,
                "{path}"
            );
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc9728#section-3.1
    //= type=test
    //# any terminating slash (/) following the host component MUST be removed before inserting
    //# /.well-known/
    #[test]
    fn resources_name_upstreams() {
        let url: PublicUrl = "http://127.0.0.1:7420/".parse().unwrap();
        let resource = Resource::new(&url, "files".parse().unwrap());
        assert_eq!(
            &**resource.metadata_uri(),
            "http://127.0.0.1:7420/.well-known/oauth-protected-resource/mcp/files"
        );
        assert_eq!(resource.uri(), "http://127.0.0.1:7420/mcp/files");
        for (given, named) in [
            (resource.uri(), Some("files")),
            ("http://127.0.0.1:7420/mcp/other", Some("other")),
            ("http://127.0.0.1:7420/mcp/files/", None),
            ("http://127.0.0.1:7420/mcp/files?x", None),
            ("http://127.0.0.1:7420/mcp/files#x", None),
            ("http://127.0.0.1:7420/mcp/", None),
            ("http://127.0.0.1:74200/mcp/files", None),
            ("http://127.0.0.2:7420/mcp/files", None),
            ("http://127.0.0.1:7420.evil.example/mcp/files", None),
            ("files", None),
        ] {
            let read = url.upstream_of(given);
            assert_eq!(read.as_ref().map(UpstreamName::as_str), named, "{given}");
        }
    }
}
