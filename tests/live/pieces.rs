//! Work in small pieces: streams and intervals whose single steps are short and whose sum is long.

use std::pin::Pin;
use std::task;
use std::task::Poll;
use std::time::{Duration, Instant};

use actix::prelude::*;
use heartbeat_actors::worker::Placement;
use heartbeat_actors::{Context, Node, WorkerSpec};

use crate::{config, live};

/// How long a piece takes: six of them are more than `workers.timeout`.
const PIECE: Duration = Duration::from_millis(100);

/// Always has one more.
struct Endless;

impl futures_util::Stream for Endless {
    type Item = Piece;

    fn poll_next(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Option<Piece>> {
        Poll::Ready(Some(Piece))
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Piece;

#[derive(Clone, Copy, Debug)]
enum Source {
    Stream,
    StreamOfTheHandler,
    MessageStream,
    Interval,
    IntervalAt,
    None,
}

struct Reader(Source);

impl Actor for Reader {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let work = |_: &mut Reader, _: &mut Context<Reader>| std::thread::sleep(PIECE);
        match self.0 {
            Source::Stream => {
                context.add_stream(Endless);
            }
            Source::StreamOfTheHandler => {
                <Reader as StreamHandler<Piece>>::add_stream(Endless, context);
            }
            Source::MessageStream => context.add_message_stream(Endless),
            Source::Interval => {
                context.run_interval(PIECE / 2, work);
            }
            Source::IntervalAt => {
                context.run_interval_at(tokio::time::Instant::now(), PIECE / 2, work);
            }
            Source::None => {}
        }
    }
}

impl StreamHandler<Piece> for Reader {
    fn handle(&mut self, _: Piece, _: &mut Context<Self>) {
        std::thread::sleep(PIECE);
    }
}

impl Handler<Piece> for Reader {
    type Result = ();

    fn handle(&mut self, _: Piece, _: &mut Context<Self>) {
        if !matches!(self.0, Source::None) {
            std::thread::sleep(PIECE);
        }
    }
}

/// Has a worker read from `source` beside a neighbour on its thread, and sees that both are let be.
fn check(source: Source) {
    live(async {
        let node = Node::start(config()).await.unwrap();
        let thread = node.arbiters(1).unwrap();
        let on = |name: &str| WorkerSpec::new(name).placement(Placement::Pool(thread.clone()));
        let _reader = node.supervise_with(on("reader"), move |_| Ok(Reader(source))).unwrap();
        let neighbour = node.supervise_with(on("neighbour"), |_| Ok(Reader(Source::None))).unwrap();
        let (begun, mut answers) = (Instant::now(), 0);
        while begun.elapsed() < Duration::from_secs(4) {
            assert_eq!(neighbour.send(Piece).within(PIECE * 15).await, Ok(()), "{source:?}");
            answers += 1;
        }
        assert!(answers > 5, "{source:?}: {answers} answers");
        for name in ["reader", "neighbour"] {
            assert_eq!(node.view().worker(name).unwrap().failures, 0, "{source:?}: {name}");
        }
        node.leave().await;
    });
}

#[test]
fn a_slow_reader_of_a_stream_holds_no_thread() {
    check(Source::Stream);
}

#[test]
fn a_stream_added_through_its_handler_holds_no_thread() {
    check(Source::StreamOfTheHandler);
}

#[test]
fn a_slow_reader_of_a_message_stream_holds_no_thread() {
    check(Source::MessageStream);
}

#[test]
fn an_interval_shorter_than_its_work_holds_no_thread() {
    check(Source::Interval);
    check(Source::IntervalAt);
}
