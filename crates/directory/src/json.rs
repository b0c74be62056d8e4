//! JSON that a directory or a transmitter wrote, read strictly: a repeated member is refused at
//! every depth, also when it differs only in case. SCIM names attributes in any case, so of
//! `{"active":false,"Active":true}` two readers could keep different ones.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Most members one object may have. Keeps the search for repeated names short.
const MEMBERS_MAX: usize = 256;

/// Why bytes are not the JSON that they were meant to be. Never quotes them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not one JSON object whose members all have different names")]
pub struct JsonError;

/// Reads one object and nothing after it.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    match serde_json::from_slice::<Strict>(bytes) {
        Ok(Strict(Value::Object(object))) => Ok(object),
        Ok(_) | Err(_) => Err(JsonError),
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(value)) = seq.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if members.keys().any(|seen| seen.eq_ignore_ascii_case(&name)) {
                return Err(de::Error::custom("a member is repeated"));
            }
            if members.len() == MEMBERS_MAX {
                return Err(de::Error::custom("too many members"));
            }
            let Strict(value) = map.next_value()?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

/// A member, by its name in any case.
pub fn member<'v>(object: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    object
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repeated_names_are_refused_at_every_depth() {
        for bad in [
            r#"{"active":false,"active":true}"#,
            r#"{"active":false,"Active":true}"#,
            r#"{"a":{"b":1,"\u0042":2}}"#,
            r#"{"a":[{"b":1,"B":2}]}"#,
            r#"{"a":1}{"a":1}"#,
            "[]",
            "",
            "{\"a\":\"\u{0}\"}",
            &format!("{}1{}", r#"{"a":"#.repeat(500), "}".repeat(500)),
        ] {
            assert_eq!(object(bad.as_bytes()), Err(JsonError), "{bad}");
        }
        let members = |count: usize| {
            let members: Vec<String> = (0..count).map(|i| format!("\"m{i}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(object(members(MEMBERS_MAX).as_bytes()).is_ok());
        assert!(object(members(MEMBERS_MAX + 1).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_taken_is_read_as_others_read_it(text in r#"[{}\[\]",:a-cA0-9.eE+\\u -]{0,200}"#) {
            if let Ok(read) = object(text.as_bytes()) {
                prop_assert_eq!(Value::Object(read), serde_json::from_str::<Value>(&text).unwrap());
            }
        }
    }
}
