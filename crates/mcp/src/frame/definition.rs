//! The one text of a tool's definition.
//!
//! Two definitions that a reader takes for the same have the same text: members in the order of their
//! names, strings in their shortest form, numbers as they are written, no space between. What only we
//! may write is left out, since it is taken out of what passes.

use super::is_own;
use super::splice::DATA;
use crate::json::{Kind, Raw, Value};

/// The canonical text of a tool's definition: all of it, whoever it is for.
pub fn definition(tool: Value<'_>) -> String {
    let mut out = String::with_capacity(tool.text().len());
    write(tool, true, &mut out);
    out
}

/// The nesting is that of a document that was parsed, and so is bounded.
fn write(value: Value<'_>, speaks: bool, out: &mut String) {
    match value.kind() {
        Kind::Object => {
            let mut members: Vec<_> = value
                .members()
                .map(|member| (member.name(), member.value))
                .filter(|(name, _)| !(speaks && is_own(name)))
                .collect();
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            out.push('{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(Raw::string(&name).as_str());
                out.push(':');
                write(value, speaks && !DATA.contains(&&*name), out);
            }
            out.push('}');
        }
        Kind::Array => {
            out.push('[');
            for (at, element) in value.elements().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(element, speaks, out);
            }
            out.push(']');
        }
        Kind::String => match value.as_str() {
            Some(text) => out.push_str(Raw::string(&text).as_str()),
            None => out.push_str(value.text()),
        },
        Kind::Null | Kind::Bool | Kind::Number => out.push_str(value.text()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::definition;
    use crate::json::Json;

    fn check(given: &str, expected: &str) {
        let json = Json::parse(Bytes::copy_from_slice(given.as_bytes())).unwrap();
        let text = definition(json.root());
        assert_eq!(text, expected, "{given}");
        let again = Json::parse(Bytes::from(text.clone())).unwrap();
        assert_eq!(
            definition(again.root()),
            text,
            "it is its own canonical text"
        );
    }

    #[test]
    fn definitions_that_read_the_same_have_one_text() {
        let one = r#"{"description":"d","inputSchema":{"a":1,"type":"object"},"name":"x"}"#;
        check(one, one);
        check(
            "{ \"name\":\"\\u0078\",\n \"inputSchema\": {\"type\":\"object\", \"a\":1},\"description\":\"d\"}",
            one,
        );
        // A number is not read, so nothing is lost of it.
        check(
            r#"{"a":1.0,"b":1,"c":1e400}"#,
            r#"{"a":1.0,"b":1,"c":1e400}"#,
        );
        // The order of an array is said.
        check(r#"{"required":["b","a"]}"#, r#"{"required":["b","a"]}"#);
        // What cannot be seen is there.
        check("{\"d\":\"a\u{200b}b\\n\"}", "{\"d\":\"a\u{200b}b\\n\"}");
    }

    #[test]
    fn what_only_we_may_write_is_no_part_of_it_but_in_a_schema() {
        check(
            r#"{"dev.tipstaff/pin":{"state":"accepted"},"_meta":{"Dev.Tipstaff/x":1,"y":2},"inputSchema":{"properties":{"dev.tipstaff/z":{}}},"name":"x"}"#,
            r#"{"_meta":{"y":2},"inputSchema":{"properties":{"dev.tipstaff/z":{}}},"name":"x"}"#,
        );
    }
}
