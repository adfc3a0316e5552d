//! What the integration tests share.
#![allow(dead_code)]

use wgrad::exec::{Choice, Device};
use wgrad::fit::{Callback, Control, Epoch};

pub mod fixtures;
pub mod nonfinite;
pub mod weights;

#[allow(unused_imports)]
pub use wgrad::doctor::harness::words;

/// Notes how many comparisons a test has made, each of one tensor on one executor; `tests/total.rs`
/// adds them up.
pub fn note(test: &str, comparisons: usize) {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("comparisons");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(test), comparisons.to_string()).unwrap();
}

/// [`gpu`], with bounds checks in its shaders: for kernels that are broken on purpose.
pub fn checked_gpu() -> Option<Device> {
    match gpu()? {
        Device::Gpu(opened) => Some(Device::Gpu(opened.with_checks())),
        cpu => Some(cpu),
    }
}

/// The GPU in mixed precision, where its matrix units are such as kernels are made for.
pub fn mixed_gpu() -> Option<Device> {
    Device::open_mixed(Choice::Gpu).ok()
}

/// The GPU to test on. Without one the GPU half of the tests is skipped, unless
/// `WGRAD_REQUIRE_GPU` is set: then its absence is a failure.
pub fn gpu() -> Option<Device> {
    match Device::open(Choice::Gpu) {
        Ok(device) => Some(device),
        Err(e) if std::env::var_os("WGRAD_REQUIRE_GPU").is_some() => {
            panic!("WGRAD_REQUIRE_GPU is set and no adapter opens: {e}")
        }
        Err(_) => None,
    }
}

/// Ends a run by an error after an epoch, as a power cut would: what an epoch before it wrote stays.
#[derive(Debug)]
pub struct Kill(pub usize);

impl Callback for Kill {
    fn epoch(&mut self, epoch: &Epoch, _: &mut Control<'_>) -> wgrad::Result<()> {
        match epoch.epoch == self.0 {
            true => Err(wgrad::Error::setting("power", "cut", "none")),
            false => Ok(()),
        }
    }
}
