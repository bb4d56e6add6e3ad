//! What a `WorkerAddr`, a `Context` and a factory have in common with actix's.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use heartbeat_actors::SendError;
use heartbeat_actors::event::Cause;
use heartbeat_actors::prelude::*;
use heartbeat_actors::testkit::Fault;

use crate::{Add, Counter, MEANT, kit, millis, seconds};

#[test]
#[allow(clippy::mutable_key_type, reason = "the hash is that of the worker's place, which never changes")]
fn two_addresses_of_one_worker_are_equal_and_hash_alike() {
    kit(async |node| {
        let (first, second) = (node.supervise("first", Counter::default), node.supervise("second", Counter::default));
        let (first, second) = (first.unwrap(), second.unwrap());
        let _ = first.send(Add(1)).await;
        node.inject("first", Fault::Panic(format!("{MEANT} fail")));
        let clone = first.clone();
        let _ = first.send(Add(1)).await;
        assert_eq!(first, clone, "in another life, too");
        assert_ne!(first, second);
        let known: HashSet<_> = [first.clone(), clone, second.clone(), first].into_iter().collect();
        assert_eq!(known.len(), 2);
    });
}

#[test]
fn a_recipient_follows_its_worker_through_a_replacement() {
    kit(async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        let recipient: Recipient<Add> = counter.recipient();
        assert_eq!(recipient.send(Add(2)).await.unwrap(), 2);
        node.inject("counter", Fault::Panic(format!("{MEANT} fail")));
        assert!(recipient.send(Add(3)).await.is_err());
        assert_eq!(recipient.send(Add(4)).await.unwrap(), 4, "a new life counts from zero");
        assert_eq!(counter.address().send(Add(1)).await.unwrap(), 5);
    });
}

#[test]
fn a_weak_address_ends_with_its_worker_and_holds_nothing() {
    kit(async |node| {
        let held = Arc::new(());
        let counter = {
            let held = held.clone();
            node.supervise("counter", move || {
                let _ = &held;
                Counter::default()
            })
        };
        let weak = counter.unwrap().downgrade();
        node.settle().await;
        let strong = weak.upgrade().expect("the node holds it up");
        assert_eq!(strong.send(Add(1)).await, Ok(1));
        strong.remove();
        drop(strong);
        node.advance(seconds(10)).await;
        assert_eq!(weak.upgrade(), None);
        assert_eq!(Arc::strong_count(&held), 1, "the factory is gone, too");
    });
}

#[test]
fn an_address_is_connected_until_its_worker_takes_no_more() {
    kit(async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        assert!(counter.connected());
        node.inject("counter", Fault::Panic(format!("{MEANT} fail")));
        let _ = counter.send(Add(1)).await;
        assert!(counter.connected(), "a replacement changes nothing");
        counter.stop();
        node.settle().await;
        assert!(!counter.connected());
        counter.start();
        node.settle().await;
        assert!(counter.connected());
    });
}

/// Notes in which order messages come.
struct Notes(Arc<Mutex<Vec<u32>>>);

impl Actor for Notes {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Note(u32);

impl Handler<Note> for Notes {
    type Result = ();

    fn handle(&mut self, note: Note, context: &mut Context<Self>) {
        self.0.lock().unwrap().push(note.0);
        if note.0.is_multiple_of(5) {
            context.wait(actix::fut::wrap_future(tokio::time::sleep(millis(1))));
        }
    }
}

#[test]
fn both_kinds_of_address_keep_the_order_of_one_sender() {
    kit(async |node| {
        let told = Arc::new(Mutex::new(Vec::new()));
        let notes = told.clone();
        let worker = node.supervise("notes", move || Notes(notes.clone())).unwrap();
        let plain = worker.address();
        node.settle().await;
        let mut sent = 0;
        for round in 0..50 {
            for step in 0..4 {
                match (round * 7 + step) % 3 {
                    0 => plain.do_send(Note(sent)),
                    _ => worker.do_send(Note(sent)),
                }
                sent += 1;
            }
            // Idle, busy and waiting by turns.
            node.advance(millis(round % 4)).await;
        }
        node.advance(seconds(1)).await;
        assert_eq!(*told.lock().unwrap(), (0..sent).collect::<Vec<_>>());
        assert_eq!(worker.message_counts().handled, u64::from(sent));
    });
}

#[test]
fn a_message_by_a_plain_address_wakes_a_worker_after_others() {
    kit(async |node| {
        let told = Arc::new(Mutex::new(Vec::new()));
        let notes = told.clone();
        let worker = node.supervise("notes", move || Notes(notes.clone())).unwrap();
        let plain = worker.address();
        for number in 1..4 {
            worker.do_send(Note(number * 2 - 1));
            node.advance(millis(5)).await;
            plain.do_send(Note(number * 2));
            node.advance(millis(5)).await;
        }
        assert_eq!(*told.lock().unwrap(), [1, 2, 3, 4, 5, 6]);
    });
}

/// What the factory and the timers of [`Ticker`] saw.
#[derive(Default)]
struct Seen {
    ticks: u32,
    handles: Vec<bool>,
    connected: Vec<bool>,
}

struct Ticker {
    timer: SpawnHandle,
    seen: Rc<RefCell<Seen>>,
}

impl Actor for Ticker {
    type Context = Context<Self>;

    fn stopped(&mut self, context: &mut Context<Self>) {
        self.seen.borrow_mut().connected.push(context.connected());
    }
}

thread_local! {
    static SEEN: Rc<RefCell<Seen>> = Rc::default();
}

#[test]
fn a_factory_sees_the_context_and_timers_know_their_handles() {
    kit(async |node| {
        let ticker = node.root().supervise_with_context(
            WorkerSpec::new("ticker"),
            |start_info, context: &mut Context<Ticker>| {
                assert_eq!(start_info.generation, context.generation());
                let timer = context.run_interval(millis(10), |ticker, context| {
                    let mut seen = ticker.seen.borrow_mut();
                    seen.ticks += 1;
                    seen.handles.push(context.handle() == ticker.timer);
                    seen.connected.push(context.connected());
                    if seen.ticks == 3 {
                        context.cancel_future(context.handle());
                    }
                });
                context.run_interval(millis(7), |ticker, context| {
                    ticker.seen.borrow_mut().handles.push(context.handle() != ticker.timer);
                });
                Ok(Ticker { timer, seen: SEEN.with(Rc::clone) })
            },
        );
        ticker.unwrap().until_up().await.unwrap();
        node.advance(millis(100)).await;
        let seen = SEEN.with(Rc::clone);
        assert_eq!(seen.borrow().ticks, 3, "the timer of the factory ran, and has cancelled itself");
        assert_eq!(seen.borrow().handles.len(), 3 + 14);
        assert!(seen.borrow().handles.iter().all(|is_right| *is_right));
        assert!(seen.borrow().connected.iter().all(|is_connected| *is_connected));
    });
}

/// Panics when it is dropped.
struct Sharp;

impl Drop for Sharp {
    fn drop(&mut self) {
        panic!("{MEANT} fail when dropped");
    }
}

#[test]
fn what_a_failed_factory_has_spawned_takes_nothing_along() {
    kit(async |node| {
        let spec = WorkerSpec::new("counter").intensity(2, seconds(30)).delay(millis(1), millis(1));
        let counter = node.root().supervise_with_context(spec, |start_info, context: &mut Context<Counter>| {
            let sharp = Sharp;
            context.spawn(actix::fut::wrap_future(async move {
                std::future::pending::<()>().await;
                drop(sharp);
            }));
            if start_info.generation.0.is_multiple_of(2) { Err("no luck".into()) } else { panic!("{MEANT} fail") }
        });
        let answer = counter.unwrap().send(Add(1)).await;
        assert_eq!(answer, Err(SendError::GaveUp));
        assert!(node.causes("counter").iter().all(|cause| matches!(cause, Cause::StartFailed { .. })));
        assert_eq!(node.causes("counter").len(), 3);
    });
}
