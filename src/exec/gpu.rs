//! The wgpu executor: buffers, pipelines and bind groups made once, then nothing but
//! recording and submitting.

use std::collections::{HashMap, VecDeque};

use super::profile::Span;
use super::written::Written;
use super::{DeviceInfo, Executor, Pending, Traffic, check_write, program};
use crate::clock::Stopwatch;
use crate::error::Result;
use crate::plan::{Binding, Launch, Plan};
use crate::shape::DType;
use crate::tensor::{Host, View};

mod adapter;
mod clock;
mod dispatches;
mod kept;
mod persistent;
mod pipelines;
mod trial;
mod tuning;
mod wait;

use adapter::fault;
pub use adapter::{GpuDevice, adapters};
use dispatches::Numbers;
use persistent::Whole;
use pipelines::{Compiled, Pipelines};
pub(super) use wait::block_on;
use wait::{Submitted, all_done, mapped};

/// Launches recorded into one command buffer: enough to hide the cost of a submit, few
/// enough to stay far from any driver's watchdog.
const LAUNCHES_PER_SUBMIT: usize = 512;
/// Floating-point operations in one submit, for the same reason.
const FLOPS_PER_SUBMIT: u64 = 50_000_000_000;
/// Submits under way at once: one runs while the next is recorded.
const IN_FLIGHT: usize = 2;

/// A launch made ready.
#[derive(Debug)]
struct Ready {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    grid: [u32; 3],
    flops: u64,
    /// The dispatches' numbers, where there are several.
    numbers: Option<Numbers>,
}

impl Ready {
    fn dispatches(&self) -> u64 {
        self.numbers.as_ref().map_or(1, |numbers| numbers.count)
    }
}

/// How often launches are dispatched together.
fn dispatches(launches: &[Ready]) -> usize {
    launches.iter().map(|l| l.dispatches() as usize).sum()
}

/// How a program is launched.
#[derive(Clone, Copy)]
enum Part {
    /// Launch by launch.
    Apart,
    /// One run of a whole program.
    Once,
    /// As many runs of it as a launch does.
    Many,
}

/// Runs plans on a GPU.
#[derive(Debug)]
pub struct Gpu {
    gpu: GpuDevice,
    info: DeviceInfo,
    plan: Plan,
    buffers: Vec<wgpu::Buffer>,
    programs: HashMap<String, Vec<Ready>>,
    /// Programs that are one launch.
    whole: HashMap<String, Whole>,
    staging: Option<wgpu::Buffer>,
    in_flight: VecDeque<Submitted>,
    traffic: Traffic,
    written: Written,
}

impl Gpu {
    /// Allocates the plan's buffers and compiles its pipelines.
    ///
    /// # Errors
    /// What [`Plan::check`] finds; [`Error::Device`](crate::Error::Device) if a shader is
    /// refused or memory runs out.
    pub fn new(gpu: &GpuDevice, plan: Plan) -> Result<Self> {
        block_on(Self::new_async(gpu, plan))
    }

    /// [`Gpu::new`] where nobody can stop and wait.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    pub async fn new_async(gpu: &GpuDevice, plan: Plan) -> Result<Self> {
        plan.check(&gpu.info.limits)?;
        let plan = gpu.possible(plan);
        let whole = gpu.whole_programs(&plan);
        let apart = (!whole.is_empty()).then(|| plan.clone());
        let plan = persistent::with_variants_of(plan, &whole);
        let (plan, info) = gpu.choose(plan)?;
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
        let numbers = Numbers::of_all(gpu, &plan);
        if let Some(e) = memory.pop().await {
            return Err(fault("allocate buffers", &e.to_string()));
        }
        let mut this = Self {
            gpu: gpu.clone(),
            info,
            buffers,
            programs: HashMap::new(),
            whole: HashMap::new(),
            staging: None,
            in_flight: VecDeque::new(),
            traffic: Traffic::default(),
            written: Written::none_of(&plan),
            plan,
        };
        let pipelines = Pipelines::compile(gpu, &this.plan).await?;
        for (name, launches) in &this.plan.programs {
            let ready = launches.iter().map(|l| this.ready(&pipelines, &numbers, l));
            let ready = ready.collect();
            this.programs.insert(name.clone(), ready);
        }
        for (name, persistent) in whole {
            match Whole::compile(&this, &name, persistent).await {
                Ok(whole) => {
                    this.whole.insert(name, whole);
                }
                // A driver may refuse so large a kernel, or have no room for it.
                Err(e) => {
                    let Some(apart) = apart else { return Err(e) };
                    tracing::warn!("{name} stays in launches of its own: {e}");
                    drop(this);
                    return Box::pin(Self::new_async(&gpu.without_whole_programs(), apart)).await;
                }
            }
        }
        gpu.faults.check("prepare the plan")?;
        Ok(this)
    }

    fn ready(&self, pipelines: &Pipelines, numbers: &Option<Numbers>, launch: &Launch) -> Ready {
        let Compiled { pipeline, layout } = pipelines.of(&self.gpu, launch);
        Ready {
            pipeline: pipeline.clone(),
            group: self.group(layout, launch),
            grid: launch.grid,
            flops: launch.flops,
            numbers: numbers.as_ref().and_then(|numbers| numbers.of(launch)),
        }
    }

    /// The buffers that a launch binds.
    fn group(&self, layout: &wgpu::BindGroupLayout, launch: &Launch) -> wgpu::BindGroup {
        let bound = launch.bindings.iter().map(|b| {
            let copies = match self.plan.buffers[b.buffer].shared {
                true => 1,
                false => self.plan.replicas,
            };
            (&self.buffers[b.buffer], (4 * b.elements * copies) as u64)
        });
        self.bind(&launch.label, layout, bound)
    }

    /// A group of buffers, of each so many bytes from its beginning.
    fn bind<'a>(
        &self,
        label: &str,
        layout: &wgpu::BindGroupLayout,
        bound: impl Iterator<Item = (&'a wgpu::Buffer, u64)>,
    ) -> wgpu::BindGroup {
        let entries: Vec<_> = (0..)
            .zip(bound)
            .map(|(binding, (buffer, bytes))| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: 0,
                    size: std::num::NonZeroU64::new(bytes),
                }),
            })
            .collect();
        let device = &self.gpu.device;
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(label),
            layout,
            entries: &entries,
        })
    }

    async fn submit(&mut self, encoder: wgpu::CommandEncoder) -> Result<()> {
        let submitted = Submitted::new(&self.gpu, encoder.finish());
        self.traffic.submits += 1;
        self.in_flight.push_back(submitted);
        while self.in_flight.len() > IN_FLIGHT {
            if let Some(oldest) = self.in_flight.pop_front() {
                oldest.done(&self.gpu).await?;
            }
        }
        Ok(())
    }

    /// Waits for all work and hands the first bytes of a staging buffer to `read`.
    async fn mapped<R>(
        &mut self,
        staging: &wgpu::Buffer,
        bytes: u64,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<R> {
        let result = mapped(&self.gpu, staging, bytes, read).await?;
        self.in_flight.clear();
        Ok(result)
    }

    async fn read_back(&mut self, bindings: &[Binding]) -> Result<Vec<Host>> {
        self.written.read(&self.plan, bindings)?;
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
        self.submit(encoder).await?;
        let unpack = |view: &[u8]| {
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
        let hosts = self.mapped(&staging, total, unpack).await?;
        self.staging = Some(staging);
        self.traffic.readbacks += 1;
        self.traffic.read_back += total;
        Ok(hosts)
    }

    async fn run_times(&mut self, name: &str, times: u64) -> Result<()> {
        self.written.run(&self.plan, name)?;
        match self.whole.get(name).map(|whole| whole.runs) {
            Some(runs) => {
                self.repeat(name, Part::Many, times / runs).await?;
                self.repeat(name, Part::Once, times % runs).await?;
            }
            None => self.repeat(name, Part::Apart, times).await?,
        }
        self.gpu.faults.check("run")
    }

    /// What a program launches.
    fn launches(&self, name: &str, part: Part) -> &[Ready] {
        match (self.whole.get(name), part) {
            (Some(whole), Part::Many) => &whole.many,
            (Some(whole), Part::Once) => &whole.once,
            _ => &self.programs[name],
        }
    }

    /// Launches it so many times, some in each submit.
    async fn repeat(&mut self, name: &str, part: Part, times: u64) -> Result<()> {
        let launches = self.launches(name, part);
        let (count, flops) = (
            dispatches(launches),
            launches.iter().map(|l| l.flops).sum::<u64>(),
        );
        let by_launches = (LAUNCHES_PER_SUBMIT / count.max(1)) as u64;
        let chunk = by_launches.min(FLOPS_PER_SUBMIT / flops.max(1)).max(1);
        let mut left = times;
        while left > 0 && count > 0 {
            let now = left.min(chunk);
            let mut encoder = self.encoder();
            let launches = self.launches(name, part);
            record(&mut encoder, (0..now).flat_map(|_| launches));
            self.submit(encoder).await?;
            self.traffic.launches += now * count as u64;
            left -= now;
        }
        Ok(())
    }

    async fn run_launches(&mut self, name: &str, part: std::ops::Range<usize>) -> Result<()> {
        super::check_part(&self.plan, name, &part)?;
        if part.is_empty() {
            return Ok(());
        }
        let launches = &program(&self.plan, name)?[part.clone()];
        self.written.part(&self.plan, name, launches)?;
        let mut encoder = self.encoder();
        let launches = &self.programs[name][part];
        record(&mut encoder, launches.iter());
        let count = dispatches(launches) as u64;
        self.submit(encoder).await?;
        self.traffic.launches += count;
        self.gpu.faults.check("run")
    }

    async fn finish(&mut self) -> Result<()> {
        all_done(&self.gpu).await?;
        self.in_flight.clear();
        Ok(())
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
        dispatch(&mut pass, launch);
    }
}

fn dispatch(pass: &mut wgpu::ComputePass<'_>, launch: &Ready) {
    pass.set_pipeline(&launch.pipeline);
    pass.set_bind_group(0, &launch.group, &[]);
    let [x, y, z] = launch.grid;
    let Some(numbers) = &launch.numbers else {
        return pass.dispatch_workgroups(x, y, z);
    };
    for number in 0..numbers.count {
        numbers.set(pass, number);
        pass.dispatch_workgroups(x, y, z);
    }
}

impl Executor for Gpu {
    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn upload(&mut self, buffer: usize, data: View<'_>) -> Result<()> {
        check_write(&self.plan, buffer, data)?;
        self.written.fill(buffer);
        self.gpu
            .queue
            .write_buffer(&self.buffers[buffer], 0, data.bytes());
        self.traffic.uploaded += data.bytes().len() as u64;
        self.gpu.faults.check("upload")
    }

    fn upload_part(&mut self, buffer: usize, first: usize, data: View<'_>) -> Result<()> {
        super::check_part_write(&self.plan, buffer, first, data)?;
        self.written.fill(buffer);
        let (to, bytes) = (&self.buffers[buffer], data.bytes());
        self.gpu.queue.write_buffer(to, 4 * first as u64, bytes);
        self.traffic.uploaded += bytes.len() as u64;
        self.gpu.faults.check("upload")
    }

    fn swap(&mut self, one: usize, other: usize) -> Result<()> {
        super::check_swap(&self.plan, one, other)?;
        self.written.swap(one, other);
        self.buffers.swap(one, other);
        let mut programs = std::mem::take(&mut self.programs);
        for (name, ready) in &mut programs {
            for (launch, ready) in self.plan.programs[name].iter().zip(ready) {
                let bound = |b: &Binding| b.buffer == one || b.buffer == other;
                if launch.bindings.iter().any(bound) {
                    let layout = ready.pipeline.get_bind_group_layout(0);
                    ready.group = self.group(&layout, launch);
                }
            }
        }
        self.programs = programs;
        let mut whole = std::mem::take(&mut self.whole);
        whole.values_mut().for_each(|whole| whole.bind(self));
        self.whole = whole;
        self.gpu.faults.check("swap buffers")
    }

    fn read_bindings(&mut self, bindings: &[Binding]) -> Result<Vec<Host>> {
        block_on(self.read_back(bindings))
    }

    fn read_bindings_async<'a>(&'a mut self, bindings: &'a [Binding]) -> Pending<'a, Vec<Host>> {
        Box::pin(self.read_back(bindings))
    }

    fn run(&mut self, name: &str, times: u64) -> Result<()> {
        block_on(self.run_times(name, times))
    }

    fn run_async<'a>(&'a mut self, name: &'a str, times: u64) -> Pending<'a, ()> {
        Box::pin(self.run_times(name, times))
    }

    fn run_part(&mut self, name: &str, part: std::ops::Range<usize>) -> Result<()> {
        block_on(self.run_launches(name, part))
    }

    fn timed(&mut self, name: &str, times: u64) -> Result<Option<Vec<Vec<Span>>>> {
        self.written.run(&self.plan, name)?;
        block_on(self.stamped(name, times))
    }

    fn recording(&mut self, name: &str, times: u64) -> Result<Option<f64>> {
        program(&self.plan, name)?;
        let launches = &self.programs[name];
        let count = dispatches(launches);
        let runs = (LAUNCHES_PER_SUBMIT / count.max(1)).max(1);
        let mut recorded = 0;
        let begun = Stopwatch::start();
        for _ in 0..times.div_ceil(runs as u64).max(1) {
            let mut encoder = self.encoder();
            record(&mut encoder, (0..runs).flat_map(|_| launches));
            drop(encoder.finish());
            recorded += runs * count;
        }
        let seconds = begun.seconds();
        self.gpu.faults.check("record")?;
        Ok((recorded > 0).then(|| seconds / recorded as f64))
    }

    fn wait(&mut self) -> Result<()> {
        block_on(self.finish())
    }

    fn wait_async(&mut self) -> Pending<'_, ()> {
        Box::pin(self.finish())
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}
