//! Weights of fixtures, and how they are compared.

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};
use wgrad::exec::{Choice, Device};
use wgrad::fit::Weights;
use wgrad::tensor::View;

use super::fixtures::Tensor;
use super::gpu;

/// Fixtures by name.
pub type Fixtures = BTreeMap<String, Tensor>;

/// The CPU and, where there is one, the GPU.
pub fn devices() -> Vec<Device> {
    let cpu = Device::open(Choice::Cpu).unwrap();
    [Some(cpu), gpu()].into_iter().flatten().collect()
}

/// The tensors under a prefix, as weights.
pub fn under(fixtures: &Fixtures, prefix: &str) -> Weights {
    let of = |(name, tensor): (&String, &Tensor)| {
        let rest = name.strip_prefix(prefix)?.strip_prefix('/')?;
        let array = ArrayD::from_shape_vec(IxDyn(&tensor.shape), tensor.floats()).unwrap();
        Some((rest.to_string(), array))
    };
    let tensors: Vec<_> = fixtures.iter().filter_map(of).collect();
    assert!(!tensors.is_empty(), "{prefix}");
    Weights::from_tensors(tensors)
}

pub fn floats<'a>(fixtures: &'a Fixtures, name: &str) -> &'a [f32] {
    match fixtures[name].host.view() {
        View::F32(values) => values,
        View::U32(_) => panic!("{name} are integers"),
    }
}

pub fn integers<'a>(fixtures: &'a Fixtures, name: &str) -> &'a [u32] {
    match fixtures[name].host.view() {
        View::U32(values) => values,
        View::F32(_) => panic!("{name} are floats"),
    }
}

/// Holds numbers to PyTorch's, 1e-5 of the largest one.
pub fn near<'a>(
    found: impl IntoIterator<Item = &'a f32>,
    wanted: impl IntoIterator<Item = &'a f32>,
    what: &str,
) {
    let (found, wanted): (Vec<&f32>, Vec<&f32>) =
        (found.into_iter().collect(), wanted.into_iter().collect());
    assert_eq!(found.len(), wanted.len(), "{what}");
    let most = wanted.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let pairs = found.iter().zip(&wanted);
    let gap = pairs.fold(0.0f32, |m, (a, b)| m.max((*a - *b).abs()));
    assert!(gap <= 1e-5 * most, "{what}: {gap:e} apart of {most}");
    assert!(found.iter().all(|x| x.is_finite()), "{what}");
}

/// Holds weights to PyTorch's by name.
pub fn hold(found: &Weights, wanted: &Weights, what: &str) {
    for (name, wanted) in wanted.tensors() {
        let found = found.get(name).unwrap();
        near(found, wanted, &format!("{what}, {name}"));
    }
}
