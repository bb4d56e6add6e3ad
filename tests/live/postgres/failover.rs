//! A standby takes the place of its primary, with and without the last commits.

use std::time::{Duration, Instant};

use heartbeat_actors::authority::{AuthorityRequest, AuthorityResponse};
use heartbeat_actors::shard::Epoch;
use nix::sys::signal::Signal;

use crate::servers::{Server, USER};
use crate::suite::{Node, PATIENCE, shards};
use crate::{alone, authority, live, open_error};

/// Long enough for a promotion on a busy machine.
const TTL: Duration = Duration::from_secs(6);

/// Waits until the standby has all that the primary has.
fn catch_up(primary: &Server, standby: &Server) {
    let begun = Instant::now();
    let of_both = "SELECT coalesce(sum(version), 0)::bigint + count(*) FROM heartbeat.sessions";
    while primary.number(of_both) != standby.number(of_both) {
        assert!(begun.elapsed() < PATIENCE, "the standby does not catch up");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_standby_without_the_last_grants_gives_none_away() {
    let _alone = alone();
    let mut primary = Server::start(&[]);
    live(async {
        let hosts = |standby: &Server| [primary.host.clone(), standby.host.clone()];
        let first = Node::open(authority(&[&primary.host], TTL, "first", 1), TTL).await;
        let mut standby = primary.standby();
        let [one, two] = hosts(&standby);
        let a = Node::open(authority(&[&one, &two], TTL, "a", 1), TTL).await;
        catch_up(&primary, &standby);
        // What follows is in the primary alone.
        standby.kill();
        let shard = shards("orders", [0]);
        let lost = a.granted(&shard).await[0];
        primary.kill();
        standby.restart();
        standby.promote();
        let promoted = Instant::now();
        let b = Node::open(authority(&[&one, &two], TTL, "b", 1), TTL).await;
        let claim = AuthorityRequest::Claim { session: b.session, shards: shard.clone(), floor: Epoch(0) };
        let refused = b.authority.clone().ask(claim.clone()).await.unwrap_err().to_string();
        assert!(refused.contains("another primary") && refused.contains("until the sessions"), "{refused}");
        // The session is there, and its grant is not.
        assert_eq!(a.renew().await, AuthorityResponse::Gone);
        let claim_of_a = AuthorityRequest::Claim { session: a.session, shards: shard.clone(), floor: Epoch(0) };
        assert_eq!(a.ask(claim_of_a).await, AuthorityResponse::Gone);
        let granted = b.meanwhile(async {
            loop {
                match b.authority.clone().ask(claim.clone()).await {
                    Ok(_) => break b.granted(&shard).await[0],
                    Err(_) => tokio::time::sleep(TTL / 20).await,
                }
            }
        });
        let granted = granted.await;
        assert!(promoted.elapsed() >= TTL, "granted after {:?}", promoted.elapsed());
        assert!(granted > lost, "{granted:?} after {lost:?}");
        drop(first);
    });
}

#[test]
fn a_session_of_which_nothing_is_lost_outlives_the_primary() {
    let _alone = alone();
    let mut primary = Server::start(&[]);
    live(async {
        drop(Node::open(authority(&[&primary.host], TTL, "first", 1), TTL).await);
        let standby = primary.standby();
        let a = Node::open(authority(&[&primary.host, &standby.host], TTL, "a", 1), TTL).await;
        let shard = shards("orders", [0]);
        let epoch = a.granted(&shard).await;
        catch_up(&primary, &standby);
        primary.kill();
        standby.promote();
        assert_eq!(a.renew().await, AuthorityResponse::Renewed);
        assert_eq!(a.granted(&shard).await, epoch);
        a.release(&shard).await;
        let numbers = standby.number("SELECT count(*) FROM heartbeat.shards WHERE session IS NULL");
        assert_eq!((numbers, standby.number("SELECT count(*) FROM heartbeat.stores")), (1, 1));
    });
}

#[test]
fn a_standby_and_a_former_primary_are_not_used() {
    let _alone = alone();
    let mut primary = Server::start(&[]);
    live(async {
        let a = authority(&[&primary.host], TTL, "a", 1);
        drop(Node::open(a, TTL).await);
        let standby = primary.standby();
        let error = open_error(authority(&[&standby.host], TTL, "a", 1), TTL).await;
        assert!(error.contains("it is a standby"), "{error}");
        primary.kill();
        standby.promote();
        let b = Node::open(authority(&[&primary.host, &standby.host], TTL, "b", 1), TTL).await;
        // The former primary comes back as one, and the present one is away.
        primary.restart();
        standby.signal(Signal::SIGSTOP);
        let error = b.authority.clone().ask(AuthorityRequest::Renew { session: b.session }).await.unwrap_err();
        standby.signal(Signal::SIGCONT);
        assert!(error.to_string().contains("it is a former primary, on timeline 1"), "{error}");
        assert_eq!(b.renew().await, AuthorityResponse::Renewed);
        assert_eq!(primary.number("SELECT count(*) FROM heartbeat.sessions WHERE node = 'b'"), 0, "{USER}");
    });
}
