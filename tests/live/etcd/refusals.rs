//! The errors when etcd cannot be used.

use std::net::TcpListener;
use std::rc::Rc;
use std::slice::from_ref;
use std::time::{Duration, Instant};

use etcd_client::{Client, PermissionType};
use heartbeat_actors::authority::{Authority, AuthorityRequest, AuthorityResponse, EtcdAuthority};
use heartbeat_actors::config::EtcdConfig;

use crate::servers::{Servers, free};
use crate::suite::{PATIENCE, claimant};
use crate::{alone, config, live};

/// Long enough for a server that is busy hashing passwords.
const TTL: Duration = Duration::from_secs(12);

async fn open(config: &EtcdConfig) -> Result<AuthorityResponse, String> {
    let authority = Rc::new(EtcdAuthority::new(config, TTL, claimant("c", "a", 1)).unwrap());
    let begun = Instant::now();
    let answer = authority.ask(AuthorityRequest::Open { ttl: TTL, previous: None }).await;
    assert!(begun.elapsed() < PATIENCE, "it takes a bounded time: {:?}", begun.elapsed());
    answer.map_err(|error| error.to_string())
}

/// The error for a node that wants a session there.
async fn check(config: &EtcdConfig, expected: &[&str]) {
    let error = open(config).await.unwrap_err();
    assert!(expected.iter().all(|part| error.contains(part)), "{error}");
}

#[test]
fn a_place_where_no_etcd_is_is_named() {
    let _alone = alone();
    live(async {
        let nobody = format!("http://{}", free());
        check(&config(from_ref(&nobody)), &[&nobody, "no process listens there", "refused"]).await;
        // A server that closes every connection.
        let rude = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", rude.local_addr().unwrap());
        actix_rt::spawn(async move {
            while let Ok((stream, _)) = rude.accept().await {
                drop(stream);
            }
        });
        check(&config(from_ref(&address)), &[&address, "is it an etcd"]).await;
        check(
            &config(&[nobody.clone(), address.clone()]),
            &[&nobody, "no process listens there", &address, "is it an etcd"],
        )
        .await;
    });
}

#[test]
fn a_place_that_answers_nothing_is_named() {
    let _alone = alone();
    live(async {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", silent.local_addr().unwrap());
        check(&config(from_ref(&address)), &[&address, "no answer within", "is it an etcd"]).await;
    });
}

#[test]
fn a_cluster_most_of_which_is_missing_says_so() {
    let _alone = alone();
    let servers = Servers::start_some(1, 3);
    live(async {
        let only = config(&servers.endpoints[..1]);
        let end = Instant::now() + PATIENCE;
        // It begins to listen in a while.
        loop {
            let error = open(&only).await.unwrap_err();
            if error.contains("most of its members there?") {
                break;
            }
            assert!(Instant::now() < end, "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

#[test]
fn whoever_may_not_is_told_what_to_set() {
    let _alone = alone();
    let servers = Servers::start(1);
    let with = |user: &str, password: &str| EtcdConfig {
        user: user.to_owned(),
        password: password.into(),
        ..config(&servers.endpoints)
    };
    live(async {
        check(
            &with("root", "secret"),
            &[&servers.endpoints[0], "it asks for no user", "leave ownership.etcd.user empty"],
        )
        .await;
        let mut admin = Client::connect(&servers.endpoints, None).await.unwrap();
        for (user, password, role) in
            [("root", "secret", "root"), ("orders", "sesame", "orders"), ("guest", "guest", "guest")]
        {
            admin.role_add(role).await.unwrap();
            admin.user_add(user, password, None).await.unwrap();
            admin.user_grant_role(user, role).await.unwrap();
        }
        let all = etcd_client::Permission::new(PermissionType::Readwrite, "/heartbeat/").with_prefix();
        admin.role_grant_permission("orders", all).await.unwrap();
        admin.auth_enable().await.unwrap();
        check(&with("", ""), &[&servers.endpoints[0], "it asks for a user", "set ownership.etcd.user"]).await;
        check(&with("root", "wrong"), &["it does not know this user or password"]).await;
        check(&with("nobody", "secret"), &["it does not know this user or password"]).await;
        check(&with("guest", "guest"), &["the user may not do that", "ownership.etcd.prefix"]).await;
        assert!(matches!(open(&with("orders", "sesame")).await, Ok(AuthorityResponse::Opened { .. })));
    });
}
