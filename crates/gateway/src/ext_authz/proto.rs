//! The messages of `envoy.service.auth.v3.Authorization/Check`, as far as they are looked at.
//!
//! A few dozen fields of one call do not need a code generator. What is unknown is passed over, as
//! protobuf has it; what two readers could understand differently (a field that may stand once and
//! stands twice, a key twice in a map, a group) is refused.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Most headers of one request.
const HEADERS_MAX: usize = 256;
/// Most of what the proxy's own configuration says beside.
const EXTENSIONS_MAX: usize = 64;

/// Why bytes are not a `CheckRequest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtoError {
    /// They stop in the middle.
    #[error("the message ends too early")]
    End,
    /// A number that is too long.
    #[error("a number is too long")]
    Varint,
    /// No field has that number.
    #[error("a field's number is not one")]
    Field,
    /// A wire type that is not used, or not for this field.
    #[error("a field is not of its type")]
    Type,
    /// Not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// Something is there twice.
    #[error("something is there twice")]
    Twice,
    /// Too many headers.
    #[error("there are too many headers")]
    TooMany,
}

/// One field's value on the wire.
#[derive(Debug, Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Fixed,
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    fn bytes(self) -> Result<&'a [u8], ProtoError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed => Err(ProtoError::Type),
        }
    }

    fn number(self) -> Result<u64, ProtoError> {
        match self {
            Self::Varint(number) => Ok(number),
            Self::Fixed | Self::Bytes(_) => Err(ProtoError::Type),
        }
    }

    fn text(self) -> Result<&'a str, ProtoError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| ProtoError::Utf8)
    }
}

/// The fields of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, ProtoError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(ProtoError::End)?;
            self.0 = rest;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(ProtoError::Varint);
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtoError::Varint)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtoError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ProtoError::End)?;
        self.0 = rest;
        Ok(taken)
    }

    fn next(&mut self) -> Result<Option<(u64, Wire<'a>)>, ProtoError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = tag >> 3;
        if field == 0 || field >= 1 << 29 {
            return Err(ProtoError::Field);
        }
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Wire::Fixed
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ProtoError::End)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed
            }
            _ => return Err(ProtoError::Type),
        };
        Ok(Some((field, wire)))
    }
}

/// What may stand once.
fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), ProtoError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ProtoError::Twice),
    }
}

/// A request that a proxy asks about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Check<'a> {
    pub(crate) id: Option<&'a str>,
    pub(crate) method: Option<&'a str>,
    /// With the query.
    pub(crate) path: Option<&'a str>,
    /// Beside it: proxies have both in the path, and leave these empty.
    pub(crate) query: Option<&'a str>,
    pub(crate) fragment: Option<&'a str>,
    /// How long the body is said to be; -1 where that is not known.
    pub(crate) size: Option<i64>,
    pub(crate) headers: Vec<(&'a str, &'a [u8])>,
    pub(crate) body: Option<&'a [u8]>,
    /// What the proxy's own configuration says beside.
    pub(crate) extensions: Vec<(&'a str, &'a str)>,
}

impl<'a> Check<'a> {
    /// Reads a `CheckRequest`.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, ProtoError> {
        let mut check = Self::default();
        let mut attributes = None;
        let mut fields = Fields(bytes);
        while let Some((field, wire)) = fields.next()? {
            if field == 1 {
                once(&mut attributes, wire.bytes()?)?;
            }
        }
        let mut request = None;
        let mut fields = Fields(attributes.unwrap_or_default());
        while let Some((field, wire)) = fields.next()? {
            match field {
                4 => once(&mut request, wire.bytes()?)?,
                10 => check.extend(wire.bytes()?)?,
                _ => {}
            }
        }
        let mut http = None;
        let mut fields = Fields(request.unwrap_or_default());
        while let Some((field, wire)) = fields.next()? {
            if field == 2 {
                once(&mut http, wire.bytes()?)?;
            }
        }
        check.http(http.unwrap_or_default())?;
        Ok(check)
    }

    fn http(&mut self, bytes: &'a [u8]) -> Result<(), ProtoError> {
        let (mut mapped, mut listed) = (Vec::new(), Vec::new());
        let mut fields = Fields(bytes);
        while let Some((field, wire)) = fields.next()? {
            match field {
                1 => once(&mut self.id, wire.text()?)?,
                2 => once(&mut self.method, wire.text()?)?,
                3 => {
                    let (name, value) = entry(wire.bytes()?)?;
                    if mapped.iter().any(|(known, _)| *known == name) {
                        return Err(ProtoError::Twice);
                    }
                    mapped.push((name, value));
                }
                4 => once(&mut self.path, wire.text()?)?,
                7 => once(&mut self.query, wire.text()?)?,
                8 => once(&mut self.fragment, wire.text()?)?,
                9 => once(&mut self.size, wire.number()?.cast_signed())?,
                // As text or as bytes; an empty one is none.
                11 => {
                    let body = wire.text()?.as_bytes();
                    if !body.is_empty() {
                        once(&mut self.body, body)?;
                    }
                }
                12 => {
                    let body = wire.bytes()?;
                    if !body.is_empty() {
                        once(&mut self.body, body)?;
                    }
                }
                13 => {
                    let mut list = Fields(wire.bytes()?);
                    while let Some((field, wire)) = list.next()? {
                        if field == 1 {
                            listed.push(header(wire.bytes()?)?);
                        }
                        if listed.len() > HEADERS_MAX {
                            return Err(ProtoError::TooMany);
                        }
                    }
                }
                _ => {}
            }
            if mapped.len() > HEADERS_MAX {
                return Err(ProtoError::TooMany);
            }
        }
        // In one form or in the other.
        self.headers = match (mapped.is_empty(), listed.is_empty()) {
            (_, true) => mapped,
            (true, false) => listed,
            (false, false) => return Err(ProtoError::Twice),
        };
        Ok(())
    }

    fn extend(&mut self, bytes: &'a [u8]) -> Result<(), ProtoError> {
        let (name, value) = entry(bytes)?;
        let value = std::str::from_utf8(value).map_err(|_| ProtoError::Utf8)?;
        if self.extensions.iter().any(|(known, _)| *known == name) {
            return Err(ProtoError::Twice);
        }
        self.extensions.push((name, value));
        if self.extensions.len() > EXTENSIONS_MAX {
            return Err(ProtoError::TooMany);
        }
        Ok(())
    }

    /// What the proxy's configuration says under a name.
    pub(crate) fn extension(&self, name: &str) -> Option<&'a str> {
        let found = self.extensions.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value)
    }
}

/// An entry of a map from text to text.
fn entry(bytes: &[u8]) -> Result<(&str, &[u8]), ProtoError> {
    let (mut name, mut value) = (None, None);
    let mut fields = Fields(bytes);
    while let Some((field, wire)) = fields.next()? {
        match field {
            1 => once(&mut name, wire.text()?)?,
            2 => once(&mut value, wire.bytes()?)?,
            _ => {}
        }
    }
    Ok((name.unwrap_or_default(), value.unwrap_or_default()))
}

/// A `HeaderValue`: its value is text or bytes.
fn header(bytes: &[u8]) -> Result<(&str, &[u8]), ProtoError> {
    let (mut name, mut value) = (None, None);
    let mut fields = Fields(bytes);
    while let Some((field, wire)) = fields.next()? {
        match field {
            1 => once(&mut name, wire.text()?)?,
            2 | 3 => {
                let bytes = wire.bytes()?;
                if !bytes.is_empty() {
                    once(&mut value, bytes)?;
                }
            }
            _ => {}
        }
    }
    Ok((name.unwrap_or_default(), value.unwrap_or_default()))
}

/// A message that is being written.
#[derive(Debug, Default)]
struct Message(BytesMut);

impl Message {
    fn varint(&mut self, mut value: u64) {
        loop {
            let part = (value & 0x7f) as u8;
            value >>= 7;
            if value == 0 {
                self.0.put_u8(part);
                return;
            }
            self.0.put_u8(part | 0x80);
        }
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.put_slice(value);
        self
    }

    fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }
}

/// `google.rpc.Code.PERMISSION_DENIED`.
const PERMISSION_DENIED: u64 = 7;

/// A `CheckResponse` that lets a request through, without these headers.
pub(crate) fn allowed(without: &[&str]) -> Bytes {
    let ok = without
        .iter()
        .fold(Message::default(), |ok, name| ok.bytes(5, name.as_bytes()));
    // `OK` is 0, which is written as nothing.
    let status = Message::default();
    Message::default()
        .message(1, &status)
        .message(3, &ok)
        .0
        .freeze()
}

/// A `CheckResponse` that refuses a request with this answer.
pub(crate) fn denied(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Bytes {
    let answer = Message::default().message(1, &Message::default().number(1, status.into()));
    let answer = headers.iter().fold(answer, |answer, (name, value)| {
        let header = Message::default()
            .bytes(1, name.as_bytes())
            .bytes(2, value.as_bytes());
        answer.message(2, &Message::default().message(1, &header))
    });
    let answer = answer.bytes(3, body);
    Message::default()
        .message(1, &Message::default().number(1, PERMISSION_DENIED))
        .message(2, &answer)
        .0
        .freeze()
}

/// Reads anything, and says whether it is taken: for the fuzzer. What is taken is within the bytes
/// and within the limits, and the same when it is read again.
pub fn reads(bytes: &[u8]) -> bool {
    let Ok(check) = Check::parse(bytes) else {
        return false;
    };
    let within = |part: &[u8]| part.is_empty() || bytes.windows(part.len()).any(|it| it == part);
    assert!(check.headers.len() <= HEADERS_MAX && check.extensions.len() <= EXTENSIONS_MAX);
    assert!(
        check
            .body
            .is_none_or(|body| !body.is_empty() && within(body))
    );
    assert_eq!(Check::parse(bytes), Ok(check));
    true
}

#[cfg(test)]
mod tests;
