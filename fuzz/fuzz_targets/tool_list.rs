//! `bodies::tool_list` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bodies::tool_list(data);
});
