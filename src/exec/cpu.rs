//! The CPU executor: the same plan, each launch a Rust function.
//!
//! Generic over the scalar, so that the plan that trains in `f32` is checked in `f64`.
//! Replicas run side by side on the threads; a replica's arithmetic does not depend on
//! how many there are.

use rayon::prelude::*;

use super::{DeviceInfo, Executor, Traffic, check_write, program};
use crate::error::Result;
use crate::kernel::{Access, Args, Kernel, Slot};
use crate::plan::{Launch, Limits, Plan};
use crate::shape::DType;
use crate::tensor::{Host, Real};

/// Which text of a kernel is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// The reference, written for reading.
    Reference,
    /// The faster function where a kernel has one, else the reference.
    Fast,
}

/// A scalar that the executor can run in.
pub trait Scalar: Real {
    /// The kernel's function at this precision.
    fn function(kernel: &Kernel, text: Text) -> fn(&mut Args<'_, Self>);
}

impl Scalar for f32 {
    fn function(kernel: &Kernel, text: Text) -> fn(&mut Args<'_, Self>) {
        match (text, kernel.fast) {
            (Text::Fast, Some(fast)) => fast,
            _ => kernel.reference.f32,
        }
    }
}

impl Scalar for f64 {
    fn function(kernel: &Kernel, _: Text) -> fn(&mut Args<'_, Self>) {
        kernel.reference.f64
    }
}

/// The content of a buffer.
#[derive(Clone, Debug)]
enum Store<T> {
    F(Vec<T>),
    U(Vec<u32>),
}

/// Runs plans on the CPU.
#[derive(Debug)]
pub struct Cpu<T> {
    plan: Plan,
    buffers: Vec<Store<T>>,
    text: Text,
    info: DeviceInfo,
    traffic: Traffic,
}

impl<T: Scalar> Cpu<T> {
    /// Allocates the plan's buffers. Their content is garbage until it is written:
    /// here NaN and `u32::MAX`, so that a kernel that reads too early is found out.
    ///
    /// # Errors
    /// What [`Plan::check`] finds; [`Error::Adapter`](crate::Error::Adapter) if the machine
    /// has not enough free memory.
    pub fn new(plan: Plan, text: Text) -> Result<Self> {
        plan.check(&Limits::CPU)?;
        super::memory::check(&plan)?;
        let store = |b: &crate::plan::Buffer| {
            let n = b.total(plan.replicas);
            match b.dtype {
                DType::F32 => Store::F(vec![T::of(f64::NAN); n]),
                DType::U32 => Store::U(vec![u32::MAX; n]),
            }
        };
        Ok(Self {
            buffers: plan.buffers.iter().map(store).collect(),
            plan,
            text,
            info: super::device::cpu_info(),
            traffic: Traffic::default(),
        })
    }

    /// A float buffer at full precision; `None` if it holds integers.
    pub fn values(&self, buffer: usize) -> Option<&[T]> {
        match self.buffers.get(buffer) {
            Some(Store::F(v)) => Some(v),
            _ => None,
        }
    }

    /// A float buffer at full precision, to be changed; `None` if it holds integers.
    pub fn values_mut(&mut self, buffer: usize) -> Option<&mut [T]> {
        match self.buffers.get_mut(buffer) {
            Some(Store::F(v)) => Some(v),
            _ => None,
        }
    }

    fn launch(buffers: &mut [Store<T>], launch: &Launch, text: Text) {
        let function = T::function(launch.kernel, text);
        let copies = launch.grid[2] as usize;
        let declared = launch.kernel.bindings;
        // Written buffers leave the list while the launch runs; the checker has made
        // sure that nothing else in the launch is the same buffer.
        let mut written: Vec<Option<Store<T>>> = launch
            .bindings
            .iter()
            .zip(declared)
            .map(|(b, d)| {
                (d.access != Access::Read)
                    .then(|| std::mem::replace(&mut buffers[b.buffer], Store::U(vec![])))
            })
            .collect();
        let mut replicas: Vec<Args<'_, T>> = (0..copies)
            .map(|_| Args {
                constants: &launch.constants,
                slots: Vec::with_capacity(declared.len()),
            })
            .collect();
        for (i, written) in written.iter_mut().enumerate() {
            let binding = launch.bindings[i];
            let n = binding.elements;
            match written {
                Some(Store::F(v)) => push(&mut replicas, v.chunks_mut(n).map(Slot::FMut)),
                Some(Store::U(v)) => push(&mut replicas, v.chunks_mut(n).map(Slot::UMut)),
                None => {
                    let at = |r: usize| if declared[i].shared { 0 } else { r * n };
                    match &buffers[binding.buffer] {
                        Store::F(v) => {
                            push(
                                &mut replicas,
                                (0..copies).map(|r| Slot::F(&v[at(r)..][..n])),
                            );
                        }
                        Store::U(v) => {
                            push(
                                &mut replicas,
                                (0..copies).map(|r| Slot::U(&v[at(r)..][..n])),
                            );
                        }
                    }
                }
            }
        }
        if copies == 1 {
            replicas.iter_mut().for_each(function);
        } else {
            replicas.par_iter_mut().for_each(function);
        }
        drop(replicas);
        for (binding, store) in launch.bindings.iter().zip(written) {
            if let Some(store) = store {
                buffers[binding.buffer] = store;
            }
        }
    }
}

fn push<'a, T>(replicas: &mut [Args<'a, T>], slots: impl Iterator<Item = Slot<'a, T>>) {
    for (args, slot) in replicas.iter_mut().zip(slots) {
        args.slots.push(slot);
    }
}

impl<T: Scalar> Executor for Cpu<T> {
    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn write(&mut self, buffer: usize, data: &Host) -> Result<()> {
        check_write(&self.plan, buffer, data)?;
        self.traffic.uploaded += data.bytes().len() as u64;
        self.buffers[buffer] = match data {
            Host::F32(v) => Store::F(v.iter().map(|&x| T::of(f64::from(x))).collect()),
            Host::U32(v) => Store::U(v.clone()),
        };
        Ok(())
    }

    fn read_all(&mut self, buffers: &[usize]) -> Result<Vec<Host>> {
        for &b in buffers {
            super::buffer(&self.plan, b)?;
        }
        let hosts: Vec<Host> = buffers
            .iter()
            .map(|&b| match &self.buffers[b] {
                Store::F(v) => Host::F32(v.iter().map(|x| x.wide() as f32).collect()),
                Store::U(v) => Host::U32(v.clone()),
            })
            .collect();
        self.traffic.readbacks += 1;
        self.traffic.read_back += hosts.iter().map(|h| h.bytes().len() as u64).sum::<u64>();
        Ok(hosts)
    }

    fn run(&mut self, name: &str, times: u64) -> Result<()> {
        let launches = program(&self.plan, name)?;
        for _ in 0..times {
            for launch in launches {
                Self::launch(&mut self.buffers, launch, self.text);
            }
        }
        self.traffic.launches += times * launches.len() as u64;
        self.traffic.submits += 1;
        Ok(())
    }

    fn run_part(&mut self, name: &str, part: std::ops::Range<usize>) -> Result<()> {
        super::check_part(&self.plan, name, &part)?;
        let launches = &program(&self.plan, name)?[part];
        for launch in launches {
            Self::launch(&mut self.buffers, launch, self.text);
        }
        self.traffic.launches += launches.len() as u64;
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        Ok(())
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}
