//! Losses of classes: cross-entropy, and the book's costs.

use std::sync::Arc;

use super::loss::{Criterion, Each, Floats, Loss, over_example};
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::model::{Input, Scope};
use crate::ops::log_softmax::LogSoftmax;
use crate::ops::pointwise::pointwise;
use crate::ops::reduction::{Kind, Reduction};
use crate::ops::{Cost, Loss as ClassLoss, Tape, Value, log_likelihood};
use crate::shape::DType;
use crate::tensor::{HELD, held};

impl Loss {
    /// −ln softmax(y)ₜ over the last axis of scores y `[N, …, K]`, for classes t `[N, …]`.
    pub fn cross_entropy() -> Self {
        Self::of_criterion(CrossEntropy::default())
    }

    /// A cost of scores y `[N, K]` and a class t `[N]` of each example, one of the book's or of your own:
    ///
    /// | cost | loss of an example |
    /// |---|---|
    /// | [`quadratic::COST`](crate::ops::quadratic::COST) | ½‖y − e‖², e the class's unit vector (Nielsen, equation 6) |
    /// | [`cross_entropy::COST`](crate::ops::cross_entropy::COST) | −Σ \[e ln σ(y) + (1 − e) ln(1 − σ(y))\], of scores before their sigmoids (63) |
    /// | [`log_likelihood::COST`](crate::ops::log_likelihood::COST) | −ln softmax(y)ₜ, which is [`Loss::cross_entropy`] (80) |
    ///
    /// Of one score the classes are 0 and 1.
    ///
    /// ```
    /// use wgrad::fit::Loss;
    /// use wgrad::ops::cross_entropy;
    ///
    /// assert_eq!(Loss::of_cost(&cross_entropy::COST).name(), "cross_entropy of each class");
    /// ```
    pub fn of_cost(cost: &'static Cost) -> Self {
        let name = format!("{} of each class", cost.name);
        Self::of_criterion(OfCost { cost, name })
    }
}

/// [`Loss::of_cost`].
#[derive(Debug)]
struct OfCost {
    cost: &'static Cost,
    name: String,
}

impl Criterion for OfCost {
    fn name(&self) -> &str {
        &self.name
    }

    fn targets(&self, outputs: &[Input]) -> Result<Vec<Input>> {
        match outputs {
            [Input { extents, dtype }] if *dtype == DType::F32 && extents.len() == 1 => {
                Ok(vec![Input::u32([])])
            }
            other => {
                let found = format!("{other:?}");
                Err(Error::shape(self.name.as_str(), found, "scores [N, K]"))
            }
        }
    }

    fn classes(&self, outputs: &[Input]) -> Option<usize> {
        let scores = outputs.first()?.extents.first()?;
        Some((*scores).max(2))
    }

    fn write(&self, scope: &mut Scope<'_>, outputs: &[Value], targets: &[Value]) -> Result<Each> {
        let loss = ClassLoss::of(self.cost);
        Ok(scope.op1(Arc::new(loss), &[outputs[0], targets[0]])?.into())
    }
}

/// Cross-entropy over classes, as PyTorch's: with smoothed labels, weights of classes, a class that
/// counts nothing. With ε for the smoothing and K classes, the label's share is 1 − ε + ε/K and every
/// other class's ε/K; the mini-batch's loss is divided by the weights of its labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// ε, 0 to below 1.
    pub smoothing: f64,
    /// What each class counts; none for 1 each.
    pub weights: Vec<f64>,
    /// The class that counts nothing, such as padding; it need not be one of the K.
    pub ignored: Option<u32>,
    /// Targets are probabilities of the classes, `[N, …, K]` floats whose sum over the last axis is 1 (to within
    /// 0.001), in place of one class each. As in
    /// PyTorch the loss of a place is then −Σ wₖ tₖ ln softmax(y)ₖ, their mean is divided by no weights,
    /// and no class is ignored.
    pub probabilities: bool,
}

impl CrossEntropy {
    fn scores(&self, outputs: &[Input]) -> Result<usize> {
        match outputs {
            [Input { extents, dtype }] if *dtype == DType::F32 && !extents.is_empty() => {
                Ok(extents[extents.len() - 1])
            }
            other => {
                let found = format!("{other:?}");
                Err(Error::shape("cross_entropy", found, "scores [N, …, K]"))
            }
        }
    }

    /// The loss `[N]` of each example whose targets are probabilities.
    fn of_probabilities(
        &self,
        scope: &mut Scope<'_>,
        scores: Value,
        targets: Value,
    ) -> Result<Each> {
        let extents = scope.extents(scores)?;
        let (n, k) = (extents[0], extents[extents.len() - 1]);
        let places: usize = extents[1..extents.len() - 1].iter().product();
        let scores = scope.reshape(scores, &[n * places, k])?;
        let targets = scope.reshape(targets, &[n * places, k])?;
        let logarithms = scope.op1(Arc::new(LogSoftmax { axis: 1 }), &[scores])?;
        let (own, share) = (1.0 - self.smoothing, self.smoothing / k as f64);
        let term = |x: Expr, t: Expr| x * (t * own + share);
        let each = match self.weights.as_slice() {
            [] => pointwise(scope, [logarithms, targets], |[x, t]| term(x, t))?,
            weights => {
                let weights = weights.iter().map(|&w| w as f32).collect();
                let weights = scope.constant(&[k], weights)?;
                pointwise(scope, [logarithms, targets, weights], |[x, t, w]| {
                    term(x, t) * w
                })?
            }
        };
        let sums = scope.op1(Arc::new(Reduction::new(Kind::Sum, &[1])), &[each])?;
        let loss = pointwise(scope, [sums], |[x]| -x)?;
        let loss = scope.reshape(loss, &[n, places])?;
        Ok(over_example(scope, loss, true)?.into())
    }

    fn check(&self, classes: usize) -> Result<()> {
        if let (true, Some(ignored)) = (self.probabilities, self.ignored) {
            let name = "ignored class of cross_entropy";
            return Err(Error::setting(
                name,
                ignored,
                "none, where targets are probabilities",
            ));
        }
        // The least share is that of the other classes.
        let smoothed = held(self.smoothing) && held(self.smoothing / classes as f64);
        if !((0.0..1.0).contains(&self.smoothing) && smoothed) {
            let name = "smoothing of cross_entropy";
            let wanted = "0 to below 1, as 32-bit floats have it";
            return Err(Error::setting(name, self.smoothing, wanted));
        }
        let ok = |w: &f64| *w >= 0.0 && held(*w);
        if !self.weights.is_empty()
            && (self.weights.len() != classes || !self.weights.iter().all(ok))
        {
            let found = format!("{:?}", self.weights);
            let wanted =
                format!("a number of 0 or more for each of {classes} classes, each {HELD}");
            return Err(Error::setting("weights of cross_entropy", found, wanted));
        }
        Ok(())
    }
}

impl Criterion for CrossEntropy {
    fn name(&self) -> &str {
        "cross_entropy"
    }

    fn targets(&self, outputs: &[Input]) -> Result<Vec<Input>> {
        self.check(self.scores(outputs)?)?;
        let extents = &outputs[0].extents;
        if self.probabilities {
            return Ok(vec![Input::f32(extents)]);
        }
        Ok(vec![Input::u32(&extents[..extents.len() - 1])])
    }

    fn classes(&self, outputs: &[Input]) -> Option<usize> {
        self.scores(outputs).ok().filter(|_| !self.probabilities)
    }

    fn ignored(&self) -> Option<u32> {
        self.ignored
    }

    fn uncounted(&self) -> Vec<u32> {
        let weights = self.weights.iter().enumerate();
        let weightless = weights.filter(|(_, weight)| **weight == 0.0);
        let weightless = weightless.map(|(class, _)| class as u32);
        self.ignored.into_iter().chain(weightless).collect()
    }

    fn floats(&self, _: &[Input]) -> Floats {
        match self.probabilities {
            true => Floats::Probabilities,
            false => Floats::Any,
        }
    }

    fn of_shares(&self) -> Option<Arc<dyn Criterion>> {
        // What counts nothing has no share that could be mixed.
        let shares = Self {
            probabilities: true,
            ..self.clone()
        };
        self.ignored.is_none().then(|| Arc::new(shares) as _)
    }

    fn write(&self, scope: &mut Scope<'_>, outputs: &[Value], targets: &[Value]) -> Result<Each> {
        if self.probabilities {
            return self.of_probabilities(scope, outputs[0], targets[0]);
        }
        let extents = scope.extents(outputs[0])?;
        let (n, k) = (extents[0], extents[extents.len() - 1]);
        let places: usize = extents[1..extents.len() - 1].iter().product();
        let rows = n * places;
        let scores = scope.reshape(outputs[0], &[rows, k])?;
        let labels = scope.reshape(targets[0], &[rows])?;
        // Of classes that weigh alike the loss itself knows smoothed targets.
        let smoothing = match self.weights.is_empty() {
            true => self.smoothing,
            false => 0.0,
        };
        let cost = ClassLoss {
            smoothing,
            ..ClassLoss::of(&log_likelihood::COST)
        };
        let mut loss = scope.op1(Arc::new(cost), &[scores, labels])?;
        let weights = match self.weights.as_slice() {
            [] => None,
            weights => {
                let values = weights.iter().map(|&w| w as f32).collect();
                Some(scope.constant(&[k], values)?)
            }
        };
        if let Some(w) = weights {
            loss = pointwise(scope, [loss, labels, w], |[l, t, _]| l * Expr::at(2, t))?;
            if self.smoothing > 0.0 {
                let all = scope.op1(Arc::new(LogSoftmax { axis: 1 }), &[scores])?;
                let all = pointwise(scope, [all, w], |[x, w]| x * w)?;
                let all = scope.op1(Arc::new(Reduction::new(Kind::Sum, &[1])), &[all])?;
                let (own, share) = (1.0 - self.smoothing, self.smoothing / k as f64);
                loss = pointwise(scope, [loss, all], |[l, all]| l * own - all * share)?;
            }
        }
        let mut counts = None;
        if weights.is_some() || self.ignored.is_some() {
            let ignored = self.ignored.map_or(-1.0, f64::from);
            let one = |t: &Expr, w: Expr| t.equals(ignored).select(0.0, w);
            let count = match weights {
                Some(w) => pointwise(scope, [labels, w], |[t, _]| one(&t, Expr::at(1, &t)))?,
                None => pointwise(scope, [labels], |[t]| one(&t, Expr::constant(1.0)))?,
            };
            if self.ignored.is_some() {
                loss = pointwise(scope, [loss, labels], |[l, t]| {
                    t.equals(ignored).select(0.0, l)
                })?;
            }
            let count = scope.reshape(count, &[n, places])?;
            counts = Some(over_example(scope, count, false)?);
        }
        // Of one place an example there is nothing to take a mean of.
        let sums = match extents.len() {
            2 => loss,
            _ => {
                let loss = scope.reshape(loss, &[n, places])?;
                over_example(scope, loss, counts.is_none())?
            }
        };
        Ok(Each { sums, counts })
    }
}
