//! The cases that hurt.

use super::super::{Case, Condition, Expr, Fill, Pointwise};
use crate::rng::streams::USER;

fn x() -> Expr {
    Expr::input(0)
}

fn y() -> Expr {
    Expr::input(1)
}

fn op(f: Expr) -> Pointwise {
    Pointwise::new(&[f])
}

pub(in super::super) fn all() -> Vec<Case> {
    let mut cases = functions();
    cases.extend(broadcasts());
    cases.extend(several());
    cases.extend(draws());
    cases
}

/// Each function alone, over a partial workgroup, several, and one element.
fn functions() -> Vec<Case> {
    let uniform = |low, high| Fill::Uniform(low, high);
    let kinkless = Fill::AwayFromZero;
    let unary: Vec<(Expr, Fill)> = vec![
        (-x(), uniform(-1.0, 1.0)),
        (x().abs(), kinkless),
        (x().sign() + x(), kinkless),
        (x().floor() + x(), kinkless),
        (x().exp(), uniform(-1.0, 1.0)),
        (x().expm1(), uniform(-1.0, 1.0)),
        (x().sqrt(), uniform(0.1, 4.0)),
        (x().rsqrt(), uniform(0.1, 4.0)),
        (x().log(), uniform(0.1, 4.0)),
        (x().log1p(), uniform(-0.7, 3.0)),
        (x().sin(), uniform(-1.0, 1.0)),
        (x().cos(), uniform(-1.0, 1.0)),
        (x().tanh(), uniform(-1.0, 1.0)),
        (x().sigmoid(), uniform(-1.0, 1.0)),
        (x().erf(), uniform(-1.0, 1.0)),
        (x().softplus(), uniform(-1.0, 1.0)),
        (x().relu(), kinkless),
        (x().square() * x(), uniform(-1.0, 1.0)),
        (2.0 / (x() + 3.0), uniform(-1.0, 1.0)),
        (x().clamp(-0.05, 0.05), kinkless),
    ];
    let mut cases = Vec::new();
    for (f, fill) in unary {
        for shape in [&[1usize][..], &[7, 9], &[3, 5, 2, 14]] {
            // Gradients go through a tanh first: what is positive has to stay so.
            let positive = matches!(fill, Fill::Uniform(low, _) if low > 0.0);
            let f = if positive { shifted(&f) } else { f.clone() };
            cases.push(Case::new(op(f), 1).float(shape, fill));
        }
    }
    // Far out: saturated, not overflown; large angles.
    for (f, reach) in [
        (x().tanh(), 100.0),
        (x().sigmoid(), 200.0),
        (x().softplus(), 200.0),
        (x().erf(), 20.0),
        (x().sin(), 5000.0),
        (x().cos(), 5000.0),
        (x().exp(), 80.0),
        (x().expm1(), 30.0),
        ((x() * 1e3).floor(), 1.0),
    ] {
        let case = Case::new(op(f), 1).float(&[260], uniform(-reach, reach));
        cases.push(case.forward_only());
    }
    // Near 0, where a difference would have no digits left.
    for f in [x().expm1(), x().log1p(), x().tanh(), x().erf(), x().sin()] {
        let case = Case::new(op(f), 1).float(&[130], uniform(-1e-4, 1e-4));
        cases.push(case.forward_only());
    }
    let binary = [
        x() + y(),
        x() - y(),
        x() * y(),
        x() / (y() + 2.0),
        x().min(y()),
        x().max(y()),
        (x() + 2.0).pow(y()),
        x().lt(y()).select(x(), y()),
    ];
    let steps = [
        x().lt(y()).select(x() * 3.0, y() * y()),
        x().ge(y()).and(&x().gt(0.0)).select(x(), y()),
        (!&x().le(y())).or(&y().lt(0.5)).select(y(), x() * 2.0),
    ];
    for f in steps {
        let case = Case::new(op(f), 1).fixed(&[5, 14], Fill::Distinct);
        cases.push(case.fixed(&[5, 14], Fill::Uniform(-0.93, 0.97)));
    }
    for f in binary {
        for shape in [&[1usize][..], &[65], &[3, 5, 2, 14]] {
            let case = Case::new(op(f.clone()), 1).float(shape, Fill::Distinct);
            cases.push(case.float(shape, Fill::Uniform(-0.93, 0.97)));
        }
    }
    // Equal numbers, powers of negative numbers and of 0.
    for f in [
        x().equals(y()).select(1.0, 0.0),
        x().max(y()),
        x().min(y()),
        x().pow(2.0),
    ] {
        let case = Case::new(op(f + y() * 0.5), 1).fixed(&[66], Fill::Ties);
        cases.push(case.fixed(&[66], Fill::Ties));
    }
    for (f, fill) in [
        (x().sign(), Fill::Ties),
        // The series alone.
        (x().log1p(), uniform(-0.5, 0.5)),
        (x().abs().pow(-1.0), Fill::Ties),
        (x().abs().pow(0.0), Fill::Ties),
    ] {
        cases.push(Case::new(op(f), 1).fixed(&[700], fill));
    }
    for exponent in [3.0, -1.0, 0.0, 1.5] {
        let f = x().abs().pow(exponent);
        cases.push(Case::new(op(f), 1).float(&[30], kinkless).forward_only());
    }
    cases.push(Case::new(op(x().pow(3.0)), 1).float(&[30], kinkless));
    // More workgroups than one dimension holds.
    let many = 65_535 * 64 + 7;
    cases.push(Case::new(op(x() + 1.0), 1).fixed(&[many], uniform(-1.0, 1.0)));
    cases
}

/// The function of 1 + x, for what is only defined for positive numbers.
fn shifted(f: &Expr) -> Expr {
    use crate::expr::Program;
    let program = Program::of(std::slice::from_ref(f));
    program.over(&[x() + 1.5])
}

/// Inputs repeated along leading, trailing and inner axes, and more than one of these.
fn broadcasts() -> Vec<Case> {
    let f = || x() * y() + y();
    let fill = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for (a, b) in [
        (&[6usize, 4][..], &[4usize][..]),
        (&[5, 3], &[3]),
        (&[5, 3], &[5, 1]),
        (&[5, 8], &[5, 1]),
        (&[2, 7, 3, 5], &[7, 1, 1]),
        (&[2, 7, 4, 5], &[1, 7, 1, 1]),
        (&[2, 7, 2, 6], &[7, 1, 1]),
        (&[3, 4, 4], &[1]),
        (&[1], &[130]),
        (&[4, 1], &[1, 6]),
        (&[3, 1], &[5]),
    ] {
        cases.push(Case::new(op(f()), 1).float(a, fill).float(b, fill));
    }
    // Along axes that are not neighbours.
    for (a, b) in [
        (&[2usize, 3, 4, 5][..], &[2usize, 1, 4, 1][..]),
        (&[2, 3, 5], &[2, 1, 5]),
    ] {
        cases.push(Case::new(op(f()), 1).float(a, fill).float(b, fill));
    }
    // Results larger than every input.
    let wide = op(x() * 2.0).with_extents(&[3, 7, 4]);
    cases.push(Case::new(wide, 1).float(&[7, 1], fill));
    // Integers, each replica's own and shared.
    let counted = || x() * y() - 1.0;
    for shape in [&[6usize, 4][..], &[5, 3]] {
        let case = Case::new(op(counted()), 1).float(shape, fill);
        cases.push(case.clone().u32(shape, Fill::Below(100)));
        cases.push(case.clone().shared_u32(shape, Fill::Below(100)));
        cases.push(case.u32(&shape[1..], Fill::Below(9)));
    }
    cases
}

/// Several outputs, outputs over inputs, one line that two outputs are.
fn several() -> Vec<Case> {
    let fill = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for n in [1, 63, 260, 5000] {
        let two = Pointwise::new(&[x() * y(), x() - y(), x() * y()]);
        cases.push(Case::new(two, 1).float(&[n], fill).float(&[n], fill));
        // A step of momentum: both are read and written over.
        let velocity = x() * 0.9 - Expr::input(2) * 0.1;
        let update = Pointwise::new(&[&velocity + 0.0, y() + &velocity]);
        let update = update.updating(0, 0).updating(1, 1);
        let case = Case::new(update, 3).fixed(&[n], fill).fixed(&[n], fill);
        cases.push(case.fixed(&[n], fill));
        // Written over without being read.
        let store = Pointwise::new(&[x() * 2.0, x().exp()]).updating(0, 1);
        cases.push(Case::new(store, 1).fixed(&[n], fill).fixed(&[n], fill));
        // Two values change places.
        let swap = Pointwise::new(&[x(), y()]).updating(0, 1).updating(1, 0);
        cases.push(Case::new(swap, 1).fixed(&[n], fill).fixed(&[n], fill));
    }
    // Of many inputs: gradients that are all one, and such as no launch can bind together.
    let all = |n: usize, f: fn(Expr, Expr) -> Expr| {
        let f = (1..n).map(Expr::input).fold(x(), f);
        let case = Case::new(Pointwise::new(&[f]), n);
        (0..n).fold(case, |case, k| case.float(&[[7, 9], [1, 9]][k % 2], fill))
    };
    cases.push(all(7, |a, b| a + b));
    cases.push(all(6, |a, b| a * b));
    // A result that is a number, an input, the same for all.
    let plain = Pointwise::new(&[Expr::constant(0.3), x(), y().exp()]);
    cases.push(Case::new(plain, 1).fixed(&[66], fill).fixed(&[1], fill));
    cases
}

/// Dropout, noise, a rate from a table by the step.
fn draws() -> Vec<Case> {
    let fill = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for n in [1, 7, 64, 1030] {
        let dropout = Condition::chance(USER, 0.7).select(x() * (1.0 / 0.7), 0.0);
        let noise = x() + (Expr::uniform(USER + 1) - 0.5) * Expr::uniform(USER + 2);
        for f in [dropout, noise] {
            let case = Case::new(op(f), 1).float(&[n], fill);
            cases.push(case.u32(&[4], Fill::Keys).u32(&[2], Fill::Pair(99, 12)));
        }
        let rate = Expr::at(1, (Expr::step() / 5.0).floor());
        let decayed = rate * Expr::step().sqrt() * x();
        let case = Case::new(op(decayed), 1)
            .float(&[n], fill)
            .fixed(&[3], fill);
        cases.push(case.u32(&[2], Fill::Pair(99, 12)));
        // Indices of each element, some below the table and some past it.
        let looked_up = Expr::at(1, x() * 9.3);
        let case = Case::new(op(looked_up), 1).fixed(&[n], Fill::Distinct);
        cases.push(case.fixed(&[5], fill));
    }
    cases
}
