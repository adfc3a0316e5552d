//! Metrics: numbers about examples that are added up on the device and read once an epoch.

use std::fmt;
use std::sync::Arc;

use super::class_metrics::{Accuracy, Confusion, Perplexity, Top};
use super::loss::over_example;
use super::measure::{Measure, one};
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::model::{Input, Scope};
use crate::ops::pointwise::pointwise;
use crate::ops::reduction::{Kind, Reduction};
use crate::ops::{Tape, Value};

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
        Self::new(Accuracy { ignored: None })
    }

    /// The share of places whose class is among the k highest scores.
    pub fn top(k: usize) -> Self {
        Self::new(Top {
            ignored: None,
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

    /// 1 − Σ (y − t)² / Σ (t − mean t)² over all elements; not a number where targets are all the same, as of one row.
    /// Totals are floats of 32 bits, so they are taken about the first target, and targets far from 0 keep their digits.
    pub fn r2() -> Self {
        Self::new(R2 { centre: None })
    }

    /// [`Metric::r2`] with totals about this number.
    pub fn r2_about(centre: f64) -> Self {
        let centre = Some(centre);
        Self::new(R2 { centre })
    }

    /// How often class t was taken for class y, row by row, as `confusion t y`; and of each class
    /// `precision`, `recall` and `f1`, with their means over the classes that occur.
    pub fn confusion() -> Self {
        Self::new(Confusion { ignored: None })
    }

    /// The area under the receiver's curve of scores y `[N, 1]` against targets 0 and 1, by a histogram of 512 bins that
    /// are finest about 0: a hundredth wide there, a twenty-fourth of |y| far from it, up to 10⁴.
    pub fn auc() -> Self {
        Self::new(Auc)
    }

    /// e to the mean cross-entropy of each place.
    pub fn perplexity() -> Self {
        Self::new(Perplexity { ignored: None })
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

    /// The same over all places but those whose target is this class, such as what fills up sentences; of a
    /// metric whose targets are no classes, the metric itself. [`Fit`](super::Fit) takes over the class that the
    /// loss against the same column ignores ([`CrossEntropy::ignored`](super::CrossEntropy::ignored)).
    #[must_use]
    pub fn ignoring(self, class: u32) -> Self {
        let measure = self.measure.ignoring(class);
        Self {
            measure: measure.unwrap_or(self.measure),
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

/// The spread of targets as a share of Σ (t − c)² below which it may be nothing but rounding of 32-bit floats.
const SPREAD: f64 = 4e-6;

#[derive(Debug)]
struct R2 {
    /// What totals are taken about; the first target if it is not said.
    centre: Option<f64>,
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
        let centre = self.centre.unwrap_or(0.0);
        let each = pointwise(scope, [y, t, which], |[y, t, which]| {
            let off = &t - centre;
            let other = which.lt(1.5).select(&off, off.square());
            which.lt(0.5).select((y - &t).square(), other)
        })?;
        scope.op1(Arc::new(Reduction::new(Kind::Mean, &[1])), &[each])
    }

    fn about(&self, target: f64) -> Option<Arc<dyn Measure>> {
        let about = Self {
            centre: Some(target),
        };
        match self.centre {
            None => Some(Arc::new(about)),
            Some(_) => None,
        }
    }

    fn finish(&self, totals: &[f64], examples: usize) -> Vec<(String, f64)> {
        let spread = totals[2] - totals[1] * totals[1] / examples as f64;
        let value = match spread > totals[2] * SPREAD {
            true => 1.0 - totals[0] / spread,
            false => f64::NAN,
        };
        one("r2", value)
    }
}

#[derive(Debug)]
struct Auc;

/// Bins of the histogram.
const BINS: usize = 512;
/// The score beyond which all are in the last bin, and how many times finer than 1 bins begin to be alike.
const FARTHEST: f64 = 1e4;
const FINE: f64 = 4.0;

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
            // ±log(1 + 4 |y|), from −1 to 1 at the farthest scores.
            let far = (y.abs() * FINE).log1p() * (1.0 / (FARTHEST * FINE).ln_1p());
            let place = y.lt(0.0).select(-&far, &far);
            let own = ((place + 1.0) * (BINS / 2) as f64).floor();
            let own = own.clamp(0.0, last);
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
