//! `bodies::tlog_proof` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bodies::tlog_proof(data);
});
