//! The authority in etcd, against real servers on loopback, which are killed and stopped while
//! nodes hold shards.
//!
//! These tests end each process they start, by its id, also when they fail. They run one after the
//! other, since most of them measure time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "../authority/certificates.rs"]
mod certificates;
mod faults;
mod late;
mod nodes;
#[path = "../authority/process.rs"]
mod process;
mod refusals;
mod servers;
#[path = "../authority/suite.rs"]
mod suite;
mod tls;

use std::future::Future;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heartbeat_actors::authority::{Authority, EtcdAuthority};
use heartbeat_actors::config::EtcdConfig;

use servers::Servers;

/// The shortest that etcd has.
const TTL: Duration = Duration::from_secs(2);

/// Runs a test within an actix system of its own.
fn live<F: Future<Output = ()>>(test: F) {
    actix::System::new().block_on(async {
        tokio::time::timeout(suite::PATIENCE * 5, Box::pin(test)).await.expect("the test hangs");
    });
}

/// Lets one test run at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn config(endpoints: &[String]) -> EtcdConfig {
    EtcdConfig { endpoints: endpoints.to_vec(), prefix: "/heartbeat".to_owned(), ..EtcdConfig::default() }
}

fn authority(endpoints: &[String], ttl: Duration, node: &str, generation: u64) -> Rc<EtcdAuthority> {
    Rc::new(EtcdAuthority::new(&config(endpoints), ttl, suite::claimant("c", node, generation)).unwrap())
}

#[test]
fn etcd_passes() {
    let _alone = alone();
    for members in [1, 3] {
        let servers = Servers::start(members);
        let open =
            async |node: &str, generation| authority(&servers.endpoints, TTL, node, generation) as Rc<dyn Authority>;
        live(suite::suite(open, TTL));
    }
}
