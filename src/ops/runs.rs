//! Into how many runs a long sum is cut.

/// The elements that a run has at least.
const RUN: usize = 4096;
/// Workgroups that keep any GPU busy.
const BUSY: usize = 512;

/// Into how many runs each of `results` sums of `terms` terms is cut, to be added up by a launch of
/// its own; 1 where a second launch would take longer than it saves.
pub(super) fn runs(results: usize, terms: usize) -> usize {
    match (terms / RUN).min(BUSY / results) {
        0..8 => 1,
        many => many.min(256),
    }
}
