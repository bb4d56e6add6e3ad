//! Messages wait while the actor waits for a future, and come at once while it does not.

use actix::prelude::*;
use futures_util::stream::iter;

use super::world::{Context, run};
use crate::tally::{Tally, millis};

/// Counts messages, and may wait a second after each.
struct Counter {
    count: Tally,
    waits: bool,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Ping;

impl Handler<Ping> for Counter {
    type Result = ();

    fn handle(&mut self, _: Ping, ctx: &mut Context<Self>) {
        self.count.add(1);
        if self.waits {
            tokio::time::sleep(millis(1_000)).into_actor(self).wait(ctx);
        }
    }
}

impl StreamHandler<u32> for Counter {
    fn handle(&mut self, _: u32, ctx: &mut Context<Self>) {
        Handler::handle(self, Ping, ctx);
    }

    fn finished(&mut self, _: &mut Context<Self>) {}
}

/// Where the three messages come from.
#[derive(Clone, Copy)]
enum Source {
    Address,
    MessageStream,
    Stream,
    Notify,
}

/// Three messages: how many were handled at once, and after 2.5 seconds.
fn check(source: Source, waits: bool, at_once: usize, later: usize) {
    run(async move |world| {
        let count = Tally::default();
        let own = count.clone();
        let counter = world.create(move |ctx: &mut Context<Counter>| {
            match source {
                Source::Address => {}
                Source::MessageStream => ctx.add_message_stream(iter([Ping, Ping, Ping])),
                Source::Stream => drop(ctx.add_stream(iter([1, 2, 3]))),
                Source::Notify => {
                    ctx.notify(Ping);
                    ctx.notify(Ping);
                }
            }
            Counter { count: own, waits }
        });
        match source {
            Source::Address => (0..3).for_each(|_| counter.do_send(Ping)),
            Source::Notify => counter.do_send(Ping),
            Source::MessageStream | Source::Stream => {}
        }
        world.pass(millis(200)).await;
        assert_eq!(count.count(), at_once);
        world.pass(millis(2_300)).await;
        assert_eq!(count.count(), later);
    });
}

// test_wait_context
#[test]
fn messages_wait_while_the_actor_waits() {
    check(Source::Address, true, 1, 3);
}

// test_message_stream_wait_context
#[test]
fn messages_of_a_stream_wait_while_the_actor_waits() {
    check(Source::MessageStream, true, 1, 3);
}

// test_stream_wait_context
#[test]
fn items_of_a_stream_wait_while_the_actor_waits() {
    check(Source::Stream, true, 1, 3);
}

// test_nowait_context
#[test]
fn messages_come_at_once_while_it_does_not_wait() {
    check(Source::Address, false, 3, 3);
}

// test_message_stream_nowait_context
#[test]
fn messages_of_a_stream_come_at_once() {
    check(Source::MessageStream, false, 3, 3);
}

// test_stream_nowait_context
#[test]
fn items_of_a_stream_come_at_once() {
    check(Source::Stream, false, 3, 3);
}

// test_notify
#[test]
fn notifications_come_beside_messages() {
    check(Source::Notify, false, 3, 3);
}
