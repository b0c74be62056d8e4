//! A text that was made from another one, and the way back: where in the document something stands.
//!
//! What is inspected is rarely what stands in the document: escapes are undone, encodings decoded,
//! hidden characters left out. A [`View`] is such a text with the map to the text that it was made
//! from; a [`Layer`] is a view on top of the layers below it, down to the document.

use std::borrow::Cow;
use std::ops::Range;

/// A stretch of a view.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Where it begins in the view.
    at: usize,
    /// What it was made from.
    from: usize,
    len: usize,
    /// Byte for byte, so that a part of it was made from that part; otherwise it stands for the whole.
    is_copy: bool,
}

/// A text and what each byte of it was made from.
pub(crate) struct View<'a> {
    bytes: Cow<'a, [u8]>,
    /// None where the view is the text that it was made from.
    runs: Vec<Run>,
}

impl<'a> View<'a> {
    /// The text itself.
    pub(crate) const fn same(bytes: &'a [u8]) -> Self {
        Self {
            bytes: Cow::Borrowed(bytes),
            runs: Vec::new(),
        }
    }

    /// A text that stands for one stretch as a whole.
    pub(crate) fn whole(bytes: &[u8], of: Range<usize>) -> View<'static> {
        let mut builder = Builder::default();
        builder.replace(bytes, of);
        builder.finish()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What a stretch of the view was made from.
    pub(crate) fn below(&self, span: Range<usize>) -> Range<usize> {
        let (Some(first), Some(last)) = (
            self.run(span.start),
            self.run(span.end.saturating_sub(1).max(span.start)),
        ) else {
            return span;
        };
        let start = if first.is_copy {
            first.from + (span.start - first.at).min(first.len)
        } else {
            first.from
        };
        let end = if last.is_copy {
            last.from + span.end.saturating_sub(last.at).min(last.len)
        } else {
            last.from + last.len
        };
        start..end.max(start)
    }

    fn run(&self, at: usize) -> Option<Run> {
        let behind = self.runs.partition_point(|run| run.at <= at);
        self.runs.get(behind.checked_sub(1)?).copied()
    }
}

/// Makes a view, stretch by stretch.
#[derive(Default)]
pub(crate) struct Builder {
    bytes: Vec<u8>,
    runs: Vec<Run>,
}

impl Builder {
    /// A stretch as it stands.
    pub(crate) fn copy(&mut self, text: &[u8], of: Range<usize>) {
        let Some(bytes) = text.get(of.clone()).filter(|bytes| !bytes.is_empty()) else {
            return;
        };
        self.push(of, true);
        self.bytes.extend_from_slice(bytes);
    }

    /// What stands for a stretch.
    pub(crate) fn replace(&mut self, with: &[u8], of: Range<usize>) {
        if with.is_empty() {
            return;
        }
        self.push(of, false);
        self.bytes.extend_from_slice(with);
    }

    /// An end between what does not stand together.
    pub(crate) fn gap(&mut self) {
        let at = self.runs.last().map_or(0, |run| run.from + run.len);
        self.replace(b"\n", at..at);
    }

    /// A stretch of a JSON string with its escapes undone.
    pub(crate) fn unescape(&mut self, json: &[u8], of: Range<usize>) {
        let mut done = of.start;
        while let Some(found) = json
            .get(done..of.end)
            .and_then(|rest| memchr::memchr(b'\\', rest))
        {
            let at = done + found;
            self.copy(json, done..at);
            let (character, len) = escape(json.get(at..of.end).unwrap_or_default());
            let mut utf8 = [0; 4];
            self.replace(character.encode_utf8(&mut utf8).as_bytes(), at..at + len);
            done = at + len;
        }
        self.copy(json, done..of.end);
    }

    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn finish(self) -> View<'static> {
        View {
            bytes: Cow::Owned(self.bytes),
            runs: self.runs,
        }
    }

    fn push(&mut self, of: Range<usize>, is_copy: bool) {
        self.runs.push(Run {
            at: self.bytes.len(),
            from: of.start,
            len: of.len(),
            is_copy,
        });
    }
}

/// A view and the layers below it.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub(crate) view: &'a View<'a>,
    pub(crate) below: Option<&'a Self>,
}

impl Layer<'_> {
    /// The lowest view, which was made from the document itself, and where in it a stretch comes from.
    pub(crate) fn lowest(&self, span: Range<usize>) -> (&View<'_>, Range<usize>) {
        match self.below {
            Some(layer) => layer.lowest(self.view.below(span)),
            None => (self.view, span),
        }
    }
}

/// The characters of a JSON document with every escape undone: the text that its reader will see,
/// between the brackets, quotes and commas that it will not.
pub(crate) fn unescaped(json: &[u8]) -> View<'_> {
    if memchr::memchr(b'\\', json).is_none() {
        return View::same(json);
    }
    let mut builder = Builder {
        bytes: Vec::with_capacity(json.len()),
        runs: Vec::new(),
    };
    builder.unescape(json, 0..json.len());
    builder.finish()
}

/// The character of the escape that the bytes begin with, and how long the escape is.
pub(crate) fn escape(bytes: &[u8]) -> (char, usize) {
    let simple = match bytes.get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode_escape(bytes),
        Some(other) if other.is_ascii() => char::from(*other),
        Some(_) | None => return ('\\', 1),
    };
    (simple, 2)
}

/// `\uXXXX`, or a pair of them; a lone surrogate is the replacement character.
pub(crate) fn unicode_escape(bytes: &[u8]) -> (char, usize) {
    let Some(high) = unit(bytes) else {
        return ('\\', 1);
    };
    if (0xd800..0xdc00).contains(&high)
        && let Some(low) = bytes.get(6..).and_then(unit)
        && (0xdc00..0xe000).contains(&low)
    {
        let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        return (
            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
            12,
        );
    }
    (
        char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER),
        6,
    )
}

fn unit(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(br"\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, digit| {
        Some(unit << 4 | char::from(*digit).to_digit(16)?)
    })
}

#[cfg(test)]
mod tests;
