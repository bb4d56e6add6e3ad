//! `Counters`: the datagrams of a node, by what became of them.
//!
//! Decoding and counting are one step, so no datagram is dropped without being counted. What a
//! datagram of another cluster means is not decided here.

use crate::member::WireVersions;
use crate::wire::{self, Datagram, DecodeError, Header};

/// Datagrams by what became of them; for `/metrics` and for users who wonder where datagrams go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Datagrams handed out to be sent.
    pub sent: u64,
    /// Datagrams and frames received that were well-formed and of our cluster.
    pub received: u64,
    /// Datagrams and frames that were not ours or not well-formed.
    pub malformed: u64,
    /// Datagrams and frames of a version of the wire format that this node cannot use.
    pub wrong_version: u64,
    /// Datagrams and frames of a kind that this release does not know. A later release sent them.
    pub unknown_kind: u64,
    /// Datagrams and frames of another cluster.
    pub wrong_cluster: u64,
    /// Heartbeats sent to observers.
    pub heartbeats_sent: u64,
    /// Heartbeats of watched members, each the newest of its member when it arrived.
    pub heartbeats_received: u64,
    /// Heartbeats that had not arrived when a later one did. Those that a member has slept through
    /// by its own count are none of them.
    pub heartbeats_missed: u64,
    /// Of the missed ones, those that arrived after all. The others were lost.
    pub heartbeats_late: u64,
}

/// What a received datagram was found to be.
#[derive(Debug)]
pub(crate) enum Received<'a> {
    /// Of our cluster.
    Ours(Datagram<'a>),
    /// Well-formed, and of another cluster.
    Foreign(Datagram<'a>),
    /// Of another version of the wire format, or not well-formed.
    Unreadable,
}

impl Counters {
    /// Decodes a datagram and counts it.
    #[inline]
    pub(crate) fn decode<'a>(
        &mut self,
        bytes: &'a [u8],
        versions: WireVersions,
        is_ours: impl FnOnce(Header) -> bool,
    ) -> Received<'a> {
        let counter = match wire::decode(bytes) {
            Ok(datagram) if !versions.contains(datagram.version()) => &mut self.wrong_version,
            Ok(datagram) if is_ours(datagram.header) => {
                self.received += 1;
                return Received::Ours(datagram);
            }
            Ok(datagram) => {
                self.wrong_cluster += 1;
                return Received::Foreign(datagram);
            }
            Err(DecodeError::Version(_)) => &mut self.wrong_version,
            Err(DecodeError::UnknownKind(_)) => &mut self.unknown_kind,
            Err(
                DecodeError::NotOurs
                | DecodeError::Oversized(_)
                | DecodeError::Truncated
                | DecodeError::Trailing(_)
                | DecodeError::Field(_),
            ) => &mut self.malformed,
        };
        *counter += 1;
        Received::Unreadable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{Generation, NodeId, name_hash};
    use crate::wire::{Body, VERSION_MAX, VERSION_MIN};

    fn datagram(cluster: &str) -> Vec<u8> {
        let cluster = name_hash(cluster) as u32;
        let header = Header { cluster, from: NodeId::of("a"), generation: Generation(1), clock: 0 };
        let mut bytes = Vec::new();
        wire::encode(&mut bytes, header, &Body::Hello);
        bytes
    }

    /// Counts one datagram in the cluster `ours`.
    #[track_caller]
    fn check(bytes: &[u8], expected: Counters) {
        let mut counters = Counters::default();
        let versions = WireVersions { min: VERSION_MIN, max: VERSION_MAX };
        let received = counters.decode(bytes, versions, |header| header.cluster == name_hash("ours") as u32);
        assert_eq!(counters, expected);
        assert_eq!(matches!(received, Received::Ours(_)), expected.received == 1);
        assert_eq!(matches!(received, Received::Foreign(_)), expected.wrong_cluster == 1);
    }

    #[test]
    fn each_datagram_is_counted_once() {
        check(&datagram("ours"), Counters { received: 1, ..Counters::default() });
        check(&datagram("theirs"), Counters { wrong_cluster: 1, ..Counters::default() });
        let whole = datagram("ours");
        for length in 0..whole.len() {
            check(&whole[..length], Counters { malformed: 1, ..Counters::default() });
        }
        check(&[whole, vec![0]].concat(), Counters { malformed: 1, ..Counters::default() });
    }

    #[test]
    fn another_version_is_counted_apart() {
        let mut other = datagram("ours");
        other[2] ^= 0x40; // The version follows the two bytes that say whose datagram it is.
        check(&other, Counters { wrong_version: 1, ..Counters::default() });
    }

    #[test]
    fn a_version_out_of_the_own_range_is_counted_apart() {
        let mut counters = Counters::default();
        let mut later = datagram("ours");
        later[2] = VERSION_MAX;
        for (range, received, wrong_version) in [((VERSION_MIN, VERSION_MIN), 0, 1), ((VERSION_MIN, VERSION_MAX), 1, 1)]
        {
            counters.decode(&later, WireVersions { min: range.0, max: range.1 }, |_| true);
            assert_eq!(counters, Counters { received, wrong_version, ..Counters::default() });
        }
    }

    #[test]
    fn an_unknown_kind_is_counted_apart_where_there_may_be_any() {
        let mut later = datagram("ours");
        later[3] = 200;
        check(&later, Counters { malformed: 1, ..Counters::default() });
        later[2] = VERSION_MAX;
        check(&later, Counters { unknown_kind: 1, ..Counters::default() });
    }
}
