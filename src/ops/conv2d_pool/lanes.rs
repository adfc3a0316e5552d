//! Loops over small arrays, compiled once for any machine and once for AVX2 with fused
//! multiply-add, chosen when the program runs.

/// Floats that are treated alike: one AVX2 register.
pub(super) const LANES: usize = 8;

/// A loop to be compiled both ways. `run` and what it calls must be inlined, or it would
/// keep the narrow instructions.
pub(super) trait Work {
    /// `FMA`: the machine multiplies and adds in one instruction.
    fn run<const FMA: bool>(self);
}

/// Does the work with the widest instructions that the machine has.
pub(super) fn widest(work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        simd.vectorize(
            #[inline(always)]
            || work.run::<true>(),
        );
        return;
    }
    // Without the instruction, a fused multiply-add would be a call into a library.
    work.run::<{ cfg!(target_arch = "aarch64") }>();
}

/// sum += x · factor.
#[inline(always)]
pub(super) fn add_scaled<const FMA: bool>(
    sum: &mut [f32; LANES],
    x: &[f32; LANES],
    factor: f32,
) {
    for e in 0..LANES {
        sum[e] = if FMA { x[e].mul_add(factor, sum[e]) } else { sum[e] + x[e] * factor };
    }
}
