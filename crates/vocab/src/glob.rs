//! Patterns in which `*` stands for any run of characters, and nothing else is special.

/// Whether `pattern` matches all of `text`.
///
/// On a mismatch only the last star is tried again, so the time is at most the product of the
/// lengths.
///
/// A `*` in `text` is matched by a star only. So this also says whether every text that `text`
/// matches *as a pattern* is matched by `pattern`: a star of `pattern` that takes in a star of
/// `text` takes in whatever stands for it, and if none does, then something else in its place, a
/// letter that `pattern` does not have, would not be matched.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.as_bytes(), text.as_bytes());
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((b'*', after)), _) => {
                retry = Some((after, text));
                pattern = after;
            }
            (Some((want, after)), Some((have, rest))) if want == have => {
                pattern = after;
                text = rest;
            }
            (None, None) => return true,
            (_, _) => match retry.take() {
                Some((after, from)) => {
                    let Some((_, from)) = from.split_first() else {
                        return false;
                    };
                    retry = Some((after, from));
                    pattern = after;
                    text = from;
                }
                None => return false,
            },
        }
    }
}

/// What every text that `pattern` matches begins with.
pub fn head(pattern: &str) -> &str {
    pattern.split('*').next().unwrap_or_default()
}

/// Whether `pattern` matches itself only.
pub fn is_exact(pattern: &str) -> bool {
    !pattern.contains('*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }

    #[test]
    fn stars_stand_for_any_run() {
        check("read", "read", true);
        check("read", "read_all", false);
        check("*", "", true);
        check("", "", true);
        check("", "a", false);
        check("read*", "read", true);
        check("*read", "do-not-write", false);
        check("*a*b", "xaxbxb", true);
        check("*a*b", "xbxa", false);
        check("a*a", "a", false);
        check("caf*", "caf\u{e9}", true);
    }

    #[test]
    fn patterns_lie_within_patterns() {
        check("*", "a*", true);
        check("a*", "ab*", true);
        check("a*", "*", false);
        check("ab*", "a*", false);
        check("a*c", "ab*c", true);
        check("a*c", "a*bc", true);
        check("a*c", "a*", false);
        check("a", "a*", false);
        check("a**b", "a*b", true);
        check("a*b*c", "a*c", false);
    }

    proptest! {
        /// What the two-letter words say, the definition says.
        #[test]
        fn within_means_within(outer in "[ab*]{0,5}", inner in "[ab*]{0,5}", word in "[abz]{0,7}") {
            if matches(&outer, &inner) && matches(&inner, &word) {
                prop_assert!(matches(&outer, &word), "{outer} {inner} {word}");
            }
        }

        /// And what is not shown is not so: the word with another letter for each star says it.
        #[test]
        fn not_within_means_not_within(outer in "[ab*]{0,5}", inner in "[ab*]{0,5}") {
            let word = inner.replace('*', "z");
            prop_assert_eq!(matches(&outer, &inner), matches(&outer, &word) );
        }

        #[test]
        fn matching_is_what_a_slow_reader_finds(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            fn slow(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern.split_first(), text.split_first()) {
                    (None, None) => true,
                    (Some((b'*', after)), Some((_, rest))) => slow(after, text) || slow(pattern, rest),
                    (Some((b'*', after)), None) => slow(after, text),
                    (Some((a, after)), Some((b, rest))) => a == b && slow(after, rest),
                    _ => false,
                }
            }
            prop_assert_eq!(matches(&pattern, &text), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
