//! How inputs belong to results: axes counted from the last, those of extent 1 repeated.

use crate::error::{Error, Result};

/// How the elements of an input belong to those of the results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Axes {
    /// One for one.
    Each,
    /// One for all.
    One,
    /// Element i of the results belongs to element Σ (i / div mod extent) · stride: `[div, extent,
    /// stride]`, outermost axis first, neighbouring axes in one.
    Along(Vec<[usize; 3]>),
}

/// The extents to which all inputs can be broadcast; those of `wanted` if it is given.
pub(super) fn common<'a>(
    inputs: impl Iterator<Item = &'a [usize]>,
    wanted: Option<&[usize]>,
) -> Result<Vec<usize>> {
    let mut all: Vec<usize> = wanted.map_or(vec![1], <[usize]>::to_vec);
    for extents in inputs {
        let more = extents.len().saturating_sub(all.len());
        all.splice(0..0, std::iter::repeat_n(1, more));
        let offset = all.len() - extents.len();
        for (axis, &extent) in extents.iter().enumerate() {
            let have = &mut all[offset + axis];
            if *have == 1 {
                *have = extent;
            }
            if extent != 1 && *have != extent || wanted.is_some_and(|w| w != all) {
                return Err(Error::shape(
                    "pointwise",
                    format!("{extents:?} beside {:?}", wanted.unwrap_or(&all)),
                    "extents that are equal or 1, counted from the last",
                ));
            }
        }
    }
    Ok(all)
}

/// How an input of extents `input` is broadcast to `results`. One of as many elements is not, whatever its axes are called:
/// a view of a value has others.
pub(super) fn axes_of(input: &[usize], results: &[usize]) -> Axes {
    if elements(input) == elements(results) {
        return Axes::Each;
    }
    let mut axes: Vec<[usize; 3]> = Vec::new();
    let (mut div, mut stride) = (1, 1);
    let mut joined = false;
    for (from_last, &extent) in results.iter().rev().enumerate() {
        let own = input
            .len()
            .checked_sub(from_last + 1)
            .map_or(1, |axis| input[axis]);
        if extent > 1 && own > 1 {
            match axes.last_mut() {
                Some(inner) if joined => inner[1] *= extent,
                _ => axes.push([div, extent, stride]),
            }
            stride *= own;
            joined = true;
        } else if extent > 1 {
            joined = false;
        }
        div *= extent;
    }
    axes.reverse();
    match axes[..] {
        [] if div == 1 => Axes::Each,
        [] => Axes::One,
        [[1, extent, _]] if extent == div => Axes::Each,
        _ => Axes::Along(axes),
    }
}

fn elements(extents: &[usize]) -> usize {
    extents.iter().product()
}

/// Whether an input belongs to results of extents `other` as it does to those of `one`, which are as many.
pub(super) fn belongs_alike(input: &[usize], one: &[usize], other: &[usize]) -> bool {
    let axes = input.iter().skip_while(|&&extent| extent == 1).count();
    let last = one.iter().rev().zip(other.iter().rev());
    let common = last.take_while(|(one, other)| one == other).count();
    [1, elements(one)].contains(&elements(input)) || axes <= common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_axes_are_one() {
        let of = |input: &[usize], results: &[usize]| axes_of(input, results);
        assert_eq!(of(&[2, 3], &[2, 3]), Axes::Each);
        assert_eq!(of(&[1, 1], &[1]), Axes::Each);
        assert_eq!(of(&[1], &[2, 3]), Axes::One);
        assert_eq!(of(&[3], &[2, 3]), Axes::Along(vec![[1, 3, 1]]));
        assert_eq!(of(&[2, 1], &[2, 3]), Axes::Along(vec![[3, 2, 1]]));
        assert_eq!(of(&[4, 5], &[3, 4, 5]), Axes::Along(vec![[1, 20, 1]]));
        assert_eq!(of(&[7, 1, 1], &[2, 7, 3, 5]), Axes::Along(vec![[15, 7, 1]]));
        let two = Axes::Along(vec![[105, 2, 5], [1, 5, 1]]);
        assert_eq!(of(&[2, 1, 1, 5], &[2, 7, 3, 5]), two);
    }

    #[test]
    fn rows_of_sequences_are_rows() {
        let alike = |input: &[usize]| belongs_alike(input, &[2, 3, 5], &[6, 5]);
        for input in [&[2, 3, 5][..], &[5], &[1, 1, 5], &[1], &[1, 1]] {
            assert!(alike(input), "{input:?}");
            assert_eq!(
                axes_of(input, &[2, 3, 5]),
                axes_of(input, &[6, 5]),
                "{input:?}"
            );
        }
        for input in [&[3, 5][..], &[2, 1, 1], &[3, 1], &[2, 1, 5]] {
            assert!(!alike(input), "{input:?}");
        }
        assert!(belongs_alike(&[3, 1], &[2, 3, 5], &[2, 3, 5]));
    }

    #[test]
    fn extents_that_do_not_fit_are_refused() {
        let of = |inputs: &[&[usize]], wanted| common(inputs.iter().copied(), wanted);
        assert_eq!(of(&[&[2, 3], &[3], &[1, 1, 1]], None).unwrap(), [1, 2, 3]);
        assert_eq!(of(&[], None).unwrap(), [1]);
        assert_eq!(of(&[&[3]], Some(&[2, 3])).unwrap(), [2, 3]);
        assert!(of(&[&[2], &[3]], None).is_err());
        assert!(of(&[&[2, 3]], Some(&[3])).is_err());
        assert!(of(&[&[2]], Some(&[1])).is_err());
    }
}
