//! The HTTP listener: connections are few and slow ones short-lived, so that a stranger who opens
//! sockets and says nothing cannot stop the node.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a connection may take to send a request's headers, idle time before included.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long no connection is taken after one could not be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Most connections at once, where the system allows so many files.
const CONNECTIONS_MAX: u64 = 16_384;
/// Fewest.
const CONNECTIONS_MIN: u64 = 16;

/// Serves HTTP/1.1 until stopped, and then lets each connection end its request.
pub(crate) async fn serve(listener: TcpListener, app: Router, stop: CancellationToken) {
    let ended = stop.clone();
    take(listener, stop, move |stream| {
        connection(stream, app.clone(), ended.clone())
    })
    .await;
}

/// Takes connections until stopped, and then waits until each has ended.
pub(crate) async fn take<F>(
    listener: TcpListener,
    stop: CancellationToken,
    connection: impl Fn(TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    // Half of the files that the process may open are for logs, upstreams and administration.
    let most = (files_max() / 2).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX);
    let places = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(64)));
    let tasks = TaskTracker::new();
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match (place, accepted) {
            (Ok(place), Ok((stream, _))) => {
                let connection = connection(stream);
                tasks.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            (Err(_), _) => break,
            (Ok(_), Err(error)) => {
                tracing::warn!(error = %error, "A connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

async fn connection(stream: TcpStream, app: Router, stop: CancellationToken) {
    // Answers are small and somebody waits for each.
    let _as_it_is = stream.set_nodelay(true);
    let service = TowerToHyperService::new(app);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "A connection broke");
    }
}

/// How many files the process may open, after asking for as many as it may ask for.
#[cfg(unix)]
fn files_max() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let asked = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let raised = setrlimit(Resource::Nofile, asked).is_ok();
    let current = if raised { limit.maximum } else { limit.current };
    current.unwrap_or(CONNECTIONS_MAX * 2)
}

#[cfg(not(unix))]
fn files_max() -> u64 {
    CONNECTIONS_MAX
}
