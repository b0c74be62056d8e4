//! The body of a token request: `application/x-www-form-urlencoded`, read strictly.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use vocab::Secret;
use vocab::limits::{FORM_BYTES_MAX, FORM_PARAMETERS_MAX};

/// Why a body is not a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Too long.
    #[error("the form is {0} bytes long; at most {FORM_BYTES_MAX} are read")]
    TooLong(usize),
    /// Too many parameters.
    #[error("the form has more than {FORM_PARAMETERS_MAX} parameters")]
    TooMany,
    /// A `%` without two hex digits, or bytes that are not UTF-8.
    #[error("the form is not percent-encoded UTF-8")]
    Encoding,
    /// "Request and response parameters MUST NOT be included more than once" (RFC 6749 §3.2).
    #[error("a parameter is repeated")]
    Repeated,
}

/// The parameters of a form, each there once.
#[derive(Debug)]
pub(crate) struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Form<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, FormError> {
        if body.len() > FORM_BYTES_MAX {
            return Err(FormError::TooLong(body.len()));
        }
        let body = std::str::from_utf8(body).map_err(|_| FormError::Encoding)?;
        let mut parameters: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for pair in body.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if parameters.len() == FORM_PARAMETERS_MAX {
                return Err(FormError::TooMany);
            }
            if parameters.iter().any(|(seen, _)| *seen == name) {
                return Err(FormError::Repeated);
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// A parameter's value. "Parameters sent without a value MUST be treated as if they were
    /// omitted" (RFC 6749 §3.2).
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| &**value)
            .filter(|value| !value.is_empty())
    }
}

fn decode(text: &str) -> Result<Cow<'_, str>, FormError> {
    if !text.contains(['%', '+']) {
        return Ok(Cow::Borrowed(text));
    }
    let digit = |byte: Option<u8>| {
        byte.and_then(|byte| char::from(byte).to_digit(16))
            .and_then(|digit| u8::try_from(digit).ok())
            .ok_or(FormError::Encoding)
    };
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => digit(bytes.next())? << 4 | digit(bytes.next())?,
            other => other,
        });
    }
    String::from_utf8(out)
        .map(Cow::Owned)
        .map_err(|_| FormError::Encoding)
}

/// The parameters of a form or a query, each there once; none if it is not one.
pub fn read_form(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let form = Form::parse(bytes).ok()?;
    let owned =
        |(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into_owned(), value.into_owned());
    Some(form.0.into_iter().map(owned).collect())
}

/// Writes a form.
pub fn encode(parameters: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in parameters {
        if !out.is_empty() {
            out.push('&');
        }
        escape(name, &mut out);
        out.push('=');
        escape(value, &mut out);
    }
    out
}

/// What a client with a secret says of itself in `Authorization: Basic` (RFC 6749 §2.3.1): both are
/// encoded as in a form first.
pub fn basic(client_id: &str, secret: &Secret<String>) -> Secret<String> {
    let secret = Secret::new(escaped(secret.expose()));
    let pair = Secret::new(format!("{}:{}", escaped(client_id), secret.expose()));
    Secret::new(STANDARD.encode(pair.expose()))
}

/// A text as it stands in a form.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    escape(text, &mut out);
    out
}

fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.extend(char::from_digit(digit.into(), 16).map(|c| c.to_ascii_uppercase()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(body: &[u8], name: &str, expected: Result<Option<&str>, FormError>) {
        let form = Form::parse(body);
        let read = form
            .as_ref()
            .map(|form| form.get(name))
            .map_err(|error| *error);
        assert_eq!(read, expected, "{}", String::from_utf8_lossy(body));
    }

    #[test]
    fn forms_are_strict() {
        check(b"a=1&b=2", "b", Ok(Some("2")));
        check(b"a=x+y%2Fz%c3%a9", "a", Ok(Some("x y/z\u{e9}")));
        check(b"a=b=c", "a", Ok(Some("b=c")));
        check(b"a=&b", "a", Ok(None));
        check(b"a=&b", "b", Ok(None));
        check(b"&&a=1&", "a", Ok(Some("1")));
        check(b"", "a", Ok(None));
        check(b"a=1&a=1", "a", Err(FormError::Repeated));
        check(b"a=1&%61=2", "a", Err(FormError::Repeated));
        check(b"a=&a=1", "a", Err(FormError::Repeated));
        check(b"x=1&x=2&a=1", "a", Err(FormError::Repeated));
        check(b"a=%2", "a", Err(FormError::Encoding));
        check(b"a=%zz", "a", Err(FormError::Encoding));
        check(b"a=%+1", "a", Err(FormError::Encoding));
        check(b"a=%ff", "a", Err(FormError::Encoding));
        check(b"a=\xff", "a", Err(FormError::Encoding));
    }

    #[test]
    fn forms_have_limits() {
        let long = |length: usize| format!("a={}", "x".repeat(length - 2));
        assert!(Form::parse(long(FORM_BYTES_MAX).as_bytes()).is_ok());
        let error = Form::parse(long(FORM_BYTES_MAX + 1).as_bytes()).unwrap_err();
        assert_eq!(error, FormError::TooLong(FORM_BYTES_MAX + 1));
        let many = |count: usize| {
            (0..count)
                .map(|i| format!("p{i}=1"))
                .collect::<Vec<_>>()
                .join("&")
        };
        assert!(Form::parse(many(FORM_PARAMETERS_MAX).as_bytes()).is_ok());
        let error = Form::parse(many(FORM_PARAMETERS_MAX + 1).as_bytes()).unwrap_err();
        assert_eq!(error, FormError::TooMany);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body: Vec<u8>) {
            let _read = Form::parse(&body);
        }

        #[test]
        fn what_is_written_is_read(value in "\\PC{1,80}") {
            let body = encode(&[("a", "1"), ("v", &value)]);
            let form = Form::parse(body.as_bytes()).unwrap();
            prop_assert_eq!(form.get("v"), Some(&*value));
        }
    }
}
