//! Sequences of different lengths.

mod common;

use common::gpu;
use wgrad::exec::{Choice, Device};
use wgrad::fit::{Inference, Weights};
use wgrad::model::{Input, Model, layers::*};

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

/// What stands behind a sequence's end reaches nothing, in either direction.
#[test]
fn sequences_end_where_their_lengths_say() {
    const T: usize = 5;
    let lengths = [3u32, 5, 0, 1, 9];
    let input = |behind: f32| -> Vec<f32> {
        let all = (0..lengths.len() * T * 2).map(|i| {
            let (n, t) = (i / (2 * T), i / 2 % T);
            match t < lengths[n] as usize {
                true => (i * 7 % 11) as f32 / 5.0 - 1.0,
                false => behind,
            }
        });
        all.collect()
    };
    for device in std::iter::once(cpu()).chain(gpu()) {
        for last in [false, true] {
            let model = Model::build(|m| {
                let (x, ends) = (m.input("x", [T, 2]), m.input("lengths", Input::u32([])));
                let layer = Lstm::new(3).bidirectional().lengths();
                let layer = if last { layer.last() } else { layer };
                m.output("y", m.join("lstm", layer, &[x, ends]));
            });
            let model = model.unwrap();
            let weights = Weights::initial(&model, 2);
            let net = Inference::new(&model, &weights, 4, &device).unwrap();
            let run = |behind: f32| {
                let x = input(behind);
                let given = [("x", (&x[..]).into()), ("lengths", (&lengths[..]).into())];
                net.run(&given).unwrap().remove("y").unwrap()
            };
            let found = run(0.5);
            assert_eq!(found, run(-300.0));
            if last {
                assert!(found.outer_iter().nth(2).unwrap().iter().all(|&y| y == 0.0));
                continue;
            }
            for (n, states) in found.outer_iter().enumerate() {
                for (t, state) in states.outer_iter().enumerate() {
                    let within = t < lengths[n] as usize;
                    assert!(
                        state.iter().all(|&y| (y != 0.0) == within),
                        "{n}, {t}: {state}"
                    );
                }
            }
        }
    }
    let wrong = |lengths: Input| {
        let model = Model::build(|m| {
            let (x, ends) = (m.input("x", [T, 2]), m.input("lengths", lengths));
            m.output("y", m.join("gru", Gru::new(3).lengths(), &[x, ends]));
        });
        model.map(|_| ()).unwrap_err().to_string()
    };
    for other in [Input::f32([]), Input::u32([2])] {
        let error = wrong(other);
        assert!(
            error.contains("gru") && error.contains("wanted lengths as u32"),
            "{error}"
        );
    }
}
