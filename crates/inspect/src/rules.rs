//! What is looked for: rules as data, ours and imported ones.
//!
//! A rule is a pattern (a regular expression behind keywords, with entropy and words that rule it out)
//! or a detector of this crate, named. The files in `rules/` are ours; each rule says why it is there
//! and carries cases that a test runs. [`Rules::import`] takes files in the shape that gitleaks uses.

use std::fmt;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;
use vocab::limits;

use crate::finding::{Class, Confidence, Shape};

mod import;

pub use import::{Imported, LeftOut};

/// The files that ship.
const BUILT_IN: &[(&str, &str)] = &[
    ("secrets.toml", include_str!("../rules/secrets.toml")),
    ("personal.toml", include_str!("../rules/personal.toml")),
    ("hidden.toml", include_str!("../rules/hidden.toml")),
    ("injection.toml", include_str!("../rules/injection.toml")),
];

/// What one regular expression may take in memory, compiled.
const PATTERN_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why rules were not taken. Those in force stay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The file is too long.
    #[error("the rules are {bytes} bytes long, more than {max}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The most allowed.
        max: usize,
    },
    /// Too many rules.
    #[error("{count} rules, more than {max}")]
    TooMany {
        /// How many.
        count: usize,
        /// The most allowed.
        max: usize,
    },
    /// Not TOML, or not of the shape of rules.
    #[error("the rules cannot be read: {why}")]
    Unreadable {
        /// What the reader said.
        why: String,
    },
    /// An id that cannot stand in a mask.
    #[error(
        "rule `{rule}`: an id has 1 to 64 of `a-z`, `0-9`, `-`, `_`, and begins with none of the last two"
    )]
    Id {
        /// The id as given.
        rule: String,
    },
    /// Two rules of one id.
    #[error("rule `{rule}` is there twice; rename or leave out one of them")]
    Twice {
        /// The id.
        rule: String,
    },
    /// A rule that is not there was to be left out.
    #[error("there is no rule `{rule}` to leave out")]
    Unknown {
        /// The id.
        rule: String,
    },
    /// A regular expression that does not compile.
    #[error("rule `{rule}`: the regular expression `{pattern}` is refused: {why}")]
    Pattern {
        /// The id.
        rule: String,
        /// The expression.
        pattern: String,
        /// What the compiler said.
        why: String,
    },
    /// The group that holds the secret is not in the expression.
    #[error("rule `{rule}`: the secret is in group {group}, but the expression has {groups}")]
    Group {
        /// The id.
        rule: String,
        /// The group.
        group: usize,
        /// How many groups there are.
        groups: usize,
    },
    /// Neither a regular expression nor a detector, or both.
    #[error("rule `{rule}` needs either `regex` or `detector`")]
    Looks {
        /// The id.
        rule: String,
    },
    /// A number that is no entropy.
    #[error("rule `{rule}`: an entropy is from 0 to 8 bits a byte")]
    Entropy {
        /// The id.
        rule: String,
    },
    /// A keyword that every text has.
    #[error("rule `{rule}`: an empty keyword")]
    Keyword {
        /// The id.
        rule: String,
    },
    /// Part of the other shape that would change what its rules mean, and that is not understood.
    #[error("`{what}` is not understood; take it out")]
    Unsupported {
        /// What it is.
        what: String,
    },
    /// The keywords of all rules do not fit one automaton.
    #[error("the keywords cannot be searched for: {why}")]
    Keywords {
        /// What the builder said.
        why: String,
    },
}

/// What a detector of this crate looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Detector {
    Card,
    Iban,
    Dni,
    Nir,
    CodiceFiscale,
    Bsn,
    Cpf,
    Ssn,
    Nhs,
    Pesel,
    Email,
    Phone,
    Tags,
    VariationSelectors,
    Bidi,
    ZeroWidth,
    Terminal,
    EncodedText,
}

impl Detector {
    pub(crate) const COUNT: usize = 18;

    /// Its place in a table of all.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    const fn shape(self) -> Shape {
        match self {
            Self::Card => Shape::Tail(4),
            Self::Iban => Shape::Ends(2, 4),
            Self::Dni
            | Self::Nir
            | Self::CodiceFiscale
            | Self::Bsn
            | Self::Cpf
            | Self::Ssn
            | Self::Nhs
            | Self::Pesel => Shape::Tail(0),
            Self::Phone => Shape::Tail(2),
            Self::Email => Shape::Email,
            Self::Tags
            | Self::VariationSelectors
            | Self::Bidi
            | Self::ZeroWidth
            | Self::Terminal => Shape::Nothing,
            Self::EncodedText => Shape::Token,
        }
    }
}

/// Which part of a match is the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// The first group that matched, else the match.
    First,
    /// That group.
    At(usize),
}

/// What an allow list of an imported rule is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    Secret,
    Match,
    Line,
}

/// What rules a match out.
#[derive(Debug)]
pub(crate) struct Allow {
    /// All of what it names has to hold, and not just one.
    pub(crate) all: bool,
    /// It also names files or commits, which what passes here has not.
    pub(crate) elsewhere: bool,
    pub(crate) against: Against,
    pub(crate) patterns: Vec<Regex>,
    pub(crate) stop_words: Option<AhoCorasick>,
}

#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) regex: Regex,
    pub(crate) keywords: Vec<String>,
    pub(crate) entropy: Option<f64>,
    pub(crate) group: Group,
    pub(crate) allow: Vec<Arc<Allow>>,
}

#[derive(Debug)]
pub(crate) enum Looks {
    Pattern(Box<Pattern>),
    Detector {
        detector: Detector,
        /// Words nearby that make it surer.
        context: Vec<String>,
        /// Without such a word, only what is written in a form of its own counts.
        context_needed: bool,
    },
}

/// One thing to look for.
pub struct Rule {
    pub(crate) id: Arc<str>,
    pub(crate) class: Class,
    pub(crate) confidence: Confidence,
    pub(crate) looks: Looks,
    why: String,
    #[cfg(test)]
    pub(crate) positive: Vec<String>,
    #[cfg(test)]
    pub(crate) negative: Vec<String>,
}

impl Rule {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it finds.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// How surely.
    pub const fn confidence(&self) -> Confidence {
        self.confidence
    }

    /// Why it is there.
    pub fn why(&self) -> &str {
        &self.why
    }

    pub(crate) const fn shape(&self) -> Shape {
        match &self.looks {
            Looks::Pattern(_) => Shape::Token,
            Looks::Detector { detector, .. } => detector.shape(),
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({}, {})", self.id, self.class)
    }
}

/// Rules that go together: no id twice, and every expression compiled.
#[derive(Debug, Default)]
pub struct Rules(pub(crate) Vec<Rule>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    #[serde(default)]
    rule: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    id: String,
    class: Class,
    confidence: Confidence,
    why: String,
    regex: Option<String>,
    detector: Option<Detector>,
    #[serde(default)]
    keywords: Vec<String>,
    entropy: Option<f64>,
    group: Option<usize>,
    unless: Option<String>,
    #[serde(default)]
    stop_words: Vec<String>,
    #[serde(default)]
    context: Vec<String>,
    #[serde(default)]
    context_needed: bool,
    #[serde(default)]
    #[cfg_attr(not(test), expect(dead_code, reason = "the cases are for the test"))]
    positive: Vec<String>,
    #[serde(default)]
    #[cfg_attr(not(test), expect(dead_code, reason = "the cases are for the test"))]
    negative: Vec<String>,
}

impl Rules {
    /// Those that ship.
    pub fn built_in() -> Result<Self, RuleError> {
        let mut rules = Self::default();
        for (name, text) in BUILT_IN {
            let read = Self::parse(text).map_err(|error| match error {
                RuleError::Unreadable { why } => RuleError::Unreadable {
                    why: format!("{name}: {why}"),
                },
                other => other,
            })?;
            rules.add(read)?;
        }
        Ok(rules)
    }

    /// Reads a file of our own shape.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let FileText { rule } = read(text)?;
        let mut rules = Self::default();
        for text in rule {
            rules.push(own(text)?)?;
        }
        Ok(rules)
    }

    /// Reads a file in the shape of gitleaks: what it finds are secrets, with medium confidence. What
    /// only names files is left out, and said.
    pub fn import(text: &str) -> Result<Imported, RuleError> {
        import::import(text)
    }

    /// Takes in others. No id may be there twice.
    pub fn add(&mut self, others: Self) -> Result<(), RuleError> {
        for rule in others.0 {
            self.push(rule)?;
        }
        Ok(())
    }

    /// Leaves out one rule.
    pub fn leave_out(&mut self, id: &str) -> Result<(), RuleError> {
        let before = self.0.len();
        self.0.retain(|rule| &*rule.id != id);
        if self.0.len() == before {
            return Err(RuleError::Unknown {
                rule: id.to_owned(),
            });
        }
        Ok(())
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Rule> {
        self.0.iter()
    }

    fn push(&mut self, rule: Rule) -> Result<(), RuleError> {
        let taken = crate::finding::Uninspectable::ALL
            .iter()
            .any(|reason| reason.rule() == &*rule.id);
        if taken || self.0.iter().any(|other| other.id == rule.id) {
            return Err(RuleError::Twice {
                rule: rule.id.to_string(),
            });
        }
        if self.0.len() >= limits::INSPECT_RULES_MAX {
            return Err(RuleError::TooMany {
                count: self.0.len() + 1,
                max: limits::INSPECT_RULES_MAX,
            });
        }
        self.0.push(rule);
        Ok(())
    }
}

impl<'a> IntoIterator for &'a Rules {
    type Item = &'a Rule;
    type IntoIter = std::slice::Iter<'a, Rule>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, RuleError> {
    if text.len() > limits::INSPECT_RULES_BYTES_MAX {
        return Err(RuleError::TooLong {
            bytes: text.len(),
            max: limits::INSPECT_RULES_BYTES_MAX,
        });
    }
    toml::from_str(text).map_err(|error| RuleError::Unreadable {
        why: error.to_string(),
    })
}

fn own(text: RuleText) -> Result<Rule, RuleError> {
    let id = id(&text.id)?;
    let looks = match (text.regex, text.detector) {
        (Some(pattern), None) => Looks::Pattern(Box::new(Pattern {
            regex: compile(&id, &pattern)?,
            keywords: keywords(&id, text.keywords)?,
            entropy: entropy(&id, text.entropy)?,
            group: text.group.map_or(Group::First, Group::At),
            allow: vec![Arc::new(Allow {
                all: false,
                elsewhere: false,
                against: Against::Secret,
                patterns: match text.unless {
                    Some(pattern) => vec![compile(&id, &pattern)?],
                    None => Vec::new(),
                },
                stop_words: stop_words(&id, &text.stop_words)?,
            })],
        })),
        (None, Some(detector)) => Looks::Detector {
            detector,
            context: text.context,
            context_needed: text.context_needed,
        },
        _ => {
            return Err(RuleError::Looks {
                rule: id.to_string(),
            });
        }
    };
    group_exists(&id, &looks)?;
    Ok(Rule {
        id,
        class: text.class,
        confidence: text.confidence,
        looks,
        why: text.why,
        #[cfg(test)]
        positive: text.positive,
        #[cfg(test)]
        negative: text.negative,
    })
}

fn id(id: &str) -> Result<Arc<str>, RuleError> {
    let fits = id.len() <= 64
        && id.starts_with(|first: char| first.is_ascii_alphanumeric())
        && id
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
    if !fits {
        return Err(RuleError::Id {
            rule: id.chars().take(64).collect(),
        });
    }
    Ok(Arc::from(id))
}

/// Compiles for bytes: classes are those of ASCII, which is many times faster and the same for what
/// secrets are made of. An expression that asks for more gets it.
fn compile(rule: &str, pattern: &str) -> Result<Regex, RuleError> {
    let build = |unicode: bool| {
        RegexBuilder::new(pattern)
            .unicode(unicode)
            .size_limit(PATTERN_BYTES_MAX)
            .build()
    };
    build(false)
        .or_else(|_| build(true))
        .map_err(|error| RuleError::Pattern {
            rule: rule.to_owned(),
            pattern: pattern.to_owned(),
            why: error.to_string(),
        })
}

fn keywords(rule: &str, mut keywords: Vec<String>) -> Result<Vec<String>, RuleError> {
    if keywords.iter().any(String::is_empty) {
        return Err(RuleError::Keyword {
            rule: rule.to_owned(),
        });
    }
    for keyword in &mut keywords {
        keyword.make_ascii_lowercase();
    }
    Ok(keywords)
}

fn entropy(rule: &str, entropy: Option<f64>) -> Result<Option<f64>, RuleError> {
    if entropy.is_some_and(|bits| !(0.0..=8.0).contains(&bits)) {
        return Err(RuleError::Entropy {
            rule: rule.to_owned(),
        });
    }
    Ok(entropy)
}

fn stop_words(rule: &str, words: &[String]) -> Result<Option<AhoCorasick>, RuleError> {
    if words.is_empty() {
        return Ok(None);
    }
    if words.iter().any(String::is_empty) {
        return Err(RuleError::Keyword {
            rule: rule.to_owned(),
        });
    }
    let searched = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build(words);
    searched.map(Some).map_err(|error| RuleError::Keywords {
        why: error.to_string(),
    })
}

fn group_exists(rule: &str, looks: &Looks) -> Result<(), RuleError> {
    if let Looks::Pattern(pattern) = looks
        && let Group::At(group) = pattern.group
        && group >= pattern.regex.captures_len()
    {
        return Err(RuleError::Group {
            rule: rule.to_owned(),
            group,
            groups: pattern.regex.captures_len() - 1,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
