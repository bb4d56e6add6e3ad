//! `EventQueue`: what is to happen when, in the order of time, and of its making where times are
//! equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heartbeat_core::authority::{AuthorityRequest, AuthorityResponse};
use heartbeat_core::{ArbiterId, Generation, Input, Report, WorkerId};

use crate::driver::{BACKLOG_MAX, SPARE_MAX};
use crate::fault::Fault;
use crate::network::NodeIndex;
use crate::node::shards;
use crate::world::World;

/// Bits of an entry's place in `things`, and of its number: seventeen million things at a time, a
/// million million in all.
const PLACE_BITS: u32 = 24;
const NUMBER_BITS: u32 = 40;

/// Things to happen, each at its time.
pub struct EventQueue<T> {
    /// Time, number and place in one word each, so that two are compared at once: nearly all that
    /// is done here is comparing.
    heap: BinaryHeap<Reverse<u128>>,
    things: Vec<Option<T>>,
    free: Vec<usize>,
    number: u64,
}

impl<T> Default for EventQueue<T> {
    fn default() -> EventQueue<T> {
        EventQueue { heap: BinaryHeap::new(), things: Vec::new(), free: Vec::new(), number: 0 }
    }
}

impl<T> EventQueue<T> {
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
        assert!(place < 1 << PLACE_BITS && self.number < 1 << NUMBER_BITS, "more than an queue has room for");
        let entry = u128::from(at) << 64 | u128::from(self.number << PLACE_BITS | place as u64);
        self.heap.push(Reverse(entry));
    }

    /// When the first thing is to happen.
    pub fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(entry)| (entry >> 64) as u64)
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

#[derive(Clone)]
pub(crate) enum Item {
    Datagram {
        to: NodeIndex,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    Timer {
        place: NodeIndex,
        life: u64,
        at: u64,
    },
    /// Something happens on a stream, at one end of it.
    Stream(crate::streams::Move),
    Beat {
        place: NodeIndex,
        life: u64,
        arbiter: ArbiterId,
    },
    Report {
        place: NodeIndex,
        life: u64,
        worker: WorkerId,
        generation: Generation,
        report: Report,
    },
    Wake {
        place: NodeIndex,
        life: u64,
        arbiter: ArbiterId,
    },
    /// A node takes its shards on.
    TakeOn {
        place: NodeIndex,
        life: u64,
    },
    /// The socket is found empty.
    Drained {
        place: NodeIndex,
        life: u64,
    },
    /// The authority is asked.
    Ask {
        place: NodeIndex,
        life: u64,
        number: u64,
        ask: AuthorityRequest,
    },
    /// The authority answers, or does not.
    Answer {
        place: NodeIndex,
        life: u64,
        number: u64,
        answer: Option<AuthorityResponse>,
    },
    /// Shards may be free at the authority.
    Freed {
        place: NodeIndex,
        life: u64,
    },
    Fault(Fault),
}

impl World {
    pub(crate) fn put(&mut self, at: u64, item: Item) {
        self.queue.put(at, item);
    }

    pub(crate) fn soon(&mut self, within: Duration) -> u64 {
        self.now + 1_000 + self.random.duration_below(within).as_nanos() as u64
    }

    pub(crate) fn handle(&mut self, item: Item) {
        let (place, life) = match &item {
            Item::Fault(fault) => return self.apply(fault.clone()),
            // A datagram that was sent arrives even if its sender is gone.
            Item::Ask { place, life, number, ask } => return self.ask(*place, *life, *number, ask),
            Item::Datagram { to, .. } => (*to, self.nodes[*to].life),
            Item::Stream(action) => (action.at(), self.nodes[action.at()].life),
            Item::Timer { place, life, .. }
            | Item::Beat { place, life, .. }
            | Item::Report { place, life, .. }
            | Item::Wake { place, life, .. }
            | Item::TakeOn { place, life }
            | Item::Answer { place, life, .. }
            | Item::Freed { place, life }
            | Item::Drained { place, life } => (*place, *life),
        };
        if life != self.nodes[place].life {
            return;
        }
        if let Item::Stream(action) = &item
            && self.pass(action)
        {
            return;
        }
        let Some(process) = &mut self.nodes[place].process else { return };
        if process.paused {
            if process.backlog.len() < BACKLOG_MAX {
                process.backlog.push(item);
            }
            return;
        }
        match item {
            Item::Datagram { from, bytes, .. } => {
                let batch = Arc::make_mut(&mut self.batch);
                batch.clear();
                batch.push(from, &bytes);
                if let Some(seal) = &mut process.seal {
                    batch.open_each(|_, bytes| seal.open(bytes).ok());
                }
                self.handle_input(place, Input::from(self.batch.clone()));
                if self.spare.len() < SPARE_MAX {
                    self.spare.push(bytes);
                }
            }
            Item::Timer { at, .. } if at == process.timer_at => {
                process.timer_at = u64::MAX;
                self.handle_input(place, Input::Timeout);
            }
            Item::Timer { .. } | Item::Fault(_) | Item::Ask { .. } => {}
            Item::Answer { number, answer, .. } => {
                let answer = answer.ok_or_else(|| "no answer within 1s".into());
                self.handle_input(place, Input::Answer { number, answer });
            }
            Item::Freed { .. } => self.handle_input(place, Input::Freed),
            Item::Stream(action) => self.stream(action),
            Item::Beat { arbiter, .. } => self.beat(place, life, arbiter),
            Item::Report { worker, generation, report, .. } => self.report(place, worker, generation, report),
            Item::Wake { arbiter, .. } => self.wake(place, arbiter),
            Item::TakeOn { .. } => {
                let arbiters = self.config.workers.arbiters;
                self.handle_input(place, shards(arbiters));
            }
            Item::Drained { .. } => self.handle_input(place, Input::Drained),
        }
    }
}
