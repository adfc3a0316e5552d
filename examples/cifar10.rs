//! CIFAR-10 by a network and a recipe after Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (arXiv
//! 2404.00498): five minutes an epoch on two processor cores; `results/experiments.md` has what came of 16 epochs. It
//! shows what goes beyond layers and settings: initial weights that follow from the data, parameters that stay, rates of
//! groups, a schedule of one's own.
//!
//!     cargo run --release --example cifar10 -- FOLDER [cpu|gpu] [EPOCHS]
//!
//! FOLDER holds `train/<class>/*.png` and `test/<class>/*.png`, or JPEG files. A run that was stopped goes on where its
//! last epoch ended, from the folder `cifar10-checkpoints` in the working directory; delete that to begin anew.

use ndarray::{ArrayD, Axis, IxDyn};
use wgrad::data::ImageFolder;
use wgrad::fit::CrossEntropy;
use wgrad::model::layers::Affine;
use wgrad::optim::{Group, Schedule, Sgd};
use wgrad::prelude::*;

const BATCH: usize = 990; // 50 of them are 49,500 pictures
const PATCH: usize = 3 * 2 * 2;

/// Two convolutions, a pool behind the first.
fn block<'m>(x: Wire<'m>, name: &str, filters: usize) -> Wire<'m> {
    let convolution = || Conv2d::new(filters, 3).padding(1).without_bias();
    let norm = || BatchNorm {
        momentum: 0.4,
        ..BatchNorm::new()
    };
    let h = x
        .layer(&format!("{name} conv1"), convolution())
        .then(MaxPool2d::new(2));
    let h = h.layer(&format!("{name} norm1"), norm()).gelu();
    let h = h.layer(&format!("{name} conv2"), convolution());
    h.layer(&format!("{name} norm2"), norm()).gelu()
}

/// Pictures from 0 to 1 in, of which each channel is standardised by these means and deviations.
fn network(channels: &[(f64, f64)]) -> Result<Model> {
    let standardise = Affine {
        scale: channels
            .iter()
            .map(|(_, deviation)| 1.0 / deviation)
            .collect(),
        shift: channels
            .iter()
            .map(|(mean, deviation)| -mean / deviation)
            .collect(),
        axis: Some(0),
    };
    Model::build(|m| {
        let x = m.input("image", [3, 32, 32]).then(standardise);
        let x = x.then(Augment {
            flip: true,
            crop: 2,
        });
        let h = x.layer("whiten", Conv2d::new(2 * PATCH, 2)).gelu();
        let h = block(block(block(h, "1", 64), "2", 256), "3", 256);
        let scores = h
            .then(MaxPool2d::new(3))
            .then(Flatten)
            .layer("head", Dense::new(10).without_bias());
        m.output("logits", scores.map(|x| x / 9.0));
    })
}

/// Eigenvalues of a symmetric matrix and the vectors that belong to them, by Jacobi's rotations.
fn eigen(mut a: [[f64; PATCH]; PATCH]) -> Vec<(f64, [f64; PATCH])> {
    let mut vectors: [[f64; PATCH]; PATCH] =
        std::array::from_fn(|i| std::array::from_fn(|j| f64::from(u8::from(i == j))));
    for _ in 0..50 {
        for p in 0..PATCH {
            for q in p + 1..PATCH {
                let angle = 0.5 * (2.0 * a[p][q]).atan2(a[q][q] - a[p][p]);
                let (sin, cos) = angle.sin_cos();
                let turn = |x: &mut f64, y: &mut f64| {
                    (*x, *y) = (cos * *x - sin * *y, sin * *x + cos * *y)
                };
                for row in &mut a {
                    let [x, y] = row.get_disjoint_mut([p, q]).expect("two columns");
                    turn(x, y);
                }
                for rows in [&mut a, &mut vectors] {
                    let [x, y] = rows.get_disjoint_mut([p, q]).expect("two rows");
                    x.iter_mut().zip(y).for_each(|(x, y)| turn(x, y));
                }
            }
        }
    }
    (0..PATCH).map(|i| (a[i][i], vectors[i])).collect()
}

/// The filters that make patches of 2 × 2 pixels uncorrelated and of variance 1, and the same negated.
fn whitening(pictures: &Dataset, channels: &[(f64, f64)]) -> Result<ArrayD<f32>> {
    let image = pictures.column("image")?;
    let mut covariance = [[0.0; PATCH]; PATCH];
    let mut count = 0.0;
    // A tenth of the pictures is enough.
    for row in (0..pictures.rows()).step_by(10) {
        let pixels = image.row(row);
        for at in (0..31 * 32).filter(|at| at % 32 < 31) {
            let patch: [f64; PATCH] = std::array::from_fn(|k| {
                let (channel, y, x) = (k / 4, k / 2 % 2, k % 2);
                let (mean, deviation) = channels[channel];
                (f64::from(pixels[channel * 1024 + at + y * 32 + x]) - mean) / deviation
            });
            for i in 0..PATCH {
                for j in 0..PATCH {
                    covariance[i][j] += patch[i] * patch[j];
                }
            }
            count += 1.0;
        }
    }
    covariance
        .iter_mut()
        .flatten()
        .for_each(|sum| *sum /= count);
    let filters = eigen(covariance).into_iter().flat_map(|(value, vector)| {
        let scale = 1.0 / (value + 5e-4).sqrt();
        [1.0, -1.0].map(|sign| vector.map(|x| (sign * scale * x) as f32))
    });
    let filters: Vec<f32> = filters.flatten().collect();
    Ok(ArrayD::from_shape_vec(IxDyn(&[2 * PATCH, 3, 2, 2]), filters).expect("all filters"))
}

/// The weights to begin with: whitening, and convolutions whose first filters hand on their inputs.
fn start(model: &Model, whitening: &ArrayD<f32>) -> Weights {
    let mut tensors = Weights::initial(model, 1).tensors().to_vec();
    for (name, tensor) in &mut tensors {
        if name == "whiten.weight" {
            tensor.assign(whitening);
        } else if name.ends_with("conv1.weight") || name.ends_with("conv2.weight") {
            let inputs = tensor.shape()[1];
            for (o, mut filter) in tensor.axis_iter_mut(Axis(0)).take(inputs).enumerate() {
                filter.fill(0.0);
                filter[[o, 1, 1]] = 1.0;
            }
        }
    }
    Weights::from_tensors(tensors)
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().unwrap_or_else(|| "cifar10".into());
    let device = Device::open(args.next().as_deref().unwrap_or("auto").parse::<Choice>()?)?;
    let epochs: usize = match args.next() {
        None => 16,
        Some(text) => match text.parse() {
            Ok(epochs) => epochs,
            Err(_) => return Err(Error::setting("epochs", text, "a number")),
        },
    };

    let pictures = ImageFolder::new(&folder).read()?;
    let parts = pictures.train.split_stratified("label", &[0.99, 0.01], 1)?;
    let channels = parts[0].channel_statistics("image")?;
    let model = network(&channels)?;
    let weights = start(&model, &whitening(&parts[0], &channels)?);

    // Up to the full rate in the first quarter, down to 0 at the end, both in straight lines.
    let steps = (epochs * (parts[0].rows() / BATCH)) as f64;
    let peak = 0.23 * steps;
    let rate = Schedule::expression(move |step| {
        let rising = step * (0.8 / peak) + 0.2;
        rising.min((steps - step) * (1.0 / (steps - peak)))
    });
    let rule = Sgd {
        momentum: 0.85,
        nesterov: true,
        l2: 1.33e-3,
        l1: 0.0,
    };
    let frozen = Group {
        frozen: true,
        ..Group::default()
    };
    let biases = Group {
        rate: 64.0,
        decays: false,
        frozen: false,
    };
    let optimizer = Optimizer::new(rule, 1.5)
        .schedule(rate)
        .group(
            |name| name == "whiten.weight" || (name.contains("norm") && name.ends_with("weight")),
            frozen,
        )
        .group(
            |name| name.contains("norm") && name.ends_with("bias"),
            biases,
        );

    let test = pictures.test.as_ref().unwrap_or(&parts[1]);
    let smoothed = CrossEntropy {
        smoothing: 0.2,
        ..CrossEntropy::default()
    };
    let loss = Loss::of_criterion(smoothed).against("label");
    let outcome = Fit::new(&model, loss, optimizer)
        .batch(BATCH)
        .epochs(epochs)
        .metric(Metric::accuracy().against("label"))
        .validation(&parts[1])
        .test(test)
        .from(&weights)
        .checkpoints("cifar10-checkpoints")
        .resume()
        .with(Progress::new(|epoch| {
            let number = |name| epoch.get(name).unwrap_or(f64::NAN);
            let (loss, accuracy) = (number("training loss"), number("validation accuracy"));
            println!(
                "epoch {}: loss {loss:.4}, accuracy {accuracy:.3}, {:.0} s",
                epoch.epoch, epoch.seconds
            );
        }))
        .run(&parts[0], &device)?;
    let accuracy = outcome.report.test("accuracy").unwrap_or(f64::NAN);
    let net = Inference::new(&model, &outcome.weights[0], 2, &device)?;
    println!(
        "{}: {:.2} % of the test pictures, {:.2} % together with their mirror images",
        device.info().name,
        100.0 * accuracy,
        100.0 * with_mirror_images(&net, test)?
    );
    Ok(())
}

/// The share of pictures whose class has the largest score, added to that of the mirror image.
fn with_mirror_images(net: &Inference, pictures: &Dataset) -> Result<f64> {
    let (image, label) = (pictures.column("image")?, pictures.column("label")?);
    let mut right = 0;
    for row in 0..pictures.rows() {
        let mut pixels = image.row(row);
        let mut both = pixels.clone();
        pixels.chunks_mut(32).for_each(<[f32]>::reverse);
        both.extend(pixels);
        let scores = &net.run(&[("image", both[..].into())])?["logits"];
        let sums = scores.sum_axis(Axis(0));
        let best = (0..10).max_by(|&a, &b| sums[[a]].total_cmp(&sums[[b]]));
        right += usize::from(best == Some(label.row(row)[0] as usize));
    }
    Ok(right as f64 / pictures.rows() as f64)
}
