//! The reference implementations: loops as the equations stand.

use super::super::window::{Placed, Window};
use crate::kernel::Args;
use crate::tensor::Real;

/// The sizes of a launch.
pub(super) struct Launched {
    pub n: usize,
    pub c: usize,
    pub f: usize,
    pub groups: usize,
    /// The convolution's window over the image.
    pub conv: Placed,
    /// The pool's window over the convolution's output.
    pub pool: Placed,
}

impl Launched {
    pub(super) fn of<T: Real>(a: &Args<'_, T>) -> Self {
        let pair = |h: &str, w: &str| [a.size(h), a.size(w)];
        let conv = Placed::of(a);
        Self {
            n: a.size("N"),
            c: a.size("C"),
            f: a.size("F"),
            groups: a.size("GROUPS"),
            conv,
            pool: Placed {
                window: Window {
                    kernel: pair("PKH", "PKW"),
                    stride: pair("PSH", "PSW"),
                    padding: pair("PPH", "PPW"),
                    dilation: [1, 1],
                },
                input: conv.output,
                output: pair("PO", "QO"),
            },
        }
    }

    /// Calls `each(x index, w index)` for every product of place (i, j) of filter f over
    /// image n; x `[N, C, H, W]`, `None` for the zeros around it, w `[F, C / groups, K_h, K_w]`.
    fn products(
        &self,
        n: usize,
        f: usize,
        [i, j]: [usize; 2],
        mut each: impl FnMut(Option<usize>, usize),
    ) {
        let ([h, w], [kh, kw]) = (self.conv.input, self.conv.window.kernel);
        let (channels, filters) = (self.c / self.groups, self.f / self.groups);
        for c in 0..channels {
            for k in 0..kh {
                for l in 0..kw {
                    let channel = f / filters * channels + c;
                    let row = self.conv.place(0, i, k);
                    let pixel = row.zip(self.conv.place(1, j, l));
                    each(
                        pixel.map(|(row, col)| ((n * self.c + channel) * h + row) * w + col),
                        ((f * channels + c) * kh + k) * kw + l,
                    );
                }
            }
        }
    }

    /// Calls `each(index, n, f)` for every pooled place of `[N, F, P_o, Q_o]`.
    fn pooled(&self, mut each: impl FnMut(usize, usize, usize)) {
        let plane = self.pool.output[0] * self.pool.output[1];
        for at in 0..self.n * self.f * plane {
            each(at, at / plane / self.f, at / plane % self.f);
        }
    }

    /// Weights of all filters.
    pub(super) fn weights(&self) -> usize {
        let [kh, kw] = self.conv.window.kernel;
        self.f * (self.c / self.groups) * kh * kw
    }

    /// The place (i, j) of the convolution's output that an argmax names.
    fn winner(&self, argmax: u32) -> [usize; 2] {
        let wo = self.conv.output[1];
        [argmax as usize / wo, argmax as usize % wo]
    }
}

pub(super) fn forward<T: Real>(a: &mut Args<'_, T>) {
    let s = Launched::of(a);
    let (x, w, bias) = (a.f(0), a.f(1), a.f(2));
    let (y, argmax) = (a.f_mut(3), a.u_mut(4)); // [N, F, P_o, Q_o] twice
    let ([po, qo], [kh, kw]) = (s.pool.output, s.pool.window.kernel);
    s.pooled(|at, n, f| {
        let (p, q) = (at / qo % po, at % qo);
        let mut best: Option<(usize, T)> = None;
        for i in (0..kh).filter_map(|k| s.pool.place(0, p, k)) {
            for j in (0..kw).filter_map(|l| s.pool.place(1, q, l)) {
                let mut sum = T::ZERO;
                s.products(n, f, [i, j], |x_at, w_at| {
                    sum += x_at.map_or(T::ZERO, |at| x[at]) * w[w_at];
                });
                let candidate = sum + bias[f];
                if best.is_none_or(|(_, largest)| candidate.outdoes(largest)) {
                    best = Some((i * s.conv.output[1] + j, candidate));
                }
            }
        }
        // The shape rule has made sure that no window is empty.
        let (index, largest) = best.unwrap_or((0, T::ZERO));
        y[at] = largest;
        argmax[at] = index as u32;
    });
}

pub(super) fn input_grad<T: Real>(a: &mut Args<'_, T>) {
    let s = Launched::of(a);
    let (g, argmax, w, dx) = (a.f(0), a.u(1), a.f(2), a.f_mut(3));
    dx.fill(T::ZERO);
    s.pooled(|at, n, f| {
        if g[at] == T::ZERO {
            return;
        }
        let winner = s.winner(argmax[at]);
        s.products(n, f, winner, |x_at, w_at| {
            if let Some(x_at) = x_at {
                dx[x_at] += g[at] * w[w_at];
            }
        });
    });
}

pub(super) fn weight_gradient<T: Real>(a: &Args<'_, T>, dw: &mut [T]) {
    let s = Launched::of(a);
    let (x, g, argmax) = (a.f(0), a.f(1), a.u(2));
    dw.fill(T::ZERO);
    s.pooled(|at, n, f| {
        if g[at] == T::ZERO {
            return;
        }
        let winner = s.winner(argmax[at]);
        s.products(n, f, winner, |x_at, w_at| {
            dw[w_at] += g[at] * x_at.map_or(T::ZERO, |at| x[at]);
        });
    });
}

pub(super) fn weight_grad<T: Real>(a: &mut Args<'_, T>) {
    let dw = a.f_mut(3);
    weight_gradient(a, dw);
}

pub(super) fn bias_gradient<T: Real>(a: &Args<'_, T>, dbias: &mut [T]) {
    let g = a.f(1);
    dbias.fill(T::ZERO);
    Launched::of(a).pooled(|at, _, f| dbias[f] += g[at]);
}

pub(super) fn weight_grad_bias<T: Real>(a: &mut Args<'_, T>) {
    let (dw, dbias) = (a.f_mut(3), a.f_mut(4));
    weight_gradient(a, dw);
    bias_gradient(a, dbias);
}
