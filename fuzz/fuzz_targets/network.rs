//! Any JSON: an error or a network whose sizes have been checked, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(network) = wgrad::book::nn::Network::from_json(text) {
        let _ = network.check();
    }
});
