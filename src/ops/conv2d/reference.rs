//! The readable texts: loops as the equations stand.

use super::super::activation::Activation;
use super::super::window::Placed;
use crate::kernel::Args;
use crate::tensor::Real;

/// The sizes of a launch.
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

fn convolve<T: Real>(a: &Args<'_, T>, y: &mut [T]) {
    let (x, w) = (a.f(0), a.f(1));
    y.fill(T::ZERO);
    Launched::of(a).products(|i, j, k| {
        y[k] += i.map_or(T::ZERO, |i| x[i]) * w[j];
    });
}

pub(super) fn forward<T: Real>(a: &mut Args<'_, T>) {
    let y = a.f_mut(2);
    convolve(a, y);
}

pub(super) fn forward_bias<T: Real>(a: &mut Args<'_, T>) {
    let y = a.f_mut(3);
    convolve(a, y);
    bias(a, y);
}

/// y = σ(y + bias), in place; y `[N, F, H_o, W_o]`, bias `[F]`.
pub(super) fn bias<T: Real>(a: &Args<'_, T>, y: &mut [T]) {
    let act = Activation::of_constant(a.size("ACTIVATION"));
    let (bias, plane) = (a.f(2), a.size("HO") * a.size("WO"));
    for (plane, &b) in y.chunks_mut(plane).zip(bias.iter().cycle()) {
        for y in plane {
            *y = act.apply(*y + b);
        }
    }
}

fn input_gradient<T: Real>(a: &Args<'_, T>, dx: &mut [T]) {
    let (g, w) = (a.f(0), a.f(1));
    dx.fill(T::ZERO);
    Launched::of(a).products(|i, j, k| {
        if let Some(i) = i {
            dx[i] += g[k] * w[j];
        }
    });
}

pub(super) fn input_grad<T: Real>(a: &mut Args<'_, T>) {
    let dx = a.f_mut(2);
    input_gradient(a, dx);
}

pub(super) fn input_grad_slope<T: Real>(a: &mut Args<'_, T>) {
    let dx = a.f_mut(3);
    input_gradient(a, dx);
    slope(a, dx);
}

/// dx = dx ⊙ σ′(y), in place.
pub(super) fn slope<T: Real>(a: &Args<'_, T>, dx: &mut [T]) {
    let act = Activation::of_constant(a.size("ACTIVATION"));
    for (dx, &y) in dx.iter_mut().zip(a.f(2)) {
        *dx = act.sloped(*dx, y);
    }
}

fn weight_gradient<T: Real>(a: &Args<'_, T>, dw: &mut [T]) {
    let (x, g) = (a.f(0), a.f(1));
    dw.fill(T::ZERO);
    Launched::of(a).products(|i, j, k| {
        dw[j] += g[k] * i.map_or(T::ZERO, |i| x[i]);
    });
}

pub(super) fn weight_grad<T: Real>(a: &mut Args<'_, T>) {
    let dw = a.f_mut(2);
    weight_gradient(a, dw);
}
