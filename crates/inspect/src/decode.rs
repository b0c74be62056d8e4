//! Readable text behind encodings: base64, hexadecimal digits, percent signs, backslashes, references.
//!
//! Decoding is lenient on purpose. What matters is not whether something is well-formed base64 but
//! whether somebody could read it as such: both alphabets are taken, padding may be missing, lines may
//! be broken, and something may stand in front.

use std::ops::Range;

use crate::finding::{Encoding, Uninspectable};
use crate::view::{Builder, View, unicode_escape};

/// Shorter runs of base64 or hexadecimal digits are not looked at.
const RUN_MIN: usize = 24;
/// A line at least so long may go on in the next.
const LINE_MIN: usize = 48;
/// Readable bytes in a row that make decoded bytes worth looking into.
const READABLE_MIN: usize = 12;
/// From here on a run that is no text is a blob: no key, digest or signature is so long.
const BLOB_MIN: usize = 1024;
/// The member of MCP that says what data is, and how far from the data it may stand, in bytes.
const TYPE: &[u8] = b"\"mimeType\"";
const TYPE_BYTES: usize = 256;
/// Hexadecimal digits of the longest digest in use.
const DIGEST_MAX: usize = 128;
/// How much of a long run is decoded to see where its groups of four begin.
const SAMPLE: usize = 4 * 1024;

/// What a run turned out to be.
pub(crate) enum Decoded {
    Text {
        bytes: Vec<u8>,
        encoding: Encoding,
        /// And nothing else: not just readable bytes among others.
        is_all_text: bool,
    },
    Opaque(Uninspectable),
}

/// Calls `each` for every run of base64 or hexadecimal digits that is more than an identifier.
pub(crate) fn runs(text: &[u8], each: &mut dyn FnMut(Range<usize>, Decoded)) {
    let mut at = 0;
    while let Some(window) = text.get(at..at + RUN_MIN) {
        // From the end, so that ordinary text is skipped in long steps.
        if let Some(stop) = window.iter().rposition(|byte| !is_digit(*byte)) {
            at += stop + 1;
            continue;
        }
        let end = run_end(text, at);
        let run = at..end;
        if let Some(decoded) = decode(text, &run) {
            each(run, decoded);
        }
        at = end;
    }
}

/// Where the run ends that begins at `at`, lines that go on and padding included.
fn run_end(text: &[u8], at: usize) -> usize {
    let mut line = at;
    loop {
        let rest = text.get(line..).unwrap_or_default();
        let len = rest
            .iter()
            .position(|byte| !is_digit(*byte))
            .unwrap_or(rest.len());
        let end = line + len;
        let behind = text.get(end..).unwrap_or_default();
        let broken = behind
            .strip_prefix(b"\r\n")
            .or_else(|| behind.strip_prefix(b"\n"))
            .map(<[u8]>::trim_ascii_start)
            .filter(|next| len >= LINE_MIN && next.first().is_some_and(|byte| is_digit(*byte)));
        match broken {
            Some(next) => line = text.len() - next.len(),
            None => return end + behind.iter().take(2).take_while(|it| **it == b'=').count(),
        }
    }
}

fn decode(text: &[u8], run: &Range<usize>) -> Option<Decoded> {
    let digits = text.get(run.clone())?;
    if digits
        .iter()
        .all(|byte| byte.is_ascii_hexdigit() || byte.is_ascii_whitespace())
    {
        let bytes = unhex(digits);
        if let Some(found) = judge(bytes, Encoding::Hex) {
            return Some(found);
        }
    }
    let sample = digits.get(..SAMPLE).unwrap_or(digits);
    let whole = unbase64(digits);
    let is_digest = digits.len() <= DIGEST_MAX && digits.iter().all(u8::is_ascii_hexdigit);
    let is_data = !is_digest && stands_as_data(text, run);
    let reason = reason(&whole, is_data);
    if let Some(found) = judge(whole, Encoding::Base64) {
        return Some(found);
    }
    // Something in front of it moves the groups of four.
    for front in 1..4 {
        let moved = unbase64(sample.get(front..)?);
        if readable(&moved) >= READABLE_MIN {
            let bytes = unbase64(digits.get(front..)?);
            return judge(bytes, Encoding::Base64);
        }
    }
    reason.map(Decoded::Opaque)
}

/// Text, if there is any in it.
fn judge(bytes: Vec<u8>, encoding: Encoding) -> Option<Decoded> {
    if readable(&bytes) >= READABLE_MIN {
        let is_all_text = is_text(&bytes);
        return Some(Decoded::Text {
            bytes,
            encoding,
            is_all_text,
        });
    }
    let narrow = narrowed(&bytes);
    (readable(&narrow) >= READABLE_MIN).then_some(Decoded::Text {
        bytes: narrow,
        encoding,
        is_all_text: true,
    })
}

/// Text of two bytes a character, as some shells want it, with one.
fn narrowed(bytes: &[u8]) -> Vec<u8> {
    let pairs = || bytes.as_chunks::<2>().0.iter();
    let little = pairs().filter(|[_, high]| *high == 0).count();
    let big = pairs().filter(|[high, _]| *high == 0).count();
    if little.max(big) * 4 < bytes.len() {
        return Vec::new();
    }
    pairs()
        .map(|[first, second]| if little >= big { *first } else { *second })
        .collect()
}

fn is_text(bytes: &[u8]) -> bool {
    let is_odd = |char: char| char.is_control() && !char.is_whitespace();
    std::str::from_utf8(bytes).is_ok_and(|text| !text.contains(is_odd))
}

/// The longest row of bytes that a person could read.
fn readable(bytes: &[u8]) -> usize {
    let mut longest = 0;
    let mut row = 0;
    for byte in bytes {
        if matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t') {
            row += 1;
            longest = longest.max(row);
        } else {
            row = 0;
        }
    }
    // Text in other scripts has few such rows.
    if longest < READABLE_MIN && bytes.len() >= READABLE_MIN && is_text(bytes) {
        return bytes.len();
    }
    longest
}

/// Why bytes that are no text are not looked into; none for what is short enough to be a digest.
fn reason(bytes: &[u8], is_data: bool) -> Option<Uninspectable> {
    const COMPRESSED: &[&[u8]] = &[
        b"\x1f\x8b\x08",
        b"PK\x03\x04",
        b"\x28\xb5\x2f\xfd",
        b"\xfd7zXZ\0",
        b"BZh",
        b"7z\xbc\xaf\x27\x1c",
        b"Rar!\x1a\x07",
        b"\x04\x22\x4d\x18",
    ];
    const BINARY: &[&[u8]] = &[
        b"\x89PNG\r\n",
        b"\xff\xd8\xff",
        b"GIF8",
        b"%PDF-",
        b"RIFF",
        b"OggS",
        b"ID3",
        b"\x7fELF",
        b"\0asm",
        b"MZ\x90\0",
    ];
    let begins = |with: &[&[u8]]| with.iter().any(|magic| bytes.starts_with(magic));
    // Two bytes say zlib, and a remainder: enough for something long.
    let is_zlib = matches!(bytes, [0x78, flags, ..] if (0x7800 + u16::from(*flags)) % 31 == 0);
    if begins(COMPRESSED) || (is_zlib && bytes.len() >= 64) {
        Some(Uninspectable::Compressed)
    } else if is_data || bytes.len() >= BLOB_MIN || begins(BINARY) {
        Some(Uninspectable::Blob)
    } else {
        None
    }
}

/// Whether it is the value of a member that MCP keeps for data: `blob`, or `data` that has a type.
fn stands_as_data(text: &[u8], run: &Range<usize>) -> bool {
    let before = text.get(..run.start).unwrap_or_default();
    let name = before
        .strip_suffix(b"\"")
        .map(<[u8]>::trim_ascii_end)
        .and_then(|before| before.strip_suffix(b":"))
        .map(<[u8]>::trim_ascii_end);
    let Some(before) = name else { return false };
    if before.ends_with(b"\"blob\"") {
        return true;
    }
    let around = run.start.saturating_sub(TYPE_BYTES)..(run.end + TYPE_BYTES).min(text.len());
    let names_type = |part: Range<usize>| {
        memchr::memmem::find(text.get(part).unwrap_or_default(), TYPE).is_some()
    };
    before.ends_with(b"\"data\"")
        && (names_type(around.start..run.start) || names_type(run.end..around.end))
}

const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

fn unbase64(digits: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 3);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in digits {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        held += 1;
        if held == 4 {
            let [_, first, second, third] = bits.to_be_bytes();
            out.extend_from_slice(&[first, second, third]);
            (bits, held) = (0, 0);
        }
    }
    let [_, first, second, _] = (bits << (6 * (4 - held))).to_be_bytes();
    match held {
        2 => out.push(first),
        3 => out.extend_from_slice(&[first, second]),
        _ => {}
    }
    out
}

fn unhex(digits: &[u8]) -> Vec<u8> {
    let mut values = digits
        .iter()
        .filter_map(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(digits.len() / 2);
    while let (Some(high), Some(low)) = (values.next(), values.next()) {
        out.extend(u8::try_from(high << 4 | low));
    }
    out
}

/// The words that hold escapes, without them, a line each; none if no word does.
pub(crate) fn escapes(text: &[u8]) -> Option<View<'static>> {
    let mut builder = Builder::default();
    let mut done = 0;
    let mut from = 0;
    while let Some(found) = text
        .get(from..)
        .and_then(|rest| memchr::memchr3(b'%', b'\\', b'&', rest))
    {
        let at = from + found;
        if escape(text, at).is_none() {
            from = at + 1;
            continue;
        }
        let before = text.get(done..at).unwrap_or_default();
        let start = before
            .iter()
            .rposition(|byte| ends_word(*byte))
            .map_or(done, |last| done + last + 1);
        done = word(text, start, &mut builder);
        from = done;
        builder.gap();
    }
    (builder.len() > 0).then(|| builder.finish())
}

/// Copies the word that begins at `start` without its escapes. Gives where it ends.
fn word(text: &[u8], start: usize, builder: &mut Builder) -> usize {
    let mut copied = start;
    let mut at = start;
    while let Some(byte) = text.get(at) {
        if let Some((char, len)) = escape(text, at) {
            builder.copy(text, copied..at);
            match char {
                Unit::Byte(byte) => builder.replace(&[byte], at..at + len),
                Unit::Char(char) => {
                    let mut utf8 = [0; 4];
                    builder.replace(char.encode_utf8(&mut utf8).as_bytes(), at..at + len);
                }
            }
            at += len;
            copied = at;
        } else if ends_word(*byte) {
            break;
        } else {
            at += 1;
        }
    }
    builder.copy(text, copied..at);
    at
}

const fn ends_word(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'`' | b'<' | b'>')
}

enum Unit {
    Byte(u8),
    Char(char),
}

/// What the escape at that place stands for, and how long it is.
fn escape(text: &[u8], at: usize) -> Option<(Unit, usize)> {
    let rest = text.get(at..)?;
    match rest {
        [b'%', high, low, ..] => Some((Unit::Byte(hex(*high, *low)?), 3)),
        [b'\\', b'x', high, low, ..] => Some((Unit::Byte(hex(*high, *low)?), 4)),
        [b'\\', b'u', b'{', digits @ ..] => {
            let len = digits.iter().take(7).position(|byte| *byte == b'}')?;
            let code = number(digits.get(..len)?, 16)?;
            Some((Unit::Char(char::from_u32(code)?), len + 4))
        }
        [b'\\', b'u', ..] => {
            let (char, len) = unicode_escape(rest);
            (len > 1).then_some((Unit::Char(char), len))
        }
        [b'\\', b'/', ..] => Some((Unit::Byte(b'/'), 2)),
        [b'&', b'#', digits @ ..] => {
            let len = digits.iter().take(9).position(|byte| *byte == b';')?;
            let digits = digits.get(..len)?;
            let code = match digits {
                [b'x' | b'X', digits @ ..] => number(digits, 16)?,
                digits => number(digits, 10)?,
            };
            Some((Unit::Char(char::from_u32(code)?), len + 3))
        }
        _ => None,
    }
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let value = char::from(high).to_digit(16)? << 4 | char::from(low).to_digit(16)?;
    u8::try_from(value).ok()
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |number, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        number.checked_mul(radix)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests;
