//! Inspection: what is looked into, the rules, and the masks.

use std::sync::LazyLock;

use bytes::Bytes;
use inspect::{Finding, Inspector, Mask, Rules, Stream, Uninspectable};
use mcp::Json;

use crate::{text, two_parts};

/// None where the rules that ship are not taken: then nothing is, and the seeds say so.
static INSPECTOR: LazyLock<Option<Inspector>> = LazyLock::new(|| Inspector::built_in().ok());

/// Every finding lies in what was looked into: as JSON, as text, or in two parts of a stream.
pub fn inspect(data: &[u8]) -> bool {
    let Some(inspector) = &*INSPECTOR else {
        return false;
    };
    let findings = inspector.inspect_json(data);
    within(&findings, data);
    let (first, second) = two_parts(data);
    let mut stream = Stream::new();
    within(&stream.event(inspector, first), first);
    within(&stream.chunk(inspector, second), second);
    within(&stream.event(inspector, second), second);
    within(&inspector.inspect_text(data), data);
    !findings.iter().any(is_no_json)
}

fn is_no_json(finding: &Finding) -> bool {
    finding.rule() == Uninspectable::Json.rule()
}

fn within<'f>(findings: impl IntoIterator<Item = &'f Finding>, data: &[u8]) {
    for finding in findings {
        let span = finding.span();
        assert!(span.start <= span.end && span.end <= data.len());
    }
}

/// Rules are taken or refused, in our shape or the other one; what is taken can be looked for.
pub fn inspect_rules(data: &[u8]) -> bool {
    let Some(rules) = text(data).and_then(|text| {
        let ours = Rules::parse(text);
        ours.or_else(|_| Rules::import(text).map(|it| it.rules))
            .ok()
    }) else {
        return false;
    };
    let inspector = Inspector::new(rules);
    assert!(inspector.is_ok(), "taken, but not to be used");
    if let Ok(inspector) = inspector {
        within(&inspector.inspect_json(data), data);
        within(&inspector.inspect_text(data), data);
    }
    true
}

/// A document is one still, whatever is masked in it, and what lies between masks is what was there.
pub fn mask(data: &[u8]) -> bool {
    let Some(inspector) = &*INSPECTOR else {
        return false;
    };
    let Ok(json) = Json::parse(Bytes::copy_from_slice(data)) else {
        return false;
    };
    let findings = inspector.inspect_json(json.bytes());
    let same = |value: &[u8]| [value.first().copied().unwrap_or_default(); 32];
    let anywhere = data.iter().take(32).map(|byte| {
        let start = usize::from(*byte) % data.len();
        let end = (start + usize::from(*byte) / 7).min(data.len());
        Uninspectable::ContentType.finding(start..end)
    });
    let anywhere: Vec<Finding> = anywhere.collect();
    for mask in [Mask::plain(), Mask::stable(&same)] {
        for chosen in [
            findings.iter().collect::<Vec<_>>(),
            anywhere.iter().collect(),
        ] {
            let masked = mask.json(data, chosen);
            let theirs = serde_json::from_slice::<&serde_json::value::RawValue>(&masked.bytes);
            assert!(theirs.is_ok(), "no document any more");
            let (mut before, mut after) = (0, 0);
            for placed in &masked.masks {
                assert_eq!(
                    data.get(before..placed.span.start),
                    masked.bytes.get(after..placed.mask.start)
                );
                (before, after) = (placed.span.end, placed.mask.end);
            }
            assert_eq!(data.get(before..), masked.bytes.get(after..));
        }
    }
    true
}
