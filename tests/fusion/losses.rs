//! Two losses over one step counter.

use std::sync::Arc;

use wgrad::compile::Options;
use wgrad::exec::{Choice, Device};
use wgrad::graph::Graph;
use wgrad::ops::add_bias::AddBias;
use wgrad::ops::advance::Advance;
use wgrad::ops::constant::Constant;
use wgrad::ops::epoch_metrics::EpochMetrics;
use wgrad::ops::matmul::Matmul;
use wgrad::ops::rows::Rows;
use wgrad::ops::{Loss, Tape, Value, quadratic};
use wgrad::run::Session;
use wgrad::shape::Type;

fn f32s(extents: &[usize]) -> Type {
    Type::f32("case", extents).unwrap()
}

fn u32s(extents: &[usize]) -> Type {
    Type::u32("case", extents).unwrap()
}

fn devices() -> Vec<Device> {
    let cpu = Device::open(Choice::Cpu).unwrap();
    [Some(cpu), crate::common::gpu()]
        .into_iter()
        .flatten()
        .collect()
}

/// Of two losses over one counter one counts the step, and the other leaves that as it is.
#[test]
fn two_losses_count_a_step_once() {
    for device in devices() {
        let found = [true, false].map(|fuse| {
            let mut graph = Graph::new();
            let x = graph.input::<f32>("x", f32s(&[8, 5]).shared()).unwrap();
            let t = graph.input::<u32>("t", u32s(&[8]).shared()).unwrap();
            let order = graph.input::<u32>("order", u32s(&[8])).unwrap();
            let step = graph.input::<u32>("step", u32s(&[2])).unwrap();
            let heads = ["a", "b"].map(|head| {
                let name = |what: &str| format!("{what} of {head}");
                let w = graph.input::<f32>(&name("weight"), f32s(&[3, 5])).unwrap();
                let b = graph.input::<f32>(&name("bias"), f32s(&[3])).unwrap();
                let totals = graph.input::<f32>(&name("totals"), f32s(&[4])).unwrap();
                let guard = graph.input::<u32>(&name("guard"), u32s(&[4])).unwrap();
                (w, b, totals, guard)
            });
            let train = graph.begin("train");
            let rows = |extents: &[usize]| Rows {
                batch: 2,
                rows: 8,
                extents: extents.to_vec(),
                stride: extents.iter().product(),
                start: 0,
                epoch_steps: 4,
                bytes: None,
            };
            let set = |column: Value| [column, order.value(), step.value()];
            let x_batch = graph.op1(Arc::new(rows(&[5])), &set(x.value())).unwrap();
            let t_batch = graph.op1(Arc::new(rows(&[])), &set(t.value())).unwrap();
            let mut gradients = vec![];
            for (w, b, totals, guard) in heads {
                let z = Arc::new(Matmul::new(false, true));
                let z = graph.op1(z, &[x_batch, w.value()]).unwrap();
                let z = graph.op1(Arc::new(AddBias), &[z, b.value()]).unwrap();
                let losses = graph
                    .op1(Arc::new(Loss::of(&quadratic::COST)), &[z, t_batch])
                    .unwrap();
                let add = EpochMetrics {
                    count: 2,
                    epoch_steps: 1,
                    predict: false,
                    keeps: true,
                };
                let counted = [step.value(), totals.value(), guard.value()];
                let inputs = [&[z, losses, t_batch][..], &counted].concat();
                graph.op(Arc::new(add), &inputs).unwrap();
                let half = Constant {
                    extents: vec![2],
                    value: 0.5,
                };
                let seed = graph.op1(Arc::new(half), &[]).unwrap();
                let g = graph.gradients(losses, seed, &[w.value()]).unwrap()[0].unwrap();
                let name = format!("gradient {}", gradients.len());
                gradients.push(graph.output::<f32>(&name, g).unwrap());
            }
            graph.op(Arc::new(Advance), &[step.value()]).unwrap();
            let options = Options {
                fuse,
                ..Options::on(device.info())
            };
            let mut session = Session::with(&graph, &device, &options).unwrap();
            let kernels = session.plan().programs["train"].iter();
            let fused = kernels
                .filter(|l| l.kernel.name.starts_with("dense_loss"))
                .count();
            assert_eq!(fused, if fuse { 2 } else { 0 });
            let numbers: Vec<f32> = (0..40).map(|i| (i as f32).sin()).collect();
            session.write(x, &numbers).unwrap();
            session.write(t, &[0, 1, 2, 0, 2, 1, 1, 0]).unwrap();
            session.write(order, &[3, 1, 0, 2, 7, 5, 6, 4]).unwrap();
            session.fill(step, 0).unwrap();
            for (w, b, totals, guard) in heads {
                session.write(w, &numbers[..15]).unwrap();
                session.fill(b, 0.1).unwrap();
                session.fill(totals, 0.0).unwrap();
                session.fill(guard, 0).unwrap();
            }
            session.run(train, 3).unwrap();
            let next = session.read(step).unwrap()[0];
            (next, session.read(&gradients).unwrap())
        });
        let [(one, fused), (other, apart)] = found;
        assert_eq!((one, other), (3, 3), "{}", device.info().name);
        for (fused, apart) in fused.iter().zip(&apart) {
            for (f, a) in fused.iter().zip(apart.iter()) {
                assert!((f - a).abs() < 1e-6, "{}: {f} {a}", device.info().name);
            }
        }
    }
}
