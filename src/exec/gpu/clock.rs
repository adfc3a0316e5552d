//! The device's own clock around each launch of programs that run one after the other.

use super::{FLOPS_PER_SUBMIT, Gpu, dispatch};
use crate::error::Result;
use crate::exec::profile::Span;

/// Bytes of a timestamp.
const TICKS: u64 = wgpu::QUERY_SIZE as u64;

impl Gpu {
    /// [`crate::exec::Executor::timed`]. A pass per launch, since WebGPU's timestamps stand
    /// where passes begin and end; what the launches do and wait for is the same.
    pub(super) async fn stamped(
        &mut self,
        name: &str,
        times: u64,
    ) -> Result<Option<Vec<Vec<Span>>>> {
        let launches = self.programs[name].len();
        let most = wgpu::QUERY_SET_MAX_QUERIES as usize / 2 / launches.max(1);
        let device = self.gpu.device.clone();
        let offered = device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        if !offered || launches == 0 || most == 0 {
            return Ok(None);
        }
        let flops: u64 = self.programs[name].iter().map(|l| l.flops).sum();
        let chunk = (most as u64)
            .min(FLOPS_PER_SUBMIT / flops.max(1))
            .clamp(1, times.max(1));
        let stamps = 2 * launches as u64 * chunk;
        let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("launches"),
            ty: wgpu::QueryType::Timestamp,
            count: stamps as u32,
        });
        let buffer = |label, usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: TICKS * stamps,
                usage: usage | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        let resolve = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = buffer("timestamps", resolve);
        let staging = buffer("timestamps read back", wgpu::BufferUsages::MAP_READ);
        let seconds = f64::from(self.gpu.queue.get_timestamp_period()) * 1e-9;
        let mut runs = Vec::new();
        let mut left = times;
        while left > 0 {
            let now = left.min(chunk);
            let mut encoder = self.encoder();
            let all = (0..now).flat_map(|_| &self.programs[name]);
            for (at, launch) in (0u32..).step_by(2).zip(all) {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: None,
                    timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                        query_set: &queries,
                        beginning_of_pass_write_index: Some(at),
                        end_of_pass_write_index: Some(at + 1),
                    }),
                });
                dispatch(&mut pass, launch);
            }
            let used = 2 * launches as u64 * now;
            encoder.resolve_query_set(&queries, 0..used as u32, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, TICKS * used);
            self.submit(encoder).await?;
            self.traffic.launches += now * super::dispatches(&self.programs[name]) as u64;
            let read = self.mapped(&staging, TICKS * used, bytemuck::pod_collect_to_vec);
            let ticks: Vec<u64> = read.await?;
            for run in ticks.chunks(2 * launches) {
                // A clock that steps back gives 0 and no negative time.
                let since = |t: u64| t.saturating_sub(run[0]) as f64 * seconds;
                let span = |pair: &[u64]| {
                    let begin = since(pair[0]);
                    let end = since(pair[1]).max(begin);
                    Span { begin, end }
                };
                runs.push(run.chunks(2).map(span).collect());
            }
            left -= now;
        }
        Ok(Some(runs))
    }
}
