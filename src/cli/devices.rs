//! `wgrad devices`.

use wgrad::Result;
use wgrad::exec::devices;

use super::print;

/// Lists the adapters with their index.
pub fn run() -> Result<()> {
    let mut text = String::from("cpu  the CPU executor, always there\n");
    let all = devices()?;
    for (i, device) in all.iter().enumerate() {
        text += &format!(
            "{i:<4} {}; largest binding {} MiB\n",
            device.name,
            device.limits.binding_bytes >> 20
        );
    }
    if all.is_empty() {
        text += "no GPU adapter: a Vulkan, Metal or DX12 driver is needed\n";
    }
    print(&text)
}
