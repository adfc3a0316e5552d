//! The reference implementation, example after example and unit after unit.

use super::super::activation::Activation;
use crate::kernel::Args;
use crate::tensor::Real;

/// Sizes of a launch, and in which order its steps come.
struct Steps {
    n: usize,
    t: usize,
    h: usize,
    reverse: bool,
}

impl Steps {
    fn of<T: Real>(a: &Args<'_, T>) -> Self {
        Self {
            n: a.size("N"),
            t: a.size("T"),
            h: a.size("H"),
            reverse: a.size("REVERSE") == 1,
        }
    }

    /// Where the steps of example `n` stand in `[N, T]`, the first step first.
    fn of_example(&self, n: usize) -> Vec<usize> {
        let places = n * self.t..(n + 1) * self.t;
        match self.reverse {
            false => places.collect(),
            true => places.rev().collect(),
        }
    }
}

fn sigmoid<T: Real>(x: T) -> T {
    Activation::Sigmoid.apply(x)
}

/// Rows of W `[·, H]` times a state `[H]`, and b.
fn products<T: Real>(w: &[T], b: &[T], state: &[T]) -> Vec<T> {
    let rows = w.chunks(state.len()).zip(b);
    rows.map(|(row, &b)| b + row.iter().zip(state).map(|(&w, &h)| w * h).sum())
        .collect()
}

/// Rows of W `[·, H]`, each times its slope, added up.
fn carried<T: Real>(w: &[T], slopes: &[T], h: usize) -> Vec<T> {
    let mut sums = vec![T::ZERO; h];
    for (row, &slope) in w.chunks(h).zip(slopes) {
        for (sum, &w) in sums.iter_mut().zip(row) {
            *sum += slope * w;
        }
    }
    sums
}

pub(super) fn lstm<T: Real>(args: &mut Args<'_, T>) {
    let steps = Steps::of(args);
    let h = steps.h;
    let (x, w, b) = (args.f(0), args.f(1), args.f(2)); // [N, T, 4 H], [4 H, H], [4 H]
    let (y, saved) = (args.f_mut(3), args.f_mut(4)); // [N, T, H], [N, T, 5 H]
    for n in 0..steps.n {
        let (mut state, mut c) = (vec![T::ZERO; h], vec![T::ZERO; h]);
        for at in steps.of_example(n) {
            let a = products(w, b, &state);
            let x = &x[at * 4 * h..][..4 * h];
            let saved = &mut saved[at * 5 * h..][..5 * h];
            for u in 0..h {
                let sum = |gate: usize| x[gate * h + u] + a[gate * h + u];
                let (i, f, g, o) = (
                    sigmoid(sum(0)),
                    sigmoid(sum(1)),
                    sum(2).tanh(),
                    sigmoid(sum(3)),
                );
                c[u] = f * c[u] + i * g;
                state[u] = o * c[u].tanh();
                for (part, value) in [i, f, g, o, c[u]].into_iter().enumerate() {
                    saved[part * h + u] = value;
                }
            }
            y[at * h..][..h].copy_from_slice(&state);
        }
    }
}

pub(super) fn lstm_grad<T: Real>(args: &mut Args<'_, T>) {
    let steps = Steps::of(args);
    let h = steps.h;
    let (g, w, y, saved) = (args.f(0), args.f(1), args.f(2), args.f(3));
    let (dx, previous) = (args.f_mut(4), args.f_mut(5)); // [N, T, 4 H], [N, T, H]
    for n in 0..steps.n {
        let places = steps.of_example(n);
        let (mut left_h, mut left_c) = (vec![T::ZERO; h], vec![T::ZERO; h]);
        for (step, &at) in places.iter().enumerate().rev() {
            let before = step.checked_sub(1).map(|step| places[step]);
            let slopes = &mut dx[at * 4 * h..][..4 * h];
            for u in 0..h {
                let [i, f, candidate, o, c] =
                    [0, 1, 2, 3, 4].map(|part| saved[(at * 5 + part) * h + u]);
                let c_before = before.map_or(T::ZERO, |at| saved[(at * 5 + 4) * h + u]);
                previous[at * h + u] = before.map_or(T::ZERO, |at| y[at * h + u]);
                let open = c.tanh();
                let dh = g[at * h + u] + left_h[u];
                let dc = left_c[u] + dh * o * (T::ONE - open * open);
                left_c[u] = dc * f;
                slopes[u] = dc * candidate * (i * (T::ONE - i));
                slopes[h + u] = dc * c_before * (f * (T::ONE - f));
                slopes[2 * h + u] = dc * i * (T::ONE - candidate * candidate);
                slopes[3 * h + u] = dh * open * (o * (T::ONE - o));
            }
            left_h = carried(w, slopes, h);
        }
    }
}

pub(super) fn gru<T: Real>(args: &mut Args<'_, T>) {
    let steps = Steps::of(args);
    let h = steps.h;
    let (x, w, b) = (args.f(0), args.f(1), args.f(2)); // [N, T, 3 H], [3 H, H], [3 H]
    let (y, saved) = (args.f_mut(3), args.f_mut(4)); // [N, T, H], [N, T, 4 H]
    for n in 0..steps.n {
        let mut state = vec![T::ZERO; h];
        for at in steps.of_example(n) {
            let a = products(w, b, &state);
            let x = &x[at * 3 * h..][..3 * h];
            let saved = &mut saved[at * 4 * h..][..4 * h];
            for u in 0..h {
                let (r, z) = (sigmoid(x[u] + a[u]), sigmoid(x[h + u] + a[h + u]));
                let q = a[2 * h + u];
                let n = (x[2 * h + u] + r * q).tanh();
                state[u] = (T::ONE - z) * n + z * state[u];
                for (part, value) in [r, z, n, q].into_iter().enumerate() {
                    saved[part * h + u] = value;
                }
            }
            y[at * h..][..h].copy_from_slice(&state);
        }
    }
}

pub(super) fn gru_grad<T: Real>(args: &mut Args<'_, T>) {
    let steps = Steps::of(args);
    let h = steps.h;
    let (g, w, y, saved) = (args.f(0), args.f(1), args.f(2), args.f(3));
    // [N, T, 3 H], [N, T, H], [N, T, 3 H]
    let (dx, previous, dr) = (args.f_mut(4), args.f_mut(5), args.f_mut(6));
    for n in 0..steps.n {
        let places = steps.of_example(n);
        let mut left = vec![T::ZERO; h];
        for (step, &at) in places.iter().enumerate().rev() {
            let before = step.checked_sub(1).map(|step| places[step]);
            let dx = &mut dx[at * 3 * h..][..3 * h];
            let slopes = &mut dr[at * 3 * h..][..3 * h];
            for u in 0..h {
                let [r, z, n, q] = [0, 1, 2, 3].map(|part| saved[(at * 4 + part) * h + u]);
                let h_before = before.map_or(T::ZERO, |at| y[at * h + u]);
                previous[at * h + u] = h_before;
                let dh = g[at * h + u] + left[u];
                left[u] = dh * z;
                let dn = dh * (T::ONE - z) * (T::ONE - n * n);
                dx[u] = dn * q * (r * (T::ONE - r));
                dx[h + u] = dh * (h_before - n) * (z * (T::ONE - z));
                dx[2 * h + u] = dn;
                slopes[u] = dx[u];
                slopes[h + u] = dx[h + u];
                slopes[2 * h + u] = dn * r;
            }
            for (left, more) in left.iter_mut().zip(carried(w, slopes, h)) {
                *left += more;
            }
        }
    }
}

/// The plain recurrence's function.
fn function<T: Real>(args: &Args<'_, T>) -> Activation {
    match args.size("RELU") {
        1 => Activation::Relu,
        _ => Activation::Tanh,
    }
}

pub(super) fn rnn<T: Real>(args: &mut Args<'_, T>) {
    let steps = Steps::of(args);
    let (h, function) = (steps.h, function(args));
    let (x, w, b) = (args.f(0), args.f(1), args.f(2)); // [N, T, H], [H, H], [H]
    let y = args.f_mut(3); // [N, T, H]
    for n in 0..steps.n {
        let mut state = vec![T::ZERO; h];
        for at in steps.of_example(n) {
            let a = products(w, b, &state);
            for u in 0..h {
                state[u] = function.apply(x[at * h + u] + a[u]);
            }
            y[at * h..][..h].copy_from_slice(&state);
        }
    }
}

pub(super) fn rnn_grad<T: Real>(args: &mut Args<'_, T>) {
    let steps = Steps::of(args);
    let (h, function) = (steps.h, function(args));
    let (g, w, y) = (args.f(0), args.f(1), args.f(2)); // [N, T, H], [H, H], [N, T, H]
    let (dx, previous) = (args.f_mut(3), args.f_mut(4)); // [N, T, H] twice
    for n in 0..steps.n {
        let places = steps.of_example(n);
        let mut left = vec![T::ZERO; h];
        for (step, &at) in places.iter().enumerate().rev() {
            let before = step.checked_sub(1).map(|step| places[step]);
            let slopes = &mut dx[at * h..][..h];
            for u in 0..h {
                previous[at * h + u] = before.map_or(T::ZERO, |at| y[at * h + u]);
                slopes[u] = function.sloped(g[at * h + u] + left[u], y[at * h + u]);
            }
            left = carried(w, slopes, h);
        }
    }
}
