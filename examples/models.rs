//! How long a training step of five kinds of network takes, and one picture's way through a trained one.
//!
//!     cargo run --release --example models -- [DEVICE] [SECONDS] [NAMES]
//!
//! NAMES are parts of the names below, such as `lstm`; with `profile` among them, where a step's time
//! goes is told as well. Each model's last line is JSON. Its twin for PyTorch, which runs both in turns,
//! is benches/compare/models.py.

use std::time::Instant;

use wgrad::prelude::*;

/// A network, its loss and optimizer, and how many examples it is trained on at once.
type Job = (Model, Loss, Optimizer, usize);

/// A residual network of 20 layers for pictures of 32 × 32 (He et al. 2015, section 4.2).
fn resnet20() -> Result<Model> {
    fn convolution<'m>(x: Wire<'m>, [filters, kernel, stride]: [usize; 3]) -> Wire<'m> {
        let padding = kernel / 2;
        let convolution = Conv2d::new(filters, kernel).stride(stride).padding(padding);
        x.then(convolution.without_bias()).then(BatchNorm::new())
    }
    Model::build(|m| {
        let mut x = convolution(m.input("image", [3, 32, 32]), [16, 3, 1]).relu();
        for (stage, filters) in [16, 32, 64].into_iter().enumerate() {
            for block in 0..3 {
                let narrows = stage > 0 && block == 0;
                let stride = if narrows { 2 } else { 1 };
                let around = match narrows {
                    true => convolution(x, [filters, 1, stride]),
                    false => x,
                };
                let h = convolution(x, [filters, 3, stride]).relu();
                x = (around + convolution(h, [filters, 3, 1])).relu();
            }
        }
        m.output("logits", x.global_mean().then(Dense::new(10)));
    })
}

fn job(name: &str) -> Result<Job> {
    let momentum = || Sgd {
        momentum: 0.9,
        ..Sgd::default()
    };
    Ok(match name {
        // 272,474 parameters.
        "resnet-20" => {
            let optimizer = Optimizer::new(momentum(), 0.01);
            (resnet20()?, Loss::cross_entropy(), optimizer, 64)
        }
        // A number from the last of 64 states.
        "lstm" => {
            let model = Model::sequential([64, 128]).then(Lstm::new(256).last());
            let model = model.then(Dense::new(1)).build()?;
            (model, Loss::mse(), Optimizer::new(Sgd::default(), 0.01), 32)
        }
        // A table of 16 columns.
        "table" => {
            let model = Model::sequential([16]).then(Dense::new(64)).then(Relu);
            let model = model.then(Dense::new(64)).then(Relu);
            let model = model.then(Dense::new(1)).build()?;
            let optimizer = Optimizer::new(AdamW::default(), 1e-3);
            (model, Loss::mse(), optimizer, 32)
        }
        // 64 places of 128 numbers, four heads, each place sees those before it.
        "transformer" => {
            let block = TransformerBlock::new(4, 512).causal().norm_first().gelu();
            let model = Model::sequential([64, 128]).then(block).build()?;
            let optimizer = Optimizer::new(AdamW::default(), 1e-3);
            (model, Loss::mse(), optimizer, 16)
        }
        other => {
            let known = ["resnet-20", "lstm", "table", "transformer"];
            return Err(Error::unknown("model", other, &known));
        }
    })
}

/// What a network is fed, a wave or classes.
fn feed(step: &mut TrainStep, model: &Model, batch: usize, classes: bool) -> Result<()> {
    let wave = |n: usize| -> Vec<f32> { (0..n).map(|i| (i as f32 * 0.37).sin()).collect() };
    let sizes = |input: &Input| batch * input.extents.iter().product::<usize>();
    for (name, input) in model.inputs() {
        step.feed(name, &wave(sizes(input)))?;
    }
    match classes {
        true => step.feed(
            "target",
            &(0..batch as u32).map(|i| i % 10).collect::<Vec<_>>(),
        ),
        false => {
            let outputs = model.outputs().map(|(_, output)| sizes(output)).sum();
            step.feed("target", &wave(outputs))
        }
    }
}

/// The median and the least of what `run` takes in µs, over rounds of about a tenth of `seconds`.
fn timed(seconds: f64, mut run: impl FnMut(u64) -> Result<()>) -> Result<[f64; 2]> {
    run(3)?;
    let start = Instant::now();
    run(1)?;
    let once = start.elapsed().as_secs_f64();
    let times = ((seconds / 10.0 / once) as u64).max(1);
    let mut rounds = Vec::new();
    let begin = Instant::now();
    while rounds.len() < 3 || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        run(times)?;
        rounds.push(start.elapsed().as_secs_f64() * 1e6 / times as f64);
    }
    rounds.sort_by(f64::total_cmp);
    Ok([rounds[rounds.len() / 2], rounds[0]])
}

fn report(name: &str, [median, least]: [f64; 2], more: &str) {
    println!(r#"{{"model": "{name}", "us": {median:.1}, "least_us": {least:.1}{more}}}"#);
}

fn training(name: &str, device: &Device, seconds: f64, profile: bool) -> Result<()> {
    let (model, loss, optimizer, batch) = job(name)?;
    let step = TrainStep::builder(&model, &loss, &optimizer).batch(batch);
    let mut step = step.compile(device)?;
    feed(&mut step, &model, batch, name == "resnet-20")?;
    let times = timed(seconds, |steps| {
        step.run(steps)?;
        step.loss().map(drop)
    })?;
    if profile {
        let profile = step.profile(20)?;
        let mut rows: Vec<_> = step.launches().iter().zip(&profile.launches).collect();
        rows.sort_by(|a, b| b.1.total_cmp(a.1));
        for (launch, seconds) in rows {
            let (name, us) = (launch.kernel.name, seconds * 1e6);
            println!("{us:9.1} µs  {name:40} {}", launch.label);
        }
    }
    let more = format!(
        r#", "batch": {batch}, "launches": {}, "parameters": {}"#,
        step.launches().len(),
        model.parameters()
    );
    report(name, times, &more);
    Ok(())
}

/// What one picture goes through: the residual network, or a small one for digits.
fn for_a_picture(name: &str) -> Result<Model> {
    match name {
        "latency" => resnet20(),
        "digit-dense" => {
            let model = Model::sequential([784]).then(Dense::new(30)).then(Sigmoid);
            model.then(Dense::new(10)).then(Softmax).build()
        }
        _ => {
            let model = Model::sequential([1, 28, 28]).then(Conv2d::new(20, 5));
            let model = model.then(MaxPool2d::new(2)).then(Relu);
            let model = model.then(Conv2d::new(40, 5)).then(MaxPool2d::new(2));
            let model = model.then(Relu).then(Flatten).then(Dense::new(100));
            model.then(Relu).then(Dense::new(10)).build()
        }
    }
}

/// One picture at a time through a network.
fn latency(name: &str, device: &Device, seconds: f64) -> Result<()> {
    let model = for_a_picture(name)?;
    let net = Inference::new(&model, &Weights::initial(&model, 1), 1, device)?;
    let Some((input, example)) = model.inputs().next() else {
        return Ok(());
    };
    let size: usize = example.extents.iter().product();
    let picture: Vec<f32> = (0..size).map(|i| (i as f32 * 0.37).sin()).collect();
    let times = timed(seconds, |times| {
        for _ in 0..times {
            net.run(&[(input, picture[..].into())])?;
        }
        Ok(())
    })?;
    report(name, times, "");
    Ok(())
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let device = Device::open(args.next().as_deref().unwrap_or("cpu").parse::<Choice>()?)?;
    let seconds: f64 = match args.next() {
        None => 2.0,
        Some(text) => match text.parse() {
            Ok(seconds) if seconds > 0.0 => seconds,
            _ => return Err(wgrad::Error::setting("seconds", text, "a number above 0")),
        },
    };
    let names: Vec<String> = args.collect();
    let profile = names.iter().any(|name| name == "profile");
    let names: Vec<_> = names.iter().filter(|name| *name != "profile").collect();
    println!("{}", device.info().name);
    let all = ["resnet-20", "lstm", "table", "transformer"];
    let pictures = ["latency", "digit-dense", "digit-convolutions"];
    for name in all.into_iter().chain(pictures) {
        if names.is_empty() || names.iter().any(|part| name.contains(part.as_str())) {
            match name {
                name if pictures.contains(&name) => latency(name, &device, seconds)?,
                _ => training(name, &device, seconds, profile)?,
            }
        }
    }
    Ok(())
}
