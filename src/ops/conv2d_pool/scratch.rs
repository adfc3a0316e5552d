//! Working space that each thread keeps from launch to launch.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

/// Spaces that nobody has borrowed. A list, because a thread that waits for others may
/// meanwhile begin another launch, which then must not find the same space.
type Free<T> = RefCell<Vec<Vec<T>>>;

/// An element of which threads keep spaces.
pub(super) trait Kept: Copy + Default + 'static {
    fn free() -> &'static LocalKey<Free<Self>>;
}

macro_rules! kept {
    ($($t:ty),*) => {$(
        impl Kept for $t {
            fn free() -> &'static LocalKey<Free<Self>> {
                thread_local! {
                    static FREE: Free<$t> = const { RefCell::new(vec![]) };
                }
                &FREE
            }
        }
    )*};
}

kept!(f32, u32);

/// A space, given back when dropped.
pub(super) struct Lent<T: Kept>(Vec<T>);

/// A space of `size` elements; what is in it is left from before.
pub(super) fn lend<T: Kept>(size: usize) -> Lent<T> {
    // The smallest that is large enough, so that large ones stay for large launches.
    let mut space = T::free().with_borrow_mut(|free| {
        let fits = |(_, v): &(usize, &Vec<T>)| v.capacity() >= size;
        let best = free
            .iter()
            .enumerate()
            .filter(fits)
            .min_by_key(|(_, v)| v.capacity());
        match best {
            Some((i, _)) => free.swap_remove(i),
            None => free.pop().unwrap_or_default(),
        }
    });
    space.resize(size, T::default());
    Lent(space)
}

impl<T: Kept> Drop for Lent<T> {
    fn drop(&mut self) {
        let space = std::mem::take(&mut self.0);
        // At a thread's end the list may be gone already.
        let _ = T::free().try_with(|free| free.borrow_mut().push(space));
    }
}

impl<T: Kept> Deref for Lent<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Kept> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}
