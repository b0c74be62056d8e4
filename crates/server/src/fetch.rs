//! Getting documents from elsewhere, so that a stranger who names an address gains nothing by it.
//!
//! A client says where it describes itself, and the node reads that: whoever sends a request has
//! the node send one. What a stranger names is therefore read only over `https`, only from public
//! addresses, and:
//!
//! * the name is resolved once, every address that it has is checked, and the connection goes to an
//!   address that was checked: a name that resolves differently a moment later (DNS rebinding)
//!   changes nothing;
//! * no redirect is followed, no credential and no cookie is sent, no proxy is used;
//! * size, time and media type are limited, and whoever named the address learns nothing of what
//!   is there but that it was not what it should be.
//!
//! What the administrator names may lie in the company's own network.
//!
//! Built of what the program links anyway: hyper's client takes a resolver, which is the one place
//! where a name becomes an address.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use tokens::{Document, Fetch, FetchError, Fetching, NamedBy, WebUrl};
use tokio::sync::Semaphore;
use tower::Service;
use vocab::Secret;
use vocab::limits::{DOCUMENT_BYTES_MAX, DOCUMENT_SECONDS_MAX};

/// Longest age of a document that is believed, in seconds: one day.
const AGE_SECONDS_MAX: u64 = 24 * 60 * 60;

/// Documents that are fetched at once.
const FETCHES_MAX: usize = 16;

/// What makes addresses of a name.
pub trait Resolve: Send + Sync + fmt::Debug {
    /// The addresses that a host has now.
    fn resolve(&self, host: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
}

/// What the system says.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Gets documents.
#[derive(Debug)]
pub struct Fetcher {
    resolver: Arc<dyn Resolve>,
    /// Whether a stranger may name this machine: for development alone.
    loopback: bool,
    /// What strangers have read at once waits for its turn, within its time.
    places: Semaphore,
    patience: Duration,
}

impl Fetcher {
    /// One that asks the system for addresses.
    pub fn new(loopback: bool) -> Self {
        Self::with_resolver(Arc::new(SystemResolver), loopback)
    }

    /// One that asks somebody else.
    pub fn with_resolver(resolver: Arc<dyn Resolve>, loopback: bool) -> Self {
        Self {
            resolver,
            loopback,
            places: Semaphore::new(FETCHES_MAX),
            patience: Duration::from_secs(DOCUMENT_SECONDS_MAX),
        }
    }

    async fn send(
        &self,
        url: &WebUrl,
        named_by: NamedBy,
        request: Request<Full<Bytes>>,
    ) -> Result<Document, FetchError> {
        let addresses = Addresses {
            resolver: Arc::clone(&self.resolver),
            named_by,
            loopback: self.loopback,
        };
        let refused = |why| FetchError::Refused {
            url: url.to_string(),
            why,
        };
        let host = request.uri().host().unwrap_or_default();
        // A connector does not resolve what is an address already.
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        let literal = literal.parse::<IpAddr>().ok();
        if let Some(address) = literal
            && !addresses.may(address)
        {
            return Err(refused(NOT_PUBLIC));
        }
        let here = literal.map_or(host.eq_ignore_ascii_case("localhost"), |it| {
            it.is_loopback()
        });
        let in_plain = match named_by {
            NamedBy::Administrator => true,
            NamedBy::Stranger => self.loopback && here,
        };
        if !url.is_https() && !in_plain {
            return Err(refused("it is not `https`"));
        }
        let unreachable = |cause: String| FetchError::Unreachable {
            url: url.to_string(),
            cause,
        };
        let answered = async {
            let _place = self
                .places
                .acquire()
                .await
                .map_err(|error| error.to_string())?;
            let response = send(addresses, url.is_https(), request).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, DOCUMENT_BYTES_MAX).collect().await;
            let body = body.map_err(|error| format!("its answer could not be read: {error}"))?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        let response = match tokio::time::timeout(self.patience, answered).await {
            Ok(answered) => answered.map_err(unreachable)?,
            Err(_) => return Err(unreachable("it took too long".to_owned())),
        };
        document(url, &response)
    }
}

impl Fetch for Fetcher {
    fn get<'a>(&'a self, url: &'a WebUrl, named_by: NamedBy) -> Fetching<'a> {
        Box::pin(async move {
            let request = Request::get(url.as_str()).header(ACCEPT, "application/json");
            let request = request.body(Full::default()).map_err(|_| malformed(url))?;
            self.send(url, named_by, request).await
        })
    }

    fn post<'a>(
        &'a self,
        url: &'a WebUrl,
        form: Secret<String>,
        basic: Option<Secret<String>>,
    ) -> Fetching<'a> {
        Box::pin(async move {
            let mut request = Request::post(url.as_str())
                .header(ACCEPT, "application/json")
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            if let Some(basic) = basic {
                let value = format!("Basic {}", basic.expose());
                let mut value = HeaderValue::try_from(value).map_err(|_| malformed(url))?;
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            let form = Full::new(Bytes::from(form.expose().clone()));
            let request = request.body(form).map_err(|_| malformed(url))?;
            self.send(url, NamedBy::Administrator, request).await
        })
    }
}

fn malformed(url: &WebUrl) -> FetchError {
    FetchError::Refused {
        url: url.to_string(),
        why: "no request can be made of it",
    }
}

async fn send(
    addresses: Addresses,
    tls: bool,
    request: Request<Full<Bytes>>,
) -> Result<Response<hyper::body::Incoming>, String> {
    let mut http = HttpConnector::new_with_resolver(addresses);
    http.enforce_http(false);
    let mut builder = Client::builder(TokioExecutor::new());
    // A connection is for one document: the next is resolved and checked anew.
    builder.pool_max_idle_per_host(0);
    let sent = if tls {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| format!("the system's certificates cannot be read: {error}"))?
            .https_only()
            .enable_http1()
            .wrap_connector(http);
        builder.build(connector).request(request).await
    } else {
        builder.build(http).request(request).await
    };
    sent.map_err(|error| {
        let mut cause: &dyn Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        cause.to_string()
    })
}

/// What an answer is, if it is a document. A redirect is an answer that is none.
fn document(url: &WebUrl, response: &Response<Bytes>) -> Result<Document, FetchError> {
    if response.status() != StatusCode::OK {
        let told = serde_json::from_slice::<serde_json::Value>(response.body()).ok();
        let told = told.and_then(|body| body.get("error")?.as_str().map(str::to_owned));
        return Err(FetchError::Status {
            url: url.to_string(),
            status: response.status().as_u16(),
            error: told.filter(|error| {
                let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
                error.len() <= 64 && error.bytes().all(word)
            }),
        });
    }
    let media_type = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase())
        .unwrap_or_default();
    // `application/jwk-set+json` and the like are JSON by their suffix (RFC 6839).
    let is_json = media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"));
    if !is_json {
        return Err(FetchError::MediaType {
            url: url.to_string(),
        });
    }
    Ok(Document {
        body: response.body().to_vec(),
        fresh: freshness(response.headers()),
    })
}

/// For how long an answer holds by its `Cache-Control` (RFC 9111 §5.2.2); none if it does not say.
fn freshness(headers: &HeaderMap) -> Option<Duration> {
    let mut age = None;
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in value.to_str().ok()?.split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" | "no-cache" => return Some(Duration::ZERO),
                "max-age" => {
                    let seconds: u64 = value.trim().trim_matches('"').parse().ok()?;
                    age = Some(Duration::from_secs(seconds.min(AGE_SECONDS_MAX)));
                }
                _ => {}
            }
        }
    }
    age
}

const NOT_PUBLIC: &str = "its address is not a public one";

/// A resolver that gives only addresses that may be connected to.
#[derive(Debug, Clone)]
struct Addresses {
    resolver: Arc<dyn Resolve>,
    named_by: NamedBy,
    loopback: bool,
}

impl Addresses {
    fn may(&self, address: IpAddr) -> bool {
        match self.named_by {
            NamedBy::Administrator => true,
            NamedBy::Stranger => is_public(address) || (self.loopback && address.is_loopback()),
        }
    }
}

impl Service<Name> for Addresses {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let these = self.clone();
        Box::pin(async move {
            let found = these.resolver.resolve(name.as_str()).await?;
            // One that is not public beside one that is: a name that is meant to be mistaken.
            if found.is_empty() || !found.iter().all(|address| these.may(*address)) {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, NOT_PUBLIC));
            }
            let all: Vec<_> = found.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(all.into_iter())
        })
    }
}

/// Whether an address is one of the public network: none of those that the IANA registries of
/// special-purpose addresses keep for something else.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Networks of IPv4 that are kept for something else, by their first address and the length of
/// their prefix.
const SPECIAL_V4: [(Ipv4Addr, u32); 18] = [
    (Ipv4Addr::UNSPECIFIED, 8),           // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private use
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // shared by a provider's customers
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local, clouds' metadata among it
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private use
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation
    (Ipv4Addr::new(192, 31, 196, 0), 24), // AS112
    (Ipv4Addr::new(192, 52, 193, 0), 24), // AMT
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private use
    (Ipv4Addr::new(192, 175, 48, 0), 24), // AS112
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved, and broadcast
];

fn is_public_v4(address: Ipv4Addr) -> bool {
    let bits = u32::from(address);
    !SPECIAL_V4
        .iter()
        .any(|(first, length)| (bits ^ u32::from(*first)) >> (32 - length) == 0)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // Only global unicast is public at all. Loopback, unique local, link-local and multicast lie
    // outside of it, and so do addresses that hide one of IPv4 (mapped, and NAT64's `64:ff9b::`).
    let global = first & 0xe000 == 0x2000;
    let special = match (first, second) {
        // Protocol assignments with Teredo, and documentation.
        (0x2001, second) => second < 0x0200 || second == 0x0db8,
        // 6to4 hides an address of IPv4; documentation.
        (0x2002, _) => true,
        (0x3fff, second) => second < 0x1000,
        _ => false,
    };
    global && !special
}

#[cfg(test)]
mod tests;
