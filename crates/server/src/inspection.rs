//! What the node looks for in what passes: the rules that ship, without what is left out, and others.
//!
//! They are read at the start, and again when an administrator says so. Rules that cannot be used
//! change nothing: what was in force stays.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use inspect::{Inspector, RuleError, Rules};
use serde::Serialize;
use vocab::Digest;

use crate::config::{Config, ConfigError};
use crate::node::{Shared, VERSION};

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

/// The rules that are in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InForce {
    /// How many.
    pub rules: usize,
    /// A digest over the version of those that ship, the files, and what is left out.
    pub digest: Digest,
    /// The files that others came from.
    pub files: Vec<String>,
    /// Rules that are not looked for: those that the configuration leaves out, and those of a file
    /// that cannot be looked for here.
    pub left_out: Vec<String>,
}

/// Which are, at a moment.
#[derive(Debug)]
pub struct Current(Mutex<Arc<InForce>>);

impl Current {
    /// These are, from the start on.
    pub fn new(in_force: InForce) -> Self {
        Self(Mutex::new(Arc::new(in_force)))
    }

    /// The rules that are in force.
    pub fn get(&self) -> Arc<InForce> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, in_force: InForce) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(in_force);
    }
}

/// Why other rules are not in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The rules cannot.
    #[error(transparent)]
    Rules(#[from] InspectError),
    /// It ended early.
    #[error("reading the rules was cut off")]
    Interrupted,
}

/// Reads `[inspect]` of the configuration and its files again, and looks for those rules from now on.
pub async fn reload(shared: &Arc<Shared>) -> Result<InForce, ReloadError> {
    let path = shared.config.path.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let config = Config::read(&path)?;
        Ok::<_, ReloadError>(config.inspect.load()?)
    });
    let (inspector, in_force) = reading.await.map_err(|_| ReloadError::Interrupted)??;
    shared.plane.inspect_by(inspector);
    shared.inspection.set(in_force.clone());
    Ok(in_force)
}

impl InspectConfig {
    /// What looks for all of them, and what that is. Rules that a file has for names of files only
    /// are left out, and said in the log.
    pub fn load(&self) -> Result<(Inspector, InForce), InspectError> {
        let mut left_out = self.leave_out.clone();
        let mut read_from = vec![VERSION.to_owned(), self.leave_out.join("\n")];
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
                for it in &imported.left_out {
                    tracing::warn!(
                        "The rule {} of {shown} is not looked for: {}",
                        it.rule,
                        it.why
                    );
                }
                left_out.extend(imported.left_out.iter().map(|it| it.rule.clone()));
                imported.rules
            };
            rules.add(read).map_err(wrong)?;
            read_from.push(text);
        }
        for id in others {
            rules.leave_out(id).map_err(InspectError::LeaveOut)?;
        }
        let inspector = Inspector::new(rules).map_err(InspectError::LeaveOut)?;
        let lengths: Vec<_> = read_from.iter().map(|it| it.len().to_be_bytes()).collect();
        let framed = lengths.iter().zip(&read_from);
        let framed = framed.flat_map(|(length, text)| [length.as_slice(), text.as_bytes()]);
        let in_force = InForce {
            rules: inspector.rules().count(),
            digest: Digest::of_parts(&framed.collect::<Vec<_>>()),
            files: self
                .rules
                .iter()
                .map(|it| it.display().to_string())
                .collect(),
            left_out,
        };
        Ok((inspector, in_force))
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
        match config.load() {
            Ok((inspector, in_force)) => {
                assert_eq!(in_force.rules, inspector.rules().count());
                assert_eq!(in_force.files.len(), files.len());
                assert_eq!(in_force.left_out, leave_out);
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
    fn other_rules_have_another_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.toml");
        let digest = |text: &str, leave_out: &[&str]| {
            std::fs::write(&path, text).unwrap();
            let config = InspectConfig {
                rules: vec![path.clone()],
                leave_out: leave_out.iter().map(ToString::to_string).collect(),
            };
            config.load().unwrap().1.digest
        };
        let first = digest(OWN, &[]);
        assert_eq!(digest(OWN, &[]), first);
        assert_ne!(digest(&OWN.replace("{4}", "{5}"), &[]), first);
        assert_ne!(digest(OWN, &["email-address"]), first);
        let none = InspectConfig::default().load().unwrap().1;
        assert_ne!(none.digest, first);
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
        let error = missing.load().unwrap_err().to_string();
        assert!(error.contains("/nowhere/rules.toml"), "{error}");
    }
}
