//! The shapes of the ten digits, as pen strokes.
//!
//! A digit has several *glyphs*, the ways people write it; a glyph is a few strokes, put
//! down one after the other; a stroke is a list of *knots* that the pen passes through,
//! smoothly or turning sharply. The unit is the digit's height: `y` runs from 0 at the
//! top to 1 at the bottom, `x` from 0 to about 0.7.
//!
//! Between knots the pen follows cubic Hermite curves whose tangents come from the
//! neighbouring knots, weighted by the chords' lengths. Such a curve stays close to its
//! knots however unevenly they lie, so knots can be moved at random (a hand never writes
//! the same digit twice) without loops and spikes appearing.

/// A point that the pen passes through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Knot {
    /// Across, in units of the digit's height.
    pub x: f32,
    /// Down, in units of the digit's height.
    pub y: f32,
    /// Whether the pen turns sharply here.
    pub corner: bool,
}

/// One way of writing a digit.
#[derive(Debug)]
pub(super) struct Glyph {
    /// How often this way is chosen, relative to the digit's other ways.
    pub weight: u8,
    /// The strokes, each a list of at least two knots.
    pub strokes: &'static [&'static [Knot]],
}

/// A knot passed smoothly.
const fn s(x: f32, y: f32) -> Knot {
    Knot {
        x,
        y,
        corner: false,
    }
}

/// A knot where the pen turns sharply.
const fn c(x: f32, y: f32) -> Knot {
    Knot { x, y, corner: true }
}

/// A glyph; short, because the table below is long.
const fn g(weight: u8, strokes: &'static [&'static [Knot]]) -> Glyph {
    Glyph { weight, strokes }
}

/// The glyphs of the digits 0 to 9.
#[rustfmt::skip]
pub(super) const GLYPHS: [&[Glyph]; 10] = [
    &[ // 0: closed; narrow, its end overlapping; round, with a tail inside; left open.
        g(4, &[&[s(0.42, 0.01), s(0.18, 0.12), s(0.03, 0.48), s(0.14, 0.88), s(0.36, 0.99), s(0.58, 0.80), s(0.66, 0.42), s(0.56, 0.10), s(0.40, 0.01)]]),
        g(2, &[&[s(0.36, 0.03), s(0.14, 0.25), s(0.08, 0.62), s(0.20, 0.96), s(0.38, 0.88), s(0.48, 0.50), s(0.42, 0.12), s(0.28, 0.00), s(0.18, 0.10)]]),
        g(2, &[&[s(0.52, 0.10), s(0.28, 0.02), s(0.04, 0.34), s(0.06, 0.78), s(0.34, 1.00), s(0.68, 0.72), s(0.68, 0.28), s(0.48, 0.04), s(0.34, 0.16)]]),
        g(1, &[&[s(0.30, 0.06), s(0.06, 0.36), s(0.10, 0.82), s(0.36, 0.99), s(0.62, 0.76), s(0.64, 0.32), s(0.48, 0.02)]]),
    ],
    &[ // 1: a bare stroke, with a flag, with flag and base, with a curl.
        g(6, &[&[s(0.30, 0.00), s(0.30, 0.50), s(0.30, 1.00)]]),
        g(3, &[&[s(0.12, 0.22), c(0.34, 0.00), s(0.33, 0.50), s(0.32, 1.00)]]),
        g(1, &[&[s(0.12, 0.20), c(0.34, 0.00), s(0.33, 0.50), s(0.33, 0.98)], &[s(0.08, 0.99), s(0.34, 0.98), s(0.58, 0.99)]]),
        g(1, &[&[s(0.22, 0.10), s(0.32, 0.03), s(0.32, 0.50), s(0.30, 0.92), s(0.38, 0.99)]]),
    ],
    &[ // 2: sharp at the foot, with a loop, swinging, and with a flat base.
        g(4, &[&[s(0.06, 0.22), s(0.22, 0.03), s(0.48, 0.04), s(0.58, 0.24), s(0.40, 0.58), c(0.04, 0.96), s(0.32, 0.93), s(0.68, 0.95)]]),
        g(4, &[&[s(0.06, 0.16), s(0.26, 0.01), s(0.52, 0.12), s(0.50, 0.42), s(0.28, 0.78), s(0.10, 0.96), s(0.02, 0.86), s(0.14, 0.76), s(0.36, 0.88), s(0.70, 0.92)]]),
        g(2, &[&[s(0.10, 0.30), s(0.14, 0.08), s(0.40, 0.01), s(0.54, 0.22), s(0.42, 0.52), c(0.08, 0.88), s(0.26, 0.82), s(0.44, 0.98), s(0.70, 0.84)]]),
        g(1, &[&[s(0.04, 0.08), s(0.34, 0.02), s(0.56, 0.20), s(0.44, 0.55), c(0.02, 0.98), s(0.62, 0.99)]]),
    ],
    &[ // 3: notched, with a small loop, with a flat top, with shallow bows.
        g(5, &[&[s(0.08, 0.12), s(0.30, 0.00), s(0.54, 0.12), s(0.48, 0.36), c(0.24, 0.46), s(0.54, 0.56), s(0.58, 0.82), s(0.34, 0.99), s(0.03, 0.90)]]),
        g(2, &[&[s(0.10, 0.08), s(0.38, 0.01), s(0.54, 0.18), s(0.38, 0.42), s(0.22, 0.50), s(0.24, 0.42), s(0.48, 0.50), s(0.60, 0.74), s(0.36, 0.98), s(0.04, 0.92)]]),
        g(1, &[&[c(0.08, 0.03), c(0.58, 0.02), c(0.28, 0.40), s(0.56, 0.52), s(0.58, 0.84), s(0.30, 1.00), s(0.02, 0.90)]]),
        g(2, &[&[s(0.12, 0.05), s(0.46, 0.05), s(0.48, 0.28), c(0.20, 0.45), s(0.44, 0.54), s(0.48, 0.80), s(0.28, 0.96), s(0.00, 0.98)]]),
    ],
    &[ // 4: open, closed, in one stroke like a y, open with a low bar.
        g(4, &[&[s(0.14, 0.04), s(0.05, 0.46), s(0.20, 0.56), s(0.64, 0.50)], &[s(0.58, 0.00), s(0.52, 0.48), s(0.48, 1.00)]]),
        g(2, &[&[s(0.46, 0.00), s(0.26, 0.32), c(0.02, 0.62), s(0.38, 0.60), s(0.72, 0.60)], &[s(0.47, 0.00), s(0.48, 0.50), s(0.48, 1.00)]]),
        g(2, &[&[s(0.10, 0.06), s(0.08, 0.40), s(0.28, 0.50), s(0.52, 0.36), c(0.60, 0.04), s(0.55, 0.50), s(0.50, 1.00)]]),
        g(2, &[&[s(0.20, 0.02), c(0.04, 0.60), s(0.36, 0.56), s(0.70, 0.54)], &[s(0.48, 0.22), s(0.46, 0.58), s(0.44, 1.00)]]),
    ],
    &[ // 5: with a bar put on last, in one stroke, flowing like an S, with a long bar.
        g(3, &[&[s(0.18, 0.06), c(0.14, 0.42), s(0.36, 0.38), s(0.58, 0.58), s(0.50, 0.90), s(0.24, 1.00), s(0.03, 0.90)], &[s(0.18, 0.06), s(0.40, 0.06), s(0.62, 0.02)]]),
        g(3, &[&[s(0.64, 0.02), c(0.22, 0.05), c(0.14, 0.44), s(0.40, 0.40), s(0.58, 0.62), s(0.42, 0.94), s(0.04, 0.96)]]),
        g(2, &[&[s(0.66, 0.04), s(0.34, 0.07), s(0.16, 0.26), s(0.34, 0.46), s(0.52, 0.68), s(0.36, 0.94), s(0.04, 0.92)]]),
        g(1, &[&[s(0.24, 0.08), c(0.16, 0.50), s(0.38, 0.50), s(0.50, 0.70), s(0.38, 0.94), s(0.06, 0.98)], &[s(0.24, 0.08), s(0.50, 0.04), s(0.80, 0.01)]]),
    ],
    &[ // 6: a full bow, a nearly straight back, a hooked top, a small belly.
        g(4, &[&[s(0.50, 0.00), s(0.22, 0.24), s(0.05, 0.62), s(0.14, 0.92), s(0.36, 0.99), s(0.56, 0.80), s(0.46, 0.58), s(0.24, 0.62), s(0.10, 0.82)]]),
        g(2, &[&[s(0.36, 0.00), s(0.20, 0.36), s(0.12, 0.76), s(0.28, 0.98), s(0.50, 0.84), s(0.44, 0.62), s(0.26, 0.64), s(0.16, 0.80)]]),
        g(1, &[&[s(0.60, 0.10), s(0.44, 0.02), s(0.16, 0.28), s(0.04, 0.68), s(0.28, 0.99), s(0.60, 0.80), s(0.54, 0.52), s(0.28, 0.48), s(0.08, 0.66)]]),
        g(2, &[&[s(0.30, 0.00), s(0.10, 0.44), s(0.10, 0.86), s(0.36, 0.98), s(0.52, 0.84), s(0.38, 0.72), s(0.14, 0.88)]]),
    ],
    &[ // 7: plain, barred, with a serif, with a swung top.
        g(5, &[&[s(0.03, 0.10), s(0.32, 0.08), c(0.60, 0.05), s(0.42, 0.46), s(0.30, 1.00)]]),
        g(2, &[&[s(0.06, 0.08), s(0.32, 0.06), c(0.64, 0.05), s(0.42, 0.48), s(0.26, 1.00)], &[s(0.18, 0.54), s(0.40, 0.50), s(0.60, 0.50)]]),
        g(1, &[&[s(0.04, 0.24), c(0.06, 0.06), c(0.62, 0.05), s(0.40, 0.44), s(0.32, 1.00)]]),
        g(3, &[&[s(0.02, 0.18), s(0.12, 0.04), s(0.36, 0.12), s(0.56, 0.06), s(0.54, 0.28), s(0.40, 0.62), s(0.30, 1.00)]]),
    ],
    &[ // 8: in one stroke, as two rings, open at the top, slim.
        g(4, &[&[s(0.52, 0.12), s(0.30, 0.01), s(0.12, 0.18), s(0.30, 0.44), s(0.52, 0.72), s(0.32, 0.99), s(0.08, 0.80), s(0.28, 0.50), s(0.54, 0.22), s(0.50, 0.09)]]),
        g(1, &[&[s(0.34, 0.00), s(0.14, 0.20), s(0.32, 0.44), s(0.52, 0.22), s(0.34, 0.00)], &[s(0.32, 0.45), s(0.06, 0.72), s(0.32, 0.99), s(0.58, 0.72), s(0.32, 0.45)]]),
        g(2, &[&[s(0.58, 0.06), s(0.26, 0.06), s(0.16, 0.26), s(0.42, 0.52), s(0.46, 0.82), s(0.22, 0.98), s(0.08, 0.78), s(0.34, 0.44), s(0.62, 0.02)]]),
        g(2, &[&[s(0.40, 0.04), s(0.22, 0.12), s(0.26, 0.40), s(0.38, 0.66), s(0.32, 0.96), s(0.16, 0.92), s(0.20, 0.62), s(0.42, 0.32), s(0.42, 0.08)]]),
    ],
    &[ // 9: a straight back, a bent tail, a hook, a small head.
        g(4, &[&[s(0.54, 0.12), s(0.30, 0.02), s(0.06, 0.26), s(0.20, 0.48), s(0.46, 0.36), c(0.56, 0.08), s(0.53, 0.52), s(0.46, 1.00)]]),
        g(2, &[&[s(0.52, 0.14), s(0.28, 0.01), s(0.08, 0.28), s(0.28, 0.50), s(0.52, 0.30), s(0.56, 0.50), s(0.46, 0.84), s(0.28, 1.00), s(0.06, 0.90)]]),
        g(2, &[&[s(0.50, 0.32), s(0.22, 0.46), s(0.08, 0.24), s(0.30, 0.02), s(0.54, 0.14), s(0.52, 0.50), s(0.40, 1.00)]]),
        g(2, &[&[s(0.44, 0.10), s(0.26, 0.02), s(0.10, 0.20), s(0.24, 0.34), s(0.44, 0.22), c(0.46, 0.10), s(0.42, 0.52), s(0.32, 1.00)]]),
    ],
];

/// The longest step along a flattened curve, in units of the digit's height: a little
/// over one pixel once the digit is 20 pixels high.
const STEP: f32 = 0.06;

/// Appends the curve through `knots` to `line`, as points `[x, y]` a short step apart.
///
/// Fewer than two knots give no curve.
pub(super) fn flatten(knots: &[Knot], line: &mut Vec<[f32; 2]>) {
    let mut start = 0;
    for end in 1..knots.len() {
        if knots[end].corner || end + 1 == knots.len() {
            flatten_smooth(&knots[start..=end], line);
            start = end;
        }
    }
}

/// [`flatten`] for knots of which only the first and the last may be corners.
fn flatten_smooth(knots: &[Knot], line: &mut Vec<[f32; 2]>) {
    for i in 1..knots.len() {
        let (a, b) = (knots[i - 1], knots[i]);
        let length = distance(a, b);
        let inner_a = (i >= 2).then(|| tangent(knots[i - 2], a, b));
        let inner_b = (i + 1 < knots.len()).then(|| tangent(a, b, knots[i + 1]));
        let chord = [(b.x - a.x) / length, (b.y - a.y) / length];
        // At an end of the curve the tangent is the one of least bending, given the
        // tangent at the other side.
        let end = |other: [f32; 2]| [0, 1].map(|k| 1.5 * chord[k] - 0.5 * other[k]);
        let ta = inner_a.or(inner_b.map(end)).unwrap_or(chord);
        let tb = inner_b.or(inner_a.map(end)).unwrap_or(chord);
        let steps = (length / STEP).ceil().max(1.0) as u32;
        let first = u32::from(i > 1);
        for step in first..=steps {
            let t = step as f32 / steps as f32;
            let (t2, t3) = (t * t, t * t * t);
            let from = 2.0 * t3 - 3.0 * t2 + 1.0;
            let out = (t3 - 2.0 * t2 + t) * length;
            let into = (t3 - t2) * length;
            line.push([
                from * a.x + (1.0 - from) * b.x + out * ta[0] + into * tb[0],
                from * a.y + (1.0 - from) * b.y + out * ta[1] + into * tb[1],
            ]);
        }
    }
}

/// The direction of the pen at `b` on its way from `a` to `d`.
fn tangent(a: Knot, b: Knot, d: Knot) -> [f32; 2] {
    let length = distance(a, b) + distance(b, d);
    [(d.x - a.x) / length, (d.y - a.y) / length]
}

/// The distance of two knots, kept away from zero because lengths are divided by.
fn distance(a: Knot, b: Knot) -> f32 {
    let (dx, dy) = (b.x - a.x, b.y - a.y);
    (dx * dx + dy * dy).sqrt().max(1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glyphs_are_well_formed() {
        for (digit, glyphs) in GLYPHS.iter().enumerate() {
            assert!(glyphs.len() >= 3, "{digit} has too few ways of writing");
            for glyph in *glyphs {
                assert!(glyph.weight > 0);
                for stroke in glyph.strokes {
                    assert!(stroke.len() >= 2, "{digit}");
                    for knot in *stroke {
                        assert!((0.0..=0.85).contains(&knot.x), "{digit}: {knot:?}");
                        assert!((0.0..=1.0).contains(&knot.y), "{digit}: {knot:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn curves_pass_through_their_knots_in_short_steps() {
        for stroke in GLYPHS.iter().flat_map(|g| g.iter()).flat_map(|g| g.strokes) {
            let mut line = Vec::new();
            flatten(stroke, &mut line);
            for knot in *stroke {
                let near = |p: &[f32; 2]| (p[0] - knot.x).abs() + (p[1] - knot.y).abs() < 1e-5;
                assert!(line.iter().any(near), "{knot:?} is not on its curve");
            }
            for pair in line.windows(2) {
                let (dx, dy) = (pair[1][0] - pair[0][0], pair[1][1] - pair[0][1]);
                assert!((dx * dx + dy * dy).sqrt() < 2.5 * STEP, "{pair:?}");
            }
        }
    }

    #[test]
    fn a_corner_splits_the_curve_and_a_straight_line_stays_straight() {
        let mut line = Vec::new();
        flatten(&[s(0.0, 0.0), c(0.5, 0.0), s(0.5, 1.0)], &mut line);
        for [x, y] in line {
            assert!(y.abs() < 1e-6 || (x - 0.5).abs() < 1e-6, "({x}, {y})");
        }
    }

    #[test]
    fn coinciding_and_single_knots_stay_finite() {
        let mut line = Vec::new();
        flatten(&[s(0.1, 0.1)], &mut line);
        assert!(line.is_empty());
        flatten(&[s(0.1, 0.1), s(0.1, 0.1), s(0.1, 0.1)], &mut line);
        assert!(line.iter().flatten().all(|v| v.is_finite()));
    }
}
