//! A listener whose places are all taken.

use axum::routing::get;
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
    tokio::spawn(async move { take(listener, ended, most, connection).await });
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
    let answer = tokio::time::timeout(Duration::from_millis(200), third.read(&mut buffer));
    assert!(answer.await.is_err(), "there is no place for it");
    drop(streams.pop());
    assert!(says(&mut third, "here").await, "now there is");
    let kept = tokio::time::timeout(Duration::from_millis(50), streams[0].read(&mut buffer));
    assert!(kept.await.is_err(), "the stream goes on");
    stop.cancel();
}
