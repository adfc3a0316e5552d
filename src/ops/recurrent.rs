//! Recurrences over the second axis of `[N, T, …]`, a whole sequence in one launch: LSTM (Hochreiter
//! and Schmidhuber 1997, with the forget gate of Gers et al. 2000), GRU (Cho et al. 2014) and the
//! plain recurrence (Elman 1990), in PyTorch's form and order of gates. A state before the first
//! is 0. With a = W hₜ₋₁ + b, where a gate has H rows of W:
//!
//! | cell | gates | hₜ |
//! |---|---|---|
//! | LSTM | i, f, o = σ(x + a), g = tanh(x + a) | o tanh cₜ with cₜ = f cₜ₋₁ + i g |
//! | GRU | r, z = σ(x + a), n = tanh(x + r a) | (1 − z) n + z hₜ₋₁ |
//! | plain | | tanh(x + a) or max(0, x + a) |
//!
//! x is what the inputs come to, `W_ih input + b_ih`: one product over all steps beforehand. In
//! the other direction of time steps go from the last to the first, and each state stands at its
//! input's place.
//!
//! The gradient goes from the last step to the first. With δₜ the gradient of hₜ, from above and
//! from the step after, it makes ∂x, the gradient ∂a of the recurrent products (∂x too, but in
//! the GRU's candidate, where it is r ∂x), and hₜ₋₁ beside them; the next δ is Wᵀ ∂a and what
//! goes past W. Then ∂W = Σ ∂a hₜ₋₁ᵀ is one product over all steps, and ∂b = Σ ∂a a sum. Saved
//! are h and, beside it, the gates with c or, of the GRU, with a's part of the candidate.
//!
//! Examples do not know of each other: a workgroup makes one of them, its states stay in workgroup
//! memory, and a barrier ends a step. Where W is large, so many workgroups each reading all of it in every step take longer
//! than a launch for each step, which reads it once (`steps.rs`).

use std::sync::Arc;

use super::matmul::Matmul;
use super::reduce::Reduce;
use super::reshape::Reshape;
use super::{
    Backward, Case, Fill, Lowered, Lowering, Op, Operand, Tape, Value, arity, exactly, floats, grid,
};
use crate::error::{Error, Result};
use crate::interchange::Site;
use crate::kernel::{Bind, Demand, Kernel, Target};
use crate::shape::Type;

mod onnx;
mod optimized;
mod reference;
mod steps;

/// What makes a state of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Long short-term memory: gates i, f, g, o.
    Lstm,
    /// Gated recurrent unit: gates r, z and the candidate n.
    Gru,
    /// The plain recurrence, by the hyperbolic tangent or by max(0, x).
    Plain {
        /// By max(0, x).
        relu: bool,
    },
}

/// h: inputs x `[N, T, G H]`, W `[G H, H]`, b `[G H]`; outputs h `[N, T, H]` and, but of the plain
/// recurrence, what the gradient needs, `[N, T, S H]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrent {
    /// The cell, which has G gates.
    pub cell: Cell,
    /// From the last step to the first.
    pub reverse: bool,
}

/// Gradients: inputs that of h, W, h and, but of the plain recurrence, what was saved; outputs ∂x
/// `[N, T, G H]`, hₜ₋₁ `[N, T, H]` and, of the GRU, ∂a `[N, T, G H]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecurrentGrad(pub Recurrent);

/// Units at most: ∂a of a step stands in 16 KiB of workgroup memory.
pub const MOST_UNITS: usize = 1024;

/// Threads of a workgroup at most; each has [`MOST_UNITS`] / 256 units (`left` in the shaders).
const MOST_LANES: usize = 256;

/// Threads of a workgroup where a GPU has large ones, and units from which these share every sum: of
/// few units a thread's own sums take no longer.
const WIDEST: usize = 1024;
const SHARED_UNITS: usize = 32;

impl Cell {
    /// G: gates, each with H rows of W.
    pub fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Plain { .. } => 1,
        }
    }

    /// S: numbers of a unit and step that the gradient needs beside h.
    fn saved(self) -> usize {
        match self {
            Self::Lstm => 5,
            Self::Gru => 4,
            Self::Plain { .. } => 0,
        }
    }

    fn kernels(self) -> [&'static Kernel; 2] {
        match self {
            Self::Lstm => [&LSTM, &LSTM_GRAD],
            Self::Gru => [&GRU, &GRU_GRAD],
            Self::Plain { .. } => [&RNN, &RNN_GRAD],
        }
    }
}

impl Recurrent {
    /// N, T and H of W and a value `[N, T, columns H]`.
    fn sizes(
        &self,
        op: &str,
        name: &str,
        x: &Type,
        columns: usize,
        w: &Type,
    ) -> Result<[usize; 3]> {
        floats(op, name, x)?;
        floats(op, "W", w)?;
        let [n, t, width] = x
            .shape
            .axes(op, &format!("{name} as [N, T, {columns} H]"))?;
        let [rows, h] = w.shape.axes(op, "W as [G H, H]")?;
        let gates = self.cell.gates();
        if rows != gates * h || width != columns * h {
            return Err(Error::shape(
                op,
                format!("{name} {}, W {}", x.shape, w.shape),
                format!("{name} [N, T, {columns} H] and W [{gates} H, H] of one H"),
            ));
        }
        if h > MOST_UNITS {
            return Err(Error::shape(
                op,
                format!("{h} units"),
                format!("at most {MOST_UNITS}, whose gradients fit workgroup memory"),
            ));
        }
        Ok([n, t, h])
    }

    /// The launch of one workgroup an example; `work` multiply-adds for each weight and step.
    fn launch(&self, gradient: bool, operands: Vec<Operand>, sizes: [usize; 3]) -> Lowering {
        let kernel = self.cell.kernels()[usize::from(gradient)];
        let [n, t, h] = sizes;
        let flag = |on: bool| f64::from(u8::from(on));
        let mut constants = vec![
            ("N", n as f64),
            ("T", t as f64),
            ("H", h as f64),
            ("REVERSE", flag(self.reverse)),
            ("LANES", h.next_power_of_two().clamp(32, MOST_LANES) as f64),
            ("SLICES", 1.0),
        ];
        if let Cell::Plain { relu } = self.cell {
            constants.push(("RELU", flag(relu)));
        }
        let mut lowered = Lowered {
            kernel,
            constants,
            operands,
            grid: grid(n, 1),
            flops: (2 * n * t * self.cell.gates() * h * h) as u64,
            alternatives: vec![],
        };
        if h >= SHARED_UNITS {
            // A row's words are read one after the other, a column's beside each other.
            let slices = match gradient {
                true => (WIDEST / h.next_power_of_two()).clamp(2, 16),
                false => 8,
            };
            let target = Target::Workgroup {
                threads: WIDEST as u32,
                bytes: 32 << 10,
            };
            let mut variant = lowered.otherwise(target, kernel, lowered.grid);
            for (name, value) in &mut variant.constants {
                match *name {
                    "LANES" => *value = WIDEST as f64,
                    "SLICES" => *value = slices as f64,
                    _ => {}
                }
            }
            lowered.alternatives = vec![variant];
            lowered.alternatives.extend(self.by_steps(gradient, sizes));
        }
        Lowering::Launch(lowered)
    }
}

/// Checks that no input is missing or too many.
fn count(op: &str, inputs: &[Type], wanted: &str, number: usize) -> Result<()> {
    if inputs.len() == number {
        return Ok(());
    }
    let found = format!("{} inputs", inputs.len());
    Err(Error::shape(op, found, format!("{number}: {wanted}")))
}

impl Op for Recurrent {
    fn name(&self) -> &'static str {
        "recurrent"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        onnx::recurrent(self, site)
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x, w, b] = arity("recurrent", inputs, "x, W, b")?;
        let gates = self.cell.gates();
        let [n, t, h] = self.sizes("recurrent", "x", x, gates, w)?;
        exactly("recurrent", "b", b, &Type::f32("recurrent", &[gates * h])?)?;
        let mut outputs = vec![Type::f32("recurrent", &[n, t, h])?];
        if self.cell.saved() > 0 {
            outputs.push(Type::f32("recurrent", &[n, t, self.cell.saved() * h])?);
        }
        Ok(outputs)
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let sizes = self.sizes("recurrent", "h", &outputs[0], 1, &inputs[1])?;
        let mut operands: Vec<_> = (0..3).map(Operand::In).collect();
        operands.extend((0..outputs.len()).map(Operand::Out));
        Ok(self.launch(false, operands, sizes))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let mut inputs = vec![b.upstream, b.inputs[1]];
        inputs.extend(b.outputs);
        let made = b.tape.op(Arc::new(RecurrentGrad(*self)), &inputs)?;
        let (dx, previous) = (made[0], made[1]);
        // Gradient of the recurrent products.
        let da = made.get(2).copied().unwrap_or(dx);
        let dw = match b.wanted[1] {
            true => {
                let [da, previous] = [rows(b.tape, da)?, rows(b.tape, previous)?];
                Some(
                    b.tape
                        .op1(Arc::new(Matmul::new(true, false)), &[da, previous])?,
                )
            }
            false => None,
        };
        let db = match b.wanted[2] {
            true => Some(b.tape.op1(Arc::new(Reduce::new(Some(2), 1.0)), &[da])?),
            false => None,
        };
        Ok(vec![Some(dx), dw, db])
    }
}

/// `[N, T, C]` as a matrix of N T rows.
fn rows(tape: &mut dyn Tape, x: Value) -> Result<Value> {
    let [n, t, c] = tape.ty(x)?.shape.axes("recurrent gradient", "[N, T, C]")?;
    let extents = vec![n * t, c];
    tape.op1(Arc::new(Reshape { extents }), &[x])
}

impl Op for RecurrentGrad {
    fn name(&self) -> &'static str {
        "recurrent"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        const OP: &str = "recurrent gradient";
        let cell = self.0.cell;
        match cell.saved() {
            0 => count(OP, inputs, "gradient, W, h", 3)?,
            _ => count(OP, inputs, "gradient, W, h, saved", 4)?,
        }
        let (g, w) = (&inputs[0], &inputs[1]);
        let [n, t, h] = self.0.sizes(OP, "gradient", g, 1, w)?;
        exactly(OP, "h", &inputs[2], g)?;
        if let Some(saved) = inputs.get(3) {
            let wanted = Type::f32(OP, &[n, t, cell.saved() * h])?;
            exactly(OP, "saved", saved, &wanted)?;
        }
        let dx = Type::f32(OP, &[n, t, cell.gates() * h])?;
        Ok(match cell {
            Cell::Gru => vec![dx.clone(), g.clone(), dx],
            _ => vec![dx, g.clone()],
        })
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let sizes = self
            .0
            .sizes("recurrent gradient", "gradient", &inputs[0], 1, &inputs[1])?;
        let mut operands: Vec<_> = (0..inputs.len()).map(Operand::In).collect();
        operands.extend((0..outputs.len()).map(Operand::Out));
        Ok(self.0.launch(true, operands, sizes))
    }
}

/// What a workgroup of an example asks for where threads share its sums, of a cell of so many gates that saves so much;
/// where they do not (`SLICES` 1), on adapters of small workgroups, rounds are fewer than this says.
macro_rules! forward {
    ($gates:literal, $saved:literal) => {
        Demand {
            rounds: concat!(
                "T * (",
                $gates,
                " * H * SLICES / LANES * (H / (4 * SLICES)) + 1)"
            ),
            barriers: concat!("T * (2 * (", $gates, " * H * SLICES / LANES) + 1)"),
            issue: concat!(
                "T * (",
                $gates,
                " * H * SLICES / LANES * (H / SLICES * 5 + SLICES * 3 + 15) + H / LANES * 160)"
            ),
            words: concat!(
                "T * H * (",
                $gates,
                " * H + 2 * ",
                $gates,
                " + ",
                $saved,
                " + 1)"
            ),
            ahead: "",
        }
    };
}

/// The same of its gradient.
macro_rules! backward {
    ($gates:literal, $saved:literal) => {
        Demand {
            rounds: concat!(
                "T * (H * SLICES / LANES * (",
                $gates,
                " * H / (4 * SLICES)) + 1)"
            ),
            barriers: "T * (2 * (H * SLICES / LANES) + 2)",
            issue: concat!(
                "T * (H * SLICES / LANES * (",
                $gates,
                " * H / SLICES * 5 + SLICES * 3 + 15) + H / LANES * 120)"
            ),
            words: concat!(
                "T * H * (",
                $gates,
                " * H + ",
                $gates,
                " + ",
                $saved,
                " + 3)"
            ),
            ahead: "",
        }
    };
}

/// A cell's module.
macro_rules! source {
    ($cell:literal) => {
        concat!(
            include_str!("../../shaders/shared/nan.wgsl"),
            include_str!("../../shaders/recurrent.wgsl"),
            include_str!("../../shaders/recurrent/steps.wgsl"),
            include_str!(concat!("../../shaders/recurrent/", $cell, ".wgsl")),
        )
    };
}

/// h of the LSTM, with its gates and c.
pub static LSTM: Kernel = Kernel {
    name: "lstm",
    turns: "T * (1 + (4 * H * SLICES / LANES + 1) * (H / SLICES + SLICES + 1) + (H / LANES) * (H / 8 + 9)) + H / LANES",
    stem: "recurrent",
    source: source!("lstm"),
    bindings: &[
        Bind::read("x").of("N * T * 4 * H"),
        Bind::read("w").of("4 * H * H"),
        Bind::read("b").of("4 * H"),
        Bind::write("h").of("N * T * H"),
        Bind::write("saved").of("N * T * 5 * H"),
    ],
    constants: &["N", "T", "H", "REVERSE", "LANES", "SLICES"],
    reference: crate::reference!(reference::lstm),
    optimized: Some(optimized::lstm),
    demand: forward!(4, 5),
    trusted: true,
    ports: &[],
    finishing: None,
};

/// Gradients of the LSTM.
pub static LSTM_GRAD: Kernel = Kernel {
    name: "lstm_grad",
    turns: "T * (1 + (H * SLICES / LANES + 1) * (4 * H / SLICES + SLICES + 1) + (H / LANES) * (H / 4 + 18))",
    bindings: &[
        Bind::read("g").of("N * T * H"),
        Bind::read("w").of("4 * H * H"),
        Bind::read("kept_h").of("N * T * H"),
        Bind::read("kept").of("N * T * 5 * H"),
        Bind::write("dx").of("N * T * 4 * H"),
        Bind::write("previous").of("N * T * H"),
    ],
    reference: crate::reference!(reference::lstm_grad),
    optimized: Some(optimized::lstm_grad),
    demand: backward!(4, 5),
    ..LSTM
};

/// h of the GRU, with its gates and a's part of the candidate.
pub static GRU: Kernel = Kernel {
    name: "gru",
    source: source!("gru"),
    bindings: &[
        Bind::read("x").of("N * T * 3 * H"),
        Bind::read("w").of("3 * H * H"),
        Bind::read("b").of("3 * H"),
        Bind::write("h").of("N * T * H"),
        Bind::write("saved").of("N * T * 4 * H"),
    ],
    reference: crate::reference!(reference::gru),
    optimized: Some(optimized::gru),
    demand: forward!(3, 4),
    ..LSTM
};

/// Gradients of the GRU.
pub static GRU_GRAD: Kernel = Kernel {
    name: "gru_grad",
    turns: "T * (1 + (H * SLICES / LANES + 1) * (3 * H / SLICES + SLICES + 1) + (H / LANES) * (3 * H / 16 + 18))",
    bindings: &[
        Bind::read("g").of("N * T * H"),
        Bind::read("w").of("3 * H * H"),
        Bind::read("kept_h").of("N * T * H"),
        Bind::read("kept").of("N * T * 4 * H"),
        Bind::write("dx").of("N * T * 3 * H"),
        Bind::write("previous").of("N * T * H"),
        Bind::write("dr").of("N * T * 3 * H"),
    ],
    reference: crate::reference!(reference::gru_grad),
    optimized: Some(optimized::gru_grad),
    demand: backward!(3, 4),
    ..GRU
};

/// h of the plain recurrence.
pub static RNN: Kernel = Kernel {
    name: "rnn",
    source: source!("rnn"),
    bindings: &[
        Bind::read("x").of("N * T * H"),
        Bind::read("w").of("H * H"),
        Bind::read("b").of("H"),
        Bind::write("h").of("N * T * H"),
    ],
    constants: &["N", "T", "H", "REVERSE", "LANES", "SLICES", "RELU"],
    reference: crate::reference!(reference::rnn),
    optimized: Some(optimized::rnn),
    demand: forward!(1, 0),
    ..LSTM
};

/// Gradients of the plain recurrence.
pub static RNN_GRAD: Kernel = Kernel {
    name: "rnn_grad",
    turns: "T * (1 + (H * SLICES / LANES + 1) * (1 * H / SLICES + SLICES + 1) + (H / LANES) * (H / 16 + 18))",
    bindings: &[
        Bind::read("g").of("N * T * H"),
        Bind::read("w").of("H * H"),
        Bind::read("kept_h").of("N * T * H"),
        Bind::write("dx").of("N * T * H"),
        Bind::write("previous").of("N * T * H"),
    ],
    reference: crate::reference!(reference::rnn_grad),
    optimized: Some(optimized::rnn_grad),
    demand: backward!(1, 0),
    ..RNN
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &LSTM,
    &LSTM_GRAD,
    &steps::LSTM,
    &steps::LSTM_GRAD,
    &GRU,
    &GRU_GRAD,
    &steps::GRU,
    &steps::GRU_GRAD,
    &RNN,
    &RNN_GRAD,
    &steps::RNN,
    &steps::RNN_GRAD,
];

/// One example, step and unit; units as many as a workgroup has threads, one more, more than two
/// for a thread; blocks of units and of examples that are not full; both directions of time. Weights are as small as they start, so that a state
/// does not grow what the one before is off by.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let cells = [
        Cell::Lstm,
        Cell::Gru,
        Cell::Plain { relu: false },
        Cell::Plain { relu: true },
    ];
    for cell in cells {
        for (reverse, [n, t, h]) in [
            (false, [1, 1, 1]),
            (true, [2, 5, 1]),
            (false, [3, 4, 3]),
            (true, [2, 3, 5]),
            (false, [2, 6, 17]),
            (true, [3, 2, 32]),
            (false, [2, 9, 33]),
            (true, [1, 3, 65]),
            (false, [2, 2, 257]),
            (true, [1, 2, 515]),
            (false, [2, 3, 36]),
            (true, [33, 2, 132]),
            (false, [33, 2, 260]),
        ] {
            let op = Recurrent { cell, reverse };
            let (gates, saved) = (cell.gates(), cell.saved());
            // Of a product G H at most; what each step's functions are off by goes on.
            let terms = gates * h + 16 * t;
            let small = Fill::Uniform(-1.0 / (h as f64).sqrt(), 1.0 / (h as f64).sqrt());
            let uniform = Fill::Uniform(-1.0, 1.0);
            let case = Case::new(op, terms)
                .float(&[n, t, gates * h], Fill::AwayFromZero)
                .float(&[gates * h, h], small)
                .float(&[gates * h], small);
            let few = n * t * gates * h <= 600;
            cases.push(if few { case } else { case.forward_only() });
            // What is saved need not be outputs of gates.
            let grad = Case::new(RecurrentGrad(op), terms)
                .fixed(&[n, t, h], uniform)
                .fixed(&[gates * h, h], small)
                .fixed(&[n, t, h], uniform);
            cases.push(match saved {
                0 => grad,
                _ => grad.fixed(&[n, t, saved * h], Fill::Uniform(0.1, 0.9)),
            });
        }
    }
    cases
}
