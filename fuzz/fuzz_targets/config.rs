//! Any text: an error or a configuration, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = wgrad::book::train::Config::parse(text);
});
