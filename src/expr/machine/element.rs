//! One element of a launch, for its bounds.

use super::{Launch, Layout};
use crate::expr::error::Given;
use crate::rng::Stream;

/// One element, for its bounds.
pub(super) struct Element<'l, 'm, 'a> {
    pub launch: &'l Launch<'m, 'a, f64>,
    pub i: usize,
    pub given: &'l [f64],
    pub error: f64,
}

impl Given for Element<'_, '_, '_> {
    fn parameter(&self, k: u32) -> f64 {
        self.launch.parameters[k as usize]
    }
    fn input(&self, k: u32) -> (f64, f64) {
        match self.launch.machine.inputs[k as usize].access {
            Layout::Given => (self.given[self.i], self.error),
            _ => (self.launch.element(k, self.i), 0.0),
        }
    }
    fn at(&self, k: u32, index: f64) -> f64 {
        self.launch.at(k, index)
    }
    fn step(&self) -> f64 {
        f64::from(self.launch.now)
    }
    fn word(&self, stream: u32) -> u32 {
        let stream = Stream::of_keys(self.launch.keys, self.launch.streams[stream as usize]);
        stream.words(self.launch.now, (self.i / 4) as u32)[self.i % 4]
    }
    fn threshold(&self, threshold: u32) -> u32 {
        self.launch.thresholds[threshold as usize]
    }
}
