//! Pipelines: each kernel with its constants compiled once.

use std::collections::HashMap;

use super::adapter::{GpuDevice, fault};
use crate::error::Result;
use crate::kernel::{Access, Kernel};
use crate::plan::Launch;

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
pub(super) struct Compiler<'a> {
    gpu: &'a GpuDevice,
    modules: HashMap<&'static str, wgpu::ShaderModule>,
    pipelines: HashMap<String, (wgpu::ComputePipeline, wgpu::BindGroupLayout)>,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(gpu: &'a GpuDevice) -> Self {
        Self {
            gpu,
            modules: HashMap::new(),
            pipelines: HashMap::new(),
        }
    }

    pub(super) fn pipeline(
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
