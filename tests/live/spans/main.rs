//! Spans of messages, as an application's subscriber sees them. The tests are a program of their
//! own: from the first subscriber on, no line of the process reaches the crate `log` any more.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod remote;
mod within;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::Attributes;
use tracing::{Id, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// A span that was made.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Made {
    id: Id,
    target: &'static str,
    name: &'static str,
    is_root: bool,
    fields: BTreeMap<&'static str, String>,
    follows: Vec<Id>,
    is_closed: bool,
}

impl Visit for Made {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

/// Keeps all spans that were made, in order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Made>>>);

impl Seen {
    fn all(&self) -> Vec<Made> {
        self.0.lock().unwrap().clone()
    }

    /// The spans of messages.
    fn messages(&self) -> Vec<Made> {
        self.all().into_iter().filter(|made| made.target == heartbeat_actors::spans::TARGET).collect()
    }

    /// The span with this number.
    fn find(&self, id: &Id) -> Made {
        self.all().into_iter().rfind(|made| made.id == *id).unwrap()
    }

    fn change(&self, id: &Id, change: impl FnOnce(&mut Made)) {
        change(self.0.lock().unwrap().iter_mut().rfind(|made| made.id == *id).unwrap());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Seen {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let metadata = attributes.metadata();
        let mut made = Made {
            id: id.clone(),
            target: metadata.target(),
            name: metadata.name(),
            is_root: attributes.is_root(),
            fields: BTreeMap::new(),
            follows: Vec::new(),
            is_closed: false,
        };
        attributes.record(&mut made);
        self.0.lock().unwrap().push(made);
    }

    fn on_follows_from(&self, span: &Id, follows: &Id, context: Context<'_, S>) {
        assert!(context.span(follows).is_some(), "the sender's span is still open");
        self.change(span, |made| made.follows.push(follows.clone()));
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.change(&id, |made| made.is_closed = true);
    }
}
