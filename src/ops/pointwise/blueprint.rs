//! What the text of an expression depends on, its [`Blueprint`]: the program without its numbers,
//! and how each input is read. Sizes and numbers are a launch's constants.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::broadcast::{Axes, axes_of};
use super::{Pointwise, Type};
use crate::error::Result;
use crate::expr::{self, Constants, Layout, Machine, Names, Plane, Program};
use crate::kernel::{Access, Bind};
use crate::shape::DType;

/// Storage buffers that every adapter binds in one launch (WebGPU's limit).
pub const MOST_BINDINGS: usize = 8;

/// How a thread that computes four neighbours reads an input that is broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Four {
    /// All four are one element.
    Same,
    /// Four neighbours, at a place that is a multiple of four.
    Neighbours,
    /// Four elements anywhere.
    Apart,
}

/// An input as the text sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Input {
    pub access: Layout,
    pub four: Four,
    pub integer: bool,
    pub shared: bool,
    /// The output that is written over it.
    pub updated_by: Option<usize>,
    pub read: bool,
    /// Which of the op's inputs it is a part of.
    pub value: usize,
    pub plane: Plane,
}

/// What an expression's text is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Blueprint {
    /// Its inputs are places in `inputs`.
    pub program: Program,
    pub inputs: Vec<Input>,
    pub outputs: usize,
    pub constants: [usize; 3],
    /// Elements of one thread: four where their number allows, else one.
    pub width: usize,
    /// What its constants' names begin with.
    pub prefix: &'static str,
}

/// An expression's variables in a kernel: for each of its inputs and for each of its outputs the
/// place among the bindings, `usize::MAX` for what has none.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
    pub keys: Option<usize>,
    pub step: Option<usize>,
}

impl Blueprint {
    /// The blueprint of an op over inputs of these types, the one among them that a core hands over
    /// being `given`; and the values of its constants.
    pub(super) fn of(
        op: &Pointwise,
        types: &[Type],
        extents: &[usize],
        (width, prefix, given): (usize, &'static str, Option<usize>),
    ) -> Result<(Self, Vec<f64>)> {
        let n: usize = extents.iter().product();
        let (program, values) = op.program.parametrised();
        let read = program.inputs();
        let tables = op.tables();
        let mut inputs = Vec::new();
        let mut sizes: Vec<f64> = vec![];
        for (number, source) in op.sources.iter().enumerate() {
            let ty = &types[source.value];
            let mut four = Four::Same;
            let access = if given == Some(source.value) {
                Layout::Given
            } else if tables[number] {
                sizes.push(ty.elements() as f64);
                Layout::Table
            } else {
                match axes_of(&source.extents(ty)?, extents) {
                    Axes::Each => Layout::Each,
                    Axes::One => Layout::One,
                    Axes::Along(axes) => {
                        four = match axes[axes.len() - 1] {
                            [1, extent, 1] if extent.is_multiple_of(4) => Four::Neighbours,
                            [div, ..] if div.is_multiple_of(4) => Four::Same,
                            _ => Four::Apart,
                        };
                        sizes.extend(axes.iter().flatten().map(|&size| size as f64));
                        Layout::Along(axes.len())
                    }
                }
            };
            inputs.push(Input {
                access,
                four,
                integer: ty.dtype == DType::U32,
                shared: ty.shared,
                updated_by: op.over.iter().position(|over| *over == Some(number)),
                read: read.contains(&(number as u32)),
                value: source.value,
                plane: source.plane,
            });
        }
        let constants = [
            values.numbers.len(),
            values.streams.len(),
            values.thresholds.len(),
        ];
        let words = values.streams.into_iter().chain(values.thresholds);
        let numbers = [n as f64].into_iter().chain(values.numbers);
        let numbers = numbers.chain(words.map(f64::from)).chain(sizes);
        let blueprint = Self {
            program,
            inputs,
            outputs: op.over.len(),
            constants,
            width,
            prefix,
        };
        Ok((blueprint, numbers.collect()))
    }

    /// For each line, whether it is the same for all elements.
    pub(super) fn uniform(&self) -> Vec<bool> {
        let one = |k: u32| self.inputs[k as usize].access == Layout::One;
        self.program.uniform(one)
    }

    /// The outputs that are new values.
    pub(super) fn new_outputs(&self) -> Vec<usize> {
        let over = |k: usize| self.inputs.iter().any(|input| input.updated_by == Some(k));
        (0..self.outputs).filter(|&k| !over(k)).collect()
    }

    /// The expressions' input that an output is written over.
    pub(super) fn over(&self, output: usize) -> Option<usize> {
        let mut inputs = self.inputs.iter();
        inputs.position(|input| input.updated_by == Some(output))
    }

    fn name(&self, rest: &str) -> &'static str {
        kept(&format!("{}{rest}", self.prefix))
    }

    /// The name of the number of elements.
    pub(super) fn n(&self) -> &'static str {
        self.name("N")
    }

    fn names(&self, letter: char, count: usize) -> Vec<&'static str> {
        (0..count)
            .map(|k| self.name(&format!("{letter}{k}")))
            .collect()
    }

    /// DIV, EXTENT and STRIDE of an input's axes.
    pub(super) fn axes(&self, place: usize) -> Vec<[&'static str; 3]> {
        let axes = match self.inputs[place].access {
            Layout::Along(axes) => axes,
            _ => 0,
        };
        let name = |what: &str, axis: usize| self.name(&format!("X{place}_{what}{axis}"));
        let of = |axis| ["DIV", "EXTENT", "STRIDE"].map(|what| name(what, axis));
        (0..axes).map(of).collect()
    }

    fn count(&self, place: usize) -> &'static str {
        self.name(&format!("X{place}_COUNT"))
    }

    /// Names of all constants: N, numbers, streams, thresholds, sizes of inputs.
    pub(super) fn constants(&self) -> Vec<&'static str> {
        let [numbers, streams, thresholds] = self.constants;
        let mut names = vec![self.n()];
        names.extend(self.names('P', numbers));
        names.extend(self.names('S', streams));
        names.extend(self.names('T', thresholds));
        for (place, input) in self.inputs.iter().enumerate() {
            if input.access == Layout::Table {
                names.push(self.count(place));
            }
            names.extend(self.axes(place).into_iter().flatten());
        }
        names
    }

    /// How many elements an input has, by the constants.
    fn elements(&self, place: usize) -> String {
        let n = self.n();
        match self.inputs[place].access {
            Layout::Each | Layout::Given => n.into(),
            Layout::One => "1".into(),
            Layout::Table => self.count(place).into(),
            Layout::Along(_) => {
                let extents = self.axes(place);
                let extents: Vec<_> = extents.iter().map(|[_, extent, _]| *extent).collect();
                extents.join(" * ")
            }
        }
    }

    /// The binding of the op's input that an input is a part of.
    pub(super) fn bind(&self, name: &str, place: usize) -> Bind {
        let input = &self.inputs[place];
        let name = kept(name);
        let parts = self
            .inputs
            .iter()
            .filter(|other| other.value == input.value);
        let (updated, read) = parts.fold((false, false), |(updated, read), part| {
            (updated || part.updated_by.is_some(), read || part.read)
        });
        let bind = match (updated, read) {
            (false, _) => Bind::read(name),
            (true, true) => Bind::update(name),
            (true, false) => Bind::write(name),
        };
        let elements = match input.plane.of {
            1 => self.elements(place),
            of => format!("{of} * {}", self.elements(place)),
        };
        let bind = bind.of(kept(&elements));
        let bind = if input.integer { bind.u32() } else { bind };
        if input.shared { bind.shared() } else { bind }
    }

    /// The binding of a new output.
    pub(super) fn bind_output(&self, name: &str) -> Bind {
        Bind::write(kept(name)).of(self.n())
    }

    /// What computes it on the CPU.
    pub(super) fn machine(&self, places: &Places) -> Machine {
        let [numbers, streams, thresholds] = self.constants;
        let operand = |(input, &slot): (&Input, &usize)| expr::Operand {
            slot,
            access: input.access.clone(),
            integer: input.integer,
            shared: input.shared,
            updated_by: input.updated_by,
            plane: input.plane,
        };
        let output = |k: usize| match self.over(k) {
            Some(input) => (places.inputs[input], self.inputs[input].plane),
            None => (places.outputs[k], Plane::WHOLE),
        };
        Machine::new(
            self.program.clone(),
            self.inputs
                .iter()
                .zip(&places.inputs)
                .map(operand)
                .collect(),
            (0..self.outputs).map(output).collect(),
            [places.keys, places.step],
            Constants {
                n: self.n(),
                parameters: self.names('P', numbers),
                streams: self.names('S', streams),
                thresholds: self.names('T', thresholds),
                axes: (0..self.inputs.len())
                    .map(|place| self.axes(place))
                    .collect(),
            },
        )
    }

    /// Turns of the loops of one thread for an element: series of nine terms and ten rounds of draws.
    pub(super) fn turns(&self) -> usize {
        16 * self.program.forms().len()
    }

    /// The declarations of the constants.
    pub(super) fn overrides(&self, text: &mut String) -> std::fmt::Result {
        let float = |name: &str| name[self.prefix.len()..].starts_with('P');
        for name in self.constants() {
            let (ty, default) = if float(name) {
                ("f32", "1.0")
            } else {
                ("u32", "4u")
            };
            writeln!(text, "override {name}: {ty} = {default};")?;
        }
        Ok(())
    }

    /// The function that an input which is not read one for one needs: `load…`, of a table, its value
    /// for an index; `place…`, where a thread's elements have theirs, the first of which is number `i`.
    pub(super) fn function(&self, place: usize, name: &str, text: &mut String) -> std::fmt::Result {
        let input = &self.inputs[place];
        let base = self.base(place);
        let prefix = self.prefix.to_lowercase();
        match input.access {
            Layout::Each | Layout::One | Layout::Given => Ok(()),
            Layout::Table => {
                let count = self.count(place);
                write!(
                    text,
                    "
// The element that an index counts to, or the nearest there is.
fn {prefix}load{place}(index: f32, replica: u32) -> f32 {{
    let last = {count} - 1u;
    let place = min(u32(clamp(floor(index), 0.0, f32(last))), last);
    return f32({name}[{base} + place]);
}}
"
                )
            }
            Layout::Along(_) => {
                let axes = self.axes(place);
                let term =
                    |[div, extent, stride]: &[&str; 3]| format!("i / {div} % {extent} * {stride}");
                let terms: Vec<_> = axes.iter().map(term).collect();
                let sum = terms.join(" + ");
                write!(
                    text,
                    "
fn {prefix}place{place}(i: u32, replica: u32) -> u32 {{
    return {base} + {sum};
}}
"
                )
            }
        }
    }

    /// Where the replica's part of an input begins.
    fn base(&self, place: usize) -> String {
        let input = &self.inputs[place];
        let elements = self.elements(place);
        let Plane { number, of } = input.plane;
        match (input.shared, of) {
            (true, 1) => "0u".into(),
            (true, _) => format!("{number}u * ({elements})"),
            (false, 1) => format!("replica * ({elements})"),
            (false, _) => format!("({of}u * replica + {number}u) * ({elements})"),
        }
    }

    /// Whether a thread that computes four elements reads an input by fours.
    pub(super) fn by_fours(&self, place: usize) -> bool {
        let input = &self.inputs[place];
        match input.access {
            Layout::Each => true,
            Layout::Along(_) => input.four == Four::Neighbours,
            Layout::One | Layout::Table | Layout::Given => false,
        }
    }

    /// A thread's elements of an input that is read one for one, `at` being their number.
    pub(super) fn element(&self, place: usize, name: &str) -> String {
        let input = &self.inputs[place];
        match input.plane.of {
            1 if input.shared => format!("{name}[at]"),
            1 => format!("{name}[own]"),
            _ => {
                let base = self.base(place);
                match self.width {
                    4 => format!("{name}[({base}) / 4u + at]"),
                    _ => format!("{name}[{base} + at]"),
                }
            }
        }
    }

    /// The lines that bring a stream's words, if the program draws.
    pub(super) fn draws(&self, text: &mut String) -> std::fmt::Result {
        for (stream, name) in self.names('S', self.constants[1]).iter().enumerate() {
            let drawn = format!("random_words(replica, {name}, now, ");
            match self.width {
                4 => writeln!(text, "    let words{stream} = {drawn}at);")?,
                _ => writeln!(
                    text,
                    "    let block{stream} = {drawn}at / 4u);\n    let words{stream} = block{stream}[at % 4u];"
                )?,
            }
        }
        Ok(())
    }
}

/// How the lines of a blueprint's program name what is around them; `variables` are the names of
/// the inputs, or of what a core has handed over.
pub(super) struct Lines<'a> {
    pub blueprint: &'a Blueprint,
    pub variables: &'a [String],
}

impl Names for Lines<'_> {
    fn input(&self, k: u32) -> String {
        let place = k as usize;
        let (blueprint, x) = (self.blueprint, &self.variables[place]);
        let input = &blueprint.inputs[place];
        let prefix = blueprint.prefix.to_lowercase();
        let four = blueprint.width == 4;
        let i = if four { "4u * at" } else { "at" };
        match input.access {
            Layout::Given => x.clone(),
            Layout::Each if is_handed_over(x) => x.clone(),
            Layout::Each => format!("Float({})", blueprint.element(place, x)),
            Layout::One if input.shared => format!("Float(f32({x}[0]))"),
            Layout::One => format!("Float(f32({x}[replica]))"),
            // It is read by an index and not so.
            Layout::Table => "Float(0.0)".into(),
            Layout::Along(_) => match (four, input.four) {
                (true, Four::Neighbours) => {
                    format!("Float({x}[{prefix}place{k}({i}, replica) / 4u])")
                }
                (true, Four::Apart) => {
                    let one = |j: usize| format!("f32({x}[{prefix}place{k}({i} + {j}u, replica)])");
                    format!("Float({}, {}, {}, {})", one(0), one(1), one(2), one(3))
                }
                _ => format!("Float(f32({x}[{prefix}place{k}({i}, replica)]))"),
            },
        }
    }

    fn at(&self, k: u32, index: &str) -> String {
        let prefix = self.blueprint.prefix.to_lowercase();
        match self.blueprint.width {
            4 => {
                let one = |j: char| format!("{prefix}load{k}({index}.{j}, replica)");
                format!(
                    "Float({}, {}, {}, {})",
                    one('x'),
                    one('y'),
                    one('z'),
                    one('w')
                )
            }
            _ => format!("{prefix}load{k}({index}, replica)"),
        }
    }

    fn words(&self, stream: u32) -> String {
        format!("words{stream}")
    }

    fn parameter(&self, k: u32) -> String {
        format!("Float({}P{k})", self.blueprint.prefix)
    }

    fn threshold(&self, k: u32) -> String {
        format!("Word({}T{k})", self.blueprint.prefix)
    }
}

/// What the functions of expressions are written in, and what it is for one element.
pub(super) const ALIASES: [(&str, &str); 4] = [
    ("Float", "f32"),
    ("Word", "u32"),
    ("Whole", "i32"),
    ("Truth", "bool"),
];

/// The parameters of a core's port, in place of variables.
pub(super) const HANDED_OVER: [&str; 2] = ["value", "before"];

fn is_handed_over(name: &str) -> bool {
    HANDED_OVER.contains(&name)
}

/// Text that lives as long as the process, once for each text.
pub(super) fn kept(text: &str) -> &'static str {
    static TEXTS: LazyLock<Mutex<HashMap<String, &'static str>>> = LazyLock::new(Default::default);
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(text) = texts.get(text) {
        return text;
    }
    let leaked: &'static str = String::leak(text.into());
    texts.insert(text.into(), leaked);
    leaked
}

/// The declarations of bindings from number `first` on.
pub(super) fn declarations(
    bindings: &[Bind],
    first: usize,
    element: impl Fn(usize, &'static str) -> String,
    text: &mut String,
) -> std::fmt::Result {
    for (at, bind) in bindings.iter().enumerate().skip(first) {
        let access = match bind.access {
            Access::Read => "read",
            Access::Write | Access::ReadWrite => "read_write",
        };
        let one = match bind.dtype {
            DType::U32 => "u32",
            DType::F32 => "f32",
        };
        let (name, element) = (bind.name, element(at, one));
        writeln!(
            text,
            "@group(0) @binding({at}) var<storage, {access}> {name}: array<{element}>;"
        )?;
    }
    Ok(())
}
