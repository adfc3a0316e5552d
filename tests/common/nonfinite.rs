//! Inputs that are not finite, of the cases of ops.

use std::collections::BTreeMap;

use wgrad::doctor::harness::{Prepared, inputs, words};
use wgrad::ops::{Case, Row};
use wgrad::shape::DType;
use wgrad::tensor::Host;

/// Inputs that are not touched: the op (all of them for an empty name), the kernel's binding, why.
const EXEMPT: &[(&str, &str, &str)] = &[
    (
        "",
        "hyper",
        "settings, which are checked before anything runs",
    ),
    (
        "distort",
        "x",
        "which pixels a place mixes depends on rounding; images are bytes",
    ),
    (
        "distort",
        "drawn",
        "drawn by a kernel from bounded numbers; places are made integers",
    ),
];

/// Inputs that get NaN alone: the op, the kernel's binding, why.
const NO_INFINITIES: &[(&str, &str, &str)] = &[
    ("cross_entropy", "g", "a slope beside it may round to 0"),
    ("log_likelihood", "g", "a slope beside it may round to 0"),
    ("conv2d", "saved_x", "outputs of a sigmoid, which are none"),
    (
        "conv2d_pool",
        "saved_x",
        "outputs of a sigmoid, which are none; a strip adds up what it has sloped",
    ),
];

/// Numbers that stand for 0 where exponents are kept small (`shaders/shared/activation.wgsl`).
const TINY: f32 = 1e-30;

/// More elements take long and find nothing that few do not.
const MOST: usize = 1 << 16;

/// The name that a case's kernel has for an input, if it reads it.
fn binding_of(prepared: &Prepared, input: usize) -> Option<&'static str> {
    let buffer = prepared.compiled.buffer(prepared.inputs[input]).unwrap();
    prepared.plan().programs["run"].iter().find_map(|launch| {
        let at = launch.bindings.iter().position(|b| b.buffer == buffer)?;
        Some(launch.kernel.bindings[at].name)
    })
}

fn listed(list: &[(&str, &str, &str)], row: &Row, prepared: &Prepared, input: usize) -> bool {
    let binding = binding_of(prepared, input);
    let mut list = list.iter();
    list.any(|(stem, name, _)| (stem.is_empty() || *stem == row.stem) && binding == Some(name))
}

/// Float inputs that are made not finite.
fn poisoned(row: &Row, case: &Case, prepared: &Prepared) -> Vec<usize> {
    let floats = |&i: &usize| case.inputs[i].ty.dtype == DType::F32;
    let small = |&i: &usize| case.inputs[i].ty.elements() <= MOST;
    let inputs = (0..case.inputs.len()).filter(floats).filter(small);
    inputs
        .filter(|&i| !listed(EXEMPT, row, prepared, i))
        .collect()
}

/// What is put where: at the first element, at the last, and in between.
fn poisons(sound: &[Host], input: usize, purpose: u32, infinities: bool) -> Vec<Vec<Host>> {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let last = sound[input].len() - 1;
    let at = |i: usize| words(purpose, 8)[i] as usize % (last + 1);
    let lists = [
        vec![(at(0), nan)],
        vec![(at(1), inf)],
        vec![(at(2), -inf)],
        vec![(0, -inf), (last, -nan)],
        vec![(0, nan), (last, inf)],
        vec![(at(7), nan), ((at(7) + 1).min(last), nan)],
        vec![(at(3), nan), (at(4), -nan), (at(5), inf), (at(6), -inf)],
    ];
    let put = |list: &Vec<(usize, f32)>| {
        let mut given = sound.to_vec();
        if let Host::F32(values) = &mut given[input] {
            let list = list.iter().filter(|(_, x)| x.is_nan() || infinities);
            list.for_each(|&(at, x)| values[at] = x);
        }
        given
    };
    lists.iter().map(put).collect()
}

/// The inputs of a case with what is not finite put into one of them at a time, in several ways.
pub fn given_of(row: &Row, case: &Case, prepared: &Prepared, replicas: usize) -> Vec<Vec<Host>> {
    let sound = inputs(case, replicas);
    let each = |i: usize| {
        let infinities = !listed(NO_INFINITIES, row, prepared, i);
        poisons(&sound, i, i as u32 + 1, infinities)
    };
    let which = poisoned(row, case, prepared).into_iter();
    which.flat_map(each).collect()
}

/// Results in which what stands for 0 is 0.
pub fn without_tiny(mut found: BTreeMap<String, Host>) -> BTreeMap<String, Host> {
    for host in found.values_mut() {
        let Host::F32(values) = host else { continue };
        let tiny = |x: &&mut f32| x.abs() < TINY;
        values.iter_mut().filter(tiny).for_each(|x| *x = 0.0);
    }
    found
}
