//! A network of this crate's op, expressions, loss and rule learns, on the CPU and on a GPU, and
//! comes to the same bits when it is trained again.

mod common;

use common::devices;
use foreign::memory::train;

#[test]
fn a_network_learns_to_remember() {
    const STEPS: u64 = 200;
    for device in devices() {
        let name = &device.info().name;
        let outcome = train(&device, 1, STEPS).unwrap();
        println!("{name}: {} to {}", outcome.before, outcome.after);
        assert!(outcome.before > 0.05, "{name}: {}", outcome.before);
        assert!(outcome.after < 0.002, "{name}: {}", outcome.after);
        assert_eq!(train(&device, 1, STEPS).unwrap(), outcome, "{name}");
        // Other weights to begin with.
        let other = train(&device, 2, 1).unwrap();
        assert_ne!(other.before, outcome.before, "{name}");
    }
}
