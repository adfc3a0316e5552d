//! `wgrad bench`: microseconds per training step of four reference workloads.

use std::path::PathBuf;

use serde::Serialize;
use wgrad::book::nn::recipe;
use wgrad::book::train::{Settings, Trainer};
use wgrad::data::Source;
use wgrad::exec::profile::Clock;
use wgrad::exec::{Choice, Device};
use wgrad::plan::Launch;
use wgrad::{Error, Result};

use super::rounds::{ROUNDS, measure};
use super::{growth, inference, print};

/// Name, network, mini-batch, what it is.
const WORKLOADS: [(&str, &str, usize, &str); 4] = [
    (
        "A",
        "conv-dropout",
        10,
        "two convolutions, FC 1000, FC 1000, dropout",
    ),
    ("B", "conv-relu", 10, "two convolutions, FC 100"),
    ("C", "conv-dropout", 128, "A at mini-batch 128"),
    ("D", "mlp-30", 10, "784-30-10"),
];

/// Flags of `wgrad bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Workloads to time
    #[arg(long, value_delimiter = ',', default_value = "A,B,C,D")]
    workloads: Vec<String>,
    /// Numbers of replicas to time
    #[arg(long, value_delimiter = ',', default_value = "1,5")]
    replicas: Vec<usize>,
    /// Seconds to spend on each measurement, about [default: 2; with --growth 0.25]
    #[arg(long)]
    seconds: Option<f64>,
    /// auto (a hardware GPU, else the CPU), cpu, gpu, or an index of `wgrad devices`
    #[arg(long, default_value = "auto")]
    device: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Also show where a step's time goes: each launch, and the pauses between them
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    variants: super::Variants,
    /// Launch every op on its own
    #[arg(long)]
    no_fuse: bool,
    /// Instead, time a model file, one example at a time and in mini-batches
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["workloads", "replicas", "json", "profile", "no_fuse", "growth"]
    )]
    inference: Option<PathBuf>,
    /// Instead, time steps over growing mini-batch, replicas, channels, image size and
    /// depth; writes a table and plots to DIR
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["workloads", "replicas", "json", "profile", "no_fuse"]
    )]
    growth: Option<PathBuf>,
}

/// One measurement.
#[derive(Serialize)]
struct Timing {
    workload: String,
    replicas: usize,
    batch: usize,
    launches_per_step: usize,
    /// Median over the rounds.
    microseconds_per_step: f64,
    fastest: f64,
    slowest: f64,
    images_per_second: f64,
    steps_timed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Breakdown>,
}

/// Where a step's time goes, in microseconds.
#[derive(Serialize)]
struct Breakdown {
    clock: Clock,
    step: f64,
    /// The host's time for each launch.
    recording: Option<f64>,
    launches: Vec<Part>,
}

#[derive(Serialize)]
struct Part {
    label: String,
    kernel: &'static str,
    /// The pause before it.
    gap: f64,
    time: f64,
}

#[derive(Serialize)]
struct Report {
    device: String,
    version: &'static str,
    timings: Vec<Timing>,
}

/// Steps of a profile, at most.
const PROFILED: u64 = 1000;

/// Times and prints.
pub fn run(args: &Args) -> Result<()> {
    let choice: Choice = args.device.parse()?;
    let default = if args.growth.is_some() { 0.25 } else { 2.0 };
    let seconds = args.seconds.unwrap_or(default);
    if !(seconds > 0.0 && seconds <= 3600.0) {
        return Err(Error::setting(
            "--seconds",
            seconds,
            "above 0, at most 3600",
        ));
    }
    let known: Vec<&str> = WORKLOADS.iter().map(|w| w.0).collect();
    for name in &args.workloads {
        if !known.contains(&name.as_str()) {
            return Err(Error::unknown("workload", name, &known));
        }
    }
    let device = args.variants.open(choice)?;
    if let Some(model) = &args.inference {
        return inference::run(&device, seconds, model);
    }
    if let Some(folder) = &args.growth {
        return growth::run(&device, seconds, folder);
    }
    if !args.json {
        print(&format!(
            "{}\n\n{:<9} {:>8} {:>9} {:>12} {:>25} {:>11}\n",
            device.info().name,
            "workload",
            "replicas",
            "launches",
            "µs per step",
            "(fastest to slowest)",
            "images/s"
        ))?;
    }
    let mut timings = Vec::new();
    for name in &args.workloads {
        for &replicas in &args.replicas {
            let timing = time(args, seconds, name, replicas, &device)?;
            if !args.json {
                let spread = format!("({:.0} to {:.0})", timing.fastest, timing.slowest);
                print(&format!(
                    "{name:<9} {replicas:>8} {:>9} {:>12.1} {spread:>25} {:>11.0}\n",
                    timing.launches_per_step,
                    timing.microseconds_per_step,
                    timing.images_per_second
                ))?;
            }
            if let Some(breakdown) = timing.profile.as_ref().filter(|_| !args.json) {
                print(&table(breakdown))?;
            }
            timings.push(timing);
        }
    }
    if args.json {
        let report = Report {
            device: device.info().name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            timings,
        };
        let json = serde_json::to_string(&report)
            .map_err(|e| Error::setting("report", e, "finite numbers"))?;
        print(&format!("{json}\n"))?;
    }
    Ok(())
}

/// The profile of a training step.
fn breakdown(trainer: &mut Trainer, steps: u64) -> Result<Breakdown> {
    let profile = trainer.profile(steps)?;
    let launches = &trainer.executed_plan().programs["train"];
    let times = profile.gaps.iter().zip(&profile.launches);
    let part = |(launch, (gap, time)): (&Launch, (&f64, &f64))| Part {
        label: launch.label.clone(),
        kernel: launch.kernel.name,
        gap: gap * 1e6,
        time: time * 1e6,
    };
    Ok(Breakdown {
        clock: profile.clock,
        step: profile.whole * 1e6,
        recording: profile.recording.map(|seconds| seconds * 1e6),
        launches: launches.iter().zip(times).map(part).collect(),
    })
}

fn table(breakdown: &Breakdown) -> String {
    let sum = |of: fn(&Part) -> f64| breakdown.launches.iter().map(of).sum::<f64>();
    let mut text = match breakdown.clock {
        Clock::Device => {
            format!(
                "    {:<53} {:>9} {:>9}\n",
                "by the device's clock", "µs", "pause before"
            )
        }
        Clock::Host => format!(
            "    {:<53} {:>9}\n",
            "each launch alone, by the host's clock", "µs"
        ),
    };
    for part in &breakdown.launches {
        text += &format!(
            "    {:<24} {:<28} {:>9.1}",
            part.label, part.kernel, part.time
        );
        text += &match breakdown.clock {
            Clock::Device => format!(" {:>9.1}\n", part.gap),
            Clock::Host => "\n".into(),
        };
    }
    if breakdown.clock == Clock::Device {
        text += &format!(
            "    {:<53} {:>9.1} {:>9.1}; the step {:.1}\n",
            "together",
            sum(|p| p.time),
            sum(|p| p.gap),
            breakdown.step
        );
    }
    if let Some(recording) = breakdown.recording {
        text += &format!("    recorded by the host in {recording:.2} µs a launch\n");
    }
    text
}

fn time(args: &Args, seconds: f64, name: &str, replicas: usize, device: &Device) -> Result<Timing> {
    let workload = WORKLOADS.iter().find(|w| w.0 == name);
    let &(_, net, batch, _) = workload.ok_or_else(|| Error::unknown("workload", name, &[]))?;
    let data = Source::resolve(Some("synthetic"))?.load()?;
    let recipe = recipe(net, [1, 28, 28], 10)?;
    let settings = Settings {
        batch,
        replicas,
        fuse: !args.no_fuse,
        // Many steps must not explode: the work does not depend on the numbers.
        learning_rates: vec![0.001],
        ..Settings::from(&recipe)
    };
    let mut trainer = Trainer::new(&recipe.network, &data, &settings, device)?;
    trainer.prepare()?;
    let rounds = measure(seconds, 3, |steps| trainer.steps(steps))?;
    let profile = if args.profile {
        Some(breakdown(&mut trainer, rounds.steps.min(PROFILED))?)
    } else {
        None
    };
    Ok(Timing {
        workload: name.into(),
        replicas,
        batch,
        launches_per_step: trainer.executed_plan().account().programs["train"].launches,
        microseconds_per_step: rounds.median,
        fastest: rounds.fastest,
        slowest: rounds.slowest,
        images_per_second: (batch * replicas) as f64 * 1e6 / rounds.median,
        steps_timed: rounds.steps * ROUNDS,
        profile,
    })
}
