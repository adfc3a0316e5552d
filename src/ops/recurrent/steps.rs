//! A launch for each step (`shaders/recurrent/steps.wgsl`): W is spread over the workgroups, which read their parts once a step
//! for all examples. Whether that is faster than a workgroup for each example the sizes say.

use super::{Cell, Recurrent};
use crate::kernel::{DISPATCHES, Demand, Kernel, Target};
use crate::ops::Alternative;

/// Units of a workgroup: their part of a row of W is what memory hands out at once, 32 bytes.
const UNITS: usize = 8;
/// Threads of a workgroup; every adapter has them.
const LANES: usize = 256;
/// Slices of a sum at most: one thread adds their shares up.
const MOST_SLICES: usize = 64;
/// Workgroups that keep most of a large card busy: fewer have more examples each, which read the same part of W.
const BUSY: usize = 96;
/// Pairs of examples of a workgroup, as many as may be.
const PAIRS: [usize; 4] = [8, 4, 2, 1];
/// Dispatches and workgroups in a row that a plan may have.
const MOST: usize = 65_535;

impl Cell {
    fn by_steps(self) -> [&'static Kernel; 2] {
        match self {
            Self::Lstm => [&LSTM, &LSTM_GRAD],
            Self::Gru => [&GRU, &GRU_GRAD],
            Self::Plain { .. } => [&RNN, &RNN_GRAD],
        }
    }
}

impl Recurrent {
    /// The variant that is a launch for each step, where vectors of four make up H.
    pub(super) fn by_steps(&self, gradient: bool, [n, t, h]: [usize; 3]) -> Option<Alternative> {
        let groups = |pairs: usize| [h.div_ceil(UNITS), n.div_ceil(2 * pairs)];
        let many = |pairs: &usize| groups(*pairs).iter().product::<usize>() >= BUSY;
        let pairs = PAIRS.into_iter().find(many).unwrap_or(1);
        let [x, y] = groups(pairs);
        if !h.is_multiple_of(4) || t > MOST || y > MOST {
            return None;
        }
        // A thread of the gradient has four units.
        let (places, terms) = match gradient {
            false => (UNITS * pairs, h / 4),
            true => (UNITS / 4 * pairs, self.cell.gates() * h),
        };
        let slices = (LANES / places).min(terms).min(MOST_SLICES);
        let mut constants = vec![
            ("N", n as f64),
            ("T", t as f64),
            ("H", h as f64),
            ("REVERSE", f64::from(u8::from(self.reverse))),
            ("LANES", (places * slices) as f64),
            ("SLICES", slices as f64),
        ];
        if let Cell::Plain { relu } = self.cell {
            constants.push(("RELU", f64::from(u8::from(relu))));
        }
        constants.extend([
            ("UNITS", UNITS as f64),
            ("PAIRS", pairs as f64),
            (DISPATCHES, t as f64),
        ]);
        Some(Alternative {
            target: Target::Gpu,
            kernel: self.cell.by_steps()[usize::from(gradient)],
            constants,
            grid: [x as u32, y as u32],
        })
    }
}

const CONSTANTS: &[&str] = &[
    "N", "T", "H", "REVERSE", "LANES", "SLICES", "UNITS", "PAIRS", DISPATCHES,
];

/// What a workgroup of a step asks for, of a cell of so many gates that saves so much.
macro_rules! forward {
    ($gates:literal, $saved:literal) => {
        Demand {
            rounds: "H / (16 * SLICES) + 1",
            barriers: "1",
            issue: concat!(
                "H / (4 * SLICES) * (11 * ",
                $gates,
                " + 12) + SLICES * 9 + 240"
            ),
            words: concat!(
                "UNITS * ",
                $gates,
                " * H + 2 * PAIRS * H + 2 * PAIRS * UNITS * (2 * ",
                $gates,
                " + ",
                $saved,
                " + 3)"
            ),
            ahead: "",
        }
    };
}

/// The same of its gradient.
macro_rules! backward {
    ($gates:literal, $saved:literal) => {
        Demand {
            rounds: concat!($gates, " * H / (8 * SLICES) + 1"),
            barriers: "1",
            issue: concat!($gates, " * H / SLICES * 16 + SLICES * 5 + 260"),
            words: concat!(
                "(UNITS + 2 * PAIRS) * ",
                $gates,
                " * H + 2 * PAIRS * UNITS * (",
                $gates,
                " + ",
                $saved,
                " + 6)"
            ),
            ahead: "",
        }
    };
}

/// Turns forward.
const FORWARD: &str = "H / (4 * SLICES) + SLICES + 4";

/// h of the LSTM, with its gates and c.
pub static LSTM: Kernel = Kernel {
    name: "lstm_step",
    turns: FORWARD,
    constants: CONSTANTS,
    demand: forward!(4, 5),
    ..super::LSTM
};

/// Gradients of the LSTM.
pub static LSTM_GRAD: Kernel = Kernel {
    name: "lstm_step_grad",
    turns: "3 * (4 * H / SLICES) + SLICES + 4",
    constants: CONSTANTS,
    demand: backward!(4, 5),
    ..super::LSTM_GRAD
};

/// h of the GRU, with its gates and a's part of the candidate.
pub static GRU: Kernel = Kernel {
    name: "gru_step",
    turns: FORWARD,
    constants: CONSTANTS,
    demand: forward!(3, 4),
    ..super::GRU
};

/// Gradients of the GRU.
pub static GRU_GRAD: Kernel = Kernel {
    name: "gru_step_grad",
    turns: "3 * (3 * H / SLICES) + SLICES + 4",
    constants: CONSTANTS,
    demand: backward!(3, 4),
    ..super::GRU_GRAD
};

const PLAIN: &[&str] = &[
    "N", "T", "H", "REVERSE", "LANES", "SLICES", "RELU", "UNITS", "PAIRS", DISPATCHES,
];

/// h of the plain recurrence.
pub static RNN: Kernel = Kernel {
    name: "rnn_step",
    turns: FORWARD,
    constants: PLAIN,
    demand: forward!(1, 0),
    ..super::RNN
};

/// Gradients of the plain recurrence.
pub static RNN_GRAD: Kernel = Kernel {
    name: "rnn_step_grad",
    turns: "3 * (H / SLICES) + SLICES + 4",
    constants: PLAIN,
    demand: backward!(1, 0),
    ..super::RNN_GRAD
};
