//! What happens on a node: events as they happen, and messages that were lost.
//!
//! A subscriber first gets the view as it is, then every [`Event`](crate::Event) in order. No
//! change falls between the two. No part of the node waits for a subscriber: a slow one gets the
//! number of updates it missed.
//!
//! # Quick start
//! ```
//! use heartbeat_actors::event::Cause;
//! use heartbeat_actors::prelude::*;
//! use heartbeat_actors::{Event, Update};
//!
//! struct Fragile;
//!
//! impl Actor for Fragile {
//!     type Context = Context<Self>;
//! }
//!
//! #[derive(Message)]
//! #[rtype(result = "()")]
//! struct Fail;
//!
//! impl Handler<Fail> for Fragile {
//!     type Result = ();
//!
//!     fn handle(&mut self, _: Fail, _: &mut Context<Self>) {
//!         panic!("no such order");
//!     }
//! }
//! # actix::System::new().block_on(async {
//! # let node = Node::start(Config::default()).await.unwrap();
//! let mut updates = node.updates();
//! let worker = node.supervise("fragile", || Fragile).unwrap();
//! worker.do_send(Fail);
//! let cause = loop {
//!     if let Some(Update::Event(Event::Failed { cause, .. })) = updates.next().await {
//!         break cause;
//!     }
//! };
//! assert!(matches!(cause, Cause::Panicked { .. }));
//! # });
//! ```
//!
//! # Which way to subscribe
//! | the updates go to | call | one subscription each |
//! |---|---|---|
//! | an actor | [`subscribe`] | recipient |
//! | a loop or a stream of your own | [`updates`] | call |
//! | a closure on this thread | [`subscribe_fn`] | name |
//! | only dead letters, see [`DeadLetter`] | [`subscribe_dead_letters`] | call |
//!
//! What holds now, without a subscription: [`Node::view`](crate::Node::view). The log has one line
//! for each event, with the event's name in the field `event`.
//!
//! [`subscribe`]: crate::Node::subscribe
//! [`updates`]: crate::Node::updates
//! [`subscribe_fn`]: crate::Node::subscribe_fn
//! [`subscribe_dead_letters`]: crate::Node::subscribe_dead_letters

pub use heartbeat_core::{Cause, NotReadyReason, ObserverReport, Waiting};

pub use crate::view::subscribe::{DeadLetters, Updates, ViewSnapshot};
pub use crate::worker::dead_letter::{DeadLetter, DeadReason, dead_letters};
