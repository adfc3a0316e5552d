//! A core and its ending as one op.

use std::sync::Arc;

use super::{Ended, Ending, finished};
use crate::error::{Error, Result};
use crate::ops::pointwise::Pointwise;
use crate::ops::{Lowered, Lowering, Op, Operand};
use crate::shape::Type;

/// An op that hands the elements of its output 0 over ([`Op::port`]), the core, with an expression of
/// them at its end.
///
/// Inputs are the core's, then those that the expression asks for after the element; outputs the
/// expression's new ones, then the core's after its first.
#[derive(Clone, Debug)]
pub struct WithEnding {
    core: Arc<dyn Op>,
    ending: Ending,
}

impl WithEnding {
    /// The core with an expression of its element, input 0.
    ///
    /// # Errors
    /// [`Error::Setting`] for an op that hands nothing over, or binds too much to have this ending.
    pub fn new(core: impl Op, expression: Pointwise) -> Result<Self> {
        let name = core.name();
        Self::of(&(Arc::new(core) as Arc<dyn Op>), &Ending::new(expression)).ok_or_else(|| {
            let wanted = "an op with a port, and no more bindings than every adapter has";
            Error::setting("core of an ending", name, wanted)
        })
    }

    /// The same where the core can have the ending.
    pub(crate) fn of(core: &Arc<dyn Op>, ending: &Ending) -> Option<Self> {
        let ending = ending.beside(core.port()?)?;
        let core = core.clone();
        Some(Self { core, ending })
    }

    /// The op without its ending.
    pub fn core(&self) -> &Arc<dyn Op> {
        &self.core
    }

    /// The core's inputs and those of the ending.
    fn split<'a>(&self, inputs: &'a [Type]) -> Result<(&'a [Type], &'a [Type])> {
        let own = inputs.len().checked_sub(self.ending.inputs());
        let own = own.ok_or_else(|| {
            let wanted = format!("its own and {} of the expression", self.ending.inputs());
            Error::shape(self.core.name(), format!("{} inputs", inputs.len()), wanted)
        })?;
        Ok(inputs.split_at(own))
    }

    /// Gives the core's outputs after its first the numbers that they have behind the ending's.
    fn number(&self, lowered: &mut Lowered) {
        for operand in &mut lowered.operands {
            if let Operand::Out(further @ 1..) = operand {
                *further = *further - 1 + self.ending.outputs();
            }
        }
    }
}

impl Op for WithEnding {
    fn name(&self) -> &'static str {
        self.core.name()
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let (own, rest) = self.split(inputs)?;
        let made = self.core.infer(own)?;
        let [element, further @ ..] = &made[..] else {
            return Err(Error::shape(self.name(), "no output", "elements to end"));
        };
        Ok([&self.ending.infer(element, rest)?, further].concat())
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let (own, _) = self.split(inputs)?;
        let made = self.core.infer(own)?;
        let ends = Ended::only(Some(&self.ending), own.len(), made[0].shape.extents());
        // The launch that makes the elements.
        let ended = |mut lowered: Lowered| {
            let port = lowered.kernel.ports.first();
            let stored = port.and_then(|port| lowered.operands.get(port.binding));
            if stored != Some(&Operand::Out(0)) {
                let found = format!("{} without a port at output 0", lowered.kernel.name);
                return Err(Error::shape(self.name(), found, "what `Op::port` says"));
            }
            self.number(&mut lowered);
            finished(lowered, &ends, inputs)
        };
        match self.core.lower(own, &made)? {
            Lowering::Launch(lowered) => Ok(Lowering::Launch(ended(lowered)?)),
            Lowering::Stages(mut stages) if !stages.launches.is_empty() => {
                let last = stages.launches.split_off(stages.launches.len() - 1);
                stages.launches.iter_mut().for_each(|l| self.number(l));
                for lowered in last {
                    stages.launches.push(ended(lowered)?);
                }
                Ok(Lowering::Stages(stages))
            }
            _ => Err(Error::shape(self.name(), "a view", "elements to end")),
        }
    }

    fn ending(&self) -> Option<&Ending> {
        Some(&self.ending)
    }

    fn with_ending(&self, ending: &Ending) -> Option<Arc<dyn Op>> {
        Some(Arc::new(Self::of(&self.core, ending)?))
    }
}
