//! Lowering: graph → plan.
//!
//! 1. Fusion (`fuse`) rewrites the graph: what one kernel can do becomes one node.
//! 2. Every node becomes a launch, or nothing (views).
//! 3. Temporaries get buffers by liveness (`memory`): a buffer is free again after
//!    the launch that reads its value last.

use std::collections::{BTreeMap, HashMap};

use crate::error::{Error, Result};
use crate::exec::DeviceInfo;
use crate::graph::{Graph, Handle, Program};
use crate::kernel::{Kernel, Target};
use crate::ops::{GraphId, Lowered, Lowering, Operand, Stages, Value};
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

impl Options {
    /// For a device: one replica, fused.
    pub fn on(device: &DeviceInfo) -> Self {
        Self {
            replicas: 1,
            fuse: true,
            limits: device.limits,
        }
    }
}

/// A graph compiled: its plan, and where in it the graph's handles lead.
#[derive(Clone, Debug)]
pub struct Compiled {
    graph: GraphId,
    plan: Plan,
    /// The buffers of variables and results.
    places: HashMap<Value, usize>,
    /// The programs' names in the graph's order.
    programs: Vec<String>,
}

impl Compiled {
    /// [`compile`], with the handles.
    ///
    /// # Errors
    /// As [`compile`].
    pub fn new(graph: &Graph, options: &Options) -> Result<Self> {
        lower(graph, options)
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The plan without the handles.
    pub fn into_plan(self) -> Plan {
        self.plan
    }

    /// The buffer that a handle leads to.
    ///
    /// # Errors
    /// [`Error::Setting`] for a handle of another graph, or one younger than this plan.
    pub fn buffer<T>(&self, handle: Handle<T>) -> Result<usize> {
        self.place(handle.value())
    }

    pub(crate) fn place(&self, value: Value) -> Result<usize> {
        self.own(value.graph, "handle")?;
        let place = self.places.get(&value).copied();
        place.ok_or_else(|| late("handle"))
    }

    /// The name in the plan of the program that a handle leads to.
    ///
    /// # Errors
    /// As [`Compiled::buffer`].
    pub fn program(&self, handle: Program) -> Result<&str> {
        self.own(handle.graph, "program")?;
        let name = self.programs.get(handle.index);
        name.map(String::as_str).ok_or_else(|| late("program"))
    }

    fn own(&self, graph: GraphId, what: &str) -> Result<()> {
        if graph == self.graph {
            return Ok(());
        }
        let wanted = "one of the graph that was compiled";
        Err(Error::setting(what, "one of another graph", wanted))
    }
}

fn late(what: &str) -> Error {
    let found = "one that its graph made after it was compiled";
    Error::setting(what, found, "one that was there")
}

/// Compiles every program of a graph into one checked plan.
///
/// # Errors
/// [`Error::Setting`] for no replicas, [`Error::Plan`] and [`Error::Adapter`] from the
/// plan's checker.
pub fn compile(graph: &Graph, options: &Options) -> Result<Plan> {
    lower(graph, options).map(Compiled::into_plan)
}

fn lower(graph: &Graph, options: &Options) -> Result<Compiled> {
    if options.replicas == 0 || options.replicas > 65_535 {
        return Err(Error::setting("replicas", options.replicas, "1 to 65535"));
    }
    let mut nodes = fuse::Nodes::of(graph, &options.limits)?;
    nodes.drop_dead();
    if options.fuse {
        fuse::fuse(&mut nodes)?;
        nodes.drop_dead();
    }
    let mut lowerings = nodes.finish()?;
    let mut allocation = memory::Allocation::new(&nodes);
    let mut programs = BTreeMap::new();
    for (p, name) in graph.programs().iter().enumerate() {
        let mut launches = Vec::new();
        for (i, node) in nodes.nodes.iter().enumerate() {
            let Some(node) = node.as_ref().filter(|n| n.program == Some(p)) else {
                continue;
            };
            let number = launches.len();
            let wrong = |found: String, wanted: &str| Error::Plan {
                launch: number,
                label: node.label.clone(),
                found,
                wanted: wanted.into(),
            };
            let stages = match lowerings[i].take() {
                None => continue,
                Some(Lowering::View) => {
                    let (Some(&of), [ty]) = (node.inputs.first(), &node.outputs[..]) else {
                        let found = format!("a view with {} outputs", node.outputs.len());
                        return Err(wrong(found, "one input or more and one output"));
                    };
                    let source = nodes.known(of)?;
                    let alike = (source.dtype, source.shared) == (ty.dtype, ty.shared);
                    if !alike || source.elements() != ty.elements() {
                        let found = format!("a view of {source} as {ty}");
                        return Err(wrong(found, "as many elements of the same type"));
                    }
                    allocation.alias(i, of);
                    continue;
                }
                Some(Lowering::Launch(lowered)) => Stages {
                    scratch: vec![],
                    launches: vec![lowered],
                },
                Some(Lowering::Stages(stages)) => stages,
            };
            allocation.enter(i, node);
            let scratch = stages.scratch.iter();
            let scratch: Vec<usize> = scratch.map(|ty| allocation.scratch(ty)).collect();
            for lowered in stages.launches {
                let mut lowered = within(lowered, options.limits.turns);
                // Gradients may be too small for f16.
                let fits = |target| !matches!(target, Target::MatrixUnits { scaled: true, .. });
                lowered
                    .alternatives
                    .retain(|other| graph.is_scaled() || fits(other.target));
                let kernel = lowered.kernel;
                let binding = |operand: &Operand| {
                    let value = match *operand {
                        Operand::In(k) => node.inputs.get(k).copied(),
                        Operand::Out(k) => (k < node.outputs.len()).then(|| nodes.value(i, k)),
                        Operand::Scratch(k) => {
                            let of = scratch.get(k).zip(stages.scratch.get(k));
                            let Some((&buffer, ty)) = of else {
                                let found = format!("operand {operand:?} of {}", kernel.name);
                                return Err(wrong(found, "a scratch buffer that the op has"));
                            };
                            return Ok(Binding {
                                buffer,
                                elements: ty.elements(),
                            });
                        }
                    };
                    let Some(value) = value else {
                        let found = format!("operand {operand:?} of {}", kernel.name);
                        return Err(wrong(found, "an input or output that the op has"));
                    };
                    Ok(Binding {
                        buffer: allocation.buffer(value),
                        elements: nodes.known(value)?.elements(),
                    })
                };
                let bindings = lowered.operands.iter().map(binding);
                let bindings = bindings.collect::<Result<_>>()?;
                let copies = options.replicas;
                let grid = |[x, y]: [u32; 2]| [x, y, copies as u32];
                let alternatives = lowered.alternatives.into_iter();
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
                            target: other.target,
                            constants: other.constants,
                            grid: grid(other.grid),
                        })
                        .collect(),
                });
            }
            scratch.into_iter().for_each(|b| allocation.discard(b));
            allocation.leave(i);
        }
        if programs.insert(name.clone(), launches).is_some() {
            return Err(Error::setting("program", name, "a name not yet taken"));
        }
        allocation.end_program();
    }
    // Fusion may have given a result's value to another node; its handle has the graph's.
    let results = graph.results().iter().zip(&nodes.kept);
    let results = results.map(|((_, value), (_, now))| (*value, *now));
    let variables = graph.variables().map(|value| (value, value));
    let lasting = |(value, now)| Some((value, allocation.lasting(now)?));
    let places = results.chain(variables).filter_map(lasting).collect();
    let plan = Plan {
        replicas: options.replicas,
        buffers: allocation.into_buffers(),
        programs,
    };
    plan.check(&options.limits)?;
    Ok(Compiled {
        graph: graph.id(),
        plan,
        places,
        programs: graph.programs().to_vec(),
    })
}

/// The launch without the variants in which a thread's loops take more turns than `turns`. Where its
/// own kernel is such a variant, another that any adapter compiles stands in for it; where there is
/// none, the launch stays as it is and the plan's checker refuses it.
fn within(mut lowered: Lowered, turns: u64) -> Lowered {
    let long = |kernel: &Kernel, constants: &[(&str, f64)]| {
        kernel.turns_by(constants).is_some_and(|t| t > turns)
    };
    lowered
        .alternatives
        .retain(|variant| !long(variant.kernel, &variant.constants));
    if long(lowered.kernel, &lowered.constants) {
        let anywhere = |target| matches!(target, Target::Gpu | Target::Processor);
        let other = lowered
            .alternatives
            .iter()
            .position(|variant| anywhere(variant.target));
        if let Some(other) = other {
            let variant = lowered.alternatives.remove(other);
            lowered.kernel = variant.kernel;
            lowered.constants = variant.constants;
            lowered.grid = variant.grid;
        }
    }
    lowered
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
