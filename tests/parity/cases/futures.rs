//! Futures and streams that see their actor: each way to put them together.

use actix::prelude::*;
use futures_util::future::ready;
use futures_util::stream::{FuturesOrdered, repeat};

use super::world::{Context, run};
use crate::tally::{Tally, millis};

#[derive(Default)]
struct Steps {
    count: usize,
}

impl Actor for Steps {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct TakeWhile;

#[derive(Message)]
#[rtype(result = "()")]
struct SkipWhile;

#[derive(Message)]
#[rtype(result = "Vec<usize>")]
struct Collect;

#[derive(Message)]
#[rtype(result = "Result<i64, String>")]
struct Chain(i64);

impl Handler<TakeWhile> for Steps {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: TakeWhile, _: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        let taken = repeat(3).into_actor(self).take_while(|item, steps, ctx| {
            ctx.spawn(tokio::task::yield_now().into_actor(steps));
            assert_eq!(*item, 3);
            steps.count += 1;
            ready(steps.count < 10)
        });
        taken.finish().boxed_local()
    }
}

impl Handler<SkipWhile> for Steps {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: SkipWhile, _: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        let taken = repeat(3).into_actor(self).take_while(|_, steps, _| {
            steps.count += 1;
            ready(steps.count <= 10)
        });
        let skipped = taken.skip_while(|_, steps, ctx| {
            ctx.spawn(tokio::task::yield_now().into_actor(steps));
            ready(steps.count < 5)
        });
        skipped.finish().boxed_local()
    }
}

impl Handler<Collect> for Steps {
    type Result = ResponseActFuture<Self, Vec<usize>>;

    fn handle(&mut self, _: Collect, _: &mut Context<Self>) -> ResponseActFuture<Self, Vec<usize>> {
        let taken = repeat(3).into_actor(self).take_while(|_, steps, _| {
            steps.count += 1;
            ready(steps.count <= 5)
        });
        taken.map(|_, steps, _| steps.count).collect().boxed_local()
    }
}

impl Handler<Chain> for Steps {
    type Result = ResponseActFuture<Self, Result<i64, String>>;

    fn handle(&mut self, chain: Chain, _: &mut Context<Self>) -> ResponseActFuture<Self, Result<i64, String>> {
        let doubled = ready(Ok::<i64, i64>(chain.0)).into_actor(self).map_ok(|value, steps, _| {
            steps.count += 1;
            value * 2
        });
        let refused = doubled.and_then(|value, steps, _| {
            steps.count += 1;
            actix::fut::err::<i64, i64>(value + 1)
        });
        refused.map_err(|error, _, _| format!("refused {error}")).boxed_local()
    }
}

/// Waits for a future or a stream when it starts, but only for so long.
struct Hurried {
    streams: bool,
    timed_out: Tally,
}

impl Actor for Hurried {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let pause = || tokio::time::sleep(millis(20));
        if self.streams {
            let stream = FuturesOrdered::from_iter([pause(), pause()]).into_actor(self).timeout(millis(1));
            let later = stream.then(move |item, hurried, _| {
                async move {
                    pause().await;
                    item
                }
                .into_actor(hurried)
            });
            let noted = later.map(|item, hurried, _| hurried.timed_out.add(usize::from(item.is_err())));
            noted.finish().wait(ctx);
        } else {
            let future = pause().into_actor(self).timeout(millis(1));
            future.map(|done, hurried, _| hurried.timed_out.add(usize::from(done.is_err()))).wait(ctx);
        }
    }
}

fn timed_out(streams: bool) -> usize {
    let timed_out = Tally::default();
    let own = timed_out.clone();
    run(async move |world| {
        let _addr = world.start(Hurried { streams, timed_out: own });
        world.pass(millis(100)).await;
    });
    timed_out.count()
}

// test_fut_timeout
#[test]
fn a_future_may_be_given_a_time() {
    assert_eq!(timed_out(false), 1);
}

// test_stream_timeout
#[test]
fn each_item_of_a_stream_may_be_given_a_time() {
    assert!(timed_out(true) >= 1);
}

// test_stream_take_while
#[test]
fn a_stream_may_be_taken_until_the_actor_says_so() {
    run(async |world| world.start(Steps::default()).send(TakeWhile).await.unwrap());
}

// test_stream_skip_while
#[test]
fn items_may_be_skipped_until_the_actor_says_so() {
    run(async |world| world.start(Steps::default()).send(SkipWhile).await.unwrap());
}

// test_stream_collect
#[test]
fn a_stream_may_be_collected_into_the_answer() {
    run(async |world| assert_eq!(world.start(Steps::default()).send(Collect).await.unwrap(), [1, 2, 3, 4, 5]));
}

// test_try_future
#[test]
fn results_of_futures_may_be_chained() {
    run(async |world| {
        assert_eq!(world.start(Steps::default()).send(Chain(5)).await.unwrap(), Err("refused 11".to_owned()));
    });
}
