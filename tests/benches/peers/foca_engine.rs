//! foca's engine, with what it needs from outside.

use std::net::SocketAddrV4;
use std::time::Duration;

use foca::{Foca, Identity, NoCustomBroadcast, Notification, PostcardCodec, Runtime, Timer};
use rand::rngs::Xoshiro128PlusPlus;
use serde::{Deserialize, Serialize};

/// An address, and a number that grows when its node was called dead and comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Id {
    pub(crate) address: SocketAddrV4,
    pub(crate) life: u64,
}

impl Identity for Id {
    type Addr = SocketAddrV4;

    fn renew(&self) -> Option<Id> {
        Some(Id { life: self.life + 1, ..*self })
    }

    fn addr(&self) -> SocketAddrV4 {
        self.address
    }

    fn win_addr_conflict(&self, other: &Id) -> bool {
        self.life > other.life
    }
}

/// What foca asks for.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) sent: Vec<(Id, Vec<u8>)>,
    pub(crate) timers: Vec<(Duration, Timer<Id>)>,
    pub(crate) up: Vec<Id>,
    pub(crate) down: Vec<Id>,
}

impl Runtime<Id> for &mut Asked {
    fn notify(&mut self, notification: Notification<'_, Id>) {
        match notification {
            Notification::MemberUp(id) => self.up.push(*id),
            Notification::MemberDown(id) => self.down.push(*id),
            _ => {}
        }
    }

    fn send_to(&mut self, to: Id, data: &[u8]) {
        self.sent.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Id>, after: Duration) {
        self.timers.push((after, event));
    }
}

pub(crate) type Engine = Foca<Id, PostcardCodec, Xoshiro128PlusPlus, NoCustomBroadcast>;
