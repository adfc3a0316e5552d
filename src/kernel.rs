//! What a kernel is: a WGSL entry point and the Rust function that computes the same.
//!
//! A kernel sees one replica at a time. On the GPU the replica is `workgroup_id.z`; on
//! the CPU the executor hands the function one replica's slices. Sizes and attributes
//! are *constants*: WGSL `override`s, fixed when the pipeline is made, because every
//! shape of a plan is known when it is compiled.

use std::panic::{AssertUnwindSafe, catch_unwind};

use smallvec::SmallVec;

use crate::shape::DType;
use crate::tensor::Real;

mod demand;
mod extent;
mod module;
mod port;

pub use demand::{Asked, Demand};
pub(crate) use module::Part;
pub use port::Port;
pub(crate) use port::{Finish, Finishing, Hand};

/// Bindings that a launch on the CPU holds without asking for memory.
pub const BINDINGS: usize = 8;

/// How a kernel uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Only read.
    Read,
    /// Written whole, without being read: what was in it does not matter.
    Write,
    /// Updated in place.
    ReadWrite,
}

/// The devices that a kernel is made for, where an op has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Many threads at once, which share what they load through workgroup memory.
    Gpu,
    /// An adapter that is a program on a processor: a load costs it as much as many
    /// multiplications, shared or not, so each thread keeps much in registers.
    Processor,
    /// Such an adapter whose subgroups are the eight lanes of a vector: what one lane has
    /// loaded reaches the others without memory. They have words of 64 bits: what loads one
    /// loads two floats.
    Lanes,
    /// A GPU whose workgroups may have so many threads and so much memory to share: hardware, where
    /// a step of a small mini-batch takes as long as its loads wait for each other, so that many
    /// threads have few elements each. 256 threads and 16 KiB are every adapter's (WebGPU's portable
    /// limits). An op offers the best variant first and only where it is better than the usual one.
    Workgroup {
        /// Threads of a workgroup.
        threads: u32,
        /// Bytes of its memory.
        bytes: u32,
    },
    /// A part of a launch of a whole program ([`Persistent`](crate::plan::Persistent)), and slow by itself: one workgroup
    /// does the launch, by as many threads as the constant `THREADS` says ([`SINGLE`]), or threads that share nothing
    /// stand side by side in it. Buffers are bound by single elements.
    Single {
        /// Threads of the workgroup.
        threads: u32,
        /// Bytes of its memory.
        bytes: u32,
    },
    /// An adapter with units that multiply matrices of `edge` × `edge`, factors in f16 and sums
    /// in f32: of 16 for subgroups of 32 threads (NVIDIA), of 8 for subgroups of 8 (llvmpipe).
    /// Rounds factors, so only a device in mixed precision takes it.
    MatrixUnits {
        /// Rows and columns.
        edge: u32,
        /// Whether a factor may be a gradient, most of which f16 has no room for. Such a variant is in the plans of
        /// graphs alone all of whose updates have a loss scale ([`Optimizer::loss_scale`]).
        ///
        /// [`Optimizer::loss_scale`]: crate::optim::Optimizer::loss_scale
        scaled: bool,
    },
}

/// Lanes of a vector that kernels for [`Target::Lanes`] count on; `VECTOR` in their shaders.
pub const LANES: usize = 8;

/// Threads of the workgroups of whole programs: as many as most adapters of today have, and as many as every
/// adapter.
pub const SINGLE: [u32; 2] = [1024, 256];

/// The constant that says how often a launch is dispatched, each time after the one before; a kernel that has none is
/// dispatched once. Its text declares it as an override, and learns how many came before this one from the first word
/// of `@group(1) @binding(0) var<uniform> dispatched: vec4<u32>`. What one leaves in the launch's outputs the next one may
/// read.
pub const DISPATCHES: &str = "DISPATCHES";

/// Bytes of `shares` in `shaders/shared/single.wgsl`, which all kernels for [`Target::Single`] share.
pub const SHARED: u32 = 16 << 10;

/// One binding of a kernel; its index in [`Kernel::bindings`] is its `@binding`.
#[derive(Clone, Copy, Debug)]
pub struct Bind {
    /// The variable's name in the WGSL.
    pub name: &'static str,
    /// Its element type.
    pub dtype: DType,
    /// How it is used.
    pub access: Access,
    /// True where all replicas share one copy.
    pub shared: bool,
    /// How many elements it has, by the launch's constants ([`Bind::of`]); empty where that is
    /// not said.
    pub elements: &'static str,
    /// An integer that it may hold, where not every kernel can take 0 ([`Bind::sampled`]).
    pub sample: Option<Sample>,
}

/// An integer that a binding may hold, by the launch's constants and the element's number within a replica.
pub type Sample = fn(&dyn Fn(&str) -> usize, usize) -> u32;

impl Bind {
    /// A float input of each replica.
    pub const fn read(name: &'static str) -> Self {
        Self {
            name,
            dtype: DType::F32,
            access: Access::Read,
            shared: false,
            elements: "",
            sample: None,
        }
    }

    /// A float output of each replica.
    pub const fn write(name: &'static str) -> Self {
        Self {
            access: Access::Write,
            ..Self::read(name)
        }
    }

    /// A float value of each replica that is updated in place.
    pub const fn update(name: &'static str) -> Self {
        Self {
            access: Access::ReadWrite,
            ..Self::read(name)
        }
    }

    /// The same binding, of integers.
    pub const fn u32(self) -> Self {
        Self {
            dtype: DType::U32,
            ..self
        }
    }

    /// The same binding with so many elements of each replica: numbers and names of the kernel's
    /// constants with `+`, `*`, `/` (which rounds up) and parentheses, such as
    /// `"N * C * H * W"`. The plan's checker then holds a launch's constants against its buffers.
    ///
    /// ```
    /// use wgrad::kernel::Bind;
    /// const X: Bind = Bind::read("x").of("N * K");
    /// assert_eq!(X.elements_by(&[("N", 3.0), ("K", 4.0)]), Some(12));
    /// ```
    pub const fn of(self, elements: &'static str) -> Self {
        Self { elements, ..self }
    }

    /// The same binding with an integer that it may hold, for trials of a device's variants, which put made-up
    /// values into all buffers: 0 where nothing is said, which is a row, a class and a step, but no winner of
    /// another window than the first.
    pub const fn sampled(self, sample: Sample) -> Self {
        Self {
            sample: Some(sample),
            ..self
        }
    }

    /// What [`Bind::elements`] comes to with these constants; `None` where it says nothing or
    /// names a constant that is not among them.
    pub fn elements_by(&self, constants: &[(&str, f64)]) -> Option<u64> {
        extent::value(self.elements, constants)
    }

    /// The same binding, one copy for all replicas.
    pub const fn shared(self) -> Self {
        Self {
            shared: true,
            ..self
        }
    }
}

/// What computes a kernel on the CPU at both precisions: in f32, and in f64 to check f32 and
/// gradients against.
#[derive(Clone, Copy)]
pub struct Reference(How);

#[derive(Clone, Copy)]
enum How {
    Functions(fn(&mut Args<'_, f32>), fn(&mut Args<'_, f64>)),
    Expression(&'static dyn Compute),
}

/// Computes a kernel that was made from an expression.
pub(crate) trait Compute: Sync {
    /// In f32.
    fn f32(&self, args: &mut Args<'_, f32>);
    /// In f64.
    fn f64(&self, args: &mut Args<'_, f64>);
    /// In f32 by the fastest way there is.
    fn optimized(&self, args: &mut Args<'_, f32>) {
        self.f32(args);
    }
    /// What a device's results may be off by, given what it is to compute them from. Of a kernel
    /// that has a core, the core's own results may be off by `core` of the largest number that
    /// enters or leaves it.
    fn tolerance(&self, args: &Args<'_, f64>, side: Side, core: f64) -> Tolerance;
}

/// What a launch's results may be off by.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tolerance {
    /// Of those of which something is known, the largest bound.
    pub off: f64,
    /// Elements, each of how many, of whose results nothing is known, such as of a quotient by what may be 0.
    pub unknown: Vec<[usize; 2]>,
}

impl Tolerance {
    /// Of the results of both.
    pub fn and(mut self, other: Self) -> Self {
        self.off = self.off.max(other.off);
        self.unknown.extend(other.unknown);
        self
    }

    /// Whether an element of a result may be anything. Of results in parts of one buffer, in any of them.
    pub fn pardons(&self, element: usize) -> bool {
        self.unknown.iter().any(|&[at, of]| element % of == at)
    }
}

impl Reference {
    /// A function at both precisions; `reference!(f)` makes it of a generic one.
    pub const fn of(f32: fn(&mut Args<'_, f32>), f64: fn(&mut Args<'_, f64>)) -> Self {
        Self(How::Functions(f32, f64))
    }

    pub(crate) const fn expression(expression: &'static dyn Compute) -> Self {
        Self(How::Expression(expression))
    }

    /// Computes in f32.
    pub fn f32(&self, args: &mut Args<'_, f32>) {
        match self.0 {
            How::Functions(f32, _) => f32(args),
            How::Expression(expression) => expression.f32(args),
        }
    }

    /// Computes in f64.
    pub fn f64(&self, args: &mut Args<'_, f64>) {
        match self.0 {
            How::Functions(_, f64) => f64(args),
            How::Expression(expression) => expression.f64(args),
        }
    }

    /// Computes in f32 by the fastest way that belongs to the expression it was made from.
    pub(crate) fn optimized(&self, args: &mut Args<'_, f32>) {
        match self.0 {
            How::Functions(f32, _) => f32(args),
            How::Expression(expression) => expression.optimized(args),
        }
    }

    /// What a device's results may be off by, where that follows from an expression; see
    /// [`Compute::tolerance`].
    pub(crate) fn tolerance(
        &self,
        args: &Args<'_, f64>,
        side: Side,
        core: f64,
    ) -> Option<Tolerance> {
        match self.0 {
            How::Functions(..) => None,
            How::Expression(expression) => Some(expression.tolerance(args, side, core)),
        }
    }
}

/// Which implementation or device a result comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Rust in f32: reference or CPU executor.
    Cpu,
    /// WGSL.
    Gpu,
}

/// Words of a step counter; see [`crate::ops::advance`].
pub const COUNTER: usize = 2;
/// Where a step counter holds the number of the step to come.
pub const NEXT: usize = 0;
/// Where a step counter holds the number of the step under way.
pub const NOW: usize = 1;

/// `reference!(f)` is [`Reference`] of the generic function `f`.
#[macro_export]
#[doc(hidden)]
macro_rules! reference {
    ($($f:ident)::+) => {
        $crate::kernel::Reference::of($($f)::+::<f32>, $($f)::+::<f64>)
    };
}

/// A kernel: declaration, WGSL for the GPU, functions for the CPU.
///
/// One of another crate is made by [`Kernel::new`].
pub struct Kernel {
    /// The entry point's name.
    pub name: &'static str,
    /// The stem of the shader file and of the op's Rust file.
    pub stem: &'static str,
    /// The whole WGSL module, shared parts included.
    pub source: &'static str,
    /// The bindings in order.
    pub bindings: &'static [Bind],
    /// Names of the `override`s that a launch must give.
    pub constants: &'static [&'static str],
    /// The most turns that the loops of one thread take together, by the constants as in
    /// [`Bind::of`]; empty where that is not said. Mesa's llvmpipe ends a thread's loops, without
    /// a word, after 65,535 turns.
    pub turns: &'static str,
    /// What a workgroup asks of a GPU.
    pub demand: Demand,
    /// The readable CPU function.
    pub reference: Reference,
    /// An optimized CPU function that the CPU executor takes instead; held against the
    /// reference by the same tests as the GPU.
    pub optimized: Option<fn(&mut Args<'_, f32>)>,
    /// Whether the text is this crate's own, which its suite has run with and without checks.
    pub(crate) trusted: bool,
    /// Where its finished elements pass what an expression makes of them.
    pub(crate) ports: &'static [Port],
    /// The CPU function that hands its elements to what finishes them while they are near.
    pub(crate) finishing: Option<Finishing>,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernel({})", self.name)
    }
}

impl Kernel {
    /// A kernel of another crate: `source` is a whole WGSL module with the entry point `name`,
    /// `bindings` and `constants` stand in the order of its `@binding`s and as its `override`s.
    /// It has no optimized CPU function until [`Kernel::with_optimized`] gives it one.
    ///
    /// The GPU compiles it with bounds checks; only this crate's own kernels, which its tests
    /// have run with checks and without, go without.
    pub const fn new(
        name: &'static str,
        source: &'static str,
        bindings: &'static [Bind],
        constants: &'static [&'static str],
        reference: Reference,
    ) -> Self {
        Self {
            name,
            stem: name,
            source,
            bindings,
            constants,
            turns: "",
            demand: Demand::UNSTATED,
            reference,
            optimized: None,
            trusted: false,
            ports: &[],
            finishing: None,
        }
    }

    /// The same kernel with the most turns that the loops of one thread take together: numbers
    /// and names of constants as in [`Bind::of`].
    pub const fn with_turns(self, turns: &'static str) -> Self {
        Self { turns, ..self }
    }

    /// The same kernel with what a workgroup of it asks of a GPU, so that the device can predict its time.
    pub const fn with_demand(self, demand: Demand) -> Self {
        Self { demand, ..self }
    }

    /// What [`Kernel::demand`] comes to with these constants; `None` where it says nothing or names a
    /// constant that is not among them.
    pub fn asked(&self, constants: &[(&str, f64)]) -> Option<Asked> {
        Asked::of(&self.demand, self.threads(constants)?, constants)
    }

    /// The threads of a workgroup, as the WGSL's `@workgroup_size` says with these constants.
    pub fn threads(&self, constants: &[(&str, f64)]) -> Option<u64> {
        demand::threads(self.source, self.name, constants)
    }

    /// The same kernel with ports, at which it hands its finished elements to what is compiled in there.
    /// Its text calls their functions and ends in the text that [`port!`](crate::port!) gives each.
    ///
    /// An op says by [`Op::port`](crate::ops::Op::port) that its kernels have one for output 0.
    pub const fn with_ports(self, ports: &'static [Port]) -> Self {
        Self { ports, ..self }
    }

    /// Where its finished elements pass what an expression makes of them.
    pub const fn ports(&self) -> &'static [Port] {
        self.ports
    }

    /// What [`Kernel::turns`] comes to with these constants; `None` where it says nothing or
    /// names a constant that is not among them.
    pub fn turns_by(&self, constants: &[(&str, f64)]) -> Option<u64> {
        extent::value(self.turns, constants)
    }

    /// How often a launch with these constants is dispatched ([`DISPATCHES`]).
    pub fn dispatches(&self, constants: &[(&str, f64)]) -> u64 {
        let mut constants = constants.iter();
        let said = constants.find(|(name, _)| *name == DISPATCHES);
        said.map_or(1, |(_, times)| *times as u64)
    }

    /// The same kernel with an optimized CPU function.
    pub const fn with_optimized(self, optimized: fn(&mut Args<'_, f32>)) -> Self {
        Self {
            optimized: Some(optimized),
            ..self
        }
    }

    /// The same declaration over another text, which compiles with bounds checks.
    pub const fn with_source(&self, source: &'static str) -> Self {
        Self {
            name: self.name,
            stem: self.stem,
            source,
            bindings: self.bindings,
            constants: self.constants,
            turns: self.turns,
            demand: self.demand,
            reference: self.reference,
            optimized: self.optimized,
            trusted: false,
            ports: self.ports,
            finishing: self.finishing,
        }
    }

    /// Whether it is one of this crate's own, which a GPU runs without bounds checks.
    pub const fn trusted(&self) -> bool {
        self.trusted
    }

    /// Runs its function on the CPU; of a kernel of another crate, what that panics with is an error. What it has half
    /// written is lost with the run, and nothing else is broken by it.
    pub(crate) fn guarded<R>(&self, run: impl FnOnce() -> R) -> Result<R, String> {
        if self.trusted {
            return Ok(run());
        }
        catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            text.unwrap_or("without a message").to_string()
        })
    }

    /// The bindings whose values it rounds to f16 before it multiplies them: A and B of
    /// kernels for [`Target::MatrixUnits`], which alone enable f16.
    pub fn factors_in_f16(&self) -> &'static [usize] {
        let enabled = self.source.lines().any(|line| line == "enable f16;");
        if enabled { &[0, 1] } else { &[] }
    }
}

/// One replica's slice of one binding.
#[derive(Debug, Default)]
pub enum Slot<'a, T> {
    /// A float input.
    F(&'a [T]),
    /// A float output.
    FMut(&'a mut [T]),
    /// An integer input.
    U(&'a [u32]),
    /// An integer output.
    UMut(&'a mut [u32]),
    /// A mutable slice that was handed out already.
    #[default]
    Taken,
}

impl<T> Slot<'_, T> {
    fn told(&self) -> &'static str {
        match self {
            Self::F(_) => "a float input",
            Self::FMut(_) => "a float output",
            Self::U(_) => "an integer input",
            Self::UMut(_) => "an integer output",
            Self::Taken => "an output that was taken already",
        }
    }

    /// The same slice, to be read.
    pub(crate) fn view(&self) -> Slot<'_, T> {
        match self {
            Self::F(v) => Slot::F(v),
            Self::FMut(v) => Slot::F(v),
            Self::U(v) => Slot::U(v),
            Self::UMut(v) => Slot::U(v),
            Self::Taken => Slot::Taken,
        }
    }
}

/// What a CPU function receives: the constants and one replica's slices.
///
/// The accessors panic when a kernel's function disagrees with its own declaration.
/// That is a bug in the kernel and not a matter of input: the plan checker has held
/// every launch against the declaration before any function is called. A run on the CPU makes an error of
/// whatever the function of a kernel of another crate panics with, by the launch and the kernel.
#[derive(Debug)]
pub struct Args<'a, T> {
    /// The launch's constants.
    pub constants: &'a [(&'static str, f64)],
    /// One slot per binding.
    pub slots: SmallVec<[Slot<'a, T>; BINDINGS]>,
}

impl<'a, T: Real> Args<'a, T> {
    /// An integer constant.
    pub fn size(&self, name: &str) -> usize {
        self.number(name) as usize
    }

    /// A constant as it is.
    pub fn number(&self, name: &str) -> f64 {
        match self.constants.iter().find(|(n, _)| *n == name) {
            Some((_, v)) => *v,
            None => panic!("constant {name} is not declared"),
        }
    }

    /// The float input at binding `i`.
    pub fn f(&self, i: usize) -> &'a [T] {
        match &self.slots[i] {
            Slot::F(s) => s,
            other => panic!("binding {i} is no float input but {}", other.told()),
        }
    }

    /// The integer input at binding `i`.
    pub fn u(&self, i: usize) -> &'a [u32] {
        match &self.slots[i] {
            Slot::U(s) => s,
            other => panic!("binding {i} is no integer input but {}", other.told()),
        }
    }

    /// The float output at binding `i`; can be taken once.
    pub fn f_mut(&mut self, i: usize) -> &'a mut [T] {
        match std::mem::take(&mut self.slots[i]) {
            Slot::FMut(s) => s,
            other => panic!("binding {i} is no float output but {}", other.told()),
        }
    }

    /// The integer output at binding `i`; can be taken once.
    pub fn u_mut(&mut self, i: usize) -> &'a mut [u32] {
        match std::mem::take(&mut self.slots[i]) {
            Slot::UMut(s) => s,
            other => panic!("binding {i} is no integer output but {}", other.told()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tolerance;

    /// An element of which nothing is known is so in each part of a buffer, and no other one is pardoned for it.
    #[test]
    fn what_is_not_known_pardons_itself_alone() {
        let of = |off, unknown| Tolerance { off, unknown };
        let both = of(0.5, vec![[2, 5]]).and(of(0.25, vec![[0, 3]]));
        assert_eq!(both.off, 0.5);
        let pardoned: Vec<usize> = (0..10)
            .filter(|&e| of(0.0, vec![[2, 5]]).pardons(e))
            .collect();
        assert_eq!(pardoned, [2, 7]);
        assert!(both.pardons(3) && !both.pardons(4));
        assert!(!Tolerance::default().pardons(0));
    }
}
