//! What passes is looked into here: secrets, personal data, hidden text, attempts at injection, and
//! what encodings keep from sight.
//!
//! An [`Inspector`] is made once from [`Rules`] and gives [`Findings`]: where in the bytes something
//! stands, by which rule, how surely, and never the value. A [`Mask`] takes chosen findings out of the
//! bytes and leaves all others as they are. What cannot be looked into is a finding like any other.
//!
//! This crate must never decide: whether a finding matters is policy's to say. It does no IO, keeps
//! nothing, and takes time that is linear in what it is given: expressions cannot run back, and depth,
//! decoding and findings are bounded.

mod decode;
mod finding;
mod hidden;
mod inspector;
mod lexer;
mod mask;
mod names;
mod personal;
mod rules;
mod stream;
mod view;

pub use finding::{Class, Confidence, Encoding, Finding, Findings, Uninspectable};
pub use inspector::Inspector;
pub use mask::{KeyedHash, Mask, Masked, Placed};
pub use names::{Likeness, LookAlike, look_alikes};
pub use rules::{Imported, LeftOut, Rule, RuleError, Rules};
pub use stream::Stream;

#[cfg(test)]
mod tests;
