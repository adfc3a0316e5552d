//! Any bytes: an error or a value, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = wgrad::book::train::Model::from_bytes(std::path::Path::new("file"), data);
});
