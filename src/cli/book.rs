//! `wgrad book`: the book's experiments, one command each.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use indicatif::ProgressStyle;
use wgrad::book::certificate::{confirmed, verify as verify_certificate};
use wgrad::book::train::Event;
use wgrad::book::{self, Experiment, Options};
use wgrad::data::Split;
use wgrad::exec::Device;
use wgrad::files::write_whole;
use wgrad::report::book::{RECORD_FILE, page_html, read_run, table_markdown, write_run};
use wgrad::report::record::{Record, Row};
use wgrad::{Error, Result};

use super::session::{counts, warnings};
use super::{bar, interrupt, print, say};

/// What to do with the book.
#[derive(Subcommand)]
pub enum Command {
    /// List the experiments
    List,
    /// Run experiments and write what came of them
    Run(Run),
    /// Put all records of a folder on one page and in one table
    Report(Report),
    /// Evaluate saved networks again and confirm every claim of their certificate
    Verify(Verify),
}

/// Flags of `wgrad book run`.
#[derive(clap::Args)]
pub struct Run {
    /// Ids of `wgrad book list`, chapters (ch1, ch2, ch3, ch5, ch6), or all
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Seeds, run as replicas of one plan [default: 3; one ensemble of ch6-ensemble]
    #[arg(long, value_name = "K")]
    seeds: Option<usize>,
    /// The first seed: `--first-seed 1 --seeds 1` repeats the second of a larger run
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        default_value_t = 0
    )]
    first_seed: usize,
    /// Epochs instead of the book's
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    epochs: Option<usize>,
    /// A folder with MNIST's four IDX files, or `synthetic` [default: MNIST_DIR, else data/mnist]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// auto (a hardware GPU, else the CPU), cpu, gpu, or an index of `wgrad devices`
    #[arg(long, default_value = "auto")]
    device: String,
    #[command(flatten)]
    variants: super::Variants,
    /// Where to write; an experiment's folder is named by its id
    #[arg(long, value_name = "DIR", default_value = "runs/book")]
    out: PathBuf,
    /// Try out on at most N training images
    #[arg(long, value_name = "N", allow_negative_numbers = true, hide = true)]
    images: Option<usize>,
}

/// Flags of `wgrad book report`.
#[derive(clap::Args)]
pub struct Report {
    /// The folder that `wgrad book run` wrote to
    #[arg(long, value_name = "DIR", default_value = "runs/book")]
    out: PathBuf,
}

/// Flags of `wgrad book verify`.
#[derive(clap::Args)]
pub struct Verify {
    /// The certificate; the networks lie beside it
    file: PathBuf,
    /// A folder with MNIST's four IDX files, or `synthetic` [default: MNIST_DIR, else data/mnist]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// auto (a hardware GPU, else the CPU), cpu, gpu, or an index of `wgrad devices`
    #[arg(long, default_value = "auto")]
    device: String,
}

/// Obeys.
pub fn run(command: Command) -> Result<()> {
    match command {
        Command::List => list(),
        Command::Run(args) => experiments(&args),
        Command::Report(args) => report(&args.out),
        Command::Verify(args) => verify(&args),
    }
}

fn list() -> Result<()> {
    let mut text = String::new();
    for e in book::catalogue()? {
        let epochs = e.epochs.map_or(String::new(), |n| n.to_string());
        let line = format!("{:<36} {} {epochs:>7}  {}", e.id, e.chapter, e.title);
        text += line.trim_end();
        text.push('\n');
    }
    print(&format!(
        "{:<36} {} {:>7}  title\n{text}",
        "id", "ch", "epochs"
    ))
}

/// The images; none is no error here, since some experiments need none.
fn load(named: Option<&str>) -> Result<Option<Split>> {
    book::load(named)
}

fn experiments(args: &Run) -> Result<()> {
    let chosen = book::select(&args.ids)?;
    let device = args.variants.open(args.device.parse()?)?;
    let data = load(args.data.as_deref())?;
    // Output that cannot be written is an error in the end, and no end of the work.
    let mut failed = None;
    if let Some(data) = &data {
        let text = format!("{}: {}\n\n", data.train.name, counts(data));
        failed = print(&text).err();
        // The book's split is the book's.
        say(&warnings(data, false));
    }
    interrupt::watch();
    for experiment in chosen {
        if let Err(e) = one(experiment, args, &device, data.as_ref()) {
            // The others are still worth running; the first error is the command's.
            let told = print(&format!("{}: {e}\n\n", experiment.id));
            failed.get_or_insert(e);
            failed = failed.or(told.err());
        }
    }
    failed.map_or(Ok(()), Err)
}

fn one(experiment: &Experiment, args: &Run, device: &Device, data: Option<&Split>) -> Result<()> {
    let folder = args.out.join(&experiment.id);
    let options = Options {
        device,
        data,
        seeds: args.seeds,
        first_seed: args.first_seed,
        epochs: args.epochs,
        images: args.images,
        folder: &folder,
        command: command(&experiment.id, args),
    };
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3}%  left {eta}  {msg}");
    let bar = bar(0, style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let record = book::run(experiment, &options, &mut |progress| {
        if let Event::Steps { done, total, epoch } = progress.event {
            if interrupt::asked() {
                bar.finish_and_clear();
                let next = match folder.join("checkpoints").is_dir() {
                    true => "goes on after the last whole epoch",
                    false => "begins it again",
                };
                let id = &experiment.id;
                interrupt::stop(&format!("stopped in {id}; the same command {next}"));
            }
            bar.set_length(*total);
            bar.set_position(*done);
            bar.set_message(format!("{} {} epoch {epoch}", experiment.id, progress.run));
        }
    });
    bar.finish_and_clear();
    let record = record?;
    write_run(&folder, &record)?;
    print(&format!(
        "{}wrote {}\n\n",
        table(&record),
        folder.join(RECORD_FILE).display()
    ))
}

/// The command that repeats the run, without paths of this machine.
fn command(id: &str, args: &Run) -> String {
    let mut text = format!("wgrad book run {id}");
    let numbers = [
        ("seeds", args.seeds),
        ("first-seed", Some(args.first_seed).filter(|n| *n > 0)),
        ("epochs", args.epochs),
        ("images", args.images),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            text += &format!(" --{name} {value}");
        }
    }
    if args.data.as_deref() == Some("synthetic") {
        text += " --data synthetic";
    }
    if args.device != "auto" {
        text += &format!(" --device {}", args.device);
    }
    if args.variants.tune {
        text += " --tune";
    }
    if args.variants.mixed_precision {
        text += " --mixed-precision";
    }
    text
}

fn table(record: &Record) -> String {
    let shown = |x: f64| match x.abs() {
        a if a == 0.0 || a >= 1e5 => format!("{x:.0}"),
        a if a < 0.01 => format!("{x:.1e}"),
        a if a < 1.0 => format!("{x:.4}"),
        _ => format!("{x:.2}"),
    };
    let ours = |row: &Row| match row.ours.len() {
        0 => "-".into(),
        1 => shown(row.mean()),
        _ => format!("{} ± {}", shown(row.mean()), shown(row.deviation())),
    };
    let mut text = format!("{}: {}\n", record.id, record.title);
    let width = record.rows.iter().map(|r| r.what.chars().count()).max();
    let width = width.unwrap_or(0) + 2;
    let _ = writeln!(
        text,
        "  {:width$}{:>10}  {:>20}  agrees",
        "", "book", "ours"
    );
    for row in &record.rows {
        let agrees = match row.agrees() {
            _ if row.ours.is_empty() => "",
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        };
        let of = match row.each.as_str() {
            "" => String::new(),
            each => format!("  ({} {each}s)", row.ours.len()),
        };
        let line = format!(
            "  {:width$}{:>10}  {:>20}  {agrees} {}{of}",
            row.what,
            row.book.map_or(String::new(), shown),
            ours(row),
            row.unit,
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for note in &record.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    let seeds = record.seeds.len();
    let _ = writeln!(
        text,
        "  {} ({seeds} seeds, {:.1} s)",
        record.command, record.seconds
    );
    text
}

fn report(out: &Path) -> Result<()> {
    let mut records = Vec::new();
    for experiment in book::catalogue()? {
        let folder = out.join(&experiment.id);
        if folder.join(RECORD_FILE).exists() {
            records.push(read_run(&folder)?);
        }
    }
    if records.is_empty() {
        let found = format!("no records in {}", out.display());
        return Err(Error::setting(
            "--out",
            found,
            "a folder that `wgrad book run` wrote to",
        ));
    }
    write_whole(&out.join("index.html"), page_html(&records)?.as_bytes())?;
    write_whole(&out.join("book.md"), table_markdown(&records)?.as_bytes())?;
    let text = format!(
        "{} experiments; wrote index.html and book.md to {}\n",
        records.len(),
        out.display()
    );
    print(&text)
}

fn verify(args: &Verify) -> Result<()> {
    let device = super::Variants::default().open(args.device.parse()?)?;
    let data = load(args.data.as_deref())?.ok_or_else(book::missing)?;
    let claims = verify_certificate(&args.file, &data.test, &device)?;
    let mut text = String::new();
    for claim in &claims {
        let word = match claim.holds {
            Some(true) => "holds",
            Some(false) => "FAILS",
            None => "stated",
        };
        let _ = write!(text, "{word:<7} {}: {}", claim.what, claim.claimed);
        if claim.holds == Some(false) {
            let _ = write!(text, "; found {}", claim.found);
        }
        text.push('\n');
    }
    print(&text)?;
    if confirmed(&claims) {
        return print("every claim that can be checked holds\n");
    }
    let failed = claims.iter().filter(|c| c.holds == Some(false)).count();
    let found = format!("{failed} of {} claims that do not hold", claims.len());
    let fix = "The networks, the images or the certificate are not those of the run.";
    Err(Error::file(&args.file, found, "claims that hold", fix))
}
