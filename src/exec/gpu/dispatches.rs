//! The numbers of a launch's dispatches ([`DISPATCHES`](crate::kernel::DISPATCHES)): a buffer that holds them all, of which
//! each dispatch sees its own.

use super::adapter::GpuDevice;
use crate::kernel::DISPATCHES;
use crate::plan::{Launch, Plan};

/// Bytes that a dispatch sees: a uniform buffer's smallest unit.
const SEEN: u64 = 16;

/// The layout of the group that the numbers stand in.
pub(super) fn layout(device: &wgpu::Device) -> wgpu::BindGroupLayout {
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some("dispatches"),
        entries: &[wgpu::BindGroupLayoutEntry {
            binding: 0,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Uniform,
                has_dynamic_offset: true,
                min_binding_size: std::num::NonZeroU64::new(SEEN),
            },
            count: None,
        }],
    })
}

/// The numbers from 0 on.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    group: wgpu::BindGroup,
    /// Bytes from one to the next.
    apart: u32,
    /// How many a launch uses.
    pub(super) count: u64,
}

impl Numbers {
    /// As many as any launch of the plan uses; `None` if none does.
    pub(super) fn of_all(gpu: &GpuDevice, plan: &Plan) -> Option<Self> {
        let launches = plan.programs.values().flatten();
        let counting = launches.filter(|launch| counts(launch));
        let count = counting.map(Launch::dispatches).max()?;
        let device = &gpu.device;
        let apart = device
            .limits()
            .min_uniform_buffer_offset_alignment
            .max(SEEN as u32);
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("dispatches"),
            size: u64::from(apart) * count,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let words = (0..count as u32).flat_map(|number| {
            let mut words = vec![0; apart as usize / 4];
            words[0] = number;
            words
        });
        let words: Vec<u32> = words.collect();
        gpu.queue
            .write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("dispatches"),
            layout: &layout(device),
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &buffer,
                    offset: 0,
                    size: std::num::NonZeroU64::new(SEEN),
                }),
            }],
        });
        Some(Self {
            group,
            apart,
            count,
        })
    }

    /// Those of a launch, if it counts its dispatches.
    pub(super) fn of(&self, launch: &Launch) -> Option<Self> {
        counts(launch).then(|| Self {
            count: launch.dispatches(),
            ..self.clone()
        })
    }

    /// The next dispatch has this number.
    pub(super) fn set(&self, pass: &mut wgpu::ComputePass<'_>, number: u64) {
        pass.set_bind_group(1, &self.group, &[self.apart * number as u32]);
    }
}

fn counts(launch: &Launch) -> bool {
    launch.kernel.constants.contains(&DISPATCHES)
}
