//! Tests of your own supervision, in virtual time.
//!
//! # Overview
//! Inject a fault into one of your workers, let time pass, and check what became of it. A node of
//! the kit is a real one: the same engine, supervisor, mailboxes and runners. Only two things are
//! simulated:
//!
//! - **The clock** jumps from one wake-up to the next. An hour takes milliseconds, and every run is
//!   the same.
//! - **The threads** are gates on the one thread of the test. A worker can "block" without blocking
//!   the test.
//!
//! # Quick start
//!
//! ```
//! use std::time::Duration;
//!
//! use actix::{Actor, Handler, Message};
//! use heartbeat_actors::testkit::{self, Fault};
//! use heartbeat_actors::event::Cause;
//! use heartbeat_actors::worker::Interruption;
//! use heartbeat_actors::{Config, Context, SendError};
//!
//! struct Encoder;
//!
//! impl Actor for Encoder {
//!     type Context = Context<Self>;
//! }
//!
//! #[derive(Message)]
//! #[rtype(result = "u32")]
//! struct Encode(u32);
//!
//! impl Handler<Encode> for Encoder {
//!     type Result = u32;
//!
//!     fn handle(&mut self, encode: Encode, _: &mut Context<Self>) -> u32 {
//!         encode.0 * 2
//!     }
//! }
//!
//! testkit::run(Config::default(), async |node| {
//!     let encoder = node.supervise("encoder", || Encoder).unwrap();
//!     node.inject("encoder", Fault::Block(Duration::from_secs(60)));
//!     let (stuck, queued) = (encoder.send(Encode(1)), encoder.send(Encode(2)));
//!
//!     node.advance(Duration::from_secs(6)).await; // workers.timeout is 5 s
//!     assert_eq!(queued.await, Ok(4), "its replacement answers");
//!     assert!(matches!(node.causes("encoder")[..], [Cause::Blocked { .. }]));
//!
//!     node.advance(Duration::from_secs(60)).await; // it wakes, and finds itself replaced
//!     assert_eq!(stuck.await, Err(SendError::Interrupted(Interruption::Blocked)));
//! });
//! ```
//!
//! # Choices
//! | to test | use |
//! |---|---|
//! | one process, in virtual time | [`run`] and [`TestNode`] |
//! | a node on real threads | [`inject`], [`inject_now`] |
//! | the next message or the next start | [`TestNode::inject`] |
//! | this moment, without a message | [`TestNode::inject_now`] |
//! | timers and deadlines | [`TestNode::advance`] |
//! | a process that was stopped (SIGSTOP) | [`TestNode::pause`] |
//! | a system without threads | [`TestNode::refuse_threads`] |
//!
//! # Limits
//! - A handler that really blocks (`std::thread::sleep`) blocks the test. Inject [`Fault::Block`]
//!   instead.
//! - Time passes when nothing else is left to do. To await an answer that never comes lets the
//!   timers run without end: give it a deadline.
//! - Work on other threads (`spawn_blocking`) takes real time; meanwhile virtual time stands still.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, Context, Handler};
use heartbeat_core::{Cause, Config, Event, Member};

use crate::node::Node;
use crate::node::start;
use crate::thread::simulated::refuse;
use crate::view::subscribe::Update;
pub use crate::worker::fault::Fault;

/// How many turns all other tasks get before [`TestNode::settle`] returns: more than the hops of
/// any chain of messages within a node.
const SETTLE_TURNS: u32 = 256;

/// Runs a test on a node of its own, in virtual time.
///
/// # Panics
/// If the config contradicts itself or has a `[cluster]` table: the kit runs one process. Also if
/// the test panics.
pub fn run<F, Fut>(config: Config, test: F)
where
    F: FnOnce(TestNode) -> Fut,
    Fut: Future<Output = ()>,
{
    // The kit's clock starts anew with each run.
    crate::worker::panic_throttle::reset();
    assert!(config.cluster.is_none(), "the test kit plays one process; leave the [cluster] table out");
    refuse(0);
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().expect("a runtime of one thread can be made")
    };
    actix::System::with_tokio_rt(runtime).block_on(async {
        let node = match start::here(config) {
            Ok(started) => Node::new(started),
            Err(error) => panic!("{error}"),
        };
        let events = Rc::new(RefCell::new(Vec::new()));
        node.subscribe(EventLog { events: events.clone(), begun: tokio::time::Instant::now() }.start().recipient());
        let node = TestNode { node, events, begun: tokio::time::Instant::now() };
        node.settle().await;
        test(node).await;
    });
}

/// Injects a fault into a worker of any node, also of a real one. It takes effect with the next
/// message, or at the next start if it is a fault of a start.
///
/// # Panics
/// If no worker has this name.
pub fn inject(node: &Node, worker: &str, fault: Fault) {
    node.slot_named(worker).faults().inject(fault);
}

/// Injects a fault into a worker of any node, also of a real one. It takes effect at once, without
/// a message.
///
/// # Panics
/// If no worker has this name.
pub fn inject_now(node: &Node, worker: &str, fault: Fault) {
    let slot = node.slot_named(worker);
    slot.faults().inject_now(fault);
    slot.wake();
}

/// Adds members to the table of a node in a cluster, as if it had just received them. It is meant
/// for tests and measurements of owners. A member that does not exist is declared dead after a
/// while, like any other.
pub async fn add_members(node: &Node, members: Vec<Member>) {
    node.add_members(members).await;
}

/// A node in virtual time.
pub struct TestNode {
    node: Node,
    events: Rc<RefCell<Vec<(Duration, Event)>>>,
    begun: tokio::time::Instant,
}

impl Deref for TestNode {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl fmt::Debug for TestNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestNode").field("elapsed", &self.elapsed()).finish_non_exhaustive()
    }
}

impl TestNode {
    /// As [`inject`], in this node.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// # use heartbeat_actors::event::Cause;
    /// # use heartbeat_actors::testkit::{self, Fault};
    /// # struct Echo;
    /// # impl Actor for Echo { type Context = Context<Self>; }
    /// # #[derive(Message)]
    /// # #[rtype(result = "u32")]
    /// # struct Say(u32);
    /// # impl Handler<Say> for Echo {
    /// #     type Result = u32;
    /// #     fn handle(&mut self, say: Say, _: &mut Context<Self>) -> u32 { say.0 }
    /// # }
    /// testkit::run(Config::default(), async |node| {
    ///     let echo = node.supervise("echo", || Echo).unwrap();
    ///     node.inject("echo", Fault::Panic("broken".to_owned()));
    ///     assert!(echo.send(Say(1)).await.is_err());
    ///     assert_eq!(echo.send(Say(2)).await, Ok(2)); // the next generation
    ///     node.settle().await;
    ///     assert!(matches!(node.causes("echo")[..], [Cause::Panicked { .. }]));
    /// });
    /// ```
    pub fn inject(&self, worker: &str, fault: Fault) {
        inject(&self.node, worker, fault);
    }

    /// As [`inject_now`], in this node.
    pub fn inject_now(&self, worker: &str, fault: Fault) {
        inject_now(&self.node, worker, fault);
    }

    /// Releases the thread of this worker before its fault is over.
    pub fn release(&self, worker: &str) {
        self.node.slot_named(worker).faults().release();
    }

    /// Refuses the next `count` threads that the node asks for, as a system without further threads
    /// does.
    pub fn refuse_threads(&self, count: u32) {
        refuse(count);
    }

    /// Lets this much time pass. Timers that are due meanwhile fire at their instants.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use heartbeat_actors::Config;
    /// # use heartbeat_actors::testkit;
    /// testkit::run(Config::default(), async |node| {
    ///     node.advance(Duration::from_secs(3_600)).await;
    ///     assert_eq!(node.elapsed(), Duration::from_secs(3_600));
    /// });
    /// ```
    pub async fn advance(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.settle().await;
    }

    /// Stops the whole process for this long, as SIGSTOP does: nothing happens meanwhile, and all
    /// timers are late afterwards.
    pub async fn pause(&self, time: Duration) {
        tokio::time::advance(time).await;
        self.settle().await;
    }

    /// Lets everything happen that can happen without time passing.
    pub async fn settle(&self) {
        for _ in 0..SETTLE_TURNS {
            tokio::task::yield_now().await;
        }
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Every event so far, each with the time since the start.
    pub fn events(&self) -> Vec<(Duration, Event)> {
        self.events.borrow().clone()
    }

    /// Why the generations of this worker failed, in order.
    pub fn causes(&self, name: &str) -> Vec<Cause> {
        self.pick(|event| {
            let Event::Failed { worker, cause, .. } = event else { return None };
            (**worker == *name).then(|| cause.clone())
        })
    }

    /// How often a failed generation of this worker was replaced.
    pub fn replacements(&self, name: &str) -> usize {
        self.pick(|event| matches!(event, Event::Replaced { worker, .. } if **worker == *name).then_some(())).len()
    }

    /// What `wanted` returns for the events so far, in order.
    pub fn pick<T>(&self, wanted: impl FnMut(&Event) -> Option<T>) -> Vec<T> {
        self.events.borrow().iter().map(|(_, event)| event).filter_map(wanted).collect()
    }
}

/// Records the events of the node.
struct EventLog {
    events: Rc<RefCell<Vec<(Duration, Event)>>>,
    begun: tokio::time::Instant,
}

impl Actor for EventLog {
    type Context = Context<Self>;
}

impl Handler<Update> for EventLog {
    type Result = ();

    fn handle(&mut self, update: Update, _: &mut Context<Self>) {
        match update {
            Update::Event(event) => self.events.borrow_mut().push((self.begun.elapsed(), event)),
            Update::View(_) => {}
            Update::Lagged { missed } => panic!("{missed} events were missed; raise events.queue"),
        }
    }
}
