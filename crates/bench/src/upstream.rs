//! A small, fast MCP server over HTTP that speaks both eras: what the gateway stands in front of.

use std::borrow::Cow;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::net::TcpListener;

use crate::child;
use crate::looking;
use crate::machine;
use crate::world;

/// Answers when the last byte of the last call was here that a cut is to end.
pub(crate) const LAST_PATH: &str = "/last";

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    arguments: Option<Arguments<'a>>,
}

#[derive(Deserialize)]
struct Arguments<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow)]
    text: &'a RawValue,
}

/// What it gives: its tools, and the texts of its own, as JSON.
struct Offer {
    tools: String,
    sized: HashMap<String, String>,
}

/// When the last byte of the last call about [`world::FILE`] was here, in µs since 1970.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Serves until its parent goes.
pub(crate) async fn run() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    child::ready(&listener.local_addr()?.to_string())?;
    let offer = Arc::new(Offer {
        tools: world::tools().to_string(),
        sized: world::sized(&looking::SIZES),
    });
    let serving = async {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let offer = Arc::clone(&offer);
            let service = service_fn(move |request| {
                let offer = Arc::clone(&offer);
                async move { Ok::<_, Infallible>(serve(request, &offer).await) }
            });
            // A client that goes away ends its connection and nothing else.
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move { drop(serving.await) });
        }
    };
    tokio::select! {
        ended = serving => ended,
        () = child::parent_gone() => Ok(()),
    }
}

async fn serve(request: Request<Incoming>, offer: &Offer) -> Response<Full<Bytes>> {
    if request.uri().path() == LAST_PATH {
        let last = LAST.load(Ordering::Acquire).to_string();
        return Response::new(Full::new(Bytes::from(last)));
    }
    let Ok(body) = request.into_body().collect().await else {
        return status(StatusCode::BAD_REQUEST);
    };
    let at = machine::now().as_micros();
    let body = body.to_bytes();
    let Ok(message) = serde_json::from_slice::<Message<'_>>(&body) else {
        return status(StatusCode::BAD_REQUEST);
    };
    let Some(id) = message.id else {
        return status(StatusCode::ACCEPTED);
    };
    let info = json!({"name": "bench", "version": "1"});
    let result = match &*message.method {
        "tools/call" => {
            let arguments = message.params.and_then(|params| params.arguments);
            if arguments.as_ref().is_some_and(|it| it.path == world::FILE) {
                LAST.fetch_max(at, Ordering::AcqRel);
            }
            let own = arguments.as_ref().and_then(|it| offer.sized.get(&*it.path));
            let text = own.map_or_else(
                || arguments.as_ref().map_or("\"\"", |it| it.text.get()),
                String::as_str,
            );
            format!(r#"{{"resultType":"complete","content":[{{"type":"text","text":{text}}}]}}"#)
        }
        "tools/list" => format!(
            r#"{{"resultType":"complete","ttlMs":0,"cacheScope":"public","tools":{}}}"#,
            offer.tools
        ),
        "initialize" => json!({
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info,
        })
        .to_string(),
        "server/discover" => json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "ttlMs": 0,
            "cacheScope": "public", "capabilities": {"tools": {}},
            "_meta": {"io.modelcontextprotocol/serverInfo": info},
        })
        .to_string(),
        _ => "{}".to_owned(),
    };
    let body = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.get());
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if message.method == "initialize" {
        headers.insert(SESSION, HeaderValue::from_static("one-for-all"));
    }
    response
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
