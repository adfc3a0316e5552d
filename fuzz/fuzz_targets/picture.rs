//! Any bytes: an error or a value, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = wgrad::data::picture::parse_digit(std::path::Path::new("file"), data, 28, 28);
});
