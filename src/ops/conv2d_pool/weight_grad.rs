//! ∂w of a pooled convolution: the sum over pooled places of gradient times the pixel under the winner's tap, and
//! what is done with it.

use std::sync::Arc;

use super::kernels::{CONV2D_POOL_WEIGHT_GRAD, CONV2D_POOL_WEIGHT_GRAD_BIAS};
use super::wide::{MOST_TAPS, WIDE};
use super::{ConvPool, four, staged, wide};
use crate::error::{Error, Result};
use crate::kernel::Target;
use crate::ops::conv2d::{IMAGES, Sizes};
use crate::ops::pointwise::{Ended, Ending, MOST_BINDINGS, finished};
use crate::ops::{Alternative, Lowered, Lowering, Op, Operand, grid};
use crate::shape::Type;

/// Threads of a workgroup of the weight gradient; `LANES` of the shader.
const LANES: usize = 256;

/// Pooled places that one thread of the weight gradient adds up before the sum is shared
/// out: above, a GPU would wait on few threads; below, it is the additions between
/// threads that would cost.
const SHARE: usize = 512;

/// What is done with ∂w.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// It is the output `[F, C / groups, K_h, K_w]`.
    Store,
    /// An expression of ∂w, such as the update of the parameter whose gradient it is; its inputs
    /// follow.
    Weights(Ending),
    /// One of ∂w and one of ∂bias `[F]`, each with which of the op's inputs its inputs are: updates,
    /// so that there is no output.
    WeightsAndBias([(Ending, Vec<usize>); 2]),
}

/// ∂w: inputs x, g `[N, F, P_o, Q_o]`, the argmax and what the update asks for; output ∂w
/// `[F, C / groups, K_h, K_w]`, or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2dPoolWeightGrad {
    /// The convolution and its pool.
    pub conv_pool: ConvPool,
    /// `[K_h, K_w]`.
    pub kernel: [usize; 2],
    /// What is done with the gradient.
    pub update: Update,
}

impl Conv2dPoolWeightGrad {
    fn sizes(&self, x: &Type, g: &Type) -> Result<(Sizes, [usize; 2])> {
        let images = four(IMAGES, x)?;
        let [_, f, ..] = four("gradient [N, F, P_o, Q_o]", g)?;
        let per = images[1] / self.conv_pool.conv.groups.max(1);
        self.conv_pool
            .sizes(images, [f, per, self.kernel[0], self.kernel[1]])
    }
}

impl Op for Conv2dPoolWeightGrad {
    fn name(&self) -> &'static str {
        "conv2d_pool"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let op = "conv2d_pool weight gradient";
        let [x, g, argmax, rest @ ..] = inputs else {
            let found = format!("{} inputs", inputs.len());
            return Err(Error::shape(op, found, "images, gradient and argmax first"));
        };
        let (s, [po, qo]) = self.sizes(x, g)?;
        self.conv_pool
            .check_upstream(g, argmax, [s.n, s.f, po, qo])?;
        let per = s.c / self.conv_pool.conv.groups;
        let dw = Type::f32(op, &[s.f, per, self.kernel[0], self.kernel[1]])?;
        match (&self.update, rest) {
            (Update::Store, []) => Ok(vec![dw]),
            (Update::Store, _) => {
                let found = format!("{} inputs", inputs.len());
                Err(Error::shape(op, found, "3: images, gradient, argmax"))
            }
            (Update::Weights(ending), rest) => ending.infer(&dw, rest),
            (Update::WeightsAndBias(updates), _) => {
                let elements = [dw, Type::f32(op, &[s.f])?];
                for ((update, own), element) in updates.iter().zip(elements) {
                    let rest = own.iter().map(|&k| inputs.get(k).cloned());
                    let rest = rest.collect::<Option<Vec<Type>>>().unwrap_or_default();
                    update.infer(&element, &rest)?;
                    if !update.is_update() {
                        let found = "an expression with an output of its own";
                        let wanted = "the update of the weights, then that of the bias";
                        return Err(Error::shape(op, found, wanted));
                    }
                }
                Ok(vec![])
            }
        }
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let (s, pooled) = self.sizes(&inputs[0], &inputs[1])?;
        let mut constants = self.conv_pool.constants(self.kernel, &s, pooled);
        let mut operands: Vec<_> = (0..3).map(Operand::In).collect();
        operands.push(Operand::Out(0));
        let per = s.c / self.conv_pool.conv.groups;
        let dw = [s.f, per, self.kernel[0], self.kernel[1]];
        // The bias is one more tap of each filter, over an image of ones.
        let mut sums = per * self.kernel[0] * self.kernel[1];
        let (kernel, ends) = match &self.update {
            Update::Store => (&CONV2D_POOL_WEIGHT_GRAD, vec![]),
            Update::Weights(ending) => {
                let ends = Ended::only(Some(ending), 3, &dw);
                (&CONV2D_POOL_WEIGHT_GRAD, ends)
            }
            Update::WeightsAndBias(updates) => {
                sums += 1;
                operands.push(Operand::Out(1));
                let ends = Ended::each(updates.iter().zip([&dw[..], &[s.f]]));
                (&CONV2D_POOL_WEIGHT_GRAD_BIAS, ends)
            }
        };
        let shares = shares(sums, s.n * pooled[0] * pooled[1]);
        constants.push(("SHARES", shares as f64));
        let mut lowered = Lowered {
            kernel,
            constants,
            operands,
            grid: grid(s.f * sums.div_ceil(LANES / shares), 1),
            flops: self.conv_pool.flops(self.kernel, &s, pooled[0] * pooled[1]),
            alternatives: vec![],
        };
        lowered.alternatives = self.alternatives(&lowered, &s, pooled[0] * pooled[1]);
        Ok(Lowering::Launch(finished(lowered, &ends, inputs)?))
    }

    fn ending(&self) -> Option<&Ending> {
        match &self.update {
            Update::Weights(ending) => Some(ending),
            _ => None,
        }
    }

    fn with_ending(&self, ending: &Ending) -> Option<Arc<dyn Op>> {
        if matches!(self.update, Update::WeightsAndBias(_)) {
            return None;
        }
        let ending = ending.beside(CONV2D_POOL_WEIGHT_GRAD.bindings.len())?;
        Some(Arc::new(Self {
            update: Update::Weights(ending),
            ..*self
        }))
    }
}

impl Conv2dPoolWeightGrad {
    /// Bindings of the launch without an expression at its end.
    pub(crate) const BINDINGS: usize = 4;

    /// The op that makes two updates of its own and another sum's, if their bindings are not too many.
    pub(crate) fn with_both(&self, updates: [(Ending, Vec<usize>); 2]) -> Option<Self> {
        let inputs = updates.iter().flat_map(|(_, inputs)| inputs).max()?;
        (*inputs < MOST_BINDINGS).then_some(Self {
            update: Update::WeightsAndBias(updates),
            ..*self
        })
    }

    /// Other variants of the usual launch.
    fn alternatives(&self, usual: &Lowered, s: &Sizes, places: usize) -> Vec<Alternative> {
        if !self.conv_pool.plain() {
            return vec![];
        }
        let (wide, staged) = match &self.update {
            Update::Store | Update::Weights(_) => (&wide::WEIGHT_GRAD, &staged::WEIGHT_GRAD),
            Update::WeightsAndBias(_) => (&wide::WEIGHT_GRAD_BIAS, &staged::WEIGHT_GRAD_BIAS),
        };
        let groups = self.conv_pool.conv.groups;
        let mut variants = staged::weight_grad(usual, staged, self.kernel, s, (groups, places));
        if self.kernel[0] * self.kernel[1] <= MOST_TAPS {
            let channels = s.c / groups;
            let width = channels.next_power_of_two().min(WIDE);
            let grid = grid(s.f * channels.div_ceil(width), 1);
            let mut variant = usual.otherwise(Target::Processor, wide, grid);
            if let Some(("SHARES", shares)) = variant.constants.last_mut() {
                *shares = (WIDE / width) as f64;
            }
            variants.push(variant);
        }
        variants
    }
}

/// How many threads share the sum over `places` for each of a filter's `sums` weights: a
/// power of two, so many that no thread of a workgroup is left without a weight and none
/// has more than [`SHARE`] places, and no more than there are places.
fn shares(sums: usize, places: usize) -> usize {
    let idle = LANES / sums.next_power_of_two().min(LANES);
    let long = places.div_ceil(SHARE).next_power_of_two();
    let most = if places.is_power_of_two() {
        places
    } else {
        places.next_power_of_two() / 2
    };
    idle.max(long).min(most).min(LANES / 8)
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn shares_leave_no_thread_idle_and_none_alone() {
        // Weights of a filter, pooled places: the book's two layers, batch 10 and 128.
        for (sums, places, wanted) in [
            (26, 1440, 8),
            (501, 160, 1),
            (26, 18432, 32),
            (501, 2048, 4),
            (1, 1, 1),
            (1, 3, 2),
        ] {
            assert_eq!(shares(sums, places), wanted, "{sums} sums over {places}");
        }
    }
}
