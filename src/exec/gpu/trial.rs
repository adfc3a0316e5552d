//! The variants of a device's launches, held to the reference and timed on it where it is to be tuned.

use super::Gpu;
use super::adapter::GpuDevice;
use super::tuning::Trial;
use crate::clock::Stopwatch;
use crate::error::{Error, Result};
use crate::exec::{DeviceInfo, Executor, run_verified};
use crate::kernel::{Access, Target};
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
/// Draws of values that a variant must disagree with the reference in to be wrong: rounding may put one of
/// them on the other side of a kink, and two variants are then both right and far apart.
const DRAWS: u32 = 2;
/// Replicas of a comparison with the reference: with one, what forgets where a replica begins would pass.
const REPLICAS: usize = 2;
/// Operations up to which the reference is asked: written for reading, it takes some seconds for so many.
const MOST_FLOPS: u64 = 4_000_000_000;

impl GpuDevice {
    /// The plan, of which the device can run all variants, with those that suit it or that were measured to be
    /// fastest; and what the device is called then.
    pub(super) fn choose(&self, plan: Plan) -> Result<(Plan, DeviceInfo)> {
        let whole = plan.clone();
        let suiting = |launch: &Launch| self.variant(&whole, launch);
        let Some(tuning) = &self.tuning else {
            return Ok((plan.choose(suiting), self.info.clone()));
        };
        // Alone they are slow, and what they are made for is not measured.
        let plan = plan.with_variants(|target| !matches!(target, Target::Single { .. }));
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
/// numbers must not count. Integers are what `integer` says of each element of a replica.
fn scratch(buffer: &Buffer, replicas: usize, draw: u32, integer: &dyn Fn(usize) -> u32) -> Host {
    let total = buffer.total(replicas);
    match buffer.dtype {
        DType::U32 => {
            let elements = (0..total).map(|i| integer(i % buffer.elements.max(1)));
            Host::U32(elements.collect())
        }
        DType::F32 => {
            let stream = Stream {
                seed: key(0),
                replica: draw,
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

/// A trial of fewer replicas.
fn fewer(trial: &Plan, replicas: usize) -> Plan {
    let mut fewer = trial.clone();
    for launch in fewer.programs.values_mut().flatten() {
        launch.grid[2] = replicas as u32;
        launch.flops = launch.flops / trial.replicas as u64 * replicas as u64;
    }
    fewer.replicas = replicas;
    fewer
}

/// What each program of a trial, one variant, gets wrong on the device; `None` where the reference is not
/// asked, because it would take too long.
fn wrong(gpu: &GpuDevice, trial: &Plan) -> Result<Option<Vec<Option<Error>>>> {
    let trial = fewer(trial, trial.replicas.min(REPLICAS));
    if trial.programs["0"][0].flops > MOST_FLOPS {
        return Ok(None);
    }
    let variants = trial.programs.len();
    let mut executor = Gpu::new(gpu, trial)?;
    let mut found = Vec::new();
    for variant in 0..variants {
        let mut disagreement = None;
        for draw in 0..DRAWS {
            let all = 0..executor.plan().buffers.len();
            fill(&mut executor, all, draw)?;
            disagreement = match run_verified(&mut executor, &variant.to_string(), 0) {
                Ok(()) => None,
                Err(e @ Error::Disagrees { .. }) => Some(e),
                Err(e) => return Err(e),
            };
            if disagreement.is_none() {
                break;
            }
        }
        found.push(disagreement);
    }
    Ok(Some(found))
}

/// What each program of a trial, one variant, takes on the device, or what it gets wrong there.
fn measure(gpu: &GpuDevice, trial: Plan) -> Result<Option<Vec<Trial>>> {
    let Some(wrong) = wrong(gpu, &trial)? else {
        return Ok(None);
    };
    let right = wrong
        .iter()
        .enumerate()
        .filter(|(_, wrong)| wrong.is_none());
    let right: Vec<String> = right.map(|(variant, _)| variant.to_string()).collect();
    let mut seconds = seconds(gpu, trial, &right)?.into_iter();
    let each = wrong.into_iter().map(|wrong| match wrong {
        Some(e) => Trial::Wrong(e),
        // One for each that is right.
        None => Trial::Right(seconds.next().unwrap_or(f64::INFINITY)),
    });
    Ok(Some(each.collect()))
}

/// The seconds that these programs of a trial take on the device.
fn seconds(gpu: &GpuDevice, trial: Plan, programs: &[String]) -> Result<Vec<f64>> {
    let mut executor = Gpu::new(gpu, trial)?;
    let all = 0..executor.plan().buffers.len();
    fill(&mut executor, all, 0)?;
    let launch = executor.plan().programs["0"][0].clone();
    let updated: Vec<usize> = (launch.bindings.iter().zip(launch.kernel.bindings))
        .filter(|(_, declared)| declared.access == Access::ReadWrite)
        .map(|(binding, _)| binding.buffer)
        .collect();
    let mut seconds = |program: &str, times: u64| -> Result<f64> {
        // What is updated in place would drift away, further the more launches there are.
        fill(&mut executor, updated.iter().copied(), 0)?;
        executor.wait()?;
        let begun = Stopwatch::start();
        executor.run(program, times)?;
        executor.wait()?;
        Ok(begun.seconds() / times as f64)
    };
    let mut times = Vec::new();
    for program in programs {
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

fn fill(executor: &mut Gpu, buffers: impl Iterator<Item = usize>, draw: u32) -> Result<()> {
    let launch = executor.plan().programs["0"][0].clone();
    let size = |name: &str| {
        let mut constants = launch.constants.iter();
        constants
            .find(|(own, _)| *own == name)
            .map_or(0, |(_, value)| *value as usize)
    };
    let bound: Vec<_> = launch.bindings.iter().zip(launch.kernel.bindings).collect();
    for i in buffers {
        let sample = bound
            .iter()
            .find_map(|(binding, declared)| declared.sample.filter(|_| binding.buffer == i));
        let integer = |element| sample.map_or(0, |sample| sample(&size, element));
        let plan = executor.plan();
        let host = scratch(&plan.buffers[i], plan.replicas, draw, &integer);
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
        let host = scratch(&buffer, 2, 0, &|_| 0);
        assert_eq!(host.len(), 10_000);
        assert_ne!(host, scratch(&buffer, 2, 1, &|_| 0));
        let values = host.floats().unwrap();
        assert!(values.iter().all(|x| (0.02..=0.1).contains(&x.abs())));
        buffer.dtype = DType::U32;
        let Host::U32(integers) = scratch(&buffer, 2, 0, &|i| i as u32 / 2) else {
            panic!("floats");
        };
        assert_eq!(
            (integers[4999], integers[5000], integers[9999]),
            (2499, 0, 2499)
        );
    }
}
