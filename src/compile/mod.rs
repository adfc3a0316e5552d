//! Lowering: graph → plan.
//!
//! 1. Fusion (`fuse`) rewrites the graph: what one kernel can do becomes one node.
//! 2. Every node becomes a launch, or nothing (views).
//! 3. Temporaries get buffers by liveness (`memory`): a buffer is free again after
//!    the launch that reads its value last.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::graph::{Graph, Kind, Node};
use crate::ops::{Operand, Value};
use crate::plan::{Alternative, Binding, Buffer, Launch, Limits, Plan, Role};
use crate::shape::Type;

mod fuse;
mod memory;

/// How a graph is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many networks are trained at once (contract: a replica's result does not
    /// depend on this).
    pub replicas: usize,
    /// Whether ops are fused. Off, every op is a launch of its own.
    pub fuse: bool,
    /// The limits that the plan must keep to.
    pub limits: Limits,
}

/// Compiles every program of a graph into one checked plan.
///
/// # Errors
/// [`Error::Setting`] for no replicas, [`Error::Plan`] and [`Error::Adapter`] from the
/// plan's checker.
pub fn compile(graph: &Graph, options: &Options) -> Result<Plan> {
    if options.replicas == 0 || options.replicas > 65_535 {
        return Err(Error::setting("replicas", options.replicas, "1 to 65535"));
    }
    let mut nodes = fuse::Nodes::of(graph);
    nodes.drop_dead();
    if options.fuse {
        fuse::fuse(&mut nodes);
        nodes.drop_dead();
    }
    let fuse::Nodes { nodes, kept } = nodes;
    let mut allocation = memory::Allocation::new(&nodes, &kept);
    let mut programs = BTreeMap::new();
    for (p, name) in graph.programs().iter().enumerate() {
        let mut launches = Vec::new();
        for (i, node) in nodes.iter().enumerate() {
            let Some(node) = node.as_ref().filter(|n| n.program == Some(p)) else {
                continue;
            };
            let Kind::Op(op) = &node.kind else { continue };
            let inputs: Vec<Type> = node
                .inputs
                .iter()
                .map(|&v| ty(&nodes, v).cloned())
                .collect::<Result<_>>()?;
            let Some(lowered) = op.lower(&inputs, &node.outputs) else {
                allocation.alias(i, node.inputs[0]);
                continue;
            };
            allocation.enter(i, node);
            let kernel = lowered.kernel;
            let bindings = lowered
                .operands
                .iter()
                .map(|operand| {
                    let (value, ty) = match *operand {
                        Operand::In(k) => (node.inputs[k], &inputs[k]),
                        Operand::Out(output) => (Value { node: i, output }, &node.outputs[output]),
                    };
                    Binding {
                        buffer: allocation.buffer(value),
                        elements: ty.elements(),
                    }
                })
                .collect();
            let copies = options.replicas;
            let grid = |[x, y]: [u32; 2]| [x, y, copies as u32];
            let alternatives = op.alternatives(&inputs, &node.outputs).into_iter();
            launches.push(Launch {
                label: node.label.clone(),
                kernel,
                grid: grid(lowered.grid),
                constants: lowered.constants,
                bindings,
                flops: lowered.flops * copies as u64,
                alternatives: alternatives
                    .map(|other| Alternative {
                        kernel: other.kernel,
                        suits: other.suits,
                        constants: other.constants,
                        grid: grid(other.grid),
                    })
                    .collect(),
            });
            allocation.leave(i);
        }
        if programs.insert(name.clone(), launches).is_some() {
            return Err(Error::setting("program", name, "a name not yet taken"));
        }
        allocation.end_program();
    }
    let plan = Plan {
        replicas: options.replicas,
        buffers: allocation.into_buffers(),
        programs,
    };
    plan.check(&options.limits)?;
    Ok(plan)
}

fn ty(nodes: &[Option<Node>], value: Value) -> Result<&Type> {
    nodes[value.node]
        .as_ref()
        .and_then(|n| n.outputs.get(value.output))
        .ok_or_else(|| Error::Plan {
            launch: value.node,
            label: "compile".into(),
            found: "a value of a node that fusion removed".into(),
            wanted: "every use of a removed node rewritten".into(),
        })
}

/// The buffer of a variable.
fn variable(name: &str, ty: &Type) -> Buffer {
    Buffer {
        name: name.into(),
        dtype: ty.dtype,
        elements: ty.elements(),
        shared: ty.shared,
        role: Role::State,
    }
}
