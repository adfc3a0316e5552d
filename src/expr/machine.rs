//! Expressions on the CPU: each line is a loop over a few hundred elements, which stay in the
//! cache until the last line has read them.

use smallvec::SmallVec;

use super::error::Given;
use super::{Binary, Form, Program, Unary, bounds, scalar};
use crate::kernel::{Args, Compute, NOW, Side, Slot};
use crate::rng::{BLOCKS, Stream, uniform};
use crate::tensor::Real;
use crate::threads::prelude::*;

mod loops;

use loops::{Values, binary, both, compare, each, select, truth, unary};

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
}

/// The names of a launch's constants, beside `N`.
#[derive(Debug)]
pub(crate) struct Constants {
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
    /// The binding that each output is written to.
    outputs: Vec<usize>,
    keys: Option<usize>,
    step: Option<usize>,
    names: Constants,
    places: Vec<Place>,
    registers: usize,
    /// What an element costs, in additions.
    work: usize,
}

/// Where a line's values are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// The same for all elements.
    Uniform,
    /// In the input's own memory.
    Input,
    /// In the memory of this output.
    Output(usize),
    Register(usize),
}

/// What a launch gives, ready to be read.
struct Launch<'m, 'a, T> {
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
}

impl Machine {
    pub(crate) fn new(
        program: Program,
        inputs: Vec<Operand>,
        outputs: Vec<usize>,
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
            registers: 0,
            work: 0,
        };
        machine.place();
        machine
    }

    /// Gives every line a place; a register is free again after the last line that reads it.
    fn place(&mut self) {
        let forms = self.program.forms();
        let mut last = vec![0; forms.len()];
        for (line, form) in forms.iter().enumerate() {
            form.map(|operand| last[operand as usize] = line);
        }
        for &output in self.program.outputs() {
            last[output as usize] = usize::MAX;
        }
        let mut free: Vec<usize> = vec![];
        let mut taken = std::collections::HashSet::new();
        for (line, &form) in forms.iter().enumerate() {
            let operands = form.operands();
            let constant = |&o: &u32| self.places[o as usize] == Place::Uniform;
            let uniform = match form {
                Form::Constant(_) | Form::Parameter(_) | Form::Step => true,
                Form::Input(k) => self.inputs[k as usize].access == Layout::One,
                Form::Uniform(_) | Form::Chance(..) => false,
                _ => operands.iter().all(constant),
            };
            let output = self
                .program
                .outputs()
                .iter()
                .position(|&o| o as usize == line);
            // A result that is written over an input must wait until nobody reads that input.
            let over = |k: usize| self.inputs.iter().any(|i| i.updated_by == Some(k));
            let place = match (form, output) {
                _ if uniform => Place::Uniform,
                (Form::Input(k), _) if self.is_direct(k) => Place::Input,
                (_, Some(k)) if !over(k) && taken.insert(k) => Place::Output(k),
                _ => Place::Register(free.pop().unwrap_or_else(|| {
                    self.registers += 1;
                    self.registers - 1
                })),
            };
            self.places.push(place);
            self.work += match (place, form) {
                (Place::Uniform | Place::Input, _) => 0,
                (_, Form::Uniform(_) | Form::Chance(..) | Form::Binary(Binary::Pow, ..)) => 16,
                (_, Form::Unary(Unary::Neg | Unary::Abs | Unary::Sign | Unary::Relu, _)) => 1,
                (_, Form::Unary(..)) => 16,
                _ => 1,
            };
            for operand in operands {
                if let Place::Register(r) = self.places[operand as usize]
                    && last[operand as usize] == line
                    && !free.contains(&r)
                {
                    free.push(r);
                }
            }
        }
    }

    /// Whether an input's elements can be read where they are.
    fn is_direct(&self, input: u32) -> bool {
        let Operand {
            access,
            integer,
            updated_by,
            ..
        } = &self.inputs[input as usize];
        *access == Layout::Each && !integer && updated_by.is_none()
    }

    /// Computes a launch for one replica.
    pub(crate) fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let n = args.size("N");
        let mut outputs: SmallVec<[&mut [T]; 4]> =
            self.outputs.iter().map(|&slot| args.f_mut(slot)).collect();
        let launch = self.launch(args);
        if n <= 2 * TASK || n * self.work < WORTH_SHARING {
            launch.part(0, &mut outputs);
            return;
        }
        let mut tasks: Vec<SmallVec<[&mut [T]; 4]>> =
            (0..n.div_ceil(TASK)).map(|_| SmallVec::new()).collect();
        for output in outputs {
            for (task, part) in tasks.iter_mut().zip(output.chunks_mut(TASK)) {
                task.push(part);
            }
        }
        let tasks = tasks.into_par_iter().enumerate();
        tasks.for_each(|(i, mut parts)| launch.part(i * TASK, &mut parts));
    }

    /// What a device may be off by, over all elements and outputs of one replica.
    pub(crate) fn tolerance(&self, args: &Args<'_, f64>, side: Side) -> f64 {
        let n = args.size("N");
        let launch = self.launch(args);
        let off = (0..n).flat_map(|i| bounds(&self.program, &Element { launch: &launch, i }, side));
        // Where nothing is known of an element, it says nothing about the others.
        let known = off
            .map(|(_, error)| error)
            .filter(|error| error.is_finite());
        known.fold(0.0, f64::max)
    }

    fn launch<'m, 'b, T: Real>(&'m self, args: &'b Args<'_, T>) -> Launch<'m, 'b, T> {
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
        };
        for (input, axes) in self.inputs.iter().zip(&self.names.axes) {
            let (floats, integers): (&[T], &[u32]) = match &args.slots[input.slot] {
                Slot::F(v) => (v, &[]),
                Slot::FMut(v) => (v, &[]),
                Slot::U(v) => (&[], v),
                // It is being updated: read where it is written.
                _ => (&[], &[]),
            };
            launch.floats.push(floats);
            launch.integers.push(integers);
            let sizes = |names: &[&'static str; 3]| names.map(|name| args.size(name));
            launch.axes.push(axes.iter().map(sizes).collect());
        }
        for (line, &form) in self.program.forms().iter().enumerate() {
            if self.places[line] == Place::Uniform {
                let of = |line: u32| launch.uniform[line as usize];
                launch.uniform[line] = match form {
                    Form::Constant(bits) => T::of(f64::from_bits(bits)),
                    Form::Parameter(k) => T::of(launch.parameters[k as usize]),
                    Form::Step => T::of(f64::from(launch.now)),
                    Form::Input(k) => launch.element(k, 0),
                    Form::At(k, index) => launch.at(k, of(index).wide()),
                    Form::Unary(op, a) => scalar::unary(op, of(a)),
                    Form::Binary(op, a, b) => scalar::binary(op, of(a), of(b)),
                    Form::Compare(op, a, b) => truth(scalar::compare(op, of(a), of(b))),
                    Form::Not(a) => truth(of(a) == T::ZERO),
                    Form::And(a, b) => of(a) * of(b),
                    Form::Or(a, b) => Real::max(of(a), of(b)),
                    Form::Select(c, a, b) => {
                        if of(c) == T::ZERO {
                            of(b)
                        } else {
                            of(a)
                        }
                    }
                    // Not the same for all elements.
                    Form::Uniform(_) | Form::Chance(..) => T::ZERO,
                };
            }
        }
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
    fn tolerance(&self, args: &Args<'_, f64>, side: Side) -> f64 {
        Machine::tolerance(self, args, side)
    }
}

impl<T: Real> Launch<'_, '_, T> {
    /// Where element `i` of the results has its element of an input.
    fn place(&self, input: u32, i: usize) -> usize {
        match self.machine.inputs[input as usize].access {
            Layout::Each | Layout::Table => i,
            Layout::One => 0,
            Layout::Along(_) => {
                let axes = self.axes[input as usize].iter();
                axes.map(|[div, extent, stride]| i / div % extent * stride)
                    .sum()
            }
        }
    }

    fn stored(&self, input: u32, place: usize) -> T {
        match self.machine.inputs[input as usize].integer {
            true => T::of(f64::from(self.integers[input as usize][place])),
            false => self.floats[input as usize][place],
        }
    }

    fn element(&self, input: u32, i: usize) -> T {
        self.stored(input, self.place(input, i))
    }

    /// An element of a table, the nearest there is; NaN counts to the first.
    fn at(&self, input: u32, index: f64) -> T {
        let k = input as usize;
        let last = self.floats[k].len().max(self.integers[k].len()) - 1;
        self.stored(input, (index.floor().max(0.0) as usize).min(last))
    }

    /// Elements `first` and those after it of the outputs, whose memory there is `outputs`.
    fn part(&self, first: usize, outputs: &mut [&mut [T]]) {
        let n = outputs[0].len();
        let size = n.min(CHUNK);
        let mut registers = vec![vec![T::ZERO; size]; self.machine.registers];
        let mut words = Vec::new();
        for start in (0..n).step_by(CHUNK) {
            let end = (start + CHUNK).min(n);
            self.chunk(
                first + start,
                start..end,
                outputs,
                &mut registers,
                &mut words,
            );
        }
    }

    fn chunk(
        &self,
        first: usize,
        range: std::ops::Range<usize>,
        outputs: &mut [&mut [T]],
        registers: &mut [Vec<T>],
        words: &mut Vec<u32>,
    ) {
        let machine = self.machine;
        let n = range.len();
        for (line, &form) in machine.program.forms().iter().enumerate() {
            // What is written leaves the list, so that the others can be read.
            let place = machine.places[line];
            let mut register = Vec::new();
            let mut output: &mut [T] = &mut [];
            let to: &mut [T] = match place {
                Place::Uniform | Place::Input => continue,
                Place::Output(k) => {
                    output = std::mem::take(&mut outputs[k]);
                    &mut output[range.clone()]
                }
                Place::Register(r) => {
                    register = std::mem::take(&mut registers[r]);
                    &mut register[..n]
                }
            };
            let of = |line: u32| match machine.places[line as usize] {
                Place::Uniform => Values::One(self.uniform[line as usize]),
                Place::Output(k) => Values::Many(&outputs[k][range.clone()]),
                Place::Register(r) => Values::Many(&registers[r][..n]),
                Place::Input => match machine.program.forms()[line as usize] {
                    Form::Input(k) => Values::Many(&self.floats[k as usize][first..first + n]),
                    _ => Values::Many(&[]),
                },
            };
            match form {
                Form::Input(k) => match machine.inputs[k as usize].updated_by {
                    Some(output) => to.copy_from_slice(&outputs[output][range.clone()]),
                    None => self.spread(k, first, to),
                },
                Form::At(k, index) => each(of(index), to, |x| self.at(k, x.wide())),
                Form::Uniform(stream) => {
                    self.draw(stream, first, n, words);
                    for (to, &word) in to.iter_mut().zip(&*words) {
                        *to = T::of(f64::from(uniform(word)));
                    }
                }
                Form::Chance(stream, threshold) => {
                    self.draw(stream, first, n, words);
                    for (to, &word) in to.iter_mut().zip(&*words) {
                        *to = truth(word >= self.thresholds[threshold as usize]);
                    }
                }
                Form::Unary(op, a) => unary(op, of(a), to),
                Form::Binary(op, a, b) => binary(op, of(a), of(b), to),
                Form::Compare(op, a, b) => compare(op, of(a), of(b), to),
                Form::Not(a) => each(of(a), to, |x| truth(x == T::ZERO)),
                Form::And(a, b) => both(of(a), of(b), to, |a, b| a * b),
                Form::Or(a, b) => both(of(a), of(b), to, |a, b| truth(a + b != T::ZERO)),
                Form::Select(c, a, b) => select(of(c), of(a), of(b), to),
                Form::Constant(_) | Form::Parameter(_) | Form::Step => {}
            }
            match place {
                Place::Output(k) => outputs[k] = output,
                Place::Register(r) => registers[r] = register,
                _ => {}
            }
        }
        for (k, &line) in machine.program.outputs().iter().enumerate() {
            let to = std::mem::take(&mut outputs[k]);
            let part = &mut to[range.clone()];
            match machine.places[line as usize] {
                Place::Output(other) if other == k => {}
                Place::Output(other) => part.copy_from_slice(&outputs[other][range.clone()]),
                Place::Uniform => part.fill(self.uniform[line as usize]),
                Place::Register(r) => part.copy_from_slice(&registers[r][..n]),
                Place::Input => {
                    if let Form::Input(input) = machine.program.forms()[line as usize] {
                        part.copy_from_slice(&self.floats[input as usize][first..first + n]);
                    }
                }
            }
            outputs[k] = to;
        }
    }

    /// An input's elements, one for each result from `first` on.
    fn spread(&self, input: u32, first: usize, to: &mut [T]) {
        let innermost = self.axes[input as usize].last();
        let Some(&[div, extent, stride]) = innermost else {
            for (i, to) in to.iter_mut().enumerate() {
                *to = self.element(input, first + i);
            }
            return;
        };
        // Runs: of one element where the innermost axis is not its own, else of neighbours.
        let run = if div > 1 { div } else { extent };
        let mut i = first;
        let mut rest = to;
        while !rest.is_empty() {
            let length = (run - i % run).min(rest.len());
            let (now, later) = std::mem::take(&mut rest).split_at_mut(length);
            let place = self.place(input, i);
            if div > 1 {
                now.fill(self.stored(input, place));
            } else if stride == 1 && !self.machine.inputs[input as usize].integer {
                now.copy_from_slice(&self.floats[input as usize][place..place + length]);
            } else {
                for (k, to) in now.iter_mut().enumerate() {
                    *to = self.stored(input, place + k * stride);
                }
            }
            i += length;
            rest = later;
        }
    }

    /// The words of a stream for elements `first` (a multiple of a chunk) and those after it.
    fn draw(&self, stream: u32, first: usize, n: usize, words: &mut Vec<u32>) {
        let stream = Stream::of_keys(self.keys, self.streams[stream as usize]);
        words.clear();
        while words.len() < n {
            let block = (first + words.len()) / 4;
            words.extend(stream.many_words(self.now, block as u32).as_flattened());
        }
    }
}

/// One element, for its bounds.
struct Element<'l, 'm, 'a> {
    launch: &'l Launch<'m, 'a, f64>,
    i: usize,
}

impl Given for Element<'_, '_, '_> {
    fn parameter(&self, k: u32) -> f64 {
        self.launch.parameters[k as usize]
    }
    fn input(&self, k: u32) -> f64 {
        self.launch.element(k, self.i)
    }
    fn at(&self, k: u32, index: f64) -> f64 {
        self.launch.at(k, index)
    }
    fn step(&self) -> f64 {
        f64::from(self.launch.now)
    }
    fn word(&self, stream: u32) -> u32 {
        let stream = Stream::of_keys(self.launch.keys, self.launch.streams[stream as usize]);
        stream.words(self.launch.now, (self.i / 4) as u32)[self.i % 4]
    }
    fn threshold(&self, threshold: u32) -> u32 {
        self.launch.thresholds[threshold as usize]
    }
}
