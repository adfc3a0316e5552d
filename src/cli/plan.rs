//! `wgrad plan`: the account of a training session before it runs.

use wgrad::exec::Device;
use wgrad::model::Registry;
use wgrad::plan::{Plan, ProgramAccount};
use wgrad::train::Trainer;
use wgrad::{Error, Result};

use super::print;
use super::session::SessionArgs;

/// Flags of `wgrad plan`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// Print the whole plan as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the plan.
pub fn run(args: &Args) -> Result<()> {
    let (name, batch, device, plan) = match args.session.experiment()? {
        Some(named) => {
            let device = Device::open(named.device)?;
            let experiment = named.experiment;
            let prepared = experiment.prepare(named.data.as_deref(), &Registry::standard())?;
            let plan = prepared.plan(&device)?;
            (prepared.name, experiment.training.batch, device, plan)
        }
        None => {
            let session = args.session.resolve()?;
            let device = Device::open(session.device)?;
            let (network, data) = (&session.network, &session.data);
            let plan = Trainer::plan(network, data, &session.settings, device.info())?;
            (session.net, session.settings.batch, device, plan)
        }
    };
    let info = device.info();
    if args.json {
        let json = plan
            .to_json()
            .map_err(|e| Error::setting("plan", e, "finite numbers"))?;
        return print(&format!("{json}\n"));
    }
    let mut text = format!(
        "{name}, mini-batch {batch}, {} replica(s), for {}\n\n",
        plan.replicas, info.name
    );
    text += &launches(&plan);
    let account = plan.account();
    text += "\nprogram                 launches        flop       bytes  uploaded  read back\n";
    for (name, p) in &account.programs {
        text += &row(name, p);
    }
    text += &format!(
        "\nstate {}, temporaries {}, largest binding {} (the device allows {})\n",
        bytes(account.state_bytes),
        bytes(account.temporary_bytes),
        bytes(account.largest_binding),
        match info.limits.binding_bytes {
            u64::MAX => "any".into(),
            limit => bytes(limit),
        }
    );
    print(&text)
}

fn row(name: &str, p: &ProgramAccount) -> String {
    format!(
        "{name:<22} {:>9} {:>11} {:>11} {:>9} {:>10}\n",
        p.launches,
        p.flops,
        bytes(p.bytes),
        p.uploaded,
        p.read_back
    )
}

/// The launches of a training step.
fn launches(plan: &Plan) -> String {
    let mut text = format!(
        "{:>3}  {:<34} {:<26} {:>14} {:>11} {:>11}\n",
        "", "training step", "kernel", "grid", "flop", "bytes"
    );
    for (i, launch) in plan.programs["train"].iter().enumerate() {
        let [x, y, z] = launch.grid;
        text += &format!(
            "{i:>3}  {:<34} {:<26} {:>14} {:>11} {:>11}\n",
            launch.label,
            launch.kernel.name,
            format!("{x}x{y}x{z}"),
            launch.flops,
            bytes(plan.launch_bytes(launch))
        );
    }
    text
}

/// Bytes for people.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut size = n as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{n} B")
    } else {
        format!("{size:.1} {}", UNITS[unit])
    }
}
