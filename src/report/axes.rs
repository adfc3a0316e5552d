//! Axes with round numbers: where they begin and end, and where their ticks are.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

/// The largest size of a number that is told apart on a general axis, so that spans and
/// margins do not overflow.
const HUGE: f64 = 1e300;

/// An axis with ticks of our own: whole epochs, round steps, powers of ten.
pub(super) struct Axis {
    pub range: Range<f64>,
    pub ticks: Vec<f64>,
    /// Whether it is logarithmic; then range and ticks are positive.
    pub log: bool,
}

impl Axis {
    /// An axis that holds `values` (of which those that [`Axis::holds`] refuses are passed
    /// over) with `margin`, a share of its length, on both sides.
    pub fn around(values: impl Iterator<Item = f64>, log: bool, margin: f64) -> Self {
        let held = values.filter(|v| Self::holds(*v, log));
        let (low, high) = held.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
            (l.min(v), h.max(v))
        });
        if low > high {
            let (low, high) = if log { (1.0, 10.0) } else { (0.0, 1.0) };
            return Self {
                range: low..high,
                ticks: vec![low, high],
                log,
            };
        }
        if log {
            Self::powers(
                low.clamp(1.0 / HUGE, HUGE),
                high.clamp(1.0 / HUGE, HUGE),
                margin,
            )
        } else {
            Self::steps(low.clamp(-HUGE, HUGE), high.clamp(-HUGE, HUGE), margin)
        }
    }

    /// The same with ticks at whole numbers alone: nobody trained half an epoch.
    pub fn of_whole_numbers(self) -> Self {
        if self.log {
            return self;
        }
        let Range { start, end } = self.range;
        let step = nice_step((end - start) / 7.0).max(1.0);
        Self {
            ticks: ticks(start, end, step),
            ..self
        }
    }

    /// Whether a value has a place on such an axis.
    pub fn holds(value: f64, log: bool) -> bool {
        value.is_finite() && (!log || value > 0.0)
    }

    fn steps(low: f64, high: f64, margin: f64) -> Self {
        let alike = high - low <= 1e-12 * low.abs().max(high.abs());
        let widen = if !alike {
            (high - low) * margin
        } else if low == 0.0 {
            0.5
        } else {
            low.abs() * 0.05
        };
        let (bottom, top) = (low - widen, high + widen);
        Self {
            ticks: ticks(bottom, top, nice_step((top - bottom) / 7.0)),
            range: bottom..top,
            log: false,
        }
    }

    fn powers(low: f64, high: f64, margin: f64) -> Self {
        let (l, h) = (low.log10(), high.log10());
        let widen = if h - l < 1e-9 { 0.2 } else { (h - l) * margin };
        let edge = HUGE.log10();
        let (l, h) = ((l - widen).max(-edge), (h + widen).min(edge));
        let range = 10f64.powf(l)..10f64.powf(h);
        // At most eight labels or so: each power, or each k-th; between few powers also 2 and 5.
        let every = ((h - l) / 8.0).ceil().max(1.0);
        let first = (l / every - 1e-9).ceil();
        let exponents = (0..20).map(|i| (first + f64::from(i)) * every);
        let powers = exponents
            .take_while(|e| *e <= h + 1e-9)
            .map(|e| 10f64.powf(e));
        let mut marks: Vec<f64> = powers.collect();
        if marks.len() < 3 {
            let between = (l.floor() as i32..=h.ceil() as i32)
                .flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(e)));
            marks = between.filter(|t| range.contains(t)).collect();
        }
        if marks.len() < 3 {
            let step = nice_step((range.end - range.start) / 5.0);
            marks = ticks(range.start, range.end, step);
        }
        Self {
            range,
            ticks: marks,
            log: true,
        }
    }

    /// A tick's label: no more decimals than the ticks need.
    pub fn label(&self, value: f64) -> String {
        let largest = self.ticks.iter().fold(0.0, |l: f64, t| l.max(t.abs()));
        let plain = self.ticks.iter().all(|t| (1e-3..1e6).contains(t));
        if self.log && !plain {
            let exponent = (value.log10() + 1e-9).floor();
            let front = value / 10f64.powf(exponent);
            let power = match exponent as i32 {
                0 => "1".into(),
                1 => "10".into(),
                e => format!("10{}", superscript(e)),
            };
            return if (front - 1.0).abs() < 1e-6 {
                power
            } else {
                format!("{front:.0}·{power}")
            };
        }
        let step = match self.ticks[..] {
            [a, b, ..] if !self.log => b - a,
            _ => value.abs(),
        };
        let decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 12.0) as usize;
        if !self.log && (largest >= 1e6 || (largest > 0.0 && largest < 1e-4)) {
            return format!("{value:.1e}");
        }
        let text = format!("{value:.decimals$}");
        // Multiples of a step may miss 0 by a rounding.
        if text
            .trim_start_matches('-')
            .chars()
            .all(|c| matches!(c, '0' | '.'))
        {
            return "0".into();
        }
        match text.parse::<i64>() {
            // Four digits are grouped only beside five.
            Ok(whole) if largest >= 10_000.0 => {
                let sign = if whole < 0 { "−" } else { "" };
                format!(
                    "{sign}{}",
                    super::html::grouped(whole.unsigned_abs() as usize)
                )
            }
            _ => text.replace('-', "−"),
        }
    }
}

/// A whole number as an exponent.
pub(super) fn superscript(number: i32) -> String {
    let raise = |c| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        c => char::from_u32('⁰' as u32 + c as u32 - '0' as u32).unwrap_or(c),
    };
    number.to_string().chars().map(raise).collect()
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let place = |v: f64| if self.log { v.ln() } else { v };
        let (start, end) = (place(self.range.start), place(self.range.end));
        let share = (place(*value) - start) / (end - start);
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
