//! Sinks: what an actor writes comes out in order, until an error or the end.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{self, Poll};

use actix::io::{SinkWrite, WriteHandler};
use actix::prelude::*;
use futures_util::Sink;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::world::{Address, Context, World, run};

/// Puts out one letter a turn, and breaks at a `#`.
struct Letters {
    out: UnboundedSender<u8>,
    waiting: VecDeque<u8>,
}

impl Sink<&'static str> for Letters {
    type Error = ();

    fn poll_ready(mut self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Result<(), ()>> {
        match self.waiting.front().copied() {
            Some(b'#') => return Poll::Ready(Err(())),
            Some(letter) => self.out.send(letter).map_err(|_| ())?,
            None => return Poll::Ready(Ok(())),
        }
        self.waiting.pop_front();
        if self.waiting.is_empty() {
            return Poll::Ready(Ok(()));
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }

    fn start_send(mut self: Pin<&mut Self>, text: &'static str) -> Result<(), ()> {
        self.waiting.extend(text.bytes());
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Result<(), ()>> {
        self.poll_ready(task)
    }

    fn poll_close(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Result<(), ()>> {
        self.poll_ready(task)
    }
}

/// Puts out whole texts.
struct Texts(UnboundedSender<&'static str>);

impl Sink<&'static str> for Texts {
    type Error = ();

    fn poll_ready(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, text: &'static str) -> Result<(), ()> {
        self.0.send(text).map_err(|_| ())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }
}

/// Writes what it is sent, and closes after the last.
struct Writer<S: Sink<&'static str, Error = ()> + Unpin + 'static> {
    sink: SinkWrite<&'static str, S>,
}

impl<S: Sink<&'static str, Error = ()> + Unpin> Actor for Writer<S> {
    type Context = Context<Self>;
}

impl<S: Sink<&'static str, Error = ()> + Unpin> WriteHandler<()> for Writer<S> {}

#[derive(Message)]
#[rtype(result = "()")]
struct Write {
    text: &'static str,
    is_last: bool,
}

impl<S: Sink<&'static str, Error = ()> + Unpin> Handler<Write> for Writer<S> {
    type Result = ();

    fn handle(&mut self, write: Write, _: &mut Context<Self>) {
        assert!(self.sink.write(write.text).is_ok());
        if write.is_last {
            self.sink.close();
        }
    }
}

fn writer(world: &World) -> (Address<Writer<Letters>>, UnboundedReceiver<u8>) {
    let (out, letters) = unbounded_channel();
    let addr = world.create(move |ctx| {
        let sink = SinkWrite::new(Letters { out, waiting: VecDeque::new() }, ctx);
        Writer { sink }
    });
    (addr, letters)
}

/// What comes out of these texts, the last of which may end it.
fn check(texts: &'static [&'static str], closes: bool, expected: &'static str) {
    run(async move |world| {
        let (addr, mut letters) = writer(world);
        for (index, text) in texts.iter().enumerate() {
            addr.do_send(Write { text, is_last: closes && index + 1 == texts.len() });
        }
        world.pass(std::time::Duration::ZERO).await;
        let mut out = String::new();
        while let Ok(letter) = letters.try_recv() {
            out.push(char::from(letter));
        }
        assert_eq!(out, expected);
    });
}

// test_send_1
#[test]
fn a_text_is_written() {
    check(&["Hello"], true, "Hello");
}

// test_send_2
#[test]
fn texts_are_written_in_order() {
    check(&["Hello", " world"], true, "Hello world");
}

// test_send_error
#[test]
fn nothing_is_written_after_an_error() {
    check(&["Hello #there"], false, "Hello ");
}

// test_send_bytes
#[test]
fn a_whole_text_is_written_at_once() {
    run(async |world| {
        let (out, mut texts) = unbounded_channel();
        let addr = world.create(move |ctx| Writer { sink: SinkWrite::new(Texts(out), ctx) });
        addr.do_send(Write { text: "Hello", is_last: true });
        assert_eq!(texts.recv().await, Some("Hello"));
    });
}

// test_send_single_bytes
#[test]
fn a_sink_that_was_empty_is_written_to_again() {
    run(async |world| {
        let (addr, mut letters) = writer(world);
        addr.do_send(Write { text: "h", is_last: false });
        addr.do_send(Write { text: "i", is_last: false });
        assert_eq!((letters.recv().await, letters.recv().await), (Some(b'h'), Some(b'i')));
        addr.do_send(Write { text: "!", is_last: true });
        assert_eq!(letters.recv().await, Some(b'!'));
    });
}
