//! The variants of a device's launches, timed on it where it is to be tuned.

use super::Gpu;
use super::adapter::GpuDevice;
use crate::clock::Stopwatch;
use crate::error::Result;
use crate::exec::{DeviceInfo, Executor};
use crate::kernel::Access;
use crate::plan::{Buffer, Launch, Plan};
use crate::rng::{Stream, key, streams, uniform};
use crate::shape::DType;
use crate::tensor::Host;

/// Rounds of a measurement. The variants take turns, and the fastest round of each counts:
/// other work on the machine only ever adds time.
const ROUNDS: usize = 5;
/// Seconds of a round for each variant, about.
const ROUND: f64 = 0.005;
/// Launches in a round, at most.
const MOST: f64 = 1000.0;
/// Different values in a scratch buffer; a prime, so that no row repeats another.
const VALUES: usize = 4093;

impl GpuDevice {
    /// The plan with the variants that suit the device, or that were measured to be fastest;
    /// and what the device is called then.
    pub(super) fn choose(&self, plan: Plan) -> Result<(Plan, DeviceInfo)> {
        let plan = self.possible(plan);
        let suiting = |launch: &Launch| self.variant(launch);
        let Some(tuning) = &self.tuning else {
            return Ok((plan.choose(suiting), self.info.clone()));
        };
        let mut plain = self.clone();
        plain.tuning = None;
        let files = (&self.cache, self.identity.as_str());
        let (plan, variants) =
            tuning.choose(plan, files, suiting, &mut |trial| measure(&plain, trial))?;
        let mut info = self.info.clone();
        if let Some(variants) = variants {
            info.name += &format!(" {variants}");
        }
        Ok((plan, info))
    }
}

/// Small numbers, of either sign and none of them tiny: what is slow about subnormal
/// numbers must not count. Integers are 0, which every kernel can take for an index.
fn scratch(buffer: &Buffer, replicas: usize) -> Host {
    let total = buffer.total(replicas);
    match buffer.dtype {
        DType::U32 => Host::U32(vec![0; total]),
        DType::F32 => {
            let stream = Stream {
                seed: key(0),
                replica: 0,
                stream: streams::TUNING,
            };
            let words = (0..VALUES as u32).map(|i| stream.words(0, i)[0]);
            let small = |word: u32| {
                let size = 0.02 + 0.08 * uniform(word);
                if word & 1 == 1 { size } else { -size }
            };
            let values: Vec<f32> = words.map(small).collect();
            Host::F32(values.into_iter().cycle().take(total).collect())
        }
    }
}

/// The seconds that each program of a trial takes on the device.
fn measure(gpu: &GpuDevice, trial: Plan) -> Result<Vec<f64>> {
    let programs: Vec<String> = (0..trial.programs.len()).map(|w| w.to_string()).collect();
    let mut executor = Gpu::new(gpu, trial)?;
    let all = 0..executor.plan().buffers.len();
    fill(&mut executor, all)?;
    let launch = executor.plan().programs["0"][0].clone();
    let updated: Vec<usize> = (launch.bindings.iter().zip(launch.kernel.bindings))
        .filter(|(_, declared)| declared.access == Access::ReadWrite)
        .map(|(binding, _)| binding.buffer)
        .collect();
    let mut seconds = |program: &str, times: u64| -> Result<f64> {
        // What is updated in place would drift away, further the more launches there are.
        fill(&mut executor, updated.iter().copied())?;
        executor.wait()?;
        let begun = Stopwatch::start();
        executor.run(program, times)?;
        executor.wait()?;
        Ok(begun.seconds() / times as f64)
    };
    let mut times = Vec::new();
    for program in &programs {
        // Some drivers compile at the first launch.
        seconds(program, 1)?;
        let one = seconds(program, 1)?;
        times.push((ROUND / one.max(1e-9)).clamp(1.0, MOST) as u64);
    }
    let mut best = vec![f64::INFINITY; programs.len()];
    for _ in 0..ROUNDS {
        for ((program, &times), best) in programs.iter().zip(&times).zip(&mut best) {
            *best = best.min(seconds(program, times)?);
        }
    }
    Ok(best)
}

fn fill(executor: &mut Gpu, buffers: impl Iterator<Item = usize>) -> Result<()> {
    for i in buffers {
        let host = scratch(&executor.plan().buffers[i], executor.plan().replicas);
        executor.write(i, &host)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Role;

    #[test]
    fn scratch_buffers_hold_small_numbers() {
        let mut buffer = Buffer {
            name: "scratch 0".into(),
            elements: 5000,
            dtype: DType::F32,
            shared: false,
            role: Role::State,
        };
        let host = scratch(&buffer, 2);
        assert_eq!(host.len(), 10_000);
        let values = host.floats().unwrap();
        assert!(values.iter().all(|x| (0.02..=0.1).contains(&x.abs())));
        buffer.dtype = DType::U32;
        assert_eq!(scratch(&buffer, 2), Host::U32(vec![0; 10_000]));
    }
}
