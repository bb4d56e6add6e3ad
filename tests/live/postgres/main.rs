//! The authority in PostgreSQL, against real servers on loopback, which are killed, stopped and
//! replaced while nodes hold shards.
//!
//! These tests end each process they start, by its id, also when they fail. They run one after the
//! other, since most of them measure time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "../authority/certificates.rs"]
mod certificates;
mod failover;
mod faults;
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

use heartbeat_actors::authority::{Authority, AuthorityRequest, PostgresAuthority};
use heartbeat_actors::config::PostgresConfig;

use servers::{PASSWORD, Server, USER};

/// A call that takes longer than a sixth of it fails, also on a busy machine.
const TTL: Duration = Duration::from_secs(3);

/// Runs a test within an actix system of its own.
fn live<F: Future<Output = ()>>(test: F) {
    actix::System::new().block_on(async {
        tokio::time::timeout(suite::PATIENCE * 3, Box::pin(test)).await.expect("the test hangs");
    });
}

/// Lets one test run at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn config(hosts: &[&str]) -> PostgresConfig {
    PostgresConfig {
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        user: USER.to_owned(),
        password: PASSWORD.into(),
        database: USER.to_owned(),
        schema: "heartbeat".to_owned(),
        ..PostgresConfig::default()
    }
}

fn authority(hosts: &[&str], ttl: Duration, node: &str, generation: u64) -> Rc<PostgresAuthority> {
    Rc::new(PostgresAuthority::new(&config(hosts), ttl, suite::claimant("c", node, generation)).unwrap())
}

/// Why no session begins.
async fn open_error(authority: Rc<PostgresAuthority>, ttl: Duration) -> String {
    let answer = authority.ask(AuthorityRequest::Open { ttl, previous: None }).await;
    answer.expect_err("a session has begun").to_string()
}

#[test]
fn postgres_passes() {
    let _alone = alone();
    let server = Server::start(&[]);
    let open = async |node: &str, generation| authority(&[&server.host], TTL, node, generation) as Rc<dyn Authority>;
    live(suite::suite(open, TTL));
}
