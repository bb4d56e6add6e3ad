//! The keys of a node: from files, variables and the config.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use heartbeat_core::config::SealConfig;
use zeroize::Zeroizing;

use super::error::SealError;
use super::key::Key;
use super::key_id::KeyId;

/// Most bytes that are read of a file with a key.
const FILE_BYTES_MAX: usize = 4_096;

/// All keys of a node, the preferred one first.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    keys: Vec<Arc<Key>>,
}

impl Keyring {
    /// These keys, the preferred one first.
    ///
    /// # Errors
    /// Two of them have the same id.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Result<Keyring, SealError> {
        let mut ring = Keyring::default();
        for key in keys {
            if ring.get(key.id()).is_some() {
                return Err(SealError::Twice(key.id()));
            }
            ring.keys.push(Arc::new(key));
        }
        Ok(ring)
    }

    /// Reads all keys of the config.
    ///
    /// # Errors
    /// The first one that cannot be used.
    pub(crate) fn read(config: &SealConfig) -> Result<Keyring, SealError> {
        let keys: Result<Vec<Key>, SealError> =
            (1..).zip(&config.keys).map(|(place, key)| read(place, key.expose())).collect();
        Keyring::new(keys?)
    }

    /// The key of this id.
    pub(super) fn get(&self, id: KeyId) -> Option<&Arc<Key>> {
        self.keys.iter().find(|key| key.id() == id)
    }

    /// The keys in their order.
    pub(super) fn keys(&self) -> &[Arc<Key>] {
        &self.keys
    }

    /// The ids of the keys, the preferred one first.
    pub fn ids(&self) -> Vec<KeyId> {
        self.keys.iter().map(|key| key.id()).collect()
    }

    /// The keys of `former` that are not here any more.
    pub(super) fn taken_from(&self, former: &Keyring) -> Vec<Arc<Key>> {
        former.keys.iter().filter(|key| self.get(key.id()).is_none()).cloned().collect()
    }

    /// Adds a key that the config does not name any more, behind all others.
    pub(super) fn keep(&mut self, key: Arc<Key>) {
        self.keys.push(key);
    }

    /// Whether both hold the same keys in the same order.
    pub(super) fn equals(&self, other: &Keyring) -> bool {
        self.keys.len() == other.keys.len() && self.keys.iter().zip(&other.keys).all(|(one, two)| one.equals(two))
    }
}

/// Reads the key at this place of the list.
fn read(place: usize, source: &str) -> Result<Key, SealError> {
    if let Some(path) = source.strip_prefix("file:") {
        let text = read_file(path).map_err(|error| SealError::Unreadable(path.to_owned(), error))?;
        refuse_earlier_clock(path)?;
        return Key::from_hex(&text).map_err(|fault| SealError::Malformed(format!("the key file {path:?}"), fault));
    }
    if let Some(name) = source.strip_prefix("env:") {
        let text = std::env::var(name).map(Zeroizing::new).map_err(|_| SealError::NotSet(name.to_owned()))?;
        return Key::from_hex(&text).map_err(|fault| SealError::Malformed(format!("the variable {name}"), fault));
    }
    Key::from_hex(source).map_err(|fault| SealError::Malformed(format!("key {place}"), fault))
}

fn read_file(path: &str) -> io::Result<Zeroizing<String>> {
    use std::io::Read;
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX));
    std::fs::File::open(path)?.take(FILE_BYTES_MAX as u64).read_to_string(&mut text)?;
    Ok(text)
}

/// Refuses a wall clock that was set back behind the making of a key: a generation is the wall
/// clock at the start, and under one key no generation may come twice.
fn refuse_earlier_clock(path: &str) -> Result<(), SealError> {
    let Ok(made) = std::fs::metadata(path).and_then(|metadata| metadata.modified()) else { return Ok(()) };
    if made > SystemTime::now() { Err(SealError::ClockBehind(path.to_owned())) } else { Ok(()) }
}

/// The files among the sources that any user of this host may read.
pub(super) fn world_readable(config: &SealConfig) -> Vec<String> {
    let files = config.keys.iter().filter_map(|key| key.expose().strip_prefix("file:"));
    files.filter(|path| is_world_readable(path)).map(str::to_owned).collect()
}

#[cfg(unix)]
fn is_world_readable(path: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn is_world_readable(_: &str) -> bool {
    false
}
