//! Streams: all items, their end, their handles.

use std::pin::Pin;
use std::task::{self, Poll};

use actix::prelude::*;
use futures_util::Stream;
use futures_util::stream::{iter, once, repeat};

use super::world::{Context, run};
use crate::tally::{Tally, millis};

/// Adds up the items of a stream.
struct Sum {
    sum: Tally,
    finished: Tally,
    handled_by: Tally,
    source: Option<SpawnHandle>,
}

impl Sum {
    fn new(sum: &Tally, finished: &Tally) -> Sum {
        let (sum, finished) = (sum.clone(), finished.clone());
        Sum { sum, finished, handled_by: Tally::default(), source: None }
    }
}

impl Actor for Sum {
    type Context = Context<Self>;
}

impl StreamHandler<usize> for Sum {
    fn handle(&mut self, item: usize, ctx: &mut Context<Self>) {
        self.sum.add(item);
        self.handled_by.set(ctx.handle().into_usize());
        if let Some(source) = self.source {
            ctx.cancel_future(source);
        }
    }

    fn finished(&mut self, _: &mut Context<Self>) {
        self.finished.add(1);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Sum {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// An item each millisecond.
struct Ticks(tokio::time::Interval);

impl Stream for Ticks {
    type Item = usize;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Option<usize>> {
        self.0.poll_tick(task).map(|_| Some(1))
    }
}

// test_stream
#[test]
fn all_items_come_and_then_the_end() {
    run(async |world| {
        let (sum, finished) = (Tally::default(), Tally::default());
        let actor = Sum::new(&sum, &finished);
        let _addr = world.create(move |ctx| {
            Sum::add_stream(iter([1, 2, 3, 4]), ctx);
            actor
        });
        world.pass(millis(1)).await;
        assert_eq!((sum.count(), finished.count()), (10, 1));
    });
}

// test_infinite_stream
#[test]
fn a_stream_without_end_leaves_room_for_messages() {
    run(async |world| {
        let (sum, finished) = (Tally::default(), Tally::default());
        let actor = Sum::new(&sum, &finished);
        let addr = world.create(move |ctx| {
            Sum::add_stream(repeat(1), ctx);
            actor
        });
        // Time does not pass while there is something to do.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        addr.send(Stop).await.unwrap();
        world.pass(millis(1)).await;
        assert!(sum.count() > 0 && finished.count() == 0);
    });
}

/// The handle of a stream, as it was added and as its handler saw it.
fn handles(add: impl FnOnce(&mut Context<Sum>) -> SpawnHandle + Send + 'static) {
    run(async move |world| {
        let (added, actor) = (Tally::default(), Sum::new(&Tally::default(), &Tally::default()));
        let (own, seen) = (added.clone(), actor.handled_by.clone());
        let _addr = world.create(move |ctx| {
            own.set(add(ctx).into_usize());
            actor
        });
        world.pass(millis(1)).await;
        assert_eq!(added.count(), seen.count());
    });
}

// test_current_context_handle
#[test]
fn a_handler_sees_the_handle_of_its_stream() {
    handles(|ctx| Sum::add_stream(once(async { 1 }), ctx));
}

// test_start_from_context
#[test]
fn a_stream_may_be_added_by_the_context() {
    handles(|ctx| ctx.add_stream(once(async { 1 })));
}

// test_cancel_handler
#[test]
fn a_stream_may_be_cancelled_from_its_own_handler() {
    run(async |world| {
        let (sum, finished) = (Tally::default(), Tally::default());
        let mut actor = Sum::new(&sum, &finished);
        let _addr = world.create(move |ctx| {
            actor.source = Some(ctx.add_stream(Ticks(tokio::time::interval(millis(1)))));
            actor
        });
        world.pass(millis(20)).await;
        assert_eq!((sum.count(), finished.count()), (1, 0));
    });
}
