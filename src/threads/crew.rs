//! Threads that stay awake between two launches.
//!
//! The pool of rayon lets a thread from outside sleep until its work is done, and asks its own to search each other's
//! queues for what they may do: a launch of 10 µs costs as much again. Here the thread that has work does it itself, and
//! helpers, which are jobs on the pool's threads, watch one word of memory for it. Between two launches of a program that is
//! some 100 ns. A helper that has seen no work for a while gives its thread back to the pool.
//!
//! Nobody waits for a helper that has not come: whoever is there takes piece after piece until there is none.

#![allow(unsafe_code)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What everybody does at once: it takes pieces and ends where there are no more. It is given a number: 0 is whose work
/// it is, a helper has the same one from launch to launch as far as can be.
type Work<'a> = &'a (dyn Fn(usize) + Sync);

/// How long a helper waits for work while a program runs, of which some launches are not for several threads: to fall asleep and
/// be woken takes longer than most.
const WITHIN: Duration = Duration::from_millis(2);

/// How long otherwise: from one example to the next, not from one person's click to the next.
const BETWEEN: Duration = Duration::from_micros(100);

/// How long a helper stays at most before it gives its thread back and is sent for again: the pool has other work too, its users' and
/// that of replicas.
const STAY: Duration = Duration::from_millis(10);

/// Looks at the word before a thread that waits lets others of the machine have their turn, some 10 µs.
const LOOKS: u32 = 400;

/// A helper at work, in [`Crew::seats`].
const AT_WORK: u64 = 1 << 32;

/// Those who do one thread's work together, and that work.
pub(super) struct Crew {
    /// Whether the work of a thread is being done.
    taken: AtomicBool,
    /// Below, how many more may come; above, how many helpers are at work. One word, so that nobody comes once it is over.
    seats: AtomicU64,
    /// Where a [`Work`] is: valid while somebody may come or is at work.
    work: AtomicPtr<()>,
    /// Helpers that have been sent for and have not left.
    present: AtomicUsize,
    /// How many were wanted last.
    wanted: AtomicUsize,
    /// Programs that are being run.
    programs: AtomicUsize,
    /// What a helper's piece has panicked with.
    panicked: Mutex<Option<Box<dyn Any + Send>>>,
}

/// The crew of this process.
pub(super) static CREW: Crew = Crew {
    taken: AtomicBool::new(false),
    seats: AtomicU64::new(0),
    work: AtomicPtr::new(ptr::null_mut()),
    present: AtomicUsize::new(0),
    wanted: AtomicUsize::new(0),
    programs: AtomicUsize::new(0),
    panicked: Mutex::new(None),
};

/// Waits a little: first for other cores, later for other threads of this one.
fn wait(looks: &mut u32) {
    if *looks < LOOKS {
        *looks += 1;
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

/// While it lives helpers may come. When it is dropped, also by a panic, none of them is at work any more.
struct Open<'c>(&'c Crew);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let Self(crew) = self;
        // Acquire: what helpers have written is seen by who goes on.
        let mut seats = crew.seats.fetch_and(!(AT_WORK - 1), Ordering::Acquire);
        let mut looks = 0;
        while seats >= AT_WORK {
            wait(&mut looks);
            seats = crew.seats.load(Ordering::Acquire);
        }
    }
}

/// The right to have one's work done by the crew.
struct Taken<'c>(&'c Crew);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // This thread's own panic goes on; the next work has nothing to do with a helper's.
            self.0.panicked().take();
        }
        self.0.taken.store(false, Ordering::Release);
    }
}

impl Crew {
    /// Does work on this thread and up to `helpers` others, and returns when it is done everywhere. While the crew
    /// does another thread's, or this one's from within it, this thread does it alone.
    ///
    /// # Panics
    /// Where a piece has panicked, on whatever thread, with the same.
    pub(super) fn run(&'static self, helpers: usize, work: Work<'_>) {
        if self.taken.swap(true, Ordering::Acquire) {
            return work(0);
        }
        let taken = Taken(self);
        let open = self.open(helpers, &work);
        self.send(helpers);
        work(0);
        drop(open);
        let panicked = self.panicked().take();
        drop(taken);
        if let Some(panicked) = panicked {
            resume_unwind(panicked);
        }
    }

    /// Lets up to so many helpers come.
    fn open(&self, helpers: usize, work: &Work<'_>) -> Open<'_> {
        let seats = (helpers as u64).min(AT_WORK - 1);
        let work: *const Work<'_> = work;
        self.work.store(work.cast_mut().cast(), Ordering::Relaxed);
        // Release: who comes sees the work, and all that has been written before.
        self.seats.store(seats, Ordering::Release);
        Open(self)
    }

    /// Sends for a helper if fewer are there than are wanted. Each that comes sends for one more, since to wake a thread
    /// takes as long as a small launch.
    fn send(&'static self, wanted: usize) {
        self.wanted.store(wanted, Ordering::Relaxed);
        let one_more = |present: usize| (present < wanted).then_some(present + 1);
        let relaxed = Ordering::Relaxed;
        if let Ok(before) = self.present.fetch_update(relaxed, relaxed, one_more) {
            rayon::spawn(move || self.help(before + 1));
        }
    }

    /// A helper's time with the crew.
    fn help(&'static self, number: usize) {
        self.send(self.wanted.load(Ordering::Relaxed));
        let begun = Instant::now();
        let (mut since, mut looks) = (begun, 0);
        while since.duration_since(begun) < STAY {
            if self.come() {
                super::alone(|| self.work(number));
                looks = 0;
                since = Instant::now();
            } else if looks < LOOKS || since.elapsed() < self.patience() {
                wait(&mut looks);
            } else {
                break;
            }
        }
        self.present.fetch_sub(1, Ordering::Relaxed);
    }

    fn panicked(&self) -> MutexGuard<'_, Option<Box<dyn Any + Send>>> {
        self.panicked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn patience(&self) -> Duration {
        match self.programs.load(Ordering::Relaxed) {
            0 => BETWEEN,
            _ => WITHIN,
        }
    }

    /// Runs a program, whose launches follow each other.
    pub(super) fn program<R>(&self, run: impl FnOnce() -> R) -> R {
        /// Counts also where the program panics.
        struct Counted<'c>(&'c AtomicUsize);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.programs.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(&self.programs);
        run()
    }

    /// Whether there is work and a seat, which is this helper's then.
    fn come(&self) -> bool {
        let mut seats = self.seats.load(Ordering::Relaxed);
        while !seats.is_multiple_of(AT_WORK) {
            let (mine, order) = (seats + AT_WORK - 1, Ordering::Acquire);
            let came = self
                .seats
                .compare_exchange_weak(seats, mine, order, Ordering::Relaxed);
            match came {
                Ok(_) => return true,
                Err(now) => seats = now,
            }
        }
        false
    }

    /// A helper's part, from its seat to leaving it.
    fn work(&self, number: usize) {
        let work: *const Work<'_> = self.work.load(Ordering::Relaxed).cast_const().cast();
        // SAFETY: the seat was taken while the `Open` of `run` was there. Its `drop` waits until this helper has left its seat,
        // at the end of this function, and what the pointer points to, in `run`'s frame, outlives it; so does what that
        // borrows. Taking the seat has acquired what `open` has released, so the pointer is of this round. It is shared by
        // several threads, and `Work` is `Sync`.
        let work: Work<'_> = unsafe { *work };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(number))) {
            let mut first = self.panicked();
            match *first {
                None => *first = Some(panic),
                // To drop it might panic once more, and nobody would leave the seat.
                Some(_) => std::mem::forget(panic),
            }
        }
        // Release: who waits in `Open::drop` sees all that this helper has written.
        self.seats.fetch_sub(AT_WORK, Ordering::Release);
    }
}
