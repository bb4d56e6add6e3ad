//! The seal: everything that travels between nodes is encrypted and authenticated with a key.
//!
//! A process without the key is not believed, and a recording is believed by no process a second
//! time. What is sealed, how keys are replaced without a stop, and what an attacker can still do is
//! in the book, in the chapter "Sealed traffic".
//!
//! ```toml
//! [cluster.seal]
//! keys = ["file:/run/secrets/heartbeat"]   # made with: openssl rand -hex 32
//! ```
//!
//! - `key`: one key, and what is derived of it.
//! - `keyring`: all keys of a node, read from files, variables and the config.
//! - `window`: which counters of a sender have been received.
//! - `datagram`: seals and opens datagrams.
//! - `stream`: seals and opens connections.
//! - `files`: reads keys again when their files change.
//! - `error`, `report`, `key_id`: what is published of it.
//! - `absent`: stands in for it in a program that is built without the feature `seal`.
//! - `shared`: what the threads of a node share of its seal.
//!
//! A datagram is sealed with AES-256-GCM under a key that is derived for the sending process alone,
//! so the counter in the datagram is enough of a nonce. The receiving process is authenticated with
//! it, but does not travel. Keys themselves are wiped from memory when they are dropped. What is
//! derived of them is not: the library that encrypts does not wipe its state.

#[cfg(not(feature = "seal"))]
mod absent;
#[cfg(feature = "seal")]
mod datagram;
mod error;
#[cfg(feature = "seal")]
mod files;
#[cfg(feature = "seal")]
mod key;
mod key_id;
#[cfg(feature = "seal")]
mod keyring;
mod report;
#[cfg(feature = "seal")]
mod shared;
#[cfg(feature = "seal")]
mod stream;
#[cfg(feature = "seal")]
mod window;

#[cfg(not(feature = "seal"))]
pub(crate) use absent::{
    OpenHalf, Seal, SealHalf, SealShared, accept_sealed, is_sealed_preface, is_sealed_start, open_sealed,
};
#[cfg(feature = "seal")]
pub use datagram::Seal;
pub use error::SealError;
#[cfg(feature = "seal")]
pub use key::Key;
pub use key_id::KeyId;
#[cfg(feature = "seal")]
pub use keyring::Keyring;
pub use report::{MemberSeal, OpenError, Removal, SealCounts};
pub(crate) use report::{SealVersions, StreamPurpose};
#[cfg(feature = "seal")]
pub(crate) use shared::SealShared;
#[cfg(feature = "seal")]
pub(crate) use stream::{OpenHalf, SealHalf, accept_sealed, is_sealed_preface, is_sealed_start, open_sealed};
