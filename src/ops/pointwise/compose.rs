//! Kernels of expressions. What a kernel's text depends on, its [`Blueprint`], is the program
//! without its numbers, and how each input is read; sizes and numbers are a launch's constants. A
//! kernel is made once for each blueprint and kept as long as the process.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::broadcast::{Axes, axes_of};
use super::{Operand, Pointwise, Type};
use crate::expr::{self, Constants, FUNCTIONS, Machine, Names, Program};
use crate::kernel::{Access, Bind, Kernel, Reference};
use crate::shape::DType;

pub(super) mod cases;

/// Storage buffers that every adapter binds in one launch (WebGPU's limit).
pub(crate) const MOST_BINDINGS: usize = 8;

/// How a thread that computes four neighbours reads an input that is broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Four {
    /// All four are one element.
    Same,
    /// Four neighbours, at a place that is a multiple of four.
    Neighbours,
    /// Four elements anywhere.
    Apart,
}

/// An input as the text sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Input {
    access: expr::Layout,
    four: Four,
    integer: bool,
    shared: bool,
    /// The output that is written over it.
    updated_by: Option<usize>,
    read: bool,
}

/// What a kernel is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Blueprint {
    /// Its inputs are places in `inputs`.
    program: Program,
    inputs: Vec<Input>,
    outputs: usize,
    constants: [usize; 3],
    /// Elements of one thread: four where their number allows, else one.
    width: usize,
}

/// A launch of a composed kernel.
pub(super) struct Composed {
    pub kernel: &'static Kernel,
    pub constants: Vec<(&'static str, f64)>,
    pub operands: Vec<Operand>,
    pub width: usize,
}

/// The kernel and the launch of an op over inputs of these types, keys and step included.
pub(super) fn compose(op: &Pointwise, types: &[Type], extents: &[usize]) -> Composed {
    let n: usize = extents.iter().product();
    let width = if n.is_multiple_of(4) { 4 } else { 1 };
    let (program, values) = op.program.parametrised();
    let read = program.inputs();
    let tables = op.tables();
    let mut inputs = Vec::new();
    let mut sizes: Vec<f64> = vec![];
    for (number, ty) in types[..op.inputs].iter().enumerate() {
        let place = inputs.len();
        let mut size = |what: &str, value: usize| {
            sizes.push(value as f64);
            kept(&format!("X{place}_{what}"))
        };
        let axes = axes_of(ty.shape.extents(), extents);
        let mut four = Four::Same;
        let access = if tables[number] {
            size("COUNT", ty.elements());
            expr::Layout::Table
        } else {
            match axes {
                Axes::Each => expr::Layout::Each,
                Axes::One => expr::Layout::One,
                Axes::Along(axes) => {
                    let innermost = axes[axes.len() - 1];
                    four = match innermost {
                        [1, extent, 1] if extent.is_multiple_of(4) => Four::Neighbours,
                        [div, ..] if div.is_multiple_of(4) => Four::Same,
                        _ => Four::Apart,
                    };
                    for (a, [div, extent, stride]) in axes.iter().enumerate() {
                        size(&format!("DIV{a}"), *div);
                        size(&format!("EXTENT{a}"), *extent);
                        size(&format!("STRIDE{a}"), *stride);
                    }
                    expr::Layout::Along(axes.len())
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
        });
    }
    let outputs = op.over.len();
    let blueprint = Blueprint {
        program,
        inputs,
        outputs,
        constants: [
            values.numbers.len(),
            values.streams.len(),
            values.thresholds.len(),
        ],
        width,
    };
    let kernel = kernel_of(blueprint);
    let numbers = values.numbers.into_iter();
    let words = values
        .streams
        .into_iter()
        .chain(values.thresholds)
        .map(f64::from);
    let values = [n as f64]
        .into_iter()
        .chain(numbers)
        .chain(words)
        .chain(sizes);
    let constants = kernel.constants.iter().copied().zip(values).collect();
    let own = (0..op.inputs).map(Operand::In);
    let new = op.over.iter().filter(|over| over.is_none()).enumerate();
    let rest = (op.inputs..types.len()).map(Operand::In);
    let operands = own
        .chain(new.map(|(k, _)| Operand::Out(k)))
        .chain(rest)
        .collect();
    Composed {
        kernel,
        constants,
        operands,
        width,
    }
}

/// Text that lives as long as the process, once for each text.
fn kept(text: &str) -> &'static str {
    static TEXTS: LazyLock<Mutex<HashMap<String, &'static str>>> = LazyLock::new(Default::default);
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(text) = texts.get(text) {
        return text;
    }
    let leaked: &'static str = String::leak(text.into());
    texts.insert(text.into(), leaked);
    leaked
}

/// How many kernels there are.
#[cfg(test)]
pub(super) fn kernels() -> usize {
    KERNELS.lock().unwrap_or_else(PoisonError::into_inner).len()
}

static KERNELS: LazyLock<Mutex<HashMap<Blueprint, &'static Kernel>>> =
    LazyLock::new(Default::default);

fn kernel_of(blueprint: Blueprint) -> &'static Kernel {
    let mut kernels = KERNELS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kernel) = kernels.get(&blueprint) {
        return kernel;
    }
    let kernel: &'static Kernel = Box::leak(Box::new(blueprint.kernel()));
    kernels.insert(blueprint, kernel);
    kernel
}

impl Blueprint {
    fn keys(&self) -> bool {
        self.program.draws()
    }

    fn step(&self) -> bool {
        self.program.reads_step()
    }

    /// The outputs that are new values.
    fn new_outputs(&self) -> Vec<usize> {
        let over = |k: usize| self.inputs.iter().any(|input| input.updated_by == Some(k));
        (0..self.outputs).filter(|&k| !over(k)).collect()
    }

    fn names(&self, letter: char, count: usize) -> Vec<&'static str> {
        (0..count).map(|k| kept(&format!("{letter}{k}"))).collect()
    }

    /// DIV, EXTENT and STRIDE of an input's axes.
    fn axes(&self, place: usize) -> Vec<[&'static str; 3]> {
        let axes = match self.inputs[place].access {
            expr::Layout::Along(axes) => axes,
            _ => 0,
        };
        let name = |what: &str, axis: usize| kept(&format!("X{place}_{what}{axis}"));
        let of = |axis| ["DIV", "EXTENT", "STRIDE"].map(|what| name(what, axis));
        (0..axes).map(of).collect()
    }

    /// Names of all constants: N, numbers, streams, thresholds, sizes of inputs.
    fn constants(&self) -> Vec<&'static str> {
        let [numbers, streams, thresholds] = self.constants;
        let mut names = vec!["N"];
        names.extend(self.names('P', numbers));
        names.extend(self.names('S', streams));
        names.extend(self.names('T', thresholds));
        for (place, input) in self.inputs.iter().enumerate() {
            if input.access == expr::Layout::Table {
                names.push(kept(&format!("X{place}_COUNT")));
            }
            names.extend(self.axes(place).into_iter().flatten());
        }
        names
    }

    /// How many elements an input has, by the constants.
    fn elements(&self, place: usize) -> String {
        match self.inputs[place].access {
            expr::Layout::Each => "N".into(),
            expr::Layout::One => "1".into(),
            expr::Layout::Table => format!("X{place}_COUNT"),
            expr::Layout::Along(_) => {
                let extents = self.axes(place);
                let extents: Vec<_> = extents.iter().map(|[_, extent, _]| *extent).collect();
                extents.join(" * ")
            }
        }
    }

    fn bindings(&self) -> Vec<Bind> {
        let mut bindings = Vec::new();
        for (place, input) in self.inputs.iter().enumerate() {
            let name = kept(&format!("x{place}"));
            let bind = match (input.updated_by, input.read) {
                (None, _) => Bind::read(name),
                (Some(_), true) => Bind::update(name),
                (Some(_), false) => Bind::write(name),
            };
            let bind = bind.of(kept(&self.elements(place)));
            let bind = if input.integer { bind.u32() } else { bind };
            bindings.push(if input.shared { bind.shared() } else { bind });
        }
        for k in self.new_outputs() {
            bindings.push(Bind::write(kept(&format!("y{k}"))).of("N"));
        }
        if self.keys() {
            bindings.push(Bind::read("keys").u32().of("4"));
        }
        if self.step() {
            bindings.push(Bind::read("step").u32().of("2"));
        }
        bindings
    }

    fn kernel(&self) -> Kernel {
        let bindings = self.bindings();
        let slot = |name: &str| bindings.iter().position(|bind| bind.name == name);
        let [numbers, streams, thresholds] = self.constants;
        let operand = |(slot, input): (usize, &Input)| expr::Operand {
            slot,
            access: input.access.clone(),
            integer: input.integer,
            shared: input.shared,
            updated_by: input.updated_by,
        };
        let outputs = |k: usize| {
            let over = self
                .inputs
                .iter()
                .position(|input| input.updated_by == Some(k));
            over.or_else(|| slot(&format!("y{k}"))).unwrap_or(0)
        };
        let machine = Machine::new(
            self.program.clone(),
            self.inputs.iter().enumerate().map(operand).collect(),
            (0..self.outputs).map(outputs).collect(),
            [slot("keys"), slot("step")],
            Constants {
                parameters: self.names('P', numbers),
                streams: self.names('S', streams),
                thresholds: self.names('T', thresholds),
                axes: (0..self.inputs.len())
                    .map(|place| self.axes(place))
                    .collect(),
            },
        );
        // Series of nine terms and ten rounds of draws at most, for each line.
        let turns = 16 * self.program.forms().len();
        Kernel {
            name: "pointwise",
            stem: "pointwise",
            source: kept(&self.text()),
            bindings: Vec::leak(bindings),
            constants: Vec::leak(self.constants()),
            turns: kept(&turns.to_string()),
            reference: Reference::expression(Box::leak(Box::new(machine))),
            fast: None,
            trusted: true,
        }
    }

    fn text(&self) -> String {
        // Writing to a String does not fail.
        self.written().unwrap_or_default()
    }

    fn written(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let four = self.width == 4;
        for (alias, one) in [("F", "f32"), ("U", "u32"), ("I", "i32"), ("B", "bool")] {
            match four {
                true => writeln!(text, "alias {alias} = vec4<{one}>;")?,
                false => writeln!(text, "alias {alias} = {one};")?,
            }
        }
        let float = |name: &str| name.starts_with('P');
        for name in self.constants() {
            let (ty, default) = if float(name) {
                ("f32", "1.0")
            } else {
                ("u32", "4u")
            };
            writeln!(text, "override {name}: {ty} = {default};")?;
        }
        for (at, bind) in self.bindings().iter().enumerate() {
            let access = match bind.access {
                Access::Read => "read",
                Access::Write | Access::ReadWrite => "read_write",
            };
            let one = if bind.dtype == DType::U32 {
                "u32"
            } else {
                "f32"
            };
            let element = match four && self.by_fours(at) {
                true => format!("vec4<{one}>"),
                false => one.into(),
            };
            let name = bind.name;
            writeln!(
                text,
                "@group(0) @binding({at}) var<storage, {access}> {name}: array<{element}>;"
            )?;
        }
        text += include_str!("../../../shaders/shared/grid.wgsl");
        if self.keys() {
            text += include_str!("../../../shaders/shared/rng.wgsl");
        }
        text += FUNCTIONS;
        for place in 0..self.inputs.len() {
            self.function(place, &mut text)?;
        }
        let count = if four { "N / 4u" } else { "N" };
        write!(
            text,
            "
@compute @workgroup_size(64)
fn pointwise(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {{
    let at = item(group, groups, lane);
    if at >= {count} {{
        return;
    }}
    let replica = group.z;
    let own = replica * ({count}) + at;
"
        )?;
        if self.step() {
            writeln!(text, "    let now = step[2u * replica + 1u];")?;
        }
        for stream in 0..self.constants[1] {
            let drawn = format!("random_words(replica, S{stream}, now, ");
            match four {
                true => writeln!(text, "    let words{stream} = {drawn}at);")?,
                false => writeln!(
                    text,
                    "    let block{stream} = {drawn}at / 4u);\n    let words{stream} = block{stream}[at % 4u];"
                )?,
            }
        }
        text += &expr::body(&self.program, &Lines(self), "    ");
        for (k, line) in self.program.outputs().iter().enumerate() {
            let over = self
                .inputs
                .iter()
                .position(|input| input.updated_by == Some(k));
            let name = over.map_or(format!("y{k}"), |place| format!("x{place}"));
            writeln!(text, "    {name}[own] = v{line};")?;
        }
        text += "}\n";
        Ok(text)
    }

    /// Whether a thread that computes four elements reads or writes binding `at` by fours.
    fn by_fours(&self, at: usize) -> bool {
        match self.inputs.get(at) {
            Some(input) => match input.access {
                expr::Layout::Each => true,
                expr::Layout::Along(_) => input.four == Four::Neighbours,
                expr::Layout::One | expr::Layout::Table => false,
            },
            None => at < self.inputs.len() + self.new_outputs().len(),
        }
    }

    /// The function `load<place>` of an input that is not read one for one: its value for the thread's
    /// elements, the first of which is number `i`; of a table, for an index.
    fn function(&self, place: usize, text: &mut String) -> std::fmt::Result {
        let input = &self.inputs[place];
        let elements = self.elements(place);
        let base = match input.shared {
            true => "0u".to_string(),
            false => format!("replica * ({elements})"),
        };
        match input.access {
            expr::Layout::Each | expr::Layout::One => Ok(()),
            expr::Layout::Table => write!(
                text,
                "
// The element that an index counts to, or the nearest there is.
fn load{place}(index: f32, replica: u32) -> f32 {{
    let last = X{place}_COUNT - 1u;
    let place = min(u32(clamp(floor(index), 0.0, f32(last))), last);
    return f32(x{place}[{base} + place]);
}}
"
            ),
            expr::Layout::Along(_) => {
                let axes = self.axes(place);
                let term =
                    |[div, extent, stride]: &[&str; 3]| format!("i / {div} % {extent} * {stride}");
                let terms: Vec<_> = axes.iter().map(term).collect();
                let sum = terms.join(" + ");
                write!(
                    text,
                    "
fn place{place}(i: u32, replica: u32) -> u32 {{
    return {base} + {sum};
}}
"
                )
            }
        }
    }
}

/// How the lines of a blueprint's program name what is around them.
struct Lines<'a>(&'a Blueprint);

impl Names for Lines<'_> {
    fn input(&self, k: u32) -> String {
        let input = &self.0.inputs[k as usize];
        let four = self.0.width == 4;
        let i = if four { "4u * at" } else { "at" };
        match input.access {
            expr::Layout::Each if input.shared => format!("F(x{k}[at])"),
            expr::Layout::Each => format!("F(x{k}[own])"),
            expr::Layout::One if input.shared => format!("F(f32(x{k}[0]))"),
            expr::Layout::One => format!("F(f32(x{k}[replica]))"),
            // It is read by an index and not so.
            expr::Layout::Table => "F(0.0)".into(),
            expr::Layout::Along(_) => match (four, input.four) {
                (true, Four::Neighbours) => format!("F(x{k}[place{k}({i}, replica) / 4u])"),
                (true, Four::Apart) => {
                    let one = |j: usize| format!("f32(x{k}[place{k}({i} + {j}u, replica)])");
                    format!("F({}, {}, {}, {})", one(0), one(1), one(2), one(3))
                }
                _ => format!("F(f32(x{k}[place{k}({i}, replica)]))"),
            },
        }
    }

    fn at(&self, k: u32, index: &str) -> String {
        match self.0.width {
            4 => {
                let one = |j: char| format!("load{k}({index}.{j}, replica)");
                format!("F({}, {}, {}, {})", one('x'), one('y'), one('z'), one('w'))
            }
            _ => format!("load{k}({index}, replica)"),
        }
    }

    fn words(&self, stream: u32) -> String {
        format!("words{stream}")
    }
}
