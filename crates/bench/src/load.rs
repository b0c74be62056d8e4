//! The load: connections that are kept open and each send one call after another, with as little
//! work between an answer and the next call as can be, since the cores are shared.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

use crate::machine;
use crate::stats::{median, micros, quantile};
use crate::world;

/// An era of MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Era {
    /// 2026-07-28: each request stands alone.
    Modern,
    /// 2025-11-25: requests within a session.
    Legacy,
}

impl Era {
    pub(crate) const ALL: [Self; 2] = [Self::Modern, Self::Legacy];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Modern => "modern",
            Self::Legacy => "legacy",
        }
    }

    const fn version(self) -> &'static str {
        match self {
            Self::Modern => "2026-07-28",
            Self::Legacy => "2025-11-25",
        }
    }
}

/// What a modern request says of who sends it.
const META: &str = r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"}}"#;

/// An HTTP/1.1 connection that is kept open.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer: its head and where its body lies in the connection's buffer.
pub(crate) struct Answer {
    head: Range<usize>,
    body: Range<usize>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(16 * 1024),
        })
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let mut seen = 0;
        let head = loop {
            self.more().await?;
            let from = usize::saturating_sub(seen, 3);
            let unseen = self.buffer.get(from..).unwrap_or_default();
            if let Some(at) = unseen.windows(4).position(|it| it == b"\r\n\r\n") {
                break from + at + 4;
            }
            seen = self.buffer.len();
        };
        let length = header(self.bytes(&(0..head)), "content-length")
            .and_then(|length| length.parse::<usize>().ok())
            .context("an answer without a length")?;
        while self.buffer.len() < head + length {
            self.more().await?;
        }
        Ok(Answer {
            head: 0..head,
            body: head..head + length,
        })
    }

    async fn more(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the connection ended early");
        }
        Ok(())
    }

    fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.buffer.get(range.clone()).unwrap_or_default()
    }

    /// The body of an answer with status 200; anything else is an error that shows it.
    pub(crate) fn success(&self, answer: &Answer) -> Result<&[u8]> {
        if self.bytes(&answer.head).starts_with(b"HTTP/1.1 200") {
            return Ok(self.bytes(&answer.body));
        }
        let text = String::from_utf8_lossy(self.bytes(&(0..answer.body.end)));
        bail!("the answer is no success:\n{text}")
    }

    /// A header of an answer.
    fn header(&self, answer: &Answer, name: &str) -> Option<String> {
        header(self.bytes(&answer.head), name).map(str::to_owned)
    }
}

fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let head = std::str::from_utf8(head).ok()?;
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = headers.find(|(it, _)| it.eq_ignore_ascii_case(name))?;
    Some(value.trim())
}

/// Where calls go, and by whom.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The address.
    pub(crate) address: SocketAddr,
    /// The path.
    pub(crate) path: String,
    /// `Authorization`, if one is needed.
    pub(crate) authorization: Option<String>,
}

impl Target {
    fn head(&self, era: Era) -> String {
        let Self {
            address,
            path,
            authorization,
        } = self;
        let authorization = authorization
            .as_ref()
            .map_or_else(String::new, |it| format!("Authorization: {it}\r\n"));
        format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}\
             Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
             MCP-Protocol-Version: {}\r\n",
            era.version()
        )
    }

    /// A modern call of a tool, whose time is not that of many.
    pub(crate) fn call(&self, tool: &str, arguments: &str) -> Vec<u8> {
        let extra = format!("Mcp-Method: tools/call\r\nMcp-Name: {tool}\r\n");
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}{META}}}}}"#
        );
        self.request(Era::Modern, &extra, &body)
    }

    /// A request with one body, outside of what is measured.
    fn request(&self, era: Era, extra: &str, body: &str) -> Vec<u8> {
        let head = self.head(era);
        let length = body.len();
        format!("{head}{extra}Content-Length: {length}\r\n\r\n{body}").into_bytes()
    }
}

/// What one connection does.
pub(crate) struct Client {
    pub(crate) target: Target,
    pub(crate) era: Era,
    /// The tool's arguments, as JSON text.
    pub(crate) arguments: String,
    /// A fresh proof for each request, if the target asks for them; all of one length.
    pub(crate) proofs: Vec<String>,
}

/// How long a load lasts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lasting {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// What one load came to.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measured {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) calls_per_second: f64,
    /// User and system time of the process under test, for each call.
    pub(crate) cpu_us: f64,
}

impl Measured {
    /// The median of several, figure by figure.
    pub(crate) fn middle(all: &[Self]) -> Self {
        let middle = |of: fn(&Self) -> f64| median(&mut all.iter().map(of).collect::<Vec<_>>());
        Self {
            p50_us: middle(|it| it.p50_us),
            p99_us: middle(|it| it.p99_us),
            p999_us: middle(|it| it.p999_us),
            calls_per_second: middle(|it| it.calls_per_second),
            cpu_us: middle(|it| it.cpu_us),
        }
    }
}

/// Runs all clients at once and watches what the process `pid` uses meanwhile.
pub(crate) async fn run(clients: Vec<Client>, pid: u32, lasting: Lasting) -> Result<Measured> {
    let start = Arc::new(Barrier::new(clients.len() + 1));
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|client| {
            let start = Arc::clone(&start);
            tokio::spawn(async move {
                let ready = Ready::make(client, lasting.warm_up).await;
                start.wait().await;
                ready?.run(lasting.measured).await
            })
        })
        .collect();
    start.wait().await;
    let (begin, cpu_before) = (machine::elapsed(), machine::cpu(pid)?);
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    let cpu = machine::cpu(pid)?.saturating_sub(cpu_before);
    let lasted = machine::elapsed().saturating_sub(begin).as_secs_f64();
    if times.is_empty() {
        bail!("no call was made");
    }
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let calls = times.len() as f64;
    Ok(Measured {
        p50_us: quantile(&mut times, 0.5),
        p99_us: quantile(&mut times, 0.99),
        p999_us: quantile(&mut times, 0.999),
        calls_per_second: calls / lasted,
        cpu_us: micros(cpu) / calls,
    })
}

/// What calls came to that were made without looking at whether they are permitted.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    pub(crate) made: u64,
    pub(crate) refused: u64,
    /// Made although they were begun after the moment from which none may be.
    pub(crate) made_late: u64,
}

/// What the calls of [`insist`] are told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The cut is acknowledged: no call that begins now may be made.
    pub(crate) acknowledged: AtomicBool,
    pub(crate) stop: AtomicBool,
}

/// Calls until it is told to stop, whatever the answers are.
pub(crate) async fn insist(
    client: Client,
    warm_up: Duration,
    warm: Arc<Barrier>,
    told: Arc<Told>,
) -> Result<Tried> {
    let ready = Ready::make(client, warm_up).await;
    warm.wait().await;
    let Ready {
        mut connection,
        mut template,
        ..
    } = ready?;
    let mut tried = Tried::default();
    while !told.stop.load(Ordering::Acquire) {
        let is_late = told.acknowledged.load(Ordering::Acquire);
        let answer = connection.exchange(template.next(None)).await?;
        let made = connection
            .success(&answer)
            .is_ok_and(|body| body.len() >= world::TEXT_BYTES);
        if made {
            tried.made += 1;
            tried.made_late += u64::from(is_late);
        } else {
            tried.refused += 1;
        }
    }
    Ok(tried)
}

/// A client whose connection is open and warm.
struct Ready {
    connection: Connection,
    template: Template,
    proofs: std::vec::IntoIter<String>,
}

impl Ready {
    async fn make(client: Client, warm_up: Duration) -> Result<Self> {
        let Client {
            target,
            era,
            arguments,
            proofs,
        } = client;
        let mut proofs = proofs.into_iter();
        let mut connection = Connection::open(target.address).await?;
        let proof = |proof: Option<String>| {
            proof.map_or_else(String::new, |proof| format!("DPoP: {proof}\r\n"))
        };
        let session = match era {
            Era::Modern => None,
            Era::Legacy => {
                let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
                let request = target.request(era, &proof(proofs.next()), body);
                let answer = connection.exchange(&request).await?;
                connection.success(&answer)?;
                let session = connection.header(&answer, "mcp-session-id");
                let session = session.context("no session was opened")?;
                let body = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
                let extra = format!("{}Mcp-Session-Id: {session}\r\n", proof(proofs.next()));
                let request = target.request(era, &extra, body);
                connection.exchange(&request).await?;
                Some(session)
            }
        };
        let proof = proofs.as_slice().first();
        let template = Template::of(&target, era, &arguments, session.as_deref(), proof);
        let mut ready = Self {
            connection,
            template,
            proofs,
        };
        ready.first().await?;
        ready.run(warm_up).await?;
        Ok(ready)
    }

    /// The first call, looked at closely.
    async fn first(&mut self) -> Result<()> {
        let proof = self.proofs.next();
        let request = self.template.next(proof.as_deref());
        let answer = self.connection.exchange(request).await?;
        let body = self.connection.success(&answer)?;
        let answer: serde_json::Value = serde_json::from_slice(body)?;
        let text = answer
            .pointer("/result/content/0/text")
            .and_then(serde_json::Value::as_str);
        if text.is_none_or(|text| text.len() < world::TEXT_BYTES) {
            bail!("the call was not made: {answer}");
        }
        Ok(())
    }

    /// Calls until the time is over; gives the time of each call in µs.
    async fn run(&mut self, lasting: Duration) -> Result<Vec<f64>> {
        let mut times = Vec::with_capacity(16 * 1024);
        let mut begin = machine::elapsed();
        let end = begin + lasting;
        while begin < end {
            let proof = self.proofs.next();
            if proof.is_none() && self.template.proof.is_some() {
                bail!("the proofs made beforehand were used up");
            }
            let request = self.template.next(proof.as_deref());
            let answer = self.connection.exchange(request).await?;
            // A refusal is shorter than the text that an echo gives back.
            if self.connection.success(&answer)?.len() < world::TEXT_BYTES {
                bail!("a call was not made");
            }
            let now = machine::elapsed();
            times.push(micros(now.saturating_sub(begin)));
            begin = now;
        }
        Ok(times)
    }
}

/// A request of which only the id and the proof change, neither in length.
struct Template {
    bytes: Vec<u8>,
    id: Range<usize>,
    proof: Option<Range<usize>>,
    number: u32,
}

/// Ids begin here, so that all have as many digits.
const FIRST_ID: u32 = 1_000_000_000;

impl Template {
    fn of(
        target: &Target,
        era: Era,
        arguments: &str,
        session: Option<&str>,
        proof: Option<&String>,
    ) -> Self {
        let mut text = target.head(era);
        let proof = proof.map(|proof| {
            text.push_str("DPoP: ");
            let begin = text.len();
            text.push_str(proof);
            let place = begin..text.len();
            text.push_str("\r\n");
            place
        });
        let meta = match (era, session) {
            (Era::Modern, _) => {
                text.extend(["Mcp-Method: tools/call\r\nMcp-Name: ", world::TOOL, "\r\n"]);
                META
            }
            (Era::Legacy, session) => {
                let session = session.unwrap_or_default();
                text.extend(["Mcp-Session-Id: ", session, "\r\n"]);
                ""
            }
        };
        let before = r#"{"jsonrpc":"2.0","id":"#;
        let body = format!(
            r#"{before}{FIRST_ID},"method":"tools/call","params":{{"name":"{}","arguments":{arguments}{meta}}}}}"#,
            world::TOOL,
        );
        text.extend(["Content-Length: ", &body.len().to_string(), "\r\n\r\n"]);
        let begin = text.len() + before.len();
        let id = begin..begin + FIRST_ID.to_string().len();
        text.push_str(&body);
        Self {
            bytes: text.into_bytes(),
            id,
            proof,
            number: FIRST_ID,
        }
    }

    fn next(&mut self, proof: Option<&str>) -> &[u8] {
        self.number += 1;
        put(
            &mut self.bytes,
            &self.id,
            self.number.to_string().as_bytes(),
        );
        if let (Some(place), Some(proof)) = (&self.proof, proof) {
            put(&mut self.bytes, place, proof.as_bytes());
        }
        &self.bytes
    }
}

fn put(bytes: &mut [u8], place: &Range<usize>, text: &[u8]) {
    if let Some(place) = bytes
        .get_mut(place.clone())
        .filter(|it| it.len() == text.len())
    {
        place.copy_from_slice(text);
    }
}
