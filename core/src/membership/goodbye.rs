//! How this node says goodbye.
//!
//! A goodbye is not acknowledged, and this node cannot repeat it later. So it goes to each observer
//! several times, to some random members, and by gossip to the others. A seed that may admit this
//! node only now is not in the table: it is sent the withdrawal of the join.

use std::net::SocketAddr;

use super::Cluster;
use super::gossip::FANOUT;
use super::outbox::Payload;
use crate::ctx::Ctx;
use crate::member::Status;

impl Cluster {
    /// Notifies the others that this node leaves.
    pub(crate) fn leave(&mut self, ctx: &mut Ctx) {
        self.peers.me.status = Status::Left;
        self.peers.table.set_local(ctx.now, self.peers.me.clone());
        let about = Payload::About(self.peers.me.id);
        // If all three copies are lost, the others wait for a timeout.
        let slots = self.peers.observers.slots().iter();
        let observers: Vec<SocketAddr> = slots.filter_map(|slot| self.peers.address(slot.id)).collect();
        for to in observers.iter().flat_map(|to| [*to; 3]) {
            self.out.send(to, about.clone());
        }
        for _ in 0..2 * FANOUT {
            if let Some(to) = self.peers.table.draw(&mut ctx.random).map(|member| member.address) {
                self.out.send(to, about.clone());
            }
        }
        // Without an observer, all members have to be notified.
        if self.peers.observers.slots().is_empty() {
            for to in self.peers.addresses().flat_map(|to| [to; 3]) {
                self.out.send(to, about.clone());
            }
        }
        self.joining.withdraw(&self.peers, &mut self.out);
        self.close_lifelines();
    }
}
