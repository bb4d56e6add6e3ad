//! How this node says goodbye.
//!
//! A goodbye is not acknowledged, and this node cannot repeat it later. So it goes to each observer
//! several times, to some random members, and by gossip to the others. A seed that may admit this
//! node only now is not in the table: it is sent the withdrawal of the join.

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
        for id in slots.flat_map(|slot| [slot.id; 3]) {
            self.out.send_to(&self.peers, id, about.clone());
        }
        for _ in 0..2 * FANOUT {
            if let Some(member) = self.peers.table.draw(&mut ctx.random) {
                self.out.send_to_member(member, about.clone());
            }
        }
        // Without an observer, all members have to be notified.
        if self.peers.observers.slots().is_empty() {
            for &id in self.peers.table.others().iter().flat_map(|id| [id; 3]) {
                self.out.send_to(&self.peers, id, about.clone());
            }
        }
        self.joining.withdraw(&self.peers, &mut self.out);
        self.close_lifelines();
    }
}
