//! How a state is written down: little-endian numbers, texts and lists with their length before
//! them, an enum's variant as a byte. Each type also says its own shape, so that what another
//! program wrote with other members is told apart before it is read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ledger::note::Verifier;
use ledger::{Kind, LogKey};
use vocab::LogName;
use vocab::digest::Digest;
use vocab::id::{
    AdminId, AgentId, Handle, InstanceId, PepName, PurposePath, ToolName, UpstreamName,
};
use vocab::time::Time;

use crate::allow::Allow;
use crate::jwk::{Coordinate, Thumbprint};
use crate::text::{AdminKey, KeyId, Label, Word};

/// The bytes are not those of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What can be written down.
pub(crate) trait Form: Sized {
    /// Says what its members are.
    fn shape(out: &mut String);
    /// Writes it.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads what [`Form::put`] wrote.
    fn take(input: &mut Input<'_>) -> Result<Self, Malformed>;
}

/// The shape of what a member is, without naming its type again.
pub(crate) fn shape_of<S, T: Form>(_: fn(&S) -> Option<&T>, out: &mut String) {
    T::shape(out);
}

/// Bytes that are being read. Names that many have are kept once.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
    handles: HashMap<&'a str, Handle>,
    purposes: HashMap<&'a str, PurposePath>,
    upstreams: HashMap<&'a str, UpstreamName>,
    labels: HashMap<&'a str, Label>,
    words: HashMap<&'a str, Word>,
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            handles: HashMap::new(),
            purposes: HashMap::new(),
            upstreams: HashMap::new(),
            labels: HashMap::new(),
            words: HashMap::new(),
        }
    }

    /// Nothing may be left.
    pub(crate) const fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// How many follow. Each has a byte at least, so a wrong number takes no memory.
    pub(crate) fn length(&mut self) -> Result<usize, Malformed> {
        let length = u32::from_le_bytes(self.array()?);
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        if length > self.rest.len() {
            return Err(Malformed);
        }
        Ok(length)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.length()?;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| Malformed)
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// A list of more than 2^32 is not written: its length would be a lie, and the reader finds out.
pub(crate) fn put_length(length: usize, out: &mut Vec<u8>) {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Form for $number {
            fn shape(out: &mut String) {
                out.push_str(stringify!($number));
            }

            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(input: &mut Input<'_>) -> Result<Self, Malformed> {
                Ok(Self::from_le_bytes(input.array()?))
            }
        }
    )*};
}
numbers!(u8 u32 u64);

/// What is written as something else that is.
macro_rules! by {
    ($($name:ident as $other:ty: $to:expr, $from:expr;)*) => {$(
        impl Form for $name {
            fn shape(out: &mut String) {
                out.push_str(concat!(stringify!($name), "="));
                <$other>::shape(out);
            }

            fn put(&self, out: &mut Vec<u8>) {
                let to: fn(&Self) -> $other = $to;
                to(self).put(out);
            }

            fn take(input: &mut Input<'_>) -> Result<Self, Malformed> {
                let from: fn($other) -> Option<Self> = $from;
                from(<$other>::take(input)?).ok_or(Malformed)
            }
        }
    )*};
}
by! {
    bool as u8: |it| u8::from(*it), |byte| match byte { 0 => Some(false), 1 => Some(true), _ => None };
    Time as u64: |it| it.as_micros(), |micros| Some(Self::from_micros(micros));
    Duration as (u64, u32): |it| (it.as_secs(), it.subsec_nanos()),
        |(secs, nanos)| (nanos < 1_000_000_000).then(|| Self::new(secs, nanos));
    Digest as Bytes32: |it| Bytes32(*it.as_bytes()), |it| Some(Self::from_bytes(it.0));
    Coordinate as Bytes32: |it| Bytes32(*it.as_bytes()), |it| Some(Self::from_bytes(it.0));
    Thumbprint as Bytes32: |it| Bytes32(*it.as_bytes()), |it| Some(Self::from_bytes(it.0));
    Kind as String: |it| it.as_str().to_owned(), |it| it.parse().ok();
    LogName as String: |it| it.as_str().to_owned(), |it| it.parse().ok();
    Allow as String: ToString::to_string, |it| it.parse().ok();
    LogKey as String: |it| it.verifier().to_string(), |it| it.parse::<Verifier>().ok()?.try_into().ok();
    AdminKey as String: |it| it.verifier().to_string(), |it| it.parse().ok();
}

/// 32 bytes.
#[derive(Debug)]
struct Bytes32([u8; 32]);

impl Form for Bytes32 {
    fn shape(out: &mut String) {
        out.push_str("32");
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Malformed> {
        Ok(Self(input.array()?))
    }
}

impl Form for String {
    fn shape(out: &mut String) {
        out.push_str("text");
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Malformed> {
        input.text().map(str::to_owned)
    }
}

macro_rules! texts {
    ($($name:ident: |$input:ident, $text:ident| $take:expr;)*) => {$(
        impl Form for $name {
            fn shape(out: &mut String) {
                out.push_str(stringify!($name));
            }

            fn put(&self, out: &mut Vec<u8>) {
                put_bytes(self.as_str().as_bytes(), out);
            }

            fn take($input: &mut Input<'_>) -> Result<Self, Malformed> {
                let $text = $input.text()?;
                $take
            }
        }
    )*};
}
texts! {
    AdminId: |input, text| parsed(text);
    AgentId: |input, text| parsed(text);
    InstanceId: |input, text| parsed(text);
    KeyId: |input, text| parsed(text);
    PepName: |input, text| parsed(text);
    ToolName: |input, text| parsed(text);
    Handle: |input, text| once(&mut input.handles, text);
    PurposePath: |input, text| once(&mut input.purposes, text);
    UpstreamName: |input, text| once(&mut input.upstreams, text);
    Label: |input, text| once(&mut input.labels, text);
    Word: |input, text| once(&mut input.words, text);
}

fn parsed<T: FromStr>(text: &str) -> Result<T, Malformed> {
    text.parse().map_err(|_| Malformed)
}

/// A name that was read before, or else this one.
fn once<'a, T: FromStr + Clone>(
    known: &mut HashMap<&'a str, T>,
    text: &'a str,
) -> Result<T, Malformed> {
    if let Some(name) = known.get(text) {
        return Ok(name.clone());
    }
    let name: T = parsed(text)?;
    known.insert(text, name.clone());
    Ok(name)
}

impl<T: Form> Form for Option<T> {
    fn shape(out: &mut String) {
        out.push('?');
        T::shape(out);
    }

    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(it) = self {
            it.put(out);
        }
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Malformed> {
        bool::take(input)?.then(|| T::take(input)).transpose()
    }
}

impl<T: Form> Form for Arc<T> {
    fn shape(out: &mut String) {
        T::shape(out);
    }

    fn put(&self, out: &mut Vec<u8>) {
        T::put(self, out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Malformed> {
        T::take(input).map(Self::new)
    }
}

macro_rules! tuples {
    ($($($name:ident)*;)*) => {$(
        impl<$($name: Form),*> Form for ($($name,)*) {
            fn shape(out: &mut String) {
                out.push('(');
                $($name::shape(out);)*
                out.push(')');
            }

            #[expect(non_snake_case, reason = "members have the names of their types")]
            fn put(&self, out: &mut Vec<u8>) {
                let ($($name,)*) = self;
                $($name.put(out);)*
            }

            fn take(input: &mut Input<'_>) -> Result<Self, Malformed> {
                Ok(($($name::take(input)?,)*))
            }
        }
    )*};
}
tuples! { A B; A B C; }

/// What is written as its items, in order.
macro_rules! lists {
    ($(($($generic:tt)*) $list:ty: $item:ty;)*) => {$(
        impl<$($generic)*> Form for $list {
            fn shape(out: &mut String) {
                out.push('*');
                <$item>::shape(out);
            }

            fn put(&self, out: &mut Vec<u8>) {
                put_length(self.len(), out);
                for item in self {
                    item.put(out);
                }
            }

            fn take(input: &mut Input<'_>) -> Result<Self, Malformed> {
                let length = input.length()?;
                (0..length).map(|_| <$item>::take(input)).collect()
            }
        }
    )*};
}
lists! {
    (T: Form) Vec<T>: T;
    (T: Form + Ord) BTreeSet<T>: T;
}

impl<K: Form + Ord, V: Form> Form for BTreeMap<K, V> {
    fn shape(out: &mut String) {
        out.push('*');
        <(K, V)>::shape(out);
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        for (key, value) in self {
            key.put(out);
            value.put(out);
        }
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Malformed> {
        let length = input.length()?;
        (0..length).map(|_| Form::take(input)).collect()
    }
}

/// Structs, by their members. What is not written is made anew.
macro_rules! structs {
    ($($name:ident { $($field:ident)* } $(but { $($left:ident: $new:expr),* })?;)*) => {$(
        impl Form for $name {
            fn shape(out: &mut String) {
                out.push_str(concat!(stringify!($name), "{"));
                $(
                    out.push_str(concat!(stringify!($field), ":"));
                    shape_of(|it: &Self| Some(&it.$field), out);
                    out.push(' ');
                )*
                out.push('}');
            }

            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field,)* $($($left: _,)*)? } = self;
                $($field.put(out);)*
            }

            fn take(input: &mut Input<'_>) -> Result<Self, Malformed> {
                Ok(Self { $($field: Form::take(input)?,)* $($($left: $new,)*)? })
            }
        }
    )*};
}
pub(crate) use structs;

/// Enums: of each variant a number that stays its own, and its members.
macro_rules! enums {
    ($($name:ident { $($number:literal $variant:ident $(($inner:ident))? $({ $($field:ident)* })?,)* })*) => {$(
        impl Form for $name {
            fn shape(out: &mut String) {
                out.push_str(concat!(stringify!($name), "<"));
                $(
                    out.push_str(concat!(stringify!($number), stringify!($variant), " "));
                    $(
                        shape_of(
                            |it: &Self| match it { Self::$variant($inner) => Some($inner), _ => None },
                            out,
                        );
                    )?
                    $($(
                        out.push_str(concat!(stringify!($field), ":"));
                        shape_of(
                            |it: &Self| match it {
                                Self::$variant { $field, .. } => Some($field),
                                _ => None,
                            },
                            out,
                        );
                        out.push(' ');
                    )*)?
                )*
                out.push('>');
            }

            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $(($inner))? $({ $($field),* })? => {
                        out.push($number);
                        $($inner.put(out);)?
                        $($($field.put(out);)*)?
                    })*
                }
            }

            fn take(input: &mut Input<'_>) -> Result<Self, Malformed> {
                match u8::take(input)? {
                    $($number => {
                        $(let $inner = Form::take(input)?;)?
                        $($(let $field = Form::take(input)?;)*)?
                        Ok(Self::$variant $(($inner))? $({ $($field),* })?)
                    })*
                    _ => Err(Malformed),
                }
            }
        }
    )*};
}
pub(crate) use enums;
