//! Every dependency's licence lets us ship it under Apache-2.0.

use serde_json::Value;

use super::{array, string};

#[cfg(test)]
mod tests;

const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
];

pub(super) fn check(metadata: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in array(metadata, "packages") {
        let name = string(package, "name").unwrap_or_default();
        match string(package, "license") {
            Some(licence) if permits(licence) => {}
            Some(licence) => wrong.push(format!("crate `{name}` is licensed `{licence}`")),
            None => wrong.push(format!("crate `{name}` names no licence")),
        }
    }
    wrong
}

/// Whether an SPDX expression can be met with allowed licences alone. What cannot be read is not met.
fn permits(expression: &str) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any(&mut rest) && rest.is_empty()
}

/// `all OR all …`; both sides are always read, so that the rest begins where the expression ends.
fn any(words: &mut &[&str]) -> bool {
    let mut met = all(words);
    while take(words, "OR") {
        met |= all(words);
    }
    met
}

/// `one AND one …`
fn all(words: &mut &[&str]) -> bool {
    let mut met = one(words);
    while take(words, "AND") {
        met &= one(words);
    }
    met
}

/// `( any )`, or a licence; an exception (`WITH`) only ever allows more.
fn one(words: &mut &[&str]) -> bool {
    if take(words, "(") {
        let met = any(words);
        return take(words, ")") && met;
    }
    let Some((licence, rest)) = words.split_first() else {
        return false;
    };
    *words = rest;
    if take(words, "WITH") {
        *words = words.get(1..).unwrap_or_default();
    }
    ALLOWED.contains(licence)
}

fn take(words: &mut &[&str], word: &str) -> bool {
    match words.split_first() {
        Some((first, rest)) if *first == word => {
            *words = rest;
            true
        }
        _ => false,
    }
}
