//! Waiting for a device. Natively the host stops until the device answers; a page in a browser
//! may not stop, so there a future gives up its turn and goes on when the answer is there.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::GpuDevice;
use super::adapter::fault;
use crate::error::Result;

/// Stops until `work` is done.
///
/// # Errors
/// What the work says; [`Error::Device`](crate::Error::Device) on a platform where nobody can stop.
pub(in crate::exec) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    #[cfg(not(target_arch = "wasm32"))]
    return pollster::block_on(work);
    #[cfg(target_arch = "wasm32")]
    {
        drop(work);
        Err(crate::Error::Device {
            action: "wait for the GPU".into(),
            found: "a platform where a program cannot stop and wait".into(),
            fix: "Call the async function of the same name.".into(),
        })
    }
}

/// Whether a callback has been called, for one who waits for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Signal(Arc<Mutex<Called>>);

#[derive(Debug, Default)]
struct Called {
    yes: bool,
    waiting: Option<Waker>,
}

impl Signal {
    /// To be called by the callback.
    pub(super) fn call(&self) {
        let mut called = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        called.yes = true;
        if let Some(waiting) = called.waiting.take() {
            waiting.wake();
        }
    }
}

impl Future for Signal {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut called = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if called.yes {
            return Poll::Ready(());
        }
        called.waiting = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Work that was handed to a device.
#[derive(Debug)]
pub(super) struct Submitted {
    #[cfg(not(target_arch = "wasm32"))]
    index: wgpu::SubmissionIndex,
    #[cfg(target_arch = "wasm32")]
    done: Signal,
}

impl Submitted {
    pub(super) fn new(gpu: &GpuDevice, commands: wgpu::CommandBuffer) -> Self {
        let _index = gpu.queue.submit([commands]);
        Self {
            #[cfg(not(target_arch = "wasm32"))]
            index: _index,
            #[cfg(target_arch = "wasm32")]
            done: after_all(gpu),
        }
    }

    /// Waits until this work is done.
    pub(super) async fn done(self, gpu: &GpuDevice) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        return poll(gpu, Some(self.index));
        #[cfg(target_arch = "wasm32")]
        {
            self.done.await;
            gpu.faults.check("run")
        }
    }
}

/// Waits until all work that was handed over is done.
pub(super) async fn all_done(gpu: &GpuDevice) -> Result<()> {
    #[cfg(not(target_arch = "wasm32"))]
    return poll(gpu, None);
    #[cfg(target_arch = "wasm32")]
    {
        after_all(gpu).await;
        gpu.faults.check("run")
    }
}

#[cfg(target_arch = "wasm32")]
fn after_all(gpu: &GpuDevice) -> Signal {
    let done = Signal::default();
    let called = done.clone();
    gpu.queue.on_submitted_work_done(move || called.call());
    done
}

#[cfg(not(target_arch = "wasm32"))]
fn poll(gpu: &GpuDevice, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
    let poll = wgpu::PollType::Wait {
        submission_index,
        timeout: None,
    };
    let polled = gpu.device.poll(poll);
    gpu.faults.check("run")?;
    polled.map(|_| ()).map_err(|e| fault("run", &e.to_string()))
}

/// Waits for all work and hands the first bytes of a staging buffer to `read`.
pub(super) async fn mapped<R>(
    gpu: &GpuDevice,
    staging: &wgpu::Buffer,
    bytes: u64,
    read: impl FnOnce(&[u8]) -> R,
) -> Result<R> {
    let (faults, answered) = (gpu.faults.clone(), Signal::default());
    let answer = answered.clone();
    staging.map_async(wgpu::MapMode::Read, 0..bytes, move |mapped| {
        if let Err(e) = mapped {
            faults.note(e.to_string());
        }
        answer.call();
    });
    // Natively, callbacks are called by somebody who waits: this thread, or another one that
    // noticed first that the work is done and may not have come to this callback yet.
    #[cfg(not(target_arch = "wasm32"))]
    poll(gpu, None)?;
    answered.await;
    gpu.faults.check("run")?;
    let view = staging
        .get_mapped_range(0..bytes)
        .map_err(|e| fault("read back", &e.to_string()))?;
    let result = read(&view);
    drop(view);
    staging.unmap();
    Ok(result)
}

#[cfg(test)]
mod tests {
    use std::thread::{scope, sleep};
    use std::time::Duration;

    use super::*;
    use crate::exec::Choice;

    #[test]
    fn a_signal_is_awaited_before_and_after_its_call() {
        let early = Signal::default();
        early.call();
        pollster::block_on(early);
        let late = Signal::default();
        scope(|scope| {
            let caller = late.clone();
            scope.spawn(move || {
                sleep(Duration::from_millis(5));
                caller.call();
            });
            pollster::block_on(late);
        });
    }

    /// Two threads wait for the same work. The one that notices its end calls the callbacks of
    /// both, and has not called the second when the other one goes on.
    #[test]
    fn a_callback_may_still_be_on_its_way_in_another_thread() {
        let Ok(gpu) = GpuDevice::open(Choice::Gpu) else {
            return;
        };
        let buffer = |size, usage| {
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size,
                usage: usage | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        let large = 1 << 26;
        let [from, to] = [wgpu::BufferUsages::COPY_SRC; 2].map(|usage| buffer(large, usage));
        for _ in 0..8 {
            let [slow, own] = [wgpu::BufferUsages::MAP_READ; 2].map(|usage| buffer(64, usage));
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(&from, 0, &to, 0, large);
            gpu.queue.submit([encoder.finish()]);
            slow.map_async(wgpu::MapMode::Read, .., |_| {
                sleep(Duration::from_millis(20))
            });
            scope(|scope| {
                scope.spawn(|| poll(&gpu, None).unwrap());
                let bytes = pollster::block_on(mapped(&gpu, &own, 64, <[u8]>::len));
                assert_eq!(bytes.unwrap(), 64);
            });
        }
    }
}
