//! See the target of the same name in `src/targets.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::libfuzzer("rtc_rtp", data));
