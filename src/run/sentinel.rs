//! Steps of a program, of which now and then one has a launch held to the reference.

use super::Session;
use crate::error::Result;
use crate::graph::Program;
use crate::rng::{Stream, key, streams};

/// How often a step is verified, and what the choice of its launch follows from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sentinel {
    /// Every so many steps one is; none of 0.
    pub every: u64,
    /// The run's seed: the launch follows from it and the step's number.
    pub seed: u64,
}

/// The steps of a run, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    program: Program,
    sentinel: Sentinel,
    next: u64,
}

impl Steps {
    /// Steps of a program from the first on.
    pub const fn new(program: Program, sentinel: Sentinel) -> Self {
        Self {
            program,
            sentinel,
            next: 0,
        }
    }

    /// Steps that nobody verifies.
    pub fn unverified(program: Program) -> Self {
        Self::new(program, Sentinel::default())
    }

    /// The program of a step.
    pub const fn program(&self) -> Program {
        self.program
    }

    /// The same from the step of this number on, counted from 0.
    #[must_use]
    pub const fn from(self, next: u64) -> Self {
        Self { next, ..self }
    }

    /// Counts steps that were taken otherwise.
    pub const fn pass(&mut self, count: u64) {
        self.next += count;
    }

    /// Takes steps.
    pub fn run(&mut self, session: &mut Session, count: u64) -> Result<()> {
        let end = self.next + count;
        while self.next < end {
            let left = end - self.next;
            let before = match self.sentinel.every {
                0 => left,
                every => left.min(every - 1 - self.next % every),
            };
            if before > 0 {
                session.run(self.program, before)?;
                self.pass(before);
            } else {
                let launches = session.launches(self.program)?.len();
                session.run_verified(self.program, self.pick(launches))?;
                self.pass(1);
            }
        }
        Ok(())
    }

    /// Which of so many launches of the next step is held to the reference.
    fn pick(&self, launches: usize) -> usize {
        let stream = Stream {
            seed: key(self.sentinel.seed),
            replica: 0,
            stream: streams::SENTINEL,
        };
        stream.words(self.next as u32, 0)[0] as usize % launches.max(1)
    }
}
