//! The order of an epoch: order\[i\] = π(i), a pseudo-random permutation of 0..n, each
//! element computed on its own.
//!
//! π is a balanced Feistel network of six rounds with Philox as round function (Luby and
//! Rackoff 1988 show that four suffice with a random one), over the smallest even number
//! of bits that holds n. A value that falls outside 0..n is sent through again until it
//! falls inside (cycle walking, Black and Rogaway 2002): a permutation of a set, walked
//! along its cycles, is a permutation of any part of it. The domain is below 4 n, so that
//! takes four rounds at most on average.

use super::{
    Case, ELEMENTWISE, Fill, Lowered, Lowering, NEXT, Op, Operand, arity, counter, epoch_steps,
    exactly, grid, key_words,
};
use crate::error::Result;
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::rng::{Stream, streams};
use crate::shape::Type;
use crate::tensor::Real;

/// Writes the order of the epoch that the next step belongs to: inputs order `[n]` (written),
/// keys `[4]`, step `[2]`. No outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shuffle {
    /// How many examples are put in order.
    pub n: usize,
    /// Steps in an epoch.
    pub epoch_steps: usize,
}

/// Rounds of the network; `ROUNDS` in the shader.
const ROUNDS: u32 = 6;

/// Half the bits of the network's domain.
fn half_bits(n: usize) -> u32 {
    let bits = usize::BITS - (n - 1).leading_zeros();
    bits.div_ceil(2).max(1)
}

impl Op for Shuffle {
    fn name(&self) -> &'static str {
        "shuffle"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [order, keys, step] = arity("shuffle", inputs, "order, keys, step")?;
        exactly("shuffle", "order", order, &Type::u32("shuffle", &[self.n])?)?;
        key_words("shuffle", keys)?;
        counter("shuffle", step)?;
        epoch_steps("shuffle", self.epoch_steps)?;
        Ok(vec![])
    }

    fn lower(&self, _: &[Type], _: &[Type]) -> Result<Lowering> {
        Ok(Lowering::Launch(Lowered {
            kernel: &SHUFFLE,
            constants: vec![
                ("N", self.n as f64),
                ("EPOCH_STEPS", self.epoch_steps as f64),
                ("HALF", f64::from(half_bits(self.n))),
            ],
            operands: vec![Operand::In(0), Operand::In(1), Operand::In(2)],
            grid: grid(self.n, ELEMENTWISE),
            flops: 0,
            alternatives: vec![],
        }))
    }
}

/// order\[i\] = π(i).
pub static SHUFFLE: Kernel = Kernel {
    name: "shuffle",
    turns: "1000",
    stem: "shuffle",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/rng.wgsl"),
        include_str!("../../shaders/shuffle.wgsl"),
    ),
    bindings: &[
        Bind::write("order").u32().of("N"),
        Bind::read("keys").u32().of("4"),
        Bind::read("step").u32().of("2"),
    ],
    constants: &["N", "EPOCH_STEPS", "HALF"],
    reference: crate::reference!(shuffle),
    optimized: None,
    // Some threads of a warp walk three times.
    demand: Demand {
        rounds: "1",
        issue: "3 * 6 * 360 + 40",
        words: "70",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&SHUFFLE];

fn feistel(stream: Stream, epoch: u32, half: u32, value: u32) -> u32 {
    let mask = (1u32 << half) - 1;
    let (mut left, mut right) = (value >> half, value & mask);
    for round in 0..ROUNDS {
        let stream = Stream {
            stream: stream.stream + round,
            ..stream
        };
        let word = stream.words(epoch, right)[0];
        (left, right) = (right, left ^ (word & mask));
    }
    (left << half) | right
}

/// The element at place i of the permutation of 0..n with a number, of the replica with these key words
/// ([`keys`](crate::rng::keys)).
fn element(keys: &[u32], number: u32, n: u32, half: u32, i: u32) -> u32 {
    let stream = Stream::of_keys(keys, streams::SHUFFLE);
    let mut value = feistel(stream, number, half, i);
    while value >= n {
        value = feistel(stream, number, half, value);
    }
    value
}

/// The permutation of 0..n with a number, as the device makes that of an epoch.
pub(crate) fn permutation(keys: &[u32], number: u32, n: usize) -> Vec<u32> {
    let half = half_bits(n);
    let all = 0..n as u32;
    all.map(|i| element(keys, number, n as u32, half, i))
        .collect()
}

fn shuffle<T: Real>(a: &mut Args<'_, T>) {
    let (n, half) = (a.size("N") as u32, a.size("HALF") as u32);
    let epoch = a.u(2)[NEXT] / a.size("EPOCH_STEPS") as u32;
    let (keys, order) = (a.u(1), a.u_mut(0)); // [4], [N]
    for (i, order) in (0..n).zip(order) {
        *order = element(keys, epoch, n, half, i);
    }
}

/// One element, powers of two and one beside them, a later epoch.
pub fn cases() -> Vec<Case> {
    [(1, 0), (2, 3), (63, 4), (64, 7), (65, 8), (1000, 21)]
        .into_iter()
        .map(|(n, step)| {
            Case::new(Shuffle { n, epoch_steps: 4 }, 1)
                .u32(&[n], Fill::Words)
                .u32(&[4], Fill::Keys)
                .u32(&[2], Fill::Pair(step, 77))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::keys;

    fn order(seed: u64, replica: u32, epoch: u32, n: usize) -> Vec<u32> {
        let mut order = vec![u32::MAX; n];
        use crate::kernel::Slot;
        let op = Shuffle { n, epoch_steps: 1 };
        shuffle(&mut Args::<f32> {
            constants: &op.lower(&[], &[]).unwrap().launch().unwrap().constants,
            slots: [
                Slot::UMut(&mut order),
                Slot::U(&keys(seed, replica)),
                Slot::U(&[epoch, 0]),
            ]
            .into_iter()
            .collect(),
        });
        order
    }

    #[test]
    fn every_size_is_permuted() {
        for n in (1..=300).chain([50_000]) {
            let mut sorted = order(1, 0, 5, n);
            sorted.sort_unstable();
            assert!(sorted.iter().zip(0..).all(|(&a, b)| a == b), "n = {n}");
        }
    }

    #[test]
    fn the_host_makes_the_devices_permutation() {
        for (n, epoch) in [(1, 0), (2, 5), (77, 9), (1025, 3)] {
            let found = permutation(&keys(6, 2), epoch, n);
            assert_eq!(found, order(6, 2, epoch, n), "n = {n}");
        }
    }

    #[test]
    fn seeds_replicas_and_epochs_differ() {
        let base = order(1, 0, 0, 1000);
        for other in [
            order(2, 0, 0, 1000),
            order(1, 1, 0, 1000),
            order(1, 0, 1, 1000),
        ] {
            // Random permutations agree in one place on average.
            let agree = base.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!(agree < 10, "{agree} places agree");
        }
    }

    #[test]
    fn places_are_taken_evenly() {
        // Where element 0 of 16 goes over many epochs: χ² with 15 degrees of freedom.
        let (n, epochs) = (16, 8000);
        let mut counts = vec![0f64; n];
        for epoch in 0..epochs {
            counts[order(9, 0, epoch, n)[0] as usize] += 1.0;
        }
        let expected = f64::from(epochs) / n as f64;
        let chi2: f64 = counts
            .iter()
            .map(|c| (c - expected).powi(2) / expected)
            .sum();
        assert!(chi2 < 37.7, "χ² = {chi2}, p < 0.001");
    }
}
