//! Messages on stdio: one a line.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line that is not blank.
    Message(Bytes),
    /// A line that is longer than is read; it was passed over.
    TooLong,
    /// There are no more.
    End,
}

/// Reads up to the next line that is not blank.
pub(super) async fn next<R: AsyncBufRead + Unpin>(
    input: &mut R,
    bytes_max: usize,
) -> io::Result<Line> {
    let mut line = BytesMut::new();
    let mut is_too_long = false;
    loop {
        let read = input.fill_buf().await?;
        if read.is_empty() {
            return Ok(match (is_too_long, line.trim_ascii().is_empty()) {
                (true, _) => Line::TooLong,
                (false, true) => Line::End,
                (false, false) => Line::Message(line.freeze()),
            });
        }
        let end = read.iter().position(|byte| *byte == b'\n');
        let (part, _) = read.split_at(end.unwrap_or(read.len()));
        is_too_long |= line.len() + part.len() > bytes_max;
        if !is_too_long {
            line.extend_from_slice(part);
        }
        let taken = part.len() + usize::from(end.is_some());
        input.consume(taken);
        if end.is_none() {
            continue;
        }
        if is_too_long {
            return Ok(Line::TooLong);
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Line::Message(line.freeze()));
        }
        line.clear();
    }
}

/// Writes messages, one a line, until no more come. A client that has gone away ends everything.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    mut output: W,
    mut lines: mpsc::Receiver<Bytes>,
    stop: CancellationToken,
) {
    while let Some(message) = lines.recv().await {
        if let Err(error) = write_one(&mut output, &message).await {
            tracing::info!("The client does not read any more: {error}");
            stop.cancel();
            return;
        }
    }
}

async fn write_one<W: AsyncWrite + Unpin>(output: &mut W, message: &[u8]) -> io::Result<()> {
    // Outside strings a line end means nothing in JSON, and inside there is none.
    let mut line: Vec<u8> = message
        .iter()
        .map(|byte| {
            if matches!(byte, b'\n' | b'\r') {
                b' '
            } else {
                *byte
            }
        })
        .collect();
    line.push(b'\n');
    output.write_all(&line).await?;
    output.flush().await
}
