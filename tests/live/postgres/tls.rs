//! TLS to PostgreSQL: certificates that fit, that do not, and that change.

use std::rc::Rc;
use std::time::Duration;

use heartbeat_actors::authority::{AuthorityResponse, PostgresAuthority};
use heartbeat_actors::config::PostgresConfig;

use crate::certificates::{Ca, Folder, LATER, Pair, half, shown};
use crate::servers::{ADMIN, Server, other_user};
use crate::suite::{Node, claimant, shards};
use crate::{alone, config, live, open_error};

const TTL: Duration = Duration::from_secs(6);

/// Which certificates a server has.
fn start(folder: &Folder, pair: &Pair, ca: &Ca) -> Server {
    let (certificate, key) = folder.write_pair("server", pair, other_user());
    let ca = folder.write("clients.pem", &ca.certificate, other_user());
    // The administrator of the tests comes without TLS, and nodes may not.
    let rules = format!(
        "hostnossl all {ADMIN} 127.0.0.1/32 scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
    );
    let rules = folder.write("rules.conf", &rules, other_user());
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&folder.0, permissions).unwrap();
    let settings = [
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", certificate.display()),
        format!("ssl_key_file={}", key.display()),
        format!("ssl_ca_file={}", ca.display()),
        format!("hba_file={}", rules.display()),
    ];
    Server::start(&settings.each_ref().map(String::as_str))
}

/// A node with a CA and a certificate of its own.
fn node(host: &str, folder: &Folder, ca: &Ca, pair: &Pair) -> PostgresConfig {
    let (certificate, key) = folder.write_pair("node", pair, None);
    let ca = folder.write("ca.pem", &ca.certificate, None);
    PostgresConfig { ca: Some(ca), certificate: Some(certificate), key: Some(key), ..config(&[host]) }
}

fn authority(config: &PostgresConfig) -> Result<Rc<PostgresAuthority>, String> {
    let authority = PostgresAuthority::new(config, TTL, claimant("c", "a", 1));
    authority.map(Rc::new).map_err(|error| error.to_string())
}

async fn check(config: &PostgresConfig, expected: &[&str]) {
    let error = match authority(config) {
        Ok(authority) => open_error(authority, TTL).await,
        Err(error) => error,
    };
    assert!(expected.iter().all(|part| error.contains(part)), "{error}");
}

#[test]
fn certificates_that_do_not_fit_are_named() {
    let _alone = alone();
    let (folder, ca, other) = (Folder::new(), Ca::new("one"), Ca::new("two"));
    let (server, client) = (ca.sign("127.0.0.1", LATER), ca.sign("a", LATER));
    let running = start(&folder, &server, &ca);
    live(async {
        let fits = node(&running.host, &folder, &ca, &client);
        let a = Node::open(authority(&fits).unwrap(), TTL).await;
        a.granted(&shards("orders", [0])).await;
        assert_eq!(a.renew().await, AuthorityResponse::Renewed);

        let ca_only = PostgresConfig { certificate: None, key: None, ..fits.clone() };
        check(&ca_only, &["does not let user \"orders\" in", "requires a valid client certificate"]).await;
        let plain = PostgresConfig { ca: None, ..ca_only.clone() };
        check(&plain, &["does not let user \"orders\" in", "no encryption"]).await;
        let stranger = node(&running.host, &folder, &ca, &other.sign("a", LATER));
        check(&stranger, &["it refuses our certificate", "ownership.postgres.certificate"]).await;
        let expired = node(&running.host, &folder, &ca, &ca.sign("a", 2020));
        check(&expired, &["it refuses our certificate"]).await;
        let other_ca = node(&running.host, &folder, &other, &client);
        check(&other_ca, &["its certificate is of another CA", "ownership.postgres.ca"]).await;
    });
}

#[test]
fn a_server_with_a_bad_certificate_or_none_is_refused() {
    let _alone = alone();
    let (folder, ca) = (Folder::new(), Ca::new("one"));
    let client = ca.sign("a", LATER);
    for (pair, expected) in [
        (ca.sign("127.0.0.1", 2020), "its certificate has expired"),
        (ca.sign("other.example", LATER), "its certificate is for another name"),
    ] {
        let running = start(&folder, &pair, &ca);
        live(check(&node(&running.host, &folder, &ca, &client), &[expected]));
    }
    let plain = Server::start(&[]);
    live(check(&node(&plain.host, &folder, &ca, &client), &["it has no TLS and ownership.postgres.ca asks for it"]));
}

#[test]
fn files_half_written_are_named_and_change_nothing() {
    let _alone = alone();
    let (folder, ca, next) = (Folder::new(), Ca::new("one"), Ca::new("two"));
    let (pair, client) = (ca.sign("127.0.0.1", LATER), ca.sign("a", LATER));
    let mut running = start(&folder, &pair, &ca);
    live(async {
        let fits = node(&running.host, &folder, &ca, &client);
        let a = Node::open(authority(&fits).unwrap(), TTL).await;
        for (name, text, expected) in [
            ("ca.pem", &ca.certificate, "holds no whole certificate"),
            ("node.pem", &client.certificate, "holds no whole certificate"),
            ("node.key", &client.key, "holds no whole key"),
            ("node.key", &ca.sign("b", LATER).key, "do not fit together"),
        ] {
            let is_whole = expected == "do not fit together";
            let path = folder.write(name, if is_whole { text } else { half(text) }, None);
            let file = if is_whole { "ownership.postgres.key".to_owned() } else { shown(&path) };
            check(&fits, &[&file, expected]).await;
            // Who has read them before goes on with what it has, also over a new connection.
            running.kill();
            running.restart();
            assert_eq!(a.renew().await, AuthorityResponse::Renewed, "{name}");
            node(&running.host, &folder, &ca, &client);
        }
        std::fs::remove_file(folder.path("ca.pem")).unwrap();
        check(&fits, &["ca.pem", "cannot be read"]).await;

        // All certificates are replaced.
        let (pair, client) = (next.sign("127.0.0.1", LATER), next.sign("a", LATER));
        running.kill();
        folder.write_pair("server", &pair, other_user());
        folder.write("clients.pem", &next.certificate, other_user());
        running.restart();
        node(&running.host, &folder, &next, &client);
        assert_eq!(a.renew().await, AuthorityResponse::Renewed);
    });
}
