//! A server that is killed and stopped, and holders that are, while nodes hold shards.

use std::time::{Duration, Instant};

use heartbeat_actors::authority::{AuthorityRequest, AuthorityResponse, Claimed};
use nix::sys::signal::Signal;
use tempfile::NamedTempFile;

use crate::process::Process;
use crate::servers::{ADMIN, PASSWORD, Server, USER, connect, signal_process};
use crate::suite::{Node, PATIENCE, shards};
use crate::{TTL, alone, authority, live};

/// Of which a sixth, the time of one call, is a second.
const LONG: Duration = Duration::from_secs(6);

/// A process that is stopped loses its shards `ttl` after its last renewal.
const TAKEOVER_MAX: Duration = Duration::from_millis(500);

async fn open(server: &Server, ttl: Duration, node: &str) -> Node {
    Node::open(authority(&[&server.host], ttl, node, 1), ttl).await
}

fn is_held(claimed: &[Claimed], name: &str) -> bool {
    claimed.iter().all(|claimed| matches!(claimed, Claimed::Held { by } if &**by == name))
}

#[test]
fn a_stopped_holder_is_replaced_within_ttl_and_half_a_second() {
    let _alone = alone();
    let server = Server::start(&[]);
    let (ttl, file) = (Duration::from_secs(2), NamedTempFile::with_prefix("heartbeat-postgres-").unwrap());
    let text = format!(
        "[ownership]\nauthority = 'postgres'\nsession_ttl = '2s'\n[ownership.postgres]\nhosts = ['{}']\nuser = '{USER}'\n\
         password = '{PASSWORD}'\ndatabase = '{USER}'\n\
         [cluster]\nname = 'c'\nnode = 'stopped'\nrole = 'worker'\nmode = 'random'\nlisten = '127.0.0.1:0'\nseeds = []\n",
        server.host
    );
    std::fs::write(&file, text).unwrap();
    let mut stopped = Process::start(file.path(), 1);
    let epoch = stopped.ask("claim orders 0 1")[0].as_u64().unwrap();
    live(async {
        let a = open(&server, ttl, "a").await;
        let shard = shards("orders", [0]);
        assert!(is_held(&a.claim(&shard).await, "stopped"));
        stopped.signal(Signal::SIGSTOP);
        let begun = Instant::now();
        a.meanwhile(async {
            while is_held(&a.claim(&shard).await, "stopped") {
                a.authority.clone().freed().await;
            }
        })
        .await;
        let taken_over = begun.elapsed();
        println!("the shard of a stopped process with a ttl of 2s taken over after {taken_over:.2?}");
        assert!(taken_over < ttl + TAKEOVER_MAX, "{taken_over:?}");
        assert!(a.granted(&shard).await[0].0 > epoch);
    });
}

#[test]
fn a_killed_server_that_restarts_has_lost_nothing() {
    let _alone = alone();
    let mut server = Server::start(&[]);
    live(async {
        let a = open(&server, LONG, "a").await;
        let b = open(&server, LONG, "b").await;
        let shard = shards("orders", [0]);
        let epoch = a.granted(&shard).await;
        server.kill();
        let error = b.authority.clone().ask(AuthorityRequest::Renew { session: b.session }).await.unwrap_err();
        assert!(error.to_string().contains("no process listens there"), "{error}");
        server.restart();
        assert_eq!(b.renew().await, AuthorityResponse::Renewed);
        assert_eq!(a.renew().await, AuthorityResponse::Renewed);
        assert!(is_held(&b.claim(&shard).await, "a"));
        assert_eq!(a.granted(&shard).await, epoch);
        a.release(&shard).await;
        assert!(b.granted(&shard).await > epoch);
    });
}

#[test]
fn a_server_paused_past_the_ttl_has_ended_the_sessions() {
    let _alone = alone();
    let server = Server::start(&[]);
    live(async {
        let a = open(&server, TTL, "a").await;
        let shard = shards("orders", [0]);
        let epoch = a.granted(&shard).await;
        server.signal(Signal::SIGSTOP);
        let begun = Instant::now();
        let error = a.authority.clone().ask(AuthorityRequest::Renew { session: a.session }).await.unwrap_err();
        assert!(error.to_string().contains("no answer within"), "{error}");
        assert!(begun.elapsed() < PATIENCE / 4, "it takes a bounded time: {:?}", begun.elapsed());
        tokio::time::sleep((TTL + Duration::from_millis(100)).saturating_sub(begun.elapsed())).await;
        server.signal(Signal::SIGCONT);
        let b = Node::open(authority(&[&server.host], LONG, "b", 1), LONG).await;
        // A renewal that was sent before the pause may have arrived at its end.
        while a.renew().await != AuthorityResponse::Gone {
            tokio::time::sleep(TTL + Duration::from_millis(100)).await;
        }
        assert!(b.granted(&shard).await > epoch);
    });
}

/// Stops the server's process of each connection that a node has, does something, and lets them go
/// on.
async fn late<T>(server: &Server, work: impl Future<Output = T>, since: impl Future<Output = ()>) -> T {
    let processes = server.connections();
    processes.iter().for_each(|process| signal_process(*process, Signal::SIGSTOP));
    let done = work.await;
    since.await;
    processes.iter().for_each(|process| signal_process(*process, Signal::SIGCONT));
    // They carry out what they have received, and end, since their clients are gone.
    let begun = Instant::now();
    while server.connections().iter().any(|process| processes.contains(process)) {
        assert!(begun.elapsed() < PATIENCE, "a process of the server does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    done
}

#[test]
fn a_late_release_takes_no_shard_claimed_since() {
    let _alone = alone();
    let server = Server::start(&[]);
    live(async {
        let a = open(&server, LONG, "a").await;
        let shard = shards("orders", [0]);
        let first = a.granted(&shard).await;
        let second = std::cell::RefCell::new(Vec::new());
        late(&server, a.release(&shard), async { *second.borrow_mut() = a.granted(&shard).await }).await;
        assert!(*second.borrow() > first, "it was released by the second attempt");
        let b = open(&server, LONG, "b").await;
        assert!(is_held(&b.claim(&shard).await, "a"));
        assert_eq!(a.granted(&shard).await, *second.borrow());
    });
}

#[test]
fn a_late_claim_takes_no_shard_released_since() {
    let _alone = alone();
    let server = Server::start(&[]);
    live(async {
        let a = open(&server, LONG, "a").await;
        let shard = shards("orders", [0]);
        late(&server, a.granted(&shard), a.release(&shard)).await;
        let b = open(&server, LONG, "b").await;
        b.granted(&shard).await;
    });
}

#[test]
fn a_statement_can_compare_the_epoch_with_the_table() {
    let _alone = alone();
    let server = Server::start(&[]);
    live(async {
        let a = open(&server, LONG, "a").await;
        let epoch = a.granted(&shards("orders", [3])).await[0].0 as i64;
        server.admin_in(USER, "CREATE TABLE totals AS SELECT 1 AS id, 0 AS total");
        let client = connect(&server.host, ADMIN, USER).await.unwrap();
        // The statement of the book.
        let statement = "UPDATE totals SET total = total + 1 WHERE id = 1 AND $1 = (SELECT epoch FROM heartbeat.shards \
            WHERE cluster = 'c' AND shard_group = 'orders' AND shard_index = 3 AND session IS NOT NULL FOR SHARE)";
        let write = async |epoch: i64| client.execute(statement, &[&epoch]).await.unwrap();
        assert_eq!((write(epoch).await, write(epoch - 1).await, write(epoch + 1).await), (1, 0, 0));
        a.release(&shards("orders", [3])).await;
        assert_eq!(write(epoch).await, 0, "it was given back");
    });
}

#[test]
fn a_session_ended_without_a_notification_is_noticed() {
    let _alone = alone();
    let server = Server::start(&[]);
    live(async {
        let a = open(&server, PATIENCE, "a").await;
        let b = open(&server, PATIENCE, "b").await;
        let shard = shards("orders", [0]);
        a.granted(&shard).await;
        b.authority.clone().freed().await;
        let waiting = tokio::time::timeout(Duration::from_millis(300), b.authority.clone().freed());
        assert!(waiting.await.is_err(), "nothing was freed");
        server.admin_in(USER, "DELETE FROM heartbeat.sessions WHERE node = 'a'");
        b.authority.clone().freed().await;
        b.granted(&shard).await;
        assert_eq!(a.renew().await, AuthorityResponse::Gone);
    });
}
