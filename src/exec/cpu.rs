//! The CPU executor: the same plan, each launch a Rust function.
//!
//! Generic over the scalar, so that the plan that trains in `f32` is checked in `f64`.
//! Replicas run side by side on the threads; a replica's arithmetic does not depend on
//! how many there are.

#[cfg(feature = "threads")]
use std::collections::VecDeque;
#[cfg(feature = "threads")]
use std::sync::{Mutex, OnceLock, PoisonError};

use smallvec::SmallVec;

use super::written::Written;
use super::{DeviceInfo, Executor, Traffic, check_write, program};
use crate::error::Result;
use crate::kernel::{Access, Args, BINDINGS, Kernel, Slot};
use crate::plan::{Binding, Buffer, Launch, Limits, Plan};
use crate::shape::DType;
use crate::tensor::{Host, Real, View};

/// Which implementation of a kernel is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// The reference, written for reading.
    Reference,
    /// The faster function where a kernel has one, else the reference.
    Optimized,
}

/// A scalar that the executor can run in.
pub trait Scalar: Real {
    /// Computes a kernel at this precision.
    fn compute(kernel: &Kernel, implementation: Implementation, args: &mut Args<'_, Self>);
}

impl Scalar for f32 {
    fn compute(kernel: &Kernel, implementation: Implementation, args: &mut Args<'_, Self>) {
        match (implementation, kernel.optimized) {
            (Implementation::Optimized, Some(optimized)) => optimized(args),
            (Implementation::Optimized, None) => kernel.reference.optimized(args),
            _ => kernel.reference.f32(args),
        }
    }
}

impl Scalar for f64 {
    fn compute(kernel: &Kernel, _: Implementation, args: &mut Args<'_, Self>) {
        kernel.reference.f64(args);
    }
}

/// What the CPU says of itself.
pub(super) fn cpu_info() -> DeviceInfo {
    DeviceInfo {
        name: format!("CPU, {} threads", crate::threads::current_num_threads()),
        cpu: true,
        software: false,
        limits: Limits::CPU,
    }
}

/// The content of a buffer.
#[derive(Clone, Debug)]
enum Store<T> {
    F(Vec<T>),
    U(Vec<u32>),
}

/// The buffers of one replica, by the plan's number; empty where all replicas share one.
type Own<T> = Vec<Store<T>>;

/// Operations that a thread has done before others have been woken and have ended: some 80 µs of products.
#[cfg(feature = "threads")]
const LITTLE: u64 = 8_000_000;

/// What an element that is written counts as, whatever is done for it: up to 5 ns, as eˣ takes and a move to another place.
#[cfg(feature = "threads")]
const ELEMENT: u64 = 300;

/// Whether running launches so often is done sooner on the thread that asks for it.
#[cfg(feature = "threads")]
fn is_little(launches: &[Launch], replicas: usize, times: u64) -> bool {
    let work = |launch: &Launch| {
        let bindings = launch.bindings.iter().zip(launch.kernel.bindings);
        let written = bindings.filter(|(_, declared)| declared.access != Access::Read);
        let elements: u64 = written.map(|(b, _)| b.elements as u64).sum();
        launch.flops + ELEMENT * elements * replicas as u64
    };
    let all: u64 = launches.iter().map(work).sum();
    all.saturating_mul(times) < LITTLE
}

/// Runs plans on the CPU.
///
/// Every replica has buffers of its own, and what all share is only read, so replicas go
/// through a program without waiting for each other.
#[derive(Debug)]
pub struct Cpu<T> {
    plan: Plan,
    shared: Vec<Store<T>>,
    replicas: Vec<Own<T>>,
    implementation: Implementation,
    info: DeviceInfo,
    traffic: Traffic,
    written: Written,
}

/// A replica's way through a program.
#[cfg(feature = "threads")]
struct Job<'a, T> {
    own: &'a mut Own<T>,
    /// Runs still to do.
    left: u64,
}

/// How often a replica's runs are interrupted for another replica, so that five replicas
/// keep two threads busy to the end.
#[cfg(feature = "threads")]
const TURNS: u64 = 8;

impl<T: Scalar> Cpu<T> {
    /// Allocates the plan's buffers. Their content is garbage until it is written:
    /// here NaN and `u32::MAX`, so that a kernel that reads too early is found out.
    ///
    /// # Errors
    /// What [`Plan::check`] finds; [`Error::Adapter`](crate::Error::Adapter) if the machine
    /// has not enough free memory.
    pub fn new(plan: Plan, implementation: Implementation) -> Result<Self> {
        plan.check(&Limits::CPU)?;
        super::memory::check(&plan)?;
        let stores = |shared: bool| -> Vec<Store<T>> {
            let store = |b: &Buffer| match (b.shared == shared, b.dtype) {
                (false, _) => Store::U(vec![]),
                (true, DType::F32) => Store::F(vec![T::of(f64::NAN); b.elements]),
                (true, DType::U32) => Store::U(vec![u32::MAX; b.elements]),
            };
            plan.buffers.iter().map(store).collect()
        };
        Ok(Self {
            shared: stores(true),
            replicas: (0..plan.replicas).map(|_| stores(false)).collect(),
            written: Written::none_of(&plan),
            plan,
            implementation,
            info: cpu_info(),
            traffic: Traffic::default(),
        })
    }

    /// A replica's floats at full precision; `None` where there is no such replica, or the
    /// buffer is shared or holds integers.
    pub fn values(&self, replica: usize, buffer: usize) -> Option<&[T]> {
        match self.replicas.get(replica)?.get(buffer) {
            Some(Store::F(v)) => Some(v),
            _ => None,
        }
    }

    /// [`Cpu::values`], to be changed; counts as written.
    pub fn values_mut(&mut self, replica: usize, buffer: usize) -> Option<&mut [T]> {
        if buffer < self.plan.buffers.len() {
            self.written.fill(buffer);
        }
        match self.replicas.get_mut(replica)?.get_mut(buffer) {
            Some(Store::F(v)) => Some(v),
            _ => None,
        }
    }

    /// The copies of a buffer: one per replica, or the one that all share.
    fn copies(&self, buffer: usize) -> impl Iterator<Item = &Store<T>> {
        let shared = self.plan.buffers[buffer].shared;
        let own = self.replicas.iter().map(move |own| &own[buffer]);
        let shared = shared.then(|| &self.shared[buffer]);
        let none = if shared.is_some() { 0 } else { usize::MAX };
        own.take(none).chain(shared)
    }

    /// Runs launches `times` times, for every replica.
    #[cfg(not(feature = "threads"))]
    fn all(
        replicas: &mut [Own<T>],
        shared: &[Store<T>],
        implementation: Implementation,
        launches: &[Launch],
        times: u64,
    ) -> Result<()> {
        for own in replicas {
            for _ in 0..times {
                Self::one_after_the_other(own, shared, implementation, launches)?;
            }
        }
        Ok(())
    }

    /// Runs launches `times` times, for every replica.
    #[cfg(feature = "threads")]
    fn all(
        replicas: &mut [Own<T>],
        shared: &[Store<T>],
        implementation: Implementation,
        launches: &[Launch],
        times: u64,
    ) -> Result<()> {
        if is_little(launches, replicas.len(), times) {
            return crate::threads::alone(|| {
                (0..times).try_for_each(|_| {
                    replicas.iter_mut().try_for_each(|own| {
                        Self::one_after_the_other(own, shared, implementation, launches)
                    })
                })
            });
        }
        if let [own] = replicas {
            return crate::threads::program(|| {
                (0..times).try_for_each(|_| {
                    Self::one_after_the_other(own, shared, implementation, launches)
                })
            });
        }
        let turn = times.div_ceil(TURNS);
        let jobs = replicas.iter_mut().map(|own| Job { own, left: times });
        let queue = Mutex::new(jobs.collect::<VecDeque<_>>());
        let next = || {
            queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front()
        };
        let failed = OnceLock::new();
        rayon::scope(|scope| {
            for _ in 0..rayon::current_num_threads() {
                scope.spawn(|_| {
                    while let Some(mut job) = next() {
                        let now = turn.min(job.left);
                        let ran = (0..now).try_for_each(|_| {
                            Self::one_after_the_other(job.own, shared, implementation, launches)
                        });
                        if let Err(error) = ran {
                            // Of several the first one tells; the others' replicas end too.
                            failed.get_or_init(|| error);
                            continue;
                        }
                        job.left -= now;
                        if job.left > 0 {
                            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                            queue.push_back(job);
                        }
                    }
                });
            }
        });
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// Launches for one replica.
    fn one_after_the_other(
        own: &mut Own<T>,
        shared: &[Store<T>],
        implementation: Implementation,
        launches: &[Launch],
    ) -> Result<()> {
        for (number, launch) in launches.iter().enumerate() {
            let ran = Self::launch(own, shared, launch, implementation);
            ran.map_err(|found| launch.panicked(number, &found))?;
        }
        Ok(())
    }

    /// One launch for one replica; else what the function of a foreign kernel has panicked with.
    fn launch(
        own: &mut Own<T>,
        shared: &[Store<T>],
        launch: &Launch,
        implementation: Implementation,
    ) -> std::result::Result<(), String> {
        let declared = launch.kernel.bindings;
        // Written buffers leave the list while the launch runs; the checker has made
        // sure that nothing else in the launch is the same buffer.
        let mut written: SmallVec<[Store<T>; BINDINGS]> = SmallVec::new();
        for (b, d) in launch.bindings.iter().zip(declared) {
            if d.access != Access::Read {
                written.push(std::mem::replace(&mut own[b.buffer], Store::U(vec![])));
            }
        }
        let mut taken = written.iter_mut();
        let mut slots = SmallVec::new();
        for (b, d) in launch.bindings.iter().zip(declared) {
            let slot = if d.access == Access::Read {
                let from = if d.shared { shared } else { &*own };
                match &from[b.buffer] {
                    Store::F(v) => Slot::F(&v[..b.elements]),
                    Store::U(v) => Slot::U(&v[..b.elements]),
                }
            } else {
                match taken.next() {
                    Some(Store::F(v)) => Slot::FMut(&mut v[..b.elements]),
                    Some(Store::U(v)) => Slot::UMut(&mut v[..b.elements]),
                    None => Slot::Taken,
                }
            };
            slots.push(slot);
        }
        let mut args = Args {
            constants: &launch.constants,
            slots,
        };
        let ran = launch.kernel.guarded(|| {
            T::compute(launch.kernel, implementation, &mut args);
        });
        drop(args);
        let mut written = written.into_iter();
        for (b, d) in launch.bindings.iter().zip(declared) {
            if d.access != Access::Read
                && let Some(store) = written.next()
            {
                own[b.buffer] = store;
            }
        }
        ran
    }
}

impl<T: Scalar> Executor for Cpu<T> {
    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn upload(&mut self, buffer: usize, data: View<'_>) -> Result<()> {
        check_write(&self.plan, buffer, data)?;
        self.written.fill(buffer);
        self.traffic.uploaded += data.bytes().len() as u64;
        let spec = &self.plan.buffers[buffer];
        let (n, shared) = (spec.elements, spec.shared);
        let fill = |store: &mut Store<T>, copy: usize| match (store, data) {
            (Store::F(to), View::F32(from)) => {
                for (to, &from) in to.iter_mut().zip(&from[copy * n..]) {
                    *to = T::of(f64::from(from));
                }
            }
            (Store::U(to), View::U32(from)) => to.copy_from_slice(&from[copy * n..][..n]),
            // `check_write` has compared the element types.
            _ => {}
        };
        if shared {
            fill(&mut self.shared[buffer], 0);
        } else {
            for (copy, own) in self.replicas.iter_mut().enumerate() {
                fill(&mut own[buffer], copy);
            }
        }
        Ok(())
    }

    fn upload_part(&mut self, buffer: usize, first: usize, data: View<'_>) -> Result<()> {
        super::check_part_write(&self.plan, buffer, first, data)?;
        self.written.fill(buffer);
        self.traffic.uploaded += data.bytes().len() as u64;
        match (&mut self.shared[buffer], data) {
            (Store::F(to), View::F32(from)) => {
                for (to, &from) in to[first..].iter_mut().zip(from) {
                    *to = T::of(f64::from(from));
                }
            }
            (Store::U(to), View::U32(from)) => to[first..][..from.len()].copy_from_slice(from),
            // `check_part_write` has compared the element types.
            _ => {}
        }
        Ok(())
    }

    fn swap(&mut self, one: usize, other: usize) -> Result<()> {
        super::check_swap(&self.plan, one, other)?;
        self.written.swap(one, other);
        self.shared.swap(one, other);
        for own in &mut self.replicas {
            own.swap(one, other);
        }
        Ok(())
    }

    fn read_bindings(&mut self, bindings: &[Binding]) -> Result<Vec<Host>> {
        self.written.read(&self.plan, bindings)?;
        let mut hosts = Vec::with_capacity(bindings.len());
        for b in bindings {
            let host = match super::binding(&self.plan, b)?.dtype {
                DType::F32 => Host::F32(
                    self.copies(b.buffer)
                        .flat_map(|store| match store {
                            Store::F(v) => &v[..b.elements],
                            Store::U(_) => &[],
                        })
                        .map(|x| x.wide() as f32)
                        .collect(),
                ),
                DType::U32 => Host::U32(
                    self.copies(b.buffer)
                        .flat_map(|store| match store {
                            Store::U(v) => &v[..b.elements],
                            Store::F(_) => &[],
                        })
                        .copied()
                        .collect(),
                ),
            };
            hosts.push(host);
        }
        self.traffic.readbacks += 1;
        self.traffic.read_back += hosts.iter().map(|h| h.bytes().len() as u64).sum::<u64>();
        Ok(hosts)
    }

    fn run(&mut self, name: &str, times: u64) -> Result<()> {
        self.written.run(&self.plan, name)?;
        let launches = program(&self.plan, name)?;
        let (replicas, shared) = (&mut self.replicas, &self.shared);
        Self::all(replicas, shared, self.implementation, launches, times)?;
        self.traffic.launches += times * launches.iter().map(Launch::dispatches).sum::<u64>();
        self.traffic.submits += 1;
        Ok(())
    }

    fn run_part(&mut self, name: &str, part: std::ops::Range<usize>) -> Result<()> {
        super::check_part(&self.plan, name, &part)?;
        let launches = &program(&self.plan, name)?[part];
        self.written.part(&self.plan, name, launches)?;
        let (replicas, shared) = (&mut self.replicas, &self.shared);
        Self::all(replicas, shared, self.implementation, launches, 1)?;
        self.traffic.launches += launches.iter().map(Launch::dispatches).sum::<u64>();
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        Ok(())
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}

#[cfg(all(test, feature = "threads"))]
mod tests {
    use super::*;
    use crate::kernel::Bind;

    static KERNEL: Kernel = Kernel::new(
        "nothing",
        "",
        &[Bind::read("x"), Bind::write("y")],
        &[],
        crate::reference!(nothing),
    );

    fn nothing<T: Real>(_: &mut Args<'_, T>) {}

    /// What runs often, counts many operations, or writes much over all replicas is worth waking others; what is only read
    /// is not, such as all the data that a few rows are taken of.
    #[test]
    fn little_is_all_of_a_run() {
        let launch = |elements: [usize; 2], flops| Launch {
            label: String::new(),
            kernel: &KERNEL,
            constants: vec![],
            bindings: elements
                .map(|elements| Binding {
                    buffer: 0,
                    elements,
                })
                .to_vec(),
            grid: [1; 3],
            flops,
            alternatives: vec![],
        };
        let read_much = [launch([usize::MAX, 100], 10)];
        assert!(is_little(&read_much, 1, 1));
        assert!(!is_little(&read_much, 1, u64::MAX));
        let replicas = LITTLE.div_ceil(100 * ELEMENT) as usize;
        assert!(is_little(&read_much, replicas - 1, 1));
        assert!(!is_little(&read_much, replicas, 1));
        let much = [launch([1, 1], LITTLE - ELEMENT - 1), launch([1, 1], 0)];
        assert!(is_little(&much[..1], 1, 1));
        assert!(!is_little(&much, 1, 1));
        assert!(!is_little(&much[..1], 1, 2));
    }
}
