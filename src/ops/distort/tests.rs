//! Statistics of what is drawn.

use std::f64::consts::PI;

use super::*;
use crate::kernel::Slot;
use crate::rng::{keys, streams};

/// The maps of `batch` images: seed, replica, step.
fn maps(draw_: Draw, [seed, replica, step]: [u32; 3]) -> Vec<f64> {
    let row = draw_.distortion.row(draw_.size);
    let mut out = vec![f64::NAN; draw_.batch * row];
    let ty = Type::f32("maps", &[draw_.batch, row]).unwrap();
    draw(&mut Args::<f64> {
        constants: &draw_.lower(&[], &[ty]).unwrap().launch().unwrap().constants,
        slots: [
            Slot::U(&keys(u64::from(seed), replica)),
            Slot::U(&[0, step]),
            Slot::FMut(&mut out),
        ]
        .into_iter()
        .collect(),
    });
    out
}

fn geometry(d: Distortion, [height, width]: [usize; 2]) -> Geometry<f64> {
    Geometry {
        channels: 1,
        height,
        width,
        row: d.row([height, width]),
        nodes: d.nodes(width),
        spacing: d.spacing(),
        reach: d.reach(),
        fall: 0.5 / (d.sigma * d.sigma),
    }
}

/// Variance of either part of Simard's displacement far from borders, summed out:
/// every pixel's weight, squared.
fn simard(d: Distortion) -> f64 {
    let far = (8.0 * d.sigma) as i64;
    let weight = |z: i64| (-(z * z) as f64 / (2.0 * d.sigma * d.sigma)).exp();
    let sum: f64 = (-far..=far).map(weight).sum();
    let squares: f64 = (-far..=far).map(|z| weight(z).powi(2)).sum();
    d.alpha * d.alpha / 3.0 * (squares / (sum * sum)).powi(2)
}

#[test]
fn the_variance_is_simards_at_every_pixel() {
    for (sigma, alpha) in [
        (1.0, 3.0),
        (1.5, 8.0),
        (1.99, 8.0),
        (4.0, 34.0),
        (6.7, 36.0),
        (9.0, 90.0),
    ] {
        let d = Distortion {
            alpha,
            sigma,
            ..Distortion::NONE
        };
        let g = geometry(d, [19, 23]);
        let wanted = simard(d);
        for (x, y) in (0..23).flat_map(|x| (0..19).map(move |y| (x, y))) {
            let axis = |place| {
                (0..2 * g.reach)
                    .map(|t| g.weight(place, t).powi(2))
                    .sum::<f64>()
            };
            let found = d.gain().powi(2) / 3.0 * axis(x) * axis(y);
            // Ripple of 1e-4 per axis, as much cut off, 2 exp(−π²) of Simard's own sum.
            assert!(
                (found / wanted - 1.0).abs() < 1e-3,
                "σ = {sigma}: {found}, {wanted}"
            );
        }
        let closed = alpha / (sigma * (12.0 * PI).sqrt());
        assert!((closed / wanted.sqrt() - 1.0).abs() < 2e-4, "{closed}");
    }
}

#[test]
fn displacements_have_mean_zero_and_the_deviation_derived() {
    let d = Distortion::elastic();
    let n = 20_000;
    let draw = Draw {
        distortion: d,
        batch: n,
        size: [28, 28],
        stream: streams::DISTORT,
    };
    let (maps, g) = (maps(draw, [7, 0, 3]), geometry(d, [28, 28]));
    let variance = simard(d);
    for (x, y) in [(0, 0), (14, 13), (27, 5)] {
        let (mut sum, mut squares, mut product) = ([0.0; 2], [0.0; 2], 0.0);
        for map in maps.chunks(g.row) {
            let found = g.displacement(&map[AFFINE..], x, y);
            for k in 0..2 {
                sum[k] += found[k] / n as f64;
                squares[k] += found[k] * found[k] / n as f64;
            }
            product += found[0] * found[1] / n as f64;
        }
        // Five deviations of each estimate; a sum of uniform numbers is flatter than a
        // normal one, whose square has deviation √2.
        let five = 5.0 / (n as f64).sqrt();
        for k in 0..2 {
            assert!(sum[k].abs() < five * variance.sqrt(), "mean {}", sum[k]);
            let off = squares[k] / variance - 1.0;
            assert!(off.abs() < five * 2f64.sqrt(), "variance off by {off}");
        }
        assert!(
            (product / variance).abs() < five,
            "parts correlate: {product}"
        );
    }
}

#[test]
fn affine_numbers_fill_their_limits() {
    let d = Distortion {
        rotation: 180.0,
        scale: 0.5,
        shear: 0.0,
        shift: 3.0,
        ..Distortion::NONE
    };
    let maps = maps(
        Draw {
            distortion: d,
            batch: 10_000,
            size: [5, 5],
            stream: streams::DISTORT,
        },
        [1, 2, 3],
    );
    let mut quarters = [0; 4];
    for m in maps.chunks(AFFINE) {
        // Columns of A are orthogonal and as long as 1 + a.
        assert!((m[0] * m[1] + m[2] * m[3]).abs() < 1e-6);
        for column in [[m[0], m[2]], [m[1], m[3]]] {
            assert!((0.5 - 1e-6..1.5 + 1e-6).contains(&column[0].hypot(column[1])));
        }
        assert!(m[4].abs() <= 3.0 && m[5].abs() <= 3.0);
        quarters[usize::from(m[0] > 0.0) * 2 + usize::from(m[2] > 0.0)] += 1;
    }
    // Binomial with p = ¼: a deviation of 43.
    assert!(
        quarters.iter().all(|q: &i32| (q - 2500).abs() < 5 * 43),
        "{quarters:?}"
    );
    for k in -180..=180 {
        let angle = f64::from(k).to_radians();
        let [s, c] = sin_cos(angle);
        assert!(
            (s - angle.sin()).abs() < 1e-6 && (c - angle.cos()).abs() < 1e-6,
            "{k}°"
        );
    }
}

#[test]
fn seeds_replicas_steps_and_examples_are_independent() {
    let all = Distortion {
        alpha: 34.0,
        ..Distortion::affine()
    };
    let of = |batch, place| {
        maps(
            Draw {
                distortion: all,
                batch,
                size: [28, 28],
                stream: streams::DISTORT,
            },
            place,
        )
    };
    let row = all.row([28, 28]);
    let base = of(100, [5, 0, 9]);
    let mut others = vec![of(100, [6, 0, 9]), of(100, [5, 1, 9]), of(100, [5, 0, 10])];
    others.push(base[row..].iter().chain(&base[..row]).copied().collect());
    for other in others {
        let (mut product, mut squares, mut count) = (0.0, 0.0, 0.0);
        for (a, b) in base.chunks(row).zip(other.chunks(row)) {
            assert!(a[..AFFINE].iter().zip(&b[..AFFINE]).all(|(a, b)| a != b));
            for (a, b) in a[AFFINE..].iter().zip(&b[AFFINE..]) {
                (product, squares, count) = (product + a * b, squares + a * a, count + 1.0);
            }
        }
        let correlation: f64 = product / squares;
        assert!(correlation.abs() < 5.0 / f64::sqrt(count), "{correlation}");
    }
    // An example's map does not depend on how many there are.
    assert_eq!(of(7, [5, 0, 9]), base[..7 * row]);
}

#[test]
fn limits_out_of_range_are_named() {
    let bad = |d: Distortion| d.check().unwrap_err().to_string();
    let none = Distortion::NONE;
    assert!(
        bad(Distortion {
            rotation: 181.0,
            ..none
        })
        .starts_with("distortion rotation: found 181")
    );
    assert!(bad(Distortion { scale: 1.0, ..none }).contains("scale"));
    assert!(
        bad(Distortion {
            shear: f64::NAN,
            ..none
        })
        .contains("shear")
    );
    assert!(
        bad(Distortion {
            shift: -1.0,
            ..none
        })
        .contains("shift")
    );
    assert!(
        bad(Distortion {
            alpha: f64::INFINITY,
            ..none
        })
        .contains("alpha")
    );
    assert!(bad(Distortion { sigma: 0.5, ..none }).contains("sigma"));
    assert!(
        Distortion::named("elastik")
            .unwrap_err()
            .to_string()
            .contains("elastic")
    );
    assert!(none.is_none() && !Distortion::affine().is_none() && !Distortion::elastic().is_none());
}
