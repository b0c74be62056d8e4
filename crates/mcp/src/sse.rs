//! Server-sent events (WHATWG HTML §9.2): a parser that takes any chunking, and a writer.
//!
//! Unlike a browser, the parser also gives events that have no data: an event that only sets an id
//! or a retry time means something to MCP clients, and passes.

use bytes::{BufMut, Bytes, BytesMut};

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Its type; `message` when none is given.
    pub name: Option<String>,
    /// Its data; lines are joined by line feeds.
    pub data: Option<Bytes>,
    /// What a client may send back as `Last-Event-ID`.
    pub id: Option<String>,
    /// How long to wait before connecting again.
    pub retry_ms: Option<u64>,
}

impl Event {
    /// A message without more.
    pub fn message(data: Bytes) -> Self {
        Self {
            data: Some(data),
            ..Self::default()
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Writes it with the blank line that ends it. Line ends inside the data become separate data
    /// lines; a type or id with a line end could only forge fields, and is left out.
    pub fn write(&self, out: &mut BytesMut) {
        let mut field = |field: &str, value: &[u8]| {
            out.put_slice(field.as_bytes());
            out.put_slice(b": ");
            out.put_slice(value);
            out.put_u8(b'\n');
        };
        let is_one_line = |text: &&String| !text.contains(['\r', '\n', '\0']);
        if let Some(name) = self.name.as_ref().filter(is_one_line) {
            field("event", name.as_bytes());
        }
        if let Some(id) = self.id.as_ref().filter(is_one_line) {
            field("id", id.as_bytes());
        }
        if let Some(retry) = self.retry_ms {
            field("retry", retry.to_string().as_bytes());
        }
        if let Some(data) = &self.data {
            let mut rest: &[u8] = data;
            loop {
                let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
                let (line, behind) = rest.split_at(end.unwrap_or(rest.len()));
                field("data", line);
                rest = match behind {
                    [b'\r', b'\n', behind @ ..] | [_, behind @ ..] => behind,
                    [] => break,
                };
            }
        }
        out.put_u8(b'\n');
    }

    /// The bytes that [`Event::write`] writes.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.data.as_ref().map_or(0, Bytes::len) + 64);
        self.write(&mut out);
        out.freeze()
    }
}

/// A comment line that keeps a quiet connection open.
pub const KEEP_ALIVE: &[u8] = b":\n\n";

/// Why a stream is not read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// One event is too long.
    #[error("an event longer than {max} bytes")]
    TooLong {
        /// The most allowed, in bytes.
        max: usize,
    },
}

/// Reads events out of chunks.
#[derive(Debug)]
pub struct SseParser {
    bytes_max: usize,
    line: BytesMut,
    data: Option<BytesMut>,
    event: Event,
    /// Bytes of this event so far.
    taken: usize,
    is_first_line: bool,
    /// The last byte was a carriage return: a line feed right behind it belongs to it.
    after_cr: bool,
}

impl SseParser {
    /// A parser that refuses events of more than `bytes_max` bytes, field names and line ends
    /// included.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            line: BytesMut::new(),
            data: None,
            event: Event::default(),
            taken: 0,
            is_first_line: true,
            after_cr: false,
        }
    }

    /// Reads one chunk and appends the events that are complete with it.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<Event>) -> Result<(), SseError> {
        let mut rest = chunk;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            let (line, behind) = rest.split_at(end);
            self.extend(line)?;
            rest = match behind {
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                [b'\r', b'\n', behind @ ..] | [_, behind @ ..] => behind,
                [] => &[],
            };
            self.end_line(out);
        }
        self.extend(rest)
    }

    /// Whether the stream stops in the middle of an event, which is then lost.
    pub fn is_mid_event(&self) -> bool {
        !self.line.is_empty() || self.data.is_some() || !self.event.is_empty()
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), SseError> {
        // The line's end counts too, so that endless blank fields are not free.
        self.taken = self.taken.saturating_add(bytes.len());
        if self.taken > self.bytes_max {
            return Err(SseError::TooLong {
                max: self.bytes_max,
            });
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, out: &mut Vec<Event>) {
        let line = self.line.split().freeze();
        self.taken = self.taken.saturating_add(1);
        let line = if std::mem::take(&mut self.is_first_line) && line.starts_with(b"\xef\xbb\xbf") {
            line.slice(3..)
        } else {
            line
        };
        if line.is_empty() {
            self.taken = 0;
            let mut event = std::mem::take(&mut self.event);
            event.data = self.data.take().map(BytesMut::freeze);
            if !event.is_empty() {
                out.push(event);
            }
            return;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = match colon {
            Some(0) => {
                // A comment. It is over, so it does not count towards the event.
                self.taken = self.taken.saturating_sub(line.len() + 1);
                return;
            }
            Some(at) => {
                let skip = if line.get(at + 1) == Some(&b' ') {
                    2
                } else {
                    1
                };
                (line.slice(..at), line.slice(at + skip..))
            }
            None => (line, Bytes::new()),
        };
        match &*name {
            b"data" => match &mut self.data {
                Some(data) => {
                    data.put_u8(b'\n');
                    data.extend_from_slice(&value);
                }
                None => self.data = Some(value.into()),
            },
            b"event" => self.event.name = Some(String::from_utf8_lossy(&value).into_owned()),
            b"id" if !value.contains(&0) => {
                self.event.id = Some(String::from_utf8_lossy(&value).into_owned());
            }
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                self.event.retry_ms = std::str::from_utf8(&value)
                    .ok()
                    .and_then(|digits| digits.parse().ok());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
