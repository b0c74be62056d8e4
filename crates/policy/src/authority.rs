//! The most an agent may ever do, as patterns; policies decide below that.

use vocab::glob;

/// Whether one of `patterns` covers `action` (`UPSTREAM/TOOL` or `UPSTREAM:METHOD`).
///
/// `*` in the tool part stands for any run of characters; a method is named in full. A pattern of
/// another form covers nothing.
pub(crate) fn covers(
    patterns: &[String],
    upstream: &str,
    tool: Option<&str>,
    action: &str,
) -> bool {
    patterns.iter().any(|pattern| match tool {
        None => pattern == action,
        Some(tool) => pattern
            .strip_prefix(upstream)
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|pattern| glob::matches(pattern, tool)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, tool: &str, expected: bool) {
        let action = format!("files/{tool}");
        assert_eq!(
            covers(&[pattern.to_owned()], "files", Some(tool), &action),
            expected,
            "{pattern} on {action}"
        );
    }

    #[test]
    fn patterns_cover_tools() {
        check("files/read", "read", true);
        check("files/read", "read_all", false);
        check("files/*", "anything at all", true);
        check("files/read*", "read_all", true);
        check("files/*_file", "read_file", true);
        check("files/*_file", "read_files", false);
        check("files/a*b*c", "a-b-b-c", true);
        check("files/a*b*b", "ab", false);
        check("files/a*a", "a", false);
        check("file/*", "read", false);
        check("*/read", "read", false);
        check("files", "read", false);
        check("files:read", "read", false);
    }

    #[test]
    fn methods_are_named_in_full() {
        let patterns = ["files:resources/read".to_owned(), "files/*".to_owned()];
        assert!(covers(&patterns, "files", None, "files:resources/read"));
        assert!(!covers(&patterns, "files", None, "files:prompts/get"));
    }
}
