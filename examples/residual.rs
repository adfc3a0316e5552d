//! A residual network with batch normalisation on pictures that the program draws: wires, own epochs
//! printed, early stopping, the trained model saved and read again.
//!
//!     cargo run --release --example residual

use wgrad::prelude::*;

/// A block: two convolutions beside a wire around them.
fn block<'m>(x: Wire<'m>, name: &str, filters: usize) -> Wire<'m> {
    let convolution = || Conv2d::new(filters, 3).padding(1).without_bias();
    let h = x.layer(&format!("{name} conv1"), convolution());
    let h = h.layer(&format!("{name} norm1"), BatchNorm::new()).relu();
    let h = h.layer(&format!("{name} conv2"), convolution());
    (x + h.layer(&format!("{name} norm2"), BatchNorm::new())).relu()
}

/// Bars of three colours that lie or stand, in noise: six classes.
fn pictures(count: usize) -> Result<Dataset> {
    let mut noise = 1u32;
    let mut bytes = Vec::with_capacity(count * 3 * 16 * 16);
    let classes: Vec<u32> = (0..count as u32).map(|i| i % 6).collect();
    for &class in &classes {
        let mut next = || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise >> 24
        };
        let at = next() % 12;
        for i in 0..3 * 16 * 16 {
            let (channel, row, column) = (i / 256, i / 16 % 16, i % 16);
            let along = if class < 3 { row } else { column };
            let bar = channel == class % 3 && (at..at + 3).contains(&along);
            bytes.push((next() / 2 + if bar { 96 } else { 0 }) as u8);
        }
    }
    let data = Dataset::new().with("image", [3, 16, 16], Numbers::bytes(bytes))?;
    data.with("target", [], classes)
}

fn main() -> Result<()> {
    let model = Model::build(|m| {
        let x = m.input("image", [3, 16, 16]);
        let h = x.layer("stem", Conv2d::new(12, 3).padding(1)).relu();
        let h = block(h, "first", 12).then(MaxPool2d::new(2));
        let h = block(h, "second", 12).global_mean();
        m.output("logits", h.layer("head", Dense::new(6)));
    })?;
    println!("{}", model.summary());
    let parts = pictures(1200)?.split_stratified("target", &[0.7, 0.15, 0.15], 1)?;
    let device = Device::open(Choice::Auto)?;
    let optimizer = Optimizer::new(AdamW::default(), 0.01).clip_norm(1.0);
    let outcome = Fit::new(&model, Loss::cross_entropy(), optimizer)
        .batch(32)
        .epochs(8)
        .metric(Metric::accuracy())
        .validation(&parts[1])
        .test(&parts[2])
        .with(EarlyStop::on("validation accuracy").patience(3))
        .with(Progress::new(|epoch| {
            let loss = epoch.get("training loss").unwrap_or(f64::NAN);
            let accuracy = epoch.get("validation accuracy").unwrap_or(f64::NAN);
            println!(
                "epoch {}: loss {loss:.4}, accuracy {accuracy:.3}",
                epoch.epoch
            );
        }))
        .run(&parts[0], &device)?;
    println!(
        "test accuracy {:.3}",
        outcome.report.test("accuracy").unwrap_or(f64::NAN)
    );

    let path = std::env::temp_dir().join("wgrad-residual.safetensors");
    outcome.weights[0].save(&model, &path)?;
    let (model, weights) = Weights::load_model(&path, &Registry::standard())?;
    let net = Inference::new(&model, &weights, 64, &device)?;
    let scores = &net.run_on(&parts[2])?["logits"];
    println!("scores {:?} of the saved model", scores.shape());
    Ok(())
}
