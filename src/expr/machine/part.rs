//! Parts of a launch's results, which a core hands its elements to.

use smallvec::SmallVec;

use super::{Launch, Outputs, parts};
use crate::kernel::{Finish, Hand};
use crate::tensor::Real;

/// A part of a replica's results, which a core hands its elements to.
pub(crate) struct Part<'l, 'm, 'a, 'o, T> {
    launch: &'l Launch<'m, 'a, T>,
    /// The number of its first element.
    first: usize,
    outputs: Outputs<'o, T>,
}

impl<'l, 'm, 'a, 'o, T: Real> Part<'l, 'm, 'a, 'o, T> {
    /// All of the results.
    pub(crate) fn whole(launch: &'l Launch<'m, 'a, T>, outputs: Outputs<'o, T>) -> Self {
        Self {
            launch,
            first: 0,
            outputs,
        }
    }

    /// Computes the elements at these places of those that have been handed over.
    pub(crate) fn compute(&mut self, places: std::ops::Range<usize>, given: &[T]) {
        let first = self.first + places.start;
        self.launch
            .elements(first, places, &mut self.outputs, given);
    }
}

impl<'l, 'm, 'x, 'o> Finish for Part<'l, 'm, 'x, 'o, f32> {
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
            })
        };
        parts.map(part).collect()
    }

    fn deal<'a>(self: Box<Self>, elements: usize, hands: usize) -> Vec<Hand<'a>>
    where
        Self: 'a,
    {
        let (launch, first) = (self.launch, self.first);
        let (count, step) = (self.outputs.len(), elements * hands);
        // Slices alone, without what they belong to: another thread has to fetch them from this one's cache. A hand has
        // those of its parts, of each as many as there are outputs.
        let parts = self.outputs[0].len().div_ceil(elements);
        let mut dealt: Vec<Vec<&'o mut [f32]>> = (0..hands)
            .map(|_| Vec::with_capacity(parts.div_ceil(hands) * count))
            .collect();
        let mut cut: SmallVec<[_; 4]> = self
            .outputs
            .into_iter()
            .map(|o| o.chunks_mut(elements))
            .collect();
        for part in 0..parts {
            dealt[part % hands].extend(cut.iter_mut().filter_map(Iterator::next));
        }
        let hand = |(number, mut outputs): (usize, Vec<&'o mut [f32]>)| -> Hand<'a> {
            let first = first + number * elements;
            Box::new(move |part, given| {
                let outputs = &mut outputs[part * count..][..count];
                launch.elements(first + part * step, 0..given.len(), outputs, given);
            })
        };
        dealt.into_iter().enumerate().map(hand).collect()
    }
}
