//! What the command line says and what it prints. The library does the work and prints
//! nothing; nothing of the library knows this room.
//!
//! Exit codes: 0 done, 2 something about the input, the files or the device is wrong and
//! one message said what.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use wgrad::Result;
use wgrad::exec::{Cache, Choice, Device, WholePrograms};

mod answer;
mod bench;
mod book;
mod devices;
mod doctor;
mod experiment;
#[cfg(feature = "onnx")]
mod export;
mod growth;
mod hint;
mod inference;
mod interrupt;
mod plan;
mod rounds;
mod session;
mod train;

/// Gradients on every GPU: train the networks of "Neural Networks and Deep Learning".
///
/// Without a command: trains the book's convolutional network on synthetic digits.
#[derive(Parser)]
#[command(name = "wgrad", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Train a network; writes report, model, curves and misread digits to a folder
    Train(train::Args),
    /// Measure a trained model on a test set: accuracy, or loss and metrics of its experiment
    Eval(answer::EvalArgs),
    /// Read digits from PNG files of any size, on light or dark background; or rows of CSV files
    Predict(answer::PredictArgs),
    /// Write a trained model as an ONNX file, for other frameworks to run
    #[cfg(feature = "onnx")]
    Export(export::Args),
    /// Show what a training session launches and holds, before it runs
    Plan(plan::Args),
    /// List the adapters that --device can name
    Devices,
    /// Time training steps of the reference workloads A to D, or a model's answers
    Bench(bench::Args),
    /// Repeat the experiments of the book: list, run, report, verify
    #[command(subcommand)]
    Book(book::Command),
    /// Prove on an adapter that every kernel computes what its reference computes
    Doctor(doctor::Args),
}

/// Parses the command line and obeys it.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log();
    let done = match cli.command {
        None => train::run(train::Args::default()),
        Some(Command::Train(args)) => train::run(args),
        Some(Command::Eval(args)) => answer::eval(&args),
        Some(Command::Predict(args)) => answer::predict(&args),
        #[cfg(feature = "onnx")]
        Some(Command::Export(args)) => export::run(&args),
        Some(Command::Plan(args)) => plan::run(&args),
        Some(Command::Devices) => devices::run(),
        Some(Command::Bench(args)) => bench::run(&args),
        Some(Command::Book(command)) => book::run(command),
        Some(Command::Doctor(args)) => doctor::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            say(&format!("error: {e}\n"));
            if let Some(hint) = hint::of(&e) {
                say(&format!("hint: {hint}\n"));
            }
            ExitCode::from(2)
        }
    }
}

/// Warnings of the library go to the terminal; `RUST_LOG` chooses others (`debug`,
/// `wgrad=debug,wgpu_core=warn`). Filters by field would cost a regular expression engine.
fn log() {
    let chosen = std::env::var("RUST_LOG").ok().filter(|t| !t.is_empty());
    let chosen = chosen.and_then(|text| {
        let parsed = text.parse::<Targets>();
        let told = |e| {
            say(&format!(
                "warning: RUST_LOG, `{text}`, is passed over: {e}\n"
            ))
        };
        parsed.map_err(told).ok()
    });
    let filter = chosen.unwrap_or_else(|| Targets::new().with_target("wgrad", Level::INFO));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // It would report a line that cannot be written by `eprintln!`, which panics then.
        .log_internal_errors(false)
        .without_time()
        .with_ansi(Look::of_stderr().colours)
        .with_target(false);
    tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .init();
}

/// How launches are done on a GPU.
#[derive(clap::Args, Default)]
struct Variants {
    /// On a GPU: where a launch can be done in several variants, time each and take the fastest
    #[arg(long)]
    tune: bool,
    /// On a GPU with matrix units: large products of forward passes with factors rounded to f16; where losses are
    /// scaled (`loss_scale` in an experiment's `[training]`), gradients of products too
    #[arg(long)]
    mixed_precision: bool,
    /// On a GPU: do all launches of a training step, and many steps, in one launch: never, predicted (where it is
    /// predicted to be faster: small networks) or always (where it can)
    #[arg(long, value_name = "WHEN", default_value_t, conflicts_with = "tune")]
    whole_programs: WholePrograms,
}

impl Variants {
    /// Opens a device for work. What saves a later run time is kept in the user's cache.
    fn open(&self, choice: Choice) -> Result<Device> {
        let device = match self.mixed_precision {
            true => wgrad::doctor::open_mixed(choice)?,
            false => Device::open(choice)?,
        };
        let device = device.with_cache(&Cache::of_user());
        let device = device.with_whole_programs(self.whole_programs);
        Ok(if self.tune { device.tuned() } else { device })
    }
}

/// What may be written to standard error beside plain lines.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    bars: bool,
    colours: bool,
}

impl Look {
    fn of_stderr() -> Self {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        Self::of(terminal, |name| std::env::var(name).unwrap_or_default())
    }

    /// A terminal that calls itself dumb knows lines alone; NO_COLOR, set to anything, asks
    /// for no colours (no-color.org).
    fn of(terminal: bool, variable: impl Fn(&str) -> String) -> Self {
        let bars = terminal && variable("TERM") != "dumb";
        let colours = bars && variable("NO_COLOR").is_empty();
        Self { bars, colours }
    }
}

/// A bar on a terminal; elsewhere nothing.
fn bar(steps: u64, style: ProgressStyle) -> ProgressBar {
    let target = match Look::of_stderr().bars {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    ProgressBar::with_draw_target(Some(steps), target).with_style(style)
}

/// Writes to standard error; one that is full or closed must not end the work.
fn say(text: &str) {
    use std::io::Write;
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A percentage with the two digits that 10,000 test images carry.
fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// Writes to standard output; a closed pipe (`wgrad plan | head`) is no failure.
fn print(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(wgrad::Error::io(
            "write",
            std::path::Path::new("standard output"),
            e,
            "Check where the output goes.",
        )),
        _ => Ok(()),
    }
}

/// Says every error but the last, which is the command's.
fn all_told(mut errors: Vec<wgrad::Error>) -> Result<()> {
    let last = errors.pop();
    for e in errors {
        say(&format!("error: {e}\n"));
    }
    last.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_get_what_they_understand() {
        let look = |terminal, term: &str, no_color: &str| {
            let Look { bars, colours } = Look::of(terminal, |name| match name {
                "TERM" => term.into(),
                _ => no_color.into(),
            });
            (bars, colours)
        };
        assert_eq!(look(true, "xterm-256color", ""), (true, true));
        assert_eq!(look(true, "", ""), (true, true));
        assert_eq!(look(true, "xterm", "1"), (true, false));
        assert_eq!(look(true, "dumb", ""), (false, false));
        assert_eq!(look(false, "xterm", ""), (false, false));
    }
}
