//! Programs that are one launch on the device: which ones, and what runs them.

use std::collections::BTreeMap;

use super::adapter::{GpuDevice, fault};
use super::pipelines::{Compiled, Entry, guarded, module};
use super::{Gpu, Ready};
use crate::error::Result;
use crate::exec::WholePrograms;
use crate::plan::{Card, Persistent, Plan};

impl GpuDevice {
    /// [`Device::with_whole_programs`](crate::exec::Device::with_whole_programs).
    pub fn with_whole_programs(mut self, when: WholePrograms) -> Self {
        self.info.name += match when {
            WholePrograms::Never => "",
            WholePrograms::Predicted => ", whole programs where predicted",
            WholePrograms::Always => ", whole programs",
        };
        self.whole = when;
        self
    }

    /// The same adapter under the same name, with all launches apart.
    pub(super) fn without_whole_programs(&self) -> Self {
        let mut apart = self.clone();
        apart.whole = WholePrograms::Never;
        apart
    }

    /// The programs of a plan that are one launch each.
    pub(super) fn whole_programs(&self, plan: &Plan) -> BTreeMap<String, Persistent> {
        let card = Card::named(&self.info.name);
        let mut whole = BTreeMap::new();
        let tried = match self.whole {
            WholePrograms::Never => false,
            // What a program on a processor takes, no card's numbers say.
            WholePrograms::Predicted => !self.info.software,
            WholePrograms::Always => true,
        };
        if !tried || self.tuning.is_some() {
            return whole;
        }
        for name in plan.programs.keys() {
            let limits = self.device.limits();
            let buffers = limits
                .max_storage_buffers_per_shader_stage
                .min(limits.max_buffers_and_acceleration_structures_per_shader_stage);
            let fits = |p: &Persistent| {
                let most = limits.max_compute_invocations_per_workgroup;
                p.runs(self.info.limits.turns) > 0
                    && p.threads <= most.min(limits.max_compute_workgroup_size_x)
                    && p.bytes <= limits.max_compute_workgroup_storage_size
                    && p.bindings.len() <= buffers as usize
            };
            let best = plan.persistents(name, card).into_iter().find(fits);
            let taken =
                |p: &Persistent| self.whole == WholePrograms::Always || p.pays(plan, name, card);
            if let Some(best) = best.filter(taken) {
                whole.insert(name.clone(), best);
            }
        }
        whole
    }
}

/// The plan with the launches of whole programs in the variants that these consist of: so a launch by itself computes
/// what it does within.
pub(super) fn with_variants_of(mut plan: Plan, whole: &BTreeMap<String, Persistent>) -> Plan {
    for (name, persistent) in whole {
        let launches = plan.programs.get_mut(name).into_iter().flatten();
        for (launch, &variant) in launches.zip(&persistent.variants) {
            *launch = launch.done(variant);
        }
    }
    plan
}

/// A program as one launch, made ready.
#[derive(Debug)]
pub(super) struct Whole {
    /// One run of it.
    pub(super) once: [Ready; 1],
    /// As many runs as a launch does.
    pub(super) many: [Ready; 1],
    pub(super) runs: u64,
    persistent: Persistent,
    apart: Vec<wgpu::Buffer>,
    layout: wgpu::BindGroupLayout,
}

impl Whole {
    /// Compiles it.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if its shader is refused or memory runs out.
    pub(super) async fn compile(on: &Gpu, name: &str, persistent: Persistent) -> Result<Self> {
        let (gpu, plan) = (&on.gpu, &on.plan);
        let label = format!("{name}, one launch");
        let source = &persistent.source;
        let made = || module(&gpu.device, &label, source, gpu.checks);
        let module = guarded(gpu, &label, made).await?;
        let runs = persistent.runs(gpu.info.limits.turns);
        let (once, many) = (
            pipeline(gpu, &module, &persistent, 1).await?,
            pipeline(gpu, &module, &persistent, runs).await?,
        );
        let memory = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let apart = persistent.apart.iter().map(|b| {
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(&b.name),
                size: b.bytes(plan.replicas),
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            })
        });
        let apart: Vec<wgpu::Buffer> = apart.collect();
        if let Some(e) = memory.pop().await {
            return Err(fault("allocate buffers", &e.to_string()));
        }
        let group = bind(on, &persistent, &apart, &once.layout);
        let flops: u64 = plan.programs[name].iter().map(|l| l.flops).sum();
        let ready = |compiled: Compiled, runs: u64| Ready {
            pipeline: compiled.pipeline,
            group: group.clone(),
            grid: [1, 1, plan.replicas as u32],
            numbers: None,
            flops: flops * runs,
        };
        let layout = once.layout.clone();
        Ok(Self {
            once: [ready(once, 1)],
            many: [ready(many, runs)],
            runs,
            persistent,
            apart,
            layout,
        })
    }

    /// Binds the buffers anew, some of which have changed places.
    pub(super) fn bind(&mut self, on: &Gpu) {
        let group = bind(on, &self.persistent, &self.apart, &self.layout);
        self.once[0].group = group.clone();
        self.many[0].group = group;
    }
}

async fn pipeline(
    gpu: &GpuDevice,
    module: &wgpu::ShaderModule,
    persistent: &Persistent,
    runs: u64,
) -> Result<Compiled> {
    let constants = persistent.constants.iter();
    let constants = constants.map(|(name, value)| (name.as_str(), *value));
    let entry = Entry {
        name: Persistent::ENTRY,
        read_only: persistent.bindings.iter().map(|b| b.read_only).collect(),
        constants: constants.chain([(Persistent::RUNS, runs as f64)]).collect(),
        counts: false,
    };
    guarded(gpu, entry.name, || entry.compiled(gpu, module)).await
}

fn bind(
    on: &Gpu,
    persistent: &Persistent,
    apart: &[wgpu::Buffer],
    layout: &wgpu::BindGroupLayout,
) -> wgpu::BindGroup {
    let plan = &on.plan;
    let bound = persistent.bindings.iter().map(|b| {
        let (number, elements) = (b.binding.buffer, b.binding.elements);
        match plan.buffers.get(number) {
            Some(own) => {
                let copies = if own.shared { 1 } else { plan.replicas };
                (&on.buffers[number], (4 * elements * copies) as u64)
            }
            None => {
                let buffer = &apart[number - plan.buffers.len()];
                (buffer, buffer.size())
            }
        }
    });
    on.bind("whole program", layout, bound)
}
