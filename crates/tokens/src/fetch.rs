//! Documents that lie elsewhere: a provider's metadata and keys, a client's description of itself.
//!
//! This crate has no sockets: whoever makes an [`Issuer`](crate::Issuer) gives it a [`Fetch`]. What
//! may be fetched depends on who named the address ([`NamedBy`]), and is the fetcher's to hold.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use vocab::Secret;

/// Who named the address of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// The administrator, in the configuration, or a provider that the configuration trusts.
    Administrator,
    /// Anybody: a client that says where it describes itself. Only public addresses over `https`.
    Stranger,
}

/// A document, and for how long whoever serves it says that it holds.
#[derive(Debug, Clone)]
pub struct Document {
    /// The bytes.
    pub body: Vec<u8>,
    /// For how long it holds; none if nobody says.
    pub fresh: Option<Duration>,
}

/// Why a document could not be had. What is said of it is for the log: whoever named the address
/// learns only that it did not work, and nothing of what is at it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The address may not be fetched.
    #[error("`{url}` is not fetched: {why}")]
    Refused {
        /// The address.
        url: String,
        /// Why not.
        why: &'static str,
    },
    /// Nobody answered, or not in time, or not in full.
    #[error("`{url}` could not be fetched: {cause}")]
    Unreachable {
        /// The address.
        url: String,
        /// What went wrong.
        cause: String,
    },
    /// The answer is not one.
    #[error("`{url}` answered {status}")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: u16,
        /// The `error` of the answer (RFC 6749 §5.2), if there was one that can be told.
        error: Option<String>,
    },
    /// Of another media type.
    #[error("`{url}` is not JSON by its `Content-Type`")]
    MediaType {
        /// The address.
        url: String,
    },
}

/// An answer that comes.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Document, FetchError>> + Send + 'a>>;

/// What gets documents.
pub trait Fetch: Send + Sync + fmt::Debug {
    /// Gets a JSON document.
    fn get<'a>(&'a self, url: &'a WebUrl, named_by: NamedBy) -> Fetching<'a>;

    /// Posts a form to an endpoint that the administrator named. `basic` is what stands in
    /// `Authorization: Basic`.
    fn post<'a>(
        &'a self,
        url: &'a WebUrl,
        form: Secret<String>,
        basic: Option<Secret<String>>,
    ) -> Fetching<'a>;
}

/// Why a text is no address that could be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not an absolute `https://` (or `http://`) URL without user and fragment")]
pub struct WebUrlError;

/// An absolute `http` or `https` URL with a host, without user and fragment, as it was written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WebUrl(Arc<str>);

impl WebUrl {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `https`.
    pub fn is_https(&self) -> bool {
        self.0
            .get(..8)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
    }

    /// The host, and the port if one is written: what a person can judge.
    pub fn authority(&self) -> &str {
        let (_, rest) = self.0.split_once("://").unwrap_or_default();
        rest.split(['/', '?']).next().unwrap_or_default()
    }

    /// What follows the authority; empty if nothing does.
    pub fn path_and_query(&self) -> &str {
        let (_, rest) = self.0.split_once("://").unwrap_or_default();
        rest.get(self.authority().len()..).unwrap_or_default()
    }
}

impl FromStr for WebUrl {
    type Err = WebUrlError;

    fn from_str(text: &str) -> Result<Self, WebUrlError> {
        // `http::Uri` drops fragments without a word.
        if text.len() > URL_BYTES_MAX
            || text.contains(['#', '\\'])
            || !text.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(WebUrlError);
        }
        let uri: http::Uri = text.parse().map_err(|_| WebUrlError)?;
        let scheme = uri.scheme_str().unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
            return Err(WebUrlError);
        }
        let authority = uri.authority().ok_or(WebUrlError)?.as_str();
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or(WebUrlError)?;
        let port_is_one = match authority.get(host.len()..) {
            Some("") => true,
            Some(_) => uri.port_u16().is_some_and(|port| port != 0),
            None => false,
        };
        if authority.contains('@') || !port_is_one {
            return Err(WebUrlError);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// Longest address that is read, in bytes.
pub(crate) const URL_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_nothing_hidden() {
        for (text, authority) in [
            ("https://a.example", Some("a.example")),
            ("HTTPS://a.example/x?y=1", Some("a.example")),
            ("http://127.0.0.1:80/x", Some("127.0.0.1:80")),
            ("https://[::1]:8443/x", Some("[::1]:8443")),
            ("https://a.example?x", Some("a.example")),
            ("https://me@a.example/", None),
            ("https://me:pw@a.example/", None),
            ("https://a.example/#x", None),
            ("https://a.example\\@b.example/", None),
            ("https://a.example:x/", None),
            ("https://a.example:0/", None),
            ("https://a.example:/", None),
            ("https://a.example:99999/", None),
            ("https:///x", None),
            ("https://", None),
            ("https:a.example", None),
            ("//a.example/", None),
            ("/x", None),
            ("file:///etc/passwd", None),
            ("ftp://a.example/", None),
            ("https://a.example/ x", None),
            ("https://ä.example/", None),
            ("", None),
        ] {
            let read = text.parse::<WebUrl>().ok();
            assert_eq!(read.as_ref().map(WebUrl::authority), authority, "{text}");
        }
    }
}
