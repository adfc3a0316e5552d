//! The squares of several values summed up, for the norm of all of them together, such as that of all gradients: a launch
//! for each few values instead of one or two for each. There is no gradient.

use pulp::Arch;

use super::launch::grid;
use super::split::MOST_PARTS;
use super::sums::{Sums, TASK, Terms};
use super::{Case, Fill, Lowered, Lowering, Op, Operand, floats};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Demand, Kernel, Reference};
use crate::shape::Type;
use crate::tensor::Real;
use crate::threads::prelude::*;

/// y = Σ x² over each run of 4096 elements of the first input, then of the second, …: one to seven inputs of any shapes;
/// output y `[runs]`.
#[derive(Clone, Copy, Debug)]
pub struct Squares;

/// Elements of a run; `RUN` of the shader.
const RUN: usize = 4096;

/// How many runs so many elements are.
pub(crate) fn runs(elements: usize) -> usize {
    elements.div_ceil(RUN)
}

impl Op for Squares {
    fn name(&self) -> &'static str {
        "squares"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        if !(1..=MOST_PARTS).contains(&inputs.len()) {
            let found = format!("{} inputs", inputs.len());
            return Err(Error::shape("squares", found, format!("1 to {MOST_PARTS}")));
        }
        for (k, ty) in inputs.iter().enumerate() {
            floats("squares", &format!("input {k}"), ty)?;
        }
        let runs = inputs.iter().map(|ty| runs(ty.elements())).sum();
        Ok(vec![Type::f32("squares", &[runs])?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let elements = inputs.iter().map(Type::elements);
        let sizes = SIZES.into_iter().zip(elements.clone().map(|n| n as f64));
        let runs = outputs[0].elements();
        let mut operands: Vec<_> = (0..inputs.len()).map(Operand::In).collect();
        operands.push(Operand::Out(0));
        Ok(Lowering::Launch(Lowered {
            kernel: KERNELS[inputs.len() - 1],
            constants: sizes.chain([("RUNS", runs as f64)]).collect(),
            operands,
            grid: grid(runs, 1),
            flops: 2 * elements.sum::<usize>() as u64,
            alternatives: vec![],
        }))
    }
}

/// Names of the constants of each input.
const SIZES: [&str; MOST_PARTS] = [
    "SIZE_0", "SIZE_1", "SIZE_2", "SIZE_3", "SIZE_4", "SIZE_5", "SIZE_6",
];

macro_rules! kernel {
    ($of:literal, $kernel:ident, $name:literal, $y:literal, $($x:literal $size:literal),*) => {
        /// The sums of its inputs' runs.
        pub static $kernel: Kernel = Kernel {
            name: $name,
            turns: "24",
            stem: "squares",
            source: include_str!("../../shaders/squares.wgsl"),
            bindings: &[
                $(Bind::read($x).of($size),)*
                Bind::write($y).of("RUNS"),
            ],
            constants: &[$($size,)* "RUNS"],
            reference: Reference::of(reference::<f32, $of>, reference::<f64, $of>),
            optimized: Some(optimized::<$of>),
            demand: Demand {
                rounds: "5",
                barriers: "8",
                issue: concat!("200 + 8 * ", $of),
                words: "4096",
                ..Demand::UNSTATED
            },
            trusted: true,
            ports: &[],
            finishing: None,
        };
    };
}

kernel!(1, SQUARES, "squares", "y1", "x0" "SIZE_0");
kernel!(2, SQUARES_2, "squares_2", "y2", "x0" "SIZE_0", "x1" "SIZE_1");
kernel!(3, SQUARES_3, "squares_3", "y3", "x0" "SIZE_0", "x1" "SIZE_1", "x2" "SIZE_2");
kernel!(4, SQUARES_4, "squares_4", "y4", "x0" "SIZE_0", "x1" "SIZE_1", "x2" "SIZE_2", "x3" "SIZE_3");
kernel!(5, SQUARES_5, "squares_5", "y5", "x0" "SIZE_0", "x1" "SIZE_1", "x2" "SIZE_2", "x3" "SIZE_3", "x4" "SIZE_4");
kernel!(6, SQUARES_6, "squares_6", "y6", "x0" "SIZE_0", "x1" "SIZE_1", "x2" "SIZE_2", "x3" "SIZE_3", "x4" "SIZE_4", "x5" "SIZE_5");
kernel!(7, SQUARES_7, "squares_7", "y7", "x0" "SIZE_0", "x1" "SIZE_1", "x2" "SIZE_2", "x3" "SIZE_3", "x4" "SIZE_4", "x5" "SIZE_5", "x6" "SIZE_6");

/// The kernels of this file, by the number of inputs less one.
pub static KERNELS: &[&Kernel] = &[
    &SQUARES, &SQUARES_2, &SQUARES_3, &SQUARES_4, &SQUARES_5, &SQUARES_6, &SQUARES_7,
];

fn reference<T: Real, const K: usize>(args: &mut Args<'_, T>) {
    let y = args.f_mut(K); // [RUNS]
    let mut sums = y.iter_mut();
    for k in 0..K {
        for (run, sum) in args.f(k).chunks(RUN).zip(&mut sums) {
            *sum = run.iter().map(|&x| x * x).sum();
        }
    }
}

/// The elements' squares.
#[derive(Clone, Copy)]
struct Squared<'a>(&'a [f32]);

impl Terms<1> for Squared<'_> {
    #[inline(always)]
    fn at(self, i: usize) -> [f32; 1] {
        [self.0[i] * self.0[i]]
    }

    #[inline(always)]
    fn part(self, from: usize, n: usize) -> Self {
        Self(&self.0[from..][..n])
    }
}

/// The sums of a value's runs.
struct Runs<'a> {
    x: &'a [f32],
    sums: &'a mut [f32],
}

impl pulp::NullaryFnOnce for Runs<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (run, sum) in self.x.chunks(RUN).zip(self.sums) {
            let mut sums = Sums::NONE;
            sums.add(run.len(), Squared(run));
            [*sum] = sums.totals();
        }
    }
}

fn optimized<const K: usize>(args: &mut Args<'_, f32>) {
    let mut rest = args.f_mut(K); // [RUNS]
    let arch = Arch::new();
    for k in 0..K {
        let x = args.f(k);
        let (sums, after) = rest.split_at_mut(x.len().div_ceil(RUN));
        rest = after;
        let runs = TASK / RUN;
        match x.len() <= TASK {
            true => arch.dispatch(Runs { x, sums }),
            false => sums
                .par_chunks_mut(runs)
                .zip(x.par_chunks(runs * RUN))
                .share(|(sums, x)| arch.dispatch(Runs { x, sums })),
        }
    }
}

/// One to seven values; one element, a run, one more, several; several axes.
pub fn cases() -> Vec<Case> {
    let case = |values: &[&[usize]]| {
        let uniform = Fill::Uniform(-1.0, 1.0);
        let case = Case::new(Squares, RUN);
        values
            .iter()
            .fold(case, |case, extents| case.fixed(extents, uniform))
    };
    let mut cases = vec![
        case(&[&[1]]),
        case(&[&[RUN]]),
        case(&[&[3, 5, 7], &[RUN + 1]]),
        case(&[&[2 * RUN + 255], &[1, 1], &[17, 257]]),
    ];
    let sizes: [&[usize]; MOST_PARTS] =
        [&[9], &[4097], &[2, 3], &[129, 65], &[256], &[257], &[8193]];
    cases.extend((1..=MOST_PARTS).map(|count| case(&sizes[..count])));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_values_and_integers_are_refused() {
        let x = Type::f32("x", &[3]).unwrap();
        let refused = |inputs: &[Type]| Squares.infer(inputs).unwrap_err().to_string();
        assert!(refused(&[]).contains("1 to 7"));
        assert!(refused(&vec![x.clone(); 8]).contains("8 inputs"));
        let words = Type::u32("words", &[3]).unwrap();
        assert!(refused(&[x, words]).contains("input 1"));
    }
}
