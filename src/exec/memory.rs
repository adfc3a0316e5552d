//! Whether a plan fits into the machine's own memory.
//!
//! Linux hands out more memory than there is and kills whoever uses it, so a plan that is
//! too large must be found before it is allocated. Elsewhere nothing is known and nothing
//! refused.

use crate::error::{Error, Result};
use crate::plan::Plan;

/// Free memory in bytes, where the system tells.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

/// Refuses a plan that is larger than the free memory.
pub(super) fn check(plan: &Plan) -> Result<()> {
    let account = plan.account();
    let wanted = account.state_bytes.saturating_add(account.temporary_bytes);
    match available() {
        Some(free) if wanted > free => {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            Err(Error::Adapter {
                found: format!("{:.1} GiB of free memory", gib(free)),
                wanted: format!("{:.1} GiB for the plan", gib(wanted)),
                fix: "Use fewer replicas, a smaller batch or a smaller network.".into(),
            })
        }
        _ => Ok(()),
    }
}
