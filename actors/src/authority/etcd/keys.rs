//! `keys`: what stands where in etcd.
//!
//! | key, after prefix and cluster | value | lease |
//! |---|---|---|
//! | `nodes/NODE/SESSION` | the generation | the session |
//! | `shards/GROUP/INDEX` | node, generation and session | the session |
//! | `epochs/GROUP/INDEX` | the last epoch of the shard | none |
//! | `records/GROUP/INDEX/NAME` | what the owner of the shard recorded | none |
//!
//! A session is a lease, and its number the lease's. The revision at which its key was written last
//! guards each change for it (`guard`). A node has a key for each of its sessions. So the session
//! of an earlier process is found even if a later process of the same name has one too.

use heartbeat_core::Generation;
use heartbeat_core::authority::{SessionId, ShardName};
use heartbeat_core::member::Epoch;

use super::super::Claimant;
use super::super::name::{escaped, unescaped};

/// Where all keys of a cluster are.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    base: String,
}

impl Keys {
    pub(super) fn new(prefix: &str, cluster: &str) -> Keys {
        Keys { base: format!("{}/{}", prefix.trim_end_matches('/'), escaped(cluster)) }
    }

    /// Of all sessions of a node.
    pub(super) fn sessions(&self, node: &str) -> String {
        format!("{}/nodes/{}/", self.base, escaped(node))
    }

    pub(super) fn session(&self, node: &str, session: SessionId) -> String {
        format!("{}{:016x}", self.sessions(node), session.0)
    }

    /// Of all shards.
    pub(super) fn shards(&self) -> String {
        format!("{}/shards/", self.base)
    }

    pub(super) fn shard(&self, shard: &ShardName) -> String {
        format!("{}{}/{}", self.shards(), escaped(&shard.group), shard.index)
    }

    /// Of the last epoch of a shard, which outlives its owner.
    pub(super) fn epoch(&self, shard: &ShardName) -> String {
        format!("{}/epochs/{}/{}", self.base, escaped(&shard.group), shard.index)
    }

    pub(super) fn record(&self, shard: &ShardName, name: &str) -> String {
        format!("{}/records/{}/{}/{}", self.base, escaped(&shard.group), shard.index, escaped(name))
    }
}

/// What stands at a shard's key.
pub(super) fn holder(claimant: &Claimant, session: SessionId) -> String {
    format!("{} {} {:016x}", escaped(&claimant.node), claimant.generation.0, session.0)
}

/// The node in what stands at a shard's key; all of it, if it was not written by us.
pub(super) fn holder_node(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    text.split(' ').next().and_then(unescaped).unwrap_or_else(|| text.clone().into_owned())
}

/// The epoch in what stands at the key of a shard's last epoch; `None` if it was not written by us.
pub(super) fn epoch(value: &[u8]) -> Option<Epoch> {
    str::from_utf8(value).ok()?.parse().ok().map(Epoch)
}

/// The generation in what stands at a session's key.
pub(super) fn generation(value: &[u8]) -> Option<Generation> {
    str::from_utf8(value).ok()?.parse().ok().map(Generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_between_slashes_whatever_is_in_them() {
        let keys = Keys::new("/heartbeat/", "a/b");
        let shard = ShardName { group: "or/ders".into(), index: 7 };
        assert_eq!(keys.shard(&shard), "/heartbeat/a%2fb/shards/or%2fders/7");
        assert_eq!(keys.epoch(&shard), "/heartbeat/a%2fb/epochs/or%2fders/7");
        assert_eq!(keys.session("n/1", SessionId(255)), "/heartbeat/a%2fb/nodes/n%2f1/00000000000000ff");
        assert_eq!(keys.record(&shard, "a b"), "/heartbeat/a%2fb/records/or%2fders/7/a%20b");
        assert_eq!(Keys::new("", "c").shards(), "/c/shards/");
    }

    #[test]
    fn a_holder_can_be_told_from_what_it_wrote() {
        let claimant = Claimant { cluster: "c".into(), node: "a b".into(), generation: Generation(7) };
        let value = holder(&claimant, SessionId(10));
        assert_eq!(value, "a%20b 7 000000000000000a");
        assert_eq!(holder_node(value.as_bytes()), "a b");
        assert_eq!(holder_node(b"%zz"), "%zz");
        assert_eq!((generation(b"12"), generation(b"x"), generation(&[0xff])), (Some(Generation(12)), None, None));
    }
}
