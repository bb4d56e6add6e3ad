//! `Letter`: the envelope every message to a worker travels in, whoever sends it through whatever address.
//!
//! It is where the proof of life is made: around the handler it notes in the status cell which message is being handled since when, and
//! afterwards that it was. A letter that is dropped unopened is a dead letter, counted by the type of its message. An answer given by a
//! generation that has become void meanwhile is not delivered: its worker has been replaced, and the caller must not take a zombie's word.

use std::any::type_name;
use std::sync::LazyLock;

use actix::dev::{Envelope, EnvelopeProxy, MessageResponse, OneshotSender, ToEnvelope};
use actix::{Actor, Handler, Message};
use dashmap::DashMap;

use crate::cell::Kind;
use crate::context::Context;

/// Dead letters of this process, by type name of the message. Bounded by the number of message types in the program.
static DEAD: LazyLock<DashMap<&'static str, u64>> = LazyLock::new(DashMap::new);

/// Messages of this process that were accepted for a worker and never handled, by type name, most first.
///
/// A message becomes a dead letter when its worker was given up or stopped with messages still queued, or when its sender stopped waiting
/// for the answer before the worker came to it.
pub fn dead_letters() -> Vec<(&'static str, u64)> {
    let mut counts: Vec<(&'static str, u64)> = DEAD.iter().map(|entry| (*entry.key(), *entry.value())).collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    counts
}

struct Letter<M: Message> {
    /// `None` once opened.
    message: Option<M>,
    answer: Option<OneshotSender<M::Result>>,
}

impl<A, M> ToEnvelope<A, M> for Context<A>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn pack(message: M, answer: Option<OneshotSender<M::Result>>) -> Envelope<A> {
        Envelope::with_proxy(Box::new(Letter { message: Some(message), answer }))
    }
}

impl<A, M> EnvelopeProxy<A> for Letter<M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn handle(&mut self, actor: &mut A, context: &mut Context<A>) {
        let answer = self.answer.take();
        if answer.as_ref().is_some_and(OneshotSender::is_closed) {
            return; // Nobody waits any more: dropped unopened, a dead letter.
        }
        let Some(message) = self.message.take() else { return };
        context.begin(Kind::message::<M>());
        let handling = move |actor: &mut A, context: &mut Context<A>| {
            let response = actor.handle(message, context);
            if context.is_void() {
                return; // The answer's sender is dropped, which tells the caller that it was interrupted.
            }
            response.handle(context, answer);
            context.end_message();
        };
        #[cfg(feature = "testkit")]
        if context.is_armed() {
            if let Some(handling) = context.strike(Box::new(handling)) {
                handling(actor, context);
            }
            return;
        }
        handling(actor, context);
    }
}

impl<M: Message> Drop for Letter<M> {
    fn drop(&mut self) {
        if self.message.is_some() {
            *DEAD.entry(type_name::<M>()).or_default() += 1;
        }
    }
}
