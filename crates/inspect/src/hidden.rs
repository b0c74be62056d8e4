//! Text that a person does not see: tag characters, variation selectors, directions, zero width,
//! terminal sequences; and text that looks like another one.
//!
//! What is written in invisible characters is read and given back to be inspected itself. What is
//! disguised by them, or by characters that look alike, is given back without the disguise. Both are
//! further views: what passes is never changed by this.

use std::ops::Range;

use unicode_normalization::char::decompose_compatible;

use crate::rules::Detector;
use crate::view::{Builder, View};

/// Invisible characters in a row from where on they are no accident of typesetting.
const INVISIBLE_ROW: usize = 3;
/// What is taken along on either side of a disguise, in bytes.
const AROUND: usize = 512;

/// What a character is, as far as it is not simply seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Plain,
    /// One of U+E0000 to U+E007F, a shadow of ASCII.
    Tag(u8),
    /// A variation selector, which can stand for a byte.
    Selector(u8),
    /// Turns the direction of what follows.
    Turn,
    /// Of no width.
    Zero,
    /// Of no width, and at home between letters.
    Soft,
    /// Looks like that ASCII character.
    Like(u8),
    /// Looks like it in a word of Latin letters, and is a letter of its own elsewhere.
    Alike(u8),
}

/// Characters that look like ASCII, by page of 256; a set high bit says that it is a letter elsewhere.
pub(crate) struct Folding(Vec<Option<Box<[u8; 256]>>>);

impl std::fmt::Debug for Folding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Folding")
    }
}

impl Folding {
    pub(crate) fn new() -> Self {
        const COMPATIBLE: &[Range<u32>] = &[
            0xa0..0x100,
            0x2b0..0x300,
            0x1d00..0x1e00,
            0x2000..0x2500,
            0x3000..0x3001,
            0xff00..0x1_0000,
            0x1_d400..0x1_d800,
            0x1_f100..0x1_f200,
            0x1_fbf0..0x1_fbfa,
        ];
        const LETTERS: &[Range<u32>] = &[
            0x180..0x2b0,
            0x370..0x590,
            0x13a0..0x1400,
            0xa4d0..0xa500,
            0x1_0400..0x1_0450,
        ];
        let mut folding = Self((0..0x200).map(|_| None).collect());
        for char in COMPATIBLE
            .iter()
            .cloned()
            .flatten()
            .filter_map(char::from_u32)
        {
            let mut decomposed = (None, 0);
            decompose_compatible(char, |part| decomposed = (Some(part), decomposed.1 + 1));
            if let (Some(part), 1) = decomposed
                && let Ok(part) = u8::try_from(part)
                && part.is_ascii()
            {
                folding.set(char, part);
            }
        }
        for char in LETTERS.iter().cloned().flatten().filter_map(char::from_u32) {
            let mut utf8 = [0; 4];
            let mut skeleton = unicode_security::skeleton(char.encode_utf8(&mut utf8));
            if let (Some(part), None) = (skeleton.next(), skeleton.next())
                && let Ok(part) = u8::try_from(part)
                && part.is_ascii_alphanumeric()
            {
                folding.set(char, part | 0x80);
            }
        }
        folding
    }

    fn set(&mut self, char: char, as_ascii: u8) {
        let code = char as usize;
        if let Some(page) = self.0.get_mut(code >> 8) {
            let page = page.get_or_insert_with(|| Box::new([0; 256]));
            if let Some(place) = page.get_mut(code & 0xff) {
                *place = as_ascii;
            }
        }
    }

    fn get(&self, char: char) -> u8 {
        let code = char as usize;
        self.0
            .get(code >> 8)
            .and_then(Option::as_ref)
            .and_then(|page| page.get(code & 0xff))
            .map_or(0, |as_ascii| *as_ascii)
    }

    fn look(&self, char: char) -> Look {
        match char {
            '\u{e0000}'..='\u{e007f}' => Look::Tag(low_byte(char) & 0x7f),
            '\u{fe00}'..='\u{fe0f}' => Look::Selector(low_byte(char) & 0xf),
            '\u{e0100}'..='\u{e01ef}' => Look::Selector(low_byte(char).wrapping_add(16)),
            '\u{202a}'..='\u{202e}' | '\u{2066}' | '\u{2067}' => Look::Turn,
            // Libraries for translated text put these around what they fill in.
            '\u{2068}' | '\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{ad}' => Look::Soft,
            '\u{200b}'..='\u{200d}'
            | '\u{2060}'..='\u{2065}'
            | '\u{206a}'..='\u{206f}'
            | '\u{feff}'
            | '\u{180b}'..='\u{180e}'
            | '\u{34f}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{3164}'
            | '\u{ffa0}'
            | '\u{1d173}'..='\u{1d17a}' => Look::Zero,
            _ => match self.get(char) {
                0 => Look::Plain,
                letter if letter & 0x80 != 0 => Look::Alike(letter & 0x7f),
                like => Look::Like(like),
            },
        }
    }
}

/// The low byte of a character's code: blocks of invisible characters stand for bytes by it.
const fn low_byte(char: char) -> u8 {
    let [low, ..] = (char as u32).to_le_bytes();
    low
}

/// What was seen in a text.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) found: Vec<(Detector, Range<usize>)>,
    /// What is written in invisible characters, and where.
    pub(crate) written: Vec<(View<'static>, Range<usize>)>,
    /// The text around disguises, without them.
    pub(crate) folded: Option<View<'static>>,
}

/// A character that is not simply seen, or a sequence for terminals.
struct Spot {
    span: Range<usize>,
    look: Look,
    /// The character before it and before what is invisible in front of it.
    before: Option<char>,
}

/// Whether there is anything to look at.
pub(crate) fn may_have(text: &[u8]) -> bool {
    !text.is_ascii() || memchr::memchr(0x1b, text).is_some()
}

pub(crate) fn look(text: &[u8], folding: &Folding) -> Seen {
    let mut seen = Seen::default();
    let sequences = sequences(text, &mut seen);
    let mut spots = spots(text, folding);
    rows(text, &spots, &mut seen);
    spots.retain(|spot| disguises(text, spot));
    spots.extend(sequences);
    spots.sort_by_key(|spot| spot.span.start);
    if !spots.is_empty() {
        seen.folded = Some(without(text, &spots));
    }
    seen
}

fn spots(text: &[u8], folding: &Folding) -> Vec<Spot> {
    let mut spots = Vec::new();
    let mut at = 0;
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid();
        let mut before = None;
        let mut inside = 0;
        while let Some(found) = valid
            .as_bytes()
            .get(inside..)
            .and_then(|rest| rest.iter().position(|byte| *byte >= 0x80))
        {
            let start = inside + found;
            if let Some(last) = start.checked_sub(1).filter(|_| found > 0) {
                before = valid.as_bytes().get(last).map(|byte| char::from(*byte));
            }
            let Some(char) = valid.get(start..).and_then(|rest| rest.chars().next()) else {
                break;
            };
            inside = start + char.len_utf8();
            let look = folding.look(char);
            if look != Look::Plain {
                spots.push(Spot {
                    span: at + start..at + inside,
                    look,
                    before,
                });
            }
            if !matches!(
                look,
                Look::Tag(_) | Look::Selector(_) | Look::Zero | Look::Soft | Look::Turn
            ) {
                before = Some(char);
            }
        }
        at += valid.len() + chunk.invalid().len();
    }
    spots
}

/// Rows of invisible characters of one kind.
fn rows(text: &[u8], spots: &[Spot], seen: &mut Seen) {
    for row in spots.chunk_by(|first, next| {
        first.span.end == next.span.start && kind(first.look) == kind(next.look)
    }) {
        let (Some(first), Some(last)) = (row.first(), row.last()) else {
            continue;
        };
        let span = first.span.start..last.span.end;
        match first.look {
            Look::Tag(_) if !is_flag(first, last, row.len()) => {
                seen.found.push((Detector::Tags, span.clone()));
                let written: Vec<u8> = row
                    .iter()
                    .filter_map(|spot| match spot.look {
                        Look::Tag(tag @ 0x20..=0x7e) => Some(tag),
                        _ => None,
                    })
                    .collect();
                seen.written
                    .push((View::whole(&written, span.clone()), span));
            }
            Look::Selector(_) if row.len() > 1 => {
                seen.found
                    .push((Detector::VariationSelectors, span.clone()));
                let written: Vec<u8> = row
                    .iter()
                    .filter_map(|spot| match spot.look {
                        Look::Selector(byte) => Some(byte),
                        _ => None,
                    })
                    .collect();
                seen.written
                    .push((View::whole(&written, span.clone()), span));
            }
            Look::Turn => seen.found.push((Detector::Bidi, span)),
            Look::Zero if row.len() >= INVISIBLE_ROW || within_word(text, &span) => {
                seen.found.push((Detector::ZeroWidth, span));
            }
            _ => {}
        }
    }
}

fn kind(look: Look) -> u8 {
    match look {
        Look::Plain => 0,
        Look::Tag(_) => 1,
        Look::Selector(_) => 2,
        Look::Turn => 3,
        Look::Zero => 4,
        Look::Soft => 5,
        Look::Like(_) => 6,
        Look::Alike(_) => 7,
    }
}

/// The flags of England, Scotland and Wales are written in tag characters.
fn is_flag(first: &Spot, last: &Spot, len: usize) -> bool {
    first.before == Some('\u{1f3f4}') && last.look == Look::Tag(0x7f) && (4..=7).contains(&len)
}

fn within_word(text: &[u8], span: &Range<usize>) -> bool {
    let is_word = |at: Option<usize>| {
        at.and_then(|at| text.get(at))
            .is_some_and(u8::is_ascii_alphanumeric)
    };
    is_word(span.start.checked_sub(1)) && is_word(Some(span.end))
}

/// Whether a reader could take the text for another one because of it.
fn disguises(text: &[u8], spot: &Spot) -> bool {
    match spot.look {
        // Behind a character that has variants; a picture, say.
        Look::Selector(_) | Look::Zero => spot.before.is_some_and(|before| before.is_ascii()),
        Look::Plain => false,
        Look::Alike(_) => is_mixed(text, spot.span.start),
        Look::Tag(_) | Look::Turn | Look::Soft | Look::Like(_) => true,
    }
}

/// Whether the word around a place has Latin letters too.
fn is_mixed(text: &[u8], at: usize) -> bool {
    let before = text.get(at.saturating_sub(32)..at).unwrap_or_default();
    let behind = text.get(at..(at + 32).min(text.len())).unwrap_or_default();
    let is_letter = |byte: u8| byte >= 0x80 || byte.is_ascii_alphabetic();
    let is_latin = |byte: &u8| byte.is_ascii_alphabetic();
    before
        .iter()
        .rev()
        .take_while(|byte| is_letter(**byte))
        .any(is_latin)
        || behind
            .iter()
            .take_while(|byte| is_letter(**byte))
            .any(is_latin)
}

/// Sequences that tell a terminal to do something. Those that only colour are not found; all of them
/// are left out of what is looked into.
fn sequences(text: &[u8], seen: &mut Seen) -> Vec<Spot> {
    let mut spots = Vec::new();
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| memchr::memchr(0x1b, rest)) {
        let start = from + found;
        let rest = text.get(start + 1..).unwrap_or_default();
        let (len, hides) = match rest {
            [b'[', inside @ ..] => {
                let len = inside
                    .iter()
                    .take(32)
                    .take_while(|byte| matches!(byte, 0x20..=0x3f))
                    .count();
                let is_colour = inside.get(len) == Some(&b'm')
                    && !inside
                        .get(..len)
                        .unwrap_or_default()
                        .split(|byte| *byte == b';')
                        .any(|number| number == b"8");
                let last = usize::from(inside.get(len).is_some_and(u8::is_ascii));
                (2 + len + last, !is_colour)
            }
            [next, ..] if next.is_ascii() => (2, true),
            _ => (1, true),
        };
        let span = start..start + len;
        if hides {
            seen.found.push((Detector::Terminal, span.clone()));
        }
        spots.push(Spot {
            span,
            look: Look::Zero,
            before: None,
        });
        from = start + len;
    }
    spots
}

/// The text around the spots, without them, a line for each stretch.
fn without(text: &[u8], spots: &[Spot]) -> View<'static> {
    let mut builder = Builder::default();
    let mut done: Option<usize> = None;
    let mut spots = spots.iter().peekable();
    while let Some(spot) = spots.next() {
        if done.is_some_and(|done| spot.span.start < done) {
            continue;
        }
        let from = spot.span.start.saturating_sub(AROUND);
        let from = match done {
            Some(done) if from <= done => done,
            Some(_) => {
                builder.gap();
                from
            }
            None => from,
        };
        builder.copy(text, from..spot.span.start);
        if let Look::Like(like) | Look::Alike(like) = spot.look {
            builder.replace(&[like], spot.span.clone());
        }
        let to = (spot.span.end + AROUND).min(text.len());
        let to = spots.peek().map_or(to, |next| to.min(next.span.start));
        let to = to.max(spot.span.end);
        builder.copy(text, spot.span.end..to);
        done = Some(to);
    }
    builder.finish()
}

#[cfg(test)]
mod tests;
