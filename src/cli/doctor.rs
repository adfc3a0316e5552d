//! `wgrad doctor`: is this adapter fit to be trained on?

use std::time::Duration;

use indicatif::ProgressStyle;
use wgrad::doctor::{self, OpResult, Stage, TRAINING_ALLOWED};
use wgrad::exec::{Choice, Device};
use wgrad::{Error, Result};

use super::{bar, print};

/// Flags of `wgrad doctor`.
#[derive(clap::Args)]
pub struct Args {
    /// gpu, cpu, or an index of `wgrad devices`
    #[arg(long, default_value = "gpu")]
    device: String,
    /// With the adapter's matrix units: also the kernels that round their factors to f16
    #[arg(long)]
    mixed_precision: bool,
    /// Print the findings as JSON, for a bug report
    #[arg(long)]
    json: bool,
}

/// Examines the device; findings that are not healthy are an error.
pub fn run(args: &Args) -> Result<()> {
    let choice: Choice = args.device.parse()?;
    let device = match args.mixed_precision {
        true => Device::open_mixed(choice)?,
        false => Device::open(choice)?,
    };
    let info = device.info();
    if !args.json {
        let warning = if info.software {
            "\na software adapter: right, but slow"
        } else {
            ""
        };
        print(&format!(
            "{}{warning}\n\n{:<16} {:>7} {:>6} {:>8} {:>10} {:>8}\n",
            info.name, "op", "kernels", "cases", "buffers", "worst", "seconds"
        ))?;
    }
    let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
    let bar = bar(
        0,
        style.unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    // A driver may be busy with one kernel for long: the time goes on meanwhile.
    bar.enable_steady_tick(Duration::from_millis(200));
    let report = doctor::checkup(&device, &mut |stage| match stage {
        Stage::Begun { what, part, of } => bar.set_message(match of {
            1 => what.to_owned(),
            _ => format!("{what}, {part} of {of}"),
        }),
        Stage::Done(op) if !args.json => {
            // A closed pipe does not stop the examination.
            bar.suspend(|| print(&line(op)).ok());
        }
        Stage::Done(_) => {}
    });
    bar.finish_and_clear();
    let report = report?;
    if args.json {
        let json = serde_json::to_string_pretty(&report)
            .map_err(|e| Error::setting("report", e, "finite numbers"))?;
        print(&format!("{json}\n"))?;
    } else {
        print(&format!(
            "\n{} comparisons; `worst` is the largest error over what is allowed\n\
             {:.1} µs per launch\n\
             training: costs {:.4?}, on the CPU {:.4?}; apart {:.1e}, allowed {TRAINING_ALLOWED}\n\
             {:.1} s\n",
            report.comparisons,
            report.microseconds_per_launch,
            report.training.cost,
            report.training.cpu_cost,
            report.training.worst,
            report.seconds
        ))?;
    }
    if report.healthy {
        return Ok(());
    }
    let failures = report
        .ops
        .iter()
        .filter_map(|o| o.comparison.failure.as_deref());
    Err(Error::Device {
        action: "compute what the reference computes".into(),
        found: failures.collect::<Vec<_>>().join("\n"),
        fix: "Do not train on it (--device cpu works); please report the output of \
              `wgrad doctor --json`."
            .into(),
    })
}

fn line(op: &OpResult) -> String {
    let mark = if op.comparison.failure.is_some() {
        "  WRONG"
    } else {
        ""
    };
    format!(
        "{:<16} {:>7} {:>6} {:>8} {:>10.3} {:>8.1}{mark}\n",
        op.op, op.kernels, op.cases, op.comparison.buffers, op.comparison.worst, op.seconds
    )
}
