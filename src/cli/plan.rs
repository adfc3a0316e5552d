//! `wgrad plan`: the account of a training session before it runs.

use wgrad::book::train::Trainer;
use wgrad::exec::{Choice, Device};
use wgrad::model::Registry;
use wgrad::plan::{Card, Plan, ProgramAccount};
use wgrad::{Error, Result};

use super::print;
use super::session::SessionArgs;

/// Flags of `wgrad plan`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// The GPU that times are predicted for: H200, or generic for one that nobody has measured
    /// [default: the device's, if it is known, else generic]; an experiment's plan is then this card's, whatever the device
    #[arg(long, value_name = "NAME", conflicts_with = "json")]
    card: Option<String>,
    /// Print the whole plan as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the plan.
pub fn run(args: &Args) -> Result<()> {
    let named = args.card.as_deref().map(card).transpose()?;
    let (name, batch, device, plan) = match args.session.experiment()? {
        Some(named) => {
            // A GPU's plan has its own variants left, of which another card would choose otherwise.
            let choice = match args.card {
                Some(_) => Choice::Cpu,
                None => named.device,
            };
            let device = Device::open(choice)?;
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
        plan.replicas,
        named.map_or(info.name.as_str(), |card| card.name)
    );
    let card = named.unwrap_or_else(|| Card::named(&info.name));
    text += &launches(&plan, card);
    text += &whole(&plan, card);
    // The account of the launches that were told.
    let account = match named {
        Some(card) => plan.clone().choose(|l| plan.suiting(l, card)).account(),
        None => plan.account(),
    };
    text += "\nprogram                 launches        flop       bytes  uploaded  read back\n";
    for (name, p) in &account.programs {
        text += &row(name, p);
    }
    text += &format!(
        "\nstate {}, temporaries {}, largest binding {}{}\n",
        bytes(account.state_bytes),
        bytes(account.temporary_bytes),
        bytes(account.largest_binding),
        match info.limits.binding_bytes {
            _ if named.is_some() => String::new(),
            u64::MAX => " (the device allows any)".into(),
            limit => format!(" (the device allows {})", bytes(limit)),
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

/// The card of this name.
fn card(name: &str) -> Result<&'static Card> {
    if name.eq_ignore_ascii_case("generic") {
        return Ok(&Card::GENERIC);
    }
    let mut cards = Card::MEASURED.iter();
    let found = cards.find(|card| card.name.eq_ignore_ascii_case(name));
    found.copied().ok_or_else(|| {
        let names = Card::MEASURED.iter().map(|card| card.name);
        let known: Vec<&str> = names.chain(["generic"]).collect();
        Error::unknown("card", name, &known)
    })
}

/// The launches of a training step, each in the variant that the card takes, with the microseconds that it is
/// predicted to take there and what they go to.
fn launches(plan: &Plan, card: &Card) -> String {
    let mut text = format!(
        "{:>3}  {:<34} {:<35} {:>14} {:>11} {:>11} {:>8}  {}\n",
        "", "training step", "kernel", "grid", "flop", "bytes", "µs", "bound"
    );
    let (mut total, mut guessed) = (0.0, false);
    for (i, launch) in plan.programs["train"].iter().enumerate() {
        let launch = launch.done(plan.suiting(launch, card));
        let predicted = plan.predicted(&launch, card);
        total += predicted.microseconds;
        guessed |= !predicted.stated;
        let [x, y, z] = launch.grid;
        text += &format!(
            "{i:>3}  {:<34} {:<35} {:>14} {:>11} {:>11} {:>8.1}{} {}\n",
            shortened(&launch.label),
            launch.kernel.name,
            match launch.dispatches() {
                1 => format!("{x}x{y}x{z}"),
                times => format!("{times} x {x}x{y}x{z}"),
            },
            launch.flops,
            bytes(plan.launch_bytes(&launch)),
            predicted.microseconds,
            if predicted.stated { ' ' } else { '*' },
            predicted.bound
        );
    }
    text += &format!(
        "\npredicted for {}: {total:.1} µs a step, kernels as such a GPU takes them{}\n",
        match card.name {
            name if name == Card::GENERIC.name => format!("{name}, which nobody has measured"),
            name => format!("an {name}"),
        },
        if guessed {
            "; * by operations and bytes alone"
        } else {
            ""
        }
    );
    text
}

/// A label of three names or more, as updates side by side have, dozens at times: the first and how many more.
fn shortened(label: &str) -> String {
    match label.split(", ").collect::<Vec<_>>()[..] {
        [first, _, _, ref more @ ..] => format!("{first} and {} more", more.len() + 2),
        _ => label.into(),
    }
}

/// What a training step takes as a part of one launch, or what keeps it apart.
fn whole(plan: &Plan, card: &Card) -> String {
    let best = plan.persistents("train", card).into_iter().next();
    let apart = || plan.keeps_apart("train", card);
    match best {
        Some(best) => format!(
            "with --whole-programs: {:.1} µs a step in launches of {} steps, {} threads a network, {} buffers{}\n",
            best.predicted(card),
            best.runs(u64::MAX),
            best.threads,
            best.bindings.len(),
            if best.pays(plan, "train", card) {
                ""
            } else {
                "; launches apart are faster"
            }
        ),
        None => apart().map_or_else(String::new, |launch| {
            let (label, kernel) = (&launch.label, launch.kernel.name);
            format!(
                "--whole-programs changes nothing: no single workgroup does {label} ({kernel})\n"
            )
        }),
    }
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
