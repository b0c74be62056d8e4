//! The JSON of a JOSE header, a claim set or a JWK, read strictly.
//!
//! Two readers that keep different ones of two members with the same name can be played against
//! each other, so a repeated name is refused at every depth, also when it differs only in case.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Most members one object may have. Keeps the search for repeated names short.
const MEMBERS_MAX: usize = 64;
/// Latest second that is believed to be a time: 9999-12-31T23:59:59Z.
const SECONDS_MAX: u64 = 253_402_300_799;

/// Why a text is not the JSON object it was meant to be. Never quotes the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, a repeated member, or too many of them.
    #[error("it is not one JSON object whose members are all different")]
    Syntax,
    /// A member that must be there is not.
    #[error("the member `{0}` is missing")]
    Missing(&'static str),
    /// A member is of the wrong type.
    #[error("the member `{name}` is not {expected}")]
    Type {
        /// The member.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    /// `null`, `true` or `false`, which no claim that we read may be.
    Other,
    Number(serde_json::Number),
    Text(String),
    List(Vec<Self>),
    Object(Object),
}

/// A JSON object whose member names are all different.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Object(Vec<(String, Json)>);

impl Object {
    /// Reads one object and nothing after it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        match serde_json::from_slice(bytes) {
            Ok(Json::Object(object)) => Ok(object),
            Ok(_) | Err(_) => Err(JsonError::Syntax),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, v)| v)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A member that is a string, if it is there.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<&str>, JsonError> {
        match self.get(name) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(_) => Err(JsonError::Type {
                name,
                expected: "a string",
            }),
        }
    }

    /// A member that is an object, if it is there.
    pub(crate) fn object(&self, name: &'static str) -> Result<Option<&Self>, JsonError> {
        match self.get(name) {
            None => Ok(None),
            Some(Json::Object(object)) => Ok(Some(object)),
            Some(_) => Err(JsonError::Type {
                name,
                expected: "an object",
            }),
        }
    }

    /// A `NumericDate` (RFC 7519 §2) in whole seconds, rounded down, if it is there.
    pub(crate) fn seconds(&self, name: &'static str) -> Result<Option<u64>, JsonError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let seconds = match value {
            Json::Number(number) => number.as_u64().or_else(|| {
                let seconds = number.as_f64().filter(|s| (0.0..1e12).contains(s))?;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "between 0 and 10^12; rounding down is what is asked for"
                )]
                Some(seconds as u64)
            }),
            Json::Other | Json::Text(_) | Json::List(_) | Json::Object(_) => None,
        };
        match seconds {
            Some(seconds) if seconds <= SECONDS_MAX => Ok(Some(seconds)),
            Some(_) | None => Err(JsonError::Type {
                name,
                expected: "a time in seconds since 1970",
            }),
        }
    }

    pub(crate) fn required_text(&self, name: &'static str) -> Result<&str, JsonError> {
        self.text(name)?.ok_or(JsonError::Missing(name))
    }

    pub(crate) fn required_seconds(&self, name: &'static str) -> Result<u64, JsonError> {
        self.seconds(name)?.ok_or(JsonError::Missing(name))
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Strict)
    }
}

struct Strict;

impl<'de> Visitor<'de> for Strict {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(serde_json::Number::from_f64(number).map_or(Json::Other, Json::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element()? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::with_capacity(8);
        while let Some(name) = map.next_key::<String>()? {
            if members
                .iter()
                .any(|(seen, _)| seen.eq_ignore_ascii_case(&name))
            {
                return Err(de::Error::custom("a member is repeated"));
            }
            if members.len() == MEMBERS_MAX {
                return Err(de::Error::custom("too many members"));
            }
            members.push((name, map.next_value()?));
        }
        Ok(Json::Object(Object(members)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repeated_names_are_refused_at_every_depth() {
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"A":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[{"b":1,"B":2}]}"#,
            r#"{"a":1} "#.trim_end().repeat(2).as_str(),
            "[]",
            "1",
            "",
            "{",
            r#"{"a":1}x"#,
            &format!("{}1{}", r#"{"a":"#.repeat(500), "}".repeat(500)),
            &format!(
                "{{{}}}",
                (0..=MEMBERS_MAX)
                    .map(|i| format!("\"m{i}\":0"))
                    .collect::<Vec<_>>()
                    .join(",")
            ),
        ] {
            assert_eq!(
                Object::parse(bad.as_bytes()),
                Err(JsonError::Syntax),
                "{bad}"
            );
        }
        assert!(Object::parse(b"{\"a\":\"\xff\"}").is_err());
        let most = (0..MEMBERS_MAX)
            .map(|i| format!("\"m{i}\":0"))
            .collect::<Vec<_>>()
            .join(",");
        assert!(Object::parse(format!("{{{most}}}").as_bytes()).is_ok());
    }

    #[test]
    fn times_are_whole_seconds() {
        let check = |text: &str, expected: Option<u64>| {
            let object = Object::parse(format!(r#"{{"t":{text}}}"#).as_bytes()).unwrap();
            assert_eq!(object.seconds("t").ok().flatten(), expected, "{text}");
        };
        check("0", Some(0));
        check("1795254662", Some(1_795_254_662));
        check("1795254662.9", Some(1_795_254_662));
        check("1.5e9", Some(1_500_000_000));
        check("253402300799", Some(SECONDS_MAX));
        check("253402300800", None);
        check("18446744073709551615", None);
        check("1e300", None);
        check("-1", None);
        check("-0.5", None);
        check("\"1\"", None);
        check("null", None);
        check("true", None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _read = Object::parse(&bytes);
        }

        #[test]
        fn no_json_like_text_panics(text in r#"[{}\[\]",:a-cA0-9.eE+\\u -]{0,200}"#) {
            let _read = Object::parse(text.as_bytes());
        }
    }
}
