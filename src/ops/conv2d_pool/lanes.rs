//! Eight floats at a time: with AVX2 and fused multiply-add where the machine has them, which is found out when the
//! program runs, else as arrays. Filters that stand side by side are taken sixteen at a time where it has AVX-512.

#[cfg(target_arch = "x86_64")]
use pulp::x86::{V3, V4};

/// Floats that are treated alike: one AVX2 register.
pub(super) const LANES: usize = 8;
/// Where registers are twice as wide.
pub(super) const WIDE: usize = 2 * LANES;

/// How a machine treats `N` floats. Left to itself, the compiler puts arrays of such
/// sums into memory instead of registers, and the loops become several times slower.
pub(super) trait Vector<const N: usize>: Copy {
    /// The floats.
    type Floats: Copy;
    /// As many places.
    type Places: Copy;
    /// x in every lane.
    fn splat(self, x: f32) -> Self::Floats;
    fn load(self, x: &[f32; N]) -> Self::Floats;
    fn store(self, x: Self::Floats) -> [f32; N];
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// sum + x · factor.
    fn add_scaled(self, sum: Self::Floats, x: Self::Floats, factor: Self::Floats) -> Self::Floats;
    /// The same place in every lane.
    fn place(self, place: u32) -> Self::Places;
    /// Lane by lane the larger float and its place; the first of equal ones, and of what is not a number.
    fn larger(
        self,
        first: (Self::Floats, Self::Places),
        second: (Self::Floats, Self::Places),
    ) -> (Self::Floats, Self::Places);
    fn store_places(self, places: Self::Places) -> [u32; N];
}

/// A machine's eight floats and, where it has them, its sixteen.
pub(super) trait Lanes: Vector<LANES> {
    /// How it treats sixteen.
    type Wide: Vector<WIDE>;
    /// Where it does so in one register.
    fn wide(self) -> Option<Self::Wide>;
}

/// A loop to be compiled for each kind of machine. `run` and what it calls must be
/// inlined, closures too, or they would keep the narrow instructions.
pub(super) trait Work {
    fn run<L: Lanes>(self, lanes: L);
}

/// Whether [`Lanes::wide`] has something here.
pub(super) fn is_wide() -> bool {
    #[cfg(target_arch = "x86_64")]
    return V4::try_new().is_some();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Does the work with the widest instructions that the machine has.
pub(super) fn widest(work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = V4::try_new() {
            simd.vectorize(
                #[inline(always)]
                || work.run(simd),
            );
            return;
        }
        if let Some(simd) = V3::try_new() {
            simd.vectorize(
                #[inline(always)]
                || work.run(simd),
            );
            return;
        }
    }
    work.run(Plain);
}

/// The instructions of a set for `N` floats, on machines that have it.
#[cfg(target_arch = "x86_64")]
macro_rules! vector {
    (
        [$($machine:ty),*], $of:ty, $n:ident, $floats:ident, $places:ident, $splat:ident, $add:ident, $mul_add:ident,
        $splat_places:ident, $greater:ident, $select:ident, $select_places:ident
    ) => {
        $(impl Vector<$n> for $machine {
            type Floats = pulp::$floats;
            type Places = pulp::$places;

            #[inline(always)]
            fn splat(self, x: f32) -> Self::Floats {
                let simd: $of = self.into_set();
                simd.$splat(x)
            }

            #[inline(always)]
            fn load(self, x: &[f32; $n]) -> Self::Floats {
                pulp::cast(*x)
            }

            #[inline(always)]
            fn store(self, x: Self::Floats) -> [f32; $n] {
                pulp::cast(x)
            }

            #[inline(always)]
            fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
                let simd: $of = self.into_set();
                simd.$add(a, b)
            }

            #[inline(always)]
            fn add_scaled(
                self,
                sum: Self::Floats,
                x: Self::Floats,
                factor: Self::Floats,
            ) -> Self::Floats {
                let simd: $of = self.into_set();
                simd.$mul_add(x, factor, sum)
            }

            #[inline(always)]
            fn place(self, place: u32) -> Self::Places {
                let simd: $of = self.into_set();
                simd.$splat_places(place)
            }

            #[inline(always)]
            fn larger(
                self,
                first: (Self::Floats, Self::Places),
                second: (Self::Floats, Self::Places),
            ) -> (Self::Floats, Self::Places) {
                let simd: $of = self.into_set();
                let wins = simd.$greater(second.0, first.0);
                (
                    simd.$select(wins, second.0, first.0),
                    simd.$select_places(wins, second.1, first.1),
                )
            }

            #[inline(always)]
            fn store_places(self, places: Self::Places) -> [u32; $n] {
                pulp::cast(places)
            }
        })*
    };
}

/// The set that a machine's instructions of a width belong to.
#[cfg(target_arch = "x86_64")]
trait IntoSet<S> {
    fn into_set(self) -> S;
}

#[cfg(target_arch = "x86_64")]
impl<S> IntoSet<S> for S {
    #[inline(always)]
    fn into_set(self) -> S {
        self
    }
}

#[cfg(target_arch = "x86_64")]
impl IntoSet<V3> for V4 {
    #[inline(always)]
    fn into_set(self) -> V3 {
        *self
    }
}

#[cfg(target_arch = "x86_64")]
vector!(
    [V3, V4],
    V3,
    LANES,
    f32x8,
    u32x8,
    splat_f32x8,
    add_f32x8,
    mul_add_f32x8,
    splat_u32x8,
    cmp_gt_f32x8,
    select_f32x8,
    select_u32x8
);
#[cfg(target_arch = "x86_64")]
vector!(
    [V4],
    V4,
    WIDE,
    f32x16,
    u32x16,
    splat_f32x16,
    add_f32x16,
    mul_add_f32x16,
    splat_u32x16,
    cmp_gt_f32x16,
    select_f32x16,
    select_u32x16
);

#[cfg(target_arch = "x86_64")]
impl Lanes for V3 {
    type Wide = Plain;

    #[inline(always)]
    fn wide(self) -> Option<Plain> {
        None
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes for V4 {
    type Wide = Self;

    #[inline(always)]
    fn wide(self) -> Option<Self> {
        Some(self)
    }
}

/// Any machine.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl<const N: usize> Vector<N> for Plain {
    type Floats = [f32; N];
    type Places = [u32; N];

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; N] {
        [x; N]
    }

    #[inline(always)]
    fn load(self, x: &[f32; N]) -> [f32; N] {
        *x
    }

    #[inline(always)]
    fn store(self, x: [f32; N]) -> [f32; N] {
        x
    }

    #[inline(always)]
    fn add(self, mut a: [f32; N], b: [f32; N]) -> [f32; N] {
        for e in 0..N {
            a[e] += b[e];
        }
        a
    }

    #[inline(always)]
    fn add_scaled(self, mut sum: [f32; N], x: [f32; N], factor: [f32; N]) -> [f32; N] {
        for e in 0..N {
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

    #[inline(always)]
    fn place(self, place: u32) -> [u32; N] {
        [place; N]
    }

    #[inline(always)]
    fn larger(
        self,
        (mut best, mut at): ([f32; N], [u32; N]),
        (x, place): ([f32; N], [u32; N]),
    ) -> ([f32; N], [u32; N]) {
        for e in 0..N {
            let wins = x[e] > best[e];
            best[e] = if wins { x[e] } else { best[e] };
            at[e] = if wins { place[e] } else { at[e] };
        }
        (best, at)
    }

    #[inline(always)]
    fn store_places(self, places: [u32; N]) -> [u32; N] {
        places
    }
}

impl Lanes for Plain {
    type Wide = Self;

    #[inline(always)]
    fn wide(self) -> Option<Self> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums that f32 holds exactly, so that fusing makes no difference.
    struct Check;

    impl Work for Check {
        fn run<L: Lanes>(self, lanes: L) {
            held::<LANES, _>(lanes);
            if let Some(wide) = lanes.wide() {
                held::<WIDE, _>(wide);
            }
        }
    }

    fn held<const N: usize, V: Vector<N>>(lanes: V) {
        let x: [f32; N] = std::array::from_fn(|e| e as f32 - 3.0);
        let sum = lanes.add_scaled(lanes.splat(0.5), lanes.load(&x), lanes.splat(2.0));
        assert_eq!(lanes.store(sum), x.map(|x| 0.5 + 2.0 * x));
        assert_eq!(lanes.store(lanes.add(sum, sum)), x.map(|x| 1.0 + 4.0 * x));
        let mut other = x;
        (other[0], other[1], other[2]) = (f32::NAN, 7.0, f32::NEG_INFINITY);
        let [first, second] = [x, other].map(|x| lanes.load(&x));
        let larger = lanes.larger((first, lanes.place(3)), (second, lanes.place(5)));
        // What is not a number is larger than nothing, and an equal one comes too late.
        let (mut best, mut at) = (x, [3; N]);
        (best[1], at[1]) = (7.0, 5);
        assert_eq!(lanes.store(larger.0), best);
        assert_eq!(lanes.store_places(larger.1), at);
    }

    #[test]
    fn every_machine_computes_alike() {
        Check.run(Plain);
        widest(Check);
    }
}
