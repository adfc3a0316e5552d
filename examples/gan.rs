//! Adversarial networks (Goodfellow et al. 2014): a generator makes numbers out of noise, a discriminator
//! tells them from real ones, and each is trained against the other in one compiled step.
//!
//!     cargo run --release --example gan [cpu|gpu]
//!
//! Real numbers are drawn from a normal distribution, whose mean and deviation the generator has to find.
//! Four pairs train at once; a step uploads nothing.

use wgrad::data::Dataset;
use wgrad::exec::{Choice, Device};
use wgrad::fit::{Inference, JointStep, Loss};
use wgrad::model::{Model, layers::*};
use wgrad::optim::{Adam, Optimizer};
use wgrad::rng::{normal_pair, philox4x32};

const MEAN: f32 = 4.0;
const DEVIATION: f32 = 0.5;

fn main() -> wgrad::Result<()> {
    let choice = std::env::args().nth(1);
    let device = Device::open(choice.as_deref().unwrap_or("cpu").parse::<Choice>()?)?;
    let real: Vec<f32> = (0..2048)
        .flat_map(|i| {
            let [a, b, ..] = philox4x32([i, 0, 0, 0], [1, 0]);
            normal_pair(a, b).map(|x| MEAN + DEVIATION * x)
        })
        .collect();
    let data = Dataset::new().with("real", [1], real)?;

    let generator = Model::sequential([4]).then(Dense::new(16)).then(Tanh);
    let generator = generator.then(Dense::new(1)).build()?;
    let discriminator = Model::sequential([1]).then(Dense::new(32)).then(Relu);
    let discriminator = discriminator.then(Dense::new(32)).then(Relu);
    let discriminator = discriminator.then(Dense::new(1)).build()?;
    let adam = |rate| {
        let rule = Adam {
            betas: [0.5, 0.999],
            ..Adam::default()
        };
        Optimizer::new(rule, rate)
    };
    let bce = Loss::binary_cross_entropy();
    let how = JointStep::builder().batch(128).replicas(4).seed(1);
    let mut step = how.compile_over(&data, &device, |s| {
        let g = s.model("generator", &generator)?;
        let d = s.model("discriminator", &discriminator)?;
        let (real, noise) = (s.input("real", [1])?, s.normal([4])?);
        let (yes, no) = (s.fill([1], 1.0)?, s.fill([1], 0.0)?);
        let fake = s.call(g, &[noise])?;
        let (of_real, of_fake) = (s.call(d, &[real])?, s.call(d, &[fake])?);
        let right = s.loss(&bce, &[of_real], &[yes])?;
        let wrong = s.loss(&bce, &[of_fake], &[no])?;
        let both = s.sum(&[right, wrong])?;
        s.minimise("discriminator", both, &[d], &adam(2e-3))?;
        let judged = s.call(d, &[fake])?;
        let fooled = s.loss(&bce, &[judged], &[yes])?;
        s.minimise("generator", fooled, &[g], &adam(1e-3))
    })?;
    println!(
        "{} launches a step on {}",
        step.launches().len(),
        device.info().name
    );
    for _ in 0..8 {
        step.run(250)?;
        let numbers = step.numbers()?;
        let mean = |name: &str| numbers[name].iter().sum::<f64>() / 4.0;
        println!(
            "step {:5}  discriminator {:.3}  generator {:.3}",
            step.steps(),
            mean("discriminator"),
            mean("generator")
        );
    }

    let noise: Vec<f32> = (0..4096)
        .flat_map(|i| {
            let [a, b, c, d] = philox4x32([i, 0, 0, 0], [2, 0]);
            [normal_pair(a, b), normal_pair(c, d)].concat()
        })
        .collect();
    for (replica, weights) in step.weights("generator")?.iter().enumerate() {
        let net = Inference::new(&generator, weights, 4096, &device)?;
        let made = net.run(&[("input", noise.as_slice().into())])?;
        let made = &made["output"];
        println!(
            "generator {replica}: mean {:.2}, deviation {:.2}; real ones {MEAN:.2} and {DEVIATION:.2}",
            made.mean().unwrap_or_default(),
            made.std(0.0)
        );
    }
    Ok(())
}
