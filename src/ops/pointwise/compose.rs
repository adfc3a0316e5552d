//! Kernels of expressions alone: a thread computes four neighbouring elements where their number
//! allows, else one. A kernel is made once for each [`Blueprint`] and kept as long as the process.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::blueprint::{ALIASES, Blueprint, Lines, Places, declarations, kept};
use super::{Operand, Pointwise, Type};
use crate::error::Result;
use crate::expr::{FUNCTIONS, body};
use crate::kernel::{Bind, Kernel, Reference};

pub(super) mod cases;

/// A launch of a composed kernel.
pub(super) struct Composed {
    pub kernel: &'static Kernel,
    pub constants: Vec<(&'static str, f64)>,
    pub operands: Vec<Operand>,
}

/// The kernel and the launch of an op over inputs of these types, keys and step included, by threads that
/// compute `width` elements each: 4, if these divide the number of elements, or 1.
pub(super) fn compose(
    op: &Pointwise,
    types: &[Type],
    extents: &[usize],
    width: usize,
) -> Result<Composed> {
    let (blueprint, values) = Blueprint::of(op, types, extents, (width, "", None))?;
    let kernel = kernel_of(blueprint);
    let constants = kernel.constants.iter().copied().zip(values).collect();
    let own = (0..op.inputs()).map(Operand::In);
    let new = op.over.iter().filter(|over| over.is_none()).enumerate();
    let rest = (op.inputs()..types.len()).map(Operand::In);
    let operands = own
        .chain(new.map(|(k, _)| Operand::Out(k)))
        .chain(rest)
        .collect();
    Ok(Composed {
        kernel,
        constants,
        operands,
    })
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
    let kernel: &'static Kernel = Box::leak(Box::new(kernel(&blueprint)));
    kernels.insert(blueprint, kernel);
    kernel
}

/// The op's inputs, each with one of the expressions' inputs that is a part of it.
fn values(blueprint: &Blueprint) -> Vec<usize> {
    let count = blueprint.inputs.iter().map(|input| input.value + 1);
    let part = |value| {
        let mut inputs = blueprint.inputs.iter();
        inputs.position(|input| input.value == value).unwrap_or(0)
    };
    (0..count.max().unwrap_or(0)).map(part).collect()
}

fn bindings(blueprint: &Blueprint) -> Vec<Bind> {
    let values = values(blueprint).into_iter().enumerate();
    let mut bindings: Vec<Bind> = values
        .map(|(value, place)| blueprint.bind(&format!("x{value}"), place))
        .collect();
    let new = blueprint.new_outputs().into_iter();
    bindings.extend(new.map(|k| blueprint.bind_output(&format!("y{k}"))));
    if blueprint.program.draws() {
        bindings.push(Bind::read("keys").u32().of("4"));
    }
    if blueprint.program.reads_step() {
        bindings.push(Bind::read("step").u32().of("2"));
    }
    bindings
}

fn kernel(blueprint: &Blueprint) -> Kernel {
    let bindings = bindings(blueprint);
    let slot = |name: &str| bindings.iter().position(|bind| bind.name == name);
    let places = Places {
        inputs: blueprint.inputs.iter().map(|input| input.value).collect(),
        outputs: (0..blueprint.outputs)
            .map(|k| slot(&format!("y{k}")).unwrap_or(usize::MAX))
            .collect(),
        keys: slot("keys"),
        step: slot("step"),
    };
    // Writing to a String does not fail.
    let text = written(blueprint, &bindings).unwrap_or_default();
    Kernel {
        name: "pointwise",
        stem: "pointwise",
        source: kept(&text),
        constants: Vec::leak(blueprint.constants()),
        turns: kept(&blueprint.turns().to_string()),
        reference: Reference::expression(Box::leak(Box::new(blueprint.machine(&places)))),
        bindings: Vec::leak(bindings),
        optimized: None,
        demand: blueprint.demand(),
        trusted: true,
        ports: &[],
        finishing: None,
    }
}

fn written(
    blueprint: &Blueprint,
    bindings: &[Bind],
) -> std::result::Result<String, std::fmt::Error> {
    let mut text = String::new();
    let four = blueprint.width == 4;
    for (alias, one) in ALIASES {
        match four {
            true => writeln!(text, "alias {alias} = vec4<{one}>;")?,
            false => writeln!(text, "alias {alias} = {one};")?,
        }
    }
    blueprint.overrides(&mut text)?;
    let values = values(blueprint);
    let outputs = values.len() + blueprint.new_outputs().len();
    let by_fours = |at: usize| match values.get(at) {
        Some(&place) => blueprint.by_fours(place),
        None => at < outputs,
    };
    let element = |at, one: &'static str| match four && by_fours(at) {
        true => format!("vec4<{one}>"),
        false => one.into(),
    };
    declarations(bindings, 0, element, &mut text)?;
    text += include_str!("../../../shaders/shared/grid.wgsl");
    if blueprint.program.draws() {
        text += include_str!("../../../shaders/shared/rng.wgsl");
    }
    text += FUNCTIONS;
    let variables: Vec<String> = blueprint
        .inputs
        .iter()
        .map(|input| format!("x{}", input.value))
        .collect();
    for (place, name) in variables.iter().enumerate() {
        blueprint.function(place, name, &mut text)?;
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
    if blueprint.program.reads_step() {
        writeln!(text, "    let now = step[2u * replica + 1u];")?;
    }
    blueprint.draws(&mut text)?;
    let lines = Lines {
        blueprint,
        variables: &variables,
    };
    text += &body(&blueprint.program, &lines, "    ", |_| true);
    for (k, line) in blueprint.program.outputs().iter().enumerate() {
        let to = match blueprint.over(k) {
            Some(place) => blueprint.element(place, &variables[place]),
            None => format!("y{k}[own]"),
        };
        writeln!(text, "    {to} = v{line};")?;
    }
    text += "}\n";
    Ok(text)
}
