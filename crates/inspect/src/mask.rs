//! Masks: what was found is taken out of the bytes, and nothing else is touched.
//!
//! Whoever decides chooses the findings. A mask is put where the finding stands, inside its string or
//! its number, so that the document stays a document and all other bytes stay as they are. What a mask
//! could not be put on is said, never passed over.

use std::ops::Range;
use std::sync::Arc;

use crate::finding::{Class, Encoding, Finding, Shape, rank};
use crate::lexer::{self, Kind, Token};
use crate::view::{self, Builder};

/// Characters that stay where a mask keeps the form of what it hides.
const SEPARATORS: &[u8] = b" -./@+()";
/// Letters of masks that are the same for the same value: none that reads as a digit.
const LETTERS: &[u8; 22] = b"abcdefghjkmnpqrstuvwxy";
/// Letters behind the rule in such a mask: about 2^36 different ones.
const TAG_LETTERS: usize = 8;

/// A keyed hash of the caller's: equal values have equal masks where it is the same.
pub type KeyedHash<'k> = &'k dyn Fn(&[u8]) -> [u8; 32];

/// How masks are made.
#[derive(Clone, Copy, Default)]
pub struct Mask<'k> {
    keyed: Option<KeyedHash<'k>>,
}

impl std::fmt::Debug for Mask<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.keyed.is_some() {
            "Mask(stable)"
        } else {
            "Mask"
        })
    }
}

/// A document with masks in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Masked {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What was masked, in the order of the document.
    pub masks: Vec<Placed>,
    /// Findings, by their place among those given, on which no mask could be put.
    pub left: Vec<usize>,
}

impl std::fmt::Debug for Masked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (masks, left) = (&self.masks, &self.left);
        write!(
            f,
            "Masked({} bytes, {masks:?}, left {left:?})",
            self.bytes.len()
        )
    }
}

/// One mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The rule of what it hides.
    pub rule: Arc<str>,
    /// Its class.
    pub class: Class,
    /// Where in the document as it came.
    pub span: Range<usize>,
    /// Where the mask stands in the masked one.
    pub mask: Range<usize>,
}

/// A stretch that is to be replaced.
struct Piece<'f> {
    span: Range<usize>,
    finding: &'f Finding,
    /// What it covers is exactly what was found.
    is_exact: bool,
    /// None in a text.
    kind: Option<Kind>,
    /// The string or number that it lies in.
    string: Range<usize>,
}

impl<'k> Mask<'k> {
    /// Masks that say the rule or keep the form, and nothing of the value.
    pub const fn plain() -> Self {
        Self { keyed: None }
    }

    /// Masks that are the same for the same value, so that what belongs together stays so. The key has
    /// to be secret, and another one for each who must not compare.
    pub const fn stable(keyed: KeyedHash<'k>) -> Self {
        Self { keyed: Some(keyed) }
    }

    /// Masks findings of a JSON document in it. What was JSON is JSON.
    pub fn json<'f>(
        &self,
        document: &[u8],
        findings: impl IntoIterator<Item = &'f Finding>,
    ) -> Masked {
        match lexer::all(document) {
            Ok(tokens) => self.masked(document, &tokens, findings),
            Err(_) => self.text(document, findings),
        }
    }

    /// Masks findings of a text in it.
    pub fn text<'f>(
        &self,
        document: &[u8],
        findings: impl IntoIterator<Item = &'f Finding>,
    ) -> Masked {
        self.masked(document, &[], findings)
    }

    fn masked<'f>(
        &self,
        document: &[u8],
        tokens: &[Token],
        findings: impl IntoIterator<Item = &'f Finding>,
    ) -> Masked {
        let mut left = Vec::new();
        let mut pieces = Vec::new();
        for (at, finding) in findings.into_iter().enumerate() {
            let before = pieces.len();
            if tokens.is_empty() {
                pieces.extend(piece_of_text(document, finding));
            } else {
                pieces_of_json(tokens, finding, &mut pieces);
            }
            if pieces.len() == before {
                left.push(at);
            }
        }
        snap(document, &mut pieces);
        let mut bytes = Vec::with_capacity(document.len());
        let mut masks = Vec::new();
        let mut done = 0;
        for piece in merged(pieces) {
            bytes.extend_from_slice(document.get(done..piece.span.start).unwrap_or_default());
            let start = bytes.len();
            bytes.extend_from_slice(&self.replacement(document, &piece, masks.len()));
            done = piece.span.end;
            masks.push(Placed {
                rule: Arc::clone(&piece.finding.rule),
                class: piece.finding.class,
                span: piece.span,
                mask: start..bytes.len(),
            });
        }
        bytes.extend_from_slice(document.get(done..).unwrap_or_default());
        Masked { bytes, masks, left }
    }

    fn replacement(&self, document: &[u8], piece: &Piece<'_>, number: usize) -> Vec<u8> {
        let raw = document.get(piece.span.clone()).unwrap_or_default();
        let mut value = Builder::default();
        match piece.kind {
            Some(Kind::Name | Kind::String) => value.unescape(raw, 0..raw.len()),
            Some(Kind::Number) | None => value.copy(raw, 0..raw.len()),
        }
        let value = value.finish();
        let hash = self.keyed.map(|keyed| keyed(value.bytes()));
        let finding = piece.finding;
        // Only what stands there as it is has a form to keep.
        let is_plain = finding
            .via()
            .all(|encoding| matches!(encoding, Encoding::Disguise));
        let shape = if piece.is_exact && is_plain || finding.shape == Shape::Nothing {
            finding.shape
        } else {
            Shape::Token
        };
        let keep = match shape {
            Shape::Tail(last) => (0, usize::from(last)),
            Shape::Ends(first, last) => (usize::from(first), usize::from(last)),
            Shape::Token | Shape::Nothing | Shape::Email => (0, 0),
        };
        match (piece.kind, shape) {
            (Some(Kind::Number), _) => number_masked(value.bytes(), keep, hash),
            // A name stays the only one of its kind in its object.
            (Some(Kind::Name), _) => token(finding, hash, Some(number)),
            (_, Shape::Nothing) => Vec::new(),
            (_, Shape::Token) => token(finding, hash, None),
            (_, Shape::Email) => email_masked(value.bytes(), hash),
            (_, Shape::Tail(_) | Shape::Ends(..)) => form_masked(value.bytes(), keep, hash),
        }
    }
}

fn piece_of_text<'f>(document: &[u8], finding: &'f Finding) -> Option<Piece<'f>> {
    let span = finding.span.clone();
    let is_there = span.start < span.end && span.end <= document.len();
    is_there.then_some(Piece {
        string: span.clone(),
        span,
        finding,
        is_exact: true,
        kind: None,
    })
}

fn pieces_of_json<'f>(tokens: &[Token], finding: &'f Finding, pieces: &mut Vec<Piece<'f>>) {
    let found = &finding.span;
    let first = tokens.partition_point(|token| token.span.end <= found.start);
    for token in tokens.get(first..).unwrap_or_default() {
        if token.span.start >= found.end {
            break;
        }
        let start = found.start.max(token.span.start);
        let end = found.end.min(token.span.end);
        let is_inside = token.span.start <= found.start && found.end <= token.span.end;
        // Names that lie between two values that were found together are no part of them.
        if start >= end || (token.kind == Kind::Name && !is_inside) {
            continue;
        }
        pieces.push(Piece {
            span: start..end,
            finding,
            is_exact: is_inside,
            kind: Some(token.kind),
            string: token.span.clone(),
        });
    }
}

/// Extends what lies in strings so that it begins and ends between characters. One pass over the
/// document for all of it: many findings in one long string cost no more than the string.
fn snap(document: &[u8], pieces: &mut [Piece<'_>]) {
    let mut ends: Vec<(usize, usize, bool)> = Vec::with_capacity(pieces.len() * 2);
    for (at, piece) in pieces.iter().enumerate() {
        if matches!(piece.kind, Some(Kind::Name | Kind::String)) {
            ends.push((piece.span.start, at, false));
            ends.push((piece.span.end, at, true));
        }
    }
    ends.sort_unstable();
    let mut cursor = 0;
    for (place, at, is_end) in ends {
        let Some(piece) = pieces.get_mut(at) else {
            continue;
        };
        let string = piece.string.clone();
        cursor = cursor.max(string.start);
        // INVARIANT: the cursor is in front of an escape or between two characters of the string.
        let mut around = place..place;
        while let Some(found) = document
            .get(cursor..place)
            .and_then(|rest| memchr::memchr(b'\\', rest))
        {
            let escape = cursor + found;
            let (_, len) = view::escape(document.get(escape..string.end).unwrap_or_default());
            if escape + len > place {
                around = escape..escape + len;
                cursor = escape;
                break;
            }
            cursor = escape + len;
        }
        let is_inside = |at: usize| {
            document
                .get(at)
                .is_some_and(|byte| (0x80..0xc0).contains(byte))
        };
        if is_end {
            let mut end = around.end;
            while end < string.end && is_inside(end) {
                end += 1;
            }
            piece.span.end = end;
        } else {
            let mut start = around.start;
            while start > string.start && is_inside(start) {
                start -= 1;
            }
            piece.span.start = start;
        }
    }
}

/// In order, none over another: where two are, there is one over both.
fn merged(mut pieces: Vec<Piece<'_>>) -> Vec<Piece<'_>> {
    pieces.sort_by_key(|piece| {
        (
            piece.span.start,
            std::cmp::Reverse(piece.span.end),
            rank(piece.finding.class),
        )
    });
    let mut merged: Vec<Piece<'_>> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match merged.last_mut() {
            Some(last) if piece.span.start < last.span.end => {
                let is_whole = piece.span.end <= last.span.end;
                last.span.end = last.span.end.max(piece.span.end);
                if !is_whole {
                    last.is_exact = false;
                }
                if rank(piece.finding.class) < rank(last.finding.class) {
                    last.is_exact &= piece.span == last.span;
                    last.finding = piece.finding;
                }
            }
            _ => merged.push(piece),
        }
    }
    merged
}

/// `[masked:RULE]`
fn token(finding: &Finding, hash: Option<[u8; 32]>, number: Option<usize>) -> Vec<u8> {
    let mut token = format!("[masked:{}", finding.rule);
    if let Some(hash) = hash {
        token.push(':');
        token.extend(hash.iter().take(TAG_LETTERS).map(|byte| letter(*byte)));
    }
    if let Some(number) = number {
        token.push('#');
        token.push_str(&number.to_string());
    }
    token.push(']');
    token.into_bytes()
}

fn letter(byte: u8) -> char {
    let place = usize::from(byte) % LETTERS.len();
    LETTERS.get(place).map_or('*', |letter| char::from(*letter))
}

/// What stands for each character that is hidden.
fn hidden(hash: Option<[u8; 32]>, at: usize) -> char {
    match hash {
        Some(hash) => letter(hash.get(at % 32).copied().unwrap_or_default()),
        None => '*',
    }
}

/// Letters and digits hidden but for the first and last of them; separators stay.
fn form_masked(value: &[u8], (first, last): (usize, usize), hash: Option<[u8; 32]>) -> Vec<u8> {
    let text = String::from_utf8_lossy(value);
    let is_hidden = |char: char| !(char.is_ascii() && SEPARATORS.contains(&(char as u8)));
    let count = text.chars().filter(|char| is_hidden(*char)).count();
    let mut at = 0;
    let mut out = String::with_capacity(value.len());
    for char in text.chars() {
        if !is_hidden(char) {
            out.push(char);
            continue;
        }
        let is_kept = at < first || at + last >= count;
        if is_kept && char.is_ascii_alphanumeric() {
            out.push(char);
        } else {
            out.push(hidden(hash, at));
        }
        at += 1;
    }
    out.into_bytes()
}

/// `****@*****.com`
fn email_masked(value: &[u8], hash: Option<[u8; 32]>) -> Vec<u8> {
    let dot = value.iter().rposition(|byte| *byte == b'.');
    let (address, top) = value.split_at(dot.unwrap_or(value.len()));
    let mut out = form_masked(address, (0, 0), hash);
    out.extend(
        top.iter()
            .filter(|byte| byte.is_ascii_alphanumeric() || **byte == b'.'),
    );
    out
}

/// A number with other digits. None of them is a zero, so that it stays a number.
fn number_masked(value: &[u8], (_, last): (usize, usize), hash: Option<[u8; 32]>) -> Vec<u8> {
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let mut at = 0;
    let mut out = Vec::with_capacity(value.len());
    for byte in value {
        if !byte.is_ascii_digit() {
            out.push(*byte);
            continue;
        }
        out.push(if at + last >= digits {
            *byte
        } else if let Some(hash) = hash {
            b'1' + hash.get(at % 32).copied().unwrap_or_default() % 9
        } else {
            b'9'
        });
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests;
