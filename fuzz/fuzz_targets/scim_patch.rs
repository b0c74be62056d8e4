//! `bodies::scim_patch` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bodies::scim_patch(data);
});
