//! Text with one way of writing it undone, and where each byte of it stood.

use std::ops::Range;

/// A text that was read, and where it was not copied byte for byte.
pub(super) struct View {
    pub(super) text: Vec<u8>,
    shifts: Vec<Shift>,
}

/// From here on, the read text stands elsewhere than before.
struct Shift {
    /// Where in the read text.
    at: usize,
    /// Where that stood.
    from: usize,
    /// How many bytes stood for the one that is there.
    unit: usize,
}

/// What something stands for: a few bytes, or none.
#[derive(Default)]
struct Bytes {
    bytes: [u8; 4],
    count: usize,
}

impl Bytes {
    const fn one(byte: u8) -> Self {
        Self {
            bytes: [byte, 0, 0, 0],
            count: 1,
        }
    }

    fn of(character: char) -> Self {
        let mut bytes = [0; 4];
        let count = character.encode_utf8(&mut bytes).len();
        Self { bytes, count }
    }
}

impl View {
    /// `%41`.
    pub(super) fn unpercent(text: &[u8]) -> Option<Self> {
        Self::read(text, memchr::memchr_iter(b'%', text), |rest| {
            let hex = |at: usize| char::from(*rest.get(at)?).to_digit(16);
            let byte = hex(1)? << 4 | hex(2)?;
            Some((3, Bytes::one(u8::try_from(byte).ok()?)))
        })
    }

    /// The escapes of JSON, whether or not the whole is JSON.
    pub(super) fn unescape(text: &[u8]) -> Option<Self> {
        Self::read(text, memchr::memchr_iter(b'\\', text), |rest| {
            let unit = |at: usize| {
                let digits = rest.get(at..at + 6)?.strip_prefix(b"\\u")?;
                let all_hex = digits.iter().all(u8::is_ascii_hexdigit);
                let digits = std::str::from_utf8(digits).ok().filter(|_| all_hex)?;
                u16::from_str_radix(digits, 16).ok()
            };
            let byte = match rest.get(1)? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'f' => 12,
                b'u' => {
                    let units = [unit(0)?, unit(6).unwrap_or(0)];
                    let read = char::decode_utf16(units).next()?.ok()?;
                    return Some((6 * read.len_utf16(), Bytes::of(read)));
                }
                other @ (b'"' | b'\\' | b'/') => *other,
                _ => return None,
            };
            Some((2, Bytes::one(byte)))
        })
    }

    /// Line breaks, with what may stand before the next line: white space, and the marks of quotes,
    /// comments, lists and tables.
    pub(super) fn unfold(text: &[u8]) -> Option<Self> {
        Self::read(text, memchr::memchr2_iter(b'\n', b'\r', text), |rest| {
            let is_before = |byte: &&u8| b" \t\r\n>|#*".contains(byte);
            Some((rest.iter().take_while(is_before).count(), Bytes::default()))
        })
    }

    /// Copies `text`, but puts in place of what begins at some of `marks` what `undo` makes of it:
    /// so many bytes, and what they stand for.
    fn read(
        text: &[u8],
        marks: impl Iterator<Item = usize>,
        undo: impl Fn(&[u8]) -> Option<(usize, Bytes)>,
    ) -> Option<Self> {
        let mut view = Self {
            text: Vec::new(),
            shifts: Vec::new(),
        };
        let mut done = 0;
        for mark in marks {
            if mark < done {
                continue;
            }
            let Some((unit, is)) = undo(text.get(mark..).unwrap_or_default()) else {
                continue;
            };
            view.text.reserve(text.len() - done);
            view.text
                .extend_from_slice(text.get(done..mark).unwrap_or_default());
            done = mark + unit;
            for (number, byte) in (1..).zip(is.bytes.into_iter().take(is.count)) {
                // All bytes of a character stand where it is written.
                let unit = if number == is.count { unit } else { 0 };
                let at = view.text.len();
                view.shifts.push(Shift {
                    at,
                    from: mark,
                    unit,
                });
                view.text.push(byte);
            }
            let at = view.text.len();
            if done < text.len() {
                view.shifts.push(Shift {
                    at,
                    from: done,
                    unit: 1,
                });
            }
        }
        if view.shifts.is_empty() {
            return None;
        }
        view.text
            .extend_from_slice(text.get(done..).unwrap_or_default());
        Some(view)
    }

    /// Where a part of the read text stood.
    pub(super) fn origin(&self, part: &Range<usize>) -> Range<usize> {
        let before = |end: usize| {
            let count = self.shifts.partition_point(|it| it.at < end);
            self.shifts.get(count.checked_sub(1)?)
        };
        // What is written at its start: the last of those that begin there.
        let start = before(part.start + 1).map_or(part.start, |it| {
            let within = part.start - it.at;
            it.from + if within == 0 { 0 } else { it.unit + within - 1 }
        });
        let end = before(part.end).map_or(part.end, |it| it.from + it.unit + part.end - it.at - 1);
        start..end.max(start)
    }

    /// The parts around each place where it differs that consist of `bytes` alone, `most` to each
    /// side. What the text did not have before lies in one of them.
    pub(super) fn around(&self, bytes: &[bool; 256], most: usize) -> Vec<Range<usize>> {
        let is_one = |byte: &&u8| bytes.get(usize::from(**byte)).is_some_and(|it| *it);
        let mut parts: Vec<Range<usize>> = Vec::new();
        for shift in &self.shifts {
            let done = parts.last().map_or(0, |it| it.end);
            let after = self.text.get(shift.at.max(done)..).unwrap_or_default();
            let ahead = (shift.at + most).saturating_sub(shift.at.max(done));
            let end = shift.at.max(done) + after.iter().take(ahead).take_while(is_one).count();
            if shift.at < done {
                if let Some(last) = parts.last_mut() {
                    last.end = end;
                }
                continue;
            }
            let before = self.text.get(done..shift.at).unwrap_or_default();
            let back = before.iter().rev().take(most).take_while(is_one).count();
            match parts.last_mut() {
                Some(last) if shift.at - back == last.end => last.end = end,
                Some(_) | None => parts.push(shift.at - back..end),
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(view: Option<View>, text: &str, read: &str) {
        let view = view.unwrap();
        assert_eq!(String::from_utf8_lossy(&view.text), read);
        for start in 0..read.len() {
            for end in start + 1..=read.len() {
                let origin = view.origin(&(start..end));
                assert!(origin.end <= text.len(), "{start} {end}");
            }
        }
        assert_eq!(view.origin(&(0..read.len())), 0..text.len());
    }

    #[test]
    fn what_is_undone_is_read_and_known_by_where_it_stood() {
        check(View::unpercent(b"%41b%2f%zz"), "%41b%2f%zz", "Ab/%zz");
        let text = r#"\u0041\/\"\\n\x\ud83D\uDE00"#;
        check(View::unescape(text.as_bytes()), text, "A/\"\\n\\x\u{1F600}");
        check(
            View::unfold(b"ab\r\n> cd\n\n  #ef"),
            "ab\r\n> cd\n\n  #ef",
            "abcdef",
        );
        for text in ["", "plain", "50% off", "%", "%4"] {
            assert!(View::unpercent(text.as_bytes()).is_none(), "{text}");
        }
        for text in [r"\", r"\u00", r"\ud800", r"\x41", r"\u+041"] {
            assert!(View::unescape(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_part_stood_where_its_first_and_last_byte_did() {
        let view = View::unfold(b"one\n> two\nend").unwrap();
        assert_eq!(view.origin(&(0..3)), 0..3);
        assert_eq!(view.origin(&(3..6)), 6..9);
        assert_eq!(view.origin(&(2..4)), 2..7);
        assert_eq!(view.origin(&(6..9)), 10..13);
        let view = View::unescape(br"a\u0041b\/c").unwrap();
        assert_eq!(view.origin(&(0..1)), 0..1);
        assert_eq!(view.origin(&(1..2)), 1..7);
        assert_eq!(view.origin(&(2..3)), 7..8);
        assert_eq!(view.origin(&(1..4)), 1..10);
        assert_eq!(view.origin(&(4..5)), 10..11);
    }

    #[test]
    fn only_what_lies_around_a_change_is_looked_at_again() {
        let mut bytes = [false; 256];
        for byte in b'a'..=b'z' {
            bytes[usize::from(byte)] = true;
        }
        let view = View::unfold(b"one two\nthree four\n five six").unwrap();
        let parts = view.around(&bytes, 100);
        let texts: Vec<_> = parts
            .iter()
            .map(|it| std::str::from_utf8(&view.text[it.clone()]).unwrap())
            .collect();
        assert_eq!(texts, ["twothree", "fourfive"]);
        let parts = view.around(&bytes, 2);
        assert_eq!(parts, [5..9, 15..19]);
    }
}
