//! Work for several threads, where the feature `threads` is on; without it the same words mean
//! one after the other on this thread. What is computed is the same bits.
//!
//! A thread from outside the pool does its work itself, with the [`crew`]'s help. Little work is done [`alone`]: to wake
//! threads takes as long as a small network takes for an example.

#[cfg(feature = "threads")]
mod crew;
#[cfg(feature = "threads")]
mod tasks;

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

/// Whether this thread shares what it has to do.
#[cfg(feature = "threads")]
pub(crate) fn are_several() -> bool {
    !ALONE.get() && current_num_threads() > 1
}

/// Runs a program of launches, between which helpers stay awake.
#[cfg(feature = "threads")]
pub(crate) fn program<R>(run: impl FnOnce() -> R) -> R {
    crew::CREW.program(run)
}

/// What kernels use of rayon. Its own `for_each` is not among it, since it shares out whatever [`alone`] says.
#[cfg(feature = "threads")]
pub(crate) mod prelude {
    pub(crate) use rayon::prelude::{
        IndexedParallelIterator, IntoParallelIterator, ParallelSlice, ParallelSliceMut,
    };

    pub(crate) use super::tasks::Tasks;
}

/// How many threads share the work.
#[cfg(not(feature = "threads"))]
pub(crate) fn current_num_threads() -> usize {
    1
}

/// Whether this thread shares what it has to do.
#[cfg(not(feature = "threads"))]
pub(crate) fn are_several() -> bool {
    false
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
    use std::collections::HashSet;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::{self, ThreadId};
    use std::time::{Duration, Instant};

    use super::prelude::*;
    use super::*;

    /// Who does 64 tasks, each of which waits for a second thread, up to a time. The crew helps one thread at once, and
    /// other tests ask it too, so somebody may have to be patient.
    fn seen(patience: Duration) -> Vec<ThreadId> {
        let seen = Mutex::new(vec![]);
        let begun = Instant::now();
        (0..64).into_par_iter().share(|_| {
            seen.lock().unwrap().push(thread::current().id());
            let alone = || {
                seen.lock()
                    .unwrap()
                    .iter()
                    .all(|&id| id == thread::current().id())
            };
            while alone() && begun.elapsed() < patience {
                thread::yield_now();
            }
        });
        seen.into_inner().unwrap()
    }

    fn shares() -> bool {
        let several = || {
            seen(Duration::from_millis(200))
                .iter()
                .collect::<HashSet<_>>()
                .len()
                > 1
        };
        (0..100).any(|_| several())
    }

    /// Alone means on this thread, all of it; no longer than said, whatever becomes of the work.
    #[test]
    fn alone_is_on_this_thread() {
        let here = thread::current().id();
        // Others may have the crew for a while.
        for _ in 0..20 {
            let soon = || seen(Duration::from_millis(5));
            assert_eq!(alone(soon), [here; 64]);
            let nested = || {
                alone(|| ());
                soon()
            };
            assert_eq!(alone(nested), [here; 64]);
        }
        let panics = || alone(|| panic!("of a kernel"));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert!(current_num_threads() == 1 || shares());
    }

    /// From outside the pool and from within, this thread does its part, and others help.
    #[test]
    fn work_is_shared() {
        if current_num_threads() == 1 {
            return;
        }
        assert!(shares());
        assert!(program(shares));
        let here = thread::current().id();
        assert!((0..100).any(|_| seen(Duration::ZERO).contains(&here)));
        assert!(rayon::scope(|_| shares()));
    }

    /// Whatever the number of tasks and the least of them for a thread, each is done once, by several threads that share
    /// at once, and within tasks.
    #[test]
    fn every_task_is_done_once() {
        let rounds = |seed: usize| {
            for round in 0..300 {
                let (n, least) = ((round * 7 + seed) % 67, round % 5);
                let done: Vec<_> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                let within = AtomicUsize::new(0);
                done.par_chunks(1).with_min_len(least).share(|task| {
                    task[0].fetch_add(1, Ordering::Relaxed);
                    (0..5).into_par_iter().share(|i| {
                        within.fetch_add(i, Ordering::Relaxed);
                    });
                });
                assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1));
                assert_eq!(within.into_inner(), 10 * n);
            }
        };
        thread::scope(|scope| {
            for seed in 0..4 {
                scope.spawn(move || rounds(seed));
            }
        });
    }

    /// Results that tasks write are there when all is done: many short launches, each of which reads what the last one wrote.
    #[test]
    fn what_is_written_is_seen() {
        let mut values = vec![1u64; 257];
        for _ in 0..2000 {
            let before = values.clone();
            let tasks = values.par_chunks_mut(8).zip(before.par_chunks(8));
            tasks.share(|(now, before)| {
                for (now, before) in now.iter_mut().zip(before) {
                    *now = before * 3 % 1009 + 1;
                }
            });
        }
        assert!(values.iter().all(|value| value == &values[0]));
    }

    /// A task's panic is that of who shares, on whatever thread it was; nobody is at work any more, and later work is done.
    #[test]
    fn a_panic_is_passed_on() {
        let here = thread::current().id();
        for on_this_thread in [true, false] {
            let mut passed = false;
            for _ in 0..100 {
                let working = AtomicUsize::new(0);
                let panics = AtomicUsize::new(0);
                let shared = catch_unwind(AssertUnwindSafe(|| {
                    (0..64).into_par_iter().share(|_| {
                        working.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(Duration::from_micros(100));
                        working.fetch_sub(1, Ordering::Relaxed);
                        if (thread::current().id() == here) == on_this_thread {
                            panics.fetch_add(1, Ordering::Relaxed);
                            panic!("in a task");
                        }
                    });
                }));
                assert_eq!(working.into_inner(), 0);
                let panicked = panics.into_inner() > 0;
                assert_eq!(shared.is_err(), panicked);
                if let Err(panic) = shared {
                    assert_eq!(panic.downcast_ref::<&str>(), Some(&"in a task"));
                    passed = true;
                    break;
                }
            }
            assert!(passed || current_num_threads() == 1);
            let sum = AtomicUsize::new(0);
            (0..64).into_par_iter().share(|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 2016);
        }
    }
}
