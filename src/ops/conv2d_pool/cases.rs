//! The cases that hurt.

use super::super::pointwise::{Pointwise, ended_case, wrapped_case};
use super::*;
use crate::expr::Expr;

/// Images, filters; the convolution's stride, padding, dilation, groups; the pool's
/// window, stride, padding.
type Shapes = (
    [usize; 4],
    [usize; 4],
    ([usize; 2], [usize; 2], [usize; 2], usize),
    ([usize; 2], [usize; 2], [usize; 2]),
);

const PLAIN: ([usize; 2], [usize; 2], [usize; 2], usize) = ([1, 1], [0, 0], [1, 1], 1);
const HALVES: ([usize; 2], [usize; 2], [usize; 2]) = ([2, 2], [2, 2], [0, 0]);

/// One of each; windows that halve, on sizes that do not divide; more filters than a
/// thread takes; rows of whole fours; windows that cover all of several strips; windows that
/// overlap, leave gaps and hang over the edge; strides, padding, dilation, groups; more weights than a
/// workgroup has threads; more places than a thread adds up; rows shorter than a strip; little but
/// padding; more channels, and more filters, than a workgroup has room for at a time; so many images
/// that a workgroup takes four channels; so many places that more threads share a sum; more
/// filters than threads.
const SHAPES: [Shapes; 26] = [
    ([1, 1, 1, 1], [1, 1, 1, 1], PLAIN, ([1, 1], [1, 1], [0, 0])),
    ([1, 1, 2, 2], [1, 1, 1, 1], PLAIN, HALVES),
    ([3, 2, 8, 9], [5, 2, 3, 2], PLAIN, HALVES),
    ([2, 3, 7, 11], [17, 3, 2, 5], PLAIN, HALVES),
    (
        [2, 4, 9, 8],
        [22, 2, 3, 3],
        ([1, 1], [0, 0], [1, 1], 2),
        ([2, 2], [1, 3], [0, 0]),
    ),
    (
        [2, 3, 6, 6],
        [4, 3, 5, 5],
        ([1, 1], [2, 1], [1, 1], 1),
        ([3, 2], [2, 1], [1, 1]),
    ),
    (
        [2, 1, 13, 12],
        [3, 1, 3, 3],
        ([2, 3], [0, 1], [1, 1], 1),
        ([2, 2], [3, 1], [0, 0]),
    ),
    (
        [1, 2, 11, 9],
        [9, 2, 3, 2],
        ([3, 2], [1, 0], [1, 2], 1),
        ([2, 3], [2, 3], [1, 0]),
    ),
    (
        [2, 4, 7, 8],
        [6, 2, 2, 3],
        ([1, 2], [1, 1], [2, 1], 2),
        ([3, 3], [1, 1], [1, 0]),
    ),
    (
        [2, 3, 5, 5],
        [3, 1, 3, 3],
        ([1, 1], [1, 1], [1, 1], 3),
        ([5, 4], [1, 1], [2, 2]),
    ),
    (
        [1, 2, 4, 4],
        [4, 1, 2, 2],
        ([3, 3], [0, 0], [1, 1], 2),
        ([1, 2], [1, 2], [0, 1]),
    ),
    ([1, 13, 6, 7], [2, 13, 5, 4], PLAIN, HALVES),
    ([2, 3, 10, 16], [5, 3, 5, 5], PLAIN, HALVES),
    (
        [1, 4, 7, 21],
        [6, 2, 4, 4],
        ([1, 1], [0, 0], [1, 1], 2),
        HALVES,
    ),
    (
        [3, 4, 9, 12],
        [10, 2, 3, 4],
        ([1, 1], [0, 0], [1, 1], 2),
        HALVES,
    ),
    ([37, 1, 10, 10], [2, 1, 3, 3], PLAIN, HALVES),
    ([1, 2, 2, 4], [3, 2, 1, 3], PLAIN, HALVES),
    ([2, 1, 8, 8], [2, 1, 5, 5], PLAIN, HALVES),
    (
        [2, 1, 1, 1],
        [3, 1, 5, 5],
        ([1, 1], [2, 2], [1, 1], 1),
        ([1, 1], [1, 1], [0, 0]),
    ),
    (
        [1, 2, 1, 6],
        [3, 2, 3, 3],
        ([1, 7], [4, 1], [2, 1], 1),
        ([3, 1], [9, 2], [1, 0]),
    ),
    (
        [1, 2, 3, 3],
        [2, 2, 2, 2],
        ([80, 50], [301, 200], [1, 1], 1),
        ([2, 2], [2, 2], [0, 0]),
    ),
    ([1, 53, 12, 12], [3, 53, 3, 3], PLAIN, HALVES),
    (
        [2, 3, 11, 13],
        [53, 3, 3, 2],
        PLAIN,
        ([1, 1], [1, 1], [0, 0]),
    ),
    ([171, 9, 4, 5], [11, 9, 2, 3], PLAIN, HALVES),
    ([257, 1, 13, 13], [2, 1, 2, 3], PLAIN, HALVES),
    ([1, 1, 2, 2], [2, 1, 1, 1], PLAIN, HALVES),
];

/// Forward with data and with exactly representable ties, and every gradient.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for (x, w, (stride, padding, dilation, groups), (kernel, step, padded)) in SHAPES {
        let conv_pool = ConvPool {
            conv: Conv2d {
                stride,
                padding,
                dilation,
                groups,
            },
            pool: MaxPool2d {
                kernel,
                stride: step,
                padding: padded,
            },
        };
        let (Ok((s, [po, qo])), Ok(window)) = (conv_pool.sizes(x, w), conv_pool.window()) else {
            continue;
        };
        let (n, f) = (s.n, s.f);
        let y = [n, f, po, qo];
        let taps = w[1] * w[2] * w[3];
        let turn = cases.len() / 8;
        for fill in [uniform, Fill::Ties] {
            let case = Case::new(Conv2dPool(conv_pool), taps);
            let case = case.fixed(&x, fill).fixed(&w, fill).fixed(&[f], fill);
            if fill == uniform {
                cases.push(wrapped_case(&case, turn));
            }
            cases.push(case);
        }
        let winner = Fill::Winner(window, s.output);
        let grad = Conv2dPoolInputGrad {
            conv_pool,
            input: s.input,
        };
        let case = Case::new(grad, f / groups * w[2] * w[3]);
        let case = case.fixed(&y, uniform).u32(&y, winner).fixed(&w, uniform);
        cases.push(wrapped_case(&case, turn + 1));
        cases.push(case);
        let grad = |update| Conv2dPoolWeightGrad {
            conv_pool,
            kernel: [w[2], w[3]],
            update,
        };
        let case = |update, g| {
            let case = Case::new(grad(update), n * po * qo).fixed(&x, uniform);
            case.fixed(&y, g).u32(&y, winner)
        };
        // A ReLU after the pool leaves many zeros, which the optimized functions pass over.
        cases.push(case(Update::Store, Fill::Ties));
        let bare = case(Update::Store, uniform);
        cases.push(ended_case(&bare, &w, turn, |ending| {
            Arc::new(grad(Update::Weights(ending)))
        }));
        cases.push(both(case(Update::WeightsAndBias(updates()), uniform), &w));
    }
    cases
}

/// Updates of weights and bias by a rate from a table, the weights' with decay.
fn updates() -> [(Ending, Vec<usize>); 2] {
    let (gradient, parameter) = (Expr::input(0), Expr::input(1));
    let update = |slope: Expr| {
        let value = &parameter - Expr::at(2, Expr::step()) * slope;
        Ending::new(Pointwise::new(&[value]).updating(0, 1))
    };
    let decayed = &gradient + &parameter * 0.125;
    [
        (update(decayed), vec![3, 5, 6]),
        (update(gradient), vec![4, 5, 6]),
    ]
}

/// The inputs of these.
fn both(case: Case, w: &[usize]) -> Case {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let case = case.fixed(w, uniform).fixed(&w[..1], uniform);
    let case = case.fixed(&[5], Fill::Uniform(0.0, 1.0));
    case.u32(&[2], Fill::Pair(1, 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_the_list_fits() {
        assert_eq!(cases().len(), SHAPES.len() * 8);
    }

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        let mut conv_pool = ConvPool {
            conv: Conv2d {
                stride: [1, 1],
                padding: [0, 0],
                dilation: [1, 1],
                groups: 1,
            },
            pool: MaxPool2d {
                kernel: [2, 2],
                stride: [2, 2],
                padding: [0, 0],
            },
        };
        let ty = |e: &[usize]| Type::f32("x", e).unwrap();
        let indices = |e: &[usize]| Type::u32("x", e).unwrap();
        let (x, w, bias) = (ty(&[2, 3, 6, 6]), ty(&[4, 3, 3, 3]), ty(&[4]));
        let refused = |op: &dyn Op, inputs: &[Type]| op.infer(inputs).unwrap_err().to_string();
        let forward = Conv2dPool(conv_pool);
        assert!(forward.infer(&[x.clone(), w.clone(), bias.clone()]).is_ok());
        assert!(refused(&forward, &[x.clone(), w.clone()]).contains("2 inputs"));
        assert!(refused(&forward, &[x.clone(), w.clone(), ty(&[3])]).contains("bias [F]"));
        let narrow = [ty(&[2, 3, 6, 3]), w.clone(), bias.clone()];
        assert!(refused(&forward, &narrow).contains("reaches over 2, width 1"));
        conv_pool.pool.padding = [2, 0];
        let inputs = [x.clone(), w.clone(), bias.clone()];
        assert!(refused(&Conv2dPool(conv_pool), &inputs).contains("padding 2 of a window"));
        conv_pool.pool.padding = [0, 0];

        let g = [2, 4, 2, 2];
        let input_grad = Conv2dPoolInputGrad {
            conv_pool,
            input: [6, 6],
        };
        let inputs = [ty(&g), indices(&g), w.clone()];
        assert_eq!(input_grad.infer(&inputs).unwrap(), std::slice::from_ref(&x));
        let inputs = [ty(&[2, 4, 4, 4]), indices(&g), w.clone()];
        assert!(refused(&input_grad, &inputs).contains("gradient [N, F, P_o, Q_o]"));
        let inputs = [ty(&g), indices(&[2, 4, 4]), w.clone()];
        assert!(refused(&input_grad, &inputs).contains("argmax [N, F, P_o, Q_o]"));
        let inputs = [ty(&g), indices(&g), w.clone(), ty(&[2, 3, 5, 6])];
        assert!(refused(&input_grad, &inputs).contains("4 inputs"));

        let weight_grad = |update| Conv2dPoolWeightGrad {
            conv_pool,
            kernel: [3, 3],
            update,
        };
        let inputs = [x.clone(), ty(&g), indices(&g)];
        assert_eq!(weight_grad(Update::Store).infer(&inputs).unwrap(), [w]);
        let both = weight_grad(Update::WeightsAndBias(updates()));
        assert!(refused(&both, &inputs).contains("3 inputs of the expression"));
        let inputs = [x, ty(&g), indices(&g), bias];
        assert!(refused(&weight_grad(Update::Store), &inputs).contains("4 inputs"));
    }
}
