//! Any bytes as an ONNX file: an error or a model, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(network) = wgrad::onnx::of_bytes(bytes) {
        let _ = wgrad::onnx::model(&network);
    }
});
