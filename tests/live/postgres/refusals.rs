//! The errors when PostgreSQL cannot be used.

use std::rc::Rc;
use std::time::{Duration, Instant};

use heartbeat_actors::authority::{AuthorityResponse, PostgresAuthority};
use heartbeat_actors::config::PostgresConfig;

use crate::servers::{PASSWORD, Pooler, Server, USER, free};
use crate::suite::{Node, PATIENCE, claimant};
use crate::{alone, config, live, open_error};

const TTL: Duration = Duration::from_secs(6);

/// The error for a node that wants a session there.
async fn refusal(config: &PostgresConfig) -> String {
    let begun = Instant::now();
    let error = match PostgresAuthority::new(config, TTL, claimant("c", "a", 1)) {
        Ok(authority) => open_error(Rc::new(authority), TTL).await,
        Err(error) => error.to_string(),
    };
    assert!(begun.elapsed() < PATIENCE, "it takes a bounded time: {:?}", begun.elapsed());
    error
}

async fn check(config: &PostgresConfig, expected: &[&str]) -> String {
    let error = refusal(config).await;
    assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    assert!(!error.contains(PASSWORD), "{error}");
    error
}

async fn check_opens(config: &PostgresConfig) {
    let authority = Rc::new(PostgresAuthority::new(config, TTL, claimant("c", "a", 1)).unwrap());
    let node = Node::open(authority, TTL).await;
    assert_eq!(node.renew().await, AuthorityResponse::Renewed);
}

#[test]
fn a_place_without_postgres_is_named() {
    let _alone = alone();
    live(async {
        let nobody = free().to_string();
        check(&config(&[&nobody]), &[&nobody, "no process listens there", "refused"]).await;
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap().to_string();
        check(&config(&[&address, &nobody]), &[&address, "no answer within", &nobody, "no process"]).await;
        let rude = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = rude.local_addr().unwrap().to_string();
        actix_rt::spawn(async move {
            use tokio::io::AsyncWriteExt;
            while let Ok((mut stream, _)) = rude.accept().await {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await; // It may be gone.
            }
        });
        check(&config(&[&address]), &[&address, "is it a PostgreSQL?"]).await;
    });
}

#[test]
fn a_user_who_may_not_is_given_the_statements() {
    let _alone = alone();
    let server = Server::start(&[]);
    server.admin(&format!("CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'; CREATE DATABASE other"));
    let with = |user: &str, password: &str, database: &str| PostgresConfig {
        user: user.to_owned(),
        password: password.into(),
        database: database.to_owned(),
        ..config(&[&server.host])
    };
    live(async {
        let host = &*server.host;
        check(&with(USER, "wrong", USER), &[host, "does not know user \"orders\" with this password"]).await;
        check(&with("nobody", PASSWORD, USER), &["does not know user \"nobody\""]).await;
        check(&with(USER, "", USER), &["asks for a password; set ownership.postgres.password"]).await;
        check(&with(USER, PASSWORD, "none"), &["no database \"none\"", "CREATE DATABASE \"none\""]).await;
        check(&with(USER, "env:HEARTBEAT_NO_SUCH", USER), &["names the variable \"HEARTBEAT_NO_SUCH\""]).await;
        check(&with(USER, "file:/no/such", USER), &["names the file \"/no/such\""]).await;
        let guest = with("guest", PASSWORD, "other");
        let error =
            check(&guest, &["user \"guest\" may not do that", "CREATE SCHEMA IF NOT EXISTS \"heartbeat\""]).await;
        // What the error says helps.
        server.admin_in("other", error.split_once("run: ").unwrap().1);
        check_opens(&guest).await;
        // Tables of another user.
        check_opens(&with(USER, PASSWORD, USER)).await;
        let guest = with("guest", PASSWORD, USER);
        let error = check(&guest, &["may not do that"]).await;
        server.admin_in(USER, error.split_once("run: ").unwrap().1);
        check_opens(&guest).await;
    });
}

#[test]
fn a_full_disk_is_named_and_passes() {
    let _alone = alone();
    let server = Server::start(&[]);
    live(async {
        check_opens(&config(&[&server.host])).await;
        // The error of a full disk, raised by a trigger: a disk that is full stops the whole
        // server.
        let raise = "CREATE FUNCTION heartbeat.full() RETURNS trigger LANGUAGE plpgsql AS \
            'BEGIN RAISE EXCEPTION USING ERRCODE = ''53100'', MESSAGE = ''could not extend file''$ END';\
            CREATE TRIGGER full_disk BEFORE INSERT ON heartbeat.sessions EXECUTE FUNCTION heartbeat.full()";
        server.admin_in(USER, raise);
        check(&config(&[&server.host]), &["its disk is full, could not extend file; make room there"]).await;
        server.admin_in(USER, "DROP TRIGGER full_disk ON heartbeat.sessions");
        check_opens(&config(&[&server.host])).await;
    });
}

#[test]
fn a_pooler_has_to_be_in_session_mode() {
    let _alone = alone();
    let server = Server::start(&[]);
    live(async {
        for (mode, connections) in [("transaction", 20), ("transaction", 1), ("statement", 20)] {
            let pooler = Pooler::start(&server, mode, connections);
            let expected = ["a pooler in transaction mode is in between", "set pool_mode = session there"];
            check(&config(&[&pooler.host]), &expected).await;
        }
        check_opens(&config(&[&Pooler::start(&server, "session", 20).host])).await;
    });
}
