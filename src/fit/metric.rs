//! Metrics: numbers about examples that are added up on the device and read once an epoch.

use std::fmt;
use std::sync::Arc;

use super::cross_entropy::CrossEntropy;
use super::loss::{Criterion, over_example};
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::model::{Input, Scope};
use crate::ops::argmax::Argmax;
use crate::ops::pointwise::pointwise;
use crate::ops::reduction::{Kind, Reduction};
use crate::ops::{Tape, Value};
use crate::shape::DType;

/// What a metric does: it writes some numbers of each example, which are added up over all examples,
/// each exactly once, and makes its value of the totals.
pub trait Measure: fmt::Debug + Send + Sync {
    /// Its name in reports.
    fn name(&self) -> &str;

    /// Writes the numbers of each example, `[N]` or `[N, S]`, of an output and its target.
    ///
    /// # Errors
    /// What the shape rules say.
    fn write(&self, scope: &mut Scope<'_>, output: Value, target: Value) -> Result<Value>;

    /// The values of the metric with their names, from the totals over so many examples. Most have one,
    /// of their own name.
    fn finish(&self, totals: &[f64], examples: usize) -> Vec<(String, f64)>;

    /// What one example of the target is, given that of the output.
    ///
    /// # Errors
    /// [`Error::Shape`] for an output that it cannot work with.
    fn target(&self, output: &Input) -> Result<Input> {
        Ok(output.clone())
    }
}

/// A metric of one of a model's outputs against a column.
#[derive(Clone, Debug)]
pub struct Metric {
    measure: Arc<dyn Measure>,
    name: Option<String>,
    output: Option<String>,
    target: Option<String>,
}

impl Metric {
    /// A metric of the model's first output against the column `target`.
    pub fn new(measure: impl Measure + 'static) -> Self {
        Self {
            measure: Arc::new(measure),
            name: None,
            output: None,
            target: None,
        }
    }

    /// The mean over all examples of a mean over each example's elements.
    pub fn each(
        name: &str,
        expression: impl Fn(&Expr, &Expr) -> Expr + Send + Sync + 'static,
    ) -> Self {
        Self::new(Mean {
            name: name.into(),
            expression: Arc::new(expression),
            root: false,
        })
    }

    /// The share of places whose highest score is that of their class, 0 to 1; of equal scores the
    /// first counts.
    pub fn accuracy() -> Self {
        Self::new(Accuracy)
    }

    /// The share of places whose class is among the k highest scores.
    pub fn top(k: usize) -> Self {
        Self::new(Top {
            k,
            name: format!("top {k}"),
        })
    }

    /// The share of elements whose score and target are on the same side: score above 0, target ½ or
    /// more.
    pub fn binary_accuracy() -> Self {
        Self::each("accuracy", |y, t| {
            let positive = t.ge(0.5).select(1.0, 0.0);
            y.gt(0.0).select(&positive, 1.0 - &positive)
        })
    }

    /// The mean of |y − t|.
    pub fn mae() -> Self {
        Self::each("mae", |y, t| (y - t).abs())
    }

    /// The mean of (y − t)².
    pub fn mse() -> Self {
        Self::each("mse", |y, t| (y - t).square())
    }

    /// The root of [`Metric::mse`].
    pub fn rmse() -> Self {
        Self::new(Mean {
            name: "rmse".into(),
            expression: Arc::new(|y, t| (y - t).square()),
            root: true,
        })
    }

    /// 1 − Σ (y − t)² / Σ (t − mean t)² over all elements. Totals are floats of 32 bits: of targets far
    /// from 0 beside their spread, [`Metric::r2_about`] keeps the digits.
    pub fn r2() -> Self {
        Self::r2_about(0.0)
    }

    /// [`Metric::r2`], the targets' mean taken about a number near it.
    pub fn r2_about(centre: f64) -> Self {
        Self::new(R2 { centre })
    }

    /// How often class t was taken for class y, row by row, as `confusion t y`; and of each class
    /// `precision`, `recall` and `f1`, with their means over the classes that occur.
    pub fn confusion() -> Self {
        Self::new(Confusion)
    }

    /// The area under the receiver's curve of scores y `[N, 1]` against targets 0 and 1, by a histogram
    /// of 1/(1 + e⁻ʸ) with 512 bins.
    pub fn auc() -> Self {
        Self::new(Auc)
    }

    /// e to the mean cross-entropy of each place.
    pub fn perplexity() -> Self {
        Self::new(Perplexity)
    }

    /// The same of another output.
    #[must_use]
    pub fn of(self, output: &str) -> Self {
        Self {
            output: Some(output.into()),
            ..self
        }
    }

    /// The same against another column.
    #[must_use]
    pub fn against(self, target: &str) -> Self {
        Self {
            target: Some(target.into()),
            ..self
        }
    }

    /// The same by another name, where several metrics of a run would have one name: of a metric with
    /// several values, that name stands before theirs.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self {
            name: Some(name.into()),
            ..self
        }
    }

    /// Its name in reports.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.measure.name())
    }

    /// Its values by their names in reports.
    pub(crate) fn finish(&self, totals: &[f64], examples: usize) -> Vec<(String, f64)> {
        let values = self.measure.finish(totals, examples);
        let Some(own) = &self.name else { return values };
        let one = values.len() == 1;
        let named = |(name, value): (String, f64)| match one {
            true => (own.clone(), value),
            false => (format!("{own} {name}"), value),
        };
        values.into_iter().map(named).collect()
    }

    pub(crate) fn measure(&self) -> &dyn Measure {
        self.measure.as_ref()
    }

    pub(crate) fn output(&self) -> Option<&str> {
        self.output.as_deref()
    }

    pub(crate) fn target(&self) -> &str {
        self.target.as_deref().unwrap_or("target")
    }
}

fn one(name: &str, value: f64) -> Vec<(String, f64)> {
    vec![(name.into(), value)]
}

type Expression = Arc<dyn Fn(&Expr, &Expr) -> Expr + Send + Sync>;

struct Mean {
    name: String,
    expression: Expression,
    root: bool,
}

impl fmt::Debug for Mean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Measure for Mean {
    fn name(&self) -> &str {
        &self.name
    }

    fn write(&self, scope: &mut Scope<'_>, output: Value, target: Value) -> Result<Value> {
        let each = pointwise(scope, [output, target], |[y, t]| (self.expression)(&y, &t))?;
        over_example(scope, each, true)
    }

    fn finish(&self, totals: &[f64], examples: usize) -> Vec<(String, f64)> {
        let mean = totals[0] / examples as f64;
        one(&self.name, if self.root { mean.sqrt() } else { mean })
    }
}

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

#[derive(Debug)]
struct Accuracy;

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
        over_example(scope, right, true)
    }

    fn finish(&self, totals: &[f64], examples: usize) -> Vec<(String, f64)> {
        one("accuracy", totals[0] / examples as f64)
    }
}

#[derive(Debug)]
struct Top {
    k: usize,
    name: String,
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
        over_example(scope, within, true)
    }

    fn finish(&self, totals: &[f64], examples: usize) -> Vec<(String, f64)> {
        one(&self.name, totals[0] / examples as f64)
    }
}

#[derive(Debug)]
struct R2 {
    centre: f64,
}

impl Measure for R2 {
    fn name(&self) -> &str {
        "r2"
    }

    /// Σ (y − t)², Σ (t − c) and Σ (t − c)² of each example's elements, as means.
    fn write(&self, scope: &mut Scope<'_>, output: Value, target: Value) -> Result<Value> {
        let extents = scope.extents(output)?;
        let (n, rest) = (extents[0], extents[1..].iter().product::<usize>());
        let y = scope.reshape(output, &[n, rest, 1])?;
        let t = scope.reshape(target, &[n, rest, 1])?;
        let which = scope.constant(&[3], vec![0.0, 1.0, 2.0])?;
        let each = pointwise(scope, [y, t, which], |[y, t, which]| {
            let off = &t - self.centre;
            let other = which.lt(1.5).select(&off, off.square());
            which.lt(0.5).select((y - &t).square(), other)
        })?;
        scope.op1(Arc::new(Reduction::new(Kind::Mean, &[1])), &[each])
    }

    fn finish(&self, totals: &[f64], examples: usize) -> Vec<(String, f64)> {
        let spread = totals[2] - totals[1] * totals[1] / examples as f64;
        one("r2", 1.0 - totals[0] / spread)
    }
}

#[derive(Debug)]
struct Confusion;

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
        let cell = pointwise(scope, [found, labels], |[y, t]| t * k as f64 + y)?;
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
}

#[derive(Debug)]
struct Auc;

/// Bins of the histogram.
const BINS: usize = 512;

impl Measure for Auc {
    fn name(&self) -> &str {
        "auc"
    }

    fn target(&self, output: &Input) -> Result<Input> {
        match output.extents.iter().product::<usize>() {
            1 => Ok(output.clone()),
            _ => Err(Error::shape(
                "auc",
                format!("{output:?}"),
                "one score, [N, 1]",
            )),
        }
    }

    /// One in the example's bin: those of the negative first, then those of the positive.
    fn write(&self, scope: &mut Scope<'_>, output: Value, target: Value) -> Result<Value> {
        let n = scope.extents(output)?[0];
        let y = scope.reshape(output, &[n, 1])?;
        let t = scope.reshape(target, &[n, 1])?;
        let bins = scope.constant(&[2 * BINS], (0..2 * BINS).map(|b| b as f32).collect())?;
        let last = (BINS - 1) as f64;
        pointwise(scope, [y, t, bins], |[y, t, bin]| {
            let own = (y.sigmoid() * BINS as f64).floor().min(last);
            let own = t.ge(0.5).select(&own + BINS as f64, &own);
            own.equals(bin).select(1.0, 0.0)
        })
    }

    fn finish(&self, totals: &[f64], _: usize) -> Vec<(String, f64)> {
        let (negative, positive) = totals.split_at(BINS);
        let (mut below, mut pairs) = (0.0, 0.0);
        for (n, p) in negative.iter().zip(positive) {
            pairs += p * (below + 0.5 * n);
            below += n;
        }
        let all = below * positive.iter().sum::<f64>();
        one("auc", pairs / all)
    }
}

#[derive(Debug)]
struct Perplexity;

impl Measure for Perplexity {
    fn name(&self) -> &str {
        "perplexity"
    }

    fn target(&self, output: &Input) -> Result<Input> {
        classes("perplexity", output)
    }

    fn write(&self, scope: &mut Scope<'_>, output: Value, target: Value) -> Result<Value> {
        let each = CrossEntropy::default().write(scope, &[output], &[target])?;
        Ok(each.sums)
    }

    fn finish(&self, totals: &[f64], examples: usize) -> Vec<(String, f64)> {
        one("perplexity", (totals[0] / examples as f64).exp())
    }
}
