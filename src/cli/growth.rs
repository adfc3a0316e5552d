//! `wgrad bench --growth`: how the time of a step grows with the mini-batch, replicas,
//! channels, image size and depth.
//!
//! A device has a floor, the time of so many launches however little they do, and a slope,
//! the time of the work itself. Where the curve leaves the floor for the slope is the knee:
//! below it, more work costs next to nothing.

use std::path::Path;

use wgrad::book::nn::{Init, Network, recipe};
use wgrad::book::train::{Settings, Trainer};
use wgrad::data::{Images, Split};
use wgrad::exec::Device;
use wgrad::files::{FolderLock, create_folder, write_whole};
use wgrad::report::plot::plot_svg;
use wgrad::report::record::{Plot, Series};
use wgrad::{Error, Result};

use super::print;
use super::rounds::{Rounds, measure};

/// What is trained at one point of a line.
struct Point {
    x: usize,
    network: Network,
    batch: usize,
    replicas: usize,
}

/// One network over a range of sizes.
struct Line {
    name: &'static str,
    points: Vec<Point>,
}

/// One quantity that grows.
struct Sweep {
    /// The stem of its files.
    name: &'static str,
    axis: &'static str,
    lines: Vec<Line>,
}

const CLASSES: usize = 10;
/// The mini-batch where it is not what grows.
const BATCH: usize = 10;

/// Powers of two from 1.
fn doubling(most: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |x| Some(2 * x)).take_while(move |&x| x <= most)
}

fn named(name: &str) -> Result<Network> {
    Ok(recipe(name, [1, 28, 28], CLASSES)?.network)
}

/// Two convolutions with pools, then a hundred units, over images of `side` × `side`.
fn convolutions(side: usize, channels: usize) -> Network {
    let first = Network::new([1, side, side]).conv2d(channels, 5);
    let second = first.max_pool2d(2).relu().conv2d(2 * channels, 5);
    let hidden = second.max_pool2d(2).relu().flatten().dense(100).relu();
    hidden.dense(CLASSES).softmax().init(Init::He)
}

/// So many hidden layers of a hundred units.
fn deep(depth: usize) -> Network {
    let start = Network::new([1, 28, 28]).flatten();
    let hidden = (0..depth).fold(start, |network, _| network.dense(100).relu());
    hidden.dense(CLASSES).softmax().init(Init::He)
}

fn sweeps() -> Result<Vec<Sweep>> {
    let line = |name, xs: Vec<usize>, point: &dyn Fn(usize) -> Result<Point>| -> Result<Line> {
        let points = xs.into_iter().map(point).collect::<Result<_>>()?;
        Ok(Line { name, points })
    };
    let of = |x, network, batch, replicas| Point {
        x,
        network,
        batch,
        replicas,
    };
    let both = |most, point: &dyn Fn(usize, Network) -> Point| -> Result<Vec<Line>> {
        let grown = |name: &str, x| Ok(point(x, named(name)?));
        let xs = || doubling(most).collect();
        Ok(vec![
            line("784-30-10", xs(), &|x| grown("mlp-30", x))?,
            line("two convolutions, 100", xs(), &|x| grown("conv-relu", x))?,
        ])
    };
    let one = |name, xs, network: &dyn Fn(usize) -> Network| {
        Ok(vec![line(name, xs, &|x| Ok(of(x, network(x), BATCH, 1)))?])
    };
    let sweep =
        |name, axis, lines: Result<Vec<Line>>| lines.map(|lines| Sweep { name, axis, lines });
    let sides = vec![16, 24, 32, 48, 64, 96, 128];
    Ok(vec![
        sweep(
            "mini-batch",
            "images in a mini-batch",
            both(4096, &|x, net| of(x, net, x, 1)),
        )?,
        sweep(
            "replicas",
            "replicas",
            both(64, &|x, net| of(x, net, BATCH, x)),
        )?,
        sweep(
            "channels",
            "filters of the first convolution (the second has twice as many)",
            one("two convolutions, 100", doubling(64).collect(), &|x| {
                convolutions(28, x)
            }),
        )?,
        sweep(
            "image-size",
            "pixels along an image's side",
            one("convolutions 20 and 40, 100", sides, &|x| {
                convolutions(x, 20)
            }),
        )?,
        sweep(
            "depth",
            "hidden layers of 100 units",
            one("dense layers", doubling(32).collect(), &deep),
        )?,
    ])
}

/// Images that nobody looks at: the work does not depend on what they show.
fn data(side: usize, count: usize) -> Result<Split> {
    let images = |count: usize| {
        let pixels = (0..count * side * side).map(|i| (i.wrapping_mul(0x9E37_79B1) >> 16) as u8);
        let labels = (0..count).map(|i| (i % CLASSES) as u8);
        Images::new(
            "patterns",
            side,
            side,
            CLASSES,
            pixels.collect(),
            labels.collect(),
        )
    };
    Ok(Split {
        train: images(count)?,
        validation: images(CLASSES)?,
        test: images(CLASSES)?,
        synthetic: true,
    })
}

/// Launches of a step, and what the clock says.
fn time(point: &Point, device: &Device, seconds: f64) -> Result<(usize, Rounds)> {
    let data = data(point.network.input[1], (16 * point.batch).max(4096))?;
    let settings = Settings {
        batch: point.batch,
        replicas: point.replicas,
        evaluation_batch: CLASSES,
        learning_rates: vec![0.001],
        ..Settings::default()
    };
    let mut trainer = Trainer::new(&point.network, &data, &settings, device)?;
    trainer.prepare()?;
    let rounds = measure(seconds, 1, |steps| trainer.steps(steps))?;
    let launches = trainer.executed_plan().account().programs["train"].launches;
    Ok((launches, rounds))
}

/// Measures all sweeps, about `seconds` for a point, and writes `growth.csv` and
/// `growth-<sweep>.svg` to `folder`.
pub fn run(device: &Device, seconds: f64, folder: &Path) -> Result<()> {
    create_folder(folder)?;
    let _held = FolderLock::take(folder)?;
    let name = &device.info().name;
    print(&format!("{name}\n"))?;
    let mut csv = String::from(
        "sweep,network,x,mini_batch,replicas,launches_per_step,microseconds_per_step,fastest,\
         slowest,images_per_second,device\n",
    );
    for sweep in sweeps()? {
        let mut series = Vec::new();
        for line in &sweep.lines {
            print(&format!("\n{}: {}\n", sweep.name, line.name))?;
            let mut curve: Vec<(f64, f64)> = Vec::new();
            for point in &line.points {
                let (launches, rounds) = match time(point, device, seconds) {
                    Ok(timed) => timed,
                    // More than the device takes; what is smaller stays measured.
                    Err(e @ (Error::Adapter { .. } | Error::Setting { .. }))
                        if !curve.is_empty() =>
                    {
                        print(&format!("{:>6}  ends here: {e}\n", point.x))?;
                        break;
                    }
                    Err(e) => return Err(e),
                };
                let rate = (point.batch * point.replicas) as f64 * 1e6 / rounds.median;
                print(&format!(
                    "{:>6} {launches:>4} launches {:>12.1} µs {rate:>10.0} images/s\n",
                    point.x, rounds.median
                ))?;
                csv += &format!(
                    "{},\"{}\",{},{},{},{launches},{:.2},{:.2},{:.2},{rate:.0},\"{}\"\n",
                    sweep.name,
                    line.name,
                    point.x,
                    point.batch,
                    point.replicas,
                    rounds.median,
                    rounds.fastest,
                    rounds.slowest,
                    name.replace('"', "'")
                );
                curve.push((point.x as f64, rounds.median));
                if rounds.median > 2e6 * seconds {
                    print("        ends here: the next would take too long (--seconds)\n")?;
                    break;
                }
            }
            if let Some(&(x, _)) = curve.iter().find(|(_, time)| *time > 2.0 * curve[0].1) {
                print(&format!(
                    "a step takes more than twice the first one's time from {x}\n"
                ))?;
            }
            series.push(Series {
                name: line.name.into(),
                book: false,
                points: curve,
            });
        }
        let plot = Plot {
            title: format!("Time of a training step over the {}, {name}", sweep.name),
            x_label: sweep.axis.into(),
            y_label: "µs per step".into(),
            log_x: true,
            log_y: true,
            series,
        };
        let path = folder.join(format!("growth-{}.svg", sweep.name));
        write_whole(&path, plot_svg(&plot)?.as_bytes())?;
    }
    write_whole(&folder.join("growth.csv"), csv.as_bytes())?;
    print(&format!("\nwritten to {}\n", folder.display()))
}
