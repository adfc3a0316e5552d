//! The wgpu executor: buffers, pipelines and bind groups made once, then nothing but
//! recording and submitting.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Choice, DeviceInfo, Executor, Traffic, check_write, program};
use crate::error::{Error, Result};
use crate::kernel::{Access, Kernel, Suits};
use crate::plan::{Alternative, Binding, Launch, Limits, Plan};
use crate::shape::DType;
use crate::tensor::Host;

/// Launches recorded into one command buffer: enough to hide the cost of a submit, few
/// enough to stay far from any driver's watchdog.
const LAUNCHES_PER_SUBMIT: usize = 512;
/// Floating-point operations in one submit, for the same reason.
const FLOPS_PER_SUBMIT: u64 = 50_000_000_000;
/// How much of its memory a device may be asked for.
const BUDGET_PERCENT: u8 = 95;
/// Submits under way at once: one runs while the next is recorded.
const IN_FLIGHT: usize = 2;

fn instance() -> wgpu::Instance {
    // WGPU_BACKEND and wgpu's other variables are honoured.
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    // GL's compute is an emulation with fewer bindings than the portable eight.
    if std::env::var_os("WGPU_BACKEND").is_none() {
        descriptor.backends = wgpu::Backends::PRIMARY;
    }
    // Running out must be an error at allocation and not the death of the machine.
    descriptor.memory_budget_thresholds = wgpu::MemoryBudgetThresholds {
        for_resource_creation: Some(BUDGET_PERCENT),
        for_device_loss: None,
    };
    wgpu::Instance::new(descriptor)
}

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
        },
    }
}

fn enumerate() -> Vec<wgpu::Adapter> {
    pollster::block_on(instance().enumerate_adapters(wgpu::Backends::all()))
}

/// Every adapter.
pub fn adapters() -> Vec<DeviceInfo> {
    enumerate().iter().map(info_of).collect()
}

/// Failures that wgpu reports outside the call that caused them.
#[derive(Clone, Debug, Default)]
struct Faults(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    /// Why the device was lost: the cause of whatever else fails after it.
    lost: Option<String>,
    /// The first other failure.
    first: Option<String>,
}

impl Faults {
    fn note(&self, what: String) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.first.get_or_insert(what);
    }

    fn note_lost(&self, what: String) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.lost.get_or_insert(what);
    }

    fn check(&self, action: &str) -> Result<()> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match noted.lost.as_ref().or(noted.first.as_ref()) {
            Some(found) => Err(fault(action, found)),
            None => Ok(()),
        }
    }
}

fn fault(action: &str, found: &str) -> Error {
    Error::Device {
        action: action.into(),
        found: found.into(),
        fix: "Train on with --device cpu, or with fewer replicas or a smaller batch if memory ran out."
            .into(),
    }
}

/// An opened adapter.
#[derive(Clone, Debug)]
pub struct GpuDevice {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: DeviceInfo,
    faults: Faults,
    /// Whether shaders are compiled with bounds checks.
    checks: bool,
}

impl GpuDevice {
    /// Opens an adapter: [`Choice::Auto`] takes hardware only, [`Choice::Gpu`] software
    /// too. `WGPU_ADAPTER_NAME` restricts both to names that contain it.
    ///
    /// # Errors
    /// [`Error::Adapter`] if none fits, [`Error::Device`] if it does not open.
    pub fn open(choice: Choice) -> Result<Self> {
        let all = enumerate();
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
            fix: "`wgrad devices` lists the adapters; --device cpu needs none.".into(),
        };
        let named = std::env::var("WGPU_ADAPTER_NAME")
            .ok()
            .map(|n| n.to_lowercase());
        let adapter = match choice {
            Choice::Index(i) => all.get(i).ok_or_else(|| none(format!("adapter {i}")))?,
            _ => all
                .iter()
                .filter(|a| {
                    let name = a.get_info().name.to_lowercase();
                    named.as_ref().is_none_or(|n| name.contains(n))
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
                    none(
                        if choice == Choice::Gpu {
                            "a GPU"
                        } else {
                            "a hardware GPU"
                        }
                        .into(),
                    )
                })?,
        };
        let info = info_of(adapter);
        let offered = adapter.limits();
        // The portable defaults, but buffers as large as the adapter allows.
        let required = wgpu::Limits {
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            max_buffer_size: offered.max_buffer_size,
            ..wgpu::Limits::default()
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("wgrad"),
            required_limits: required,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) =
            pollster::block_on(adapter.request_device(&descriptor)).map_err(|e| {
                Error::Adapter {
                    found: format!("{}: {e}", info.name),
                    wanted: "WebGPU's portable limits".into(),
                    fix: "Choose another adapter (`wgrad devices`) or --device cpu.".into(),
                }
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
                bindings: wgpu::Limits::default().max_storage_buffers_per_shader_stage as usize,
                workgroups: wgpu::Limits::default().max_compute_workgroups_per_dimension,
                ..info.limits
            },
            ..info
        };
        Ok(Self {
            device,
            queue,
            info,
            faults,
            checks: false,
        })
    }

    /// The same adapter, but its shaders keep naga's bounds checks and loop limits. They
    /// cost time and guard against nothing in kernels that the parity suite has passed with
    /// them on; a kernel that is still being written or broken on purpose needs them.
    pub fn with_checks(mut self) -> Self {
        self.checks = true;
        self
    }

    /// The way of a launch that suits the adapter.
    fn way(&self, launch: &Launch) -> usize {
        if !self.info.software {
            return 0;
        }
        let suits = |other: &Alternative| other.suits == Suits::Processor;
        launch
            .alternatives
            .iter()
            .position(suits)
            .map_or(0, |i| i + 1)
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

/// A launch made ready.
#[derive(Debug)]
struct Ready {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    grid: [u32; 3],
    flops: u64,
}

/// Runs plans on a GPU.
#[derive(Debug)]
pub struct Gpu {
    gpu: GpuDevice,
    plan: Plan,
    buffers: Vec<wgpu::Buffer>,
    programs: HashMap<String, Vec<Ready>>,
    staging: Option<wgpu::Buffer>,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    traffic: Traffic,
}

impl Gpu {
    /// Allocates the plan's buffers and compiles its pipelines.
    ///
    /// # Errors
    /// What [`Plan::check`] finds; [`Error::Device`] if a shader is refused or memory
    /// runs out.
    pub fn new(gpu: &GpuDevice, plan: Plan) -> Result<Self> {
        plan.check(&gpu.info.limits)?;
        let plan = plan.choose(|launch| gpu.way(launch));
        if gpu.info.software {
            super::memory::check(&plan)?;
        }
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        let memory = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffers: Vec<_> = plan
            .buffers
            .iter()
            .map(|b| {
                gpu.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some(&b.name),
                    size: b.bytes(plan.replicas),
                    usage,
                    mapped_at_creation: false,
                })
            })
            .collect();
        if let Some(e) = pollster::block_on(memory.pop()) {
            return Err(fault("allocate buffers", &e.to_string()));
        }
        let mut this = Self {
            gpu: gpu.clone(),
            buffers,
            programs: HashMap::new(),
            staging: None,
            in_flight: VecDeque::new(),
            traffic: Traffic::default(),
            plan,
        };
        let mut compiler = Compiler {
            gpu,
            modules: HashMap::new(),
            pipelines: HashMap::new(),
        };
        for (name, launches) in &this.plan.programs {
            let ready = launches
                .iter()
                .map(|launch| this.ready(&mut compiler, launch))
                .collect::<Result<_>>()?;
            this.programs.insert(name.clone(), ready);
        }
        gpu.faults.check("prepare the plan")?;
        Ok(this)
    }

    fn ready(&self, compiler: &mut Compiler<'_>, launch: &Launch) -> Result<Ready> {
        let (pipeline, layout) = compiler.pipeline(launch)?;
        let copies = |shared: bool| if shared { 1 } else { self.plan.replicas };
        let entries: Vec<_> = launch
            .bindings
            .iter()
            .enumerate()
            .map(|(i, b)| {
                let bytes = 4 * b.elements * copies(self.plan.buffers[b.buffer].shared);
                wgpu::BindGroupEntry {
                    binding: i as u32,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer: &self.buffers[b.buffer],
                        offset: 0,
                        size: std::num::NonZeroU64::new(bytes as u64),
                    }),
                }
            })
            .collect();
        let group = self
            .gpu
            .device
            .create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(&launch.label),
                layout: &layout,
                entries: &entries,
            });
        Ok(Ready {
            pipeline,
            group,
            grid: launch.grid,
            flops: launch.flops,
        })
    }

    fn submit(&mut self, encoder: wgpu::CommandEncoder) -> Result<()> {
        let index = self.gpu.queue.submit([encoder.finish()]);
        self.traffic.submits += 1;
        self.in_flight.push_back(index);
        while self.in_flight.len() > IN_FLIGHT {
            if let Some(oldest) = self.in_flight.pop_front() {
                self.poll(Some(oldest))?;
            }
        }
        Ok(())
    }

    fn poll(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let poll = wgpu::PollType::Wait {
            submission_index,
            timeout: None,
        };
        let polled = self.gpu.device.poll(poll);
        self.gpu.faults.check("run")?;
        polled.map(|_| ()).map_err(|e| fault("run", &e.to_string()))
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.gpu
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None })
    }
}

/// Records launches into one compute pass.
fn record<'a>(encoder: &mut wgpu::CommandEncoder, launches: impl Iterator<Item = &'a Ready>) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    for launch in launches {
        pass.set_pipeline(&launch.pipeline);
        pass.set_bind_group(0, &launch.group, &[]);
        let [x, y, z] = launch.grid;
        pass.dispatch_workgroups(x, y, z);
    }
}

/// The shader module of a kernel's file.
#[allow(unsafe_code)]
fn module(device: &wgpu::Device, kernel: &Kernel, checks: bool) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(kernel.stem),
        source: wgpu::ShaderSource::Wgsl(kernel.source.into()),
    };
    if checks {
        return device.create_shader_module(descriptor);
    }
    // SAFETY: the shaders are this crate's own. They index private and workgroup memory by
    // constants and by what they have compared with a size; sizes are those that the plan's
    // checker has held against the buffers. Loops end: their bounds are sizes. The parity
    // suite runs every case with the checks and without, and the driver's robust access to
    // storage buffers stays on.
    unsafe {
        device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
    }
}

/// Makes each module and each pipeline once.
struct Compiler<'a> {
    gpu: &'a GpuDevice,
    modules: HashMap<&'static str, wgpu::ShaderModule>,
    pipelines: HashMap<String, (wgpu::ComputePipeline, wgpu::BindGroupLayout)>,
}

impl Compiler<'_> {
    fn pipeline(
        &mut self,
        launch: &Launch,
    ) -> Result<(wgpu::ComputePipeline, wgpu::BindGroupLayout)> {
        let kernel = launch.kernel;
        let key = format!("{} {:?}", kernel.name, launch.constants);
        if let Some(made) = self.pipelines.get(&key) {
            return Ok(made.clone());
        }
        let device = &self.gpu.device;
        let refused = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let checks = self.gpu.checks;
        let module = self
            .modules
            .entry(kernel.stem)
            .or_insert_with(|| module(device, kernel, checks));
        let entries: Vec<_> = kernel
            .bindings
            .iter()
            .enumerate()
            .map(|(i, b)| wgpu::BindGroupLayoutEntry {
                binding: i as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage {
                        read_only: b.access == Access::Read,
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(kernel.name),
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&pipeline_layout),
            module,
            entry_point: Some(kernel.name),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &launch.constants,
                // Kernels write their workgroup memory before they read it.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        if let Some(e) = pollster::block_on(refused.pop()) {
            return Err(fault(
                &format!("compile kernel {}", kernel.name),
                &e.to_string(),
            ));
        }
        let made = (pipeline, layout);
        self.pipelines.insert(key, made.clone());
        Ok(made)
    }
}

impl Executor for Gpu {
    fn device(&self) -> &DeviceInfo {
        &self.gpu.info
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn write(&mut self, buffer: usize, data: &Host) -> Result<()> {
        check_write(&self.plan, buffer, data)?;
        self.gpu
            .queue
            .write_buffer(&self.buffers[buffer], 0, data.bytes());
        self.traffic.uploaded += data.bytes().len() as u64;
        self.gpu.faults.check("upload")
    }

    fn read_bindings(&mut self, bindings: &[Binding]) -> Result<Vec<Host>> {
        let mut places = Vec::with_capacity(bindings.len());
        let mut total = 0;
        for b in bindings {
            let spec = super::binding(&self.plan, b)?;
            let copies = if spec.shared { 1 } else { self.plan.replicas };
            let bytes = 4 * (b.elements * copies) as u64;
            places.push((b.buffer, total, bytes, spec.dtype));
            total += bytes;
        }
        let staging = match self.staging.take().filter(|s| s.size() >= total) {
            Some(staging) => staging,
            None => self.gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("staging"),
                size: total,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }),
        };
        let mut encoder = self.encoder();
        for &(b, at, bytes, _) in &places {
            encoder.copy_buffer_to_buffer(&self.buffers[b], 0, &staging, at, bytes);
        }
        self.submit(encoder)?;
        let faults = self.gpu.faults.clone();
        staging.map_async(wgpu::MapMode::Read, 0..total, move |mapped| {
            if let Err(e) = mapped {
                faults.note(e.to_string());
            }
        });
        self.poll(None)?;
        self.in_flight.clear();
        let hosts = {
            let view = staging
                .get_mapped_range(0..total)
                .map_err(|e| fault("read back", &e.to_string()))?;
            places
                .iter()
                .map(|&(_, at, bytes, dtype)| {
                    let slice = &view[at as usize..(at + bytes) as usize];
                    match dtype {
                        DType::F32 => Host::F32(bytemuck::pod_collect_to_vec(slice)),
                        DType::U32 => Host::U32(bytemuck::pod_collect_to_vec(slice)),
                    }
                })
                .collect()
        };
        staging.unmap();
        self.staging = Some(staging);
        self.traffic.readbacks += 1;
        self.traffic.read_back += total;
        Ok(hosts)
    }

    fn run(&mut self, name: &str, times: u64) -> Result<()> {
        program(&self.plan, name)?;
        let launches = self.programs[name].len();
        let flops: u64 = self.programs[name].iter().map(|l| l.flops).sum();
        let by_launches = (LAUNCHES_PER_SUBMIT / launches.max(1)) as u64;
        let chunk = by_launches.min(FLOPS_PER_SUBMIT / flops.max(1)).max(1);
        let mut left = times;
        while left > 0 && launches > 0 {
            let now = left.min(chunk);
            let mut encoder = self.encoder();
            let launches_now = (0..now).flat_map(|_| &self.programs[name]);
            record(&mut encoder, launches_now);
            self.submit(encoder)?;
            self.traffic.launches += now * launches as u64;
            left -= now;
        }
        self.gpu.faults.check("run")
    }

    fn run_part(&mut self, name: &str, part: std::ops::Range<usize>) -> Result<()> {
        super::check_part(&self.plan, name, &part)?;
        if part.is_empty() {
            return Ok(());
        }
        let mut encoder = self.encoder();
        record(&mut encoder, self.programs[name][part.clone()].iter());
        self.submit(encoder)?;
        self.traffic.launches += part.len() as u64;
        self.gpu.faults.check("run")
    }

    fn wait(&mut self) -> Result<()> {
        self.poll(None)?;
        self.in_flight.clear();
        Ok(())
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}
