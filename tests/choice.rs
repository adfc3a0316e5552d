//! What launches are predicted to take on a GPU, and the variants that are chosen by it, held against what each
//! variant took on one.

#[path = "../benches/kernels/cases.rs"]
mod cases;

use std::collections::BTreeMap;

use wgrad::compile::Options;
use wgrad::doctor::harness::Prepared;
use wgrad::kernel::Target;
use wgrad::ops::dense_grad::{DenseGrad, InputGradient};
use wgrad::ops::matmul::Matmul;
use wgrad::ops::recurrent::{Cell, Recurrent};
use wgrad::ops::{Case, Fill, TABLE};
use wgrad::optim::{HYPER, TableSgd};
use wgrad::plan::{Bound, Card, Limits, Plan};

/// `benches/kernels` on an NVIDIA H200, on its second day and on its first.
const TABLES: [&str; 2] = [
    include_str!("../results/h200/kernels.txt"),
    include_str!("../results/h200/2026-11-26/kernels.txt"),
];

/// Microseconds by launch and variant; launches of one variant have an empty name.
fn measured(table: &'static str) -> BTreeMap<&'static str, BTreeMap<String, f64>> {
    let mut rows: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for line in table.lines() {
        let (launch, rest) = match line.split_once(": ") {
            Some(parts) => parts,
            None if line.starts_with("dropout") => {
                let at = line.find("  ").unwrap();
                (&line[..at], &line[at..])
            }
            None => continue,
        };
        // A name, a block's edge and a layout where it has them, the time, rates.
        let words: Vec<_> = rest.split_whitespace().collect();
        let named = usize::from(!line.starts_with("dropout"));
        let named = named + usize::from(named > 0 && words[1].parse::<u32>().is_ok());
        let layout = words[named..].iter().take_while(|word| word.contains('='));
        let named = named + layout.count();
        if let Some(Ok(time)) = words.get(named).map(|word| word.parse()) {
            let variants = rows.entry(launch).or_default();
            variants.insert(words[..named].join(" "), time);
        }
    }
    rows
}

/// The plan of a case for hardware, whose loops may be longer than a software adapter's.
fn plan_of(case: &Case, replicas: usize) -> wgrad::Result<Plan> {
    let limits = Limits {
        turns: 1 << 24,
        ..Limits::default()
    };
    let options = Options {
        replicas,
        fuse: true,
        limits,
    };
    Ok(Prepared::with(case, &options)?.compiled.into_plan())
}

/// Every launch of the tables that is one launch still.
fn plans() -> Vec<(String, Plan)> {
    let mut all = [1024, 2048, 4096].map(cases::matmul).to_vec();
    all.extend(cases::convolutions(false));
    all.extend([10, 128].into_iter().flat_map(cases::workload_a));
    let plans = all.into_iter().map(|(label, case)| {
        // What is a part of a larger launch has not been measured.
        let plan = plan_of(&case, 1).unwrap();
        let plan = plan.with_variants(|target| !matches!(target, Target::Single { .. }));
        (label, plan)
    });
    plans
        .filter(|(_, plan)| plan.programs["run"].len() == 1)
        .collect()
}

/// Launches of the tables that are two by now: sums over the parts of a mini-batch.
const IN_PARTS: [&str; 1] = ["conv2d weight gradient 32x128x28x28"];

/// The shares of rows that must be predicted within a factor of 1.5.
const WITHIN: [f64; 2] = [0.96, 0.96];

#[test]
fn launches_take_about_as_long_as_predicted() {
    let plans = plans();
    for (table, share) in TABLES.into_iter().zip(WITHIN) {
        let (mut near, mut all, mut gone) = (0, 0, 0);
        for (label, variants) in measured(table) {
            if IN_PARTS.contains(&label) {
                gone += variants.len();
                continue;
            }
            let (_, plan) = plans.iter().find(|(l, _)| *l == label).expect(label);
            let launch = &plan.programs["run"][0];
            for (name, took) in variants {
                // Endings that were kernels of their own on the first day.
                let name = ["_bias_dropout", "_slope", "_sgd"]
                    .iter()
                    .fold(name, |name, ending| name.replace(ending, ""));
                let done = (0..launch.variants()).map(|variant| launch.done(variant));
                let mut done = done.filter(|done| name.is_empty() || cases::name(done) == name);
                let done = done.next().unwrap_or_else(|| panic!("{label}: {name}"));
                let found = plan.predicted(&done, &Card::H200);
                let factor = found.microseconds / took;
                let missed = !(1.0 / 1.5..=1.5).contains(&factor);
                all += 1;
                near += usize::from(!missed);
                println!(
                    "{label}: {name}: {took} µs, predicted {:.1} ({}), {factor:.2}{}",
                    found.microseconds,
                    found.bound,
                    if missed { " MISSED" } else { "" }
                );
            }
        }
        println!("{near} of {all}");
        assert!(all + gone >= 96 && gone <= 2, "{all} rows");
        assert!(near as f64 >= share * all as f64, "{near} of {all}");
    }
}

#[test]
fn the_way_taken_is_among_the_fastest() {
    let measured = measured(TABLES[0]);
    let mut slower = Vec::new();
    let mut count = 0;
    for (label, plan) in plans() {
        let launch = &plan.programs["run"][0];
        if launch.variants() == 1 {
            continue;
        }
        let variants = &measured[label.as_str()];
        let taken = cases::name(&launch.done(plan.suiting(launch, &Card::H200)));
        let Some(time) = variants.get(&taken) else {
            panic!("{label}: {taken} was not measured");
        };
        let fastest = variants.values().copied().fold(f64::INFINITY, f64::min);
        count += 1;
        println!("{label}: {:.3}", time / fastest);
        if time / fastest > 1.25 {
            slower.push(label);
        }
    }
    for label in IN_PARTS {
        let mut cases = cases::convolutions(false).into_iter();
        let (_, case) = cases.find(|(l, _)| l == label).unwrap();
        assert_eq!(plan_of(&case, 1).unwrap().programs["run"].len(), 2);
    }
    let several = measured.values().filter(|variants| variants.len() > 1);
    assert_eq!(count, several.count() - IN_PARTS.len());
    assert_eq!(slower, [""; 0]);
}

/// The kernel that a case's launch takes with so many replicas.
fn taken(case: &Case, replicas: usize, card: &Card) -> &'static str {
    let plan = plan_of(case, replicas).unwrap();
    let launch = &plan.programs["run"][0];
    launch.done(plan.suiting(launch, card)).kernel.name
}

/// Variants add up in different orders, and a replica has the bits of the network alone: the first layer of
/// 784-30-10 at a mini-batch of 10, whose kernels for one network are not those that are best for 64
/// (`results/h200/README.md`).
#[test]
fn the_number_of_replicas_does_not_choose() {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let sgd = TableSgd {
        l2: true,
        l1: false,
        momentum: false,
        epoch_steps: 5000,
    };
    let op = DenseGrad {
        input_gradient: InputGradient::Unwanted,
        updates: [(sgd.ending(), vec![2, 4, 5]), (sgd.ending(), vec![3, 4, 5])],
    };
    let update = Case::new(op, 30)
        .fixed(&[10, 784], uniform)
        .fixed(&[10, 30], uniform)
        .fixed(&[30, 784], uniform)
        .fixed(&[30], uniform)
        .fixed(&[HYPER + 1], Fill::Number(0.0))
        .u32(&[2], Fill::Pair(8, 7));
    let forward = Case::new(Matmul::new(false, true), 784)
        .fixed(&[10, 784], uniform)
        .fixed(&[30, 784], uniform);
    for card in [&Card::H200, &Card::GENERIC] {
        for replicas in [1, 5, 64, 256] {
            assert_eq!(taken(&update, replicas, card), "dense_update_quads");
            assert_eq!(taken(&forward, replicas, card), "matmul_slices");
        }
    }
}

/// A launch a step spreads W over the card; a small W is read faster than a launch begins.
#[test]
fn a_recurrence_over_many_weights_is_a_launch_a_step() {
    let uniform = Fill::Uniform(-0.1, 0.1);
    let of = |cell, n, h| {
        let op = Recurrent {
            cell,
            reverse: false,
        };
        let gates = if cell == Cell::Lstm { 4 } else { 3 };
        let case = Case::new(op, 1)
            .fixed(&[n, 64, gates * h], uniform)
            .fixed(&[gates * h, h], uniform)
            .fixed(&[gates * h], uniform);
        taken(&case, 1, &Card::H200)
    };
    assert_eq!(of(Cell::Lstm, 32, 256), "lstm_step");
    assert_eq!(of(Cell::Gru, 128, 512), "gru_step");
    assert_eq!(of(Cell::Lstm, 32, 32), "lstm");
    // Four do not divide its units.
    assert_eq!(of(Cell::Lstm, 32, 126), "lstm");
}

#[test]
fn what_bounds_a_launch_is_told() {
    let plan_of_case = |case: &Case| plan_of(case, 1).unwrap();
    let bound = |case: &Case| {
        let plan = plan_of_case(case);
        let launch = &plan.programs["run"][0];
        plan.predicted(launch, &Card::H200).bound
    };
    assert_eq!(bound(&cases::scale(64)), Bound::Launch);
    assert_eq!(bound(&cases::matmul(2048).1), Bound::Issue);
}

/// Of every variant of every op's every case: a text that names a constant wrongly would only make a kernel one that
/// says nothing.
#[test]
fn what_a_kernel_asks_for_comes_to_numbers() {
    let mut stated = 0;
    for case in TABLE.iter().flat_map(|row| (row.cases)()) {
        let plan = plan_of(&case, 1).unwrap();
        for launch in plan.programs.values().flatten() {
            for variant in 0..launch.variants() {
                let done = launch.done(variant);
                let kernel = done.kernel;
                assert!(kernel.threads(&done.constants).is_some(), "{}", kernel.name);
                if !kernel.demand.rounds.is_empty() {
                    let asked = kernel.asked(&done.constants);
                    assert!(asked.is_some(), "{}: {:?}", kernel.name, done.constants);
                    stated += 1;
                }
            }
        }
    }
    assert!(stated > 500, "{stated}");
}
