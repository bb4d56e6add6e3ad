//! Spans of messages: which message led to which, within a node and between nodes.
//!
//! # Overview
//! While a worker handles a message, a [`tracing`] span of the message is current. It is a root
//! span, since the sender may be long done. It *follows from* the span in which the message was
//! sent. A message that the handler sends follows from this span in turn.
//!
//! The spans are made if a [`tracing::Subscriber`] wants spans of the target [`TARGET`] at the
//! level `TRACE`. Their name is `message`, and their fields are:
//!
//! | field | value |
//! |---|---|
//! | `worker` | the name of the worker |
//! | `kind` | `worker`, `shard` or `entity` |
//! | `message` | the type of the message |
//!
//! A request to another node takes along what a [`TracePropagator`] makes of the sender's span: a
//! W3C trace context. [`tracing`] has no ids that hold in two processes, so the application
//! installs a propagator for its tracing system, with
//! [`Node::set_trace_propagator`](crate::Node::set_trace_propagator). Without one no trace leaves
//! the process.
//!
//! # Quick start
//! A propagator for a tracing system that keeps its context in a table:
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::{Arc, Mutex};
//!
//! use heartbeat_actors::spans::{TraceContext, TracePropagator};
//! use heartbeat_actors::{Config, Node};
//! use tracing::{Id, Span};
//!
//! /// The context of each span that is open.
//! #[derive(Clone, Default)]
//! struct Contexts(Arc<Mutex<HashMap<Id, TraceContext>>>);
//!
//! impl TracePropagator for Contexts {
//!     fn inject(&self, sender: &Span) -> Option<TraceContext> {
//!         self.0.lock().unwrap().get(&sender.id()?).copied()
//!     }
//!
//!     fn extract(&self, context: &TraceContext, handler: &Span) {
//!         if let Some(id) = handler.id() {
//!             self.0.lock().unwrap().insert(id, *context);
//!         }
//!     }
//! }
//!
//! # actix::System::new().block_on(async {
//! let node = Node::start(Config::default()).await.unwrap();
//! node.set_trace_propagator(Contexts::default()).unwrap();
//! # node.leave().await;
//! # });
//! ```
//!
//! # Limits
//! - The span covers the call of the handler. A future that the handler returns or spawns runs
//!   outside it: end it with [`in_current_span`](tracing::Instrument::in_current_span).
//! - A request that a node has kept waiting and then handles itself has no sender's span, only what
//!   the propagator has made of it. So has a message that goes on to its shard's new owner.
//! - The features `release_max_level_…` of [`tracing`] remove the spans from a release build.
//!
//! # What it costs
//! Without a subscriber, or with one that wants no level as low as `TRACE`, one comparison of a
//! global when a message is sent and one when it is handled. No envelope becomes larger.

use std::fmt;
use std::sync::OnceLock;

pub use heartbeat_core::requests::{TraceContext, TraceContextError};
use tracing::level_filters::LevelFilter;
use tracing::span::EnteredSpan;
use tracing::{Level, Span};

/// The target of the spans of messages.
pub const TARGET: &str = "heartbeat::message";

/// Brings the trace of a request to another node: the tie to the application's tracing system.
///
/// Both methods run on hot paths: `inject` on the thread that sends, `extract` on the thread that
/// handles. They must not wait.
pub trait TracePropagator: Send + Sync + 'static {
    /// What travels with a request that is sent within this span; `None` if nothing is to travel.
    /// It is not called if no span is current.
    fn inject(&self, sender: &Span) -> Option<TraceContext>;

    /// Ties the span of a handler, which was not entered yet, to the trace that its request brought
    /// along.
    fn extract(&self, context: &TraceContext, handler: &Span);
}

/// The node has a propagator already, and keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PropagatorIsSet;

impl fmt::Display for PropagatorIsSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the node has a trace propagator already; set one, once, after the node has started")
    }
}

impl std::error::Error for PropagatorIsSet {}

/// The propagator of a node, once it is set.
#[derive(Default)]
pub(crate) struct Propagator(OnceLock<Box<dyn TracePropagator>>);

impl Propagator {
    pub(crate) fn set(&self, propagator: Box<dyn TracePropagator>) -> Result<(), PropagatorIsSet> {
        self.0.set(propagator).map_err(|_| PropagatorIsSet)
    }

    /// What travels with a request that is sent now, on this thread.
    pub(crate) fn inject_current(&self) -> Option<TraceContext> {
        let propagator = self.0.get()?;
        inject(&**propagator, &Span::current())
    }

    /// What travels with a message that was sent within this span.
    pub(crate) fn inject(&self, sender: &Span) -> Option<TraceContext> {
        inject(&**self.0.get()?, sender)
    }
}

fn inject(propagator: &dyn TracePropagator, sender: &Span) -> Option<TraceContext> {
    if sender.is_disabled() { None } else { propagator.inject(sender) }
}

/// The message that a span is about.
pub(crate) struct Handled<'a> {
    pub(crate) worker: &'a str,
    pub(crate) kind: &'static str,
    pub(crate) message: &'static str,
    /// The span in which it was sent, if that is of this process.
    pub(crate) sender: Option<Span>,
    /// What it brought along from another node.
    pub(crate) trace: Option<TraceContext>,
}

/// Whether any subscriber may want spans of messages. If not, that is known at the cost of a
/// comparison.
#[inline]
pub(crate) fn may_be_wanted() -> bool {
    Level::TRACE <= LevelFilter::current()
}

/// The span in which a message is sent now, on this thread, if the spans of messages are wanted.
#[cold]
pub(crate) fn sender() -> Option<Span> {
    if !tracing::span_enabled!(target: TARGET, Level::TRACE, worker, kind, message) {
        return None;
    }
    let sender = Span::current();
    (!sender.is_disabled()).then_some(sender)
}

/// Begins the span of a message whose handler is about to run; `None` if it is not wanted.
#[cold]
pub(crate) fn enter(handled: Handled<'_>, propagator: &Propagator) -> Option<EnteredSpan> {
    let Handled { worker, kind, message, sender, trace } = handled;
    let make = || tracing::trace_span!(target: TARGET, parent: None, "message", worker, kind, message);
    // The two spans are of one subscriber: ids of another one would mean nothing to it.
    let subscriber = sender.as_ref().and_then(|sender| sender.with_subscriber(|(_, subscriber)| subscriber.clone()));
    let span = match &subscriber {
        Some(subscriber) => tracing::dispatcher::with_default(subscriber, make),
        None => make(),
    };
    if span.is_disabled() {
        return None;
    }
    span.follows_from(sender.as_ref().and_then(Span::id));
    if let (Some(propagator), Some(trace)) = (propagator.0.get(), trace) {
        propagator.extract(&trace, &span);
    }
    Some(span.entered())
}
