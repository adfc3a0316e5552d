//! Initial parameters, drawn on the device: constant, uniform or normal.
//!
//! Element i takes its word (or its half of a Box–Muller pair) from block ⌊i/4⌋ of the
//! parameter's own stream, so a parameter's start depends on the seed, the replica and
//! the parameter's number, and on nothing else.

use serde::{Deserialize, Serialize};

use super::{
    Case, ELEMENTWISE, Fill, Lowered, Lowering, Op, Operand, arity, floats, grid, key_words,
    stream_number,
};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::rng::{Stream, normal_pair, streams, uniform};
use crate::shape::Type;
use crate::tensor::Real;

/// What parameters are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Distribution {
    /// Every element the same.
    Constant {
        /// The value.
        value: f64,
    },
    /// Uniform in [−limit, limit).
    Uniform {
        /// The limit.
        limit: f64,
    },
    /// Normal with mean 0.
    Normal {
        /// The standard deviation.
        std: f64,
    },
}

impl Distribution {
    /// The shader's `KIND` and `VALUE`.
    fn constants(self) -> (f64, f64) {
        match self {
            Self::Constant { value } => (0.0, value),
            Self::Uniform { limit } => (1.0, limit),
            Self::Normal { std } => (2.0, std),
        }
    }
}

/// Draws a parameter: inputs w (written) and keys `[4]`. No outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Init {
    /// What is drawn from.
    pub distribution: Distribution,
    /// The parameter's number in the network, below 65,536.
    pub parameter: u32,
}

impl Op for Init {
    fn name(&self) -> &'static str {
        "init"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [w, keys] = arity("init", inputs, "parameter, keys")?;
        floats("init", "parameter", w)?;
        key_words("init", keys)?;
        stream_number("parameter", self.parameter)?;
        let (_, value) = self.distribution.constants();
        if !(value as f32).is_finite() {
            return Err(Error::setting("init", value, "a finite 32-bit float"));
        }
        Ok(vec![])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let n = inputs[0].elements();
        let (kind, value) = self.distribution.constants();
        Ok(Lowering::Launch(Lowered {
            kernel: &INIT,
            constants: vec![
                ("N", n as f64),
                ("KIND", kind),
                ("VALUE", value),
                ("STREAM", f64::from(streams::INIT + self.parameter)),
            ],
            operands: vec![Operand::In(0), Operand::In(1)],
            grid: grid(n.div_ceil(4), ELEMENTWISE),
            flops: n as u64,
            alternatives: vec![],
        }))
    }
}

/// Draws a parameter.
pub static INIT: Kernel = Kernel {
    name: "init",
    turns: "128",
    stem: "init",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/rng.wgsl"),
        include_str!("../../shaders/init.wgsl"),
    ),
    bindings: &[Bind::write("w").of("N"), Bind::read("keys").u32().of("4")],
    constants: &["N", "KIND", "VALUE", "STREAM"],
    reference: crate::reference!(init),
    optimized: None,
    demand: Demand {
        rounds: "1",
        issue: "500",
        words: "260",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&INIT];

fn init<T: Real>(a: &mut Args<'_, T>) {
    let stream = Stream::of_keys(a.u(1), a.size("STREAM") as u32);
    let (kind, value) = (a.size("KIND"), T::of(a.number("VALUE")));
    let wide = |x: f32| T::of(f64::from(x));
    let two = T::ONE + T::ONE;
    for (block, w) in a.f_mut(0).chunks_mut(4).enumerate() {
        let words = stream.words(0, block as u32);
        let values = match kind {
            0 => [value; 4],
            1 => words.map(|w| value * (two * wide(uniform(w)) - T::ONE)),
            _ => {
                let [a, b] = normal_pair(words[0], words[1]);
                let [c, d] = normal_pair(words[2], words[3]);
                [a, b, c, d].map(|x| value * wide(x))
            }
        };
        for (w, value) in w.iter_mut().zip(values) {
            *w = value;
        }
    }
}

/// Each distribution, partial blocks, several workgroups.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for distribution in [
        Distribution::Constant { value: -0.25 },
        Distribution::Uniform { limit: 0.3 },
        Distribution::Normal { std: 0.7 },
    ] {
        for (parameter, extents) in [(0, &[1usize][..]), (1, &[5, 13]), (65_535, &[1, 700])] {
            let init = Init {
                distribution,
                parameter,
            };
            cases.push(
                Case::new(init, 1)
                    .fixed(extents, Fill::Number(9.0))
                    .u32(&[4], Fill::Keys),
            );
        }
    }
    cases
}
