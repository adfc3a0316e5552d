//! The cases that attention is tested on.

use super::super::{Case, Fill};
use super::{Attention, AttentionGrad};

/// One place and several, one head and several, one number a head and many, primes, around a tile, more keys than queries and
/// fewer; causal and with masks, of which one hides all keys.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    let op = |heads, causal, masked| Attention {
        heads,
        causal,
        masked,
    };
    // Queries, keys and values in one input, or keys and values apart.
    let (own, apart) = (true, false);
    for (op, from, sizes) in [
        (op(1, false, false), own, [1, 1, 1, 1]),
        (op(2, false, false), own, [2, 3, 3, 5]),
        (op(2, true, false), own, [2, 3, 3, 5]),
        (op(2, false, true), own, [2, 3, 3, 5]),
        (op(2, true, true), own, [2, 3, 3, 5]),
        (op(3, true, true), apart, [2, 2, 7, 4]),
        (op(2, true, true), apart, [3, 3, 3, 2]),
        (op(1, true, false), apart, [2, 7, 2, 3]),
    ] {
        cases.push(forward(op, from, sizes));
    }
    for (op, from, sizes) in [
        (op(2, true, false), own, [2, 33, 33, 31]),
        (op(1, false, true), own, [1, 32, 32, 32]),
        (op(1, true, true), apart, [2, 31, 70, 17]),
        (op(2, false, true), apart, [1, 66, 35, 64]),
        (op(1, true, false), own, [1, 67, 67, 20]),
        (op(1, false, false), apart, [1, 35, 33, 97]),
        (op(1, true, false), apart, [1, 33, 33, 128]),
    ] {
        cases.push(forward(op, from, sizes).forward_only());
        cases.push(gradient(op, from, sizes));
    }
    let none = Case::new(op(2, false, true), 4).float(&[2, 3, 24], uniform);
    cases.push(none.fixed(&[2, 3], Fill::Number(0.0)));
    // Scores far apart.
    let far = Case::new(op(1, false, false), 40).float(&[2, 40, 12], Fill::Uniform(-5.0, 5.0));
    cases.push(far.forward_only());
    cases
}

/// Queries, keys and values in one input where they are `own`, and the mask of an op that has one.
fn given(case: Case, op: Attention, own: bool, [n, t, s, d]: [usize; 4]) -> Case {
    let (uniform, width) = (Fill::Uniform(-1.0, 1.0), op.heads * d);
    let case = match own {
        true => case.float(&[n, t, 3 * width], uniform),
        false => {
            let case = case.float(&[n, t, width], uniform);
            case.float(&[n, s, 2 * width], uniform)
        }
    };
    match op.masked {
        true => case.fixed(&[n, s], Fill::Sparse),
        false => case,
    }
}

fn forward(op: Attention, own: bool, sizes: [usize; 4]) -> Case {
    let [_, _, s, d] = sizes;
    given(Case::new(op, s.max(d)), op, own, sizes)
}

/// The gradient by itself: the levels are numbers that keep shares from growing beyond 1.
fn gradient(op: Attention, own: bool, sizes: [usize; 4]) -> Case {
    let [n, t, s, d] = sizes;
    let (uniform, width) = (Fill::Uniform(-1.0, 1.0), op.heads * d);
    let case = given(Case::new(AttentionGrad(op), s.max(t)), op, own, sizes).forward_only();
    let case = case.fixed(&[n, t, width], uniform);
    let case = case.fixed(&[n, t, op.heads], Fill::Uniform(2.0, 4.0));
    case.fixed(&[n, t, width], uniform)
}
