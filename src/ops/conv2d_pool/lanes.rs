//! Eight floats at a time: with AVX2 and fused multiply-add where the machine has them,
//! which is found out when the program runs, else as arrays.

/// Floats that are treated alike: one AVX2 register.
pub(super) const LANES: usize = 8;

/// How a machine treats [`LANES`] floats. Left to itself, the compiler puts arrays of such
/// sums into memory instead of registers, and the loops become several times slower.
pub(super) trait Lanes: Copy {
    /// The floats.
    type Octet: Copy;
    /// x in every lane.
    fn splat(self, x: f32) -> Self::Octet;
    fn load(self, x: &[f32; LANES]) -> Self::Octet;
    fn store(self, x: Self::Octet) -> [f32; LANES];
    /// sum + x · factor.
    fn add_scaled(self, sum: Self::Octet, x: Self::Octet, factor: Self::Octet) -> Self::Octet;
}

/// A loop to be compiled for each kind of machine. `run` and what it calls must be
/// inlined, closures too, or they would keep the narrow instructions.
pub(super) trait Work {
    fn run<L: Lanes>(self, lanes: L);
}

/// Does the work with the widest instructions that the machine has.
pub(super) fn widest(work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        simd.vectorize(
            #[inline(always)]
            || work.run(simd),
        );
        return;
    }
    work.run(Plain);
}

#[cfg(target_arch = "x86_64")]
impl Lanes for pulp::x86::V3 {
    type Octet = pulp::f32x8;

    #[inline(always)]
    fn splat(self, x: f32) -> pulp::f32x8 {
        self.splat_f32x8(x)
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> pulp::f32x8 {
        pulp::cast(*x)
    }

    #[inline(always)]
    fn store(self, x: pulp::f32x8) -> [f32; LANES] {
        pulp::cast(x)
    }

    #[inline(always)]
    fn add_scaled(self, sum: pulp::f32x8, x: pulp::f32x8, factor: pulp::f32x8) -> pulp::f32x8 {
        self.mul_add_f32x8(x, factor, sum)
    }
}

/// Any machine.
#[derive(Clone, Copy)]
struct Plain;

impl Lanes for Plain {
    type Octet = [f32; LANES];

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; LANES] {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> [f32; LANES] {
        *x
    }

    #[inline(always)]
    fn store(self, x: [f32; LANES]) -> [f32; LANES] {
        x
    }

    #[inline(always)]
    fn add_scaled(
        self,
        mut sum: [f32; LANES],
        x: [f32; LANES],
        factor: [f32; LANES],
    ) -> [f32; LANES] {
        for e in 0..LANES {
            // Where the machine cannot multiply and add at once, `mul_add` is a call into a
            // library.
            sum[e] = if cfg!(target_arch = "aarch64") {
                x[e].mul_add(factor[e], sum[e])
            } else {
                sum[e] + x[e] * factor[e]
            };
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums that f32 holds exactly, so that fusing makes no difference.
    struct Check;

    impl Work for Check {
        fn run<L: Lanes>(self, lanes: L) {
            let x = std::array::from_fn(|e| e as f32 - 3.0);
            let sum = lanes.add_scaled(lanes.splat(0.5), lanes.load(&x), lanes.splat(2.0));
            assert_eq!(lanes.store(sum), x.map(|x| 0.5 + 2.0 * x));
        }
    }

    #[test]
    fn every_machine_adds_alike() {
        Check.run(Plain);
        widest(Check);
    }
}
