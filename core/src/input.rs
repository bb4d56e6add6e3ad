//! `Input`: everything that can be put into the engine.
//!
//! The set is closed: [`Engine::handle`](crate::Engine::handle) is the only way in, and each input
//! is plain data. So inputs can be recorded. An engine of the same config, identity and seed gives
//! the same outputs for the same inputs at the same instants, to the byte.
//!
//! It reads no clock and no socket: the caller stamps each input with its instant.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::authority::AuthorityResponse;
use crate::member::{
    ArbiterId, Child, CpuTimes, Generation, Member, Metadata, StatusSample, ThreadSample, WorkerActivity, WorkerId,
};
use crate::output::StreamId;
use crate::supervision::{Report, Supervise, SuperviseGroup};
use crate::time::Instant;
use crate::wire::{DATAGRAM_BYTES_MAX, SEAL_BYTES};

/// Something for the engine to handle, at an instant that is given beside it.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// The instant of [`Engine::poll_timeout`](crate::Engine::poll_timeout) has come. It may come
    /// early; nothing is due then.
    Timeout,
    /// What the wall clock shows at this instant, as the time since a fixed instant. If it ran
    /// ahead of our own clock by more than `stall` since the last time, a pause ends now. The
    /// machine was suspended, or the wall clock was set forward.
    WallClock(Duration),
    /// Datagrams were received together, at this instant. Bad ones are counted and dropped.
    Datagrams {
        /// The datagrams with their senders.
        batch: Arc<Batch>,
        /// What the wall clock showed then: handled before the datagrams, as [`Input::WallClock`].
        wall: Option<Duration>,
        /// When the check of the socket was begun that found nothing more, if one did: handled
        /// after the datagrams, as [`Input::Drained`] of that instant.
        empty_at: Option<Instant>,
    },
    /// A check of the socket that was begun at this instant found it empty: the answer to
    /// [`Output::Drain`](crate::Output::Drain). It may come at any time. If the check was begun
    /// before the pause ended, it changes nothing.
    Drained,
    /// Another node has connected a stream to this one.
    /// [`Engine::accepted`](crate::Engine::accepted) is its number; the next outputs may shut it
    /// again.
    Accepted,
    /// Something happened on a stream.
    Stream {
        /// Its number.
        stream: StreamId,
        /// The address of its other end.
        from: SocketAddr,
        /// What happened.
        event: StreamEvent,
    },
    /// The addresses of a seed, or the error as text: the answer to
    /// [`Output::Resolve`](crate::Output::Resolve).
    Resolved {
        /// The host name and port that were asked for.
        seed: Arc<str>,
        /// The addresses, or why there are none.
        found: Result<Vec<SocketAddr>, Arc<str>>,
    },
    /// The authority's answer to [`Output::AskAuthority`](crate::Output::AskAuthority), or the
    /// error as text.
    Answer {
        /// The number of the request.
        number: u64,
        /// Its answer.
        answer: Result<AuthorityResponse, Arc<str>>,
    },
    /// Shards that another session had at the authority may be free now.
    Freed,
    /// A thread that runs workers has sent a beat.
    Beat {
        /// Which thread.
        arbiter: ArbiterId,
        /// The number of the beat in the thread's schedule, from 1.
        slot: u64,
        /// Its CPU times by then, if the system gives them.
        times: Option<CpuTimes>,
    },
    /// A worker's thread reports on a generation of the worker. The instant is the one at which the
    /// thread read our clock.
    Report {
        /// Which worker.
        worker: WorkerId,
        /// Which generation of it.
        generation: Generation,
        /// What became of it.
        report: Report,
    },
    /// A shard that runs here has a new snapshot, to be copied to its next owner. A snapshot longer
    /// than `ownership.snapshot_bytes_max` is refused.
    Snapshot {
        /// The shard's worker.
        worker: WorkerId,
        /// The version of its format, which the application chooses.
        version: u32,
        /// The snapshot.
        bytes: Arc<[u8]>,
    },
    /// Samples of the status cells: the answer to [`Output::Scan`](crate::Output::Scan), in any
    /// number of parts. A worker may be left out if there is nothing to report of it, and was
    /// nothing the last time.
    Looks(Vec<StatusSample>),
    /// What the workers of a silent thread are doing: the answer to
    /// [`Output::Inspect`](crate::Output::Inspect).
    Inspection {
        /// Which thread.
        arbiter: ArbiterId,
        /// The workers that are busy, with what they do.
        busy: Vec<WorkerActivity>,
        /// The state of the thread, if the system gives it.
        seen: Option<ThreadSample>,
    },
    /// A thread that [`Output::Spawn`](crate::Output::Spawn) asked for could not be made.
    ArbiterNotMade {
        /// Which thread.
        arbiter: ArbiterId,
        /// What the system said.
        reason: Arc<str>,
    },
    /// A thread that should run workers has ended.
    ArbiterDead(ArbiterId),
    /// A thread that was abandoned came back and ended.
    ArbiterEnded(ArbiterId),
    /// Adds a worker and starts it; in a group that starts its children in order, in its turn.
    /// Panics if its number is in use.
    Supervise(Box<Supervise>),
    /// Adds a group and starts it. It is empty; its children name it when they are added. Panics if
    /// its number was used before.
    SuperviseGroup(Box<SuperviseGroup>),
    /// Adds a sharded group: worker `first + i` is shard `i`, of which this node runs those it
    /// owns. Without a cluster it owns all. Panics if one of the workers' numbers is in use, or in
    /// a cluster with the group after [`GROUPS_MAX`](crate::member::GROUPS_MAX).
    SuperviseShards {
        /// Name of the group.
        group: Arc<str>,
        /// The workers of its shards, in order.
        workers: Vec<Supervise>,
    },
    /// Starts a child that has ended, was stopped or was given up; nothing happens to one that
    /// runs. A worker that is a shard is started as that shard, and only on the node that runs the
    /// shard.
    Start(Child),
    /// Stops a child gracefully and starts it again with its queue; nothing is counted. A child
    /// that does not run is only started, as by [`Input::Start`].
    Restart(Child),
    /// Stops a child gracefully and closes its queue, until it is started again. A shard whose
    /// worker is stopped stays with this node. It runs nowhere until its worker is started, or the
    /// shard has another owner.
    Stop(Child),
    /// Stops a child gracefully and forgets it. [`Output::Forget`](crate::Output::Forget) says of
    /// each worker when its number may be used again. A worker that is a shard is only stopped: it
    /// belongs to its group.
    Remove(Child),
    /// Leaves the cluster. Shards are handed over, for `ownership.hand_over_timeout` at most. Then
    /// workers stop, from the last added to the first, for `workers.leave_timeout` at most. Then
    /// the other nodes are notified. [`Engine::has_left`](crate::Engine::has_left) says when it is
    /// done.
    Leave,
    /// Publishes this metadata of the node from now on. Metadata that
    /// [`Engine::check_metadata`](crate::Engine::check_metadata) refuses change nothing.
    SetMetadata(Metadata),
    /// Sends heartbeats this often from the next one on, which announces it. Observers follow; a
    /// longer interval is announced again to each until it has answered. An interval that
    /// [`Engine::check_interval`](crate::Engine::check_interval) refuses changes nothing.
    SetInterval(Duration),
    /// Adds members that are known from elsewhere as if their rows had just been received, and
    /// marks the table as synced. For example, what a node knew before it was restarted. Members
    /// that are gone by now are detected as usual.
    Recall(Vec<Member>),
    /// Reports each received heartbeat from now on ([`Output::Arrived`](crate::Output::Arrived)),
    /// so that a [`Recording`](crate::detection::trace::Recording) can be made.
    Record,
}

impl Input {
    /// Datagrams with their senders, without the wall clock and the state of the socket.
    pub fn datagrams<'a>(datagrams: impl IntoIterator<Item = (SocketAddr, &'a [u8])>) -> Input {
        let mut batch = Batch::default();
        for (from, bytes) in datagrams {
            batch.push(from, bytes);
        }
        Input::from(Arc::new(batch))
    }
}

impl From<Arc<Batch>> for Input {
    /// These datagrams, without the wall clock and the state of the socket.
    fn from(batch: Arc<Batch>) -> Input {
        Input::Datagrams { batch, wall: None, empty_at: None }
    }
}

/// What happened on a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamEvent {
    /// It is connected.
    Opened,
    /// No process listens at that address.
    Refused,
    /// It could not be connected, for another reason.
    Failed,
    /// A frame was received. A frame is a datagram; a bad one is counted and dropped.
    Frame(Vec<u8>),
    /// It was closed, by the other side or by the system.
    Ended,
}

/// Room for one datagram: one byte more than is allowed, so that a longer one is detected.
const ROOM: usize = DATAGRAM_BYTES_MAX + SEAL_BYTES + 1;

/// Datagrams received together, each with its sender, in one reusable buffer.
///
/// It grows to the largest batch that it has held, and keeps that size.
#[derive(Default)]
pub struct Batch {
    /// The datagrams, one behind the other, and room for more.
    bytes: Vec<u8>,
    /// How much of `bytes` datagrams take.
    used: usize,
    /// Sender and length of each.
    datagrams: Vec<(SocketAddr, usize)>,
}

impl Batch {
    /// Empties it; its buffer stays.
    pub fn clear(&mut self) {
        self.used = 0;
        self.datagrams.clear();
    }

    /// How many datagrams it holds.
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Whether a transport has no room for another one: it holds [`BATCH_MAX`].
    pub fn is_full(&self) -> bool {
        self.datagrams.len() >= BATCH_MAX
    }

    /// The datagrams in their order, each with its sender. A datagram that is too long for the
    /// protocol is cut to one byte more than a sealed one of [`DATAGRAM_BYTES_MAX`] has.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let mut rest = &self.bytes[..];
        self.datagrams.iter().map(move |&(from, length)| {
            let (datagram, after) = rest.split_at(length);
            rest = after;
            (from, datagram)
        })
    }

    /// Adds a copy of a datagram; bytes over one more than the longest sealed one has are left out.
    pub fn push(&mut self, from: SocketAddr, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(ROOM)];
        self.bytes.truncate(self.used);
        self.bytes.extend_from_slice(bytes);
        self.used = self.bytes.len();
        self.datagrams.push((from, bytes.len()));
    }

    /// Adds a datagram: `fill` writes it into the buffer and returns its length and its sender.
    ///
    /// # Errors
    /// The error of `fill`; the batch is then unchanged.
    ///
    /// # Panics
    /// If the batch is full, or `fill` returns a length over the room it was given.
    pub fn push_with(&mut self, fill: impl FnOnce(&mut [u8]) -> io::Result<(usize, SocketAddr)>) -> io::Result<()> {
        assert!(!self.is_full(), "a full batch was offered another datagram");
        let end = self.used + ROOM;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        let (length, from) = fill(&mut self.bytes[self.used..end])?;
        assert!(length <= ROOM, "a datagram of {length} bytes was put into {ROOM}");
        self.used += length;
        self.datagrams.push((from, length));
        Ok(())
    }
}

/// Datagrams in one batch at most: what one wake-up takes from a socket before timers and other
/// messages have their turn.
pub const BATCH_MAX: usize = 64;

impl Batch {
    /// Puts a part of each datagram in its place, or leaves the datagram out. `open` gets each one
    /// with its sender, may write into it, and returns the part.
    pub fn open_each(&mut self, mut open: impl FnMut(SocketAddr, &mut [u8]) -> Option<Range<usize>>) {
        let (mut end, mut used) = (0, 0);
        let bytes = &mut self.bytes;
        self.datagrams.retain_mut(|(from, length)| {
            let begin = end;
            end += *length;
            let Some(part) = open(*from, &mut bytes[begin..end]) else { return false };
            *length = part.len();
            bytes.copy_within(begin + part.start..begin + part.end, used);
            used += *length;
            true
        });
        self.used = used;
    }
}

impl Clone for Batch {
    /// The datagrams without the room behind them.
    fn clone(&self) -> Batch {
        Batch { bytes: self.bytes[..self.used].to_vec(), used: self.used, datagrams: self.datagrams.clone() }
    }
}

impl PartialEq for Batch {
    fn eq(&self, other: &Batch) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 7100))
    }

    #[track_caller]
    fn check(batch: &Batch, expected: &[(u8, &[u8])]) {
        let expected: Vec<(SocketAddr, &[u8])> = expected.iter().map(|&(from, bytes)| (address(from), bytes)).collect();
        assert_eq!(batch.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_batch_gives_back_what_was_put_in() {
        let mut batch = Batch::default();
        check(&batch, &[]);
        batch.push(address(1), b"one");
        batch.push(address(2), b"");
        let filled = batch.push_with(|room| {
            room[..5].copy_from_slice(b"three");
            Ok((5, address(3)))
        });
        filled.unwrap();
        batch.push(address(4), b"four");
        check(&batch, &[(1, b"one"), (2, b""), (3, b"three"), (4, b"four")]);
        batch.clear();
        check(&batch, &[]);
        batch.push(address(5), b"five");
        check(&batch, &[(5, b"five")]);
    }

    #[test]
    fn a_failed_fill_leaves_a_batch_as_it_was() {
        let mut batch = Batch::default();
        batch.push(address(1), b"one");
        let failed = batch.push_with(|room| {
            room[0] = 7;
            Err(io::ErrorKind::WouldBlock.into())
        });
        assert_eq!(failed.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        check(&batch, &[(1, b"one")]);
    }

    #[test]
    fn a_datagram_that_is_too_long_is_one_byte_too_long() {
        let mut batch = Batch::default();
        batch.push(address(1), &[7; ROOM + 10]);
        assert_eq!(batch.iter().next().map(|(_, bytes)| bytes.len()), Some(DATAGRAM_BYTES_MAX + SEAL_BYTES + 1));
    }

    #[test]
    fn an_opened_batch_holds_the_parts_that_were_returned() {
        let mut batch = Batch::default();
        for (port, bytes) in [(1, &b"..one."[..]), (2, b"forged"), (3, b".two..."), (4, b"three")] {
            batch.push(address(port), bytes);
        }
        batch.open_each(|from, bytes| {
            bytes[1] = bytes[1].to_ascii_uppercase();
            let parts = [(address(1), Some(2..5)), (address(2), None), (address(3), Some(1..4))];
            parts.into_iter().find(|(one, _)| *one == from).map_or(Some(0..bytes.len()), |(_, part)| part)
        });
        check(&batch, &[(1, b"one"), (3, b"Two"), (4, b"tHree")]);
        batch.push(address(5), b"more");
        check(&batch, &[(1, b"one"), (3, b"Two"), (4, b"tHree"), (5, b"more")]);
    }

    #[test]
    fn a_batch_is_full_at_its_bound_and_a_copy_is_equal() {
        let mut batch = Batch::default();
        for _ in 0..BATCH_MAX {
            assert!(!batch.is_full());
            let pushed = batch.push_with(|_| Ok((ROOM, address(1))));
            pushed.unwrap();
        }
        assert!(batch.is_full());
        assert_eq!(batch.len(), BATCH_MAX);
        let copy = batch.clone();
        assert_eq!(copy, batch);
        batch.clear();
        assert_ne!(copy, batch);
    }
}
