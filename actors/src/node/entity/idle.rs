//! `Sweeper`: the worker that stops idle entities.

use std::sync::Arc;

use actix::{Actor, AsyncContext, Handler, Message};

use super::group::{EntityGroup, SweepStep};
use crate::worker::context::Context;

/// Entities that are looked at in one turn: about a quarter of a millisecond. Then the neighbours
/// on the thread get theirs.
const LOOKS: usize = 128;

/// Stops the entities of one group that have been idle for long enough. It is a worker like others,
/// so it is replaced if its thread is held.
pub(super) struct Sweeper<A: Actor<Context = Context<A>>> {
    pub(super) group: Arc<EntityGroup<A>>,
}

/// Look for idle entities.
pub(super) struct Sweep;

impl Message for Sweep {
    type Result = ();
}

impl<A: Actor<Context = Context<A>>> Sweeper<A> {
    fn sweep(&mut self, context: &mut Context<Self>) {
        let now = self.group.now();
        for _ in 0..LOOKS {
            match self.group.sweep(now) {
                SweepStep::Looked => {}
                SweepStep::Until(at) => {
                    context.run_later(at - now, Sweeper::sweep);
                    return self.group.orders.post();
                }
                SweepStep::Empty => return self.group.orders.post(),
            }
        }
        self.group.orders.post();
        context.notify(Sweep);
    }
}

impl<A: Actor<Context = Context<A>>> Actor for Sweeper<A> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.sweep(context);
    }
}

impl<A: Actor<Context = Context<A>>> Handler<Sweep> for Sweeper<A> {
    type Result = ();

    fn handle(&mut self, _: Sweep, context: &mut Context<Self>) {
        self.sweep(context);
    }
}
