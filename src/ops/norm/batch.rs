//! All gradients of batch normalization at once. A statistic is of one channel, which has one γ and one
//! β, so the sums that ∂x needs are those that ∂γ and ∂β are:
//!
//! > ∂β = Σ g, ∂γ = Σ g x̂, ∂x = rstd γ (g − ∂β / K − x̂ ∂γ / K)
//!
//! (Ioffe and Szegedy 2015). g and x are read twice in all, where [`NormGrad`](super::NormGrad) and
//! [`NormParameters`](super::NormParameters) read them three times. Where the statistics are cut into runs
//! (`runs.rs`), so are these sums, and there are two launches.

use super::super::{Lowering, Op, Operand, Stages, grid};
use super::runs::CONSTANTS;
use super::{NORM, Norm, Over, named, optimized, reference};
use crate::error::{Error, Result};
use crate::kernel::{Bind, Demand, Kernel};
use crate::shape::Type;

/// ∂x, ∂γ and ∂β of a norm over [`Over::Batch`]: inputs g, x, γ, mean and rstd; outputs of the types of
/// x, γ and β.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormGrad(pub Norm);

impl Op for BatchNormGrad {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        if self.0.over != Over::Batch {
            let found = format!("{:?}", self.0.over);
            return Err(Error::setting("batch norm gradient", found, "Batch"));
        }
        let names = ["gradient", "x", "gamma", "mean", "rstd"];
        let given = named("batch norm gradient", &names, inputs)?;
        self.0.check("batch norm gradient", &given)?;
        Ok([1, 2, 2].map(|k| inputs[k].clone()).into())
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let view = self.0.view(&inputs[1])?;
        let runs = self.0.runs(&view);
        if runs == 1 {
            let (inputs, outputs) = (inputs.len(), outputs.len());
            let grid = grid(view.c, 1);
            return Ok(self
                .0
                .launch(&NORM_BATCH_GRAD, &view, inputs, outputs, grid));
        }
        let [g, x, gamma, mean, rstd] = [0, 1, 2, 3, 4].map(Operand::In);
        let [dx, dgamma, dbeta] = [0, 1, 2].map(Operand::Out);
        let made = Operand::Scratch(0);
        let sums = [g, x, mean, rstd, made];
        let joined = [g, x, gamma, made, dx, dgamma, dbeta];
        let launch = |kernel, operands: &[_]| self.0.by_runs(&view, runs, kernel, operands);
        Ok(Lowering::Stages(Stages {
            scratch: vec![Type::f32("norm", &[view.c, runs, 4])?],
            launches: vec![
                launch(&NORM_BATCH_GRAD_RUNS, &sums),
                launch(&NORM_BATCH_GRAD_JOINED, &joined),
            ],
        }))
    }
}

const SOURCE: &str = concat!(
    include_str!("../../../shaders/shared/grid.wgsl"),
    include_str!("../../../shaders/shared/nan.wgsl"),
    include_str!("../../../shaders/shared/tree.wgsl"),
    include_str!("../../../shaders/norm.wgsl"),
    include_str!("../../../shaders/norm/runs.wgsl"),
    include_str!("../../../shaders/norm/batch.wgsl"),
    crate::port!("finish"),
);

/// ∂x, ∂γ and ∂β.
pub static NORM_BATCH_GRAD: Kernel = Kernel {
    name: "norm_batch_grad",
    turns: "2 * (N * S / LANES + 1) + 32",
    source: SOURCE,
    bindings: &[
        Bind::read("g").of("N * C * S"),
        Bind::read("saved_x").of("N * C * S"),
        Bind::read("saved_gamma").of("C"),
        Bind::read("saved_mean").of("C"),
        Bind::read("saved_rstd").of("C"),
        Bind::write("dx").of("N * C * S"),
        Bind::write("batch_dgamma").of("C"),
        Bind::write("batch_dbeta").of("C"),
    ],
    reference: crate::reference!(reference::batch_grad),
    optimized: Some(optimized::batch_grad),
    demand: Demand {
        rounds: "2 * (N * S / LANES / 4) + 1",
        barriers: "20",
        issue: "N * S / LANES * 36 + 180",
        words: "5 * N * S",
        ..Demand::UNSTATED
    },
    ports: &[],
    finishing: None,
    ..NORM
};

/// Of each run Σ g and Σ g x̂, then mean and rstd of its statistic, `[C, RUNS, 4]`: these stand there so
/// that the launch behind binds no more buffers than every adapter does.
pub static NORM_BATCH_GRAD_RUNS: Kernel = Kernel {
    name: "norm_batch_grad_runs",
    turns: "N * S / RUNS / LANES + 32",
    bindings: &[
        Bind::read("g").of("N * C * S"),
        Bind::read("saved_x").of("N * C * S"),
        Bind::read("kept_mean").of("C"),
        Bind::read("kept_rstd").of("C"),
        Bind::write("slopes").of("4 * C * RUNS"),
    ],
    constants: CONSTANTS,
    reference: crate::reference!(reference::batch_grad_runs),
    optimized: Some(optimized::batch_grad_runs),
    demand: Demand {
        rounds: "N * S / RUNS / LANES / 4 + 1",
        barriers: "20",
        issue: "N * S / RUNS / LANES * 16 + 150",
        words: "2 * (N * S / RUNS)",
        ..Demand::UNSTATED
    },
    ..NORM_BATCH_GRAD
};

/// ∂x, ∂γ and ∂β, of what the runs come to.
pub static NORM_BATCH_GRAD_JOINED: Kernel = Kernel {
    name: "norm_batch_grad_joined",
    turns: "RUNS / LANES + N * S / RUNS / LANES + 32",
    bindings: &[
        Bind::read("g").of("N * C * S"),
        Bind::read("saved_x").of("N * C * S"),
        Bind::read("saved_gamma").of("C"),
        Bind::read("made_slopes").of("4 * C * RUNS"),
        Bind::write("joined_dx").of("N * C * S"),
        Bind::write("joined_dgamma").of("C"),
        Bind::write("joined_dbeta").of("C"),
    ],
    constants: CONSTANTS,
    reference: crate::reference!(reference::batch_grad_joined),
    optimized: Some(optimized::batch_grad_joined),
    demand: Demand {
        rounds: "N * S / RUNS / LANES / 4 + 1",
        barriers: "20",
        issue: "N * S / RUNS / LANES * 20 + 200",
        words: "3 * (N * S / RUNS) + 4 * RUNS",
        ..Demand::UNSTATED
    },
    ..NORM_BATCH_GRAD
};

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::compile::{Options, compile};
    use crate::exec::Executor;
    use crate::exec::cpu::{Cpu, Implementation};
    use crate::graph::Graph;
    use crate::ops::Tape;
    use crate::plan::Limits;
    use crate::rng::uniform;
    use crate::shape::Type;
    use crate::tensor::Host;

    use super::*;

    const EXTENTS: [usize; 4] = [3, 2, 59, 61];
    const STEP: f64 = 1e-5;

    /// A batch norm that is cut into runs, with all gradients, in f64.
    fn cut() -> Cpu<f64> {
        let mut graph = Graph::new();
        let mut value = |name: &str, extents: &[usize]| {
            let ty = Type::f32("test", extents).unwrap();
            graph.variable(name, ty).unwrap()
        };
        let (x, upstream) = (value("x", &EXTENTS), value("upstream", &EXTENTS));
        let [gamma, beta] = ["gamma", "beta"].map(|name| value(name, &EXTENTS[1..2]));
        graph.begin("run");
        let norm = Norm {
            over: Over::Batch,
            epsilon: 1e-3,
        };
        let made = graph.op(Arc::new(norm), &[x, gamma, beta]).unwrap();
        let wanted = [x, gamma, beta];
        let gradients = graph.gradients(made[0], upstream, &wanted).unwrap();
        let gradients = gradients.into_iter().map(Option::unwrap);
        let names = ["y", "mean", "rstd", "dx", "dgamma", "dbeta"];
        for (name, value) in names.iter().zip(made.into_iter().chain(gradients)) {
            graph.result(name, value).unwrap();
        }
        let options = Options {
            replicas: 1,
            fuse: true,
            limits: Limits::default(),
        };
        let plan = compile(&graph, &options).unwrap();
        assert_eq!(plan.programs["run"].len(), 4);
        let mut cpu = Cpu::new(plan, Implementation::Reference).unwrap();
        for (i, name) in ["x", "upstream", "gamma", "beta"].into_iter().enumerate() {
            let buffer = cpu.plan().state(name).unwrap();
            let count = cpu.plan().buffers[buffer].elements;
            let words = crate::doctor::harness::words(i as u32, count).into_iter();
            let numbers = words.map(|word| uniform(word) * 2.0 - 1.0).collect();
            cpu.write(buffer, &Host::F32(numbers)).unwrap();
        }
        cpu
    }

    fn held<'a>(cpu: &'a mut Cpu<f64>, name: &str) -> &'a mut [f64] {
        let buffer = cpu.plan().state(name).unwrap();
        cpu.values_mut(0, buffer).unwrap()
    }

    /// Σ upstream y.
    fn cost(cpu: &mut Cpu<f64>) -> f64 {
        cpu.run("run", 1).unwrap();
        let upstream = held(cpu, "upstream").to_vec();
        let y = held(cpu, "y").iter();
        y.zip(upstream).map(|(y, upstream)| y * upstream).sum()
    }

    #[test]
    fn runs_come_to_the_statistics_of_all() {
        let mut cpu = cut();
        cpu.run("run", 1).unwrap();
        let [n, c, h, w] = EXTENTS;
        let x = held(&mut cpu, "x").to_vec();
        for channel in 0..c {
            let planes = x.chunks_exact(h * w).skip(channel).step_by(c);
            let all: Vec<f64> = planes.flatten().copied().collect();
            let terms = (n * h * w) as f64;
            assert_eq!(all.len() as f64, terms);
            let mean = all.iter().sum::<f64>() / terms;
            let variance = all.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / terms;
            let rstd = 1.0 / (variance + 1e-3).sqrt();
            assert!((held(&mut cpu, "mean")[channel] - mean).abs() < 1e-12);
            assert!((held(&mut cpu, "rstd")[channel] - rstd).abs() < 1e-12);
        }
    }

    #[test]
    fn gradients_in_runs_are_slopes() {
        let mut cpu = cut();
        cost(&mut cpu);
        // Ends of channels, examples and runs: one of 3 · 59 · 61 = 10,797 elements has 2160.
        let places = [0, 1, 2159, 2160, 3598, 3599, 7197, 7198, 12_000, 21_593];
        for (name, places) in [("x", &places[..]), ("gamma", &[0, 1]), ("beta", &[0, 1])] {
            for &i in places {
                let found = held(&mut cpu, &format!("d{name}"))[i];
                let at = held(&mut cpu, name)[i];
                let [above, below] = [STEP, -STEP].map(|step| {
                    held(&mut cpu, name)[i] = at + step;
                    cost(&mut cpu)
                });
                held(&mut cpu, name)[i] = at;
                cost(&mut cpu);
                let slope = (above - below) / (2.0 * STEP);
                let off = (slope - found).abs();
                assert!(
                    off < 1e-6 * (1.0 + slope.abs()),
                    "{name}[{i}]: {found} for {slope}"
                );
            }
        }
    }
}
