//! The files of the file authority hold any bytes. Each change of the leases succeeds or is an
//! error that leaves the files as they are. No number is given out twice, and no epoch is lower
//! than an earlier one of a sound state.
//!
//! The modules are those of the authority, and what is driven is below its threads: it keeps the
//! files of its sessions open until its process ends, and here one process runs millions of cases.
#![no_main]

#[path = "../../../actors/src/lock.rs"]
#[expect(dead_code, reason = "the authority needs one kind of lock")]
mod lock;

#[path = "../../../actors/src/authority"]
mod authority {
    /// As the authority's, whose module needs a runtime.
    #[derive(Debug)]
    pub struct AuthorityError(pub String);

    mod lease_table;
    mod name;

    pub mod file {
        mod folder;
        mod host;
        mod session_lock;
        mod state;
        mod watch;

        use std::fs;
        use std::io::ErrorKind;
        use std::path::{Path, PathBuf};
        use std::time::Duration;

        use arbitrary::Arbitrary;
        use heartbeat_core::Generation;
        use heartbeat_core::authority::{Claimed, SessionId, ShardName};
        use heartbeat_core::member::Epoch;

        use super::AuthorityError;
        use super::lease_table::{LeaseTable, NUMBER_MAX, Session};
        use folder::Folder;
        use session_lock::SessionLock;
        use watch::Watch;

        /// Sessions of one case, at most.
        const SESSIONS_MAX: usize = 8;

        const NODES: [&str; 3] = ["a", "node 2", ""];
        const GROUPS: [&str; 2] = ["orders", "a/b"];

        #[derive(Arbitrary, Debug)]
        pub enum Step {
            /// These bytes stand at this place of a file.
            Damage {
                file: u8,
                at: u16,
                bytes: Vec<u8>,
                /// Whether the file ends after them.
                is_cut: bool,
                /// Whether the checksum is made right again, if it is the state.
                is_summed: bool,
            },
            /// A state of these lines, with the right checksum.
            Write {
                number: u64,
                freed: u64,
                lines: Vec<Line>,
            },
            Remove {
                file: u8,
            },
            /// Another process uses the folder. The sessions of the one before are over if that has
            /// ended.
            Restart {
                has_ended: bool,
            },
            Open {
                ttl_ms: u16,
            },
            Renew {
                session: u8,
            },
            Claim {
                session: u8,
                shard: u8,
                floor: u64,
            },
            Release {
                session: u8,
                shard: u8,
            },
            /// The sessions of the node up to this generation are ended.
            Evict {
                generation: u8,
            },
            Look,
        }

        #[derive(Arbitrary, Debug)]
        pub enum Line {
            Session { below: u8, generation: u64, node: u8 },
            Shard { below: u8, session_below: u8, index: u32, group: u8 },
            Text(String),
        }

        impl Line {
            fn text(&self, number: u64) -> String {
                let number = |below: u8| number.saturating_sub(u64::from(below));
                match self {
                    Line::Session { below, generation, node } => {
                        let node = super::name::escaped(NODES[usize::from(*node) % NODES.len()]);
                        format!("session {} {generation} {node}\n", number(*below))
                    }
                    Line::Shard { below, session_below, index, group } => {
                        let group = super::name::escaped(GROUPS[usize::from(*group) % GROUPS.len()]);
                        format!("shard {} {} {index} {group}\n", number(*below), number(*session_below))
                    }
                    Line::Text(text) => format!("{text}\n"),
                }
            }
        }

        /// The text with its checksum as the last line.
        fn summed(text: &str) -> String {
            let sum = text
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
            format!("{text}sum {sum:016x}\n")
        }

        fn shard(of: u8) -> ShardName {
            ShardName { group: GROUPS[usize::from(of) % GROUPS.len()].into(), index: u32::from(of / 2) % 4 }
        }

        /// The bytes of a file; `None` if there is none.
        fn bytes(path: &Path) -> Option<Vec<u8>> {
            match fs::read(path) {
                Ok(bytes) => Some(bytes),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }

        /// A process that uses the folder.
        pub struct Driver {
            path: PathBuf,
            folder: Folder,
            watch: Watch,
            sessions: Vec<(SessionId, SessionLock)>,
            /// The state as it was left, by a change or by damage that cannot be told from one.
            known: Option<LeaseTable>,
        }

        impl Driver {
            /// A process with an empty folder.
            pub fn new(path: &Path) -> Driver {
                let _ = fs::remove_dir_all(path); // There is none the first time.
                let folder = Folder::open(path.into()).expect("the folder can be made");
                let watch = Watch::new(&LeaseTable::default());
                Driver { path: path.into(), folder, watch, sessions: Vec::new(), known: None }
            }

            pub fn step(&mut self, step: Step) {
                match step {
                    Step::Damage { file, at, bytes, is_cut, is_summed } => {
                        self.damage(file, usize::from(at), &bytes, is_cut, is_summed);
                    }
                    Step::Write { number, freed, lines } => self.write(number, freed, &lines),
                    Step::Remove { file } => {
                        if let Some(path) = self.file(file) {
                            let _ = fs::remove_file(path); // It may be gone already.
                        }
                        self.note_state();
                    }
                    Step::Restart { has_ended } => self.restart(has_ended),
                    Step::Open { ttl_ms } => self.open(Duration::from_millis(u64::from(ttl_ms))),
                    Step::Renew { session } => {
                        if let Some((_, lock)) = self.session(session) {
                            let _ = lock.renew().expect("the file can be written");
                        }
                    }
                    Step::Claim { session, shard: of, floor } => self.claim(session, &shard(of), Epoch(floor)),
                    Step::Release { session, shard: of } => {
                        let Some(id) = self.session(session).map(|(id, _)| *id) else { return };
                        self.change(|transaction| {
                            transaction.table().release(id, &[shard(of)]);
                            Ok(())
                        });
                    }
                    Step::Evict { generation } => {
                        self.change(|transaction| {
                            let generation = Generation(u64::from(generation));
                            let ended = transaction.table().sessions_until(NODES[0], generation);
                            ended.into_iter().try_for_each(|session| transaction.end(session))
                        });
                    }
                    // An error is one of the text of a file, and the next change reports it.
                    Step::Look => {
                        if self.watch.look(&self.folder).is_ok_and(|is_news| is_news) {
                            self.watch.clear_news();
                        }
                    }
                }
            }

            fn session(&self, session: u8) -> Option<&(SessionId, SessionLock)> {
                self.sessions.get(usize::from(session) % self.sessions.len().max(1))
            }

            fn file(&self, file: u8) -> Option<PathBuf> {
                Some(match file % 3 {
                    0 => self.path.join("state"),
                    1 => self.path.join("lock"),
                    _ => self.path.join("sessions").join(self.session(file / 3)?.0.0.to_string()),
                })
            }

            // ---- damage -------------------------------------------------------------------------

            fn damage(&mut self, file: u8, at: usize, new: &[u8], is_cut: bool, is_summed: bool) {
                let Some(path) = self.file(file) else { return };
                let mut all = bytes(&path).unwrap_or_default();
                let at = at % (all.len() + 1);
                let end = if is_cut { all.len() } else { all.len().min(at + new.len()) };
                all.splice(at..end, new.iter().copied());
                if file % 3 == 0
                    && is_summed
                    && let Ok(text) = str::from_utf8(&all)
                    && let Some(body) = text.find("sum ")
                {
                    all = summed(&text[..body]).into_bytes();
                }
                fs::write(&path, all).expect("the file can be written");
                self.note_state();
            }

            fn write(&mut self, number: u64, freed: u64, lines: &[Line]) {
                let head = format!("heartbeat authority 1\nnumber {number:020} freed {freed:020}\n");
                let lines = lines.iter().map(|line| line.text(number)).collect::<String>();
                fs::write(self.path.join("state"), summed(&(head + &lines))).expect("the file can be written");
                self.note_state();
            }

            /// The state on the disk; `None` if there is no sound one.
            fn state(&self) -> Option<LeaseTable> {
                let text = String::from_utf8(bytes(&self.path.join("state"))?).ok()?;
                state::decode(&text).ok()
            }

            /// Takes what a sound state says for what was given out.
            fn note_state(&mut self) {
                if let Some(table) = self.state() {
                    assert_eq!(state::decode(&state::encode(&table)).as_ref(), Ok(&table), "it comes back");
                    self.known = Some(table);
                    return;
                }
                let is_unused = bytes(&self.path.join("lock")).is_none_or(|lock| lock.is_empty());
                let is_back = |head: (u64, u64)| self.known.as_ref().is_some_and(|known| head.0 < known.number);
                // The folder is as one that was never used. Or the process goes on from the state
                // in its memory: if that has the numbers of the file, the rest is not read.
                if is_unused || self.folder.read_head().is_some_and(is_back) {
                    self.known = None;
                }
            }

            // ---- changes ------------------------------------------------------------------------

            fn restart(&mut self, has_ended: bool) {
                if has_ended {
                    self.sessions.clear();
                }
                self.folder = Folder::open(self.path.clone()).expect("the folder is there");
                if let Ok(Some(table)) = self.folder.read() {
                    self.watch = Watch::new(&table);
                }
            }

            /// Makes one change of the state. Returns what it did; `None` if it was refused.
            fn change<T>(
                &mut self,
                work: impl FnOnce(&mut folder::Transaction<'_>) -> Result<T, AuthorityError>,
            ) -> Option<T> {
                let state = self.path.join("state");
                let before = bytes(&state);
                let changed = self.folder.begin().and_then(|mut transaction| {
                    let begun = transaction.table().number;
                    assert!(self.known.as_ref().is_none_or(|known| known.number <= begun), "{begun} went back");
                    let done = work(&mut transaction)?;
                    let after = transaction.table().clone();
                    transaction.finish()?;
                    Ok((done, after))
                });
                match changed {
                    Ok((done, after)) => {
                        let is_possible = after.number <= NUMBER_MAX && after.freed <= NUMBER_MAX;
                        let is_written = before != bytes(&state);
                        assert!(!is_possible || !is_written || self.state().as_ref() == Some(&after), "it is written");
                        self.known = Some(after);
                        Some(done)
                    }
                    Err(AuthorityError(text)) => {
                        assert!(text.starts_with("ownership.folder: ") && text.len() > 40, "{text}");
                        assert!(before.is_none() || before == bytes(&state), "an error changes nothing");
                        None
                    }
                }
            }

            fn open(&mut self, ttl: Duration) {
                if self.sessions.len() >= SESSIONS_MAX {
                    return;
                }
                let highest = self.known.as_ref().map_or(0, |known| known.number);
                let opened = self.change(|transaction| {
                    transaction.end_those_over()?;
                    transaction.clear()?;
                    let session = Session { node: NODES[0].into(), generation: Generation(1) };
                    Ok(transaction.table().open(session))
                });
                if let Some(Some(id)) = opened {
                    assert!(id.0 > highest, "session {} after {highest}", id.0);
                    let lock = self.folder.lock_session(id, ttl).expect("the file can be made");
                    self.sessions.push((id, lock));
                }
            }

            fn claim(&mut self, session: u8, shard: &ShardName, floor: Epoch) {
                let Some(id) = self.session(session).map(|(id, _)| *id) else { return };
                let claimed = self.change(|transaction| {
                    transaction.end_if_over(id)?;
                    transaction.end_those_over()?;
                    let before = transaction.table().clone();
                    Ok((before, transaction.table().claim(id, std::slice::from_ref(shard), floor)))
                });
                let Some((before, Some(claimed))) = claimed else { return };
                let [Claimed::Granted(epoch)] = claimed[..] else { return };
                let held = before.shards.get(shard).filter(|grant| grant.session == id).map(|grant| grant.epoch);
                assert!(held == Some(epoch) || epoch.0 > before.number, "{epoch:?} after {}", before.number);
                assert!(epoch <= Epoch::MAX);
            }
        }
    }
}

use authority::file::{Driver, Step};

/// Files in memory, where the system has such a folder: nothing here depends on the disk.
fn folder() -> std::path::PathBuf {
    let memory = std::path::PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    parent.join(format!("heartbeat-leases-{}", std::process::id()))
}

libfuzzer_sys::fuzz_target!(|steps: Vec<Step>| {
    let folder = folder();
    let mut driver = Driver::new(&folder);
    for step in steps.into_iter().take(50) {
        driver.step(step);
    }
    drop(driver);
    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
});
