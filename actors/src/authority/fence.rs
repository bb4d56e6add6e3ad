//! `Fence`: refuses late writes of a node that does not own the shard any more.
//!
//! A lease is not a fence: a worker that checked it and then slept still writes, and its own
//! process cannot stop that. The store where the write arrives can. It remembers the highest epoch
//! it has seen of each shard and refuses a lower one.
//!
//! Source: M. Burrows, "The Chubby lock service for loosely-coupled distributed systems", OSDI
//! 2006, section 2.4 (sequencers).

use std::collections::BTreeMap;
use std::fmt;

use heartbeat_core::Epoch;

/// Remembers the highest epoch seen of each key, and refuses lower ones. A key names what is owned:
/// a shard's number, or group and number.
///
/// It lives where the writes arrive: in a store, or in the receiver of a shard's messages. What it
/// remembers is as durable as the store makes it: write the epoch with the data, and
/// [`Fence::admit`] it again when the data are read back.
///
/// ```
/// use heartbeat_actors::shard::{Epoch, Fence};
///
/// let mut fence = Fence::new();
/// assert!(fence.admit("orders/3", Epoch(7)).is_ok());
/// assert!(fence.admit("orders/3", Epoch(9)).is_ok()); // the next owner
/// let late = fence.admit("orders/3", Epoch(7)).unwrap_err();
/// assert_eq!(late.newest, Epoch(9));
/// ```
#[derive(Clone, Debug)]
pub struct Fence<K> {
    newest: BTreeMap<K, Epoch>,
}

/// A write came under an epoch that is over. It must not be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StaleEpoch {
    /// The epoch of the write.
    pub epoch: Epoch,
    /// The highest one that was seen.
    pub newest: Epoch,
}

impl fmt::Display for StaleEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StaleEpoch { epoch, newest } = self;
        write!(f, "epoch {} is over, epoch {} has written since; find the present owner", epoch.0, newest.0)
    }
}

impl std::error::Error for StaleEpoch {}

impl<K: Ord> Fence<K> {
    /// A fence that has seen no epoch.
    pub fn new() -> Fence<K> {
        Fence { newest: BTreeMap::new() }
    }

    /// Lets a write under this epoch in, and remembers it. The same epoch may come any number of
    /// times.
    ///
    /// # Errors
    /// [`StaleEpoch`] if a higher one was seen; nothing changes then.
    pub fn admit(&mut self, key: K, epoch: Epoch) -> Result<(), StaleEpoch> {
        let newest = self.newest.entry(key).or_insert(epoch);
        if epoch < *newest {
            return Err(StaleEpoch { epoch, newest: *newest });
        }
        *newest = epoch;
        Ok(())
    }

    /// The highest epoch seen of a key.
    pub fn newest(&self, key: &K) -> Option<Epoch> {
        self.newest.get(key).copied()
    }
}

impl<K: Ord> Default for Fence<K> {
    fn default() -> Fence<K> {
        Fence::new()
    }
}
