//! How parameters start. They are drawn once, on the host, from the seed, the replica and the
//! parameter's number: the same bits whatever device trains.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ops::init::Distribution;
use crate::rng::{Stream, normal_pair, streams, uniform};
use crate::tensor::held;

/// What a parameter is drawn from. The connections into a unit, n_in, and out of it, n_out, are the
/// layer's: of a convolution n_in = (C_in / groups) K_h K_w.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initializer {
    /// The same number everywhere.
    Constant(f64),
    /// Uniform within ± this limit.
    Uniform(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// [`Initializer::Normal`] drawn again beyond two standard deviations.
    TruncatedNormal(f64),
    /// Uniform within ±1/√n_in: PyTorch's start of linear and convolutional layers, He's uniform
    /// scheme with its `a=sqrt(5)`.
    FanIn,
    /// Normal with variance 1/n_in (LeCun et al. 1998; Nielsen, chapter 3).
    LecunNormal,
    /// Uniform within ±√(6/(n_in + n_out)) (Glorot and Bengio 2010).
    GlorotUniform,
    /// Normal with variance 2/(n_in + n_out).
    GlorotNormal,
    /// Uniform within ±√(6/n_in) (He et al. 2015).
    HeUniform,
    /// Normal with variance 2/n_in.
    HeNormal,
    /// Rows (or, where there are more rows than columns, columns) that are orthogonal and of length 1,
    /// times this gain (Saxe et al. 2014); rows run along the first axis.
    Orthogonal(f64),
}

/// A parameter's start: what it is drawn from, and the connections of the units it belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Start {
    /// What is drawn from.
    pub initializer: Initializer,
    /// n_in and n_out.
    pub fans: [usize; 2],
}

impl Start {
    /// All elements the same.
    pub fn constant(value: f64) -> Self {
        Initializer::Constant(value).with_fans(1, 1)
    }
}

impl Initializer {
    /// The start of a parameter whose units have so many connections.
    pub fn with_fans(self, fan_in: usize, fan_out: usize) -> Start {
        Start {
            initializer: self,
            fans: [fan_in, fan_out],
        }
    }
}

impl Start {
    /// Holds the numbers to what they may be.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number that 32-bit floats do not have, or a negative width.
    pub fn check(&self) -> Result<()> {
        let (name, value, least) = match self.initializer {
            Initializer::Constant(x) => ("constant start", x, f64::NEG_INFINITY),
            Initializer::Uniform(x) => ("limit of a uniform start", x, 0.0),
            Initializer::Normal(x) | Initializer::TruncatedNormal(x) => {
                ("standard deviation of a start", x, 0.0)
            }
            Initializer::Orthogonal(x) => ("gain of an orthogonal start", x, f64::NEG_INFINITY),
            _ => return Ok(()),
        };
        if held(value) && value >= least {
            return Ok(());
        }
        let wanted =
            "a number that 32-bit floats have, finite and 0 only if it is 0; a width of 0 or more";
        Err(Error::setting(name, value, wanted))
    }

    /// The values of a parameter `extents` for one replica; `number` tells parameters apart.
    pub(crate) fn draw(&self, extents: &[usize], seed: u64, replica: u32, number: u32) -> Vec<f32> {
        let n: usize = extents.iter().product();
        let stream = Stream {
            seed: crate::rng::key(seed),
            replica,
            stream: streams::INIT + number,
        };
        match self.drawn() {
            Drawn::From(Distribution::Constant { value }) => vec![value as f32; n],
            Drawn::From(Distribution::Uniform { limit }) => uniforms(&stream, n, limit),
            Drawn::From(Distribution::Normal { std }) => normals(&stream, n, std),
            Drawn::Truncated { std } => truncated(&stream, n, std),
            Drawn::Orthogonal { gain } => {
                let rows = extents.first().copied().unwrap_or(1).max(1);
                orthogonal(normals(&stream, n, 1.0), [rows, n / rows], gain)
            }
        }
    }

    /// What each element is drawn from by itself, if it is.
    pub fn distribution(&self) -> Option<Distribution> {
        match self.drawn() {
            Drawn::From(distribution) => Some(distribution),
            _ => None,
        }
    }

    fn drawn(&self) -> Drawn {
        let [fan_in, fan_out] = self.fans.map(|fan| fan.max(1) as f64);
        let normal = |variance: f64| {
            Drawn::From(Distribution::Normal {
                std: variance.sqrt(),
            })
        };
        let uniform = |limit| Drawn::From(Distribution::Uniform { limit });
        match self.initializer {
            Initializer::Constant(value) => Drawn::From(Distribution::Constant { value }),
            Initializer::Uniform(limit) => uniform(limit),
            Initializer::Normal(std) => Drawn::From(Distribution::Normal { std }),
            Initializer::TruncatedNormal(std) => Drawn::Truncated { std },
            Initializer::FanIn => uniform(1.0 / fan_in.sqrt()),
            Initializer::LecunNormal => normal(1.0 / fan_in),
            Initializer::GlorotUniform => uniform((6.0 / (fan_in + fan_out)).sqrt()),
            Initializer::GlorotNormal => normal(2.0 / (fan_in + fan_out)),
            Initializer::HeUniform => uniform((6.0 / fan_in).sqrt()),
            Initializer::HeNormal => normal(2.0 / fan_in),
            Initializer::Orthogonal(gain) => Drawn::Orthogonal { gain },
        }
    }
}

/// How a start's elements come about.
enum Drawn {
    /// Each by itself.
    From(Distribution),
    /// Each by itself, again beyond two standard deviations.
    Truncated { std: f64 },
    /// All together.
    Orthogonal { gain: f64 },
}

fn uniforms(stream: &Stream, n: usize, limit: f64) -> Vec<f32> {
    let blocks = (0..n.div_ceil(4)).flat_map(|i| stream.words(0, i as u32));
    let values = blocks.map(|word| ((2.0 * f64::from(uniform(word)) - 1.0) * limit) as f32);
    values.take(n).collect()
}

fn normals(stream: &Stream, n: usize, std: f64) -> Vec<f32> {
    let pairs = (0..n.div_ceil(4)).flat_map(|i| {
        let [a, b, c, d] = stream.words(0, i as u32);
        [normal_pair(a, b), normal_pair(c, d)]
    });
    let values = pairs.flatten().map(|x| (f64::from(x) * std) as f32);
    values.take(n).collect()
}

/// An element beyond two standard deviations is drawn again at the next step of its stream: one in
/// twenty is, so sixteen draws leave none of 10²⁰.
fn truncated(stream: &Stream, n: usize, std: f64) -> Vec<f32> {
    let draw = |i: usize| {
        let tries = (0..16).map(|step| {
            let [a, b, ..] = stream.words(step, i as u32);
            normal_pair(a, b)[0]
        });
        let within = tries.clone().find(|x| x.abs() <= 2.0);
        within.unwrap_or(0.0)
    };
    (0..n).map(|i| (f64::from(draw(i)) * std) as f32).collect()
}

/// The shorter side's vectors made orthonormal by Gram and Schmidt, each twice over, in f64.
fn orthogonal(values: Vec<f32>, [rows, columns]: [usize; 2], gain: f64) -> Vec<f32> {
    let (count, length) = (rows.min(columns), rows.max(columns));
    let at = |vector: usize, k: usize| match rows <= columns {
        true => vector * columns + k,
        false => k * columns + vector,
    };
    let mut vectors: Vec<Vec<f64>> = (0..count)
        .map(|v| (0..length).map(|k| f64::from(values[at(v, k)])).collect())
        .collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for v in 0..count {
        let (done, rest) = vectors.split_at_mut(v);
        let vector = &mut rest[0];
        for _ in 0..2 {
            for other in done.iter() {
                let share = dot(other, vector);
                vector
                    .iter_mut()
                    .zip(other)
                    .for_each(|(x, o)| *x -= share * o);
            }
        }
        let norm = dot(vector, vector).sqrt().max(f64::MIN_POSITIVE);
        vector.iter_mut().for_each(|x| *x /= norm);
    }
    let mut result = values;
    for (v, vector) in vectors.iter().enumerate() {
        for (k, x) in vector.iter().enumerate() {
            result[at(v, k)] = (x * gain) as f32;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(initializer: Initializer, fans: [usize; 2]) -> (f64, f64, f64) {
        let start = initializer.with_fans(fans[0], fans[1]);
        let values = start.draw(&[200, 300], 3, 1, 7);
        let n = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let square = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n;
        let most = values
            .iter()
            .fold(0.0f64, |m, &x| m.max(f64::from(x.abs())));
        (mean, square, most)
    }

    #[test]
    fn moments_are_those_of_the_scheme() {
        // Sixty thousand draws: the mean within five of its standard deviations.
        let close = |initializer, fans, variance: f64, limit: f64| {
            let (mean, square, most) = moments(initializer, fans);
            assert!(
                mean.abs() < 5.0 * (variance / 6e4).sqrt(),
                "{initializer:?} mean {mean}"
            );
            assert!(
                (square / variance - 1.0).abs() < 0.03,
                "{initializer:?} {square}"
            );
            assert!(most <= limit, "{initializer:?} {most}");
        };
        let free = f64::INFINITY;
        close(Initializer::Uniform(0.3), [1, 1], 0.03, 0.3);
        close(Initializer::Normal(0.5), [1, 1], 0.25, free);
        close(
            Initializer::TruncatedNormal(0.5),
            [1, 1],
            0.25 * 0.7737,
            1.0,
        );
        close(
            Initializer::FanIn,
            [50, 1],
            1.0 / 150.0,
            (1.0f64 / 50.0).sqrt(),
        );
        close(Initializer::LecunNormal, [50, 30], 1.0 / 50.0, free);
        close(Initializer::GlorotUniform, [50, 30], 2.0 / 80.0, free);
        close(Initializer::GlorotNormal, [50, 30], 2.0 / 80.0, free);
        close(Initializer::HeUniform, [50, 30], 2.0 / 50.0, free);
        close(Initializer::HeNormal, [50, 30], 2.0 / 50.0, free);
    }

    #[test]
    fn orthogonal_vectors_are_orthonormal_times_the_gain() {
        for [rows, columns] in [[3, 7], [7, 3], [4, 4], [1, 5]] {
            let start = Initializer::Orthogonal(2.0).with_fans(1, 1);
            let w = start.draw(&[rows, columns], 5, 0, 0);
            let (count, along) = (rows.min(columns), rows.max(columns));
            let at = |v: usize, k: usize| match rows <= columns {
                true => w[v * columns + k],
                false => w[k * columns + v],
            };
            for a in 0..count {
                for b in 0..count {
                    let dot: f32 = (0..along).map(|k| at(a, k) * at(b, k)).sum();
                    let wanted = if a == b { 4.0 } else { 0.0 };
                    assert!((dot - wanted).abs() < 1e-5, "{rows}x{columns}: {dot}");
                }
            }
        }
    }

    #[test]
    fn seed_replica_and_number_each_change_the_draw() {
        let start = Initializer::Normal(1.0).with_fans(1, 1);
        let draw = |seed, replica, number| start.draw(&[8], seed, replica, number);
        assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
        for other in [draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4)] {
            assert_ne!(draw(1, 2, 3), other);
        }
    }
}
