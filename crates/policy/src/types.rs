//! The type that Cedar gives to a tool's arguments, read from the tool's JSON Schema.
//!
//! | JSON Schema | Cedar |
//! |---|---|
//! | `string`, or an enumeration of strings | `String` |
//! | `integer` | `Long` |
//! | `boolean` | `Bool` |
//! | `number` | `decimal` (four digits after the point) |
//! | an array of one of these | `Set` of it |
//! | an object with properties | a record, by the same table |
//! | one of these or `null` | it, optional |
//! | anything else | nothing; its name is in `context.untyped` |
//!
//! An argument that is not required is an optional attribute: a policy asks `has` first. A value
//! that its type cannot hold (an integer beyond 64 bits, a number with five digits after the point)
//! is left out and listed too. A call with an argument that is left out is refused if a policy that
//! could apply to it asks for that argument: a forbid must not be escaped by what it cannot read.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::RestrictedExpression;
use serde_json::{Map, Value, json};

/// Deepest nesting of records that is typed; deeper arguments are listed as untyped.
const TYPED_DEPTH_MAX: usize = 6;
/// Most `$ref`s followed for one type.
const REFS_MAX: usize = 16;
/// Most schemas looked at for one tool: `$ref`s can make a small text stand for a huge tree.
const READS_MAX: usize = 2_000;

/// A Cedar type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    String,
    Long,
    Bool,
    Decimal,
    Set(Box<Self>),
    Record(Record),
}

/// A record type, and the members that have none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) fields: BTreeMap<String, Field>,
    pub(crate) untyped: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) ty: Type,
    pub(crate) required: bool,
    /// `format`, of a string or of an array's strings.
    pub(crate) format: Option<String>,
}

impl Record {
    /// The type of the objects that `schema` describes.
    pub(crate) fn of_schema(schema: &Value) -> Self {
        Reader {
            root: schema,
            left: READS_MAX,
        }
        .record(schema, 0)
    }

    /// As a Cedar schema has it.
    pub(crate) fn to_schema(&self) -> Value {
        let attributes: Map<String, Value> = self
            .fields
            .iter()
            .map(|(name, field)| {
                let mut ty = field.ty.to_schema();
                if let Value::Object(ty) = &mut ty {
                    ty.insert("required".to_owned(), Value::Bool(field.required));
                }
                (name.clone(), ty)
            })
            .collect();
        json!({"type": "Record", "attributes": attributes})
    }

    /// `object` as Cedar sees it.
    pub(crate) fn express(&self, object: &Map<String, Value>) -> Expressed {
        let mut out = Expressed::default();
        out.pairs = self.pairs(object, &[], &mut out.untyped);
        out
    }

    fn pairs(
        &self,
        object: &Map<String, Value>,
        above: &[&str],
        untyped: &mut Vec<Vec<String>>,
    ) -> Vec<(String, RestrictedExpression)> {
        let mut pairs = Vec::with_capacity(object.len());
        for (name, value) in object {
            // A null argument is an absent one, to policy.
            if value.is_null() {
                continue;
            }
            let Some(field) = self.fields.get(name) else {
                untyped.push(owned(below(above, name)));
                continue;
            };
            let expression = match (&field.ty, value) {
                (Type::Record(record), Value::Object(object)) => {
                    let pairs = record.pairs(object, &below(above, name), untyped);
                    RestrictedExpression::new_record(pairs).ok()
                }
                (ty, value) => ty.express(value),
            };
            if let Some(expression) = expression {
                pairs.push((name.clone(), expression));
            } else {
                untyped.push(owned(below(above, name)));
            }
        }
        pairs
    }

    /// Every typed field that is not a record, and whether it is always there.
    pub(crate) fn leaves(&self) -> Vec<Leaf<'_>> {
        fn walk<'a>(record: &'a Record, above: &[String], required: bool, out: &mut Vec<Leaf<'a>>) {
            for (name, field) in &record.fields {
                let required = required && field.required;
                let mut path = above.to_vec();
                path.push(name.clone());
                match &field.ty {
                    Type::Record(inner) => walk(inner, &path, required, out),
                    _ => out.push(Leaf {
                        path,
                        field,
                        required,
                    }),
                }
            }
        }
        let mut out = Vec::new();
        walk(self, &[], true, &mut out);
        out
    }

    /// Whether a policy can read `path`.
    pub(crate) fn has(&self, path: &[String]) -> bool {
        match path.split_first() {
            None => true,
            Some((first, rest)) => match self.fields.get(first).map(|field| &field.ty) {
                Some(Type::Record(record)) => record.has(rest),
                Some(_) => rest.is_empty(),
                None => false,
            },
        }
    }

    /// Whether the tool declares `path`, in a form that policy cannot see.
    pub(crate) fn hides(&self, path: &[String]) -> bool {
        path.split_first().is_some_and(|(first, rest)| {
            self.untyped.contains(first)
                || match self.fields.get(first).map(|field| &field.ty) {
                    Some(Type::Record(record)) => record.hides(rest),
                    _ => false,
                }
        })
    }
}

/// A field below a record.
#[derive(Debug)]
pub(crate) struct Leaf<'a> {
    pub(crate) path: Vec<String>,
    pub(crate) field: &'a Field,
    pub(crate) required: bool,
}

/// Arguments as Cedar sees them.
#[derive(Debug, Default)]
pub(crate) struct Expressed {
    pub(crate) pairs: Vec<(String, RestrictedExpression)>,
    /// The paths of what is left out.
    pub(crate) untyped: Vec<Vec<String>>,
}

fn owned(path: Vec<&str>) -> Vec<String> {
    path.into_iter().map(ToOwned::to_owned).collect()
}

fn below<'a>(above: &[&'a str], name: &'a str) -> Vec<&'a str> {
    above.iter().copied().chain([name]).collect()
}

impl Type {
    fn to_schema(&self) -> Value {
        match self {
            Self::String => json!({"type": "String"}),
            Self::Long => json!({"type": "Long"}),
            Self::Bool => json!({"type": "Boolean"}),
            Self::Decimal => json!({"type": "Extension", "name": "decimal"}),
            Self::Set(of) => json!({"type": "Set", "element": of.to_schema()}),
            Self::Record(record) => record.to_schema(),
        }
    }

    fn express(&self, value: &Value) -> Option<RestrictedExpression> {
        match (self, value) {
            (Self::String, Value::String(text)) => {
                Some(RestrictedExpression::new_string(text.clone()))
            }
            (Self::Bool, Value::Bool(is)) => Some(RestrictedExpression::new_bool(*is)),
            (Self::Long, Value::Number(number)) => long(number).map(RestrictedExpression::new_long),
            (Self::Decimal, Value::Number(number)) => {
                decimal(number).map(RestrictedExpression::new_decimal)
            }
            (Self::Set(of), Value::Array(values)) => values
                .iter()
                .map(|value| of.express(value))
                .collect::<Option<Vec<_>>>()
                .map(RestrictedExpression::new_set),
            _ => None,
        }
    }

    fn is_scalar(&self) -> bool {
        match self {
            Self::String | Self::Long | Self::Bool | Self::Decimal => true,
            Self::Set(_) | Self::Record(_) => false,
        }
    }
}

/// An integer, also one written `3.0`, if 64 bits hold it exactly.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the range is checked, and the value has no fraction"
)]
fn long(number: &serde_json::Number) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|_| number.is_f64())?;
        (float.fract() == 0.0 && float.abs() <= EXACT_MAX).then_some(float as i64)
    })
}

/// The decimal text of a number that a Cedar decimal holds exactly.
fn decimal(number: &serde_json::Number) -> Option<String> {
    const UNITS_MAX: u64 = i64::MAX.unsigned_abs() / 10_000;
    let text = number.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let fits = plain(digits)
        && plain(fraction)
        && fraction.len() <= 4
        && digits.parse::<u64>().is_ok_and(|units| units < UNITS_MAX);
    fits.then(|| format!("{whole}.{fraction}"))
}

struct Read {
    ty: Type,
    nullable: bool,
    format: Option<String>,
}

struct Reader<'a> {
    root: &'a Value,
    left: usize,
}

impl Reader<'_> {
    fn record(&mut self, schema: &Value, depth: usize) -> Record {
        let required: BTreeSet<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let mut record = Record::default();
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            match self.read(property, depth + 1) {
                Some(read) => {
                    let field = Field {
                        ty: read.ty,
                        required: required.contains(name.as_str()) && !read.nullable,
                        format: read.format,
                    };
                    record.fields.insert(name.clone(), field);
                }
                None => {
                    record.untyped.insert(name.clone());
                }
            }
        }
        record
    }

    fn read(&mut self, schema: &Value, depth: usize) -> Option<Read> {
        self.left = self.left.checked_sub(1)?;
        if depth > TYPED_DEPTH_MAX {
            return None;
        }
        let schema = follow(self.root, schema)?;
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return of_values(values);
        }
        if let Some(value) = schema.get("const") {
            return of_values(std::slice::from_ref(value));
        }
        for word in ["anyOf", "oneOf", "allOf"] {
            if let Some(branches) = schema.get(word).and_then(Value::as_array) {
                return self.of_branches(branches, depth);
            }
        }
        let (name, nullable) = match schema.get("type") {
            Some(Value::String(name)) => (name.as_str(), false),
            Some(Value::Array(names)) => {
                let mut others = names
                    .iter()
                    .filter_map(Value::as_str)
                    .filter(|name| *name != "null");
                let name = others.next()?;
                if others.next().is_some() {
                    return None;
                }
                (name, names.len() > 1)
            }
            None if schema.get("properties").is_some() => ("object", false),
            _ => return None,
        };
        let format = schema.get("format").and_then(Value::as_str);
        let mut format = format.map(ToOwned::to_owned);
        let ty = match name {
            "string" => Type::String,
            "integer" => Type::Long,
            "boolean" => Type::Bool,
            "number" => Type::Decimal,
            "array" => {
                if schema.get("prefixItems").is_some() {
                    return None;
                }
                let items = self.read(schema.get("items")?, depth + 1)?;
                if items.nullable || !items.ty.is_scalar() {
                    return None;
                }
                format = items.format;
                Type::Set(Box::new(items.ty))
            }
            "object" if schema.get("properties").is_some() => {
                Type::Record(self.record(schema, depth))
            }
            _ => return None,
        };
        Some(Read {
            ty,
            nullable,
            format,
        })
    }

    /// The type that all `branches` but `null` share.
    fn of_branches(&mut self, branches: &[Value], depth: usize) -> Option<Read> {
        let mut shared: Option<Read> = None;
        let mut nullable = false;
        for branch in branches {
            if branch.get("type").and_then(Value::as_str) == Some("null") {
                nullable = true;
                continue;
            }
            let read = self.read(branch, depth + 1)?;
            nullable |= read.nullable;
            match &mut shared {
                None => shared = Some(read),
                Some(shared) if shared.ty == read.ty => {
                    shared.format = shared.format.take().or(read.format);
                }
                Some(_) => return None,
            }
        }
        shared.map(|read| Read { nullable, ..read })
    }
}

/// The schema that `schema` stands for: local `$ref`s followed, no more than [`REFS_MAX`].
fn follow<'a>(root: &'a Value, mut schema: &'a Value) -> Option<&'a Value> {
    for _ in 0..REFS_MAX {
        match schema.get("$ref") {
            None => return Some(schema),
            Some(reference) => {
                schema = root.pointer(reference.as_str()?.strip_prefix('#')?)?;
            }
        }
    }
    None
}

/// The type that all `values` share.
fn of_values(values: &[Value]) -> Option<Read> {
    let mut shared = None;
    let mut nullable = false;
    for value in values {
        let ty = match value {
            Value::Null => {
                nullable = true;
                continue;
            }
            Value::String(_) => Type::String,
            Value::Bool(_) => Type::Bool,
            Value::Number(number) if long(number).is_some() => Type::Long,
            Value::Number(_) | Value::Array(_) | Value::Object(_) => return None,
        };
        if shared.get_or_insert_with(|| ty.clone()) != &ty {
            return None;
        }
    }
    shared.map(|ty| Read {
        ty,
        nullable,
        format: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(property: &Value, expected: Option<&(Type, bool)>) {
        let schema = json!({"type": "object", "properties": {"x": property}, "required": ["x"],
            "$defs": {"name": {"type": "string"}, "loop": {"$ref": "#/$defs/loop"}}});
        let record = Record::of_schema(&schema);
        let found = record
            .fields
            .get("x")
            .map(|field| (field.ty.clone(), field.required));
        assert_eq!(found.as_ref(), expected, "{property}");
        assert_eq!(record.untyped.contains("x"), found.is_none(), "{property}");
    }

    #[test]
    fn types_are_read() {
        check(&json!({"type": "string"}), Some(&(Type::String, true)));
        check(&json!({"type": "integer"}), Some(&(Type::Long, true)));
        check(&json!({"type": "boolean"}), Some(&(Type::Bool, true)));
        check(&json!({"type": "number"}), Some(&(Type::Decimal, true)));
        check(&json!({"enum": ["a", "b"]}), Some(&(Type::String, true)));
        check(&json!({"enum": ["a", null]}), Some(&(Type::String, false)));
        check(&json!({"enum": ["a", 1]}), None);
        check(&json!({"const": 3}), Some(&(Type::Long, true)));
        check(
            &json!({"type": ["string", "null"]}),
            Some(&(Type::String, false)),
        );
        check(&json!({"type": ["string", "integer"]}), None);
        check(
            &json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}),
            Some(&(Type::Long, false)),
        );
        check(
            &json!({"anyOf": [{"type": "integer"}, {"type": "string"}]}),
            None,
        );
        check(
            &json!({"$ref": "#/$defs/name"}),
            Some(&(Type::String, true)),
        );
        check(
            &json!({"allOf": [{"$ref": "#/$defs/name"}]}),
            Some(&(Type::String, true)),
        );
        check(&json!({"$ref": "#/$defs/loop"}), None);
        check(&json!({"$ref": "https://elsewhere.example/x"}), None);
        check(
            &json!({"type": "array", "items": {"type": "string"}}),
            Some(&(Type::Set(Box::new(Type::String)), true)),
        );
        check(&json!({"type": "array", "items": {"type": "object"}}), None);
        check(&json!({"type": "array"}), None);
        check(&json!({"type": "object"}), None);
        check(&json!({}), None);
        check(&json!(true), None);
    }

    #[test]
    fn nested_records_are_bounded() {
        let mut schema = json!({"type": "string"});
        for _ in 0..40 {
            schema = json!({"type": "object", "properties": {"in": schema}});
        }
        let record = Record::of_schema(&schema);
        assert!(record.to_schema().to_string().len() < 2_000);
        let properties: Map<String, Value> = (0..40)
            .map(|n| (format!("p{n}"), json!({"$ref": "#"})))
            .collect();
        let record = Record::of_schema(&json!({"properties": properties}));
        assert!(record.to_schema().to_string().len() < 200_000);
    }

    #[test]
    fn decimals_are_exact_or_nothing() {
        let decimal = |text: &str| decimal(&serde_json::from_str(text).unwrap());
        assert_eq!(decimal("5"), Some("5.0".to_owned()));
        assert_eq!(decimal("-0.25"), Some("-0.25".to_owned()));
        assert_eq!(decimal("48.8584"), Some("48.8584".to_owned()));
        assert_eq!(decimal("48.85837"), None);
        assert_eq!(decimal("1e30"), None);
        assert_eq!(decimal("922337203685477"), None);
        assert_eq!(decimal("922337203685476.9999"), None);
        assert_eq!(
            decimal("-922337203685476"),
            Some("-922337203685476.0".to_owned())
        );
    }

    #[test]
    fn longs_are_exact_or_nothing() {
        let long = |text: &str| long(&serde_json::from_str(text).unwrap());
        assert_eq!(long("9223372036854775807"), Some(i64::MAX));
        assert_eq!(long("9223372036854775808"), None);
        assert_eq!(long("3.0"), Some(3));
        assert_eq!(long("3.5"), None);
        assert_eq!(long("1e300"), None);
    }
}
