//! What is split over chunks or events: how each ended is kept, and looked at together with how the
//! next begins.
//!
//! What a stream already passed on is gone: a finding whose beginning stood in an earlier event says
//! so. What is kept is bounded; what does not fit is a finding.

use std::collections::HashMap;

use vocab::limits;

use crate::finding::{Findings, Uninspectable};
use crate::inspector::{Inspector, after_escape};
use crate::lexer::{self, Kind};
use crate::view::Builder;

/// One stream of text, or of JSON messages.
#[derive(Default)]
pub struct Stream {
    /// How the last text under each path of names ended.
    tails: HashMap<u64, Vec<u8>>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({} tails)", self.tails.len())
    }
}

impl Stream {
    /// A stream of which nothing was seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks into the next chunk of text. Spans are those of the chunk.
    pub fn chunk(&mut self, inspector: &Inspector, chunk: &[u8]) -> Findings {
        let mut findings = inspector.inspect_text(chunk);
        let head = 0..limits::INSPECT_TAIL_BYTES.min(chunk.len());
        let tail = self.tails.entry(0).or_default();
        if !tail.is_empty() {
            let copy = |builder: &mut Builder| builder.copy(chunk, head);
            let Findings(across) = inspector.inspect_seam(chunk, tail, copy, 0);
            findings.0.extend(across);
        }
        keep(tail, chunk);
        sorted(findings)
    }

    /// Looks into the next message. A text goes on where a later message has one under the same names.
    pub fn event(&mut self, inspector: &Inspector, json: &[u8]) -> Findings {
        let mut findings = inspector.inspect_json(json);
        let Ok(tokens) = lexer::all(json) else {
            // The finding that it is no JSON is there already; its text may go on all the same.
            let Findings(text) = self.chunk(inspector, json);
            findings.0.extend(text);
            return sorted(findings);
        };
        let strings = tokens.into_iter().filter(|it| it.kind == Kind::String);
        for token in strings.filter(|token| !token.span.is_empty()) {
            let (start, end) = (token.span.start, token.span.end);
            let count = self.tails.len();
            let tail = match self.tails.get_mut(&token.path) {
                Some(tail) => tail,
                None if count < limits::INSPECT_TAILS_MAX => {
                    self.tails.entry(token.path).or_default()
                }
                None => {
                    findings.0.push(Uninspectable::Budget.finding(token.span));
                    continue;
                }
            };
            if !tail.is_empty() {
                let head = after_escape(json, (start + limits::INSPECT_TAIL_BYTES).min(end));
                let copy = |builder: &mut Builder| builder.unescape(json, start..head.min(end));
                let Findings(across) = inspector.inspect_seam(json, tail, copy, start);
                findings.0.extend(across);
            }
            let last = end.saturating_sub(limits::INSPECT_TAIL_BYTES).max(start);
            let mut text = Builder::default();
            text.unescape(json, after_escape(json, last).min(end)..end);
            if last == start {
                text = Builder::default();
                text.unescape(json, start..end);
            }
            keep(tail, text.finish().bytes());
        }
        sorted(findings)
    }
}

/// The end of what was kept and of what came.
fn keep(tail: &mut Vec<u8>, text: &[u8]) {
    tail.extend_from_slice(
        text.get(text.len().saturating_sub(limits::INSPECT_TAIL_BYTES)..)
            .unwrap_or_default(),
    );
    let over = tail.len().saturating_sub(limits::INSPECT_TAIL_BYTES);
    drop(tail.drain(..over));
}

fn sorted(mut findings: Findings) -> Findings {
    findings
        .0
        .sort_by_key(|finding| (finding.span.start, finding.span.end));
    findings
}

#[cfg(test)]
mod tests;
