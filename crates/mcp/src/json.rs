//! One strict pass over a JSON document: RFC 8259 grammar, nothing repaired, nothing copied.
//!
//! What two readers could understand differently is refused: duplicate member names (compared after
//! unescaping, at any depth), lone surrogates, invalid UTF-8, data after the value. What is left is
//! a flat list of nodes with byte spans, so that a member is found and replaced where it stands.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use bytes::Bytes;
use serde::Serialize;
use vocab::limits;

/// Members an object may have before its names are compared through a hash set.
const FEW_MEMBERS: usize = 16;

/// Why bytes are not a JSON document that we take, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault} (byte {at})")]
pub struct JsonError {
    /// Offset of the byte.
    pub at: usize,
    /// What is wrong there.
    pub fault: JsonFault,
}

/// What is wrong with a JSON document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// Not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
    /// The document stops in the middle.
    #[error("the document ends too early")]
    End,
    /// Another byte than the grammar allows.
    #[error("expected {expected}")]
    Unexpected {
        /// What the grammar allows here.
        expected: &'static str,
    },
    /// Something follows the value.
    #[error("data after the document")]
    Trailing,
    /// A raw control character in a string.
    #[error("a control character in a string")]
    Control,
    /// An unknown escape.
    #[error("an invalid escape")]
    Escape,
    /// Half of a surrogate pair.
    #[error("a lone surrogate")]
    Surrogate,
    /// Not a number.
    #[error("an invalid number")]
    Number,
    /// The same name twice in one object.
    #[error("a duplicate member name")]
    Duplicate,
    /// Nested too deep.
    #[error("nested deeper than {max}")]
    Depth {
        /// The most allowed.
        max: usize,
    },
    /// Too many values.
    #[error("more than {max} values")]
    Nodes {
        /// The most allowed.
        max: usize,
    },
    /// Longer than an offset can say.
    #[error("too long")]
    Long,
}

/// What a document may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Deepest nesting of arrays and objects.
    pub depth: usize,
    /// Most values, the outermost included.
    pub nodes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: limits::JSON_DEPTH_MAX,
            nodes: limits::JSON_NODES_MAX,
        }
    }
}

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    kind: Kind,
    /// The name of this member holds an escape.
    name_escaped: bool,
    /// The name with its quotes; empty for elements and the root.
    name: (u32, u32),
    value: (u32, u32),
    /// Index of the first node after this one's descendants.
    next: u32,
}

/// A position in a [`Json`], to find a value again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeId(u32);

/// A checked document: its bytes and where its values are.
#[derive(Clone)]
pub struct Json {
    bytes: Bytes,
    nodes: Vec<Node>,
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads do not belong in traces.
        write!(f, "Json({} bytes)", self.bytes.len())
    }
}

impl Json {
    /// Reads a whole document under the usual limits.
    pub fn parse(bytes: Bytes) -> Result<Self, JsonError> {
        Self::parse_within(bytes, Limits::default())
    }

    /// Reads a whole document.
    pub fn parse_within(bytes: Bytes, limits: Limits) -> Result<Self, JsonError> {
        let nodes = Scanner::scan(&bytes, limits)?;
        Ok(Self { bytes, nodes })
    }

    /// The bytes, as they came.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The outermost value.
    pub fn root(&self) -> Value<'_> {
        self.value(NodeId(0))
    }

    /// The value at a position taken from this document.
    pub fn value(&self, id: NodeId) -> Value<'_> {
        Value {
            bytes: &self.bytes,
            nodes: &self.nodes,
            at: id.0,
        }
    }
}

/// One value of a document.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    bytes: &'a [u8],
    nodes: &'a [Node],
    at: u32,
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({:?}, {:?})", self.kind(), self.span())
    }
}

impl<'a> Value<'a> {
    #[expect(
        clippy::expect_used,
        reason = "a Value is only made for an index below the document's node count"
    )]
    fn node(self) -> &'a Node {
        self.nodes
            .get(self.at as usize)
            .expect("a value's index is in its document")
    }

    /// Its position.
    pub const fn id(self) -> NodeId {
        NodeId(self.at)
    }

    /// Its type.
    pub fn kind(self) -> Kind {
        self.node().kind
    }

    /// Its bytes' place in the document.
    pub fn span(self) -> Range<usize> {
        range(self.node().value)
    }

    /// Its text, exactly as it stands in the document.
    pub fn text(self) -> &'a str {
        text_at(self.bytes, self.span())
    }

    /// Its text, as something that can be put into another document.
    pub fn raw(self) -> Raw<'a> {
        Raw(Cow::Borrowed(self.text()))
    }

    /// The string it is, unescaped.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        (self.kind() == Kind::String).then(|| unescape(self.text()))
    }

    /// The boolean it is.
    pub fn as_bool(self) -> Option<bool> {
        (self.kind() == Kind::Bool).then(|| self.text() == "true")
    }

    /// The integer it is, when it is written without fraction or exponent and fits.
    pub fn as_i64(self) -> Option<i64> {
        if self.kind() != Kind::Number {
            return None;
        }
        self.text().parse().ok()
    }

    /// Whether it is a number written without fraction or exponent, of any size.
    pub fn is_integer(self) -> bool {
        self.kind() == Kind::Number && !self.text().contains(['.', 'e', 'E'])
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.kind() == Kind::Object
    }

    /// The members of the object it is; none if it is something else.
    pub fn members(self) -> impl Iterator<Item = Member<'a>> {
        let children = if self.kind() == Kind::Object {
            self.children()
        } else {
            Children::empty(self)
        };
        children.map(|value| Member { value })
    }

    /// The elements of the array it is; none if it is something else.
    pub fn elements(self) -> impl Iterator<Item = Self> {
        if self.kind() == Kind::Array {
            self.children()
        } else {
            Children::empty(self)
        }
    }

    fn children(self) -> Children<'a> {
        Children {
            of: self,
            at: self.at + 1,
            end: self.node().next,
        }
    }

    /// The member of that name.
    pub fn get(self, name: &str) -> Option<Self> {
        self.members()
            .find(|member| member.name() == name)
            .map(|member| member.value)
    }

    /// The member reached by following names.
    pub fn path(self, names: &[&str]) -> Option<Self> {
        names.iter().try_fold(self, |value, name| value.get(name))
    }
}

/// One member of an object.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Its value.
    pub value: Value<'a>,
}

impl<'a> Member<'a> {
    /// Its name, unescaped.
    pub fn name(self) -> Cow<'a, str> {
        let node = self.value.node();
        let quoted = text_at(self.value.bytes, range(node.name));
        if node.name_escaped {
            unescape(quoted)
        } else {
            Cow::Borrowed(inner(quoted))
        }
    }

    /// From the name's opening quote to the end of the value.
    pub fn span(self) -> Range<usize> {
        range(self.value.node().name).start..self.value.span().end
    }
}

struct Children<'a> {
    of: Value<'a>,
    at: u32,
    end: u32,
}

impl<'a> Children<'a> {
    const fn empty(of: Value<'a>) -> Self {
        Self { of, at: 0, end: 0 }
    }
}

impl<'a> Iterator for Children<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        if self.at >= self.end {
            return None;
        }
        let value = Value {
            at: self.at,
            ..self.of
        };
        self.at = value.node().next;
        Some(value)
    }
}

/// JSON text that is known to be one value, so that putting it into a document keeps it a document.
#[derive(Clone, PartialEq, Eq)]
pub struct Raw<'a>(Cow<'a, str>);

impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({} bytes)", self.0.len())
    }
}

impl Raw<'static> {
    /// `null`
    pub const NULL: Self = Self(Cow::Borrowed("null"));

    /// A string.
    pub fn string(text: &str) -> Self {
        Self::from(serde_json::Value::from(text))
    }

    /// An integer.
    pub fn integer(number: i64) -> Self {
        Self(Cow::Owned(number.to_string()))
    }

    /// Anything that serialises.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(|text| Self(Cow::Owned(text)))
    }
}

impl Raw<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, owning its text.
    pub fn into_owned(self) -> Raw<'static> {
        Raw(Cow::Owned(self.0.into_owned()))
    }

    /// The same, borrowed.
    pub fn borrowed(&self) -> Raw<'_> {
        Raw(Cow::Borrowed(&self.0))
    }
}

impl From<serde_json::Value> for Raw<'static> {
    fn from(value: serde_json::Value) -> Self {
        Self(Cow::Owned(value.to_string()))
    }
}

impl FromStr for Raw<'static> {
    type Err = JsonError;

    fn from_str(text: &str) -> Result<Self, JsonError> {
        Scanner::scan(text.as_bytes(), Limits::default())?;
        Ok(Self(Cow::Owned(text.to_owned())))
    }
}

fn range(span: (u32, u32)) -> Range<usize> {
    span.0 as usize..span.1 as usize
}

#[expect(
    clippy::expect_used,
    reason = "the whole document was checked to be UTF-8, and spans begin and end at ASCII bytes inside it"
)]
fn text_at(bytes: &[u8], span: Range<usize>) -> &str {
    let slice = bytes.get(span).expect("a span lies in its document");
    std::str::from_utf8(slice).expect("a document is UTF-8")
}

fn inner(quoted: &str) -> &str {
    quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(quoted)
}

/// The characters of a quoted string that the scanner accepted.
fn unescape(quoted: &str) -> Cow<'_, str> {
    let text = inner(quoted);
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    let unit = |chars: &mut std::str::Chars<'_>| {
        (0..4).fold(0_u32, |unit, _| {
            unit << 4
                | chars
                    .next()
                    .and_then(|c| c.to_digit(16))
                    .unwrap_or_default()
        })
    };
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => {
                let high = unit(&mut chars);
                let code = if (0xd800..0xdc00).contains(&high) {
                    // INVARIANT: the scanner saw `\u` and a low surrogate behind a high one.
                    chars.next();
                    chars.next();
                    0x10000 + ((high - 0xd800) << 10) + (unit(&mut chars) & 0x3ff)
                } else {
                    high
                };
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    Cow::Owned(out)
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    limits: Limits,
    nodes: Vec<Node>,
}

/// A string's span with its quotes, and whether it holds an escape.
struct Quoted {
    span: (u32, u32),
    escaped: bool,
}

impl<'a> Scanner<'a> {
    fn scan(bytes: &'a [u8], limits: Limits) -> Result<Vec<Node>, JsonError> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(JsonError {
                at: 0,
                fault: JsonFault::Long,
            });
        }
        if let Err(error) = std::str::from_utf8(bytes) {
            return Err(JsonError {
                at: error.valid_up_to(),
                fault: JsonFault::Utf8,
            });
        }
        let mut scanner = Self {
            bytes,
            at: 0,
            depth: 0,
            limits,
            nodes: Vec::new(),
        };
        scanner.space();
        scanner.value(&Quoted {
            span: (0, 0),
            escaped: false,
        })?;
        scanner.space();
        if scanner.at < bytes.len() {
            return scanner.fail(JsonFault::Trailing);
        }
        Ok(scanner.nodes)
    }

    const fn fail<T>(&self, fault: JsonFault) -> Result<T, JsonError> {
        Err(JsonError { at: self.at, fault })
    }

    /// The error for a byte that is not `expected`, or for there being none.
    fn unexpected<T>(&self, expected: &'static str) -> Result<T, JsonError> {
        self.fail(match self.peek() {
            Some(_) => JsonFault::Unexpected { expected },
            None => JsonFault::End,
        })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "`scan` refused documents longer than a u32 can say"
    )]
    const fn offset(&self) -> u32 {
        self.at as u32
    }

    fn value(&mut self, name: &Quoted) -> Result<(), JsonError> {
        if self.nodes.len() >= self.limits.nodes {
            return self.fail(JsonFault::Nodes {
                max: self.limits.nodes,
            });
        }
        let kind = match self.peek() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => return self.unexpected("a value"),
        };
        let (start, index) = (self.offset(), self.nodes.len());
        self.nodes.push(Node {
            kind,
            name_escaped: name.escaped,
            name: name.span,
            value: (start, start),
            next: 0,
        });
        match kind {
            Kind::Object => self.nested(Self::object)?,
            Kind::Array => self.nested(Self::array)?,
            Kind::String => {
                self.string()?;
            }
            Kind::Number => self.number()?,
            Kind::Bool if self.peek() == Some(b't') => self.literal(b"true")?,
            Kind::Bool => self.literal(b"false")?,
            Kind::Null => self.literal(b"null")?,
        }
        let (end, next) = (self.offset(), self.next_index());
        if let Some(node) = self.nodes.get_mut(index) {
            node.value.1 = end;
            node.next = next;
        }
        Ok(())
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a document has at most as many values as bytes, and those fit"
    )]
    const fn next_index(&self) -> u32 {
        self.nodes.len() as u32
    }

    fn nested(&mut self, inside: fn(&mut Self) -> Result<(), JsonError>) -> Result<(), JsonError> {
        if self.depth >= self.limits.depth {
            return self.fail(JsonFault::Depth {
                max: self.limits.depth,
            });
        }
        self.depth += 1;
        self.at += 1;
        self.space();
        inside(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(&Quoted {
                span: (0, 0),
                escaped: false,
            })?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.unexpected("`,` or `]`"),
            }
            self.space();
        }
    }

    fn object(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        let first = self.next_index();
        let mut count = 0;
        let mut seen = HashSet::new();
        loop {
            if self.peek() != Some(b'"') {
                return self.unexpected("a member name");
            }
            let start = self.at;
            let name = self.string()?;
            if self.is_taken(&name, first, count, &mut seen) {
                return Err(JsonError {
                    at: start,
                    fault: JsonFault::Duplicate,
                });
            }
            count += 1;
            self.space();
            if self.peek() != Some(b':') {
                return self.unexpected("`:`");
            }
            self.at += 1;
            self.space();
            self.value(&name)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.unexpected("`,` or `}`"),
            }
            self.space();
        }
    }

    /// Whether one of the `count` members from node `first` on has that name. A few are compared one
    /// by one; many go through a set, so that the cost of an object stays linear in its length.
    fn is_taken(
        &self,
        name: &Quoted,
        first: u32,
        count: usize,
        seen: &mut HashSet<Cow<'a, str>>,
    ) -> bool {
        let bytes: &'a [u8] = self.bytes;
        let end = self.next_index();
        let siblings = || {
            std::iter::successors((first < end).then_some(first), move |at| {
                let next = self.nodes.get(*at as usize)?.next;
                (next < end).then_some(next)
            })
            .filter_map(|at| self.nodes.get(at as usize))
        };
        if count < FEW_MEMBERS {
            let new = range(name.span);
            return siblings().any(|node| {
                let old = range(node.name);
                if name.escaped || node.name_escaped {
                    unescape(text_at(bytes, old)) == unescape(text_at(bytes, new.clone()))
                } else {
                    bytes.get(old) == bytes.get(new.clone())
                }
            });
        }
        if count == FEW_MEMBERS {
            seen.extend(siblings().map(|node| unescape(text_at(bytes, range(node.name)))));
        }
        !seen.insert(unescape(text_at(bytes, range(name.span))))
    }

    fn literal(&mut self, literal: &'static [u8]) -> Result<(), JsonError> {
        for expected in literal {
            if self.peek() != Some(*expected) {
                return self.unexpected("`true`, `false` or `null`");
            }
            self.at += 1;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return self.fail(JsonFault::Number);
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return self.fail(JsonFault::Number);
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Reads a string from its opening quote.
    fn string(&mut self) -> Result<Quoted, JsonError> {
        let start = self.offset();
        let mut escaped = false;
        self.at += 1;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let plain = rest
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
                .unwrap_or(rest.len());
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Quoted {
                        span: (start, self.offset()),
                        escaped,
                    });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.fail(JsonFault::Control),
                None => return self.fail(JsonFault::End),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                let lone = JsonError {
                    at: start,
                    fault: JsonFault::Surrogate,
                };
                match self.unit()? {
                    0xdc00..=0xdfff => Err(lone),
                    0xd800..=0xdbff => {
                        if self.bytes.get(self.at..self.at + 2) != Some(br"\u") {
                            return Err(lone);
                        }
                        self.at += 2;
                        match self.unit()? {
                            0xdc00..=0xdfff => Ok(()),
                            _ => Err(lone),
                        }
                    }
                    _ => Ok(()),
                }
            }
            Some(_) => self.fail(JsonFault::Escape),
            None => self.fail(JsonFault::End),
        }
    }

    fn unit(&mut self) -> Result<u32, JsonError> {
        let mut unit = 0;
        for _ in 0..4 {
            match self.peek() {
                Some(byte) => match char::from(byte).to_digit(16) {
                    Some(digit) => unit = unit << 4 | digit,
                    None => return self.fail(JsonFault::Escape),
                },
                None => return self.fail(JsonFault::End),
            }
            self.at += 1;
        }
        Ok(unit)
    }
}

#[cfg(test)]
mod tests;
