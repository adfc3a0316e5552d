//! How long launches take on a GPU, predicted before they run: by what their kernels ask for
//! ([`Demand`](crate::kernel::Demand)) and what a card gives.
//!
//! A launch that waits for the one before takes
//!
//! > launch + rounds · latency + barriers + instructions of a thread + what the other workgroups add
//!
//! The first workgroup of a multiprocessor is a chain: its loads wait for each other, and its warps issue
//! one instruction each in turn. The others add what the scarcest resource takes for them: issue slots,
//! bytes through the cache or from memory, the starts of workgroups, or whole waves where no more of them
//! have room at once.

use super::{Launch, Plan};
use crate::kernel::{Asked, Target};

/// What a GPU gives. The numbers are a fit to launches that were timed by themselves; those of a card are
/// good for its kind alone.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Card {
    /// A part of its adapter's name.
    pub name: &'static str,
    /// Multiprocessors (compute units).
    pub multiprocessors: f64,
    /// Warps of a multiprocessor that issue an instruction in the same cycle.
    pub schedulers: f64,
    /// Cycles in a nanosecond.
    pub gigahertz: f64,
    /// Microseconds of a launch that waits for the one before and does nothing.
    pub launch: f64,
    /// Microseconds until what was loaded through the cache is there.
    pub latency: f64,
    /// Microseconds of a barrier.
    pub barrier: f64,
    /// Microseconds from one workgroup's start on a multiprocessor to the next one's.
    pub start: f64,
    /// Cycles from an instruction of a warp to its next, where the scheduler has no other warp.
    pub dependent: f64,
    /// Threads that a multiprocessor has room for.
    pub threads: f64,
    /// Workgroups that it has room for.
    pub workgroups: f64,
    /// Gigabytes a second between the multiprocessors and the cache that they share.
    pub cache: f64,
    /// Gigabytes a second from memory.
    pub memory: f64,
    /// Bytes a cycle between one multiprocessor and that cache.
    pub port: f64,
    /// Microseconds until what the multiprocessor has loaded or stored before is there again.
    pub near: f64,
}

impl Card {
    /// An NVIDIA H200, fitted to `results/h200/kernels.txt` and to the table of the day before. Launch and
    /// bytes a second from memory were measured by themselves, and so was `start`: a kernel of 64 threads and
    /// four bytes each ran at 0.82 TB/s.
    pub const H200: Self = Self {
        name: "H200",
        multiprocessors: 132.0,
        schedulers: 4.0,
        gigahertz: 1.98,
        launch: 2.3,
        latency: 0.27,
        barrier: 0.02,
        start: 0.08,
        dependent: 1.25,
        threads: 2048.0,
        workgroups: 32.0,
        cache: 5500.0,
        memory: 2900.0,
        // By NVIDIA's description and by what others measured on its kind (some 35 cycles); not measured here.
        port: 64.0,
        near: 0.02,
    };

    /// Some GPU that nobody has measured: the data sheets' middle, and latencies between those of an H200
    /// and twice as much.
    pub const GENERIC: Self = Self {
        name: "some GPU",
        multiprocessors: 48.0,
        gigahertz: 1.7,
        launch: 4.0,
        latency: 0.4,
        threads: 1536.0,
        workgroups: 16.0,
        cache: 1500.0,
        memory: 400.0,
        ..Self::H200
    };

    /// The cards with numbers of their own.
    pub const MEASURED: &'static [&'static Self] = &[&Self::H200];

    /// The card of an adapter of this name, in any case of letters; [`Card::GENERIC`] where there is none.
    pub fn named(adapter: &str) -> &'static Self {
        let adapter = adapter.to_lowercase();
        let mut cards = Self::MEASURED.iter();
        // Whole words: a GH200 is no H200.
        let words = || adapter.split(|c: char| !c.is_alphanumeric());
        let found = cards.find(|card| words().any(|word| word == card.name.to_lowercase()));
        found.copied().unwrap_or(&Self::GENERIC)
    }
}

/// What most of a launch's time goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The launch itself.
    Launch,
    /// Loads and barriers that wait for each other.
    Latency,
    /// Instructions.
    Issue,
    /// Workgroups, which start one after the other.
    Starts,
    /// Bytes of cache or memory.
    Bytes,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Launch => "launch",
            Self::Latency => "latency",
            Self::Issue => "issue",
            Self::Starts => "starts",
            Self::Bytes => "bytes",
        })
    }
}

/// A launch's predicted time.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Prediction {
    /// Microseconds.
    pub microseconds: f64,
    /// What most of them go to.
    pub bound: Bound,
    /// Whether the kernel says what it asks for; if not, that was guessed from the launch's operations and
    /// bytes.
    pub stated: bool,
}

/// Threads of a warp.
const WARP: f64 = 32.0;

/// Another variant than the one that the op puts first must be predicted to take at most this share of its
/// time: the model is right within a factor of 1.5 at most times, and two variants of a launch err alike.
pub(super) const WORTH: f64 = 0.75;

impl Plan {
    /// How long a launch of this plan takes on a card, in the variant that is its own.
    pub fn predicted(&self, launch: &Launch, card: &Card) -> Prediction {
        let stated = launch.kernel.asked(&launch.constants);
        let asked = stated.unwrap_or_else(|| self.guessed(launch));
        let bytes = self.launch_bytes(launch) as f64;
        let workgroups = launch.grid.iter().map(|&g| f64::from(g)).product();
        let (microseconds, bound) = all_dispatches(launch, &asked, workgroups, bytes, card);
        Prediction {
            microseconds,
            bound,
            stated: stated.is_some(),
        }
    }

    /// Microseconds of a launch, in the variant that is its own, for one replica.
    pub(super) fn alone(&self, launch: &Launch, card: &Card) -> f64 {
        let asked = launch.kernel.asked(&launch.constants);
        let asked = asked.unwrap_or_else(|| self.guessed(launch));
        let [x, y, _] = launch.grid.map(f64::from);
        all_dispatches(launch, &asked, x * y, bytes_of_one(launch), card).0
    }

    /// What a kernel asks for that does not say so: every thread its share of the launch's operations and
    /// words, eight of them under way at a time.
    fn guessed(&self, launch: &Launch) -> Asked {
        let threads = launch
            .kernel
            .threads(&launch.constants)
            .unwrap_or(64)
            .max(1);
        let workgroups = launch.grid.iter().map(|&g| u64::from(g)).product::<u64>();
        let words = self.launch_bytes(launch) / 4;
        let all = (threads * workgroups).max(1);
        let share = launch.flops.max(words).div_ceil(all);
        Asked {
            threads,
            rounds: 2 + share / 8,
            ahead: 0,
            barriers: 0,
            issue: 40 + 4 * share,
            words: words.div_ceil(workgroups.max(1)),
        }
    }

    /// The variant of a launch that a GPU takes: the one that the op has put first of those for workgroups
    /// of some size, or else of all, unless another is predicted to be clearly faster for one replica. Variants
    /// add up in different orders, and a replica must have the bits that it has alone; so how many there are
    /// does not count. Variants for processors, lanes and matrix units are no choice of it.
    pub fn suiting(&self, launch: &Launch, card: &Card) -> usize {
        let first = launch.by_workgroups().map_or(0, |i| i + 1);
        let others = launch.alternatives.iter().enumerate();
        let others = others
            .filter(|(_, other)| matches!(other.target, Target::Gpu | Target::Workgroup { .. }));
        // Of one replica; a kernel that says nothing is neither taken nor passed over.
        let bytes = bytes_of_one(launch);
        let alone = |variant: usize| {
            let done = launch.done(variant);
            let asked = done.kernel.asked(&done.constants)?;
            let [x, y, _] = done.grid.map(f64::from);
            let (time, _) = all_dispatches(&done, &asked, x * y, bytes, card);
            Some((variant, time))
        };
        let Some((_, usual)) = alone(first) else {
            return first;
        };
        let variants = [0].into_iter().chain(others.map(|(i, _)| i + 1));
        let fastest = variants
            .filter_map(alone)
            .min_by(|(_, a), (_, b)| a.total_cmp(b));
        match fastest {
            Some((variant, found)) if found <= WORTH * usual => variant,
            _ => first,
        }
    }
}

/// Bytes that a launch binds of one replica.
fn bytes_of_one(launch: &Launch) -> f64 {
    let bytes: usize = launch.bindings.iter().map(|b| 4 * b.elements).sum();
    bytes as f64
}

/// Microseconds of all dispatches of a launch, each of which moves its share of the bytes, and what bounds them.
fn all_dispatches(
    launch: &Launch,
    asked: &Asked,
    workgroups: f64,
    bytes: f64,
    card: &Card,
) -> (f64, Bound) {
    let times = launch.dispatches().max(1) as f64;
    let (each, bound) = time(asked, workgroups, bytes / times, card);
    (times * each, bound)
}

/// Microseconds of so many workgroups that ask for this, over bindings of so many bytes, and what bounds
/// them.
fn time(asked: &Asked, workgroups: f64, bytes: f64, card: &Card) -> (f64, Bound) {
    let of = |n: u64| n as f64;
    // Of a multiprocessor.
    let own = workgroups / card.multiprocessors;
    let warps = (of(asked.threads) / WARP).ceil();
    let per_scheduler = warps / card.schedulers;
    let cycles = |n: f64| n / (1e3 * card.gigahertz);
    let [chain, alone] = workgroup(asked, card.latency, card);
    let resident = (card.threads / (warps * WARP))
        .floor()
        .clamp(1.0, card.workgroups);
    let asked_bytes = 4.0 * of(asked.words) * workgroups;
    // A gigabyte a second is a thousand bytes a microsecond.
    let moved = (asked_bytes / card.cache).max(bytes.min(asked_bytes) / card.memory) / 1e3;
    let more = [
        (Bound::Latency, (chain + alone) * (own / resident - 1.0)),
        (
            Bound::Issue,
            cycles(of(asked.issue) * per_scheduler) * (own - 1.0),
        ),
        (Bound::Starts, card.start * own),
        (Bound::Bytes, moved),
    ];
    let (scarcest, most) = largest(more);
    let parts = [
        (Bound::Launch, card.launch),
        (Bound::Latency, chain),
        (Bound::Issue, alone),
        (Bound::Starts, 0.0),
        (Bound::Bytes, 0.0),
    ];
    let parts =
        parts.map(|(bound, time)| (bound, time + if bound == scarcest { most } else { 0.0 }));
    let total = parts.iter().map(|(_, time)| time).sum();
    (total, largest(parts).0)
}

/// Microseconds of one workgroup that has a multiprocessor to itself: those in which its loads and barriers
/// wait for each other, a load for `latency`, and those of its instructions.
fn workgroup(asked: &Asked, latency: f64, card: &Card) -> [f64; 2] {
    let of = |n: u64| n as f64;
    let per_scheduler = (of(asked.threads) / WARP).ceil() / card.schedulers;
    let alone = of(asked.issue) * per_scheduler.max(card.dependent) / (1e3 * card.gigahertz);
    let behind = (of(asked.ahead) * latency - alone).max(0.0);
    let chain = of(asked.rounds) * latency + of(asked.barriers) * card.barrier + behind;
    [chain, alone]
}

impl Plan {
    /// Microseconds of a launch within a larger one of one workgroup, whose threads do `side` of the launch's
    /// workgroups at a time.
    pub(super) fn within(&self, launch: &Launch, side: u64, card: &Card) -> f64 {
        let asked = launch.kernel.asked(&launch.constants);
        let asked = asked.unwrap_or_else(|| self.guessed(launch));
        let [x, y, _] = launch.grid.map(u64::from);
        let side = side.min(x * y);
        let together = Asked {
            threads: asked.threads * side,
            ..asked
        };
        // Of a small network all is near that the last run has used, but for the data.
        let data = launch.kernel.bindings.iter().any(|b| b.shared);
        let latency = if data { card.latency } else { card.near };
        let [chain, alone] = workgroup(&together, latency, card);
        let moved = 4.0 * (asked.words * side) as f64 / (1e3 * card.port * card.gigahertz);
        (x * y).div_ceil(side) as f64 * (chain + alone.max(moved))
    }
}

/// The part that is largest, the first of equal ones; the launch if none is above 0.
fn largest<const N: usize>(parts: [(Bound, f64); N]) -> (Bound, f64) {
    let larger = |most: (Bound, f64), next: (Bound, f64)| if next.1 > most.1 { next } else { most };
    parts.into_iter().fold((Bound::Launch, 0.0), larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeSet;

    use crate::doctor::harness::plan_of;
    use crate::kernel::Kernel;
    use crate::ops::TABLE;

    /// Of every variant that a GPU takes or one workgroup of a whole program, of every op's every case. A kernel that says
    /// nothing is guessed; one that took over what another says, by `..`, would be told wrongly.
    #[test]
    fn every_kernel_of_a_gpu_says_what_it_asks_for() {
        let mut silent = BTreeSet::new();
        for case in TABLE.iter().flat_map(|row| (row.cases)()) {
            let plan = plan_of(&case, 1).unwrap();
            for launch in plan.programs.values().flatten() {
                let others = launch.alternatives.iter().map(|other| other.target);
                let targets = [Target::Gpu].into_iter().chain(others);
                let of_gpus = targets.enumerate().filter(|(_, target)| {
                    matches!(
                        target,
                        Target::Gpu | Target::Workgroup { .. } | Target::Single { .. }
                    )
                });
                for (variant, _) in of_gpus {
                    let done = launch.done(variant);
                    let Kernel { name, .. } = done.kernel;
                    match done.kernel.asked(&done.constants) {
                        // A thread does something, and a launch leaves something.
                        Some(asked) => assert!(asked.issue > 0 && asked.words > 0, "{name}"),
                        None => _ = silent.insert(*name),
                    }
                }
            }
        }
        assert_eq!(silent, BTreeSet::new());
    }

    const NOTHING: Asked = Asked {
        threads: 64,
        rounds: 0,
        ahead: 0,
        barriers: 0,
        issue: 0,
        words: 0,
    };

    fn near((time, bound): (f64, Bound), wanted: f64, by: Bound) {
        assert!((time - wanted).abs() < 0.01 * wanted, "{time} for {wanted}");
        assert_eq!(bound, by);
    }

    #[test]
    fn each_part_of_the_time_is_counted() {
        let card = &Card::H200;
        near(time(&NOTHING, 1.0, 0.0, card), 2.3, Bound::Launch);
        let rounds = Asked {
            rounds: 20,
            barriers: 10,
            ..NOTHING
        };
        near(
            time(&rounds, 1.0, 0.0, card),
            2.3 + 5.4 + 0.2,
            Bound::Latency,
        );
        // Two warps are less than a scheduler has each; 128 warps are 32.
        let issue = Asked {
            issue: 19_800,
            ..NOTHING
        };
        near(time(&issue, 1.0, 0.0, card), 2.3 + 12.5, Bound::Issue);
        // A second workgroup of each multiprocessor adds half a warp a scheduler.
        near(
            time(&issue, 264.0, 0.0, card),
            2.3 + 12.5 + 5.0,
            Bound::Issue,
        );
        let ahead = Asked {
            ahead: 100,
            ..issue
        };
        near(time(&ahead, 1.0, 0.0, card), 2.3 + 27.0, Bound::Latency);
        let bytes = Asked {
            words: 1 << 20,
            ..NOTHING
        };
        near(time(&bytes, 132.0, 1e6, card), 2.3 + 100.66, Bound::Bytes);
        near(
            time(&NOTHING, 13_200.0, 0.0, card),
            2.3 + 8.0,
            Bound::Starts,
        );
        // 32 workgroups of 64 threads have room at once.
        let waves = Asked {
            rounds: 1000,
            ..NOTHING
        };
        near(
            time(&waves, 132.0 * 64.0, 0.0, card),
            2.3 + 540.0,
            Bound::Latency,
        );
    }

    #[test]
    fn a_card_is_known_by_its_adapters_name() {
        assert_eq!(Card::named("NVIDIA H200 (Vulkan, NVIDIA 580)"), &Card::H200);
        assert_eq!(Card::named("nvidia h200"), &Card::H200);
        assert_eq!(Card::named("llvmpipe"), &Card::GENERIC);
        assert_eq!(Card::named("NVIDIA GH200 480GB"), &Card::GENERIC);
    }
}
