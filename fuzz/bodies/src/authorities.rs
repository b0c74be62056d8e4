//! Authority: what agents ask for when they hand on a part of theirs.

use serde_json::value::RawValue;
use vocab::Authority;
use vocab::authority::CallArguments;

use crate::{text, two_parts};

/// Two authorities and arguments, a line each. What is read is written as it is read again; and
/// where the second is within the first, it permits no call that the first does not.
pub fn authority(data: &[u8]) -> bool {
    let (outer, rest) = two_parts(data);
    let (inner, args) = two_parts(rest);
    let Some(outer) = read(outer) else {
        return false;
    };
    if let (Some(inner), Some(args)) = (read(inner), text(args).and_then(arguments))
        && inner.is_within(&outer, "the outer one").is_ok()
    {
        let args = CallArguments::new(&args);
        for detail in inner.details() {
            let name = detail.identifier().as_str().replace('*', "x");
            let Ok(tool) = name.parse() else { continue };
            for upstream in detail.locations() {
                assert!(
                    inner.permits(upstream, &tool, &args).is_none()
                        || outer.permits(upstream, &tool, &args).is_some()
                );
            }
        }
    }
    true
}

fn read(data: &[u8]) -> Option<Authority> {
    let authority = Authority::parse(text(data)?, |name| name.parse().ok()).ok()?;
    let written = authority.to_json(ToString::to_string);
    let again = Authority::parse(written.get(), |name| name.parse().ok());
    assert_eq!(again.as_ref(), Ok(&authority));
    Some(authority)
}

fn arguments(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.to_owned()).ok()
}
