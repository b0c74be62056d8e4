//! What the node looks for in what passes: the rules that ship, without what is left out, and others.

use std::path::PathBuf;

use inspect::{Inspector, RuleError, Rules};

/// `[inspect]`.
#[derive(Debug, Clone, Default)]
pub struct InspectConfig {
    /// Files of rules, in our shape or that of gitleaks.
    pub rules: Vec<PathBuf>,
    /// Rules that are not looked for, ours or others.
    pub leave_out: Vec<String>,
}

/// Why there is no inspector.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// A file that cannot be read.
    #[error("inspect.rules: {path} cannot be read")]
    Unread {
        /// The file.
        path: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A file that is not one of rules.
    #[error("inspect.rules: {path}")]
    Rules {
        /// The file.
        path: String,
        /// Why.
        #[source]
        cause: RuleError,
    },
    /// What is left out, or what there is together.
    #[error("inspect.leave_out")]
    LeaveOut(#[source] RuleError),
}

impl InspectConfig {
    /// What looks for all of them. Rules that a file has for names of files only are left out, and
    /// said in the log.
    pub fn inspector(&self) -> Result<Inspector, InspectError> {
        let mut rules = Rules::built_in().map_err(InspectError::LeaveOut)?;
        let is_ours = |id: &&String| rules.iter().any(|rule| rule.id() == id.as_str());
        let (ours, others): (Vec<_>, Vec<_>) = self.leave_out.iter().partition(is_ours);
        // First, so that another file may have a rule of that name.
        for id in ours {
            rules.leave_out(id).map_err(InspectError::LeaveOut)?;
        }
        for path in &self.rules {
            let shown = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|cause| InspectError::Unread {
                path: shown.clone(),
                cause,
            })?;
            let wrong = |cause| InspectError::Rules {
                path: shown.clone(),
                cause,
            };
            // `[[rule]]` is ours, `[[rules]]` theirs.
            let is_own = text.lines().any(|line| line.trim() == "[[rule]]");
            let read = if is_own {
                Rules::parse(&text).map_err(wrong)?
            } else {
                let imported = Rules::import(&text).map_err(wrong)?;
                for left_out in &imported.left_out {
                    tracing::warn!(
                        "The rule {} of {shown} is not looked for: {}",
                        left_out.rule,
                        left_out.why
                    );
                }
                imported.rules
            };
            rules.add(read).map_err(wrong)?;
        }
        for id in others {
            rules.leave_out(id).map_err(InspectError::LeaveOut)?;
        }
        Inspector::new(rules).map_err(InspectError::LeaveOut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[&str], leave_out: &[&str], found: &[&str], wrong: Option<&str>) {
        let folder = tempfile::tempdir().unwrap();
        let paths = files.iter().enumerate().map(|(nth, text)| {
            let path = folder.path().join(format!("{nth}.toml"));
            std::fs::write(&path, text).unwrap();
            path
        });
        let config = InspectConfig {
            rules: paths.collect(),
            leave_out: leave_out.iter().map(ToString::to_string).collect(),
        };
        match config.inspector() {
            Ok(inspector) => {
                assert_eq!(wrong, None);
                let findings = inspector.inspect_text(b"ticket ACME-1234 of maya@acme.example");
                let rules: Vec<_> = findings.iter().map(inspect::Finding::rule).collect();
                assert_eq!(rules, found);
            }
            Err(error) => {
                let mut text = error.to_string();
                let mut cause = std::error::Error::source(&error);
                while let Some(error) = cause {
                    text = format!("{text}: {error}");
                    cause = error.source();
                }
                let wrong = wrong.unwrap_or("nothing");
                assert!(text.contains(wrong), "{text} lacks {wrong}");
            }
        }
    }

    const OWN: &str = "[[rule]]\nid = \"ticket\"\nclass = \"personal\"\nconfidence = \"high\"\n\
                       why = \"Names a case.\"\nkeywords = [\"acme-\"]\nregex = '''ACME-[0-9]{4}'''\n\
                       positive = []\nnegative = []\n";
    const THEIRS: &str = "title = \"x\"\n[[rules]]\nid = \"ticket-key\"\nregex = '''ACME-[0-9]{4}'''\n\
                          keywords = [\"acme-\"]\n";

    #[test]
    fn rules_are_those_that_ship_and_those_of_the_files() {
        check(&[], &[], &["email-address"], None);
        check(&[], &["email-address"], &[], None);
        check(&[OWN], &[], &["ticket", "email-address"], None);
        check(&[THEIRS], &["email-address"], &["ticket-key"], None);
        check(&[OWN], &["ticket"], &["email-address"], None);
    }

    #[test]
    fn what_is_wrong_with_rules_is_said() {
        check(&[], &["emails"], &[], Some("inspect.leave_out"));
        check(&["nonsense"], &[], &[], Some("0.toml"));
        check(&[OWN, OWN], &[], &[], Some("1.toml"));
        let missing = InspectConfig {
            rules: vec!["/nowhere/rules.toml".into()],
            leave_out: Vec::new(),
        };
        let error = missing.inspector().unwrap_err().to_string();
        assert!(error.contains("/nowhere/rules.toml"), "{error}");
    }
}
