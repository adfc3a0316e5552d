//! Pictures and numbers of what a network has become: filters, feature maps, misread
//! digits, weights and activations.

use super::Run;
use super::rows::named;
use crate::book::nn::Layer;
use crate::book::train::{Activations, Model};
use crate::data::Images;
use crate::error::Result;
use crate::exec::Device;
use crate::report::record::{Picture, Plot, Row, Series, Tile};

/// Bins of a histogram, and the weights' range it covers.
const BINS: usize = 81;
const REACH: f32 = 1.0;
/// Most misread digits on a page.
const MOST: usize = 200;

/// Grey values of numbers, the least black and the greatest white.
fn grey(values: impl Iterator<Item = f32> + Clone) -> Vec<u8> {
    let low = values.clone().fold(f32::INFINITY, f32::min);
    let high = values.clone().fold(f32::NEG_INFINITY, f32::max);
    let span = (high - low).max(f32::MIN_POSITIVE);
    values.map(|v| (255.0 * (v - low) / span) as u8).collect()
}

fn tiles<'a>(planes: impl Iterator<Item = &'a [f32]>) -> Vec<Tile> {
    let tile = |plane: &[f32]| Tile {
        pixels: grey(plane.iter().copied()),
        ..Tile::default()
    };
    planes.map(tile).collect()
}

/// The filters of every convolutional layer of the first network.
pub(super) fn filters(model: &Model) -> Vec<Picture> {
    let Some(weights) = model.replicas.first() else {
        return vec![];
    };
    let conv = weights.iter().filter(|(_, t)| t.ndim() == 4);
    conv.enumerate()
        .filter_map(|(number, (_, t))| {
            let (height, width) = (t.shape()[2], t.shape()[3]);
            Some(Picture {
                title: format!("Filters of convolutional layer {}", number + 1),
                caption: format!(
                    "{} filters on {} maps, white the largest weight of each. Those of the \
                     first layer look for edges; what the deeper ones see has no simple name.",
                    t.shape()[0],
                    t.shape()[1]
                ),
                height,
                width,
                tiles: tiles(t.as_slice()?.chunks(height * width)),
            })
        })
        .collect()
}

/// What each block of a convolutional network makes of a digit, first network.
pub(super) fn feature_maps(model: &Model, digit: &Images, device: &Device) -> Result<Vec<Picture>> {
    let mut pictures = vec![Picture {
        title: "The digit".into(),
        caption: "The first test image.".into(),
        height: digit.height,
        width: digit.width,
        tiles: vec![Tile {
            pixels: digit.image(0).to_vec(),
            ..Tile::default()
        }],
    }];
    let flat = |l: &Layer| matches!(l, Layer::Flatten | Layer::Dense { .. });
    let layers = &model.network.layers;
    let convolutional = layers.iter().position(flat).unwrap_or(layers.len());
    for end in 1..=convolutional {
        // A block ends where the next begins or the images end.
        let next = layers.get(end);
        if end < convolutional && !matches!(next, Some(Layer::Conv2d { .. })) {
            continue;
        }
        let maps = Activations::of(model, end, digit, device)?;
        let Some(map) = maps.replicas.first().filter(|m| m.ndim() == 4) else {
            continue;
        };
        let (height, width) = (map.shape()[2], map.shape()[3]);
        let Some(values) = map.as_slice() else {
            continue;
        };
        pictures.push(Picture {
            title: format!("Feature maps after block {}", pictures.len()),
            caption: "One map for each filter, after pooling and activation.".into(),
            height,
            width,
            tiles: tiles(values.chunks(height * width)),
        });
    }
    Ok(pictures)
}

/// The indices of the images that were answered wrongly.
pub(super) fn misread(images: &Images, answers: &[u32]) -> Vec<usize> {
    let pairs = answers.iter().zip(&images.labels).enumerate();
    pairs
        .filter(|(_, (answer, label))| **answer != u32::from(**label))
        .map(|(index, _)| index)
        .collect()
}

/// The book's page of errors: each misread digit, true label above, answer below.
pub(super) fn errors_page(images: &Images, answers: &[u32], misread: &[usize]) -> Picture {
    let tile = |&i: &usize| Tile {
        pixels: images.image(i).to_vec(),
        top: images.labels[i].to_string(),
        bottom: answers[i].to_string(),
    };
    Picture {
        title: "The digits that the networks misread together".into(),
        caption: format!(
            "{} of {}; top right what they are, bottom right what the vote took them for.",
            misread.len(),
            images.len()
        ),
        height: images.height,
        width: images.width,
        tiles: misread.iter().take(MOST).map(tile).collect(),
    }
}

/// The empty plot of [`histogram`]s.
pub(super) fn histogram_plot() -> Plot {
    Plot {
        title: "The first layer's weights".into(),
        x_label: "weight".into(),
        y_label: "share in %".into(),
        log_y: true,
        ..Plot::default()
    }
}

/// How the first layer's weights lie, over all seeds; bins without any are left out, since
/// the axis is logarithmic.
pub(super) fn histogram(run: &Run, model: &Model) -> Series {
    let mut counts = [0u64; BINS];
    let mut total = 0u64;
    for (_, weights) in model.replicas.iter().filter_map(|w| w.first()) {
        for w in weights {
            let place = (w / REACH + 1.0) / 2.0 * (BINS - 1) as f32;
            // Weights beyond the reach count in the last bin of their side.
            counts[(place.round().max(0.0) as usize).min(BINS - 1)] += 1;
            total += 1;
        }
    }
    let centre = |bin: usize| f64::from(REACH) * (2.0 * bin as f64 / (BINS - 1) as f64 - 1.0);
    let points = counts.iter().enumerate().filter(|(_, n)| **n > 0);
    Series {
        name: named(run, "weights"),
        book: false,
        points: points
            .map(|(bin, n)| (centre(bin), 100.0 * *n as f64 / total as f64))
            .collect(),
    }
}

/// Spread of weights and activations, and units that never answer, of each layer.
pub(super) fn diagnose(
    run: &Run,
    model: &Model,
    images: &Images,
    device: &Device,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut row = |what: String, unit: &str, ours: Vec<f64>| {
        rows.push(Row {
            what: named(run, &what),
            unit: unit.into(),
            ours,
            ..Row::default()
        });
    };
    for (k, (name, _)) in model.replicas[0].iter().enumerate() {
        if name.ends_with(".weight") {
            let spreads = model
                .replicas
                .iter()
                .map(|w| spread(w[k].1.iter().copied()).1);
            row(format!("{name}, standard deviation"), "", spreads.collect());
        }
    }
    for (index, layer) in model.network.layers.iter().enumerate() {
        if !matches!(layer, Layer::Sigmoid | Layer::Tanh | Layer::Relu) {
            continue;
        }
        let values = Activations::of(model, index + 1, images, device)?.replicas;
        let place = format!("{index}.{}", layer.name());
        let of = |f: fn((f64, f64)) -> f64| {
            let spreads = values.iter().map(|v| f(spread(v.iter().copied())));
            spreads.collect::<Vec<f64>>()
        };
        row(format!("{place}, mean activation"), "", of(|s| s.0));
        row(
            format!("{place}, standard deviation of activations"),
            "",
            of(|s| s.1),
        );
        if *layer == Layer::Relu {
            let dead = values.iter().map(|v| {
                // A unit is one place of the output, over all images.
                let each = v.len() / images.len();
                let flat: Vec<f32> = v.iter().copied().collect();
                let silent = |u: &usize| flat.iter().skip(*u).step_by(each).all(|x| *x == 0.0);
                100.0 * (0..each).filter(silent).count() as f64 / each as f64
            });
            row(
                format!("{place}, units silent on {} images", images.len()),
                "%",
                dead.collect(),
            );
        }
    }
    Ok(rows)
}

/// Mean and standard deviation.
fn spread(values: impl Iterator<Item = f32> + Clone) -> (f64, f64) {
    let count = values.clone().count() as f64;
    let mean = values.clone().map(f64::from).sum::<f64>() / count;
    let squares = values.map(|v| (f64::from(v) - mean).powi(2)).sum::<f64>();
    (mean, (squares / count).sqrt())
}
