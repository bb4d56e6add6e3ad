//! Nodes whose addresses are of either version of IP, on loopback.

use heartbeat_actors::{Config, Node};

use crate::{free, live};

/// Where both nodes listen, which address they announce, and how the second one names the first.
const LAYOUTS: [(&str, &str, &str); 7] = [
    ("[::1]", "[::1]", "[::1]"),
    ("[::]", "[::1]", "[::1]"),
    ("[::]", "127.0.0.1", "127.0.0.1"),
    ("[::]", "127.0.0.1", "[::ffff:127.0.0.1]"),
    ("[::]", "[::ffff:127.0.0.1]", "127.0.0.1"),
    ("[::ffff:127.0.0.1]", "127.0.0.1", "127.0.0.1"),
    ("0.0.0.0", "127.0.0.1", "127.0.0.1"),
];

/// Starts a node by this layout; `seed` is the port of the first one.
async fn start(name: &str, (listen, advertise, seed_at): (&str, &str, &str), port: u16, seed: u16) -> Node {
    let text = format!(
        "interval = '100ms'\ntimeout = '2s'\n[detector]\nkind = 'fixed'\nsuspect_after = '1s'\n[cluster]\nname = 'ip'\nnode = '{name}'\nrole = 'worker'\nmode = 'random'
         listen = '{listen}:{port}'\nadvertise = '{advertise}:{port}'\nseeds = ['{seed_at}:{seed}']"
    );
    Node::start(Config::from_toml(&text).unwrap()).await.unwrap()
}

/// Waits until each knows the other.
async fn meet(a: &Node, b: &Node) {
    while !(a.view().is_member("b") && b.view().is_member("a")) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[test]
fn nodes_meet_in_eight_layouts_of_both_versions_of_ip() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        println!("skipped: this host has no IPv6");
        return;
    }
    live(async {
        for layout in LAYOUTS {
            let (first, second) = (free().port(), free().port());
            let a = start("a", layout, first, first).await;
            let b = start("b", layout, second, first).await;
            meet(&a, &b).await;
            tokio::join!(a.leave(), b.leave());
        }
        // One has a socket for both versions, the other one does not.
        let (first, second) = (free().port(), free().port());
        let a = start("a", LAYOUTS[2], first, first).await;
        let b = start("b", ("127.0.0.1", "127.0.0.1", "127.0.0.1"), second, first).await;
        meet(&a, &b).await;
        tokio::join!(a.leave(), b.leave());
    });
}
