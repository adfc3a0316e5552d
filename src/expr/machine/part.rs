//! Parts of a launch's results, which a core hands its elements to.

use super::{Launch, Outputs, Room, parts};
use crate::kernel::Finish;
use crate::tensor::Real;

/// A part of a replica's results, which a core hands its elements to.
pub(crate) struct Part<'l, 'm, 'a, 'o, T> {
    launch: &'l Launch<'m, 'a, T>,
    /// The number of its first element.
    first: usize,
    outputs: Outputs<'o, T>,
    /// Made when the first element is taken.
    room: Room<T>,
}

impl<'l, 'm, 'a, 'o, T: Real> Part<'l, 'm, 'a, 'o, T> {
    /// All of the results.
    pub(crate) fn whole(launch: &'l Launch<'m, 'a, T>, outputs: Outputs<'o, T>) -> Self {
        Self {
            launch,
            first: 0,
            outputs,
            room: Room::default(),
        }
    }

    /// Computes the elements at these places of those that have been handed over.
    pub(crate) fn compute(&mut self, places: std::ops::Range<usize>, given: &[T]) {
        self.room.fit(self.launch.machine, self.outputs[0].len());
        let first = self.first + places.start;
        let (outputs, room) = (&mut self.outputs, &mut self.room);
        self.launch.elements(first, places, outputs, given, room);
    }
}

impl Finish for Part<'_, '_, '_, '_, f32> {
    fn results(&mut self) -> &mut [f32] {
        self.outputs[0]
    }

    fn take(&mut self, from: usize, elements: &[f32]) {
        self.compute(from..from + elements.len(), elements);
    }

    fn work(&self) -> usize {
        self.outputs[0].len() * self.launch.machine.work
    }

    fn split<'a>(self: Box<Self>, elements: usize) -> Vec<Box<dyn Finish + 'a>>
    where
        Self: 'a,
    {
        let (launch, first) = (self.launch, self.first);
        let parts = parts(self.outputs, elements).into_iter().enumerate();
        let part = |(i, outputs)| -> Box<dyn Finish + 'a> {
            Box::new(Part {
                launch,
                first: first + i * elements,
                outputs,
                room: Room::default(),
            })
        };
        parts.map(part).collect()
    }
}
