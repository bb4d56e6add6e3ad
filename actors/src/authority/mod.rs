//! Authorities: each hands out the right to run a shard, to one owner at a time.
//!
//! `heartbeat-core` decides when to ask for what (`claims`); the authorities here answer. All pass
//! the same suite of tests. They run on the control thread and never block it: slow work is
//! awaited, or done on another thread.
//!
//! - `lease_table`: the rules of the authorities that keep their own table. `memory`: one process.
//!   `file`: one host. `etcd`, `postgres`: several hosts.
//! - `guard`: late changes have no effect. `tls_files`: certificates and keys, read again on
//!   change.
//! - `name`: how names are written where some characters are not allowed.

#[cfg(feature = "etcd")]
mod etcd;
pub(crate) mod fence;
#[cfg(target_os = "linux")]
mod file;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod guard;
#[cfg(any(target_os = "linux", feature = "testkit"))]
mod lease_table;
#[cfg(feature = "testkit")]
mod memory;
#[cfg(any(target_os = "linux", feature = "etcd", feature = "postgres"))]
mod name;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod secret;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod tls_files;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use heartbeat_core::config::AuthorityKind;
use heartbeat_core::{Config, Generation};

#[cfg(feature = "etcd")]
pub use etcd::{EtcdAuthority, Recorded};
#[cfg(target_os = "linux")]
pub use file::FileAuthority;
pub use heartbeat_core::authority::{AuthorityRequest, AuthorityResponse, CLAIMS_MAX, Claimed, SessionId, ShardName};
#[cfg(feature = "testkit")]
pub use memory::{MemoryStore, Reach};
#[cfg(feature = "postgres")]
pub use postgres::PostgresAuthority;

/// Hands out the right to run a shard.
pub trait Authority {
    /// Answers one question. Several may be under way at a time.
    ///
    /// An error means that it is not known whether the request was carried out. Each request may be
    /// repeated. The answer takes a bounded time.
    fn ask(self: Rc<Self>, ask: AuthorityRequest)
    -> LocalBoxFuture<'static, Result<AuthorityResponse, AuthorityError>>;

    /// Waits until a shard may have become free since this last returned. It may also return when
    /// no shard has.
    fn freed(self: Rc<Self>) -> LocalBoxFuture<'static, ()>;

    /// Its node has left and asks nothing more. Waits until all that it was asked is done, and its
    /// threads touch nothing any more. By itself it waits for nothing.
    fn end(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// The node that asks an authority.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claimant {
    /// Name of its cluster. Shards of different clusters have nothing to do with each other.
    pub cluster: Arc<str>,
    /// Name of the node.
    pub node: Arc<str>,
    /// Of this start of its process.
    pub generation: Generation,
}

/// The authority did not answer, or its answer makes no sense. The text names the authority, the
/// request and the outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthorityError(pub String);

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AuthorityError {}

/// Opens the authority that a config names, for this start of its node; `None` for `view`, which
/// needs none. Call it within a tokio runtime, on the thread that is to use the authority.
///
/// # Errors
/// If there is no `[cluster]` table, which has the name to claim under, or this build has no such
/// authority. With `file`, if the folder cannot be used. With `etcd`, if an endpoint makes no
/// sense. With `etcd` or `postgres`, if a file for TLS holds no certificate or key. A server that
/// cannot be reached is not an error here, since it may be reachable later: each request reports
/// it.
pub fn open(config: &Config, generation: Generation) -> Result<Option<Rc<dyn Authority>>, AuthorityError> {
    let ownership = &config.ownership;
    match ownership.authority {
        AuthorityKind::View => Ok(None),
        #[cfg(target_os = "linux")]
        AuthorityKind::File => {
            let unset = || AuthorityError("ownership.folder is not set; set it to a folder on a disk".to_owned());
            let folder = ownership.folder.as_deref().ok_or_else(unset)?;
            Ok(Some(Rc::new(FileAuthority::open(folder, claimant(config, generation)?)?)))
        }
        #[cfg(not(target_os = "linux"))]
        AuthorityKind::File => {
            let text = "ownership.authority is \"file\", which needs Linux; use \"etcd\" or \"view\"";
            Err(AuthorityError(text.to_owned()))
        }
        #[cfg(feature = "etcd")]
        AuthorityKind::Etcd => {
            let claimant = claimant(config, generation)?;
            Ok(Some(Rc::new(EtcdAuthority::new(&ownership.etcd, ownership.session_ttl, claimant)?)))
        }
        #[cfg(not(feature = "etcd"))]
        AuthorityKind::Etcd => {
            let text = "ownership.authority is \"etcd\" and this program was built without it; \
                        build it with the feature \"etcd\" of heartbeat-actors";
            Err(AuthorityError(text.to_owned()))
        }
        #[cfg(feature = "postgres")]
        AuthorityKind::Postgres => {
            let claimant = claimant(config, generation)?;
            Ok(Some(Rc::new(PostgresAuthority::new(&ownership.postgres, ownership.session_ttl, claimant)?)))
        }
        #[cfg(not(feature = "postgres"))]
        AuthorityKind::Postgres => {
            let text = "ownership.authority is \"postgres\" and this program was built without it; \
                        build it with the feature \"postgres\" of heartbeat-actors";
            Err(AuthorityError(text.to_owned()))
        }
    }
}

/// The name to claim under.
#[cfg(any(target_os = "linux", feature = "etcd", feature = "postgres"))]
fn claimant(config: &Config, generation: Generation) -> Result<Claimant, AuthorityError> {
    let Some(cluster) = &config.cluster else {
        let text = "ownership.authority is set and there is no [cluster] table; \
                    set cluster.name and cluster.node, under which shards are claimed";
        return Err(AuthorityError(text.to_owned()));
    };
    Ok(Claimant { cluster: (&*cluster.name).into(), node: (&*cluster.node).into(), generation })
}

/// Refuses more than may be asked at once.
#[cfg(any(target_os = "linux", feature = "testkit", feature = "etcd", feature = "postgres"))]
fn check(ask: &AuthorityRequest) -> Result<(), AuthorityError> {
    match ask {
        AuthorityRequest::Claim { shards, .. } | AuthorityRequest::Release { shards, .. }
            if shards.len() > CLAIMS_MAX =>
        {
            Err(AuthorityError(format!("{} shards are asked for at once; ask for at most {CLAIMS_MAX}", shards.len())))
        }
        AuthorityRequest::Open { .. }
        | AuthorityRequest::Renew { .. }
        | AuthorityRequest::Claim { .. }
        | AuthorityRequest::Release { .. }
        | AuthorityRequest::Evict { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the error for a config that names an authority which cannot be opened.
    #[track_caller]
    fn check(ownership: &str, cluster: &str, expected: &str) {
        let config = Config::from_toml(&format!("[ownership]\n{ownership}\n{cluster}")).unwrap();
        let error = open(&config, Generation(1)).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }

    const CLUSTER: &str =
        "[cluster]\nname = 'a'\nnode = 'b'\nrole = 'worker'\nmode = 'random'\nlisten = '127.0.0.1:0'\nseeds = []";
    #[cfg(not(feature = "etcd"))]
    const ETCD: &str = "authority = 'etcd'\netcd = { endpoints = ['http://127.0.0.1:1'] }";

    #[test]
    fn a_view_needs_no_authority() {
        assert!(open(&Config::default(), Generation(1)).unwrap().is_none());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn who_has_no_name_can_claim_nothing() {
        check("authority = 'file'\nfolder = 'never-made'", "", "there is no [cluster] table");
    }

    #[test]
    #[cfg(not(feature = "postgres"))]
    fn a_build_without_postgres_says_so() {
        let postgres = "authority = 'postgres'\npostgres = { hosts = ['127.0.0.1:1'], user = 'u', database = 'd' }";
        check(postgres, CLUSTER, "build it with the feature \"postgres\"");
    }

    #[test]
    #[cfg(not(feature = "etcd"))]
    fn a_build_without_etcd_says_so() {
        check(ETCD, CLUSTER, "build it with the feature \"etcd\"");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_folder_that_cannot_be_made_is_named() {
        check("authority = 'file'\nfolder = '/proc/never'", CLUSTER, "/proc/never");
    }
}
