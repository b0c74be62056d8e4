//! What is held of every parser that strangers, upstreams or files feed, whatever the bytes.
//!
//! A body takes bytes, gives them to one parser, and asserts what must hold: that it returns, that
//! what was taken is written again as it was read, that nobody's word but the signer's is believed,
//! that what policy permitted is what the policy says. It gives back whether the bytes were taken,
//! so that a seed that no longer reaches a parser's depth is noticed.
//!
//! Both the fuzzer (`fuzz/fuzz_targets`) and a plain test (`smoke`, part of
//! `cargo xtask test`) run the bodies. They are a crate of the workspace so that the test is built
//! with everything else; libFuzzer, its licence and its nightly flags stay outside. Nothing here is
//! part of the product, and nothing here does IO.

mod authorities;
mod events;
mod inspected;
mod ledger_files;
mod messages;
mod names;
mod policies;
mod provisioned;
mod settings;
#[cfg(test)]
mod smoke;
mod tokens_read;

pub use authorities::authority;
pub use events::event;
pub use inspected::{inspect, inspect_rules, mask};
pub use ledger_files::{
    checkpoint, cosignature, entry, note, proof, submission, tile, tlog_proof, witness,
};
pub use messages::{access_request, check, frame, headers, hosts, json, sse, translate, upstream};
pub use names::names;
pub use policies::{cases, decide, policy_set, tool_list};
pub use provisioned::{scim_filter, scim_patch, security_event};
pub use settings::config;
pub use tokens_read::{client, foreign, keys, openbao_answer, token, token_answer, token_request};

/// A body: whether its parser took the bytes.
pub type Body = fn(&[u8]) -> bool;

/// Every body, by the name of its fuzz target and of its folder of seeds.
pub const BODIES: &[(&str, Body)] = &[
    ("json", json),
    ("frame", frame),
    ("sse", sse),
    ("headers", headers),
    ("hosts", hosts),
    ("check", check),
    ("access_request", access_request),
    ("translate", translate),
    ("upstream", upstream),
    ("entry", entry),
    ("event", event),
    ("note", note),
    ("checkpoint", checkpoint),
    ("cosignature", cosignature),
    ("tlog_proof", tlog_proof),
    ("proof", proof),
    ("witness", witness),
    ("submission", submission),
    ("tile", tile),
    ("token", token),
    ("token_request", token_request),
    ("token_answer", token_answer),
    ("openbao_answer", openbao_answer),
    ("foreign", foreign),
    ("client", client),
    ("keys", keys),
    ("tool_list", tool_list),
    ("policy_set", policy_set),
    ("cases", cases),
    ("decide", decide),
    ("names", names),
    ("authority", authority),
    ("config", config),
    ("inspect", inspect),
    ("inspect_rules", inspect_rules),
    ("mask", mask),
    ("scim_filter", scim_filter),
    ("scim_patch", scim_patch),
    ("security_event", security_event),
];

/// The bytes as text. What takes text is given text by its caller, who refuses the rest.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// The bytes before and behind the first line end: an input in two parts.
fn two_parts(data: &[u8]) -> (&[u8], &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n');
    let (first, rest) = data.split_at(at.unwrap_or(data.len()));
    (first, rest.get(1..).unwrap_or_default())
}
