//! What is due at an instant: deadlines, the ends of waits and of pauses, and idle connections.

use super::connection::Phase;
use super::sending::Place;
use super::{ConnectionId, Outcome, Refusal, RequestId, Requests, Target};
use crate::interruption::Interruption;
use crate::member::NodeId;

/// Something that is due at an instant. Each is checked again when its time has come.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    Deadline(RequestId),
    Held(RequestId),
    Lane(Target),
    Peer(NodeId),
    Greeting(ConnectionId),
    Idle(ConnectionId),
}

impl Requests {
    pub(super) fn handle_due(&mut self) {
        while let Some((at, _)) = self.timers.first()
            && *at <= self.now
            && let Some((_, timer)) = self.timers.pop_first()
        {
            match timer {
                Timer::Deadline(id) => {
                    let deadline = self.pending.get(&id).and_then(|pending| pending.deadline);
                    if deadline.is_some_and(|deadline| deadline <= self.now) {
                        self.time_out(id);
                    }
                }
                Timer::Held(id) => {
                    let Some(Place::Held { since }) = self.pending.get(&id).map(|pending| pending.place) else {
                        continue;
                    };
                    if since + self.config.held_for <= self.now {
                        self.finish(id, Outcome::Refused(Refusal::HeldTooLong));
                    }
                }
                Timer::Lane(target) => self.pump(&target),
                Timer::Peer(node) => self.pump_node(node),
                Timer::Greeting(number) => {
                    if self.connections.get(&number).is_some_and(|connection| connection.phase != Phase::Open) {
                        self.close(number, &Interruption::ConnectionLost);
                    }
                }
                Timer::Idle(number) => self.close_idle(number),
            }
        }
    }
}
