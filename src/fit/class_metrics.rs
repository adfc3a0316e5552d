//! Metrics of scores against classes; each can leave out the places of one class.

use std::sync::Arc;

use super::classes::CrossEntropy;
use super::loss::{Criterion, over_example};
use super::measure::{Measure, one};
use crate::error::{Error, Result};
use crate::model::{Input, Scope};
use crate::ops::argmax::Argmax;
use crate::ops::pointwise::pointwise;
use crate::ops::reduction::{Kind, Reduction};
use crate::ops::{Tape, Value};
use crate::shape::DType;

/// Scores `[N, …, K]` as rows `[N …, K]` and classes `[N, …]` as `[N …]`.
fn rows(scope: &mut Scope<'_>, output: Value, target: Value) -> Result<(Value, Value, [usize; 3])> {
    let extents = scope.extents(output)?;
    let (n, k) = (extents[0], extents[extents.len() - 1]);
    let places: usize = extents[1..extents.len() - 1].iter().product();
    let scores = scope.reshape(output, &[n * places, k])?;
    let labels = scope.reshape(target, &[n * places])?;
    Ok((scores, labels, [n, places, k]))
}

/// Classes of scores `[N, …, K]`.
fn classes(name: &str, output: &Input) -> Result<Input> {
    match output.extents.split_last() {
        Some((_, places)) if output.dtype == DType::F32 => Ok(Input::u32(places)),
        _ => Err(Error::shape(
            name,
            format!("{output:?}"),
            "scores [N, …, K]",
        )),
    }
}

/// The sum of each example's places `[N, P]` and how many of them count, `[N, 2]`: those of a class do not.
fn counted(scope: &mut Scope<'_>, each: Value, labels: Value, ignored: u32) -> Result<Value> {
    let extents = [scope.extents(each)?, vec![1]].concat();
    let (each, labels) = (
        scope.reshape(each, &extents)?,
        scope.reshape(labels, &extents)?,
    );
    let which = scope.constant(&[2], vec![0.0, 1.0])?;
    let both = pointwise(scope, [each, labels, which], |[each, t, which]| {
        let own = which.equals(0.0).select(each, 1.0);
        t.equals(f64::from(ignored)).select(0.0, own)
    })?;
    scope.op1(Arc::new(Reduction::new(Kind::Sum, &[1])), &[both])
}

/// The mean of what [`counted`] makes, or of one number of each example.
fn mean(totals: &[f64], examples: usize) -> f64 {
    match *totals {
        [sum, count] => sum / count,
        _ => totals[0] / examples as f64,
    }
}

/// What all of them say of their classes: as many as the output has scores, but for the one in the field `ignored`.
macro_rules! of_classes {
    () => {
        fn classes(&self, output: &Input) -> Option<usize> {
            output.extents.last().copied()
        }

        fn ignored(&self) -> Option<u32> {
            self.ignored
        }

        fn ignoring(&self, class: u32) -> Option<Arc<dyn Measure>> {
            let mut own = self.clone();
            own.ignored = Some(class);
            Some(Arc::new(own))
        }
    };
}

#[derive(Clone, Debug)]
pub(super) struct Accuracy {
    pub(super) ignored: Option<u32>,
}

impl Measure for Accuracy {
    fn name(&self) -> &str {
        "accuracy"
    }

    fn target(&self, output: &Input) -> Result<Input> {
        classes("accuracy", output)
    }

    fn write(&self, scope: &mut Scope<'_>, output: Value, target: Value) -> Result<Value> {
        let (scores, labels, [n, places, _]) = rows(scope, output, target)?;
        let found = scope.op1(Arc::new(Argmax), &[scores])?;
        let right = pointwise(scope, [found, labels], |[a, b]| {
            a.equals(b).select(1.0, 0.0)
        })?;
        let right = scope.reshape(right, &[n, places])?;
        match self.ignored {
            Some(ignored) => counted(scope, right, labels, ignored),
            None => over_example(scope, right, true),
        }
    }

    fn finish(&self, totals: &[f64], examples: usize) -> Vec<(String, f64)> {
        one("accuracy", mean(totals, examples))
    }

    of_classes!();
}

#[derive(Clone, Debug)]
pub(super) struct Top {
    pub(super) ignored: Option<u32>,
    pub(super) k: usize,
    pub(super) name: String,
}

impl Measure for Top {
    fn name(&self) -> &str {
        &self.name
    }

    fn target(&self, output: &Input) -> Result<Input> {
        classes("top", output)
    }

    /// The class is among the k highest where fewer than k scores are above its own, or equal and
    /// before it.
    fn write(&self, scope: &mut Scope<'_>, output: Value, target: Value) -> Result<Value> {
        let (scores, labels, [n, places, k]) = rows(scope, output, target)?;
        let rows = n * places;
        let class = scope.constant(&[1, k], (0..k).map(|c| c as f32).collect())?;
        let labels = scope.reshape(labels, &[rows, 1])?;
        let own = pointwise(scope, [scores, labels, class], |[s, t, c]| {
            t.equals(c).select(s, 0.0)
        })?;
        let own = over_example(scope, own, false)?;
        let own = scope.reshape(own, &[rows, 1])?;
        let above = pointwise(scope, [scores, own, labels, class], |[s, own, t, c]| {
            let before = s.equals(&own).and(&c.lt(t));
            s.gt(own).or(&before).select(1.0, 0.0)
        })?;
        let above = over_example(scope, above, false)?;
        let most = self.k as f64;
        let within = pointwise(scope, [above], |[a]| a.lt(most).select(1.0, 0.0))?;
        let within = scope.reshape(within, &[n, places])?;
        match self.ignored {
            Some(ignored) => counted(scope, within, labels, ignored),
            None => over_example(scope, within, true),
        }
    }

    fn finish(&self, totals: &[f64], examples: usize) -> Vec<(String, f64)> {
        one(&self.name, mean(totals, examples))
    }

    of_classes!();
}

#[derive(Clone, Debug)]
pub(super) struct Confusion {
    pub(super) ignored: Option<u32>,
}

/// Most classes of a confusion matrix.
const MOST_CLASSES: usize = 256;

impl Measure for Confusion {
    fn name(&self) -> &str {
        "confusion"
    }

    fn target(&self, output: &Input) -> Result<Input> {
        match output.extents[..] {
            [k] if k <= MOST_CLASSES => classes("confusion", output),
            _ => {
                let wanted = format!("scores [N, K] of {MOST_CLASSES} classes at most");
                Err(Error::shape("confusion", format!("{output:?}"), wanted))
            }
        }
    }

    fn write(&self, scope: &mut Scope<'_>, output: Value, target: Value) -> Result<Value> {
        let (scores, labels, [n, _, k]) = rows(scope, output, target)?;
        let found = scope.op1(Arc::new(Argmax), &[scores])?;
        let ignored = self.ignored.map_or(-1.0, f64::from);
        let cell = pointwise(scope, [found, labels], |[y, t]| {
            t.equals(ignored).select(-1.0, &t * k as f64 + y)
        })?;
        let cell = scope.reshape(cell, &[n, 1])?;
        let cells = scope.constant(&[k * k], (0..k * k).map(|c| c as f32).collect())?;
        pointwise(scope, [cell, cells], |[a, b]| a.equals(b).select(1.0, 0.0))
    }

    fn finish(&self, totals: &[f64], _: usize) -> Vec<(String, f64)> {
        let k = (totals.len() as f64).sqrt() as usize;
        let at = |t: usize, y: usize| totals[t * k + y];
        let mut values = Vec::new();
        let mut means = [(0.0, 0); 3];
        for c in 0..k {
            let right = at(c, c);
            let there: f64 = (0..k).map(|y| at(c, y)).sum();
            let said: f64 = (0..k).map(|t| at(t, c)).sum();
            let share = |of: f64| if of > 0.0 { right / of } else { 0.0 };
            let f1 = if there + said > 0.0 {
                2.0 * right / (there + said)
            } else {
                0.0
            };
            let each = [
                ("precision", share(said)),
                ("recall", share(there)),
                ("f1", f1),
            ];
            for ((name, value), mean) in each.into_iter().zip(&mut means) {
                values.push((format!("{name} {c}"), value));
                if there > 0.0 {
                    *mean = (mean.0 + value, mean.1 + 1);
                }
            }
        }
        for (name, (sum, count)) in ["precision", "recall", "f1"].into_iter().zip(means) {
            values.push((name.into(), sum / f64::from(count.max(1))));
        }
        let cells = (0..k * k).map(|c| (format!("confusion {} {}", c / k, c % k), totals[c]));
        values.extend(cells);
        values
    }

    of_classes!();
}

#[derive(Clone, Debug)]
pub(super) struct Perplexity {
    pub(super) ignored: Option<u32>,
}

impl Measure for Perplexity {
    fn name(&self) -> &str {
        "perplexity"
    }

    fn target(&self, output: &Input) -> Result<Input> {
        classes("perplexity", output)
    }

    fn write(&self, scope: &mut Scope<'_>, output: Value, target: Value) -> Result<Value> {
        let cost = CrossEntropy {
            ignored: self.ignored,
            ..CrossEntropy::default()
        };
        let each = cost.write(scope, &[output], &[target])?;
        let Some(counts) = each.counts else {
            return Ok(each.sums);
        };
        let n = scope.extents(counts)?[0];
        let sums = scope.reshape(each.sums, &[n, 1])?;
        let counts = scope.reshape(counts, &[n, 1])?;
        let which = scope.constant(&[2], vec![0.0, 1.0])?;
        pointwise(scope, [sums, counts, which], |[sum, count, which]| {
            which.equals(0.0).select(sum, count)
        })
    }

    fn finish(&self, totals: &[f64], examples: usize) -> Vec<(String, f64)> {
        one("perplexity", mean(totals, examples).exp())
    }

    of_classes!();
}
