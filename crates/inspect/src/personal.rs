//! Numbers that name a person, told from other numbers by their check digits; addresses and phones.
//!
//! One pass over the words that have digits, and one over the `@`s. A check digit of one in ten is
//! little on a page of numbers: the rule says which kinds need a word nearby that names them.

use std::ops::Range;

use crate::rules::Detector;

/// Groups of digits that are looked at together: `4111 1111 1111 1111` has four.
const GROUPS_MAX: usize = 7;
/// Digits of the longest number that is known, of a card.
const DIGITS_MAX: usize = 19;
/// Characters of the longest account number, with spaces.
const IBAN_BYTES_MAX: usize = 42;
/// Longest address, in bytes.
const EMAIL_BYTES_MAX: usize = 254;

/// How something is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As nothing else is: in the groups or with the letters of its kind.
    Own,
    /// Digits alone.
    Bare,
}

/// Calls `each` for everything that passes its check.
pub(crate) fn scan(text: &[u8], each: &mut dyn FnMut(Detector, Range<usize>, Form)) {
    let mut at = 0;
    while let Some(found) = text
        .get(at..)
        .and_then(|rest| rest.iter().position(u8::is_ascii_digit))
    {
        let digit = at + found;
        let back = text
            .get(at..digit)
            .unwrap_or_default()
            .iter()
            .rev()
            .take_while(|byte| byte.is_ascii_alphanumeric())
            .count();
        let word = Word::at(text, digit - back);
        look(text, &word, each);
        at = word.span.end.max(digit + 1);
    }
    emails(text, each);
    phones(text, each);
}

/// Letters and digits without anything between them.
struct Word<'t> {
    bytes: &'t [u8],
    span: Range<usize>,
}

impl<'t> Word<'t> {
    fn at(text: &'t [u8], start: usize) -> Self {
        let rest = text.get(start..).unwrap_or_default();
        let len = rest
            .iter()
            .position(|byte| !byte.is_ascii_alphanumeric())
            .unwrap_or(rest.len());
        Self {
            bytes: rest.get(..len).unwrap_or_default(),
            span: start..start + len,
        }
    }

    fn is_digits(&self) -> bool {
        self.bytes.iter().all(u8::is_ascii_digit)
    }
}

fn look(text: &[u8], word: &Word<'_>, each: &mut dyn FnMut(Detector, Range<usize>, Form)) {
    if word.is_digits() {
        numbers(text, word, each);
        dni_apart(text, word, each);
        return;
    }
    let span = word.span.clone();
    match word.bytes.len() {
        9 if is_dni(word.bytes) => each(Detector::Dni, span.clone(), Form::Own),
        15 if is_nir(word.bytes) => each(Detector::Nir, span.clone(), Form::Own),
        16 if is_codice_fiscale(word.bytes) => {
            each(Detector::CodiceFiscale, span.clone(), Form::Own);
        }
        _ => {}
    }
    if let [first, second, third, fourth, ..] = word.bytes
        && first.is_ascii_alphabetic()
        && second.is_ascii_alphabetic()
        && third.is_ascii_digit()
        && fourth.is_ascii_digit()
        && let Some(end) = iban_end(text, span.start)
    {
        each(Detector::Iban, span.start..end, Form::Own);
    }
}

/// Groups of digits from one word on, with the same separator between them.
struct Groups {
    digits: [u8; DIGITS_MAX],
    len: usize,
    sizes: [usize; GROUPS_MAX],
    count: usize,
    separator: u8,
}

impl Groups {
    fn digits(&self) -> &[u8] {
        self.digits.get(..self.len).unwrap_or_default()
    }

    fn sizes(&self) -> &[usize] {
        self.sizes.get(..self.count).unwrap_or_default()
    }

    fn push(&mut self, group: &[u8]) -> Option<()> {
        let places = self.digits.get_mut(self.len..self.len + group.len())?;
        places.copy_from_slice(group);
        self.len += group.len();
        *self.sizes.get_mut(self.count)? = group.len();
        self.count += 1;
        Some(())
    }
}

fn numbers(text: &[u8], first: &Word<'_>, each: &mut dyn FnMut(Detector, Range<usize>, Form)) {
    let start = first.span.start;
    let goes_back = goes_on(
        start.checked_sub(1).and_then(|at| text.get(at)),
        start.checked_sub(2).and_then(|at| text.get(at)),
    );
    let mut groups = Groups {
        digits: [0; DIGITS_MAX],
        len: 0,
        sizes: [0; GROUPS_MAX],
        count: 0,
        separator: 0,
    };
    let mut end = first.span.end;
    if groups.push(first.bytes).is_none() {
        return;
    }
    loop {
        let next = (text.get(end), text.get(end + 1));
        if groups.len >= 9 {
            let is_part = goes_back || goes_on(next.0, next.1);
            judge(&groups, is_part, &mut |detector, form| {
                each(detector, start..end, form);
            });
        }
        let (Some(separator @ (b' ' | b'-' | b'.')), Some(b'0'..=b'9')) = next else {
            return;
        };
        // 000.000.000-00 is the one kind that changes its separator.
        let is_last_of_cpf = groups.sizes() == [3, 3, 3] && groups.separator == b'.';
        if groups.count > 1 && *separator != groups.separator && !is_last_of_cpf {
            return;
        }
        let word = Word::at(text, end + 1);
        if groups.count == 1 {
            groups.separator = *separator;
        }
        if !word.is_digits() || groups.push(word.bytes).is_none() {
            return;
        }
        end = word.span.end;
    }
}

/// Whether a number goes on behind a separator: then what was read is a part of something else.
fn goes_on(separator: Option<&u8>, behind: Option<&u8>) -> bool {
    matches!(separator, Some(b'-' | b'.' | b'/')) && behind.is_some_and(u8::is_ascii_digit)
}

fn judge(groups: &Groups, is_part: bool, each: &mut dyn FnMut(Detector, Form)) {
    let digits = groups.digits();
    let sizes = groups.sizes();
    let form = if sizes.len() == 1 {
        Form::Bare
    } else {
        Form::Own
    };
    if is_card(digits) && is_card_written(sizes, groups.separator) {
        // Counters and times have other lengths than nearly all cards.
        let is_usual = matches!(digits.len(), 15 | 16);
        each(Detector::Card, if is_usual { Form::Own } else { form });
    }
    if is_part {
        return;
    }
    match (digits.len(), sizes) {
        // Without a check digit no way of writing it says enough.
        (9, [9] | [3, 2, 4]) if is_ssn(digits) => each(Detector::Ssn, Form::Bare),
        _ => {}
    }
    match (digits.len(), sizes) {
        (9, [9] | [4, 2, 3] | [3, 3, 3]) if is_bsn(digits) => each(Detector::Bsn, Form::Bare),
        // Many phone numbers are written so.
        (10, [10] | [3, 3, 4]) if is_nhs(digits) => each(Detector::Nhs, Form::Bare),
        (11, [3, 3, 3, 2]) if groups.separator == b'.' && is_cpf(digits) => {
            each(Detector::Cpf, Form::Own);
        }
        (11, [11]) => {
            if is_cpf(digits) {
                each(Detector::Cpf, Form::Bare);
            }
            if is_pesel(digits) {
                each(Detector::Pesel, Form::Bare);
            }
        }
        (15, [15] | [1, 2, 2, 2, 3, 3, 2]) if is_nir(digits) => each(Detector::Nir, form),
        _ => {}
    }
}

fn is_card_written(sizes: &[usize], separator: u8) -> bool {
    match sizes {
        [_] | [4, 6, 4 | 5] => true,
        [fours @ .., last] => {
            separator != b'.' && fours.iter().all(|size| *size == 4) && (1..=4).contains(last)
        }
        [] => false,
    }
}

fn number(digits: &[u8]) -> u64 {
    digits
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

fn value(digit: u8) -> u32 {
    u32::from(digit.wrapping_sub(b'0'))
}

fn weighted(digits: &[u8], weights: impl IntoIterator<Item = u32>) -> u32 {
    digits
        .iter()
        .zip(weights)
        .map(|(digit, weight)| value(*digit) * weight)
        .sum()
}

fn all_same(digits: &[u8]) -> bool {
    digits.windows(2).all(|pair| pair.first() == pair.last())
}

/// A number that an issuer of cards gives out (ISO/IEC 7812), with Luhn's check digit.
fn is_card(digits: &[u8]) -> bool {
    let Some(prefix) = digits.get(..4) else {
        return false;
    };
    let lengths = match number(prefix) {
        4000..=4999 => &[13, 16, 19][..],
        5100..=5599 | 2221..=2720 => &[16],
        3400..=3499 | 3700..=3799 => &[15],
        3000..=3059 | 3600..=3699 | 3800..=3999 => &[14, 16, 19],
        6011 | 6440..=6599 | 3528..=3589 | 6200..=6299 => &[16, 17, 18, 19],
        5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763 => &[13, 14, 15, 16, 17, 18, 19],
        _ => return false,
    };
    lengths.contains(&digits.len()) && luhn(digits)
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, value(*digit)) {
            (0, value) => value,
            (_, value @ 0..=4) => value * 2,
            (_, value) => value * 2 - 9,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Where the account number ends that begins there: the length of its country, modulo 97 (ISO 13616).
fn iban_end(text: &[u8], start: usize) -> Option<usize> {
    let rest = text.get(start..)?;
    let rest = rest.get(..IBAN_BYTES_MAX).unwrap_or(rest);
    let country = rest.get(..2)?.to_ascii_uppercase();
    let (_, len) = IBAN_LENGTHS
        .iter()
        .find(|(code, _)| code.as_bytes() == country)?;
    let mut characters = Vec::with_capacity(*len);
    let mut end = 0;
    for (at, byte) in rest.iter().enumerate() {
        match byte {
            b' ' | b'-' if characters.len() % 4 == 0 && at == end => continue,
            byte if byte.is_ascii_alphanumeric() => characters.push(byte.to_ascii_uppercase()),
            _ => break,
        }
        end = at + 1;
        if characters.len() == *len {
            break;
        }
    }
    let ends_there = !rest.get(end).is_some_and(u8::is_ascii_alphanumeric);
    if characters.len() != *len || !ends_there {
        return None;
    }
    characters.rotate_left(4);
    let remainder = characters.iter().fold(0_u32, |remainder, byte| {
        let value = char::from(*byte).to_digit(36).unwrap_or_default();
        let shift = if value > 9 { 100 } else { 10 };
        (remainder * shift + value) % 97
    });
    (remainder == 1).then_some(start + end)
}

const IBAN_LENGTHS: &[(&str, usize)] = &[
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BR", 29),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FO", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GL", 18),
    ("GR", 27),
    ("GT", 28),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IQ", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MR", 27),
    ("MT", 31),
    ("MU", 30),
    ("NL", 18),
    ("NO", 15),
    ("PK", 24),
    ("PL", 28),
    ("PS", 29),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("SA", 24),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("TN", 24),
    ("TR", 26),
    ("UA", 29),
    ("VA", 22),
    ("VG", 24),
    ("XK", 20),
];

/// Spain: eight digits, or a letter and seven, and a letter that is their remainder by 23.
fn is_dni(word: &[u8]) -> bool {
    let [first, middle @ .., last] = word else {
        return false;
    };
    let first = match first.to_ascii_uppercase() {
        digit @ b'0'..=b'9' => digit,
        letter @ b'X'..=b'Z' => letter - b'X' + b'0',
        _ => return false,
    };
    if middle.len() != 7 || !middle.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let number = u64::from(first - b'0') * 10_000_000 + number(middle);
    let letter = usize::try_from(number % 23)
        .ok()
        .and_then(|at| b"TRWAGMYFPDXBNJZSQVHLCKE".get(at));
    letter == Some(&last.to_ascii_uppercase())
}

/// `12345678-Z`.
fn dni_apart(text: &[u8], word: &Word<'_>, each: &mut dyn FnMut(Detector, Range<usize>, Form)) {
    if word.bytes.len() != 8 || !matches!(text.get(word.span.end), Some(b'-' | b' ')) {
        return;
    }
    let letter = Word::at(text, word.span.end + 1);
    let whole = [word.bytes, letter.bytes].concat();
    if letter.bytes.len() == 1 && is_dni(&whole) {
        each(Detector::Dni, word.span.start..letter.span.end, Form::Own);
    }
}

/// France: sex, year, month, department, commune, order, and a key that is their complement by 97.
fn is_nir(word: &[u8]) -> bool {
    let Some((body, key)) = word.split_at_checked(13) else {
        return false;
    };
    let mut body = body.to_vec();
    // Corsica: 2A counts as 19, 2B as 18.
    match body.get(5..7) {
        Some(b"2A" | b"2a") => drop(body.splice(5..7, *b"19")),
        Some(b"2B" | b"2b") => drop(body.splice(5..7, *b"18")),
        _ => {}
    }
    if key.len() != 2 || !body.iter().chain(key).all(u8::is_ascii_digit) {
        return false;
    }
    let is_person = matches!(body.first(), Some(b'1' | b'2'));
    let month = body.get(3..5).map_or(0, number);
    let is_month = matches!(month, 1..=12 | 20..=42 | 50..=99);
    is_person && is_month && 97 - number(&body) % 97 == number(key)
}

/// Italy: sixteen characters, the last computed from the others by a table for odd places and one for
/// even ones.
fn is_codice_fiscale(word: &[u8]) -> bool {
    const ODD: [u32; 26] = [
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24,
        23,
    ];
    const DIGIT_PLACES: [usize; 7] = [6, 7, 9, 10, 12, 13, 14];
    let word = word.to_ascii_uppercase();
    let mut sum = 0;
    let Some((last, body)) = word.split_last() else {
        return false;
    };
    for (at, byte) in body.iter().enumerate() {
        // Where two people would have the same, digits are written as letters.
        let fits = if DIGIT_PLACES.contains(&at) {
            byte.is_ascii_digit() || b"LMNPQRSTUV".contains(byte)
        } else {
            byte.is_ascii_uppercase()
        };
        if !fits {
            return false;
        }
        let plain = u32::from(if byte.is_ascii_digit() {
            byte - b'0'
        } else {
            byte - b'A'
        });
        // Places are counted from one: the first is odd.
        sum += if at % 2 == 0 {
            ODD.get(plain as usize).copied().unwrap_or_default()
        } else {
            plain
        };
    }
    body.len() == 15 && last.is_ascii_uppercase() && sum % 26 == u32::from(last - b'A')
}

/// The Netherlands: nine digits, weighted 9 to 2 and -1, a multiple of eleven.
fn is_bsn(digits: &[u8]) -> bool {
    let sum = weighted(digits.get(..8).unwrap_or_default(), (2..=9).rev());
    let last = digits.last().map_or(0, |digit| value(*digit));
    sum > 0 && sum % 11 == last && !all_same(digits)
}

/// Brazil: two check digits, each by eleven.
fn is_cpf(digits: &[u8]) -> bool {
    let check = |len: u32| {
        let sum = weighted(
            digits.get(..len as usize).unwrap_or_default(),
            (2..=len + 1).rev(),
        );
        let check = sum * 10 % 11 % 10;
        digits.get(len as usize).map(|digit| value(*digit)) == Some(check)
    };
    digits.len() == 11 && !all_same(digits) && check(9) && check(10)
}

/// The United States: no check digit, but numbers that are never given out.
fn is_ssn(digits: &[u8]) -> bool {
    let (Some(area), Some(group), Some(serial)) =
        (digits.get(..3), digits.get(3..5), digits.get(5..9))
    else {
        return false;
    };
    // Printed on cards that came with wallets.
    let is_printed = matches!(digits, b"078051120" | b"219099999");
    let area = number(area);
    !matches!(area, 0 | 666 | 900..) && number(group) > 0 && number(serial) > 0 && !is_printed
}

/// The National Health Service: ten digits, weighted 10 to 2, the last their complement by eleven.
fn is_nhs(digits: &[u8]) -> bool {
    let sum = weighted(digits.get(..9).unwrap_or_default(), (2..=10).rev());
    let check = match 11 - sum % 11 {
        11 => 0,
        check => check,
    };
    digits.last().map(|digit| value(*digit)) == Some(check) && !all_same(digits)
}

/// Poland: a date with the century in the month, and a check digit.
fn is_pesel(digits: &[u8]) -> bool {
    let weights = [1, 3, 7, 9, 1, 3, 7, 9, 1, 3];
    let sum = weighted(digits.get(..10).unwrap_or_default(), weights);
    let month = digits.get(2..4).map_or(0, number) % 20;
    let day = digits.get(4..6).map_or(0, number);
    let check = (10 - sum % 10) % 10;
    (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && digits.last().map(|digit| value(*digit)) == Some(check)
}

fn emails(text: &[u8], each: &mut dyn FnMut(Detector, Range<usize>, Form)) {
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| memchr::memchr(b'@', rest)) {
        let at = from + found;
        let before = text.get(from..at).unwrap_or_default();
        let local = before
            .iter()
            .rev()
            .take(64)
            .take_while(|byte| byte.is_ascii_alphanumeric() || b"._%+-".contains(byte))
            .count();
        let behind = text.get(at + 1..).unwrap_or_default();
        let host = behind
            .iter()
            .take(EMAIL_BYTES_MAX)
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
            .count();
        let host = behind.get(..host).unwrap_or_default();
        let host = host.trim_ascii_end();
        let kept = host
            .iter()
            .rposition(u8::is_ascii_alphanumeric)
            .map_or(0, |last| last + 1);
        let host = host.get(..kept).unwrap_or_default();
        let top = host.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
        let has_top = top.len() < host.len()
            && (2..=24).contains(&top.len())
            && top.iter().all(u8::is_ascii_alphabetic);
        let in_front = text.get(..at - local).unwrap_or_default();
        if local > 0 && has_top && !host.starts_with(b".") && !is_user_of_url(in_front) {
            each(Detector::Email, at - local..at + 1 + kept, Form::Own);
        }
        from = at + 1;
    }
}

/// Whether what follows is the user or the password in an address of the web (RFC 3986 §3.2.1).
fn is_user_of_url(before: &[u8]) -> bool {
    let word = before
        .iter()
        .rev()
        .take(128)
        .take_while(|byte| !byte.is_ascii_whitespace() && !b"\"'/?#<>".contains(byte))
        .count();
    let (before, _) = before.split_at(before.len() - word);
    before.ends_with(b"://")
}

/// Phone numbers with their country: a plus, and eight to fifteen digits (E.164).
fn phones(text: &[u8], each: &mut dyn FnMut(Detector, Range<usize>, Form)) {
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| memchr::memchr(b'+', rest)) {
        let plus = from + found;
        from = plus + 1;
        let is_within = plus
            .checked_sub(1)
            .and_then(|at| text.get(at))
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
        let rest = text.get(from..).unwrap_or_default();
        if is_within || !matches!(rest.first(), Some(b'1'..=b'9')) {
            continue;
        }
        let (mut digits, mut end) = (0, 0);
        for (at, byte) in rest.iter().take(28).enumerate() {
            match byte {
                b'0'..=b'9' => (digits, end) = (digits + 1, at + 1),
                b' ' | b'-' | b'.' | b'(' | b')' if at < end + 2 => {}
                _ => break,
            }
        }
        let goes_on = rest
            .get(end)
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'+'));
        if (8..=15).contains(&digits) && !goes_on {
            each(Detector::Phone, plus..from + end, Form::Own);
        }
    }
}

#[cfg(test)]
mod tests;
