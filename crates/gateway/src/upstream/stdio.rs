//! A server that is a child process: one JSON-RPC message a line, on its stdin and stdout.
//!
//! Three tasks per child: one writes, one reads and brings each message to whoever waits for it,
//! one attends the process and ends it. What it writes to stderr is kept, a few lines of it, for
//! people.
//!
//! A line has no end of line in it, so line feeds between the tokens of a body are sent as
//! spaces. JSON has them nowhere else.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use broker::{Account, Credential, Lessee};
use bytes::{Buf, Bytes};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use vocab::limits::RESPONSE_BYTES_MAX;

use crate::outgoing::OutgoingParts;

use super::frame::Frame;
use super::{
    Cause, ExchangeError, Message, MessageKind, Method, OpenError, Outgoing, Passing, SendError,
    State, Transport, UNSOLICITED_BYTES_MAX, UNSOLICITED_QUEUE_MAX, UpstreamConfig, sandbox,
};

/// What a child gets of our environment, where it is set; nothing else is passed on.
pub(super) const INHERITED: [&str; 7] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"];
/// How long a child may take to end by itself, and then after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// How long a keeper may take after SIGTERM: what it keeps has the grace again.
const KEEPER_GRACE: Duration = Duration::from_secs(4);
/// How long a child that reads no more may take to end, for its end to be the reason.
const ENDING: Duration = Duration::from_secs(3);
/// Messages waiting to be written.
const WRITE_QUEUE_MAX: usize = 64;
/// Progress notifications of one exchange waiting to be taken; more are dropped.
const PROGRESS_QUEUE_MAX: usize = 64;
/// Longer progress notifications are dropped.
const PROGRESS_BYTES_MAX: usize = 64 * 1024;
const STDERR_LINES_MAX: usize = 50;
/// Lines that the log repeats when a child ends.
const LAST_WORDS_MAX: usize = 5;
const STDERR_LINE_BYTES_MAX: usize = 1024;

/// A running child.
pub(super) struct Pipe {
    shared: Arc<Shared>,
}

struct Shared {
    lines: mpsc::Sender<Line>,
    waiting: Mutex<Waiting>,
    unsolicited: broadcast::Sender<Message>,
    /// The child is ending, or is to end.
    stop: CancellationToken,
    /// It has ended, and why is known.
    over: CancellationToken,
    state: Arc<State>,
    account: Arc<Account>,
    lessee: Option<Arc<Lessee>>,
}

struct Line {
    body: Bytes,
    /// Told when it is written; dropped if it is not. Nobody waits for a cancellation.
    written: Option<oneshot::Sender<io::Result<()>>>,
}

#[derive(Default)]
struct Waiting {
    by_id: HashMap<String, Slot>,
    id_by_token: HashMap<String, String>,
    gone: Option<Cause>,
}

struct Slot {
    token: Option<String>,
    progress: mpsc::Sender<Message>,
    response: oneshot::Sender<Result<Message, ExchangeError>>,
}

impl Waiting {
    fn take(&mut self, id: &str) -> Option<Slot> {
        let slot = self.by_id.remove(id)?;
        if let Some(token) = &slot.token {
            self.id_by_token.remove(token);
        }
        Some(slot)
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Its maps are whole after each statement, so a panic elsewhere leaves them usable.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails all that wait, and all that come, for the first reason given.
    fn fail(&self, cause: Cause) {
        let mut waiting = self.waiting();
        let cause = waiting.gone.get_or_insert(cause).clone();
        waiting.id_by_token.clear();
        for (_, slot) in waiting.by_id.drain() {
            // Whoever no longer waits need not be told.
            let _unheard = slot.response.send(Err(ExchangeError::Gone(cause.clone())));
        }
    }

    fn gone(&self) -> Cause {
        self.waiting().gone.clone().unwrap_or(Cause::Closed)
    }

    /// Brings a line to whoever waits for it.
    fn route(&self, line: Bytes) {
        let line = match self.account.echo(self.lessee.as_ref()).mask_json(&line) {
            Some(masked) => Bytes::from(masked),
            None => line,
        };
        let Some(frame) = Frame::read(&line) else {
            debug!(
                bytes = line.len(),
                "Ignored a line of a child that is no message"
            );
            return;
        };
        let message = frame.message(line);
        if frame.kind == MessageKind::Response {
            let slot = frame.id.and_then(|id| self.waiting().take(&id));
            let Some(slot) = slot else {
                debug!("Ignored a response of a child that nobody waits for");
                return;
            };
            let _unheard = slot.response.send(Ok(message));
            return;
        }
        if let Some(token) = frame.progress {
            let waiting = self.waiting();
            let slot = waiting
                .id_by_token
                .get(&token)
                .and_then(|id| waiting.by_id.get(id));
            if let Some(slot) = slot
                && message.json.len() <= PROGRESS_BYTES_MAX
            {
                // Progress may be lost: the queue is bounded and the child must not block.
                let _full = slot.progress.try_send(message);
            }
            return;
        }
        if message.json.len() <= UNSOLICITED_BYTES_MAX {
            // Nobody may be listening.
            let _unheard = self.unsolicited.send(message);
        }
    }
}

impl Pipe {
    /// Starts the child.
    pub(super) fn open(
        (config, credential, lessee): (
            &Arc<UpstreamConfig>,
            Option<&Credential>,
            Option<Arc<Lessee>>,
        ),
        state: &Arc<State>,
        stderr: &Arc<StderrTail>,
        place: OwnedSemaphorePermit,
    ) -> Result<Self, OpenError> {
        let mut command = command(config, credential)?;
        let mut child = command.spawn().map_err(|error| OpenError::Spawn {
            program: command
                .as_std()
                .get_program()
                .to_string_lossy()
                .into_owned(),
            what: error.to_string(),
        })?;
        let (Some(stdin), Some(stdout), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(OpenError::Unusable {
                what: "the child has no pipes".into(),
            });
        };
        let (lines, queue) = mpsc::channel(WRITE_QUEUE_MAX);
        let shared = Arc::new(Shared {
            lines,
            waiting: Mutex::default(),
            unsolicited: broadcast::channel(UNSOLICITED_QUEUE_MAX).0,
            stop: state.closed.child_token(),
            over: CancellationToken::new(),
            state: Arc::clone(state),
            account: Arc::clone(&config.account),
            lessee: lessee.clone(),
        });
        let tasks = &state.tasks;
        tasks.spawn(write(stdin, queue, shared.stop.clone()));
        let reader = tasks.spawn(read(stdout, Arc::clone(&shared)));
        let own = Arc::<StderrTail>::default();
        let tails = [Arc::clone(stderr), Arc::clone(&own)];
        let listener = tasks.spawn(listen(errors, (Arc::clone(config), lessee), tails));
        let readers = [reader, listener];
        tasks.spawn(attend(
            child,
            readers,
            Arc::clone(&shared),
            Arc::clone(config),
            own,
            place,
        ));
        Ok(Self { shared })
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.shared.stop.is_cancelled()
    }

    pub(super) fn unsolicited(&self) -> broadcast::Receiver<Message> {
        self.shared.unsolicited.subscribe()
    }

    /// Writes what asks nothing.
    pub(super) async fn pass(&self, passing: Passing, after: Duration) -> Result<(), SendError> {
        self.write(passing.into_bytes(), after).await
    }

    /// Writes one message.
    async fn write(&self, body: Bytes, after: Duration) -> Result<(), SendError> {
        let deadline = Instant::now() + after;
        let not_sent = || SendError::NotSent(self.shared.gone());
        let (told, written) = oneshot::channel();
        let line = Line {
            body: one_line(body),
            written: Some(told),
        };
        match timeout_at(deadline, self.shared.lines.send(line)).await {
            Err(_) => return Err(SendError::NotSent(Cause::Timeout { after })),
            Ok(Err(_)) => return Err(not_sent()),
            Ok(Ok(())) => {}
        }
        match timeout_at(deadline, written).await {
            // The writer may be in the middle of it.
            Err(_) => Err(SendError::Unknown(Cause::Timeout { after })),
            Ok(Err(_)) => Err(not_sent()),
            Ok(Ok(Err(error))) => {
                // A pipe breaks when its reader ends, which is told a little later.
                let over = deadline.min(Instant::now() + ENDING);
                let _late = timeout_at(over, self.shared.over.cancelled()).await;
                let gone = self.shared.waiting().gone.clone();
                Err(SendError::Unknown(gone.unwrap_or(Cause::Broken {
                    what: error.to_string(),
                })))
            }
            Ok(Ok(Ok(()))) => Ok(()),
        }
    }

    pub(super) async fn request(
        &self,
        outgoing: Outgoing,
        method: Method,
        after: Duration,
    ) -> Result<Exchange, SendError> {
        let OutgoingParts {
            body,
            id,
            progress_token: token,
            method: _,
            headers: _,
        } = outgoing.into_parts();
        let (progress_to, progress) = mpsc::channel(PROGRESS_QUEUE_MAX);
        let (response_to, response) = oneshot::channel();
        {
            let mut waiting = self.shared.waiting();
            if let Some(cause) = &waiting.gone {
                return Err(SendError::NotSent(cause.clone()));
            }
            if waiting.by_id.contains_key(&id) {
                return Err(SendError::NotSent(Cause::DuplicateId));
            }
            if let Some(token) = &token {
                waiting.id_by_token.insert(token.clone(), id.clone());
            }
            let slot = Slot {
                token,
                progress: progress_to,
                response: response_to,
            };
            waiting.by_id.insert(id.clone(), slot);
        }
        // From here on its drop clears the slot.
        let mut exchange = Exchange {
            shared: Arc::clone(&self.shared),
            id,
            progress,
            response,
            is_cancellable: method != Method::Initialize,
        };
        match self.write(body, after).await {
            Ok(()) => Ok(exchange),
            Err(error) => {
                exchange.is_cancellable &= matches!(error, SendError::Unknown(_));
                Err(error)
            }
        }
    }
}

/// A request that a child has been sent.
pub(super) struct Exchange {
    shared: Arc<Shared>,
    id: String,
    progress: mpsc::Receiver<Message>,
    response: oneshot::Receiver<Result<Message, ExchangeError>>,
    is_cancellable: bool,
}

impl Exchange {
    /// Progress, in order, then the response.
    pub(super) async fn next(&mut self) -> Result<Message, ExchangeError> {
        tokio::select! {
            // The response closes the channel of progress, which still gives what it holds.
            biased;
            Some(message) = self.progress.recv() => Ok(message),
            response = &mut self.response => {
                response.unwrap_or_else(|_| Err(ExchangeError::Gone(self.shared.gone())))
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let was_waiting = self.shared.waiting().take(&self.id).is_some();
        if was_waiting && self.is_cancellable && !self.shared.stop.is_cancelled() {
            // If the queue is full the child does not read, and would not read this.
            let _full = self.shared.lines.try_send(Line {
                body: Passing::cancelled(&self.id).into_bytes(),
                written: None,
            });
        }
    }
}

fn command(config: &UpstreamConfig, credential: Option<&Credential>) -> Result<Command, OpenError> {
    let Transport::Stdio { command, cwd } = &config.transport else {
        return Err(OpenError::Unusable {
            what: "no command".into(),
        });
    };
    let mut own = credential.into_iter().flat_map(Credential::env);
    let own_path = own.find(|(name, _)| *name == "PATH").map(|(_, path)| path);
    let mut command = Command::from(sandbox::command(config, command, own_path)?);
    command.env_clear();
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(credential.into_iter().flat_map(Credential::env));
    if let Some(cwd) = cwd {
        command.current_dir(cwd);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // A group of its own: a terminal's interrupt does not reach it.
    // A keeper sees by itself that we are gone, and killed it could not end what it keeps.
    command
        .process_group(0)
        .kill_on_drop(config.keeper.is_none());
    Ok(command)
}

fn one_line(body: Bytes) -> Bytes {
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if !body.iter().any(is_end) {
        return body;
    }
    body.iter()
        .map(|byte| if is_end(byte) { b' ' } else { *byte })
        .collect()
}

async fn write(mut stdin: ChildStdin, mut queue: mpsc::Receiver<Line>, stop: CancellationToken) {
    let writing = async {
        while let Some(Line { body, written }) = queue.recv().await {
            if written.as_ref().is_some_and(oneshot::Sender::is_closed) {
                continue; // It was given up before it was begun.
            }
            let mut line = body.chain(&b"\n"[..]);
            let result = stdin.write_all_buf(&mut line).await;
            let has_failed = result.is_err();
            if let Some(written) = written {
                let _unheard = written.send(result);
            }
            if has_failed {
                return;
            }
        }
    };
    tokio::select! {
        () = writing => {}
        () = stop.cancelled() => {}
    }
    stop.cancel();
}

async fn read(stdout: impl AsyncRead + Unpin, shared: Arc<Shared>) {
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        let limit = RESPONSE_BYTES_MAX + 1;
        match read_line(&mut stdout, &mut line, limit).await {
            Ok(0) | Err(_) => break,
            Ok(_) if line.len() == limit && line.last() != Some(&b'\n') => {
                // Whose answer it was cannot be told, and what follows cannot be trusted.
                shared.fail(Cause::LineTooLong {
                    limit: RESPONSE_BYTES_MAX,
                });
                break;
            }
            Ok(_) => {
                let line = Bytes::from(std::mem::take(&mut line));
                let text = line.trim_ascii();
                if !text.is_empty() {
                    shared.route(line.slice_ref(text));
                }
            }
        }
    }
    shared.stop.cancel();
}

async fn read_line(
    from: &mut BufReader<impl AsyncRead + Unpin>,
    line: &mut Vec<u8>,
    limit: usize,
) -> io::Result<usize> {
    from.take(u64::try_from(limit).unwrap_or(u64::MAX))
        .read_until(b'\n', line)
        .await
}

/// Drains stderr: a child that floods it must not block, nor fill our memory or log.
async fn listen(
    stderr: impl AsyncRead + Unpin,
    (config, lessee): (Arc<UpstreamConfig>, Option<Arc<Lessee>>),
    tails: [Arc<StderrTail>; 2],
) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(1..) = read_line(&mut stderr, &mut line, STDERR_LINE_BYTES_MAX).await {
        let mut text = plain(&String::from_utf8_lossy(&line));
        if let Some(masked) = config
            .account
            .echo(lessee.as_ref())
            .mask_text(text.as_bytes())
        {
            text = String::from_utf8_lossy(&masked).into_owned();
        }
        line.clear();
        if !text.is_empty() {
            debug!(upstream.name = %config.name, "Child says: {text}");
            for tail in &tails {
                tail.push(text.clone());
            }
        }
    }
}

/// What a terminal may be shown: without colours, and whatever else moves its cursor.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' && characters.next_if_eq(&'[').is_some() {
            // A control sequence ends with the first character that is no parameter of it.
            while characters.next_if(|it| (' '..='?').contains(it)).is_some() {}
            let _last = characters.next();
        } else if character == '\t' {
            text.push(' ');
        } else if character.is_control() || vocab::id::invisible(character) {
            // Ends of lines too, which are at the end.
        } else {
            text.push(character);
        }
    }
    text.trim().to_owned()
}

/// Waits for the child's end, or brings it about, and tells all that wait.
async fn attend(
    mut child: Child,
    readers: [JoinHandle<()>; 2],
    shared: Arc<Shared>,
    config: Arc<UpstreamConfig>,
    words: Arc<StderrTail>,
    _place: OwnedSemaphorePermit,
) {
    let group = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    let status = tokio::select! {
        status = child.wait() => status,
        () = shared.stop.cancelled() => {
            if shared.state.closed.is_cancelled() {
                shared.fail(Cause::Closed);
            }
            end(&mut child, group, config.keeper.is_some()).await
        }
    };
    // What it started may live on, and hold its pipes. The leader is reaped by now: its number
    // could belong to a stranger's group only if none of its own is left and the numbers have
    // come round within these lines.
    signal(group, Signal::KILL);
    // What it wrote before it ended still counts. A process that left the group can hold the pipes
    // open for as long as it likes, so there is an end to reading.
    let deadline = Instant::now() + GRACE;
    for mut reader in readers {
        if timeout_at(deadline, &mut reader).await.is_err() {
            reader.abort();
        }
    }
    shared.stop.cancel();
    let name = &config.name;
    let how = described(&status, config.keeper.is_some());
    if shared.state.closed.is_cancelled() {
        debug!(upstream.name = %name, "A process of upstream {name} ended: {how}");
    } else {
        let words = words.last_words();
        warn!(upstream.name = %name, "A process of upstream {name} ended: {how}{words}");
    }
    shared.fail(Cause::ChildGone { how });
    shared.over.cancel();
}

async fn end(child: &mut Child, group: Option<Pid>, is_kept: bool) -> io::Result<ExitStatus> {
    // Its stdin is closed by now.
    if let Ok(status) = timeout(GRACE, child.wait()).await {
        return status;
    }
    signal(group, Signal::TERM);
    let grace = if is_kept { KEEPER_GRACE } else { GRACE };
    if let Ok(status) = timeout(grace, child.wait()).await {
        return status;
    }
    signal(group, Signal::KILL);
    child.wait().await
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // It may be gone already.
        let _gone = kill_process_group(group, signal);
    }
}

fn described(status: &io::Result<ExitStatus>, is_kept: bool) -> String {
    use std::os::unix::process::ExitStatusExt;
    let Ok(status) = status else {
        return "how is unknown".to_owned();
    };
    match (status.code(), status.signal()) {
        // As the keeper says it.
        (Some(code @ 129..=192), _) if is_kept => format!("signal {}", code - 128),
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "how is unknown".to_owned(),
    }
}

/// The last lines that the children of an upstream wrote to stderr, without the secrets of their
/// environment.
#[derive(Debug, Default)]
pub(super) struct StderrTail(Mutex<VecDeque<String>>);

impl StderrTail {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == STDERR_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The last few lines, as the end of a sentence.
    pub(super) fn last_words(&self) -> String {
        let lines = self.lines();
        let (_, last) = lines.split_at(lines.len().saturating_sub(LAST_WORDS_MAX));
        if last.is_empty() {
            return "; it said nothing".to_owned();
        }
        format!("; its last words: {}", last.join(" | "))
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }
}
