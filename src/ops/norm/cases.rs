//! The cases of normalization.

use std::sync::Arc;

use super::super::pointwise::{Ending, Pointwise, WithEnding};
use super::super::{Case, Fill};
use super::{BatchNormGrad, Norm, NormGiven, NormGivenGrad, NormGrad, NormParameters, Over};
use crate::expr::Expr;
use crate::shape::Type;

/// A residual and an activation at the end: as much as two launches have bindings for.
fn ended(bare: &Case, extents: &[usize]) -> Case {
    let sum = Expr::input(0) + Expr::input(1);
    let leaky = sum.gt(0.0).select(&sum, &sum * 0.25);
    let mut case = bare.clone().forward_only();
    if let Some(op) = WithEnding::of(&bare.op, &Ending::new(Pointwise::new(&[leaky]))) {
        case.op = Arc::new(op);
    }
    case.fixed(extents, Fill::Uniform(-1.0, 1.0))
}

/// One element, primes, several axes, groups of one and of several channels, one example; as many
/// elements as a workgroup has threads, one more, many more; so many that there are two launches.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    // rstd, and the square root of a variance.
    let positive = Fill::Uniform(0.5, 2.0);
    let shapes: [(Over, &[usize]); 34] = [
        (Over::Layer(1), &[1, 1]),
        (Over::Layer(1), &[3, 7]),
        (Over::Layer(1), &[5]),
        (Over::Layer(2), &[2, 2, 3, 5]),
        (Over::Layer(1), &[2, 256]),
        (Over::Layer(1), &[2, 257]),
        (Over::Layer(3), &[2, 3, 17, 31]),
        (Over::Layer(1), &[300, 3]),
        (Over::Rms(1), &[1, 1]),
        (Over::Rms(1), &[3, 7]),
        (Over::Rms(2), &[2, 2, 3, 5]),
        (Over::Rms(1), &[2, 515]),
        (Over::Rms(1), &[300, 3]),
        (Over::Group(1), &[2, 3, 5]),
        (Over::Group(2), &[3, 4, 2, 3]),
        (Over::Group(3), &[2, 6]),
        (Over::Group(2), &[2, 4, 13, 11]),
        (Over::Instance, &[2, 3, 5]),
        (Over::Instance, &[1, 2, 17, 19]),
        (Over::Batch, &[3, 2]),
        (Over::Batch, &[1, 3, 2, 5]),
        (Over::Batch, &[4, 3, 5]),
        (Over::Batch, &[7, 2, 11, 5]),
        (Over::Batch, &[300, 3]),
        (Over::Batch, &[5, 2, 13, 17]),
        // Work for several tasks of the CPU's threads.
        (Over::Layer(1), &[260, 131]),
        (Over::Rms(1), &[260, 131]),
        (Over::Group(2), &[3, 4, 53, 61]),
        (Over::Batch, &[260, 131]),
        (Over::Batch, &[3, 5, 41, 61]),
        // In runs: the last one shorter, parts of channels and examples, several channels of a group, one
        // example, each element its own parameter.
        (Over::Batch, &[2, 1, 4111]),
        (Over::Batch, &[258, 3, 37]),
        (Over::Group(2), &[1, 6, 41, 74]),
        (Over::Layer(3), &[2, 3, 53, 60]),
    ];
    let mut cases = Vec::new();
    for (over, extents) in shapes {
        let norm = Norm {
            over,
            epsilon: 1e-3,
        };
        let Ok(view) = Type::f32("case", extents).and_then(|x| norm.view(&x)) else {
            continue;
        };
        let (affine, statistics) = (&view.parameters, &view.statistics);
        let elements = view.n * view.c * view.s;
        let runs = norm.runs(&view);
        // Of a run, then of the runs.
        let terms = match runs {
            1 => view.terms(),
            runs => view.terms().div_ceil(runs) + runs,
        };
        let small = |case: Case| {
            if elements > 64 {
                case.forward_only()
            } else {
                case
            }
        };
        // Runs have different means; as many elements are below the mean as above, and none is near it.
        let x = if runs > 1 {
            Fill::Rising(-1.0, 2.0)
        } else {
            uniform
        };
        let rms = norm.is_rms();
        if runs > 1 && affine == &[1] {
            // As small, with parameters that are differentiated.
            let case = Case::new(norm, terms).fixed(extents, x);
            cases.push(case.float(affine, uniform).float(affine, uniform));
        }
        let case = Case::new(norm, terms).float(extents, x);
        let case = case.float(affine, uniform);
        let case = match rms {
            true => case,
            false => case.float(affine, uniform),
        };
        cases.push(ended(&case, extents));
        cases.push(small(case));
        let statistic = |case: Case| match rms {
            true => case.fixed(statistics, positive),
            false => case.fixed(statistics, uniform).fixed(statistics, positive),
        };
        if over == Over::Batch {
            let case = Case::new(BatchNormGrad(norm), terms).fixed(extents, uniform);
            let case = case.fixed(extents, x).fixed(affine, uniform);
            cases.push(statistic(case));
        }
        let case = Case::new(NormGrad(norm), view.terms()).fixed(extents, uniform);
        let case = case.fixed(extents, uniform).fixed(affine, uniform);
        cases.push(statistic(case));
        let case = Case::new(NormParameters(norm), elements / view.c);
        let case = case.fixed(extents, uniform).fixed(extents, uniform);
        cases.push(statistic(case));
        if !rms {
            let case = Case::new(NormGiven(norm), 1).float(extents, uniform);
            let case = case.fixed(affine, uniform).fixed(affine, uniform);
            let case = statistic(case);
            cases.push(ended(&case, extents));
            cases.push(small(case));
            let case = Case::new(NormGivenGrad(norm), 1).fixed(extents, uniform);
            let case = case.fixed(affine, uniform);
            cases.push(case.fixed(statistics, positive));
        }
    }
    cases
}
