//! What is asked of one argument.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::decimal::Decimal;
use crate::digest::Digest;
use crate::glob;
use crate::id::invisible;
use crate::limits::{
    ARGUMENT_PATH_BYTES_MAX, ARGUMENT_PATH_DEPTH_MAX, CONSTRAINT_TEXT_BYTES_MAX,
    CONSTRAINT_VALUES_MAX, MATCHED_TEXT_BYTES_MAX,
};

/// Which argument is meant: names of members joined by dots, such as `options.limit`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArgumentPath(Box<str>);

/// A text that names no argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an argument is named by at most {ARGUMENT_PATH_DEPTH_MAX} names of members joined by dots, \
     {ARGUMENT_PATH_BYTES_MAX} bytes in all"
)]
pub struct ArgumentPathError;

impl ArgumentPath {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Letters that some reader takes for each other, made one: `k`, `K` and the sign for kelvin.
fn folded(name: &str) -> String {
    name.to_uppercase().to_lowercase()
}

/// The arguments of one call: the exact text of an object, read as far as constraints ask, and each
/// part once, whatever asks.
#[derive(Debug)]
pub struct CallArguments<'a> {
    text: &'a RawValue,
    digest: OnceCell<Digest>,
    /// By the path to them; none where something else is there.
    objects: RefCell<HashMap<String, Option<Rc<Members<'a>>>>>,
    seen: RefCell<HashMap<ArgumentPath, Rc<Seen>>>,
}

/// The members of an object by their names, letters that are taken for each other made one.
type Members<'a> = HashMap<String, Vec<(String, &'a RawValue)>>;

/// What an argument's path leads to.
#[derive(Debug)]
pub(super) enum Seen {
    /// A text, a number or a boolean.
    Scalar(Scalar),
    /// A list of so many elements.
    List(u64),
    /// Something else: an object, `null`, a number that is not read.
    Other,
    /// Nothing: an object that has no such member.
    Missing,
    /// No saying: something on the way is no object, or two of its members may be meant.
    Unclear,
}

impl Seen {
    pub(super) fn of(raw: &RawValue) -> Self {
        match Scalar::read(raw) {
            Some(scalar) => Self::Scalar(scalar),
            None => serde_json::from_str::<Vec<&RawValue>>(raw.get())
                .map_or(Self::Other, |list| Self::List(list.len() as u64)),
        }
    }
}

/// A member of an object.
enum Member<'a> {
    Here(&'a RawValue),
    Missing,
    Unclear,
}

impl<'a> CallArguments<'a> {
    /// The arguments that this text is.
    pub fn new(text: &'a RawValue) -> Self {
        Self {
            text,
            digest: OnceCell::new(),
            objects: RefCell::default(),
            seen: RefCell::default(),
        }
    }

    /// SHA-256 of the text.
    pub(super) fn digest(&self) -> Digest {
        *self
            .digest
            .get_or_init(|| Digest::of(self.text.get().as_bytes()))
    }

    /// What is there.
    pub(super) fn at(&self, path: &ArgumentPath) -> Rc<Seen> {
        if let Some(seen) = self.seen.borrow().get(path) {
            return Rc::clone(seen);
        }
        let seen = Rc::new(self.find(path));
        self.seen
            .borrow_mut()
            .insert(path.clone(), Rc::clone(&seen));
        seen
    }

    fn find(&self, path: &ArgumentPath) -> Seen {
        let (mut value, mut above) = (self.text, 0);
        for name in path.0.split('.') {
            let here = path.0.get(..above).unwrap_or_default();
            let rest = path.0.get(above..).unwrap_or_default();
            match self.member(value, here.trim_end_matches('.'), name, rest) {
                Member::Here(next) => value = next,
                Member::Missing => return Seen::Missing,
                Member::Unclear => return Seen::Unclear,
            }
            above += name.len() + 1;
        }
        Seen::of(value)
    }

    /// A member of the object `value`, which stands at `path`. `rest` is what of a path begins with
    /// its name.
    fn member(&self, value: &'a RawValue, path: &str, name: &str, rest: &str) -> Member<'a> {
        let known = self.objects.borrow().get(path).cloned();
        let members = known.unwrap_or_else(|| {
            let read = serde_json::from_str(value.get()).ok();
            let members = read.map(|Read(members)| Rc::new(members));
            self.objects
                .borrow_mut()
                .insert(path.to_owned(), members.clone());
            members
        });
        let Some(members) = members else {
            return Member::Unclear;
        };
        // A member whose own name has the dots could be meant as well.
        let ends = rest.match_indices('.').skip(1).map(|(at, _)| at);
        let mut dotted = ends.chain(rest.contains('.').then_some(rest.len()));
        if dotted.any(|end| members.contains_key(&folded(rest.get(..end).unwrap_or_default()))) {
            return Member::Unclear;
        }
        match members.get(&folded(name)).map(Vec::as_slice) {
            None => Member::Missing,
            Some([(key, value)]) if key == name => Member::Here(value),
            // There twice, which is one thing to one reader and another to the next; or in other
            // letters, which many servers take for the same.
            Some(_) => Member::Unclear,
        }
    }
}

/// The members of an object as they stand, repeated ones too.
struct Read<'a>(Members<'a>);

impl<'de> Deserialize<'de> for Read<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Read<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut members = Members::new();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    members.entry(folded(&key)).or_default().push((key, value));
                }
                Ok(Read(members))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

impl FromStr for ArgumentPath {
    type Err = ArgumentPathError;

    fn from_str(text: &str) -> Result<Self, ArgumentPathError> {
        let fits = text.len() <= ARGUMENT_PATH_BYTES_MAX
            && text.split('.').count() <= ARGUMENT_PATH_DEPTH_MAX
            && text.split('.').all(|name| !name.is_empty())
            && !text.chars().any(invisible);
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(ArgumentPathError)
        }
    }
}

impl fmt::Display for ArgumentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ArgumentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ArgumentPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ArgumentPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A value that an argument can be compared with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scalar {
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Decimal),
    /// A text.
    Text(Box<str>),
}

impl Scalar {
    /// The value that a JSON text is; none for `null`, arrays, objects and numbers that cannot be
    /// read exactly.
    fn read(raw: &RawValue) -> Option<Self> {
        match raw.get().as_bytes().first()? {
            b'"' => serde_json::from_str(raw.get()).ok().map(Self::Text),
            b't' | b'f' => serde_json::from_str(raw.get()).ok().map(Self::Bool),
            b'-' | b'0'..=b'9' => Decimal::parse(raw.get()).map(Self::Number),
            _ => None,
        }
    }

    fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bool(_) | Self::Number(_) => None,
        }
    }

    fn as_number(&self) -> Option<&Decimal> {
        match self {
            Self::Number(number) => Some(number),
            Self::Bool(_) | Self::Text(_) => None,
        }
    }
}

impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let scalar = Self::read(&raw).ok_or_else(|| {
            serde::de::Error::custom("an argument is compared with a text, a number or a boolean")
        })?;
        match scalar.as_text() {
            Some(text) if text.len() > CONSTRAINT_TEXT_BYTES_MAX => Err(too_long()),
            _ => Ok(scalar),
        }
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw = RawValue::from_string(self.to_string()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get()).ok_or_else(|| {
            serde::de::Error::custom(
                "it is not a number of at most 100 digits that can be compared",
            )
        })
    }
}

fn too_long<E: serde::de::Error>() -> E {
    E::custom(format_args!(
        "a text in a constraint has at most {CONSTRAINT_TEXT_BYTES_MAX} bytes"
    ))
}

/// What is asked of one argument: all that is named.
///
/// Unless it asks for its absence, the argument must be there. `prefix` and `glob` hold for texts
/// only, of at most [`MATCHED_TEXT_BYTES_MAX`] bytes, and not for one that a server may resolve to
/// something else (see [`is_plain`]), or with characters that nobody sees beyond those that the
/// prefix or pattern itself has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "Unchecked")]
pub struct Constraint {
    /// It is this.
    #[serde(skip_serializing_if = "Option::is_none")]
    equals: Option<Scalar>,
    /// It is one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    one_of: Option<BTreeSet<Scalar>>,
    /// It is a text that begins so.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<Box<str>>,
    /// It is a text of this form, in which `*` stands for any run of characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    glob: Option<Box<str>>,
    /// It is a number, at least this.
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<Decimal>,
    /// It is a number, at most this.
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<Decimal>,
    /// It is a text of at most so many characters (code points), or a list of so many elements.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_length: Option<u64>,
    /// It is not there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    absent: bool,
}

/// A constraint as it is written.
#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "what is asked of an argument, such as {\"max\": 10}"
)]
struct Unchecked {
    #[serde(default, deserialize_with = "there")]
    equals: Option<Scalar>,
    #[serde(default, deserialize_with = "there")]
    one_of: Option<Vec<Scalar>>,
    #[serde(default, deserialize_with = "there")]
    prefix: Option<Box<str>>,
    #[serde(default, deserialize_with = "there")]
    glob: Option<Box<str>>,
    #[serde(default, deserialize_with = "there")]
    min: Option<Decimal>,
    #[serde(default, deserialize_with = "there")]
    max: Option<Decimal>,
    #[serde(default, deserialize_with = "there")]
    max_length: Option<u64>,
    #[serde(default, deserialize_with = "there")]
    absent: Option<bool>,
}

/// A member that is there has a value: `null` would otherwise be taken for nothing asked.
pub(super) fn there<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Why something is not a constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// It asks for nothing.
    #[error(
        "a constraint names at least one of `equals`, `one_of`, `prefix`, `glob`, `min`, `max`, `max_length` and `absent`"
    )]
    Empty,
    /// It asks for absence and for something else.
    #[error("`absent` is `true` and stands alone")]
    Absent,
    /// `one_of` is empty or too long.
    #[error("`one_of` has 1 to {CONSTRAINT_VALUES_MAX} values")]
    Values,
    /// A text is too long.
    #[error("a text in a constraint has at most {CONSTRAINT_TEXT_BYTES_MAX} bytes")]
    Long,
}

impl TryFrom<Unchecked> for Constraint {
    type Error = ConstraintError;

    fn try_from(it: Unchecked) -> Result<Self, ConstraintError> {
        let texts = [&it.prefix, &it.glob];
        if texts
            .into_iter()
            .flatten()
            .any(|text| text.len() > CONSTRAINT_TEXT_BYTES_MAX)
        {
            return Err(ConstraintError::Long);
        }
        if let Some(values) = &it.one_of
            && !(1..=CONSTRAINT_VALUES_MAX).contains(&values.len())
        {
            return Err(ConstraintError::Values);
        }
        let present = Self {
            equals: it.equals,
            one_of: it.one_of.map(|values| values.into_iter().collect()),
            prefix: it.prefix,
            glob: it.glob,
            min: it.min,
            max: it.max,
            max_length: it.max_length,
            absent: false,
        };
        match (it.absent, present == Self::default()) {
            (None, false) => Ok(present),
            (None, true) => Err(ConstraintError::Empty),
            (Some(true), true) => Ok(Self {
                absent: true,
                ..present
            }),
            (Some(_), _) => Err(ConstraintError::Absent),
        }
    }
}

impl Constraint {
    /// Whether what an argument's path leads to is as it should be.
    pub(super) fn holds(&self, seen: &Seen) -> bool {
        match seen {
            Seen::Missing => self.absent,
            Seen::Scalar(scalar) => self.takes(scalar),
            Seen::List(length) => self.takes_list(*length),
            Seen::Other | Seen::Unclear => false,
        }
    }

    /// Of a list, the length is all that can be asked.
    fn takes_list(&self, length: u64) -> bool {
        let only_length = Self {
            max_length: self.max_length,
            ..Self::default()
        };
        let most = self.max_length.filter(|_| *self == only_length);
        most.is_some_and(|most| length <= most)
    }

    /// Whether a value, which is there, is as it should be.
    fn takes(&self, value: &Scalar) -> bool {
        let Self {
            equals,
            one_of,
            prefix,
            glob,
            min,
            max,
            max_length,
            absent,
        } = self;
        let (text, number) = (value.as_text(), value.as_number());
        let plain = text.filter(|text| text.len() <= MATCHED_TEXT_BYTES_MAX && is_plain(text));
        !absent
            && equals.as_ref().is_none_or(|it| it == value)
            && one_of.as_ref().is_none_or(|them| them.contains(value))
            && prefix.as_ref().is_none_or(|it| {
                plain.is_some_and(|text| text.starts_with(&**it) && hides_as(text, it))
            })
            && glob.as_ref().is_none_or(|it| {
                plain.is_some_and(|text| glob::matches(it, text) && hides_as(text, it))
            })
            && min
                .as_ref()
                .is_none_or(|it| number.is_some_and(|number| number >= it))
            && max
                .as_ref()
                .is_none_or(|it| number.is_some_and(|number| number <= it))
            && max_length
                .is_none_or(|most| text.is_some_and(|text| text.chars().count() as u64 <= most))
    }

    /// Whether it can be shown that whatever holds for `self` holds for `outer`.
    pub(super) fn is_within(&self, outer: &Self) -> bool {
        if self.absent || outer.absent {
            return self.absent && outer.absent;
        }
        // Where it can only be one of some values, each is asked for.
        let values: Option<Vec<&Scalar>> = match (&self.equals, &self.one_of) {
            (Some(value), _) => Some(vec![value]),
            (None, Some(values)) => Some(values.iter().collect()),
            (None, None) => None,
        };
        if let Some(values) = values {
            return values
                .into_iter()
                .filter(|value| self.takes(value))
                .all(|value| outer.takes(value));
        }
        // Else each thing that is asked outside must follow from one that is asked here.
        let Self {
            equals,
            one_of,
            prefix,
            glob,
            min,
            max,
            max_length,
            absent: _,
        } = outer;
        let (own_prefix, own_glob) = (self.prefix.as_deref(), self.glob.as_deref());
        equals.is_none()
            && one_of.is_none()
            && prefix.as_deref().is_none_or(|outer| {
                let begins =
                    |own: &str, head: &str| head.starts_with(outer) && hides_as(own, outer);
                own_prefix.is_some_and(|own| begins(own, own))
                    || own_glob.is_some_and(|own| begins(own, glob::head(own)))
            })
            && glob.as_deref().is_none_or(|outer| {
                let lies = |own: &str| glob::matches(outer, own) && hides_as(own, outer);
                own_prefix.is_some_and(|own| lies(&format!("{own}*"))) || own_glob.is_some_and(lies)
            })
            && min
                .as_ref()
                .is_none_or(|outer| self.min.as_ref().is_some_and(|own| own >= outer))
            && max
                .as_ref()
                .is_none_or(|outer| self.max.as_ref().is_some_and(|own| own <= outer))
            && max_length.is_none_or(|outer| self.max_length.is_some_and(|own| own <= outer))
    }
}

/// Whether a text has those characters that nobody sees which `form` has, and no others: then none
/// stands where the form leaves open what does.
fn hides_as(text: &str, form: &str) -> bool {
    let hidden = |c: &char| is_hidden(*c);
    text.chars().filter(hidden).eq(form.chars().filter(hidden))
}

/// Whether a character shows as nothing, or changes how others show, and is not a control: Unicode's
/// format characters (Cf), tags, bidirectional marks, selectors of variants and fillers.
fn is_hidden(c: char) -> bool {
    (invisible(c) && !c.is_control())
        || matches!(c, '\u{0600}'..='\u{0605}' | '\u{06dd}' | '\u{070f}' | '\u{0890}'..='\u{0891}'
            | '\u{08e2}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1345f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{034f}'
            | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{3164}' | '\u{ffa0}' | '\u{fe00}'..='\u{fe0f}')
}

/// Whether a text is what it looks like: no server resolves it to something that begins otherwise.
///
/// A prefix says little about `/data/../etc/passwd`. Policy refuses such a text where the tool's
/// schema or its name says that it is a path; a constraint is asked about any argument, so it does
/// not hold for a text with a segment of dots, a backslash, an escape of one of these, or a
/// character that becomes one of these when text is normalised.
pub fn is_plain(text: &str) -> bool {
    const LOOKALIKES: [char; 9] = [
        '\u{2024}', '\u{2025}', '\u{ff0e}', '\u{ff0f}', '\u{ff3c}', '\u{2044}', '\u{2215}',
        '\u{29f5}', '\u{fe68}',
    ];
    let dots = |segment: &str| {
        // `..;x` is `..` to servers that know parameters of segments; spaces at an end are dropped
        // by others.
        let name = segment.split(';').next().unwrap_or_default().trim();
        matches!(name, "." | "..")
    };
    let escape = |after: &str| {
        let code: String = after.chars().take(2).collect();
        matches!(
            code.to_ascii_lowercase().as_str(),
            "2e" | "2f" | "5c" | "25" | "00"
        )
    };
    !text.contains(['\\', '\0'])
        && !text.contains(LOOKALIKES)
        && !text.split('/').any(dots)
        && !text.split('%').skip(1).any(escape)
}
