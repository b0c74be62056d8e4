//! Credentials that come back.
//!
//! An upstream may repeat what it was sent: in an error, a debug tool, a page that shows the request.
//! What was leased is found in its messages as it is, in base 64 (both alphabets, wherever it begins
//! within what was encoded), in hex, percent-encoded in any way, behind JSON's escapes however often,
//! and any of these over several lines; of a value with several lines, each line too. It is replaced
//! by [`MASK`].
//!
//! A value may also come in pieces, a piece an event. Events are not held back, so each string is
//! judged alone: one that ends with the beginning of a value, begins with its end, or is a part of
//! it is masked there, if that is [`PIECE_BYTES_MIN`] bytes or more. The same goes for a line, for
//! twice as many. An upstream that means to pass on what it was given can always find a form that
//! nobody recognises: this is against accidents.
//!
//! All forms are written out, zeroed when they are given up, and looked for at once: the hash of each
//! few bytes of a text says whether a form may have these ([`Windows`]), and only then the form itself
//! is held against the text. So nothing but the forms holds what is looked for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use self::view::View;
use self::windows::{WINDOW_BYTES, Windows};
use crate::source::SECRET_BYTES_MAX;

mod view;
mod windows;

/// What stands in place of a credential.
pub const MASK: &str = "[masked:credential]";
/// Shorter values are not looked for: they would make holes everywhere.
pub const ECHO_BYTES_MIN: usize = 6;
/// The shortest piece of a value that is taken for one.
const PIECE_BYTES_MIN: usize = 8;
/// The shortest piece of a value that is taken for one at the edge of a line.
const LINE_PIECE_BYTES_MIN: usize = 16;
/// Bytes of the longest escape that is undone: `\\u0041`.
const ESCAPE_BYTES_MAX: usize = 8;
/// How often encodings within encodings are undone.
const UNDONE_MAX: usize = 6;

/// Recognises values. It holds what it recognises, and shows nothing of it.
#[derive(Default)]
pub struct Echo {
    /// Values in each form in which they are looked for.
    forms: Vec<Zeroizing<Vec<u8>>>,
    windows: Windows,
    /// Bytes of the longest form.
    longest: usize,
    /// Which bytes forms consist of.
    bytes: Bytes,
    /// Whether one could be a JSON number.
    has_numeric: bool,
}

struct Bytes([bool; 256]);

impl Default for Bytes {
    fn default() -> Self {
        Self([false; 256])
    }
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
        let mut bytes = Bytes::default();
        for byte in forms.iter().flat_map(|form| form.iter()) {
            if let Some(is_there) = bytes.0.get_mut(usize::from(*byte)) {
                *is_there = true;
            }
        }
        let numeric = |form: &Zeroizing<Vec<u8>>| form.iter().all(|byte| is_numeric(*byte));
        Self {
            windows: Windows::of(&forms),
            longest: forms.iter().map(|it| it.len()).max().unwrap_or_default(),
            bytes,
            has_numeric: forms.iter().any(numeric),
            forms,
        }
    }

    /// Whether there is nothing to recognise.
    pub const fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// A JSON document without the values: each string and number is looked at. None: it has none of
    /// them, and is good as it is.
    pub fn mask_json(&self, json: &[u8]) -> Option<Vec<u8>> {
        if self.is_empty() {
            return None;
        }
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
        if self.is_empty() {
            return Vec::new();
        }
        let mut spans = self.plain_spans(text, std::iter::once(0..text.len()));
        if memchr::memchr3(b'%', b'\\', b'\n', text).is_some() {
            self.undone_spans(text, &mut spans);
            spans.sort_unstable_by_key(|span| span.start);
        }
        joined(spans)
    }

    /// Where values stand in what a text says when its encodings are undone, one after the other.
    fn undone_spans(&self, text: &[u8], spans: &mut Vec<Range<usize>>) {
        let mut views: Vec<View> = Vec::new();
        let mut note = |view: &View, below: &[View]| {
            let parts = view.around(&self.bytes.0, self.longest);
            for span in self.plain_spans(&view.text, parts.into_iter()) {
                let span = view.origin(&span);
                spans.push(below.iter().rev().fold(span, |span, it| it.origin(&span)));
            }
        };
        if let Some(unfolded) = View::unfold(text) {
            note(&unfolded, &views);
        }
        for _ in 0..UNDONE_MAX {
            let above = views.last().map_or(text, |it| &it.text);
            // A value that looks percent-encoded is undone last, or it would not be seen behind
            // escapes.
            let Some(view) = View::unescape(above).or_else(|| View::unpercent(above)) else {
                break;
            };
            note(&view, &views);
            let unfolded = View::unfold(&view.text);
            views.push(view);
            if let Some(unfolded) = unfolded {
                note(&unfolded, &views);
            }
        }
    }

    /// Where values stand as forms have them, looked for in these parts of a text.
    fn plain_spans(
        &self,
        text: &[u8],
        parts: impl Iterator<Item = Range<usize>>,
    ) -> Vec<Range<usize>> {
        let mut spans: Vec<Range<usize>> = Vec::new();
        // How far a form was compared that would begin here: each byte of it is compared once.
        let mut compared: HashMap<(usize, usize), usize> = HashMap::new();
        for part in parts {
            self.windows.each_in(text, part, |at, places| {
                let window = at..at + WINDOW_BYTES;
                if spans.last().is_some_and(|last| window.end <= last.end) {
                    return;
                }
                let mut longest: Option<Range<usize>> = None;
                for (form, offset) in places {
                    let begins = (at + SECRET_BYTES_MAX * 3).saturating_sub(offset);
                    let until = compared.entry((form, begins)).or_default();
                    if *until >= window.end {
                        continue;
                    }
                    let Some((run, is_value)) = self.run(text, window.clone(), (form, offset))
                    else {
                        continue;
                    };
                    *until = run.end;
                    if is_value && longest.as_ref().is_none_or(|it| it.len() < run.len()) {
                        longest = Some(run);
                    }
                }
                spans.extend(longest);
            });
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
        // Their hashes are the same, which those of others may be.
        let is_same = form.get(offset..offset + window.len()) == text.get(window.clone());
        if !is_same {
            return None;
        }
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
        let is_whole = is_from_start && is_to_end;
        let is_piece =
            (is_from_start || is_cut_before(text, start)) && (is_to_end || is_cut_after(text, end));
        let is_break = |byte: Option<&u8>| matches!(byte, None | Some(b'\r' | b'\n'));
        let ahead = text.get(..start).and_then(<[u8]>::last);
        let is_at_start = ahead.is_none_or(u8::is_ascii_whitespace);
        let is_line_piece =
            (is_from_start || is_at_start) && (is_to_end || is_break(text.get(end)));
        let is_value = is_whole
            || (is_piece && end - start >= PIECE_BYTES_MIN)
            || (is_line_piece && end - start >= LINE_PIECE_BYTES_MIN);
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
    // What of it has several lines may come line by line, each behind something else, or in one. A
    // file of JSON has the lines of a key behind its own escapes.
    if value.contains(['\n', '\\']) {
        let lines = Zeroizing::new(value.replace("\\n", "\n"));
        let lines = lines.lines().map(str::trim);
        let is_telling = |line: &&str| line.len() >= PIECE_BYTES_MIN && !line.starts_with("-----");
        lines.filter(is_telling).for_each(|it| add(it.as_bytes()));
        let mut unfolded = Zeroizing::new(Vec::with_capacity(value.len()));
        for line in value.lines() {
            unfolded.extend_from_slice(line.trim_start().as_bytes());
        }
        add(&unfolded);
    }
    for digits in [b"0123456789abcdef", b"0123456789ABCDEF"] {
        let digit = |at: u8| digits.get(usize::from(at)).copied().unwrap_or_default();
        let mut hex = Zeroizing::new(Vec::with_capacity(value.len() * 2));
        for byte in value.bytes() {
            hex.extend([digit(byte >> 4), digit(byte & 15)]);
        }
        add(&hex);
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

/// Whether all before `start` is what is left of an escape that was cut in two, if anything.
fn is_cut_before(text: &[u8], start: usize) -> bool {
    let before = text.get(..start).unwrap_or_default();
    let is_left = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'u' | b'\\');
    start < ESCAPE_BYTES_MAX && before.iter().all(is_left)
}

/// The same for all from `end` on; a value may have the byte that an escape begins with.
fn is_cut_after(text: &[u8], end: usize) -> bool {
    let after = text.get(end..).unwrap_or_default();
    let last = text.get(..end).and_then(<[u8]>::last);
    let mut begins = after.first().into_iter().chain(last);
    let mut is_cut = || begins.any(|byte| matches!(byte, b'%' | b'\\'));
    after.is_empty() || (after.len() < ESCAPE_BYTES_MAX && is_cut())
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
