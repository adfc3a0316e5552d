//! Work for several threads, where the feature `threads` is on; without it the same words mean
//! one after the other on this thread. What is computed is the same bits.
//!
//! Little work is done [`alone`]: a thread from outside the pool that hands work in sleeps until it is done, and to wake
//! threads takes as long as a small network takes for an example.

#[cfg(feature = "threads")]
use std::cell::Cell;

#[cfg(feature = "threads")]
pub(crate) use rayon::current_num_threads;

#[cfg(feature = "threads")]
thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Does work of which this thread shares out nothing ([`prelude::Tasks::share`]).
#[cfg(feature = "threads")]
pub(crate) fn alone<R>(work: impl FnOnce() -> R) -> R {
    /// What was before, also where the work panics.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _before = Before(ALONE.replace(true));
    work()
}

/// What kernels use of rayon. Its own `for_each` is not among it, since it shares out whatever [`alone`] says.
#[cfg(feature = "threads")]
pub(crate) mod prelude {
    use rayon::prelude::ParallelIterator;
    pub(crate) use rayon::prelude::{
        IndexedParallelIterator, IntoParallelIterator, ParallelSlice, ParallelSliceMut,
    };

    /// Tasks that threads share.
    pub(crate) trait Tasks: IndexedParallelIterator {
        /// Does all of them, on several threads unless this one is [`alone`](super::alone).
        fn share(self, task: impl Fn(Self::Item) + Send + Sync) {
            // What cannot be split stays where it is: rayon asks no thread of the pool then.
            let least = if super::ALONE.get() { usize::MAX } else { 1 };
            self.with_min_len(least).for_each(task);
        }
    }

    impl<I: IndexedParallelIterator> Tasks for I {}
}

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

    pub(crate) trait Tasks: ExactSizeIterator + Sized {
        fn share(self, task: impl Fn(Self::Item) + Send + Sync) {
            self.for_each(task);
        }
    }

    impl<I: ExactSizeIterator> Tasks for I {}
}

#[cfg(all(test, feature = "threads"))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Mutex;
    use std::thread::{self, ThreadId};

    use super::prelude::*;
    use super::*;

    fn seen() -> Vec<ThreadId> {
        let seen = Mutex::new(vec![]);
        vec![0; 64].par_chunks(1).share(|_| {
            seen.lock().unwrap().push(thread::current().id());
        });
        seen.into_inner().unwrap()
    }

    /// Alone means on this thread, all of it; no longer than said, whatever becomes of the work.
    #[test]
    fn alone_is_on_this_thread() {
        let here = thread::current().id();
        assert_eq!(alone(seen), [here; 64]);
        let nested = || {
            alone(|| ());
            seen()
        };
        assert_eq!(alone(nested), [here; 64]);
        assert!(seen().iter().all(|&id| id != here));
        let panics = || alone(|| panic!("of a kernel"));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert!(seen().iter().all(|&id| id != here));
    }
}
