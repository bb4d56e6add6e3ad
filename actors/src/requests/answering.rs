//! `Answering`: a request that a worker of this node has.
//!
//! The future of its outcome is polled where it is woken: on the worker's own thread, when the
//! answer is there. So no other thread has to wake up for it.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::future::BoxFuture;
use heartbeat_core::Instant;
use heartbeat_core::requests::{Outcome, ServedId};

use crate::lock::lock;
use crate::requests::driver::Driver;
use crate::worker::envelope::Expiring;
use crate::worker::worker_door::Serving;

/// A request that a worker has.
pub(crate) struct Answering {
    driver: Arc<Driver>,
    served: ServedId,
    /// Its place in the queue; none if its outcome was there at once.
    envelope: Option<Arc<dyn Expiring>>,
    state: Mutex<State>,
}

enum State {
    Waiting(BoxFuture<'static, Outcome>),
    /// A thread polls the future, which runs code of the application and so is not under the lock.
    /// `is_woken`: to be polled again.
    Polled {
        is_woken: bool,
    },
    /// It has ended, or its sender waits no more.
    Over,
}

impl Answering {
    /// Begins to wait for the outcome.
    pub(super) fn start(driver: Arc<Driver>, served: ServedId, serving: Serving) -> Arc<Answering> {
        let Serving { outcome, envelope } = serving;
        let answering = Arc::new(Answering { driver, served, envelope, state: Mutex::new(State::Waiting(outcome)) });
        answering.poll();
        answering
    }

    /// The sender waits no more: the message is cancelled if its worker has not begun it.
    pub(super) fn withdraw(&self) {
        let before = std::mem::replace(&mut *lock(&self.state), State::Over);
        drop(before);
    }

    /// The sender waits until then only.
    pub(super) fn expire_at(&self, deadline: Instant) {
        if let Some(envelope) = &self.envelope {
            envelope.expire_at(deadline);
        }
    }

    fn poll(self: &Arc<Answering>) {
        let Some(mut serving) = self.begin_poll() else { return };
        let waker = Waker::from(self.clone());
        let mut task = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(outcome) = serving.as_mut().poll(&mut task) {
                *lock(&self.state) = State::Over;
                return self.driver.answered(self.served, outcome);
            }
            match self.end_poll(serving) {
                Some(again) => serving = again,
                None => return,
            }
        }
    }

    fn begin_poll(&self) -> Option<BoxFuture<'static, Outcome>> {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, State::Over) {
            State::Waiting(serving) => {
                *state = State::Polled { is_woken: false };
                Some(serving)
            }
            State::Polled { .. } => {
                *state = State::Polled { is_woken: true };
                None
            }
            State::Over => None,
        }
    }

    /// Puts the future back, or returns it to be polled again.
    fn end_poll(&self, serving: BoxFuture<'static, Outcome>) -> Option<BoxFuture<'static, Outcome>> {
        let mut state = lock(&self.state);
        match &mut *state {
            State::Polled { is_woken } if *is_woken => {
                *is_woken = false;
                Some(serving)
            }
            State::Polled { .. } => {
                *state = State::Waiting(serving);
                None
            }
            // It was withdrawn meanwhile.
            State::Waiting(_) | State::Over => {
                drop(state);
                drop(serving);
                None
            }
        }
    }
}

impl Wake for Answering {
    fn wake(self: Arc<Answering>) {
        self.poll();
    }

    fn wake_by_ref(self: &Arc<Answering>) {
        self.poll();
    }
}
