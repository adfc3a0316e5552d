//! Where the elements of a reduction stand.
//!
//! Axes are taken together as far as they can be: neighbours that are all kept, or all reduced,
//! are one axis, and an axis of one element is none. Of six axes that alternate, three are kept
//! and three reduced, so three of either always do.

use crate::error::{Error, Result};
use crate::kernel::Args;
use crate::shape::Type;
use crate::tensor::Real;

/// The most axes of what is reduced.
pub const RANK: usize = 6;

/// Axes of a kind together.
const RUNS: usize = RANK / 2;

/// Extents and strides of the kept axes and of the reduced ones, outermost first; what is not
/// needed has extent 1 and stride 0 and stands in front.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Places {
    kept: [(usize, usize); RUNS],
    reduced: [(usize, usize); RUNS],
    /// Neighbours in memory are of different results.
    across: bool,
}

/// Marks the axes of x that are reduced.
pub(super) fn marked(op: &str, x: &Type, axes: &[usize]) -> Result<Vec<bool>> {
    let rank = x.shape.rank();
    let mut marks = vec![false; rank];
    for &axis in axes {
        if axis < rank {
            marks[axis] = true;
        }
    }
    let distinct = marks.iter().filter(|&&mark| mark).count();
    if rank > RANK || axes.is_empty() || distinct != axes.len() {
        return Err(Error::shape(
            op,
            format!("axes {axes:?} of {x}"),
            format!("one or more of x's axes, counted from 0, each once; {RANK} axes at most"),
        ));
    }
    Ok(marks)
}

impl Places {
    /// For extents of which those are reduced that are marked.
    pub fn of(extents: &[usize], marks: &[bool]) -> Self {
        let (mut kept, mut reduced) = (vec![], vec![]);
        let (mut stride, mut before) = (1, None);
        for (&extent, &mark) in extents.iter().zip(marks).rev() {
            if extent == 1 {
                continue;
            }
            let runs: &mut Vec<(usize, usize)> = if mark { &mut reduced } else { &mut kept };
            match runs.last_mut() {
                Some((run, _)) if before == Some(mark) => *run *= extent,
                _ => runs.push((extent, stride)),
            }
            before = Some(mark);
            stride *= extent;
        }
        let across = kept.iter().any(|&(_, stride)| stride == 1);
        let filled = |mut runs: Vec<_>| {
            runs.resize(RUNS, (1, 0));
            runs.reverse();
            [runs[0], runs[1], runs[2]]
        };
        Self {
            kept: filled(kept),
            reduced: filled(reduced),
            across,
        }
    }

    /// Results.
    pub fn n(&self) -> usize {
        self.kept.iter().map(|(extent, _)| extent).product()
    }

    /// Elements of a result.
    pub fn k(&self) -> usize {
        self.reduced.iter().map(|(extent, _)| extent).product()
    }

    /// The constants of `shaders/reduction.wgsl`.
    pub fn constants(&self) -> Vec<(&'static str, f64)> {
        let ([n0, n1, n2], [k0, k1, k2]) = (self.kept, self.reduced);
        [
            ("N", self.n()),
            ("K", self.k()),
            ("N1", n1.0),
            ("N2", n2.0),
            ("NS0", n0.1),
            ("NS1", n1.1),
            ("NS2", n2.1),
            ("K1", k1.0),
            ("K2", k2.0),
            ("KS0", k0.1),
            ("KS1", k1.1),
            ("KS2", k2.1),
            ("ACROSS", usize::from(self.across)),
        ]
        .map(|(name, value)| (name, value as f64))
        .into()
    }

    /// From a launch's constants.
    pub fn launched<T: Real>(a: &Args<'_, T>) -> Self {
        let runs = |[outer, e1, e2, s0, s1, s2]: [&str; 6]| {
            let (e1, e2) = (a.size(e1), a.size(e2));
            let e0 = a.size(outer) / (e1 * e2);
            [(e0, a.size(s0)), (e1, a.size(s1)), (e2, a.size(s2))]
        };
        Self {
            kept: runs(["N", "N1", "N2", "NS0", "NS1", "NS2"]),
            reduced: runs(["K", "K1", "K2", "KS0", "KS1", "KS2"]),
            across: a.size("ACROSS") == 1,
        }
    }

    /// Whether each result is of neighbours, one result's behind another's.
    pub fn are_neighbours(&self) -> bool {
        let outer = &self.reduced[..RUNS - 1];
        !self.across && outer.iter().all(|(extent, _)| *extent == 1)
    }

    /// Where each result's first element stands, in order.
    pub fn firsts(&self) -> impl Iterator<Item = usize> {
        let kept = self.kept;
        (0..self.n()).map(move |n| place(kept, n))
    }

    /// How far from the first each element of a result stands, in order.
    pub fn offsets(&self) -> Vec<usize> {
        (0..self.k()).map(|k| place(self.reduced, k)).collect()
    }
}

fn place(runs: [(usize, usize); RUNS], i: usize) -> usize {
    let [(_, s0), (e1, s1), (e2, s2)] = runs;
    i % e2 * s2 + i / e2 % e1 * s1 + i / (e2 * e1) * s0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_a_kind_are_one_axis() {
        let places = Places::of(&[2, 3, 1, 5, 7], &[false, true, false, true, false]);
        assert_eq!(places.kept, [(1, 0), (2, 105), (7, 1)]);
        assert_eq!(places.reduced, [(1, 0), (1, 0), (15, 7)]);
        assert!(places.across);
        let places = Places::of(
            &[2, 3, 2, 3, 2, 3],
            &[true, false, true, false, true, false],
        );
        assert_eq!(places.kept, [(3, 36), (3, 6), (3, 1)]);
        assert_eq!(places.reduced, [(2, 108), (2, 18), (2, 3)]);
    }

    #[test]
    fn every_element_belongs_to_one_result() {
        let places = Places::of(&[2, 3, 1, 5, 7], &[true, false, false, true, false]);
        let offsets = places.offsets();
        let firsts = places.firsts();
        let mut seen: Vec<_> = firsts
            .flat_map(|first| offsets.iter().map(move |offset| first + offset))
            .collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..210));
    }
}
