//! Numbers as JSON writes them, compared without rounding.

use std::cmp::Ordering;
use std::fmt;

/// Longest number that is read, in bytes.
const BYTES_MAX: usize = 128;
/// Most digits that count, so that what is written can be read.
const DIGITS_MAX: usize = 100;
/// Largest and smallest power of ten.
const EXPONENT_MAX: i64 = 99_999;

/// A JSON number, exactly: `1`, `1.0` and `10e-1` are the same, and 2^64 + 1 is not 2^64.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    negative: bool,
    /// Without zeros at either end; nothing for zero. The value is `0.DIGITS` times ten to the
    /// power of `exponent`.
    digits: Box<str>,
    exponent: i64,
}

impl Decimal {
    /// The number that a JSON text is, if it is one and not too long.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, power) = match rest.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, exponent(power)?),
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some((whole, fraction)) => (whole, fraction),
            None => (mantissa, ""),
        };
        let digits_only = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || leading_zero || !digits_only(whole) || !digits_only(fraction) {
            return None;
        }
        let all = format!("{whole}{fraction}");
        let significant = all.trim_start_matches('0');
        let zeros = all.len() - significant.len();
        let digits = significant.trim_end_matches('0');
        if digits.is_empty() {
            return Some(Self {
                negative: false,
                digits: "".into(),
                exponent: 0,
            });
        }
        let point = i64::try_from(whole.len()).ok()? - i64::try_from(zeros).ok()?;
        let exponent = point + power;
        let fits = digits.len() <= DIGITS_MAX && exponent.abs() < EXPONENT_MAX;
        fits.then(|| Self {
            negative,
            digits: digits.into(),
            exponent,
        })
    }
}

fn exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !(1..=6).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let power: i64 = digits.parse().ok()?;
    Some(if text.starts_with('-') { -power } else { power })
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |it: &Self| match (it.digits.is_empty(), it.negative) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => -1,
        };
        let size = (self.exponent, &self.digits).cmp(&(other.exponent, &other.digits));
        let size = match sign(self) {
            0 => Ordering::Equal,
            1 => size,
            _ => size.reverse(),
        };
        sign(self).cmp(&sign(other)).then(size)
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// One way to write each number, which is JSON.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = &*self.digits;
        if digits.is_empty() {
            return f.write_str("0");
        }
        if self.negative {
            f.write_str("-")?;
        }
        let length = i64::try_from(digits.len()).unwrap_or(i64::MAX);
        let at = usize::try_from(self.exponent).unwrap_or(0);
        match self.exponent {
            exponent if exponent >= length && exponent <= 21 => write!(f, "{digits:0<at$}"),
            exponent if exponent > 0 && exponent < length => {
                let (whole, fraction) = digits.split_at(at);
                write!(f, "{whole}.{fraction}")
            }
            exponent @ -5..=0 => {
                let zeros = usize::try_from(-exponent).unwrap_or(0);
                write!(f, "0.{:0<zeros$}{digits}", "")
            }
            exponent => {
                let (first, rest) = digits.split_at(1);
                let point = if rest.is_empty() { "" } else { "." };
                write!(f, "{first}{point}{rest}e{}", exponent - 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn numbers_are_compared_exactly() {
        let same = |a: &str, b: &str| assert_eq!(number(a), number(b), "{a} {b}");
        same("1", "1.0");
        same("1", "10e-1");
        same("100", "1E+2");
        same("0", "-0");
        same("0", "0.000e9");
        same("-1.50", "-15e-1");
        let less = |a: &str, b: &str| {
            assert!(number(a) < number(b), "{a} {b}");
            assert!(number(b) > number(a), "{b} {a}");
        };
        less("18446744073709551616", "18446744073709551617");
        less("9007199254740992.0", "9007199254740993");
        less("-2", "-1");
        less("-1", "0");
        less("0", "1e-300");
        less("9", "10");
        less("0.09", "0.1");
        less("1e400", "1e401");
        less("-1e401", "-1e400");
        less("0.1", "0.10000000000000000000001");
    }

    #[test]
    fn other_texts_are_no_numbers() {
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "1e1234567",
            "1e99999",
            "1e-999999",
            "0x1",
            "NaN",
            "1 ",
            "1_0",
            "--1",
            "1.2.3",
            "1e2e3",
            "\u{661}",
            &"1".repeat(129),
        ] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_written_one_way() {
        let check = |text: &str, expected: &str| assert_eq!(number(text).to_string(), expected);
        check("1.0", "1");
        check("-0", "0");
        check("1e3", "1000");
        check("12.50", "12.5");
        check("0.00012", "0.00012");
        check("1.5e30", "1.5e30");
        check("1e-9", "1e-9");
        check("123456789012345678901", "123456789012345678901");
        check("1234567890123456789012", "1.234567890123456789012e21");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,12})?([eE][+-]?[0-9]{1,3})?") {
            let read = number(&text);
            prop_assert_eq!(&number(&read.to_string()), &read);
            prop_assert!(serde_json::from_str::<Box<serde_json::value::RawValue>>(&read.to_string()).is_ok());
        }

        #[test]
        fn integers_compare_as_integers(a: i64, b: i64) {
            prop_assert_eq!(number(&a.to_string()).cmp(&number(&b.to_string())), a.cmp(&b));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _read = Decimal::parse(&text);
        }
    }
}
