//! An epoch of mini-batches on the device: shuffle, gather, metrics and the step counter
//! together, bit for bit the same everywhere.

mod common;

use std::sync::Arc;

use common::{gpu, words};
use wgrad::compile::Options;
use wgrad::exec::{Choice, Device};
use wgrad::graph::Graph;
use wgrad::ops::advance::Advance;
use wgrad::ops::gather::{Expansion, Gather};
use wgrad::ops::shuffle::Shuffle;
use wgrad::ops::{COUNTER, Tape};
use wgrad::rng::keys;
use wgrad::run::Session;
use wgrad::shape::Type;
use wgrad::tensor::pack;

const IMAGES: usize = 13;
const SHAPE: [usize; 3] = [1, 4, 3];
const BATCH: usize = 5;

/// Every image a value of its own in each pixel, so that a batch shows what it is made of.
fn pixels() -> Vec<u8> {
    words(40, IMAGES * 12).iter().map(|w| *w as u8).collect()
}

fn devices() -> Vec<Device> {
    std::iter::once(Device::open(Choice::Cpu).unwrap())
        .chain(gpu())
        .collect()
}

/// Runs `epochs` epochs and returns the images and labels of every step, replicas apart.
fn batches(
    device: &Device,
    expansion: Expansion,
    replicas: &[u32],
    epochs: u32,
) -> Vec<Vec<(Vec<f32>, Vec<u32>)>> {
    let examples = IMAGES * expansion.factor();
    let steps = examples / BATCH;
    let mut graph = Graph::new();
    let shared = |n: usize| Type::u32("epoch", &[n]).unwrap().shared();
    let own = |n: usize| Type::u32("epoch", &[n]).unwrap();
    let mut input = |name: &str, ty: Type| graph.input::<u32>(name, ty).unwrap();
    let images = input("images", shared((IMAGES * 12usize).div_ceil(4)));
    let labels = input("labels", shared(IMAGES));
    let step = input("step", own(COUNTER));
    let key = input("keys", own(4));
    let order = graph.variable("order", own(examples)).unwrap();
    let now = step.value();
    let shuffled = graph.begin("shuffle");
    let shuffle = Shuffle {
        n: examples,
        epoch_steps: steps,
    };
    graph
        .op(Arc::new(shuffle), &[order, key.value(), now])
        .unwrap();
    let train = graph.begin("train");
    let gather = Gather {
        batch: BATCH,
        images: IMAGES,
        shape: SHAPE,
        expansion,
        epoch_steps: steps,
        scale: 1.0,
        shuffled: true,
    };
    let xy = graph
        .op(
            Arc::new(gather),
            &[images.value(), labels.value(), now, order],
        )
        .unwrap();
    let x = graph.output::<f32>("x", xy[0]).unwrap();
    let y = graph.output::<u32>("y", xy[1]).unwrap();
    graph.op(Arc::new(Advance), &[now]).unwrap();
    let options = Options {
        replicas: replicas.len(),
        ..Options::on(device.info())
    };
    let mut session = Session::with(&graph, device, &options).unwrap();
    session.write(images, &pack(&pixels())).unwrap();
    let numbers: Vec<u32> = (0..IMAGES as u32).collect();
    session.write(labels, &numbers).unwrap();
    session.fill(step, 0).unwrap();
    let words: Vec<u32> = replicas.iter().flat_map(|&r| keys(77, r)).collect();
    session.write(key, &words).unwrap();
    let mut all = vec![vec![]; replicas.len()];
    for _ in 0..epochs {
        session.run(shuffled, 1).unwrap();
        for _ in 0..steps {
            session.run(train, 1).unwrap();
            let (x, y) = session.read((x, y)).unwrap();
            for (r, (x, y)) in x.replicas().zip(y.replicas()).enumerate() {
                all[r].push((x.to_vec(), y.to_vec()));
            }
        }
    }
    all
}

/// The five views of an image as a host would make them.
fn views(image: usize) -> Vec<Vec<f32>> {
    let pixels = pixels();
    let at = |row: isize, col: isize| {
        let inside = (0..4).contains(&row) && (0..3).contains(&col);
        if inside {
            f32::from(pixels[image * 12 + row as usize * 3 + col as usize])
        } else {
            0.0
        }
    };
    [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
        .map(|(down, right)| {
            let places = (0..4).flat_map(|row| (0..3).map(move |col| (row, col)));
            places
                .map(|(row, col)| at(row + down, col + right))
                .collect()
        })
        .to_vec()
}

#[test]
fn every_example_comes_once_an_epoch() {
    for device in devices() {
        for expansion in [Expansion::None, Expansion::Shifts] {
            let examples = IMAGES * expansion.factor();
            let steps = examples / BATCH;
            let all = &batches(&device, expansion, &[0], 3)[0];
            let mut orders = Vec::new();
            for epoch in all.chunks(steps) {
                let mut seen = vec![0; examples];
                let mut order = Vec::new();
                for (x, labels) in epoch {
                    for (x, &label) in x.chunks(12).zip(labels) {
                        let views = views(label as usize);
                        let kind = views.iter().take(expansion.factor()).position(|v| v == x);
                        let example = kind.expect("a view of its image") * IMAGES + label as usize;
                        seen[example] += 1;
                        order.push(example);
                    }
                }
                // Whole mini-batches only: a few examples wait for another epoch.
                assert_eq!(seen.iter().sum::<usize>(), steps * BATCH);
                assert!(seen.iter().all(|&n| n <= 1), "{seen:?}");
                orders.push(order);
            }
            assert_ne!(orders[0], orders[1]);
            assert_ne!(orders[1], orders[2]);
        }
    }
}

#[test]
fn batches_are_the_same_bits_everywhere_and_for_any_replicas() {
    let mut reference: Option<Vec<_>> = None;
    for device in devices() {
        let three = batches(&device, Expansion::Shifts, &[0, 1, 2], 2);
        let alone = batches(&device, Expansion::Shifts, &[2], 2);
        assert_eq!(three[2], alone[0], "{}", device.info().name);
        assert_ne!(three[0], three[1]);
        match &reference {
            None => reference = Some(three),
            Some(first) => assert_eq!(first, &three, "{}", device.info().name),
        }
    }
}
