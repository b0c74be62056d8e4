//! What inspection saw: where, by which rule, how surely. Never the value.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

pub use vocab::finding::{Class, Confidence};

/// Of one thing that is several, the class that counts has the lowest.
pub(crate) fn rank(class: Class) -> usize {
    let rank = Class::ALL.iter().position(|it| *it == class);
    rank.unwrap_or(Class::ALL.len())
}

/// What stood between the document and what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// Base64, in either alphabet.
    Base64 = 1,
    /// Hexadecimal digits.
    Hex = 2,
    /// Percent signs, backslashes or character references.
    Escapes = 4,
    /// Invisible or look-alike characters among the others.
    Disguise = 8,
    /// Invisible characters that are text themselves.
    Hidden = 16,
    /// Two strings or two events, each with a part.
    Split = 32,
}

impl Encoding {
    const ALL: [Self; 6] = [
        Self::Base64,
        Self::Hex,
        Self::Escapes,
        Self::Disguise,
        Self::Hidden,
        Self::Split,
    ];
}

/// A set of [`Encoding`]s.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Encodings(u8);

impl Encodings {
    pub(crate) const fn with(self, encoding: Encoding) -> Self {
        Self(self.0 | encoding as u8)
    }

    pub(crate) const fn has(self, encoding: Encoding) -> bool {
        self.0 & encoding as u8 != 0
    }

    pub(crate) const fn count(self) -> u32 {
        self.0.count_ones()
    }
}

/// How a mask of it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `[masked:RULE]`.
    Token,
    /// Letters and digits hidden but for the last so many; separators stay.
    Tail(u8),
    /// The first so many and the last so many stay.
    Ends(u8, u8),
    /// Letters and digits hidden, `@`, dots and the last label stay.
    Email,
    /// Taken out.
    Nothing,
}

/// One thing that inspection saw. It holds where, and never what.
#[derive(Clone, PartialEq, Eq)]
pub struct Finding {
    pub(crate) rule: Arc<str>,
    pub(crate) class: Class,
    pub(crate) confidence: Confidence,
    pub(crate) span: Range<usize>,
    pub(crate) length: usize,
    pub(crate) via: Encodings,
    pub(crate) begun_before: bool,
    pub(crate) shape: Shape,
}

impl Finding {
    /// The rule that it was found by.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// What kind of thing it is.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// How surely.
    pub const fn confidence(&self) -> Confidence {
        self.confidence
    }

    /// Its bytes in the document as it came. Where it stands behind an encoding, all that is encoded.
    pub const fn span(&self) -> &Range<usize> {
        &self.span
    }

    /// How long it is, in bytes, with all encodings undone.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// What stood between the document and it.
    pub fn via(&self) -> impl Iterator<Item = Encoding> {
        let via = self.via;
        let all = Encoding::ALL.into_iter();
        all.filter(move |encoding| via.has(*encoding))
    }

    /// Whether its beginning stood in an earlier chunk or event, which has gone.
    pub const fn begun_before(&self) -> bool {
        self.begun_before
    }
}

impl fmt::Debug for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rule, span) = (&self.rule, &self.span);
        write!(f, "Finding({rule} at {span:?}, {:?}", self.confidence)?;
        for encoding in self.via() {
            write!(f, ", {encoding:?}")?;
        }
        f.write_str(if self.begun_before {
            ", begun before)"
        } else {
            ")"
        })
    }
}

/// What one inspection saw, in the order of the document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings(pub(crate) Vec<Finding>);

impl Findings {
    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.0.iter()
    }
}

impl Extend<Finding> for Findings {
    fn extend<I: IntoIterator<Item = Finding>>(&mut self, findings: I) {
        self.0.extend(findings);
    }
}

impl<'a> IntoIterator for &'a Findings {
    type Item = &'a Finding;
    type IntoIter = std::slice::Iter<'a, Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Findings {
    type Item = Finding;
    type IntoIter = std::vec::IntoIter<Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Why something was not looked into. Each is a finding of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uninspectable {
    /// Bytes that are not UTF-8 where there should be text.
    Utf8,
    /// No JSON where there should be JSON, or JSON nested too deep.
    Json,
    /// Data that is no text: an image, sound, or anything else that is long and binary.
    Blob,
    /// Something compressed.
    Compressed,
    /// A content type that is not understood.
    ContentType,
    /// Longer than is inspected.
    Size,
    /// Encoded more often than is decoded.
    Depth,
    /// More was encoded than is decoded, or more found than is told.
    Budget,
}

impl Uninspectable {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::Utf8,
        Self::Json,
        Self::Blob,
        Self::Compressed,
        Self::ContentType,
        Self::Size,
        Self::Depth,
        Self::Budget,
    ];

    /// The rule of the finding.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Utf8 => "uninspectable-utf8",
            Self::Json => "uninspectable-json",
            Self::Blob => "uninspectable-blob",
            Self::Compressed => "uninspectable-compressed",
            Self::ContentType => "uninspectable-content-type",
            Self::Size => "uninspectable-size",
            Self::Depth => "uninspectable-depth",
            Self::Budget => "uninspectable-budget",
        }
    }

    /// The finding, for a caller who has what cannot be given to an inspector at all: a body of a
    /// content type that is not understood, or one that was not read.
    pub fn finding(self, span: Range<usize>) -> Finding {
        Finding {
            rule: Arc::from(self.rule()),
            class: Class::Uninspectable,
            confidence: Confidence::High,
            length: span.len(),
            span,
            via: Encodings::default(),
            begun_before: false,
            shape: match self {
                // Of what is encoded, nothing is what decodes.
                Self::Blob | Self::Compressed => Shape::Nothing,
                _ => Shape::Token,
            },
        }
    }
}
