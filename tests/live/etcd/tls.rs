//! TLS to etcd: certificates that fit, that do not, and that change.

use std::rc::Rc;
use std::time::{Duration, Instant};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, PermissionType, TlsOptions};
use heartbeat_actors::authority::{Authority, AuthorityRequest, AuthorityResponse, EtcdAuthority};
use heartbeat_actors::config::EtcdConfig;

use crate::certificates::{Ca, Folder, LATER, Pair, half, shown};
use crate::servers::Servers;
use crate::suite::{Node, PATIENCE, claimant, shards, suite};
use crate::{TTL, alone, config, live};

/// Long enough for a server that is busy hashing passwords.
const LONG: Duration = Duration::from_secs(12);

fn start(folder: &Folder, pair: &Pair, ca: &Ca) -> Servers {
    let (certificate, key) = folder.write_pair("server", pair, None);
    let ca = folder.write("clients.pem", &ca.certificate, None);
    Servers::start_tls(&certificate, &key, &ca)
}

/// A node with a CA and a certificate of its own.
fn node(servers: &Servers, folder: &Folder, ca: &Ca, pair: &Pair) -> EtcdConfig {
    let (certificate, key) = folder.write_pair("node", pair, None);
    let ca = folder.write("ca.pem", &ca.certificate, None);
    EtcdConfig { ca: Some(ca), certificate: Some(certificate), key: Some(key), ..config(&servers.endpoints) }
}

fn authority(config: &EtcdConfig, name: &str, generation: u64, ttl: Duration) -> Result<Rc<EtcdAuthority>, String> {
    let authority = EtcdAuthority::new(config, ttl, claimant("c", name, generation));
    authority.map(Rc::new).map_err(|error| error.to_string())
}

async fn open(config: &EtcdConfig) -> Result<AuthorityResponse, String> {
    let authority = authority(config, "a", 1, LONG)?;
    authority.ask(AuthorityRequest::Open { ttl: LONG, previous: None }).await.map_err(|error| error.to_string())
}

async fn check(config: &EtcdConfig, expected: &[&str]) {
    let error = open(config).await.unwrap_err();
    assert!(expected.iter().all(|part| error.contains(part)), "{error}");
}

/// Waits until the server answers.
async fn wait(config: &EtcdConfig) {
    let end = Instant::now() + PATIENCE;
    while let Err(error) = open(config).await {
        assert!(Instant::now() < end, "{error}");
    }
}

#[test]
fn etcd_with_tls_passes() {
    let _alone = alone();
    let (folder, ca) = (Folder::new(), Ca::new("one"));
    let servers = start(&folder, &ca.sign("127.0.0.1", LATER), &ca);
    let config = node(&servers, &folder, &ca, &ca.sign("a", LATER));
    live(wait(&config));
    let open = async |name: &str, generation| authority(&config, name, generation, TTL).unwrap() as Rc<dyn Authority>;
    live(suite(open, TTL));
}

#[test]
fn certificates_that_do_not_fit_are_named() {
    let _alone = alone();
    let (folder, ca, other) = (Folder::new(), Ca::new("one"), Ca::new("two"));
    let client = ca.sign("a", LATER);
    let servers = start(&folder, &ca.sign("127.0.0.1", LATER), &ca);
    live(async {
        let fits = node(&servers, &folder, &ca, &client);
        wait(&fits).await;
        let alone = EtcdConfig { certificate: None, key: None, ..fits.clone() };
        check(&alone, &[&servers.endpoints[0], "it refuses our certificate", "ownership.etcd.certificate"]).await;
        let plain = servers.endpoints[0].replace("https", "http");
        check(&config(std::slice::from_ref(&plain)), &[&plain, "is it an etcd"]).await;
        check(&node(&servers, &folder, &ca, &other.sign("a", LATER)), &["it refuses our certificate"]).await;
        check(&node(&servers, &folder, &ca, &ca.sign("a", 2020)), &["it refuses our certificate"]).await;
        check(&node(&servers, &folder, &other, &client), &["its certificate is of another CA"]).await;
    });
    for (pair, expected) in [
        (ca.sign("127.0.0.1", 2020), "its certificate has expired"),
        (ca.sign("other.example", LATER), "its certificate is for another name"),
    ] {
        let servers = start(&folder, &pair, &ca);
        live(async {
            let config = node(&servers, &folder, &ca, &client);
            let end = Instant::now() + PATIENCE;
            // It begins to listen in a while.
            loop {
                let error = open(&config).await.unwrap_err();
                if error.contains(expected) {
                    break;
                }
                assert!(Instant::now() < end, "{error}");
            }
        });
    }
    let plain = Servers::start(1);
    let https = [plain.endpoints[0].replace("http", "https")];
    live(async {
        let config = EtcdConfig { endpoints: https.to_vec(), ..node(&plain, &folder, &ca, &client) };
        check(&config, &["does it speak TLS there?"]).await;
    });
}

#[test]
fn files_half_written_change_nothing_and_new_ones_are_read() {
    let _alone = alone();
    let (folder, ca, next) = (Folder::new(), Ca::new("one"), Ca::new("two"));
    let client = ca.sign("a", LATER);
    let mut servers = start(&folder, &ca.sign("127.0.0.1", LATER), &ca);
    live(async {
        let fits = node(&servers, &folder, &ca, &client);
        wait(&fits).await;
        let a = Node::open(authority(&fits, "a", 1, LONG).unwrap(), LONG).await;
        for (name, text) in [("ca.pem", &ca.certificate), ("node.pem", &client.certificate), ("node.key", &client.key)]
        {
            let path = folder.write(name, half(text), None);
            check(&fits, &[&shown(&path), "holds no whole"]).await;
            node(&servers, &folder, &ca, &client);
        }
        folder.write("ca.pem", half(&ca.certificate), None);
        // Who has read them before goes on with what it has, also over a new connection.
        servers.kill(0);
        servers.restart(0);
        renewed(&a).await;
        // All certificates are replaced.
        servers.kill(0);
        folder.write_pair("server", &next.sign("127.0.0.1", LATER), None);
        folder.write("clients.pem", &next.certificate, None);
        servers.restart(0);
        node(&servers, &folder, &next, &next.sign("a", LATER));
        renewed(&a).await;
        a.granted(&shards("orders", [0])).await;
    });
}

/// Renews, as soon as the server answers.
async fn renewed(node: &Node) {
    let end = Instant::now() + PATIENCE;
    loop {
        match node.authority.clone().ask(AuthorityRequest::Renew { session: node.session }).await {
            Ok(answer) => break assert_eq!(answer, AuthorityResponse::Renewed),
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    }
}

#[test]
fn a_password_goes_through_tls() {
    let _alone = alone();
    let (folder, ca) = (Folder::new(), Ca::new("one"));
    let client = ca.sign("a", LATER);
    let servers = start(&folder, &ca.sign("127.0.0.1", LATER), &ca);
    live(async {
        let fits = node(&servers, &folder, &ca, &client);
        wait(&fits).await;
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(&ca.certificate))
            .identity(Identity::from_pem(&client.certificate, &client.key));
        let options = ConnectOptions::new().with_tls(tls);
        let mut admin = Client::connect(&servers.endpoints, Some(options)).await.unwrap();
        for (user, role) in [("root", "root"), ("orders", "orders")] {
            admin.role_add(role).await.unwrap();
            admin.user_add(user, "sesame", None).await.unwrap();
            admin.user_grant_role(user, role).await.unwrap();
        }
        let all = etcd_client::Permission::new(PermissionType::Readwrite, "/heartbeat/").with_prefix();
        admin.role_grant_permission("orders", all).await.unwrap();
        admin.auth_enable().await.unwrap();
        let password = folder.write("password", "sesame\n", None);
        let with = |password: String| EtcdConfig {
            user: "orders".to_owned(),
            password: password.as_str().into(),
            ..fits.clone()
        };
        check(&with("wrong".to_owned()), &["it does not know this user or password"]).await;
        check(&with("file:/no/such".to_owned()), &["ownership.etcd.password names the file"]).await;
        open(&with(format!("file:{}", password.display()))).await.unwrap();
    });
}
