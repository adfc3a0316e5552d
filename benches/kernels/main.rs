//! Every kernel of interest by itself: microseconds per launch, GFLOP/s and GB/s, and how
//! much of the device's ceiling that is.
//!
//! ```text
//! cargo bench --bench kernels              # the CPU, then a GPU if one opens
//! cargo bench --bench kernels -- conv2d    # labels that contain `conv2d`
//! ```
//!
//! Work and bytes are the plan's account: each binding read or written once. The ceilings are
//! measured too: FLOP/s of whatever reaches most, three square products always among them,
//! and bytes/s of a `scale` from 64 MiB to 64 MiB. `ceiling` is the least time that work and
//! bytes would take at these rates, over the time taken; what lives in a cache may be above
//! 100 %. Gather's tables are bound whole and read in a few places, so it has no bytes/s.
//!
//! What a GPU can do in several variants is timed in each; the plan's choice comes first.
//!
//! The launches of a measurement are handed over together and waited for once, which is
//! what they cost within a training step; a frame that times call by call would measure the
//! wait. Hence a clock of our own.

use std::time::Instant;

use wgrad::Result;
use wgrad::doctor::harness::{Prepared, inputs};
use wgrad::exec::{Choice, Device};
use wgrad::ops::Case;
use wgrad::plan::Plan;

mod cases;

use cases::name;

/// Timed rounds, of which the median counts, and about how many seconds each takes.
const ROUNDS: usize = 5;
const ROUND: f64 = 0.04;

/// Operations, bytes and seconds of one launch, in the variant of `plan`. `trial`: run once.
fn time(
    (case, prepared): (&Case, &Prepared),
    plan: Plan,
    device: &Device,
    trial: bool,
) -> Result<[f64; 3]> {
    let account = plan.account().programs["run"].clone();
    let mut session = prepared.session(device.executor(plan)?)?;
    prepared.write(&mut session, &inputs(case, 1))?;
    let mut run = |times: f64| -> Result<f64> {
        let (times, begun) = (times as u64, Instant::now());
        session.run(prepared.program, times)?;
        session.wait()?;
        Ok(begun.elapsed().as_secs_f64() / times as f64)
    };
    let mut rounds = vec![run(1.0)?];
    if !trial {
        // The first run is slower than the rest; a few more say how many make a round.
        let few = (ROUND / 10.0 / rounds[0]).clamp(1.0, 100.0);
        let one = run(few)?;
        let times = (ROUND / one).clamp(1.0, 1e6);
        // What takes long by itself is known well enough.
        let count = if one > ROUND { 1 } else { ROUNDS };
        rounds = (0..count).map(|_| run(times)).collect::<Result<_>>()?;
        rounds.sort_by(f64::total_cmp);
    }
    let median = rounds[rounds.len() / 2];
    Ok([account.flops as f64, account.bytes as f64, median])
}

fn bench(device: &Device, labels: &[String], trial: bool) -> Result<()> {
    let info = device.info();
    let side = match (info.cpu, info.software || trial) {
        (_, true) => 256,
        (true, _) => 1024,
        (false, _) => 4096,
    };
    let mut cases: Vec<_> = [side / 4, side / 2, side].map(cases::matmul).into();
    let elements = if trial { 1 << 16 } else { 1 << 24 };
    let scale = cases::scale(elements);
    let prepared = Prepared::new(&scale, 1)?;
    let plan = prepared.plan().clone();
    let [_, bytes, seconds] = time((&scale, &prepared), plan, device, trial)?;
    let byte_rate = bytes / seconds;
    let products = cases.len();
    cases.extend(cases::convolutions(trial));
    cases.extend([10, 128].into_iter().flat_map(cases::workload_a));
    let asked = |name: &str| labels.is_empty() || labels.iter().any(|l| name.contains(l));
    let mut rows = Vec::new();
    for (i, (label, case)) in cases.iter().enumerate() {
        if i >= products && !asked(label) {
            continue;
        }
        let prepared = Prepared::new(case, 1)?;
        let plan = prepared.plan().clone();
        let variants = match plan.programs["run"].len() {
            1 => device.variants(plan),
            _ => vec![plan],
        };
        let several = variants.len() > 1;
        for plan in variants {
            let label = match several {
                false => label.clone(),
                true => format!("{label}: {}", name(&plan.programs["run"][0])),
            };
            rows.push((label, time((case, &prepared), plan, device, trial)?));
        }
    }
    let rates = rows.iter().map(|(_, [flops, _, seconds])| flops / seconds);
    let flop_rate = rates.fold(0.0, f64::max);
    println!(
        "\n{}\nceiling: {:.1} GFLOP/s, {:.1} GB/s\n\n{:<60} {:>11} {:>9} {:>8} {:>9}",
        info.name,
        flop_rate / 1e9,
        byte_rate / 1e9,
        "kernel",
        "µs",
        "GFLOP/s",
        "GB/s",
        "ceiling"
    );
    for (label, [flops, bytes, seconds]) in rows {
        let rates = if label.starts_with("gather") {
            String::new()
        } else {
            format!(
                "{:>9.2} {:>8.2} {:>7.0} %",
                flops / seconds / 1e9,
                bytes / seconds / 1e9,
                100.0 * (flops / flop_rate).max(bytes / byte_rate) / seconds
            )
        };
        println!("{label:<60} {:>11.1} {rates}", seconds * 1e6);
    }
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Cargo says --bench in `cargo bench` and not in `cargo test`.
    let trial = !args.iter().any(|a| a == "--bench");
    let labels: Vec<String> = args.into_iter().filter(|a| !a.starts_with('-')).collect();
    for choice in [Choice::Cpu, Choice::Gpu] {
        match Device::open(choice) {
            Ok(device) => bench(&device, &labels, trial)?,
            Err(e) => println!("\n{e}"),
        }
    }
    Ok(())
}
