//! Streams that others open: what a node keeps of them when they end.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use heartbeat_tests::process::ChildGuard;
use tempfile::NamedTempFile;

use crate::{PATIENCE, free};

/// A node in a process of its own, alone in its cluster.
struct Alone {
    child: ChildGuard,
    address: SocketAddr,
}

impl Alone {
    fn start() -> Alone {
        let (address, file) = (free(), NamedTempFile::with_prefix("heartbeat-connects-").unwrap());
        let config = format!(
            "[cluster]\nname = 'live'\nnode = 'n'\nrole = 'monitor'\nmode = 'random'\nlisten = '{address}'\nseeds = ['{address}']\n"
        );
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
        command.arg(file.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = ChildGuard::from(command.spawn().unwrap());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.next().expect("it says that it knows itself").unwrap();
        // What it says later is read and dropped.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Alone { child, address }
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Connects this often and closes each connection at once.
    fn connect_and_close(&self, count: usize) {
        for _ in 0..count {
            drop(TcpStream::connect(self.address).unwrap());
        }
    }

    /// Waits until it has at most this many descriptors.
    fn wait_for_descriptors(&self, most: usize) {
        let begun = Instant::now();
        while self.descriptors() > most {
            assert!(begun.elapsed() < PATIENCE, "{} descriptors, not {most}", self.descriptors());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// `HEARTBEAT_CONNECTS` sets another number of connections than 4,000; the figures are printed.
#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let node = Alone::start();
    let count = std::env::var("HEARTBEAT_CONNECTS").map_or(4_000, |count| count.parse().unwrap());
    // What its threads wait with is made when they begin, some of it after the node has said that
    // it runs.
    let begun_later = 16;
    let descriptors = node.descriptors() + begun_later;
    node.connect_and_close(2_000);
    node.wait_for_descriptors(descriptors);
    let before = node.resident_kib();
    node.connect_and_close(count);
    node.wait_for_descriptors(descriptors);
    let after = node.resident_kib();
    println!("{count} connections: {before} KiB before, {after} KiB after, {descriptors} descriptors");
    // A kept stream took 1.6 KiB.
    assert!(after < before + count as u64 / 4, "{before} KiB before, {after} KiB after {count} connections");
}
