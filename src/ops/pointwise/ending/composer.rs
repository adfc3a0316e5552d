//! The composer: a core's module with the functions of its ports, their bindings numbered behind the core's, and
//! nothing in it that the core does not call.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::cpu::{Core, OnCpu};
use crate::error::{Error, Result};
use crate::expr::{FUNCTIONS, Form, Layout, body};
use crate::kernel::{Access, Bind, Kernel, Port, Reference};
use crate::ops::pointwise::blueprint::{
    ALIASES, Blueprint, HANDED_OVER, Lines, Places, declarations, kept,
};
use crate::shape::DType;

/// An ending in the making.
pub(super) struct Piece {
    pub(super) port: usize,
    pub(super) blueprint: Blueprint,
    /// The variables of its inputs.
    pub(super) variables: Vec<String>,
    /// Those of its new outputs.
    pub(super) outputs: Vec<String>,
    /// How the port's binding is used.
    pub(super) access: Access,
}

/// A core's port, of floats.
pub(super) fn port_of(core: &Kernel, number: usize) -> Result<Port> {
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

pub(super) fn without_port(core: &Kernel, found: &str) -> Error {
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
pub(super) fn composed(
    core: &'static Kernel,
    pieces: &[Piece],
    extras: &[Bind],
) -> Result<&'static Kernel> {
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
        demand: core.demand,
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
        text += include_str!("../../../../shaders/shared/rng.wgsl");
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
