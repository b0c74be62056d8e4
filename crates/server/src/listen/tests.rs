//! A listener whose places are all taken.

use std::thread;

use axum::routing::{any, get};
use futures_util::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// A listener with so many places, and how to reach it.
async fn with(most: usize) -> (std::net::SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let ended = stop.clone();
    let endless = get(async || {
        let first = stream::iter([Ok::<_, std::io::Error>("first")]);
        Body::from_stream(futures_util::StreamExt::chain(first, stream::pending()))
    });
    let app = Router::new()
        .route("/", get(async || "here"))
        .route("/endless", endless);
    let connection = {
        let stop = stop.clone();
        move |stream, place| connection(stream, place, app.clone(), stop.clone())
    };
    tokio::spawn(async move { take(listener, ended, Places::new(most, 0), connection).await });
    (address, stop)
}

async fn says(stream: &mut TcpStream, text: &str) -> bool {
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&said).contains(text) {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(length) => said.extend_from_slice(&buffer[..length]),
        }
    }
    true
}

async fn asked(address: std::net::SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(ASK).await.unwrap();
    assert!(says(&mut stream, "here").await);
    stream
}

#[tokio::test]
async fn strangers_who_say_nothing_keep_nobody_out() {
    let (address, stop) = with(4).await;
    let mut known = asked(address).await;
    let mut strangers = Vec::new();
    for _ in 0..40 {
        let mut stranger = TcpStream::connect(address).await.unwrap();
        // Some begin a request that they never end.
        stranger.write_all(b"GET /").await.unwrap();
        strangers.push(stranger);
    }
    let _new = asked(address).await;
    known.write_all(ASK).await.unwrap();
    assert!(says(&mut known, "here").await, "who asked is kept longer");
    let mut end = [0; 16];
    assert!(!matches!(strangers[0].read(&mut end).await, Ok(1..)));
    stop.cancel();
}

#[tokio::test]
async fn who_is_being_answered_makes_no_room() {
    let (address, stop) = with(2).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        assert!(says(&mut stream, "first").await);
        streams.push(stream);
    }
    let mut third = TcpStream::connect(address).await.unwrap();
    third.write_all(ASK).await.unwrap();
    let mut buffer = [0; 1];
    let answer = timeout(Duration::from_millis(200), third.read(&mut buffer));
    assert!(answer.await.is_err(), "there is no place for it");
    drop(streams.pop());
    assert!(says(&mut third, "here").await, "now there is");
    let kept = timeout(Duration::from_millis(50), streams[0].read(&mut buffer));
    assert!(kept.await.is_err(), "the stream goes on");
    stop.cancel();
}

/// A listener as a node has it, whose answers say which thread they come from.
fn apart() -> (std::net::SocketAddr, CancellationToken, crate::lane::Lane) {
    let lane = crate::lane::Lane::start("signals").unwrap();
    let thread = || any(async || thread::current().name().unwrap_or("none").to_owned());
    let app = Router::new()
        .route("/scim/v2/Users", thread())
        .route("/ssf/okta", thread())
        .route("/mcp/files", thread())
        .route("/mcp/scim/", thread());
    let stop = CancellationToken::new();
    let calls = Handle::current();
    let listener = {
        let _there = lane.handle().enter();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        TcpListener::from_std(listener).unwrap()
    };
    let address = listener.local_addr().unwrap();
    let served = serve_apart(listener, app, stop.clone(), calls);
    lane.handle().spawn(served);
    (address, stop, lane)
}

async fn thread_of(stream: &mut TcpStream, path: &str) -> String {
    asked_by(stream, "PATCH", path).await
}

async fn asked_by(stream: &mut TcpStream, method: &str, path: &str) -> String {
    let ask = format!("{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let (mut said, mut piece) = (Vec::new(), [0; 1024]);
    loop {
        let length = stream.read(&mut piece).await.unwrap();
        assert!(length > 0, "the connection ended");
        said.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&said);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if length.unwrap().parse::<usize>().unwrap() == body.len() {
                return body.to_owned();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_says_that_somebody_left_is_heard_beside_the_calls() {
    let (address, stop, _lane) = apart();
    for path in ["/scim/v2/Users", "/ssf/okta"] {
        let mut directory = TcpStream::connect(address).await.unwrap();
        assert_eq!(thread_of(&mut directory, path).await, "signals");
        let read = asked_by(&mut directory, "GET", path).await;
        assert_ne!(read, "signals", "what may be long is read elsewhere");
        assert_eq!(thread_of(&mut directory, path).await, "signals");
        let call = thread_of(&mut directory, "/mcp/files").await;
        assert_ne!(call, "signals", "no call is made there");
        let mut end = [0; 16];
        assert!(!matches!(directory.read(&mut end).await, Ok(1..)));
    }
    for path in ["/mcp/files", "/mcp/scim/"] {
        let mut agent = TcpStream::connect(address).await.unwrap();
        assert_ne!(thread_of(&mut agent, path).await, "signals");
        let late = thread_of(&mut agent, "/scim/v2/Users").await;
        assert_ne!(late, "signals", "it is answered where its connection is");
    }
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_in_pieces_is_answered_wherever_it_comes_to() {
    let (address, stop, _lane) = apart();
    for pieces in [["GE", "T /scim/v2/Users"], ["GET /scim/", "v2/Users"]] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            stream.write_all(piece.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        let rest = b" HTTP/1.1\r\nhost: a\r\n\r\n";
        stream.write_all(rest).await.unwrap();
        assert!(says(&mut stream, "200 OK").await);
    }
    stop.cancel();
}

#[tokio::test]
async fn a_stop_ends_connections_that_never_said_anything() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = serve_apart(listener, Router::new(), stop.clone(), Handle::current());
    let served = tokio::spawn(served);
    let _silent = TcpStream::connect(address).await.unwrap();
    stop.cancel();
    served.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

/// Of HTTP/2 there are several requests on one connection.
#[test]
fn who_waits_for_one_of_several_answers_makes_no_room() {
    let places = Arc::new(Places::new(1, 0));
    let first = places.try_enter().unwrap();
    let (one, other) = (first.asks().unwrap(), first.asks().unwrap());
    drop(one);
    assert!(places.try_enter().is_none(), "one is under way");
    let again = first.asks().unwrap();
    drop(other);
    assert!(places.try_enter().is_none(), "one came meanwhile");
    drop(again);
    let second = places.try_enter().unwrap();
    assert!(first.asks().is_none(), "it has made room");
    drop(first);
    assert!(second.asks().is_some());
}

#[test]
fn a_directory_finds_a_place_where_all_others_are_taken() {
    let places = Arc::new(Places::new(2, 1));
    let all: Vec<Place> = (0..2).map(|_| places.try_enter().unwrap()).collect();
    let asking: Vec<_> = all.iter().map(Place::asks).collect();
    assert!(all.iter().all(|place| !place.is_reserved));
    let directory = places.try_enter().unwrap();
    assert!(directory.is_reserved);
    let said = directory.asks();
    assert!(places.try_enter().is_none(), "and nobody else");
    drop(said);
    let next = places.try_enter().unwrap();
    assert!(next.is_reserved, "who is silent makes room there too");
    drop(asking);
}
