//! `bodies::scim_filter` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bodies::scim_filter(data);
});
