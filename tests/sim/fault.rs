//! `Fault`: what can be done to a world, and how the world does it.

use std::time::Duration;

use heartbeat_core::{Input, WorkerId};

use crate::authority::Authority;
use crate::event_queue::Item;
use crate::network::NodeIndex;
use crate::shape::NOTE;
use crate::world::World;

/// Something that is done to the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// End a node's process without a word. Its system closes its connections.
    Kill(NodeIndex),
    /// Cut a node's power: its process ends, and its host answers nothing.
    Unplug(NodeIndex),
    /// Start a node's process, with a generation of its own.
    Start(NodeIndex),
    /// Stop a node's process as SIGSTOP does.
    Pause(NodeIndex),
    /// Let it go on.
    Resume(NodeIndex),
    /// Let a worker panic.
    Panic(NodeIndex, WorkerId),
    /// Let a worker stop itself normally.
    Finish(NodeIndex, WorkerId),
    /// Let a worker block its thread for this long.
    Block(NodeIndex, WorkerId, Duration),
    /// Let a node send its heartbeats this often.
    SetInterval(NodeIndex, Duration),
    /// Let a node say this of itself from now on, beside its weight.
    SetNote(NodeIndex, u64),
    /// Ask a node to leave.
    Leave(NodeIndex),
    /// Cut a link in one direction.
    Cut(NodeIndex, NodeIndex),
    /// Restore a link in one direction.
    Mend(NodeIndex, NodeIndex),
    /// Cut these nodes off from all others, in both directions; among themselves they go on.
    Partition(Vec<NodeIndex>),
    /// Set the chance of loss, duplication and reordering.
    Disturb(f64, f64, f64),
    /// Let a node lose this share of all it sends and receives.
    LossyNode(NodeIndex, f64),
    /// Let all that a node sends and receives take up to this much longer.
    Slow(NodeIndex, Duration),
    /// Let a node's clock run ahead by this much at once.
    JumpClock(NodeIndex, Duration),
    /// End all connections of a node, as a box on the way may; the processes go on.
    CloseConnections(NodeIndex),
    /// Let the authority be away: it answers nothing, and what it is asked may be done or not.
    StopAuthority,
    /// Let it be back.
    StartAuthority,
    /// Let the authority forget everything. Its epochs begin anew, as it knows nothing of floors.
    ResetAuthority,
    /// Let the authority forget everything, as an emptied store does.
    EmptyAuthority,
    /// Set the wall clock of a node, in milliseconds from the right time, from its next start on.
    SetClock(NodeIndex, i64),
    /// Cut one node off from the authority: its requests are not carried out, and it receives
    /// nothing.
    CutFromAuthority(NodeIndex),
    /// Let it reach the authority again.
    ReconnectToAuthority(NodeIndex),
    /// Let the authority's answers take up to this much longer.
    DelayAuthority(Duration),
    /// Make the network quiet and whole.
    Heal,
}

impl World {
    /// Plans a fault for this long after the start.
    pub fn plan(&mut self, after: Duration, fault: Fault) {
        let at = 1_000_000_000 + after.as_nanos() as u64;
        self.queue.put(at.max(self.now), Item::Fault(fault));
    }

    /// Does a fault now.
    pub fn apply(&mut self, fault: Fault) {
        self.note(0, || format!("-- {fault:?}"));
        if self.shape.log {
            let watched_by = match fault {
                Fault::Kill(place) | Fault::Unplug(place) => self.observers_of(place),
                _ => Vec::new(),
            };
            self.checker.fault(self.now, &fault, &watched_by);
        }
        match fault {
            Fault::Kill(place) => {
                self.end_process(place);
                self.break_streams(place);
            }
            Fault::Unplug(place) => {
                self.end_process(place);
                self.nodes[place].unplugged = true;
            }
            Fault::CloseConnections(place) => self.sever(place),
            Fault::LossyNode(place, loss) => drop(self.network.lossy.insert(place, loss)),
            Fault::Slow(place, by) => drop(self.network.slow.insert(place, by)),
            Fault::JumpClock(place, by) => {
                self.nodes[place].offset += by.as_nanos() as u64;
                self.nodes[place].ahead += by.as_nanos() as u64;
                self.handle_input(place, Input::Timeout);
            }
            Fault::Start(place) => self.start(place),
            Fault::Pause(place) => {
                if let Some(process) = &mut self.nodes[place].process {
                    process.paused = true;
                }
            }
            Fault::Resume(place) => self.resume(place),
            Fault::Panic(place, worker) => self.panic(place, worker),
            Fault::Finish(place, worker) => self.finish(place, worker),
            Fault::Block(place, worker, duration) => self.block(place, worker, duration),
            Fault::SetInterval(place, interval) => self.handle_input(place, Input::SetInterval(interval)),
            Fault::SetNote(place, note) => {
                let mut metadata = self.metadata_of(place);
                metadata.insert(NOTE.into(), note.to_string());
                if self.nodes[place].process.as_ref().is_some_and(|process| !process.paused) {
                    self.handle_input(place, Input::SetMetadata(metadata));
                }
            }
            Fault::Leave(place) => self.handle_input(place, Input::Leave),
            Fault::Cut(from, to) => self.network.cut(from, to),
            Fault::Mend(from, to) => self.network.mend(from, to),
            Fault::Partition(places) => self.network.partition(&places, self.nodes.len()),
            Fault::Disturb(loss, duplication, reordering) => {
                (self.network.loss, self.network.duplication, self.network.reordering) =
                    (loss, duplication, reordering);
            }
            Fault::StopAuthority => self.authority.is_down = true,
            Fault::StartAuthority => self.authority.return_at(self.now),
            Fault::ResetAuthority => self.authority = Authority::without_floors(),
            Fault::EmptyAuthority => self.authority = Authority::default(),
            Fault::SetClock(place, off) => self.nodes[place].off = off,
            Fault::CutFromAuthority(place) => self.nodes[place].is_cut_off = true,
            Fault::ReconnectToAuthority(place) => self.nodes[place].is_cut_off = false,
            Fault::DelayAuthority(by) => self.hesitation = by,
            Fault::Heal => self.network.heal(),
        }
    }
}
