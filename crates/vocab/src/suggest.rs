//! The nearest known name, for errors that say what was probably meant.

/// Most names that are looked at: a hint is not worth keeping anybody waiting for.
const NAMES_MAX: usize = 10_000;

/// The name in `known` that is nearest to `given`, if one is near enough to be a slip of the pen.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (given.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .take(NAMES_MAX)
        .map(|name| (distance(given, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits (insert, delete, replace, swap of neighbours) between two words, upper case ignored.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left
        .chars()
        .flat_map(char::to_lowercase)
        .take(128)
        .collect();
    let right: Vec<char> = right
        .chars()
        .flat_map(char::to_lowercase)
        .take(128)
        .collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, r) in right.iter().enumerate() {
            let at =
                |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&last, j) + usize::from(l != r))
                .min(at(&last, j + 1) + 1)
                .min(at(&row, j) + 1);
            let swapped =
                i > 0 && j > 0 && left.get(i - 1) == Some(r) && right.get(j - 1) == Some(l);
            if swapped {
                best = best.min(at(&before_last, j - 1) + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["listen", "public_url", "upstream", "command"];
        assert_eq!(nearest("comand", known), Some("command"));
        assert_eq!(nearest("lisetn", known), Some("listen"));
        assert_eq!(nearest("Upstream", known), Some("upstream"));
        assert_eq!(nearest("color", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn a_hint_is_not_looked_for_among_all_that_there_is() {
        let others = std::iter::repeat_n("something-else", NAMES_MAX - 1);
        let found = |others: &[&'static str]| {
            nearest("lisetn", others.iter().copied().chain(["listen"])).is_some()
        };
        let mut others: Vec<_> = others.collect();
        assert!(found(&others));
        others.push("something-else");
        assert!(!found(&others));
    }
}
