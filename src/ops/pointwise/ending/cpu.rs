//! Endings on the CPU: the core's own function into memory of its own, then the expression over
//! that; or, where a core has a function that hands its elements over while they are near, that one.

use smallvec::SmallVec;

use crate::expr::{Machine, Part};
use crate::kernel::{Args, BINDINGS, Compute, Finish, Kernel, Side, Slot, Tolerance};
use crate::tensor::Real;

/// An ending of a core's port.
pub(super) struct OnCpu {
    pub binding: usize,
    /// Whether the core reads what is there.
    pub before: bool,
    pub machine: Machine,
}

/// A core with endings.
pub(super) struct Core {
    pub core: &'static Kernel,
    pub ports: Vec<OnCpu>,
}

impl Core {
    fn port(&self, binding: usize) -> Option<usize> {
        self.ports.iter().position(|port| port.binding == binding)
    }

    /// Computes the core without endings. Returns each port's elements.
    fn bare<T: Real>(
        &self,
        args: &mut Args<'_, T>,
        run: impl FnOnce(&mut Args<'_, T>),
    ) -> Vec<Vec<T>> {
        let memory = |port: &OnCpu| match &args.slots[port.binding] {
            Slot::FMut(v) if port.before => v.to_vec(),
            Slot::FMut(v) => vec![T::of(f64::NAN); v.len()],
            _ => vec![],
        };
        let mut made: Vec<Vec<T>> = self.ports.iter().map(memory).collect();
        let mut rooms: Vec<Option<&mut Vec<T>>> = made.iter_mut().map(Some).collect();
        let mut slots: SmallVec<[Slot<'_, T>; BINDINGS]> = SmallVec::new();
        for binding in 0..self.core.bindings.len() {
            let room = self.port(binding).and_then(|port| rooms[port].take());
            slots.push(match room {
                Some(room) => Slot::FMut(room),
                None => own(&mut args.slots[binding]),
            });
        }
        run(&mut Args {
            constants: args.constants,
            slots,
        });
        made
    }

    /// The core, then the endings of all elements.
    fn one_by_one<T: Real>(&self, args: &mut Args<'_, T>, run: impl FnOnce(&mut Args<'_, T>)) {
        let made = self.bare(args, run);
        for (port, given) in self.ports.iter().zip(&made) {
            port.machine.finish(args, given);
        }
    }
}

/// What a core may have of a binding: inputs stay, an output leaves the list.
fn own<'a, T>(slot: &mut Slot<'a, T>) -> Slot<'a, T> {
    match slot {
        Slot::F(v) => Slot::F(v),
        Slot::U(v) => Slot::U(v),
        other => std::mem::take(other),
    }
}

impl Compute for Core {
    fn f32(&self, args: &mut Args<'_, f32>) {
        self.one_by_one(args, |args| self.core.reference.f32(args));
    }

    fn f64(&self, args: &mut Args<'_, f64>) {
        self.one_by_one(args, |args| self.core.reference.f64(args));
    }

    fn optimized(&self, args: &mut Args<'_, f32>) {
        let Some(finishing) = self.core.finishing else {
            return self.one_by_one(args, |args| match self.core.optimized {
                Some(optimized) => optimized(args),
                None => self.core.reference.optimized(args),
            });
        };
        let mut launches = Vec::with_capacity(self.ports.len());
        let mut outputs = Vec::with_capacity(self.ports.len());
        for port in &self.ports {
            let (launch, memory) = port.machine.launch_over(args);
            launches.push(launch);
            outputs.push(memory);
        }
        let parts = launches.iter().zip(outputs);
        let parts = parts.map(|(launch, memory)| -> Box<dyn Finish + '_> {
            Box::new(Part::whole(launch, memory))
        });
        let parts = parts.collect();
        let slots = args.slots.iter_mut().take(self.core.bindings.len());
        let mut args = Args {
            constants: args.constants,
            slots: slots.map(own).collect(),
        };
        finishing(&mut args, parts);
    }

    fn tolerance(&self, args: &Args<'_, f64>, side: Side, core: f64) -> Tolerance {
        // The core runs on copies: what it is computed from is looked at again.
        let copied = |slot: &Slot<'_, f64>| match slot {
            Slot::FMut(v) => (v.to_vec(), vec![]),
            Slot::UMut(v) => (vec![], v.to_vec()),
            _ => (vec![], vec![]),
        };
        let mut memory: Vec<(Vec<f64>, Vec<u32>)> = args.slots.iter().map(copied).collect();
        let slots = args.slots.iter().zip(&mut memory);
        let mut copy = Args {
            constants: args.constants,
            slots: slots
                .map(|(slot, (floats, integers))| match slot {
                    Slot::FMut(_) => Slot::FMut(floats),
                    Slot::UMut(_) => Slot::UMut(integers),
                    other => other.view(),
                })
                .collect(),
        };
        let made = self.bare(&mut copy, |args| self.core.reference.f64(args));
        drop(copy);
        let inputs = args.slots.iter().filter_map(|slot| match slot {
            Slot::F(v) => Some(*v),
            Slot::FMut(v) => Some(&**v),
            _ => None,
        });
        let largest = |of: &[f64]| {
            let finite = of.iter().filter(|x| x.is_finite());
            finite.fold(0.0, |m: f64, x| m.max(x.abs()))
        };
        let all = inputs.chain(made.iter().map(Vec::as_slice));
        let own = all.map(largest).fold(0.0, f64::max);
        // What the core makes beside its elements, such as losses beside their slopes.
        let beside = memory.iter().map(|(floats, _)| largest(floats));
        let beside = beside.fold(0.0, f64::max);
        let error = core * own;
        let of_port =
            |(port, given): (&OnCpu, &Vec<f64>)| port.machine.tolerance(args, side, (given, error));
        let ports = self.ports.iter().zip(&made).map(of_port);
        let own = Tolerance {
            off: core * own.max(beside),
            unknown: vec![],
        };
        ports.fold(own, Tolerance::and)
    }
}
