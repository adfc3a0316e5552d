//! Tasks that threads share: which of them are whose.

use std::sync::{Mutex, PoisonError};

use smallvec::SmallVec;

use rayon::iter::plumbing::{Producer, ProducerCallback};
use rayon::prelude::{IndexedParallelIterator, ParallelIterator};

use super::crew::CREW;
use super::{ALONE, current_num_threads};

/// Tasks that threads share.
pub(crate) trait Tasks: IndexedParallelIterator {
    /// Does all of them, on several threads unless this one is [`alone`](super::alone): this one and the crew's, or
    /// the pool's where this one is of the pool.
    fn share(self, task: impl Fn(Self::Item) + Send + Sync) {
        if ALONE.get() {
            // What cannot be split stays where it is: rayon asks no thread of the pool then.
            self.with_min_len(usize::MAX).for_each(task);
        } else if rayon::current_thread_index().is_some() {
            self.for_each(task);
        } else {
            let tasks = self.len();
            self.with_producer(ByTheCrew { tasks, task });
        }
    }
}

impl<I: IndexedParallelIterator> Tasks for I {}

struct ByTheCrew<F> {
    tasks: usize,
    task: F,
}

/// Neighbouring tasks that nobody has taken.
struct Left<P> {
    tasks: usize,
    producer: P,
}

impl<P: Producer> Left<P> {
    /// Those before task `at`, and those from there on.
    fn split(self, at: usize) -> [Option<Self>; 2] {
        let Self { tasks, producer } = self;
        if at == 0 || at >= tasks {
            let all = Some(Self { tasks, producer });
            return if at == 0 { [None, all] } else { [all, None] };
        }
        let (before, behind) = producer.split_at(at);
        let of = |tasks, producer| Some(Self { tasks, producer });
        [of(at, before), of(tasks - at, behind)]
    }

    /// Takes half of what is left, or the last `least` of it and fewer than twice as many: of one's own from the front.
    fn take(left: &Mutex<Option<Self>>, least: usize, own: bool) -> Option<P> {
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        let all = left.take()?;
        let tasks = all.tasks;
        let size = if tasks < 2 * least {
            tasks
        } else {
            (tasks / 2).max(least)
        };
        let [before, behind] = all.split(if own { size } else { tasks - size });
        let (piece, rest) = if own {
            (before, behind)
        } else {
            (behind, before)
        };
        *left = rest;
        piece.map(|piece| piece.producer)
    }
}

impl<T, F: Fn(T) + Send + Sync> ProducerCallback<T> for ByTheCrew<F> {
    type Output = ();

    /// Each thread has neighbouring tasks of its own, the same ones in launches of as many: so it finds what it has
    /// made before in its own cache. Whoever has done these helps the next.
    fn callback<P: Producer<Item = T>>(self, producer: P) {
        let Self { tasks, task } = self;
        let least = producer.min_len().max(1);
        let threads = (tasks / least).min(current_num_threads());
        if threads < 2 {
            return producer.into_iter().for_each(task);
        }
        let mut ranges: SmallVec<[_; 16]> = SmallVec::new();
        let mut left = Some(Left { tasks, producer });
        for number in 1..=threads {
            let end = tasks * number / threads - tasks * (number - 1) / threads;
            let [now, rest] = left.map_or([None, None], |left| left.split(end));
            ranges.push(Mutex::new(now));
            left = rest;
        }
        CREW.run(threads - 1, &|number| {
            for of in 0..threads {
                let range = &ranges[(number + of) % threads];
                while let Some(piece) = Left::take(range, least, of == 0) {
                    piece.into_iter().for_each(&task);
                }
            }
        });
    }
}
