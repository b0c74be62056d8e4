//! Credentials that come back.
//!
//! An upstream may repeat what it was sent: in an error, a debug tool, a page that shows the request.
//! What was leased is found in its messages as it is, in base 64 (both alphabets, wherever it begins
//! within what was encoded), percent-encoded in any way, and behind JSON's escapes, and is replaced
//! by [`MASK`].
//!
//! A value may also come in pieces, a piece an event. Events are not held back, so each string is
//! judged alone: one that ends with the beginning of a value, begins with its end, or is a part of
//! it is masked there, if that is [`PIECE_BYTES_MIN`] bytes or more. An upstream that means to pass on
//! what it was given can always find a form that nobody recognises: this is against accidents.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::source::SECRET_BYTES_MAX;

/// What stands in place of a credential.
pub const MASK: &str = "[masked:credential]";
/// Shorter values are not looked for: they would make holes everywhere.
pub const ECHO_BYTES_MIN: usize = 6;
/// The shortest piece of a value that is taken for one.
const PIECE_BYTES_MIN: usize = 8;
/// Bytes of a form that are looked for at once; matches are extended from there.
const WINDOW_BYTES: usize = 8;
/// Places of one window that are followed; a value that repeats itself has more.
const PLACES_MAX: usize = 16;

/// Recognises values. It holds what it recognises, and shows nothing of it.
#[derive(Default)]
pub struct Echo {
    /// Values in each form in which they are looked for.
    forms: Vec<Zeroizing<Vec<u8>>>,
    windows: Option<AhoCorasick>,
    /// For each window the forms that have it, and where.
    places: Vec<Vec<(usize, usize)>>,
    /// Whether one could be a JSON number.
    has_numeric: bool,
}

impl fmt::Debug for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Echo")
            .field("forms", &self.forms.len())
            .finish_non_exhaustive()
    }
}

impl Echo {
    /// Recognises these values.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms = Vec::new();
        for value in values {
            if value.len() >= ECHO_BYTES_MIN {
                forms_of(value, &mut forms);
            }
        }
        forms.sort_unstable_by(|one, other| one.as_slice().cmp(other));
        forms.dedup();
        let mut index: HashMap<&[u8], Vec<(usize, usize)>> = HashMap::new();
        for (form, bytes) in forms.iter().enumerate() {
            let last = bytes.len().saturating_sub(WINDOW_BYTES);
            for at in (0..last).step_by(WINDOW_BYTES).chain([last]) {
                let window = bytes.get(at..bytes.len().min(at + WINDOW_BYTES));
                let places = index.entry(window.unwrap_or_default()).or_default();
                if places.len() < PLACES_MAX {
                    places.push((form, at));
                }
            }
        }
        let (patterns, places): (Vec<&[u8]>, Vec<_>) = index.into_iter().unzip();
        // It fails on more patterns than there are here; then nothing could be told apart from it.
        let windows = AhoCorasickBuilder::new()
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(patterns);
        let numeric = |form: &Zeroizing<Vec<u8>>| form.iter().all(|byte| is_numeric(*byte));
        Self {
            windows: windows.ok().filter(|_| !forms.is_empty()),
            has_numeric: forms.iter().any(numeric),
            places,
            forms,
        }
    }

    /// Whether there is nothing to recognise.
    pub const fn is_empty(&self) -> bool {
        self.windows.is_none()
    }

    /// A JSON document without the values: each string and number is looked at. None: it has none of
    /// them, and is good as it is.
    pub fn mask_json(&self, json: &[u8]) -> Option<Vec<u8>> {
        self.windows.as_ref()?;
        let mut out: Option<Vec<u8>> = None;
        let (mut at, mut kept) = (0, 0);
        let mut replace = |span: Range<usize>, with: &[u8], kept: &mut usize| {
            let out = out.get_or_insert_with(|| Vec::with_capacity(json.len()));
            out.extend_from_slice(json.get(*kept..span.start).unwrap_or_default());
            out.extend_from_slice(with);
            *kept = span.end;
        };
        while at < json.len() {
            let rest = json.get(at..).unwrap_or_default();
            let quote = memchr::memchr(b'"', rest).map_or(json.len(), |found| at + found);
            if self.has_numeric {
                for span in numbers(json, at..quote) {
                    if self.finds(json.get(span.clone()).unwrap_or_default()) {
                        replace(span, b"null", &mut kept);
                    }
                }
            }
            let start = quote + 1;
            let (end, is_escaped) = string_end(json, start);
            let inside = json.get(start..end).unwrap_or_default();
            if let Some(masked) = self.mask_string(inside, is_escaped) {
                replace(start..end, &masked, &mut kept);
            }
            at = end + 1;
        }
        let mut out = out?;
        out.extend_from_slice(json.get(kept..).unwrap_or_default());
        Some(out)
    }

    /// Text without the values, as one string. None: it has none of them.
    pub fn mask_text(&self, text: &[u8]) -> Option<Vec<u8>> {
        let spans = self.spans(text);
        (!spans.is_empty()).then(|| without(text, &spans))
    }

    fn finds(&self, text: &[u8]) -> bool {
        !self.spans(text).is_empty()
    }

    /// The inside of a JSON string without the values, as JSON writes it.
    fn mask_string(&self, inside: &[u8], is_escaped: bool) -> Option<Vec<u8>> {
        if !is_escaped {
            return self.mask_text(inside);
        }
        let quoted = [b"\"", inside, b"\""].concat();
        let Ok(text) = serde_json::from_slice::<Cow<'_, str>>(&quoted) else {
            // No string that anybody reads; what is in it is looked at as it stands.
            return self.mask_text(inside);
        };
        let masked = self.mask_text(text.as_bytes())?;
        let written = serde_json::to_string(&String::from_utf8_lossy(&masked)).ok()?;
        let written = written.strip_prefix('"')?.strip_suffix('"')?;
        Some(written.as_bytes().to_vec())
    }

    /// Where values stand in a text, in order and apart.
    fn spans(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut spans = self.plain_spans(text);
        if memchr::memchr(b'%', text).is_some() {
            let (decoded, origins) = unpercent(text);
            if decoded.len() < text.len() {
                let found = self.plain_spans(&decoded).into_iter();
                spans.extend(
                    found.filter_map(|span| {
                        Some(*origins.get(span.start)?..*origins.get(span.end)?)
                    }),
                );
                spans.sort_unstable_by_key(|span| span.start);
            }
        }
        joined(spans)
    }

    fn plain_spans(&self, text: &[u8]) -> Vec<Range<usize>> {
        let Some(windows) = &self.windows else {
            return Vec::new();
        };
        let mut spans: Vec<Range<usize>> = Vec::new();
        // How far a form was compared that would begin here: each byte of it is compared once.
        let mut compared: HashMap<(usize, usize), usize> = HashMap::new();
        for found in windows.find_overlapping_iter(text) {
            if spans.last().is_some_and(|last| found.end() <= last.end) {
                continue;
            }
            let places = self.places.get(found.pattern().as_usize());
            let mut longest: Option<Range<usize>> = None;
            for (form, offset) in places.into_iter().flatten().copied() {
                let begins = (found.start() + SECRET_BYTES_MAX * 2).saturating_sub(offset);
                let until = compared.entry((form, begins)).or_default();
                if *until >= found.end() {
                    continue;
                }
                let Some((run, is_value)) = self.run(text, found.range(), (form, offset)) else {
                    continue;
                };
                *until = run.end;
                if is_value && longest.as_ref().is_none_or(|it| it.len() < run.len()) {
                    longest = Some(run);
                }
            }
            spans.extend(longest);
        }
        spans.sort_unstable_by_key(|span| span.start);
        spans
    }

    /// The whole of what stands around a window, and whether it is a value or a piece of one.
    fn run(
        &self,
        text: &[u8],
        window: Range<usize>,
        (form, offset): (usize, usize),
    ) -> Option<(Range<usize>, bool)> {
        let form = self.forms.get(form)?;
        let (before, after) = (text.get(..window.start)?, text.get(window.end..)?);
        let form_before = form.get(..offset)?;
        let form_after = form.get(offset + window.len()..)?;
        let same = |pair: &(&u8, &u8)| pair.0 == pair.1;
        let back = before.iter().rev().zip(form_before.iter().rev());
        let start = window.start - back.take_while(same).count();
        let end = window.end + after.iter().zip(form_after).take_while(same).count();
        let first = offset - (window.start - start);
        let is_from_start = first == 0;
        let is_to_end = first + (end - start) == form.len();
        let at_start = start == 0;
        let at_end = end == text.len();
        let is_piece = (is_from_start || at_start) && (is_to_end || at_end);
        let is_whole = is_from_start && is_to_end;
        let is_value = is_whole || (is_piece && end - start >= PIECE_BYTES_MIN);
        Some((start..end, is_value))
    }
}

/// A value in each form in which it is looked for.
fn forms_of(value: &str, forms: &mut Vec<Zeroizing<Vec<u8>>>) {
    let mut add = |form: &[u8]| {
        if form.len() >= ECHO_BYTES_MIN {
            forms.push(Zeroizing::new(form.to_vec()));
        }
    };
    add(value.as_bytes());
    // JSON within a JSON string.
    if let Ok(escaped) = serde_json::to_string(value).map(Zeroizing::new) {
        add(escaped.trim_matches('"').as_bytes());
    }
    for before in 0..3_usize {
        let mut bytes = Zeroizing::new(vec![0; before]);
        bytes.extend_from_slice(value.as_bytes());
        // Characters that the value alone decides, whatever stands before and after it.
        let (from, until) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let encoded = Zeroizing::new(engine.encode(&*bytes));
            add(encoded.as_bytes().get(from..until).unwrap_or_default());
        }
    }
}

/// What percent-encoded text says, and where each byte of it begins in the text, its end last.
fn unpercent(text: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let mut decoded = Vec::with_capacity(text.len());
    let mut origins = Vec::with_capacity(text.len() + 1);
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        origins.push(at);
        let hex = |at: usize| {
            let digit = char::from(*text.get(at)?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        if let (b'%', Some(high), Some(low)) = (*byte, hex(at + 1), hex(at + 2)) {
            decoded.push(high << 4 | low);
            at += 3;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    origins.push(at);
    (decoded, origins)
}

/// Spans that touch made one.
fn joined(spans: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut apart: Vec<Range<usize>> = Vec::with_capacity(spans.len());
    for span in spans {
        match apart.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            Some(_) | None => apart.push(span),
        }
    }
    apart
}

fn without(text: &[u8], spans: &[Range<usize>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut kept = 0;
    for span in spans {
        out.extend_from_slice(text.get(kept..span.start).unwrap_or_default());
        out.extend_from_slice(MASK.as_bytes());
        kept = span.end;
    }
    out.extend_from_slice(text.get(kept..).unwrap_or_default());
    out
}

/// Where the string ends that begins here, and whether it has escapes.
fn string_end(json: &[u8], start: usize) -> (usize, bool) {
    let (mut at, mut is_escaped) = (start, false);
    loop {
        let rest = json.get(at..).unwrap_or_default();
        match memchr::memchr2(b'"', b'\\', rest) {
            None => return (json.len(), is_escaped),
            Some(found) if rest.get(found) == Some(&b'"') => return (at + found, is_escaped),
            Some(found) => {
                is_escaped = true;
                at += found + 2;
            }
        }
    }
}

const fn is_numeric(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// The numbers in a part of JSON that has no strings.
fn numbers(json: &[u8], part: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut at = part.start;
    std::iter::from_fn(move || {
        while at < part.end {
            let start = at;
            while at < part.end && json.get(at).is_some_and(|byte| is_numeric(*byte)) {
                at += 1;
            }
            if at > start {
                // `e` also stands in `true`, which no numeric value is like.
                return Some(start..at);
            }
            at += 1;
        }
        None
    })
}

#[cfg(test)]
mod tests;
