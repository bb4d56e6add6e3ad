//! What the threads of a node share of its seal: the keys, and what each member is known to have.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use heartbeat_core::config::SealConfig;
use heartbeat_core::member::ProcessId;
use heartbeat_core::{Member, NodeId};
use ring::rand::{SecureRandom, SystemRandom};
use tracing::{info, warn};

use super::datagram::{Seal, published_keys};
use super::error::SealError;
use super::key_id::KeyId;
use super::keyring::{Keyring, world_readable};
use super::report::{MemberSeal, Removal, SealCounts, SealVersions};
use crate::lock::{lock, read, write};

/// The seal of a node, for all of its threads.
pub(crate) struct SealShared {
    config: SealConfig,
    me: ProcessId,
    random: SystemRandom,
    /// Changes of the keys are made one after the other.
    ring: RwLock<Keyring>,
    /// Rises with each change of the keys.
    keys_version: AtomicU64,
    /// Rises with each change of the members.
    members_version: AtomicU64,
    members: RwLock<Vec<Member>>,
    used: Mutex<BTreeMap<NodeId, Option<KeyId>>>,
    counts: Mutex<SealCounts>,
}

impl SealShared {
    /// Reads the keys of the config.
    ///
    /// # Errors
    /// A key cannot be used.
    pub(crate) fn open(config: &SealConfig, me: ProcessId) -> Result<SealShared, SealError> {
        let ring = Keyring::read(config)?;
        for path in world_readable(config) {
            warn!(event = "key_readable_by_all", path, "every user of this host may read a key; make it mode 0400");
        }
        if config.accept_plain {
            warn!(event = "plain_accepted", "cluster.seal.accept_plain is set: the seal keeps no attacker out");
        }
        let ids = show(&ring.ids());
        info!(event = "sealed", keys = ids, "traffic between nodes is sealed");
        Ok(SealShared {
            config: config.clone(),
            me,
            random: SystemRandom::new(),
            ring: RwLock::new(ring),
            keys_version: AtomicU64::new(0),
            members_version: AtomicU64::new(0),
            members: RwLock::default(),
            used: Mutex::default(),
            counts: Mutex::default(),
        })
    }

    // ---- inputs ---------------------------------------------------------------------------------

    /// Reads the keys again. Returns whether they have changed.
    ///
    /// # Errors
    /// A key cannot be used, and the former keys stay. Or a key was taken away that members need:
    /// then the other changes are taken, and that key stays the last.
    pub(crate) fn reload(&self, removal: Removal) -> Result<bool, SealError> {
        let mut ring = Keyring::read(&self.config)?;
        let mut present = write(&self.ring);
        let taken = ring.taken_from(&present);
        let mut needed = None;
        for key in taken {
            let users = self.users_of(key.id(), &ring);
            if removal == Removal::WhenUnused && !users.is_empty() {
                needed = Some(SealError::InUse(key.id(), users));
                ring.keep(key);
            }
        }
        let is_changed = !ring.equals(&present);
        if is_changed {
            let (former, keys) = (show(&present.ids()), show(&ring.ids()));
            info!(event = "keys_changed", former, keys, "the keys of the seal have changed");
            *present = ring;
            self.keys_version.fetch_add(1, Ordering::Release);
        }
        needed.map_or(Ok(is_changed), Err)
    }

    /// The table of members has changed.
    pub(crate) fn set_members<'a>(&self, members: impl Iterator<Item = &'a Member>) {
        *write(&self.members) = members.filter(|member| member.id != self.me.node).cloned().collect();
        self.members_version.fetch_add(1, Ordering::Release);
    }

    /// Takes over what the seal of datagrams has counted and seen.
    pub(crate) fn note(&self, seal: &mut Seal) {
        *lock(&self.counts) = seal.counts();
        let changes = seal.take_changes();
        if !changes.is_empty() {
            lock(&self.used).extend(changes);
        }
    }

    /// Brings a seal of datagrams up to date with what has changed since `seen`. The table of
    /// members changes far more often than the keys, of which a seal derives its ciphers.
    pub(crate) fn refresh(&self, seal: &mut Seal, seen: &mut SealVersions) {
        let keys = self.keys_version.load(Ordering::Acquire);
        if seen.keys != keys {
            seen.keys = keys;
            seal.set_keys(self.ring());
        }
        let members = self.members_version.load(Ordering::Acquire);
        if seen.members != members {
            seen.members = members;
            seal.set_members(read(&self.members).iter());
        }
    }

    // ---- questions ------------------------------------------------------------------------------

    /// A seal for the datagrams of this process.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(crate) fn seal(&self, senders_max: usize) -> Result<Seal, SealError> {
        let mut start = [0; 8];
        self.fill_random(&mut start)?;
        Ok(Seal::new(self.me, self.ring(), self.config.accept_plain, senders_max, u64::from_le_bytes(start)))
    }

    pub(super) fn fill_random(&self, bytes: &mut [u8]) -> Result<(), SealError> {
        self.random.fill(bytes).map_err(|_| SealError::NoRandomness)
    }

    pub(super) fn config(&self) -> &SealConfig {
        &self.config
    }

    /// Whether plain traffic is accepted, too.
    pub(crate) fn accepts_plain(&self) -> bool {
        self.config.accept_plain
    }

    pub(crate) fn ring(&self) -> Keyring {
        read(&self.ring).clone()
    }

    /// What this node publishes of its keys.
    pub(crate) fn published(&self) -> String {
        show(&read(&self.ring).ids())
    }

    /// Whether a connection to this address is sealed: unless plain traffic is accepted, and no
    /// member with a key is known there.
    pub(crate) fn seals_for(&self, address: SocketAddr) -> bool {
        !self.config.accept_plain || self.keys_at(address).is_some_and(|keys| !keys.is_empty())
    }

    /// The keys of the member at this address; none if no member is known there.
    pub(super) fn keys_at(&self, address: SocketAddr) -> Option<Vec<KeyId>> {
        let members = read(&self.members);
        let member = members.iter().find(|member| member.status.is_member() && member.address == address)?;
        Some(published_keys(member))
    }

    /// How each member that is alive and this node can understand each other.
    pub(crate) fn members(&self) -> Vec<MemberSeal> {
        let (ring, used) = (self.ring(), lock(&self.used).clone());
        let members = read(&self.members);
        let alive = members.iter().filter(|member| member.status.is_member());
        let of = |member: &Member| {
            let keys = published_keys(member);
            let can_open = keys.iter().any(|id| ring.get(*id).is_some());
            MemberSeal { name: member.name.clone(), keys, used: used.get(&member.id).copied().flatten(), can_open }
        };
        alive.map(of).collect()
    }

    /// What was sealed, opened and refused so far.
    pub(crate) fn counts(&self) -> SealCounts {
        *lock(&self.counts)
    }

    /// The members that are alive and would not be understood any more without this key.
    fn users_of(&self, id: KeyId, rest: &Keyring) -> Vec<Arc<str>> {
        let members = read(&self.members);
        let needs = |member: &&Member| {
            let keys = published_keys(member);
            member.status.is_member()
                && keys.contains(&id)
                && (keys[0] == id || keys.iter().all(|id| rest.get(*id).is_none()))
        };
        members.iter().filter(needs).map(|member| member.name.clone()).collect()
    }
}

/// Ids, separated by commas.
fn show(ids: &[KeyId]) -> String {
    ids.iter().map(KeyId::to_string).collect::<Vec<_>>().join(",")
}
