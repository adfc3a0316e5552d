//! Endings: expressions at the end of other kernels. A core (a product, a convolution, a sum) hands
//! each element that it has finished to a function of its ports ([`crate::kernel::Port`]); an ending
//! is that function, with bindings of its own, on the GPU and on the CPU.
//!
//! So a bias, an activation, a slope, a mask or the update of a parameter by its gradient costs no
//! launch, and no core knows of any of them.

use super::blueprint::{Blueprint, HANDED_OVER, Input, kept};
use super::{Alternative, Lowered, MOST_BINDINGS, Op, Operand, Pointwise, Type};
use crate::error::{Error, Result};
use crate::expr::Layout;
use crate::kernel::{Access, Bind, Port};

mod cases;
mod composer;
mod cpu;
mod wrapped;

pub(crate) use cases::{ended_case, wrapped_case};
pub use wrapped::WithEnding;

use composer::{Piece, composed, port_of, without_port};

/// An expression of the element that a core makes, its input 0, and of values that it binds itself.
///
/// Output 0 is what the core stores in the element's place: a new value, or over an input, which is
/// how a gradient that nobody else reads becomes the update of its parameter. Further outputs are
/// stored beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending(Pointwise);

impl Ending {
    /// An ending of an expression whose input 0 is the element.
    pub fn new(expression: Pointwise) -> Self {
        Self(expression)
    }

    /// The expression.
    pub fn expression(&self) -> &Pointwise {
        &self.0
    }

    /// Whether it computes what this expression does, of its inputs in the same order.
    pub fn is(&self, expression: &Pointwise) -> bool {
        let own = &self.0;
        let alike = own.program.is_alike(&expression.program);
        alike && own.sources == expression.sources && own.over == expression.over
    }

    /// How many inputs follow those of the core, keys and step included.
    pub fn inputs(&self) -> usize {
        let tail = usize::from(self.0.wants_keys()) + usize::from(self.0.wants_step());
        (self.0.inputs() + tail).saturating_sub(1)
    }

    /// Which of these, counted from 0, the element's place is, if there is one: the parameter that is
    /// updated by it.
    pub fn updates(&self) -> Option<usize> {
        let input = (*self.0.over.first()?)?;
        self.0.sources[input].value.checked_sub(1)
    }

    /// Which of these it changes.
    pub fn changes(&self) -> Vec<usize> {
        let over = self.0.over.iter().flatten();
        over.filter_map(|&input| self.0.sources[input].value.checked_sub(1))
            .collect()
    }

    /// How many outputs the op has with it.
    pub(crate) fn outputs(&self) -> usize {
        self.0.over.iter().filter(|over| over.is_none()).count()
    }

    /// Whether nothing new leaves it: a gradient ends here.
    pub fn is_update(&self) -> bool {
        self.outputs() == 0
    }

    /// How many bindings it adds to a core, whose port has one.
    pub fn bindings(&self) -> usize {
        let stored = usize::from(self.updates().is_some());
        self.inputs() + self.outputs() - 1.min(self.outputs()) - stored
    }

    /// The same, if a core of so many bindings can have it.
    pub fn beside(&self, bindings: usize) -> Option<Self> {
        (bindings + self.bindings() <= MOST_BINDINGS).then(|| self.clone())
    }

    /// The types of the outputs of an op that ends in it, given the element's and those of the
    /// inputs that follow the core's.
    ///
    /// # Errors
    /// What the expression's shape rule says; [`Error::Shape`] for one that does not belong to the
    /// elements one for one.
    pub fn infer(&self, element: &Type, rest: &[Type]) -> Result<Vec<Type>> {
        if rest.len() != self.inputs() {
            let wanted = format!("{} inputs of the expression at its end", self.inputs());
            let found = format!("{} inputs", rest.len());
            return Err(Error::shape("pointwise", found, wanted));
        }
        let types = [std::slice::from_ref(element), rest].concat();
        let outputs = self.0.infer(&types)?;
        let extents = self.0.results(&types[..self.0.inputs()])?;
        let tables = self.0.tables();
        let mut sources = self.0.sources.iter().zip(&tables).enumerate();
        let other_use = sources.any(|(k, (source, table))| {
            source.value == 0 && (*table || self.0.over.contains(&Some(k)))
        });
        if extents != element.shape.extents() || other_use {
            let found = format!("results {extents:?} of elements {element}");
            return Err(Error::shape(
                "pointwise",
                found,
                "one result for each element",
            ));
        }
        Ok(outputs)
    }
}

/// An ending at one of a core's ports.
#[derive(Clone, Debug)]
pub(crate) struct Ended<'a> {
    /// Which of the core's ports.
    pub port: usize,
    pub ending: &'a Ending,
    /// Which inputs of the op the ending's are, after the element.
    pub inputs: Vec<usize>,
    /// The extents of the port's elements.
    pub extents: Vec<usize>,
}

impl<'a> Ended<'a> {
    /// The ending, if there is one, of an op that has one port and `inputs` inputs of its own.
    pub(crate) fn only(ending: Option<&'a Ending>, inputs: usize, extents: &[usize]) -> Vec<Self> {
        let ended = |ending: &'a Ending| Self {
            port: 0,
            ending,
            inputs: (inputs..inputs + ending.inputs()).collect(),
            extents: extents.to_vec(),
        };
        ending.map(ended).into_iter().collect()
    }

    /// Endings at ports from 0 on, each with which of the op's inputs its inputs are.
    pub(crate) fn each<'b>(
        ends: impl IntoIterator<Item = (&'a (Ending, Vec<usize>), &'b [usize])>,
    ) -> Vec<Self> {
        let ends = ends.into_iter().enumerate();
        ends.map(|(port, ((ending, inputs), extents))| Self {
            port,
            ending,
            inputs: inputs.clone(),
            extents: extents.to_vec(),
        })
        .collect()
    }
}

/// A binding that endings add to a core's.
#[derive(Clone, Debug)]
struct Extra {
    operand: Operand,
    bind: Bind,
}

/// A core's launch with endings at its ports; `types` are those of the op's inputs.
///
/// # Errors
/// [`Error::Shape`] for more bindings than every adapter has, or a value that one ending changes and
/// another reads.
pub(crate) fn finished(lowered: Lowered, ends: &[Ended<'_>], types: &[Type]) -> Result<Lowered> {
    if ends.is_empty() {
        return Ok(lowered);
    }
    let core = lowered.kernel;
    if lowered.operands.len() != core.bindings.len() {
        let found = format!("{} operands", lowered.operands.len());
        return Err(without_port(core, &found));
    }
    let mut operands = lowered.operands.clone();
    let mut extras: Vec<Extra> = Vec::new();
    let mut pieces = Vec::new();
    let mut values = Vec::new();
    let mut outputs = 0..;
    for end in ends {
        let port = port_of(core, end.port)?;
        let expression = &end.ending.0;
        let prefix = kept(&format!("{}_", port.name.to_uppercase()));
        let element = Type::f32("pointwise", &end.extents)?;
        let own = end.inputs.iter().map(|&input| types[input].clone());
        let own: Vec<Type> = std::iter::once(element).chain(own).collect();
        let (blueprint, numbers) =
            Blueprint::of(expression, &own, &end.extents, (1, prefix, Some(0)))?;
        values.extend(blueprint.constants().into_iter().zip(numbers));
        let updates = end.ending.updates();
        operands[port.binding] = match updates {
            Some(input) => Operand::In(end.inputs[input]),
            None => Operand::Out(outputs.next().unwrap_or(0)),
        };
        let mut bind = |operand: Operand, of: &dyn Fn(&str) -> Bind| -> Result<String> {
            let name = format!("e{}", extras.len());
            if let Some(extra) = extras.iter().find(|extra| extra.operand == operand) {
                if extra.bind.access == Access::Read && of(&name).access == Access::Read {
                    return Ok(extra.bind.name.into());
                }
                let found = "a value that one expression changes and another one uses";
                return Err(Error::shape("pointwise", found, "values of their own"));
            }
            let bind = of(&name);
            extras.push(Extra { operand, bind });
            Ok(bind.name.into())
        };
        let mut variables: Vec<String> = Vec::new();
        let mut access = Access::Write;
        for (place, input) in blueprint.inputs.iter().enumerate() {
            variables.push(if input.value == 0 {
                HANDED_OVER[0].into()
            } else if Some(input.value - 1) == updates {
                let handed = port.before == Some(port.binding);
                if input.read || handed {
                    access = Access::ReadWrite;
                }
                match handed {
                    true => HANDED_OVER[1].into(),
                    false => core.bindings[port.binding].name.into(),
                }
            } else if hands_over(&port, lowered.operands.as_slice(), input, &end.inputs) {
                HANDED_OVER[1].into()
            } else {
                let operand = Operand::In(end.inputs[input.value - 1]);
                let found = blueprint.inputs[..place].iter();
                match found.clone().position(|other| other.value == input.value) {
                    Some(same) => variables[same].clone(),
                    None => bind(operand, &|name| blueprint.bind(name, place))?,
                }
            });
        }
        let mut stored = Vec::new();
        for k in blueprint.new_outputs() {
            if k > 0 {
                let operand = Operand::Out(outputs.next().unwrap_or(0));
                stored.push(bind(operand, &|name| blueprint.bind_output(name))?);
            } else {
                stored.push(core.bindings[port.binding].name.into());
            }
        }
        let tail = end.inputs[expression.inputs() - 1..].iter();
        let keys = expression.wants_keys().then_some(("keys", "4"));
        let step = expression.wants_step().then_some(("step", "2"));
        for ((name, elements), &input) in keys.into_iter().chain(step).zip(tail) {
            let words = Bind::read(name).u32().of(elements);
            bind(Operand::In(input), &|_| words)?;
        }
        pieces.push(Piece {
            port: end.port,
            blueprint,
            variables,
            outputs: stored,
            access,
        });
    }
    let bound = core.bindings.len() + extras.len();
    if bound > MOST_BINDINGS {
        let wanted = format!("at most {MOST_BINDINGS}, which every adapter binds");
        let found = format!("{bound} inputs, outputs, keys and step");
        return Err(Error::shape("pointwise", found, wanted));
    }
    operands.extend(extras.iter().map(|extra| extra.operand));
    let extras: Vec<Bind> = extras.into_iter().map(|extra| extra.bind).collect();
    let with = |constants: Vec<(&'static str, f64)>| [&constants[..], &values].concat();
    let mut alternatives = lowered.alternatives;
    // Parts of sums in a parameter's place would spoil it.
    let spoils = |variant: &Alternative| {
        let mut ends = ends.iter();
        let partial = |end: &Ended<'_>| {
            variant
                .kernel
                .ports
                .get(end.port)
                .is_some_and(|p| p.partial)
        };
        ends.any(|end| end.ending.updates().is_some() && partial(end))
    };
    alternatives.retain(|variant| !spoils(variant));
    for variant in &mut alternatives {
        variant.kernel = composed(variant.kernel, &pieces, &extras)?;
        variant.constants = with(std::mem::take(&mut variant.constants));
    }
    Ok(Lowered {
        kernel: composed(core, &pieces, &extras)?,
        constants: with(lowered.constants),
        operands,
        alternatives,
        ..lowered
    })
}

/// Whether a core hands over what stands in the element's place in an ending's input.
fn hands_over(port: &Port, operands: &[Operand], input: &Input, inputs: &[usize]) -> bool {
    let operand = port.before.map(|binding| operands[binding]);
    operand == Some(Operand::In(inputs[input.value - 1])) && input.access == Layout::Each
}
