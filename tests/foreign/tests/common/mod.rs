//! The devices that are tested on.

use wgrad::exec::{Choice, Device};

/// The CPU, and a GPU where an adapter opens. `WGRAD_REQUIRE_GPU` makes its absence a failure.
pub fn devices() -> Vec<Device> {
    let cpu = Device::open(Choice::Cpu).unwrap();
    let gpu = match Device::open(Choice::Gpu) {
        Ok(gpu) => Some(gpu),
        Err(e) if std::env::var_os("WGRAD_REQUIRE_GPU").is_some() => {
            panic!("WGRAD_REQUIRE_GPU is set and no adapter opens: {e}")
        }
        Err(_) => None,
    };
    std::iter::once(cpu).chain(gpu).collect()
}
