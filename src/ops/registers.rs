//! The vector registers of the processor that the CPU executor runs on (the `pulp` crate finds out).

use pulp::{Arch, Simd, WithSimd};

/// Vector registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registers {
    /// How many floats one has.
    pub lanes: usize,
    /// How many there are.
    pub count: usize,
}

struct Ask;

impl WithSimd for Ask {
    type Output = Registers;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Registers {
        Registers::of::<S>()
    }
}

impl Registers {
    /// Those that a dispatched function has.
    pub(super) fn here() -> Self {
        Arch::new().dispatch(Ask)
    }

    /// Those of an instruction set.
    #[inline(always)]
    pub(super) fn of<S: Simd>() -> Self {
        Self {
            lanes: S::F32_LANES,
            count: S::REGISTER_COUNT,
        }
    }

    /// Whether there are as many as AVX-512 and NEON have: sums of twice as many rows stay in them.
    #[inline(always)]
    pub(super) fn are_many(self) -> bool {
        self.count >= 32
    }
}
