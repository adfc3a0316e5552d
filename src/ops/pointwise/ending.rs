//! Endings: expressions at the end of other kernels. A core (a product, a convolution, a sum) hands
//! each element that it has finished to a function of its ports ([`crate::kernel::Port`]); an ending
//! is that function, with bindings of its own, on the GPU and on the CPU.
//!
//! So a bias, an activation, a slope, a mask or the update of a parameter by its gradient costs no
//! launch, and no core knows of any of them.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::blueprint::{ALIASES, Blueprint, HANDED_OVER, Input, Lines, Places, declarations, kept};
use super::{Alternative, Lowered, MOST_BINDINGS, Op, Operand, Pointwise, Type};
use crate::error::{Error, Result};
use crate::expr::{FUNCTIONS, Form, Layout, body};
use crate::kernel::{Access, Bind, Kernel, Port, Reference};
use crate::shape::DType;

mod cases;
mod cpu;
mod wrapped;

pub(crate) use cases::{ended_case, wrapped_case};
pub use wrapped::WithEnding;

use cpu::{Core, OnCpu};

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

/// An ending in the making.
struct Piece {
    port: usize,
    blueprint: Blueprint,
    /// The variables of its inputs.
    variables: Vec<String>,
    /// Those of its new outputs.
    outputs: Vec<String>,
    /// How the port's binding is used.
    access: Access,
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

fn port_of(core: &Kernel, number: usize) -> Result<Port> {
    let port = core.ports.get(number).copied();
    let port = port.ok_or_else(|| without_port(core, "a kernel without such a port"))?;
    let floats = |binding: usize| {
        let bind = core.bindings.get(binding);
        bind.is_some_and(|bind| bind.dtype == DType::F32)
    };
    if !floats(port.binding) || !port.before.is_none_or(floats) {
        let found = format!("port {} of a binding that holds no floats", port.name);
        return Err(without_port(core, &found));
    }
    Ok(port)
}

fn without_port(core: &Kernel, found: &str) -> Error {
    Error::Plan {
        launch: 0,
        label: core.name.into(),
        found: found.into(),
        wanted: "a port where elements pass the expression, declared and in the text".into(),
    }
}

static KERNELS: LazyLock<Mutex<HashMap<(&'static str, String), &'static Kernel>>> =
    LazyLock::new(Default::default);

/// A core with its ports closed by these pieces; made once for each text.
fn composed(core: &'static Kernel, pieces: &[Piece], extras: &[Bind]) -> Result<&'static Kernel> {
    let mut bindings = core.bindings.to_vec();
    for piece in pieces {
        bindings[port_of(core, piece.port)?.binding].access = piece.access;
    }
    bindings.extend(extras);
    let text = written(core, pieces, &bindings);
    let text = text.ok_or_else(|| without_port(core, "no open port in the kernel's text"))?;
    let mut kernels = KERNELS.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (core.name, text);
    if let Some(kernel) = kernels.get(&key) {
        return Ok(kernel);
    }
    let kernel: &'static Kernel = Box::leak(Box::new(kernel(core, pieces, bindings, &key.1)));
    kernels.insert(key, kernel);
    Ok(kernel)
}

fn kernel(core: &'static Kernel, pieces: &[Piece], bindings: Vec<Bind>, text: &str) -> Kernel {
    let mut constants = core.constants.to_vec();
    let mut turns = core.turns.to_string();
    let slot = |name: &str| {
        let extras = bindings.iter().enumerate().skip(core.bindings.len());
        let mut found = extras.filter(|(_, bind)| bind.name == name);
        found.next().map(|(slot, _)| slot)
    };
    let mut ports = Vec::new();
    for piece in pieces {
        let blueprint = &piece.blueprint;
        let port = core.ports[piece.port];
        constants.extend(blueprint.constants());
        if !turns.is_empty() {
            let [once, each] = loops(blueprint);
            let _ = write!(turns, " + {once} + {each} * ({})", port.elements);
        }
        let at = |name: &String| match port.before {
            Some(before) if name == HANDED_OVER[1] => before,
            _ => slot(name).unwrap_or(port.binding),
        };
        let input = |(k, name): (usize, &String)| match blueprint.inputs[k].access {
            Layout::Given => usize::MAX,
            _ => at(name),
        };
        let mut outputs = vec![usize::MAX; blueprint.outputs];
        for (k, name) in blueprint.new_outputs().into_iter().zip(&piece.outputs) {
            outputs[k] = at(name);
        }
        let places = Places {
            inputs: piece.variables.iter().enumerate().map(input).collect(),
            outputs,
            keys: slot("keys"),
            step: slot("step"),
        };
        ports.push(OnCpu {
            binding: port.binding,
            before: port.before == Some(port.binding),
            machine: blueprint.machine(&places),
        });
    }
    let on_cpu: &'static Core = Box::leak(Box::new(Core { core, ports }));
    Kernel {
        name: core.name,
        stem: core.stem,
        source: kept(text),
        bindings: Vec::leak(bindings),
        constants: Vec::leak(constants),
        turns: kept(&turns),
        reference: Reference::expression(on_cpu),
        optimized: None,
        trusted: core.trusted,
        ports: &[],
        finishing: None,
    }
}

/// Turns of the loops of an ending once and for each element.
fn loops(blueprint: &Blueprint) -> [usize; 2] {
    let uniform = blueprint.uniform();
    let mut turns = [0, 0];
    for (form, uniform) in blueprint.program.forms().iter().zip(uniform) {
        use crate::expr::Unary::{Expm1, Log1p, Softplus, Tanh};
        let loops = matches!(
            form,
            Form::Uniform(_) | Form::Chance(..) | Form::Unary(Expm1 | Log1p | Softplus | Tanh, _)
        );
        turns[usize::from(!uniform)] += if loops { 16 } else { 0 };
    }
    turns
}

/// The module: the core's text with the functions of its ports, and what these need. `None` where
/// the core's text lacks one of its ports.
fn written(core: &Kernel, pieces: &[Piece], bindings: &[Bind]) -> Option<String> {
    let mut text = alone(core.source, core.name);
    for piece in pieces {
        let port = &core.ports[piece.port];
        let open = port.open();
        if !text.contains(&open) {
            return None;
        }
        text = text.replacen(&open, &function(port, piece).ok()?, 1);
    }
    for (alias, one) in ALIASES {
        writeln!(text, "alias {alias} = {one};").ok()?;
    }
    let element = |_: usize, one: &'static str| one.into();
    declarations(bindings, core.bindings.len(), element, &mut text).ok()?;
    let draws = pieces.iter().any(|piece| piece.blueprint.program.draws());
    if draws && !core.source.contains("fn random_words(") {
        text += include_str!("../../../shaders/shared/rng.wgsl");
    }
    text += FUNCTIONS;
    Some(text)
}

/// A module without its other entry points, which have bindings of their own where endings have
/// theirs.
fn alone(source: &str, entry: &str) -> String {
    let mut text = String::new();
    let mut rest = source;
    while let Some(at) = rest.find("@compute ") {
        let (before, from) = rest.split_at(at);
        text += before;
        let end = from.find("\n}\n").map_or(from.len(), |end| end + 3);
        let (function, after) = from.split_at(end);
        let named = |line: &str| line.trim_start().starts_with(&format!("fn {entry}("));
        if function.lines().any(named) {
            text += function;
        }
        rest = after;
    }
    text + rest
}

/// The functions of a port.
fn function(port: &Port, piece: &Piece) -> std::result::Result<String, std::fmt::Error> {
    let Piece {
        blueprint,
        variables,
        outputs,
        ..
    } = piece;
    let mut text = String::from("\n");
    blueprint.overrides(&mut text)?;
    for (place, name) in variables.iter().enumerate() {
        blueprint.function(place, name, &mut text)?;
    }
    let lines = Lines {
        blueprint,
        variables,
    };
    let program = &blueprint.program;
    let uniform = blueprint.uniform();
    let plain = |line: usize| {
        matches!(
            program.forms()[line],
            Form::Constant(_) | Form::Parameter(_)
        )
    };
    let scalars: Vec<usize> = (0..program.forms().len())
        .filter(|&line| uniform[line] && !plain(line))
        .collect();
    let name = port.name;
    let ty = if scalars.is_empty() {
        "f32".to_string()
    } else {
        let ty = format!("{}Scalars", blueprint.prefix);
        writeln!(text, "\nstruct {ty} {{")?;
        for &line in &scalars {
            let one = if program.forms()[line].is_condition() {
                "bool"
            } else {
                "f32"
            };
            writeln!(text, "    v{line}: {one},")?;
        }
        text += "}\n";
        ty
    };
    let now = "    let now = step[2u * replica + 1u];\n";
    let steps = (0..program.forms().len()).any(|line| program.forms()[line] == Form::Step);
    writeln!(text, "\nalias {name}_once = {ty};")?;
    writeln!(text, "\nfn {name}_scalars(replica: u32) -> {ty} {{")?;
    if steps {
        text += now;
    }
    text += &body(program, &lines, "    ", |line| {
        uniform[line] && !scalars.is_empty()
    });
    let members: Vec<String> = scalars.iter().map(|line| format!("v{line}")).collect();
    match members[..] {
        [] => text += "    return 0.0;\n}\n",
        _ => writeln!(text, "    return {ty}({});\n}}", members.join(", "))?,
    }
    let before = if port.before.is_some() {
        ", before: f32"
    } else {
        ""
    };
    write!(
        text,
        "
fn {name}(scalars: {ty}, replica: u32, at: u32, value: f32{before}) -> f32 {{
    let own = replica * {} + at;
",
        blueprint.n()
    )?;
    if program.draws() {
        text += now;
    }
    blueprint.draws(&mut text)?;
    for line in scalars {
        writeln!(text, "    let v{line} = scalars.v{line};")?;
    }
    text += &body(program, &lines, "    ", |line| {
        !uniform[line] || plain(line)
    });
    let mut new = outputs.iter();
    for (k, line) in program.outputs().iter().enumerate() {
        let to = match blueprint.over(k) {
            Some(place) => blueprint.element(place, &variables[place]),
            None => format!("{}[own]", new.next().map_or("", String::as_str)),
        };
        if k > 0 {
            writeln!(text, "    {to} = v{line};")?;
        }
    }
    let first = program.outputs().first().copied().unwrap_or(0);
    writeln!(text, "    return v{first};\n}}")?;
    Ok(text)
}
