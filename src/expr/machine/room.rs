//! Where a thread computes lines, kept from launch to launch.

use std::any::Any;
use std::cell::RefCell;

use smallvec::SmallVec;

use super::{CHUNK, Machine};
use crate::tensor::Real;

thread_local! {
    /// Rooms that nobody has borrowed, of any scalar. A list, because a thread that waits for others may begin another
    /// launch meanwhile.
    static FREE: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(vec![]) };
}

/// Where lines are computed.
#[derive(Debug)]
pub(super) struct Room<T> {
    /// Of [`CHUNK`] elements each.
    pub registers: Vec<Vec<T>>,
    pub words: Vec<u32>,
    /// What lines are in the run of results that is being computed ([`Runs`](super::Runs)), and its number.
    pub alike: SmallVec<[T; 24]>,
    pub run: usize,
}

/// Lends a room for a launch of a machine. Its registers hold what is left from before.
pub(super) fn with_room<T: Real + 'static>(machine: &Machine, work: impl FnOnce(&mut Room<T>)) {
    let free = FREE.with_borrow_mut(|free| {
        let mine = free.iter().rposition(|room| room.is::<Room<T>>())?;
        free.swap_remove(mine).downcast::<Room<T>>().ok()
    });
    let mut room = free.unwrap_or_else(|| {
        Box::new(Room {
            registers: vec![],
            words: vec![],
            alike: SmallVec::new(),
            run: usize::MAX,
        })
    });
    while room.registers.len() < machine.registers {
        room.registers.push(vec![T::ZERO; CHUNK]);
    }
    // Another launch's runs are none of this one.
    room.alike.clear();
    room.run = usize::MAX;
    work(&mut room);
    FREE.with_borrow_mut(|free| free.push(room));
}
