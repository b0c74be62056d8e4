//! Filters and PATCH paths: the grammar of RFC 7644 §3.4.2.2 and §3.5.2, and what they match.
//!
//! Names and operators are read in any case. What a filter costs is bounded before it is read: by
//! its length, its depth and the number of its comparisons.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;
use unicode_normalization::UnicodeNormalization as _;
use vocab::limits::{SCIM_FILTER_BYTES_MAX, SCIM_FILTER_DEPTH_MAX, SCIM_FILTER_TERMS_MAX};

use super::schema::{Attribute, Kind, ResourceType};

/// Why a text is not a filter or a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Longer than is read.
    #[error("it is longer than {SCIM_FILTER_BYTES_MAX} bytes")]
    TooLong,
    /// Nested deeper than is read.
    #[error("it is nested deeper than {SCIM_FILTER_DEPTH_MAX} levels")]
    TooDeep,
    /// More comparisons than are made.
    #[error("it has more than {SCIM_FILTER_TERMS_MAX} comparisons")]
    TooMany,
    /// Something else should stand there.
    #[error("at character {at}, {expected} is expected")]
    Expected {
        /// Where, from one.
        at: usize,
        /// What.
        expected: &'static str,
    },
    /// An operator that does not fit what is compared.
    #[error("`{op}` does not compare with that value")]
    Operand {
        /// The operator.
        op: Op,
    },
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Contains.
    Co,
    /// Starts with.
    Sw,
    /// Ends with.
    Ew,
    /// Greater than.
    Gt,
    /// Greater than or equal to.
    Ge,
    /// Less than.
    Lt,
    /// Less than or equal to.
    Le,
}

impl Op {
    const ALL: [(&'static str, Self); 9] = [
        ("eq", Self::Eq),
        ("ne", Self::Ne),
        ("co", Self::Co),
        ("sw", Self::Sw),
        ("ew", Self::Ew),
        ("gt", Self::Gt),
        ("ge", Self::Ge),
        ("lt", Self::Lt),
        ("le", Self::Le),
    ];
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Self::ALL.iter().find(|(_, op)| op == self);
        f.write_str(text.map_or("", |(text, _)| text))
    }
}

/// An attribute as a filter or a path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttrPath {
    /// The schema's URN, if it was given, as it was given.
    pub schema: Option<String>,
    /// The attribute.
    pub name: String,
    /// The part of it.
    pub sub: Option<String>,
}

impl AttrPath {
    /// Reads `[URN:]name[.sub]` and nothing after it.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut reader = Reader::new(text)?;
        let path = reader.attr_path()?;
        reader.end()?;
        Ok(path)
    }

    /// The whole as one name, for an extension that is named by its URN alone.
    fn urn(&self) -> Option<String> {
        let schema = self.schema.as_ref()?;
        // The version in a URN looks like a sub-attribute: `…:2.0` when nothing follows it.
        Some(match &self.sub {
            None => format!("{schema}:{}", self.name),
            Some(sub) => format!("{schema}:{}.{sub}", self.name),
        })
    }

    /// What it names in a resource of this type: the way there, and the attribute at its end.
    /// None: nothing that we know.
    pub fn resolve(&self, of: &'static ResourceType) -> Option<Target> {
        if let Some(urn) = self.urn() {
            let extension = of.extension(&urn).map(|extension| extension.id);
            if extension.is_some() || urn.eq_ignore_ascii_case(of.schema.id) {
                return Some(Target {
                    extension,
                    attribute: None,
                    sub: None,
                });
            }
        }
        let (extension, attributes) = match &self.schema {
            //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
            //# For all operations, the value of the "schemas" attribute on the SCIM service
            //# provider's representation of the resource SHALL be assumed by default.
            None => (None, of.schema.attributes),
            Some(urn) if urn.eq_ignore_ascii_case(of.schema.id) => (None, of.schema.attributes),
            Some(urn) => of
                .extension(urn)
                .map(|schema| (Some(schema.id), schema.attributes))?,
        };
        let mut found = Attribute::find(attributes, &self.name);
        let mut extension = extension;
        if found.is_none() && self.schema.is_none() {
            // The common attributes; and those of an extension by their short name, as Okta has it.
            //= https://www.rfc-editor.org/rfc/rfc7643#section-3
            //# These attributes are not defined in any particular schema but SHALL be assumed to be
            //# present in every resource, regardless of the value of the "schemas" attribute.
            found = Attribute::find(super::schema::COMMON, &self.name);
            if found.is_none() {
                let named = of.extensions.iter().find_map(|schema| {
                    Some((schema.id, Attribute::find(schema.attributes, &self.name)?))
                });
                if let Some((id, attribute)) = named {
                    extension = Some(id);
                    found = Some(attribute);
                }
            }
        }
        let attribute = found?;
        let sub = match &self.sub {
            None => None,
            Some(sub) => Some(Attribute::find(attribute.sub, sub)?),
        };
        Some(Target {
            extension,
            attribute: Some(attribute),
            sub,
        })
    }
}

/// What a path names.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The URN of the extension that it lies in.
    pub extension: Option<&'static str>,
    /// The attribute; none: all that lies there.
    pub attribute: Option<&'static Attribute>,
    /// The part of it.
    pub sub: Option<&'static Attribute>,
}

/// A filter.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All of these.
    And(Vec<Self>),
    /// One of these.
    Or(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// The attribute has a value that is not empty.
    Present(AttrPath),
    /// The attribute compares so.
    Compare {
        /// The attribute.
        path: AttrPath,
        /// How.
        op: Op,
        /// With what.
        value: Value,
    },
    /// One value of a complex attribute matches all of a filter on its parts.
    Each {
        /// The attribute.
        path: AttrPath,
        /// What one value must match.
        filter: Box<Self>,
    },
}

/// A PATCH path (RFC 7644 §3.5.2): an attribute, or those of its values that match, or a part of
/// these.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchPath {
    /// The attribute.
    pub attr: AttrPath,
    /// Which of its values.
    pub filter: Option<Filter>,
}

impl PatchPath {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut reader = Reader::new(text)?;
        let mut attr = reader.attr_path()?;
        let mut filter = None;
        if reader.take('[') {
            reader.deeper()?;
            filter = Some(reader.or(false)?);
            reader.depth -= 1;
            reader.space();
            reader.need(']', "`]`")?;
            if reader.take('.') {
                if attr.sub.is_some() {
                    return Err(reader.expected("the end"));
                }
                attr.sub = Some(reader.name()?);
            }
        }
        reader.end()?;
        Ok(Self { attr, filter })
    }
}

impl Filter {
    /// Reads a filter.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
    //# The filter parameter MUST contain at least one valid expression (see Table 3).
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
    //# Grouping Operators SCIM filters MUST conform to the following ABNF [RFC5234] rules as
    //# specified below:
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.3
    //# The filter string MUST be a valid filter (Section 3.4.2.2) expression.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut reader = Reader::new(text)?;
        let filter = reader.or(true)?;
        reader.end()?;
        Ok(filter)
    }

    /// Whether the attributes that it names compare as it wants them to.
    pub fn fits(&self, of: &'static ResourceType) -> Result<(), FilterError> {
        self.compares(&|path| {
            let target = path.resolve(of)?;
            target.sub.or(target.attribute)
        })
    }

    fn compares(
        &self,
        look: &dyn Fn(&AttrPath) -> Option<&'static Attribute>,
    ) -> Result<(), FilterError> {
        match self {
            Self::And(all) | Self::Or(all) => all.iter().try_for_each(|it| it.compares(look)),
            Self::Not(it) => it.compares(look),
            Self::Present(_) => Ok(()),
            Self::Compare { path, op, .. } => match (look(path), op) {
                //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
                //# Boolean and Binary attributes SHALL cause a failed response (HTTP
                //# status code 400) with "scimType" of "invalidFilter".
                (Some(attribute), Op::Co | Op::Sw | Op::Ew | Op::Gt | Op::Ge | Op::Lt | Op::Le)
                    if attribute.kind == Kind::Boolean =>
                {
                    Err(FilterError::Operand { op: *op })
                }
                _ => Ok(()),
            },
            Self::Each { path, filter } => match look(path) {
                Some(attribute) => {
                    filter.compares(&|path| Attribute::find(attribute.sub, &path.name))
                }
                None => Ok(()),
            },
        }
    }

    /// Whether a resource matches.
    pub fn matches(&self, of: &'static ResourceType, resource: &Value) -> bool {
        self.holds(&|path| match path.resolve(of) {
            None => Found::default(),
            Some(target) => Found {
                values: target.values(resource),
                attribute: target.sub.or(target.attribute),
            },
        })
    }

    /// Whether one value of a multi-valued attribute matches.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
    //# Service providers MAY support complex filters where expressions MUST be applied to the same
    //# value of a parent attribute specified immediately before the left square bracket ("[").
    pub fn matches_value(&self, attribute: &'static Attribute, value: &Value) -> bool {
        self.holds(&|path| {
            let sub = Attribute::find(attribute.sub, &path.name);
            // A simple value is spoken of as `value`.
            let own = path.name.eq_ignore_ascii_case("value") && attribute.sub.is_empty();
            let found = match (sub, own) {
                (Some(sub), _) => value.get(sub.name),
                (None, true) => Some(value),
                (None, false) => None,
            };
            Found {
                values: found.into_iter().collect(),
                attribute: sub.or(own.then_some(attribute)),
            }
        })
    }

    fn holds<'v>(&self, look: &impl Fn(&AttrPath) -> Found<'v>) -> bool {
        match self {
            Self::And(all) => all.iter().all(|it| it.holds(look)),
            Self::Or(any) => any.iter().any(|it| it.holds(look)),
            Self::Not(it) => !it.holds(look),
            Self::Present(path) => look(path).values.iter().any(|value| !is_empty(value)),
            Self::Compare { path, op, value } => {
                let found = look(path);
                let Some(attribute) = found.attribute else {
                    return false;
                };
                if *value == Value::Null {
                    let none = found.values.iter().all(|value| is_empty(value));
                    return none == (*op == Op::Eq);
                }
                //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.1
                //# For filtered attributes that are not part of a particular resource
                //# type, the service provider SHALL treat the attribute as if there is
                //# no attribute value.
                match op {
                    Op::Ne => !found
                        .values
                        .iter()
                        .any(|it| compare(attribute, Op::Eq, it, value)),
                    _ => found
                        .values
                        .iter()
                        .any(|it| compare(attribute, *op, it, value)),
                }
            }
            Self::Each { path, filter } => {
                let found = look(path);
                let Some(attribute) = found.attribute else {
                    return false;
                };
                found
                    .values
                    .iter()
                    .any(|value| filter.matches_value(attribute, value))
            }
        }
    }

    /// What a value must have to match, if the filter says only that: `type eq "work"`, also
    /// joined by `and`. A value that an `add` cannot find is made of it.
    pub fn asks_for(&self) -> Option<Vec<(&str, &Value)>> {
        match self {
            Self::Compare {
                path,
                op: Op::Eq,
                value,
            } if path.sub.is_none() && *value != Value::Null => Some(vec![(&path.name, value)]),
            Self::And(all) => {
                let mut asked = Vec::new();
                for one in all {
                    asked.extend(one.asks_for()?);
                }
                Some(asked)
            }
            _ => None,
        }
    }
}

/// What a path found in a resource.
#[derive(Default)]
struct Found<'v> {
    values: Vec<&'v Value>,
    attribute: Option<&'static Attribute>,
}

impl Target {
    /// The values that it names: of a list each, of a complex value its `value` unless a part of
    /// it is named.
    fn values<'v>(&self, resource: &'v Value) -> Vec<&'v Value> {
        let root = match self.extension {
            None => Some(resource),
            Some(urn) => resource.get(urn),
        };
        let Some(attribute) = self.attribute else {
            return root.into_iter().collect();
        };
        let found = root.and_then(|root| root.get(attribute.name));
        let each: Vec<&Value> = match found {
            None => Vec::new(),
            Some(Value::Array(values)) => values.iter().collect(),
            Some(value) => vec![value],
        };
        match self.sub {
            None => each,
            Some(sub) => each.iter().filter_map(|it| it.get(sub.name)).collect(),
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn compare(attribute: &Attribute, op: Op, have: &Value, want: &Value) -> bool {
    // Of a complex value its `value` is meant: `emails co "acme"`.
    let (have, attribute) = match have {
        Value::Object(members) => {
            let value = Attribute::find(attribute.sub, "value");
            match (members.get("value"), value) {
                (Some(have), Some(value)) => (have, value),
                _ => return false,
            }
        }
        other => (other, attribute),
    };
    match (have, want) {
        (Value::Bool(have), Value::Bool(want)) => op == Op::Eq && have == want,
        // Entra compares booleans with texts.
        (Value::Bool(have), Value::String(want)) => {
            op == Op::Eq && want.eq_ignore_ascii_case(if *have { "true" } else { "false" })
        }
        (Value::Number(have), Value::Number(want)) => {
            let order = have.as_f64().zip(want.as_f64());
            let order = order.and_then(|(have, want)| have.partial_cmp(&want));
            order.is_some_and(|order| ordered(op, order))
        }
        (Value::String(have), Value::String(want)) => {
            let exact = attribute.case_exact || attribute.kind == Kind::DateTime;
            texts(op, &prepared(have, exact), &prepared(want, exact))
        }
        _ => false,
    }
}

/// A text as it is compared: what looks the same is the same, however it was composed.
//= https://www.rfc-editor.org/rfc/rfc7644#section-7.8
//# When comparing Unicode strings such as those in query filters or testing for uniqueness of
//# usernames and passwords, strings MUST be appropriately prepared before comparison.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
//# When comparing attributes of type String, the case sensitivity for String type attributes SHALL be
//# determined by the attribute's "caseExact" characteristic (see Section 2.2 of [RFC7643]).
//= https://www.rfc-editor.org/rfc/rfc7643#section-7
//# The server SHALL use case sensitivity when evaluating filters.
fn prepared(text: &str, exact: bool) -> String {
    let text: String = if text.is_ascii() {
        text.to_owned()
    } else {
        text.nfc().collect()
    };
    if exact { text } else { text.to_lowercase() }
}

fn texts(op: Op, have: &str, want: &str) -> bool {
    match op {
        Op::Co => have.contains(want),
        Op::Sw => have.starts_with(want),
        Op::Ew => have.ends_with(want),
        Op::Eq | Op::Ne | Op::Gt | Op::Ge | Op::Lt | Op::Le => ordered(op, have.cmp(want)),
    }
}

fn ordered(op: Op, order: Ordering) -> bool {
    match op {
        Op::Eq => order.is_eq(),
        Op::Ne => order.is_ne(),
        Op::Gt => order.is_gt(),
        Op::Ge => order.is_ge(),
        Op::Lt => order.is_lt(),
        Op::Le => order.is_le(),
        Op::Co | Op::Sw | Op::Ew => false,
    }
}

struct Reader<'a> {
    rest: &'a str,
    length: usize,
    depth: usize,
    terms: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Result<Self, FilterError> {
        if text.len() > SCIM_FILTER_BYTES_MAX {
            return Err(FilterError::TooLong);
        }
        let rest = text.trim();
        Ok(Self {
            rest,
            length: rest.chars().count(),
            depth: 0,
            terms: 0,
        })
    }

    fn expected(&self, expected: &'static str) -> FilterError {
        FilterError::Expected {
            at: self.length - self.rest.chars().count() + 1,
            expected,
        }
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches(' ');
    }

    fn take(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn need(&mut self, c: char, expected: &'static str) -> Result<(), FilterError> {
        if self.take(c) {
            Ok(())
        } else {
            Err(self.expected(expected))
        }
    }

    fn end(&mut self) -> Result<(), FilterError> {
        self.space();
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.expected("the end"))
        }
    }

    fn deeper(&mut self) -> Result<(), FilterError> {
        self.depth += 1;
        if self.depth > SCIM_FILTER_DEPTH_MAX {
            return Err(FilterError::TooDeep);
        }
        Ok(())
    }

    /// A word, if it comes next and ends there.
    fn word(&mut self, word: &str) -> bool {
        let Some((head, rest)) = self.rest.split_at_checked(word.len()) else {
            return false;
        };
        let ends = rest.chars().next().is_none_or(|c| !is_name(c));
        if head.eq_ignore_ascii_case(word) && ends {
            self.rest = rest;
            return true;
        }
        false
    }

    /// `values`: whether `attribute[…]` may stand here; not within another.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
    //# Filters MUST be evaluated using the following order of operations, in order of precedence:
    fn or(&mut self, values: bool) -> Result<Filter, FilterError> {
        let mut any = vec![self.and(values)?];
        loop {
            self.space();
            if !self.word("or") {
                return Ok(one_or(any, Filter::Or));
            }
            any.push(self.and(values)?);
        }
    }

    fn and(&mut self, values: bool) -> Result<Filter, FilterError> {
        let mut all = vec![self.term(values)?];
        loop {
            self.space();
            if !self.word("and") {
                return Ok(one_or(all, Filter::And));
            }
            all.push(self.term(values)?);
        }
    }

    fn term(&mut self, values: bool) -> Result<Filter, FilterError> {
        self.space();
        let before = self.rest;
        let not = self.word("not");
        if not {
            self.space();
            // An attribute may be called `not`.
            if !self.rest.starts_with('(') {
                self.rest = before;
            }
        }
        if self.take('(') {
            self.deeper()?;
            let inner = self.or(values)?;
            self.depth -= 1;
            self.space();
            self.need(')', "`)`")?;
            return Ok(if not {
                Filter::Not(Box::new(inner))
            } else {
                inner
            });
        }
        self.terms += 1;
        if self.terms > SCIM_FILTER_TERMS_MAX {
            return Err(FilterError::TooMany);
        }
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
        //# Each expression MUST contain an attribute name followed by an attribute operator and
        //# optional value.
        let path = self.attr_path()?;
        if values && self.take('[') {
            self.deeper()?;
            //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
            //# The expression within square brackets ("[" and "]") MUST be a valid filter
            //# expression based upon sub-attributes of the parent attribute.
            let filter = Box::new(self.or(false)?);
            self.depth -= 1;
            self.space();
            self.need(']', "`]`")?;
            return Ok(Filter::Each { path, filter });
        }
        if !self.rest.starts_with(' ') {
            return Err(self.expected("a space and an operator"));
        }
        self.space();
        if self.word("pr") {
            return Ok(Filter::Present(path));
        }
        let op = Op::ALL.iter().find(|(text, _)| self.word(text));
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
        //# Providers MUST decline to filter results if the specified filter operation is not
        //# recognized and return an HTTP 400 error with a "scimType" error of "invalidFilter" and
        //# an appropriate human-readable response as per Section 3.12.
        let op = op.ok_or_else(|| self.expected("an operator"))?.1;
        self.space();
        let value = self.value()?;
        let fits = match (&value, op) {
            (_, Op::Eq | Op::Ne) | (Value::String(_), _) => true,
            (Value::Number(_), _) => !matches!(op, Op::Co | Op::Sw | Op::Ew),
            _ => false,
        };
        if !fits {
            return Err(FilterError::Operand { op });
        }
        Ok(Filter::Compare { path, op, value })
    }

    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
    //# For complex attributes, a fully qualified sub-attribute MUST be specified using standard
    //# attribute notation (Section 3.10).
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.5
    //# Attribute names MUST be in standard attribute notation (Section 3.10) form.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.3
    //# Attribute names MUST be in standard attribute notation (Section 3.10) form.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-2.1
    //# Attribute names MUST conform to the following ABNF rules:
    fn attr_path(&mut self) -> Result<AttrPath, FilterError> {
        let end = self
            .rest
            .find(|c: char| !(is_name(c) || matches!(c, ':' | '.')));
        let (text, rest) = self
            .rest
            .split_at_checked(end.unwrap_or(self.rest.len()))
            .unwrap_or((self.rest, ""));
        let wrong = self.expected("the name of an attribute");
        let (schema, name) = match text.rsplit_once(':') {
            None => (None, text),
            Some((urn, name)) if urn.len() > 4 && starts_urn(urn) => (Some(urn), name),
            Some(_) => return Err(wrong),
        };
        let (name, sub) = match name.split_once('.') {
            None => (name, None),
            Some((name, sub)) => (name, Some(sub)),
        };
        // The last part of a URN may be a number: `…:2.0`.
        let named = |name: &str| {
            let first = name.chars().next();
            let starts = first.is_some_and(|c| c.is_ascii_alphabetic() || c == '$')
                || (schema.is_some() && first.is_some_and(|c| c.is_ascii_digit()));
            starts && name.chars().all(is_name)
        };
        if !named(name) || !sub.is_none_or(named) {
            return Err(wrong);
        }
        self.rest = rest;
        Ok(AttrPath {
            schema: schema.map(str::to_owned),
            name: name.to_owned(),
            sub: sub.map(str::to_owned),
        })
    }

    fn name(&mut self) -> Result<String, FilterError> {
        let end = self
            .rest
            .find(|c: char| !is_name(c))
            .unwrap_or(self.rest.len());
        match self.rest.split_at_checked(end) {
            Some((name, rest)) if !name.is_empty() => {
                self.rest = rest;
                Ok(name.to_owned())
            }
            _ => Err(self.expected("the name of an attribute")),
        }
    }

    /// A JSON string, number, `true`, `false` or `null`; the words in any case, as Entra writes
    /// them.
    fn value(&mut self) -> Result<Value, FilterError> {
        for (word, value) in [
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("null", Value::Null),
        ] {
            if self.word(word) {
                return Ok(value);
            }
        }
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value @ (Value::String(_) | Value::Number(_)))) => {
                let rest = self.rest.get(values.byte_offset()..).unwrap_or_default();
                if rest
                    .chars()
                    .next()
                    .is_some_and(|c| !matches!(c, ' ' | ')' | ']'))
                {
                    self.rest = rest;
                    return Err(self.expected("a space"));
                }
                self.rest = rest;
                Ok(value)
            }
            _ => Err(self.expected("a text in double quotes, a number, true, false or null")),
        }
    }
}

fn one_or(mut all: Vec<Filter>, many: fn(Vec<Filter>) -> Filter) -> Filter {
    match all.pop() {
        Some(only) if all.is_empty() => only,
        Some(last) => {
            all.push(last);
            many(all)
        }
        None => many(all),
    }
}

fn starts_urn(text: &str) -> bool {
    text.get(..4)
        .is_some_and(|head| head.eq_ignore_ascii_case("urn:"))
}

const fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '$')
}

#[cfg(test)]
mod tests;
