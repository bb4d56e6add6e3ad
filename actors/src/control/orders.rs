//! `Orders`: starts and stops of entities that wait for the supervisor.
//!
//! A thousand senders may start as many entities at once. If each start were a message to the
//! supervisor, the heartbeats behind them would wait for all. So the orders wait here. The
//! supervisor carries out a batch, then handles what else has come, then the next batch.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use actix::Addr;
use heartbeat_core::{Supervise, WorkerId};

use crate::control::input::Request;
use crate::control::supervisor::Supervisor;
use crate::lock::lock;
use crate::worker::slot::DynSlot;

/// Orders that the supervisor carries out in one turn: about half a millisecond.
const BATCH: usize = 64;

/// What the supervisor is to do.
pub(crate) enum Order {
    /// Start this worker.
    Start(Box<Supervise>, Arc<dyn DynSlot>),
    /// Stop and forget the worker with this number. Its slot keeps the number in use.
    Remove(WorkerId, Arc<dyn DynSlot>),
}

/// Orders in the order in which they were given.
pub(crate) struct Orders {
    queue: Mutex<Queue>,
    supervisor: Addr<Supervisor>,
}

#[derive(Default)]
struct Queue {
    orders: VecDeque<Order>,
    /// Whether the supervisor knows that there are some.
    is_posted: bool,
    /// Whether the supervisor has ended.
    is_over: bool,
}

impl Orders {
    pub(crate) fn new(supervisor: Addr<Supervisor>) -> Orders {
        Orders { queue: Mutex::default(), supervisor }
    }

    /// Adds an order. The caller may hold a lock, and calls [`Orders::post`] when it does not.
    pub(crate) fn give(&self, order: Order) {
        lock(&self.queue).orders.push_back(order);
    }

    /// Lets the supervisor know that there are orders, if it does not.
    pub(crate) fn post(self: &Arc<Self>) {
        let is_over = {
            let mut queue = lock(&self.queue);
            if queue.orders.is_empty() || !queue.is_over && std::mem::replace(&mut queue.is_posted, true) {
                return;
            }
            queue.is_over
        };
        match is_over {
            true => self.end(),
            false => self.supervisor.do_send(Request::Orders(TakeOrders(Some(self.clone())))),
        }
    }

    /// The supervisor has ended: what was to start never will.
    fn end(&self) {
        let orders = {
            let mut queue = lock(&self.queue);
            queue.is_over = true;
            std::mem::take(&mut queue.orders)
        };
        for order in orders {
            match order {
                Order::Start(_, slot) => slot.end(),
                Order::Remove(..) => {}
            }
        }
    }
}

/// The request to carry out what waits.
pub(crate) struct TakeOrders(Option<Arc<Orders>>);

impl TakeOrders {
    /// The next batch, and the request for the rest if there is one.
    pub(crate) fn take(mut self) -> (Vec<Order>, Option<TakeOrders>) {
        let Some(from) = self.0.take() else { return (Vec::new(), None) };
        let (orders, is_more) = {
            let mut queue = lock(&from.queue);
            let count = queue.orders.len().min(BATCH);
            let orders: Vec<Order> = queue.orders.drain(..count).collect();
            queue.is_posted = !queue.orders.is_empty();
            (orders, queue.is_posted)
        };
        // Not `then_some`: a request that is dropped ends the orders.
        (orders, is_more.then(|| TakeOrders(Some(from))))
    }
}

impl Drop for TakeOrders {
    /// The supervisor has ended without handling it.
    fn drop(&mut self) {
        if let Some(orders) = self.0.take() {
            orders.end();
        }
    }
}
