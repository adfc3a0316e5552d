//! Which device a plan runs on: the choice, the list, the fallback.

use std::str::FromStr;

use super::cpu::{Cpu, Implementation, cpu_info};
use super::{Cache, DeviceInfo, Executor};
use crate::error::{Error, Result};
#[cfg(feature = "gpu")]
use crate::plan::Launch;
use crate::plan::Plan;

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// A hardware GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU executor.
    Cpu,
    /// A GPU adapter, hardware before software; none is an error.
    Gpu,
    /// The adapter with this index in [`devices`].
    Index(usize),
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            other => other.parse().map(Self::Index).map_err(|_| {
                Error::setting("device", other, "auto, cpu, gpu or an adapter's index")
            }),
        }
    }
}

/// When a program becomes one launch ([`Persistent`](crate::plan::Persistent)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WholePrograms {
    /// Never.
    #[default]
    Never,
    /// Where it is predicted to be clearly faster: on a measured GPU
    /// ([`Card::MEASURED`](crate::plan::Card::MEASURED)) by its numbers, on other hardware by those of some GPU. On a
    /// GPU that is a program on a processor it is slower, and never predicted.
    Predicted,
    /// Wherever it can.
    Always,
}

/// The names of [`WholePrograms`].
const WHOLE_PROGRAMS: [(&str, WholePrograms); 3] = [
    ("never", WholePrograms::Never),
    ("predicted", WholePrograms::Predicted),
    ("always", WholePrograms::Always),
];

impl std::fmt::Display for WholePrograms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = WHOLE_PROGRAMS.iter().find(|(_, when)| when == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}

impl FromStr for WholePrograms {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let named = WHOLE_PROGRAMS.iter().find(|(name, _)| *name == s);
        named.map(|(_, when)| *when).ok_or_else(|| {
            let known = WHOLE_PROGRAMS.map(|(name, _)| name);
            Error::unknown("choice of whole programs", s, &known)
        })
    }
}

/// A device that was found and opened.
#[derive(Debug)]
pub enum Device {
    /// The CPU.
    Cpu(DeviceInfo),
    /// A GPU through wgpu.
    #[cfg(feature = "gpu")]
    Gpu(super::gpu::GpuDevice),
}

impl Device {
    /// Opens the device that was asked for. Where [`Choice::Auto`] finds no hardware
    /// GPU it takes the CPU, and a `tracing` event says so.
    ///
    /// # Errors
    /// [`Error::Adapter`] if the wanted adapter does not exist, [`Error::UnknownName`] if the
    /// variable `WGPU_BACKEND` names no backend.
    pub fn open(choice: Choice) -> Result<Self> {
        match choice {
            Choice::Cpu => Ok(Self::Cpu(cpu_info())),
            #[cfg(feature = "gpu")]
            _ => Self::opened(choice, super::gpu::GpuDevice::open(choice)),
            #[cfg(not(feature = "gpu"))]
            Choice::Auto => Ok(Self::Cpu(cpu_info())),
            #[cfg(not(feature = "gpu"))]
            _ => Err(Error::Adapter {
                found: "a build without the `gpu` feature".into(),
                wanted: "a GPU adapter".into(),
                fix: "Build with default features, or use the CPU.".into(),
            }),
        }
    }

    /// [`Device::open`] where nobody can stop and wait, as in a page in a browser. Everything that
    /// waits for a GPU has such a second form; the first one is an error there.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub async fn open_async(choice: Choice) -> Result<Self> {
        #[cfg(feature = "gpu")]
        if choice != Choice::Cpu {
            return Self::opened(choice, super::gpu::GpuDevice::open_async(choice).await);
        }
        Self::open(choice)
    }

    /// The GPU that was found, or what stands in for it.
    #[cfg(feature = "gpu")]
    fn opened(choice: Choice, found: Result<super::gpu::GpuDevice>) -> Result<Self> {
        match found {
            Ok(gpu) => Ok(Self::Gpu(gpu)),
            Err(e @ Error::Adapter { .. }) if choice == Choice::Auto => {
                tracing::info!("no hardware GPU found, so the CPU computes");
                tracing::debug!("{e}");
                Ok(Self::Cpu(cpu_info()))
            }
            Err(e) => Err(e),
        }
    }

    /// Opens a GPU whose matrix units do the large products of forward passes in mixed
    /// precision: factors rounded to f16 (11 bits; infinite beyond 65,504), products and sums
    /// in f32 (Micikevicius et al. 2018). Updates stay in f32, and so do gradients, unless every
    /// optimizer has a loss scale ([`Optimizer::loss_scale`](crate::optim::Optimizer::loss_scale)): many gradients are
    /// smaller than what f16 holds. The device's name says so, since it does not compute the same bits.
    ///
    /// The units are an experiment of wgpu's, which is why nobody gets them unasked; [`doctor::open_mixed`] holds them
    /// to the reference first.
    ///
    /// [`doctor::open_mixed`]: crate::doctor::open_mixed
    ///
    /// # Errors
    /// [`Error::Adapter`] if there is no such adapter; the CPU is none.
    pub fn open_mixed(choice: Choice) -> Result<Self> {
        #[cfg(feature = "gpu")]
        if choice != Choice::Cpu {
            return super::gpu::GpuDevice::open_mixed(choice).map(Self::Gpu);
        }
        let _ = choice;
        Err(Error::Adapter {
            found: "the CPU".into(),
            wanted: "a GPU adapter with matrix units".into(),
            fix: "Choose an adapter that has some, or train without mixed precision.".into(),
        })
    }

    /// The same device, which keeps in `cache` what saves a later run time: on a GPU the
    /// driver's compiled pipelines and what [`Device::tuned`] measured. Without this, nothing
    /// is kept.
    pub fn with_cache(self, cache: &Cache) -> Self {
        match self {
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => Self::Gpu(gpu.with_cache(cache)),
            cpu @ Self::Cpu(_) => {
                // It compiles nothing.
                let _ = cache;
                cpu
            }
        }
    }

    /// The same device, but where a launch can be done in several variants, each is held to the
    /// reference and timed before a plan runs, and the fastest of those that are right is taken; a
    /// `tracing` event tells of one that is wrong. Launches of more than 4 · 10⁹ operations, for which
    /// the reference would take long, are done as without tuning. What was measured stays with this device and
    /// in its cache; a device that is not tuned does not look there. The CPU has one variant.
    ///
    /// Two variants round differently, so a tuned device has a name of its own, and its
    /// executors' name says by a number which variants they take: the same name and seed, the
    /// same bits.
    pub fn tuned(self) -> Self {
        match self {
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => Self::Gpu(gpu.tuned()),
            cpu @ Self::Cpu(_) => cpu,
        }
    }

    /// The same device, with programs as one launch each when this says so
    /// ([`Persistent`](crate::plan::Persistent)): a workgroup for each replica then does all launches of a
    /// training step, and many steps in a row. On the CPU nothing is launched, and on a tuned device launches stay
    /// apart, since only these were measured.
    ///
    /// It is asked for, since no time of it has been measured on a GPU yet, only predicted.
    ///
    /// Launches are done in other variants then, which round differently; so such a device has a name of its own.
    #[must_use]
    pub fn with_whole_programs(self, when: WholePrograms) -> Self {
        match self {
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => Self::Gpu(gpu.with_whole_programs(when)),
            cpu @ Self::Cpu(_) => {
                let _ = when;
                cpu
            }
        }
    }

    /// What it is and allows.
    pub fn info(&self) -> &DeviceInfo {
        match self {
            Self::Cpu(info) => info,
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.info(),
        }
    }

    /// The plan in each variant that the device can run, the first of every launch first. A launch
    /// with fewer variants than others takes its first again. The CPU has one variant.
    pub fn variants(&self, plan: Plan) -> Vec<Plan> {
        match self {
            Self::Cpu(_) => vec![plan.choose(|_| 0)],
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => {
                let plan = gpu.possible(plan);
                let most = plan.programs.values().flatten().map(Launch::variants).max();
                let variants = 0..most.unwrap_or(1);
                variants
                    .map(|variant| plan.clone().choose(|_| variant))
                    .collect()
            }
        }
    }

    /// Makes an executor for a plan: buffers allocated, pipelines compiled.
    ///
    /// # Errors
    /// What the plan's checker or the device says.
    pub fn executor(&self, plan: Plan) -> Result<Box<dyn Executor>> {
        match self {
            Self::Cpu(_) => Ok(Box::new(Cpu::<f32>::new(plan, Implementation::Optimized)?)),
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => Ok(Box::new(super::gpu::Gpu::new(gpu, plan)?)),
        }
    }
}

impl Device {
    /// [`Device::executor`] where nobody can stop and wait.
    ///
    /// # Errors
    /// As [`Device::executor`].
    pub async fn executor_async(&self, plan: Plan) -> Result<Box<dyn Executor>> {
        match self {
            Self::Cpu(_) => self.executor(plan),
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => Ok(Box::new(super::gpu::Gpu::new_async(gpu, plan).await?)),
        }
    }
}

/// Every adapter of this machine, in the order of [`Choice::Index`]; not the CPU
/// executor, which is always there.
///
/// # Errors
/// [`Error::UnknownName`] if the variable `WGPU_BACKEND` names no backend.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    #[cfg(feature = "gpu")]
    return super::gpu::adapters();
    #[cfg(not(feature = "gpu"))]
    Ok(vec![])
}
