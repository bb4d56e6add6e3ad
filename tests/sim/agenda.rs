//! `Agenda`: what is to happen when, in the order of time, and of its making where times are equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Bits of an entry's place in `things`, and of its number: seventeen million things at a time, a
/// million million in all.
const PLACE_BITS: u32 = 24;
const NUMBER_BITS: u32 = 40;

/// Things to happen, each at its time.
pub struct Agenda<T> {
    /// Time, number and place in one word each, so that two are compared at once: nearly all that
    /// is done here is comparing.
    heap: BinaryHeap<Reverse<u128>>,
    things: Vec<Option<T>>,
    free: Vec<usize>,
    number: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Agenda<T> {
        Agenda { heap: BinaryHeap::new(), things: Vec::new(), free: Vec::new(), number: 0 }
    }
}

impl<T> Agenda<T> {
    /// Puts a thing down for a time.
    ///
    /// # Panics
    /// If it holds seventeen million things, or after a million million.
    pub fn put(&mut self, at: u64, thing: T) {
        self.number += 1;
        let place = match self.free.pop() {
            Some(place) => {
                let former = self.things[place].replace(thing);
                assert!(former.is_none(), "a place that is free holds nothing");
                place
            }
            None => {
                self.things.push(Some(thing));
                self.things.len() - 1
            }
        };
        assert!(place < 1 << PLACE_BITS && self.number < 1 << NUMBER_BITS, "more than an agenda has room for");
        let entry = u128::from(at) << 64 | u128::from(self.number << PLACE_BITS | place as u64);
        self.heap.push(Reverse(entry));
    }

    /// Takes out the first thing, if it is to happen by `end`.
    pub fn pop(&mut self, end: u64) -> Option<(u64, T)> {
        let &Reverse(entry) = self.heap.peek()?;
        let at = (entry >> 64) as u64;
        if at > end {
            return None;
        }
        self.heap.pop();
        let place = entry as usize & ((1 << PLACE_BITS) - 1);
        self.free.push(place);
        self.things[place].take().map(|thing| (at, thing))
    }
}
