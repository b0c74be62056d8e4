//! `bodies::policy_set` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bodies::policy_set(data);
});
