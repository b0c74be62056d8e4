//! One request: its headers, its way to the gateway, and its answer.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use mcp::headers::{self, ParamHeaders};
use mcp::sse::{Event, SseParser};
use mcp::{Era, Frame, List, Method, ProtocolVersion, Raw, Request, error, meta};
use serde::Deserialize;
use serde_json::value::RawValue;
use vocab::ToolName;
use vocab::limits::{PAGES_MAX, RESPONSE_BYTES_MAX};

use super::Bridge;
use super::gateway::Trouble;
use super::legacy::Session;

/// How often a stream that broke off is taken up again before its request is given up.
const RESUMED_MAX: usize = 5;
/// How long to wait before that, unless the server says.
const RESUME_AFTER: Duration = Duration::from_secs(1);

/// What tells messages apart, without reading the rest.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, default)]
    method: Option<&'a RawValue>,
}

fn is_response(message: &[u8]) -> bool {
    serde_json::from_slice::<Kind<'_>>(message).is_ok_and(|kind| kind.method.is_none())
}

impl Bridge {
    /// Carries a request to the gateway and everything that comes of it to the client.
    pub(super) async fn carry(self: &Arc<Self>, request: &Request, era: Era) {
        let answered = match era {
            Era::Modern => self.modern(request).await,
            Era::Legacy => self.legacy(request).await,
        };
        match answered {
            Ok(answer) => {
                if era == Era::Modern && *request.method() == Method::ToolsList {
                    self.learn(&answer);
                }
                self.tell(answer).await;
            }
            Err(trouble) => self.tell_trouble(request, &trouble).await,
        }
    }

    /// Says why a request has no answer.
    pub(super) async fn tell_trouble(&self, request: &Request, trouble: &Trouble) {
        let method = request.method();
        tracing::warn!(mcp.method = %method, "{method} was not answered: {trouble}");
        let text = format!("Tipstaff: {trouble}.");
        self.tell_error(Some(&request.id()), error::code::INTERNAL, &text)
            .await;
        if matches!(trouble, Trouble::Ended) {
            self.told_ended.cancel();
        }
    }

    async fn modern(&self, request: &Request) -> Result<Bytes, Trouble> {
        let answer = self
            .gateway
            .post(request.bytes().clone(), self.modern_headers(request))
            .await?;
        let status = answer.status();
        let body = self.answer(request, answer).await?;
        let is_mismatch = status == StatusCode::BAD_REQUEST
            && *request.method() == Method::ToolsCall
            && code(&body) == Some(error::code::HEADER_MISMATCH);
        // It was not looked at: the tool may want headers that no listing has told us of.
        if is_mismatch && self.learn_all(request).await? {
            let headers = self.modern_headers(request);
            let answer = self.gateway.post(request.bytes().clone(), headers).await?;
            return self.answer(request, answer).await;
        }
        Ok(body)
    }

    fn modern_headers(&self, request: &Request) -> HeaderMap {
        let tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        let tool = request
            .name()
            .and_then(|name| name.parse::<ToolName>().ok());
        let annotations = tool
            .filter(|_| *request.method() == Method::ToolsCall)
            .and_then(|tool| tools.get(&tool));
        // What cannot be put in a header is left for the gateway to complain about.
        let mut headers = headers::of_request(ProtocolVersion::LATEST, request, annotations)
            .or_else(|_| headers::of_request(ProtocolVersion::LATEST, request, None))
            .unwrap_or_else(|_| headers::standard(ProtocolVersion::LATEST));
        drop(tools);
        // A revision that we do not know is the gateway's to judge.
        if let Some(version) = request.protocol_version()
            && let Ok(version) = HeaderValue::from_str(&version)
        {
            headers.insert(headers::PROTOCOL_VERSION, version);
        }
        headers
    }

    async fn legacy(self: &Arc<Self>, request: &Request) -> Result<Bytes, Trouble> {
        let session = self.session();
        let answer = self.in_session(request, session.as_deref()).await?;
        let (Some(session), StatusCode::NOT_FOUND) = (session, answer.status()) else {
            return self.answer_resumed(request, answer).await;
        };
        // The gateway does not know the session, so it has not looked at the request.
        self.reopen(&session).await?;
        let answer = self.in_session(request, self.session().as_deref()).await?;
        self.answer_resumed(request, answer).await
    }

    async fn in_session(
        &self,
        request: &Request,
        session: Option<&Session>,
    ) -> Result<Response<Incoming>, Trouble> {
        let headers = match session {
            Some(session) => session.headers(),
            None => headers::standard(ProtocolVersion::V2025_03_26),
        };
        self.gateway.post(request.bytes().clone(), headers).await
    }

    /// The response in an answer; everything before it goes to the client at once.
    pub(super) async fn answer(
        &self,
        request: &Request,
        answer: Response<Incoming>,
    ) -> Result<Bytes, Trouble> {
        let mut last = None;
        match self
            .read_answer(request, answer, &mut last, &mut None)
            .await?
        {
            Some(response) => Ok(response),
            None => Err(self
                .gateway
                .cut_off("its stream ended without the response")),
        }
    }

    /// As [`Self::answer`]; a stream that breaks off is taken up again, as the legacy era can.
    async fn answer_resumed(
        &self,
        request: &Request,
        answer: Response<Incoming>,
    ) -> Result<Bytes, Trouble> {
        let (mut last, mut retry) = (None, None);
        let mut outcome = self
            .read_answer(request, answer, &mut last, &mut retry)
            .await;
        for _ in 0..RESUMED_MAX {
            match (&outcome, &last, self.session()) {
                (Ok(None) | Err(Trouble::BrokenOff { .. }), Some(_), Some(session)) => {
                    tokio::time::sleep(retry.unwrap_or(RESUME_AFTER)).await;
                    let resumed = self.resume(&session, last.as_deref()).await?;
                    outcome = self
                        .read_answer(request, resumed, &mut last, &mut retry)
                        .await;
                }
                _ => break,
            }
        }
        outcome?.ok_or_else(|| {
            self.gateway
                .cut_off("its stream ended without the response")
        })
    }

    async fn read_answer(
        &self,
        request: &Request,
        answer: Response<Incoming>,
        last: &mut Option<String>,
        retry: &mut Option<Duration>,
    ) -> Result<Option<Bytes>, Trouble> {
        let status = answer.status();
        if is(answer.headers(), "text/event-stream") {
            let mut response = None;
            self.events(answer, last, retry, &mut |message| {
                let is_it = is_response(message);
                if is_it {
                    response = Some(message.clone());
                }
                is_it
            })
            .await?;
            return Ok(response);
        }
        let body = self.gateway.whole(answer).await?;
        match Frame::parse(body.clone()) {
            Ok(Frame::Response(response)) if response.id_text() == Some(request.id_text()) => {
                Ok(Some(body))
            }
            // An answer to a request that was not read has no id; the client needs one.
            Ok(Frame::Response(response)) if response.is_error() => {
                let code = response.error_code().unwrap_or(error::code::INTERNAL);
                let said = response.error();
                let text = said.and_then(|error| error.get("message")?.as_str());
                let text = text.unwrap_or_default();
                let data = said
                    .and_then(|error| error.get("data"))
                    .map(mcp::Value::raw);
                Ok(Some(error::failure(
                    Some(&request.id()),
                    Era::Legacy,
                    code,
                    &told(status, &text),
                    data.as_ref(),
                )))
            }
            // A response that is too large or deep for us to read is still the client's.
            Err(_) if status.is_success() && is_response(&body) => Ok(Some(body)),
            Ok(_) | Err(_) => {
                let text = String::from_utf8_lossy(&body).chars().take(200).collect();
                Err(Trouble::Status { status, text })
            }
        }
    }

    /// Reads a stream of events to its end, or until `is_last` says so of a message. That one is
    /// the caller's; the others go to the client.
    pub(super) async fn events(
        &self,
        answer: Response<Incoming>,
        last: &mut Option<String>,
        retry: &mut Option<Duration>,
        is_last: &mut (dyn FnMut(&Bytes) -> bool + Send),
    ) -> Result<(), Trouble> {
        let mut body = answer.into_body();
        let mut parser = SseParser::new(RESPONSE_BYTES_MAX);
        let mut events: Vec<Event> = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.gateway.cut_off(&error.to_string()))?;
            let Ok(chunk) = frame.into_data() else {
                continue;
            };
            parser
                .push(&chunk, &mut events)
                .map_err(|error| self.gateway.cut_off(&error.to_string()))?;
            for event in events.drain(..) {
                if event.id.is_some() {
                    *last = event.id;
                }
                if let Some(wait) = event.retry_ms {
                    *retry = Some(Duration::from_millis(wait));
                }
                let Some(message) = event.data.filter(|data| !data.trim_ascii().is_empty()) else {
                    continue;
                };
                if is_last(&message) {
                    return Ok(());
                }
                self.tell(message).await;
            }
        }
        Ok(())
    }

    /// Notes what headers mirror of the arguments of tools that a listing names.
    fn learn(&self, answer: &Bytes) {
        let Ok(Frame::Response(response)) = Frame::parse(answer.clone()) else {
            return;
        };
        let mut tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        for tool in response.listed(List::Tools) {
            let name = tool.get("name").and_then(mcp::Value::as_str);
            let name = name.and_then(|name| name.parse::<ToolName>().ok());
            if let (Some(name), Ok(annotations)) = (name, ParamHeaders::of_tool(tool)) {
                tools.insert(name, annotations);
            }
        }
    }

    /// Lists the tools for ourselves. False if there is nothing new to be learned.
    async fn learn_all(&self, request: &Request) -> Result<bool, Trouble> {
        let known = || {
            self.tools
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .len()
        };
        let before = known();
        let told = |key| Some((key, request.meta_text(key)?));
        let metadata: Vec<String> = [meta::PROTOCOL_VERSION, meta::CLIENT_CAPABILITIES]
            .into_iter()
            .filter_map(told)
            .map(|(key, value)| format!("\"{key}\":{value}"))
            .collect();
        let mut cursor = String::new();
        for page in 0..PAGES_MAX {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":"tipstaff-{page}","method":"tools/list","params":{{{cursor}"_meta":{{{}}}}}}}"#,
                metadata.join(",")
            );
            let Ok(Frame::Request(list)) = Frame::parse(body.into()) else {
                return Ok(false);
            };
            let answer = self
                .gateway
                .post(list.bytes().clone(), self.modern_headers(&list))
                .await?;
            let answer = self.answer(&list, answer).await?;
            self.learn(&answer);
            let Ok(Frame::Response(response)) = Frame::parse(answer) else {
                break;
            };
            let next = response
                .result()
                .and_then(|result| result.get("nextCursor")?.as_str());
            match next {
                Some(next) => cursor = format!("\"cursor\":{},", Raw::string(&next).as_str()),
                None => break,
            }
        }
        Ok(known() > before)
    }
}

/// What the gateway says with a status, put so that the user of a client knows what to do.
fn told(status: StatusCode, text: &str) -> String {
    match status {
        StatusCode::FORBIDDEN => format!("Tipstaff: the gateway refuses this client: {text}."),
        StatusCode::NOT_FOUND => format!(
            "Tipstaff: the gateway has no such upstream ({text}); see the `[upstream.NAME]` \
             sections of its configuration."
        ),
        status if status.is_server_error() => {
            format!("Tipstaff: the gateway or its upstream failed: {text}.")
        }
        _ => text.to_owned(),
    }
}

fn code(message: &Bytes) -> Option<i64> {
    match Frame::parse(message.clone()) {
        Ok(Frame::Response(response)) => response.error_code(),
        Ok(_) | Err(_) => None,
    }
}

fn is(headers: &HeaderMap, media_type: &str) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case(media_type))
}
