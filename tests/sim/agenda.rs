//! `Agenda`: what is to happen when, in the order of time, and of its making where times are equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Things to happen, each at its time.
pub struct Agenda<T> {
    /// Time, number, and place in `things`.
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
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
    pub fn put(&mut self, at: u64, thing: T) {
        self.number += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.things[place] = Some(thing);
                place
            }
            None => {
                self.things.push(Some(thing));
                self.things.len() - 1
            }
        };
        self.heap.push(Reverse((at, self.number, place)));
    }

    /// Takes out the first thing, if it is to happen by `end`.
    pub fn pop(&mut self, end: u64) -> Option<(u64, T)> {
        let &Reverse((at, _, place)) = self.heap.peek()?;
        if at > end {
            return None;
        }
        self.heap.pop();
        self.free.push(place);
        self.things[place].take().map(|thing| (at, thing))
    }
}
