//! The strings and numbers of a JSON document, where they stand and under which names.
//!
//! The gateway has parsed the document strictly before it is inspected. This pass only finds what can
//! be masked without touching anything else; what it does not understand it refuses, and the document
//! is then treated as text.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use vocab::limits;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The name of a member.
    Name,
    /// A string that is a value.
    String,
    Number,
}

/// A string without its quotes, or a number.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) span: Range<usize>,
    /// The names on the way to it, in one number; elements of an array share theirs.
    pub(crate) path: u64,
}

/// What is around a value.
enum Around {
    Object { path: u64, name: Option<u64> },
    Array { path: u64 },
}

/// Calls `each` for every token, in order. Gives the offset of what is no JSON.
pub(crate) fn tokens(bytes: &[u8], mut each: impl FnMut(Token)) -> Result<(), usize> {
    let mut around: Vec<Around> = Vec::new();
    let mut at = 0;
    let mut values = 0_usize;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let end = string_end(bytes, at + 1).ok_or(at)?;
                let span = at + 1..end;
                let is_name = matches!(around.last(), Some(Around::Object { name: None, .. }));
                let path = match around.last_mut() {
                    Some(Around::Object { path, name }) => *name.get_or_insert_with(|| {
                        joined(*path, bytes.get(span.clone()).unwrap_or_default())
                    }),
                    Some(Around::Array { path }) => *path,
                    None => 0,
                };
                let kind = if is_name { Kind::Name } else { Kind::String };
                values += usize::from(!is_name);
                each(Token { kind, span, path });
                at = end + 1;
            }
            b'{' | b'[' => {
                if around.len() >= limits::JSON_DEPTH_MAX {
                    return Err(at);
                }
                let path = path(&around);
                around.push(if *byte == b'{' {
                    Around::Object { path, name: None }
                } else {
                    Around::Array { path }
                });
                values += 1;
                at += 1;
            }
            b'}' => {
                if !matches!(around.pop(), Some(Around::Object { .. })) {
                    return Err(at);
                }
                at += 1;
            }
            b']' => {
                if !matches!(around.pop(), Some(Around::Array { .. })) {
                    return Err(at);
                }
                at += 1;
            }
            b',' => {
                match around.last_mut() {
                    Some(Around::Object { name, .. }) => *name = None,
                    Some(Around::Array { .. }) => {}
                    None => return Err(at),
                }
                at += 1;
            }
            b':' | b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b'-' | b'0'..=b'9' => {
                let rest = bytes.get(at..).unwrap_or_default();
                let len = rest
                    .iter()
                    .position(|byte| {
                        !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')
                    })
                    .unwrap_or(rest.len());
                each(Token {
                    kind: Kind::Number,
                    span: at..at + len,
                    path: path(&around),
                });
                values += 1;
                at += len;
            }
            b't' | b'f' | b'n' => {
                let rest = bytes.get(at..).unwrap_or_default();
                let word = [&b"true"[..], b"false", b"null"]
                    .into_iter()
                    .find(|word| rest.starts_with(word))
                    .ok_or(at)?;
                values += 1;
                at += word.len();
            }
            _ => return Err(at),
        }
    }
    if around.is_empty() && values > 0 {
        Ok(())
    } else {
        Err(bytes.len())
    }
}

/// Every token, or the offset of what is no JSON.
pub(crate) fn all(bytes: &[u8]) -> Result<Vec<Token>, usize> {
    let mut all = Vec::new();
    tokens(bytes, |token| all.push(token))?;
    Ok(all)
}

fn path(around: &[Around]) -> u64 {
    match around.last() {
        Some(Around::Object { path, name }) => name.unwrap_or(*path),
        Some(Around::Array { path }) => *path,
        None => 0,
    }
}

fn joined(path: u64, name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, name).hash(&mut hasher);
    hasher.finish()
}

/// Where the string ends whose inside begins at `at`. A raw control character is no JSON.
fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let rest = bytes.get(at..)?;
        let found = memchr::memchr2(b'"', b'\\', rest)?;
        match rest.get(found) {
            Some(b'"') => return Some(at + found),
            _ => at += found + 2,
        }
    }
}

#[cfg(test)]
mod tests;
