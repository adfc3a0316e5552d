//! The reference implementations: loops as the equations stand.

use super::super::window::Placed;
use crate::kernel::Args;
use crate::tensor::Real;

/// The sizes of a launch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Launched {
    pub n: usize,
    pub c: usize,
    pub f: usize,
    pub groups: usize,
    pub at: Placed,
}

impl Launched {
    pub(super) fn of<T: Real>(a: &Args<'_, T>) -> Self {
        Self {
            n: a.size("N"),
            c: a.size("C"),
            f: a.size("F"),
            groups: a.size("GROUPS"),
            at: Placed::of(a),
        }
    }

    /// Calls `each(x index, w index, y index)` for every product of the convolution;
    /// x `[N, C, H, W]`, `None` for the zeros around it, w `[F, C / groups, K_h, K_w]`,
    /// y `[N, F, H_o, W_o]`.
    fn products(&self, mut each: impl FnMut(Option<usize>, usize, usize)) {
        let ([h, w], [ho, wo], [kh, kw]) = (self.at.input, self.at.output, self.at.window.kernel);
        let (channels, filters) = (self.c / self.groups, self.f / self.groups);
        for n in 0..self.n {
            for f in 0..self.f {
                for i in 0..ho {
                    for j in 0..wo {
                        for c in 0..channels {
                            for k in 0..kh {
                                for l in 0..kw {
                                    let channel = f / filters * channels + c;
                                    let image = (n * self.c + channel) * h;
                                    let row = self.at.place(0, i, k);
                                    let pixel = row.zip(self.at.place(1, j, l));
                                    each(
                                        pixel.map(|(row, col)| (image + row) * w + col),
                                        ((f * channels + c) * kh + k) * kw + l,
                                        ((n * self.f + f) * ho + i) * wo + j,
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn forward<T: Real>(a: &mut Args<'_, T>) {
    let (x, w, y) = (a.f(0), a.f(1), a.f_mut(2));
    y.fill(T::ZERO);
    Launched::of(a).products(|i, j, k| {
        y[k] += i.map_or(T::ZERO, |i| x[i]) * w[j];
    });
}

pub(super) fn input_grad<T: Real>(a: &mut Args<'_, T>) {
    let (g, w, dx) = (a.f(0), a.f(1), a.f_mut(2));
    dx.fill(T::ZERO);
    Launched::of(a).products(|i, j, k| {
        if let Some(i) = i {
            dx[i] += g[k] * w[j];
        }
    });
}

pub(super) fn weight_grad<T: Real>(a: &mut Args<'_, T>) {
    let (x, g, dw) = (a.f(0), a.f(1), a.f_mut(2));
    dw.fill(T::ZERO);
    Launched::of(a).products(|i, j, k| {
        dw[j] += g[k] * i.map_or(T::ZERO, |i| x[i]);
    });
}

pub(super) fn weight_parts<T: Real>(a: &mut Args<'_, T>) {
    let (x, g, parts) = (a.f(0), a.f(1), a.f_mut(2));
    parts.fill(T::ZERO);
    let (s, images) = (Launched::of(a), a.size("IMAGES"));
    // A part has so many gradients, and so many weights.
    let gradients = images * s.f * s.at.output[0] * s.at.output[1];
    let weights = parts.len() / a.size("PARTS");
    s.products(|i, j, k| {
        parts[k / gradients * weights + j] += g[k] * i.map_or(T::ZERO, |i| x[i]);
    });
}
