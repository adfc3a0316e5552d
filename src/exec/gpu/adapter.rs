//! Adapters: which there are, and one of them opened.

use std::sync::{Arc, Mutex, PoisonError};

use super::block_on;
use super::kept::Kept;
use super::tuning::Tuning;
use crate::error::{Error, Result};
use crate::exec::{Cache, Choice, DeviceInfo, WholePrograms};
use crate::kernel::{LANES, Target};
use crate::plan::{Alternative, Card, Launch, Limits, Plan};

/// How much of its memory a device may be asked for.
const BUDGET_PERCENT: u8 = 95;

/// What is used where an adapter has it.
const WANTED: wgpu::Features = wgpu::Features::PIPELINE_CACHE
    .union(wgpu::Features::TIMESTAMP_QUERY)
    .union(VECTORS);

/// What kernels for [`Target::Lanes`] use.
const VECTORS: wgpu::Features = wgpu::Features::SUBGROUP.union(wgpu::Features::SHADER_INT64);

/// What mixed precision needs beside a unit of a known size ([`units_of`]).
const UNITS: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SUBGROUP);

/// Matrix units that there are kernels for: rows and columns of their matrices, and threads of
/// the subgroup that multiplies them. `THREADS` of shaders/shared/fragments.wgsl are as many
/// subgroups as its block has squares of 2 x 2 matrices.
const KNOWN_UNITS: [(u32, u32); 2] = [(16, 32), (8, 8)];

/// Rows and columns of the matrices that an adapter multiplies for [`Target::MatrixUnits`], if
/// it does: factors in f16, sums in f32.
fn units_of(adapter: &wgpu::Adapter) -> Option<u32> {
    let info = adapter.get_info();
    let all = adapter.cooperative_matrix_properties();
    let has = |(edge, subgroup): (u32, u32)| {
        let unit = all.iter().find(|p| {
            [p.m_size, p.n_size, p.k_size] == [edge; 3]
                && p.ab_type == wgpu::CooperativeScalarType::F16
                && p.cr_type == wgpu::CooperativeScalarType::F32
        });
        let subgroups = [info.subgroup_min_size, info.subgroup_max_size];
        unit.is_some() && subgroups == [subgroup; 2]
    };
    let able = adapter.features().contains(UNITS);
    let mut known = KNOWN_UNITS.into_iter();
    known.find(|&unit| able && has(unit)).map(|(edge, _)| edge)
}

/// The names of WGPU_BACKEND that mean something here.
const BACKENDS: &[&str] = match cfg!(feature = "gles") {
    true => &["vulkan", "metal", "dx12", "gl"],
    false => &["vulkan", "metal", "dx12"],
};

/// Those that this program is built without.
const ABSENT: wgpu::Backends = match cfg!(feature = "gles") {
    true => wgpu::Backends::BROWSER_WEBGPU,
    false => wgpu::Backends::BROWSER_WEBGPU.union(wgpu::Backends::GL),
};

/// The backends to look for adapters in: those that the text of WGPU_BACKEND names, separated
/// by commas. wgpu itself passes over a name that it does not know.
fn backends(named: &str) -> Result<wgpu::Backends> {
    let mut chosen = wgpu::Backends::empty();
    for name in named.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        match wgpu::Backends::from_comma_list(name) - ABSENT {
            none if none.is_empty() => {
                return Err(Error::unknown("backend in WGPU_BACKEND", name, BACKENDS));
            }
            backend => chosen |= backend,
        }
    }
    // GL's compute is an emulation with fewer bindings than the portable eight.
    Ok(match chosen.is_empty() {
        true => wgpu::Backends::PRIMARY,
        false => chosen,
    })
}

fn instance() -> Result<wgpu::Instance> {
    // wgpu's other variables are honoured.
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    let named = std::env::var_os("WGPU_BACKEND").unwrap_or_default();
    descriptor.backends = backends(&named.to_string_lossy())?;
    // Running out must be an error at allocation and not the death of the machine.
    descriptor.memory_budget_thresholds = wgpu::MemoryBudgetThresholds {
        for_resource_creation: Some(BUDGET_PERCENT),
        for_device_loss: None,
    };
    Ok(wgpu::Instance::new(descriptor))
}

/// Turns of a thread's loops on hardware, which does not count them: so few that a launch ends
/// long before a driver's watchdog loses patience.
const MOST_TURNS: u64 = 1 << 24;

fn info_of(adapter: &wgpu::Adapter) -> DeviceInfo {
    let info = adapter.get_info();
    let limits = adapter.limits();
    let software = info.device_type == wgpu::DeviceType::Cpu;
    let note = if software { ", a software adapter" } else { "" };
    DeviceInfo {
        name: format!(
            "{} ({:?}, {} {}{note})",
            info.name, info.backend, info.driver, info.driver_info
        ),
        cpu: false,
        software,
        limits: Limits {
            binding_bytes: limits
                .max_storage_buffer_binding_size
                .min(limits.max_buffer_size),
            bindings: limits.max_storage_buffers_per_shader_stage as usize,
            workgroups: limits.max_compute_workgroups_per_dimension,
            turns: if software {
                Limits::default().turns
            } else {
                MOST_TURNS
            },
        },
    }
}

/// A browser shows the one adapter that it would give.
async fn enumerate() -> Result<Vec<wgpu::Adapter>> {
    Ok(instance()?.enumerate_adapters(wgpu::Backends::all()).await)
}

/// Every adapter.
///
/// # Errors
/// [`Error::UnknownName`] if `WGPU_BACKEND` names no backend.
pub fn adapters() -> Result<Vec<DeviceInfo>> {
    Ok(block_on(enumerate())?.iter().map(info_of).collect())
}

/// Failures that wgpu reports outside the call that caused them.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    /// Why the device was lost: the cause of whatever else fails after it.
    lost: Option<String>,
    /// The first other failure.
    first: Option<String>,
}

impl Faults {
    pub(super) fn note(&self, what: String) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.first.get_or_insert(what);
    }

    fn note_lost(&self, what: String) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.lost.get_or_insert(what);
    }

    pub(super) fn check(&self, action: &str) -> Result<()> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match noted.lost.as_ref().or(noted.first.as_ref()) {
            Some(found) => Err(fault(action, found)),
            None => Ok(()),
        }
    }
}

pub(super) fn fault(action: &str, found: &str) -> Error {
    Error::Device {
        action: action.into(),
        found: found.into(),
        fix: "Go on on the CPU, or with fewer replicas or a smaller batch if memory ran out."
            .into(),
    }
}

/// An opened adapter.
#[derive(Clone, Debug)]
pub struct GpuDevice {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) info: DeviceInfo,
    pub(super) faults: Faults,
    /// Of several kernels for a launch, those that are taken.
    target: Target,
    /// Whether every subgroup has [`LANES`] lanes, which load words of 64 bits.
    vectors: bool,
    /// In mixed precision, the matrices that its units multiply.
    units: Option<u32>,
    /// Whether shaders are compiled with bounds checks.
    pub(super) checks: bool,
    /// The name of its pipelines in a cache, where wgpu has one for it.
    pipelines: Option<String>,
    pub(super) cache: Cache,
    /// The driver's pipelines of earlier runs.
    pub(super) kept: Option<Arc<Kept>>,
    /// Adapter and driver: what cached files are good for.
    pub(super) identity: String,
    pub(super) tuning: Option<Tuning>,
    /// When programs become one launch.
    pub(super) whole: WholePrograms,
}

impl GpuDevice {
    /// Opens an adapter: [`Choice::Auto`] takes hardware only, [`Choice::Gpu`] software
    /// too. `WGPU_ADAPTER_NAME` restricts both to names that contain it.
    ///
    /// # Errors
    /// [`Error::Adapter`] if none fits, [`Error::Device`] if it does not open.
    pub fn open(choice: Choice) -> Result<Self> {
        block_on(Self::open_as(choice, false))
    }

    /// [`GpuDevice::open`] where nobody can stop and wait.
    ///
    /// # Errors
    /// As [`GpuDevice::open`].
    pub async fn open_async(choice: Choice) -> Result<Self> {
        Self::open_as(choice, false).await
    }

    /// [`Device::open_mixed`](crate::exec::Device::open_mixed).
    ///
    /// # Errors
    /// As [`GpuDevice::open`]; [`Error::Adapter`] too if the adapter has no fitting units.
    pub fn open_mixed(choice: Choice) -> Result<Self> {
        block_on(Self::open_as(choice, true))
    }

    #[allow(unsafe_code)]
    async fn open_as(choice: Choice, mixed: bool) -> Result<Self> {
        let all = enumerate().await?;
        let found = || {
            let names: Vec<_> = all.iter().map(|a| info_of(a).name).collect();
            if names.is_empty() {
                "no adapter".into()
            } else {
                names.join("; ")
            }
        };
        let none = |wanted: String| Error::Adapter {
            found: found(),
            wanted,
            fix: "Choose another adapter, or the CPU, which needs none.".into(),
        };
        let named = std::env::var("WGPU_ADAPTER_NAME").ok();
        let named = named.filter(|n| !n.is_empty());
        let adapter = match choice {
            Choice::Index(i) => all.get(i).ok_or_else(|| none(format!("adapter {i}")))?,
            _ => all
                .iter()
                .filter(|a| {
                    let name = a.get_info().name.to_lowercase();
                    (named.as_ref()).is_none_or(|n| name.contains(&n.to_lowercase()))
                })
                .filter(|a| choice == Choice::Gpu || !info_of(a).software)
                .min_by_key(|a| match a.get_info().device_type {
                    wgpu::DeviceType::DiscreteGpu => 0,
                    wgpu::DeviceType::IntegratedGpu => 1,
                    wgpu::DeviceType::VirtualGpu => 2,
                    wgpu::DeviceType::Other => 3,
                    wgpu::DeviceType::Cpu => 4,
                })
                .ok_or_else(|| {
                    let kind = match choice {
                        Choice::Gpu => "a GPU",
                        _ => "a hardware GPU",
                    };
                    none(match &named {
                        Some(name) => {
                            format!("{kind} whose name contains WGPU_ADAPTER_NAME, `{name}`")
                        }
                        None => kind.into(),
                    })
                })?,
        };
        let mut info = info_of(adapter);
        let units = units_of(adapter).filter(|_| mixed);
        let mut features = adapter.features() & WANTED;
        let mut experiments = wgpu::ExperimentalFeatures::disabled();
        if mixed {
            if units.is_none() {
                return Err(Error::Adapter {
                    found: info.name,
                    wanted: "matrix units with factors in f16 and sums in f32, of 16 x 16 for \
                             subgroups of 32 or of 8 x 8 for subgroups of 8"
                        .into(),
                    fix: "Choose another adapter, or train without mixed precision.".into(),
                });
            }
            info.name += ", mixed precision";
            features |= UNITS;
            // SAFETY: wgpu calls an experiment unsafe because it may have undefined behaviour
            // that wgpu does not know of. Cooperative matrices are the only one among
            // `features`; the kernels that use them are held to their reference like all
            // others, and nobody gets them who did not ask.
            experiments = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let offered = adapter.limits();
        // The portable defaults, but buffers and workgroups as large as the adapter allows.
        let required = wgpu::Limits {
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            max_buffer_size: offered.max_buffer_size,
            max_compute_workgroup_size_x: offered.max_compute_workgroup_size_x,
            max_compute_invocations_per_workgroup: offered.max_compute_invocations_per_workgroup,
            max_compute_workgroup_storage_size: offered.max_compute_workgroup_storage_size,
            // For whole programs in one launch, and for updates side by side; other launches keep to what every adapter
            // has.
            max_storage_buffers_per_shader_stage: offered.max_storage_buffers_per_shader_stage,
            max_buffers_and_acceleration_structures_per_shader_stage: offered
                .max_buffers_and_acceleration_structures_per_shader_stage,
            ..wgpu::Limits::default()
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("wgrad"),
            required_limits: required,
            // Wanted, not needed.
            required_features: features,
            experimental_features: experiments,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let opened = adapter.request_device(&descriptor).await;
        let (device, queue) = opened.map_err(|e| Error::Adapter {
            found: format!("{}: {e}", info.name),
            wanted: "WebGPU's portable limits".into(),
            fix: "Choose another adapter or the CPU.".into(),
        })?;
        let faults = Faults::default();
        let noted = faults.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| noted.note(e.to_string())));
        let noted = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            noted.note_lost(format!("device lost ({reason:?}): {message}"));
        });
        let info = DeviceInfo {
            limits: Limits {
                bindings: device.limits().max_storage_buffers_per_shader_stage as usize,
                workgroups: wgpu::Limits::default().max_compute_workgroups_per_dimension,
                ..info.limits
            },
            ..info
        };
        let subgroup = adapter.get_info();
        Ok(Self {
            vectors: device.features().contains(VECTORS)
                && [subgroup.subgroup_min_size, subgroup.subgroup_max_size] == [LANES as u32; 2],
            device,
            queue,
            faults,
            // Where there are no lanes, `variant` takes what suits any processor.
            target: if info.software {
                Target::Lanes
            } else {
                Target::Gpu
            },
            units,
            checks: false,
            pipelines: wgpu::util::pipeline_cache_key(&adapter.get_info()),
            cache: Cache::off(),
            kept: None,
            identity: info.name.clone(),
            tuning: None,
            whole: WholePrograms::default(),
            info,
        })
    }

    /// The same adapter, and what the driver compiles is kept in `cache` for later runs:
    /// where wgpu can (on Vulkan), in a file for each adapter and driver. Results are the
    /// same bits with it and without.
    pub fn with_cache(mut self, cache: &Cache) -> Self {
        let key = self.pipelines.as_deref();
        let kept = key.and_then(|key| Kept::load(&self.device, key, &self.identity, cache));
        self.kept = kept.map(Arc::new);
        self.cache = cache.clone();
        self
    }

    /// [`Device::tuned`](crate::exec::Device::tuned).
    pub fn tuned(mut self) -> Self {
        if self.tuning.is_none() {
            self.tuning = Some(Tuning::default());
            self.info.name += ", tuned";
        }
        self
    }

    /// The same adapter, but its shaders keep naga's bounds checks and loop limits. They
    /// cost time and guard against nothing in kernels that the parity suite has passed with
    /// them on; a kernel that is still being written or broken on purpose needs them.
    pub fn with_checks(mut self) -> Self {
        self.checks = true;
        self
    }

    /// The same adapter, but with kernels that are made for such devices, whatever it is:
    /// to hold both kinds to each other.
    pub fn preferring(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// The plan without the variants that the adapter cannot run.
    pub fn possible(&self, plan: Plan) -> Plan {
        let limits = self.device.limits();
        let most = limits
            .max_compute_invocations_per_workgroup
            .min(limits.max_compute_workgroup_size_x);
        plan.with_variants(|target| match target {
            Target::Workgroup { threads, bytes } | Target::Single { threads, bytes } => {
                threads <= most && bytes <= limits.max_compute_workgroup_storage_size
            }
            Target::Gpu | Target::Processor => true,
            Target::Lanes => self.vectors,
            Target::MatrixUnits { edge, .. } => self.units == Some(edge),
        })
    }

    /// The variant of a launch of `plan` that suits the adapter.
    pub(super) fn variant(&self, plan: &Plan, launch: &Launch) -> usize {
        let suiting: &[Target] = match self.target {
            Target::Gpu
            | Target::Workgroup { .. }
            | Target::Single { .. }
            | Target::MatrixUnits { .. } => &[],
            Target::Processor => &[Target::Processor],
            Target::Lanes => &[Target::Lanes, Target::Processor],
        };
        // Whoever asked for mixed precision wants it; what an adapter lacks is gone from the
        // plan by now.
        let of_edge = |edge| [false, true].map(|scaled| Target::MatrixUnits { edge, scaled });
        let units = self.units.map(of_edge);
        let of = |target: &Target| {
            let mut others = launch.alternatives.iter();
            others.position(|other: &Alternative| other.target == *target)
        };
        let mut preferred = units.iter().flatten().chain(suiting);
        match preferred.find_map(of) {
            Some(i) => i + 1,
            None if self.target != Target::Gpu => 0,
            // What a program on a processor takes, no card's numbers say.
            None if self.info.software => launch.by_workgroups().map_or(0, |i| i + 1),
            None => plan.suiting(launch, Card::named(&self.info.name)),
        }
    }

    /// What it is and allows.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Loses the device on purpose, as a driver's reset would: to test what follows.
    pub fn lose(&self) {
        self.device.destroy();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_chosen_by_name_and_a_wrong_name_is_told() {
        use wgpu::Backends;
        let of = |named: &str| backends(named).map_err(|e| e.to_string());
        for unset in ["", " ", ","] {
            assert_eq!(of(unset), Ok(Backends::PRIMARY), "{unset:?}");
        }
        assert_eq!(of("vulkan"), Ok(Backends::VULKAN));
        assert_eq!(of("DX12, metal,"), Ok(Backends::DX12 | Backends::METAL));
        let gl = of("GL");
        match cfg!(feature = "gles") {
            true => assert_eq!(gl, Ok(Backends::GL)),
            false => assert!(gl.unwrap_err().ends_with("known: vulkan, metal, dx12")),
        }
        let wrong = of("metal,vlukan").unwrap_err();
        let told =
            "unknown backend in WGPU_BACKEND `vlukan` (did you mean `vulkan`?); known: vulkan,";
        assert!(wrong.starts_with(told), "{wrong}");
        assert!(of("webgpu").unwrap_err().contains("`webgpu`"));
    }
}
