//! Mixed examples in a training step.

use std::collections::HashMap;

use super::{Setup, Wanted};
use crate::error::{Error, Result};
use crate::fit::mixup::{self, Mixup, of_shares};
use crate::model::Scope;
use crate::ops::Value;
use crate::shape::DType;

impl Setup<'_> {
    /// Mixes the examples of a mini-batch and their targets.
    pub(super) fn mix(
        &self,
        scope: &mut Scope<'_>,
        alpha: f64,
        inputs: &mut [Value],
        targets: &mut HashMap<String, Value>,
        wanted: &Wanted,
    ) -> Result<()> {
        let Some(mixup) = Mixup::drawn(scope, alpha, self.batch)? else {
            return Ok(());
        };
        for input in inputs {
            *input = mixup.floats(scope, *input)?;
        }
        let mut mixed = HashMap::new();
        for (term, of_term) in self.loss.terms().iter().zip(&wanted.targets) {
            for (name, example) in of_term {
                let plain = targets[name];
                let value = match (example.dtype, term.classes(self.model)?) {
                    (DType::U32, Some(classes)) => mixup.classes(scope, plain, classes)?,
                    _ => mixup.floats(scope, plain)?,
                };
                mixed.insert(name.clone(), value);
            }
        }
        targets.extend(mixed);
        Ok(())
    }

    /// Holds model and loss to what can be mixed.
    pub(super) fn can_mix(&self, wanted: &Wanted) -> Result<()> {
        let Some(alpha) = self.mixup else {
            return Ok(());
        };
        mixup::check(alpha)?;
        if self.batch < 2 {
            let wanted = "at least 2, of which one is mixed with another";
            return Err(Error::setting("mini-batch of mixup", self.batch, wanted));
        }
        if let Some((name, _)) = wanted.inputs.iter().find(|(_, i)| i.dtype == DType::U32) {
            let found = format!("integers in input {name}");
            return Err(Error::setting("mixup", found, "inputs of floats"));
        }
        let mut classes: HashMap<&str, usize> = HashMap::new();
        for (term, targets) in self.loss.terms().iter().zip(&wanted.targets) {
            for (name, _) in targets {
                let Some(own) = term.classes(self.model)? else {
                    continue;
                };
                let other = *classes.entry(name).or_insert(own);
                if other != own {
                    let found =
                        format!("losses of {other} and of {own} classes against column {name}");
                    let wanted = "as many classes in all losses against a column, whose mixed examples they share";
                    return Err(Error::setting("mixup", found, wanted));
                }
            }
            if targets.iter().any(|(_, target)| target.dtype == DType::U32) {
                of_shares(&term.criterion)?;
            }
        }
        Ok(())
    }
}
