//! Pipelines: each kernel with its constants compiled once, several at a time.

use std::collections::BTreeMap;

use super::adapter::GpuDevice;
use super::dispatches;
use crate::error::{Error, Result};
use crate::kernel::{Access, DISPATCHES, Kernel};
use crate::plan::{Launch, Plan};
#[cfg(not(target_arch = "wasm32"))]
use crate::shape::DType;

/// A compiled kernel.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
}

/// What two kernels share where they share a module: the text, and whether it is checked.
type Module = (&'static str, bool);

/// What two launches share where they share a pipeline: a name alone would be another kernel's
/// as well, since whoever writes a kernel names it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    module: Module,
    entry_point: &'static str,
    /// Which bindings are only read.
    read_only: Vec<bool>,
    /// Names and bits.
    constants: Vec<(&'static str, u64)>,
}

impl Key {
    fn of(gpu: &GpuDevice, launch: &Launch) -> Self {
        let bindings = launch.kernel.bindings.iter();
        let constants = launch.constants.iter();
        Self {
            module: module_of(gpu, launch.kernel),
            entry_point: launch.kernel.name,
            read_only: bindings.map(|b| b.access == Access::Read).collect(),
            constants: constants.map(|(name, x)| (*name, x.to_bits())).collect(),
        }
    }
}

fn module_of(gpu: &GpuDevice, kernel: &Kernel) -> Module {
    (kernel.source, gpu.checks || !kernel.trusted())
}

/// The compiled kernels of a plan.
pub(super) struct Pipelines(BTreeMap<Key, Compiled>);

impl Pipelines {
    /// Compiles what a plan launches, each module and each pipeline once. wgpu translates,
    /// and many drivers compile, while a pipeline is made: the threads share that work.
    pub(super) async fn compile(gpu: &GpuDevice, plan: &Plan) -> Result<Self> {
        let launches = plan.programs.values().flatten();
        let launches: BTreeMap<_, _> = launches.map(|l| (Key::of(gpu, l), l)).collect();
        let kernels = launches.values().map(|launch| launch.kernel);
        let kernels: BTreeMap<_, _> = kernels.map(|k| (module_of(gpu, k), k)).collect();
        let modules = each(kernels, |kernel| async move {
            let (source, checks) = module_of(gpu, kernel);
            // A browser's WebGPU has no naga: what it refuses of a text is the browser's affair.
            #[cfg(not(target_arch = "wasm32"))]
            if !kernel.trusted() {
                element_types(kernel)?;
            }
            let made = || module(&gpu.device, kernel.stem, source, checks);
            guarded(gpu, kernel.name, made).await
        });
        let modules = &modules.await?;
        let pipelines = each(launches, |launch| async move {
            let module = &modules[&module_of(gpu, launch.kernel)];
            guarded(gpu, launch.kernel.name, || {
                Entry::of(launch).compiled(gpu, module)
            })
            .await
        });
        let pipelines = pipelines.await?;
        if let Some(kept) = &gpu.kept {
            kept.store();
        }
        Ok(Self(pipelines))
    }

    /// What a launch of the plan runs.
    pub(super) fn of(&self, gpu: &GpuDevice, launch: &Launch) -> &Compiled {
        &self.0[&Key::of(gpu, launch)]
    }
}

/// Does `work` for several entries at once, where there are threads; of several errors, the first
/// in order counts.
async fn each<K: Ord + Send, T: Send, R: Send, W: Future<Output = Result<R>>>(
    entries: BTreeMap<K, T>,
    work: impl Fn(T) -> W + Sync,
) -> Result<BTreeMap<K, R>> {
    #[cfg(all(feature = "threads", not(target_arch = "wasm32")))]
    let done = {
        use rayon::prelude::*;
        let each = entries.into_par_iter();
        let done = each.map(|(key, entry)| (key, super::block_on(work(entry))));
        done.collect::<Vec<_>>()
    };
    #[cfg(not(all(feature = "threads", not(target_arch = "wasm32"))))]
    let done = {
        let mut done = Vec::with_capacity(entries.len());
        for (key, entry) in entries {
            done.push((key, work(entry).await));
        }
        done
    };
    done.into_iter().map(|(key, r)| Ok((key, r?))).collect()
}

/// Holds the element types of a foreign kernel's text against its declaration: wgpu compares all
/// but those, and a float read as a word is a wrong number and no error. What does not parse or
/// validate is wgpu's to refuse.
#[cfg(not(target_arch = "wasm32"))]
fn element_types(kernel: &Kernel) -> Result<()> {
    use wgpu::naga::{ScalarKind, TypeInner, front::wgsl, valid};
    let Ok(module) = wgsl::parse_str(kernel.source) else {
        return Ok(());
    };
    let mut validator =
        valid::Validator::new(valid::ValidationFlags::all(), valid::Capabilities::all());
    let entry = module
        .entry_points
        .iter()
        .position(|e| e.name == kernel.name);
    let (Ok(info), Some(entry)) = (validator.validate(&module), entry) else {
        return Ok(());
    };
    let used = info.get_entry_point(entry);
    for (handle, variable) in module.global_variables.iter() {
        let Some(at) = variable.binding.filter(|_| !used[handle].is_empty()) else {
            continue;
        };
        let Some(declared) = kernel.bindings.get(at.binding as usize) else {
            continue;
        };
        let TypeInner::Array { base, .. } = module.types[variable.ty].inner else {
            continue;
        };
        let scalar = match module.types[base].inner {
            TypeInner::Scalar(scalar) | TypeInner::Vector { scalar, .. } => scalar,
            _ => continue,
        };
        // Two elements in one word of eight bytes are taken apart on purpose (`bitcast`), as
        // `dense_grad/lanes.wgsl` does; no such type is written for another by mistake.
        if scalar.width == 8 && scalar.kind == ScalarKind::Uint {
            continue;
        }
        let right = match declared.dtype {
            DType::F32 => scalar.kind == ScalarKind::Float && scalar.width == 4,
            DType::U32 => {
                matches!(scalar.kind, ScalarKind::Uint | ScalarKind::Sint) && scalar.width == 4
            }
        };
        if !right {
            return Err(Error::Device {
                action: format!("compile kernel {}", kernel.name),
                found: format!(
                    "{:?} of {} bytes in binding {} ({})",
                    scalar.kind, scalar.width, at.binding, declared.name
                ),
                fix: format!(
                    "Its declaration says {:?}: mend one of them.",
                    declared.dtype
                ),
            });
        }
    }
    Ok(())
}

/// What `make` makes of a kernel, unless wgpu refuses it.
pub(super) async fn guarded<R>(
    gpu: &GpuDevice,
    kernel: &str,
    make: impl FnOnce() -> R,
) -> Result<R> {
    let refused = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
    let made = make();
    match refused.pop().await {
        None => Ok(made),
        Some(e) => {
            // wgpu's answer is about the text, so another device would say the same.
            Err(Error::Device {
                action: format!("compile kernel {kernel}"),
                found: e.to_string(),
                fix: "Correct the kernel's WGSL; a kernel of wgrad's own should be reported."
                    .into(),
            })
        }
    }
}

/// A shader module of this crate's or, with checks, of anybody's text.
#[allow(unsafe_code)]
pub(super) fn module(
    device: &wgpu::Device,
    label: &str,
    source: &str,
    checks: bool,
) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(label),
        source: wgpu::ShaderSource::Wgsl(source.into()),
    };
    if checks {
        return device.create_shader_module(descriptor);
    }
    // SAFETY: only this crate's own shaders go without checks (`Kernel::trusted`, which no other
    // crate can set). They index private and workgroup memory by
    // constants and by what they have compared with a size; sizes are those that the plan's
    // checker has held against the buffers. Loops end: their bounds are sizes. The parity
    // suite runs every case with the checks and without, and the driver's robust access to
    // storage buffers stays on.
    unsafe {
        device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
    }
}

/// An entry point with its constants.
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    /// Which bindings are only read, in order.
    pub(super) read_only: Vec<bool>,
    pub(super) constants: Vec<(&'a str, f64)>,
    /// Whether it is dispatched several times and asks how often it was.
    pub(super) counts: bool,
}

impl Entry<'_> {
    /// A launch's.
    fn of(launch: &Launch) -> Self {
        let bindings = launch.kernel.bindings.iter();
        Self {
            name: launch.kernel.name,
            read_only: bindings.map(|b| b.access == Access::Read).collect(),
            constants: launch.constants.clone(),
            counts: launch.kernel.constants.contains(&DISPATCHES),
        }
    }

    /// Its pipeline.
    pub(super) fn compiled(&self, gpu: &GpuDevice, module: &wgpu::ShaderModule) -> Compiled {
        let device = &gpu.device;
        let entries = self.read_only.iter().enumerate();
        let entries: Vec<_> = entries
            .map(|(i, &read_only)| wgpu::BindGroupLayoutEntry {
                binding: i as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(self.name),
            entries: &entries,
        });
        let numbers = self.counts.then(|| dispatches::layout(device));
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(self.name),
            bind_group_layouts: &[Some(&layout), numbers.as_ref()][..1 + usize::from(self.counts)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(self.name),
            layout: Some(&pipeline_layout),
            module,
            entry_point: Some(self.name),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &self.constants,
                // Kernels write their workgroup memory before they read it.
                zero_initialize_workgroup_memory: false,
            },
            cache: gpu.kept.as_ref().map(|kept| &kept.pipelines),
        });
        Compiled { pipeline, layout }
    }
}
