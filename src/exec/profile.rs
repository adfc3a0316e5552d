//! Where the time of a program goes, launch by launch.

use super::Executor;
use crate::clock::Stopwatch;
use crate::error::Result;

/// Whose clock a [`Profile`] was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// The device's, before and after each launch, while it ran one program after the
    /// other. A launch's time includes what it waits for at its beginning, such as the
    /// writes of the launch before.
    Device,
    /// The host's: each launch handed over alone and waited for. On a GPU the wait itself
    /// is in every number, so they are for comparing with each other.
    Host,
}

/// When a launch began and ended, in seconds since its program began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// When it began.
    pub begin: f64,
    /// When it ended.
    pub end: f64,
}

/// Where the time of a program goes; medians over its runs, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Whose clock was read.
    pub clock: Clock,
    /// Each launch.
    pub launches: Vec<f64>,
    /// The pause before each launch, since the end of the one before; the first has none.
    pub gaps: Vec<f64>,
    /// The whole run, from the first launch's beginning to the last one's end.
    pub whole: f64,
    /// The host's time to record a launch for the device; none where nothing is recorded.
    pub recording: Option<f64>,
}

/// Runs of a program, measured some at a time.
#[derive(Debug)]
pub struct Runs {
    program: String,
    launches: usize,
    recording: Option<f64>,
    clock: Clock,
    spans: Vec<Vec<Span>>,
}

impl Runs {
    /// Runs the program `runs` times more.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn add(&mut self, executor: &mut dyn Executor, runs: u64) -> Result<()> {
        if runs == 0 {
            return Ok(());
        }
        if let Some(spans) = executor.timed(&self.program, runs)? {
            self.clock = Clock::Device;
            self.spans.extend(spans);
            return Ok(());
        }
        for _ in 0..runs {
            let mut run = Vec::with_capacity(self.launches);
            let mut begin = 0.0;
            for i in 0..self.launches {
                let begun = Stopwatch::start();
                executor.run_part(&self.program, i..i + 1)?;
                executor.wait()?;
                let end = begin + begun.seconds();
                run.push(Span { begin, end });
                begin = end;
            }
            self.spans.push(run);
        }
        Ok(())
    }

    /// Where the time of the runs so far went; all zeros before the first.
    pub fn profile(mut self) -> Profile {
        if self.spans.is_empty() {
            let nothing = Span {
                begin: 0.0,
                end: 0.0,
            };
            self.spans.push(vec![nothing; self.launches]);
        }
        Profile {
            recording: self.recording,
            ..Profile::of(self.clock, self.launches, &self.spans)
        }
    }
}

impl Profile {
    /// Begins to measure a program that is to be run about `runs` times.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn begin(executor: &mut dyn Executor, program: &str, runs: u64) -> Result<Runs> {
        Ok(Runs {
            program: program.into(),
            launches: super::program(executor.plan(), program)?.len(),
            recording: executor.recording(program, runs)?,
            clock: Clock::Host,
            spans: vec![],
        })
    }

    /// Runs a program `runs` times, at least once, and tells where the time went.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn measure(executor: &mut dyn Executor, program: &str, runs: u64) -> Result<Self> {
        let runs = runs.max(1);
        let mut measured = Self::begin(executor, program, runs)?;
        measured.add(executor, runs)?;
        Ok(measured.profile())
    }

    /// The medians of runs of `count` launches.
    fn of(clock: Clock, count: usize, runs: &[Vec<Span>]) -> Self {
        let median = |of: &dyn Fn(&[Span]) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(|run| of(run)).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let whole = |run: &[Span]| match run {
            [first, .., last] => last.end - first.begin,
            [only] => only.end - only.begin,
            [] => 0.0,
        };
        let gap = |i: usize, run: &[Span]| match i {
            0 => 0.0,
            // Independent launches may overlap.
            _ => (run[i].begin - run[i - 1].end).max(0.0),
        };
        Self {
            clock,
            launches: (0..count)
                .map(|i| median(&|run| run[i].end - run[i].begin))
                .collect(),
            gaps: (0..count).map(|i| median(&|run| gap(i, run))).collect(),
            whole: median(&whole),
            recording: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_gaps_and_the_whole() {
        let run = |times: &[f64]| -> Vec<Span> {
            let spans = times.chunks(2);
            spans
                .map(|t| Span {
                    begin: t[0],
                    end: t[1],
                })
                .collect()
        };
        let runs = [
            run(&[0.0, 1.0, 3.0, 7.0]),
            // In these the second overlaps the first.
            run(&[0.0, 2.0, 1.0, 4.0]),
            run(&[0.0, 9.0, 8.0, 10.0]),
        ];
        let profile = Profile::of(Clock::Device, 2, &runs);
        assert_eq!(profile.launches, [2.0, 3.0]);
        assert_eq!(profile.gaps, [0.0, 0.0]);
        assert_eq!(profile.whole, 7.0);
        let empty = Profile::of(Clock::Host, 0, &[vec![]]);
        assert_eq!((empty.whole, empty.launches.len()), (0.0, 0));
    }
}
