//! Expressions on the CPU: each line is a loop over a few hundred elements, which stay in the
//! cache until the last line has read them.

use smallvec::SmallVec;

use super::{Program, bounds, scalar};
use crate::kernel::{Args, Compute, NOW, Side, Slot, Tolerance};
use crate::rng::BLOCKS;
use crate::tensor::Real;
use crate::threads::prelude::*;

mod affine;
mod element;
mod launch;
mod loops;
mod part;
mod places;
mod room;
mod runs;

use affine::Affine;
use element::Element;
use loops::truth;
pub(crate) use part::Part;
use places::Place;
use room::{Room, with_room};
use runs::Runs;

/// Elements of one turn through the lines: a multiple of what [`Stream::many_words`] draws.
const CHUNK: usize = 8 * 4 * BLOCKS;
/// Elements of one task of the threads.
const TASK: usize = 16 * CHUNK;
/// Work that is worth handing to several threads, in additions.
const WORTH_SHARING: usize = 1 << 17;

/// How an input's elements belong to the results' elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Layout {
    /// One for one.
    Each,
    /// One for all.
    One,
    /// Along so many of the results' axes: see [`Constants::axes`].
    Along(usize),
    /// By an index ([`Form::At`]).
    Table,
    /// The elements that a core hands over one by one, which have no binding.
    Given,
}

/// An input of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Operand {
    /// Its place among the launch's bindings.
    pub slot: usize,
    pub access: Layout,
    /// Whether its elements are integers.
    pub integer: bool,
    /// Whether all replicas share one copy.
    pub shared: bool,
    /// Which output is written over it.
    pub updated_by: Option<usize>,
    /// Which part of its binding it is.
    pub plane: Plane,
}

/// One of several parts of equal size that a binding consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Plane {
    pub number: usize,
    pub of: usize,
}

impl Plane {
    /// A binding that has no parts.
    pub(crate) const WHOLE: Self = Self { number: 0, of: 1 };

    /// This part of a binding's elements.
    fn part<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        let size = all.len() / self.of;
        &all[self.number * size..][..size]
    }
}

/// The names of a launch's constants.
#[derive(Debug)]
pub(crate) struct Constants {
    /// How many elements there are.
    pub n: &'static str,
    /// Of [`Form::Parameter`].
    pub parameters: Vec<&'static str>,
    /// Of the streams that are drawn from.
    pub streams: Vec<&'static str>,
    /// Of the thresholds of chances.
    pub thresholds: Vec<&'static str>,
    /// DIV, EXTENT and STRIDE of each input's axes: element i of the results belongs to the input's
    /// element Σ (i / DIV mod EXTENT) · STRIDE.
    pub axes: Vec<Vec<[&'static str; 3]>>,
}

/// A program over the bindings of a launch.
#[derive(Debug)]
pub(crate) struct Machine {
    program: Program,
    inputs: Vec<Operand>,
    /// The binding that each output is written to, and its part of it.
    outputs: Vec<(usize, Plane)>,
    keys: Option<usize>,
    step: Option<usize>,
    names: Constants,
    places: Vec<Place>,
    /// The lines that are computed for each chunk.
    active: Vec<usize>,
    registers: usize,
    /// What an element costs, in additions.
    work: usize,
    /// What it is in one loop, if it is that.
    affine: Option<Affine>,
}

/// The memory of a launch's outputs.
pub(crate) type Outputs<'a, T> = SmallVec<[&'a mut [T]; 4]>;

/// Outputs cut into parts of so many elements.
fn parts<T>(outputs: Outputs<'_, T>, elements: usize) -> Vec<Outputs<'_, T>> {
    let n = outputs[0].len();
    let mut tasks: Vec<Outputs<'_, T>> =
        (0..n.div_ceil(elements)).map(|_| SmallVec::new()).collect();
    for output in outputs {
        for (task, part) in tasks.iter_mut().zip(output.chunks_mut(elements)) {
            task.push(part);
        }
    }
    tasks
}

/// What a launch gives, ready to be read.
pub(crate) struct Launch<'m, 'a, T> {
    machine: &'m Machine,
    floats: SmallVec<[&'a [T]; 8]>,
    integers: SmallVec<[&'a [u32]; 8]>,
    axes: SmallVec<[SmallVec<[[usize; 3]; 2]>; 8]>,
    keys: &'a [u32],
    now: u32,
    streams: SmallVec<[u32; 4]>,
    thresholds: SmallVec<[u32; 4]>,
    parameters: SmallVec<[f64; 8]>,
    uniform: SmallVec<[T; 24]>,
    runs: Runs,
}

impl Machine {
    pub(crate) fn new(
        program: Program,
        inputs: Vec<Operand>,
        outputs: Vec<(usize, Plane)>,
        [keys, step]: [Option<usize>; 2],
        names: Constants,
    ) -> Self {
        let mut machine = Self {
            program,
            inputs,
            outputs,
            keys,
            step,
            names,
            places: vec![],
            active: vec![],
            registers: 0,
            work: 0,
            affine: None,
        };
        machine.place();
        machine.active = machine.computed();
        machine.affine = Affine::of(&machine);
        machine
    }

    /// Computes a launch for one replica.
    pub(crate) fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let n = args.size(self.names.n);
        let mut outputs = self.outputs(args);
        let launch = self.launch(args);
        if n <= 2 * TASK || n * self.work < WORTH_SHARING {
            launch.part(0, &mut outputs, &[]);
            return;
        }
        let tasks = parts(outputs, TASK).into_par_iter().enumerate();
        tasks.share(|(i, mut parts)| launch.part(i * TASK, &mut parts, &[]));
    }

    /// The memory of the outputs, which leaves the list of bindings.
    fn outputs<'a, T: Real>(&self, args: &mut Args<'a, T>) -> Outputs<'a, T> {
        let mut taken: SmallVec<[(usize, Outputs<'a, T>); 4]> = SmallVec::new();
        for &(slot, plane) in &self.outputs {
            if !taken.iter().any(|(other, _)| *other == slot) {
                let all = args.f_mut(slot);
                let size = all.len() / plane.of;
                taken.push((slot, all.chunks_exact_mut(size.max(1)).collect()));
            }
        }
        let part = |&(slot, plane): &(usize, Plane)| {
            let parts = taken.iter_mut().find(|(other, _)| *other == slot);
            let part = parts.and_then(|(_, parts)| parts.get_mut(plane.number));
            part.map(std::mem::take).unwrap_or_default()
        };
        self.outputs.iter().map(part).collect()
    }

    /// Computes a launch for one replica from the elements that a core has made.
    pub(crate) fn finish<T: Real>(&self, args: &mut Args<'_, T>, given: &[T]) {
        let (launch, mut outputs) = self.launch_over(args);
        let n = given.len();
        if n <= 2 * TASK || n * self.work < WORTH_SHARING {
            launch.part(0, &mut outputs, given);
            return;
        }
        let tasks = parts(outputs, TASK).into_par_iter().enumerate();
        tasks.share(|(i, mut parts)| {
            let given = &given[i * TASK..][..parts[0].len()];
            launch.part(i * TASK, &mut parts, given);
        });
    }

    /// What finishes the elements of a launch for one replica, of which it takes the outputs.
    pub(crate) fn launch_over<'m, 'a, T: Real>(
        &'m self,
        args: &mut Args<'a, T>,
    ) -> (Launch<'m, 'a, T>, Outputs<'a, T>) {
        let outputs = self.outputs(args);
        (self.launch(args), outputs)
    }

    /// What a device may be off by, over all elements and outputs of one replica.
    /// Elements that a core hands over are `given`, off by `error`.
    pub(crate) fn tolerance(
        &self,
        args: &Args<'_, f64>,
        side: Side,
        (given, error): (&[f64], f64),
    ) -> Tolerance {
        let n = args.size(self.names.n);
        let view = Args {
            constants: args.constants,
            slots: args.slots.iter().map(Slot::view).collect(),
        };
        let launch = &self.launch(&view);
        let element = |i| Element {
            launch,
            i,
            given,
            error,
        };
        let mut tolerance = Tolerance::default();
        for i in 0..n {
            let mut known = true;
            for (_, error) in bounds(&self.program, &element(i), side) {
                // Where nothing is known of an element, it says nothing about the others.
                match error.is_finite() {
                    true => tolerance.off = tolerance.off.max(error),
                    false => known = false,
                }
            }
            if !known {
                tolerance.unknown.push([i, n]);
            }
        }
        tolerance
    }

    fn launch<'m, 'a, T: Real>(&'m self, args: &Args<'a, T>) -> Launch<'m, 'a, T> {
        let words =
            |names: &[&'static str]| names.iter().map(|name| args.size(name) as u32).collect();
        let mut launch = Launch {
            machine: self,
            floats: SmallVec::new(),
            integers: SmallVec::new(),
            axes: SmallVec::new(),
            keys: self.keys.map_or(&[], |slot| args.u(slot)),
            now: self.step.map_or(0, |slot| args.u(slot)[NOW]),
            streams: words(&self.names.streams),
            thresholds: words(&self.names.thresholds),
            parameters: self
                .names
                .parameters
                .iter()
                .map(|name| args.number(name))
                .collect(),
            uniform: smallvec::smallvec![T::ZERO; self.program.forms().len()],
            runs: Runs::default(),
        };
        for (input, axes) in self.inputs.iter().zip(&self.names.axes) {
            let (floats, integers): (&[T], &[u32]) = match args.slots.get(input.slot) {
                Some(Slot::F(v)) => (v, &[]),
                Some(Slot::U(v)) => (&[], v),
                // It is given, or being updated: read where it is written.
                _ => (&[], &[]),
            };
            launch.floats.push(input.plane.part(floats));
            launch.integers.push(integers);
            let sizes = |names: &[&'static str; 3]| names.map(|name| args.size(name));
            launch.axes.push(axes.iter().map(sizes).collect());
        }
        for line in 0..self.program.forms().len() {
            if self.places[line] == Place::Uniform {
                launch.uniform[line] = launch.alone(line, 0, &launch.uniform);
            }
        }
        launch.runs = Runs::of(&launch);
        launch
    }
}

impl Compute for Machine {
    fn f32(&self, args: &mut Args<'_, f32>) {
        self.run(args);
    }
    fn f64(&self, args: &mut Args<'_, f64>) {
        self.run(args);
    }
    fn tolerance(&self, args: &Args<'_, f64>, side: Side, _: f64) -> Tolerance {
        Machine::tolerance(self, args, side, (&[], 0.0))
    }
}
