//! Work for several threads, where the feature `threads` is on; without it the same words mean
//! one after the other on this thread. What is computed is the same bits.

#[cfg(feature = "threads")]
pub(crate) use rayon::{current_num_threads, prelude};

/// How many threads share the work.
#[cfg(not(feature = "threads"))]
pub(crate) fn current_num_threads() -> usize {
    1
}

/// What stands in for rayon's traits: the same names over the standard library's iterators.
#[cfg(not(feature = "threads"))]
pub(crate) mod prelude {
    use std::slice::{Chunks, ChunksMut};

    pub(crate) trait ParallelSlice<T> {
        fn par_chunks(&self, size: usize) -> Chunks<'_, T>;
    }

    impl<T> ParallelSlice<T> for [T] {
        fn par_chunks(&self, size: usize) -> Chunks<'_, T> {
            self.chunks(size)
        }
    }

    pub(crate) trait ParallelSliceMut<T> {
        fn par_chunks_mut(&mut self, size: usize) -> ChunksMut<'_, T>;
    }

    impl<T> ParallelSliceMut<T> for [T] {
        fn par_chunks_mut(&mut self, size: usize) -> ChunksMut<'_, T> {
            self.chunks_mut(size)
        }
    }

    pub(crate) trait IntoParallelIterator: IntoIterator + Sized {
        fn into_par_iter(self) -> Self::IntoIter {
            self.into_iter()
        }
    }

    impl<I: IntoIterator> IntoParallelIterator for I {}

    pub(crate) trait IndexedParallelIterator: ExactSizeIterator + Sized {
        fn with_min_len(self, _: usize) -> Self {
            self
        }
    }

    impl<I: ExactSizeIterator> IndexedParallelIterator for I {}
}
