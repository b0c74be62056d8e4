//! What is wrong with a policy or a case file, and where.

use std::fmt;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It must be mended before the set is activated.
    Error,
    /// It is probably not what was meant.
    Warning,
}

/// One finding: `files.cedar:3:5: error: …`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file's name, as it was given.
    pub file: String,
    /// Line, from one.
    pub line: usize,
    /// Column in characters, from one.
    pub column: usize,
    /// How bad it is.
    pub severity: Severity,
    /// The policy, if it has got so far as to have an id.
    pub policy: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn error(at: &Place<'_>, message: impl Into<String>) -> Self {
        Self {
            file: at.file.to_owned(),
            line: at.line,
            column: at.column,
            severity: Severity::Error,
            policy: None,
            message: message.into(),
            help: None,
        }
    }

    pub(crate) fn warning(at: &Place<'_>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(at, message)
        }
    }

    pub(crate) fn of_policy(mut self, id: &str) -> Self {
        self.policy = Some(id.to_owned());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn suggest(self, nearest: Option<&str>) -> Self {
        match nearest {
            Some(name) => self.help(format!("did you mean `{name}`?")),
            None => self,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(
            f,
            "{}:{}:{}: {word}: {}",
            self.file, self.line, self.column, self.message
        )?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// A place in a file.
#[derive(Debug, Clone)]
pub(crate) struct Place<'a> {
    pub(crate) file: &'a str,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A file's text and where its lines begin.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
    lines: Vec<usize>,
}

impl Source {
    pub(crate) fn new(name: String, text: String) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        Self { name, text, lines }
    }

    /// The place of byte `offset`.
    pub(crate) fn place(&self, offset: usize) -> Place<'_> {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|index| self.lines.get(index));
        let before = start.and_then(|start| self.text.get(*start..offset));
        Place {
            file: &self.name,
            line,
            column: before.unwrap_or_default().chars().count() + 1,
        }
    }
}

impl Place<'_> {
    /// Nowhere in particular.
    pub(crate) const NOWHERE: Self = Place {
        file: "",
        line: 0,
        column: 0,
    };
}
