//! `Update`: what a subscriber receives, and how it is delivered.
//!
//! A subscriber first receives the view as it is, then every event in order. No event falls between
//! the two. It receives one update at a time: the next is sent when it has handled the one before.
//! The updates of a slow subscriber wait, up to a bound. Past the bound the newest are dropped, and
//! [`Update::Lagged`] says how many. The node never waits for a subscriber.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use actix::{Message, Recipient};
use futures_util::Stream;
use heartbeat_core::{Event, Member, Shard};
use tokio::sync::{Notify, broadcast, mpsc};

use crate::worker::dead_letter::DeadLetter;

/// How often a subscriber whose mailbox is full is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// One message to a subscriber.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Update {
    /// Always the first one: what holds at the time of subscribing.
    View(ViewSnapshot),
    /// An event that happened since.
    Event(Event),
    /// This many updates were not kept because this subscriber was slow; ask for a view.
    Lagged {
        /// How many.
        missed: u64,
    },
}

impl Message for Update {
    type Result = ();
}

/// What a node knows, at one instant.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ViewSnapshot {
    /// All members, the dead and departed included as long as they are remembered, in the order of
    /// their names.
    pub members: Vec<Member>,
    /// Shards with their owners, in the order of group and index.
    pub shards: Vec<ShardOwner>,
}

/// A shard and its owner.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardOwner {
    /// Name of the sharded group.
    pub group: Arc<str>,
    /// Index, and epoch of its present owner.
    pub shard: Shard,
    /// Name of its owner.
    pub owner: Arc<str>,
}

/// The dead letters of a node, as they are counted.
#[derive(Debug)]
pub struct DeadLetters {
    receiver: broadcast::Receiver<DeadLetter>,
    missed: u64,
}

impl DeadLetters {
    pub(crate) fn new(receiver: broadcast::Receiver<DeadLetter>) -> DeadLetters {
        DeadLetters { receiver, missed: 0 }
    }

    /// The next one; `None` when the node is gone. At most `events.queue` of them wait (and
    /// 65,536); of more the oldest are not kept, and counted.
    pub async fn next(&mut self) -> Option<DeadLetter> {
        loop {
            match self.receiver.recv().await {
                Ok(dead_letter) => return Some(dead_letter),
                Err(broadcast::error::RecvError::Lagged(missed)) => self.missed += missed,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// How many were not kept so far because they were not fetched in time.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

/// Updates of a node as a stream: the view first, then every change of it. Dropping it ends the
/// subscription.
///
/// It takes one update at a time; more of them wait at the node, up to `events.queue`, and
/// [`Update::Lagged`] counts those that were dropped.
#[derive(Debug)]
pub struct Updates {
    receiver: mpsc::Receiver<Update>,
}

impl Updates {
    /// A stream, and where its updates are put.
    pub(crate) fn new() -> (mpsc::Sender<Update>, Updates) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, Updates { receiver })
    }

    /// The next update; `None` when the node is gone.
    pub async fn next(&mut self) -> Option<Update> {
        self.receiver.recv().await
    }
}

impl Stream for Updates {
    type Item = Update;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Option<Update>> {
        self.receiver.poll_recv(task)
    }
}

/// Where a subscriber's updates go.
pub(crate) enum Subscriber {
    /// To an actor, which handles one before it gets the next. The same recipient subscribes once
    /// only.
    Recipient(Recipient<Update>),
    /// Into a stream, perhaps with a name under which there is only one.
    Stream(Option<Arc<str>>, mpsc::Sender<Update>),
}

/// What makes two subscriptions one.
#[derive(PartialEq)]
enum Key {
    Recipient(Recipient<Update>),
    Name(Arc<str>),
}

/// Updates that wait for one subscriber.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Update>,
    missed: u64,
    closed: bool,
}

struct Subscription {
    key: Option<Key>,
    pending: RefCell<Queue>,
    filled: Notify,
}

/// The subscribers of a node; lives on the control arbiter.
#[derive(Default)]
pub(crate) struct Subscribers {
    subscriptions: Vec<Rc<Subscription>>,
}

impl Subscribers {
    /// Adds a subscriber, whose first update is `view`. It replaces a subscription with the same
    /// key, so a worker that subscribes in each generation is sent each event once.
    pub(crate) fn add(&mut self, subscriber: Subscriber, view: ViewSnapshot) {
        let key = match &subscriber {
            Subscriber::Recipient(recipient) => Some(Key::Recipient(recipient.clone())),
            Subscriber::Stream(name, _) => name.clone().map(Key::Name),
        };
        self.subscriptions.retain(|other| {
            let is_same = key.is_some() && other.key == key;
            if is_same {
                other.pending.replace(Queue { closed: true, ..Queue::default() });
                other.filled.notify_one();
            }
            !is_same
        });
        let mut pending = Queue::default();
        pending.waiting.push_back(Update::View(view));
        let subscription = Rc::new(Subscription { key, pending: RefCell::new(pending), filled: Notify::new() });
        self.subscriptions.push(subscription.clone());
        actix_rt::spawn(deliver(subscription, subscriber));
    }

    /// Whether a subscriber has not been sent all of its updates.
    pub(crate) fn are_waiting(&self) -> bool {
        self.subscriptions.iter().any(|subscription| {
            let pending = subscription.pending.borrow();
            !pending.closed && (pending.missed > 0 || !pending.waiting.is_empty())
        })
    }

    /// Queues an event for every subscriber, at most `queue` updates each.
    pub(crate) fn publish(&mut self, event: &Event, queue: u32) {
        self.subscriptions.retain(|subscription| {
            let mut pending = subscription.pending.borrow_mut();
            if pending.closed {
                return false;
            }
            // After the first miss all updates are missed, until the subscriber has got the count.
            // So it never sees later updates before a gap is reported.
            if pending.missed > 0 || pending.waiting.len() >= queue as usize {
                pending.missed += 1;
            } else {
                pending.waiting.push_back(Update::Event(event.clone()));
            }
            subscription.filled.notify_one();
            true
        });
    }
}

/// Sends a subscriber its updates, each when the one before was handled, until it is gone.
async fn deliver(subscription: Rc<Subscription>, subscriber: Subscriber) {
    loop {
        let next = {
            let mut pending = subscription.pending.borrow_mut();
            if pending.closed {
                return; // Another one has taken its place.
            }
            pending.waiting.pop_front().or_else(|| {
                let missed = std::mem::take(&mut pending.missed);
                (missed > 0).then_some(Update::Lagged { missed })
            })
        };
        let Some(update) = next else {
            subscription.filled.notified().await;
            continue;
        };
        let is_there = match &subscriber {
            Subscriber::Recipient(recipient) => send(recipient, update).await,
            Subscriber::Stream(_, sender) => sender.send(update).await.is_ok(),
        };
        if !is_there {
            subscription.pending.borrow_mut().closed = true;
            return;
        }
    }
}

/// Has an actor handle an update. Returns whether it is there still.
async fn send(recipient: &Recipient<Update>, update: Update) -> bool {
    let mut request = std::pin::pin!(recipient.send(update));
    // A full mailbox gives no wake-up when it empties (actix 0.13), so the request is polled again
    // from time to time.
    let handled = loop {
        if let Ok(handled) = tokio::time::timeout(RETRY, request.as_mut()).await {
            break handled;
        }
    };
    handled.is_ok() || recipient.connected()
}
