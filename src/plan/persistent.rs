//! A whole program as one launch: a workgroup for each replica does all launches of the program, one after
//! the other, and many runs of it in a row (a persistent kernel).
//!
//! A launch that waits for the one before costs some microseconds however little it does, so a step of a
//! small network is mostly that. Within a workgroup threads wait for each other at barriers, which cost a
//! hundredth. The price is that one multiprocessor does all the work of a replica. So it pays for small
//! networks, and most of all for many of them at once.
//!
//! The rule knows no network and no op. Each launch is taken in the variant that one workgroup does soonest:
//! one made for that ([`Target::Single`]), or any other of this crate's, whose workgroups are then done in
//! turn, or side by side where threads share nothing. The texts of all become one module
//! (`kernel/module.rs`), in which each buffer is bound once. It runs the same functions over the same numbers
//! as the launches would.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::latency::{Card, WORTH};
use super::{Binding, Buffer, Launch, Plan, Role};
use crate::kernel::{Access, Part, SHARED, SINGLE, Target};
use crate::shape::DType;

/// Launches of a program up to which it is tried.
const MOST_LAUNCHES: usize = 64;
/// Runs of a program in one launch, at most.
const MOST_RUNS: u64 = 64;
/// Predicted microseconds of a launch, at most: a tenth of what no driver's watchdog minds, since cards are slower than
/// the one that is predicted.
const LONGEST: f64 = 5000.0;

/// A program as one launch.
#[derive(Clone, Debug)]
pub struct Persistent {
    /// The variant in which each launch is done.
    pub variants: Vec<usize>,
    /// The WGSL module. Its entry point is [`Persistent::ENTRY`], and the constant [`Persistent::RUNS`] is how
    /// often a launch runs the program.
    pub source: String,
    /// A value for each other constant.
    pub constants: Vec<(String, f64)>,
    /// What is bound, in order. Numbers of buffers go on behind the plan's with `apart`.
    pub bindings: Vec<BoundBuffer>,
    /// Temporaries of its own: replicas are at different places of the program, so values of different
    /// sizes, whose replicas lie differently far apart, cannot take turns in one buffer.
    pub apart: Vec<Buffer>,
    /// Threads of the workgroup.
    pub threads: u32,
    /// Bytes that they share.
    pub bytes: u32,
    /// Turns that the loops of a thread take together in one run, where every kernel says so.
    pub turns: Option<u64>,
    /// Microseconds of a run as they are predicted for the card, without the launch itself.
    pub microseconds: f64,
}

/// A buffer that a persistent launch binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundBuffer {
    /// The buffer and how much of it.
    pub binding: Binding,
    /// Whether it is only read.
    pub read_only: bool,
}

/// A launch as a part of a larger one.
struct Piece {
    variant: usize,
    launch: Launch,
    /// Bytes that its threads share; of [`Target::Single`], with those that all such kernels share.
    bytes: u32,
    /// Workgroups at a time.
    side: u64,
    microseconds: f64,
}

impl Persistent {
    /// The entry point.
    pub const ENTRY: &'static str = "persistent";
    /// The constant that says how often a launch runs the program.
    pub const RUNS: &'static str = "RUNS";

    /// Runs in one launch where a thread's loops may take so many turns; none of a program of which one run has more,
    /// or which does not say.
    pub fn runs(&self, turns: u64) -> u64 {
        let own = self.turns.unwrap_or(u64::MAX).saturating_add(1);
        let in_time = (LONGEST / self.microseconds.max(1.0)) as u64;
        (turns / own).min(MOST_RUNS).min(in_time.max(1))
    }

    /// Microseconds of a run as they are predicted for the card, with its share of the launch.
    pub fn predicted(&self, card: &Card) -> f64 {
        self.microseconds + card.launch / MOST_RUNS as f64
    }

    /// Whether it is predicted to be clearly faster than the launches by themselves, in the variants that the card
    /// takes. That of one replica is asked, so that a replica has the bits that it has alone.
    pub fn pays(&self, plan: &Plan, program: &str, card: &Card) -> bool {
        let launches = plan.programs.get(program).into_iter().flatten();
        let apart = launches.map(|l| plan.alone(&l.done(plan.suiting(l, card)), card));
        self.predicted(card) <= WORTH * apart.sum::<f64>()
    }
}

impl Plan {
    /// The program as one launch by so many threads; `None` if it has one launch anyway, or a launch that no
    /// workgroup of that size can do.
    pub fn persistent(&self, program: &str, threads: u32, card: &Card) -> Option<Persistent> {
        let launches = self.programs.get(program)?;
        if !(2..=MOST_LAUNCHES).contains(&launches.len()) {
            return None;
        }
        let pieces = launches.iter().map(|l| self.piece(l, threads, card));
        let pieces: Vec<Piece> = pieces.collect::<Option<_>>()?;
        let mut module = Module::new(self);
        for (number, piece) in pieces.iter().enumerate() {
            module.add(number, piece, threads)?;
        }
        Some(module.finish(&pieces, threads))
    }

    /// The program as one launch by each number of threads that it can be done by, the soonest first.
    pub fn persistents(&self, program: &str, card: &Card) -> Vec<Persistent> {
        let found = SINGLE
            .iter()
            .filter_map(|&t| self.persistent(program, t, card));
        let mut found: Vec<Persistent> = found.collect();
        found.sort_by(|a, b| a.microseconds.total_cmp(&b.microseconds));
        found
    }

    /// The first launch of a program that no single workgroup can do: what keeps the program apart.
    pub fn keeps_apart(&self, program: &str, card: &Card) -> Option<&Launch> {
        let mut launches = self.programs.get(program)?.iter();
        launches.find(|l| SINGLE.iter().all(|&t| self.piece(l, t, card).is_none()))
    }

    /// The launch in the variant that such a workgroup does soonest.
    fn piece(&self, launch: &Launch, threads: u32, card: &Card) -> Option<Piece> {
        let of = |variant: usize| {
            let target = match variant.checked_sub(1) {
                None => Target::Gpu,
                Some(i) => launch.alternatives[i].target,
            };
            let bytes = match target {
                // How much a usual kernel shares, nobody says.
                Target::Gpu => None,
                Target::Workgroup { bytes, .. } | Target::Single { bytes, .. } => Some(bytes),
                _ => return None,
            };
            let done = launch.done(variant);
            let kernel = done.kernel;
            let own = kernel.threads(&done.constants)?;
            let part = kernel.part("", |_| "bound".into())?;
            // Kernels of other crates keep their launches: only this one's are known to name nothing
            // as the joined module does.
            let plain = |element: &String| matches!(element.as_str(), "f32" | "u32");
            if !kernel.trusted() || !part.elements.values().all(plain) {
                return None;
            }
            part.builtins
                .iter()
                .try_for_each(|b| known(b).map(|_| ()))?;
            let all = u64::from(threads);
            // What counts on the number of threads gets no other.
            let counts = part.common.contains_key("THREADS");
            let side = match part.shares {
                true if own == all && bytes.is_some() => 1,
                false if own == all => 1,
                false if !counts && own > 0 && all.is_multiple_of(own) => all / own,
                _ => return None,
            };
            let microseconds = self.within(&done, side, card) + card.barrier;
            Some(Piece {
                variant,
                launch: done,
                bytes: bytes.unwrap_or(0),
                side,
                microseconds,
            })
        };
        let pieces = (0..launch.variants()).filter_map(of);
        pieces.min_by(|a, b| a.microseconds.total_cmp(&b.microseconds))
    }
}

/// The module of a program in the making.
struct Module<'a> {
    buffers: Buffers<'a>,
    /// What several pieces declare alike.
    common: BTreeMap<String, String>,
    constants: Vec<(String, f64)>,
    /// What each declares for itself.
    declarations: String,
    /// What a run does.
    calls: String,
    turns: Option<u64>,
    /// Bytes that threads share, but those that `common` declares.
    bytes: u32,
}

impl<'a> Module<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self {
            buffers: Buffers::new(plan),
            common: BTreeMap::new(),
            constants: vec![],
            declarations: String::new(),
            calls: String::new(),
            turns: Some(0),
            bytes: 0,
        }
    }

    /// Takes the next piece in; `None` if it does not go with those before.
    fn add(&mut self, number: usize, piece: &Piece, threads: u32) -> Option<()> {
        let launch = &piece.launch;
        let prefix = format!("k{number}_");
        let bindings = launch.bindings.iter().zip(launch.kernel.bindings);
        let bindings = bindings.map(|(b, declared)| self.buffers.place(*b, declared.access));
        let places: Vec<usize> = bindings.collect();
        let name = |at: usize| format!("bound_{}", places.get(at).copied().unwrap_or(at));
        let part = launch.kernel.part(&prefix, name)?;
        for (name, value) in &launch.constants {
            if !part.overrides.contains(*name) {
                continue;
            }
            let name = match part.common.contains_key(*name) {
                true => (*name).to_string(),
                false => format!("{prefix}{name}"),
            };
            match self.constants.iter().find(|(known, _)| *known == name) {
                Some((_, known)) if known != value => return None,
                Some(_) => {}
                None => self.constants.push((name, *value)),
            }
        }
        self.declarations += &part.text;
        self.calls += &call(&part, launch, piece.side, threads)?;
        let common = if part.common.contains_key("shares") {
            SHARED
        } else {
            0
        };
        self.bytes += piece.bytes.saturating_sub(common);
        self.common.extend(part.common);
        let [x, y, _] = launch.grid.map(u64::from);
        let own = launch.kernel.turns_by(&launch.constants);
        let repeats = (x * y).div_ceil(piece.side);
        self.turns = self
            .turns
            .zip(own)
            .map(|(all, own)| all + repeats * (own + 1));
        Some(())
    }

    fn finish(self, pieces: &[Piece], threads: u32) -> Persistent {
        let source = self.source(threads);
        let common = if self.common.contains_key("shares") {
            SHARED
        } else {
            0
        };
        Persistent {
            variants: pieces.iter().map(|piece| piece.variant).collect(),
            source,
            constants: self.constants,
            bindings: self.buffers.bound,
            apart: self.buffers.apart,
            threads,
            bytes: self.bytes + common,
            turns: self.turns,
            microseconds: pieces.iter().map(|piece| piece.microseconds).sum(),
        }
    }

    fn source(&self, threads: u32) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        for (at, b) in self.buffers.bound.iter().enumerate() {
            let access = if b.read_only { "read" } else { "read_write" };
            let element = match self.buffers.buffer(b.binding.buffer).dtype {
                DType::F32 => "f32",
                DType::U32 => "u32",
            };
            let _ = writeln!(
                text,
                "@group(0) @binding({at}) var<storage, {access}> bound_{at}: array<{element}>;"
            );
        }
        for declaration in self.common.values() {
            let _ = writeln!(text, "{declaration}");
        }
        let Self {
            declarations,
            calls,
            ..
        } = self;
        let (entry, runs) = (Persistent::ENTRY, Persistent::RUNS);
        let _ = write!(
            text,
            "{declarations}
override {runs}: u32 = 1u;

@compute @workgroup_size({threads})
fn {entry}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {{
    for (var run = 0u; run < {runs}; run++) {{
{calls}    }}
}}
"
        );
        text
    }
}

/// What stands for a builtin of a launch's own entry point, where `group` is the workgroup's place in the
/// launch's grid, `grid` that grid and `lane` the thread's number.
fn known(builtin: &str) -> Option<&'static str> {
    match builtin {
        "workgroup_id" => Some("place"),
        "num_workgroups" => Some("grid"),
        "local_invocation_index" => Some("lane"),
        _ => None,
    }
}

/// The text that does a launch's work. Everybody waits at its end: what follows reads what it has written.
fn call(part: &Part, launch: &Launch, side: u64, threads: u32) -> Option<String> {
    let [x, y, z] = launch.grid;
    let arguments = part.builtins.iter().map(|builtin| known(builtin));
    let arguments = arguments.collect::<Option<Vec<_>>>()?.join(", ");
    let function = &part.function;
    let groups = u64::from(x) * u64::from(y);
    let own = u64::from(threads) / side;
    // Of threads that share nothing several workgroups stand side by side.
    let (first, lane) = match side {
        1 => ("0u".into(), "thread".into()),
        _ => (format!("thread / {own}u"), format!("thread % {own}u")),
    };
    let waits = if part.shares && groups > 1 {
        "                workgroupBarrier();\n"
    } else {
        ""
    };
    Some(format!(
        "        {{
            let grid = vec3({x}u, {y}u, {z}u);
            let lane = {lane};
            for (var at = {first}; at < {groups}u; at += {side}u) {{
                let place = vec3(at % {x}u, at / {x}u, group.z);
                {function}({arguments});
{waits}            }}
        }}
        storageBarrier();
        workgroupBarrier();
"
    ))
}

/// The buffers of a persistent launch, each bound once.
struct Buffers<'a> {
    plan: &'a Plan,
    bound: Vec<BoundBuffer>,
    apart: Vec<Buffer>,
    /// Which buffer stands for a temporary of so many elements.
    standing: BTreeMap<(usize, usize), usize>,
}

impl<'a> Buffers<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self {
            plan,
            bound: vec![],
            apart: vec![],
            standing: BTreeMap::new(),
        }
    }

    fn buffer(&self, number: usize) -> &Buffer {
        let own = self.plan.buffers.len();
        self.plan
            .buffers
            .get(number)
            .unwrap_or_else(|| &self.apart[number - own])
    }

    /// The number of the binding where this one is bound.
    fn place(&mut self, binding: Binding, access: Access) -> usize {
        let read_only = access == Access::Read;
        let buffer = self.standing(binding);
        let found = self.bound.iter().position(|b| b.binding.buffer == buffer);
        let at = found.unwrap_or_else(|| {
            let binding = Binding { buffer, ..binding };
            self.bound.push(BoundBuffer {
                binding,
                read_only: true,
            });
            self.bound.len() - 1
        });
        let bound = &mut self.bound[at];
        bound.read_only &= read_only;
        bound.binding.elements = bound.binding.elements.max(binding.elements);
        at
    }

    /// The buffer itself, or one apart where it is a temporary that another size has had.
    fn standing(&mut self, Binding { buffer, elements }: Binding) -> usize {
        let plan = self.plan;
        let Buffer { role, dtype, .. } = plan.buffers[buffer];
        if role != Role::Temporary {
            return buffer;
        }
        let other = self
            .standing
            .keys()
            .any(|&(known, size)| known == buffer && size != elements);
        let (own, apart) = (plan.buffers.len(), &mut self.apart);
        *self.standing.entry((buffer, elements)).or_insert_with(|| {
            if !other {
                return buffer;
            }
            apart.push(Buffer {
                name: format!("{}, apart", plan.buffers[buffer].name),
                dtype,
                elements,
                shared: false,
                role,
            });
            own + apart.len() - 1
        })
    }
}
