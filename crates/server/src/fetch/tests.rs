//! What a stranger can have the node fetch, and what not.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A server that gives each connection the same answer, and counts them.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let _gone = stream.write_all(answer.as_bytes()).await;
                    let _gone = stream.shutdown().await;
                });
            }
        });
        Self { port, connections }
    }

    async fn json(body: &str) -> Self {
        Self::start(answer("200 OK", "content-type: application/json\r\n", body)).await
    }

    fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// Gives one set of addresses after the other, and keeps giving the last.
#[derive(Debug)]
struct Scripted {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |all: &&[&str]| all.iter().map(|it| it.parse().unwrap()).collect();
        Arc::new(Self {
            answers: Mutex::new(answers.iter().map(parse).collect()),
            asked: AtomicUsize::new(0),
        })
    }
}

impl Resolve for Scripted {
    fn resolve(&self, _: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 {
            answers.pop_front().unwrap()
        } else {
            answers.front().unwrap().clone()
        };
        Box::pin(async move { Ok(answer) })
    }
}

async fn get(fetcher: &Fetcher, url: &str, named_by: NamedBy) -> Result<Document, FetchError> {
    fetcher.get(&url.parse().unwrap(), named_by).await
}

fn refused(result: &Result<Document, FetchError>) -> bool {
    matches!(result, Err(FetchError::Refused { .. }))
}

#[test]
fn special_addresses_are_not_public() {
    for text in [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "ff02::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "5f00::1",
    ] {
        assert!(!is_public(text.parse().unwrap()), "{text}");
    }
    for text in [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "192.0.1.1",
        "198.17.255.255",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450::1",
        "2001:4860:4860::8888",
    ] {
        assert!(is_public(text.parse().unwrap()), "{text}");
    }
}

#[tokio::test]
async fn ssrf_by_address_or_name_reaches_nothing() {
    let server = Server::json("{}").await;
    let port = server.port;
    for (url, addresses) in [
        (format!("https://127.0.0.1:{port}/"), "127.0.0.1"),
        (format!("https://[::1]:{port}/"), "::1"),
        (format!("https://[::ffff:127.0.0.1]:{port}/"), "::1"),
        (format!("https://localhost:{port}/"), "127.0.0.1"),
        (format!("https://inside.example:{port}/"), "127.0.0.1"),
        (
            format!("https://inside.example:{port}/"),
            "::ffff:127.0.0.1",
        ),
        ("https://meta.example/latest".to_owned(), "169.254.169.254"),
        ("https://wide.example/".to_owned(), "10.0.0.1"),
    ] {
        let fetcher = Fetcher::with_resolver(Scripted::new(&[&[addresses]]), false);
        let result = get(&fetcher, &url, NamedBy::Stranger).await;
        let error = result.expect_err(&url).to_string();
        assert!(error.contains(NOT_PUBLIC), "{url}: {error}");
    }
    // An address that is public does not make up for one that is not.
    let both = Scripted::new(&[&["93.184.215.14", "127.0.0.1"]]);
    let fetcher = Fetcher::with_resolver(both, false);
    let result = get(
        &fetcher,
        &format!("https://both.example:{port}/"),
        NamedBy::Stranger,
    )
    .await;
    assert!(result.unwrap_err().to_string().contains(NOT_PUBLIC));
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn dns_rebinding_changes_nothing_after_the_check() {
    let server = Server::json(r#"{"a":1}"#).await;
    let resolver = Scripted::new(&[&["127.0.0.1"], &["10.255.255.1"]]);
    let fetcher = Fetcher::with_resolver(Arc::clone(&resolver) as _, true);
    let url = format!("http://localhost:{}/", server.port);
    let document = get(&fetcher, &url, NamedBy::Stranger).await.unwrap();
    assert_eq!(document.body, br#"{"a":1}"#);
    // It was asked once, and the connection went to what it said then.
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
    assert_eq!(server.count(), 1);
    // The next document is resolved and checked anew.
    let again = get(&fetcher, &url, NamedBy::Stranger).await;
    assert!(again.unwrap_err().to_string().contains(NOT_PUBLIC));
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 2);
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn plain_http_is_for_the_administrator_and_for_development() {
    let server = Server::json("{}").await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let strict = Fetcher::new(false);
    let lax = Fetcher::new(true);
    assert!(refused(&get(&strict, &url, NamedBy::Stranger).await));
    assert_eq!(server.count(), 0);
    assert!(get(&strict, &url, NamedBy::Administrator).await.is_ok());
    assert!(get(&lax, &url, NamedBy::Stranger).await.is_ok());
    // Loopback alone: not whatever a name stands for.
    let named = Fetcher::with_resolver(Scripted::new(&[&["127.0.0.1"]]), true);
    let url = format!("http://inside.example:{}/", server.port);
    assert!(refused(&get(&named, &url, NamedBy::Stranger).await));
    let named = Fetcher::with_resolver(Scripted::new(&[&["10.0.0.1"]]), true);
    let result = get(&named, "https://inside.example/", NamedBy::Stranger).await;
    assert!(result.unwrap_err().to_string().contains(NOT_PUBLIC));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inner = Server::json("{}").await;
    let to = format!("location: http://127.0.0.1:{}/\r\n", inner.port);
    for status in ["301 Moved", "302 Found", "303 See Other", "307 T", "308 P"] {
        let outer = Server::start(answer(status, &to, "")).await;
        let url = format!("http://127.0.0.1:{}/", outer.port);
        let result = get(&Fetcher::new(true), &url, NamedBy::Stranger).await;
        assert!(matches!(result, Err(FetchError::Status { .. })), "{status}");
        assert_eq!(outer.count(), 1);
    }
    assert_eq!(inner.count(), 0);
}

#[tokio::test]
async fn size_and_type_are_limited() {
    let json = "content-type: application/json\r\n";
    let at = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    let check = async |answer: String| {
        let server = Server::start(answer).await;
        let url = format!("http://127.0.0.1:{}/", server.port);
        get(&Fetcher::new(true), &url, NamedBy::Stranger).await
    };
    assert!(
        check(answer("200 OK", json, &at(DOCUMENT_BYTES_MAX)))
            .await
            .is_ok()
    );
    let long = check(answer("200 OK", json, &at(DOCUMENT_BYTES_MAX + 1))).await;
    assert!(matches!(long, Err(FetchError::Unreachable { .. })));
    for (media_type, good) in [
        ("application/json; charset=utf-8", true),
        ("Application/JWK-Set+JSON", true),
        ("text/html", false),
        ("text/plain", false),
        ("application/jsonp", false),
    ] {
        let header = format!("content-type: {media_type}\r\n");
        let read = check(answer("200 OK", &header, "{}")).await;
        assert_eq!(read.is_ok(), good, "{media_type}");
    }
    let untyped = check(answer("200 OK", "", "{}")).await;
    assert!(matches!(untyped, Err(FetchError::MediaType { .. })));
    let short = check(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{}"
            .to_owned(),
    )
    .await;
    assert!(matches!(short, Err(FetchError::Unreachable { .. })));
}

#[tokio::test]
async fn time_is_limited() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    // It takes the connection and says nothing.
    let mut fetcher = Fetcher::new(true);
    fetcher.patience = Duration::from_millis(20);
    let result = get(&fetcher, &url, NamedBy::Stranger).await;
    let error = result.unwrap_err().to_string();
    assert!(error.contains("too long"), "{error}");
}

#[test]
fn documents_say_how_long_they_hold() {
    for (value, seconds) in [
        (None, None),
        (Some("max-age=60"), Some(60)),
        (Some("public, Max-Age=\"60\""), Some(60)),
        (Some("max-age=999999999"), Some(AGE_SECONDS_MAX)),
        (Some("max-age=60, no-store"), Some(0)),
        (Some("no-cache"), Some(0)),
        (Some("public"), None),
        (Some("max-age=soon"), None),
    ] {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(CACHE_CONTROL, value.parse().unwrap());
        }
        let expected = seconds.map(Duration::from_secs);
        assert_eq!(freshness(&headers), expected, "{value:?}");
    }
}
