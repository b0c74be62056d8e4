//! Where a person's browser is sent back to (RFC 6749 §3.1.2, RFC 8252, RFC 9700 §4.1).
//!
//! A code goes wherever this says, so it is the one address of a request that must not be mistaken:
//! it is compared letter by letter with what the client registered. The one exception is the port
//! of a loopback address, which a program on the person's machine takes when it starts.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest redirect URI, in bytes.
const BYTES_MAX: usize = 512;

/// Schemes of programs that take their redirects by a name of their own, beside those with a full
/// stop in them (RFC 8252 §7.1). Any other scheme could be one that a browser acts upon itself.
const PRIVATE_SCHEMES: [&str; 5] = ["claude", "cursor", "vscode", "vscode-insiders", "windsurf"];

/// Why a text is not a redirect URI that a client may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a redirect URI is `https://…`, `http://` with a loopback address or `localhost`, or a private \
     scheme with a full stop in its name; without fragment and user, and at most {BYTES_MAX} bytes \
     long"
)]
pub struct RedirectError;

/// A redirect URI, as the client wrote it.
#[derive(Clone, PartialEq, Eq)]
pub struct RedirectUri {
    text: Arc<str>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Some server's.
    Web,
    /// A program's on the person's own machine.
    Loopback,
    /// A program's that the machine knows by a scheme.
    Private,
}

impl RedirectUri {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is a program's on the machine where the browser runs: any program there can
    /// listen in its place.
    pub fn is_local(&self) -> bool {
        self.kind != Kind::Web
    }

    /// The part that a person can judge: the host with its port, or the scheme.
    pub fn shown(&self) -> &str {
        let (scheme, rest) = self.text.split_once("://").unwrap_or_default();
        match self.kind {
            Kind::Web | Kind::Loopback => rest.split(['/', '?']).next().unwrap_or_default(),
            Kind::Private => scheme,
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc8252#section-7.3
    //# The authorization server MUST allow any port to be specified at the
    //# time of the request for loopback IP redirect URIs, to accommodate
    //# clients that obtain an available ephemeral port from the operating
    //# system at the time of the request.
    /// Whether a request may name this one where `registered` is what the client registered.
    pub fn is(&self, registered: &Self) -> bool {
        self == registered
            || (self.kind == Kind::Loopback
                && registered.kind == Kind::Loopback
                && self.without_port() == registered.without_port())
    }

    fn without_port(&self) -> (&str, &str) {
        let rest = self.text.get("http://".len()..).unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, after) = rest.split_at_checked(end).unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            Some(_) | None => authority,
        };
        (host, after)
    }
}

impl FromStr for RedirectUri {
    type Err = RedirectError;

    fn from_str(text: &str) -> Result<Self, RedirectError> {
        let good = text.len() <= BYTES_MAX
            && !text.contains(['#', '\\', '"', '<', '>', '{', '}', '|', '^', '`'])
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !good {
            return Err(RedirectError);
        }
        let (scheme, rest) = text.split_once("://").ok_or(RedirectError)?;
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(RedirectError);
        }
        let kind = match scheme {
            "https" | "http" => {
                let uri: http::Uri = text.parse().map_err(|_| RedirectError)?;
                let host = uri.host().filter(|host| !host.is_empty());
                let host = host.ok_or(RedirectError)?;
                let port = authority.get(host.len()..).unwrap_or("?");
                if !port.is_empty() && uri.port_u16().is_none_or(|port| port == 0) {
                    return Err(RedirectError);
                }
                let local = matches!(host, "127.0.0.1" | "[::1]" | "localhost");
                match scheme {
                    "http" if local => Kind::Loopback,
                    "https" => Kind::Web,
                    _ => return Err(RedirectError),
                }
            }
            _ => {
                let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
                let right = scheme.bytes().all(|b| lower(b) || b"+-.".contains(&b))
                    && scheme.starts_with(|c: char| c.is_ascii_lowercase());
                let known = scheme.contains('.') || PRIVATE_SCHEMES.contains(&scheme);
                if !right || !known {
                    return Err(RedirectError);
                }
                Kind::Private
            }
        };
        Ok(Self {
            text: text.into(),
            kind,
        })
    }
}

impl fmt::Display for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn redirect_uri_tricks_are_refused() {
        for (text, shown) in [
            ("https://app.example/callback", Some("app.example")),
            ("https://app.example:8443/cb?x=1", Some("app.example:8443")),
            ("http://127.0.0.1:33418/", Some("127.0.0.1:33418")),
            ("http://[::1]:1/cb", Some("[::1]:1")),
            ("http://localhost/callback", Some("localhost")),
            ("com.example.app://cb", Some("com.example.app")),
            ("cursor://anysphere.cursor-mcp/oauth", Some("cursor")),
            ("http://app.example/callback", None),
            ("http://127.0.0.1.evil.example/", None),
            ("http://localhost.evil.example/", None),
            ("http://localhost@evil.example/", None),
            ("http://127.0.0.2/", None),
            ("http://0.0.0.0/", None),
            ("http://2130706433/", None),
            ("https://app.example@evil.example/", None),
            ("https://app.example\\@evil.example/", None),
            ("https://app.example/#fragment", None),
            ("https://app.example:x/", None),
            ("https://app.example:0/", None),
            ("https:///callback", None),
            ("https:app.example", None),
            ("HTTPS://app.example/", None),
            ("javascript://app.example/%0aalert(1)", None),
            ("javascript:alert(1)", None),
            ("data://text/html", None),
            ("file:///etc/passwd", None),
            ("about://blank", None),
            ("blob://app.example/x", None),
            ("ws://app.example/", None),
            ("intent://x", None),
            ("//app.example/", None),
            ("/callback", None),
            ("urn:ietf:wg:oauth:2.0:oob", None),
            ("https://app.example/\r\nset-cookie: x", None),
            ("https://app.example/ä", None),
            ("https://app.example/<script>", None),
            ("", None),
        ] {
            let read = text.parse::<RedirectUri>().ok();
            assert_eq!(read.as_ref().map(RedirectUri::shown), shown, "{text}");
        }
        let long = |length: usize| format!("https://a.example/{}", "x".repeat(length - 18));
        assert!(long(BYTES_MAX).parse::<RedirectUri>().is_ok());
        assert!(long(BYTES_MAX + 1).parse::<RedirectUri>().is_err());
    }

    //= https://www.rfc-editor.org/rfc/rfc8252#section-7.3
    //= type=test
    //# The authorization server MUST allow any port to be specified at the
    //# time of the request for loopback IP redirect URIs, to accommodate
    //# clients that obtain an available ephemeral port from the operating
    //# system at the time of the request.
    #[test]
    fn only_the_port_of_a_loopback_address_may_differ() {
        for (given, registered, same) in [
            ("http://127.0.0.1:5/cb", "http://127.0.0.1/cb", true),
            ("http://127.0.0.1/cb", "http://127.0.0.1:5/cb", true),
            ("http://[::1]:5/cb", "http://[::1]:6/cb", true),
            ("http://[::1]:5/cb", "http://[::1]/cb", true),
            ("http://localhost:5/cb", "http://localhost/cb", true),
            ("http://127.0.0.1:5/cb", "http://localhost:5/cb", false),
            ("http://127.0.0.1:5/cb/", "http://127.0.0.1/cb", false),
            ("http://127.0.0.1:5/cb?x", "http://127.0.0.1/cb", false),
            ("http://127.0.0.1:5", "http://127.0.0.1/", false),
            ("https://a.example/cb", "https://a.example/cb", true),
            ("https://a.example:443/cb", "https://a.example/cb", false),
            ("https://a.example:8443/cb", "https://a.example/cb", false),
            ("https://a.example/cb?x=1", "https://a.example/cb", false),
            ("https://a.example/cb/../x", "https://a.example/cb", false),
            ("https://A.example/cb", "https://a.example/cb", false),
            ("https://localhost:5/cb", "https://localhost/cb", false),
            ("a.b://x:5/cb", "a.b://x/cb", false),
        ] {
            let [given, registered]: [RedirectUri; 2] =
                [given, registered].map(|text| text.parse().unwrap());
            assert_eq!(given.is(&registered), same, "{given} for {registered}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_shows_a_host_or_a_scheme(text in "(https|http|[a-z.]{1,6})://[a-z0-9.:@/?\\[\\]-]{0,30}") {
            if let Ok(uri) = text.parse::<RedirectUri>() {
                prop_assert!(!uri.shown().is_empty());
                prop_assert!(uri.is(&uri));
            }
        }
    }
}
