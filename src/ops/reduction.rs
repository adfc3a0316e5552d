//! One number for all elements along a set of axes, kept or dropped:
//!
//! | | y | ∂x |
//! |---|---|---|
//! | sum | Σ x | g |
//! | mean | Σ x / K | g / K |
//! | maximum, minimum | the first extreme x | g there, else 0 |
//! | variance | Σ (x − m)² / K with m = Σ x / K | 2 g (x − m) / K |
//! | log-sum-exp | m + ln Σ e^(x − m) with m = max x | g e^(x − y) |
//! | norm | √Σ x² | g x / y, 0 where y = 0 |
//!
//! K is the number of elements, and the variance that of a whole population. Of several equal
//! extremes the first, in row-major order of the reduced axes, gets the gradient, as with
//! `torch.max(x, dim)`; its place is the second output. What is not a number counts as the
//! extreme. An infinite log-sum-exp is the infinity that its largest x is. Saved for the gradient:
//! x (variance, log-sum-exp, norm), y (the latter two) or the extreme's place.
//!
//! Few elements are added up by a thread for each result, in order. For more, a workgroup makes
//! one result: its threads add up strided shares, then a tree adds the shares. Which of the two
//! depends on K alone. Variance and log-sum-exp go through x twice, so that nothing cancels or
//! overflows. Where few results have many elements each, there are two launches, lest a few
//! workgroups do all the work: one makes of each run of neighbours what it would make of all, and the
//! other joins these (`reduction/runs.rs`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::launch::lanes;
use super::{
    Backward, Case, ELEMENTWISE, Fill, Lowered, Lowering, Op, Operand, Value, arity, floats, grid,
};
use crate::error::Result;
use crate::interchange::Site;
use crate::kernel::{Bind, Demand, Kernel};
use crate::shape::Type;

mod grads;
mod optimized;
mod places;
mod reference;
mod runs;

pub use grads::{ReductionGrad, Spread};
pub use places::RANK;
use places::{Places, marked};

/// What is made of the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Σ x.
    Sum,
    /// Σ x / K.
    Mean,
    /// max x.
    Max,
    /// min x.
    Min,
    /// Σ (x − Σ x / K)² / K.
    Variance,
    /// ln Σ eˣ.
    LogSumExp,
    /// √Σ x².
    Norm,
}

impl Kind {
    /// The constant `KIND` of the kernels.
    fn constant(self) -> f64 {
        match self {
            Self::Sum | Self::Max => 0.0,
            Self::Mean | Self::Min => 1.0,
            Self::Variance => 2.0,
            Self::LogSumExp => 3.0,
            Self::Norm => 4.0,
        }
    }

    /// Whether it is one of the elements.
    fn is_extreme(self) -> bool {
        matches!(self, Self::Max | Self::Min)
    }
}

/// y = the reduction of x over some axes: input x of up to [`RANK`] axes; output y, in which
/// these axes have extent 1 or are dropped (`[1]` where none would be left). A maximum or minimum
/// has a second output of y's shape: the integer that the extreme's place has, counted in
/// row-major order over the reduced axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduction {
    /// What is made of the elements.
    pub kind: Kind,
    /// The axes that are reduced, counted from 0, in any order.
    pub axes: Vec<usize>,
    /// They stay, with extent 1.
    pub keep: bool,
}

/// Elements up to which a thread makes a result by itself.
const SHORT: usize = 64;
/// Elements up to which it does so however few results there are, and how many of these there must be for each element
/// more: a thread's loads wait for each other, and a workgroup for each result waits until the others have started.
const QUICK: [usize; 2] = [8, 128];

/// Whether a thread makes each of `n` results of `k` elements.
fn by_threads(n: usize, k: usize) -> bool {
    let [always, each] = QUICK;
    k <= always || k <= SHORT && n >= each * (k - always)
}

impl Reduction {
    /// A reduction that drops its axes.
    pub fn new(kind: Kind, axes: &[usize]) -> Self {
        Self {
            kind,
            axes: axes.to_vec(),
            keep: false,
        }
    }

    fn places(&self, x: &Type) -> Result<Places> {
        let marks = marked("reduction", x, &self.axes)?;
        Ok(Places::of(x.shape.extents(), &marks))
    }

    /// y's extents.
    fn extents(&self, x: &Type) -> Result<Vec<usize>> {
        let marks = marked("reduction", x, &self.axes)?;
        let mut extents = vec![];
        for (&extent, &mark) in x.shape.extents().iter().zip(&marks) {
            match (mark, self.keep) {
                (false, _) => extents.push(extent),
                (true, true) => extents.push(1),
                (true, false) => {}
            }
        }
        if extents.is_empty() {
            extents.push(1);
        }
        Ok(extents)
    }

    /// The constants of every kernel here.
    fn constants(&self, places: &Places) -> Vec<(&'static str, f64)> {
        let mut constants = places.constants();
        constants.extend([("KIND", self.kind.constant()), lanes(places.k())]);
        constants
    }
}

impl Op for Reduction {
    fn name(&self) -> &'static str {
        "reduction"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let mut x = site.input(0);
        let axes: Vec<i64> = self.axes.iter().map(|&axis| axis as i64).collect();
        let keep = ("keepdims", i64::from(self.keep).into());
        let by_attribute = [("axes", axes.clone().into()), keep.clone()];
        let mut y = match self.kind {
            Kind::Sum => {
                let axes = site.ints(&axes);
                site.op("ReduceSum", &[&x, &axes], &[keep])
            }
            Kind::Variance => {
                let kept = [("axes", axes.into()), ("keepdims", 1.into())];
                let mean = site.op("ReduceMean", &[&x], &kept);
                x = site.op("Sub", &[&x, &mean], &[]);
                x = site.op("Mul", &[&x, &x], &[]);
                site.op("ReduceMean", &[&x], &by_attribute)
            }
            Kind::Mean => site.op("ReduceMean", &[&x], &by_attribute),
            Kind::Max => site.op("ReduceMax", &[&x], &by_attribute),
            Kind::Min => site.op("ReduceMin", &[&x], &by_attribute),
            Kind::LogSumExp => site.op("ReduceLogSumExp", &[&x], &by_attribute),
            Kind::Norm => site.op("ReduceL2", &[&x], &by_attribute),
        };
        if !self.keep && self.axes.len() == site.extents(0).len() {
            let one = site.ints(&[1]);
            y = site.op("Reshape", &[&y, &one], &[]);
        }
        let place = self.kind.is_extreme().then(String::new);
        Ok([y].into_iter().chain(place).collect())
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("reduction", inputs, "x")?;
        floats("reduction", "x", x)?;
        let extents = self.extents(x)?;
        let mut outputs = vec![Type::f32("reduction", &extents)?];
        if self.kind.is_extreme() {
            outputs.push(Type::u32("reduction", &extents)?);
        }
        Ok(outputs)
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let places = self.places(&inputs[0])?;
        let (n, k) = (places.n(), places.k());
        let runs = super::launch::runs(n, k);
        if runs > 1 {
            return runs::lowered(self, &places, runs);
        }
        let short = by_threads(n, k);
        let kernel = match (self.kind.is_extreme(), short) {
            (false, false) => &REDUCTION,
            (false, true) => &REDUCTION_SHORT,
            (true, false) => &REDUCTION_EXTREME,
            (true, true) => &REDUCTION_EXTREME_SHORT,
        };
        let mut operands = vec![Operand::In(0)];
        operands.extend((0..outputs.len()).map(Operand::Out));
        Ok(Lowering::Launch(Lowered {
            kernel,
            constants: self.constants(&places),
            operands,
            grid: grid(n, if short { ELEMENTWISE } else { 1 }),
            flops: inputs[0].elements() as u64,
            alternatives: vec![],
        }))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let extents = b.tape.ty(b.inputs[0])?.shape.extents().to_vec();
        let (g, x, y) = (b.upstream, b.inputs[0], b.outputs[0]);
        let reduction = self.clone();
        let dx = match self.kind {
            Kind::Sum | Kind::Mean => {
                let spread = Spread { reduction, extents };
                b.tape.op1(Arc::new(spread), &[g])?
            }
            kind => {
                let inputs = match kind {
                    Kind::Max | Kind::Min => vec![g, b.outputs[1]],
                    Kind::Variance => {
                        let mean = Self {
                            kind: Kind::Mean,
                            ..self.clone()
                        };
                        vec![g, x, b.tape.op1(Arc::new(mean), &[x])?]
                    }
                    _ => vec![g, x, y],
                };
                let grad = ReductionGrad { reduction, extents };
                b.tape.op1(Arc::new(grad), &inputs)?
            }
        };
        Ok(vec![Some(dx)])
    }
}

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/grid.wgsl"),
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/shared/tree.wgsl"),
    include_str!("../../shaders/reduction.wgsl"),
);

/// y, a workgroup for each.
pub static REDUCTION: Kernel = Kernel {
    name: "reduction",
    turns: "2 * (K / LANES + 1) + 32",
    stem: "reduction",
    source: SOURCE,
    bindings: &[Bind::read("x").of("N * K"), Bind::write("y").of("N")],
    constants: &[
        "N", "K", "N1", "N2", "NS0", "NS1", "NS2", "K1", "K2", "KS0", "KS1", "KS2", "ACROSS",
        "KIND", "LANES",
    ],
    reference: crate::reference!(reference::reduction),
    optimized: Some(optimized::reduction),
    // Once through the elements; variance and log-sum-exp go through what is near by then again. Elements across
    // the results are of as many sectors of eight words.
    demand: Demand {
        rounds: "K / LANES / 4",
        barriers: "10",
        issue: "K / LANES * 32 + 150",
        words: "K * (1 + 7 * ACROSS) + 1",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// y, a thread for each.
pub static REDUCTION_SHORT: Kernel = Kernel {
    name: "reduction_short",
    turns: "2 * K + 8",
    demand: Demand {
        rounds: "K / 4",
        issue: "K * 32 + 60",
        words: "64 * K + 64",
        ..Demand::UNSTATED
    },
    ..REDUCTION
};

/// The extreme and its place, a workgroup for each.
pub static REDUCTION_EXTREME: Kernel = Kernel {
    name: "reduction_extreme",
    turns: "K / LANES + 32",
    demand: Demand {
        rounds: "K / LANES / 4 + 2",
        barriers: "9",
        issue: "K / LANES * 40 + 250",
        words: "K * (1 + 7 * ACROSS) + 2",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("x").of("N * K"),
        Bind::write("y").of("N"),
        Bind::write("index").u32().of("N"),
    ],
    reference: crate::reference!(reference::extreme),
    optimized: None,
    ..REDUCTION
};

/// The extreme and its place, a thread for each.
pub static REDUCTION_EXTREME_SHORT: Kernel = Kernel {
    name: "reduction_extreme_short",
    turns: "K + 8",
    demand: Demand {
        rounds: "K / 4 + 1",
        issue: "K * 40 + 80",
        words: "64 * K + 128",
        ..Demand::UNSTATED
    },
    ..REDUCTION_EXTREME
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &REDUCTION,
    &REDUCTION_SHORT,
    &REDUCTION_EXTREME,
    &REDUCTION_EXTREME_SHORT,
    &runs::REDUCTION_RUNS,
    &runs::REDUCTION_JOINED,
    &runs::REDUCTION_EXTREME_RUNS,
    &runs::REDUCTION_EXTREME_JOINED,
    &grads::REDUCTION_SPREAD,
    &grads::REDUCTION_GRAD,
    &grads::REDUCTION_EXTREME_GRAD,
];

/// Inner, outer, middle, alternating and all axes; one element, and as many as a thread takes by
/// itself, one more, as many as a workgroup has threads, more, so many that there are two launches;
/// ties; far apart without overflow.
pub fn cases() -> Vec<Case> {
    let kinds = [
        Kind::Sum,
        Kind::Mean,
        Kind::Max,
        Kind::Min,
        Kind::Variance,
        Kind::LogSumExp,
        Kind::Norm,
    ];
    let small: [(&[usize], &[usize], bool); 6] = [
        (&[1], &[0], false),
        (&[5, 7], &[1], false),
        (&[5, 7], &[0], true),
        (&[2, 3, 5, 2], &[3, 1], false),
        (&[2, 67], &[1], true),
        (&[2, 1, 3, 2, 2, 3], &[0, 3, 5], true),
    ];
    let large: [(&[usize], &[usize], bool); 8] = [
        // So many results that a thread makes each.
        (&[600, 12], &[1], false),
        (&[12, 600], &[0], true),
        (&[64, 130], &[0], false),
        (&[130, 64], &[1], false),
        (&[65, 3], &[0], false),
        (&[3, 256], &[1], false),
        (&[7, 3, 17, 31], &[0, 2, 3], false),
        (&[5003], &[0], false),
    ];
    let runs: [(&[usize], &[usize], bool); 2] =
        [(&[32_771], &[0], false), (&[7, 3, 4711], &[0, 2], true)];
    let mut cases = Vec::new();
    for kind in kinds {
        let case = |(extents, axes, keep): (&[usize], &[usize], bool), fill| {
            let terms = axes.iter().map(|&axis| extents[axis]).product();
            let op = Reduction {
                keep,
                ..Reduction::new(kind, axes)
            };
            Case::new(op, terms).float(extents, fill)
        };
        let fill = match kind.is_extreme() {
            true => Fill::Distinct,
            false => Fill::Uniform(-1.0, 1.0),
        };
        cases.extend(small.map(|shape| case(shape, fill)));
        cases.extend(large.map(|shape| case(shape, fill).forward_only()));
        cases.extend(runs.map(|shape| case(shape, fill).forward_only()));
        if kind.is_extreme() {
            let ties = [
                (&[3, 30, 3][..], &[1][..], false),
                (&[3, 9, 300], &[1], false),
                (&[2, 600], &[1], true),
                (&[2, 32_800], &[1], false),
            ];
            cases.extend(ties.map(|shape| case(shape, Fill::Ties).forward_only()));
        }
        for (extents, axes, keep) in [small[1], small[2], small[3], small[5], large[6]] {
            let reduction = Reduction {
                keep,
                ..Reduction::new(kind, axes)
            };
            cases.extend(grads::case(reduction, extents));
        }
    }
    let far = Reduction::new(Kind::LogSumExp, &[1]);
    for k in [10, 100] {
        let case = Case::new(far.clone(), k).float(&[7, k], Fill::Uniform(-300.0, 300.0));
        cases.push(case.forward_only());
    }
    // Runs that differ from each other.
    for kind in [Kind::Variance, Kind::LogSumExp] {
        let case = Case::new(Reduction::new(kind, &[0]), 33_001);
        cases.push(case.fixed(&[33_001], Fill::Rising(-40.0, 40.0)));
    }
    let zeros = Reduction::new(Kind::Norm, &[1]);
    let op = ReductionGrad {
        reduction: zeros,
        extents: vec![2, 3],
    };
    let case = Case::new(op, 1).fixed(&[2], Fill::Uniform(-1.0, 1.0));
    let zero = Fill::Number(0.0);
    cases.push(case.fixed(&[2, 3], zero).fixed(&[2], zero));
    cases
}
