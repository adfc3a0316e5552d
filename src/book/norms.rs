//! Chapter 5: how long the gradient is in each layer.

use super::neuron::{chain, four};
use super::options::{Options, Progress, Tell};
use super::rows::{describe, mean, named, plot};
use super::{Experiment, Run};
use crate::book::nn::{Cost, Init};
use crate::book::train::{Probe, Settings, Trainer};
use crate::data::{Images, Split};
use crate::error::{Error, Result};
use crate::report::record::{Record, Row, Series};

/// Images that gradients at the start are averaged over.
const IMAGES: usize = 1000;
/// Weight of each of the four neurons.
const WEIGHT: f32 = 100.0;

/// A network with so many hidden layers of 30 sigmoids.
fn deep(layers: usize, norms: &super::Norms) -> Run {
    Run {
        name: format!("{layers} hidden layers"),
        net: "dense 30 sigmoid ".repeat(layers) + "dense 10 sigmoid",
        cost: Cost::CrossEntropy,
        init: Init::Scaled,
        eta: norms.eta,
        momentum: 0.0,
        batch: norms.images,
        epochs: None,
        images: Some(norms.images),
        per_example: norms.lambda,
        per_batch: 0.0,
        l1: 0.0,
        expansion: Default::default(),
        distortion: Default::default(),
        eta_last: None,
        average: None,
        stop_after: None,
        halve_after: None,
        rates: vec![],
        measure: false,
        histogram: false,
        filters: false,
        diagnose: false,
        report: vec![],
    }
}

/// Held-out sets cut to a few images: nobody looks at them here.
fn narrowed(mut data: Split) -> Result<Split> {
    let few = |images: &Images| images.first(10.min(images.len()));
    data.validation = few(&data.validation)?;
    data.test = few(&data.test)?;
    Ok(data)
}

pub(super) fn run(
    experiment: &Experiment,
    options: &Options<'_>,
    tell: Tell<'_>,
    record: &mut Record,
) -> Result<()> {
    let wanted = "networks described";
    let norms = (experiment.lengths.as_ref())
        .ok_or_else(|| Error::setting(&experiment.id, "no networks", wanted))?;
    let data = narrowed(options.data(Some(norms.images))?)?;
    describe(record, &data);
    let epochs = options.epochs.or(experiment.epochs).unwrap_or(1);
    record.epochs = Some(epochs);
    let mut settings_text = vec![];
    for hidden in &norms.hidden {
        let run = deep(hidden.layers, norms);
        settings_text.push(run.describe());
        let settings = Settings {
            batch: data.train.len(),
            ..options.seeded(experiment, run.settings(epochs), &data)
        };
        let network = run.network([1, data.train.height, data.train.width])?;
        let mut trainer = Trainer::new(&network, &data, &settings, options.device)?;
        let mut probe = Probe::new(&network, &data.train, settings.replicas, options.device)?;
        // `[epoch][replica][layer]`, output layer left out as in the book.
        let mut history = Vec::with_capacity(epochs + 1);
        for epoch in 0..=epochs {
            probe.set_weights(&trainer.model()?)?;
            let lengths = probe.bias_norms()?.into_iter();
            history.push(
                lengths
                    .map(|l| l[..hidden.layers].to_vec())
                    .collect::<Vec<_>>(),
            );
            if epoch < epochs {
                trainer.epoch(&mut |event| {
                    tell(&Progress {
                        run: &run.name,
                        event,
                    });
                })?;
            }
        }
        let of = |epoch: usize, layer: usize| -> Vec<f64> {
            history[epoch]
                .iter()
                .map(|lengths| lengths[layer])
                .collect()
        };
        for layer in 0..hidden.layers {
            record.rows.push(Row {
                what: named(
                    &run,
                    &format!("‖δ‖ of hidden layer {} at the start", layer + 1),
                ),
                book: hidden.book.get(layer).copied(),
                ours: of(0, layer),
                ..Row::default()
            });
        }
        let ratio = |book: Option<f64>, epoch: usize, when: &str| Row {
            what: named(&run, &format!("last over first hidden layer {when}")),
            book,
            ours: (of(epoch, hidden.layers - 1).iter().zip(of(epoch, 0)))
                .map(|(last, first)| last / first)
                .collect(),
            ..Row::default()
        };
        let book = (hidden.book.last().zip(hidden.book.first())).map(|(last, first)| last / first);
        record.rows.push(ratio(book, 0, "at the start"));
        record.rows.push(ratio(None, epochs, "at the end"));
        let mut curves = plot(&named(&run, "‖δ‖ of each hidden layer"), "‖δ‖");
        curves.log_y = true;
        curves.series = (0..hidden.layers)
            .map(|layer| Series {
                name: format!("hidden layer {}", layer + 1),
                book: false,
                points: (0..history.len())
                    .map(|epoch| (epoch as f64, mean(&of(epoch, layer))))
                    .collect(),
            })
            .collect();
        record.plots.push(curves);
    }
    record.setting = settings_text.join("\n");
    Ok(())
}

/// The lengths at the start of a run's network, output layer left out.
pub(super) fn at_start(
    experiment: &Experiment,
    run: &Run,
    options: &Options<'_>,
) -> Result<Vec<Row>> {
    let data = narrowed(options.data(Some(IMAGES))?)?;
    let settings = options.seeded(experiment, run.settings(1), &data);
    let network = run.network([1, data.train.height, data.train.width])?;
    let mut trainer = Trainer::new(&network, &data, &settings, options.device)?;
    let mut probe = Probe::new(&network, &data.train, settings.replicas, options.device)?;
    probe.set_weights(&trainer.model()?)?;
    let lengths = probe.bias_norms()?;
    let hidden = lengths[0].len() - 1;
    let row = |layer: usize| Row {
        what: named(
            run,
            &format!("‖δ‖ of hidden layer {} at the start", layer + 1),
        ),
        ours: lengths.iter().map(|l| l[layer]).collect(),
        ..Row::default()
    };
    Ok((0..hidden).map(row).collect())
}

/// Four neurons in a row, w = 100 and b such that every z is 0: each factor w σ′(z) of the
/// chain rule is 100 · ¼ = 25.
pub(super) fn exploding(options: &Options<'_>, record: &mut Record) -> Result<()> {
    record.setting = "four sigmoid neurons in a row, w = 100, b such that z = 0; input 1, \
                      target 0, quadratic cost"
        .into();
    record.seeds.clear();
    let image = Images::new("the input 1", 1, 1, 1, vec![255], vec![0])?;
    let network = four();
    // z = w a + b with a = 1 for the first and σ(0) = ½ for the others.
    let first = (WEIGHT, -WEIGHT);
    let others = (WEIGHT, -WEIGHT / 2.0);
    let model = chain(&network, &[first, others, others, others])?;
    let mut probe = Probe::new(&network, &image, 1, options.device)?;
    probe.set_weights(&model)?;
    let lengths = probe.bias_norms()?.remove(0);
    for (layer, pair) in lengths.windows(2).enumerate() {
        record.rows.push(Row {
            what: format!(
                "∂C/∂b of neuron {} over that of neuron {}",
                layer + 1,
                layer + 2
            ),
            book: Some(25.0),
            ours: vec![pair[0] / pair[1]],
            slack: 1e-3,
            ..Row::default()
        });
    }
    record.rows.push(Row {
        what: "∂C/∂b of neuron 1 over that of neuron 4".into(),
        book: Some(25f64.powi(3)),
        ours: vec![lengths[0] / lengths[3]],
        slack: 1.0,
        ..Row::default()
    });
    let mut bars = plot("∂C/∂b along the chain", "|∂C/∂b|");
    bars.x_label = "neuron".into();
    bars.log_y = true;
    bars.series = vec![Series {
        name: "four neurons, w = 100".into(),
        book: false,
        points: (1..).map(f64::from).zip(lengths).collect(),
    }];
    record.plots = vec![bars];
    Ok(())
}
