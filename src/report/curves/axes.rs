//! Axes with round numbers: where they begin and end, and where their ticks are.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

/// A linear axis with ticks of our own: whole epochs, round steps.
pub(super) struct Axis {
    pub range: Range<f64>,
    pub ticks: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        // An accuracy above 100 % would be a bug elsewhere; it is no reason to fail here.
        from + (share.clamp(0.0, 1.0) * f64::from(to - from)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, _hint: H) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// From 0, where a cost would like to be, to a step above the largest.
pub(super) fn cost_range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((0.0, 0.0), |(l, h): (f64, f64), v| (l.min(v), h.max(v)));
    if high - low <= f64::MIN_POSITIVE {
        return 0.0..1.0;
    }
    // Halves, so that the span of the largest numbers does not overflow.
    let step = nice_step((high / 2.0 - low / 2.0) / 2.5).min(f64::MAX / 64.0);
    let up = (high / step * 1.02).ceil() * step;
    let down = (low / step).floor() * step;
    if up.is_finite() && down.is_finite() && (up - down).is_finite() {
        down..up
    } else {
        0.0..1.0
    }
}

/// From a step below the smallest to 100 %.
pub(super) fn accuracy_range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let low = values.fold(100.0, f64::min).clamp(0.0, 100.0);
    let step = nice_step(((100.0 - low) / 4.0).max(0.05));
    ((low / step).floor() * step).clamp(0.0, 99.5)..100.0
}

/// The smallest of 1, 2, 5 times a power of ten that is not below `rough`.
pub(super) fn nice_step(rough: f64) -> f64 {
    if !(rough.is_finite() && rough > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|m| m * power)
        .into_iter()
        .find(|s| *s >= rough * (1.0 - 1e-9));
    step.filter(|s| s.is_normal()).unwrap_or(rough)
}

/// Multiples of `step` from `bottom` to `top`, few whatever the numbers are.
pub(super) fn ticks(bottom: f64, top: f64, step: f64) -> Vec<f64> {
    let first = (bottom / step - 1e-9).ceil();
    (0..20)
        .map(|i| (first + f64::from(i)) * step)
        .take_while(|t| *t <= top + step * 1e-9)
        .collect()
}

/// Whole epochs, about ten: round ones, and the first where it does not crowd the next.
pub(super) fn epoch_ticks(first: usize, last: usize) -> Vec<f64> {
    let step = nice_step((last - first) as f64 / 10.0).max(1.0) as usize;
    let into = first % step;
    let begin = (into > 0 && into * 5 <= step * 2).then_some(first);
    let round = (first.div_ceil(step)..=last / step).map(|i| i * step);
    begin.into_iter().chain(round).map(|e| e as f64).collect()
}
